//! What `fairslice apply` changes, and what it leaves.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::json::json_text;
use crate::effect::memory::size;
use crate::enforce::apply::{How, Plan, Report, UnitChanges};
use crate::enforce::user_slice;
use crate::text::shown;
use crate::units::MEMORY_MAX;

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

/// Of `--logins`, a line for each property: what it is and what it should be.
#[must_use]
pub fn changes(changes: &[user_slice::SliceChange]) -> String {
    if changes.is_empty() {
        return "users' slices are as declared\n".to_owned();
    }
    let mut text = String::new();
    for change in changes {
        for changed in &change.properties {
            let live = changed.live.as_deref().unwrap_or("-");
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{}: {} {} -> {}",
                change.slice,
                changed.property.key,
                shown(live),
                changed.value
            );
        }
        for (left, over) in &change.left {
            let key = left.property.key;
            let live = left.live.as_deref().unwrap_or("-");
            let _ = writeln!(
                text,
                "{}: {key} {} left, declared {}: {}",
                change.slice,
                shown(live),
                left.value,
                over.said()
            );
        }
        for (waiting, used) in &change.waits {
            let (key, value) = (waiting.property.key, &waiting.value);
            let live = waiting.live.as_deref().unwrap_or("-");
            let used = if waiting.property == MEMORY_MAX { size(*used) } else { used.to_string() };
            let slice = &change.slice;
            let _ = writeln!(text, "{slice}: {key} {} left, declared {value}: {used} used", shown(live));
        }
    }
    text
}

/// What would be changed, and what would not.
#[must_use]
pub fn plan_text(plan: &Plan<'_>) -> String {
    changes_text(plan) + &rest_text(plan)
}

/// What came of it: what could not be changed, and what was left.
#[must_use]
pub fn report_text(report: &Report<'_>) -> String {
    let mut text = String::new();
    if !report.restarted.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "restarted: {}", shown(&report.restarted.join(" ")));
    }
    if !report.in_vain.is_empty() {
        let _ = writeln!(text, "restarted, and still not as declared: {}", shown(&report.in_vain.join(" ")));
    }
    if !report.after.is_empty() {
        let _ = writeln!(text, "still to be changed:");
        text.push_str(&changes_text(&report.after));
    }
    text + &rest_text(&report.after)
}

/// What is changed: the values of a unit below its name.
#[must_use]
pub fn changes_text(plan: &Plan<'_>) -> String {
    if plan.is_empty() {
        return "nothing to change\n".to_owned();
    }
    let mut text = String::new();
    if let Some(why) = &plan.reload {
        let _ = writeln!(text, "systemd\n  daemon-reload: {}", shown(why));
    }
    if plan.logins {
        text.push_str("logins\n  the next ones get what the policy declares now\n");
    }
    let changes = || plan.units.iter().flat_map(|unit| &unit.changes);
    let key_width = changes().map(|change| change.key.len()).max().unwrap_or(0);
    let arrow = |old: &str, new: &str| format!("{} -> {}", shown(old), shown(new));
    let width = changes().map(|change| arrow(&change.old, &change.new).chars().count()).max().unwrap_or(0);
    for unit in &plan.units {
        let user = unit.user.as_ref().map(|user| format!(" ({})", shown(user))).unwrap_or_default();
        let _ = writeln!(text, "{}{user}", shown(&unit.unit));
        for change in &unit.changes {
            let value = arrow(&change.old, &change.new);
            let at = change.set_by.as_ref().map(|at| format!(", then {}", shown(at))).unwrap_or_default();
            let _ =
                writeln!(text, "  {:key_width$}  {value:width$}  ({}{at})", change.key, means(change.how));
        }
    }
    text
}

fn means(how: How) -> String {
    match how {
        How::Reload => "daemon-reload".to_owned(),
        How::Write => "systemd has it, the cgroup has not".to_owned(),
        How::Set => "systemd, until the next boot".to_owned(),
        How::Unset => "set at a login, taken back".to_owned(),
        How::Processes(1) => "1 process".to_owned(),
        How::Processes(count) => format!("{count} processes"),
        How::Cgroup => "cgroup".to_owned(),
    }
}

fn rest_text(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    let mut section = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(text, "{heading}");
            for line in lines {
                let _ = writeln!(text, "  {}", shown(&line));
            }
        }
    };
    let left = |differs| {
        let left = plan.left.iter().filter(move |left| left.differs == differs);
        left.map(|left| format!("{}: {}: {}", left.unit, left.key, left.why)).collect()
    };
    let restarts = |by_hand| {
        let restarts = plan.restarts.iter().filter(move |restart| restart.by_hand == by_hand);
        restarts.map(|restart| format!("{}: {}", restart.unit, restart.why)).collect()
    };
    section("left as it is", left(true));
    section("worth knowing", left(false));
    section("needs a restart (--restart)", restarts(false));
    section("needs a restart by hand", restarts(true));
    text
}

/// The same as [`plan_text`] for programs: `docs/json`.
#[must_use]
pub fn plan_json(plan: &Plan<'_>) -> String {
    json_text(&plan_value(plan))
}

/// What was changed, as [`plan_json`] gave it before, and what came of it.
#[must_use]
pub fn report_json(before: &Value, report: &Report<'_>) -> String {
    let mut value = before.clone();
    if let Value::Object(fields) = &mut value {
        let mut after = plan_value(&report.after);
        if let Value::Object(after) = &mut after {
            after.remove("version");
        }
        fields.insert("failed".to_owned(), json!(report.failed));
        fields.insert("restarted".to_owned(), json!(report.restarted));
        fields.insert("in_vain".to_owned(), json!(report.in_vain));
        fields.insert("after".to_owned(), after);
    }
    json_text(&value)
}

/// What [`plan_json`] prints.
#[must_use]
pub fn plan_value(plan: &Plan<'_>) -> Value {
    let left = plan.left.iter().map(
        |left| json!({ "unit": left.unit, "setting": left.key, "why": left.why, "differs": left.differs }),
    );
    let restarts = plan
        .restarts
        .iter()
        .map(|restart| json!({ "unit": restart.unit, "why": restart.why, "by_hand": restart.by_hand }));
    json!({
        "version": JSON_VERSION,
        "reload": plan.reload,
        "logins": plan.logins,
        "units": plan.units.iter().map(unit_value).collect::<Vec<_>>(),
        "left": left.collect::<Vec<_>>(),
        "restarts": restarts.collect::<Vec<_>>(),
    })
}

fn unit_value(unit: &UnitChanges) -> Value {
    let changes = unit.changes.iter().map(|change| {
        let (how, processes) = match change.how {
            How::Reload => ("reload", None),
            How::Write => ("write", None),
            How::Set => ("set", None),
            How::Unset => ("unset", None),
            How::Processes(count) => ("processes", Some(count)),
            How::Cgroup => ("cgroup", None),
        };
        json!({
            "setting": change.key, "old": change.old, "new": change.new, "set_by": change.set_by, "how": how, "processes": processes,
        })
    });
    json!({ "unit": unit.unit, "user": unit.user, "changes": changes.collect::<Vec<_>>() })
}
