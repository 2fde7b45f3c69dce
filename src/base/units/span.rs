//! Spans of time as systemd writes and reads them: `systemd.time(7)`, its `time-util.c`.
#![forbid(unsafe_code)]

/// In the order in which systemd looks for them, in µs: `time-util.c`.
const SPANS: [(&str, u64); 29] = [
    ("seconds", SECOND),
    ("second", SECOND),
    ("sec", SECOND),
    ("s", SECOND),
    ("minutes", 60 * SECOND),
    ("minute", 60 * SECOND),
    ("min", 60 * SECOND),
    ("months", 2_629_800 * SECOND),
    ("month", 2_629_800 * SECOND),
    ("M", 2_629_800 * SECOND),
    ("msec", 1000),
    ("ms", 1000),
    ("m", 60 * SECOND),
    ("hours", 3600 * SECOND),
    ("hour", 3600 * SECOND),
    ("hr", 3600 * SECOND),
    ("h", 3600 * SECOND),
    ("days", 86_400 * SECOND),
    ("day", 86_400 * SECOND),
    ("d", 86_400 * SECOND),
    ("weeks", 604_800 * SECOND),
    ("week", 604_800 * SECOND),
    ("w", 604_800 * SECOND),
    ("years", 31_557_600 * SECOND),
    ("year", 31_557_600 * SECOND),
    ("y", 31_557_600 * SECOND),
    ("usec", 1),
    ("us", 1),
    ("µs", 1),
];
/// A second, in µs.
pub const SECOND: u64 = 1_000_000;
/// `parse_time`, in µs: numbers with or without decimals, each with a unit or of `unit`.
#[must_use]
pub fn span(text: &str, unit: u64) -> Option<u64> {
    if text == "infinity" {
        return Some(u64::MAX);
    }
    let mut sum: u64 = 0;
    let mut rest = text.trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.strip_prefix('+').unwrap_or(rest);
        let (whole, after) =
            digits.split_at(digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len()));
        let (decimals, after) = match after.strip_prefix('.') {
            Some(text) => text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())),
            None if whole.is_empty() => return None,
            None => ("0", after),
        };
        if decimals.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let named = after.trim_start();
        let found = SPANS.iter().find(|(name, _)| named.starts_with(name));
        let (factor, left) = match found {
            Some((name, factor)) => (*factor, named.strip_prefix(name)?),
            // Two numbers have white space between them.
            None if named.len() == after.len() && !named.is_empty() => return None,
            None => (unit, named),
        };
        sum = sum.checked_add(u64::try_from(whole).ok()?.checked_mul(factor)?)?;
        sum = sum.checked_add(fraction(decimals, factor))?;
        rest = left.trim_start();
    }
    Some(sum)
}

/// So much of `factor`; what is under a µs is left out.
fn fraction(decimals: &str, factor: u64) -> u64 {
    let digits = decimals.bytes().map(|digit| u64::from(digit.saturating_sub(b'0')));
    let (sum, _) = digits.fold((0, factor), |(sum, part), digit| (sum + digit * (part / 10), part / 10));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_systemds() {
        for (text, expected) in [
            ("1.500000s", Some(1_500_000)),
            ("1min 30.500000s", Some(90_500_000)),
            ("333.300ms", Some(333_300)),
            ("5", Some(5 * SECOND)),
            ("1h30", Some(3630 * SECOND)),
            ("infinity", Some(u64::MAX)),
            ("1..5s", None),
            ("-1", None),
            ("5 parsecs", None),
            ("", None),
        ] {
            assert_eq!(span(text, SECOND), expected, "{text}");
        }
    }
}
