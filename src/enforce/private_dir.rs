//! A user's private directory: made and checked so that nobody else can have a hand in it.
//!
//! The path is walked from `/` by open descriptors, following no link, through directories that
//! only root can change (or sticky ones, where nobody can take away what is root's). The last
//! component is made as root, empty and 0700, and given to the user through its descriptor. What
//! is there already is accepted or refused, never repaired.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

const OPEN_DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_RDONLY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NONBLOCK);
/// The private directory's own mode.
const PRIVATE: Mode = Mode::S_IRWXU;
const WRITABLE_BY_OTHERS: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// Makes `directory`, an absolute path below `root`, for the user, unless it is there and the
/// user's own.
///
/// # Errors
/// A component is missing, is a link, is no directory or could be changed by someone other than
/// root; or what stands at the path is not a directory that is the user's, and that only the user
/// can change.
pub(super) fn ensure(root: &Path, directory: &Path, uid: u32, gid: u32) -> Result<()> {
    let (parent, last) = walk(root, directory)?;
    match mkdirat(&parent, last, PRIVATE) {
        Ok(()) => give(&parent, last, uid, gid).with_context(|| directory.display().to_string()),
        Err(Errno::EEXIST) => look(root, directory, uid).map(drop),
        Err(errno) => Err(errno).with_context(|| format!("making {}", directory.display())),
    }
}

/// Whether the directory is there and the user's own; `false` where [`ensure`] would make it.
///
/// # Errors
/// Those of [`ensure`].
pub(super) fn look(root: &Path, directory: &Path, uid: u32) -> Result<bool> {
    let (parent, last) = walk(root, directory)?;
    match openat(&parent, last, OPEN_DIRECTORY, Mode::empty()) {
        Ok(existing) => check_private(directory, &fstat(&existing)?, uid).map(|()| true),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(refused(directory, errno)),
    }
}

/// The last but one of the path's directories, and the last one's name.
fn walk<'a>(root: &Path, directory: &'a Path) -> Result<(OwnedFd, &'a std::ffi::OsStr)> {
    let mut components: Vec<_> = directory
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let last = components.pop().context("the path has no last component")?;
    let mut parent = open(root, OPEN_DIRECTORY, Mode::empty()).context("opening the root directory")?;
    let mut walked = std::path::PathBuf::from("/");
    for name in components {
        check_trusted(&walked, &fstat(&parent)?)?;
        walked.push(name);
        parent =
            openat(&parent, name, OPEN_DIRECTORY, Mode::empty()).map_err(|errno| refused(&walked, errno))?;
    }
    check_trusted(&walked, &fstat(&parent)?)?;
    Ok((parent, last))
}

/// Gives a directory that was just made to the user. It cannot have been replaced: it is root's,
/// in a directory that only root can change or that is sticky.
fn give(parent: &OwnedFd, name: &std::ffi::OsStr, uid: u32, gid: u32) -> Result<()> {
    let made = openat(parent, name, OPEN_DIRECTORY, Mode::empty()).context("opening it after making it")?;
    // mkdir(2) takes the umask and a set-group-ID parent into account; this does not.
    fchmod(made.as_fd(), PRIVATE).context("setting its mode")?;
    fchown(made.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("giving it to the user")
}

/// A directory on the way: nobody but root may be able to put another in its place.
fn check_trusted(path: &Path, stat: &FileStat) -> Result<()> {
    let mode = Mode::from_bits_truncate(stat.st_mode);
    if stat.st_uid != 0 {
        bail!("{} belongs to uid {}, not to root: chown root {0}", path.display(), stat.st_uid);
    }
    if mode.intersects(WRITABLE_BY_OTHERS) && !mode.contains(Mode::S_ISVTX) {
        bail!("{} can be changed by others than root: chmod go-w or +t {0}", path.display());
    }
    Ok(())
}

/// What stands at the private path already.
fn check_private(path: &Path, stat: &FileStat, uid: u32) -> Result<()> {
    if stat.st_uid != uid {
        bail!("{} belongs to uid {}, not to the user: move it away", path.display(), stat.st_uid);
    }
    if Mode::from_bits_truncate(stat.st_mode).intersects(WRITABLE_BY_OTHERS) {
        bail!("{} can be changed by others than the user: chmod go-w {0}", path.display());
    }
    Ok(())
}

fn refused(path: &Path, errno: Errno) -> anyhow::Error {
    match errno {
        Errno::ELOOP => anyhow::anyhow!("{} is a symbolic link, which is not followed", path.display()),
        // With O_NOFOLLOW, O_DIRECTORY says this of a link too.
        Errno::ENOTDIR => anyhow::anyhow!("{} is a symbolic link or no directory", path.display()),
        Errno::ENOENT => anyhow::anyhow!("{} does not exist: make it, owned by root", path.display()),
        errno => anyhow::anyhow!("opening {}: {}", path.display(), errno.desc()),
    }
}
