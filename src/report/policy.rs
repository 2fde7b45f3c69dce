//! The merged policy, as a policy file that says where each value comes from.
#![forbid(unsafe_code)]

use std::fmt::{Display, Write as _};

use crate::policy::toml::{key, quoted};
use crate::policy::{Declared, LoginRule, Origin, Policy, Resources, Sourced};

/// The policy as TOML; each line ends in the file and the line that it comes from.
#[must_use]
pub fn policy(policy: &Policy) -> String {
    tables(policy).iter().map(Table::text).collect::<Vec<_>>().join("\n")
}

/// Its tables that say something.
pub(super) fn tables(policy: &Policy) -> Vec<Table> {
    let mut tables = Vec::new();
    for (name, slice) in &policy.slices {
        let mut table = Table::new(format!("slice.{}", key(name)));
        table.list("match", &slice.matches);
        if let Some(floor) = &slice.cpu_floor {
            table.line("cpu_floor", quoted(&floor.value), &floor.origin);
        }
        table.launcher(&slice.launcher);
        table.resources(&slice.resources);
        tables.push(table);
    }
    for (name, service) in &policy.services {
        let mut table = Table::new(format!("service.{}", key(&name.stem())));
        if let Some(score) = &service.oom_score_adj {
            table.line("oom_score_adj", score.value, &score.origin);
        }
        if let Some(set_by) = &service.set_by {
            table.line("set_by", quoted(&set_by.value), &set_by.origin);
        }
        table.launcher(&service.launcher);
        table.resources(&service.resources);
        for own in &service.own {
            let value =
                if own.value.setting().is_number() { own.value.to_string() } else { quoted(&own.value) };
            table.line(own.value.setting().key, value, &own.origin);
        }
        tables.push(table);
    }
    let mut logins = Table::new("logins".to_owned());
    logins.login(&policy.logins.default);
    if let Some(total) = &policy.logins.total_weight {
        logins.line("total_weight", number_or_quoted(&total.value), &total.origin);
    }
    logins.list("sessions", &policy.logins.sessions);
    for setting in policy.logins.total.settings() {
        let key = setting.property.total.unwrap_or(setting.property.key);
        logins.line(key, number_or_quoted(&setting.value), setting.origin);
    }
    tables.push(logins);
    for (kind, rules) in [("user", &policy.logins.users), ("group", &policy.logins.groups)] {
        for (name, rule) in rules {
            let mut table = Table::new(format!("logins.{kind}.{}", key(name)));
            table.login(rule);
            let budget = policy.logins.budgets.get(name).filter(|_| kind == "group");
            if let Some(total) = budget {
                table.line("total_weight", total.value, &total.origin);
            }
            tables.push(table);
        }
    }
    for (name, dir) in &policy.private_dirs {
        let mut table = Table::new(format!("private_dir.{name}"));
        table.line("path", quoted(&dir.path.value), &dir.path.origin);
        if let Some(only_if) = &dir.only_if {
            table.line("only_if", quoted(&only_if.value), &only_if.origin);
        }
        table.list("users", &dir.users);
        table.list("groups", &dir.groups);
        table.list("trusted_groups", &dir.trusted_groups);
        if let Some(min_uid) = &dir.min_uid {
            table.line("min_uid", min_uid.value, &min_uid.origin);
        }
        if let Some(max_uid) = &dir.max_uid {
            table.line("max_uid", max_uid.value, &max_uid.origin);
        }
        if let Some(mode) = &dir.mode {
            table.line("mode", quoted(&mode.value), &mode.origin);
        }
        if let Some(max_age) = &dir.max_age {
            table.line("max_age", quoted(&max_age.value), &max_age.origin);
        }
        tables.push(table);
    }
    tables.retain(|table| !table.lines.is_empty());
    tables
}

/// One of TOML's.
pub(super) struct Table {
    pub(super) name: String,
    /// What is set, and where.
    pub(super) lines: Vec<(String, String)>,
}

impl Table {
    fn new(name: String) -> Self {
        Self { name, lines: Vec::new() }
    }

    fn line(&mut self, key: &str, value: impl Display, origin: &Origin) {
        self.lines.push((format!("{key} = {value}"), origin.to_string()));
    }

    fn list(&mut self, key: &str, values: &[Sourced<impl Display>]) {
        if let Some(first) = values.first() {
            let values: Vec<String> = values.iter().map(|value| quoted(&value.value)).collect();
            self.line(key, format!("[{}]", values.join(", ")), &first.origin);
        }
    }

    fn launcher(&mut self, launcher: &Declared<bool>) {
        if let Some(launcher) = launcher {
            self.line("launcher", launcher.value, &launcher.origin);
        }
    }

    fn resources(&mut self, resources: &Resources) {
        for setting in resources.settings() {
            self.line(setting.property.key, number_or_quoted(&setting.value), setting.origin);
        }
    }

    fn login(&mut self, rule: &LoginRule) {
        if let Some(score) = &rule.oom_score_adj {
            self.line("oom_score_adj", score.value, &score.origin);
        }
        self.resources(&rule.resources);
    }

    fn text(&self) -> String {
        let width = self.lines.iter().map(|(set, _)| set.chars().count()).max().unwrap_or_default();
        let mut text = format!("[{}]\n", self.name);
        for (set, origin) in &self.lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{set:width$}  # {origin}");
        }
        text
    }
}

fn number_or_quoted(value: &impl Display) -> String {
    let text = value.to_string();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text } else { quoted(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_tomls() {
        let text = "a\"b\\c\n\u{1b}\u{202e}\u{e0001}é";
        assert_eq!(quoted(&text), r#""a\"b\\c\U0000000a\U0000001b\U0000202e\U000e0001é""#);
        let source = format!("a = {}", quoted(&text));
        let read = toml::de::DeTable::parse(&source).unwrap();
        assert_eq!(read.get_ref().get("a").unwrap().get_ref().as_str(), Some(text));
    }
}
