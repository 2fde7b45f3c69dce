//! Shares of the CPUs: what must hold of any tree, and `fairslice explain share` on a tree of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::write;
use fairslice::effect::share::{Busy, Shares, by_weight, shares, shares_if};
use fairslice::host::cpu_set::CpuSet;
use fairslice::host::tree::{Cgroup, Cpu, CpuMax, Id, Tree};
use proptest::prelude::*;
use serde_json::Value;

const CPUS: u32 = 4;

/// A cgroup, and the cgroups in it.
#[derive(Debug, Clone)]
struct Node {
    weight: u64,
    max: Option<CpuMax>,
    cpus: Option<CpuSet>,
    tasks: u64,
    /// Whether it hands on the cpu controller.
    cpu: bool,
    children: Vec<Node>,
}

/// What the nodes of a tree have.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Some may use some of the CPUs alone.
    sets: bool,
    /// Some have a limit.
    limits: bool,
    /// Some have less threads than there are CPUs.
    few: bool,
}

const EVERYTHING: Kind = Kind { sets: true, limits: true, few: true };
/// Each level can be looked at by itself: whoever is there can be on every CPU.
const EVEN: Kind = Kind { sets: false, limits: true, few: false };

fn node(kind: Kind) -> impl Strategy<Value = Node> {
    let weight = prop_oneof![1 => Just(0), 9 => 1..=10_000_u64];
    // A hundredth of a CPU up to more than there are.
    let max = prop_oneof![3 => Just(None), u32::from(kind.limits) => (1_000..600_000_u64).prop_map(|quota| {
        Some(CpuMax { quota, period: 100_000 })
    })];
    let set =
        (1..1_u32 << CPUS).prop_map(|bits| Some((0..CPUS).filter(|cpu| bits >> cpu & 1 == 1).collect()));
    let cpus = prop_oneof![5 => Just(None), u32::from(kind.sets) => set];
    let cpu = prop_oneof![1 => Just(false), 5 => Just(true)];
    let fewest = if kind.few { 1 } else { u64::from(CPUS) };
    let leaf = (weight, max, cpus, fewest..12, cpu).prop_map(|(weight, max, cpus, tasks, cpu)| Node {
        weight,
        max,
        cpus,
        tasks,
        cpu,
        children: Vec::new(),
    });
    leaf.clone().prop_recursive(5, 40, 6, move |inner| {
        (leaf.clone(), prop::collection::vec(inner, 1..6))
            .prop_map(|(node, children)| Node { children, ..node })
    })
}

/// The tree of a node, its leaves in the order of the nodes.
fn tree_of(top: &Node) -> (Tree, Vec<Id>) {
    fn tasks(node: &Node) -> u64 {
        if node.children.is_empty() { node.tasks } else { node.children.iter().map(tasks).sum() }
    }
    fn add(tree: &mut Tree, parent: Id, name: &str, node: &Node, cpu: bool, leaves: &mut Vec<Id>) {
        let cgroup = Cgroup {
            cpu: cpu.then_some(Cpu { weight: node.weight, max: node.max }),
            cpus: node.cpus.clone(),
            tasks: Some(tasks(node)),
            populated: true,
            ..Cgroup::default()
        };
        let id = tree.add(parent, name, cgroup);
        if node.children.is_empty() {
            leaves.push(id);
        }
        for (number, child) in node.children.iter().enumerate() {
            add(tree, id, &number.to_string(), child, cpu && node.cpu, leaves);
        }
    }
    let (mut tree, mut leaves) = (Tree::new(Cgroup::default()), Vec::new());
    for (number, child) in top.children.iter().enumerate() {
        add(&mut tree, Tree::ROOT, &number.to_string(), child, top.cpu, &mut leaves);
    }
    (tree, leaves)
}

fn reversed(node: &Node) -> Node {
    Node { children: node.children.iter().rev().map(reversed).collect(), ..node.clone() }
}

fn set_weight(tree: &Tree, of: Id, weight: u64) -> Tree {
    let mut changed = Tree::new(tree[Tree::ROOT].clone());
    for id in tree.ids().skip(1) {
        let mut cgroup = tree[id].clone();
        if let (true, Some(cpu)) = (id == of, &mut cgroup.cpu) {
            cpu.weight = weight;
        }
        changed.add(tree[id].parent.unwrap(), tree[id].name.clone(), cgroup);
    }
    changed
}

/// The CPUs that a cgroup may use.
fn set(tree: &Tree, id: Id) -> CpuSet {
    let parents = tree[id].parent.map_or_else(|| CpuSet::first(CPUS), |parent| set(tree, parent));
    let both = tree[id].cpus.as_ref().map(|own| parents.and(own)).filter(|both| !both.is_empty());
    both.unwrap_or(parents)
}

fn real(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// What a cgroup's own limits allow, and those of what is in it together, in CPUs.
fn most(tree: &Tree, id: Id) -> f64 {
    let cgroup = &tree[id];
    let inside = match cgroup.children.as_slice() {
        [] => real(cgroup.tasks.unwrap_or(0)),
        children => children.iter().map(|child| most(tree, *child)).sum(),
    };
    let quota = cgroup.cpu.and_then(|cpu| cpu.max).map(|max| real(max.quota) / real(max.period));
    let cpuset = f64::from(set(tree, id).count());
    [Some(inside), quota, Some(cpuset)].into_iter().flatten().fold(f64::INFINITY, f64::min)
}

/// What leaves can use together: the least of all cuts between them and the CPUs.
fn flow(tree: &Tree, leaves: &[Id]) -> f64 {
    let cut = |few: CpuSet| {
        let others = leaves.iter().filter(|leaf| !set(tree, **leaf).is_within(&few));
        f64::from(few.count()) + others.map(|leaf| most(tree, *leaf)).sum::<f64>()
    };
    let sets = (0..1_u32 << CPUS).map(|bits| (0..CPUS).filter(|cpu| bits >> cpu & 1 == 1).collect());
    sets.map(cut).fold(f64::INFINITY, f64::min)
}

/// Divides the time of each cgroup among those in it, by weights and what each can use: what is right where all
/// can be on every CPU.
fn by_level(tree: &Tree, id: Id, time: f64, all: &Shares, found: &mut Vec<(Id, f64)>) {
    found.push((id, time));
    let mut children: Vec<(f64, f64, Id)> = tree[id]
        .children
        .iter()
        .map(|child| (all.level(*child).unwrap().weight, most(tree, *child), *child))
        .collect();
    children.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    let (mut left, mut weights) = (time, children.iter().map(|child| child.0).sum::<f64>());
    for (weight, most, child) in children {
        let given = (left * weight / weights).min(most);
        by_level(tree, child, given, all, found);
        (left, weights) = (left - given, weights - weight);
    }
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

fn some_of(leaves: &[Id], picked: &[bool]) -> BTreeSet<Id> {
    leaves.iter().zip(picked.iter().cycle()).filter(|(_, picked)| **picked).map(|(id, _)| *id).collect()
}

fn sum(shares: &Shares, of: &[Id]) -> f64 {
    of.iter().map(|id| shares.of(*id)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nobody_gets_more_than_limits_and_cpus_allow(top in node(EVERYTHING)) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        for id in tree.ids().skip(1) {
            let (share, most) = (all.of(id), most(&tree, id) / f64::from(CPUS));
            // Nested idle ones come to less than is told.
            prop_assert!(share >= 0.0 && share <= most + 1e-9, "{share} above {most}: {:?}", tree.path(id));
            let children = &tree[id].children;
            prop_assert!(children.is_empty() || near(share, sum(&all, children)));
        }
        for bits in 0..1_u32 << CPUS {
            let cpus: CpuSet = (0..CPUS).filter(|cpu| bits >> cpu & 1 == 1).collect();
            let bound: Vec<Id> = leaves.iter().copied().filter(|leaf| set(&tree, *leaf).is_within(&cpus)).collect();
            let given = sum(&all, &bound) * f64::from(CPUS);
            prop_assert!(given <= f64::from(cpus.count()) + 1e-7, "{given} on {cpus}");
        }
    }

    #[test]
    fn everything_that_can_be_used_is_given_out(top in node(Kind { limits: false, ..EVERYTHING })) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        let (given, wanted) = (sum(&all, &leaves) * f64::from(CPUS), flow(&tree, &leaves));
        prop_assert!((given - wanted).abs() < 1e-7, "{given} of {wanted}");
    }

    #[test]
    fn where_all_can_be_on_every_cpu_each_level_is_divided_by_itself(top in node(EVEN)) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        let whole = if leaves.is_empty() { 0.0 } else { most(&tree, Tree::ROOT) };
        let mut expected = Vec::new();
        by_level(&tree, Tree::ROOT, whole, &all, &mut expected);
        for (id, cpus) in expected {
            let share = cpus / f64::from(CPUS);
            prop_assert!(near(all.of(id), share), "{} and not {share}: {:?}", all.of(id), tree.path(id));
        }
    }

    /// What siblings that nothing limits compete with is what they get, also one of them with another weight.
    #[test]
    fn what_is_said_by_weight_alone_is_what_they_get(top in node(EVERYTHING), weight in 0..=10_000_u64) {
        let (tree, _) = tree_of(&top);
        for id in tree.ids().skip(1) {
            let beside = &tree[tree[id].parent.unwrap()].children;
            let others: Vec<Id> = beside.iter().copied().filter(|other| *other != id).collect();
            let Some((own, sum)) = by_weight(&tree, CPUS, (id, weight), &others) else { continue };
            let busy = Busy::Only(beside.iter().copied().collect());
            let all = shares_if(&tree, CPUS, &busy, Some((id, weight)));
            let together: f64 = others.iter().map(|other| all.of(*other)).sum();
            prop_assert!(near(own / (own + sum), all.of(id) / (all.of(id) + together)));
        }
    }

    #[test]
    fn the_order_of_siblings_is_no_matter(top in node(EVERYTHING)) {
        let (tree, leaves) = tree_of(&top);
        let (mirrored, mut others) = tree_of(&reversed(&top));
        others.reverse();
        let (a, b) = (shares(&tree, CPUS, &Busy::Everything), shares(&mirrored, CPUS, &Busy::Everything));
        for (id, other) in leaves.iter().zip(&others) {
            prop_assert!(near(a.of(*id), b.of(*other)));
        }
    }

    #[test]
    fn more_weight_is_never_less_time(top in node(EVERYTHING), which in any::<prop::sample::Index>(), more in 1..=10_000_u64) {
        let (tree, _) = tree_of(&top);
        let ids: Vec<Id> = tree.ids().skip(1).filter(|id| tree[*id].cpu.is_some()).collect();
        prop_assume!(!ids.is_empty());
        let id = *which.get(&ids);
        let before = tree[id].cpu.unwrap().weight;
        let raised = set_weight(&tree, id, (before + more).min(10_000));
        let (a, b) = (shares(&tree, CPUS, &Busy::Everything), shares(&raised, CPUS, &Busy::Everything));
        prop_assert!(b.of(id) >= a.of(id) - 1e-9, "{} then {}", a.of(id), b.of(id));
        // Another one's weight is never any good.
        for sibling in tree[tree[id].parent.unwrap()].children.iter().filter(|sibling| **sibling != id) {
            prop_assert!(b.of(*sibling) <= a.of(*sibling) + 1e-9);
        }
    }

    /// One who is bound may: it takes a part of its slice's weight to a CPU on which that is worth little, and
    /// the rest of the slice is left with less of it.
    #[test]
    fn one_more_who_is_busy_is_never_any_good(
        top in node(EVEN), picked in prop::collection::vec(any::<bool>(), 1..40), one in any::<prop::sample::Index>(),
    ) {
        let (tree, leaves) = tree_of(&top);
        prop_assume!(!leaves.is_empty());
        let newcomer = *one.get(&leaves);
        let mut busy = some_of(&leaves, &picked);
        busy.remove(&newcomer);
        let before = shares(&tree, CPUS, &Busy::Only(busy.clone()));
        let with: BTreeSet<Id> = busy.iter().copied().chain([newcomer]).collect();
        let after = shares(&tree, CPUS, &Busy::Only(with));
        for id in &busy {
            prop_assert!(after.of(*id) <= before.of(*id) + 1e-9, "{} then {}", before.of(*id), after.of(*id));
        }
        prop_assert!(after.of(newcomer) > 0.0 && before.of(newcomer) == 0.0);
        prop_assert!(leaves.iter().all(|id| *id == newcomer || busy.contains(id) || after.of(*id) == 0.0));
    }

    /// What each factor of a chain says comes to the share.
    #[test]
    fn every_figure_can_be_followed((kind, top) in prop_oneof![Just(EVEN), Just(EVERYTHING)].prop_flat_map(|kind| (Just(kind), node(kind)))) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        for leaf in leaves {
            let chain = all.chain(&tree, leaf);
            prop_assert_eq!(chain.len(), tree.upwards(leaf).count());
            let mut parent = 1.0;
            for (id, level) in chain {
                let by_weight = parent * level.weight / level.sum;
                // Less than by its weight has only who can use no more.
                let can_use = most(&tree, id) / f64::from(CPUS);
                prop_assert!(kind.sets || level.share >= by_weight - 1e-9 || near(level.share, can_use));
                if let Some(cap) = level.cap {
                    prop_assert!(near(level.share, cap.most));
                }
                parent = level.share;
            }
        }
    }
}

/// F2 of a machine with two CPUs, a service that may use a tenth of one, and `system.slice` without
/// the controller.
fn machine() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
    write(root, "sys/devices/system/cpu/online", "0-1\n");
    write(root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    let cgroup = |path: &str, subtree: &str, attributes: &[(&str, &str)]| {
        write(root, &format!("sys/fs/cgroup/{path}cgroup.subtree_control"), &format!("{subtree}\n"));
        for (name, value) in attributes {
            write(root, &format!("sys/fs/cgroup/{path}{name}"), &format!("{value}\n"));
        }
    };
    cgroup("", "cpu pids", &[]);
    cgroup("services.slice/", "cpu pids", &[("cpu.weight", "200"), ("pids.current", "8")]);
    let slm = "services.slice/local-slm.service/";
    cgroup(slm, "", &[("cpu.weight", "100"), ("cpu.max", "10000 100000"), ("pids.current", "4")]);
    cgroup("services.slice/local-fs.service/", "", &[("cpu.weight", "100"), ("pids.current", "4")]);
    cgroup("user.slice/", "cpu pids", &[("cpu.weight", "100"), ("pids.current", "8")]);
    for uid in [0, 4_000_000_001_u32] {
        let slice = format!("user.slice/user-{uid}.slice/");
        cgroup(&slice, "", &[("cpu.weight", "100"), ("pids.current", "4")]);
    }
    cgroup("system.slice/", "pids", &[("cpu.weight", "100"), ("pids.current", "4")]);
    cgroup("system.slice/ssh.service/", "", &[("pids.current", "1")]);
    cgroup("system.slice/cron.service/", "", &[("pids.current", "3")]);
    directory
}

fn explain(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_fairslice"))
        .arg("--root")
        .arg(root)
        .args(["explain", "share"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(root: &Path, arguments: &[&str]) -> Value {
    let (code, out, err) = explain(root, &[arguments, &["--json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["version"], &json["cpus"]), (&Value::from(1), &Value::from(2)));
    json
}

#[test]
fn all_units_with_their_shares() {
    let machine = machine();
    let (code, text, err) = explain(machine.path(), &[]);
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "\
2 CPUs, everything busy

UNIT                        SHARE  CPUS  WEIGHT   OF
services.slice              50.0%  1.00     200  400
  local-fs.service          45.0%  0.90     100  200
  local-slm.service          5.0%  0.10     100  200  at most 0.1 CPUs: cpu.max
system.slice                25.0%  0.50     100  400
  cron.service              18.8%  0.38   3x100  400
  ssh.service                6.2%  0.12   1x100  400
user.slice                  25.0%  0.50     100  400
  user-0.slice (root)       12.5%  0.25     100  200
  user-4000000001.slice (4000000001)  12.5%  0.25     100  200
";
    let squeezed = |text: &str| {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&text), squeezed(expected), "{text}");
}

/// Two services whose threads are bound to the first CPU, as their processes say, and one that is free.
fn bound_machine() -> tempfile::TempDir {
    let machine = machine();
    let root = machine.path();
    let cgroup =
        |path: &str, name: &str, text: &str| write(root, &format!("sys/fs/cgroup/{path}/{name}"), text);
    cgroup("services.slice", "pids.current", "6\n");
    for (name, weight, pid) in [("decode", "100\n", 20), ("render", "300\n", 21), ("free", "100\n", 22)] {
        let path = format!("services.slice/{name}.service");
        cgroup(&path, "cpu.weight", weight);
        cgroup(&path, "pids.current", "2\n");
        write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{path}\n"));
        let cpus = if name == "free" { "0-1" } else { "0" };
        write(root, &format!("proc/{pid}/status"), &format!("Threads:\t2\nCpus_allowed_list:\t{cpus}\n"));
    }
    for idle in
        ["services.slice/local-slm.service", "services.slice/local-fs.service", "user.slice", "system.slice"]
    {
        fs::remove_dir_all(root.join("sys/fs/cgroup").join(idle)).unwrap();
    }
    machine
}

#[test]
fn cpus_that_others_use_too_are_said() {
    let machine = bound_machine();
    let (_, text, _) = explain(machine.path(), &["render"]);
    let last = "300  500   0.375   37.5%  at most 1 CPU, shared with others: affinity 0\n";
    assert!(text.ends_with(last), "{text}");
    let (_, text, _) = explain(machine.path(), &[]);
    let line = text.lines().find(|line| line.contains("render.service")).unwrap();
    assert!(line.ends_with("500  at most 1 CPU, shared with others: affinity 0"), "{text}");
    let chain = json(machine.path(), &["render"]);
    let last = chain["chain"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["bound"], &last["cap"]), (&Value::from("0"), &Value::Null));
    assert_eq!(json(machine.path(), &["free"])["chain"][1]["bound"], Value::Null);
    // Alone it has all of the CPU, and no more.
    let chain = json(machine.path(), &["render", "--busy", "free"]);
    let last = chain["chain"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["share"], &last["cap"]["limit"]), (&Value::from(0.5), &Value::from("affinity")));
}

#[test]
fn every_command_says_the_same_of_those_on_one_cpu() {
    let machine = bound_machine();
    write(machine.path(), "proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1572864 kB\n");
    let output = Command::new(env!("CARGO_BIN_EXE_fairslice"))
        .arg("--root")
        .arg(machine.path())
        .args(["status", "--json"])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let share = |cgroup: &str| {
        let mut all = status["cgroups"].as_array().unwrap().iter();
        all.find(|entry| entry["cgroup"] == cgroup).map(|entry| entry["cpu_share"].as_f64().unwrap())
    };
    for (name, expected) in [("decode", 0.125), ("render", 0.375), ("free", 0.5)] {
        let found = share(&format!("/services.slice/{name}.service")).unwrap();
        assert!(near(found, expected), "{name}: {found}");
    }
}

#[test]
fn the_chain_of_one() {
    let machine = machine();
    let (_, text, _) = explain(machine.path(), &["local-fs", "--busy", "local-slm,root"]);
    let expected = "\
local-fs.service: 61.7% of 2 CPUs, which is 1.23; only these busy: local-slm.service, local-fs.service, user-0.slice (root)

CGROUP            WEIGHT   OF  FACTOR   SHARE
-.slice                                100.0%
services.slice       200  300   0.667   66.7%
local-fs.service     100  200   0.925   61.7%  0.500 by weight, and what others cannot use
";
    let sorted = |text: &str| {
        let (first, rest) = text.split_once('\n').unwrap();
        let (what, busy) = first.split_once("busy: ").unwrap();
        let names: BTreeSet<String> = busy.split(", ").map(str::to_owned).collect();
        (what.to_owned(), names, rest.to_owned())
    };
    assert_eq!(sorted(&text), sorted(expected));
    let (_, text, _) = explain(machine.path(), &["ssh"]);
    assert!(text.ends_with("  6.2%  threads one by one: no cpu controller here\n"), "{text}");
}

#[test]
fn for_programs_the_same() {
    let machine = machine();
    let all = json(machine.path(), &[]);
    assert_eq!(all["busy"], Value::Null);
    let share = |all: &Value, cgroup: &str| {
        let found = all["cgroups"].as_array().unwrap().iter().find(|entry| entry["cgroup"] == cgroup);
        found.map(|entry| entry["share"].as_f64().unwrap())
    };
    assert!(near(share(&all, "/services.slice/local-slm.service").unwrap(), 0.05));
    let two = json(machine.path(), &["--busy", "services.slice,root,user-4000000001.slice"]);
    for (cgroup, part) in [("/services.slice", 4.0), ("/user.slice/user-0.slice", 1.0), ("/user.slice", 2.0)]
    {
        assert!(near(share(&two, cgroup).unwrap(), part / 6.0), "{cgroup}");
    }
    assert_eq!(share(&two, "/system.slice"), None);
    let chain = json(machine.path(), &["local-slm"]);
    let last = chain["chain"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["cap"]["limit"], &last["weight"]), (&Value::from("cpu.max"), &Value::from(100)));
    assert_eq!(chain["chain"][0]["cgroup"], "/");
}

#[test]
fn names_that_are_meant() {
    let machine = machine();
    let last = |name: &str| {
        let chain = json(machine.path(), &[name]);
        chain["chain"].as_array().unwrap().last().unwrap()["cgroup"].as_str().unwrap().to_owned()
    };
    assert_eq!(last("root"), "/user.slice/user-0.slice");
    assert_eq!(last("system"), "/system.slice");
    assert_eq!(last("/system.slice/ssh.service"), "/system.slice/ssh.service");
    assert_eq!(last("/"), "/");
    // The launcher has had it put into a scope.
    write(machine.path(), "sys/fs/cgroup/services.slice/local-x-7.scope/pids.current", "1\n");
    write(machine.path(), "sys/fs/cgroup/system.slice/local-x.service/pids.current", "0\n");
    assert_eq!(last("local-x"), "/services.slice/local-x-7.scope");
}

#[test]
fn a_name_that_nothing_has_is_said_with_the_nearest() {
    let machine = machine();
    let (code, out, err) = explain(machine.path(), &["local-sf"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (2, "", 1));
    assert!(err.contains("\"local-sf\": did you mean local-fs.service"), "{err}");
    let (code, _, err) = explain(machine.path(), &["--busy", "root,completely-different"]);
    assert_eq!(code, 2);
    assert!(err.contains("\"completely-different\"\n"), "{err}");
}

#[test]
fn the_time_of_each_disk() {
    let machine = common::machine("fairslice");
    let root = machine.path();
    let (system, user) = ("sys/fs/cgroup/system.slice", "sys/fs/cgroup/user.slice");
    for (name, number, scheduler) in [("vda", "254:0", "[none] bfq"), ("vdb", "254:16", "none [bfq]")] {
        write(root, &format!("sys/block/{name}/device/vendor"), "");
        write(root, &format!("sys/block/{name}/dev"), &format!("{number}\n"));
        write(root, &format!("sys/block/{name}/queue/scheduler"), &format!("{scheduler}\n"));
    }
    write(root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
    write(root, "sys/fs/cgroup/cgroup.subtree_control", "cpuset cpu io memory pids\n");
    for (cgroup, weight, of_bfq) in [(system, 100, 100), (user, 200, 109)] {
        write(root, &format!("{cgroup}/cgroup.subtree_control"), "cpu memory pids\n");
        write(root, &format!("{cgroup}/io.weight"), &format!("default {weight}\n"));
        write(root, &format!("{cgroup}/io.bfq.weight"), &format!("default {of_bfq}\n"));
    }
    let said = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        let run = command.arg("--root").arg(root).args(["explain", "share", "--io"]).args(arguments);
        let output = run.env("NO_COLOR", "1").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        said(&["--busy", "system.slice,user.slice"]),
        "only these busy: system.slice, user.slice\n\n\
         vda: no weight counts: it has the scheduler none and no io.cost\n\n\
         vdb: by weight, bfq\n\
         UNIT          SHARE  WEIGHT   OF\n\
         user.slice    52.2%     109  209  io.weight 200 counts as 109\n\
         system.slice  47.8%     100  209\n"
    );
    let chain = said(&["ssh", "--busy", "user.slice"]);
    assert!(
        chain.ends_with(
            "CGROUP        WEIGHT   OF  FACTOR   SHARE\n\
             -.slice                            100.0%\n\
             system.slice     100  209   0.478   47.8%\n\
             ssh.service: with all else in the last line, process by process: no io controller here\n"
        ),
        "{chain}"
    );
    write(root, "sys/block/vdb/queue/iosched/low_latency", "1\n");
    assert!(said(&[]).contains("vdb: by weight, bfq, whose low_latency puts those first for a while"));
}

/// Its quotas leave the machine CPUs to spare: inside of the outer one weights decide all the same.
#[test]
fn what_a_quota_leaves_inside_of_another_is_the_siblings_by_their_weights() {
    let leaf = |weight, max| Node { weight, max, cpus: None, tasks: 4, cpu: false, children: Vec::new() };
    let quota = |quota| Some(CpuMax { quota, period: 100_000 });
    let inner =
        Node { children: vec![leaf(900, quota(1000)), leaf(100, None)], cpu: true, ..leaf(300, None) };
    let outer = Node { children: vec![leaf(100, None), inner], cpu: true, ..leaf(100, quota(20_000)) };
    let (tree, leaves) = tree_of(&Node { children: vec![outer], cpu: true, ..leaf(100, None) });
    let all = shares(&tree, CPUS, &Busy::Everything);
    let cpus: Vec<f64> = leaves.iter().map(|leaf| all.of(*leaf) * f64::from(CPUS)).collect();
    for (cpus, expected) in cpus.iter().zip([0.05, 0.01, 0.14]) {
        assert!((cpus - expected).abs() < 1e-9, "{cpus:?}");
    }
}
