//! The OOM scores of running services.
//!
//! A service's processes have the score that their unit gave the first one, but for those that were given
//! another on purpose: a database's children, a container's payload. Those are left alone. The first one gets what is
//! declared whoever has given it another: that is not known any more once PID 1 has read its units anew, and a service
//! that sees to its own score has `set_by = "service"`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, openat};

use super::observed::Observed;
use super::{Change, How, Left, Plan};
use crate::host::process::Stat;
use crate::host::processes::{self, Process};
use crate::survey::{Means, RunningService};
use crate::text::shown;
use crate::units::{OOM_SCORE_ADJUST, OomScoreAdj};

const KEY: &str = "oom_score_adj";
/// How often a service is looked at again for children that were started meanwhile.
const ROUNDS: usize = 3;

/// The processes of one service that are given another score.
#[derive(Debug)]
pub(super) struct Rescore {
    unit: String,
    cgroup: PathBuf,
    /// What they have.
    from: i16,
    to: OomScoreAdj,
    /// The process that PID 1 started: it comes last, for as long as it has the old score, it can be told
    /// which of the others have that from their unit.
    main: u32,
    processes: Vec<Process>,
}

/// Adds the processes that are given another score, and those that are left.
pub(super) fn plan(look: &Observed<'_>, plan: &mut Plan<'_>) -> Result<()> {
    let mut all = None;
    for RunningService { name, cgroup, main, .. } in look.services() {
        let Some(declared) = look.policy.service(name).score_to_set() else { continue };
        if all.is_none() {
            all = Some(processes::read(look.root)?.all);
        }
        let of_service = |process: &&Process| process.cgroup.starts_with(cgroup);
        let processes: Vec<Process> = all.iter().flatten().filter(of_service).cloned().collect();
        let Some(main) = processes.iter().find(|process| Some(process.pid) == *main) else { continue };
        let score = main.oom_score_adj;
        let wanted = declared.get();
        let left = |why, differs| Left { unit: name.to_string(), key: KEY, why, differs };
        if score != wanted {
            let over = look.files(name.as_str())?.over(Means::DropIn, OOM_SCORE_ADJUST);
            if let Some(admins) = over.filter(|over| !over.sets(&declared.to_string())) {
                plan.left.push(left(format!("{score}, declared {declared}: {}", admins.said()), true));
                continue;
            }
        }
        for (other, count) in others(&processes, [score, wanted]) {
            let processes =
                if count == 1 { "1 process has".to_owned() } else { format!("{count} processes have") };
            plan.left.push(left(format!("{processes} {other}, set by the service or by hand"), false));
        }
        if score != wanted {
            let main = main.pid;
            let processes: Vec<Process> =
                processes.into_iter().filter(|process| process.oom_score_adj == score).collect();
            let how = How::Processes(processes.len());
            let change =
                Change { key: KEY, old: score.to_string(), new: declared.to_string(), set_by: None, how };
            plan.change(name.as_str(), None, change);
            let (unit, cgroup) = (name.to_string(), cgroup.to_owned());
            plan.scores.push(Rescore { unit, cgroup, from: score, to: declared, main, processes });
        }
    }
    Ok(())
}

/// How many processes have which scores beside these two.
fn others(processes: &[Process], known: [i16; 2]) -> BTreeMap<i16, usize> {
    let mut others = BTreeMap::new();
    for process in processes {
        if !known.contains(&process.oom_score_adj) {
            *others.entry(process.oom_score_adj).or_default() += 1;
        }
    }
    others
}

/// Sets the scores. Gives what could not be done, each in one line.
pub(super) fn set(root: &Path, rescores: &[Rescore]) -> Vec<String> {
    let mut failed = Vec::new();
    for rescore in rescores {
        let mut processes = rescore.processes.clone();
        for _ in 0..ROUNDS {
            processes.sort_by_key(|process| process.pid == rescore.main);
            for process in &processes {
                if let Err(error) = set_one(root, process, rescore) {
                    failed.push(format!(
                        "{}: {} (pid {}): {error:#}",
                        rescore.unit,
                        shown(&process.name),
                        process.pid
                    ));
                }
            }
            // What the main process has started until it had the new score.
            processes = processes::read(root).unwrap_or_default().all;
            processes.retain(|process| {
                process.cgroup.starts_with(&rescore.cgroup) && process.oom_score_adj == rescore.from
            });
            if processes.is_empty() || !failed.is_empty() {
                break;
            }
        }
    }
    failed
}

/// Sets the score of this process and no other: one that gets the number of one that has ended is not
/// found through the directory that was opened before.
fn set_one(root: &Path, process: &Process, rescore: &Rescore) -> Result<()> {
    let path = root.join("proc").join(process.pid.to_string());
    let Ok(directory) = File::open(&path) else { return Ok(()) };
    let read = |name: &str| -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let file = openat(&directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        File::from(file).read_to_end(&mut text).ok()?;
        Some(text)
    };
    let started = read("stat").and_then(|text| Some(Stat::parse(&text)?.started));
    let score = read(KEY).and_then(|text| str::from_utf8(&text).ok()?.trim().parse::<i16>().ok());
    if started != Some(process.started) || score != Some(rescore.from) {
        return Ok(());
    }
    let file = openat(&directory, KEY, OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC, Mode::empty());
    let written = file
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).write_all(rescore.to.to_string().as_bytes()));
    match written {
        // It has ended.
        Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ESRCH | nix::libc::ENOENT)) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            bail!("setting {KEY} to {}: {error}: that needs CAP_SYS_RESOURCE, or a restart", rescore.to)
        }
        written => written.with_context(|| format!("setting {KEY} to {}", rescore.to)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_the_process_that_was_seen_gets_the_score() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("proc/77");
        fs::create_dir_all(&own).unwrap();
        for file in ["status", "oom_score"] {
            fs::copy(Path::new("/proc/self").join(file), own.join(file)).unwrap();
        }
        fs::write(own.join("cgroup"), "0::/a.slice/b.service\n").unwrap();
        let set = |started: u64, score: &str| {
            let mut fields = vec!["1".to_owned(); 50];
            (fields[0], fields[19]) = ("S".to_owned(), "4".to_owned());
            // A name may hold any byte.
            let stat = [b"77 (a) \xff) ", fields.join(" ").as_bytes()].concat();
            fs::write(own.join("stat"), stat).unwrap();
            fs::write(own.join(KEY), score).unwrap();
            let mut process = processes::read(root.path()).unwrap().all.remove(0);
            assert_eq!(process.started, 4);
            process.started = started;
            let (unit, cgroup) = ("b.service".to_owned(), PathBuf::from("a.slice/b.service"));
            let to = OomScoreAdj::new(-400).unwrap();
            let rescore = Rescore { unit, cgroup, from: -500, to, main: 77, processes: Vec::new() };
            set_one(root.path(), &process, &rescore).unwrap();
            fs::read_to_string(own.join(KEY)).unwrap()
        };
        assert_eq!(set(4, "-500\n"), "-400");
        assert_eq!(set(3, "-500\n"), "-500\n", "another process has its number");
        assert_eq!(set(4, "300\n"), "300\n", "it has set another score meanwhile");
    }
}
