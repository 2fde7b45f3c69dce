//! One policy file: from TOML to a [`Policy`], with every error found.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::diagnostic::MOST_ERRORS;
use super::elsewhere::elsewhere;
use super::from_toml::{FromToml, of_service};
use super::toml::key;
use super::{
    Declared, Diagnostic, LoginRule, Logins, Origin, PathTemplate, Policy, PrivateDir, Resources, Service,
    ServicePattern, Slice, SourceFile, Sourced, VariableName, absolute,
};
use crate::spelling::nearest;
use crate::text::shown;
use crate::units::{
    CPU_QUOTA, CPU_WEIGHT, IO_READ_BANDWIDTH_MAX, IO_WEIGHT, IO_WRITE_BANDWIDTH_MAX, MEMORY_HIGH, MEMORY_LOW,
    MEMORY_MAX, MEMORY_MIN, MEMORY_SWAP_MAX, MEMORY_ZSWAP_MAX, Memory, OF_SERVICES, OfService, PROPERTIES,
    Property, ServiceName, ServiceValue, SliceName, TASKS_MAX, Weight,
};

type Key<'i> = Spanned<DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// How much of an offending text a message repeats, in characters.
const MOST_SHOWN: usize = 40;

const TABLES: [&str; 4] = ["slice", "service", "logins", "private_dir"];
const PRIVATE_DIR: [&str; 9] =
    ["path", "only_if", "users", "groups", "trusted_groups", "min_uid", "max_uid", "mode", "max_age"];
/// What a slice takes beside resources.
const OF_SLICES: [&str; 3] = ["match", "cpu_floor", "launcher"];
/// What a service takes beside resources and [`OF_SERVICES`].
const SERVICE: [&str; 3] = ["oom_score_adj", "set_by", "launcher"];

/// Reads one file. The policy holds what was right; it is to be used only where no error was found.
pub(super) fn read(source: &SourceFile) -> (Policy, Vec<Diagnostic>) {
    let mut reader = Reader::new(source);
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        let line = reader.line(&span);
        match unquoted_name(line) {
            Some(meant) => {
                reader.error(
                    span.clone(),
                    format!("{}: quote the name: {meant}", shown(line).at_most(MOST_SHOWN)),
                );
                reader.give_up(&span);
            }
            None => reader.error(span, error.message().to_owned()),
        }
    }
    let policy = reader.policy(document.get_ref());
    let mut diagnostics = reader.diagnostics;
    diagnostics.sort_by_key(|diagnostic| diagnostic.position);
    if reader.more > 0 {
        diagnostics.push(Diagnostic::file(&source.path, format!("{} more errors", reader.more)));
    }
    (policy, diagnostics)
}

/// Of a line that is no TOML: the table that is meant, where it begins one whose name is to be in quotes.
fn unquoted_name(line: &str) -> Option<String> {
    let header = line.strip_prefix('[')?;
    let header = header.rsplit_once(']').map_or(header, |(header, _)| header);
    let tables = ["logins.user.", "logins.group.", "service.", "slice."];
    let (table, name) = tables.into_iter().find_map(|table| Some((table, header.strip_prefix(table)?)))?;
    let name = name.trim_matches('"');
    // A name in quotes that holds one is beyond guessing; one that is right has something else wrong with it.
    let is_plain = !name.is_empty() && !name.contains(['"', '[', ']', '\'']);
    let meant = format!("{table}{}", key(&name));
    (is_plain && meant != header).then(|| format!("[{meant}]"))
}

/// The keys of all resources.
fn resources() -> Vec<&'static str> {
    PROPERTIES.iter().map(|property| property.key).collect()
}

struct Reader<'a> {
    source: &'a SourceFile,
    /// The offset at which each line starts.
    lines: Vec<usize>,
    /// Of the last origin: the start of its line, its offset, and the characters between them. A line may
    /// be as long as the file, and everything that is declared in it has an origin.
    counted: Cell<(usize, usize, usize)>,
    /// Where the lines start of tables whose names lack their quotes.
    unquoted: BTreeSet<usize>,
    diagnostics: Vec<Diagnostic>,
    /// How many errors are not among them.
    more: usize,
}

impl<'a> Reader<'a> {
    fn new(source: &'a SourceFile) -> Self {
        let starts = source.text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            source,
            lines: std::iter::once(0).chain(starts).collect(),
            counted: Cell::default(),
            unquoted: BTreeSet::new(),
            diagnostics: Vec::new(),
            more: 0,
        }
    }

    fn policy(&mut self, document: &DeTable<'_>) -> Policy {
        let mut policy = Policy::default();
        for (key, value) in in_file_order(document) {
            match key.get_ref().as_ref() {
                "slice" => policy.slices = self.named(value, "slice", SliceName::new, Self::slice),
                "service" => policy.services = self.named(value, "service", ServiceName::new, Self::service),
                "logins" => policy.logins = self.logins(value),
                "private_dir" => {
                    let dirs = self.named(value, "private_dir", VariableName::new, Self::private_dir);
                    policy.private_dirs =
                        dirs.into_iter().filter_map(|(name, dir)| Some((name, dir?))).collect();
                }
                _ => self.unknown(key, "the policy", &TABLES),
            }
        }
        policy
    }

    /// `[kind.NAME]` tables: each name checked, each body read.
    fn named<N: Ord, T>(
        &mut self,
        value: &Value<'_>,
        kind: &str,
        name: fn(&str) -> Result<N, &'static str>,
        body: fn(&mut Self, &str, &Value<'_>) -> T,
    ) -> BTreeMap<N, T> {
        let mut all = BTreeMap::new();
        for (key, value) in self.table(value, kind) {
            let text = key.get_ref().as_ref();
            if self.is_part_of_a_name(kind, text, value) {
                continue;
            }
            let body = body(self, text, value);
            match name(text) {
                Ok(name) => {
                    if all.insert(name, body).is_some() {
                        self.error(
                            key.span(),
                            format!("{kind} \"{text}\" is declared twice, in two spellings"),
                        );
                    }
                }
                Err(expected) => self.error(key.span(), format!("{kind} \"{text}\": {expected}")),
            }
        }
        all
    }

    /// Whether a table's name is only the beginning of one with a dot in it: `[logins.user.john.doe]` is a table `doe`
    /// in `john`. No key of a policy's tables takes a table.
    fn is_part_of_a_name(&mut self, kind: &str, name: &str, value: &Value<'_>) -> bool {
        let DeValue::Table(table) = value.get_ref() else { return false };
        let mut found = false;
        for (part, value) in in_file_order(table) {
            if !matches!(value.get_ref(), DeValue::Table(_)) {
                continue;
            }
            let (mut whole, mut inner) = (format!("{name}.{}", part.get_ref()), value);
            while let Some((part, value)) = only_table(inner) {
                whole = format!("{whole}.{}", part.get_ref());
                inner = value;
            }
            let message =
                format!("[{kind}.{whole}]: quote a name with a dot in it: [{kind}.{}]", key(&whole));
            self.error(part.span(), message);
            found = true;
        }
        found
    }

    fn slice(&mut self, name: &str, value: &Value<'_>) -> Slice {
        let mut slice = Slice::default();
        let place = format!("[slice.\"{name}\"]");
        for (key, value) in self.table(value, &place) {
            match key.get_ref().as_ref() {
                "match" => slice.matches = self.patterns(value),
                "cpu_floor" => slice.cpu_floor = self.value(key, value),
                "launcher" => slice.launcher = self.value(key, value),
                _ => self.resource(&mut slice.resources, key, value, &place, (&OF_SLICES, &resources())),
            }
        }
        slice
    }

    fn patterns(&mut self, value: &Value<'_>) -> Vec<Sourced<ServicePattern>> {
        let DeValue::Array(array) = value.get_ref() else {
            self.expected("match", value, "a list of services: [\"local-*\", \"nginx\"]");
            return Vec::new();
        };
        let mut patterns = Vec::new();
        for element in array {
            match element.get_ref().as_str().map(ServicePattern::new) {
                Some(Ok(pattern)) => patterns.push(self.sourced(element, pattern)),
                Some(Err(expected)) => self.expected("match", element, expected),
                None => self.expected("match", element, "a service's name, or a prefix ending in \"-*\""),
            }
        }
        patterns
    }

    fn service(&mut self, name: &str, value: &Value<'_>) -> Service {
        let mut service = Service::default();
        let place = format!("[service.{name}]");
        for (key, value) in self.table(value, &place) {
            match key.get_ref().as_ref() {
                "oom_score_adj" => service.oom_score_adj = self.value(key, value),
                "set_by" => service.set_by = self.value(key, value),
                "launcher" => service.launcher = self.value(key, value),
                name => {
                    if let Some(setting) = OfService::by_key(name) {
                        service.own.extend(self.of_service(setting, value));
                        continue;
                    }
                    let own = OF_SERVICES.map(|setting| setting.key);
                    let others = [SERVICE.as_slice(), own.as_slice()].concat();
                    self.resource(&mut service.resources, key, value, &place, (&others, &resources()));
                }
            }
        }
        service
    }

    fn logins(&mut self, value: &Value<'_>) -> Logins {
        let totals = PROPERTIES.iter().filter_map(|property| property.total);
        let others: Vec<&str> = ["total_weight", "sessions"]
            .into_iter()
            .chain(totals)
            .chain(["oom_score_adj", "user", "group"])
            .collect();
        let mut logins = Logins::default();
        for (key, value) in self.table(value, "[logins]") {
            match key.get_ref().as_ref() {
                "total_weight" => logins.total_weight = self.value(key, value),
                "sessions" => logins.sessions = self.names(value, "sessions", "[\"cron\", \"su\"]"),
                name if name.starts_with("total_") && Property::by_key(name).is_some() => {
                    self.set(&mut logins.total, key, value);
                }
                "user" => logins.users = self.login_rules(value, "user", None),
                "group" => logins.groups = self.login_rules(value, "group", Some(&mut logins.budgets)),
                _ => self.login_key(&mut logins.default, key, value, "[logins]", &others),
            }
        }
        logins
    }

    /// `budgets` is where groups' own key goes.
    fn login_rules(
        &mut self,
        value: &Value<'_>,
        kind: &str,
        mut budgets: Option<&mut BTreeMap<String, Sourced<Weight>>>,
    ) -> Vec<(String, LoginRule)> {
        let others: &[&str] =
            if budgets.is_some() { &["total_weight", "oom_score_adj"] } else { &["oom_score_adj"] };
        let mut rules = Vec::new();
        for (name, body) in self.table(value, &format!("[logins.{kind}]")) {
            if self.is_part_of_a_name(&format!("logins.{kind}"), name.get_ref(), body) {
                continue;
            }
            let place = format!("[logins.{kind}.{}]", key(name.get_ref()));
            let mut rule = LoginRule::default();
            for (key, value) in self.table(body, &place) {
                match &mut budgets {
                    Some(budgets) if key.get_ref() == "total_weight" => {
                        let weight = self.value(key, value);
                        budgets.extend(weight.map(|weight| (name.get_ref().to_string(), weight)));
                    }
                    None if key.get_ref() == "total_weight" => {
                        let message =
                            format!("unknown key \"total_weight\" in {place}: a user's weight is cpu_weight");
                        self.error(key.span(), message);
                    }
                    _ => self.login_key(&mut rule, key, value, &place, others),
                }
            }
            rules.push((name.get_ref().to_string(), rule));
        }
        rules
    }

    fn login_key(
        &mut self,
        rule: &mut LoginRule,
        key: &Key<'_>,
        value: &Value<'_>,
        place: &str,
        others: &[&str],
    ) {
        if key.get_ref() == "oom_score_adj" {
            rule.oom_score_adj = self.value(key, value);
        } else {
            let of_logins: Vec<&str> = Property::of_logins().map(|property| property.key).collect();
            self.resource(&mut rule.resources, key, value, place, (others, &of_logins));
        }
    }

    /// One of those that are `allowed`; the others are what else `place` knows, for the nearest spelling.
    fn resource(
        &mut self,
        resources: &mut Resources,
        key: &Key<'_>,
        value: &Value<'_>,
        place: &str,
        (others, allowed): (&[&str], &[&str]),
    ) {
        if allowed.contains(&key.get_ref().as_ref()) {
            self.set(resources, key, value);
        } else {
            self.unknown(key, place, &[others, allowed].concat());
        }
    }

    fn set(&mut self, resources: &mut Resources, key: &Key<'_>, value: &Value<'_>) {
        match Property::by_key(key.get_ref()) {
            Some(CPU_WEIGHT) => resources.cpu_weight = self.value(key, value),
            Some(CPU_QUOTA) => resources.cpu_quota = self.value(key, value),
            Some(IO_WEIGHT) => resources.io_weight = self.value(key, value),
            Some(IO_READ_BANDWIDTH_MAX) => resources.io_read_bandwidth_max = self.value(key, value),
            Some(IO_WRITE_BANDWIDTH_MAX) => resources.io_write_bandwidth_max = self.value(key, value),
            Some(MEMORY_MIN) => resources.memory_min = self.value(key, value),
            Some(MEMORY_LOW) => resources.memory_low = self.value(key, value),
            Some(MEMORY_HIGH) => resources.memory_high = self.ceiling(key, value),
            Some(MEMORY_MAX) => resources.memory_max = self.ceiling(key, value),
            Some(MEMORY_SWAP_MAX) => resources.memory_swap_max = self.value(key, value),
            Some(MEMORY_ZSWAP_MAX) => resources.memory_zswap_max = self.value(key, value),
            Some(TASKS_MAX) => resources.tasks_max = self.value(key, value),
            _ => {}
        }
    }

    fn of_service(&mut self, setting: OfService, value: &Value<'_>) -> Declared<ServiceValue> {
        match of_service(setting, value.get_ref()) {
            Ok(read) => Some(self.sourced(value, read)),
            Err(expected) => {
                self.expected(setting.key, value, &expected);
                None
            }
        }
    }

    fn private_dir(&mut self, name: &str, value: &Value<'_>) -> Option<PrivateDir> {
        let place = format!("[private_dir.{name}]");
        let before = self.diagnostics.len();
        let (mut path, mut only_if) = (None, None);
        let (mut users, mut groups, mut trusted_groups) = (Vec::new(), Vec::new(), Vec::new());
        let (mut min_uid, mut max_uid, mut mode, mut max_age) = (None, None, None, None);
        for (key, value) in self.table(value, &place) {
            match key.get_ref().as_ref() {
                "path" => path = self.text(value, "path", PathTemplate::new),
                "only_if" => {
                    only_if = self.text(value, "only_if", |text| absolute(text).map(|()| text.to_owned()));
                }
                "users" => users = self.names(value, "users", "[\"alice\", \"bob\"]"),
                "groups" => groups = self.names(value, "groups", "[\"dev\"]"),
                "trusted_groups" => trusted_groups = self.names(value, "trusted_groups", "[\"dev\"]"),
                "min_uid" => min_uid = self.value(key, value),
                "max_uid" => max_uid = self.value(key, value),
                "mode" => mode = self.value(key, value),
                "max_age" => max_age = self.value(key, value),
                _ => self.unknown(key, &place, &PRIVATE_DIR),
            }
        }
        if path.is_none() && self.diagnostics.len() == before {
            let example = format!("path = \"/srv/{}/{{user}}\"", name.to_lowercase());
            self.error(value.span(), format!("{place} has no path: {example}"));
        }
        let dir = |path| PrivateDir {
            path,
            only_if,
            users,
            groups,
            trusted_groups,
            min_uid,
            max_uid,
            mode,
            max_age,
        };
        path.map(dir)
    }

    /// Names of users or groups: at least one, since an empty list of `users` or `groups` would be taken for everybody.
    fn names(&mut self, value: &Value<'_>, key: &str, example: &str) -> Vec<Sourced<String>> {
        let DeValue::Array(array) = value.get_ref() else {
            self.expected(key, value, &format!("a list of names: {example}"));
            return Vec::new();
        };
        if array.is_empty() {
            self.expected(
                key,
                value,
                &format!(
                    "at least one name ({example}); leave the key out for {}",
                    if key == "trusted_groups" { "nobody" } else { "everybody" }
                ),
            );
        }
        let mut names = Vec::new();
        for element in array {
            match element.get_ref().as_str() {
                Some(name) if !name.is_empty() => names.push(self.sourced(element, name.to_owned())),
                _ => self.expected(key, element, "a name in quotes"),
            }
        }
        names
    }

    fn text<T>(&mut self, value: &Value<'_>, key: &str, read: fn(&str) -> Result<T, String>) -> Declared<T> {
        match value.get_ref().as_str().map_or_else(|| Err("a path in quotes".to_owned()), read) {
            Ok(read) => Some(self.sourced(value, read)),
            Err(expected) => {
                self.expected(key, value, &expected);
                None
            }
        }
    }

    fn value<T: FromToml>(&mut self, key: &Key<'_>, value: &Value<'_>) -> Declared<T> {
        match T::from_toml(value.get_ref()) {
            Ok(read) => Some(self.sourced(value, read)),
            Err(expected) => {
                self.expected(key.get_ref(), value, &expected);
                None
            }
        }
    }

    /// systemd refuses a ceiling of nothing.
    fn ceiling(&mut self, key: &Key<'_>, value: &Value<'_>) -> Declared<Memory> {
        let ceiling: Sourced<Memory> = self.value(key, value)?;
        if ceiling.value.0.on(u64::MAX) == Some(0) {
            self.expected(key.get_ref(), value, "more than nothing: no process could run");
            return None;
        }
        Some(ceiling)
    }

    fn table<'v, 'i>(&mut self, value: &'v Value<'i>, place: &str) -> Vec<(&'v Key<'i>, &'v Value<'i>)> {
        if let DeValue::Table(table) = value.get_ref() {
            in_file_order(table)
        } else {
            self.expected(place, value, "a table");
            Vec::new()
        }
    }

    fn unknown(&mut self, key: &Key<'_>, place: &str, known: &[&str]) {
        let given = key.get_ref().as_ref();
        let nearest = || {
            nearest(given, known.iter().copied(), 1 + given.chars().count() / 4)
                .map(|meant| format!("did you mean \"{meant}\"?"))
        };
        let remedy = elsewhere(given, place, known)
            .or_else(nearest)
            .unwrap_or_else(|| format!("it takes {}", known.join(", ")));
        self.error(key.span(), format!("unknown key \"{given}\" in {place}: {remedy}"));
    }

    fn expected(&mut self, key: &str, value: &Value<'_>, expected: &str) {
        let found = shown(self.source.text.get(value.span()).unwrap_or_default()).at_most(MOST_SHOWN);
        self.error(value.span(), format!("{key} = {found}: expected {expected}"));
    }

    fn error(&mut self, span: Range<usize>, message: String) {
        if self.unquoted.contains(&self.start_of_line(&span)) {
            return;
        }
        if self.diagnostics.len() < MOST_ERRORS {
            let diagnostic = Diagnostic::at(&self.origin(&span), message);
            self.diagnostics.push(diagnostic);
        } else {
            self.more += 1;
        }
    }

    fn sourced<T>(&self, value: &Value<'_>, read: T) -> Sourced<T> {
        Sourced { value: read, origin: self.origin(&value.span()) }
    }

    /// The line that a span begins in, without what is blank around it.
    fn line(&self, span: &Range<usize>) -> &'a str {
        let start = self.start_of_line(span);
        self.source.text.get(start..).and_then(|text| text.lines().next()).unwrap_or_default().trim()
    }

    /// What else is wrong with a table whose name lacks its quotes comes of that: its keys are in another one.
    fn give_up(&mut self, span: &Range<usize>) {
        let header = self.start_of_line(span);
        if self.unquoted.contains(&header) {
            return;
        }
        let first = self.lines.partition_point(|start| *start <= header);
        let below = self.lines.iter().copied().skip(first);
        let line = |start: usize| self.source.text.get(start..).and_then(|text| text.lines().next());
        let is_header = |start: usize| line(start).is_some_and(|line| line.trim_start().starts_with('['));
        let keys: Vec<usize> = below.take_while(|start| !is_header(*start)).collect();
        self.unquoted.extend(keys.into_iter().chain([header]));
    }

    fn start_of_line(&self, span: &Range<usize>) -> usize {
        let line = self.lines.partition_point(|start| *start <= span.start).max(1);
        self.lines.get(line - 1).copied().unwrap_or_default()
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        let line = self.lines.partition_point(|start| *start <= span.start).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let (of, offset, characters) = self.counted.get();
        let known = if of == start && offset <= span.start { (offset, characters) } else { (start, 0) };
        let further = self.source.text.get(known.0..span.start).map_or(0, |text| text.chars().count());
        let column = known.1 + further + 1;
        self.counted.set((start, span.start.max(start), column - 1));
        Origin { file: self.source.path.clone(), line, column }
    }
}

/// A table's entries, as they stand in the file: the first group rule that matches wins.
fn in_file_order<'v, 'i>(table: &'v DeTable<'i>) -> Vec<(&'v Key<'i>, &'v Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The only key of a table, where that is a table too.
fn only_table<'v, 'i>(table: &'v Value<'i>) -> Option<(&'v Key<'i>, &'v Value<'i>)> {
    let DeValue::Table(table) = table.get_ref() else { return None };
    let [entry] = in_file_order(table).try_into().ok()?;
    matches!(entry.1.get_ref(), DeValue::Table(_)).then_some(entry)
}
