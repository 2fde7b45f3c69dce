//! The values that a policy can hold beside those of [`crate::units`].
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Percent, Weight};

/// `cpu_floor`: the part of the machine's CPU time that is left to a slice, above 0 % and below 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CpuFloor(Percent);

impl CpuFloor {
    /// `None` for nothing, and for everything.
    #[must_use]
    pub fn new(part: Percent) -> Option<Self> {
        (1..10_000).contains(&part.permyriad()).then_some(Self(part))
    }

    /// In hundredths of a percent, 1 to 9999.
    #[must_use]
    pub fn permyriad(self) -> u64 {
        self.0.permyriad()
    }
}

impl fmt::Display for CpuFloor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// The mode of a private directory, as octal digits: the owner has everything, nobody else may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirMode(u16);

impl DirMode {
    /// The owner's alone.
    pub const PRIVATE: Self = Self(0o700);

    /// `"0700"` or `"700"`; also with the set-group-ID bit, `"2750"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
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

/// For how long nobody may have used what lies in a private directory, in whole seconds from 1 to 100 years; written as
/// the age of `tmpfiles.d(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MaxAge {
    seconds: u64,
}

impl MaxAge {
    const UNITS: [(&'static str, u64); 6] =
        [("w", 7 * 24 * 3600), ("d", 24 * 3600), ("h", 3600), ("min", 60), ("m", 60), ("s", 1)];
    const LONGEST: u64 = 36_500 * 24 * 3600;

    /// `30d`, or several with their sum: `1d12h`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
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

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.seconds
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(24 * 3600, "d"), (3600, "h"), (60, "min")];
        let whole = UNITS.iter().find(|(length, _)| self.seconds % length == 0);
        let (length, unit) = whole.unwrap_or(&(1, "s"));
        write!(f, "{}{unit}", self.seconds / length)
    }
}
