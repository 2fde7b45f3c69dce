//! What is on disk behind the settings of PID 1's units: unit files and drop-ins with their lines, what
//! the generator has written; and what decides what a login gets.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::logins::Logins;
use super::settings::Settings;
use super::unit_file::{self, Assignment};
use super::units::{self, Units};
use crate::paths;

/// What one snapshot needs beside the units, the processes and the cgroups.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What each unit file and drop-in sets. One that is gone since PID 1 has read it is left out.
    pub settings: Settings,
    /// The generator's drop-ins, by the unit whose directory they lie in.
    pub generated: BTreeMap<String, Vec<Assignment>>,
    /// The generator itself.
    pub generator: Generator,
    /// PAM, sshd, and what fairslice has set at runtime.
    pub logins: Logins,
    /// [`units::loaded_at`]; `None` where PID 1 could not be asked.
    pub reloaded: Option<u64>,
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
    /// Reads them below `root`. What cannot be read, or is gone, is left out.
    #[must_use]
    pub fn read(root: &Path, units: &Units) -> Self {
        Self {
            settings: Settings::read(root, units),
            generated: generated(root),
            generator: generator(root),
            logins: Logins::read(root),
            reloaded: units::loaded_at(root).ok(),
        }
    }
}

fn generated(root: &Path) -> BTreeMap<String, Vec<Assignment>> {
    let directories = names(&root.join(paths::GENERATED));
    let units = directories.iter().filter_map(|name| name.strip_suffix(".d"));
    let drop_ins = units.filter_map(|unit| {
        let file = Path::new(paths::GENERATED).join(format!("{unit}.d")).join(paths::DROP_IN);
        Some((unit.to_owned(), unit_file::read(root, &file).ok()?))
    });
    drop_ins.collect()
}

fn generator(root: &Path) -> Generator {
    let name = Path::new(paths::GENERATOR).file_name().unwrap_or_default();
    let masks = paths::GENERATOR_MASKS.iter().map(|directory| Path::new(directory).join(name));
    let mask = masks.into_iter().find(|mask| fs::symlink_metadata(root.join(mask)).is_ok());
    match mask {
        Some(mask) => Generator::Masked(Path::new("/").join(mask)),
        None if root.join(paths::GENERATOR).exists() => Generator::Installed,
        None => Generator::Missing,
    }
}

/// The names in a directory; none where it cannot be read.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
