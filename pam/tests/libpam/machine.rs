//! A directory that stands for the machine, and sessions opened on it by a host program in C.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fairslice::policy;

use crate::built;

pub(crate) const COMPILED: &str = "run/fairslice/policy.compiled";
pub(crate) const PAM_SUCCESS: &str = "0";
pub(crate) const PAM_SESSION_ERR: &str = "14";
/// No session takes longer, whatever goes wrong: the module's own limit on waiting for PID 1 is 2 s.
pub(crate) const LIMIT: u32 = 3000;

/// The process that started the host.
pub(crate) const DAEMON: u32 = 1234;

/// The accounts in the host's mount namespace. Both are in the group "builders".
pub(crate) const ALICE: u32 = 4001;
pub(crate) const MALLORY: u32 = 4002;
pub(crate) const BUILDERS: u32 = 4100;
const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n\
    alice:x:4001:4001::/home/alice:/bin/sh\nmallory:x:4002:4002::/home/mallory:/bin/sh\n";
const GROUP: &str = "root:x:0:\nalice:x:4001:\nmallory:x:4002:\nbuilders:x:4100:alice,mallory\n";

/// An empty reply to a client's first call: the field `REPLY_SERIAL`, 1.
pub(crate) const DONE: &[u8] = b"l\x02\x01\x01\0\0\0\0\x07\0\0\0\x08\0\0\0\x05\x01u\0\x01\0\0\0";

fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(built::module)
}

fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| built::program("pam_host", "host.c", &["-rdynamic", "-lpam"]))
}

/// Whether the host runs under a sanitizer, which makes it slower: see `tests/sanitized`.
pub(crate) fn is_sanitized() -> bool {
    std::env::var_os("ASAN_OPTIONS").is_some()
}

/// Whether the test may go on; says what is needed where it may not.
pub(crate) fn as_root(test: &str) -> bool {
    let root = is_root();
    if !root {
        eprintln!("{test}: skipped: needs root");
    }
    root
}

fn is_root() -> bool {
    // The owner of what a process makes is its effective user.
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A directory that stands for the machine, with a PAM configuration in it and its log. PID 1 is systemd,
/// and is not there.
pub(crate) struct Machine {
    pub(crate) root: PathBuf,
    log: UnixDatagram,
    /// The name of the PAM configuration.
    service: &'static str,
}

/// What the host told.
pub(crate) struct Told {
    /// The last session's.
    pub(crate) open: String,
    pub(crate) close: String,
    pub(crate) environment: Vec<String>,
    /// Of whom NSS was asked while they opened, each once, by name or number.
    pub(crate) asked: Vec<String>,
    /// What was in the file of the option `look=` while the last one was open.
    pub(crate) looked: String,
    /// How many sessions did not open.
    pub(crate) failed: u32,
    /// The longest that opening took.
    pub(crate) milliseconds: u32,
    /// KiB; zero if there were fewer than ten sessions.
    pub(crate) grown: i64,
    /// The log's lines, without priority, time, program and process id.
    pub(crate) log: Vec<String>,
    /// What the commands afterwards found, on lines "found: ...".
    pub(crate) found: Vec<String>,
}

/// Sessions to be opened.
pub(crate) struct Sessions<'a> {
    machine: &'a Machine,
    user: &'a OsStr,
    number: u32,
    options: Vec<&'a str>,
    before: &'a str,
    after: &'a str,
}

impl Machine {
    /// `arguments` are the module's, besides `root=`.
    pub(crate) fn new(arguments: &str) -> Self {
        Self::with_service("test", arguments)
    }

    /// With a PAM configuration of this name.
    pub(crate) fn with_service(service: &'static str, arguments: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Not below the target directory: the path of a socket has room for 108 bytes.
        let root = std::env::temp_dir().join(format!("pam_fairslice-{}-{number}", process::id()));
        for directory in ["dev", "etc/fairslice", "pam.d", "proc/self", "run/systemd/system"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let (module, at) = (module().display(), root.display());
        let line = format!("session required {module} root={at} {arguments}\n");
        fs::write(root.join("pam.d").join(service), line).unwrap();
        fs::write(root.join("pam.d/other"), "").unwrap();
        let log = UnixDatagram::bind(root.join("dev/log")).unwrap();
        let machine = Self { root, log, service };
        machine.write("etc/passwd", PASSWD);
        machine.write("etc/group", GROUP);
        machine.write("etc/nsswitch.conf", "passwd: files\ngroup: files\n");
        machine.policy("[logins]\ncpu_weight = 100\n");
        machine.write("proc/self/oom_score_adj", "0\n");
        machine.started_by(DAEMON, "");
        symlink("/proc/self/mountinfo", machine.root.join("proc/self/mountinfo")).unwrap();
        machine
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let file = self.root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub(crate) fn policy(&self, text: &str) {
        self.write("etc/fairslice/policy.toml", text);
        self.apply();
    }

    /// Puts the policy in force, as the generator does.
    pub(crate) fn apply(&self) {
        let compiled = policy::compile(&policy::load(&self.root));
        fs::create_dir_all(self.root.join("run/fairslice")).unwrap();
        // What is looked at for traces of a session is not touched.
        if fs::read(self.root.join(COMPILED)).ok().as_ref() != Some(&compiled) {
            fs::write(self.root.join(COMPILED), compiled).unwrap();
        }
    }

    /// A directory of this owner and mode.
    pub(crate) fn directory(&self, path: &str, owner: u32, mode: u32) -> PathBuf {
        let directory = self.root.join(path);
        fs::create_dir_all(&directory).unwrap();
        chown(&directory, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    /// Puts the host into a login session of this user, whose slice weighs `weight`.
    pub(crate) fn in_slice_of(&self, uid: u32, weight: u32) {
        let slice = format!("user.slice/user-{uid}.slice");
        self.write("proc/self/cgroup", &format!("0::/{slice}/session-1.scope\n"));
        self.write("proc/self/oom_score_adj", "0\n");
        self.write("proc/meminfo", "MemTotal:       16000000 kB\n");
        self.write(&format!("sys/fs/cgroup/{slice}/cpu.weight"), &format!("{weight}\n"));
    }

    /// Has the host be started by a process of this number, which is in `cgroup`.
    pub(crate) fn started_by(&self, parent: u32, cgroup: &str) {
        self.stat(parent, 0);
        self.write(&format!("proc/{parent}/cgroup"), &format!("0::/{cgroup}\n"));
    }

    /// Has PID 1 have started the host on a terminal.
    pub(crate) fn on_a_terminal(&self) {
        self.stat(1, 1025);
    }

    fn stat(&self, parent: u32, terminal: u32) {
        let rest = "-1 0 0 0 0 0 0 0 0 0 0 20 0 1 0 9";
        self.write("proc/self/stat", &format!("4711 (pam_host) S {parent} 1 1 {terminal} {rest}\n"));
    }

    /// PID 1's socket, whose connections are each served by `script`.
    pub(crate) fn pid1(&self, script: impl Fn(UnixStream) + Send + 'static) {
        let listener = UnixListener::bind(self.root.join("run/systemd/private")).unwrap();
        thread::spawn(move || listener.incoming().for_each(|peer| script(peer.unwrap())));
    }

    /// Opens and closes one session.
    pub(crate) fn open(&self, user: impl AsRef<OsStr>) -> Told {
        self.session(&user).open()
    }

    pub(crate) fn session<'a>(&'a self, user: &'a (impl AsRef<OsStr> + ?Sized)) -> Sessions<'a> {
        let user = user.as_ref();
        Sessions { machine: self, user, number: 1, options: Vec::new(), before: "", after: "" }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

impl<'a> Sessions<'a> {
    pub(crate) fn number(self, number: u32) -> Self {
        Self { number, ..self }
    }

    /// Options of the host: see host.c.
    pub(crate) fn options(mut self, options: &[&'a str]) -> Self {
        self.options.extend(options);
        self
    }

    /// Shell commands before the host starts, in a mount namespace of its own, as root, in the machine's root.
    pub(crate) fn before(self, before: &'a str) -> Self {
        Self { before, ..self }
    }

    /// The same after it.
    pub(crate) fn after(self, after: &'a str) -> Self {
        Self { after, ..self }
    }

    /// Opens and closes them, and checks that they left no trace in the host.
    pub(crate) fn open(&self) -> Told {
        self.machine.apply();
        self.open_with_what_is_applied()
    }

    /// With the policy that was there when a session was last opened by [`Sessions::open`].
    pub(crate) fn open_with_what_is_applied(&self) -> Told {
        let ended = Arc::new(AtomicBool::new(false));
        let daemon = log_daemon(self.machine.log.try_clone().unwrap(), Arc::clone(&ended));
        // A backtrace would be printed by a panic that is not caught.
        let output = self.command().env("RUST_BACKTRACE", "1").output().unwrap();
        ended.store(true, Ordering::Release);
        let log = daemon.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the host ended with {}: {text}{errors}", output.status);
        assert_eq!(errors, "", "something was printed");

        let of = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            lines.map(str::to_owned).collect()
        };
        let (before, after) = (of("before"), of("after"));
        assert!(before.len() > 100, "the host told little: {text}");
        let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(before == after, "a trace was left in the host: {changed:?}");
        let keys = [
            "before",
            "after",
            "looked",
            "open",
            "close",
            "env",
            "asked",
            "failed",
            "milliseconds",
            "grown",
            "found",
        ];
        for line in text.lines() {
            let key = line.split(": ").next().unwrap();
            assert!(keys.contains(&key), "something was printed: {line:?}");
        }
        Told {
            open: of("open").concat(),
            close: of("close").concat(),
            environment: of("env"),
            asked: of("asked"),
            looked: of("looked").concat(),
            failed: of("failed").concat().parse().unwrap(),
            milliseconds: of("milliseconds").concat().parse().unwrap(),
            grown: of("grown").concat().trim_end_matches(" KiB").parse().unwrap_or(0),
            log,
            found: of("found"),
        }
    }

    fn command(&self) -> Command {
        let mut command = if is_root() {
            let script = format!(
                "set -e; cd \"$0\"; for file in passwd group nsswitch.conf; do mount --bind etc/$file /etc/$file; done\n\
                 {}\n\"$@\"\n{}\n",
                self.before, self.after
            );
            let mut command = Command::new("unshare");
            // The host is ended where it hangs, and the test fails.
            command.args(["--mount", "sh", "-c", &script]).arg(&self.machine.root).args(["timeout", "600"]);
            command.arg(host());
            command
        } else {
            assert!(self.before.is_empty() && self.after.is_empty(), "needs root");
            Command::new(host())
        };
        let pam_d = self.machine.root.join("pam.d");
        command
            .arg(pam_d)
            .arg(self.machine.service)
            .arg(self.user)
            .arg(self.number.to_string())
            .args(&self.options);
        command
    }
}

/// Reads the log until the host has ended and nothing is left in it.
fn log_daemon(socket: UnixDatagram, ended: Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    thread::spawn(move || {
        let mut lines = Vec::new();
        let mut datagram = [0; 8192];
        loop {
            let last = ended.load(Ordering::Acquire);
            match socket.recv(&mut datagram) {
                Ok(length) => lines.push(log_line(&datagram[..length])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if last {
                        return lines;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
}

/// Checks a datagram's frame and takes the line out of it.
fn log_line(datagram: &[u8]) -> String {
    let text = String::from_utf8(datagram.to_vec()).unwrap();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 4096, "{} bytes", text.len());
    // authpriv is facility 10; warning is severity 4, debug is 7.
    assert!(text.starts_with("<84>") || text.starts_with("<87>"), "{text}");
    let (frame, line) = text.split_once("]: ").unwrap();
    assert!(frame.contains("pam_host["), "{frame}");
    line.to_owned()
}

/// Reads what a client of PID 1 says up to the end of its call, and answers with `answer`.
pub(crate) fn answer(mut peer: UnixStream, answer: &[u8]) {
    authenticated(&mut peer);
    let mut call = [0; 4096];
    let _ = peer.read(&mut call);
    let _ = peer.write_all(answer);
    let _ = peer.read_to_end(&mut Vec::new());
}

/// Lets a client of PID 1 in.
pub(crate) fn authenticated(peer: &mut UnixStream) {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"BEGIN\r\n") && peer.read_exact(&mut byte).is_ok() {
        said.push(byte[0]);
    }
    let _ = peer.write_all(b"OK 00000000000000000000000000000000\r\n");
}
