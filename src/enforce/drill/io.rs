//! A load for each service and login that reads from one disk all the time.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Before;
use super::loads::{Loads, Place, Work, be_first_to_go, scope_name};
use crate::effect::ancestors;
use crate::effect::drill::io::{Load, Plan, declared, plan, predicted};
use crate::effect::drill::rows::{Found, Row, normalised, rows};
use crate::enforce::lock::Lock;
use crate::host::disk::{Disk, Disks, busy_time};
use crate::host::io_weights;
use crate::host::processes::bytes_read;
use crate::host::tree::{Id, Tree};
use crate::text::shown;
use crate::units::OomScoreAdj;

/// How long is looked whether somebody uses the disk, and the part of that time from which on a drill is felt.
const LOOK: Duration = Duration::from_secs(1);
const MOST_BUSY: f64 = 0.10;
/// In how long a while the loads begin, how long they are measured, and how often as long at most: as those of CPU time.
const START: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(4);
const WINDOWS: usize = 2;

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
        let plan = planned(before, &disk);
        let rows = rows(&plan.places(), &due(before, &disk, &plan.loads), None);
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
pub fn drill_io(before: &Before<'_>, disk: Disk, _lock: &Lock) -> Result<IoDrill> {
    let root = before.root;
    let plan = planned(before, &disk);
    if plan.loads.len() < 2 {
        bail!("there is nothing to compare: at least two of the policy's services and logins have to run");
    }
    look(root, &disk)?;
    be_first_to_go(root)?;
    let score = OomScoreAdj::new(1000).unwrap_or(OomScoreAdj::ZERO);
    let number = disk
        .number
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let (major, minor) = number.with_context(|| format!("{}: no number of a disk", shown(&disk.number)))?;
    // Each reads another part of the disk, so that none finds what another has read.
    let work = |at| Work::Read { major, minor, part: at };
    let mut loads = Loads::start(root, (0..).zip(&plan.loads).map(|(at, _)| (score, work(at))))?;
    let cgroups = place(root, &loads, &plan.loads)?;
    let predicted = {
        let tree = Tree::read(root)?;
        let find = |cgroup: &PathBuf| tree.find(cgroup).context("a load's cgroup is gone");
        let ids = cgroups.iter().map(find).collect::<Result<Vec<Id>>>()?;
        predicted(&tree, &io_weights::read(root, &tree), &disk, &ids)
    };
    let declared = due(before, &disk, &plan.loads);
    loads.go(START)?;
    sleep(START);
    let (first, begun) = (read_by(root, &loads)?, Instant::now());
    let mut drill = IoDrill { disk, plan, rows: Vec::new(), ran: None };
    for _ in 0..WINDOWS {
        sleep(WINDOW);
        let (now, ran) = (read_by(root, &loads)?, begun.elapsed());
        if !loads.ended()?.is_empty() {
            bail!("a load has ended early: see journalctl -b -k for who killed it");
        }
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

fn planned(before: &Before<'_>, disk: &Disk) -> Plan {
    plan(before.policy, &before.live, &io_weights::read(before.root, &before.live.tree), disk)
}

fn due(before: &Before<'_>, disk: &Disk, loads: &[Load]) -> Vec<f64> {
    let Before { policy, machine, live, root } = before;
    declared(policy, &ancestors(policy, machine.ram), live, &io_weights::read(root, &live.tree), disk, loads)
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

/// Puts each load into a scope beside whom it stands for; gives the scopes' cgroups.
fn place(root: &Path, loads: &Loads, all: &[Load]) -> Result<Vec<PathBuf>> {
    let each = all.iter().zip(loads.pids()).enumerate();
    let put = |(at, (load, pid)): (usize, (&Load, u32))| {
        let (scope, resources) = (scope_name(format_args!("io-{}", at + 1)), load.resources());
        let place =
            Place { slice: &load.place.slice, scope: &scope, resources: &resources, outlive_kills: false };
        loads.put(root, &[pid], &place)
    };
    let cgroups = each.map(put).collect::<Result<Vec<_>>>()?;
    loads.wait_until_in(root, &cgroups)?;
    Ok(cgroups)
}
