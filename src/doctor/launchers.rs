//! Units that do not have the launcher as the policy says.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::enforce::adopt::Copy;
use crate::enforce::launched::{self, Launched};
use crate::host::pid1::is_booted;
use crate::policy::Policy;
use crate::text::quoted;

/// What the policy asks for, and what the generator has not made of it yet.
#[derive(Debug, Default)]
pub struct Launchers {
    wanted: Vec<Launched>,
    outdated: BTreeSet<String>,
}

/// Looks at the units of the machine below `root`.
///
/// # Errors
/// A directory of units cannot be read.
pub fn look(root: &Path, policy: &Policy) -> Result<Launchers> {
    let wanted = launched::declared(root, policy)?;
    let outdated = if is_booted(root) { launched::outdated(root, &wanted)? } else { BTreeSet::new() };
    Ok(Launchers { wanted, outdated })
}

/// FS060 for copies that are left, FS062 for each unit without the launcher, FS063 for what a reload would change.
#[must_use]
pub fn findings(launchers: &Launchers, left: &[Copy]) -> Vec<Finding> {
    let without = launchers.wanted.iter().filter_map(without);
    without.chain(outdated(launchers)).chain(copies(left, true)).chain(copies(left, false)).collect()
}

fn without(launched: &Launched) -> Option<Finding> {
    let why = launched.without()?;
    let unit = &launched.unit;
    Some(Finding {
        code: Code::NotLaunched,
        subject: unit.to_string().into(),
        what: "starts without the launcher that the policy declares for it".to_owned(),
        cost: Some("nothing but systemd sees to its slice and its OOM score".to_owned()),
        cause: why.to_owned(),
        at: Some(Place::from(&launched.origin)),
        fix: Fix::Edit(format!(
            "what is in the way, or declare launcher = false in [service.\"{}\"]; then run: fairslice apply",
            unit.stem()
        )),
    })
}

fn outdated(launchers: &Launchers) -> Option<Finding> {
    let is_none = launchers.outdated.is_empty();
    (!is_none).then(|| Finding {
        code: Code::LauncherOutdated,
        subject: launchers.outdated.iter().map(String::as_str).collect(),
        what: "the launcher stands before other commands than the policy and the unit's files come to"
            .to_owned(),
        cost: Some("what was changed is not in force".to_owned()),
        cause: "they have changed since the last daemon-reload".to_owned(),
        at: None,
        fix: Fix::Apply,
    })
}

/// The copies of units that are there, or of such as are gone: each have one remedy.
fn copies(left: &[Copy], exist: bool) -> Option<Finding> {
    let copies: Vec<&Copy> = left.iter().filter(|copy| copy.exists == exist).collect();
    let first = copies.first()?;
    let units: Vec<String> = copies.iter().map(|copy| quoted(&copy.unit)).collect();
    Some(Finding {
        code: Code::AdoptedChanged,
        subject: copies.iter().map(|copy| copy.unit.as_str()).collect(),
        what: "runs the command that it had when it was adopted".to_owned(),
        cost: Some("what is changed of the command, by an upgrade for instance, is not in force".to_owned()),
        cause: "a drop-in that an earlier version's adopt made holds a copy of ExecStart=".to_owned(),
        at: Some(Place::of_file(&first.drop_in)),
        fix: Fix::Command(format!(
            "fairslice {} {}",
            if exist { "adopt" } else { "release" },
            units.join(" ")
        )),
    })
}
