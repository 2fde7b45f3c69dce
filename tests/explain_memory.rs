//! `fairslice explain memory` and `explain oom` on a machine of their own.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::write;
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SERVICES: &str = "foundry.slice/foundry-services.slice";

fn cgroup(root: &Path, path: &str, attributes: &[(&str, u64)]) {
    let text = |name: &str| match attributes.iter().find(|(set, _)| *set == name) {
        Some((_, mib)) => (mib * MIB).to_string(),
        None if matches!(name, "high" | "max" | "swap.max") => "max".to_owned(),
        None => "0".to_owned(),
    };
    for name in ["current", "min", "low", "high", "max", "swap.current", "swap.max", "oom.group"] {
        write(root, &format!("sys/fs/cgroup/{path}/memory.{name}"), &format!("{}\n", text(name)));
    }
    write(root, &format!("sys/fs/cgroup/{path}/cgroup.subtree_control"), "memory\n");
}

fn process(root: &Path, pid: u32, name: &str, cgroup: &str, score: i32, mib: u64) {
    let own = format!("proc/{pid}");
    // This test's own, with another number, name and size.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let rest: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    write(root, &format!("{own}/stat"), &format!("{pid} ({name}) {} 1 {}", rest[0], rest[2..].join(" ")));
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().map(|line| match line.split_once(':').unwrap().0 {
        "VmRSS" => format!("VmRSS:\t{} kB\n", mib << 10),
        key @ ("VmPTE" | "VmSwap") => format!("{key}:\t0 kB\n"),
        _ => format!("{line}\n"),
    });
    write(root, &format!("{own}/status"), &lines.collect::<String>());
    write(root, &format!("{own}/cgroup"), &format!("0::/{cgroup}\n"));
    write(root, &format!("{own}/oom_score_adj"), &format!("{score}\n"));
    write(root, &format!("{own}/oom_score"), "777\n");
}

/// 1000 MiB, and the protection of a nested slice without its ancestor's.
fn machine() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "etc/fairslice/policy.toml", "[service.local-fs]\noom_score_adj = -500\n");
    write(root, "proc/meminfo", "MemTotal:        1024000 kB\nSwapTotal:       0 kB\n");
    write(root, "proc/self/cgroup", "0::/init.scope\n");
    write(root, "sys/fs/cgroup/cgroup.controllers", "memory\n");
    write(root, "sys/fs/cgroup/cgroup.subtree_control", "memory\n");
    cgroup(root, "foundry.slice", &[("current", 500), ("max", 800)]);
    cgroup(root, SERVICES, &[("current", 500), ("min", 600), ("high", 700)]);
    cgroup(root, &format!("{SERVICES}/local-fs.service"), &[("current", 400), ("max", 900)]);
    cgroup(root, &format!("{SERVICES}/local-slm.service"), &[("current", 100)]);
    process(root, 10, "fs", &format!("{SERVICES}/local-fs.service"), -500, 400);
    process(root, 11, "slm", &format!("{SERVICES}/local-slm.service"), 100, 50);
    process(root, 12, "slm-child", &format!("{SERVICES}/local-slm.service"), 0, 50);
    process(root, 13, "sshd", "system.slice/ssh.service", -1000, 5);
    process(root, 14, "udevd", "system.slice/udev.service", -1000, 5);
    write(root, "usr/lib/systemd/system/udev.service", "[Service]\n\nOOMScoreAdjust=-1000\n");
    write(
        root,
        "run/systemd/show",
        "Id=local-slm.service\nActiveState=active\nOOMPolicy=stop\nKillMode=control-group\n\n\
         Id=udev.service\nActiveState=active\nOOMScoreAdjust=-1000\n\
         FragmentPath=/usr/lib/systemd/system/udev.service\n",
    );
    directory
}

fn explain(root: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
    let output = command.arg("--root").arg(root).arg("explain").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_settings_come_to_and_why() {
    let machine = machine();
    let expected = "\
UNIT                    USED  SETTING   SET  EFFECTIVE  NOW  BECAUSE OF
foundry.slice           500M  max      800M       800M
foundry-services.slice  500M  min      600M          0    0  foundry.slice has memory.min = 0
                              high     700M       700M
local-fs.service        400M  max      900M       800M       foundry.slice
";
    assert_eq!(explain(machine.path(), &["memory"]), expected);
    let json: Value = serde_json::from_str(&explain(machine.path(), &["memory", "--json"])).unwrap();
    assert_eq!((&json["version"], json["cgroups"].as_array().unwrap().len()), (&1.into(), 3));
    let services = &json["cgroups"][1];
    assert_eq!((&services["min"]["set"], &services["min"]["effective"]), (&(600 * MIB).into(), &0.into()));
    assert_eq!(services["max"]["of"], "foundry.slice");
}

#[test]
fn a_cgroup_is_followed_down_to_it() {
    let machine = machine();
    cgroup(machine.path(), "foundry.slice", &[("current", 500), ("min", 300), ("max", 800)]);
    let expected = "\
/foundry.slice/foundry-services.slice/local-fs.service
CGROUP                    USED   MIN  CLAIMED  EFFECTIVE  LOW  CLAIMED  EFFECTIVE  HIGH   MAX  SWAP.MAX
foundry.slice             500M  300M     300M       300M    0                   0   max  800M       max
  foundry-services.slice  500M  600M     500M       300M    0                   0  700M   max       max
    local-fs.service      400M     0                240M    0                   0   max  900M       max

memory.min: 240M of 400M in use protected; it sets none
memory.low: 0 of 400M in use protected; it sets none
memory.high: 700M of foundry-services.slice, with all that is in it
memory.max: 800M of foundry.slice, with all that is in it
memory.swap.max: no limit
";
    assert_eq!(explain(machine.path(), &["memory", "local-fs"]), expected);
    // What is said of memory.low is of interest where there is some.
    write(machine.path(), "sys/kernel/mm/lru_gen/enabled", "0x0007\n");
    assert!(!explain(machine.path(), &["memory", "local-fs"]).contains("multi-gen"));
    write(machine.path(), "sys/fs/cgroup/foundry.slice/memory.low", "4096000\n");
    for arguments in [["memory", "local-fs"].as_slice(), &["memory"]] {
        assert!(explain(machine.path(), arguments).contains("memory.low only delays reclaim"));
    }
    write(machine.path(), "sys/kernel/mm/lru_gen/enabled", "0x0000\n");
    assert!(!explain(machine.path(), &["memory"]).contains("multi-gen"));
    write(machine.path(), "proc/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n");
    assert!(explain(machine.path(), &["memory", "local-fs"]).contains("memory.min: 0 of 400M in use"));
}

#[test]
fn the_next_victims_are_listed_with_the_sum_that_makes_them() {
    let machine = machine();
    let expected = "\
when the machine's memory runs out: 1000M of RAM and 0 of swap

#  PROCESS  PID  UNIT               SCORE  = MEMORY  + ADJ  USED  oom_score  TAKES WITH IT
1  slm       11  local-slm.service    150        50    100   50M        777  local-slm.service: 2 processes, OOMPolicy=stop
2  fs        10  local-fs.service    -100       400   -500  400M        777

NEVER KILLED  PID  UNIT          BECAUSE OF
sshd           13  ssh.service   set by itself
udevd          14  udev.service  OOMScoreAdjust= of udev.service (/usr/lib/systemd/system/udev.service:3)

POLICY'S SERVICES  DECLARED  SCORE  ORDER
local-fs.service       -500   -100  as declared

systemd-oomd does not run
earlyoom.service does not run
";
    assert_eq!(explain(machine.path(), &["oom"]), expected);
}

#[test]
fn a_slices_own_oom_counts_in_thousandths_of_its_limit() {
    let machine = machine();
    let text = explain(machine.path(), &["oom", "--of", "local-fs"]);
    let head = "memory for local-fs.service runs out in foundry.slice, which has 800M and 0 of swap\n";
    assert!(text.starts_with(head), "{text}");
    let json: Value =
        serde_json::from_str(&explain(machine.path(), &["oom", "--of", "local-fs", "--json"])).unwrap();
    let victims = json["victims"].as_array().unwrap();
    // Its sibling is killed first, and is said to be.
    let places = victims.iter().map(|v| (v["rank"].as_u64().unwrap(), v["asked"].as_bool().unwrap()));
    assert_eq!(places.collect::<Vec<_>>(), [(1, false), (2, true)]);
    assert_eq!((&victims[0]["process"], &victims[1]["memory_permille"]), (&"slm".into(), &500.into()));
    assert_eq!((&json["total"], &json["domain"]), (&(800 * MIB).into(), &"foundry.slice".into()));
}

#[test]
fn memory_runs_out_where_least_is_left() {
    let machine = machine();
    let root = machine.path();
    let own = format!("{SERVICES}/local-fs.service");
    let domain = || {
        let json: Value =
            serde_json::from_str(&explain(root, &["oom", "--of", "local-fs", "--json"])).unwrap();
        json["domain"].as_str().unwrap().to_owned()
    };
    // 300 MiB are left below the one limit, 500 below the other; and 200 of page cache, where that counts.
    assert_eq!(domain(), "foundry.slice");
    cgroup(root, &own, &[("current", 400), ("max", 650)]);
    assert_eq!(domain(), "local-fs.service");
    write(
        root,
        &format!("sys/fs/cgroup/{own}/memory.stat"),
        "inactive_file 104857600\nactive_file 104857600\n",
    );
    assert_eq!(domain(), "foundry.slice");
    let meminfo = "MemTotal: 1024000 kB\nMemAvailable: 204800 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n";
    write(root, "proc/meminfo", meminfo);
    assert_eq!(domain(), "-.slice");
    let text = explain(root, &["oom", "--of", "local-fs"]);
    let head = "memory for local-fs.service runs out in the machine, before any memory.max is met: \
                1000M of RAM and 0 of swap\n";
    assert!(text.starts_with(head), "{text}");
}

#[test]
fn what_oomd_watches_is_shown_with_its_own_limit() {
    let machine = machine();
    let root = machine.path();
    let watched = |name: &str, own: &str| {
        format!(
            "Id={name}\nActiveState=active\nControlGroup=/foundry.slice\nManagedOOMMemoryPressure=kill\n{own}\n"
        )
    };
    let units = [
        "Id=systemd-oomd.service\nActiveState=active\n\n".to_owned(),
        watched("foundry.slice", ""),
        watched("foundry-services.slice", "ManagedOOMMemoryPressureLimit=1073741824\n"),
    ];
    write(root, "run/systemd/show", &units.concat());
    let text = explain(root, &["oom"]);
    for line in [
        "  foundry.slice, ManagedOOMMemoryPressure=kill at 60% for 30s: takes",
        "  foundry-services.slice, ManagedOOMMemoryPressure=kill at 25% for 30s, its own: takes",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let json: Value = serde_json::from_str(&explain(root, &["oom", "--json"])).unwrap();
    assert_eq!(json["oomd"]["watched"][0]["limit"], "25%");
    assert_eq!(json["oomd"]["watched"][1]["limit"], Value::Null);
}
