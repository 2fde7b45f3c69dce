//! The `fairslice` command: arguments, and which report or action they ask for.
#![forbid(unsafe_code)]

mod adopt;
mod private_dir;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::effect::{self, Status};
use crate::enforce::apply;
use crate::enforce::login::explain;
use crate::host::machine::Machine;
use crate::host::{account, snapshot};
use crate::paths;
use crate::policy::{self, Diagnostic, InForce, Loaded};
use crate::report;

/// Something is not as it should be: a policy has errors, a live value differs.
const FOUND: u8 = 1;
/// Bad usage, or the machine could not be looked at.
const FAILED: u8 = 2;

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
    /// Show what is declared and what is live: slices, services, logged-in users
    Status {
        /// Print JSON, in the shape that fairslice(1) describes
        #[arg(long)]
        json: bool,
    },
    /// Say what a user's login comes to, and why
    #[command(subcommand)]
    Explain(Explain),
    /// Make the logins of now what the policy says: users' slices, and the weight of all of them
    Apply {
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
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
    /// Look after private directories
    PrivateDir {
        #[command(subcommand)]
        action: private_dir::Action,
    },
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// Which rule holds for USER, and what the login gets: slice, weights, limits, directories
    Login {
        /// The user's name
        #[arg(value_name = "USER")]
        user: String,
        /// The PAM service of the login: a file in /etc/pam.d
        #[arg(long, value_name = "SERVICE", default_value = "sshd")]
        service: String,
        /// Print JSON, in the shape that fairslice(1) describes
        #[arg(long)]
        json: bool,
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
    let root = paths::root();
    let result = match Arguments::parse().command {
        Command::Check { files } => check(&root, &files),
        Command::Policy => print_policy(&root),
        Command::Status { json } => status(&root, json),
        Command::Explain(Explain::Login { user, service, json }) => {
            explain_login(&root, &user, &service, json)
        }
        Command::Apply { dry_run } => apply(&root, dry_run),
        Command::Adopt { which, how } => adopt::adopt(&root, which, &how),
        Command::Release { which, how } => adopt::release(&root, which, &how),
        Command::PrivateDir { action } => private_dir::run(&root, action),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("fairslice: {error:#}");
            ExitCode::from(FAILED)
        }
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
        let broken = effect::broken_floors(&loaded.policy).into_iter();
        diagnostics.extend(broken.map(|(floor, message)| Diagnostic::at(&floor.origin, message).warning()));
    }
    let mut out = anstream::stdout().lock();
    for diagnostic in &diagnostics {
        writeln!(out, "{diagnostic}")?;
    }
    if let Some(line) = loaded.in_force.note() {
        writeln!(out, "{line}")?;
    }
    if diagnostics.is_empty() {
        let read: Vec<String> = loaded.files.iter().map(|file| file.path.display().to_string()).collect();
        writeln!(out, "{}: ok", read.join(" + "))?;
        return Ok(0);
    }
    Ok(FOUND)
}

fn print_policy(root: &Path) -> Result<u8> {
    let loaded = policy::load(root);
    anstream::stdout().write_all(report::policy(&loaded.policy).as_bytes())?;
    Ok(complain(&loaded))
}

fn status(root: &Path, json: bool) -> Result<u8> {
    let loaded = policy::load(root);
    let machine = Machine::read(root)?;
    let carried = effect::ancestors(&loaded.policy, machine.ram);
    let groups: Vec<&str> = loaded.policy.logins.groups.iter().map(|(name, _)| name.as_str()).collect();
    let live = snapshot::read(root, &groups).context("looking at the machine")?;
    let status = Status::new(&loaded.policy, &carried, machine, &live);
    let text = if json { report::status_json(&status, &loaded) } else { report::status_text(&status) };
    anstream::stdout().write_all(text.as_bytes())?;
    let broken = if json { u8::from(!loaded.diagnostics.is_empty()) } else { complain(&loaded) };
    Ok(broken.max(u8::from(status.differing() > 0)))
}

fn explain_login(root: &Path, user: &str, service: &str, json: bool) -> Result<u8> {
    let loaded = policy::load(root);
    let explained = explain::explain(root, &loaded.policy, user, service)?;
    let text =
        if json { report::login_json(&explained, service) } else { report::login_text(&explained, service) };
    anstream::stdout().write_all(text.as_bytes())?;
    Ok(complain(&loaded))
}

fn apply(root: &Path, dry_run: bool) -> Result<u8> {
    let loaded = policy::load(root);
    let changes = apply::logins(root, &loaded.policy).context("looking at the machine")?;
    anstream::stdout().write_all(report::changes(&changes).as_bytes())?;
    if !dry_run {
        apply::set(root, &loaded.policy, &changes)?;
    }
    Ok(complain(&loaded))
}

/// Says on stderr what is wrong with the policy that other commands work with.
fn complain(loaded: &Loaded) -> u8 {
    for diagnostic in &loaded.diagnostics {
        anstream::eprintln!("{diagnostic}");
    }
    if let Some(line) = loaded.in_force.note() {
        anstream::eprintln!("fairslice: {line}");
    }
    if loaded.diagnostics.is_empty() { 0 } else { FOUND }
}
