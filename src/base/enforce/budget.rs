//! Who shares the weight of a group, and is logged in.
//!
//! A login does not ask NSS about others: each member is recorded, with the others' records beside it. What an
//! administrator changes of a group holds at the next login of whom it is about, or with `fairslice apply`.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::own;
use crate::host::cgroup;
use crate::host::directory::names;
use crate::paths;
use crate::text::shown;

/// Those of a group's recorded members who are logged in.
///
/// # Errors
/// cgroupfs cannot be read.
pub(super) fn present(root: &Path, group: &str) -> Result<BTreeSet<u32>> {
    let recorded = recorded(&directory(root, group))?;
    Ok(cgroup::users(root)?.into_iter().filter(|uid| recorded.contains(uid)).collect())
}

/// The same, and one who is about to be.
///
/// # Errors
/// Those of [`present`].
pub(super) fn with(root: &Path, group: &str, uid: u32) -> Result<BTreeSet<u32>> {
    let mut members = present(root, group)?;
    members.insert(uid);
    Ok(members)
}

/// Records that a user shares a group's weight, and no other's; nobody's without one.
///
/// # Errors
/// The record cannot be written, or others than root can change it.
pub(super) fn join(root: &Path, uid: u32, group: Option<&str>) -> Result<()> {
    for other in names(&root.join(paths::BUDGETS))? {
        if group.is_none_or(|group| file_name(group) != other) {
            remove(&root.join(paths::BUDGETS).join(other), uid)?;
        }
    }
    let Some(group) = group else { return Ok(()) };
    own::directory(root, paths::BUDGETS, 0o755)?;
    let directory = directory(root, group);
    match fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {}", shown(&directory)));
        }
        _ => {}
    }
    let file = directory.join(uid.to_string());
    fs::write(&file, "").with_context(|| format!("writing {}", shown(&file)))
}

/// Makes these the records, one for each who is logged in.
///
/// # Errors
/// A record cannot be written, or others than root can change it.
pub fn record(root: &Path, members: &BTreeMap<u32, Option<&str>>) -> Result<()> {
    for (uid, group) in members {
        join(root, *uid, *group)?;
    }
    for group in names(&root.join(paths::BUDGETS))? {
        let directory = root.join(paths::BUDGETS).join(group);
        let recorded = recorded(&directory)?;
        // Who has logged in meanwhile had the slice before the record.
        let users = cgroup::users(root)?;
        recorded.iter().filter(|uid| !users.contains(uid)).try_for_each(|uid| remove(&directory, *uid))?;
    }
    Ok(())
}

fn recorded(directory: &Path) -> Result<BTreeSet<u32>> {
    Ok(names(directory)?.iter().filter_map(|name| name.parse().ok()).collect())
}

fn remove(directory: &Path, uid: u32) -> Result<()> {
    let file = directory.join(uid.to_string());
    own::remove(&file).with_context(|| format!("removing {}", shown(&file)))
}

fn directory(root: &Path, group: &str) -> PathBuf {
    root.join(paths::BUDGETS).join(file_name(group))
}

/// A group's name as a file's, one for each: directory services have spaces and backslashes in them.
fn file_name(group: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let byte = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("\\x{byte:02x}") }
    };
    group.bytes().map(byte).collect()
}
