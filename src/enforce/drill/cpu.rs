//! A busy load for each service and login, on one CPU.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Before;
use super::loads::{Loads, Place, Work, be_first_to_go, scope_name};
use crate::effect::ancestors;
use crate::effect::drill::cpu::{Found, Load, Plan, Row, common_cpus, declared, normalised, predicted, rows};
use crate::effect::drill::look::{Look, choose};
use crate::enforce::lock::Lock;
use crate::host::cpu_set::CpuSet;
use crate::host::idle::Idle;
use crate::host::pressure::Pressure;
use crate::host::processes::cpus_of;
use crate::host::tree::{Each, Id, Tree};
use crate::host::usage::{CpuTime, cpu_times};
use crate::units::OomScoreAdj;

/// How long is looked whether somebody would feel it.
const LOOK: Duration = Duration::from_secs(1);
/// How long the loads run before they are measured: what the kernel makes of a weight follows what has run of late.
const SETTLE: Duration = Duration::from_millis(500);
/// How long they are measured. Sixteen of them have 80 turns each of 3 ms in it.
const WINDOW: Duration = Duration::from_secs(4);

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
    /// What would be started, on the CPU that is least busy now or any.
    ///
    /// # Errors
    /// The slices have no CPU in common.
    pub fn planned(before: &Before<'_>, plan: Plan) -> Result<Self> {
        let all = common(before, &plan.loads);
        let cpu = all.iter().next().context("the slices have no CPU in common (AllowedCPUs=)")?;
        let due = due(before, &plan.loads, cpu);
        let rows = rows(&plan.loads, &due, None);
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
pub fn drill_cpu(before: &Before<'_>, plan: Plan, _lock: &Lock) -> Result<CpuDrill> {
    let root = before.root;
    if plan.loads.len() < 2 {
        bail!("there is nothing to compare: at least two of the policy's services and logins have to run");
    }
    be_first_to_go(root)?;
    let bound = bound_to(&before.live.tree);
    let cpu = choose(&look(root)?, &common(before, &plan.loads), &bound).map_err(anyhow::Error::msg)?;
    let score = OomScoreAdj::new(1000).unwrap_or(OomScoreAdj::ZERO);
    let mut loads = Loads::start(root, plan.loads.iter().map(|_| (score, Work::Spin)))?;
    let cgroups = place(root, &loads, &plan.loads)?;
    loads.bind(cpu)?;
    let mut tree = Tree::read(root)?;
    tree.read_affinity(root);
    let ids: Vec<Id> = cgroups
        .iter()
        .map(|cgroup| tree.find(cgroup).context("a load's cgroup is gone"))
        .collect::<Result<_>>()?;
    let others = tree.ids().filter(|id| tree[*id].children.is_empty() && tree[*id].populated);
    let others: Vec<Id> = others.filter(|id| !ids.contains(id)).collect();
    loads.go()?;
    sleep(SETTLE);
    let (others_before, own_before) = (cpu_times(root, &tree, &others), cpu_times(root, &tree, &ids));
    let begun = Instant::now();
    sleep(WINDOW);
    let own_after = cpu_times(root, &tree, &ids);
    let ran = begun.elapsed();
    let others_after = cpu_times(root, &tree, &others);
    if !loads.ended()?.is_empty() {
        bail!("a load has ended early: see journalctl -b -k for who killed it");
    }
    drop(loads);
    let used = used(&tree, &ids, &own_before, &own_after);
    let used: Vec<f64> = ids.iter().map(|id| used.get(id).copied().unwrap_or(0.0)).collect();
    let others = self::used(&tree, &others, &others_before, &others_after);
    let of_the_cpu = used.iter().sum();
    let (declared, predicted, measured) =
        (due(before, &plan.loads, cpu), predicted(&tree, &ids, &others), normalised(used));
    let found = Found { predicted: predicted.as_slice(), measured: &measured };
    let rows = rows(&plan.loads, &declared, Some(found));
    Ok(CpuDrill { plan, cpu, rows, ran: Some((ran, of_the_cpu)) })
}

fn due(before: &Before<'_>, loads: &[Load], cpu: u32) -> Vec<f64> {
    let Before { policy, machine, live, .. } = before;
    declared(policy, &ancestors(policy, machine.ram), *machine, live, loads, cpu)
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
    let (after, passed) = (stalled(), begun.elapsed());
    let part = |before: Option<u64>, after: Option<u64>| {
        let waited = Duration::from_micros(after?.saturating_sub(before?));
        Some(waited.as_secs_f64() / passed.as_secs_f64())
    };
    let [(waiting, short)] = [(part(before[0], after[0]), part(before[1], after[1]))];
    Ok(Look { idle: Idle::read(root)?.since(&idle), waiting, short })
}

/// Puts each load into a scope beside whom it stands for; gives the scopes' cgroups.
fn place(root: &Path, loads: &Loads, all: &[Load]) -> Result<Vec<PathBuf>> {
    let each = all.iter().zip(loads.pids()).enumerate();
    each.map(|(at, (load, pid))| {
        let (scope, resources) = (scope_name(at + 1), load.resources());
        let place = Place { slice: &load.slice, scope: &scope, resources: &resources, outlive_kills: false };
        loads.put(root, &[pid], &place)?;
        Ok(load.slice.cgroup_of(&scope))
    })
    .collect()
}

/// How many CPUs each has used.
fn used(tree: &Tree, of: &[Id], before: &Each<CpuTime>, after: &Each<CpuTime>) -> BTreeMap<Id, f64> {
    let cpus = tree.online.as_ref().map_or(1, CpuSet::count);
    let used = |id: &Id| {
        let share = after.get(*id)?.share_since(*before.get(*id)?, cpus);
        Some((*id, share * f64::from(cpus)))
    };
    of.iter().filter_map(used).collect()
}
