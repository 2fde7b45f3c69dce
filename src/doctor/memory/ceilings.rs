//! Memory limits that are never met, because an ancestor's is met before, or the machine has less.
#![forbid(unsafe_code)]

use super::MemoryScene;
use crate::doctor::finding::{Code, Finding, Fix};
use crate::doctor::remedy::{self, NewValue, amount, rounded};
use crate::effect::memory::{Ceiling, MemoryLimit, ceiling, size};
use crate::host::cgroup::Standing;
use crate::host::tree::{Each, Id, MemoryAttributes, Tree};
use crate::units::{MEMORY_HIGH, MEMORY_MAX, Property};

/// `memory.high` and `memory.max` of a cgroup; [`u64::MAX`] is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    high: u64,
    max: u64,
}

const NONE: Limits = Limits { high: u64::MAX, max: u64::MAX };

impl Limits {
    fn of(memory: Option<&MemoryAttributes>) -> Self {
        memory.map_or(NONE, |memory| Self { high: memory.high, max: memory.max })
    }

    fn changes(self, unit: &str, from: Self) -> Vec<NewValue> {
        let change = |property: Property, from: u64, to: u64| {
            (from != to).then(|| NewValue::bytes(unit, property.unit, to))
        };
        let each = [change(MEMORY_HIGH, from.high, self.high), change(MEMORY_MAX, from.max, self.max)];
        each.into_iter().flatten().collect()
    }
}

impl MemoryScene<'_> {
    /// All in the tree. Who is to have less than it sets is said to have it from whoever sets less.
    pub(super) fn ceilings(&self) -> Vec<Finding> {
        let (raised, highest) = self.raised_limits();
        let planned = self.below_ram(&highest);
        let mut found = Vec::new();
        for id in self.tree.in_slices().chain([Tree::ROOT]) {
            let own = Limits::of(self.tree[id].memory.as_ref());
            let above = self.tree[id].parent.map(|parent| ceiling(self.tree, parent));
            let above = above.unwrap_or(Ceiling { high: None, max: None, swap: None });
            let new = planned.get(id).copied().unwrap_or(own);
            found.extend(self.above_ram(id, own, new, above));
            // Where an ancestor's memory.max is met, memory.high is never.
            let first = above.high.into_iter().chain(above.max).min_by_key(|limit| limit.bytes);
            found.extend(self.above_ancestors(id, MEMORY_HIGH, own.high, first, &raised));
            found.extend(self.above_ancestors(id, MEMORY_MAX, own.max, above.max, &raised));
        }
        found
    }

    /// To what each cgroup is limited by itself and what it is in, once no limit is above the RAM.
    pub(super) fn planned_limits(&self) -> Each<u64> {
        let (_, highest) = self.raised_limits();
        let planned = self.below_ram(&highest);
        let mut limits: Each<u64> = Each::none(self.tree);
        for id in self.tree.ids() {
            let above = self.tree[id].parent.and_then(|parent| limits.get(parent)).copied();
            let own = planned.get(id).map(|own| own.high.min(own.max));
            limits.insert(id, above.into_iter().chain(own).min().unwrap_or(u64::MAX));
        }
        limits
    }

    /// What limits nothing, in one finding: with both limits changed at once, the one stays below the other.
    fn above_ram(&self, id: Id, own: Limits, new: Limits, above: Ceiling) -> Option<Finding> {
        let subject = self.tree.unit(id)?.to_owned();
        let is_above = |bytes: u64| bytes != u64::MAX && bytes > self.ram;
        let mut settings =
            vec![(MEMORY_HIGH, own.high, is_above(own.high)), (MEMORY_MAX, own.max, is_above(own.max))];
        settings.retain(|(.., is_above)| *is_above);
        let (first, ..) = settings.first()?;
        let named: Vec<String> =
            settings.iter().map(|(p, bytes, _)| format!("{} = {}", p.attribute, size(*bytes))).collect();
        let hold = if named.len() > 1 { "hold" } else { "holds" };
        let mut changes = new.changes(&subject, own);
        for change in changes.iter_mut().filter(|change| change.value == amount(self.ram / 4 * 3)) {
            "75%".clone_into(&mut change.value);
        }
        let limiting = above.high.into_iter().chain(above.max).filter(|limit| limit.bytes < self.ram);
        let limiting = limiting.min_by_key(|limit| limit.bytes).map_or_else(String::new, |limit| {
            let holder = self.name(limit.of);
            format!("; {holder}, which it is in, is limited to {} with all below it", size(limit.bytes))
        });
        Some(Finding {
            code: Code::CeilingAboveRam,
            what: format!("{} never {hold}", named.join(" and ")),
            cost: Some("it limits nothing".to_owned()),
            cause: format!("the machine has {} of RAM{limiting}", size(self.ram)),
            at: (self.set_by)(&subject, first.unit),
            fix: remedy::fix(&changes, self.set_by),
            subject: subject.into(),
        })
    }

    /// The limits above the RAM with three quarters of it instead, or what the ancestors leave of that; and no
    /// less than what a unit in it is limited to.
    fn below_ram(&self, highest: &Each<Limits>) -> Each<Limits> {
        let most = self.ram / 4 * 3;
        let mut planned: Each<Limits> = Each::none(self.tree);
        let is_above = |bytes: u64| bytes != u64::MAX && bytes > self.ram;
        for id in self.tree.ids() {
            let own = Limits::of(self.tree[id].memory.as_ref());
            let above = self.tree.upwards(id).skip(1).filter_map(|id| planned.get(id));
            let above = above.fold(NONE, |tightest, next| Limits {
                high: tightest.high.min(next.high),
                max: tightest.max.min(next.max),
            });
            let below = highest.get(id).copied().unwrap_or(Limits { high: 0, max: 0 });
            let mut new = own;
            if is_above(own.max) {
                new.max = most.min(above.max).max(below.max).max(below.high);
                if !is_above(own.high) && own.high != u64::MAX && own.high >= new.max {
                    new.max = u64::MAX;
                }
            }
            if is_above(own.high) {
                new.high = most.min(above.high).min(above.max);
                if new.high >= new.max {
                    new.high = rounded(new.max / 5 * 4);
                }
                new.high = new.high.max(below.high);
                if new.high >= new.max && is_above(own.max) {
                    new.max = u64::MAX;
                }
            }
            planned.insert(id, new);
        }
        planned
    }

    fn above_ancestors(
        &self,
        id: Id,
        property: Property,
        own: u64,
        above: Option<MemoryLimit>,
        raised: &Each<Limits>,
    ) -> Option<Finding> {
        let above = above.filter(|above| own != u64::MAX && own <= self.ram && above.bytes < own)?;
        let subject = self.tree.unit(id)?.to_owned();
        let (holder, bytes) = (self.name(above.of), size(above.bytes));
        let memory = self.tree[above.of].memory.as_ref();
        let by =
            if memory.is_some_and(|memory| memory.high == above.bytes) { MEMORY_HIGH } else { MEMORY_MAX };
        let limited = (self.set_by)(self.tree.unit(above.of)?, by.unit);
        Some(Finding {
            code: Code::CeilingAboveAncestors,
            what: format!("{} = {} never holds", property.attribute, size(own)),
            cost: Some(format!("{} declared, {bytes} effective", size(own))),
            cause: format!(
                "{holder}, which it is in, is limited to {bytes} with all below it by {}=",
                by.unit
            ),
            at: limited.or_else(|| (self.set_by)(&subject, property.unit)),
            fix: self.raise(id, property, above, raised),
            subject: subject.into(),
        })
    }

    /// What limits it is raised. Where that takes an edit, the other number may be the wrong one.
    fn raise(&self, id: Id, property: Property, above: MemoryLimit, raised: &Each<Limits>) -> Fix {
        let mut changes = Vec::new();
        let mut way: Vec<Id> = self.tree.upwards(id).skip(1).collect();
        way.reverse();
        for of in way {
            let own = Limits::of(self.tree[of].memory.as_ref());
            if let (Some(unit), Some(raised)) = (self.tree.unit(of), raised.get(of)) {
                changes.extend(raised.changes(unit, own));
            }
        }
        let lower = self.tree.unit(id).map(|unit| {
            let own = Limits::of(self.tree[id].memory.as_ref());
            let mut new = own;
            if property == MEMORY_HIGH {
                new.high = above.bytes;
                if new.high >= new.max {
                    new.high = rounded(new.max / 5 * 4);
                }
            } else {
                new.max = above.bytes;
                if new.high != u64::MAX && new.high >= new.max {
                    new.high = rounded(new.max / 5 * 4);
                }
            }
            remedy::fix(&new.changes(unit, own), self.set_by)
        });
        match (remedy::fix(&changes, self.set_by), lower) {
            (Fix::Edit(raise), Some(Fix::Edit(lower) | Fix::Command(lower))) => {
                Fix::Edit(format!("{raise}; or {lower}"))
            }
            (fix, _) => fix,
        }
    }

    /// The limits with which all that are no larger than the RAM hold: no cgroup has less than one in it. And
    /// the highest of those in each, 0 for none.
    fn raised_limits(&self) -> (Each<Limits>, Each<Limits>) {
        let (mut raised, mut highest) = (Each::none(self.tree), Each::none(self.tree));
        let mut within: Each<Limits> = Each::none(self.tree);
        let limited = |bytes: u64| if bytes <= self.ram { bytes } else { 0 };
        for id in self.tree.ids().rev().filter(|id| self.tree[*id].standing != Standing::Inside) {
            let own = Limits::of(self.tree[id].memory.as_ref());
            let higher = |a: Limits, b: &Limits| Limits { high: a.high.max(b.high), max: a.max.max(b.max) };
            let below = self.tree[id].children.iter().filter_map(|child| within.get(*child));
            let below = below.fold(Limits { high: 0, max: 0 }, higher);
            let mut new =
                Limits { high: own.high.max(below.high), max: own.max.max(below.high).max(below.max) };
            if new.high >= new.max && own.high < own.max && new.max != u64::MAX {
                // As far from one another as they were.
                let max = new.high.saturating_add(own.max - own.high);
                new.max = if max <= self.ram { max } else { u64::MAX };
            }
            highest.insert(id, below);
            within.insert(id, higher(below, &Limits { high: limited(new.high), max: limited(new.max) }));
            raised.insert(id, new);
        }
        (raised, highest)
    }
}
