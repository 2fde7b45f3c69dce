//! Every path and file name that fairslice reads or writes, once.
//!
//! Paths are relative, to be joined to a root: `/` on a live system, a directory in tests.
#![forbid(unsafe_code)]

use std::path::PathBuf;

/// The main policy file.
pub const POLICY: &str = "etc/fairslice/policy.toml";
/// Policy fragments, `*.toml`, merged after [`POLICY`] in file-name order.
pub const POLICY_DIR: &str = "etc/fairslice/policy.d";
/// The last policy that loaded without an error in its main file, laid out as a root of its own.
pub const LAST_GOOD: &str = "run/fairslice/last-good";
/// Which properties the PAM module set, one file per unit, so that removing the package undoes them.
pub const RUNTIME_PROPERTIES: &str = "run/fairslice/properties";
/// Where units and their drop-ins lie, the strongest first, as far as ours can be hidden by another;
/// the last is where generators write.
pub const UNIT_DIRS: [&str; 3] = ["etc/systemd/system", "run/systemd/system", "run/systemd/generator"];
/// The drop-in's file name: under `50-`, which `systemctl set-property` uses, so that the
/// administrator's own settings win (systemd sorts drop-ins by file name before specificity).
pub const DROP_IN: &str = "40-fairslice.conf";
/// Present if and only if PID 1 is systemd, `sd_booted(3)`.
pub const SYSTEMD_BOOTED: &str = "run/systemd/system";
/// The cgroup file system.
pub const CGROUPFS: &str = "sys/fs/cgroup";

/// The variable that redirects every path of the commands below a directory, for tests.
pub const ROOT_VARIABLE: &str = "FAIRSLICE_ROOT";

/// The root that the commands work below: [`ROOT_VARIABLE`], else `/`.
///
/// The PAM module never asks: the environment of a set-uid program is not to be trusted.
#[must_use]
pub fn root() -> PathBuf {
    std::env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from("/"), PathBuf::from)
}
