//! `fairslice adopt` and `fairslice release`.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

use super::out::{print, say};
use super::{FOUND, How, PATIENCE, Which, complain, lock};
use crate::enforce::adopt::{self, Plan};
use crate::enforce::launched;
use crate::enforce::lock::Lock;
use crate::policy::InForce;
use crate::survey;
use crate::text::{quoted, shown};

pub(super) fn adopt(root: &Path, which: Which, how: &How) -> Result<u8> {
    let lock = lock_for(root, how)?;
    let loaded = survey::declared(root);
    let mut code = 0;
    let mut names = which.units;
    if which.all {
        code = complain(&loaded);
        if loaded.in_force == InForce::Nothing {
            bail!("no policy says which services to adopt: run \"fairslice check\"");
        }
        names = adopt::held(root, &loaded.policy)?.iter().map(ToString::to_string).collect();
    }
    let plan = adopt::adopt(root, &loaded, &names)?;
    Ok(code.max(change(root, lock.as_ref(), &plan, how.restart, &[])?))
}

pub(super) fn release(root: &Path, which: &Which, how: &How) -> Result<u8> {
    let lock = lock_for(root, how)?;
    let loaded = survey::declared(root);
    if !which.all {
        let plan = adopt::release(root, &loaded, &which.units)?;
        return change(root, lock.as_ref(), &plan, how.restart, &[]);
    }
    let plan = adopt::release_all(root, &loaded)?;
    let callers = launched::callers(root)?.into_iter();
    let notes: Vec<_> = callers.map(|caller| format!("left as it is, with the launcher: {caller}")).collect();
    change(root, lock.as_ref(), &plan, how.restart, &notes)
}

fn lock_for(root: &Path, how: &How) -> Result<Option<Lock>> {
    if how.dry_run { Ok(None) } else { lock(root, PATIENCE).map(Some) }
}

/// Makes the changes of a plan. Each unit stands on its own: one that is refused is named, and the others are changed.
/// Without the lock, the changes are shown.
fn change(root: &Path, lock: Option<&Lock>, plan: &Plan, restart: bool, notes: &[String]) -> Result<u8> {
    let mut code = 0;
    for (unit, error) in plan.said.iter().filter_map(|(unit, said)| Some((unit, said.as_ref().err()?))) {
        say(format_args!("fairslice: {}: {error:#}", shown(unit)));
        code = FOUND;
    }
    // Printed when all is done: a reader that goes away stops nothing halfway.
    let mut text = String::new();
    let told = if let Some(lock) = lock {
        plan.make(root, lock)?;
        for (unit, said) in plan.said.iter().filter_map(|(unit, said)| Some((unit, said.as_ref().ok()?))) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{unit}: {}", shown(said));
        }
        if plan.changed.is_empty() {
            Ok(Vec::new())
        } else {
            adopt::tell_systemd(root, lock, &plan.changed, restart)
        }
    } else {
        for line in plan.diff().lines() {
            let _ = writeln!(text, "{}", shown(line));
        }
        Ok(Vec::new())
    };
    if let Some(running) = told.as_ref().ok().filter(|running| !running.is_empty()) {
        let running: Vec<String> = running.iter().map(quoted).collect();
        let _ = writeln!(text, "restart for it to take effect: systemctl restart {}", running.join(" "));
    }
    for note in notes {
        let _ = writeln!(text, "{}", shown(note));
    }
    let printed = print(&text);
    told?;
    printed?;
    Ok(code)
}
