//! What the tests of several modules need.
#![forbid(unsafe_code)]

#[path = "base/fixture.rs"]
mod base;

use std::fs;

pub(crate) use base::write;

#[cfg(feature = "cli")]
use crate::host::disk::Disk;
use crate::policy::{Policy, load_files};

/// A disk that stays.
#[cfg(feature = "cli")]
pub(crate) fn disk(name: &str, number: &str, scheduler: &str, has_cost: bool) -> Disk {
    Disk {
        name: name.into(),
        number: number.to_owned(),
        scheduler: Some(scheduler.to_owned()),
        has_cost,
        low_latency: false,
        is_removable: false,
    }
}

/// The policy that this text is.
pub(crate) fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let loaded = load_files(&[file.path().to_owned()]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    loaded.policy
}
