//! `fairslice doctor` and `fairslice explain unit` on a machine of their own: nothing is found where all is
//! well, and each cause by one change.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::write;
use serde_json::Value;

const SERVICES: &str = "foundry.slice/foundry-services.slice";
const SLICE: &str = "foundry-services.slice";
const CONTROLLERS: &str = "cpu io memory pids\n";
const GENERATED: &str = "/run/systemd/generator";
const POLICY: &str = r#"[slice."foundry-services.slice"]
match = ["local-*"]
cpu_weight = 200
memory_high = "50%"
[service.local-fs]
oom_score_adj = -500
[service.ssh]
oom_score_adj = -1000
set_by = "service"
[logins]
cpu_weight = 100
total_weight = 100
"#;
/// When PID 1 last read its units, in µs; a process started at tick 6000 was started a minute after the boot.
const RELOADED: u64 = 50_000_000;

/// What is below `directory`, and what PID 1 says of its units.
struct Machine {
    directory: tempfile::TempDir,
    units: BTreeMap<String, BTreeMap<&'static str, String>>,
}

impl Machine {
    /// 2 GiB, and everything is as the policy says.
    fn new() -> Self {
        let mut machine = Self { directory: tempfile::tempdir().unwrap(), units: BTreeMap::new() };
        machine.write("etc/fairslice/policy.toml", POLICY);
        machine.write("proc/meminfo", "MemTotal:        2097152 kB\n");
        machine.write("sys/devices/system/cpu/online", "0-1\n");
        machine.write("sys/fs/cgroup/cgroup.controllers", CONTROLLERS);
        machine.write("sys/fs/cgroup/cgroup.subtree_control", CONTROLLERS);
        machine.write("proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
        machine.write("usr/lib/systemd/system-generators/fairslice-generator", "");
        machine.slice("foundry.slice", "foundry.slice", &[("CPUWeight", "cpu.weight", "200")]);
        let weights = [("CPUWeight", "cpu.weight", "200"), ("MemoryHigh", "memory.high", "1073741824")];
        machine.slice(SLICE, SERVICES, &weights);
        machine.slice("system.slice", "system.slice", &[]);
        machine.slice("user.slice", "user.slice", &[("CPUWeight", "cpu.weight", "100")]);
        machine.service("local-fs.service", SLICE, SERVICES, 10, -500);
        machine.service("local-slm.service", SLICE, SERVICES, 11, 0);
        machine.service("ssh.service", "system.slice", "system.slice", 12, -1000);
        // sshd sets its score itself.
        machine.set("ssh.service", "OOMScoreAdjust", "0");
        machine.write("usr/lib/systemd/system/ssh.service", "[Service]\nKillMode=process\n");
        machine.set("ssh.service", "FragmentPath", "/usr/lib/systemd/system/ssh.service");
        let weight = [("CPUWeight", "cpu.weight", "100")];
        machine.slice("user-0.slice", "user.slice/user-0.slice", &weight);
        machine.process(13, "user.slice/user-0.slice/session-1.scope", 0);
        machine.generate();
        machine
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, path: &str, text: &str) {
        write(self.root(), path, text);
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root().join(path)).unwrap();
    }

    /// Runs the generator, and has PID 1 know its drop-ins.
    fn generate(&mut self) {
        let output = self.root().join("run/systemd/generator");
        // There is none at the first time.
        let _ = fs::remove_dir_all(&output);
        let run = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"))
            .arg("--root")
            .args([self.root(), &output])
            .status();
        assert!(run.unwrap().success());
        for (unit, drop_in) in [
            ("foundry.slice", "foundry.slice"),
            (SLICE, SLICE),
            ("user.slice", "user.slice"),
            ("local-fs.service", "local-fs.service"),
            ("local-slm.service", "local-.service"),
        ] {
            let path = format!("{drop_in}.d/40-fairslice.conf");
            let path =
                if output.join(&path).exists() { format!("{GENERATED}/{path}") } else { String::new() };
            self.set(unit, "DropInPaths", &path);
        }
    }

    fn set(&mut self, unit: &str, property: &'static str, value: &str) {
        let unit = self.units.entry(unit.to_owned()).or_default();
        unit.insert(property, value.to_owned());
    }

    /// Another drop-in of a unit, after those that there are.
    fn drop_in(&mut self, unit: &str, path: &str, text: &str) {
        self.write(path, text);
        let known =
            self.units.get(unit).and_then(|unit| unit.get("DropInPaths")).cloned().unwrap_or_default();
        self.set(unit, "DropInPaths", format!("{known} /{path}").trim());
    }

    fn slice(&mut self, name: &str, cgroup: &str, values: &[(&'static str, &str, &str)]) {
        self.set(name, "ActiveState", "active");
        self.set(name, "ControlGroup", &format!("/{cgroup}"));
        self.write(&format!("sys/fs/cgroup/{cgroup}/cgroup.procs"), "");
        self.write(&format!("sys/fs/cgroup/{cgroup}/cgroup.subtree_control"), CONTROLLERS);
        for (property, attribute, value) in values {
            self.set(name, property, value);
            self.attribute(cgroup, attribute, value);
        }
    }

    fn attribute(&self, cgroup: &str, name: &str, value: &str) {
        self.write(&format!("sys/fs/cgroup/{cgroup}/{name}"), &format!("{value}\n"));
    }

    fn service(&mut self, name: &str, slice: &str, cgroup: &str, pid: u32, score: i32) {
        self.set(name, "ActiveState", "active");
        self.set(name, "Slice", slice);
        self.set(name, "ControlGroup", &format!("/{cgroup}/{name}"));
        self.set(name, "MainPID", &pid.to_string());
        self.set(name, "OOMScoreAdjust", &score.to_string());
        self.set(name, "ExecMainStartTimestampMonotonic", "40000000");
        self.set(name, "ActiveEnterTimestampMonotonic", "40000000");
        self.process(pid, &format!("{cgroup}/{name}"), score);
    }

    fn process(&self, pid: u32, cgroup: &str, score: i32) {
        self.write(&format!("sys/fs/cgroup/{cgroup}/cgroup.procs"), &format!("{pid}\n"));
        for file in ["status", "oom_score"] {
            self.write(
                &format!("proc/{pid}/{file}"),
                &fs::read_to_string(format!("/proc/self/{file}")).unwrap(),
            );
        }
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} (p){rest}"));
        self.starts(pid, 4000);
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
        self.write(&format!("proc/{pid}/oom_score_adj"), &format!("{score}\n"));
    }

    /// When a process was started, in ticks after the boot.
    fn rename(&self, pid: u32, name: &str) {
        let stat = format!("proc/{pid}/stat");
        let text = fs::read_to_string(self.root().join(&stat)).unwrap();
        self.write(&stat, &text.replacen("(p)", &format!("({name})"), 1));
    }

    fn starts(&self, pid: u32, at: u64) {
        let path = format!("proc/{pid}/stat");
        let text = fs::read_to_string(self.root().join(&path)).unwrap();
        let (before, after) = text.rsplit_once(')').unwrap();
        let mut fields: Vec<String> = after.split_whitespace().map(str::to_owned).collect();
        fields[19] = at.to_string();
        self.write(&path, &format!("{before}) {}\n", fields.join(" ")));
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut show = String::new();
        for (name, properties) in &self.units {
            write!(show, "Id={name}\nLoadState=loaded\n").unwrap();
            for (key, value) in properties {
                writeln!(show, "{key}={value}").unwrap();
            }
            show.push('\n');
        }
        self.write("run/systemd/show", &show);
        self.write("run/systemd/show-manager", &format!("UnitsLoadTimestampMonotonic={RELOADED}\n"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        let output = command.arg("--root").arg(self.root()).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// What the doctor finds: code, subject, place, kind of remedy.
    fn found(&self) -> Vec<String> {
        self.findings(&[]).iter().map(line).collect()
    }

    fn findings(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, out, err) = self.run(&[&["doctor", "--json"], arguments].concat());
        assert_eq!(err, "");
        let json: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["version"], 1);
        let findings = json["findings"].as_array().unwrap().clone();
        assert_eq!(code, i32::from(!findings.is_empty()));
        findings
    }
}

fn line(finding: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = finding["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
    let (code, subject, file) = (text(&finding["code"]), text(&finding["subject"]), text(&finding["file"]));
    format!("{code} {subject} {file}{line} {}", text(&finding["fix"]["kind"]))
}

#[test]
fn a_machine_as_declared_has_nothing_to_say() {
    let machine = Machine::new();
    assert_eq!(machine.found(), [""; 0]);
    let (code, text, err) = machine.run(&["doctor"]);
    assert_eq!((code, err.as_str()), (0, ""));
    // 4 of slices, user.slice, 2 slices, 2 scores; Slice= of ssh.service.
    assert_eq!(text, "nothing found: 9 settings looked at\n");
    assert_eq!(machine.run(&["doctor", "--no-policy"]).0, 0);
}

#[test]
fn what_overrides_the_policy_is_named_with_its_line() {
    for (path, text, expected) in [
        (
            "etc/systemd/system/foundry-services.slice.d/60-x.conf",
            "# mine\n[Slice]\nMemoryMax=2G\nCPUWeight=50\n",
            "FS011 foundry-services.slice /etc/systemd/system/foundry-services.slice.d/60-x.conf:4 edit",
        ),
        (
            "run/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf",
            "# made\n[Slice]\nCPUWeight=50\n",
            "FS012 foundry-services.slice /run/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf:3 command",
        ),
        (
            "etc/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf",
            "[Slice]\nCPUWeight=50\n",
            "FS012 foundry-services.slice /etc/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf:2 command",
        ),
    ] {
        let mut machine = Machine::new();
        machine.drop_in(SLICE, path, text);
        // One that says the same is no finding.
        assert_eq!(machine.found(), [""; 0]);
        machine.set(SLICE, "CPUWeight", "50");
        machine.attribute(SERVICES, "cpu.weight", "50");
        assert_eq!(machine.found(), [expected]);
        assert_eq!(machine.findings(&[])[0]["what"], "cpu_weight 200 is overridden by 50");
        // What PID 1 has, the cgroup has.
        assert!(machine.findings(&["--no-policy"]).is_empty());
    }
}

#[test]
fn a_file_of_the_same_name_hides_ours() {
    let mut machine = Machine::new();
    let path = "etc/systemd/system/local-fs.service.d/40-fairslice.conf";
    machine.write(path, "[Service]\nOOMScoreAdjust=-10\n");
    machine.set("local-fs.service", "DropInPaths", &format!("/{path}"));
    machine.set("local-fs.service", "OOMScoreAdjust", "-10");
    machine.set("local-fs.service", "Slice", "system.slice");
    machine.write("proc/10/oom_score_adj", "-10\n");
    assert_eq!(machine.found(), [format!("FS011 local-fs.service /{path}:2 edit")]);
}

#[test]
fn two_values_in_one_file_are_one_finding() {
    let mut machine = Machine::new();
    let path = "etc/systemd/system/foundry-services.slice.d/60-x.conf";
    machine.drop_in(SLICE, path, "[Slice]\nCPUWeight=50\nMemoryHigh=1M\n");
    for (property, attribute, value) in
        [("CPUWeight", "cpu.weight", "50"), ("MemoryHigh", "memory.high", "1048576")]
    {
        machine.set(SLICE, property, value);
        machine.attribute(SERVICES, attribute, value);
    }
    let found = machine.findings(&[]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["what"], "cpu_weight 200 is overridden by 50; memory_high 50% is overridden by 1M");
    let cost = "no share as long as it is alone in foundry.slice (against one of weight 100: declared 2 : 1, effective 1 : 2); the limit is 1M, not 50%";
    assert_eq!(found[0]["cost"], cost);
}

#[test]
fn an_edit_without_a_reload_is_one_finding() {
    let machine = Machine::new();
    machine.write("etc/fairslice/policy.toml", &POLICY.replace("cpu_weight = 200", "cpu_weight = 300"));
    let expected = "FS010 foundry-services.slice, foundry.slice /etc/fairslice/policy.toml:3 apply";
    assert_eq!(machine.found(), [expected]);
    let cost = "what was declared before stays in force; \
                foundry.slice: declared 3 : 1 against all logins, effective 2 : 1";
    assert_eq!(machine.findings(&[])[0]["cost"], cost);
    // A comment moves lines and changes no value.
    machine.write("etc/fairslice/policy.toml", &format!("# new\n\n{POLICY}"));
    assert_eq!(machine.found(), [""; 0]);
    // What is declared no more is in force all the same.
    machine.write("etc/fairslice/policy.toml", &POLICY.replace("memory_high = \"50%\"\n", ""));
    let path = format!("{GENERATED}/{SLICE}.d/40-fairslice.conf");
    let found = machine.findings(&[]);
    assert_eq!(found[0]["what"], "MemoryHigh=50% is still set and not in the policy");
    assert!(line(&found[0]).starts_with(&format!("FS010 {SLICE} {path}:")), "{}", found[0]);
}

#[test]
fn without_the_generator_nothing_reaches_pid_1() {
    let generator = "usr/lib/systemd/system-generators/fairslice-generator";
    let subject = "foundry-services.slice, foundry.slice, local-fs.service, local-slm.service, user.slice, \
                   local-.service, user-.slice";
    let machine = Machine::new();
    fs::remove_dir_all(machine.root().join("run/systemd/generator")).unwrap();
    assert_eq!(machine.found(), [format!("FS010 {subject} /etc/fairslice/policy.toml:3 apply")]);
    machine.remove(generator);
    assert_eq!(machine.found(), [format!("FS010 {subject} /{generator} command")]);
    let mask = "etc/systemd/system-generators/fairslice-generator";
    machine.write(mask, "");
    assert_eq!(machine.found(), [format!("FS010 {subject} /{mask} command")]);
}

#[test]
fn files_that_pid_1_has_not_read_are_due() {
    let mut machine = Machine::new();
    // A drop-in of the administrator's is gone again, and PID 1 does not know.
    let gone = "etc/systemd/system/foundry-services.slice.d/60-x.conf";
    machine.drop_in(SLICE, gone, "");
    machine.remove(gone);
    machine.set(SLICE, "NeedDaemonReload", "yes");
    machine.set(SLICE, "CPUWeight", "50");
    machine.attribute(SERVICES, "cpu.weight", "50");
    assert_eq!(machine.found(), [format!("FS010 {SLICE} {GENERATED}/{SLICE}.d/40-fairslice.conf apply")]);
}

#[test]
fn what_pid_1_has_not_written_is_told_from_what_was_written_past_it() {
    let file = format!("/sys/fs/cgroup/{SERVICES}/cpu.weight");
    let mut machine = Machine::new();
    machine.attribute(SERVICES, "cpu.weight", "100");
    assert_eq!(machine.found(), [format!("FS013 {SLICE} {file} apply")]);
    let undeclared = machine.findings(&["--no-policy"]);
    assert_eq!(undeclared.iter().map(line).collect::<Vec<_>>(), [format!("FS013 {SLICE} {file} apply")]);
    // A unit that was started there since has had it written.
    machine.set("local-slm.service", "ActiveEnterTimestampMonotonic", "60000000");
    assert_eq!(machine.found(), [format!("FS014 {SLICE} {file} apply")]);
    machine.remove(file.trim_start_matches('/'));
    assert_eq!(machine.found(), [format!("FS020 {SLICE} {file} command")]);
}

#[test]
fn what_is_not_in_force_is_told_as_a_ratio() {
    let mut machine = Machine::new();
    machine.attribute("foundry.slice", "cpu.weight", "100");
    let cost = |machine: &Machine| machine.findings(&[])[0]["cost"].clone();
    assert_eq!(cost(&machine), "declared 2 : 1 against all logins, effective 1 : 1");
    // Also of what is declared of one service, and of a protection.
    let more = "[service.local-slm]\ncpu_weight = 500\n";
    let slice = POLICY.replacen("cpu_weight", "memory_min = \"512M\"\ncpu_weight", 1);
    machine.write("etc/fairslice/policy.toml", &format!("{slice}{more}"));
    machine.generate();
    machine.attribute("foundry.slice", "cpu.weight", "200");
    let own = format!("{GENERATED}/local-slm.service.d/40-fairslice.conf");
    machine.set("local-slm.service", "DropInPaths", &own);
    machine.set("local-slm.service", "CPUWeight", "500");
    for (service, weight) in [("local-fs", "100"), ("local-slm", "50")] {
        machine.attribute(&format!("{SERVICES}/{service}.service"), "cpu.weight", weight);
    }
    for (unit, cgroup) in [("foundry.slice", "foundry.slice"), (SLICE, SERVICES)] {
        machine.set(unit, "MemoryMin", "536870912");
        for (attribute, value) in [("current", "4096"), ("min", "0"), ("low", "0"), ("max", "max")] {
            machine.attribute(cgroup, &format!("memory.{attribute}"), value);
        }
    }
    machine.attribute("foundry.slice", "memory.high", "max");
    let costs: Vec<Value> = machine.findings(&[]).iter().map(|found| found["cost"].clone()).collect();
    assert_eq!(
        costs,
        [
            "declared 512M protected, effective 0",
            "declared 512M protected, effective 0",
            "declared 5 : 1 against local-fs.service, effective 1 : 2",
        ]
    );
    // What PID 1 has holds from the next start on, and never more than what the tree makes of it.
    machine.set(SLICE, "MemoryMin", "268435456");
    for (ancestor, effective) in [("536870912", "256M"), ("134217728", "128M")] {
        machine.attribute("foundry.slice", "memory.min", ancestor);
        machine.attribute(SERVICES, "memory.min", "536870912");
        let found = machine.findings(&[]);
        let cost = format!("declared 512M protected, effective {effective}");
        assert!(found.iter().any(|f| f["subject"] == SLICE && f["cost"] == cost), "{found:#?}");
    }
}

/// Also where nothing runs in the right one yet.
#[test]
fn a_service_in_the_wrong_slice_is_compared_with_itself_in_the_right_one() {
    let mut machine = Machine::new();
    let batch = "[slice.\"batch-jobs.slice\"]\nmatch = [\"cron\"]\ncpu_weight = 300\n";
    machine.write("etc/fairslice/policy.toml", &format!("{POLICY}{batch}"));
    machine.generate();
    machine.service("cron.service", "batch-jobs.slice", "system.slice", 14, 0);
    machine.set("cron.service", "DropInPaths", &format!("{GENERATED}/cron.service.d/40-fairslice.conf"));
    machine.attribute("system.slice", "cpu.weight", "50");
    machine.attribute("system.slice/cron.service", "cpu.weight", "100");
    let found = machine.findings(&[]);
    assert_eq!((found.len(), &found[0]["code"]), (1, &"FS015".into()), "{found:#?}");
    let cost = "declared 3 : 1 against all logins, effective 1 : 2; \
                it has its share and its limits from system.slice";
    assert_eq!(found[0]["cost"], cost);
}

#[test]
fn a_service_in_another_slice_needs_a_restart() {
    let mut machine = Machine::new();
    machine.attribute("system.slice", "cpu.weight", "100");
    fs::remove_dir_all(machine.root().join(format!("sys/fs/cgroup/{SERVICES}/local-slm.service"))).unwrap();
    machine.service("local-slm.service", SLICE, "system.slice", 11, 0);
    let drop_in = format!("{GENERATED}/local-.service.d/40-fairslice.conf:4");
    assert_eq!(machine.found(), [format!("FS015 local-slm.service {drop_in} restart")]);
    let cost = "declared 2 : 1 against all logins, effective 1 : 1; \
                it has its share and its limits from system.slice";
    assert_eq!(machine.findings(&[])[0]["cost"], cost);
    // A restart did not help, because of what it left.
    machine.write("etc/systemd/system/local-slm.service", "[Service]\n\nKillMode=process\n");
    machine.set("local-slm.service", "FragmentPath", "/etc/systemd/system/local-slm.service");
    machine.set("local-slm.service", "KillMode", "process");
    machine.process(9, "system.slice/local-slm.service", 0);
    machine.starts(9, 100);
    let fragment = "/etc/systemd/system/local-slm.service:3";
    assert_eq!(machine.found(), [format!("FS015 local-slm.service {fragment} command")]);
    assert!(
        machine.findings(&[])[0]["cause"].as_str().unwrap().contains("process 9 (p) of an earlier start")
    );
    // Nor would one help that leaves what is there now.
    machine.starts(9, 5000);
    let found = &machine.findings(&[])[0];
    assert!(found["cause"].as_str().unwrap().contains("lets process 9 (p) live"), "{found}");
    assert_eq!(
        found["fix"]["command"],
        "systemctl stop local-slm.service; systemctl kill local-slm.service; systemctl start local-slm.service"
    );
    machine.set("local-slm.service", "Transient", "yes");
    assert_eq!(machine.findings(&[])[0]["fix"]["command"], "kill 9; systemctl restart local-slm.service");
    machine.set("local-slm.service", "KillMode", "control-group");
    assert_eq!(machine.found(), [format!("FS015 local-slm.service {drop_in} restart")]);
    machine.remove("proc/9/stat");
    // The launcher has had it put where it belongs.
    machine.write("sys/fs/cgroup/system.slice/local-slm.service/cgroup.procs", "");
    machine.write("sys/fs/cgroup/system.slice/local-slm.service/cgroup.events", "populated 0\n");
    machine.process(11, &format!("{SERVICES}/local-slm-11.scope"), 0);
    assert_eq!(machine.found(), [""; 0]);
    // Also where PID 1 has no such slice.
    machine.set("local-slm.service", "Slice", "system.slice");
    assert!(machine.findings(&["--no-policy"]).is_empty());
}

#[test]
fn processes_that_are_not_where_their_unit_is_are_found() {
    let machine = Machine::new();
    machine.process(20, "a.slice/local-slm.service", 0);
    let left = "/sys/fs/cgroup/a.slice/local-slm.service";
    assert_eq!(machine.found(), [format!("FS016 local-slm.service {left} command")]);
    assert_eq!(machine.findings(&["--no-policy"]).len(), 1);
    machine.remove("proc/20/stat");
    machine.process(11, "elsewhere", 0);
    assert_eq!(machine.found(), ["FS017 local-slm.service /sys/fs/cgroup/elsewhere command"]);
}

#[test]
fn a_score_that_was_never_set_is_told_from_one_that_was_changed() {
    let mut machine = Machine::new();
    machine.write("proc/10/oom_score_adj", "0\n");
    assert_eq!(machine.found(), ["FS030 local-fs.service /proc/10/oom_score_adj apply"]);
    machine.set("local-fs.service", "ExecMainStartTimestampMonotonic", "60000000");
    assert_eq!(machine.found(), ["FS031 local-fs.service /proc/10/oom_score_adj edit"]);
    // PID 1 has not set it yet, if it is root's process still: others may call themselves as they like.
    machine.rename(10, "(sleep)");
    machine.write("proc/10/status", "Name:\t(sleep)\nUid:\t1001\t0\t0\t0\n");
    assert_eq!(machine.found(), ["FS031 local-fs.service /proc/10/oom_score_adj edit"]);
    machine.write("proc/10/status", "Name:\t(sleep)\nUid:\t0\t0\t0\t0\n");
    assert_eq!(machine.found(), [""; 0]);
    let machine = Machine::new();
    machine.write("proc/12/oom_score_adj", "0\n");
    assert_eq!(machine.found(), ["FS030 ssh.service /etc/fairslice/policy.toml:8 edit"]);
}

#[test]
fn what_fairslice_itself_has_set_is_not_somebody_elses() {
    let mut machine = Machine::new();
    let path = "run/systemd/system.control/user.slice.d/50-CPUWeight.conf";
    machine.drop_in("user.slice", path, "[Slice]\nCPUWeight=250\n");
    machine.set("user.slice", "CPUWeight", "250");
    machine.attribute("user.slice", "cpu.weight", "250");
    assert_eq!(machine.found(), [format!("FS012 user.slice /{path}:2 command")]);
    machine.write("run/fairslice/properties/user.slice", "CPUWeight\n");
    assert_eq!(machine.found(), [format!("FS046 user.slice /{path}:2 apply")]);
    // A sum has no drop-in. Only root is logged in.
    machine
        .write("etc/fairslice/policy.toml", &POLICY.replace("total_weight = 100", "total_weight = \"sum\""));
    machine.generate();
    machine.set("user.slice", "DropInPaths", &format!("/{path}"));
    assert_eq!(machine.found(), [format!("FS046 user.slice /{path}:2 apply")]);
    let theirs = "etc/systemd/system/user.slice.d/60-x.conf";
    machine.drop_in("user.slice", theirs, "[Slice]\nCPUWeight=250\n");
    assert_eq!(machine.found(), [format!("FS011 user.slice /{theirs}:2 edit")]);
    machine.set("user.slice", "CPUWeight", "100");
    machine.attribute("user.slice", "cpu.weight", "100");
    assert_eq!(machine.found(), [""; 0]);
}

#[test]
fn errors_in_the_policy_are_found_by_file() {
    let machine = Machine::new();
    machine.write("etc/fairslice/policy.d/50.toml", "[logins]\ncpu_weight = 0\nio_wait = 3\n");
    let found = machine.findings(&[]);
    assert_eq!(
        found.iter().map(line).collect::<Vec<_>>(),
        ["FS002 /etc/fairslice/policy.d/50.toml /etc/fairslice/policy.d/50.toml:2 edit"]
    );
    assert!(found[0]["cause"].as_str().unwrap().contains("first of 2 errors"), "{}", found[0]);
    machine.remove("etc/fairslice/policy.d/50.toml");
    machine.write("etc/fairslice/policy.toml", "x = 1\n");
    let found = machine.findings(&[]);
    assert_eq!(
        found.iter().map(line).collect::<Vec<_>>(),
        ["FS001 /etc/fairslice/policy.toml /etc/fairslice/policy.toml:1 edit"]
    );
    assert!(found[0]["what"].as_str().unwrap().contains("last good"), "{}", found[0]);
}

#[test]
fn findings_are_text_for_people() {
    let mut machine = Machine::new();
    machine.write("proc/10/oom_score_adj", "0\n");
    machine.drop_in(
        SLICE,
        "run/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf",
        "[Slice]\nCPUWeight=50\n",
    );
    machine.set(SLICE, "CPUWeight", "50");
    machine.attribute(SERVICES, "cpu.weight", "50");
    let (code, text, err) = machine.run(&["doctor"]);
    assert_eq!((code, err.as_str()), (1, ""));
    let expected = "\
FS012 severe    foundry-services.slice: cpu_weight 200 is overridden by 50
      cost   no share as long as it is alone in foundry.slice (against one of weight 100: declared 2 : 1, effective 1 : 2)
      cause  systemctl set-property --runtime, until the next boot (/run/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf:2)
      fix    rm /run/systemd/system.control/foundry-services.slice.d/50-CPUWeight.conf && fairslice apply
FS030 severe    local-fs.service: its main process 10 (p) has oom_score_adj 0, not -500
      cost   the OOM killer takes it earlier than declared
      cause  it was started before the last daemon-reload, when it had no such score (or has changed it since) (/proc/10/oom_score_adj)
      fix    fairslice apply
2 findings, 9 settings looked at
";
    assert_eq!(text, expected);
}

#[test]
fn a_units_values_are_followed_link_by_link() {
    let mut machine = Machine::new();
    let (code, text, _) = machine.run(&["explain", "unit", "local-fs"]);
    let expected = "\
local-fs.service
slice
    policy    foundry-services.slice                                            /etc/fairslice/policy.toml:2
    drop-in   foundry-services.slice                                            /run/systemd/generator/local-fs.service.d/40-fairslice.conf:4
    property  foundry-services.slice                                            /run/systemd/generator/local-fs.service.d/40-fairslice.conf:4
    cgroup    foundry-services.slice                                            /sys/fs/cgroup/foundry.slice/foundry-services.slice/local-fs.service
    process   10 in /foundry.slice/foundry-services.slice/local-fs.service      /proc/10/cgroup
oom_score_adj
    policy    -500                                                              /etc/fairslice/policy.toml:6
    drop-in   -500                                                              /run/systemd/generator/local-fs.service.d/40-fairslice.conf:6
    property  -500                                                              /run/systemd/generator/local-fs.service.d/40-fairslice.conf:6
    process   -500                                                              /proc/10/oom_score_adj
";
    assert_eq!((code, squeezed(&text)), (0, squeezed(expected)));
    machine.set(SLICE, "CPUWeight", "50");
    machine.drop_in(SLICE, "etc/systemd/system/x.d/60-x.conf", "[Slice]\nCPUWeight=50\n");
    let (code, text, _) = machine.run(&["explain", "unit", SLICE]);
    assert!(text.contains("  ! property  50 ") && text.contains("FS011"), "{text}");
    assert_eq!((code, text.matches('!').count()), (1, 1));
    let (_, json, _) = machine.run(&["explain", "unit", "--json", SLICE]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["version"], &json["chains"][0]["broken"]["code"]), (&1.into(), &"FS011".into()));
    assert_eq!(json["chains"][0]["links"][2]["holds"], false);
    let (code, _, err) = machine.run(&["explain", "unit", "local-sf"]);
    assert!(err.contains("did you mean local-fs.service, local-slm.service?"), "{err}");
    assert_eq!(code, 2);
}

/// Without the widths of columns.
fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_could_not_be_looked_at_is_said() {
    let machine = Machine::new();
    machine.run(&["doctor"]);
    machine.remove("run/systemd/show");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
    let output = command.arg("--root").arg(machine.root()).arg("doctor").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("run/systemd/show") && err.lines().count() == 1, "{err}");
    assert_eq!(output.status.code(), Some(0));
    machine.write("proc/self/cgroup", "4:memory:/\n");
    let (code, _, err) = machine.run(&["doctor"]);
    assert!(err.contains("cgroup v1"), "{err}");
    assert_eq!(code, 2);
}

/// The codes of the manual page are those of the table, in its order.
#[test]
fn the_manual_lists_every_code() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("man/fairslice.1")).unwrap();
    let (_, section) = page.split_once(".SH FINDINGS\n").unwrap();
    let (section, _) = section.split_once("\n.SH ").unwrap();
    let listed: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with(".B \"FS"))
        .map(|line| line.replacen(".B ", "", 1).replace("\\-", "-"))
        .collect();
    let table: Vec<String> = fairslice::effect::finding::Code::ALL
        .iter()
        .map(|code| {
            let severity = format!("{:?}", code.severity()).to_lowercase();
            let title = code.title().replace('"', "\\(dq");
            format!("\"{code} ({severity}) {title}\"")
        })
        .collect();
    assert_eq!(listed, table);
}
