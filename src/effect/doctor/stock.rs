//! What is wrong on a machine without any policy: settings that systemd ignores or refuses, limits that
//! contradict one another, cgroup v1, a score on the ssh service.
//!
//! Which settings there are, and where: `systemd.resource-control(5)`, `systemd.exec(5)`; which values
//! are refused: systemd's `load-fragment.c`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use strsim::damerau_levenshtein;

use crate::effect::finding::{Code, Finding, Fix, Place};
use crate::host::settings::{File, Settings};
use crate::host::unit_file::Assignment;
use crate::host::units::{Unit, Units};
use crate::host::v1::V1;
use crate::line::quoted;
use crate::policy::OOM_SCORE_ADJUST;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
/// The services that logins come from, by their names in Debian and elsewhere.
const SSH: [&str; 2] = ["ssh", "sshd"];

/// What is wrong whatever the policy says.
///
/// Codes: FS033, FS061, FS070 to FS074. `v1` is what the machine has of cgroup v1.
#[must_use]
pub fn findings(v1: Option<&V1>, units: &Units, settings: &Settings) -> Vec<Finding> {
    let mut found: Vec<Finding> = v1.map(cgroup_v1).into_iter().collect();
    for (name, unit) in units.iter() {
        found.extend(ssh(name, unit, settings));
        found.extend(contradiction(name, unit, settings));
    }
    for (path, file) in settings.iter() {
        if file.applies {
            found.extend(ignored_sections(path, file));
            found.extend(file.assignments.iter().filter_map(|assignment| assigned(file, assignment)));
        } else {
            found.extend(unused(path, file, units));
        }
    }
    found
}

fn cgroup_v1(v1: &V1) -> Finding {
    let V1 { controllers, mounted, argument } = v1;
    let held = controllers.join(", ");
    Finding {
        code: Code::CgroupV1,
        subject: "cgroup".to_owned(),
        what: format!("cgroup v1 holds {held}: cgroup2 has none of that"),
        cost: Some("weights, protections and slices of systemd come to little or nothing".to_owned()),
        cause: match argument {
            Some(argument) => format!("the kernel was started with {argument}"),
            None => format!("something has mounted cgroup v1 on {}", mounted.display()),
        },
        at: Some(match argument {
            Some(_) => Place { file: "/proc/cmdline".into(), line: Some(1) },
            None => Place::of_file("/proc/mounts"),
        }),
        fix: Fix::Edit(match argument {
            Some(argument) => format!(
                "take {argument} out of GRUB_CMDLINE_LINUX in /etc/default/grub, then \"update-grub\" and reboot"
            ),
            None => format!("unmount {} and find out what mounts it", mounted.display()),
        }),
    }
}

/// A negative score on the ssh service. sshd sets −1000 on its listener by itself, and gives each login
/// the score that it was started with.
fn ssh(name: &str, unit: &Unit, settings: &Settings) -> Option<Finding> {
    let stem = name.strip_suffix(".service")?;
    let score: i64 = unit.text(OOM_SCORE_ADJUST)?.parse().ok()?;
    if score >= 0 || !SSH.contains(&stem.split('@').next().unwrap_or_default()) {
        return None;
    }
    let at = settings.setting(unit, OOM_SCORE_ADJUST).map(Place::from);
    let restart = format!("systemctl restart {}", quoted(name));
    let lot = if score <= -1000 { "can never be killed for memory" } else { "are killed late" };
    Some(Finding {
        code: Code::ScoreOnSshd,
        subject: name.to_owned(),
        what: format!("{OOM_SCORE_ADJUST}={score}: every login inherits it"),
        cost: Some(format!("all processes of logins over ssh {lot}; services are killed instead")),
        cause: "sshd protects its listener by itself, and gives logins the score it was started with"
            .to_owned(),
        fix: Fix::Edit(match &at {
            Some(at) => {
                format!("remove the line {at}, then \"systemctl daemon-reload; {restart}\"")
            }
            None => format!("see \"systemctl cat {}\", then \"{restart}\"", quoted(name)),
        }),
        at,
    })
}

/// Limits of one unit of which one leaves the other without effect.
fn contradiction(name: &str, unit: &Unit, settings: &Settings) -> Option<Finding> {
    let amount = |key| unit.number(key).filter(|amount| !matches!(amount, 0 | &u64::MAX));
    let limits = ["MemoryMax", "MemoryHigh"].map(|key| Some((key, amount(key)?)));
    let (max, high) = (limits[0], limits[1]);
    let protections = ["MemoryMin", "MemoryLow"].map(|key| Some((key, amount(key)?)));
    let above = |(_, protected): &(&str, u64), (_, limit): &(&str, u64)| protected > limit;
    let (first, second, cost) = match (high, max) {
        (Some(high), Some(max)) if high.1 >= max.1 => {
            (high, max, "nothing is slowed down and reclaimed before it is killed")
        }
        _ => {
            let pairs = protections.into_iter().flatten();
            let mut pairs = pairs.flat_map(|p| limits.into_iter().flatten().map(move |limit| (p, limit)));
            let (protection, limit) = pairs.find(|(protection, limit)| above(protection, limit))?;
            (protection, limit, "what is above the limit is not protected")
        }
    };
    let [at, other] = [first, second].map(|(key, _)| settings.setting(unit, key).map(Place::from));
    let relation = if first.1 == second.1 { "is no less than" } else { "is above" };
    Some(Finding {
        code: Code::MemoryContradiction,
        subject: name.to_owned(),
        what: format!("{}={} {relation} {}={}", first.0, shown(first.1), second.0, shown(second.1)),
        cost: Some(cost.to_owned()),
        cause: match &other {
            Some(other) => format!("{}= is set in {other}", second.0),
            None => format!("{}= is set as well: \"systemctl show {}\"", second.0, quoted(name)),
        },
        fix: Fix::Edit(format!("set {} below {}: \"systemctl edit {}\"", first.0, second.0, quoted(name))),
        at: at.or(other),
    })
}

/// Bytes in the largest unit that they are a whole number of.
fn shown(bytes: u64) -> String {
    let unit =
        [(30, "G"), (20, "M"), (10, "K")].into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, suffix)| format!("{}{suffix}", bytes >> shift))
}

fn section_of(kind: &str) -> Option<&'static str> {
    SECTIONS.iter().find(|(known, _)| *known == kind).map(|(_, section)| *section)
}

/// Whether a setting limits or protects something, or is one of cgroup v1 that did.
fn is_resource(key: &str) -> bool {
    RESOURCES.iter().any(|(known, _)| *known == key)
        || OF_PROCESSES.iter().any(|(known, ..)| *known == key)
        || OF_V1.iter().any(|(known, _)| *known == key)
}

/// Whether only other kinds of units have this setting.
fn is_foreign(file: &File, key: &str) -> bool {
    OF_PROCESSES.iter().any(|(known, _, kinds)| *known == key && !kinds.contains(&file.kind()))
}

/// Sections that this kind of unit does not have, with settings that would matter: `[Slice]` in a
/// service, `[service]`. One finding for each.
fn ignored_sections(path: &Path, file: &File) -> Vec<Finding> {
    let Some(section) = section_of(file.kind()) else { return Vec::new() };
    let mut by_section: BTreeMap<&str, Vec<&Assignment>> = BTreeMap::new();
    let is_wrong = |assignment: &&Assignment| {
        let (other, key) = (assignment.section.as_str(), assignment.key.as_str());
        other != section && !other.starts_with("X-") && is_resource(key) && !is_foreign(file, key)
    };
    for assignment in file.assignments.iter().filter(is_wrong) {
        by_section.entry(&assignment.section).or_default().push(assignment);
    }
    let finding = |(wrong, assignments): (&str, Vec<&Assignment>)| {
        let mut keys: Vec<String> = assignments.iter().map(|a| format!("{}=", a.key)).collect();
        keys.dedup();
        let at = Place { file: path.to_owned(), line: assignments.first().map(|first| first.line) };
        Finding {
            code: Code::SettingIgnored,
            subject: file.unit.clone(),
            what: format!("{} in [{wrong}] counts for nothing", keys.join(", ")),
            cost: None,
            cause: format!("a {} takes it in [{section}]", file.kind()),
            fix: corrected(&at, &format!("put it into a section [{section}]")),
            at: Some(at),
        }
    };
    by_section.into_iter().map(finding).collect()
}

fn corrected(at: &Place, what: &str) -> Fix {
    let vendors = ["/usr", "/lib"].iter().any(|directory| at.file.starts_with(directory));
    Fix::Edit(if vendors {
        format!("report it to the package of {}, and {what} in a drop-in of your own", at.file.display())
    } else {
        format!("{at}: {what}, then \"systemctl daemon-reload\"")
    })
}

/// One line: in the right section, or of a setting that is right in none.
fn assigned(file: &File, assignment: &Assignment) -> Option<Finding> {
    let Assignment { key, value, .. } = assignment;
    let section = section_of(file.kind())?;
    let is_foreign = is_foreign(file, key) && !assignment.section.starts_with("X-");
    if section != assignment.section && !is_foreign {
        return None;
    }
    let at = Place::from(assignment);
    let (code, what, cause, remedy) = if let Some((_, after)) = OF_V1.iter().find(|(known, _)| known == key) {
        let cause =
            format!("of cgroup v1: systemd converts it to {after}= up to version 257 and ignores it after");
        (Code::SettingOfV1, format!("{key}={value} will count for nothing"), cause, format!("write {after}="))
    } else if is_foreign {
        let cause = format!("a {} has no such setting", file.kind());
        let remedy = format!("take it out and set {key}= in each service");
        (Code::SettingIgnored, format!("{key}={value} counts for nothing"), cause, remedy)
    } else if let Some(kind) = kind_of(key) {
        let expected = refused(kind, value)?;
        let cause = format!("systemd refuses the value: it takes {expected}");
        (
            Code::ValueRefused,
            format!("{key}={value} counts for nothing"),
            cause,
            format!("give it {expected}"),
        )
    } else {
        let meant = misspelt(key)?;
        let cause = format!("there is no {key}=");
        (Code::SettingIgnored, format!("{key}={value} counts for nothing"), cause, format!("write {meant}="))
    };
    let fix = corrected(&at, &remedy);
    Some(Finding { code, subject: file.unit.clone(), what, cost: None, cause, at: Some(at), fix })
}

fn kind_of(key: &str) -> Option<Kind> {
    let resource = RESOURCES.iter().find(|(known, _)| *known == key).map(|(_, kind)| *kind);
    resource.or_else(|| OF_PROCESSES.iter().find(|(known, ..)| *known == key).map(|(_, kind, _)| *kind))
}

/// The setting that an unknown name was meant to be.
fn misspelt(key: &str) -> Option<&'static str> {
    let of_processes = OF_PROCESSES.iter().map(|(known, ..)| *known);
    let known = RESOURCES.iter().map(|(known, _)| *known).chain(of_processes);
    let distance = |known: &str| damerau_levenshtein(&known.to_lowercase(), &key.to_lowercase());
    let most = if key.len() < SHORTEST { 0 } else { 1 + key.len() / 10 };
    let is_cut_short = |known: &str| key.len() > LONG && known.starts_with(key);
    known.filter(|known| distance(known) <= most || is_cut_short(known)).min_by_key(|known| distance(known))
}

/// What a setting takes, if this value is none of it. An empty one takes back what was set before.
fn refused(kind: Kind, value: &str) -> Option<String> {
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

/// A drop-in that limits or protects something of a unit that there is not.
fn unused(path: &Path, file: &File, units: &Units) -> Option<Finding> {
    let first = file.assignments.iter().find(|assignment| is_resource(&assignment.key))?;
    let distance = |name: &str| damerau_levenshtein(name, &file.unit);
    let like = units.iter().filter(|(_, unit)| unit.text("LoadState") == Some("loaded"));
    let nearest = like.map(|(name, _)| name).min_by_key(|name| distance(name));
    let nearest = nearest.filter(|name| distance(name) <= 1 + file.unit.len() / 8);
    let at = Place::from(first);
    let is_users = file.unit.starts_with("user-") && file.kind() == "slice";
    Some(Finding {
        code: Code::DropInUnused,
        subject: file.unit.clone(),
        what: format!("{}={} is for a unit that there is not", first.key, first.value),
        cost: None,
        cause: if is_users {
            "the slice of a user is named after the number, not the name".to_owned()
        } else {
            format!("systemd knows no {}", file.unit)
        },
        fix: match nearest {
            _ if is_users => Fix::Edit(format!("rename {} to user-UID.slice.d", directory(path))),
            Some(nearest) => Fix::Edit(format!("rename {} to {nearest}.d", directory(path))),
            None => Fix::Edit(format!("remove {}, or install what it is for", path.display())),
        },
        at: Some(at),
    })
}

fn directory(path: &Path) -> String {
    path.parent().unwrap_or(path).display().to_string()
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
