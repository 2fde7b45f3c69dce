//! `fairslice apply` on a tree of its own, with a thread that does what PID 1 does: it runs the generator,
//! reads drop-ins, and writes cgroups when it is asked to.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

mod common;
mod schema;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use common::write;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use schema::Schema;
use serde_json::Value;
use tempfile::TempDir;
use zvariant::Value as Variant;
use zvariant::serialized::{Context, Data};
use zvariant::{LE, NATIVE_ENDIAN, to_bytes};

type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);
type Properties<'a> = (&'a str, bool, Vec<(&'a str, Variant<'a>)>);

const SERVICES: &str = "foundry.slice/foundry-services.slice";
const BEFORE: &str = r#"
[slice."foundry-services.slice"]
match = ["local-*"]
cpu_weight = 200
memory_high = "1G"
[service.local-fs]
oom_score_adj = -500
[logins]
cpu_weight = 100
total_weight = 100
"#;
/// Another weight and score, a limit less, and root's slice at login.
const AFTER: &str = r#"
[slice."foundry-services.slice"]
match = ["local-*"]
cpu_weight = 222
[service.local-fs]
oom_score_adj = -400
[logins]
cpu_weight = 150
total_weight = 100
[logins.user.root]
tasks_max = 512
"#;

/// The cgroups and what PID 1 may write of them.
const CGROUPS: [(&str, &[&str]); 7] = [
    ("foundry.slice", &["cpu.weight", "memory.high"]),
    (SERVICES, &["cpu.weight", "memory.high"]),
    ("foundry.slice/foundry-services.slice/local-fs.service", &["cpu.weight"]),
    ("foundry.slice/foundry-services.slice/local-slm.service", &["cpu.weight"]),
    ("system.slice", &["cpu.weight"]),
    ("user.slice", &["cpu.weight", "memory.high"]),
    ("user.slice/user-0.slice", &["cpu.weight", "pids.max"]),
];
/// Attribute, property, and what there is where nothing is set.
const ATTRIBUTES: [(&str, &str, &str); 3] = [
    ("cpu.weight", "CPUWeight", "100"),
    ("memory.high", "MemoryHigh", "max"),
    ("pids.max", "TasksMax", "max"),
];

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap().trim_end().to_owned()
}

/// The status of every process: what is read of it are sizes.
static STATUS: LazyLock<String> = LazyLock::new(|| fs::read_to_string("/proc/self/status").unwrap());

/// A process as /proc has it.
fn process(root: &Path, pid: u32, parent: u32, cgroup: &str, score: i32) {
    let mut fields = vec!["1".to_owned(); 50];
    (fields[0], fields[1], fields[19]) = ("S".to_owned(), parent.to_string(), (pid * 100).to_string());
    write(root, &format!("proc/{pid}/stat"), &format!("{pid} (local) {}\n", fields.join(" ")));
    write(root, &format!("proc/{pid}/status"), &STATUS);
    write(root, &format!("proc/{pid}/oom_score"), "700\n");
    write(root, &format!("proc/{pid}/oom_score_adj"), &format!("{score}\n"));
    write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
    let procs = format!("sys/fs/cgroup/{cgroup}/cgroup.procs");
    let others = fs::read_to_string(root.join(&procs)).unwrap_or_default();
    write(root, &procs, &format!("{others}{pid}\n"));
}

/// What the thread that stands for PID 1 was asked, and at which question it kills whoever asks.
#[derive(Default)]
struct Asked {
    calls: Vec<String>,
    /// The call's number, counted from 1, and whether it is done before.
    kill_at: Option<(usize, bool)>,
}

struct Machine {
    root: TempDir,
    asked: Arc<Mutex<Asked>>,
}

impl Machine {
    /// Everything is as BEFORE says.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "etc/fairslice/policy.toml", BEFORE);
        write(root, "proc/meminfo", "MemTotal:        2097152 kB\n");
        write(root, "sys/devices/system/cpu/online", "0-1\n");
        write(root, "usr/lib/systemd/system-generators/fairslice-generator", "");
        write(root, "proc/self/cgroup", "0::/user.slice/user-0.slice/session-1.scope\n");
        write(root, "run/systemd/show-manager", "UnitsLoadTimestampMonotonic=5000000\n");
        fs::create_dir_all(root.join("run/systemd/system")).unwrap();
        write(root, "sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        write(root, "sys/fs/cgroup/cgroup.subtree_control", "cpu io memory pids\n");
        for unit in ["local-fs", "local-slm"] {
            write(root, &format!("etc/systemd/system/{unit}.service"), "[Service]\nExecStart=/bin/true\n");
        }
        for (cgroup, _) in CGROUPS {
            write(root, &format!("sys/fs/cgroup/{cgroup}/cgroup.procs"), "");
            write(root, &format!("sys/fs/cgroup/{cgroup}/cgroup.controllers"), "cpu memory pids\n");
            write(root, &format!("sys/fs/cgroup/{cgroup}/cgroup.subtree_control"), "cpu memory pids\n");
        }
        let fs_service = format!("{SERVICES}/local-fs.service");
        process(root, 10, 1, &fs_service, -500);
        process(root, 11, 10, &fs_service, -500);
        process(root, 12, 10, &fs_service, 300);
        process(root, 20, 1, &format!("{SERVICES}/local-slm.service"), 0);
        process(root, 30, 1, "user.slice/user-0.slice/session-1.scope", 0);
        reload(root);
        write_all(root);
        let asked = Arc::new(Mutex::new(Asked::default()));
        let listener = UnixListener::bind(root.join("run/systemd/private")).unwrap();
        let (path, log) = (root.to_owned(), Arc::clone(&asked));
        thread::spawn(move || {
            for peer in listener.incoming() {
                serve(&path, &log, peer.unwrap());
            }
        });
        Self { root: directory, asked }
    }

    fn path(&self) -> &Path {
        self.root.path()
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        self.fairslice("apply", arguments)
    }

    fn command(&self, command: &str) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_fairslice"));
        program.arg("--root").arg(self.path()).arg(command);
        program
    }

    fn fairslice(&self, command: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(command).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(output.status.code().is_some() || output.status.signal() == Some(9));
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// What was asked since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap().calls)
    }

    fn edit(&self, policy: &str) {
        write(self.path(), "etc/fairslice/policy.toml", policy);
    }

    fn live(&self, path: &str) -> String {
        read(self.path(), &format!("sys/fs/cgroup/{path}"))
    }

    /// Everything but the lock: every file with its text, and with `times` when it was written.
    fn files(&self, times: bool) -> BTreeMap<PathBuf, (String, u128)> {
        let mut found = BTreeMap::new();
        let mut directories = vec![self.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
                if kind.is_dir() {
                    directories.push(path);
                } else if kind.is_file() && !path.ends_with("lock/held") && !path.ends_with("policy.compiled")
                {
                    let written = path.metadata().unwrap().modified().unwrap();
                    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
                    let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                    found.insert(
                        path.strip_prefix(self.path()).unwrap().to_owned(),
                        (text, if times { written } else { 0 }),
                    );
                }
            }
        }
        found
    }
}

fn unit_of(cgroup: &str) -> &str {
    cgroup.rsplit('/').next().unwrap()
}

fn cgroup_of(unit: &str) -> &'static str {
    CGROUPS.iter().map(|(cgroup, _)| *cgroup).find(|cgroup| unit_of(cgroup) == unit).unwrap()
}

/// `daemon-reload`: generators, then the drop-ins into what `systemctl show` prints.
fn reload(root: &Path) {
    let generated = root.join("run/systemd/generator");
    let next = root.join("run/systemd/generator.next");
    fs::create_dir_all(&next).unwrap();
    if !root.join("run/systemd/system-generators/fairslice-generator").is_symlink() {
        let generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"))
            .arg("--root")
            .args([root, &next])
            .status()
            .unwrap();
        assert!(generator.success());
    }
    // Whoever asks PID 1 meanwhile is answered afterwards.
    let _ = fs::remove_dir_all(&generated);
    show(root, "run/systemd/generator.next");
    fs::rename(next, generated).unwrap();
}

fn show(root: &Path, generated: &str) {
    let mut text = String::new();
    for (cgroup, _) in CGROUPS {
        let unit = unit_of(cgroup);
        let main = if unit == "local-fs.service" { 10 } else { 20 };
        write!(text, "Id={unit}\nActiveState=active\nControlGroup=/{cgroup}\nMainPID={main}\n").unwrap();
        writeln!(text, "ExecMainStartTimestampMonotonic=1000000").unwrap();
        for (key, value) in settings(root, unit, generated) {
            writeln!(text, "{key}={value}").unwrap();
        }
        let files: Vec<String> = drop_ins(root, unit, generated)
            .iter()
            .map(|file| format!("/{}", file.strip_prefix(root).unwrap().display()))
            .collect();
        writeln!(text, "DropInPaths={}\n", files.join(" ").replace("generator.next", "generator")).unwrap();
    }
    write(root, "run/systemd/show", &text);
}

/// The drop-ins of a unit, in the order of their names.
fn drop_ins(root: &Path, unit: &str, generated: &str) -> Vec<PathBuf> {
    let mut files = BTreeMap::new();
    for directory in
        [generated, "etc/systemd/system", "run/systemd/system.control", "etc/systemd/system.control"]
    {
        for of in ["user-.slice", "local-.service", unit] {
            let (prefix, kind) = of.split_once('.').unwrap();
            if !unit.starts_with(prefix) || !unit.ends_with(kind) {
                continue;
            }
            for file in fs::read_dir(root.join(directory).join(format!("{of}.d"))).into_iter().flatten() {
                let file = file.unwrap();
                files.insert(file.file_name(), file.path());
            }
        }
    }
    files.into_values().collect()
}

/// What the drop-ins of a unit come to.
fn settings(root: &Path, unit: &str, generated: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for file in drop_ins(root, unit, generated) {
        for line in fs::read_to_string(file).unwrap().lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=') {
                settings.insert(key.to_owned(), value.replace("1G", "1073741824"));
            }
        }
    }
    settings
}

fn write_cgroup(root: &Path, unit: &str) {
    let text = read(root, "run/systemd/show");
    let block = text.split("\n\n").find(|block| block.starts_with(&format!("Id={unit}\n"))).unwrap();
    let (cgroup, written) = CGROUPS.iter().find(|(cgroup, _)| unit_of(cgroup) == unit).unwrap();
    for (attribute, property, unset) in ATTRIBUTES {
        let value = block.lines().find_map(|line| line.strip_prefix(property)?.strip_prefix('='));
        if written.contains(&attribute) {
            write(
                root,
                &format!("sys/fs/cgroup/{cgroup}/{attribute}"),
                &format!("{}\n", value.unwrap_or(unset).replace("infinity", "max")),
            );
        }
    }
}

/// As the first start of a unit after a reload does.
fn write_all(root: &Path) {
    for (cgroup, _) in CGROUPS {
        write_cgroup(root, unit_of(cgroup));
    }
}

/// One connection, until the other end hangs up.
fn serve(root: &Path, asked: &Mutex<Asked>, mut peer: UnixStream) {
    let client = getsockopt(&peer.as_fd(), PeerCredentials).unwrap().pid();
    let mut line = Vec::new();
    while !line.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    peer.write_all(b"OK 00000000000000000000000000000000\r\n").unwrap();
    let mut serial = 0;
    loop {
        let mut message = vec![0; 16];
        if peer.read_exact(&mut message).is_err() {
            return;
        }
        let number = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
        let rest = number(12).next_multiple_of(8) + number(4);
        message.resize(16 + usize::try_from(rest).unwrap(), 0);
        peer.read_exact(&mut message[16..]).unwrap();
        serial += 1;
        let kill_at = {
            let asked = asked.lock().unwrap();
            asked.kill_at.filter(|(number, _)| *number == asked.calls.len() + 1)
        };
        let kill = || kill(Pid::from_raw(client), Signal::SIGKILL).unwrap();
        if kill_at == Some((asked.lock().unwrap().calls.len() + 1, false)) {
            asked.lock().unwrap().calls.push("killed".to_owned());
            return kill();
        }
        let said = answer(root, &message);
        asked.lock().unwrap().calls.push(said);
        if kill_at.is_some() {
            return kill();
        }
        let header: Header<'_> = (b'l', 2, 1, 1, 0, 42, vec![(5, Variant::U32(serial))]);
        let mut reply = to_bytes(Context::new_dbus(LE, 0), &header).unwrap().bytes().to_vec();
        reply.resize(reply.len().next_multiple_of(8), 0);
        if peer.write_all(&reply).is_err() {
            return;
        }
    }
}

/// Does what a call asks for, and says what that was.
fn answer(root: &Path, message: &[u8]) -> String {
    let data = Data::new(message, Context::new_dbus(NATIVE_ENDIAN, 0));
    let (header, end): (Header<'_>, usize) = data.deserialize().unwrap();
    let member = header.6.iter().find_map(|(code, value)| match value {
        Variant::Str(text) if *code == 3 => Some(text.to_string()),
        _ => None,
    });
    match member.unwrap().as_str() {
        "Reload" => {
            reload(root);
            "reload".to_owned()
        }
        "SetUnitProperties" => {
            let body = Data::new(&message[end.next_multiple_of(8)..], Context::new_dbus(NATIVE_ENDIAN, 0));
            let ((unit, _, properties), _): (Properties<'_>, usize) = body.deserialize().unwrap();
            let mut said = unit.to_owned();
            for (name, value) in properties {
                if name == "Markers" {
                    assert_eq!(value, Variant::from(Vec::<&str>::new()));
                    continue;
                }
                let Variant::U64(value) = value else { panic!("{value:?}") };
                write!(said, " {name}={value}").unwrap();
                let file = format!("run/systemd/system.control/{unit}.d/50-{name}.conf");
                let value = if value == u64::MAX { "infinity".to_owned() } else { value.to_string() };
                write(root, &file, &format!("[Slice]\n{name}={value}\n"));
                show(root, "run/systemd/generator");
            }
            write_cgroup(root, unit);
            assert!(cgroup_of(unit).ends_with(unit));
            said
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_machine_as_declared_is_left_alone() {
    let machine = Machine::new();
    let before = machine.files(true);
    let (code, out, err) = machine.run(&[]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            Some(0),
            "nothing to change\nworth knowing\n  local-fs.service: oom_score_adj: 1 process has 300, set by the service or by hand\n",
            ""
        )
    );
    assert_eq!(machine.calls(), [""; 0]);
    assert_eq!(machine.files(true), before);
}

const PLAN: &str = "\
systemd
  daemon-reload: the policy comes to other drop-ins for foundry-services.slice, foundry.slice, local-fs.service, user-.slice
logins
  the next ones get what the policy declares now
foundry.slice
  cpu_weight     200 -> 222           (daemon-reload)
foundry-services.slice
  cpu_weight     200 -> 222           (daemon-reload)
  memory_high    1073741824 -> unset  (daemon-reload)
local-fs.service
  oom_score_adj  -500 -> -400         (2 processes)
user-0.slice (root)
  cpu_weight     100 -> 150           (daemon-reload)
  tasks_max      max -> 512           (systemd, until the next boot)
worth knowing
  local-fs.service: oom_score_adj: 1 process has 300, set by the service or by hand
";

#[test]
fn what_will_change_is_shown_and_a_dry_run_changes_nothing() {
    let machine = Machine::new();
    machine.edit(AFTER);
    let before = machine.files(true);
    let (code, out, err) = machine.run(&["--dry-run"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, PLAN);
    let (_, json, _) = machine.run(&["--dry-run", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["units"][0]["changes"][0]["how"], "reload");
    assert_eq!(machine.calls(), [""; 0]);
    assert_eq!(machine.files(true), before);
}

/// What AFTER comes to.
fn check(machine: &Machine) {
    for (file, value) in [
        ("foundry.slice/cpu.weight", "222"),
        ("foundry.slice/foundry-services.slice/cpu.weight", "222"),
        ("foundry.slice/foundry-services.slice/memory.high", "max"),
        ("user.slice/user-0.slice/cpu.weight", "150"),
        ("user.slice/user-0.slice/pids.max", "512"),
    ] {
        assert_eq!(machine.live(file), value, "{file}");
    }
    let scores = [10, 11, 12, 20].map(|pid| read(machine.path(), &format!("proc/{pid}/oom_score_adj")));
    assert_eq!(scores, ["-400", "-400", "300", "0"]);
}

#[test]
fn an_edit_is_in_force_and_no_override_is_left() {
    let machine = Machine::new();
    machine.edit(AFTER);
    let (code, out, err) = machine.run(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    check(&machine);
    let calls = machine.calls();
    assert_eq!(calls[0], "reload");
    assert_eq!(calls.last().unwrap(), "user-0.slice TasksMax=512");
    // What the rule of one user says, and nothing else.
    let control = fs::read_dir(machine.path().join("run/systemd/system.control")).unwrap();
    assert_eq!(control.count(), 1);
    let before = machine.files(true);
    assert!(machine.run(&[]).1.starts_with("nothing to change\n"));
    assert_eq!(machine.calls(), [""; 0]);
    assert_eq!(machine.files(true), before);
    reload(machine.path());
    write_all(machine.path());
    check(&machine);
}

#[test]
fn what_a_rule_no_longer_says_is_taken_back() {
    let machine = Machine::new();
    machine.edit(AFTER);
    machine.run(&[]);
    machine.edit(BEFORE);
    let (code, out, _) = machine.run(&[]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("  tasks_max      512 -> unset"), "{out}");
    assert_eq!(machine.live("user.slice/user-0.slice/pids.max"), "max");
    assert!(!machine.path().join("run/systemd/system.control/user-0.slice.d").exists());
    assert_eq!(read(machine.path(), "run/fairslice/properties/user-0.slice"), "TasksMax=512\n-TasksMax");
    assert!(machine.run(&[]).1.starts_with("nothing to change\n"));
}

#[test]
fn what_all_logins_have_together_is_set_and_taken_back() {
    let machine = Machine::new();
    machine.edit(&format!("{BEFORE}total_memory_high = \"1G\"\n"));
    let (code, out, err) = machine.run(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("user.slice\n  total_memory_high  max -> 1G  (daemon-reload)\n"), "{out}");
    assert_eq!(machine.live("user.slice/memory.high"), "1073741824");
    assert!(machine.run(&[]).1.starts_with("nothing to change\n"));
    let file = "etc/systemd/system/user.slice.d/90-more.conf";
    write(machine.path(), file, "[Slice]\nMemoryHigh=7\n");
    reload(machine.path());
    write_all(machine.path());
    let (code, out, _) = machine.run(&[]);
    let left = format!("user.slice: total_memory_high: 7, declared 1G: /{file}:2 sets MemoryHigh=7");
    assert_eq!((code, out.contains(&left)), (Some(1), true), "{out}");
    fs::remove_file(machine.path().join(file)).unwrap();
    machine.edit(BEFORE);
    assert!(machine.run(&[]).1.contains("  total_memory_high  7 -> unset"));
    assert_eq!(machine.live("user.slice/memory.high"), "max");
}

/// A process has it from its start: PID 1 knows it after the reload, and nothing else changes.
#[test]
fn what_a_process_has_from_its_start_waits_for_a_restart() {
    let machine = Machine::new();
    machine.edit(&BEFORE.replace("oom_score_adj = -500", "oom_score_adj = -500\nnice = 5"));
    for _ in 0..2 {
        let (code, out, err) = machine.run(&[]);
        assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
        assert!(out.contains("local-fs.service: nice is 1, declared 5"), "{out}");
    }
    assert_eq!(machine.calls().iter().filter(|call| *call == "reload").count(), 1);
    let stat = read(machine.path(), "proc/10/stat");
    let (name, rest) = stat.split_once(')').unwrap();
    let mut fields: Vec<&str> = rest.split_whitespace().collect();
    fields[16] = "5";
    write(machine.path(), "proc/10/stat", &format!("{name}) {}\n", fields.join(" ")));
    assert!(machine.run(&[]).1.starts_with("nothing to change\n"));
}

#[test]
fn a_comment_in_the_policy_changes_nothing() {
    let machine = Machine::new();
    machine.edit(&format!("# why\n\n{BEFORE}"));
    let (code, out, _) = machine.run(&[]);
    assert_eq!((code, machine.calls()), (Some(0), Vec::new()), "{out}");
    assert!(out.starts_with("nothing to change\n"), "{out}");
}

#[test]
fn what_holds_without_the_policy_is_said() {
    let machine = Machine::new();
    write(
        machine.path(),
        "etc/systemd/system/foundry-services.slice.d/30-own.conf",
        "[Slice]\nMemoryHigh=536870912\n",
    );
    machine.edit(AFTER);
    let (_, out, _) = machine.run(&[]);
    let expected = "  memory_high    1073741824 -> 536870912  (daemon-reload, then /etc/systemd/system/foundry-services.slice.d/30-own.conf:2)";
    assert!(out.contains(expected), "{out}");
    assert_eq!(machine.live(&format!("{SERVICES}/memory.high")), "536870912");
}

#[test]
fn what_stays_the_same_without_the_policy_is_no_change() {
    let machine = Machine::new();
    let own = "etc/systemd/system/foundry-services.slice.d/30-own.conf";
    write(machine.path(), own, "[Slice]\nMemoryHigh=1073741824\n");
    machine.edit(AFTER);
    let (_, out, _) = machine.run(&[]);
    assert!(out.contains("daemon-reload") && !out.contains("memory_high"), "{out}");
    assert_eq!(machine.live(&format!("{SERVICES}/memory.high")), "1073741824");
}

#[test]
fn a_weight_of_all_logins_that_the_administrator_set_is_left() {
    for directory in ["run/systemd/system.control", "etc/systemd/system.control"] {
        let machine = Machine::new();
        machine.edit(
            &BEFORE
                .replace("total_weight = 100", "total_weight = \"sum\"")
                .replace("cpu_weight = 100", "cpu_weight = 300"),
        );
        machine.run(&[]);
        assert_eq!(machine.live("user.slice/cpu.weight"), "300");
        write(
            machine.path(),
            &format!("{directory}/user.slice.d/50-CPUWeight.conf"),
            "[Slice]\nCPUWeight=50\n",
        );
        reload(machine.path());
        write_all(machine.path());
        machine.calls();
        let said = format!(
            "user.slice: cpu_weight: 50, declared 300: /{directory}/user.slice.d/50-CPUWeight.conf:2 sets CPUWeight=50"
        );
        let (code, out, _) = machine.run(&[]);
        assert!(code == Some(1) && out.contains(&said), "{out}");
        let (code, out, _) = machine.run(&["--logins"]);
        let left = format!(
            "user.slice: cpu_weight 50 left, declared 300: /{directory}/user.slice.d/50-CPUWeight.conf:2 sets CPUWeight=50\n"
        );
        assert_eq!((code, out), (Some(0), left));
        assert_eq!(machine.live("user.slice/cpu.weight"), "50");
        let (_, status, _) = machine.fairslice("doctor", &[]);
        assert!(
            status.contains("FS012")
                && status.contains(&format!("/{directory}/user.slice.d/50-CPUWeight.conf")),
            "{status}"
        );
    }
}

#[test]
fn a_removal_takes_all_of_it_back_at_once() {
    let machine = Machine::new();
    machine.edit(&format!("{AFTER}\n[service.local-slm]\ncpu_weight = 70\n"));
    machine.run(&[]);
    assert_eq!(machine.live(&format!("{SERVICES}/local-slm.service/cpu.weight")), "70");
    let (code, out, err) = machine.fairslice("withdraw", &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", ""));
    for (cgroup, attributes) in CGROUPS {
        for attribute in attributes {
            let unset = ATTRIBUTES.iter().find(|(known, ..)| known == attribute).unwrap().2;
            assert_eq!(machine.live(&format!("{cgroup}/{attribute}")), unset, "{cgroup}/{attribute}");
        }
    }
    assert!(!machine.path().join("run/systemd/system.control/user-0.slice.d").exists());
    assert!(machine.path().join("etc/fairslice/policy.toml").exists());
}

#[test]
fn what_was_reloaded_and_not_written_is_written() {
    let machine = Machine::new();
    machine.edit(AFTER);
    reload(machine.path());
    assert_eq!(machine.live("foundry.slice/cpu.weight"), "200");
    let (_, out, _) = machine.run(&[]);
    assert!(out.contains("200 -> 222") && out.contains("(systemd has it, the cgroup has not)"), "{out}");
    assert!(!out.contains("daemon-reload"), "{out}");
    check(&machine);
}

#[test]
fn what_was_written_behind_systemds_back_is_put_right() {
    let machine = Machine::new();
    write(machine.path(), "sys/fs/cgroup/foundry.slice/cpu.weight", "7\n");
    let (code, out, _) = machine.run(&[]);
    assert!(code == Some(0) && out.contains("7 -> 200"), "{out}");
    assert_eq!(machine.live("foundry.slice/cpu.weight"), "200");
}

#[test]
fn what_is_no_unit_of_the_policy_is_not_touched() {
    let machine = Machine::new();
    write(machine.path(), "sys/fs/cgroup/system.slice/cpu.weight", "7\n");
    machine.edit(AFTER);
    let (_, out, _) = machine.run(&[]);
    assert!(!out.contains("system.slice"), "{out}");
    assert_eq!(machine.live("system.slice/cpu.weight"), "7");
}

/// Also where it was killed after the reload, when nothing but the record names the slices.
#[test]
fn slices_that_the_policy_no_longer_names_are_systemds_again() {
    for kill_at in [None, Some((1, true)), Some((2, false))] {
        let machine = Machine::new();
        machine.edit("[logins]\ncpu_weight = 100\n");
        machine.asked.lock().unwrap().kill_at = kill_at;
        assert_eq!(machine.run(&[]).0, kill_at.map_or(Some(1), |_| None));
        machine.asked.lock().unwrap().kill_at = None;
        let (_, out, _) = machine.run(&[]);
        for (file, value) in [
            ("foundry.slice/cpu.weight", "100"),
            ("foundry.slice/foundry-services.slice/cpu.weight", "100"),
            ("foundry.slice/foundry-services.slice/memory.high", "max"),
        ] {
            assert_eq!(machine.live(file), value, "{file}, {kill_at:?}\n{out}");
        }
        assert!(!machine.path().join("run/fairslice/unwritten").exists());
    }
}

#[test]
fn what_the_administrator_has_set_is_named_and_stays() {
    let machine = Machine::new();
    for (file, text) in [
        ("etc/systemd/system/foundry-services.slice.d/60-mine.conf", "[Slice]\n# mine\nCPUWeight=300\n"),
        ("etc/systemd/system.control/user.slice.d/50-CPUWeight.conf", "[Slice]\nCPUWeight=400\n"),
        ("run/systemd/system.control/user-0.slice.d/50-CPUWeight.conf", "[Slice]\nCPUWeight=500\n"),
        ("etc/systemd/system/local-fs.service.d/90-mine.conf", "[Service]\nOOMScoreAdjust=-100\n"),
    ] {
        write(machine.path(), file, text);
    }
    reload(machine.path());
    write_all(machine.path());
    write(machine.path(), "proc/10/oom_score_adj", "-100\n");
    machine.edit(AFTER);
    let (code, out, _) = machine.run(&[]);
    assert_eq!(code, Some(1), "{out}");
    for line in [
        "foundry-services.slice: cpu_weight: 300, declared 222: /etc/systemd/system/foundry-services.slice.d/60-mine.conf:3 sets CPUWeight=300",
        "user.slice: cpu_weight: 400, declared 100: /etc/systemd/system.control/user.slice.d/50-CPUWeight.conf:2 sets CPUWeight=400",
        "user-0.slice: cpu_weight: 500, declared 150: /run/systemd/system.control/user-0.slice.d/50-CPUWeight.conf:2 sets CPUWeight=500",
        "local-fs.service: oom_score_adj: -100, declared -400: /etc/systemd/system/local-fs.service.d/90-mine.conf:2 sets OOMScoreAdjust=-100",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    assert_eq!(machine.live("foundry.slice/foundry-services.slice/cpu.weight"), "300");
    assert_eq!(machine.live("user.slice/user-0.slice/cpu.weight"), "500");
    assert_eq!(machine.live("foundry.slice/cpu.weight"), "222");
    assert_eq!(read(machine.path(), "proc/10/oom_score_adj"), "-100");
    let before = machine.files(true);
    machine.calls();
    machine.run(&[]);
    assert_eq!((machine.calls().len(), machine.files(true)), (0, before));
}

/// Whether PID 1 has read the unit since it started the service, and so may have given it that, or not.
#[test]
fn a_main_process_with_another_score_gets_the_declared_one_whether_or_not_a_reload_is_due() {
    for loaded_at in ["500000", "900000000"] {
        for policy in [BEFORE, AFTER] {
            let machine = Machine::new();
            let loaded_at = format!("UnitsLoadTimestampMonotonic={loaded_at}\n");
            write(machine.path(), "run/systemd/show-manager", &loaded_at);
            write(machine.path(), "proc/10/oom_score_adj", "-77\n");
            machine.edit(policy);
            let (code, out, err) = machine.run(&[]);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
            let declared = if policy == BEFORE { "-500" } else { "-400" };
            assert_eq!(read(machine.path(), "proc/10/oom_score_adj").trim(), declared, "{out}");
        }
    }
}

#[test]
fn a_service_outside_of_its_slice_waits_for_a_restart() {
    let machine = Machine::new();
    let root = machine.path();
    write(root, "sys/fs/cgroup/system.slice/local-late.service/cgroup.procs", "40\n");
    process(root, 40, 1, "system.slice/local-late.service", 0);
    write(root, "sys/fs/cgroup/system.slice/ssh.service/cgroup.procs", "50\n");
    process(root, 50, 1, "system.slice/ssh.service", 0);
    machine.edit(&BEFORE.replace(r#"["local-*"]"#, r#"["local-*", "ssh"]"#));
    let (code, out, err) = machine.run(&[]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.ends_with(
        "needs a restart (--restart)\n  local-late.service: runs in system.slice, declared foundry-services.slice\n\
         needs a restart by hand\n  ssh.service: runs in system.slice, declared foundry-services.slice\n"
    ), "{out}");
    // No systemctl of this machine is asked to restart what is below a test's root.
    let (code, _, err) = machine.run(&["--restart"]);
    assert!(code == Some(2) && err.contains("restarting local-late.service: there is no systemd"), "{err}");
}

#[test]
fn a_service_that_a_restart_does_not_move_is_left_to_the_administrator() {
    let machine = Machine::new();
    let root = machine.path();
    let unit = "etc/systemd/system/local-late.service";
    write(root, unit, "[Service]\nKillMode=process\nExecStart=/bin/true\n");
    write(root, "sys/fs/cgroup/system.slice/local-late.service/cgroup.procs", "");
    process(root, 40, 1, "system.slice/local-late.service", 0);
    // Its main process alone does not stay.
    let (_, out, _) = machine.run(&[]);
    assert!(out.contains("needs a restart (--restart)\n  local-late.service: runs in system.slice"), "{out}");
    process(root, 41, 40, "system.slice/local-late.service", 0);
    let (code, out, err) = machine.run(&["--restart"]);
    assert!(
        out.ends_with(
            "needs a restart by hand\n  local-late.service: runs in system.slice, declared \
             foundry-services.slice, and a restart does not move it: KillMode=process lets process 41 (local) \
             live, which keeps it there: systemctl stop local-late.service; systemctl kill local-late.service; \
             systemctl start local-late.service\n"
        ),
        "{out}"
    );
    // Not tried, so that nothing failed.
    assert_eq!((code, err.as_str()), (Some(1), ""));
    write(root, unit, "[Service]\nKillMode=mixed\nExecStart=/bin/true\n");
    assert!(machine.run(&[]).1.contains("needs a restart (--restart)\n  local-late.service"));
    // After a stop there would be no unit any more.
    fs::remove_file(root.join(unit)).unwrap();
    let unit = "run/systemd/transient/local-late.service";
    write(root, unit, "[Service]\nKillMode=process\nExecStart=/bin/true\n");
    let (_, out, _) = machine.run(&[]);
    assert!(out.ends_with("keeps it there: kill 41; systemctl restart local-late.service\n"), "{out}");
}

#[test]
fn doctor_mends_what_is_ours_and_says_what_became_of_it() {
    let fix = |machine: &Machine| {
        let (code, out, err) = machine.fairslice("doctor", &["--fix"]);
        (code.unwrap(), out, err)
    };
    let machine = Machine::new();
    assert_eq!(fix(&machine), (0, "nothing to fix\nnothing left to fix\n".to_owned(), String::new()));
    machine.edit(&BEFORE.replace("cpu_weight = 200", "cpu_weight = 222"));
    let theirs = "etc/systemd/system.control/user.slice.d/50-CPUWeight.conf";
    write(machine.path(), theirs, "[Slice]\nCPUWeight=400\n");
    reload(machine.path());
    write_cgroup(machine.path(), "user.slice");
    let (code, out, err) = fix(&machine);
    let (shown, became) = out.split_once("\nfixed: ").unwrap();
    let found =
        "will fix:\nFS013 severe    foundry-services.slice: cpu_weight 222 is still 200 in cgroupfs\n";
    assert!(shown.starts_with(found) && !shown.contains("FS012"), "{out}");
    assert!(shown.contains("\nchanges:\nfoundry.slice\n  cpu_weight  200 -> 222"), "{out}");
    assert!(
        became.contains("\nfixed: FS013 foundry.slice: cpu_weight 222 is still 200 in cgroupfs\n"),
        "{out}"
    );
    assert!(became.contains("\nfor you to decide:\nFS012 severe    user.slice"), "{out}");
    assert_eq!((code, err.as_str()), (1, ""));
    assert_eq!(machine.live("user.slice/cpu.weight"), "400");
    machine.calls();
    let before = machine.files(true);
    let (code, out, _) = fix(&machine);
    assert!(code == 1 && out.starts_with("nothing to fix\nfor you to decide:\nFS012"), "{out}");
    assert_eq!((machine.calls().len(), machine.files(true)), (0, before));
    fs::remove_file(machine.path().join(theirs)).unwrap();
    reload(machine.path());
    write_cgroup(machine.path(), "user.slice");
    assert_eq!(fix(&machine).0, 0);
}

#[test]
fn what_doctor_could_not_mend_is_not_said_to_be_mended() {
    let machine = Machine::new();
    machine.edit(&BEFORE.replace("cpu_weight = 200", "cpu_weight = 222"));
    // PID 1 does not write it.
    fs::remove_file(machine.path().join("run/systemd/private")).unwrap();
    let (code, out, err) = machine.fairslice("doctor", &["--fix"]);
    assert!(code == Some(2) && !err.is_empty() && out.contains("could not fix:\nFS010 "), "{out}{err}");
    // Nor is anything said to be mended that could not be looked at.
    fs::remove_file(machine.path().join("run/systemd/show")).unwrap();
    let (code, out, _) = machine.fairslice("doctor", &["--fix"]);
    assert!(code == Some(2) && !out.contains("\nfixed: "), "{out}");
}

/// Wherever it is killed, the next run comes to the same.
#[test]
fn it_may_be_killed_at_any_call() {
    let whole = Machine::new();
    whole.edit(AFTER);
    whole.run(&[]);
    let calls = whole.calls().len();
    whole.edit(BEFORE);
    whole.run(&[]);
    let back = whole.calls().len();
    assert!(calls > 3 && back > 3, "{calls} {back}");
    for number in 1..=calls.max(back) {
        for done in [false, true] {
            let machine = Machine::new();
            for (policy, calls) in [(AFTER, calls), (BEFORE, back)] {
                machine.edit(policy);
                machine.asked.lock().unwrap().kill_at = Some((number, done)).filter(|_| number <= calls);
                let (code, out, err) = machine.run(&[]);
                assert_eq!(code.is_none(), number <= calls, "{number} {out}{err}");
                machine.asked.lock().unwrap().kill_at = None;
                assert_eq!(machine.run(&[]).0, Some(0));
                machine.calls();
                if policy == AFTER {
                    check(&machine);
                }
            }
            let text = |machine: &Machine| machine.files(false);
            assert_eq!(text(&machine), text(&whole), "killed at call {number}, done: {done}");
        }
    }
}

#[test]
fn without_systemd_cgroups_are_written() {
    let machine = Machine::new();
    fs::remove_dir(machine.path().join("run/systemd/system")).unwrap();
    machine.edit(AFTER);
    let (code, out, err) = machine.run(&[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("  cpu_weight     200 -> 222    (cgroup)\n"), "{out}");
    assert_eq!(machine.live("foundry.slice/cpu.weight"), "222");
    assert_eq!(machine.live("user.slice/user-0.slice/pids.max"), "512");
    assert_eq!(read(machine.path(), "proc/11/oom_score_adj"), "-400");
    assert_eq!(machine.calls(), [""; 0]);
    assert!(machine.run(&[]).1.starts_with("nothing to change\n"));
}

/// The first is killed while it waits for PID 1.
#[test]
fn two_do_not_work_at_once_and_one_that_is_killed_holds_up_nobody() {
    let machine = Machine::new();
    machine.edit(AFTER);
    let stalled = machine.asked.lock().unwrap();
    let mut first = machine.command("apply").stdout(Stdio::null()).spawn().unwrap();
    while !machine.path().join("run/fairslice/unwritten").exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let mut second = machine.command("apply").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(second.stderr.take().unwrap());
    stderr.read_line(&mut said).unwrap();
    let holder = format!(" apply (pid {}), which is changing the machine\n", first.id());
    assert!(said.starts_with("fairslice: waiting for ") && said.ends_with(&holder), "{said}");
    assert!(second.try_wait().unwrap().is_none());
    first.kill().unwrap();
    // What it asked for is done before the second asks, as PID 1 does.
    drop(stalled);
    first.wait().unwrap();
    let done = second.wait_with_output().unwrap();
    said.clear();
    stderr.read_to_string(&mut said).unwrap();
    assert!(done.status.success(), "{} {said}", String::from_utf8_lossy(&done.stdout));
    check(&machine);
}

#[test]
fn with_a_broken_policy_nothing_is_done() {
    let machine = Machine::new();
    machine.edit("[logins]\ncpu_weight = 0\n");
    let (code, out, err) = machine.run(&[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("policy.toml:2:14") && err.contains("nothing is changed while"), "{err}");
    machine.edit(AFTER);
    write(machine.path(), "etc/fairslice/policy.d/50.toml", "[logins]\ncpu_weight = 0\n");
    let (code, _, err) = machine.run(&[]);
    assert!(code == Some(1) && err.contains("50.toml:2:14"), "{err}");
    check(&machine);
}

/// Every way in which a value is changed, and all that can be left.
#[test]
fn json_is_what_its_schema_says() {
    let schema = Schema::of("apply");
    let machine = Machine::new();
    let root = machine.path();
    let said = |arguments: &[&str]| schema.check(&machine.run(&[&["--json"], arguments].concat()).1);
    machine.edit(AFTER);
    said(&["--dry-run"]);
    let own = "etc/systemd/system/foundry-services.slice.d/30-own.conf";
    write(root, own, "[Slice]\nMemoryHigh=536870912\n");
    said(&["--dry-run"]);
    fs::remove_file(root.join(own)).unwrap();
    assert_eq!(said(&[])["after"]["units"], Value::Array(Vec::new()));
    machine.edit(BEFORE);
    said(&[]);
    write(root, "sys/fs/cgroup/foundry.slice/cpu.weight", "7\n");
    let theirs = "etc/systemd/system/user.slice.d/60-mine.conf";
    write(root, theirs, "[Slice]\nCPUWeight=400\n");
    for (pid, service) in [(40, "local-late"), (50, "ssh")] {
        process(root, pid, 1, &format!("system.slice/{service}.service"), 0);
    }
    reload(root);
    machine.edit(&BEFORE.replace(r#"["local-*"]"#, r#"["local-*", "ssh"]"#));
    said(&["--restart"]);
    fs::remove_dir(root.join("run/systemd/system")).unwrap();
    machine.edit(AFTER);
    said(&["--dry-run"]);
    // No systemctl of this machine restarts what is below a test's root.
    assert_eq!(
        schema.unseen(),
        ["in_vain", "restarted"].map(|key| format!("/properties/{key}/items: string"))
    );
}

/// Lowered below what is used, a ceiling would kill: PID 1 is told the one of now before it reads the new one, and once
/// no more is used, the next run sets it.
#[test]
fn a_ceiling_below_what_is_used_waits() {
    let machine = Machine::new();
    let slice = format!("sys/fs/cgroup/{SERVICES}");
    let root_slice = "sys/fs/cgroup/user.slice/user-0.slice";
    for (file, text) in [
        (format!("{slice}/memory.max"), "max\n"),
        (format!("{slice}/memory.current"), "2147483648\n"),
        (format!("{slice}/memory.reclaim"), ""),
        (format!("{root_slice}/pids.current"), "600\n"),
    ] {
        write(machine.path(), &file, text);
    }
    machine.edit(&format!(
        "{}[logins.user.root]\ntasks_max = 512\n",
        BEFORE.replace("memory_high = \"1G\"", "memory_high = \"1G\"\nmemory_max = \"1G\"")
    ));
    let memory = "foundry-services.slice: memory_max: max, declared 1G: waits, 2G used;";
    let (code, out, _) = machine.run(&["--dry-run"]);
    assert!(code == Some(1) && out.contains(memory), "{out}");
    assert!(out.contains("user-0.slice: tasks_max: max, declared 512: waits, 600 tasks used;"), "{out}");
    assert_eq!(machine.calls(), [""; 0]);
    let (code, out, err) = machine.run(&[]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    let calls = machine.calls();
    let at = |call: &str| calls.iter().position(|known| known == call).unwrap();
    assert!(
        at(&format!("foundry-services.slice MemoryMax={}", u64::MAX)) < at("reload")
            && at(&format!("user-0.slice TasksMax={}", u64::MAX)) < at("reload"),
        "{calls:?}"
    );
    assert!(
        !calls.iter().any(|call| call.contains("=1073741824") || call.contains("TasksMax=512")),
        "{calls:?}"
    );
    // The kernel was asked first, which reclaimed nothing here.
    assert_eq!(read(machine.path(), &format!("{slice}/memory.reclaim")), "1073741824");
    // A second run finds the same, and changes nothing.
    let (code, out, _) = machine.run(&[]);
    assert!(code == Some(1) && out.starts_with("nothing to change\n") && out.contains(memory), "{out}");
    assert_eq!(machine.calls(), [""; 0]);
    let (_, out, _) = machine.run(&["--logins", "--dry-run"]);
    assert_eq!(out, "user-0.slice: tasks_max max left, declared 512: 600 used\n");
    // Somebody has gone.
    write(machine.path(), &format!("{root_slice}/pids.current"), "500\n");
    write(machine.path(), &format!("{slice}/memory.current"), "1073741824\n");
    let (_, out, _) = machine.run(&["--dry-run"]);
    assert!(!out.contains("waits") && out.contains("tasks_max   max -> 512"), "{out}");
    let (_, out, err) = machine.run(&[]);
    assert_eq!(err, "", "{out}");
    assert_eq!(machine.live("user.slice/user-0.slice/pids.max"), "512");
    let control = "run/systemd/system.control/foundry-services.slice.d/50-MemoryMax.conf";
    assert!(!machine.path().join(control).exists(), "{out}");
}

#[test]
fn a_ceiling_is_forced_below_what_is_used_where_that_is_asked_for() {
    let machine = Machine::new();
    write(machine.path(), "sys/fs/cgroup/user.slice/user-0.slice/pids.current", "600\n");
    machine.edit(&format!("{BEFORE}[logins.user.root]\ntasks_max = 512\n"));
    let (code, out, err) = machine.run(&["--force"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(machine.live("user.slice/user-0.slice/pids.max"), "512");
}
