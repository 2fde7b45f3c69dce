//! Whether a restart moves a service to the slice that its unit has now.
//!
//! systemd moves no running unit: a stop and a start do. But as long as there is a process in its cgroup, PID 1
//! keeps that.
//!
//! A restart moves a transient service (`systemd-run`) as any other, since the drop-ins of its name hold for it too.
//! After a stop, though, its unit is gone, and nothing is left to be started. Tried with systemd 257.
#![forbid(unsafe_code)]

use std::fmt;

use crate::host::processes::Process;
use crate::text::{and_more, quoted, shown};

/// Services that somebody is logged in through, or that the machine depends on.
const BY_HAND: [&str; 13] = [
    "ssh",
    "sshd",
    "dbus",
    "dbus-broker",
    "user",
    "getty",
    "serial-getty",
    "console-getty",
    "display-manager",
    "gdm",
    "lightdm",
    "sddm",
    "polkit",
];

/// Whether a restart is left to the administrator: people are logged in through the service, or the machine depends
/// on it.
#[must_use]
pub fn is_by_hand(unit: &str) -> bool {
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    stem.starts_with("systemd-") || BY_HAND.contains(&stem.split('@').next().unwrap_or(stem))
}

/// Whether one of a service's processes outlives its stop: with `KillMode=process` and `none`, all but the main
/// process do, see `systemd.kill(5)`.
#[must_use]
pub fn outlives_stop(kill_mode: &str, main: Option<u32>, pid: u32) -> bool {
    matches!(kill_mode, "process" | "none") && main != Some(pid)
}

/// What keeps a service where it is: those of the processes in its cgroup that outlive a stop.
#[derive(Debug)]
pub struct Kept<'a> {
    kill_mode: &'a str,
    /// The one that was started first.
    pub oldest: &'a Process,
    others: Vec<&'a Process>,
}

impl<'a> Kept<'a> {
    /// `None` where a restart moves the service.
    #[must_use]
    pub fn by(
        kill_mode: &'a str,
        main: Option<u32>,
        in_cgroup: impl IntoIterator<Item = &'a Process>,
    ) -> Option<Self> {
        let outlives = |process: &&Process| outlives_stop(kill_mode, main, process.pid);
        let mut left: Vec<&Process> = in_cgroup.into_iter().filter(outlives).collect();
        left.sort_by_key(|process| process.started);
        let (oldest, others) = left.split_first()?;
        Some(Self { kill_mode, oldest, others: others.to_vec() })
    }

    /// The commands that move it all the same.
    #[must_use]
    pub fn remedy(&self, service: &str, is_transient: bool) -> String {
        let service = quoted(service);
        if is_transient {
            let all = [self.oldest].into_iter().chain(self.others.iter().copied());
            let pids: Vec<String> = all.map(|process| process.pid.to_string()).collect();
            format!("kill {}; systemctl restart {service}", pids.join(" "))
        } else {
            format!("systemctl stop {service}; systemctl kill {service}; systemctl start {service}")
        }
    }
}

/// `KillMode=process lets process 41 (sleep) and 2 more live, which keeps it there`
impl fmt::Display for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kill_mode, oldest, others } = self;
        let (pid, name, more) = (oldest.pid, shown(&oldest.name), and_more(others.len()));
        write!(f, "KillMode={kill_mode} lets process {pid} ({name}){more} live, which keeps it there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::kill_order::tests::process;

    const CGROUP: &str = "system.slice/a.service";

    #[test]
    fn what_outlives_a_stop_keeps_a_service_where_it_is() {
        let processes = [5, 4, 3].map(|pid| process(pid, CGROUP, 0, 1));
        let kept = |kill_mode: &'static str, main: Option<u32>| {
            Kept::by(kill_mode, main, &processes).map(|kept| kept.to_string())
        };
        let told = "KillMode=process lets process 3 (p3) and 1 more live, which keeps it there";
        assert_eq!(kept("process", Some(5)).as_deref(), Some(told));
        assert!(kept("none", None).unwrap().contains("process 3 (p3) and 2 more"));
        for ends_all in ["control-group", "mixed", ""] {
            assert_eq!(kept(ends_all, Some(5)), None, "{ends_all}");
        }
        assert!(Kept::by("process", Some(5), &processes[..1]).is_none(), "the main process alone");
    }

    #[test]
    fn what_people_are_logged_in_through_is_not_restarted() {
        for unit in ["ssh.service", "ssh@1.service", "systemd-logind.service", "user@1000.service"] {
            assert!(is_by_hand(unit), "{unit}");
        }
        assert!(!is_by_hand("local-ssh.service") && !is_by_hand("users.service"));
    }

    #[test]
    fn a_transient_unit_is_never_stopped() {
        let processes = [5, 4, 3].map(|pid| process(pid, CGROUP, 0, 1));
        let kept = Kept::by("process", Some(5), &processes).unwrap();
        let service = r"a\x2db.service";
        assert_eq!(kept.remedy(service, true), r"kill 3 4; systemctl restart 'a\x2db.service'");
        let stop = r"systemctl stop 'a\x2db.service'; systemctl kill 'a\x2db.service'; systemctl start 'a\x2db.service'";
        assert_eq!(kept.remedy(service, false), stop);
    }
}
