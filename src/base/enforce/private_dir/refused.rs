//! Why a private directory is not used.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use anyhow::Error;

/// A private directory, or one above it, that is refused.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong.
    pub why: Fault,
    /// With which directory.
    pub path: PathBuf,
    /// In words, with the remedy.
    said: String,
    /// The remedy as a command, where it is one that `why` does not tell.
    pub remedy: Option<String>,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
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
    /// The members of a group can write to a directory on the way, and the policy does not trust them.
    Group,
    /// Somebody else than root and the user has mounted it, or a directory on the way.
    Mounted,
    /// A directory on the way is missing, and not the user's to make.
    Missing,
}

impl Refused {
    /// As an error.
    pub(super) fn error(why: Fault, path: impl Into<PathBuf>, said: String) -> Error {
        Self { why, path: path.into(), said, remedy: None }.into()
    }

    /// The same with a command.
    pub(super) fn with_remedy(why: Fault, path: impl Into<PathBuf>, said: String, remedy: String) -> Error {
        Self { why, path: path.into(), said, remedy: Some(remedy) }.into()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for Refused {}
