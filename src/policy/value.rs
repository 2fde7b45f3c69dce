//! The values a policy can hold, each in a type that cannot hold a wrong one.
//!
//! Ranges and spellings are those of `systemd.resource-control(5)` and `systemd.exec(5)`.
//! `Display` writes what a unit file takes.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

/// A value that can be read from TOML; the error says what was expected.
pub(super) trait FromToml: Sized {
    /// # Errors
    /// What this value may be, to stand behind "expected".
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
}

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

impl FromToml for Weight {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value)
            .and_then(|weight| Self::new(u64::try_from(weight).ok()?))
            .ok_or_else(|| "a weight from 1 to 10000".to_owned())
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

impl FromToml for CpuWeight {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("idle") {
            return Ok(Self::Idle);
        }
        Weight::from_toml(value).map(Self::Weight).map_err(|expected| format!("{expected}, or \"idle\""))
    }
}

/// `OOMScoreAdjust=`: −1000 (never killed) to 1000 (killed first), see `proc_pid_oom_score_adj(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OomScoreAdj(i16);

impl OomScoreAdj {
    /// Neither spared nor preferred.
    pub const ZERO: Self = Self(0);

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

impl FromToml for OomScoreAdj {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value).and_then(Self::new).ok_or_else(|| "a number from -1000 to 1000".to_owned())
    }
}

/// Who sets a service's OOM score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetBy {
    /// PID 1, from our drop-in; the launcher, where there is no systemd.
    Fairslice,
    /// The service does it itself: fairslice checks it and never sets it.
    Service,
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fairslice => "fairslice",
            Self::Service => "service",
        })
    }
}

impl FromToml for SetBy {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("fairslice") => Ok(Self::Fairslice),
            Some("service") => Ok(Self::Service),
            _ => Err("\"fairslice\" or \"service\"".to_owned()),
        }
    }
}

/// What `user.slice`, all logins together, weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TotalWeight {
    /// Always this.
    Fixed(Weight),
    /// The sum of the weights of the users who are logged in.
    Sum,
}

impl fmt::Display for TotalWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(weight) => weight.fmt(f),
            Self::Sum => f.write_str("sum"),
        }
    }
}

impl FromToml for TotalWeight {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("sum") {
            return Ok(Self::Sum);
        }
        Weight::from_toml(value).map(Self::Fixed).map_err(|expected| format!("{expected}, or \"sum\""))
    }
}

/// The mode of a private directory, as octal digits: the owner has everything, nobody else may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirMode(u16);

impl DirMode {
    /// The owner's alone.
    pub const PRIVATE: Self = Self(0o700);

    /// `"0700"` or `"700"`; also with the set-group-ID bit, `"2750"`.
    fn parse(text: &str) -> Option<Self> {
        if !(3..=4).contains(&text.len()) || !text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
            return None;
        }
        let mode = u16::from_str_radix(text, 8).ok()?;
        (mode & 0o5722 == 0o700).then_some(Self(mode))
    }

    /// The mode's bits, for `chmod(2)`.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0.into()
    }
}

impl fmt::Display for DirMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromToml for DirMode {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().and_then(Self::parse).ok_or_else(|| {
            "a mode in quotes, \"0700\": everything for the owner, no writing for group and others, no set-user-ID or sticky bit"
                .to_owned()
        })
    }
}

/// How old files in a private directory may get, in whole seconds from 1 to 100 years: the age of
/// `tmpfiles.d(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MaxAge {
    seconds: u64,
}

impl MaxAge {
    const UNITS: [(&'static str, u64); 6] =
        [("w", 7 * 24 * 3600), ("d", 24 * 3600), ("h", 3600), ("min", 60), ("m", 60), ("s", 1)];
    const LONGEST: u64 = 36_500 * 24 * 3600;

    /// `30d`, or several with their sum: `1d12h`.
    fn parse(text: &str) -> Option<Self> {
        let mut seconds: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
            let unit_ends = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_ends);
            let (_, length) = Self::UNITS.iter().find(|(name, _)| *name == unit)?;
            seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*length)?)?;
            rest = after;
        }
        (1..=Self::LONGEST).contains(&seconds).then_some(Self { seconds })
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(24 * 3600, "d"), (3600, "h"), (60, "min")];
        let whole = UNITS.iter().find(|(length, _)| self.seconds.is_multiple_of(*length));
        let (length, unit) = whole.unwrap_or(&(1, "s"));
        write!(f, "{}{unit}", self.seconds / length)
    }
}

impl FromToml for MaxAge {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().and_then(Self::parse).ok_or_else(|| {
            "a time in w, d, h, min or s, at least a second: \"30d\", \"12h\", \"1d12h\"".to_owned()
        })
    }
}

/// A user number of anybody but root.
impl FromToml for u32 {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value)
            .and_then(|uid| u32::try_from(uid).ok())
            // The largest is no user: it stands for "leave as it is" in chown(2).
            .filter(|uid| (1..Self::MAX).contains(uid))
            .ok_or_else(|| format!("a user number from 1 to {}", Self::MAX - 1))
    }
}

pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(integer) = value else { return None };
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

#[cfg(test)]
pub(super) fn read<T: FromToml>(text: &str) -> Result<T, String> {
    T::from_toml(DeValue::parse(text).unwrap().get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_kernels_range() {
        assert_eq!(read::<CpuWeight>("1").unwrap().to_string(), "1");
        assert_eq!(read::<CpuWeight>("10000").unwrap().to_string(), "10000");
        assert_eq!(read::<CpuWeight>("\"idle\"").unwrap(), CpuWeight::Idle);
        for wrong in ["0", "10001", "-1", "1.5", "\"100\"", "true", "[100]", "99999999999999999999"] {
            assert!(read::<CpuWeight>(wrong).is_err(), "{wrong}");
        }
        assert!(read::<Weight>("\"idle\"").is_err());
    }

    #[test]
    fn a_sum_of_weights_stays_a_weight() {
        let weight = |w| Weight::new(w).unwrap();
        assert_eq!(Weight::sum([weight(200), weight(50)]), weight(250));
        assert_eq!(Weight::sum([weight(9000), weight(9000)]), Weight::MAX);
    }

    #[test]
    fn modes_let_nobody_else_write() {
        for (text, written) in [("0700", "0700"), ("700", "0700"), ("2750", "2750"), ("0755", "0755")] {
            assert_eq!(read::<DirMode>(&format!("{text:?}")).unwrap().to_string(), written);
        }
        assert_eq!(read::<DirMode>("\"0750\"").unwrap().bits(), 0o750);
        for wrong in [
            "\"0770\"",
            "\"0702\"",
            "\"0600\"",
            "\"4700\"",
            "\"1700\"",
            "\"70\"",
            "\"00700\"",
            "\"0o700\"",
            "\"0789\"",
            "\"+700\"",
            "\"\"",
            "700",
            "0o700",
        ] {
            assert!(read::<DirMode>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_are_whole_seconds() {
        for (text, written) in [
            ("30d", "30d"),
            ("4w", "28d"),
            ("12h", "12h"),
            ("1d12h", "36h"),
            ("90min", "90min"),
            ("5m", "5min"),
            ("1s", "1s"),
            ("3600s", "1h"),
            ("36500d", "36500d"),
        ] {
            assert_eq!(read::<MaxAge>(&format!("{text:?}")).unwrap().to_string(), written);
        }
        for wrong in [
            "\"0\"",
            "\"0d\"",
            "\"500ms\"",
            "\"30\"",
            "\"d\"",
            "\"30 d\"",
            "\"-1d\"",
            "\"1.5d\"",
            "\"30D\"",
            "\"\"",
            "\"infinity\"",
            "\"36501d\"",
            "\"99999999999999999999d\"",
            "\"3é\"",
            "30",
        ] {
            assert!(read::<MaxAge>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn user_numbers_leave_root_out() {
        assert_eq!(read::<u32>("1"), Ok(1));
        assert_eq!(read::<u32>("4294967294"), Ok(u32::MAX - 1));
        for wrong in ["0", "-1", "4294967295", "4294967296", "\"1000\"", "1.0"] {
            assert!(read::<u32>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn oom_scores_have_the_kernels_range() {
        assert_eq!(read::<OomScoreAdj>("-1000").unwrap().get(), -1000);
        for wrong in ["-1001", "1001", "\"0\"", "0.0"] {
            assert!(read::<OomScoreAdj>(wrong).is_err(), "{wrong}");
        }
        assert!("-500\n".parse::<OomScoreAdj>().is_ok());
        assert!("x".parse::<OomScoreAdj>().is_err());
    }
}
