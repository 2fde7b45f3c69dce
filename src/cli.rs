//! The `fairslice` command: arguments, and which report or action they ask for.
#![forbid(unsafe_code)]

mod adopt;
mod apply;
mod doctor;
mod explain;
mod named;
mod out;
mod private_dir;
mod status;

use std::env;
use std::ffi::OsString;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use self::out::{print, print_error, say};
use crate::enforce::lock::Lock;
use crate::enforce::own;
use crate::host::account;
use crate::host::machine::Machine;
use crate::paths;
use crate::policy::{self, Diagnostic, InForce, Loaded};
use crate::report;
use crate::text::shown;
use crate::{effect, enforce};

/// Something is not as it should be: a policy has errors, a live value differs.
const FOUND: u8 = 1;
/// Bad usage, or the machine could not be looked at.
const FAILED: u8 = 2;

/// How long a command waits for another that changes the machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Services and logins each get their slice of the machine, from one declared policy.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 all is well, 1 something is not, 2 could not look or change."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate the policy, or FILEs as one policy: every error, with file, line and column
    Check {
        /// Policy files, merged in this order [default: the machine's policy]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the merged policy that is in force, and where each value comes from
    Policy,
    /// Show slices, units and logins: what they use, what they are due, what is not as declared
    Status(status::Options),
    /// Find what is not as it was meant: each thing once, the worst first, with cause and fix
    Doctor(doctor::Arguments),
    /// Say what something comes to, and why: a login, a unit, CPU shares, memory, the kill order
    #[command(subcommand)]
    Explain(explain::Explain),
    /// Make the running machine what the policy says, now
    Apply(apply::Options),
    /// Put fairslice-launch in front of the ExecStart= of UNITs, by a drop-in of its own
    Adopt {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Remove what adopt has made, and nothing else
    Release {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Look after private directories: what systemd's service calls
    #[command(hide = true)]
    PrivateDir {
        #[command(subcommand)]
        action: private_dir::Action,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Services, with or without ".service"; a template ("w@") stands for all its instances
    #[arg(value_name = "UNIT", required_unless_present = "all")]
    units: Vec<String>,
    /// adopt: every service that a slice of the policy holds; release: every one adopted
    #[arg(long, conflicts_with = "units")]
    all: bool,
}

#[derive(Debug, Args)]
struct How {
    /// Print the change as a diff, and make none
    #[arg(long)]
    dry_run: bool,
    /// Restart those of the changed services that run, instead of naming them
    #[arg(long, conflicts_with = "dry_run")]
    restart: bool,
}

/// Runs the command with the program's arguments.
#[must_use]
pub fn main() -> ExitCode {
    own::keep_others_out();
    let mut words = env::args_os().skip(1).peekable();
    let root = paths::root(&mut words);
    let words: Vec<OsString> = iter::once(env!("CARGO_PKG_NAME").into()).chain(words).collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&words, error),
    };
    let result = match arguments.command {
        Command::Check { files } => check(&root, &files),
        Command::Policy => print_policy(&root),
        Command::Status(options) => status::status(&root, &options),
        Command::Doctor(arguments) => doctor::run(&root, &arguments),
        Command::Explain(what) => explain::run(&root, what),
        Command::Apply(options) => apply::run(&root, &options),
        Command::Adopt { which, how } => adopt::adopt(&root, which, &how),
        Command::Release { which, how } => adopt::release(&root, which, &how),
        Command::PrivateDir { action } => private_dir::run(&root, action),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("fairslice: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// The right to change the machine: whoever has to be waited for is named on stderr.
fn lock(root: &Path, patience: Duration) -> Result<Lock> {
    Lock::take(root, patience, |waiting| say(format_args!("fairslice: {waiting}")))
}

/// What is asked for with "--help", or what is wrong with the arguments: as they can be printed, for clap
/// repeats them.
fn refuse(words: &[OsString], error: clap::Error) -> ExitCode {
    let shown = words.iter().map(|word| shown(word).to_string());
    let error = Arguments::try_parse_from(shown).err().unwrap_or(error);
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        print_error(&text);
        return ExitCode::from(FAILED);
    }
    match print(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn check(root: &Path, files: &[PathBuf]) -> Result<u8> {
    let loaded = if files.is_empty() { policy::load(root) } else { policy::load_files(files) };
    let mut diagnostics = loaded.diagnostics;
    if loaded.in_force == InForce::Current {
        let ram = Machine::read(root)?.ram;
        diagnostics.extend(policy::review(&loaded.policy, ram, account::group_exists, account::user_exists));
        diagnostics.extend(enforce::private_dir::review(root, &loaded.policy)?);
        let broken = effect::broken_floors(&loaded.policy).into_iter();
        diagnostics.extend(broken.map(|(floor, message)| Diagnostic::at(&floor.origin, message).warning()));
    }
    let mut lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    lines.extend(loaded.in_force.note());
    if diagnostics.is_empty() {
        let read: Vec<String> = loaded.files.iter().map(|file| shown(&*file.path).to_string()).collect();
        lines.push(format!("{}: ok", read.join(" + ")));
    }
    for line in lines {
        print(&format!("{}\n", shown(&line)))?;
    }
    Ok(if diagnostics.is_empty() { 0 } else { FOUND })
}

fn print_policy(root: &Path) -> Result<u8> {
    let loaded = policy::load(root);
    print(&report::policy(&loaded.policy))?;
    Ok(complain(&loaded))
}

/// Says on stderr what could not be looked at.
fn say_missed(missed: &[String]) {
    for missed in missed {
        say(format_args!("fairslice: not looked at: {missed}"));
    }
}

/// Says on stderr what is wrong with the policy that other commands work with.
fn complain(loaded: &Loaded) -> u8 {
    for diagnostic in &loaded.diagnostics {
        say(diagnostic);
    }
    if let Some(line) = loaded.in_force.note() {
        say(format_args!("fairslice: {line}"));
    }
    if loaded.diagnostics.is_empty() { 0 } else { FOUND }
}
