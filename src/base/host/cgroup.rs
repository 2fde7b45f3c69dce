//! The cgroup tree: where a process is, and what a cgroup's attributes say.
//!
//! Formats are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cgroup_directory::{
    DEEPEST, LONGEST_PATH, MOST, cgroups_in, is_gone, open_cgroup, open_in, read_in,
};
pub use super::standing::{Standing, absolute, own_unit, place, service, unit};
use crate::bounded::read_attribute;
use crate::paths;
use crate::text::shown;
use crate::units::span::SECOND;
use crate::units::{CPU_QUOTA, CPU_WEIGHT, Property, SettingValue, SliceName};

/// The controllers that weights, limits and slices work by, as cgroup v1 names them.
pub const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "cpuacct", "memory", "blkio", "pids"];

/// The cgroup of a process on the unified hierarchy, relative to its root: `user.slice/…`; of one whose path is
/// longer than a page, an ancestor.
///
/// `process` is a number or `self`.
///
/// # Errors
/// The process is gone, `/proc` cannot be read, or it is that of [`on_cgroup2`].
pub fn of_process(root: &Path, process: &str) -> Result<PathBuf> {
    let file = root.join("proc").join(process).join("cgroup");
    let text = read_attribute(&file).with_context(|| format!("reading {}", shown(&file)))?;
    on_cgroup2(&text).with_context(|| shown(&file).to_string())
}

/// The same, from the text of `/proc/PID/cgroup`, `cgroups(7)`. The kernel escapes nothing in it.
///
/// # Errors
/// It is that of a machine where cgroup v1 holds one of [`V1_CONTROLLERS`], or without cgroup2. Another
/// hierarchy beside cgroup2, such as that of `net_cls` or one that has but a name, takes nothing away.
pub fn on_cgroup2(text: &[u8]) -> Result<PathBuf> {
    let mut unified = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(b"0"), Some(b""), path) => unified = path,
            (_, Some(controllers), _) => {
                let held =
                    |name: &&str| controllers.split(|byte| *byte == b',').any(|own| own == name.as_bytes());
                if V1_CONTROLLERS.iter().any(held) {
                    bail!(
                        "this machine runs cgroup v1 (controller {}): weights and slices need cgroup2 alone",
                        shown(OsStr::from_bytes(controllers))
                    )
                }
            }
            _ => {}
        }
    }
    let path = unified.context("no line of cgroup2: this machine runs cgroup v1")?;
    let path = Path::new(OsStr::from_bytes(whole(path)));
    Ok(path.strip_prefix("/").unwrap_or(path).to_owned())
}

/// Since Linux 6.8 the kernel leaves out what is more than [`LONGEST_PATH`] without a word: what is whole up to
/// there is the path of an ancestor.
fn whole(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(last) if path.len() >= LONGEST_PATH => path.get(..last).unwrap_or_default(),
        _ => path,
    }
}

/// Whether this is no place that can be told: the root of a cgroup namespace, or outside of it.
#[must_use]
pub fn is_hidden(cgroup: &Path) -> bool {
    cgroup.as_os_str().is_empty() || cgroup.starts_with("..")
}

/// The user whose slice (`user.slice/user-UID.slice`) a cgroup is in.
#[must_use]
pub fn user(cgroup: &Path) -> Option<u32> {
    let mut components = cgroup.iter().filter_map(|component| component.to_str());
    if components.next()? != SliceName::user().as_str() {
        return None;
    }
    user_of_slice(components.next()?)
}

/// Whether a cgroup is in the slice of some user, seen from inside or outside of a cgroup namespace.
#[must_use]
pub fn is_in_a_users_slice(cgroup: &Path) -> bool {
    let names = || cgroup.iter().filter_map(|component| component.to_str());
    let below = |(above, name)| above == SliceName::user().as_str() && user_of_slice(name).is_some();
    names().zip(names().skip(1)).any(below)
}

fn user_of_slice(name: &str) -> Option<u32> {
    // As systemd writes it: "+1000" and "01000" are numbers too.
    let uid = name.strip_prefix("user-")?.strip_suffix(".slice")?;
    uid.parse().ok().filter(|number: &u32| number.to_string() == uid)
}

/// The users with processes in their slices: those logged in, and those lingering.
///
/// # Errors
/// `user.slice` cannot be read. Where it does not exist, nobody is logged in.
pub fn users(root: &Path) -> Result<Vec<u32>> {
    let names = children_of(root, &SliceName::user().cgroup())?;
    let mut users: Vec<u32> = names.iter().filter_map(|name| user_of_slice(name.to_str()?)).collect();
    users.retain(|uid| is_populated(root, &SliceName::of_user(*uid).cgroup()));
    users.sort_unstable();
    Ok(users)
}

/// Whether there is a process in a cgroup or below it.
#[must_use]
pub fn is_populated(root: &Path, cgroup: &Path) -> bool {
    let events = attribute(root, cgroup, "cgroup.events");
    events.is_none_or(|events| !events.lines().any(|line| line == "populated 0"))
}

/// The cgroups in `cgroup` with their CPU weights, 0 for an idle one; without the controller, they
/// compete as processes do, and have none.
#[must_use]
pub fn weights_in(root: &Path, cgroup: &Path) -> Vec<(OsString, u64)> {
    let names = children_of(root, cgroup).unwrap_or_default();
    let weight = |name: &OsStr| attribute(root, &cgroup.join(name), CPU_WEIGHT.attribute)?.parse().ok();
    names
        .into_iter()
        .filter_map(|name| Some((weight(&name)?, name)))
        .map(|(weight, name)| (name, weight))
        .collect()
}

/// The names of the cgroups in `cgroup`, sorted; none where it does not exist.
///
/// # Errors
/// cgroupfs cannot be read.
pub fn children_of(root: &Path, cgroup: &Path) -> Result<Vec<OsString>> {
    let names = open_cgroup(root, cgroup).and_then(|directory| Ok(cgroups_in(&directory, OsStr::new("."))?));
    match names {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => {
            names.with_context(|| format!("reading {}", shown(&root.join(paths::CGROUPFS).join(cgroup))))
        }
    }
}

/// What an attribute says; `None` where the controller is not enabled or the cgroup is gone.
///
/// The weight of an idle cgroup is 0, as the kernel has it up to Linux 6.11; after that it reads 1.
#[must_use]
pub fn attribute(root: &Path, cgroup: &Path, name: &str) -> Option<String> {
    let read = |name: &str| {
        let file = root.join(paths::CGROUPFS).join(cgroup).join(name);
        if file.as_os_str().len() <= LONGEST_PATH {
            String::from_utf8(read_attribute(&file).ok()?).ok()
        } else {
            read_in(open_cgroup(root, cgroup).ok()?, name).ok()
        }
    };
    let text = read(name)?;
    let is_idle = || name == CPU_WEIGHT.attribute && read("cpu.idle").is_some_and(|idle| idle.trim() == "1");
    match text.trim_end() {
        "1" if is_idle() => Some("0".to_owned()),
        text => Some(text.to_owned()),
    }
}

/// The value that an attribute's text says. `io.weight` has a line for each device, the default first.
#[must_use]
pub fn value(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("default ").unwrap_or(first)
}

/// The same as a number, `max` being [`u64::MAX`]. Of `cpu.max`, which has the time for a period and that period, it is
/// the µs for each second, as PID 1 has them.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let (number, period) = match value(text).split_once(' ') {
        Some((quota, period)) => (quota, Some(period)),
        None => (value(text), None),
    };
    let number = if number == "max" { u64::MAX } else { number.parse().ok()? };
    match period {
        Some(period) if number != u64::MAX => number.checked_mul(SECOND)?.checked_div(period.parse().ok()?),
        _ => Some(number),
    }
}

/// What an attribute's text says, for people: a quota in percent of one CPU, anything else as it is.
#[must_use]
pub fn said(property: Property, text: &str) -> String {
    match number(text).filter(|_| property == CPU_QUOTA) {
        Some(number) => known(property, number),
        None => value(text).to_owned(),
    }
}

/// A number that PID 1 has of a property, likewise.
#[must_use]
pub fn known(property: Property, number: u64) -> String {
    match property.value(number) {
        Some(quota @ SettingValue::Quota(_)) if number != u64::MAX => quota.to_string(),
        _ => text(number),
    }
}

/// A number as an attribute says it.
#[must_use]
pub fn text(number: u64) -> String {
    if number == u64::MAX { "max".to_owned() } else { number.to_string() }
}

/// The processes in a cgroup and the cgroups below it.
#[must_use]
pub fn processes(root: &Path, cgroup: &Path) -> Vec<u32> {
    let mut walk = Walk { left: MOST, found: Vec::new() };
    let is_whole = match open_cgroup(root, cgroup) {
        Ok(directory) => walk.collect(&directory, DEEPEST),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_whole { walk.found } else { in_cgroup(root, cgroup) }
}

struct Walk {
    /// So many cgroups more.
    left: usize,
    found: Vec<u32>,
}

impl Walk {
    /// Adds the processes in this cgroup and in those so many levels below; whether that is all of them.
    fn collect(&mut self, directory: &OwnedFd, levels: usize) -> bool {
        let procs = match read_in(directory, "cgroup.procs") {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return false,
            procs => procs.unwrap_or_default(),
        };
        // 0 is a process of another PID namespace.
        self.found.extend(procs.lines().filter_map(|line| line.parse().ok()).filter(|pid: &u32| *pid != 0));
        let below = match cgroups_in(directory, OsStr::new(".")) {
            Err(error) if !is_gone(error) => return false,
            below => below.unwrap_or_default(),
        };
        if below.len() > self.left || levels == 0 && !below.is_empty() {
            return false;
        }
        self.left -= below.len();
        below.iter().all(|name| match open_in(directory, name) {
            Ok(below) => self.collect(&below, levels - 1),
            Err(error) => is_gone(error),
        })
    }
}

/// The same, from where every process says that it is.
fn in_cgroup(root: &Path, cgroup: &Path) -> Vec<u32> {
    let entries = fs::read_dir(root.join("proc")).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_inside = |pid: &u32| of_process(root, &pid.to_string()).is_ok_and(|own| own.starts_with(cgroup));
    pids.filter(is_inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_cgroup_weighs_nothing() {
        let root = tempfile::tempdir().unwrap();
        let slice = root.path().join("sys/fs/cgroup/a.slice");
        fs::create_dir_all(&slice).unwrap();
        let weight = || attribute(root.path(), Path::new("a.slice"), "cpu.weight").unwrap();
        fs::write(slice.join("cpu.weight"), "1\n").unwrap();
        assert_eq!(weight(), "1");
        fs::write(slice.join("cpu.idle"), "0\n").unwrap();
        assert_eq!(weight(), "1");
        fs::write(slice.join("cpu.idle"), "1\n").unwrap();
        assert_eq!(weight(), "0");
    }

    #[test]
    fn an_attribute_says_one_value() {
        for (text, number) in [("200", Some(200)), ("max", Some(u64::MAX)), ("default 50\n8:0 100", Some(50))]
        {
            assert_eq!(super::number(text), number, "{text}");
        }
        for wrong in ["", "default", "garbage", "-1"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!((text(u64::MAX).as_str(), text(4096).as_str()), ("max", "4096"));
    }

    #[test]
    fn a_cgroup_names_its_user() {
        let session = Path::new("user.slice/user-1000.slice/session-3.scope");
        assert_eq!(user(session), Some(1000));
        assert_eq!(user(Path::new("system.slice/user-1000.slice")), None);
        for other in ["user-x.slice", "user-01000.slice", "user-+1000.slice", "user-.slice"] {
            assert_eq!(user(&Path::new("user.slice").join(other)), None);
        }
        assert!(is_in_a_users_slice(session) && is_in_a_users_slice(&Path::new("../docker/7").join(session)));
        for elsewhere in ["", "user.slice", "user.slice/user-x.slice", "user-1000.slice/a.scope"] {
            assert!(!is_in_a_users_slice(Path::new(elsewhere)), "{elsewhere}");
        }
    }

    #[test]
    fn cgroup_v1_is_said_plainly() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc/self");
        fs::create_dir_all(&proc).unwrap();
        let read = |text: &str| {
            fs::write(proc.join("cgroup"), text).unwrap();
            of_process(root.path(), "self")
        };
        assert_eq!(read("0::/a.slice/b.service\n").unwrap(), Path::new("a.slice/b.service"));
        for beside in ["1:name=systemd:/x\n", "7:net_cls,net_prio:/\n", "3:freezer:/\n2:hugetlb:/\n"] {
            assert_eq!(read(&format!("{beside}0::/y\n")).unwrap(), Path::new("y"), "{beside}");
        }
        for v1 in [
            "4:memory:/\n1:name=systemd:/\n0::/\n",
            "2:cpu,cpuacct:/\n0::/\n",
            "1:name=systemd:/\n",
            "7:net_cls:/\n",
            "",
        ] {
            assert!(format!("{:#}", read(v1).unwrap_err()).contains("cgroup v1"), "{v1}");
        }
    }
}
