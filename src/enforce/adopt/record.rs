//! The fragment of the policy in which adopted services stand.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::change::{FileChange, OWN_DIRECTORY};
use crate::paths;
use crate::text::shown;
use crate::units::ServiceName;

/// How it begins.
const HEADER: &str = "# Made by \"fairslice adopt\"; \"fairslice release\" takes a service out again.\n";

/// What it holds.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) names: BTreeSet<ServiceName>,
    /// As it is; `None` where there is none.
    text: Option<String>,
    /// Whether its directory is made for it, or was.
    own_directory: bool,
}

impl Record {
    /// # Errors
    /// It cannot be read, or somebody else has written to it.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let file = file();
        let is_file = match fs::symlink_metadata(root.join(&file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let own_directory = !root.join(paths::POLICY_DIR).exists();
                return Ok(Self { names: BTreeSet::new(), text: None, own_directory });
            }
            found => found.with_context(|| format!("looking at /{}", shown(&file)))?.is_file(),
        };
        let foreign = || format!("/{} is not made by \"fairslice adopt\" alone: rename it", shown(&file));
        if !is_file {
            bail!("{}", foreign());
        }
        let text =
            fs::read_to_string(root.join(&file)).with_context(|| format!("reading /{}", shown(&file)))?;
        let names: BTreeSet<_> = text.lines().filter_map(name).collect();
        let own_directory = text.contains(OWN_DIRECTORY);
        if render(&names, own_directory) != text {
            bail!("{}", foreign());
        }
        Ok(Self { names, text: Some(text), own_directory })
    }

    /// What is to be written for it to hold these names; `None` where it does.
    pub(super) fn change_to(&self, names: &BTreeSet<ServiceName>) -> Option<FileChange> {
        let after = (!names.is_empty()).then(|| render(names, self.own_directory));
        (after != self.text).then(|| FileChange::new(file(), self.text.clone(), after))
    }
}

/// Relative to the root.
pub(super) fn file() -> PathBuf {
    Path::new(paths::POLICY_DIR).join(paths::ADOPTED)
}

/// A service's name as a key of TOML's, bare where it can be. No name holds a quote.
pub(super) fn key(name: &ServiceName) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let stem = name.stem();
    if stem.chars().all(is_bare) { stem.to_owned() } else { format!("'{stem}'") }
}

fn render(names: &BTreeSet<ServiceName>, own_directory: bool) -> String {
    let mut text = HEADER.to_owned();
    if own_directory {
        text.push_str(OWN_DIRECTORY);
    }
    for name in names {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n[service.{}]\nlauncher = true\n", key(name));
    }
    text
}

/// The name in the head of a table.
fn name(line: &str) -> Option<ServiceName> {
    let key = line.strip_prefix("[service.")?.strip_suffix(']')?;
    ServiceName::new(key.trim_matches('\'')).ok()
}
