//! Which memory limit is the tightest.
#![forbid(unsafe_code)]

use crate::host::tree::{Id, MemoryAttributes, Tree};

/// The tightest limits from a cgroup upwards, however much of each is used by others. `None` is no limit on the whole way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// `memory.high`: above it, allocations wait for reclaim.
    pub high: Option<MemoryLimit>,
    /// `memory.max`: above it, the OOM killer takes a process.
    pub max: Option<MemoryLimit>,
    /// `memory.swap.max`.
    pub swap: Option<MemoryLimit>,
}

impl Ceiling {
    /// What holds of memory, in bytes; `u64::MAX` where there is no limit.
    #[must_use]
    pub fn of_memory(&self) -> u64 {
        bytes_of(self.high).min(bytes_of(self.max))
    }
}

/// The bytes of a limit; `u64::MAX` where there is none.
#[must_use]
pub fn bytes_of(limit: Option<MemoryLimit>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit.bytes)
}

/// A limit and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes.
    pub bytes: u64,
    /// The cgroup itself or an ancestor; of several with the same limit, the innermost.
    pub of: Id,
}

/// Which limits hold for a cgroup: the tightest on its way to the root.
#[must_use]
pub fn ceiling(tree: &Tree, id: Id) -> Ceiling {
    let tightest = |setting: fn(&MemoryAttributes) -> u64| {
        let all = tree
            .upwards(id)
            .filter_map(|of| Some(MemoryLimit { bytes: setting(tree[of].memory.as_ref()?), of }));
        all.filter(|limit| limit.bytes != u64::MAX).min_by_key(|limit| limit.bytes)
    };
    Ceiling {
        high: tightest(|memory| memory.high),
        max: tightest(|memory| memory.max),
        swap: tightest(MemoryAttributes::swap_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::cgroup;
    use super::*;
    use crate::host::tree::Cgroup;

    #[test]
    fn the_tightest_limit_holds_and_is_named() {
        let mut tree = Tree::new(Cgroup::default());
        let limited = MemoryAttributes { high: 100, max: 300, ..MemoryAttributes::default() };
        let outer = tree.add(Tree::ROOT, "a", cgroup(limited));
        let inner = tree.add(
            outer,
            "b",
            cgroup(MemoryAttributes {
                high: 200,
                max: 300,
                swap_max: Some(0),
                ..MemoryAttributes::default()
            }),
        );
        let ceiling = ceiling(&tree, inner);
        assert_eq!(ceiling.high, Some(MemoryLimit { bytes: 100, of: outer }));
        assert_eq!(ceiling.max, Some(MemoryLimit { bytes: 300, of: inner }));
        assert_eq!(ceiling.swap, Some(MemoryLimit { bytes: 0, of: inner }));
        assert_eq!(super::ceiling(&tree, Tree::ROOT), Ceiling { high: None, max: None, swap: None });
    }
}
