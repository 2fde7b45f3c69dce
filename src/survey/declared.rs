//! The policy, by the names that units have on this machine.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::host::unit_file::ServiceUnits;
use crate::policy::{self, Diagnostic, Loaded};

/// The policy of the machine below `root`, as [`policy::load`] reads it, with each unit under its own name.
#[must_use]
pub fn declared(root: &Path) -> Loaded {
    let mut loaded = policy::load(root);
    // Who wants to know what is declared twice asks "fairslice check".
    let _ = resolve(root, &mut loaded);
    loaded.policy.find_disks(root);
    loaded
}

/// Puts each unit under its own name; gives what is declared for one by two of its names. Where the directories of
/// units cannot be read, no name is another's.
#[must_use]
pub fn resolve(root: &Path, loaded: &mut Loaded) -> Vec<Diagnostic> {
    let Ok(units) = ServiceUnits::read(root) else { return Vec::new() };
    policy::resolve_names(&mut loaded.policy, |name| units.own_name(name), &units.every_alias())
}
