//! Files that a reader finds whole, whoever the directory belongs to: `--output FILE`, and those of an export.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, renameat, statat, unlinkat,
};

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

/// Writes these files into a directory, which is made if it is not there, in place of those that begin with `header`:
/// all of them, or none. Gives the names of such files that are not among them, which are removed.
///
/// # Errors
/// Those of [`write`]; or a file of such a name is there that begins otherwise.
pub(super) fn write_all(path: &Path, files: &BTreeMap<String, String>, header: &str) -> Result<Vec<String>> {
    let shown_path = shown(path);
    let failed = || format!("writing to {shown_path}");
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("making {shown_path}"));
        }
        _ => {}
    }
    let directory = open(path)?;
    let earlier = earlier(&directory, header).with_context(failed)?;
    for name in files.keys().filter(|name| !earlier.contains(name)) {
        if statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            let file = shown(&path.join(name)).to_string();
            bail!("{file} is of no earlier export: nothing is written; move it, or name another directory");
        }
    }
    let mut new: Vec<(OsString, &str)> = Vec::new();
    let written = files.iter().try_for_each(|(name, text)| {
        new.push((beside(OsStr::new(name)), name));
        new.last().map_or(Ok(()), |(new, _)| create(&directory, new, text.as_bytes()))
    });
    if written.is_err() {
        for (new, _) in &new {
            // What was not made cannot be removed.
            let _ = unlinkat(&directory, new, AtFlags::empty());
        }
    }
    written.with_context(failed)?;
    for (new, name) in new {
        renameat(&directory, &new, &directory, name).with_context(failed)?;
    }
    let gone: Vec<String> = earlier.into_iter().filter(|name| !files.contains_key(name)).collect();
    for name in &gone {
        unlinkat(&directory, name, AtFlags::empty()).with_context(failed)?;
    }
    Ok(gone)
}

/// The files in a directory that begin with `header`.
fn earlier(directory: &OwnedFd, header: &str) -> Result<Vec<String>> {
    let listed = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(listed)? {
        // A name that is no UTF-8 is none of an export's.
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    names.retain(|name| is_ours(directory, name, header).unwrap_or(false));
    names.sort_unstable();
    Ok(names)
}

/// Whether a file begins with `header`; a link never does.
fn is_ours(directory: &OwnedFd, name: &str, header: &str) -> Result<bool> {
    // A fifo must not be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut begins = Vec::new();
    file.take(header.len() as u64).read_to_end(&mut begins)?;
    Ok(begins == header.as_bytes())
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
