//! The resource settings: what each is called in the policy, in a unit file and in cgroupfs, and what it can be.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Amount, CpuWeight, Memory, Tasks, Weight};

/// The names of one resource setting: in the policy, in a unit file, in cgroupfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// The policy's key.
    pub key: &'static str,
    /// systemd's setting and D-Bus property.
    pub unit: &'static str,
    /// The cgroup's attribute.
    pub attribute: &'static str,
}

/// The value of a resource setting; `Display` writes what a unit file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingValue {
    /// A CPU weight.
    Cpu(CpuWeight),
    /// An I/O weight.
    Io(Weight),
    /// An amount of memory.
    Memory(Memory),
    /// A number of tasks.
    Tasks(Tasks),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(value) => value.fmt(f),
            Self::Io(value) => value.fmt(f),
            Self::Memory(value) => value.fmt(f),
            Self::Tasks(value) => value.fmt(f),
        }
    }
}

/// `CPUWeight=`
pub const CPU_WEIGHT: Property = Property { key: "cpu_weight", unit: "CPUWeight", attribute: "cpu.weight" };
/// `IOWeight=`
pub const IO_WEIGHT: Property = Property { key: "io_weight", unit: "IOWeight", attribute: "io.weight" };
/// `MemoryMin=`
pub const MEMORY_MIN: Property = Property { key: "memory_min", unit: "MemoryMin", attribute: "memory.min" };
/// `MemoryLow=`
pub const MEMORY_LOW: Property = Property { key: "memory_low", unit: "MemoryLow", attribute: "memory.low" };
/// `MemoryHigh=`
pub const MEMORY_HIGH: Property =
    Property { key: "memory_high", unit: "MemoryHigh", attribute: "memory.high" };
/// `MemoryMax=`
pub const MEMORY_MAX: Property = Property { key: "memory_max", unit: "MemoryMax", attribute: "memory.max" };
/// `MemorySwapMax=`
pub const MEMORY_SWAP_MAX: Property =
    Property { key: "memory_swap_max", unit: "MemorySwapMax", attribute: "memory.swap.max" };
/// `TasksMax=`
pub const TASKS_MAX: Property = Property { key: "tasks_max", unit: "TasksMax", attribute: "pids.max" };

/// Every one that a policy can set.
pub const PROPERTIES: [Property; 8] =
    [CPU_WEIGHT, IO_WEIGHT, MEMORY_MIN, MEMORY_LOW, MEMORY_HIGH, MEMORY_MAX, MEMORY_SWAP_MAX, TASKS_MAX];

/// The setting of a unit file, and PID 1's property, that says which slice a service is in: `Slice=`
pub const SLICE: &str = "Slice";
/// The same of the OOM score that a service's processes are started with: `OOMScoreAdjust=`
pub const OOM_SCORE_ADJUST: &str = "OOMScoreAdjust";

impl Property {
    /// What the kernel has where nothing is set; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn unset(self) -> u64 {
        match self {
            CPU_WEIGHT | IO_WEIGHT => Weight::DEFAULT.get(),
            MEMORY_MIN | MEMORY_LOW => 0,
            _ => u64::MAX,
        }
    }

    /// A number that PID 1 or the kernel has of it: an idle weight is 0, [`u64::MAX`] no limit. `None` for a
    /// number that is no weight.
    #[must_use]
    pub fn value(self, number: u64) -> Option<SettingValue> {
        let amount = if number == u64::MAX { Amount::Infinity } else { Amount::Absolute(number) };
        Some(match self {
            CPU_WEIGHT if number == 0 => SettingValue::Cpu(CpuWeight::Idle),
            CPU_WEIGHT => SettingValue::Cpu(CpuWeight::Weight(Weight::new(number)?)),
            IO_WEIGHT => SettingValue::Io(Weight::new(number)?),
            TASKS_MAX => SettingValue::Tasks(Tasks(amount)),
            _ => SettingValue::Memory(Memory(amount)),
        })
    }
}
