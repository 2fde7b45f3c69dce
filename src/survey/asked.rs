//! What PID 1 is asked of units because a policy says something of it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::host::units::{Unit, Units};
use crate::policy::{Policy, Resources};

/// Asks of these units what the policy declares and is not asked of every unit.
///
/// # Errors
/// PID 1 cannot be reached.
pub fn ask_for_declared<'n>(
    root: &Path,
    units: &mut Units,
    policy: &Policy,
    names: impl Iterator<Item = &'n str>,
) -> Result<()> {
    let settings = policy.resources().flat_map(Resources::settings);
    let of_all: BTreeSet<&str> =
        settings.filter(|setting| !setting.property.always).map(|setting| setting.property.bus).collect();
    let own = policy.services.values().flat_map(|service| &service.own);
    let of_services: BTreeSet<&str> = own.map(|own| own.value.setting().unit).collect();
    if of_all.is_empty() && of_services.is_empty() {
        return Ok(());
    }
    let is_active = |name: &&str| units.get(name).is_some_and(Unit::is_active);
    let (mut services, mut slices) = (Vec::new(), Vec::new());
    for name in names.filter(is_active) {
        if name.ends_with(".service") { services.push(name.to_owned()) } else { slices.push(name.to_owned()) }
    }
    units.ask_also(root, &slices, &of_all.iter().copied().collect::<Vec<_>>())?;
    units.ask_also(root, &services, &of_all.union(&of_services).copied().collect::<Vec<_>>())
}
