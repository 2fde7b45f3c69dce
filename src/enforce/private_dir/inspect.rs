//! What is wrong with the private directories that exist, and with those of who is logged in.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::unistd::geteuid;

use super::make::look;
use super::refused::{Refused, Why};
use super::wanted::{Wanted, wanted};
use crate::effect::doctor::directories::{Inspected, Trouble};
use crate::host::account::Account;
use crate::host::directory;
use crate::policy::{PathTemplate, Policy, PrivateDir};

/// Looks at the private directory of every user who has one and of `logged_in`, as a login does, and
/// changes nothing. Who is not root cannot tell what a login would meet, and leaves out what they may not
/// look at.
///
/// # Errors
/// NSS failed.
pub fn inspect(root: &Path, policy: &Policy, logged_in: &[u32]) -> Result<Vec<Inspected>> {
    let mut found = Vec::new();
    for (variable, declared) in &policy.private_dirs {
        for account in owners(root, &declared.path.value, logged_in)? {
            // A name that does not belong in a path is the login's to complain of.
            let Ok(Wanted::Directory(filled)) = wanted(root, declared, &account) else { continue };
            if let Some((trouble, path, said)) = trouble(root, declared, &filled.directory, &account) {
                let (variable, user) = (variable.to_string(), account.name);
                let origin = declared.path.origin.clone();
                found.push(Inspected { variable, origin, user, trouble, path, said });
            }
        }
    }
    Ok(found)
}

fn trouble(
    root: &Path,
    declared: &PrivateDir,
    directory: &Path,
    account: &Account,
) -> Option<(Trouble, PathBuf, String)> {
    match look(root, directory, account.uid, account.gid) {
        Ok(true) => open_to_others(root, declared, directory),
        Ok(false) => None,
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
                Why::Missing => Trouble::Refused,
            };
            Some((trouble, refused.path.clone(), said))
        }
    }
}

/// A mode that gives others more than the declared one does.
fn open_to_others(
    root: &Path,
    declared: &PrivateDir,
    directory: &Path,
) -> Option<(Trouble, PathBuf, String)> {
    let metadata = fs::symlink_metadata(root.join(directory.strip_prefix("/").ok()?)).ok()?;
    let (is, wanted) = (metadata.permissions().mode() & 0o7777, declared.mode());
    (is & 0o077 & !wanted.bits() != 0).then(|| {
        let said =
            format!("made before the mode was declared, or changed by the user ({})", declared.path.origin);
        (Trouble::Mode { is, declared: wanted }, directory.to_owned(), said)
    })
}

/// The users who may have a directory: those logged in, and those whose name or number stands where the
/// template has it.
fn owners(root: &Path, template: &PathTemplate, logged_in: &[u32]) -> Result<Vec<Account>> {
    let mut owners = BTreeMap::new();
    for uid in logged_in {
        owners.extend(Account::by_uid(*uid)?.map(|account| (account.uid, account)));
    }
    let components: Vec<&str> = if template.in_home() { Vec::new() } else { template.made().collect() };
    for name in last_names(root, &components) {
        for (placeholder, is_number) in [("{user}", false), ("{uid}", true)] {
            let Some(owner) = components.last().and_then(|like| filled_in(like, placeholder, &name)) else {
                continue;
            };
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

/// The names in the directories that private ones lie in; links on the way are not followed.
fn last_names(root: &Path, components: &[&str]) -> Vec<String> {
    let Some((_, above)) = components.split_last() else { return Vec::new() };
    let names_in = |directory: &Path| directory::names(directory).unwrap_or_default();
    let mut directories = vec![root.to_owned()];
    for component in above {
        let below = directories.iter().flat_map(|directory| {
            if component.contains('{') { names_in(directory) } else { vec![(*component).to_owned()] }
                .into_iter()
                .map(|name| directory.join(name))
        });
        directories =
            below.filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())).collect();
    }
    directories.iter().flat_map(|directory| names_in(directory)).collect()
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
