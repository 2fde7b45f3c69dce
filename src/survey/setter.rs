//! Who has set a limit of a cgroup, by the files of its unit: PID 1 is not asked.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Files, Owner, Winner, declared};
use crate::host::account::Account;
use crate::host::cgroup::Standing;
use crate::host::recorded::Recorded;
use crate::host::tree::{Id, Tree};
use crate::host::unit_file::{self, ServiceUnits};
use crate::policy::Policy;
use crate::text::Foreign;
use crate::units::SliceName;

/// Who has set a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setter {
    /// A line of a file, or of the policy.
    Line(SetLine),
    /// Nobody: the manager's default, by its setting.
    Default(&'static str),
    /// Whoever runs in this unit, which has been given its cgroup.
    Inside(String),
    /// Nobody whom a file knows: another program, or somebody who wrote to cgroupfs.
    Unknown,
}

/// A setting and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetLine {
    /// `MemoryHigh`
    pub setting: String,
    /// As it stands there.
    pub value: String,
    /// The file, absolute.
    pub file: Foreign,
    /// From 1.
    pub line: usize,
    /// Whether that is the policy.
    pub is_the_policys: bool,
}

/// Finds out, reading what it needs when it is asked.
#[derive(Debug)]
pub struct Setters<'r> {
    root: &'r Path,
    units: OnceCell<Option<ServiceUnits>>,
    policy: OnceCell<Policy>,
}

impl<'r> Setters<'r> {
    /// On the machine below `root`.
    #[must_use]
    pub fn new(root: &'r Path) -> Self {
        Self { root, units: OnceCell::new(), policy: OnceCell::new() }
    }

    /// Who has set this of a cgroup.
    #[must_use]
    pub fn of(&self, tree: &Tree, id: Id, setting: &str) -> Setter {
        let Some(unit) = tree.unit(id) else {
            let above = tree.upwards(id).find(|id| tree[*id].standing == Standing::Unit);
            let above = above.and_then(|id| tree.unit(id));
            return above.map_or(Setter::Unknown, |unit| Setter::Inside(unit.to_owned()));
        };
        let Some(winner) = self.files(unit).ok().and_then(|files| files.set(setting)) else {
            // systemd-system.conf(5): not for slices.
            let is_default = setting == "TasksMax" && !tree.is_slice(id);
            return if is_default { Setter::Default("DefaultTasksMax") } else { Setter::Unknown };
        };
        self.line(winner, tree.user(id)).map_or(Setter::Unknown, Setter::Line)
    }

    fn files(&self, unit: &str) -> Result<Files<'static>> {
        let root = self.root;
        if let Ok(slice) = SliceName::new(unit) {
            return Files::of_slice(root, &slice);
        }
        let files = if unit.ends_with(".scope") {
            unit_file::scope_files(root, unit)?
        } else {
            let units = self.units.get_or_init(|| ServiceUnits::read(root).ok());
            units.as_ref().map_or(Ok(Vec::new()), |units| units.files(unit))?
        };
        Files::read(root, unit, files, Recorded::of(root, unit))
    }

    fn line(&self, winner: Winner, user: Option<u32>) -> Option<SetLine> {
        let (line, value) = winner.set.clone()?;
        let declared = match winner.owner {
            Owner::Policy => self.above(&winner.file, line),
            Owner::Login => user.and_then(|uid| self.declared(uid, &winner.setting)),
            _ => None,
        };
        let is_the_policys = winner.is_the_policys();
        let (file, line) = declared.unwrap_or((winner.file, line));
        Some(SetLine { setting: winner.setting, value, file: file.into(), line, is_the_policys })
    }

    /// The generator says above each line where the policy has it.
    fn above(&self, file: &Path, line: usize) -> Option<(PathBuf, usize)> {
        let text = fs::read_to_string(self.root.join(file.strip_prefix("/").unwrap_or(file))).ok()?;
        let comment = text.lines().nth(line.checked_sub(2)?)?.strip_prefix("# ")?;
        let (file, line) = comment.rsplit_once(':')?;
        Some((file.into(), line.parse().ok()?))
    }

    /// Where the policy has what PID 1 was told at a login.
    fn declared(&self, uid: u32, setting: &str) -> Option<(PathBuf, usize)> {
        let policy = self.policy.get_or_init(|| declared(self.root).policy);
        let account = Account::by_uid(uid).ok().flatten()?;
        let (_, rule) = policy.logins.rule(&account).ok()?;
        let found = rule.resources.settings().find(|one| one.property.unit == setting)?;
        Some((found.origin.file.to_path_buf(), found.origin.line))
    }
}
