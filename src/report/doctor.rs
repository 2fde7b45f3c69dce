//! What the doctor has found, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::json::json_text;
use crate::doctor::finding::{Finding, Fix, Severity};
use crate::enforce::apply::Left;
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

const SEVERE: Style = AnsiColor::Red.on_default().bold();
const MODERATE: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();

/// What was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Examined<'a> {
    /// How many settings.
    pub settings: usize,
    /// What could not be looked at, a line each.
    pub missed: &'a [String],
}

/// A few lines for each finding, and one that counts them.
#[must_use]
pub fn doctor_text(findings: &[Finding], looked: Examined<'_>) -> String {
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
    let heading = format!("{}: {}", finding.subject, finding.what);
    let mut text = format!("{style}{} {severity:<8}{style:#}  {}\n", finding.code, shown(&heading));
    let mut line = |head: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "      {DIM}{head:<5}{DIM:#}  {}", shown(what));
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

/// What `--fix` is about to fix.
#[must_use]
pub fn fixable_text(findings: &[&Finding]) -> String {
    let mut text = "will fix:\n".to_owned();
    text.extend(findings.iter().map(|finding| finding_text(finding)));
    text.push_str("changes:\n");
    text
}

/// What `--fix` has fixed, and what was resolved without a change of its.
#[must_use]
pub fn fixed_text(fixed: &[&Finding], by_itself: &[&Finding]) -> String {
    let mut text = String::new();
    for (heading, findings) in [("fixed", fixed), ("already resolved", by_itself)] {
        for Finding { code, subject, what, .. } in findings {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{heading}: {code} {}", shown(&format!("{subject}: {what}")));
        }
    }
    text
}

/// What `--fix` leaves, by whom it waits for; `reasons` are those of `fairslice apply`.
#[must_use]
pub fn left_text(findings: &[Finding], reasons: &[&Left]) -> String {
    if findings.is_empty() {
        return "nothing left to fix\n".to_owned();
    }
    let mut text = String::new();
    for (heading, belongs) in [
        ("could not fix:", (|fix| *fix == Fix::Apply) as fn(&Fix) -> bool),
        ("needs a restart (fairslice apply --restart):", |fix| matches!(fix, Fix::Restart(_))),
        ("for you to decide:", |fix| matches!(fix, Fix::Command(_) | Fix::Edit(_))),
    ] {
        let mut group = findings.iter().filter(|finding| belongs(&finding.fix)).peekable();
        if group.peek().is_some() {
            text.push_str(heading);
            text.push('\n');
        }
        for finding in group {
            text.push_str(&finding_text(finding));
            let of_it = |reason: &&&Left| finding.subject.has(&reason.unit);
            for Left { unit, key, why, .. } in
                reasons.iter().filter(|_| finding.fix == Fix::Apply).filter(of_it)
            {
                let _ =
                    writeln!(text, "      {DIM}why  {DIM:#}  {}", shown(&format!("{unit}: {key}: {why}")));
            }
        }
    }
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
pub(super) fn remedy(fix: &Fix) -> String {
    if let Fix::Edit(words) = fix { words.clone() } else { fix.command().unwrap_or_default() }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn doctor_json(findings: &[Finding], looked: Examined<'_>) -> String {
    let value = json!({
        "version": JSON_VERSION,
        "settings": looked.settings,
        "missed": looked.missed,
        "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
    });
    json_text(&value)
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
        "subject": finding.subject.to_string(),
        "what": finding.what,
        "cost": finding.cost,
        "cause": finding.cause,
        "file": finding.at.as_ref().map(|at| Foreign::from(at.file.as_path())),
        "line": finding.at.as_ref().and_then(|at| at.line),
        "fix": { "kind": kind, "text": remedy(&finding.fix), "command": finding.fix.command() },
    })
}
