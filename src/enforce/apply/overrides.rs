//! What the administrator has set over the policy: it is named, and never touched.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::unit_file;
use crate::paths;
use crate::text::shown;

/// The drop-ins of one unit, as far as they come after what fairslice sets.
pub(super) struct Overrides {
    root: PathBuf,
    unit: String,
    drop_ins: Vec<PathBuf>,
    /// The properties that PID 1 was told at logins.
    told: Vec<String>,
}

impl Overrides {
    /// `drop_ins` are the unit's in the order in which they apply; `told` is the record of every unit.
    pub(super) fn new(
        root: &Path,
        unit: &str,
        drop_ins: Vec<PathBuf>,
        told: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let told = told.get(unit).cloned().unwrap_or_default();
        Self { root: root.to_owned(), unit: unit.to_owned(), drop_ins, told }
    }

    /// Whether PID 1 was told `setting` at a login.
    pub(super) fn is_told(&self, setting: &str) -> bool {
        self.told.iter().any(|name| name == setting)
    }

    /// Who sets `setting` after our drop-in: `/FILE:LINE sets CPUWeight=300`.
    pub(super) fn of_drop_in(&self, setting: &str) -> Result<Option<String>> {
        self.after(paths::DROP_IN, setting)
    }

    /// Who sets `setting` so that what PID 1 is told of it at runtime would not hold.
    pub(super) fn of_runtime(&self, setting: &str) -> Result<Option<String>> {
        self.after(&runtime_name(setting), setting)
    }

    fn after(&self, ours: &str, setting: &str) -> Result<Option<String>> {
        let own = self.is_told(setting).then(|| runtime_file(&self.unit, setting));
        let mut found = None;
        for file in &self.drop_ins {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            let is_ours =
                Some(file) == own.as_ref() || (name == paths::DROP_IN && file.starts_with(paths::GENERATED));
            if name < ours || is_ours {
                continue;
            }
            for assignment in unit_file::read(&self.root, file)? {
                if assignment.key == setting {
                    let line = assignment.line;
                    found = Some(format!("/{}:{line} sets {setting}={}", shown(&file), assignment.value));
                }
            }
        }
        Ok(found)
    }
}

fn runtime_name(setting: &str) -> String {
    format!("50-{setting}.conf")
}

/// Where PID 1 keeps what it was told of a unit until the next boot.
pub(super) fn runtime_file(unit: &str, setting: &str) -> PathBuf {
    Path::new(paths::RUNTIME_CONTROL).join(format!("{unit}.d")).join(runtime_name(setting))
}
