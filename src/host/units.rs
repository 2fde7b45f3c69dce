//! What PID 1 says of its units, all of them at once.
//!
//! Values are kept as `systemctl show` prints them: so it is in a machine that was captured for a test.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::geteuid;
use zvariant::Value as Variant;

use super::cpu_set::CpuSet;
use super::pid1::{Asking, Listed, Question};
use crate::paths;
use crate::text::shown;
use crate::units::span::{SECOND, span};
use crate::units::{OfService, Property, ServiceValue, SettingValue};

/// How long PID 1 is waited for, all in all: it may be in the middle of loading many units anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// Units of other types hold no processes but while they are mounted, or come and go.
const KINDS: [&str; 5] = ["*.slice", "*.service", "*.scope", "*.socket", "*.mount"];
/// The interface that every unit has; what is not in there is in that of its type.
const EVERY_UNIT: &str = "org.freedesktop.systemd1.Unit";
/// The properties that are asked for and in there.
const OF_EVERY_UNIT: [&str; 6] =
    [NAMES, "FragmentPath", DROP_IN_PATHS, "Transient", "ActiveEnterTimestampMonotonic", NEEDS_RELOAD];
const NAMES: &str = "Names";
const DROP_IN_PATHS: &str = "DropInPaths";
/// Whether its files have changed since PID 1 has read them. It looks for drop-ins to tell that, which takes ten
/// times as long as a setting does.
pub const NEEDS_RELOAD: &str = "NeedDaemonReload";
/// Properties of the manager's.
const LOADED_AT: &str = "UnitsLoadTimestampMonotonic";
const VERSION: &str = "Version";
/// What manages units by `ManagedOOM…=`.
const OOMD: &str = "systemd-oomd.service";

/// Units by name.
#[derive(Debug, Clone, Default)]
pub struct Units(BTreeMap<String, Unit>);

/// What PID 1 says of one unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    properties: BTreeMap<String, Value>,
}

/// The value of a property.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Paths(Vec<PathBuf>),
}

impl Units {
    /// Asks PID 1 for every unit that it has loaded. Below a root of its own there is no PID 1: what
    /// it would say lies in [`paths::CAPTURED_UNITS`].
    ///
    /// # Errors
    /// PID 1 cannot be reached: its own socket answers root, the system's bus everybody.
    pub fn read(root: &Path) -> Result<Self> {
        if root != Path::new("/") {
            return Self::captured(root);
        }
        let mut pid1 = pid1(root)?;
        let listed = pid1.units_like(&KINDS)?;
        Self::ask(&mut pid1, &listed, &[])
    }

    /// The same of these units alone, loaded or not, which takes a fraction of the time; and [`NEEDS_RELOAD`].
    ///
    /// # Errors
    /// Those of [`Units::read`].
    pub fn read_these(root: &Path, names: &[String]) -> Result<Self> {
        if root != Path::new("/") {
            let mut units = Self::captured(root)?;
            units.0.retain(|name, _| names.contains(name));
            return Ok(units);
        }
        let mut pid1 = pid1(root)?;
        let listed = pid1.units_of(names)?;
        let (active, inactive): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_active);
        let mut units = Self::ask(&mut pid1, &active, &[NEEDS_RELOAD])?;
        for listed in inactive {
            // PID 1 drops a unit that nothing refers to, and loads it again for each question.
            let mut unit = Unit::listed(&listed);
            unit.properties.extend(pid1.everything(&listed.name, Value::of)?);
            units.0.insert(listed.name, unit);
        }
        Ok(units)
    }

    /// Asks for these properties, too, of units that are active.
    ///
    /// # Errors
    /// Those of [`Units::read`].
    pub fn ask_also(&mut self, root: &Path, names: &[String], properties: &[&str]) -> Result<()> {
        // What was captured has them.
        if names.is_empty() || root != Path::new("/") {
            return Ok(());
        }
        let mut pid1 = pid1(root)?;
        let of_unit = |unit| properties.iter().map(move |property| question(unit, property));
        let questions: Vec<_> = names.iter().flat_map(|name| of_unit(name)).collect();
        let answers = pid1.answers(&questions, |question, value| Value::of(question.property, value))?;
        self.add(&questions, answers);
        Ok(())
    }

    fn add(&mut self, questions: &[Question<'_>], answers: Vec<Option<Value>>) {
        for (question, answer) in questions.iter().zip(answers) {
            if let (Some(unit), Some(value)) = (self.0.get_mut(question.unit), answer) {
                unit.properties.insert(question.property.to_owned(), value);
            }
        }
    }

    fn captured(root: &Path) -> Result<Self> {
        let file = root.join(paths::CAPTURED_UNITS);
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
        Ok(Self::parse(&text))
    }

    /// Asks for what is needed of each unit, and for these properties too.
    fn ask(pid1: &mut Asking, listed: &[Listed], more: &[&str]) -> Result<Self> {
        let with_oomd = listed.iter().any(|unit| unit.name == OOMD && is_active(unit));
        let questions: Vec<_> = listed.iter().flat_map(|unit| questions(unit, with_oomd, more)).collect();
        let answers = pid1.answers(&questions, |question, value| Value::of(question.property, value))?;
        let mut units = Self(listed.iter().map(|unit| (unit.name.clone(), Unit::listed(unit))).collect());
        units.add(&questions, answers);
        Ok(units)
    }

    /// From the output of `systemctl show`: lines `KEY=VALUE`, an empty one between two units.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let unit = |block: &str| {
            let mut unit = Unit::default();
            for (key, text) in block.lines().filter_map(|line| line.split_once('=')) {
                let value = match (key, unit.properties.get(key)) {
                    (DROP_IN_PATHS, _) => Value::Paths(words(text)),
                    // One of those that have a line for each device.
                    (_, Some(Value::Text(before))) => Value::Text(format!("{before}\n{text}")),
                    _ => Value::Text(text.to_owned()),
                };
                unit.properties.insert(key.to_owned(), value);
            }
            unit
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

/// What PID 1 says of itself.
#[derive(Debug, Clone, Copy)]
pub struct ManagerFacts {
    /// When it last read the unit files, in µs of the monotonic clock: at the boot, or at the last daemon-reload.
    pub loaded_at: u64,
    /// Which systemd it is: 257 of `257.13-1~deb13u1`; `None` where that is no number.
    pub version: Option<u16>,
}

/// Asks PID 1 for it. Below a root of its own, [`paths::CAPTURED_MANAGER`] says so.
///
/// # Errors
/// Those of [`Units::read`].
pub fn manager(root: &Path) -> Result<ManagerFacts> {
    let number = |version: &str| version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    if root == Path::new("/") {
        let mut pid1 = pid1(root)?;
        return Ok(ManagerFacts {
            loaded_at: pid1.number(LOADED_AT)?,
            version: number(&pid1.text(VERSION)?),
        });
    }
    let file = root.join(paths::CAPTURED_MANAGER);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
    let value = |property: &str| text.lines().find_map(|line| line.strip_prefix(property)?.strip_prefix('='));
    let loaded_at = value(LOADED_AT).and_then(|number| number.parse().ok());
    Ok(ManagerFacts {
        loaded_at: loaded_at.with_context(|| format!("{}: no {LOADED_AT}", shown(&file)))?,
        version: value(VERSION).and_then(number),
    })
}

/// A connection to PID 1. Its own socket needs no bus, and answers root.
fn pid1(root: &Path) -> Result<Asking> {
    let deadline = Instant::now() + PATIENCE;
    if geteuid().is_root() { Asking::as_root(root, deadline) } else { Asking::as_anybody(root, deadline) }
}

fn is_active(unit: &Listed) -> bool {
    !matches!(unit.active.as_str(), "inactive" | "failed")
}

/// What PID 1 is asked of a unit. Each question takes it some 20 µs, an emulated one half a millisecond: so none
/// is asked that says nothing of a unit of this type, or of one that is not active.
fn questions<'a>(unit: &'a Listed, with_oomd: bool, more: &'a [&str]) -> impl Iterator<Item = Question<'a>> {
    let Listed { name, load, .. } = unit;
    let kind = name.rsplit('.').next().unwrap_or_default();
    let is_service = kind == "service";
    // What can have processes.
    let holds = is_service || matches!(kind, "slice" | "scope");
    let is_loaded = load == "loaded";
    let is_active = is_loaded && is_active(unit);
    // One that waits to be started again is activating.
    let has_ended = matches!(unit.active.as_str(), "failed" | "activating");
    let asked: [(bool, &[&str]); 12] = [
        (is_loaded, &["FragmentPath", DROP_IN_PATHS, "Slice"]),
        // No other type has aliases.
        (is_loaded && matches!(kind, "service" | "socket"), &[NAMES]),
        (is_loaded && holds, &["MemoryMin", "MemoryLow", "MemoryHigh", "MemoryMax"]),
        (is_loaded && is_service, &["OOMScoreAdjust"]),
        (is_loaded && is_service && has_ended, &["Result", "MemoryPeak"]),
        (is_active, &["ControlGroup", "ActiveEnterTimestampMonotonic", "CPUWeight"]),
        (is_active && holds, &["StartupCPUWeight", "IOWeight", "MemorySwapMax", "TasksMax"]),
        (is_active && holds, &["CPUQuotaPerSecUSec", "AllowedCPUs", "AllowedMemoryNodes"]),
        (is_active && kind == "slice", &["DefaultMemoryMin", "DefaultMemoryLow"]),
        (is_active && matches!(kind, "service" | "scope"), &["Delegate", "OOMPolicy"]),
        (is_active && is_service, &["MainPID", "ExecMainStartTimestampMonotonic", "KillMode", "Transient"]),
        (
            is_active && holds && with_oomd,
            &[
                "ManagedOOMSwap",
                "ManagedOOMMemoryPressure",
                "ManagedOOMMemoryPressureLimit",
                "ManagedOOMMemoryPressureDurationUSec",
            ],
        ),
    ];
    let asked = asked.into_iter().filter(|(applies, _)| *applies).flat_map(|(_, properties)| properties);
    asked.chain(more).map(move |property| question(name, property))
}

fn question<'a>(unit: &'a str, property: &'a str) -> Question<'a> {
    let interface = match unit.rsplit('.').next().unwrap_or_default() {
        _ if OF_EVERY_UNIT.contains(&property) => EVERY_UNIT,
        "slice" => "org.freedesktop.systemd1.Slice",
        "service" => "org.freedesktop.systemd1.Service",
        "scope" => "org.freedesktop.systemd1.Scope",
        "socket" => "org.freedesktop.systemd1.Socket",
        _ => "org.freedesktop.systemd1.Mount",
    };
    Question { unit, interface, property }
}

/// Of microseconds, as `format_timespan` of systemd's `src/basic/time-util.c` has it: `1min 30s`.
fn timespan(mut microseconds: u64) -> String {
    let mut parts = Vec::new();
    for (unit, length) in
        [("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)]
    {
        if microseconds >= length {
            parts.push(format!("{}{unit}", microseconds / length));
            microseconds %= length;
        }
    }
    if parts.is_empty() { "0".to_owned() } else { parts.join(" ") }
}

/// Of a set of CPUs or nodes, a bit each.
fn numbers(mask: &[u8]) -> impl Iterator<Item = u32> {
    let of_byte = |(byte, base): (&u8, u32)| {
        let byte = *byte;
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| base + bit)
    };
    mask.iter().zip((0..).step_by(8)).flat_map(of_byte)
}

/// A setting of a device: its path, and a number.
fn of_device(value: &Variant<'_>) -> Option<String> {
    let Variant::Structure(fields) = value else { return None };
    match fields.fields() {
        [Variant::Str(path), Variant::U64(u64::MAX)] => Some(format!("{} infinity", path.as_str())),
        [Variant::Str(path), Variant::U64(number)] => Some(format!("{} {number}", path.as_str())),
        _ => None,
    }
}

impl Value {
    /// What D-Bus carries.
    fn of(property: &str, value: &Variant<'_>) -> Option<Self> {
        let is_weight = property.ends_with("Weight");
        let text = match value {
            Variant::Array(mask) if property.starts_with("Allowed") => {
                let bytes: Vec<u8> =
                    mask.iter().map(|byte| byte.downcast_ref().ok()).collect::<Option<_>>()?;
                numbers(&bytes).collect::<CpuSet>().to_string()
            }
            Variant::Array(array) if property.starts_with("IO") => {
                array.iter().map(of_device).collect::<Option<Vec<_>>>()?.join("\n")
            }
            Variant::Array(array) => {
                let texts: Vec<&str> =
                    array.iter().map(|text| text.downcast_ref().ok()).collect::<Option<_>>()?;
                if property == DROP_IN_PATHS {
                    return Some(Self::Paths(texts.into_iter().map(PathBuf::from).collect()));
                }
                texts.join(" ")
            }
            Variant::Str(text) => text.to_string(),
            Variant::Bool(is) => if *is { "yes" } else { "no" }.to_owned(),
            Variant::I32(number) => number.to_string(),
            Variant::U32(number) => number.to_string(),
            Variant::U64(u64::MAX) if is_weight => "[not set]".to_owned(),
            Variant::U64(0) if is_weight => "idle".to_owned(),
            Variant::U64(u64::MAX) => "infinity".to_owned(),
            Variant::U64(microseconds) if property.ends_with("USec") => timespan(*microseconds),
            Variant::U64(number) => number.to_string(),
            _ => return None,
        };
        Some(Self::Text(text))
    }
}

impl Unit {
    /// As PID 1 lists it.
    fn listed(unit: &Listed) -> Self {
        let Listed { name, load, active, sub } = unit;
        let known =
            [("Id", name), (NAMES, name), ("LoadState", load), ("ActiveState", active), ("SubState", sub)];
        let properties = known.map(|(property, text)| (property.to_owned(), Value::Text(text.clone())));
        Self { properties: properties.into() }
    }

    /// A property as systemctl prints it. `None` where this unit or this systemd has no such one, and
    /// where it is empty or `[not set]`.
    #[must_use]
    pub fn text(&self, property: &str) -> Option<&str> {
        let Value::Text(text) = self.properties.get(property)? else { return None };
        Some(text.as_str()).filter(|text| !matches!(*text, "" | "[not set]"))
    }

    /// Whether this systemd has the property, and the unit has it, whatever it says.
    #[must_use]
    pub fn has(&self, property: &str) -> bool {
        self.properties.contains_key(property)
    }

    /// A property that is a number, `infinity` being [`u64::MAX`]. An idle `CPUWeight=` is 0, a time is in µs.
    #[must_use]
    pub fn number(&self, property: &str) -> Option<u64> {
        match self.text(property)? {
            "infinity" => Some(u64::MAX),
            "idle" => Some(0),
            span_of_time if property.ends_with("USec") => span(span_of_time, SECOND),
            number => number.parse().ok(),
        }
    }

    /// What is set for each device, by the path that names it, such as `IOReadBandwidthMax`; no limit is [`u64::MAX`].
    pub fn of_devices(&self, property: &str) -> impl Iterator<Item = (&str, u64)> {
        let lines = self.text(property).unwrap_or_default().lines();
        lines.filter_map(|line| {
            let (path, number) = line.rsplit_once(' ')?;
            Some((path, if number == "infinity" { u64::MAX } else { number.parse().ok()? }))
        })
    }

    /// What PID 1 has of what is declared so; of a disk, that of its path. `None` where nothing is set. No limit is
    /// [`u64::MAX`].
    #[must_use]
    pub fn set(&self, property: Property, declared: &SettingValue) -> Option<u64> {
        match declared {
            SettingValue::Bandwidth(bandwidth) => self
                .of_devices(property.bus)
                .find(|(path, _)| **path == *bandwidth.path)
                .map(|(_, rate)| rate),
            _ => self.number(property.bus).filter(|number| property.value(*number).is_some()),
        }
    }

    /// The same, and else what the kernel has.
    #[must_use]
    pub fn known(&self, property: Property, declared: &SettingValue) -> u64 {
        self.set(property, declared).unwrap_or_else(|| property.unset())
    }

    /// What a weight or limit comes to: what is set, and else what the kernel has. No limit is [`u64::MAX`].
    #[must_use]
    pub fn resource(&self, property: Property) -> u64 {
        let set = self.number(property.bus).filter(|number| property.value(*number).is_some());
        set.unwrap_or_else(|| property.unset())
    }

    /// What PID 1 has of a setting of services alone; `None` where it is not set, or was not asked for.
    #[must_use]
    pub fn of_service(&self, setting: OfService) -> Option<ServiceValue> {
        setting.read(self.text(setting.unit)?)
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
        let drop_ins = match self.properties.get(DROP_IN_PATHS) {
            Some(Value::Paths(paths)) => paths.as_slice(),
            _ => &[],
        };
        self.text("FragmentPath").map(Path::new).into_iter().chain(drop_ins.iter().map(PathBuf::as_path))
    }
}

/// The words of a list as systemctl prints it: one with a character that a shell acts on stands in quotes, with
/// backslashes before what is escaped (`shell_maybe_quote` and `cescape_char` of systemd's `escape.c`).
fn words(list: &str) -> Vec<PathBuf> {
    let mut words = Vec::new();
    let mut rest = list.bytes().peekable();
    while rest.peek().is_some() {
        let mut word = Vec::new();
        let is_quoted = rest.next_if_eq(&b'"').is_some();
        let end = if is_quoted { b'"' } else { b' ' };
        while let Some(byte) = rest.next().filter(|byte| *byte != end) {
            word.extend(if is_quoted && byte == b'\\' { unescaped(&mut rest) } else { Some(byte) });
        }
        if !word.is_empty() {
            words.push(PathBuf::from(OsStr::from_bytes(&word)));
        }
    }
    words
}

/// What follows a backslash.
fn unescaped(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match rest.next()? {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        first @ b'0'..=b'3' => {
            let digits = [first, rest.next()?, rest.next()?];
            u8::from_str_radix(str::from_utf8(&digits).ok()?, 8).ok()?
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{CPU_WEIGHT, MEMORY_LOW};

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

    /// As systemctl 257 prints them.
    #[test]
    fn files_are_called_what_they_are_called() {
        let text = r#"Id=w.service
FragmentPath=/etc/a b.service
DropInPaths="/d/a b.conf" "/d/amp&.conf" "/d/back\\slash.conf" "/d/dollar\$x.conf" "/d/esc\033x.conf" "/d/nl\nx.conf" /d/p%n.conf "/d/q\"uote.conf" "/d/s'ingle.conf" "/d/x\\x20y.conf" /d/é.conf
"#;
        let units = Units::parse(text);
        let expected = [
            "/etc/a b.service",
            "/d/a b.conf",
            "/d/amp&.conf",
            r"/d/back\slash.conf",
            "/d/dollar$x.conf",
            "/d/esc\u{1b}x.conf",
            "/d/nl\nx.conf",
            "/d/p%n.conf",
            "/d/q\"uote.conf",
            "/d/s'ingle.conf",
            r"/d/x\x20y.conf",
            "/d/é.conf",
        ];
        assert!(units.get("w.service").unwrap().files().eq(expected.map(Path::new)));
    }

    /// What `systemctl show` prints of the same on Debian 13.
    #[test]
    fn what_d_bus_carries_is_kept_as_systemctl_prints_it() {
        let text = |property, value: Variant<'static>| match Value::of(property, &value) {
            Some(Value::Text(text)) => text,
            Some(Value::Paths(paths)) => format!("{paths:?}"),
            None => "[not set]".to_owned(),
        };
        assert_eq!(text("CPUWeight", Variant::U64(200)), "200");
        assert_eq!(text("CPUWeight", Variant::U64(0)), "idle");
        assert_eq!(text("StartupCPUWeight", Variant::U64(u64::MAX)), "[not set]");
        assert_eq!(text("MemoryMax", Variant::U64(u64::MAX)), "infinity");
        assert_eq!(text("MemoryMin", Variant::U64(0)), "0");
        assert_eq!(text("OOMScoreAdjust", Variant::I32(-500)), "-500");
        assert_eq!(text("MainPID", Variant::U32(0)), "0");
        assert_eq!(text("ManagedOOMMemoryPressureDurationUSec", Variant::U64(90_000_000)), "1min 30s");
        assert_eq!(text("ManagedOOMMemoryPressureDurationUSec", Variant::U64(u64::MAX)), "infinity");
        assert_eq!(text("Delegate", Variant::Bool(true)), "yes");
        assert_eq!(text("Slice", Variant::from("system.slice")), "system.slice");
        assert_eq!(text("Names", Variant::from(vec!["a.service", "b.service"])), "a.service b.service");
        let files = vec!["/etc/systemd/system/a.service.d/my own.conf"];
        assert_eq!(text("DropInPaths", Variant::from(files.clone())), format!("{files:?}"));
    }

    #[test]
    fn a_unit_is_asked_for_what_it_can_have() {
        let asked = |name: &str, load: &str, active: &str| {
            let [name, load, active] = [name, load, active].map(str::to_owned);
            let unit = Listed { name, load, active, sub: String::new() };
            questions(&unit, false, &[]).map(|question| question.property.to_owned()).collect::<Vec<_>>()
        };
        let has = |asked: &[String], property: &str| asked.iter().any(|known| known == property);
        let service = asked("a.service", "loaded", "active");
        assert!(has(&service, "MainPID") && has(&service, "OOMPolicy") && !has(&service, "DefaultMemoryMin"));
        let slice = asked("a.slice", "loaded", "active");
        assert!(has(&slice, "DefaultMemoryMin") && has(&slice, "CPUWeight") && !has(&slice, "OOMPolicy"));
        let inactive = asked("a.service", "loaded", "inactive");
        assert!(has(&inactive, "DropInPaths") && has(&inactive, "MemoryMax") && !has(&inactive, "CPUWeight"));
        assert!(asked("a.service", "not-found", "inactive").is_empty());
    }
}
