//! Directories through descriptors: no link is followed, and nothing that somebody else mounted is asked.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode};

use crate::host::mount::On;

pub(super) const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// To walk through a directory, the right to search it is enough: a home on NFS is closed to root.
pub const ON_THE_WAY: OFlag = DIRECTORY.union(OFlag::O_PATH);
/// The bits of a mode with which others than the owner can change what is in a directory.
pub const WRITABLE_BY_OTHERS: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// What stands at `name` in a directory on this mount, a directory open to be walked through, and the mount that it
/// lies on. Nothing of what may be mounted there has been asked for yet.
///
/// # Errors
/// There is nothing, or no directory, or it cannot be opened.
pub fn open_directory(parent: &impl AsFd, on: On, name: &OsStr) -> Result<(OwnedFd, On), Errno> {
    let here = OpenHow::new().flags(ON_THE_WAY).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    if let Ok(descriptor) = openat2(parent, name, here) {
        return Ok((descriptor, on));
    }
    let descriptor = openat(parent, name, ON_THE_WAY, Mode::empty())?;
    let on = On::of(&descriptor)?;
    Ok((descriptor, on))
}

/// Whether nobody but root can change what is in a directory.
#[must_use]
pub fn only_roots(stat: &FileStat) -> bool {
    stat.st_uid == 0 && !mode(stat).intersects(WRITABLE_BY_OTHERS)
}

/// The bits of a mode, without the kind of file.
#[must_use]
pub fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode)
}

/// The names in a directory, all read before the first is used.
///
/// # Errors
/// The directory cannot be read.
pub fn names(directory: &impl AsFd) -> Result<Vec<OsString>, Errno> {
    // A descriptor of its own: the position in the directory is not shared.
    let mut listing = Dir::openat(directory, ".", DIRECTORY | OFlag::O_RDONLY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}
