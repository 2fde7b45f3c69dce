//! Services that run outside of their slice. systemd never moves them: they need a restart.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;

use super::look::Look;
use super::scores::main_process;
use super::{Left, Plan, Restart};
use crate::effect::restart::Kept;
use crate::host::unit_file::in_force;
use crate::host::{cgroup, processes};
use crate::paths;
use crate::policy::{SLICE, ServiceName};

/// Where services are that say nothing; instances are in slices below it.
const SYSTEM: &str = "system.slice";
/// Services that somebody is logged in through, or that the machine depends on.
const BY_HAND: [&str; 13] = [
    "ssh",
    "sshd",
    "dbus",
    "dbus-broker",
    "user",
    "getty",
    "serial-getty",
    "console-getty",
    "display-manager",
    "gdm",
    "lightdm",
    "sddm",
    "polkit",
];

/// Adds the services that are in another slice than the policy says.
pub(super) fn plan(look: &Look<'_>, plan: &mut Plan<'_>) -> Result<()> {
    for (name, cgroup) in &look.live.services {
        let parent = cgroup.parent().unwrap_or(Path::new(""));
        let live = cgroup::own_unit(parent).unwrap_or_default();
        let why = match look.policy.slice_of(name) {
            Some(slice) if slice.cgroup() != parent => {
                if let Some(admins) = look.overrides(name.as_str())?.of_drop_in(SLICE)? {
                    let why = format!("runs in {live}, declared {slice}: {admins}");
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
        let (why, by_hand) = match kept(look, name, cgroup)? {
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
fn kept(look: &Look<'_>, name: &ServiceName, cgroup: &Path) -> Result<Option<String>> {
    let Some(files) = look.files(name.as_str())? else { return Ok(None) };
    let assignments = files.assignments(look.root)?;
    let kill_mode = in_force(&assignments, "Service", &["KillMode"]).last().map_or("", |set| &set.value);
    let pids = cgroup::processes(look.root, cgroup);
    let unit = look.units.as_ref().and_then(|units| units.get(name.as_str()));
    let main = main_process(look.root, &pids, unit);
    let processes = processes::of(look.root, &pids).all;
    let is_transient = files.fragment.starts_with(paths::TRANSIENT_UNITS);
    let kept = Kept::by(kill_mode, main, &processes);
    Ok(kept.map(|kept| format!("{kept}: {}", kept.remedy(name.as_str(), is_transient))))
}

/// Whether a service is in a slice of somebody's making although nothing says so any more.
fn is_left_over(look: &Look<'_>, name: &ServiceName, live: &str) -> Result<bool> {
    if matches!(live, SYSTEM | "-.slice") || live.starts_with("system-") || !live.ends_with(".slice") {
        return Ok(false);
    }
    let Some(mut files) = look.files(name.as_str())? else { return Ok(false) };
    // What the generator made last may say what the policy said then.
    files.drop_ins.retain(|file| !file.starts_with(paths::GENERATED));
    let assignments = files.assignments(look.root)?;
    let slice = in_force(&assignments, "Service", &[SLICE]).last().map_or(SYSTEM, |slice| &slice.value);
    // What a specifier stands for is not known here.
    Ok(slice != live && !slice.contains('%'))
}

fn is_by_hand(unit: &str) -> bool {
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    stem.starts_with("systemd-") || BY_HAND.contains(&stem.split('@').next().unwrap_or(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_logged_in_through_is_not_restarted() {
        for unit in ["ssh.service", "ssh@1.service", "systemd-logind.service", "user@1000.service"] {
            assert!(is_by_hand(unit), "{unit}");
        }
        assert!(!is_by_hand("local-ssh.service") && !is_by_hand("users.service"));
    }
}
