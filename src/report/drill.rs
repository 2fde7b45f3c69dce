//! What came of a drill, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value, json};

use super::bars::short;
use super::json::json_text;
use super::memory::DELAYED;
use super::share::percent;
use super::status_json::Stamp;
use super::table::{PLAIN, Table};
use crate::effect::drill::memory::SIZE;
use crate::effect::drill::rows::{Found, Row, TOLERANCE};
use crate::effect::drill::{Of, kills};
use crate::effect::memory::size;
use crate::enforce::drill::{CpuDrill, IoDrill, KillDrill, Measured, MemoryDrill};
use crate::host::disk::Divider;
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
    /// Of `--memory`.
    pub memory: Option<MemoryDrill>,
    /// Of `--kill-order`.
    pub kills: Option<KillDrill>,
}

impl DrillView {
    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.io.is_none() && self.memory.is_none() && self.kills.is_none()
    }

    /// Whether all is as it was declared and predicted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cpu.as_ref().is_none_or(CpuDrill::holds)
            && self.io.as_ref().is_none_or(IoDrill::holds)
            && self.memory.as_ref().is_none_or(MemoryDrill::holds)
            && self.kills.as_ref().is_none_or(KillDrill::holds)
    }
}

/// A table for each kind.
#[must_use]
pub fn drill_text(view: &DrillView) -> String {
    let cpu = view.cpu.as_ref().map(cpu_text);
    let io = view.io.as_ref().map(io_text);
    let memory = view.memory.as_ref().map(memory_text);
    let kills = view.kills.as_ref().map(kills_text);
    cpu.into_iter().chain(io).chain(memory).chain(kills).collect::<Vec<_>>().join("\n")
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
        "memory": view.memory.as_ref().map(memory_json),
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
    if let (Some((ran, read)), Some(Divider::Cost), false) = (drill.ran, drill.disk.divider(), drill.holds())
    {
        let a_second = u128::from(read) * 1000 / ran.as_millis().max(1);
        let _ = writeln!(
            text,
            "\nio.cost divides what its model says that the disk can do (io.cost.model); {disk} gave {} a second",
            short(u64::try_from(a_second).unwrap_or(u64::MAX))
        );
    }
    write_why(&mut text, &drill.rows);
    text
}

fn memory_text(drill: &MemoryDrill) -> String {
    let loads = drill.plan.places.len();
    let mut text = match drill.ran {
        Some(ran) => format!(
            "{loads} loads filled the page cache of a model of {} for {:.1} s; sizes are those of this machine\n",
            size(SIZE),
            ran.as_secs_f64()
        ),
        None => format!("{loads} loads would fill the page cache of a model of {} like this\n", size(SIZE)),
    };
    for (what, measured) in [("PROTECTED", &drill.protected), ("CEILING", &drill.limited)] {
        if !measured.is_empty() {
            text.push('\n');
            let bytes = |part: f64, whole: u64| size(in_bytes(part, whole));
            write_table(&mut text, what, measured.iter().map(|Measured { row, whole }| (row, *whole)), bytes);
        }
    }
    if drill.delays_low {
        text.push_str(DELAYED);
    }
    left_out(&mut text, &drill.plan.left_out);
    let rows: Vec<Row> =
        drill.protected.iter().chain(&drill.limited).map(|measured| measured.row.clone()).collect();
    write_why(&mut text, &rows);
    text
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of the bytes of a machine's memory"
)]
pub(super) fn in_bytes(part: f64, whole: u64) -> u64 {
    (part * whole as f64).round() as u64
}

fn write_rows(text: &mut String, rows: &[Row]) {
    write_table(text, "UNIT", rows.iter().map(|row| (row, 0)), |part, _| percent(part));
}

/// A line for each row, with what each of its parts is `said` to be of what it is a part of.
fn write_table<'a>(
    text: &mut String,
    head: &'static str,
    rows: impl Iterator<Item = (&'a Row, u64)>,
    said: impl Fn(f64, u64) -> String,
) {
    let mut table = Table::new([head, ">DECLARED", ">PREDICTED", ">MEASURED", "OK"]);
    for (row, whole) in rows {
        let name = format!("{:indent$}{}", "", row.of.name(), indent = 2 * row.depth);
        let found = row.found.map(|found| [found.predicted, found.measured].map(|part| said(part, whole)));
        let [predicted, measured] = found.unwrap_or(["-", "-"].map(str::to_owned));
        let style = if row.holds() { PLAIN } else { BAD };
        table.row(style, [name, said(row.declared, whole), predicted, measured, verdict(row).to_owned()]);
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

fn memory_json(drill: &MemoryDrill) -> Value {
    let rows = |measured: &[Measured]| -> Value {
        let row = |Measured { row, whole }: &Measured| {
            let mut json = row_json(row);
            json.extend([("of_bytes".to_owned(), Value::from(*whole))]);
            Value::Object(json)
        };
        measured.iter().map(row).collect()
    };
    json!({
        "loads": drill.plan.places.len(), "tolerance": TOLERANCE, "bytes": SIZE,
        "seconds": drill.ran.map(|ran| ran.as_secs_f64()), "protected": rows(&drill.protected),
        "ceilings": rows(&drill.limited), "left_out": left_out_json(&drill.plan.left_out),
    })
}

fn rows_json(rows: &[Row]) -> Value {
    rows.iter().map(|row| Value::Object(row_json(row))).collect()
}

fn row_json(row: &Row) -> Map<String, Value> {
    let found = |number: fn(Found<f64>) -> f64| json!(row.found.map(number));
    let of = [
        ("unit", json!(row.of.unit())),
        ("user", json!(row.of.user())),
        ("depth", json!(row.depth)),
        ("declared", json!(row.declared)),
        ("predicted", found(|found| found.predicted)),
        ("measured", found(|found| found.measured)),
        ("ok", json!(row.found.map(|_| row.holds()))),
    ];
    of.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
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
