//! How long each CPU has had nothing to do: `/proc/stat`, `proc_stat(5)`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::text::shown;

/// The fields of a line that are `idle` and `iowait`, and how many count: the rest, of guests, is in others.
const IDLE: [usize; 2] = [3, 4];
const FIELDS: usize = 8;

/// Of each CPU, by its number, how long it was idle of how long it was there, in clock ticks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Idle(BTreeMap<u32, (u64, u64)>);

impl Idle {
    /// # Errors
    /// The file cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let file = root.join("proc/stat");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let cpu = |line: &str| {
            let (cpu, fields) = line.strip_prefix("cpu")?.split_once(' ')?;
            let times: Vec<u64> =
                fields.split_whitespace().take(FIELDS).map(str::parse).collect::<Result<_, _>>().ok()?;
            let idle = IDLE.iter().filter_map(|field| times.get(*field)).sum();
            Some((cpu.parse().ok()?, (idle, times.iter().sum())))
        };
        Self(text.lines().filter_map(cpu).collect())
    }

    /// The part of the time since `before` in which each was idle, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a part from 0 to 1")]
    pub fn since(&self, before: &Self) -> BTreeMap<u32, f64> {
        let part = |(cpu, (idle, all)): (&u32, &(u64, u64))| {
            let (idle_before, all_before) = before.0.get(cpu)?;
            let (idle, all) = (idle.saturating_sub(*idle_before), all.saturating_sub(*all_before));
            (all > 0).then(|| (*cpu, (idle as f64 / all as f64).min(1.0)))
        };
        self.0.iter().filter_map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_a_disk_is_idle_and_a_guest_counts_once() {
        let before = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 50 800 40 0 10 0 100 0\ncpu3 0 0 0 10 0 0 0 0 0 0\nintr 1\n";
        let after =
            "cpu0 110 0 50 870 60 0 10 0 110 0\ncpu1 1 1 1 1 1 1 1 1 1 1\ncpu3 0 0 0 10 0 0 0 0 0 0\n";
        let parts = Idle::parse(after).since(&Idle::parse(before));
        // One that came meanwhile, and one whose clock stands still, say nothing.
        assert_eq!(parts.into_iter().collect::<Vec<_>>(), [(0, 0.9)]);
    }
}
