//! Private directories: who gets which, how one is made, what becomes of those that exist.
#![forbid(unsafe_code)]

#[cfg(feature = "cli")]
pub mod age;
mod as_user;
#[cfg(feature = "cli")]
mod existing;
#[cfg(feature = "cli")]
mod inspect;
mod make;
mod refused;
#[cfg(feature = "cli")]
mod sticky;
mod tree;
mod wanted;

#[cfg(feature = "cli")]
pub use inspect::inspect;
pub(super) use make::ensure;
#[cfg(feature = "cli")]
pub(super) use make::{Looked, look};
#[cfg(feature = "cli")]
pub use sticky::review;
pub(super) use wanted::{Wanted, wanted};
