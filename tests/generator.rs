//! The generator: one directory for each case, with an input tree and the expected output tree,
//! compared whole.
//!
//! `tests/generator/CASE/root` is what the generator sees as `/`, `CASE/expected` what it is to
//! write, `CASE/log` what it is to say. Set `UPDATE_GENERATOR=1` to write the last two anew, and
//! read the difference.
#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use fairslice::policy;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UPDATE: &str = "UPDATE_GENERATOR";
/// The machine that the cases run on.
const MEMINFO: &str = "MemTotal:       16777216 kB\n";

fn cases() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator");
    let mut cases: Vec<_> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// The files of a tree, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), text);
            }
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        // A link of the machine's; others are to files of this repository.
        let link = fs::read_link(&path).ok().filter(|to| to.is_absolute());
        if let Some(to) = link {
            symlink(to, target).unwrap();
        } else if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A copy of the case's input, and what the generator made of it.
struct Run {
    directory: tempfile::TempDir,
    output: Output,
}

impl Run {
    fn new(case: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        copy(&case.join("root"), &root);
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::write(root.join("proc/meminfo"), MEMINFO).unwrap();
        let output = generate(&root, &directory.path().join("out"));
        Self { directory, output }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }
}

fn generate(root: &Path, out: &Path) -> Output {
    fs::create_dir_all(out).unwrap();
    Command::new(env!("CARGO_BIN_EXE_fairslice-generator"))
        .arg("--root")
        .args([root, out, out, out])
        .output()
        .unwrap()
}

#[test]
fn every_case_gives_the_expected_tree() {
    let update = std::env::var_os(UPDATE).is_some();
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let run = Run::new(&case);
        assert!(run.output.status.success(), "{}: {}", case.display(), run.output.status);
        let log = String::from_utf8(run.output.stderr.clone()).unwrap();
        if update {
            let _ = fs::remove_dir_all(case.join("expected"));
            copy(&run.out(), &case.join("expected"));
            fs::write(case.join("log"), &log).unwrap();
        }
        let expected_log = fs::read_to_string(case.join("log")).unwrap_or_default();
        let (made, expected) = (tree(&run.out()), tree(&case.join("expected")));
        if made != expected || log != expected_log {
            wrong.push(format!("{}\nmade {made:#?}\nexpected {expected:#?}\nlog {log}", case.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{} cases differ; {UPDATE}=1 writes them anew",
        wrong.join("\n\n"),
        wrong.len()
    );
}

/// Every drop-in is what PID 1 takes without a warning.
#[test]
fn systemd_takes_every_drop_in() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze on this machine");
        return;
    }
    let mut verified = 0;
    for case in cases() {
        let run = Run::new(&case);
        let stubs = run.directory.path().join("stubs");
        fs::create_dir(&stubs).unwrap();
        let made = tree(&run.out());
        let directories = made.keys().filter_map(|path| path.parent()?.to_str()?.strip_suffix(".d"));
        // The units themselves; for a prefix or a template, one that it reaches.
        let units: Vec<String> = directories
            .map(|unit| match unit {
                "user-.slice" => "user-1000.slice".to_owned(),
                unit => unit.replace("-.service", "-any.service").replace("@.service", "@any.service"),
            })
            .collect();
        for unit in &units {
            let body = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
            let body = if unit.ends_with(".service") { body } else { "" };
            fs::write(stubs.join(unit), format!("[Unit]\nDefaultDependencies=no\n{body}")).unwrap();
        }
        if units.is_empty() {
            continue;
        }
        // The launcher is not on this machine.
        for (file, text) in &made {
            fs::write(run.out().join(file), text.replace("/usr/bin/fairslice-launch", "/bin/true")).unwrap();
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .args(&units)
            .env("SYSTEMD_UNIT_PATH", format!("{}:{}", stubs.display(), run.out().display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // systemd 252 does not know it, and goes on.
        let is_new = |line: &&str| !line.is_empty() && !line.contains("Unknown key 'MemoryZSwapMax'");
        let said: Vec<&str> = said.lines().filter(is_new).collect();
        assert!(output.status.success() && said.is_empty(), "{}: {said:?}", case.display());
        verified += units.len();
    }
    assert!(verified > 50, "only {verified} units verified");
}

/// What is right is kept, and holds when the next policy is broken; what is broken is not kept.
#[test]
fn a_broken_policy_leaves_the_last_good_one_in_force() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator/fragments-in-order");
    let run = Run::new(&case);
    let policy = run.root().join("etc/fairslice/policy.toml");
    let settings = |tree: BTreeMap<PathBuf, String>| -> Vec<String> {
        let lines = tree.into_values().flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| !line.starts_with('#')).collect()
    };
    let before = settings(tree(&run.out()));
    assert!(!before.is_empty());
    for broken in ["", "nonsense", "[logins]\ncpu_weight = 0\n"] {
        fs::write(&policy, broken).unwrap();
        // An empty main file is an error only where the fragments declare nothing either.
        let _ = fs::remove_dir_all(run.root().join("etc/fairslice/policy.d"));
        let again = run.directory.path().join("again");
        let _ = fs::remove_dir_all(&again);
        let output = generate(&run.root(), &again);
        assert!(output.status.success());
        assert_eq!(settings(tree(&again)), before, "{broken:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("the last good policy stays in force"), "{said}");
    }
}

/// A directory that cannot be written: all or nothing, and a failure.
#[test]
fn half_a_policy_is_never_written() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator/default");
    let run = Run::new(&case);
    let out = run.directory.path().join("blocked");
    fs::create_dir(&out).unwrap();
    // The last unit's directory is a file, so that everything before it was written already.
    fs::write(out.join("user.slice.d"), "").unwrap();
    let output = generate(&run.root(), &out);
    assert!(!output.status.success());
    let left: Vec<_> = tree(&out).into_keys().filter(|path| path.ends_with("40-fairslice.conf")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A login reads nothing else, and says what is wrong with it.
#[test]
fn the_policy_is_compiled_for_logins_with_what_is_wrong() {
    let compiled = |case: &str| {
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/generator").join(case);
        policy::for_logins(&Run::new(&case).root()).unwrap()
    };
    let logins = compiled("logins");
    assert!(logins.wrong.is_none() && !logins.policy.logins.users.is_empty());
    let broken = compiled("broken-fragment").wrong.unwrap();
    assert!(broken.ends_with(" (the rest of the policy holds)"), "{broken}");
    let missing = compiled("missing");
    assert!(missing.wrong.unwrap().ends_with(" (no policy holds)") && missing.policy.is_empty());
}
