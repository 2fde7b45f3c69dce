//! `max_age`: which private directories systemd-tmpfiles is to age in the run that is about to start.
//!
//! A directory is listed by its own path. A glob for all of them would also match what lies beside
//! them, such as the shared cache that was there before, and follow a link in the middle of a path.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::existing::{Parent, parents};
use super::wanted::filled;
use crate::host::account::Account;
use crate::host::usage::{Directory, Usage, usage};
use crate::paths;
use crate::policy::{MaxAge, PathTemplate, Policy};
use crate::text::shown;

const HEADER: &str =
    "# Made by \"fairslice private-dir tmpfiles\" for one run of systemd-tmpfiles-clean.service.\n";
/// How many processes are named that could not be looked at.
const MOST_NAMED: usize = 5;

/// Lists the private directories that are to be aged and that no process uses, in a snippet of
/// `tmpfiles.d(5)`. The lines that come back say which are left out although nobody is known to use them, and
/// what could not be looked at.
///
/// # Errors
/// Processes or users cannot be told, or the snippet cannot be written. There is none then, and nothing is
/// aged.
pub fn list(root: &Path, policy: &Policy) -> Result<Vec<String>> {
    let file = root.join(paths::TMPFILES);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", shown(&file)));
        }
        _ => {}
    }
    let Aged { directories, mut said, .. } = to_be_aged(root, policy)?;
    // /proc shows paths without links.
    let real_root = fs::canonicalize(root).with_context(|| format!("resolving {}", shown(root)))?;
    let real = |directory: &Path| real_root.join(directory.strip_prefix("/").unwrap_or(directory));
    let all: Vec<Directory> =
        directories.iter().map(|(path, (owner, _))| Directory { path: real(path), owner: *owner }).collect();
    let usage = usage(root, &all).context("finding out what is in use")?;
    said.extend(unread(&usage));

    let mut text = HEADER.to_owned();
    for (directory, (_, age)) in &directories {
        let (place, shown) = (real(directory), shown(directory));
        // Writing to a string cannot fail.
        let _ = match (usage.used.get(&place), usage.unknown.get(&place)) {
            (Some(process), _) => writeln!(text, "# {shown}: in use by {process}"),
            (None, Some(process)) => {
                said.push(format!("{shown} is not aged: {process} may use it"));
                writeln!(text, "# {shown}: may be in use by {process}")
            }
            (None, None) => writeln!(text, "e {} - - - {age}", field(directory)),
        };
    }
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", shown(parent)))?;
    }
    if let Err(error) = fs::write(&file, text) {
        // Half a line could name another directory.
        let _ = fs::remove_file(&file);
        return Err(error).with_context(|| format!("writing {}", shown(&file)));
    }
    Ok(said)
}

/// The processes that could not be looked at, in one line.
fn unread(usage: &Usage) -> Option<String> {
    let mut named: Vec<String> =
        usage.unread.iter().take(MOST_NAMED).map(|(process, error)| format!("{process}: {error}")).collect();
    let count = usage.unread.len();
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

/// The private directories of variables with `max_age`. Where somebody else could put another one in
/// its place while systemd-tmpfiles is on its way, a directory is left out.
fn to_be_aged(root: &Path, policy: &Policy) -> Result<Aged> {
    let mut aged = Aged::default();
    for (variable, dir) in &policy.private_dirs {
        let Some(max_age) = &dir.max_age else { continue };
        let parents = parents(root, &dir.path.value)?;
        let lines = parents.unread.into_iter().map(|line| format!("{variable}: not aged: {line}"));
        aged.said.extend(lines);
        for parent in parents.found {
            if parent.firm {
                aged.children(&parent, &dir.path.value, max_age.value)?;
            } else {
                let shown = shown(&parent.path);
                aged.said
                    .push(format!("{variable}: nothing in {shown} is aged: others than root can change it"));
            }
        }
    }
    Ok(aged)
}

impl Aged {
    /// Every directory in `parent` that is at the path that its owner's has.
    fn children(&mut self, parent: &Parent<'_>, template: &PathTemplate, age: MaxAge) -> Result<()> {
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
                    if self.path_of(owner, template)?.as_ref() == Some(&path) {
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

    /// Where a user's directory is, if NSS knows the user.
    fn path_of(&mut self, uid: u32, template: &PathTemplate) -> Result<Option<PathBuf>> {
        let account = match self.accounts.entry(uid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Account::by_uid(uid)?),
        };
        Ok(account.as_ref().and_then(|account| filled(template, account).ok()).map(|filled| filled.directory))
    }
}

/// A path as `tmpfiles.d(5)` takes it: quoted, and without a meaning to specifiers and globs. What is no
/// printable ASCII is escaped: no name can end the line.
#[must_use]
pub fn field(path: &Path) -> String {
    let mut field = String::from("\"");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => field.push_str("%%"),
            // A backslash for the glob, itself escaped for the quotes.
            b'*' | b'?' | b'[' | b']' | b'{' | b'}' => field.extend(['\\', '\\', char::from(*byte)]),
            b'\\' => field.push_str(r"\\\\"),
            b'"' => field.push_str("\\\""),
            b' '..=b'~' => field.push(char::from(*byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(field, "\\x{byte:02x}")),
        }
    }
    field.push('"');
    field
}
