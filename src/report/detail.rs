//! `fairslice status NAME`: everything about one unit.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use super::bars::{Display, bar, percent};
use super::status::{name, settings};
use super::table::{PLAIN, Table};
use crate::effect::UnitStatus;
use crate::effect::memory::{bytes_of, size};
use crate::effect::screen::{Picture, oom};
use crate::host::Unread;
use crate::host::pressure::Stalls;
use crate::host::processes::Process;
use crate::host::tree::{Id, Tree};
use crate::text::shown;

const BAR: usize = 30;
/// Of a unit with more processes, those that are killed first.
const MOST_PROCESSES: usize = 20;

/// What is read of a unit for its detail alone.
#[derive(Debug)]
pub struct Detail<'p> {
    /// Its cgroup; `None` where it does not run.
    pub cgroup: Option<Id>,
    /// What the policy says of it; `None` where that is nothing.
    pub unit: Option<&'p UnitStatus>,
    /// `memory.events` of the cgroup.
    pub events: Vec<(String, u64)>,
    /// The processes in it and below.
    pub processes: Vec<Process>,
    /// Those of them that could not be looked at.
    pub unread: Vec<Unread>,
    /// The one that PID 1 started, of a service.
    pub main: Option<u32>,
}

/// A few lines for each: settings, weights up to the root, pressure, memory, processes.
///
/// `scores` are those of all processes of the machine, the lowest first.
#[must_use]
pub fn detail(picture: &Picture, detail: &Detail<'_>, scores: &[u16], display: Display) -> String {
    let mut text = heading(picture, detail);
    if let Some(unit) = detail.unit.filter(|unit| !unit.settings.is_empty()) {
        settings(unit).write_to(&mut text);
    }
    if let Some(id) = detail.cgroup {
        chain(picture, id).write_to(&mut text);
        text.push_str(&super::share::no_shares(&picture.tree));
        pressure(picture, id).write_to(&mut text);
        memory(picture, id, detail, display, &mut text);
        processes(detail, scores, &mut text);
    }
    text
}

fn heading(picture: &Picture, detail: &Detail<'_>) -> String {
    let name = match (detail.unit, detail.cgroup) {
        (Some(unit), _) => name(unit),
        (None, Some(id)) => super::screen::name(picture, id, None),
        (None, None) => String::new(),
    };
    let Some(id) = detail.cgroup else { return format!("{name}: inactive\n") };
    let cgroup = &picture.tree[id];
    let tasks = cgroup.tasks.map_or(String::new(), |tasks| format!(", {tasks} tasks"));
    format!("{name}: {}{tasks}\n", shown(&picture.tree.absolute(id)))
}

/// A cgroup and its ancestors, each with what it weighs among its siblings.
fn chain(picture: &Picture, id: Id) -> Table<5> {
    let mut table = Table::new(["weight", "", "all siblings", "cpu.max", "share of the machine"]).indented();
    let mut chain: Vec<Id> = picture.tree.upwards(id).filter(|id| *id != Tree::ROOT).collect();
    chain.reverse();
    for id in chain {
        let cgroup = &picture.tree[id];
        let weight = |id: Id| picture.tree[id].cpu.map(|cpu| cpu.weight);
        let siblings = cgroup.parent.map_or(&[][..], |parent| &picture.tree[parent].children);
        let populated =
            siblings.iter().filter(|sibling| **sibling == id || picture.tree[**sibling].populated);
        let sum: u64 = populated.filter_map(|sibling| weight(*sibling)).sum();
        let max = cgroup.cpu.and_then(|cpu| cpu.max);
        let share = picture.seen.get(&id).and_then(|look| look.figures.share);
        let cells = [
            shown(&picture.tree.name(id)).to_string(),
            weight(id).map_or("-".to_owned(), |weight| {
                if weight == 0 { "idle".to_owned() } else { weight.to_string() }
            }),
            if weight(id).is_some() { sum.to_string() } else { "-".to_owned() },
            max.map_or("-".to_owned(), |max| format!("{} {}", max.quota, max.period)),
            share.map_or("-".to_owned(), percent),
        ];
        table.row(PLAIN, cells);
    }
    table
}

fn pressure(picture: &Picture, id: Id) -> Table<5> {
    let mut table = Table::new(["pressure %", "10 s", "1 min", "5 min", "total"]).indented();
    let pressure = picture.seen.get(&id).map(|look| look.usage.pressure).unwrap_or_default();
    let mut add = |name: &str, stalls: Option<Stalls>| {
        let full = stalls.and_then(|stalls| stalls.full);
        for (kind, stall) in [("some", stalls.map(|stalls| stalls.some)), ("full", full)] {
            let Some(stall) = stall else { continue };
            let [a, b, c] = [stall.avg10, stall.avg60, stall.avg300].map(|percent| format!("{percent:.1}"));
            let total = format!("{}.{:01} s", stall.total / 1_000_000, stall.total / 100_000 % 10);
            table.row(PLAIN, [format!("{name} {kind}"), a, b, c, total]);
        }
    };
    add("cpu", pressure.cpu);
    add("memory", pressure.memory);
    add("io", pressure.io);
    table
}

fn memory(picture: &Picture, id: Id, detail: &Detail<'_>, display: Display, text: &mut String) {
    let Some(memory) = picture.tree[id].memory else { return };
    let figures = picture.seen.get(&id).map(|look| look.figures).unwrap_or_default();
    let limit = |bytes: u64| if bytes == u64::MAX { "-".to_owned() } else { size(bytes) };
    let protection = figures.protection;
    let ceiling = figures.ceiling;
    let whole = ceiling.map_or(u64::MAX, |ceiling| ceiling.of_memory()).min(picture.machine.ram);
    let protected = protection.map_or(0, |protection| protection.min.max(protection.low));
    let bar = bar(memory.current, protected, whole, BAR, display.unicode);
    let mut table = Table::new(["memory", "own", "effective", "", ""]).indented();
    let effective = |bytes: Option<u64>| bytes.map(limit).unwrap_or_default();
    let mut add = |name: &str, own: u64, bytes: Option<u64>| {
        table.row(PLAIN, [name.to_owned(), limit(own), effective(bytes), String::new(), String::new()]);
    };
    add("min", memory.min, protection.map(|protection| protection.min));
    add("low", memory.low, protection.map(|protection| protection.low));
    add("high", memory.high, ceiling.map(|ceiling| bytes_of(ceiling.high)));
    add("max", memory.max, ceiling.map(|ceiling| bytes_of(ceiling.max)));
    add("swap max", memory.swap_limit(), ceiling.map(|ceiling| bytes_of(ceiling.swap)));
    table.write_to(text);
    // Writing to a string cannot fail.
    let (current, swap) = (size(memory.current), size(memory.swap_current));
    let _ = writeln!(text, "  used {current} {bar} of {}, swap {swap}", size(whole));
    let events: Vec<String> =
        detail.events.iter().map(|(event, times)| format!("{} {times}", shown(event))).collect();
    if !events.is_empty() {
        let _ = writeln!(text, "  events: {}", events.join(", "));
    }
}

fn processes(detail: &Detail<'_>, scores: &[u16], text: &mut String) {
    let mut processes: Vec<&Process> = detail.processes.iter().collect();
    processes.sort_by_key(|process| (std::cmp::Reverse(process.oom_score), process.pid));
    let mut table = Table::new(["process", "oom score", "adjusted by", "rank", "resident"]).indented();
    for process in processes.iter().take(MOST_PROCESSES) {
        let main = if detail.main == Some(process.pid) { " (main)" } else { "" };
        let rank = oom([process.oom_score], scores).and_then(|oom| oom.rank);
        let cells = [
            format!("{} {}{main}", process.pid, shown(&process.name)),
            process.oom_score.to_string(),
            process.oom_score_adj.to_string(),
            rank.map_or("never".to_owned(), |rank| format!("#{rank}")),
            size(process.resident),
        ];
        table.row(PLAIN, cells);
    }
    table.write_to(text);
    let more = processes.len().saturating_sub(MOST_PROCESSES);
    if more > 0 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {more} more");
    }
}
