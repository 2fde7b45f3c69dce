//! `max_age`: removing what nobody has used for so long from cargo's private directories.
//!
//! What goes is a whole directory right in a private one: a profile (`debug`), a target, a workspace's build
//! directory. Cargo makes it anew as a whole. Of a single file that is missing it knows nothing: where a build script
//! had written it, every later build fails.
//!
//! All of it is done with the user's own rights: whatever stands there, the user may replace it at any moment.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::hash_map::{self, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Uid};

use super::as_user::AsUser;
use super::entries::{DirEntry, FileKind, entries};
use super::existing::{Parent, parents};
use super::make::look;
use super::tree::open_directory;
use super::wanted::filled;
use crate::host::account::Account;
use crate::host::in_use::{Directory, InUse, in_use};
use crate::host::mount::On;
use crate::policy::{MaxAge, Policy, PrivateDir};
use crate::text::shown;

/// What is about to be deleted is called so: out of cargo's sight, and what is left of it goes in the next run.
const AGED: &str = ".fairslice-aged";
/// How many processes are named that could not be looked at.
const MOST_NAMED: usize = 5;
/// How deep directories may lie in one another: cargo's do not exceed a dozen.
const DEEPEST: usize = 64;

/// Removes what nobody has used for longer than `max_age` says, as of `now`, from the private directories that no
/// process uses. One line for each thing that was removed, is left out although nobody is known to use it, or could
/// not be looked at.
///
/// # Errors
/// Processes or users cannot be told. Then nothing is removed.
pub fn age(root: &Path, policy: &Policy, now: SystemTime) -> Result<Vec<String>> {
    let Aged { directories, mut said, accounts } = to_be_aged(root, policy)?;
    // /proc shows paths without links.
    let real_root = fs::canonicalize(root).with_context(|| format!("resolving {}", shown(root)))?;
    let real = |directory: &Path| real_root.join(directory.strip_prefix("/").unwrap_or(directory));
    let all: Vec<Directory> =
        directories.iter().map(|(path, (owner, _))| Directory { path: real(path), owner: *owner }).collect();
    let in_use = in_use(root, &all).context("finding out what is in use")?;
    said.extend(unread(&in_use));
    for (path, (owner, age)) in &directories {
        let place = real(path);
        if in_use.used.contains_key(&place) {
            continue;
        }
        if let Some(process) = in_use.unknown.get(&place) {
            said.push(format!("{} is not aged: {process} may use it", shown(path)));
            continue;
        }
        let Some(Some(account)) = accounts.get(owner) else { continue };
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let oldest = i64::try_from(since_epoch.saturating_sub(age.seconds())).unwrap_or(i64::MAX);
        let cleaned = Parent::at(root, path).and_then(|found| match found {
            Some((private, now)) if now == *owner => clean(&private, account, oldest, &mut said),
            _ => Ok(()),
        });
        if let Err(error) = cleaned {
            said.push(format!("{} is not aged: {error:#}", shown(path)));
        }
    }
    Ok(said)
}

/// The processes that could not be looked at, in one line.
fn unread(in_use: &InUse) -> Option<String> {
    let mut named: Vec<String> =
        in_use.unread.iter().take(MOST_NAMED).map(|(process, error)| format!("{process}: {error}")).collect();
    let count = in_use.unread.len();
    if let more @ 1.. = count.saturating_sub(MOST_NAMED) {
        named.push(format!("and {more} more"));
    }
    let processes = if count == 1 { "process" } else { "processes" };
    (count > 0).then(|| format!("{count} {processes} could not be looked at: {}", named.join(", ")))
}

/// What is to be aged.
#[derive(Default)]
struct Aged {
    /// The directories, each with its owner and the age.
    directories: BTreeMap<PathBuf, (u32, MaxAge)>,
    /// One line for each thing that is left out.
    said: Vec<String>,
    accounts: HashMap<u32, Option<Account>>,
}

/// The private directories of variables with `max_age`. One that a login would refuse is left out.
fn to_be_aged(root: &Path, policy: &Policy) -> Result<Aged> {
    let mut aged = Aged::default();
    for (variable, dir) in &policy.private_dirs {
        let Some(max_age) = &dir.max_age else { continue };
        let parents = parents(root, &dir.path.value)?;
        let lines = parents.unread.into_iter().map(|line| format!("{variable}: not aged: {line}"));
        aged.said.extend(lines);
        for parent in parents.found {
            aged.children(root, &parent, dir, max_age.value)?;
        }
    }
    Ok(aged)
}

impl Aged {
    /// Every directory in `parent` that is at the path that its owner's has.
    fn children(&mut self, root: &Path, parent: &Parent<'_>, dir: &PrivateDir, age: MaxAge) -> Result<()> {
        let names = match parent.names() {
            Ok(names) => names,
            Err(error) => {
                self.said.push(format!("not aged: {error:#}"));
                return Ok(());
            }
        };
        for name in names {
            match parent.child(&name) {
                Ok(Some((Parent { path, .. }, owner))) => {
                    let Some(account) = self.account(owner)? else { continue };
                    let own = filled(&dir.path.value, account).map(|filled| filled.directory);
                    if own.as_ref() != Ok(&path) {
                        continue;
                    }
                    if let Err(error) = look(root, &path, account, dir) {
                        self.said.push(format!("{} is not aged: {error:#}", shown(&path)));
                    } else {
                        // Two variables may share a directory: the longer age holds for both.
                        let (_, longest) = self.directories.entry(path).or_insert((owner, age));
                        *longest = age.max(*longest);
                    }
                }
                Ok(None) => {}
                Err(error) => self.said.push(format!("not aged: {error:#}")),
            }
        }
        Ok(())
    }

    /// The user of this number, if NSS knows one.
    fn account(&mut self, uid: u32) -> Result<Option<&Account>> {
        let account = match self.accounts.entry(uid) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(new) => new.insert(Account::by_uid(uid)?),
        };
        Ok(account.as_ref())
    }
}

/// Removes every directory right in a private one of which nothing was used since `oldest`, in seconds since 1970.
fn clean(private: &Parent<'_>, account: &Account, oldest: i64, said: &mut Vec<String>) -> Result<()> {
    let _rights = AsUser::take(Uid::from_raw(account.uid), Gid::from_raw(account.gid))?;
    // The directory that was checked, whatever has come to stand at its path.
    let here = PathBuf::from(format!("/proc/self/fd/{}", private.descriptor.as_raw_fd()));
    let gone = here.join(AGED);
    if gone.symlink_metadata().is_ok() {
        remove(&gone).with_context(|| format!("removing {AGED} of an earlier run"))?;
    }
    let found = entries(&private.descriptor, private.on).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.context("listing it")?;
    let is_candidate = |entry: &DirEntry| entry.kind == FileKind::Directory && entry.used <= oldest;
    for entry in found.into_iter().filter(is_candidate) {
        let mut look = Look { owner: account.uid, on: private.on, oldest, locks: Vec::new() };
        let taken = look
            .is_old(&private.descriptor, &entry.name, Path::new(&entry.name), 0)
            // What cargo has made has such a lock somewhere.
            .and_then(|is_old| {
                Ok(is_old && !look.locks.is_empty() && take_away(&here, &entry.name, &look.locks)?)
            });
        let path = private.path.join(&entry.name);
        match taken {
            Ok(true) => said.push(format!("{} is removed: nobody has used it for so long", shown(&path))),
            Ok(false) => {}
            Err(error) => said.push(format!("{} is not aged: {error:#}", shown(&path))),
        }
    }
    Ok(())
}

/// A look at a directory with all that is in it.
struct Look {
    owner: u32,
    on: On,
    oldest: i64,
    /// Cargo's, by their paths below the private directory.
    locks: Vec<PathBuf>,
}

impl Look {
    /// Whether nothing in a directory was used since `oldest`.
    ///
    /// # Errors
    /// It cannot be told, or not all of it is the user's to remove.
    fn is_old(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, depth: usize) -> Result<bool> {
        let reading = || format!("reading {}", shown(path));
        let (directory, on) = open_directory(parent, self.on, name).with_context(reading)?;
        ensure!(on == self.on, "{} is a mount point", shown(path));
        ensure!(depth < DEEPEST, "{} lies too deep", shown(path));
        for entry in entries(&directory, self.on).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if entry.used > self.oldest {
                return Ok(false);
            }
            let path = path.join(&entry.name);
            let place = shown(&path);
            ensure!(entry.kind != FileKind::Mount, "{place} is a mount point");
            ensure!(
                entry.uid == self.owner,
                "{place} belongs to uid {}: see \"fairslice doctor\"",
                entry.uid
            );
            match entry.kind {
                FileKind::Directory if !self.is_old(&directory, &entry.name, &path, depth + 1)? => {
                    return Ok(false);
                }
                // What listens there is not seen, and does not show in its times.
                FileKind::Other | FileKind::Mount => bail!("{place} is a socket, a fifo or a device"),
                FileKind::File if is_lock(&entry.name) => self.locks.push(path),
                FileKind::File | FileKind::Directory | FileKind::Link => {}
            }
        }
        Ok(true)
    }
}

/// Cargo holds one of these for as long as it builds.
fn is_lock(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".cargo-") && name.ends_with(b"lock")
}

/// Takes a directory out of sight while nobody builds in it, then deletes it. `false`: somebody builds.
///
/// A build that begins in between waits for the lock, and makes the directory anew.
fn take_away(here: &Path, name: &OsStr, locks: &[PathBuf]) -> Result<bool> {
    let mut held = Vec::new();
    for path in locks {
        let lock = open_lock(&here.join(path)).with_context(|| format!("opening {}", shown(path)))?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => held.push(lock),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(false),
            Err((_, errno)) => bail!("locking {}: {}", shown(path), errno.desc()),
        }
    }
    let gone = here.join(AGED);
    fs::rename(here.join(name), &gone).context("renaming it")?;
    drop(held);
    remove(&gone).with_context(|| format!("removing it, by the name {AGED}"))?;
    Ok(true)
}

fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)
}

/// Removes a directory, also where there are some in it that their owner may not write to: what a build script has
/// unpacked is often so.
fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(directory, 0)?;
            fs::remove_dir_all(directory)
        }
        removed => removed,
    }
}

fn open_up(directory: &Path, depth: usize) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && depth < DEEPEST {
            open_up(&entry.path(), depth + 1)?;
        }
    }
    Ok(())
}
