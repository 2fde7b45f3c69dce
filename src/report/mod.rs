//! Text for people and JSON for programs.
#![forbid(unsafe_code)]

mod policy;
mod status;

use crate::paths;
use crate::policy::InForce;

pub use policy::policy;
pub use status::{status_json, status_text};

/// Says which policy is in force, where it is not the one in `/etc`.
#[must_use]
pub fn not_current(in_force: InForce) -> Option<String> {
    match in_force {
        InForce::Current => None,
        InForce::LastGood => Some(format!("the last good policy stays in force (/{})", paths::LAST_GOOD)),
        InForce::Nothing => Some("no policy is in force".to_owned()),
    }
}
