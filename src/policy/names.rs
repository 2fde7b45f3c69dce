//! A policy may call a unit by any of its names; what is looked up afterwards is by its own.
#![forbid(unsafe_code)]

use super::{Diagnostic, Policy, Service, ServicePattern, Slice, Sourced};
use crate::units::{Alias, ServiceName, SliceName};

/// Puts what is declared for a unit by another of its names under its own, as PID 1 does with drop-ins. Warns
/// where that has been declared for it by its own as well.
///
/// `own` gives a unit's own name, `aliases` are those of this machine: a prefix may hold a unit by one of them.
#[must_use]
pub fn resolve_names(
    policy: &mut Policy,
    own: impl Fn(&ServiceName) -> Option<ServiceName>,
    aliases: &[Alias],
) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    let called: Vec<(ServiceName, ServiceName)> = policy
        .services
        .keys()
        .filter_map(|name| Some((name.clone(), own(name).filter(|own| own != name)?)))
        .collect();
    for (name, unit) in called {
        let Some(service) = policy.services.remove(&name) else { continue };
        if let Some(known) = policy.services.get(&unit) {
            warnings.extend(twice(&name, &unit, &service, known));
        }
        let known = policy.services.entry(unit).or_default();
        *known = known.or(&service);
    }
    for (slice, pattern) in patterns(policy) {
        let ServicePattern::Exact(name) = &pattern.value else { continue };
        let Some(unit) = own(name).filter(|unit| unit != name) else { continue };
        let other = policy.slice_of(&unit).filter(|other| **other != slice).cloned();
        warnings.extend(other.as_ref().map(|other| {
            let message = format!("{name} is another name of {unit}, which {other} holds");
            Diagnostic::at(&pattern.origin, message).warning()
        }));
        let unit = if other.is_some() { None } else { Some(unit) };
        hold(policy, &slice, &pattern, unit);
    }
    for Alias { name, unit } in aliases {
        let held = patterns(policy).into_iter().find(|(_, pattern)| pattern.value.matches(name));
        if let Some((slice, pattern)) = held.filter(|_| policy.slice_of(unit).is_none()) {
            hold(policy, &slice, &pattern, Some(unit.clone()));
        }
    }
    warnings
}

fn patterns(policy: &Policy) -> Vec<(SliceName, Sourced<ServicePattern>)> {
    let of_slice = |(name, slice): (&SliceName, &Slice)| -> Vec<_> {
        slice.matches.iter().map(|pattern| (name.clone(), pattern.clone())).collect()
    };
    policy.slices.iter().flat_map(of_slice).collect()
}

/// Has `slice` hold `unit` by name, if any, where `pattern` stands; a pattern that was its other name goes.
fn hold(
    policy: &mut Policy,
    slice: &SliceName,
    pattern: &Sourced<ServicePattern>,
    unit: Option<ServiceName>,
) {
    let Some(slice) = policy.slices.get_mut(slice) else { return };
    if matches!(pattern.value, ServicePattern::Exact(_)) {
        slice.matches.retain(|known| known.value != pattern.value);
    }
    let exact =
        unit.map(|unit| Sourced { value: ServicePattern::Exact(unit), origin: pattern.origin.clone() });
    slice.matches.extend(exact);
}

/// That one unit has two tables.
fn twice(name: &ServiceName, unit: &ServiceName, service: &Service, known: &Service) -> Option<Diagnostic> {
    let (here, there) = (service.origin()?, known.origin()?);
    let message = format!(
        "[service.{}] is about {unit}, and so is [service.{}] at {there}, whose values hold",
        name.stem(),
        unit.stem()
    );
    Some(Diagnostic::at(here, message).warning())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::units::OomScoreAdj;

    fn service(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn resolved(text: &str) -> (Policy, Vec<String>) {
        let aliases = [("mysql", "mariadb"), ("sshd", "ssh"), ("local-db", "postgresql"), ("w@", "worker@")];
        let own = |name: &ServiceName| {
            let known = aliases.iter().find(|(alias, _)| service(alias) == *name);
            known.map_or_else(|| Some(name.clone()), |(_, unit)| ServiceName::new(unit).ok())
        };
        let all: Vec<Alias> =
            aliases.iter().map(|(name, unit)| Alias { name: service(name), unit: service(unit) }).collect();
        let mut policy = fixture::policy(text);
        let warnings = resolve_names(&mut policy, own, &all);
        (policy, warnings.iter().map(|warning| warning.message.clone()).collect())
    }

    #[test]
    fn what_is_declared_by_another_name_holds_for_the_unit() {
        let (policy, warnings) = resolved(
            "[slice.\"db.slice\"]\nmatch = [\"mysql\", \"local-*\"]\n[service.mysql]\noom_score_adj = -500\n\
             [service.local-db]\ncpu_weight = 50\n",
        );
        assert_eq!(warnings, [""; 0]);
        let (mariadb, postgresql) = (service("mariadb"), service("postgresql"));
        let db = SliceName::new("db.slice").unwrap();
        assert_eq!(policy.slice_of(&mariadb), Some(&db));
        assert_eq!(policy.service(&mariadb).score_to_set().map(OomScoreAdj::get), Some(-500));
        assert_eq!(policy.slice_of(&service("mysql")), None);
        // A prefix holds it by another of its names.
        assert_eq!(policy.slice_of(&postgresql), Some(&db));
        assert!(policy.service(&postgresql).resources.cpu_weight.is_some());
    }

    #[test]
    fn of_two_tables_for_one_unit_its_own_holds() {
        let (policy, warnings) = resolved(
            "[service.mariadb]\noom_score_adj = -500\n[service.mysql]\noom_score_adj = 100\ncpu_weight = 50\n\
             [slice.\"a.slice\"]\nmatch = [\"mysql\"]\n[slice.\"b.slice\"]\nmatch = [\"mariadb\"]\n",
        );
        let rule = policy.service(&service("mariadb"));
        assert_eq!(rule.score_to_set().map(OomScoreAdj::get), Some(-500));
        assert!(rule.resources.cpu_weight.is_some());
        assert_eq!(policy.services.len(), 1);
        let [tables, slices] = warnings.as_slice() else { panic!("{warnings:?}") };
        assert!(
            tables.starts_with("[service.mysql] is about mariadb.service, and so is [service.mariadb] at ")
        );
        assert_eq!(policy.slice_of(&service("mariadb")), SliceName::new("b.slice").ok().as_ref());
        assert_eq!(slices, "mysql.service is another name of mariadb.service, which b.slice holds");
    }
}
