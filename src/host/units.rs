//! What PID 1 says of its units, all of them at once: the output of `systemctl show`.
//!
//! systemctl may be asked by anybody, and its `KEY=VALUE` lines are made for programs; the private
//! socket of [`super::pid1`] is root's, and gives one value at a time.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::program::program;
use crate::paths;
use crate::policy::Property;
use crate::text::shown;

/// The properties that are asked for: `org.freedesktop.systemd1(5)`.
const PROPERTIES: [&str; 41] = [
    "Id",
    "Names",
    "LoadState",
    "ActiveState",
    "SubState",
    "FragmentPath",
    "DropInPaths",
    "NeedDaemonReload",
    "Transient",
    "ActiveEnterTimestampMonotonic",
    "Slice",
    "ControlGroup",
    "Delegate",
    "CPUAccounting",
    "MemoryAccounting",
    "CPUWeight",
    "StartupCPUWeight",
    "CPUQuotaPerSecUSec",
    "AllowedCPUs",
    "IOWeight",
    "MemoryMin",
    "MemoryLow",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "TasksMax",
    "OOMScoreAdjust",
    "OOMPolicy",
    "ManagedOOMSwap",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "Type",
    "MainPID",
    "ExecMainPID",
    "ExecMainStartTimestampMonotonic",
    "User",
    "KillMode",
    "RemainAfterExit",
    "DefaultMemoryMin",
    "DefaultMemoryLow",
];
/// A property of the manager's.
const LOADED_AT: &str = "UnitsLoadTimestampMonotonic";
/// Units of other types hold no processes but while they are mounted, or come and go.
const KINDS: [&str; 5] = ["*.slice", "*.service", "*.scope", "*.socket", "*.mount"];

/// Units by name.
#[derive(Debug, Clone, Default)]
pub struct Units(BTreeMap<String, Unit>);

/// What PID 1 says of one unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    properties: BTreeMap<String, String>,
}

impl Units {
    /// Asks PID 1 for every unit that it has loaded. Below a root of its own there is no PID 1: what
    /// it would say lies in [`paths::CAPTURED_UNITS`].
    ///
    /// # Errors
    /// systemctl cannot be run, or cannot reach PID 1.
    pub fn read(root: &Path) -> Result<Self> {
        if root != Path::new("/") {
            let file = root.join(paths::CAPTURED_UNITS);
            let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
            return Ok(Self::parse(&text));
        }
        Self::ask(&KINDS)
    }

    /// The same of these units alone, loaded or not, which takes a fraction of the time.
    ///
    /// # Errors
    /// Those of [`Units::read`].
    pub fn read_these(root: &Path, names: &[String]) -> Result<Self> {
        if root != Path::new("/") {
            let mut units = Self::read(root)?;
            units.0.retain(|name, _| names.contains(name));
            return Ok(units);
        }
        if names.is_empty() {
            // Without a unit, systemctl shows the manager.
            return Ok(Self::default());
        }
        Self::ask(&[["--"].as_slice(), &names.iter().map(String::as_str).collect::<Vec<_>>()].concat())
    }

    fn ask(units: &[&str]) -> Result<Self> {
        let properties = PROPERTIES.join(",");
        let arguments = [&["--property", properties.as_str()], units].concat();
        Ok(Self::parse(&show(&arguments)?))
    }

    /// From the output of `systemctl show`: lines `KEY=VALUE`, an empty one between two units.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let unit = |block: &str| {
            let properties = block.lines().filter_map(|line| line.split_once('='));
            Unit { properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).collect() }
        };
        let units = text.split("\n\n").map(unit);
        Self(units.filter_map(|unit| Some((unit.text("Id")?.to_owned(), unit))).collect())
    }

    /// The unit of this name; not by an alias.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Unit> {
        self.0.get(name)
    }

    /// Every unit with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Unit)> {
        self.0.iter().map(|(name, unit)| (name.as_str(), unit))
    }
}

/// When PID 1 last read the unit files, in µs of the monotonic clock: at the boot, or at the last
/// daemon-reload. Below a root of its own, [`paths::CAPTURED_MANAGER`] says so.
///
/// # Errors
/// systemctl cannot be run, or cannot reach PID 1.
pub fn loaded_at(root: &Path) -> Result<u64> {
    let text = if root == Path::new("/") {
        show(&["--property", LOADED_AT])?
    } else {
        let file = root.join(paths::CAPTURED_MANAGER);
        fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?
    };
    let value = text.trim().strip_prefix(LOADED_AT).and_then(|rest| rest.strip_prefix('='));
    value.and_then(|number| number.parse().ok()).with_context(|| format!("systemctl show: no {LOADED_AT}"))
}

fn show(arguments: &[&str]) -> Result<String> {
    let mut command = program(paths::SYSTEMCTL);
    let done = command
        .args(["show", "--all", "--no-pager"])
        .args(arguments)
        .output()
        .context("running systemctl show")?;
    if !done.status.success() {
        bail!("systemctl show: {}", shown(OsStr::from_bytes(done.stderr.trim_ascii())).at_most(300));
    }
    // D-Bus carries nothing else.
    String::from_utf8(done.stdout).context("systemctl show: its output is not UTF-8")
}

impl Unit {
    /// A property as systemctl prints it. `None` where this unit or this systemd has no such one, and
    /// where it is empty or `[not set]`.
    #[must_use]
    pub fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property).map(String::as_str).filter(|text| !matches!(*text, "" | "[not set]"))
    }

    /// A property that is a number, `infinity` being [`u64::MAX`]. An idle `CPUWeight=` is 0.
    #[must_use]
    pub fn number(&self, property: &str) -> Option<u64> {
        match self.text(property)? {
            "infinity" => Some(u64::MAX),
            "idle" => Some(0),
            number => number.parse().ok(),
        }
    }

    /// What a weight or limit comes to: what is set, and else what the kernel has. No limit is [`u64::MAX`].
    #[must_use]
    pub fn resource(&self, property: Property) -> u64 {
        let set = self.number(property.unit).filter(|number| property.value(*number).is_some());
        set.unwrap_or_else(|| property.unset())
    }

    /// Whether a property is `yes`.
    #[must_use]
    pub fn is(&self, property: &str) -> bool {
        self.text(property) == Some("yes")
    }

    /// Whether the unit runs, or is about to: it has a cgroup.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.text("ActiveState"), Some("active" | "reloading" | "activating" | "deactivating"))
    }

    /// Its cgroup, from the root of the tree.
    #[must_use]
    pub fn cgroup(&self) -> Option<PathBuf> {
        self.text("ControlGroup").map(|path| PathBuf::from(path.trim_start_matches('/')))
    }

    /// The files of its settings, in the order in which they apply: the unit file, then the drop-ins.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let drop_ins = self.text("DropInPaths").unwrap_or_default().split_whitespace();
        self.text("FragmentPath").into_iter().chain(drop_ins).map(Path::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CPU_WEIGHT, MEMORY_LOW};

    #[test]
    fn units_are_told_apart() {
        let text = "Id=a.slice\nCPUWeight=200\nMemoryMax=infinity\nMemoryLow=[not set]\nActiveState=active\n\
                    ControlGroup=/a.slice\n\nId=b.service\nCPUWeight=idle\nNeedDaemonReload=yes\n\
                    FragmentPath=/etc/systemd/system/b.service\nDropInPaths=/etc/x.conf /run/y.conf\n";
        let units = Units::parse(text);
        assert_eq!(units.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a.slice", "b.service"]);
        let (slice, service) = (units.get("a.slice").unwrap(), units.get("b.service").unwrap());
        assert_eq!((slice.number("CPUWeight"), slice.number("MemoryMax")), (Some(200), Some(u64::MAX)));
        assert_eq!((slice.text("MemoryLow"), slice.cgroup()), (None, Some(PathBuf::from("a.slice"))));
        assert!(slice.is_active() && !service.is_active() && service.is("NeedDaemonReload"));
        assert_eq!(service.number("CPUWeight"), Some(0));
        assert_eq!([slice, service].map(|unit| unit.resource(CPU_WEIGHT)), [200, 0]);
        assert_eq!([slice, service].map(|unit| unit.resource(MEMORY_LOW)), [0, 0]);
        let files: Vec<_> = service.files().collect();
        assert_eq!(files.len(), 3);
        assert_eq!(files.last(), Some(&Path::new("/run/y.conf")));
    }
}
