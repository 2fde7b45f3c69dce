//! What the doctor has found, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::effect::finding::{Finding, Fix, Severity};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

const SEVERE: Style = AnsiColor::Red.on_default().bold();
const MODERATE: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// What was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Looked<'a> {
    /// How many settings.
    pub settings: usize,
    /// What could not be looked at, a line each.
    pub missed: &'a [String],
}

/// A few lines for each finding, and one that counts them.
#[must_use]
pub fn doctor_text(findings: &[Finding], looked: Looked<'_>) -> String {
    let mut text: String = findings.iter().map(finding_text).collect();
    let settings = looked.settings;
    // Writing to a string cannot fail.
    let _ = match findings.len() {
        0 => writeln!(text, "nothing found: {settings} settings looked at"),
        1 => writeln!(text, "1 finding, {settings} settings looked at"),
        found => writeln!(text, "{found} findings, {settings} settings looked at"),
    };
    text
}

/// One finding: a heading, and a line each for what it costs, why it is, and what to do.
#[must_use]
pub fn finding_text(finding: &Finding) -> String {
    let (severity, style) = severity(finding.code.severity());
    let mut text =
        format!("{style}{} {severity:<8}{style:#}  {}: {}\n", finding.code, finding.subject, finding.what);
    let mut line = |head: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "      {DIM}{head:<5}{DIM:#}  {what}");
    };
    if let Some(cost) = &finding.cost {
        line("cost", cost);
    }
    match &finding.at {
        Some(at) => line("cause", &format!("{} ({at})", finding.cause)),
        None => line("cause", &finding.cause),
    }
    line("fix", &remedy(&finding.fix));
    text
}

/// The word for it, also as a label; and its colour.
pub(super) fn severity(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Severe => ("severe", SEVERE),
        Severity::Moderate => ("moderate", MODERATE),
        Severity::Minor => ("minor", DIM),
    }
}

/// What to do, in words or as a command line.
fn remedy(fix: &Fix) -> String {
    match (command(fix), fix) {
        (Some(command), _) => command,
        (None, Fix::Edit(words)) => words.clone(),
        (None, _) => String::new(),
    }
}

/// The command line that mends it, where one does.
fn command(fix: &Fix) -> Option<String> {
    match fix {
        Fix::Apply => Some("fairslice apply".to_owned()),
        Fix::Restart(unit) if unit.contains('\\') => Some(format!("systemctl restart '{unit}'")),
        Fix::Restart(unit) => Some(format!("systemctl restart {unit}")),
        Fix::Command(command) => Some(command.clone()),
        Fix::Edit(_) => None,
    }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn doctor_json(findings: &[Finding], looked: Looked<'_>) -> String {
    let value = json!({
        "version": JSON_VERSION,
        "settings": looked.settings,
        "missed": looked.missed,
        "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

/// One finding as JSON.
pub(super) fn finding_json(finding: &Finding) -> Value {
    let (severity, _) = severity(finding.code.severity());
    let kind = match finding.fix {
        Fix::Apply => "apply",
        Fix::Restart(_) => "restart",
        Fix::Command(_) => "command",
        Fix::Edit(_) => "edit",
    };
    json!({
        "code": finding.code.to_string(),
        "severity": severity,
        "title": finding.code.title(),
        "subject": finding.subject,
        "what": finding.what,
        "cost": finding.cost,
        "cause": finding.cause,
        "file": finding.at.as_ref().map(|at| at.file.display().to_string()),
        "line": finding.at.as_ref().and_then(|at| at.line),
        "fix": { "kind": kind, "text": remedy(&finding.fix), "command": command(&finding.fix) },
    })
}
