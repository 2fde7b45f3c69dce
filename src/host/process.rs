//! Processes, from `/proc`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::policy::OomScoreAdj;

/// The file that holds a process's OOM score adjustment; `process` is a number or `self`.
fn score_file(root: &Path, process: &str) -> PathBuf {
    root.join("proc").join(process).join("oom_score_adj")
}

/// A process's OOM score adjustment, `proc_pid_oom_score_adj(5)`.
///
/// # Errors
/// The process is gone, or `/proc` cannot be read.
pub fn oom_score_adj(root: &Path, process: &str) -> Result<OomScoreAdj> {
    let file = score_file(root, process);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    text.parse().map_err(anyhow::Error::msg).with_context(|| format!("reading {}", file.display()))
}

/// Sets this process's OOM score adjustment. Lowering it below the floor that a privileged process
/// set last needs `CAP_SYS_RESOURCE`.
///
/// # Errors
/// The kernel refuses, or `/proc` cannot be written.
pub fn set_own_oom_score_adj(root: &Path, score: OomScoreAdj) -> Result<()> {
    let file = score_file(root, "self");
    // The kernel takes the number in one write; `fs::write` would truncate, which /proc allows too.
    fs::write(&file, score.to_string()).with_context(|| format!("writing {score} to {}", file.display()))
}

/// The process that started `pid`.
#[must_use]
pub fn parent(root: &Path, pid: u32) -> Option<u32> {
    parent_in(&fs::read_to_string(root.join("proc").join(pid.to_string()).join("stat")).ok()?)
}

/// The same, from the text of `/proc/PID/stat`, `proc_pid_stat(5)`.
#[must_use]
pub fn parent_in(stat: &str) -> Option<u32> {
    // pid (comm) state ppid …: the name in parentheses may hold spaces and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Of a unit's processes, the one that PID 1 started: the one whose parent is none of them.
#[must_use]
pub fn main_process(root: &Path, processes: &[u32]) -> Option<u32> {
    processes
        .iter()
        .copied()
        .find(|pid| parent(root, *pid).is_some_and(|parent| !processes.contains(&parent)))
}
