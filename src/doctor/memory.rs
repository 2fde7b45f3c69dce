//! Memory settings that come to less than they say.
#![forbid(unsafe_code)]

#[cfg(test)]
mod applied;
mod ceilings;
mod protected;
mod swap;

pub use self::swap::without_swap;

use std::collections::{BTreeMap, BTreeSet};

use super::PlaceOf;
use super::remedy::{self, NewValue, rounded};
use crate::doctor::finding::{Code, Finding, Fix};
use crate::effect::Carried;
use crate::effect::memory::{Guard, Protections, ceiling, is_less, size};
use crate::host::tree::{Id, Tree};
use crate::text::shown;
use crate::units::SliceName;

/// What is wrong with the memory settings of units, in a tree all of whose memory has been read. `ram` is in
/// bytes; `carried` is what the policy gives to ancestors; `multi_gen_lru` is whether that decides what
/// is reclaimed.
#[must_use]
pub fn findings(
    tree: &Tree,
    protections: &Protections,
    ram: u64,
    multi_gen_lru: bool,
    carried: &BTreeMap<SliceName, Carried>,
    set_by: PlaceOf<'_>,
) -> Vec<Finding> {
    let scene = MemoryScene { tree, protections, ram, carried, set_by };
    let mut found = scene.unprotected();
    for id in tree.in_slices().chain([Tree::ROOT]) {
        found.extend(Guard::BOTH.into_iter().filter_map(|guard| scene.overcommitted(id, guard)));
    }
    found.extend(scene.ceilings());
    if multi_gen_lru {
        found.extend(scene.delayed());
    }
    found
}

/// What nobody means as an amount.
const NO_LIMIT: u64 = 1 << 60;

struct MemoryScene<'a> {
    tree: &'a Tree,
    protections: &'a Protections,
    ram: u64,
    carried: &'a BTreeMap<SliceName, Carried>,
    set_by: PlaceOf<'a>,
}

impl MemoryScene<'_> {
    /// `memory.low` where the multi-gen LRU spares a cgroup below it once, and reclaims from it the next
    /// time: `shrink_one` of the kernel's `mm/vmscan.c`.
    fn delayed(&self) -> Option<Finding> {
        let has =
            |id: &Id| self.protections.of(*id).low > 0 && self.tree[*id].memory.is_some_and(|m| m.low > 0);
        let names: Vec<&str> =
            self.tree.in_slices().filter(has).filter_map(|id| self.tree.unit(id)).collect();
        let at = names.iter().find_map(|name| (self.set_by)(name, Guard::Low.property()));
        Some(Finding {
            code: Code::LowDelays,
            subject: (*names.first()?).into(),
            what: format!("memory.low of {} holds once, and not the next time", names.join(", ")),
            cost: Some("what it covers is reclaimed as the rest is, a little later".to_owned()),
            cause: "the multi-gen LRU is on: /sys/kernel/mm/lru_gen/enabled".to_owned(),
            at,
            fix: self.lasting(&names),
        })
    }

    /// Who sets `MemoryLow=` gets `MemoryMin=` instead; what a slice carries for those below follows.
    fn lasting(&self, names: &[&str]) -> Fix {
        let (mut changes, mut units, mut has_policys) = (Vec::new(), BTreeSet::new(), false);
        for name in names {
            match (self.set_by)(name, Guard::Low.property()) {
                None => changes.push(format!("set MemoryMin= of {name} and not MemoryLow=")),
                Some(at) if remedy::is_carried(&at) => continue,
                Some(at) if remedy::is_policys(&at) => {
                    has_policys = true;
                    changes.push(format!("write memory_min for memory_low at {at}"));
                    continue;
                }
                Some(at) => changes.push(format!("write MemoryMin= for MemoryLow= at {at}")),
            }
            units.insert(*name);
        }
        changes.dedup();
        Fix::Edit(format!("{}, then: {}", changes.join("; "), remedy::written(&units, has_policys)))
    }

    /// Children that together set more than there is for them.
    fn overcommitted(&self, parent: Id, guard: Guard) -> Option<Finding> {
        let subject = self.tree.unit(parent).filter(|_| self.tree.is_slice(parent))?.to_owned();
        let settings = self.set_in(parent, guard);
        let sum = settings.iter().fold(0, |sum: u64, (_, setting)| sum.saturating_add(*setting));
        let is_root = parent == Tree::ROOT;
        let own = if is_root {
            self.ram
        } else {
            self.protections.chain_if_used(self.tree, parent, guard).last()?.effective
        };
        if !is_less(own, sum) || settings.iter().any(|(child, _)| self.lacks(*child, guard)) {
            return None;
        }
        let (attribute, property) = (guard.attribute(), guard.property());
        let claim = |(child, setting): &(Id, u64)| format!("{} {}", self.name(*child), size(*setting));
        let claims: Vec<String> = settings.iter().map(claim).collect();
        let (largest, most) = settings.iter().max_by_key(|(_, setting)| setting)?;
        let largest = self.name(*largest);
        let can_be_raised = !is_root && sum <= self.ram.min(ceiling(self.tree, parent).of_memory());
        let left = most.checked_sub(sum - own).filter(|left| *left > 0);
        let lower = left.map(|left| NewValue::bytes(&largest, property, rounded(left)));
        let raise = can_be_raised.then(|| NewValue::bytes(&subject, property, sum));
        let [lower, raise] = [lower, raise].map(|change| Some(remedy::fix(&[change?], self.set_by)));
        let fix = match (lower, raise) {
            (Some(Fix::Command(lower) | Fix::Edit(lower)), Some(Fix::Command(raise) | Fix::Edit(raise))) => {
                Fix::Edit(format!("{lower}; or {raise}"))
            }
            (Some(one), _) | (_, Some(one)) => one,
            (None, None) => Fix::Edit(format!(
                "lower {property}= of them, so that they sum to no more than {}",
                size(own)
            )),
        };
        Some(Finding {
            code: Code::Overcommitted,
            what: format!("{attribute} of what is in it sums to {}, and there is {}", size(sum), size(own)),
            cost: Some(format!(
                "if all use what they set, {}% of it is protected",
                own.saturating_mul(100) / sum
            )),
            cause: claims.join(", "),
            at: (self.set_by)(&largest, property),
            fix,
            subject: subject.into(),
        })
    }

    /// What the children of a cgroup set. Without a limit, what a child claims is what it uses: that
    /// sums to nothing.
    fn set_in(&self, parent: Id, guard: Guard) -> Vec<(Id, u64)> {
        let children = self.tree[parent].children.iter();
        let set = children.filter_map(|id| Some((*id, guard.setting(self.tree[*id].memory.as_ref()?))));
        set.filter(|(_, setting)| (1..NO_LIMIT).contains(setting)).collect()
    }

    fn name(&self, id: Id) -> String {
        shown(&self.tree.name(id)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Place;
    use crate::effect::kill_order::tests::{MIB, add, memory};
    use crate::effect::memory::protection;
    use crate::host::tree::{Cgroup, MemoryAttributes};
    use crate::units;

    fn tree(cgroups: &[(&str, MemoryAttributes)]) -> Tree {
        let mut tree = Tree::new(Cgroup::default());
        for (path, memory) in cgroups {
            add(&mut tree, path, *memory);
        }
        tree
    }

    fn min(current: u64, min: u64) -> MemoryAttributes {
        MemoryAttributes { min: min * MIB, ..memory(current * MIB) }
    }

    fn found(tree: &Tree, carried: &BTreeMap<SliceName, Carried>) -> Vec<Finding> {
        let set_by = |unit: &str, key: &str| {
            (unit == "a-b.slice").then(|| Place { file: format!("/{key}").into(), line: Some(3) })
        };
        findings(tree, &protection(tree, true), 1000 * MIB, true, carried, &set_by)
    }

    fn said(tree: &Tree) -> Vec<String> {
        let all = found(tree, &BTreeMap::new());
        let said = |f: Finding| {
            let fix = match f.fix {
                Fix::Command(text) | Fix::Edit(text) => text,
                Fix::Restart(units) => units.join(" "),
                Fix::Apply => "apply".to_owned(),
            };
            let at = f.at.map(|at| format!(" ({at})")).unwrap_or_default();
            format!("{} {}: {}; {}; {}{at}; {fix}", f.code, f.subject, f.what, f.cost.unwrap(), f.cause)
        };
        all.into_iter().map(said).collect()
    }

    #[test]
    fn nothing_is_wrong_with_what_holds() {
        assert_eq!(said(&tree(&[("a.slice", memory(50)), ("a.slice/b.service", memory(50))])), [""; 0]);
        let held = tree(&[("a.slice", min(100, 600)), ("a.slice/a-b.slice", min(100, 600))]);
        assert_eq!(said(&held), [""; 0]);
        // What an ancestor's ancestor has is handed down.
        let handed = [
            ("a.slice", min(9, 600)),
            ("a.slice/a-b.slice", min(9, 0)),
            ("a.slice/a-b.slice/c.service", min(9, 600)),
        ];
        assert_eq!(said(&tree(&handed)), [""; 0]);
        let all = MemoryAttributes { min: u64::MAX, ..memory(50 * MIB) };
        assert_eq!(said(&tree(&[("a.slice", all), ("a.slice/b.service", all)])), [""; 0]);
        let high = |bytes| MemoryAttributes { high: bytes, ..memory(0) };
        let limits = [
            ("a.slice", high(200 * MIB)),
            ("a.slice/b.service", MemoryAttributes { max: 300 * MIB, ..high(100 * MIB) }),
        ];
        assert_eq!(said(&tree(&limits)), [""; 0]);
    }

    #[test]
    fn a_protection_without_the_ancestors_is_found() {
        let bare = tree(&[("a.slice", min(500, 0)), ("a.slice/a-b.slice", min(500, 600))]);
        let expected = "FS023 a-b.slice: memory.min = 600M protects nothing; 600M declared, 0 effective; a.slice, which \
                        it is in, has memory.min = 0 (/MemoryMin:3); systemctl set-property a.slice MemoryMin=600M";
        assert_eq!(said(&bare), [expected]);
        // A shell takes the name as it is.
        let odd = tree(&[(r"a\x2db.slice", min(500, 0)), (r"a\x2db.slice/c.service", min(500, 600))]);
        assert!(said(&odd)[0].ends_with(r"systemctl set-property 'a\x2db.slice' MemoryMin=600M"), "{odd:?}");
        let carried = Carried {
            memory_min: Some(units::Memory(units::Amount::Absolute(600 * MIB))),
            ..Carried::default()
        };
        let carried = BTreeMap::from([(SliceName::new("a.slice").unwrap(), carried)]);
        assert_eq!(found(&bare, &carried).first().unwrap().fix, Fix::Apply);
        // What its siblings set as well is needed.
        let two = tree(&[
            ("a.slice", min(0, 100)),
            ("a.slice/b.service", min(0, 300)),
            ("a.slice/c.service", min(0, 50)),
        ]);
        let found = said(&two);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("protects 100M only") && found[0].ends_with("MemoryMin=350M"), "{found:?}");
    }

    #[test]
    fn a_low_that_does_not_hold_is_found_once() {
        let low = |low| MemoryAttributes { low, ..memory(0) };
        let two = [("a.slice", low(9)), ("a.slice/a-b.slice", low(9)), ("b.slice", low(0))];
        let expected = "FS028 a.slice: memory.low of a.slice, a-b.slice holds once, and not the next time; what it \
                        covers is reclaimed as the rest is, a little later; the multi-gen LRU is on: \
                        /sys/kernel/mm/lru_gen/enabled (/MemoryLow:3); set MemoryMin= of a.slice and not MemoryLow=; \
                        write MemoryMin= for MemoryLow= at /MemoryLow:3, then: systemctl daemon-reload && \
                        systemd-run --quiet --wait --slice=a-b.slice true";
        assert!(said(&tree(&two[..1]))[0].contains("memory.low of a.slice holds"));
        let with_use = [
            ("a.slice", MemoryAttributes { current: 9, ..two[0].1 }),
            ("a.slice/a-b.slice", MemoryAttributes { current: 9, ..two[1].1 }),
        ];
        assert_eq!(said(&tree(&with_use)), [expected]);
    }

    #[test]
    fn siblings_that_set_too_much_are_found() {
        let two = [
            ("a.slice", min(0, 400)),
            ("a.slice/b.service", min(0, 300)),
            ("a.slice/c.service", min(0, 300)),
        ];
        let expected = "FS024 a.slice: memory.min of what is in it sums to 600M, and there is 400M; if all use what \
                        they set, 66% of it is protected; b.service 300M, c.service 300M; \
                        systemctl set-property c.service MemoryMin=100M; or systemctl set-property a.slice MemoryMin=600M";
        assert_eq!(said(&tree(&two)), [expected]);
        let ram = said(&tree(&[("a.slice", min(0, 700)), ("b.slice", min(0, 600))]));
        assert_eq!(ram.len(), 1, "{ram:?}");
        assert!(
            ram[0].starts_with("FS024 -.slice: ") && ram[0].contains("1.26G, and there is 1000M"),
            "{ram:?}"
        );
    }

    #[test]
    fn a_ceiling_that_never_holds_is_found() {
        let high = |mib: u64| MemoryAttributes { high: mib * MIB, ..memory(0) };
        let above = said(&tree(&[("a.slice", high(2000))]));
        let expected = "FS025 a.slice: memory.high = 1.95G never holds; it limits nothing; the machine has 1000M of RAM; \
                        systemctl set-property a.slice MemoryHigh=75%";
        assert_eq!(above, [expected]);
        let max = |mib: u64| MemoryAttributes { max: mib * MIB, ..memory(0) };
        for (outer, inner, is_found) in [
            (high(100), high(200), true),
            (max(100), high(200), true),
            (max(100), max(200), true),
            // One that slows down does not make one that kills needless.
            (high(100), max(200), false),
            (max(100), max(100), false),
        ] {
            let found = said(&tree(&[("a.slice", outer), ("a.slice/a-b.slice", inner)]));
            assert_eq!(found.len(), usize::from(is_found), "{found:?}");
            assert!(
                found
                    .iter()
                    .all(|f| f.contains("200M declared, 100M effective") && f.starts_with("FS026 a-b.slice"))
            );
        }
    }
}
