//! What a login runs, and the launcher and the commands with it.
//!
//! A crate of its own, so that nothing else gets into `pam_fairslice.so`: no parser of the policy's text, no
//! command line. [`host`] is all that looks at the machine, [`enforce`] all that changes it. The `fairslice` crate
//! has modules of the same names, which hold these and what only the commands need.
#![forbid(unsafe_code)]
#![warn(clippy::disallowed_methods)]

pub mod bounded;
pub mod effect;
pub mod enforce;
#[cfg(test)]
mod fixture;
pub mod host;
pub mod memory;
pub mod paths;
pub mod policy;
pub mod survey;
pub mod text;
pub mod trust;
pub mod units;
