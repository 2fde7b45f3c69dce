//! `fairslice adopt` and `release`: the launcher in front of an existing unit's commands, by a
//! drop-in of its own, and away again.
//!
//! The unit's own files are never touched. A drop-in is written whole or not at all.
#![forbid(unsafe_code)]

pub mod exec_line;
mod obstacle;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use similar::TextDiff;

use self::exec_line::wrap;
use super::lock::Lock;
use crate::effect::doctor::logins::Outdated;
use crate::host::directory::names;
use crate::host::program::program;
use crate::host::unit_file::{Assignment, Unit, Units, in_force};
use crate::paths;
use crate::policy::{Policy, ServiceName, ServicePattern};
use crate::text::shown;

/// How the drop-in begins: a file that begins otherwise is somebody else's.
const HEADER: &str = "# Made by \"fairslice adopt\"";
/// That the directory is to go with the drop-in.
const OWN_DIRECTORY: &str = "# Its directory was made for it.\n";

/// What is to be done about one unit.
#[derive(Debug)]
pub struct Plan {
    /// The unit's own name.
    pub unit: ServiceName,
    /// What it comes to, for one line after the unit's name.
    pub said: String,
    /// The change to make, if there is one.
    pub change: Option<Change>,
}

/// A change of one drop-in.
#[derive(Debug)]
pub struct Change {
    file: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

/// The services that a slice of `policy` holds and that can be adopted as far as their names go:
/// not those that are masked or transient. Instances with commands of their own come before their
/// templates.
///
/// # Errors
/// A unit's files cannot be read.
pub fn held(root: &Path, units: &Units, policy: &Policy) -> Result<Vec<ServiceName>> {
    let patterns = policy.slices.values().flat_map(|slice| &slice.matches);
    let exact = patterns.filter_map(|pattern| match &pattern.value {
        ServicePattern::Exact(name) if name.template().is_some() => Some(name),
        _ => None,
    });
    let mut held = Vec::new();
    for name in exact.chain(units.names().filter(|name| policy.slice_of(name).is_some())) {
        let Some(unit) = units.find(name)? else { continue };
        if unit.masked || unit.fragment.starts_with(paths::TRANSIENT_UNITS) {
            continue;
        }
        held.extend(differing_instances(root, units, &unit)?);
        held.push(name.clone());
    }
    Ok(held)
}

/// The services that have been adopted.
///
/// # Errors
/// The directory of drop-ins cannot be read.
pub fn adopted(root: &Path) -> Result<Vec<ServiceName>> {
    let names = names(&root.join(paths::ADMIN_UNITS))?;
    let services = names.iter().filter_map(|name| ServiceName::new(name.strip_suffix(".service.d")?).ok());
    let mut adopted: Vec<_> = services.filter(|name| matches!(drop_in(root, name), Ok(Some(_)))).collect();
    // A template before its instances: what is for the template holds for each that has none.
    adopted.sort_by_key(|name| (name.template().is_some(), name.clone()));
    Ok(adopted)
}

/// What puts the launcher in front of the commands of the unit `name`, after the units `done`.
///
/// # Errors
/// Says why that cannot be done, or not so that the commands run as they do without.
pub fn adopt(root: &Path, units: &Units, name: &str, done: &BTreeSet<ServiceName>) -> Result<Plan> {
    let asked = service(name)?;
    let unit = units.find(&asked)?.ok_or_else(|| no_such_unit(units, &asked))?;
    if unit.masked {
        bail!("masked by /{}: unmask it first", shown(&unit.fragment));
    }
    if unit.fragment.starts_with(paths::TRANSIENT_UNITS) {
        bail!("a transient unit, gone when it stops: start its command with fairslice-launch");
    }
    let before = drop_in(root, &unit.name)?;
    if let (None, Some(template)) = (&before, unit.name.template())
        && drop_in(root, &template)?.is_some()
    {
        return Ok(plan(&asked, unit.name, &format!("has the launcher already, by {template}"), None));
    }
    let assignments = own_assignments(root, &unit)?;
    let commands = in_force(&assignments, "Service", &["ExecStart"]);
    if commands.is_empty() {
        bail!("no ExecStart= in /{}: there is nothing to put the launcher before", shown(&unit.fragment));
    }
    not_undone(&unit, &assignments)?;
    for instance in differing_instances(root, units, &unit)? {
        if !done.contains(&instance) && drop_in(root, &instance)?.is_none() {
            bail!("{instance} has another ExecStart=, which would be lost: adopt that first");
        }
    }
    let lines = wrapped(root, &assignments, &commands)?;
    if lines.iter().all(|line| matches!(line, exec_line::Command::Launched(_))) {
        return Ok(plan(&asked, unit.name, "has the launcher already", None));
    }
    obstacle::none(root, &assignments)?;
    let own_directory = match &before {
        Some(text) => text.contains(OWN_DIRECTORY),
        None => !root.join(drop_in_directory(&unit.name)).exists(),
    };
    let after = text(&unit.name, &commands, &lines, own_directory);
    if before.as_ref() == Some(&after) {
        return Ok(plan(&asked, unit.name, "already adopted", None));
    }
    let said = if before.is_some() { "adopted anew: its ExecStart= has changed" } else { "adopted" };
    let change = Change { file: drop_in_file(&unit.name), before, after: Some(after) };
    Ok(plan(&asked, unit.name, said, Some(change)))
}

/// The adopted units whose drop-in is not what adopting them now would write: their own files have
/// other commands since.
///
/// # Errors
/// A unit's files, or the directory of drop-ins, cannot be read.
pub fn outdated(root: &Path) -> Result<Vec<Outdated>> {
    let units = Units::read(root)?;
    let adopted = adopted(root)?;
    let all: BTreeSet<ServiceName> = adopted.iter().cloned().collect();
    let one = |name: &ServiceName| {
        let (why, can_adopt) = match adopt(root, &units, name.as_str(), &all) {
            Ok(plan) => {
                plan.change?;
                let commands = units.find(name).ok()??;
                let commands = shown(&commands.fragment).to_string();
                (format!("ExecStart= of /{commands} or of a drop-in has changed since"), true)
            }
            Err(error) => (format!("it cannot be adopted any more: {error:#}"), false),
        };
        let drop_in = paths::absolute(drop_in_file(name));
        Some(Outdated { unit: name.to_string(), drop_in, why, can_adopt })
    };
    Ok(adopted.iter().filter_map(one).collect())
}

/// What takes the launcher away from the unit `name`, which need not exist any more, after the units
/// `done`.
///
/// # Errors
/// The unit was not adopted, or the drop-in is somebody else's.
pub fn release(root: &Path, units: &Units, name: &str, done: &BTreeSet<ServiceName>) -> Result<Plan> {
    let asked = service(name)?;
    let mut unit = asked.clone();
    if drop_in(root, &unit)?.is_none()
        && let Some(found) = units.find(&asked)?
    {
        unit = found.name;
    }
    if let Some(before) = drop_in(root, &unit)? {
        if let Some(template) = unit.template()
            && !done.contains(&template)
            && drop_in(root, &template)?.is_some()
        {
            bail!("{template} is adopted too, and would be in force here then: release that first");
        }
        let change = Change { file: drop_in_file(&unit), before: Some(before), after: None };
        return Ok(plan(&asked, unit, "released", Some(change)));
    }
    match unit.template() {
        Some(template) if drop_in(root, &template)?.is_some() => {
            bail!("not adopted by itself: {template} is, with all its instances")
        }
        _ => bail!("not adopted"),
    }
}

fn plan(asked: &ServiceName, unit: ServiceName, said: &str, change: Option<Change>) -> Plan {
    let alias = if *asked == unit { String::new() } else { format!(" ({asked} is an alias of it)") };
    Plan { unit, said: format!("{said}{alias}"), change }
}

fn service(name: &str) -> Result<ServiceName> {
    ServiceName::new(name).map_err(|expected| anyhow!("not the name of a service: {expected}"))
}

fn no_such_unit(units: &Units, asked: &ServiceName) -> anyhow::Error {
    let distance = |name: &ServiceName| strsim::damerau_levenshtein(asked.stem(), name.stem());
    let nearest = units.names().min_by_key(|name| distance(name));
    match nearest.filter(|name| distance(name) <= 1 + asked.stem().chars().count() / 4) {
        Some(nearest) => anyhow!("no such unit: did you mean {nearest}?"),
        None => anyhow!("no such unit (\"systemctl list-unit-files --type=service\" lists those there are)"),
    }
}

/// What the unit's files say without drop-ins of ours.
fn own_assignments(root: &Path, unit: &Unit) -> Result<Vec<Assignment>> {
    let mut own = unit.clone();
    let ours = |file: &PathBuf| fs::read_to_string(root.join(file)).is_ok_and(|text| is_ours(&text));
    own.drop_ins.retain(|file| !(file.ends_with(paths::LAUNCH_DROP_IN) && ours(file)));
    own.assignments(root)
}

/// The instances of a template whose commands are not the template's: a drop-in of the template's
/// would come after what sets theirs.
fn differing_instances(root: &Path, units: &Units, template: &Unit) -> Result<Vec<ServiceName>> {
    let commands = |unit: &Unit| -> Result<Vec<String>> {
        let assignments = own_assignments(root, unit)?;
        let commands = in_force(&assignments, "Service", &["ExecStart"]);
        Ok(commands.into_iter().map(|command| command.value.clone()).collect())
    };
    let mut differing = Vec::new();
    for instance in units.instances(&template.name)? {
        let Some(unit) = units.find(&instance)? else { continue };
        if !unit.masked && commands(&unit)? != commands(template)? {
            differing.push(unit.name);
        }
    }
    Ok(differing)
}

/// Whether no drop-in that comes after ours sets the commands again.
fn not_undone(unit: &Unit, assignments: &[Assignment]) -> Result<()> {
    let later = |file: &&PathBuf| file.file_name().is_some_and(|name| name > paths::LAUNCH_DROP_IN);
    let sets = |file: &&PathBuf| {
        let of_file = assignments.iter().filter(|a| *a.file == ***file && a.section == "Service");
        of_file.into_iter().any(|assignment| assignment.key == "ExecStart")
    };
    match unit.drop_ins.iter().filter(later).find(sets) {
        Some(file) => {
            bail!("/{} sets ExecStart= and sorts after {}: rename it", shown(&file), paths::LAUNCH_DROP_IN)
        }
        None => Ok(()),
    }
}

fn wrapped(
    root: &Path,
    assignments: &[Assignment],
    commands: &[&Assignment],
) -> Result<Vec<exec_line::Command>> {
    let mut lines = Vec::new();
    for command in commands {
        let wrapped = wrap(&command.value, |name| obstacle::find_command(root, assignments, name));
        lines.extend(
            wrapped.with_context(|| format!("ExecStart= in /{}:{}", shown(&*command.file), command.line))?,
        );
    }
    Ok(lines)
}

/// The drop-in.
fn text(
    unit: &ServiceName,
    commands: &[&Assignment],
    lines: &[exec_line::Command],
    own_directory: bool,
) -> String {
    let mut files: Vec<String> =
        commands.iter().map(|command| format!("/{}", shown(&*command.file))).collect();
    files.dedup();
    let mut text = format!(
        "{HEADER}; \"fairslice release {unit}\" removes it.\n# The commands are those of {}.\n",
        files.join(", ")
    );
    if own_directory {
        text.push_str(OWN_DIRECTORY);
    }
    text.push_str("[Service]\nExecStart=\n");
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "ExecStart={}", line.text());
    }
    text
}

fn drop_in_directory(unit: &ServiceName) -> PathBuf {
    Path::new(paths::ADMIN_UNITS).join(format!("{unit}.d"))
}

fn drop_in_file(unit: &ServiceName) -> PathBuf {
    drop_in_directory(unit).join(paths::LAUNCH_DROP_IN)
}

fn is_ours(text: &str) -> bool {
    text.starts_with(HEADER)
}

/// The drop-in of `unit` as it is.
fn drop_in(root: &Path, unit: &ServiceName) -> Result<Option<String>> {
    let (directory, file) = (drop_in_directory(unit), drop_in_file(unit));
    match metadata(root, &directory)? {
        None => return Ok(None),
        Some(found) if found.is_dir() => {}
        Some(_) => bail!("/{} is no directory but a link or a file: make it one", shown(&directory)),
    }
    let foreign = || anyhow!("/{} is not made by \"fairslice adopt\": remove or rename it", shown(&file));
    match metadata(root, &file)? {
        None => return Ok(None),
        Some(found) if found.is_file() => {}
        Some(_) => return Err(foreign()),
    }
    let text = fs::read_to_string(root.join(&file)).with_context(|| format!("reading /{}", shown(&file)))?;
    if is_ours(&text) { Ok(Some(text)) } else { Err(foreign()) }
}

/// What lies at `path`, a link included; `None` where nothing does.
fn metadata(root: &Path, path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(root.join(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).with_context(|| format!("looking at /{}", shown(&path))),
    }
}

impl Change {
    /// The change as `patch(1)` takes it.
    #[must_use]
    pub fn diff(&self) -> String {
        let name = |text: &Option<String>| match text {
            Some(_) => format!("/{}", shown(&self.file)),
            None => "/dev/null".to_owned(),
        };
        let (before, after) =
            (self.before.as_deref().unwrap_or_default(), self.after.as_deref().unwrap_or_default());
        let diff = TextDiff::from_lines(before, after);
        diff.unified_diff().header(&name(&self.before), &name(&self.after)).to_string()
    }

    /// Makes the change below `root`.
    ///
    /// # Errors
    /// The file cannot be written or removed; then everything is as it was.
    pub fn make(&self, root: &Path, _lock: &Lock) -> Result<()> {
        let file = root.join(&self.file);
        match &self.after {
            Some(text) => write(&file, text, self.before.is_none() && text.contains(OWN_DIRECTORY)),
            None => remove(&file, self.before.as_ref().is_some_and(|text| text.contains(OWN_DIRECTORY))),
        }
    }
}

/// Writes the file beside its place, and then renames it.
fn write(file: &Path, text: &str, make_directory: bool) -> Result<()> {
    let Some(directory) = file.parent() else { bail!("{} has no directory", shown(&file)) };
    if make_directory {
        let made = fs::create_dir(directory);
        made.and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("making {}", shown(&directory)))?;
    }
    // systemd reads only what ends in ".conf".
    let beside = file.with_extension("new");
    let written = write_new(&beside, text).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        // What was not made cannot be removed.
        let _ = fs::remove_file(&beside);
        let _ = make_directory.then(|| fs::remove_dir(directory));
    }
    written.with_context(|| format!("writing {}", shown(&file)))
}

fn write_new(file: &Path, text: &str) -> io::Result<()> {
    // One that was left by an adoption that was killed.
    let _ = fs::remove_file(file);
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    new.set_permissions(fs::Permissions::from_mode(0o644))?;
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

fn remove(file: &Path, with_directory: bool) -> Result<()> {
    fs::remove_file(file).with_context(|| format!("removing {}", shown(&file)))?;
    if let (true, Some(directory)) = (with_directory, file.parent()) {
        // One with other files in it stays.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

/// Tells a running systemd of changed units, and restarts those that run, or gives their names.
/// Below a test's root it does nothing.
///
/// # Errors
/// `systemctl` cannot be run, or fails.
pub fn tell_systemd(
    root: &Path,
    _lock: &Lock,
    changed: &[ServiceName],
    restart: bool,
) -> Result<Vec<String>> {
    if root != Path::new("/") || !root.join(paths::SYSTEMD_BOOTED).exists() {
        return Ok(Vec::new());
    }
    systemctl(&["daemon-reload"])?;
    let patterns: Vec<String> = changed.iter().map(pattern).collect();
    let mut list =
        vec!["list-units", "--plain", "--no-legend", "--full", "--state=active,activating,reloading", "--"];
    list.extend(patterns.iter().map(String::as_str));
    let listed = systemctl(&list)?;
    let running: Vec<String> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    if restart && !running.is_empty() {
        let mut command = vec!["try-restart", "--"];
        command.extend(running.iter().map(String::as_str));
        systemctl(&command)?;
        return Ok(Vec::new());
    }
    Ok(running)
}

/// The unit, or all instances of a template, as `systemctl` takes a pattern.
fn pattern(unit: &ServiceName) -> String {
    let name = unit.as_str().replace('\\', "\\\\");
    if unit.stem().ends_with('@') { name.replace('@', "@*") } else { name }
}

pub(super) fn systemctl(arguments: &[&str]) -> Result<String> {
    let tried = || format!("running \"systemctl {}\"", shown(&arguments.join(" ")));
    let output = program(paths::SYSTEMCTL).args(["--system"]).args(arguments).output().with_context(tried)?;
    if !output.status.success() {
        let said = OsStr::from_bytes(output.stderr.trim_ascii());
        bail!("{}: {}: {}", tried(), output.status, shown(said).at_most(500));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: its output is not UTF-8", tried()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_what_systemctl_matches() {
        let pattern = |name: &str| pattern(&ServiceName::new(name).unwrap());
        assert_eq!(pattern("local-fs"), "local-fs.service");
        assert_eq!(pattern("w@"), "w@*.service");
        assert_eq!(pattern("w@a\\x2db"), "w@a\\\\x2db.service");
    }
}
