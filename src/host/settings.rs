//! The files that units are made of, and what they set, each line with its number.
//!
//! PID 1 says which files each of its units has; those of the administrator that belong to no unit it
//! knows are found on disk.
#![forbid(unsafe_code)]

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::directory::{entries, names};
use super::unit_file;
use super::units::Units;
use crate::paths;
use crate::units::file::{Assignment, Bare, Text};

/// Every file, by its absolute path.
#[derive(Debug, Clone, Default)]
pub struct Settings(BTreeMap<PathBuf, File>);

/// One unit file or drop-in.
#[derive(Debug, Clone)]
pub struct File {
    /// The unit whose file it is. For a drop-in, what its directory is named after: it may also be a
    /// prefix of units (`local-.service`), or a kind (`service`).
    pub unit: String,
    /// Whether there is a unit that it can apply to.
    pub applies: bool,
    /// What it sets, in the order of its lines.
    pub assignments: Vec<Assignment>,
    /// The lines without a `=`.
    pub bare: Vec<Bare>,
    /// The line at which systemd stops reading: see [`Text`].
    pub stops: Option<usize>,
}

impl Settings {
    /// Reads the files of all of PID 1's units, and the administrator's: templates, units that are not loaded,
    /// and drop-ins. What cannot be read is left out.
    #[must_use]
    pub fn read(root: &Path, units: &Units) -> Self {
        let mut files = BTreeMap::new();
        for path in units.iter().flat_map(|(_, unit)| unit.files()) {
            add(&mut files, root, path, |_| true);
        }
        let admins = paths::absolute(paths::ADMIN_UNITS);
        let names = LazyCell::new(|| known_names(units));
        for path in drop_ins(root) {
            add(&mut files, root, &admins.join(path), |unit| exists(root, |name| names.contains(name), unit));
        }
        for name in unit_files(root) {
            add(&mut files, root, &admins.join(name), |_| true);
        }
        Self(files)
    }

    /// Every file with its absolute path.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &File)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file))
    }

    /// The file at this absolute path.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<&File> {
        self.0.get(path)
    }
}

impl File {
    /// What kind of unit it is for: `service`, `slice`, …
    #[must_use]
    pub fn kind(&self) -> &str {
        self.unit.rsplit('.').next().unwrap_or_default()
    }
}

fn add(files: &mut BTreeMap<PathBuf, File>, root: &Path, path: &Path, applies: impl Fn(&str) -> bool) {
    if files.contains_key(path) {
        return;
    }
    let below = path.strip_prefix("/").unwrap_or(path);
    let (Some(unit), Ok(text)) = (unit_of(path), unit_file::read_whole(root, below)) else { return };
    let applies = applies(&unit);
    let Text { assignments, bare, stops } = text;
    files.insert(path.to_owned(), File { unit, applies, assignments, bare, stops });
}

/// The unit that a file is for: its own name, or that of the directory `NAME.d`.
fn unit_of(path: &Path) -> Option<String> {
    let (name, directory) = (path.file_name()?, path.parent()?.file_name()?);
    let is_drop_in = name.as_encoded_bytes().ends_with(b".conf");
    let unit = if is_drop_in { directory.to_str()?.strip_suffix(".d")? } else { name.to_str()? };
    Some(unit.to_owned())
}

/// The administrator's drop-ins, relative to [`paths::ADMIN_UNITS`].
fn drop_ins(root: &Path) -> Vec<PathBuf> {
    let admins = root.join(paths::ADMIN_UNITS);
    let mut found = Vec::new();
    for directory in names(&admins).unwrap_or_default().iter().filter(|name| name.ends_with(".d")) {
        let names = entries(&admins.join(directory)).unwrap_or_default().into_iter();
        let confs = names.filter(|name| {
            let name = name.as_encoded_bytes();
            name.ends_with(b".conf") && !name.starts_with(b".")
        });
        found.extend(confs.map(|name| Path::new(directory).join(name)));
    }
    found
}

/// The administrator's own unit files; a link is an alias, a mask, or another's.
fn unit_files(root: &Path) -> Vec<String> {
    let admins = root.join(paths::ADMIN_UNITS);
    let is_file = |name: &String| fs::symlink_metadata(admins.join(name)).is_ok_and(|file| file.is_file());
    names(&admins).unwrap_or_default().into_iter().filter(is_file).collect()
}

/// The names of PID 1's units. One that something asks for is known, and may still have no file.
fn known_names(units: &Units) -> HashSet<&str> {
    let there = units.iter().filter(|(_, unit)| unit.text("LoadState") != Some("not-found"));
    there.flat_map(|(_, unit)| unit.text("Names").unwrap_or_default().split_whitespace()).collect()
}

/// Whether there is a unit of this name, or can be one: `systemd.unit(5)`.
fn exists(root: &Path, is_known: impl Fn(&str) -> bool, unit: &str) -> bool {
    let Some((stem, kind)) = unit.rsplit_once('.') else { return true };
    let has_file = |name: &str| {
        let mut search = paths::UNIT_SEARCH_PATH.iter();
        search.any(|directory| fs::symlink_metadata(root.join(directory).join(name)).is_ok())
    };
    let template = stem.split_once('@').map(|(prefix, _)| format!("{prefix}@.{kind}"));
    match kind {
        // Of a user's slice: the number, not the name.
        "slice" => stem
            .strip_prefix("user-")
            .is_none_or(|uid| uid.is_empty() || uid.contains('-') || uid.parse::<u32>().is_ok()),
        // For every unit whose name begins so.
        "service" | "socket" if stem.ends_with('-') => true,
        "service" | "socket" => {
            has_file(unit) || template.is_some_and(|name| has_file(&name)) || is_known(unit)
        }
        _ => true,
    }
}
