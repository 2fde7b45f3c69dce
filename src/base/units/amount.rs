//! Parts of what the machine has, and amounts of memory and tasks.
//!
//! Ranges and spellings are those of `systemd.resource-control(5)`. `Display` writes what a unit file takes.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of a whole in hundredths of a percent, 0 to 10000: what systemd calls permyriad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(u16);

impl Percent {
    /// `None` above 100 %.
    #[must_use]
    pub fn from_permyriad(permyriad: u64) -> Option<Self> {
        u16::try_from(permyriad).ok().filter(|p| *p <= 10_000).map(Self)
    }

    /// In hundredths of a percent.
    #[must_use]
    pub fn permyriad(self) -> u64 {
        self.0.into()
    }

    /// This part of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        u64::try_from(u128::from(whole) * u128::from(self.0) / 10_000).unwrap_or(u64::MAX)
    }

    /// `68.75%`: at most two decimals, as systemd reads it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, part) = split_decimal(text.strip_suffix('%')?)?;
        let part = match part {
            "" => 0,
            tenths if tenths.len() == 1 => tenths.parse::<u64>().ok()? * 10,
            hundredths if hundredths.len() == 2 => hundredths.parse().ok()?,
            _ => return None,
        };
        Self::from_permyriad(whole.parse::<u64>().ok()?.checked_mul(100)? + part)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}%"),
            (whole, part) if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            (whole, part) => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// A limit or protection: an amount, a part of what the machine has, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Amount {
    /// Bytes of memory, or a number of tasks.
    Absolute(u64),
    /// Of the machine's RAM (of the container's limit inside one), or of its most tasks.
    Percent(Percent),
    /// No limit.
    Infinity,
}

impl Amount {
    /// The amount on a machine that has `whole`; `None` is no limit.
    #[must_use]
    pub fn on(self, whole: u64) -> Option<u64> {
        match self {
            Self::Absolute(amount) => Some(amount),
            Self::Percent(percent) => Some(percent.of(whole)),
            Self::Infinity => None,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(amount) => amount.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
            Self::Infinity => f.write_str("infinity"),
        }
    }
}

/// `MemoryMin=` and its kin: bytes with systemd's binary suffixes, percent, or `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory(pub Amount);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, char); 4] = [(1 << 40, 'T'), (1 << 30, 'G'), (1 << 20, 'M'), (1 << 10, 'K')];
        let Amount::Absolute(bytes) = self.0 else { return self.0.fmt(f) };
        match UNITS.iter().find(|(unit, _)| bytes > 0 && bytes % unit == 0) {
            Some((unit, suffix)) => write!(f, "{}{suffix}", bytes / unit),
            None => self.0.fmt(f),
        }
    }
}

/// `TasksMax=`: a number of tasks, percent of the most the machine takes, or `infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tasks(pub Amount);

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Memory {
    /// `11G`, `68.75%`, `infinity`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        amount(text, bytes).map(Self)
    }
}

impl Tasks {
    /// `512`, `33%`, `infinity`. `None` also for a limit that lets nothing run, which systemd refuses.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        amount(text, |text| text.parse().ok()).and_then(Self::new)
    }

    /// `None` where it would let nothing run.
    #[must_use]
    pub fn new(amount: Amount) -> Option<Self> {
        (!matches!(amount, Amount::Absolute(0) | Amount::Percent(Percent(0)))).then_some(Self(amount))
    }
}

fn amount(text: &str, absolute: impl Fn(&str) -> Option<u64>) -> Option<Amount> {
    match text {
        "infinity" => Some(Amount::Infinity),
        text => Percent::parse(text).map(Amount::Percent).or_else(|| absolute(text).map(Amount::Absolute)),
    }
}

/// Bytes as systemd reads them: `11G` is 11 × 2^30, decimals allowed (`1.5G`).
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, suffix) if !suffix.is_ascii_digit() => {
            (text.get(..at)?, 10 * u32::try_from("BKMGTPE".find(suffix)?).ok()?)
        }
        _ => (text, 0),
    };
    let (whole, part) = split_decimal(digits)?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if part.is_empty() {
        return Some(whole);
    }
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part = (part.parse::<u128>().ok()? << shift) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// `"68.75"` as `("68", "75")`, `"68"` as `("68", "")`; only digits, and some before a point.
fn split_decimal(text: &str) -> Option<(&str, &str)> {
    let (whole, part) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // 18 digits hold in a u64, and no real amount needs more.
    (!whole.is_empty() && digits(whole) && digits(part) && part.len() <= 18).then_some((whole, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_reads_as_systemd_reads_it() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("1024B", 1024),
            ("1K", 1 << 10),
            ("11G", 11 << 30),
            ("1.5G", 3 << 29),
            ("8E", 8 << 60),
        ] {
            assert_eq!(Memory::parse(text), Some(Memory(Amount::Absolute(bytes))), "{text}");
        }
        assert_eq!(Memory::parse("infinity"), Some(Memory(Amount::Infinity)));
        for wrong in ["-1", "-5%", "101%", "11 G", "G", "", "1.G", ".5G", "16E", "12X", "5%%", "é"] {
            assert!(Memory::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn percentages_keep_two_decimals() {
        for text in ["0%", "5%", "68.75%", "68.7%", "0.05%", "100%"] {
            assert_eq!(Percent::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Percent::parse("68.75%").unwrap().of(16 << 30), 11 << 30);
        for wrong in ["100.01%", "1.234%", "%", "-1%", "1,5%"] {
            assert!(Percent::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn memory_writes_what_systemd_reads() {
        for (bytes, text) in [(11 << 30, "11G"), (1000, "1000"), (1536 << 20, "1536M"), (0, "0")] {
            assert_eq!(Memory(Amount::Absolute(bytes)).to_string(), text);
        }
    }

    #[test]
    fn nothing_runs_in_zero_tasks() {
        assert!(Tasks::parse("0").is_none());
        assert!(Tasks::parse("0%").is_none());
        assert_eq!(Tasks::parse("512").unwrap().to_string(), "512");
        assert_eq!(Tasks::parse("33%").unwrap().to_string(), "33%");
    }
}
