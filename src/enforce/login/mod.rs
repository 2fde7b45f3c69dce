//! What happens when a session opens, and what that would be.
#![forbid(unsafe_code)]

pub mod explain;
mod sessions;

pub use sessions::review;

pub use fairslice_base::enforce::login::*;
