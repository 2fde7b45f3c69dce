//! `fairslice adopt` and `fairslice release`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};

use super::out::{print, say};
use super::{FOUND, How, PATIENCE, Which, complain, lock};
use crate::enforce::adopt::{self, Plan};
use crate::enforce::lock::Lock;
use crate::host::unit_file::Units;
use crate::policy::{self, InForce, ServiceName};
use crate::text::{quoted, shown};

pub(super) fn adopt(root: &Path, which: Which, how: &How) -> Result<u8> {
    let lock = lock_for(root, how)?;
    let units = Units::read(root)?;
    let mut code = 0;
    let mut names = which.units;
    if which.all {
        let loaded = policy::load(root);
        code = complain(&loaded);
        if loaded.in_force == InForce::Nothing {
            bail!("no policy says which services to adopt: run \"fairslice check\"");
        }
        names = texts(adopt::held(root, &units, &loaded.policy)?);
    }
    Ok(code.max(change(root, lock.as_ref(), &names, how.restart, |name, done| {
        adopt::adopt(root, &units, name, done)
    })?))
}

pub(super) fn release(root: &Path, which: Which, how: &How) -> Result<u8> {
    let lock = lock_for(root, how)?;
    let units = Units::read(root)?;
    let names = if which.all { texts(adopt::adopted(root)?) } else { which.units };
    change(root, lock.as_ref(), &names, how.restart, |name, done| adopt::release(root, &units, name, done))
}

fn lock_for(root: &Path, how: &How) -> Result<Option<Lock>> {
    if how.dry_run { Ok(None) } else { lock(root, PATIENCE).map(Some) }
}

fn texts(names: Vec<ServiceName>) -> Vec<String> {
    names.into_iter().map(|name| name.to_string()).collect()
}

/// Does for each unit what `plan` says. Each stands on its own: one that is refused is named, and
/// the others are changed. After a change that could not be made, no other is tried. Without the lock, each
/// change is shown.
fn change(
    root: &Path,
    lock: Option<&Lock>,
    names: &[String],
    restart: bool,
    plan: impl Fn(&str, &BTreeSet<ServiceName>) -> Result<Plan>,
) -> Result<u8> {
    // Printed when all is done: a reader that goes away stops nothing halfway.
    let mut text = String::new();
    let mut code = 0;
    let mut result = Ok(());
    let mut done = BTreeSet::new();
    let mut changed = Vec::new();
    for name in names {
        let Plan { unit, said, change } = match plan(name, &done) {
            Ok(plan) => plan,
            Err(error) => {
                say(format_args!("fairslice: {name}: {error:#}"));
                code = FOUND;
                continue;
            }
        };
        if !done.insert(unit.clone()) {
            continue;
        }
        // Writing to a string cannot fail.
        match (change, lock) {
            (Some(change), None) => {
                for line in change.diff().lines() {
                    let _ = writeln!(text, "{}", shown(line));
                }
                continue;
            }
            (Some(change), Some(lock)) => {
                result = change.make(root, lock);
                if result.is_err() {
                    break;
                }
                changed.push(unit.clone());
            }
            (None, _) => {}
        }
        let _ = writeln!(text, "{unit}: {}", shown(&said));
    }
    let told = match lock {
        Some(lock) if !changed.is_empty() => adopt::tell_systemd(root, lock, &changed, restart),
        _ => Ok(Vec::new()),
    };
    if let Ok(running) = &told
        && !running.is_empty()
    {
        let running: Vec<String> = running.iter().map(quoted).collect();
        let _ = writeln!(text, "restart for it to take effect: systemctl restart {}", running.join(" "));
    }
    let printed = print(&text);
    result.and(told)?;
    printed?;
    Ok(code)
}
