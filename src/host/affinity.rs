//! Which CPUs threads may use, `sched_setaffinity(2)`, where that is less than their cgroup may.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::cgroup;
use super::cpu_set::CpuSet;
use super::parallel;
use super::processes::{Process, allowed_cpus};
use super::tree::Tree;
use crate::bounded::read_attribute;
use crate::text::utf8_of;

impl Tree {
    /// Adds the threads that are bound to some of their cgroup's CPUs. Those in the root are the kernel's.
    pub fn read_affinity(&mut self, root: &Path) {
        let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
        let pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        self.bind(root, &pids, |pid| Some((*pid, Status::read(root, &pid.to_string())?)));
    }

    /// The same, of processes that have been read.
    pub fn read_affinity_of(&mut self, root: &Path, processes: &[Process]) {
        let status = |Process { pid, cpus, threads, .. }: &Process| {
            Some((*pid, Status { cpus: cpus.clone()?, threads: (*threads).into() }))
        };
        self.bind(root, processes, status);
    }

    fn bind<T: Sync>(&mut self, root: &Path, all: &[T], first: impl Fn(&T) -> Option<(u32, Status)> + Sync) {
        self.hides_processes = hides_processes(root);
        let Some(online) = self.online.clone() else { return };
        let bound = parallel::map(all, |part| {
            let each = part.iter().filter_map(&first);
            each.map(|(pid, first)| bound_of(root, pid, first, &online)).collect()
        });
        for Bound { cgroup, cpus, threads } in bound.into_iter().flatten() {
            let Some(id) = self.find(&cgroup).filter(|id| *id != Self::ROOT) else { continue };
            let effective = self.upwards(id).find_map(|id| self[id].cpus.as_ref());
            if !effective.is_some_and(|effective| effective.is_within(&cpus)) {
                self.bind_threads(id, cpus, threads);
            }
        }
    }
}

/// Whether who looks sees no more than their own processes: `hidepid=` of `proc(5)`, with which others have files
/// that cannot be read, or none, or a security module. Everybody else sees PID 1.
fn hides_processes(root: &Path) -> bool {
    let is_hidepid = || {
        let mounts = fs::read(root.join("proc/mounts")).unwrap_or_default();
        utf8_of(&mounts).lines().any(|line| line.contains(" /proc proc ") && line.contains("hidepid="))
    };
    match fs::read(root.join("proc/1/status")) {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => is_hidepid(),
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }
}

/// Threads of a process that may not use all CPUs.
struct Bound {
    cgroup: PathBuf,
    cpus: CpuSet,
    threads: u64,
}

fn bound_of(root: &Path, pid: u32, first: Status, online: &CpuSet) -> Vec<Bound> {
    let tasks = if first.threads > 1 { tasks(root, pid) } else { Vec::new() };
    let all = if tasks.is_empty() {
        vec![(pid.to_string(), first)]
    } else {
        let each = tasks.into_iter().filter_map(|task| Some((Status::read(root, &task)?, task)));
        each.map(|(status, task)| (task, Status { threads: 1, ..status })).collect()
    };
    let few = all.into_iter().filter(|(_, status)| !online.is_within(&status.cpus));
    few.filter_map(|(process, Status { cpus, threads })| {
        Some(Bound { cgroup: cgroup::of_process(root, &process).ok()?, cpus, threads })
    })
    .collect()
}

/// The threads of a process: `12/task/13`.
fn tasks(root: &Path, pid: u32) -> Vec<String> {
    let entries =
        fs::read_dir(root.join("proc").join(pid.to_string()).join("task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(format!("{pid}/task/{}", entry.file_name().to_str()?))).collect()
}

/// What `status` says of a process, or of one of its threads.
struct Status {
    /// `Cpus_allowed_list`
    cpus: CpuSet,
    /// `Threads`: of the whole process.
    threads: u64,
}

impl Status {
    fn read(root: &Path, process: &str) -> Option<Self> {
        let text = utf8_of(&read_attribute(&root.join("proc").join(process).join("status")).ok()?);
        let threads = text.lines().find_map(|line| line.strip_prefix("Threads:")?.trim().parse().ok());
        Some(Self { cpus: allowed_cpus(&text)?, threads: threads.unwrap_or(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn threads_that_are_bound_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let (cgroup, system) = ("sys/fs/cgroup", "sys/fs/cgroup/system.slice");
        write(root, "proc/self/cgroup", "0::/\n");
        write(root, "sys/devices/system/cpu/online", "0-3\n");
        write(root, &format!("{cgroup}/cgroup.controllers"), "cpuset cpu pids\n");
        write(root, &format!("{cgroup}/cgroup.subtree_control"), "cpuset cpu pids\n");
        write(root, &format!("{system}/cgroup.subtree_control"), "cpu pids\n");
        write(root, &format!("{system}/cpuset.cpus.effective"), "0-1\n");
        write(root, &format!("{system}/a.service/pids.current"), "4\n");
        write(root, &format!("{system}/b.service/pids.current"), "1\n");
        let process = |process: &str, cgroup: &str, cpus: &str, threads: u32| {
            write(root, &format!("proc/{process}/cgroup"), &format!("0::/{cgroup}\n"));
            let text =
                format!("Name:\tx\nThreads:\t{threads}\nCpus_allowed:\tf\nCpus_allowed_list:\t{cpus}\n");
            write(root, &format!("proc/{process}/status"), &text);
        };
        process("2", "", "3", 1);
        // No narrower than the slice.
        process("10", "system.slice/b.service", "0-1", 1);
        process("11", "system.slice/a.service", "0-1", 3);
        process("11/task/11", "system.slice/a.service", "0-1", 3);
        process("11/task/12", "system.slice/a.service", "1", 3);
        process("11/task/13", "system.slice/a.service", "1", 3);
        process("14", "system.slice/a.service", "0", 1);
        let mut tree = Tree::read(root).unwrap();
        tree.read_affinity(root);
        let set = |list| CpuSet::parse(list).unwrap();
        let id = |path| tree.find(Path::new(path)).unwrap();
        let mut bound = tree.bound_threads(id("system.slice/a.service")).to_vec();
        bound.sort();
        assert_eq!(bound, [(set("0"), 1), (set("1"), 2)]);
        assert_eq!(tree.bound_threads(id("system.slice/b.service")), []);
        assert_eq!(tree.bound_threads(Tree::ROOT), []);
        // One thread of a.service is bound by nothing of its own.
        assert_eq!(tree.affinity_below(id("system.slice/a.service")), None);
    }

    #[test]
    fn processes_are_hidden_where_pid_1_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert!(!hides_processes(root));
        write(root, "proc/mounts", "proc /proc proc rw,nosuid,relatime,gid=4,hidepid=invisible 0 0\n");
        assert!(hides_processes(root));
        // Root sees it, and so do those of group 4.
        write(root, "proc/1/status", "Name:\tsystemd\n");
        assert!(!hides_processes(root));
    }
}
