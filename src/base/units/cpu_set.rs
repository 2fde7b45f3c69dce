//! Sets of CPUs, as the kernel writes them.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Some CPUs of the machine, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CpuSet {
    /// A bit for each CPU; the last word is not 0.
    words: Vec<u64>,
}

/// `NR_CPUS` is 8192 at most (`arch/x86/Kconfig`, `MAXSMP`); no other architecture has more.
const MOST: u32 = 8192;

impl CpuSet {
    /// From a list such as `0-3,8`: `cpuset.cpus.effective`, `Cpus_allowed_list` of `/proc/PID/status`,
    /// `/sys/devices/system/cpu/online`. `None` for what is no such list, and for an empty one.
    #[must_use]
    pub fn parse(list: &str) -> Option<Self> {
        let mut set = Self::default();
        for range in list.trim().split(',') {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
            if from > to || to >= MOST {
                return None;
            }
            set.extend(from..=to);
        }
        Some(set)
    }

    /// The CPUs from 0 on, so many.
    #[must_use]
    pub fn first(count: u32) -> Self {
        (0..count).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Their numbers, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let word = |(word, base): (&u64, u32)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| base + bit)
        };
        self.words.iter().zip((0..).step_by(64)).flat_map(word)
    }

    /// Those that both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut words: Vec<u64> = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    /// Those that the other does not have.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let others = other.words.iter().chain(std::iter::repeat(&0));
        let mut words: Vec<u64> = self.words.iter().zip(others).map(|(own, others)| own & !others).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self { words }
    }

    /// Whether the other has all of these.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.words.len() <= other.words.len() && self.words.iter().zip(&other.words).all(|(a, b)| a & !b == 0)
    }

    /// Adds those of the other.
    pub fn add(&mut self, other: &Self) {
        self.words.resize(self.words.len().max(other.words.len()), 0);
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}

impl Extend<u32> for CpuSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        for cpu in cpus {
            let index = usize::try_from(cpu / 64).unwrap_or(usize::MAX);
            self.words.resize(self.words.len().max(index + 1), 0);
            if let Some(word) = self.words.get_mut(index) {
                *word |= 1 << (cpu % 64);
            }
        }
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        let mut set = Self::default();
        set.extend(cpus);
        set
    }
}

/// As the kernel writes it: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(from) = cpus.next() {
            let mut to = from;
            while let Some(next) = cpus.next_if_eq(&(to + 1)) {
                to = next;
            }
            write!(f, "{separator}{from}")?;
            if to > from {
                write!(f, "-{to}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        for (list, count) in [("0\n", 1), ("0-3,8", 5), ("0-1,4-5,7", 5), ("62-65,127-128", 6), ("8191", 1)] {
            let set = CpuSet::parse(list).unwrap();
            assert_eq!((set.count(), set.to_string().as_str()), (count, list.trim()), "{list:?}");
        }
        for wrong in ["", "3-0", "a", "0-", "0-4294967295", "0,,1", "8192"] {
            assert_eq!(CpuSet::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sets_are_intersected_and_joined() {
        let set = |list: &str| CpuSet::parse(list).unwrap();
        assert_eq!(set("0-3").and(&set("2-130")), set("2-3"));
        assert!(set("0").and(&set("64")).is_empty());
        assert_eq!(set("64").and(&set("0-63,65")), CpuSet::default());
        assert_eq!(set("0-3,70").without(&set("2-130")), set("0-1"));
        assert_eq!(set("0,70").without(&set("0")), set("70"));
        let mut joined = set("1");
        joined.add(&set("70,0"));
        assert_eq!(joined, set("0-1,70"));
        assert!(
            set("1,70").is_within(&joined)
                && !joined.is_within(&set("0-69"))
                && !joined.is_within(&set("0-1"))
        );
        assert_eq!(CpuSet::first(65).to_string(), "0-64");
    }
}
