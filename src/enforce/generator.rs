//! `fairslice-generator`: from the policy to drop-ins, at boot and at each `daemon-reload`.
//!
//! See `systemd.generator(7)`. Whatever is wrong, the boot goes on: the error is in the kernel's
//! log, which the journal reads.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::drop_in::drop_ins;
use super::launched::{self, Launched};
use super::own;
use crate::host::machine::Machine;
use crate::paths;
use crate::policy::{self, InForce, Loaded, Policy, SourceFile};
use crate::survey;
use crate::text::shown;

/// The kernel's log takes ten lines in five seconds from one program.
const MOST_LINES: usize = 6;

/// Runs the generator with the program's arguments: the directory to write to, and two more that
/// are not used; for tests, `--root DIR` stands before them.
#[must_use]
pub fn main() -> ExitCode {
    own::keep_others_out();
    let mut words = std::env::args_os().skip(1).peekable();
    let root = paths::root(&mut words);
    let Some(directory) = words.next().map(PathBuf::from) else {
        let usage = "usage: fairslice-generator NORMAL-DIR [EARLY-DIR LATE-DIR] (systemd runs it, see systemd.generator(7))";
        let _ = writeln!(io::stderr(), "{usage}");
        return ExitCode::from(2);
    };
    let (result, problems) = run(&root, &directory);
    let failure = result.as_ref().err().map(|error| format!("{error:#}"));
    let lines: Vec<String> = problems.into_iter().chain(failure).collect();
    log(&root, &lines);
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The drop-ins with the settings that a policy comes to, by unit: what a daemon-reload would write now.
#[must_use]
pub fn texts(policy: &Policy, machine: Machine) -> BTreeMap<String, String> {
    drop_ins(policy, machine.ram)
}

/// Writes the drop-ins of the policy below `root` into `directory`. The lines say what is wrong
/// with the policy.
fn run(root: &Path, directory: &Path) -> (Result<()>, Vec<String>) {
    let loaded = survey::declared(root);
    let mut problems: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    problems.extend(loaded.in_force.note());
    let launched = launched::declared(root, &loaded.policy).unwrap_or_else(|error| {
        problems.push(format!("no unit has the launcher: {error:#}"));
        Vec::new()
    });
    problems.extend(launched::left_out(&launched));
    (generate(root, directory, &loaded, &launched), problems)
}

fn generate(root: &Path, directory: &Path, loaded: &Loaded, launched: &[Launched]) -> Result<()> {
    let machine = Machine::read(root)?;
    let texts = texts(&loaded.policy, machine).into_iter();
    let settings = texts.map(|(unit, text)| (Path::new(&format!("{unit}.d")).join(paths::DROP_IN), text));
    write_all(directory, &settings.chain(launched::files(launched)).collect())?;
    for_logins(root, loaded).context("compiling the policy for logins")?;
    if loaded.in_force == InForce::Current {
        keep(root, &loaded.files).context("keeping this policy for when the next one is broken")?;
    }
    Ok(())
}

/// Puts the policy in force for logins.
///
/// # Errors
/// It cannot be written.
pub fn for_logins(root: &Path, loaded: &Loaded) -> Result<()> {
    own::run(root)?;
    let file = root.join(paths::COMPILED);
    let next = file.with_extension("next");
    write(&next, policy::compile(loaded))?;
    fs::rename(&next, &file).with_context(|| format!("renaming {}", shown(&next)))
}

/// Writes all drop-ins, or none: half a policy is worse than the error.
fn write_all(directory: &Path, drop_ins: &BTreeMap<PathBuf, String>) -> Result<()> {
    let result = drop_ins.iter().try_for_each(|(file, text)| write(&directory.join(file), text));
    if result.is_err() {
        for file in drop_ins.keys() {
            // What was not written cannot be removed.
            let _ = fs::remove_file(directory.join(file));
        }
    }
    result
}

fn write(file: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(|| format!("making {}", shown(&parent)))?;
    }
    fs::write(file, text).with_context(|| format!("writing {}", shown(&file)))
}

/// Keeps the files of a policy that is right, as the last good one.
fn keep(root: &Path, files: &[SourceFile]) -> Result<()> {
    let last_good = root.join(paths::LAST_GOOD);
    let next = last_good.with_extension("next");
    let _ = fs::remove_dir_all(&next);
    for file in files {
        let relative = file.path.strip_prefix("/").unwrap_or(&file.path);
        write(&next.join(relative), &file.text)?;
    }
    // A login meanwhile finds the one or the other.
    match renameat_with(CWD, &next, CWD, &last_good, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => fs::rename(&next, &last_good),
        exchanged => exchanged.map_err(io::Error::from),
    }
    .with_context(|| format!("renaming {}", shown(&next)))?;
    let _ = fs::remove_dir_all(&next);
    Ok(())
}

/// To the kernel's log, as `systemd.generator(7)` asks, since at boot there is no other; below a
/// test's root, and where that log cannot be opened, to stderr.
fn log(root: &Path, lines: &[String]) {
    let told = if lines.len() > MOST_LINES { MOST_LINES - 1 } else { lines.len() };
    let more =
        (lines.len() > told).then(|| format!("{} more errors: run \"fairslice check\"", lines.len() - told));
    let mut kernel_log =
        fs::OpenOptions::new().write(true).open("/dev/kmsg").ok().filter(|_| root == Path::new(paths::ROOT));
    for line in lines.iter().take(told).chain(more.as_ref()) {
        let line = format!("fairslice-generator: {}\n", shown(line));
        // One write is one record; "<3>" is its priority, an error.
        let logged =
            kernel_log.as_mut().is_some_and(|log| log.write_all(format!("<3>{line}").as_bytes()).is_ok());
        if !logged {
            // `eprintln!` would panic where stderr is gone.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}
