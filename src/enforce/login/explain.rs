//! What a login comes to, without one: for `fairslice explain login`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Context, Result};

use crate::effect::{self, Headcount};
use crate::enforce::private_dir::{Looked, Wanted, look, wanted};
use crate::enforce::{placement, user_slice};
use crate::host::account::Account;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::host::pam::{self, Module};
use crate::paths;
use crate::policy::{LoginRule, Origin, Policy, Property, RuleOf, SettingValue, SliceName};
use crate::text::shown;

const OURS: &str = "pam_fairslice.so";
const LOGINDS: &str = "pam_systemd.so";

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
    /// How it is counted with this user, if it is a sum.
    pub headcount: Option<Headcount>,
    /// Private directories, by variable.
    pub directories: Vec<(String, Origin, Directory)>,
}

/// How a PAM service's session is placed.
#[derive(Debug)]
pub enum Session {
    /// `pam_fairslice.so` is not in the stack: nothing of this is done.
    WithoutUs,
    /// logind puts it into the user's slice first.
    Placed {
        /// The line of `pam_systemd.so`.
        by: Module,
    },
    /// logind does not run: we put it there.
    PlacedHere {
        /// Our line.
        ours: Module,
    },
    /// The line of `pam_systemd.so` comes after ours: the session is not in the slice yet.
    TooEarly {
        /// Our line.
        ours: Module,
        /// That of `pam_systemd.so`.
        by: Module,
    },
    /// logind is not asked: the session stays where its program is.
    Stays {
        /// Our line.
        ours: Module,
    },
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
pub enum Directory {
    /// The variable is set to this.
    Set {
        /// Its value.
        value: String,
        /// Whether the directory is there.
        exists: bool,
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
    let (won, rule) = user_slice::rule(policy, Some(&account))?;
    let machine = Machine::read(root)?;
    let live = |slice: &SliceName, property: Property, value, origin: &Origin| {
        let live = cgroup::attribute(root, &slice.cgroup(), property.attribute);
        let holds = live.as_ref().is_some_and(|live| effect::holds(value, live, machine));
        Live { property, value, origin: origin.clone(), live, holds }
    };
    let slice = SliceName::of_user(account.uid);
    let settings = rule.resources.settings().map(|s| live(&slice, s.property, s.value, s.origin)).collect();
    let counted = user_slice::headcount(root, policy, &user_slice::users_with(root, account.uid)?)?;
    let weight = user_slice::total(policy, counted.as_ref()).into_iter().next();
    let total = policy.logins.total_weight.as_ref().zip(weight);
    let total = total
        .map(|(declared, (property, value))| live(&SliceName::user(), property, value, &declared.origin));
    let directories = policy.private_dirs.iter().map(|(variable, declared)| {
        let directory = match wanted(root, declared, &account) {
            Ok(Wanted::Nothing(reason)) => Directory::Nothing(reason),
            Ok(Wanted::Directory(filled)) => match look(root, &filled.directory, account.uid, account.gid) {
                // What lies on a mount of the user's own is not asked for: only a login does.
                Ok(looked) => Directory::Set { value: filled.value, exists: looked != Looked::Missing },
                Err(error) => Directory::Refused(format!("{error:#}")),
            },
            Err(error) => Directory::Refused(format!("{error:#}")),
        };
        (variable.to_string(), declared.path.origin.clone(), directory)
    });
    let directories = directories.collect();
    Ok(Explained {
        candidates: candidates(policy, &account, won)?,
        rule,
        session: session(root, service, &pam::session_stack(root, service)?),
        settings,
        total,
        headcount: counted,
        directories,
        account,
    })
}

/// The user's own rule, if there is one, else the groups' in file order up to the one that holds, else
/// the defaults.
fn candidates<'p>(
    policy: &'p Policy,
    account: &Account,
    won: RuleOf<'p>,
) -> Result<Vec<(RuleOf<'p>, Option<Origin>, bool)>> {
    let logins = &policy.logins;
    let users = logins.users.iter().filter(|(name, _)| account.name.as_str() == Some(name));
    let mut candidates: Vec<_> = users.map(|(name, rule)| (RuleOf::User(name), rule)).collect();
    candidates.extend(logins.groups.iter().map(|(name, rule)| (RuleOf::Group(name), rule)));
    candidates.push((RuleOf::Everybody, &logins.default));
    let end = candidates.iter().position(|(of, _)| *of == won).context("no rule holds")?;
    candidates.truncate(end + 1);
    Ok(candidates.into_iter().map(|(of, rule)| (of, rule.origin().cloned(), of == won)).collect())
}

fn session(root: &Path, service: &str, stack: &[Module]) -> Session {
    let find = |name: &str| stack.iter().enumerate().find(|(_, module)| module.name == name);
    match (find(OURS), find(LOGINDS)) {
        (None, _) => Session::WithoutUs,
        (Some((_, ours)), _)
            if placement::opens_logins(service) && !root.join(paths::LOGIND_RUNS).exists() =>
        {
            Session::PlacedHere { ours: ours.clone() }
        }
        (Some((_, ours)), None) => Session::Stays { ours: ours.clone() },
        (Some((first, ours)), Some((second, by))) if first < second => {
            Session::TooEarly { ours: ours.clone(), by: by.clone() }
        }
        (Some(_), Some((_, by))) => Session::Placed { by: by.clone() },
    }
}
