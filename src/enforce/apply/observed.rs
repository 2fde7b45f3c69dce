//! The machine as it is, read once.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::super::drop_in::drop_ins;
use super::super::{ceiling, launched};
use super::Ceilings;
use crate::effect::{Carried, ancestors, slices};
use crate::host::machine::Machine;
use crate::host::pid1::is_booted;
use crate::host::recorded::Recorded;
use crate::host::tree::Tree;
use crate::host::units::{NEEDS_RELOAD, Unit, Units};
use crate::host::{cgroup, facts, unit_file};
use crate::paths;
use crate::policy::Policy;
use crate::survey::snapshot::{self, Extent, Snapshot};
use crate::survey::{Files, RunningService, ask_for_declared};
use crate::units::{Property, ServiceName, SettingValue, SliceName, file};

/// What a plan is made from.
pub(super) struct Observed<'a> {
    pub(super) root: &'a Path,
    pub(super) policy: &'a Policy,
    pub(super) ceilings: Ceilings,
    pub(super) machine: Machine,
    pub(super) carried: BTreeMap<SliceName, Carried>,
    pub(super) live: Snapshot,
    /// What PID 1 says of the units that the policy has to do with, or had until now; `None` where it is not
    /// systemd.
    pub(super) units: Option<Units>,
    /// The names of these.
    pub(super) concerned: Vec<String>,
    /// The drop-ins that the policy comes to, by unit.
    pub(super) wanted: BTreeMap<String, String>,
    /// The drop-ins that the generator has made.
    pub(super) made: BTreeMap<String, String>,
    /// What PID 1 was told at logins, by unit.
    pub(super) told: BTreeMap<String, Recorded>,
    /// The units whose drop-ins differ, and those of a run that was killed before their cgroups were written.
    pub(super) reloaded: Vec<String>,
    /// The units whose drop-ins for the launcher differ.
    launched: BTreeSet<String>,
    unit_files: unit_file::ServiceUnits,
}

impl<'a> Observed<'a> {
    pub(super) fn at(root: &'a Path, policy: &'a Policy, ceilings: Ceilings) -> Result<Self> {
        let machine = Machine::read(root)?;
        let unit_files = unit_file::ServiceUnits::read(root)?;
        let wanted = drop_ins(policy, machine.ram);
        let booted = is_booted(root);
        let made = if booted { facts::generated(root)? } else { BTreeMap::new() };
        let units = wanted.keys().chain(made.keys());
        let differing = units.filter(|unit| !sets_the_same(wanted.get(*unit), made.get(*unit))).cloned();
        let record = fs::read_to_string(root.join(paths::UNWRITTEN)).unwrap_or_default();
        let mut reloaded: Vec<String> = differing.chain(record.lines().map(str::to_owned)).collect();
        reloaded.sort_unstable();
        reloaded.dedup();
        let mut look = Self {
            root,
            policy,
            ceilings,
            machine,
            carried: ancestors(policy, machine.ram),
            live: snapshot::read(root, Tree::read(root)?, policy, Extent::Everything, None)?,
            units: None,
            concerned: Vec::new(),
            wanted,
            made,
            reloaded,
            told: Recorded::all(root)?,
            launched: if booted {
                launched::outdated(root, &launched::declared_among(root, &unit_files, policy))?
            } else {
                BTreeSet::new()
            },
            unit_files,
        };
        look.concerned = look.concerned();
        look.units = booted.then(|| Units::read_these(root, &look.concerned)).transpose()?;
        if let Some(units) = &mut look.units {
            ask_for_declared(root, units, policy, look.concerned.iter().map(String::as_str))?;
        }
        Ok(look)
    }

    fn concerned(&self) -> Vec<String> {
        let slices = slices(self.policy, &self.carried).into_iter().map(ToString::to_string);
        let services = self.services().map(|service| service.name.to_string());
        let users = self.live.users.iter().map(|user| SliceName::of_user(user.uid).to_string());
        let had = self.reloaded.iter().filter(|unit| SliceName::new(unit).is_ok()).cloned();
        let told = self.told.keys().filter(|unit| SliceName::new(unit).is_ok()).cloned();
        let logins = users.chain(told).chain([SliceName::user().to_string()]);
        let mut names: Vec<String> = slices.chain(services).chain(had).chain(logins).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The services that run and that the policy names or holds, or has named until now.
    pub(super) fn services(&self) -> impl Iterator<Item = &RunningService> {
        let had = |name: &ServiceName| self.reloaded.iter().any(|unit| unit == name.as_str());
        self.live
            .services
            .iter()
            .filter(move |service| self.policy.concerns(&service.name) || had(&service.name))
    }

    /// What the files of a slice or service set, as PID 1 will read them.
    pub(super) fn files<'u>(&self, unit: &'u str) -> Result<Files<'u>> {
        let recorded = self.told.get(unit).cloned().unwrap_or_default();
        Files::read(self.root, unit, self.unit_files.files(unit)?, recorded)
    }

    /// How much is used, where that makes a declared ceiling wait.
    pub(super) fn used_above(
        &self,
        cgroup: &Path,
        property: Property,
        declared: &SettingValue,
        live: Option<&str>,
    ) -> Option<u64> {
        if self.ceilings == Ceilings::Force {
            return None;
        }
        ceiling::used_above(self.root, cgroup, property, declared, live, self.machine)
    }

    /// Whether PID 1 was told a property at a login.
    pub(super) fn is_told(&self, unit: &str, property: Property) -> bool {
        self.told.get(unit).is_some_and(|told| told.has(property.unit))
    }

    /// The files of a service.
    pub(super) fn service(&self, service: &str) -> Result<Option<unit_file::UnitFiles>> {
        match ServiceName::new(service) {
            Ok(name) => self.unit_files.find(&name),
            Err(_) => Ok(None),
        }
    }

    /// Why PID 1 has to reload its units.
    pub(super) fn reload(&self, resets: &[Reset]) -> Option<String> {
        let units = self.units.as_ref()?;
        let differs = |unit: &&String| !sets_the_same(self.wanted.get(*unit), self.made.get(*unit));
        let differing: Vec<&str> = self.reloaded.iter().filter(differs).map(String::as_str).collect();
        if !differing.is_empty() {
            return Some(format!("the policy comes to other drop-ins for {}", differing.join(", ")));
        }
        if !self.launched.is_empty() {
            let units: Vec<&str> = self.launched.iter().map(String::as_str).collect();
            return Some(format!(
                "the launcher is to stand before the commands of now: {}",
                units.join(", ")
            ));
        }
        let is_stale = |name: &&String| units.get(name).is_some_and(|unit| unit.is(NEEDS_RELOAD));
        if let Some(stale) = self.concerned.iter().find(is_stale) {
            return Some(format!("the files of {stale} have changed since the last one"));
        }
        let is_loaded = |reset: &&Reset| units.get(&reset.unit).is_some_and(Unit::is_active);
        let undone = resets.iter().find(is_loaded)?;
        Some(format!("what {} was told is taken back", undone.unit))
    }
}

/// A property that PID 1 was told at a login, and for which the policy says nothing any more.
#[derive(Debug)]
pub(super) struct Reset {
    pub(super) unit: String,
    pub(super) property: Property,
}

/// Whether two drop-ins set the same. The lines of the policy, which stand in their comments, may have moved.
fn sets_the_same(one: Option<&String>, other: Option<&String>) -> bool {
    let sets = |text: Option<&String>| {
        let all = text.map(|text| file::parse(text, Path::new(paths::DROP_IN))).unwrap_or_default();
        all.into_iter().map(|set| (set.section, set.key, set.value)).collect::<Vec<_>>()
    };
    sets(one) == sets(other)
}

/// Whether a cgroup has a controller; also where cgroupfs cannot tell.
pub(super) fn has_controller(root: &Path, cgroup: &Path, attribute: &str) -> bool {
    let controller = attribute.split('.').next().unwrap_or_default();
    let all = cgroup::attribute(root, cgroup, "cgroup.controllers");
    all.is_none_or(|all| all.split_whitespace().any(|name| name == controller))
}
