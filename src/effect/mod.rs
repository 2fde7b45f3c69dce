//! What the policy comes to on the machine: pure functions.
#![forbid(unsafe_code)]

mod carry;
#[cfg(feature = "cli")]
pub mod chain;
mod compare;
#[cfg(feature = "cli")]
pub mod doctor;
#[cfg(feature = "cli")]
pub mod finding;
mod headcount;
#[cfg(feature = "cli")]
pub mod kill_order;
#[cfg(feature = "cli")]
pub mod memory;
#[cfg(feature = "cli")]
pub mod restart;
#[cfg(feature = "cli")]
pub mod screen;
#[cfg(feature = "cli")]
pub mod share;
#[cfg(feature = "cli")]
mod status;

pub use carry::{Carried, Given, ancestors, given, slices};
pub use compare::{agrees, equals, holds};
#[cfg(feature = "cli")]
pub use headcount::total_weight_now;
pub use headcount::{Headcount, Limit, broken_floors, headcount, limits, total_weight};
#[cfg(feature = "cli")]
pub use status::{Compared, Kind, Status, Unit};
