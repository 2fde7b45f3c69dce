//! The way of each value of one unit, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::doctor::{finding_json, finding_text};
use super::json::json_text;
use crate::doctor::chain::{Chain, Stage};
use crate::doctor::finding::Finding;
use crate::survey::Winner;
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// What one unit's settings come to.
#[derive(Debug, Clone, Copy)]
pub struct UnitView<'a> {
    /// Its name.
    pub name: &'a str,
    /// The ways of its values.
    pub chains: &'a [Chain],
    /// What else its files set of resources.
    pub others: &'a [Winner],
    /// What the doctor finds beside the links that break.
    pub findings: &'a [Finding],
}

/// A heading for each value, an aligned line for each link; below the first that breaks, why. Then what else is set,
/// and what else is wrong.
#[must_use]
pub fn unit_text(view: &UnitView<'_>) -> String {
    let mut text = format!("{}\n", shown(view.name));
    for chain in view.chains {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", chain.key);
        let widths = chain.links.iter().map(|link| value(link.value.as_deref()).chars().count());
        let width = widths.max().unwrap_or(0);
        let broken = chain.links.iter().position(|link| !link.holds);
        for (index, link) in chain.links.iter().enumerate() {
            let (stage, value) = (stage(link.stage), value(link.value.as_deref()));
            let at = match (&link.at, link.stage) {
                (Some(at), _) => format!("  {DIM}{at}{DIM:#}"),
                (None, Stage::Policy) => format!("  {DIM}the sum over the slices below{DIM:#}"),
                (None, _) => String::new(),
            };
            let (mark, style) = match (link.holds, broken == Some(index)) {
                (true, _) => ("  ", Style::new()),
                (false, true) => ("! ", BAD),
                (false, false) => ("  ", BAD),
            };
            let line = format!("  {mark}{stage:<8}  {style}{value:<width$}{style:#}{at}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        if let Some(broken) = &chain.broken {
            finding_text(broken).lines().for_each(|line| {
                let _ = writeln!(text, "    {line}");
            });
        }
    }
    let others = || view.others.iter().filter_map(|other| Some((other, other.set.as_ref()?)));
    if others().next().is_some() {
        text.push_str("also set\n");
    }
    let width =
        |of: &dyn Fn(&Winner, &str) -> usize| others().map(|(other, (_, value))| of(other, value)).max();
    let key = width(&|other, _| other.setting.len()).unwrap_or(0);
    let wide = width(&|_, value| shown(value).to_string().chars().count()).unwrap_or(0);
    for (other, (line, value)) in others() {
        let (setting, value) = (shown(&other.setting).to_string(), shown(value).to_string());
        let _ =
            writeln!(text, "    {setting:<key$}  {value:<wide$}  {DIM}{}:{line}{DIM:#}", shown(&other.file));
    }
    for finding in view.findings {
        text.push_str(&finding_text(finding));
    }
    text
}

fn value(value: Option<&str>) -> String {
    shown(value.unwrap_or("-")).to_string()
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Policy => "policy",
        Stage::DropIn => "drop-in",
        Stage::Property => "property",
        Stage::Cgroup => "cgroup",
        Stage::Process => "process",
    }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn unit_json(view: &UnitView<'_>) -> String {
    let other = |other: &Winner| {
        let (line, value) = other.set.as_ref()?;
        let file = Foreign::from(other.file.as_path());
        Some(json!({ "setting": other.setting, "value": value, "file": file, "line": line }))
    };
    let value = json!({
        "version": JSON_VERSION,
        "unit": view.name,
        "chains": view.chains.iter().map(chain_json).collect::<Vec<_>>(),
        "also_set": view.others.iter().filter_map(other).collect::<Vec<_>>(),
        "findings": view.findings.iter().map(finding_json).collect::<Vec<_>>(),
    });
    json_text(&value)
}

fn chain_json(chain: &Chain) -> Value {
    let links = chain.links.iter().map(|link| {
        json!({
            "link": stage(link.stage),
            "value": link.value,
            "holds": link.holds,
            "file": link.at.as_ref().map(|at| Foreign::from(at.file.as_path())),
            "line": link.at.as_ref().and_then(|at| at.line),
        })
    });
    json!({
        "setting": chain.key,
        "links": links.collect::<Vec<_>>(),
        "broken": chain.broken.as_ref().map(finding_json),
    })
}
