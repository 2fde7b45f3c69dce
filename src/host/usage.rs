//! Which processes have something open below a directory.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::libc::ESRCH;

use crate::text::shown;

/// A process, as messages name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, `comm` of `proc_pid_comm(5)`, on one line.
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// For each of `directories` that some process uses, those processes: with its working or root
/// directory, its program, an open file or a mapped file there or below. This process does not count.
///
/// The directories are absolute paths without links in them. A process in another mount namespace,
/// a container's, is found under the path that the directory has in there.
///
/// # Errors
/// `/proc` cannot be read, or not all of it, as by somebody else than root. What is in use cannot be
/// told then.
pub fn users_of(root: &Path, directories: &[PathBuf]) -> Result<BTreeMap<PathBuf, Vec<Process>>> {
    let proc = root.join("proc");
    let mounts = mounts(&proc.join("self/mountinfo"))?;
    let own_namespace = fs::read_link(proc.join("self/ns/mnt")).context("reading /proc/self/ns/mnt")?;
    // Under which path each directory is seen, by mount namespace.
    let own: Vec<_> = directories.iter().map(|directory| (directory.clone(), directory)).collect();
    let mut seen_as = HashMap::from([(own_namespace, own)]);

    let mut users: BTreeMap<PathBuf, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir(&proc).with_context(|| format!("reading {}", shown(&proc)))? {
        let entry = entry.with_context(|| format!("reading {}", shown(&proc)))?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() {
            continue;
        }
        let process = entry.path();
        let looked = (|| -> io::Result<Vec<&PathBuf>> {
            let namespace = fs::read_link(process.join("ns/mnt"))?;
            if !seen_as.contains_key(&namespace) {
                let theirs = fs::read(process.join("mountinfo"))?;
                let aliases = aliases(directories, &mounts, &parse_mounts(&theirs));
                seen_as.insert(namespace.clone(), aliases);
            }
            let places = seen_as.get(&namespace).map(Vec::as_slice).unwrap_or_default();
            if places.is_empty() {
                return Ok(Vec::new());
            }
            used_by(&process, places)
        })();
        match looked {
            Ok(used) => {
                for directory in used {
                    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
                    let found = Process { pid, name: shown(name.trim_end()).at_most(16).to_string() };
                    users.entry(directory.clone()).or_default().push(found);
                }
            }
            // It has ended meanwhile, or is a thread of the kernel's.
            Err(error) if gone(&error) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("looking at what {} uses", shown(&process)));
            }
        }
    }
    Ok(users)
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}

/// Which of `places`, a path and the directory that it stands for, a process uses.
fn used_by<'a>(process: &Path, places: &[(PathBuf, &'a PathBuf)]) -> io::Result<Vec<&'a PathBuf>> {
    let mut used = Vec::new();
    let mut look = |path: &Path| {
        for (place, directory) in places {
            if path.starts_with(place) && !used.contains(directory) {
                used.push(*directory);
            }
        }
    };
    for link in ["cwd", "root", "exe"] {
        look_at_link(&process.join(link), &mut look)?;
    }
    for descriptor in fs::read_dir(process.join("fd"))? {
        look_at_link(&descriptor?.path(), &mut look)?;
    }
    // address perms offset dev inode path: nothing before the path has a slash in it.
    for line in fs::read(process.join("maps"))?.split(|byte| *byte == b'\n') {
        if let Some(at) = line.iter().position(|byte| *byte == b'/') {
            look(Path::new(OsStr::from_bytes(line.get(at..).unwrap_or_default())));
        }
    }
    Ok(used)
}

/// A descriptor may be closed, and a kernel thread has no program.
fn look_at_link(link: &Path, look: &mut impl FnMut(&Path)) -> io::Result<()> {
    match fs::read_link(link) {
        Ok(path) => look(&path),
        Err(error) if gone(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// One mount, `proc_pid_mountinfo(5)`.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// The file system's device, `major:minor`.
    device: OsString,
    /// Which directory of the file system is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

/// Every place at which something is mounted in this process's namespace.
///
/// # Errors
/// `/proc` cannot be read.
pub fn mount_points(root: &Path) -> Result<Vec<PathBuf>> {
    let mounts = mounts(&root.join("proc/self/mountinfo"))?;
    Ok(mounts.into_iter().map(|mount| mount.point).collect())
}

fn mounts(file: &Path) -> Result<Vec<Mount>> {
    let text = fs::read(file).with_context(|| format!("reading {}", shown(&file)))?;
    Ok(parse_mounts(&text))
}

/// From the text of `/proc/PID/mountinfo`.
#[must_use]
pub fn parse_mounts(text: &[u8]) -> Vec<Mount> {
    let lines = text.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ').skip(2);
            let device = OsStr::from_bytes(fields.next()?).to_owned();
            Some(Mount { device, root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
        })
        .collect()
}

/// `\040` is a space: three octal digits for what would end a field.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\');
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Under which paths a process with the mounts `theirs` sees each directory, or a part of it.
fn aliases<'a>(directories: &'a [PathBuf], ours: &[Mount], theirs: &[Mount]) -> Vec<(PathBuf, &'a PathBuf)> {
    let mut aliases = Vec::new();
    for directory in directories {
        // The last mount at the longest mount point is the one in sight.
        let holds = |mount: &&Mount| directory.starts_with(&mount.point);
        let Some(mount) = ours.iter().filter(holds).max_by_key(|mount| mount.point.as_os_str().len()) else {
            continue;
        };
        let on_device = mount.root.join(directory.strip_prefix(&mount.point).unwrap_or(directory));
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
        let ours = parse_mounts(
            b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 8:2 / /srv rw - ext4 /dev/sda2 rw\n31 22 0:5 / /proc rw - proc proc rw\n",
        );
        let directories = [PathBuf::from("/srv/target/al ice")];
        let seen = |theirs: &str| -> Vec<PathBuf> {
            let theirs = parse_mounts(theirs.as_bytes());
            aliases(&directories, &ours, &theirs).into_iter().map(|(alias, _)| alias).collect()
        };
        let path = |path: &str| vec![PathBuf::from(path)];
        assert_eq!(seen("1 0 8:2 / /srv rw\n"), path("/srv/target/al ice"));
        assert_eq!(seen("1 0 8:2 /target /mnt\\040x rw\n"), path("/mnt x/al ice"));
        assert_eq!(seen("1 0 8:2 /target/al\\040ice /work rw\n"), path("/work"));
        assert_eq!(seen("1 0 8:2 /target/al\\040ice/debug /work rw\n"), path("/work"));
        assert_eq!(seen("1 0 8:2 /target/bob /work rw\n2 0 8:1 / / rw\n"), Vec::<PathBuf>::new());
    }
}
