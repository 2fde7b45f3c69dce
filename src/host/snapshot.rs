//! The live machine, read once into plain values.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::account::Account;
use super::{cgroup, process};
use crate::policy::{CPU_WEIGHT, OomScoreAdj, PROPERTIES, ServiceName, SliceName};

/// What is live.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every slice and service that has a cgroup, by its path from the root of the tree.
    pub cgroups: BTreeMap<PathBuf, Cgroup>,
    /// Every running service, with its cgroup.
    pub services: Vec<(ServiceName, PathBuf)>,
    /// Every user with a slice.
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
    /// Those of the groups that were asked for which the user is in.
    pub groups: Vec<String>,
    /// The lowest OOM score adjustment of the processes in the user's sessions.
    pub lowest_score: Option<OomScoreAdj>,
}

impl Snapshot {
    /// The slices and services in a cgroup with their CPU weights, as [`cgroup::weights_in`].
    #[must_use]
    pub fn weights_in(&self, cgroup: &Path) -> Vec<(String, u64)> {
        let inside = self.cgroups.iter().filter(|(path, _)| path.parent() == Some(cgroup));
        let weight = |live: &Cgroup| live.attributes.get(CPU_WEIGHT.attribute)?.parse().ok();
        inside
            .filter_map(|(path, live)| Some((path.file_name()?.to_str()?.to_owned(), weight(live)?)))
            .collect()
    }
}

/// Reads the machine below `root`, and of each user which of `groups` they are in.
///
/// # Errors
/// cgroupfs cannot be read, or this machine runs cgroup v1.
pub fn read(root: &Path, groups: &[&str]) -> Result<Snapshot> {
    // A process's own line tells v1 from v2, and cgroupfs then lies where it is looked for.
    cgroup::of_process(root, "self")?;
    let services = cgroup::services(root)?;
    let mut cgroups = BTreeMap::new();
    for slice in cgroup::slices(root)? {
        let attributes = attributes(root, &slice);
        cgroups.insert(slice, Cgroup { attributes, main_score: None });
    }
    for (_, path) in &services {
        let main = process::main_process(root, &cgroup::processes(root, path));
        let main_score = main.and_then(|pid| process::oom_score_adj(root, &pid.to_string()).ok());
        cgroups.insert(path.clone(), Cgroup { attributes: attributes(root, path), main_score });
    }
    let users = cgroup::users(root)?.into_iter().map(|uid| user(root, uid, groups)).collect::<Result<_>>()?;
    Ok(Snapshot { cgroups, services, users })
}

fn attributes(root: &Path, cgroup: &Path) -> Attributes {
    let names = PROPERTIES.iter().map(|property| property.attribute);
    names.filter_map(|name| Some((name, cgroup::attribute(root, cgroup, name)?))).collect()
}

fn user(root: &Path, uid: u32, groups: &[&str]) -> Result<User> {
    let slice = SliceName::of_user(uid).cgroup();
    let sessions = cgroup::processes(root, &slice).into_iter().filter(|pid| {
        let placed = cgroup::of_process(root, &pid.to_string());
        placed.is_ok_and(|placed| cgroup::unit(&placed).is_some_and(|unit| unit.starts_with("session-")))
    });
    let lowest_score = sessions.filter_map(|pid| process::oom_score_adj(root, &pid.to_string()).ok()).min();
    let account = Account::by_uid(uid)?;
    let mut is_in = Vec::new();
    for group in groups {
        if let Some(account) = &account
            && account.is_in(group)?
        {
            is_in.push((*group).to_owned());
        }
    }
    Ok(User { uid, account, groups: is_in, lowest_score })
}
