//! fairslice: services and logins each get their slice of the machine, from one declared policy.
//!
//! Dependencies point one way: the commands use [`report`] and [`enforce`], which use [`effect`],
//! which uses [`policy`] and [`host`].
//!
//! - [`policy`]: what the administrator declares; reads the policy files and nothing else.
//! - [`host`]: what is; the only code that reads `/sys` and `/proc` and talks to PID 1.
//! - [`effect`]: what the one comes to on the other; pure functions.
//! - [`enforce`]: the only code that changes anything.
//! - [`report`]: text and JSON.

#![warn(clippy::disallowed_methods)]

#[cfg(feature = "cli")]
pub mod cli;
pub mod effect;
pub mod enforce;
#[cfg(test)]
mod fixture;
pub mod host;
pub mod memory;
pub mod paths;
pub mod policy;
#[cfg(feature = "cli")]
pub mod report;
pub mod text;
pub mod trust;
