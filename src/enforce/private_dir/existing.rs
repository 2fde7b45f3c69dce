//! The private directories that exist.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::tree::{names, open_directory};
use super::wanted::filled;
use crate::host::account::Account;
use crate::policy::PathTemplate;
use crate::text::shown;

/// A private directory that exists.
#[derive(Debug)]
pub(super) struct Found {
    /// As the policy has it, below the root.
    pub(super) directory: PathBuf,
    /// Whether only root can put another directory in its place.
    pub(super) firm: bool,
}

/// Every directory that `template` stands for and that belongs to the user whom it is for, of those
/// users that NSS knows. Those below home directories are not looked for.
pub(super) fn existing(root: &Path, template: &PathTemplate) -> Result<Vec<Found>> {
    let components: Vec<&str> = if template.in_home() { Vec::new() } else { template.made().collect() };
    let mut search = Search { template, accounts: HashMap::new(), found: Vec::new() };
    if !components.is_empty() {
        let fd = open_root(root)?;
        let firm = only_roots(&fstat(&fd).context("looking at the root directory")?);
        search.descend(&fd, Path::new("/"), &components, firm)?;
    }
    Ok(search.found)
}

struct Search<'a> {
    template: &'a PathTemplate,
    /// The path that each owner's directory has.
    accounts: HashMap<u32, Option<PathBuf>>,
    found: Vec<Found>,
}

impl Search<'_> {
    fn descend(&mut self, parent: &OwnedFd, at: &Path, components: &[&str], firm: bool) -> Result<()> {
        let Some((component, below)) = components.split_first() else { return Ok(()) };
        let candidates = if component.contains('{') {
            names(parent).with_context(|| format!("listing {}", shown(&at)))?
        } else {
            vec![OsStr::new(component).to_owned()]
        };
        for name in candidates {
            // What is missing, a link or no directory is nobody's private directory.
            let Ok(fd) = open_directory(parent, &name) else { continue };
            let path = at.join(&name);
            let stat = fstat(&fd).with_context(|| format!("looking at {}", shown(&path)))?;
            if below.is_empty() {
                if self.of(stat.st_uid)? == Some(&path) {
                    self.found.push(Found { directory: path, firm });
                }
            } else {
                self.descend(&fd, &path, below, firm && only_roots(&stat))?;
            }
        }
        Ok(())
    }

    /// Where the private directory of a user is.
    fn of(&mut self, uid: u32) -> Result<Option<&PathBuf>> {
        if !self.accounts.contains_key(&uid) {
            let account = Account::by_uid(uid)?;
            let filled = account.and_then(|account| filled(self.template, &account).ok());
            self.accounts.insert(uid, filled.map(|filled| filled.directory));
        }
        Ok(self.accounts.get(&uid).and_then(Option::as_ref))
    }
}

/// Whether nobody but root can change what is in a directory.
pub(super) fn only_roots(stat: &FileStat) -> bool {
    let mode = Mode::from_bits_truncate(stat.st_mode);
    stat.st_uid == 0 && !mode.intersects(Mode::S_IWGRP | Mode::S_IWOTH)
}

pub(super) fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    open(root, flags, Mode::empty()).map_err(Error::from).with_context(|| format!("opening {}", shown(&root)))
}
