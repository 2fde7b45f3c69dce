//! Files and directories through descriptors: no link is followed, no other file system entered.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use rustix::fs::RenameFlags;

const DIRECTORY: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

/// Opens what stands at `name` as a directory, on whatever file system it is.
pub(super) fn open_directory(parent: &impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    nix::fcntl::openat(parent, name, DIRECTORY, Mode::empty())
}

/// As [`open_directory`]; a mount point is refused with `EXDEV`.
pub(super) fn open_same_mount(parent: &impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    same_mount(parent, name, DIRECTORY)
}

/// Opens what stands at `name`, a link itself too, to be looked at and given away: `O_PATH`.
pub(super) fn open_entry(parent: &impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    same_mount(parent, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
}

fn same_mount(parent: &impl AsFd, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    openat2(parent, name, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV))
}

/// What stands at `name`, a link itself too.
pub(super) fn look_at(parent: &impl AsFd, name: &OsStr) -> Result<FileStat, Errno> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The type bits of a mode.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The names in a directory, all read before the first is used.
pub(super) fn names(directory: &impl AsFd) -> Result<Vec<OsString>, Errno> {
    // A descriptor of its own: the position in the directory is not shared.
    let mut listing = Dir::openat(directory, ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Moves an entry to another directory of the same file system, under its name; `EEXIST` where there is
/// one of that name.
pub(super) fn rename(from: &impl AsFd, name: &OsStr, to: &impl AsFd) -> Result<(), Errno> {
    rename_as(from, name, to, name)
}

/// As [`rename`], under another name.
pub(super) fn rename_as(from: &impl AsFd, name: &OsStr, to: &impl AsFd, new: &OsStr) -> Result<(), Errno> {
    rustix::fs::renameat_with(from, name, to, new, RenameFlags::NOREPLACE)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}
