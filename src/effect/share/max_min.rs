//! Who gets how much of which CPU: weighted max-min over sets of CPUs that may overlap.
//!
//! Nobody gets more than would take from one who has less for its weight. That is where threads come to rest
//! which move to the CPU on which their weight counts for most, as the kernel's load balancer has them do.
//!
//! By decomposition: all get the same for their weight, as if every CPU were everybody's. Where that does not
//! fit onto the CPUs, a minimal cut of the flow from threads to CPUs tells whose CPUs are too few; they share
//! those among themselves, and the rest share the rest (Groenevelt, "Two algorithms for maximizing a separable
//! concave function over a polymatroid feasible region", European Journal of Operational Research 54, 1991).
#![forbid(unsafe_code)]

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::PRECISION;
use crate::host::cpu_set::CpuSet;

/// CPUs that differ by less are the same.
const EPSILON: f64 = 1e-9;

/// Some threads that compete.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Claim {
    /// What all of them weigh together, above 0.
    pub(super) weight: f64,
    /// The CPUs that they can use, above 0.
    pub(super) most: f64,
    /// Which of the sets they may run on.
    pub(super) on: usize,
}

/// What somebody gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Allocation {
    pub(super) cpus: f64,
    /// What those get for their weight with whom it shares CPUs; infinite where there are CPUs to spare.
    pub(super) rate: f64,
}

/// How many CPUs each gets. A set that is not among `sets` is empty.
#[must_use]
pub(super) fn max_min(claims: &[Claim], sets: &[CpuSet]) -> Vec<Allocation> {
    let mut given = vec![Allocation { cpus: 0.0, rate: 0.0 }; claims.len()];
    let (pools, sizes) = pools(claims, sets);
    let mut parts = vec![pools];
    while let Some(pools) = parts.pop() {
        let blocks: BTreeSet<usize> = pools.iter().flat_map(|pool| pool.blocks.iter().copied()).collect();
        let spare: BTreeMap<usize, f64> =
            blocks.into_iter().filter_map(|block| Some((block, *sizes.get(block)?))).collect();
        let all = pools.iter().flat_map(|pool| &pool.claims);
        let rate = rate(spare.values().sum(), all.map(|(_, claim)| (claim.weight, claim.most)));
        let gets = |claim: &Claim| (rate * claim.weight).min(claim.most);
        let short = if pools.len() < 2 { None } else { Flow::new(&pools, spare, gets).short_of_cpus() };
        if let Some(short) = short {
            parts.extend(split(pools, &short));
        } else {
            for (index, claim) in pools.iter().flat_map(|pool| &pool.claims) {
                if let Some(given) = given.get_mut(*index) {
                    *given = Allocation { cpus: gets(claim), rate };
                }
            }
        }
    }
    given
}

/// What each gets for its weight where `total` is given out among some who have a weight, and a most that they can
/// use; infinite where there is enough for everybody.
#[must_use]
pub(super) fn rate(total: f64, claims: impl Iterator<Item = (f64, f64)>) -> f64 {
    let mut claims: Vec<(f64, f64)> = claims.collect();
    // Those who can use the least for their weight come first: what they leave is the others'.
    claims.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    // Of each and those after it: beside a great weight, what subtracting it leaves of a small one is rounding errors.
    let mut sums: Vec<f64> = Vec::with_capacity(claims.len());
    for (weight, _) in claims.iter().rev() {
        sums.push(weight + sums.last().unwrap_or(&0.0));
    }
    let mut left = total;
    for ((weight, most), weights) in claims.into_iter().zip(sums.into_iter().rev()) {
        // As many CPUs as all can use are enough.
        if most * weights > left * weight * (1.0 + PRECISION) {
            return left / weights;
        }
        left -= most;
    }
    f64::INFINITY
}

/// Claims that may use the same CPUs.
struct Pool {
    /// With their place among all.
    claims: Vec<(usize, Claim)>,
    /// CPUs that are in the same sets make a block.
    blocks: Vec<usize>,
}

/// The claims by their sets, and how many CPUs each block has.
fn pools(claims: &[Claim], sets: &[CpuSet]) -> (Vec<Pool>, Vec<f64>) {
    let mut by_set: BTreeMap<usize, Vec<(usize, Claim)>> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        by_set.entry(claim.on).or_default().push((index, *claim));
    }
    let mut in_pools: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (pool, set) in by_set.keys().enumerate() {
        for cpu in sets.get(*set).into_iter().flat_map(CpuSet::iter) {
            in_pools.entry(cpu).or_default().push(pool);
        }
    }
    let mut blocks: BTreeMap<Vec<usize>, f64> = BTreeMap::new();
    for pools in in_pools.into_values() {
        *blocks.entry(pools).or_default() += 1.0;
    }
    let mut pools: Vec<Pool> =
        by_set.into_values().map(|claims| Pool { claims, blocks: Vec::new() }).collect();
    for (block, of) in blocks.keys().enumerate() {
        for pool in of {
            if let Some(pool) = pools.get_mut(*pool) {
                pool.blocks.push(block);
            }
        }
    }
    (pools, blocks.into_values().collect())
}

/// The pools whose CPUs are too few with those CPUs, and the others with what is left to them.
fn split(pools: Vec<Pool>, short: &BTreeSet<usize>) -> [Vec<Pool>; 2] {
    let (mut tight, mut rest) = (Vec::new(), Vec::new());
    for (index, pool) in pools.into_iter().enumerate() {
        if short.contains(&index) { tight.push(pool) } else { rest.push(pool) }
    }
    let taken: BTreeSet<usize> = tight.iter().flat_map(|pool| pool.blocks.iter().copied()).collect();
    for pool in &mut rest {
        pool.blocks.retain(|block| !taken.contains(block));
    }
    [tight, rest]
}

/// A flow of CPU time from blocks to the pools that want it.
struct Flow<'p> {
    pools: &'p [Pool],
    /// What each pool still wants.
    wanted: Vec<f64>,
    /// What each block still has.
    spare: BTreeMap<usize, f64>,
    /// What a pool has of a block, by block and pool.
    has: BTreeMap<(usize, usize), f64>,
}

/// Whom a search has reached.
#[derive(Default)]
struct Reached {
    /// With the block whose time they have, of which others could do with more; `None` of one that itself wants more.
    pools: BTreeMap<usize, Option<usize>>,
    /// With the pool that could use it.
    blocks: BTreeMap<usize, usize>,
}

impl<'p> Flow<'p> {
    fn new(pools: &'p [Pool], spare: BTreeMap<usize, f64>, gets: impl Fn(&Claim) -> f64) -> Self {
        let wanted =
            pools.iter().map(|pool| pool.claims.iter().map(|(_, claim)| gets(claim)).sum()).collect();
        Self { pools, wanted, spare, has: BTreeMap::new() }
    }

    /// The pools that cannot have what they want, with those who keep it from them; `None` where all can.
    fn short_of_cpus(mut self) -> Option<BTreeSet<usize>> {
        loop {
            let mut reached = Reached::default();
            match self.search(&mut reached) {
                Some(block) => self.take(block, &reached),
                None if reached.pools.is_empty() => return None,
                // All of them want no more than all that there is: what is missing is lost in rounding.
                None if reached.pools.len() == self.pools.len() => return None,
                None => return Some(reached.pools.into_keys().collect()),
            }
        }
    }

    /// The nearest block that has time to spare for a pool that wants some, by way of others that move over.
    fn search(&self, reached: &mut Reached) -> Option<usize> {
        let wanting = self.wanted.iter().enumerate().filter(|(_, wanted)| **wanted > EPSILON);
        let mut next: VecDeque<usize> = wanting.map(|(pool, _)| pool).collect();
        reached.pools.extend(next.iter().map(|pool| (*pool, None)));
        while let Some(pool) = next.pop_front() {
            for block in self.pools.get(pool).into_iter().flat_map(|pool| &pool.blocks) {
                if reached.blocks.contains_key(block) {
                    continue;
                }
                reached.blocks.insert(*block, pool);
                if self.spare.get(block).is_some_and(|spare| *spare > EPSILON) {
                    return Some(*block);
                }
                for ((_, other), _) in self.has.range((*block, 0)..=(*block, usize::MAX)) {
                    if !reached.pools.contains_key(other) {
                        reached.pools.insert(*other, Some(*block));
                        next.push_back(*other);
                    }
                }
            }
        }
        None
    }

    /// Takes time of a block along the way on which it was reached, as much as goes.
    fn take(&mut self, last: usize, reached: &Reached) {
        let mut way = Vec::new();
        let mut block = Some(last);
        while let Some((to, pool)) = block.and_then(|block| Some((block, *reached.blocks.get(&block)?))) {
            way.push((to, pool));
            block = reached.pools.get(&pool).copied().flatten();
        }
        let first = way.last().and_then(|(_, pool)| self.wanted.get_mut(*pool));
        let (Some(wanted), Some(spare)) = (first, self.spare.get_mut(&last)) else { return };
        // Each but the last pool of the way gives up what it has of the block before it.
        let moved = way.iter().zip(way.iter().skip(1)).map(|((_, pool), (block, _))| (*block, *pool));
        let moving =
            moved.clone().filter_map(|key| self.has.get(&key).copied()).fold(wanted.min(*spare), f64::min);
        *wanted -= moving;
        *spare -= moving;
        for key in moved {
            if let Entry::Occupied(mut has) = self.has.entry(key) {
                *has.get_mut() -= moving;
                if *has.get() <= EPSILON {
                    has.remove();
                }
            }
        }
        for key in way {
            *self.has.entry(key).or_default() += moving;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CPUS: u32 = 5;

    fn claims() -> impl Strategy<Value = (Vec<Claim>, Vec<CpuSet>)> {
        let set = (1..1_u32 << CPUS).prop_map(|bits| (0..CPUS).filter(|cpu| bits >> cpu & 1 == 1).collect());
        prop::collection::vec(set, 1..6).prop_flat_map(|sets| {
            let claim = (0.001..1000.0, prop_oneof![0.05..6.0, Just(64.0)], 0..sets.len());
            let claim = claim.prop_map(|(weight, most, on)| Claim { weight, most, on });
            (prop::collection::vec(claim, 1..9), Just(sets))
        })
    }

    /// Those of the claims whose bit is set.
    fn subset(claims: &[Claim], bits: usize) -> impl Iterator<Item = (usize, &Claim)> {
        claims.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

        /// Against every subset of the claims: none gets more than its CPUs have, and who could use more is in
        /// one that has all of its CPUs, and in which nobody has more for its weight.
        #[test]
        fn no_claim_can_get_more_but_from_one_with_less((claims, sets) in claims()) {
            let given = max_min(&claims, &sets);
            let mut has_its_part: Vec<bool> =
                claims.iter().zip(&given).map(|(claim, given)| given.cpus >= claim.most - 1e-7).collect();
            for bits in 1..1_usize << claims.len() {
                let mut cpus = CpuSet::default();
                subset(&claims, bits).for_each(|(_, claim)| cpus.add(&sets[claim.on]));
                let all: f64 = subset(&claims, bits).map(|(index, _)| given[index].cpus).sum();
                prop_assert!(all <= f64::from(cpus.count()) + 1e-7, "{all} of {cpus}");
                if all < f64::from(cpus.count()) - 1e-7 {
                    continue;
                }
                let rate = |(index, claim): (usize, &Claim)| given[index].cpus / claim.weight;
                let best = subset(&claims, bits).map(rate).fold(0.0, f64::max);
                for one in subset(&claims, bits) {
                    has_its_part[one.0] |= rate(one) >= best * (1.0 - 1e-6);
                }
            }
            prop_assert!(has_its_part.iter().all(|has| *has), "{given:?}");
            for (claim, given) in claims.iter().zip(&given) {
                prop_assert!(given.cpus > 0.0 && given.cpus <= claim.most);
                prop_assert!(given.rate.is_finite() || given.cpus >= claim.most);
            }
        }
    }

    #[test]
    fn hundreds_of_sets_are_no_burden() {
        // Each but the last has a CPU of its own and the next one's; the last may use all.
        let mut sets: Vec<CpuSet> = (0..300).map(|cpu| [cpu, cpu + 1].into_iter().collect()).collect();
        sets.push(CpuSet::first(301));
        let claims: Vec<Claim> =
            (0..).zip(&sets).map(|(on, _)| Claim { weight: 1.0, most: 64.0, on }).collect();
        let given = max_min(&claims, &sets);
        assert!(given.iter().all(|given| (given.cpus - 1.0).abs() < 1e-9), "{given:?}");
    }
}
