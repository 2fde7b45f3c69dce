//! What decides on this machine whether a login gets what the policy declares: PAM, sshd, and what
//! fairslice has set already.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::directory::names;
use super::pam::{self, Stack};
use super::sshd::{self, UsePam};
use crate::paths;

/// All of that.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// What runs when a session opens.
    pub stacks: Vec<Stack>,
    /// The paths by which they name modules that libpam does not find.
    pub missing: BTreeSet<String>,
    /// Whether the package's profile for `pam-auth-update(8)` is there.
    pub has_profile: bool,
    /// `None` where there is no sshd.
    pub sshd: Option<UsePam>,
    /// [`recorded`]
    pub recorded: BTreeMap<String, Vec<String>>,
}

impl Logins {
    /// Reads it below `root`. What cannot be read is left out.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let stacks = pam::stacks(root);
        let named = stacks.iter().flat_map(|stack| &stack.modules).map(|module| module.path.clone());
        let named: BTreeSet<String> = named.collect();
        let missing = named.into_iter().filter(|path| !pam::is_there(root, path)).collect();
        let has_profile = root.join(paths::PAM_PROFILE).exists();
        let recorded = recorded(root).unwrap_or_default();
        Self { stacks, missing, has_profile, sshd: sshd::use_pam(root), recorded }
    }
}

/// The properties that fairslice itself has set on slices since the boot, by slice.
///
/// # Errors
/// The directory of these records cannot be read.
pub fn recorded(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let directory = root.join(paths::RUNTIME_PROPERTIES);
    let mut recorded = BTreeMap::new();
    for slice in names(&directory)? {
        let properties = recorded_of(root, &slice);
        if !properties.is_empty() {
            recorded.insert(slice, properties);
        }
    }
    Ok(recorded)
}

/// The same of one slice. Each line of the record is a property; behind a `-`, one that was taken back.
#[must_use]
pub fn recorded_of(root: &Path, slice: &str) -> Vec<String> {
    let text = fs::read_to_string(root.join(paths::RUNTIME_PROPERTIES).join(slice)).unwrap_or_default();
    let mut properties: Vec<String> = Vec::new();
    for line in text.lines() {
        let name = line.strip_prefix('-').unwrap_or(line);
        properties.retain(|known| known != name);
        if name == line {
            properties.push(name.to_owned());
        }
    }
    properties
}
