//! Who wins: of all that sets one value of a unit, the one that holds, and whose it is.
//!
//! systemd applies a unit's file, then its drop-ins in the order of their names (`systemd.unit(5)`), and the last
//! assignment holds. Ours come early (`40-fairslice.conf`), so the administrator's own settings win, and this is
//! where it is told which they are: the commands, the launcher and the module ask here.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::recorded::Recorded;
use crate::host::unit_file;
use crate::paths;
use crate::text::shown;
use crate::units::known::known;
use crate::units::takes::refused;
use crate::units::{Assignment, SliceName, section};

/// Whose a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The policy's: it is in the generator's drop-in.
    Policy,
    /// The policy's: PID 1 was told it at a login.
    Login,
    /// The administrator's, by `systemctl set-property`.
    SetProperty {
        /// Whether it holds after the next boot.
        lasting: bool,
    },
    /// Another drop-in's.
    DropIn,
    /// The unit's own file's.
    UnitFile,
}

/// The way in which the policy sets a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The generator's drop-in, which PID 1 reads.
    DropIn,
    /// PID 1 is told, and keeps it in a drop-in of its own until the next boot.
    Told,
}

/// The files of one unit, in the order in which they apply.
#[derive(Debug)]
pub struct Files<'a> {
    unit: String,
    section: &'static str,
    read: Vec<(Cow<'a, Path>, Cow<'a, [Assignment]>)>,
    recorded: Recorded,
}

/// What sets a value, or hides what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    /// What is set, such as `CPUWeight`.
    pub setting: String,
    /// Whose it is.
    pub owner: Owner,
    /// The file, an absolute path.
    pub file: PathBuf,
    /// The line, counted from 1, and the value as it stands there, which is empty where the line undoes those
    /// before it; `None` for a file that hides the policy's drop-in and does not set the value itself.
    pub set: Option<(usize, String)>,
}

impl<'a> Files<'a> {
    /// The unit's files with what they set. Paths may be absolute.
    #[must_use]
    pub fn new(
        unit: &str,
        files: impl IntoIterator<Item = (Cow<'a, Path>, Cow<'a, [Assignment]>)>,
        recorded: Recorded,
    ) -> Self {
        let section = section(unit).unwrap_or_default();
        Self { unit: unit.to_owned(), section, read: files.into_iter().collect(), recorded }
    }

    /// Reads these files below `root`.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn read(root: &Path, unit: &str, files: Vec<PathBuf>, recorded: Recorded) -> Result<Self> {
        let read = |file: PathBuf| {
            let assignments = unit_file::read(root, &file)?;
            Ok((Cow::Owned(file), Cow::Owned(assignments)))
        };
        let files = files.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Self::new(unit, files, recorded))
    }

    /// Reads those of a slice below `root`, and what PID 1 was told of it.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn of_slice(root: &Path, slice: &SliceName) -> Result<Self> {
        let name = slice.as_str();
        Self::read(root, name, unit_file::slice_files(root, slice)?, Recorded::of(root, name))
    }

    /// The value that holds; `None` where no file sets it.
    #[must_use]
    pub fn holding(&self, setting: &str) -> Option<Winner> {
        self.read.iter().rev().find_map(|(file, all)| self.last(file, all, setting))
    }

    /// The same; `None` also where the last line undoes those before it.
    #[must_use]
    pub fn set(&self, setting: &str) -> Option<Winner> {
        self.holding(setting).filter(|winner| !winner.sets(""))
    }

    /// The lines that hold together of a setting that collects: those after the last empty one.
    #[must_use]
    pub fn collected(&self, setting: &str) -> Vec<Winner> {
        let mut lines = Vec::new();
        for (file, all) in &self.read {
            for set in all.iter().filter(|set| self.is_of(set, setting)) {
                if set.value.is_empty() {
                    lines.clear();
                } else {
                    lines.push(self.winner(file, set));
                }
            }
        }
        lines
    }

    /// The value that would hold without the policy; `None` where no file sets it.
    #[must_use]
    pub fn without_policy(&self, setting: &str) -> Option<Winner> {
        let mut each = self.read.iter().rev().filter_map(|(file, all)| self.last(file, all, setting));
        each.find(|winner| !winner.is_the_policys())
    }

    /// Every setting of the unit's section that a file sets, and that is one of `wanted`, with what holds.
    #[must_use]
    pub fn all(&self, wanted: impl Fn(&str) -> bool) -> Vec<Winner> {
        let set = self.read.iter().flat_map(|(_, all)| all.iter()).filter(|set| set.section == self.section);
        let mut keys: Vec<&str> = set.map(|set| set.key.as_str()).filter(|key| wanted(key)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().filter_map(|key| self.holding(key)).collect()
    }

    /// What wins over the policy's value, or would if the policy had one; `None` where the policy's holds.
    #[must_use]
    pub fn over(&self, means: Means, setting: &str) -> Option<Winner> {
        let ours = match means {
            Means::DropIn => paths::DROP_IN.to_owned(),
            Means::Told => runtime_name(setting),
        };
        let is_later = |file: &Path| is_drop_in(file) && file.file_name().is_some_and(|name| *name >= *ours);
        let later = self.read.iter().filter(|(file, _)| is_later(file));
        let over = later.rev().find_map(|(file, all)| self.last(file, all, setting));
        match over {
            Some(over) => Some(over).filter(|over| !over.is_the_policys()),
            None if means == Means::DropIn => self.hidden(setting),
            None => None,
        }
    }

    /// A file of the generator's name takes the place of the generator's.
    fn hidden(&self, setting: &str) -> Option<Winner> {
        let is_namesake = |file: &Path| file.ends_with(paths::DROP_IN) && !is_generated(file);
        let (file, _) = self.read.iter().find(|(file, _)| is_namesake(file))?;
        let file = paths::absolute(file);
        Some(Winner { setting: setting.to_owned(), owner: Owner::DropIn, file, set: None })
    }

    fn last(&self, file: &Path, assignments: &[Assignment], setting: &str) -> Option<Winner> {
        Some(self.winner(file, assignments.iter().rfind(|set| self.is_of(set, setting))?))
    }

    /// Whether PID 1 takes a line for this setting; one that it refuses it leaves out, and what was set before holds.
    fn is_of(&self, set: &Assignment, setting: &str) -> bool {
        let is_taken = |value: &str| {
            known(setting).is_none_or(|setting| refused(setting.takes, value, &self.unit, None).is_none())
        };
        set.section == self.section && set.key == setting && is_taken(&set.value)
    }

    fn winner(&self, file: &Path, Assignment { key, value, line, .. }: &Assignment) -> Winner {
        let file = paths::absolute(file);
        let owner = self.owner(&file, key, value);
        Winner { setting: key.clone(), owner, file, set: Some((*line, value.clone())) }
    }

    fn owner(&self, file: &Path, setting: &str, value: &str) -> Owner {
        let is_in = |directory: &str| file.starts_with(paths::absolute(directory));
        if is_generated(file) {
            Owner::Policy
        } else if is_in(paths::RUNTIME_CONTROL) {
            if self.recorded.has_told(setting, value) {
                Owner::Login
            } else {
                Owner::SetProperty { lasting: false }
            }
        } else if is_in(paths::LASTING_CONTROL) {
            Owner::SetProperty { lasting: true }
        } else if is_drop_in(file) {
            Owner::DropIn
        } else {
            Owner::UnitFile
        }
    }
}

impl Winner {
    /// Whether nobody but fairslice has set it.
    #[must_use]
    pub fn is_the_policys(&self) -> bool {
        matches!(self.owner, Owner::Policy | Owner::Login)
    }

    /// Whether it sets this very value.
    #[must_use]
    pub fn sets(&self, value: &str) -> bool {
        self.set.as_ref().is_some_and(|(_, set)| set == value)
    }

    /// Who it is, in one line: `/etc/systemd/system/a.slice.d/50-mine.conf:2 sets CPUWeight=300`.
    #[must_use]
    pub fn said(&self) -> String {
        let file = shown(&self.file);
        match &self.set {
            Some((line, value)) => format!("{file}:{line} sets {}={value}", self.setting),
            None => format!("{file} hides the generator's file of that name"),
        }
    }
}

/// The name of the drop-in in which PID 1 keeps what it was told.
fn runtime_name(setting: &str) -> String {
    format!("50-{setting}.conf")
}

/// That file, for what holds until the next boot.
#[must_use]
pub fn runtime_file(unit: &str, setting: &str) -> PathBuf {
    Path::new(paths::RUNTIME_CONTROL).join(format!("{unit}.d")).join(runtime_name(setting))
}

fn is_generated(file: &Path) -> bool {
    file.ends_with(paths::DROP_IN) && paths::absolute(file).starts_with(paths::absolute(paths::GENERATED))
}

fn is_drop_in(file: &Path) -> bool {
    file.parent().is_some_and(|parent| parent.extension().is_some_and(|kind| kind == "d"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::file::parse;

    /// What files of these names say, in this order.
    fn files(unit: &'static str, all: &[(&str, &str)], recorded: Recorded) -> Files<'static> {
        let parsed = all.iter().map(|(path, text)| {
            let path = PathBuf::from(path);
            let assignments = parse(text, &path);
            (Cow::Owned(path), Cow::Owned(assignments))
        });
        Files::new(unit, parsed.collect::<Vec<_>>(), recorded)
    }

    const OURS: (&str, &str) = (
        "run/systemd/generator/a.service.d/40-fairslice.conf",
        "[Service]\nOOMScoreAdjust=-500\nSlice=a.slice\n",
    );

    fn owners(all: &[(&str, &str)]) -> (Option<Owner>, Option<String>) {
        let files = files("a.service", all, Recorded::default());
        let holding = files.holding("OOMScoreAdjust").map(|winner| winner.owner);
        (holding, files.over(Means::DropIn, "OOMScoreAdjust").map(|over| over.said()))
    }

    #[test]
    fn what_sorts_after_ours_wins() {
        let own = ("/etc/systemd/system/a.service", "[Service]\nOOMScoreAdjust=7\n");
        let before = ("/etc/systemd/system/a.service.d/39-mine.conf", "[Service]\nOOMScoreAdjust=8\n");
        let after = ("/etc/systemd/system/a.service.d/50-mine.conf", "[Service]\n\nOOMScoreAdjust=-900\n");
        assert_eq!(owners(&[own, before, OURS]), (Some(Owner::Policy), None));
        let said = "/etc/systemd/system/a.service.d/50-mine.conf:3 sets OOMScoreAdjust=-900".to_owned();
        assert_eq!(owners(&[own, before, OURS, after]), (Some(Owner::DropIn), Some(said.clone())));
        // Before the generator has written ours.
        assert_eq!(owners(&[own, after]).1, Some(said));
        assert_eq!(owners(&[own, before]), (Some(Owner::DropIn), None));
        assert_eq!(owners(&[own]), (Some(Owner::UnitFile), None));
        assert_eq!(owners(&[]), (None, None));
        let elsewhere = ("/etc/systemd/system/a.service.d/50-mine.conf", "[Unit]\nOOMScoreAdjust=-900\n");
        assert_eq!(owners(&[OURS, elsewhere]), (Some(Owner::Policy), None));
        let refused = ("/etc/systemd/system/a.service.d/50-mine.conf", "[Service]\nOOMScoreAdjust=-9000\n");
        assert_eq!(owners(&[OURS, refused]), (Some(Owner::Policy), None));
        let undone = ("/etc/systemd/system/a.service.d/50-mine.conf", "[Service]\nOOMScoreAdjust=\n");
        assert_eq!(
            owners(&[OURS, undone]).1.as_deref(),
            Some("/etc/systemd/system/a.service.d/50-mine.conf:2 sets OOMScoreAdjust=")
        );
    }

    #[test]
    fn a_namesake_hides_ours() {
        let namesake = ("/etc/systemd/system/a.service.d/40-fairslice.conf", "[Service]\nNice=1\n");
        let hides =
            "/etc/systemd/system/a.service.d/40-fairslice.conf hides the generator's file of that name";
        assert_eq!(owners(&[namesake]), (None, Some(hides.to_owned())));
        let namesake = (namesake.0, "[Service]\nOOMScoreAdjust=1\n");
        assert_eq!(
            owners(&[namesake]).1.as_deref(),
            Some("/etc/systemd/system/a.service.d/40-fairslice.conf:2 sets OOMScoreAdjust=1")
        );
    }

    #[test]
    fn what_pid1_was_told_is_told_from_set_property() {
        let runtime = |value: &str| {
            let text = format!("[Slice]\nCPUWeight={value}\n");
            let path = "/run/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf";
            let directory = tempfile::tempdir().unwrap();
            crate::fixture::write(
                directory.path(),
                "run/fairslice/properties/user-1000.slice",
                "CPUWeight=200\n",
            );
            let recorded = Recorded::of(directory.path(), "user-1000.slice");
            let files = files("user-1000.slice", &[(path, &text)], recorded);
            (files.holding("CPUWeight").unwrap().owner, files.over(Means::Told, "CPUWeight").is_some())
        };
        assert_eq!(runtime("200"), (Owner::Login, false));
        assert_eq!(runtime("50"), (Owner::SetProperty { lasting: false }, true));
        let every_user = ("/etc/systemd/system/user-.slice.d/45-all.conf", "[Slice]\nCPUWeight=9\n");
        let files = files("user-1000.slice", &[every_user], Recorded::default());
        assert_eq!(files.over(Means::Told, "CPUWeight"), None, "it sorts before what PID 1 is told");
    }
}
