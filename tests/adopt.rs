//! `fairslice adopt` and `fairslice release` over a tree of unit files as they are found on real
//! machines, with everything in them that makes wrapping a command hard.
//!
//! `tests/adopt/root` is the tree, `tests/adopt/expected` every file that `adopt --all` is to add,
//! `tests/adopt/said` what it is to say. Set `UPDATE_ADOPT=1` to write the last two anew, and read
//! the difference.
#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UPDATE: &str = "UPDATE_ADOPT";
const DROP_IN: &str = "zz-fairslice-launch.conf";
const NOBODY: u32 = 65534;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adopt").join(name)
}

/// Everything in a tree, by path: its mode, and what it holds or where it leads.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path == root.join("run/fairslice") {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).unwrap();
            let holds = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                directories.push(path.clone());
                "a directory".to_owned()
            } else {
                fs::read_to_string(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (metadata.permissions().mode(), holds));
        }
    }
    found
}

/// A copy of the tree, and a directory of drop-ins that is there and empty.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        let status = Command::new("cp").arg("-a").arg(fixture("root/.")).arg(root.0.path()).status().unwrap();
        assert!(status.success());
        fs::create_dir(root.unit("cups.service.d")).unwrap();
        root
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/systemd/system").join(name)
    }

    fn drop_in(&self, unit: &str) -> String {
        fs::read_to_string(self.unit(&format!("{unit}.d")).join(DROP_IN)).unwrap()
    }

    fn write(&self, unit: &str, text: &str) {
        fs::write(self.unit(unit), text).unwrap();
    }

    /// The exit code, and what was printed. Modes must not depend on the umask.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new("sh")
            .args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_fairslice")])
            .arg("--root")
            .arg(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        texts(output)
    }

    /// What is said of one unit that is refused.
    fn refused(&self, command: &str, unit: &str) -> String {
        let before = tree(self.0.path());
        let (code, out, error) = self.run(&[command, unit]);
        assert_eq!((code, out.as_str(), error.lines().count()), (1, "", 1), "{unit}: {error}");
        assert_eq!(tree(self.0.path()), before, "{unit}");
        error
    }
}

fn texts(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The files of `after` that `before` has not, without directories.
fn added(
    before: &BTreeMap<PathBuf, (u32, String)>,
    after: &BTreeMap<PathBuf, (u32, String)>,
) -> BTreeMap<PathBuf, String> {
    for (path, held) in before {
        assert_eq!(after.get(path), Some(held), "{} was touched", path.display());
    }
    let mut added = BTreeMap::new();
    for (path, (mode, holds)) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        if holds == "a directory" {
            assert_eq!(mode & 0o7777, 0o755, "{}", path.display());
        } else {
            assert_eq!(mode & 0o7777, 0o644, "{}", path.display());
            added.insert(path.clone(), holds.clone());
        }
    }
    added
}

#[test]
fn everything_is_adopted_as_expected_and_released_without_a_trace() {
    let root = Root::new();
    let before = tree(root.0.path());
    let (code, out, error) = root.run(&["adopt", "--all"]);
    assert_eq!(code, 1, "some are refused: {out}{error}");
    let made = added(&before, &tree(root.0.path()));
    let said = format!("{out}{error}");
    if std::env::var_os(UPDATE).is_some() {
        let _ = fs::remove_dir_all(fixture("expected"));
        for (path, text) in &made {
            let file = fixture("expected").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::write(fixture("said"), &said).unwrap();
    }
    let expected = added(&BTreeMap::new(), &tree(&fixture("expected")));
    assert!(expected.len() >= 20, "only {} units are adopted", expected.len());
    assert_eq!(made, expected, "{UPDATE}=1 writes what is expected anew");
    assert_eq!(said, fs::read_to_string(fixture("said")).unwrap());

    // Once more changes nothing.
    let adopted = tree(root.0.path());
    let (_, again, _) = root.run(&["adopt", "--all"]);
    assert_eq!(tree(root.0.path()), adopted);
    assert_eq!(again.matches(": already adopted").count(), expected.len(), "{again}");

    let (code, out, error) = root.run(&["release", "--all"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out.matches(": released\n").count(), expected.len(), "{out}");
    assert_eq!(tree(root.0.path()), before);
    assert_eq!(root.run(&["release", "--all"]), (0, String::new(), String::new()));
}

/// A policy is not needed to release, nor are the units.
#[test]
fn what_was_adopted_is_released_when_all_else_is_gone() {
    let root = Root::new();
    let (code, out, _) = root.run(&["adopt", "redis-server", "local-linked.service"]);
    assert_eq!((code, out.as_str()), (0, "redis-server.service: adopted\nlocal-linked.service: adopted\n"));
    for gone in ["usr", "opt", "etc/fairslice"] {
        fs::remove_dir_all(root.0.path().join(gone)).unwrap();
    }
    fs::remove_file(root.unit("local-linked.service")).unwrap();
    assert_eq!(root.run(&["release", "redis-server"]).1, "redis-server.service: released\n");
    assert!(root.unit("redis-server.service.d/override.conf").exists());
    let (code, out, error) = root.run(&["release", "--all"]);
    assert_eq!((code, out.as_str(), error.as_str()), (0, "local-linked.service: released\n", ""));
    assert!(!root.unit("local-linked.service.d").exists());
}

/// A directory that adopt made stays while somebody else has a file in it.
#[test]
fn a_directory_in_use_stays() {
    let root = Root::new();
    assert_eq!(root.run(&["adopt", "nginx"]).0, 0);
    root.write("nginx.service.d/override.conf", "[Service]\nNice=1\n");
    assert_eq!(root.run(&["release", "nginx"]).0, 0);
    assert!(root.unit("nginx.service.d/override.conf").exists());
    assert!(!root.unit("nginx.service.d").join(DROP_IN).exists());
}

/// `diff -u`, and nothing is written.
#[test]
fn a_dry_run_prints_the_change() {
    let root = Root::new();
    let before = tree(root.0.path());
    let (code, out, _) = root.run(&["adopt", "--dry-run", "cron", "cron.service"]);
    let expected =
        "--- /dev/null\n+++ /etc/systemd/system/cron.service.d/zz-fairslice-launch.conf\n@@ -0,0 +1,6 @@\n";
    assert!(code == 0 && out.starts_with(expected), "{out}");
    let file = "etc/systemd/system/cron.service.d/zz-fairslice-launch.conf";
    let text = fs::read_to_string(fixture("expected").join(file)).unwrap();
    let lines: Vec<_> = text.lines().map(|line| format!("+{line}")).collect();
    assert_eq!(out.lines().skip(3).collect::<Vec<_>>(), lines);
    // Every one, instances before their template.
    let (code, out, _) = root.run(&["adopt", "--all", "--dry-run"]);
    assert_eq!((code, out.matches("\n+++ ").count()), (1, tree_files(&fixture("expected"))));
    assert_eq!(tree(root.0.path()), before);

    root.run(&["adopt", "cron"]);
    let adopted = tree(root.0.path());
    let (code, out, _) = root.run(&["release", "--dry-run", "cron"]);
    assert_eq!(code, 0);
    assert!(out.contains("\n+++ /dev/null\n") && out.contains("\n-ExecStart=\n"), "{out}");
    assert_eq!(tree(root.0.path()), adopted);
}

fn tree_files(root: &Path) -> usize {
    tree(root).values().filter(|(_, holds)| holds != "a directory").count()
}

/// An update of the package that the unit is from changes its command: the same again.
#[test]
fn a_changed_command_is_adopted_anew() {
    let root = Root::new();
    root.run(&["adopt", "nginx", "cups"]);
    let vendor = root.0.path().join("usr/lib/systemd/system/nginx.service");
    fs::write(vendor, "[Service]\nExecStart=/usr/sbin/nginx2\n").unwrap();
    let (_, out, _) = root.run(&["adopt", "--dry-run", "nginx", "cups"]);
    let line = "\n-ExecStart=/usr/bin/fairslice-launch -- /usr/sbin/nginx -g 'daemon on; master_process on;'\n\
                +ExecStart=/usr/bin/fairslice-launch -- /usr/sbin/nginx2\n";
    assert!(out.contains(line) && out.contains("--- /etc/systemd"), "{out}");
    let (code, out, _) = root.run(&["adopt", "nginx", "cups"]);
    let said =
        "nginx.service: adopted anew: its ExecStart= has changed\ncups.service: already adopted\n".to_owned();
    assert_eq!((code, out), (0, said));
    assert!(root.drop_in("nginx.service").ends_with("launch -- /usr/sbin/nginx2\n"));
    // It still knows that the one directory is its own, and the other is not.
    root.run(&["release", "--all"]);
    assert!(!root.unit("nginx.service.d").exists());
    assert!(root.unit("cups.service.d").exists());
}

#[test]
fn names_are_those_of_systemd() {
    let root = Root::new();
    let said = |unit: &str| {
        let (code, out, error) = root.run(&["adopt", unit]);
        assert_eq!((code, error.as_str()), (0, ""), "{unit}");
        out
    };
    assert_eq!(said("sshd"), "ssh.service: adopted (sshd.service is an alias of it)\n");
    assert!(root.drop_in("ssh.service").contains("sshd -D -p 2222 $SSHD_OPTS"));
    assert_eq!(said("ssh.service"), "ssh.service: already adopted\n");
    assert_eq!(root.run(&["release", "sshd"]).1, "ssh.service: released (sshd.service is an alias of it)\n");
    // An instance alone, in a directory of its own; then its template, for all others.
    assert_eq!(said("local-worker@7"), "local-worker@7.service: adopted\n");
    assert!(root.refused("adopt", "local-worker@").contains("blue\\x2dgreen.service has another ExecStart="));
    assert_eq!(said("local-worker@blue\\x2dgreen"), "local-worker@blue\\x2dgreen.service: adopted\n");
    assert_eq!(said("local-worker@"), "local-worker@.service: adopted\n");
    assert_eq!(
        said("local-worker@8"),
        "local-worker@8.service: has the launcher already, by local-worker@.service\n"
    );
    assert!(root.refused("release", "local-worker@8").contains("not adopted by itself"));
    assert!(root.refused("release", "local-worker@7").contains("release that first"));
    assert_eq!(root.run(&["release", "local-worker@", "local-worker@7"]).0, 0);
    // The launcher that the administrator put there.
    assert_eq!(said("local-launched"), "local-launched.service: has the launcher already\n");
    // The others are done all the same.
    let (code, out, error) = root.run(&["adopt", "nope", "nginx"]);
    assert_eq!((code, out.as_str()), (1, "nginx.service: adopted\n"));
    assert!(error.starts_with("fairslice: nope: no such unit"), "{error}");
}

#[test]
fn what_cannot_be_wrapped_is_refused_with_the_reason() {
    let root = Root::new();
    for (unit, reason) in [
        ("local-refused-masked", "masked by /etc/systemd/system/local-refused-masked.service: unmask it"),
        ("local-refused-transient", "transient"),
        ("local-refused-no-start", "no ExecStart= in /etc/systemd/system/local-refused-no-start.service"),
        (
            "local-refused-image",
            "RootImage=/srv/image.raw (/etc/systemd/system/local-refused-image.service:2)",
        ),
        ("local-refused-chroot-empty", "there is no /usr/bin/fairslice-launch in it"),
        ("local-refused-apparmor", "AppArmorProfile=-tight"),
        ("postgres@", "did you mean postgresql@.service?"),
        ("cups.socket", "not the name of a service"),
        ("a/b", "not the name of a service"),
    ] {
        let said = root.refused("adopt", unit);
        assert!(said.starts_with(&format!("fairslice: {unit}: ")) && said.contains(reason), "{said}");
    }
    assert_eq!(root.run(&["adopt"]).0, 2);
    assert_eq!(root.run(&["adopt", "--all", "nginx"]).0, 2);
    fs::remove_file(root.0.path().join("usr/bin/fairslice-launch")).unwrap();
    assert!(root.refused("adopt", "nginx").contains("/usr/bin/fairslice-launch is not there"));
}

/// What is somebody else's is neither written nor removed.
#[test]
fn foreign_files_stay() {
    let root = Root::new();
    for command in ["adopt", "release"] {
        assert!(root.refused(command, "local-refused-foreign").contains("is not made by"));
        assert!(root.refused(command, "local-refused-elsewhere").contains("is no directory but a link"));
    }
    assert!(root.refused("release", "nginx").contains("nginx: not adopted"));
    fs::create_dir(root.unit("nginx.service.d")).unwrap();
    symlink("/etc/passwd", root.unit("nginx.service.d").join(DROP_IN)).unwrap();
    for command in ["adopt", "release"] {
        assert!(root.refused(command, "nginx").contains("is not made by"));
    }
}

/// One line, and nothing is left behind.
#[test]
fn what_cannot_be_changed_is_said() {
    let root = Root::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let directory = root.unit("");
    let mut command = if nix::unistd::geteuid().is_root() {
        // Where everybody may execute it.
        let program = elsewhere.path().join("fairslice");
        fs::copy(env!("CARGO_BIN_EXE_fairslice"), &program).unwrap();
        for directory in [elsewhere.path(), root.0.path()] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let owner = format!("{NOBODY}:{NOBODY}");
        assert!(Command::new("chown").args(["-hR", &owner]).arg(root.0.path()).status().unwrap().success());
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_fairslice"))
    };
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    let before = tree(root.0.path());
    let arguments = ["adopt", "nginx", "cron"];
    let output = command.arg("--root").arg(root.0.path()).args(arguments).output().unwrap();
    let (code, out, error) = texts(output);
    assert_eq!((code, out.as_str(), error.lines().count()), (2, "", 1), "{error}");
    assert!(error.contains("nginx.service.d: Permission denied"), "{error}");
    assert_eq!(tree(root.0.path()), before);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// systemd reads the launcher in every adopted command, and has nothing to say of our files.
#[test]
fn systemd_takes_every_adopted_unit() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze on this machine");
        return;
    }
    let root = Root::new();
    root.run(&["adopt", "--all"]);
    // systemd-analyze follows it from "/".
    let linked = root.unit("local-linked.service");
    fs::remove_file(&linked).unwrap();
    symlink(root.0.path().join("opt/linked/local-linked.service"), linked).unwrap();
    // Before systemd 258, "|" is no prefix.
    let newer = ["local-shell-plain.service"];
    let units: Vec<String> = tree(&fixture("expected"))
        .into_keys()
        .filter(|path| path.ends_with(DROP_IN))
        .map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned())
        .map(|directory| directory.strip_suffix(".d").unwrap().replace("@.service", "@any.service"))
        .filter(|unit| !newer.contains(&unit.as_str()))
        .collect();
    assert!(units.len() >= 20);
    // A launcher that is nowhere is complained of, but for commands with "-".
    for drop_in in tree(&root.unit("")).into_keys().filter(|path| path.ends_with(DROP_IN)) {
        let file = root.unit("").join(&drop_in);
        let text = fs::read_to_string(&file).unwrap().replace("-/usr/bin/fair", "/usr/bin/fair");
        fs::write(file, text.replace("/usr/bin/fairslice-launch", "/nowhere/launch")).unwrap();
    }
    let directories = ["etc", "run", "usr/local/lib", "usr/lib"]
        .map(|directory| root.0.path().join(directory).join("systemd/system").display().to_string());
    for unit in &units {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(unit)
            .env(
                "SYSTEMD_UNIT_PATH",
                format!("{}:{}/run/systemd/generator.late:", directories.join(":"), root.0.path().display()),
            )
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Command /nowhere/launch is not executable"), "{unit}: {said}");
        assert!(!said.contains(DROP_IN) && !said.contains("more than one"), "{unit}: {said}");
    }
}
