//! What the policy comes to on the machine: pure functions.
#![forbid(unsafe_code)]

mod carry;
mod compare;
mod status;

pub use carry::{Carried, ancestors, headcount};
pub use compare::holds;
pub use status::{Compared, Kind, Status, Unit};
