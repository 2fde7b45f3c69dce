//! Many hosts in one table: what is in force on each, the worst first.
#![forbid(unsafe_code)]

pub(super) mod document;

use std::cmp::Reverse;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use self::document::{Document, InForce, SettingState, Text, UnitState, documents};
use super::json::json_text;
use super::table::{PLAIN, Table};
use crate::text::{Foreign, and_more, counted, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The hosts of some files, the worst first, and what of those could not be read.
#[derive(Debug, Default)]
pub struct Fleet {
    hosts: Vec<Host>,
    unread: Vec<Unread>,
}

/// One host.
#[derive(Debug)]
struct Host {
    name: Foreign,
    /// Where it was read.
    file: Foreign,
    document: Document,
}

/// What is not among the hosts, and why.
#[derive(Debug)]
struct Unread {
    file: Foreign,
    why: String,
}

impl Fleet {
    /// Adds the documents of a file.
    pub fn add(&mut self, file: &Foreign, bytes: &[u8]) {
        let documents = documents(bytes);
        let several = documents.len() > 1;
        for (number, document) in documents.into_iter().enumerate() {
            match document {
                Ok(document) => {
                    let name = document.host.as_ref().map_or_else(|| file.clone(), Text::foreign);
                    self.add_host(Host { name, file: file.clone(), document });
                }
                Err(why) => {
                    let which = if several { format!("document {}: ", number + 1) } else { String::new() };
                    self.fail(file.clone(), format!("{which}{why}"));
                }
            }
        }
    }

    /// Says of a file why there is nothing of it.
    pub fn fail(&mut self, file: Foreign, why: String) {
        self.unread.push(Unread { file, why });
    }

    /// Of two documents of one host the later counts.
    fn add_host(&mut self, host: Host) {
        let Some(known) = self.hosts.iter_mut().find(|known| known.name == host.name) else {
            self.hosts.push(host);
            return;
        };
        let (counts, other) = if host.document.time > known.document.time {
            let other = std::mem::replace(known, host);
            (&*known, other)
        } else {
            (&*known, host)
        };
        let [host, file, time] =
            [shown(&other.name), shown(&counts.file), shown(counts.time())].map(|text| text.to_string());
        let why = format!("is about {host} as well: what counts is {file}, of {time}");
        self.unread.push(Unread { file: other.file, why });
    }

    /// Whether everything is in force on every host.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.hosts.iter().all(Host::is_well)
    }

    /// What is not among the hosts, a line each.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        self.unread.iter().map(|unread| format!("{} {}", shown(&unread.file), unread.why)).collect()
    }

    fn sorted(&self) -> Vec<&Host> {
        let mut hosts: Vec<&Host> = self.hosts.iter().collect();
        hosts.sort_by_key(|host| host.badness());
        hosts
    }
}

impl Host {
    /// The settings of units that run.
    fn settings(&self) -> impl Iterator<Item = (&UnitState, &SettingState)> {
        let active = self.document.units.iter().filter(|unit| unit.active);
        active.flat_map(|unit| unit.settings.iter().map(move |setting| (unit, setting)))
    }

    fn differing(&self) -> impl Iterator<Item = (&UnitState, &SettingState)> {
        self.settings().filter(|(_, setting)| !setting.holds)
    }

    fn is_well(&self) -> bool {
        let policy = &self.document.policy;
        policy.in_force == InForce::Current && policy.errors.is_empty() && self.differing().next().is_none()
    }

    /// In this order, the worst is the first.
    fn badness(&self) -> impl Ord + use<> {
        let Document { policy, missed, .. } = &self.document;
        let differing = Reverse(self.differing().count());
        let errors = Reverse(policy.errors.len());
        (policy.in_force, differing, errors, Reverse(missed.len()), self.name.clone())
    }

    fn time(&self) -> &str {
        self.document.time.as_deref().unwrap_or("unknown time")
    }

    fn policy(&self) -> String {
        let policy = &self.document.policy;
        let word = match policy.in_force {
            InForce::Current => "current",
            InForce::LastGood => "last good",
            InForce::Nothing => "none",
        };
        match policy.errors.len() {
            0 => word.to_owned(),
            errors => format!("{word}, {}", counted(errors, "error", "errors")),
        }
    }

    /// The first of what is wrong with the policy or not in force, and how much more there is.
    fn not_in_force(&self) -> String {
        let differing = self.differing().map(|(unit, setting)| {
            let user = unit.user.as_ref().map(|user| format!(" ({})", shown(&user.foreign())));
            let live = setting.live.as_deref().unwrap_or("nothing");
            let SettingState { setting, declared, .. } = setting;
            format!("{}{} {setting}: {live} instead of {declared}", unit.unit, user.unwrap_or_default())
        });
        let mut all = self.document.policy.errors.iter().cloned().chain(differing);
        let first = all.next().unwrap_or_default();
        first + &and_more(all.count())
    }

    fn json(&self) -> Value {
        let Document { policy, missed, .. } = &self.document;
        let differing: Vec<Value> = self
            .differing()
            .map(|(unit, setting)| {
                json!({
                    "unit": unit.unit, "user": unit.user.as_ref().map(Text::foreign),
                    "setting": setting.setting, "declared": setting.declared, "live": setting.live,
                    "origin": setting.origin,
                })
            })
            .collect();
        json!({
            "host": self.name, "file": self.file, "time": self.document.time, "well": self.is_well(),
            "policy": { "in_force": policy.in_force, "errors": policy.errors },
            "compared": self.settings().count(), "missed": missed.len(), "differing": differing,
        })
    }
}

/// The table, and what it comes to.
#[must_use]
pub fn fleet_text(fleet: &Fleet) -> String {
    let mut table = Table::new(["HOST", "AT", "POLICY", ">IN FORCE", "NOT IN FORCE"]);
    for host in fleet.sorted() {
        let compared = host.settings().count();
        let in_force = format!("{} of {compared}", compared - host.differing().count());
        let style = if host.is_well() { PLAIN } else { BAD };
        let name = shown(&host.name).to_string();
        let time = host.document.time.clone().unwrap_or_default();
        table.row(style, [name, time, host.policy(), in_force, host.not_in_force()]);
    }
    let mut text = String::new();
    table.write_to(&mut text);
    let all = fleet.hosts.len();
    let well = fleet.hosts.iter().filter(|host| host.is_well()).count();
    let hosts = counted(all, "host", "hosts");
    let verdict = if well == all {
        format!("{hosts}, all as declared")
    } else {
        format!("{hosts}, {} not as declared", all - well)
    };
    if all > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{verdict}");
    }
    text
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn fleet_json(fleet: &Fleet) -> String {
    let hosts: Vec<Value> = fleet.sorted().into_iter().map(Host::json).collect();
    let unread: Vec<Value> =
        fleet.unread.iter().map(|unread| json!({ "file": unread.file, "why": unread.why })).collect();
    json_text(&json!({ "version": JSON_VERSION, "hosts": hosts, "unread": unread }))
}
