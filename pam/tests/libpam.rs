//! The real module through the real libpam, in a host program that tells what changed in it.
//!
//! Everything that the module reads lies in a directory of the test (`root=DIR`): the policy, what
//! stands for `/proc` and `/sys`, PID 1's socket and the log's. Users and groups are the machine's.
//! What needs root is skipped, and says so, where the tests run as somebody else.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and most of this file is helpers of tests"
)]

mod built;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PAM_SUCCESS: &str = "0";
const PAM_SESSION_ERR: &str = "14";
/// The module's own limit on waiting for PID 1.
const LIMIT: u32 = 2000;
/// How much longer than that opening may take on a loaded machine, in milliseconds.
const GRACE: u32 = 1500;

/// The module.
fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(built::module)
}

/// The host program.
fn host() -> &'static Path {
    static HOST: OnceLock<PathBuf> = OnceLock::new();
    HOST.get_or_init(|| built::program("pam_host", "host.c"))
}

/// A directory that stands for the machine, with a PAM configuration in it and its log.
struct Machine {
    root: PathBuf,
    log: UnixDatagram,
    /// The name of the PAM configuration.
    service: &'static str,
}

/// What the host told.
struct Told {
    open: String,
    close: String,
    environment: Vec<String>,
    milliseconds: u32,
    /// KiB; zero if there were fewer than ten sessions.
    grown: i64,
    /// The log's lines, without priority, time, program and process id.
    log: Vec<String>,
}

impl Machine {
    /// `arguments` are the module's, besides `root=`.
    fn new(arguments: &str) -> Self {
        Self::with_service("test", arguments)
    }

    fn with_service(service: &'static str, arguments: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Not below the target directory: the path of a socket has room for 108 bytes.
        let root = std::env::temp_dir().join(format!("pam_fairslice-{}-{number}", process::id()));
        for directory in ["dev", "etc/fairslice", "pam.d", "proc/self", "run/systemd"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
        let (module, at) = (module().display(), root.display());
        let line = format!("session required {module} root={at} {arguments}\n");
        fs::write(root.join("pam.d").join(service), line).unwrap();
        fs::write(root.join("pam.d/other"), "").unwrap();
        let log = UnixDatagram::bind(root.join("dev/log")).unwrap();
        let machine = Self { root, log, service };
        machine.write("etc/fairslice/policy.toml", "[logins]\ncpu_weight = 100\n");
        machine.write("proc/self/oom_score_adj", "0\n");
        machine
    }

    fn write(&self, file: &str, text: &str) {
        let file = self.root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Puts the host into a login session of this user, whose slice weighs `weight`.
    fn in_slice_of(&self, uid: u32, weight: u32) {
        let slice = format!("user.slice/user-{uid}.slice");
        self.write("proc/self/cgroup", &format!("0::/{slice}/session-1.scope\n"));
        self.write("proc/self/oom_score_adj", "0\n");
        self.write("proc/meminfo", "MemTotal:       16000000 kB\n");
        self.write(&format!("sys/fs/cgroup/{slice}/cpu.weight"), &format!("{weight}\n"));
    }

    /// PID 1's socket, whose connections are each served by `script`.
    fn pid1(&self, script: impl Fn(UnixStream) + Send + 'static) {
        let listener = UnixListener::bind(self.root.join("run/systemd/private")).unwrap();
        thread::spawn(move || listener.incoming().for_each(|peer| script(peer.unwrap())));
    }

    fn open(&self, user: &str) -> Told {
        self.open_often(user, 1, &[])
    }

    /// Opens and closes sessions in the host, and checks that they left no trace in it.
    fn open_often(&self, user: &str, sessions: u32, options: &[&str]) -> Told {
        let ended = Arc::new(AtomicBool::new(false));
        let daemon = log_daemon(self.log.try_clone().unwrap(), Arc::clone(&ended));
        let output = Command::new(host())
            .arg(self.root.join("pam.d"))
            .args([self.service, user, &sessions.to_string()])
            .args(options)
            // A backtrace would be printed by a panic that is not caught.
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
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
        assert_eq!(before.join("\n"), after.join("\n"), "a trace was left in the host");
        let keys = ["before", "after", "open", "close", "env", "milliseconds", "grown"];
        for line in text.lines() {
            let key = line.split(": ").next().unwrap();
            assert!(keys.contains(&key), "something was printed: {line:?}");
        }
        Told {
            open: of("open").concat(),
            close: of("close").concat(),
            environment: of("env"),
            milliseconds: of("milliseconds").concat().parse().unwrap(),
            grown: of("grown").concat().trim_end_matches(" KiB").parse().unwrap_or(0),
            log,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
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

/// Whether the test may go on; says what is needed where it may not.
fn as_root(test: &str) -> bool {
    // The owner of what a process makes is its effective user.
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("{test}: skipped: needs root");
    }
    root
}

/// The name and number of a person's account on this machine, if there is one.
fn person(test: &str) -> Option<(String, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let uid = fields.get(2)?.parse().ok()?;
        (1000..60000).contains(&uid).then(|| (fields[0].to_owned(), uid))
    });
    if found.is_none() {
        eprintln!("{test}: skipped: needs a user with a number from 1000 on: useradd alice");
    }
    found
}

/// Reads what a client of PID 1 says up to the end of its call, and answers with `answer`.
fn answer(mut peer: UnixStream, answer: &[u8]) {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"BEGIN\r\n") && peer.read_exact(&mut byte).is_ok() {
        said.push(byte[0]);
    }
    let _ = peer.write_all(b"OK 00000000000000000000000000000000\r\n");
    let mut call = [0; 4096];
    let _ = peer.read(&mut call);
    let _ = peer.write_all(answer);
    let _ = peer.read_to_end(&mut Vec::new());
}

/// An empty reply to a client's first call: the field `REPLY_SERIAL`, 1.
const DONE: &[u8] = b"l\x02\x01\x01\0\0\0\0\x07\0\0\0\x08\0\0\0\x05\x01u\0\x01\0\0\0";

#[test]
fn a_session_of_nobody_in_particular() {
    let told = Machine::new("").open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS));
    assert_eq!(told.environment, [""; 0]);
}

#[test]
fn a_thousand_sessions_leave_no_more_than_one() {
    let machine = Machine::new("debug");
    let told = machine.open_often("nobody-of-that-name", 1000, &[]);
    assert_eq!(told.open, PAM_SUCCESS);
    assert_eq!(told.log.len(), 1000);
    assert!(told.grown < 256, "memory grew by {} KiB in 900 sessions", told.grown);
}

#[test]
fn a_user_that_is_not_set_or_does_not_exist() {
    for (user, line) in [
        ("", "pam_fairslice(test:session): PAM_USER is not set: nothing done"),
        ("no-such-user", "pam_fairslice(test:session): user no-such-user: no such user: nothing done"),
    ] {
        let told = Machine::new("").open(user);
        assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS), "{user}");
        assert_eq!(told.log, [line]);
        let strict = Machine::new("strict").open(user);
        // libpam closes only what it could open, so that the other code is its own.
        assert_eq!(strict.open, PAM_SESSION_ERR);
        assert_eq!(strict.log, [line]);
    }
}

#[test]
fn user_names_that_are_none() {
    let long = "x".repeat(10_000);
    for user in [
        "/",
        "..",
        ".",
        "../../etc",
        "a/b",
        "a\nb",
        "a\tb\u{1b}[2J\u{7f}",
        " ",
        "-",
        "é",
        "a:b",
        "%s%n",
        "root\nsshd[1]: Accepted password for root",
        "{user}",
        &long,
    ] {
        let machine = Machine::new("");
        machine
            .write("etc/fairslice/policy.toml", "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n");
        fs::create_dir(machine.root.join("srv")).unwrap();
        let told = machine.open(user);
        assert_eq!(told.open, PAM_SUCCESS, "{user:?}");
        assert_eq!(told.environment, [""; 0], "{user:?}");
        assert_eq!(told.log.len(), 1, "{user:?}: {:?}", told.log);
        assert_eq!(fs::read_dir(machine.root.join("srv")).unwrap().count(), 0, "{user:?}");
    }
}

#[test]
fn arguments_that_are_none() {
    let told = Machine::new("Debug root=relative no_warn").open("root");
    assert_eq!(told.open, PAM_SUCCESS);
    let prefix = "pam_fairslice(test:session): ";
    let expected = [
        format!("{prefix}argument Debug is ignored: none of strict, debug, root=DIR"),
        format!("{prefix}root=relative is ignored: not an absolute path"),
        format!("{prefix}argument no_warn is ignored: none of strict, debug, root=DIR"),
    ];
    assert_eq!(told.log, expected);
}

#[test]
fn a_log_that_is_missing_or_not_read() {
    let machine = Machine::new("");
    fs::remove_file(machine.root.join("dev/log")).unwrap();
    assert_eq!(machine.open("no-such-user").open, PAM_SUCCESS);

    // Its queue is full, and nobody reads.
    let _full = UnixDatagram::bind(machine.root.join("dev/log")).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"full", machine.root.join("dev/log")).is_ok() {}
    let told = machine.open("no-such-user");
    assert_eq!(told.open, PAM_SUCCESS);
    assert!(told.milliseconds < GRACE, "took {} ms", told.milliseconds);
}

#[test]
fn a_policy_that_is_missing_or_broken() {
    let machine = Machine::new("");
    let large = vec![b'x'; 10 << 20];
    for broken in [&b"[slice"[..], b"", b"\xff\xfe", b"a\0b", large.as_slice()] {
        fs::write(machine.root.join("etc/fairslice/policy.toml"), broken).unwrap();
        let told = machine.open("root");
        assert_eq!(told.open, PAM_SUCCESS);
        assert_eq!(told.log.len(), 1, "{:?}", told.log);
        assert!(told.log[0].contains("policy.toml"), "{:?}", told.log);
    }
    fs::remove_file(machine.root.join("etc/fairslice/policy.toml")).unwrap();
    assert_eq!(machine.open("root").log.len(), 1);
    fs::create_dir(machine.root.join("etc/fairslice/policy.toml")).unwrap();
    assert_eq!(machine.open("root").log.len(), 1);
    let strict = Machine::new("strict");
    strict.write("etc/fairslice/policy.toml", "nonsense = 1\n");
    assert_eq!(strict.open("root").open, PAM_SESSION_ERR);
}

#[test]
fn a_private_directory_and_its_variable() {
    let test = "a_private_directory_and_its_variable";
    let Some((user, uid)) = person(test).filter(|_| as_root(test)) else { return };
    let machine = Machine::new("debug strict");
    let policy = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\nonly_if = \"/srv\"\n";
    machine.write("etc/fairslice/policy.toml", policy);
    let none = machine.open(&user);
    assert_eq!((none.open.as_str(), none.environment.len()), (PAM_SUCCESS, 0), "{:?}", none.log);

    fs::create_dir(machine.root.join("srv")).unwrap();
    for _ in ["made", "found"] {
        let told = machine.open(&user);
        assert_eq!(told.open, PAM_SUCCESS, "{:?}", told.log);
        assert_eq!(told.environment, [format!("CARGO_TARGET_DIR=/srv/{user}")]);
        let said = format!("pam_fairslice(test:session): user {user}: set CARGO_TARGET_DIR=/srv/{user}");
        assert_eq!(told.log, [said]);
        let directory = fs::metadata(machine.root.join("srv").join(&user)).unwrap();
        // Whatever the host's umask is: 0137 would take away the right to enter.
        assert_eq!((directory.uid(), directory.mode() & 0o7777), (uid, 0o700));
    }
}

#[test]
fn a_private_directory_that_is_somebody_elses_trap() {
    let test = "a_private_directory_that_is_somebody_elses_trap";
    let Some((user, _)) = person(test).filter(|_| as_root(test)) else { return };
    let machine = Machine::new("");
    let policy = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\nonly_if = \"/srv\"\n";
    machine.write("etc/fairslice/policy.toml", policy);
    fs::create_dir_all(machine.root.join("srv")).unwrap();
    fs::create_dir_all(machine.root.join("elsewhere")).unwrap();
    let trap = machine.root.join("srv").join(&user);
    std::os::unix::fs::symlink(machine.root.join("elsewhere"), &trap).unwrap();
    let told = machine.open(&user);
    assert_eq!((told.open.as_str(), told.environment.len()), (PAM_SUCCESS, 0));
    assert_eq!(told.log.len(), 1, "{:?}", told.log);
    assert_eq!(fs::metadata(machine.root.join("elsewhere")).unwrap().uid(), 0, "given away through the link");

    fs::remove_file(&trap).unwrap();
    fs::create_dir(&trap).unwrap();
    let told = machine.open(&user);
    assert_eq!((told.open.as_str(), told.environment.len()), (PAM_SUCCESS, 0));
    assert_eq!(fs::metadata(&trap).unwrap().uid(), 0, "repaired by chown");
}

#[test]
fn a_private_directory_where_others_may_write() {
    let test = "a_private_directory_where_others_may_write";
    let Some((user, uid)) = person(test).filter(|_| as_root(test)) else { return };
    let machine = Machine::new("");
    let policy = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n";
    machine.write("etc/fairslice/policy.toml", policy);
    let parent = machine.root.join("srv");
    fs::create_dir(&parent).unwrap();
    for mode in [0o775, 0o757] {
        fs::set_permissions(&parent, fs::Permissions::from_mode(mode)).unwrap();
        let told = machine.open(&user);
        assert_eq!((told.open.as_str(), told.environment.len()), (PAM_SUCCESS, 0));
        assert!(told.log[0].contains("can be changed by others than root"), "{:?}", told.log);
        assert!(!parent.join(&user).exists());
    }
    // Where it is sticky, nobody can take away what root made.
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(machine.open(&user).environment.len(), 1);
    // But a directory that somebody else made first is not the user's.
    fs::remove_dir(parent.join(&user)).unwrap();
    fs::create_dir(parent.join(&user)).unwrap();
    std::os::unix::fs::chown(parent.join(&user), Some(uid + 1), None).unwrap();
    assert_eq!(machine.open(&user).environment.len(), 0);
    // A directory on the way that is not root's could be replaced at will.
    fs::remove_dir(parent.join(&user)).unwrap();
    std::os::unix::fs::chown(&parent, Some(uid), None).unwrap();
    let told = machine.open(&user);
    assert_eq!(told.environment.len(), 0);
    assert!(told.log[0].contains("not to root"), "{:?}", told.log);
}

#[test]
fn the_weight_of_the_users_slice() {
    let test = "the_weight_of_the_users_slice";
    let Some((user, uid)) = person(test) else { return };
    let machine = Machine::new("strict");
    machine.write("etc/fairslice/policy.toml", "[logins]\ncpu_weight = 200\n");
    // PID 1 is asked for what differs, and for nothing else.
    machine.in_slice_of(uid, 200);
    assert_eq!(machine.open(&user).open, PAM_SUCCESS);
    machine.in_slice_of(uid, 100);
    let told = machine.open(&user);
    assert_eq!(told.open, PAM_SESSION_ERR);
    assert!(told.log.concat().contains("no such socket"), "{:?}", told.log);
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open(&user);
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 0), "{:?}", told.log);
    // Recorded once, for the day when the package is removed.
    let record = machine.root.join(format!("run/fairslice/properties/user-{uid}.slice"));
    assert_eq!(fs::read_to_string(&record).unwrap(), "CPUWeight\n");
    assert_eq!(fs::metadata(&record).unwrap().mode() & 0o022, 0);
}

#[test]
fn a_negative_score_that_was_inherited() {
    let Some((user, uid)) = person("a_negative_score_that_was_inherited") else { return };
    let score = |machine: &Machine| fs::read_to_string(machine.root.join("proc/self/oom_score_adj")).unwrap();
    let machine = Machine::new("strict");
    for (inherited, left) in [("-1000\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")] {
        machine.write("proc/self/oom_score_adj", inherited);
        assert_eq!(machine.open(&user).open, PAM_SUCCESS);
        assert_eq!(score(&machine), left, "was {inherited}");
    }
    // What is declared is for logins, not for a session that cron opens.
    machine.write("etc/fairslice/policy.toml", "[logins]\noom_score_adj = 200\n");
    machine.open(&user);
    assert_eq!(score(&machine), "300\n");
    machine.in_slice_of(uid, 100);
    machine.open(&user);
    assert_eq!(score(&machine), "200");
    // Root's jobs keep what their service was given.
    let machine = Machine::new("strict");
    machine.write("proc/self/oom_score_adj", "-500\n");
    assert_eq!(machine.open("root").open, PAM_SUCCESS);
    assert_eq!(score(&machine), "-500\n");
}

/// A machine on which sshd opens a session that is in no user's slice.
fn misplaced(service: &'static str, arguments: &str) -> Machine {
    let machine = Machine::with_service(service, arguments);
    machine.in_slice_of(0, 100);
    machine.write("proc/self/cgroup", "0::/system.slice/ssh.service\n");
    machine
}

#[test]
fn a_login_that_logind_did_not_place() {
    if !as_root("a_login_that_logind_did_not_place") {
        return;
    }
    let systemd = |machine: &Machine| fs::create_dir(machine.root.join("run/systemd/system")).unwrap();
    // PID 1 agrees, and moves it some time later.
    let machine = misplaced("sshd", "strict");
    systemd(&machine);
    let cgroup = machine.root.join("proc/self/cgroup");
    machine.pid1(move |peer| {
        answer(peer, DONE);
        fs::write(&cgroup, "0::/user.slice/user-0.slice/fairslice-login-1.scope\n").unwrap();
    });
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS), "{:?}", told.log);
    assert!(fs::read_to_string(machine.root.join("proc/self/cgroup")).unwrap().contains("user-0.slice"));

    // It agrees, and does nothing.
    let machine = misplaced("sshd", "");
    systemd(&machine);
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 1), "{:?}", told.log);
    assert!(
        told.log[0].contains("not placed in user-0.slice: waiting for fairslice-login-"),
        "{:?}",
        told.log
    );
    assert!(told.milliseconds < LIMIT + GRACE, "took {} ms", told.milliseconds);

    // What is no login is none of PID 1's business.
    let machine = misplaced("cron", "strict");
    systemd(&machine);
    assert_eq!(machine.open("root").open, PAM_SUCCESS);
}

#[test]
fn a_login_that_cannot_be_placed_without_systemd() {
    if !as_root("a_login_that_cannot_be_placed_without_systemd") {
        return;
    }
    let machine = misplaced("sshd", "");
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS));
    assert!(told.log.concat().contains("not placed in user-0.slice: no cgroup2"), "{:?}", told.log);

    // Here the slices can be made, and the scope cannot be entered: what was begun is undone.
    for attribute in ["cgroup.controllers", "cgroup.subtree_control", "user.slice/cgroup.subtree_control"] {
        machine.write(&format!("sys/fs/cgroup/{attribute}"), "cpu\n");
    }
    let told = machine.open_often("root", 20, &[]);
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 20), "{:?}", told.log);
    assert!(told.log[0].contains("not placed in user-0.slice: writing 0 to "), "{:?}", told.log);
    let left = |directory: &str| fs::read_dir(machine.root.join(directory)).unwrap().count();
    assert_eq!(left("run/fairslice/sessions"), 0);
    assert_eq!(left("sys/fs/cgroup/user.slice/user-0.slice"), 1, "only cpu.weight");
    assert_eq!(fs::metadata(machine.root.join("run/fairslice/sessions")).unwrap().mode() & 0o077, 0);

    fs::create_dir(machine.root.join("run/systemd/seats")).unwrap();
    assert!(machine.open("root").log.concat().contains("elogind runs"));
}

type Script = fn(UnixStream);

#[test]
fn a_pid1_that_misbehaves() {
    let test = "a_pid1_that_misbehaves";
    let Some((user, uid)) = person(test) else { return };
    let scripts: [(&str, Script); 6] = [
        ("hung up", drop),
        ("hung up", |peer| answer_and_leave(peer)),
        ("where OK belongs", |mut peer| {
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = peer.read_to_end(&mut Vec::new());
        }),
        ("within the time limit", |mut peer| {
            let _ = peer.read_to_end(&mut Vec::new());
        }),
        ("more than the 65536", |peer| answer(peer, b"l\x02\x01\x01\0\0\0\x40\x07\0\0\0\x08\0\0\0")),
        ("within the time limit", |mut peer| {
            while peer.write_all(b"O").is_ok() {
                thread::sleep(Duration::from_millis(30));
            }
        }),
    ];
    for (reason, script) in scripts {
        for options in [&[][..], &["interrupted"]] {
            let machine = Machine::new("");
            machine.write("etc/fairslice/policy.toml", "[logins]\ncpu_weight = 200\n");
            machine.in_slice_of(uid, 100);
            machine.pid1(script);
            let told = machine.open_often(&user, 1, options);
            assert_eq!(told.open, PAM_SUCCESS);
            assert_eq!(told.log.len(), 1, "{:?}", told.log);
            assert!(told.log[0].contains(reason), "{:?} is not {reason:?}", told.log);
            assert!(told.milliseconds < LIMIT + GRACE, "{reason}: took {} ms", told.milliseconds);
        }
    }
}

/// Hangs up on a client that is about to say more: what raises SIGPIPE in a careless one.
fn answer_and_leave(mut peer: UnixStream) {
    let _ = peer.write_all(b"OK 00000000000000000000000000000000\r\n");
}
