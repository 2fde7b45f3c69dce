//! `fairslice fleet`: what `status --json` says of machines, in one table; and files that hold anything else.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod fixture;
mod schema;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fixture::{fairslice, write};
use schema::Schema;
use serde_json::Value;
use tempfile::TempDir;

/// What `status --json` says of the machine, or of one like it, called so.
fn status(name: &[u8], change: impl Fn(&Path)) -> String {
    let machine = fixture::machine();
    write(machine.path(), "proc/sys/kernel/hostname", "");
    fs::write(machine.path().join("proc/sys/kernel/hostname"), [name, b"\n"].concat()).unwrap();
    change(machine.path());
    fairslice(machine.path(), &["status", "--json"]).1
}

fn well(_: &Path) {}

fn heavier(root: &Path) {
    write(root, "sys/fs/cgroup/user.slice/cpu.weight", "300\n");
}

fn worse(root: &Path) {
    heavier(root);
    write(root, "sys/fs/cgroup/foundry.slice/cpu.weight", "100\n");
    write(root, "sys/fs/cgroup/user.slice/user-0.slice/cpu.weight", "100\n");
}

fn broken(root: &Path) {
    write(root, "etc/fairslice/policy.toml", "[logins\n");
    write(root, "run/fairslice/last-good/etc/fairslice/policy.toml", "[logins]\ncpu_weight = 100\n");
}

fn fragment(root: &Path) {
    write(root, "etc/fairslice/policy.d/50-broken.toml", "[logins\n");
}

fn without(root: &Path) {
    write(root, "etc/fairslice/policy.toml", "[logins\n");
}

/// A directory with these files, and the command in it.
struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self(directory)
    }

    fn fleet(&self, arguments: &[&str]) -> (i32, String, String) {
        self.fleet_of(arguments, "")
    }

    fn fleet_of(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        command.arg("fleet").args(arguments).current_dir(self.0.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who does not read it may be gone.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

/// The first column, without the heading.
fn hosts(table: &str) -> Vec<&str> {
    table
        .lines()
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split(' ').next().unwrap())
        .collect()
}

#[test]
fn status_says_whose_it_is_and_of_when() {
    let value: Value = serde_json::from_str(&status(b"web1", well)).unwrap();
    assert_eq!(value["host"], "web1");
    let output = Command::new("date").args(["--utc", "+%Y-%m-%dT%H:"]).output().unwrap();
    let now = String::from_utf8(output.stdout).unwrap();
    let time = value["time"].as_str().unwrap();
    assert!(time.len() == 20 && time[..13] == now[..13], "{time} at {now}");
}

#[test]
fn the_worst_is_first() {
    let files = Files::new(&[
        ("a", &status(b"fine-b", well)),
        ("b", &status(b"one-off", heavier)),
        ("c", &status(b"three-off", worse)),
        ("d", &status(b"last-good", broken)),
        ("e", &status(b"lawless", without)),
        ("f", &status(b"fine-a", well)),
        ("g", &status(b"fragment", fragment)),
    ]);
    let (code, table, complaints) = files.fleet(&["a", "b", "c", "d", "e", "f", "g"]);
    assert_eq!((code, complaints.as_str()), (1, ""));
    assert_eq!(
        hosts(&table),
        ["lawless", "last-good", "three-off", "one-off", "fragment", "fine-a", "fine-b"],
        "{table}"
    );
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("one-off").contains("user.slice total_weight: 300 instead of 100"), "{table}");
    assert!(line("three-off").contains(" and 2 more"), "{table}");
    assert!(
        line("last-good").contains("last good, 1 error") && line("last-good").contains("policy.toml:1"),
        "{table}"
    );
    assert!(line("lawless").contains("none, 1 error"), "{table}");
    assert!(table.ends_with("\n7 hosts, 5 not as declared\n"), "{table}");
    let (code, table, _) = files.fleet(&["a", "f"]);
    assert_eq!((code, hosts(&table)), (0, vec!["fine-a", "fine-b"]));
    assert!(table.ends_with("\n2 hosts, all as declared\n"), "{table}");
}

#[test]
fn what_is_no_such_document_is_named_and_the_others_are_shown() {
    let good = status(b"good", well);
    let cases = [
        ("empty", String::new(), "is empty"),
        ("blank", " \n\n".to_owned(), "is empty"),
        ("cut", good[..good.len() / 2].to_owned(), "was cut off"),
        ("text", "Unauthorized\n".to_owned(), "is no JSON"),
        ("binary", "\u{0}\u{1}".to_owned(), "is no JSON"),
        ("list", "[1, 2]".to_owned(), "is no output of \"fairslice status --json\""),
        ("number", "1".to_owned(), "is no output of \"fairslice status --json\""),
        (
            "other",
            "{\"version\": 1, \"findings\": []}".to_owned(),
            "is no output of \"fairslice status --json\"",
        ),
        (
            "newer",
            good.replacen("\"version\": 1", "\"version\": 2", 1),
            "is of version 2, and this fairslice reads version 1",
        ),
        (
            "odd",
            good.replacen("\"active\": true", "\"active\": 7", 1),
            "is no output of \"fairslice status --json\"",
        ),
    ];
    let mut files = vec![("good", good.as_str())];
    files.extend(cases.iter().map(|(name, text, _)| (*name, text.as_str())));
    let files = Files::new(&files);
    for (name, _, why) in &cases {
        let (code, table, complaints) = files.fleet(&[name, "good"]);
        assert_eq!((code, hosts(&table)), (2, vec!["good"]), "{name}");
        assert_eq!(complaints.lines().count(), 1, "{complaints}");
        assert!(
            complaints.starts_with(&format!("fairslice: {name} ")) && complaints.contains(why),
            "{complaints}"
        );
        assert_eq!(files.fleet(&[name]).1, "", "{name}");
    }
    let (code, _, complaints) = files.fleet(&["nowhere", "good"]);
    assert!(code == 2 && complaints.starts_with("fairslice: nowhere cannot be read: "), "{complaints}");
    assert_eq!(files.fleet(&[]).0, 2);
}

#[test]
fn of_one_host_the_latest_counts() {
    let (old, new) = (status(b"web1", heavier), status(b"web1", well));
    let dated = |text: &str, year: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        text.replacen(value["time"].as_str().unwrap(), &format!("{year}-01-01T00:00:00Z"), 1)
    };
    let files = Files::new(&[("old", &dated(&old, "2025")), ("new", &dated(&new, "2026"))]);
    for order in [["old", "new"], ["new", "old"]] {
        let (code, table, complaints) = files.fleet(&order);
        assert_eq!((code, hosts(&table)), (2, vec!["web1"]));
        assert!(
            table.contains("2026-01-01T00:00:00Z") && table.contains("1 host, all as declared"),
            "{table}"
        );
        let expected = "fairslice: old is about web1 as well: what counts is new, of 2026-01-01T00:00:00Z\n";
        assert_eq!(complaints, expected);
    }
    assert_eq!(files.fleet(&["new", "new"]).0, 2);
}

#[test]
fn several_documents_come_in_one_file_and_from_stdin() {
    let (one, other) = (status(b"one", well), status(b"other", heavier));
    let files = Files::new(&[("both", &format!("{one}{other}"))]);
    assert_eq!(hosts(&files.fleet(&["both"]).1), ["other", "one"]);
    let (code, table, complaints) = files.fleet_of(&["-"], &format!("{one}\n{other}{}", &one[..99]));
    assert_eq!((code, hosts(&table)), (2, vec!["other", "one"]));
    assert!(complaints.contains("fairslice: stdin document 3: ends in the middle"), "{complaints}");
}

#[test]
fn a_document_without_a_name_goes_by_its_file() {
    let mut value: Value = serde_json::from_str(&status(b"web1", well)).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("host");
    object.remove("time");
    let files = Files::new(&[("web1.json", &value.to_string())]);
    let (code, table, complaints) = files.fleet(&["web1.json"]);
    assert_eq!((code, complaints.as_str(), hosts(&table)), (0, "", vec!["web1.json"]));
}

#[test]
fn the_json_is_as_described() {
    let schema = Schema::of("fleet");
    let nameless = status(b"x", |root| fs::remove_file(root.join("proc/sys/kernel/hostname")).unwrap());
    let mut untimed: Value = serde_json::from_str(&status(b"untimed", well)).unwrap();
    untimed.as_object_mut().unwrap().remove("time");
    let gone = |root: &Path| {
        worse(root);
        fs::remove_file(root.join("sys/fs/cgroup/foundry.slice/cpu.weight")).unwrap();
    };
    let files = Files::new(&[
        ("a", &status(b"\xff\x1b[2J", gone)),
        ("b", &nameless),
        ("c", &status(b"last-good", broken)),
        ("d", &status(b"lawless", without)),
        ("e", &untimed.to_string()),
        ("f", "{}"),
    ]);
    let odd = OsStr::from_bytes(b"\xff");
    fs::write(files.0.path().join(odd), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
    command.current_dir(files.0.path()).args(["fleet", "--json", "a", "b", "c", "d", "e", "f"]).arg(odd);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let value = schema.check(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(value["hosts"].as_array().unwrap().len(), 5);
    assert_eq!(value["unread"].as_array().unwrap().len(), 2);
    assert_eq!(schema.unseen(), [""; 0]);
}
