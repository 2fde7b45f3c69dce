//! `fairslice` without arguments: what is in force, what is not, and the next command, in ten lines.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::doctor::severity;
use super::openmetrics::Diagnosis;
use super::table::DIM;
use crate::doctor::finding::{Finding, Fix, Severity};
use crate::effect::{Status, UnitKind, UnitStatus};
use crate::policy::{InForce, Loaded};
use crate::text::{counted, shown};

/// So many of a kind are named, and the others counted.
const NAMED: usize = 3;

/// No more than ten lines, whatever the machine. `by_hand` is whether something is set by hand that the policy could say.
#[must_use]
pub fn overview(status: &Status, loaded: &Loaded, found: &Diagnosis, by_hand: bool) -> String {
    let mut text = String::new();
    let mut line = |head: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{DIM}{head:<8}{DIM:#}  {}", shown(what));
    };
    line("policy", &policy(loaded));
    line("in force", &in_force(status));
    let differing: Vec<String> =
        status.units.iter().filter(|unit| unit.differs()).map(not_in_force).collect();
    if !differing.is_empty() {
        line("not", &some(&differing, "; ", "units"));
    }
    line("found", &findings(found));
    let commands = next(status, loaded, found, by_hand);
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (at, (command, why)) in commands.iter().enumerate() {
        line(if at == 0 { "next" } else { "" }, &format!("{command:width$}  {why}"));
    }
    text
}

/// The same in two lines at most, among those of apt: what is in force and what waits for a restart, and what is wrong.
#[must_use]
pub fn installed(status: &Status, loaded: &Loaded, found: &Diagnosis) -> String {
    let restarts = restarts(found);
    let waiting = if restarts.is_empty() {
        String::new()
    } else {
        format!("; fairslice apply --restart restarts {}", some(&restarts, " ", "services"))
    };
    let mut text = String::new();
    let mut line = |what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "fairslice: {}", shown(what));
    };
    line(&format!("in force: {}{waiting}", in_force(status)));
    if !loaded.diagnostics.is_empty() {
        line("the policy has errors: fairslice check");
    } else if !found.findings.is_empty() {
        line(&format!("found: {}: fairslice doctor", findings(found)));
    }
    text
}

fn policy(loaded: &Loaded) -> String {
    if loaded.in_force != InForce::Current {
        return loaded.in_force.note().unwrap_or_default();
    }
    let files: Vec<String> = loaded.files.iter().map(|file| shown(&*file.path).to_string()).collect();
    some(&files, " + ", "files")
}

/// The first few of them, and how many more there are.
fn some(all: &[String], separator: &str, what: &str) -> String {
    let (named, others) = all.split_at(all.len().min(NAMED));
    let more =
        if others.is_empty() { String::new() } else { format!("{separator}{} more {what}", others.len()) };
    named.join(separator) + &more
}

/// How much of what is declared is in force, and of what.
pub(super) fn in_force(status: &Status) -> String {
    let (all, differing) = (status.compared(), status.differing());
    if all == 0 {
        return "nothing".to_owned();
    }
    let settings = counted(all, "setting", "settings");
    let part = if differing == 0 { settings } else { format!("{} of {settings}", all - differing) };
    let active = |kind| status.units.iter().filter(move |unit| unit.active && unit.kind == kind);
    let slices = counted(active(UnitKind::Slice).count(), "slice", "slices");
    let services = counted(active(UnitKind::Service).count(), "service", "services");
    let users = active(UnitKind::Login).filter(|unit| unit.user.is_some()).count();
    let users = counted(users, "user", "users");
    format!("{part}: {slices}, {services}, logins of {users}")
}

/// A unit, and what of it is not as declared.
fn not_in_force(unit: &UnitStatus) -> String {
    let keys: Vec<&str> = unit.settings.iter().filter(|one| !one.holds).map(|one| one.key).collect();
    format!("{} {}", unit.name, keys.join(", "))
}

/// How much the doctor has found, and the worst of it.
pub(super) fn findings(found: &Diagnosis) -> String {
    let unknown = if found.is_whole { "" } else { " (not everything could be looked at)" };
    let Some(worst) = found.findings.first() else { return format!("nothing{unknown}") };
    let of = |severity| found.findings.iter().filter(|finding| finding.code.severity() == severity).count();
    let counts =
        [Severity::Severe, Severity::Moderate, Severity::Minor].map(|kind| (of(kind), severity(kind).0));
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    format!("{}{unknown}; the worst is {}, {}", counts.join(", "), worst.code, worst.code.title())
}

/// What to run, in this order, and what it is for.
fn next(status: &Status, loaded: &Loaded, found: &Diagnosis, by_hand: bool) -> Vec<(&'static str, String)> {
    if !loaded.diagnostics.is_empty() {
        return vec![("fairslice check", "each error of the policy, with file and line".to_owned())];
    }
    let mut commands = Vec::new();
    if found.findings.iter().any(|finding| finding.fix == Fix::Apply) {
        commands.push(("fairslice apply", "puts in force what needs no restart".to_owned()));
    }
    let restarts = restarts(found);
    if !restarts.is_empty() {
        commands
            .push(("fairslice apply --restart", format!("restarts {}", some(&restarts, " ", "services"))));
    }
    if !found.findings.is_empty() {
        commands.push(("fairslice doctor", "says of each finding what causes it, and what helps".to_owned()));
    }
    if by_hand {
        commands.push(("fairslice import", "prints what is set by hand as a policy".to_owned()));
    }
    if !status.units.iter().any(|unit| unit.kind == UnitKind::Service) {
        commands.push(("man fairslice-policy", "the policy names no service that there is".to_owned()));
    }
    if commands.is_empty() {
        commands.push(("fairslice status", "who uses what, and is due what".to_owned()));
    }
    commands
}

/// The services that wait for a restart, by name.
fn restarts(found: &Diagnosis) -> Vec<String> {
    let units: BTreeSet<&String> = found.findings.iter().flat_map(restarted).collect();
    units.into_iter().cloned().collect()
}

fn restarted(finding: &Finding) -> &[String] {
    if let Fix::Restart(units) = &finding.fix { units } else { &[] }
}
