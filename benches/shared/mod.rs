//! What the benchmarks have in common: one CPU, an order that a seed repeats, times that are compared
//! within their round, tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps this process, and what it starts, on the last CPU that is allowed; its number.
pub(crate) fn stay_on_one_cpu() -> Result<usize> {
    let allowed = sched_getaffinity(Pid::this())?;
    let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let last = last.context("no CPU is allowed")?;
    let mut one = CpuSet::new();
    one.set(last)?;
    sched_setaffinity(Pid::this(), &one)?;
    Ok(last)
}

/// xorshift64*: an order that the seed repeats is all that is needed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    pub(crate) fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            let other = usize::try_from(self.next()).unwrap_or(0) % (last + 1);
            order.swap(last, other);
        }
    }
}

/// What a contender took, by round.
#[derive(Default)]
pub(crate) struct Times(BTreeMap<u32, Duration>);

impl Times {
    pub(crate) fn insert(&mut self, round: u32, taken: Duration) {
        self.0.insert(round, taken);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In microseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        percentile(self.0.values().map(microseconds).collect(), percent)
    }

    /// The median of what it took longer than `bare` in the same round, in microseconds.
    pub(crate) fn added(&self, bare: &Self) -> f64 {
        let pairs = self.0.iter().filter_map(|(round, time)| Some((time, bare.0.get(round)?)));
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

/// Rows of a table: the first column to the left, the others to the right.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
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

/// A figure that is wanted: what it is, what was reached (NaN where it was not measured), the most it may be.
pub(crate) type Goal = (&'static str, f64, f64);

/// What is wanted, what was reached, and whether that is enough.
pub(crate) fn verdicts(goals: &[Goal]) -> String {
    let mut rows = vec![["goal", "at most", "reached", ""].map(str::to_owned)];
    for (what, reached, at_most) in goals {
        let verdict = if reached.is_nan() {
            "not measured"
        } else if reached <= at_most {
            "yes"
        } else {
            "NO"
        };
        // Counts are wanted to be none, or dozens.
        let is_ratio = *at_most > 0.0 && *at_most <= 2.0;
        let figure = |value: &f64| if is_ratio { format!("{value:.2}") } else { format!("{value:.0}") };
        rows.push([(*what).to_owned(), figure(at_most), figure(reached), verdict.to_owned()]);
    }
    aligned(&rows)
}
