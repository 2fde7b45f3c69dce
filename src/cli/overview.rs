//! `fairslice` without arguments, and what is left of it after an installation.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;

use super::out::print;
use super::{FOUND, status};
use crate::enforce::import::import;
use crate::report;
use crate::survey;

pub(super) fn overview(root: &Path) -> Result<u8> {
    let loaded = survey::declared(root);
    let (picture, found) = status::look_with_doctor(root, &loaded)?;
    // Where that cannot be told, "fairslice import" says why.
    let by_hand = import(root, &loaded).is_ok_and(|import| !import.tables.is_empty());
    print(&report::overview(&picture.status, &loaded, &found, by_hand))?;
    let is_well =
        loaded.diagnostics.is_empty() && found.findings.is_empty() && picture.status.differing() == 0;
    Ok(if is_well { 0 } else { FOUND })
}

pub(super) fn installed(root: &Path) -> Result<u8> {
    let loaded = survey::declared(root);
    let (picture, found) = status::look_with_doctor(root, &loaded)?;
    print(&report::installed(&picture.status, &loaded, &found))?;
    Ok(0)
}
