//! What the policy calls by a name that no unit has, where a unit is called nearly so.
//!
//! A policy is for many machines, and names what not every one of them has: that is no mistake.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use crate::host::tree::Tree;
use crate::host::unit_file::ServiceUnits;
use crate::policy::{Diagnostic, Origin, Policy, ServicePattern};
use crate::spelling::{did_you_mean, distance};
use crate::units::ServiceName;

/// A name or prefix of the policy's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// As it is written in the policy: `local-contnet`, `locl-*`.
    pub name: String,
    /// Where; for a table, its first value.
    pub origin: Origin,
    /// Whether it is the name of a table, `[service.local-contnet]`.
    pub is_table: bool,
    /// The names or prefixes that are nearly so, as a policy calls them; never empty.
    pub near: BTreeSet<String>,
}

/// Every service with a unit file, by each of its names, and every one in the tree: PID 1 may have units without files.
/// Nothing where the directories of units cannot be read.
#[must_use]
pub fn services(root: &Path, tree: Option<&Tree>) -> BTreeSet<ServiceName> {
    let Ok(units) = ServiceUnits::read(root) else { return BTreeSet::new() };
    let aliases = units.every_alias().into_iter().map(|alias| alias.name);
    let in_tree = tree.into_iter().flat_map(|tree| tree.ids().filter_map(|id| tree.unit(id)));
    let live =
        in_tree.filter(|unit| unit.ends_with(".service")).filter_map(|unit| ServiceName::new(unit).ok());
    units.names().cloned().chain(aliases).chain(live).collect()
}

/// The names and prefixes in a policy that none of these services has, and some nearly.
#[must_use]
pub fn unmatched(policy: &Policy, services: &BTreeSet<ServiceName>) -> Vec<Unmatched> {
    let patterns = || policy.slices.values().flat_map(|slice| &slice.matches);
    let tables = policy.services.iter().filter_map(|(name, service)| {
        Some((ServicePattern::Exact(name.clone()), service.origin()?.clone(), true))
    });
    let all = patterns().map(|pattern| (pattern.value.clone(), pattern.origin.clone(), false)).chain(tables);
    let is_named = |service: &ServiceName| {
        let exact = |pattern: &ServicePattern| *pattern == ServicePattern::Exact(service.clone());
        policy.services.contains_key(service) || patterns().any(|pattern| exact(&pattern.value))
    };
    let mut found: Vec<Unmatched> = all
        .filter(|(pattern, ..)| !is_there(pattern, services))
        .filter_map(|(pattern, origin, is_table)| {
            let near: BTreeSet<String> = match &pattern {
                ServicePattern::Exact(_) => {
                    let others = services.iter().filter(|service| !is_named(service));
                    let stems = others.map(ServiceName::stem);
                    stems.filter(|other| is_near(pattern.stem(), other)).map(str::to_owned).collect()
                }
                ServicePattern::Prefix(prefix) => {
                    let prefixes = services.iter().flat_map(prefixes);
                    prefixes.filter(|other| is_near(prefix, other)).map(|other| format!("{other}*")).collect()
                }
            };
            (!near.is_empty()).then(|| Unmatched { name: pattern.to_string(), origin, is_table, near })
        })
        .collect();
    found.sort_by(|a, b| (&a.origin.file, a.origin.line).cmp(&(&b.origin.file, b.origin.line)));
    found
}

/// Whether a service is called so, or may be: the instances of a template need no files.
fn is_there(pattern: &ServicePattern, services: &BTreeSet<ServiceName>) -> bool {
    let may_be = |name: &ServiceName| name.template().is_some_and(|template| services.contains(&template));
    services.iter().any(|service| pattern.matches(service))
        || matches!(pattern, ServicePattern::Exact(name) if may_be(name))
}

/// `local-` and `local-a-` of `local-a-b`.
fn prefixes(service: &ServiceName) -> impl Iterator<Item = &str> {
    let name = service.stem().split('@').next().unwrap_or_default();
    name.match_indices('-').filter_map(move |(at, _)| name.get(..=at))
}

/// Whether one is the other misspelt. What both begin with up to a dash tells nothing: `local-fs` is not `local-db`.
fn is_near(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one, other);
    while let Some(rests) = after_common(one, other) {
        (one, other) = rests;
    }
    let most = 1 + one.chars().count() / 6;
    distance(one, other, most).is_some()
}

/// What follows in both upon the same part and its dash; `None` where the parts differ, or nothing follows in one.
fn after_common<'a>(one: &'a str, other: &'a str) -> Option<(&'a str, &'a str)> {
    let (first, rest) = one.split_once('-')?;
    let (other_first, other_rest) = other.split_once('-')?;
    (first == other_first && !rest.is_empty() && !other_rest.is_empty()).then_some((rest, other_rest))
}

impl Unmatched {
    /// That it is so, in words that go on after the name.
    #[must_use]
    pub fn said(&self) -> String {
        let hint = did_you_mean(&self.name, self.near.iter().map(String::as_str));
        format!("no service of this machine is called so{hint}")
    }

    /// The same as a warning about the policy.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::at(&self.origin, format!("\"{}\": {}", self.name, self.said())).warning()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn found(policy: &str, services: &[&str]) -> Vec<(String, String)> {
        let services = services.iter().map(|name| ServiceName::new(name).unwrap()).collect();
        let near = |found: Unmatched| (found.name, found.near.into_iter().collect::<Vec<_>>().join(", "));
        unmatched(&fixture::policy(policy), &services).into_iter().map(near).collect()
    }

    const PACKAGED: &str = include_str!("../../packaging/policy.toml");

    #[test]
    fn a_policy_for_many_machines_is_no_mistake() {
        let debian = ["ssh", "cron", "dbus", "rc-local", "systemd-localed", "getty@", "local", "postgresql@"];
        assert_eq!(found(PACKAGED, &debian), []);
        assert_eq!(found(PACKAGED, &[]), []);
        assert_eq!(found(PACKAGED, &["cron", "local-fs", "local-db", "local-doorman-helper"]), []);
        assert_eq!(found("[service.\"postgresql@17-main\"]\ncpu_weight = 50\n", &debian), []);
    }

    #[test]
    fn a_name_that_is_nearly_a_units_is_found() {
        let policy = "[slice.\"a.slice\"]\nmatch = [\"local-contnet\", \"locl-*\"]\n[service.nignx]\n\
                      oom_score_adj = 5\nset_by = \"service\"\n";
        let of = |name: &str, near: &str| (name.to_owned(), near.to_owned());
        let services = ["local-content", "local-fs", "nginx", "ssh"];
        let all = [of("local-contnet", "local-content"), of("locl-*", "local-*"), of("nignx", "nginx")];
        assert_eq!(found(policy, &services), all);
        // What the policy names besides is meant there.
        let both = format!("{policy}[service.nginx]\noom_score_adj = 6\n");
        assert_eq!(found(&both, &services), all[..2]);
    }
}
