//! What a NAME stands for, on every command line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use super::service;
use crate::host::account::Account;
use crate::host::cgroup;
use crate::host::processes;
use crate::host::tree::{Id, Tree};
use crate::host::unit_file;
use crate::paths;
use crate::spelling::did_you_mean;
use crate::text::{Foreign, and_more, counted, shown};
use crate::units::ServiceName;

/// The endings that a unit's name may be given without, in the order in which they are tried.
const ENDINGS: [&str; 5] = ["service", "slice", "scope", "socket", "mount"];
/// So many places of one user's processes are named.
const MOST_PLACES: usize = 3;

/// What a name stands for: a unit, a cgroup, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The unit's own name; `None` for a cgroup that is no unit's.
    pub unit: Option<String>,
    /// The cgroup; `None` for a unit that does not run.
    pub cgroup: Option<Id>,
    /// The main process, of a running service.
    pub main: Option<u32>,
}

/// The slices of users, with the users' names; the number where nobody has it.
#[must_use]
pub fn users(tree: &Tree) -> BTreeMap<Id, Foreign> {
    let name = |uid: u32| match Account::by_uid(uid) {
        Ok(Some(account)) => account.name,
        _ => uid.to_string().into(),
    };
    tree.ids().filter_map(|id| Some((id, name(tree.user(id)?)))).collect()
}

/// What is meant by a name: a unit with or without its ending, by any of its names; a user who is logged in or
/// lingers; a cgroup's path. Of units that do not run, those that are `known` are found.
///
/// # Errors
/// Nothing is called so; the nearest names are in the message.
pub fn find(
    root: &Path,
    tree: &Tree,
    users: &BTreeMap<Id, Foreign>,
    known: &[&str],
    name: &str,
) -> Result<Named> {
    if matches!(name, "-.slice" | "/") {
        return Ok(at(tree, Tree::ROOT));
    }
    if name.contains('/') {
        let path = name.trim_matches('/');
        let path = path.strip_prefix(paths::CGROUPFS).unwrap_or(path).trim_matches('/');
        match tree.find(Path::new(path)) {
            Some(id) => return Ok(at(tree, id)),
            None => bail!("there is no cgroup /{}", shown(path)),
        }
    }
    let called: Vec<String> = if ENDINGS.iter().any(|ending| name.ends_with(&format!(".{ending}"))) {
        vec![name.to_owned()]
    } else {
        ENDINGS.iter().map(|ending| format!("{name}.{ending}")).collect()
    };
    if let Some(found) = called.iter().find_map(|unit| self::unit(root, tree, unit)) {
        return Ok(found);
    }
    if let Some(unit) = called.iter().find(|unit| known.contains(&unit.as_str())) {
        return Ok(Named { unit: Some(unit.clone()), cgroup: None, main: None });
    }
    if let Some((id, _)) = users.iter().find(|(_, user)| user.as_str() == Some(name)) {
        return Ok(at(tree, *id));
    }
    if let Some(own) = own_name(root, name) {
        let found =
            self::unit(root, tree, &own).unwrap_or(Named { unit: Some(own), cgroup: None, main: None });
        return Ok(found);
    }
    if let Some(said) = elsewhere(root, name) {
        bail!("{said}");
    }
    // In a user's own manager, or a container.
    if let Some(id) = tree.ids().find(|id| tree[*id].name == *name) {
        bail!(
            "no unit, and nobody who is logged in, is called \"{}\"; of that name there is {}",
            shown(name),
            shown(&tree.name(id))
        );
    }
    let units = tree.in_slices().filter_map(|id| tree.unit(id)).chain(known.iter().copied());
    let hint = did_you_mean(name, units.chain(users.values().filter_map(Foreign::as_str)));
    let or_known = if known.is_empty() { "" } else { " or that the policy names" };
    bail!("nothing that runs{or_known}, and nobody who is logged in, is called \"{}\"{hint}", shown(name))
}

fn at(tree: &Tree, id: Id) -> Named {
    let unit = cgroup::own_unit(&tree.path(id)).map(str::to_owned);
    Named { unit, cgroup: Some(id), main: None }
}

/// The cgroup that is meant by a name.
///
/// # Errors
/// Nothing that runs is called so.
pub fn running(root: &Path, tree: &Tree, users: &BTreeMap<Id, Foreign>, name: &str) -> Result<Id> {
    match find(root, tree, users, &[], name)? {
        Named { cgroup: Some(id), .. } => Ok(id),
        Named { unit, .. } => bail!("{} is not running", shown(unit.as_deref().unwrap_or(name))),
    }
}

/// A running unit of exactly this name. A service runs where PID 1 says, or in the launcher's scope.
fn unit(root: &Path, tree: &Tree, unit: &str) -> Option<Named> {
    if let Some(service) = service::find(root, tree, unit) {
        let cgroup = tree.find(&service.cgroup);
        return Some(Named { unit: Some(service.name.to_string()), cgroup, main: service.main });
    }
    let id = tree.in_slices().find(|id| tree.unit(*id) == Some(unit))?;
    Some(Named { unit: Some(unit.to_owned()), cgroup: Some(id), main: None })
}

/// The name that a service has itself, of one that has a file.
fn own_name(root: &Path, name: &str) -> Option<String> {
    let service = ServiceName::new(name).ok()?;
    unit_file::ServiceUnits::read(root).ok()?.own_name(&service).map(|own| own.to_string())
}

/// Where the processes are of a user who is not logged in: jobs, sessions that were opened inside another.
fn elsewhere(root: &Path, name: &str) -> Option<String> {
    let account = Account::by_name(name).ok().flatten()?;
    let mut places: BTreeMap<Foreign, usize> = BTreeMap::new();
    for process in processes::read(root).ok()?.all.iter().filter(|process| process.uid == account.uid) {
        *places.entry(cgroup::place(&process.cgroup)).or_default() += 1;
    }
    let mut places: Vec<(Foreign, usize)> = places.into_iter().collect();
    places.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = places
        .iter()
        .take(MOST_PLACES)
        .map(|(place, number)| format!("{} in {}", counted(*number, "process", "processes"), place.shown()));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = and_more(places.len().saturating_sub(MOST_PLACES));
    Some(if places.is_empty() {
        format!("{} is not logged in, and has no processes", shown(name))
    } else {
        format!("{} is not logged in, and has {named}{more}", shown(name))
    })
}
