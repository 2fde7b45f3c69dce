//! `fairslice private-dir adopt`: an existing cache becomes part of one user's private directory.
//!
//! Entries are moved by rename, never copied, in three steps: from the cache into a staging directory
//! that only root can enter, where nobody can change them by path; there they are looked at and given
//! to the user; and on into the private directory. What cannot be given or would replace something goes
//! back to the cache. However it is interrupted, each file is in exactly one of the three places, and
//! the next run goes on with what is in staging.
#![forbid(unsafe_code)]

mod hand_over;
mod staging;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, fstat};

use self::hand_over::Work;
use self::staging::{Staging, firm_ancestor};
use self::survey::Survey;
use super::ensure;
use super::existing::{existing, open_root};
use super::tree::{kind, look_at, names, open_directory};
use super::wanted::{filled, missing};
use crate::host::account::Account;
use crate::host::usage::{self, Process};
use crate::policy::{DirMode, Policy, PrivateDir, VariableName};

/// What is to be adopted, and by whom.
#[derive(Debug)]
pub struct Adoption {
    /// The cache: an absolute path below the root.
    source: PathBuf,
    /// The user's private directory: an absolute path below the root.
    target: PathBuf,
    /// The mode of the private directory, should it be made.
    mode: DirMode,
    user: Account,
    /// The name of the directory to work in.
    staging: OsString,
    /// The entries of the cache that stay: private directories, and what leads to them.
    kept: BTreeSet<OsString>,
    /// Of these, what must be private directories of users who are gone: one line for each.
    orphaned: Vec<String>,
}

/// What an adoption came to, or would come to.
#[derive(Debug)]
pub struct Outcome {
    /// The user's private directory.
    pub target: PathBuf,
    /// How many files, links included and directories not, are (would be) the user's now.
    pub files: u64,
    /// One line for each thing that stays where it is: what, and why.
    pub left: Vec<String>,
}

/// What counts as progress: files that were given, of how many.
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

impl Adoption {
    /// The adoption of `source` by `user`, into the directory of `variable`, or of the only variable
    /// that the user has one of.
    ///
    /// # Errors
    /// There is no such user, variable or directory, or the policy has no private directory for the
    /// user.
    pub fn new(
        root: &Path,
        policy: &Policy,
        source: &Path,
        user: &str,
        variable: Option<&str>,
    ) -> Result<Self> {
        let user = Account::by_name(user)?.with_context(|| format!("there is no user {user:?}"))?;
        let (variable, declared) = declared_for(policy, &user, variable)?;
        if let Some(only_if) = missing(root, declared) {
            bail!("{variable} is only set where {0} exists: make {0}, owned by root", only_if.value);
        }
        let target = filled(&declared.path.value, &user).map_err(Error::msg)?.directory;
        let source = plain(source)?;
        if source.starts_with(&target) {
            bail!("{} is (in) the private directory of {} already", source.display(), user.name.shown());
        }
        let staging = staging::name(variable, user.uid);
        let mut kept = BTreeSet::new();
        let mut private = vec![target.clone()];
        for dir in policy.private_dirs.values() {
            private.extend(existing(root, &dir.path.value)?.into_iter().map(|found| found.directory));
        }
        for directory in private {
            let below = directory.strip_prefix(&source).ok().and_then(|below| below.components().next());
            kept.extend(below.map(|name| name.as_os_str().to_owned()));
        }
        let mut adoption =
            Self { source, target, mode: declared.mode(), user, staging, kept, orphaned: Vec::new() };
        adoption.keep_orphaned(root)?;
        Ok(adoption)
    }

    /// Beside the user's own directory, one that only its owner could enter, of a user whom NSS does not
    /// know, was private too, whatever the user's name was.
    fn keep_orphaned(&mut self, root: &Path) -> Result<()> {
        if self.target.parent() != Some(&self.source) {
            return Ok(());
        }
        let source = open_path(root, &self.source)?;
        for name in self.to_move(&source)? {
            let Ok(stat) = look_at(&source, &name) else { continue };
            let closed = !Mode::from_bits_truncate(stat.st_mode).intersects(Mode::S_IRWXG | Mode::S_IRWXO);
            if kind(&stat) == SFlag::S_IFDIR && closed && Account::by_uid(stat.st_uid)?.is_none() {
                let why =
                    format!("the private directory of uid {}, who is gone: chown or remove it", stat.st_uid);
                self.orphaned.push(self.line(Path::new(&name), &why));
                self.kept.insert(name);
            }
        }
        Ok(())
    }

    /// What [`Adoption::run`] would do.
    ///
    /// # Errors
    /// As [`Adoption::run`].
    pub fn preview(&self, root: &Path) -> Result<Outcome> {
        let source = open_path(root, &self.source)?;
        let target = open_path(root, &self.target).ok();
        self.not_in_use(root)?;
        let mut survey = Survey::new(&self.user);
        for name in self.to_move(&source)? {
            survey.entry(&source, target.as_ref(), &name, Path::new(&name), 0);
        }
        let survey = survey.finish();
        let left = survey.stays.iter().map(|(path, why)| self.line(path, why)).collect();
        Ok(self.outcome(survey.files, left))
    }

    /// Moves all of the cache that can be moved. Run it again after it was interrupted.
    ///
    /// # Errors
    /// Nothing is lost and nothing replaced, but some may be in staging: the private directory cannot be
    /// made, is on another file system, or somebody uses the cache.
    pub fn run(&self, root: &Path, progress: &mut Progress<'_>) -> Result<Outcome> {
        let source = open_path(root, &self.source)?;
        self.not_in_use(root)?;
        let (base, base_path) = firm_ancestor(root, &self.target)?;
        self.same_file_system(&source, &base, &base_path)?;
        ensure(root, &self.target, self.user.uid, self.user.gid, self.mode)?;
        let target = open_path(root, &self.target)?;
        self.same_file_system(&source, &target, &self.target)?;
        let staging = Staging::open(&base, &base_path.join(&self.staging), self)?;
        let work = Work { adoption: self, staging, source, target };
        let done = work.adopt(root, progress);
        let closed = work.staging.close(&base, &self.staging);
        let (files, left) = done?;
        closed?;
        Ok(self.outcome(files, left))
    }

    fn outcome(&self, files: u64, mut left: Vec<String>) -> Outcome {
        left.extend(self.orphaned.iter().cloned());
        left.sort();
        Outcome { target: self.target.clone(), files, left }
    }

    fn same_file_system(&self, source: &OwnedFd, other: &OwnedFd, path: &Path) -> Result<()> {
        let device = |fd: &OwnedFd, path: &Path| {
            fstat(fd).map(|stat| stat.st_dev).with_context(|| format!("looking at {}", path.display()))
        };
        if device(source, &self.source)? == device(other, path)? { Ok(()) } else { Err(self.elsewhere(path)) }
    }

    /// The names of what is to be moved.
    fn to_move(&self, source: &OwnedFd) -> Result<Vec<OsString>> {
        let mut all = names(source).with_context(|| format!("listing {}", self.source.display()))?;
        all.retain(|name| !self.kept.contains(name) && !staging::is_one(name));
        all.sort();
        Ok(all)
    }

    /// Refuses while a process has something of the cache open, or something is mounted there.
    fn not_in_use(&self, root: &Path) -> Result<()> {
        let source = open_path(root, &self.source)?;
        let real = real_path(root, &self.source)?;
        let entries: Vec<PathBuf> = self.to_move(&source)?.iter().map(|name| real.join(name)).collect();
        let mounted = |point: &PathBuf| entries.iter().any(|entry| point.starts_with(entry));
        if let Some(point) = usage::mount_points(root)?.into_iter().find(mounted) {
            bail!("{0} is a mount point: umount {0}", point.display());
        }
        in_use(root, &entries, &self.source)
    }

    fn line(&self, path: &Path, why: &str) -> String {
        format!("{}: {why}", self.source.join(path).display())
    }

    fn elsewhere(&self, path: &Path) -> Error {
        anyhow!(
            "{} is on another file system than {}, and nothing is copied: copy it as the user (\"runuser -u {} -- cp -a\"), or declare a path on that file system",
            path.display(),
            self.source.display(),
            self.user.name.shown()
        )
    }
}

/// The variable by its name, or the only one that the user has.
fn declared_for<'a>(
    policy: &'a Policy,
    user: &Account,
    variable: Option<&str>,
) -> Result<(&'a VariableName, &'a PrivateDir)> {
    let mut all = Vec::new();
    for (name, dir) in &policy.private_dirs {
        if dir.excludes(user.name.as_str(), user.uid, |group| user.is_in(group))?.is_none() {
            all.push((name, dir));
        }
    }
    let names = all.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = variable {
        let found = all.into_iter().find(|(name, _)| name.as_str() == wanted);
        return found.with_context(|| match names.as_str() {
            "" => format!("the policy has no private directory for {}", user.name.shown()),
            names => format!("the policy has no {wanted} for {}: it has {names}", user.name.shown()),
        });
    }
    match all.as_slice() {
        [] => bail!("the policy has no private directory for {}", user.name.shown()),
        [only] => Ok(*only),
        _ => {
            bail!("{} has several private directories: add --variable with one of {names}", user.name.shown())
        }
    }
}

fn in_use(root: &Path, entries: &[PathBuf], shown: &Path) -> Result<()> {
    let users = usage::users_of(root, entries).context("finding out what is in use")?;
    let processes: BTreeMap<u32, &Process> = users.values().flatten().map(|user| (user.pid, user)).collect();
    if processes.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> = processes.values().map(ToString::to_string).collect();
    bail!("{} is in use by {}: end them, and run this again", shown.display(), listed.join(", "))
}

/// An absolute path that names one place.
fn plain(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path).with_context(|| format!("resolving {}", path.display()))?;
    if path.components().any(|component| component == Component::ParentDir) {
        bail!("{}: a path without \"..\"", path.display());
    }
    Ok(path.components().collect())
}

fn normal(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// A path below the root as `/proc` shows it.
fn real_path(root: &Path, path: &Path) -> Result<PathBuf> {
    let root = fs::canonicalize(root).with_context(|| format!("resolving {}", root.display()))?;
    Ok(root.join(path.strip_prefix("/").unwrap_or(path)))
}

/// Opens a directory, following no link on the way.
fn open_path(root: &Path, path: &Path) -> Result<OwnedFd> {
    let mut directory = open_root(root)?;
    let mut walked = PathBuf::from("/");
    for name in normal(path) {
        walked.push(name);
        directory = open_directory(&directory, name).map_err(|errno| match errno {
            // With O_NOFOLLOW, O_DIRECTORY says this of a link too.
            Errno::ENOTDIR | Errno::ELOOP => {
                anyhow!(
                    "{} is a symbolic link or no directory: give the path that it points to",
                    walked.display()
                )
            }
            errno => anyhow!("opening {}: {}", walked.display(), errno.desc()),
        })?;
    }
    Ok(directory)
}
