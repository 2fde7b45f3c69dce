//! What the slices of users, and `user.slice` above them, are given while the machine runs.
//!
//! Slices of users come and go with logins, so their values are properties that PID 1 is told, which
//! hold until the next boot. Without systemd they are written to cgroupfs.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::cgroup2::{self, Hierarchy, SettingValues};
use super::{budget, ceiling, own};
use crate::effect::{self, Headcount};
use crate::host::account::Account;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::host::pid1::{Manager, is_booted};
use crate::host::recorded::Recorded;
use crate::paths;
use crate::policy::{LoginRule, Policy, RuleOf};
use crate::survey::{Files, Means, Winner};
use crate::text::shown;
use crate::units::{CPU_WEIGHT, CpuWeight, Property, SettingValue, SliceName, Weight};

/// How often the headcount is taken again because somebody came or went meanwhile.
const ROUNDS: usize = 10;

/// What of one slice is not as it should be.
#[derive(Debug)]
pub struct SliceChange {
    /// The slice.
    pub slice: SliceName,
    /// What it is to be given.
    pub properties: Vec<Changed>,
    /// What differs and is left, because the administrator has set it.
    pub left: Vec<(Changed, Winner)>,
    /// What differs and waits, because so much is used.
    pub waits: Vec<(Changed, u64)>,
}

/// One property that is not as it should be.
#[derive(Debug)]
pub struct Changed {
    /// Which.
    pub property: Property,
    /// What it should be.
    pub value: SettingValue,
    /// What it is; `None` where its controller is off, which PID 1 turns on with the property.
    pub live: Option<String>,
}

/// A user's rule, by what NSS says of them.
///
/// # Errors
/// NSS failed.
pub fn rule<'p>(policy: &'p Policy, account: Option<&Account>) -> Result<(RuleOf<'p>, LoginRule)> {
    account.map_or_else(
        || Ok((RuleOf::Everybody, policy.logins.default.clone())),
        |account| policy.logins.rule(account),
    )
}

/// What a user's slice is given.
#[must_use]
pub fn settings(rule: &LoginRule) -> SettingValues {
    cgroup2::settings(&rule.resources)
}

/// What a user's slice lacks of its rule, but for what the administrator has set.
///
/// # Errors
/// The machine's RAM, which a percentage is of, or a file of the slice cannot be read.
pub fn of_user(root: &Path, uid: u32, rule: &LoginRule) -> Result<SliceChange> {
    differing(root, SliceName::of_user(uid), settings(rule))
}

/// What `user.slice` weighs; with a sum, while these are counted.
#[must_use]
pub fn total(policy: &Policy, counted: Option<&Headcount>) -> SettingValues {
    let weight = effect::total_weight(&policy.logins, counted);
    weight.map(|weight| (CPU_WEIGHT, SettingValue::Cpu(weight))).into_iter().collect()
}

/// What `user.slice` is given where there is no systemd, whose drop-in would say the rest.
#[must_use]
pub fn all_of_total(policy: &Policy, counted: Option<&Headcount>) -> SettingValues {
    total(policy, counted).into_iter().chain(cgroup2::settings(&policy.logins.total)).collect()
}

/// Those who are logged in, and this user.
///
/// # Errors
/// cgroupfs cannot be read.
pub fn users_with(root: &Path, uid: u32) -> Result<Vec<u32>> {
    let mut users = cgroup::users(root)?;
    if !users.contains(&uid) {
        users.push(uid);
    }
    Ok(users)
}

/// What the slices of those who are logged in weigh, for the headcount; `None` is the kernel's default.
pub type Weigh<'a> = &'a dyn Fn(&[u32]) -> Result<Vec<Option<CpuWeight>>>;

/// What a user's slice has now, which is what it was given at the login. NSS is not asked: who logs in must not
/// wait for what a directory service says of others.
pub(super) fn as_set(root: &Path, uid: u32) -> Option<CpuWeight> {
    let cgroup = SliceName::of_user(uid).cgroup();
    if cgroup::attribute(root, &cgroup, "cpu.idle").is_some_and(|idle| idle.trim() == "1") {
        return Some(CpuWeight::Idle);
    }
    let weight = cgroup::attribute(root, &cgroup, CPU_WEIGHT.attribute)?.trim().parse().ok()?;
    Weight::new(weight).map(CpuWeight::Weight)
}

/// The headcount of these users, if that is what `user.slice` weighs.
///
/// # Errors
/// Those of `weigh`.
pub fn headcount(root: &Path, policy: &Policy, users: &[u32], weigh: Weigh<'_>) -> Result<Option<Headcount>> {
    if !policy.logins.is_counted() {
        return Ok(None);
    }
    let weights = weigh(users)?;
    let limits = effect::limits(policy, &|cgroup| cgroup::weights_in(root, cgroup));
    Ok(Some(effect::headcount(&weights, limits)))
}

/// What `user.slice` lacks of a headcount, but for what the administrator has set.
///
/// # Errors
/// A file of the slice cannot be read.
pub fn of_all(root: &Path, policy: &Policy, counted: &Headcount) -> Result<SliceChange> {
    differing(root, SliceName::user(), total(policy, Some(counted)))
}

/// Sets the weight of `user.slice` to the headcount, if that is what it weighs.
///
/// Logins and logouts go on meanwhile, each of which does the same: whoever sets the weight looks
/// again afterwards, so that the last one to set it has seen everybody.
///
/// # Errors
/// cgroupfs cannot be read, and those of [`headcount`] and [`set`].
pub fn count(root: &Path, policy: &Policy, weigh: Weigh<'_>, deadline: Instant) -> Result<()> {
    if !policy.logins.is_counted() {
        return Ok(());
    }
    let now = || headcount(root, policy, &cgroup::users(root)?, weigh);
    let Some(mut counted) = now()? else { return Ok(()) };
    for _ in 0..ROUNDS {
        let change = of_all(root, policy, &counted)?;
        if change.properties.is_empty() {
            return Ok(());
        }
        set(root, &change, deadline)?;
        match now()? {
            Some(now) if now.weight() != counted.weight() => counted = now,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Gives each of a group's members who are logged in the same part of its weight.
///
/// Logins and logouts go on meanwhile, each of which does the same: whoever sets something looks again afterwards, so
/// that the last one has seen everybody.
///
/// # Errors
/// cgroupfs cannot be read, and those of [`set`].
pub fn share(root: &Path, policy: &Policy, group: &str, deadline: Instant) -> Result<()> {
    let of = RuleOf::Group(group);
    for _ in 0..ROUNDS {
        let members = budget::present(root, group)?;
        let rule = |uid: u32| policy.logins.among(of, uid, LoginRule::default(), members.len());
        let changes =
            members.iter().map(|uid| of_user(root, *uid, &rule(*uid))).collect::<Result<Vec<_>>>()?;
        if changes.iter().all(|change| change.properties.is_empty()) {
            break;
        }
        changes.iter().try_for_each(|change| set(root, change, deadline))?;
    }
    Ok(())
}

/// Has PID 1 set what differs, until the next boot; where there is no systemd, it is set here.
///
/// # Errors
/// PID 1 cannot be reached or refuses, or what is set cannot be recorded; cgroupfs is not ours to write.
pub fn set(root: &Path, change: &SliceChange, deadline: Instant) -> Result<()> {
    if change.properties.is_empty() {
        return Ok(());
    }
    let slice = &change.slice;
    if !is_booted(root) {
        let (tree, cgroup) = (Hierarchy::below(root)?, slice.cgroup());
        // The next login makes one that is gone, with what it is to have.
        if !root.join(paths::CGROUPFS).join(&cgroup).exists() {
            return Ok(());
        }
        return change.properties.iter().try_for_each(|set| tree.set(&cgroup, set.property, &set.value));
    }
    let machine = machine_for(root, change.properties.iter().map(|changed| &changed.value))?;
    let number = |changed: &Changed| machine.number(&changed.value);
    let set: Vec<(&str, u64)> =
        change.properties.iter().map(|changed| (changed.property.unit, number(changed))).collect();
    remember(root, slice.as_str(), &set).with_context(|| format!("recording what is set on {slice}"))?;
    let mut properties = Vec::new();
    let mut bandwidths = Vec::new();
    for changed in &change.properties {
        match &changed.value {
            SettingValue::Bandwidth(bandwidth) => {
                bandwidths.push((changed.property.bus, &*bandwidth.path, bandwidth.rate));
            }
            _ => properties.push((changed.property.bus, number(changed))),
        }
    }
    Manager::below(root).set_limits(slice.as_str(), &properties, &bandwidths, deadline)
}

fn differing(root: &Path, slice: SliceName, settings: SettingValues) -> Result<SliceChange> {
    let machine = machine_for(root, settings.iter().map(|(_, value)| value))?;
    let cgroup = slice.cgroup();
    let changed = |(property, value): (Property, SettingValue)| {
        let live = cgroup::attribute(root, &cgroup, property.attribute);
        let holds = live.as_ref().is_some_and(|live| effect::holds(property, &value, live, machine));
        (!holds).then_some(Changed { property, value, live })
    };
    let differing: Vec<Changed> = settings.into_iter().filter_map(changed).collect();
    let mut change = SliceChange { slice, properties: Vec::new(), left: Vec::new(), waits: Vec::new() };
    if differing.is_empty() || !is_booted(root) {
        change.properties = differing;
        return Ok(change);
    }
    let mut now = Vec::new();
    for changed in differing {
        let Changed { property, value, live } = &changed;
        match ceiling::used_above(root, &cgroup, *property, value, live.as_deref(), machine) {
            Some(used) => change.waits.push((changed, used)),
            None => now.push(changed),
        }
    }
    let differing = now;
    let files = Files::of_slice(root, &change.slice)?;
    for changed in differing {
        match files.over(Means::Told, changed.property.unit) {
            Some(over) => change.left.push((changed, over)),
            None => change.properties.push(changed),
        }
    }
    Ok(change)
}

/// The machine, where a value can be a part of what it has: a login with weights alone need not read it.
fn machine_for<'v>(root: &Path, mut values: impl Iterator<Item = &'v SettingValue>) -> Result<Machine> {
    if values.any(|value| matches!(value, SettingValue::Memory(_) | SettingValue::Tasks(_))) {
        Machine::read(root)
    } else {
        Ok(Machine { ram: 0, tasks: 0 })
    }
}

/// Leaves it to `fairslice apply --logins` to set what differs: PID 1 starts that as soon as it gets to it.
///
/// # Errors
/// The note cannot be written, or others than root can change where it lies.
pub(super) fn leave(root: &Path) -> Result<()> {
    own::run(root)?;
    let note = root.join(paths::UNCOUNTED);
    fs::write(&note, "").with_context(|| format!("writing {}", shown(&note)))
}

/// Records what is about to be set, so that it is known for ours, and removing the package can undo it.
///
/// # Errors
/// Those of [`record`].
pub fn remember(root: &Path, unit: &str, properties: &[(&str, u64)]) -> Result<()> {
    let known = Recorded::of(root, unit);
    let mut lines = String::new();
    for (name, value) in properties.iter().filter(|(name, value)| !known.has_told(name, &value.to_string())) {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{name}={value}");
    }
    if lines.is_empty() { Ok(()) } else { record(root, unit, &lines) }
}

/// Adds lines to the record of a unit. Nothing is ever taken out of one, and each writes once at its end: so
/// logins and `apply` need not wait for each other.
///
/// # Errors
/// The directory or the file of the record cannot be made or written, or others can change it.
pub fn record(root: &Path, unit: &str, lines: &str) -> Result<()> {
    own::directory(root, paths::RUNTIME_PROPERTIES, 0o755)?;
    let file = root.join(paths::RUNTIME_PROPERTIES).join(unit);
    let mut record = fs::OpenOptions::new().create(true).append(true).open(&file)?;
    // The host's umask may be anything, and everybody is to see whose a value is.
    record.set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(record.write_all(lines.as_bytes())?)
}
