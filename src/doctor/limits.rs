//! Limits that are being met: who stands still, is killed or cannot fork, and whose setting it is.
#![forbid(unsafe_code)]

use super::PlaceOf;
use super::finding::{Code, Finding, Fix};
use super::remedy::{self, NewValue, amount};
use crate::effect::memory::size;
use crate::host::met::{CpuMet, MemoryMet, Met, TasksLimit};
use crate::host::pressure::{Stall, Stalls};
use crate::host::tree::{Each, Id, MemoryAttributes, Tree};
use crate::host::units::{Unit, Units};
use crate::text::{quoted, shown};
use crate::units::{MEMORY_HIGH, MEMORY_MAX, TASKS_MAX};

/// Percent of the time that all tasks wait for memory, or some: more is no slowing down any more.
const STALLED: (f64, f64) = (10.0, 50.0);
/// Percent of the time that tasks wait for a CPU, and of the periods in which they were stopped.
const THROTTLED: (f64, u64) = (25.0, 25);

/// What limits are met now, in a tree all of whose memory has been read.
#[must_use]
pub fn findings(
    tree: &Tree,
    units: &Units,
    met: &Each<Met>,
    tasks_limit: &dyn Fn(Id) -> Option<TasksLimit>,
    ram: u64,
    set_by: PlaceOf<'_>,
) -> Vec<Finding> {
    let scene = LimitScene { tree, ram, set_by };
    let mut found = Vec::new();
    for id in tree.ids() {
        let Some(Met { memory, cpu, .. }) = met.get(id) else { continue };
        if let (Some(met), Some(memory)) = (memory, &tree[id].memory) {
            found.extend(scene.stalled(id, memory, met));
            found.extend(scene.killed(id, memory, met));
        }
        found.extend(cpu.as_ref().and_then(|met| scene.throttled(id, met)));
    }
    found.extend(scene.refused(met, tasks_limit));
    found.extend(units.iter().filter_map(|(name, unit)| scene.ended(name, unit)));
    found
}

struct LimitScene<'a> {
    tree: &'a Tree,
    ram: u64,
    set_by: PlaceOf<'a>,
}

impl LimitScene<'_> {
    /// Tasks that wait at a limit because next to nothing can be reclaimed.
    fn stalled(&self, id: Id, memory: &MemoryAttributes, met: &MemoryMet) -> Option<Finding> {
        let is_at = |limit: u64| limit != u64::MAX && memory.current >= limit - limit / 50;
        let pressure = met.pressure.filter(waits)?;
        let (property, limit) = if is_at(memory.max) {
            (MEMORY_MAX, memory.max)
        } else if is_at(memory.high) && met.high > 0 {
            (MEMORY_HIGH, memory.high)
        } else {
            return None;
        };
        // Above memory.high nobody is killed: without it, memory.max bounds it.
        let higher =
            if property == MEMORY_HIGH && memory.max != u64::MAX { u64::MAX } else { self.twice(limit) };
        let waits = pressure.full.unwrap_or(pressure.some);
        let times =
            if met.high > 0 { format!("; {} times since it was started", met.high) } else { String::new() };
        Some(self.finding(
            Code::MemoryStalled,
            id,
            (property.unit, amount(higher)),
            format!(
                "it waits for memory {:.0} % of the time, at {} = {}",
                waits.avg10,
                property.attribute,
                size(limit)
            ),
            format!("{}{times}", since(&pressure)),
            format!("it needs more than {}= leaves it, and little of that can be reclaimed", property.unit),
        ))
    }

    /// Processes that were killed at a limit that still is the one.
    fn killed(&self, id: Id, memory: &MemoryAttributes, met: &MemoryMet) -> Option<Finding> {
        let peak = met.peak.unwrap_or(memory.current);
        if memory.max == u64::MAX || met.oom == 0 || met.oom_kill == 0 || peak < memory.max - memory.max / 50
        {
            return None;
        }
        Some(self.finding(
            Code::MemoryKilled,
            id,
            (MEMORY_MAX.unit, amount(self.twice(memory.max))),
            format!("{} of its processes were killed at memory.max = {}", met.oom_kill, size(memory.max)),
            format!("{} times out of memory since it was started", met.oom),
            "it needs more than MemoryMax= leaves it".to_owned(),
        ))
    }

    /// A service that does not run: it was killed at its own limit, and its cgroup, which would tell, has gone with it.
    fn ended(&self, name: &str, unit: &Unit) -> Option<Finding> {
        let max = unit.number(MEMORY_MAX.unit).filter(|max| *max != u64::MAX)?;
        // systemd keeps the peak from 256 on. Where it was far from the limit, the machine's memory had run out.
        let was_at_it = || unit.number("MemoryPeak").is_none_or(|peak| peak >= max - max / 50);
        if unit.text("Result") != Some("oom-kill") || !was_at_it() {
            return None;
        }
        let value = amount(self.twice(max));
        let raise = NewValue { unit: name.to_owned(), property: MEMORY_MAX.unit, value };
        let and_start = |raise| format!("{raise} && systemctl restart {}", quoted(name));
        Some(Finding {
            code: Code::MemoryKilled,
            subject: name.into(),
            what: format!("it was killed for want of memory, with {}={}", MEMORY_MAX.unit, size(max)),
            cost: Some("it does not run".to_owned()),
            cause: format!("it needs more than {}= leaves it", MEMORY_MAX.unit),
            at: (self.set_by)(name, MEMORY_MAX.unit),
            fix: match remedy::fix(&[raise], self.set_by) {
                Fix::Command(raise) => Fix::Command(and_start(raise)),
                Fix::Edit(raise) => Fix::Edit(and_start(raise)),
                other => other,
            },
        })
    }

    /// No more than the machine has: beyond that it is no limit.
    fn twice(&self, limit: u64) -> u64 {
        limit.checked_mul(2).filter(|twice| *twice < self.ram).unwrap_or(u64::MAX)
    }

    fn throttled(&self, id: Id, met: &CpuMet) -> Option<Finding> {
        let max = self.tree[id].cpu?.max?;
        let waits = met.pressure?.some;
        let part = met.throttled.saturating_mul(100) / met.periods.max(1);
        if waits.avg10 < THROTTLED.0 || part < THROTTLED.1 {
            return None;
        }
        let percent = max.quota.saturating_mul(100) / max.period;
        Some(self.finding(
            Code::CpuThrottled,
            id,
            // How much it wants is not known: with none, weights decide.
            ("CPUQuota", String::new()),
            format!("it waits for a CPU {:.0} % of the time, at cpu.max = {percent} % of one", waits.avg10),
            format!("stopped in {part} % of the periods since it was started"),
            "it wants to run for longer than CPUQuota= leaves it".to_owned(),
        ))
    }

    /// Forks that were refused, by whose limit. A limit that is far from being met was raised since.
    fn refused(&self, met: &Each<Met>, tasks_limit: &dyn Fn(Id) -> Option<TasksLimit>) -> Vec<Finding> {
        let mut by_holder: Vec<(Id, TasksLimit, u64)> = Vec::new();
        for id in self.tree.ids() {
            let Some(tasks) = met.get(id).and_then(|met| met.tasks) else { continue };
            let on_the_way = self.tree.upwards(id).take(if tasks.own { 1 } else { usize::MAX });
            let limits = on_the_way.filter_map(|of| Some((of, tasks_limit(of)?)));
            let tightest = limits.min_by_key(|(_, limit)| limit.max.saturating_sub(limit.peak));
            let Some((holder, limit)) = tightest else { continue };
            match by_holder.iter_mut().find(|(known, ..)| *known == holder) {
                Some((.., refused)) => *refused = refused.saturating_add(tasks.refused),
                None => by_holder.push((holder, limit, tasks.refused)),
            }
        }
        let is_met = |limit: &TasksLimit| limit.peak >= limit.max - limit.max / 10;
        let finding = |(id, limit, refused): (Id, TasksLimit, u64)| {
            let now = self.tree[id].tasks.unwrap_or(limit.peak);
            self.finding(
                Code::ForksRefused,
                id,
                (TASKS_MAX.unit, limit.max.saturating_mul(2).to_string()),
                format!("{refused} forks were refused at pids.max = {}", limit.max),
                format!("{now} tasks now, {} at most since it was started", limit.peak),
                "it starts more tasks than TasksMax= leaves it".to_owned(),
            )
        };
        by_holder.into_iter().filter(|(_, limit, _)| is_met(limit)).map(finding).collect()
    }

    fn finding(
        &self,
        code: Code,
        id: Id,
        (property, value): (&'static str, String),
        what: String,
        cost: String,
        cause: String,
    ) -> Finding {
        let unit = self.tree.unit(id);
        let fix = match unit {
            Some(unit) => remedy::fix(&[NewValue { unit: unit.to_owned(), property, value }], self.set_by),
            // What a unit or another program limits in its own cgroups.
            None => remedy::elsewhere(&self.tree.absolute(id)),
        };
        Finding {
            code,
            subject: shown(&self.tree.name(id)).to_string().into(),
            what,
            cost: Some(cost),
            cause,
            at: unit.and_then(|unit| (self.set_by)(unit, property)),
            fix,
        }
    }
}

fn waits(pressure: &Stalls) -> bool {
    pressure.full.is_some_and(|full| full.avg10 >= STALLED.0) || pressure.some.avg10 >= STALLED.1
}

/// For how long at least, as far as the kernel says.
fn since(pressure: &Stalls) -> &'static str {
    let waited = |average: fn(&Stall) -> f64| {
        pressure.full.as_ref().is_some_and(|full| average(full) >= STALLED.0)
            || average(&pressure.some) >= STALLED.1
    };
    match () {
        () if waited(|stall| stall.avg300) => "for minutes",
        () if waited(|stall| stall.avg60) => "for a minute or so",
        () => "for some seconds",
    }
}
