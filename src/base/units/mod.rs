//! systemd's own words: what units are called, what they can be given, what their files say. Pure.
#![forbid(unsafe_code)]

mod amount;
pub mod cpu_set;
mod escape;
pub mod exec_line;
pub mod file;
pub mod known;
mod name;
pub mod of_service;
mod property;
pub mod span;
pub mod takes;
mod value;

pub use amount::{Amount, Memory, Percent, Tasks};
pub use escape::{cgroup_name, unescaped};
pub use file::Assignment;
pub use name::{Alias, INIT_SCOPE, ServiceName, SliceName, is_unit_name, section};
pub use of_service::{OF_SERVICES, OfService, ServiceValue};
pub use property::{
    CPU_QUOTA, CPU_WEIGHT, IO_READ_BANDWIDTH_MAX, IO_WEIGHT, IO_WRITE_BANDWIDTH_MAX, MEMORY_HIGH, MEMORY_LOW,
    MEMORY_MAX, MEMORY_MIN, MEMORY_SWAP_MAX, MEMORY_ZSWAP_MAX, OOM_SCORE_ADJUST, PROPERTIES, Property, SLICE,
    SettingValue, TASKS_MAX,
};
pub use value::{Bandwidth, CpuQuota, CpuWeight, OomScoreAdj, Weight};
