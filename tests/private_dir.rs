//! `fairslice private-dir`: systemd-tmpfiles ages what is idle, whatever somebody puts in its way; and nothing of
//! a shared cache is moved.
//!
//! All of it needs root, and says so where it is somebody else.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use fairslice::effect::doctor::directories;
use fairslice::effect::finding::Fix;
use fairslice::enforce::private_dir;
use fairslice::policy;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Two users that every machine has.
const DAEMON: (&str, u32) = ("daemon", 1);
const BIN: (&str, u32) = ("bin", 2);

const SNIPPET: &str = "run/tmpfiles.d/fairslice.conf";
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

    /// Everything below `srv`: path, kind, owner, mode, links, time of the last change and content.
    fn tree(&self) -> String {
        let script =
            "find srv -printf '%p %y %U:%G %m %n %C@ %l\\n' | sort; find srv -type f | sort | xargs md5sum";
        let output = Command::new("sh").args(["-c", script]).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The lines of the snippet that are about a directory, and what was said.
    fn aged(&self) -> (Vec<String>, String) {
        let (code, out, err) = self.run(&["tmpfiles"]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        let text = fs::read_to_string(self.path(SNIPPET)).unwrap();
        (text.lines().skip(1).map(str::to_owned).collect(), err)
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

/// What root once moved: whatever is there, nothing of it is touched, and one line says where the recipe is.
#[test]
fn adopt_is_gone_and_touches_nothing() {
    if !as_root("adopt_is_gone_and_touches_nothing") {
        return;
    }
    let root = Root::new(POLICY);
    root.private("srv/cache/daemon", DAEMON);
    root.file("srv/cache/debug/deps/app-1f");
    root.file("srv/cache/debug/set-user-id");
    fs::set_permissions(root.path("srv/cache/debug/set-user-id"), fs::Permissions::from_mode(0o6755))
        .unwrap();
    // Of root's and of a third user's, moved in with mv; and a name of a file elsewhere.
    root.file("srv/cache/debug/roots");
    chown(root.path("srv/cache/debug/roots"), Some(0), Some(0)).unwrap();
    fs::set_permissions(root.path("srv/cache/debug/roots"), fs::Permissions::from_mode(0o600)).unwrap();
    root.file("srv/secret");
    chown(root.path("srv/secret"), Some(3), Some(3)).unwrap();
    fs::hard_link(root.path("srv/secret"), root.path("srv/cache/debug/linked")).unwrap();
    symlink("/etc/shadow", root.path("srv/cache/debug/link")).unwrap();
    let before = root.tree();
    for arguments in [
        &["adopt"][..],
        &["adopt", "/srv/cache", "--to", DAEMON.0],
        &["adopt", "--dry-run", "/srv/cache", "--variable", "CARGO_TARGET_DIR", "--to", DAEMON.0],
        &["adopt", "/srv/none", "--no-such-option"],
        &["adopt", "--help"],
    ] {
        let (code, out, err) = root.run(arguments);
        assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1), "{err}");
        assert!(err.contains("\"A cache that was there before\" in fairslice-policy(5)"), "{err}");
        assert_eq!(root.tree(), before);
    }
    let section = ".SS A cache that was there before\n";
    assert!(include_str!("../man/fairslice-policy.5").contains(section));
    // Anything else is wrong usage as ever.
    let (code, _, err) = root.run(&["adapt\u{1b}[2J"]);
    assert!(code == 2 && err.contains("unrecognized subcommand 'adapt\\x1b[2J'"), "{err}");
}

fn until(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        thread::sleep(std::time::Duration::from_millis(20));
        condition()
    })
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

    let (lines, err) = root.aged();
    assert_eq!(err, "");
    assert_eq!(
        lines,
        [
            r#"e "/srv/bin/we\\[i\\]r\\?d %%n \"x\\\\/2" - - - 1s"#,
            r#"e "/srv/cache/bin" - - - 1s"#,
            &format!("# /srv/cache/daemon: in use by sleep (pid {})", build.0.id()),
        ]
    );
    thread::sleep(std::time::Duration::from_millis(1100));
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

/// Where others could put something else in a directory's place, or nothing is known, nothing is aged.
#[test]
fn in_doubt_nothing_is_aged() {
    if !as_root("in_doubt_nothing_is_aged") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    let aged = [r#"e "/srv/cache/bin" - - - 1s"#];
    assert_eq!(root.aged().0, aged);

    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o1777)).unwrap();
    let (lines, err) = root.aged();
    assert!(err.contains("nothing in /srv/cache is aged: others than root can change it"), "{err}");
    assert_eq!(lines, [""; 0]);
    fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(root.aged().0, aged);

    fs::remove_dir_all(root.path("proc")).unwrap();
    let (code, _, err) = root.run(&["tmpfiles"]);
    assert!(code == 2 && err.contains("/proc"), "{err}");
    assert!(!root.path(SNIPPET).exists());
}

/// Goes down until the path is longer than the page that the kernel has for it, by names that are no UTF-8.
const GO_DEEP: &str = r"
import os
for _ in range(30):
    os.mkdir(b'\xff' * 200)
    os.chdir(b'\xff' * 200)
os.execv('/bin/sleep', ['sleep', '60'])
";

/// A process of the user's of which nobody can read where it is.
fn deep_down(root: &Root, (name, uid): (&str, u32)) -> Busy {
    root.private(name, (name, uid));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--clear-groups", "/usr/bin/python3", "-c", GO_DEEP]);
    let busy = root.sees(command.current_dir(root.path(name)));
    let of = |file: &str| format!("/proc/{}/{file}", busy.0.id());
    assert!(until(|| fs::read_to_string(of("comm")).is_ok_and(|name| name == "sleep\n")));
    assert_eq!(fs::read_link(of("cwd")).unwrap_err().raw_os_error(), Some(nix::libc::ENAMETOOLONG));
    busy
}

/// One process of which it cannot be told what it uses is no reason to age nothing: it spares what is its own
/// user's, and it is said.
#[test]
fn a_process_that_cannot_be_looked_at_spares_its_own_users_directory() {
    if !as_root("a_process_that_cannot_be_looked_at_spares_its_own_users_directory") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    root.private("srv/cache/daemon", DAEMON);
    let deep = deep_down(&root, BIN);
    let pid = deep.0.id();
    let (lines, err) = root.aged();
    assert_eq!(
        lines,
        [
            &format!("# /srv/cache/bin: may be in use by sleep (pid {pid})"),
            r#"e "/srv/cache/daemon" - - - 1s"#
        ]
    );
    let said: Vec<&str> = err.lines().collect();
    assert_eq!(
        said,
        [
            &format!(
                "fairslice: 1 process could not be looked at: sleep (pid {pid}): File name too long (os error 36)"
            ),
            &format!("fairslice: /srv/cache/bin is not aged: sleep (pid {pid}) may use it"),
        ]
    );
    // What else it has open is seen all the same; and root's processes spare nobody's.
    let lock = fs::File::open(root.path("srv/cache/daemon")).unwrap();
    let both = root.sees(Command::new("sleep").arg("60").stderr(lock));
    let _roots = deep_down(&root, ("root", 0));
    drop(deep);
    let (lines, err) = root.aged();
    let in_use = format!("# /srv/cache/daemon: in use by sleep (pid {})", both.0.id());
    assert_eq!(lines, [r#"e "/srv/cache/bin" - - - 1s"#, &in_use]);
    assert!(err.starts_with("fairslice: 1 process could not be looked at: sleep (pid "), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

/// Of a directory's owner or of root: nobody else can enter, and so nobody else can keep it from being aged.
#[test]
fn what_others_have_open_spares_nothing() {
    if !as_root("what_others_have_open_spares_nothing") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    let lock = || fs::File::open(root.path("srv/cache/bin")).unwrap();
    let mut daemons = Command::new("setpriv");
    daemons.args(["--reuid", "1", "--clear-groups", "sleep", "60"]).stderr(lock());
    let daemons = root.sees(&mut daemons);
    let status = format!("/proc/{}/status", daemons.0.id());
    assert!(until(|| fs::read_to_string(&status).unwrap().contains("Uid:\t1\t1\t1\t1\n")));
    assert_eq!(root.aged(), (vec![r#"e "/srv/cache/bin" - - - 1s"#.to_owned()], String::new()));
    let _roots = root.sees(Command::new("sleep").arg("60").stderr(lock()));
    assert!(root.aged().0[0].starts_with("# /srv/cache/bin: in use by sleep (pid "));
}

/// A build in a container has the directory under another name.
#[test]
fn a_directory_in_use_in_another_mount_namespace_is_spared() {
    let test = "a_directory_in_use_in_another_mount_namespace_is_spared";
    if !as_root(test) {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    fs::create_dir(root.path("work")).unwrap();
    let script = "mount --bind \"$0/srv/cache/bin\" \"$0/work\" && cd \"$0/work\" && echo > \"$0/ready\" && exec sleep 60";
    let container = root.sees(Command::new("unshare").args(["-m", "sh", "-c", script]).arg(root.0.path()));
    if !until(|| root.path("ready").exists()) {
        eprintln!("{test}: skipped: needs unshare -m and mount");
        return;
    }
    let (lines, _) = root.aged();
    assert!(lines[0].starts_with("# /srv/cache/bin: in use by s"), "{lines:?}");
    assert!(lines[0].ends_with(&format!("(pid {})", container.0.id())), "{lines:?}");
}

/// Builds `fuse.c` into the root.
fn fuse(root: &Root) -> PathBuf {
    let program = root.path("fuse");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuse.c");
    let compiled = Command::new("cc").args(["-std=gnu11", "-O1", "-o"]).arg(&program).arg(source).status();
    assert!(compiled.unwrap().success(), "apt-get install gcc libc6-dev");
    program
}

/// Runs a test in a mount namespace of this thread's own.
fn in_namespace(root: &Root, test: impl FnOnce() + Send) {
    // That of the thread, which is not the one of its process.
    fs::remove_file(root.path("proc/self")).unwrap();
    symlink("/proc/thread-self", root.path("proc/self")).unwrap();
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        test();
    };
    if let Err(panic) = thread::scope(|scope| scope.spawn(run).join()) {
        resume_unwind(panic);
    }
}

/// A file system of FUSE that never answers, mounted at `path` for a user.
fn mounted(fuse: &Path, point: &Path, (_, uid): (&str, u32)) -> Busy {
    let point = fs::canonicalize(point.parent().unwrap()).unwrap().join(point.file_name().unwrap());
    let uid = uid.to_string();
    let server = Busy(Command::new(fuse).arg(&point).args([&uid, &uid, "silent"]).spawn().unwrap());
    let mountinfo = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(until(|| mountinfo().contains(point.to_str().unwrap())), "not mounted: no FUSE?");
    server
}

/// What somebody has mounted on their directory need not answer: it is left out, and others are aged.
#[test]
fn what_somebody_has_mounted_is_not_asked() {
    if !as_root("what_somebody_has_mounted_is_not_asked") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    root.private("srv/cache/daemon", DAEMON);
    let fuse = fuse(&root);
    in_namespace(&root, || {
        let _server = mounted(&fuse, &root.path("srv/cache/bin"), BIN);
        let (lines, err) = root.aged();
        assert_eq!(err, "fairslice: not aged: /srv/cache/bin was mounted by uid 2\n");
        assert_eq!(lines, [r#"e "/srv/cache/daemon" - - - 1s"#]);
    });
}

/// Where somebody has mounted the root of private directories, doctor finds it, and is not kept waiting.
#[test]
fn a_root_that_somebody_has_mounted_is_found() {
    if !as_root("a_root_that_somebody_has_mounted_is_found") {
        return;
    }
    let root = Root::new(POLICY);
    root.private("srv/cache/daemon", DAEMON);
    let fuse = fuse(&root);
    let policy = policy::load(root.0.path()).policy;
    in_namespace(&root, || {
        let inspected = || private_dir::inspect(root.0.path(), &policy, &[DAEMON.1]).unwrap();
        assert_eq!(inspected(), (vec![], vec![]));
        // The user's own business.
        let own = mounted(&fuse, &root.path("srv/cache/daemon"), DAEMON);
        assert_eq!(inspected(), (vec![], vec![]));
        drop(own);
        let _server = mounted(&fuse, &root.path("srv/cache"), BIN);
        let (found, unread) = inspected();
        assert_eq!(unread, ["/srv/cache was mounted by uid 2"]);
        let [finding] = directories::findings(&found).try_into().unwrap();
        assert_eq!(finding.code.to_string(), "FS052");
        assert_eq!(finding.fix, Fix::Command("umount -l /srv/cache".to_owned()));
        assert!(finding.cause.contains("/srv/cache was mounted by uid 2, not by root"), "{finding:?}");
        assert!(Command::new("umount").arg("-l").arg(root.path("srv/cache")).status().unwrap().success());
        // The one below is gone with its server, and still a mount of the user's own.
        assert_eq!(inspected(), (vec![], vec![]));
    });
}
