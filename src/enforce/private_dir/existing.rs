//! The directories that private ones lie in.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{open, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::tree::{ON_THE_WAY, WRITABLE_BY_OTHERS, mode, names, only_roots, open_directory};
use crate::host::mount::On;
use crate::policy::PathTemplate;
use crate::text::shown;

/// As many links as the kernel follows: `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// A directory that private ones may lie in.
pub(super) struct Parent<'r> {
    root: &'r Path,
    /// As the policy has it, below the root.
    pub(super) path: PathBuf,
    pub(super) descriptor: OwnedFd,
    pub(super) on: On,
    /// Whether only root can put something else in the place of what is in it.
    pub(super) firm: bool,
    /// Whether others than root can put something into it, and nothing in the place of what is root's.
    pub(super) sticky: bool,
}

/// What is looked for, and what could not be looked at.
#[derive(Default)]
pub(super) struct Parents<'r> {
    pub(super) found: Vec<Parent<'r>>,
    /// One line for each: what was tried, on what, what came back.
    pub(super) unread: Vec<String>,
}

/// Every directory that is a parent of one that `template` stands for. None of those below home directories.
///
/// Where others than root can change a directory, only what is named in the template is looked at further: they
/// choose what else there is.
///
/// # Errors
/// The root directory cannot be opened.
pub(super) fn parents<'r>(root: &'r Path, template: &PathTemplate) -> Result<Parents<'r>> {
    let components: Vec<&str> = if template.in_home() { Vec::new() } else { template.made().collect() };
    let mut parents = Parents::default();
    if let Some((_, above)) = components.split_last() {
        parents.descend(Parent::root(root)?, above);
    }
    Ok(parents)
}

impl<'r> Parents<'r> {
    fn descend(&mut self, parent: Parent<'r>, components: &[&str]) {
        let Some((component, below)) = components.split_first() else { return self.found.push(parent) };
        let candidates = match component.contains('{') {
            true if !parent.firm => return self.found.push(parent),
            true => match parent.names() {
                Ok(names) => names,
                Err(error) => return self.unread.push(format!("{error:#}")),
            },
            false => vec![OsString::from(component)],
        };
        for name in candidates {
            match parent.child(&name) {
                Ok(Some((child, _))) => self.descend(child, below),
                Ok(None) => {}
                Err(error) => self.unread.push(format!("{error:#}")),
            }
        }
    }
}

impl<'r> Parent<'r> {
    /// The root directory itself.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn root(root: &'r Path) -> Result<Self> {
        let looking = || format!("opening {}", shown(root));
        let descriptor = open(root, ON_THE_WAY, Mode::empty()).with_context(looking)?;
        let (stat, on) =
            (fstat(&descriptor).with_context(looking)?, On::of(&descriptor).with_context(looking)?);
        let path = PathBuf::from("/");
        Ok(Self { root, path, descriptor, on, firm: only_roots(&stat), sticky: is_sticky(&stat) })
    }

    /// The directory at an absolute path, and its owner: [`Self::child`] from the root on, also over links that only
    /// root can change, as a login takes them.
    ///
    /// # Errors
    /// Those of [`Self::child`].
    pub(super) fn at(root: &'r Path, path: &Path) -> Result<Option<(Self, u32)>> {
        let mut path = path.to_owned();
        'links: for _ in 0..MOST_LINKS {
            let mut found = (Self::root(root)?, 0);
            let mut names = path.strip_prefix("/").unwrap_or(&path).iter();
            while let Some(name) = names.next() {
                if let Some(next) = found.0.child(name)? {
                    found = next;
                } else if let Some(target) = found.0.link(name) {
                    path = found.0.path.join(target).join(names.as_path());
                    continue 'links;
                } else {
                    return Ok(None);
                }
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// Where a link leads that only root can change, and that does not lead up.
    fn link(&self, name: &OsStr) -> Option<PathBuf> {
        let target = PathBuf::from(readlinkat(&self.descriptor, name).ok().filter(|_| self.firm)?);
        let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        target.components().all(is_plain).then_some(target)
    }

    /// What is in it.
    ///
    /// # Errors
    /// It cannot be listed.
    pub(super) fn names(&self) -> Result<Vec<OsString>> {
        names(&self.descriptor).with_context(|| format!("listing {}", shown(&self.path)))
    }

    /// The directory of that name, and its owner. What is missing, a link or no directory is nobody's private
    /// directory; nor is what somebody else than root has mounted, which may say of itself what it likes, or
    /// not answer.
    ///
    /// # Errors
    /// It is somebody's mount, or cannot be looked at.
    pub(super) fn child(&self, name: &OsStr) -> Result<Option<(Self, u32)>> {
        let path = self.path.join(name);
        let (descriptor, on) = match open_directory(&self.descriptor, self.on, name) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
            opened => opened.with_context(|| format!("opening {}", shown(&path)))?,
        };
        let looking = || format!("looking at {}", shown(&path));
        if on != self.on {
            let by = on.mounted_by(self.root).with_context(looking)?;
            ensure!(by == 0, "{} was mounted by uid {by}", shown(&path));
        }
        let stat = fstat(&descriptor).with_context(looking)?;
        let (firm, sticky) = (self.firm && only_roots(&stat), is_sticky(&stat));
        Ok(Some((Self { root: self.root, path, descriptor, on, firm, sticky }, stat.st_uid)))
    }
}

fn is_sticky(stat: &FileStat) -> bool {
    mode(stat).contains(Mode::S_ISVTX) && mode(stat).intersects(WRITABLE_BY_OTHERS)
}
