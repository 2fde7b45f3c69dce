//! What becomes of a session that opens, decided in one place: the module does it, `fairslice explain login` says it.
//!
//! Only a process that was made for the session is placed or given a score. A service that opens sessions in its own
//! process (`JupyterHub`, a job runner) is a service still, and what became of it would be so for all whom it serves.
//! How the ways in differ when the module's turn comes:
//!
//! | way | parent | terminal | the module finds it in |
//! |---|---|---|---|
//! | sshd, a display manager, cron | the daemon | none | the daemon's cgroup; logind: the session's |
//! | sshd, cockpit by a socket (`ssh@.service`) | PID 1 | none | the service's own; logind: the session's |
//! | login on a getty, `machinectl shell` | PID 1 | one | the service's own; logind: the session's |
//! | su | whatever calls it | either | that one's |
//! | `systemd --user`, run0, `PAMName=` | PID 1, which still starts it | either | the service's own; logind: the session's |
//! | a login that a batch system takes into its job | the daemon | none | the job's |
//! | a hub | PID 1, or a shell that PID 1 started | none | the service's own; logind: the session's |
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::cgroup;
use crate::host::pam_service::{MANAGER, Opens, opens};
use crate::host::pid1::is_booted;
use crate::host::process::{Stat, is_being_started};
use crate::paths;
use crate::units::INIT_SCOPE;

/// The services that log in whose names others borrow, because every machine has them. `login(1)` itself always has
/// a terminal.
const BORROWED: [&str; 2] = ["login", "remote"];

/// Where the process that opens a session is when the module's turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In this user's slice, in the scope of a session: logind has put it there.
    Session(u32),
    /// Elsewhere in this user's slice: `user@UID.service`.
    Manager(u32),
    /// In some user's slice, seen from a cgroup namespace outside of which it lies.
    Hidden,
    /// Where what opens the session runs.
    Origin {
        /// Whether that is part of something: a service, a batch job. Else it is a slice itself, or PID 1's scope.
        of_a_unit: bool,
    },
    /// In a cgroup of its own, into which another module, a batch system's, has put it.
    Moved,
}

/// The process that opens a session: the real one, or as one will be.
pub trait Opener {
    /// `may_be_placed` is whether it makes a difference that another module has put it where it is.
    ///
    /// # Errors
    /// Its cgroup cannot be told.
    fn at(&self, may_be_placed: bool) -> Result<At>;

    /// Whether the process was made for the session. Asked only where something depends on it.
    fn is_made_for_it(&self) -> bool;
}

/// What is known of a session that opens.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// `PAM_SERVICE`
    pub service: &'a str,
    /// Who logs in.
    pub uid: u32,
    /// The module's argument `noplace`.
    pub noplace: bool,
    /// Whether the policy's `sessions` has what the service opens for a person in that person's slice.
    pub is_taken: bool,
    /// Whether the policy declares a weight or a limit for the user's slice, or a weight for all.
    pub is_declared: bool,
}

/// Where a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionPlace {
    /// It is in its user's slice, in the scope of a session.
    Session,
    /// It is in its user's slice, as the user's manager.
    Manager,
    /// PID 1 is asked to start a scope for it in its user's slice.
    ThroughPid1,
    /// There is no systemd: the slice and the scope are made here.
    Directly,
    /// It stays where it is.
    Stays(Why),
}

/// Why a session stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Programs of this PAM service log nobody in.
    NoLogin,
    /// It is inside a session of another user's.
    Inside,
    /// Its service opens sessions in its own process.
    OpensInItself,
    /// It is part of the service or job that called it.
    PartOfACaller,
    /// Another module has put it into a cgroup.
    Moved,
    /// The module's argument `noplace`.
    NoPlace,
    /// Nothing is declared for the slice.
    NothingDeclared,
    /// elogind knows the session by its cgroup.
    Elogind,
}

/// As it stands behind "the session stays where SERVICE runs, ".
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLogin => "programs of this PAM service log nobody in",
            Self::Inside => "it is opened inside another session",
            Self::OpensInItself => "its service opens sessions in its own process",
            Self::PartOfACaller => "it is part of the service or job that calls it",
            Self::Moved => "another module puts it into a cgroup",
            Self::NoPlace => "noplace",
            Self::NothingDeclared => "no weight or limit is declared",
            Self::Elogind => {
                "elogind runs, and knows a session's processes by the cgroup it has put them into"
            }
        })
    }
}

impl SessionPlace {
    /// Whether the session is, or will be, in its user's slice.
    #[must_use]
    pub fn is_in_own_slice(self) -> bool {
        !matches!(self, Self::Stays(_))
    }

    /// Whether that is in a session's scope, so that the policy's score is for it.
    #[must_use]
    pub fn is_in_a_session(self) -> bool {
        matches!(self, Self::Session | Self::ThroughPid1 | Self::Directly)
    }
}

/// Where the session goes.
///
/// # Errors
/// It may be a login, and where it is cannot be told.
pub fn place(root: &Path, opening: Opening<'_>, opener: &impl Opener) -> Result<SessionPlace> {
    let Opening { service, uid, noplace, is_taken, is_declared } = opening;
    let may_be_placed = opens_logins(service) || is_taken;
    let at = match opener.at(may_be_placed) {
        Err(error) if may_be_placed => return Err(error),
        Err(_) => return Ok(SessionPlace::Stays(Why::NoLogin)),
        Ok(at) => at,
    };
    let why = match at {
        At::Session(own) if own == uid => return Ok(SessionPlace::Session),
        At::Manager(own) if own == uid => return Ok(SessionPlace::Manager),
        At::Session(_) | At::Manager(_) if !is_taken => Some(Why::Inside),
        At::Hidden => Some(Why::Inside),
        _ if !may_be_placed => Some(Why::NoLogin),
        _ if noplace => Some(Why::NoPlace),
        At::Moved => Some(Why::Moved),
        At::Origin { of_a_unit: true } if opens(service) == Some(Opens::Switch) && !is_taken => {
            Some(Why::PartOfACaller)
        }
        _ if !opener.is_made_for_it() => Some(Why::OpensInItself),
        _ if !is_declared => Some(Why::NothingDeclared),
        At::Session(_) | At::Manager(_) | At::Origin { .. } => None,
    };
    Ok(match why {
        Some(why) => SessionPlace::Stays(why),
        None if is_booted(root) => SessionPlace::ThroughPid1,
        None if root.join(paths::LOGIND_RUNS).exists() => SessionPlace::Stays(Why::Elogind),
        None => SessionPlace::Directly,
    })
}

/// Whether the programs of this PAM service do nothing but log somebody in.
pub(super) fn opens_logins_only(service: &str) -> bool {
    opens(service) == Some(Opens::Login)
}

/// Whether the programs of this PAM service log somebody in, or may do so.
#[must_use]
pub fn opens_logins(service: &str) -> bool {
    matches!(opens(service), Some(Opens::Login | Opens::Switch))
}

/// This process, which opens a session.
pub struct Caller<'a> {
    root: &'a Path,
    service: &'a str,
    stat: OnceCell<Option<Stat>>,
}

impl<'a> Caller<'a> {
    /// `service` is the `PAM_SERVICE`.
    #[must_use]
    pub fn new(root: &'a Path, service: &'a str) -> Self {
        Self { root, service, stat: OnceCell::new() }
    }

    fn stat(&self) -> Option<&Stat> {
        self.stat.get_or_init(|| Stat::of(self.root, "self")).as_ref()
    }

    /// The process that started this one, if that is not PID 1.
    fn parent(&self) -> Option<u32> {
        self.stat().map(|stat| stat.parent).filter(|parent| *parent > 1)
    }

    /// Whether this process is where it was started: its parent still is there. A service's own process is in that
    /// service's cgroup, not below it, where a batch system has its jobs.
    fn is_where_it_was_started(&self, placed: &Path) -> bool {
        let is_there =
            |process: &str| cgroup::of_process(self.root, process).ok().map(|there| there == placed);
        // Without systemd a login may just have moved everybody out of the root.
        is_at_the_top(placed)
            || self.parent().and_then(|parent| is_there(&parent.to_string())).unwrap_or_else(|| {
                if is_booted(self.root) {
                    cgroup::own_unit(placed).is_some_and(|unit| unit.ends_with(".service"))
                } else {
                    is_there("1") == Some(true)
                }
            })
    }
}

impl Opener for Caller<'_> {
    fn at(&self, may_be_placed: bool) -> Result<At> {
        let placed: PathBuf = cgroup::of_process(self.root, "self")?;
        Ok(match cgroup::user(&placed) {
            Some(uid) if cgroup::unit(&placed).is_some_and(|unit| unit.ends_with(".scope")) => {
                At::Session(uid)
            }
            Some(uid) => At::Manager(uid),
            None if cgroup::is_in_a_users_slice(&placed) => At::Hidden,
            None if may_be_placed && !self.is_where_it_was_started(&placed) => At::Moved,
            None => At::Origin { of_a_unit: !is_at_the_top(&placed) },
        })
    }

    fn is_made_for_it(&self) -> bool {
        let is_borrowed = BORROWED.contains(&self.service);
        // Each of these programs makes a process for each session, also one whose caller is gone by then.
        if opens(self.service).is_some() && !is_borrowed && self.service != MANAGER {
            return true;
        }
        let Some(stat) = self.stat() else { return false };
        // PID 1 is about to run the user's own command in it.
        let is_started = stat.parent == 1 && is_being_started(&stat.name, || Some(0));
        let is_forked = self.parent().is_some() && !is_borrowed;
        is_forked || is_started || stat.terminal != 0
    }
}

/// Whether a cgroup belongs to no service, no job, no container: a slice, or PID 1's scope.
fn is_at_the_top(placed: &Path) -> bool {
    cgroup::own_unit(placed).is_some_and(|unit| unit.ends_with(".slice") || unit == INIT_SCOPE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    /// Where a session of uid 1000 goes that a process opens which is in `cgroup`; `stat` is what stands in its
    /// `/proc/PID/stat` behind the number, `(NAME) STATE PPID PGRP SID TTY`. The daemon is 7 and in ssh.service.
    fn place_of(stat: &str, cgroup: &str, service: &str) -> SessionPlace {
        on(stat, cgroup, service, true, false)
    }

    fn machine(root: &Path, stat: &str, cgroup: &str, booted: bool) {
        write(root, "proc/self/cgroup", &format!("0::/{cgroup}\n"));
        write(root, "proc/self/stat", &format!("8 {stat} -1 0 0 0 0 0 0 0 0 0 0 20 0 1 0 4711"));
        write(root, "proc/7/cgroup", "0::/system.slice/ssh.service\n");
        write(root, "proc/1/cgroup", if booted { "0::/init.scope\n" } else { "0::/job\n" });
        if booted {
            std::fs::create_dir_all(root.join(paths::SYSTEMD_BOOTED)).unwrap();
        }
    }

    fn on(stat: &str, cgroup: &str, service: &str, booted: bool, noplace: bool) -> SessionPlace {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        machine(root, stat, cgroup, booted);
        let opening = Opening { service, uid: 1000, noplace, is_taken: false, is_declared: true };
        place(root, opening, &Caller::new(root, service)).unwrap()
    }

    /// Where the policy's `sessions` has the service.
    fn taken(stat: &str, cgroup: &str, service: &str) -> SessionPlace {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        machine(root, stat, cgroup, true);
        let opening = Opening { service, uid: 1000, noplace: false, is_taken: true, is_declared: true };
        place(root, opening, &Caller::new(root, service)).unwrap()
    }

    #[test]
    fn what_the_policy_takes_goes_to_its_own_user() {
        let of_another = "user.slice/user-1001.slice/session-1.scope";
        let cron = "system.slice/ssh.service";
        for (stat, cgroup, service, expected) in [
            ("(cron) S 7 7 7 0", cron, "cron", SessionPlace::ThroughPid1),
            ("(sudo) S 9 8 8 1025", of_another, "sudo", SessionPlace::ThroughPid1),
            ("(su) S 7 8 8 0", cron, "su", SessionPlace::ThroughPid1),
            (
                "(su) S 9 8 8 0",
                "user.slice/user-1001.slice/user@1001.service/app.slice",
                "su",
                SessionPlace::ThroughPid1,
            ),
            ("(sudo) S 9 8 8 0", "user.slice/user-1000.slice/session-1.scope", "sudo", SessionPlace::Session),
            // The service's own process, and what a batch system has put elsewhere.
            ("(hub) S 1 7 7 0", cron, "hub", SessionPlace::Stays(Why::OpensInItself)),
            (
                "(cron) S 7 7 7 0",
                "system.slice/slurmstepd.scope/job_7",
                "cron",
                SessionPlace::Stays(Why::Moved),
            ),
            (
                "(sudo) S 9 8 8 0",
                "docker/7/user.slice/user-1001.slice/a.scope",
                "sudo",
                SessionPlace::Stays(Why::Inside),
            ),
        ] {
            assert_eq!(taken(stat, cgroup, service), expected, "{stat} {cgroup} {service}");
        }
    }

    const FORKED: &str = "(sshd) S 7 8 8 0";
    const BY_PID1: &str = "(daemon) S 1 8 8 0";
    const ON_A_TERMINAL: &str = "(login) S 1 8 8 1025";

    #[test]
    fn every_way_in_goes_where_it_belongs() {
        let session = "user.slice/user-1000.slice/session-1.scope";
        let of_another = "user.slice/user-1001.slice/session-1.scope";
        let manager = "user.slice/user-1000.slice/user@1000.service/init.scope";
        for (stat, cgroup, service, expected) in [
            // logind has placed it.
            (FORKED, session, "sshd", SessionPlace::Session),
            (FORKED, of_another, "su", SessionPlace::Stays(Why::Inside)),
            (FORKED, "docker/7/user.slice/user-1000.slice/a.scope", "sshd", SessionPlace::Stays(Why::Inside)),
            (BY_PID1, manager, "systemd-user", SessionPlace::Manager),
            // logind has not.
            (FORKED, "system.slice/ssh.service", "sshd", SessionPlace::ThroughPid1),
            (
                BY_PID1,
                "system.slice/system-ssh.slice/ssh@3-10.0.2.15:22-10.0.2.2:4711.service",
                "sshd",
                SessionPlace::ThroughPid1,
            ),
            // The listener was ended meanwhile.
            (BY_PID1, "system.slice/ssh.service", "sshd", SessionPlace::ThroughPid1),
            (
                ON_A_TERMINAL,
                "system.slice/system-getty.slice/getty@tty1.service",
                "login",
                SessionPlace::ThroughPid1,
            ),
            ("((weston)) S 1 8 8 0", "system.slice/kiosk.service", "login", SessionPlace::ThroughPid1),
            ("(su) S 9 8 8 0", "", "su", SessionPlace::ThroughPid1),
            ("(su) S 9 8 8 0", "init.scope", "su-l", SessionPlace::ThroughPid1),
            // A batch system has taken it into its job.
            (FORKED, "system.slice/slurmstepd.scope/job_7/user", "sshd", SessionPlace::Stays(Why::Moved)),
            (FORKED, "system.slice/slurmd.service", "sshd", SessionPlace::Stays(Why::Moved)),
            (BY_PID1, "system.slice/slurmstepd.service/job_7", "sshd", SessionPlace::Stays(Why::Moved)),
            // A hub's own process, and one that a script of the service has started.
            (BY_PID1, "system.slice/hub.service", "login", SessionPlace::Stays(Why::OpensInItself)),
            ("(hub) S 7 8 7 0", "system.slice/ssh.service", "login", SessionPlace::Stays(Why::OpensInItself)),
            (BY_PID1, "system.slice/hub.service", "hub", SessionPlace::Stays(Why::NoLogin)),
            // Stopping what called it has to reach it.
            (FORKED, "system.slice/ssh.service", "su", SessionPlace::Stays(Why::PartOfACaller)),
            ("(su) S 9 8 8 1025", "system.slice/slurmstepd.scope", "su", SessionPlace::Stays(Why::Moved)),
            (FORKED, "system.slice/cron.service", "cron", SessionPlace::Stays(Why::NoLogin)),
            ("(sudo) S 9 8 8 0", "init.scope", "sudo", SessionPlace::Stays(Why::NoLogin)),
        ] {
            assert_eq!(place_of(stat, cgroup, service), expected, "{stat} {cgroup} {service}");
        }
        assert_eq!(
            on(FORKED, "system.slice/ssh.service", "sshd", true, true),
            SessionPlace::Stays(Why::NoPlace)
        );
        // What logind has done stays done.
        assert_eq!(on(FORKED, session, "sshd", true, true), SessionPlace::Session);
    }

    #[test]
    fn without_systemd_a_login_is_where_its_parent_or_the_first_process_is() {
        let place = |stat: &str, cgroup: &str, service: &str| on(stat, cgroup, service, false, false);
        for (stat, cgroup) in [(FORKED, "system.slice/ssh.service"), ("(su) S 0 8 8 0", "job"), (BY_PID1, "")]
        {
            assert_eq!(place(stat, cgroup, "sshd"), SessionPlace::Directly, "{stat} {cgroup}");
        }
        assert_eq!(place(FORKED, "job/7", "sshd"), SessionPlace::Stays(Why::Moved));
        assert_eq!(place(BY_PID1, "job/7", "sshd"), SessionPlace::Stays(Why::Moved));
        assert_eq!(place(BY_PID1, "", "login"), SessionPlace::Stays(Why::OpensInItself));
    }

    #[test]
    fn who_was_made_for_the_session() {
        let is_own = |stat: &str, service: &str| {
            let root = tempfile::tempdir().unwrap();
            write(root.path(), "proc/self/stat", &format!("8 {stat} -1 0 0 0 0 0 0 0 0 0 0 20 0 1 0 4711"));
            Caller::new(root.path(), service).is_made_for_it()
        };
        for (stat, service) in [
            (FORKED, "cron"),
            (BY_PID1, "sshd"),
            (BY_PID1, "su"),
            (BY_PID1, "sudo"),
            (ON_A_TERMINAL, "login"),
            (ON_A_TERMINAL, "run0"),
            ("((bash)) S 1 8 8 0", "systemd-run0"),
            ("(systemd-executor) S 1 8 8 0", "systemd-user"),
        ] {
            assert!(is_own(stat, service), "{stat} {service}");
        }
        for (stat, service) in [(BY_PID1, "login"), (BY_PID1, "jupyterhub"), (FORKED, "login")] {
            assert!(!is_own(stat, service), "{stat} {service}");
        }
        assert!(!Caller::new(Path::new("/nowhere"), "login").is_made_for_it());
    }
}
