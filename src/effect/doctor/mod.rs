//! What is not as it was meant: each file finds what is wrong in its part of the machine.
#![forbid(unsafe_code)]

pub mod cost;
pub mod cpu;
pub mod directories;
pub mod kill_order;
pub mod logins;
pub mod memory;
pub mod placement;
pub mod rounding;
pub mod scores;
pub mod settings;
pub mod stock;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::chain::{Chain, Scene};
use super::finding::{Code, Finding, Fix, Place};
use crate::policy::CPU_WEIGHT;
use crate::text::quoted;

/// Where a setting of a unit stands: by the unit's name and the key, `("ssh.service", "OOMScoreAdjust")`.
pub type SetBy<'a> = &'a dyn Fn(&str, &str) -> Option<Place>;

/// The way of each value that the policy declares, then of each that PID 1 has without its asking.
#[must_use]
pub fn chains(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = settings::declared(scene);
    chains.extend(placement::declared(scene));
    chains.extend(scores::declared(scene));
    chains.sort_by(|a, b| a.unit.cmp(&b.unit));
    chains.extend(settings::outdated(scene, &chains));
    let declared: BTreeSet<(String, &str)> =
        chains.iter().map(|chain| (chain.unit.clone(), property_of(chain.key))).collect();
    let undeclared = settings::undeclared(scene).into_iter().chain(placement::undeclared(scene));
    chains.extend(undeclared.filter(|chain| !declared.contains(&(chain.unit.clone(), chain.key))));
    chains
}

/// The command that gives a unit a property for good.
fn set_property(unit: &str, property: &str, value: &str) -> String {
    format!("systemctl set-property {} {property}={value}", quoted(unit))
}

fn property_of(key: &'static str) -> &'static str {
    if key == "total_weight" { CPU_WEIGHT.key } else { key }
}

/// One finding for each cause: what breaks several values of a unit is told once, and so is what keeps
/// the policy from PID 1.
#[must_use]
pub fn findings(chains: &[Chain]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for next in chains.iter().filter_map(|chain| chain.broken.as_ref()) {
        match found.iter_mut().find(|known| is_same(known, next)) {
            Some(known) => join(known, next),
            None => found.push(next.clone()),
        }
    }
    found
}

fn is_same(a: &Finding, b: &Finding) -> bool {
    let everywhere = a.code == Code::DropInMissing;
    // What is to be done at several lines of one file is said of each.
    let fix = matches!((&a.fix, &b.fix), (Fix::Edit(_), Fix::Edit(_))) || a.fix == b.fix;
    a.code == b.code
        && a.cause == b.cause
        && fix
        && (everywhere || (a.subject == b.subject && file_of(a) == file_of(b)))
}

fn file_of(finding: &Finding) -> Option<&PathBuf> {
    finding.at.as_ref().map(|at| &at.file)
}

fn join(known: &mut Finding, next: &Finding) {
    let with = |text: &mut String, next: &str, separator: &str| {
        for next in next.split(separator) {
            if !text.split(separator).any(|part| part == next) {
                text.push_str(separator);
                text.push_str(next);
            }
        }
    };
    with(&mut known.subject, &next.subject, ", ");
    with(&mut known.what, &next.what, "; ");
    // Of one file, a line says more.
    if known.at.as_ref().is_none_or(|at| at.line.is_none() && file_of(next) == Some(&at.file)) {
        known.at.clone_from(&next.at);
    }
    if let (Some(cost), Some(next)) = (&mut known.cost, &next.cost) {
        with(cost, next, "; ");
    }
    if let (Fix::Edit(fix), Fix::Edit(next)) = (&mut known.fix, &next.fix) {
        with(fix, next, "; ");
    }
}
