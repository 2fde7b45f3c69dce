//! The only code that changes anything.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod adopt;
#[cfg(feature = "cli")]
pub mod apply;
mod cgroup2;
#[cfg(feature = "cli")]
mod drop_in;
#[cfg(feature = "cli")]
pub mod generator;
#[cfg(feature = "launcher")]
pub mod launch;
#[cfg(feature = "cli")]
pub mod lock;
pub mod login;
pub mod own;
mod placement;
pub mod private_dir;
mod scope;
pub mod user_slice;
