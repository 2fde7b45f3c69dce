//! What PID 1 was told of users' slices at logins, beside what `user-.slice`'s drop-in gives them all.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::super::user_slice;
use super::observed::{Observed, Reset};
use super::{Change, How, Left, PATIENCE, Plan, logins};
use crate::host::account::Account;
use crate::host::cgroup;
use crate::policy::Policy;
use crate::survey::runtime_file;
use crate::text::shown;
use crate::units::{CPU_WEIGHT, CpuWeight, PROPERTIES, Property, SliceName};

/// What is to be taken back, also of users who have gone: it would hold at their next login.
pub(super) fn resets(look: &Observed<'_>) -> Result<Vec<Reset>> {
    let mut resets = Vec::new();
    for (unit, told) in &look.told {
        let Ok(slice) = SliceName::new(unit) else { continue };
        let wanted = wanted(look.policy, &slice)?;
        for property in PROPERTIES {
            if told.has(property.unit) && !wanted.contains(&property) {
                resets.push(Reset { slice: slice.clone(), property });
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
    let (_, rule) = user_slice::rule(policy, Account::by_uid(uid)?.as_ref())?;
    Ok(user_slice::settings(&rule).into_iter().map(|(property, _)| property).collect())
}

/// Adds what is taken back, and the sessions that have a lower score than their rule says.
pub(super) fn plan(look: &Observed<'_>, plan: &mut Plan<'_>) {
    let resets: Vec<(String, Change)> = plan
        .resets
        .iter()
        .map(|reset| {
            (reset.slice.to_string(), {
                let attribute = reset.property.attribute;
                let live = look
                    .live
                    .cgroups
                    .get(&reset.slice.cgroup())
                    .and_then(|live| live.attributes.get(attribute));
                let old = live.cloned().unwrap_or_else(|| "-".to_owned());
                Change {
                    key: reset.property.key,
                    old,
                    new: "unset".to_owned(),
                    set_by: None,
                    how: How::Unset,
                }
            })
        })
        .collect();
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
    for Reset { slice, property } in resets {
        let file = root.join(runtime_file(slice.as_str(), property.unit));
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", shown(&file)));
            }
            _ => {}
        }
        // One with other files in it stays.
        let _ = file.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Takes what was taken back off the record.
pub(super) fn forget(root: &Path, resets: &[Reset]) -> Result<()> {
    for Reset { slice, property } in resets {
        user_slice::record(root, slice, &format!("-{}\n", property.unit))
            .with_context(|| format!("recording what is taken back from {slice}"))?;
    }
    Ok(())
}

/// What is declared for a user.
///
/// # Errors
/// NSS failed.
pub(super) fn declared(policy: &Policy, uid: u32) -> Result<Option<CpuWeight>> {
    Ok(user_slice::rule(policy, Account::by_uid(uid)?.as_ref())?.1.cpu_weight())
}

/// Tells PID 1 what differs, as a login does.
pub(super) fn set(root: &Path, policy: &Policy) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for change in logins(root, policy)?.iter().filter(|change| change.slice != SliceName::user()) {
        user_slice::set(root, change, deadline)?;
    }
    user_slice::count(root, policy, &|uid| declared(policy, uid), deadline)
}
