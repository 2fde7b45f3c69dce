//! Weights and limits: from the policy through the generator's drop-ins and PID 1 to cgroupfs.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use super::super::cgroup2::{Hierarchy, SettingValues, settings};
use super::super::user_slice;
use super::observed::{Observed, has_controller};
use super::{Change, Hold, How, Left, PATIENCE, Plan, Restart, reload};
use crate::effect::memory::amount;
use crate::effect::{Given, agrees, equals, given, holds, number, said, slices, total_weight_now};
use crate::host::block_device::number_of;
use crate::host::cgroup;
use crate::host::pid1::Manager;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::survey::controller::{self, Absent};
use crate::survey::{Means, RunningService, Winner};
use crate::text::{Foreign, quoted, shown};
use crate::units::takes::setting;
use crate::units::{
    Bandwidth, CPU_WEIGHT, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, OF_SERVICES, OfService, PROPERTIES, Property,
    SettingValue, SliceName,
};

/// A unit, and what it is given.
pub(super) struct Target {
    unit: String,
    user: Option<Foreign>,
    cgroup: PathBuf,
    given: SettingValues,
    /// Whose drop-in gives it that.
    drop_in: String,
    /// What is given by name, and not by that drop-in: PID 1 is told.
    told: SettingValues,
}

/// Adds what is to be changed of weights and limits, and what cannot be.
pub(super) fn plan(look: &Observed<'_>, targets: &[Target], plan: &mut Plan<'_>) -> Result<()> {
    for target in targets {
        for property in PROPERTIES {
            one(look, plan, target, property)?;
        }
    }
    Ok(())
}

/// Every unit that is given something, or was until now.
pub(super) fn targets(look: &Observed<'_>) -> Vec<Target> {
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
    for RunningService { name, cgroup, .. } in look.services() {
        let given = settings(&policy.service(name).resources);
        let (unit, cgroup) = (name.to_string(), cgroup.to_owned());
        targets.push(Target { drop_in: unit.clone(), unit, user: None, cgroup, given, told: Vec::new() });
    }
    let total = total_weight_now(policy, &look.live).map(|weight| (CPU_WEIGHT, SettingValue::Cpu(weight)));
    let mut all = slice(&SliceName::user(), Vec::new());
    (if policy.logins.is_counted() { &mut all.told } else { &mut all.given }).extend(total);
    all.given.extend(settings(&policy.logins.total));
    targets.push(all);
    let everybody = settings(&policy.logins.default.resources);
    for user in &look.live.users {
        let settings = user_slice::settings(&user.rule(policy)).into_iter();
        // What is shared depends on who is logged in, and may be what everybody has by chance.
        let shares = policy.logins.budget(user.held_by(policy), user.uid).is_some();
        let (given, told) =
            settings.partition(|setting| everybody.contains(setting) && !(shares && setting.0 == CPU_WEIGHT));
        let user_slice = slice(&SliceName::of_user(user.uid), given);
        let user = user.account.as_ref().map(|account| account.name.clone());
        targets.push(Target { user, told, drop_in: "user-.slice".to_owned(), ..user_slice });
    }
    targets
}

/// One property of one unit.
fn one(look: &Observed<'_>, plan: &mut Plan<'_>, target: &Target, property: Property) -> Result<()> {
    let Target { unit, cgroup, .. } = target;
    let Some(attributes) = look.live.cgroups.get(cgroup).map(|live| &live.attributes) else { return Ok(()) };
    let live = attributes.get(property.attribute).map(String::as_str);
    let Some(value) = target.declared(property) else {
        return undeclared(look, plan, target, property, live);
    };
    if live.is_some_and(|live| holds(property, value, live, look.machine)) {
        return Ok(());
    }
    let old = live.map_or_else(|| "-".to_owned(), |live| said(property, value, live));
    let differing = Differing { look, target, property, value, live };
    if let Some(used) = look.used_above(cgroup, property, value, live) {
        differing.wait(plan, &old, used);
        return Ok(());
    }
    match differing.remedy(plan.reload.is_some())? {
        Remedy::Change(how) => {
            let change = Change { key: target.key(property), old, new: value.to_string(), set_by: None, how };
            plan.change(unit, target.user.as_ref(), change);
            if how == How::Cgroup {
                plan.direct.push((cgroup.clone(), property, value.clone()));
            }
        }
        Remedy::None(why) => {
            let why = format!("{old}, declared {value}: {why}");
            plan.left.push(Left { unit: unit.clone(), key: target.key(property), why, differs: true });
        }
        Remedy::Restart => {
            let why = format!("{} is {old} in its scope, declared {value}", property.key);
            plan.restarts.push(Restart { unit: unit.clone(), why, by_hand: false });
        }
    }
    Ok(())
}

/// Whether a ceiling of a unit is declared below what is used, and waits.
pub(super) fn waits(look: &Observed<'_>, targets: &[Target], unit: &str, property: Property) -> bool {
    let Some(target) = targets.iter().find(|target| target.unit == unit) else { return false };
    let Some(value) = target.declared(property) else { return false };
    let live = look.live.cgroups.get(&target.cgroup).and_then(|live| live.attributes.get(property.attribute));
    look.used_above(&target.cgroup, property, value, live.map(String::as_str)).is_some()
}

/// Whether a unit's property is declared.
pub(super) fn is_declared(targets: &[Target], unit: &str, property: Property) -> bool {
    targets.iter().any(|target| target.unit == unit && target.declared(property).is_some())
}

/// A declared value that is not live.
struct Differing<'a> {
    look: &'a Observed<'a>,
    target: &'a Target,
    property: Property,
    value: &'a SettingValue,
    live: Option<&'a str>,
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
            let absent = self.absent()?;
            return Ok(absent.map_or(Remedy::Change(How::Cgroup), |absent| {
                Remedy::None(absent.said(&look.live.tree, property))
            }));
        };
        let files = look.files(&target.unit)?;
        let known = units.get(&target.unit).map(|unit| unit.known(property, value));
        // An administrator may set what is declared.
        let is_known = known.is_some_and(|known| equals(value, known, look.machine));
        if let Some(admins) = files.over(target.means(property), property.unit).filter(|_| !is_known) {
            return Ok(Remedy::None(admins.said()));
        }
        if is_scope(target) {
            return Ok(Remedy::Restart);
        }
        if is_known {
            return self.not_written();
        }
        // A user's slice may have the value from all users' drop-in, unless something comes after that.
        let is_hidden = target.is_a_users()
            && (look.is_told(&target.unit, property) || files.over(Means::DropIn, property.unit).is_some());
        Ok(if target.is_told(property) || is_hidden {
            Remedy::Change(How::Set)
        } else if reloads {
            Remedy::Change(How::Reload)
        } else {
            let known = known.map_or_else(|| "nothing".to_owned(), |known| cgroup::known(property, known));
            let unit = quoted(&target.unit);
            Remedy::None(format!("systemd has {known}, and no file says why (systemctl cat {unit})"))
        })
    }

    /// Leaves a ceiling what it is, `old`.
    fn wait(&self, plan: &mut Plan<'_>, old: &str, used: u64) {
        let Self { look, target, property, value, live } = *self;
        let Target { unit, cgroup, .. } = target;
        let is_memory = property == MEMORY_MAX;
        let why = format!(
            "{old}, declared {value}: waits, {} used; \"fairslice apply\" sets it once no more is, --force now{}",
            amount(property, used),
            if is_memory { ", and the kernel kills what does not fit" } else { "" }
        );
        plan.left.push(Left { unit: unit.clone(), key: target.key(property), why, differs: true });
        if is_memory {
            plan.beyond.push((cgroup.clone(), used.saturating_sub(look.machine.number(value))));
        }
        let Some(live) = live.and_then(cgroup::number) else { return };
        let known = look.units.as_ref().and_then(|units| units.get(unit)).map(|unit| unit.resource(property));
        // As long as PID 1 has what the kernel has, by our word, no reload changes it.
        if known.is_some_and(|known| known != live || !look.is_told(unit, property)) {
            plan.holds.push(Hold { unit: unit.clone(), property, live });
        }
    }

    /// PID 1 has the value.
    fn not_written(&self) -> Result<Remedy> {
        Ok(match self.absent()? {
            None | Some(Absent::NotEnabled(_)) => Remedy::Change(How::Write),
            Some(absent) => Remedy::None(absent.said(&self.look.live.tree, self.property)),
        })
    }

    /// Why the cgroup has no such attribute; `None` where it has.
    fn absent(&self) -> Result<Option<Absent>> {
        let Self { look, target, property, .. } = *self;
        if self.live.is_some_and(|live| number(property, self.value, live).is_none()) {
            return Ok(Some(Absent::NoDisk));
        }
        let tree = &look.live.tree;
        let Some(id) = tree.find(&target.cgroup).filter(|_| self.live.is_none()) else { return Ok(None) };
        let mut lines = Vec::new();
        for unit in tree.upwards(id).filter_map(|id| tree.unit(id)) {
            lines.extend(controller::disabling(unit, &look.files(unit)?));
        }
        Ok(Some(controller::why(tree, id, property, &lines)))
    }
}

impl Target {
    fn is_a_users(&self) -> bool {
        cgroup::user(&self.cgroup).is_some()
    }

    /// What is declared of a property.
    fn declared(&self, property: Property) -> Option<&SettingValue> {
        let all = self.given.iter().chain(&self.told);
        all.into_iter().find(|(declared, _)| *declared == property).map(|(_, value)| value)
    }

    /// Whether PID 1 is told a property, and no drop-in of ours gives it.
    fn is_told(&self, property: Property) -> bool {
        self.told.iter().any(|(told, _)| *told == property)
    }

    /// What the policy calls a property of it; the weight of all logins is called as any, for it may be a sum.
    fn key(&self, property: Property) -> &'static str {
        let total = property.total.filter(|_| self.unit == SliceName::user().as_str());
        total.unwrap_or(property.key)
    }

    /// How it is given a property.
    fn means(&self, property: Property) -> Means {
        if self.is_told(property) || self.is_a_users() { Means::Told } else { Means::DropIn }
    }
}

/// What is not declared is systemd's to set. Of what was declared until now, that is not known before the
/// reload.
fn undeclared(
    look: &Observed<'_>,
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
    let (new, how, set_by) = if is_removed {
        let files = look.files(&target.unit)?;
        // What was told at a login is taken back by itself.
        if look.is_told(&target.unit, property) || files.over(target.means(property), property.unit).is_some()
        {
            return Ok(());
        }
        match files.without_policy(property.unit) {
            // The administrator's own value, which is the same.
            Some(Winner { set: Some((_, set)), .. })
                if setting(property, &set)
                    .is_some_and(|value| holds(property, &value, live, look.machine)) =>
            {
                return Ok(());
            }
            Some(Winner { file, set: Some((number, set)), .. }) if !set.is_empty() => {
                (set, How::Reload, Some(format!("{}:{number}", shown(&file))))
            }
            _ => ("unset".to_owned(), How::Reload, None),
        }
    } else {
        // Which disks it is about, nothing says.
        if property.of_device().is_some() {
            return Ok(());
        }
        let Some(unit) = units.get(&target.unit).filter(|_| !is_scope(target)) else { return Ok(()) };
        if is_as_known(units, unit, property, live) {
            return Ok(());
        }
        (cgroup::known(property, unit.resource(property)), How::Write, None)
    };
    let change = Change { key: target.key(property), old: cgroup::said(property, live), new, set_by, how };
    plan.change(&target.unit, target.user.as_ref(), change);
    Ok(())
}

/// Whether a service is in a scope that the launcher has asked for.
fn is_scope(target: &Target) -> bool {
    cgroup::own_unit(&target.cgroup) != Some(target.unit.as_str())
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
    let mut units = Units::read_these(root, names)?;
    let active: Vec<String> =
        units.iter().filter(|(_, unit)| unit.is_active()).map(|(name, _)| name.to_owned()).collect();
    let others = PROPERTIES.iter().filter(|property| !property.always);
    units.ask_also(root, &active, &others.map(|property| property.bus).collect::<Vec<_>>())?;
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
    let numbers = PROPERTIES.into_iter().filter(|property| property.of_device().is_none());
    let are_written =
        numbers.into_iter().all(|property| match cgroup::attribute(root, &cgroup, property.attribute) {
            Some(live) => is_as_known(units, unit, property, &live),
            // The controller is off, which is as it should be where nothing is set.
            None => {
                unit.resource(property) == property.unset()
                    || has_controller(root, &cgroup, property.attribute)
                    || !has_controller(root, Path::new(""), property.attribute)
            }
        });
    // What is delegated, another program sets as well.
    let of_cgroup = |setting: &OfService| !setting.of_process && !unit.is("Delegate");
    are_written
        && of_disks(root, &cgroup, unit)
        && OF_SERVICES.into_iter().filter(of_cgroup).all(|setting| {
            let live = || cgroup::attribute(root, &cgroup, setting.attribute);
            unit.of_service(setting).is_none_or(|known| live().is_some_and(|live| known.holds(&live)))
        })
}

/// Whether the limits of disks are written that PID 1 has.
fn of_disks(root: &Path, cgroup: &Path, unit: &Unit) -> bool {
    PROPERTIES.iter().filter_map(|property| Some((property, property.of_device()?))).all(
        |(property, word)| {
            let live = cgroup::attribute(root, cgroup, property.attribute).unwrap_or_default();
            let is_written = |(path, rate): (&str, u64)| {
                let mut bandwidth = Bandwidth::new(path, rate)?;
                bandwidth.device = Some(number_of(root, Path::new(path))?.into());
                Some(bandwidth.live(&live, word) == Some(rate))
            };
            // Of a disk that is not there, nothing can be.
            unit.of_devices(property.bus).all(|known| is_written(known).unwrap_or(true))
        },
    )
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
    let tree = Hierarchy::below(root)?;
    let is_there = |cgroup: &Path| root.join(paths::CGROUPFS).join(cgroup).exists();
    let still = differing.iter().filter(|(cgroup, ..)| is_there(cgroup));
    still.into_iter().try_for_each(|(cgroup, property, value)| tree.set(cgroup, *property, value))
}
