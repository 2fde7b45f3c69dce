//! Which unit a NAME stands for.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};

use crate::effect::{Status, Unit};
use crate::host::tree::{Id, Tree};

const SUFFIXES: [&str; 4] = ["", ".service", ".slice", ".scope"];
const MOST_LIKE: usize = 3;
/// How alike two names are, 0 to 1, of which one may be meant for the other.
const ALIKE: f64 = 0.75;

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
    let cgroup = tree.units().find(|id| is_named(tree[*id].name()));
    let unit = match (unit, cgroup) {
        (None, None) => units.iter().find(|unit| unit.user.as_deref() == Some(name)),
        (unit, _) => unit,
    };
    // The cgroup of a service may be that of a scope.
    let cgroup = unit.map_or(cgroup, |unit| tree.find(unit.cgroup.as_deref()?));
    if unit.is_some() || cgroup.is_some() {
        return Ok((cgroup, unit));
    }
    let running = tree.units().map(|id| tree[id].name());
    let declared = units.iter().flat_map(|unit| [Some(unit.name.as_str()), unit.user.as_deref()]).flatten();
    let mut near: Vec<(f64, &str)> =
        running.chain(declared).map(|other| (likeness(name, other), other)).collect();
    near.retain(|(likeness, _)| *likeness >= ALIKE);
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup();
    let near: Vec<&str> = near.into_iter().take(MOST_LIKE).map(|(_, name)| name).collect();
    match near.as_slice() {
        [] => bail!(
            "nothing that runs or that the policy names is called {name:?}, and no such user is logged in"
        ),
        _ => {
            bail!("nothing that runs or that the policy names is called {name:?}: is it {}?", near.join(", "))
        }
    }
}

fn likeness(name: &str, other: &str) -> f64 {
    let stem = SUFFIXES.iter().skip(1).find_map(|suffix| other.strip_suffix(suffix)).unwrap_or(other);
    strsim::jaro_winkler(name, other).max(strsim::jaro_winkler(name, stem))
}
