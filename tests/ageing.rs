//! `max_age` and the real cargo: months of work in a workspace, each build after each cleaning succeeds.
//!
//! It needs root, for a mount namespace, and cargo: `make build-test`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use fairslice::enforce::private_dir::age::age;
use fairslice::policy;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A user that every machine has.
const DAEMON: u32 = 1;
const DAY: Duration = Duration::from_secs(24 * 3600);

const WORKSPACE: &[(&str, &str)] = &[
    ("ws/Cargo.toml", "[workspace]\nmembers = [\"app\", \"wire\"]\nresolver = \"2\"\n"),
    (
        "ws/app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\nwire = { path = \"../wire\" }\nvendored = { path = \"../../vendored\" }\n",
    ),
    ("ws/app/src/main.rs", "fn main() { println!(\"{}\", wire::N + vendored::n!()); }\n"),
    (
        "ws/app/tests/t.rs",
        "#[test]\nfn t() { std::fs::write(concat!(env!(\"CARGO_TARGET_TMPDIR\"), \"/x\"), wire::N.to_string()).unwrap(); }\n",
    ),
    // Generated code, which is not made again while build.rs is as it was.
    ("ws/wire/Cargo.toml", "[package]\nname = \"wire\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    ("ws/wire/src/lib.rs", "include!(concat!(env!(\"OUT_DIR\"), \"/generated.rs\"));\n"),
    (
        "ws/wire/build.rs",
        "fn main() {\n    println!(\"cargo:rerun-if-changed=build.rs\");\n\
         let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         std::fs::write(format!(\"{out}/generated.rs\"), \"pub const N: u32 = 1;\").unwrap();\n}\n",
    ),
    // A dependency from elsewhere: a macro, which the compiler loads.
    (
        "vendored/Cargo.toml",
        "[package]\nname = \"vendored\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "vendored/src/lib.rs",
        "#[proc_macro]\npub fn n(_: proc_macro::TokenStream) -> proc_macro::TokenStream { \"2\".parse().unwrap() }\n",
    ),
];

/// A machine whose clock is some days ahead: nothing lets a test set a file's time of change, so what is made or
/// changed on a day is given that day's times, and is judged by a clock that is as far ahead.
struct Machine {
    root: tempfile::TempDir,
    today: Duration,
    /// The variables that a login would have.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Machine {
    fn new(directories: &[(&'static str, &str)]) -> Self {
        let machine =
            Self { root: tempfile::tempdir().unwrap(), today: Duration::ZERO, variables: Vec::new() };
        // A file system that notes each reading. By default it is noted once a day.
        let flags = MsFlags::MS_STRICTATIME;
        mount(Some("none"), machine.root.path(), Some("tmpfs"), flags, Some("mode=755")).unwrap();
        fs::create_dir_all(machine.path("etc/fairslice")).unwrap();
        fs::create_dir(machine.path("proc")).unwrap();
        symlink("/proc/thread-self", machine.path("proc/self")).unwrap();
        for (file, text) in WORKSPACE {
            fs::create_dir_all(machine.path(file).parent().unwrap()).unwrap();
            fs::write(machine.path(file), text).unwrap();
        }
        let mut declared = String::new();
        let mut variables = Vec::new();
        for (variable, path) in directories {
            declared.extend([
                format!("[private_dir.{variable}]\npath = \"/srv/{path}\"\n"),
                "min_uid = 1\nmax_age = \"30d\"\n".to_owned(),
            ]);
            let value = machine.path(&format!("srv/{}", path.replace("{user}", "daemon")));
            let made = machine
                .path(&format!("srv/{}", path.replace("{user}", "daemon").split("/{").next().unwrap()));
            fs::create_dir_all(&made).unwrap();
            chown(&made, Some(DAEMON), Some(DAEMON)).unwrap();
            variables.push((*variable, value));
        }
        fs::write(machine.path("etc/fairslice/policy.toml"), declared).unwrap();
        Self { variables, ..machine }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn edit(&mut self, file: &str) {
        let began = now();
        let text = fs::read_to_string(self.path(file)).unwrap();
        fs::write(self.path(file), format!("{text}// {:?}\n", self.today)).unwrap();
        self.date(began);
    }

    /// Runs cargo, which succeeds.
    fn cargo(&mut self, arguments: &[&str]) {
        let began = now();
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).args(["--offline", "--quiet"]).current_dir(self.path("ws"));
        cargo
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_BUILD_DIR")
            .env_remove("CARGO_INCREMENTAL");
        let Output { status, stderr, .. } = cargo.envs(self.variables.clone()).output().unwrap();
        let day = self.today.as_secs() / DAY.as_secs();
        assert!(status.success(), "day {day}: cargo {arguments:?}: {}", String::from_utf8_lossy(&stderr));
        self.date(began);
    }

    /// What was made since then is today's.
    fn date(&self, began: SystemTime) {
        self.date_in(self.root.path(), began);
    }

    fn date_in(&self, directory: &Path, began: SystemTime) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let stat = entry.path().symlink_metadata().unwrap();
            if stat.is_symlink() || entry.file_name() == OsStr::new("proc") {
                continue;
            }
            // What has been given a day lies in the future.
            let is_new = |time: &SystemTime| *time >= began && *time <= SystemTime::now() + DAY / 2;
            let (modified, accessed) = (stat.modified().unwrap(), stat.accessed().unwrap());
            if is_new(&modified) || is_new(&accessed) {
                let date = |time: SystemTime| if is_new(&time) { time + self.today } else { time };
                let times = FileTimes::new().set_modified(date(modified)).set_accessed(date(accessed));
                File::open(entry.path()).unwrap().set_times(times).unwrap();
            }
            if stat.is_dir() {
                self.date_in(&entry.path(), began);
            }
        }
    }

    fn pass(&mut self, days: u32) {
        self.today += DAY * days;
    }

    /// The daily cleaning: the directories that went, by their last names.
    fn clean(&self) -> Vec<String> {
        for (_, directory) in &self.variables {
            let directory = directory.ancestors().find(|directory| directory.exists()).unwrap();
            give(directory);
        }
        let policy = policy::load(self.root.path()).policy;
        let said = age(self.root.path(), &policy, SystemTime::now() + self.today).unwrap();
        let removed = said.iter().map(|line| {
            let (path, _) = line.split_once(" is removed: ").unwrap_or_else(|| panic!("{line}"));
            path.rsplit('/').next().unwrap().to_owned()
        });
        let mut removed: Vec<String> = removed.collect();
        removed.sort();
        removed
    }
}

/// A moment that no file has: the kernel stamps files by a clock that ticks a few milliseconds at a time.
fn now() -> SystemTime {
    thread::sleep(Duration::from_millis(20));
    SystemTime::now() - Duration::from_millis(10)
}

/// Cargo runs as root here, and what it makes is the user's.
fn give(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let stat = entry.path().symlink_metadata().unwrap();
        if stat.uid() != DAEMON {
            std::os::unix::fs::lchown(entry.path(), Some(DAEMON), Some(DAEMON)).unwrap();
        }
        if stat.is_dir() {
            give(&entry.path());
        }
    }
}

/// In a mount namespace of this thread's own.
fn in_namespace(test: fn()) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        resume_unwind(panic);
    }
}

const HOST: &str = "x86_64-unknown-linux-gnu";

#[test]
#[ignore = "needs root: make build-test"]
fn every_build_after_every_cleaning_succeeds() {
    in_namespace(twenty_weeks);
}

fn twenty_weeks() {
    let mut machine = Machine::new(&[("CARGO_TARGET_DIR", "target/{user}")]);
    let mut removed = Vec::new();
    for week in 0..20 {
        // The one is edited now and then, the other never; releases are rare, and so is another target. Nothing
        // reads the generated code again, as rustdoc would.
        if week != 9 {
            machine.edit("ws/app/src/main.rs");
        }
        machine.cargo(&["build"]);
        if week % 3 == 0 {
            machine.cargo(&["test", "--tests"]);
        }
        if week % 7 == 0 {
            machine.cargo(&["build", "--release"]);
        }
        if week % 8 == 1 {
            machine.cargo(&["build", "--target", HOST]);
        }
        if week % 10 == 2 {
            machine.cargo(&["doc", "--no-deps"]);
        }
        if week == 14 {
            machine.edit("ws/wire/build.rs");
        }
        machine.pass(7);
        removed.extend(machine.clean().into_iter().map(|name| (week, name)));
        if week == 11 {
            // A holiday.
            machine.pass(33);
            removed.extend(machine.clean().into_iter().map(|name| (week, name)));
        }
        machine.cargo(&["build"]);
        machine.cargo(&["check"]);
    }
    let removed: Vec<String> = removed.into_iter().map(|(week, name)| format!("{week} {name}")).collect();
    let expected = [
        "4 release",
        "5 x86_64-unknown-linux-gnu",
        "11 release",
        "11 debug",
        "11 x86_64-unknown-linux-gnu",
        "18 release",
    ];
    assert_eq!(removed, expected);
}

/// Cargo's other directory: what it needs for the next build, for each workspace.
#[test]
#[ignore = "needs root: make build-test"]
fn a_workspaces_build_directory_is_removed_as_a_whole() {
    in_namespace(two_directories);
}

fn two_directories() {
    let mut machine = Machine::new(&[
        ("CARGO_TARGET_DIR", "target/{user}"),
        ("CARGO_BUILD_BUILD_DIR", "build/{user}/{workspace-path-hash}"),
    ]);
    machine.cargo(&["build"]);
    machine.pass(20);
    assert_eq!(machine.clean(), [""; 0]);
    machine.edit("ws/app/src/main.rs");
    machine.cargo(&["build"]);
    machine.pass(20);
    assert_eq!(machine.clean(), [""; 0]);
    machine.cargo(&["build", "--release"]);
    machine.pass(20);
    machine.clean();
    machine.cargo(&["build"]);
    machine.pass(31);
    // A workspace's has two digits of a hash for its name, and whatever place that gives it.
    let mut removed = machine.clean();
    assert_eq!(removed.len(), 3, "{removed:?}");
    removed.retain(|name| !["debug", "release"].contains(&name.as_str()));
    let [workspace] = &removed[..] else { panic!("{removed:?}") };
    assert_eq!(workspace.len(), 2);
    machine.cargo(&["build"]);
    machine.cargo(&["test", "--tests"]);
}
