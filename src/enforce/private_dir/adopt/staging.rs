//! The directory in which an adoption works: only root can enter it.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};

use super::{Adoption, normal};
use crate::enforce::private_dir::existing::{only_roots, open_root};
use crate::enforce::private_dir::tree::{open_directory, rename_as};
use crate::host::account::Account;
use crate::policy::VariableName;

/// How the directory's name begins; the variable and the user's number follow.
const PREFIX: &str = ".fairslice-adopt.";
/// In staging: what is being adopted.
pub(super) const TREE: &str = "tree";
/// In staging: a link to the directory that it comes from.
const FROM: &str = "from";
/// In staging: a directory that is being made.
const NEW: &str = "new";

/// The staging directory's name: the same whenever the same user adopts for the same variable.
pub(super) fn name(variable: &VariableName, uid: u32) -> OsString {
    OsString::from(format!("{PREFIX}{variable}.{uid}"))
}

/// Whether this is the name of a staging directory, anybody's.
pub(super) fn is_one(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The last directory above `target` up to which only root can change anything.
pub(super) fn firm_ancestor(root: &Path, target: &Path) -> Result<(OwnedFd, PathBuf)> {
    let mut directory = open_root(root)?;
    let mut walked = PathBuf::from("/");
    if !only_roots(&fstat(&directory).context("looking at the root directory")?) {
        bail!("the root directory can be changed by others than root: chown root /; chmod go-w /");
    }
    for name in normal(target.parent().unwrap_or(target)) {
        let next = open_directory(&directory, name)
            .map_err(|errno| anyhow!("opening {}: {}", walked.join(name).display(), errno.desc()))?;
        if !only_roots(&fstat(&next).with_context(|| format!("looking at {}", walked.join(name).display()))?)
        {
            break;
        }
        directory = next;
        walked.push(name);
    }
    Ok((directory, walked))
}

/// The directory that only root can enter.
pub(super) struct Staging {
    /// Where it is, below the root.
    pub(super) path: PathBuf,
    directory: File,
    /// What is being adopted.
    pub(super) tree: OwnedFd,
}

impl Staging {
    /// Makes it, or opens the one that an interrupted adoption of the same cache has left.
    pub(super) fn open(base: &OwnedFd, path: &Path, adoption: &Adoption) -> Result<Self> {
        let shown = path.display();
        match mkdirat(base, adoption.staging.as_os_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => bail!("making {shown}: {}", errno.desc()),
        }
        let directory = open_directory(base, &adoption.staging)
            .map_err(|errno| anyhow!("opening {shown}: {}", errno.desc()))?;
        let stat = fstat(&directory).with_context(|| format!("looking at {shown}"))?;
        if stat.st_uid != 0 || stat.st_mode & 0o077 != 0 {
            bail!("{shown} is not root's alone: move it away");
        }
        let directory = File::from(directory);
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{shown} is locked: another adoption is at work"),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {shown}")),
        }
        match readlinkat(&directory, FROM) {
            Ok(from) if Path::new(&from) == adoption.source => {}
            Ok(from) => bail!(
                "the adoption of {0} was interrupted: finish it first (\"fairslice private-dir adopt {0} --to {1}\")",
                from.display(),
                adoption.user.name.shown()
            ),
            Err(Errno::ENOENT) => symlinkat(&adoption.source, &directory, FROM)
                .map_err(|errno| anyhow!("making {shown}/{FROM}: {}", errno.desc()))?,
            Err(errno) => bail!("reading {shown}/{FROM}: {}", errno.desc()),
        }
        // Empty, if an interrupted run has left it.
        let _ = unlinkat(&directory, NEW, UnlinkatFlags::RemoveDir);
        match mkdirat(&directory, TREE, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => bail!("making {shown}/{TREE}: {}", errno.desc()),
        }
        let tree = open_directory(&directory, OsStr::new(TREE))
            .map_err(|errno| anyhow!("opening {shown}/{TREE}: {}", errno.desc()))?;
        Ok(Self { path: path.to_owned(), directory, tree })
    }

    /// Removes it, unless something is left in there.
    pub(super) fn close(&self, base: &OwnedFd, name: &OsStr) -> Result<()> {
        let removed = unlinkat(&self.directory, TREE, UnlinkatFlags::RemoveDir)
            .and_then(|()| unlinkat(&self.directory, FROM, UnlinkatFlags::NoRemoveDir))
            .and_then(|()| unlinkat(base, name, UnlinkatFlags::RemoveDir));
        match removed {
            Ok(()) | Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(()),
            Err(errno) => bail!("removing {}: {}", self.path.display(), errno.desc()),
        }
    }

    /// Makes a directory of the user's, first where only root can reach it.
    pub(super) fn make_directory(
        &self,
        user: &Account,
        to: &OwnedFd,
        name: &OsStr,
        mode: Mode,
    ) -> Result<(), Errno> {
        mkdirat(&self.directory, NEW, Mode::S_IRWXU)?;
        let fresh = open_directory(&self.directory, OsStr::new(NEW))?;
        fchown(&fresh, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
        fchmod(fresh.as_fd(), mode)?;
        let placed = rename_as(&self.directory, OsStr::new(NEW), to, name);
        if placed.is_err() {
            let _ = unlinkat(&self.directory, NEW, UnlinkatFlags::RemoveDir);
        }
        placed
    }
}
