//! What is there and could not be looked at.
#![forbid(unsafe_code)]

use crate::text::Foreign;

/// Something that is there and could not be looked at: it is counted and said, never left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which: a process's number, a cgroup's path.
    pub what: Foreign,
    /// What was tried, and what came back.
    pub why: String,
}
