//! Processes of users outside of their own slices, where what those are limited to does not hold for them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::snapshot::{self, User};
use super::{Files, loaded_files};
use crate::host::processes::Process;
use crate::host::recorded::Recorded;
use crate::host::settings::Settings;
use crate::host::tree::{Id, Tree};
use crate::host::units::Units;
use crate::policy::{Policy, PrivateDir};
use crate::units::SliceName;

/// The last number of a person's account: those of systemd-homed end here, and those that systemd gives to services
/// and containers begin (systemd's `docs/UIDS-GIDS.md`).
const LAST_PERSON: u32 = 60513;

/// Those of one user in one unit.
#[derive(Debug)]
pub struct Outside {
    /// Whose they are.
    pub user: User,
    /// The cgroup of the unit.
    pub unit: Id,
    /// Their numbers.
    pub pids: Vec<u32>,
    /// What sets the limits of the user's slice, which PID 1 need not have loaded.
    pub slice: Files<'static>,
}

/// Every such user and unit: services that change to users themselves, as cron does, and sessions of others, in which
/// sudo and su leave them. A service whose own file names its user has limits of its own, and in what is delegated,
/// as a container's cgroup is, a user may be anybody of that number.
///
/// # Errors
/// NSS failed, or a file cannot be read.
pub fn outside(
    root: &Path,
    policy: &Policy,
    tree: &Tree,
    processes: &[Process],
    units: &Units,
    settings: &Settings,
) -> Result<Vec<Outside>> {
    let mut places: BTreeMap<(u32, Id), Vec<u32>> = BTreeMap::new();
    for process in
        processes.iter().filter(|process| (PrivateDir::MIN_UID..=LAST_PERSON).contains(&process.uid))
    {
        if !process.cgroup.starts_with(SliceName::of_user(process.uid).cgroup()) {
            let place = tree.upwards(tree.nearest(&process.cgroup)).find(|id| tree.unit(*id).is_some());
            places.entry((process.uid, place.unwrap_or(Tree::ROOT))).or_default().push(process.pid);
        }
    }
    places.retain(|(_, id), _| session_of(tree, *id).is_some() || changes_users(tree, units, settings, *id));
    let outside = |((uid, unit), pids): ((u32, Id), Vec<u32>)| {
        let slice = SliceName::of_user(uid);
        let files = Files::of_slice(root, &slice)?;
        Ok(Outside { user: snapshot::user(root, uid, policy)?, unit, pids, slice: files })
    };
    places.into_iter().map(outside).collect()
}

/// In whose slice a unit is.
#[must_use]
pub fn session_of(tree: &Tree, unit: Id) -> Option<u32> {
    tree.upwards(unit).find_map(|above| tree.user(above))
}

/// Whether a unit is a service that PID 1 starts as root and that is to look after its processes itself.
fn changes_users(tree: &Tree, units: &Units, settings: &Settings, id: Id) -> bool {
    let service = tree.unit(id).filter(|name| name.ends_with(".service"));
    service.and_then(|name| Some((name, units.get(name)?))).is_some_and(|(name, unit)| {
        let files = loaded_files(name, Some(unit), settings, Recorded::default());
        !unit.is("Delegate") && files.set("User").is_none() && files.set("DynamicUser").is_none()
    })
}
