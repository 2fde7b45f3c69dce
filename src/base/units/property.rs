//! The resource settings: what each is called in the policy, in a unit file and in cgroupfs, and what it can be.
#![forbid(unsafe_code)]

use std::fmt;

use super::{Amount, Bandwidth, CpuQuota, CpuWeight, Memory, Tasks, Weight};

/// One resource setting: what it is called in the policy, in a unit file, by PID 1 and in cgroupfs, and what takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// The policy's key.
    pub key: &'static str,
    /// systemd's setting.
    pub unit: &'static str,
    /// PID 1's property, `org.freedesktop.systemd1(5)`.
    pub bus: &'static str,
    /// The cgroup's attribute.
    pub attribute: &'static str,
    /// Whether a login takes it; slices and services take all.
    pub of_logins: bool,
    /// The policy's key of it for all logins together, `user.slice`.
    pub total: Option<&'static str>,
    /// Whether it is read of every unit that is looked at; others are, where a policy has them.
    pub always: bool,
}

/// The value of a resource setting; `Display` writes what a unit file takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// A CPU weight.
    Cpu(CpuWeight),
    /// So much of one CPU.
    Quota(CpuQuota),
    /// An I/O weight.
    Io(Weight),
    /// Bytes in a second of one disk.
    Bandwidth(Bandwidth),
    /// An amount of memory.
    Memory(Memory),
    /// A number of tasks.
    Tasks(Tasks),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(value) => value.fmt(f),
            Self::Quota(value) => value.fmt(f),
            Self::Io(value) => value.fmt(f),
            Self::Bandwidth(value) => value.fmt(f),
            Self::Memory(value) => value.fmt(f),
            Self::Tasks(value) => value.fmt(f),
        }
    }
}

impl SettingValue {
    /// What a number is of the same property, and of the same disk.
    #[must_use]
    pub fn at(&self, property: Property, number: u64) -> Option<Self> {
        match self {
            Self::Bandwidth(bandwidth) => Some(Self::Bandwidth(bandwidth.at(number))),
            _ => property.value(number),
        }
    }
}

/// A setting of slices, services and logins, which PID 1 knows by the name that it has in a unit file.
const fn everywhere(
    key: &'static str,
    unit: &'static str,
    attribute: &'static str,
    total: Option<&'static str>,
) -> Property {
    Property { key, unit, bus: unit, attribute, of_logins: true, total, always: true }
}

/// One of a single disk.
const fn of_device(property: Property) -> Property {
    Property { always: false, ..property }
}

/// One that a login's rule does not take.
const fn not_of_logins(property: Property) -> Property {
    Property { of_logins: false, ..property }
}

/// `CPUWeight=`; for all logins together there is `total_weight`, which may be a sum.
pub const CPU_WEIGHT: Property = everywhere("cpu_weight", "CPUWeight", "cpu.weight", None);
/// `CPUQuota=`
pub const CPU_QUOTA: Property = Property {
    bus: "CPUQuotaPerSecUSec",
    always: false,
    ..everywhere("cpu_quota", "CPUQuota", "cpu.max", Some("total_cpu_quota"))
};
/// `IOWeight=`
pub const IO_WEIGHT: Property = everywhere("io_weight", "IOWeight", "io.weight", Some("total_io_weight"));
/// `IOReadBandwidthMax=`
pub const IO_READ_BANDWIDTH_MAX: Property =
    of_device(everywhere("io_read_bandwidth_max", "IOReadBandwidthMax", "io.max", None));
/// `IOWriteBandwidthMax=`
pub const IO_WRITE_BANDWIDTH_MAX: Property =
    of_device(everywhere("io_write_bandwidth_max", "IOWriteBandwidthMax", "io.max", None));
/// `MemoryMin=`
pub const MEMORY_MIN: Property =
    not_of_logins(everywhere("memory_min", "MemoryMin", "memory.min", Some("total_memory_min")));
/// `MemoryLow=`
pub const MEMORY_LOW: Property =
    not_of_logins(everywhere("memory_low", "MemoryLow", "memory.low", Some("total_memory_low")));
/// `MemoryHigh=`
pub const MEMORY_HIGH: Property =
    everywhere("memory_high", "MemoryHigh", "memory.high", Some("total_memory_high"));
/// `MemoryMax=`
pub const MEMORY_MAX: Property =
    everywhere("memory_max", "MemoryMax", "memory.max", Some("total_memory_max"));
/// `MemorySwapMax=`
pub const MEMORY_SWAP_MAX: Property = not_of_logins(everywhere(
    "memory_swap_max",
    "MemorySwapMax",
    "memory.swap.max",
    Some("total_memory_swap_max"),
));
/// `MemoryZSwapMax=`
pub const MEMORY_ZSWAP_MAX: Property = not_of_logins(Property {
    always: false,
    ..everywhere("memory_zswap_max", "MemoryZSwapMax", "memory.zswap.max", None)
});
/// `TasksMax=`
pub const TASKS_MAX: Property = everywhere("tasks_max", "TasksMax", "pids.max", Some("total_tasks_max"));

/// Every one that a policy can set, in the order of the manual page.
pub const PROPERTIES: [Property; 12] = [
    CPU_WEIGHT,
    CPU_QUOTA,
    IO_WEIGHT,
    IO_READ_BANDWIDTH_MAX,
    IO_WRITE_BANDWIDTH_MAX,
    MEMORY_MIN,
    MEMORY_LOW,
    MEMORY_HIGH,
    MEMORY_MAX,
    MEMORY_SWAP_MAX,
    MEMORY_ZSWAP_MAX,
    TASKS_MAX,
];

/// The setting of a unit file, and PID 1's property, that says which slice a service is in: `Slice=`
pub const SLICE: &str = "Slice";
/// The same of the OOM score that a service's processes are started with: `OOMScoreAdjust=`
pub const OOM_SCORE_ADJUST: &str = "OOMScoreAdjust";

impl Property {
    /// Those that a login's rule takes.
    pub fn of_logins() -> impl Iterator<Item = Self> {
        PROPERTIES.into_iter().filter(|property| property.of_logins)
    }

    /// The one of this key; also by that which it has for all logins together.
    #[must_use]
    pub fn by_key(key: &str) -> Option<Self> {
        match key {
            "total_weight" => Some(CPU_WEIGHT),
            key => PROPERTIES.into_iter().find(|known| known.key == key || known.total == Some(key)),
        }
    }

    /// What the kernel has where nothing is set; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn unset(self) -> u64 {
        match self {
            CPU_WEIGHT | IO_WEIGHT => Weight::DEFAULT.get(),
            MEMORY_MIN | MEMORY_LOW => 0,
            _ => u64::MAX,
        }
    }

    /// What its disk has behind which word of `io.max`; `None` for what is of no disk.
    #[must_use]
    pub fn of_device(self) -> Option<&'static str> {
        match self {
            IO_READ_BANDWIDTH_MAX => Some("rbps"),
            IO_WRITE_BANDWIDTH_MAX => Some("wbps"),
            _ => None,
        }
    }

    /// A number that PID 1 or the kernel has of it: an idle weight is 0, [`u64::MAX`] no limit. `None` for a
    /// number that is no weight, and for what is of a disk: [`SettingValue::at`].
    #[must_use]
    pub fn value(self, number: u64) -> Option<SettingValue> {
        let amount = if number == u64::MAX { Amount::Infinity } else { Amount::Absolute(number) };
        Some(match self {
            CPU_WEIGHT if number == 0 => SettingValue::Cpu(CpuWeight::Idle),
            CPU_WEIGHT => SettingValue::Cpu(CpuWeight::Weight(Weight::new(number)?)),
            CPU_QUOTA => SettingValue::Quota(CpuQuota::of_a_second(number)),
            IO_WEIGHT => SettingValue::Io(Weight::new(number)?),
            IO_READ_BANDWIDTH_MAX | IO_WRITE_BANDWIDTH_MAX => return None,
            TASKS_MAX => SettingValue::Tasks(Tasks(amount)),
            _ => SettingValue::Memory(Memory(amount)),
        })
    }
}
