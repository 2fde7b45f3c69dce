//! Weights and limits: errors in the policy, values that do not reach the cgroup, and why.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::path::{Path, PathBuf};

use super::cost;
use super::placement::home;
use super::remedy::is_vendors;
use crate::doctor::chain::{Chain, Link, Override, Scene, Stage};
use crate::doctor::finding::{Code, Finding, Fix, Place, Subjects};
use crate::effect::memory::amount;
use crate::effect::{equals, given, holds, number, slices, total_weight_now};
use crate::enforce::ceiling;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::host::tree::{Id, Tree};
use crate::host::units::Unit;
use crate::paths;
use crate::policy::{Diagnostic, InForce, Level, Loaded, Origin, TotalWeight};
use crate::survey::controller::{self, Absent, Disabling};
use crate::survey::snapshot::{Attributes, Snapshot, User};
use crate::survey::unmatched::Unmatched;
use crate::text::{quoted, shown};
use crate::trust::Exposed;
use crate::units::file::Assignment;
use crate::units::{
    CPU_WEIGHT, IO_WEIGHT, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, PROPERTIES, Property, SLICE, SettingValue,
    SliceName, TASKS_MAX,
};

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
    for diagnostic in loaded.diagnostics.iter().filter(|found| found.severity == Level::Error) {
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

/// What the policy names and is called otherwise.
#[must_use]
pub fn unmatched(found: &[Unmatched]) -> Vec<Finding> {
    let finding = |unmatched: &Unmatched| {
        let (name, at) = (&unmatched.name, &unmatched.origin);
        let place = if unmatched.is_table { "in the head of the table of" } else { "at" };
        let meant: Vec<String> = unmatched.near.iter().map(|near| format!("\"{near}\"")).collect();
        Finding {
            code: Code::NameUnmatched,
            subject: name.clone().into(),
            what: "what the policy says of it has no effect".to_owned(),
            cost: None,
            cause: unmatched.said(),
            at: Some(Place::from(at)),
            fix: Fix::Edit(format!(
                "write {} for \"{name}\" {place} {at}, then: fairslice apply",
                meant.join(" or ")
            )),
        }
    };
    found.iter().map(finding).collect()
}

/// One file or directory that others can change may keep several files of the policy out of force.
fn exposed_file(loaded: &Loaded, exposed: &Exposed, files: &[&Path]) -> Finding {
    let files: Vec<String> = files.iter().map(|file| shown(file).to_string()).collect();
    Finding {
        code: Code::PolicyExposed,
        subject: shown(&exposed.path).to_string().into(),
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
        subject: shown(&file).to_string().into(),
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
    chains.extend(totals(scene));
    chains
}

/// What the policy says of all logins together beside their weight.
fn totals<'a>(scene: &'a Scene<'_>) -> impl Iterator<Item = Chain> + 'a {
    let user = SliceName::user();
    let cgroup = Some(user.cgroup()).filter(|cgroup| scene.live.cgroups.contains_key(cgroup));
    scene.policy.logins.total.settings().map(move |setting| {
        let value = Wanted {
            unit: user.as_str(),
            key: setting.property.total.unwrap_or(setting.property.key),
            property: setting.property,
            value: setting.value,
            origin: Some(setting.origin),
            cgroup: cgroup.clone(),
        };
        value.follow(scene, true)
    })
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

/// What PID 1 has for units with a cgroup, and cgroupfs says: the links of which the policy knows nothing. All that
/// are set, and those at PID 1's default of which the kernel has something else.
#[must_use]
pub fn undeclared(scene: &Scene<'_>) -> Vec<Chain> {
    let is_set = |key: &str| scene.units.iter().any(|(_, unit)| unit.number(key).is_some_and(|set| set > 0));
    // A slice above may set what those without a value of their own get.
    let inherited: Vec<Property> = [(MEMORY_MIN, "DefaultMemoryMin"), (MEMORY_LOW, "DefaultMemoryLow")]
        .into_iter()
        .filter_map(|(property, key)| is_set(key).then_some(property))
        .collect();
    let mut chains = Vec::new();
    for (name, unit) in scene.units.iter().filter(|(_, unit)| unit.is_active()) {
        let Some(cgroup) = unit.cgroup() else { continue };
        let Some(live) = scene.live.cgroups.get(&cgroup) else { continue };
        let at_logins = set_at_logins(scene, name);
        for property in PROPERTIES.into_iter().filter(|property| property.always) {
            let number = unit.resource(property);
            let Some(value) = property.value(number) else { continue };
            let value = Wanted {
                unit: name,
                key: property.key,
                property,
                value,
                origin: None,
                cgroup: Some(cgroup.clone()),
            };
            let Some(text) = live.attributes.get(property.attribute) else {
                chains.extend(value.without_controller(scene, unit));
                continue;
            };
            if at_logins.contains(&property) {
                continue;
            }
            let is_default = number == property.unset();
            // While the machine starts up, other values hold.
            let at_startup = unit.text(&format!("Startup{}", property.unit)).is_some();
            let differs = unit.has(property.bus)
                && !inherited.contains(&property)
                && !holds(property, &value.value, text, scene.machine);
            if at_startup || is_default && !differs {
                continue;
            }
            let mut chain = Chain::new(name, property.key);
            value.add_property(scene, &mut chain, unit);
            value.add_cgroup(scene, &mut chain, &live.attributes);
            if let Some(broken) = &mut chain.broken {
                // The policy says nothing of it, and applying that would change nothing.
                broken.fix = write_again(name, unit);
            }
            chains.push(chain);
        }
    }
    chains
}

/// What the policy says of a unit that is a user's slice: it is set at logins, and followed there.
fn set_at_logins(scene: &Scene<'_>, unit: &str) -> Vec<Property> {
    let user = scene.live.users.iter().find(|user| SliceName::of_user(user.uid).as_str() == unit);
    let of_user =
        |user: &User| user.rule(scene.policy).resources.settings().map(|set| set.property).collect();
    user.map(of_user).unwrap_or_default()
}

/// Has PID 1 write what it has to the cgroups of a unit: at the next start of any unit in the same slice, after it has
/// forgotten at a reload what it has written. systemd 252 writes it at the reload.
pub(super) fn write_again(name: &str, unit: &Unit) -> Fix {
    let slice = if name.ends_with(".slice") { Some(name) } else { unit.text(SLICE) };
    // Those beside system.slice are written with it.
    let slice = slice.filter(|slice| *slice != "-.slice").unwrap_or("system.slice");
    let start = format!("systemd-run --quiet --wait --slice={} true", quoted(slice));
    Fix::Command(format!("systemctl daemon-reload && {start}"))
}

/// Why a unit's cgroup lacks the attribute of a property, which would be at `at`, where that is decided, and what to
/// do. What the policy declares, applying it enables. Where the attribute is there, it lacks a line for a disk.
pub(super) fn absent(
    scene: &Scene<'_>,
    unit: &str,
    property: Property,
    is_declared: bool,
    cgroup: &Path,
    at: Option<Place>,
    is_there: bool,
) -> (Absent, Option<Place>, Fix) {
    let tree = &scene.live.tree;
    let id = tree.nearest(cgroup);
    let why = if is_there {
        Absent::NoDisk
    } else {
        why_below(scene, tree.upwards(id).filter_map(|id| tree.unit(id)), id, property)
    };
    let name = controller::controller(property);
    let again = || scene.units.get(unit).map_or(Fix::Apply, |known| write_again(unit, known));
    let (at, fix) = match &why {
        Absent::Disabled(lines) => {
            let fix = match home(scene, unit) {
                None => enable(lines, &again()),
                // What is disabled where it is now does not matter there.
                Some((slice, home)) => {
                    let slices: Vec<SliceName> = iter::successors(Some(slice), SliceName::parent).collect();
                    let above = slices.iter().map(SliceName::as_str).chain(["-.slice"]);
                    match why_below(scene, iter::once(unit).chain(above), id, property) {
                        Absent::Disabled(lines) => enable(&lines, &home),
                        _ => home,
                    }
                }
            };
            (lines.first().map(|by| Place::from(&by.line)), fix)
        }
        Absent::CommandLine => {
            let fix = format!(
                "take {name} out of cgroup_disable= on the kernel's command line (/etc/default/grub, then: \
                 update-grub), then: systemctl reboot"
            );
            (Some(Place::of_file("/proc/cmdline")), Fix::Edit(fix))
        }
        Absent::NotDelegated => {
            let fix = "set Delegate=yes for the container's unit, on the machine that it runs on";
            (at, Fix::Edit(fix.to_owned()))
        }
        Absent::NoController => {
            (at, Fix::Edit("boot a kernel that has the controller, without cgroup v1".to_owned()))
        }
        Absent::Threaded(id) => (at, Fix::Command(format!("systemctl restart {}", quoted(&tree.name(*id))))),
        Absent::NotEnabled(_) => {
            let here = || if is_declared { Fix::Apply } else { again() };
            (at, home(scene, unit).map_or_else(here, |(_, fix)| fix))
        }
        Absent::NoDisk => {
            let fix = format!("name a device or a mount point that is there for {}", property.key);
            (at, Fix::Edit(fix))
        }
        Absent::NoAttribute => {
            (at, Fix::Edit(format!("remove {}, which this kernel does not have", property.key)))
        }
    };
    (why, at, fix)
}

/// Why a cgroup lacks the attribute of a property, where these units are above it, or would be.
fn why_below<'u>(
    scene: &Scene<'_>,
    units: impl Iterator<Item = &'u str>,
    id: Id,
    property: Property,
) -> Absent {
    let lines: Vec<Disabling> =
        units.flat_map(|unit| controller::disabling(unit, &scene.files(unit))).collect();
    controller::why(&scene.live.tree, id, property, &lines)
}

/// [`Code::CeilingWaits`], of a value that is declared for a cgroup.
pub(super) fn ceiling_waits(
    live: &Snapshot,
    machine: Machine,
    subject: Subjects,
    (key, property, value, origin): (&str, Property, &SettingValue, &Origin),
    cgroup: &Path,
) -> Option<Finding> {
    ceiling::usage(property)?;
    let of = &live.tree[live.tree.find(cgroup)?];
    let live = live.cgroups.get(cgroup)?.attributes.get(property.attribute)?;
    let used = if property == MEMORY_MAX { of.memory?.current } else { of.tasks? };
    let waits = ceiling::waits(value, live, used, machine);
    let kills = if property == MEMORY_MAX { ", which kills what does not fit" } else { "" };
    waits.then(|| Finding {
        code: Code::CeilingWaits,
        subject,
        what: format!("{key} {value} is {}", cgroup::said(property, live)),
        cost: None,
        cause: format!(
            "{} used, and applying the policy lowers no ceiling below that",
            amount(property, used)
        ),
        at: Some(Place::from(origin)),
        fix: Fix::Edit(format!(
            "\"fairslice apply\" once no more is used, or \"fairslice apply --force\"{kills}"
        )),
    })
}

/// Has PID 1 enable controllers again that these lines disable; `again` has it write what it then has.
fn enable(lines: &[Disabling], again: &Fix) -> Fix {
    let edit = |Disabling { unit, line }: &Disabling| {
        let file = shown(&line.file);
        let Some((number, value)) = line.set.as_ref().filter(|_| !is_vendors(&line.file)) else {
            return format!(
                "set DisableControllers= in a drop-in of {} that sorts after {file}",
                quoted(unit)
            );
        };
        format!("remove DisableControllers={value} at {file}:{number}")
    };
    let edits: Vec<String> = lines.iter().map(edit).collect();
    let then = again.command().or_else(|| Fix::Apply.command()).unwrap_or_default();
    // PID 1 is to know of the edit before anything is started.
    let then = then.replace(" && ", "; ");
    let then = then.strip_prefix("systemctl daemon-reload; ").unwrap_or(&then);
    Fix::Edit(format!("{}, then: systemctl daemon-reload; {then}", edits.join(" and ")))
}

/// Why a cgroup has another value than PID 1.
pub(super) struct Unwritten {
    pub(super) code: Code,
    /// What stands between the one value and the other.
    pub(super) verb: &'static str,
    pub(super) cause: String,
}

impl Unwritten {
    pub(super) fn new(scene: &Scene<'_>, unit: &str, cgroup: &Path) -> Self {
        match (scene.started_since(unit, cgroup), scene.facts.reloaded()) {
            (Some(started), _) => Self {
                code: Code::CgroupChanged,
                verb: "was changed to",
                cause: format!(
                    "it was written past PID 1, which wrote its own when {started} was started, and does so \
                     again when a unit is started after a daemon-reload"
                ),
            },
            (None, Some(_)) => Self::not_written(),
            (None, None) => Self {
                code: Code::CgroupChanged,
                verb: "is",
                cause: "it was written past PID 1, or PID 1 has not written it yet".to_owned(),
            },
        }
    }

    fn not_written() -> Self {
        Self {
            code: Code::NotWritten,
            verb: "is still",
            cause: "no unit was started there since the last daemon-reload, which changes no cgroup (or somebody \
                    wrote it past PID 1: that cannot be told)"
                .to_owned(),
        }
    }
}

impl Wanted<'_> {
    fn follow(&self, scene: &Scene<'_>, is_generated: bool) -> Chain {
        let mut chain = Chain::new(self.unit, self.key);
        let declared = self.value.to_string();
        chain.declare(declared.clone(), self.origin);
        let declared_for = self.cgroup.as_ref().zip(self.origin);
        chain.broken = declared_for.and_then(|(cgroup, origin)| {
            let declared = (self.key, self.property, &self.value, origin);
            ceiling_waits(scene.live, scene.machine, self.unit.into(), declared, cgroup)
        });
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
            cost::add_until_reload(scene, &mut chain, cgroup, &self.value);
        }
        chain
    }

    fn add_property(&self, scene: &Scene<'_>, chain: &mut Chain, unit: &Unit) {
        let number = unit.known(self.property, &self.value);
        let value = self.value.at(self.property, number).map(|value| value.to_string());
        let holds = equals(&self.value, number, scene.machine);
        let at = scene.place_of(self.unit, self.property.unit);
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
        let number = text.and_then(|text| number(self.property, &self.value, text));
        let value =
            number.and_then(|number| self.value.at(self.property, number)).map(|value| value.to_string());
        let holds = text.is_some_and(|text| holds(self.property, &self.value, text, scene.machine));
        chain.add(Link { stage: Stage::Cgroup, value: value.clone(), at: at.clone(), holds }, |_| {
            let (key, declared) = (self.key, &self.value);
            let Some(number) = number else {
                return self.absent(scene, cgroup, at, text.is_some());
            };
            let value = value.unwrap_or_default();
            // Before PID 1 has written anything, the kernel has its default.
            let unwritten = match scene.facts.reloaded() {
                None if number == self.property.unset() => Unwritten::not_written(),
                _ => Unwritten::new(scene, self.unit, cgroup),
            };
            let Unwritten { code, verb, cause } = unwritten;
            let what = format!("{key} {declared} {verb} {value} in cgroupfs");
            self.finding(code, what, self.cost(scene, number), cause, at, Fix::Apply)
        });
    }

    /// What PID 1 has for a unit whose cgroup does not have the controller.
    fn without_controller(&self, scene: &Scene<'_>, unit: &Unit) -> Option<Chain> {
        let tree = &scene.live.tree;
        let id = tree.find(self.cgroup.as_ref()?).filter(|id| *id != Tree::ROOT)?;
        let is_default = match self.property {
            // The kernel's default is a weight as well.
            CPU_WEIGHT | IO_WEIGHT => unit.number(self.property.unit).is_none(),
            property => unit.resource(property) == property.unset(),
        };
        // Every unit has DefaultTasksMax=.
        let is_nobodys =
            self.property == TASKS_MAX && scene.place_of(self.unit, self.property.unit).is_none();
        if is_default || is_nobodys || tree[id].controllers.has(controller::controller(self.property)) {
            return None;
        }
        let mut chain = Chain::new(self.unit, self.key);
        self.add_property(scene, &mut chain, unit);
        self.add_cgroup(scene, &mut chain, &Attributes::new());
        Some(chain)
    }

    /// The finding that the cgroup lacks the attribute, which is at `at`.
    fn absent(&self, scene: &Scene<'_>, cgroup: &Path, at: Option<Place>, is_there: bool) -> Finding {
        let at = if is_there { self.origin.map(Place::from) } else { at };
        let (why, at, fix) =
            absent(scene, self.unit, self.property, self.origin.is_some(), cgroup, at, is_there);
        let what = format!("{} {} has no effect", self.key, self.value);
        let cost = (self.property == CPU_WEIGHT && why != Absent::NoAttribute).then(|| {
            let tree = &scene.live.tree;
            let above = tree.name(controller::not_handing_on(tree, tree.nearest(cgroup), "cpu"));
            format!("their threads compete one by one with the others in {}", shown(&above))
        });
        let cause = why.said(&scene.live.tree, self.property);
        self.finding(Code::ControllerOff, what, cost, cause, at, fix)
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
        Finding { code, subject: self.unit.into(), what, cost, cause, at, fix }
    }

    /// What another number than the declared one comes to.
    fn cost(&self, scene: &Scene<'_>, number: u64) -> Option<String> {
        let cgroup = self.cgroup.as_deref();
        if let Some(cost) =
            cgroup.and_then(|cgroup| cost::setting(scene, cgroup, self.property, &self.value, number))
        {
            return Some(cost);
        }
        let value = self.value.at(self.property, number)?;
        let declared = &self.value;
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
