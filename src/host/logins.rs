//! What decides on this machine whether a login gets what the policy declares: PAM, sshd, and what
//! fairslice has set already.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::pam::{self, Stack};
use super::pam_auth_update;
use super::recorded::Recorded;
use super::sshd::{self, UsePam};
use crate::paths;

/// All of that.
#[derive(Debug, Clone, Default)]
pub struct LoginSetup {
    /// What runs when a session opens.
    pub stacks: Vec<Stack>,
    /// The paths by which they name modules that libpam does not find.
    pub missing: BTreeSet<String>,
    /// Whether the package's profile for `pam-auth-update(8)` is there.
    pub has_profile: bool,
    /// Whether `pam-auth-update(8)` would put it into the files that it writes.
    pub is_updated: bool,
    /// `None` where there is no sshd.
    pub sshd: Option<UsePam>,
    /// What PID 1 was told of slices, by name.
    pub recorded: BTreeMap<String, Recorded>,
}

impl LoginSetup {
    /// Reads it below `root`. What cannot be read is left out.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let stacks = pam::stacks(root);
        let named = stacks.iter().flat_map(|stack| &stack.modules).map(|module| module.path.clone());
        let named: BTreeSet<String> = named.collect();
        let missing = named.into_iter().filter(|path| !pam::is_there(root, path)).collect();
        let has_profile = root.join(paths::PAM_PROFILE).exists();
        let is_updated = pam_auth_update::writes(root);
        let recorded = Recorded::all(root).unwrap_or_default();
        Self { stacks, missing, has_profile, is_updated, sshd: sshd::use_pam(root), recorded }
    }
}
