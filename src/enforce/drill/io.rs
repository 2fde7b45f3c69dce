//! A load for each service and login that reads from one disk all the time.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::loads::{Loads, Work};
use super::own_cpu::OwnCpu;
use super::{Before, LOOK, START, Turn, WINDOW, WINDOWS, can_compare};
use crate::effect::ancestors;
use crate::effect::drill::io::{Plan, declared, plan, predicted};
use crate::effect::drill::rows::{Found, Row, normalised, rows};
use crate::host::block_device::numbers;
use crate::host::disk::{Disk, Disks, busy_time};
use crate::host::io_weights;
use crate::host::processes::bytes_read;
use crate::host::tree::{Id, Tree};
use crate::text::shown;
use crate::units::OomScoreAdj;

/// The part of the time in which somebody uses the disk from which on a drill is felt.
const MOST_BUSY: f64 = 0.10;

/// What came of it.
#[derive(Debug)]
pub struct IoDrill {
    /// On which disk.
    pub disk: Disk,
    /// What was started.
    pub plan: Plan,
    /// A row for each load and slice.
    pub rows: Vec<Row>,
    /// For how long, and how many bytes the loads have read; `None` where none was started.
    pub ran: Option<(Duration, u64)>,
}

impl IoDrill {
    /// What would be started.
    #[must_use]
    pub fn planned(before: &Before<'_>, disk: Disk) -> Self {
        let (plan, due) = planned(before, &disk);
        let rows = rows(&plan.places(), &due, None);
        Self { disk, plan, rows, ran: None }
    }

    /// Whether all is as it was declared and predicted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

/// The disk on which a drill can show something: of several, the first.
///
/// # Errors
/// None goes by weights.
pub fn disk(root: &Path) -> Result<Disk> {
    let disks = Disks::read(root).all;
    if let Some(disk) = disks.iter().find(|disk| disk.divider().is_some()) {
        return Ok(disk.clone());
    }
    let each: Vec<String> =
        disks.iter().map(|disk| format!("{} {}", shown(&disk.name), disk.without_weights())).collect();
    if each.is_empty() {
        bail!("no disk is to be seen from here");
    }
    bail!("weights decide nothing on the disks here, so nothing could be measured: {}", each.join(", "))
}

/// Runs it.
///
/// # Errors
/// Somebody uses the disk, or a load cannot be started or put where it belongs.
pub fn drill_io(before: &Before<'_>, disk: Disk, _turn: &Turn) -> Result<IoDrill> {
    let root = before.root;
    let (plan, declared) = planned(before, &disk);
    can_compare(plan.loads.len())?;
    look(root, &disk)?;
    let _own = OwnCpu::here()?;
    let (major, minor) =
        numbers(&disk.number).with_context(|| format!("{}: no number of a disk", shown(&disk.number)))?;
    // Each reads another part of the disk, so that none finds what another has read.
    let work = |at| Work::Read { major, minor, part: at };
    let mut loads = Loads::start(root, (0..).zip(&plan.loads).map(|(at, _)| (OomScoreAdj::MAX, work(at))))?;
    let cgroups = loads.put_each(root, &plan.loads, "io-")?;
    let predicted = {
        let tree = Tree::read(root)?;
        let find = |cgroup: &PathBuf| tree.find(cgroup).context("a load's cgroup is gone");
        let ids = cgroups.iter().map(find).collect::<Result<Vec<Id>>>()?;
        predicted(&tree, &io_weights::read(root, &tree), &disk, &ids)
    };
    loads.go(START)?;
    sleep(START);
    let (first, begun) = (read_by(root, &loads)?, Instant::now());
    let mut drill = IoDrill { disk, plan, rows: Vec::new(), ran: None };
    for _ in 0..WINDOWS {
        sleep(WINDOW);
        let (now, ran) = (read_by(root, &loads)?, begun.elapsed());
        loads.all_run()?;
        let read: Vec<u64> = now.iter().zip(&first).map(|(now, first)| now.saturating_sub(*first)).collect();
        #[allow(clippy::cast_precision_loss, reason = "no disk gives 2^52 bytes in seconds")]
        let measured = normalised(&read.iter().map(|bytes| *bytes as f64).collect::<Vec<_>>());
        let found = Found { predicted: predicted.as_slice(), measured: &measured };
        drill.rows = rows(&drill.plan.places(), &declared, Some(found));
        drill.ran = Some((ran, read.iter().sum()));
        if drill.holds() {
            break;
        }
    }
    Ok(drill)
}

/// What would be started, and what each is due.
fn planned(before: &Before<'_>, disk: &Disk) -> (Plan, Vec<f64>) {
    let Before { policy, machine, live, root } = before;
    let weights = io_weights::read(root, &live.tree);
    let plan = plan(policy, live, &weights, disk);
    let due = declared(policy, &ancestors(policy, machine.ram), live, &weights, disk, &plan.loads);
    (plan, due)
}

/// Whether nobody else would feel it.
fn look(root: &Path, disk: &Disk) -> Result<()> {
    let busy = || {
        busy_time(root, disk)
            .with_context(|| format!("{}: the kernel counts no time of it", shown(&disk.name)))
    };
    let (before, begun) = (busy()?, Instant::now());
    sleep(LOOK);
    let part = busy()?.saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
    if part > MOST_BUSY {
        bail!(
            "{} is busy {:.0} % of the time, and with more than {:.0} % a drill would be felt",
            shown(&disk.name),
            part * 100.0,
            MOST_BUSY * 100.0
        );
    }
    Ok(())
}

/// What each load has read from disks.
fn read_by(root: &Path, loads: &Loads) -> Result<Vec<u64>> {
    let read = |pid| {
        bytes_read(root, pid).context("asking the kernel what a load has read: read_bytes of /proc/PID/io")
    };
    loads.pids().into_iter().map(read).collect()
}
