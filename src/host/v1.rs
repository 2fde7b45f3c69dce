//! What a machine has of cgroup v1, alone or beside cgroup2: `cgroups(7)`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::V1_CONTROLLERS;

/// The kernel's argument that asks systemd for cgroup v1.
const ARGUMENT: &str = "systemd.unified_cgroup_hierarchy=";

/// What a machine has of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1 {
    /// The controllers that a v1 hierarchy holds, so that cgroup2 has none of them.
    pub controllers: Vec<String>,
    /// Where the first of them is mounted.
    pub mounted: PathBuf,
    /// What of the kernel's command line asked for it.
    pub argument: Option<String>,
}

/// `None` where cgroup2 has every controller that matters, and where nothing can be told.
///
/// A v1 hierarchy without one of them, such as `net_cls` or systemd's own, takes nothing away.
#[must_use]
pub fn read(root: &Path) -> Option<V1> {
    let mounts = fs::read_to_string(root.join("proc/mounts")).ok()?;
    let command_line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
    found(&mounts, &command_line)
}

/// The same, from the texts of `/proc/mounts` and `/proc/cmdline`.
#[must_use]
pub fn found(mounts: &str, command_line: &str) -> Option<V1> {
    let (mut controllers, mut mounted) = (Vec::new(), None);
    for mount in mounts.lines() {
        // DEVICE WHERE TYPE OPTIONS DUMP PASS, proc_mounts(5).
        let mut fields = mount.split(' ').skip(1);
        let (Some(place), Some("cgroup"), Some(options)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let held = options.split(',').filter(|option| V1_CONTROLLERS.contains(option));
        let before = controllers.len();
        controllers.extend(held.map(str::to_owned));
        if controllers.len() > before {
            mounted.get_or_insert_with(|| PathBuf::from(place));
        }
    }
    let argument = command_line.split_whitespace().find(|argument| argument.starts_with(ARGUMENT));
    Some(V1 { controllers, mounted: mounted?, argument: argument.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_in_v1_is_one_that_cgroup2_lacks() {
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,memory_recursiveprot 0 0\n";
        assert_eq!(found(unified, ""), None);
        let harmless = "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n\
                        net /sys/fs/cgroup/net_cls cgroup rw,net_cls 0 0\n";
        assert_eq!(found(&format!("{unified}{harmless}"), ""), None);
        let hybrid = format!(
            "{harmless}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
        );
        let expected = V1 {
            controllers: ["cpu", "cpuacct", "memory"].map(str::to_owned).to_vec(),
            mounted: PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"),
            argument: Some("systemd.unified_cgroup_hierarchy=0".to_owned()),
        };
        assert_eq!(found(&hybrid, "quiet systemd.unified_cgroup_hierarchy=0 ro\n"), Some(expected));
    }
}
