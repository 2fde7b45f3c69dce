//! What the policy in force says of one service.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::host::unit_file::drop_in_directories;
use crate::paths;
use crate::policy::{self, OOM_SCORE_ADJUST, OomScoreAdj, Policy, SLICE, ServiceName, SliceName};
use crate::text::shown;

/// What the policy says of one service.
#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) slice: Option<SliceName>,
    pub(super) score: Option<OomScoreAdj>,
    /// The whole policy where there is no systemd to have put it in force.
    pub(super) policy: Option<Policy>,
}

/// What the policy in force says of `service`; `None` where it says nothing.
///
/// Under systemd that is what the generator wrote, unless the administrator put a file of the same
/// name before it: two keys in one small file, whatever the size of the policy.
///
/// # Errors
/// The file that counts cannot be read, or there is no policy at all.
pub(super) fn declared(root: &Path, service: &ServiceName) -> Result<Option<Declared>> {
    if !root.join(paths::SYSTEMD_BOOTED).exists() {
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
    for directory in drop_in_directories(&paths::UNIT_DIRS, std::slice::from_ref(service)) {
        let file = root.join(directory).join(paths::DROP_IN);
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => {
                let declared = text.map_err(Into::into).and_then(|text| read_drop_in(&text));
                return declared.map(Some).with_context(|| format!("reading {}", shown(&file)));
            }
        }
    }
    Ok(None)
}

fn read_drop_in(text: &str) -> Result<Declared> {
    let mut declared = Declared::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key.trim_end() {
            SLICE => declared.slice = Some(SliceName::new(value.trim()).map_err(anyhow::Error::msg)?),
            OOM_SCORE_ADJUST => declared.score = Some(value.parse().map_err(anyhow::Error::msg)?),
            _ => {}
        }
    }
    Ok(declared)
}

fn declared_in_policy(root: &Path, service: &ServiceName) -> Result<Option<Declared>> {
    let loaded = policy::load(root);
    if let (policy::InForce::Nothing, Some(diagnostic)) = (loaded.in_force, loaded.diagnostics.first()) {
        bail!("{diagnostic}");
    }
    let slice = loaded.policy.slice_of(service).cloned();
    let score = loaded.policy.service(service).score_to_set();
    let says_something = slice.is_some() || score.is_some();
    Ok(says_something.then_some(Declared { slice, score, policy: Some(loaded.policy) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_gives_slice_and_score() {
        let text =
            "# made\n[Service]\n# x = y\nSlice=foundry-services.slice\nOOMScoreAdjust=-500\nCPUWeight=50\n";
        let declared = read_drop_in(text).unwrap();
        assert_eq!(declared.slice, SliceName::new("foundry-services.slice").ok());
        assert_eq!(declared.score, OomScoreAdj::new(-500));
        assert!(read_drop_in("Slice=nonsense\n").is_err());
        let nothing = read_drop_in("").unwrap();
        assert_eq!((nothing.slice, nothing.score), (None, None));
    }
}
