//! `fairslice adopt` and `fairslice release` over a tree of unit files as they are found on real
//! machines, with everything in them that makes wrapping a command hard.
//!
//! `tests/adopt/root` is the tree, `tests/adopt/expected` every file that `adopt --all` is to add, and what the
//! generator makes of that; `tests/adopt/said` what it is to say. Set `UPDATE_ADOPT=1` to write the last two anew, and read
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
const RECORD: &str = "etc/fairslice/policy.d/50-adopted.toml";
const GENERATED: &str = "run/systemd/generator";
/// How `adopt` of version 0.1.0 began its drop-ins.
const COPY: &str = "# Made by \"fairslice adopt\"; \"fairslice release x\" removes it.\n";
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
        fs::create_dir(root.0.path().join("proc")).unwrap();
        fs::write(root.0.path().join("proc/meminfo"), "MemTotal: 16777216 kB\n").unwrap();
        root
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/systemd/system").join(name)
    }

    /// What a daemon-reload does: everything is made anew.
    fn reload(&self) -> String {
        let _ = fs::remove_dir_all(self.0.path().join(GENERATED));
        let output = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"))
            .arg("--root")
            .args([self.0.path(), &self.0.path().join(GENERATED)])
            .output()
            .unwrap();
        let (code, out, said) = texts(output);
        assert_eq!((code, out.as_str()), (0, ""), "{said}");
        said
    }

    /// The commands that the generator's last drop-in gives a unit, after a reload.
    fn commands(&self, unit: &str) -> Vec<String> {
        self.reload();
        let made = tree(&self.0.path().join(GENERATED).join(format!("{unit}.d")));
        let (_, (_, text)) = made.iter().rfind(|(name, _)| is_launch(name)).expect(unit);
        let commands = text.lines().skip_while(|line| *line != "ExecStart=").skip(1);
        commands.map(|line| line.strip_prefix("ExecStart=").unwrap_or(line).to_owned()).collect()
    }

    /// Every file for which `adopt` and the generator are responsible.
    fn made(&self) -> BTreeMap<PathBuf, String> {
        let all = tree(self.0.path()).into_iter().filter(|(_, (_, holds))| holds != "a directory");
        all.filter(|(path, _)| path == Path::new(RECORD) || is_launch(path))
            .map(|(path, (mode, holds))| {
                assert_eq!(mode & 0o7777, 0o644, "{}", path.display());
                (path, holds)
            })
            .collect()
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

    /// What is said of one unit.
    fn said(&self, command: &str, unit: &str) -> String {
        let (code, out, error) = self.run(&[command, unit]);
        assert_eq!((code, error.as_str()), (0, ""), "{unit}");
        out
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

/// Whether a path is that of a drop-in of the generator's for the launcher.
fn is_launch(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    !path.starts_with("etc") && name.ends_with(b"fairslice-launch.conf")
}

#[test]
fn everything_is_adopted_as_expected_and_released_without_a_trace() {
    let root = Root::new();
    let before = tree(root.0.path());
    let (code, out, error) = root.run(&["adopt", "--all"]);
    assert_eq!(code, 1, "some are refused: {out}{error}");
    let said = format!("{out}{error}{}", root.reload());
    let made = root.made();
    if std::env::var_os(UPDATE).is_some() {
        let _ = fs::remove_dir_all(fixture("expected"));
        for (path, text) in &made {
            let file = fixture("expected").join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        fs::write(fixture("said"), &said).unwrap();
    }
    let expected = tree(&fixture("expected")).into_iter().filter(|(_, (_, holds))| holds != "a directory");
    let expected: BTreeMap<_, _> = expected.map(|(path, (_, holds))| (path, holds)).collect();
    assert!(expected.len() >= 20, "only {} units are adopted", expected.len());
    assert_eq!(made, expected, "{UPDATE}=1 writes what is expected anew");
    assert_eq!(said, fs::read_to_string(fixture("said")).unwrap());

    // Once more changes nothing, with the generator's own drop-ins in view.
    let adopted = tree(root.0.path());
    let (_, again, _) = root.run(&["adopt", "--all"]);
    assert_eq!(tree(root.0.path()), adopted);
    let count = out.matches(": adopted\n").count();
    assert_eq!(again.matches(": already adopted\n").count(), count, "{again}");
    root.reload();
    assert_eq!(tree(root.0.path()), adopted);

    let (code, out, error) = root.run(&["release", "--all"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out.matches(": released\n").count(), count, "{out}");
    // What the administrator has put before commands is named, and stays.
    let named = "left as it is, with the launcher: /etc/systemd/system/local-launched.service:2 (ExecStart=";
    assert!(out.contains(named) && out.matches("left as it is").count() == 2, "{out}");
    fs::remove_dir_all(root.0.path().join(GENERATED)).unwrap();
    assert_eq!(tree(root.0.path()), before);
    let (code, out, _) = root.run(&["release", "--all"]);
    assert_eq!((code, out.matches("released").count()), (0, 0));
}

/// Neither the units are needed to release, nor is the policy that was.
#[test]
fn what_was_adopted_is_released_when_all_else_is_gone() {
    let root = Root::new();
    let (code, out, _) = root.run(&["adopt", "redis-server", "local-linked.service"]);
    assert_eq!((code, out.as_str()), (0, "redis-server.service: adopted\nlocal-linked.service: adopted\n"));
    for gone in ["usr", "opt", "etc/fairslice/policy.toml", "etc/systemd"] {
        let path = root.0.path().join(gone);
        fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
    }
    assert_eq!(root.run(&["release", "redis-server"]).1, "redis-server.service: released\n");
    let (code, out, error) = root.run(&["release", "--all"]);
    assert_eq!((code, out.as_str(), error.as_str()), (0, "local-linked.service: released\n", ""));
    assert!(!root.0.path().join(RECORD).exists());
}

/// `diff -u` of the policy, and of the commands as they will be; nothing is written.
#[test]
fn a_dry_run_prints_the_change() {
    let root = Root::new();
    let before = tree(root.0.path());
    let (code, out, _) = root.run(&["adopt", "--dry-run", "cron", "cron.service"]);
    assert_eq!(code, 0);
    let policy = "--- /dev/null\n+++ /etc/fairslice/policy.d/50-adopted.toml\n@@ -0,0 +1,5 @@\n";
    assert!(out.starts_with(policy) && out.contains("\n+[service.cron]\n+launcher = true\n"), "{out}");
    let commands =
        out.split_once("--- /dev/null\n+++ /run/systemd/generator/cron.service.d/zz-fairslice-launch.conf\n");
    let (_, commands) = commands.expect(&out);
    assert!(
        commands.contains("\n+ExecStart=\n+ExecStart=/usr/bin/fairslice-launch -- /usr/sbin/cron "),
        "{out}"
    );
    assert_eq!(tree(root.0.path()), before);

    root.run(&["adopt", "cron"]);
    let adopted = tree(root.0.path());
    let (code, out, _) = root.run(&["release", "--dry-run", "cron"]);
    assert_eq!((code, out.matches("\n+++ /dev/null\n").count()), (0, 2), "{out}");
    assert!(out.contains("\n-launcher = true\n") && out.contains("\n-ExecStart=\n"), "{out}");
    assert_eq!(tree(root.0.path()), adopted);
}

/// Whoever changes a unit's commands, the generator puts the launcher before those of now.
#[test]
fn the_command_of_now_is_launched() {
    let root = Root::new();
    root.run(&["adopt", "nginx"]);
    let launched = |command: &str| {
        vec![format!("/usr/bin/fairslice-launch -- {command}"), "SyslogIdentifier=nginx2".to_owned()]
    };
    let vendor = root.0.path().join("usr/lib/systemd/system/nginx.service");
    fs::write(vendor, "[Service]\nExecStart=/usr/sbin/nginx2\n").unwrap();
    assert_eq!(root.commands("nginx.service"), launched("/usr/sbin/nginx2"));
    // "systemctl edit", then a deploy script, whose file sorts after ours.
    fs::create_dir(root.unit("nginx.service.d")).unwrap();
    root.write("nginx.service.d/override.conf", "[Service]\nExecStart=\nExecStart=/opt/nginx2 -g x\n");
    assert_eq!(root.commands("nginx.service"), launched("/opt/nginx2 -g x"));
    root.write("nginx.service.d/zzz.conf", "[Service]\nExecStart=\nExecStart=/opt/nginx2 -g y\n");
    assert_eq!(root.commands("nginx.service"), launched("/opt/nginx2 -g y"));
    let last = root.made().into_keys().next_back().unwrap();
    assert!(last.ends_with("nginx.service.d/zzz~fairslice-launch.conf"), "{}", last.display());
    // One that has the launcher in it already stays as it is.
    root.write(
        "nginx.service.d/zzz.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/fairslice-launch -- /opt/x\n",
    );
    root.reload();
    assert_eq!(root.made().len(), 1, "the record alone");
    let said = root.run(&["release", "nginx"]);
    assert_eq!((said.0, said.1.as_str()), (1, "nginx.service: released\n"));
    assert!(
        said.2.contains(
            "it has the launcher by /etc/systemd/system/nginx.service.d/zzz.conf:3 (ExecStart=/usr"
        ),
        "{}",
        said.2
    );
}

/// What `adopt` wrote until 0.1.0 goes, whether the unit is adopted again or released.
#[test]
fn a_copy_of_an_earlier_version_goes() {
    let root = Root::new();
    let before = tree(root.0.path());
    let copy = |text: &str| {
        fs::create_dir_all(root.unit("nginx.service.d")).unwrap();
        root.write("nginx.service.d/zz-fairslice-launch.conf", text);
    };
    let old = format!(
        "{COPY}# Its directory was made for it.\n[Service]\nExecStart=\nExecStart=/usr/bin/fairslice-launch -- /old\n"
    );
    copy(&old);
    assert_eq!(root.said("adopt", "nginx"), "nginx.service: adopted\n");
    assert!(!root.unit("nginx.service.d").exists());
    assert!(
        root.commands("nginx.service")[0].ends_with("-- /usr/sbin/nginx -g 'daemon on; master_process on;'")
    );
    copy(&old);
    // As long as it is there, ours undoes it.
    assert!(root.commands("nginx.service")[0].contains("/usr/sbin/nginx -g"));
    assert_eq!(root.said("adopt", "nginx"), "nginx.service: already adopted\n");
    assert!(!root.unit("nginx.service.d").exists());
    assert_eq!(root.said("release", "nginx"), "nginx.service: released\n");
    copy(&old);
    assert_eq!(root.said("release", "nginx"), "nginx.service: released\n");
    copy(&old);
    root.write("nginx.service.d/override.conf", "[Service]\nNice=1\n");
    assert!(root.run(&["release", "--all"]).1.starts_with("nginx.service: released\n"));
    assert!(root.unit("nginx.service.d/override.conf").exists());
    fs::remove_dir_all(root.unit("nginx.service.d")).unwrap();
    // Somebody else's file of that name is neither.
    copy("[Service]\nExecStart=\nExecStart=/usr/bin/mine\n");
    assert_eq!(root.said("adopt", "nginx"), "nginx.service: adopted\n");
    assert_eq!(root.commands("nginx.service")[0], "/usr/bin/fairslice-launch -- /usr/bin/mine");
    root.run(&["release", "--all"]);
    assert!(root.unit("nginx.service.d").join(DROP_IN).exists());
    fs::remove_dir_all(root.unit("nginx.service.d")).unwrap();
    fs::remove_dir_all(root.0.path().join(GENERATED)).unwrap();
    assert_eq!(tree(root.0.path()), before);
}

#[test]
fn names_are_those_of_systemd() {
    let root = Root::new();
    let said = |unit: &str| root.said("adopt", unit);
    assert_eq!(said("sshd"), "ssh.service: adopted (sshd.service is an alias of it)\n");
    assert!(root.commands("ssh.service")[0].contains("sshd -D -p 2222 $SSHD_OPTS"));
    assert_eq!(said("ssh.service"), "ssh.service: already adopted\n");
    assert_eq!(root.said("release", "sshd"), "ssh.service: released (sshd.service is an alias of it)\n");
    // An instance alone; then its template, for all others.
    assert_eq!(said("local-worker@7"), "local-worker@7.service: adopted\n");
    assert_eq!(
        root.commands("local-worker@7.service")[0],
        "/usr/bin/fairslice-launch -- /usr/bin/worker --name=%i"
    );
    assert_eq!(said("local-worker@"), "local-worker@.service: adopted\n");
    let by_template = "local-worker@8.service: has the launcher already, by local-worker@.service\n";
    assert_eq!(said("local-worker@8"), by_template);
    assert!(root.refused("release", "local-worker@8").contains("not adopted by itself"));
    assert!(root.refused("release", "local-worker@7").contains("release that first"));
    // The one with commands of its own keeps them.
    assert!(
        root.commands(r"local-worker@blue\x2dgreen.service")[0]
            .ends_with("-- /usr/bin/worker --name=%i --more")
    );
    assert_eq!(root.run(&["release", "local-worker@", "local-worker@7"]).0, 0);
    // The launcher that the administrator put there.
    assert_eq!(said("local-launched"), "local-launched.service: has the launcher already\n");
    // The others are done all the same.
    let (code, out, error) = root.run(&["adopt", "nope", "nginx"]);
    assert_eq!((code, out.as_str()), (1, "nginx.service: adopted\n"));
    assert!(error.starts_with("fairslice: nope: no such unit"), "{error}");
}

/// What the administrator has declared is neither overridden nor taken away.
#[test]
fn the_administrators_own_rule_stands() {
    let root = Root::new();
    let policy = root.0.path().join("etc/fairslice/policy.toml");
    let held = fs::read_to_string(&policy).unwrap().replacen("match = [", "launcher = true\nmatch = [", 1);
    fs::write(&policy, format!("{held}\n[service.cron]\nlauncher = false\n")).unwrap();
    let said = root.said("adopt", "nginx");
    assert_eq!(
        said,
        "nginx.service: has the launcher already, by launcher = true (/etc/fairslice/policy.toml:4)\n"
    );
    let refused = root.refused("release", "nginx");
    let remedy = "not adopted: it has the launcher by launcher = true (/etc/fairslice/policy.toml:4): for this one, \
                  declare launcher = false in [service.nginx], then run \"fairslice apply\"\n";
    assert!(refused.ends_with(remedy), "{refused}");
    let excepted = root.refused("adopt", "cron");
    assert!(excepted.contains("launcher = false (/etc/fairslice/policy.toml:"), "{excepted}");
    let (_, out, error) = root.run(&["adopt", "--all"]);
    assert!(!format!("{out}{error}").contains("cron.service"), "{out}{error}");
    root.reload();
    let made = root.made();
    assert!(made.keys().any(|file| file.to_string_lossy().contains("nginx.service.d")));
    assert!(!made.keys().any(|file| file.to_string_lossy().contains("cron.service.d")));
    // What the remedy says helps.
    fs::write(&policy, format!("{held}\n[service.nginx]\nlauncher = false\n")).unwrap();
    root.reload();
    assert!(!root.made().keys().any(|file| file.to_string_lossy().contains("nginx.service.d")));
    // What a slice says does not keep one of its services from it.
    fs::write(&policy, held.replacen("launcher = true", "launcher = false", 1)).unwrap();
    assert_eq!(root.said("adopt", "nginx"), "nginx.service: adopted\n");
    root.reload();
    assert!(root.made().keys().any(|file| file.to_string_lossy().contains("nginx.service.d")));
    root.said("release", "nginx");
    // By two rules, one is left.
    let both =
        fs::read_to_string(&policy).unwrap().replace("launcher = true", "").replace("launcher = false", "");
    fs::write(&policy, &both).unwrap();
    root.said("adopt", "polkit");
    fs::write(&policy, format!("{both}\n[service.polkit]\nlauncher = true\n")).unwrap();
    let (code, out, error) = root.run(&["release", "polkit"]);
    assert_eq!((code, out.as_str()), (1, "polkit.service: released\n"));
    assert!(error.contains("it has the launcher by launcher = true (/etc/fairslice/policy.toml:"), "{error}");
}

/// A record that somebody has edited is not written over.
#[test]
fn a_foreign_record_stays() {
    let root = Root::new();
    root.said("adopt", "nginx");
    let record = root.0.path().join(RECORD);
    let ours = fs::read_to_string(&record).unwrap();
    for text in [
        format!("{ours}cpu_weight = 50\n"),
        "[service.x]\nlauncher = true\n".to_owned(),
        ours.replace("true", "false"),
    ] {
        fs::write(&record, text).unwrap();
        let before = tree(root.0.path());
        for command in ["adopt", "release"] {
            let (code, out, error) = root.run(&[command, "nginx"]);
            assert_eq!((code, out.as_str(), error.lines().count()), (2, "", 1), "{error}");
            assert!(
                error.contains("50-adopted.toml is not made by \"fairslice adopt\" alone: rename it"),
                "{error}"
            );
        }
        assert_eq!(tree(root.0.path()), before);
    }
    fs::remove_file(&record).unwrap();
    symlink("/etc/passwd", &record).unwrap();
    assert_eq!(root.run(&["adopt", "nginx"]).0, 2);
    fs::remove_file(&record).unwrap();
    // A policy that is broken would not take it.
    fs::write(root.0.path().join("etc/fairslice/policy.toml"), "nonsense").unwrap();
    let (code, _, error) = root.run(&["adopt", "nginx"]);
    assert!(code == 2 && error.contains("run \"fairslice check\""), "{error}");
    assert!(!record.exists());
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
        ("legacy-init", "/run/systemd/generator.late/legacy-init.service is made by another generator"),
        ("postgres@", "did you mean postgresql@.service?"),
        ("cups.socket", "not the name of a service"),
        ("a/b", "not the name of a service"),
    ] {
        let said = root.refused("adopt", unit);
        assert!(said.starts_with(&format!("fairslice: {unit}: ")) && said.contains(reason), "{said}");
    }
    assert!(root.refused("release", "nginx").contains("nginx: not adopted"));
    assert_eq!(root.run(&["adopt"]).0, 2);
    assert_eq!(root.run(&["adopt", "--all", "nginx"]).0, 2);
    fs::remove_file(root.0.path().join("usr/bin/fairslice-launch")).unwrap();
    assert!(root.refused("adopt", "nginx").contains("/usr/bin/fairslice-launch is not there"));
}

/// One line, and nothing is left behind.
#[test]
fn what_cannot_be_changed_is_said() {
    let root = Root::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let directory = root.0.path().join("etc/fairslice");
    let mut command = if nix::unistd::geteuid().is_root() {
        // Where everybody may execute it; by another process, or what a test beside this one starts meanwhile has it open
        // for writing.
        let program = elsewhere.path().join("fairslice");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_fairslice")).arg(&program).status();
        assert!(copied.unwrap().success());
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
    assert!(error.contains("policy.d: Permission denied"), "{error}");
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
    root.reload();
    // systemd-analyze follows it from "/".
    let linked = root.unit("local-linked.service");
    fs::remove_file(&linked).unwrap();
    symlink(root.0.path().join("opt/linked/local-linked.service"), linked).unwrap();
    // Before systemd 258, "|" is no prefix.
    let newer = ["local-shell-plain.service"];
    let made = root.made();
    let units: Vec<String> = made
        .keys()
        .filter(|path| is_launch(path))
        .map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned())
        .map(|directory| directory.strip_suffix(".d").unwrap().replace("@.service", "@any.service"))
        .filter(|unit| !newer.contains(&unit.as_str()))
        .collect();
    assert!(units.len() >= 20);
    // A launcher that is nowhere is complained of, but for commands with "-".
    for (file, text) in made.iter().filter(|(file, _)| is_launch(file)) {
        let text = text.replace("-/usr/bin/fair", "/usr/bin/fair");
        fs::write(root.0.path().join(file), text.replace("/usr/bin/fairslice-launch", "/nowhere/launch"))
            .unwrap();
    }
    let directories = ["etc", "run", "usr/local/lib", "usr/lib"]
        .map(|directory| root.0.path().join(directory).join("systemd/system").display().to_string());
    let generated = root.0.path().join(GENERATED).display().to_string();
    for unit in &units {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(unit)
            .env("SYSTEMD_UNIT_PATH", format!("{}:{generated}:", directories.join(":")))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Command /nowhere/launch is not executable"), "{unit}: {said}");
        assert!(!said.contains("fairslice-launch.conf") && !said.contains("more than one"), "{unit}: {said}");
    }
}
