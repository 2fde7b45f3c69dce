//! What is wrong with a policy beyond its spelling: contradictions, and values that come to
//! nothing on a machine.
#![forbid(unsafe_code)]

use super::diagnostic::{Diagnostic, MOST_ERRORS};
use super::{
    Amount, Declared, Memory, Policy, PrivateDir, Resources, Service, ServiceName, SetBy, Slice, SliceName,
    VariableName,
};
use crate::text::{quoted, shown};

/// What cannot hold at once. These are errors: the file that brings them is left out.
pub(super) fn contradictions(policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, slice) in &policy.slices {
        found.extend(reserved_slice(name, slice));
        found.extend(inverted_limits(&slice.resources));
    }
    found.extend(floors_above_all(policy));
    found.extend(shared_services(policy));
    for (name, service) in &policy.services {
        found.extend(score_of_ssh(name, service));
        found.extend(inverted_limits(&service.resources));
    }
    let rules = policy.logins.users.iter().chain(&policy.logins.groups).map(|(_, rule)| rule);
    for rule in rules.chain([&policy.logins.default]) {
        found.extend(inverted_limits(&rule.resources));
    }
    found.extend(policy.private_dirs.iter().filter_map(|(variable, dir)| age_in_homes(variable, dir)));
    found
}

/// What is right, but comes to nothing on a machine with `ram` bytes of memory (of the container's
/// limit inside one) and these groups and users. These are warnings: the files hold.
#[must_use]
pub fn review(
    policy: &Policy,
    ram: u64,
    group_exists: fn(&str) -> bool,
    user_exists: fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let slices = policy.slices.values().map(|slice| &slice.resources);
    let services = policy.services.values().map(|service| &service.resources);
    let logins = &policy.logins;
    let rules = logins.users.iter().chain(&logins.groups).map(|(_, rule)| &rule.resources);
    for resources in slices.chain(services).chain(rules).chain([&logins.default.resources]) {
        found.extend(beyond_ram(resources, ram));
    }
    for (name, rule) in &logins.groups {
        if !group_exists(name) {
            let message = format!(
                "[logins.group.{}]: there is no such group: \"groupadd {}\", or remove the rule",
                shown(name),
                quoted(name)
            );
            found.extend(about_rule(rule, message));
        }
    }
    for (name, rule) in &logins.users {
        if !user_exists(name) {
            found.extend(about_rule(rule, format!("[logins.user.{}]: there is no such user", shown(name))));
        }
    }
    for (variable, dir) in &policy.private_dirs {
        let groups = dir.groups.iter().filter(|group| !group_exists(&group.value));
        let users = dir.users.iter().filter(|user| !user_exists(&user.value));
        for (kind, name) in groups.map(|name| ("group", name)).chain(users.map(|name| ("user", name))) {
            let message = format!("[private_dir.{variable}]: there is no {kind} \"{}\"", shown(&name.value));
            found.push(Diagnostic::at(&name.origin, message).warning());
        }
    }
    found
}

/// A warning at the first value of a rule; a rule without one has no effect to warn of.
fn about_rule(rule: &super::LoginRule, message: String) -> Option<Diagnostic> {
    Some(Diagnostic::at(rule.origin()?, message).warning())
}

/// Slices of logins are `[logins]`' business.
fn reserved_slice(name: &SliceName, slice: &Slice) -> Option<Diagnostic> {
    let mut and_ancestors = std::iter::successors(Some(name.clone()), SliceName::parent);
    let logins = and_ancestors.any(|slice| slice == SliceName::user());
    let origin = first_origin(slice).filter(|_| logins)?;
    Some(Diagnostic::at(origin, format!("[slice.\"{name}\"] holds logins: declare them in [logins]")))
}

fn first_origin(slice: &Slice) -> Option<&super::Origin> {
    let patterns = slice.matches.iter().map(|pattern| &pattern.origin);
    let floor = slice.cpu_floor.as_ref().map(|floor| &floor.origin);
    patterns
        .chain(floor)
        .chain(slice.resources.settings().map(|setting| setting.origin))
        .min_by_key(|origin| origin.line)
}

/// Floors of slices that are not inside one another are parts of one whole.
fn floors_above_all(policy: &Policy) -> Option<Diagnostic> {
    let floor = |name: &SliceName| policy.slices.get(name)?.cpu_floor.as_ref();
    let outermost = policy.slices.keys().filter(|name| {
        !std::iter::successors(name.parent(), SliceName::parent).any(|outer| floor(&outer).is_some())
    });
    let floors: Vec<_> = outermost.filter_map(floor).collect();
    let sum: u64 = floors.iter().map(|floor| floor.value.permyriad()).sum();
    let last = floors.iter().max_by_key(|floor| floor.origin.line).filter(|_| sum > 10_000)?;
    let message = format!(
        "cpu_floor = \"{}\": the floors add up to {}.{:02}% of the CPU time",
        last.value,
        sum / 100,
        sum % 100
    );
    Some(Diagnostic::at(&last.origin, message))
}

/// A service is in one slice.
fn shared_services(policy: &Policy) -> Vec<Diagnostic> {
    let all = policy.slices.iter().flat_map(|(name, slice)| slice.matches.iter().map(move |p| (name, p)));
    let mut patterns: Vec<_> = all.map(|(slice, pattern)| (pattern.value.stem(), slice, pattern)).collect();
    // Of two patterns that can hold one service, one begins as the other: so they stand together.
    patterns.sort_by_key(|(stem, ..)| *stem);
    let mut found = Vec::new();
    for (index, (stem, slice, pattern)) in patterns.iter().enumerate() {
        let beginning_so = patterns.iter().skip(index + 1).take_while(|(other, ..)| other.starts_with(stem));
        for (_, other_slice, other) in beginning_so {
            if slice != other_slice && pattern.value.overlaps(&other.value) {
                // It is told of the slice that comes later.
                let mut pair = [(slice, pattern), (other_slice, other)];
                pair.sort_by_key(|(slice, _)| *slice);
                let [(first_slice, first), (slice, later)] = pair;
                found.push(Diagnostic::at(
                    &later.origin,
                    format!(
                        "\"{}\" puts a service into {slice} that \"{}\" puts into {first_slice} ({}): a service is in one slice",
                        later.value, first.value, first.origin
                    ),
                ));
                if found.len() == MOST_ERRORS {
                    return found;
                }
            }
        }
    }
    found
}

/// sshd hands the score it was started with to every login (OpenSSH, `port-linux.c`): one that
/// PID 1 set would make each login unkillable.
fn score_of_ssh(name: &ServiceName, service: &Service) -> Option<Diagnostic> {
    let is_ssh = ["ssh", "sshd"].contains(&name.stem().split('@').next().unwrap_or_default());
    let set_by_service = service.set_by.as_ref().is_some_and(|set_by| set_by.value == SetBy::Service);
    let score = service.oom_score_adj.as_ref().filter(|_| is_ssh && !set_by_service)?;
    Some(Diagnostic::at(
        &score.origin,
        format!(
            "[service.{}]: sshd gives the score it is started with to every login, and sets its own by itself: add set_by = \"service\"",
            name.stem()
        ),
    ))
}

/// What is to be aged is looked for in the file system, and homes are not all in one place.
fn age_in_homes(variable: &VariableName, dir: &PrivateDir) -> Option<Diagnostic> {
    let max_age = dir.max_age.as_ref().filter(|_| dir.path.value.in_home())?;
    let message = format!(
        "[private_dir.{variable}]: max_age with a path below {{home}} is not possible: remove it, or declare a path such as \"/srv/{}/{{user}}\"",
        variable.as_str().to_lowercase()
    );
    Some(Diagnostic::at(&max_age.origin, message))
}

/// A protection above a ceiling, or a lower ceiling above the upper one.
fn inverted_limits(resources: &Resources) -> Vec<Diagnostic> {
    let ordered: [(&str, &Declared<Memory>); 4] = [
        ("memory_min", &resources.memory_min),
        ("memory_low", &resources.memory_low),
        ("memory_high", &resources.memory_high),
        ("memory_max", &resources.memory_max),
    ];
    let mut found = Vec::new();
    for (index, (lower_key, lower)) in ordered.iter().enumerate() {
        for (upper_key, upper) in ordered.iter().skip(index + 1) {
            // min and low protect in two ways: either may be the larger.
            if let (Some(lower), Some(upper)) = (lower, upper)
                && *upper_key != "memory_low"
                && exceeds(lower.value.0, upper.value.0)
            {
                found.push(Diagnostic::at(
                    &lower.origin,
                    format!(
                        "{lower_key} = {} is above {upper_key} = {} ({})",
                        lower.value, upper.value, upper.origin
                    ),
                ));
            }
        }
    }
    found
}

/// Whether `lower` is above `upper` on every machine.
fn exceeds(lower: Amount, upper: Amount) -> bool {
    match (lower, upper) {
        (Amount::Absolute(lower), Amount::Absolute(upper)) => lower > upper,
        (Amount::Percent(lower), Amount::Percent(upper)) => lower > upper,
        (Amount::Infinity, Amount::Absolute(_) | Amount::Percent(_)) => true,
        _ => false,
    }
}

fn beyond_ram(resources: &Resources, ram: u64) -> Vec<Diagnostic> {
    let amounts = [
        ("memory_min", &resources.memory_min, "protects no more than all of it"),
        ("memory_low", &resources.memory_low, "protects no more than all of it"),
        ("memory_high", &resources.memory_high, "is never reached"),
        ("memory_max", &resources.memory_max, "is never reached"),
    ];
    amounts
        .into_iter()
        .filter_map(|(key, declared, effect)| {
            let declared = declared.as_ref()?;
            let Amount::Absolute(bytes) = declared.value.0 else { return None };
            (bytes > ram).then(|| {
                let mib = ram >> 20;
                let message =
                    format!("{key} = {} is above this machine's {mib}M of RAM and {effect}", declared.value);
                Diagnostic::at(&declared.origin, message).warning()
            })
        })
        .collect()
}
