//! Limits that a policy cannot set and a unit can: whether the kernel has of them what PID 1 has.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::chain::{Chain, Link, Scene, Stage};
use super::finding::{Code, Finding, Fix, Place};
use super::remedy::{self, NewValue};
use super::settings::{Unwritten, absent, write_again};
use crate::host::cpu_set::CpuSet;
use crate::host::recorded::Recorded;
use crate::host::settings::Settings;
use crate::host::tree::CpuMax;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::survey::loaded_files;
use crate::survey::snapshot::{Attributes, Snapshot};
use crate::text::{quoted, shown};
use crate::units::Property;
use crate::units::span::{SECOND, span};

/// Limits of devices, and what they are called in `io.max`.
pub const OF_DEVICES: [(&str, &str); 4] = [
    ("IOReadBandwidthMax", "rbps"),
    ("IOWriteBandwidthMax", "wbps"),
    ("IOReadIOPSMax", "riops"),
    ("IOWriteIOPSMax", "wiops"),
];
const IO_MAX: &str = "io.max";
const LEFT: &str = "its line is gone since PID 1 wrote it, which takes no limit of a device back; or it was written past PID 1";
/// The least quota that the kernel takes, in µs: `min_cfs_quota_period`.
const LEAST_QUOTA: u64 = 1000;
const UNSET: &str = "unset";

/// One limit of one unit.
struct Limit {
    key: &'static str,
    attribute: &'static str,
    /// As PID 1 has it.
    known: String,
    /// As the kernel has it.
    live: String,
    holds: bool,
    /// Whether the cgroup has the attribute at all.
    is_there: bool,
    /// Why it does not, if that is known better than of any attribute.
    cause: Option<&'static str>,
    fix: Fix,
}

/// The ways of these limits from PID 1 to the kernel: all that are set, and those that the kernel still has.
#[must_use]
pub(super) fn undeclared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    let (cpus, nodes) = (all(scene, CPUS), all(scene, NODES));
    for (name, unit) in scene.units.iter().filter(|(_, unit)| unit.is_active()) {
        let Some(cgroup) = unit.cgroup().filter(|cgroup| !cgroup.as_os_str().is_empty()) else { continue };
        let Some(live) = scene.live.cgroups.get(&cgroup).map(|live| &live.attributes) else { continue };
        let looked = Looked { scene, name, unit, cgroup, live };
        let limits =
            [looked.quota(), looked.set(CPUS, &cpus), looked.set(NODES, &nodes)].into_iter().flatten();
        chains.extend(
            limits
                .chain(looked.of_devices())
                .filter(|limit| limit.known != UNSET || !limit.holds)
                .map(|limit| looked.chain(limit)),
        );
    }
    chains
}

/// The units of which it is to be asked what limits of devices PID 1 has: those with such a line, and those for which
/// the kernel has one.
#[must_use]
pub fn with_limits_of_devices(units: &Units, live: &Snapshot, settings: &Settings) -> Vec<String> {
    let is_limited = |(name, unit): &(&str, &Unit)| {
        let live = unit.cgroup().and_then(|cgroup| live.cgroups.get(&cgroup)?.attributes.get(IO_MAX));
        let files = loaded_files(name, Some(unit), settings, Recorded::default());
        live.is_some_and(|live| {
            !live.is_empty() || OF_DEVICES.iter().any(|(key, _)| files.set(key).is_some())
        })
    };
    let active = units.iter().filter(|(_, unit)| unit.is_active());
    active.filter(is_limited).map(|(name, _)| name.to_owned()).collect()
}

/// The settings and attributes of one kind of sets.
#[derive(Clone, Copy)]
struct Set {
    key: &'static str,
    attribute: &'static str,
    effective: &'static str,
}

const CPUS: Set = Set { key: "AllowedCPUs", attribute: "cpuset.cpus", effective: "cpuset.cpus.effective" };
const NODES: Set =
    Set { key: "AllowedMemoryNodes", attribute: "cpuset.mems", effective: "cpuset.mems.effective" };

/// All that any unit has of a set.
fn all(scene: &Scene<'_>, set: Set) -> CpuSet {
    let all = scene.live.cgroups.values().filter_map(|cgroup| cgroup.attributes.get(set.effective));
    all.fold(CpuSet::default(), |mut all, text| {
        all.add(&numbers(text));
        all
    })
}

struct Looked<'a> {
    scene: &'a Scene<'a>,
    name: &'a str,
    unit: &'a Unit,
    cgroup: PathBuf,
    live: &'a Attributes,
}

impl Looked<'_> {
    /// `CPUQuota=`: PID 1 has it for a second, the kernel for a period.
    fn quota(&self) -> Option<Limit> {
        let known = span(self.unit.text("CPUQuotaPerSecUSec")?, SECOND)?;
        let tree = &self.scene.live.tree;
        let Some(cpu) = tree[tree.find(&self.cgroup)?].cpu else {
            return (known != u64::MAX).then(|| self.absent("CPUQuota", "cpu.max", percent(known)));
        };
        let max = cpu.max;
        let wanted = |period| known.checked_mul(period).map(|quota| (quota / SECOND).max(LEAST_QUOTA));
        Some(Limit {
            key: "CPUQuota",
            attribute: "cpu.max",
            known: percent(known),
            live: max.map_or_else(
                || UNSET.to_owned(),
                |CpuMax { quota, period }| percent(quota.saturating_mul(SECOND) / period),
            ),
            // Where PID 1 has none, it writes none, and else it may round.
            holds: match max {
                None => known == u64::MAX,
                Some(CpuMax { quota, period }) => {
                    known != u64::MAX && wanted(period).is_some_and(|wanted| wanted.abs_diff(quota) <= 1)
                }
            },
            is_there: true,
            cause: None,
            fix: write_again(self.name, self.unit),
        })
    }

    /// Of a cgroup that has no such attribute.
    fn absent(&self, key: &'static str, attribute: &'static str, known: String) -> Limit {
        let (live, fix) = (UNSET.to_owned(), write_again(self.name, self.unit));
        Limit { key, attribute, known, live, holds: false, is_there: false, cause: None, fix }
    }

    /// A set of CPUs or nodes. The kernel takes back none from a cgroup with processes: what PID 1 writes for it
    /// then, nothing, is refused (`cpuset_can_attach`, ENOSPC), and what it had stays.
    fn set(&self, Set { key, attribute, effective }: Set, all: &CpuSet) -> Option<Limit> {
        if !self.unit.has(key) {
            return None;
        }
        let known = self.unit.text(key);
        let Some(live) = self.live.get(attribute) else {
            return Some(self.absent(key, attribute, known?.to_owned()));
        };
        let limit = |holds, fix| {
            let or_unset = |text: &str| if text.is_empty() { UNSET.to_owned() } else { text.to_owned() };
            let (known, live) = (or_unset(known.unwrap_or_default()), or_unset(live));
            Some(Limit { key, attribute, known, live, holds, is_there: true, cause: None, fix })
        };
        let Some(known) = known else {
            let own = numbers(live);
            let from = file(self.cgroup.parent().unwrap_or(Path::new("")), effective);
            let to = file(&self.cgroup, attribute);
            let fix = Fix::Command(format!("cat {} > {}", quoted(&from), quoted(&to)));
            return limit(own.is_empty() || self.above(effective, all).is_within(&own), fix);
        };
        if numbers(known) == numbers(live) {
            return limit(true, Fix::Apply);
        }
        // With one that there is not, the kernel refuses all of them.
        if !numbers(known).is_within(all) {
            let value = all.and(&numbers(known)).to_string();
            let change = NewValue { unit: self.name.to_owned(), property: key, value };
            let set_by = |unit: &str, key: &str| self.scene.place_of(unit, key);
            return limit(false, remedy::fix(&[change], &set_by));
        }
        limit(false, write_again(self.name, self.unit))
    }

    /// Limits of devices. PID 1 writes those that it has, and never takes another back.
    fn of_devices(&self) -> Vec<Limit> {
        let was_asked = OF_DEVICES.iter().all(|(key, _)| self.unit.has(key));
        let Some(live) = self.live.get(IO_MAX).filter(|_| was_asked).map(|text| io_max(text)) else {
            return Vec::new();
        };
        let devices = |key| self.unit.of_devices(key);
        let numbers: BTreeMap<&str, &str> = OF_DEVICES
            .iter()
            .flat_map(|(key, _)| devices(key))
            .filter_map(|(path, _)| Some((path, self.scene.disks.by_path.get(path)?.as_str())))
            .collect();
        let known: BTreeMap<(&str, &str), u64> = OF_DEVICES
            .iter()
            .flat_map(|(key, word)| devices(key).map(move |(path, limit)| (path, *word, limit)))
            .filter_map(|(path, word, limit)| Some(((*numbers.get(path)?, word), limit)))
            .collect();
        let is_unknown =
            OF_DEVICES.iter().flat_map(|(key, _)| devices(key)).any(|(path, _)| !numbers.contains_key(path));
        let left: Vec<_> = live.keys().filter(|key| !known.contains_key(*key)).collect();
        // What is delegated is another program's to limit, which PID 1 keeps as it is.
        let is_anothers = self.unit.is("Delegate") && !left.is_empty();
        if is_unknown || is_anothers {
            return Vec::new();
        }
        let file = file(&self.cgroup, IO_MAX);
        let take_back =
            left.iter().map(|(number, word)| format!("echo '{number} {word}=max' > {}", quoted(&file)));
        let take_back = take_back.collect::<Vec<_>>().join(" && ");
        let limit = |(key, word): (&'static str, &str)| {
            let of_word = |all: &BTreeMap<(&str, &str), u64>| {
                let limits = all.iter().filter(|((_, other), limit)| *other == word && **limit != u64::MAX);
                limits.map(|((number, _), limit)| (number.to_string(), *limit)).collect::<BTreeMap<_, _>>()
            };
            let (known, live) = (of_word(&known), of_word(&live));
            let is_left = left.iter().any(|(_, other)| *other == word);
            Limit {
                key,
                attribute: IO_MAX,
                holds: known == live,
                known: self.on_devices(&known),
                live: self.on_devices(&live),
                is_there: true,
                cause: is_left.then_some(LEFT),
                fix: if is_left {
                    Fix::Command(take_back.clone())
                } else {
                    write_again(self.name, self.unit)
                },
            }
        };
        OF_DEVICES.into_iter().map(limit).collect()
    }

    /// `5000000 on vda`
    fn on_devices(&self, limits: &BTreeMap<String, u64>) -> String {
        let name = |number: &String| {
            let disk = self.scene.disks.all.iter().find(|disk| disk.number == *number);
            disk.map_or_else(|| number.clone(), |disk| shown(&disk.name).to_string())
        };
        let each: Vec<String> =
            limits.iter().map(|(number, limit)| format!("{limit} on {}", name(number))).collect();
        if each.is_empty() { UNSET.to_owned() } else { each.join(", ") }
    }

    /// What the parent has of a set.
    fn above(&self, effective: &str, all: &CpuSet) -> CpuSet {
        let parent = self.cgroup.parent().and_then(|parent| self.scene.live.cgroups.get(parent));
        match parent.and_then(|parent| parent.attributes.get(effective)) {
            Some(text) => numbers(text),
            None => all.clone(),
        }
    }

    fn chain(&self, limit: Limit) -> Chain {
        let Limit { key, attribute, known, live, holds, is_there, cause, fix } = limit;
        let mut chain = Chain::new(self.name, key);
        let at = self.scene.place_of(self.name, key);
        let property = Link { stage: Stage::Property, value: Some(known.clone()), at, holds: true };
        chain.links.push(property);
        let at = Some(Place { file: file(&self.cgroup, attribute), line: None });
        chain.add(Link { stage: Stage::Cgroup, value: Some(live.clone()), at: at.clone(), holds }, |_| {
            if !is_there {
                let property = Property {
                    key,
                    unit: key,
                    bus: key,
                    attribute,
                    of_logins: false,
                    total: None,
                    always: false,
                };
                let (why, at, fix) = absent(self.scene, self.name, property, false, &self.cgroup, at, false);
                return Finding {
                    code: Code::ControllerOff,
                    subject: self.name.into(),
                    what: format!("{key} {known} has no effect"),
                    cost: None,
                    cause: why.said(&self.scene.live.tree, property),
                    at,
                    fix,
                };
            }
            let unwritten = Unwritten::new(self.scene, self.name, &self.cgroup);
            Finding {
                code: unwritten.code,
                subject: self.name.into(),
                what: format!("{key} {known} {} {live} in cgroupfs", unwritten.verb),
                cost: None,
                cause: cause.map_or(unwritten.cause, str::to_owned),
                at,
                fix,
            }
        });
        chain
    }
}

/// The limits of `io.max`, `254:0 rbps=5000000 wbps=max …`, by the device's number and their name there.
fn io_max(text: &str) -> BTreeMap<(&str, &str), u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let limits = lines.flat_map(|(number, all)| all.split(' ').map(move |limit| (number, limit)));
    limits
        .filter_map(|(number, limit)| {
            let (word, limit) = limit.split_once('=')?;
            // "max" is none.
            Some(((number, word), limit.parse().ok()?))
        })
        .collect()
}

fn file(cgroup: &Path, attribute: &str) -> PathBuf {
    paths::absolute(Path::new(paths::CGROUPFS).join(cgroup).join(attribute))
}

/// A quota of so many µs of a second, as a unit file takes it.
fn percent(quota: u64) -> String {
    if quota == u64::MAX {
        return UNSET.to_owned();
    }
    let (whole, decimals) = (quota / 10_000, quota % 10_000 / 100);
    if decimals == 0 { format!("{whole}%") } else { format!("{whole}.{decimals:02}%") }
}

/// As the kernel writes them, `0-3,8`, or systemctl: `0-3 8`. None where nothing is set.
fn numbers(text: &str) -> CpuSet {
    CpuSet::parse(&text.replace(' ', ",")).unwrap_or_default()
}
