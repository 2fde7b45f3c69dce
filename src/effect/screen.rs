//! What the screen of `fairslice status` shows: which cgroups, in which order, with which figures.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::memory::{Ceiling, Protection};
use super::{Status, UnitKind, UnitStatus};
use crate::host::Unread;
use crate::host::machine::Machine;
use crate::host::tree::{Id, Tree};
use crate::host::usage::Usage;
use crate::units::Weight;

/// Of what the policy does not name, this many cgroups are looked at, those with the most tasks.
const LOOKED_AT: usize = 128;
/// Users' slices that are all shown; of more, only those that use something.
const FEW_LOGINS: usize = 16;
/// Idle neighbours that are shown all the same: a line that counts them is no shorter.
const FEW: usize = 1;
/// From these on a cgroup uses something: a part of the RAM, a part of all CPUs, percent of the time.
const SOME_MEMORY: u64 = 100;
const SOME_CPU: f64 = 0.01;
const SOME_PRESSURE: f64 = 1.0;

/// The machine at one moment.
#[derive(Debug)]
pub struct Picture {
    /// What percentages are of.
    pub machine: Machine,
    /// How many CPUs are online.
    pub cpus: u32,
    /// Bytes of RAM that are not available to a new process.
    pub memory_used: Option<u64>,
    /// Every cgroup.
    pub tree: Tree,
    /// What the policy says of them.
    pub status: Status,
    /// Those that were looked at, a parent before its children.
    pub seen: BTreeMap<Id, Sample>,
    /// Processes whose score could not be read.
    pub unread: Vec<Unread>,
    /// Where in `status` a cgroup's unit is.
    units: HashMap<Id, usize>,
}

/// What was found out about one cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// What it uses and waits for.
    pub usage: Usage,
    /// The part of all CPUs that it has used since the picture before, 0 to 1; `None` in the first one.
    pub cpu: Option<f64>,
    /// What its settings come to.
    pub figures: Figures,
}

/// What a cgroup's settings come to in the whole tree; `None` where that was not computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// The part of the machine's CPU time that it has when everything is busy, 0 to 1.
    pub share: Option<f64>,
    /// The memory that is effectively kept for it.
    pub protection: Option<Protection>,
    /// What of the protection that it sets would be kept for it if it used as much.
    pub kept: Option<Protection>,
    /// The memory that it can have at most.
    pub ceiling: Option<Ceiling>,
    /// The process in it that is killed first.
    pub oom: Option<OomRank>,
}

/// How soon the first process of a cgroup is killed when the machine runs out of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomRank {
    /// The highest `oom_score` of its processes.
    pub score: u16,
    /// 1 is the machine's next victim; one that has as many points as others has their place. `None`
    /// where no process can be killed.
    pub rank: Option<usize>,
}

/// One line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// For each level, the outermost first, whether the branch ends here. Empty on the first two
    /// levels, the machine and what is directly below.
    pub ends: Vec<bool>,
    /// What is on it.
    pub what: What,
}

/// What a [`Row`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// One cgroup.
    Cgroup(Id),
    /// So many more that use next to nothing.
    Folded(usize),
}

/// Everything that lies directly in a slice and in which something runs, and the root.
#[must_use]
pub fn everything(tree: &Tree) -> Vec<Id> {
    [Tree::ROOT].into_iter().chain(tree.in_slices().filter(|id| tree[*id].populated)).collect()
}

/// Which cgroups are to be looked at for a screen: those that the policy names, and those with the most
/// tasks; with their ancestors, a parent before its children.
#[must_use]
pub fn worth_a_look(tree: &Tree, status: &Status) -> Vec<Id> {
    let named = status.units.iter().filter_map(|unit| tree.find(unit.cgroup.as_deref()?));
    let mut chosen: BTreeSet<Id> = named.collect();
    let mut others = everything(tree);
    others.retain(|id| !chosen.contains(id));
    others.sort_by_key(|id| std::cmp::Reverse(tree[*id].tasks));
    chosen.extend(others.into_iter().take(LOOKED_AT));
    tree.with_ancestors(chosen).into_iter().collect()
}

impl Picture {
    /// All of it together.
    #[must_use]
    pub fn new(
        machine: Machine,
        cpus: u32,
        memory_used: Option<u64>,
        tree: Tree,
        status: Status,
        seen: BTreeMap<Id, Sample>,
    ) -> Self {
        let units = status.units.iter().enumerate();
        let units =
            units.filter_map(|(index, unit)| Some((tree.find(unit.cgroup.as_deref()?)?, index))).collect();
        Self { machine, cpus, memory_used, tree, status, seen, unread: Vec::new(), units }
    }

    /// What the policy says of a cgroup.
    #[must_use]
    pub fn unit(&self, id: Id) -> Option<&UnitStatus> {
        self.status.units.get(*self.units.get(&id)?)
    }

    /// The lines of the screen: what the policy names, what differs, what uses something, and how many
    /// others there are.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let logins = self.status.units.iter().filter(|unit| unit.kind == UnitKind::Login).count();
        let named =
            |unit: &UnitStatus| unit.kind != UnitKind::Login || unit.differs() || logins <= FEW_LOGINS;
        let is_wanted = |id: Id| {
            let cgroup = &self.tree[id];
            let marked = self.unit(id).is_some_and(named);
            marked || cgroup.parent.is_none_or(|parent| parent == Tree::ROOT) || self.uses_something(id)
        };
        let wanted = self.tree.with_ancestors(self.seen.keys().copied().filter(|id| is_wanted(*id)));
        let mut rows = vec![Row { ends: Vec::new(), what: What::Cgroup(Tree::ROOT) }];
        self.add_below(Tree::ROOT, &[], &wanted, &mut rows);
        rows
    }

    fn add_below(&self, parent: Id, ends: &[bool], wanted: &BTreeSet<Id>, rows: &mut Vec<Row>) {
        let (mut shown, folded): (Vec<Id>, Vec<Id>) =
            self.tree[parent].children.iter().partition(|id| wanted.contains(id));
        let mut folded: Vec<Id> = folded.into_iter().filter(|id| self.tree[*id].populated).collect();
        // A login has a session and a manager, and both have little to say.
        if self.tree.user(parent).is_some() {
            folded.clear();
        }
        if folded.len() <= FEW && folded.iter().all(|id| self.seen.contains_key(id)) {
            shown.append(&mut folded);
        }
        shown.sort_by(|a, b| self.tree[*a].name.cmp(&self.tree[*b].name));
        let mut whats: Vec<What> = shown.into_iter().map(What::Cgroup).collect();
        if !folded.is_empty() {
            whats.push(What::Folded(folded.len()));
        }
        let last = whats.len().saturating_sub(1);
        for (index, what) in whats.into_iter().enumerate() {
            let mut ends = ends.to_vec();
            if parent != Tree::ROOT {
                ends.push(index == last);
            }
            rows.push(Row { ends: ends.clone(), what });
            match what {
                What::Cgroup(id) if self.tree.is_slice(id) => self.add_below(id, &ends, wanted, rows),
                _ => {}
            }
        }
    }

    fn uses_something(&self, id: Id) -> bool {
        let cgroup = &self.tree[id];
        let look = self.seen.get(&id).copied().unwrap_or_default();
        let configured =
            |cpu: crate::host::tree::Cpu| cpu.weight != Weight::DEFAULT.get() || cpu.max.is_some();
        cgroup.cpu.is_some_and(configured)
            || cgroup.memory.is_some_and(|memory| memory.current >= self.machine.ram / SOME_MEMORY)
            || look.cpu.is_some_and(|cpu| cpu >= SOME_CPU)
            || look.usage.pressure.worst() >= SOME_PRESSURE
    }
}

/// The place of `scores`, those of one cgroup's processes, among `all`, which are sorted, the lowest first.
#[must_use]
pub fn oom(scores: impl IntoIterator<Item = u16>, all: &[u16]) -> Option<OomRank> {
    let score = scores.into_iter().max()?;
    let higher = all.len() - all.partition_point(|other| *other <= score);
    Some(OomRank { score, rank: (score > 0).then_some(higher + 1) })
}
