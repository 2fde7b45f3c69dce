//! Weights and OOM scores, each in a type that cannot hold a wrong one.
//!
//! Ranges and spellings are those of `systemd.resource-control(5)` and `systemd.exec(5)`.
//! `Display` writes what a unit file takes.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// `CPUWeight=`: 1 to 10000, or `idle`. The kernel's default is 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CpuWeight {
    /// `cpu.idle` is 1: runs only when nothing else wants the CPU.
    Idle,
    /// `cpu.weight`.
    Weight(Weight),
}

/// A weight among siblings, 1 to 10000: `cpu.weight`, `io.weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Weight(u16);

impl Weight {
    /// What a cgroup weighs when nobody said otherwise.
    pub const DEFAULT: Self = Self(100);
    /// The largest weight.
    pub const MAX: Self = Self(10_000);

    /// `None` outside 1 to 10000.
    #[must_use]
    pub fn new(weight: u64) -> Option<Self> {
        let weight = u16::try_from(weight).ok()?;
        (1..=Self::MAX.0).contains(&weight).then_some(Self(weight))
    }

    /// The weight of all of these together, at most [`Weight::MAX`], at least 1.
    #[must_use]
    pub fn sum(weights: impl IntoIterator<Item = Self>) -> Self {
        let sum: u64 = weights.into_iter().map(Self::get).sum();
        Self::new(sum.max(1)).unwrap_or(Self::MAX)
    }

    /// What systemd writes to `io.bfq.weight`, which goes from 1 to 1000, for an `IOWeight=`: the same up to 100, and
    /// a point more for each 11 above (`BFQ_WEIGHT` of systemd's `src/basic/cgroup-util.h`).
    #[must_use]
    pub fn of_bfq(self) -> Self {
        let default = Self::DEFAULT.0;
        Self(self.0.min(default) + self.0.saturating_sub(default) / 11)
    }

    /// The weight as a number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.into()
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CpuWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Weight(weight) => weight.fmt(f),
        }
    }
}

/// `CPUQuota=`: so much CPU time, in percent of one CPU, which may be over 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CpuQuota {
    /// In µs for each second; [`u64::MAX`] is no limit.
    of_a_second: u64,
}

impl CpuQuota {
    /// A percent of a second, in µs.
    const PERCENT: u64 = 10_000;
    /// In percent: more CPUs than a kernel is built for.
    const MOST: u64 = 1_000_000;

    /// As PID 1 has it, in µs for each second; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn of_a_second(microseconds: u64) -> Self {
        Self { of_a_second: microseconds }
    }

    /// `250%`: whole percents from 1, for PID 1 keeps no others of what it is told (`bus_cgroup_set_property`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        let percent: u64 = digits.parse().ok()?;
        (1..=Self::MOST).contains(&percent).then_some(Self { of_a_second: percent * Self::PERCENT })
    }

    /// In µs for each second; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn microseconds(self) -> u64 {
        self.of_a_second
    }
}

impl fmt::Display for CpuQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.of_a_second / Self::PERCENT, self.of_a_second % Self::PERCENT / 100) {
            _ if self.of_a_second == u64::MAX => f.write_str("infinity"),
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// `IOReadBandwidthMax=` and `IOWriteBandwidthMax=`: the most bytes in a second from or to one disk.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// The disk, or a file on it; absolute.
    pub path: Arc<str>,
    /// Bytes in a second; [`u64::MAX`] is no limit.
    pub rate: u64,
    /// The numbers of the disk on this machine, `254:0`; `None` where there is none, or nobody has looked.
    #[serde(skip)]
    pub device: Option<Arc<str>>,
}

/// The same is what is declared, whatever has been found.
impl PartialEq for Bandwidth {
    fn eq(&self, other: &Self) -> bool {
        (&self.path, self.rate) == (&other.path, other.rate)
    }
}

impl Bandwidth {
    /// Of a path that means the same without quotes in a unit file.
    #[must_use]
    pub fn new(path: &str, rate: u64) -> Option<Self> {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'\\%".contains(c);
        let is_path = path.starts_with('/') && path.chars().all(is_plain) && rate > 0;
        is_path.then(|| Self { path: path.into(), rate, device: None })
    }

    /// The same for another rate.
    #[must_use]
    pub fn at(&self, rate: u64) -> Self {
        Self { rate, ..self.clone() }
    }

    /// What `io.max` says of its disk behind this word, `rbps` or `wbps`; [`u64::MAX`] where that is nothing.
    #[must_use]
    pub fn live(&self, io_max: &str, word: &str) -> Option<u64> {
        let device = self.device.as_ref()?;
        let mut lines = io_max.lines().filter_map(|line| line.split_once(' '));
        let limits = lines.find(|(number, _)| **number == **device).map_or("", |(_, limits)| limits);
        let mut limits = limits.split(' ').filter_map(|limit| limit.split_once('='));
        Some(
            limits
                .find(|(known, _)| *known == word)
                .and_then(|(_, rate)| rate.parse().ok())
                .unwrap_or(u64::MAX),
        )
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 3] = [(1_000_000_000, 'G'), (1_000_000, 'M'), (1000, 'K')];
        write!(f, "{} ", self.path)?;
        match UNITS.iter().find(|(unit, _)| self.rate % unit == 0) {
            _ if self.rate == u64::MAX => f.write_str("infinity"),
            Some((unit, suffix)) => write!(f, "{}{suffix}", self.rate / unit),
            None => self.rate.fmt(f),
        }
    }
}

/// `OOMScoreAdjust=`: −1000 (never killed) to 1000 (killed first), see `proc_pid_oom_score_adj(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OomScoreAdj(i16);

impl OomScoreAdj {
    /// Neither spared nor preferred.
    pub const ZERO: Self = Self(0);
    /// Of who is killed first.
    pub const MAX: Self = Self(1000);

    /// `None` outside −1000 to 1000.
    #[must_use]
    pub fn new(score: i64) -> Option<Self> {
        i16::try_from(score).ok().filter(|score| (-1000..=1000).contains(score)).map(Self)
    }

    /// The score as a number.
    #[must_use]
    pub fn get(self) -> i16 {
        self.0
    }
}

impl fmt::Display for OomScoreAdj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for OomScoreAdj {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let score = text.trim().parse().ok().and_then(Self::new);
        score.ok_or_else(|| format!("{:?} is not an OOM score adjustment from -1000 to 1000", text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_weights_stays_a_weight() {
        let weight = |w| Weight::new(w).unwrap();
        assert_eq!(Weight::sum([weight(200), weight(50)]), weight(250));
        assert_eq!(Weight::sum([weight(9000), weight(9000)]), Weight::MAX);
        let of_bfq = [1, 50, 99, 100, 110, 111, 200, 1200, 10_000].map(|of| weight(of).of_bfq().get());
        assert_eq!(of_bfq, [1, 50, 99, 100, 100, 101, 109, 200, 1000]);
    }

    #[test]
    fn a_quota_is_of_one_cpu_in_whole_percents() {
        assert_eq!(CpuQuota::parse("250%").unwrap().microseconds(), 2_500_000);
        assert_eq!(CpuQuota::parse("1%").unwrap().to_string(), "1%");
        assert_eq!(CpuQuota::of_a_second(125_000).to_string(), "12.50%");
        assert_eq!(CpuQuota::of_a_second(u64::MAX).to_string(), "infinity");
        for wrong in ["", "%", "0%", "12.5%", "-1%", "+1%", "100", "2 %", "1000001%", "infinity"] {
            assert!(CpuQuota::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_bandwidth_is_that_of_one_disk() {
        let declared = Bandwidth::new("/srv", 100_000_000).unwrap();
        assert_eq!(declared.to_string(), "/srv 100M");
        assert_eq!(declared.at(1234).to_string(), "/srv 1234");
        let io_max = "8:0 rbps=5 wbps=max riops=max wiops=max\n254:0 rbps=max wbps=7 riops=max wiops=max";
        assert_eq!(declared.live(io_max, "rbps"), None, "nobody has looked");
        let on = |device: &str| Bandwidth { device: Some(device.into()), ..declared.clone() };
        assert_eq!(on("8:0").live(io_max, "rbps"), Some(5));
        assert_eq!(on("254:0").live(io_max, "wbps"), Some(7));
        assert_eq!(on("254:0").live(io_max, "rbps"), Some(u64::MAX));
        assert_eq!(on("9:0").live(io_max, "rbps"), Some(u64::MAX));
        for wrong in ["srv", "/a b", "/a%n", "", "/\"a\""] {
            assert!(Bandwidth::new(wrong, 1).is_none(), "{wrong}");
        }
        assert!(Bandwidth::new("/srv", 0).is_none());
    }

    #[test]
    fn a_score_is_read_as_the_kernel_writes_it() {
        assert!("-500\n".parse::<OomScoreAdj>().is_ok());
        for wrong in ["x", "1001", "-1001", ""] {
            assert!(wrong.parse::<OomScoreAdj>().is_err(), "{wrong}");
        }
    }
}
