//! Declared and live, as a table and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use crate::effect::{Compared, Kind, Status, Unit};
use crate::policy::{InForce, Loaded};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

const HEAD: [&str; 4] = ["UNIT", "SETTING", "DECLARED", "LIVE"];
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// An aligned table: a line for each setting, and one that sums up.
#[must_use]
pub fn status_text(status: &Status) -> String {
    let rows: Vec<Row> = status.units.iter().flat_map(rows).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut write = |cells: [&str; 4], style: Style, verdict: &str| {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        let verdict = if verdict.is_empty() { String::new() } else { format!("{style}{verdict}{style:#}") };
        let _ = writeln!(text, "{}", format!("{line}{verdict}").trim_end());
    };
    write(HEAD, DIM, "");
    for row in &rows {
        write(row.cells.each_ref().map(String::as_str), row.style, row.verdict);
    }
    let (differing, compared) = (status.differing(), status.compared());
    let _ = match differing {
        0 => writeln!(text, "\nall {compared} settings are as declared"),
        _ => writeln!(text, "\n{BAD}{differing} of {compared} settings are not as declared{BAD:#}"),
    };
    text
}

struct Row {
    cells: [String; 4],
    style: Style,
    verdict: &'static str,
}

fn rows(unit: &Unit) -> Vec<Row> {
    let name = match &unit.user {
        Some(user) => format!("{} ({user})", unit.name),
        None => unit.name.clone(),
    };
    let settings = unit.settings.iter().enumerate().map(|(index, setting)| {
        let name = if index == 0 { name.clone() } else { String::new() };
        let (style, verdict) = match (unit.active, setting.holds) {
            (false, _) => (DIM, "inactive"),
            (true, true) => (Style::new(), "ok"),
            (true, false) => (BAD, "differs"),
        };
        let live = setting.live.as_deref().map_or_else(|| "-".to_owned(), |live| readable(setting.key, live));
        Row { cells: [name, setting.key.to_owned(), setting.declared.clone(), live], style, verdict }
    });
    settings.collect()
}

/// Bytes with a suffix; of `io.weight`, which has a line for each device, the default.
fn readable(key: &str, live: &str) -> String {
    let first = live.lines().next().unwrap_or_default();
    match first.parse() {
        Ok(bytes) if key.starts_with("memory_") => with_suffix(bytes),
        _ => first.to_owned(),
    }
}

/// The largest unit of which there is at least one, to two decimals, cut: `1.36G`.
fn with_suffix(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let Some((shift, suffix)) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return bytes.to_string();
    };
    let hundredths = (u128::from(bytes) * 100) >> shift;
    match (hundredths / 100, hundredths % 100) {
        (whole, 0) => format!("{whole}{suffix}"),
        (whole, part) => format!("{whole}.{part:02}{suffix}"),
    }
}

/// The same for programs; `fairslice(1)` describes the shape.
#[must_use]
pub fn status_json(status: &Status, loaded: &Loaded) -> String {
    let errors: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let value = json!({
        "version": JSON_VERSION,
        "policy": {
            "in_force": match loaded.in_force {
                InForce::Current => "current",
                InForce::LastGood => "last_good",
                InForce::Nothing => "nothing",
            },
            "note": loaded.in_force.note(),
            "errors": errors,
        },
        "differing": status.differing(),
        "units": status.units.iter().map(unit_json).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn unit_json(unit: &Unit) -> Value {
    json!({
        "kind": match unit.kind {
            Kind::Slice => "slice",
            Kind::Service => "service",
            Kind::Login => "login",
        },
        "unit": unit.name,
        "user": unit.user,
        "active": unit.active,
        "settings": unit.settings.iter().map(setting_json).collect::<Vec<_>>(),
    })
}

fn setting_json(setting: &Compared) -> Value {
    let Compared { key, declared, live, holds, origin } = setting;
    json!({ "setting": key, "declared": declared, "live": live, "holds": holds, "origin": origin })
}
