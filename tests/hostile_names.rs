//! Nothing that others have written does anything to a terminal: every command, the launcher and the
//! generator on a machine full of hostile names.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unnecessary_debug_formatting,
    clippy::unwrap_used
)]

mod fixture;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::{Arg, CommandFactory as _};
use fairslice::cli::Arguments;
use fixture::{SERVICES, command, common};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What others may call a thing. The kernel keeps 15 bytes of a process's name.
const NAMES: [&[u8]; 9] = [
    b"\x1b]0;title\x07",
    b"a\x1b[2J\x1b[Hb",
    b"\x1b[35mred\x1b[0m",
    b"a\nFS000 severe",
    b"\xff\xfe\x1b",
    "\u{202e}evil\u{200b}".as_bytes(),
    "\u{9b}31m\u{85}".as_bytes(),
    b"\t\x08\x7f\r\x0b",
    "\u{2028}\u{feff}\u{ad}".as_bytes(),
];
/// The same as one text, for what is UTF-8 and on one line.
const TEXT: &str =
    "\x1b]0;title\x07\x1b[2J\x1b[35mred\u{202e}evil\u{200b}\u{9b}31m\t\x08\x7f\x0b\u{2028}\u{feff}";
/// What an argument can be: all of that, and what is no UTF-8.
const WORDS: [&[u8]; 2] = [TEXT.as_bytes(), b"\xff\xfe\x1b[2J\n"];
/// What each command is told to look at, so that it has something to say. A command that is not here
/// makes the test fail.
const WHAT: [(&[&str], &[&str]); 26] = [
    (&["check"], &[]),
    (&["policy"], &[]),
    (&["status"], &[]),
    (&["doctor"], &[]),
    (&["explain", "login"], &["root"]),
    (&["explain", "unit"], &["local-fs"]),
    (&["explain", "share"], &[]),
    (&["explain", "memory"], &[]),
    (&["explain", "oom"], &[]),
    (&["explain", "process"], &["9001"]),
    (&["me"], &[]),
    (&["report"], &[]),
    (&["fleet"], &["fleet.json"]),
    (&["export", "kubernetes"], &["k8s"]),
    (&["drill"], &["--dry-run"]),
    (&["drill-load"], &["1", "--score=0"]),
    (&["apply"], &["--dry-run"]),
    (&["import"], &[]),
    (&["adopt"], &["--dry-run", "local-fs"]),
    (&["release"], &["--dry-run", "local-content"]),
    (&["private-dir", "age"], &[]),
    (&["private-dir", "reclaim"], &["daemon"]),
    (&["completion"], &["bash"]),
    (&["withdraw"], &[]),
    (&["hold"], &[]),
    (&["installed"], &[]),
];

fn os(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_owned())
}

fn joined(parts: &[&[u8]]) -> OsString {
    os(&parts.concat())
}

/// Writes a file below `root`, whatever its name.
fn write(root: &Path, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// The machine of four services and two logins, to which everybody has added what they could.
fn machine() -> TempDir {
    let machine = common::machine("fairslice");
    let root = machine.path();
    cgroups_and_processes(root);
    units(root);
    policy(root);
    let line = |kind: &str| format!("{kind} [default={TEXT}] pam_{TEXT}.so {TEXT}\n");
    let fairslice = format!("session optional pam_fairslice.so {TEXT}\nsession optional pam_systemd.so\n");
    write(root, "etc/pam.d/sshd", line("session") + &line("auth") + &fairslice);
    write(root, "etc/pam.d/su", format!("@include {TEXT}\n"));
    write(root, "etc/ssh/sshd_config.d/1.conf", format!("UsePAM no{TEXT}\nUsePAM {TEXT}\n"));
    write(root, "proc/cmdline", format!("quiet {TEXT} cgroup_disable={TEXT}\n"));
    let mounts = fs::read(root.join("proc/mounts")).unwrap_or_default();
    let mounted = format!("{TEXT} /{TEXT} tmpfs rw,{TEXT} 0 0\n");
    write(root, "proc/mounts", [mounts.as_slice(), mounted.as_bytes(), b"x /\xff tmpfs rw 0 0\n"].concat());
    write(root, "proc/self/mountinfo", [b"22 1 8:1 /\xff /\x1b rw - ".as_slice(), TEXT.as_bytes()].concat());
    write(root, "run/systemd/show-manager", "UnitsLoadTimestampMonotonic=5000000\n");
    write(root, "fleet.json", fleet());
    write(root, "etc/systemd/oomd.conf", format!("[OOM]\nSwapUsedLimit={TEXT}\n"));
    for name in NAMES {
        write(root, Path::new("run/fairslice/properties").join(os(name)), [name, b"\nCPUWeight\n"].concat());
        fs::create_dir_all(root.join("srv").join(os(name))).unwrap();
    }
    machine
}

/// What hosts of such names may have sent: each setting of which nothing is as declared.
fn fleet() -> String {
    let host = |name: &[u8]| {
        let text = str::from_utf8(name).unwrap_or(TEXT);
        let name = str::from_utf8(name).map_or_else(|_| json!(name), |name| json!(name));
        let setting =
            json!({ "setting": text, "declared": text, "live": text, "holds": false, "origin": text });
        let unit = json!({ "kind": text, "unit": text, "user": name, "active": true, "settings": [setting] });
        json!({
            "version": 1, "host": name, "time": text, "missed": [], "units": [unit],
            "policy": { "in_force": "current", "errors": [] },
        })
    };
    let mut broken = host(TEXT.as_bytes());
    broken["policy"]["errors"] = json!([TEXT]);
    let hosts = NAMES.map(host).into_iter().chain([broken]);
    hosts.map(|host| host.to_string()).chain([format!("{{\"{TEXT}")]).collect()
}

/// Cgroups of such names, as units and in units, each with processes of the same name: one that is killed
/// next, and one that never is.
fn cgroups_and_processes(root: &Path) {
    let parents = [
        "system.slice".to_owned(),
        format!("{SERVICES}/local-fs.service"),
        "user.slice/user-1000.slice".to_owned(),
        "user.slice/user-1000.slice/user@1000.service/app.slice".to_owned(),
    ];
    let endings: [&[u8]; 3] = [b"", b".service", b".slice"];
    let cgroupfs = root.join("sys/fs/cgroup");
    let mut pid = 9000;
    for name in NAMES {
        for (parent, ending) in parents.iter().flat_map(|parent| endings.map(|ending| (parent, ending))) {
            let path = Path::new(parent).join(joined(&[name, ending]));
            let cgroup = cgroupfs.join(&path);
            fs::create_dir_all(&cgroup).unwrap();
            for file in fs::read_dir(cgroupfs.join("system.slice/cron.service")).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), cgroup.join(file.file_name())).unwrap();
            }
            for (attribute, value) in [
                ("cgroup.controllers", "cpu io memory pids"),
                ("cpu.weight", "300"),
                ("memory.current", "400000000"),
                ("memory.min", "300000000"),
                ("memory.max", "500000000"),
                ("memory.oom.group", "1"),
            ] {
                fs::write(cgroup.join(attribute), format!("{value}\n")).unwrap();
            }
            let mut procs = String::new();
            for score in ["1000", "-1000"] {
                pid += 1;
                procs.push_str(&format!("{pid}\n"));
                process(root, pid, name, &path, score);
            }
            fs::write(cgroup.join("cgroup.procs"), procs).unwrap();
        }
    }
    // What it prefers is no pattern.
    pid += 1;
    process(root, pid, b"earlyoom", Path::new("system.slice/earlyoom.service"), "0");
    write(root, format!("proc/{pid}/cmdline"), [b"earlyoom\0--prefer\0(", TEXT.as_bytes(), b"\0"].concat());
}

fn process(root: &Path, pid: u32, name: &[u8], cgroup: &Path, score: &str) {
    let own = root.join(format!("proc/{pid}"));
    fs::create_dir_all(&own).unwrap();
    for file in fs::read_dir(root.join("proc/201")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let stat = fs::read_to_string(own.join("stat")).unwrap();
    let (_, rest) = stat.split_once(") S 1 ").unwrap();
    // Those that are never killed were started by one of the same kind.
    let parent = if score == "-1000" { pid - 2 } else { 1 };
    let head = format!(") S {parent} ");
    let stat = [pid.to_string().as_bytes(), b" (", name, head.as_bytes(), rest.as_bytes()].concat();
    write(&own, "stat", stat);
    write(&own, "comm", [name, b"\n"].concat());
    write(&own, "cmdline", [name, b"\0--", name, b"\0"].concat());
    write(&own, "cgroup", [b"0::/", cgroup.as_os_str().as_bytes(), b"\n"].concat());
    write(&own, "oom_score_adj", format!("{score}\n"));
    write(&own, "oom_score", if score == "-1000" { "0\n" } else { "1400\n" });
}

/// Units of such names with such values, and such drop-ins of one that is the policy's.
fn units(root: &Path) {
    let show = fs::read_to_string(root.join("run/systemd/show")).unwrap();
    let blocks = show.split("\n\n");
    let own = blocks.clone().find(|block| block.lines().any(|line| line == "Id=local-fs.service")).unwrap();
    let of_kind = |line: &str| !line.starts_with("Id=") && !line.starts_with("ControlGroup=");
    let rest: String = own.lines().filter(|line| of_kind(line)).map(|line| format!("{line}\n")).collect();
    let mut more = String::new();
    for name in NAMES.iter().filter_map(|name| str::from_utf8(name).ok()).filter(|name| !name.contains('\n'))
    {
        for (unit, kind) in [(format!("{name}.service"), "Service"), (format!("{name}.slice"), "Slice")] {
            let file = format!("etc/systemd/system/{unit}");
            write(
                root,
                &file,
                format!("[{kind}]\nMemoryMin={TEXT}\nNonsense{TEXT}=1\n[Other]\nCPUWeight=5\n"),
            );
            more.push_str(&format!(
                "\n\nId={unit}\n{rest}Names={unit}\nControlGroup=/system.slice/{unit}\nFragmentPath=/{file}\n\
                 DropInPaths=/{file}.d/{name}.conf\nMemoryMin=300000000\nMemoryMax=200000000\nKillMode={TEXT}\n\
                 OOMPolicy=stop\nOOMScoreAdjust=-1000\nManagedOOMSwap=kill\nSlice={TEXT}.slice\nMainPID=9001"
            ));
        }
    }
    let show = show.replacen("OOMPolicy=stop", &format!("OOMPolicy={TEXT}"), 1);
    let show = show.replace(
        "DropInPaths=/run/systemd/generator/local-fs.service.d/40-fairslice.conf",
        &format!("DropInPaths=/etc/systemd/system/local-fs.service.d/{}.conf", TEXT.replace('\t', "")),
    );
    // systemd-oomd runs.
    let show = show.replace("Id=systemd-oomd.service\n", "Id=x.service\n");
    let oomd =
        "\n\nId=systemd-oomd.service\nNames=systemd-oomd.service\nLoadState=loaded\nActiveState=active\n";
    write(root, "run/systemd/show", format!("{}{more}{oomd}", show.trim_end()));
    let text = format!("[Service]\nSlice={TEXT}.slice\nCPUWeight={TEXT}\nBlockIOWeight={TEXT}\nX{TEXT}=1\n");
    let commands = format!("[Service]\nExecStart=/bin/a \x1b[35m {TEXT}\n");
    for name in NAMES {
        for directory in ["local-fs.service.d", "local-.service.d", "slice.d", "user-.slice.d"] {
            let file = Path::new("etc/systemd/system").join(directory).join(joined(&[name, b".conf"]));
            write(root, file, &text);
        }
        let directory = Path::new("etc/systemd/system").join(joined(&[name, b".service.d"]));
        write(root, directory.join("50.conf"), &text);
        let file = joined(&[name, b".conf"]);
        write(root, Path::new("etc/systemd/system/local-slm.service.d").join(file), &commands);
    }
}

/// Fragments of such names with such keys and values, of which one holds.
fn policy(root: &Path) {
    let text: String = TEXT.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
    let good = format!(
        "[logins.user.\"{text}\"]\ncpu_weight = 50\n[logins.group.\"a\\n{text}\"]\ncpu_weight = 50\n\
         [private_dir.CARGO_TARGET_DIR]\npath = \"/srv/\u{202e}\u{200b}/{{user}}\"\nusers = [\"a\\n{text}\"]\n\
         groups = [\"{text}\"]\nmax_age = \"1d\"\nmin_uid = 1\n"
    );
    write(root, "etc/fairslice/policy.d/50.toml", good);
    let bad = format!(
        "\"{text}\\n\" = 1\n[slice.\"{text}.slice\"]\nmatch = [\"{text}\"]\ncpu_weight = \"{text}\"\n\
         [service.\"{text}\\n\"]\n[private_dir.\"{text}\"]\n[logins]\n\"{text}\" = 1\n"
    );
    for name in NAMES {
        write(root, Path::new("etc/fairslice/policy.d").join(joined(&[b"60", name, b".toml"])), &bad);
    }
}

/// Every command that has none below it.
fn commands(of: &clap::Command, above: &[String], all: &mut Vec<(Vec<String>, clap::Command)>) {
    for command in of.get_subcommands() {
        let path = [above, &[command.get_name().to_owned()]].concat();
        if command.has_subcommands() {
            commands(command, &path, all);
        } else {
            all.push((path, command.clone()));
        }
    }
}

/// Every way to ask for it: with each option and each of its values, about things of such names, and with what
/// it does not know.
fn forms(command: &clap::Command, what: &[&str]) -> Vec<Vec<OsString>> {
    let what: Vec<OsString> = what.iter().map(OsString::from).collect();
    let with = |more: OsString| [what.as_slice(), &[more]].concat();
    let mut forms = vec![what.clone()];
    let options = command.get_arguments().filter_map(|option| Some((option, option.get_long()?)));
    for (option, name) in options.filter(|(_, name)| *name != "watch") {
        if takes_value(option) {
            let known = option.get_possible_values();
            forms.extend(known.iter().map(|value| with(format!("--{name}={}", value.get_name()).into())));
            forms.extend(WORDS.map(|value| with(joined(&[b"--", name.as_bytes(), b"=", value]))));
        } else {
            // What the command is not told to look at, it looks at all of.
            forms.extend([with(format!("--{name}").into()), vec![format!("--{name}").into()]]);
        }
        if option.get_value_parser().type_id() == clap::builder::ValueParser::string().type_id() {
            forms.extend(NAMES.map(|value| with(joined(&[b"--", name.as_bytes(), b"=", value]))));
        }
    }
    if command.get_positionals().next().is_some() {
        for name in NAMES {
            forms.extend([vec![os(name)], vec![joined(&[b"/system.slice/", name])]]);
        }
        forms.extend(NAMES.map(|name| vec![joined(&[b"etc/fairslice/policy.d/60", name, b".toml"])]));
        forms.push(vec!["--json".into(), os(NAMES[1])]);
    }
    for word in WORDS {
        forms.extend([with(os(word)), with(joined(&[b"--", word])), with(joined(&[b"-", word]))]);
    }
    forms.extend(["--help", "-h", "--nonsense"].map(|option| with(option.into())));
    forms
}

fn takes_value(option: &Arg) -> bool {
    option.get_num_args().is_some_and(|count| count.takes_values())
}

/// What it says on a terminal of its own, of both streams; it is interrupted after `ends`.
fn on_a_terminal(mut command: Command, colours: bool, ends: Option<Duration>) -> Vec<u8> {
    let window = Winsize { ws_row: 200, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&window, None).unwrap();
    let mut settings = tcgetattr(&terminal.slave).unwrap();
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&terminal.slave, SetArg::TCSANOW, &settings).unwrap();
    let stream = || Stdio::from(terminal.slave.try_clone().unwrap());
    command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm-256color");
    if !colours {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    if let Some(ends) = ends {
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        thread::spawn(move || {
            thread::sleep(ends);
            kill(pid, Signal::SIGINT).unwrap();
        });
    }
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    let mut master = File::from(terminal.master);
    if ends.is_none() {
        // What asks before it starts gets an answer: an empty line is a no.
        master.write_all(b"\n").unwrap();
    }
    // An error is that nobody has the other side any more.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        said.extend(&buffer[..count]);
    }
    let status = child.wait().unwrap();
    assert!(ends.is_some() || status.code().is_some_and(|code| code != 101), "{status}");
    said
}

/// What a terminal makes of it: lines, with colours where it may have them.
fn harmless(said: &[u8], colours: bool, of: &str) {
    let bad = |what: &str| panic!("{of}: {what}: {}", String::from_utf8_lossy(said).escape_debug());
    let Ok(text) = str::from_utf8(said) else { bad("no UTF-8") };
    // The terminal itself puts the carriage return there.
    let text = text.replace("\r\n", "\n");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some(character) = rest.chars().next() {
        let colour =
            rest.strip_prefix("\x1b[").and_then(|rest| rest.split_once('m')).map(|(digits, _)| digits);
        let colour = colour.filter(|digits| digits.chars().all(|c| c.is_ascii_digit() || c == ';'));
        if let Some(digits) = colour.filter(|_| colours) {
            // None of ours is magenta.
            if digits == "35" {
                bad("somebody else's colour");
            }
            rest = &rest[digits.len() + 3..];
            continue;
        }
        match character {
            '\n' => {}
            '\0'..=' ' | '\u{7f}'..='\u{9f}' if character != ' ' => bad("a control character"),
            '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => bad("not seen"),
            _ => {}
        }
        plain.push(character);
        rest = &rest[character.len_utf8()..];
    }
    let line =
        plain.lines().find(|line| line.trim_start_matches([' ', '│', '├', '└', '─']).starts_with("FS000"));
    if line.is_some() {
        bad("a line of somebody else's");
    }
}

fn shown(words: &[OsString]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn no_command_lets_them_through() {
    let mut all = Vec::new();
    commands(&Arguments::command(), &[], &mut all);
    let known: Vec<Vec<String>> =
        WHAT.iter().map(|(path, _)| path.iter().map(ToString::to_string).collect()).collect();
    let found: Vec<Vec<String>> = all.iter().map(|(path, _)| path.clone()).collect();
    assert!(found.iter().all(|path| known.contains(path)), "not tried: {found:?}");
    assert!(known.iter().all(|path| found.contains(path)), "gone: {known:?}");
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((path, definition)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    lets_nothing_through(path, definition);
                }
            });
        }
    });
    for form in [
        &["--help"][..],
        &["help", "\x1b[2J"],
        &["\x1b[2J\u{202e}"],
        &["--\x1b[2J"],
        &[],
        &["explain"],
        &["private-dir", "\x1b[2J\u{202e}"],
        &["private-dir", "adopt", "\x1b[2J"],
    ] {
        let machine = machine();
        harmless(&on_a_terminal(command(machine.path(), form), true, None), true, &format!("{form:?}"));
    }
}

/// Whatever its arguments are.
fn lets_nothing_through(path: &[String], definition: &clap::Command) {
    let (_, what) = WHAT.iter().find(|(known, _)| **known == *path).unwrap();
    let machine = machine();
    let all_forms = forms(definition, what);
    println!("fairslice {}: {} forms", path.join(" "), all_forms.len());
    for (number, form) in all_forms.iter().enumerate() {
        // What it says of the machine is said with and without.
        let plain = form
            .iter()
            .all(|word| word.to_str().is_some_and(|word| word.is_ascii() && !word.contains('\x1b')));
        for colours in [true, false].into_iter().filter(|colours| plain || *colours == (number % 2 == 0)) {
            let mut run = command(machine.path(), &path.iter().map(String::as_str).collect::<Vec<_>>());
            run.args(form).current_dir(machine.path());
            let of = format!("fairslice {} {}", path.join(" "), shown(form));
            harmless(&on_a_terminal(run, colours, None), colours, &of);
        }
    }
}

#[test]
fn the_screen_that_is_watched_does_not_either() {
    let machine = machine();
    for colours in [true, false] {
        let run = command(machine.path(), &["status", "--watch=0.3"]);
        let said = on_a_terminal(run, colours, Some(Duration::from_secs(3)));
        let mut text = String::from_utf8(said).unwrap().replace("\r\r\n", "\r\n");
        assert!(text.contains("weight") && text.contains("\\x1b[2J"), "{text}");
        // What the screen is made of.
        for control in [
            "\x1b[?1049h",
            "\x1b[?1049l",
            "\x1b[?25h",
            "\x1b[?25l",
            "\x1b[?7h",
            "\x1b[?7l",
            "\x1b[H",
            "\x1b[K",
            "\x1b[J",
        ] {
            text = text.replace(control, "");
        }
        harmless(text.as_bytes(), colours, "status --watch");
    }
}

#[test]
fn what_each_report_has_to_say_of_them_is_there() {
    let machine = machine();
    for (arguments, told) in [
        (&["status"][..], r"a\x1b[2J\x1b[Hb.slice"),
        (&["doctor"], r"\u{202e}evil\u{200b}"),
        (&["explain", "oom"], r"\x1b]0;title\x07"),
        (&["explain", "memory"], r"\u{9b}31m\u{85}"),
        (&["explain", "share"], r"a\nFS000 severe"),
        (&["explain", "process", "9001"], r"\x1b]0;title\x07"),
        (&["explain", "login", "root"], r#"[logins.group."a\U0000000a\U0000001b]0;title\U00000007"#),
        (&["check"], r"policy.d/60\xff\xfe\x1b.toml"),
        (&["status", "--format=openmetrics"], r#"/a\\x1b[2J\\x1b[Hb.slice""#),
    ] {
        let said = on_a_terminal(command(machine.path(), arguments), true, None);
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(told), "{arguments:?}: {told}: {said}");
    }
}

#[test]
fn what_is_exported_is_harmless() {
    let machine = machine();
    let root = machine.path();
    let output = command(root, &["export", "kubernetes", "k8s"]).current_dir(root).output().unwrap();
    assert!(output.status.code() < Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let mut files = 0;
    for entry in fs::read_dir(root.join("k8s")).unwrap() {
        let file = entry.unwrap().path();
        harmless(&fs::read(&file).unwrap(), false, &format!("{file:?}"));
        files += 1;
    }
    assert!(files > 3, "{files} files");
}

#[test]
fn json_parses_and_loses_nothing() {
    let machine = machine();
    let parsed = |arguments: &[&str]| -> Value {
        let output = command(machine.path(), arguments).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
        })
    };
    for arguments in [
        &["status", "--json"][..],
        &["status", "--json", "local-fs"],
        &["doctor", "--json"],
        &["doctor", "--json", "--no-policy"],
        &["explain", "login", "root", "--json"],
        &["explain", "unit", "local-fs", "--json"],
        &["explain", "share", "--json"],
        &["explain", "memory", "--json"],
        &["explain", "oom", "--json"],
        &["explain", "process", "9001", "--json"],
        &["me", "--json"],
        &["apply", "--dry-run", "--json"],
    ] {
        assert_eq!(parsed(arguments)["version"], 1, "{arguments:?}");
    }
    let doctor = parsed(&["doctor", "--json"]);
    let files: Vec<&Value> = doctor["findings"].as_array().unwrap().iter().map(|one| &one["file"]).collect();
    for name in NAMES {
        let directory = b"/etc/systemd/system/local-fs.service.d/".as_slice();
        let path = [directory, name, b".conf"].concat();
        let wanted = str::from_utf8(&path).map_or_else(|_| json!(path), |text| json!(text));
        assert!(files.contains(&&wanted), "{wanted}: {files:?}");
    }
}

#[test]
fn json_has_every_cgroup_and_process() {
    let machine = machine();
    let of = |arguments: &[&str], list: &str, key: &str| -> Vec<Value> {
        let output = command(machine.path(), arguments).output().unwrap();
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value[list].as_array().unwrap().iter().map(|one| one[key].clone()).collect()
    };
    let cgroups = of(&["status", "--json"], "cgroups", "cgroup");
    let victims = of(&["explain", "oom", "--json"], "victims", "process");
    let never = of(&["explain", "oom", "--json"], "never", "process");
    let as_json = |bytes: &[u8]| str::from_utf8(bytes).map_or_else(|_| json!(bytes), |text| json!(text));
    for name in NAMES {
        let path = as_json(&[b"/system.slice/".as_slice(), name, b".service"].concat());
        assert!(cgroups.contains(&path), "{path}: {cgroups:?}");
        assert!(never.contains(&as_json(name)), "{never:?}");
    }
    assert!(victims.iter().all(|victim| NAMES.iter().any(|name| *victim == as_json(name))), "{victims:?}");
}

#[test]
fn the_launcher_does_not_either() {
    let machine = machine();
    let root = machine.path();
    write(root, "proc/self/cgroup", [b"0::/system.slice/", NAMES[0], b"\xff\n"].concat());
    write(root, "proc/self/oom_score_adj", "0\n");
    for name in NAMES {
        for words in [
            vec![joined(&[b"--", name])],
            vec![joined(&[b"--unit=", name]), "/bin/true".into()],
            vec!["--unit".into(), "local-fs".into(), os(name)],
            vec!["--unit".into(), "local-fs".into(), joined(&[b"/nowhere/", name])],
            vec!["--strict".into(), joined(&[b"/bin/", name])],
            vec![joined(&[b"-", name])],
        ] {
            let mut launcher = Command::new(env!("CARGO_BIN_EXE_fairslice-launch"));
            launcher.arg("--root").arg(root).args(&words).env_remove("INVOCATION_ID");
            harmless(&on_a_terminal(launcher, false, None), false, &shown(&words));
        }
    }
}

#[test]
fn the_generator_does_not_either_and_writes_no_line_of_theirs() {
    let machine = machine();
    let root = machine.path();
    let output = root.join("out");
    let mut generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"));
    generator.arg("--root").arg(root).arg(&output);
    let said = on_a_terminal(generator, false, None);
    assert!(said.starts_with(b"fairslice-generator: "), "{}", String::from_utf8_lossy(&said));
    harmless(&said, false, "generator");
    // One whose own file has such a name: the drop-ins say where each value is from.
    let policies = root.join("etc/fairslice/policy.d");
    for entry in fs::read_dir(&policies).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let setting = "[slice.\"a.slice\"]\ncpu_weight = 7\n[service.a]\noom_score_adj = 7\n";
    for name in NAMES {
        let file = policies.join(joined(&[name, b"\nExecStart=evil\n.toml"]));
        fs::write(&file, setting).unwrap();
        let mut generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"));
        generator.arg("--root").arg(root).arg(&output);
        assert_eq!(on_a_terminal(generator, false, None), b"");
        for unit in ["a.slice", "a.service"] {
            let text = fs::read(output.join(format!("{unit}.d/40-fairslice.conf"))).unwrap();
            harmless(&text, false, unit);
            let text = String::from_utf8(text).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(['#', '['])).collect();
            assert!(matches!(lines[..], ["CPUWeight=7" | "OOMScoreAdjust=7"]), "{text}");
        }
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn arguments_that_are_not_utf8_are_refused_in_one_line() {
    let machine = machine();
    for path in [&["status"][..], &["explain", "login"], &["explain", "oom", "--of"], &["adopt"]] {
        let output = command(machine.path(), path).arg(OsStr::from_bytes(b"\xff\x1b")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.starts_with("error: invalid UTF-8"), "{said}");
    }
    // A file may have any name.
    let output = command(machine.path(), &["check"]).arg(OsStr::from_bytes(b"/\xff\x1b")).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.starts_with(r"/\xff\x1b: cannot be read"), "{said}");
}
