//! `fairslice status` on a tree of its own: what differs is found, and nothing else.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const SERVICES: &str = "foundry.slice/foundry-services.slice";
const POLICY: &str = r#"
[slice."foundry-services.slice"]
match = ["local-*"]
cpu_weight = 200
memory_high = "50%"
[service.local-fs]
oom_score_adj = -500
[service.local-idle]
oom_score_adj = 1
[service.ssh]
oom_score_adj = -1000
set_by = "service"
[logins]
cpu_weight = 100
total_weight = 100
oom_score_adj = 0
[logins.user.root]
cpu_weight = 300
"#;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn cgroup(root: &Path, path: &str, attributes: &[(&str, &str)]) {
    write(root, &format!("sys/fs/cgroup/{path}/cgroup.procs"), "");
    for (name, value) in attributes {
        write(root, &format!("sys/fs/cgroup/{path}/{name}"), &format!("{value}\n"));
    }
}

fn process(root: &Path, pid: u32, parent: u32, cgroup: &str, score: i32) {
    write(root, &format!("sys/fs/cgroup/{cgroup}/cgroup.procs"), &format!("{pid}\n"));
    write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
    write(root, &format!("proc/{pid}/stat"), &format!("{pid} (a (b) c) S {parent} 1 1\n"));
    write(root, &format!("proc/{pid}/oom_score_adj"), &format!("{score}\n"));
}

/// A machine of 2 GiB on which everything is as the policy says.
fn machine() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "etc/fairslice/policy.toml", POLICY);
    write(root, "proc/meminfo", "MemTotal:        2097152 kB\n");
    write(root, "proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
    cgroup(root, "foundry.slice", &[("cpu.weight", "200")]);
    cgroup(root, SERVICES, &[("cpu.weight", "200"), ("memory.high", "1073741824")]);
    process(root, 10, 1, &format!("{SERVICES}/local-fs.service"), -500);
    process(root, 11, 1, &format!("{SERVICES}/local-slm.service"), 0);
    process(root, 12, 1, "system.slice/ssh.service", -1000);
    cgroup(root, "user.slice", &[("cpu.weight", "100")]);
    cgroup(root, "user.slice/user-0.slice", &[("cpu.weight", "300")]);
    process(root, 13, 12, "user.slice/user-0.slice/session-1.scope", 0);
    process(root, 14, 1, "user.slice/user-0.slice/user@0.service/init.scope", 100);
    directory
}

fn status(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fairslice"))
        .arg("status")
        .args(arguments)
        .env("FAIRSLICE_ROOT", root)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The settings that differ, as `unit setting live`.
fn differing(root: &Path) -> Vec<String> {
    let (code, out, _) = status(root, &["--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["version"], 1);
    let mut found = Vec::new();
    for unit in json["units"].as_array().unwrap() {
        for setting in unit["settings"].as_array().unwrap() {
            if unit["active"] == true && setting["holds"] == false {
                let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
                found.push(format!(
                    "{} {} {}",
                    text(&unit["unit"]),
                    text(&setting["setting"]),
                    text(&setting["live"])
                ));
            }
        }
    }
    assert_eq!(json["differing"], found.len());
    assert_eq!(code, i32::from(!found.is_empty()));
    found
}

#[test]
fn a_machine_as_declared_has_nothing_to_say() {
    let machine = machine();
    assert_eq!(differing(machine.path()), [""; 0]);
    let (code, text, err) = status(machine.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "\
UNIT                    SETTING        DECLARED                LIVE
foundry.slice           cpu_weight     200                     200                     ok
foundry-services.slice  cpu_weight     200                     200                     ok
                        memory_high    50%                     1G                      ok
local-fs.service        slice          foundry-services.slice  foundry-services.slice  ok
                        oom_score_adj  -500                    -500                    ok
local-idle.service      slice          foundry-services.slice  -                       inactive
                        oom_score_adj  1                       -                       inactive
local-slm.service       slice          foundry-services.slice  foundry-services.slice  ok
ssh.service             oom_score_adj  -1000                   -1000                   ok
user.slice              total_weight   100                     100                     ok
user-0.slice (root)     cpu_weight     300                     300                     ok
                        oom_score_adj  0                       0                       ok

all 10 settings are as declared
";
    assert_eq!(text, expected);
}

#[test]
fn each_difference_is_found() {
    let weight = |path: &'static str| format!("sys/fs/cgroup/{path}/cpu.weight");
    for (file, text, expected) in [
        (weight("foundry.slice"), "100", "foundry.slice cpu_weight 100"),
        (weight("user.slice"), "200", "user.slice total_weight 200"),
        (weight("user.slice/user-0.slice"), "100", "user-0.slice cpu_weight 100"),
        (format!("sys/fs/cgroup/{SERVICES}/memory.high"), "max", "foundry-services.slice memory_high max"),
        ("proc/10/oom_score_adj".to_owned(), "0", "local-fs.service oom_score_adj 0"),
        ("proc/12/oom_score_adj".to_owned(), "0", "ssh.service oom_score_adj 0"),
        // A login that inherited sshd's score.
        ("proc/13/oom_score_adj".to_owned(), "-1000", "user-0.slice oom_score_adj -1000"),
    ] {
        let machine = machine();
        write(machine.path(), &file, &format!("{text}\n"));
        assert_eq!(differing(machine.path()), [expected], "{file}");
        let (_, table, _) = status(machine.path(), &[]);
        assert!(
            table.contains("differs\n") && table.contains("\n1 of 10 settings are not as declared\n"),
            "{table}"
        );
    }
}

#[test]
fn a_service_in_the_wrong_slice_is_found() {
    let machine = machine();
    process(machine.path(), 20, 1, "system.slice/local-doorman.service", 0);
    assert_eq!(differing(machine.path()), ["local-doorman.service slice system.slice"]);
}

#[test]
fn a_controller_that_is_off_is_a_difference() {
    let machine = machine();
    fs::remove_file(machine.path().join("sys/fs/cgroup").join(SERVICES).join("memory.high")).unwrap();
    assert_eq!(differing(machine.path()), ["foundry-services.slice memory_high -"]);
}

#[test]
fn a_user_may_lower_only_their_own_chances() {
    let machine = machine();
    write(machine.path(), "proc/13/oom_score_adj", "300\n");
    assert_eq!(differing(machine.path()), [""; 0]);
}

#[test]
fn an_error_in_the_policy_is_said_and_counts() {
    let machine = machine();
    write(machine.path(), "etc/fairslice/policy.d/50.toml", "[logins]\ncpu_weight = 0\n");
    let (code, text, err) = status(machine.path(), &[]);
    assert!(text.contains("as declared") && err.contains("50.toml:2:14"), "{text}{err}");
    assert_eq!(code, 1);
    let (code, json, err) = status(machine.path(), &["--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(json["policy"]["in_force"], "current");
    assert!(json["policy"]["errors"][0].as_str().unwrap().contains("50.toml:2:14"));
}

#[test]
fn a_machine_that_cannot_be_looked_at_is_two() {
    let machine = machine();
    write(machine.path(), "proc/self/cgroup", "4:memory:/\n");
    let (code, _, err) = status(machine.path(), &[]);
    assert!(err.contains("cgroup v1") && err.lines().count() == 1, "{err}");
    assert_eq!(code, 2);
}

#[test]
fn colour_is_for_terminals() {
    let machine = machine();
    write(machine.path(), "proc/10/oom_score_adj", "0\n");
    assert!(!status(machine.path(), &[]).1.contains('\u{1b}'));
}

/// The launcher has PID 1 put a service that is in a wrong slice into a scope in the right one.
#[test]
fn a_service_is_where_its_scope_is() {
    let machine = machine();
    let root = machine.path();
    fs::remove_dir_all(root.join(format!("sys/fs/cgroup/{SERVICES}/local-fs.service"))).unwrap();
    cgroup(root, "system.slice/local-fs.service", &[]);
    process(root, 10, 1, &format!("{SERVICES}/local-fs-10.scope"), -500);
    assert_eq!(differing(root), [""; 0]);
    process(root, 15, 1, "system.slice/local-fs.service", -500);
    assert_eq!(differing(root), ["local-fs.service slice system.slice"]);
}
