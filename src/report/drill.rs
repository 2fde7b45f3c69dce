//! What came of a drill, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::json::json_text;
use super::share::percent;
use super::status_json::Stamp;
use super::table::{PLAIN, Table};
use crate::effect::drill::cpu::{Row, TOLERANCE};
use crate::effect::drill::{Of, kills};
use crate::enforce::drill::{CpuDrill, KillDrill};

/// The version of the JSON's shape: raised when something is renamed or goes away.
pub(super) const JSON_VERSION: u32 = 1;
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What came of it.
#[derive(Debug, Default)]
pub struct DrillView {
    /// Of `--cpu`.
    pub cpu: Option<CpuDrill>,
    /// Of `--kill-order`.
    pub kills: Option<KillDrill>,
}

/// A table for each kind.
#[must_use]
pub fn drill_text(view: &DrillView) -> String {
    let cpu = view.cpu.as_ref().map(cpu_text);
    let kills = view.kills.as_ref().map(kills_text);
    cpu.into_iter().chain(kills).collect::<Vec<_>>().join("\n")
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn drill_json(stamp: &Stamp, view: &DrillView) -> String {
    json_text(&json!({
        "version": JSON_VERSION,
        "host": stamp.host,
        "time": stamp.time,
        "cpu": view.cpu.as_ref().map(cpu_json),
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
    let mut table = Table::new(["UNIT", ">DECLARED", ">PREDICTED", ">MEASURED", "OK"]);
    for row in &drill.rows {
        let name = format!("{:indent$}{}", "", row.of.name(), indent = 2 * row.depth);
        let found = row.found.map(|found| [found.predicted, found.measured].map(percent));
        let [predicted, measured] = found.unwrap_or(["-", "-"].map(str::to_owned));
        let style = if row.holds() { PLAIN } else { BAD };
        table.row(style, [name, percent(row.declared), predicted, measured, verdict(row).to_owned()]);
    }
    table.write_to(&mut text);
    left_out(&mut text, drill.plan.left_out.iter().map(|of| (of, "too many")));
    if !drill.rows.iter().all(Row::is_as_declared) {
        text.push_str("\nwhy it is not as declared: run \"fairslice doctor\"\n");
    }
    text
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
    left_out(&mut text, drill.plan.left_out.iter().map(|(of, why)| (of, *why)));
    text
}

fn left_out<'a>(text: &mut String, all: impl Iterator<Item = (&'a Of, &'a str)>) {
    for (of, why) in all {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "left out: {}: {why}", of.name());
    }
}

fn cpu_json(drill: &CpuDrill) -> Value {
    let rows = drill.rows.iter().map(|row| {
        json!({
            "unit": row.of.unit(), "user": row.of.user(), "depth": row.depth, "declared": row.declared,
            "predicted": row.found.map(|found| found.predicted), "measured": row.found.map(|found| found.measured),
            "ok": row.found.map(|_| row.holds()),
        })
    });
    let left_out = drill.plan.left_out.iter().map(|of| json!({ "unit": of.unit(), "why": "too many" }));
    json!({
        "cpu": drill.ran.map(|_| drill.cpu), "loads": drill.plan.loads.len(), "tolerance": TOLERANCE,
        "seconds": drill.ran.map(|(ran, _)| ran.as_secs_f64()), "used": drill.ran.map(|(_, used)| used),
        "rows": rows.collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
    })
}

fn kills_json(drill: &KillDrill) -> Value {
    let row = |row: &kills::Row| {
        json!({
            "unit": row.of.unit(), "user": row.of.user(), "declared_score": row.declared.get(),
            "score": row.live.get(), "due": [row.due.0, row.due.1], "predicted": row.predicted,
            "killed": row.killed, "ok": row.holds(),
        })
    };
    let left_out = drill.plan.left_out.iter().map(|(of, why)| json!({ "unit": of.unit(), "why": why }));
    json!({
        "rows": drill.rows.iter().map(row).collect::<Vec<_>>(), "left_out": left_out.collect::<Vec<_>>(),
    })
}
