//! `fairslice import`: from what administrators have set up by hand to a policy that says the same.
//!
//! A policy that is imported changes nothing: each value is what holds today, and where it would come to another value
//! of any unit, it is left out and named. That is found out with the generator's own drop-ins and the search for
//! what wins ([`crate::survey::Files`]), over everything that is on disk.
#![forbid(unsafe_code)]

mod entry;
mod find;
mod held;
mod put;
pub mod retire;
mod scripts;
mod settle;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;

use self::entry::{Entry, PolicyTable, Source, commented, is_by_hand, tables};
pub use self::entry::{Line, Unsayable};
use self::find::find;
use self::held::Held;
pub use self::put::put;
use self::settle::settle;
use crate::paths;
use crate::policy::{InForce, Loaded};

/// What was found.
#[derive(Debug, Default)]
pub struct Import {
    /// The tables of the policy; empty where there is nothing that a policy does not say already.
    pub tables: String,
    /// Tables for what holds until the next boot only, as comments.
    pub until_boot: String,
    /// What the policy does not say.
    pub left: Vec<Unsayable>,
    /// The administrators' files, absolute paths.
    pub files: BTreeSet<PathBuf>,
    /// What could not be read, a line each: there may be more in it.
    pub unread: Vec<String>,
}

/// What is set by hand below `root`, for a policy beside `existing`.
///
/// # Errors
/// A directory of units or `/proc/meminfo` cannot be read, or NSS failed.
pub fn import(root: &Path, existing: &Loaded) -> Result<Import> {
    let mut held = Held::read(root)?;
    let nothing = Loaded::nothing();
    let existing = if existing.in_force == InForce::Current { existing } else { &nothing };
    let mut found = find(&held, &existing.policy);
    let mut scripts = scripts::read(root)?;
    found.entries.append(&mut scripts.entries);
    found.left.extend(scripts.left);
    settle(&held, existing, &mut found)?;
    let by_hand = held.files().map(|(file, _)| file).filter(|file| is_by_hand(file));
    let files = by_hand.map(paths::absolute).collect();
    found.entries = unsaid(found.entries, existing);
    found.until_boot.retain(|entry| !entry.is_in(&existing.policy));
    let mut unread = scripts.unread;
    unread.append(&mut held.unread);
    Ok(Import {
        tables: tables(&found.entries).0,
        until_boot: commented(&found.until_boot),
        left: found.left.into_iter().collect(),
        files,
        unread,
    })
}

/// What the policy does not say already. A list, and the table of a directory, is said whole.
fn unsaid(entries: Vec<Entry>, existing: &Loaded) -> Vec<Entry> {
    let policy = &existing.policy;
    let said: BTreeSet<PolicyTable> = entries
        .iter()
        .filter(|entry| matches!(entry.table, PolicyTable::PrivateDir(_)) && entry.is_in(policy))
        .map(|entry| entry.table.clone())
        .collect();
    let is_unsaid = |entry: &Entry| {
        matches!(entry.source, Source::Policy(_)) || !entry.is_in(policy) && !said.contains(&entry.table)
    };
    entries.into_iter().filter(is_unsaid).collect()
}
