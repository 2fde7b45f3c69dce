//! What the policy comes to for a slice: pure functions.
#![forbid(unsafe_code)]

mod carry;
mod compare;
mod headcount;

pub use carry::{Carried, Given, ancestors, given, slices};
pub use compare::{agrees, equals, holds, number, said};
pub use headcount::{FloorLimit, Headcount, broken_floors, headcount, limits, total_weight};
