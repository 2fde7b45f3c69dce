//! One at a time: whatever changes the machine holds this lock, but logins.
//!
//! A login waits for nobody, and needs to wait for nobody: what it sets it looks at again, and what it
//! records it adds to the end of a file.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fairslice_base::host::process;
use nix::unistd::geteuid;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, openat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::own;
use crate::paths;
use crate::text::shown;

/// How often is looked whether it is free.
const PAUSE: Duration = Duration::from_millis(20);
/// After how long it is said that somebody is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// The right to change the machine.
///
/// It is the kernel's, and gone with this process however it ends; a program that this one starts does not
/// have it. Only root can open the file, because whoever can open one can lock it.
#[derive(Debug)]
pub struct Lock {
    _file: OwnedFd,
}

impl Lock {
    /// Waits until nobody else has it, `patience` at most. `say` is told whom it waits for, once, after a second.
    ///
    /// # Errors
    /// This is not root; somebody has had it all the time; or the file cannot be opened.
    pub fn take(root: &Path, patience: Duration, say: impl FnOnce(&str)) -> Result<Self> {
        if root == Path::new(paths::ROOT) && !geteuid().is_root() {
            bail!("only root can change the machine: run this as root, or with --dry-run to look");
        }
        let directory = own::directory(root, paths::LOCK_DIR, 0o700)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&directory, paths::LOCK, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("opening /{}/{}", paths::LOCK_DIR, paths::LOCK))?;
        let begun = Instant::now();
        let mut say = Some(say);
        loop {
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                Err(error) => {
                    return Err(error).context(format!("locking /{}/{}", paths::LOCK_DIR, paths::LOCK));
                }
            }
            let waited = begun.elapsed();
            if waited >= patience {
                let holder = holder(&file);
                bail!(
                    "{holder} has been changing the machine for {} s: try again when it is done",
                    waited.as_secs()
                );
            }
            if let Some(say) = say.take_if(|_| waited >= SILENCE) {
                say(&format!("waiting for {}, which is changing the machine", holder(&file)));
            }
            sleep(PAUSE);
        }
    }
}

/// Who has the lock, as the kernel says: `fcntl_locking(2)`. It tells no process outside of our own namespace.
fn holder(file: &OwnedFd) -> String {
    let held = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok().flatten();
    let Some(pid) = held.and_then(|held| held.pid) else { return "another process".to_owned() };
    let words = process::command_line(Path::new(paths::ROOT), pid.as_raw_pid().unsigned_abs());
    format!("{} (pid {pid})", shown(&words).at_most(80))
}
