//! A node of Kubernetes: what stands right beside `kubepods.slice`, whose weight is the kubelet's and changes with the
//! CPUs of the node, is counted with that weight, and keeps its floor.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod fixture;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fairslice::effect::kubernetes::weight;
use fairslice::enforce::user_slice;
use fairslice::policy;
use fixture::{cgroup, fairslice, process, write};
use serde_json::Value;
use tempfile::TempDir;

const SLICE: &str = "prod.slice";
const FLOOR: f64 = 0.4;
const POLICY: &str = r#"
[slice."prod.slice"]
match = ["local-*"]
cpu_weight = 4000
cpu_floor = "40%"
[logins]
total_weight = "sum"
cpu_weight = 5000
"#;
/// What the kubelet gives all pods on nodes of so many CPUs, in thousandths.
const NODES: [(u64, u64); 3] = [(1000, 39), (16_000, 625), (64_000, 2500)];

/// Three users, each of whom outweighs the services, beside the pods: as the kubelet, with systemd as its driver, makes
/// them. It converts CPUs into a weight linearly, and the container's runtime does not.
fn node(milli_cpus: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "etc/fairslice/policy.toml", POLICY);
    write(root, "proc/meminfo", "MemTotal:        2097152 kB\nMemAvailable:    1572864 kB\n");
    write(root, "proc/self/cgroup", "0::/\n");
    write(root, "sys/devices/system/cpu/online", "0-1\n");
    cgroup(
        root,
        "",
        &[("cgroup.controllers", "cpuset cpu io memory pids"), ("cpuset.cpus.effective", "0-1")],
    );
    let weighing = |path: &str, weight: u64, threads: u32| {
        let (weight, threads) = (weight.to_string(), threads.to_string());
        cgroup(
            root,
            path,
            &[("cpu.weight", &weight), ("pids.current", &threads), ("cgroup.events", "populated 1")],
        );
    };
    weighing(SLICE, 4000, 2);
    weighing("prod.slice/local-fs.service", 100, 2);
    process(root, 10, 1, "prod.slice/local-fs.service", 0);
    weighing("system.slice", 100, 2);
    weighing("system.slice/kubelet.service", 100, 2);
    process(root, 11, 1, "system.slice/kubelet.service", -999);
    weighing("kubepods.slice", weight(milli_cpus), 4);
    // Half a CPU and one that asks for nothing: the kubelet's formula for the pods, the runtime's for the containers.
    let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice";
    weighing("kubepods.slice/kubepods-burstable.slice", weight(500), 2);
    weighing(pod, weight(500), 2);
    weighing(&format!("{pod}/cri-containerd-1.scope"), 59, 2);
    process(root, 12, 1, &format!("{pod}/cri-containerd-1.scope"), 999);
    let pod = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2.slice";
    weighing("kubepods.slice/kubepods-besteffort.slice", 1, 2);
    weighing(pod, weight(2), 2);
    weighing(&format!("{pod}/cri-containerd-2.scope"), 1, 2);
    process(root, 13, 1, &format!("{pod}/cri-containerd-2.scope"), 1000);
    weighing("user.slice", 15_000 / 2, 6);
    for (number, uid) in [1000, 1001, 1002].iter().enumerate() {
        weighing(&format!("user.slice/user-{uid}.slice"), 5000, 2);
        let scope = format!("user.slice/user-{uid}.slice/session-{number}.scope");
        process(root, 20 + u32::try_from(number).unwrap(), 1, &scope, 0);
    }
    directory
}

fn set_weight(root: &Path, cgroup: &str, weight: u64) {
    fs::write(root.join(format!("sys/fs/cgroup/{cgroup}/cpu.weight")), format!("{weight}\n")).unwrap();
}

fn weight_of(root: &Path, cgroup: &str) -> u64 {
    let text = fs::read_to_string(root.join(format!("sys/fs/cgroup/{cgroup}/cpu.weight"))).unwrap();
    text.trim().parse().unwrap()
}

/// The part of the machine's CPU time, as "explain share" has it.
fn share(root: &Path, of: &str) -> f64 {
    let (code, json, complaints) = fairslice(root, &["explain", "share", of, "--json"]);
    assert_eq!(code, 0, "{complaints}");
    let value: Value = serde_json::from_str(&json).unwrap();
    value["chain"].as_array().unwrap().last().unwrap()["share"].as_f64().unwrap()
}

fn part(of: u64, all: &[u64]) -> f64 {
    let real = |weight: u64| f64::from(u32::try_from(weight).unwrap());
    real(of) / all.iter().map(|weight| real(*weight)).sum::<f64>()
}

/// What a login does to `user.slice`: the module calls the same, and "fairslice apply" where there is no systemd.
fn login(root: &Path) {
    let policy = policy::load(root).policy;
    let weigh = |users: &[u32]| Ok(vec![policy.logins.default.cpu_weight(); users.len()]);
    user_slice::count(root, &policy, &weigh, Instant::now() + Duration::from_secs(5)).unwrap();
}

#[test]
fn shares_beside_pods_are_those_of_the_weights() {
    for (milli_cpus, pods) in NODES {
        let node = node(milli_cpus);
        let (root, logins) = (node.path(), 7500);
        assert_eq!(weight_of(root, "kubepods.slice"), pods);
        let all = [4000, 100, pods, logins];
        for (cgroup, weight) in [(SLICE, 4000), ("kubepods.slice", pods), ("user.slice", logins)] {
            let (found, expected) = (share(root, cgroup), part(weight, &all));
            assert!((found - expected).abs() < 0.002, "{pods}: {cgroup}: {found} and not {expected}");
        }
        // In it, by the kubelet's weights, whatever the runtime makes of a container's.
        let burstable = share(root, "kubepods-burstable.slice") / share(root, "kubepods.slice");
        assert!((burstable - part(weight(500), &[weight(500), 1])).abs() < 0.06, "{pods}: {burstable}");
    }
}

#[test]
fn a_floor_holds_beside_pods_and_when_their_weight_changes() {
    let node = node(1000);
    let root = node.path();
    for (milli_cpus, pods) in NODES.iter().chain(NODES.iter().rev()) {
        set_weight(root, "kubepods.slice", weight(*milli_cpus));
        login(root);
        let (logins, share) = (weight_of(root, "user.slice"), share(root, SLICE));
        assert!((share - FLOOR).abs() < 0.03, "{pods}: {share} of the CPUs, beside logins of {logins}");
        assert_eq!(logins, 4000 * 10 / 4 - 4000 - 100 - pods, "as much as the floor leaves");
    }
}

#[test]
fn the_doctor_sees_a_floor_that_the_pods_have_moved() {
    let node = node(1000);
    let root = node.path();
    login(root);
    let found = |root: &Path| {
        // There is a systemd, but for the login, which does itself what else PID 1 is asked for.
        write(root, "run/systemd/system/.is-there", "");
        let (_, json, complaints) = fairslice(root, &["doctor", "--json"]);
        fs::remove_dir_all(root.join("run/systemd/system")).unwrap();
        let value: Value =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}{complaints}"));
        let findings = value["findings"].as_array().unwrap().clone();
        findings
            .into_iter()
            .filter(|one| one["code"] == "FS046")
            .map(|one| one.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(root), [""; 0]);
    set_weight(root, "kubepods.slice", weight(64_000));
    let moved = found(root);
    assert!(moved.len() == 1 && moved[0].contains("3400"), "{moved:?}");
    let (_, said, _) = fairslice(root, &["apply", "--dry-run"]);
    assert!(said.contains("5861 -> 3400"), "{said}");
    login(root);
    assert_eq!(found(root), [""; 0]);
}

#[test]
fn check_says_of_a_floor_that_cannot_hold_beside_the_pods() {
    let node = node(1000);
    let root = node.path();
    let broken = |root: &Path| fairslice(root, &["check"]).1.contains("does not hold even without logins");
    assert!(!broken(root));
    set_weight(root, "kubepods.slice", 6000);
    assert!(broken(root), "4000 of 10100 are less than 40 %");
}
