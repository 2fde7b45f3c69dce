//! What is wrong with the private directories that exist, and with those of who is logged in.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::existing::parents;
use super::make::{Looked, look};
use super::refused::{Refused, Why};
use super::wanted::{Wanted, wanted};
use crate::effect::doctor::directories::{Inspected, Trouble};
use crate::host::account::Account;
use crate::policy::{PathTemplate, Policy, PrivateDir};

/// Looks at the private directory of every user who has one and of `logged_in`, as a login does, and
/// changes nothing. Who is not root cannot tell what a login would meet, and leaves out what they may not
/// look at.
///
/// The second list says what could not be looked at, one line for each.
///
/// # Errors
/// NSS failed.
pub fn inspect(root: &Path, policy: &Policy, logged_in: &[u32]) -> Result<(Vec<Inspected>, Vec<String>)> {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for (variable, declared) in &policy.private_dirs {
        for account in owners(root, &declared.path.value, logged_in, &mut unread)? {
            // A name that does not belong in a path is the login's to complain of.
            let Ok(Wanted::Directory(filled)) = wanted(root, declared, &account) else { continue };
            if let Some((trouble, path, said)) = trouble(root, declared, &filled.directory, &account) {
                let (variable, user) = (variable.to_string(), account.name);
                let origin = declared.path.origin.clone();
                found.push(Inspected { variable, origin, user, trouble, path, said });
            }
        }
    }
    Ok((found, unread))
}

fn trouble(
    root: &Path,
    declared: &PrivateDir,
    directory: &Path,
    account: &Account,
) -> Option<(Trouble, PathBuf, String)> {
    match look(root, directory, account.uid, account.gid) {
        Ok(Looked::There(mode)) => open_to_others(mode, declared, directory),
        Ok(Looked::Missing | Looked::OnUsersMount) => None,
        Err(error) => {
            let said = format!("{error:#}");
            let Some(refused) = error.downcast_ref::<Refused>() else {
                // Without root's rights it is this program that is refused.
                return geteuid().is_root().then(|| (Trouble::Refused, directory.to_owned(), said));
            };
            let trouble = match refused.why {
                Why::Kind => Trouble::Kind,
                Why::Owner => Trouble::Owner,
                Why::Writable => Trouble::Writable,
                Why::Above => Trouble::Above,
                Why::Open => Trouble::Open,
                Why::Mounted => Trouble::Mounted,
                Why::Missing => Trouble::Refused,
            };
            Some((trouble, refused.path.clone(), said))
        }
    }
}

/// A mode that gives others more than the declared one does.
fn open_to_others(mode: Mode, declared: &PrivateDir, directory: &Path) -> Option<(Trouble, PathBuf, String)> {
    let (is, wanted) = (mode.bits() & 0o7777, declared.mode());
    (is & 0o077 & !wanted.bits() != 0).then(|| {
        let said =
            format!("made before the mode was declared, or changed by the user ({})", declared.path.origin);
        (Trouble::Mode { is, declared: wanted }, directory.to_owned(), said)
    })
}

/// The users who may have a directory: those logged in, and those whose name or number stands where the
/// template has it.
fn owners(
    root: &Path,
    template: &PathTemplate,
    logged_in: &[u32],
    unread: &mut Vec<String>,
) -> Result<Vec<Account>> {
    let mut owners = BTreeMap::new();
    for uid in logged_in {
        owners.extend(Account::by_uid(*uid)?.map(|account| (account.uid, account)));
    }
    let Some(last) = template.made().last().filter(|_| !template.in_home()) else {
        return Ok(owners.into_values().collect());
    };
    let parents = parents(root, template)?;
    unread.extend(parents.unread);
    let mut names = Vec::new();
    for parent in parents.found {
        match parent.names() {
            Ok(found) => names.extend(found),
            Err(error) => unread.push(format!("{error:#}")),
        }
    }
    for name in names {
        // No name that a login would make is anything else than UTF-8.
        let Some(name) = name.to_str() else { continue };
        for (placeholder, is_number) in [("{user}", false), ("{uid}", true)] {
            let Some(owner) = filled_in(last, placeholder, name) else { continue };
            let account = match owner.parse() {
                Ok(uid) if is_number => Account::by_uid(uid)?,
                _ if is_number => None,
                _ => Account::by_name(owner)?,
            };
            owners.extend(account.map(|account| (account.uid, account)));
        }
    }
    Ok(owners.into_values().collect())
}

/// What stands in `name` where `like` has `placeholder`, which is all that differs.
fn filled_in<'n>(like: &str, placeholder: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = like.split_once(placeholder)?;
    name.strip_prefix(before)?.strip_suffix(after).filter(|owner| !owner.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        assert_eq!(filled_in("{user}", "{user}", "alice"), Some("alice"));
        assert_eq!(filled_in("build-{uid}.d", "{uid}", "build-1000.d"), Some("1000"));
        for (like, placeholder, name) in
            [("{user}", "{uid}", "alice"), ("x-{user}", "{user}", "alice"), ("x-{user}", "{user}", "x-")]
        {
            assert_eq!(filled_in(like, placeholder, name), None);
        }
    }
}
