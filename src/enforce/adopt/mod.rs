//! `fairslice adopt` and `release`: `launcher = true` for single services, in a fragment of the policy that nobody else
//! writes to. The drop-ins are the generator's, [`launched`].
//!
//! A file is written whole or not at all.
#![forbid(unsafe_code)]

mod change;
mod copy;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};

use self::change::FileChange;
use self::record::Record;
use super::launched::{self, Launched, callers_of, is_transient};
use super::lock::Lock;
use crate::host::pid1::is_booted;
use crate::host::program::program;
use crate::host::unit_file::{ServiceUnits, UnitFiles};
use crate::paths;
use crate::policy::{self, InForce, Loaded, Policy, ServicePattern};
use crate::spelling::nearest;
use crate::survey;
use crate::text::shown;
use crate::units::ServiceName;

pub use copy::{Copy, copies, is_copy};

/// What is to be done about some units.
#[derive(Debug)]
pub struct Plan {
    /// What it comes to for each, or why it is refused, by the name that it is called by: in the order in which they
    /// were asked for.
    pub said: Vec<(String, Result<String, Error>)>,
    /// Those whose commands are others then.
    pub changed: Vec<ServiceName>,
    in_etc: Vec<FileChange>,
    /// What the generator makes of that.
    made: Vec<FileChange>,
}

/// What is the case, before anything is changed.
struct Now<'a> {
    root: &'a Path,
    units: ServiceUnits,
    loaded: &'a Loaded,
    record: Record,
    launched: Vec<Launched>,
}

/// One unit of a plan.
struct One {
    unit: ServiceName,
    said: String,
    /// Whether it comes into the record, or goes.
    changes: bool,
}

/// The services that a slice of `policy` holds and that can be adopted as far as their names go: not those that are
/// masked or transient, nor those that the policy excepts.
///
/// # Errors
/// A unit's files cannot be read.
pub fn held(root: &Path, policy: &Policy) -> Result<Vec<ServiceName>> {
    let units = ServiceUnits::read(root)?;
    let patterns = policy.slices.values().flat_map(|slice| &slice.matches);
    let exact = patterns.filter_map(|pattern| match &pattern.value {
        ServicePattern::Exact(name) if name.template().is_some() => Some(name),
        _ => None,
    });
    let mut held = Vec::new();
    for name in exact.chain(units.names().filter(|name| policy.slice_of(name).is_some())) {
        let is_excepted = policy.launcher(name).is_some_and(|launcher| !launcher.value);
        let Some(unit) = units.find(name)?.filter(|_| !is_excepted) else { continue };
        if !unit.masked && !is_transient(&unit) {
            held.push(name.clone());
        }
    }
    Ok(held)
}

/// The services that have been adopted, by whatever version.
fn adopted(root: &Path) -> Result<Vec<ServiceName>> {
    let mut adopted = Record::read(root)?.names;
    adopted.extend(copy::units(root)?);
    let mut adopted: Vec<_> = adopted.into_iter().collect();
    // A template before its instances: what is for the template holds for each that has none.
    adopted.sort_by_key(|name| (name.template().is_some(), name.clone()));
    Ok(adopted)
}

/// What puts the launcher before the commands of these units.
///
/// # Errors
/// There is no policy that could say so, or somebody else has written to the record.
pub fn adopt(root: &Path, loaded: &Loaded, names: &[String]) -> Result<Plan> {
    if loaded.in_force != InForce::Current {
        bail!("the policy is missing or broken, and takes no service: run \"fairslice check\"");
    }
    let now = Now::read(root, loaded)?;
    now.plan(names, Now::adopt_one, |record, one| record.insert(one.unit.clone()), |_, _| None)
}

/// What takes the launcher away from these units, which need not exist any more.
///
/// # Errors
/// Somebody else has written to the record, or a unit's files cannot be read.
pub fn release(root: &Path, loaded: &Loaded, names: &[String]) -> Result<Plan> {
    let now = Now::read(root, loaded)?;
    let left = |unit: &ServiceName, then: &Policy| by_policy(unit, then).or_else(|| now.by_its_files(unit));
    now.plan(names, Now::release_one, |record, one| record.remove(&one.unit), left)
}

/// The same for every service that has been adopted. What the administrator has put before commands is left.
///
/// # Errors
/// Those of [`release`].
pub fn release_all(root: &Path, loaded: &Loaded) -> Result<Plan> {
    let now = Now::read(root, loaded)?;
    let names: Vec<String> = adopted(root)?.iter().map(ToString::to_string).collect();
    now.plan(&names, Now::release_one, |record, one| record.remove(&one.unit), by_policy)
}

impl<'a> Now<'a> {
    fn read(root: &'a Path, loaded: &'a Loaded) -> Result<Self> {
        let units = ServiceUnits::read(root)?;
        let launched = launched::declared_among(root, &units, &loaded.policy);
        Ok(Self { root, units, loaded, record: Record::read(root)?, launched })
    }

    /// `one` says what is to be done about a name, `apply` changes the record so, and `left` says why a unit that was
    /// changed is not as it was asked to be.
    fn plan(
        &self,
        names: &[String],
        one: impl Fn(&Self, &str, &BTreeSet<ServiceName>) -> Result<One>,
        apply: impl Fn(&mut BTreeSet<ServiceName>, &One) -> bool,
        left: impl Fn(&ServiceName, &Policy) -> Option<String>,
    ) -> Result<Plan> {
        let mut record = self.record.names.clone();
        let (mut said, mut done, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for name in names {
            match one(self, name, &seen) {
                Ok(found) if !seen.insert(found.unit.clone()) => {}
                Ok(found) => {
                    let copy = copy::removal(self.root, &found.unit)?;
                    if found.changes {
                        apply(&mut record, &found);
                    }
                    if found.changes || copy.is_some() {
                        done.push(found.unit.clone());
                    }
                    copies.extend(copy.map(|change| (found.unit.clone(), change)));
                    said.push((found.unit.to_string(), Ok(found.said)));
                }
                Err(error) => said.push((name.clone(), Err(error))),
            }
        }
        let change = self.record.change_to(&record);
        let mut loaded = match &change {
            Some(change) => self.with(change)?,
            None => policy::load(self.root),
        };
        // What is declared twice is so before.
        let _ = survey::resolve(self.root, &mut loaded);
        let then = launched::declared_among(self.root, &self.units, &loaded.policy);
        for unit in &done {
            let why = left(unit, &loaded.policy);
            said.extend(why.map(|why| (unit.to_string(), Err(anyhow!("{why}")))));
            let instances = then.iter().filter(|one| one.unit.template().as_ref() == Some(unit));
            let without = instances.filter_map(|one| Some((one, one.without()?)));
            said.extend(
                without.map(|(one, why)| (one.unit.to_string(), Err(anyhow!("stays without it: {why}")))),
            );
        }
        let made = made(&launched::files(&self.launched), &launched::files(&then));
        let mut changed: Vec<ServiceName> = made.iter().filter_map(FileChange::unit).collect();
        changed.extend(copies.iter().map(|(unit, _)| unit.clone()));
        changed.sort();
        changed.dedup();
        let in_etc = change.into_iter().chain(copies.into_iter().map(|(_, change)| change)).collect();
        Ok(Plan { said, changed, in_etc, made })
    }

    /// The policy with another record.
    fn with(&self, change: &FileChange) -> Result<Loaded> {
        let file = paths::absolute(record::file());
        let loaded = policy::with(self.loaded, &file, change.after());
        let is_read = loaded.files.iter().any(|source| *source.path == *file);
        // Where no policy holds, it makes no difference what is taken out.
        if change.after().is_none() || self.loaded.in_force != InForce::Current || is_read {
            return Ok(loaded);
        }
        let wrong = loaded.diagnostics.iter().find(|diagnostic| *diagnostic.file == *file);
        let wrong = wrong.or(loaded.diagnostics.first()).map(ToString::to_string).unwrap_or_default();
        bail!("the policy would not hold with it: {wrong}");
    }

    fn adopt_one(&self, name: &str, _: &BTreeSet<ServiceName>) -> Result<One> {
        let asked = service(name)?;
        let unit = self.units.find(&asked)?.ok_or_else(|| no_such_unit(&self.units, &asked))?;
        if unit.masked {
            bail!("masked by /{}: unmask it first", shown(&unit.fragment));
        }
        if is_transient(&unit) {
            bail!("a transient unit, gone when it stops: start its command with fairslice-launch");
        }
        let name = unit.name.clone();
        let policy = &self.loaded.policy;
        // What a slice says is for those that say nothing themselves.
        if let Some(excepted) = policy.service(&name).launcher.filter(|launcher| !launcher.value) {
            bail!("launcher = false ({}): take that out first", excepted.origin);
        }
        let (said, changes) = match policy.launcher(&name).filter(|launcher| launcher.value) {
            Some(launcher) => {
                if let Some(why) =
                    self.launched.iter().find(|one| one.unit == name).and_then(Launched::without)
                {
                    bail!("{why}");
                }
                let template = name.template().filter(|template| self.record.names.contains(template));
                match template {
                    _ if self.record.names.contains(&name) => ("already adopted".to_owned(), false),
                    Some(template) => (format!("has the launcher already, by {template}"), false),
                    None => {
                        (format!("has the launcher already, by launcher = true ({})", launcher.origin), false)
                    }
                }
            }
            None if launched::can_be(self.root, &unit)? => ("adopted".to_owned(), true),
            None => ("has the launcher already".to_owned(), false),
        };
        Ok(one(&asked, name, &said, changes))
    }

    fn release_one(&self, name: &str, done: &BTreeSet<ServiceName>) -> Result<One> {
        let asked = service(name)?;
        let found = self.units.find(&asked)?;
        let is_adopted = |name: &ServiceName| -> Result<bool> {
            Ok(self.record.names.contains(name) || copy::removal(self.root, name)?.is_some())
        };
        let unit = match &found {
            Some(found) if !is_adopted(&asked)? => found.name.clone(),
            _ => asked.clone(),
        };
        let template = unit.template().filter(|template| !done.contains(template));
        let template =
            template.map(|template| Ok::<_, Error>((is_adopted(&template)?, template))).transpose()?;
        let template = template.filter(|(is_adopted, _)| *is_adopted).map(|(_, template)| template);
        match (is_adopted(&unit)?, template) {
            (true, Some(template)) => {
                bail!("{template} is adopted too, and would be in force here then: release that first")
            }
            (true, None) => {
                let changes = self.record.names.contains(&unit);
                Ok(one(&asked, unit, "released", changes))
            }
            (false, Some(template)) => bail!("not adopted by itself: {template} is, with all its instances"),
            (false, None) => match by_policy(&unit, &self.loaded.policy).or_else(|| self.by_its_files(&unit))
            {
                Some(why) => bail!("not adopted: {why}"),
                None => bail!("not adopted"),
            },
        }
    }

    /// That a unit has the launcher by its own files.
    fn by_its_files(&self, unit: &ServiceName) -> Option<String> {
        let found: UnitFiles = self.units.find(unit).ok()??;
        let lines: Vec<String> =
            callers_of(self.root, &found).ok()?.iter().map(ToString::to_string).collect();
        (!lines.is_empty())
            .then(|| format!("it has the launcher by {}: take it out there", lines.join(" and ")))
    }
}

/// That a unit has the launcher by what somebody else than adopt declares.
fn by_policy(unit: &ServiceName, policy: &Policy) -> Option<String> {
    let launcher = policy.launcher(unit).filter(|launcher| launcher.value)?;
    let table = record::key(unit);
    Some(format!(
        "it has the launcher by launcher = true ({}): for this one, declare launcher = false in [service.{table}], then run \"fairslice apply\"",
        launcher.origin
    ))
}

/// What the generator writes then and now, where that is not the same.
fn made(now: &BTreeMap<PathBuf, String>, then: &BTreeMap<PathBuf, String>) -> Vec<FileChange> {
    let change = |file: &PathBuf| {
        let path = Path::new(paths::GENERATED).join(file);
        FileChange::new(path, now.get(file).cloned(), then.get(file).cloned())
    };
    launched::differing(now, then).map(change).collect()
}

fn one(asked: &ServiceName, unit: ServiceName, said: &str, changes: bool) -> One {
    let alias = if *asked == unit { String::new() } else { format!(" ({asked} is an alias of it)") };
    One { unit, said: format!("{said}{alias}"), changes }
}

fn service(name: &str) -> Result<ServiceName> {
    ServiceName::new(name).map_err(|expected| anyhow!("not the name of a service: {expected}"))
}

fn no_such_unit(units: &ServiceUnits, asked: &ServiceName) -> Error {
    let most = 1 + asked.stem().chars().count() / 4;
    match nearest(asked.stem(), units.names().map(ServiceName::stem), most) {
        Some(nearest) => anyhow!("no such unit: did you mean {nearest}.service?"),
        None => anyhow!("no such unit (\"systemctl list-unit-files --type=service\" lists those there are)"),
    }
}

impl Plan {
    /// The changes as `patch(1)` takes them: of files, then of what the generator makes of that.
    #[must_use]
    pub fn diff(&self) -> String {
        self.in_etc.iter().chain(&self.made).map(FileChange::diff).collect()
    }

    /// Changes the files below `root`.
    ///
    /// # Errors
    /// One cannot be written or removed; it is then as it was.
    pub fn make(&self, root: &Path, _lock: &Lock) -> Result<()> {
        self.in_etc.iter().try_for_each(|change| change.make(root))
    }
}

/// Tells a running systemd of changed units, and restarts those that run, or gives their names.
/// Below a test's root it does nothing.
///
/// # Errors
/// `systemctl` cannot be run, or fails.
pub fn tell_systemd(
    root: &Path,
    _lock: &Lock,
    changed: &[ServiceName],
    restart: bool,
) -> Result<Vec<String>> {
    if root != Path::new("/") || !is_booted(root) {
        return Ok(Vec::new());
    }
    systemctl(&["daemon-reload"])?;
    let patterns: Vec<String> = changed.iter().map(pattern).collect();
    let mut list =
        vec!["list-units", "--plain", "--no-legend", "--full", "--state=active,activating,reloading", "--"];
    list.extend(patterns.iter().map(String::as_str));
    let listed = systemctl(&list)?;
    let running: Vec<String> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    if restart && !running.is_empty() {
        let mut command = vec!["try-restart", "--"];
        command.extend(running.iter().map(String::as_str));
        systemctl(&command)?;
        return Ok(Vec::new());
    }
    Ok(running)
}

/// The unit, or all instances of a template, as `systemctl` takes a pattern.
fn pattern(unit: &ServiceName) -> String {
    let name = unit.as_str().replace('\\', "\\\\");
    if unit.stem().ends_with('@') { name.replace('@', "@*") } else { name }
}

pub(super) fn systemctl(arguments: &[&str]) -> Result<String> {
    let tried = || format!("running \"systemctl {}\"", shown(&arguments.join(" ")));
    let output = program(paths::SYSTEMCTL).args(["--system"]).args(arguments).output().with_context(tried)?;
    if !output.status.success() {
        let said = OsStr::from_bytes(output.stderr.trim_ascii());
        bail!("{}: {}: {}", tried(), output.status, shown(said).at_most(500));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: its output is not UTF-8", tried()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_what_systemctl_matches() {
        let pattern = |name: &str| pattern(&ServiceName::new(name).unwrap());
        assert_eq!(pattern("local-fs"), "local-fs.service");
        assert_eq!(pattern("w@"), "w@*.service");
        assert_eq!(pattern("w@a\\x2db"), "w@a\\\\x2db.service");
    }
}
