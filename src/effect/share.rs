//! What CPU time each cgroup comes to, out of the weights and limits of the whole tree.
//!
//! A cgroup's weight is divided among what is busy in it, in proportion to `cpu.weight`, down to the threads. On
//! each CPU, the threads that are there get its time in proportion to their parts; and they move to where theirs
//! counts for most, among the CPUs that cpuset and affinity leave them, one CPU to a thread at a time (`max_min`).
//! What `cpu.max` keeps from a cgroup is its siblings'. Sources: the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst` ("CPU", "Cpuset", "Controlling Controllers"), `calc_group_shares` and
//! `task_h_load` of `kernel/sched/fair.c`, and `sched_weight_from_cgroup` of `kernel/sched/sched.h`.
//!
//! As in the kernel:
//! - a cgroup weighs 10.24 for each 1 of its `cpu.weight`, rounded, and an idle one 3 in all. That is
//!   divided among the CPUs on which it is busy, and on each of them rounded down, to 2 at least
//!   (`calc_group_shares` and `scale_load_down`): on 2 CPUs an idle one weighs 4, and beside weight 100
//!   gets 0.4 %, and on 64 CPUs 128, as every weight up to 18 does there, and 11 % beside 100;
//! - a thread takes its part of its cgroup's weight along, also to a CPU on which it is alone and could do without:
//!   on 2 CPUs, a cgroup with a thread bound to each has half of its weight on either. Beside one that is bound to
//!   the first CPU and weighs as much, it gets two thirds of the machine, and not a half;
//! - isolated CPUs have those who may run nowhere else: the kernel moves no thread to one, nor away;
//! - where a cgroup does not hand on the cpu controller, the cgroups in it are no cgroups to the
//!   scheduler: their threads compete one by one, and each weighs what a cgroup of weight 100 does.
//!   So do threads directly in a cgroup that has others in it.
//!
//! What is approximated:
//! - threads are on the CPUs on which they get most. Where there is one for every CPU that is so, to
//!   a few percent. Threads that are free to move are where the kernel's load balancer has put them, which
//!   goes by weight: beside a cgroup of great weight that `cpu.max` throttles, or of next to none, light
//!   threads may wait on one CPU for what is free on another. On two CPUs such a one got 0.44 of the
//!   machine instead of 0.64;
//! - every thread has nice level 0 and the usual policy, and every CPU is equally fast;
//! - `cpu.max.burst` and what is lost at the edges of periods are left out;
//! - of a cgroup whose threads could not be counted it is taken that there is one for each CPU;
//! - threads in the root are the kernel's, which hardly run.
#![forbid(unsafe_code)]

mod max_min;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use self::max_min::{Allocation, Claim, max_min, rate};
use crate::host::cpu_set::CpuSet;
use crate::host::tree::{Cgroup, CpuMax, Id, Tree};
use crate::text::{Foreign, shown};

/// What a thread weighs, and a cgroup whose weight nobody has set.
const DEFAULT_WEIGHT: f64 = 100.0;
/// Sums of shares agree to this.
const EPSILON: f64 = 1e-9;
/// What differs by less is the same.
const PRECISION: f64 = 1e-12;
/// Limits that are in one another's way are weighed up so often. Two rounds are the rule.
const ROUNDS: usize = 100;

/// Who wants CPU time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    /// Every thread that there is.
    Everything,
    /// As many threads as there are CPUs in each of these, and nothing else; they may run where the threads may
    /// that are in it. One that has another of them in it is busy by that one.
    Only(BTreeSet<Id>),
}

/// The share of every cgroup in which something is busy.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    /// In their order.
    ids: Vec<Id>,
    levels: Vec<(Level, Option<Bound>)>,
}

/// What one cgroup gets of its parent's time, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The part of the machine's CPU time, 0 to 1.
    pub share: f64,
    /// What it competes with against its siblings.
    pub with: Competing,
    /// That as the kernel counts it on all CPUs together, in the unit of `cpu.weight`.
    pub weight: f64,
    /// The weights of all who compete for the parent's time, its own included.
    pub sum: f64,
    /// What keeps it from more.
    pub cap: Option<Cap>,
}

/// How a cgroup competes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Competing {
    /// The root: it has the whole machine.
    Root,
    /// By its `cpu.weight`, which is 0 for an idle one.
    Weight(u64),
    /// With so many threads, one by one: its parent does not hand on the controller.
    Threads(u64),
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cap {
    /// Which.
    pub limit: Limit,
    /// The part of the machine's CPU time that it allows, 0 to 1.
    pub most: f64,
}

/// What limits a cgroup's CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `cpu.max`
    Quota(CpuMax),
    /// `cpuset.cpus.effective`: so many CPUs.
    Cpuset(u32),
    /// Its threads are bound to so many CPUs: `sched_setaffinity(2)`.
    Affinity(u32),
    /// All but so many of its CPUs are isolated.
    Isolated(u32),
    /// It has only so many threads.
    Threads(u64),
}

/// Why no share is computed: it would be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotComputed {
    /// A `sched_ext` scheduler of this name is loaded, and makes of weights what it likes.
    SchedExt(Foreign),
    /// Others' processes cannot be seen, nor which CPUs they may use.
    HiddenProcesses,
    /// Threads in this cgroup may run on several isolated CPUs. They stay where they are, which may be all on one.
    Unbalanced(Foreign, CpuSet),
}

impl fmt::Display for NotComputed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SchedExt(name) => write!(f, "the sched_ext scheduler {} decides", shown(name)),
            Self::HiddenProcesses => {
                f.write_str("which CPUs others' processes may use cannot be seen (hidepid), but by root")
            }
            Self::Unbalanced(cgroup, cpus) => write!(
                f,
                "threads of {} may run on the isolated CPUs {cpus}, and the kernel moves none among those",
                shown(cgroup)
            ),
        }
    }
}

/// Whether what [`shares`] makes of this tree would be wrong.
#[must_use]
pub fn not_computed(tree: &Tree) -> Option<NotComputed> {
    if let Some(name) = &tree.sched_ext {
        return Some(NotComputed::SchedExt(name.clone()));
    }
    if tree.hides_processes {
        return Some(NotComputed::HiddenProcesses);
    }
    let is_unbalanced = |cpus: &CpuSet| cpus.count() > 1 && cpus.is_within(&tree.isolated);
    let unbalanced = |id: Id| {
        let bound = tree.bound_threads(id);
        let threads = || threads_in(tree, id, 1) > bound.iter().map(|(_, threads)| threads).sum();
        let own = || tree.upwards(id).find_map(|id| tree[id].cpus.as_ref()).filter(|_| threads());
        let cpus = bound.iter().map(|(cpus, _)| cpus).find(|cpus| is_unbalanced(cpus));
        let cpus = cpus.or_else(|| own().filter(|cpus| is_unbalanced(cpus)))?;
        Some(NotComputed::Unbalanced(tree.absolute(id), cpus.clone()))
    };
    // Most machines have none.
    let ids = (!tree.isolated.is_empty()).then(|| tree.ids().skip(1));
    ids.into_iter().flatten().find_map(unbalanced)
}

/// The CPUs that the threads of a cgroup may use, where these are not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Which.
    pub cpus: CpuSet,
    /// What binds them there; `None` where it is not the same for all of them.
    pub by: Option<Limit>,
}

impl Shares {
    /// The part of the machine's CPU time that a cgroup gets, 0 to 1; 0 where nothing is busy.
    #[must_use]
    pub fn of(&self, id: Id) -> f64 {
        self.level(id).map_or(0.0, |level| level.share)
    }

    /// How a cgroup comes by its share; `None` where nothing in it is busy.
    #[must_use]
    pub fn level(&self, id: Id) -> Option<Level> {
        Some(self.get(id)?.0)
    }

    /// The CPUs that a cgroup is bound to; `None` where it may use all.
    #[must_use]
    pub fn bound(&self, id: Id) -> Option<&Bound> {
        self.get(id)?.1.as_ref()
    }

    /// How a cgroup comes by its share, from the root down to it; empty where nothing in it is busy.
    #[must_use]
    pub fn chain(&self, tree: &Tree, id: Id) -> Vec<(Id, Level)> {
        let mut chain: Vec<(Id, Level)> =
            tree.upwards(id).map_while(|id| Some((id, self.level(id)?))).collect();
        chain.reverse();
        chain
    }

    fn get(&self, id: Id) -> Option<&(Level, Option<Bound>)> {
        self.levels.get(self.ids.binary_search(&id).ok()?)
    }
}

/// The least that `cpu.max` can say, in CPUs: 1 ms in a period of 1 s (`min_cfs_quota_period` and
/// `max_cfs_quota_period` in the kernel's `kernel/sched/core.c`).
pub const LEAST_LIMIT: f64 = 0.001;

/// What every cgroup gets of a machine with so many CPUs.
#[must_use]
pub fn shares(tree: &Tree, cpus: u32, busy: &Busy) -> Shares {
    shares_if(tree, cpus, busy, None)
}

/// The same, if a cgroup with the controller had this `cpu.weight`, which is 0 for an idle one.
#[must_use]
pub fn shares_if(tree: &Tree, cpus: u32, busy: &Busy, weighing: Option<(Id, u64)>) -> Shares {
    let mut machine = Machine::new(tree, cpus.max(1), busy, weighing);
    machine.divide();
    machine.shares()
}

/// What one cgroup, if it had this weight, and others in the same one compete with against each other while all of
/// them are busy and no limit is in their way; `None` where one is. Then [`shares`] tells more.
#[must_use]
pub fn by_weight(tree: &Tree, cpus: u32, own: (Id, u64), others: &[Id]) -> Option<(f64, f64)> {
    let is_narrowed = |id: Id| tree[id].cpus.as_ref().is_some_and(|set| set.count() < cpus);
    let is_limited = |id: Id| tree[id].cpu.is_none_or(|cpu| cpu.max.is_some()) || is_narrowed(id);
    let all_free = !tree.has_bound_threads()
        && tree.isolated.is_empty()
        && !tree.upwards(own.0).skip(1).any(is_narrowed)
        && !others.iter().copied().chain([own.0]).any(is_limited);
    let weight = |id: &Id| tree[*id].cpu.map(|cpu| counted(cpu.weight, cpus));
    all_free.then(|| (counted(own.1, cpus), others.iter().filter_map(weight).sum()))
}

/// What a `cpu.weight`, 0 for an idle one, counts on so many CPUs together, in its own unit.
#[must_use]
pub fn counted(weight: u64, cpus: u32) -> f64 {
    Competing::Weight(weight).weight(cpus.max(1).into())
}

/// The cgroups in which something is busy.
struct Machine<'t> {
    tree: &'t Tree,
    cpus: u32,
    /// The weight that one of them would have.
    weighing: Option<(Id, u64)>,
    /// A parent before its children; the first is the root.
    nodes: Vec<Node>,
    own: Vec<Own>,
    /// A child's before its parents'.
    limits: Vec<Together>,
    /// Sets of CPUs that threads may use; the first has all.
    sets: Vec<CpuSet>,
    by_set: HashMap<CpuSet, usize>,
}

/// One of them. Times are in CPUs.
struct Node {
    id: Id,
    /// Its place among the nodes.
    parent: Option<usize>,
    children: Vec<usize>,
    /// Which set of CPUs is its.
    set: usize,
    /// The places of the threads directly in it that are busy.
    own: Range<usize>,
    /// How many they are with all below.
    threads: u64,
    /// The CPUs that any of those may use.
    reach: CpuSet,
    with: Competing,
    weight: f64,
    /// What the threads directly in it weigh together, and they with its children.
    own_weight: f64,
    inside: f64,
    /// What `cpu.max` allows, its own or those of all that is in it together. Infinite without.
    quota: f64,
    /// What all of its limits allow, and those of what is in it.
    most: f64,
    /// What of its own keeps it from more.
    limit: Option<Limit>,
    /// The part of the time in which `cpu.max` lets it run: on average, its weight counts for so much.
    running: f64,
    given: f64,
    /// What it would get by its weight, as things are, without `cpu.max`.
    unhindered: f64,
}

/// Threads directly in a cgroup that are busy and may use the same CPUs.
struct Own {
    /// The place of the cgroup.
    of: usize,
    /// Which set of CPUs.
    set: usize,
    threads: u64,
    given: f64,
    unhindered: f64,
}

/// What `cpu.max` allows the threads at these places together.
struct Together {
    quota: f64,
    own: Vec<usize>,
}

impl<'t> Machine<'t> {
    fn new(tree: &'t Tree, cpus: u32, busy: &Busy, weighing: Option<(Id, u64)>) -> Self {
        let all = tree.online.clone().unwrap_or_else(|| CpuSet::first(cpus));
        let mut machine = Self {
            tree,
            cpus: all.count(),
            weighing,
            nodes: Vec::new(),
            own: Vec::new(),
            limits: Vec::new(),
            by_set: HashMap::from([(all.clone(), 0)]),
            sets: vec![all],
        };
        let ids: Vec<Id> = match busy {
            Busy::Everything => tree.ids().collect(),
            Busy::Only(named) => tree.with_ancestors(named.iter().copied()).into_iter().collect(),
        };
        machine.add_nodes(&ids, busy);
        machine.add_demands();
        machine.add_limits();
        machine
    }

    fn add_nodes(&mut self, ids: &[Id], busy: &Busy) {
        for id in ids {
            let cgroup = &self.tree[*id];
            let parent = cgroup.parent.and_then(|parent| ids.binary_search(&parent).ok());
            let set = self.set_of(parent, cgroup);
            let place = self.nodes.len();
            if let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(parent)) {
                parent.children.push(place);
            }
            self.nodes.push(Node {
                id: *id,
                parent,
                children: Vec::new(),
                set,
                own: 0..0,
                threads: 0,
                reach: CpuSet::default(),
                with: Competing::Root,
                weight: DEFAULT_WEIGHT,
                own_weight: 0.0,
                inside: 0.0,
                quota: f64::INFINITY,
                most: 0.0,
                limit: None,
                running: 1.0,
                given: 0.0,
                unhindered: 0.0,
            });
        }
        for place in 0..self.nodes.len() {
            let first = self.own.len();
            for (set, threads) in self.own_threads(place, busy) {
                self.own.push(Own { of: place, set, threads, given: 0.0, unhindered: 0.0 });
            }
            let own = first..self.own.len();
            if let Some(node) = self.nodes.get_mut(place) {
                node.own = own;
            }
        }
    }

    fn add_limits(&mut self) {
        for place in (0..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(place).filter(|node| node.threads > 0) else { continue };
            let Some(max) = self.tree[node.id].cpu.and_then(|cpu| cpu.max) else { continue };
            let (mut own, mut waiting) = (Vec::new(), vec![node]);
            while let Some(node) = waiting.pop() {
                own.extend(node.own.clone());
                waiting.extend(self.children(node));
            }
            self.limits.push(Together { quota: in_cpus(max), own });
        }
    }

    /// The threads directly in a cgroup.
    fn own(&self, node: &Node) -> &[Own] {
        self.own.get(node.own.clone()).unwrap_or_default()
    }

    /// The set of a cgroup's CPUs. Where it has none, or none of its parent's, it uses its parent's, as the kernel
    /// has it. A partition's are not its parent's.
    fn set_of(&mut self, parent: Option<usize>, cgroup: &Cgroup) -> usize {
        let parents = parent.and_then(|parent| self.nodes.get(parent)).map_or(0, |parent| parent.set);
        match &cgroup.cpus {
            Some(cpus) => self.narrowed(if cgroup.is_partition { 0 } else { parents }, cpus),
            None => parents,
        }
    }

    /// The set of those of its CPUs that are not isolated; all of them where all are.
    fn balanced(&mut self, set: usize) -> usize {
        if self.tree.isolated.is_empty() {
            return set;
        }
        let all = self.sets.first().cloned().unwrap_or_default();
        self.narrowed(set, &all.without(&self.tree.isolated))
    }

    /// The set of those of its CPUs that are among these; all of them where none is.
    fn narrowed(&mut self, set: usize, to: &CpuSet) -> usize {
        let both = self.sets.get(set).map(|set| set.and(to)).unwrap_or_default();
        if both.is_empty() {
            return set;
        }
        *self.by_set.entry(both).or_insert_with_key(|both| {
            self.sets.push(both.clone());
            self.sets.len() - 1
        })
    }

    /// The threads directly in a cgroup that are busy, by the set of CPUs that they may use.
    fn own_threads(&mut self, place: usize, busy: &Busy) -> Vec<(usize, u64)> {
        let Some(node) = self.nodes.get(place) else { return Vec::new() };
        let (id, set) = (node.id, node.set);
        let mut own = match busy {
            Busy::Everything => {
                let bound = self.tree.bound_threads(id);
                let all = threads_in(self.tree, id, self.cpus);
                let free = all.saturating_sub(bound.iter().map(|(_, threads)| threads).sum());
                let mut own: Vec<(usize, u64)> =
                    bound.iter().map(|(cpus, threads)| (self.narrowed(set, cpus), *threads)).collect();
                own.push((set, free));
                own.retain(|(_, threads)| *threads > 0);
                own
            }
            Busy::Only(named) if named.contains(&id) && node.children.is_empty() => {
                let set = self.tree.affinity_below(id).map_or(set, |cpus| self.narrowed(set, &cpus));
                vec![(set, self.cpus.into())]
            }
            Busy::Only(_) => Vec::new(),
        };
        for (set, _) in &mut own {
            *set = self.balanced(*set);
        }
        own
    }

    /// What each can use, from what is in it. Those in which nothing is busy go.
    fn add_demands(&mut self) {
        for place in (0..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(place) else { continue };
            let children = || node.children.iter().filter_map(|child| self.nodes.get(*child));
            let busy: Vec<usize> =
                node.children.iter().copied().filter(|child| self.is_busy(*child)).collect();
            let own: u64 = self.own(node).iter().map(|own| own.threads).sum();
            let threads = own + children().map(|child| child.threads).sum::<u64>();
            let mut own_reach = CpuSet::default();
            for set in self.own(node).iter().filter_map(|own| self.sets.get(own.set)) {
                own_reach.add(set);
            }
            let most_of_own = real(own).min(f64::from(own_reach.count()));
            let wanted = most_of_own + children().map(|child| child.most).sum::<f64>();
            let (most, limit) = self.limited(node, own, &own_reach, wanted);
            let cgroup = &self.tree[node.id];
            let below = if own > 0 {
                f64::INFINITY
            } else {
                children().filter(|child| child.threads > 0).map(|child| child.quota).sum()
            };
            let quota = below.min(cgroup.cpu.and_then(|cpu| cpu.max).map_or(f64::INFINITY, in_cpus));
            let mut reach = own_reach;
            for child in children() {
                reach.add(&child.reach);
            }
            let with = match cgroup.cpu {
                _ if node.id == Tree::ROOT => Competing::Root,
                Some(cpu) => {
                    let supposed = self.weighing.filter(|(id, _)| *id == node.id);
                    Competing::Weight(supposed.map_or(cpu.weight, |(_, weight)| weight))
                }
                None => Competing::Threads(threads),
            };
            let weight = with.weight(threads.min(reach.count().into()).max(1));
            let own_weight = real(own) * DEFAULT_WEIGHT;
            let busy_children = children().filter(|child| child.threads > 0);
            let inside = own_weight + busy_children.map(|child| child.weight).sum::<f64>();
            if let Some(node) = self.nodes.get_mut(place) {
                (node.children, node.threads, node.reach, node.with) = (busy, threads, reach, with);
                (node.weight, node.own_weight, node.inside) = (weight, own_weight, inside);
                (node.quota, node.most, node.limit) = (quota, most, limit);
            }
        }
    }

    fn is_busy(&self, place: usize) -> bool {
        self.nodes.get(place).is_some_and(|node| node.threads > 0)
    }

    /// `wanted`, as far as a cgroup's own limits allow, and which of them does not.
    fn limited(&self, node: &Node, own: u64, own_reach: &CpuSet, wanted: f64) -> (f64, Option<Limit>) {
        let cgroup = &self.tree[node.id];
        let quota = cgroup.cpu.and_then(|cpu| cpu.max).map(|max| (in_cpus(max), Limit::Quota(max)));
        let set = cgroup.cpus.as_ref().and_then(|_| Some(self.sets.get(node.set)?.count()));
        let cpuset = set.map(|cpus| (f64::from(cpus), Limit::Cpuset(cpus)));
        let lowest = quota.into_iter().chain(cpuset).min_by(|a, b| a.0.total_cmp(&b.0));
        let few = own_reach.count();
        match lowest {
            Some((most, limit)) if most < wanted => (most, Some(limit)),
            // What is in it can use more by itself.
            _ if !node.children.iter().all(|child| !self.is_busy(*child)) => (wanted, None),
            _ if u64::from(few) < own => (wanted, Some(self.kept_to(node, few))),
            _ => (wanted, Some(Limit::Threads(own))),
        }
    }

    /// What keeps the threads directly in a cgroup to so many CPUs.
    fn kept_to(&self, node: &Node, few: u32) -> Limit {
        let Some(set) = self.sets.get(node.set) else { return Limit::Affinity(few) };
        match () {
            () if set.count() == few => Limit::Cpuset(few),
            () if set.without(&self.tree.isolated).count() == few => Limit::Isolated(few),
            () => Limit::Affinity(few),
        }
    }

    /// Hands the machine down the tree. How much of the time those with a `cpu.max` run is what makes them get
    /// just that, or all of it.
    fn divide(&mut self) {
        for _ in 0..ROUNDS {
            self.give();
            if self.limits.is_empty() || !self.hold_back() {
                break;
            }
        }
    }

    /// Gives each thread its part of the CPUs.
    fn give(&mut self) {
        let mut claims = self.claims();
        let mut given = max_min(&claims, &self.sets);
        let mut rates = vec![None; self.limits.len()];
        for _ in 0..ROUNDS {
            if !self.cut(&mut claims, &mut given, &mut rates) {
                break;
            }
            given = max_min(&claims, &self.sets);
        }
        self.cut(&mut claims, &mut given, &mut rates);
        // Where limits leave CPUs to spare, what those get for their weight who share the outermost one that is reached.
        let mut inside = vec![f64::INFINITY; self.own.len()];
        for (limit, rate) in self.limits.iter().zip(rates) {
            for place in &limit.own {
                if let (Some(inside), Some(rate)) = (inside.get_mut(*place), rate) {
                    *inside = rate;
                }
            }
        }
        for (((own, claim), given), inside) in self.own.iter_mut().zip(claims).zip(given).zip(inside) {
            own.given = given.cpus;
            let rate = if given.rate.is_finite() { given.rate } else { inside };
            let is_cut = claim.most < real(own.threads) && rate.is_finite();
            own.unhindered = if is_cut { rate * claim.weight } else { given.cpus };
        }
        for place in (0..self.nodes.len()).rev() {
            let Some(node) = self.nodes.get(place) else { continue };
            let (mut given, mut unhindered) = (0.0, 0.0);
            for own in self.own(node) {
                (given, unhindered) = (given + own.given, unhindered + own.unhindered);
            }
            for child in self.children(node) {
                (given, unhindered) = (given + child.given, unhindered + child.unhindered);
            }
            if let Some(node) = self.nodes.get_mut(place) {
                (node.given, node.unhindered) = (given, unhindered);
            }
        }
    }

    /// What each thread has of the weight of all its cgroups.
    fn claims(&self) -> Vec<Claim> {
        let competing: Vec<f64> = self.nodes.iter().map(|node| self.competing_in(node)).collect();
        let mut parts: Vec<f64> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let parent = node.parent.and_then(|parent| Some((parts.get(parent)?, competing.get(parent)?)));
            parts.push(parent.map_or(1.0, |(part, beside)| part * node.weight * node.running / beside));
        }
        let claim = |own: &Own| {
            let (part, inside) = (parts.get(own.of)?, competing.get(own.of)?);
            let weight = part * real(own.threads) * DEFAULT_WEIGHT / inside;
            Some(Claim { weight, most: real(own.threads), on: own.set })
        };
        self.own.iter().filter_map(claim).collect()
    }

    /// Cuts those that get more together than `cpu.max` allows; whether there were any. `rates` has for each limit what
    /// those get for their weight who share it, where weights decide.
    fn cut(&self, claims: &mut [Claim], given: &mut [Allocation], rates: &mut [Option<f64>]) -> bool {
        let mut was_cut = false;
        for (Together { quota, own }, last) in self.limits.iter().zip(rates) {
            let total: f64 = own.iter().filter_map(|place| given.get(*place)).map(|given| given.cpus).sum();
            if total <= quota * (1.0 + PRECISION) {
                continue;
            }
            was_cut = true;
            let each =
                || own.iter().filter_map(|place| Some((claims.get(*place)?.weight, given.get(*place)?)));
            // Those who have CPUs for themselves wait as long as one another, whatever they weigh.
            let is_by_weight = each().any(|(_, given)| given.rate.is_finite());
            let rate = rate(*quota, each().map(|(weight, given)| (weight, given.cpus)));
            *last = is_by_weight.then_some(rate).or(*last);
            for place in own {
                if let (Some(claim), Some(given)) = (claims.get_mut(*place), given.get_mut(*place)) {
                    let most = if is_by_weight { rate * claim.weight } else { given.cpus * quota / total };
                    given.cpus = given.cpus.min(most);
                    claim.most = given.cpus;
                }
            }
        }
        was_cut
    }

    fn children(&self, node: &Node) -> impl Iterator<Item = &Node> {
        node.children.iter().filter_map(|child| self.nodes.get(*child))
    }

    /// What children and own threads weigh together on average.
    fn competing_in(&self, node: &Node) -> f64 {
        node.own_weight + self.children(node).map(|child| child.weight * child.running).sum::<f64>()
    }

    /// Reckons anew how much of the time each runs whose limit is reached: what it may not use is its siblings',
    /// by what they have. Whether that is news.
    fn hold_back(&mut self) -> bool {
        let mut is_news = false;
        let mut targets: Vec<f64> = self.nodes.iter().map(|node| node.given).collect();
        for place in 0..self.nodes.len() {
            let (Some(node), Some(target)) = (self.nodes.get(place), targets.get(place)) else { continue };
            let own: f64 = self.own(node).iter().map(|own| own.unhindered).sum();
            let children: Vec<(usize, f64, f64)> = node
                .children
                .iter()
                .filter_map(|place| Some((*place, self.nodes.get(*place)?)))
                .map(|(place, child)| (place, child.unhindered / child.running, child.quota))
                .collect();
            let claims = children.iter().map(|(_, unhindered, quota)| (*unhindered, *quota));
            let rate = rate(*target, claims.chain((own > 0.0).then_some((own, f64::INFINITY))));
            // Where all have reached their limits, nobody runs more than the one that is held back the least.
            let freest =
                || children.iter().map(|(_, unhindered, quota)| quota / unhindered).fold(0.0, f64::max);
            let rate = if rate.is_finite() { rate } else { freest() };
            for (place, unhindered, quota) in children {
                if let (Some(child), Some(target)) = (self.nodes.get_mut(place), targets.get_mut(place)) {
                    let running = (quota / (rate * unhindered)).min(1.0);
                    is_news |= (running - child.running).abs() > PRECISION * child.running;
                    child.running = running;
                    *target = (rate * unhindered).min(quota);
                }
            }
        }
        is_news
    }

    fn shares(self) -> Shares {
        let cpus = f64::from(self.cpus);
        let mut shares = Shares::default();
        for node in self.nodes.iter().filter(|node| node.threads > 0) {
            let parent = node.parent.and_then(|parent| self.nodes.get(parent));
            let is_reached = node.given >= node.most - EPSILON && node.most < cpus - EPSILON;
            let limit = node.limit.filter(|_| is_reached);
            let level = Level {
                share: rounded(node.given / cpus),
                with: node.with,
                weight: node.weight,
                sum: parent.map_or(node.weight, |parent| parent.inside),
                cap: limit.map(|limit| Cap { limit, most: node.most / cpus }),
            };
            shares.ids.push(node.id);
            shares.levels.push((level, self.bound(node)));
        }
        shares
    }

    fn bound(&self, node: &Node) -> Option<Bound> {
        let few = node.reach.count();
        let by = match self.kept_to(node, few) {
            Limit::Affinity(_) if !node.children.is_empty() => None,
            by => Some(by),
        };
        (few < self.cpus).then(|| Bound { cpus: node.reach.clone(), by })
    }
}

/// How many threads are directly in a cgroup.
fn threads_in(tree: &Tree, id: Id, cpus: u32) -> u64 {
    let cgroup = &tree[id];
    let children = || cgroup.children.iter().map(|child| &tree[*child]);
    let below: Option<u64> = children().map(|child| child.tasks).sum();
    match (cgroup.own_tasks, cgroup.tasks, below) {
        (Some(own), ..) => own,
        (None, Some(all), Some(below)) => all.saturating_sub(below),
        (None, Some(all), None) if !children().any(|child| child.populated) => all,
        (None, None, _) if cgroup.populated && cgroup.children.is_empty() && id != Tree::ROOT => cpus.into(),
        _ => 0,
    }
}

fn in_cpus(max: CpuMax) -> f64 {
    real(max.quota) / real(max.period)
}

impl Competing {
    /// As the kernel counts on so many CPUs together, in the unit of `cpu.weight`.
    fn weight(self, cpus: u64) -> f64 {
        /// `WEIGHT_IDLEPRIO` of the kernel's `kernel/sched/sched.h`.
        const IDLE: u64 = 3;
        /// What `scale_load_down` of that file leaves at least.
        const LEAST: u64 = 2;
        let kernels = match self {
            Self::Root => return DEFAULT_WEIGHT,
            Self::Threads(threads) => return real(threads) * DEFAULT_WEIGHT,
            Self::Weight(0) => IDLE,
            Self::Weight(weight) => weight.saturating_mul(1024).saturating_add(50) / 100,
        };
        real((kernels / cpus.max(1)).max(LEAST).saturating_mul(cpus)) * 100.0 / 1024.0
    }
}

/// Numbers of threads and microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "exact below 2^53, and shares are not exact above")]
fn real(number: u64) -> f64 {
    number as f64
}

/// A sum of parts is not told from the same sum in another order: the last digits are rounding errors.
fn rounded(share: f64) -> f64 {
    const DIGITS: f64 = 1e12;
    (share * DIGITS).round() / DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Cpu;

    fn weighing(weight: u64) -> Cgroup {
        Cgroup { cpu: Some(Cpu { weight, max: None }), ..Cgroup::default() }
    }

    fn limited(weight: u64, quota: u64) -> Cgroup {
        let max = Some(CpuMax { quota, period: 100_000 });
        Cgroup { cpu: Some(Cpu { weight, max }), ..Cgroup::default() }
    }

    /// One that has threads and, its parent not handing on the controller, no weight.
    fn threads(tasks: u64) -> Cgroup {
        Cgroup { tasks: Some(tasks), populated: true, ..Cgroup::default() }
    }

    fn only<const N: usize>(busy: [Id; N]) -> Busy {
        Busy::Only(busy.into())
    }

    #[track_caller]
    fn assert_shares<const N: usize>(shares: &Shares, expected: [(Id, f64); N]) {
        for (id, share) in expected {
            assert!((shares.of(id) - share).abs() < 1e-12, "{id:?}: {} and not {share}", shares.of(id));
        }
    }

    #[test]
    fn a_dash_nests_and_the_ancestors_weight_decides() {
        let mut tree = Tree::new(Cgroup::default());
        let outer = tree.add(Tree::ROOT, "foundry.slice", weighing(100));
        let services = tree.add(outer, "foundry-services.slice", weighing(200));
        let user = tree.add(Tree::ROOT, "user.slice", weighing(100));
        let alice = tree.add(user, "user-1000.slice", weighing(100));
        let all = shares(&tree, 2, &only([services, alice]));
        assert_shares(&all, [(services, 0.5), (alice, 0.5), (Tree::ROOT, 1.0)]);
        let chain = all.chain(&tree, services);
        let ratios: Vec<_> = chain.iter().map(|(id, level)| (*id, level.weight, level.sum)).collect();
        assert_eq!(ratios, [(Tree::ROOT, 100.0, 100.0), (outer, 100.0, 200.0), (services, 200.0, 200.0)]);
    }

    #[test]
    fn siblings_share_their_parents_part() {
        for (total, expected) in [(100, [4, 1, 1]), (200, [3, 0, 0])] {
            let mut tree = Tree::new(Cgroup::default());
            let services = tree.add(Tree::ROOT, "services.slice", weighing(200));
            let user = tree.add(Tree::ROOT, "user.slice", weighing(total));
            let alice = tree.add(user, "user-1000.slice", weighing(100));
            let bob = tree.add(user, "user-1001.slice", weighing(100));
            let all = shares(&tree, 2, &only([services, alice, bob]));
            let [a, b, c] =
                if total == 100 { expected.map(|n| f64::from(n) / 6.0) } else { [0.5, 0.25, 0.25] };
            assert_shares(&all, [(services, a), (alice, b), (bob, c)]);
            assert_shares(&shares(&tree, 2, &only([alice])), [(alice, 1.0), (services, 0.0), (bob, 0.0)]);
        }
    }

    #[test]
    fn what_a_limit_leaves_is_the_siblings() {
        let mut tree = Tree::new(Cgroup::default());
        let half_a_cpu = tree.add(Tree::ROOT, "a", limited(1000, 50_000));
        let one_cpu = tree.add(Tree::ROOT, "b", Cgroup { cpus: CpuSet::parse("0"), ..weighing(400) });
        let (c, d) = (tree.add(Tree::ROOT, "c", weighing(100)), tree.add(Tree::ROOT, "d", weighing(300)));
        // By weight 1000 : 400 : 100 : 300. a gets an eighth, then b a quarter.
        let all = shares(&tree, 4, &only([half_a_cpu, one_cpu, c, d]));
        let left = 1.0 - 0.125 - 0.25;
        let expected = [(half_a_cpu, 0.125), (one_cpu, 0.25), (c, left / 4.0), (d, left * 3.0 / 4.0)];
        assert_shares(&all, expected);
        let limit = |id| all.level(id).unwrap().cap.map(|cap| cap.limit);
        let quota = CpuMax { quota: 50_000, period: 100_000 };
        assert_eq!((limit(half_a_cpu), limit(one_cpu)), (Some(Limit::Quota(quota)), Some(Limit::Cpuset(1))));
        assert_eq!((limit(c), limit(d)), (None, None));
        assert_shares(&shares(&tree, 4, &only([half_a_cpu])), [(half_a_cpu, 0.125), (Tree::ROOT, 0.125)]);
    }

    #[test]
    fn a_limit_further_down_counts_all_the_way_up() {
        let mut tree = Tree::new(Cgroup::default());
        let parent = tree.add(Tree::ROOT, "a", weighing(900));
        let child = tree.add(parent, "b", limited(100, 40_000));
        let other = tree.add(Tree::ROOT, "c", weighing(100));
        let all = shares(&tree, 2, &only([child, other]));
        assert_shares(&all, [(parent, 0.2), (child, 0.2), (other, 0.8)]);
    }

    #[test]
    fn those_with_a_cpu_each_wait_for_a_quota_as_long_as_one_another() {
        for heavy in [6453, 6544, 10_000] {
            let mut tree = Tree::new(Cgroup::default());
            let quota = tree.add(Tree::ROOT, "quota", limited(0, 1_000));
            let [idle, heavy] = [0, heavy].map(|weight| {
                tree.add(quota, weight.to_string(), Cgroup { tasks: Some(2), ..weighing(weight) })
            });
            // A hundredth of a CPU, of four.
            let all = shares(&tree, 4, &Busy::Everything);
            assert_shares(&all, [(quota, 0.0025), (idle, 0.001_25), (heavy, 0.001_25)]);
        }
    }

    #[test]
    fn an_idle_one_gets_what_is_left() {
        let mut tree = Tree::new(Cgroup::default());
        let (idle, busy) = (tree.add(Tree::ROOT, "a", weighing(0)), tree.add(Tree::ROOT, "b", weighing(100)));
        for (cpus, weighs, beside) in
            [(1, 3.0, 1024.0), (2, 4.0, 1024.0), (3, 6.0, 1023.0), (64, 128.0, 1024.0), (1000, 1.0, 1.0)]
        {
            let sum = weighs + beside;
            assert_shares(
                &shares(&tree, cpus, &only([idle, busy])),
                [(idle, weighs / sum), (busy, beside / sum)],
            );
        }
        assert_shares(&shares(&tree, 2, &only([idle])), [(idle, 1.0)]);
    }

    #[test]
    fn a_weight_is_divided_among_the_cpus_that_are_used() {
        let mut tree = Tree::new(Cgroup::default());
        let light = tree.add(Tree::ROOT, "a", Cgroup { cpu: weighing(1).cpu, ..threads(1) });
        let bound = tree.add(
            Tree::ROOT,
            "b",
            Cgroup { cpu: weighing(1).cpu, cpus: CpuSet::parse("0-3"), ..threads(16) },
        );
        let heavy = tree.add(Tree::ROOT, "c", Cgroup { cpu: weighing(100).cpu, ..threads(16) });
        let all = shares(&tree, 16, &Busy::Everything);
        let weighs = [light, bound, heavy].map(|id| all.level(id).map(|level| level.weight * 10.24));
        assert_eq!(weighs, [Some(10.0), Some(8.0), Some(1024.0)]);
        assert_eq!([0, 18, 19].map(|weight| counted(weight, 64).to_string()), ["12.5", "12.5", "18.75"]);
    }

    #[test]
    fn a_thread_uses_one_cpu() {
        let mut tree = Tree::new(Cgroup::default());
        let one = tree.add(Tree::ROOT, "a", Cgroup { cpu: weighing(100).cpu, ..threads(1) });
        let many = tree.add(Tree::ROOT, "b", Cgroup { cpu: weighing(100).cpu, ..threads(9) });
        let all = shares(&tree, 4, &Busy::Everything);
        assert_shares(&all, [(one, 0.25), (many, 0.75)]);
        assert_eq!(all.level(one).unwrap().cap, Some(Cap { limit: Limit::Threads(1), most: 0.25 }));
        assert_shares(&shares(&tree, 2, &Busy::Everything), [(one, 0.5), (many, 0.5)]);
    }

    #[test]
    fn without_the_controller_threads_compete() {
        let mut tree = Tree::new(Cgroup::default());
        let system = tree.add(Tree::ROOT, "system.slice", Cgroup { tasks: Some(5), ..weighing(100) });
        let one = tree.add(system, "one.service", threads(1));
        let four = tree.add(system, "four.service", threads(4));
        let below = tree.add(four, "payload", threads(3));
        let user = tree.add(Tree::ROOT, "user.slice", Cgroup { cpu: weighing(100).cpu, ..threads(7) });
        let all = shares(&tree, 2, &Busy::Everything);
        assert_shares(&all, [(user, 0.5), (system, 0.5), (one, 0.1), (four, 0.4), (below, 0.3)]);
        assert_eq!(all.level(four).unwrap().with, Competing::Threads(4));
        // Named ones have a thread for each CPU.
        let all = shares(&tree, 2, &only([one, below]));
        assert_shares(&all, [(system, 1.0), (one, 0.5), (four, 0.5), (below, 0.5)]);
    }

    #[test]
    fn threads_directly_in_an_inner_cgroup_compete_with_those_in_it() {
        let mut tree = Tree::new(Cgroup::default());
        let inner = tree.add(Tree::ROOT, "a", Cgroup { cpu: weighing(100).cpu, ..threads(5) });
        let child = tree.add(inner, "b", Cgroup { cpu: weighing(300).cpu, ..threads(2) });
        // Three threads of 100 each beside a weight of 300.
        assert_shares(&shares(&tree, 2, &Busy::Everything), [(inner, 1.0), (child, 0.5)]);
    }

    fn on(cgroup: Cgroup, cpus: &str) -> Cgroup {
        Cgroup { cpus: CpuSet::parse(cpus), ..cgroup }
    }

    fn bind(tree: &mut Tree, id: Id, cpus: &str, threads: u64) {
        tree.bind_threads(id, CpuSet::parse(cpus).unwrap(), threads);
    }

    /// So many threads, in a cgroup of this weight.
    fn busy(weight: u64, tasks: u64) -> Cgroup {
        Cgroup { cpu: weighing(weight).cpu, ..threads(tasks) }
    }

    #[test]
    fn those_on_the_same_cpus_share_them() {
        let mut tree = Tree::new(Cgroup::default());
        let system = tree.add(Tree::ROOT, "system.slice", on(busy(100, 2), "0"));
        let user = tree.add(Tree::ROOT, "user.slice", on(busy(100, 2), "0"));
        let machine = tree.add(Tree::ROOT, "machine.slice", busy(100, 2));
        let all = shares(&tree, 2, &Busy::Everything);
        assert_shares(&all, [(system, 0.25), (user, 0.25), (machine, 0.5)]);
        assert_eq!(all.level(user).unwrap().cap, None);
        let bound = all.bound(user).unwrap();
        assert_eq!((bound.cpus.to_string().as_str(), bound.by), ("0", Some(Limit::Cpuset(1))));
        assert_eq!(all.bound(machine), None);
        // Alone on its CPU it is the cpuset that keeps it from more.
        let all = shares(&tree, 2, &only([user, machine]));
        assert_shares(&all, [(user, 0.5), (machine, 0.5)]);
        let all = shares(&tree, 2, &only([user]));
        assert_eq!(all.level(user).unwrap().cap, Some(Cap { limit: Limit::Cpuset(1), most: 0.5 }));
    }

    #[test]
    fn affinity_counts_as_a_cpuset_does() {
        let mut tree = Tree::new(Cgroup::default());
        let system = tree.add(Tree::ROOT, "system.slice", busy(100, 4));
        let decode = tree.add(system, "decode.service", busy(100, 2));
        let render = tree.add(system, "render.service", busy(300, 2));
        bind(&mut tree, decode, "0", 2);
        bind(&mut tree, render, "0", 2);
        for busy in [Busy::Everything, only([decode, render])] {
            let all = shares(&tree, 2, &busy);
            assert_shares(&all, [(system, 0.5), (decode, 0.125), (render, 0.375)]);
            assert_eq!(all.bound(render).unwrap().by, Some(Limit::Affinity(1)));
        }
        let all = shares(&tree, 2, &only([render]));
        assert_eq!(all.level(render).unwrap().cap, Some(Cap { limit: Limit::Affinity(1), most: 0.5 }));
        // All that is in the slice is bound, and so is who would be busy in it.
        assert_shares(&shares(&tree, 2, &only([system])), [(system, 0.5)]);
        // One more thread, which is not.
        let free = tree.add(system, "free.service", busy(100, 1));
        let all = shares(&tree, 2, &Busy::Everything);
        assert_shares(&all, [(system, 1.0), (decode, 0.125), (render, 0.375), (free, 0.5)]);
    }

    #[test]
    fn isolated_cpus_have_those_who_may_run_nowhere_else() {
        let mut tree = Tree::new(Cgroup::default());
        let pinned = tree.add(Tree::ROOT, "poll.service", busy(100, 1));
        let others = tree.add(Tree::ROOT, "a.slice", busy(100, 8));
        let free = tree.add(Tree::ROOT, "b.slice", busy(300, 8));
        bind(&mut tree, pinned, "3", 1);
        tree.isolated = CpuSet::parse("2-3").unwrap();
        assert_eq!(not_computed(&tree), None);
        for who in [Busy::Everything, only([pinned, others, free])] {
            let all = shares(&tree, 4, &who);
            assert_shares(&all, [(pinned, 0.25), (others, 0.125), (free, 0.375), (Tree::ROOT, 0.75)]);
            assert_eq!(all.bound(free).unwrap().by, Some(Limit::Isolated(2)));
        }
        let all = shares(&tree, 4, &only([others]));
        assert_eq!(all.level(others).unwrap().cap, Some(Cap { limit: Limit::Isolated(2), most: 0.5 }));
        // In a part of the tree too.
        let part = tree.only(&[others]);
        let own = part.find("a.slice".as_ref()).unwrap();
        assert_eq!(shares(&part, 4, &only([own])).level(own).unwrap().cap, all.level(others).unwrap().cap);
        // Nobody moves this one's threads from one of the CPUs to the other.
        let poll = tree.add(Tree::ROOT, "polls.service", busy(100, 2));
        bind(&mut tree, poll, "2-3", 2);
        let said = "threads of /polls.service may run on the isolated CPUs 2-3, and the kernel moves none among those";
        assert_eq!(not_computed(&tree).unwrap().to_string(), said);
    }

    #[test]
    fn a_partition_has_cpus_that_its_parent_has_no_more() {
        let mut tree = Tree::new(on(Cgroup::default(), "0-1"));
        tree.online = CpuSet::parse("0-3");
        let user = tree.add(Tree::ROOT, "user.slice", on(busy(100, 8), "0-1"));
        let vms = Cgroup { is_partition: true, ..on(busy(100, 4), "2-3") };
        let vms = tree.add(Tree::ROOT, "vms.slice", vms);
        let vm = tree.add(vms, "vm.scope", on(busy(100, 4), "2-3"));
        assert_shares(&shares(&tree, 4, &Busy::Everything), [(user, 0.5), (vms, 0.5), (vm, 0.5)]);
        assert_eq!(not_computed(&tree), None);
        // An isolated one, of which no thread is bound.
        tree.isolated = CpuSet::parse("2-3").unwrap();
        assert!(matches!(not_computed(&tree), Some(NotComputed::Unbalanced(..))));
    }

    /// Path, weight, and how many threads are bound to which CPUs.
    type Row<'a> = (&'a str, u64, &'a [(&'a str, u64)]);

    /// Each was tried on Linux 6.18 with two CPUs, and was so to 0.05.
    #[test]
    fn threads_take_their_part_of_the_weight_to_their_cpu() {
        let tree = |of: [Row<'_>; 4]| {
            let mut tree = Tree::new(Cgroup::default());
            for (path, weight, bound) in of {
                let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
                let parent = tree.find(std::path::Path::new(parent)).unwrap();
                let tasks = bound.iter().map(|(_, threads)| threads).sum();
                let own = Cgroup { own_tasks: Some(tasks), ..busy(weight, tasks) };
                let id = tree.add(parent, name, own);
                for (cpus, threads) in bound {
                    bind(&mut tree, id, cpus, *threads);
                }
            }
            let all = shares(&tree, 2, &Busy::Everything);
            ["p", "p/a", "p/b", "q"].map(|path| {
                let share = tree.find(std::path::Path::new(path)).map_or(0.0, |id| all.of(id));
                format!("{share:.4}")
            })
        };
        // One thread has a CPU for itself, and as much of the weight as that is worth.
        let nested = [
            ("p", 900, &[][..]),
            ("p/a", 900, &[("0-1", 1)]),
            ("p/b", 100, &[("0-1", 2)]),
            ("q", 100, &[("0-1", 2)]),
        ];
        assert_eq!(tree(nested), ["0.7368", "0.5000", "0.2368", "0.2632"]);
        let bound = [
            ("p", 300, &[][..]),
            ("p/a", 100, &[("0", 1)]),
            ("p/b", 300, &[("1", 1)]),
            ("q", 100, &[("0", 1)]),
        ];
        assert_eq!(tree(bound), ["0.7143", "0.2143", "0.5000", "0.2857"]);
        let free = [
            ("p", 100, &[][..]),
            ("p/a", 100, &[("0", 1)]),
            ("p/b", 300, &[("0-1", 2)]),
            ("q", 100, &[("0-1", 2)]),
        ];
        assert_eq!(tree(free), ["0.5000", "0.1250", "0.3750", "0.5000"]);
        let two = [
            ("p", 100, &[("0", 1), ("1", 1)][..]),
            ("p/a", 1, &[]),
            ("p/b", 1, &[]),
            ("q", 100, &[("0", 1)]),
        ];
        assert_eq!(tree(two), ["0.6667", "0.0000", "0.0000", "0.3333"]);
    }

    #[test]
    fn a_limit_holds_also_where_nobody_is_in_the_way() {
        let mut tree = Tree::new(Cgroup::default());
        let held = tree.add(Tree::ROOT, "a", Cgroup { cpu: limited(100, 150_000).cpu, ..threads(3) });
        let one = tree.add(held, "b", busy(100, 1));
        let two = tree.add(held, "c", busy(100, 2));
        assert_shares(&shares(&tree, 4, &Busy::Everything), [(held, 0.375), (one, 0.125), (two, 0.25)]);
        // The root of a container's.
        let root = Cgroup { cpu: limited(100, 100_000).cpu, ..Cgroup::default() };
        let mut tree = Tree::new(root);
        let (a, b) =
            (tree.add(Tree::ROOT, "a", busy(100, 4)), tree.add(Tree::ROOT, "b", limited(300, 20_000)));
        assert_shares(&shares(&tree, 2, &only([a, b])), [(Tree::ROOT, 0.5), (a, 0.4), (b, 0.1)]);
    }

    #[test]
    fn processes_beside_empty_cgroups_count() {
        let mut tree = Tree::new(Cgroup::default());
        let inner = tree.add(Tree::ROOT, "child.service", busy(100, 2));
        tree.add(inner, "payload", Cgroup::default());
        assert_shares(&shares(&tree, 2, &Busy::Everything), [(inner, 1.0)]);
        // With one that is busy, and how many there are is read from the cgroup itself.
        let mut tree = Tree::new(Cgroup::default());
        let inner = tree.add(Tree::ROOT, "child.service", Cgroup { own_tasks: Some(2), ..busy(100, 4) });
        let own = Cgroup { own_tasks: Some(2), populated: true, ..Cgroup::default() };
        let payload = tree.add(inner, "payload", own);
        assert_shares(&shares(&tree, 2, &Busy::Everything), [(inner, 1.0), (payload, 0.5)]);
    }
}
