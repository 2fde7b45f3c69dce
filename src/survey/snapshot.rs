//! What the policy is compared with, read from the live machine.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::controller::of_attribute;
use super::service::{self, RunningService};
use crate::host::account::Account;
use crate::host::processes::{self, Process};
use crate::host::tree::{self, CgroupDirectory, Id, Tree};
use crate::host::units::Units;
use crate::host::{cgroup, io_class, process};
use crate::policy::{LoginRule, Policy, Resources, RuleOf, Who};
use crate::units::of_service::{IO_SCHEDULING_CLASS, NICE};
use crate::units::{OomScoreAdj, PROPERTIES, ServiceName, SliceName};

/// What is live of that which the policy names, or of everything: see [`Extent`].
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Every cgroup.
    pub tree: Tree,
    /// Slices, services and scopes, and the slices of logins, by their path from the root of the tree.
    pub cgroups: BTreeMap<PathBuf, LiveCgroup>,
    /// The running services, in the order of their names.
    pub services: Vec<RunningService>,
    /// Every user with processes in a slice.
    pub users: Vec<User>,
}

/// What a policy cannot set, and units can.
const OTHERS: [&str; 5] =
    ["cpuset.cpus", "cpuset.cpus.effective", "cpuset.mems", "cpuset.mems.effective", "io.max"];

/// One cgroup's attributes by name, such as `cpu.weight`; one whose controller is off is left out. Of a service whose
/// policy says something of it, also what its main process has: `nice`, and `ioprio` as systemd calls the class.
pub type Attributes = BTreeMap<&'static str, String>;

/// One cgroup.
#[derive(Debug, Clone, Default)]
pub struct LiveCgroup {
    /// What it says of itself.
    pub attributes: Attributes,
    /// The OOM score adjustment of its main process, for a service.
    pub main_score: Option<OomScoreAdj>,
}

/// A user who is logged in, or lingers.
#[derive(Debug, Clone)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// `None` where NSS knows nobody of that number.
    pub account: Option<Account>,
    /// Those users of the policy's rules who are this one.
    pub names: Vec<String>,
    /// Those of the policy's groups which the user is in.
    pub groups: Vec<String>,
    /// How many of those who are logged in share the weight of this one's group, with this one.
    pub members: usize,
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
    pub fn service(&self, name: &ServiceName) -> Option<&RunningService> {
        let place = self.services.binary_search_by(|service| service.name.cmp(name)).ok()?;
        self.services.get(place)
    }
}

impl User {
    /// What the policy gives this user.
    #[must_use]
    pub fn rule(&self, policy: &Policy) -> LoginRule {
        let Ok((of, rule)) = policy.logins.rule(self);
        policy.logins.among(of, self.uid, rule, self.members)
    }

    /// Which rule of the policy that is.
    #[must_use]
    pub fn held_by<'p>(&self, policy: &'p Policy) -> RuleOf<'p> {
        let Ok((of, _)) = policy.logins.rule(self);
        of
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

/// The whole tree below `root`, with its memory.
///
/// # Errors
/// The tree cannot be read.
pub fn whole_tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::read(root).context("looking at the machine")?;
    tree.read_memory(root, tree.ids());
    Ok(tree)
}

/// What has been read before a [`Snapshot`], and need not be read again.
#[derive(Debug, Clone, Copy)]
pub struct AlreadyRead<'a> {
    /// What PID 1 says of its units.
    pub units: &'a Units,
    /// Every process, in the order of their numbers.
    pub processes: &'a [Process],
}

/// Reads what `policy` is compared with, below `root`. Of what is not `known`, PID 1 is asked about those services
/// that the policy concerns.
///
/// # Errors
/// NSS failed.
pub fn read(
    root: &Path,
    tree: Tree,
    policy: &Policy,
    extent: Extent,
    known: Option<AlreadyRead<'_>>,
) -> Result<Snapshot> {
    let slices: Vec<Id> = tree.in_slices().filter(|id| tree.is_slice(*id)).collect();
    let above = |path: &Path| policy.slices.keys().any(|slice| slice.cgroup().starts_with(path));
    let logins = SliceName::user().cgroup();
    let is_wanted = |path: &PathBuf| extent == Extent::Everything || path.starts_with(&logins) || above(path);
    let slices = slices.into_iter().filter(|id| is_wanted(&tree.path(*id)));
    let concerned = |name: &ServiceName| extent == Extent::Everything || policy.concerns(name);
    let ask = |names: &[String]| match known {
        Some(known) => Some(Cow::Borrowed(known.units)),
        None => service::ask(root, names).map(Cow::Owned),
    };
    let services = service::running(root, &tree, concerned, ask);
    let is_scope =
        |id: &Id| extent == Extent::Everything && tree.unit(*id).is_some_and(|unit| unit.ends_with(".scope"));
    let scopes = tree.in_slices().filter(is_scope);
    let mains: BTreeMap<Id, Option<u32>> =
        services.iter().filter_map(|service| Some((tree.find(&service.cgroup)?, service.main))).collect();
    let mut wanted: Vec<Id> = slices.chain(scopes).chain(mains.keys().copied()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let names = attributes_of(policy, extent);
    let of_processes = names.contains(NICE.attribute) || names.contains(IO_SCHEDULING_CLASS.attribute);
    let read = tree.read_each(root, &wanted, |id, directory| {
        let mut attributes = attributes(&tree[id], &directory, &names)?;
        let main = mains.get(&id).copied().flatten();
        if let Some(main) = main.filter(|_| of_processes) {
            attributes.extend(of_process(root, main, &names));
        }
        Some(LiveCgroup { attributes, main_score: main.and_then(|main| main_score(root, main, known)) })
    });
    let read = wanted.into_iter().zip(read);
    let cgroups: BTreeMap<PathBuf, LiveCgroup> =
        read.filter_map(|(id, cgroup)| Some((tree.path(id), cgroup?))).collect();
    let in_logins = tree.find(&logins).map_or(&[][..], |id| &tree[id].children);
    let populated = in_logins.iter().filter(|id| tree[**id].populated);
    let mut users: Vec<u32> = populated.filter_map(|id| tree.user(*id)).collect();
    users.retain(|uid| {
        let slice = SliceName::of_user(*uid).cgroup();
        cgroups.contains_key(&slice) && cgroup::is_populated(root, &slice)
    });
    users.sort_unstable();
    let mut users = users.into_iter().map(|uid| user(root, uid, policy)).collect::<Result<Vec<_>>>()?;
    let held: Vec<(u32, RuleOf<'_>)> = users.iter().map(|user| (user.uid, user.held_by(policy))).collect();
    let members = policy.logins.members(&held);
    for user in &mut users {
        user.members = members.get(&user.uid).copied().unwrap_or(1);
    }
    Ok(Snapshot { tree, cgroups, services, users })
}

/// A service's main process, unless PID 1 still prepares its command in it.
fn started(root: &Path, main: u32) -> Option<process::Stat> {
    let stat = process::Stat::read(root, main)?;
    (!process::is_being_started(&stat.name, || processes::user_of(root, main))).then_some(stat)
}

fn main_score(root: &Path, main: u32, known: Option<AlreadyRead<'_>>) -> Option<OomScoreAdj> {
    if let Some(AlreadyRead { processes, .. }) = known {
        let place = processes.binary_search_by_key(&main, |process| process.pid).ok()?;
        let main = processes.get(place)?;
        let is_ready = !process::is_being_started(&main.name, || Some(main.uid));
        return OomScoreAdj::new(main.oom_score_adj.into()).filter(|_| is_ready);
    }
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

/// `None` where the cgroup is gone: the last session of a user may have ended since the tree was read.
fn attributes(
    cgroup: &tree::Cgroup,
    directory: &CgroupDirectory<'_>,
    names: &BTreeSet<&'static str>,
) -> Option<Attributes> {
    // Of most cgroups the cpuset controller is off: systemd hands it on only where a unit asks for it.
    let is_on = |name: &&str| !OTHERS.contains(name) || cgroup.controllers.has(of_attribute(name));
    let names = names.iter().copied().filter(|name| name.contains('.')).filter(is_on);
    let text = |name| cgroup.attribute(name).or_else(|| directory.text(name));
    directory.exists().then(|| names.filter_map(|name| Some((name, text(name)?))).collect())
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
    Ok(User { uid, account, names, groups, members: 1, lowest_score })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture::write;

    #[test]
    fn what_has_been_read_is_not_read_again_and_what_is_gone_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let cgroup = |file: &str, text: &str| write(root, &format!("sys/fs/cgroup/{file}"), text);
        write(root, "proc/self/cgroup", "0::/\n");
        cgroup("cgroup.controllers", "cpu memory pids\n");
        cgroup("cgroup.subtree_control", "cpu memory pids\n");
        for slice in ["a.slice", "b.slice"] {
            for (name, text) in [
                ("cpu.weight", "200\n"),
                ("pids.current", "1\n"),
                ("pids.max", "100\n"),
                ("memory.current", "0\n"),
                ("memory.min", "0\n"),
                ("memory.low", "0\n"),
                ("memory.high", "max\n"),
                ("memory.max", "8192\n"),
                ("memory.swap.max", "4096\n"),
                // Its controller is off.
                ("cpuset.cpus", "0\n"),
            ] {
                cgroup(&format!("{slice}/{name}"), text);
            }
        }
        let tree = whole_tree(root).unwrap();
        cgroup("a.slice/memory.max", "16384\n");
        fs::remove_dir_all(root.join("sys/fs/cgroup/b.slice")).unwrap();
        let units = Units::default();
        let known = AlreadyRead { units: &units, processes: &[] };
        let live = read(root, tree, &Policy::default(), Extent::Everything, Some(known)).unwrap();
        let expected = [
            ("cpu.weight", "200"),
            ("memory.high", "max"),
            ("memory.low", "0"),
            ("memory.max", "8192"),
            ("memory.min", "0"),
            ("memory.swap.max", "4096"),
            ("pids.max", "100"),
        ];
        let [(path, slice)] = live.cgroups.iter().collect::<Vec<_>>()[..] else {
            panic!("{:?}", live.cgroups)
        };
        let found: Vec<(&str, &str)> =
            slice.attributes.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!((path.as_path(), found.as_slice()), (Path::new("a.slice"), expected.as_slice()));
    }
}
