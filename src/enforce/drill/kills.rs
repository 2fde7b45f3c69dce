//! A process for each service and login, in one scope, whose limit is lowered until all are killed.
//!
//! Nobody eats memory: with its limit set below what it uses, the kernel kills in a cgroup until the rest fits
//! (`memory_max_write` of its `mm/memcontrol.c`). So it is this one cgroup that runs out of memory, and never more
//! than the processes hold is asked of the machine.
#![forbid(unsafe_code)]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::loads::{Loads, Place, Work, scope_name};
use super::own_cpu::OwnCpu;
use super::{Before, LIMIT, Turn, can_take};
use crate::effect::drill::kills::{Plan, Row, rows};
use crate::effect::kill_order::{Domain, KillScene, victims};
use crate::host::cgroup;
use crate::host::kernel_log::KernelLog;
use crate::host::oom;
use crate::host::pid1::Manager;
use crate::host::processes;
use crate::host::tree::Tree;
use crate::host::units::Units;
use crate::text::shown;
use crate::units::{MEMORY_MAX, MEMORY_SWAP_MAX, SliceName};

/// What each process holds: ten of them, with what they are themselves, stay below 64 MiB.
const EACH: usize = 4 << 20;
/// By so much the limit is lowered below what is used: one process is killed for it, and no second.
const STEP: u64 = 1 << 20;
/// How long one kill may take, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
/// So long after a limit was set nobody is being killed for it any more.
const AGAIN: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Debug)]
pub struct KillDrill {
    /// What was started.
    pub plan: Plan,
    /// A row for each process, in the order in which they were killed.
    pub rows: Vec<Row>,
}

impl KillDrill {
    /// Whether all were killed when they were to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

/// Runs it.
///
/// # Errors
/// The kernel would stop the machine instead; a process cannot be started or put where it belongs, or is not killed.
pub fn drill_kills(before: &Before<'_>, plan: Plan, _turn: &Turn) -> Result<KillDrill> {
    let root = before.root;
    if plan.targets.len() < 2 {
        bail!(
            "there is no order: at least two services and logins whose score the policy declares have to run"
        );
    }
    let oom = oom::read(root, &Units::default(), &[])?;
    if oom.panics {
        bail!("vm.panic_on_oom is set: the kernel could stop the machine for what runs out in one cgroup");
    }
    can_take(oom.available)?;
    let _own = OwnCpu::here()?;
    let mut log = KernelLog::from_now(root)?;
    let all = plan.targets.iter().map(|target| (target.raised, Work::Hold(EACH)));
    let mut loads = Loads::start(root, all)?;
    let (slice, scope) = (SliceName::system(), scope_name("oom"));
    let put = |outlive_kills| {
        let resources = &[(MEMORY_MAX.bus, LIMIT), (MEMORY_SWAP_MAX.bus, 0)];
        let place = Place { slice: &slice, scope: &scope, resources, outlive_kills, delegate: false };
        loads.put(root, &loads.pids(), &place)
    };
    // Which systemd has it does not tell: Debian 12's 252 ends a scope with the first kill, too.
    let cgroup = put(true).or_else(|_| put(false))?;
    loads.wait_until_in(root, &vec![cgroup.clone(); plan.targets.len()])?;
    loads.tell_each(&vec![0; plan.targets.len()])?;
    let predicted = predicted(root, &cgroup, &loads.pids(), oom.ram)?;
    let killed = kill_all(root, &cgroup, &scope, &mut loads, &mut log)?;
    let rows = rows(&plan.targets, &predicted, &killed);
    Ok(KillDrill { plan, rows })
}

/// The places of the processes in the order that `explain oom` computes.
fn predicted(root: &Path, cgroup: &Path, pids: &[u32], ram: u64) -> Result<Vec<usize>> {
    let mut tree = Tree::read_way(root, cgroup)?;
    let id = tree.find(cgroup).context("the scope of the drill is gone")?;
    tree.read_memory(root, [id]);
    let (units, processes) = (Units::default(), processes::of(root, pids).all);
    let scene = KillScene { tree: &tree, units: &units, processes: &processes, ram, swap: 0 };
    let order = victims(&scene, Domain { of: id, total: LIMIT });
    let place = |pid: u32| pids.iter().position(|other| *other == pid);
    let order: Vec<usize> = order.iter().filter_map(|victim| place(victim.process.pid)).collect();
    if order.len() < pids.len() {
        bail!("a process of the drill has ended before it was killed: see journalctl -b -k");
    }
    Ok(order)
}

/// The places of the processes in the order in which the kernel kills them. It may kill a second one before the
/// memory of the first is back, so how they end does not tell: the kernel does.
fn kill_all(
    root: &Path,
    cgroup: &Path,
    scope: &str,
    loads: &mut Loads,
    log: &mut KernelLog,
) -> Result<Vec<usize>> {
    let pids = loads.pids();
    let mut killed: Vec<usize> = Vec::new();
    while killed.len() < pids.len() {
        let deadline = Instant::now() + PATIENCE;
        let mut lowered: Option<Instant> = None;
        while loads.ended()?.len() == killed.len() {
            // Again, where something else could be reclaimed: pages of the program itself that nobody had used before.
            if lowered.is_none_or(|lowered| lowered.elapsed() > AGAIN) {
                let used = cgroup::attribute(root, cgroup, "memory.current")
                    .and_then(|text| text.parse::<u64>().ok())
                    .with_context(|| format!("memory.current of {}: not a number", shown(cgroup)))?;
                let limit = used.saturating_sub(STEP);
                Manager::below(root).set_unit_properties(scope, &[(MEMORY_MAX.bus, limit)], deadline)?;
                lowered = Some(Instant::now());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the kernel killed nobody within {} s of a limit below what is used",
                    PATIENCE.as_secs()
                );
            }
            sleep(PAUSE);
        }
        let place = |pid: u32| pids.iter().position(|own| *own == pid);
        killed.extend(log.killed()?.into_iter().filter_map(place));
        if loads.ended()?.len() > killed.len() {
            bail!(
                "a process of the drill ended, and the kernel's log has no word of it: it was not killed for memory"
            );
        }
    }
    Ok(killed)
}
