//! `fairslice-launch`: what stands between a service manager and a service.
//!
//! When the command runs, it is in the policy's slice with the policy's OOM score; or one line says
//! why not, and with `--strict` it does not run.
#![forbid(unsafe_code)]

mod arguments;
mod declared;
mod directly;
mod execute;
mod say;
mod scope;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use caps::{CapSet, Capability};
use fairslice_base::host::{cgroup, process};

use crate::paths;
use crate::policy::Policy;
use crate::text::{quoted, shown};
use crate::units::{OOM_SCORE_ADJUST, SLICE, ServiceName, SliceName};
use arguments::{Arguments, HELP, Request, USAGE};
use declared::Declaration;
use say::{complain, complain_of_bugs, print};

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

/// Runs the launcher with the program's arguments; returns, with an exit code, only where the
/// command was not executed.
#[must_use]
pub fn main(words: Vec<OsString>) -> u8 {
    complain_of_bugs();
    let mut words = words.into_iter().peekable();
    let root = paths::root(&mut words);
    let arguments = match arguments::parse(lexopt::Parser::from_args(words)) {
        Ok(Request::Run(arguments)) => arguments,
        Ok(Request::Help) => {
            print(format_args!("{USAGE}\n\n{HELP}"));
            return 0;
        }
        Ok(Request::Version) => {
            print(format_args!("fairslice-launch {}", env!("CARGO_PKG_VERSION")));
            return 0;
        }
        Err(error) => {
            complain(format_args!("{error}; {USAGE}"));
            return Exit::Usage as u8;
        }
    };
    let mut shortfalls = prepare(&root, &arguments);
    shortfalls.extend(drop_granted_capability().err().map(|error| {
        Shortfall::new(
            Exit::Capabilities,
            format_args!("CAP_SYS_RESOURCE, which COMMAND is not to have, not dropped: {error}"),
        )
    }));
    for shortfall in shortfalls {
        if arguments.strict {
            complain(format_args!("{}; not started (--strict)", shortfall.message));
            return shortfall.exit as u8;
        }
        complain(format_args!("{}; started all the same", shortfall.message));
    }
    complain(execute::execute(arguments));
    Exit::Exec as u8
}

/// Makes this process what the policy says; gives what could not be done.
fn prepare(root: &Path, arguments: &Arguments) -> Vec<Shortfall> {
    let placed = cgroup::of_process(root, "self");
    let service = match service(arguments, placed.as_deref().ok()) {
        Ok(service) => service,
        Err(error) => return vec![Shortfall::new(Exit::Cgroup, format_args!("{error:#}"))],
    };
    let declared = match declared::declared(root, &service) {
        Ok(Some(declared)) => declared,
        Ok(None) => {
            let message =
                format!("{service}: no policy names it (\"fairslice check\" says whether the policy holds)");
            return vec![Shortfall::new(Exit::Cgroup, message)];
        }
        Err(error) => return vec![Shortfall::new(Exit::Cgroup, format_args!("{service}: {error:#}"))],
    };
    let mut shortfalls = Vec::new();
    match place(root, &service, &declared, placed) {
        Ok(None) => {}
        Ok(Some(note)) => complain(note),
        Err(error) => shortfalls.push(Shortfall::new(Exit::Cgroup, format_args!("{service}: {error:#}"))),
    }
    match adjust_score(root, &service, &declared) {
        Ok(None) => {}
        Ok(Some(note)) => complain(note),
        Err(shortfall) => shortfalls.push(shortfall),
    }
    shortfalls
}

/// Which service this is.
fn service(arguments: &Arguments, placed: Option<&Path>) -> Result<ServiceName> {
    if let Some(unit) = &arguments.unit {
        return ServiceName::new(unit).map_err(|expected| anyhow!("--unit \"{}\": {expected}", shown(unit)));
    }
    if let Some(service) = placed.and_then(cgroup::service) {
        return Ok(service);
    }
    let command = Path::new(&arguments.program).file_name().unwrap_or_default();
    // What is no UTF-8 is no service's name.
    ServiceName::new(command.to_str().unwrap_or_default()).map_err(|expected| {
        anyhow!("\"{}\" is no service's name ({expected}): say which it is with --unit", shown(command))
    })
}

/// Sees to it that this process is in the slice that is declared for it; gives what there is to
/// say where that took a move.
fn place(
    root: &Path,
    service: &ServiceName,
    declared: &Declaration,
    placed: Result<PathBuf>,
) -> Result<Option<String>> {
    let Some(slice) = &declared.slice else { return Ok(None) };
    let placed = placed.with_context(|| format!("cannot tell whether it is in {slice}"))?;
    if is_in(&placed, slice) {
        return Ok(None);
    }
    if let Some(policy) = &declared.policy {
        return move_directly(root, service, policy, slice, &placed).map(|()| None);
    }
    if let Some(over) = declared::over(root, service, SLICE, slice.as_str())? {
        let from = shown(&placed);
        return Ok(Some(format!("{service}: left in /{from}, declared {slice}: {}", over.said())));
    }
    move_through_pid1(root, service, slice, &placed).map(Some)
}

/// Whether a cgroup is in a slice, and not in one below it.
fn is_in(placed: &Path, slice: &SliceName) -> bool {
    let below = placed.strip_prefix(slice.cgroup());
    below.is_ok_and(|below| {
        !below.iter().next().is_some_and(|first| first.as_encoded_bytes().ends_with(b".slice"))
    })
}

fn move_through_pid1(root: &Path, service: &ServiceName, slice: &SliceName, placed: &Path) -> Result<String> {
    if cgroup::is_hidden(placed) {
        bail!(
            "cannot tell whether it is in {slice}: a cgroup namespace of its own (ProtectControlGroups=private) hides that"
        );
    }
    let from = format!("/{}", shown(&placed));
    let remedy = format!(
        "stop and start it (systemd moves no running unit), and if it stays look for another Slice= with \"systemctl cat {}\"",
        quoted(service.as_str())
    );
    match scope::enter(root, service, slice, placed) {
        Ok(scope) => Ok(format!(
            "{service}: was in {from}, declared {slice}: put there as {scope}; to need none of that, {remedy}"
        )),
        Err(error) => bail!("runs in {from}, declared {slice}, and was not moved ({error:#}): {remedy}"),
    }
}

/// Where there is no systemd, the slice is made here.
fn move_directly(
    root: &Path,
    service: &ServiceName,
    policy: &Policy,
    slice: &SliceName,
    placed: &Path,
) -> Result<()> {
    let (leaf, resources) = (service.as_str(), &policy.service(service).resources);
    // A cgroup namespace that is not this process's own shows the way to it, too.
    if placed.ends_with(slice.cgroup_of(leaf)) {
        return Ok(());
    }
    let unset = directly::enter(root, policy, slice, leaf, resources).with_context(|| {
        let from = shown(&placed);
        format!("runs in /{from}, declared {slice}, and was not moved: without systemd that takes a writable cgroup2")
    })?;
    if unset.is_empty() {
        return Ok(());
    }
    let unset: Vec<String> = unset.iter().map(|error| format!("{error:#}")).collect();
    bail!("is in {slice}, where not everything could be set: {}", unset.join("; "))
}

/// Sets this process's OOM score where it differs; gives what there is to say where it is left.
fn adjust_score(
    root: &Path,
    service: &ServiceName,
    declared: &Declaration,
) -> Result<Option<String>, Shortfall> {
    let live = process::oom_score_adj(root, "self");
    let Some(score) = declared.score.filter(|score| !live.as_ref().is_ok_and(|live| live == score)) else {
        return Ok(None);
    };
    let shortfall = |error: anyhow::Error| {
        Shortfall::new(
            Exit::OomAdjust,
            format_args!(
                "{service}: OOM score {score} not set: {error:#}: add AmbientCapabilities=CAP_SYS_RESOURCE to the unit, or let systemd set it (\"systemctl daemon-reload\", restart)"
            ),
        )
    };
    let over = if declared.policy.is_none() {
        declared::over(root, service, OOM_SCORE_ADJUST, &score.to_string()).map_err(shortfall)?
    } else {
        None
    };
    if let Some(over) = over {
        let live = live.map_or_else(|_| "it is".to_owned(), |live| live.to_string());
        return Ok(Some(format!("{service}: OOM score left as {live}, declared {score}: {}", over.said())));
    }
    process::set_own_oom_score_adj(root, score).map(|()| None).map_err(shortfall)
}

/// One in the ambient set was granted for the OOM score, and the command would inherit it, whether it was
/// needed or not. Root's own capabilities stay.
fn drop_granted_capability() -> Result<(), caps::errors::CapsError> {
    const GRANTED: Capability = Capability::CAP_SYS_RESOURCE;
    if !caps::has_cap(None, CapSet::Ambient, GRANTED)? {
        return Ok(());
    }
    // Only a process with CAP_SETPCAP may narrow its bounding set; without it, no later exec can
    // regain the capability but through a file that carries it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::drop(None, CapSet::Bounding, GRANTED)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, GRANTED)?;
    }
    Ok(())
}
