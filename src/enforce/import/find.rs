//! What holds today and was set by hand, unit by unit.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Line, PolicyTable, Source, Unsayable, Value, is_by_hand};
use super::held::{ANY_USER, Held, World};
use crate::host::cgroup;
use crate::paths;
use crate::policy::{Policy, ServicePattern};
use crate::survey::{Files, Means, Winner};
use crate::units::file::Assignment;
use crate::units::known::{Known, known, section_of};
use crate::units::takes::{refused, score, setting};
use crate::units::{
    CPU_WEIGHT, CpuWeight, OF_SERVICES, OOM_SCORE_ADJUST, OfService, PROPERTIES, Property, SLICE,
    ServiceName, SettingValue, SliceName,
};

/// Of a value that systemd takes.
const UNREAD: &str = "is spelled in a way that a policy does not read";
/// Of a limit of several disks.
const ONE_DISK: &str = "limits several disks, and a policy says one";
/// Where lies what is gone at the next boot.
const UNTIL_BOOT: [&str; 2] = [paths::RUNTIME_CONTROL, paths::RUNTIME_UNITS];

/// All of it.
#[derive(Default)]
pub(super) struct Found {
    /// What a policy can say.
    pub(super) entries: Vec<Entry>,
    /// What it could, and holds until the next boot only.
    pub(super) until_boot: Vec<Entry>,
    /// What it cannot.
    pub(super) left: BTreeSet<Unsayable>,
}

/// For what a file of a unit is.
enum Scope {
    /// For the unit.
    Own,
    /// For what the unit is an instance of, or a user's slice: it is found there.
    Above,
    /// For all units whose names begin so: `local-.service`.
    Prefix(String),
    /// For every unit of the kind.
    Kind,
}

/// Finds it, beside what a policy says already. The lists are in no order.
pub(super) fn find(held: &Held, policy: &Policy) -> Found {
    let is_until_boot = |file: &Path| UNTIL_BOOT.iter().any(|place| file.starts_with(place));
    let until_boot =
        held.files().map(|(file, _)| file.to_owned()).filter(|file| is_until_boot(file)).collect();
    let nothing = BTreeSet::new();
    let lasting = World::new(policy, held.machine, &until_boot);
    let today = World::new(policy, held.machine, &nothing);
    let mut found = Found::default();
    for service in &held.services {
        found.service(held, service, &held.settings(service.as_str(), &lasting));
        found.until_boot(service.as_str(), &held.settings(service.as_str(), &today));
    }
    for slice in &held.slices {
        if cgroup::user(&slice.cgroup()).is_none() {
            found.slice(policy, slice, &held.settings(slice.as_str(), &lasting));
        }
        found.until_boot(slice.as_str(), &held.settings(slice.as_str(), &today));
    }
    found.users(held, &lasting);
    for (file, text) in held.files().filter(|(file, _)| is_by_hand(file)) {
        let Some(unit) = unit_of(file) else { continue };
        for set in text.assignments.iter().filter(|set| is_taken(&unit, &set.key, &set.section, &set.value)) {
            let line =
                Line { file: file.to_owned(), line: set.line, says: format!("{}={}", set.key, set.value) };
            let why = match unsayable(held, &unit, &set.key) {
                None if is_for_many(&unit) => {
                    let is_known = found.has(&line) || is_said(policy, &unit, &set.key, &set.value);
                    (!is_known).then(|| "counts for nothing: no unit has it from here".to_owned())
                }
                None => idle(held, &lasting, &unit, set),
                why => why,
            };
            found.left.extend(why.map(|why| Unsayable { unit: unit.clone(), line, why }));
        }
    }
    found
}

/// Why a line comes to nothing, if another one of its unit holds and sets something else.
fn idle(held: &Held, lasting: &World<'_>, unit: &str, set: &Assignment) -> Option<String> {
    let own = ServiceName::new(unit).ok().and_then(|name| held.own_name(&name));
    let own = own.as_ref().map_or(unit, ServiceName::as_str);
    let winner = held.settings(own, lasting).holding(&set.key)?;
    let (line, text) = line(&winner)?;
    let is_same = text == set.value
        || value(&set.key, &text).is_some_and(|text| Some(text) == value(&set.key, &set.value));
    let is_another = !is_same && (line.file != *set.file || line.line != set.line);
    let by = if winner.is_the_policys() { format!("the policy says {}", line.says) } else { winner.said() };
    is_another.then(|| format!("counts for nothing: {by}"))
}

/// Whether a policy says a setting of all units of a prefix.
pub(super) fn is_said(policy: &Policy, unit: &str, key: &str, value: &str) -> bool {
    let (table, value) = match unit.strip_suffix(".service") {
        Some(prefix) if key == SLICE => {
            let Ok(pattern) = ServicePattern::new(&format!("{prefix}*")) else { return false };
            let Ok(slice) = slice_name(value) else { return false };
            (PolicyTable::Slice(slice), Value::Held(pattern))
        }
        None if unit == "user-.slice" => {
            let Some(value) = weight_or_limit(key, value) else { return false };
            (PolicyTable::Logins, value)
        }
        _ => return false,
    };
    let line = Line { file: PathBuf::new(), line: 0, says: String::new() };
    Entry { table, value, spelled: None, source: Source::Line(line) }.is_in(policy)
}

/// Whether a file of this unit is for all units of a prefix, or of a kind.
pub(super) fn is_for_many(unit: &str) -> bool {
    matches!(unit, "service" | "slice") || unit.ends_with("-.service") || unit.ends_with("-.slice")
}

/// The unit that a file is for: its own name, or that of the directory `NAME.d`.
pub(super) fn unit_of(file: &Path) -> Option<String> {
    let directory = file.parent()?.file_name()?.to_str()?;
    match directory.strip_suffix(".d") {
        Some(unit) => file.file_name()?.as_encoded_bytes().ends_with(b".conf").then(|| unit.to_owned()),
        None => Some(file.file_name()?.to_str()?.to_owned()),
    }
}

/// Whether a policy has a key for a setting of units.
pub(super) fn is_sayable(key: &str) -> bool {
    settings().any(|known| known == key)
}

/// What a policy says of services, in systemd's words.
fn settings() -> impl Iterator<Item = &'static str> {
    let resources = PROPERTIES.iter().map(|property| property.unit);
    resources.chain(OF_SERVICES.iter().map(|setting| setting.unit)).chain([OOM_SCORE_ADJUST, SLICE])
}

/// Whether systemd takes a line: it is in the section of its unit's kind, and right. What is wrong with others is the
/// doctor's to say.
pub(super) fn is_taken(unit: &str, key: &str, section: &str, value: &str) -> bool {
    let kind = unit.rsplit('.').next().unwrap_or_default();
    let is_right = |known: &Known| {
        !known.is_foreign(kind) && refused(known.takes, value, &format!("x.{kind}"), None).is_none()
    };
    section_of(kind) == Some(section) && known(key).is_some_and(is_right)
}

/// Why a line that systemd takes cannot be told of its unit, whatever it sets.
fn unsayable(held: &Held, unit: &str, key: &str) -> Option<String> {
    if !is_sayable(key) {
        return Some(format!("a policy does not set {key}="));
    }
    match unit.rsplit_once('.').map_or(("", unit), |(stem, kind)| (stem, kind)) {
        ("-", "slice") => Some("a policy says nothing of the root slice".to_owned()),
        (_, "slice") => None,
        (stem, "service") if stem.is_empty() || stem.ends_with('-') => None,
        (_, "service") => {
            let is_there = ServiceName::new(unit).is_ok_and(|name| held.own_name(&name).is_some());
            (!is_there).then(|| "there is no such unit".to_owned())
        }
        _ => Some("a policy has slices, services and logins alone".to_owned()),
    }
}

impl Found {
    /// Whether a line has been told.
    fn has(&self, line: &Line) -> bool {
        self.entries.iter().any(|entry| entry.line() == Some(line))
            || self.left.iter().any(|left| left.line == *line)
    }

    fn service(&mut self, held: &Held, name: &ServiceName, files: &Files<'_>) {
        let table = PolicyTable::Service(name.clone());
        for key in settings() {
            let Some((line, text)) = self.by_hand(name.as_str(), files, key) else { continue };
            if is_one_of_several(files, key) {
                self.leave(name.as_str(), line, ONE_DISK);
                continue;
            }
            let prefix = match service_scope(held, name, &line.file) {
                Scope::Own => None,
                Scope::Above => continue,
                Scope::Prefix(unit) if key == SLICE => Some(unit),
                Scope::Prefix(unit) => {
                    self.leave(&unit, line, "a policy says what single services get, not all of a prefix");
                    continue;
                }
                Scope::Kind => {
                    self.leave("service", line, "a policy says what single services get, not all of them");
                    continue;
                }
            };
            let value = match key {
                SLICE => {
                    let pattern = match &prefix {
                        Some(unit) => ServicePattern::new(&format!("{}*", unit.trim_end_matches(".service"))),
                        None => Ok(ServicePattern::Exact(name.clone())),
                    };
                    let unit = prefix.unwrap_or_else(|| name.to_string());
                    match (slice_name(&text), pattern) {
                        (Ok(slice), Ok(pattern)) => {
                            self.add(PolicyTable::Slice(slice), Value::Held(pattern), None, line);
                        }
                        (Err(why), _) | (_, Err(why)) => self.leave(&unit, line, why),
                    }
                    continue;
                }
                _ => value(key, &text),
            };
            self.add_or_leave(name.as_str(), table.clone(), value, &text, line);
        }
    }

    fn slice(&mut self, policy: &Policy, name: &SliceName, files: &Files<'_>) {
        for property in PROPERTIES {
            let Some((line, text)) = self.by_hand(name.as_str(), files, property.unit) else { continue };
            if is_one_of_several(files, property.unit) {
                self.leave(name.as_str(), line, ONE_DISK);
                continue;
            }
            match slice_scope(name, &line.file) {
                Scope::Own => {}
                Scope::Above => continue,
                Scope::Prefix(unit) => {
                    self.leave(&unit, line, "a policy says what single slices get, not all of a prefix");
                    continue;
                }
                Scope::Kind => {
                    self.leave("slice", line, "a policy says what single slices get, not all of them");
                    continue;
                }
            }
            let value = weight_or_limit(property.unit, &text);
            if *name != SliceName::user() {
                self.add_or_leave(name.as_str(), PolicyTable::Slice(name.clone()), value, &text, line);
                continue;
            }
            match value {
                _ if property == CPU_WEIGHT
                    && policy.logins.is_counted()
                    && files.over(Means::Told, property.unit).is_none() =>
                {
                    self.leave(
                        name.as_str(),
                        line,
                        "counts for nothing: the policy says total_weight = \"sum\"",
                    );
                }
                Some(Value::Setting(_, SettingValue::Cpu(CpuWeight::Weight(weight)))) => {
                    self.add(PolicyTable::Logins, Value::Total(weight), None, line);
                }
                value => match (property.total, value) {
                    (Some(key), Some(Value::Setting(_, value))) => {
                        let spelled = spelled(&Value::Setting(property, value.clone()), &text);
                        self.add(PolicyTable::Logins, Value::OfAll(key, property, value), spelled, line);
                    }
                    (Some(_), _) => self.leave(name.as_str(), line, UNREAD),
                    (None, _) => {
                        self.leave(name.as_str(), line, "a policy does not say it of all logins together");
                    }
                },
            }
        }
    }

    /// The slices of users: all of them, then each that has files of its own.
    fn users(&mut self, held: &Held, today: &World<'_>) {
        let every = SliceName::of_user(ANY_USER);
        let own = held.slices.iter().filter(|slice| cgroup::user(&slice.cgroup()).is_some());
        for name in own.chain([&every]) {
            let files = held.settings(name.as_str(), today);
            let uid = cgroup::user(&name.cgroup()).unwrap_or(ANY_USER);
            for property in PROPERTIES {
                let Some((line, text)) = self.by_hand(name.as_str(), &files, property.unit) else { continue };
                if is_one_of_several(&files, property.unit) {
                    self.leave(name.as_str(), line, ONE_DISK);
                    continue;
                }
                let (unit, table) = match slice_scope(name, &line.file) {
                    Scope::Prefix(unit) if unit == "user-.slice" => (unit, Some(PolicyTable::Logins)),
                    Scope::Own => {
                        let user = held.users.get(&uid).and_then(|account| account.name.as_str());
                        (name.to_string(), user.map(|user| PolicyTable::User(user.to_owned())))
                    }
                    Scope::Kind => {
                        self.leave("slice", line, "a policy says what single slices get, not all of them");
                        continue;
                    }
                    Scope::Above | Scope::Prefix(_) => continue,
                };
                match table {
                    _ if !property.of_logins => {
                        let keys: Vec<&str> = Property::of_logins().map(|property| property.key).collect();
                        let why = format!("of a login, a policy says {}", keys.join(", "));
                        self.leave(&unit, line, &why);
                    }
                    Some(table) => {
                        self.add_or_leave(&unit, table, weight_or_limit(property.unit, &text), &text, line);
                    }
                    None => self.leave(&unit, line, "no user has this number, and a policy has names"),
                }
            }
        }
    }

    /// The line that holds of a setting, and its text, where somebody has set it by hand for good.
    fn by_hand(&mut self, unit: &str, files: &Files<'_>, key: &str) -> Option<(Line, String)> {
        let winner = files.holding(key).filter(|winner| !winner.is_the_policys())?;
        let (line, text) = line(&winner)?;
        if !is_by_hand(&line.file) {
            return None;
        }
        if text.is_empty() && value(key, &text).is_none() {
            self.leave(unit, line, "undoes what is set before it, which a policy does not");
            return None;
        }
        Some((line, text))
    }

    /// What somebody has set until the next boot.
    fn until_boot(&mut self, unit: &str, files: &Files<'_>) {
        for key in settings() {
            let Some(winner) = files.holding(key).filter(|winner| !winner.is_the_policys()) else { continue };
            let Some((line, text)) = line(&winner) else { continue };
            if !UNTIL_BOOT.iter().any(|place| line.file.starts_with(place)) {
                continue;
            }
            let table = match (SliceName::new(unit), ServiceName::new(unit)) {
                (Ok(slice), _) => Some(PolicyTable::Slice(slice)).filter(|_| !unit.starts_with("user")),
                (_, Ok(service)) => Some(PolicyTable::Service(service)),
                _ => None,
            };
            match table.zip(value(key, &text)).filter(|_| unit_of(&line.file).is_some_and(|own| own == unit))
            {
                Some((table, value)) => {
                    let spelled = spelled(&value, &text);
                    self.until_boot.push(Entry { table, value, spelled, source: Source::Line(line) });
                }
                None => self.leave(unit, line, "holds until the next boot"),
            }
        }
    }

    fn add_or_leave(&mut self, unit: &str, table: PolicyTable, value: Option<Value>, text: &str, line: Line) {
        match value {
            Some(value) => {
                let spelled = spelled(&value, text);
                self.add(table, value, spelled, line);
            }
            None => self.leave(unit, line, UNREAD),
        }
    }

    fn add(&mut self, table: PolicyTable, value: Value, spelled: Option<String>, line: Line) {
        let entry = Entry { table, value, spelled, source: Source::Line(line) };
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    fn leave(&mut self, unit: &str, line: Line, why: &str) {
        self.left.insert(Unsayable { unit: unit.to_owned(), line, why: why.to_owned() });
    }
}

/// Whether a setting of a disk holds for others too: each has a line.
fn is_one_of_several(files: &Files<'_>, key: &str) -> bool {
    let is_of_a_disk =
        PROPERTIES.iter().any(|property| property.unit == key && property.of_device().is_some());
    is_of_a_disk && files.collected(key).len() > 1
}

/// The line of a winner, and the value in it.
fn line(winner: &Winner) -> Option<(Line, String)> {
    let (line, text) = winner.set.clone()?;
    let file = winner.file.strip_prefix("/").unwrap_or(&winner.file).to_owned();
    Some((Line { file, line, says: format!("{}={text}", winner.setting) }, text))
}

/// What a policy says for a setting with this text.
fn value(key: &str, text: &str) -> Option<Value> {
    match OfService::by_unit(key) {
        _ if key == OOM_SCORE_ADJUST => score(text).map(Value::Score),
        Some(setting) => setting.read(text).map(Value::Own),
        None => weight_or_limit(key, text),
    }
}

fn weight_or_limit(key: &str, text: &str) -> Option<Value> {
    let property = PROPERTIES.into_iter().find(|property| property.unit == key)?;
    // An empty line undoes those before it, and of memory it is known what then holds.
    let undone = property.value(property.unset()).filter(|undone| matches!(undone, SettingValue::Memory(_)));
    let set = if text.is_empty() { undone } else { setting(property, text) };
    set.map(|value| Value::Setting(property, value))
}

/// The text, where a policy reads the same in it; numbers are no texts there.
fn spelled(value: &Value, text: &str) -> Option<String> {
    let Value::Setting(_, SettingValue::Memory(memory)) = value else { return None };
    // PID 1 writes bytes, which nobody reads.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    (!is_plain && crate::units::Memory::parse(text) == Some(*memory)).then(|| text.to_owned())
}

fn slice_name(text: &str) -> Result<SliceName, &'static str> {
    if text.contains('%') {
        return Err("which slice that is depends on the unit's name, and a policy names slices");
    }
    SliceName::new(text).map_err(|_| "a policy has no such slice")
}

fn service_scope(held: &Held, name: &ServiceName, file: &Path) -> Scope {
    let Some(unit) = unit_of(file) else { return Scope::Own };
    match unit.strip_suffix(".service") {
        None => Scope::Kind,
        Some(prefix) if prefix.ends_with('-') && is_drop_in(file) => Scope::Prefix(unit),
        Some(_) => {
            let own = ServiceName::new(&unit).ok().map(|unit| held.own_name(&unit).unwrap_or(unit));
            let is_above = own.is_some() && own == name.template();
            if is_above { Scope::Above } else { Scope::Own }
        }
    }
}

fn slice_scope(name: &SliceName, file: &Path) -> Scope {
    match unit_of(file) {
        Some(unit) if unit == name.as_str() => Scope::Own,
        Some(unit) if unit == "slice" => Scope::Kind,
        Some(unit)
            if unit == "user-.slice" && cgroup::user(&name.cgroup()).is_some_and(|uid| uid != ANY_USER) =>
        {
            Scope::Above
        }
        Some(unit) => Scope::Prefix(unit),
        None => Scope::Own,
    }
}

pub(super) fn is_drop_in(file: &Path) -> bool {
    file.parent().is_some_and(|parent| parent.extension().is_some_and(|kind| kind == "d"))
}
