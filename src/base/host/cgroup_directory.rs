//! Directories of cgroupfs.
//!
//! A cgroup's path can be longer than any that the kernel takes, and any bytes but a line end and a `/` can be in
//! its name.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::Errno;

use crate::paths;

/// `PATH_MAX`, without the byte that ends it.
pub(super) const LONGEST_PATH: usize = 4095;
/// How far cgroups are read below one that PID 1 hands over. What is further down counts in its figures all the
/// same; a user can nest thousands. Nothing that is meant comes near it: a pod's container whose systemd runs
/// containers is 7 levels down.
pub const DEEPEST: usize = 32;
/// How many cgroups are read in all below those that PID 1 hands over. A node of Kubernetes has at most 500 pods.
pub const MOST: usize = 10_000;

/// Opens the directory of a cgroup, a path that is too long for the kernel in pieces.
///
/// # Errors
/// There is none, or it cannot be opened.
pub fn open_cgroup(root: &Path, cgroup: &Path) -> io::Result<OwnedFd> {
    let path = root.join(paths::CGROUPFS).join(cgroup);
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok(open(&path, DIRECTORY, Mode::empty())?);
    }
    let mut directory = open(root.join(paths::CGROUPFS), DIRECTORY, Mode::empty())?;
    let mut piece = PathBuf::new();
    for name in cgroup {
        if piece.as_os_str().len() + 1 + name.len() > LONGEST_PATH {
            directory = open_in(&directory, &piece)?;
            piece = PathBuf::new();
        }
        piece.push(name);
    }
    Ok(open_in(&directory, &piece)?)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens the directory of a cgroup in this one.
pub(super) fn open_in(directory: impl AsFd, name: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    openat(directory, name.as_ref(), DIRECTORY, Mode::empty())
}

/// Reads an attribute.
pub(super) fn read_in(directory: impl AsFd, attribute: &str) -> io::Result<String> {
    let file = openat(directory, attribute, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text)?;
    Ok(text)
}

/// The names of the cgroups in one of those in this directory, sorted; `.` is the directory itself.
///
/// It has 2 links, and 1 for each cgroup in it. Reading the directory, which lists every attribute, takes ten times
/// as long. A file system that does not count says 1.
///
/// # Errors
/// The directory is gone, or cannot be read.
pub fn cgroups_in(directory: impl AsFd, name: &OsStr) -> Result<Vec<OsString>, Errno> {
    let directory = directory.as_fd();
    if statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_nlink == 2 {
        return Ok(Vec::new());
    }
    let entries = Dir::new(open_in(directory, name)?)?.flatten();
    let cgroups = entries.filter(|entry| entry.file_type() == FileType::Directory);
    let names = cgroups.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    let mut names: Vec<OsString> = names.filter(|name| name != "." && name != "..").collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether that is what comes back for a cgroup that has gone away.
#[must_use]
pub fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NODEV)
}
