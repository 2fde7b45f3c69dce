//! `fairslice status` for programs. The shape is that of `docs/json/status.schema.json`.
#![forbid(unsafe_code)]

use serde_json::{Map, Value, json};

use super::detail::Detail;
use super::json::json_text;
use crate::effect::memory::bytes_of;
use crate::effect::screen::{Picture, Sample};
use crate::effect::{Compared, UnitKind, UnitStatus};
use crate::host::pressure::{Stall, Stalls};
use crate::host::processes::Process;
use crate::host::tree::{Id, MemoryAttributes};
use crate::policy::{InForce, Loaded};
use crate::text::Foreign;

/// The version of the JSON's shape: raised when something is renamed or goes away.
pub(super) const JSON_VERSION: u64 = 1;

/// Whose status it is, and of when.
#[derive(Debug)]
pub struct Stamp {
    /// What the host is called; `None` where it does not say.
    pub host: Option<Foreign>,
    /// In UTC, as RFC 3339 has it.
    pub time: String,
}

/// Every unit of the policy's and every cgroup that was looked at; with `details`, only those.
#[must_use]
pub fn status_json(
    stamp: &Stamp,
    picture: &Picture,
    loaded: &Loaded,
    details: &[Detail<'_>],
    missed: &[String],
) -> String {
    let errors: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let units: Vec<&UnitStatus> = if details.is_empty() {
        picture.status.units.iter().collect()
    } else {
        details.iter().filter_map(|detail| detail.unit).collect()
    };
    let settings = units.iter().filter(|unit| unit.active).flat_map(|unit| &unit.settings);
    let differing = settings.filter(|setting| !setting.holds);
    let cgroups: Vec<Value> = if details.is_empty() {
        picture.seen.iter().map(|(id, look)| cgroup(picture, *id, look).into()).collect()
    } else {
        details.iter().filter_map(|detail| detailed(picture, detail)).collect()
    };
    let value = json!({
        "version": JSON_VERSION,
        "host": stamp.host,
        "time": stamp.time,
        "policy": {
            "in_force": in_force(loaded.in_force),
            "note": loaded.in_force.note(),
            "errors": errors,
        },
        "missed": missed,
        "differing": differing.count(),
        "units": units.into_iter().map(unit_json).collect::<Vec<_>>(),
        "cgroups": cgroups,
    });
    json_text(&value)
}

/// The word for it, also as a label.
pub(super) fn in_force(in_force: InForce) -> &'static str {
    match in_force {
        InForce::Current => "current",
        InForce::LastGood => "last_good",
        InForce::Nothing => "nothing",
    }
}

fn unit_json(unit: &UnitStatus) -> Value {
    json!({
        "kind": match unit.kind {
            UnitKind::Slice => "slice",
            UnitKind::Service => "service",
            UnitKind::Login => "login",
        },
        "unit": unit.name,
        "user": unit.user,
        "active": unit.active,
        "settings": unit.settings.iter().map(setting_json).collect::<Vec<_>>(),
    })
}

fn setting_json(setting: &Compared) -> Value {
    let Compared { key, declared, live, holds, origin, .. } = setting;
    json!({ "setting": key, "declared": declared, "live": live, "holds": holds, "origin": origin })
}

fn cgroup(picture: &Picture, id: Id, look: &Sample) -> Map<String, Value> {
    let cgroup = &picture.tree[id];
    let unit = picture.unit(id);
    let pressure = look.usage.pressure;
    let figures = look.figures;
    let fields = [
        ("cgroup", json!(picture.tree.absolute(id))),
        ("unit", json!(picture.tree.name(id))),
        ("user", json!(unit.and_then(|unit| unit.user.as_ref()))),
        ("differs", json!(unit.is_some_and(UnitStatus::differs))),
        ("tasks", json!(cgroup.tasks)),
        ("cpu_weight", json!(cgroup.cpu.map(|cpu| cpu.weight))),
        ("cpu_share", json!(figures.share)),
        ("cpu_usage_usec", json!(look.usage.cpu.map(|cpu| cpu.used))),
        (
            "pressure",
            json!({
                "cpu": pressure.cpu.map(stalls), "memory": pressure.memory.map(stalls),
                "io": pressure.io.map(stalls),
            }),
        ),
        ("memory", json!(cgroup.memory.map(memory))),
        ("memory_protection", json!(figures.protection.map(|p| json!({ "min": p.min, "low": p.low })))),
        (
            "memory_ceiling",
            json!(
                figures
                    .ceiling
                    .map(|c| json!({ "high": limit(bytes_of(c.high)), "max": limit(bytes_of(c.max)) }))
            ),
        ),
        ("oom", json!(figures.oom.map(|oom| json!({ "score": oom.score, "rank": oom.rank })))),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn detailed(picture: &Picture, detail: &Detail<'_>) -> Option<Value> {
    let id = detail.cgroup?;
    let mut fields = cgroup(picture, id, picture.seen.get(&id)?);
    let events: Map<String, Value> =
        detail.events.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    fields.insert("memory_events".to_owned(), events.into());
    let processes: Vec<Value> =
        detail.processes.iter().map(|process| process_json(process, detail.main)).collect();
    fields.insert("processes".to_owned(), processes.into());
    Some(fields.into())
}

fn process_json(process: &Process, main: Option<u32>) -> Value {
    json!({
        "pid": process.pid, "name": process.name, "uid": process.uid, "main": main == Some(process.pid),
        "oom_score": process.oom_score, "oom_score_adj": process.oom_score_adj,
        "resident": process.resident, "swapped": process.swapped,
    })
}

fn stalls(stalls: Stalls) -> Value {
    json!({ "some": stall(stalls.some), "full": stalls.full.map(stall) })
}

fn stall(stall: Stall) -> Value {
    json!({ "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total_usec": stall.total })
}

fn memory(memory: MemoryAttributes) -> Value {
    json!({
        "current": memory.current, "swap_current": memory.swap_current,
        "min": limit(memory.min), "low": limit(memory.low),
        "high": limit(memory.high), "max": limit(memory.max), "swap_max": limit(memory.swap_limit()),
    })
}

/// Bytes; no limit is the kernel's word for it.
pub(super) fn limit(bytes: u64) -> Value {
    if bytes == u64::MAX { json!("max") } else { json!(bytes) }
}
