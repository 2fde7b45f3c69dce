//! What a cgroup uses now, and what has happened to it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::cgroup::attribute;
use super::machine::amount;
use super::parallel;
use super::pressure::Pressure;
use super::tree::{Each, Id, Tree};
use super::unread::Unread;

/// What a cgroup uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// How long its tasks wait.
    pub pressure: Pressure,
    /// The CPU time that it has used.
    pub cpu: Option<CpuTime>,
}

/// `usage_usec` of `cpu.stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    /// In µs, since the cgroup was made.
    pub used: u64,
    /// When that was read.
    pub at: Instant,
}

impl CpuTime {
    /// The part of so many CPUs that was used since `before`, 0 to 1.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a part from 0 to 1, for people")]
    pub fn share_since(self, before: Self, cpus: u32) -> f64 {
        let time = self.at.duration_since(before.at).as_micros() as f64 * f64::from(cpus.max(1));
        let used = self.used.saturating_sub(before.used) as f64;
        if time > 0.0 { (used / time).min(1.0) } else { 0.0 }
    }
}

impl Usage {
    /// Reads that of each of these cgroups.
    #[must_use]
    pub fn read(root: &Path, cgroups: &[PathBuf]) -> Vec<Self> {
        parallel::map(cgroups, |part| part.iter().map(|cgroup| Self::read_one(root, cgroup)).collect())
    }

    fn read_one(root: &Path, cgroup: &Path) -> Self {
        let usage = numbers(root, cgroup, "cpu.stat").into_iter().find(|(key, _)| key == "usage_usec");
        let cpu = usage.map(|(_, used)| CpuTime { used, at: Instant::now() });
        Self { cpu, pressure: Pressure::read(root, cgroup) }
    }
}

/// The CPU time that each of these has used. Siblings are best next to each other.
#[must_use]
pub fn cpu_times(root: &Path, tree: &Tree, of: &[Id]) -> Each<CpuTime> {
    tree.read_about(root, of, |_, directory| {
        let used = count(&directory.text("cpu.stat")?, "usage_usec");
        Some(CpuTime { used, at: Instant::now() })
    })
}

/// An attribute with a line `KEY NUMBER` for each, such as `cpu.stat` and `memory.events`, in its order;
/// empty where there is none.
#[must_use]
pub fn numbers(root: &Path, cgroup: &Path, name: &str) -> Vec<(String, u64)> {
    pairs(&attribute(root, cgroup, name).unwrap_or_default())
}

/// The lines `KEY NUMBER` of such a text.
#[must_use]
pub fn pairs(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let (key, number) = line.split_once(' ')?;
        Some((key.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// The number behind a key in such a text; 0 where there is no such line.
#[must_use]
pub fn count(text: &str, key: &str) -> u64 {
    let number = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(number).unwrap_or(0)
}

/// Scores by the process's number, and the processes whose score cannot be read.
type Read = (HashMap<u32, u16>, Vec<Unread>);

/// The `oom_score` of every process, `proc_pid_oom_score(5)`, that is being read. The kernel kills the highest
/// first. Threads of the kernel have one too, 0, and are never killed.
#[derive(Debug)]
pub struct OomScores {
    root: PathBuf,
    /// `None` where no thread could be started.
    reader: Option<JoinHandle<Read>>,
}

impl OomScores {
    /// Begins to read them, while others read or compute something else.
    #[must_use]
    pub fn begin(root: &Path) -> Self {
        let own = root.to_owned();
        let reader = thread::Builder::new().spawn(move || oom_scores(&own)).ok();
        Self { root: root.to_owned(), reader }
    }

    /// By the process's number, with those that cannot be read; empty where `/proc` cannot be.
    #[must_use]
    pub fn get(self) -> Read {
        let read = self.reader.and_then(|reader| reader.join().ok());
        read.unwrap_or_else(|| oom_scores(&self.root))
    }
}

fn oom_scores(root: &Path) -> Read {
    let path = root.join("proc");
    let Ok(proc) = open(&path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return Read::default();
    };
    let names = fs::read_dir(&path).into_iter().flatten().flatten();
    let pids: Vec<u32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let read = parallel::map(&pids, |part| part.iter().map(|pid| oom_score(&proc, *pid)).collect());
    let (mut scores, mut unread) = Read::default();
    for (pid, score) in pids.into_iter().zip(read) {
        match score {
            Ok(score) => drop(scores.insert(pid, score)),
            // It has ended.
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(error) => {
                let why = format!("reading /proc/{pid}/oom_score: {}", std::io::Error::from(error));
                unread.push(Unread { what: pid.to_string().into(), why });
            }
        }
    }
    (scores, unread)
}

fn oom_score(proc: &OwnedFd, pid: u32) -> Result<u16, Errno> {
    let file = openat(proc, format!("{pid}/oom_score"), OFlags::CLOEXEC, Mode::empty())?;
    let mut text = [0; 8];
    let length = rustix::io::read(&file, &mut text)?;
    let number = text.get(..length).and_then(|text| str::from_utf8(text).ok()?.trim_end().parse().ok());
    number.ok_or(Errno::INVAL)
}

/// Bytes of RAM that a new process could not have: `MemTotal` without `MemAvailable` of `/proc/meminfo`.
#[must_use]
pub fn memory_used(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    Some(amount(&meminfo, "MemTotal")?.saturating_sub(amount(&meminfo, "MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn use_of_the_cpus_is_a_part_of_all_of_them() {
        let at = Instant::now();
        let before = CpuTime { used: 1_000_000, at };
        let after = |used| CpuTime { used, at: at + Duration::from_secs(2) };
        for (used, share) in
            [(1_000_000, 0.0), (2_000_000, 0.25), (5_000_000, 1.0), (9_000_000, 1.0), (0, 0.0)]
        {
            assert!((after(used).share_since(before, 2) - share).abs() < 1e-9, "{used}");
        }
        assert!(CpuTime { used: 2_000_000, at }.share_since(before, 2).abs() < 1e-9);
    }
}
