//! Every process, read once: who it is, where it is, and what the OOM killer thinks of it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroup;
use super::machine::amount;
use super::process::Stat;
use crate::text::shown;

/// One process, `proc_pid(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The number of the process that started it, or took it over; 0 for PID 1 and the first kernel thread.
    pub parent: u32,
    /// Its real user.
    pub uid: u32,
    /// The command's name, at most 15 bytes.
    pub name: String,
    /// Its cgroup, from the root of the tree.
    pub cgroup: PathBuf,
    /// Whether it is a thread of the kernel's, which no OOM killer takes.
    pub is_kernel: bool,
    /// How many threads it has.
    pub threads: u32,
    /// When it started, in clock ticks after the boot.
    pub started: u64,
    /// `oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: i16,
    /// `oom_score`: what the kernel makes of it all; the highest is killed first.
    pub oom_score: u16,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Swapped out memory in bytes.
    pub swapped: u64,
    /// Page tables in bytes.
    pub page_tables: u64,
}

/// Every process below `root`, in the order of their numbers. One that ends meanwhile is left out.
///
/// # Errors
/// `/proc` cannot be read.
pub fn read(root: &Path) -> Result<Vec<Process>> {
    let proc = root.join("proc");
    let entries = fs::read_dir(&proc).with_context(|| format!("reading {}", shown(&proc)))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = names.collect();
    pids.sort_unstable();
    Ok(of(root, &pids))
}

/// These processes, in this order. One that has ended is left out.
#[must_use]
pub fn of(root: &Path, pids: &[u32]) -> Vec<Process> {
    pids.iter().filter_map(|pid| one(root, *pid)).collect()
}

fn one(root: &Path, pid: u32) -> Option<Process> {
    /// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let text = |file: &str| {
        let bytes = fs::read(root.join("proc").join(pid.to_string()).join(file)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (stat, status) = (Stat::read(root, pid)?, text("status")?);
    // A thread of the kernel has no memory of its own, and no such lines.
    let bytes = |name| amount(&status, name).unwrap_or(0);
    Some(Process {
        pid,
        parent: stat.parent,
        uid: real_user(&status)?,
        name: stat.name,
        cgroup: cgroup::of_process(root, &pid.to_string()).ok()?,
        is_kernel: stat.flags & KERNEL_THREAD != 0,
        threads: stat.threads,
        started: stat.started,
        oom_score_adj: text("oom_score_adj")?.trim().parse().ok()?,
        oom_score: text("oom_score")?.trim().parse().ok()?,
        resident: bytes("VmRSS"),
        swapped: bytes("VmSwap"),
        page_tables: bytes("VmPTE"),
    })
}

/// The real user of a process. `None` where it is gone.
#[must_use]
pub fn user_of(root: &Path, pid: u32) -> Option<u32> {
    let status = fs::read(root.join("proc").join(pid.to_string()).join("status")).ok()?;
    real_user(&String::from_utf8_lossy(&status))
}

/// The real user, from the text of `/proc/PID/status`: `proc_pid_status(5)`.
#[must_use]
pub fn real_user(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("proc/77");
        fs::create_dir_all(&own).unwrap();
        for file in ["stat", "status", "oom_score", "oom_score_adj"] {
            fs::copy(Path::new("/proc/self").join(file), own.join(file)).unwrap();
        }
        fs::write(own.join("cgroup"), "0::/a.slice/b.service\n").unwrap();
        let all = read(directory.path()).unwrap();
        let [process] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((process.pid, process.cgroup.as_path()), (77, Path::new("a.slice/b.service")));
        assert!(process.resident > 0 && process.threads > 0 && !process.is_kernel);
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            (process.name.as_str(), process.parent),
            (name.trim_end(), std::os::unix::process::parent_id())
        );
        assert_eq!(process.uid, nix::unistd::getuid().as_raw());
        // One that has ended.
        fs::remove_file(own.join("stat")).unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
    }
}
