//! A policy file that somebody else than root can change is a broken one, wherever the policy is read, and what
//! is said to do about it helps.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fixture;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use fairslice::policy;
use fixture::write;
use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "[slice.\"foundry.slice\"]\ncpu_weight = 200\n";
const THEIRS: &str = "[slice.\"foundry.slice\"]\ncpu_weight = 9999\n";
const MAIN: &str = "etc/fairslice/policy.toml";
const FRAGMENT: &str = "etc/fairslice/policy.d/50.toml";
const BIN: u32 = 2;

fn as_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("{test}: skipped: needs root");
    }
    root
}

/// A machine whose good policy has been in force since the boot, and then was changed to theirs.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(fixture::machine());
        write(machine.path(), "run/systemd/show", "");
        for (file, text) in [(MAIN, GOOD), (FRAGMENT, "[logins]\ncpu_weight = 150\n")] {
            write(machine.path(), file, text);
        }
        for path in ["etc", "etc/fairslice", "etc/fairslice/policy.d"] {
            machine.chmod(path, 0o755);
        }
        assert_eq!(machine.generate(), "");
        assert_eq!(machine.weights(), ["200", "150"]);
        write(machine.path(), MAIN, THEIRS);
        machine
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What the generator says.
    fn generate(&self) -> String {
        let out = self.path().join("run/systemd/generator");
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(&out).unwrap();
        let mut generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"));
        let done = generator.arg("--root").args([self.path(), &out]).output().unwrap();
        String::from_utf8(done.stderr).unwrap()
    }

    /// What the generator has made of foundry.slice and of users' slices.
    fn weights(&self) -> [String; 2] {
        ["foundry.slice", "user-.slice"].map(|unit| {
            let file = format!("run/systemd/generator/{unit}.d/40-fairslice.conf");
            let text = fs::read_to_string(self.path().join(file)).unwrap_or_default();
            let weight = text.lines().find_map(|line| line.strip_prefix("CPUWeight="));
            weight.unwrap_or("-").to_owned()
        })
    }

    fn fairslice(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        let output = command.arg("--root").arg(self.path()).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Subject, what and fix of what doctor finds of this kind.
    fn found(&self) -> Vec<[String; 3]> {
        let (_, out, said) = self.fairslice(&["doctor", "--json"]);
        let json: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {said}"));
        let all = json["findings"].as_array().unwrap().iter();
        let ours = all.filter(|finding| finding["code"] == "FS003");
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        ours.map(|finding| {
            let fix = finding["fix"]["text"].as_str().or(finding["fix"]["command"].as_str()).unwrap();
            [text(finding, "subject"), text(finding, "what"), fix.to_owned()]
        })
        .collect()
    }

    /// Runs a fix as it is printed, but below this machine's root.
    fn mend(&self, fix: &str) {
        let fix = fix.replace(" /etc", &format!(" {}/etc", self.path().display()));
        assert!(Command::new("sh").args(["-ec", &fix]).status().unwrap().success(), "{fix}");
    }

    /// Everybody who reads the policy refuses the main file; the fix puts it in force.
    fn is_refused(&self, subject: &str, who: &str) {
        let (code, out, _) = self.fairslice(&["check"]);
        let expected = format!("/{MAIN}: is not used: {who} can change {subject} (mode ");
        assert!(code == Some(1) && out.contains(&expected), "{expected}\n{out}");
        let said = self.generate();
        assert!(said.contains(&expected) && said.contains("the last good policy stays in force"), "{said}");
        assert_eq!(self.weights()[0], "200", "{said}");
        let wrong = policy::for_logins(self.path()).unwrap().wrong.unwrap();
        assert!(wrong.contains(&expected) && wrong.ends_with(" (the last good policy holds)"), "{wrong}");
        let (code, _, said) = self.fairslice(&["apply", "--dry-run"]);
        assert!(code == Some(2) && said.contains("nothing is changed while the policy is broken"), "{said}");
        let found = self.found();
        assert_eq!(found.len(), 1, "{found:?}");
        let [found, what, fix] = &found[0];
        assert!(found == subject && what.contains(MAIN), "{found} {what}");
        self.mend(fix);
        assert_eq!(self.found(), [[""; 3]; 0]);
        assert_eq!(self.fairslice(&["check"]).0, Some(0));
        assert_eq!((self.generate().as_str(), self.weights()), ("", ["9999", "150"].map(str::to_owned)));
    }
}

#[test]
fn what_everybody_can_change_is_not_used() {
    for (path, mode) in
        [("etc", 0o777), ("etc/fairslice", 0o757), ("etc/fairslice", 0o1777), (MAIN, 0o666), (MAIN, 0o602)]
    {
        let machine = Machine::new();
        machine.chmod(path, mode);
        machine.is_refused(&format!("/{path}"), "everybody");
    }
}

#[test]
fn what_belongs_to_others_is_not_used() {
    if !as_root("what_belongs_to_others_is_not_used") {
        return;
    }
    for path in ["etc", "etc/fairslice", MAIN] {
        let machine = Machine::new();
        chown(machine.path().join(path), Some(BIN), None).unwrap();
        machine.is_refused(&format!("/{path}"), &format!("user {BIN}"));
        let machine = Machine::new();
        chown(machine.path().join(path), None, Some(BIN)).unwrap();
        assert_eq!(machine.fairslice(&["check"]).0, Some(0), "{path}: its group may only read");
        machine.chmod(path, if path == MAIN { 0o664 } else { 0o775 });
        machine.is_refused(&format!("/{path}"), &format!("group {BIN}"));
    }
}

/// The rest of the policy holds.
#[test]
fn a_fragment_that_others_can_change_is_left_out() {
    for (path, mode) in [(FRAGMENT, 0o666), ("etc/fairslice/policy.d", 0o777)] {
        let machine = Machine::new();
        machine.chmod(path, mode);
        let said = machine.generate();
        assert!(said.contains(&format!("everybody can change /{path} (mode ")), "{said}");
        assert_eq!(machine.weights(), ["9999", "-"]);
        let found = machine.found();
        assert_eq!((found.len(), found[0][0].as_str()), (1, format!("/{path}").as_str()));
        machine.mend(&found[0][2]);
        assert_eq!(
            (machine.generate().as_str(), machine.weights()),
            ("", ["9999", "150"].map(str::to_owned))
        );
    }
}

/// As a tree that is kept elsewhere is linked to.
#[test]
fn a_link_is_as_good_as_where_it_leads() {
    let machine = Machine::new();
    let root = machine.path();
    write(root, "srv/site/policy.toml", THEIRS);
    machine.chmod("srv", 0o755);
    fs::remove_file(root.join(MAIN)).unwrap();
    symlink("/srv/site/policy.toml", root.join(MAIN)).unwrap();
    assert_eq!((machine.generate().as_str(), machine.weights()[0].as_str()), ("", "9999"));
    machine.chmod("srv/site", 0o777);
    let said = machine.generate();
    assert!(said.contains("everybody can change /srv/site (mode 0777): chmod go-w -- /srv/site"), "{said}");
    // What was in force is so still.
    assert_eq!(machine.weights()[0], "9999");
    fs::remove_dir_all(root.join("run/fairslice/last-good")).unwrap();
    machine.generate();
    assert_eq!(machine.weights(), ["-", "-"]);
}

/// Nor is what the last good policy was kept in.
#[test]
fn a_last_good_policy_that_others_can_change_is_none() {
    let machine = Machine::new();
    machine.chmod(MAIN, 0o666);
    machine.chmod("run/fairslice", 0o777);
    let said = machine.generate();
    assert!(
        said.contains("everybody can change /run/fairslice") && said.contains("no policy is in force"),
        "{said}"
    );
    assert_eq!(machine.weights(), ["-", "-"]);
    // And none is kept there.
    machine.chmod(MAIN, 0o644);
    fs::remove_dir_all(machine.path().join("run/fairslice/last-good")).unwrap();
    let said = machine.generate();
    assert!(
        said.contains("everybody can change /run/fairslice (mode 0777): chmod go-w -- /run/fairslice"),
        "{said}"
    );
    assert_eq!(machine.weights(), ["9999", "150"]);
    assert!(!machine.path().join("run/fairslice/last-good").exists());
}

/// Drafts are anybody's.
#[test]
fn a_file_that_is_only_checked_may_be_anybodys() {
    let machine = Machine::new();
    machine.chmod(MAIN, 0o666);
    let file = machine.path().join(MAIN);
    assert_eq!(machine.fairslice(&["check", file.to_str().unwrap()]).0, Some(0));
}
