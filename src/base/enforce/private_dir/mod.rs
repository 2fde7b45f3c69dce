//! Private directories: who gets which, how one is made.
#![forbid(unsafe_code)]

pub mod as_user;
pub mod make;
pub mod refused;
pub mod tree;
pub mod wanted;

pub use make::{Looked, ensure, look};
pub use wanted::{Wanted, wanted};
