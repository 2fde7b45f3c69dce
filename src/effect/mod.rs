//! What the policy comes to on the machine: pure functions.
#![forbid(unsafe_code)]

mod declared_cpu;
pub mod drill;
pub mod held;
pub mod ignored;
pub mod io_share;
pub mod kill_order;
pub mod kubernetes;
pub mod memory;
pub mod restart;
pub mod score;
pub mod screen;
pub mod share;
mod status;
pub mod tiles;
mod total_weight;
pub mod treemap;

pub use fairslice_base::effect::*;
pub use status::{Compared, Status, UnitKind, UnitStatus};
pub use total_weight::total_weight_now;
