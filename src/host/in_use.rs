//! Which users' directories are in use.
//!
//! This is a courtesy to a build that runs, and no bar to anybody who wants to hide: only what the first thread
//! of a process has open is looked at. A thread with a table of its own (`unshare(CLONE_FILES)`) is rare, and
//! to list the descriptors of every thread would cost as many times as much; nor are mappings read, since
//! `/proc/PID/maps` waits for a lock that the file system of a user's own may hold. What is removed under a
//! process loses its name, and nothing more.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc::ESRCH;

use super::mount::{self, Mount};
use crate::text::{Foreign, shown};

/// How many descriptors and mounts of one user's processes are looked at: two seconds' worth or so. Who has
/// more cannot keep everybody else waiting.
const MOST: usize = 1_000_000;

/// A process, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsingProcess {
    /// Its number.
    pub pid: u32,
    /// Its name, `comm` of `proc_pid_comm(5)`.
    pub name: Foreign,
}

impl fmt::Display for UsingProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name.shown().at_most(16), self.pid)
    }
}

/// A user's directory.
#[derive(Debug, Clone)]
pub struct Directory {
    /// An absolute path without links in it.
    pub path: PathBuf,
    /// Its owner: nobody else but root is expected to enter it.
    pub owner: u32,
}

/// What is known of the use of some directories.
#[derive(Debug, Default)]
pub struct InUse {
    /// The directories that are in use, each by this process for one.
    pub used: BTreeMap<PathBuf, UsingProcess>,
    /// The directories whose owner has a process of which it cannot be told.
    pub unknown: BTreeMap<PathBuf, UsingProcess>,
    /// The processes of which not everything could be looked at, and why.
    pub unread: Vec<(UsingProcess, io::Error)>,
}

/// Which of `directories` a process of its owner's or of root's uses: with its working or root directory, its
/// program or an open file there or below. This process does not count.
///
/// A process in another mount namespace, a container's, is found under the path that the directory has there.
///
/// What cannot be read of a process, such as a working directory whose path is longer than a page, may be any
/// place that its users can enter. So their own directories are in doubt, and nobody else's; root has none.
///
/// # Errors
/// `/proc` cannot be read.
pub fn in_use(root: &Path, directories: &[Directory]) -> Result<InUse> {
    look(root, directories, MOST)
}

/// Of each user's processes, `most` descriptors and mounts.
fn look(root: &Path, directories: &[Directory], most: usize) -> Result<InUse> {
    let proc = root.join("proc");
    let file = proc.join("self/mountinfo");
    let ours = fs::read(&file).with_context(|| format!("reading {}", shown(&file)))?;
    let own_namespace = fs::read_link(proc.join("self/ns/mnt")).context("reading /proc/self/ns/mnt")?;
    let own = directories.iter().map(|directory| (directory.path.clone(), directory)).collect();
    let mut search = Search {
        directories,
        mounts: mount::parse(&ours),
        seen_as: HashMap::from([(own_namespace, own)]),
        most,
        left: HashMap::new(),
        in_use: InUse::default(),
    };
    for entry in fs::read_dir(&proc).with_context(|| format!("reading {}", shown(&proc)))? {
        let entry = entry.with_context(|| format!("reading {}", shown(&proc)))?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(pid) = pid.filter(|pid| *pid != std::process::id()) {
            search.process(pid, &entry.path());
        }
    }
    Ok(search.in_use)
}

/// Under which path a mount namespace shows each directory, or a part of it.
type SeenAs<'a> = Vec<(PathBuf, &'a Directory)>;

struct Search<'a> {
    directories: &'a [Directory],
    mounts: Vec<Mount>,
    seen_as: HashMap<PathBuf, SeenAs<'a>>,
    most: usize,
    /// How much more is looked at of each user's.
    left: HashMap<u32, usize>,
    in_use: InUse,
}

impl Search<'_> {
    fn process(&mut self, pid: u32, process: &Path) {
        let named = || {
            let comm = fs::read(process.join("comm")).unwrap_or_default();
            UsingProcess { pid, name: Foreign::new(comm.strip_suffix(b"\n").unwrap_or(&comm)) }
        };
        let uids = match unless_gone(fs::read(process.join("status"))) {
            Ok(status) => status.as_deref().and_then(uids),
            Err(error) => return self.in_use.unread.push((named(), error)),
        };
        let Some(uids) = uids else { return };
        let owned: Vec<&Directory> =
            self.directories.iter().filter(|directory| uids.contains(&directory.owner)).collect();
        if owned.is_empty() && !uids.contains(&0) {
            return;
        }
        let (mut used, mut unread) = (Vec::new(), None);
        let [real, ..] = uids;
        if let Err(error) = self.links(real, process, &mut used, &mut unread) {
            unread = Some(error);
        }
        for directory in used {
            self.in_use.used.entry(directory).or_insert_with(named);
        }
        if let Some(error) = unread {
            for directory in owned {
                self.in_use.unknown.entry(directory.path.clone()).or_insert_with(named);
            }
            self.in_use.unread.push((named(), error));
        }
    }

    /// Follows all that a process has open. The first link that cannot be read is `unread`.
    fn links(
        &mut self,
        real: u32,
        process: &Path,
        used: &mut Vec<PathBuf>,
        unread: &mut Option<io::Error>,
    ) -> io::Result<()> {
        let Some(namespace) = unless_gone(fs::read_link(process.join("ns/mnt")))? else { return Ok(()) };
        let left = self.left.entry(real).or_insert(if real == 0 { usize::MAX } else { self.most });
        if !self.seen_as.contains_key(&namespace) {
            let Some(theirs) = unless_gone(fs::read(process.join("mountinfo")))? else { return Ok(()) };
            let theirs = mount::parse(&theirs);
            *left = left.checked_sub(theirs.len()).ok_or_else(too_much)?;
            self.seen_as.insert(namespace.clone(), aliases(self.directories, &self.mounts, &theirs));
        }
        let places = self.seen_as.get(&namespace).map(Vec::as_slice).unwrap_or_default();
        let mut follow = |link: &Path| match unless_gone(fs::read_link(link)) {
            Ok(Some(path)) => {
                let inside = places.iter().filter(|(place, _)| path.starts_with(place));
                used.extend(inside.map(|(_, directory)| directory.path.clone()));
            }
            // A descriptor may have been closed.
            Ok(None) => {}
            Err(error) => *unread = unread.take().or(Some(error)),
        };
        if places.is_empty() {
            return Ok(());
        }
        for link in ["cwd", "root", "exe"] {
            follow(&process.join(link));
        }
        let Some(descriptors) = unless_gone(fs::read_dir(process.join("fd")))? else { return Ok(()) };
        for descriptor in descriptors {
            let Some(descriptor) = unless_gone(descriptor)? else { return Ok(()) };
            *left = left.checked_sub(1).ok_or_else(too_much)?;
            follow(&descriptor.path());
        }
        Ok(())
    }
}

/// What was read, or nothing of what has ended meanwhile.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

fn too_much() -> io::Error {
    io::Error::other("its user's processes have too many files open, or mounts")
}

/// Real, effective, saved and file system user of `/proc/PID/status`, where no name can hold a newline.
fn uids(status: &[u8]) -> Option<[u32; 4]> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let uids = std::str::from_utf8(line).ok()?.split_whitespace().map(|uid| uid.parse().ok());
    uids.collect::<Option<Vec<u32>>>()?.try_into().ok()
}

/// Under which paths a process with the mounts `theirs` sees each directory, or a part of it.
fn aliases<'a>(directories: &'a [Directory], ours: &[Mount], theirs: &[Mount]) -> SeenAs<'a> {
    let mut aliases = Vec::new();
    for directory in directories {
        // The last mount at the longest mount point is the one in sight.
        let holds = |mount: &&Mount| directory.path.starts_with(&mount.point);
        let Some(mount) = ours.iter().filter(holds).max_by_key(|mount| mount.point.as_os_str().len()) else {
            continue;
        };
        let below = directory.path.strip_prefix(&mount.point).unwrap_or(&directory.path);
        let on_device = mount.root.join(below);
        for their in theirs.iter().filter(|their| their.device == mount.device) {
            if let Ok(below) = on_device.strip_prefix(&their.root) {
                aliases.push((their.point.join(below), directory));
            } else if their.root.starts_with(&on_device) {
                aliases.push((their.point.clone(), directory));
            }
        }
    }
    aliases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_sees_a_directory_under_another_path() {
        let ours = mount::parse(
            b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:2 / /srv rw - ext4 /dev/sda2 rw\n31 22 0:5 / /proc rw - proc proc rw\n",
        );
        let directories = [Directory { path: "/srv/target/al ice".into(), owner: 1000 }];
        let seen = |theirs: &str| -> Vec<PathBuf> {
            let theirs = mount::parse(theirs.as_bytes());
            aliases(&directories, &ours, &theirs).into_iter().map(|(alias, _)| alias).collect()
        };
        let path = |path: &str| vec![PathBuf::from(path)];
        assert_eq!(seen("1 0 8:2 / /srv rw\n"), path("/srv/target/al ice"));
        assert_eq!(seen("1 0 8:2 /target /mnt\\040x rw\n"), path("/mnt x/al ice"));
        assert_eq!(seen("1 0 8:2 /target/al\\040ice /work rw\n"), path("/work"));
        assert_eq!(seen("1 0 8:2 /target/al\\040ice/debug /work rw\n"), path("/work"));
        assert_eq!(seen("1 0 8:2 /target/bob /work rw\n2 0 8:1 / / rw\n"), Vec::<PathBuf>::new());
    }

    /// Whoever has so much open that to look at it all would take too long is in doubt, and nobody else.
    #[test]
    fn who_has_too_much_open_keeps_nobody_waiting() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join("proc").join(path);
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, path(from)).unwrap();
        fs::create_dir_all(path("self/ns")).unwrap();
        fs::write(path("self/mountinfo"), "").unwrap();
        link("mnt:[1]", "self/ns/mnt");
        for (pid, uid, open) in [("70000001", 1000, 3), ("70000002", 1000, 3), ("70000003", 1001, 5)] {
            fs::create_dir_all(path(pid).join("fd")).unwrap();
            fs::create_dir_all(path(pid).join("ns")).unwrap();
            link("mnt:[1]", &format!("{pid}/ns/mnt"));
            fs::write(path(pid).join("status"), format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n")).unwrap();
            fs::write(path(pid).join("comm"), "x\n").unwrap();
            for number in 0..open {
                link("/dev/null", &format!("{pid}/fd/{number}"));
            }
        }
        let directories = [1000, 1001].map(|owner| Directory { path: format!("/srv/{owner}").into(), owner });
        let unread = |most| {
            let in_use = look(root.path(), &directories, most).unwrap();
            assert!(in_use.used.is_empty());
            (in_use.unread.len(), in_use.unknown.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(unread(6), (0, vec![]));
        assert_eq!(unread(5), (1, vec!["/srv/1000".into()]));
        assert_eq!(unread(2).1.len(), 2);
    }

    #[test]
    fn a_process_has_four_users() {
        assert_eq!(uids(b"Name:\t\xff\\nUid: 7\nUid:\t1\t2\t3\t4\nGid:\t0\n"), Some([1, 2, 3, 4]));
        assert_eq!(uids(b"Name:\tx\nUid:\t1\t2\n"), None);
    }
}
