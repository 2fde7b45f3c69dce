//! The names of cgroups: where a unit's would look like one of the kernel's attributes, PID 1 puts a `_` before it.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// The controllers of systemd 257's `src/basic/cgroup-util.c`. Which of them a kernel has does not matter.
pub(super) const CONTROLLERS: [&str; 13] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "io",
    "blkio",
    "memory",
    "devices",
    "pids",
    "bpf-firewall",
    "bpf-devices",
    "bpf-foreign",
    "bpf-socket-bind",
    "bpf-restrict-network-interfaces",
];
/// Attributes without a prefix, of cgroup v1.
const OTHERS: [&str; 3] = ["notify_on_release", "release_agent", "tasks"];

/// The name of a unit's cgroup: `cg_escape` of systemd's `src/basic/cgroup-util.c`. `io.slice` lives in
/// `_io.slice`.
#[must_use]
pub fn cgroup_name(unit: &str) -> Cow<'_, str> {
    // The core's own attributes begin with "cgroup.".
    let is_prefix = |prefix: &str| prefix == "cgroup" || CONTROLLERS.contains(&prefix);
    let is_attribute = || unit.split_once('.').is_some_and(|(prefix, _)| is_prefix(prefix));
    if unit.starts_with(['_', '.']) || OTHERS.contains(&unit) || is_attribute() {
        Cow::Owned(format!("_{unit}"))
    } else {
        Cow::Borrowed(unit)
    }
}

/// The unit that a cgroup of this name would be of: `cg_unescape` of the same file.
#[must_use]
pub fn unescaped(cgroup_name: &str) -> &str {
    cgroup_name.strip_prefix('_').unwrap_or(cgroup_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_cgroup_is_no_attribute() {
        for (unit, cgroup) in [
            ("io.slice", "_io.slice"),
            ("memory.service", "_memory.service"),
            ("cgroup.service", "_cgroup.service"),
            ("cpuset.mount", "_cpuset.mount"),
            ("_x.service", "__x.service"),
            ("local-io.service", "local-io.service"),
            ("iot.slice", "iot.slice"),
            ("io-a.slice", "io-a.slice"),
        ] {
            assert_eq!(cgroup_name(unit), cgroup);
            assert_eq!(unescaped(cgroup), unit);
        }
    }
}
