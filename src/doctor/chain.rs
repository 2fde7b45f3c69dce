//! The way of one value from where it is declared to where it takes effect, and the first link of it
//! that breaks: policy, the generator's drop-in, PID 1's property, cgroupfs, the process.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::finding::{Code, Finding, Fix, Place};
use crate::effect::Carried;
use crate::effect::memory::{Protections, protection};
use crate::host::disk::Disks;
use crate::host::facts::{Facts, Generator};
use crate::host::machine::Machine;
use crate::host::processes::Process;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::{Origin, Policy};
use crate::survey::snapshot::Snapshot;
use crate::survey::{Files, Means, Owner, Winner, loaded_files};
use crate::text::{quoted, shown};
use crate::units::file::Assignment;
use crate::units::{OOM_SCORE_ADJUST, OfService, Property, SLICE, ServiceName, SliceName};

/// What the chains are followed through.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What is declared.
    pub policy: &'a Policy,
    /// What the ancestors of its slices carry.
    pub carried: &'a BTreeMap<SliceName, Carried>,
    /// What the generator's drop-ins should say, by unit.
    pub expected: &'a BTreeMap<String, Vec<Assignment>>,
    /// What percentages are of.
    pub machine: Machine,
    /// What PID 1 says.
    pub units: &'a Units,
    /// Every process, by number.
    pub processes: &'a [Process],
    /// The attributes of slices and services, and who is logged in.
    pub live: &'a Snapshot,
    /// What is on disk.
    pub facts: &'a Facts,
    /// Its disks.
    pub disks: &'a Disks,
    /// How many CPUs are online.
    pub cpus: u32,
    /// `memory_recursiveprot` of the cgroup2 mount.
    pub recursive: bool,
    /// What all of this comes to.
    pub once: &'a Once,
}

/// What is computed of a whole [`Scene`] as soon as a finding asks for it.
#[derive(Debug, Default)]
pub struct Once {
    protections: OnceLock<Protections>,
    /// By cgroup, in the order of their paths: places among the processes.
    by_cgroup: OnceLock<BTreeMap<PathBuf, Vec<usize>>>,
    /// By cgroup, a unit in it.
    started: OnceLock<HashMap<PathBuf, String>>,
}

/// One value's way.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The unit that it is for.
    pub unit: String,
    /// The policy's key, or `slice`.
    pub key: &'static str,
    /// In order; the way ends early where a unit is not loaded or does not run.
    pub links: Vec<Link>,
    /// Why the first link breaks that does.
    pub broken: Option<Finding>,
}

/// One link of a [`Chain`].
#[derive(Debug, Clone)]
pub struct Link {
    /// Which.
    pub stage: Stage,
    /// What is said there; `None` where nothing is.
    pub value: Option<String>,
    /// Where that stands.
    pub at: Option<Place>,
    /// Whether it is what was declared.
    pub holds: bool,
}

/// The kinds of links, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What is declared.
    Policy,
    /// The generator's drop-in.
    DropIn,
    /// PID 1's property.
    Property,
    /// The cgroup's attribute, or which cgroup it is.
    Cgroup,
    /// The main process: its OOM score, or which cgroup it is in.
    Process,
}

/// Why a value is not what the drop-in says.
#[derive(Debug, Clone)]
pub struct Override {
    /// What kind of finding it is.
    pub code: Code,
    /// In one line.
    pub cause: String,
    /// Where it stands.
    pub at: Option<Place>,
    /// What to do.
    pub fix: Fix,
}

impl Chain {
    /// A way without links.
    #[must_use]
    pub fn new(unit: &str, key: &'static str) -> Self {
        Self { unit: unit.to_owned(), key, links: Vec::new(), broken: None }
    }

    /// Adds a link. Of the first that does not hold, `why` tells why; it is given the chain up to there.
    pub fn add(&mut self, link: Link, why: impl FnOnce(&Self) -> Finding) {
        if !link.holds && self.broken.is_none() {
            self.broken = Some(why(self));
        }
        self.links.push(link);
    }

    /// Adds what the policy declares, with which the chain begins.
    pub fn declare(&mut self, value: String, origin: Option<&Origin>) {
        let at = origin.map(Place::from);
        self.links.push(Link { stage: Stage::Policy, value: Some(value), at, holds: true });
    }

    /// systemd's name for what it is about: `CPUWeight` for `cpu_weight`.
    #[must_use]
    pub fn setting(&self) -> &'static str {
        match self.key {
            "slice" => SLICE,
            "oom_score_adj" => OOM_SCORE_ADJUST,
            key => match Property::by_key(key) {
                Some(property) => property.unit,
                None => OfService::by_key(key).map_or(key, |setting| setting.unit),
            },
        }
    }

    /// Where the value is declared.
    #[must_use]
    pub fn origin(&self) -> Option<&Place> {
        self.links.first()?.at.as_ref()
    }
}

impl<'a> Scene<'a> {
    /// A unit that PID 1 has loaded.
    #[must_use]
    pub fn loaded(&self, unit: &str) -> Option<&'a Unit> {
        self.units.get(unit).filter(|unit| unit.text("LoadState").is_none_or(|state| state == "loaded"))
    }

    /// The units that the policy or PID 1 knows.
    pub fn known(&self) -> impl Iterator<Item = &'a str> {
        let declared = self.policy.services.keys().map(ServiceName::as_str);
        let slices = self.policy.slices.keys().chain(self.carried.keys()).map(SliceName::as_str);
        self.units.iter().map(|(name, _)| name).chain(declared).chain(slices)
    }

    /// The process of this number.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&'a Process> {
        let place = self.processes.binary_search_by_key(&pid, |process| process.pid).ok()?;
        self.processes.get(place)
    }

    /// The processes in a cgroup and below it.
    #[must_use]
    pub fn within(&self, cgroup: &Path) -> Vec<&'a Process> {
        let by_cgroup = self.once.by_cgroup.get_or_init(|| {
            let mut all: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
            for (place, process) in self.processes.iter().enumerate() {
                all.entry(process.cgroup.clone()).or_default().push(place);
            }
            all
        });
        let from = by_cgroup.range::<Path, _>((Bound::Included(cgroup), Bound::Unbounded));
        let inside = from.take_while(|(path, _)| path.starts_with(cgroup));
        let mut places: Vec<usize> = inside.flat_map(|(_, places)| places).copied().collect();
        places.sort_unstable();
        places.into_iter().filter_map(|place| self.processes.get(place)).collect()
    }

    /// What is protected of each cgroup.
    #[must_use]
    pub fn protections(&self) -> &'a Protections {
        self.once.protections.get_or_init(|| protection(&self.live.tree, self.recursive))
    }

    /// A unit in this cgroup that was started after PID 1 has last read its units: then PID 1 wrote the attributes of
    /// every cgroup on the way to it.
    #[must_use]
    pub fn started_since<'s>(&self, unit: &'s str, cgroup: &Path) -> Option<&'s str>
    where
        'a: 's,
    {
        let reloaded = self.facts.reloaded()?;
        let is_since = |unit: &Unit| {
            unit.is_active() && unit.number("ActiveEnterTimestampMonotonic").is_some_and(|at| at > reloaded)
        };
        let started = self.once.started.get_or_init(|| {
            let mut all = HashMap::new();
            for (name, unit) in self.units.iter().filter(|(_, unit)| is_since(unit)) {
                for above in unit.cgroup().iter().flat_map(|cgroup| cgroup.ancestors()) {
                    all.entry(above.to_owned()).or_insert_with(|| name.to_owned());
                }
            }
            all
        });
        let own = || self.units.get(unit).is_some_and(is_since).then_some(unit);
        started.get(cgroup).map(String::as_str).or_else(own)
    }

    /// A service's main process.
    #[must_use]
    pub fn main_process(&self, service: &ServiceName) -> Option<&'a Process> {
        self.process(self.live.service(service)?.main?)
    }

    /// Where a service runs.
    #[must_use]
    pub fn cgroup_of(&self, service: &ServiceName) -> Option<&'a Path> {
        self.live.service(service).map(|service| service.cgroup.as_path())
    }

    /// The generator's drop-in for a unit, and what it says. A service without its own has that of its
    /// template or of a prefix of its name.
    #[must_use]
    pub fn drop_in(&self, unit: &str) -> Option<(PathBuf, &'a [Assignment])> {
        let names = drop_in_units(unit);
        let (name, assignments) = names.iter().find_map(|name| self.facts.generated.get_key_value(name))?;
        Some((generated_file(name), assignments))
    }

    /// What the unit's files set, as PID 1 has read them.
    #[must_use]
    pub fn files<'u>(&self, unit: &'u str) -> Files<'u>
    where
        'a: 'u,
    {
        let recorded = self.facts.logins.recorded.get(unit).cloned().unwrap_or_default();
        loaded_files(unit, self.loaded(unit), &self.facts.settings, recorded)
    }

    /// Where the value of a setting stands that holds.
    #[must_use]
    pub fn place_of(&self, unit: &str, setting: &str) -> Option<Place> {
        self.files(unit).holding(setting).map(|winner| Place::from(&winner))
    }

    /// Adds the link of the generator's drop-in.
    pub fn add_drop_in(&self, chain: &mut Chain, setting: &str, declared: &str) {
        let found = self.drop_in(&chain.unit);
        let set = found.as_ref().and_then(|(_, all)| all.iter().rfind(|a| a.key == setting));
        let at = match (set, &found) {
            (Some(set), _) => Some(Place::from(set)),
            (None, Some((file, _))) => Some(Place::of_file(file)),
            (None, None) => None,
        };
        let value = set.map(|set| set.value.clone());
        let holds = value.as_deref() == Some(declared);
        let was = value.as_deref().map(|value| format!(" (there it is {value})")).unwrap_or_default();
        chain.add(Link { stage: Stage::DropIn, value, at, holds }, |chain| {
            let what = format!("{} {declared} has not reached PID 1{was}", chain.key);
            self.not_reached(&chain.unit, what, chain.origin().cloned())
        });
    }

    /// The finding that PID 1 does not know what the policy says.
    #[must_use]
    pub fn not_reached(&self, unit: &str, what: String, at: Option<Place>) -> Finding {
        let (cause, at, fix) = match &self.facts.generator {
            Generator::Missing => (
                "the generator is missing".to_owned(),
                Some(Place::of_file(paths::GENERATOR)),
                Fix::Command("apt-get install --reinstall fairslice && fairslice apply".to_owned()),
            ),
            Generator::Masked(mask) => (
                "this file takes the generator's place".to_owned(),
                Some(Place::of_file(mask)),
                Fix::Command(format!("rm {} && fairslice apply", quoted(&mask))),
            ),
            Generator::Installed if self.facts.generated.is_empty() => (
                "the generator has written nothing: no daemon-reload since it was installed, or it failed \
                 (journalctl -b -t fairslice-generator)"
                    .to_owned(),
                at,
                Fix::Apply,
            ),
            Generator::Installed => {
                ("the policy was edited, and no daemon-reload has been since".to_owned(), at, Fix::Apply)
            }
        };
        Finding {
            code: Code::DropInMissing,
            subject: unit.into(),
            what,
            cost: Some(if self.facts.generated.is_empty() {
                "nothing of the policy is in force for slices and services".to_owned()
            } else {
                "what was declared before stays in force".to_owned()
            }),
            cause,
            at,
            fix,
        }
    }

    /// Why PID 1 has another value of `setting` than our drop-in says.
    #[must_use]
    pub fn overridden(&self, unit: &str, setting: &str) -> Override {
        let files = self.files(unit);
        if let Some(over) = files.over(Means::DropIn, setting) {
            return Override::by(&over);
        }
        if let Some(told) = files.holding(setting).filter(|holding| holding.owner == Owner::Login) {
            let code = if unit == SliceName::user().as_str() { Code::TotalWeight } else { Code::SetProperty };
            let cause = "fairslice set it at a login, and the policy has changed since".to_owned();
            return Override { code, cause, at: Some(Place::from(&told)), fix: Fix::Apply };
        }
        Override {
            code: Code::DropInMissing,
            cause: "files of the unit have changed since PID 1 read them: a daemon-reload is due".to_owned(),
            at: self.drop_in(unit).map(|(file, _)| Place::of_file(file)),
            fix: Fix::Apply,
        }
    }
}

impl Override {
    /// What the administrator has set over the policy.
    #[must_use]
    pub fn by(over: &Winner) -> Self {
        let (file, setting, at) = (shown(&over.file), &over.setting, Some(Place::from(over)));
        if let Owner::SetProperty { lasting } = over.owner {
            let until = if lasting { ", for good" } else { " --runtime, until the next boot" };
            return Self {
                code: Code::SetProperty,
                cause: format!("systemctl set-property{until}"),
                at,
                fix: Fix::Command(format!("rm {} && fairslice apply", quoted(&over.file))),
            };
        }
        let (cause, remedy) = if over.file.ends_with(paths::DROP_IN) {
            let cause = "a file of the same name hides the generator's";
            (cause, format!("give {file} another name, or remove it, then: fairslice apply"))
        } else {
            let cause = "this file comes later, and wins";
            (cause, format!("remove {setting}= from {file}, then: fairslice apply"))
        };
        Self { code: Code::Shadowed, cause: cause.to_owned(), at, fix: Fix::Edit(remedy) }
    }
}

/// The units whose drop-ins of one name hold for this one, the most specific first.
fn drop_in_units(unit: &str) -> Vec<String> {
    match ServiceName::new(unit) {
        Ok(service) if unit.ends_with(".service") => service.drop_in_units(),
        _ => vec![unit.to_owned()],
    }
}

fn generated_file(unit: &str) -> PathBuf {
    paths::absolute(paths::generated(unit))
}
