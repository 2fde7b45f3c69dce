//! What lies in a directory.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use crate::text::shown;

/// The names in a directory, sorted; none where there is no such directory.
///
/// # Errors
/// It cannot be read.
pub fn entries(directory: &Path) -> Result<Vec<OsString>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.with_context(|| format!("reading {}", shown(&directory)))?,
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names)
}

/// The same, without those that are no UTF-8: no unit's name is.
///
/// # Errors
/// Those of [`entries`].
pub fn names(directory: &Path) -> Result<Vec<String>> {
    Ok(entries(directory)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
