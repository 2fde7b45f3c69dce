//! From what was found to a policy that changes nothing: what the loader refuses, and what would come to another value
//! somewhere, is taken out again, and named.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::entry::{Entry, PolicyTable, Source, Unsayable, Value, tables};
use super::find::{Found, unit_of};
use super::held::{Effective, Held, World};
use crate::paths;
use crate::policy::{self, Level, Loaded, Policy, ServicePattern};
use crate::text::shown;
use crate::units::takes::setting;
use crate::units::{CPU_WEIGHT, PROPERTIES, SLICE, ServiceName, SliceName};

/// A value that would be another.
pub(super) struct Differing {
    pub(super) unit: String,
    pub(super) setting: &'static str,
    before: Effective,
}

/// What two worlds do not have in common.
pub(super) fn differing(
    held: &Held,
    subjects: &[String],
    before: &World<'_>,
    after: &World<'_>,
) -> Result<Vec<Differing>> {
    let mut found = Vec::new();
    for unit in subjects {
        let now = held.effective(unit, after)?;
        for (setting, before) in held.effective(unit, before)? {
            if now.get(setting) != Some(&before) {
                found.push(Differing { unit: unit.clone(), setting, before });
            }
        }
    }
    Ok(found)
}

/// The entries that a policy can have beside `existing` so that every unit keeps what it has.
pub(super) fn settle(held: &Held, existing: &Loaded, found: &mut Found) -> Result<()> {
    keep_matches(&existing.policy, found);
    apart(&existing.policy, found);
    let nothing = BTreeSet::new();
    let today = World::new(&existing.policy, held.machine, &nothing);
    loop {
        let (text, lines) = tables(&found.entries);
        let mut loaded = with(existing, &text);
        let refused = refused(&loaded, &place(existing), &lines)?;
        if !refused.is_empty() {
            take_out(found, &refused);
            continue;
        }
        held.resolve(&mut loaded.policy);
        let after = World::new(&loaded.policy, held.machine, &nothing);
        let subjects = held.subjects([&existing.policy, &loaded.policy]);
        let differing = differing(held, &subjects, &today, &after)?;
        if differing.is_empty() {
            return Ok(());
        }
        let mut wrong = Vec::new();
        let mut pins = Vec::new();
        for Differing { unit, setting, before } in &differing {
            if let Some(pin) = pin(held, &loaded.policy, unit, setting, before.as_deref()) {
                pins.push(pin);
                continue;
            }
            let why = format!(
                "in a policy it would hold for {unit} too, which has {}",
                before.as_deref().unwrap_or("none")
            );
            let culprits = culprits(held, found, &after, unit, setting);
            wrong.extend(culprits.into_iter().map(|at| (at, why.clone())));
        }
        if wrong.is_empty() && pins.is_empty() {
            let units: Vec<&str> = differing.iter().map(|differing| differing.unit.as_str()).collect();
            bail!("the policy would change {}, and nothing says why", shown(&units.join(", ")));
        }
        take_out(found, &wrong);
        found.entries.extend(pins);
    }
}

/// A policy with this text beside its files, after one that was imported before.
pub(super) fn with(existing: &Loaded, text: &str) -> Loaded {
    policy::with(existing, &place(existing), Some(text))
}

/// Where the text stands, or would.
fn place(existing: &Loaded) -> PathBuf {
    let place = paths::absolute(paths::IMPORTED);
    let is_taken = existing.files.iter().any(|file| *file.path == *place);
    if is_taken { place.with_extension("toml.new") } else { place }
}

/// The entries that the loader has something against, and what.
fn refused(loaded: &Loaded, ours: &Path, lines: &[Option<usize>]) -> Result<Vec<(usize, String)>> {
    let mut refused = Vec::new();
    for diagnostic in loaded.diagnostics.iter().filter(|found| found.severity == Level::Error) {
        let line = diagnostic.position.filter(|_| *diagnostic.file == *ours).map(|(line, _)| line);
        match line.and_then(|line| *lines.get(line.checked_sub(1)?)?) {
            // The line is of a text that nobody has seen.
            Some(at) => refused.push((at, without_places(&diagnostic.message, ours))),
            None if refused.is_empty() => bail!("{diagnostic}"),
            None => {}
        }
    }
    Ok(refused)
}

/// A message without lines of the text that is being made.
fn without_places(message: &str, ours: &Path) -> String {
    let place = format!(" ({}:", shown(ours));
    let mut parts = message.split(&place);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// Leaves out these entries, and says why of the lines that they come from.
fn take_out(found: &mut Found, wrong: &[(usize, String)]) {
    for (at, why) in wrong {
        let Some(entry) = found.entries.get(*at) else { continue };
        if let Some(line) = entry.line() {
            let unit = unit_of(&line.file).unwrap_or_default();
            found.left.insert(Unsayable { unit, line: line.clone(), why: why.clone() });
        }
    }
    let mut at = 0;
    found.entries.retain(|_| {
        at += 1;
        wrong.iter().all(|(wrong, _)| *wrong != at - 1)
    });
}

/// A list of a later file takes the place of an earlier one: what the policy holds already, it holds still.
fn keep_matches(existing: &Policy, found: &mut Found) {
    found.entries.retain(|entry| !matches!(entry.value, Value::Held(_)) || !entry.is_in(existing));
    let mut kept = Vec::new();
    for (name, slice) in &existing.slices {
        let table = PolicyTable::Slice(name.clone());
        let is_added = |entry: &Entry| entry.table == table && matches!(entry.value, Value::Held(_));
        if found.entries.iter().any(is_added) {
            kept.extend(slice.matches.iter().map(|pattern| Entry {
                table: table.clone(),
                value: Value::Held(pattern.value.clone()),
                spelled: None,
                source: Source::Policy(pattern.origin.to_string()),
            }));
        }
    }
    kept.append(&mut found.entries);
    found.entries = kept;
}

/// A service is in one slice, and so is a prefix or a template with all that it reaches: where not all are in the same
/// one, single names say so, or nothing does.
fn apart(existing: &Policy, found: &mut Found) {
    let held = |entry: &Entry| match (&entry.table, &entry.value) {
        (PolicyTable::Slice(slice), Value::Held(pattern)) => Some((slice.clone(), pattern.clone())),
        _ => None,
    };
    let mut all: Vec<(SliceName, ServicePattern)> = found.entries.iter().filter_map(held).collect();
    for (slice, patterns) in &existing.slices {
        all.extend(patterns.matches.iter().map(|pattern| (slice.clone(), pattern.value.clone())));
    }
    let mut wrong = Vec::new();
    for (at, entry) in found.entries.iter().enumerate().filter(|(_, entry)| entry.line().is_some()) {
        let Some((slice, pattern)) = held(entry) else { continue };
        let other = all.iter().find(|(other, known)| *other != slice && known.overlaps(&pattern));
        // Beside a prefix of this very policy, the single name is what can be said.
        let yields = other.is_some_and(|(_, other)| {
            !matches!((&pattern, other), (ServicePattern::Exact(_), ServicePattern::Prefix(_)))
                || existing
                    .slices
                    .values()
                    .any(|slice| slice.matches.iter().any(|known| known.value == *other))
        });
        if let Some((other, known)) = other.filter(|_| yields) {
            wrong.push((at, format!("\"{known}\" is in {other}, and a policy has a service in one slice")));
        }
    }
    take_out(found, &wrong);
    // What a prefix says of all is not said again of one.
    let prefixes: Vec<_> =
        found.entries.iter().filter_map(held).filter(|(_, pattern)| is_prefix(pattern)).collect();
    found.entries.retain(|entry| {
        let Some((slice, ServicePattern::Exact(name))) = held(entry) else { return true };
        !prefixes.iter().any(|(other, pattern)| *other == slice && pattern.matches(&name))
    });
}

fn is_prefix(pattern: &ServicePattern) -> bool {
    matches!(pattern, ServicePattern::Prefix(_))
}

/// What holds a slice where it is today, where the generator would have it carry what those below it need.
fn pin(held: &Held, policy: &Policy, unit: &str, key: &str, before: Option<&str>) -> Option<Entry> {
    let slice = SliceName::new(unit).ok().filter(|slice| held.carries(policy, slice, key))?;
    let property = PROPERTIES.into_iter().find(|property| property.unit == key)?;
    let number = if property.unit == "CPUWeight" && before == Some("0") { "idle" } else { before? };
    let value = setting(property, if number == u64::MAX.to_string() { "infinity" } else { number })?;
    let why = "as today; without this line it is what the slices below need together".to_owned();
    let (value, source) = (Value::Setting(property, value), Source::Today(why));
    Some(Entry { table: PolicyTable::Slice(slice), value, spelled: None, source })
}

/// The entries by which a unit would get another value.
fn culprits(held: &Held, found: &Found, after: &World<'_>, unit: &str, key: &str) -> Vec<usize> {
    let by = held.settings(unit, after).holding(key).and_then(|winner| unit_of(&winner.file));
    let names: Vec<ServiceName> = [Some(unit), by.as_deref()]
        .into_iter()
        .flatten()
        .filter_map(|name| ServiceName::new(name).ok())
        .collect();
    let is_in = |name: &ServiceName| names.iter().any(|one| one.is_or_instantiates(name));
    let slice = by.as_deref().or(Some(unit)).and_then(|name| SliceName::new(name).ok());
    let of_logins = unit.starts_with("user") && unit.ends_with(".slice");
    let sets = |entry: &Entry| match (&entry.value, &entry.table) {
        (Value::Held(pattern), _) => {
            key == SLICE && entry.line().is_some() && names.iter().any(|name| pattern.matches(name))
        }
        (Value::Setting(property, _), table) if property.unit == key => match table {
            PolicyTable::Slice(name) => slice.as_ref() == Some(name),
            PolicyTable::Service(name) => is_in(name),
            PolicyTable::Logins | PolicyTable::User(_) => of_logins,
            PolicyTable::PrivateDir(_) => false,
        },
        (Value::Score(_), PolicyTable::Service(name)) => key == crate::units::OOM_SCORE_ADJUST && is_in(name),
        (Value::Total(_), _) => key == CPU_WEIGHT.unit && unit == SliceName::user().as_str(),
        (Value::OfAll(_, property, _), _) => property.unit == key && unit == SliceName::user().as_str(),
        (Value::Own(value), PolicyTable::Service(name)) => key == value.setting().unit && is_in(name),
        _ => false,
    };
    found.entries.iter().enumerate().filter(|(_, entry)| sets(entry)).map(|(at, _)| at).collect()
}

/// The files of these that can be moved aside so that every unit keeps what it has with this policy.
pub(super) fn dispensable(
    held: &Held,
    policy: &Policy,
    files: BTreeSet<PathBuf>,
) -> Result<BTreeSet<PathBuf>> {
    let nothing = BTreeSet::new();
    let with = World::new(policy, held.machine, &nothing);
    let subjects = held.subjects([policy, policy]);
    let mut files = files;
    loop {
        let without = World::new(policy, held.machine, &files);
        let differing = differing(held, &subjects, &with, &without)?;
        if differing.is_empty() {
            return Ok(files);
        }
        let mut needed = BTreeSet::new();
        for Differing { unit, .. } in &differing {
            needed.extend(held.files_of(unit, &with).into_iter().filter(|file| files.contains(file)));
        }
        let before = files.len();
        files.retain(|file| !needed.contains(file));
        if files.len() == before {
            // What hides another file of its name is no file of the unit any more.
            return Ok(BTreeSet::new());
        }
    }
}
