//! Bytes as people read them.
#![forbid(unsafe_code)]

use crate::units::{MEMORY_MAX, Property};

/// Bytes for people: the largest unit of which there is at least one, to two decimals, cut: `1.36G`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match in_unit(bytes) {
        _ if bytes == u64::MAX => "max".to_owned(),
        None => bytes.to_string(),
        Some((hundredths, suffix)) => match (hundredths / 100, hundredths % 100) {
            (whole, 0) => format!("{whole}{suffix}"),
            (whole, part) => format!("{whole}.{part:02}{suffix}"),
        },
    }
}

/// How much is used of what a ceiling is of: bytes or tasks, `1.36G` or `600 tasks`.
#[must_use]
pub fn amount(ceiling: Property, used: u64) -> String {
    if ceiling == MEMORY_MAX { size(used) } else { format!("{used} tasks") }
}

/// Hundredths of the largest unit of which there is at least one, and its suffix; `None` below 1 KiB.
#[must_use]
pub fn in_unit(bytes: u64) -> Option<(u128, &'static str)> {
    const UNITS: [(u32, &str); 4] = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let (shift, suffix) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0)?;
    Some(((u128::from(bytes) * 100) >> shift, suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn amounts_are_readable() {
        for (bytes, readable) in [
            (0, "0"),
            (1023, "1023"),
            (600 * MIB, "600M"),
            (1536 * MIB, "1.50G"),
            (5 * MIB + 1, "5M"),
            (u64::MAX, "max"),
        ] {
            assert_eq!(size(bytes), readable);
        }
    }
}
