//! Weights and limits: errors in the policy, values that do not reach the cgroup, and why.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cost;
use crate::effect::chain::{Chain, Link, Override, Scene, Stage};
use crate::effect::finding::{Code, Finding, Fix, Place};
use crate::effect::{equals, given, holds, slices, total_weight_now};
use crate::host::cgroup;
use crate::host::snapshot::Attributes;
use crate::host::unit_file::Assignment;
use crate::host::units::Unit;
use crate::paths;
use crate::policy::{
    CPU_WEIGHT, Diagnostic, InForce, Loaded, Origin, PROPERTIES, Property, SettingValue, Severity, SliceName,
    TotalWeight,
};
use crate::text::shown;
use crate::trust::Exposed;

/// One weight or limit of one unit.
struct Wanted<'a> {
    unit: &'a str,
    key: &'static str,
    property: Property,
    value: SettingValue,
    /// `None` for what the slice carries for those below it.
    origin: Option<&'a Origin>,
    /// The unit's cgroup, if it has one now.
    cgroup: Option<PathBuf>,
}

/// What is wrong with the policy files, one finding for each.
#[must_use]
pub fn findings(loaded: &Loaded) -> Vec<Finding> {
    let mut by_file: BTreeMap<&Path, Vec<&Diagnostic>> = BTreeMap::new();
    let mut by_exposed: BTreeMap<&Exposed, Vec<&Path>> = BTreeMap::new();
    for diagnostic in loaded.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        match &diagnostic.exposed {
            Some(exposed) => by_exposed.entry(exposed).or_default().push(&diagnostic.file),
            None => by_file.entry(&*diagnostic.file).or_default().push(diagnostic),
        }
    }
    let broken = by_file.into_iter().filter_map(|(file, errors)| broken_file(loaded, file, &errors));
    broken
        .chain(by_exposed.into_iter().map(|(exposed, files)| exposed_file(loaded, exposed, &files)))
        .collect()
}

/// One file or directory that others can change may keep several files of the policy out of force.
fn exposed_file(loaded: &Loaded, exposed: &Exposed, files: &[&Path]) -> Finding {
    let files: Vec<String> = files.iter().map(|file| shown(file).to_string()).collect();
    Finding {
        code: Code::PolicyExposed,
        subject: shown(&exposed.path).to_string(),
        what: format!("keeps {} out of force", files.join(", ")),
        cost: loaded.in_force.note(),
        cause: format!("{exposed}, and root does what a policy says"),
        at: Some(Place { file: exposed.path.clone(), line: None }),
        fix: Fix::Command(exposed.remedy()),
    }
}

fn broken_file(loaded: &Loaded, file: &Path, errors: &[&Diagnostic]) -> Option<Finding> {
    let first = errors.first()?;
    let (code, what) = if file.starts_with(paths::absolute(paths::POLICY_DIR)) {
        (Code::FragmentBroken, "is left out".to_owned())
    } else {
        (Code::PolicyBroken, loaded.in_force.note().unwrap_or_else(|| "has errors".to_owned()))
    };
    let more = match errors.len() {
        1 => String::new(),
        errors => format!(" (the first of {errors} errors: fairslice check)"),
    };
    Some(Finding {
        code,
        subject: shown(&file).to_string(),
        what,
        cost: (loaded.in_force == InForce::Nothing).then(|| "nothing is limited or protected".to_owned()),
        cause: format!("{}{more}", first.message),
        at: Some(Place { file: file.to_owned(), line: first.position.map(|(line, _)| line) }),
        fix: Fix::Edit(format!("correct {}, then: fairslice apply", shown(&file))),
    })
}

/// The policy's weights and limits of slices, services and `user.slice`.
#[must_use]
pub fn declared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for name in slices(scene.policy, scene.carried) {
        let cgroup = Some(name.cgroup()).filter(|cgroup| scene.live.cgroups.contains_key(cgroup));
        for given in given(scene.policy, name, scene.carried.get(name)) {
            let value = Wanted {
                unit: name.as_str(),
                key: given.property.key,
                property: given.property,
                value: given.value,
                origin: given.origin,
                cgroup: cgroup.clone(),
            };
            chains.push(value.follow(scene, true));
        }
    }
    for name in scene.live.services_of(scene.policy) {
        let rule = scene.policy.service(name);
        for setting in rule.resources.settings() {
            let value = Wanted {
                unit: name.as_str(),
                key: setting.property.key,
                property: setting.property,
                value: setting.value,
                origin: Some(setting.origin),
                cgroup: scene.cgroup_of(name).map(Path::to_owned),
            };
            chains.push(value.follow(scene, true));
        }
    }
    chains.extend(all_logins(scene));
    chains
}

/// `total_weight`: a number is a drop-in's, a sum is set at each login.
fn all_logins(scene: &Scene<'_>) -> Option<Chain> {
    let total = scene.policy.logins.total_weight.as_ref()?;
    let weight = total_weight_now(scene.policy, scene.live)?;
    let user = SliceName::user();
    let value = Wanted {
        unit: user.as_str(),
        key: "total_weight",
        property: CPU_WEIGHT,
        value: SettingValue::Cpu(weight),
        origin: Some(&total.origin),
        cgroup: Some(user.cgroup()).filter(|cgroup| scene.live.cgroups.contains_key(cgroup)),
    };
    let is_fixed = matches!(total.value, TotalWeight::Fixed(_));
    let mut chain = value.follow(scene, is_fixed);
    // Somebody else's value is theirs.
    let is_ours = |found: &Finding| !matches!(found.code, Code::Shadowed | Code::SetProperty);
    if let Some(broken) = chain.broken.as_mut().filter(|broken| !is_fixed && is_ours(broken)) {
        let cause = "it is not what those weigh together who are logged in now".to_owned();
        *broken = Finding { code: Code::TotalWeight, cause, fix: Fix::Apply, ..broken.clone() };
    }
    Some(chain)
}

/// What stands in the generator's drop-ins and in the policy no more, and what is missing there of units
/// that no chain is about: every user's slice, prefixes of names.
#[must_use]
pub fn outdated(scene: &Scene<'_>, chains: &[Chain]) -> Vec<Chain> {
    let mut found = Vec::new();
    let mut add = |unit: &str, assignment: &Assignment, what: &str, at: Option<Place>| {
        let what = format!("{}={} {what}", assignment.key, assignment.value);
        let mut chain = Chain::new(unit, "drop-in");
        chain.broken = Some(scene.not_reached(unit, what, at));
        found.push(chain);
    };
    for (unit, generated) in &scene.facts.generated {
        let expected = scene.expected.get(unit).map(Vec::as_slice).unwrap_or_default();
        for gone in generated.iter().filter(|known| expected.iter().all(|wanted| wanted.key != known.key)) {
            add(unit, gone, "is still set and not in the policy", Some(Place::from(gone)));
        }
    }
    let followed: BTreeSet<&str> = chains.iter().map(|chain| chain.unit.as_str()).collect();
    for (unit, expected) in scene.expected.iter().filter(|(unit, _)| !followed.contains(unit.as_str())) {
        let generated = scene.facts.generated.get(unit).map(Vec::as_slice).unwrap_or_default();
        let is_there = |wanted: &&Assignment| {
            generated.iter().any(|known| (&known.key, &known.value) == (&wanted.key, &wanted.value))
        };
        for missing in expected.iter().filter(|wanted| !is_there(wanted)) {
            add(unit, missing, "has not reached PID 1", None);
        }
    }
    found
}

/// What PID 1 has for slices and services, and cgroupfs says: the links of which the policy knows nothing.
#[must_use]
pub fn undeclared(scene: &Scene<'_>) -> Vec<Chain> {
    let active = scene.units.iter().filter(|(name, unit)| {
        let kind = name.ends_with(".slice") || name.ends_with(".service");
        // What the policy says of users' slices is set at logins.
        let at_logins = name.starts_with("user-") && name.ends_with(".slice") && !scene.policy.is_empty();
        // While the machine starts up, other values hold.
        kind && !at_logins && unit.is_active() && unit.text("StartupCPUWeight").is_none()
    });
    let mut chains = Vec::new();
    for (name, unit) in active {
        let Some(live) = unit.cgroup().and_then(|cgroup| scene.live.cgroups.get(&cgroup)) else { continue };
        for property in PROPERTIES {
            let Some(value) = explicit(unit, property) else { continue };
            // Without the attribute, the controller is off: that is another finding.
            if !live.attributes.contains_key(property.attribute) {
                continue;
            }
            let value = Wanted {
                unit: name,
                key: property.key,
                property,
                value,
                origin: None,
                cgroup: unit.cgroup(),
            };
            let mut chain = Chain::new(name, property.key);
            value.add_property(scene, &mut chain, unit);
            value.add_cgroup(scene, &mut chain, &live.attributes);
            chains.push(chain);
        }
    }
    chains
}

impl Wanted<'_> {
    fn follow(&self, scene: &Scene<'_>, is_generated: bool) -> Chain {
        let mut chain = Chain::new(self.unit, self.key);
        let declared = self.value.to_string();
        chain.declare(declared.clone(), self.origin);
        if is_generated {
            scene.add_drop_in(&mut chain, self.property.unit, &declared);
        }
        if let Some(unit) = scene.loaded(self.unit) {
            self.add_property(scene, &mut chain, unit);
        }
        let live = self.cgroup.as_ref().and_then(|cgroup| scene.live.cgroups.get(cgroup));
        if let Some(live) = live {
            self.add_cgroup(scene, &mut chain, &live.attributes);
        }
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| self.property == CPU_WEIGHT) {
            cost::add_until_reload(scene, &mut chain, cgroup, self.value);
        }
        chain
    }

    fn add_property(&self, scene: &Scene<'_>, chain: &mut Chain, unit: &Unit) {
        let number = unit.resource(self.property);
        let value = self.property.value(number).map(|value| value.to_string());
        let holds = equals(self.value, number, scene.machine);
        let at = scene.last(self.unit, self.property.unit).map(Place::from);
        chain.add(Link { stage: Stage::Property, value: value.clone(), at, holds }, |_| {
            let Override { code, cause, at, fix } = scene.overridden(self.unit, self.property.unit);
            let value = value.unwrap_or_default();
            let what = match code {
                Code::DropInMissing => format!("{} {} has not reached PID 1", self.key, self.value),
                _ => format!("{} {} is overridden by {value}", self.key, self.value),
            };
            self.finding(code, what, self.cost(scene, number), cause, at, fix)
        });
    }

    fn add_cgroup(&self, scene: &Scene<'_>, chain: &mut Chain, live: &Attributes) {
        let Some(cgroup) = &self.cgroup else { return };
        let file = Path::new(paths::CGROUPFS).join(cgroup).join(self.property.attribute);
        let at = Some(Place::of_file(file));
        let text = live.get(self.property.attribute);
        let number = text.and_then(|text| cgroup::number(text));
        let value = number.and_then(|number| self.property.value(number)).map(|value| value.to_string());
        let holds = text.is_some_and(|text| holds(self.value, text, scene.machine));
        chain.add(Link { stage: Stage::Cgroup, value: value.clone(), at: at.clone(), holds }, |_| {
            let (key, declared) = (self.key, self.value);
            let Some(number) = number else {
                let what = format!("{key} {declared} has no effect");
                let cause = format!("{} is not there: its controller is off", self.property.attribute);
                let fix = Fix::Command("grep -o 'cgroup_disable=[^ ]*' /proc/cmdline".to_owned());
                return self.finding(Code::ControllerOff, what, None, cause, at, fix);
            };
            let value = value.unwrap_or_default();
            let (code, what, cause) = match self.started_since(scene, cgroup) {
                Some(started) => (
                    Code::CgroupChanged,
                    format!("{key} {declared} was changed to {value} in cgroupfs"),
                    format!("it was written past PID 1, which wrote {declared} when {started} was started"),
                ),
                None if number == self.property.unset() || scene.facts.reloaded.is_some() => (
                    Code::NotWritten,
                    format!("{key} {declared} is still {value} in cgroupfs"),
                    "no unit was started there since the last daemon-reload, which changes no cgroup \
                     (or somebody wrote it past PID 1: that cannot be told)"
                        .to_owned(),
                ),
                None => (
                    Code::CgroupChanged,
                    format!("{key} {declared} is {value} in cgroupfs"),
                    "it was written past PID 1, or PID 1 has not written it yet".to_owned(),
                ),
            };
            self.finding(code, what, self.cost(scene, number), cause, at, Fix::Apply)
        });
    }

    /// A unit in this cgroup that was started after PID 1 has last read its units: then PID 1 wrote the
    /// attributes of every cgroup on the way to it.
    fn started_since<'u>(&self, scene: &'u Scene<'_>, cgroup: &Path) -> Option<&'u str> {
        let reloaded = scene.facts.reloaded?;
        let since =
            |unit: &Unit| unit.number("ActiveEnterTimestampMonotonic").is_some_and(|at| at > reloaded);
        let is_below = |unit: &Unit| unit.cgroup().is_some_and(|path| path.starts_with(cgroup));
        let mut units = scene.units.iter().filter(|(_, unit)| unit.is_active() && since(unit));
        units.find(|(name, unit)| *name == self.unit || is_below(unit)).map(|(name, _)| name)
    }

    fn finding(
        &self,
        code: Code,
        what: String,
        cost: Option<String>,
        cause: String,
        at: Option<Place>,
        fix: Fix,
    ) -> Finding {
        Finding { code, subject: self.unit.to_owned(), what, cost, cause, at, fix }
    }

    /// What another number than the declared one comes to.
    fn cost(&self, scene: &Scene<'_>, number: u64) -> Option<String> {
        let cgroup = self.cgroup.as_deref();
        if let Some(cost) =
            cgroup.and_then(|cgroup| cost::setting(scene, cgroup, self.property, self.value, number))
        {
            return Some(cost);
        }
        let value = self.property.value(number)?;
        let declared = self.value;
        Some(match (self.property.key, number) {
            ("cpu_weight" | "io_weight", _) => {
                format!("it weighs {value} against its siblings, not {declared}")
            }
            ("memory_min" | "memory_low", 0) => format!("nothing is protected, not {declared}"),
            ("memory_min" | "memory_low", _) => format!("{value} are protected, not {declared}"),
            (_, u64::MAX) => format!("there is no limit, not {declared}"),
            _ => format!("the limit is {value}, not {declared}"),
        })
    }
}

/// A value that a unit has and that is not the default. For `TasksMax=`, systemd has one of its own.
fn explicit(unit: &Unit, property: Property) -> Option<SettingValue> {
    let number = unit.resource(property);
    if number == property.unset() { None } else { property.value(number) }
}
