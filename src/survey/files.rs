//! The files of a unit that PID 1 has read, for [`Files`].
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::path::Path;

use super::Files;
use crate::host::recorded::Recorded;
use crate::host::settings::Settings;
use crate::host::units::Unit;

/// The files that PID 1 has read of a unit, of those that have been read.
#[must_use]
pub fn loaded_files<'a>(
    name: &str,
    unit: Option<&'a Unit>,
    settings: &'a Settings,
    recorded: Recorded,
) -> Files<'a> {
    let read = |path: &'a Path| {
        Some((Cow::Borrowed(path), Cow::Borrowed(settings.file(path)?.assignments.as_slice())))
    };
    Files::new(name, unit.into_iter().flat_map(Unit::files).filter_map(read), recorded)
}
