//! Drop-ins of the `adopt` of earlier versions: each holds a copy of the commands that its unit had then.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::change::FileChange;
use crate::host::directory::names;
use crate::host::unit_file::ServiceUnits;
use crate::paths;
use crate::text::shown;
use crate::units::ServiceName;

/// How they begin: a file that begins otherwise is somebody else's.
const HEADER: &str = "# Made by \"fairslice adopt\"";

/// A unit that runs such a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The unit.
    pub unit: String,
    /// The drop-in, an absolute path.
    pub drop_in: PathBuf,
    /// Whether the unit is still there, and can be adopted.
    pub exists: bool,
}

/// Those that are left.
///
/// # Errors
/// A directory of units or drop-ins cannot be read.
pub fn copies(root: &Path) -> Result<Vec<Copy>> {
    let units = ServiceUnits::read(root)?;
    let copy = |name: ServiceName| Copy {
        unit: name.to_string(),
        drop_in: paths::absolute(file(&name)),
        exists: matches!(units.find(&name), Ok(Some(unit)) if !unit.masked),
    };
    Ok(self::units(root)?.into_iter().map(copy).collect())
}

/// Whether a drop-in is one of them.
#[must_use]
pub fn is_copy(root: &Path, file: &Path) -> bool {
    file.ends_with(paths::LAUNCH_DROP_IN)
        && fs::read_to_string(root.join(file)).is_ok_and(|text| text.starts_with(HEADER))
}

/// The units that have one.
pub(super) fn units(root: &Path) -> Result<Vec<ServiceName>> {
    let names = names(&root.join(paths::ADMIN_UNITS))?;
    let services = names.iter().filter_map(|name| ServiceName::new(name.strip_suffix(".service.d")?).ok());
    Ok(services.filter(|name| is_copy(root, &file(name))).collect())
}

/// What takes a unit's away.
pub(super) fn removal(root: &Path, unit: &ServiceName) -> Result<Option<FileChange>> {
    let file = file(unit);
    if !is_copy(root, &file) {
        return Ok(None);
    }
    let text = fs::read_to_string(root.join(&file)).with_context(|| format!("reading /{}", shown(&file)))?;
    Ok(Some(FileChange::new(file, Some(text), None)))
}

fn file(unit: &ServiceName) -> PathBuf {
    Path::new(paths::ADMIN_UNITS).join(format!("{unit}.d")).join(paths::LAUNCH_DROP_IN)
}
