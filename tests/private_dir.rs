//! `fairslice private-dir`: what is idle is aged, whatever somebody puts in its way; and nothing of a shared cache is
//! moved.
//!
//! All of it needs root, and says so where it is somebody else.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use fairslice::doctor::directories;
use fairslice::doctor::finding::Fix;
use fairslice::enforce::private_dir::{self, Wanted};
use fairslice::host::account::Account;
use fairslice::policy;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

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

    /// Gives each directory something old, and ages. The directories of which it went, and what was said.
    fn aged<const N: usize>(&self, directories: [&'static str; N]) -> (Vec<&'static str>, Vec<String>) {
        for directory in directories {
            let owner = fs::metadata(self.path(directory)).unwrap().uid();
            self.file(&format!("{directory}/debug/deps/old"));
            self.file(&format!("{directory}/debug/.cargo-lock"));
            for path in ["debug", "debug/.cargo-lock", "debug/deps", "debug/deps/old"] {
                chown(self.path(&format!("{directory}/{path}")), Some(owner), Some(owner)).unwrap();
            }
        }
        thread::sleep(OLD);
        let (code, out, err) = self.run(&["age"]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        let is_gone = |directory: &&str| !self.path(directory).join("debug").exists();
        let said = err.lines().map(|line| line.strip_prefix("fairslice: ").unwrap().to_owned());
        let (removals, said): (Vec<_>, Vec<_>) = said.partition(|line| line.contains(" is removed: "));
        let gone: Vec<&str> = directories.into_iter().filter(is_gone).collect();
        let removed = gone
            .iter()
            .map(|directory| format!("/{directory}/debug is removed: nobody has used it for so long"));
        assert_eq!(BTreeSet::from_iter(removals), removed.collect());
        (gone, said)
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

/// The state that causes each finding, and then what is printed for it.
#[test]
fn every_fix_of_a_directory_works() {
    if !as_root("every_fix_of_a_directory_works") {
        return;
    }
    let policy = |path: &str, more: &str| {
        format!("[private_dir.CARGO_TARGET_DIR]\npath = \"{path}\"\nmin_uid = 1\n{more}")
    };
    let plain = policy("/srv/cache/{user}", "");
    let shared = policy("/srv/cache/{user}", "trusted_groups = [\"tty\"]\n");
    let home = policy("{home}/target", "");
    let missing = policy("/srv/cache/more/{user}", "");
    for (code, policy, cause, expected) in [
        ("FS050", &plain, "chown bin srv/cache/daemon", "mv /srv/cache/daemon /srv/cache/daemon.old"),
        (
            "FS050",
            &home,
            "install -d -o bin usr/sbin/target",
            "runuser -u daemon -- mv /usr/sbin/target /usr/sbin/target.old",
        ),
        ("FS051", &plain, "chmod 702 srv/cache/daemon", "chmod go-w /srv/cache/daemon"),
        ("FS051", &plain, "chmod 750 srv/cache/daemon", "chmod 0700 /srv/cache/daemon"),
        (
            "FS051",
            &home,
            "install -d -o daemon -m 750 usr/sbin/target",
            "runuser -u daemon -- chmod 0700 /usr/sbin/target",
        ),
        ("FS052", &plain, "chown bin srv/cache", "chown root /srv/cache"),
        ("FS052", &plain, "chmod 777 srv/cache", "chmod go-w /srv/cache"),
        ("FS052", &shared, "chgrp tty srv/cache; chmod 2777 srv/cache", "chmod o-w /srv/cache"),
        ("FS052", &home, "chmod 777 usr/sbin", "chmod go-w /usr/sbin"),
        (
            "FS053",
            &plain,
            "rm -r srv/cache/daemon; ln -s /tmp srv/cache/daemon",
            "mv /srv/cache/daemon /srv/cache/daemon.old",
        ),
        (
            "FS053",
            &home,
            "touch usr/sbin/target",
            "runuser -u daemon -- mv /usr/sbin/target /usr/sbin/target.old",
        ),
        ("FS054", &missing, "rmdir srv/cache/more", "install -d -m 755 /srv/cache/more"),
        ("FS055", &plain, "touch srv/cache/daemon/roots", "fairslice private-dir reclaim daemon"),
        // What is to be written, as one would do it.
        ("FS052", &plain, "chgrp tty srv/cache; chmod 2775 srv/cache", "chmod +t /srv/cache"),
        (
            "FS052",
            &plain,
            "chgrp tty srv/cache; chmod 2775 srv/cache",
            "add trusted_groups: echo 'trusted_groups = [\"tty\"]' >> etc/fairslice/policy.toml",
        ),
        (
            "FS053",
            &plain,
            "rm -r srv/cache; touch srv/cache",
            "declare another path: sed -i s,/cache,, etc/fairslice/policy.toml",
        ),
    ] {
        let root = Root::new(policy);
        root.private("srv/cache/daemon", DAEMON);
        fs::create_dir_all(root.path("usr/sbin")).unwrap();
        if code == "FS054" {
            fs::create_dir(root.path("srv/cache/more")).unwrap();
        }
        chown(root.path("usr/sbin"), Some(DAEMON.1), Some(DAEMON.1)).unwrap();
        fs::set_permissions(root.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sh = |line: &str| {
            let output = Command::new("sh").arg("-ec").arg(line).current_dir(root.0.path()).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        };
        let found = || {
            let loaded = policy::load(root.0.path()).policy;
            directories::findings(&private_dir::inspect(root.0.path(), &loaded, &[DAEMON.1]).unwrap().0)
        };
        assert_eq!(found(), [], "{cause}");
        sh(cause);
        let all = found();
        let [finding] = all.as_slice() else { panic!("{cause}: {all:#?}") };
        assert_eq!(finding.code.to_string(), code, "{cause}");
        let todo = match &finding.fix {
            Fix::Command(command) => {
                assert_eq!(command, expected, "{cause}");
                command.as_str()
            }
            Fix::Edit(words) => {
                let (said, command) = expected.split_once(": ").unwrap_or((expected, expected));
                assert!(words.contains(said), "{cause}: {words}");
                command
            }
            fix => panic!("{fix:?}"),
        };
        let ours = format!("{} --root {}", env!("CARGO_BIN_EXE_fairslice"), root.0.path().to_str().unwrap());
        let here = root.0.path().to_str().unwrap();
        let todo = todo.replace(" /", &format!(" {here}/"));
        sh(&todo.replace("fairslice private", &format!("{ours} private")));
        assert_eq!(found(), [], "{cause}");
    }
}

/// `only_if` above the root of private directories: a login makes what is missing below it, whatever the umask.
#[test]
fn the_root_of_private_directories_is_made_where_the_workspace_is() {
    if !as_root("the_root_of_private_directories_is_made_where_the_workspace_is") {
        return;
    }
    let test = "made_under_a_strict_umask";
    let mut this = Command::new("sh");
    this.args(["-c", "umask 077; exec \"$0\" --ignored --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(test);
    let output = this.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[test]
#[ignore = "run by another, with its umask"]
fn made_under_a_strict_umask() {
    let account = |name: &str| Account::by_name(name).unwrap().unwrap();
    // Which workspace, what is made of it, and what each user gets.
    // The group of sync has others in it, that of daemon has not.
    for (workspace, user, made, gets) in [
        ("root:root 755", "daemon", "root:root 755", [true, true]),
        ("root:nogroup 2775", "sync", "sync:nogroup 2775", [true, false]),
        ("root:nogroup 2770", "sync", "sync:nogroup 2770", [true, false]),
        ("root:daemon 2775", "daemon", "daemon:daemon 2775", [true, false]),
        ("root:root 1777", "daemon", "root:root 755", [true, true]),
    ] {
        let users = [account(user), account("bin")];
        let root = Root::new(
            "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/team/a/b/{user}\"\nonly_if = \"/srv/team\"\n\
             trusted_groups = [\"nogroup\"]\nmin_uid = 1\n",
        );
        for directory in ["", "srv"] {
            fs::set_permissions(root.path(directory), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let loaded = policy::load(root.0.path()).policy;
        let declared = loaded.private_dirs.values().next().unwrap();
        let login = |user: &Account| {
            let Ok(Wanted::Directory(filled)) = private_dir::wanted(root.0.path(), declared, user) else {
                return None;
            };
            let looked = private_dir::look(root.0.path(), &filled.directory, user, declared);
            let made = private_dir::ensure(root.0.path(), &filled.directory, user, declared);
            assert_eq!(looked.is_ok(), made.is_ok(), "{looked:?} {made:?}");
            Some(made.is_ok())
        };
        // No workspace: nothing is made, and nothing is said.
        assert_eq!(users.each_ref().map(login), [None; 2]);
        assert!(!root.path("srv/team").exists());
        let (owner, mode) = workspace.split_once(' ').unwrap();
        fs::create_dir(root.path("srv/team")).unwrap();
        for arguments in [["chown", owner], ["chmod", mode]] {
            let [program, to] = arguments;
            assert!(Command::new(program).arg(to).arg(root.path("srv/team")).status().unwrap().success());
        }
        assert_eq!(users.each_ref().map(login), gets.map(Some), "{workspace}");
        let stat = |path: &str| {
            let output = Command::new("stat").args(["-c", "%U:%G %a"]).arg(root.path(path)).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
        };
        assert_eq!([stat("srv/team/a"), stat("srv/team/a/b")], [made; 2], "{workspace}");
        let own = stat(&format!("srv/team/a/b/{user}"));
        assert!(own.starts_with(&format!("{user}:")) && own.ends_with(" 700"), "{own}");
        assert_eq!(root.path("srv/team/a/b/bin").exists(), gets[1]);
        assert_eq!(stat("srv/team"), format!("{owner} {mode}"));
    }
}

/// `sudo -E cargo build`, and the cure that doctor names. Nothing is given away that is not root's build.
#[test]
fn what_root_built_there_becomes_the_users() {
    if !as_root("what_root_built_there_becomes_the_users") {
        return;
    }
    let root = Root::new(POLICY);
    root.private("srv/cache/daemon", DAEMON);
    let own = |path: &str| root.path("srv/cache/daemon").join(path);
    let policy = policy::load(root.0.path()).policy;
    let findings =
        || directories::findings(&private_dir::inspect(root.0.path(), &policy, &[DAEMON.1]).unwrap().0);
    assert_eq!(findings(), []);
    fs::create_dir_all(root.path("ws/src")).unwrap();
    fs::write(root.path("ws/Cargo.toml"), "[package]\nname = \"app\"\nversion = \"0.1.0\"\n").unwrap();
    fs::write(root.path("ws/src/main.rs"), "fn main() {}\n").unwrap();
    let cargo = |more: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--offline"]).args(more).current_dir(root.path("ws"));
        let output =
            cargo.env("CARGO_TARGET_DIR", own("")).env_remove("CARGO_BUILD_BUILD_DIR").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap().contains("Compiling")
    };
    // Half of it is the user's.
    assert!(cargo(&[]));
    let mut chown = Command::new("chown");
    chown.args(["-R", "daemon:daemon"]).arg(own("debug/deps")).arg(own("debug/.fingerprint"));
    assert!(chown.status().unwrap().success());
    std::os::unix::fs::chown(own("debug"), Some(DAEMON.1), None).unwrap();
    assert!(cargo(&["--release"]));
    symlink("app", own("debug/link")).unwrap();

    // Also over a link of root's.
    fs::rename(root.path("srv"), root.path("disk")).unwrap();
    symlink("disk", root.path("srv")).unwrap();
    let [finding] = findings().try_into().unwrap();
    assert_eq!(finding.code.to_string(), "FS055");
    let roots = fs::read_dir(own("")).unwrap().chain(fs::read_dir(own("debug")).unwrap());
    let roots = roots.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().uid() == 0).count();
    assert!(
        finding.what.starts_with(&format!("{roots} of what is in it belong to others, the first ")),
        "{finding:?}"
    );
    assert_eq!(finding.fix, Fix::Command("fairslice private-dir reclaim daemon".to_owned()));
    let (code, out, err) = root.run(&["reclaim", "daemon"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("made daemon's own: ") && out.ends_with(" files\n"), "{out}");
    assert_eq!(findings(), []);
    let count = |test: &[&str]| {
        let found = Command::new("find").arg(own("")).args(test).output().unwrap();
        String::from_utf8(found.stdout).unwrap().lines().count()
    };
    assert_eq!(count(&["!", "-user", "daemon"]), 0);
    assert_eq!(fs::read_link(own("debug/link")).unwrap(), Path::new("app"));
    // Cargo sees no difference.
    assert!(!cargo(&[]) && !cargo(&["--release"]));

    // What the user could have brought here.
    root.file("srv/secret");
    fs::set_permissions(root.path("srv/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    root.file("srv/public");
    for (name, file) in [("secret", "srv/secret"), ("public", "srv/public")] {
        std::os::unix::fs::chown(root.path(file), Some(0), Some(0)).unwrap();
        fs::hard_link(root.path(file), own(name)).unwrap();
    }
    for (name, mode) in [("private", 0o700), ("shared", 0o2775)] {
        fs::create_dir(own(name)).unwrap();
        fs::set_permissions(own(name), fs::Permissions::from_mode(mode)).unwrap();
        fs::write(own(name).join("file"), "").unwrap();
    }
    let (code, _, err) = root.run(&["reclaim", "daemon"]);
    let mut left: Vec<&str> = err.lines().collect();
    left.sort_unstable();
    assert_eq!(
        (code, left),
        (
            2,
            vec![
                "fairslice: /disk/cache/daemon/private is left as it is: it is root's, and not everybody may read it: remove it",
                "fairslice: /disk/cache/daemon/secret is left as it is: reading it as the user (remove it): Permission denied (os error 13)",
                "fairslice: /disk/cache/daemon/shared is left as it is: it is root's, and others can write to it: remove it",
            ]
        )
    );
    let owner = |path: PathBuf| fs::metadata(path).unwrap().uid();
    assert_eq!(
        [owner(root.path("srv/secret")), owner(root.path("srv/public")), owner(own("private/file"))],
        [0; 3]
    );
    assert_eq!(owner(own("public")), DAEMON.1);
    assert_eq!(findings().len(), 1);
    let (code, _, err) = root.run(&["reclaim", "nobody-here"]);
    assert!(code == 2 && err.contains("there is no user \"nobody-here\""), "{err}");
}

fn until(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        thread::sleep(Duration::from_millis(20));
        condition()
    })
}

const AGED: &str = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/cache/{user}\"\nmax_age = \"1s\"\n\
                    [private_dir.CARGO_BUILD_BUILD_DIR]\npath = \"/srv/{group}/we[i]r?d %n \\\"x\\\\/{uid}/{workspace-path-hash}\"\nmax_age = \"1s\"\n\
                    [private_dir.GOCACHE]\npath = \"/srv/go/{user}\"\n";
/// Older than a second, in whole ones.
const OLD: Duration = Duration::from_millis(1100);

#[test]
fn idle_directories_are_aged_and_nothing_else() {
    if !as_root("idle_directories_are_aged_and_nothing_else") {
        return;
    }
    let root = Root::new(AGED);
    let weird = "srv/bin/we[i]r?d %n \"x\\";
    fs::create_dir_all(root.path(weird)).unwrap();
    fs::create_dir(root.path("srv/go")).unwrap();
    let weird = "srv/bin/we[i]r?d %n \"x\\/2";
    for (path, user) in [
        ("srv/cache/daemon", DAEMON),
        ("srv/cache/bin", BIN),
        // A name that is not its owner's.
        ("srv/cache/games", BIN),
        (weird, BIN),
        ("srv/go/bin", BIN),
    ] {
        root.private(path, user);
    }
    // The shared cache that was there before.
    root.file("srv/cache/debug/old");
    // A user may put a link anywhere below, and a stranger's where others can write.
    symlink(root.path("srv/go/bin"), root.path("srv/cache/bin/link")).unwrap();
    symlink(root.path("srv/go"), root.path("srv/cache/sys")).unwrap();
    // Files right in it are not what fills a disk; one of them keeps backups away.
    root.file("srv/cache/bin/CACHEDIR.TAG");
    root.file("srv/cache/bin/release/.cargo-lock");
    chown(root.path("srv/cache/bin/release"), Some(BIN.1), None).unwrap();
    let all = ["srv/cache/daemon", "srv/cache/bin", "srv/cache/games", weird, "srv/go/bin"];
    fs::create_dir(root.path("srv/cache/daemon/debug")).unwrap();
    let lock = fs::File::create(root.path("srv/cache/daemon/debug/.cargo-lock")).unwrap();
    chown(root.path("srv/cache/daemon/debug/.cargo-lock"), Some(DAEMON.1), None).unwrap();
    let build = root.sees(Command::new("sleep").arg("60").stderr(lock));
    // One thing that is new spares all that is around it.
    let deep = "srv/cache/bin/release/deps/new";
    root.file(deep);
    chown(root.path("srv/cache/bin/release/deps"), Some(BIN.1), None).unwrap();
    let soon = fs::FileTimes::new().set_modified(SystemTime::now() + Duration::from_secs(60));
    fs::File::open(root.path(deep)).unwrap().set_times(soon).unwrap();
    assert_eq!(root.aged(all), (vec!["srv/cache/bin", weird], vec![]));
    for path in [
        "cache/bin/CACHEDIR.TAG",
        "cache/bin/link",
        "cache/bin/release/deps/new",
        "cache/debug/old",
        "go/bin",
    ] {
        assert!(root.path("srv").join(path).symlink_metadata().is_ok(), "{path}");
    }
    drop(build);
    assert_eq!(root.aged(["srv/cache/daemon"]), (vec!["srv/cache/daemon"], vec![]));
}

/// Whose process nobody sees, such as one on another machine or one that has just begun.
#[test]
fn cargos_lock_spares_what_is_built() {
    if !as_root("cargos_lock_spares_what_is_built") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    for target in ["debug", "x86_64-unknown-linux-musl/release"] {
        let lock = format!("srv/cache/bin/{target}/.cargo-lock");
        root.file(&lock);
        for path in [target, target.split('/').next().unwrap()] {
            chown(root.path("srv/cache/bin").join(path), Some(BIN.1), None).unwrap();
        }
        let build =
            Command::new("flock").arg(root.path(&lock)).args(["sleep", "60"]).stdin(Stdio::null()).spawn();
        let build = Busy(build.unwrap());
        let is_held =
            || !Command::new("flock").arg("-n").arg(root.path(&lock)).arg("true").status().unwrap().success();
        assert!(until(is_held));
        root.aged([]);
        assert!(root.path(&lock).exists(), "{target}");
        // flock(1) hands its lock on.
        let child = fs::read_to_string(format!("/proc/{0}/task/{0}/children", build.0.id())).unwrap();
        assert!(Command::new("kill").args(child.split_whitespace()).status().unwrap().success());
        drop(build);
        assert!(until(|| !is_held()));
        assert_eq!(root.run(&["age"]).0, 0);
        assert!(!root.path(&lock).exists(), "{target}");
    }
}

/// What is not all the user's to remove stays as a whole, and is said; so does what could not be removed at once.
#[test]
fn what_cannot_be_removed_as_a_whole_stays() {
    if !as_root("what_cannot_be_removed_as_a_whole_stays") {
        return;
    }
    let root = Root::new(AGED);
    root.private("srv/cache/bin", BIN);
    let make = |path: &str| {
        root.file(&format!("srv/cache/bin/{path}"));
        let mut directory = PathBuf::from(path);
        while directory.pop() && directory != Path::new("") {
            chown(root.path("srv/cache/bin").join(&directory), Some(BIN.1), None).unwrap();
        }
    };
    for path in [
        "roots/deps/lib",
        "socket/x",
        "mine/deps/lib",
        "unreadable/x/y",
        "unpacked/out/src/file",
        "own/deps/lib",
    ] {
        make(path);
    }
    let path = |path: &str| root.path("srv/cache/bin").join(path);
    for cargos in ["roots", "socket", "mine", "unreadable", "unpacked"] {
        make(&format!("{cargos}/.cargo-lock"));
    }
    chown(path("roots/deps/lib"), Some(0), None).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket/s")).unwrap();
    chown(path("socket/s"), Some(BIN.1), None).unwrap();
    for (directory, mode) in [("unreadable/x", 0o000), ("unpacked/out/src", 0o555), ("unpacked/out", 0o555)] {
        fs::set_permissions(path(directory), fs::Permissions::from_mode(mode)).unwrap();
    }
    // What is left of a run that was killed.
    make(".fairslice-aged/deps/lib");
    let (_, mut said) = {
        thread::sleep(OLD);
        let (code, _, err) = root.run(&["age"]);
        (code, err.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    said.sort();
    assert_eq!(
        said,
        [
            "fairslice: /srv/cache/bin/mine is removed: nobody has used it for so long",
            "fairslice: /srv/cache/bin/roots is not aged: roots/deps/lib belongs to uid 0: see \"fairslice doctor\"",
            "fairslice: /srv/cache/bin/socket is not aged: socket/s is a socket, a fifo or a device",
            "fairslice: /srv/cache/bin/unpacked is removed: nobody has used it for so long",
            "fairslice: /srv/cache/bin/unreadable is not aged: reading unreadable/x: EACCES: Permission denied",
        ]
    );
    assert!(path("roots/deps/lib").exists() && path("socket/s").exists() && path("unreadable/x").exists());
    let mut left: Vec<_> = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["own", "roots", "socket", "unreadable"]);
}

/// Where others could put something else in a directory's place, or nothing is known, nothing is aged.
#[test]
fn in_doubt_nothing_is_aged() {
    if !as_root("in_doubt_nothing_is_aged") {
        return;
    }
    let root = Root::new(AGED);
    let bins = ["srv/cache/bin"];
    root.private(bins[0], BIN);
    let mode = |mode| fs::set_permissions(root.path("srv/cache"), fs::Permissions::from_mode(mode)).unwrap();
    // As a login says of it.
    mode(0o777);
    let said = "/srv/cache/bin is not aged: /srv/cache can be changed by others than root: chmod go-w or +t /srv/cache";
    assert_eq!(root.aged(bins), (vec![], vec![said.to_owned()]));
    for right in [0o1777, 0o755] {
        mode(right);
        assert_eq!(root.aged(bins), (bins.to_vec(), vec![]));
    }
    root.aged([]);
    // A workspace that a team shares.
    let shared = AGED.replacen("max_age", "trusted_groups = [\"daemon\"]\nmax_age", 1);
    fs::write(root.path("etc/fairslice/policy.toml"), shared).unwrap();
    chown(root.path("srv/cache"), None, Some(DAEMON.1)).unwrap();
    mode(0o2775);
    assert_eq!(root.aged(bins), (bins.to_vec(), vec![]));
    mode(0o755);
    root.aged([]);
    root.file("srv/cache/bin/debug/.cargo-lock");
    chown(root.path("srv/cache/bin/debug"), Some(BIN.1), None).unwrap();

    fs::rename(root.path("proc"), root.path("no-proc")).unwrap();
    let (code, _, err) = root.run(&["age"]);
    assert!(code == 2 && err.contains("/proc"), "{err}");
    assert!(root.path("srv/cache/bin/debug").exists());
    fs::rename(root.path("no-proc"), root.path("proc")).unwrap();
    assert_eq!(root.aged(bins), (bins.to_vec(), vec![]));
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
    let both = ["srv/cache/bin", "srv/cache/daemon"];
    root.private("srv/cache/bin", BIN);
    root.private("srv/cache/daemon", DAEMON);
    let deep = deep_down(&root, BIN);
    let pid = deep.0.id();
    let unread =
        format!("1 process could not be looked at: sleep (pid {pid}): File name too long (os error 36)");
    let spared = format!("/srv/cache/bin is not aged: sleep (pid {pid}) may use it");
    assert_eq!(root.aged(both), (vec!["srv/cache/daemon"], vec![unread, spared]));
    // What else it has open is seen all the same; and root's processes spare nobody's.
    let lock = fs::File::open(root.path("srv/cache/daemon")).unwrap();
    let _busy = root.sees(Command::new("sleep").arg("60").stderr(lock));
    let roots = deep_down(&root, ("root", 0));
    drop(deep);
    let (gone, said) = root.aged(both);
    assert_eq!(gone, ["srv/cache/bin"]);
    let unread = format!(
        "1 process could not be looked at: sleep (pid {}): File name too long (os error 36)",
        roots.0.id()
    );
    assert_eq!(said, [unread]);
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
    assert_eq!(root.aged(["srv/cache/bin"]), (vec!["srv/cache/bin"], vec![]));
    let _roots = root.sees(Command::new("sleep").arg("60").stderr(lock()));
    assert_eq!(root.aged(["srv/cache/bin"]), (vec![], vec![]));
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
    assert_eq!(root.aged(["srv/cache/bin"]), (vec![], vec![]));
    drop(container);
    assert_eq!(root.aged(["srv/cache/bin"]), (vec!["srv/cache/bin"], vec![]));
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
fn mounted(fuse: &Path, point: &Path, user: (&str, u32)) -> Busy {
    mounted_as(fuse, point, user, "silent")
}

fn mounted_as(fuse: &Path, point: &Path, (_, uid): (&str, u32), how: &str) -> Busy {
    let point = fs::canonicalize(point.parent().unwrap()).unwrap().join(point.file_name().unwrap());
    let uid = uid.to_string();
    let server = Busy(Command::new(fuse).arg(&point).args([&uid, &uid, how]).spawn().unwrap());
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
        for directory in ["debug/deps", "mounted", "release/mounted"] {
            fs::create_dir_all(root.path("srv/cache/daemon").join(directory)).unwrap();
            chown(root.path("srv/cache/daemon").join(directory), Some(DAEMON.1), None).unwrap();
        }
        chown(root.path("srv/cache/daemon/release"), Some(DAEMON.1), None).unwrap();
        let _inside = mounted(&fuse, &root.path("srv/cache/daemon/mounted"), DAEMON);
        let _deep = mounted(&fuse, &root.path("srv/cache/daemon/release/mounted"), DAEMON);
        let said = [
            "not aged: /srv/cache/bin was mounted by uid 2",
            "/srv/cache/daemon/release is not aged: release/mounted is a mount point",
        ];
        assert_eq!(
            root.aged(["srv/cache/daemon"]),
            (vec!["srv/cache/daemon"], said.map(str::to_owned).to_vec())
        );
    });
}

/// As fusermount mounts where nothing else is allowed: not even root gets in.
#[test]
fn a_home_that_only_its_user_may_enter_is_called_so() {
    if !as_root("a_home_that_only_its_user_may_enter_is_called_so") {
        return;
    }
    let root = Root::new(POLICY);
    root.private("srv/cache/daemon", DAEMON);
    let fuse = fuse(&root);
    let loaded = policy::load(root.0.path()).policy;
    let declared = loaded.private_dirs.values().next().unwrap();
    in_namespace(&root, || {
        let account = Account::by_name(DAEMON.0).unwrap().unwrap();
        let _server = mounted_as(&fuse, &root.path("srv/cache/daemon"), DAEMON, "alone");
        for path in ["/srv/cache/daemon", "/srv/cache/daemon/target"] {
            let error = private_dir::ensure(root.0.path(), Path::new(path), &account, declared).unwrap_err();
            let said = "/srv/cache/daemon is a file system of FUSE that uid 1 has mounted, which lets nobody else in";
            assert!(error.to_string().starts_with(said), "{error:#}");
        }
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
