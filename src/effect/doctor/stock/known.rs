//! Which resource settings systemd knows, in which sections, and what they take.
//!
//! `systemd.resource-control(5)`, `systemd.exec(5)`; which values are refused: systemd's `load-fragment.c`.
#![forbid(unsafe_code)]

use strsim::damerau_levenshtein;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 1 to 10000, for the CPU also `idle`.
    CpuWeight,
    Weight,
    /// Bytes, percent or `infinity`; a limit not 0.
    MemoryLimit,
    Memory,
    Tasks,
    Quota,
    /// One of these words.
    Words(&'static [&'static str]),
    Score,
    /// The name of a slice.
    Slice,
    /// Anything: it is not looked at.
    Any,
}

const KILLS: Kind = Kind::Words(&["auto", "kill"]);
/// What every unit with a cgroup takes, in the section of its kind. `Default…` and `Startup…` stand
/// where systemd 252 has them.
const RESOURCES: [(&str, Kind); 52] = [
    ("AllowedCPUs", Kind::Any),
    ("AllowedMemoryNodes", Kind::Any),
    ("CPUAccounting", Kind::Any),
    ("CPUQuota", Kind::Quota),
    ("CPUQuotaPeriodSec", Kind::Any),
    ("CPUWeight", Kind::CpuWeight),
    ("DefaultMemoryLow", Kind::Memory),
    ("DefaultMemoryMin", Kind::Memory),
    ("DefaultStartupMemoryLow", Kind::Memory),
    ("Delegate", Kind::Any),
    ("DelegateSubgroup", Kind::Any),
    ("DeviceAllow", Kind::Any),
    ("DevicePolicy", Kind::Any),
    ("DisableControllers", Kind::Any),
    ("IOAccounting", Kind::Any),
    ("IODeviceLatencyTargetSec", Kind::Any),
    ("IODeviceWeight", Kind::Any),
    ("IOReadBandwidthMax", Kind::Any),
    ("IOReadIOPSMax", Kind::Any),
    ("IOWeight", Kind::Weight),
    ("IOWriteBandwidthMax", Kind::Any),
    ("IOWriteIOPSMax", Kind::Any),
    ("IPAccounting", Kind::Any),
    ("IPAddressAllow", Kind::Any),
    ("IPAddressDeny", Kind::Any),
    ("ManagedOOMMemoryPressure", KILLS),
    ("ManagedOOMMemoryPressureDurationSec", Kind::Any),
    ("ManagedOOMMemoryPressureLimit", Kind::Any),
    ("ManagedOOMPreference", Kind::Words(&["none", "avoid", "omit"])),
    ("ManagedOOMSwap", KILLS),
    ("MemoryAccounting", Kind::Any),
    ("MemoryHigh", Kind::MemoryLimit),
    ("MemoryLow", Kind::Memory),
    ("MemoryMax", Kind::MemoryLimit),
    ("MemoryMin", Kind::Memory),
    ("MemoryPressureThresholdSec", Kind::Any),
    ("MemoryPressureWatch", Kind::Any),
    ("MemorySwapMax", Kind::Memory),
    ("MemoryZSwapMax", Kind::Memory),
    ("MemoryZSwapWriteback", Kind::Any),
    ("Slice", Kind::Slice),
    ("StartupAllowedCPUs", Kind::Any),
    ("StartupAllowedMemoryNodes", Kind::Any),
    ("StartupCPUWeight", Kind::CpuWeight),
    ("StartupIOWeight", Kind::Weight),
    ("StartupMemoryHigh", Kind::MemoryLimit),
    ("StartupMemoryLow", Kind::Memory),
    ("StartupMemoryMax", Kind::MemoryLimit),
    ("StartupMemorySwapMax", Kind::Memory),
    ("StartupMemoryZSwapMax", Kind::Memory),
    ("TasksAccounting", Kind::Any),
    ("TasksMax", Kind::Tasks),
];
/// What units take that start processes themselves, by the kinds of these units.
const OF_PROCESSES: [(&str, Kind, &[&str]); 3] = [
    ("OOMScoreAdjust", Kind::Score, &["service", "socket", "mount", "swap"]),
    ("OOMPolicy", Kind::Words(&["continue", "stop", "kill"]), &["service", "scope"]),
    ("Nice", Kind::Any, &["service", "socket", "mount", "swap"]),
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
/// Shorter names are too near to one another, but for their capitals.
const SHORTEST: usize = 6;
/// What is longer may lack its end: `OOMScoreAdj`.
const LONG: usize = 8;

/// The section in which a kind of unit has its settings; `None` for one without a cgroup.
pub(super) fn section_of(kind: &str) -> Option<&'static str> {
    SECTIONS.iter().find(|(known, _)| *known == kind).map(|(_, section)| *section)
}

/// Whether a setting limits or protects something, or is one of cgroup v1 that did.
pub(super) fn is_resource(key: &str) -> bool {
    RESOURCES.iter().any(|(known, _)| *known == key)
        || OF_PROCESSES.iter().any(|(known, ..)| *known == key)
        || OF_V1.iter().any(|(known, _)| *known == key)
}

/// Whether only other kinds of units have this setting.
pub(super) fn is_foreign(kind: &str, key: &str) -> bool {
    OF_PROCESSES.iter().any(|(known, _, kinds)| *known == key && !kinds.contains(&kind))
}

/// What has come after a setting of cgroup v1.
pub(super) fn successor(key: &str) -> Option<&'static str> {
    OF_V1.iter().find(|(known, _)| *known == key).map(|(_, after)| *after)
}

/// What a setting takes; `None` for one that there is not.
pub(super) fn kind_of(key: &str) -> Option<Kind> {
    let resource = RESOURCES.iter().find(|(known, _)| *known == key).map(|(_, kind)| *kind);
    resource.or_else(|| OF_PROCESSES.iter().find(|(known, ..)| *known == key).map(|(_, kind, _)| *kind))
}

/// The setting that an unknown name was meant to be.
pub(super) fn misspelt(key: &str) -> Option<&'static str> {
    let of_processes = OF_PROCESSES.iter().map(|(known, ..)| *known);
    let known = RESOURCES.iter().map(|(known, _)| *known).chain(of_processes);
    let distance = |known: &str| damerau_levenshtein(&known.to_lowercase(), &key.to_lowercase());
    let most = if key.len() < SHORTEST { 0 } else { 1 + key.len() / 10 };
    let is_cut_short = |known: &str| key.len() > LONG && known.starts_with(key);
    known.filter(|known| distance(known) <= most || is_cut_short(known)).min_by_key(|known| distance(known))
}

/// What a setting takes, if this value is none of it. An empty one takes back what was set before.
pub(super) fn refused(kind: Kind, value: &str) -> Option<String> {
    let number = || value.parse::<i64>().ok();
    let (is_right, expected) = match kind {
        _ if value.is_empty() => (true, String::new()),
        Kind::Any => (true, String::new()),
        Kind::CpuWeight => (
            value == "idle" || number().is_some_and(|weight| (1..=10_000).contains(&weight)),
            "1 to 10000, or \"idle\"".to_owned(),
        ),
        Kind::Weight => {
            (number().is_some_and(|weight| (1..=10_000).contains(&weight)), "1 to 10000".to_owned())
        }
        Kind::Memory | Kind::MemoryLimit => (
            value == "infinity"
                || percent(value).is_some_and(|percent| percent <= 100.0)
                || bytes(value).is_some_and(|some| some || kind == Kind::Memory),
            "bytes with a suffix K, M, G or T, a percentage, or \"infinity\"".to_owned(),
        ),
        Kind::Tasks => (
            value == "infinity"
                || percent(value).is_some_and(|percent| percent > 0.0 && percent <= 100.0)
                || number().is_some_and(|tasks| tasks > 0),
            "a number from 1, a percentage, or \"infinity\"".to_owned(),
        ),
        Kind::Quota => (
            percent(value).is_some_and(|percent| percent > 0.0),
            "a percentage of one CPU: \"150%\"".to_owned(),
        ),
        Kind::Words(words) => (words.contains(&value), words.join(", ")),
        Kind::Score => {
            (number().is_some_and(|score| (-1000..=1000).contains(&score)), "-1000 to 1000".to_owned())
        }
        Kind::Slice => (value.ends_with(".slice"), "the name of a slice, which ends in .slice".to_owned()),
    };
    (!is_right).then_some(expected)
}

/// Parts of hundred; also what is written in thousands or ten thousands.
fn percent(value: &str) -> Option<f64> {
    let parts = [('%', 1.0), ('‰', 10.0), ('‱', 100.0)];
    let (number, of) = parts.iter().find_map(|(sign, of)| Some((value.strip_suffix(*sign)?, of)))?;
    number.trim().parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| number / of)
}

/// Whether an amount of bytes is above 0; `None` for what is no such amount. systemd's `parse_size`:
/// numbers with or without decimals, each with a suffix, as `1G512M`.
fn bytes(value: &str) -> Option<bool> {
    let mut some = false;
    let mut rest = value.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        some |= number.parse::<f64>().ok()? > 0.0;
        let after = after.trim_start();
        rest = after.strip_prefix(['B', 'K', 'M', 'G', 'T', 'P', 'E']).unwrap_or(after).trim_start();
    }
    Some(some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_refused_as_systemd_refuses_them() {
        for (kind, right, wrong) in [
            (Kind::CpuWeight, &["1", "10000", "idle", ""][..], &["0", "10001", "100%", "high", "1.5"][..]),
            (Kind::Weight, &["1", "10000"], &["0", "idle"]),
            (
                Kind::MemoryLimit,
                &["512M", "1.5G", "1G512M", "512 M", "infinity", "50%", "68.75%", "4096", "1024B"],
                &["512MB", "512m", "512Mi", "1GiB", "0", "101%", "-1", "max", "half", "M"],
            ),
            (Kind::Memory, &["0", "512M"], &["512mb"]),
            (Kind::Tasks, &["1", "33%", "infinity"], &["0", "max", "0%", "-1"]),
            (Kind::Quota, &["20%", "400%", "12.5%"], &["2", "0%", "50 percent"]),
            (Kind::Score, &["-1000", "1000", "0"], &["-1001", "1001", "low"]),
            (KILLS, &["auto", "kill"], &["yes", "Kill"]),
            (Kind::Slice, &["a.slice", "system-%p.slice"], &["a", "a-b"]),
        ] {
            for value in right {
                assert_eq!(refused(kind, value), None, "{kind:?} {value}");
            }
            for value in wrong {
                assert!(refused(kind, value).is_some(), "{kind:?} {value}");
            }
        }
    }

    #[test]
    fn a_misspelt_setting_is_known_again_and_another_is_not_taken_for_it() {
        for (key, meant) in [
            ("CPUWeigth", "CPUWeight"),
            ("CpuWeight", "CPUWeight"),
            ("cpuweight", "CPUWeight"),
            ("MemorryMax", "MemoryMax"),
            ("MemMax", ""),
            ("TaskMax", "TasksMax"),
            ("OOMScoreAdj", "OOMScoreAdjust"),
            ("NUMAPolicy", ""),
            ("IPIngressFilterPath", ""),
            ("OOMScoreAdjusts", "OOMScoreAdjust"),
            ("OOMscoreAdjust", "OOMScoreAdjust"),
            ("slice", "Slice"),
            ("Alice", ""),
        ] {
            assert_eq!(misspelt(key).unwrap_or_default(), meant, "{key}");
        }
    }
}
