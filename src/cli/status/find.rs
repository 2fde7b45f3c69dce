//! Which unit a NAME stands for.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};

use crate::cli::named::did_you_mean;
use crate::effect::{Status, Unit};
use crate::host::tree::{Id, Tree};
use crate::text::{Foreign, shown};

const SUFFIXES: [&str; 4] = ["", ".service", ".slice", ".scope"];

/// A unit by its name, with or without its suffix; else a user who is logged in or lingers. What runs
/// has a cgroup, what the policy has to do with is a [`Unit`].
///
/// # Errors
/// There is no such unit or user; the nearest names are in the message.
pub(super) fn find<'s>(
    tree: &Tree,
    status: &'s Status,
    name: &str,
) -> Result<(Option<Id>, Option<&'s Unit>)> {
    let is_named = |unit: &str| SUFFIXES.iter().any(|suffix| unit.strip_suffix(suffix) == Some(name));
    let units = &status.units;
    let unit = units.iter().find(|unit| is_named(&unit.name));
    let cgroup = tree.in_slices().find(|id| tree.unit(*id).is_some_and(is_named));
    let unit = match (unit, cgroup) {
        (None, None) => units.iter().find(|unit| unit.user.as_ref().and_then(Foreign::as_str) == Some(name)),
        (unit, _) => unit,
    };
    // The cgroup of a service may be that of a scope.
    let cgroup = unit.map_or(cgroup, |unit| tree.find(unit.cgroup.as_deref()?));
    if unit.is_some() || cgroup.is_some() {
        return Ok((cgroup, unit));
    }
    let running = tree.in_slices().filter_map(|id| tree.unit(id));
    let users = units.iter().filter_map(|unit| unit.user.as_ref()?.as_str());
    let declared = units.iter().map(|unit| unit.name.as_str()).chain(users);
    let hint = did_you_mean(name, running.chain(declared));
    bail!(
        "nothing that runs or that the policy names, and nobody who is logged in, is called \"{}\"{hint}",
        shown(name)
    )
}
