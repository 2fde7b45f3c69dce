//! Machines for tests: what the commands read, as files of `tests/machines`.
//!
//! A file of `tests/machines` has the lines
//!
//! ```text
//! < NAME                everything of the machine NAME first
//! @ /DIRECTORY          what follows lies there
//! FILE: TEXT            a file of one line
//! FILE:                 a longer one, whose lines follow, each behind a tab
//! FILE+:                lines that are added to what the file has
//! FILE                  an empty one
//! FILE -> TARGET        a link
//! ```
//!
//! In a `cmdline`, `\0` stands for the byte. `tests/vm/capture.py` writes such files.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test uses what it needs"
)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The machine of this name, unpacked, for `--root`.
pub(crate) fn machine(name: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    unpack(name, directory.path());
    directory
}

/// Writes a file below `root`, and the directories that it is in.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Replaces what is in a file, once.
pub(crate) fn replace(root: &Path, path: &str, from: &str, to: &str) {
    let file = root.join(path.trim_start_matches('/'));
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{path} has no {from:?}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn unpack(name: &str, root: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(name);
    let text = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    let mut directory = PathBuf::new();
    let mut lines = text.lines().filter(|line| !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        if let Some(base) = line.strip_prefix("< ") {
            unpack(base, root);
        } else if let Some(path) = line.strip_prefix("@ ") {
            directory = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(&directory).unwrap();
        } else if let Some((name, target)) = line.split_once(" -> ") {
            symlink(target, directory.join(name)).unwrap();
        } else {
            let mut more = String::new();
            while let Some(line) = lines.peek().and_then(|line| line.strip_prefix('\t')) {
                more.push_str(line);
                more.push('\n');
                lines.next();
            }
            file(&directory, line, &more);
        }
    }
}

/// Writes the file that a line names, with the lines that follow.
fn file(directory: &Path, line: &str, more: &str) {
    if let Some(name) = line.strip_suffix("+:") {
        let mut file = OpenOptions::new().append(true).open(directory.join(name)).unwrap();
        file.write_all(more.as_bytes()).unwrap();
        return;
    }
    let (name, text) = match line.split_once(": ") {
        Some((name, text)) => (name, format!("{}\n", text.replace("\\0", "\0"))),
        None => (line.strip_suffix(':').unwrap_or(line), more.to_owned()),
    };
    // That of a process has no end of line.
    let text = if name == "cmdline" { text.trim_end_matches('\n') } else { &text };
    fs::write(directory.join(name), text).unwrap();
}
