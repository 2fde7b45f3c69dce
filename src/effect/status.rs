//! Declared and live, side by side.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Carried, given, holds, said, slices, total_weight_now};
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::policy::{Declared, Origin, Policy, Resources, Sourced};
use crate::survey::snapshot::{Attributes, Snapshot, User};
use crate::text::Foreign;
use crate::units::{CPU_WEIGHT, OomScoreAdj, Property, ServiceName, ServiceValue, SettingValue, SliceName};

/// Everything that the policy names, and how it is.
#[derive(Debug)]
pub struct Status {
    /// Slices, then services, then logins.
    pub units: Vec<UnitStatus>,
}

/// What a [`UnitStatus`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitKind {
    /// A slice of the policy's, or an ancestor of one.
    Slice,
    /// A service.
    Service,
    /// The slice of all logins, or of one user's.
    Login,
}

/// One unit that the policy has something to say of.
#[derive(Debug)]
pub struct UnitStatus {
    /// What it is.
    pub kind: UnitKind,
    /// Its name.
    pub name: String,
    /// The user's name, for a user's slice.
    pub user: Option<Foreign>,
    /// Its cgroup, from the root of the tree; `None` where it has none.
    pub cgroup: Option<PathBuf>,
    /// Whether it runs now. One that does not cannot differ.
    pub active: bool,
    /// What is declared for it.
    pub settings: Vec<Compared>,
}

/// One declared setting, and its live value.
#[derive(Debug, PartialEq, Eq)]
pub struct Compared {
    /// The policy's key, or `slice`.
    pub key: &'static str,
    /// As declared.
    pub declared: String,
    /// The same in the kernel's units, percentages of this machine; `None` for what [`Machine::number`] has none of.
    pub number: Option<u64>,
    /// As the kernel has it; `None` where it has none.
    pub live: Option<String>,
    /// Whether the one is the other.
    pub holds: bool,
    /// The policy file and line; for what an ancestor carries, the reason.
    pub origin: String,
}

impl UnitStatus {
    /// Whether it is active, and one of its settings is not as declared.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.active && self.settings.iter().any(|setting| !setting.holds)
    }
}

impl Status {
    /// Compares the policy, and what the ancestors of its slices carry, with what is live.
    #[must_use]
    pub fn new(
        policy: &Policy,
        carried: &BTreeMap<SliceName, Carried>,
        machine: Machine,
        live: &Snapshot,
    ) -> Self {
        let compare = Compare { policy, machine, live };
        let slices = slices(policy, carried).into_iter();
        let mut units: Vec<UnitStatus> = slices.map(|name| compare.slice(name, carried.get(name))).collect();
        units.extend(live.services_of(policy).into_iter().map(|name| compare.service(name)));
        units.extend(compare.all_logins());
        units.extend(live.users.iter().map(|user| compare.login(user)));
        Self { units }
    }

    /// How many settings there are on what is active.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.active().count()
    }

    /// How many of them are not as declared.
    #[must_use]
    pub fn differing(&self) -> usize {
        self.active().filter(|setting| !setting.holds).count()
    }

    fn active(&self) -> impl Iterator<Item = &Compared> {
        self.units.iter().filter(|unit| unit.active).flat_map(|unit| &unit.settings)
    }
}

struct Compare<'a> {
    policy: &'a Policy,
    machine: Machine,
    live: &'a Snapshot,
}

impl Compare<'_> {
    fn slice(&self, name: &SliceName, carried: Option<&Carried>) -> UnitStatus {
        let attributes = self.attributes(&name.cgroup());
        let settings = given(self.policy, name, carried).into_iter().map(|given| {
            let origin = given.origin.map_or("the sum over the slices below".to_owned(), ToString::to_string);
            self.setting(given.property, &given.value, origin, attributes)
        });
        let settings = settings.collect();
        let active = attributes.is_some();
        let cgroup = active.then(|| name.cgroup());
        UnitStatus { kind: UnitKind::Slice, name: name.to_string(), user: None, cgroup, active, settings }
    }

    fn service(&self, name: &ServiceName) -> UnitStatus {
        let rule = self.policy.service(name);
        let cgroup = self.live.service(name).map(|service| &service.cgroup);
        let live = cgroup.and_then(|cgroup| self.live.cgroups.get(cgroup));
        let mut settings = Vec::new();
        if let Some((slice, origin)) = self.policy.holding(name) {
            settings.push(placement(slice, origin, cgroup.map(PathBuf::as_path)));
        }
        settings.extend(score(&rule.oom_score_adj, live.and_then(|live| live.main_score), |live, want| {
            live == want
        }));
        let attributes = live.map(|live| &live.attributes);
        settings.extend(self.resources(&rule.resources, attributes));
        settings.extend(rule.own.iter().map(|own| of_service(own, attributes)));
        let (name, cgroup) = (name.to_string(), cgroup.cloned());
        UnitStatus { kind: UnitKind::Service, name, user: None, cgroup, active: live.is_some(), settings }
    }

    fn all_logins(&self) -> Option<UnitStatus> {
        let logins = &self.policy.logins;
        let attributes = self.attributes(&SliceName::user().cgroup());
        let weight = logins.total_weight.as_ref().zip(total_weight_now(self.policy, self.live));
        let weight = weight.map(|(total, weight)| {
            let value = SettingValue::Cpu(weight);
            let setting = self.setting(CPU_WEIGHT, &value, total.origin.to_string(), attributes);
            Compared { key: "total_weight", ..setting }
        });
        let others = self.resources(&logins.total, attributes).into_iter().map(|setting| {
            let key = Property::by_key(setting.key).and_then(|property| property.total);
            Compared { key: key.unwrap_or(setting.key), ..setting }
        });
        let settings: Vec<Compared> = weight.into_iter().chain(others).collect();
        let name = SliceName::user().to_string();
        (!settings.is_empty()).then(|| UnitStatus {
            kind: UnitKind::Login,
            name,
            user: None,
            cgroup: attributes.map(|_| SliceName::user().cgroup()),
            active: attributes.is_some(),
            settings,
        })
    }

    fn login(&self, user: &User) -> UnitStatus {
        let slice = SliceName::of_user(user.uid);
        let attributes = self.attributes(&slice.cgroup());
        let rule = user.rule(self.policy);
        let mut settings = self.resources(&rule.resources, attributes);
        // A process may have itself killed earlier, never later.
        settings.extend(score(&rule.oom_score_adj, user.lowest_score, |live, want| live >= want));
        UnitStatus {
            kind: UnitKind::Login,
            name: slice.to_string(),
            user: user.account.as_ref().map(|account| account.name.clone()),
            cgroup: attributes.map(|_| slice.cgroup()),
            active: attributes.is_some(),
            settings,
        }
    }

    fn attributes(&self, cgroup: &Path) -> Option<&Attributes> {
        self.live.cgroups.get(cgroup).map(|cgroup| &cgroup.attributes)
    }

    fn resources(&self, resources: &Resources, live: Option<&Attributes>) -> Vec<Compared> {
        let settings = resources.settings();
        settings.map(|s| self.setting(s.property, &s.value, s.origin.to_string(), live)).collect()
    }

    fn setting(
        &self,
        property: Property,
        value: &SettingValue,
        origin: String,
        live: Option<&Attributes>,
    ) -> Compared {
        let live = live.and_then(|attributes| attributes.get(property.attribute));
        Compared {
            key: property.key,
            declared: value.to_string(),
            number: Some(self.machine.number(value)),
            holds: live.is_some_and(|live| holds(property, value, live, self.machine)),
            live: live.map(|live| match value {
                SettingValue::Bandwidth(_) => said(property, value, live),
                _ => live.clone(),
            }),
            origin,
        }
    }
}

/// The slice that holds a service, and the one that it is in.
fn placement(slice: &SliceName, origin: &Origin, cgroup: Option<&Path>) -> Compared {
    let parent = cgroup.and_then(Path::parent);
    Compared {
        key: "slice",
        declared: slice.to_string(),
        number: None,
        live: parent.map(|parent| cgroup::place(parent).shown().to_string()),
        holds: parent == Some(&slice.cgroup()),
        origin: origin.to_string(),
    }
}

/// What a service alone takes. Where the main process shows nothing, there is nothing to compare.
fn of_service(own: &Sourced<ServiceValue>, live: Option<&Attributes>) -> Compared {
    let setting = own.value.setting();
    let live = live.and_then(|attributes| attributes.get(setting.attribute));
    Compared {
        key: setting.key,
        declared: own.value.to_string(),
        number: None,
        holds: live.map_or(setting.of_process, |live| own.value.holds(live)),
        live: live.cloned(),
        origin: own.origin.to_string(),
    }
}

/// A score that is declared. Where no process shows it there is nothing to compare.
fn score(
    declared: &Declared<OomScoreAdj>,
    live: Option<OomScoreAdj>,
    holds: fn(OomScoreAdj, OomScoreAdj) -> bool,
) -> Option<Compared> {
    let declared = declared.as_ref()?;
    Some(Compared {
        key: "oom_score_adj",
        declared: declared.value.to_string(),
        number: None,
        live: live.map(|live| live.to_string()),
        holds: live.is_none_or(|live| holds(live, declared.value)),
        origin: declared.origin.to_string(),
    })
}
