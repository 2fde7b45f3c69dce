//! Who has set the OOM score that a service's main process has.
#![forbid(unsafe_code)]

use crate::host::processes::Process;
use crate::host::units::Unit;
use crate::units::OOM_SCORE_ADJUST;

/// Whether a service's main process has another score than PID 1 started it with. `reloaded` is when PID 1
/// last read the unit's files, as [`crate::host::units::ManagerFacts::loaded_at`]: what it has started before, it may
/// have given another score than the unit has now.
#[must_use]
pub fn has_set_itself(main: &Process, unit: &Unit, reloaded: Option<u64>) -> bool {
    let given = unit.text(OOM_SCORE_ADJUST).and_then(|text| text.parse::<i16>().ok()).unwrap_or(0);
    let started = unit.number("ExecMainStartTimestampMonotonic");
    given != main.oom_score_adj && started.zip(reloaded).is_some_and(|(started, reloaded)| started > reloaded)
}
