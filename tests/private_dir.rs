//! `fairslice private-dir`: a cache is adopted whole or in part, at no moment is anything of it lost;
//! and systemd-tmpfiles ages what is idle.
//!
//! All of it needs root, and says so where it is somebody else.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Two users that every machine has.
const DAEMON: (&str, u32) = ("daemon", 1);
const BIN: (&str, u32) = ("bin", 2);

const POLICY: &str = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/cache/{user}\"\nmin_uid = 1\n";

fn as_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped: needs root");
    }
    root
}

struct Root(tempfile::TempDir);

impl Root {
    /// A machine without processes but for those that it [`sees`](Root::sees).
    fn new(policy: &str) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path("etc/fairslice")).unwrap();
        fs::write(root.path("etc/fairslice/policy.toml"), policy).unwrap();
        fs::create_dir_all(root.path("srv/cache")).unwrap();
        fs::create_dir(root.path("proc")).unwrap();
        symlink("/proc/self", root.path("proc/self")).unwrap();
        root
    }

    /// Puts a process into its `/proc`. The real one has processes that root cannot look into, where
    /// the tests run in a container.
    fn sees(&self, command: &mut Command) -> Busy {
        let busy = Busy(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let pid = busy.0.id();
        symlink(format!("/proc/{pid}"), self.path(&format!("proc/{pid}"))).unwrap();
        busy
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        command.arg("--root").arg(self.0.path()).arg("private-dir").args(arguments);
        command
    }

    /// The exit code, and what was printed.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn adopt(&self) -> (i32, String, String) {
        self.run(&["adopt", "/srv/cache", "--to", DAEMON.0])
    }

    /// A file whose content is its name, of uid 2.
    fn file(&self, path: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, path).unwrap();
        chown(&file, Some(BIN.1), Some(BIN.1)).unwrap();
    }

    /// A user's private directory, as a login makes it.
    fn private(&self, path: &str, (_, uid): (&str, u32)) {
        let directory = self.path(path);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(uid), Some(uid)).unwrap();
    }

    fn owner(&self, path: &str) -> u32 {
        fs::symlink_metadata(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}")).uid()
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Everything below `srv`: path, kind and owner.
    fn tree(&self) -> BTreeSet<String> {
        let output =
            Command::new("find").arg(self.path("srv")).args(["-printf", "%P %y %U %m %n\n"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn entries(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Ends a process when the test ends.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cache_becomes_the_users() {
    if !as_root("a_cache_becomes_the_users") {
        return;
    }
    let root = Root::new(POLICY);
    root.file("srv/cache/debug/deps/app-1f");
    fs::hard_link(root.path("srv/cache/debug/deps/app-1f"), root.path("srv/cache/debug/app")).unwrap();
    root.file("srv/cache/debug/helper");
    fs::set_permissions(root.path("srv/cache/debug/helper"), fs::Permissions::from_mode(0o6745)).unwrap();
    root.file("srv/cache/CACHEDIR.TAG");
    // Where it points to is nobody's business.
    symlink("/etc/passwd", root.path("srv/cache/debug/link")).unwrap();
    lchown(root.path("srv/cache/debug/link"), Some(BIN.1), Some(BIN.1)).unwrap();
    let etc_passwd = fs::metadata("/etc/passwd").unwrap().uid();
    root.private("srv/cache/bin", BIN);
    root.file("srv/cache/bin/own");
    let inode = fs::metadata(root.path("srv/cache/debug/deps/app-1f")).unwrap().ino();

    let before = root.tree();
    let preview = root.run(&["adopt", "/srv/cache", "--to", DAEMON.0, "--dry-run"]);
    assert_eq!(
        preview,
        (0, "/srv/cache: 5 files would be moved to /srv/cache/daemon, 0 left\n".to_owned(), String::new())
    );
    assert_eq!(root.tree(), before);

    let done = (0, "/srv/cache: 5 files moved to /srv/cache/daemon, 0 left\n".to_owned(), String::new());
    assert_eq!(root.adopt(), done);
    assert_eq!(root.entries("srv/cache"), ["bin", "daemon"]);
    assert_eq!(root.owner("srv/cache/bin/own"), BIN.1);
    let moved = fs::metadata(root.path("srv/cache/daemon/debug/app")).unwrap();
    assert_eq!((moved.ino(), moved.nlink(), moved.uid(), moved.gid()), (inode, 2, 1, 1));
    for path in ["", "/CACHEDIR.TAG", "/debug", "/debug/deps", "/debug/helper", "/debug/link"] {
        assert_eq!(root.owner(&format!("srv/cache/daemon{path}")), DAEMON.1, "{path}");
    }
    let helper = fs::metadata(root.path("srv/cache/daemon/debug/helper")).unwrap();
    assert_eq!(helper.mode() & 0o7777, 0o745);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().uid(), etc_passwd);
    // Nothing to do is no error.
    assert_eq!(root.adopt().1, "/srv/cache: 0 files moved to /srv/cache/daemon, 0 left\n");
}

#[test]
fn what_cannot_be_given_stays_where_it_is() {
    if !as_root("what_cannot_be_given_stays_where_it_is") {
        return;
    }
    let root = Root::new(POLICY);
    root.private("srv/cache/daemon", DAEMON);
    root.file("srv/cache/daemon/debug/taken");
    fs::write(root.path("srv/cache/daemon/debug/taken"), "the user's").unwrap();
    root.file("srv/cache/daemon/file");
    root.file("srv/cache/debug/taken");
    root.file("srv/cache/debug/new");
    root.file("srv/cache/debug/deps/new");
    root.file("srv/cache/file/but-here-a-directory");
    nix::unistd::mkfifo(&root.path("srv/cache/release/deps/fifo"), nix::sys::stat::Mode::S_IRWXU)
        .unwrap_err();
    root.file("srv/cache/release/deps/new");
    nix::unistd::mkfifo(&root.path("srv/cache/release/deps/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    // What an attacker would put there: a name of somebody else's file.
    root.file("srv/secret");
    fs::hard_link(root.path("srv/secret"), root.path("srv/cache/release/secret")).unwrap();
    // One name stays, so the other one does.
    root.file("srv/cache/twice");
    fs::hard_link(root.path("srv/cache/twice"), root.path("srv/cache/debug/again")).unwrap();
    root.file("srv/cache/daemon/twice");

    root.private("srv/cache/gone", ("", 54321));
    root.file("srv/cache/gone/own");

    let expected = [
        "/debug/again: 1 of its 2 hard links are elsewhere",
        "/debug/taken: the private directory has one of that name",
        "/file: the private directory has one of that name",
        "/gone: the private directory of uid 54321, who is gone",
        "/release/deps/fifo: no file, directory or link",
        "/release/secret: 1 of its 2 hard links are elsewhere",
        "/twice: the private directory has one of that name",
    ];
    for dry_run in [true, false] {
        let before = root.tree();
        let mut arguments = vec!["adopt", "/srv/cache", "--to", DAEMON.0];
        arguments.extend(dry_run.then_some("--dry-run"));
        let (code, out, err) = root.run(&arguments);
        assert_eq!(code, 1, "{err}");
        assert!(out.starts_with("/srv/cache: 3 files"), "{out}");
        let said: Vec<&str> = err.lines().collect();
        assert_eq!(said.len(), expected.len(), "{err}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(&format!("fairslice: left: /srv/cache{expected}")), "{said}");
        }
        if dry_run {
            assert_eq!(root.tree(), before);
        }
    }
    assert_eq!(root.entries("srv/cache"), ["daemon", "debug", "file", "gone", "release", "twice"]);
    assert_eq!(root.entries("srv/cache/debug"), ["again", "taken"]);
    assert_eq!(root.content("srv/cache/daemon/debug/taken"), "the user's");
    for path in ["debug/taken", "release/secret", "twice", "debug", "release/deps", "file"] {
        assert_ne!(root.owner(&format!("srv/cache/{path}")), DAEMON.1, "{path}");
    }
    assert_eq!(root.owner("srv/secret"), BIN.1);
    for path in ["debug/new", "debug/deps/new", "release/deps/new"] {
        assert_eq!(root.content(&format!("srv/cache/daemon/{path}")), format!("srv/cache/{path}"));
    }
    for path in ["debug/new", "debug/deps", "release", "release/deps", "release/deps/new"] {
        assert_eq!(root.owner(&format!("srv/cache/daemon/{path}")), DAEMON.1, "{path}");
    }
}

#[test]
fn a_cache_in_use_is_not_touched() {
    if !as_root("a_cache_in_use_is_not_touched") {
        return;
    }
    let root = Root::new(POLICY);
    root.file("srv/cache/debug/.cargo-lock");
    root.private("srv/cache/bin", BIN);
    root.file("srv/cache/bin/own");
    let before = root.tree();
    let lock = fs::File::open(root.path("srv/cache/debug/.cargo-lock")).unwrap();
    let users = [
        Command::new("sleep").arg("60").stderr(lock),
        Command::new("sleep").arg("60").current_dir(root.path("srv/cache/debug")),
    ]
    .map(|command| root.sees(command));
    for dry_run in [true, false] {
        let mut arguments = vec!["adopt", "/srv/cache", "--to", DAEMON.0];
        arguments.extend(dry_run.then_some("--dry-run"));
        let (code, _, err) = root.run(&arguments);
        assert_eq!(code, 2);
        for user in &users {
            assert!(err.contains(&format!("sleep (pid {})", user.0.id())), "{err}");
        }
        assert_eq!(root.tree(), before);
    }
    drop(users);
    // What somebody does in a directory that stays is no reason.
    let _elsewhere = [
        root.sees(Command::new("sleep").arg("60").current_dir(root.path("srv/cache/bin"))),
        root.sees(Command::new("sleep").arg("60").current_dir(root.path("srv/cache"))),
    ];
    let (code, _, err) = root.adopt();
    assert_eq!(code, 0, "{err}");
}

/// A build in a container has the directory under another name.
#[test]
fn a_cache_in_use_in_another_mount_namespace_is_not_touched() {
    if !as_root("a_cache_in_use_in_another_mount_namespace_is_not_touched") {
        return;
    }
    let root = Root::new(POLICY);
    root.file("srv/cache/debug/.cargo-lock");
    fs::create_dir(root.path("work")).unwrap();
    let script = "mount --bind \"$0/srv/cache/debug\" \"$0/work\" && cd \"$0/work\" && echo > \"$0/ready\" && exec sleep 60";
    let container = root.sees(Command::new("unshare").args(["-m", "sh", "-c", script]).arg(root.0.path()));
    if !wait_for(&root.path("ready")) {
        eprintln!(
            "a_cache_in_use_in_another_mount_namespace_is_not_touched: skipped: needs unshare -m and mount"
        );
        return;
    }
    let (code, _, err) = root.adopt();
    assert!(code == 2 && err.contains(&format!("(pid {})", container.0.id())), "{err}");
}

fn wait_for(file: &Path) -> bool {
    (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        file.exists()
    })
}

#[test]
fn other_file_systems_are_refused() {
    if !as_root("other_file_systems_are_refused") {
        return;
    }
    let root = Root::new(POLICY);
    fs::create_dir(root.path("mnt")).unwrap();
    root.file("srv/cache/debug/new");
    fs::create_dir(root.path("srv/cache/debug/mounted")).unwrap();
    let inside = |script: &str| {
        let script = format!("mount -t tmpfs none \"$R/mnt\" && mkdir \"$R/mnt/debug\" && {script}");
        let output = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .env("R", root.0.path())
            .env("F", env!("CARGO_BIN_EXE_fairslice"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    if inside("true").0 != Some(0) {
        eprintln!("other_file_systems_are_refused: skipped: needs unshare -m and mount");
        return;
    }
    let before = root.tree();
    let (code, err) = inside("\"$F\" --root \"$R\" private-dir adopt /mnt --to daemon");
    assert!(
        code == Some(2) && err.contains("is on another file system than /mnt, and nothing is copied"),
        "{err}"
    );
    assert_eq!(root.tree(), before);
    let mount = "mount --bind \"$R/mnt\" \"$R/srv/cache/debug/mounted\"";
    let (code, err) =
        inside(&format!("{mount} && \"$F\" --root \"$R\" private-dir adopt /srv/cache --to daemon"));
    assert!(code == Some(2) && err.contains("srv/cache/debug/mounted is a mount point: umount "), "{err}");
    assert_eq!(root.tree(), before);
}

#[test]
fn what_makes_no_sense_is_refused() {
    if !as_root("what_makes_no_sense_is_refused") {
        return;
    }
    let two = format!(
        "{POLICY}[private_dir.GOCACHE]\npath = \"/srv/go/{{user}}\"\nusers = [\"daemon\"]\nmin_uid = 1\n"
    );
    let root = Root::new(&two);
    root.file("srv/cache/debug/x");
    symlink("cache", root.path("srv/link")).unwrap();
    for (arguments, part) in [
        (&["/srv/cache", "--to", "daemon"][..], "add --variable with one of CARGO_TARGET_DIR, GOCACHE"),
        (
            &["/srv/cache", "--to", "bin", "--variable", "GOCACHE"],
            "no GOCACHE for bin: it has CARGO_TARGET_DIR",
        ),
        (&["/srv/cache", "--to", "root"], "no private directory for root"),
        (&["/srv/cache", "--to", "no-such-user"], "no user \"no-such-user\""),
        (&["/srv/none", "--to", "bin"], "opening /srv/none"),
        (&["/srv/link", "--to", "bin"], "/srv/link is a symbolic link or no directory"),
        (&["/srv/cache/../cache", "--to", "bin"], "without \"..\""),
        (&["/srv/cache/bin/debug", "--to", "bin"], "is (in) the private directory of bin already"),
    ] {
        let (code, _, err) = root.run(&[&["adopt"], arguments].concat());
        assert!(code == 2 && err.contains(part), "{part}: {err}");
    }
    let before = root.tree();
    // The private directory lies where only root can put something.
    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, _, err) = root.run(&["adopt", "/srv/cache", "--to", "bin"]);
    assert!(code == 2 && err.contains("/srv/cache can be changed by others than root"), "{err}");
    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(root.tree(), before);
}

/// What changes anything in the file system.
const CHANGES: [nix::libc::c_long; 9] = [
    nix::libc::SYS_renameat2,
    nix::libc::SYS_fchown,
    nix::libc::SYS_fchownat,
    nix::libc::SYS_fchmod,
    nix::libc::SYS_fchmodat,
    nix::libc::SYS_mkdirat,
    nix::libc::SYS_unlinkat,
    nix::libc::SYS_symlinkat,
    nix::libc::SYS_renameat,
];

/// Runs a command and kills it right before its change number `count`, counted from 0. Whether it came
/// that far.
#[expect(clippy::zombie_processes, reason = "waitpid(2) has seen it end")]
fn killed_before_change(command: &Command, count: usize) -> bool {
    let mut stopped = Command::new("sh");
    stopped
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    stopped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = stopped.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    ptrace::attach(pid).unwrap();
    waitpid(pid, None).unwrap();
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let (mut changes, mut entering) = (0, true);
    loop {
        ptrace::syscall(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                let call = ptrace::getregs(pid).unwrap().orig_rax;
                if entering && CHANGES.iter().any(|change| u64::try_from(*change) == Ok(call)) {
                    if changes == count {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        return true;
                    }
                    changes += 1;
                }
                entering = !entering;
            }
            WaitStatus::Exited(..) => return false,
            _ => {}
        }
    }
}

/// How often each content is there, whatever the names.
fn contents(root: &Root) -> BTreeMap<String, usize> {
    let mut contents = BTreeMap::new();
    let mut directories = vec![root.path("srv")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_file() {
                *contents.entry(fs::read_to_string(path).unwrap()).or_default() += 1;
            }
        }
    }
    contents
}

/// SIGKILL before each single change that an adoption makes: nothing is lost or twice there, and another
/// run ends where an uninterrupted one does.
#[test]
fn an_interrupted_adoption_loses_nothing_and_goes_on() {
    if !as_root("an_interrupted_adoption_loses_nothing_and_goes_on") {
        return;
    }
    let fresh = || {
        let root = Root::new(POLICY);
        root.private("srv/cache/daemon", DAEMON);
        root.private("srv/cache/bin", BIN);
        for file in
            ["bin/own", "daemon/debug/old", "daemon/taken", "taken", "debug/deps/a", "debug/b", "release/c"]
        {
            root.file(&format!("srv/cache/{file}"));
        }
        chown(root.path("srv/cache/daemon/debug"), Some(DAEMON.1), Some(DAEMON.1)).unwrap();
        // Across the entries that are moved one by one: their links are counted all the same.
        fs::hard_link(root.path("srv/cache/debug/deps/a"), root.path("srv/cache/release/a")).unwrap();
        root.file("srv/cache/doc/sub/secret");
        root.file("srv/cache/doc/sub/page");
        fs::hard_link(root.path("srv/cache/doc/sub/secret"), root.path("srv/secret")).unwrap();
        root
    };
    let whole = fresh();
    let expected = contents(&whole);
    assert_eq!(whole.adopt().0, 1);
    let finished = whole.tree();
    assert!(finished.contains("cache/daemon/release/a f 1 644 2"), "{finished:?}");

    let mut kills = 0;
    loop {
        let root = fresh();
        let adopt = root.command(&["adopt", "/srv/cache", "--to", DAEMON.0]);
        if !killed_before_change(&adopt, kills) {
            break;
        }
        assert_eq!(contents(&root), expected, "killed before change {kills}");
        // Once more, somewhere else.
        killed_before_change(&adopt, kills % 7);
        assert_eq!(contents(&root), expected, "killed before change {kills} and {}", kills % 7);
        let (code, _, err) = root.adopt();
        assert_eq!((code, err.lines().count()), (1, 2), "killed before change {kills}: {err}");
        assert_eq!(root.tree(), finished, "killed before change {kills}");
        kills += 1;
    }
    assert!(kills > 30, "only {kills} changes seen");
}

/// An adoption that was killed when the cache's one entry was in staging.
fn interrupted() -> Root {
    let killed = |change| {
        let root = Root::new(POLICY);
        root.private("srv/cache/daemon", DAEMON);
        root.file("srv/cache/debug/a");
        root.file("srv/other/b");
        assert!(killed_before_change(&root.command(&["adopt", "/srv/cache", "--to", DAEMON.0]), change));
        root
    };
    let root = (0..100).map(killed).find(|root| !root.path("srv/cache/debug").exists()).unwrap();
    assert!(!root.path("srv/cache/daemon/debug").exists());
    root
}

/// What was interrupted is finished before anything else goes the same way.
#[test]
fn another_cache_does_not_mix_with_an_interrupted_one() {
    if !as_root("another_cache_does_not_mix_with_an_interrupted_one") {
        return;
    }
    let root = interrupted();
    let (code, _, err) = root.run(&["adopt", "/srv/other", "--to", DAEMON.0]);
    assert!(
        code == 2 && err.contains("the adoption of /srv/cache was interrupted: finish it first"),
        "{err}"
    );
    // Nor is it taken for a part of the cache.
    assert_eq!(root.run(&["adopt", "/srv/cache", "--to", BIN.0]).0, 0);
    assert_eq!(root.entries("srv/cache/bin"), [""; 0]);
    assert_eq!(root.adopt().0, 0);
    assert_eq!(root.run(&["adopt", "/srv/other", "--to", DAEMON.0]).0, 0);
    assert_eq!(root.entries("srv/cache"), ["bin", "daemon"]);
    assert_eq!(root.entries("srv/cache/daemon"), ["b", "debug"]);
}

/// Meanwhile a build has made anew what it did not find.
#[test]
fn what_was_made_anew_after_an_interruption_is_adopted_too() {
    if !as_root("what_was_made_anew_after_an_interruption_is_adopted_too") {
        return;
    }
    let root = interrupted();
    root.file("srv/cache/debug/b");
    let (code, _, err) = root.adopt();
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(root.entries("srv/cache/daemon/debug"), ["a", "b"]);
    assert_eq!(root.entries("srv/cache"), ["daemon"]);

    // A file that can go neither on nor back is named with its place, until somebody decides.
    let root = interrupted();
    root.file("srv/cache/debug/a");
    root.file("srv/cache/daemon/debug/a");
    let staged = "/srv/cache/.fairslice-adopt.CARGO_TARGET_DIR.1/tree/debug/a";
    for _ in 0..2 {
        let (code, _, err) = root.adopt();
        assert_eq!(code, 1);
        assert!(err.contains(&format!("left: /srv/cache/debug/a: the private directory has one of that name: compare them, and remove one; it is now {staged}\n")), "{err}");
    }
    assert_eq!(contents(&root)["srv/cache/debug/a"], 2);
    fs::remove_file(root.path("srv/cache/daemon/debug/a")).unwrap();
    fs::remove_file(root.path("srv/cache/debug/a")).unwrap();
    assert_eq!(root.adopt().0, 0);
    assert_eq!(root.entries("srv/cache"), ["daemon"]);
    assert_eq!(root.content("srv/cache/daemon/debug/a"), "srv/cache/debug/a");
}

const AGED: &str = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/cache/{user}\"\nmax_age = \"1s\"\n\
                    [private_dir.SCCACHE_DIR]\npath = \"/srv/{group}/we[i]r?d %n \\\"x\\\\/{uid}\"\nmax_age = \"1s\"\n\
                    [private_dir.GOCACHE]\npath = \"/srv/go/{user}\"\n";

/// The real systemd-tmpfiles, with the lines that were written for it.
#[test]
fn idle_directories_are_aged_and_nothing_else() {
    if !as_root("idle_directories_are_aged_and_nothing_else") {
        return;
    }
    let root = Root::new(AGED);
    let weird = "srv/bin/we[i]r?d %n \"x\\";
    fs::create_dir_all(root.path(weird)).unwrap();
    fs::create_dir(root.path("srv/go")).unwrap();
    for (path, user) in [
        ("srv/cache/daemon", DAEMON),
        ("srv/cache/bin", BIN),
        // A name that is not its owner's.
        ("srv/cache/games", BIN),
        (&format!("{weird}/2"), BIN),
        ("srv/go/bin", BIN),
    ] {
        root.private(path, user);
        root.file(&format!("{path}/debug/old"));
    }
    // The shared cache that was there before.
    root.file("srv/cache/debug/old");
    // A user may put a link anywhere below, and a stranger's where others can write.
    symlink(root.path("srv/go/bin"), root.path("srv/cache/bin/link")).unwrap();
    symlink(root.path("srv/go"), root.path("srv/cache/sys")).unwrap();
    root.file("srv/cache/daemon/debug/.cargo-lock");
    let lock = fs::File::open(root.path("srv/cache/daemon/debug/.cargo-lock")).unwrap();
    let build = root.sees(Command::new("sleep").arg("60").stderr(lock));

    let snippet = root.path("run/tmpfiles.d/fairslice.conf");
    let (code, _, err) = root.run(&["tmpfiles"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let text = fs::read_to_string(&snippet).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            r#"e "/srv/bin/we\\[i\\]r\\?d %%n \"x\\\\/2" - - - 1s"#,
            r#"e "/srv/cache/bin" - - - 1s"#,
            &format!("# /srv/cache/daemon: in use by sleep (pid {})", build.0.id()),
        ]
    );
    std::thread::sleep(std::time::Duration::from_millis(1100));
    clean(&root);
    let left = |path: &str| root.path(path).exists();
    assert!(left("srv/cache/bin") && !left("srv/cache/bin/debug") && !left("srv/cache/bin/link"));
    assert!(left(&format!("{weird}/2")) && !left(&format!("{weird}/2/debug")));
    for path in ["cache/daemon", "cache/games", "cache", "go/bin"] {
        assert!(
            left(&format!("srv/{path}/debug/old")) || path == "cache" && left("srv/cache/debug/old"),
            "{path}"
        );
    }
    drop(build);
    assert_eq!(root.run(&["tmpfiles"]).0, 0);
    clean(&root);
    assert!(left("srv/cache/daemon") && !left("srv/cache/daemon/debug"));
}

/// systemd-tmpfiles with nothing but our lines.
fn clean(root: &Root) {
    let output = Command::new("systemd-tmpfiles")
        .args(["--clean", "fairslice.conf", "--root"])
        .arg(root.0.path())
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Where it cannot be told what is in use, or others could put something else in a directory's place,
/// nothing is aged.
#[test]
fn in_doubt_nothing_is_aged() {
    if !as_root("in_doubt_nothing_is_aged") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    let snippet = root.path("run/tmpfiles.d/fairslice.conf");
    let aged =
        || fs::read_to_string(&snippet).is_ok_and(|text| text.lines().any(|line| line.starts_with("e ")));
    assert_eq!(root.run(&["tmpfiles"]).0, 0);
    assert!(aged());

    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o1777)).unwrap();
    let (code, _, err) = root.run(&["tmpfiles"]);
    assert_eq!(code, 0);
    assert!(err.contains("/srv/cache/bin is not aged: others than root can change"), "{err}");
    assert!(!aged());
    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(root.run(&["tmpfiles"]).0, 0);
    assert!(aged());

    fs::remove_dir_all(root.path("proc")).unwrap();
    let (code, _, err) = root.run(&["tmpfiles"]);
    assert!(code == 2 && err.contains("/proc"), "{err}");
    assert!(!snippet.exists());
}
