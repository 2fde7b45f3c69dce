//! What part of a disk's time each cgroup comes to, out of the weights of the whole tree.
//!
//! On a disk with BFQ or io.cost a cgroup's part is divided among what is busy in it, in proportion to what each weighs
//! there. Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst` ("IO"), `block/bfq-wf2q.c`, and
//! `current_hweight` of `block/blk-iocost.c`.
//!
//! What is left out:
//! - where a cgroup does not hand on the io controller, the cgroups in it are none to the disk: what is in them
//!   competes process by process;
//! - the I/O classes and priorities of processes (`ionice(1)`), which decide inside of one cgroup;
//! - BFQ's `low_latency`, by which whoever has just begun to read weighs more for some seconds;
//! - that io.cost divides what its model says the disk can do (`io.cost.model`): on a disk that is slower than it
//!   allows for, nobody is held back.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::effect::share::Busy;
use crate::host::disk::Disk;
use crate::host::io_weights::IoWeights;
use crate::host::tree::{Each, Id, Tree};

/// What one cgroup gets of its parent's time of a disk, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IoLevel {
    /// The part of the disk's time, 0 to 1.
    pub share: f64,
    /// What it weighs there, as its divider counts; `None` for the root.
    pub weight: Option<u64>,
    /// The weights of all who compete for the parent's time, its own included.
    pub sum: u64,
}

/// What every cgroup that is busy gets of a disk; nothing of one that goes by no weights, and of cgroups whose parent
/// does not hand on the controller.
#[must_use]
pub fn io_shares(tree: &Tree, weights: &Each<IoWeights>, disk: &Disk, busy: &Busy) -> Each<IoLevel> {
    if disk.divider().is_none() {
        return Each::none(tree);
    }
    let involved = match busy {
        Busy::Everything => tree.ids().filter(|id| tree[*id].populated).collect(),
        Busy::Only(named) => tree.with_ancestors(named.iter().copied()),
    };
    divided(tree, &involved, |id| weights.get(id)?.on(disk))
}

/// What each of the `involved` gets by these weights: nothing where it has none, nor what is in it.
pub(super) fn divided(
    tree: &Tree,
    involved: &BTreeSet<Id>,
    weight: impl Fn(Id) -> Option<u64>,
) -> Each<IoLevel> {
    let mut levels = Each::none(tree);
    levels.insert(Tree::ROOT, IoLevel { share: 1.0, weight: None, sum: 0 });
    for id in tree.ids() {
        let Some(IoLevel { share, .. }) = levels.get(id).copied() else { continue };
        let weighed = tree[id].children.iter().filter(|child| involved.contains(child));
        let weighed: Vec<(Id, u64)> = weighed.filter_map(|child| Some((*child, weight(*child)?))).collect();
        let sum = weighed.iter().map(|(_, weight)| weight).sum();
        for (child, weight) in weighed {
            let share = share * part(weight, sum);
            levels.insert(child, IoLevel { share, weight: Some(weight), sum });
        }
    }
    levels
}

/// The part of its parent's time, 0 to 1, of a weight among weights that sum to this with it.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "weights are far below 2^52")]
pub fn part(weight: u64, sum: u64) -> f64 {
    weight as f64 / sum.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixture;
    use crate::host::tree::Cgroup;

    /// Cgroups by their paths, with what they weigh for io.cost and for BFQ.
    fn machine(cgroups: &[(&str, u64, u64)]) -> (Tree, Each<IoWeights>) {
        let mut tree = Tree::new(Cgroup::default());
        for (path, ..) in cgroups {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = tree.find(Path::new(parent)).unwrap();
            let populated = name != "stopped.service";
            tree.add(parent, name, Cgroup { populated, ..Cgroup::default() });
        }
        let mut weights = Each::none(&tree);
        for (path, cost, bfq) in cgroups.iter().filter(|(_, cost, _)| *cost > 0) {
            let (cost, bfq) = (format!("default {cost}\n"), format!("default {bfq}\n"));
            weights.insert(tree.find(Path::new(path)).unwrap(), IoWeights::parse(Some(&cost), Some(&bfq)));
        }
        (tree, weights)
    }

    fn disk(scheduler: &str, has_cost: bool) -> Disk {
        fixture::disk("vdb", "254:16", scheduler, has_cost)
    }

    #[test]
    fn a_part_is_divided_by_what_the_disk_counts() {
        let (tree, weights) = machine(&[
            ("system.slice", 100, 100),
            ("system.slice/a.service", 200, 109),
            ("system.slice/b.service", 100, 100),
            ("system.slice/stopped.service", 900, 172),
            ("user.slice", 300, 118),
            // It does not hand on the controller.
            ("user.slice/user-1000.slice", 0, 0),
        ]);
        let id = |path: &str| tree.find(Path::new(path)).unwrap();
        let share = |disk: &Disk, busy: &Busy, path: &str| {
            io_shares(&tree, &weights, disk, busy).get(id(path)).map(|level| (level.share * 1e4).round())
        };
        let (all, cost) = (Busy::Everything, disk("none", true));
        assert_eq!(share(&cost, &all, "system.slice/a.service"), Some(1667.0));
        assert_eq!(share(&cost, &all, "user.slice"), Some(7500.0));
        assert_eq!(share(&cost, &all, "user.slice/user-1000.slice"), None);
        assert_eq!(share(&cost, &all, "system.slice/stopped.service"), None);
        let two = [id("system.slice/a.service"), id("system.slice/b.service")];
        let only = Busy::Only(BTreeSet::from(two));
        assert_eq!(share(&cost, &only, "system.slice/a.service"), Some(6667.0));
        assert_eq!(share(&disk("bfq", false), &only, "system.slice/a.service"), Some(5215.0));
        assert_eq!(share(&disk("mq-deadline", false), &only, "system.slice"), None);
    }
}
