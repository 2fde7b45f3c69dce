//! Shares of the CPUs: what must hold of any tree, and `fairslice explain share` on a tree of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use common::write;
use fairslice::effect::share::{Busy, Shares, shares};
use fairslice::host::tree::{Bandwidth, Cgroup, Cpu, Id, Tree};
use proptest::prelude::*;
use serde_json::Value;

const CPUS: u32 = 4;

/// A cgroup, and the cgroups in it.
#[derive(Debug, Clone)]
struct Node {
    weight: u64,
    max: Option<Bandwidth>,
    cpus: Option<u32>,
    tasks: u64,
    /// Whether it hands on the cpu controller.
    cpu: bool,
    children: Vec<Node>,
}

fn node() -> impl Strategy<Value = Node> {
    let weight = prop_oneof![1 => Just(0), 9 => 1..=10_000_u64];
    // A hundredth of a CPU up to more than there are.
    let max = prop_oneof![3 => Just(None), 1 => (1_000..600_000_u64).prop_map(|quota| {
        Some(Bandwidth { quota, period: 100_000 })
    })];
    let cpus = prop_oneof![5 => Just(None), 1 => (1..=CPUS).prop_map(Some)];
    let cpu = prop_oneof![1 => Just(false), 5 => Just(true)];
    let leaf = (weight, max, cpus, 1..12_u64, cpu).prop_map(|(weight, max, cpus, tasks, cpu)| Node {
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
            cpus: node.cpus,
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

/// What a cgroup's own limits allow, and those of what is in it together.
fn most(tree: &Tree, id: Id) -> f64 {
    let cgroup = &tree[id];
    let cpus = f64::from(CPUS);
    let of = |number: u64| f64::from(u32::try_from(number).unwrap());
    let inside = match cgroup.children.as_slice() {
        [] => of(cgroup.tasks.unwrap_or(0)) / cpus,
        children if id == Tree::ROOT => children.iter().map(|child| most(tree, *child)).sum::<f64>().min(1.0),
        children => children.iter().map(|child| most(tree, *child)).sum(),
    };
    let quota = cgroup.cpu.and_then(|cpu| cpu.max).map(|max| of(max.quota) / of(max.period) / cpus);
    let cpuset = cgroup.cpus.map(|number| f64::from(number) / cpus);
    [Some(inside), quota, cpuset].into_iter().flatten().fold(f64::INFINITY, f64::min)
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
    fn everything_that_can_be_used_is_given_out_and_no_more(top in node()) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        let wanted = most(&tree, Tree::ROOT);
        prop_assert!(near(sum(&all, &leaves), wanted), "{} of {wanted}", sum(&all, &leaves));
        for id in tree.ids().skip(1) {
            prop_assert!(all.of(id) <= most(&tree, id) + 1e-9, "{} above {}", all.of(id), most(&tree, id));
            let children = &tree[id].children;
            prop_assert!(children.is_empty() || near(all.of(id), sum(&all, children)));
        }
    }

    #[test]
    fn the_order_of_siblings_is_no_matter(top in node()) {
        let (tree, leaves) = tree_of(&top);
        let (mirrored, mut others) = tree_of(&reversed(&top));
        others.reverse();
        let (a, b) = (shares(&tree, CPUS, &Busy::Everything), shares(&mirrored, CPUS, &Busy::Everything));
        for (id, other) in leaves.iter().zip(&others) {
            prop_assert!(near(a.of(*id), b.of(*other)));
        }
    }

    #[test]
    fn more_weight_is_never_less_time(top in node(), which in any::<prop::sample::Index>(), more in 1..=10_000_u64) {
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

    #[test]
    fn one_more_who_is_busy_is_never_any_good(
        top in node(), picked in prop::collection::vec(any::<bool>(), 1..40), one in any::<prop::sample::Index>(),
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
    fn every_figure_can_be_followed(top in node()) {
        let (tree, leaves) = tree_of(&top);
        let all = shares(&tree, CPUS, &Busy::Everything);
        for leaf in leaves {
            let chain = all.chain(&tree, leaf);
            prop_assert_eq!(chain.len(), tree.upwards(leaf).count());
            let mut parent = 1.0;
            for (id, level) in chain {
                let by_weight = parent * level.weight / level.sum;
                // Less than by its weight has only who can use no more.
                prop_assert!(level.share >= by_weight - 1e-9 || near(level.share, most(&tree, id)));
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
