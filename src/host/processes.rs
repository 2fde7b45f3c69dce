//! Every process, read once: who it is, where it is, and what the OOM killer thinks of it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use procfs::process;

use super::cgroup;

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
    let entries = fs::read_dir(&proc).with_context(|| format!("reading {}", proc.display()))?;
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
    let proc = process::Process::new_with_root(root.join("proc").join(pid.to_string())).ok()?;
    let (stat, status) = (proc.stat().ok()?, proc.status().ok()?);
    let bytes = |kib: Option<u64>| kib.unwrap_or(0) << 10;
    Some(Process {
        pid,
        parent: u32::try_from(stat.ppid).unwrap_or(0),
        uid: status.ruid,
        name: stat.comm,
        cgroup: cgroup::of_process(root, &pid.to_string()).ok()?,
        is_kernel: stat.flags & KERNEL_THREAD != 0,
        threads: u32::try_from(stat.num_threads).unwrap_or(1),
        started: stat.starttime,
        oom_score_adj: proc.oom_score_adj().ok()?,
        oom_score: proc.oom_score().ok()?,
        resident: bytes(status.vmrss),
        swapped: bytes(status.vmswap),
        page_tables: bytes(status.vmpte),
    })
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
        // One that has ended.
        fs::remove_file(own.join("stat")).unwrap();
        assert_eq!(read(directory.path()).unwrap(), []);
    }
}
