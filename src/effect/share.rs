//! What CPU time each cgroup comes to, out of the weights and limits of the whole tree.
//!
//! From the root downwards, each cgroup's time is divided among those in it that are busy, in
//! proportion to `cpu.weight`; who cannot use its part leaves the rest to the others, by their weights
//! again. It cannot use more than `cpu.max`, the CPUs of its cpuset and its threads (one CPU each) let
//! it, or those of the cgroups in it. Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst`
//! ("CPU", "Cpuset", "Controlling Controllers") and `sched_weight_from_cgroup` in `kernel/sched/`.
//!
//! As in the kernel:
//! - a cgroup weighs 10.24 for each 1 of its `cpu.weight`, rounded, and an idle one 3 in all. That is
//!   divided among the CPUs on which it is busy, and on each of them rounded down, to 2 at least
//!   (`calc_group_shares` and `scale_load_down`): on 2 CPUs an idle one weighs 4, and beside weight 100
//!   gets 0.4 %, and on 64 CPUs 128, as every weight up to 18 does there, and 11 % beside 100;
//! - where a cgroup does not hand on the cpu controller, the cgroups in it are no cgroups to the
//!   scheduler: their threads compete one by one, and each weighs what a cgroup of weight 100 does.
//!   So do threads directly in a cgroup that has others in it.
//!
//! What is approximated:
//! - threads are on the CPUs on which they get most. A cgroup with a thread on every CPU is served so, to
//!   a few percent. Threads that are free to move are where the kernel's load balancer has put them, which
//!   goes by weight: beside a cgroup of great weight that `cpu.max` throttles, or of next to none, light
//!   threads may wait on one CPU for what is free on another. On two CPUs such a one got 0.44 of the
//!   machine instead of 0.64;
//! - a cpuset is a number of CPUs: that two cgroups are bound to the same ones is not seen;
//! - every thread has nice level 0 and the usual policy, and every CPU is equally fast;
//! - `cpu.max.burst` and what is lost at the edges of periods are left out;
//! - of a cgroup without the pids controller it is not known how many threads there are: it is taken
//!   to have one for each CPU;
//! - threads in the root are the kernel's, which hardly run.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::host::tree::{Bandwidth, Each, Id, Tree};

/// What a thread weighs, and a cgroup whose weight nobody has set.
const DEFAULT_WEIGHT: f64 = 100.0;
/// Sums of shares agree to this.
const EPSILON: f64 = 1e-9;

/// Who wants CPU time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Busy {
    /// Every thread that there is.
    Everything,
    /// As many threads as there are CPUs in each of these, and nothing else. One that has another of
    /// them in it is busy by that one.
    Only(BTreeSet<Id>),
}

/// The share of every cgroup.
#[derive(Debug, Clone)]
pub struct Shares(Each<Level>);

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
    Quota(Bandwidth),
    /// `cpuset.cpus.effective`: so many CPUs.
    Cpuset(u32),
    /// It has only so many threads.
    Threads(u64),
}

impl Shares {
    /// The part of the machine's CPU time that a cgroup gets, 0 to 1; 0 where nothing is busy.
    #[must_use]
    pub fn of(&self, id: Id) -> f64 {
        self.0.get(id).map_or(0.0, |level| level.share)
    }

    /// How a cgroup comes by its share; `None` where nothing in it is busy.
    #[must_use]
    pub fn level(&self, id: Id) -> Option<Level> {
        self.0.get(id).copied()
    }

    /// How a cgroup comes by its share, from the root down to it; empty where nothing in it is busy.
    #[must_use]
    pub fn chain(&self, tree: &Tree, id: Id) -> Vec<(Id, Level)> {
        let mut chain: Vec<(Id, Level)> =
            tree.upwards(id).map_while(|id| Some((id, self.level(id)?))).collect();
        chain.reverse();
        chain
    }
}

/// The least that `cpu.max` can say, in CPUs: 1 ms in a period of 1 s (`min_cfs_quota_period` and
/// `max_cfs_quota_period` in the kernel's `kernel/sched/core.c`).
pub const LEAST_LIMIT: f64 = 0.001;

/// What every cgroup gets of a machine with so many CPUs.
#[must_use]
pub fn shares(tree: &Tree, cpus: u32, busy: &Busy) -> Shares {
    let machine = Machine { tree, cpus: cpus.max(1) };
    let demands = machine.demands(busy);
    Shares(machine.divide(&demands))
}

/// What a `cpu.weight`, 0 for an idle one, counts on so many CPUs together, in its own unit.
#[must_use]
pub fn counted(weight: u64, cpus: u32) -> f64 {
    Competing::Weight(weight).weight(cpus.max(1).into())
}

struct Machine<'t> {
    tree: &'t Tree,
    cpus: u32,
}

/// What the busy threads of a cgroup could use.
struct Demand {
    /// Those directly in it.
    own: u64,
    /// Those and all below.
    threads: u64,
    /// The part of the machine's CPU time that all of them can use.
    most: f64,
    /// What of this cgroup's keeps it from more.
    limit: Option<Limit>,
}

/// Somebody who competes for a cgroup's time.
struct Competitor {
    /// `None` for the cgroup's own threads.
    who: Option<Id>,
    with: Competing,
    weight: f64,
    most: f64,
    given: f64,
}

impl Machine<'_> {
    /// What each cgroup in which something is busy can use.
    fn demands(&self, busy: &Busy) -> Each<Demand> {
        let mut demands: Each<Demand> = Each::none(self.tree);
        for id in self.tree.ids().rev() {
            let below: Vec<&Demand> =
                self.tree[id].children.iter().filter_map(|child| demands.get(*child)).collect();
            let own = match busy {
                Busy::Everything => self.threads_in(id),
                Busy::Only(named) if named.contains(&id) && below.is_empty() => self.cpus.into(),
                Busy::Only(_) => 0,
            };
            let threads = own + below.iter().map(|demand| demand.threads).sum::<u64>();
            if threads > 0 {
                let wanted = self.of_threads(own) + below.iter().map(|demand| demand.most).sum::<f64>();
                let (most, limit) = self.limited(id, own, wanted);
                demands.insert(id, Demand { own, threads, most, limit });
            }
        }
        demands
    }

    /// How many threads are directly in a cgroup.
    fn threads_in(&self, id: Id) -> u64 {
        let cgroup = &self.tree[id];
        let below: Option<u64> = cgroup.children.iter().map(|child| self.tree[*child].tasks).sum();
        match (cgroup.tasks, below) {
            (Some(all), Some(below)) => all.saturating_sub(below),
            (None, _) if cgroup.populated && cgroup.children.is_empty() && id != Tree::ROOT => {
                self.cpus.into()
            }
            _ => 0,
        }
    }

    /// `wanted`, as far as a cgroup's own limits allow.
    fn limited(&self, id: Id, own: u64, wanted: f64) -> (f64, Option<Limit>) {
        let cgroup = &self.tree[id];
        let quota = cgroup.cpu.and_then(|cpu| cpu.max);
        let quota =
            quota.map(|max| (real(max.quota) / real(max.period) / f64::from(self.cpus), Limit::Quota(max)));
        let cpuset = cgroup.cpus.map(|cpus| (f64::from(cpus) / f64::from(self.cpus), Limit::Cpuset(cpus)));
        let lowest = quota.into_iter().chain(cpuset).min_by(|a, b| a.0.total_cmp(&b.0));
        match lowest {
            Some((most, limit)) if most < wanted => (most, Some(limit)),
            _ => (wanted, (self.of_threads(own) >= wanted).then_some(Limit::Threads(own))),
        }
    }

    /// The part of the machine that so many threads can use, each a CPU.
    fn of_threads(&self, threads: u64) -> f64 {
        real(threads) / f64::from(self.cpus)
    }

    /// Hands the machine down the tree.
    fn divide(&self, demands: &Each<Demand>) -> Each<Level> {
        let mut levels = Each::none(self.tree);
        for id in self.tree.ids() {
            let Some(demand) = demands.get(id) else { continue };
            if id == Tree::ROOT {
                let (with, weight, share) = (Competing::Root, DEFAULT_WEIGHT, demand.most.min(1.0));
                levels.insert(id, Level { share, with, weight, sum: weight, cap: demand.cap(share) });
            }
            let Some(&Level { share, .. }) = levels.get(id) else { continue };
            let mut competitors = self.competitors(id, demand, demands);
            let sum = competitors.iter().map(|competitor| competitor.weight).sum();
            fill(share, &mut competitors);
            for Competitor { who, with, weight, given: share, .. } in competitors {
                if let Some(who) = who {
                    let cap = demands.get(who).and_then(|demand| demand.cap(share));
                    levels.insert(who, Level { share, with, weight, sum, cap });
                }
            }
        }
        levels
    }

    /// Who competes for the time of a cgroup: the busy ones in it, and its own threads.
    fn competitors(&self, id: Id, own: &Demand, demands: &Each<Demand>) -> Vec<Competitor> {
        let child = |id: &Id| {
            let demand = demands.get(*id)?;
            let with = match self.tree[*id].cpu {
                Some(cpu) => Competing::Weight(cpu.weight),
                None => Competing::Threads(demand.threads),
            };
            let weight = with.weight(self.spread(*id, demand));
            Some(Competitor { who: Some(*id), with, weight, most: demand.most, given: 0.0 })
        };
        let mut competitors: Vec<Competitor> = self.tree[id].children.iter().filter_map(child).collect();
        if own.own > 0 {
            let with = Competing::Threads(own.own);
            let most = self.of_threads(own.own);
            let weight = with.weight(self.cpus.into());
            competitors.push(Competitor { who: None, with, weight, most, given: 0.0 });
        }
        competitors
    }

    /// On how many CPUs a cgroup is busy.
    fn spread(&self, id: Id, demand: &Demand) -> u64 {
        demand.threads.min(self.tree[id].cpus.unwrap_or(self.cpus).into()).clamp(1, self.cpus.into())
    }
}

impl Demand {
    fn cap(&self, share: f64) -> Option<Cap> {
        let reached = share >= self.most - EPSILON && self.most < 1.0 - EPSILON;
        self.limit.filter(|_| reached).map(|limit| Cap { limit, most: self.most })
    }
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

/// Gives out `total` by weight. Those who can use the least for their weight come first: what they
/// leave is the others'.
fn fill(total: f64, competitors: &mut [Competitor]) {
    competitors.sort_by(|a, b| (a.most / a.weight).total_cmp(&(b.most / b.weight)));
    let mut left = total;
    let mut weights: f64 = competitors.iter().map(|competitor| competitor.weight).sum();
    for competitor in competitors {
        competitor.given = (left * competitor.weight / weights).min(competitor.most);
        left = (left - competitor.given).max(0.0);
        weights -= competitor.weight;
    }
}

/// Numbers of threads and microseconds are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "exact below 2^53, and shares are not exact above")]
fn real(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::{Cgroup, Cpu};

    fn weighing(weight: u64) -> Cgroup {
        Cgroup { cpu: Some(Cpu { weight, max: None }), ..Cgroup::default() }
    }

    fn limited(weight: u64, quota: u64) -> Cgroup {
        let max = Some(Bandwidth { quota, period: 100_000 });
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
        let one_cpu = tree.add(Tree::ROOT, "b", Cgroup { cpus: Some(1), ..weighing(400) });
        let (c, d) = (tree.add(Tree::ROOT, "c", weighing(100)), tree.add(Tree::ROOT, "d", weighing(300)));
        // By weight 1000 : 400 : 100 : 300. a gets an eighth, then b a quarter.
        let all = shares(&tree, 4, &only([half_a_cpu, one_cpu, c, d]));
        let left = 1.0 - 0.125 - 0.25;
        let expected = [(half_a_cpu, 0.125), (one_cpu, 0.25), (c, left / 4.0), (d, left * 3.0 / 4.0)];
        assert_shares(&all, expected);
        let limit = |id| all.level(id).unwrap().cap.map(|cap| cap.limit);
        let quota = Bandwidth { quota: 50_000, period: 100_000 };
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
        let bound = tree.add(Tree::ROOT, "b", Cgroup { cpu: weighing(1).cpu, cpus: Some(4), ..threads(16) });
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
}
