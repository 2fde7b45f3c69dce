//! The way of each value of one unit, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::doctor::{finding_json, finding_text};
use super::json::json_text;
use crate::effect::chain::{Chain, Stage};
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// A heading for each value, an aligned line for each link; below the first that breaks, why.
#[must_use]
pub fn unit_text(unit: &str, chains: &[Chain]) -> String {
    let mut text = format!("{}\n", shown(unit));
    for chain in chains {
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
pub fn unit_json(unit: &str, chains: &[Chain]) -> String {
    let value = json!({
        "version": JSON_VERSION,
        "unit": unit,
        "chains": chains.iter().map(chain_json).collect::<Vec<_>>(),
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
