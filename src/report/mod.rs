//! Text for people and JSON for programs.
#![forbid(unsafe_code)]

mod policy;
mod status;

pub use policy::policy;
pub use status::{status_json, status_text};
