//! What the policy in force says of one service.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use fairslice_base::host::pid1::is_booted;
use fairslice_base::host::recorded::Recorded;
use fairslice_base::host::unit_file::{ServiceUnits, drop_in_directories};
use fairslice_base::survey::{Files, Means, Winner};

use crate::paths;
use crate::policy::{self, Policy};
use crate::text::shown;
use crate::units::{OOM_SCORE_ADJUST, OomScoreAdj, SLICE, ServiceName, SliceName};

/// What the policy says of one service.
#[derive(Debug, Default)]
pub(super) struct Declaration {
    pub(super) slice: Option<SliceName>,
    pub(super) score: Option<OomScoreAdj>,
    /// The whole policy where there is no systemd to have put it in force.
    pub(super) policy: Option<Policy>,
}

/// What the policy in force says of `service`; `None` where it says nothing.
///
/// Under systemd that is what the generator wrote: two keys in one small file, whatever the size of the policy. A file
/// of the administrator's that hides it is asked about, as any other of theirs, where something differs: [`over`].
///
/// # Errors
/// The file that counts cannot be read, or there is no policy at all.
pub(super) fn declared(root: &Path, service: &ServiceName) -> Result<Option<Declaration>> {
    if !is_booted(root) {
        // Every service of systemd's has it, systemd.exec(5).
        #[expect(clippy::disallowed_methods, reason = "it decides between a policy and an error")]
        let is_service_of_systemd = std::env::var_os("INVOCATION_ID").is_some();
        if is_service_of_systemd {
            bail!(
                "cannot tell what is in force: /run/systemd is not in the root directory of this service: add BindReadOnlyPaths=/run/systemd to the unit"
            );
        }
        return declared_in_policy(root, service);
    }
    if let Some(declared) = declared_by_name(root, service)? {
        return Ok(Some(declared));
    }
    // Looking for other names reads every directory of units: only who is not found by this one pays for it.
    let own = ServiceUnits::read(root)?.own_name(service).filter(|own| own != service);
    own.map_or(Ok(None), |own| declared_by_name(root, &own))
}

fn declared_by_name(root: &Path, service: &ServiceName) -> Result<Option<Declaration>> {
    for directory in drop_in_directories(&[paths::GENERATED], std::slice::from_ref(service)) {
        let file = root.join(directory).join(paths::DROP_IN);
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let text = text.with_context(|| format!("reading {}", shown(&file)))?;
                return Ok(Some(read_drop_in(&text)));
            }
        }
    }
    Ok(None)
}

/// What the administrator has set over the declared value of a setting. Asked only where something differs.
///
/// # Errors
/// A file of the unit cannot be read.
pub(super) fn over(
    root: &Path,
    service: &ServiceName,
    setting: &str,
    declared: &str,
) -> Result<Option<Winner>> {
    let units = ServiceUnits::read(root)?;
    let own = units.own_name(service).unwrap_or_else(|| service.clone());
    let files = Files::read(root, own.as_str(), units.files(own.as_str())?, Recorded::default())?;
    Ok(files.over(Means::DropIn, setting).filter(|over| !over.sets(declared)))
}

/// What PID 1 refuses, it leaves out, and so is it here.
fn read_drop_in(text: &str) -> Declaration {
    let mut declared = Declaration::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match (key.trim_end(), value.trim()) {
            (SLICE, value) => declared.slice = SliceName::new(value).ok().or(declared.slice),
            (OOM_SCORE_ADJUST, "") => declared.score = None,
            (OOM_SCORE_ADJUST, value) => declared.score = value.parse().ok().or(declared.score),
            _ => {}
        }
    }
    declared
}

fn declared_in_policy(root: &Path, service: &ServiceName) -> Result<Option<Declaration>> {
    let mut loaded = policy::load(root);
    loaded.policy.find_disks(root);
    if let (policy::InForce::Nothing, Some(diagnostic)) = (loaded.in_force, loaded.diagnostics.first()) {
        bail!("{diagnostic}");
    }
    let slice = loaded.policy.slice_of(service).cloned();
    let score = loaded.policy.service(service).score_to_set();
    let says_something = slice.is_some() || score.is_some();
    Ok(says_something.then_some(Declaration { slice, score, policy: Some(loaded.policy) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_gives_slice_and_score() {
        let text =
            "# made\n[Service]\n# x = y\nSlice=foundry-services.slice\nOOMScoreAdjust=-500\nCPUWeight=50\n";
        let declared = read_drop_in(text);
        assert_eq!(declared.slice, SliceName::new("foundry-services.slice").ok());
        assert_eq!(declared.score, OomScoreAdj::new(-500));
        // PID 1 leaves out what it refuses, and an empty line undoes those before it.
        let refused = read_drop_in("Slice=a.slice\nSlice=nonsense\nOOMScoreAdjust=5\nOOMScoreAdjust=low\n");
        assert_eq!((refused.slice, refused.score), (SliceName::new("a.slice").ok(), OomScoreAdj::new(5)));
        for text in ["", "Slice=nonsense\nOOMScoreAdjust=5\nOOMScoreAdjust=\n"] {
            let nothing = read_drop_in(text);
            assert_eq!((nothing.slice, nothing.score), (None, None), "{text}");
        }
    }
}
