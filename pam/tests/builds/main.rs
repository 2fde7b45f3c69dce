//! Two users build one shared workspace with the real cargo, in sessions that the real libpam opens.
//!
//! A round is an edit, then two builds that are started together; there are 20 in each test. The
//! workspace's build script waits for that of the other build, so that two builds which nothing keeps
//! apart always meet there, and two that take turns never do.
//!
//! `make build-test` runs it, as root.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and most of this file is helpers of tests"
)]

#[path = "../built/mod.rs"]
mod built;
mod machine;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use machine::{ALICE, BOB, Machine, Session, TEAM, User, directory, in_machine};

const ROUNDS: u32 = 20;
/// How long a build script waits for the other, in milliseconds, where both are expected.
const TOGETHER: u32 = 5_000;
/// The same where a lock keeps the other out: as long as cargo may take to reach the lock.
const IN_TURN: u32 = 300;

/// The default policy's.
const TARGET_DIR: &str = r#"
[private_dir.CARGO_TARGET_DIR]
path    = "/srv/foundry/cargo-target/{user}"
only_if = "/srv/foundry/cargo-target"
"#;
const BUILD_DIR: &str = r#"
[private_dir.CARGO_BUILD_BUILD_DIR]
path    = "/srv/build/{user}/{workspace-path-hash}"
only_if = "/srv/build"
"#;
/// Cargo 1.91 was the first that fills in `{workspace-path-hash}`.
const BUILD_DIR_SINCE: u32 = 91;

/// What came of a build.
struct Build {
    succeeded: bool,
    said: String,
}

impl Build {
    fn of(output: &Output) -> Self {
        Self {
            succeeded: output.status.success(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Whether it waited for the lock of a directory it builds in. (The one of cargo's own cache, which
    /// all builds of a user share, is held for a moment only.)
    fn waited(&self) -> bool {
        let mut lines = self.said.lines().filter(|line| line.contains("Blocking waiting for file lock"));
        lines.any(|line| !line.contains("package cache"))
    }

    fn was_refused(&self) -> bool {
        self.said.contains("Permission denied") || self.said.contains("Operation not permitted")
    }

    /// Whether its build script ran at the same time as the other's.
    fn met(&self) -> bool {
        self.said.lines().any(|line| line.starts_with("warning: text@") && line.ends_with(": met"))
    }

    /// The crates of which cargo says that they are `Compiling` or `Fresh`, in alphabetical order.
    fn crates(&self, word: &str) -> Vec<&str> {
        let words = self.said.lines().map(str::split_whitespace);
        let mut names: Vec<_> =
            words.filter_map(|mut words| (words.next()? == word).then(|| words.next())?).collect();
        names.sort_unstable();
        names
    }
}

/// Who builds what.
#[derive(Clone, Copy)]
struct Task {
    session: Session,
    user: User,
    workspace: &'static str,
}

impl Task {
    fn cargo(self) -> Command {
        let words = ["cargo", "build", "--verbose", "--offline", "--locked"];
        let mut cargo = machine::command(self.session, self.user, self.workspace, &words);
        cargo.stdout(Stdio::null()).stderr(Stdio::piped());
        cargo
    }

    /// Builds while nobody else does.
    fn alone(self, machine: &Machine) -> Build {
        let build = Build::of(&self.cargo().output().unwrap());
        assert!(build.succeeded, "{}{}", build.said, machine.logged());
        build
    }
}

/// How many builds of all the rounds went wrong, and in which way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    waited: u32,
    refused: u32,
    failed: u32,
    /// Ran at the same time as the other of the round.
    met: u32,
}

const ALL_MET: Counts = Counts { waited: 0, refused: 0, failed: 0, met: 2 * ROUNDS };

impl Counts {
    fn add(&mut self, build: &Build) {
        self.waited += u32::from(build.waited());
        self.refused += u32::from(build.was_refused());
        self.failed += u32::from(!build.succeeded);
        self.met += u32::from(build.met());
    }
}

/// Runs the rounds; `patience` is how long a build script waits for the other, in milliseconds.
fn rounds(patience: u32, mut tasks: [Task; 2]) -> Counts {
    let mut counts = Counts::default();
    for round in 1..=ROUNDS {
        let place = format!("/srv/meeting/{round}");
        directory(&place, 0, 0, 0o1777);
        for task in tasks {
            fs::write(format!("{}/text/round", task.workspace), format!("{place} {patience}")).unwrap();
        }
        // Each is first in half of the rounds.
        tasks.reverse();
        let started = tasks.map(|task| task.cargo().spawn().unwrap());
        for build in started.map(|build| Build::of(&build.wait_with_output().unwrap())) {
            if !build.succeeded && counts.failed == 0 {
                println!("the first that failed: {}", build.said.trim());
            }
            counts.add(&build);
        }
    }
    counts
}

/// Makes a workspace: alice's, and for the team to write in.
fn workspace(path: &str) {
    directory(path, ALICE.uid, TEAM, 0o2775);
    let mut copy = machine::command(Session::GroupWrites, ALICE, path, &["cp", "-rT", "/opt/workspace", "."]);
    assert!(copy.status().unwrap().success());
}

/// Both users, in one workspace.
fn both_users(session: Session) -> [Task; 2] {
    workspace("/srv/work");
    [ALICE, BOB].map(|user| Task { session, user, workspace: "/srv/work" })
}

/// One user, in two workspaces.
fn both_workspaces() -> [Task; 2] {
    ["/srv/one", "/srv/two"].map(|path| {
        workspace(path);
        Task { session: Session::Fairslice, user: ALICE, workspace: path }
    })
}

/// How many files of a directory are not this user's.
fn files_of_others(directory: &str, user: User) -> usize {
    let found = Command::new("find").args([directory, "!", "-uid", &user.uid.to_string()]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().lines().count()
}

/// The y of cargo 1.y.z.
fn cargo_minor() -> u32 {
    let output = Command::new(env!("CARGO")).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("{version}"))
}

/// That the user's builds are there, and nobody else's file, for nobody else to see.
fn assert_private(path: &str, user: User) {
    let directory = fs::metadata(path).unwrap();
    assert_eq!((directory.uid(), directory.mode() & 0o7777), (user.uid, 0o700), "{path}");
    assert!(fs::read_dir(path).unwrap().count() > 0, "nothing was built in {path}");
    assert_eq!(files_of_others(path, user), 0, "{path}");
}

#[test]
#[ignore = "needs root and takes a while: make build-test"]
fn without_fairslice_one_waits_and_owners_mix() {
    in_machine("", |machine| {
        let tasks = both_users(Session::GroupWrites);
        tasks[0].alone(machine);
        let counts = rounds(IN_TURN, tasks);
        let bobs = files_of_others("/srv/work/target", ALICE);
        println!("one target directory, umask 002: {counts:?}; files of bob's in alice's directory: {bobs}");
        assert!(counts.waited > 0 && bobs > 0);
    });
}

#[test]
#[ignore = "needs root and takes a while: make build-test"]
fn without_fairslice_one_is_refused() {
    in_machine("", |machine| {
        let tasks = both_users(Session::GroupReads);
        tasks[0].alone(machine);
        let counts = rounds(0, tasks);
        println!("one target directory, umask 022: {counts:?}");
        // Bob is, each time.
        assert_eq!((counts.refused, counts.failed), (ROUNDS, ROUNDS));
    });
}

#[test]
#[ignore = "needs root and takes a while: make build-test"]
fn with_fairslice_nobody_waits_or_is_refused() {
    in_machine(TARGET_DIR, |machine| {
        directory("/srv/foundry/cargo-target", 0, 0, 0o755);
        let tasks = both_users(Session::Fairslice);
        let counts = rounds(TOGETHER, tasks);
        println!("with fairslice: {counts:?}");
        assert_eq!(counts, ALL_MET, "{}", machine.logged());
        for task in tasks {
            assert_private(&format!("/srv/foundry/cargo-target/{}", task.user.name), task.user);
        }
        assert!(!fs::exists("/srv/work/target").unwrap(), "something was built in the workspace");
    });
}

#[test]
#[ignore = "needs root: make build-test"]
fn with_fairslice_each_second_build_is_incremental() {
    in_machine(TARGET_DIR, |machine| {
        directory("/srv/foundry/cargo-target", 0, 0, 0o755);
        let tasks = both_users(Session::Fairslice);
        // Alice, then bob: what the other has built in between is no help and no hindrance.
        let assert_both = |compiled: &[&str], fresh: &[&str]| {
            for build in tasks.map(|task| task.alone(machine)) {
                assert_eq!(build.crates("Compiling"), compiled, "{}", build.said);
                assert_eq!(build.crates("Fresh"), fresh, "{}", build.said);
            }
        };
        assert_both(&["count", "text", "tool"], &[]);
        assert_both(&[], &["count", "text", "tool"]);
        fs::write("/srv/work/tool/src/main.rs", "fn main() {}\n").unwrap();
        assert_both(&["tool"], &["count", "text"]);
    });
}

/// The manual's recipe: what root does ("#"), and what the user does ("$").
fn recipe() -> Vec<(char, String)> {
    let page = include_str!("../../../man/fairslice-policy.5");
    let section = page.split(".SS ").find(|section| section.starts_with("A cache that was there before\n"));
    let example = section.unwrap().split(".EX\n").nth(1).unwrap().split(".EE\n").next().unwrap();
    let lines = example.lines().map(|line| line.replace("\\-", "-"));
    lines.map(|line| (line.chars().next().unwrap(), line.chars().skip(2).collect())).collect()
}

#[test]
#[ignore = "needs root: make build-test"]
fn a_cache_that_was_there_before_is_copied_with_its_incremental_state() {
    in_machine(TARGET_DIR, |machine| {
        directory("/srv/foundry/cargo-target", 0, TEAM, 0o2775);
        let [alice, bob] = both_users(Session::GroupWrites);
        // Without fairslice, by a setting of the workspace: what alice has built is no use to bob, nor his to her.
        let config = "/srv/work/.cargo/config.toml";
        directory("/srv/work/.cargo", 0, 0, 0o755);
        fs::write(config, "build.target-dir = \"/srv/foundry/cargo-target\"\n").unwrap();
        assert_eq!(alice.alone(machine).crates("Compiling"), ["count", "text", "tool"]);
        assert_eq!(alice.alone(machine).crates("Fresh"), ["count", "text", "tool"]);
        fs::write("/srv/work/tool/src/main.rs", "fn main() { println!() }\n").unwrap();
        assert_eq!(bob.alone(machine).crates("Compiling"), ["tool"]);
        assert!(files_of_others("/srv/foundry/cargo-target", ALICE) > 0, "all of it is alice's");
        let secret = "/srv/foundry/cargo-target/debug/secret";
        fs::write(secret, "root's").unwrap();
        fs::set_permissions(secret, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(config).unwrap();

        let alice = Task { session: Session::Fairslice, ..alice };
        for (who, line) in recipe() {
            let words = ["sh", "-c", &line];
            let output = match who {
                '#' => Command::new(words[0]).args(&words[1..]).output(),
                _ => machine::command(alice.session, ALICE, "/", &words).output(),
            };
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if who == '#' {
                assert!(output.status.success(), "{line}: {said}");
            } else {
                // What alice may not read, and nothing else: rustc gives its locks the mode 0600.
                assert!(said.contains("cargo-target.old/debug/secret'"), "{line}: {said}");
                let unread = |line: &str| line.contains("secret'") || line.contains(".lock'");
                assert!(
                    said.lines().all(|line| unread(line) && line.ends_with("Permission denied")),
                    "{said}"
                );
            }
        }
        assert!(!fs::exists("/srv/foundry/cargo-target/fs-alice/debug/secret").unwrap());
        assert_private("/srv/foundry/cargo-target/fs-alice", ALICE);
        let build = alice.alone(machine);
        assert_eq!(build.crates("Fresh"), ["count", "text", "tool"], "{}", build.said);
        assert_eq!(build.crates("Compiling"), [""; 0], "{}", build.said);
        fs::write("/srv/work/tool/src/main.rs", "fn main() {}\n").unwrap();
        let build = alice.alone(machine);
        assert_eq!(build.crates("Compiling"), ["tool"], "{}", build.said);
        assert_eq!(build.crates("Fresh"), ["count", "text"], "{}", build.said);
        assert_private("/srv/foundry/cargo-target/fs-alice", ALICE);
    });
}

#[test]
#[ignore = "needs root and takes a while: make build-test"]
fn two_workspaces_of_one_user_in_one_target_directory() {
    in_machine(TARGET_DIR, |_| {
        directory("/srv/foundry/cargo-target", 0, 0, 0o755);
        let counts = rounds(IN_TURN, both_workspaces());
        println!("two workspaces, CARGO_TARGET_DIR: {counts:?}");
        assert!(counts.waited > 0);
        assert_eq!((counts.refused, counts.failed), (0, 0));
    });
}

#[test]
#[ignore = "needs root and takes a while: make build-test"]
fn two_workspaces_of_one_user_in_build_directories_of_their_own() {
    let cargo = cargo_minor();
    if cargo < BUILD_DIR_SINCE {
        eprintln!("skipped: cargo 1.{cargo} has no build directories; 1.{BUILD_DIR_SINCE} has");
        return;
    }
    in_machine(BUILD_DIR, |machine| {
        directory("/srv/build", 0, 0, 0o755);
        let counts = rounds(TOGETHER, both_workspaces());
        println!("two workspaces, CARGO_BUILD_BUILD_DIR: {counts:?}");
        assert_eq!(counts, ALL_MET, "{}", machine.logged());
        assert_private(&format!("/srv/build/{}", ALICE.name), ALICE);
    });
}
