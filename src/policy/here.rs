//! What a policy says that comes to nothing with this machine's CPUs, disks and systemd.
#![forbid(unsafe_code)]

use super::check::{key_of, tables};
use super::{Diagnostic, Policy, Resources};
use crate::units::cpu_set::CpuSet;
use crate::units::known::known;
use crate::units::span::SECOND;
use crate::units::{Property, ServiceValue, SettingValue};

/// The oldest systemd that there is on a machine with this package.
const OLDEST: u16 = 252;

/// Warnings of a policy whose disks have been looked up, on a machine with these CPUs, as far as they are known, and
/// this version of systemd, which is asked for where it matters: the files hold.
#[must_use]
pub fn here(policy: &Policy, cpus: Option<&CpuSet>, systemd: impl Fn() -> Option<u16>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (resources, of_all) in tables(policy) {
        for setting in resources.settings() {
            let key = key_of(setting.property, of_all);
            let what = cpus
                .and_then(|cpus| above(&setting.value, cpus))
                .or_else(|| no_disk(&setting.value))
                .or_else(|| unknown(setting.property, &systemd));
            let message = what.map(|what| format!("{key} = {} {what}", setting.value));
            found.extend(message.map(|message| Diagnostic::at(setting.origin, message).warning()));
        }
    }
    found.extend(tables(policy).filter_map(|(resources, _)| by_two_paths(resources)));
    for own in policy.services.values().flat_map(|service| &service.own) {
        let (ServiceValue::Cpus(wanted), Some(cpus)) = (&own.value, cpus) else { continue };
        if !wanted.is_within(cpus) {
            let message = format!(
                "allowed_cpus = {wanted}: this machine has {cpus}, and the kernel takes no set with others"
            );
            found.push(Diagnostic::at(&own.origin, message).warning());
        }
    }
    found
}

fn above(value: &SettingValue, cpus: &CpuSet) -> Option<String> {
    let SettingValue::Quota(quota) = value else { return None };
    let all = u64::from(cpus.count());
    (quota.microseconds() > all * SECOND)
        .then(|| format!("is above this machine's {all} CPUs and is never reached"))
}

fn no_disk(value: &SettingValue) -> Option<String> {
    let SettingValue::Bandwidth(bandwidth) = value else { return None };
    let what = || format!("limits nothing: {} is no device, and lies on none", bandwidth.path);
    bandwidth.device.is_none().then(what)
}

/// PID 1 has a line of limits for each path, with none of the other direction in it, and writes one after the other.
fn by_two_paths(resources: &Resources) -> Option<Diagnostic> {
    let (read, write) =
        (resources.io_read_bandwidth_max.as_ref()?, resources.io_write_bandwidth_max.as_ref()?);
    let (from, to) = (&read.value, &write.value);
    let is_one = from.device.is_some() && from.device == to.device && from.path != to.path;
    let message = format!(
        "io_write_bandwidth_max = {to}: {} is on the disk of {} (io_read_bandwidth_max), and by two paths systemd \
         takes the one limit back with the other: write the same path",
        to.path, from.path
    );
    is_one.then(|| Diagnostic::at(&write.origin, message).warning())
}

fn unknown(property: Property, systemd: &impl Fn() -> Option<u16>) -> Option<String> {
    let known = known(property.unit).filter(|known| known.comes_with(Some(OLDEST)).is_some())?;
    let since = known.comes_with(systemd())?;
    Some(format!("comes to nothing: {}= comes with systemd {since}", property.unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load_files;

    #[test]
    fn one_disk_by_two_paths_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let said = |write: &str, device: &str| {
            let text = format!(
                "[service.a]\nio_read_bandwidth_max = \"/a 1M\"\nio_write_bandwidth_max = \"{write} 1M\"\n"
            );
            std::fs::write(file.path(), text).unwrap();
            let mut policy = load_files(&[file.path().to_owned()]).policy;
            for resources in policy.services.values_mut().map(|service| &mut service.resources) {
                resources.io_read_bandwidth_max.as_mut().unwrap().value.device = Some("8:0".into());
                resources.io_write_bandwidth_max.as_mut().unwrap().value.device = Some(device.into());
            }
            here(&policy, None, || None).into_iter().map(|found| found.message).collect::<Vec<_>>()
        };
        assert!(said("/b", "8:0")[0].starts_with("io_write_bandwidth_max = /b 1M: /b is on the disk of /a"));
        assert_eq!((said("/a", "8:0"), said("/b", "8:16")), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_this_machine_does_not_have_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[slice.\"a.slice\"]\ncpu_quota = \"200%\"\nmemory_zswap_max = 0\n\
                    io_read_bandwidth_max = \"/no/such 1M\"\n[service.a]\nallowed_cpus = \"0-2\"\n\
                    [logins]\ntotal_cpu_quota = \"201%\"\n";
        std::fs::write(file.path(), text).unwrap();
        let policy = load_files(&[file.path().to_owned()]).policy;
        let said = |systemd| -> Vec<String> {
            let found = here(&policy, Some(&CpuSet::first(2)), || Some(systemd));
            found.into_iter().map(|found| found.message).collect()
        };
        let all = [
            "io_read_bandwidth_max = /no/such 1M limits nothing: /no/such is no device, and lies on none",
            "memory_zswap_max = 0 comes to nothing: MemoryZSwapMax= comes with systemd 253",
            "total_cpu_quota = 201% is above this machine's 2 CPUs and is never reached",
            "allowed_cpus = 0-2: this machine has 0-1, and the kernel takes no set with others",
        ];
        assert_eq!(said(252), all);
        assert_eq!(said(257), [all[0], all[2], all[3]]);
    }
}
