//! From the cache into staging, there to the user, and on into the private directory, or back.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat};

use super::staging::{Staging, TREE};
use super::survey::{Looked, Stays, Survey};
use super::{Adoption, Progress, in_use, real_path};
use crate::enforce::private_dir::tree::{kind, look_at, names, open_entry, open_same_mount, rename};
use crate::host::account::Account;

/// An adoption at work, with all that it works on open.
pub(super) struct Work<'a> {
    pub(super) adoption: &'a Adoption,
    pub(super) staging: Staging,
    pub(super) source: OwnedFd,
    pub(super) target: OwnedFd,
}

impl Work<'_> {
    /// How many files the user got, and what stays where it is, and why.
    pub(super) fn adopt(&self, root: &Path, progress: &mut Progress<'_>) -> Result<(u64, Vec<String>)> {
        let mut before = 0;
        if !names(&self.staging.tree)?.is_empty() {
            // From a run that was interrupted. What stays goes back to the cache, and is seen again.
            (before, _) = self.settle(root, progress)?;
        }
        let not_taken = self.take_in()?;
        let (files, mut left) = self.settle(root, progress)?;
        left.extend(not_taken);
        Ok((before + files, left))
    }

    /// From the cache into staging. The lines name what is not taken.
    fn take_in(&self) -> Result<Vec<String>> {
        let mut not_taken = Vec::new();
        for name in self.adoption.to_move(&self.source)? {
            match rename(&self.source, &name, &self.staging.tree) {
                // Somebody has removed it.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EXDEV) => return Err(self.adoption.elsewhere(&self.staging.path)),
                Err(Errno::EEXIST) => {
                    let why = "one of that name is left of an interrupted adoption";
                    not_taken.push(self.adoption.line(Path::new(&name), why));
                }
                Err(errno) => not_taken.push(self.adoption.line(Path::new(&name), errno.desc())),
            }
        }
        Ok(not_taken)
    }

    /// What is in staging is given to the user and moved on, or goes back; see [`Work::adopt`].
    fn settle(&self, root: &Path, progress: &mut Progress<'_>) -> Result<(u64, Vec<String>)> {
        let tree = real_path(root, &self.staging.path)?.join(TREE);
        // Somebody may have opened something since we looked.
        if let Err(error) = in_use(root, &[tree], &self.adoption.source) {
            put_back(&self.staging.tree, &self.source, Path::new(""), &mut Vec::new());
            return Err(error);
        }
        let mut survey = Survey::new(&self.adoption.user);
        survey.directory(&self.staging.tree, Some(&self.target), Path::new(""), 0);
        let Looked { files, stays } = survey.finish();
        let mut gift =
            Gift { user: &self.adoption.user, stays, partly: HashSet::new(), given: 0, files, progress };
        // All is given before anything moves on: the links of a file are counted in one place.
        gift.give_directory(&self.staging.tree, Path::new(""));
        let mut moving = Moving { work: self, stays: gift.stays, partly: gift.partly, given: gift.given };
        moving.directory(&self.staging.tree, &self.target, Path::new(""));

        let Moving { mut stays, given, .. } = moving;
        let mut stuck = Vec::new();
        put_back(&self.staging.tree, &self.source, Path::new(""), &mut stuck);
        for path in stuck {
            let now = self.staging.path.join(TREE).join(&path);
            let why = stays.remove(&path).unwrap_or_else(|| "not adopted".to_owned());
            stays.insert(path, format!("{why}; it is now {}", now.display()));
        }
        Ok((given, stays.iter().map(|(path, why)| self.adoption.line(path, why)).collect()))
    }
}

/// From staging back into the cache. What cannot go back, because its place was taken meanwhile, is
/// `stuck`.
fn put_back(from: &OwnedFd, to: &OwnedFd, at: &Path, stuck: &mut Vec<PathBuf>) {
    for name in names(from).unwrap_or_default() {
        let path = at.join(&name);
        if rename(from, &name, to).is_ok() {
            continue;
        }
        match (open_same_mount(from, &name), open_same_mount(to, &name)) {
            (Ok(inner), Ok(outer)) => {
                put_back(&inner, &outer, &path, stuck);
                // Not empty: what is in there is stuck.
                let _ = unlinkat(from, name.as_os_str(), UnlinkatFlags::RemoveDir);
            }
            _ => stuck.push(path),
        }
    }
}

/// Gives a tree to the user.
struct Gift<'a, 'p> {
    user: &'a Account,
    stays: Stays,
    /// Directories that cannot be moved whole, because something in them stays. They keep their owner.
    partly: HashSet<PathBuf>,
    given: u64,
    /// How many there are to give.
    files: u64,
    progress: &'a mut Progress<'p>,
}

impl Gift<'_, '_> {
    /// Whether all that is in the directory was given.
    fn give_directory(&mut self, directory: &OwnedFd, at: &Path) -> bool {
        let mut whole = true;
        match names(directory) {
            Ok(names) => {
                for name in names {
                    whole &= self.give_entry(directory, &name, &at.join(&name));
                }
            }
            Err(errno) => whole = self.stay(at, errno),
        }
        whole
    }

    fn give_entry(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path) -> bool {
        if self.stays.contains_key(path) {
            return false;
        }
        let directory = match look_at(parent, name) {
            Ok(stat) if kind(&stat) == SFlag::S_IFDIR => open_same_mount(parent, name).map(Some),
            Ok(_) => Ok(None),
            Err(errno) => Err(errno),
        };
        match directory {
            Ok(Some(directory)) => {
                if !self.give_directory(&directory, path) {
                    self.partly.insert(path.to_owned());
                    return false;
                }
                let given = fchown(
                    &directory,
                    Some(Uid::from_raw(self.user.uid)),
                    Some(Gid::from_raw(self.user.gid)),
                );
                given.map_or_else(|errno| self.stay(path, errno), |()| true)
            }
            Ok(None) => match self.give_file(parent, name) {
                Ok(()) => {
                    self.given += 1;
                    (self.progress)(self.given, self.files);
                    true
                }
                Err(errno) => self.stay(path, errno),
            },
            Err(errno) => self.stay(path, errno),
        }
    }

    /// A file or a link itself. What runs with its owner's rights loses that first.
    fn give_file(&self, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let entry = open_entry(parent, name)?;
        let stat = fstat(&entry)?;
        if stat.st_uid == self.user.uid {
            return Ok(());
        }
        let mode = Mode::from_bits_truncate(stat.st_mode);
        if kind(&stat) == SFlag::S_IFREG && mode.intersects(Mode::S_ISUID | Mode::S_ISGID) {
            // Nobody else can come in here and put another at the name.
            let plain = mode.difference(Mode::S_ISUID | Mode::S_ISGID);
            fchmodat(parent, name, plain, FchmodatFlags::FollowSymlink)?;
        }
        let (uid, gid) = (Uid::from_raw(self.user.uid), Gid::from_raw(self.user.gid));
        fchownat(&entry, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
    }

    fn stay(&mut self, path: &Path, errno: Errno) -> bool {
        self.stays.insert(path.to_owned(), format!("cannot be given: {}", errno.desc()));
        false
    }
}

/// Moves what was given into the private directory.
struct Moving<'a> {
    work: &'a Work<'a>,
    stays: Stays,
    partly: HashSet<PathBuf>,
    given: u64,
}

impl Moving<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, at: &Path) {
        for name in names(from).unwrap_or_default() {
            let path = at.join(&name);
            if self.stays.contains_key(&path) {
                continue;
            }
            if !self.partly.contains(&path) {
                match rename(from, &name, to) {
                    Ok(()) => continue,
                    // Two directories become one.
                    Err(Errno::EEXIST) => {}
                    Err(errno) => {
                        self.stay(path, errno);
                        continue;
                    }
                }
            }
            match self.merge(from, to, &name, &path) {
                Ok(()) => {}
                Err(errno) => self.stay(path, errno),
            }
        }
    }

    fn merge(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), Errno> {
        let stat = look_at(from, name)?;
        if kind(&stat) != SFlag::S_IFDIR {
            self.given -= 1;
            return Err(Errno::EEXIST);
        }
        let inner = open_same_mount(from, name)?;
        let mode = Mode::from_bits_truncate(stat.st_mode);
        let outer = match open_same_mount(to, name) {
            Err(Errno::ENOENT) => {
                self.work.staging.make_directory(&self.work.adoption.user, to, name, mode)?;
                open_same_mount(to, name)?
            }
            opened => opened?,
        };
        self.directory(&inner, &outer, path);
        // Not empty: what is in there stays.
        let _ = unlinkat(from, name, UnlinkatFlags::RemoveDir);
        Ok(())
    }

    fn stay(&mut self, path: PathBuf, errno: Errno) {
        self.stays.insert(path, format!("cannot be moved: {}", errno.desc()));
    }
}
