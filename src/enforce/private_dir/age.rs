//! `max_age`: which private directories systemd-tmpfiles is to age in the run that is about to start.
//!
//! A directory is listed by its own path. A glob for all of them would also match what lies beside
//! them, such as the shared cache that was there before, and follow a link in the middle of a path.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::existing::existing;
use crate::host::usage;
use crate::paths;
use crate::policy::{MaxAge, Policy};
use crate::text::shown;

const HEADER: &str =
    "# Made by \"fairslice private-dir tmpfiles\" for one run of systemd-tmpfiles-clean.service.\n";

/// Lists the private directories that are to be aged and that no process uses, in a snippet of
/// `tmpfiles.d(5)`. The lines that come back say which are left out although they are idle, and why.
///
/// # Errors
/// What exists or what is in use cannot be told, or the snippet cannot be written. There is none then,
/// and nothing is aged.
pub fn list(root: &Path, policy: &Policy) -> Result<Vec<String>> {
    let file = root.join(paths::TMPFILES);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", shown(&file)));
        }
        _ => {}
    }
    let (directories, skipped) = to_be_aged(root, policy)?;
    // /proc shows paths without links.
    let real_root = fs::canonicalize(root).with_context(|| format!("resolving {}", shown(&root)))?;
    let real = |directory: &Path| real_root.join(directory.strip_prefix("/").unwrap_or(directory));
    let all: Vec<PathBuf> = directories.keys().map(|directory| real(directory)).collect();
    let in_use = usage::users_of(root, &all).context("finding out what is in use")?;

    let mut text = HEADER.to_owned();
    for (directory, age) in &directories {
        // Writing to a string cannot fail.
        let _ = match in_use.get(&real(directory)).and_then(|users| users.first()) {
            Some(user) => writeln!(text, "# {}: in use by {}", shown(&directory), shown(&user.to_string())),
            None => writeln!(text, "e {} - - - {age}", field(directory)),
        };
    }
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", shown(&parent)))?;
    }
    if let Err(error) = fs::write(&file, text) {
        // Half a line could name another directory.
        let _ = fs::remove_file(&file);
        return Err(error).with_context(|| format!("writing {}", shown(&file)));
    }
    Ok(skipped)
}

/// The private directories of variables with `max_age`. Where somebody else could put another one in
/// its place while systemd-tmpfiles is on its way, a directory is left out.
fn to_be_aged(root: &Path, policy: &Policy) -> Result<(BTreeMap<PathBuf, MaxAge>, Vec<String>)> {
    let mut directories: BTreeMap<PathBuf, MaxAge> = BTreeMap::new();
    let mut skipped = Vec::new();
    for (variable, dir) in &policy.private_dirs {
        let Some(max_age) = &dir.max_age else { continue };
        for found in existing(root, &dir.path.value)? {
            if found.firm {
                // Two variables may share a directory: the longer age holds for both.
                let age = directories.entry(found.directory).or_insert(max_age.value);
                *age = max_age.value.max(*age);
            } else {
                let shown = shown(&found.directory);
                skipped.push(format!(
                    "{variable}: {shown} is not aged: others than root can change a directory above it"
                ));
            }
        }
    }
    Ok((directories, skipped))
}

/// A path as `tmpfiles.d(5)` takes it: quoted, and without a meaning to specifiers and globs. What is no
/// printable ASCII is escaped: no name can end the line.
#[must_use]
pub fn field(path: &Path) -> String {
    let mut field = String::from("\"");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => field.push_str("%%"),
            // A backslash for the glob, itself escaped for the quotes.
            b'*' | b'?' | b'[' | b']' | b'{' | b'}' => field.extend(['\\', '\\', char::from(*byte)]),
            b'\\' => field.push_str(r"\\\\"),
            b'"' => field.push_str("\\\""),
            b' '..=b'~' => field.push(char::from(*byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(field, "\\x{byte:02x}")),
        }
    }
    field.push('"');
    field
}
