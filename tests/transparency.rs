//! What a command sees of itself is the same with the launcher and without it, to the byte.
//!
//! `probe.c` writes down everything that a process can see of itself and that exec preserves. It is
//! started twice in the same circumstances, directly and through the launcher; only the OOM score and
//! the capability that were to change may differ. What makes the circumstances odd is the probe too
//! (`--set`), and so is what shows that each oddity would be seen if the launcher caused it.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and most of this file is helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::fcntl::OFlag;
use nix::{libc, pty};

const UNIT: &str = "local-probe.service";
/// A score that every process may give itself.
const RAISED: i32 = 1000;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The probe, built once for what its source says: several processes may run tests at the same time.
fn probe() -> &'static str {
    static PROBE: OnceLock<String> = OnceLock::new();
    PROBE.get_or_init(|| {
        let mut hash = DefaultHasher::new();
        include_str!("probe.c").hash(&mut hash);
        let program = format!("{}/probe-{:016x}", env!("CARGO_TARGET_TMPDIR"), hash.finish());
        if !Path::new(&program).exists() {
            let own = format!("{program}.{}", std::process::id());
            build(&own);
            // Never replaced: somebody may be running it.
            let _ = fs::hard_link(&own, &program);
            fs::remove_file(own).unwrap();
        }
        program
    })
}

fn build(program: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe.c");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut compiler = Command::new(compiler);
    compiler.args(["-std=gnu11", "-static", "-O1", "-Wall", "-Wextra", "-o", program]).arg(source);
    let status = compiler.status();
    let status = status.unwrap_or_else(|error| panic!("cc: {error}: apt-get install gcc libc6-dev"));
    assert!(status.success(), "the probe does not build: apt-get install libc6-dev");
}

/// What starts the rest of the command line in a process that was changed in these ways.
fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    [&[probe(), "--set"], settings, &["--"]].concat()
}

/// This test's own score, which its children start with.
fn live_score() -> i32 {
    let score = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    assert_ne!(score, RAISED, "nothing to raise: run this with a lower score, choom -n 0 -- cargo test");
    score
}

/// A machine where the probe's service is in its slice and its score is declared; the score is the
/// real process's own, and whatever lies below is the same for every start.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new(score: i32) -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        machine.write("proc/self/cgroup", &format!("0::/foundry.slice/{UNIT}\n"));
        symlink("/proc/self/oom_score_adj", machine.path("proc/self/oom_score_adj")).unwrap();
        fs::create_dir_all(machine.path("run/systemd/system")).unwrap();
        let drop_in = format!("run/systemd/generator/{UNIT}.d/40-fairslice.conf");
        machine.write(&drop_in, &format!("[Service]\nSlice=foundry.slice\nOOMScoreAdjust={score}\n"));
        machine.write("locked", "x");
        machine
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), text).unwrap();
    }

    /// The launcher of this build, or the one that is to be shipped: `FAIRSLICE_LAUNCH=PATH cargo test`.
    fn launcher(&self) -> Vec<&str> {
        static PROGRAM: OnceLock<String> = OnceLock::new();
        let built = || env!("CARGO_BIN_EXE_fairslice-launch").to_owned();
        let program = PROGRAM.get_or_init(|| std::env::var("FAIRSLICE_LAUNCH").unwrap_or_else(|_| built()));
        vec![program, "--root", self.root.path().to_str().unwrap(), "--unit", UNIT, "--"]
    }

    /// Starts the probe, behind `words`; what it told, with the processes that are known named.
    fn facts(&self, words: &[&str], start: &Start) -> Facts {
        let told = self.path("told");
        let _ = fs::remove_file(&told);
        let said = OpenOptions::new().append(true).create(true).open(self.path("said")).unwrap();
        let words = [words, &[probe()]].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&told).args(&start.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        (start.prepare)(&mut command);
        let mut child = command.spawn().unwrap();
        let status = child.wait().unwrap();
        let said = fs::read_to_string(self.path("said")).unwrap();
        fs::write(self.path("said"), "").unwrap();
        assert!(status.success(), "{command:?}: {status}: {said}");
        assert_eq!(said.lines().count(), usize::from(!start.told.is_empty()), "{said}");
        assert!(said.contains(start.told), "{said}");
        Facts::new(&fs::read_to_string(told).unwrap(), &child)
    }
}

/// The circumstances of a start.
struct Start {
    arguments: Vec<OsString>,
    prepare: Box<dyn Fn(&mut Command)>,
    /// What one line on stderr says, and nothing else; or that there is none.
    told: &'static str,
}

impl Default for Start {
    fn default() -> Self {
        Self { arguments: vec!["plain".into()], prepare: Box::new(|_| ()), told: "" }
    }
}

impl Start {
    fn with(prepare: impl Fn(&mut Command) + 'static) -> Self {
        Self { prepare: Box::new(prepare), ..Self::default() }
    }
}

/// What a probe told: the value of each fact.
#[derive(Debug)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Two processes have two numbers: where a number is known, it is replaced by whose it is.
    fn new(told: &str, child: &Child) -> Self {
        let (child, own) = (child.id().to_string(), std::process::id().to_string());
        let mut facts = BTreeMap::new();
        for line in told.lines() {
            let (name, value) = line.split_once(' ').unwrap();
            let a_process = ["pid", "tid", "ppid", "pgid", "sid", "terminal-foreground"].contains(&name);
            let value = match value {
                value if a_process && value == child => "SPAWNED",
                value if a_process && value == own => "SPAWNER",
                value => value,
            };
            assert!(facts.insert(name.to_owned(), value.to_owned()).is_none(), "{name} twice");
        }
        assert!(facts.len() > 150, "the probe told little: {told}");
        Self(facts)
    }

    fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(self.value(&format!("status.{set}")), 16).unwrap()
    }

    /// The names of the facts that are not the same, sorted; none only if all bytes are the same.
    fn differences<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let names: BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).map(String::as_str).collect()
    }

    fn show(&self, other: &Self) -> String {
        self.differences(other).iter().fold(String::new(), |mut text, name| {
            let _ =
                writeln!(text, "{name}: directly {:?}, launched {:?}", self.value(name), other.value(name));
            text
        })
    }
}

/// Asserts that the launcher changes nothing with a score that is right, and the score alone with one
/// that is to be set.
fn assert_transparent(before: &[&str], start: &Start) {
    let live = live_score();
    for declared in [live, RAISED] {
        let machine = Machine::new(declared);
        let direct = machine.facts(before, start);
        let launched = machine.facts(&[before, &machine.launcher()].concat(), start);
        assert_eq!((direct.value("pid"), direct.value("ppid")), ("SPAWNED", "SPAWNER"));
        let set = declared != live;
        let expected: &[&str] = if set { &["oom_score_adj"] } else { &[] };
        assert_eq!(direct.differences(&launched), expected, "{before:?}: {}", direct.show(&launched));
        assert!(!set || launched.value("oom_score_adj") == RAISED.to_string());
    }
}

fn assert_transparent_with(settings: &[&str]) {
    assert_transparent(&set(settings), &Start::default());
}

#[test]
fn plain_and_under_a_shell() {
    assert_transparent(&[], &Start::default());
    assert_transparent(&["sh", "-c", "exec \"$@\"", "sh"], &Start::default());
    assert_transparent(
        &["sh", "-c", "trap '' PIPE HUP; umask 0; exec 7<&0; exec \"$@\"", "sh"],
        &Start::default(),
    );
}

/// In the background of a shell, the process that the shell names is the command's own.
#[test]
fn in_the_background_of_a_shell() {
    let machine = Machine::new(live_score());
    let script = format!("\"$@\" & echo $! > {}; wait $!", machine.path("background").display());
    let shell = ["sh", "-c", &script, "sh"];
    let start = |words: &[&str]| {
        let mut facts = machine.facts(words, &Start::default());
        let number = fs::read_to_string(machine.path("background")).unwrap();
        for name in ["pid", "tid"] {
            assert_eq!(facts.0.remove(name).unwrap(), number.trim());
        }
        assert_eq!(facts.value("ppid"), "SPAWNED");
        facts
    };
    let (direct, launched) = (start(&shell), start(&[&shell[..], &machine.launcher()].concat()));
    assert!(direct.differences(&launched).is_empty(), "{}", direct.show(&launched));
}

#[test]
fn closed_standard_descriptors() {
    for settings in [
        &["close=0"][..],
        &["close=1"],
        &["close=2"],
        &["close=0", "close=1"],
        &["close=0", "close=2"],
        &["close=1", "close=2"],
        &["close=0", "close=1", "close=2"],
    ] {
        assert_transparent_with(settings);
    }
}

#[test]
fn five_hundred_descriptors() {
    assert_transparent_with(&["files=500"]);
    assert_transparent_with(&["close=0", "close=1", "close=2", "files=500", "close=40", "close=400"]);
    // What is not for the command does not reach it: a third of them.
    let machine = Machine::new(live_score());
    let count = |words: &[&str]| {
        let facts = machine.facts(&[words, &machine.launcher()].concat(), &Start::default());
        facts.0.keys().filter(|name| name.starts_with("descriptor.")).count()
    };
    assert_eq!(count(&set(&["files=500"])), count(&[]) + 333);
}

#[test]
fn a_pipe_a_socket_and_a_lock() {
    let (reader, _writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let start = Start::with(move |command| {
        let socket: std::os::fd::OwnedFd = socket.try_clone().unwrap().into();
        command.stdin(reader.try_clone().unwrap()).stdout(socket);
    });
    assert_transparent(&[], &start);
    let locked = tempfile::NamedTempFile::new().unwrap();
    assert_transparent_with(&[&format!("lock={}", locked.path().display())]);
}

#[test]
fn signals() {
    for settings in [
        &["ignore=13"][..],
        &["default=13"],
        &["ignore=1", "ignore=2", "ignore=17", "ignore=34", "ignore=64"],
        &["block=13", "block=15", "block=33", "block=64"],
        &["pending=10", "pending=40"],
        &["timer=6050"],
    ] {
        assert_transparent_with(settings);
    }
}

#[test]
fn mode_priority_and_limits() {
    for settings in [
        &["umask=0"][..],
        &["umask=0777"],
        &["nice=7"],
        &["scheduler=3", "nice=3"], // batch
        &["scheduler=5"],           // idle
        &["ioprio=0x6000"],         // idle
        &["ioprio=0x4007"],         // best effort, the last
        &["first-cpu"],
        &["limit=core:0", "limit=nofile:16", "limit=stack:0x100000", "limit=fsize:0x100000"],
        &[
            "limit=as:0x8000000",
            "limit=data:0x1000000",
            "limit=memlock:0",
            "limit=cpu:3600",
            "limit=rttime:9",
        ],
    ] {
        assert_transparent_with(settings);
    }
}

#[test]
fn attributes_of_the_process() {
    for settings in [
        &["no-new-privileges"][..],
        &["seccomp"],
        &["no-huge-pages", "subreaper", "timer-slack=77777", "parent-death=15"],
        &["personality=0x0040000"], // no random addresses
        &["core-dump=0x7f"],
        &["child"],
        &["session"],
        &["group"],
    ] {
        assert_transparent_with(settings);
    }
}

#[test]
fn a_controlling_terminal() {
    // Not openpty(3): what other tests start meanwhile would inherit its descriptors.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = pty::posix_openpt(flags).unwrap();
    pty::grantpt(&master).and_then(|()| pty::unlockpt(&master)).unwrap();
    let name = pty::ptsname_r(&master).unwrap();
    let terminal = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(name).unwrap();
    let start = Start::with(move |command| {
        command.stdin(terminal.try_clone().unwrap()).stdout(terminal.try_clone().unwrap());
    });
    assert_transparent(&set(&["terminal"]), &start);
    let machine = Machine::new(live_score());
    let facts = machine.facts(&[&set(&["terminal"])[..], &machine.launcher()].concat(), &start);
    assert_eq!((facts.value("sid"), facts.value("terminal-foreground")), ("SPAWNED", "SPAWNED"));
    assert_ne!(facts.value("terminal"), "0");
    let lost = machine.facts(&set(&["session"]), &start);
    assert_eq!(facts.differences(&lost), ["terminal", "terminal-foreground"]);
}

#[test]
fn another_directory_and_one_that_is_gone() {
    assert_transparent_with(&["directory=/usr/bin/.."]);
    let parent = tempfile::tempdir().unwrap();
    let gone = parent.path().join("gone");
    fs::create_dir(&gone).unwrap();
    let open = File::open(&gone).unwrap();
    fs::remove_dir(&gone).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), std::os::fd::AsRawFd::as_raw_fd(&open));
    assert_transparent_with(&[&format!("directory={path}")]);
}

#[test]
fn arguments_and_environment() {
    let odd = |length: usize| OsString::from_vec((1..=255).cycle().take(length).collect());
    let mut start = Start { arguments: vec![OsString::new(); 10_000], ..Start::default() };
    start.prepare = Box::new(move |command| {
        command.envs((0..100).map(|i| (format!("PROBE_{i}"), odd(1000))));
    });
    assert_transparent(&[], &start);
    start.arguments = ["--", "--unit", "-", "=", "\\", "\n", "ü"].map(OsString::from).to_vec();
    start.arguments.extend([odd(300), OsString::from_vec(b"\xff\xfe".to_vec())]);
    assert_transparent(&[], &start);
    assert_transparent_with(&["environment=odd"]);
    assert_transparent_with(&["environment=none"]);
}

/// A user namespace and a mount namespace, entered by every start alike: two of their own would differ.
struct Namespace(Child);

impl Namespace {
    /// `None`, with the reason printed, where this machine allows none.
    fn new(test: &str, script: &str) -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        holder.arg(format!("{script} echo ready; exec cat"));
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answer = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut answer).unwrap();
        if answer == "ready\n" {
            return Some(Self(holder));
        }
        eprintln!(
            "{test}: skipped: unshare: {}: user namespaces are not allowed here",
            holder.wait().unwrap()
        );
        None
    }

    fn enter(&self) -> String {
        format!("exec nsenter --target {} --user --mount --preserve-credentials \"$@\"", self.0.id())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_root() {
    let root = tempfile::tempdir().unwrap();
    let at = root.path().display();
    let Some(namespace) = Namespace::new("another_root", &format!("mount --rbind / {at} &&")) else { return };
    let change = format!("root={at}");
    let enter = namespace.enter();
    let enter = ["sh", "-c", &enter, "sh"];
    let changed = [&enter[..], &set(&[&change])].concat();
    assert_transparent(&changed, &Start::default());
    let machine = Machine::new(live_score());
    let [plain, changed] = [&enter[..], &changed].map(|words| machine.facts(words, &Start::default()));
    assert_eq!(plain.differences(&changed), ["directory", "root"], "{}", plain.show(&changed));
}

/// Starts in `namespace` what follows with the capability in all five sets: as root, with `CAP_SETPCAP`, or
/// as a service that has been granted this capability and no other.
fn granted(enter: &str, is_root: bool) -> Vec<&str> {
    const GRANT: [&str; 5] = ["setpriv", "--inh-caps", "+sys_resource", "--ambient-caps", "+sys_resource"];
    let securebits = &["--securebits", "+noroot,+noroot_locked"][..if is_root { 0 } else { 2 }];
    [&["sh", "-c", enter, "sh"], &GRANT[..], securebits].concat()
}

/// A way through the launcher: what is told, the declared score, and what is changed on the machine.
type Way<'a> = (&'static str, i32, &'a dyn Fn(&Machine));

/// The launcher gives up the capability on every way to the command; nothing else goes, and nothing comes.
#[test]
fn a_granted_capability() {
    let Some(namespace) = Namespace::new("a_granted_capability", "") else { return };
    let enter = namespace.enter();
    let all = ["CapAmb", "CapBnd", "CapEff", "CapInh", "CapPrm"];
    let but_bounding = ["CapAmb", "CapEff", "CapInh", "CapPrm"];
    let drop_in = format!("run/systemd/generator/{UNIT}.d/40-fairslice.conf");
    let live = live_score();
    let ways: [Way; 6] = [
        ("", live, &|_| ()),
        ("", RAISED, &|_| ()),
        ("no policy names it", live, &|machine| fs::remove_file(machine.path(&drop_in)).unwrap()),
        ("Is a directory", live, &|machine| {
            fs::remove_file(machine.path(&drop_in)).unwrap();
            fs::create_dir(machine.path(&drop_in)).unwrap();
        }),
        ("not set", RAISED, &|machine| {
            fs::remove_file(machine.path("proc/self/oom_score_adj")).unwrap();
            fs::create_dir(machine.path("proc/self/oom_score_adj")).unwrap();
        }),
        ("was not moved", live, &|machine| machine.write("proc/self/cgroup", "0::/system.slice/x.service\n")),
    ];
    for (is_root, sets) in [(true, &all[..]), (false, &but_bounding)] {
        let before = granted(&enter, is_root);
        for (told, declared, change) in ways {
            let machine = Machine::new(declared);
            change(&machine);
            let start = Start { told, ..Start::default() };
            let direct = machine.facts(&before, &Start::default());
            let launched = machine.facts(&[&before[..], &machine.launcher()].concat(), &start);
            assert!(all.iter().all(|set| direct.capabilities(set) & CAP_SYS_RESOURCE != 0), "{direct:?}");
            let mut expected: Vec<String> = sets.iter().map(|set| format!("status.{set}")).collect();
            if declared == RAISED && told.is_empty() {
                expected.insert(0, "oom_score_adj".to_owned());
            }
            expected.extend((!told.is_empty()).then(|| "descriptor.00002".to_owned()));
            expected.sort();
            assert_eq!(direct.differences(&launched), expected, "{told}: {}", direct.show(&launched));
            for set in sets {
                assert_eq!(launched.capabilities(set), direct.capabilities(set) & !CAP_SYS_RESOURCE, "{set}");
            }
        }
    }
}

/// What cannot be dropped is said, and with `--strict` the command does not run.
#[test]
fn a_granted_capability_that_cannot_be_dropped() {
    let Some(namespace) = Namespace::new("a_granted_capability_that_cannot_be_dropped", "") else { return };
    let (enter, machine) = (namespace.enter(), Machine::new(live_score()));
    let (prctl, capset) = (format!("seccomp={}", libc::SYS_prctl), format!("seccomp={}", libc::SYS_capset));
    for refused in [&prctl, &capset] {
        let mut words = [granted(&enter, false), set(&[refused]), machine.launcher()].concat();
        let told = "CAP_SYS_RESOURCE, which COMMAND is not to have, not dropped";
        machine.facts(&words, &Start { told, ..Start::default() });
        words.insert(words.len() - 1, "--strict");
        let output = Command::new(words[0]).args(&words[1..]).args(["echo", "ran"]).output().unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(218), &b""[..]), "{output:?}");
    }
}

/// What another program in the launcher's place would change is seen, and nothing else is reported.
#[test]
fn a_launcher_that_changes_something_is_found_out() {
    let machine = Machine::new(live_score());
    let assert_found = |before: &[&str], instead: &[&str], expected: &[&str]| {
        let direct = machine.facts(before, &Start::default());
        let launched = machine.facts(&[before, instead].concat(), &Start::default());
        assert_eq!(direct.differences(&launched), expected, "{instead:?}: {}", direct.show(&launched));
    };
    assert_found(&[], &["env"], &[]);
    assert_found(&[], &["nice", "-n", "1"], &["nice"]);
    let shell = ["sh", "-c", "exec \"$@\"", "sh"];
    assert_found(&shell, &["sh", "-c", "exec \"$@\" more", "sh"], &["argument.00003"]);
    assert_found(&shell, &["sh", "-c", "\"$@\"; exit", "sh"], &["pid", "ppid", "tid"]);
    let lock = format!("lock={}", machine.path("locked").display());
    // Any descriptor of the file that is closed takes the lock away.
    let unlock = format!(": <{}; exec \"$@\"", machine.path("locked").display());
    assert_found(&[&shell[..], &set(&[&lock])].concat(), &["sh", "-c", &unlock, "sh"], &["descriptor.00003"]);
    for (setting, expected) in [
        ("close=0", &["descriptor.00000"][..]),
        ("close=1", &["descriptor.00001"]),
        ("files=3", &["descriptor.00004", "descriptor.00005"]),
        (&lock, &["descriptor.00003"]),
        ("ignore=13", &["signal.13", "status.SigIgn"]),
        ("ignore=64", &["signal.64", "status.SigIgn"]),
        ("block=33", &["signals.blocked", "status.SigBlk"]),
        ("pending=40", &["signals.blocked", "signals.pending", "status.SigBlk", "status.SigPnd"]),
        ("timer=6050", &["timer.real"]),
        ("umask=0777", &["status.Umask"]),
        ("directory=/usr", &["directory"]),
        ("scheduler=3", &["scheduler"]),
        ("ioprio=0x6000", &["ioprio"]),
        ("limit=cpu:3600", &["limit.cpu"]),
        ("session", &["pgid", "sid"]),
        ("group", &["pgid"]),
        ("no-new-privileges", &["no-new-privileges", "status.NoNewPrivs"]),
        ("no-huge-pages", &["no-huge-pages", "status.THP_enabled"]),
        ("subreaper", &["subreaper"]),
        ("timer-slack=77777", &["timer-slack"]),
        ("parent-death=15", &["parent-death-signal"]),
        ("personality=0x0040000", &["personality"]),
        ("child", &["children"]),
        ("core-dump=0x7f", &["coredump_filter"]),
        ("oom-score=1000", &["oom_score_adj"]),
    ] {
        assert_found(&[], &set(&[setting]), expected);
    }
}
