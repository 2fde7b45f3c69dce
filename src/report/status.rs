//! Declared and live, side by side.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::table::{DIM, PLAIN, Table};
use crate::effect::memory::size;
use crate::effect::{Compared, Status, UnitStatus};
use crate::host::cgroup;
use crate::text::shown;
use crate::units::{CPU_QUOTA, CPU_WEIGHT, Property};

const BAD: Style = AnsiColor::Red.on_default().bold();

/// What is not as declared, one line for each setting, and how much that is.
pub(super) fn differences(status: &Status) -> String {
    let differing: Vec<&UnitStatus> = status.units.iter().filter(|unit| unit.differs()).collect();
    let width = differing.iter().map(|unit| name(unit).chars().count()).max().unwrap_or(0);
    let mut text = "\n".to_owned();
    for unit in differing {
        for setting in unit.settings.iter().filter(|setting| !setting.holds) {
            let Compared { key, declared, .. } = setting;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:width$}  {key}: {} instead of {declared}", name(unit), live(setting));
        }
    }
    let (differing, compared) = (status.differing(), status.compared());
    let _ = match differing {
        0 => writeln!(text, "all {compared} settings are as declared"),
        _ => writeln!(text, "{BAD}{differing} of {compared} settings are not as declared{BAD:#}"),
    };
    text
}

/// Every setting of one unit, with where it is declared.
pub(super) fn settings(unit: &UnitStatus) -> Table<5> {
    let mut table = Table::new(["setting", "declared", "live", "", "from"]).indented();
    for setting in &unit.settings {
        let (style, verdict) = match (unit.active, setting.holds) {
            (false, _) => (DIM, "inactive"),
            (true, true) => (PLAIN, "ok"),
            (true, false) => (BAD, "differs"),
        };
        let cells = [setting.key, &setting.declared, &live(setting), verdict, &setting.origin];
        table.row(style, cells.map(str::to_owned));
    }
    table
}

/// The name, and that of the user whose slice it is, to be printed.
pub(super) fn name(unit: &UnitStatus) -> String {
    match &unit.user {
        Some(user) => format!("{} ({})", shown(&unit.name), shown(user)),
        None => shown(&unit.name).to_string(),
    }
}

/// What is live, as what is declared is said.
pub(super) fn live(setting: &Compared) -> String {
    setting.live.as_deref().map_or_else(|| "-".to_owned(), |live| readable(setting.key, live))
}

/// What the kernel has of a key of the policy: bytes with a suffix, no weight at all as `idle`, a quota in percent of one CPU; of `io.weight`, which
/// has a line for each device, the default.
fn readable(key: &str, live: &str) -> String {
    let first = live.lines().next().unwrap_or_default();
    let property = Property::by_key(key);
    match (property, first.parse()) {
        (Some(property), Ok(bytes)) if property.attribute.starts_with("memory.") => size(bytes),
        (Some(CPU_WEIGHT), Ok(0)) => "idle".to_owned(),
        (Some(CPU_QUOTA), _) => cgroup::said(CPU_QUOTA, live),
        _ => shown(first).to_string(),
    }
}
