//! Which private directories a user gets.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstat};

use super::tree::{ON_THE_WAY, only_roots, open_directory};
use crate::host::account::Account;
use crate::host::mount::On;
use crate::policy::{DirectoryOwner, Filled, PathTemplate, PrivateDir, Sourced};

/// What a user gets of one private directory of the policy's.
#[derive(Debug)]
pub enum Wanted {
    /// This directory, and the variable.
    Directory(Filled),
    /// Nothing, and why: `fairslice explain` says it, a login does not.
    Nothing(String),
}

/// What a user gets of a declared private directory.
///
/// # Errors
/// The user's name does not belong in a path.
pub fn wanted(root: &Path, declared: &PrivateDir, account: &Account) -> Result<Wanted> {
    if let Some(reason) = declared.excludes(account)? {
        return Ok(Wanted::Nothing(reason));
    }
    if let Some(missing) = missing(root, declared) {
        let reason = format!("{} does not exist (only_if, {})", missing.value, missing.origin);
        return Ok(Wanted::Nothing(reason));
    }
    filled(&declared.path.value, account).map(Wanted::Directory).map_err(anyhow::Error::msg)
}

/// The path of `only_if`, if there is none.
fn missing<'d>(root: &Path, declared: &'d PrivateDir) -> Option<&'d Sourced<String>> {
    // The root itself has no other name below it.
    let is_missing = |path: &str| !exists(root, &Path::new(".").join(path.trim_start_matches('/')));
    declared.only_if.as_ref().filter(|only_if| is_missing(&only_if.value))
}

/// Whether there is something at a path below the root. Of what cannot be looked at there is.
///
/// A file system of FUSE is not asked, unless it is root's mount: its server need not answer, and a login would
/// wait for it. So it is something, and what makes the directory says whose it is.
fn exists(root: &Path, path: &Path) -> bool {
    let Ok(mut directory) = open(root, ON_THE_WAY, Mode::empty()) else { return true };
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let plain = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    match openat2(&directory, path, plain) {
        Ok(_) => return true,
        Err(Errno::ENOENT) => return false,
        // A mount point or a link: step by step.
        Err(_) => {}
    }
    let Ok(mut on) = On::of(&directory) else { return true };
    for name in path {
        let (next, next_on) = match open_directory(&directory, on, name) {
            Ok(opened) => opened,
            Err(Errno::ENOENT) => return false,
            // No directory: a link is followed where it is root's.
            Err(Errno::ENOTDIR | Errno::ELOOP) if fstat(&directory).is_ok_and(|stat| only_roots(&stat)) => {
                let found = fs::symlink_metadata(root.join(path));
                return !found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            }
            Err(_) => return true,
        };
        if next_on != on && next_on.mounted_by(root).ok() != Some(0) {
            return true;
        }
        (directory, on) = (next, next_on);
    }
    true
}

/// The template for one user.
///
/// # Errors
/// The user's name, group or home does not belong in a path.
pub fn filled(template: &PathTemplate, account: &Account) -> Result<Filled, String> {
    let group = if template.names_group() { account.group() } else { String::new() };
    let user = account.name.as_str().ok_or("the user's name is not UTF-8")?;
    template.fill(DirectoryOwner { user, uid: account.uid, group: &group, home: &account.home })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::unistd::geteuid;

    use super::*;

    #[test]
    fn what_exists() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("srv/cache")).unwrap();
        fs::write(root.path().join("srv/file"), "").unwrap();
        symlink("cache", root.path().join("srv/link")).unwrap();
        symlink("none", root.path().join("srv/dangling")).unwrap();
        fs::create_dir(root.path().join("srv/cache/in")).unwrap();
        for path in ["srv", "srv/cache", "srv/file", "srv/link", "srv/link/in", "srv/dangling", "."] {
            assert!(exists(root.path(), Path::new(path)), "{path}");
        }
        for path in ["none", "srv/none", "srv/none/in"] {
            assert!(!exists(root.path(), Path::new(path)), "{path}");
        }
        // A link that is not root's is something that a login refuses.
        for path in ["srv/link/none", "srv/dangling/in"] {
            assert_eq!(exists(root.path(), Path::new(path)), !geteuid().is_root(), "{path}");
        }
    }
}
