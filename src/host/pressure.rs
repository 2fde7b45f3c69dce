//! How long tasks wait for what they need: pressure stall information.
//!
//! The kernel's `Documentation/accounting/psi.rst`. The parser of procfs 0.18 panics at a line that is
//! cut short, and wants a `full` line, which `cpu.pressure` lacks before Linux 5.13.
#![forbid(unsafe_code)]

use std::path::Path;

use super::cgroup::attribute;

/// The pressure on one cgroup's tasks, those of the cgroups below included. `None` where the kernel
/// does not count: `psi=0`, or `cgroup.pressure` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// `cpu.pressure`
    pub cpu: Option<Stalls>,
    /// `memory.pressure`
    pub memory: Option<Stalls>,
    /// `io.pressure`
    pub io: Option<Stalls>,
}

/// One such file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stalls {
    /// At least one task waited.
    pub some: Stall,
    /// All that were not idle waited.
    pub full: Option<Stall>,
}

/// One line of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 seconds, 0 to 100.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// µs in all.
    pub total: u64,
}

impl Pressure {
    /// Reads a cgroup's; that of the root is the machine's.
    #[must_use]
    pub fn read(root: &Path, cgroup: &Path) -> Self {
        let stalls = |name| Stalls::parse(&attribute(root, cgroup, name)?);
        Self { cpu: stalls("cpu.pressure"), memory: stalls("memory.pressure"), io: stalls("io.pressure") }
    }

    /// The largest share of the last 10 seconds in which a task waited, in percent.
    #[must_use]
    pub fn worst(&self) -> f64 {
        let each = [self.cpu, self.memory, self.io].into_iter().flatten();
        each.map(|stalls| stalls.some.avg10).fold(0.0, f64::max)
    }
}

impl Stalls {
    /// From the text of a pressure file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = |kind: &str| {
            let (_, rest) = text.lines().filter_map(|line| line.split_once(' ')).find(|(k, _)| *k == kind)?;
            Stall::parse(rest)
        };
        Some(Self { some: line("some")?, full: line("full") })
    }
}

impl Stall {
    /// From `avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
    fn parse(text: &str) -> Option<Self> {
        let value = |key| text.split_whitespace().filter_map(|w| w.split_once('=')).find(|(k, _)| *k == key);
        let percent =
            |key| value(key)?.1.parse().ok().filter(|percent: &f64| (0.0..=100.0).contains(percent));
        Some(Self {
            avg10: percent("avg10")?,
            avg60: percent("avg60")?,
            avg300: percent("avg300")?,
            total: value("total")?.1.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let some = "some avg10=1.50 avg60=0.25 avg300=100.00 total=77";
        let stall = Stall { avg10: 1.5, avg60: 0.25, avg300: 100.0, total: 77 };
        assert_eq!(Stalls::parse(some), Some(Stalls { some: stall, full: None }));
        let full = format!("{some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1");
        assert_eq!(Stalls::parse(&full).unwrap().full.unwrap().total, 1);
        for wrong in ["", "some", "some ", "full avg10=0 avg60=0 avg300=0 total=0", "some avg10=1 total=2"] {
            assert_eq!(Stalls::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Stalls::parse(&some.replace("1.50", "NaN")), None);
    }
}
