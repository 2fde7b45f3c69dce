//! `fairslice-launch`: what stands between a service manager and a service.
//!
//! When the command runs, it is in the policy's slice with the policy's OOM score; or one line says
//! why not, and with `--strict` it does not run.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use caps::{CapSet, Capability};
use nix::errno::Errno;

use super::drop_in::{OOM_SCORE_ADJUST, SLICE};
use crate::host::{cgroup, process};
use crate::paths;
use crate::policy::{self, OomScoreAdj, ServiceName, SliceName};

const USAGE: &str = "usage: fairslice-launch [--unit NAME] [--strict] [--] COMMAND [ARGUMENT…]";
const HELP: &str = "\
Runs COMMAND as the service it is: in the policy's slice, with the policy's OOM score.

  --unit NAME  the service; else the unit of this process's cgroup, else COMMAND's file name
  --strict     do not run COMMAND when it cannot be as the policy says
  --help       show this
  --version    show the version

Exit status: COMMAND's own; 2 usage, 203 COMMAND cannot be executed, and with --strict
206 OOM score, 218 capabilities, 219 cgroup. See fairslice-launch(1).";

/// Exit codes that `systemctl status` names, `systemd.exec(5)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Exit {
    Usage = 2,
    Exec = 203,
    OomAdjust = 206,
    Capabilities = 218,
    Cgroup = 219,
}

/// What is not as the policy says, in one line with the remedy.
struct Shortfall {
    exit: Exit,
    message: String,
}

impl Shortfall {
    fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

struct Arguments {
    unit: Option<String>,
    strict: bool,
    command: Vec<OsString>,
}

/// What the policy says of one service.
#[derive(Debug, Default, PartialEq, Eq)]
struct Declared {
    slice: Option<SliceName>,
    score: Option<OomScoreAdj>,
}

/// Runs the launcher with the program's arguments; returns, with an exit code, only where the
/// command was not executed.
#[must_use]
pub fn main() -> u8 {
    let arguments = match parse(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return 0,
        Err(error) => {
            complain(format_args!("{error}; {USAGE}"));
            return Exit::Usage as u8;
        }
    };
    for shortfall in prepare(&paths::root(), &arguments) {
        if arguments.strict {
            complain(format_args!("{}; not started (--strict)", shortfall.message));
            return shortfall.exit as u8;
        }
        complain(format_args!("{}; started all the same", shortfall.message));
    }
    complain(execute(&arguments.command));
    Exit::Exec as u8
}

/// `None` where there is nothing more to do than to print.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Arguments>, lexopt::Error> {
    use lexopt::Arg::{Long, Short, Value};
    let mut arguments = Arguments { unit: None, strict: false, command: Vec::new() };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("unit") => {
                let unit = parser.value()?;
                arguments.unit = Some(unit.into_string().map_err(lexopt::Error::NonUnicodeValue)?);
            }
            Long("strict") => arguments.strict = true,
            Short('h') | Long("help") => {
                print(format_args!("{USAGE}\n\n{HELP}"));
                return Ok(None);
            }
            Short('V') | Long("version") => {
                print(format_args!("fairslice-launch {}", env!("CARGO_PKG_VERSION")));
                return Ok(None);
            }
            Value(command) => {
                arguments.command.push(command);
                arguments.command.extend(parser.raw_args()?);
            }
            unknown => return Err(unknown.unexpected()),
        }
    }
    if arguments.command.is_empty() {
        return Err("no COMMAND".into());
    }
    Ok(Some(arguments))
}

/// Makes this process what the policy says; gives what could not be done.
fn prepare(root: &Path, arguments: &Arguments) -> Vec<Shortfall> {
    let placed = cgroup::of_process(root, "self");
    let service = match service(arguments, placed.as_deref().ok()) {
        Ok(service) => service,
        Err(error) => return vec![Shortfall::new(Exit::Cgroup, format_args!("{error:#}"))],
    };
    let declared = match declared(root, &service) {
        Ok(Some(declared)) => declared,
        Ok(None) => {
            let message =
                format!("{service}: no policy names it (\"fairslice check\" says whether the policy holds)");
            return vec![Shortfall::new(Exit::Cgroup, message)];
        }
        Err(error) => return vec![Shortfall::new(Exit::Cgroup, format_args!("{service}: {error:#}"))],
    };
    let mut shortfalls = Vec::new();
    if let Some(slice) = &declared.slice {
        shortfalls.extend(misplaced(&service, slice, placed));
    }
    if let Some(score) = declared.score {
        shortfalls.extend(adjust_score(root, &service, score));
    }
    shortfalls
}

/// Which service this is.
fn service(arguments: &Arguments, placed: Option<&Path>) -> Result<ServiceName> {
    if let Some(unit) = &arguments.unit {
        return ServiceName::new(unit).map_err(|expected| anyhow!("--unit {unit:?}: {expected}"));
    }
    if let Some(service) = placed.and_then(cgroup::service) {
        return Ok(service);
    }
    let command = arguments.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let command = command.to_string_lossy();
    ServiceName::new(&command).map_err(|expected| {
        anyhow!("{command:?} is no service's name ({expected}): say which it is with --unit")
    })
}

/// What the policy in force says of `service`; `None` where it says nothing.
///
/// Under systemd that is what the generator wrote, unless the administrator put a file of the same
/// name before it: two keys in one small file, whatever the size of the policy.
fn declared(root: &Path, service: &ServiceName) -> Result<Option<Declared>> {
    if !root.join(paths::SYSTEMD_BOOTED).exists() {
        return declared_in_policy(root, service);
    }
    let units = service.drop_in_units();
    for directory in paths::UNIT_DIRS {
        for unit in &units {
            let file = root.join(directory).join(format!("{unit}.d")).join(paths::DROP_IN);
            match fs::read_to_string(&file) {
                Ok(text) => {
                    return read_drop_in(&text)
                        .map(Some)
                        .with_context(|| format!("reading {}", file.display()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
            }
        }
    }
    Ok(None)
}

fn read_drop_in(text: &str) -> Result<Declared> {
    let mut declared = Declared::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key.trim_end() {
            SLICE => declared.slice = Some(SliceName::new(value.trim()).map_err(anyhow::Error::msg)?),
            OOM_SCORE_ADJUST => declared.score = Some(value.parse().map_err(anyhow::Error::msg)?),
            _ => {}
        }
    }
    Ok(declared)
}

fn declared_in_policy(root: &Path, service: &ServiceName) -> Result<Option<Declared>> {
    let loaded = policy::load(root);
    if let (policy::InForce::Nothing, Some(diagnostic)) = (loaded.in_force, loaded.diagnostics.first()) {
        bail!("{diagnostic}");
    }
    let slice = loaded.policy.slice_of(service).cloned();
    let score = loaded.policy.service(service).score_to_set();
    Ok((slice.is_some() || score.is_some()).then_some(Declared { slice, score }))
}

/// Whether this process is elsewhere than in `slice`.
fn misplaced(service: &ServiceName, slice: &SliceName, placed: Result<PathBuf>) -> Option<Shortfall> {
    let message = match placed {
        Ok(placed) if placed.starts_with(slice.cgroup()) => return None,
        Ok(placed) => format!(
            "{service}: runs in /{}, declared {slice}: stop and start it (systemd moves no running unit), and if it stays look for another Slice= with \"systemctl cat {service}\"",
            placed.display()
        ),
        Err(error) => format!("{service}: cannot tell whether it is in {slice}: {error:#}"),
    };
    Some(Shortfall::new(Exit::Cgroup, message))
}

/// Sets this process's OOM score where it differs, and gives up the capability that it took.
fn adjust_score(root: &Path, service: &ServiceName, score: OomScoreAdj) -> Option<Shortfall> {
    if process::oom_score_adj(root, "self").is_ok_and(|live| live == score) {
        return None;
    }
    if let Err(error) = process::set_own_oom_score_adj(root, score) {
        return Some(Shortfall::new(
            Exit::OomAdjust,
            format_args!(
                "{service}: OOM score {score} not set: {error:#}: add AmbientCapabilities=CAP_SYS_RESOURCE to the unit, or let systemd set it (\"systemctl daemon-reload\", restart)"
            ),
        ));
    }
    drop_granted_capability().err().map(|error| {
        let message = format_args!("{service}: CAP_SYS_RESOURCE not dropped after use: {error}");
        Shortfall::new(Exit::Capabilities, message)
    })
}

/// A capability in the ambient set was granted for this program, and the command would inherit it.
/// Root's own capabilities stay.
fn drop_granted_capability() -> Result<(), caps::errors::CapsError> {
    const USED: Capability = Capability::CAP_SYS_RESOURCE;
    if !caps::has_cap(None, CapSet::Ambient, USED)? {
        return Ok(());
    }
    // Only a process with CAP_SETPCAP may narrow its bounding set; without it, no later exec can
    // regain the capability but through a file that carries it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::drop(None, CapSet::Bounding, USED)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, USED)?;
    }
    Ok(())
}

/// Executes the command in this process's place; returns only with what went wrong.
fn execute(command: &[OsString]) -> String {
    let strings: Result<Vec<CString>, _> =
        command.iter().map(|argument| CString::new(argument.clone().into_vec())).collect();
    let Ok(strings) = strings else { return "an argument holds a NUL byte".to_owned() };
    let Some(program) = strings.first() else { return USAGE.to_owned() };
    // `execvp` alone would hand a file that is no program to a shell.
    let searched = !program.as_bytes().contains(&b'/');
    let Err(errno) =
        if searched { nix::unistd::execvp(program, &strings) } else { nix::unistd::execv(program, &strings) };
    let program = Path::new(std::ffi::OsStr::from_bytes(program.as_bytes()));
    let cause = match errno {
        Errno::ENOENT if !searched && program.exists() => {
            "its interpreter (\"#!\" line or ELF loader) is missing".to_owned()
        }
        Errno::ENOENT if searched => "not found in PATH".to_owned(),
        Errno::EACCES if program.is_dir() => "it is a directory".to_owned(),
        errno => errno.desc().to_owned(),
    };
    format!("cannot execute {}: {cause}", program.display())
}

/// One line on stderr, which under systemd is the journal. A service's stderr may be closed.
fn complain(message: impl fmt::Display) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "fairslice-launch: {message}");
}

fn print(text: impl fmt::Display) {
    use io::Write as _;
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_gives_slice_and_score() {
        let text =
            "# made\n[Service]\n# x = y\nSlice=foundry-services.slice\nOOMScoreAdjust=-500\nCPUWeight=50\n";
        let declared = read_drop_in(text).unwrap();
        assert_eq!(declared.slice, SliceName::new("foundry-services.slice").ok());
        assert_eq!(declared.score, OomScoreAdj::new(-500));
        assert!(read_drop_in("Slice=nonsense\n").is_err());
        assert_eq!(read_drop_in("").unwrap(), Declared::default());
    }

    #[test]
    fn the_commands_arguments_are_its_own() {
        let parse = |arguments: &[&str]| parse(lexopt::Parser::from_args(arguments));
        let parsed =
            parse(&["--strict", "--unit=local-fs", "/bin/a", "--strict", "--", "-x"]).unwrap().unwrap();
        assert_eq!((parsed.strict, parsed.unit.as_deref()), (true, Some("local-fs")));
        assert_eq!(parsed.command, ["/bin/a", "--strict", "--", "-x"]);
        assert_eq!(parse(&["--", "--strict"]).unwrap().unwrap().command, ["--strict"]);
        for wrong in [&[][..], &["--"], &["--strict"], &["--unit"], &["--nonsense", "x"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
