//! Directories and files of fairslice's own below `/run`.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, fchmod, fstat};

use crate::paths;
use crate::text::{quoted, shown};
use crate::trust::{self, Refusal};

/// Nobody else is to write to what a command or the generator makes, whatever the umask of who starts it.
pub fn keep_others_out() {
    let others = Mode::WGRP | Mode::WOTH;
    let before = rustix::process::umask(others);
    rustix::process::umask(before | others);
}

/// Opens one of these directories, a child of [`paths::RUN`], and makes it with these permission bits where it
/// is missing.
///
/// # Errors
/// It cannot be made or opened; somebody else than root can change it, or may do more there than `mode` says.
/// What lies there is then not to be believed.
pub fn directory(root: &Path, directory: &str, mode: u32) -> Result<OwnedFd> {
    run(root)?;
    open(root, directory, mode)
}

/// The same of [`paths::RUN`] itself.
///
/// # Errors
/// Those of [`directory`].
pub fn run(root: &Path) -> Result<()> {
    open(root, paths::RUN, 0o755).map(drop)
}

/// Removes a file, which may be gone already.
///
/// # Errors
/// It cannot be removed.
pub fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn open(root: &Path, directory: &str, mode: u32) -> Result<OwnedFd> {
    let (path, shown_path) = (root.join(directory), paths::absolute(directory));
    let shown_path = shown(&shown_path);
    let is_new = !path.exists();
    if is_new {
        let result = DirBuilder::new().recursive(true).create(&path);
        result.with_context(|| format!("making {shown_path}"))?;
    }
    let opened = trust::open_own_directory(root, Path::new(directory)).map_err(|refusal| match refusal {
        Refusal::Unreadable(error) => anyhow!(error).context(format!("opening {shown_path}")),
        Refusal::Exposed(exposed) => anyhow!("{exposed}: {}", shown(&exposed.remedy())),
    })?;
    if is_new {
        // In a login the host's umask may be anything.
        fchmod(&opened, Mode::from_raw_mode(mode)).with_context(|| format!("making {shown_path}"))?;
    }
    let found = fstat(&opened).with_context(|| format!("looking at {shown_path}"))?.st_mode & 0o7777;
    if found & 0o055 & !mode != 0 {
        let command = format!("chmod {mode:04o} {}", quoted(&shown_path.to_string()));
        bail!("{shown_path} is open to others (mode {found:04o}): {command}");
    }
    Ok(opened)
}
