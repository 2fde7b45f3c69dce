//! Whatever is missing, broken, full, slow or hostile: the login succeeds within its time, and one line
//! says what was skipped.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::machine::{
    ALICE, COMPILED, LIMIT, Machine, PAM_SESSION_ERR, PAM_SUCCESS, Told, answer, as_root, authenticated,
    is_sanitized,
};

const PRIVATE_DIR: &str = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n";
const WEIGHT: &str = "[logins]\ncpu_weight = 200\n";

/// It opened in time, got no variable, and one line says `why`.
fn assert_skipped(told: &Told, why: &str) {
    assert_eq!(
        (told.open.as_str(), told.close.as_str(), told.failed),
        (PAM_SUCCESS, PAM_SUCCESS, 0),
        "{why}"
    );
    assert_eq!(told.environment, [""; 0], "{why}");
    assert_eq!(told.log.len(), 1, "{why}: {:?}", told.log);
    assert!(told.log[0].contains(why), "{:?} is not {why:?}", told.log);
    assert!(told.milliseconds < LIMIT, "{why}: took {} ms", told.milliseconds);
}

type Prepare = fn(&Machine);

const POLICY: &str = "etc/fairslice/policy.toml";

fn remove_policy(machine: &Machine) {
    fs::remove_file(machine.root.join(POLICY)).unwrap();
}

#[test]
fn a_policy_that_cannot_be_used() {
    let cases: [(&str, Prepare); 12] = [
        ("policy.toml: cannot be read: No such file", remove_policy),
        ("policy.toml:1:", |machine| machine.policy("[slice")),
        ("policy.toml: declares nothing", |machine| machine.policy("")),
        ("policy.toml: is not UTF-8", |machine| {
            fs::write(machine.root.join(POLICY), b"\xff\xfe").unwrap();
        }),
        ("policy.toml: holds a NUL byte", |machine| machine.policy("a\0b")),
        ("policy.toml: cannot be read: it is not a regular file", |machine| {
            remove_policy(machine);
            fs::create_dir(machine.root.join(POLICY)).unwrap();
        }),
        ("policy.toml: cannot be read: it is not a regular file", |machine| {
            remove_policy(machine);
            assert!(Command::new("mkfifo").arg(machine.root.join(POLICY)).status().unwrap().success());
        }),
        ("policy.toml: cannot be read: it is not a regular file", |machine| {
            remove_policy(machine);
            symlink("..", machine.root.join(POLICY)).unwrap();
        }),
        ("policy.toml: cannot be read: Too many levels", |machine| {
            remove_policy(machine);
            symlink("policy.toml", machine.root.join(POLICY)).unwrap();
        }),
        ("policy.toml: cannot be read: it is larger than 1 MiB", |machine| {
            File::create(machine.root.join(POLICY)).unwrap().set_len(100 << 20).unwrap();
        }),
        ("policy.toml: cannot be read: it is larger than 1 MiB", |machine| {
            fs::write(machine.root.join(POLICY), vec![b'x'; 100 << 20]).unwrap();
        }),
        ("policy.d: cannot be read: it is not a directory", |machine| {
            machine.write("etc/fairslice/policy.d", "");
        }),
    ];
    for (why, prepare) in cases {
        let machine = Machine::new("");
        prepare(&machine);
        assert_skipped(&machine.open("root"), why);
    }
    // Root reads everything: so the system call is made to fail.
    let unreadable = Machine::new("").session("root").options(&["open=13"]).open();
    assert_skipped(&unreadable, "policy.compiled cannot be read: Permission denied");
    let machine = Machine::new("");
    fs::remove_file(machine.root.join(COMPILED)).unwrap();
    assert_skipped(
        &machine.session("root").open_with_what_is_applied(),
        "is not there: run \"fairslice apply\"",
    );
    let strict = Machine::new("strict");
    strict.policy("nonsense = 1\n");
    assert_eq!(strict.open("root").open, PAM_SESSION_ERR);
}

#[test]
fn a_machine_without_proc_and_cgroupfs() {
    let machine = Machine::new("");
    fs::remove_dir_all(machine.root.join("proc")).unwrap();
    assert_skipped(&machine.open("root"), "OOM score not set: reading ");

    if !as_root("a_machine_without_proc_and_cgroupfs") {
        return;
    }
    let machine = Machine::new("");
    machine.policy(WEIGHT);
    machine.in_slice_of(ALICE, 200);
    fs::remove_dir_all(machine.root.join("sys")).unwrap();
    assert_skipped(&machine.open("alice"), "no such socket");
}

#[test]
fn a_private_directory_that_cannot_be_made() {
    if !as_root("a_private_directory_that_cannot_be_made") {
        return;
    }
    let tmpfs = |options: &str| format!("mount -t tmpfs -o mode=755,{options} none srv");
    let home = "mkdir -p srv; mount -t tmpfs -o mode=755 none srv; mkdir srv/home srv/home/alice; chown 4001:4001 srv/home/alice; ";
    let users = |command: &str| format!("{home}{command}");
    // What stands in the machine before, and in which way the host's calls fail.
    let cases: [(&str, String, &[&str]); 14] = [
        ("/srv does not exist: make it, owned by root", "rmdir srv".into(), &[]),
        (
            "making /srv/alice: No space left on device: its file system has no space or no inodes left",
            tmpfs("nr_inodes=1"),
            &[],
        ),
        ("making /srv/alice: Read-only file system: mount its file system writable", tmpfs("ro"), &[]),
        ("making /srv/alice: Quota exceeded: raise the quota of uid 4001", String::new(), &["mkdirat=122"]),
        ("giving the user /srv/alice: Quota exceeded", String::new(), &["fchown=122"]),
        // What an NFS server with root_squash answers.
        ("making /srv/alice: Operation not permitted even for root", String::new(), &["mkdirat=1"]),
        ("making /srv/alice: Permission denied even for root", String::new(), &["mkdirat=13"]),
        ("giving the user /srv/alice: Operation not permitted even for root", String::new(), &["fchown=1"]),
        (
            "setting the mode of /srv/alice: Operation not permitted even for root",
            String::new(),
            &["fchmod=1"],
        ),
        ("making /srv/alice: I/O error", String::new(), &["mkdirat=5"]),
        ("making /srv/home/alice/.cache: Read-only file system", users("mount -o remount,ro srv"), &[]),
        (
            "making /srv/home/alice/.cache: Permission denied for uid 4001",
            users("chmod 500 srv/home/alice"),
            &[],
        ),
        (
            "making /srv/home/alice/.cache/alice: Permission denied for uid 4001",
            users("mkdir srv/home/alice/.cache"),
            &[],
        ),
        (
            "setting the mode of /srv/home/alice/.cache: Operation not permitted for uid 4001",
            users(":"),
            &["fchmod=1"],
        ),
    ];
    for (why, before, options) in &cases {
        let machine = Machine::new("");
        let path = if before.starts_with(home) { "/srv/home/{user}/.cache/{user}" } else { "/srv/{user}" };
        machine.policy(&format!("[private_dir.CARGO_TARGET_DIR]\npath = \"{path}\"\n"));
        machine.directory("srv", 0, 0o755);
        // Nothing is left that would be refused at the next login, of root's above all.
        let after = "find srv -name alice -user 0 -printf 'found: %p\\n'; find srv -name .cache -user 4001 -printf 'found: %p\\n'";
        let after = if before.starts_with("rmdir") { "" } else { after };
        let told = machine.session("alice").before(before).after(after).options(options).open();
        assert_skipped(&told, why);
        assert_eq!(told.found, [""; 0], "{why}");
    }
}

#[test]
fn no_memory() {
    let root = as_root("no_memory");
    for options in [["malloc=65536"], ["address-space=1"], ["address-space=200"]] {
        let machine = Machine::new("");
        machine.policy(&format!("{WEIGHT}{PRIVATE_DIR}"));
        let user = if root { "alice" } else { "root" };
        let told = machine.session(user).options(&options).open();
        assert_skipped(&told, "pam_fairslice(test:session): not enough memory: nothing done");
        let strict = Machine::new("strict");
        assert_eq!(strict.session(user).options(&options).open().open, PAM_SESSION_ERR);
    }
    // Wherever the line is: on neither side of it does the host end.
    let machine = Machine::new("");
    for kib in (1..1000).step_by(37) {
        let told = machine.session("root").options(&[&format!("address-space={kib}")]).open();
        assert_eq!(told.open, PAM_SUCCESS, "{kib} KiB");
    }
    // A large policy needs more; where there is that much, it is used.
    let mut large = String::from(WEIGHT);
    for number in 0..20_000 {
        writeln!(large, "[logins.user.u{number}]\ncpu_weight = 300").unwrap();
    }
    machine.policy(&large);
    let little = machine.session("root").options(&["address-space=8192"]).open();
    assert_skipped(&little, "policy.compiled cannot be read: out of memory");
    let enough = machine.session("root").options(&["address-space=65536"]).open();
    assert_eq!((enough.open.as_str(), enough.log), (PAM_SUCCESS, vec![]));
}

#[test]
fn a_user_that_is_not_set_or_does_not_exist() {
    for (user, line) in [
        ("", "pam_fairslice(test:session): PAM_USER is not set: nothing done"),
        ("no-such-user", "pam_fairslice(test:session): user no-such-user: no such user: nothing done"),
    ] {
        // The host sets no PAM_TTY, PAM_RHOST or PAM_RUSER, here and everywhere.
        assert_skipped(&Machine::new("").open(user), line);
        let strict = Machine::new("strict").open(user);
        // libpam closes only what it could open, so that the other code is its own.
        assert_eq!((strict.open.as_str(), strict.log), (PAM_SESSION_ERR, vec![line.to_owned()]));
    }
}

#[test]
fn user_names_that_are_none() {
    let no_text = Machine::new("").open(OsStr::from_bytes(b"\xff\n\xfe"));
    assert_skipped(&no_text, r"user \xff\n\xfe: the name is not UTF-8: nothing done");
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
        "a\u{202e}b\u{2028}c",
        &long,
    ] {
        let machine = Machine::new("");
        machine.policy(PRIVATE_DIR);
        fs::create_dir(machine.root.join("srv")).unwrap();
        assert_skipped(&machine.open(user), "no");
        assert_eq!(fs::read_dir(machine.root.join("srv")).unwrap().count(), 0, "{user:?}");
    }
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
    assert!(told.milliseconds < LIMIT, "took {} ms", told.milliseconds);
}

type Script = fn(UnixStream);

fn read_all(mut peer: UnixStream) {
    let _ = peer.read_to_end(&mut Vec::new());
}

fn say_without_end(mut peer: UnixStream, what: &[u8]) {
    let block = what.repeat((1 << 20) / what.len());
    // 1 GiB, if it were read.
    for _ in 0..1024 {
        if peer.write_all(&block).is_err() {
            return;
        }
    }
}

#[test]
fn a_pid1_that_misbehaves() {
    if !as_root("a_pid1_that_misbehaves") {
        return;
    }
    let scripts: [(&str, Script); 11] = [
        ("hung up", drop),
        ("hung up", |mut peer| {
            // On a client that is about to say more: what raises SIGPIPE in a careless one.
            let _ = peer.write_all(b"OK 00000000000000000000000000000000\r\n");
        }),
        ("hung up", |mut peer| {
            authenticated(&mut peer);
            let _ = peer.read(&mut [0; 4096]);
            let _ = peer.write_all(b"l\x02\x01\x01\0\0\0\0");
        }),
        ("where OK belongs", |mut peer| {
            let _ = peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            read_all(peer);
        }),
        ("within the time limit", read_all),
        ("more than the 65536", |peer| answer(peer, b"l\x02\x01\x01\0\0\0\x40\x07\0\0\0\x08\0\0\0")),
        ("within the time limit", |mut peer| {
            while peer.write_all(b"O").is_ok() {
                thread::sleep(Duration::from_millis(30));
            }
        }),
        ("more without an end of line", |peer| say_without_end(peer, b"garbage\xff\0")),
        ("not systemd", |mut peer| {
            authenticated(&mut peer);
            say_without_end(peer, b"garbage\xff\0");
        }),
        // Signals, which a busy systemd sends too: skipped, but not without end.
        (if is_sanitized() { "" } else { "no reply" }, |mut peer| {
            authenticated(&mut peer);
            say_without_end(peer, b"l\x04\x01\x01\0\0\0\0\x07\0\0\0\0\0\0\0");
        }),
        // The same in the largest messages that are read.
        ("", |mut peer| {
            authenticated(&mut peer);
            let mut message = b"l\x04\x01\x01\0\xf0\0\0\x07\0\0\0\0\0\0\0".to_vec();
            message.resize(16 + 0xf000, 0);
            say_without_end(peer, &message);
        }),
    ];
    thread::scope(|scope| {
        for (why, script) in scripts {
            for options in [&[][..], &["interrupted"]] {
                scope.spawn(move || {
                    let machine = Machine::new("");
                    machine.policy(WEIGHT);
                    machine.in_slice_of(ALICE, 100);
                    machine.pid1(script);
                    assert_skipped(&machine.session("alice").options(options).open(), why);
                });
            }
        }
    });
}

#[test]
fn a_pid1_that_is_not_there_or_takes_nobody() {
    if !as_root("a_pid1_that_is_not_there_or_takes_nobody") {
        return;
    }
    let machine = Machine::new("");
    machine.policy(WEIGHT);
    machine.in_slice_of(ALICE, 100);
    assert_skipped(&machine.open("alice"), "no such socket");
    let socket = machine.root.join("run/systemd/private");
    let listener = UnixListener::bind(&socket).unwrap();
    // Nobody accepts: the kernel lets a client connect and write all the same, until the backlog is full.
    assert_skipped(&machine.open("alice"), "within the time limit");
    drop(listener);
    assert_skipped(&machine.open("alice"), "nobody listens on the socket");
    fs::remove_file(&socket).unwrap();
    machine.write("run/systemd/private", "");
    assert_skipped(&machine.open("alice"), "nobody listens on the socket");
}
