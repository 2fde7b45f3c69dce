//! The real module through the real libpam, in a host program that tells what changed in it.
//!
//! Everything that the module reads lies in a directory of the test (`root=DIR`): the policy, what
//! stands for `/proc` and `/sys`, PID 1's socket and the log's. As root, the host runs in a mount
//! namespace with accounts of the test's own. What needs root is skipped, and says so, where the tests
//! run as somebody else.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and most of these files is helpers of tests"
)]

#[path = "../built/mod.rs"]
mod built;
mod faults;
mod machine;
mod package;
mod placement;
mod race;
mod sessions;
mod shared;
mod traces;
mod traps;
