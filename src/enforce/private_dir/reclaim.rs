//! Giving a user what others have left in the user's private directories.
//!
//! The user may look on, and change anything meanwhile. So no file is given away: it could be another name of a file
//! elsewhere. Directories have one name only. One of root's, in a directory of the user's, is given through its
//! descriptor; then all of the files lie in directories of the user's, and are replaced by copies that the user makes,
//! of what the user may read.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::fstat;
use nix::unistd::{Gid, Uid, fchownat, geteuid};

use super::as_user::AsUser;
use super::entries::{FileKind, entries};
use super::existing::Parent;
use super::make::{Looked, look};
use super::tree::open_directory;
use super::wanted::{Wanted, wanted};
use crate::host::account::Account;
use crate::host::mount::On;
use crate::policy::Policy;
use crate::text::shown;

/// How deep directories may lie in one another.
const DEEPEST: usize = 64;
/// What a copy is called until it is whole.
const COPY: &str = ".fairslice-copy";

/// What became of one user's directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// How many directories are the user's now.
    pub directories: usize,
    /// How many files and links the user has made anew.
    pub files: usize,
    /// What is left, a line each, and why.
    pub left: Vec<String>,
}

/// Gives a user what root and others have left in the user's private directories.
///
/// # Errors
/// There is no such user, this is not root, or no private directory of the user's that a login would take.
pub fn reclaim(root: &Path, policy: &Policy, user: &str) -> Result<Reclaimed> {
    ensure!(geteuid().is_root(), "giving directories to {} is root's to do", shown(user));
    let account = Account::by_name(user)?.with_context(|| format!("there is no user \"{}\"", shown(user)))?;
    let mut reclaimed = Reclaimed::default();
    for declared in policy.private_dirs.values() {
        let Wanted::Directory(filled) = wanted(root, declared, &account)? else { continue };
        let Looked::There(_) = look(root, &filled.directory, &account, declared)? else {
            continue;
        };
        let Some((private, owner)) = Parent::at(root, &filled.directory)? else { continue };
        if owner == account.uid {
            let mut walk = Walk { account: &account, on: private.on, reclaimed: &mut reclaimed };
            walk.directory(&private.descriptor, &private.path, 0);
        }
    }
    Ok(reclaimed)
}

struct Walk<'a> {
    account: &'a Account,
    on: On,
    reclaimed: &'a mut Reclaimed,
}

impl Walk<'_> {
    /// All that is in a directory of the user's.
    fn directory(&mut self, directory: &OwnedFd, path: &Path, depth: usize) {
        let inside = match entries(directory, self.on) {
            Ok(inside) => inside,
            Err(errno) => return self.leave(path, format_args!("reading it: {}", errno.desc())),
        };
        for entry in inside.flatten() {
            let path = path.join(&entry.name);
            match entry.kind {
                FileKind::Directory if depth == DEEPEST => {
                    self.leave(&path, format_args!("it lies too deep"));
                }
                FileKind::Directory => match self.open(directory, &entry.name) {
                    Ok(inner) => self.directory(&inner, &path, depth + 1),
                    Err(error) => self.leave(&path, format_args!("{error:#}")),
                },
                _ if entry.uid == self.account.uid => {}
                FileKind::File | FileKind::Link => match self.replace(directory, &entry.name, entry.kind) {
                    Ok(()) => self.reclaimed.files += 1,
                    Err(error) => self.leave(&path, format_args!("{error:#}")),
                },
                FileKind::Other | FileKind::Mount => {
                    self.leave(&path, format_args!("it is no file, link or directory"));
                }
            }
        }
    }

    fn leave(&mut self, path: &Path, why: std::fmt::Arguments<'_>) {
        self.reclaimed.left.push(format!("{} is left as it is: {why}", shown(path)));
    }

    /// A directory that is the user's, or becomes it. One that not everybody may read, or that a group may write to, may
    /// have been moved here to be given away.
    fn open(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
        let (directory, on) = open_directory(parent, self.on, name).context("opening it")?;
        ensure!(on == self.on, "it is a mount point");
        let stat = fstat(&directory).context("looking at it")?;
        let (uid, gid) = (Uid::from_raw(self.account.uid), Gid::from_raw(self.account.gid));
        if stat.st_uid == uid.as_raw() {
            return Ok(directory);
        }
        ensure!(stat.st_uid == 0, "it belongs to uid {}: remove it", stat.st_uid);
        ensure!(stat.st_mode & 0o005 == 0o005, "it is root's, and not everybody may read it: remove it");
        ensure!(stat.st_mode & 0o022 == 0, "it is root's, and others can write to it: remove it");
        fchownat(&directory, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
            .context("giving it to the user")?;
        self.reclaimed.directories += 1;
        Ok(directory)
    }

    /// The user's own copy of a file or link, in its place, with its times and the bits of its mode.
    fn replace(&self, directory: &OwnedFd, name: &OsStr, kind: FileKind) -> Result<()> {
        let _rights = AsUser::take(Uid::from_raw(self.account.uid), Gid::from_raw(self.account.gid))?;
        let here = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let (original, copy) = (here.join(name), here.join(COPY));
        // Of a run that was killed.
        let _ = fs::remove_file(&copy);
        let copied = match kind {
            FileKind::Link => {
                fs::read_link(&original).and_then(|target| symlink(target, &copy)).context("copying it")
            }
            _ => copy_file(&original, &copy),
        };
        let replaced =
            copied.and_then(|()| fs::rename(&copy, &original).context("putting a copy in its place"));
        if replaced.is_err() {
            let _ = fs::remove_file(&copy);
        }
        replaced
    }
}

/// An empty file need not be read: locks of rustc's may be read by nobody else.
fn copy_file(original: &Path, copy: &Path) -> Result<()> {
    let stat = original.symlink_metadata().context("looking at it")?;
    let mut to = OpenOptions::new();
    let mut to = to.write(true).create_new(true).mode(0o600).open(copy).context("making a copy")?;
    if stat.len() > 0 {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let from = OpenOptions::new().read(true).custom_flags(flags).open(original);
        io::copy(&mut from.context("reading it as the user (remove it)")?, &mut to).context("copying it")?;
    }
    // Not what makes a program run as its owner.
    to.set_permissions(Permissions::from_mode(stat.permissions().mode() & 0o777))
        .context("setting its mode")?;
    let times = FileTimes::new().set_accessed(stat.accessed()?).set_modified(stat.modified()?);
    to.set_times(times).context("setting its times")
}
