//! The policy's slices, with every service in them, all of system.slice and all logins busy.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::SYSTEM;
use crate::effect::declared_cpu::DeclaredCpu;
use crate::effect::share::{Busy, Shares, shares};
use crate::effect::{Carried, given, headcount, slices, total_weight};
use crate::host::tree::{Cgroup, Id, Tree};
use crate::policy::Policy;
use crate::units::{ServiceName, SettingValue, SliceName};

/// The part of the machine's CPU time that each gets, 0 to 1, while all of them want it.
pub(super) struct Contention {
    shares: Shares,
    services: BTreeMap<ServiceName, Id>,
    logins: Id,
}

impl Contention {
    pub(super) fn of(
        policy: &Policy,
        carried: &BTreeMap<SliceName, Carried>,
        services: &BTreeMap<ServiceName, SliceName>,
        cpus: u32,
    ) -> Self {
        let mut tree = Tree::new(Cgroup::default());
        let mut ids: BTreeMap<SliceName, Id> = BTreeMap::new();
        for name in slices(policy, carried) {
            let settings = given(policy, name, carried.get(name));
            let values = settings.into_iter().map(|given| given.value);
            let parent = name.parent().and_then(|parent| ids.get(&parent).copied()).unwrap_or(Tree::ROOT);
            ids.insert(name.clone(), tree.add(parent, name.as_str(), competing(values)));
        }
        let mut busy = BTreeSet::new();
        // What runs there besides what the policy names.
        let host = match ids.iter().find(|(name, _)| name.as_str() == SYSTEM) {
            Some((_, id)) => *id,
            None => tree.add(Tree::ROOT, SYSTEM, competing([])),
        };
        busy.insert(tree.add(host, "others", competing([])));
        let logins = match ids.get(&SliceName::user()) {
            Some(id) => *id,
            None => tree.add(Tree::ROOT, SliceName::user().as_str(), competing(of_logins(policy))),
        };
        busy.insert(tree.add(logins, "others", competing([])));
        let mut places = BTreeMap::new();
        for (service, slice) in services {
            let Some(parent) = ids.get(slice) else { continue };
            let resources = policy.service(service).resources;
            let values = resources.settings().map(|setting| setting.value);
            let id = tree.add(*parent, service.as_str(), competing(values));
            busy.insert(id);
            places.insert(service.clone(), id);
        }
        Self { shares: shares(&tree, cpus, &Busy::Only(busy)), services: places, logins }
    }

    pub(super) fn service(&self, service: &ServiceName) -> f64 {
        self.services.get(service).map_or(0.0, |id| self.shares.of(*id))
    }

    pub(super) fn logins(&self) -> f64 {
        self.shares.of(self.logins)
    }
}

/// What `user.slice` has while nobody in particular is logged in.
fn of_logins(policy: &Policy) -> impl Iterator<Item = SettingValue> + use<'_> {
    let nobody = headcount(&[], Vec::new());
    let weight = total_weight(&policy.logins, Some(&nobody)).map(SettingValue::Cpu);
    weight.into_iter().chain(policy.logins.total.settings().map(|setting| setting.value))
}

/// A cgroup with what these say about CPU time.
fn competing(values: impl IntoIterator<Item = SettingValue>) -> Cgroup {
    Cgroup { cpu: Some(DeclaredCpu::of(values).over(None)), populated: true, ..Cgroup::default() }
}
