//! Weights and limits: from the policy through the generator's drop-ins and PID 1 to cgroupfs.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use super::super::cgroup2::{Settings, Tree, settings};
use super::super::user_slice;
use super::look::{Look, has_controller};
use super::overrides::Overrides;
use super::{Change, How, Left, PATIENCE, Plan, Restart, reload};
use crate::effect::{Given, agrees, equals, given, holds, slices, total_weight_now};
use crate::host::cgroup;
use crate::host::pid1::Manager;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::{CPU_WEIGHT, MEMORY_LOW, MEMORY_MIN, PROPERTIES, Property, SettingValue, SliceName};
use crate::text::{Foreign, quoted};

/// A unit, and what it is given.
struct Target {
    unit: String,
    user: Option<Foreign>,
    cgroup: PathBuf,
    given: Settings,
    /// Whose drop-in gives it that.
    drop_in: String,
    /// What is given by name, and not by that drop-in: PID 1 is told.
    told: Settings,
}

/// Adds what is to be changed of weights and limits, and what cannot be.
pub(super) fn plan(look: &Look<'_>, plan: &mut Plan<'_>) -> Result<()> {
    for target in targets(look) {
        for property in PROPERTIES {
            one(look, plan, &target, property)?;
        }
    }
    Ok(())
}

fn targets(look: &Look<'_>) -> Vec<Target> {
    let slice = |name: &SliceName, given| Target {
        unit: name.to_string(),
        user: None,
        cgroup: name.cgroup(),
        given,
        drop_in: name.to_string(),
        told: Vec::new(),
    };
    let policy = look.policy;
    let mut targets = Vec::new();
    for name in slices(policy, &look.carried) {
        let given = given(policy, name, look.carried.get(name)).into_iter();
        targets.push(slice(name, given.map(|Given { property, value, .. }| (property, value)).collect()));
    }
    // A slice that the policy has named until now.
    for name in look.reloaded.iter().filter_map(|unit| SliceName::new(unit).ok()) {
        let is_login = cgroup::user(&name.cgroup()).is_some() || name == SliceName::user();
        if !is_login && targets.iter().all(|known| known.unit != name.as_str()) {
            targets.push(slice(&name, Vec::new()));
        }
    }
    for (name, cgroup) in look.services() {
        let given = settings(&policy.service(name).resources);
        let (unit, cgroup) = (name.to_string(), cgroup.to_owned());
        targets.push(Target { drop_in: unit.clone(), unit, user: None, cgroup, given, told: Vec::new() });
    }
    let total = total_weight_now(policy, &look.live).map(|weight| (CPU_WEIGHT, SettingValue::Cpu(weight)));
    let mut all = slice(&SliceName::user(), Vec::new());
    (if policy.logins.is_counted() { &mut all.told } else { &mut all.given }).extend(total);
    targets.push(all);
    let everybody = settings(&policy.logins.default.resources);
    for user in &look.live.users {
        let settings = user_slice::settings(&user.rule(policy)).into_iter();
        let (given, told) = settings.partition(|setting| everybody.contains(setting));
        let user_slice = slice(&SliceName::of_user(user.uid), given);
        let user = user.account.as_ref().map(|account| account.name.clone());
        targets.push(Target { user, told, drop_in: "user-.slice".to_owned(), ..user_slice });
    }
    targets
}

/// One property of one unit.
fn one(look: &Look<'_>, plan: &mut Plan<'_>, target: &Target, property: Property) -> Result<()> {
    let Target { unit, cgroup, .. } = target;
    let Some(attributes) = look.live.cgroups.get(cgroup).map(|live| &live.attributes) else { return Ok(()) };
    let live = attributes.get(property.attribute).map(String::as_str);
    let declared = |settings: &Settings| {
        settings.iter().find(|(declared, _)| *declared == property).map(|(_, value)| *value)
    };
    let told = declared(&target.told);
    let Some(value) = declared(&target.given).or(told) else {
        return undeclared(look, plan, target, property, live);
    };
    if live.is_some_and(|live| holds(value, live, look.machine)) {
        return Ok(());
    }
    let old = live.map_or_else(|| "-".to_owned(), |live| cgroup::value(live).to_owned());
    let differing = Differing { look, target, property, value, live, is_told: told.is_some() };
    match differing.remedy(plan.reload.is_some())? {
        Remedy::Change(how) => {
            let change = Change { key: property.key, old, new: value.to_string(), how };
            plan.change(unit, target.user.as_ref(), change);
            if how == How::Cgroup {
                plan.direct.push((cgroup.clone(), property, value));
            }
        }
        Remedy::None(why) => {
            let why = format!("{old}, declared {value}: {why}");
            plan.left.push(Left { unit: unit.clone(), key: property.key, why, differs: true });
        }
        Remedy::Restart => {
            let why = format!("{} is {old} in its scope, declared {value}", property.key);
            plan.restarts.push(Restart { unit: unit.clone(), why, by_hand: false });
        }
    }
    Ok(())
}

/// A declared value that is not live.
struct Differing<'a> {
    look: &'a Look<'a>,
    target: &'a Target,
    property: Property,
    value: SettingValue,
    live: Option<&'a str>,
    /// Whether PID 1 is told the value, and no drop-in of ours gives it.
    is_told: bool,
}

enum Remedy {
    Change(How),
    Restart,
    /// And why.
    None(String),
}

impl Differing<'_> {
    fn remedy(&self, reloads: bool) -> Result<Remedy> {
        let Self { look, target, property, value, .. } = *self;
        let Some(units) = &look.units else {
            return Ok(match self.live {
                Some(_) => Remedy::Change(How::Cgroup),
                None => Remedy::None("the controller is not enabled there".to_owned()),
            });
        };
        let overrides = look.overrides(&target.unit)?;
        if let Some(admins) = admins(&overrides, target, property)? {
            return Ok(Remedy::None(admins));
        }
        if is_scope(target) {
            return Ok(Remedy::Restart);
        }
        let known = units.get(&target.unit).map(|unit| unit.resource(property));
        if known.is_some_and(|known| equals(value, known, look.machine)) {
            return Ok(self.not_written());
        }
        // A user's slice may have the value from all users' drop-in, unless something comes after that.
        let is_hidden = target.is_a_users()
            && (overrides.is_told(property.unit) || overrides.of_drop_in(property.unit)?.is_some());
        Ok(if self.is_told || is_hidden {
            Remedy::Change(How::Set)
        } else if reloads {
            Remedy::Change(How::Reload)
        } else {
            let known = known.map_or_else(|| "nothing".to_owned(), cgroup::text);
            let unit = quoted(&target.unit);
            Remedy::None(format!("systemd has {known}, and no file says why (systemctl cat {unit})"))
        })
    }

    /// PID 1 has the value.
    fn not_written(&self) -> Remedy {
        let attribute = self.property.attribute;
        let has = |cgroup| has_controller(self.look.root, cgroup, attribute);
        if !has(Path::new("")) {
            Remedy::None("this machine has no such controller".to_owned())
        } else if self.live.is_none() && has(&self.target.cgroup) {
            Remedy::None(format!("the kernel has no {attribute}"))
        } else {
            Remedy::Change(How::Write)
        }
    }
}

/// Who has set a property of a unit over the policy.
fn admins(overrides: &Overrides, target: &Target, property: Property) -> Result<Option<String>> {
    let is_told = target.told.iter().any(|(told, _)| *told == property);
    if is_told || target.is_a_users() {
        overrides.of_runtime(property.unit)
    } else {
        overrides.of_drop_in(property.unit)
    }
}

impl Target {
    fn is_a_users(&self) -> bool {
        cgroup::user(&self.cgroup).is_some()
    }
}

/// What is not declared is systemd's to set. Of what was declared until now, that is not known before the
/// reload.
fn undeclared(
    look: &Look<'_>,
    plan: &mut Plan<'_>,
    target: &Target,
    property: Property,
    live: Option<&str>,
) -> Result<()> {
    let (Some(units), Some(live)) = (&look.units, live) else { return Ok(()) };
    let sets = |text: Option<&String>| {
        text.is_some_and(|text| text.lines().any(|line| line.split('=').next() == Some(property.unit)))
    };
    let is_removed = sets(look.made.get(&target.drop_in)) && !sets(look.wanted.get(&target.drop_in));
    let (new, how) = if is_removed {
        let overrides = look.overrides(&target.unit)?;
        // What was told at a login is taken back by itself.
        if overrides.is_told(property.unit) || admins(&overrides, target, property)?.is_some() {
            return Ok(());
        }
        ("unset".to_owned(), How::Reload)
    } else {
        let Some(unit) = units.get(&target.unit).filter(|_| !is_scope(target)) else { return Ok(()) };
        if is_as_known(units, unit, property, live) {
            return Ok(());
        }
        (cgroup::text(unit.resource(property)), How::Write)
    };
    let change = Change { key: property.key, old: cgroup::value(live).to_owned(), new, how };
    plan.change(&target.unit, target.user.as_ref(), change);
    Ok(())
}

/// Whether a service is in a scope that the launcher has asked for.
fn is_scope(target: &Target) -> bool {
    target.cgroup.file_name().is_none_or(|name| name.to_str() != Some(target.unit.as_str()))
}

/// Has PID 1 write to the cgroups of these units what it has and they have not, after a reload.
///
/// What was written to cgroupfs behind its back it does not know of before it has reloaded.
pub(super) fn write(root: &Path, names: &[String]) -> Result<()> {
    if write_once(root, names)? {
        return Ok(());
    }
    reload(root)?;
    write_once(root, names).map(drop)
}

/// Says whether all of it is written.
fn write_once(root: &Path, names: &[String]) -> Result<bool> {
    let units = Units::read_these(root, names)?;
    let unwritten = || -> Vec<&str> {
        let active = units.iter().filter(|(_, unit)| unit.is_active());
        active.filter(|(_, unit)| !is_written(root, &units, unit)).map(|(name, _)| name).collect()
    };
    let before = unwritten();
    let deadline = Instant::now() + PATIENCE;
    for unit in &before {
        Manager::below(root).write_cgroup(unit, deadline)?;
    }
    Ok(before.is_empty() || unwritten().is_empty())
}

fn is_written(root: &Path, units: &Units, unit: &Unit) -> bool {
    let Some(cgroup) = unit.cgroup() else { return true };
    PROPERTIES.into_iter().all(|property| match cgroup::attribute(root, &cgroup, property.attribute) {
        Some(live) => is_as_known(units, unit, property, &live),
        // The controller is off, which is as it should be where nothing is set.
        None => {
            unit.resource(property) == property.unset()
                || has_controller(root, &cgroup, property.attribute)
                || !has_controller(root, Path::new(""), property.attribute)
        }
    })
}

/// Whether cgroupfs has what PID 1 has.
fn is_as_known(units: &Units, unit: &Unit, property: Property, live: &str) -> bool {
    let known = unit.resource(property);
    let from_above = |name: &str| units.iter().any(|(_, unit)| unit.number(name).is_some_and(|set| set > 0));
    agrees(property, known, live)
        // A slice above may set what those without a value of their own get.
        || (property == MEMORY_MIN && known == 0 && from_above("DefaultMemoryMin"))
        || (property == MEMORY_LOW && known == 0 && from_above("DefaultMemoryLow"))
}

/// Without systemd: writes what differs to the cgroups that are still there.
pub(super) fn set_directly(root: &Path, differing: &[(PathBuf, Property, SettingValue)]) -> Result<()> {
    let tree = Tree::below(root)?;
    let is_there = |cgroup: &Path| root.join(paths::CGROUPFS).join(cgroup).exists();
    let still = differing.iter().filter(|(cgroup, ..)| is_there(cgroup));
    still.into_iter().try_for_each(|(cgroup, property, value)| tree.set(cgroup, *property, *value))
}
