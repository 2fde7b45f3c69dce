//! What a machine's programs and files say.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use fairslice::host::assigned::in_shell;
use fairslice::host::pid1::Manager;
use fairslice::host::{cgroup, pam as stack, sshd as daemon};
use fairslice::report::{Drilled, Fleet, fleet_json, fleet_text};
use fairslice::text::Foreign;
use tempfile::{TempDir, tempdir};

use super::{assert_can_be_shown, assert_is_a_place};

/// The connection to PID 1: whatever PID 1 says, from the authentication on.
pub(super) fn dbus(said: &[u8]) {
    let root = tempdir().unwrap();
    fs::create_dir_all(root.path().join("run/systemd")).unwrap();
    let listener = UnixListener::bind(root.path().join("run/systemd/private")).unwrap();
    thread::scope(|scope| {
        let pid1 = scope.spawn(|| {
            let (mut client, _) = listener.accept().unwrap();
            // Fails where the client has heard enough.
            let _ = client.write_all(said);
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.read_to_end(&mut Vec::new());
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        if let Err(error) = Manager::below(root.path()).service_properties("a.service", deadline) {
            assert_can_be_shown(&format!("{error:#}"));
        }
        assert!(Instant::now() < deadline, "waited for what does not come");
        pid1.join().unwrap();
    });
}

/// A file that may be of a drill.
pub(super) fn drill(file: &[u8]) {
    match Drilled::read(file) {
        Ok(drill) => assert!(file.len() >= drill.time.len()),
        Err(why) => assert_can_be_shown(&why),
    }
}

/// What hosts have sent of themselves: there is a line for each, or one that says why not.
pub(super) fn fleet(sent: &[u8]) {
    let mut fleet = Fleet::default();
    fleet.add(&Foreign::from("file"), sent);
    let (table, unread) = (fleet_text(&fleet), fleet.unread());
    assert!(!table.is_empty() || !unread.is_empty());
    assert!(fleet_json(&fleet).lines().count() > 3);
    for line in unread {
        assert_can_be_shown(&line);
    }
}

/// `/proc/PID/cgroup`.
pub(super) fn proc_cgroup(text: &[u8]) {
    let root = below("proc/1", &[("cgroup", text)]);
    if let Ok(path) = cgroup::of_process(root.path(), "1") {
        assert_is_a_place(&path);
    }
}

/// PAM's files, which include one another: see [`files`].
pub(super) fn pam(text: &[u8]) {
    let root = below("etc/pam.d", &files(text));
    if let Ok(modules) = stack::session_stack(root.path(), "a") {
        for module in modules {
            assert!(!module.control.is_empty() && !module.path.is_empty() && module.line > 0);
            assert!(!module.name.contains('/'));
            let _ = stack::is_there(root.path(), &module.path);
        }
    }
}

/// sshd's files.
pub(super) fn sshd(text: &str) {
    let root = below("etc/ssh", &files(text.as_bytes()));
    let _ = fs::rename(root.path().join("etc/ssh/a"), root.path().join("etc/ssh/sshd_config"));
    if let Some(daemon::UsePam { at: Some((file, line)), .. }) = daemon::use_pam(root.path()) {
        let text = fs::read_to_string(root.path().join(file.strip_prefix("/").unwrap())).unwrap();
        let said = text.lines().nth(line - 1).unwrap();
        assert!(said.to_ascii_lowercase().contains("usepam"), "{said:?}");
    }
}

/// The files `a`, `b`, `c` and `d`: a text, with a line `==` between two of them.
fn files(text: &[u8]) -> Vec<(&'static str, &[u8])> {
    let mut rest = Some(text);
    let mut files = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let Some(text) = rest else { break };
        let end = text.windows(4).position(|bytes| bytes == b"\n==\n");
        files.push((name, end.map_or(text, |end| &text[..=end])));
        rest = end.map(|end| &text[end + 4..]);
    }
    files
}

fn below(directory: &str, files: &[(&str, &[u8])]) -> TempDir {
    let root = tempdir().unwrap();
    let directory = root.path().join(directory);
    fs::create_dir_all(&directory).unwrap();
    for (name, text) in files {
        fs::write(directory.join(Path::new(name)), text).unwrap();
    }
    root
}

/// A startup file of a shell.
pub(super) fn shell(text: &str) {
    let lines = text.lines().count();
    for (line, value) in in_shell(text, "X") {
        assert!((1..=lines).contains(&line));
        assert!(value.is_none_or(|value| text.len() >= value.len()));
    }
}
