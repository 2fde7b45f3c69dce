//! What lies in a private directory: looked at through descriptors, with no link followed and no file system asked
//! that somebody has mounted there.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::stat::SFlag;
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::tree::names;
use crate::host::mount::On;

/// One thing in a directory.
pub(super) struct DirEntry {
    pub(super) name: OsString,
    pub(super) kind: FileKind,
    /// Its owner.
    pub(super) uid: u32,
    /// When it was used last, in seconds since 1970: a file, when it was read, written or linked; a directory, when
    /// something in it came or went, for whoever looks around reads directories.
    pub(super) used: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Directory,
    File,
    Link,
    /// A socket, a fifo or a device.
    Other,
    /// Something is mounted there.
    Mount,
}

/// What lies in a directory on this mount. What has gone meanwhile is left out.
///
/// # Errors
/// The directory cannot be read, or something in it cannot be looked at.
pub(super) fn entries(
    directory: &OwnedFd,
    on: On,
) -> Result<impl Iterator<Item = Result<DirEntry, Errno>>, Errno> {
    let names = names(directory)?.into_iter();
    Ok(names.map(move |name| entry(directory, on, name)).filter(|entry| !matches!(entry, Err(Errno::ENOENT))))
}

fn entry(directory: &OwnedFd, on: On, name: OsString) -> Result<DirEntry, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = statx(directory, &name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
        .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
    let format = SFlag::from_bits_truncate(u32::from(stat.stx_mode)) & SFlag::S_IFMT;
    let kind = match format {
        _ if !on.holds(&stat) => FileKind::Mount,
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFLNK => FileKind::Link,
        _ => FileKind::Other,
    };
    let changed = stat.stx_mtime.tv_sec.max(stat.stx_ctime.tv_sec);
    let used = if kind == FileKind::File { changed.max(stat.stx_atime.tv_sec) } else { changed };
    Ok(DirEntry { name, kind, uid: stat.stx_uid, used })
}
