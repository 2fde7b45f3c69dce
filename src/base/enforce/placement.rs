//! A login that logind did not place: PID 1 is asked to, and where there is no systemd it is done here.
//!
//! logind is not everywhere: a minimal system lacks `pam_systemd`, a container often all of systemd.
//! Nobody else would put a login into its user's slice then, where its weights and limits are.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::cgroup2::{Hierarchy, SettingValues};
use super::{decision, own, scope};
use crate::host::cgroup;
use crate::host::pid1::{ASKING, Holds, Manager, Scope};
use crate::paths;
use crate::text::{Foreign, shown};
use crate::units::{INIT_SCOPE, SliceName};

/// Of the names of our scopes. logind's own are `session-N.scope`.
const PREFIX: &str = "fairslice-login-";
const SUFFIX: &str = ".scope";
/// How long to wait before asking again for what another login holds.
const PAUSE: Duration = Duration::from_millis(2);

/// Who logs in, and how.
pub(super) struct Login<'a> {
    /// `PAM_SERVICE`
    pub(super) service: &'a str,
    pub(super) user: &'a Foreign,
    pub(super) uid: u32,
}

/// Has PID 1 put this process into a scope in its user's slice. What is no login is stopped with the unit that it comes
/// from, as it would be there.
///
/// # Errors
/// This is no root's process; PID 1 refuses, or is silent until `deadline`; the cgroup namespace hides its slices.
pub(super) fn through_pid1(root: &Path, login: &Login<'_>, deadline: Instant) -> Result<()> {
    check_rights()?;
    let placed = cgroup::of_process(root, "self")?;
    if cgroup::is_hidden(&placed) {
        bail!("a cgroup namespace of its own hides from PID 1's slices");
    }
    // PID 1's own nobody stops.
    let is_ended = |unit: &&str| *unit != INIT_SCOPE && !decision::opens_logins_only(login.service);
    let origin = cgroup::unit(&placed).filter(is_ended);
    let service = origin.filter(|unit| unit.ends_with(".service"));
    let running =
        service.map(|service| Manager::below(root).service_properties(service, deadline)).transpose()?;
    // With KillMode=process and none, what a service has started is meant to outlive it.
    let outlives = running.as_ref().is_some_and(|service| !service.ends_what_it_started());
    let stopped_with = origin.filter(|_| !outlives);
    let holds = match &running {
        Some(properties) => Holds::Service { stopped_with, properties: Some(properties) },
        None => Holds::Login { stopped_with },
    };
    let slice = SliceName::of_user(login.uid);
    let name = free_name(&cgroup::children_of(root, &slice.cgroup())?);
    let scope = Scope {
        name: &name,
        slice: &slice,
        description: &format!(
            "Session of {} by {}, placed by pam_fairslice",
            shown(login.user),
            shown(login.service)
        ),
        documentation: "man:pam_fairslice(8)",
        processes: &[ASKING],
        holds,
        // As logind does: the limit is the slice's.
        resources: &[("TasksMax", u64::MAX)],
    };
    scope::start(root, &scope, deadline)
}

fn check_rights() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can move it there");
    }
    Ok(())
}

/// The name of this process's scope. What an earlier login with this PID left running may have its
/// name still.
fn free_name(taken: &[OsString]) -> String {
    let pid = process::id();
    let mut name = format!("{PREFIX}{pid}{SUFFIX}");
    let mut number = 2;
    while taken.iter().any(|taken| *taken == *name) {
        name = format!("{PREFIX}{pid}-{number}{SUFFIX}");
        number += 1;
    }
    name
}

/// Whether a scope was named by [`free_name`] in this process.
fn is_own(name: &str) -> bool {
    let number = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let pid = number.and_then(|number| number.split('-').next());
    pid.is_some_and(|pid| pid == process::id().to_string())
}

/// Makes the scope without systemd. `slices` are the cgroups of `user.slice` and the user's own, with what each is to
/// have; what cannot be set of that is left.
///
/// # Errors
/// This is no root's process, cgroup2 is not ours to change, or other logins are at it until `deadline`.
pub(super) fn directly(
    root: &Path,
    uid: u32,
    slices: Vec<(PathBuf, SettingValues)>,
    deadline: Instant,
) -> Result<()> {
    check_rights()?;
    let tree = Hierarchy::below(root)?;
    let sessions = Sessions::lock(root, deadline)?;
    sessions.sweep(&tree);
    tree.vacate_root()?;
    let name = free_name(&sessions.names());
    let cgroup = SliceName::of_user(uid).cgroup().join(&name);
    let origin = cgroup::of_process(root, "self")?;
    sessions.remember(&name, &Session { cgroup: cgroup.clone(), origin })?;
    let mut chain = slices;
    chain.push((cgroup.clone(), SettingValues::new()));
    if let Err(error) = tree.enter(&chain) {
        sessions.sweep(&tree);
        return Err(error);
    }
    Ok(())
}

/// Undoes what [`directly`] did: this process goes back to where it was, and the cgroups
/// go that nothing is left in. What runs on after the session keeps its cgroup; the next login sees to
/// that. Says whether the session was one that it has placed.
///
/// # Errors
/// The cgroups are not ours to change, or other logins are at it until `deadline`.
pub(super) fn leave(root: &Path, deadline: Instant) -> Result<bool> {
    let Ok(placed) = cgroup::of_process(root, "self") else { return Ok(false) };
    // This session's own scope: su inside a login opens and closes another one.
    let own = placed.file_name().and_then(|name| name.to_str()).filter(|name| is_own(name));
    let Some(name) = own else { return Ok(false) };
    let sessions = Sessions::lock(root, deadline)?;
    let Some(session) = sessions.read(name) else { return Ok(false) };
    let tree = Hierarchy::below(root)?;
    let returned = tree.return_to(&session.origin);
    sessions.sweep(&tree);
    returned.with_context(|| format!("leaving /{}", shown(&session.cgroup)))?;
    Ok(true)
}

/// A login that was placed here, without systemd.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    cgroup: PathBuf,
    /// The cgroup that the process came from.
    origin: PathBuf,
}

/// The records of all [`Session`]s, held by one login at a time: between two of its steps nobody else
/// makes or removes a user's slice. The kernel lets go of what a killed login held.
struct Sessions {
    directory: PathBuf,
    _lock: fs::File,
}

impl Sessions {
    fn lock(root: &Path, deadline: Instant) -> Result<Self> {
        let directory = root.join(paths::SESSIONS);
        // 0700, so that only root can hold the lock.
        let lock = fs::File::from(own::directory(root, paths::SESSIONS, 0o700)?);
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { directory, _lock: lock }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => {
                    bail!("another login has held {} for 2 s: /proc/locks names it", shown(&directory))
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("locking {}", shown(&directory)));
                }
            }
        }
    }

    fn names(&self) -> Vec<OsString> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    }

    fn remember(&self, name: &str, session: &Session) -> Result<()> {
        let file = self.directory.join(name);
        let [cgroup, origin] = [&session.cgroup, &session.origin].map(|path| path.as_os_str().as_bytes());
        let text = [cgroup, b"\n", origin, b"\n"].concat();
        let record = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file);
        record
            .and_then(|mut record| io::Write::write_all(&mut record, &text))
            .with_context(|| format!("writing {}", shown(&file)))
    }

    /// A record that was not written to its end is none.
    fn read(&self, name: impl AsRef<Path>) -> Option<Session> {
        let text = fs::read(self.directory.join(name)).ok()?;
        // The kernel lets no cgroup have a line end in its name.
        let mut lines = text.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
        let mut path = || Some(PathBuf::from(OsStr::from_bytes(lines.next()?)));
        Some(Session { cgroup: path()?, origin: path()? })
    }

    /// Forgets the sessions whose cgroup is empty or gone, and removes it and the slices above it.
    fn sweep(&self, tree: &Hierarchy<'_>) {
        for name in self.names() {
            let session = self.read(&name);
            // Its own cgroup, its user's slice, user.slice: as far as they are empty.
            let cgroups = session.iter().flat_map(|session| session.cgroup.ancestors());
            let named = cgroups.filter(|cgroup| !cgroup.as_os_str().is_empty());
            let removed = named.take_while(|cgroup| tree.remove(cgroup)).count();
            if removed > 0 || session.is_none() {
                // Where this fails, the next login tries again.
                let _ = fs::remove_file(self.directory.join(&name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;
    use crate::units::{CPU_WEIGHT, CpuWeight, SettingValue, Weight};

    const SLICE: &str = "user.slice/user-1000.slice";

    /// A machine without systemd whose process `self` is in `cgroup`, and in which these cgroups can be
    /// entered.
    fn machine(cgroup: &str, entered: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/self/cgroup", &format!("0::/{cgroup}\n"));
        write(root.path(), "proc/meminfo", "MemTotal: 1000000 kB\n");
        write(root.path(), "sys/fs/cgroup/cgroup.type", "domain\n");
        for cgroup in ["", "user.slice", SLICE].iter().chain(entered) {
            let attributes =
                [("cgroup.controllers", "cpu"), ("cgroup.subtree_control", ""), ("cpu.weight", "")];
            for (attribute, text) in attributes.iter().chain(&[("cgroup.procs", "")]) {
                write(root.path(), &format!("sys/fs/cgroup/{cgroup}/{attribute}"), text);
            }
        }
        root
    }

    fn attribute(root: &Path, cgroup: &str, name: &str) -> String {
        cgroup::attribute(root, Path::new(cgroup), name).unwrap()
    }

    fn weights() -> Vec<(PathBuf, SettingValues)> {
        let weight =
            |weight| (CPU_WEIGHT, SettingValue::Cpu(CpuWeight::Weight(Weight::new(weight).unwrap())));
        vec![("user.slice".into(), vec![weight(300)]), (SLICE.into(), vec![weight(70)])]
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn own(suffix: &str) -> String {
        format!("{PREFIX}{}{suffix}{SUFFIX}", process::id())
    }

    #[test]
    fn a_name_is_this_processs_and_free() {
        let name = free_name(&[]);
        assert_eq!(name, own(""));
        let second = free_name(&[name.clone().into(), "session-1.scope".into()]);
        assert_eq!(second, own("-2"));
        assert_eq!(free_name(&[name.clone().into(), second.clone().into()]), own("-3"));
        assert!(is_own(&name) && is_own(&second));
        for other in ["fairslice-login-1.scope", "session-1.scope", &own("").replace(".scope", "0.scope")] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn a_login_goes_in_and_comes_back() {
        let scope = format!("{SLICE}/{}", own(""));
        let root = machine("openrc.sshd", &["openrc.sshd", "init.scope", &scope]);
        let root = root.path();
        directly(root, 1000, weights(), soon()).unwrap();
        assert_eq!(attribute(root, "user.slice", "cpu.weight"), "300");
        assert_eq!(attribute(root, SLICE, "cpu.weight"), "70");
        assert_eq!(attribute(root, "", "cgroup.subtree_control"), "+cpu");
        assert_eq!(attribute(root, "user.slice", "cgroup.subtree_control"), "+cpu");
        assert_eq!(attribute(root, &scope, "cgroup.procs"), "0");
        assert_eq!(attribute(root, "openrc.sshd", "cgroup.procs"), "");
        let record = root.join(paths::SESSIONS).join(own(""));
        assert_eq!(fs::read_to_string(&record).unwrap(), format!("{scope}\nopenrc.sshd\n"));

        // A session inside of it, of a process with another number, is not this one.
        write(root, "proc/self/cgroup", &format!("0::/{SLICE}/{PREFIX}1{SUFFIX}\n"));
        leave(root, soon()).unwrap();
        assert_eq!(attribute(root, "openrc.sshd", "cgroup.procs"), "");

        // As the kernel has it, a cgroup without processes holds nothing that keeps it.
        fs::remove_dir_all(root.join("sys/fs/cgroup").join(&scope)).unwrap();
        fs::create_dir(root.join("sys/fs/cgroup").join(&scope)).unwrap();
        write(root, "proc/self/cgroup", &format!("0::/{scope}\n"));
        leave(root, soon()).unwrap();
        assert_eq!(attribute(root, "openrc.sshd", "cgroup.procs"), "0");
        assert_eq!(attribute(root, "init.scope", "cgroup.procs"), "");
        assert!(!record.exists() && !root.join("sys/fs/cgroup").join(&scope).exists());
    }

    #[test]
    fn where_it_came_from_is_gone() {
        let scope = format!("{SLICE}/{}", own(""));
        let root = machine("gone.service", &["init.scope", &scope]);
        directly(root.path(), 1000, weights(), soon()).unwrap();
        write(root.path(), "proc/self/cgroup", &format!("0::/{scope}\n"));
        leave(root.path(), soon()).unwrap();
        assert_eq!(attribute(root.path(), "init.scope", "cgroup.procs"), "0");
        // Where the tree is the whole machine's, its root takes processes.
        fs::remove_file(root.path().join("sys/fs/cgroup/cgroup.type")).unwrap();
        Hierarchy::below(root.path()).unwrap().return_to(Path::new("gone.service")).unwrap();
        assert_eq!(attribute(root.path(), "", "cgroup.procs"), "0");
    }

    #[test]
    fn the_tree_of_another_systemd_is_not_touched() {
        let root = machine("system.slice/docker-7.scope", &["init.scope", &format!("{SLICE}/{}", own(""))]);
        fs::remove_file(root.path().join("sys/fs/cgroup/cgroup.type")).unwrap();
        let error = directly(root.path(), 1000, weights(), soon()).unwrap_err();
        assert!(error.to_string().contains("a cgroup namespace of its own"), "{error}");
        assert_eq!(attribute(root.path(), SLICE, "cpu.weight"), "");
    }

    #[test]
    fn what_sessions_left_is_swept() {
        let root = machine("init.scope", &[]);
        let root = root.path();
        let top = root.join(paths::CGROUPFS);
        let sessions = Sessions::lock(root, soon()).unwrap();
        let remember = |name: &str, cgroup: &str| {
            let session = Session { cgroup: cgroup.into(), origin: PathBuf::new() };
            sessions.remember(name, &session).unwrap();
            assert_eq!(sessions.read(name), Some(session));
        };
        remember("ended", "user.slice/user-7.slice/ended");
        fs::create_dir_all(top.join("user.slice/user-7.slice/ended")).unwrap();
        remember("gone", "user.slice/user-8.slice/gone");
        remember("runs-on", "user.slice/user-9.slice/runs-on");
        fs::create_dir_all(top.join("user.slice/user-9.slice/runs-on/job")).unwrap();
        fs::write(root.join(paths::SESSIONS).join("torn"), "user.slice/user-9.sl").unwrap();
        sessions.sweep(&Hierarchy::below(root).unwrap());
        assert_eq!(sessions.names(), ["runs-on"]);
        assert!(!top.join("user.slice/user-7.slice").exists());
        assert!(top.join("user.slice/user-9.slice/runs-on").exists());
    }

    #[test]
    fn another_login_is_waited_for_until_the_deadline() {
        let root = machine("init.scope", &[]);
        let held = Sessions::lock(root.path(), soon()).unwrap();
        let error = directly(root.path(), 1000, weights(), soon()).unwrap_err();
        assert!(error.to_string().contains("another login has held"), "{error}");
        drop(held);
        assert!(Sessions::lock(root.path(), soon()).is_ok());
    }
}
