//! The settings of every service and slice, held in memory: what they come to with another policy, and without some
//! of the files.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::effect;
use crate::enforce::due::Due;
use crate::enforce::generator;
use crate::enforce::user_slice;
use crate::host::account::Account;
use crate::host::cgroup;
use crate::host::directory::entries;
use crate::host::facts;
use crate::host::machine::Machine;
use crate::host::recorded::Recorded;
use crate::host::unit_file::{self, ServiceUnits};
use crate::paths;
use crate::policy::{self, Policy};
use crate::survey::{Files, Means};
use crate::text::shown;
use crate::units::file::{Assignment, Text};
use crate::units::takes::setting;
use crate::units::{
    OF_SERVICES, OOM_SCORE_ADJUST, PROPERTIES, Property, SLICE, ServiceName, SettingValue, SliceName, takes,
};

/// A user's slice that has nothing of its own: nobody has this number.
pub(super) const ANY_USER: u32 = u32::MAX - 1;

/// What is on disk.
pub(super) struct Held {
    pub(super) machine: Machine,
    units: ServiceUnits,
    /// Directories of drop-ins and what lies in them, but for what our own generator has written.
    listing: BTreeMap<PathBuf, Vec<OsString>>,
    /// Every file that a unit can have, by its path relative to the root.
    read: BTreeMap<PathBuf, Text>,
    /// Each service, template or instance that has files, by its own name, and is not masked.
    pub(super) services: BTreeSet<ServiceName>,
    /// Each slice that has files.
    pub(super) slices: BTreeSet<SliceName>,
    recorded: BTreeMap<String, Recorded>,
    /// Who has a slice with settings of its own.
    pub(super) users: BTreeMap<u32, Account>,
    /// What could not be read, a line each.
    pub(super) unread: Vec<String>,
}

/// A policy, and files that are not there.
pub(super) struct World<'w> {
    policy: &'w Policy,
    generated: BTreeMap<PathBuf, Vec<Assignment>>,
    without: &'w BTreeSet<PathBuf>,
}

/// What a unit has of one setting, as it can be compared; `None` where it is systemd's to say.
pub(super) type Effective = Option<String>;

impl Held {
    /// # Errors
    /// A directory of units or `/proc/meminfo` cannot be read, or NSS failed.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let units = ServiceUnits::read(root)?;
        let mut listing = BTreeMap::new();
        let mut slices = BTreeSet::new();
        let mut fragments = Vec::new();
        let mut services = BTreeSet::new();
        for directory in paths::UNIT_SEARCH_PATH {
            for name in entries(&root.join(directory))?.iter().filter_map(|name| name.to_str()) {
                let unit = name.strip_suffix(".d");
                if let Ok(slice) = SliceName::new(unit.unwrap_or(name)) {
                    slices.insert(slice);
                }
                if let Some(unit) = unit {
                    let path = Path::new(directory).join(name);
                    listing.insert(path.clone(), drop_ins(root, &path)?);
                    services.extend(ServiceName::new(unit).ok().filter(|name| name.as_str() == unit));
                } else if name.ends_with(".slice") || name.ends_with(".service") {
                    fragments.push(Path::new(directory).join(name));
                }
            }
        }
        // Of those that have only drop-ins, instances of a template are services.
        services.retain(|name| name.template().is_some() && units.own_name(name).is_some());
        services.extend(units.names().cloned());
        let mut own = BTreeSet::new();
        for name in services {
            own.extend(units.find(&name)?.filter(|unit| !unit.masked).map(|unit| unit.name));
        }
        let mut held = Self {
            machine: Machine::read(root)?,
            units,
            listing,
            read: BTreeMap::new(),
            services: own,
            slices,
            recorded: Recorded::all(root)?,
            users: BTreeMap::new(),
            unread: Vec::new(),
        };
        // What another name of a unit leads to is that unit's.
        let is_own = |file: &PathBuf| {
            let name = file.file_name().and_then(|name| ServiceName::new(name.to_str()?).ok());
            name.is_none_or(|name| held.units.own_name(&name).is_none_or(|own| own == name))
        };
        fragments.retain(is_own);
        let drop_ins = held.listing.iter().flat_map(|(directory, names)| {
            names
                .iter()
                .filter(|name| name.as_encoded_bytes().ends_with(b".conf"))
                .map(|name| directory.join(name))
        });
        for file in drop_ins.chain(fragments).collect::<Vec<_>>() {
            match unit_file::read_whole(root, &file) {
                Ok(text) => drop(held.read.insert(file, text)),
                Err(error) => held.unread.push(format!("{error:#}")),
            }
        }
        for uid in held.slices.iter().filter_map(|slice| cgroup::user(&slice.cgroup())) {
            held.users.extend(Account::by_uid(uid)?.map(|account| (uid, account)));
        }
        Ok(held)
    }

    /// Every file with what it says, by its path relative to the root.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &Text)> {
        self.read.iter().map(|(path, text)| (path.as_path(), text))
    }

    pub(super) fn text(&self, file: &Path) -> Option<&Text> {
        self.read.get(file)
    }

    /// The files of a unit, in the order in which they apply, relative to the root.
    pub(super) fn files_of(&self, unit: &str, world: &World<'_>) -> Vec<PathBuf> {
        let list = |directory: &Path| {
            let mut names = self.listing.get(directory).cloned().unwrap_or_default();
            names.retain(|name| !world.without.contains(&directory.join(name)));
            if world.generated.contains_key(&directory.join(paths::DROP_IN)) {
                names.push(paths::DROP_IN.into());
            }
            Ok(names)
        };
        let mut files = self.units.files_among(unit, &list).unwrap_or_default();
        files.retain(|file| !world.without.contains(file));
        files
    }

    /// The same with what they say.
    pub(super) fn settings<'h>(&'h self, unit: &str, world: &'h World<'_>) -> Files<'h> {
        let files = self.files_of(unit, world).into_iter().filter_map(|file| {
            let all = world.generated.get(&file).or_else(|| Some(&self.read.get(&file)?.assignments))?;
            Some((Cow::Owned(file), Cow::Borrowed(all.as_slice())))
        });
        Files::new(unit, files.collect::<Vec<_>>(), self.recorded.get(unit).cloned().unwrap_or_default())
    }

    /// The name that a service has itself.
    pub(super) fn own_name(&self, name: &ServiceName) -> Option<ServiceName> {
        self.units.own_name(name)
    }

    /// Puts what a policy says under units' own names.
    pub(super) fn resolve(&self, policy: &mut Policy) {
        let _ = policy::resolve_names(policy, |name| self.units.own_name(name), &self.units.every_alias());
    }

    /// The units that can be compared: services, slices with their ancestors, slices of users.
    pub(super) fn subjects(&self, policies: [&Policy; 2]) -> Vec<String> {
        let mut slices = self.slices.clone();
        slices.extend(policies.iter().flat_map(|policy| policy.slices.keys().cloned()));
        slices.extend([SliceName::user(), SliceName::of_user(ANY_USER)]);
        let above: Vec<SliceName> = slices
            .iter()
            .flat_map(|slice| std::iter::successors(slice.parent(), SliceName::parent))
            .collect();
        slices.extend(above);
        let services = self.services.iter().map(ServiceName::to_string);
        services.chain(slices.iter().map(SliceName::to_string)).collect()
    }

    /// What a unit has of everything that a policy can set, by systemd's names.
    pub(super) fn effective(
        &self,
        unit: &str,
        world: &World<'_>,
    ) -> Result<BTreeMap<&'static str, Effective>> {
        let files = self.settings(unit, world);
        let told = self.told(unit, world)?;
        let mut all = BTreeMap::new();
        for property in PROPERTIES {
            let set = files.set(property.unit).and_then(|winner| winner.set).map(|(_, text)| text);
            let number = |text: &str| setting(property, text).map(|value| self.comparable(&value));
            let mut effective = match &set {
                // A spelling that a policy does not have.
                Some(text) => number(text).unwrap_or_else(|| text.clone()),
                None => property.unset().to_string(),
            };
            let ours = told.iter().find(|(told, _)| *told == property);
            if let Some((_, value)) = ours.filter(|_| files.over(Means::Told, property.unit).is_none()) {
                effective = self.comparable(value);
            }
            all.insert(property.unit, Some(effective));
        }
        let text = |key: &str| files.set(key).and_then(|winner| winner.set).map(|(_, text)| text);
        all.insert(SLICE, text(SLICE));
        let number = |text: String| takes::score(&text).map_or(text, |score| score.to_string());
        all.insert(OOM_SCORE_ADJUST, text(OOM_SCORE_ADJUST).map(number));
        for setting in OF_SERVICES.into_iter().filter(|_| unit.ends_with(".service")) {
            let read = |text: String| setting.read(&text).map_or(text, |value| value.to_string());
            all.insert(setting.unit, text(setting.unit).map(read));
        }
        Ok(all)
    }

    /// A value, to be compared: as a number, and with its disk where it is of one.
    fn comparable(&self, value: &SettingValue) -> String {
        match value {
            SettingValue::Bandwidth(bandwidth) => bandwidth.to_string(),
            value => self.machine.number(value).to_string(),
        }
    }

    /// What PID 1 is told of a user's slice at a login.
    fn told(&self, unit: &str, world: &World<'_>) -> Result<Vec<(Property, SettingValue)>> {
        let Some(uid) = SliceName::new(unit).ok().and_then(|slice| cgroup::user(&slice.cgroup())) else {
            return Ok(Vec::new());
        };
        // Who else is logged in makes the same difference to all that is compared.
        let due = Due::of_accounts(world.policy, std::iter::once((uid, self.users.get(&uid))))?;
        Ok(due.get(uid).map(|(_, rule)| user_slice::settings(rule)).unwrap_or_default())
    }

    /// What a slice carries for those below it that it does not declare itself.
    pub(super) fn carries(&self, policy: &Policy, slice: &SliceName, key: &str) -> bool {
        let own = policy.slices.get(slice).into_iter().flat_map(|slice| slice.resources.settings());
        let carried = effect::ancestors(policy, self.machine.ram);
        let carried = carried.get(slice).into_iter().flat_map(|carried| carried.settings());
        carried.into_iter().any(|(property, _)| property.unit == key)
            && !own.into_iter().any(|own| own.property.unit == key)
    }
}

impl<'w> World<'w> {
    /// With this policy in force, and without these files.
    pub(super) fn new(policy: &'w Policy, machine: Machine, without: &'w BTreeSet<PathBuf>) -> Self {
        let texts = facts::assignments(generator::texts(policy, machine));
        let generated = texts.into_iter().map(|(unit, all)| (paths::generated(&unit), all)).collect();
        Self { policy, generated, without }
    }
}

/// What lies in a directory of drop-ins, but for what our own generator has written.
fn drop_ins(root: &Path, directory: &Path) -> Result<Vec<OsString>> {
    let mut names = unit_file::listed(root, directory)?;
    let is_generated = directory.starts_with(paths::GENERATED);
    names.retain(|name| !(is_generated && name == paths::DROP_IN));
    Ok(names)
}

/// A file as it is called on a live system.
pub(super) fn called(file: &Path) -> String {
    shown(&paths::absolute(file)).to_string()
}
