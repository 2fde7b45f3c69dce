//! systemd's own words: what units are called, what they can be given, what their files say. Pure.
#![forbid(unsafe_code)]

mod amount;
mod escape;
pub mod exec_line;
pub mod file;
pub mod known;
mod name;
mod property;
pub mod span;
pub mod takes;
mod value;

pub use amount::{Amount, Memory, Percent, Tasks};
pub use escape::{cgroup_name, unescaped};
pub use file::Assignment;
pub use name::{Alias, ServiceName, SliceName, is_unit_name, section};
pub use property::{
    CPU_WEIGHT, IO_WEIGHT, MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, MEMORY_SWAP_MAX,
    OOM_SCORE_ADJUST, PROPERTIES, Property, SLICE, SettingValue, TASKS_MAX,
};
pub use value::{CpuWeight, OomScoreAdj, Weight};
