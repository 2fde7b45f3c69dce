//! How each value of a policy is read.
#![forbid(unsafe_code)]

use toml::de::DeValue;

use super::{CpuFloor, DirMode, MaxAge, SetBy, TotalWeight};
use crate::units::of_service::IO_SCHEDULING_CLASS;
use crate::units::takes::bandwidth;
use crate::units::{
    Amount, Bandwidth, CpuQuota, CpuWeight, Memory, OfService, OomScoreAdj, Percent, ServiceValue, Tasks,
    Weight,
};

/// A value that can be read from TOML; the error says what was expected.
pub(super) trait FromToml: Sized {
    /// # Errors
    /// What this value may be, to stand behind "expected".
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String>;
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "true or false, without quotes".to_owned())
    }
}

impl FromToml for Weight {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value)
            .and_then(|weight| Self::new(u64::try_from(weight).ok()?))
            .ok_or_else(|| "a weight from 1 to 10000".to_owned())
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

impl FromToml for CpuQuota {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().and_then(Self::parse).ok_or_else(|| {
            "a part of one CPU in whole percents, from \"1%\": \"250%\" is two and a half".to_owned()
        })
    }
}

impl FromToml for Bandwidth {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().and_then(bandwidth).ok_or_else(|| {
            "a device or a mount point, and bytes in a second: \"/srv 100M\" (K, M and G are powers of 1000)"
                .to_owned()
        })
    }
}

/// A value that services alone take.
///
/// # Errors
/// What it may be, to stand behind "expected".
pub(super) fn of_service(setting: OfService, value: &DeValue<'_>) -> Result<ServiceValue, String> {
    let read = if setting.is_number() {
        integer(value).and_then(|number| setting.read(&number.to_string()))
    } else {
        value.as_str().and_then(|text| setting.read(text)).filter(|read| {
            // A class has a name in a policy.
            setting != IO_SCHEDULING_CLASS || value.as_str() == Some(&read.to_string())
        })
    };
    read.ok_or_else(|| setting.expected())
}

impl FromToml for OomScoreAdj {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        integer(value).and_then(Self::new).ok_or_else(|| "a number from -1000 to 1000".to_owned())
    }
}

impl FromToml for Memory {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = || number(value).map(|bytes| Self(Amount::Absolute(bytes)));
        value.as_str().map_or_else(number, Self::parse)
            .ok_or_else(|| "bytes (\"11G\", \"512M\", 1073741824), a part of RAM (\"68.75%\", at most 100%), or \"infinity\"".to_owned())
    }
}

impl FromToml for Tasks {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = || number(value).and_then(|tasks| Self::new(Amount::Absolute(tasks)));
        value.as_str().map_or_else(number, Self::parse).ok_or_else(|| {
            "a number of tasks from 1, a part of the machine's (\"33%\"), or \"infinity\"".to_owned()
        })
    }
}

impl FromToml for CpuFloor {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let percent = value.as_str().and_then(Percent::parse);
        percent
            .and_then(Self::new)
            .ok_or_else(|| "a part of the CPU time above 0% and below 100%, such as \"50%\"".to_owned())
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

impl FromToml for TotalWeight {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("sum") {
            return Ok(Self::Sum);
        }
        Weight::from_toml(value).map(Self::Fixed).map_err(|expected| format!("{expected}, or \"sum\""))
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

fn number(value: &DeValue<'_>) -> Option<u64> {
    u64::try_from(integer(value)?).ok()
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
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
    fn amounts_are_numbers_or_texts() {
        assert_eq!(read::<Memory>("1024"), read::<Memory>("\"1K\""));
        assert_eq!(read::<Tasks>("512").unwrap().to_string(), "512");
        for wrong in ["-1", "\"-5%\"", "1.5", "true"] {
            assert!(read::<Memory>(wrong).is_err(), "{wrong}");
        }
        assert!(read::<Tasks>("0").is_err() && read::<Tasks>("\"0%\"").is_err());
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
    }
}
