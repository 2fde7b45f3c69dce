//! Processes, from `/proc`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::str;

use anyhow::{Context, Result};

use crate::bounded::read_attribute;
use crate::text::{Foreign, shown};
use crate::units::OomScoreAdj;

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
    let read = || -> Result<OomScoreAdj> {
        str::from_utf8(&read_attribute(&file)?)?.parse().map_err(anyhow::Error::msg)
    };
    read().with_context(|| format!("reading {}", shown(&file)))
}

/// Sets this process's OOM score adjustment. Lowering it below the floor that a privileged process
/// set last needs `CAP_SYS_RESOURCE`.
///
/// # Errors
/// The kernel refuses, or `/proc` cannot be written.
pub fn set_own_oom_score_adj(root: &Path, score: OomScoreAdj) -> Result<()> {
    let file = score_file(root, "self");
    // The kernel takes the number in one write; `fs::write` would truncate, which /proc allows too.
    fs::write(&file, score.to_string()).with_context(|| format!("writing {score} to {}", shown(&file)))
}

/// The words with which a process was started, `proc_pid_cmdline(5)`, a space between two; nothing of one
/// that is gone.
#[must_use]
pub fn command_line(root: &Path, pid: u32) -> Foreign {
    let mut words = fs::read(root.join("proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    while words.last() == Some(&0) {
        words.pop();
    }
    Foreign::new(words.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect::<Vec<_>>())
}

/// The process that started `pid`.
#[must_use]
pub fn parent(root: &Path, pid: u32) -> Option<u32> {
    Some(Stat::read(root, pid)?.parent)
}

/// What a process's `stat` says of it, as far as fairslice asks: `proc_pid_stat(5)`.
///
/// The parser of procfs 0.18 panics at a text that begins with the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// The command's name, at most 15 bytes of any value but 0.
    pub name: Foreign,
    /// `ppid`; 0 for PID 1, the first kernel thread, and where the parent is outside of the PID namespace.
    pub parent: u32,
    /// `tty_nr`, the number of the controlling terminal; 0 where there is none.
    pub terminal: i32,
    /// `PF_*` of the kernel's `include/linux/sched.h`.
    pub flags: u32,
    /// How nice its first thread is, −20 to 19.
    pub nice: i8,
    /// How many threads it has.
    pub threads: u32,
    /// When it started, in clock ticks after the boot.
    pub started: u64,
}

impl Stat {
    /// `None` where the process is gone.
    #[must_use]
    pub fn read(root: &Path, pid: u32) -> Option<Self> {
        Self::of(root, &pid.to_string())
    }

    /// The same; `process` is a number or `self`.
    #[must_use]
    pub fn of(root: &Path, process: &str) -> Option<Self> {
        Self::parse(&fs::read(root.join("proc").join(process).join("stat")).ok()?)
    }

    /// From `PID (NAME) STATE PPID …`: the name in parentheses may hold spaces and parentheses.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let start = text.iter().position(|byte| *byte == b'(')? + 1;
        let name = text.get(start..end)?;
        let fields: Vec<&str> = str::from_utf8(text.get(end + 1..)?).ok()?.split_whitespace().collect();
        // The third field of the manual page is the first one here.
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            name: Foreign::new(name),
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            nice: field(19)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }
}

/// Whether PID 1 still prepares a service's command in a process of this name and real user: its score and
/// cgroup are not what they will be. It is root's until then, and anybody can give a process of theirs the name.
/// Since systemd 255 it is systemd-executor at first; until the command takes its place it has that one's name in
/// parentheses (`rename_process_from_path` in systemd's `src/core/exec-invoke.c`).
#[must_use]
pub fn is_being_started(name: &Foreign, uid: impl FnOnce() -> Option<u32>) -> bool {
    let name = name.as_bytes();
    let is_so_called = name.starts_with(b"systemd-executo") || name.starts_with(b"(") && name.ends_with(b")");
    is_so_called && uid() == Some(0)
}

/// Of a unit's processes, the one that PID 1 started: the one whose parent is none of them.
#[must_use]
pub fn main_process(root: &Path, processes: &[u32]) -> Option<u32> {
    processes
        .iter()
        .copied()
        .find(|pid| parent(root, *pid).is_some_and(|parent| !processes.contains(&parent)))
}
