//! The cgroup tree: where a process is, and what a cgroup's attributes say.
//!
//! Formats are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::policy::{CPU_WEIGHT, ServiceName, SliceName};
use crate::text::shown;

/// The controllers that weights, limits and slices work by, as cgroup v1 names them.
pub const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "cpuacct", "memory", "blkio", "pids"];

/// The cgroup of a process on the unified hierarchy, relative to its root: `user.slice/…`.
///
/// `process` is a number or `self`.
///
/// # Errors
/// The process is gone, `/proc` cannot be read, or it is that of [`on_cgroup2`].
pub fn of_process(root: &Path, process: &str) -> Result<PathBuf> {
    let file = root.join("proc").join(process).join("cgroup");
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
    on_cgroup2(&text).with_context(|| shown(&file).to_string())
}

/// The same, from the text of `/proc/PID/cgroup`, `cgroups(7)`.
///
/// # Errors
/// It is that of a machine where cgroup v1 holds one of [`V1_CONTROLLERS`], or without cgroup2. Another
/// hierarchy beside cgroup2, such as that of `net_cls` or one that has but a name, takes nothing away.
pub fn on_cgroup2(text: &str) -> Result<PathBuf> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        match (fields.next(), fields.next(), fields.next()) {
            (Some("0"), Some(""), path) => unified = path,
            (_, Some(controllers), _)
                if controllers.split(',').any(|name| V1_CONTROLLERS.contains(&name)) =>
            {
                bail!(
                    "this machine runs cgroup v1 (controller {controllers}): weights and slices need cgroup2 alone"
                )
            }
            _ => {}
        }
    }
    let path = unified.context("no line of cgroup2: this machine runs cgroup v1")?;
    Ok(PathBuf::from(path.trim_start_matches('/')))
}

/// Whether this is no place that can be told: the root of a cgroup namespace, or outside of it.
#[must_use]
pub fn is_hidden(cgroup: &Path) -> bool {
    cgroup.as_os_str().is_empty() || cgroup.starts_with("..")
}

/// The unit that a cgroup belongs to: the first component that is no slice, as systemd's
/// `cg_path_get_unit` has it.
#[must_use]
pub fn unit(cgroup: &Path) -> Option<&str> {
    cgroup.iter().filter_map(|component| component.to_str()).find(|name| !name.ends_with(".slice"))
}

/// The service that a cgroup belongs to.
#[must_use]
pub fn service(cgroup: &Path) -> Option<ServiceName> {
    unit(cgroup).filter(|name| name.ends_with(".service")).and_then(|name| ServiceName::new(name).ok())
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
    name.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

/// The users with processes in their slices: those logged in, and those lingering.
///
/// # Errors
/// `user.slice` cannot be read. Where it does not exist, nobody is logged in.
pub fn users(root: &Path) -> Result<Vec<u32>> {
    let names = children_of(root, &SliceName::user().cgroup())?;
    let mut users: Vec<u32> = names.iter().filter_map(|name| user_of_slice(name)).collect();
    users.retain(|uid| is_populated(root, &SliceName::of_user(*uid).cgroup()));
    users.sort_unstable();
    Ok(users)
}

/// Whether there is a process in a cgroup or below it.
pub(super) fn is_populated(root: &Path, cgroup: &Path) -> bool {
    let events = attribute(root, cgroup, "cgroup.events");
    events.is_none_or(|events| !events.lines().any(|line| line == "populated 0"))
}

/// The cgroups in `cgroup` with their CPU weights, 0 for an idle one; without the controller, they
/// compete as processes do, and have none.
#[must_use]
pub fn weights_in(root: &Path, cgroup: &Path) -> Vec<(String, u64)> {
    let names = children_of(root, cgroup).unwrap_or_default();
    let weight = |name: &str| attribute(root, &cgroup.join(name), CPU_WEIGHT.attribute)?.parse().ok();
    names
        .into_iter()
        .filter_map(|name| Some((weight(&name)?, name)))
        .map(|(weight, name)| (name, weight))
        .collect()
}

/// The names of the cgroups in `cgroup`; none where it does not exist.
///
/// # Errors
/// cgroupfs cannot be read.
pub fn children_of(root: &Path, cgroup: &Path) -> Result<Vec<String>> {
    let path = root.join(paths::CGROUPFS).join(cgroup);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("reading {}", shown(&path)))?,
    };
    // A cgroup that goes away meanwhile is no error.
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// What an attribute says; `None` where the controller is not enabled or the cgroup is gone.
///
/// The weight of an idle cgroup is 0, as the kernel has it up to Linux 6.11; after that it reads 1.
#[must_use]
pub fn attribute(root: &Path, cgroup: &Path, name: &str) -> Option<String> {
    let read = |name| fs::read_to_string(root.join(paths::CGROUPFS).join(cgroup).join(name)).ok();
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

/// The same as a number, `max` being [`u64::MAX`].
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    match value(text) {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
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
    let mut found = Vec::new();
    let mut cgroups = vec![cgroup.to_owned()];
    while let Some(cgroup) = cgroups.pop() {
        let procs = attribute(root, &cgroup, "cgroup.procs").unwrap_or_default();
        // 0 is a process of another PID namespace.
        found.extend(procs.lines().filter_map(|line| line.parse().ok()).filter(|pid: &u32| *pid != 0));
        let below = children_of(root, &cgroup).unwrap_or_default();
        cgroups.extend(below.iter().map(|name| cgroup.join(name)));
    }
    found
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
    fn a_cgroup_names_its_unit_and_user() {
        let nested = Path::new("foundry.slice/foundry-services.slice/local-fs.service/payload");
        assert_eq!(unit(nested), Some("local-fs.service"));
        assert_eq!(service(nested), ServiceName::new("local-fs").ok());
        let session = Path::new("user.slice/user-1000.slice/session-3.scope");
        assert_eq!((service(session), user(session)), (None, Some(1000)));
        assert_eq!(user(Path::new("system.slice/user-1000.slice")), None);
        assert_eq!(user(Path::new("user.slice/user-x.slice")), None);
        assert!(is_in_a_users_slice(session) && is_in_a_users_slice(&Path::new("../docker/7").join(session)));
        for elsewhere in ["", "user.slice", "user.slice/user-x.slice", "user-1000.slice/a.scope"] {
            assert!(!is_in_a_users_slice(Path::new(elsewhere)), "{elsewhere}");
        }
        // A service of a user's own manager is that manager's business.
        let own = Path::new("user.slice/user-1000.slice/user@1000.service/app.slice/a.service");
        assert_eq!(unit(own), Some("user@1000.service"));
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
