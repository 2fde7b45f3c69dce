//! The only code that changes anything.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod adopt;
#[cfg(feature = "cli")]
pub mod apply;
#[cfg(feature = "cli")]
pub mod drill;
#[cfg(feature = "cli")]
mod drop_in;
#[cfg(feature = "cli")]
pub mod due;
#[cfg(feature = "cli")]
pub mod generator;
#[cfg(feature = "cli")]
pub mod import;
pub mod launch;
#[cfg(feature = "cli")]
pub mod launched;
pub mod lock;
#[cfg(feature = "cli")]
pub mod login;
#[cfg(feature = "cli")]
pub mod private_dir;

pub use fairslice_base::enforce::*;
