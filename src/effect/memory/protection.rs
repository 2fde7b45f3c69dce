//! How much memory is protected from reclaim.
//!
//! It follows the kernel's own rule: `propagate_protected_usage`, `effective_protection` and
//! `page_counter_calculate_protection` of its `mm/page_counter.c` (`mm/memcontrol.c` before 6.11), for
//! reclaim that the whole machine is in need of. All amounts are bytes; the kernel counts pages.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::host::tree::{Id, MemoryAttributes, Tree};
use crate::units::Property;

/// The two settings that protect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// `memory.min`: never reclaimed.
    Min,
    /// `memory.low`: reclaimed only when nothing that is unprotected is left.
    Low,
}

/// How much of a cgroup's memory reclaim leaves alone: what the kernel calls `emin` and `elow`.
///
/// A child of the root has what it sets, used or not. Below, as long as the cgroups of a parent use no
/// more than the parent:
/// - a cgroup never has more than its parent, nor all children together;
/// - without `memory_recursiveprot`, it never has more than it uses. With it, it has more only where
///   its parent has more than the parent uses: then all that there is is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protection {
    /// By [`Guard::Min`].
    pub min: u64,
    /// By [`Guard::Low`].
    pub low: u64,
}

/// What is protected of each cgroup of a tree.
#[derive(Debug)]
pub struct Protections {
    recursive: bool,
    of: HashMap<Id, Protection>,
    /// What the children of a cgroup use and claim together.
    below: HashMap<Id, Below>,
}

/// The sums over the children of a cgroup.
#[derive(Debug, Clone, Copy, Default)]
struct Below {
    used: u64,
    /// `children_min_usage`, `children_low_usage`: of each child what it sets, as far as it uses it.
    claimed: Protection,
}

/// One cgroup on the way from the root to another, and how its protection comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtectionLink {
    /// Which one.
    pub id: Id,
    /// What it sets; [`u64::MAX`] is `max`.
    pub setting: u64,
    /// What it uses, with all below.
    pub used: u64,
    /// What it and its siblings claim together: of each what it sets, as far as it uses it.
    pub claimed: u64,
    /// What it has.
    pub effective: u64,
}

/// What a protection comes to where the cgroup uses as much as it sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What it sets; where that is `max`, what it uses.
    pub wanted: u64,
    /// What it has of that.
    pub effective: u64,
    /// Why it is less, by more than a hundredth: what is used changes while it is read.
    pub because: Option<Because>,
}

/// Why a protection comes to less than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The outermost ancestor that sets less.
    Ancestor(ProtectionLink),
    /// All in this cgroup claim together more than it has.
    Siblings {
        /// Which one.
        parent: Id,
        /// Bytes.
        claimed: u64,
        /// Bytes.
        available: u64,
    },
}

impl Guard {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Min, Self::Low];

    /// What a cgroup sets.
    #[must_use]
    pub fn setting(self, memory: &MemoryAttributes) -> u64 {
        match self {
            Self::Min => memory.min,
            Self::Low => memory.low,
        }
    }

    /// The one that a key of the policy sets.
    #[must_use]
    pub fn by_key(key: &str) -> Option<Self> {
        let property = Property::by_key(key)?;
        Self::BOTH.into_iter().find(|guard| guard.property() == property.unit)
    }

    /// The cgroup attribute.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Min => "memory.min",
            Self::Low => "memory.low",
        }
    }

    /// The setting of a unit, and the property of PID 1's.
    #[must_use]
    pub fn property(self) -> &'static str {
        match self {
            Self::Min => "MemoryMin",
            Self::Low => "MemoryLow",
        }
    }
}

impl Protection {
    /// By one of the two.
    #[must_use]
    pub fn by(self, guard: Guard) -> u64 {
        match guard {
            Guard::Min => self.min,
            Guard::Low => self.low,
        }
    }
}

/// What is protected of each cgroup, in need of the whole machine. `recursive` is whether cgroup2 is
/// mounted with `memory_recursiveprot`. The memory of the whole tree must have been read.
#[must_use]
pub fn protection(tree: &Tree, recursive: bool) -> Protections {
    let mut all = Protections { recursive, of: HashMap::new(), below: sums(tree) };
    for id in tree.ids() {
        let Some(memory) = &tree[id].memory else { continue };
        let by = |guard: Guard| match tree[id].parent.filter(|parent| tree[*parent].memory.is_some()) {
            None => guard.setting(memory),
            Some(parent) => effective(
                all.used(tree, id),
                guard.setting(memory),
                &Parent {
                    used: all.used(tree, parent),
                    effective: all.of(parent).by(guard),
                    claimed: all.claimed(parent).by(guard),
                },
                recursive,
            ),
        };
        let protection = Protection { min: by(Guard::Min), low: by(Guard::Low) };
        all.of.insert(id, protection);
    }
    all
}

impl Protections {
    /// What is protected of this cgroup now; nothing where it has no memory controller.
    #[must_use]
    pub fn of(&self, id: Id) -> Protection {
        self.of.get(&id).copied().unwrap_or_default()
    }

    /// What is protected of a cgroup and of each of its ancestors, the outermost first, as it is now.
    #[must_use]
    pub fn chain(&self, tree: &Tree, id: Id, guard: Guard) -> Vec<ProtectionLink> {
        self.chain_with(tree, id, guard, 0)
    }

    /// The same as if the cgroup used at least as much as it sets, and all else what it uses now. Where
    /// it sets `max`, it uses what it uses.
    #[must_use]
    pub fn chain_if_used(&self, tree: &Tree, id: Id, guard: Guard) -> Vec<ProtectionLink> {
        let setting = tree[id].memory.as_ref().map_or(0, |memory| guard.setting(memory));
        let more = if setting == u64::MAX { 0 } else { setting.saturating_sub(self.used(tree, id)) };
        self.chain_with(tree, id, guard, more)
    }

    /// What the setting of a cgroup comes to; `None` where it sets nothing.
    #[must_use]
    pub fn outcome(&self, tree: &Tree, id: Id, guard: Guard) -> Option<Outcome> {
        let setting = Some(guard.setting(tree[id].memory.as_ref()?)).filter(|setting| *setting > 0)?;
        let chain = self.chain_if_used(tree, id, guard);
        let own = chain.last()?;
        let wanted = if setting == u64::MAX { own.used } else { setting };
        let effective = own.effective.min(wanted);
        let because = is_less(effective, wanted).then(|| why_less(tree, &chain, wanted)).flatten();
        Some(Outcome { wanted, effective, because })
    }

    /// What of the protection that a cgroup sets would be kept if it used as much: [`u64::MAX`] where it sets `max`
    /// and all that it uses is kept.
    #[must_use]
    pub fn kept(&self, tree: &Tree, id: Id) -> Protection {
        let by = |guard: Guard| {
            let has_no_limit = tree[id].memory.is_some_and(|memory| guard.setting(&memory) == u64::MAX);
            match self.outcome(tree, id, guard) {
                Some(outcome) if has_no_limit && outcome.because.is_none() => u64::MAX,
                outcome => outcome.map_or(0, |outcome| outcome.effective),
            }
        };
        Protection { min: by(Guard::Min), low: by(Guard::Low) }
    }

    fn chain_with(&self, tree: &Tree, id: Id, guard: Guard, more: u64) -> Vec<ProtectionLink> {
        let mut ids: Vec<Id> = tree.upwards(id).collect();
        ids.reverse();
        let mut links: Vec<ProtectionLink> = Vec::new();
        for id in ids {
            let (cgroup, now) = (&tree[id], self.used(tree, id));
            let (Some(memory), Some(parent)) = (&cgroup.memory, cgroup.parent) else { continue };
            let (setting, used) = (guard.setting(memory), now.saturating_add(more));
            let claimed =
                (self.claimed(parent).by(guard) - setting.min(now)).saturating_add(setting.min(used));
            let effective = links.last().map_or(setting, |above| {
                let parent = Parent { used: above.used, effective: above.effective, claimed };
                effective(used, setting, &parent, self.recursive)
            });
            links.push(ProtectionLink { id, setting, used, claimed, effective });
        }
        links
    }

    /// What a cgroup uses. Values that were read one after the other need not agree: a parent uses no
    /// less than its children.
    fn used(&self, tree: &Tree, id: Id) -> u64 {
        let below = self.below.get(&id).map_or(0, |below| below.used);
        tree[id].memory.as_ref().map_or(0, |memory| memory.current).max(below)
    }

    fn claimed(&self, parent: Id) -> Protection {
        self.below.get(&parent).map(|below| below.claimed).unwrap_or_default()
    }
}

fn sums(tree: &Tree) -> HashMap<Id, Below> {
    let mut sums: HashMap<Id, Below> = HashMap::new();
    // Children before their parents.
    let mut ids: Vec<Id> = tree.ids().collect();
    ids.reverse();
    for id in ids {
        let cgroup = &tree[id];
        let (Some(memory), Some(parent)) = (&cgroup.memory, cgroup.parent) else { continue };
        let used = memory.current.max(sums.get(&id).map_or(0, |below| below.used));
        let sum = sums.entry(parent).or_default();
        sum.used = sum.used.saturating_add(used);
        sum.claimed.min = sum.claimed.min.saturating_add(memory.min.min(used));
        sum.claimed.low = sum.claimed.low.saturating_add(memory.low.min(used));
    }
    sums
}

fn why_less(tree: &Tree, chain: &[ProtectionLink], wanted: u64) -> Option<Because> {
    let (_, ancestors) = chain.split_last()?;
    let lacks = |link: &&ProtectionLink| link.setting < wanted && is_less(link.effective, wanted);
    let siblings = || {
        let (above, link) =
            chain.iter().zip(chain.iter().skip(1)).find(|(_, l)| is_less(l.effective, wanted))?;
        let parent = tree[link.id].parent?;
        Some(Because::Siblings { parent, claimed: link.claimed, available: above.effective })
    };
    ancestors.iter().find(lacks).map(|link| Because::Ancestor(*link)).or_else(siblings)
}

/// By more than a hundredth.
#[must_use]
pub fn is_less(is: u64, wanted: u64) -> bool {
    is < wanted - wanted / 100
}

/// What counts of the parent.
struct Parent {
    used: u64,
    effective: u64,
    /// By all of its children.
    claimed: u64,
}

/// `effective_protection` of the kernel.
fn effective(used: u64, setting: u64, parent: &Parent, recursive: bool) -> u64 {
    let part = |whole: u64, part: u64, of: u64| {
        let share = u128::from(whole) * u128::from(part) / u128::from(of.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let protected = used.min(setting);
    if parent.claimed > parent.effective {
        return part(parent.effective, protected, parent.claimed);
    }
    if !recursive || parent.used <= parent.claimed {
        return protected;
    }
    // What nobody claims is divided by what nobody protects.
    protected + part(parent.effective - parent.claimed, used - protected, parent.used - parent.claimed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fixture::cgroup;
    use super::*;
    use crate::host::tree::Cgroup;

    const MIB: u64 = 1 << 20;
    /// A cgroup with what it uses and what it sets, as `memory.min` and `memory.low` alike.
    fn add(tree: &mut Tree, parent: Id, name: &str, current: u64, setting: u64) -> Id {
        tree.add(
            parent,
            name,
            cgroup(MemoryAttributes { current, min: setting, low: setting, ..MemoryAttributes::default() }),
        )
    }

    fn mins(tree: &Tree, recursive: bool, ids: &[Id]) -> Vec<u64> {
        let protections = protection(tree, recursive);
        ids.iter().map(|id| protections.of(*id).min / MIB).collect()
    }

    #[test]
    fn a_protection_without_the_ancestors_is_none() {
        for (ancestors, effective) in [(0, 0), (600, 500), (250, 250)] {
            let mut tree = Tree::new(Cgroup::default());
            let outer = add(&mut tree, Tree::ROOT, "a.slice", 500 * MIB, ancestors * MIB);
            let inner = add(&mut tree, outer, "a-b.slice", 500 * MIB, 600 * MIB);
            for recursive in [false, true] {
                assert_eq!(mins(&tree, recursive, &[outer, inner]), [ancestors, effective]);
            }
        }
    }

    #[test]
    fn too_much_claimed_is_divided_by_what_is_used_of_it() {
        let mut tree = Tree::new(Cgroup::default());
        let parent = add(&mut tree, Tree::ROOT, "p", 900 * MIB, 300 * MIB);
        let more = add(&mut tree, parent, "m", 500 * MIB, 400 * MIB);
        let less = add(&mut tree, parent, "l", 200 * MIB, 1000 * MIB);
        let none = add(&mut tree, parent, "n", 200 * MIB, 0);
        for recursive in [false, true] {
            assert_eq!(mins(&tree, recursive, &[more, less, none]), [200, 100, 0]);
        }
        // If it used all it sets, it would push the other back.
        let chain = protection(&tree, true).chain_if_used(&tree, less, Guard::Min);
        let last = chain.last().unwrap();
        assert_eq!((last.claimed / MIB, last.effective / MIB, last.used / MIB), (1400, 214, 1000));
    }

    #[test]
    fn what_nobody_claims_goes_by_use_with_recursiveprot_alone() {
        let mut tree = Tree::new(Cgroup::default());
        let parent = add(&mut tree, Tree::ROOT, "p", 1000 * MIB, 500 * MIB);
        let claims = add(&mut tree, parent, "c", 400 * MIB, 100 * MIB);
        let free = add(&mut tree, parent, "f", 600 * MIB, 0);
        assert_eq!(mins(&tree, false, &[claims, free]), [100, 0]);
        // 400 are left over, for 300 and 600 unprotected.
        assert_eq!(mins(&tree, true, &[claims, free]), [100 + 133, 266]);
    }

    /// For each cgroup: in which of those before it, what it uses itself, what it sets.
    type Plan = Vec<(prop::sample::Index, u64, u64)>;

    fn plans() -> impl Strategy<Value = Plan> {
        let bytes = || prop_oneof![Just(0), 1..100_u64, 1..(1_u64 << 40)];
        let setting = prop_oneof![4 => bytes(), 1 => Just(u64::MAX)];
        prop::collection::vec((any::<prop::sample::Index>(), bytes(), setting), 1..14)
    }

    /// The tree, and its cgroups in the order of the plan, the root first.
    fn planned(plan: &Plan, backwards: bool) -> (Tree, Vec<Id>) {
        let parents: Vec<usize> = plan.iter().enumerate().map(|(at, (of, ..))| of.index(at + 1)).collect();
        let mut used: Vec<u64> = std::iter::once(0).chain(plan.iter().map(|(_, own, _)| *own)).collect();
        for (at, parent) in parents.iter().enumerate().rev() {
            used[*parent] += used[at + 1];
        }
        let mut tree = Tree::new(Cgroup::default());
        let mut ids = vec![Tree::ROOT; plan.len() + 1];
        // Level by level, each from one end or the other.
        let mut level = vec![0];
        while !level.is_empty() {
            let mut next: Vec<usize> =
                (1..=plan.len()).filter(|at| level.contains(&parents[at - 1])).collect();
            if backwards {
                next.reverse();
            }
            for at in &next {
                let parent = ids[parents[at - 1]];
                ids[*at] = add(&mut tree, parent, &at.to_string(), used[*at], plan[at - 1].2);
            }
            level = next;
        }
        (tree, ids)
    }

    proptest! {
        #[test]
        fn a_protection_is_never_above_the_parents_nor_the_use(plan in plans(), recursive: bool) {
            let (tree, ids) = planned(&plan, false);
            let all = protection(&tree, recursive);
            for id in &ids[1..] {
                let (own, cgroup) = (all.of(*id).min, &tree[*id]);
                let used = cgroup.memory.unwrap().current;
                let children: Vec<u64> = cgroup.children.iter().map(|child| all.of(*child).min).collect();
                prop_assert!(children.iter().sum::<u64>() <= own, "children {children:?} of {own}");
                let parent = cgroup.parent.unwrap();
                if parent != Tree::ROOT {
                    let above = tree[parent].memory.unwrap().current;
                    prop_assert!(own <= used || recursive && all.of(parent).min > above);
                }
            }
        }

        #[test]
        fn more_set_is_never_less_protected(
            plan in plans(), at: prop::sample::Index, more in 0..(1_u64 << 40), recursive: bool,
        ) {
            let kept = |plan: &Plan, at: usize| {
                let (tree, ids) = planned(plan, false);
                protection(&tree, recursive).of(ids[at + 1]).min.min(tree[ids[at + 1]].memory.unwrap().current)
            };
            let at = at.index(plan.len());
            let mut raised = plan.clone();
            raised[at].2 = raised[at].2.saturating_add(more);
            prop_assert!(kept(&raised, at) >= kept(&plan, at));
        }

        #[test]
        fn the_order_of_siblings_means_nothing(plan in plans(), recursive: bool) {
            let ((one, ids), (other, backwards)) = (planned(&plan, false), planned(&plan, true));
            let (one, other) = (protection(&one, recursive), protection(&other, recursive));
            for (id, same) in ids.iter().zip(&backwards) {
                prop_assert_eq!(one.of(*id), other.of(*same));
            }
        }

        #[test]
        fn a_chain_ends_in_what_the_whole_tree_says(plan in plans(), recursive: bool) {
            let (tree, ids) = planned(&plan, false);
            let all = protection(&tree, recursive);
            for id in &ids[1..] {
                prop_assert_eq!(all.chain(&tree, *id, Guard::Min).last().unwrap().effective, all.of(*id).min);
            }
        }
    }
}
