//! What of a tree can be given away, and what not.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::dev_t;
use nix::sys::stat::{FileStat, SFlag};

use crate::enforce::private_dir::tree::{kind, look_at, names, open_same_mount};
use crate::host::account::Account;

/// Each level costs a descriptor.
const DEEPEST: usize = 256;

/// What stays where it is: its path, and why.
pub(super) type Stays = BTreeMap<PathBuf, String>;

/// Looks at a tree before any of it is given away.
pub(super) struct Survey<'a> {
    user: &'a Account,
    files: u64,
    stays: Stays,
    links: HashMap<(dev_t, u64), Links>,
}

/// The names of one file that has several.
struct Links {
    count: u64,
    seen: Vec<PathBuf>,
}

/// What a survey came to.
pub(super) struct Looked {
    /// How many files can be given.
    pub(super) files: u64,
    /// What stays.
    pub(super) stays: Stays,
}

impl<'a> Survey<'a> {
    pub(super) fn new(user: &'a Account) -> Self {
        Self { user, files: 0, stays: Stays::new(), links: HashMap::new() }
    }

    /// What is in a directory; `target` is the one that it would be merged into.
    pub(super) fn directory(
        &mut self,
        directory: &OwnedFd,
        target: Option<&OwnedFd>,
        at: &Path,
        depth: usize,
    ) {
        match names(directory) {
            Ok(names) => {
                for name in names {
                    self.entry(directory, target, &name, &at.join(&name), depth);
                }
            }
            Err(errno) => self.stay(at, errno.desc()),
        }
    }

    pub(super) fn entry(
        &mut self,
        parent: &OwnedFd,
        target: Option<&OwnedFd>,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) {
        let stat = match look_at(parent, name) {
            Ok(stat) => stat,
            Err(errno) => return self.stay(path, errno.desc()),
        };
        let there = target.and_then(|target| look_at(target, name).ok());
        match kind(&stat) {
            SFlag::S_IFDIR => {
                if depth == DEEPEST {
                    return self.stay(path, &format!("more than {DEEPEST} directories deep"));
                }
                let merged = match (target, there) {
                    (Some(target), Some(_)) => match open_same_mount(target, name) {
                        Ok(merged) => Some(merged),
                        Err(_) => return self.taken(path),
                    },
                    _ => None,
                };
                match open_same_mount(parent, name) {
                    Ok(directory) => self.directory(&directory, merged.as_ref(), path, depth + 1),
                    Err(Errno::EXDEV) => self.stay(path, "a mount point: umount it"),
                    Err(errno) => self.stay(path, errno.desc()),
                }
            }
            SFlag::S_IFREG | SFlag::S_IFLNK if there.is_some() => self.taken(path),
            SFlag::S_IFREG | SFlag::S_IFLNK => self.file(&stat, path),
            _ => self.stay(path, "no file, directory or link: remove it"),
        }
    }

    fn file(&mut self, stat: &FileStat, path: &Path) {
        self.files += 1;
        // What is the user's already is not given, wherever its other names are.
        if stat.st_nlink > 1 && stat.st_uid != self.user.uid {
            let new = || Links { count: stat.st_nlink, seen: Vec::new() };
            self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(new).seen.push(path.to_owned());
        }
    }

    fn taken(&mut self, path: &Path) {
        self.stay(path, "the private directory has one of that name: compare them, and remove one");
    }

    fn stay(&mut self, path: &Path, why: &str) {
        self.stays.insert(path.to_owned(), why.to_owned());
    }

    /// A file with a name elsewhere may be anybody's: giving it away would be giving away theirs.
    pub(super) fn finish(mut self) -> Looked {
        for Links { count, seen } in self.links.into_values() {
            let inside = u64::try_from(seen.len()).unwrap_or(u64::MAX);
            if count > inside {
                self.files -= inside;
                let why = format!(
                    "{} of its {count} hard links are elsewhere: find them with -samefile",
                    count - inside
                );
                self.stays.extend(seen.into_iter().map(|path| (path, why.clone())));
            }
        }
        Looked { files: self.files, stays: self.stays }
    }
}
