//! Every command is asked the same of one machine, and all have to say the same, and what PID 1 says.
//!
//! The machines are those of `tests/machines`, whose PID 1 was captured, and a hundred that are drawn from numbers:
//! services under several names, drop-ins before and after the generator's and in place of it, `set-property`, values
//! that PID 1 refuses, services in other slices, leftovers, scopes of the launcher's, values and scores that are not
//! PID 1's. What their PID 1 has is worked out here from the files ([`Loaded`]), by none of the product's code.
//!
//! Not asked: what `status` shows of memory protections against `explain memory`, and who is killed next, which the
//! one takes from the kernel and the other computes.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use fixture::{cgroup, common, fairslice, load, process, write};
use serde_json::Value;

const MACHINES: u64 = 100;
/// So many units of each machine are asked for one by one: each question is a process.
const ASKED: usize = 2;

#[test]
fn on_a_hundred_machines_all_commands_say_the_same() {
    let (next, wrong) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > MACHINES {
                        break;
                    }
                    let machine = drawn(seed);
                    let said = disagreements(machine.path(), seed);
                    wrong.lock().unwrap().extend(said.into_iter().map(|said| format!("{seed}: {said}")));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "by seed:\n{}", wrong.join("\n"));
}

#[test]
fn on_captured_machines_all_commands_say_the_same() {
    for name in ["debian-12", "debian-13", "fairslice", "kubernetes", "ubuntu"] {
        let machine = common::machine(name);
        let root = machine.path();
        let units = show(root);
        let active = units.iter().filter(|(name, unit)| {
            name.ends_with(".service")
                && unit.get("MainPID").is_some_and(|pid| pid != "0")
                && !name.contains('@')
                && *name != "ssh.service"
        });
        let mut policy = "[slice.\"captured.slice\"]\ncpu_weight = 300\nmatch = [".to_owned();
        let active: Vec<&str> = active.map(|(name, _)| name.trim_end_matches(".service")).take(6).collect();
        writeln!(policy, "\"{}\"]", active[..3].join("\", \"")).unwrap();
        for (at, service) in active.iter().enumerate() {
            write!(policy, "[service.\"{service}\"]\noom_score_adj = {}\ncpu_weight = 100\n", at * 100)
                .unwrap();
        }
        write(root, "etc/fairslice/policy.toml", &policy);
        write(root, "run/systemd/show-manager", &format!("UnitsLoadTimestampMonotonic={RELOADED}\n"));
        let said = disagreements(root, 1);
        assert!(said.is_empty(), "{name}:\n{}", said.join("\n"));
    }
}

#[test]
fn where_no_share_can_be_computed_no_command_says_one() {
    type Change = fn(&Path);
    let cases: [(Change, &str); 3] = [
        (
            |root| {
                write(root, "sys/kernel/sched_ext/state", "enabled\n");
                write(root, "sys/kernel/sched_ext/root/ops", "lavd_1.0.20\n");
            },
            "the sched_ext scheduler lavd_1.0.20 decides",
        ),
        (
            |root| write(root, "proc/mounts", "proc /proc proc rw,hidepid=2 0 0\n"),
            "which CPUs others' processes may use cannot be seen (hidepid), but by root",
        ),
        (
            |root| {
                cgroup(root, "system.slice", &[("cpuset.cpus.effective", "0-1")]);
                cgroup(
                    root,
                    "",
                    &[("cpuset.cpus.effective", "2-3"), ("cgroup.subtree_control", "cpuset cpu")],
                );
                cgroup(root, "system.slice", &[("cpuset.cpus.partition", "isolated")]);
                write(root, "sys/devices/system/cpu/online", "0-3\n");
            },
            "threads of /system.slice/ssh.service may run on the isolated CPUs 0-1, and the kernel moves none among those",
        ),
    ];
    for (change, why) in cases {
        let machine = fixture::machine();
        let root = machine.path();
        write(root, "proc/1/status", "Uid:\t0\n");
        // Whose cost is told in shares.
        cgroup(root, "foundry.slice", &[("cpu.weight", "100")]);
        write(
            root,
            "run/systemd/show",
            "Id=foundry.slice\nActiveState=active\nControlGroup=/foundry.slice\nCPUWeight=200\n",
        );
        write(root, "sys/kernel/sched_ext/state", "disabled\n");
        let says = |arguments: &[&str]| fairslice(root, arguments).1;
        let has_cost = || {
            list(&json(root, &["doctor"])["findings"])
                .iter()
                .any(|finding| finding["cost"].as_str().is_some_and(|cost| cost.contains(" : 1")))
        };
        assert!(has_cost() && !says(&["explain", "share"]).contains("not computed"));
        fs::remove_file(root.join("proc/1/status")).unwrap();
        change(root);
        let missed = format!("shares of the CPUs: {why}");
        for arguments in [&["status"][..], &["explain", "share"], &["doctor"]] {
            assert!(
                list(&json(root, arguments)["missed"]).iter().any(|line| line == &*missed),
                "{arguments:?}"
            );
        }
        assert!(!has_cost(), "{why}");
        let status = json(root, &["status"]);
        assert!(list(&status["cgroups"]).iter().all(|cgroup| cgroup["cpu_share"].is_null()));
        let share = json(root, &["explain", "share", "ssh"]);
        assert_eq!((&share["not_computed"], list(&share["chain"]).len()), (&Value::from(why), 0));
        for arguments in
            [&["status"][..], &["status", "ssh"], &["explain", "share"], &["explain", "share", "ssh"]]
        {
            let said = says(arguments);
            assert!(said.contains(&format!("not computed: {why}\n")), "{arguments:?}: {said}");
        }
        let metrics = says(&["status", "--format=openmetrics"]);
        assert!(metrics.contains("fairslice_cpu_weight{"));
        assert!(!metrics.contains("cpu_share_ratio") && !metrics.contains("findings_all"), "{metrics}");
    }
}

/// What PID 1 says: properties by unit.
fn show(root: &Path) -> BTreeMap<String, BTreeMap<String, String>> {
    let text = fs::read_to_string(root.join("run/systemd/show")).unwrap();
    let block = |block: &str| {
        let lines = block.lines().filter_map(|line| line.split_once('='));
        let unit: BTreeMap<_, _> = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Some((unit.get("Id")?.clone(), unit))
    };
    text.split("\n\n").filter_map(block).collect()
}

fn json(root: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = fairslice(root, &[arguments, &["--json"]].concat());
    let mut said: Value =
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{arguments:?} ends with {code}: {err}"));
    // When it was looked is another truth each second.
    if let Some(said) = said.as_object_mut() {
        said.remove("time");
    }
    said
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// `FILE:LINE` of who sets a value, and `FILE` of who hides ours, out of a line for people.
fn blamed(said: &str) -> Option<&str> {
    let (_, who) = said.rsplit_once(": /")?;
    let (before, _) = who.split_once(" sets ").or_else(|| who.split_once(" hides "))?;
    said.get(said.len() - who.len() - 1..said.len() - who.len() + before.len())
}

/// The same, of a finding.
fn place(finding: &Value) -> String {
    let line = finding["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
    format!("{}{line}", text(&finding["file"]))
}

/// Who says what else than who.
fn disagreements(root: &Path, seed: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    let status = json(root, &["status"]);
    let doctor = json(root, &["doctor"]);
    let plan = json(root, &["apply", "--dry-run"]);
    let pid1 = show(root);
    compare_shares(root, &status, &mut wrong);
    compare_logins(root, &plan, &mut wrong);
    // What costs a process is asked of every fourth.
    if seed % 4 == 1 {
        compare_memory(root, &status, &mut wrong);
    }
    let mut differing = Vec::new();
    let active = list(&status["units"]).iter().filter(|unit| unit["active"] == true);
    for unit in active.clone() {
        let name = text(&unit["unit"]);
        if let Some(known) = pid1.get(name).filter(|_| unit["kind"] == "service") {
            compare_with_pid1(root, unit, known, &mut wrong);
        }
        let findings: Vec<&Value> =
            list(&doctor["findings"]).iter().filter(|found| is_about(found, name)).collect();
        let mut differs = false;
        for setting in list(&unit["settings"]) {
            let (key, holds) = (text(&setting["setting"]), setting["holds"] == true);
            differs |= !holds;
            let planned = is_planned(&plan, name, key);
            if holds == planned {
                wrong.push(format!("{name} {key}: status has {setting}, apply {planned}: {plan}"));
            }
            let is_of_chain = |found: &&Value| ("FS010".."FS050").contains(&text(&found["code"]));
            if !holds && !findings.iter().any(is_of_chain) {
                wrong.push(format!("{name} {key}: status has {setting}, doctor finds nothing"));
            }
            let is_elsewhere = findings.iter().any(|found| found["code"] == "FS015");
            if key == "slice" && holds && is_elsewhere {
                wrong.push(format!("{name}: status has {setting}, doctor finds it elsewhere"));
            }
        }
        if differs {
            differing.push(name);
        }
    }
    let others = active.map(|unit| text(&unit["unit"])).filter(|name| !differing.contains(name));
    let others: Vec<&str> = others.collect();
    let mut asked = turned(&differing, seed);
    asked.extend(turned(&others, seed));
    let mut asks_names = true;
    for name in asked.into_iter().take(ASKED) {
        let whole = list(&status["units"]).iter().find(|unit| unit["unit"] == name).unwrap();
        compare_way(root, whole, &doctor, &plan, &pid1, &mut wrong);
        if name.ends_with(".service") {
            if std::mem::take(&mut asks_names) {
                compare_names(root, whole, &pid1[name], &mut wrong);
            }
            compare_launcher(root, name, &plan, &pid1[name], &mut wrong);
        }
    }
    wrong
}

fn turned<'a>(names: &[&'a str], seed: u64) -> Vec<&'a str> {
    let mut names = names.to_vec();
    let by = usize::try_from(seed).unwrap() % names.len().max(1);
    names.rotate_left(by);
    names
}

fn is_about(finding: &Value, unit: &str) -> bool {
    text(&finding["subject"]).split(", ").any(|subject| subject.split(' ').next() == Some(unit))
}

/// What `apply` says of one value that is not as declared: that it is changed, left, or needs a restart.
fn is_planned(plan: &Value, unit: &str, key: &str) -> bool {
    // The kernel's name for the one weight that has a key of its own.
    let key = if key == "total_weight" { "cpu_weight" } else { key };
    let of_unit = |entry: &&Value| entry["unit"] == unit;
    let changes = list(&plan["units"]).iter().filter(of_unit).flat_map(|unit| list(&unit["changes"]));
    let left = list(&plan["left"]).iter().filter(of_unit).filter(|left| left["differs"] == true);
    let mut restarts = list(&plan["restarts"]).iter().filter(of_unit).map(|restart| text(&restart["why"]));
    let what = if key == "slice" { "runs in " } else { key };
    changes.chain(left).any(|entry| entry["setting"] == key) || restarts.any(|why| why.starts_with(what))
}

/// What is said of users' slices when the last session of one ends, beside what the whole plan says of them.
fn compare_logins(root: &Path, plan: &Value, wrong: &mut Vec<String>) {
    let policy = fs::read_to_string(root.join("etc/fairslice/policy.toml")).unwrap();
    if !policy.contains("[logins]") {
        return;
    }
    let is_counted = policy.contains("total_weight = \"sum\"");
    let (_, out, _) = fairslice(root, &["apply", "--logins", "--dry-run"]);
    let said = |line: &str| {
        let (unit, rest) = line.split_once(": ")?;
        Some((unit.to_owned(), rest.split(' ').next()?.to_owned(), rest.contains(" left, declared ")))
    };
    let logins: BTreeSet<_> = out.lines().filter_map(said).collect();
    let of_logins = |unit: &str| unit == "user-0.slice" || (unit == "user.slice" && is_counted);
    let mut whole = BTreeSet::new();
    for unit in list(&plan["units"]).iter().filter(|unit| of_logins(text(&unit["unit"]))) {
        // All that is declared of them: the rest is only written back.
        let changes = list(&unit["changes"]).iter().filter(|change| change["setting"] == "cpu_weight");
        whole.extend(
            changes
                .map(|change| (text(&unit["unit"]).to_owned(), text(&change["setting"]).to_owned(), false)),
        );
    }
    for left in
        list(&plan["left"]).iter().filter(|left| of_logins(text(&left["unit"])) && left["differs"] == true)
    {
        whole.insert((text(&left["unit"]).to_owned(), text(&left["setting"]).to_owned(), true));
    }
    if logins != whole {
        wrong.push(format!("apply --logins says {logins:?}, apply {whole:?}: {plan}"));
    }
}

/// Where a service runs: its own cgroup, or the launcher's scope where that has its main process.
fn cgroup_of(root: &Path, known: &BTreeMap<String, String>) -> String {
    let own = known["ControlGroup"].clone();
    let placed =
        fs::read_to_string(root.join(format!("proc/{}/cgroup", known["MainPID"]))).unwrap_or_default();
    let placed = placed.trim().trim_start_matches("0::").to_owned();
    if placed.ends_with(".scope") { placed } else { own }
}

fn compare_with_pid1(root: &Path, unit: &Value, known: &BTreeMap<String, String>, wrong: &mut Vec<String>) {
    let cgroup = cgroup_of(root, known);
    for setting in list(&unit["settings"]) {
        let live = match text(&setting["setting"]) {
            "slice" => cgroup.rsplit('/').nth(1).unwrap().trim_start_matches('_').to_owned(),
            "oom_score_adj" => {
                fs::read_to_string(root.join(format!("proc/{}/oom_score_adj", known["MainPID"])))
                    .unwrap()
                    .trim()
                    .to_owned()
            }
            "cpu_weight" => read(root, &cgroup, "cpu.weight"),
            _ => continue,
        };
        if text(&setting["live"]) != live {
            wrong.push(format!("{}: status has {setting}, PID 1's is {live}", unit["unit"]));
        }
    }
}

fn read(root: &Path, cgroup: &str, file: &str) -> String {
    let text = fs::read_to_string(root.join(format!("sys/fs/cgroup{cgroup}/{file}")));
    // Where the controller is off there is none.
    text.map_or("-".to_owned(), |text| text.trim().to_owned())
}

fn by_cgroup(all: &Value) -> BTreeMap<&str, &Value> {
    list(all).iter().map(|one| (text(&one["cgroup"]), one)).collect()
}

/// The part of the machine's CPU time.
fn compare_shares(root: &Path, status: &Value, wrong: &mut Vec<String>) {
    let share = json(root, &["explain", "share"]);
    let shares = by_cgroup(&share["cgroups"]);
    let in_both =
        list(&status["cgroups"]).iter().filter_map(|one| Some((one, shares.get(text(&one["cgroup"]))?)));
    assert!(in_both.clone().count() > 3, "nothing is compared");
    for (one, other) in in_both.filter(|(one, other)| one["cpu_share"] != other["share"]) {
        wrong.push(format!("status has the share {}, explain {other}", one["cpu_share"]));
    }
}

/// Ceilings of memory, and the scores of those who are killed.
fn compare_memory(root: &Path, status: &Value, wrong: &mut Vec<String>) {
    let memory = json(root, &["explain", "memory"]);
    let memories = by_cgroup(&memory["cgroups"]);
    let in_both =
        list(&status["cgroups"]).iter().filter_map(|one| Some((one, memories.get(text(&one["cgroup"]))?)));
    for (one, other) in
        in_both.filter(|(one, other)| one["memory_ceiling"]["max"] != other["max"]["effective"])
    {
        wrong.push(format!("status has the ceiling {}, explain {other}", one["memory_ceiling"]));
    }
    let order = json(root, &["explain", "oom"]);
    for victim in list(&order["victims"]) {
        let score = fs::read_to_string(root.join(format!("proc/{}/oom_score_adj", victim["pid"]))).unwrap();
        if victim["oom_score_adj"].as_i64() != score.trim().parse().ok() {
            wrong.push(format!("explain oom: {victim}"));
        }
    }
}

/// `explain unit` against all the others.
fn compare_way(
    root: &Path,
    unit: &Value,
    doctor: &Value,
    plan: &Value,
    pid1: &BTreeMap<String, BTreeMap<String, String>>,
    wrong: &mut Vec<String>,
) {
    let name = text(&unit["unit"]);
    let way = json(root, &["explain", "unit", name]);
    let known = pid1.get(name);
    for setting in list(&unit["settings"]) {
        let key = text(&setting["setting"]);
        let Some(chain) = list(&way["chains"]).iter().find(|chain| chain["setting"] == key) else {
            // What a login has of its own is doctor's to say.
            if unit["kind"] != "login" {
                wrong.push(format!("{name} {key}: no chain in explain unit"));
            }
            continue;
        };
        let links = list(&chain["links"]);
        let stage = if key == "oom_score_adj" { "process" } else { "cgroup" };
        let Some(last) = links.iter().find(|link| link["link"] == stage) else {
            wrong.push(format!("{name} {key}: no {stage} in {chain}"));
            continue;
        };
        let is_same_value = !matches!(key, "slice" | "oom_score_adj") || last["value"] == setting["live"];
        if last["holds"] != setting["holds"] || !is_same_value {
            wrong.push(format!("{name} {key}: status has {setting}, explain unit {last}"));
        }
        if links[0]["value"] != setting["declared"] {
            wrong.push(format!("{name} {key}: status has {setting}, explain unit {}", links[0]));
        }
        if chain["broken"].is_null() != links.iter().all(|link| link["holds"] == true) {
            wrong.push(format!("{name} {key}: {chain}"));
        }
        if let Some(property) = links.iter().find(|link| link["link"] == "property") {
            compare_property(key, property, known, name, wrong);
        }
        let broken = &chain["broken"];
        let is_found = |code: &Value| {
            list(&doctor["findings"]).iter().any(|found| is_about(found, name) && found["code"] == *code)
        };
        if !broken.is_null() && !is_found(&broken["code"]) {
            wrong.push(format!("{name} {key}: explain unit has {broken}, doctor does not"));
        }
        let left = list(&plan["left"])
            .iter()
            .find(|left| left["unit"] == name && left["setting"] == key && left["differs"] == true);
        let blamed = left.and_then(|left| blamed(text(&left["why"])));
        if let Some(blamed) = blamed.filter(|blamed| *blamed != place(broken)) {
            wrong.push(format!("{name} {key}: apply blames {blamed}, explain unit {broken}"));
        }
    }
}

/// The value that PID 1 has, and where that was set, against what was worked out here.
fn compare_property(
    key: &str,
    link: &Value,
    known: Option<&BTreeMap<String, String>>,
    name: &str,
    wrong: &mut Vec<String>,
) {
    let setting = match key {
        "slice" => "Slice",
        "oom_score_adj" => "OOMScoreAdjust",
        "cpu_weight" | "total_weight" => "CPUWeight",
        "memory_max" => "MemoryMax",
        _ => return,
    };
    let value = known.and_then(|known| known.get(setting));
    if matches!(key, "slice" | "oom_score_adj") && value.map(String::as_str) != link["value"].as_str() {
        wrong.push(format!("{name} {key}: PID 1 has {value:?}, explain unit {link}"));
    }
    // Only those that were drawn say where it stands.
    let at = known.and_then(|known| known.get(&format!("{setting}At")));
    if let Some(at) = at.filter(|at| **at != place(link)) {
        wrong.push(format!("{name} {key}: it stands at {at}, explain unit has {link}"));
    }
}

/// A service by each of its names, with its ending and without.
fn compare_names(root: &Path, whole: &Value, known: &BTreeMap<String, String>, wrong: &mut Vec<String>) {
    let name = text(&whole["unit"]);
    let detail = json(root, &["status", name]);
    let cgroup = cgroup_of(root, known);
    if detail["units"][0] != *whole || detail["cgroups"][0]["cgroup"] != cgroup {
        wrong.push(format!("{name} is in {cgroup}, status {name} has {detail}"));
    }
    let processes = list(&detail["cgroups"][0]["processes"]);
    let main = processes.iter().find(|process| process["main"] == true).map(|main| main["pid"].to_string());
    if main.as_ref() != known.get("MainPID") {
        wrong.push(format!(
            "{name}: status {name} has the main process {main:?}, PID 1 {:?}",
            known["MainPID"]
        ));
    }
    let others = known.get("Names").into_iter().flat_map(|names| names.split(' '));
    let stem = name.trim_end_matches(".service");
    // `io` may be the slice as well: the service comes first.
    let way = json(root, &["explain", "unit", name]);
    let called: BTreeSet<&str> =
        others.flat_map(|other| [other, other.trim_end_matches(".service")]).chain([stem]).collect();
    for other in called.into_iter().filter(|other| *other != name) {
        for (command, one) in [(&["status"][..], &detail), (&["explain", "unit"], &way)] {
            let two = json(root, &[command, &[other]].concat());
            if *one != two {
                wrong.push(format!("{command:?} {name}: {one}, and {other}: {two}"));
            }
        }
    }
}

/// The launcher in the place of the main process.
fn compare_launcher(
    root: &Path,
    name: &str,
    plan: &Value,
    known: &BTreeMap<String, String>,
    wrong: &mut Vec<String>,
) {
    let left = list(&plan["left"]).iter().filter(|left| left["unit"] == name && left["differs"] == true);
    let of = |left: &Value| {
        let blamed = blamed(text(&left["why"]))?.to_owned();
        matches!(text(&left["setting"]), "slice" | "oom_score_adj").then_some(blamed)
    };
    let left: BTreeSet<String> = left.filter_map(of).collect();
    // A file of the generator's name is what the launcher reads: what it sets is the declared there.
    let is_namesake = |file: &str| file.ends_with("/40-fairslice.conf") && !file.contains("generator");
    let has_namesake = known.get("DropInPaths").is_some_and(|files| files.split(' ').any(is_namesake));
    if left.is_empty() || has_namesake {
        return;
    }
    let main = &known["MainPID"];
    for file in ["cgroup", "oom_score_adj"] {
        let text = fs::read_to_string(root.join(format!("proc/{main}/{file}"))).unwrap();
        write(root, &format!("proc/self/{file}"), &text);
    }
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_fairslice-launch"));
    launcher.arg("--root").arg(root).args(["--unit", name, "true"]).env_remove("INVOCATION_ID");
    let said = String::from_utf8(launcher.output().unwrap().stderr).unwrap();
    let blames: BTreeSet<String> = said.lines().filter_map(blamed).map(str::to_owned).collect();
    if blames != left {
        wrong.push(format!("{name}: apply leaves {left:?}, the launcher says {said}"));
    }
    write(root, "proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
}

/// xorshift64*: the same machine from the same number.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// The names of services, each with another of its own, if any, and what its cgroup is called.
const SERVICES: [(&str, Option<&str>, &str); 8] = [
    ("local-fs", None, "local-fs.service"),
    ("local-slm", Some("slm"), "local-slm.service"),
    ("db-main", Some("database"), "db-main.service"),
    ("web", Some("www"), "web.service"),
    ("mail", Some("local-mail"), "mail.service"),
    ("memory", None, "_memory.service"),
    ("_odd", None, "__odd.service"),
    ("job@7", None, "job@7.service"),
];
/// Slices with their cgroups. The last two are not the policy's.
const SLICES: [(&str, &str); 5] = [
    ("work.slice", "work.slice"),
    ("work-batch.slice", "work.slice/work-batch.slice"),
    ("io.slice", "_io.slice"),
    ("special.slice", "special.slice"),
    ("system.slice", "system.slice"),
];
/// Where administrators put drop-ins, and systemctl.
const OWN: &str = "etc/systemd/system";
const CONTROL: [&str; 2] = ["etc/systemd/system.control", "run/systemd/system.control"];
/// Of the directories of `systemd.unit(5)` those that are used here, the strongest first.
const SEARCHED: [&str; 5] = [CONTROL[0], CONTROL[1], OWN, "run/systemd/generator", "usr/lib/systemd/system"];
/// When PID 1 last read its units, in µs of the monotonic clock.
const RELOADED: u64 = 50_000_000;
/// What may be set, right and wrong: PID 1 leaves out what it refuses.
const VALUES: [(&str, &[&str], &[&str]); 3] = [
    ("CPUWeight", &["50", "300", "10000", ""], &["0", "10001", "many", "50 # few"]),
    ("MemoryMax", &["256M", "1G", "infinity", ""], &["512MB", "-1", "lots"]),
    ("OOMScoreAdjust", &["-900", "-500", "200", ""], &["-9000", "1001", "low"]),
];

fn drawn(seed: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut any = Drawn(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    write(root, "etc/fairslice/policy.toml", &policy(&mut any));
    write(root, "proc/meminfo", "MemTotal:        2097152 kB\nMemAvailable:    1572864 kB\n");
    write(root, "proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
    write(root, "sys/devices/system/cpu/online", "0-1\n");
    write(root, "usr/lib/systemd/system-generators/fairslice-generator", "");
    write(root, "run/systemd/show-manager", &format!("UnitsLoadTimestampMonotonic={RELOADED}\n"));
    fs::create_dir_all(root.join("run/systemd/system")).unwrap();
    fs::create_dir_all(root.join(OWN)).unwrap();
    for (name, alias, _) in SERVICES {
        service_files(root, name, alias, &mut any);
    }
    for (slice, _) in SLICES {
        drop_ins(root, slice, &mut any);
    }
    let generated = root.join("run/systemd/generator");
    let mut generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"));
    assert!(generator.arg("--root").args([root, &generated]).status().unwrap().success());
    start(root, &mut any);
    directory
}

fn policy(any: &mut Drawn) -> String {
    let mut text = String::new();
    let web = any.of(&["web", "www"]);
    let matches: [&[&str]; 3] = [&[web, "db-main"], &["local-*", "job@"], &["memory", "_odd"]];
    for ((slice, _), matches) in SLICES.iter().zip(matches) {
        write!(text, "[slice.\"{slice}\"]\nmatch = {:?}\ncpu_weight = {}\n", matches, any.of(&[50, 200]))
            .unwrap();
        if any.is(50) {
            text.push_str("memory_max = \"1G\"\n");
        }
    }
    for (name, alias, _) in SERVICES {
        if any.is(60) {
            let called = alias.filter(|_| any.is(40)).unwrap_or(name);
            writeln!(text, "[service.\"{called}\"]\noom_score_adj = {}", any.of(&[-500, 0, 200])).unwrap();
            if any.is(50) {
                writeln!(text, "cpu_weight = {}", any.of(&[20, 400])).unwrap();
            }
            if any.is(30) {
                text.push_str("memory_max = \"512M\"\n");
            }
        }
    }
    let total = any.of(&["100", "\"sum\""]);
    text + &format!("[logins]\ncpu_weight = 100\ntotal_weight = {total}\n")
}

fn service_files(root: &Path, name: &str, alias: Option<&str>, any: &mut Drawn) {
    let file = match name.split_once('@') {
        Some((template, _)) => format!("usr/lib/systemd/system/{template}@.service"),
        None => format!("usr/lib/systemd/system/{name}.service"),
    };
    let mut text = "[Unit]\nDescription=drawn\n[Service]\nExecStart=/bin/true\n".to_owned();
    if any.is(30) {
        text += &assignment(any, true);
    }
    write(root, &file, &text);
    if let Some(alias) = alias {
        symlink(format!("/{file}"), root.join(format!("{OWN}/{alias}.service"))).unwrap();
    }
    let called = alias.filter(|_| any.is(30)).unwrap_or(name);
    drop_ins(root, &format!("{called}.service"), any);
}

fn drop_ins(root: &Path, unit: &str, any: &mut Drawn) {
    let is_service = unit.ends_with(".service");
    let section = if is_service { "Service" } else { "Slice" };
    // The generator's own name is among them.
    for file in ["10-early.conf", "39-before.conf", "40-fairslice.conf", "50-mine.conf", "zz my own.conf"] {
        let often = if file.starts_with("40") { 4 } else { 12 };
        if any.is(often) {
            let of = any.of(&variants(unit));
            let mut text = format!("# by hand\n[{section}]\n{}", assignment(any, is_service));
            if any.is(30) {
                text += &assignment(any, is_service);
            }
            write(root, &format!("{OWN}/{of}.d/{file}"), &text);
        }
    }
    for directory in CONTROL {
        for (key, good, _) in &VALUES[..2] {
            if any.is(6) {
                let text = format!("# made\n\n[{section}]\n{key}={}\n", any.of(&good[..2]));
                write(root, &format!("{directory}/{unit}.d/50-{key}.conf"), &text);
            }
        }
    }
}

/// One line, which PID 1 may refuse.
fn assignment(any: &mut Drawn, is_service: bool) -> String {
    if is_service && any.is(30) {
        return format!("Slice={}\n", any.of(&["special.slice", "work.slice", "no slice", "web.service"]));
    }
    let (key, good, bad) = any.of(&VALUES[..if is_service { 3 } else { 2 }]);
    format!("{key}={}\n", if any.is(25) { any.of(bad) } else { any.of(good) })
}

/// The units whose drop-ins hold for this one: its template's, those of the prefixes of its name.
fn variants(unit: &str) -> Vec<&str> {
    // Kept short: of the names that are drawn here.
    match unit {
        "local-fs.service" | "local-slm.service" | "local-mail.service" => vec![unit, "local-.service"],
        "db-main.service" => vec![unit, "db-.service"],
        "job@7.service" => vec![unit, "job@.service"],
        "work-batch.slice" => vec![unit, "work-.slice"],
        "user-0.slice" => vec![unit, "user-.slice"],
        _ => vec![unit],
    }
}

/// A unit as PID 1 loads it: its files, and of each setting the last value that is one.
#[derive(Default)]
struct Loaded {
    files: Vec<String>,
    /// With the file and the line.
    set: BTreeMap<String, (String, String)>,
}

impl Loaded {
    fn new(root: &Path, unit: &str, alias: Option<&str>) -> Self {
        let mut loaded = Self::default();
        let fragment = format!("usr/lib/systemd/system/{}", variants(unit).last().unwrap());
        let fragment = if unit.contains('@') { fragment } else { format!("usr/lib/systemd/system/{unit}") };
        if root.join(&fragment).exists() {
            loaded.files.push(fragment);
        }
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for name in [Some(unit), alias].into_iter().flatten() {
            for directory in SEARCHED {
                for of in variants(name) {
                    let directory = format!("{directory}/{of}.d");
                    for entry in fs::read_dir(root.join(&directory)).into_iter().flatten() {
                        let file = entry.unwrap().file_name().into_string().unwrap();
                        found.entry(file.clone()).or_insert(format!("{directory}/{file}"));
                    }
                }
            }
        }
        loaded.files.extend(found.into_values());
        for file in loaded.files.clone() {
            let text = fs::read_to_string(root.join(&file)).unwrap();
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
                if let Some((key, value)) = line.split_once('=').filter(|(key, value)| is_taken(key, value)) {
                    loaded.set.insert(key.to_owned(), (value.to_owned(), format!("/{file}:{}", at + 1)));
                }
            }
        }
        loaded
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.set.get(key).map(|(value, _)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// As `systemctl show` prints it; `...At` is ours.
    fn show(&self, unit: &str) -> String {
        let mut text = format!("Id={unit}\nLoadState=loaded\nActiveState=active\n");
        let mut drop_ins = self.files.iter().map(|file| format!("/{file}")).collect::<Vec<_>>();
        if drop_ins.first().is_some_and(|first| !first.contains(".d/")) {
            writeln!(text, "FragmentPath={}", drop_ins.remove(0)).unwrap();
        }
        let quoted =
            drop_ins.iter().map(|file| if file.contains(' ') { format!("\"{file}\"") } else { file.clone() });
        writeln!(text, "DropInPaths={}", quoted.collect::<Vec<_>>().join(" ")).unwrap();
        if unit.ends_with(".service") {
            writeln!(text, "Slice={}", self.value("Slice").unwrap_or("system.slice")).unwrap();
            writeln!(text, "OOMScoreAdjust={}", self.value("OOMScoreAdjust").unwrap_or("0")).unwrap();
        }
        writeln!(text, "CPUWeight={}", self.value("CPUWeight").unwrap_or("[not set]")).unwrap();
        let max = self
            .value("MemoryMax")
            .map_or("infinity".to_owned(), |max| bytes(max).replace("max", "infinity"));
        writeln!(text, "MemoryMax={max}").unwrap();
        for (key, (_, at)) in &self.set {
            writeln!(text, "{key}At={at}").unwrap();
        }
        text
    }
}

/// Whether PID 1 takes a line that is drawn here, or that the generator writes.
fn is_taken(key: &str, value: &str) -> bool {
    let is_bad = VALUES.iter().any(|(known, _, bad)| *known == key && bad.contains(&value));
    !is_bad && (key != "Slice" || value.ends_with(".slice"))
}

/// Of `MemoryMax=`, as the kernel has it.
fn bytes(value: &str) -> String {
    match value {
        "infinity" => "max".to_owned(),
        _ if value.ends_with('G') => (value.trim_end_matches('G').parse::<u64>().unwrap() << 30).to_string(),
        _ => (value.trim_end_matches('M').parse::<u64>().unwrap() << 20).to_string(),
    }
}

/// Starts what there is: cgroups, processes, and what PID 1 then says.
fn start(root: &Path, any: &mut Drawn) {
    let mut show = String::new();
    cgroup(
        root,
        "",
        &[("cgroup.controllers", "cpuset cpu io memory pids"), ("cpuset.cpus.effective", "0-1")],
    );
    for (slice, cgroup) in
        [("user.slice", "user.slice"), ("user-0.slice", "user.slice/user-0.slice")].iter().chain(&SLICES)
    {
        let loaded = Loaded::new(root, slice, None);
        started(root, cgroup, &loaded, any);
        write!(show, "{}ControlGroup=/{cgroup}\n\n", loaded.show(slice)).unwrap();
    }
    load(root, "user.slice/user-0.slice/session-1.scope", 1 << 20, 0);
    process(root, 13, 1, "user.slice/user-0.slice/session-1.scope", 0);
    for (at, (name, alias, leaf)) in SERVICES.into_iter().enumerate() {
        let (unit, pid) = (format!("{name}.service"), u32::try_from(100 + 10 * at).unwrap());
        let alias = alias.map(|alias| format!("{alias}.service"));
        let loaded = Loaded::new(root, &unit, alias.as_deref());
        let declared = loaded.value("Slice").unwrap_or("system.slice");
        let slice = if any.is(20) { any.of(&SLICES).0 } else { declared };
        let in_slice = |slice: &str| {
            let (_, cgroup) = SLICES.iter().find(|(known, _)| *known == slice).unwrap();
            format!("{cgroup}/{leaf}")
        };
        let (own, other) = (in_slice(slice), in_slice(any.of(&SLICES).0));
        started(root, &own, &loaded, any);
        let score: i32 = loaded.value("OOMScoreAdjust").unwrap_or("0").parse().unwrap();
        let score = if any.is(20) { any.of(&[-500, 0, 77]) } else { score };
        let mut place = own.clone();
        if !name.contains('@') && any.is(10) {
            // The launcher has had it put into a scope: its own cgroup is left without processes.
            place = format!(
                "{}/{}",
                SLICES[any.below(3)].1,
                if name.starts_with('_') {
                    format!("_{name}-{pid}.scope")
                } else {
                    format!("{name}-{pid}.scope")
                }
            );
            write(root, &format!("sys/fs/cgroup/{own}/cgroup.events"), "populated 0\nfrozen 0\n");
            started(root, &place, &Loaded::default(), any);
            let in_scope = format!("{name}-{pid}.scope");
            write!(show, "{}ControlGroup=/{place}\n\n", Loaded::default().show(&in_scope)).unwrap();
        }
        let count = 1 + u32::try_from(any.below(3)).unwrap();
        // The main process is not always the first.
        let main = pid + u32::try_from(any.below(2)).unwrap() * (count - 1);
        for one in pid..pid + count {
            let own_score = if one == main || any.is(80) { score } else { 300 };
            process(root, one, if one == main { 1 } else { main }, &place, own_score);
        }
        let pids: Vec<String> = (pid..pid + count).map(|pid| pid.to_string()).collect();
        write(root, &format!("sys/fs/cgroup/{place}/cgroup.procs"), &pids.join("\n"));
        if other != own && any.is(20) {
            // What an earlier start has left.
            started(root, &other, &Loaded::default(), any);
            process(root, pid + 9, 1, &other, score);
        }
        let names = [Some(unit.clone()), alias].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let since = any.of(&[RELOADED - 10_000_000, RELOADED + 10_000_000]);
        let times = format!("ExecMainStartTimestampMonotonic={since}\nActiveEnterTimestampMonotonic={since}");
        write!(show, "{}Names={names}\nControlGroup=/{own}\nMainPID={main}\n{times}\n\n", loaded.show(&unit))
            .unwrap();
    }
    write(root, "run/systemd/show", &show);
}

/// A cgroup with what PID 1 writes to it, or somebody else.
fn started(root: &Path, path: &str, loaded: &Loaded, any: &mut Drawn) {
    let weight = loaded.value("CPUWeight").unwrap_or("100");
    let weight = if any.is(12) { "777" } else { weight };
    let max = loaded.value("MemoryMax").map_or("max".to_owned(), bytes);
    let max = if any.is(8) { "123457536".to_owned() } else { max };
    cgroup(root, path, &[("cpu.weight", weight), ("memory.max", &max)]);
    load(root, path, 1 << 20, 0);
}
