//! What the policy is compared with, read from the live machine.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::service::{self, Service};
use crate::host::account::Account;
use crate::host::tree::{Id, Tree};
use crate::host::units::Units;
use crate::host::{cgroup, io_class, parallel, process, processes};
use crate::paths;
use crate::policy::{LoginRule, Policy, Resources, Who};
use crate::units::of_service::{IO_SCHEDULING_CLASS, NICE};
use crate::units::{OomScoreAdj, PROPERTIES, ServiceName, SliceName};

/// What is live of that which the policy names, or of everything: see [`Extent`].
#[derive(Debug)]
pub struct Snapshot {
    /// Every cgroup.
    pub tree: Tree,
    /// Slices, services and scopes, and the slices of logins, by their path from the root of the tree.
    pub cgroups: BTreeMap<PathBuf, Cgroup>,
    /// The running services, in the order of their names.
    pub services: Vec<Service>,
    /// Every user with processes in a slice.
    pub users: Vec<User>,
}

/// What a policy cannot set, and units can.
const OTHERS: [&str; 6] =
    ["cpu.max", "cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems", "cpuset.mems.effective", "io.max"];

/// One cgroup's attributes by name, such as `cpu.weight`; one whose controller is off is left out. Of a service whose
/// policy says something of it, also what its main process has: `nice`, and `ioprio` as systemd calls the class.
pub type Attributes = BTreeMap<&'static str, String>;

/// One cgroup.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// What it says of itself.
    pub attributes: Attributes,
    /// The OOM score adjustment of its main process, for a service.
    pub main_score: Option<OomScoreAdj>,
}

/// A user who is logged in, or lingers.
#[derive(Debug)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// `None` where NSS knows nobody of that number.
    pub account: Option<Account>,
    /// Those users of the policy's rules who are this one.
    pub names: Vec<String>,
    /// Those of the policy's groups which the user is in.
    pub groups: Vec<String>,
    /// The lowest OOM score adjustment of the processes in the user's sessions.
    pub lowest_score: Option<OomScoreAdj>,
}

impl Snapshot {
    /// The cgroups in `cgroup` with their CPU weights, as [`cgroup::weights_in`].
    #[must_use]
    pub fn weights_in(&self, cgroup: &Path) -> Vec<(OsString, u64)> {
        let inside = self.tree.find(cgroup).map_or(&[][..], |id| &self.tree[id].children);
        let weight = |id: &Id| Some((self.tree[*id].name.clone(), self.tree[*id].cpu?.weight));
        inside.iter().filter_map(weight).collect()
    }

    /// The services that the policy names, and those that run and that it concerns.
    #[must_use]
    pub fn services_of<'a>(&'a self, policy: &'a Policy) -> BTreeSet<&'a ServiceName> {
        let running = self.services.iter().map(|service| &service.name).filter(|name| policy.concerns(name));
        // A template stands for its instances.
        let named = policy.services.keys().filter(|name| !name.stem().ends_with('@'));
        running.chain(named).collect()
    }
}

impl Snapshot {
    /// The running service of this name.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        let place = self.services.binary_search_by(|service| service.name.cmp(name)).ok()?;
        self.services.get(place)
    }
}

impl User {
    /// What the policy gives this user.
    #[must_use]
    pub fn rule(&self, policy: &Policy) -> LoginRule {
        let Ok((_, rule)) = policy.logins.rule(self);
        rule
    }
}

impl Who for User {
    type Error = Infallible;

    fn uid(&self) -> u32 {
        self.uid
    }

    fn name(&self) -> Option<&str> {
        self.account.as_ref().and_then(|account| account.name.as_str())
    }

    fn is_called(&self, name: &str) -> Result<bool, Infallible> {
        Ok(self.names.iter().any(|known| known == name))
    }

    fn is_in(&self, group: &str) -> Result<bool, Infallible> {
        Ok(self.groups.iter().any(|known| known == group))
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the policy has to do with: a machine has thousands of other cgroups.
    Declared,
    /// Every slice, service and scope, with what a policy cannot set.
    Everything,
}

/// The whole tree below `root`, with its memory and the CPUs that its processes may run on.
///
/// # Errors
/// The tree cannot be read.
pub fn whole_tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::read(root).context("looking at the machine")?;
    tree.read_memory(root, tree.ids());
    tree.read_affinity(root);
    Ok(tree)
}

/// Reads what `policy` is compared with, below `root`. `units` is what PID 1 says of its units, if it has been asked:
/// else it is asked about those services that the policy concerns.
///
/// # Errors
/// NSS failed.
pub fn read(
    root: &Path,
    tree: Tree,
    policy: &Policy,
    extent: Extent,
    units: Option<&Units>,
) -> Result<Snapshot> {
    let slices: Vec<Id> = tree.in_slices().filter(|id| tree.is_slice(*id)).collect();
    let above = |path: &Path| policy.slices.keys().any(|slice| slice.cgroup().starts_with(path));
    let logins = SliceName::user().cgroup();
    let is_wanted = |path: &PathBuf| extent == Extent::Everything || path.starts_with(&logins) || above(path);
    let slices = slices.iter().map(|id| tree.path(*id)).filter(is_wanted);
    let concerned = |name: &ServiceName| extent == Extent::Everything || policy.concerns(name);
    let ask = |names: &[String]| units.cloned().or_else(|| service::ask(root, names));
    let services = service::running(root, &tree, concerned, ask);
    let is_scope =
        |id: &Id| extent == Extent::Everything && tree.unit(*id).is_some_and(|unit| unit.ends_with(".scope"));
    let scopes = tree.in_slices().filter(is_scope).map(|id| tree.path(id));
    let wanted: Vec<(PathBuf, Option<u32>)> = slices
        .chain(scopes)
        .map(|path| (path, None))
        .chain(services.iter().map(|service| (service.cgroup.clone(), service.main)))
        .collect();
    let names = attributes_of(policy, extent);
    let of_processes = names.contains(NICE.attribute) || names.contains(IO_SCHEDULING_CLASS.attribute);
    let one = |(path, main): &(PathBuf, Option<u32>)| {
        let main_score = main.and_then(|main| main_score(root, main));
        let mut attributes = attributes(root, path, &names);
        // The last session of a user may have ended since the tree was read.
        let is_there = !attributes.is_empty() || root.join(paths::CGROUPFS).join(path).exists();
        if let Some(main) = main.filter(|_| of_processes) {
            attributes.extend(of_process(root, main, &names));
        }
        is_there.then(|| (path.clone(), Cgroup { attributes, main_score }))
    };
    let cgroups = parallel::map(&wanted, |part| part.iter().filter_map(one).collect());
    let cgroups: BTreeMap<PathBuf, Cgroup> = cgroups.into_iter().collect();
    let in_logins = tree.find(&logins).map_or(&[][..], |id| &tree[id].children);
    let populated = in_logins.iter().filter(|id| tree[**id].populated);
    let mut users: Vec<u32> = populated.filter_map(|id| tree.user(*id)).collect();
    users.retain(|uid| {
        let slice = SliceName::of_user(*uid).cgroup();
        cgroups.contains_key(&slice) && cgroup::is_populated(root, &slice)
    });
    users.sort_unstable();
    let users = users.into_iter().map(|uid| user(root, uid, policy)).collect::<Result<_>>()?;
    Ok(Snapshot { tree, cgroups, services, users })
}

/// A service's main process, unless PID 1 still prepares its command in it.
fn started(root: &Path, main: u32) -> Option<process::Stat> {
    let stat = process::Stat::read(root, main)?;
    (!process::is_being_started(&stat.name, || processes::user_of(root, main))).then_some(stat)
}

fn main_score(root: &Path, main: u32) -> Option<OomScoreAdj> {
    started(root, main)?;
    process::oom_score_adj(root, &main.to_string()).ok()
}

/// What is read of each cgroup: a machine has thousands, and what no policy says of any is not looked at.
fn attributes_of(policy: &Policy, extent: Extent) -> BTreeSet<&'static str> {
    let always = PROPERTIES.iter().filter(|property| property.always).map(|property| property.attribute);
    let declared = policy.resources().flat_map(Resources::settings);
    let own = policy.services.values().flat_map(|service| &service.own);
    let others = if extent == Extent::Everything { OTHERS.as_slice() } else { &[] };
    always
        .chain(declared.map(|setting| setting.property.attribute))
        .chain(own.map(|own| own.value.setting().attribute))
        .chain(others.iter().copied())
        .collect()
}

fn attributes(root: &Path, cgroup: &Path, names: &BTreeSet<&'static str>) -> Attributes {
    let names = names.iter().copied().filter(|name| name.contains('.'));
    names.filter_map(|name| Some((name, cgroup::attribute(root, cgroup, name)?))).collect()
}

fn of_process(root: &Path, main: u32, names: &BTreeSet<&'static str>) -> Attributes {
    let Some(stat) = started(root, main) else { return Attributes::new() };
    let class = names.contains(IO_SCHEDULING_CLASS.attribute).then(|| io_class::of(root, main)).flatten();
    let nice = names.contains(NICE.attribute).then(|| stat.nice.to_string());
    let both = [(NICE.attribute, nice), (IO_SCHEDULING_CLASS.attribute, class)];
    both.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
}

pub(super) fn user(root: &Path, uid: u32, policy: &Policy) -> Result<User> {
    let slice = SliceName::of_user(uid).cgroup();
    let sessions = cgroup::processes(root, &slice).into_iter().filter(|pid| {
        let placed = cgroup::of_process(root, &pid.to_string());
        placed.is_ok_and(|placed| cgroup::unit(&placed).is_some_and(|unit| unit.starts_with("session-")))
    });
    let lowest_score = sessions.filter_map(|pid| process::oom_score_adj(root, &pid.to_string()).ok()).min();
    let account = Account::by_uid(uid)?;
    let (mut names, mut groups) = (Vec::new(), Vec::new());
    if let Some(account) = &account {
        for (name, _) in &policy.logins.users {
            if account.is_called(name)? {
                names.push(name.clone());
            }
        }
        for (group, _) in &policy.logins.groups {
            if account.is_in(group)? {
                groups.push(group.clone());
            }
        }
    }
    Ok(User { uid, account, names, groups, lowest_score })
}
