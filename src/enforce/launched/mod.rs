//! Units with the launcher before their commands: what `launcher = true` in a policy comes to.
//!
//! The drop-ins are the generator's. It reads each unit as it then is, whoever has set its commands, so that none
//! holds a copy that goes stale. Everybody else asks here what it writes, and why it leaves a unit out.
#![forbid(unsafe_code)]

mod callers;
mod commands;
mod obstacle;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::commands::Commands;
use super::drop_in::HEADER;
use crate::host::unit_file::{ServiceUnits, UnitFiles};
use crate::paths;
use crate::policy::{Diagnostic, Origin, Policy, ServicePattern};
use crate::text::and_more;
use crate::units::ServiceName;

pub use callers::{LauncherCall, callers, callers_of};

/// So many units are named that stay without the launcher.
const MOST_NAMED: usize = 3;

/// What `launcher` comes to for one unit.
#[derive(Debug)]
pub struct Launched {
    /// A service, a template, or an instance that is not as its template.
    pub unit: ServiceName,
    /// Where the policy says it.
    pub origin: Origin,
    /// What it comes to.
    pub state: State,
    /// The generator's drop-in. Of an instance whose template has the launcher and which has it not, it is one
    /// that hides the template's.
    pub drop_in: Option<DropIn>,
}

/// What it comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// The generator's drop-in puts the launcher before the commands.
    Launched,
    /// The unit's own files do.
    Already,
    /// The policy excepts it, an instance, from what it says of the template.
    Excepted,
    /// The commands stay without the launcher, for this reason.
    Without(String),
}

/// A drop-in of the generator's.
#[derive(Debug, PartialEq, Eq)]
pub struct DropIn {
    name: OsString,
    text: String,
}

/// What `launcher` comes to for every unit that there is, each under its own name in `policy`; no unit is read where
/// that does not ask for the launcher. A masked unit and a transient one are left out.
///
/// # Errors
/// A directory of the search path cannot be read.
pub fn declared(root: &Path, policy: &Policy) -> Result<Vec<Launched>> {
    if is_asked_for(policy) { Ok(of_units(root, &ServiceUnits::read(root)?, policy)) } else { Ok(Vec::new()) }
}

/// The same, where the search path has been read.
#[must_use]
pub fn declared_among(root: &Path, units: &ServiceUnits, policy: &Policy) -> Vec<Launched> {
    if is_asked_for(policy) { of_units(root, units, policy) } else { Vec::new() }
}

fn is_asked_for(policy: &Policy) -> bool {
    let tables = policy.services.values().map(|service| &service.launcher);
    let mut declared = tables.chain(policy.slices.values().map(|slice| &slice.launcher));
    declared.any(|launcher| launcher.as_ref().is_some_and(|launcher| launcher.value))
}

fn of_units(root: &Path, units: &ServiceUnits, policy: &Policy) -> Vec<Launched> {
    let mut found = Vec::new();
    for name in units.names().chain(&named_instances(policy)).collect::<BTreeSet<_>>() {
        // With its template.
        if name.template().is_some_and(|template| is_wanted(policy, &template) && is_there(units, &template))
        {
            continue;
        }
        let Some(origin) = wanted(policy, name) else { continue };
        let own = one(root, units, name, &origin, OsStr::new(paths::LAUNCH_DROP_IN));
        let of_template = own
            .as_ref()
            .and_then(|(own, commands)| Some((own.drop_in.as_ref()?.name.clone(), commands.as_ref()?)));
        let of_template = of_template.as_ref().map(|(name, commands)| (name.as_os_str(), *commands));
        let instances = instances(root, units, policy, name, of_template);
        found.extend(own.map(|(own, _)| own));
        found.extend(instances);
    }
    found
}

/// Whether the launcher can stand before the commands of a unit; `false` where it does already.
///
/// # Errors
/// Says why not, or not so that they run as they do without.
pub fn can_be(root: &Path, unit: &UnitFiles) -> Result<bool> {
    let commands = Commands::of(root, unit)?;
    commands.drop_in_name(OsStr::new(paths::LAUNCH_DROP_IN))?;
    Ok(!commands.have_launcher())
}

/// The drop-ins, by their paths below the generator's directory.
#[must_use]
pub fn files(found: &[Launched]) -> BTreeMap<PathBuf, String> {
    let file = |launched: &Launched| {
        let DropIn { name, text } = launched.drop_in.as_ref()?;
        Some((Path::new(&format!("{}.d", launched.unit)).join(name), text.clone()))
    };
    found.iter().filter_map(file).collect()
}

/// What is left as it is, in one line whatever their number.
#[must_use]
pub fn left_out(found: &[Launched]) -> Option<String> {
    let left: Vec<(&Launched, &str)> = found.iter().filter_map(|one| Some((one, one.without()?))).collect();
    match left.as_slice() {
        [] => None,
        [(one, why)] => Some(format!("{} stays without the launcher: {why}", one.unit)),
        all => {
            let names: Vec<&str> = all.iter().take(MOST_NAMED).map(|(one, _)| one.unit.as_str()).collect();
            let more = and_more(all.len().saturating_sub(MOST_NAMED));
            let names = names.join(", ");
            Some(format!("{names}{more} stay without the launcher: \"fairslice check\" says why"))
        }
    }
}

impl Launched {
    /// Why its commands stay without the launcher.
    #[must_use]
    pub fn without(&self) -> Option<&str> {
        match &self.state {
            State::Without(why) => Some(why),
            State::Launched | State::Already | State::Excepted => None,
        }
    }

    /// The same as a warning about the policy.
    #[must_use]
    pub fn diagnostic(&self) -> Option<Diagnostic> {
        let message = format!("launcher = true: {} stays without it: {}", self.unit, self.without()?);
        Some(Diagnostic::at(&self.origin, message).warning())
    }
}

/// Where the policy asks for the launcher.
fn wanted(policy: &Policy, name: &ServiceName) -> Option<Origin> {
    policy.launcher(name).filter(|launcher| launcher.value).map(|launcher| launcher.origin)
}

fn is_wanted(policy: &Policy, name: &ServiceName) -> bool {
    wanted(policy, name).is_some()
}

fn is_there(units: &ServiceUnits, name: &ServiceName) -> bool {
    units.own_name(name).as_ref() == Some(name)
}

/// The instances that the policy names: they need no files of their own.
fn named_instances(policy: &Policy) -> BTreeSet<ServiceName> {
    let patterns = policy.slices.values().flat_map(|slice| &slice.matches);
    let exact = patterns.filter_map(|pattern| match &pattern.value {
        ServicePattern::Exact(name) => Some(name),
        ServicePattern::Prefix(_) => None,
    });
    let named = exact.chain(policy.services.keys());
    named.filter(|name| name.template().is_some()).cloned().collect()
}

/// One unit for itself; `None` where there is none to be launched. `least` is what its drop-in's name must not sort
/// before.
fn one(
    root: &Path,
    units: &ServiceUnits,
    name: &ServiceName,
    origin: &Origin,
    least: &OsStr,
) -> Option<(Launched, Option<Commands>)> {
    let found = units.find(name).and_then(|found| {
        let Some(unit) = found.filter(|unit| unit.name == *name && !unit.masked && !is_transient(unit))
        else {
            return Ok(None);
        };
        let commands = Commands::of(root, &unit)?;
        let drop_in_name = commands.drop_in_name(least)?;
        Ok(Some((commands, drop_in_name)))
    });
    let (state, drop_in, commands) = match found {
        Ok(None) => return None,
        Ok(Some((commands, _))) if commands.have_launcher() => (State::Already, None, None),
        Ok(Some((commands, name))) => {
            let text = commands.text(origin);
            (State::Launched, Some(DropIn { name, text }), Some(commands))
        }
        Err(error) => (State::Without(format!("{error:#}")), None, None),
    };
    Some((Launched { unit: name.clone(), origin: origin.clone(), state, drop_in }, commands))
}

/// The instances of a template that are not as it is, with the name of the template's drop-in and its commands, where
/// it has one.
fn instances(
    root: &Path,
    units: &ServiceUnits,
    policy: &Policy,
    template: &ServiceName,
    of_template: Option<(&OsStr, &Commands)>,
) -> Vec<Launched> {
    if !template.stem().ends_with('@') {
        return Vec::new();
    }
    let mut names = units.instances(template);
    names.extend(
        named_instances(policy).into_iter().filter(|name| name.template().as_ref() == Some(template)),
    );
    let mut found = Vec::new();
    for name in names {
        let Some(launcher) = policy.launcher(&name) else { continue };
        let least = of_template.map_or(OsStr::new(paths::LAUNCH_DROP_IN), |(name, _)| name);
        let Some((mut own, commands)) = one(root, units, &name, &launcher.origin, least) else { continue };
        let own_name = own.drop_in.as_ref().map(|drop_in| drop_in.name.as_os_str());
        let as_template = commands
            .as_ref()
            .zip(of_template)
            .is_some_and(|(own, (name, all))| own.are_those_of(all) && own_name == Some(name));
        if !launcher.value {
            (own.state, own.drop_in) = (State::Excepted, None);
        }
        match (of_template, &own.state) {
            (Some(_), State::Launched) if as_template => continue,
            (Some((name, _)), State::Excepted | State::Already | State::Without(_)) => {
                own.drop_in = Some(hiding(name, template));
            }
            (_, State::Launched) => {}
            // As its template.
            (None, _) => continue,
        }
        found.push(own);
    }
    found
}

/// Of two drop-ins of one name, systemd reads the more specific.
fn hiding(name: &OsStr, template: &ServiceName) -> DropIn {
    let text = format!("{HEADER}: it hides that of {template}, which is not for this instance.\n");
    DropIn { name: name.to_owned(), text }
}

/// Whether a unit is gone when it stops, file and all.
#[must_use]
pub fn is_transient(unit: &UnitFiles) -> bool {
    unit.fragment.starts_with(paths::TRANSIENT_UNITS)
}

/// The units whose drop-ins in the generator's directory are not what the policy comes to now: it or a unit's file has
/// changed since they were made.
///
/// # Errors
/// The generator's directory cannot be read.
pub fn outdated(root: &Path, found: &[Launched]) -> Result<BTreeSet<String>> {
    let (wanted, made) = (files(found), commands::made(root)?);
    let unit = |file: &PathBuf| {
        let directory = file.parent()?.to_str()?;
        Some(directory.strip_suffix(".d")?.to_owned())
    };
    Ok(differing(&wanted, &made).filter_map(unit).collect())
}

/// The drop-ins that do not set the same in both.
pub fn differing<'a>(
    one: &'a BTreeMap<PathBuf, String>,
    other: &'a BTreeMap<PathBuf, String>,
) -> impl Iterator<Item = &'a PathBuf> {
    let settings = |files: &'a BTreeMap<PathBuf, String>, file: &PathBuf| {
        files.get(file).map(|text| without_comments(text))
    };
    let all: BTreeSet<&PathBuf> = one.keys().chain(other.keys()).collect();
    all.into_iter().filter(move |file| settings(one, file) != settings(other, file))
}

/// The lines of the policy stand in comments, and may have moved.
fn without_comments(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}
