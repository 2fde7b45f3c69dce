//! A machine of its own: a root directory in a mount namespace, with users that the host does not have.
//!
//! The host's programs and libraries are mounted there; `/etc`, `/home` and `/srv` are new, and gone
//! with the namespace. Nothing of the host is changed.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use fairslice::policy as policies;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chroot};

use crate::built;

/// A user of the machine. Their numbers are those of nobody on a usual host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) uid: u32,
}

pub(crate) const ALICE: User = User { name: "fs-alice", uid: 52001 };
pub(crate) const BOB: User = User { name: "fs-bob", uid: 52002 };
/// The group that both are in.
pub(crate) const TEAM: u32 = 52010;

const PASSWD: &str = "root:x:0:0::/root:/bin/sh
fs-alice:x:52001:52001::/home/fs-alice:/bin/sh
fs-bob:x:52002:52002::/home/fs-bob:/bin/sh
";
const GROUP: &str = "root:x:0:
fs-alice:x:52001:
fs-bob:x:52002:
fs-team:x:52010:fs-alice,fs-bob
";

/// How a session is opened: the name of its PAM configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Session {
    /// Umask 002: what a user makes, the directory's group can write.
    GroupWrites,
    /// Umask 022: what a user makes, only the user can write.
    GroupReads,
    /// Umask 002, and `pam_fairslice.so strict`.
    Fairslice,
}

/// The machine that this thread is in.
pub(crate) struct Machine {
    log: UnixDatagram,
}

/// Runs a test in a machine whose policy this is. Paths are those of the machine in there.
pub(crate) fn in_machine(policy: &str, test: fn(&Machine)) {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    assert!(Uid::effective().is_root(), "needs root, to mount and to be other users: make build-test");
    let parts = PARTS.get_or_init(Parts::of_host);
    let root = tempfile::tempdir().unwrap();
    // The thread enters the machine; the others of this process stay where they are.
    let run = thread::scope(|scope| scope.spawn(|| test(&parts.enter(root.path(), policy))).join());
    if let Err(panic) = run {
        resume_unwind(panic);
    }
}

/// What of the host has another name in the machine.
struct Parts {
    module: PathBuf,
    login: PathBuf,
    toolchain: PathBuf,
}

impl Parts {
    fn of_host() -> Self {
        // The toolchain itself: rustup's programs look for it below a home that users cannot enter.
        let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
        let output = Command::new(&rustc).args(["--print", "sysroot"]).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", rustc.display()));
        let toolchain = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Self {
            module: built::module(),
            login: built::program("pam_login", "builds/login.c", &["-lpam"]),
            toolchain,
        }
    }

    fn enter(&self, root: &Path, policy: &str) -> Machine {
        // With the namespace, this thread gets a root, a working directory and a umask of its own.
        unshare(CloneFlags::CLONE_NEWNS).unwrap_or_else(|errno| panic!("no mount namespace: {errno}"));
        umask(Mode::from_bits_truncate(0o022));
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
        for directory in ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc/alternatives", "proc"]
        {
            bind(&Path::new("/").join(directory), &root.join(directory));
        }
        for device in ["dev/null", "dev/urandom"] {
            bind(&Path::new("/").join(device), &root.join(device));
        }
        bind(&self.toolchain, &root.join("opt/rust"));
        fs::copy(&self.module, root.join("opt/pam_fairslice.so")).unwrap();
        fs::copy(&self.login, root.join("opt/login")).unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builds/workspace");
        bind(&workspace, &root.join("opt/workspace"));
        chroot(root).unwrap();
        std::env::set_current_dir("/").unwrap();

        for (file, text) in [
            ("/etc/passwd", PASSWD),
            ("/etc/group", GROUP),
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\n"),
            ("/etc/fairslice/policy.toml", policy),
            ("/etc/pam.d/other", ""),
            ("/etc/pam.d/group-writes", "session required pam_umask.so umask=002\n"),
            ("/etc/pam.d/group-reads", "session required pam_umask.so umask=022\n"),
            (
                "/etc/pam.d/fairslice",
                "session required pam_umask.so umask=002\nsession required /opt/pam_fairslice.so strict\n",
            ),
        ] {
            fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        directory("/tmp", 0, 0, 0o1777);
        for user in [ALICE, BOB] {
            directory(&format!("/home/{}", user.name), user.uid, user.uid, 0o700);
        }
        let compiled = policies::compile(&policies::load(Path::new("/")));
        fs::create_dir_all("/run/fairslice").unwrap();
        fs::write("/run/fairslice/policy.compiled", compiled).unwrap();
        let log = UnixDatagram::bind("/dev/log").unwrap();
        log.set_nonblocking(true).unwrap();
        Machine { log }
    }
}

/// Mounts what is there on the host; a link of the host's is made anew.
fn bind(host: &Path, machine: &Path) {
    if let Ok(target) = fs::read_link(host) {
        symlink(target, machine).unwrap();
        return;
    }
    let Ok(metadata) = fs::metadata(host) else { return };
    fs::create_dir_all(machine.parent().unwrap()).unwrap();
    if metadata.is_dir() {
        fs::create_dir(machine).unwrap();
    } else {
        fs::write(machine, "").unwrap();
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(host), machine, None::<&str>, flags, None::<&str>).unwrap();
}

/// Makes a directory, and those above it.
pub(crate) fn directory(path: &str, uid: u32, gid: u32, mode: u32) {
    fs::create_dir_all(path).unwrap();
    chown(path, Some(uid), Some(gid)).unwrap();
    // After the change of owner, which may take the set-group-ID bit away.
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A command that will run as the user in a new session, in this working directory.
pub(crate) fn command(session: Session, user: User, directory: &str, words: &[&str]) -> Command {
    let service = match session {
        Session::GroupWrites => "group-writes",
        Session::GroupReads => "group-reads",
        Session::Fairslice => "fairslice",
    };
    let mut command = Command::new("/opt/login");
    command.args([service, user.name]).args(words).current_dir(directory);
    command.env("PATH", "/opt/rust/bin:/usr/bin:/bin");
    command
}

impl Machine {
    /// What the module has logged.
    pub(crate) fn logged(&self) -> String {
        let mut lines = String::new();
        let mut datagram = [0; 8192];
        loop {
            match self.log.recv(&mut datagram) {
                Ok(length) => lines = format!("{lines}{}\n", String::from_utf8_lossy(&datagram[..length])),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return lines,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
