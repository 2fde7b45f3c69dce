//! What a name was meant to be that nothing has.
#![forbid(unsafe_code)]

use crate::text::shown;
use crate::units::known::{KNOWN, NAMED_ALIKE};

/// Shorter names are too near to one another, but for their capitals.
const SHORTEST: usize = 6;
/// What is longer may lack its end: `OOMScoreAdj`.
const LONG: usize = 8;

/// `: did you mean NAME, NAME?`, of the names that are spelled most like this one, with a unit's ending or without;
/// empty where none is.
#[must_use]
pub fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    /// So many names are offered.
    const MOST: usize = 3;
    let most = 1 + stem(name).chars().count() / 3;
    let near = |known| Some((distance(stem(name), stem(known), most)?, known));
    let mut known: Vec<(usize, &str)> = known.filter_map(near).collect();
    known.sort_unstable();
    known.dedup();
    let nearest: Vec<&str> = known.into_iter().take(MOST).map(|(_, known)| known).collect();
    if nearest.is_empty() { String::new() } else { format!(": did you mean {}?", shown(&nearest.join(", "))) }
}

/// A unit's name without its ending.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, "service" | "slice" | "scope" | "socket" | "mount")) => stem,
        _ => name,
    }
}

/// The setting that an unknown name was meant to be.
#[must_use]
pub fn misspelt(key: &str) -> Option<&'static str> {
    if NAMED_ALIKE.contains(&key) {
        return None;
    }
    let lower = key.to_lowercase();
    let most = if key.len() < SHORTEST { 0 } else { 1 + key.len() / 10 };
    let slips = |known: &str| distance(&known.to_lowercase(), &lower, most);
    let is_cut_short = |known: &str| key.len() > LONG && known.starts_with(key);
    let names = KNOWN.iter().map(|known| known.key);
    let near = names.filter_map(|known| match slips(known) {
        Some(slips) => Some((slips, known)),
        None => is_cut_short(known).then(|| (known.len() - key.len(), known)),
    });
    near.min_by_key(|(slips, _)| *slips).map(|(_, known)| known)
}

/// The known name nearest to `given`, of those that are it with at most so many slips of the pen.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>, most: usize) -> Option<&'a str> {
    let near = known.into_iter().filter_map(|name| Some((distance(given, name, most)?, name)));
    near.min().map(|(_, name)| name)
}

/// How many letters are to be added, left out, replaced or exchanged with the next to make one name the other; `None`
/// where those are more than `most`.
#[must_use]
pub fn distance(one: &str, other: &str, most: usize) -> Option<usize> {
    // What both begin and end with makes no difference, and nearly all of many names is that.
    let first = same(one.chars(), other.chars());
    let (one, other) = (one.get(first..)?, other.get(first..)?);
    let last = same(one.chars().rev(), other.chars().rev());
    let (one, other) = (one.get(..one.len() - last)?, other.get(..other.len() - last)?);
    if one.chars().count().abs_diff(other.chars().count()) > most {
        return None;
    }
    Some(strsim::damerau_levenshtein(one, other)).filter(|distance| *distance <= most)
}

/// How many bytes the letters have that both begin with.
fn same(one: impl Iterator<Item = char>, other: impl Iterator<Item = char>) -> usize {
    one.zip(other).take_while(|(one, other)| one == other).map(|(letter, _)| letter.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let keys = ["cpu_weight", "io_weight", "memory_high", "match"];
        assert_eq!(nearest("cpu_wieght", keys, 3), Some("cpu_weight"));
        assert_eq!(nearest("memory-high", keys, 3), Some("memory_high"));
        assert_eq!(nearest("mach", keys, 2), Some("match"));
        assert_eq!(nearest("colour", keys, 2), None);
        // What is equal at both ends is no slip, however often it is there.
        for (one, other, slips) in [("aaa", "aa", 1), ("abab", "baba", 2), ("été", "é", 2), ("", "", 0)] {
            assert_eq!(distance(one, other, 2), Some(slips), "{one} {other}");
            assert_eq!(distance(other, one, slips), Some(slips), "{one} {other}");
        }
        assert_eq!(distance("abab", "baba", 1), None);
    }

    #[test]
    fn a_misspelt_setting_is_known_again_and_another_is_not_taken_for_it() {
        for (key, meant) in [
            ("CPUWeigth", "CPUWeight"),
            ("CpuWeight", "CPUWeight"),
            ("cpuweight", "CPUWeight"),
            ("MemorryMax", "MemoryMax"),
            ("MemMax", ""),
            ("TaskMax", "TasksMax"),
            ("OOMScoreAdj", "OOMScoreAdjust"),
            ("OOMScoreAdjusts", "OOMScoreAdjust"),
            ("OOMscoreAdjust", "OOMScoreAdjust"),
            ("slice", "Slice"),
            ("Alice", ""),
        ] {
            assert_eq!(misspelt(key).unwrap_or_default(), meant, "{key}");
        }
    }
}
