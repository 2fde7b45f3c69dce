//! What cgroups weigh on the disks.
//!
//! The attributes are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`, "IO", and
//! `Documentation/block/bfq-iosched.rst`. They have a line for all disks, `default 100`, and one for each that has
//! another weight, `254:0 50`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use super::disk::{Disk, Divider};
use super::tree::{Each, Id, Tree};

/// What one cgroup weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoWeights {
    /// `io.weight`; `None` where the kernel has no io.cost.
    cost: Option<Weights>,
    /// `io.bfq.weight`; `None` while BFQ is not loaded.
    bfq: Option<Weights>,
}

/// The lines of one attribute. Weights are 1 to 10000, those of BFQ 1 to 1000.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Weights {
    default: u64,
    /// By the numbers of the disk.
    of_disk: BTreeMap<String, u64>,
}

impl IoWeights {
    /// From the texts of `io.weight` and `io.bfq.weight`.
    #[must_use]
    pub fn parse(cost: Option<&str>, bfq: Option<&str>) -> Self {
        Self { cost: cost.and_then(Weights::parse), bfq: bfq.and_then(Weights::parse) }
    }

    /// What the cgroup counts on a disk; `None` where no weights decide about that.
    #[must_use]
    pub fn on(&self, disk: &Disk) -> Option<u64> {
        let weights = match disk.divider()? {
            Divider::Bfq => &self.bfq,
            Divider::Cost => &self.cost,
        };
        Some(weights.as_ref()?.on(disk))
    }

    /// What its `io.weight` for a disk is, whatever that counts.
    #[must_use]
    pub fn set_for(&self, disk: &Disk) -> Option<u64> {
        Some(self.cost.as_ref()?.on(disk))
    }
}

impl Weights {
    fn parse(text: &str) -> Option<Self> {
        let (mut default, mut of_disk) = (None, BTreeMap::new());
        for (of, weight) in text.lines().filter_map(|line| line.split_once(' ')) {
            let Ok(weight) = weight.trim().parse() else { continue };
            match of {
                "default" => default = Some(weight),
                number => _ = of_disk.insert(number.to_owned(), weight),
            }
        }
        Some(Self { default: default?, of_disk })
    }

    fn on(&self, disk: &Disk) -> u64 {
        self.of_disk.get(&disk.number).copied().unwrap_or(self.default)
    }
}

/// Those of every cgroup that competes by them.
#[must_use]
pub fn read(root: &Path, tree: &Tree) -> Each<IoWeights> {
    let ids: Vec<Id> = tree.ids().skip(1).filter(|id| tree[*id].controllers.io).collect();
    tree.read_about(root, &ids, |_, directory| {
        let (cost, bfq) = (directory.text("io.weight"), directory.text("io.bfq.weight"));
        Some(IoWeights::parse(cost.as_deref(), bfq.as_deref()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_disk_has_its_own_weight_or_that_of_all() {
        let weights = IoWeights::parse(Some("default 200\n254:0 50\n"), Some("default 109\n8:0 30\n"));
        let on = |number: &str, scheduler: &str, has_cost| {
            let disk = fixture::disk("vda", number, scheduler, has_cost);
            (weights.on(&disk), weights.set_for(&disk))
        };
        assert_eq!(on("254:0", "none", true), (Some(50), Some(50)));
        assert_eq!(on("8:0", "none", true), (Some(200), Some(200)));
        assert_eq!(on("254:0", "bfq", false), (Some(109), Some(50)));
        assert_eq!(on("8:0", "bfq", false), (Some(30), Some(200)));
        assert_eq!(on("8:0", "mq-deadline", false), (None, Some(200)));
        assert_eq!(IoWeights::parse(Some("nonsense"), None), IoWeights { cost: None, bfq: None });
    }
}
