//! Figures and names in a few characters.
#![forbid(unsafe_code)]

use crate::effect::memory::in_unit;

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Display {
    /// Columns; `None` where lines may be as long as they get.
    pub width: Option<usize>,
    /// Lines; `None` where there may be any number of them.
    pub height: Option<usize>,
    /// Whether it has more than ASCII.
    pub unicode: bool,
}

/// In at most 5 characters, up to 8 PiB: `1.3G`, `13G`, `1023M`.
pub(super) fn short(bytes: u64) -> String {
    match in_unit(bytes) {
        None => bytes.to_string(),
        Some((hundredths, suffix)) if hundredths < 1000 => {
            format!("{}.{}{suffix}", hundredths / 100, hundredths / 10 % 10)
        }
        Some((hundredths, suffix)) => format!("{}{suffix}", hundredths / 100),
    }
}

/// A part of a whole in at most 5 characters: `66.9%`, `100%`, `<0.1%`.
pub(super) fn percent(part: f64) -> String {
    match part * 100.0 {
        none if none <= 0.0 => "0%".to_owned(),
        little if little < 0.1 => "<0.1%".to_owned(),
        some if some < 99.95 => format!("{some:.1}%"),
        all => format!("{all:.0}%"),
    }
}

/// How much of `whole` is used, and how much of that is protected.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part from 0 to 1 of a few columns"
)]
pub(super) fn bar(used: u64, protected: u64, whole: u64, width: usize, unicode: bool) -> String {
    let [full, half, empty] = if unicode { ['█', '▒', '·'] } else { ['#', '=', '.'] };
    let whole = whole.max(1);
    let cells = |bytes: u64| {
        let part = (bytes.min(whole) as f64) / (whole as f64);
        (part * width as f64).round() as usize
    };
    let (used, protected) = (cells(used), cells(protected.min(used)));
    (0..width)
        .map(|cell| {
            if cell < protected {
                full
            } else if cell < used {
                half
            } else {
                empty
            }
        })
        .collect()
}

/// Text in at most `width` columns; what is cut off its end is an ellipsis.
pub(super) fn cut(text: &str, width: usize, unicode: bool) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let ellipsis = if unicode { "…" } else { "..." };
    let kept = width.saturating_sub(ellipsis.chars().count());
    text.chars().take(kept).chain(ellipsis.chars()).take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let sizes = [(0, "0"), (1023, "1023"), (1536, "1.5K"), (1_473_741_824, "1.3G"), (20 << 40, "20T")];
        for (bytes, text) in sizes {
            assert_eq!(short(bytes), text);
        }
        let parts = [(0.0, "0%"), (0.0004, "<0.1%"), (0.6689, "66.9%"), (0.9996, "100%"), (1.0, "100%")];
        for (part, text) in parts {
            assert_eq!(percent(part), text);
        }
        let longest = (0..54).map(|shift| short((1 << shift) - 1).len()).max();
        assert_eq!(longest, Some(5));
    }

    #[test]
    fn a_bar_is_as_wide_as_it_is_told() {
        assert_eq!(bar(50, 25, 100, 8, true), "██▒▒····");
        assert_eq!(bar(50, 80, 100, 8, false), "####....");
        assert_eq!(bar(500, 0, 100, 4, false), "====");
        assert_eq!(bar(5, 5, 0, 4, false), "####");
    }

    #[test]
    fn names_are_cut_with_an_ellipsis() {
        assert_eq!(cut("local-fs.service", 16, true), "local-fs.service");
        assert_eq!(cut("local-fs.service", 9, true), "local-fs…");
        assert_eq!(cut("local-fs.service", 9, false), "local-...");
        assert_eq!(cut("häß", 2, true), "h…");
        assert_eq!(cut("abcd", 2, false), "..");
    }
}
