//! What happens when a session opens: the work behind `pam_fairslice.so`.
//!
//! It never fails: what cannot be done is left out and said in one line.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod explain;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::placement::{self, Login};
use super::private_dir::{Wanted, ensure, wanted};
use super::user_slice;
use crate::host::account::Account;
use crate::host::{cgroup, process};
use crate::paths;
use crate::policy::{self, InForce, LoginRule, OomScoreAdj, Policy, RuleOf, SliceName};

/// How long a login waits for PID 1, all in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What opening a session came to. Opening never fails: what could not be done is in `skipped`.
#[derive(Debug, Default)]
pub struct Opened {
    /// Variables for the session's environment, name and value.
    pub variables: Vec<(String, String)>,
    /// One line for each thing that was not done: what was tried, on what, what came back.
    pub skipped: Vec<String>,
}

/// Gives the session that is being opened its private directories, its user slice's weight and limits,
/// and its OOM score.
///
/// Everything is looked up below `root`, `/` on a live system. `user` is `PAM_USER` as given: it may
/// name nobody, or hold characters that do not belong in a path. `service` is `PAM_SERVICE`.
#[must_use]
pub fn open_session(root: &Path, user: &str, service: &str) -> Opened {
    let mut opened = Opened::default();
    let loaded = policy::load_for_login(root);
    // The other lines are `fairslice check`'s: a login says once that it lacks a policy.
    if let Some(diagnostic) = loaded.diagnostics.first() {
        let force = match loaded.in_force {
            InForce::Current => "the rest of the policy holds",
            InForce::LastGood => "the last good policy holds",
            InForce::Nothing => "no policy holds",
        };
        opened.skipped.push(format!("{diagnostic} ({force})"));
    }
    let account = match Account::by_name(user) {
        Ok(Some(account)) => account,
        Ok(None) => {
            opened.skipped.push("no such user: nothing done".to_owned());
            return opened;
        }
        Err(error) => {
            opened.skipped.push(format!("{error:#}: nothing done"));
            return opened;
        }
    };
    private_dirs(root, &loaded.policy, &account, &mut opened);
    let (_, rule) = user_slice::rule(&loaded.policy, Some(&account)).unwrap_or_else(|error| {
        opened.skipped.push(format!("{error:#}: {} holds", RuleOf::Everybody));
        (RuleOf::Everybody, loaded.policy.logins.default.clone())
    });
    let deadline = Instant::now() + PATIENCE;
    let placed = place(root, &loaded.policy, &rule, &account, service, deadline).unwrap_or_else(|error| {
        let slice = SliceName::of_user(account.uid);
        opened.skipped.push(format!("not placed in {slice}: {error:#}"));
        None
    });
    let is_login = placed.as_deref().and_then(cgroup::unit).is_some_and(|unit| unit.ends_with(".scope"));
    if let Err(error) = reset_score(root, &rule, is_login, &account) {
        opened.skipped.push(format!("OOM score not set: {error:#}"));
    }
    if placed.is_some() {
        weights(root, &loaded.policy, &rule, &account, deadline, &mut opened);
    }
    opened
}

/// Undoes what opening the session did that must not stay.
///
/// Under systemd that is nothing: a scope goes with its last process, the user's slice with its last unit,
/// and that is counted.
///
/// # Errors
/// One line: what was tried, on what, what came back.
pub fn close_session(root: &Path) -> Result<()> {
    if root.join(paths::SYSTEMD_BOOTED).exists() {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    if placement::leave(root, deadline)? {
        let loaded = policy::load_for_login(root);
        user_slice::count(root, &loaded.policy, deadline)?;
    }
    Ok(())
}

/// Where the process is now, if that is its user's own slice: logind has placed it, or this does. Any
/// other session (cron, sudo inside a session) stays where it is.
fn place(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    account: &Account,
    service: &str,
    deadline: Instant,
) -> Result<Option<PathBuf>> {
    let login = Login { service, user: &account.name, uid: account.uid };
    let slices = || {
        let counted = user_slice::headcount(root, policy, &user_slice::users_with(root, account.uid)?)?;
        Ok(vec![
            (SliceName::user().cgroup(), user_slice::total(policy, counted.as_ref())),
            (SliceName::of_user(account.uid).cgroup(), user_slice::settings(rule)),
        ])
    };
    let placed = placement::place(root, &login, slices, deadline)?;
    Ok(placed.filter(|placed| cgroup::user(placed) == Some(account.uid)))
}

/// Makes the user's private directories; a variable is set only where its directory is right.
fn private_dirs(root: &Path, policy: &Policy, account: &Account, opened: &mut Opened) {
    for (variable, declared) in &policy.private_dirs {
        let made = wanted(root, declared, account).and_then(|wanted| match wanted {
            Wanted::Nothing(_) => Ok(None),
            Wanted::Directory(filled) => {
                ensure(root, &filled.directory, account.uid, account.gid, declared.mode())?;
                Ok(Some(filled.value))
            }
        });
        match made {
            Ok(Some(value)) => opened.variables.push((variable.as_str().to_owned(), value)),
            Ok(None) => {}
            Err(error) => opened.skipped.push(format!("{variable} not set: {error:#}")),
        }
    }
}

/// Sets a login's score as declared. A person's session that inherited a negative score would be
/// killed last, or never (sshd and cron hand on what they were started with): that is reset in any
/// session.
fn reset_score(root: &Path, rule: &LoginRule, is_login: bool, account: &Account) -> Result<()> {
    let live = process::oom_score_adj(root, "self")?;
    let inherited = live < OomScoreAdj::ZERO && (is_login || account.is_person());
    let declared = rule.oom_score_adj.as_ref().map(|score| score.value);
    let wanted = declared.or(inherited.then_some(OomScoreAdj::ZERO));
    match wanted.filter(|score| *score != live && (is_login || inherited)) {
        Some(score) => process::set_own_oom_score_adj(root, score),
        None => Ok(()),
    }
}

/// Sets what differs of the user's slice, and of `user.slice`.
fn weights(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    account: &Account,
    deadline: Instant,
    opened: &mut Opened,
) {
    let own = user_slice::of_user(root, account.uid, rule);
    if let Err(error) = own.and_then(|change| user_slice::set(root, &change, deadline)) {
        opened.skipped.push(format!("{}: {error:#}", SliceName::of_user(account.uid)));
        // PID 1 is waited for once.
        return;
    }
    if let Err(error) = user_slice::count(root, policy, deadline) {
        opened.skipped.push(format!("{}: {error:#}", SliceName::user()));
    }
}
