//! The figures, as text.

use crate::machine::name;
use crate::shared::{Goal, Times, aligned, verdicts};

pub(crate) struct Measured {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
    /// Of each session.
    pub(crate) faults: Vec<u32>,
    /// The most that a session left open.
    pub(crate) descriptors: i32,
    /// System calls of one session; `None` where it cannot be traced.
    pub(crate) calls: Option<u32>,
}

impl Measured {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, times: Times::default(), faults: Vec::new(), descriptors: 0, calls: None }
    }

    /// The median.
    fn faults(&self) -> f64 {
        let mut faults = self.faults.clone();
        faults.sort_unstable();
        faults.get(faults.len() / 2).copied().map_or(f64::NAN, f64::from)
    }

    fn added(&self, base: &Self) -> f64 {
        self.times.added(&base.times)
    }

    /// System calls more than the base has.
    fn calls_added(&self, base: &Self) -> f64 {
        self.calls.zip(base.calls).map_or(f64::NAN, |(calls, base)| f64::from(calls) - f64::from(base))
    }
}

fn named<'a>(measured: &'a [Measured], name: &str) -> Option<&'a Measured> {
    measured.iter().find(|measured| measured.name == name)
}

/// One line for each contender; times in microseconds. "adds" is beside the first of them, as are calls
/// and faults.
pub(crate) fn table(measured: &[Measured]) -> String {
    let head = [
        "",
        "sessions",
        "median",
        "10th",
        "99th",
        "adds",
        "of limits",
        "of unix",
        "of tmpdir",
        "calls",
        "faults",
        "descriptors",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    let base = &measured[0];
    let peer = |name: &str| named(measured, name).map_or(f64::NAN, |peer| peer.added(base));
    let (limits, unix, tmpdir) = (peer(name::LIMITS), peer(name::UNIX), peer(name::TMPDIR));
    let mut sorted: Vec<&Measured> = measured.iter().collect();
    sorted.sort_by(|left, right| left.times.percentile(50).total_cmp(&right.times.percentile(50)));
    for line in sorted {
        let added = line.added(base);
        rows.push([
            line.name.to_owned(),
            line.times.count().to_string(),
            format!("{:.0}", line.times.percentile(50)),
            format!("{:.0}", line.times.percentile(10)),
            format!("{:.0}", line.times.percentile(99)),
            format!("{added:.0}"),
            format!("{:.2}", added / limits),
            format!("{:.2}", added / unix),
            format!("{:.2}", added / tmpdir),
            line.calls.map_or_else(String::new, |_| format!("{:.0}", line.calls_added(base))),
            format!("{:.0}", line.faults() - base.faults()),
            line.descriptors.to_string(),
        ]);
    }
    aligned(&rows)
}

/// What is wanted, what was reached, and whether that is enough.
pub(crate) fn goals(measured: &[Measured], vm: bool) -> String {
    let base = &measured[0];
    let figure = |name: &str, of: &dyn Fn(&Measured) -> f64| named(measured, name).map_or(f64::NAN, of);
    let added = |name: &str| figure(name, &|line| line.added(base));
    let calls = |name: &str| figure(name, &|line| line.calls_added(base));
    let left = |name: &str| figure(name, &|line| f64::from(line.descriptors));
    let directory = added(name::DIRECTORY);
    let mut goals: Vec<Goal> = vec![
        ("directory to check, of pam_limits", directory / added(name::LIMITS), 1.0),
        ("directory to check, of pam_unix", directory / added(name::UNIX), 0.45),
        ("directory to check, of pam_tmpdir", directory / added(name::TMPDIR), 0.25),
        ("system calls, directory to check", calls(name::DIRECTORY), 75.0),
        ("descriptors left, directory to check", left(name::DIRECTORY), 0.0),
    ];
    if vm {
        goals.push(("weight to set, of pam_systemd", added(name::WEIGHT) / added(name::SYSTEMD), 0.1));
        goals.push(("system calls, weight to set", calls(name::WEIGHT), 75.0));
        goals.push(("descriptors left, weight to set", left(name::WEIGHT), 0.0));
    }
    verdicts(&goals)
}
