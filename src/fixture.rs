//! What the tests of several modules need.
#![forbid(unsafe_code)]

#[path = "base/fixture.rs"]
mod base;

use std::fs;

pub(crate) use base::write;

use crate::policy::{Policy, load_files};

/// The policy that this text is.
pub(crate) fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let loaded = load_files(&[file.path().to_owned()]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    loaded.policy
}
