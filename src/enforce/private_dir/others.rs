//! What in a private directory belongs to somebody else than its user, who then cannot build there: root's, as after
//! `sudo -E`.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{OpenHow, ResolveFlag, openat2};

use super::entries::{FileKind, entries};
use super::existing::Parent;
use super::tree::ON_THE_WAY;
use crate::text::shown;

/// How many things are looked at in one directory, the uppermost first: a hundredth of a second's worth or so.
const MOST: usize = 4000;
/// How deep: `debug/deps/libx.rlib` is at 3, and `debug/build/x-1f/out/generated.rs` at 5.
const DEEPEST: usize = 5;

/// What belongs to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Others {
    /// How many things. What lies in a directory of somebody else's is not counted.
    pub count: usize,
    /// The first, below the private directory.
    pub first: PathBuf,
    /// The number of its owner.
    pub owner: u32,
    /// Whether there may be more: not everything was looked at.
    pub more: bool,
}

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, first, owner, more } = self;
        let verb = if *count == 1 { "belongs" } else { "belong" };
        write!(f, "{count} of what is in it {verb} to others, the first {} to uid {owner}", shown(first))?;
        if *more { write!(f, " (looked at {MOST}, {DEEPEST} levels deep)") } else { Ok(()) }
    }
}

/// What in a directory belongs to others than this user, as far as it can be looked at.
///
/// # Errors
/// The directory cannot be reached.
pub fn others(root: &Path, directory: &Path, uid: u32) -> Result<Option<Others>> {
    let Some((private, _)) = Parent::at(root, directory)? else { return Ok(None) };
    let mut found: Option<Others> = None;
    let (mut looked_at, mut more) = (0, false);
    let mut left = VecDeque::from([(PathBuf::new(), 1)]);
    while let Some((path, depth)) = left.pop_front() {
        // One at a time is open.
        let Ok(directory) = open(&private, &path) else { continue };
        let Ok(inside) = entries(&directory, private.on) else { continue };
        for entry in inside.flatten() {
            looked_at += 1;
            if looked_at > MOST {
                break;
            }
            let path = path.join(&entry.name);
            if entry.kind == FileKind::Mount {
                // Its owner is whatever somebody says.
            } else if entry.uid != uid {
                let first = || Others { count: 0, first: path, owner: entry.uid, more: false };
                found.get_or_insert_with(first).count += 1;
            } else if entry.kind == FileKind::Directory && depth < DEEPEST {
                left.push_back((path, depth + 1));
            } else {
                more |= entry.kind == FileKind::Directory;
            }
        }
        if looked_at > MOST {
            more = true;
            break;
        }
    }
    Ok(found.map(|found| Others { more, ..found }))
}

fn open(private: &Parent<'_>, path: &Path) -> Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH;
    let how = OpenHow::new().flags(ON_THE_WAY).resolve(resolve);
    openat2(&private.descriptor, &Path::new(".").join(path), how).context("opening it")
}
