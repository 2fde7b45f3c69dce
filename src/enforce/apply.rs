//! `fairslice apply`: makes the running machine what the policy says, now.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::user_slice::{self, Change};
use crate::host::account::Account;
use crate::host::cgroup;
use crate::paths;
use crate::policy::Policy;

/// How long PID 1 is waited for, all in all.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the slices of users lack of their rules, and `user.slice` of the headcount.
///
/// # Errors
/// cgroupfs cannot be read, or NSS failed.
pub fn logins(root: &Path, policy: &Policy) -> Result<Vec<Change>> {
    let users = cgroup::users(root)?;
    let mut changes = Vec::new();
    for uid in &users {
        let (_, rule) = user_slice::rule(policy, Account::by_uid(*uid)?.as_ref())?;
        changes.push(user_slice::of_user(root, *uid, &rule)?);
    }
    if let Some(headcount) = user_slice::headcount(root, policy, &users)? {
        changes.push(user_slice::of_all(root, policy, &headcount)?);
    }
    changes.retain(|change| !change.properties.is_empty());
    Ok(changes)
}

/// Makes these changes. The headcount is taken anew: somebody may have come or gone.
///
/// # Errors
/// PID 1 cannot be reached or refuses.
pub fn set(root: &Path, policy: &Policy, changes: &[Change]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for change in changes {
        // A user who has gone meanwhile is no error.
        if root.join(paths::CGROUPFS).join(change.slice.cgroup()).exists() {
            user_slice::set(root, change, deadline)?;
        }
    }
    user_slice::count(root, policy, deadline)
}
