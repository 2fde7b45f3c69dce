//! `fairslice status --watch`, on a terminal of its own and without one.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::zombie_processes
)]

mod fixture;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use fixture::{SERVICES, command, load, machine, write};

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// In a terminal of 80 columns and 24 lines, after `before`.
fn on_a_terminal(root: &Path, before: &str) -> Child {
    let program = env!("CARGO_BIN_EXE_fairslice");
    let watch = format!("exec {program} --root {} status --watch=0.3", root.display());
    let shell = format!("stty rows 24 cols 80; {before} {watch}");
    let mut script = Command::new("timeout");
    script.args(["--foreground", "60", "script", "--quiet", "--return", "--command", &shell, "/dev/null"]);
    script.env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Everything up to and with `end`.
fn read_until(child: &mut Child, end: &str) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.ends_with(end.as_bytes()) {
        let read = child.stdout.as_mut().unwrap().read(&mut byte).unwrap();
        assert!(read > 0, "ended without {end:?}: {}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What is typed to end it; the rest of the output, and the exit code that a shell sees.
fn end(mut child: Child, key: &[u8]) -> (String, Option<i32>) {
    child.stdin.as_mut().unwrap().write_all(key).unwrap();
    let mut rest = String::new();
    child.stdout.as_mut().unwrap().read_to_string(&mut rest).unwrap();
    (rest, child.wait().unwrap().code())
}

#[test]
fn it_refreshes_in_place_and_leaves_the_terminal_as_it_was() {
    let machine = machine();
    let root = machine.path();
    load(root, SERVICES, 1 << 20, 0);
    let mut child = on_a_terminal(root, "");
    let first = read_until(&mut child, "as declared\x1b[K\x1b[J");
    assert!(first.contains(ENTER) && first.contains("used") && !first.contains(LEAVE), "{first}");
    assert!(first.lines().filter(|line| line.contains("foundry-services")).all(|line| line.contains("0%")));
    // A minute of CPU time since: more than two CPUs can have used.
    write(root, &format!("sys/fs/cgroup/{SERVICES}/cpu.stat"), "usage_usec 60000000\n");
    let second = read_until(&mut child, "as declared\x1b[K\x1b[J");
    let line = second.lines().find(|line| line.contains("foundry-services")).unwrap();
    assert!(second.starts_with("\x1b[H") && line.contains("100%"), "{second}");
    let (rest, code) = end(child, b"\x03");
    assert!(rest.ends_with(LEAVE) || rest.ends_with(&format!("^C{LEAVE}")), "{rest:?}");
    // As a shell has it: ended by SIGINT.
    assert_eq!(code, Some(130));
}

#[test]
fn a_resized_window_is_filled_at_once() {
    let machine = machine();
    let mut child = on_a_terminal(machine.path(), "(sleep 1; stty rows 9 cols 120 <&1) &");
    assert!(!read_until(&mut child, "as declared\x1b[K\x1b[J").contains("score"));
    read_until(&mut child, "score rank");
    // Nine lines: the last ones are cut off.
    let frame = read_until(&mut child, "\x1b[J");
    assert!(!frame.contains("as declared") && frame.lines().count() <= 9, "{frame}");
    assert_eq!(end(child, b"\x03").1, Some(130));
}

#[test]
fn without_a_terminal_one_screen_follows_the_other() {
    let machine = machine();
    let mut child =
        command(machine.path(), &["status", "--watch=0.2"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let text: Vec<String> = lines.take(40).collect();
    assert_eq!(text.iter().filter(|line| line.contains("weight share")).count(), 3, "{text:?}");
    assert!(!text.concat().contains('\x1b'), "{text:?}");
    // It ends when nobody reads.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap().and_then(|status| status.code()), Some(0));
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let machine = machine();
    for arguments in [&["--watch", "--json"][..], &["--watch", "local-fs"], &["--watch=0"], &["--watch=x"]] {
        let all = [&["status"], arguments].concat();
        assert_eq!(fixture::fairslice(machine.path(), &all).0, 2, "{arguments:?}");
    }
    let (code, _, err) = fixture::fairslice(machine.path(), &["status", "root", "--format=openmetrics"]);
    assert!(code == 2 && err.contains("no NAME"), "{err}");
}
