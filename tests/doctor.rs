//! `fairslice doctor` and `fairslice explain unit` on a machine of their own: nothing is found where all is
//! well, and each cause by one change.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
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

    /// The same machine, of which PID 1 has another value.
    fn with(&self, unit: &str, property: &'static str, value: &str) -> Self {
        let mut other = Self { directory: tempfile::tempdir().unwrap(), units: self.units.clone() };
        let copied = Command::new("cp").arg("-aT").args([self.root(), other.root()]).status();
        assert!(copied.unwrap().success());
        other.set(unit, property, value);
        other
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

/// A team's own numbers beside the policy's: each finding names the lines, with values that the machine keeps.
#[test]
fn memory_settings_that_do_not_hold_are_named_as_they_are_written() {
    let mut machine = Machine::new();
    let fragment = "/etc/systemd/system/foundry-services.slice";
    let limits = "/etc/systemd/system/local-fs.service.d/memory.conf";
    machine.write(fragment.trim_start_matches('/'), "[Slice]\nMemoryMin=12G\n");
    machine.set(SLICE, "FragmentPath", fragment);
    machine.set(SLICE, "MemoryMin", "12884901888");
    machine.drop_in(
        "local-fs.service",
        limits.trim_start_matches('/'),
        "[Service]\nMemoryMin=2G\nMemoryHigh=5500M\nMemoryMax=6G\n",
    );
    let service = format!("{SERVICES}/local-fs.service");
    let unit = [
        ("MemoryMin", "min", "2147483648"),
        ("MemoryHigh", "high", "5767168000"),
        ("MemoryMax", "max", "6442450944"),
    ];
    for (property, attribute, value) in unit {
        machine.set("local-fs.service", property, value);
        machine.attribute(&service, &format!("memory.{attribute}"), value);
    }
    for cgroup in ["foundry.slice", SERVICES] {
        for (attribute, value) in [("min", "0"), ("high", "max"), ("max", "max")] {
            machine.attribute(cgroup, &format!("memory.{attribute}"), value);
        }
    }
    machine.attribute(SERVICES, "memory.min", "12884901888");
    machine.attribute(SERVICES, "memory.high", "1073741824");
    for cgroup in ["foundry.slice", SERVICES, &service] {
        machine.attribute(cgroup, "memory.low", "0");
        machine.attribute(cgroup, "memory.current", "4096");
    }
    let said: Vec<String> = machine
        .findings(&[])
        .iter()
        .map(|found| {
            let [code, what, cause, fix] =
                [&found["code"], &found["what"], &found["cause"], &found["fix"]["text"]]
                    .map(|v| v.as_str().unwrap());
            format!("{code} {what}\n{cause}\n{fix}")
        })
        .collect();
    let reload = "then: systemctl daemon-reload";
    let [in_slice, beside] = [SLICE, "$(systemctl show --value -p Slice local-fs.service)"]
        .map(|slice| format!("systemd-run --quiet --wait --slice={slice} true"));
    let expected = [
        format!(
            "FS023 foundry-services.slice: memory.min = 12G protects nothing; \
             local-fs.service: memory.min = 2G protects nothing\n\
             foundry.slice, which it is in, has memory.min = 0\n\
             systemctl set-property foundry.slice MemoryMin=768M; MemoryMin=768M at {fragment}:2; \
             MemoryMin=768M at {limits}:2, {reload} && {in_slice} && {beside}"
        ),
        format!(
            "FS025 memory.high = 5.37G and memory.max = 6G never hold\n\
             the machine has 2G of RAM; foundry-services.slice, which it is in, is limited to 1G with all below it\n\
             MemoryHigh=1G at {limits}:3; MemoryMax=75% at {limits}:4, {reload} && {beside}"
        ),
        format!(
            "FS074 MemoryMin=12G is above MemoryHigh=1G\n\
             MemoryMin=12G is set at {fragment}:2, MemoryHigh=50% is set at /etc/fairslice/policy.toml:4\n\
             MemoryMin=768M at {fragment}:2, {reload} && {in_slice}"
        ),
    ];
    assert_eq!(said, expected);
    // The policy's number beside a unit's.
    machine.write("etc/systemd/system/foundry-services.slice", "[Slice]\n");
    machine.write(
        "etc/fairslice/policy.toml",
        &POLICY.replacen("cpu_weight", "memory_min = \"10%\"\ncpu_weight", 1),
    );
    machine.generate();
    for (unit, cgroup) in [("foundry.slice", "foundry.slice"), (SLICE, SERVICES)] {
        machine.set(unit, "MemoryMin", "214748364");
        machine.attribute(cgroup, "memory.min", "214748364");
    }
    machine.set("local-fs.service", "MemoryMin", "536870912");
    machine.attribute(&service, "memory.min", "536870912");
    let own = format!("{GENERATED}/local-fs.service.d/40-fairslice.conf {limits}");
    machine.set("local-fs.service", "DropInPaths", &own);
    let found = machine.findings(&[]);
    assert_eq!(
        found[0]["fix"]["text"],
        format!(
            "memory_min = \"512M\" at /etc/fairslice/policy.toml:3, then: fairslice apply; \
             or MemoryMin=204M at {limits}:2, {reload} && {beside}"
        )
    );
}

/// Who stands still, whose setting it is, and the fix, done: nothing is found then.
#[test]
fn limits_that_are_being_met_are_found_with_whose_they_are() {
    let mut machine = Machine::new();
    let file = "etc/systemd/system/local-slm.service.d/limits.conf";
    let text = "[Service]\nMemoryHigh=100M\nMemoryMax=150M\nTasksMax=40\nCPUQuota=25%\n";
    machine.drop_in("local-slm.service", file, text);
    let service = format!("{SERVICES}/local-slm.service");
    let attributes = [
        ("memory.current", "104900000"),
        ("memory.min", "0"),
        ("memory.low", "0"),
        ("memory.high", "104857600"),
        ("memory.max", "157286400"),
        ("memory.peak", "104900000"),
        ("cpu.weight", "100"),
        ("cpu.max", "25000 100000"),
        ("pids.current", "12"),
        ("pids.peak", "40"),
        ("pids.max", "40"),
        ("memory.events.local", "low 0\nhigh 9000\nmax 0\noom 0\noom_kill 0"),
        ("memory.pressure", "some avg10=1 avg60=0 avg300=0 total=1\nfull avg10=1 avg60=0 avg300=0 total=1"),
        ("cpu.pressure", "some avg10=1 avg60=0 avg300=0 total=1"),
        ("cpu.stat", "usage_usec 1\nnr_periods 100\nnr_throttled 90"),
        ("pids.events.local", "max 0"),
    ];
    for (attribute, value) in attributes {
        machine.attribute(&service, attribute, value);
    }
    // Above its limit once, and slowed down a little.
    assert_eq!(machine.found(), [""; 0]);
    let stalls = "some avg10=99 avg60=80.00 avg300=9 total=1\nfull avg10=66.20 avg60=40.00 avg300=9 total=1";
    let fix = |code: &str| {
        let found = machine.findings(&[]);
        let found = found.iter().find(|found| found["code"] == code).unwrap();
        let [what, cost, fix] =
            [&found["what"], &found["cost"], &found["fix"]["text"]].map(|v| v.as_str().unwrap().to_owned());
        (what, cost, fix.split(", then:").next().unwrap().to_owned())
    };
    let expect = |code: &str, what: &str, cost: &str, set: &str, line: usize| {
        let kind = format!("{code} local-slm.service /{file}:{line} edit");
        assert_eq!(machine.found(), [kind]);
        assert_eq!(fix(code), (what.to_owned(), cost.to_owned(), format!("{set} at /{file}:{line}")));
    };
    machine.attribute(&service, "memory.pressure", stalls);
    expect(
        "FS036",
        "it waits for memory 66 % of the time, at memory.high = 100M",
        "for a minute or so; 9000 times since it was started",
        "MemoryHigh=infinity",
        2,
    );
    machine.attribute(&service, "memory.high", "max");
    assert_eq!(machine.found(), [""; 0]);
    // The same at memory.max, and processes that were killed there.
    machine.attribute(&service, "memory.current", "157000000");
    let what = "it waits for memory 66 % of the time, at memory.max = 150M";
    expect("FS036", what, "for a minute or so; 9000 times since it was started", "MemoryMax=300M", 3);
    machine.attribute(&service, "memory.current", "50000000");
    machine.attribute(&service, "memory.peak", "157286400");
    machine.attribute(&service, "memory.events.local", "high 0\noom 3\noom_kill 2");
    let what = "2 of its processes were killed at memory.max = 150M";
    expect("FS037", what, "3 times out of memory since it was started", "MemoryMax=300M", 3);
    // A slice's processes are in the cgroups below it, and counted there.
    machine.attribute(&service, "memory.events.local", "high 0\noom 3\noom_kill 0");
    machine.attribute(&service, "memory.events", "high 0\noom 3\noom_kill 5");
    let what = "5 of its processes were killed at memory.max = 150M";
    expect("FS037", what, "3 times out of memory since it was started", "MemoryMax=300M", 3);
    machine.attribute(&service, "memory.max", "314572800");
    assert_eq!(machine.found(), [""; 0]);
    machine.attribute(&service, "pids.events.local", "max 21");
    let what = "21 forks were refused at pids.max = 40";
    expect("FS038", what, "12 tasks now, 40 at most since it was started", "TasksMax=80", 4);
    // Before Linux 6.11 the count is where the fork was tried, and the limit may be an ancestor's.
    machine.remove(&format!("sys/fs/cgroup/{service}/pids.events.local"));
    machine.attribute(&service, "pids.events", "max 21");
    machine.attribute(&service, "pids.max", "80");
    assert_eq!(machine.found(), [""; 0]);
    machine.attribute(SERVICES, "pids.current", "60");
    machine.attribute(SERVICES, "pids.max", "60");
    let found = &machine.findings(&[])[0];
    assert_eq!((&found["code"], &found["subject"]), (&"FS038".into(), &SLICE.into()));
    assert_eq!(found["fix"]["text"], format!("systemctl set-property {SLICE} TasksMax=120"));
    machine.attribute(SERVICES, "pids.max", "120");
    machine.attribute(&service, "cpu.pressure", "some avg10=75.00 avg60=70.00 avg300=9 total=1");
    let what = "it waits for a CPU 75 % of the time, at cpu.max = 25 % of one";
    expect("FS039", what, "stopped in 90 % of the periods since it was started", "CPUQuota=", 5);
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
    assert_eq!(undeclared.iter().map(line).collect::<Vec<_>>(), [format!("FS013 {SLICE} {file} command")]);
    // A unit that was started there since has had it written.
    machine.set("local-slm.service", "ActiveEnterTimestampMonotonic", "60000000");
    assert_eq!(machine.found(), [format!("FS014 {SLICE} {file} apply")]);
    machine.remove(file.trim_start_matches('/'));
    assert_eq!(machine.found(), [format!("FS020 {SLICE} {file} edit")]);
}

/// With the fix done, it is gone. What runs without a file is known as well.
#[test]
fn a_service_that_the_policy_misspells_is_found() {
    let mut machine = Machine::new();
    let table = "[service.local-contnet]\ncpu_weight = 50\n";
    let policy = POLICY.replace("[service.ssh]", &format!("{table}[service.ssh]"));
    machine.write("etc/fairslice/policy.toml", &policy);
    machine.generate();
    assert_eq!(machine.found(), Vec::<String>::new());
    machine.write("etc/systemd/system/local-content.service", "[Service]\n");
    let findings = machine.findings(&[]);
    let found: Vec<String> = findings.iter().map(line).collect();
    assert_eq!(found, ["FS082 local-contnet /etc/fairslice/policy.toml:8 edit"], "{findings:#?}");
    assert_eq!(
        findings[0]["fix"]["text"],
        "write \"local-content\" for \"local-contnet\" in the head of the table of /etc/fairslice/policy.toml:8, \
         then: fairslice apply"
    );
    machine.write("etc/fairslice/policy.toml", &policy.replace("local-contnet", "local-content"));
    machine.generate();
    assert_eq!(machine.found(), Vec::<String>::new());
}

/// The controllers that a cgroup hands on.
fn hand_on(machine: &Machine, cgroup: &str, controllers: &str) {
    let file = if cgroup.is_empty() { String::new() } else { format!("{cgroup}/") };
    machine.write(&format!("sys/fs/cgroup/{file}cgroup.subtree_control"), controllers);
}

/// One cause is one finding, whatever it keeps from having an effect; and once its fix is done, it is gone.
#[test]
fn a_controller_that_a_unit_disables_is_one_finding_with_its_line() {
    let mut machine = Machine::new();
    machine.set("local-slm.service", "CPUWeight", "300");
    machine.attribute(&format!("{SERVICES}/local-slm.service"), "cpu.weight", "300");
    let drop_in = "etc/systemd/system/foundry.slice.d/50-off.conf";
    machine.drop_in(
        "foundry.slice",
        drop_in,
        "[Slice]\nDisableControllers=io\nDisableControllers=cpu pids\n",
    );
    let before = machine.found();
    for cgroup in ["foundry.slice", SERVICES] {
        hand_on(&machine, cgroup, "io memory\n");
    }
    for cgroup in [SERVICES.to_owned(), format!("{SERVICES}/local-slm.service")] {
        machine.remove(&format!("sys/fs/cgroup/{cgroup}/cpu.weight"));
    }
    let findings = machine.findings(&[]);
    let subjects = format!("{SLICE}, local-slm.service");
    assert_eq!(
        findings.iter().map(line).collect::<Vec<_>>(),
        [format!("FS020 {subjects} /{drop_in}:3 edit")],
        "{findings:#?}"
    );
    assert_eq!(findings[0]["cause"], format!("/{drop_in}:3 sets DisableControllers=cpu pids"));
    let fix = format!(
        "remove DisableControllers=cpu pids at /{drop_in}:3, then: systemctl daemon-reload; \
         systemd-run --quiet --wait --slice={SLICE} true"
    );
    assert_eq!(findings[0]["fix"]["text"], fix);
    let (_, said, _) = machine.run(&["apply", "--dry-run"]);
    assert!(said.contains(&format!("/{drop_in}:3 sets DisableControllers=cpu pids")), "{said}");
    // The line is gone, and PID 1 hands on again what is needed.
    machine.write(drop_in, "[Slice]\nDisableControllers=io\n");
    for cgroup in ["foundry.slice", SERVICES] {
        hand_on(&machine, cgroup, CONTROLLERS);
    }
    machine.attribute(SERVICES, "cpu.weight", "200");
    machine.attribute(&format!("{SERVICES}/local-slm.service"), "cpu.weight", "300");
    assert_eq!((before, machine.found()), (Vec::new(), Vec::new()));
}

#[test]
fn a_controller_that_the_kernel_was_told_to_leave_out_is_one_finding() {
    let machine = Machine::new();
    let weights = [
        ("foundry.slice", "200"),
        (SERVICES, "200"),
        ("user.slice", "100"),
        ("user.slice/user-0.slice", "100"),
    ];
    let cgroups = ["", "foundry.slice", SERVICES, "system.slice", "user.slice", "user.slice/user-0.slice"];
    let offer = |command_line: &str, controllers: &str| {
        machine.write("proc/cmdline", command_line);
        machine.write("sys/fs/cgroup/cgroup.controllers", controllers);
        for cgroup in &cgroups {
            hand_on(&machine, cgroup, controllers);
        }
    };
    offer("quiet cgroup_disable=rdma,cpu\n", "io memory pids\n");
    for (cgroup, _) in weights {
        machine.remove(&format!("sys/fs/cgroup/{cgroup}/cpu.weight"));
    }
    let findings = machine.findings(&[]);
    let found: Vec<String> = findings.iter().map(line).collect();
    assert_eq!(
        found,
        [format!("FS020 {SLICE}, foundry.slice, user.slice, user-0.slice /proc/cmdline edit")],
        "{findings:#?}"
    );
    assert_eq!(findings[0]["cause"], "cgroup_disable=cpu is on the kernel's command line");
    let (_, said, _) = machine.run(&["apply", "--dry-run"]);
    assert!(said.contains("cgroup_disable=cpu is on the kernel's command line"), "{said}");
    offer("quiet cgroup_disable=rdma\n", CONTROLLERS);
    for (cgroup, weight) in weights {
        machine.attribute(cgroup, "cpu.weight", weight);
    }
    assert_eq!(machine.found(), Vec::<String>::new());
}

/// Disabled past PID 1: what the policy names and what it does not is one finding still.
#[test]
fn a_controller_that_nobody_enables_is_one_finding() {
    let mut machine = Machine::new();
    machine.set("local-slm.service", "CPUWeight", "300");
    for cgroup in ["foundry.slice", SERVICES] {
        hand_on(&machine, cgroup, "io memory pids\n");
    }
    machine.remove(&format!("sys/fs/cgroup/{SERVICES}/cpu.weight"));
    let findings = machine.findings(&[]);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0]["subject"], format!("{SLICE}, local-slm.service"));
    assert_eq!(
        findings[0]["cause"],
        "foundry.slice does not hand on the cpu controller (cgroup.subtree_control)"
    );
    let run = format!("systemd-run --quiet --wait --slice={SLICE} true");
    assert_eq!(findings[0]["fix"]["text"], format!("fairslice apply && systemctl daemon-reload && {run}"));
    let undeclared = machine.findings(&["--no-policy"]);
    assert_eq!(undeclared.len(), 1, "{undeclared:#?}");
    assert_eq!(undeclared[0]["fix"]["text"], format!("systemctl daemon-reload && {run}"));
}

/// What a policy cannot set too, of units that it does not name.
#[test]
fn what_the_kernel_still_has_of_any_limit_is_found() {
    let cgroup = "system.slice/pinned.service";
    let mut machine = Machine::new();
    machine.service("pinned.service", "system.slice", "system.slice", 20, 0);
    for above in ["", "system.slice/"] {
        let file = format!("sys/fs/cgroup/{above}cgroup.subtree_control");
        machine.write(&file, &format!("cpuset {CONTROLLERS}"));
    }
    for (property, value) in [
        ("CPUQuotaPerSecUSec", "infinity"),
        ("AllowedCPUs", ""),
        ("AllowedMemoryNodes", ""),
        ("IOWeight", "[not set]"),
        ("MemoryMax", "infinity"),
        ("TasksMax", "2358"),
    ] {
        machine.set("pinned.service", property, value);
    }
    let defaults = [
        ("cpu.weight", "100"),
        ("cpu.max", "max 100000"),
        ("cpuset.cpus", ""),
        ("cpuset.mems", ""),
        ("io.weight", "default 100"),
        ("memory.max", "max"),
        ("pids.max", "2358"),
    ];
    for (attribute, value) in defaults {
        machine.attribute(cgroup, attribute, value);
    }
    machine.attribute("system.slice", "cpuset.cpus.effective", "0-1");
    machine.attribute("system.slice", "cpuset.mems.effective", "0");
    assert_eq!(machine.found(), [""; 0]);
    // What is no narrower than what the slice has limits nothing.
    machine.attribute(cgroup, "cpuset.cpus", "0-1");
    machine.attribute(cgroup, "cpuset.mems", "0");
    assert_eq!(machine.found(), [""; 0]);

    let write = "systemctl daemon-reload && systemd-run --quiet --wait --slice=system.slice true";
    let all = "cat /sys/fs/cgroup/system.slice/cpuset.cpus.effective > \
               /sys/fs/cgroup/system.slice/pinned.service/cpuset.cpus";
    for (attribute, value, what, fix) in [
        ("cpu.max", "15000 50000", "CPUQuota unset is still 30% in cgroupfs", write),
        ("cpuset.cpus", "1", "AllowedCPUs unset is still 1 in cgroupfs", all),
        ("io.weight", "default 300", "io_weight 100 is still 300 in cgroupfs", write),
        ("memory.max", "314572800", "memory_max infinity is still 300M in cgroupfs", write),
        ("pids.max", "50", "tasks_max 2358 is still 50 in cgroupfs", write),
    ] {
        let before = fs::read_to_string(machine.root().join(format!("sys/fs/cgroup/{cgroup}/{attribute}")));
        machine.attribute(cgroup, attribute, value);
        let found = machine.findings(&[]);
        assert_eq!(found.len(), 1, "{attribute}: {found:?}");
        assert_eq!(
            line(&found[0]),
            format!("FS013 pinned.service /sys/fs/cgroup/{cgroup}/{attribute} command")
        );
        assert!(found[0]["what"].as_str().unwrap().starts_with(what), "{}", found[0]["what"]);
        assert_eq!(found[0]["fix"]["text"], fix);
        assert_eq!(machine.findings(&["--no-policy"]).len(), 1);
        machine.attribute(cgroup, attribute, before.unwrap().trim_end());
    }
    // The other way round: PID 1 has it, and the kernel does not.
    for (property, value, what) in [
        ("CPUQuotaPerSecUSec", "12.500ms", "CPUQuota 1.25% is still unset in cgroupfs"),
        ("AllowedCPUs", "1", "AllowedCPUs 1 is still 0-1 in cgroupfs"),
    ] {
        let mut machine = machine.with("pinned.service", property, value);
        assert_eq!(machine.findings(&[])[0]["what"], what);
        assert_eq!(machine.findings(&[])[0]["fix"]["text"], write);
        // One CPU that there is not: the kernel refuses them all.
        machine.set("pinned.service", "AllowedCPUs", "0-7");
        let fixes = machine.findings(&[]);
        let those_there_are = "systemctl set-property pinned.service AllowedCPUs=0-1";
        assert!(fixes.iter().any(|one| one["fix"]["text"] == those_there_are), "{fixes:?}");
    }
    // Nobody has enabled the controller for it yet.
    for (property, value, attributes, what) in [
        ("CPUQuotaPerSecUSec", "300ms", &["cpu.max", "cpu.weight"][..], "CPUQuota 30% has no effect"),
        ("AllowedCPUs", "1", &["cpuset.cpus"], "AllowedCPUs 1 has no effect"),
    ] {
        let file = |attribute: &str| format!("sys/fs/cgroup/{cgroup}/{attribute}");
        let before =
            attributes.iter().map(|name| fs::read_to_string(machine.root().join(file(name))).unwrap());
        let before: Vec<String> = before.collect();
        for name in attributes {
            machine.remove(&file(name));
        }
        assert_eq!(machine.found(), [""; 0]);
        let with = machine.with("pinned.service", property, value);
        let found = with.findings(&[]);
        assert_eq!((found.len(), &found[0]["code"], &found[0]["what"]), (1, &"FS020".into(), &what.into()));
        for (name, text) in attributes.iter().zip(before) {
            machine.write(&file(name), &text);
        }
    }
}

const DEVICE_LIMITS: [&str; 4] =
    ["IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"];

/// PID 1 takes no limit of a device back that it does not have any more.
#[test]
fn limits_of_devices_are_compared_too() {
    let cgroup = "system.slice/backup.service";
    let mut machine = Machine::new();
    machine.service("backup.service", "system.slice", "system.slice", 20, 0);
    let set = |machine: &mut Machine, limits: [&str; 4]| {
        for (property, limit) in DEVICE_LIMITS.into_iter().zip(limits) {
            machine.set("backup.service", property, limit);
        }
    };
    set(&mut machine, ["", "", "", ""]);
    // What the machine of this test has under these numbers is a disk of the machine that is looked at.
    let device = fs::metadata(machine.root()).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    machine.write(&format!("sys/dev/block/{major}:{minor}/dev"), "254:0\n");
    machine.write("sys/block/vda/device/vendor", "\n");
    machine.write("sys/block/vda/dev", "254:0\n");
    machine.write("sys/block/vda/queue/scheduler", "[none] bfq\n");
    machine.write("dev/vda", "");
    machine.attribute(cgroup, "io.max", "");
    assert_eq!(machine.found(), [""; 0]);

    let file = format!("/sys/fs/cgroup/{cgroup}/io.max");
    machine.attribute(cgroup, "io.max", "254:0 rbps=5000000 wbps=max riops=max wiops=120");
    let found = machine.findings(&[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(line(&found[0]), format!("FS013 backup.service {file} command"));
    let what = "IOReadBandwidthMax unset is still 5000000 on vda in cgroupfs; \
                IOWriteIOPSMax unset is still 120 on vda in cgroupfs";
    assert_eq!(found[0]["what"], what);
    let fix = format!("echo '254:0 rbps=max' > {file} && echo '254:0 wiops=max' > {file}");
    assert_eq!(found[0]["fix"]["text"], fix);
    // A container engine limits its own scopes so, for good.
    let delegated = machine.with("backup.service", "Delegate", "yes");
    assert_eq!(delegated.found(), [""; 0]);

    set(&mut machine, ["/dev/vda 5000000", "", "", "/dev/vda 120"]);
    assert_eq!(machine.found(), [""; 0]);
    set(&mut machine, ["/dev/vda 8000000", "", "", "/dev/vda 120"]);
    let found = machine.findings(&[]);
    assert_eq!(found[0]["what"], "IOReadBandwidthMax 8000000 on vda is still 5000000 on vda in cgroupfs");
    let write = "systemctl daemon-reload && systemd-run --quiet --wait --slice=system.slice true";
    assert_eq!((found.len(), &found[0]["fix"]["text"]), (1, &Value::from(write)));
    // A device that is not there limits nothing, and PID 1 has written none.
    set(&mut machine, ["/dev/vdz 8000000", "", "", ""]);
    assert_eq!(machine.found(), [""; 0]);
}

#[test]
fn a_scope_is_compared_too_and_what_was_written_past_pid_1_is_said_to_be_lost() {
    let cgroup = "system.slice/docker-1.scope";
    let mut machine = Machine::new();
    machine.slice("docker-1.scope", cgroup, &[("MemoryMax", "memory.max", "infinity")]);
    machine.set("docker-1.scope", "Slice", "system.slice");
    machine.attribute(cgroup, "memory.max", "max");
    assert_eq!(machine.found(), [""; 0]);
    machine.attribute(cgroup, "memory.max", "1073741824");
    machine.set("docker-1.scope", "ActiveEnterTimestampMonotonic", "60000000");
    let found = machine.findings(&[]);
    assert_eq!(line(&found[0]), format!("FS014 docker-1.scope /sys/fs/cgroup/{cgroup}/memory.max command"));
    assert_eq!(found[0]["what"], "memory_max infinity was changed to 1G in cgroupfs");
    let cause = "it was written past PID 1, which wrote its own when docker-1.scope was started, and does so \
                 again when a unit is started after a daemon-reload";
    assert_eq!(found[0]["cause"], cause);
    // What a slice above gives to those without a protection of their own is in no property of theirs.
    machine.attribute(cgroup, "memory.max", "max");
    machine.attribute(cgroup, "memory.low", "1048576");
    machine.set("docker-1.scope", "MemoryLow", "0");
    assert_eq!(machine.found().len(), 1);
    machine.set("system.slice", "DefaultMemoryLow", "1048576");
    assert_eq!(machine.found(), [""; 0]);
}

#[test]
fn a_line_without_an_equals_sign_is_found_and_the_fix_sets_what_it_meant() {
    let file = "etc/systemd/system/local-fs.service.d/50-mine.conf";
    for (section, line, fix) in [
        ("Service", "MemoryHigh 1G", "write MemoryHigh=1G"),
        ("Service", "CPUWeigth: 50", "write CPUWeight=50"),
        ("Unit", "TasksMax 100", "write TasksMax=100 in a section [Service]"),
    ] {
        let mut machine = Machine::new();
        machine.drop_in("local-fs.service", file, &format!("[{section}]\nwatch out\n{line}\n"));
        let found = machine.findings(&[]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(self::line(&found[0]), format!("FS070 local-fs.service /{file}:3 edit"));
        assert_eq!(found[0]["what"], format!("the line \"{line}\" counts for nothing"));
        let fix = format!("/{file}:3: {fix}, then \"systemctl daemon-reload\"");
        assert_eq!(found[0]["fix"]["text"], fix);
        let written = fix.split_whitespace().nth(2).unwrap().trim_end_matches(',');
        machine.write(file, &format!("[Service]\n{written}\n"));
        assert_eq!(machine.found(), [""; 0]);
    }
}

/// What is wrong with a line of a unit's file, and the file with what the fix says done.
#[test]
fn a_line_that_systemd_does_not_take_is_found_and_the_fix_sets_it_right() {
    let file = "etc/systemd/system/local-fs.service.d/50-mine.conf";
    for (code, text, line, words, mended) in [
        ("FS070", "[Service]\nCPUWeigth=50\n", 2, "write CPUWeight=", "[Service]\nCPUWeight=50\n"),
        ("FS070", "[Unit]\nTasksMax=90\n", 2, "put it into a section [Service]", "[Service]\nTasksMax=90\n"),
        ("FS071", "[Service]\nMemoryLimit=1G\n", 2, "write MemoryMax=", "[Service]\nMemoryMax=1G\n"),
        ("FS072", "[Service]\nMemoryMax=512MB\n", 2, "give it ", "[Service]\nMemoryMax=512M\n"),
        (
            "FS072",
            "[Service]\nTasksMax=90 # few\n",
            2,
            "put the comment on a line of its own",
            "[Service]\n# few\nTasksMax=90\n",
        ),
        (
            "FS075",
            "[Service\nTasksMax=90\n",
            1,
            "write the line in UTF-8, with the \"]\" of a section",
            "[Service]\nTasksMax=90\n",
        ),
    ] {
        let mut machine = Machine::new();
        machine.drop_in("local-fs.service", file, text);
        let found = machine.findings(&[]);
        assert_eq!(
            found.iter().map(self::line).collect::<Vec<_>>(),
            [format!("{code} local-fs.service /{file}:{line} edit")],
            "{text}"
        );
        let fix = found[0]["fix"]["text"].as_str().unwrap();
        let said = fix.strip_prefix(&format!("/{file}:{line}: ")).unwrap();
        let said = said.strip_suffix(", then \"systemctl daemon-reload\"").unwrap();
        assert!(said.starts_with(words), "{said}");
        machine.write(file, mended);
        // After the reload, PID 1 and the kernel have it.
        let left = machine.findings(&[]);
        assert!(left.iter().all(|one| one["code"] != code), "{left:?}");
    }
}

/// Cron jobs, and what sudo has started in root's session.
#[test]
fn limits_that_do_not_hold_for_users_outside_of_their_slices_are_found() {
    let limits = "etc/systemd/system/user-.slice.d/50-tenant.conf";
    let mut machine = Machine::new();
    let process = |machine: &Machine, pid: u32, cgroup: &str, uid: u32| {
        machine.process(pid, cgroup, 0);
        let status = fs::read_to_string(machine.root().join(format!("proc/{pid}/status"))).unwrap();
        let lines = status.lines().map(|line| {
            let is_uid = line.starts_with("Uid:");
            if is_uid { format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n") } else { format!("{line}\n") }
        });
        machine.write(&format!("proc/{pid}/status"), &lines.collect::<String>());
    };
    let found = |machine: &Machine| machine.findings(&["--no-policy"]);
    machine.service("cron.service", "system.slice", "system.slice", 20, 0);
    machine.write("etc/pam.d/cron", "session required pam_unix.so\n");
    process(&machine, 21, "system.slice/cron.service", 59999);
    process(&machine, 22, "system.slice/cron.service", 59999);
    process(&machine, 23, "system.slice/cron.service", 33);
    process(&machine, 24, "system.slice/cron.service", 61200);
    let vendors = "usr/lib/systemd/system/user-.slice.d/10-defaults.conf";
    machine.write(vendors, "[Slice]\nTasksMax=33%\n");
    assert_eq!(found(&machine), [Value::Null; 0]);

    machine.write(limits, "[Slice]\nTasksMax=100\nCPUQuota=50%\nCPUWeight=20\n");
    let one = found(&machine);
    assert_eq!(one.len(), 1, "{one:#?}");
    assert_eq!(line(&one[0]), format!("FS047 user-59999.slice (59999) /{limits}:3 command"));
    assert_eq!(one[0]["what"], "2 processes of 59999 run in cron.service instead");
    assert_eq!(one[0]["cost"], "CPUQuota=50%, TasksMax=100 do not hold for them");
    let cause = "cron.service opens no session in the slices: there is no pam_systemd.so in /etc/pam.d/cron";
    assert_eq!(one[0]["cause"], cause);
    assert_eq!(one[0]["fix"]["text"], "echo 'session optional pam_systemd.so' >> /etc/pam.d/cron");
    // Jobs of before.
    machine.write("etc/pam.d/cron", "session required pam_unix.so\nsession optional pam_systemd.so\n");
    assert_eq!(found(&machine)[0]["fix"]["text"], "wait until they end, or: kill 21 22");
    // Of no service that is not cron can it be told; and what limits it limits them.
    process(&machine, 21, "system.slice/fpm.service", 59999);
    process(&machine, 22, "system.slice/fpm.service", 59998);
    machine.service("fpm.service", "system.slice", "system.slice", 25, 0);
    let one = found(&machine);
    assert_eq!(one[0]["subject"], "user-59998.slice (59998), user-59999.slice (59999)");
    assert_eq!(one[0]["what"], "1 process of 59998, 1 of 59999 run in fpm.service instead");
    let fix = "systemctl set-property fpm.service CPUQuota=50% TasksMax=100";
    assert_eq!((one.len(), &one[0]["fix"]["text"]), (1, &Value::from(fix)));
    let own = "etc/systemd/system.control/fpm.service.d/50-limits.conf";
    machine.drop_in("fpm.service", own, "[Service]\nCPUQuota=50%\n");
    assert_eq!(found(&machine)[0]["cost"], "TasksMax=100 does not hold for them");
    machine.write(own, "[Service]\nCPUQuota=50%\nTasksMax=100\n");
    assert_eq!(found(&machine), [Value::Null; 0]);
    machine.write(own, "[Service]\nUser=somebody\n");
    assert_eq!(found(&machine), [Value::Null; 0]);
    machine.write(own, "[Service]\n");
    machine.set("fpm.service", "Delegate", "yes");
    assert_eq!(found(&machine), [Value::Null; 0]);

    // What holds for every user's slice holds for root's.
    process(&machine, 26, "user.slice/user-0.slice/session-1.scope", 59999);
    machine.set("user-0.slice", "DropInPaths", &format!("/{limits}"));
    assert_eq!(found(&machine), [Value::Null; 0]);
    let own = "etc/systemd/system.control/user-59999.slice.d/50-MemoryMax.conf";
    machine.write(own, "[Slice]\nMemoryMax=1G\n");
    let one = found(&machine);
    assert_eq!(line(&one[0]), format!("FS047 user-59999.slice (59999) /{own}:2 edit"));
    assert_eq!(one[0]["what"], "1 process of 59999 runs in session-1.scope instead");
    let start = "start such by: systemd-run --uid=59999 --slice=user-59999.slice COMMAND (with --pty, in the terminal)";
    assert_eq!((one.len(), &one[0]["fix"]["text"]), (1, &Value::from(start)));
    // A bound on all users together is no bound on this one.
    machine.write("etc/systemd/system/user.slice.d/50-all.conf", "[Slice]\nMemoryMax=10G\n");
    machine.set("user.slice", "DropInPaths", "/etc/systemd/system/user.slice.d/50-all.conf");
    let one = found(&machine);
    let of_theirs: Vec<_> = one.iter().filter(|finding| finding["code"] == "FS047").collect();
    assert_eq!(of_theirs.len(), 1, "{one:#?}");
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

/// Of those that the policy holds: another one's restart is not for fairslice to make.
#[test]
fn services_that_wait_for_the_same_restart_are_one_finding() {
    let mut machine = Machine::new();
    machine.attribute("system.slice", "cpu.weight", "100");
    fs::remove_dir_all(machine.root().join(format!("sys/fs/cgroup/{SERVICES}/local-slm.service"))).unwrap();
    for (name, pid) in [("local-slm.service", 11), ("local-a.service", 21), ("local-b.service", 22)] {
        machine.service(name, SLICE, "system.slice", pid, 0);
        machine.set(name, "DropInPaths", &format!("{GENERATED}/local-.service.d/40-fairslice.conf"));
    }
    machine.service("other.service", SLICE, "system.slice", 23, 0);
    let found = machine.findings(&[]);
    let restarts: Vec<_> = found.iter().filter(|finding| finding["code"] == "FS015").collect();
    let of = |finding: &serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&finding["subject"]), text(&finding["fix"]["kind"]), text(&finding["fix"]["command"]))
    };
    let of_policy = "local-a.service, local-b.service, local-slm.service";
    let line =
        |subject: &str, kind: &str, command: &str| (subject.to_owned(), kind.to_owned(), command.to_owned());
    let expected = [
        line(of_policy, "restart", "fairslice apply --restart"),
        line("other.service", "command", "systemctl restart other.service"),
    ];
    assert_eq!(restarts.into_iter().map(of).collect::<Vec<_>>(), expected, "{found:#?}");
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
    assert_eq!(machine.found(), ["FS031 local-fs.service /proc/10/oom_score_adj apply"]);
    // PID 1 has not set it yet, if it is root's process still: others may call themselves as they like.
    machine.rename(10, "(sleep)");
    machine.write("proc/10/status", "Name:\t(sleep)\nUid:\t1001\t0\t0\t0\n");
    assert_eq!(machine.found(), ["FS031 local-fs.service /proc/10/oom_score_adj apply"]);
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
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        let output = command.arg("--root").arg(machine.root()).arg("doctor").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    // In a container there may be no systemd, through which anything could be in force.
    let (code, out, err) = doctor();
    assert_eq!((code, out.as_str()), (0, "nothing found: 0 settings looked at\n"));
    assert!(err.contains("without systemd") && err.lines().count() == 1, "{err}");
    machine.write("run/systemd/system/.is-there", "");
    let (code, out, err) = doctor();
    assert!(err.contains("run/systemd/show") && err.lines().count() == 1, "{err}");
    assert_eq!((code, out.contains(": 0 settings")), (0, false), "{out}");
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
    let table: Vec<String> = fairslice::doctor::finding::Code::ALL
        .iter()
        .map(|code| {
            let severity = format!("{:?}", code.severity()).to_lowercase();
            let title = code.title().replace('"', "\\(dq");
            format!("\"{code} ({severity}) {title}\"")
        })
        .collect();
    assert_eq!(listed, table);
}

/// All logins together, a quota, a disk and what services alone take, each to the kernel; and who sets another value.
#[test]
fn what_limits_is_followed_to_the_kernel() {
    let budgets = "[slice.\"foundry-services.slice\"]\ncpu_quota = \"150%\"\nio_read_bandwidth_max = \"/dev/vda 8M\"\n\
                   [service.local-fs]\nallowed_cpus = \"0\"\noom_policy = \"kill\"\nnice = 5\n\
                   [logins]\ntotal_memory_high = \"50%\"\n";
    let file = "/etc/fairslice/policy.d/50-budgets.toml";
    let mut machine = Machine::new();
    machine.write(file.trim_start_matches('/'), budgets);
    let device = fs::metadata(machine.root()).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    machine.write(&format!("sys/dev/block/{major}:{minor}/dev"), "254:0\n");
    machine.write("dev/vda", "");
    let fs = format!("{SERVICES}/local-fs.service");
    for cgroup in ["", "foundry.slice", SERVICES, &fs] {
        for file in ["cgroup.controllers", "cgroup.subtree_control"] {
            machine.attribute(cgroup, file, "cpuset cpu io memory pids");
        }
    }
    for (unit, property, value, cgroup, attribute, live) in [
        (SLICE, "CPUQuotaPerSecUSec", "1s 500ms", SERVICES, "cpu.max", "150000 100000"),
        (SLICE, "IOReadBandwidthMax", "/dev/vda 8000000", SERVICES, "io.max", "254:0 rbps=8000000 wbps=max"),
        ("local-fs.service", "AllowedCPUs", "0", &fs, "cpuset.cpus", "0"),
        ("local-fs.service", "OOMPolicy", "kill", &fs, "memory.oom.group", "1"),
        ("user.slice", "MemoryHigh", "1073741824", "user.slice", "memory.high", "1073741824"),
    ] {
        machine.set(unit, property, value);
        machine.attribute(cgroup, attribute, live);
    }
    for property in ["IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"] {
        machine.set(SLICE, property, "");
    }
    machine.set("local-fs.service", "Nice", "5");
    let niced = |machine: &Machine, nice: &str| {
        let stat = fs::read_to_string(machine.root().join("proc/10/stat")).unwrap();
        let (before, after) = stat.rsplit_once(')').unwrap();
        let mut fields: Vec<&str> = after.split_whitespace().collect();
        fields[16] = nice;
        machine.write("proc/10/stat", &format!("{before}) {}\n", fields.join(" ")));
    };
    niced(&machine, "5");
    machine.generate();
    assert_eq!(machine.found(), [""; 0]);

    niced(&machine, "0");
    assert_eq!(machine.found(), ["FS048 local-fs.service /proc/10/stat restart"]);
    niced(&machine, "5");
    for (cgroup, attribute, wrong, found) in [
        (SERVICES, "cpu.max", "max 100000", "FS013 foundry-services.slice"),
        (SERVICES, "io.max", "254:0 rbps=5 wbps=max", "FS013 foundry-services.slice"),
        (&fs, "cpuset.cpus", "0-1", "FS013 local-fs.service"),
        (&fs, "memory.oom.group", "0", "FS013 local-fs.service"),
        ("user.slice", "memory.high", "max", "FS013 user.slice"),
    ] {
        let place = format!("sys/fs/cgroup/{cgroup}/{attribute}");
        let right = fs::read_to_string(machine.root().join(&place)).unwrap();
        machine.attribute(cgroup, attribute, wrong);
        let all = machine.found();
        assert!(all.iter().any(|line| *line == format!("{found} /{place} apply")), "{place}: {all:#?}");
        machine.attribute(cgroup, attribute, right.trim_end());
    }
    let over = "etc/systemd/system/foundry-services.slice.d/50-quota.conf";
    machine.drop_in(SLICE, over, "[Slice]\nCPUQuota=20%\n");
    machine.set(SLICE, "CPUQuotaPerSecUSec", "200ms");
    machine.attribute(SERVICES, "cpu.max", "20000 100000");
    let findings = machine.findings(&[]);
    let what = "cpu_quota 150% is overridden by 20%";
    assert!(findings.iter().any(|one| one["code"] == "FS011" && one["what"] == what), "{findings:#?}");
}

#[test]
fn a_scheduler_that_makes_what_it_likes_of_weights_is_said() {
    let mut machine = Machine::new();
    machine.write("sys/kernel/sched_ext/state", "enabled\n");
    machine.write("sys/kernel/sched_ext/root/ops", "lavd_1.0.20\n");
    let found = |machine: &Machine| {
        let (_, out, _) = machine.run(&["doctor", "--json"]);
        let json: Value = serde_json::from_str(&out).unwrap();
        json["findings"].as_array().unwrap().clone()
    };
    let all = found(&machine);
    assert_eq!(all.len(), 1, "{all:?}");
    let weighted = "foundry-services.slice, foundry.slice, user-0.slice, user.slice";
    assert_eq!((all[0]["code"].as_str(), all[0]["subject"].as_str()), (Some("FS078"), Some(weighted)));
    let fix = "end the program that has loaded lavd_1.0.20: with it goes the scheduler, and the kernel's own goes by weights";
    assert_eq!(all[0]["fix"]["text"], fix);
    machine.service("scx.service", "system.slice", "system.slice", 20, 0);
    assert_eq!(found(&machine)[0]["fix"]["text"], "systemctl disable --now scx.service");
    machine.write("sys/kernel/sched_ext/state", "disabled\n");
    assert_eq!(machine.found(), [""; 0]);
}

#[test]
fn a_service_that_was_killed_at_its_own_limit_is_found_though_it_does_not_run() {
    let mut machine = Machine::new();
    let file = "etc/systemd/system/small.service";
    machine.write(file, "[Service]\nMemoryMax=6M\n");
    for (property, value) in [
        ("ActiveState", "failed"),
        ("Slice", "system.slice"),
        ("FragmentPath", "/etc/systemd/system/small.service"),
        ("MemoryMax", "6291456"),
        ("Result", "oom-kill"),
    ] {
        machine.set("small.service", property, value);
    }
    assert_eq!(machine.found(), ["FS037 small.service /etc/systemd/system/small.service:2 edit"]);
    let fix = "MemoryMax=12M at /etc/systemd/system/small.service:2, then: systemctl daemon-reload && systemd-run \
               --quiet --wait --slice=$(systemctl show --value -p Slice small.service) true && systemctl restart \
               small.service";
    assert_eq!(machine.findings(&[])[0]["fix"]["text"], fix);
    // It was far from it: the machine's memory had run out. And what has ended otherwise.
    for (property, value) in [("MemoryPeak", "1000000"), ("Result", "exit-code"), ("MemoryMax", "infinity")] {
        assert_eq!(machine.with("small.service", property, value).found(), [""; 0], "{property}");
    }
    assert_eq!(machine.with("small.service", "MemoryPeak", "6291456").found().len(), 1);
}
