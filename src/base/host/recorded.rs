//! What PID 1 has been told of slices since the boot, at logins and by `fairslice apply`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::directory::names;
use crate::paths;
use crate::units::takes::quota;

/// The settings of one slice that PID 1 was told, each with every value that it was told.
///
/// Each line of the record is `SETTING=VALUE`; behind a `-`, a setting that was taken back. Version 0.1.0 wrote no
/// values: then any is taken for ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded(BTreeMap<String, Vec<Option<u64>>>);

impl Recorded {
    /// The record of one slice; empty where there is none.
    #[must_use]
    pub fn of(root: &Path, slice: &str) -> Self {
        let text = fs::read_to_string(root.join(paths::RUNTIME_PROPERTIES).join(slice));
        Self::parse(&text.unwrap_or_default())
    }

    /// Those of all slices that PID 1 was told something of.
    ///
    /// # Errors
    /// The directory of the records cannot be read.
    pub fn all(root: &Path) -> Result<BTreeMap<String, Self>> {
        let slices = names(&root.join(paths::RUNTIME_PROPERTIES))?.into_iter();
        let records = slices.map(|slice| (Self::of(root, &slice), slice));
        Ok(records
            .filter(|(record, _)| !record.0.is_empty())
            .map(|(record, slice)| (slice, record))
            .collect())
    }

    fn parse(text: &str) -> Self {
        let mut told: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
        for line in text.lines() {
            if let Some(setting) = line.strip_prefix('-') {
                told.remove(setting);
                continue;
            }
            let (setting, value) = match line.split_once('=') {
                Some((setting, value)) => (setting, number(value)),
                None => (line, None),
            };
            told.entry(setting.to_owned()).or_default().push(value);
        }
        Self(told)
    }

    /// What PID 1 was told of.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether PID 1 was told this setting, whatever value.
    #[must_use]
    pub fn has(&self, setting: &str) -> bool {
        self.0.contains_key(setting)
    }

    /// Whether PID 1 was told this value of a setting, as PID 1 writes it. `systemctl set-property --runtime`
    /// writes the same file: what it says and PID 1 was never told since the boot is the administrator's.
    #[must_use]
    pub fn has_told(&self, setting: &str, value: &str) -> bool {
        let told = self.0.get(setting).into_iter().flatten();
        told.into_iter().any(|told| told.is_none() || *told == number(value))
    }
}

/// As PID 1 takes it over D-Bus: an idle weight is 0, no limit is [`u64::MAX`]. A percentage, which it writes of no other
/// setting, is that of `CPUQuota=`.
fn number(value: &str) -> Option<u64> {
    match value {
        "idle" => Some(0),
        "infinity" => Some(u64::MAX),
        value => {
            // Behind the disk of a bandwidth.
            let number = value.rsplit_once(' ').map_or(value, |(_, number)| number);
            number.parse().ok().or_else(|| quota(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_told_from_what_others_set() {
        let told =
            Recorded::parse("CPUWeight=200\nCPUWeight=300\nMemoryHigh=18446744073709551615\nIOWeight\n");
        assert!(told.has_told("CPUWeight", "200") && told.has_told("CPUWeight", "300"));
        assert!(!told.has_told("CPUWeight", "500") && !told.has_told("CPUWeight", "5%"));
        assert!(told.has_told("MemoryHigh", "infinity"));
        assert!(told.has_told("IOWeight", "7"), "a record without a value");
        assert!(Recorded::parse("CPUQuota=2500000").has_told("CPUQuota", "250%"));
        // So systemd 257 writes it.
        assert!(Recorded::parse("CPUQuota=800000").has_told("CPUQuota", "80.00%"));
        assert!(Recorded::parse("IOReadBandwidthMax=5000").has_told("IOReadBandwidthMax", "/srv 5000"));
        assert!(!told.has("TasksMax") && !told.has_told("TasksMax", "7"));
        let back = Recorded::parse("CPUWeight=200\n-CPUWeight\n");
        assert_eq!(back, Recorded::default());
        assert!(Recorded::parse("CPUWeight=200\n-CPUWeight\nCPUWeight=50\n").has_told("CPUWeight", "50"));
    }
}
