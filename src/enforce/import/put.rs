//! An imported policy is put in its place.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fchmod, fsync, mkdirat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use super::settle::with;
use crate::enforce::lock::Lock;
use crate::paths;
use crate::policy::{InForce, Level, Loaded};
use crate::text::shown;
use crate::trust::{self, Refusal};

/// Hidden, so that no policy is read from it.
const BESIDE: &str = ".60-imported.toml.new";

/// Writes the text to [`paths::IMPORTED`], where nothing is there yet.
///
/// # Errors
/// There is a file of that name; the policy would have errors with this one, or there is none to add it to; it cannot
/// be written, or somebody else than root could change it there. Then everything is as it was.
pub fn put(root: &Path, _lock: &Lock, existing: &Loaded, text: &str) -> Result<()> {
    if existing.in_force != InForce::Current {
        bail!("there is no policy in force to add to: run \"fairslice check\"");
    }
    let loaded = with(existing, text);
    if let Some(error) = loaded.diagnostics.iter().find(|found| found.severity == Level::Error) {
        bail!("the policy would not be right with it: {error}");
    }
    let file = Path::new(paths::IMPORTED);
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        bail!("no name to write to")
    };
    let directory = directories(root, directory)?;
    let tried = || format!("writing /{}", paths::IMPORTED);
    // One that was left by a run that was killed.
    let _ = unlinkat(&directory, BESIDE, AtFlags::empty());
    let written = write_new(&directory, text).and_then(|()| {
        renameat_with(&directory, BESIDE, &directory, name, RenameFlags::NOREPLACE)?;
        Ok(fsync(&directory)?)
    });
    if let Err(error) = written {
        // What was not made cannot be removed.
        let _ = unlinkat(&directory, BESIDE, AtFlags::empty());
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            bail!("/{} is there already: move it away first, or keep it", paths::IMPORTED);
        }
        return Err(error).with_context(tried);
    }
    Ok(())
}

fn write_new(directory: &OwnedFd, text: &str) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let mut file = File::from(openat(directory, BESIDE, flags, mode)?);
    fchmod(&file, mode)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Opens a directory that nobody but root can change, and makes what is missing of the way to it.
///
/// # Errors
/// It cannot be made or opened, or somebody else than root can change it.
pub(super) fn directories(root: &Path, path: &Path) -> Result<OwnedFd> {
    match trust::open_directory(root, path) {
        Err(Refusal::Unreadable(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        opened => return opened.map_err(|refusal| refused(path, refusal)),
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { bail!("no directory to make") };
    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let tried = || format!("making /{}", shown(&path));
    let is_new = match mkdirat(directories(root, above)?, name, mode) {
        Err(error) if error != Errno::EXIST => return Err(error).with_context(tried),
        result => result.is_ok(),
    };
    let opened = trust::open_directory(root, path).map_err(|refusal| refused(path, refusal))?;
    if is_new {
        // Whatever the umask: units and policies are for everybody to read.
        fchmod(&opened, mode).with_context(tried)?;
    }
    Ok(opened)
}

/// The error that a path is refused with.
pub(super) fn refused(path: &Path, refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Unreadable(error) => anyhow!(error).context(format!("opening /{}", shown(path))),
        Refusal::Exposed(exposed) => anyhow!("{exposed}: {}", shown(&exposed.remedy())),
    }
}
