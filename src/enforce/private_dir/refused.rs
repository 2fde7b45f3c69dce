//! Why a private directory is not used.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use anyhow::Error;

/// A private directory, or one above it, that is refused.
#[derive(Debug)]
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "a login only says it"))]
pub(super) struct Refused {
    /// What is wrong.
    pub(super) why: Why,
    /// With which directory.
    pub(super) path: PathBuf,
    /// In words, with the remedy.
    said: String,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is a link or no directory.
    Kind,
    /// It belongs to somebody else than the user.
    Owner,
    /// Others than the user can write to it.
    Writable,
    /// A directory on the way belongs to somebody else than root and the user.
    Above,
    /// Others can write to a directory on the way.
    Open,
    /// Somebody else than root and the user has mounted it, or a directory on the way.
    Mounted,
    /// A directory on the way is missing, and not the user's to make.
    Missing,
}

impl Refused {
    /// As an error.
    pub(super) fn error(why: Why, path: impl Into<PathBuf>, said: String) -> Error {
        Self { why, path: path.into(), said }.into()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for Refused {}
