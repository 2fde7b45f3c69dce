//! `fairslice status` for a monitoring system: the text that `OpenMetrics` 1.0 and the older text format
//! of Prometheus (0.0.4) have in common.
//!
//! `node_exporter`'s textfile collector reads 0.0.4. There `# UNIT` and `# EOF` are comments; the types
//! `info` and `stateset` are errors, and so is a time stamp; a counter's `_total` is part of the name in
//! `# TYPE`, which it is not in `OpenMetrics`. So every metric is a gauge. The crate `prometheus-client`
//! has a registry for what a process counts over its life; of that, nothing is needed here.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use super::doctor::severity;
use super::status_json::in_force;
use crate::doctor::finding::{Code, Finding};
use crate::effect::UnitStatus;
use crate::effect::memory::{Guard, bytes_of};
use crate::effect::screen::{Picture, Sample};
use crate::host::tree::{Cgroup, Id};
use crate::policy::{InForce, Loaded};
use crate::text::Foreign;

/// What the doctor has found.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// Each of them.
    pub findings: Vec<Finding>,
    /// Whether everything was looked at.
    pub is_whole: bool,
}

/// Everything that [`Picture::seen`] has, every setting of the policy, and how much the doctor has found.
/// What comes and goes with each session is left out: a user's slice is one figure. `time` is when that was begun
/// to be looked at.
#[must_use]
pub fn openmetrics(time: SystemTime, picture: &Picture, loaded: &Loaded, found: &Diagnosis) -> String {
    let mut text = String::new();
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Family::new(&mut text, "look_timestamp_seconds", "seconds", "When this was looked at, in Unix time.")
        .sample(&[], format_args!("{seconds:.3}"));
    policy(picture, loaded, &mut text);
    protections(picture, &mut text);
    findings(found, &mut text);
    let of_cgroups = |of: &dyn Fn(&Cgroup, &Sample) -> Option<f64>, family: &mut Family<'_>| {
        for (id, cgroup, look) in lasting(picture) {
            if let Some(value) = of(cgroup, look) {
                family.sample(&labels(picture, id), value);
            }
        }
    };
    let mut gauge = |name, unit, help, of: &dyn Fn(&Cgroup, &Sample) -> Option<f64>| {
        of_cgroups(of, &mut Family::new(&mut text, name, unit, help));
    };
    gauge("cpu_weight", "", "cpu.weight of the cgroup; 0 is idle.", &|cgroup, _| {
        Some(float(cgroup.cpu?.weight))
    });
    gauge(
        "cpu_share_ratio",
        "ratio",
        "Part of the machine's CPU time when everything is busy.",
        &|_, look| look.figures.share,
    );
    gauge("cpu_usage_seconds", "seconds", "CPU time that was used since the cgroup was made.", &|_, look| {
        Some(float(look.usage.cpu?.used) / 1e6)
    });
    gauge("memory_current_bytes", "bytes", "memory.current of the cgroup.", &|cgroup, _| {
        Some(float(cgroup.memory?.current))
    });
    gauge("memory_min_effective_bytes", "bytes", "Memory that is never taken away.", &|_, look| {
        Some(float(look.figures.protection?.min))
    });
    gauge("memory_low_effective_bytes", "bytes", "Memory that is taken away last.", &|_, look| {
        Some(float(look.figures.protection?.low))
    });
    gauge(
        "memory_high_effective_bytes",
        "bytes",
        "Tightest memory.high on the way to the root.",
        &|_, look| Some(limit(bytes_of(look.figures.ceiling?.high))),
    );
    gauge(
        "memory_max_effective_bytes",
        "bytes",
        "Tightest memory.max on the way to the root.",
        &|_, look| Some(limit(bytes_of(look.figures.ceiling?.max))),
    );
    gauge("oom_score", "", "Highest oom_score of the processes.", &|_, look| {
        Some(f64::from(look.figures.oom?.score))
    });
    gauge(
        "oom_rank",
        "",
        "Place in the machine's kill order, 1 is the next; none where nothing can be killed.",
        &|_, look| Some(float(u64::try_from(look.figures.oom?.rank?).ok()?)),
    );
    pressure(picture, &mut text);
    Family::new(&mut text, "cpus_online", "", "CPUs that there are.").sample(&[], picture.cpus);
    text.push_str("# EOF\n");
    text
}

fn policy(picture: &Picture, loaded: &Loaded, text: &mut String) {
    let mut states = Family::new(text, "policy_in_force", "", "1 for what is in force, see fairslice(1).");
    for state in [InForce::Current, InForce::LastGood, InForce::Nothing] {
        let holds = in_force(state) == in_force(loaded.in_force);
        states.sample(&[("policy", in_force(state).into())], u8::from(holds));
    }
    Family::new(text, "policy_errors", "", "Errors in the policy files.")
        .sample(&[], loaded.diagnostics.len());
    Family::new(text, "settings_differing", "", "Settings of active units that are not as declared.")
        .sample(&[], picture.status.differing());
    let mut holds =
        Family::new(text, "setting_holds", "", "1 where the live value is the declared one, else 0.");
    for unit in active(picture) {
        for setting in &unit.settings {
            let labels = [&owner(unit)[..], &[("setting", setting.key.into())]].concat();
            holds.sample(&labels, u8::from(setting.holds));
        }
    }
    let mut declared =
        Family::new(text, "cpu_weight_declared", "", "CPU weight that the policy says; 0 is idle.");
    for unit in active(picture) {
        let weights =
            unit.settings.iter().filter(|setting| matches!(setting.key, "cpu_weight" | "total_weight"));
        for weight in weights.filter_map(|setting| setting.number) {
            declared.sample(&owner(unit), weight);
        }
    }
}

fn active(picture: &Picture) -> impl Iterator<Item = &UnitStatus> {
    picture.status.units.iter().filter(|unit| unit.active)
}

/// Each that the policy declares for what runs, and what of it would be kept if the unit used as much: never more.
fn protections(picture: &Picture, text: &mut String) {
    let mut all = Vec::new();
    for unit in active(picture) {
        let id = unit.cgroup.as_deref().and_then(|cgroup| picture.tree.find(cgroup));
        let Some(look) = id.and_then(|id| picture.seen.get(&id)) else { continue };
        for setting in &unit.settings {
            let Some((guard, declared)) = Guard::by_key(setting.key).zip(setting.number) else { continue };
            let kept = look.figures.kept.unwrap_or_default().by(guard).min(declared);
            let labels = [&owner(unit)[..], &[("setting", setting.key.into())]].concat();
            all.push((labels, declared, kept));
        }
    }
    let mut family = |name, help, bytes: fn(&(_, u64, u64)) -> u64| {
        let mut family = Family::new(text, name, "bytes", help);
        for each in &all {
            family.sample(&each.0, limit(bytes(each)));
        }
    };
    family("memory_protection_declared_bytes", "Memory protection that the policy says.", |each| each.1);
    family("memory_protection_kept_bytes", "What of it is kept if the unit uses as much.", |each| each.2);
}

/// The sum is there with 0 as well, and is not where it may be too small.
fn findings(found: &Diagnosis, text: &mut String) {
    let mut codes: BTreeMap<Code, usize> = BTreeMap::new();
    for finding in &found.findings {
        *codes.entry(finding.code).or_default() += 1;
    }
    let mut family = Family::new(text, "findings", "", "What fairslice doctor finds, by code.");
    for (code, count) in codes {
        let (severity, _) = severity(code.severity());
        family.sample(&[("code", code.to_string().into()), ("severity", severity.into())], count);
    }
    if found.is_whole {
        let help = "What fairslice doctor finds; none where it could not look at everything.";
        Family::new(text, "findings_all", "", help).sample(&[], found.findings.len());
    }
}

fn owner(unit: &UnitStatus) -> [(&'static str, Foreign); 2] {
    [("unit", unit.name.as_str().into()), ("user", unit.user.clone().unwrap_or_default())]
}

fn pressure(picture: &Picture, text: &mut String) {
    let help = "Part of the last 10 seconds in which tasks waited: at least one, or all.";
    let mut family = Family::new(text, "pressure_ratio", "ratio", help);
    for (id, _, look) in lasting(picture) {
        let pressure = look.usage.pressure;
        for (resource, stalls) in [("cpu", pressure.cpu), ("memory", pressure.memory), ("io", pressure.io)] {
            let full = stalls.and_then(|stalls| stalls.full);
            for (kind, stall) in [("some", stalls.map(|stalls| stalls.some)), ("full", full)] {
                if let Some(stall) = stall {
                    let own = [("resource", resource.into()), ("kind", kind.into())];
                    let labels = [&labels(picture, id)[..], &own].concat();
                    // As the kernel's percentage has it, of two decimals.
                    family.sample(&labels, format_args!("{:.4}", stall.avg10 / 100.0));
                }
            }
        }
    }
}

/// What does not come and go with each session.
fn lasting(picture: &Picture) -> impl Iterator<Item = (Id, &Cgroup, &Sample)> {
    let all = picture.seen.iter().map(|(id, look)| (*id, &picture.tree[*id], look));
    let is_of_a_user = |id: Id| picture.tree.upwards(id).any(|above| picture.tree.user(above).is_some());
    all.filter(move |(id, ..)| picture.tree.is_slice(*id) || !is_of_a_user(*id))
}

/// Path and unit; the root is unit `-.slice`, as systemd has it. The path tells units of one name apart
/// where cgroups are not systemd's.
fn labels(picture: &Picture, id: Id) -> [(&'static str, Foreign); 3] {
    let user = picture.unit(id).and_then(|unit| unit.user.clone()).unwrap_or_default();
    [("cgroup", picture.tree.absolute(id)), ("unit", picture.tree.name(id)), ("user", user)]
}

#[allow(clippy::cast_precision_loss, reason = "what a sample is")]
fn float(number: u64) -> f64 {
    number as f64
}

/// No limit is infinite.
fn limit(bytes: u64) -> f64 {
    if bytes == u64::MAX { f64::INFINITY } else { float(bytes) }
}

/// One metric: its heading is written with its first sample.
struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    is_open: bool,
}

impl<'t> Family<'t> {
    fn new(text: &'t mut String, name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self { text, name, unit, help, is_open: false }
    }

    fn sample(&mut self, labels: &[(&str, Foreign)], value: impl Display) {
        let Self { text, name, unit, help, .. } = self;
        // Writing to a string cannot fail.
        if !self.is_open {
            let _ = writeln!(text, "# HELP fairslice_{name} {help}\n# TYPE fairslice_{name} gauge");
            if !unit.is_empty() {
                let _ = writeln!(text, "# UNIT fairslice_{name} {unit}");
            }
            self.is_open = true;
        }
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let braces = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // "inf" is Rust's word.
        let value = value.to_string().replace("inf", "+Inf");
        let _ = writeln!(text, "fairslice_{name}{braces} {value}");
    }
}

/// A label's value. The format has three escapes; all else that would not be seen is shown as elsewhere.
fn escaped(value: &Foreign) -> String {
    let lines = value.as_bytes().split(|byte| *byte == b'\n');
    let lines = lines.map(|line| Foreign::new(line).shown().to_string());
    let lines: Vec<String> = lines.map(|line| line.replace('\\', r"\\").replace('"', "\\\"")).collect();
    lines.join("\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_headings_written_once() {
        let mut text = String::new();
        let mut family = Family::new(&mut text, "a_bytes", "bytes", "What.");
        family.sample(&[("unit", "a\\x2d\"b\"\n\u{1b}".into())], float(1 << 40));
        family.sample(&[], f64::INFINITY);
        let expected = "# HELP fairslice_a_bytes What.\n# TYPE fairslice_a_bytes gauge\n\
                        # UNIT fairslice_a_bytes bytes\n\
                        fairslice_a_bytes{unit=\"a\\\\x2d\\\"b\\\"\\n\\\\x1b\"} 1099511627776\n\
                        fairslice_a_bytes +Inf\n";
        assert_eq!(text, expected);
        let mut empty = String::new();
        let _ = Family::new(&mut empty, "b", "", "Nothing.");
        assert_eq!(empty, "");
    }
}
