//! A service's process moved into its slice by PID 1.
//!
//! systemd moves no running unit to another slice, and a process that moves itself with a write to
//! cgroupfs loses what it starts: stopping its service no longer reaches that. A scope that is
//! stopped with the service does.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use fairslice_base::host::cgroup;
use fairslice_base::host::pid1::{ASKING, Holds, Manager, Scope};

use crate::enforce::scope;
use crate::units::{MEMORY_ZSWAP_MAX, PROPERTIES, ServiceName, SliceName};

/// How long to wait for PID 1, all in all. It answers nobody while it reloads, which takes seconds on a busy
/// machine: a start that waits that long costs less than a service that runs in the wrong slice until its next.
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves this process, which is in `placed`, into a scope in `slice`; gives the scope's name.
///
/// The weights and limits of the service's own cgroup go with it.
///
/// # Errors
/// This is not root, PID 1 refuses or keeps silent, or the service is of a kind whose processes
/// systemd finds by its cgroup.
pub(super) fn enter(root: &Path, service: &ServiceName, slice: &SliceName, placed: &Path) -> Result<String> {
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can have PID 1 do that");
    }
    let deadline = Instant::now() + PATIENCE;
    let manager = Manager::below(root);
    // Not `service`, if --unit named another one: what is stopped is the unit that runs this.
    let unit = cgroup::service(placed);
    let running =
        unit.as_ref().map(|unit| manager.service_properties(unit.as_str(), deadline)).transpose()?;
    if running.as_ref().is_some_and(|running| running.kind == "forking") {
        bail!("systemd looks for the main process of a Type=forking service in the service's own cgroup");
    }
    let ends_with = running.as_ref().filter(|run| run.ends_what_it_started());
    // The commands of a oneshot service are one run.
    if ends_with.is_some_and(|run| run.main_pid == std::process::id() && run.kind != "oneshot") {
        for earlier in earlier_scopes(root, service, slice)? {
            manager.stop_unit(&earlier, deadline)?;
        }
    }
    // With the PID, because the scope of the last run may not be gone yet.
    let name = service.scope(std::process::id());
    let scope = Scope {
        name: &name,
        slice,
        description: &format!("{service}, put into {slice} by fairslice-launch"),
        documentation: "man:fairslice-launch(1)",
        processes: &[ASKING],
        holds: Holds::Service {
            stopped_with: unit.as_ref().filter(|_| ends_with.is_some()).map(ServiceName::as_str),
            properties: running.as_ref(),
        },
        resources: &unit.as_ref().map_or_else(Vec::new, |unit| resources(root, placed, unit)),
    };
    scope::start(root, &scope, deadline)?;
    Ok(name)
}

/// The scopes of earlier runs of the service. systemd 252 stops them when the service is stopped, but
/// not when it is restarted.
fn earlier_scopes(root: &Path, service: &ServiceName, slice: &SliceName) -> Result<Vec<String>> {
    // No unit's name is anything but UTF-8.
    let names =
        cgroup::children_of(root, &slice.cgroup())?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.filter(|name| service.has_scope(name)).collect())
}

/// What the service's own cgroup was given, as properties of a unit.
fn resources(root: &Path, placed: &Path, unit: &ServiceName) -> Vec<(&'static str, u64)> {
    // Of a delegated service, this process may be in a cgroup further down.
    let Some(own) = placed.ancestors().find(|path| cgroup::own_unit(path) == Some(unit.as_str())) else {
        return Vec::new();
    };
    let live = |attribute| cgroup::attribute(root, own, attribute);
    let settings = PROPERTIES.iter().filter(|property| **property != MEMORY_ZSWAP_MAX);
    let settings = settings.filter_map(|property| {
        let number = cgroup::number(&live(property.attribute)?)?;
        // That is no limit.
        (number != u64::MAX).then_some((property.bus, number))
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_limits_become_properties() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("sys/fs/cgroup/system.slice/a.service");
        std::fs::create_dir_all(&own).unwrap();
        for (attribute, text) in [
            ("cpu.weight", "50\n"),
            ("io.weight", "default 70\n8:0 10\n"),
            ("memory.high", "max\n"),
            ("memory.max", "4096\n"),
            ("cpu.max", "150000 100000\n"),
        ] {
            std::fs::write(own.join(attribute), text).unwrap();
        }
        let unit = ServiceName::new("a").unwrap();
        assert_eq!(
            resources(root.path(), Path::new("system.slice/a.service/payload"), &unit),
            [("CPUWeight", 50), ("CPUQuotaPerSecUSec", 1_500_000), ("IOWeight", 70), ("MemoryMax", 4096)]
        );
    }
}
