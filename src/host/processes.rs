//! Every process, read once: who it is, where it is, and what the OOM killer thinks of it.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str;

use anyhow::{Context, Result};

use super::cgroup;
use super::cpu_set::CpuSet;
use super::machine::amount;
use super::parallel;
use super::process::Stat;
use super::unread::Unread;
use crate::bounded::read_attribute;
use crate::text::{Foreign, shown, utf8_of};

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
    pub name: Foreign,
    /// Its cgroup, from the root of the tree; of one whose path is longer than a page, an ancestor.
    pub cgroup: PathBuf,
    /// Whether it is a thread of the kernel's, which no OOM killer takes.
    pub is_kernel: bool,
    /// How many threads it has.
    pub threads: u32,
    /// The CPUs that its first thread may use, `Cpus_allowed_list`.
    pub cpus: Option<CpuSet>,
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

/// Processes, and those that could not be looked at. One that has ended is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// In the order in which they were asked for.
    pub all: Vec<Process>,
    /// Of what is there; by number.
    pub unread: Vec<Unread>,
}

/// Every process below `root`, in the order of their numbers.
///
/// # Errors
/// `/proc` cannot be read.
pub fn read(root: &Path) -> Result<Processes> {
    let proc = root.join("proc");
    let entries = fs::read_dir(&proc).with_context(|| format!("reading {}", shown(&proc)))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = names.collect();
    pids.sort_unstable();
    Ok(of(root, &pids))
}

/// These processes, in this order.
#[must_use]
pub fn of(root: &Path, pids: &[u32]) -> Processes {
    let mut read = Processes::default();
    let each = parallel::map(pids, |part| part.iter().map(|pid| one(root, *pid)).collect());
    for (pid, process) in pids.iter().zip(each) {
        match process {
            Ok(process) => read.all.push(process),
            Err(error) if has_ended(&error) => {}
            Err(error) => {
                read.unread.push(Unread { what: pid.to_string().into(), why: format!("{error:#}") });
            }
        }
    }
    read
}

fn one(root: &Path, pid: u32) -> Result<Process> {
    /// `PF_KTHREAD` of the kernel's `include/linux/sched.h`.
    const KERNEL_THREAD: u32 = 0x0020_0000;
    let path = |file: &str| root.join("proc").join(pid.to_string()).join(file);
    let bytes =
        |file: &str| read_attribute(&path(file)).with_context(|| format!("reading {}", shown(&path(file))));
    let wrong = |file: &str| format!("{}: not understood", shown(&path(file)));
    let number = |file: &str| -> Result<i16> {
        let text = bytes(file)?;
        str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).with_context(|| wrong(file))
    };
    let stat = Stat::parse(&bytes("stat")?).with_context(|| wrong("stat"))?;
    // The kernel escapes the name in there, and the rest is numbers.
    let status = utf8_of(&bytes("status")?);
    // A thread of the kernel has no memory of its own, and no such lines.
    let amount = |name| amount(&status, name).unwrap_or(0);
    Ok(Process {
        pid,
        parent: stat.parent,
        uid: real_user(&status).with_context(|| wrong("status"))?,
        name: stat.name,
        cgroup: placed(root, pid)?,
        is_kernel: stat.flags & KERNEL_THREAD != 0,
        threads: stat.threads,
        cpus: allowed_cpus(&status),
        started: stat.started,
        oom_score_adj: number("oom_score_adj")?,
        oom_score: number("oom_score")?.try_into().with_context(|| wrong("oom_score"))?,
        resident: amount("VmRSS"),
        swapped: amount("VmSwap"),
        page_tables: amount("VmPTE"),
    })
}

/// The CPUs that a thread may use, from the text of its `status`.
pub(super) fn allowed_cpus(status: &str) -> Option<CpuSet> {
    CpuSet::parse(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
}

/// The real user of a process. `None` where it is gone.
#[must_use]
pub fn user_of(root: &Path, pid: u32) -> Option<u32> {
    let status = fs::read(root.join("proc").join(pid.to_string()).join("status")).ok()?;
    real_user(&utf8_of(&status))
}

/// What a process has had read from disks, in bytes: `read_bytes` of `proc_pid_io(5)`. `None` where it is gone.
#[must_use]
pub fn bytes_read(root: &Path, pid: u32) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc").join(pid.to_string()).join("io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("read_bytes: "))?.parse().ok()
}

/// The CPUs that the first thread of a process may use. `None` where it is gone. `process` is a number or `self`.
#[must_use]
pub fn cpus_of(root: &Path, process: &str) -> Option<CpuSet> {
    allowed_cpus(&utf8_of(&fs::read(root.join("proc").join(process).join("status")).ok()?))
}

/// Before Linux 6.8 the kernel says nothing of a path that is longer than a page. The process counts all the same,
/// and is somewhere below the root.
fn placed(root: &Path, pid: u32) -> Result<PathBuf> {
    const TOO_LONG: i32 = rustix::io::Errno::NAMETOOLONG.raw_os_error();
    match cgroup::of_process(root, &pid.to_string()) {
        Err(error) if of_io(&error).and_then(io::Error::raw_os_error) == Some(TOO_LONG) => Ok(PathBuf::new()),
        placed => placed,
    }
}

/// Whether a process could not be read because there is none any more: its directory is gone, or the read fails
/// with `ESRCH`.
fn has_ended(error: &anyhow::Error) -> bool {
    const NO_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();
    of_io(error).is_some_and(|error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_PROCESS)
    })
}

fn of_io(error: &anyhow::Error) -> Option<&io::Error> {
    error.downcast_ref()
}

/// The real user, from the text of `/proc/PID/status`: `proc_pid_status(5)`.
#[must_use]
pub fn real_user(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

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
        let Processes { all, unread } = read(directory.path()).unwrap();
        let [process] = all.as_slice() else { panic!("{all:?}, {unread:?}") };
        assert_eq!((process.pid, process.cgroup.as_path()), (77, Path::new("a.slice/b.service")));
        assert!(process.resident > 0 && process.threads > 0 && !process.is_kernel);
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(
            (process.name.as_str(), process.parent),
            (Some(name.trim_end()), std::os::unix::process::parent_id())
        );
        assert_eq!(process.uid, nix::unistd::getuid().as_raw());
        // One that has ended.
        fs::remove_file(own.join("stat")).unwrap();
        assert_eq!(read(directory.path()).unwrap(), Processes::default());
    }

    #[test]
    fn a_process_counts_whatever_it_and_its_cgroup_are_called() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("proc/77");
        fs::create_dir_all(&own).unwrap();
        for file in ["status", "oom_score", "oom_score_adj"] {
            fs::copy(Path::new("/proc/self").join(file), own.join(file)).unwrap();
        }
        let stat = fs::read("/proc/self/stat").unwrap();
        let rest = &stat[stat.iter().rposition(|byte| *byte == b')').unwrap()..];
        fs::write(own.join("stat"), [b"77 (a) (\xff\n\x1b[2J", rest].concat()).unwrap();
        fs::write(own.join("cgroup"), b"7:net_cls:/\n0::/a.slice/\xff\r\n").unwrap();
        let Processes { all, unread } = read(directory.path()).unwrap();
        let [process] = all.as_slice() else { panic!("{all:?}, {unread:?}") };
        assert_eq!(process.name, Foreign::new(*b"a) (\xff\n\x1b[2J"));
        assert_eq!(process.cgroup.as_os_str().as_bytes(), b"a.slice/\xff\r");
        // Since Linux 6.8 a path ends after 4095 bytes.
        let mut path = format!("a.slice/{}", "bcd/".repeat(2000));
        path.truncate(4094);
        fs::write(own.join("cgroup"), format!("0::/{path}\n")).unwrap();
        let Processes { all, .. } = read(directory.path()).unwrap();
        assert_eq!(all[0].cgroup, Path::new(&path).parent().unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        for (pid, file) in [(5, "stat"), (6, "status")] {
            let own = directory.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&own).unwrap();
            for file in ["stat", "status", "oom_score", "oom_score_adj"] {
                fs::copy(Path::new("/proc/self").join(file), own.join(file)).unwrap();
            }
            fs::write(own.join("cgroup"), "0::/\n").unwrap();
            // In the place of a process that may not be looked at.
            fs::remove_file(own.join(file)).unwrap();
            fs::create_dir(own.join(file)).unwrap();
        }
        let Processes { all, unread } = read(directory.path()).unwrap();
        assert_eq!(all, []);
        let said: Vec<String> =
            unread.iter().map(|one| format!("{}: {}", one.what.shown(), one.why)).collect();
        assert!(said[0].starts_with("5: reading /") && said[0].contains("proc/5/stat: "), "{said:?}");
        assert!(said[1].starts_with("6: reading /") && said[1].contains("proc/6/status: "), "{said:?}");
    }
}
