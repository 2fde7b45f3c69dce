//! Whole machines, captured and made by hand: what is wrong on each, without any policy, is found, and
//! nothing else.
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::{machine, replace, write};
use fairslice::doctor::finding::{Finding, Fix, sorted};
use fairslice::doctor::stock;
use fairslice::host::recorded::Recorded;
use fairslice::host::settings::Settings;
use fairslice::host::tree::Tree;
use fairslice::host::units::{Unit, Units};
use fairslice::host::{processes, v1};
use fairslice::policy::Policy;
use fairslice::survey::loaded_files;

fn found(root: &Path) -> Vec<Finding> {
    let units = Units::read(root).unwrap();
    let settings = Settings::read(root, &units);
    sorted(stock::findings(&Policy::default(), v1::read(root).as_ref(), &units, &settings, None))
}

/// Each as `CODE SUBJECT: WHAT (PLACE)`.
fn lines(root: &Path) -> Vec<String> {
    let place = |finding: &Finding| finding.at.as_ref().map(ToString::to_string).unwrap_or_default();
    let line = |f: &Finding| format!("{} {}: {} ({})", f.code, f.subject, f.what, place(f));
    found(root).iter().map(line).collect()
}

const ALL: [&str; 6] = ["debian-12", "debian-13", "fairslice", "kubernetes", "team", "ubuntu"];

#[test]
fn every_machine_is_read_whole() {
    let mut names: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machines"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ALL);
    for name in ALL {
        let machine = machine(name);
        let root = machine.path();
        let tree = Tree::read(root).unwrap();
        let units = Units::read(root).unwrap();
        assert!(tree.ids().count() > 15, "{name}");
        assert!(units.get("ssh.service").is_some_and(Unit::is_active), "{name}");
        let settings = Settings::read(root, &units);
        let ssh = units.get("ssh.service").unwrap();
        assert!(
            loaded_files("ssh.service", Some(ssh), &settings, Recorded::default())
                .holding("Restart")
                .is_some(),
            "{name}: the files of ssh.service are there"
        );
        let processes = processes::read(root).unwrap().all;
        assert!(processes.iter().any(|process| process.pid == 1), "{name}");
        // Each process is in a cgroup of the tree.
        for process in &processes {
            assert!(tree.find(&process.cgroup).is_some(), "{name}: {process:?}");
        }
    }
}

#[test]
fn debian_as_it_comes_has_nothing_wrong() {
    for name in ["debian-12", "debian-13", "fairslice"] {
        assert_eq!(lines(machine(name).path()), [""; 0], "{name}");
    }
}

#[test]
fn on_an_ubuntu_server_the_administrators_mistakes_are_found_and_nothing_else() {
    let machine = machine("ubuntu");
    let etc = "/etc/systemd/system";
    let expected = [
        format!(
            "FS033 ssh.service: OOMScoreAdjust=-1000: every login inherits it ({etc}/ssh.service.d/override.conf:3)"
        ),
        format!(
            "FS070 snap.lxd.daemon.service: CPUWeight= in [Slice] counts for nothing ({etc}/snap.lxd.daemon.service.d/override.conf:2)"
        ),
        format!(
            "FS070 snap.lxd.daemon.service: CPUWeigth=300 counts for nothing ({etc}/snap.lxd.daemon.service.d/override.conf:5)"
        ),
        format!(
            "FS070 user.slice: OOMScoreAdjust=300 counts for nothing ({etc}/user.slice.d/50-score.conf:2)"
        ),
        format!(
            "FS072 nginx.service: MemoryMax=512MB counts for nothing ({etc}/nginx.service.d/limits.conf:3)"
        ),
        format!("FS072 nginx.service: TasksMax=max counts for nothing ({etc}/nginx.service.d/limits.conf:4)"),
        format!(
            "FS072 postgresql@.service: Slice=databases counts for nothing ({etc}/postgresql@.service.d/score.conf:2)"
        ),
        format!(
            "FS073 mysqld.service: MemoryMin=256M is for a unit that there is not ({etc}/mysqld.service.d/memory.conf:2)"
        ),
        format!(
            "FS073 user-alice.slice: MemoryMax=1G is for a unit that there is not ({etc}/user-alice.slice.d/50-limits.conf:2)"
        ),
        format!(
            "FS074 postgresql@16-main.service: MemoryHigh=256M is no less than MemoryMax=256M ({etc}/postgresql@.service.d/score.conf:3)"
        ),
    ];
    assert_eq!(lines(machine.path()), expected);
}

#[test]
fn on_a_node_of_kubernetes_the_administrators_mistakes_are_found_and_nothing_else() {
    let machine = machine("kubernetes");
    let etc = "/etc/systemd/system";
    let expected = [
        format!(
            "FS070 system.slice: CPUWeight=, MemoryMin= in [Service] counts for nothing ({etc}/system.slice.d/reserved.conf:2)"
        ),
        format!("FS072 kube-reserved.slice: CPUWeight=0 counts for nothing ({etc}/kube-reserved.slice:5)"),
        format!(
            "FS072 kubelet.service: CPUQuota=2 counts for nothing ({etc}/kubelet.service.d/20-resources.conf:2)"
        ),
        format!(
            "FS071 containerd.service: MemoryLimit=4G will count for nothing ({etc}/containerd.service.d/memory.conf:2)"
        ),
        format!(
            "FS071 kubelet.service: CPUShares=2048 will count for nothing ({etc}/kubelet.service.d/20-resources.conf:3)"
        ),
        format!(
            "FS074 containerd.service: MemoryHigh=600M is above MemoryMax=512M ({etc}/containerd.service.d/memory.conf:3)"
        ),
    ];
    assert_eq!(lines(machine.path()), expected);
}

#[test]
fn what_is_right_is_no_mistake() {
    let machine = machine("debian-13");
    let root = machine.path();
    for (file, text) in [
        // A unit that is not loaded, an instance, an alias, a prefix, every service, a user by number.
        ("cron.service.d/a.conf", "[Service]\nCPUWeight=idle\nMemoryMax=1G512M\nOOMScoreAdjust=-1000\n"),
        ("getty@tty1.service.d/a.conf", "[Service]\nTasksMax=10%\n"),
        ("sshd.service.d/a.conf", "[Service]\nCPUWeight=50\n"),
        ("local-.service.d/a.conf", "[Service]\nSlice=%p.slice\n"),
        ("service.d/a.conf", "[Service]\nMemoryMax=\n"),
        ("user-1000.slice.d/a.conf", "[Slice]\nMemoryMax=50%\n"),
        ("foundry.slice.d/a.conf", "[Slice]\nCPUQuota=12.5%\n"),
        // Neither a limit nor a name like one, and a section of other programs.
        ("gone.service.d/a.conf", "[Unit]\nConditionPathExists=/x\n[Service]\nEnvironment=CPUWeigth=1\n"),
        ("cron.service.d/b.conf", "[X-Docs]\nCPUWeight=high\n[Service]\nNUMAPolicy=bind\nIPAccounting=yes\n"),
    ] {
        write(root, &format!("/etc/systemd/system/{file}"), text);
    }
    assert_eq!(lines(root), [""; 0]);
}

#[test]
fn a_score_of_a_slice_is_in_no_section_right() {
    let machine = machine("debian-13");
    write(
        machine.path(),
        "/etc/systemd/system/user.slice.d/a.conf",
        "[Service]\nOOMScoreAdjust=5\n[Slice]\nOOMPolicy=kill\n",
    );
    let lines = lines(machine.path());
    let expected = ["OOMPolicy=kill counts for nothing", "OOMScoreAdjust=5 counts for nothing"];
    assert!(
        lines.len() == 2 && lines.iter().zip(expected).all(|(line, what)| line.contains(what)),
        "{lines:?}"
    );
}

#[test]
fn what_no_unit_of_pid_1_has_is_looked_at_too() {
    let machine = machine("debian-13");
    let root = machine.path();
    let etc = "/etc/systemd/system";
    write(root, &format!("{etc}/tenant@.service"), "[Service]\nSlice=tenant@%i.slice\n");
    write(root, &format!("{etc}/backup.timer"), "[Timer]\nOnCalendar=daily\nMemoryMax=1G\n");
    write(root, &format!("{etc}/user.slice.d/a.conf"), "[Slice]\nCPUAffinity=0\n");
    let expected = [
        format!("FS070 backup.timer: MemoryMax= in [Timer] counts for nothing ({etc}/backup.timer:3)"),
        format!("FS070 user.slice: CPUAffinity=0 counts for nothing ({etc}/user.slice.d/a.conf:2)"),
        format!("FS072 tenant@.service: Slice=tenant@%i.slice counts for nothing ({etc}/tenant@.service:2)"),
    ];
    assert_eq!(lines(root), expected);
    let fix = &found(root)[1].fix;
    assert!(matches!(fix, Fix::Edit(text) if text.contains("AllowedCPUs=")), "{fix:?}");
}

#[test]
fn systemd_reads_a_file_up_to_a_line_that_is_not_utf_8_and_any_comment() {
    let machine = machine("debian-13");
    let root = machine.path();
    let etc = root.join("etc/systemd/system/cron.service.d");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("a.conf"), b"# Caf\xe9\n[Service]\nMemoryMax=lots\n").unwrap();
    let text = b"[Unit]\nDescription=Caf\xe9\n[Service]\nMemoryMax=lots\n";
    std::fs::write(etc.join("b.conf"), text).unwrap();
    let etc = "/etc/systemd/system/cron.service.d";
    let expected = [
        format!("FS072 cron.service: MemoryMax=lots counts for nothing ({etc}/a.conf:3)"),
        format!("FS075 cron.service: the file is not read to its end ({etc}/b.conf:2)"),
    ];
    assert_eq!(lines(root), expected);
}

/// systemd is asked as well: it names the line of each setting that it refuses or ignores.
#[test]
fn what_systemd_refuses_is_found_and_what_it_takes_is_not() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze on this machine");
        return;
    }
    let text = include_str!("settings.conf");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let units = "/etc/systemd/system";
    write(
        root,
        &format!("{units}/local-x.service"),
        "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/true\n",
    );
    write(root, &format!("{units}/local-x.service.d/a.conf"), text);
    write(root, "/run/systemd/show", "");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "local-x.service"])
        .env("SYSTEMD_UNIT_PATH", root.join("etc/systemd/system"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let line = |said: &str| said.split_once("a.conf:")?.1.split(':').next()?.parse().ok();
    let mut theirs: Vec<usize> = said.lines().filter_map(line).collect();
    // It names a section that it does not know; we name the first setting there.
    let section = text.lines().position(|line| line == "[Slice]").unwrap() + 1;
    theirs.iter_mut().filter(|line| **line == section).for_each(|line| *line += 1);
    let mut ours: Vec<usize> = found(root).iter().filter_map(|f| f.at.as_ref()?.line).collect();
    ours.sort_unstable();
    assert_eq!(ours, theirs, "{said}");
    assert!(theirs.len() > 15, "{said}");
}

#[test]
fn cgroup_v1_is_said_with_what_asked_for_it() {
    let machine = machine("debian-12");
    let root = machine.path();
    replace(root, "/proc/cmdline", "root=", "systemd.unified_cgroup_hierarchy=0 root=");
    replace(
        root,
        "/proc/mounts",
        "cgroup2 /sys/fs/cgroup cgroup2",
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2",
    );
    assert_eq!(
        lines(root),
        ["FS061 cgroup: cgroup v1 holds memory: cgroup2 has none of that (/proc/cmdline:1)"]
    );
}
