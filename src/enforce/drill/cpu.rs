//! A busy load for each service and login, on one CPU.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use super::loads::{Loads, Work};
use super::own_cpu::OwnCpu;
use super::{Before, LOOK, START, Turn, WINDOW, WINDOWS, can_compare, waited};
use crate::effect::ancestors;
use crate::effect::drill::cpu::{Load, Plan, common_cpus, declared, predicted};
use crate::effect::drill::look::{Look, Refusal, choose};
use crate::effect::drill::rows::{Found, Row, normalised, rows};
use crate::host::cgroup;
use crate::host::cpu_set::CpuSet;
use crate::host::idle::Idle;
use crate::host::pressure::Pressure;
use crate::host::processes::cpus_of;
use crate::host::tree::{Each, Id, Tree};
use crate::host::usage::{CpuTime, cpu_times};
use crate::units::OomScoreAdj;

/// What came of it.
#[derive(Debug)]
pub struct CpuDrill {
    /// What was started.
    pub plan: Plan,
    /// On which CPU.
    pub cpu: u32,
    /// A row for each load and slice.
    pub rows: Vec<Row>,
    /// For how long, and the part of the CPU that the loads got; `None` where none was started.
    pub ran: Option<(Duration, f64)>,
}

impl CpuDrill {
    /// What would be started: on any CPU, all are due the same on each.
    ///
    /// # Errors
    /// The slices have no CPU in common.
    pub fn planned(before: &Before<'_>, plan: Plan) -> Result<Self> {
        let all = common(before, &plan.loads);
        let cpu = all.iter().next().ok_or(Refusal::NoCommonCpu).map_err(anyhow::Error::msg)?;
        let due = due(before, &plan.loads, cpu);
        let rows = rows(&plan.places(), &due, None);
        Ok(Self { plan, cpu, rows, ran: None })
    }

    /// Whether all is as it was declared and predicted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

/// Runs it.
///
/// # Errors
/// Somebody would feel it, or a load cannot be started or put where it belongs.
pub fn drill_cpu(before: &Before<'_>, plan: Plan, _turn: &Turn) -> Result<CpuDrill> {
    let root = before.root;
    can_compare(plan.loads.len())?;
    let bound = bound_to(&before.live.tree);
    let cpu = choose(&look(root)?, &common(before, &plan.loads), &bound).map_err(anyhow::Error::msg)?;
    let own = OwnCpu::take(cpu)?;
    let mut loads = Loads::start(root, plan.loads.iter().map(|_| (OomScoreAdj::MAX, Work::Spin)))?;
    let cgroups = loads.put_each(root, &plan.loads, "")?;
    let mut drill = CpuDrill { plan: Plan::default(), cpu, rows: Vec::new(), ran: None };
    let scene = Scene::read(root, &cgroups)?;
    let declared = due(before, &plan.loads, cpu);
    let first = scene.clocks(root);
    loads.go(START)?;
    own.hand_over(START);
    let begun = Instant::now();
    for _ in 0..WINDOWS {
        sleep(WINDOW);
        let now = scene.clocks(root);
        loads.all_run()?;
        let (used, others) = scene.used(&first, &now);
        let (predicted, measured) = (predicted(&scene.tree, &scene.loads, &others), normalised(&used));
        let found = Found { predicted: predicted.as_slice(), measured: &measured };
        drill.rows = rows(&plan.places(), &declared, Some(found));
        let (ran, looked) = (now.at.duration_since(begun), now.at.duration_since(first.at));
        let used = used.iter().sum::<f64>() * looked.as_secs_f64() / ran.as_secs_f64();
        drill.ran = Some((ran, used.min(1.0)));
        if drill.holds() {
            break;
        }
    }
    Ok(CpuDrill { plan, ..drill })
}

/// The loads, and who else there is.
struct Scene {
    tree: Tree,
    loads: Vec<Id>,
    others: Vec<Id>,
    /// The cgroup of this process, which is one of the others.
    own: Id,
}

/// What has been used up to a moment.
struct Clocks {
    at: Instant,
    of_loads: Each<CpuTime>,
    of_others: Each<CpuTime>,
    of_this: Duration,
}

impl Scene {
    fn read(root: &Path, cgroups: &[PathBuf]) -> Result<Self> {
        let mut tree = Tree::read(root)?;
        tree.read_affinity(root);
        let find = |cgroup: &PathBuf| tree.find(cgroup).context("a load's cgroup is gone");
        let loads = cgroups.iter().map(find).collect::<Result<Vec<Id>>>()?;
        let others = tree.ids().filter(|id| tree[*id].children.is_empty() && tree[*id].populated);
        let others = others.filter(|id| !loads.contains(id)).collect();
        let own = tree.nearest(&cgroup::of_process(root, "self")?);
        Ok(Self { tree, loads, others, own })
    }

    fn clocks(&self, root: &Path) -> Clocks {
        let of_others = cpu_times(root, &self.tree, &self.others);
        let of_loads = cpu_times(root, &self.tree, &self.loads);
        Clocks { at: Instant::now(), of_loads, of_others, of_this: own_cpu_time() }
    }

    /// How many CPUs each load and each of the others has used.
    fn used(&self, before: &Clocks, after: &Clocks) -> (Vec<f64>, BTreeMap<Id, f64>) {
        let cpus = self.tree.online.as_ref().map_or(1, CpuSet::count);
        let used = |id: Id, before: &Each<CpuTime>, after: &Each<CpuTime>| {
            let share = after.get(id)?.share_since(*before.get(id)?, cpus);
            Some(share * f64::from(cpus))
        };
        let loads = self.loads.iter().map(|id| used(*id, &before.of_loads, &after.of_loads).unwrap_or(0.0));
        let others = self.others.iter().map(|id| {
            let used = used(*id, &before.of_others, &after.of_others).unwrap_or(0.0);
            // To look at thousands of cgroups takes time as well: that of a drill, and nobody's beside it.
            let drills =
                if *id == self.own { after.of_this.saturating_sub(before.of_this) } else { Duration::ZERO };
            let part = drills.as_secs_f64() / after.at.duration_since(before.at).as_secs_f64();
            (*id, (used - part).max(0.0))
        });
        (loads.collect(), others.collect())
    }
}

fn due(before: &Before<'_>, loads: &[Load], cpu: u32) -> Vec<f64> {
    let Before { policy, machine, live, .. } = before;
    declared(policy, &ancestors(policy, machine.ram), live, loads, cpu)
}

fn common(before: &Before<'_>, loads: &[Load]) -> CpuSet {
    let all = before.live.tree.online.clone().unwrap_or_else(|| CpuSet::first(1));
    let own = cpus_of(before.root, "self").unwrap_or_else(|| all.clone());
    common_cpus(&before.live.tree, loads, &own.and(&all))
}

/// The CPUs that somebody's threads are bound to. The kernel's own are in the root.
fn bound_to(tree: &Tree) -> Vec<CpuSet> {
    let bound = tree.ids().skip(1).flat_map(|id| tree.bound_threads(id));
    bound.map(|(cpus, _)| cpus.clone()).collect()
}

/// What the machine does.
fn look(root: &Path) -> Result<Look> {
    let stalled = || {
        let pressure = Pressure::read(root, Path::new(""));
        [pressure.cpu, pressure.memory].map(|stalls| stalls.map(|stalls| stalls.some.total))
    };
    let (idle, before, begun) = (Idle::read(root)?, stalled(), Instant::now());
    sleep(LOOK);
    let ([cpu_before, memory_before], [cpu, memory]) = (before, stalled());
    let (waiting, short) = (waited(cpu_before, cpu, begun), waited(memory_before, memory, begun));
    Ok(Look { idle: Idle::read(root)?.since(&idle), waiting, short })
}

/// The CPU time of this process.
fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
