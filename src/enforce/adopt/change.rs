//! A change of one file.
#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use similar::TextDiff;

use crate::text::shown;
use crate::units::ServiceName;

/// That the directory is to go with the file.
pub(super) const OWN_DIRECTORY: &str = "# Its directory was made for it.\n";

/// A change of one file.
#[derive(Debug)]
pub(super) struct FileChange {
    file: PathBuf,
    before: Option<String>,
    after: Option<String>,
}

impl FileChange {
    /// `file` is relative to the root; `None` is a file that is not there.
    pub(super) fn new(file: PathBuf, before: Option<String>, after: Option<String>) -> Self {
        Self { file, before, after }
    }

    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The unit whose drop-in the file is.
    pub(super) fn unit(&self) -> Option<ServiceName> {
        let directory = self.file.parent()?.file_name()?.to_str()?;
        ServiceName::new(directory.strip_suffix(".d")?).ok()
    }

    /// The change as `patch(1)` takes it.
    pub(super) fn diff(&self) -> String {
        let name = |text: &Option<String>| match text {
            Some(_) => format!("/{}", shown(&self.file)),
            None => "/dev/null".to_owned(),
        };
        let (before, after) =
            (self.before.as_deref().unwrap_or_default(), self.after.as_deref().unwrap_or_default());
        let diff = TextDiff::from_lines(before, after);
        diff.unified_diff().header(&name(&self.before), &name(&self.after)).to_string()
    }

    /// Makes the change below `root`.
    ///
    /// # Errors
    /// The file cannot be written or removed; then everything is as it was.
    pub(super) fn make(&self, root: &Path) -> Result<()> {
        let file = root.join(&self.file);
        match &self.after {
            Some(text) => write(&file, text, self.before.is_none() && text.contains(OWN_DIRECTORY)),
            None => remove(&file, self.before.as_ref().is_some_and(|text| text.contains(OWN_DIRECTORY))),
        }
    }
}

/// Writes the file beside its place, and then renames it.
fn write(file: &Path, text: &str, make_directory: bool) -> Result<()> {
    let Some(directory) = file.parent() else { bail!("{} has no directory", shown(&file)) };
    if make_directory {
        let made = fs::create_dir(directory);
        made.and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("making {}", shown(&directory)))?;
    }
    // systemd reads only what ends in ".conf".
    let beside = file.with_extension("new");
    let written = write_new(&beside, text).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        // What was not made cannot be removed.
        let _ = fs::remove_file(&beside);
        let _ = make_directory.then(|| fs::remove_dir(directory));
    }
    written.with_context(|| format!("writing {}", shown(&file)))
}

fn write_new(file: &Path, text: &str) -> io::Result<()> {
    // One that was left by an adoption that was killed.
    let _ = fs::remove_file(file);
    let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file)?;
    new.set_permissions(fs::Permissions::from_mode(0o644))?;
    new.write_all(text.as_bytes())?;
    new.sync_all()
}

fn remove(file: &Path, with_directory: bool) -> Result<()> {
    fs::remove_file(file).with_context(|| format!("removing {}", shown(&file)))?;
    if let (true, Some(directory)) = (with_directory, file.parent()) {
        // One with other files in it stays.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}
