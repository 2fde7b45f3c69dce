//! How often limits were met, and how long tasks have waited for it.
//!
//! The attributes are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`. What they count begins
//! when the cgroup is made.
#![forbid(unsafe_code)]

use std::path::Path;

use super::cgroup::attribute;
use super::counts::refused;
use super::pressure::Stalls;
use super::tree::{Cgroup, CgroupDirectory, Each, Id, Tree};
use super::usage::count;

/// What one cgroup says of its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Met {
    /// Where it has a `memory.high` or a `memory.max`.
    pub memory: Option<MemoryMet>,
    /// Where it has a `cpu.max`.
    pub cpu: Option<CpuMet>,
    /// Where forks were refused in it.
    pub tasks: Option<TasksMet>,
}

/// `memory.events.local`, of this cgroup's own limits, and `memory.pressure`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemoryMet {
    /// How often its tasks were slowed down for being above `memory.high`.
    pub high: u64,
    /// How often nothing could be had below `memory.max`.
    pub oom: u64,
    /// How many of its processes the OOM killer took.
    pub oom_kill: u64,
    /// `memory.peak`: the most that it has used, in bytes. `None` before Linux 5.19.
    pub peak: Option<u64>,
    /// How long its tasks wait for memory.
    pub pressure: Option<Stalls>,
}

/// `cpu.stat` and `cpu.pressure`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuMet {
    /// In how many periods of `cpu.max` it wanted to run.
    pub periods: u64,
    /// In how many of these it was stopped.
    pub throttled: u64,
    /// How long its tasks wait for a CPU.
    pub pressure: Option<Stalls>,
}

/// `pids.events`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TasksMet {
    /// How many forks were refused.
    pub refused: u64,
    /// Whether by its own `pids.max`: `pids.events.local`. Before Linux 6.11, forks are counted where they
    /// were tried, whosever limit it was.
    pub own: bool,
}

/// `pids.max` and how near it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TasksLimit {
    /// The most tasks; never [`u64::MAX`].
    pub max: u64,
    /// `pids.peak`, the most that there were; as many as there are before Linux 6.1.
    pub peak: u64,
}

/// What every cgroup of a tree says, whose memory has been read.
#[must_use]
pub fn read(root: &Path, tree: &Tree) -> Each<Met> {
    let ids: Vec<Id> = tree.ids().filter(|id| *id != Tree::ROOT).collect();
    tree.read_about(root, &ids, |id, directory| {
        Some(of(&tree[id], &directory)).filter(|met| *met != Met::default())
    })
}

/// The `pids.max` of a cgroup, where it has one.
#[must_use]
pub fn tasks_limit(root: &Path, tree: &Tree, id: Id) -> Option<TasksLimit> {
    let path = tree.path(id);
    let number = |name| attribute(root, &path, name)?.parse().ok();
    let max = number("pids.max")?;
    Some(TasksLimit { max, peak: number("pids.peak").or(tree[id].tasks)? })
}

fn of(cgroup: &Cgroup, directory: &CgroupDirectory<'_>) -> Met {
    let pressure = |name| Stalls::parse(&directory.text(name)?);
    let text = |name| directory.text(name).unwrap_or_default();
    let has_limit = cgroup.memory.is_some_and(|memory| memory.high != u64::MAX || memory.max != u64::MAX);
    let memory = has_limit.then(|| {
        let own = text("memory.events.local");
        let oom = count(&own, "oom");
        // A kill is counted where the process was: of a slice, in a cgroup below it.
        let below = if oom > 0 { count(&text("memory.events"), "oom_kill") } else { 0 };
        MemoryMet {
            high: count(&own, "high"),
            oom,
            oom_kill: below.max(count(&own, "oom_kill")),
            peak: directory.number("memory.peak"),
            pressure: pressure("memory.pressure"),
        }
    });
    let cpu = cgroup.cpu.and_then(|cpu| cpu.max).map(|_| {
        let stat = text("cpu.stat");
        CpuMet {
            periods: count(&stat, "nr_periods"),
            throttled: count(&stat, "nr_throttled"),
            pressure: pressure("cpu.pressure"),
        }
    });
    let tasks = cgroup.tasks.map(|_| refused(directory)).filter(|(refused, _)| *refused > 0);
    let tasks = tasks.map(|(refused, own)| TasksMet { refused, own });
    Met { memory, cpu, tasks }
}
