//! The properties that fairslice itself has set on slices since the boot.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[cfg(feature = "cli")]
use anyhow::Result;

#[cfg(feature = "cli")]
use super::directory::names;
use crate::paths;

/// All of them, by slice.
///
/// # Errors
/// The directory of these records cannot be read.
#[cfg(feature = "cli")]
pub fn recorded(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let directory = root.join(paths::RUNTIME_PROPERTIES);
    let mut recorded = BTreeMap::new();
    for slice in names(&directory)? {
        let properties = of(root, &slice);
        if !properties.is_empty() {
            recorded.insert(slice, properties);
        }
    }
    Ok(recorded)
}

/// Those of one slice. Each line of the record is a property; behind a `-`, one that was taken back.
#[must_use]
pub fn of(root: &Path, slice: &str) -> Vec<String> {
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
