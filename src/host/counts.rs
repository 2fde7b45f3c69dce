//! What each cgroup on the way to a process counts: CPU time, and what its limits did.
//!
//! The attributes are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`. What they count begins when the
//! cgroup is made, that of a user with the first login.
#![forbid(unsafe_code)]

use std::path::Path;

use super::cgroup::number;
use super::pressure::Stalls;
use super::tree::{CgroupDirectory, Each, Id, Tree};
use super::usage::count;

/// What one cgroup counts. What it has no attribute for is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// `cpu.stat`.
    pub cpu: Option<CpuCount>,
    /// `memory.events`, `memory.events.local` and `memory.pressure`.
    pub memory: Option<MemoryCount>,
    /// `pids.current`, `pids.max` and `pids.events`.
    pub tasks: Option<TasksCount>,
    /// The CPUs that it asks for, `cpuset.cpus`; empty where it does not.
    pub cpuset: Option<String>,
    /// The lines of `io.max` that limit something: `8:0 rbps=1048576 wbps=max riops=max wiops=max`.
    pub io_max: Vec<String>,
}

/// Times in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuCount {
    /// `usage_usec`: the CPU time that was used.
    pub used: u64,
    /// `nr_periods`: in how many periods of `cpu.max` something wanted to run.
    pub periods: u64,
    /// `nr_throttled`: in how many of these it was stopped.
    pub throttled: u64,
    /// `throttled_usec`: for how long, on all CPUs together.
    pub throttled_time: u64,
}

/// What happened at `memory.high` and `memory.max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryCount {
    /// `high` of `memory.events.local`: how often tasks were slowed down at its own `memory.high`.
    pub high: u64,
    /// `oom` of `memory.events.local`: how often nothing could be had below its own `memory.max`.
    pub oom: u64,
    /// `oom` of `memory.events`: the same of those below as well.
    pub oom_below: u64,
    /// `oom_kill` of `memory.events`: how many processes in it and below an OOM killer of the kernel's took.
    pub killed: u64,
    /// How long at least one of its tasks waited for memory, in µs. `None` where the kernel does not count that.
    pub waited: Option<u64>,
}

/// What happened at `pids.max`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TasksCount {
    /// The threads in it and below.
    pub current: u64,
    /// [`u64::MAX`] is no limit.
    pub max: u64,
    /// How many forks were refused.
    pub refused: u64,
    /// Whether by its own limit: before Linux 6.11 they are counted where they were tried, whosever limit it was.
    pub own: bool,
}

/// What these count.
#[must_use]
pub fn read(root: &Path, tree: &Tree, ids: &[Id]) -> Each<Counts> {
    tree.read_about(root, ids, |_, directory| Some(of(&directory)))
}

fn of(directory: &CgroupDirectory<'_>) -> Counts {
    let io_max = directory.text("io.max").unwrap_or_default();
    Counts {
        cpu: directory.text("cpu.stat").map(|text| cpu(&text)),
        memory: memory(directory),
        tasks: tasks(directory),
        cpuset: directory.text("cpuset.cpus"),
        io_max: io_max.lines().filter(|line| limits_something(line)).map(str::to_owned).collect(),
    }
}

fn limits_something(line: &str) -> bool {
    line.split_whitespace().skip(1).any(|word| word.split_once('=').is_some_and(|(_, most)| most != "max"))
}

fn cpu(text: &str) -> CpuCount {
    let of = |key| count(text, key);
    CpuCount {
        used: of("usage_usec"),
        periods: of("nr_periods"),
        throttled: of("nr_throttled"),
        throttled_time: of("throttled_usec"),
    }
}

fn memory(directory: &CgroupDirectory<'_>) -> Option<MemoryCount> {
    let all = directory.text("memory.events")?;
    let own = directory.text("memory.events.local").unwrap_or_default();
    let stalls = directory.text("memory.pressure").and_then(|text| Stalls::parse(&text));
    Some(MemoryCount {
        high: count(&own, "high"),
        oom: count(&own, "oom"),
        oom_below: count(&all, "oom"),
        killed: count(&all, "oom_kill"),
        waited: stalls.map(|stalls| stalls.some.total),
    })
}

fn tasks(directory: &CgroupDirectory<'_>) -> Option<TasksCount> {
    let (current, max) = (directory.number("pids.current")?, directory.text("pids.max")?);
    let (refused, own) = refused(directory);
    Some(TasksCount { current, max: number(&max)?, refused, own })
}

/// How many forks were refused, and whether by the cgroup's own `pids.max`: `pids.events.local`. Before Linux 6.11 they
/// are counted where they were tried, whosever limit it was.
pub(super) fn refused(directory: &CgroupDirectory<'_>) -> (u64, bool) {
    let local = directory.text("pids.events.local");
    let own = local.is_some();
    let events = local.or_else(|| directory.text("pids.events")).unwrap_or_default();
    (count(&events, "max"), own)
}
