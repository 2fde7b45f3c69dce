//! What happens when a session opens: the work behind `pam_fairslice.so`.
//!
//! It never fails: what cannot be done is left out and said in one line.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::decision::{self, Caller, Opener, Opening, SessionPlace, Why};
use super::placement::{self, Login};
use super::private_dir::{Wanted, ensure, wanted};
use super::{budget, user_slice};
use crate::host::account::Account;
use crate::host::pam_service::MANAGER;
use crate::host::pid1::is_booted;
use crate::host::process;
use crate::paths;
use crate::policy::{self, ForLogins, LoginRule, Policy, RuleOf, is_person};
use crate::units::{CpuWeight, OomScoreAdj, SliceName};

/// How long a login waits for PID 1, all in all.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session that opens, as PAM has it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `PAM_USER` as given: it may name nobody, or hold characters that do not belong in a path.
    pub user: &'a str,
    /// `PAM_SERVICE`
    pub service: &'a str,
    /// The module's argument `noplace`: the session stays in the cgroup that it is in.
    pub noplace: bool,
}

/// What opening a session came to. Opening never fails: what could not be done is in `skipped`.
#[derive(Debug, Default)]
pub struct Opened {
    /// Variables for the session's environment, name and value.
    pub variables: Vec<(String, String)>,
    /// One line for each thing that was not done: what was tried, on what, what came back.
    pub skipped: Vec<String>,
    /// The score that this process was given.
    pub score: Option<Rescored>,
    /// Whether the session in which this one opens says the same: the user's manager starts within the first login,
    /// which has the same policy and the same directories.
    pub is_said_by_another: bool,
}

/// The score of the process that opened a session, changed for the session's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescored {
    /// What it was.
    pub before: OomScoreAdj,
    /// What it was set to.
    pub set: OomScoreAdj,
}

/// Gives the session that is being opened its private directories, its user slice's weight and limits,
/// and its OOM score.
///
/// Everything is looked up below `root`, `/` on a live system.
#[must_use]
pub fn open_session(root: &Path, asked: Asked<'_>) -> Opened {
    let mut opened = Opened::default();
    let policy = match policy::for_logins(root) {
        Ok(ForLogins { wrong, policy }) => {
            opened.skipped.extend(wrong);
            policy
        }
        Err(unusable) => {
            opened.skipped.push(unusable.to_string());
            Policy::default()
        }
    };
    let account = match Account::by_name(asked.user) {
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
    private_dirs(root, &policy, &account, &mut opened);
    let (of, rule) = user_slice::rule(&policy, Some(&account)).unwrap_or_else(|error| {
        opened.skipped.push(format!("{error:#}: {} holds", RuleOf::Everybody));
        (RuleOf::Everybody, policy.logins.default.clone())
    });
    let group = policy.logins.budget(of, account.uid).map(|(group, _)| group);
    let mut rule = match group.map(|group| budget::with(root, group, account.uid)) {
        None => rule,
        Some(Ok(members)) => policy.logins.among(of, account.uid, rule, members.len()),
        Some(Err(error)) => {
            opened.skipped.push(format!("{of}: who is logged in: {error:#}"));
            rule
        }
    };
    // A compiled policy may be older than the disks are.
    rule.resources.find_disks(root);
    let caller = Caller::new(root, asked.service);
    let deadline = Instant::now() + PATIENCE;
    let place = decide(root, &policy, &rule, &account, asked, &caller)
        .and_then(|place| put(root, &policy, &rule, &account, asked, place, deadline).map(|()| place));
    let place = place.unwrap_or_else(|error| {
        let slice = SliceName::of_user(account.uid);
        opened.skipped.push(format!("not placed in {slice}: {error:#}"));
        SessionPlace::Stays(Why::NoLogin)
    });
    match reset_score(root, &rule, place, &caller, account.uid) {
        Ok(score) => opened.score = score,
        Err(error) => opened.skipped.push(format!("OOM score not set: {error:#}")),
    }
    if place.is_in_own_slice() {
        let weights = weights(root, &policy, &rule, group, account.uid, deadline);
        if let Err(error) = weights {
            opened.skipped.push(format!("{error:#}"));
            // Others have counted on this one to set what it saw: PID 1 may only be slow.
            if policy.logins.is_counted() || group.is_some() {
                opened.skipped.extend(user_slice::leave(root).err().map(|error| format!("{error:#}")));
            }
        }
    }
    opened.is_said_by_another =
        !opened.skipped.is_empty() && asked.service == MANAGER && !lingers(root, &account);
    opened
}

/// Whether the user's manager starts without a login.
fn lingers(root: &Path, account: &Account) -> bool {
    // A name that is no file name has no file.
    account
        .name
        .as_str()
        .is_some_and(|name| !name.contains('/') && root.join(paths::LINGER).join(name).exists())
}

/// Undoes what opening the session did that must not stay.
///
/// The process that opened it gets back the score that it had, if it has still the one that it was given. Not so
/// `(sd-pam)`, which closes what PID 1 has opened in another process, and is the user's meanwhile. Under systemd there is no more to undo: a scope goes with its last process, the user's slice with its last unit,
/// and that is counted.
///
/// # Errors
/// One line: what was tried, on what, what came back.
pub fn close_session(root: &Path, score: Option<Rescored>) -> Result<()> {
    let is_roots = |_: &Rescored| nix::unistd::geteuid().is_root();
    let restored = score.filter(is_roots).map_or(Ok(()), |Rescored { before, set }| {
        if process::oom_score_adj(root, "self")? == set {
            process::set_own_oom_score_adj(root, before)?;
        }
        Ok(())
    });
    if is_booted(root) {
        return restored;
    }
    let deadline = Instant::now() + PATIENCE;
    if placement::leave(root, deadline)? {
        // Without a policy nothing is counted.
        let policy = policy::for_logins(root).unwrap_or_default().policy;
        let groups = policy.logins.budgets.keys();
        groups.into_iter().try_for_each(|group| user_slice::share(root, &policy, group, deadline))?;
        let weigh = |users: &[u32]| Ok(users.iter().map(|uid| user_slice::as_set(root, *uid)).collect());
        user_slice::count(root, &policy, &weigh, deadline)?;
    }
    restored
}

/// Where a session goes. For the module, and for `fairslice explain login`, whose `opener` is one as it will be.
///
/// # Errors
/// Those of [`decision::place`].
pub fn decide(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    account: &Account,
    asked: Asked<'_>,
    opener: &impl Opener,
) -> Result<SessionPlace> {
    let logins = &policy.logins;
    let of_all = logins.total_weight.is_some() || logins.total.settings().next().is_some();
    let is_declared = of_all || !user_slice::settings(rule).is_empty();
    let Asked { service, noplace, .. } = asked;
    let uid = account.uid;
    let is_taken = policy.logins.takes(service, uid);
    decision::place(root, Opening { service, uid, noplace, is_taken, is_declared }, opener)
}

/// Puts this process where it goes.
fn put(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    account: &Account,
    asked: Asked<'_>,
    place: SessionPlace,
    deadline: Instant,
) -> Result<()> {
    match place {
        SessionPlace::ThroughPid1 => {
            let login = Login { service: asked.service, user: &account.name, uid: account.uid };
            placement::through_pid1(root, &login, deadline)
        }
        SessionPlace::Directly => {
            let users = user_slice::users_with(root, account.uid)?;
            let counted = user_slice::headcount(root, policy, &users, &weigh(root, account.uid, rule))?;
            let slices = vec![
                (SliceName::user().cgroup(), user_slice::all_of_total(policy, counted.as_ref())),
                (SliceName::of_user(account.uid).cgroup(), user_slice::settings(rule)),
            ];
            placement::directly(root, account.uid, slices, deadline)
        }
        SessionPlace::Stays(Why::Elogind) => bail!("{}", Why::Elogind),
        SessionPlace::Session | SessionPlace::Manager | SessionPlace::Stays(_) => Ok(()),
    }
}

/// For the headcount: PID 1 may still be about to write the weight of the one who logs in.
fn weigh(root: &Path, uid: u32, rule: &LoginRule) -> impl Fn(&[u32]) -> Result<Vec<Option<CpuWeight>>> {
    let own = rule.cpu_weight();
    let weight = move |other: &u32| if *other == uid { own } else { user_slice::as_set(root, *other) };
    move |users| Ok(users.iter().map(weight).collect())
}

/// Makes the user's private directories; a variable is set only where its directory is right.
fn private_dirs(root: &Path, policy: &Policy, account: &Account, opened: &mut Opened) {
    for (variable, declared) in &policy.private_dirs {
        let made = wanted(root, declared, account).and_then(|wanted| match wanted {
            Wanted::Nothing(_) => Ok(None),
            Wanted::Directory(filled) => {
                ensure(root, &filled.directory, account, declared)?;
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
/// session. A process that was not made for the session keeps what it has.
fn reset_score(
    root: &Path,
    rule: &LoginRule,
    place: SessionPlace,
    opener: &impl Opener,
    uid: u32,
) -> Result<Option<Rescored>> {
    let live = process::oom_score_adj(root, "self")?;
    let is_login = place.is_in_a_session();
    let inherited = live < OomScoreAdj::ZERO && (is_login || is_person(uid));
    let declared = rule.oom_score_adj.as_ref().map(|score| score.value);
    let wanted = declared.or(inherited.then_some(OomScoreAdj::ZERO));
    let wanted = wanted.filter(|score| *score != live && (is_login || inherited));
    match wanted.filter(|_| opener.is_made_for_it()) {
        Some(set) => {
            process::set_own_oom_score_adj(root, set)?;
            Ok(Some(Rescored { before: live, set }))
        }
        None => Ok(None),
    }
}

/// Sets what differs of the user's slice, of those whose group's weight it shares, and of `user.slice`. PID 1 is waited
/// for once: what cannot be set ends it.
fn weights(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    group: Option<&str>,
    uid: u32,
    deadline: Instant,
) -> Result<()> {
    let slice = SliceName::of_user(uid);
    let own = user_slice::of_user(root, uid, rule);
    own.and_then(|change| user_slice::set(root, &change, deadline)).with_context(|| slice.to_string())?;
    if !policy.logins.budgets.is_empty() {
        budget::join(root, uid, group).with_context(|| format!("{slice}: whose weight it shares"))?;
    }
    if let Some(group) = group {
        let shared = user_slice::share(root, policy, group, deadline);
        shared.with_context(|| format!("the members of {}", RuleOf::Group(group)))?;
    }
    let counted = user_slice::count(root, policy, &weigh(root, uid, rule), deadline);
    counted.with_context(|| SliceName::user().to_string())
}
