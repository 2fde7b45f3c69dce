//! The services that the policy's slices hold, by name.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use crate::host::unit_file::ServiceUnits;
use crate::policy::{Policy, ServicePattern};
use crate::units::ServiceName;

/// Every service that a slice of the policy's holds, of those that the policy or a unit file of this machine names: a
/// template only where it has no instance among them. Where the directories of units cannot be read, those of the
/// policy.
#[must_use]
pub fn held(root: &Path, policy: &Policy) -> BTreeSet<ServiceName> {
    let patterns = policy.slices.values().flat_map(|slice| &slice.matches);
    let exact = patterns.filter_map(|pattern| match &pattern.value {
        ServicePattern::Exact(name) => Some(name.clone()),
        ServicePattern::Prefix(_) => None,
    });
    let units = ServiceUnits::read(root).ok();
    let is_masked = |name: &ServiceName| {
        let unit = units.as_ref().and_then(|units| units.find(name).ok()?);
        unit.is_some_and(|unit| unit.masked)
    };
    let known = units.iter().flat_map(ServiceUnits::names).cloned();
    let mut names: BTreeSet<ServiceName> =
        exact.chain(policy.services.keys().cloned()).chain(known).collect();
    names.retain(|name| policy.slice_of(name).is_some() && !is_masked(name));
    let instantiated: BTreeSet<ServiceName> = names.iter().filter_map(ServiceName::template).collect();
    names.retain(|name| !instantiated.contains(name));
    names
}
