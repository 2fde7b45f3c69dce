//! fairslice: services and logins each get their slice of the machine, from one declared policy.
//!
//! Dependencies point one way: the commands use [`report`], which uses `doctor`, which uses [`enforce`],
//! which uses [`effect`], which uses [`policy`] and [`host`], which both stand on [`units`].
//!
//! - [`units`]: systemd's own words: names, values, properties, unit files.
//! - [`policy`]: what the administrator declares; reads the policy files and nothing else.
//! - [`host`]: what is; the only code that reads `/sys` and `/proc` and talks to PID 1.
//! - [`effect`]: what the one comes to on the other; pure functions.
//! - [`enforce`]: the only code that changes anything.
//! - `doctor`: what is not as it was meant, with its cause, its cost and what to do.
//! - [`report`]: text and JSON.
//!
//! Of `units`, `policy`, `host`, `effect`, `survey` and `enforce` that part which a login runs is a crate of its own,
//! [`fairslice_base`].

#![warn(clippy::disallowed_methods)]

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod doctor;
#[cfg(feature = "cli")]
pub mod effect;
pub mod enforce;
pub mod entry;
#[cfg(test)]
mod fixture;
#[cfg(feature = "cli")]
pub mod host;
pub mod policy;
#[cfg(feature = "cli")]
pub mod report;
pub mod spelling;
#[cfg(feature = "cli")]
pub mod survey;

use fairslice_base::bounded;
pub use fairslice_base::{memory, paths, text, trust, units};
