//! Whose value of a setting holds.
#![forbid(unsafe_code)]

mod winner;

pub use winner::{Files, Means, Owner, Winner, runtime_file};
