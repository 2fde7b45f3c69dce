//! What PID 1 was told of users' slices at logins, beside what `user-.slice`'s drop-in gives them all.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::super::due::Due;
use super::super::{budget, own, user_slice};
use super::observed::{Observed, Reset};
use super::settings::Target;
use super::{Ceilings, Change, How, Left, PATIENCE, Plan, logins, settings};
use crate::host::cgroup;
use crate::paths;
use crate::policy::Policy;
use crate::survey::runtime_file;
use crate::text::shown;
use crate::units::{CPU_WEIGHT, PROPERTIES, Property, SliceName};

/// How often what is set is looked at again, because somebody came or went meanwhile.
const ROUNDS: usize = 10;

/// What is to be taken back, also of users who have gone: it would hold at their next login.
pub(super) fn resets(look: &Observed<'_>, targets: &[Target]) -> Result<Vec<Reset>> {
    let mut resets = Vec::new();
    for (unit, told) in &look.told {
        let wanted =
            SliceName::new(unit).map_or_else(|_| Ok(Vec::new()), |slice| wanted(look.policy, &slice))?;
        for property in PROPERTIES {
            let is_told = told.has(property.unit) && !wanted.contains(&property);
            if is_told && !settings::waits(look, targets, unit, property) {
                resets.push(Reset { unit: unit.clone(), property });
            }
        }
    }
    Ok(resets)
}

/// What PID 1 may be told of a slice.
fn wanted(policy: &Policy, slice: &SliceName) -> Result<Vec<Property>> {
    if *slice == SliceName::user() {
        return Ok(policy.logins.is_counted().then_some(CPU_WEIGHT).into_iter().collect());
    }
    let Some(uid) = cgroup::user(&slice.cgroup()) else { return Ok(Vec::new()) };
    let due = Due::of(policy, &[uid])?;
    let rule = due.get(uid).map(|(_, rule)| rule.clone()).unwrap_or_default();
    Ok(user_slice::settings(&rule).into_iter().map(|(property, _)| property).collect())
}

/// Adds what is taken back, and the sessions that have a lower score than their rule says.
pub(super) fn plan(look: &Observed<'_>, targets: &[Target], plan: &mut Plan<'_>) {
    // What is declared is in the list with that.
    let undeclared =
        plan.resets.iter().filter(|reset| !settings::is_declared(targets, &reset.unit, reset.property));
    let change = |Reset { unit, property }: &Reset| {
        let cgroup = SliceName::new(unit).map(|slice| slice.cgroup()).unwrap_or_default();
        let live = look.live.cgroups.get(&cgroup).and_then(|live| live.attributes.get(property.attribute));
        let old = live.cloned().unwrap_or_else(|| "-".to_owned());
        let new = "unset".to_owned();
        (unit.clone(), Change { key: property.key, old, new, set_by: None, how: How::Unset })
    };
    let resets: Vec<(String, Change)> = undeclared.map(change).collect();
    for (unit, change) in resets {
        plan.change(&unit, None, change);
    }
    for user in &look.live.users {
        let declared = user.rule(look.policy).oom_score_adj;
        let (Some(declared), Some(lowest)) = (declared, user.lowest_score) else { continue };
        if lowest < declared.value {
            let declared = declared.value;
            plan.left.push(Left {
                unit: SliceName::of_user(user.uid).to_string(),
                key: "oom_score_adj",
                why: format!(
                    "a process of a session has {lowest}, declared {declared}: set at the next login"
                ),
                differs: true,
            });
        }
    }
}

/// Removes what PID 1 keeps of it; with the next reload it is gone.
pub(super) fn remove(root: &Path, resets: &[Reset]) -> Result<()> {
    for Reset { unit, property } in resets {
        let file = root.join(runtime_file(unit, property.unit));
        own::remove(&file).with_context(|| format!("removing {}", shown(&file)))?;
        // One with other files in it stays.
        let _ = file.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Takes what was taken back off the record.
pub(super) fn forget(root: &Path, resets: &[Reset]) -> Result<()> {
    for Reset { unit, property } in resets {
        user_slice::record(root, unit, &format!("-{}\n", property.unit))
            .with_context(|| format!("recording what is taken back from {unit}"))?;
    }
    Ok(())
}

/// Tells PID 1 what differs, as a login does, until nothing does.
pub(super) fn set(root: &Path, policy: &Policy, ceilings: Ceilings) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    record(root, policy)?;
    for _ in 0..ROUNDS {
        let mut changes = logins(root, policy, ceilings)?;
        changes.retain(|change| !change.properties.is_empty());
        if changes.is_empty() {
            break;
        }
        for change in changes {
            // A user who has gone meanwhile is no error.
            if root.join(paths::CGROUPFS).join(change.slice.cgroup()).exists() {
                user_slice::set(root, &change, deadline)?;
            }
        }
    }
    Ok(())
}

/// For the logins to come, who of those who are logged in shares the weight of a group.
fn record(root: &Path, policy: &Policy) -> Result<()> {
    if policy.logins.budgets.is_empty() && !root.join(paths::BUDGETS).exists() {
        return Ok(());
    }
    let due = Due::of(policy, &cgroup::users(root)?)?;
    budget::record(root, &due.groups(policy)).context("recording who shares a weight")
}
