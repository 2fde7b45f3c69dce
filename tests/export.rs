//! `fairslice export`: one directory for each case, with a policy and the expected files, compared whole.
//!
//! `tests/export/CASE/policy.toml` is exported for a node of 16 CPUs and 32 GiB, `CASE/expected` is what that writes,
//! `CASE/said` what it prints. Set `UPDATE_EXPORT=1` to write the last two anew, and read the difference.
//! `tests/kubernetes` holds the same files to the schemas of Kubernetes.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod fixture;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fixture::{fairslice, write};
use tempfile::TempDir;

const UPDATE: &str = "UPDATE_EXPORT";
const CASES: [&str; 3] = ["everything", "nothing", "packaged"];

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(name)
}

/// A machine without units, with this policy.
fn machine(policy: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "etc/fairslice/policy.toml", policy);
    write(directory.path(), "proc/meminfo", "MemTotal: 2097152 kB\n");
    write(directory.path(), "sys/devices/system/cpu/online", "0-1\n");
    directory
}

fn policy(name: &str) -> String {
    fs::read_to_string(case(name).join("policy.toml")).unwrap()
}

const NODE: [&str; 4] = ["--node-cpus", "16", "--node-memory", "32G"];

fn export(root: &Path, to: &Path) -> (i32, String, String) {
    let to = to.to_str().unwrap();
    fairslice(root, &[&["export", "kubernetes"], &NODE[..], &[to]].concat())
}

/// The files of a directory.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let file = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    entries.map(|entry| file(entry.unwrap().path())).collect()
}

#[test]
fn a_policy_is_exported_as_expected() {
    for name in CASES {
        let (machine, out) = (machine(&policy(name)), tempfile::tempdir().unwrap());
        let to = out.path().join("k8s");
        let (code, said, complaints) = export(machine.path(), &to);
        assert_eq!((code, complaints.as_str()), (0, ""), "{name}");
        let (expected, saying) = (case(name).join("expected"), case(name).join("said"));
        if std::env::var_os(UPDATE).is_some() {
            let _ = fs::remove_dir_all(&expected);
            fs::create_dir_all(&expected).unwrap();
            for (file, text) in files(&to) {
                fs::write(expected.join(file), text).unwrap();
            }
            fs::write(&saying, &said).unwrap();
        }
        assert_eq!(files(&to), files(&expected), "{name}");
        assert_eq!(said, fs::read_to_string(saying).unwrap(), "{name}");
        // The next one is the same.
        assert_eq!(export(machine.path(), &to), (0, said.clone(), String::new()), "{name}");
        assert_eq!(files(&to), files(&expected), "{name}");
        // Nothing is written by who only asks.
        let (code, table, _) =
            fairslice(machine.path(), &[&["check", "--export", "kubernetes"], &NODE[..]].concat());
        assert!(said.ends_with(table.split_once("\n\n").unwrap().1), "{name}: {table}");
        assert_eq!(code, i32::from(!table.contains(": ok\n")), "{name}");
    }
}

#[test]
fn the_packaged_policy_is_a_case() {
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/policy.toml");
    assert_eq!(policy("packaged"), fs::read_to_string(packaged).unwrap());
}

#[test]
fn requests_are_what_explain_share_says_of_the_same_weights() {
    let machine = machine(
        "[slice.\"a.slice\"]\ncpu_weight = 100\n[slice.\"a-b.slice\"]\nmatch = [\"x\", \"y\"]\ncpu_weight = 300\n[slice.\"a-c.slice\"]\nmatch = [\"z\"]\n\
         [service.x]\ncpu_weight = 200\n[logins]\ntotal_weight = 200\n",
    );
    let root = machine.path();
    let cgroup = |path: &str, weight: u32, tasks: u32| {
        write(root, &format!("sys/fs/cgroup/{path}/cpu.weight"), &format!("{weight}\n"));
        write(root, &format!("sys/fs/cgroup/{path}/pids.current"), &format!("{tasks}\n"));
        write(root, &format!("sys/fs/cgroup/{path}/cgroup.subtree_control"), "cpu pids\n");
        write(root, &format!("sys/fs/cgroup/{path}/cgroup.events"), "populated 1\n");
    };
    write(root, "sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
    write(root, "sys/fs/cgroup/cgroup.subtree_control", "cpu pids\n");
    write(root, "proc/self/cgroup", "0::/\n");
    // What the generator gives them.
    cgroup("a.slice", 100, 6);
    cgroup("a.slice/a-b.slice", 300, 4);
    cgroup("a.slice/a-b.slice/x.service", 200, 2);
    cgroup("a.slice/a-b.slice/y.service", 100, 2);
    cgroup("a.slice/a-c.slice", 100, 2);
    cgroup("a.slice/a-c.slice/z.service", 100, 2);
    cgroup("system.slice", 100, 2);
    cgroup("user.slice", 200, 2);
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("k8s");
    let (code, said, complaints) = fairslice(root, &["export", "kubernetes", to.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}{complaints}");
    for (service, milli) in [("x", 250), ("y", 125), ("z", 125)] {
        let (_, json, _) = fairslice(root, &["explain", "share", service, "--json"]);
        let shares: serde_json::Value = serde_json::from_str(&json).unwrap();
        let share = shares["chain"].as_array().unwrap().last().unwrap()["share"].as_f64().unwrap();
        assert!((share * 2000.0 - f64::from(milli)).abs() < 1.0, "{service}: {share}");
        let patch = fs::read_to_string(to.join(format!("patch-{service}.yaml"))).unwrap();
        assert!(patch.contains(&format!("cpu: {milli}m\n")), "{patch}");
    }
    let kubelet = fs::read_to_string(to.join("50-fairslice.conf")).unwrap();
    assert!(kubelet.contains("  cpu: 1500m\n"), "what the requests leave: {kubelet}");
}

#[test]
fn services_that_a_prefix_holds_are_those_with_unit_files() {
    let machine = fixture::common::machine("fairslice");
    let root = machine.path();
    let unit = |name: &str, text: &str| write(root, &format!("etc/systemd/system/{name}"), text);
    unit("local-worker@.service", "[Service]\nExecStart=/bin/true\n");
    unit("local-other@.service", "[Service]\nExecStart=/bin/true\n");
    unit("local-other@1.service", "[Service]\nExecStart=/bin/true\n");
    symlink("/dev/null", root.join("etc/systemd/system/local-masked.service")).unwrap();
    symlink("local-fs.service", root.join("etc/systemd/system/local-alias.service")).unwrap();
    let to = tempfile::tempdir().unwrap();
    let (code, said, complaints) = export(root, to.path());
    assert_eq!(code, 0, "{said}{complaints}");
    let patches: Vec<String> =
        files(to.path()).into_keys().filter(|name| name.starts_with("patch-")).collect();
    let expected = ["content", "doorman", "fs", "other-1", "slm", "worker"]
        .map(|name| format!("patch-local-{name}.yaml"));
    assert_eq!(patches, expected);
}

#[test]
fn files_of_others_stay_and_nothing_is_written_beside_them() {
    let machine = machine(&policy("packaged"));
    let out = tempfile::tempdir().unwrap();
    let to = out.path();
    let theirs = "# ours\n";
    fs::write(to.join("priority-classes.yaml"), theirs).unwrap();
    let (code, said, complaints) = export(machine.path(), to);
    assert_eq!((code, said.as_str()), (2, ""));
    assert!(complaints.contains("priority-classes.yaml is of no earlier export"), "{complaints}");
    assert_eq!(complaints.lines().count(), 1);
    assert_eq!(files(to), BTreeMap::from([("priority-classes.yaml".to_owned(), theirs.to_owned())]));
    // Nor through a link.
    fs::remove_file(to.join("priority-classes.yaml")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path().join("file"), to.join("priority-classes.yaml")).unwrap();
    assert_eq!(export(machine.path(), to).0, 2);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    fs::remove_file(to.join("priority-classes.yaml")).unwrap();
    // What is in nobody's way is left alone.
    fs::write(to.join("kustomization.yaml"), theirs).unwrap();
    assert_eq!(export(machine.path(), to).0, 0);
    assert_eq!(files(to)["kustomization.yaml"], theirs);
    assert_eq!(files(to).len(), files(&case("packaged").join("expected")).len() + 1);
}

#[test]
fn what_an_earlier_export_had_and_this_has_not_goes() {
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("k8s");
    assert_eq!(export(machine(&policy("packaged")).path(), &to).0, 0);
    let fewer = policy("packaged").replace("[service.local-slm]", "[service.other]");
    let (code, said, _) = export(machine(&fewer).path(), &to);
    assert_eq!(code, 0);
    assert!(said.contains("/patch-local-slm.yaml: removed, being of an earlier export"), "{said}");
    assert!(!to.join("patch-local-slm.yaml").exists());
    // A policy that nothing is left of for pods leaves nothing.
    assert_eq!(export(machine(&policy("nothing")).path(), &to).0, 0);
    assert_eq!(files(&to), BTreeMap::new());
}

#[test]
fn without_a_policy_nothing_is_exported() {
    let machine = machine("[slice.\"a.slice\"]\nmatch = 5\n");
    let out = tempfile::tempdir().unwrap();
    let to = out.path().join("k8s");
    let (code, said, complaints) = export(machine.path(), &to);
    assert_eq!((code, said.as_str()), (2, ""));
    assert!(
        complaints.contains("nothing is exported") && complaints.contains("policy.toml:2:"),
        "{complaints}"
    );
    assert!(!to.exists());
}

#[test]
fn the_size_of_a_node_is_that_of_an_export() {
    let machine = machine(&policy("packaged"));
    let (code, _, complaints) = fairslice(machine.path(), &["check", "--node-cpus", "4"]);
    assert_eq!(code, 2);
    assert!(complaints.contains("are for --export"), "{complaints}");
    for wrong in
        [["--node-cpus", "0"], ["--node-cpus", "x"], ["--node-memory", "50%"], ["--node-memory", "0"]]
    {
        let out = tempfile::tempdir().unwrap();
        let to = out.path().join("k8s");
        let arguments = ["export", "kubernetes", wrong[0], wrong[1], to.to_str().unwrap()];
        assert_eq!(fairslice(machine.path(), &arguments).0, 2, "{wrong:?}");
        assert!(!to.exists());
    }
}
