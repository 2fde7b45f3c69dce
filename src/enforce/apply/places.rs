//! Services that run outside of their slice. systemd never moves them: they need a restart.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;

use super::observed::Observed;
use super::{Left, Plan, Restart};
use crate::effect::restart::{Kept, is_by_hand};
use crate::host::{cgroup, processes};
use crate::paths;
use crate::survey::{Means, RunningService};
use crate::units::file::in_force;
use crate::units::{SLICE, ServiceName};

/// Where services are that say nothing; instances are in slices below it.
const SYSTEM: &str = "system.slice";
/// Adds the services that are in another slice than the policy says.
pub(super) fn plan(look: &Observed<'_>, plan: &mut Plan<'_>) -> Result<()> {
    for service in &look.live.services {
        let RunningService { name, cgroup, .. } = service;
        let parent = cgroup.parent().unwrap_or(Path::new(""));
        let live = cgroup::own_unit(parent).unwrap_or_default();
        let why = match look.policy.slice_of(name) {
            Some(slice) if slice.cgroup() != parent => {
                let over = look.files(name.as_str())?.over(Means::DropIn, SLICE);
                if let Some(admins) = over.filter(|over| !over.sets(slice.as_str())) {
                    let why = format!("runs in {live}, declared {slice}: {}", admins.said());
                    plan.left.push(Left { unit: name.to_string(), key: "slice", why, differs: true });
                    continue;
                }
                format!("runs in {live}, declared {slice}")
            }
            None if is_left_over(look, name, live)? => {
                format!("runs in {live}, which does not hold it any more")
            }
            _ => continue,
        };
        let (why, by_hand) = match kept(look, service)? {
            Some(kept) => (format!("{why}, and a restart does not move it: {kept}"), true),
            None => (why, false),
        };
        plan.restarts.push(Restart { unit: name.to_string(), why, by_hand });
    }
    let own = cgroup::of_process(look.root, "self").ok();
    let own = own.as_deref().and_then(cgroup::unit);
    for restart in &mut plan.restarts {
        restart.by_hand |= own == Some(&restart.unit) || is_by_hand(&restart.unit);
    }
    Ok(())
}

/// What keeps a service where it is through a restart, and the commands that move it all the same.
fn kept(look: &Observed<'_>, service: &RunningService) -> Result<Option<String>> {
    let RunningService { name, cgroup, main, .. } = service;
    let Some(files) = look.service(name.as_str())? else { return Ok(None) };
    let assignments = files.assignments(look.root)?;
    let kill_mode = in_force(&assignments, "Service", &["KillMode"]).last().map_or("", |set| &set.value);
    let pids = cgroup::processes(look.root, cgroup);
    let processes = processes::of(look.root, &pids).all;
    let is_transient = files.fragment.starts_with(paths::TRANSIENT_UNITS);
    let kept = Kept::by(kill_mode, *main, &processes);
    Ok(kept.map(|kept| format!("{kept}: {}", kept.remedy(name.as_str(), is_transient))))
}

/// Whether a service is in a slice of somebody's making although nothing says so any more.
fn is_left_over(look: &Observed<'_>, name: &ServiceName, live: &str) -> Result<bool> {
    if matches!(live, SYSTEM | "-.slice") || live.starts_with("system-") || !live.ends_with(".slice") {
        return Ok(false);
    }
    let Some(mut files) = look.service(name.as_str())? else { return Ok(false) };
    // What the generator made last may say what the policy said then.
    files.drop_ins.retain(|file| !file.starts_with(paths::GENERATED));
    let assignments = files.assignments(look.root)?;
    let slice = in_force(&assignments, "Service", &[SLICE]).last().map_or(SYSTEM, |slice| &slice.value);
    // What a specifier stands for is not known here.
    Ok(slice != live && !slice.contains('%'))
}
