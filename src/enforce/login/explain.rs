//! What a login comes to, without one: for `fairslice explain login`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Context, Result};

use super::{Asked, decide};
use crate::effect::{self, Headcount};
use crate::enforce::decision::{At, Opener, SessionPlace};
use crate::enforce::due::{Due, Shared};
use crate::enforce::private_dir::{Looked, Wanted, look, others, overridden, wanted};
use crate::enforce::user_slice;
use crate::host::account::Account;
use crate::host::assigned::Assigned;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::host::pam::{self, Module, Stack};
use crate::host::pam_service::{MANAGER, Opens, opens};
use crate::host::pid1::is_booted;
use crate::host::unit_file::ServiceUnits;
use crate::paths;
use crate::policy::{Filled, LoginRule, Origin, Policy, RuleOf};
use crate::text::shown;
use crate::units::{Property, ServiceName, SettingValue, SliceName};

pub(super) const OURS: &str = "pam_fairslice.so";
const LOGINDS: &str = "pam_systemd.so";
const LOGIND: &str = "systemd-logind";

/// What one user's login comes to.
#[derive(Debug)]
pub struct Explained<'p> {
    /// Who logs in.
    pub account: Account,
    /// The rules that were looked at, and whether each holds; the last one does.
    pub candidates: Vec<(RuleOf<'p>, Option<Origin>, bool)>,
    /// What the one that holds comes to.
    pub rule: LoginRule,
    /// How the session is placed.
    pub session: Session,
    /// The settings of the user's slice, and what is live now.
    pub settings: Vec<Live>,
    /// What all logins weigh, if that is declared, and what is live now.
    pub total: Option<Live>,
    /// What else the policy gives all logins together, and what is live now.
    pub totals: Vec<Live>,
    /// How it is counted with this user, if it is a sum.
    pub headcount: Option<Headcount>,
    /// The weight that the user shares with other members of a group, if there is one.
    pub shared: Option<Shared>,
    /// Private directories, by variable.
    pub directories: Vec<(String, Origin, ExplainedDirectory)>,
}

/// How a PAM service's session is placed.
#[derive(Debug)]
pub struct Session {
    /// Our line; without one nothing of this is done.
    pub ours: Option<Module>,
    /// The line of `pam_systemd.so`.
    pub logind: Option<Module>,
    /// Whether that comes after ours, and logind answers: it would have placed the session.
    pub is_too_early: bool,
    /// Where the session goes when the turn is ours.
    pub place: SessionPlace,
    /// Where the policy's `sessions` says so, of what is no login.
    pub taken: Option<Origin>,
}

/// One setting.
#[derive(Debug)]
pub struct Live {
    /// Which.
    pub property: Property,
    /// As declared, or counted.
    pub value: SettingValue,
    /// Who says so.
    pub origin: Origin,
    /// What it is now; `None` where the slice is not there.
    pub live: Option<String>,
    /// Whether the one is the other.
    pub holds: bool,
}

/// One private directory.
#[derive(Debug)]
pub enum ExplainedDirectory {
    /// The variable is set to this.
    Set {
        /// Its value.
        value: String,
        /// Whether the directory is there.
        exists: bool,
        /// What is wrong with it, or sets the variable to something else afterwards.
        notes: Vec<String>,
    },
    /// The user is to have none, and why.
    Nothing(String),
    /// It is refused, and why.
    Refused(String),
}

/// What a login of `user` through the PAM service `service` comes to, by the code that runs then.
///
/// # Errors
/// There is no such user or service, or the machine cannot be looked at.
pub fn explain<'p>(root: &Path, policy: &'p Policy, user: &str, service: &str) -> Result<Explained<'p>> {
    let account = Account::by_name(user)?.with_context(|| format!("there is no user \"{}\"", shown(user)))?;
    let users = user_slice::users_with(root, account.uid)?;
    let due = Due::of(policy, &users)?;
    let (won, rule) = due.get(account.uid).context("the user is gone")?;
    let rule = rule.clone();
    let machine = Machine::read(root)?;
    let live = |slice: &SliceName, property: Property, value, origin: &Origin| {
        let live = cgroup::attribute(root, &slice.cgroup(), property.attribute);
        let holds = live.as_ref().is_some_and(|live| effect::holds(property, &value, live, machine));
        Live { property, value, origin: origin.clone(), live, holds }
    };
    let slice = SliceName::of_user(account.uid);
    let settings = rule.resources.settings().map(|s| live(&slice, s.property, s.value, s.origin)).collect();
    let shared = due.shared(policy, account.uid);
    let counted = user_slice::headcount(root, policy, &users, &|_| Ok(due.weights()))?;
    let weight = user_slice::total(policy, counted.as_ref()).into_iter().next();
    let total = policy.logins.total_weight.as_ref().zip(weight);
    let total = total
        .map(|(declared, (property, value))| live(&SliceName::user(), property, value, &declared.origin));
    let totals = policy.logins.total.settings();
    let totals = totals.map(|s| live(&SliceName::user(), s.property, s.value, s.origin)).collect();
    let stacks = pam::stacks(root);
    let directories = policy.private_dirs.iter().map(|(variable, declared)| {
        let directory = match wanted(root, declared, &account) {
            Ok(Wanted::Nothing(reason)) => ExplainedDirectory::Nothing(reason),
            Ok(Wanted::Directory(filled)) => {
                match look(root, &filled.directory, &account, declared) {
                    // What lies on a mount of the user's own is not asked for: only a login does.
                    Ok(looked) => {
                        let notes = notes(root, &stacks, &account, variable.as_str(), &filled);
                        ExplainedDirectory::Set {
                            value: filled.value,
                            exists: looked != Looked::Missing,
                            notes,
                        }
                    }
                    Err(error) => ExplainedDirectory::Refused(format!("{error:#}")),
                }
            }
            Err(error) => ExplainedDirectory::Refused(format!("{error:#}")),
        };
        (variable.to_string(), declared.path.origin.clone(), directory)
    });
    let directories = directories.collect();
    Ok(Explained {
        candidates: candidates(policy, won)?,
        session: session(root, policy, &rule, &account, service)?,
        rule,
        settings,
        total,
        totals,
        headcount: counted,
        shared,
        directories,
        account,
    })
}

/// What in the directory is not the user's, and what sets the variable to something else.
fn notes(root: &Path, stacks: &[Stack], account: &Account, variable: &str, filled: &Filled) -> Vec<String> {
    let others = others(root, &filled.directory, account.uid).ok().flatten();
    let overridden = overridden(root, stacks, account, variable, &filled.value);
    let overridden = overridden.into_iter().map(|Assigned { file, line, value, .. }| match value {
        Some(value) => format!("{}:{line} sets {variable} to {value:?} afterwards", shown(&file)),
        None => format!("{}:{line} unsets {variable} afterwards", shown(&file)),
    });
    others.map(|others| others.to_string()).into_iter().chain(overridden).collect()
}

/// The user's own rule, if there is one, else the groups' in file order up to the one that holds, else
/// the defaults.
fn candidates<'p>(policy: &'p Policy, won: RuleOf<'p>) -> Result<Vec<(RuleOf<'p>, Option<Origin>, bool)>> {
    let logins = &policy.logins;
    let users = logins.users.iter().map(|(name, _)| RuleOf::User(name)).filter(|of| *of == won);
    let groups = logins.groups.iter().map(|(name, _)| RuleOf::Group(name));
    let rest = if won == RuleOf::Transient { won } else { RuleOf::Everybody };
    let mut candidates: Vec<_> = users.chain(groups).chain([rest]).collect();
    let end = candidates.iter().position(|of| *of == won).context("no rule holds")?;
    candidates.truncate(end + 1);
    Ok(candidates.into_iter().map(|of| (of, logins.origin(of).cloned(), of == won)).collect())
}

/// By the code that runs at the login, of a process as it will be then.
fn session(
    root: &Path,
    policy: &Policy,
    rule: &LoginRule,
    account: &Account,
    service: &str,
) -> Result<Session> {
    let Stack { modules, adopts, .. } = pam::stack(root, service)?;
    let find = |name: &str| modules.iter().position(|module| module.name == name);
    let line = |at: Option<usize>| at.and_then(|at| modules.get(at)).cloned();
    let (first, second) = (find(OURS), find(LOGINDS));
    let is_placed = second.is_some() && service != MANAGER && logind_answers(root)?;
    let is_too_early = is_placed && first < second;
    let at = if service == MANAGER {
        At::Manager(account.uid)
    } else if is_placed && !is_too_early {
        At::Session(account.uid)
    } else if adopts {
        At::Moved
    } else {
        At::Origin { of_a_unit: opens(service) != Some(Opens::Switch) }
    };
    let ours = line(first);
    let noplace = ours.as_ref().is_some_and(|ours| ours.arguments.iter().any(|word| word == "noplace"));
    let place = decide(root, policy, rule, account, Asked { user: "", service, noplace }, &Expected(at))?;
    let taken = policy.logins.sessions.iter().find(|taken| taken.value == service);
    let taken = taken.filter(|_| policy.logins.takes(service, account.uid)).map(|taken| taken.origin.clone());
    Ok(Session { is_too_early: is_too_early && ours.is_some(), ours, logind: line(second), place, taken })
}

/// A process that will be made for a session.
struct Expected(At);

impl Opener for Expected {
    fn at(&self, _: bool) -> Result<At> {
        Ok(self.0)
    }

    fn is_made_for_it(&self) -> bool {
        true
    }
}

/// Whether logind does what `pam_systemd.so` asks of it, which does not ask where it never ran (`sd_booted(3)` says
/// no more than that there is systemd). It is started when it is asked, unless it is masked.
fn logind_answers(root: &Path) -> Result<bool> {
    if !root.join(paths::LOGIND_RUNS).exists() || !is_booted(root) {
        return Ok(false);
    }
    let Ok(service) = ServiceName::new(LOGIND) else { return Ok(false) };
    let cgroup = Path::new("system.slice").join(service.as_str());
    if cgroup::attribute(root, &cgroup, "cgroup.events").is_some() && cgroup::is_populated(root, &cgroup) {
        return Ok(true);
    }
    Ok(!ServiceUnits::read(root)?.find(&service)?.is_some_and(|unit| unit.masked))
}
