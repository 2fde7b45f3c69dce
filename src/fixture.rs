//! What the tests of several modules need.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use crate::policy::{Policy, load_files};

/// Writes a file below `root`, and the directories that it is in.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The policy that this text is.
pub(crate) fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let loaded = load_files(&[file.path().to_owned()]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    loaded.policy
}
