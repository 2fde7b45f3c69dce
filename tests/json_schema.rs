//! What `--json` prints is what `docs/json/*.schema.json` say; and all that they say is printed
//! somewhere. Of `fairslice apply`, which needs something to apply to, see `tests/apply.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fixture;
mod schema;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use fairslice::effect::drill::rows::{Found, Row};
use fairslice::effect::drill::{Of, cpu, io, kills};
use fairslice::enforce::drill::{Before, CpuDrill, IoDrill, KillDrill, Measured, MemoryDrill};
use fairslice::host::account::Account;
use fairslice::host::disk::{Disk, Disks};
use fairslice::report::{DrillView, Stamp, drill_json};
use fairslice::text::Foreign;
use fairslice::units::{OomScoreAdj, ServiceName};
use fairslice::{paths, policy};
use fixture::common::{self, replace};
use fixture::{SERVICES, cgroup, fairslice, load, write};
use nix::unistd::geteuid;
use schema::Schema;
use serde_json::{Value, json};
use tempfile::TempDir;

const CGROUP: &str = "sys/fs/cgroup";

/// Runs the command, and holds what it prints to the schema.
fn checked(schema: &Schema, root: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = fairslice(root, arguments);
    assert_eq!(err, "");
    schema.check(&out)
}

/// Puts the policy in force for logins, as the generator does.
fn compile(root: &Path) {
    let compiled = policy::compile(&policy::load(root));
    fs::create_dir_all(root.join("run/fairslice")).unwrap();
    fs::write(root.join("run/fairslice/policy.compiled"), compiled).unwrap();
}

/// An attribute of a cgroup.
fn set(root: &Path, cgroup: &str, attribute: &str, value: &str) {
    write(root, &format!("{CGROUP}/{cgroup}/{attribute}"), &format!("{value}\n"));
}

/// A cgroup with a process that are called what is no UTF-8, and more below a service than is read.
fn foreign(root: &Path) {
    let path = |path: &[u8]| root.join(OsStr::from_bytes(path));
    let odd = path(b"sys/fs/cgroup/system.slice/\xff");
    fs::create_dir(&odd).unwrap();
    for (name, value) in [
        ("cgroup.events", "populated 1"),
        ("cgroup.procs", "4001"),
        ("cpu.weight", "100"),
        ("cgroup.subtree_control", "memory"),
        ("pids.current", "1"),
        ("memory.current", "4096"),
        ("memory.min", "4096"),
        ("memory.low", "0"),
        ("memory.high", "max"),
        ("memory.max", "max"),
        ("io.weight", "default 100"),
        ("io.bfq.weight", "default 100"),
    ] {
        fs::write(odd.join(name), format!("{value}\n")).unwrap();
    }
    fixture::process(root, 4001, 1, "system.slice/odd", 1000);
    fs::remove_dir_all(root.join("sys/fs/cgroup/system.slice/odd")).unwrap();
    fs::write(root.join("proc/4001/cgroup"), b"0::/system.slice/\xff\n").unwrap();
    let stat = fs::read_to_string(root.join("proc/4001/stat")).unwrap();
    let (before, after) = stat.split_once("(b)").unwrap();
    fs::write(root.join("proc/4001/stat"), [before.as_bytes(), b"\xff", after.as_bytes()].concat()).unwrap();
    let deep = format!("sys/fs/cgroup/system.slice/deep.service/{}", "n/".repeat(33));
    fs::create_dir_all(root.join(deep)).unwrap();
}

/// The command with what it could not look at.
fn with_missed(schema: &Schema, root: &Path, arguments: &[&str]) -> Value {
    foreign(root);
    let (_, out, err) = fairslice(root, arguments);
    let value = schema.check(&out);
    let missed = value["missed"][0].as_str().unwrap();
    assert_eq!(err, format!("fairslice: not looked at: {missed}\n"));
    value
}

/// The machine with the package, of which some things are not as they should be.
fn ailing() -> TempDir {
    let machine = common::machine("fairslice");
    let root = machine.path();
    // PID 1 has another value; a controller is off; a slice is killed whole.
    set(root, SERVICES, "cpu.weight", "50");
    fs::remove_file(root.join(CGROUP).join("user.slice/cpu.weight")).unwrap();
    set(root, "system.slice", "memory.oom.group", "1");
    // A service in another slice than its own.
    let (from, to) = (format!("{SERVICES}/local-slm.service"), "system.slice/local-slm.service");
    fs::rename(root.join(CGROUP).join(&from), root.join(CGROUP).join(to)).unwrap();
    replace(root, "run/systemd/show", &format!("=/{from}"), &format!("=/{to}"));
    for pid in fs::read_to_string(root.join(CGROUP).join(to).join("cgroup.procs")).unwrap().lines() {
        write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{to}\n"));
    }
    machine
}

#[test]
fn status() {
    let schema = Schema::of("status");
    let machine = fixture::machine();
    let root = machine.path();
    assert_eq!(checked(&schema, root, &["status", "--json"])["host"], Value::Null);
    write(root, "proc/sys/kernel/hostname", "here\n");
    assert_eq!(checked(&schema, root, &["status", "--json"])["cgroups"][0]["memory"], Value::Null);
    load(root, &format!("{SERVICES}/local-fs.service"), 1 << 20, 3);
    cgroup(root, &format!("{SERVICES}/local-fs.service"), &[("pids.current", "1"), ("cpu.weight", "0")]);
    write(root, "etc/fairslice/policy.d/50.toml", "[logins]\ncpu_weight = 0\n");
    checked(&schema, root, &["status", "--json"]);
    let named = checked(&schema, root, &["status", "--json", "local-fs", "root", "local-idle"]);
    assert_eq!(named["cgroups"][0]["memory_events"]["oom_kill"], 1);
    write(root, "run/fairslice/last-good/etc/fairslice/policy.toml", "[logins]\ncpu_weight = 100\n");
    fs::remove_file(root.join("etc/fairslice/policy.toml")).unwrap();
    assert_eq!(checked(&schema, root, &["status", "--json"])["policy"]["in_force"], "last_good");
    fs::remove_dir_all(root.join("run/fairslice")).unwrap();
    assert_eq!(checked(&schema, root, &["status", "--json"])["policy"]["in_force"], "nothing");
    let ailing = ailing();
    // A kernel that counts what some wait for, and not what all do.
    set(ailing.path(), "system.slice", "cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0");
    checked(&schema, ailing.path(), &["status", "--json"]);
    checked(&schema, ailing.path(), &["status", "--json", "local-fs"]);
    with_missed(&schema, root, &["status", "--json"]);
    write(root, "sys/kernel/sched_ext/state", "enabled\n");
    schema.check(&fairslice(root, &["status", "--json"]).1);
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn explain_login() {
    let schema = Schema::of("explain-login");
    let machine = fixture::machine();
    let root = machine.path();
    for (service, lines) in [
        ("sshd", "session optional pam_fairslice.so\n"),
        ("cron", "session optional pam_fairslice.so\n"),
        ("early", "session optional pam_fairslice.so\nsession optional pam_systemd.so\n"),
        ("none", "session optional pam_unix.so\n"),
    ] {
        write(root, &format!("etc/pam.d/{service}"), lines);
    }
    for directory in [paths::SYSTEMD_BOOTED, paths::LOGIND_RUNS] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    // Only root can give a directory away, and has none.
    let other = Account::by_name("daemon").unwrap().unwrap();
    let own = Account::by_uid(geteuid().as_raw()).unwrap().unwrap();
    let user = if geteuid().is_root() { other } else { own };
    let directory = root.join("srv").join(&user.name);
    fs::create_dir_all(&directory).unwrap();
    chown(&directory, Some(user.uid), None).unwrap();
    write(root, "file", "");
    write(root, "etc/profile", "TMPDIR=/tmp\n");
    let policy = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n[logins]\ncpu_weight = 300\n\
                  total_weight = \"sum\"\noom_score_adj = 0\n[logins.group.tty]\ncpu_weight = 1\n\
                  [private_dir.TMPDIR]\npath = \"/srv/{user}\"\nmin_uid = 1\n\
                  [private_dir.GOCACHE]\npath = \"/file/{user}\"\nmin_uid = 1\n\
                  [private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\nonly_if = \"/none\"\n";
    let unlimited = policy.replace("cpu_floor = \"50%\"\n", "");
    let shared = format!("[logins.group.\"{}\"]\ntotal_weight = 90\n", user.group());
    let total = "[logins]\ntotal_weight = 100\ntotal_memory_high = \"50%\"\n";
    for policy in [policy, &unlimited, &shared, total, "[service.a]\noom_score_adj = 0\n"] {
        write(root, "etc/fairslice/policy.toml", policy);
        compile(root);
        for service in ["sshd", "cron", "early", "none"] {
            checked(
                &schema,
                root,
                &["explain", "login", user.name.as_str().unwrap(), "--json", "--service", service],
            );
        }
    }
    let captured = common::machine("fairslice");
    compile(captured.path());
    checked(&schema, captured.path(), &["explain", "login", "daemon", "--json"]);
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn doctor() {
    let schema = Schema::of("doctor");
    let ailing = ailing();
    let root = ailing.path();
    let directory = root.join("etc/systemd/system/local-fs.service.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(OsStr::from_bytes(b"\xff.conf")), "[Slice]\nCPUWeight=1\n").unwrap();
    checked(&schema, root, &["doctor", "--json"]);
    for name in ["debian-12", "kubernetes", "ubuntu"] {
        checked(&schema, common::machine(name).path(), &["doctor", "--json", "--no-policy"]);
    }
    fs::remove_file(root.join("run/systemd/show")).unwrap();
    let (_, out, err) = fairslice(root, &["doctor", "--json"]);
    let missed = schema.check(&out)["missed"][0].clone();
    assert!(err.contains(missed.as_str().unwrap()), "{err}");
    let mount = "cgroup2 /sys/fs/cgroup cgroup2";
    replace(root, "proc/mounts", mount, &format!("cgroup /cgroup cgroup rw,memory 0 0\n{mount}"));
    assert_eq!(checked(&schema, root, &["doctor", "--json"])["settings"], 0);
    // No code is minor as yet.
    assert_eq!(schema.unseen(), ["/$defs/finding/properties/severity: \"minor\""]);
}

#[test]
fn explain_unit() {
    let schema = Schema::of("explain-unit");
    let machine = ailing();
    let quota = "/etc/systemd/system/local-slm.service.d/50-quota.conf";
    common::write(machine.path(), quota, "[Service]\nCPUQuota=50%\nOOMPolicy=continue\n");
    replace(
        machine.path(),
        "run/systemd/show",
        "/run/systemd/generator/local-slm.service.d/40-fairslice.conf",
        &format!("/run/systemd/generator/local-slm.service.d/40-fairslice.conf {quota}"),
    );
    let (_, out, _) = fairslice(machine.path(), &["explain", "unit", "local-slm"]);
    assert!(
        out.contains(&format!(
            "also set\n    CPUQuota   50%       {quota}:2\n    OOMPolicy  continue  {quota}:3\n"
        )),
        "{out}"
    );
    for unit in ["foundry.slice", "foundry-services.slice", "local-slm", "local-fs", "user.slice"] {
        checked(&schema, machine.path(), &["explain", "unit", unit, "--json"]);
    }
    // What a finding may be, the doctor shows.
    let mut unseen = schema.unseen();
    unseen.retain(|place| !place.starts_with("/$defs/finding/"));
    assert_eq!(unseen, [""; 0]);
}

/// What both print of a finding.
#[test]
fn a_finding_is_the_same_everywhere() {
    let finding = |name: &str| Schema::of(name).part("/$defs/finding").clone();
    assert_eq!(finding("doctor"), finding("explain-unit"));
}

#[test]
fn explain_share() {
    let schema = Schema::of("explain-share");
    let machine = common::machine("fairslice");
    let root = machine.path();
    for cgroup in ["", SERVICES] {
        set(root, cgroup, "cgroup.subtree_control", "cpuset cpu io memory pids");
    }
    set(root, "system.slice", "cpu.max", "1000 100000");
    set(root, "user.slice", "cpuset.cpus.effective", "0");
    set(root, "user.slice/user-1001.slice", "cpu.weight", "0");
    // One thread on two CPUs.
    for cgroup in ["foundry.slice", SERVICES, &format!("{SERVICES}/local-fs.service")] {
        set(root, cgroup, "cpu.weight", "10000");
    }
    // Bound to one of two.
    set(root, SERVICES, "cpuset.cpus.effective", "0-1");
    common::write(root, "proc/999/status", "Threads:\t4\nCpus_allowed_list:\t0\n");
    common::write(root, "proc/999/cgroup", &format!("0::/{SERVICES}/local-slm.service\n"));
    set(root, &format!("{SERVICES}/local-slm.service"), "pids.current", "4");
    for arguments in [
        &[][..],
        &["user-1000.slice"],
        &["local-fs", "--busy", "ssh"],
        &["--busy", "user.slice"],
        &["--busy", "local-slm"],
    ] {
        checked(&schema, root, &[&["explain", "share", "--json"], arguments].concat());
    }
    write(root, "sys/devices/system/cpu/isolated", "0\n");
    checked(&schema, root, &["explain", "share", "--busy", "local-fs", "--json"]);
    write(root, "sys/devices/system/cpu/isolated", "\n");
    // Somebody whom this machine knows, too.
    write(root, "sys/fs/cgroup/user.slice/user-1.slice/cgroup.events", "populated 1\n");
    let group = Account::by_uid(1).unwrap().unwrap().group();
    write(root, "etc/fairslice/policy.toml", &format!("[logins.group.\"{group}\"]\ntotal_weight = 90\n"));
    checked(&schema, root, &["explain", "share", "user-1.slice", "--json"]);
    with_missed(&schema, root, &["explain", "share", "--json"]);
    write(root, "sys/kernel/sched_ext/state", "enabled\n");
    schema.check(&fairslice(root, &["explain", "share", "--json"]).1);
    assert_eq!(schema.unseen(), [""; 0]);
}

/// A disk of BFQ's, one of io.cost's, and one that goes by no weights.
fn disks(root: &Path) {
    for (name, number, scheduler) in
        [("sda", "8:0", "[bfq] none"), ("sdb", "8:16", "bfq [none]"), ("sdc", "8:32", "[mq-deadline]")]
    {
        write(root, &format!("sys/block/{name}/device/vendor"), "");
        write(root, &format!("sys/block/{name}/dev"), &format!("{number}\n"));
        write(root, &format!("sys/block/{name}/queue/scheduler"), &format!("{scheduler}\n"));
    }
    write(root, &format!("{CGROUP}/io.cost.qos"), "8:16 enable=1 ctrl=auto\n");
}

#[test]
fn drill() {
    let schema = Schema::of("drill");
    let machine = common::machine("fairslice");
    disks(machine.path());
    checked(&schema, machine.path(), &["drill", "--dry-run", "--cpu", "--io", "--memory", "--json"]);
    // What starts loads needs a machine: tests/vm/test_3_drill.py.
    let fs = Of::Service(ServiceName::new("local-fs").unwrap());
    let login = |name: &[u8]| Of::Login(1001, Foreign::new(name));
    let row = |of: &Of, measured| Row {
        of: of.clone(),
        depth: 2,
        declared: 0.6,
        found: Some(Found { predicted: 0.61, measured }),
    };
    let left_out = vec![(fs.clone(), "too many")];
    let cpu = CpuDrill {
        plan: cpu::Plan { left_out, ..Default::default() },
        cpu: 1,
        rows: vec![row(&fs, 0.59), row(&login(b"alice"), 0.5)],
        ran: Some((Duration::from_secs(4), 0.99)),
    };
    assert!(!cpu.holds());
    let io = IoDrill {
        disk: Disk { name: Foreign::new(b"\xff"), ..Disks::read(machine.path()).all.remove(0) },
        plan: io::Plan { left_out: vec![(fs.clone(), "too many")], ..Default::default() },
        rows: vec![row(&fs, 0.59)],
        ran: Some((Duration::from_secs(4), 1 << 30)),
    };
    assert!(io.holds());
    let score = |score| OomScoreAdj::new(score).unwrap();
    let killed = |of: &Of, predicted| kills::Row {
        of: of.clone(),
        declared: score(-500),
        live: score(-400),
        due: (1, 2),
        predicted,
        is_as_predicted: predicted == 2,
        killed: 2,
    };
    let left_out = vec![(fs.clone(), "too many")];
    let kills = KillDrill {
        plan: kills::Plan { left_out, ..Default::default() },
        rows: vec![killed(&fs, 1), killed(&login(b"\xff"), 2)],
    };
    let policy = policy::load(machine.path()).policy;
    let planned = MemoryDrill::planned(&Before::read(machine.path(), &policy).unwrap());
    let measured = |of: &Of, measured| Measured { row: row(of, measured), whole: 1 << 30 };
    let mut memory = MemoryDrill {
        protected: vec![measured(&fs, 0.59)],
        limited: vec![measured(&login(b"\xff"), 0.5)],
        ran: Some(Duration::from_secs(1)),
        ..planned
    };
    assert!(!memory.holds());
    memory.plan.left_out = vec![(fs.clone(), "too many")];
    let stamp = Stamp { host: Some(Foreign::new(b"\xff")), time: "2026-11-30T08:15:00Z".to_owned() };
    let (cpu, io, memory, kills) = (Some(cpu), Some(io), Some(memory), Some(kills));
    let views =
        [DrillView { cpu, io, ..Default::default() }, DrillView { memory, kills, ..Default::default() }];
    for view in views {
        schema.check(&drill_json(&stamp, &view));
    }
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn explain_share_io() {
    let schema = Schema::of("explain-share-io");
    let machine = common::machine("fairslice");
    let root = machine.path();
    disks(root);
    // One without a scheduler to choose.
    write(root, "sys/block/sdd/device/vendor", "");
    write(root, "sys/block/sdd/dev", "8:48\n");
    write(root, "sys/block/sda/queue/iosched/low_latency", "1\n");
    for cgroup in ["", "system.slice", "user.slice"] {
        set(root, cgroup, "cgroup.controllers", "cpuset cpu io memory pids");
        set(root, cgroup, "cgroup.subtree_control", "cpuset cpu io memory pids");
    }
    for (cgroup, weight, of_bfq) in
        [("system.slice", 100, 100), ("user.slice", 200, 109), ("user.slice/user-1000.slice", 50, 50)]
    {
        set(root, cgroup, "cgroup.events", "populated 1");
        set(root, cgroup, "io.weight", &format!("default {weight}"));
        set(root, cgroup, "io.bfq.weight", &format!("default {of_bfq}"));
    }
    // What a kernel without io.cost has.
    fs::remove_file(root.join(CGROUP).join("user.slice/user-1000.slice/io.weight")).unwrap();
    let share = ["explain", "share", "--io", "--json"];
    for arguments in [&[][..], &["user-1000.slice"], &["user.slice", "--busy", "system.slice"]] {
        checked(&schema, root, &[&share, arguments].concat());
    }
    with_missed(&schema, root, &share);
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn explain_memory() {
    let schema = Schema::of("explain-memory");
    let machine = common::machine("fairslice");
    let root = machine.path();
    let explain =
        |arguments: &[&str]| checked(&schema, root, &[&["explain", "memory", "--json"], arguments].concat());
    set(root, SERVICES, "memory.min", "max");
    set(root, &format!("{SERVICES}/local-fs.service"), "memory.low", "1000000");
    let told = explain(&[]);
    assert_eq!(told["cgroups"][0]["swap_max"], json!({ "set": "max", "effective": "max", "of": null }));
    explain(&["local-fs"]);
    write(root, "sys/kernel/mm/lru_gen/enabled", "0x0007\n");
    replace(root, "proc/mounts", ",memory_recursiveprot", "");
    // In a container the root has a limit, and no protection.
    for (attribute, value) in
        [("current", "9000"), ("max", "2000000000"), ("high", "max"), ("min", "0"), ("low", "0")]
    {
        set(root, "", &format!("memory.{attribute}"), value);
    }
    explain(&[]);
    with_missed(&schema, root, &["explain", "memory", "--json"]);
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn explain_oom() {
    let schema = Schema::of("explain-oom");
    let explain = |machine: &TempDir, arguments: &[&str]| {
        checked(&schema, machine.path(), &[&["explain", "oom", "--json"], arguments].concat())
    };
    for name in ["kubernetes", "ubuntu"] {
        let machine = common::machine(name);
        write(machine.path(), "etc/fairslice/policy.toml", "[service.a]\noom_score_adj = 0\n");
        explain(&machine, &[]);
    }
    let machine = common::machine("fairslice");
    let root = machine.path();
    let slm = format!("{SERVICES}/local-slm.service");
    set(root, &slm, "memory.oom.group", "1");
    explain(&machine, &["--of", "local-slm"]);
    for switch in ["panic_on_oom", "oom_kill_allocating_task"] {
        write(root, &format!("proc/sys/vm/{switch}"), "1\n");
    }
    // The one that is to go last uses most of the memory.
    let main = fs::read_to_string(root.join(format!("{CGROUP}/{SERVICES}/local-fs.service/cgroup.procs")));
    let status = format!("proc/{}/status", main.unwrap().trim());
    let text = fs::read_to_string(root.join(&status)).unwrap();
    write(root, &status, &text.replace("VmRSS:", "VmRSS: 1900000 kB\nWas:"));
    // And earlyoom, which then may take none of them.
    fixture::process(root, 4000, 1, "system.slice/earlyoom.service", 0);
    replace(root, "proc/4000/stat", "a (b) c", "earlyoom");
    let show = fs::read_to_string(root.join("run/systemd/show")).unwrap();
    let unit = "\nId=earlyoom.service\nActiveState=active\nMainPID=4000\n";
    let watched = "\nId=system.slice\nActiveState=active\nControlGroup=/system.slice\n\
                   ManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureDurationUSec=2s\n";
    write(root, "run/systemd/show", &format!("{show}{unit}{watched}"));
    for options in ["--prefer\0^slm$", "--ignore\0."] {
        write(root, "proc/4000/cmdline", &format!("earlyoom\0{options}\0"));
        explain(&machine, &[]);
    }
    with_missed(&schema, root, &["explain", "oom", "--json"]);
    assert_eq!(schema.unseen(), [""; 0]);
}

#[test]
fn explain_process() {
    let schema = Schema::of("explain-process");
    let machine = fixture::machine();
    let root = machine.path();
    let explain = |pid: &str| checked(&schema, root, &["explain", "process", pid, "--json"]);
    let (outer, session) = ("user.slice/user-0.slice", "user.slice/user-0.slice/session-1.scope");
    checked(&schema, root, &["me", "--json"]);
    for cgroup in [session, outer] {
        load(root, cgroup, 1 << 20, 1);
        set(root, cgroup, "memory.events.local", "low 0\nhigh 3\nmax 0\noom 1\noom_kill 0");
        for (attribute, value) in [
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus.effective", "0"),
            ("cpuset.cpus", "0"),
            ("pids.current", "3"),
            ("pids.max", "100"),
            ("io.max", "8:0 rbps=1048576 wbps=max riops=max wiops=max"),
            ("io.weight", "default 200"),
        ] {
            set(root, cgroup, attribute, value);
        }
        for limit in ["high", "max", "swap.max"] {
            set(root, cgroup, &format!("memory.{limit}"), "2097152");
        }
    }
    set(root, session, "cgroup.subtree_control", "cpuset cpu io memory pids");
    let inside = format!("{session}/job");
    set(root, &inside, "memory.high", "1048576");
    fs::create_dir_all(root.join(CGROUP).join(&inside)).unwrap();
    load(root, &inside, 1 << 20, 1);
    fixture::process(root, 15, 1, &inside, 0);
    write(root, "etc/systemd/system/user-0.slice.d/50.conf", "[Slice]\nMemoryHigh=2M\nMemoryMax=3M\n");
    write(
        root,
        "run/systemd/generator/user-.slice.d/40-fairslice.conf",
        "[Slice]\n# /etc/fairslice/policy.toml:3\nTasksMax=100\n",
    );
    assert_eq!(explain("13")["killed"]["at"], json!([format!("/{session}"), format!("/{outer}")]));
    explain("15");
    explain("12");
    set(root, outer, "memory.events", "low 0\nhigh 3\nmax 0\noom 2\noom_kill 2");
    checked(&schema, root, &["me", "--json"]);
    set(root, &inside, "memory.oom.group", "1");
    disks(root);
    for cgroup in [session, outer] {
        set(root, cgroup, "io.bfq.weight", "default 109");
    }
    let status = fs::read_to_string(root.join("proc/15/status")).unwrap();
    let bound = |line: &str| {
        if line.starts_with("Cpus_allowed_list:") { "Cpus_allowed_list:\t1" } else { line }.to_owned()
    };
    let status: Vec<String> = status.lines().map(bound).collect();
    write(root, "proc/15/status", &status.join("\n"));
    // Nobody is called so.
    write(root, "proc/14/status", "Uid:\t4000000000\t0\t0\t0\n");
    explain("14");
    set(root, &inside, "cpuset.cpus.effective", "0-1");
    explain("15");
    for pid in ["1", "2"] {
        fixture::process(root, pid.parse().unwrap(), 0, "", 0);
        write(root, &format!("proc/{pid}/cgroup"), if pid == "1" { "0::/\n" } else { "0::/../elsewhere\n" });
        explain(pid);
    }
    foreign(root);
    let told = explain("4001");
    assert_eq!(told["cgroup"], json!([b"/system.slice/".as_slice(), b"\xff"].concat()));
    // A cgroup that is deeper than is read.
    let deep = format!("system.slice/deep.service/{}", "n/".repeat(33));
    write(root, "proc/4001/cgroup", &format!("0::/{}\n", deep.trim_end_matches('/')));
    let (_, out, err) = fairslice(root, &["explain", "process", "4001", "--json"]);
    let told = schema.check(&out);
    assert!(err.contains(told["missed"][0].as_str().unwrap()), "{err}");
    assert!(told["unknown"][0].as_str().unwrap().contains("/n/n"), "{told}");
    write(root, "sys/kernel/sched_ext/state", "enabled\n");
    explain("13");
    assert_eq!(schema.unseen(), [""; 0]);
}

/// The check itself.
#[test]
fn what_is_not_so_is_found() {
    let machine = fixture::machine();
    let schema = Schema::of("status");
    let good = checked(&schema, machine.path(), &["status", "--json"]);
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/differing", json!(-1)),
        ("/policy/in_force", json!("maybe")),
        ("/units/0/active", json!(null)),
        ("/units/0/settings", json!([{}])),
        ("/cgroups/0/cpu_share", json!(1.5)),
        ("/cgroups/0/pressure", json!({ "cpu": null, "memory": null, "io": null, "gpu": null })),
        ("/cgroups/1/unit", json!(7)),
        ("/cgroups/1/unit", json!([256])),
        ("/missed", json!(null)),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(!schema.errors(&value).is_empty(), "{pointer}");
    }
    let schema = Schema::of("explain-share");
    let good = json!({ "version": 1, "missed": [], "cpus": 2, "busy": null, "chain": [] });
    assert_eq!(schema.errors(&good), [""; 0]);
    assert_eq!(schema.unseen().iter().filter(|place| place.contains("busy: ")).count(), 1);
    for (key, value) in [("cgroups", json!([])), ("cpus", json!(0)), ("busy", json!(["/", 7]))] {
        let mut wrong = good.clone();
        wrong[key] = value;
        assert!(!schema.errors(&wrong).is_empty(), "{key}");
    }
    let schema = Schema::of("doctor");
    let wrong = json!({ "version": 1, "settings": 0, "missed": [], "findings": [{ "code": "FS1" }] });
    assert!(schema.errors(&wrong).iter().any(|error| error.contains("pattern")));
}
