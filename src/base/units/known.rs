//! Which resource settings systemd knows, since which version, in which units, and what they take.
//!
//! `systemd.resource-control(5)`, `systemd.exec(5)`; systemd's `load-fragment-gperf.gperf.in`.
#![forbid(unsafe_code)]

use super::takes::Takes;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name.
    pub key: &'static str,
    /// What it takes.
    pub takes: Takes,
    units: Units,
    /// The first version that has it; 0 where 252 has it. Of what came after 257, no earlier one is told.
    since: u16,
    /// The first version that reads it no more.
    until: u16,
}

/// The units that have a setting, in the section of their kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Units {
    /// With a cgroup.
    All,
    /// That start processes themselves.
    OfProcesses,
    ServicesAndScopes,
    Slices,
}

const fn all(key: &'static str, takes: Takes) -> Known {
    Known { key, takes, units: Units::All, since: 0, until: u16::MAX }
}

const fn of_processes(key: &'static str, takes: Takes) -> Known {
    Known { units: Units::OfProcesses, ..all(key, takes) }
}

const fn since(since: u16, known: Known) -> Known {
    Known { since, ..known }
}

const fn until(until: u16, known: Known) -> Known {
    Known { until, ..known }
}

const fn of(units: Units, known: Known) -> Known {
    Known { units, ..known }
}

const KILLS: Takes = Takes::WordOrNone(&["auto", "kill"]);
const WATCH: Takes = Takes::WordOrBoolean(&["auto", "skip"]);
/// Every one that limits, weighs or places something.
pub const KNOWN: [Known; 90] = [
    all("AllowedCPUs", Takes::Cpus { or: "" }),
    all("AllowedMemoryNodes", Takes::Cpus { or: "" }),
    until(258, all("CPUAccounting", Takes::Boolean)),
    since(258, all("CPUPressureThresholdSec", Takes::Span)),
    since(258, all("CPUPressureWatch", WATCH)),
    all("CPUQuota", Takes::Quota),
    all("CPUQuotaPeriodSec", Takes::SpanOrNone),
    since(258, all("CPUSetPartition", Takes::WordOrNone(&["member", "root", "isolated"]))),
    all("CPUWeight", Takes::Weight { or: "idle" }),
    until(258, all("DefaultMemoryLow", Takes::Memory { zero: true })),
    until(258, all("DefaultMemoryMin", Takes::Memory { zero: true })),
    since(253, until(258, all("DefaultStartupMemoryLow", Takes::Memory { zero: true }))),
    of(Units::ServicesAndScopes, all("Delegate", Takes::Controllers)),
    since(254, all("DelegateSubgroup", Takes::CgroupName)),
    all("DeviceAllow", Takes::Any),
    all("DevicePolicy", Takes::Any),
    all("DisableControllers", Takes::SomeControllers),
    all("IOAccounting", Takes::Boolean),
    all("IODeviceLatencyTargetSec", Takes::DeviceLatency),
    all("IODeviceWeight", Takes::DeviceWeight),
    since(258, all("IOPressureThresholdSec", Takes::Span)),
    since(258, all("IOPressureWatch", WATCH)),
    all("IOReadBandwidthMax", Takes::DeviceLimit),
    all("IOReadIOPSMax", Takes::DeviceLimit),
    all("IOWeight", Takes::Weight { or: "" }),
    all("IOWriteBandwidthMax", Takes::DeviceLimit),
    all("IOWriteIOPSMax", Takes::DeviceLimit),
    all("IPAccounting", Takes::Boolean),
    all("IPAddressAllow", Takes::Any),
    all("IPAddressDeny", Takes::Any),
    all("ManagedOOMMemoryPressure", KILLS),
    since(257, all("ManagedOOMMemoryPressureDurationSec", Takes::SpanFrom1s)),
    all("ManagedOOMMemoryPressureLimit", Takes::Part),
    all("ManagedOOMPreference", Takes::Word(&["none", "avoid", "omit"])),
    all("ManagedOOMSwap", KILLS),
    all("MemoryAccounting", Takes::Boolean),
    all("MemoryHigh", Takes::Memory { zero: false }),
    all("MemoryLow", Takes::Memory { zero: true }),
    all("MemoryMax", Takes::Memory { zero: false }),
    all("MemoryMin", Takes::Memory { zero: true }),
    since(254, all("MemoryPressureThresholdSec", Takes::Span)),
    since(254, all("MemoryPressureWatch", WATCH)),
    all("MemorySwapMax", Takes::Memory { zero: true }),
    since(253, all("MemoryZSwapMax", Takes::Memory { zero: true })),
    since(256, all("MemoryZSwapWriteback", Takes::Boolean)),
    since(258, all("OOMRules", Takes::Any)),
    all("Slice", Takes::Slice),
    all("StartupAllowedCPUs", Takes::Cpus { or: "" }),
    all("StartupAllowedMemoryNodes", Takes::Cpus { or: "" }),
    all("StartupCPUWeight", Takes::Weight { or: "idle" }),
    all("StartupIOWeight", Takes::Weight { or: "" }),
    since(253, all("StartupMemoryHigh", Takes::Memory { zero: false })),
    since(253, all("StartupMemoryLow", Takes::Memory { zero: true })),
    since(253, all("StartupMemoryMax", Takes::Memory { zero: false })),
    since(253, all("StartupMemorySwapMax", Takes::Memory { zero: true })),
    since(253, all("StartupMemoryZSwapMax", Takes::Memory { zero: true })),
    all("TasksAccounting", Takes::Boolean),
    all("TasksMax", Takes::Tasks),
    of(Units::ServicesAndScopes, all("OOMPolicy", Takes::Word(&["continue", "stop", "kill"]))),
    since(258, of(Units::Slices, all("ActivatingConcurrencyMax", Takes::Count))),
    since(258, of(Units::Slices, all("ConcurrencyHardMax", Takes::Count))),
    since(258, of(Units::Slices, all("ConcurrencySoftMax", Takes::Count))),
    of_processes("CPUAffinity", Takes::Cpus { or: "numa" }),
    of_processes(
        "CPUSchedulingPolicy",
        Takes::WordOrNumber(&["other", "batch", "idle", "fifo", "rr", "ext"]),
    ),
    of_processes("CPUSchedulingPriority", Takes::Integer { least: 0, most: 99, none: false }),
    of_processes("CPUSchedulingResetOnFork", Takes::Boolean),
    of_processes("IOSchedulingClass", Takes::WordOrNumber(&["none", "realtime", "best-effort", "idle"])),
    of_processes("IOSchedulingPriority", Takes::Integer { least: 0, most: 7, none: true }),
    of_processes("LimitAS", Takes::LimitOfBytes),
    of_processes("LimitCORE", Takes::LimitOfBytes),
    of_processes("LimitCPU", Takes::LimitOfTime),
    of_processes("LimitDATA", Takes::LimitOfBytes),
    of_processes("LimitFSIZE", Takes::LimitOfBytes),
    of_processes("LimitLOCKS", Takes::LimitOfCount),
    of_processes("LimitMEMLOCK", Takes::LimitOfBytes),
    of_processes("LimitMSGQUEUE", Takes::LimitOfBytes),
    of_processes("LimitNICE", Takes::LimitOfNice),
    of_processes("LimitNOFILE", Takes::LimitOfCount),
    of_processes("LimitNPROC", Takes::LimitOfCount),
    of_processes("LimitRSS", Takes::LimitOfBytes),
    of_processes("LimitRTPRIO", Takes::LimitOfCount),
    of_processes("LimitRTTIME", Takes::LimitOfTime),
    of_processes("LimitSIGPENDING", Takes::LimitOfCount),
    of_processes("LimitSTACK", Takes::LimitOfBytes),
    since(254, of_processes("MemoryKSM", Takes::BooleanOrNone)),
    since(258, of_processes("MemoryTHP", Takes::Word(&["system", "inherit", "disable", "madvise"]))),
    of_processes("NUMAMask", Takes::Cpus { or: "all" }),
    of_processes(
        "NUMAPolicy",
        Takes::WordOrNone(&[
            "default",
            "preferred",
            "bind",
            "interleave",
            "local",
            "preferred-many",
            "weighted-interleave",
        ]),
    ),
    of_processes("Nice", Takes::Integer { least: -20, most: 19, none: true }),
    of_processes("OOMScoreAdjust", Takes::Integer { least: -1000, most: 1000, none: true }),
];
/// Settings that limit no resource of the machine"s, and are named like those that do.
pub const NAMED_ALIKE: [&str; 11] = [
    "IPEgressFilterPath",
    "IPIngressFilterPath",
    "BPFDelegateAttachments",
    "BPFDelegateCommands",
    "BPFDelegateMaps",
    "BPFDelegatePrograms",
    "CacheDirectoryQuota",
    "DelegateNamespaces",
    "LogsDirectoryQuota",
    "MemoryDenyWriteExecute",
    "StateDirectoryQuota",
];
/// Settings of cgroup v1, and what came after them.
const OF_V1: [(&str, &str); 9] = [
    ("CPUShares", "CPUWeight"),
    ("StartupCPUShares", "StartupCPUWeight"),
    ("MemoryLimit", "MemoryMax"),
    ("BlockIOAccounting", "IOAccounting"),
    ("BlockIOWeight", "IOWeight"),
    ("StartupBlockIOWeight", "StartupIOWeight"),
    ("BlockIODeviceWeight", "IODeviceWeight"),
    ("BlockIOReadBandwidth", "IOReadBandwidthMax"),
    ("BlockIOWriteBandwidth", "IOWriteBandwidthMax"),
];
/// The kinds of units with a cgroup, and the sections of their settings.
const SECTIONS: [(&str, &str); 6] = [
    ("service", "Service"),
    ("slice", "Slice"),
    ("scope", "Scope"),
    ("socket", "Socket"),
    ("mount", "Mount"),
    ("swap", "Swap"),
];
/// The kinds of units without one.
const WITHOUT_CGROUP: [&str; 5] = ["timer", "path", "target", "automount", "device"];
/// The newest version whose settings are all known here, as far as they are named like one of [`FAMILIES`].
const NEWEST: u16 = 262;
/// What the names of settings contain that limit or weigh something, in small letters. No other settings of
/// systemd's have such names but those of [`KNOWN`] and [`NAMED_ALIKE`].
const FAMILIES: [&str; 10] =
    ["cpu", "memory", "oom", "tasks", "swap", "affinity", "quota", "weight", "numa", "deleg"];
/// What they begin with.
const BEGINNINGS: [&str; 8] = ["allow", "block", "mem", "io", "limit", "nice", "slice", "task"];
/// Whether a kind of unit is one of systemd's.
#[must_use]
pub fn is_kind(kind: &str) -> bool {
    section_of(kind).is_some() || WITHOUT_CGROUP.contains(&kind)
}

/// The section in which a kind of unit has its settings; `None` for one without a cgroup.
#[must_use]
pub fn section_of(kind: &str) -> Option<&'static str> {
    SECTIONS.iter().find(|(known, _)| *known == kind).map(|(_, section)| *section)
}

/// Whether a setting limits or protects something, or is one of cgroup v1 that did.
#[must_use]
pub fn is_resource(key: &str) -> bool {
    known(key).is_some() || successor(key).is_some()
}

/// What has come after a setting of cgroup v1.
#[must_use]
pub fn successor(key: &str) -> Option<&'static str> {
    OF_V1.iter().find(|(known, _)| *known == key).map(|(_, after)| *after)
}

/// A setting of this name.
#[must_use]
pub fn known(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.key == key)
}

impl Known {
    /// Whether only other kinds of units have it.
    #[must_use]
    pub fn is_foreign(&self, kind: &str) -> bool {
        match self.units {
            Units::All => false,
            Units::OfProcesses => !["service", "socket", "mount", "swap"].contains(&kind),
            Units::ServicesAndScopes => !["service", "scope"].contains(&kind),
            Units::Slices => kind != "slice",
        }
    }

    /// The version that brings it, where this one is older.
    #[must_use]
    pub fn comes_with(&self, version: Option<u16>) -> Option<u16> {
        version.filter(|version| *version < self.since).map(|_| self.since)
    }

    /// Whether this version reads it no more.
    #[must_use]
    pub fn is_gone(&self, version: Option<u16>) -> bool {
        version.is_some_and(|version| version >= self.until)
    }
}

/// Whether an unknown name reads like that of a resource setting, and this version has none of it.
#[must_use]
pub fn sounds_like_one(key: &str, version: Option<u16>) -> bool {
    let key = key.to_lowercase();
    version.is_some_and(|version| version <= NEWEST)
        && !NAMED_ALIKE.iter().any(|known| known.to_lowercase() == key)
        && (FAMILIES.iter().any(|part| key.contains(part))
            || BEGINNINGS.iter().any(|beginning| key.starts_with(beginning)))
}
