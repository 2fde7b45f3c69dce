//! What an imported policy says, and its text.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::held::called;
use crate::policy::toml::{key, quoted};
use crate::policy::{Policy, ServicePattern, VariableName};
use crate::text::shown;
use crate::units::{
    Amount, OomScoreAdj, Property, ServiceName, ServiceValue, SettingValue, SliceName, Weight,
};

/// Comments begin at this column, or behind a longer line.
const COMMENTS: usize = 30;

/// A table of a policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PolicyTable {
    /// `[slice."NAME"]`
    Slice(SliceName),
    /// `[service.NAME]`
    Service(ServiceName),
    /// `[logins]`
    Logins,
    /// `[logins.user.NAME]`
    User(String),
    /// `[private_dir.VARIABLE]`
    PrivateDir(VariableName),
}

/// One value of a policy, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) table: PolicyTable,
    pub(super) value: Value,
    /// As the administrator has spelled it, where a policy reads the same in that.
    pub(super) spelled: Option<String>,
    pub(super) source: Source,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A weight or limit.
    Setting(Property, SettingValue),
    /// `oom_score_adj`
    Score(OomScoreAdj),
    /// `total_weight`
    Total(Weight),
    /// The same of another key for all logins together.
    OfAll(&'static str, Property, SettingValue),
    /// What services alone take.
    Own(ServiceValue),
    /// One of `match`.
    Held(ServicePattern),
    /// A key of `[private_dir.VARIABLE]`, and its text.
    Text(&'static str, String),
    /// The same of a list of names.
    Names(&'static str, Vec<String>),
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A line of a file, relative to the root.
    Line(Line),
    /// The policy, whose list this one takes the place of: its file and line.
    Policy(String),
    /// It is what holds today without anybody's doing, or a package's; and why that is to be said.
    Today(String),
}

/// A line of a file that somebody has written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Relative to the root.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// As it stands there: `CPUQuota=25%`.
    pub says: String,
}

/// A line that the policy does not say the same of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unsayable {
    /// The unit that it is for, or what else the file is about.
    pub unit: String,
    /// Which.
    pub line: Line,
    /// Why, to go on after it.
    pub why: String,
}

impl Line {
    /// Its place, as on a live system.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", called(&self.file), self.line)
    }
}

impl Entry {
    /// The line that it comes from.
    pub(super) fn line(&self) -> Option<&Line> {
        if let Source::Line(line) = &self.source { Some(line) } else { None }
    }

    fn key(&self) -> &'static str {
        match &self.value {
            Value::Setting(property, _) => property.key,
            Value::Score(_) => "oom_score_adj",
            Value::Total(_) => "total_weight",
            Value::Own(value) => value.setting().key,
            Value::Held(_) => "match",
            Value::OfAll(key, ..) | Value::Text(key, _) | Value::Names(key, _) => key,
        }
    }

    /// What stands behind the key.
    fn text(&self) -> String {
        match (&self.spelled, &self.value) {
            (Some(spelled), _) => quoted(spelled),
            (None, Value::Own(value)) if value.setting().is_number() => value.to_string(),
            (None, Value::Own(value)) => quoted(value),
            (
                None,
                Value::Setting(_, SettingValue::Tasks(tasks)) | Value::OfAll(.., SettingValue::Tasks(tasks)),
            ) => match tasks.0 {
                Amount::Absolute(number) => number.to_string(),
                _ => quoted(&tasks.to_string()),
            },
            (
                None,
                Value::Setting(_, SettingValue::Memory(memory))
                | Value::OfAll(.., SettingValue::Memory(memory)),
            ) => quoted(&memory.to_string()),
            (None, Value::Setting(_, weight) | Value::OfAll(.., weight)) => {
                let text = weight.to_string();
                if text.bytes().all(|byte| byte.is_ascii_digit()) { text } else { quoted(&text) }
            }
            (None, Value::Score(score)) => score.to_string(),
            (None, Value::Total(weight)) => weight.to_string(),
            (None, Value::Held(pattern)) => quoted(&pattern.to_string()),
            (None, Value::Text(_, text)) => quoted(text),
            (None, Value::Names(_, names)) => {
                format!("[{}]", names.iter().map(quoted).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn comment(&self) -> String {
        match &self.source {
            Source::Line(line) => line.place(),
            Source::Policy(origin) => origin.clone(),
            Source::Today(why) => why.clone(),
        }
    }

    /// Whether a policy says so already.
    pub(super) fn is_in(&self, policy: &Policy) -> bool {
        let logins = &policy.logins;
        let resources = match &self.table {
            PolicyTable::Slice(slice) => policy.slices.get(slice).map(|slice| &slice.resources),
            PolicyTable::Service(service) => policy.services.get(service).map(|service| &service.resources),
            PolicyTable::Logins => Some(&logins.default.resources),
            PolicyTable::User(name) => {
                logins.users.iter().find(|(user, _)| user == name).map(|(_, rule)| &rule.resources)
            }
            PolicyTable::PrivateDir(_) => None,
        };
        match (&self.value, &self.table) {
            (Value::Setting(property, value), _) => resources.is_some_and(|resources| {
                resources.settings().any(|set| set.property == *property && set.value == *value)
            }),
            (Value::OfAll(_, property, value), _) => {
                logins.total.settings().any(|set| set.property == *property && set.value == *value)
            }
            (Value::Own(value), PolicyTable::Service(service)) => policy
                .services
                .get(service)
                .is_some_and(|service| service.own.iter().any(|own| own.value == *value)),
            (Value::Score(score), PolicyTable::Service(service)) => {
                policy.services.get(service).and_then(crate::policy::Service::score_to_set) == Some(*score)
            }
            (Value::Total(weight), _) => logins
                .total_weight
                .as_ref()
                .is_some_and(|total| total.value == crate::policy::TotalWeight::Fixed(*weight)),
            (Value::Held(pattern), PolicyTable::Slice(slice)) => {
                policy.slices.get(slice).is_some_and(|slice| {
                    slice.matches.iter().any(|known| match pattern {
                        ServicePattern::Exact(name) => known.value.matches(name),
                        ServicePattern::Prefix(_) => known.value == *pattern,
                    })
                })
            }
            (Value::Text("path", text), PolicyTable::PrivateDir(variable)) => policy
                .private_dirs
                .get(variable)
                .is_some_and(|dir| dir.path.value.to_string().trim_end_matches('/') == text),
            _ => false,
        }
    }
}

/// The tables of a policy, and for each line of the text the place of the entry that stands there.
pub(super) fn tables(entries: &[Entry]) -> (String, Vec<Option<usize>>) {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let is_held = |entry: &Entry| matches!(entry.value, Value::Held(_));
    let sorted = |at: &usize| entries.get(*at).map(|entry| (entry.table.clone(), !is_held(entry)));
    order.sort_by_key(sorted);
    let mut text = String::new();
    let mut lines = Vec::new();
    let mut table = None;
    let mut in_list = false;
    for at in order {
        let Some(entry) = entries.get(at) else { continue };
        // Writing to a string cannot fail.
        let close = |text: &mut String, lines: &mut Vec<_>| {
            text.push_str("]\n");
            lines.push(None);
        };
        if in_list && (!is_held(entry) || table != Some(&entry.table)) {
            close(&mut text, &mut lines);
            in_list = false;
        }
        if table != Some(&entry.table) {
            let _ = writeln!(text, "\n{}", heading(&entry.table));
            lines.extend([None, None]);
            table = Some(&entry.table);
        }
        let said = if is_held(entry) {
            if !in_list {
                text.push_str("match = [\n");
                lines.push(None);
                in_list = true;
            }
            format!("    {},", entry.text())
        } else {
            format!("{} = {}", entry.key(), entry.text())
        };
        let _ = writeln!(text, "{said:COMMENTS$}  # {}", shown(&entry.comment()));
        lines.push(Some(at));
    }
    if in_list {
        text.push_str("]\n");
        lines.push(None);
    }
    (text, lines)
}

/// The same of what is not to be in force, as comments.
pub(super) fn commented(entries: &[Entry]) -> String {
    let (text, _) = tables(entries);
    text.lines().filter(|line| !line.is_empty()).fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "#   {line}");
        all
    })
}

fn heading(table: &PolicyTable) -> String {
    match table {
        PolicyTable::Slice(name) => format!("[slice.{}]", quoted(name)),
        PolicyTable::Service(name) => format!("[service.{}]", key(name.stem())),
        PolicyTable::Logins => "[logins]".to_owned(),
        PolicyTable::User(name) => format!("[logins.user.{}]", key(name)),
        PolicyTable::PrivateDir(variable) => format!("[private_dir.{variable}]"),
    }
}

/// A file or directory of the administrator's: relative to the root.
pub(super) fn is_by_hand(file: &Path) -> bool {
    use crate::paths::{ADMIN_UNITS, LASTING_CONTROL, LOCAL_UNITS};
    [LASTING_CONTROL, ADMIN_UNITS, LOCAL_UNITS].iter().any(|directory| file.starts_with(directory))
}
