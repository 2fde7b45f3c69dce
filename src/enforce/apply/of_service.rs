//! What services alone take: from the policy to the cgroup, or to the process that PID 1 starts next.
#![forbid(unsafe_code)]

use anyhow::Result;

use super::observed::Observed;
use super::{Change, How, Left, Plan, Restart};
use crate::host::cgroup;
use crate::survey::{Means, RunningService};
use crate::text::{quoted, shown};
use crate::units::ServiceValue;

/// Adds what is to be changed, what waits for a restart, and what is left.
pub(super) fn plan(look: &Observed<'_>, plan: &mut Plan<'_>) -> Result<()> {
    for service in look.services() {
        for own in &look.policy.service(&service.name).own {
            one(look, plan, service, &own.value)?;
        }
    }
    Ok(())
}

fn one(
    look: &Observed<'_>,
    plan: &mut Plan<'_>,
    service: &RunningService,
    value: &ServiceValue,
) -> Result<()> {
    let (setting, unit) = (value.setting(), service.name.to_string());
    let Some(live) = look.live.cgroups.get(&service.cgroup) else { return Ok(()) };
    let live = live.attributes.get(setting.attribute);
    let holds = live.map_or(setting.of_process, |live| value.holds(live));
    let old = live.map_or("-", String::as_str);
    let Some(units) = &look.units else {
        if !holds {
            let why = format!("{old}, declared {value}: it takes systemd");
            plan.left.push(Left { unit, key: setting.key, why, differs: true });
        }
        return Ok(());
    };
    let known = units.get(&unit).and_then(|unit| unit.of_service(setting));
    let is_known = known.as_ref() == Some(value);
    let is_here = cgroup::own_unit(&service.cgroup) == Some(unit.as_str());
    if holds && is_known {
        return Ok(());
    }
    let over = look.files(&unit)?.over(Means::DropIn, setting.unit);
    if let Some(admins) = over.filter(|_| !is_known) {
        let why = format!("{old}, declared {value}: {}", admins.said());
        plan.left.push(Left { unit, key: setting.key, why, differs: true });
    } else if setting.of_process || !is_here {
        if !holds {
            let why = format!("{} is {}, declared {value}", setting.key, shown(old));
            plan.restarts.push(Restart { unit, why, by_hand: false });
        }
    } else if is_known || plan.reload.is_some() {
        let how = if is_known { How::Write } else { How::Reload };
        let old = match (&known, holds) {
            // What PID 1 does about it, the kernel does not show.
            (Some(known), true) => known.to_string(),
            _ => old.to_owned(),
        };
        let change = Change { key: setting.key, old, new: value.to_string(), set_by: None, how };
        plan.change(&unit, None, change);
    } else if !holds {
        let known = known.map_or_else(|| "nothing".to_owned(), |known| known.to_string());
        let why = format!(
            "{old}, declared {value}: systemd has {known}, and no file says why (systemctl cat {})",
            quoted(&unit)
        );
        plan.left.push(Left { unit, key: setting.key, why, differs: true });
    }
    Ok(())
}
