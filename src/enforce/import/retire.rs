//! Files that say no more than the policy does are moved aside, and back.
//!
//! They are renamed, to a tree below [`paths::RETIRED`] that is laid out as the root: so they stay the very files that
//! they were, and one that is half moved there is not. Whatever happens meanwhile, what lies there can be put back.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, RenameFlags, renameat_with, unlinkat};

use super::entry::{Entry, Unsayable, Value, is_by_hand};
use super::find::{find, is_drop_in, is_for_many, is_said, is_sayable, is_taken, unit_of};
use super::held::{ANY_USER, Held, World, called};
use super::put::{directories, refused};
use super::scripts::{self, Scripts};
use super::settle::dispensable;
use crate::effect::{self, Status};
use crate::enforce::apply;
use crate::enforce::due::Due;
use crate::enforce::lock::Lock;
use crate::enforce::user_slice::{self, Changed, SliceChange};
use crate::host::cgroup;
use crate::host::pid1::is_booted;
use crate::host::tree::Tree;
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::{InForce, Loaded, Policy, VariableName};
use crate::survey::snapshot::{self, Extent};
use crate::survey::{Files, Means};
use crate::text::shown;
use crate::trust;
use crate::units::{OF_SERVICES, OOM_SCORE_ADJUST, PROPERTIES, SLICE, SliceName};

/// How long PID 1 is waited for where it is told something.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be moved, and what stays.
#[derive(Debug)]
pub struct Plan {
    /// Relative to the root.
    pub moved: BTreeSet<PathBuf>,
    /// Files that set something of a policy's and are left, and why.
    pub kept: Vec<(PathBuf, String)>,
    /// The units that have a file of these.
    units: BTreeSet<String>,
}

/// What can be moved aside below `root` while this policy is in force. `no_logins` says why logins do not get what the
/// policy has for them, where they do not.
///
/// # Errors
/// There is no policy in force, or it has not been applied; the machine cannot be looked at.
pub fn plan(root: &Path, loaded: &Loaded, no_logins: Option<&str>) -> Result<Plan> {
    if loaded.in_force != InForce::Current {
        bail!("nothing is moved while the policy is broken or missing: run \"fairslice check\"");
    }
    let waits = apply::plan(root, loaded)?;
    if waits.reload.is_some() || waits.logins {
        bail!("the policy waits to be put in force: run \"fairslice apply\" first");
    }
    let policy = &loaded.policy;
    let held = Held::read(root)?;
    let without = BTreeSet::new();
    let today = World::new(policy, held.machine, &without);
    let left = find(&held, policy).left;
    let mut kept = BTreeMap::new();
    let mut candidates = BTreeSet::new();
    let by_hand: Vec<&Path> = held.files().map(|(file, _)| file).filter(|file| is_by_hand(file)).collect();
    for file in by_hand {
        match stays(root, &held, policy, &left, file) {
            None => {}
            Some(Ok(())) => drop(candidates.insert(file.to_owned())),
            Some(Err(why)) => drop(kept.insert(file.to_owned(), why)),
        }
    }
    for (unit, why) in differing(root, policy, &held)? {
        for file in held.files_of(&unit, &today) {
            if candidates.remove(&file) {
                kept.insert(file, format!("{unit}: {why}: run \"fairslice apply\""));
            }
        }
    }
    let mut moved = dispensable(&held, policy, candidates.clone())?;
    for file in candidates.difference(&moved) {
        kept.insert(file.clone(), "without it, a unit would have another value".to_owned());
    }
    let has_moved = |unit: &String| held.files_of(unit, &today).iter().any(|file| moved.contains(file));
    let units = held.subjects([policy, policy]).into_iter().filter(has_moved).collect();
    for (file, result) in profile_scripts(root, policy, no_logins)? {
        match result {
            Ok(()) => drop(moved.insert(file)),
            Err(why) => drop(kept.insert(file, why)),
        }
    }
    Ok(Plan { moved, kept: kept.into_iter().collect(), units })
}

/// Each script that sets build directories and nothing else, and why it stays, if it does.
fn profile_scripts(
    root: &Path,
    policy: &Policy,
    no_logins: Option<&str>,
) -> Result<Vec<(PathBuf, Result<(), String>)>> {
    let Scripts { entries, whole, .. } = scripts::read(root)?;
    let one = |(file, variables): (PathBuf, Vec<VariableName>)| {
        let is_path = |entry: &&Entry| matches!(entry.value, Value::Text("path", _));
        let paths = entries.iter().filter(is_path);
        // One that a later script sets anew is that one's.
        let mut of_file = paths.filter(|entry| entry.line().is_some_and(|line| line.file == file));
        let is_said = variables.iter().all(|variable| policy.private_dirs.contains_key(variable));
        let result = match no_logins {
            _ if !is_said || !of_file.all(|entry| entry.is_in(policy)) => {
                Err("the policy has no such directory".to_owned())
            }
            Some(why) => Err(why.to_owned()),
            None => is_plain(root, &file),
        };
        (file, result)
    };
    Ok(whole.into_iter().map(one).collect())
}

/// Whether a file can be moved as far as its own lines go; `None` for one that sets nothing of a policy's.
fn stays(
    root: &Path,
    held: &Held,
    policy: &Policy,
    left: &BTreeSet<Unsayable>,
    file: &Path,
) -> Option<Result<(), String>> {
    let (text, unit) = (held.text(file)?, unit_of(file)?);
    let is_ours =
        |key: &str, section: &str, value: &str| is_sayable(key) && is_taken(&unit, key, section, value);
    let mut says = text.assignments.iter();
    says.clone().find(|set| is_ours(&set.key, &set.section, &set.value))?;
    if !is_drop_in(file) && !unit.ends_with(".slice") {
        return Some(Err("it is the unit's own file".to_owned()));
    }
    if let Some(other) = says.find(|set| !is_ours(&set.key, &set.section, &set.value)) {
        return Some(Err(format!("it sets {}= too (line {})", shown(&other.key), other.line)));
    }
    if let Some(line) = text.bare.first().map(|bare| bare.line).or(text.stops) {
        return Some(Err(format!("systemd does not read all of it (line {line})")));
    }
    if let Some(left) = left.iter().find(|left| left.line.file == file) {
        return Some(Err(format!("{}: {}", shown(&left.line.says), left.why)));
    }
    if file.starts_with(paths::LOCAL_UNITS) {
        return Some(Err("what lies there is a program's".to_owned()));
    }
    if !is_drop_in(file) && is_wanted(root, &unit) {
        return Some(Err("other units want it".to_owned()));
    }
    if is_for_many(&unit) {
        let unsaid = text.assignments.iter().find(|set| !is_said(policy, &unit, &set.key, &set.value));
        if let Some(unsaid) = unsaid {
            return Some(Err(format!("the policy has no such {}= for all of them", unsaid.key)));
        }
    }
    if let Some(why) = hides_rules(held, policy, &unit, file) {
        return Some(Err(why));
    }
    Some(is_plain(root, file))
}

/// Whether rules of the policy for some users would hold without this file, which now comes after them.
fn hides_rules(held: &Held, policy: &Policy, unit: &str, file: &Path) -> Option<String> {
    if unit != "user-.slice" {
        return None;
    }
    let without = BTreeSet::new();
    let today = World::new(policy, held.machine, &without);
    let any = SliceName::of_user(ANY_USER);
    let files = held.settings(any.as_str(), &today);
    let rules = policy.logins.users.iter().chain(&policy.logins.groups);
    let mut settings = rules.flat_map(|(_, rule)| rule.resources.settings());
    let hidden = settings.find(|rule| {
        let over = files.over(Means::Told, rule.property.unit);
        over.is_some_and(|over| over.file == paths::absolute(file))
    });
    hidden.map(|rule| format!("without it, {} of {} would hold", rule.property.key, rule.origin))
}

/// Whether a file can be renamed: it is a regular one that nobody but root can change.
fn is_plain(root: &Path, file: &Path) -> Result<(), String> {
    if fs::symlink_metadata(root.join(file)).is_ok_and(|found| found.is_symlink()) {
        return Err("it is a link".to_owned());
    }
    trust::open(root, file).map(drop).map_err(|refusal| format!("{:#}", refused(file, refusal)))
}

/// Whether a unit is enabled by a link.
fn is_wanted(root: &Path, unit: &str) -> bool {
    let admins = root.join(paths::ADMIN_UNITS);
    let directories = fs::read_dir(&admins).into_iter().flatten().flatten().map(|entry| entry.path());
    let kinds = ["wants", "requires", "upholds"];
    let mut links =
        directories.filter(|path| path.extension().is_some_and(|kind| kinds.iter().any(|k| kind == *k)));
    links.any(|directory| fs::symlink_metadata(directory.join(unit)).is_ok())
}

/// What `status` says is not as declared, by unit.
fn differing(root: &Path, policy: &Policy, held: &Held) -> Result<Vec<(String, String)>> {
    let tree = Tree::read(root).context("looking at the machine")?;
    let live =
        snapshot::read(root, tree, policy, Extent::Declared, None).context("looking at the machine")?;
    let carried = effect::ancestors(policy, held.machine.ram);
    let status = Status::new(policy, &carried, held.machine, &live);
    let differs = status.units.into_iter().filter(effect::UnitStatus::differs).filter_map(|unit| {
        let setting = unit.settings.iter().find(|setting| !setting.holds)?;
        let live = setting.live.as_deref().unwrap_or("-");
        Some((unit.name, format!("{} is {live}, declared {}", setting.key, setting.declared)))
    });
    Ok(differs.collect())
}

impl Plan {
    /// Moves the files, has the policy applied without them, and looks whether PID 1 has every value that it had. If
    /// it has not, all of them are put back.
    ///
    /// # Errors
    /// A file cannot be moved, PID 1 cannot be asked or told, or has another value of a unit, which is named. Then
    /// everything is as it was, or the error says what is not.
    pub fn carry_out(&self, root: &Path, lock: &Lock, loaded: &Loaded) -> Result<()> {
        let names = self.names(root)?;
        let before = properties(root, &names)?;
        let mut moved = Vec::new();
        let result = self.moved.iter().try_for_each(|file| {
            rename(root, file, &Path::new(paths::RETIRED).join(file))?;
            moved.push(file.clone());
            Ok(())
        });
        let result = result.and_then(|()| {
            self.tell(root, &loaded.policy)?;
            in_force(root, lock, loaded)?;
            let after = properties(root, &names)?;
            for (unit, values) in &before {
                let after = after.get(unit).map(Vec::as_slice).unwrap_or_default();
                if let Some(lost) = values.iter().find(|value| !after.contains(value)) {
                    bail!("{} would not keep {lost}", shown(unit));
                }
            }
            Ok(())
        });
        let Err(error) = result else { return Ok(()) };
        for file in &moved {
            rename(root, &Path::new(paths::RETIRED).join(file), file).with_context(|| {
                format!("{error:#}; it could not be put back (fairslice import --restore)")
            })?;
        }
        tidy(root, Path::new(paths::RETIRED));
        in_force(root, lock, loaded)
            .with_context(|| format!("{error:#}; the files are back where they were"))?;
        Err(error.context("nothing was moved"))
    }

    /// Has PID 1 told what users who are logged in have by name: what a file said of their slices is in the kernel still,
    /// and would be so until a unit is started.
    fn tell(&self, root: &Path, policy: &Policy) -> Result<()> {
        if !is_live(root) {
            return Ok(());
        }
        let everybody = user_slice::settings(&policy.logins.default);
        let due = Due::of(policy, &cgroup::users(root)?)?;
        for slice in self.units.iter().filter_map(|unit| SliceName::new(unit).ok()) {
            let Some(uid) = cgroup::user(&slice.cgroup()) else { continue };
            let Some((_, rule)) = due.get(uid) else { continue };
            let files = Files::of_slice(root, &slice)?;
            let own = user_slice::settings(rule).into_iter().filter(|setting| !everybody.contains(setting));
            let own = own.filter(|(property, _)| files.over(Means::Told, property.unit).is_none());
            let properties = own.map(|(property, value)| Changed { property, value, live: None }).collect();
            let change = SliceChange { slice, properties, left: Vec::new(), waits: Vec::new() };
            user_slice::set(root, &change, Instant::now() + PATIENCE)?;
        }
        Ok(())
    }

    /// The units that have a file of these: those that are on disk, and those that PID 1 has loaded.
    fn names(&self, root: &Path) -> Result<Vec<String>> {
        if !is_live(root) {
            return Ok(Vec::new());
        }
        let moved: BTreeSet<PathBuf> = self.moved.iter().map(paths::absolute).collect();
        let loaded = Units::read(root)?;
        let has_one = |unit: &Unit| unit.files().any(|file| moved.contains(file));
        let loaded = loaded.iter().filter(|(_, unit)| has_one(unit)).map(|(name, _)| name.to_owned());
        // A template, and a user's slice that nobody has, are no units.
        let any = SliceName::of_user(ANY_USER);
        let on_disk = self.units.iter().filter(|unit| !unit.contains("@.") && **unit != any.as_str());
        Ok(loaded.chain(on_disk.cloned()).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

/// What PID 1 has of these units.
fn properties(root: &Path, names: &[String]) -> Result<BTreeMap<String, Vec<String>>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let values = |unit: &Unit| {
        let numbers = PROPERTIES.map(|property| format!("{}={}", property.unit, unit.resource(property)));
        let texts =
            [SLICE, OOM_SCORE_ADJUST].into_iter().chain(OF_SERVICES.iter().map(|setting| setting.unit));
        let texts = texts.map(|key| format!("{key}={}", unit.text(key).unwrap_or_default()));
        numbers.into_iter().chain(texts).collect()
    };
    let units = Units::read_these(root, names)?;
    Ok(units.iter().map(|(name, unit)| (name.to_owned(), values(unit))).collect())
}

/// The files that have been moved aside, where they were, relative to the root.
///
/// # Errors
/// A directory cannot be read.
pub fn retired(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    let top = root.join(paths::RETIRED);
    while let Some(directory) = directories.pop() {
        let path = top.join(&directory);
        for name in crate::host::directory::entries(&path)? {
            let is_directory = fs::symlink_metadata(path.join(&name)).is_ok_and(|found| found.is_dir());
            (if is_directory { &mut directories } else { &mut files }).push(directory.join(name));
        }
    }
    files.sort();
    Ok(files)
}

/// Puts every file back where it was.
///
/// # Errors
/// Something else is there now, which is named, or a file cannot be moved; PID 1 cannot be told. What could not be put
/// back is where it was moved to.
pub fn restore(root: &Path, _lock: &Lock) -> Result<Vec<PathBuf>> {
    let files = retired(root)?;
    let is_taken = |file: &&PathBuf| fs::symlink_metadata(root.join(file)).is_ok();
    let taken: Vec<String> = files.iter().filter(is_taken).map(|file| called(file)).collect();
    if !taken.is_empty() {
        bail!("nothing was put back: {} has been made since: move it away first", taken.join(", "));
    }
    for file in &files {
        rename(root, &Path::new(paths::RETIRED).join(file), file)?;
    }
    tidy(root, Path::new(paths::RETIRED));
    if !files.is_empty() && is_live(root) {
        apply::reload(root)?;
    }
    Ok(files)
}

/// Moves a file to where nothing is, through directories that nobody but root can change.
fn rename(root: &Path, from: &Path, to: &Path) -> Result<()> {
    let tried = || format!("moving {} to {}", called(from), called(to));
    let (Some(above), Some(name)) = (from.parent(), from.file_name()) else { bail!("{}", tried()) };
    let (Some(new_above), Some(new_name)) = (to.parent(), to.file_name()) else { bail!("{}", tried()) };
    let here = trust::open_directory(root, above).map_err(|refusal| refused(above, refusal))?;
    let there = directories(root, new_above)?;
    renameat_with(&here, name, &there, new_name, RenameFlags::NOREPLACE).with_context(tried)
}

/// Removes what is empty of a tree of directories.
fn tidy(root: &Path, directory: &Path) {
    for name in crate::host::directory::entries(&root.join(directory)).unwrap_or_default() {
        tidy(root, &directory.join(name));
    }
    let (Some(above), Some(name)) = (directory.parent(), directory.file_name()) else { return };
    if let Ok(above) = trust::open_directory(root, above) {
        // One with a file in it stays.
        let _ = unlinkat(&above, name, AtFlags::REMOVEDIR);
    }
}

/// Has PID 1 read its units anew, and what the policy says made live.
fn in_force(root: &Path, lock: &Lock, loaded: &Loaded) -> Result<()> {
    if !is_live(root) {
        return Ok(());
    }
    apply::reload(root)?;
    let failed = apply::plan(root, loaded)?.carry_out(lock, false)?.failed;
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// Whether there is a PID 1 that would read the files.
fn is_live(root: &Path) -> bool {
    root == Path::new(paths::ROOT) && is_booted(root)
}
