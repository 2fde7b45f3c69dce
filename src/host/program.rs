//! The programs of the system that are run.
#![forbid(unsafe_code)]

use std::process::Command;

use crate::paths;

/// A program, by its path on a live system, whatever `PATH` says, and with an empty environment: whose it
/// would be otherwise is not known.
#[must_use]
pub fn program(path: &str) -> Command {
    let mut command = Command::new(paths::absolute(path));
    command.env_clear();
    command
}
