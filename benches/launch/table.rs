//! The figures, as text.

use crate::host::name;
use crate::shared::{Times, aligned, verdicts};
use crate::trace::Counts;

pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
    pub(crate) counts: Option<Counts>,
}

impl Measured {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, times: Times::default(), counts: None }
    }
}

fn named<'a>(measured: &'a [Measured], name: &str) -> Option<&'a Measured> {
    measured.iter().find(|measured| measured.name == name)
}

/// One line for each contender; times in microseconds.
pub(crate) fn table(measured: &[Measured]) -> String {
    let head = [
        "",
        "starts",
        "median",
        "10th",
        "99th",
        "adds",
        "of chained",
        "calls",
        "faults",
        "KiB",
        "instructions",
        "cpuid",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let bare = &measured[0];
    let chained = named(measured, name::CHAINED).map_or(f64::NAN, |chained| chained.times.added(&bare.times));
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by(|left, right| left.times.percentile(50).total_cmp(&right.times.percentile(50)));
    for line in sorted {
        let counts = |count: fn(&Counts) -> Option<u64>| {
            line.counts.as_ref().and_then(count).map_or_else(String::new, |count| count.to_string())
        };
        let added = line.times.added(&bare.times);
        rows.push([
            line.name.to_owned(),
            line.times.count().to_string(),
            format!("{:.0}", line.times.percentile(50)),
            format!("{:.0}", line.times.percentile(10)),
            format!("{:.0}", line.times.percentile(99)),
            format!("{added:.1}"),
            format!("{:.2}", added / chained),
            counts(|counts| Some(counts.calls)),
            counts(|counts| Some(counts.faults)),
            counts(|counts| Some(counts.memory)),
            counts(|counts| counts.instructions),
            counts(|counts| counts.cpuids),
        ]);
    }
    aligned(&rows)
}

/// What is wanted, what was reached, and whether that is enough.
pub(crate) fn goals(measured: &[Measured], vm: bool) -> String {
    let added =
        |name: &str| named(measured, name).map_or(f64::NAN, |line| line.times.added(&measured[0].times));
    let ratio = |one: &str, other: &str| added(one) / added(other);
    let counts = |name: &str| named(measured, name).and_then(|line| line.counts.clone());
    let count = |name: &str, count: fn(&Counts) -> u64| {
        counts(name).map_or(f64::NAN, |counts| f64::from(u32::try_from(count(&counts)).unwrap_or(u32::MAX)))
    };
    let written = |counts: &Counts| counts.written.len() as u64;
    let mut goals = vec![
        ("all is right, of choom and setpriv chained", ratio(name::LAUNCH, name::CHAINED), 0.35),
        ("all is right, of env", ratio(name::LAUNCH, name::ENV), 1.0),
        ("all is right, of the C chain-loader", ratio(name::LAUNCH, name::CHAIN), 1.10),
        ("sets and drops, of choom and setpriv chained", ratio(name::LAUNCH_SET, name::CHAINED), 0.35),
        ("sets and drops, of env", ratio(name::LAUNCH_SET, name::ENV), 1.0),
        ("sets and drops, of the C chain-loader", ratio(name::LAUNCH_SET, name::CHAIN_SET), 1.10),
        ("all is right, of the C chain-loader with musl", ratio(name::LAUNCH, name::CHAIN_MUSL), 1.10),
        (
            "sets and drops, of the C chain-loader with musl",
            ratio(name::LAUNCH_SET, name::CHAIN_MUSL_SET),
            1.10,
        ),
        ("system calls, all is right", count(name::LAUNCH, |counts| counts.calls), 80.0),
        ("system calls, sets and drops", count(name::LAUNCH_SET, |counts| counts.calls), 80.0),
        ("KiB at exec, all is right", count(name::LAUNCH, |counts| counts.memory), 1024.0),
        ("KiB at exec, sets and drops", count(name::LAUNCH_SET, |counts| counts.memory), 1024.0),
        ("files opened for writing, all is right", count(name::LAUNCH, written), 0.0),
    ];
    if vm {
        goals.push(("all is right, of systemd-run --scope", ratio(name::LAUNCH, name::SCOPE), 0.2));
    } else {
        goals.push(("10,000 services, of one", ratio(name::LAUNCH_MANY, name::LAUNCH), 1.1));
    }
    verdicts(&goals)
}
