//! What the policy is compared with, read from the live machine.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::account::Account;
use super::tree::{Id, Tree};
use super::{cgroup, parallel, process, processes};
use crate::policy::{LoginRule, OomScoreAdj, PROPERTIES, Policy, ServiceName, SliceName};

/// What is live of that which the policy names, or of everything: see [`Extent`].
#[derive(Debug)]
pub struct Snapshot {
    /// Every cgroup.
    pub tree: Tree,
    /// Slices and services, and the slices of logins, by their path from the root of the tree.
    pub cgroups: BTreeMap<PathBuf, Cgroup>,
    /// Every running service with its cgroup, in the order of names. One that the launcher has put into
    /// a scope has nothing in its own.
    pub services: Vec<(ServiceName, PathBuf)>,
    /// Every user with processes in a slice.
    pub users: Vec<User>,
}

/// One cgroup's attributes by name, such as `cpu.weight`; one whose controller is off is left out.
pub type Attributes = BTreeMap<&'static str, String>;

/// One cgroup.
#[derive(Debug, Default)]
pub struct Cgroup {
    /// What it says of itself.
    pub attributes: Attributes,
    /// The OOM score adjustment of the process that PID 1 started, for a service.
    pub main_score: Option<OomScoreAdj>,
}

/// A user who is logged in, or lingers.
#[derive(Debug)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// `None` where NSS knows nobody of that number.
    pub account: Option<Account>,
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
        let running = self.services.iter().map(|(name, _)| name).filter(|name| policy.concerns(name));
        // A template stands for its instances.
        let named = policy.services.keys().filter(|name| !name.stem().ends_with('@'));
        running.chain(named).collect()
    }
}

impl User {
    /// What the policy gives this user.
    #[must_use]
    pub fn rule(&self, policy: &Policy) -> LoginRule {
        let name = self.account.as_ref().and_then(|account| account.name.as_str());
        let is_in = |group: &str| Ok::<_, Infallible>(self.groups.iter().any(|known| known == group));
        let Ok((_, rule)) = policy.logins.rule(name, is_in);
        rule
    }
}

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the policy has to do with: a machine has thousands of other cgroups.
    Declared,
    /// Every slice and service.
    Everything,
}

/// Reads what `policy` is compared with, below `root`.
///
/// # Errors
/// NSS failed.
pub fn read(root: &Path, tree: Tree, policy: &Policy, extent: Extent) -> Result<Snapshot> {
    let (slices, units): (Vec<Id>, Vec<Id>) = tree.in_slices().partition(|id| tree.is_slice(*id));
    let above = |path: &Path| policy.slices.keys().any(|slice| slice.cgroup().starts_with(path));
    let logins = SliceName::user().cgroup();
    let is_wanted = |path: &PathBuf| extent == Extent::Everything || path.starts_with(&logins) || above(path);
    let slices = slices.iter().map(|id| tree.path(*id)).filter(is_wanted);
    let services = services(&tree, &units, policy, extent);
    let wanted: Vec<(PathBuf, bool)> = slices
        .map(|path| (path, false))
        .chain(services.iter().map(|(_, path)| (path.clone(), true)))
        .collect();
    let one = |(path, is_service): &(PathBuf, bool)| {
        let main_score = is_service.then(|| main_score(root, path)).flatten();
        (path.clone(), Cgroup { attributes: attributes(root, path), main_score })
    };
    let cgroups = parallel::map(&wanted, |part| part.iter().map(one).collect()).into_iter().collect();
    let in_logins = tree.find(&logins).map_or(&[][..], |id| &tree[id].children);
    let populated = in_logins.iter().filter(|id| tree[**id].populated);
    let mut users: Vec<u32> = populated.filter_map(|id| tree.user(*id)).collect();
    users.sort_unstable();
    let users = users.into_iter().map(|uid| user(root, uid, policy)).collect::<Result<_>>()?;
    Ok(Snapshot { tree, cgroups, services, users })
}

fn services(tree: &Tree, units: &[Id], policy: &Policy, extent: Extent) -> Vec<(ServiceName, PathBuf)> {
    let concerned = |service: &ServiceName| extent == Extent::Everything || policy.concerns(service);
    let one = |id: &Id| {
        let name = tree.unit(*id).filter(|name| name.ends_with(".service"))?;
        let service = ServiceName::new(name).ok().filter(concerned)?;
        let is_scope = |id: &Id| tree.unit(*id).is_some_and(|unit| service.has_scope(unit));
        let scope = || units.iter().find(|id| is_scope(id));
        let emptied = if tree[*id].populated { None } else { scope() };
        Some((service, tree.path(*emptied.unwrap_or(id))))
    };
    let mut found = parallel::map(units, |part| part.iter().filter_map(one).collect());
    found.sort();
    found
}

fn main_score(root: &Path, cgroup: &Path) -> Option<OomScoreAdj> {
    let main = process::main_process(root, &cgroup::processes(root, cgroup))?;
    if process::is_being_started(&process::Stat::read(root, main)?.name, || processes::user_of(root, main)) {
        return None;
    }
    process::oom_score_adj(root, &main.to_string()).ok()
}

fn attributes(root: &Path, cgroup: &Path) -> Attributes {
    let names = PROPERTIES.iter().map(|property| property.attribute);
    names.filter_map(|name| Some((name, cgroup::attribute(root, cgroup, name)?))).collect()
}

fn user(root: &Path, uid: u32, policy: &Policy) -> Result<User> {
    let slice = SliceName::of_user(uid).cgroup();
    let sessions = cgroup::processes(root, &slice).into_iter().filter(|pid| {
        let placed = cgroup::of_process(root, &pid.to_string());
        placed.is_ok_and(|placed| cgroup::unit(&placed).is_some_and(|unit| unit.starts_with("session-")))
    });
    let lowest_score = sessions.filter_map(|pid| process::oom_score_adj(root, &pid.to_string()).ok()).min();
    let account = Account::by_uid(uid)?;
    let mut is_in = Vec::new();
    for (group, _) in &policy.logins.groups {
        if let Some(account) = &account
            && account.is_in(group)?
        {
            is_in.push(group.clone());
        }
    }
    Ok(User { uid, account, groups: is_in, lowest_score })
}
