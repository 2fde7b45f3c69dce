//! This process moved by PID 1: into a transient scope.
//!
//! See `org.freedesktop.systemd1(5)`, `StartTransientUnit()`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::host::cgroup;
use crate::host::pid1::{Manager, Scope};
use crate::units::SliceName;

/// How long to wait before looking again whether this process was moved. It takes PID 1 some
/// milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// Starts the scope around this process, which is outside of the scope's slice, and returns when it
/// is in there.
///
/// # Errors
/// PID 1 refuses, or has not done it by `deadline`.
pub fn start(root: &Path, scope: &Scope<'_>, deadline: Instant) -> Result<()> {
    Manager::below(root).start_scope(scope, deadline)?;
    wait_until_in(root, scope.slice, deadline).with_context(|| format!("waiting for {}", scope.name))
}

/// PID 1 answers first, and moves the process then.
fn wait_until_in(root: &Path, slice: &SliceName, deadline: Instant) -> Result<()> {
    while !cgroup::of_process(root, "self")?.starts_with(slice.cgroup()) {
        if Instant::now() >= deadline {
            bail!(
                "PID 1 agreed to start it, but had not done so within the time limit: see journalctl -b _PID=1"
            );
        }
        sleep(PAUSE);
    }
    Ok(())
}
