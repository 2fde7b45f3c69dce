//! What is wrong with the private directories that exist, and with those of who is logged in.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

use super::existing::parents;
use super::make::{Looked, look};
use super::others::{Others, others};
use super::overridden::overridden;
use super::refused::{Fault, Refused};
use super::wanted::{Wanted, wanted};
use crate::host::account::Account;
use crate::host::assigned::Assigned;
use crate::host::pam;
use crate::policy::{DirMode, Origin, PathTemplate, Policy, PrivateDir};
use crate::text::Foreign;

/// A private directory of one user, as far as something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The variable of `[private_dir.VARIABLE]`.
    pub variable: String,
    /// Where the policy declares it.
    pub origin: Origin,
    /// The user's name.
    pub user: Foreign,
    /// What is wrong.
    pub trouble: Trouble,
    /// The path that is wrong: the directory, or one above it. Absolute.
    pub path: PathBuf,
    /// What a login says of it: what is wrong, and what to do.
    pub said: String,
    /// Whether it lies in a directory of the user's, who can put anything in its place.
    pub in_users: bool,
}

/// What can be wrong with a private directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It belongs to somebody else.
    Owner,
    /// Others may write to it.
    Writable,
    /// Others may do with it what the declared mode does not let them; a login takes it all the same.
    Mode {
        /// The bits of its mode.
        is: u32,
        /// The mode that one gets that is made.
        declared: DirMode,
    },
    /// A directory above it belongs to somebody else than root and the user.
    Above,
    /// Others can write to a directory above it.
    Open {
        /// Whether a group shares it, which is to keep it.
        shared: bool,
    },
    /// The members of a group can, whom the policy does not trust.
    Group,
    /// Somebody else than root and the user has mounted it, or a directory above it.
    Mounted,
    /// It is a link or no directory.
    Kind,
    /// A directory above it is.
    KindAbove,
    /// Something in it belongs to others.
    Others(Others),
    /// The variable does not keep what the login has set it to.
    Overridden(Assigned),
    /// It cannot be made or reached.
    Refused {
        /// A command, if there is one.
        remedy: Option<String>,
    },
}

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
    let stacks = pam::stacks(root);
    for (variable, declared) in &policy.private_dirs {
        for account in owners(root, &declared.path.value, logged_in, &mut unread)? {
            // A name that does not belong in a path is the login's to complain of.
            let Ok(Wanted::Directory(filled)) = wanted(root, declared, &account) else { continue };
            let overridden = overridden(root, &stacks, &account, variable.as_str(), &filled.value);
            let overridden = overridden.into_iter().map(|assigned| {
                let said = format!("it is read after the login has set {variable} to {}", filled.value);
                (Trouble::Overridden(assigned.clone()), assigned.file, said)
            });
            let troubles = trouble(root, declared, &filled.directory, &account).into_iter().chain(overridden);
            for (trouble, path, said) in troubles {
                let (variable, user) = (variable.to_string(), account.name.clone());
                let origin = declared.path.origin.clone();
                let above = path.parent().and_then(|above| fs::symlink_metadata(below(root, above)).ok());
                let in_users = above.is_some_and(|above| above.uid() == account.uid);
                found.push(Inspected { variable, origin, user, trouble, path, said, in_users });
            }
        }
    }
    Ok((found, unread))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn trouble(
    root: &Path,
    declared: &PrivateDir,
    directory: &Path,
    account: &Account,
) -> Option<(Trouble, PathBuf, String)> {
    match look(root, directory, account, declared) {
        Ok(Looked::There(mode)) => {
            open_to_others(mode, declared, directory).or_else(|| with_others(root, directory, account))
        }
        Ok(Looked::Missing | Looked::OnUsersMount) => None,
        Err(error) => {
            let said = format!("{error:#}");
            let Some(refused) = error.downcast_ref::<Refused>() else {
                // Without root's rights it is this program that is refused.
                return geteuid()
                    .is_root()
                    .then(|| (Trouble::Refused { remedy: None }, directory.to_owned(), said));
            };
            let trouble = match refused.why {
                Fault::Kind if refused.path == directory => Trouble::Kind,
                Fault::Kind => Trouble::KindAbove,
                Fault::Owner => Trouble::Owner,
                Fault::Writable => Trouble::Writable,
                Fault::Above => Trouble::Above,
                Fault::Open => {
                    let mode = fs::symlink_metadata(below(root, &refused.path)).map_or(0, |stat| stat.mode());
                    Trouble::Open { shared: mode & 0o2020 == 0o2020 }
                }
                Fault::Group => Trouble::Group,
                Fault::Mounted => Trouble::Mounted,
                Fault::Missing => Trouble::Refused { remedy: refused.remedy.clone() },
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

/// What root builds there with the user's variables, the user cannot build any more.
fn with_others(root: &Path, directory: &Path, account: &Account) -> Option<(Trouble, PathBuf, String)> {
    // What cannot be reached, a login says.
    let others = others(root, directory, account.uid).ok().flatten()?;
    let said =
        "root built there with the user's variables (sudo -E, su), or something was moved there".to_owned();
    Some((Trouble::Others(others), directory.to_owned(), said))
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
        return somebody(root, owners);
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
    somebody(root, owners)
}

/// Where nobody is logged in and nobody has a directory yet, as after an installation, the first person whom
/// `/etc/passwd` names: what would be refused on the way, is refused for all.
fn somebody(root: &Path, mut owners: BTreeMap<u32, Account>) -> Result<Vec<Account>> {
    if owners.is_empty() {
        let passwd = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        let uids = passwd.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok());
        for uid in uids.filter(|uid| *uid >= PrivateDir::MIN_UID && *uid != PrivateDir::NOBODY).take(1) {
            owners.extend(Account::by_uid(uid)?.map(|account| (account.uid, account)));
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
