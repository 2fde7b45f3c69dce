//! A service's process moved into its slice where there is no systemd: the slice is made here.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::Result;
use fairslice_base::effect;
use fairslice_base::host::machine::Machine;

use crate::enforce::cgroup2::{Hierarchy, SettingValues, settings};
use crate::policy::{Policy, Resources};
use crate::units::SliceName;

/// Makes the cgroups of `slice` and, in it, of `leaf`, with what the policy gives each of them, and
/// moves this process into the leaf. Gives what could not be set.
///
/// # Errors
/// There is no cgroup2, or it is not ours to write to.
pub(super) fn enter(
    root: &Path,
    policy: &Policy,
    slice: &SliceName,
    leaf: &str,
    leaf_resources: &Resources,
) -> Result<Vec<anyhow::Error>> {
    let tree = Hierarchy::below(root)?;
    let mut chain = slices(policy, slice, tree.machine);
    chain.push((slice.cgroup_of(leaf), settings(leaf_resources)));
    tree.vacate_root()?;
    tree.enter(&chain)
}

/// The cgroups of a slice's ancestors and its own, from the top, with what each is given: what it
/// declares, and else what it has to carry.
fn slices(policy: &Policy, slice: &SliceName, machine: Machine) -> Vec<(PathBuf, SettingValues)> {
    let carried = effect::ancestors(policy, machine.ram);
    let given = |slice: SliceName| {
        let given = effect::given(policy, &slice, carried.get(&slice)).into_iter();
        (slice.cgroup(), given.map(|given| (given.property, given.value)).collect())
    };
    let mut slices: Vec<_> =
        std::iter::successors(Some(slice.clone()), SliceName::parent).map(given).collect();
    slices.reverse();
    slices
}
