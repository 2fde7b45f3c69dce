//! What a policy declares that this machine's disks, swap and scheduler make nothing of, or not what it says.
//!
//! Of what runs, the doctor says the same: what decides is found in one place, [`Disks`], [`Weight::of_bfq`] and
//! [`sched_ext`](crate::host::tree::sched_ext).
#![forbid(unsafe_code)]

use crate::host::disk::{Disk, Disks};
use crate::policy::{Declared, Origin, Policy, Resources, Service, ServicePattern, key_of, tables};
use crate::text::{Foreign, shown};
use crate::units::cpu_set::CpuSet;
use crate::units::of_service::ALLOWED_CPUS;
use crate::units::{
    Amount, CPU_WEIGHT, IO_WEIGHT, MEMORY_SWAP_MAX, MEMORY_ZSWAP_MAX, Memory, Property, ServiceName,
    ServiceValue, SliceName, Weight,
};

/// What the machine has.
#[derive(Debug)]
pub struct Here<'a> {
    /// Its disks.
    pub disks: &'a Disks,
    /// Bytes of swap; `None` where that is not known.
    pub swap: Option<u64>,
    /// The `sched_ext` scheduler that is loaded.
    pub sched_ext: Option<&'a Foreign>,
}

/// Where it is declared, and what is to be said of it.
#[must_use]
pub fn ignored<'p>(policy: &'p Policy, here: &Here<'_>) -> Vec<(&'p Origin, String)> {
    let mut found: Vec<(&Origin, String)> = Vec::new();
    for (resources, of_all) in tables(policy) {
        let key = |property: Property| key_of(property, of_all);
        if let Some(weight) = resources.io_weight.as_ref().filter(|weight| weight.value != Weight::DEFAULT) {
            let what = io_weight(weight.value, here.disks);
            found.extend(
                what.map(|what| (&weight.origin, format!("{} = {} {what}", key(IO_WEIGHT), weight.value))),
            );
        }
        if here.swap == Some(0) {
            found.extend(no_swap(&resources.memory_swap_max, key(MEMORY_SWAP_MAX)));
            found.extend(no_swap(&resources.memory_zswap_max, key(MEMORY_ZSWAP_MAX)));
        }
    }
    found.extend(here.sched_ext.and_then(|scheduler| cpu_weights(policy, scheduler)));
    found.extend(alone(policy));
    found
}

/// What the disks make of a weight.
fn io_weight(weight: Weight, disks: &Disks) -> Option<String> {
    let named = |disks: &[&Disk]| {
        let each = disks.iter().map(|disk| format!("{} {}", shown(&disk.name), disk.without_weights()));
        each.collect::<Vec<_>>().join(", ")
    };
    let ignoring = disks.ignoring();
    if !ignoring.is_empty() {
        let on = if disks.go_by_weight() { "on these disks" } else { "on any disk" };
        return Some(format!(
            "decides nothing {on}: {}; \"fairslice doctor\" says what makes it count",
            named(&ignoring)
        ));
    }
    let counts = weight.of_bfq();
    let disk = disks.of_bfq().next().filter(|_| counts != weight)?;
    Some(format!(
        "counts as {counts} on {}, whose scheduler is bfq: up to {} it has weights as they are, and above a point more \
         for each 11",
        shown(&disk.name),
        Weight::DEFAULT
    ))
}

/// A limit of some swap; to allow none is to say what is so.
fn no_swap<'p>(limit: &'p Declared<Memory>, key: &str) -> Option<(&'p Origin, String)> {
    let limit =
        limit.as_ref().filter(|limit| !matches!(limit.value.0, Amount::Absolute(0) | Amount::Infinity))?;
    Some((&limit.origin, format!("{key} = {} limits nothing: this machine has no swap", limit.value)))
}

/// Said once, of the first weight.
fn cpu_weights<'p>(policy: &'p Policy, scheduler: &Foreign) -> Option<(&'p Origin, String)> {
    let weight = policy.resources().find_map(|resources| resources.cpu_weight.as_ref())?;
    let message = format!(
        "{} = {}: what weights come to is as the sched_ext scheduler {} decides, which is loaded",
        CPU_WEIGHT.key,
        weight.value,
        shown(scheduler)
    );
    Some((&weight.origin, message))
}

/// Weights of services that compete with nobody, as far as the policy says: each is the only one of its slice, or
/// the only one that may run on its CPUs.
fn alone(policy: &Policy) -> Vec<(&Origin, String)> {
    let is_outer =
        |slice: &SliceName| policy.slices.keys().any(|inner| inner.parent().as_ref() == Some(slice));
    let mut found = Vec::new();
    for (slice, declared) in policy.slices.iter().filter(|(slice, _)| !is_outer(slice)) {
        // Of a pattern, nobody knows how many services it is.
        let exact: Option<Vec<&ServiceName>> = declared.matches.iter().map(|one| exact(&one.value)).collect();
        let Some(all) = exact else { continue };
        for name in &all {
            let Some(service) = policy.services.get(*name) else { continue };
            let beside: Vec<Option<&CpuSet>> = all
                .iter()
                .filter(|other| other.stem() != name.stem())
                .map(|other| policy.services.get(*other).and_then(cpus))
                .collect();
            let Resources { cpu_weight, io_weight, .. } = &service.resources;
            let cpu =
                cpu_weight.as_ref().map(|weight| (&weight.origin, CPU_WEIGHT.key, weight.value.to_string()));
            let io =
                io_weight.as_ref().map(|weight| (&weight.origin, IO_WEIGHT.key, weight.value.to_string()));
            if beside.is_empty() {
                found.extend(cpu.into_iter().chain(io).map(|(origin, key, value)| {
                    let message = format!(
                        "{key} = {value} decides nothing: the policy puts nothing beside it into {slice}, whose own \
                         {key} counts"
                    );
                    (origin, message)
                }));
            } else if let (Some(own), Some((origin, key, value))) = (cpus(service), cpu) {
                let is_apart = |other: Option<&CpuSet>| other.is_some_and(|other| other.and(own).is_empty());
                let message = format!(
                    "{key} = {value} decides nothing: {} = {own}, and none of the others of {slice} may run there",
                    ALLOWED_CPUS.key
                );
                found.extend(beside.into_iter().all(is_apart).then_some((origin, message)));
            }
        }
    }
    found
}

fn exact(pattern: &ServicePattern) -> Option<&ServiceName> {
    if let ServicePattern::Exact(name) = pattern { Some(name) } else { None }
}

/// Those that a service is held to.
fn cpus(service: &Service) -> Option<&CpuSet> {
    service
        .own
        .iter()
        .find_map(|value| if let ServiceValue::Cpus(cpus) = &value.value { Some(cpus) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, policy};

    fn said(text: &str, here: &Here<'_>) -> Vec<String> {
        ignored(&policy(text), here).into_iter().map(|(_, message)| message).collect()
    }

    fn disk(name: &str, scheduler: &str) -> Disk {
        fixture::disk(name, "254:0", scheduler, false)
    }

    #[test]
    fn what_the_disks_make_of_a_weight_is_said() {
        let of = |disks: &[Disk], text: &str| {
            let disks = Disks { all: disks.to_vec(), ..Disks::default() };
            said(text, &Here { disks: &disks, swap: None, sched_ext: None })
        };
        let policy = "[slice.\"a.slice\"]\nio_weight = 200\n";
        let none = "io_weight = 200 decides nothing on any disk: vda has the scheduler none and no io.cost; \
                    \"fairslice doctor\" says what makes it count";
        assert_eq!(of(&[disk("vda", "none")], policy), [none]);
        let some = of(&[disk("vda", "none"), disk("vdb", "bfq")], policy);
        assert!(some[0].starts_with("io_weight = 200 decides nothing on these disks: vda has"), "{some:?}");
        let rounded = of(&[disk("vdb", "bfq")], policy);
        assert!(
            rounded[0].starts_with("io_weight = 200 counts as 109 on vdb, whose scheduler is bfq"),
            "{rounded:?}"
        );
        let total = of(&[disk("vda", "none")], "[logins]\ntotal_io_weight = 50\n");
        assert!(total[0].starts_with("total_io_weight = 50 decides nothing"), "{total:?}");
        assert_eq!(of(&[disk("vdb", "bfq")], "[logins]\nio_weight = 50\n"), [""; 0]);
        assert_eq!(of(&[], policy), [""; 0]);
    }

    #[test]
    fn a_limit_of_no_swap_and_weights_that_another_scheduler_has_are_said() {
        let disks = Disks::default();
        let of = |swap, sched_ext, text: &str| said(text, &Here { disks: &disks, swap, sched_ext });
        let policy = "[slice.\"a.slice\"]\nmemory_swap_max = \"1G\"\n[slice.\"b.slice\"]\nmemory_swap_max = 0\n\
                      cpu_weight = 200\n[logins]\ncpu_weight = 50\n";
        let swap = "memory_swap_max = 1G limits nothing: this machine has no swap";
        assert_eq!(of(Some(0), None, policy), [swap]);
        assert_eq!(of(Some(1), None, policy), [""; 0]);
        let scheduler = "scx_lavd".into();
        let weights = "cpu_weight = 200: what weights come to is as the sched_ext scheduler scx_lavd decides, which is loaded";
        assert_eq!(of(None, Some(&scheduler), policy), [weights]);
    }

    #[test]
    fn the_weight_of_a_service_that_has_its_slice_for_itself_is_said() {
        let disks = Disks::default();
        let of = |matches: &str, more: &str| {
            let text = format!(
                "[slice.\"a.slice\"]\nmatch = [{matches}]\n[service.web]\ncpu_weight = 300\nio_weight = 70\n{more}"
            );
            said(&text, &Here { disks: &disks, swap: None, sched_ext: None })
        };
        let alone = of("\"web\"", "");
        assert_eq!(alone.len(), 2, "{alone:?}");
        assert!(
            alone[0].starts_with(
                "cpu_weight = 300 decides nothing: the policy puts nothing beside it into a.slice"
            )
        );
        for beside in ["\"web\", \"db\"", "\"web-*\"", "\"db\""] {
            assert_eq!(of(beside, ""), [""; 0], "{beside}");
        }
        assert_eq!(of("\"web\"", "[slice.\"a-b.slice\"]\ncpu_weight = 1\n"), [""; 0]);
    }

    #[test]
    fn the_weight_of_a_service_that_has_its_cpus_for_itself_is_said() {
        let disks = Disks::default();
        let of = |web: &str, db: &str| {
            let text = format!(
                "[slice.\"a.slice\"]\nmatch = [\"web\", \"db\"]\n\
                 [service.web]\ncpu_weight = 300\nio_weight = 70\n{web}\n[service.db]\n{db}\n"
            );
            said(&text, &Here { disks: &disks, swap: None, sched_ext: None })
        };
        assert_eq!(
            of("allowed_cpus = \"0\"", "allowed_cpus = \"1\""),
            [
                "cpu_weight = 300 decides nothing: allowed_cpus = 0, and none of the others of a.slice may run there"
            ]
        );
        for (web, db) in [("", ""), ("allowed_cpus = \"0\"", ""), ("", "allowed_cpus = \"1\"")] {
            assert_eq!(of(web, db), [""; 0], "{web} {db}");
        }
        assert_eq!(of("allowed_cpus = \"0-1\"", "allowed_cpus = \"1\""), [""; 0]);
    }
}
