//! Text for people and JSON for programs.
#![forbid(unsafe_code)]

mod changes;
mod explain;
mod policy;
mod status;

pub use changes::changes;
pub use explain::{login_json, login_text};
pub use policy::policy;
pub use status::{status_json, status_text};
