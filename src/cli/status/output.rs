//! `--output FILE`: a file that a reader finds whole, whoever the directory belongs to.
#![forbid(unsafe_code)]

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, fstat, openat, renameat, unlinkat};

use crate::text::{quoted, shown};

/// Everybody may read it.
const MODE: u32 = 0o644;

/// Writes a new file beside `file`, and gives it that name.
///
/// Root may do this in a directory of somebody else's: its descriptor was got through no link, and in it only
/// a file that was just made is written to.
///
/// # Errors
/// A directory on the way is missing or a link, or nothing can be made in the last; or a directory has that
/// name. There is no new file then, and the one that was there is as it was.
pub(super) fn write(file: &Path, text: &[u8]) -> Result<()> {
    let shown_file = shown(file);
    let Some(Component::Normal(name)) = file.components().next_back() else {
        bail!("{shown_file} is no file's name");
    };
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = open(parent)?;
    let new = beside(name);
    let written = create(&directory, &new, text)
        .and_then(|()| renameat(&directory, &new, &directory, name).map_err(anyhow::Error::from));
    if written.is_err() {
        // What was not made cannot be removed.
        let _ = unlinkat(&directory, &new, AtFlags::empty());
    }
    written.with_context(|| format!("writing {shown_file}"))
}

/// Component by component: where set-user-ID bits are restricted, as in our own units, systemd lets nobody call
/// `openat2(2)`, which does it at once.
fn open(directory: &Path) -> Result<OwnedFd> {
    let on_the_way = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let shown_directory = shown(directory);
    let failed = || format!("opening {shown_directory}");
    let mut here = openat(CWD, ".", on_the_way, Mode::empty()).with_context(failed)?;
    let mut path = PathBuf::new();
    for component in directory.components() {
        path.push(component);
        here = openat(&here, component.as_os_str(), on_the_way, Mode::empty()).with_context(failed)?;
        if FileType::from_raw_mode(fstat(&here).with_context(failed)?.st_mode) == FileType::Symlink {
            let command = format!("realpath {}", quoted(&shown_directory.to_string()));
            let link = shown(&path);
            bail!(
                "opening {shown_directory}: {link} is a symbolic link, and none is followed: \
                 name where it leads ({command})"
            );
        }
    }
    Ok(here)
}

/// A name that nobody knows beforehand, and that no collector of `*.prom` reads.
fn beside(name: &OsStr) -> OsString {
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{:016x}", RandomState::new().build_hasher().finish()));
    new
}

fn create(directory: &OwnedFd, name: &OsStr, text: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::from_raw_mode(MODE))?;
    fchmod(&file, Mode::from_raw_mode(MODE))?;
    Ok(File::from(file).write_all(text)?)
}
