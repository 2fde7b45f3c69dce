//! What the ancestors of the policy's slices need, so that the policy's weights and protections
//! come to what they say.
//!
//! A dash nests: `foundry-services.slice` is inside `foundry.slice`, where its weight competes with
//! nobody. Against everything else it is the ancestor's weight that counts, and a protection is
//! never more than the ancestor's (`Documentation/admin-guide/cgroup-v2.rst`, "Memory").
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::policy::{Declared, Origin, Policy, Resources};
use crate::units::{
    Amount, CPU_WEIGHT, CpuWeight, IO_WEIGHT, MEMORY_LOW, MEMORY_MIN, Memory, Percent, Property,
    SettingValue, SliceName, Weight,
};

/// What one ancestor is given; `None` where nothing below it declares anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// The sum of the weights below, so that each keeps the share it was declared.
    pub cpu_weight: Option<CpuWeight>,
    /// The same for I/O.
    pub io_weight: Option<Weight>,
    /// The sum of the protections below.
    pub memory_min: Option<Memory>,
    /// The sum of the protections below.
    pub memory_low: Option<Memory>,
}

impl Carried {
    /// What is given, in the order of the manual page.
    pub fn settings(self) -> impl Iterator<Item = (Property, SettingValue)> {
        [
            self.cpu_weight.map(|weight| (CPU_WEIGHT, SettingValue::Cpu(weight))),
            self.io_weight.map(|weight| (IO_WEIGHT, SettingValue::Io(weight))),
            self.memory_min.map(|memory| (MEMORY_MIN, SettingValue::Memory(memory))),
            self.memory_low.map(|memory| (MEMORY_LOW, SettingValue::Memory(memory))),
        ]
        .into_iter()
        .flatten()
    }
}

/// The slices that the policy declares, and the ancestors that carry something: each after its parent.
#[must_use]
pub fn slices<'a>(policy: &'a Policy, carried: &'a BTreeMap<SliceName, Carried>) -> Vec<&'a SliceName> {
    let mut slices: Vec<_> = policy.slices.keys().chain(carried.keys()).collect();
    slices.sort_by_key(|name| name.cgroup());
    slices.dedup();
    slices
}

/// One value that a slice is given.
#[derive(Debug, Clone)]
pub struct Given<'p> {
    /// What is set.
    pub property: Property,
    /// To what.
    pub value: SettingValue,
    /// Who says so; `None` for what the slice has to carry.
    pub origin: Option<&'p Origin>,
}

/// What a slice is given: what it declares, and else what it has to carry.
#[must_use]
pub fn given<'p>(policy: &'p Policy, name: &SliceName, carried: Option<&Carried>) -> Vec<Given<'p>> {
    let own = policy.slices.get(name).into_iter().flat_map(|slice| slice.resources.settings());
    let mut given: Vec<Given<'_>> =
        own.map(|own| Given { property: own.property, value: own.value, origin: Some(own.origin) }).collect();
    for (property, value) in carried.into_iter().flat_map(|carried| carried.settings()) {
        if given.iter().all(|own| own.property != property) {
            given.push(Given { property, value, origin: None });
        }
    }
    given
}

/// What each ancestor of a policy slice is given. An ancestor that is itself declared keeps its own
/// values and is given the rest.
///
/// `ram` is the machine's, in bytes: a sum of bytes and percentages needs it.
#[must_use]
pub fn ancestors(policy: &Policy, ram: u64) -> BTreeMap<SliceName, Carried> {
    let mut children: BTreeMap<SliceName, Vec<SliceName>> = BTreeMap::new();
    for name in policy.slices.keys() {
        let mut child = name.clone();
        while let Some(parent) = child.parent() {
            let siblings = children.entry(parent.clone()).or_default();
            if !siblings.contains(&child) {
                siblings.push(child);
            }
            child = parent;
        }
    }
    let nested = Nested { policy, children, ram };
    nested.children.keys().map(|name| (name.clone(), nested.carried(name))).collect()
}

struct Nested<'a> {
    policy: &'a Policy,
    children: BTreeMap<SliceName, Vec<SliceName>>,
    ram: u64,
}

impl Nested<'_> {
    fn carried(&self, name: &SliceName) -> Carried {
        Carried {
            cpu_weight: self.value(name, &|r| &r.cpu_weight, &sum_cpu),
            io_weight: self.value(name, &|r| &r.io_weight, &|weights| {
                Weight::sum(weights.map(|weight| weight.unwrap_or(Weight::DEFAULT)))
            }),
            memory_min: self.value(name, &|r| &r.memory_min, &|amounts| self.sum_memory(amounts)),
            memory_low: self.value(name, &|r| &r.memory_low, &|amounts| self.sum_memory(amounts)),
        }
    }

    /// A slice's own value, else the sum over the slices below it if any of them has one.
    fn value<T: Copy>(
        &self,
        name: &SliceName,
        declared: &impl Fn(&Resources) -> &Declared<T>,
        sum: &impl Fn(&mut dyn Iterator<Item = Option<T>>) -> T,
    ) -> Option<T> {
        let own = self.policy.slices.get(name).and_then(|slice| declared(&slice.resources).as_ref());
        if let Some(own) = own {
            return Some(own.value);
        }
        let below: Vec<Option<T>> =
            self.children.get(name)?.iter().map(|child| self.value(child, declared, sum)).collect();
        below.iter().any(Option::is_some).then(|| sum(&mut below.into_iter()))
    }

    fn sum_memory(&self, amounts: &mut dyn Iterator<Item = Option<Memory>>) -> Memory {
        let add = |sum: Amount, amount: Amount| match (sum, amount) {
            (Amount::Infinity, _) | (_, Amount::Infinity) => Amount::Infinity,
            (Amount::Percent(a), Amount::Percent(b)) => {
                Percent::from_permyriad(a.permyriad() + b.permyriad())
                    .map_or(Amount::Infinity, Amount::Percent)
            }
            (a, b) => {
                let bytes = |amount: Amount| amount.on(self.ram).unwrap_or(u64::MAX);
                Amount::Absolute(bytes(a).saturating_add(bytes(b)))
            }
        };
        Memory(amounts.flatten().map(|memory| memory.0).reduce(add).unwrap_or(Amount::Absolute(0)))
    }
}

/// A sibling without a weight has the kernel's default; idle siblings take nothing from the others.
pub(super) fn sum_cpu(weights: &mut dyn Iterator<Item = Option<CpuWeight>>) -> CpuWeight {
    let busy: Vec<Weight> = weights
        .filter_map(|weight| match weight {
            Some(CpuWeight::Idle) => None,
            Some(CpuWeight::Weight(weight)) => Some(weight),
            None => Some(Weight::DEFAULT),
        })
        .collect();
    if busy.is_empty() { CpuWeight::Idle } else { CpuWeight::Weight(Weight::sum(busy)) }
}
