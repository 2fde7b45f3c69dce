//! What the policy comes to on the machine: pure functions.
#![forbid(unsafe_code)]

mod carry;
mod compare;
#[cfg(feature = "cli")]
pub mod finding;
mod headcount;
mod status;

pub use carry::{Carried, Given, ancestors, given};
pub use compare::holds;
pub use headcount::{Headcount, Limit, broken_floors, headcount, limits, total_weight};
pub use status::{Compared, Kind, Status, Unit};
