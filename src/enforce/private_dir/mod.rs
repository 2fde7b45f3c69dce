//! Private directories: who gets which, how one is made, what becomes of those that exist.
#![forbid(unsafe_code)]

pub mod age;
mod entries;
mod existing;
mod inspect;
mod others;
mod overridden;
pub mod reclaim;
mod sticky;

pub use fairslice_base::enforce::private_dir::*;
pub use inspect::{Inspected, Trouble, inspect};
pub use others::{Others, others};
pub use overridden::overridden;
pub use sticky::review;
