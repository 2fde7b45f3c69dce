//! A running service, found once: its cgroup, its main process, and what earlier starts have left elsewhere.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::host::pid1::is_booted;
use crate::host::tree::{Id, Tree};
use crate::host::units::{Unit, Units};
use crate::host::{cgroup, process};
use crate::units::ServiceName;

/// A running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningService {
    /// Its own name.
    pub name: ServiceName,
    /// Where it runs: its own cgroup, or the scope in which the launcher has had it put, from the root of the tree.
    pub cgroup: PathBuf,
    /// Its main process, by number; `None` where it has none, or not yet.
    pub main: Option<u32>,
    /// Other cgroups of its name, in which processes of earlier starts are left: PID 1 does not look there any more.
    pub left: Vec<PathBuf>,
}

/// The services that run, of those that are `wanted`, in the order of their names. `ask` gives what PID 1 says of
/// units, as far as it can be asked: only it knows which of two cgroups of one name is the unit's, and which of its
/// processes is the main one.
pub(super) fn running<'u>(
    root: &Path,
    tree: &Tree,
    wanted: impl Fn(&ServiceName) -> bool,
    ask: impl FnOnce(&[String]) -> Option<Cow<'u, Units>>,
) -> Vec<RunningService> {
    let mut found: BTreeMap<ServiceName, Vec<Id>> = BTreeMap::new();
    let mut scopes: Vec<(&str, Id)> = Vec::new();
    for id in tree.in_slices() {
        let Some(unit) = tree.unit(id) else { continue };
        match unit.rsplit_once('.') {
            Some((_, "scope")) => scopes.push((unit, id)),
            Some((_, "service")) => {
                if let Some(name) = ServiceName::new(unit).ok().filter(|name| wanted(name)) {
                    found.entry(name).or_default().push(id);
                }
            }
            _ => {}
        }
    }
    let names: Vec<String> = found.keys().map(ToString::to_string).collect();
    let units = ask(&names);
    let mut services = Vec::new();
    for (name, ids) in found {
        let unit = units.as_ref().and_then(|units| units.get(name.as_str()));
        let paths: Vec<PathBuf> = ids.iter().map(|id| tree.path(*id)).collect();
        let known = unit.and_then(Unit::cgroup);
        let own = paths.iter().position(|path| Some(path) == known.as_ref());
        // Without PID 1's word, the one with processes.
        let own = own.or_else(|| ids.iter().position(|id| tree[*id].populated)).unwrap_or_default();
        let (Some(id), Some(path)) = (ids.get(own), paths.get(own)) else { continue };
        let scope = || scopes.iter().find(|(scope, id)| name.has_scope(scope) && tree[*id].populated);
        // In the scope, its own cgroup holds nothing.
        let cgroup = if tree[*id].populated {
            path.clone()
        } else {
            scope().map_or(path.clone(), |(_, id)| tree.path(*id))
        };
        let is_left = |(at, id): &(usize, &Id)| *at != own && tree[**id].populated;
        let left =
            ids.iter().enumerate().filter(is_left).filter_map(|(at, _)| paths.get(at).cloned()).collect();
        let main = main_process(root, unit, &cgroup);
        services.push(RunningService { name, cgroup, main, left });
    }
    services
}

/// The running service of this name, with its ending; `None` where none runs.
pub(super) fn find(root: &Path, tree: &Tree, unit: &str) -> Option<RunningService> {
    let service = ServiceName::new(unit).ok().filter(|service| service.as_str() == unit)?;
    running(root, tree, |name| *name == service, |names| ask(root, names).map(Cow::Owned)).pop()
}

/// What PID 1 says of these units; `None` where it is not systemd, or cannot be asked.
pub(super) fn ask(root: &Path, names: &[String]) -> Option<Units> {
    let is_asked = is_booted(root) && !names.is_empty();
    is_asked.then(|| Units::read_these(root, names).ok()).flatten()
}

/// What PID 1 says is the main process, wherever it is. Where it cannot be asked or says that there is none, as of a
/// oneshot service that has ended and left something running, the one whose parent is not of the service.
fn main_process(root: &Path, unit: Option<&Unit>, cgroup: &Path) -> Option<u32> {
    let known = unit.and_then(|unit| unit.number("MainPID")).filter(|pid| *pid > 0);
    match known.and_then(|pid| u32::try_from(pid).ok()) {
        None => process::main_process(root, &cgroup::processes(root, cgroup)),
        known => known,
    }
}
