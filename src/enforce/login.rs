//! What happens when a session opens: the work behind `pam_fairslice.so`.
//!
//! It never fails: what cannot be done is left out and said in one line.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::private_dir;
use crate::effect;
use crate::host::account::Account;
use crate::host::machine::Machine;
use crate::host::pid1::Manager;
use crate::host::{cgroup, process};
use crate::paths;
use crate::policy::{
    self, CPU_WEIGHT, CpuWeight, InForce, LoginRule, Logins, OomScoreAdj, Owner, Policy, PrivateDir,
    Property, SettingValue, SliceName, TotalWeight,
};

/// How long a login waits for PID 1, all in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What opening a session came to. Opening never fails: what could not be done is in `skipped`.
#[derive(Debug, Default)]
pub struct Opened {
    /// Variables for the session's environment, name and value.
    pub variables: Vec<(String, String)>,
    /// One line for each thing that was not done: what was tried, on what, what came back.
    pub skipped: Vec<String>,
}

/// Gives the session that is being opened its private directories, its user slice's weight and limits,
/// and its OOM score.
///
/// Everything is looked up below `root`, `/` on a live system. `user` is `PAM_USER` as given: it may
/// name nobody, or hold characters that do not belong in a path.
#[must_use]
pub fn open_session(root: &Path, user: &str) -> Opened {
    let mut opened = Opened::default();
    let loaded = policy::load(root);
    // The other lines are `fairslice check`'s: a login says once that it lacks a policy.
    if let Some(diagnostic) = loaded.diagnostics.first() {
        let force = match loaded.in_force {
            InForce::Current => "the rest of the policy holds",
            InForce::LastGood => "the last good policy holds",
            InForce::Nothing => "no policy holds",
        };
        opened.skipped.push(format!("{diagnostic} ({force})"));
    }
    let account = match Account::by_name(user) {
        Ok(Some(account)) => account,
        Ok(None) => {
            opened.skipped.push("no such user: nothing done".to_owned());
            return opened;
        }
        Err(error) => {
            opened.skipped.push(format!("{error:#}: nothing done"));
            return opened;
        }
    };
    private_dirs(root, &loaded.policy, &account, &mut opened);
    let rule = loaded.policy.logins.rule(&account.name, &account.groups);
    // A session in its user's own slice was placed by logind. Any other (cron, sudo inside a
    // session) stays where it is.
    let placed =
        cgroup::of_process(root, "self").ok().filter(|placed| cgroup::user(placed) == Some(account.uid));
    let is_login = placed.as_deref().and_then(cgroup::unit).is_some_and(|unit| unit.ends_with(".scope"));
    if let Err(error) = reset_score(root, &rule, is_login, &account) {
        opened.skipped.push(format!("OOM score not set: {error:#}"));
    }
    if placed.is_some()
        && let Err(error) = slice_properties(root, &loaded.policy.logins, &rule, &account)
    {
        opened.skipped.push(format!("{}: {error:#}", SliceName::of_user(account.uid)));
    }
    opened
}

/// Makes the user's private directories; a variable is set only where its directory is right.
fn private_dirs(root: &Path, policy: &Policy, account: &Account, opened: &mut Opened) {
    if !account.is_person() {
        return;
    }
    for (variable, declared) in &policy.private_dirs {
        match private_dir(root, declared, account) {
            Ok(Some(value)) => opened.variables.push((variable.as_str().to_owned(), value)),
            Ok(None) => {}
            Err(error) => opened.skipped.push(format!("{variable} not set: {error:#}")),
        }
    }
}

/// The variable's value; `None` where the policy's condition does not hold.
fn private_dir(root: &Path, declared: &PrivateDir, account: &Account) -> Result<Option<String>> {
    if let Some(only_if) = &declared.only_if {
        let path = root.join(only_if.value.trim_start_matches('/'));
        if fs::symlink_metadata(path).is_err() {
            return Ok(None);
        }
    }
    let owner = Owner { user: &account.name, uid: account.uid, group: &account.group };
    let filled = declared.path.value.fill(owner).map_err(anyhow::Error::msg)?;
    private_dir::ensure(root, &filled.directory, account.uid, account.gid)?;
    Ok(Some(filled.value))
}

/// Sets a login's score as declared. A person's session that inherited a negative score would be
/// killed last, or never (sshd and cron hand on what they were started with): that is reset in any
/// session.
fn reset_score(root: &Path, rule: &LoginRule, is_login: bool, account: &Account) -> Result<()> {
    let live = process::oom_score_adj(root, "self")?;
    let inherited = live < OomScoreAdj::ZERO && (is_login || account.is_person());
    let declared = rule.oom_score_adj.as_ref().map(|score| score.value);
    let wanted = declared.or(inherited.then_some(OomScoreAdj::ZERO));
    match wanted.filter(|score| *score != live && (is_login || inherited)) {
        Some(score) => process::set_own_oom_score_adj(root, score),
        None => Ok(()),
    }
}

/// Sets what differs of the user's slice through PID 1, until the next boot.
fn slice_properties(root: &Path, logins: &Logins, rule: &LoginRule, account: &Account) -> Result<()> {
    let machine = Machine::read(root)?;
    let slice = SliceName::of_user(account.uid);
    let deadline = Instant::now() + PATIENCE;
    let differing = |slice: &SliceName, property: Property, value: SettingValue| {
        let live = cgroup::attribute(root, &slice.cgroup(), property.attribute);
        // Where the controller is off, PID 1 turns it on with the property.
        let holds = live.is_some_and(|live| effect::holds(value, &live, machine));
        (!holds).then(|| (property.unit, machine.number(value)))
    };
    let settings = rule.resources.settings();
    let own: Vec<_> =
        settings.filter_map(|setting| differing(&slice, setting.property, setting.value)).collect();
    set(root, &slice, &own, deadline)?;
    if let Some(total) = &logins.total_weight
        && total.value == TotalWeight::Sum
    {
        let weight = SettingValue::Cpu(CpuWeight::Weight(effect::headcount(rules_of_users(root, logins)?)));
        let all = SliceName::user();
        let total: Vec<_> = differing(&all, CPU_WEIGHT, weight).into_iter().collect();
        set(root, &all, &total, deadline)?;
    }
    Ok(())
}

/// The rules of all users with a slice.
fn rules_of_users(root: &Path, logins: &Logins) -> Result<Vec<LoginRule>> {
    let rule = |uid| {
        let account = Account::by_uid(uid)?;
        Ok(account.map_or_else(|| logins.default.clone(), |a| logins.rule(&a.name, &a.groups)))
    };
    cgroup::users(root)?.into_iter().map(rule).collect()
}

fn set(root: &Path, slice: &SliceName, properties: &[(&str, u64)], deadline: Instant) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    remember(root, slice, properties).with_context(|| format!("recording what is set on {slice}"))?;
    Manager::below(root).set_unit_properties(slice.as_str(), properties, deadline)
}

/// Records what is about to be set, so that removing the package can undo it. A property is
/// recorded once; two logins at once may record it twice, which does no harm.
fn remember(root: &Path, slice: &SliceName, properties: &[(&str, u64)]) -> Result<()> {
    let directory = root.join(paths::RUNTIME_PROPERTIES);
    // Explicit modes: root trusts what lies here, and the host's umask may be anything.
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(&directory)
        .with_context(|| directory.display().to_string())?;
    let file = directory.join(slice.as_str());
    let known = fs::read_to_string(&file).unwrap_or_default();
    let mut record = fs::OpenOptions::new().create(true).append(true).mode(0o644).open(&file)?;
    for (name, _) in properties.iter().filter(|(name, _)| !known.lines().any(|line| line == *name)) {
        writeln!(record, "{name}")?;
    }
    Ok(())
}
