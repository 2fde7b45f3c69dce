//! The settings that services alone take of a policy, beside weights and limits: what each is called, and what it can be.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use super::cpu_set::CpuSet;
use super::takes;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfService {
    /// The policy's key.
    pub key: &'static str,
    /// systemd's setting and PID 1's property.
    pub unit: &'static str,
    /// What shows it: an attribute of the cgroup, or something of the main process.
    pub attribute: &'static str,
    /// Whether the process that PID 1 starts has it: then it comes into force at the next start.
    pub of_process: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cpus,
    OomPolicy,
    Nice,
    IoClass,
}

const fn of_cgroup(key: &'static str, unit: &'static str, attribute: &'static str, kind: Kind) -> OfService {
    OfService { key, unit, attribute, of_process: false, kind }
}

/// `AllowedCPUs=`
pub const ALLOWED_CPUS: OfService = of_cgroup("allowed_cpus", "AllowedCPUs", "cpuset.cpus", Kind::Cpus);
/// `OOMPolicy=`; of the three, the kernel knows only whether it takes all processes at once.
pub const OOM_POLICY: OfService = of_cgroup("oom_policy", "OOMPolicy", "memory.oom.group", Kind::OomPolicy);
/// `Nice=`
pub const NICE: OfService = OfService { of_process: true, ..of_cgroup("nice", "Nice", "nice", Kind::Nice) };
/// `IOSchedulingClass=`
pub const IO_SCHEDULING_CLASS: OfService = OfService {
    of_process: true,
    ..of_cgroup("io_scheduling_class", "IOSchedulingClass", "ioprio", Kind::IoClass)
};
/// All of them, in the order of the manual page.
pub const OF_SERVICES: [OfService; 4] = [ALLOWED_CPUS, OOM_POLICY, NICE, IO_SCHEDULING_CLASS];

/// The words of `OOMPolicy=`.
const OOM_POLICIES: [&str; 3] = ["continue", "stop", "kill"];
/// The classes of `IOSchedulingClass=`, each at the place of its number: `ioprio_set(2)`.
const IO_CLASSES: [&str; 4] = ["none", "realtime", "best-effort", "idle"];

/// What one is set to; `Display` writes what a unit file takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceValue {
    /// Some CPUs, at least one.
    Cpus(CpuSet),
    /// The place of its word in what `OOMPolicy=` takes.
    OomPolicy(u8),
    /// −20 to 19.
    Nice(i8),
    /// The class's number.
    IoClass(u8),
}

impl OfService {
    /// The one of this key.
    #[must_use]
    pub fn by_key(key: &str) -> Option<Self> {
        OF_SERVICES.into_iter().find(|known| known.key == key)
    }

    /// The one of this name in a unit file.
    #[must_use]
    pub fn by_unit(unit: &str) -> Option<Self> {
        OF_SERVICES.into_iter().find(|known| known.unit == unit)
    }

    /// What systemd reads in this text, or says in it; `None` also for one that sets nothing.
    #[must_use]
    pub fn read(self, text: &str) -> Option<ServiceValue> {
        let word = |words: &[&str]| u8::try_from(words.iter().position(|word| *word == text)?).ok();
        Some(match self.kind {
            Kind::Cpus => {
                let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
                ServiceValue::Cpus(CpuSet::parse(&words.join(","))?)
            }
            Kind::OomPolicy => ServiceValue::OomPolicy(word(&OOM_POLICIES)?),
            Kind::Nice => ServiceValue::Nice(nice(takes::signed(text)?)?),
            Kind::IoClass => {
                let number = || text.parse().ok().filter(|class| usize::from(*class) < IO_CLASSES.len());
                ServiceValue::IoClass(word(&IO_CLASSES).or_else(number)?)
            }
        })
    }

    /// What a policy may say, to stand behind "expected".
    #[must_use]
    pub fn expected(self) -> String {
        match self.kind {
            Kind::Cpus => "numbers and ranges of CPUs (\"0-3,8\")".to_owned(),
            Kind::OomPolicy => OOM_POLICIES.map(|word| format!("\"{word}\"")).join(", "),
            Kind::Nice => "a number from -20 to 19".to_owned(),
            Kind::IoClass => IO_CLASSES.map(|word| format!("\"{word}\"")).join(", "),
        }
    }

    /// Whether a policy has it as a number.
    #[must_use]
    pub fn is_number(self) -> bool {
        self.kind == Kind::Nice
    }
}

/// `None` outside −20 to 19.
fn nice(level: i64) -> Option<i8> {
    i8::try_from(level).ok().filter(|level| (-20..=19).contains(level))
}

impl ServiceValue {
    /// What is set.
    #[must_use]
    pub fn setting(&self) -> OfService {
        match self {
            Self::Cpus(_) => ALLOWED_CPUS,
            Self::OomPolicy(_) => OOM_POLICY,
            Self::Nice(_) => NICE,
            Self::IoClass(_) => IO_SCHEDULING_CLASS,
        }
    }

    /// Whether `live`, what the kernel has of [`OfService::attribute`], is this. Of an OOM policy that does not kill
    /// all, PID 1 knows the rest.
    #[must_use]
    pub fn holds(&self, live: &str) -> bool {
        match self {
            Self::OomPolicy(_) => (live.trim() == "1") == (self.to_string() == "kill"),
            _ => self.setting().read(live.trim()).as_ref() == Some(self),
        }
    }
}

impl fmt::Display for ServiceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |words: &[&'static str], at: u8| words.get(usize::from(at)).copied().unwrap_or_default();
        match self {
            Self::Cpus(cpus) => cpus.fmt(f),
            Self::OomPolicy(policy) => f.write_str(word(&OOM_POLICIES, *policy)),
            Self::Nice(nice) => nice.fmt(f),
            Self::IoClass(class) => f.write_str(word(&IO_CLASSES, *class)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_systemd_reads_them_and_written_as_it_takes_them() {
        for (setting, text, written) in [
            (ALLOWED_CPUS, "0-3 8", "0-3,8"),
            (ALLOWED_CPUS, "0, 1", "0-1"),
            (OOM_POLICY, "kill", "kill"),
            (NICE, "-5", "-5"),
            (NICE, "+5", "5"),
            (IO_SCHEDULING_CLASS, "idle", "idle"),
            (IO_SCHEDULING_CLASS, "2", "best-effort"),
        ] {
            assert_eq!(setting.read(text).map(|value| value.to_string()).as_deref(), Some(written), "{text}");
        }
        for (setting, text) in [
            (ALLOWED_CPUS, ""),
            (ALLOWED_CPUS, "3-0"),
            (OOM_POLICY, "Kill"),
            (NICE, "20"),
            (NICE, "-21"),
            (IO_SCHEDULING_CLASS, "4"),
            (IO_SCHEDULING_CLASS, "rt"),
        ] {
            assert_eq!(setting.read(text), None, "{text}");
        }
    }

    #[test]
    fn the_kernel_knows_of_an_oom_policy_whether_all_are_killed() {
        for (policy, live, holds) in
            [("kill", "1", true), ("kill", "0", false), ("stop", "0", true), ("continue", "1", false)]
        {
            assert_eq!(OOM_POLICY.read(policy).unwrap().holds(live), holds, "{policy} {live}");
        }
        assert!(ALLOWED_CPUS.read("0-1").unwrap().holds("0-1\n") && !NICE.read("5").unwrap().holds("0"));
    }
}
