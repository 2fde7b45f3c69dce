//! The `fairslice` command: arguments, and which report or action they ask for.
#![forbid(unsafe_code)]

mod adopt;
mod apply;
mod doctor;
mod drill;
mod explain;
mod export;
mod fleet;
mod import;
mod out;
mod output;
mod overview;
mod page;
mod private_dir;
mod status;

use std::env;
use std::ffi::OsString;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::out::{print, print_error, say};
use crate::effect::ignored::{Here, ignored};
use crate::enforce::launched::Launched;
use crate::enforce::lock::Lock;
use crate::enforce::own;
use crate::host::account;
use crate::host::cgroup;
use crate::host::clock;
use crate::host::disk::Disks;
use crate::host::machine::Machine;
use crate::host::oom;
use crate::host::tree::{self, Tree};
use crate::host::units;
use crate::paths;
use crate::policy::{self, Diagnostic, InForce, Loaded};
use crate::report::{self, Stamp};
use crate::survey;
use crate::survey::unmatched::{self, Unmatched};
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
    after_help = "Without a command: what is in force, what is not, and what to run next.\n\
                  Exit status: 0 all is well, 1 something is not, 2 could not look or change."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate the policy, or FILEs as one policy: every error, with file, line and column
    Check {
        /// Policy files, merged in this order [default: the machine's policy]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print what an export in these words would lose as well, and write nothing
        #[arg(long, value_name = "FORMAT")]
        export: Option<export::Format>,
        #[command(flatten)]
        size: export::Size,
    },
    /// Print the merged policy that is in force, and where each value comes from
    Policy,
    /// Show slices, units and logins: what they use, what they are due, what is not as declared
    Status(status::Options),
    /// Write one page for a review: tree, settings, memory, kill order, findings and policy, as HTML
    Report(page::Options),
    /// Show what "fairslice status --json" said of many hosts in one table, the worst first
    Fleet(fleet::Options),
    /// Say what you are due of this machine and get, which limits hold you, and who set each
    Me(explain::process::Form),
    /// Find what is not as it was meant: each thing once, the worst first, with cause and fix
    Doctor(doctor::Arguments),
    /// Say what something comes to, and why: a login, a unit, a process, CPU shares, memory, the kill order
    #[command(subcommand)]
    Explain(explain::Explain),
    /// Prove it: start loads beside services and logins, and measure what they get
    Drill(drill::Options),
    /// A load of a drill's
    #[command(hide = true, name = enforce::drill::COMMAND)]
    DrillLoad(drill::Load),
    /// Make the running machine what the policy says, now
    Apply(apply::Options),
    /// Print what was set up by hand as a policy, put that in its place, and retire the files it was set in
    Import(import::Options),
    /// Put the policy in the words of another system, and print what those cannot say
    #[command(subcommand)]
    Export(export::To),
    /// Declare launcher = true for UNITs, in a policy file of its own
    Adopt {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Take UNITs out of that file again, and nothing else
    Release {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Print what completes this command's words in a shell
    Completion {
        /// Which one
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Take back what the policy has come to: what removing the package calls
    #[command(hide = true)]
    Withdraw,
    /// Have PID 1 keep limits that are below what is used: what installing the package calls before a reload
    #[command(hide = true)]
    Hold,
    /// Say in two lines at most what is in force, what waits for a restart and what is wrong: what installing the
    /// package ends with
    #[command(hide = true)]
    Installed,
    /// Look after private directories
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
    /// Print the change as a diff, of the commands too, and make none
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
    let Some(command) = arguments.command else { return end(overview::overview(&root)) };
    end(match command {
        Command::Check { files, export, size } => check(&root, &files, export, &size),
        Command::Policy => print_policy(&root),
        Command::Status(options) => status::status(&root, &options),
        Command::Report(options) => page::run(&root, &options),
        Command::Fleet(options) => fleet::run(&options),
        Command::Me(form) => explain::process::me(&root, &form),
        Command::Doctor(arguments) => doctor::run(&root, &arguments),
        Command::Explain(what) => explain::run(&root, what),
        Command::Drill(options) => drill::run(&root, &options),
        Command::DrillLoad(load) => drill::load(&root, &load),
        Command::Apply(options) => apply::run(&root, &options),
        Command::Import(options) => import::run(&root, &options),
        Command::Export(to) => export::run(&root, &to),
        Command::Adopt { which, how } => adopt::adopt(&root, which, &how),
        Command::Release { which, how } => adopt::release(&root, &which, &how),
        Command::Completion { shell } => complete(shell),
        Command::Withdraw => apply::withdraw(&root),
        Command::Hold => apply::hold(&root),
        Command::Installed => overview::installed(&root),
        Command::PrivateDir { action } => private_dir::run(&root, action),
    })
}

/// The exit status; on stderr what could not be done.
fn end(result: Result<u8>) -> ExitCode {
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

fn check(root: &Path, files: &[PathBuf], export: Option<export::Format>, size: &export::Size) -> Result<u8> {
    if export.is_none() && size.is_given() {
        bail!("--node-cpus and --node-memory are for --export");
    }
    let mut loaded = if files.is_empty() { policy::load(root) } else { policy::load_files(files) };
    let twice = survey::resolve(root, &mut loaded);
    let waits = if files.is_empty() && root.join(paths::COMPILED).exists() {
        not_in_force(root, &loaded)
    } else {
        None
    };
    let mut diagnostics = loaded.diagnostics;
    diagnostics.extend(twice);
    if loaded.in_force == InForce::Current {
        let ram = Machine::read(root)?.ram;
        diagnostics.extend(policy::review(&loaded.policy, ram, account::group_called, account::user_called));
        loaded.policy.find_disks(root);
        let systemd = || units::manager(root).ok()?.version;
        diagnostics.extend(policy::here(&loaded.policy, tree::online(root).ok().as_ref(), systemd));
        let (disks, sched_ext) = (Disks::read(root), tree::sched_ext(root));
        let here = Here { disks: &disks, swap: oom::swap(root), sched_ext: sched_ext.as_ref() };
        let ignored = ignored(&loaded.policy, &here).into_iter();
        diagnostics.extend(ignored.map(|(origin, message)| Diagnostic::at(origin, message).warning()));
        diagnostics.extend(enforce::private_dir::review(root, &loaded.policy)?);
        diagnostics.extend(enforce::login::review(root, &loaded.policy));
        // Without cgroupfs, there are the units with files.
        let services = unmatched::services(root, Tree::read_weights(root).ok().as_ref());
        let names = unmatched::unmatched(&loaded.policy, &services);
        diagnostics.extend(names.iter().map(Unmatched::diagnostic));
        let launched = enforce::launched::declared(root, &loaded.policy)?;
        diagnostics.extend(launched.iter().filter_map(Launched::diagnostic));
        // Files that are named may be for another machine.
        let beside =
            |cgroup: &Path| if files.is_empty() { cgroup::weights_in(root, cgroup) } else { Vec::new() };
        let broken = effect::broken_floors(&loaded.policy, &beside).into_iter();
        diagnostics.extend(broken.map(|(floor, message)| Diagnostic::at(&floor.origin, message).warning()));
    }
    let note = policy::note(&loaded.policy, account::group_exists);
    let mut lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    lines.extend(loaded.in_force.note());
    if diagnostics.is_empty() {
        let read: Vec<String> = loaded.files.iter().map(|file| shown(&*file.path).to_string()).collect();
        lines.push(format!("{}: ok", read.join(" + ")));
    }
    // Neither a price that is paid nor an edit that waits is anything wrong.
    lines.extend(note);
    lines.extend(waits);
    for line in lines {
        print(&format!("{}\n", shown(&line)))?;
    }
    if export.is_some() {
        print(&format!("\n{}", export::losses(root, &loaded.policy, size)?))?;
    }
    Ok(if diagnostics.is_empty() { 0 } else { FOUND })
}

fn complete(shell: Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), env!("CARGO_PKG_NAME"), &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(0)
}

fn print_policy(root: &Path) -> Result<u8> {
    let loaded = survey::declared(root);
    print(&report::policy(&loaded.policy))?;
    Ok(complain(&loaded))
}

/// Whose report it is, and of when.
fn stamp(root: &Path) -> Stamp {
    Stamp { host: clock::host_name(root), time: clock::utc(SystemTime::now()) }
}

/// Says on stderr what could not be looked at.
fn say_missed(missed: &[String]) {
    for missed in missed {
        say(format_args!("fairslice: not looked at: {missed}"));
    }
}

/// Where logins do not get what is declared, because it is not in force for them.
fn not_in_force(root: &Path, loaded: &Loaded) -> Option<String> {
    match policy::for_logins(root) {
        Err(unusable) => Some(unusable.to_string()),
        Ok(_) if !policy::is_in_force(root, loaded) => {
            Some("logins get what was applied before: run \"fairslice apply\"".to_owned())
        }
        Ok(_) => None,
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
