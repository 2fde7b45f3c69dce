//! `fairslice status --output FILE`, and the unit that root's metrics come from.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod fixture;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fairslice::paths;
use fixture::write;
use tempfile::TempDir;

const FORMAT: &str = "--format=openmetrics";

fn machine() -> TempDir {
    let machine = fixture::machine();
    write(machine.path(), "run/systemd/show", "");
    machine
}

/// What `status` says of writing a file.
fn status(machine: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = fixture::command(machine.path(), &[&["status"], arguments].concat()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_file_gets_what_would_be_printed() {
    let (machine, out) = (machine(), tempfile::tempdir().unwrap());
    let file = out.path().join("f.prom");
    let path = file.to_str().unwrap();
    for (format, end) in [(FORMAT, "# EOF\n"), ("--json", "}\n")] {
        let (code, printed, _) = status(&machine, &[format]);
        for arguments in [vec![format, "--output", path], vec![format, &format!("--output={path}")]] {
            fs::write(&file, "old").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let (wrote, out_text, said) = status(&machine, &arguments);
            assert_eq!((wrote, out_text.as_str(), said.as_str()), (code, "", ""));
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.ends_with(end) && text.lines().count() == printed.lines().count(), "{text}");
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
            assert_eq!(names(out.path()), ["f.prom"]);
        }
    }
    // Something is not as declared: that is among the figures.
    fs::remove_file(&file).unwrap();
    write(machine.path(), "sys/fs/cgroup/foundry.slice/cpu.weight", "1\n");
    assert_eq!(status(&machine, &[FORMAT, "--output", path]).0, Some(1));
    assert!(fs::read_to_string(&file).unwrap().ends_with("# EOF\n"));
    // A relative name is one of the working directory.
    let mut command = fixture::command(machine.path(), &["status", FORMAT, "--output=relative"]);
    assert_eq!(command.current_dir(out.path()).status().unwrap().code(), Some(1));
    assert!(out.path().join("relative").exists());
}

/// Whoever owns the directory, or one above it, gets root to write nowhere else.
#[test]
fn no_link_is_written_through() {
    let (machine, out) = (machine(), tempfile::tempdir().unwrap());
    let at = |name: &str| out.path().join(name);
    fs::create_dir(at("theirs")).unwrap();
    fs::write(at("victim"), "precious").unwrap();
    symlink("../victim", at("theirs/f.prom")).unwrap();
    let arguments = |path: &str| [FORMAT.to_owned(), format!("--output={}", at(path).display())];
    let run = |path: &str| {
        let [format, output] = arguments(path);
        status(&machine, &[&format, &output])
    };
    assert_eq!(run("theirs/f.prom").0, Some(0));
    assert!(!at("theirs/f.prom").is_symlink());
    symlink("theirs", at("link")).unwrap();
    fs::remove_file(at("theirs/f.prom")).unwrap();
    let (code, _, said) = run("link/f.prom");
    let expected = format!(
        "fairslice: opening {0}: {0} is a symbolic link, and none is followed: name where it leads (realpath {0})\n",
        at("link").display()
    );
    assert_eq!((code, said), (Some(2), expected));
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
    assert_eq!(names(&at("theirs")), [""; 0]);
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let (machine, out) = (machine(), tempfile::tempdir().unwrap());
    fs::create_dir_all(out.path().join("directory/below")).unwrap();
    let path = |name: &str| out.path().join(name).to_str().unwrap().to_owned();
    for (file, why) in [
        (path("directory"), format!("writing {}: ", path("directory"))),
        (path("missing/f.prom"), format!("opening {}: ", path("missing"))),
        (path("directory/.."), format!("{} is no file's name", path("directory/.."))),
        ("/proc/f.prom".to_owned(), "writing /proc/f.prom: ".to_owned()),
    ] {
        let (code, printed, said) = status(&machine, &[FORMAT, "--output", &file]);
        assert_eq!((code, printed.as_str(), said.lines().count()), (Some(2), "", 1), "{said}");
        assert!(said.starts_with(&format!("fairslice: {why}")), "{said}");
    }
    assert_eq!(names(out.path()), ["directory"]);
    let (code, _, said) = status(&machine, &["--output", &path("f")]);
    assert_eq!(
        (code, said.as_str()),
        (Some(2), "fairslice: --output is for --json and --format=openmetrics\n")
    );
    assert_eq!(status(&machine, &["--watch", "--output", &path("f")]).0, Some(2));
}

#[test]
fn a_reader_never_finds_half_of_it() {
    let (machine, out) = (machine(), tempfile::tempdir().unwrap());
    let file = out.path().join("f.prom");
    let path = file.to_str().unwrap();
    status(&machine, &[FORMAT, "--output", path]);
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(fs::read_to_string(&file).unwrap().ends_with("# EOF\n"));
                looks += 1;
            }
            looks
        });
        for _ in 0..10 {
            status(&machine, &[FORMAT, "--output", path]);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 100, "{looks}");
}

/// What one of the units that run as root may not, the other may not, but for what it is for.
#[test]
fn the_units_have_the_same_sandbox() {
    let settings = |unit: &str| -> BTreeSet<String> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(unit);
        let text = fs::read_to_string(file).unwrap();
        let service = text.split_once("[Service]\n").unwrap().1;
        service
            .lines()
            .filter(|line| line.contains('=') && !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    let (metrics, headcount) =
        (settings("fairslice-metrics.service"), settings("fairslice-headcount@.service"));
    let of = |all: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        let own = all.difference(other).filter(|line| !line.starts_with("ExecStart="));
        own.cloned().collect()
    };
    assert_eq!(
        of(&metrics, &headcount),
        [
            "CapabilityBoundingSet=CAP_SETUID CAP_SETGID",
            "ProtectHome=read-only",
            "StateDirectory=fairslice/node-exporter",
            "SystemCallFilter=setfsuid setfsgid",
            "WorkingDirectory=/var/lib/fairslice/node-exporter",
        ]
    );
    assert_eq!(
        of(&headcount, &metrics),
        [
            "CapabilityBoundingSet=",
            "ExecStartPre=/bin/rm -f /run/fairslice/uncounted",
            "PrivateTmp=yes",
            "ProtectHome=yes",
            "Restart=on-failure",
            "RestartSec=30s",
            "RuntimeDirectory=fairslice",
            "RuntimeDirectoryPreserve=yes",
        ]
    );
    assert!(metrics.intersection(&headcount).count() > 20);
    let path = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd").join(paths::HEADCOUNT_PATH),
    );
    assert!(path.unwrap().contains(&format!("PathExists=/{}\n", paths::UNCOUNTED)));
}
