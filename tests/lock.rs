//! What changes the machine: one at a time, and nobody but root decides who waits.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};

use fairslice::enforce::lock::Lock;
use fixture::write;

const NOBODY: u32 = 65534;
const CHANGING: [&[&str]; 4] = [&["apply"], &["doctor", "--fix"], &["adopt", "--all"], &["release", "--all"]];

fn as_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped: needs root");
    }
    root
}

fn machine() -> tempfile::TempDir {
    let machine = fixture::machine();
    write(machine.path(), "run/systemd/show", "");
    machine
}

fn start(root: &Path, arguments: &[&str]) -> Child {
    let mut command = fixture::command(root, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn hold(root: &Path) -> Lock {
    Lock::take(root, Duration::ZERO, |_| ()).unwrap()
}

#[test]
fn whoever_waits_in_vain_is_told_for_whom() {
    let machine = machine();
    let _held = hold(machine.path());
    let begun = Instant::now();
    let waiting: Vec<_> = CHANGING.iter().map(|arguments| start(machine.path(), arguments)).collect();
    // What only looks waits for nobody.
    for arguments in [["apply", "--dry-run"], ["doctor", "--json"], ["status", "--json"]] {
        let output = start(machine.path(), &arguments).wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() != Some(2) && !said.contains("waiting"), "{arguments:?} {said}");
    }
    for (child, arguments) in waiting.into_iter().zip(CHANGING) {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 2), "{arguments:?} {said}");
        let holder = format!(" (pid {})", process::id());
        assert!(said.lines().all(|line| line.contains(&holder)), "{said}");
        assert!(
            said.ends_with("has been changing the machine for 10 s: try again when it is done\n"),
            "{said}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn whoever_waits_goes_on_when_it_is_free() {
    let machine = machine();
    let held = hold(machine.path());
    let mut waiting = start(machine.path(), &["apply", "--logins"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(waiting.try_wait().unwrap().is_none());
    drop(held);
    let output = waiting.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("waiting for "), "{said}");
}

/// A lock is taken through any descriptor of a file, one for reading too.
#[test]
fn only_root_can_open_what_is_locked() {
    if !as_root("only_root_can_open_what_is_locked") {
        return;
    }
    let machine = machine();
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o755)).unwrap();
    drop(hold(machine.path()));
    // Under any umask of who makes it.
    let run = machine.path().join("run/fairslice");
    assert_eq!(fs::metadata(run.join("lock")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&run).unwrap().mode() & 0o7777, 0o755);
    for file in ["lock", "lock/held"] {
        let open = format!("exec 9<{}", run.join(file).display());
        let opened = |command: &mut Command| command.args(["-c", &open]).output().unwrap().status.success();
        assert!(opened(&mut Command::new("sh")), "{file}");
        assert!(!opened(Command::new("sh").uid(NOBODY).gid(NOBODY)), "{file}");
    }
    // One that is open to others already is not used.
    fs::set_permissions(run.join("lock"), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = Lock::take(machine.path(), Duration::ZERO, |_| ()).unwrap_err().to_string();
    assert_eq!(refused, "/run/fairslice/lock is open to others (mode 0755): chmod 0700 /run/fairslice/lock");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = Lock::take(machine.path(), Duration::ZERO, |_| ()).unwrap_err().to_string();
    assert_eq!(refused, "everybody can change /run/fairslice (mode 0777): chmod go-w -- /run/fairslice");
}

/// The machine itself is asked here, and refuses before anything is looked at.
#[test]
fn somebody_else_than_root_is_told_so() {
    if !as_root("somebody_else_than_root_is_told_so") {
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program: PathBuf = elsewhere.path().join("fairslice");
    fs::copy(env!("CARGO_BIN_EXE_fairslice"), &program).unwrap();
    for arguments in CHANGING.into_iter().chain([["apply", "--logins"].as_slice()]) {
        let output = Command::new(&program).args(arguments).uid(NOBODY).gid(NOBODY).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected =
            "fairslice: only root can change the machine: run this as root, or with --dry-run to look\n";
        assert_eq!((output.status.code(), said.as_str()), (Some(2), expected), "{arguments:?}");
    }
}
