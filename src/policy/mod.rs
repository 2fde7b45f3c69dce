//! What the administrator declares: the policy files, read, and what is wrong with them.
#![forbid(unsafe_code)]

mod check;
mod compile;
mod diagnostic;
mod elsewhere;
mod from_toml;
mod here;
mod load;
mod names;
mod read;

pub use check::{key_of, note, review, tables};
pub use compile::{compile, is_in_force};
pub use diagnostic::{Diagnostic, Level};
pub use fairslice_base::policy::*;
pub use here::here;
pub use load::{InForce, Loaded, SourceFile, load, load_files, with};
pub use names::resolve_names;
