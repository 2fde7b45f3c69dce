//! What came of a drill, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::bars::short;
use super::json::json_text;
use super::share::percent;
use super::status_json::Stamp;
use super::table::{PLAIN, Table};
use crate::effect::drill::rows::{Row, TOLERANCE};
use crate::effect::drill::{Of, kills};
use crate::enforce::drill::{CpuDrill, IoDrill, KillDrill};
use crate::text::shown;

/// The version of the JSON's shape: raised when something is renamed or goes away.
pub(super) const JSON_VERSION: u32 = 1;
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What came of it.
#[derive(Debug, Default)]
pub struct DrillView {
    /// Of `--cpu`.
    pub cpu: Option<CpuDrill>,
    /// Of `--io`.
    pub io: Option<IoDrill>,
    /// Of `--kill-order`.
    pub kills: Option<KillDrill>,
}

impl DrillView {
    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.io.is_none() && self.kills.is_none()
    }

    /// Whether all is as it was declared and predicted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cpu.as_ref().is_none_or(CpuDrill::holds)
            && self.io.as_ref().is_none_or(IoDrill::holds)
            && self.kills.as_ref().is_none_or(KillDrill::holds)
    }
}

/// A table for each kind.
#[must_use]
pub fn drill_text(view: &DrillView) -> String {
    let cpu = view.cpu.as_ref().map(cpu_text);
    let io = view.io.as_ref().map(io_text);
    let kills = view.kills.as_ref().map(kills_text);
    cpu.into_iter().chain(io).chain(kills).collect::<Vec<_>>().join("\n")
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn drill_json(stamp: &Stamp, view: &DrillView) -> String {
    json_text(&json!({
        "version": JSON_VERSION,
        "host": stamp.host,
        "time": stamp.time,
        "cpu": view.cpu.as_ref().map(cpu_json),
        "io": view.io.as_ref().map(io_json),
        "kill_order": view.kills.as_ref().map(kills_json),
    }))
}

fn cpu_text(drill: &CpuDrill) -> String {
    let loads = drill.plan.loads.len();
    let mut text = match drill.ran {
        Some((ran, used)) => format!(
            "CPU {}: {loads} busy loads for {:.1} s, which got {} of it together\n\n",
            drill.cpu,
            ran.as_secs_f64(),
            percent(used)
        ),
        None => format!("{loads} busy loads on one CPU would share it like this\n\n"),
    };
    write_rows(&mut text, &drill.rows);
    left_out(&mut text, &drill.plan.left_out);
    write_why(&mut text, &drill.rows);
    text
}

fn io_text(drill: &IoDrill) -> String {
    let (loads, disk) = (drill.plan.loads.len(), shown(&drill.disk.name));
    let mut text = match drill.ran {
        Some((ran, read)) => format!(
            "{disk}: {loads} loads that read for {:.1} s, {} together\n\n",
            ran.as_secs_f64(),
            short(read)
        ),
        None => format!("{disk}: {loads} loads that read would share it like this\n\n"),
    };
    write_rows(&mut text, &drill.rows);
    left_out(&mut text, &drill.plan.left_out);
    write_why(&mut text, &drill.rows);
    text
}

fn write_rows(text: &mut String, rows: &[Row]) {
    let mut table = Table::new(["UNIT", ">DECLARED", ">PREDICTED", ">MEASURED", "OK"]);
    for row in rows {
        let name = format!("{:indent$}{}", "", row.of.name(), indent = 2 * row.depth);
        let found = row.found.map(|found| [found.predicted, found.measured].map(percent));
        let [predicted, measured] = found.unwrap_or(["-", "-"].map(str::to_owned));
        let style = if row.holds() { PLAIN } else { BAD };
        table.row(style, [name, percent(row.declared), predicted, measured, verdict(row).to_owned()]);
    }
    table.write_to(text);
}

fn write_why(text: &mut String, rows: &[Row]) {
    if !rows.iter().all(Row::is_as_declared) {
        text.push_str("\nwhy it is not as declared: run \"fairslice doctor\"\n");
    }
}

pub(super) fn verdict(row: &Row) -> &'static str {
    match (row.found, row.is_as_declared(), row.is_as_predicted()) {
        (None, ..) => "-",
        (Some(_), true, true) => "yes",
        (Some(_), false, true) => "not as declared",
        (Some(_), true, false) => "not as predicted",
        (Some(_), false, false) => "neither",
    }
}

fn kills_text(drill: &KillDrill) -> String {
    let count = drill.plan.targets.len();
    let mut text = format!("{count} processes in a cgroup of their own that ran out of memory\n\n");
    let mut table = Table::new(["UNIT", ">DECLARED SCORE", ">SCORE", ">DUE", ">PREDICTED", ">KILLED", "OK"]);
    for row in &drill.rows {
        let (first, last) = row.due;
        let due = if first == last { first.to_string() } else { format!("{first}-{last}") };
        let (style, verdict) = if row.holds() { (PLAIN, "yes") } else { (BAD, "no") };
        let [declared, live] = [row.declared, row.live].map(|score| score.to_string());
        let [predicted, killed] = [row.predicted, row.killed].map(|place| place.to_string());
        table.row(style, [row.of.name(), declared, live, due, predicted, killed, verdict.to_owned()]);
    }
    table.write_to(&mut text);
    left_out(&mut text, &drill.plan.left_out);
    text
}

fn left_out(text: &mut String, all: &[(Of, &'static str)]) {
    for (of, why) in all {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "left out: {}: {why}", of.name());
    }
}

fn cpu_json(drill: &CpuDrill) -> Value {
    json!({
        "cpu": drill.ran.map(|_| drill.cpu), "loads": drill.plan.loads.len(), "tolerance": TOLERANCE,
        "seconds": drill.ran.map(|(ran, _)| ran.as_secs_f64()), "used": drill.ran.map(|(_, used)| used),
        "rows": rows_json(&drill.rows), "left_out": left_out_json(&drill.plan.left_out),
    })
}

fn io_json(drill: &IoDrill) -> Value {
    json!({
        "disk": drill.disk.name, "loads": drill.plan.loads.len(), "tolerance": TOLERANCE,
        "seconds": drill.ran.map(|(ran, _)| ran.as_secs_f64()), "bytes": drill.ran.map(|(_, read)| read),
        "rows": rows_json(&drill.rows), "left_out": left_out_json(&drill.plan.left_out),
    })
}

fn rows_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "unit": row.of.unit(), "user": row.of.user(), "depth": row.depth, "declared": row.declared,
            "predicted": row.found.map(|found| found.predicted), "measured": row.found.map(|found| found.measured),
            "ok": row.found.map(|_| row.holds()),
        })
    };
    rows.iter().map(row).collect()
}

fn left_out_json(all: &[(Of, &'static str)]) -> Value {
    all.iter().map(|(of, why)| json!({ "unit": of.unit(), "why": why })).collect()
}

fn kills_json(drill: &KillDrill) -> Value {
    let row = |row: &kills::Row| {
        json!({
            "unit": row.of.unit(), "user": row.of.user(), "declared_score": row.declared.get(),
            "score": row.live.get(), "due": [row.due.0, row.due.1], "predicted": row.predicted,
            "killed": row.killed, "ok": row.holds(),
        })
    };
    json!({
        "rows": drill.rows.iter().map(row).collect::<Vec<_>>(), "left_out": left_out_json(&drill.plan.left_out),
    })
}
