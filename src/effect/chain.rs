//! The way of one value from where it is declared to where it takes effect, and the first link of it
//! that breaks: policy, the generator's drop-in, PID 1's property, cgroupfs, the process.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Carried;
use super::finding::{Code, Finding, Fix, Place};
use crate::host::cgroup;
use crate::host::facts::{Facts, Generator};
use crate::host::machine::Machine;
use crate::host::processes::Process;
use crate::host::snapshot::Snapshot;
use crate::host::unit_file::Assignment;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::{Origin, Policy, ServiceName, SliceName};
use crate::text::{quoted, shown};

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
    /// How many CPUs are online.
    pub cpus: u32,
    /// `memory_recursiveprot` of the cgroup2 mount.
    pub recursive: bool,
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

    /// The process of this number.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<&'a Process> {
        let place = self.processes.binary_search_by_key(&pid, |process| process.pid).ok()?;
        self.processes.get(place)
    }

    /// A service's main process.
    #[must_use]
    pub fn main_process(&self, service: &str) -> Option<&'a Process> {
        self.process(self.loaded(service)?.number("MainPID")?.try_into().ok()?)
    }

    /// Where a service runs: the cgroup that PID 1 has for it, or the scope in which the launcher has
    /// had it put.
    #[must_use]
    pub fn cgroup_of(&self, service: &ServiceName) -> Option<&'a Path> {
        let first = self.live.services.partition_point(|(name, _)| name < service);
        let all = self.live.services.get(first..).unwrap_or_default().iter();
        let own: Vec<&Path> =
            all.take_while(|(name, _)| name == service).map(|(_, path)| path.as_path()).collect();
        let known = self.units.get(service.as_str()).and_then(Unit::cgroup);
        let is_known = |path: &&&Path| known.as_deref() == Some(**path);
        let is_scope = |path: &&&Path| cgroup::unit(path).is_some_and(|unit| service.has_scope(unit));
        own.iter().find(is_known).or_else(|| own.iter().find(is_scope)).or(own.first()).copied()
    }

    /// The generator's drop-in for a unit, and what it says. A service without its own has that of its
    /// template or of a prefix of its name.
    #[must_use]
    pub fn drop_in(&self, unit: &str) -> Option<(PathBuf, &'a [Assignment])> {
        let names = drop_in_units(unit);
        let (name, assignments) = names.iter().find_map(|name| self.facts.generated.get_key_value(name))?;
        Some((generated_file(name), assignments))
    }

    /// What the unit's files set last, as PID 1 reads them.
    #[must_use]
    pub fn last(&self, unit: &str, key: &str) -> Option<&'a Assignment> {
        let section = section_of(unit)?;
        let files: Vec<&Path> = self.loaded(unit)?.files().collect();
        let mut read = files.into_iter().rev().filter_map(|file| self.facts.settings.file(file));
        read.find_map(|file| file.assignments.iter().rfind(|a| a.section == section && a.key == key))
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
            subject: unit.to_owned(),
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
        let files: Vec<&Path> = self.loaded(unit).into_iter().flat_map(Unit::files).collect();
        let ours = self.drop_in(unit).map(|(file, _)| file);
        let is_ours = |file: &Path| ours.as_deref() == Some(file);
        let last = self.last(unit, setting);
        let later = last.filter(|last| sorts_after_ours(&last.file));
        let namesake = || files.iter().find(|file| file.ends_with(paths::DROP_IN) && !is_ours(file));
        if let Some(last) = later {
            return self.by_assignment(unit, setting, last);
        }
        if !files.iter().any(|file| is_ours(file))
            && let Some(namesake) = namesake()
        {
            let set = last.filter(|last| paths::absolute(&last.file) == **namesake);
            let path = shown(&namesake);
            return Override {
                code: Code::Shadowed,
                cause: "a file of the same name hides the generator's".to_owned(),
                at: Some(set.map_or_else(|| Place::of_file(namesake), Place::from)),
                fix: Fix::Edit(format!("give {path} another name, or remove it, then: fairslice apply")),
            };
        }
        Override {
            code: Code::DropInMissing,
            cause: "files of the unit have changed since PID 1 read them: a daemon-reload is due".to_owned(),
            at: ours.as_deref().map(Place::of_file),
            fix: Fix::Apply,
        }
    }

    fn by_assignment(&self, unit: &str, setting: &str, last: &Assignment) -> Override {
        let file = paths::absolute(&last.file);
        let path = shown(&file);
        let at = Some(Place::from(last));
        let recorded = self
            .facts
            .logins
            .recorded
            .get(unit)
            .is_some_and(|known| known.iter().any(|name| name == setting));
        let is_runtime = last.file.starts_with(paths::RUNTIME_CONTROL);
        if recorded && is_runtime {
            let code = if unit == SliceName::user().as_str() { Code::TotalWeight } else { Code::SetProperty };
            let cause = "fairslice set it at a login, and the policy has changed since".to_owned();
            return Override { code, cause, at, fix: Fix::Apply };
        }
        if is_runtime || last.file.starts_with(paths::LASTING_CONTROL) {
            let until = if is_runtime { " --runtime, until the next boot" } else { ", for good" };
            return Override {
                code: Code::SetProperty,
                cause: format!("systemctl set-property{until}"),
                at,
                fix: Fix::Command(format!("rm {} && fairslice apply", quoted(&file))),
            };
        }
        Override {
            code: Code::Shadowed,
            cause: "this file comes after the generator's".to_owned(),
            at,
            fix: Fix::Edit(format!("remove {setting}= from {path}, then: fairslice apply")),
        }
    }
}

/// The units whose drop-ins of one name hold for this one, the most specific first.
fn drop_in_units(unit: &str) -> Vec<String> {
    match ServiceName::new(unit) {
        Ok(service) if unit.ends_with(".service") => service.drop_in_units(),
        _ => vec![unit.to_owned()],
    }
}

/// The section in which a unit's resources are set: `Slice`, `Service`.
fn section_of(unit: &str) -> Option<&'static str> {
    const SECTIONS: [&str; 5] = ["Slice", "Service", "Scope", "Socket", "Mount"];
    let (_, kind) = unit.rsplit_once('.')?;
    SECTIONS.into_iter().find(|section| section.eq_ignore_ascii_case(kind))
}

fn generated_file(unit: &str) -> PathBuf {
    paths::absolute(paths::generated(unit))
}

/// Drop-ins are sorted by their names, wherever they lie.
fn sorts_after_ours(file: &Path) -> bool {
    let is_drop_in = file.parent().is_some_and(|parent| parent.extension().is_some_and(|kind| kind == "d"));
    is_drop_in && file.file_name().is_some_and(|name| name > paths::DROP_IN)
}
