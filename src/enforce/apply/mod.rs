//! `fairslice apply`: makes the running machine what the policy says, now.
//!
//! It may be killed at any point. Every step looks first, does only what is lacking, and leaves a state
//! from which the next run goes on; what it takes away is recorded until it is gone.
#![forbid(unsafe_code)]

mod observed;
mod of_service;
mod places;
mod scores;
mod settings;
mod user_slices;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::adopt;
use super::due::Due;
use super::generator;
use super::lock::Lock;
use super::own;
use super::user_slice::{self, SliceChange};
use crate::host::cgroup;
use crate::host::pid1::{Manager, is_booted};
use crate::paths;
use crate::policy::{self, InForce, Loaded, LoginRule, Policy};
use crate::text::{Foreign, shown};
use crate::units::{Property, SettingValue, SliceName};
use observed::Observed;

/// How long PID 1 is waited for where it is asked for a value, all in all.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a reload is waited for: it runs every generator.
const RELOAD_PATIENCE: Duration = Duration::from_secs(90);

/// What is not as the policy says, and what can be done about it.
#[derive(Debug)]
pub struct Plan<'a> {
    root: &'a Path,
    loaded: &'a Loaded,
    /// Why PID 1 has to reload its units; `None` where it need not.
    pub reload: Option<String>,
    /// Whether another policy is in force for logins than the one that is declared.
    pub logins: bool,
    /// What is changed, by unit: slices, services, logins.
    pub units: Vec<UnitChanges>,
    /// What is not, and why.
    pub left: Vec<Left>,
    /// Services for which a restart is needed.
    pub restarts: Vec<Restart>,
    /// The units that the policy has to do with, or had until now.
    concerned: Vec<String>,
    /// The units whose drop-ins change with the reload, and those of a run that was killed after it.
    reloaded: Vec<String>,
    /// Without systemd, which attribute of which cgroup is set to what.
    direct: Vec<(PathBuf, Property, SettingValue)>,
    scores: Vec<scores::Rescore>,
    resets: Vec<observed::Reset>,
    ceilings: Ceilings,
    /// Ceilings that wait, and what PID 1 is told instead, so that no reload lowers them.
    holds: Vec<Hold>,
    /// How much more memory than its ceiling allows is used in which cgroup.
    beyond: Vec<(PathBuf, u64)>,
}

/// What becomes of ceilings that are declared below what is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ceilings {
    /// They wait.
    Wait,
    /// They are set all the same, and the kernel kills what does not fit.
    Force,
}

/// A ceiling that stays what it is in the kernel.
#[derive(Debug)]
struct Hold {
    unit: String,
    property: Property,
    /// What the kernel has; [`u64::MAX`] is none.
    live: u64,
}

/// What of one unit is changed.
#[derive(Debug)]
pub struct UnitChanges {
    /// The unit's name.
    pub unit: String,
    /// The user's name, for a user's slice.
    pub user: Option<Foreign>,
    /// Never empty.
    pub changes: Vec<Change>,
}

/// One value that is changed.
#[derive(Debug)]
pub struct Change {
    /// A key of the policy.
    pub key: &'static str,
    /// What it is, as the kernel prints it; `-` where there is nothing.
    pub old: String,
    /// What it is to be, as declared; `unset` where nothing is declared any more, and nobody else sets it.
    pub new: String,
    /// The file and line that set it where nothing is declared any more.
    pub set_by: Option<String>,
    /// By what means.
    pub how: How,
}

/// By what means a value is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// PID 1 reloads its units, and then writes the value to the cgroup.
    Reload,
    /// PID 1 has the value, and is made to write it to the cgroup.
    Write,
    /// PID 1 is told the value, which holds until the next boot.
    Set,
    /// What PID 1 was told at a login is taken back.
    Unset,
    /// Of so many processes.
    Processes(usize),
    /// Written to the cgroup: there is no systemd.
    Cgroup,
}

/// Something that is left as it is.
#[derive(Debug)]
pub struct Left {
    /// The unit.
    pub unit: String,
    /// A key of the policy.
    pub key: &'static str,
    /// What is left, and why, in one line.
    pub why: String,
    /// Whether the policy does not hold for it; otherwise it is worth knowing.
    pub differs: bool,
}

/// A service for which a restart is needed.
#[derive(Debug)]
pub struct Restart {
    /// The service.
    pub unit: String,
    /// What for, in one line.
    pub why: String,
    /// Whether it is left to the administrator even with `--restart`: people are logged in through it, the
    /// machine depends on it, or a restart alone does not help.
    pub by_hand: bool,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Report<'a> {
    /// What could not be done, each in one line.
    pub failed: Vec<String>,
    /// What was restarted.
    pub restarted: Vec<String>,
    /// What of it is still not as declared: see [`Report::after`] for the reasons.
    pub in_vain: Vec<String>,
    /// What a run would find to do now.
    pub after: Plan<'a>,
}

/// Takes back all that the policy has come to but what only a restart undoes, as before the package is removed: the
/// generator is put out of force until the next boot, and an empty policy applied. Gives what could not be done.
///
/// # Errors
/// The generator cannot be put out of force; those of [`plan`] and [`Plan::carry_out`].
pub fn withdraw(root: &Path, lock: &Lock) -> Result<Vec<String>> {
    let mask = root.join(paths::RUNTIME_GENERATOR_MASK);
    let made = mask.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| symlink("/dev/null", &mask));
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", shown(&mask)));
        }
        _ => {}
    }
    let nothing = Loaded::nothing();
    Ok(plan(root, &nothing)?.carry_out(lock, false)?.failed)
}

/// Compares the machine below `root` with the policy. Anybody may ask.
///
/// # Errors
/// The policy's main file is broken; cgroupfs or `/proc` cannot be read, or PID 1 not be asked.
pub fn plan<'a>(root: &'a Path, loaded: &'a Loaded) -> Result<Plan<'a>> {
    plan_with(root, loaded, Ceilings::Wait)
}

/// The same, with ceilings that are declared below what is used.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_with<'a>(root: &'a Path, loaded: &'a Loaded, ceilings: Ceilings) -> Result<Plan<'a>> {
    if loaded.in_force != InForce::Current {
        bail!("nothing is changed while the policy is broken or missing: run \"fairslice check\"");
    }
    let look = Observed::at(root, &loaded.policy, ceilings)?;
    let targets = settings::targets(&look);
    let mut plan = Plan {
        root,
        loaded,
        reload: None,
        logins: !policy::is_in_force(root, loaded),
        units: Vec::new(),
        left: Vec::new(),
        restarts: Vec::new(),
        concerned: look.concerned.clone(),
        reloaded: look.reloaded.clone(),
        direct: Vec::new(),
        scores: Vec::new(),
        resets: user_slices::resets(&look, &targets)?,
        ceilings,
        holds: Vec::new(),
        beyond: Vec::new(),
    };
    plan.reload = look.reload(&plan.resets);
    settings::plan(&look, &targets, &mut plan)?;
    of_service::plan(&look, &mut plan)?;
    user_slices::plan(&look, &targets, &mut plan);
    scores::plan(&look, &mut plan)?;
    places::plan(&look, &mut plan)?;
    plan.units.sort_by_key(|unit| match SliceName::new(&unit.unit) {
        Ok(slice) if slice == SliceName::user() || cgroup::user(&slice.cgroup()).is_some() => 2,
        Ok(_) => 0,
        Err(_) => 1,
    });
    Ok(plan)
}

impl<'a> Plan<'a> {
    /// Whether there is nothing to change, but what waits for a restart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing = self.reload.is_none() && !self.logins && self.units.is_empty();
        nothing && self.resets.is_empty() && self.holds.is_empty()
    }

    /// Whether the policy does not hold everywhere even after the changes, without a restart.
    #[must_use]
    pub fn leaves(&self) -> bool {
        !self.restarts.is_empty() || self.left.iter().any(|left| left.differs)
    }

    /// Whether the policy holds everywhere.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.is_empty() && !self.leaves()
    }

    /// The services that `--restart` restarts.
    #[must_use]
    pub fn restartable(&self) -> BTreeSet<&str> {
        self.restarts.iter().filter(|restart| !restart.by_hand).map(|restart| restart.unit.as_str()).collect()
    }

    /// Makes the changes, and with `restart` the restarts, and looks again. The plan was made under the same
    /// lock.
    ///
    /// # Errors
    /// PID 1 cannot be reached or refuses.
    pub fn carry_out(self, lock: &Lock, restart: bool) -> Result<Report<'a>> {
        let (mut failed, mut restarted) = (Vec::new(), Vec::new());
        let wanted = if restart { self.restartable() } else { BTreeSet::new() };
        let restarts: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        if self.is_empty() && restarts.is_empty() {
            return Ok(Report { failed, restarted, in_vain: Vec::new(), after: self });
        }
        let root = self.root;
        // Before the reload: as long as PID 1 has the old score, it can be told who has that of the unit.
        failed.extend(scores::set(root, &self.scores));
        self.change_units(lock)?;
        if !restarts.is_empty() {
            let mut command = vec!["try-restart", "--"];
            command.extend(restarts.iter().map(String::as_str));
            let done = if root == Path::new("/") {
                adopt::systemctl(&command)
            } else {
                Err(anyhow!("restarting {}: there is no systemd below {}", restarts.join(" "), shown(&root)))
            };
            match done {
                Ok(_) => restarted = restarts,
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
        let after = plan_with(root, self.loaded, self.ceilings)?;
        let waits = |unit: &&String| after.restarts.iter().any(|restart| restart.unit == **unit);
        let in_vain = restarted.iter().filter(waits).cloned().collect();
        Ok(Report { failed, restarted, in_vain, after })
    }

    fn change_units(&self, lock: &Lock) -> Result<()> {
        let Self { root, loaded, resets, .. } = self;
        let policy = &loaded.policy;
        if self.logins {
            generator::for_logins(root, loaded)?;
        }
        if !is_booted(root) {
            settings::set_directly(root, &self.direct)?;
            return user_slice::count(
                root,
                policy,
                &|users| Ok(Due::of(policy, users)?.weights()),
                Instant::now() + PATIENCE,
            );
        }
        self.hold(lock)?;
        user_slices::remove(root, resets)?;
        if self.reload.is_some() {
            // After the reload nothing else says which units the policy has named until now.
            let record = fs::OpenOptions::new().create(true).append(true).open(root.join(paths::UNWRITTEN));
            let units: String = self.reloaded.iter().flat_map(|unit| [unit.as_str(), "\n"]).collect();
            let recorded = record.and_then(|mut record| record.write_all(units.as_bytes()));
            recorded.context("recording which units change")?;
            reload(root)?;
        }
        if self.reload.is_some() || self.uses(How::Write) {
            settings::write(root, &self.concerned)?;
        }
        if self.reload.is_some() || self.uses(How::Set) {
            user_slices::set(root, policy, self.ceilings)?;
        }
        user_slices::forget(root, resets)?;
        own::remove(&root.join(paths::UNWRITTEN)).context("removing the record of units that change")
    }

    /// Tells PID 1 what the kernel has of ceilings that wait: a reload would have it write what is declared.
    ///
    /// # Errors
    /// PID 1 cannot be reached or refuses, or that cannot be recorded.
    pub fn hold(&self, _lock: &Lock) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for Hold { unit, property, live } in &self.holds {
            let told = [(property.unit, *live)];
            user_slice::remember(self.root, unit, &told)
                .with_context(|| format!("recording what is set on {unit}"))?;
            Manager::below(self.root).set_unit_properties(unit, &[(property.bus, *live)], deadline)?;
        }
        Ok(())
    }

    /// Asks the kernel to reclaim what is used beyond ceilings that wait, which kills nothing. Whether there was
    /// anything to ask for.
    #[must_use]
    pub fn make_room(&self) -> bool {
        for (cgroup, bytes) in &self.beyond {
            // It says EAGAIN where it could not reclaim all of it, and what it has is seen afterwards.
            let file = self.root.join(paths::CGROUPFS).join(cgroup).join("memory.reclaim");
            let _ = fs::write(file, bytes.to_string());
        }
        !self.beyond.is_empty()
    }

    fn uses(&self, how: How) -> bool {
        self.units.iter().flat_map(|unit| &unit.changes).any(|change| change.how == how)
    }

    /// Adds a change to its unit's.
    fn change(&mut self, unit: &str, user: Option<&Foreign>, change: Change) {
        if let Some(known) = self.units.iter_mut().find(|known| known.unit == unit) {
            known.changes.push(change);
        } else {
            let (unit, user) = (unit.to_owned(), user.cloned());
            self.units.push(UnitChanges { unit, user, changes: vec![change] });
        }
    }
}

pub(super) fn reload(root: &Path) -> Result<()> {
    Manager::below(root).reload(Instant::now() + RELOAD_PATIENCE)
}

/// What the slices of users lack of what they are due, and `user.slice` of the headcount.
///
/// # Errors
/// cgroupfs cannot be read, or NSS failed.
pub fn logins(root: &Path, policy: &Policy, ceilings: Ceilings) -> Result<Vec<SliceChange>> {
    let users = cgroup::users(root)?;
    let due = Due::of(policy, &users)?;
    let change = |(uid, _, rule): (u32, _, &LoginRule)| user_slice::of_user(root, uid, rule);
    let mut changes = due.iter().map(change).collect::<Result<Vec<_>>>()?;
    if let Some(headcount) = user_slice::headcount(root, policy, &users, &|_| Ok(due.weights()))? {
        changes.push(user_slice::of_all(root, policy, &headcount)?);
    }
    for change in changes.iter_mut().filter(|_| ceilings == Ceilings::Force) {
        change.properties.extend(change.waits.drain(..).map(|(changed, _)| changed));
    }
    changes.retain(|change| {
        !change.properties.is_empty() || !change.left.is_empty() || !change.waits.is_empty()
    });
    Ok(changes)
}

/// Makes the changes of [`logins`], under the lock. Logins go on meanwhile, which change the same: whoever sets
/// something looks again afterwards, so that the last one has seen everybody.
///
/// # Errors
/// Those of [`logins`]; PID 1 cannot be reached or refuses.
pub fn set_logins(root: &Path, _lock: &Lock, policy: &Policy) -> Result<()> {
    user_slices::set(root, policy, Ceilings::Wait)
}
