//! The machine as it is, read once.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::super::drop_in::drop_ins;
use super::overrides::Overrides;
use super::user_slices::Reset;
use crate::effect::{Carried, ancestors, slices};
use crate::host::machine::Machine;
use crate::host::snapshot::{self, Extent, Snapshot};
use crate::host::tree::Tree;
use crate::host::units::{Unit, Units};
use crate::host::{cgroup, facts, recorded, unit_file};
use crate::paths;
use crate::policy::{Policy, ServiceName, SliceName};

/// What a plan is made from.
pub(super) struct Look<'a> {
    pub(super) root: &'a Path,
    pub(super) policy: &'a Policy,
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
    /// Which properties PID 1 was told at logins, by unit.
    pub(super) told: BTreeMap<String, Vec<String>>,
    /// The units whose drop-ins differ, and those of a run that was killed before their cgroups were written.
    pub(super) reloaded: Vec<String>,
    unit_files: unit_file::Units,
}

impl<'a> Look<'a> {
    pub(super) fn at(root: &'a Path, policy: &'a Policy) -> Result<Self> {
        let machine = Machine::read(root)?;
        let wanted = drop_ins(policy, machine.ram);
        let booted = root.join(paths::SYSTEMD_BOOTED).exists();
        let made = if booted { facts::generated(root)? } else { BTreeMap::new() };
        let units = wanted.keys().chain(made.keys());
        let differing = units.filter(|unit| wanted.get(*unit) != made.get(*unit)).cloned();
        let record = fs::read_to_string(root.join(paths::UNWRITTEN)).unwrap_or_default();
        let mut reloaded: Vec<String> = differing.chain(record.lines().map(str::to_owned)).collect();
        reloaded.sort_unstable();
        reloaded.dedup();
        let mut look = Self {
            root,
            policy,
            machine,
            carried: ancestors(policy, machine.ram),
            live: snapshot::read(root, Tree::read(root)?, policy, Extent::Everything)?,
            units: None,
            concerned: Vec::new(),
            wanted,
            made,
            reloaded,
            told: recorded::recorded(root)?,
            unit_files: unit_file::Units::read(root)?,
        };
        look.concerned = look.concerned();
        look.units = booted.then(|| Units::read_these(root, &look.concerned)).transpose()?;
        Ok(look)
    }

    fn concerned(&self) -> Vec<String> {
        let slices = slices(self.policy, &self.carried).into_iter().map(ToString::to_string);
        let services = self.services().map(|(name, _)| name.to_string());
        let users = self.live.users.iter().map(|user| SliceName::of_user(user.uid).to_string());
        let had = self.reloaded.iter().filter(|unit| SliceName::new(unit).is_ok()).cloned();
        let told = self.told.keys().filter(|unit| SliceName::new(unit).is_ok()).cloned();
        let logins = users.chain(told).chain([SliceName::user().to_string()]);
        let mut names: Vec<String> = slices.chain(services).chain(had).chain(logins).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The services that run and that the policy names or holds, with their cgroups.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceName, &Path)> {
        let running = self.live.services.iter().filter(|(name, _)| self.policy.concerns(name));
        running.map(|(name, cgroup)| (name, cgroup.as_path()))
    }

    /// What comes after our drop-ins of a slice or service.
    pub(super) fn overrides(&self, unit: &str) -> Result<Overrides> {
        let drop_ins = match SliceName::new(unit) {
            Ok(slice) => unit_file::slice_drop_ins(self.root, &slice)?,
            Err(_) => self.files(unit)?.map(|unit| unit.drop_ins).unwrap_or_default(),
        };
        Ok(Overrides::new(self.root, unit, drop_ins, &self.told))
    }

    /// The files of a service.
    pub(super) fn files(&self, service: &str) -> Result<Option<unit_file::Unit>> {
        match ServiceName::new(service) {
            Ok(name) => self.unit_files.find(&name),
            Err(_) => Ok(None),
        }
    }

    /// Why PID 1 has to reload its units.
    pub(super) fn reload(&self, resets: &[Reset]) -> Option<String> {
        let units = self.units.as_ref()?;
        let differs = |unit: &&String| self.wanted.get(*unit) != self.made.get(*unit);
        let differing: Vec<&str> = self.reloaded.iter().filter(differs).map(String::as_str).collect();
        if !differing.is_empty() {
            return Some(format!("the policy comes to other drop-ins for {}", differing.join(", ")));
        }
        let is_stale = |name: &&String| units.get(name).is_some_and(|unit| unit.is("NeedDaemonReload"));
        if let Some(stale) = self.concerned.iter().find(is_stale) {
            return Some(format!("the files of {stale} have changed since the last one"));
        }
        let is_loaded = |reset: &&Reset| units.get(reset.slice.as_str()).is_some_and(Unit::is_active);
        let undone = resets.iter().find(is_loaded)?;
        Some(format!("what {} was given at a login is taken back", undone.slice))
    }
}

/// Whether a cgroup has a controller; also where cgroupfs cannot tell.
pub(super) fn has_controller(root: &Path, cgroup: &Path, attribute: &str) -> bool {
    let controller = attribute.split('.').next().unwrap_or_default();
    let all = cgroup::attribute(root, cgroup, "cgroup.controllers");
    all.is_none_or(|all| all.split_whitespace().any(|name| name == controller))
}
