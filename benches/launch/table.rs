//! The figures, as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::host::name;
use crate::trace::Counts;

pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// By round.
    pub(crate) times: BTreeMap<u32, Duration>,
    pub(crate) counts: Option<Counts>,
}

impl Measured {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, times: BTreeMap::new(), counts: None }
    }

    /// In microseconds.
    fn percentile(&self, percent: usize) -> f64 {
        percentile(self.times.values().map(microseconds).collect(), percent)
    }

    /// The median of what it took longer than the bare exec of the same round, in microseconds.
    fn added(&self, bare: &Self) -> f64 {
        let pairs = self.times.iter().filter_map(|(round, time)| Some((time, bare.times.get(round)?)));
        percentile(pairs.map(|(time, bare)| microseconds(time) - microseconds(bare)).collect(), 50)
    }
}

fn microseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) * percent / 100).copied().unwrap_or(f64::NAN)
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
    let chained = named(measured, name::CHAINED).map_or(f64::NAN, |chained| chained.added(bare));
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by(|left, right| left.percentile(50).total_cmp(&right.percentile(50)));
    for line in sorted {
        let counts = |count: fn(&Counts) -> Option<u64>| {
            line.counts.as_ref().and_then(count).map_or_else(String::new, |count| count.to_string())
        };
        let added = line.added(bare);
        rows.push([
            line.name.to_owned(),
            line.times.len().to_string(),
            format!("{:.0}", line.percentile(50)),
            format!("{:.0}", line.percentile(10)),
            format!("{:.0}", line.percentile(99)),
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

/// The first column to the left, the others to the right.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut line = format!("{:width$}", row[0], width = width(0));
        for (column, cell) in row.iter().enumerate().skip(1) {
            let _ = write!(line, "  {cell:>width$}", width = width(column));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// What is wanted, what was reached, and whether that is enough.
pub(crate) fn goals(measured: &[Measured], vm: bool) -> String {
    let added = |name: &str| named(measured, name).map_or(f64::NAN, |line| line.added(&measured[0]));
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
    let mut rows = vec![["goal", "at most", "reached", ""].map(str::to_owned)];
    for (what, limit, reached) in goals.into_iter().map(|(what, reached, limit)| (what, limit, reached)) {
        let verdict = if reached.is_nan() {
            "not measured"
        } else if reached <= limit {
            "yes"
        } else {
            "NO"
        };
        let figure = |value: f64| {
            if limit.fract() == 0.0 && limit > 1.0 { format!("{value:.0}") } else { format!("{value:.2}") }
        };
        rows.push([what.to_owned(), figure(limit), figure(reached), verdict.to_owned()]);
    }
    aligned(&rows)
}
