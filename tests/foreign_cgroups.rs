//! Cgroups and processes that a user has made to be missed, mistaken or waited for: each on a machine as it was
//! captured, in every command that looks at cgroups.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::write;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use serde_json::Value;
use tempfile::TempDir;

const MANAGER: &str = "user.slice/user-1001.slice/user@1001.service";
/// Every command that looks at the tree.
const COMMANDS: [&[&str]; 14] = [
    &["status"],
    &["status", "--json"],
    &["status", "--format=openmetrics"],
    &["status", "system.slice", "local-fs"],
    &["doctor"],
    &["doctor", "--json"],
    &["doctor", "--no-policy"],
    &["explain", "unit", "local-fs"],
    &["explain", "share"],
    &["explain", "share", "system.slice"],
    &["explain", "memory"],
    &["explain", "memory", "system.slice"],
    &["explain", "oom"],
    &["apply", "--dry-run"],
];

/// The machine with the package, and what `apply` asks PID 1.
fn machine() -> TempDir {
    let machine = common::machine("fairslice");
    write(machine.path(), "run/systemd/show-manager", "UnitsLoadTimestampMonotonic=1\n");
    machine
}

/// The exit code, stdout and stderr.
fn run(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairslice"));
    let output = command.arg("--root").arg(root).args(arguments).env("LANG", "C.UTF-8").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    // When it was looked says nothing of what was there.
    let times = ["  \"time\": ", "fairslice_look_timestamp_seconds "];
    let is_time = |line: &&str| times.iter().any(|time| line.starts_with(time));
    let stdout: String = text(output.stdout).split_inclusive('\n').filter(|line| !is_time(line)).collect();
    (output.status.code().unwrap(), stdout, text(output.stderr))
}

fn json(root: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = run(root, arguments);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"))
}

/// A cgroup in which something runs, with settings of its own.
fn cgroup(root: &Path, path: &Path) {
    let directory = root.join("sys/fs/cgroup").join(path);
    fs::create_dir_all(&directory).unwrap();
    for (name, value) in [
        ("cgroup.events", "populated 1"),
        ("cgroup.subtree_control", "cpu memory pids"),
        ("cgroup.procs", ""),
        ("cpu.weight", "7777"),
        ("cpu.max", "1000 100000"),
        ("pids.current", "1"),
        ("memory.current", "4096"),
        ("memory.min", "9000000000000"),
        ("memory.low", "9000000000000"),
        ("memory.high", "9000000000000"),
        ("memory.max", "9000000000000"),
        ("memory.swap.current", "0"),
        ("memory.swap.max", "max"),
        ("memory.oom.group", "1"),
    ] {
        fs::write(directory.join(name), format!("{value}\n")).unwrap();
    }
}

/// A process with these points, of the user's.
fn process(root: &Path, pid: u32, name: &[u8], cgroup: &[u8], points: u16) {
    let own = root.join("proc").join(pid.to_string());
    fs::create_dir_all(&own).unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit_once(')').unwrap().1.splitn(4, ' ').nth(3).unwrap().to_owned();
    fs::write(
        own.join("stat"),
        [pid.to_string().as_bytes(), b" (", name, b") S 1 ", rest.as_bytes()].concat(),
    )
    .unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = |line: &str| match line.split_once(':') {
        Some(("VmRSS", _)) => "VmRSS:\t90000000 kB\n".to_owned(),
        _ => format!("{line}\n"),
    };
    fs::write(own.join("status"), status.lines().map(resident).collect::<String>()).unwrap();
    fs::write(own.join("cgroup"), [b"0::/", cgroup, b"\n"].concat()).unwrap();
    fs::write(own.join("oom_score_adj"), "1000\n").unwrap();
    fs::write(own.join("oom_score"), format!("{points}\n")).unwrap();
}

#[test]
fn what_a_user_calls_like_a_unit_is_none() {
    let machine = machine();
    let root = machine.path();
    let before = COMMANDS.map(|arguments| run(root, arguments));
    let manager = Path::new(MANAGER);
    for made in [
        "system.slice",
        "system.slice/ssh.service",
        "local-fs.service",
        "foundry.slice/foundry-services.slice/local-fs.service",
        "local-fs-77.scope",
        "user.slice/user-0.slice",
        "-.slice",
    ] {
        cgroup(root, &manager.join(made));
    }
    for (arguments, before) in COMMANDS.iter().zip(before) {
        let after = run(root, arguments);
        if *arguments != ["explain", "memory"] {
            assert_eq!(after, before, "{arguments:?}");
            continue;
        }
        // What is theirs is there, by its path; what was there is as it was.
        let named = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with(|c: char| c != ' ' && c != '/'));
            lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(named(&after.1), named(&before.1));
        assert!(after.1.contains(&format!("\n/{MANAGER}/system.slice/ssh.service ")), "{}", after.1);
    }
    // By its path it is found, and called so; by name it is not.
    let (code, out, _) = run(root, &["explain", "share", &format!("/{MANAGER}/local-fs.service")]);
    assert!(code == 0 && out.starts_with(&format!("/{MANAGER}/local-fs.service: ")), "{out}");
    let (code, _, err) = run(root, &["explain", "share", "local-fs-77.scope"]);
    assert_eq!(code, 2);
    assert!(err.contains(&format!("of that name there is /{MANAGER}/local-fs-77.scope")), "{err}");
}

#[test]
fn a_service_that_does_not_run_is_not_what_a_user_calls_so() {
    let machine = machine();
    let root = machine.path();
    fs::remove_dir_all(root.join("sys/fs/cgroup/foundry.slice/foundry-services.slice/local-fs.service"))
        .unwrap();
    cgroup(root, &Path::new(MANAGER).join("local-fs.service"));
    process(root, 7777, b"hog", format!("{MANAGER}/local-fs.service").as_bytes(), 2000);
    let (_, out, err) = run(root, &["status", "local-fs"]);
    assert!(out.starts_with("local-fs.service: inactive\n"), "{out}{err}");
    let oom = json(root, &["explain", "oom", "--json"]);
    assert_eq!(
        (&oom["victims"][0]["pid"], &oom["victims"][0]["unit"]),
        (&7777.into(), &"user@1001.service".into())
    );
    assert!(run(root, &["explain", "oom", "--of", "local-fs"]).0 == 2);
}

#[test]
fn no_name_hides_a_process_or_a_cgroup() {
    let machine = machine();
    let root = machine.path();
    for (pid, name) in [(7001, &b"\xff"[..]), (7002, b"a\x1b[2J\r"), (7003, b"b (deleted)")] {
        let path = PathBuf::from(OsStr::from_bytes(&[MANAGER.as_bytes(), b"/", name].concat()));
        cgroup(root, &path);
        fs::write(root.join("sys/fs/cgroup").join(&path).join("cgroup.procs"), format!("{pid}\n")).unwrap();
        process(root, pid, b"\xff) \n\x1b]0;\x07", path.as_os_str().as_bytes(), 1900);
    }
    let oom = json(root, &["explain", "oom", "--json"]);
    let mut first: Vec<u64> = oom["victims"].as_array().unwrap()[..3]
        .iter()
        .map(|victim| victim["pid"].as_u64().unwrap())
        .collect();
    first.sort_unstable();
    assert_eq!(first, [7001, 7002, 7003], "{oom:#}");
    assert_eq!(oom["victims"][0]["process"], serde_json::json!(b"\xff) \n\x1b]0;\x07".to_vec()));
    let (_, out, err) = run(root, &["explain", "oom"]);
    assert!(out.contains(r"\xff) \n\x1b]0;\x07"), "{out}");
    assert_eq!(err, "");
    let (_, out, _) = run(root, &["explain", "memory"]);
    assert!(out.contains(&format!(r"/{MANAGER}/\xff")) && out.contains(r"/a\x1b[2J\r"), "{out}");
    let memory = json(root, &["explain", "memory", "--json"]);
    let path = [b"/", MANAGER.as_bytes(), b"/\xff"].concat();
    let cgroups = memory["cgroups"].as_array().unwrap();
    assert!(cgroups.iter().any(|cgroup| cgroup["cgroup"] == serde_json::json!(path)), "{memory:#}");
    let status = json(root, &["status", "--json"]);
    let user =
        status["cgroups"].as_array().unwrap().iter().find(|one| one["unit"] == "user-1001.slice").unwrap();
    assert_eq!(user["oom"]["score"], 1900);
}

/// Nests cgroups, each of that name, and gives the deepest.
fn nest(root: &Path, top: &str, name: &str, levels: usize) -> File {
    let mut directory = File::open(root.join("sys/fs/cgroup").join(top)).unwrap();
    for _ in 0..levels {
        mkdirat(&directory, name, Mode::RWXU).unwrap();
        directory =
            File::from(openat(&directory, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap());
    }
    directory
}

/// [`nest`] is undone by nothing that takes paths.
fn unnest(root: &Path, top: &str, name: &str) {
    let moved = root.join("moved");
    let top = root.join("sys/fs/cgroup").join(top).join(name);
    loop {
        let below = top.join(name);
        if !below.exists() {
            return fs::remove_dir_all(&top).unwrap();
        }
        fs::rename(&below, &moved).unwrap();
        fs::remove_dir_all(&top).unwrap();
        fs::rename(&moved, &top).unwrap();
    }
}

#[test]
fn what_is_too_deep_is_counted_and_said_and_costs_little() {
    for (name, levels) in [("n", 2600), (&"n".repeat(250), 40)] {
        let machine = machine();
        let root = machine.path();
        let deepest = nest(root, MANAGER, name, levels);
        let file = openat(&deepest, "cgroup.procs", OFlags::WRONLY | OFlags::CREATE, Mode::RWXU).unwrap();
        rustix::io::write(&file, b"7777\n").unwrap();
        let stat = format!("nr_descendants {}\nnr_dying_descendants 0\n", levels + 3);
        write(root, &format!("sys/fs/cgroup/{MANAGER}/cgroup.stat"), &stat);
        // As the kernel says it, which is not all of it.
        let path = format!("/{MANAGER}/{}", format!("{name}/").repeat(levels));
        process(root, 7777, b"hog", &path.as_bytes()[1..path.len().min(4095)], 1900);
        let left = levels - 32;
        for arguments in COMMANDS {
            let began = Instant::now();
            let (code, out, err) = run(root, arguments);
            assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", began.elapsed());
            assert!(code < 2, "{arguments:?}: {out}{err}");
            let said = format!("not looked at: {} more cgroups in /{MANAGER} (32 levels", thousands(left));
            let says = !matches!(arguments, ["apply", ..] | ["explain", "unit", ..]);
            assert_eq!(err.contains(&said), says, "{arguments:?}: {err}");
        }
        let status = json(root, &["status", "--json"]);
        assert!(status["missed"][0].as_str().unwrap().contains("more cgroups in"), "{status:#}");
        for unit in ["user-1001.slice", "user@1001.service"] {
            let of = status["cgroups"].as_array().unwrap().iter().find(|one| one["unit"] == unit).unwrap();
            assert_eq!(of["oom"], serde_json::json!({ "score": 1900, "rank": 1 }), "{unit}");
        }
        assert_eq!(json(root, &["explain", "oom", "--json"])["victims"][0]["pid"], 7777);
        unnest(root, MANAGER, name);
    }
}

fn thousands(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

#[test]
fn what_is_too_much_is_counted_and_said() {
    let machine = machine();
    let root = machine.path();
    let manager = root.join("sys/fs/cgroup").join(MANAGER);
    for number in 0..10_050 {
        fs::create_dir(manager.join(format!("n{number}"))).unwrap();
    }
    write(root, &format!("sys/fs/cgroup/{MANAGER}/cgroup.stat"), "nr_descendants 10053\n");
    let (code, out, err) = run(root, &["status"]);
    assert!(code == 0 && out.contains("user-1001.slice"), "{out}{err}");
    let said = format!("not looked at: 53 more cgroups in /{MANAGER} (32 levels and 10,000 of them");
    assert!(err.contains(&said), "{err}");
}

#[test]
fn what_cannot_be_read_is_counted_and_said() {
    let machine = machine();
    let root = machine.path();
    // In the place of what this user may not look at: root may look at everything.
    let manager = root.join("sys/fs/cgroup").join(MANAGER);
    fs::create_dir(manager.join("closed")).unwrap();
    symlink("cgroup.events", manager.join("closed/cgroup.events")).unwrap();
    for (pid, file) in
        [(7001, "status"), (7002, "status"), (7003, "status"), (7004, "status"), (7005, "oom_score")]
    {
        process(root, pid, b"x", MANAGER.as_bytes(), 5);
        fs::remove_file(root.join(format!("proc/{pid}/{file}"))).unwrap();
        fs::create_dir(root.join(format!("proc/{pid}/{file}"))).unwrap();
    }
    let cgroup = format!("1 cgroup: /{MANAGER}/closed (Too many levels of symbolic links (os error 40))");
    for arguments in [&["doctor"][..], &["explain", "oom"]] {
        let (_, _, err) = run(root, arguments);
        let first = format!("5 processes: 7001 (reading {}/proc/7001/status: ", root.display());
        assert!(err.contains(&first) && err.contains("7003 (") && !err.contains("7004 ("), "{err}");
        assert!(err.contains("and 2 more\n") && err.contains(&cgroup), "{err}");
        let missed = json(root, &[arguments, &["--json"]].concat())["missed"].clone();
        assert_eq!(missed.as_array().unwrap().len(), 2, "{missed}");
    }
    for arguments in [&["explain", "share"][..], &["explain", "memory"]] {
        assert!(run(root, arguments).2.contains(&cgroup));
        assert_eq!(json(root, &[arguments, &["--json"]].concat())["missed"].as_array().unwrap().len(), 1);
    }
    let (_, _, err) = run(root, &["status"]);
    assert!(
        err.contains("1 process: 7005 (reading /proc/7005/oom_score: ") && err.contains(&cgroup),
        "{err}"
    );
    assert_eq!(json(root, &["status", "--json"])["missed"].as_array().unwrap().len(), 2);
}
