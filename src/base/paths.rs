//! Every path and file name that fairslice reads or writes, once.
//!
//! Paths are relative, to be joined to a root: [`ROOT`] on a live system, a directory in tests, by [`root`].
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

/// The root of a live system.
pub const ROOT: &str = "/";
/// The main policy file.
pub const POLICY: &str = "etc/fairslice/policy.toml";
/// Policy fragments, `*.toml`, merged after [`POLICY`] in file-name order.
pub const POLICY_DIR: &str = "etc/fairslice/policy.d";
/// Where `fairslice import --write` puts what was set by hand.
pub const IMPORTED: &str = "etc/fairslice/policy.d/60-imported.toml";
/// What `fairslice import --retire` has moved aside, laid out as a root of its own.
pub const RETIRED: &str = "etc/fairslice/retired";
/// What fairslice keeps until the next boot. Everybody may read it but for [`SESSIONS`] and [`LOCK_DIR`].
pub const RUN: &str = "run/fairslice";
/// The fragment that `fairslice adopt` writes.
pub const ADOPTED: &str = "50-adopted.toml";
/// The last policy that loaded without an error in its main file, laid out as a root of its own.
pub const LAST_GOOD: &str = "run/fairslice/last-good";
/// The policy as logins read it, while the policy files are those that it was made from.
pub const COMPILED: &str = "run/fairslice/policy.compiled";
/// Which properties the PAM module set, one file per unit, so that removing the package undoes them.
pub const RUNTIME_PROPERTIES: &str = "run/fairslice/properties";
/// Who shares the weight of a group: a directory for each, with a file for each member who is logged in.
pub const BUDGETS: &str = "run/fairslice/budgets";
/// There while what a login could not have PID 1 set waits for [`HEADCOUNT_PATH`].
pub const UNCOUNTED: &str = "run/fairslice/uncounted";
/// Where the logins came from that the PAM module placed itself, without systemd: one file per
/// session. Only root may look into it.
pub const SESSIONS: &str = "run/fairslice/sessions";
/// Where generators write, of the strength of ours.
pub const GENERATED: &str = "run/systemd/generator";
/// Where all generators write, which run at the same time.
pub const GENERATOR_DIRECTORIES: [&str; 3] =
    ["run/systemd/generator.early", GENERATED, "run/systemd/generator.late"];
/// What `systemctl set-property` writes.
pub const LASTING_CONTROL: &str = "etc/systemd/system.control";
/// What `systemctl set-property --runtime` and PID 1 write, which holds until the next boot.
pub const RUNTIME_CONTROL: &str = "run/systemd/system.control";
/// The generator, where the package has it.
pub const GENERATOR: &str = "usr/lib/systemd/system-generators/fairslice-generator";
/// Where a file of the generator's name takes its place: `systemd.generator(7)`.
pub const GENERATOR_MASKS: [&str; 3] = [
    "run/systemd/system-generators",
    "etc/systemd/system-generators",
    "usr/local/lib/systemd/system-generators",
];
/// What puts the generator out of force until the next boot: a link to `/dev/null`.
pub const RUNTIME_GENERATOR_MASK: &str = "run/systemd/system-generators/fairslice-generator";
/// The drop-in's file name: under `50-`, which `systemctl set-property` uses, so that the
/// administrator's own settings win (systemd sorts drop-ins by file name before specificity).
pub const DROP_IN: &str = "40-fairslice.conf";
/// Where the administrator's own units and drop-ins lie.
pub const ADMIN_UNITS: &str = "etc/systemd/system";
/// Where the administrator's programs have theirs: `systemd.unit(5)`.
pub const LOCAL_UNITS: &str = "usr/local/lib/systemd/system";
/// Where units and drop-ins lie that hold until the next boot.
pub const RUNTIME_UNITS: &str = "run/systemd/system";
/// Where units lie that were started without a file, and are gone when they stop.
pub const TRANSIENT_UNITS: &str = "run/systemd/transient";
/// Every directory of units and drop-ins, the strongest first: `systemd.unit(5)`. `lib` is one of
/// its own only where it is no link to `usr/lib`.
pub const UNIT_SEARCH_PATH: [&str; 13] = [
    LASTING_CONTROL,
    RUNTIME_CONTROL,
    TRANSIENT_UNITS,
    "run/systemd/generator.early",
    ADMIN_UNITS,
    "etc/systemd/system.attached",
    RUNTIME_UNITS,
    "run/systemd/system.attached",
    GENERATED,
    LOCAL_UNITS,
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
];
/// The command.
pub const COMMAND: &str = "usr/bin/fairslice";
/// The launcher.
pub const LAUNCHER: &str = "usr/bin/fairslice-launch";
/// The drop-in that puts the launcher in front of a unit's commands, where no other of the unit's sorts after this.
pub const LAUNCH_DROP_IN: &str = "zz-fairslice-launch.conf";
/// Present if and only if PID 1 is systemd, `sd_booted(3)`.
pub const SYSTEMD_BOOTED: &str = RUNTIME_UNITS;
/// What counts the users again when the one of a user's slice is gone; `%j` is that user's number.
pub const HEADCOUNT_UNIT: &str = "fairslice-headcount@%j.service";
/// What counts them, too, when a login has left that in [`UNCOUNTED`].
pub const HEADCOUNT_PATH: &str = "fairslice-headcount.path";
/// Present if logind runs, or elogind: `logind_running` of systemd and elogind.
pub const LOGIND_RUNS: &str = "run/systemd/seats";
/// A file for each user who lingers, `loginctl(1)`.
pub const LINGER: &str = "var/lib/systemd/linger";
/// The configuration of sshd.
pub const SSHD_CONFIG: &str = "etc/ssh/sshd_config";
/// What asks PID 1, and tells it.
pub const SYSTEMCTL: &str = "usr/bin/systemctl";
/// Our profile for `pam-auth-update(8)`.
pub const PAM_PROFILE: &str = "usr/share/pam-configs/fairslice";
/// What a machine that was captured for a test has instead of a PID 1: the output of `systemctl show`.
pub const CAPTURED_UNITS: &str = "run/systemd/show";
/// The same of PID 1 itself: the output of `systemctl show` without a unit.
pub const CAPTURED_MANAGER: &str = "run/systemd/show-manager";
/// Which CPUs are online, such as `0-3,8`.
pub const ONLINE_CPUS: &str = "sys/devices/system/cpu/online";
/// Which of them `isolcpus=` has taken out of load balancing, or an empty line.
pub const ISOLATED_CPUS: &str = "sys/devices/system/cpu/isolated";
/// `state` and `root/ops` of it: whether a `sched_ext` scheduler is loaded, and which.
pub const SCHED_EXT: &str = "sys/kernel/sched_ext";
/// Where [`LOCK`] lies. Only root may look into it: whoever can open a file can lock it.
pub const LOCK_DIR: &str = "run/fairslice/lock";
/// Locked by whoever changes the machine.
pub const LOCK: &str = "held";
/// The units that PID 1 has read anew, and whose cgroups it is still to write: what is left of an
/// `apply` that was killed.
pub const UNWRITTEN: &str = "run/fairslice/unwritten";
/// The cgroup file system.
pub const CGROUPFS: &str = "sys/fs/cgroup";

/// A path below the root, as it is on a live system.
#[must_use]
pub fn absolute(path: impl AsRef<Path>) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// What the paths of a program with these arguments, without its own name, are joined to: `--root DIR` may
/// stand first, for tests, and is taken away.
///
/// It is no variable, because these programs run as root, in environments of others.
#[must_use]
pub fn root(words: &mut Peekable<impl Iterator<Item = OsString>>) -> PathBuf {
    let named = words.next_if(|word| word == "--root").and_then(|_| words.next());
    named.map_or_else(|| PathBuf::from(ROOT), PathBuf::from)
}

/// The generator's drop-in of a unit.
#[must_use]
pub fn generated(unit: &str) -> PathBuf {
    Path::new(GENERATED).join(format!("{unit}.d")).join(DROP_IN)
}
