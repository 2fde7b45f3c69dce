//! What is on disk behind the settings of PID 1's units: unit files and drop-ins with their lines, what
//! the generator has written; and what decides what a login gets.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::directory::names;
use super::logins::LoginSetup;
use super::settings::Settings;
use super::units::{self, ManagerFacts, Units};
use crate::paths;
use crate::units::{Assignment, file};

/// What one snapshot needs beside the units, the processes and the cgroups.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What each unit file and drop-in sets. One that is gone since PID 1 has read it is left out.
    pub settings: Settings,
    /// What the generator's drop-ins set, by the unit whose directory they lie in.
    pub generated: BTreeMap<String, Vec<Assignment>>,
    /// The generator itself.
    pub generator: Generator,
    /// PAM, sshd, and what fairslice has set at runtime.
    pub logins: LoginSetup,
    /// What PID 1 says of itself; `None` where it could not be asked.
    pub manager: Option<ManagerFacts>,
}

/// Whether PID 1 finds the generator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Generator {
    /// It does.
    #[default]
    Installed,
    /// There is none.
    Missing,
    /// This file, usually a link to `/dev/null`, takes its place: `systemd.generator(7)`.
    Masked(PathBuf),
}

impl Facts {
    /// When PID 1 last read its units, in µs of the monotonic clock.
    #[must_use]
    pub fn reloaded(&self) -> Option<u64> {
        self.manager.map(|manager| manager.loaded_at)
    }

    /// Which systemd PID 1 is.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        self.manager?.version
    }

    /// Reads them below `root`. What cannot be read, or is gone, is left out.
    #[must_use]
    pub fn read(root: &Path, units: &Units) -> Self {
        Self {
            settings: Settings::read(root, units),
            generated: assignments(generated(root).unwrap_or_default()),
            generator: generator(root),
            logins: LoginSetup::read(root),
            manager: units::manager(root).ok(),
        }
    }
}

/// The generator's drop-ins, by the unit whose directory they lie in.
///
/// # Errors
/// The directory of generators cannot be read.
pub fn generated(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    for directory in names(&root.join(paths::GENERATED))? {
        let Some(unit) = directory.strip_suffix(".d") else { continue };
        // In directories of other generators there is none.
        if let Ok(text) = fs::read_to_string(root.join(paths::generated(unit))) {
            texts.insert(unit.to_owned(), text);
        }
    }
    Ok(texts)
}

/// What drop-ins of the generator set, by unit.
#[must_use]
pub fn assignments(texts: BTreeMap<String, String>) -> BTreeMap<String, Vec<Assignment>> {
    let parsed = texts.into_iter().map(|(unit, text)| {
        let assignments = file::parse(&text, &paths::generated(&unit));
        (unit, assignments)
    });
    parsed.collect()
}

fn generator(root: &Path) -> Generator {
    let name = Path::new(paths::GENERATOR).file_name().unwrap_or_default();
    let masks = paths::GENERATOR_MASKS.iter().map(|directory| Path::new(directory).join(name));
    let mask = masks.into_iter().find(|mask| fs::symlink_metadata(root.join(mask)).is_ok());
    match mask {
        Some(mask) => Generator::Masked(paths::absolute(mask)),
        None if root.join(paths::GENERATOR).exists() => Generator::Installed,
        None => Generator::Missing,
    }
}
