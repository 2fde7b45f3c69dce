//! `fairslice status` on a tree of its own: what differs is found, and nothing else.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod fixture;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fixture::{SERVICES, cgroup, fairslice, load, machine, process, write};
use serde_json::Value;

fn status(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    fairslice(root, &[&["status"], arguments].concat())
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
    let expected = "
                              cpu      pressure %       memory          oom
 unit                     weight share cpu mem  io  used          of score rank
 machine                       -  100%   -   -   -  512M ▒····  2.0G
 foundry.slice               200 50.0%   -   -   -     -
 └─foundry-services.slice    200 50.0%   -   -   -     -
   ├─local-fs.service          - 25.0%   -   -   -     -               333   #4
   └─local-slm.service         - 25.0%   -   -   -     -               666   #2
 system.slice                100 25.0%   -   -   -     -
 └─ssh.service                 - 25.0%   -   -   -     -                 0    -
 user.slice                  100 25.0%   -   -   -     -
 └─user-0.slice (root)       300 25.0%   -   -   -     -               732   #1

inactive: local-idle.service

all 10 settings are as declared
";
    assert_eq!(format!("\n{text}"), expected);
}

#[test]
fn what_is_used_and_waited_for_is_shown_and_idle_services_are_counted() {
    let machine = machine();
    let root = machine.path();
    for path in ["", "foundry.slice", SERVICES, "system.slice", "user.slice", "user.slice/user-0.slice"] {
        load(root, path, 600 << 20, 0);
    }
    load(root, &format!("{SERVICES}/local-fs.service"), 512 << 20, 77);
    for service in 0..40 {
        let name = format!("system.slice/idle-{service}.service");
        cgroup(root, &name, &[("pids.current", "1"), ("cpu.weight", "100")]);
        load(root, &name, 1 << 20, 0);
    }
    for (name, bytes, percent) in [("large", 1 << 30, 0), ("waits", 0, 3)] {
        let name = format!("system.slice/{name}.service");
        cgroup(root, &name, &[("cpu.weight", "100")]);
        load(root, &name, bytes, percent);
    }
    cgroup(root, "system.slice/heavy.service", &[("cpu.weight", "150")]);
    cgroup(root, "system.slice/ended.service", &[("cgroup.events", "populated 0")]);
    let (_, text, _) = status(root, &[]);
    let expected = "
                              cpu      pressure %       memory          oom
 unit                     weight share cpu mem  io  used          of score rank
 machine                       -  100%   0   0   0  512M ▒····  2.0G
 foundry.slice               200 50.0%   0   0   0  600M ▒····
 └─foundry-services.slice    200 50.0%   0   0   0  600M ▒▒▒··  1.0G
   ├─local-fs.service          - 25.0%  78  78  78  512M ▒▒▒··  1.0G   333   #4
   └─local-slm.service         - 25.0%   -   -   -     -               666   #2
 system.slice                100 25.0%   0   0   0  600M ▒····
 ├─heavy.service             150  0.8%   -   -   -     -
 ├─large.service             100  0.5%   0   0   0  1.0G ▒▒▒··
 ├─ssh.service                 -  1.1%   -   -   -     -                 0    -
 ├─waits.service             100  0.5%   4   4   4     0 ·····
 └─… 40 more
 user.slice                  100 25.0%   0   0   0  600M ▒····
 └─user-0.slice (root)       300 25.0%   0   0   0  600M ▒····         732   #1
";
    assert_eq!(format!("\n{}", text.split("\ninactive").next().unwrap()), expected);
}

#[test]
fn more_logins_than_a_screen_has_are_counted_but_for_those_that_differ() {
    let machine = machine();
    for uid in 4_000_000_000_u32..4_000_000_030 {
        let slice = format!("user.slice/user-{uid}.slice");
        cgroup(machine.path(), &slice, &[("cpu.weight", "100")]);
    }
    process(machine.path(), 99, 1, "user.slice/user-4000000017.slice/session-9.scope", -500);
    let (code, text, _) = status(machine.path(), &[]);
    assert_eq!(code, 1);
    let shown: Vec<&str> = text.lines().filter(|line| line.contains("user-")).collect();
    // The one of another weight, root, whose weight is not 100 either; and below, what differs.
    assert_eq!(shown.len(), 3, "{text}");
    assert!(shown[0].contains("root") && shown[1].starts_with("!├─user-40000000"), "{text}");
    assert!(
        text.contains(" └─… 29 more\n") && shown[2].ends_with("oom_score_adj: -500 instead of 0"),
        "{text}"
    );
}

#[test]
fn without_utf_8_and_in_80_columns_it_is_as_readable() {
    let machine = machine();
    let root = machine.path();
    cgroup(root, &format!("{SERVICES}/local-with-a-very-long-name-indeed@instance.service"), &[]);
    let run = |size: &str, locale: &str| {
        let program = env!("CARGO_BIN_EXE_fairslice");
        let shell = format!("stty {size} && exec {program} --root {} status", root.display());
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &shell, "/dev/null"]);
        script.env("LC_ALL", locale).env("NO_COLOR", "1");
        let text = String::from_utf8(script.output().unwrap().stdout).unwrap();
        assert!(text.contains("settings are as declared"), "{text}");
        text
    };
    let narrow = run("rows 24 cols 80", "C.UTF-8");
    let longest = narrow.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(80) && narrow.contains("└─local-with-a-very-long-nam…"), "{narrow}");
    assert!(narrow.contains("rank") && !narrow.contains("score"), "{narrow}");
    let ascii = run("rows 24 cols 80", "C");
    assert!(
        ascii.is_ascii() && ascii.contains("|-local-fs.service") && ascii.contains("-long-n..."),
        "{ascii}"
    );
    let wide = run("rows 24 cols 120", "en_GB.utf8");
    assert!(wide.contains("indeed@instance.service ") && wide.contains("score"), "{wide}");
}

#[test]
fn a_unit_is_shown_in_detail() {
    let machine = machine();
    let root = machine.path();
    load(root, "foundry.slice", 600 << 20, 0);
    let service = format!("{SERVICES}/local-fs.service");
    load(root, &service, 512 << 20, 77);
    cgroup(root, &service, &[("cpu.weight", "100"), ("pids.current", "1"), ("cpu.max", "150000 100000")]);
    cgroup(root, &format!("{SERVICES}/local-slm.service"), &[("cpu.weight", "300")]);
    process(root, 10, 1, &service, -400);
    let (code, text, err) = status(root, &["local-fs"]);
    let resident = text.lines().last().unwrap().split_whitespace().last().unwrap().to_owned();
    let expected = format!(
        "\
local-fs.service: /{service}, 1 tasks
  setting        declared                live                             from
  slice          foundry-services.slice  foundry-services.slice  ok       /etc/fairslice/policy.toml:3
  oom_score_adj  -500                    -400                    differs  /etc/fairslice/policy.toml:7
  weight                       all siblings  cpu.max        share of the machine
  foundry.slice           200  400           -              50.0%
  foundry-services.slice  200  200           -              50.0%
  local-fs.service        100  400           150000 100000  12.5%
  pressure %   10 s  1 min  5 min  total
  cpu some     77.5  1.0    0.2    1.2 s
  cpu full     0.0   0.0    0.0    0.0 s
  memory some  77.5  1.0    0.2    1.2 s
  memory full  0.0   0.0    0.0    0.0 s
  io some      77.5  1.0    0.2    1.2 s
  io full      0.0   0.0    0.0    0.0 s
  memory    own  effective
  min       0    0
  low       0    0
  high      -    -
  max       -    -
  swap max  -    -
  used 512M ▒▒▒▒▒▒▒▒······················ of 2G, swap 0
  events: low 0, high 3, max 0, oom 0, oom_kill 1
  process            oom score  adjusted by  rank  resident
  10 a (b) c (main)  400        -400         #4    {resident}
"
    );
    assert_eq!((code, text.as_str(), err.as_str()), (1, expected.as_str(), ""));
    // Only what is named counts.
    assert_eq!(status(root, &["local-slm.service", "user.slice"]).0, 0);
}

#[test]
fn names_are_units_with_or_without_suffix_and_users() {
    let machine = machine();
    let root = machine.path();
    let first = |name: &str| status(root, &[name]).1.lines().next().unwrap_or_default().to_owned();
    assert_eq!(first("foundry-services"), format!("foundry-services.slice: /{SERVICES}"));
    assert_eq!(first("root"), "user-0.slice (root): /user.slice/user-0.slice");
    assert_eq!(first("session-1"), "session-1.scope: /user.slice/user-0.slice/session-1.scope");
    assert_eq!(first("local-idle"), "local-idle.service: inactive");
    let (code, out, err) = status(root, &["local-sf"]);
    assert_eq!((code, out.as_str()), (2, ""));
    let said = "fairslice: nothing that runs or that the policy names, and nobody who is logged in, is called \
                \"local-sf\": did you mean local-fs.service, local-slm.service?\n";
    assert_eq!(err, said);
    let (code, _, err) = status(root, &["xyz"]);
    assert!(code == 2 && err.ends_with("is called \"xyz\"\n"), "{err}");
}

#[test]
fn programs_get_every_unit_with_its_figures() {
    let machine = machine();
    let root = machine.path();
    load(root, SERVICES, 600 << 20, 12);
    for service in 0..300 {
        cgroup(root, &format!("system.slice/idle-{service}.service"), &[]);
    }
    let (code, out, err) = status(root, &["--format", "json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    let cgroups = json["cgroups"].as_array().unwrap();
    let units = cgroups.iter().filter(|cgroup| cgroup["cgroup"].as_str().unwrap().contains("idle-")).count();
    assert_eq!(units, 300);
    let find = |unit: &str| cgroups.iter().find(|cgroup| cgroup["unit"] == unit).unwrap();
    let slice = find("foundry-services.slice");
    assert_eq!((&slice["cpu_weight"], &slice["cpu_usage_usec"]), (&200.into(), &1000.into()));
    assert_eq!(slice["pressure"]["io"]["some"]["avg10"], 12.5);
    assert_eq!((&slice["memory"]["current"], &slice["memory"]["max"]), (&(600 << 20).into(), &"max".into()));
    assert_eq!(find("local-fs.service")["oom"], serde_json::json!({ "score": 333, "rank": 4 }));
    assert_eq!(find("ssh.service")["oom"], serde_json::json!({ "score": 0, "rank": null }));
    assert_eq!(find("user-0.slice")["user"], "root");
    let json: Value = serde_json::from_str(&status(root, &["root", "--json"]).1).unwrap();
    assert_eq!(json["units"].as_array().unwrap().len(), 1);
    assert_eq!(json["cgroups"][0]["processes"][0]["pid"], 13);
    assert_eq!(json["cgroups"].as_array().unwrap().len(), 1);
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
            table.contains(" instead of ") && table.contains("\n1 of 10 settings are not as declared\n"),
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

/// Also where no slice of the policy holds them.
#[test]
fn what_is_declared_for_a_template_holds_for_its_instances() {
    let machine = machine();
    write(machine.path(), "etc/fairslice/policy.d/50.toml", "[service.\"web@\"]\noom_score_adj = 100\n");
    process(machine.path(), 20, 1, "system.slice/web@1.service", 0);
    assert_eq!(differing(machine.path()), ["web@1.service oom_score_adj 0"]);
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
    cgroup(root, "system.slice/local-fs.service", &[("cgroup.events", "populated 0")]);
    process(root, 10, 1, &format!("{SERVICES}/local-fs-10.scope"), -500);
    assert_eq!(differing(root), [""; 0]);
    process(root, 15, 1, "system.slice/local-fs.service", -500);
    write(root, "sys/fs/cgroup/system.slice/local-fs.service/cgroup.events", "populated 1\n");
    assert_eq!(differing(root), ["local-fs.service slice system.slice"]);
}

/// A policy of all that limits, beside the machine's own.
const BUDGETS: &str = r#"
[slice."foundry-services.slice"]
cpu_quota = "150%"
io_read_bandwidth_max = "/srv 100M"
memory_zswap_max = "1M"
[service.local-fs]
cpu_quota = "50%"
allowed_cpus = "0"
oom_policy = "kill"
nice = 5
[logins]
total_memory_high = "50%"
total_cpu_quota = "120%"
total_tasks_max = 4000
io_write_bandwidth_max = "/srv 1234"
"#;

#[test]
fn what_limits_is_compared_with_the_kernels_files() {
    let machine = machine();
    let root = machine.path();
    write(root, "etc/fairslice/policy.d/50-budgets.toml", BUDGETS);
    fs::create_dir_all(root.join("srv")).unwrap();
    let device = fs::metadata(root).unwrap().dev();
    let numbers = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    write(root, &format!("sys/dev/block/{numbers}/dev"), "254:0\n");
    let fs = format!("{SERVICES}/local-fs.service");
    let right = [
        (SERVICES, "cpu.max", "150000 100000"),
        (SERVICES, "io.max", "8:0 rbps=1 wbps=1\n254:0 rbps=100000000 wbps=max riops=max wiops=max"),
        (SERVICES, "memory.zswap.max", "1048576"),
        (&fs, "cpu.max", "5000 10000"),
        (&fs, "cpuset.cpus", "0"),
        (&fs, "memory.oom.group", "1"),
        ("user.slice", "memory.high", "1073741824"),
        ("user.slice", "cpu.max", "120000 100000"),
        ("user.slice", "pids.max", "4000"),
        ("user.slice/user-0.slice", "io.max", "254:0 rbps=max wbps=1234 riops=max wiops=max"),
    ];
    let set = |cgroup: &str, attribute: &str, value: &str| {
        write(root, &format!("sys/fs/cgroup/{cgroup}/{attribute}"), &format!("{value}\n"));
    };
    for (cgroup, attribute, value) in right {
        set(cgroup, attribute, value);
    }
    let niced = |nice: &str| {
        let stat = fs::read_to_string(root.join("proc/10/stat")).unwrap();
        let (before, after) = stat.rsplit_once(')').unwrap();
        let mut fields: Vec<&str> = after.split_whitespace().collect();
        fields[16] = nice;
        write(root, "proc/10/stat", &format!("{before}) {}\n", fields.join(" ")));
    };
    niced("5");
    assert_eq!(differing(root), [""; 0]);

    let idle = "local-fs.service";
    for (at, value, said) in [
        (0, "max 100000", "foundry-services.slice cpu_quota max 100000".to_owned()),
        (
            1,
            "254:0 rbps=50 wbps=max riops=max wiops=max",
            "foundry-services.slice io_read_bandwidth_max 50".to_owned(),
        ),
        (1, "", "foundry-services.slice io_read_bandwidth_max max".to_owned()),
        (2, "max", "foundry-services.slice memory_zswap_max max".to_owned()),
        (3, "60000 100000", format!("{idle} cpu_quota 60000 100000")),
        (4, "0-1", format!("{idle} allowed_cpus 0-1")),
        (5, "0", format!("{idle} oom_policy 0")),
        (6, "max", "user.slice total_memory_high max".to_owned()),
        (7, "max 100000", "user.slice total_cpu_quota max 100000".to_owned()),
        (8, "max", "user.slice total_tasks_max max".to_owned()),
        (9, "", "user-0.slice io_write_bandwidth_max max".to_owned()),
    ] {
        let (cgroup, attribute, right) = right[at];
        set(cgroup, attribute, value);
        assert_eq!(differing(root), [said], "{cgroup}/{attribute}");
        set(cgroup, attribute, right);
    }
    niced("0");
    assert_eq!(differing(root), ["local-fs.service nice 0"]);
    let (_, text, _) = status(root, &["user.slice", "foundry-services.slice"]);
    for line in ["total_memory_high  50%", "total_cpu_quota    120%", "cpu_quota              150%"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    // What is not there limits nothing.
    fs::remove_dir(root.join("srv")).unwrap();
    assert!(
        differing(root).contains(&"foundry-services.slice io_read_bandwidth_max no such disk".to_owned())
    );
}
