//! The commands of one unit, with the launcher before them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::obstacle;
use crate::enforce::adopt;
use crate::enforce::drop_in::HEADER;
use crate::host::directory::{entries, names};
use crate::host::unit_file::UnitFiles;
use crate::paths;
use crate::policy::Origin;
use crate::text::shown;
use crate::units::exec_line::{Command, wrap};
use crate::units::file::{Assignment, in_force};

/// `NAME_MAX` of Linux.
const LONGEST_NAME: usize = 255;

/// A unit's commands as they are with the launcher.
#[derive(Debug)]
pub(super) struct Commands {
    /// The files that they are from, relative to the root.
    files: Vec<PathBuf>,
    lines: Vec<Command>,
    /// What systemd is to call what they print, where it would be the launcher's name.
    identifier: Option<String>,
    /// The name of the unit's last other drop-in.
    last: Option<OsString>,
    /// Other drop-ins that are there to hide one of their name: a link to `/dev/null`, an empty file.
    hiding: Vec<PathBuf>,
}

impl Commands {
    /// Those that are in force for a unit that is neither masked nor transient.
    ///
    /// # Errors
    /// Says why the launcher cannot stand before them, or not so that they run as they do without.
    pub(super) fn of(root: &Path, unit: &UnitFiles) -> Result<Self> {
        let mut others = unit.clone();
        others.drop_ins.retain(|file| !is_generated(root, file));
        let says_something = |file: &&PathBuf| {
            fs::metadata(root.join(file)).is_ok_and(|found| found.is_file() && found.len() > 0)
        };
        let (saying, hiding): (Vec<&PathBuf>, Vec<&PathBuf>) =
            others.drop_ins.iter().partition(says_something);
        let last = saying.iter().filter_map(|file| file.file_name()).max().map(OsStr::to_owned);
        let hiding = hiding.into_iter().cloned().collect();
        others.drop_ins.retain(|file| !adopt::is_copy(root, file));
        let assignments = others.assignments(root)?;
        let commands = in_force(&assignments, "Service", &["ExecStart"]);
        if commands.is_empty() {
            bail!("no ExecStart= in /{}: there is nothing to put the launcher before", shown(&unit.fragment));
        }
        let mut lines = Vec::new();
        for command in &commands {
            let wrapped = wrap(&command.value, |name| obstacle::find_command(root, &assignments, name));
            lines.extend(
                wrapped
                    .with_context(|| format!("ExecStart= in /{}:{}", shown(&*command.file), command.line))?,
            );
        }
        let mut files: Vec<PathBuf> = commands.iter().map(|command| command.file.to_path_buf()).collect();
        files.dedup();
        let identifier = identifier(&assignments, &lines);
        let found = Self { files, lines, identifier, last, hiding };
        if !found.have_launcher() {
            other_generators(unit, &assignments)?;
            obstacle::none(root, &assignments)?;
        }
        Ok(found)
    }

    /// Whether the launcher stands before all of them already.
    pub(super) fn have_launcher(&self) -> bool {
        self.lines.iter().all(|line| matches!(line, Command::Launched(_)))
    }

    /// Whether a drop-in with the others would come to the same.
    pub(super) fn are_those_of(&self, other: &Self) -> bool {
        self.lines == other.lines && self.identifier == other.identifier
    }

    /// The name of a drop-in that comes after all others of the unit, and not before `at_least`.
    ///
    /// # Errors
    /// It would be too long, or is hidden.
    pub(super) fn drop_in_name(&self, at_least: &OsStr) -> Result<OsString> {
        let name = self.last_name(at_least)?;
        match self.hiding.iter().find(|file| file.file_name() == Some(&name)) {
            Some(file) => bail!("/{} hides the generator's file of that name: remove it", shown(file)),
            None => Ok(name),
        }
    }

    fn last_name(&self, at_least: &OsStr) -> Result<OsString> {
        let Some(last) = self.last.as_deref().filter(|last| *last >= at_least) else {
            return Ok(at_least.to_owned());
        };
        // systemd compares names byte by byte, and "~" comes after ".".
        let mut name = Path::new(last).with_extension("").into_os_string();
        name.push("~fairslice-launch.conf");
        if name.len() > LONGEST_NAME {
            bail!("no drop-in can come after {}: give that a shorter name", shown(last));
        }
        Ok(name)
    }

    /// The drop-in.
    pub(super) fn text(&self, origin: &Origin) -> String {
        let files: Vec<String> = self.files.iter().map(|file| format!("/{}", shown(file))).collect();
        let mut text = format!(
            "{HEADER}: launcher = true ({origin}).\n# The commands are those of {}.\n[Service]\nExecStart=\n",
            files.join(", ")
        );
        for line in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "ExecStart={}", line.text());
        }
        if let Some(identifier) = &self.identifier {
            let _ = writeln!(text, "SyslogIdentifier={identifier}");
        }
        text
    }
}

/// Whether a drop-in is one that our generator has made.
pub(super) fn is_generated(root: &Path, file: &Path) -> bool {
    file.starts_with(paths::GENERATED)
        && fs::read_to_string(root.join(file)).is_ok_and(|text| text.starts_with(HEADER))
}

/// The drop-ins that our generator has made for the launcher, by their paths below its directory.
///
/// # Errors
/// A directory cannot be read.
pub(super) fn made(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut made = BTreeMap::new();
    for directory in
        names(&root.join(paths::GENERATED))?.into_iter().filter(|name| name.ends_with(".service.d"))
    {
        for name in entries(&root.join(paths::GENERATED).join(&directory))? {
            let file = Path::new(&directory).join(name);
            let text = fs::read_to_string(root.join(paths::GENERATED).join(&file)).unwrap_or_default();
            if text.starts_with(HEADER) && !file.ends_with(paths::DROP_IN) {
                made.insert(file, text);
            }
        }
    }
    Ok(made)
}

/// systemd files what a service prints under the file name of the program that it executes, which is the launcher's
/// then. Where several commands have several names, no one name is that of all.
fn identifier(assignments: &[Assignment], lines: &[Command]) -> Option<String> {
    let program = lines.first()?.program();
    let own = in_force(assignments, "Service", &["SyslogIdentifier"]);
    // A specifier comes to the same in both places.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+:,=@%[]".contains(c);
    let is_one = lines.iter().all(|line| line.program() == program) && program.chars().all(is_plain);
    (own.is_empty() && is_one).then(|| program.to_owned())
}

/// Generators run at the same time: what another one writes may be there or not when ours looks.
fn other_generators(unit: &UnitFiles, assignments: &[Assignment]) -> Result<()> {
    let by_generator = |file: &Path| paths::GENERATOR_DIRECTORIES.iter().any(|made| file.starts_with(made));
    if by_generator(&unit.fragment) {
        bail!(
            "/{} is made by another generator, maybe after ours has looked: put fairslice-launch into what that makes it from",
            shown(&unit.fragment)
        );
    }
    let mut commands = assignments.iter().filter(|set| set.section == "Service" && set.key == "ExecStart");
    match commands.find(|set| by_generator(&set.file)) {
        Some(set) => bail!(
            "/{} is made by another generator, maybe after ours has looked, and sets ExecStart=",
            shown(&*set.file)
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_comes_after_all_others() {
        let name = |last: Option<&str>, least: &str| {
            let last = last.map(OsString::from);
            let (files, lines, hiding) = (Vec::new(), Vec::new(), vec![PathBuf::from("a.d/hidden.conf")]);
            Commands { files, lines, identifier: None, last, hiding }
                .drop_in_name(OsStr::new(least))
                .map(|name| name.into_string().unwrap())
        };
        let base = paths::LAUNCH_DROP_IN;
        for last in [None, Some("override.conf"), Some("zz-fair.conf")] {
            assert_eq!(name(last, base).unwrap(), base);
        }
        for last in [base, "zz-lora.conf", "zzz.conf", "zz~~.conf", "é.conf", "z\u{10ffff}.conf", "zzz..conf"]
        {
            let chosen = name(Some(last), base).unwrap();
            assert!(chosen.as_str() > last && chosen.ends_with(".conf"), "{chosen}");
        }
        // An instance's comes after its template's, or takes its place.
        assert_eq!(name(Some("zz.conf"), "zzz~fairslice-launch.conf").unwrap(), "zzz~fairslice-launch.conf");
        assert!(name(Some(&format!("{}.conf", "z".repeat(250))), base).is_err());
        assert!(name(None, "hidden.conf").unwrap_err().to_string().starts_with("/a.d/hidden.conf hides"));
    }
}
