//! `fairslice me` and `fairslice explain process` on a thousand random trees: each figure is computed here a second
//! time, from the files alone.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss
)]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use fixture::{fairslice, write};
use serde_json::{Value, json};

const TREES: u64 = 1000;
const CGROUPS: &str = "sys/fs/cgroup";
const PID: u32 = 77;

/// Steele, Lea and Flood's `SplitMix`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A machine, and the cgroup of the process.
struct Drawn {
    root: tempfile::TempDir,
    cgroup: &'static str,
    cpus: u64,
}

const PLACES: [&str; 4] = [
    "user.slice/user-70001.slice/session-3.scope",
    "user.slice/user-70001.slice/user@70001.service/app.slice/build.service",
    "system.slice/local-fs.service",
    "a.slice/a-b.slice/local-fs.service/payload",
];

fn draw(seed: u64) -> Drawn {
    let random = &mut Random(seed);
    // A hundred files for each tree: where there is memory for them, they are quicker there.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let root = directory.path();
    let cpus = 1 + random.below(4);
    let cgroup = PLACES[usize::try_from(random.below(4)).unwrap()];
    write(root, "proc/meminfo", "MemTotal:        2097152 kB\nMemAvailable:    1572864 kB\n");
    write(root, "proc/self/cgroup", &format!("0::/{cgroup}\n"));
    write(root, &format!("proc/{PID}/cgroup"), &format!("0::/{cgroup}\n"));
    fs::copy("/proc/self/stat", root.join(format!("proc/{PID}/stat"))).unwrap();
    write(
        root,
        &format!("proc/{PID}/status"),
        &format!("Name:\tx\nUid:\t0\t0\t0\t0\nCpus_allowed_list:\t0-{}\n", cpus - 1),
    );
    write(root, "sys/devices/system/cpu/online", &format!("0-{}\n", cpus - 1));
    let file = |cgroup: &str, name: &str, text: String| {
        write(root, &format!("{CGROUPS}/{cgroup}/{name}"), &format!("{text}\n"));
    };
    file("", "cgroup.controllers", "cpuset cpu io memory pids".to_owned());
    let mut path = String::new();
    let mut handed_on = "cpuset cpu io memory pids";
    let mut effective = cpus;
    for name in cgroup.split('/') {
        if handed_on.contains("cpu ") && random.one_in(6) {
            handed_on = "memory pids";
        }
        file(&path, "cgroup.subtree_control", handed_on.to_owned());
        for number in 0..random.below(4) {
            let beside = format!("{path}beside-{number}");
            let busy = !random.one_in(4);
            file(&beside, "pids.current", (u64::from(busy) * (1 + random.below(9))).to_string());
            if handed_on.contains("cpu ") {
                file(&beside, "cpu.weight", (1 + random.below(1000)).to_string());
                file(&beside, "cpu.max", quota(random, cpus));
            }
        }
        path.push_str(name);
        if handed_on.contains("cpu ") {
            file(&path, "cpu.weight", (1 + random.below(1000)).to_string());
            file(&path, "cpu.max", quota(random, cpus));
            if random.one_in(8) && effective > 1 {
                effective -= 1;
                file(&path, "cpuset.cpus", format!("0-{}", effective - 1));
            } else {
                file(&path, "cpuset.cpus", String::new());
            }
            file(&path, "cpuset.cpus.effective", format!("0-{}", effective - 1));
        }
        file(
            &path,
            "cpu.stat",
            format!(
                "usage_usec {}\nnr_periods {}\nnr_throttled {}\nthrottled_usec {}",
                random.below(1 << 40),
                random.below(1000),
                random.below(3),
                random.below(1 << 30)
            ),
        );
        limits(random, &|name, text| file(&path, name, text));
        set_by(random, root, &path);
        path.push('/');
    }
    Drawn { root: directory, cgroup, cpus }
}

fn quota(random: &mut Random, cpus: u64) -> String {
    if random.one_in(3) {
        format!("{} 100000", 1000 + random.below(cpus * 120_000))
    } else {
        "max 100000".to_owned()
    }
}

fn limits(random: &mut Random, file: &dyn Fn(&str, String)) {
    let amount = |random: &mut Random| {
        if random.one_in(3) { (4096 * random.below(1 << 18)).to_string() } else { "max".to_owned() }
    };
    for name in ["memory.high", "memory.max", "memory.swap.max"] {
        let text = amount(random);
        file(name, text);
    }
    for name in ["memory.current", "memory.swap.current"] {
        file(name, (4096 * random.below(1 << 18)).to_string());
    }
    file("memory.min", "0".to_owned());
    file("memory.low", "0".to_owned());
    file("memory.oom.group", random.below(2).to_string());
    let (high, oom, killed) = (random.below(3), random.below(3), random.below(4));
    file("memory.events.local", format!("low 0\nhigh {high}\nmax 9\noom {oom}\noom_kill 0"));
    let below = oom + random.below(2);
    file("memory.events", format!("low 0\nhigh {}\nmax 9\noom {below}\noom_kill {killed}", high + 1));
    if !random.one_in(5) {
        let none = "avg10=0.00 avg60=0.00 avg300=0.00 total";
        file("memory.pressure", format!("some {none}={}\nfull {none}=7", random.below(1 << 30)));
    }
    let current = 1 + random.below(100);
    file("pids.current", current.to_string());
    file(
        "pids.max",
        if random.one_in(2) { (current + random.below(500)).to_string() } else { "max".to_owned() },
    );
    file("pids.events", format!("max {}", random.below(3)));
    if !random.one_in(3) {
        file("pids.events.local", format!("max {}", random.below(3)));
    }
}

/// A drop-in of the administrator's, or the generator's, for `MemoryHigh=` of a unit.
fn set_by(random: &mut Random, root: &Path, path: &str) {
    let unit = path.rsplit('/').next().unwrap();
    let section = match unit.rsplit('.').next().unwrap() {
        "slice" => "Slice",
        "scope" => "Scope",
        _ => "Service",
    };
    let high = fs::read_to_string(root.join(CGROUPS).join(path).join("memory.high")).unwrap();
    let value = if random.one_in(4) { "7M" } else { high.trim() }.replace("max", "infinity");
    if random.one_in(2) {
        write(
            root,
            &format!("run/systemd/generator/{unit}.d/40-fairslice.conf"),
            &format!(
                "# Made\n[{section}]\n# /etc/fairslice/policy.toml:{}\nMemoryHigh={value}\n",
                1 + random.below(99)
            ),
        );
    }
    if random.one_in(3) {
        let lines = "\n".repeat(usize::try_from(random.below(5)).unwrap());
        write(
            root,
            &format!("etc/systemd/system/{unit}.d/50-own.conf"),
            &format!("[{section}]{lines}\nMemoryHigh={value}\n"),
        );
    }
}

/// What is read here: an attribute, a number of it, a key of a flat one.
struct Files<'r>(&'r Path);

impl Files<'_> {
    fn text(&self, cgroup: &Path, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(CGROUPS).join(cgroup).join(name))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    fn number(&self, cgroup: &Path, name: &str) -> Option<u64> {
        self.text(cgroup, name)?.parse().ok()
    }

    fn key(&self, cgroup: &Path, name: &str, key: &str) -> Option<u64> {
        let text = self.text(cgroup, name)?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
    }

    fn quota(&self, cgroup: &Path) -> Option<(u64, u64)> {
        let text = self.text(cgroup, "cpu.max")?;
        let (quota, period) = text.split_once(' ')?;
        Some((quota.parse().ok()?, period.parse().ok()?))
    }
}

fn absolute(cgroup: &Path) -> String {
    format!("/{}", cgroup.to_str().unwrap())
}

/// From the cgroup up to the one below the root.
fn way(cgroup: &Path) -> Vec<PathBuf> {
    let all = cgroup.ancestors().map(Path::to_owned);
    all.filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Of each kind the tightest, and what has been met.
fn expected_limits(files: &Files<'_>, cgroup: &Path) -> Vec<Value> {
    let way = way(cgroup);
    let mut all: Vec<Value> = Vec::new();
    let mut add = |mut kind: Vec<(f64, Value)>| {
        let least = kind.iter().map(|(tight, _)| *tight).fold(f64::INFINITY, f64::min);
        if let Some((_, first)) = kind.iter_mut().find(|(tight, _)| tight.total_cmp(&least).is_eq()) {
            first["tightest"] = json!(true);
        }
        all.extend(
            kind.into_iter().map(|(_, one)| one).filter(|one| one["tightest"] == true || one["times"] != 0),
        );
    };
    let of = |attribute: &str, at: &Path, limit: u64, used: Option<u64>, times: u64| {
        json!({
            "attribute": attribute, "cgroup": absolute(at), "limit": limit, "period_us": null, "used": used,
            "tightest": false, "times": times, "periods": null, "waited_us": null,
        })
    };
    add(way
        .iter()
        .filter_map(|at| {
            let (quota, period) = files.quota(at)?;
            let stat = |key| files.key(at, "cpu.stat", key).unwrap_or(0);
            let mut one = of("cpu.max", at, quota, None, stat("nr_throttled"));
            one["period_us"] = json!(period);
            one["periods"] = json!(stat("nr_periods"));
            one["waited_us"] = json!(stat("throttled_usec"));
            Some((quota as f64 / period as f64, one))
        })
        .collect());
    for (attribute, event) in [("memory.high", "high"), ("memory.max", "oom"), ("memory.swap.max", "")] {
        add(way
            .iter()
            .filter_map(|at| {
                let limit = files.number(at, attribute)?;
                let current = if event.is_empty() { "memory.swap.current" } else { "memory.current" };
                let times = files.key(at, "memory.events.local", event).unwrap_or(0);
                let mut one = of(attribute, at, limit, files.number(at, current), times);
                let pressure = files.text(at, "memory.pressure").filter(|_| !event.is_empty());
                let total = pressure.map(|text| {
                    text.lines().next().unwrap().rsplit_once('=').unwrap().1.parse::<u64>().unwrap()
                });
                one["waited_us"] = json!(total);
                Some((limit as f64, one))
            })
            .collect());
    }
    let refused = |at: &Path| {
        let own = files.key(at, "pids.events.local", "max");
        (own.or(files.key(at, "pids.events", "max")).unwrap_or(0), own.is_some())
    };
    let mut tasks: Vec<(f64, Value)> = way
        .iter()
        .filter_map(|at| {
            let (max, current) = (files.number(at, "pids.max")?, files.number(at, "pids.current")?);
            Some(((max - current) as f64, of("pids.max", at, max, Some(current), refused(at).0)))
        })
        .collect();
    // An older kernel counts where a fork was tried: what nothing there limits is the limit's above.
    let least = tasks.iter().map(|(room, _)| *room).fold(f64::INFINITY, f64::min);
    if let Some((_, tightest)) = tasks.iter_mut().find(|(room, _)| room.total_cmp(&least).is_eq()) {
        let below = way.iter().take_while(|at| json!(absolute(at)) != tightest["cgroup"]);
        let below = below.filter(|at| files.number(at, "pids.max").is_none() && !refused(at).1);
        let more: u64 = below.map(|at| refused(at).0).sum();
        tightest["times"] = json!(tightest["times"].as_u64().unwrap() + more);
    }
    add(tasks);
    all
}

/// The CPUs that the weights and quotas on the way leave, level by level; `None` where there are cpusets.
fn expected_share(files: &Files<'_>, of: &Path, cpus: u64) -> Option<f64> {
    struct Level {
        own: f64,
        weights: Vec<(f64, f64)>,
    }
    // What the kernel makes of a weight on so many CPUs.
    let counted = |weight: u64| ((weight as f64 * 10.24).round() / cpus as f64).floor().max(2.0);
    let all = cpus as f64;
    let most =
        |at: &Path| files.quota(at).map_or(all, |(quota, period)| (quota as f64 / period as f64).min(all));
    let mut inside = all;
    let mut levels = Vec::new();
    for at in way(of) {
        if files.text(&at, "cpuset.cpus").is_some_and(|cpus| !cpus.is_empty()) {
            return None;
        }
        inside = inside.min(most(&at));
        let mut weights = vec![(counted(files.number(&at, "cpu.weight").unwrap()), inside)];
        for beside in siblings(files, &at).into_iter().filter(|beside| *beside != at) {
            if files.number(&beside, "pids.current") != Some(0) {
                weights.push((counted(files.number(&beside, "cpu.weight").unwrap()), most(&beside)));
            }
        }
        levels.push(Level { own: inside, weights: weights.clone() });
        inside = weights.iter().map(|(_, most)| most).sum::<f64>().min(all);
    }
    let mut time = all;
    for Level { own, weights } in levels.iter().rev() {
        time = filled(weights, time).min(*own);
    }
    Some(time / all)
}

/// What the first of these gets of so much, by weight, none more than its most.
fn filled(all: &[(f64, f64)], time: f64) -> f64 {
    let (mut left, mut open) = (time, (0..all.len()).collect::<Vec<_>>());
    loop {
        let sum: f64 = open.iter().map(|one| all[*one].0).sum();
        let Some(full) = open.iter().copied().find(|one| all[*one].1 <= left * all[*one].0 / sum) else {
            return left * all[0].0 / sum;
        };
        if full == 0 {
            return all[0].1;
        }
        left -= all[full].1;
        open.retain(|one| *one != full);
    }
}

fn siblings(files: &Files<'_>, at: &Path) -> Vec<PathBuf> {
    let parent = at.parent().unwrap();
    let entries = fs::read_dir(files.0.join(CGROUPS).join(parent)).unwrap();
    let directories = entries.map(Result::unwrap).filter(|entry| entry.file_type().unwrap().is_dir());
    directories.map(|entry| parent.join(entry.file_name())).collect()
}

/// Who set `MemoryHigh=` of a unit: the drop-in of the later name, and the policy's line for ours.
fn expected_setter(root: &Path, cgroup: &str) -> Value {
    let unit = cgroup.rsplit('/').next().unwrap();
    if cgroup.contains("@70001.service/") {
        return json!({ "kind": "inside", "unit": "user@70001.service" });
    }
    if unit == "payload" {
        return json!({ "kind": "inside", "unit": "local-fs.service" });
    }
    let set = |text: &str| {
        let at = text.lines().position(|line| line.starts_with("MemoryHigh=")).unwrap();
        (at + 1, text.lines().nth(at).unwrap().strip_prefix("MemoryHigh=").unwrap().to_owned())
    };
    let of = |kind: &str, file: &str, line: usize, value: &str| json!({ "kind": kind, "setting": "MemoryHigh", "value": value, "file": file, "line": line });
    let own = format!("etc/systemd/system/{unit}.d/50-own.conf");
    let ours = format!("run/systemd/generator/{unit}.d/40-fairslice.conf");
    if let Ok(text) = fs::read_to_string(root.join(&own)) {
        let (line, value) = set(&text);
        return of("file", &format!("/{own}"), line, &value);
    }
    let Ok(text) = fs::read_to_string(root.join(ours)) else { return json!({ "kind": "unknown" }) };
    let line = text.lines().find_map(|line| line.strip_prefix("# /etc/fairslice/policy.toml:")).unwrap();
    of("policy", "/etc/fairslice/policy.toml", line.parse().unwrap(), &set(&text).1)
}

fn check(seed: u64) {
    let Drawn { root, cgroup, cpus } = draw(seed);
    let (root, at) = (root.path(), Path::new(cgroup));
    let is_me = seed % 2 == 0;
    let pid = PID.to_string();
    let arguments: &[&str] = if is_me { &["me", "--json"] } else { &["explain", "process", &pid, "--json"] };
    let (code, out, err) = fairslice(root, arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{seed}");
    let said: Value = serde_json::from_str(&out).unwrap();
    let files = Files(root);
    let own_slice = way(at).into_iter().find(|at| at.ends_with("user-70001.slice")).filter(|_| is_me);
    let of = own_slice.unwrap_or_else(|| at.to_owned());
    let context = format!("tree {seed}, {cgroup}: {out}");
    assert_eq!((&said["cgroup"], &said["of"]), (&json!(absolute(at)), &json!(absolute(&of))), "{context}");
    for (key, value) in [
        ("cpu_used_us", files.key(&of, "cpu.stat", "usage_usec")),
        ("memory_used", files.number(&of, "memory.current")),
        ("tasks", files.number(&of, "pids.current")),
        ("cpus", Some(cpus)),
    ] {
        assert_eq!(said[key], json!(value), "{key}: {context}");
    }
    // Limits and who set them.
    let mut limits = said["limits"].as_array().unwrap().clone();
    let (cpusets, mut rest): (Vec<Value>, Vec<Value>) =
        limits.drain(..).partition(|limit| limit["attribute"] == "cpuset.cpus");
    for limit in &mut rest {
        let cgroup = limit["cgroup"].as_str().unwrap().trim_start_matches('/').to_owned();
        let set_by = limit.as_object_mut().unwrap().remove("set_by").unwrap();
        let in_force = limit.as_object_mut().unwrap().remove("in_force").unwrap();
        if limit["attribute"] == "memory.high" {
            assert_eq!(set_by, expected_setter(root, &cgroup), "{context}");
            let is = set_by["value"].as_str().map(|value| {
                let bytes = if value == "7M" { Some(7 << 20) } else { value.parse().ok() };
                bytes == limit["limit"].as_u64()
            });
            assert_eq!(in_force, json!(is), "{context}");
        }
    }
    let key = |limit: &Value| (limit["attribute"].to_string(), limit["cgroup"].to_string());
    let mut expected = expected_limits(&files, at);
    expected.sort_by_key(key);
    rest.sort_by_key(key);
    assert_eq!(rest, expected, "{context}");
    let nearest = way(at).into_iter().find_map(|at| files.text(&at, "cpuset.cpus.effective"));
    let last: Option<u64> = nearest.and_then(|list| list.rsplit('-').next()?.parse().ok());
    let narrowed = last.map(|last| last + 1).filter(|count| *count < cpus);
    assert_eq!(
        cpusets.first().map(|limit| limit["limit"].clone()),
        narrowed.map(|count| json!(count)),
        "{context}"
    );
    if let Some(cpuset) = cpusets.first() {
        let asks = |at: &PathBuf| files.text(at, "cpuset.cpus").is_some_and(|text| !text.is_empty());
        assert_eq!(cpuset["cgroup"], json!(absolute(&way(at).into_iter().find(asks).unwrap())), "{context}");
    }
    // Who was killed.
    let met: Vec<String> = way(&of)
        .iter()
        .filter(|at| files.key(at, "memory.events.local", "oom") > Some(0))
        .map(|at| absolute(at))
        .collect();
    let whole = way(&of).into_iter().rev().find(|at| files.number(at, "memory.oom.group") == Some(1));
    let inside = files.key(&of, "memory.events", "oom") > files.key(&of, "memory.events.local", "oom");
    let killed = json!({
        "count": files.key(&of, "memory.events", "oom_kill"), "at": met, "inside": inside,
        "together": whole.map(|at| absolute(&at)),
    });
    assert_eq!(said["killed"], killed, "{context}");
    // What it is due.
    let weighed = way(&of).into_iter().find(|at| files.text(at, "cpu.weight").is_some());
    let weights: Vec<Value> = weighed
        .iter()
        .flat_map(|at| way(at))
        .map(|at| {
            let own = files.number(&at, "cpu.weight").unwrap();
            let beside = siblings(&files, &at)
                .into_iter()
                .filter(|beside| *beside != at && files.number(beside, "pids.current") != Some(0));
            let sum: u64 = beside.map(|beside| files.number(&beside, "cpu.weight").unwrap()).sum();
            json!({ "cgroup": absolute(&at), "weight": own, "sum": own + sum })
        })
        .collect();
    assert_eq!(said["weights"], json!(weights), "{context}");
    let share = said["share"].as_f64().unwrap();
    let expected = weighed.map_or(Some(1.0), |at| expected_share(&files, &at, cpus));
    match expected {
        Some(expected) => assert!((share - expected).abs() < 1e-6, "{share}, not {expected}: {context}"),
        None => assert!(share > 0.0 && share <= 1.0, "{context}"),
    }
}

#[test]
fn each_figure_is_that_of_the_kernels_files() {
    let part = |first: u64| move || (first..TREES).step_by(2).for_each(check);
    let other = thread::spawn(part(1));
    part(0)();
    other.join().unwrap();
}

#[test]
fn it_is_told_in_a_few_lines() {
    let machine = fixture::machine();
    let root = machine.path();
    let slice = "user.slice/user-0.slice";
    let set =
        |name: &str, text: &str| write(root, &format!("{CGROUPS}/{slice}/{name}"), &format!("{text}\n"));
    fixture::load(root, slice, 1229 << 20, 0);
    for (name, text) in [
        ("cpu.max", "50000 100000"),
        ("cpu.stat", "usage_usec 12100000\nnr_periods 400\nnr_throttled 12\nthrottled_usec 3210000"),
        ("memory.high", "2147483648"),
        ("memory.max", "3221225472"),
        ("memory.events.local", "high 3\noom 1\noom_kill 0"),
        ("memory.events", "high 3\noom 1\noom_kill 2"),
        ("pids.current", "42"),
        ("pids.max", "512"),
        ("pids.events.local", "max 1"),
    ] {
        set(name, text);
    }
    write(root, &format!("{CGROUPS}/user.slice/user-1.slice/cpu.weight"), "100\n");
    write(root, &format!("{CGROUPS}/user.slice/user-1.slice/pids.current"), "1\n");
    write(root, "etc/systemd/system/user-.slice.d/50-tenant.conf", "[Slice]\nCPUQuota=50%\nMemoryMax=4G\n");
    write(
        root,
        "run/systemd/generator/user-.slice.d/40-fairslice.conf",
        "[Slice]\n# /etc/fairslice/policy.toml:24\nMemoryHigh=2G\n",
    );
    let expected = "\
cpu      weight 300 of 400 in user.slice, 100 of 400 at the top: 18.8% if all are busy, 0.38 of 2 CPUs
         at most 50% of a CPU: cpu.max of user-0.slice (CPUQuota=50%, /etc/systemd/system/user-.slice.d/50-tenant.conf:2); throttled 3.2 s, in 12 of 400 periods
         12.1 s used since user-0.slice was made
memory   1.20G of 2G: memory.high of user-0.slice (MemoryHigh=2G, /etc/fairslice/policy.toml:24); slowed down 3 times, waited 1.2 s
         1.20G of 3G: memory.max of user-0.slice (MemoryMax=4G, /etc/systemd/system/user-.slice.d/50-tenant.conf:3, is not in force); out of memory once
         2 processes killed at memory.max of user-0.slice
tasks    42 of 512: pids.max of user-0.slice (in no file of PID 1's); 1 fork refused
";
    let (code, out, err) = fairslice(root, &["me"]);
    let (heading, rest) = out.split_once('\n').unwrap();
    assert_eq!((code, rest, err.as_str()), (0, expected, ""));
    assert!(heading.ends_with("), user-0.slice, in session-1.scope"), "{heading}");
    // On cgroup v1, and without such a process, that is said.
    write(root, "proc/self/cgroup", "4:memory:/\n0::/\n");
    let (code, _, err) = fairslice(root, &["me"]);
    assert!(code == 2 && err.contains("cgroup v1 (controller memory)"), "{err}");
    let (code, _, err) = fairslice(root, &["explain", "process", "999"]);
    assert_eq!((code, err.as_str()), (2, "fairslice: there is no process 999, or it is hidden (hidepid)\n"));
    // In a container, what is above cannot be seen.
    write(root, "proc/self/cgroup", "0::/\n");
    write(root, &format!("{CGROUPS}/cgroup.type"), "domain\n");
    let (_, out, _) = fairslice(root, &["me"]);
    assert!(
        out.ends_with("unknown  what is set above this container, whose root is all that is seen\n"),
        "{out}"
    );
}
