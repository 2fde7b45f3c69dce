//! What is wrong with a policy beyond its spelling: contradictions, and values that come to
//! nothing on a machine.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::diagnostic::{Diagnostic, MOST_ERRORS};
use super::toml::key;
use super::{
    Declared, LoginRule, Logins, Origin, Policy, PrivateDir, Resources, RuleOf, Service, SetBy, Slice,
    Sourced, VariableName,
};
use crate::text::shown;
use crate::units::{
    Amount, MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, Memory, Property, ServiceName, SliceName,
    TASKS_MAX,
};

/// What cannot hold at once. These are errors: the file that brings them is left out.
pub(super) fn contradictions(policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, slice) in &policy.slices {
        found.extend(reserved_slice(name, slice));
        found.extend(inverted_limits(&slice.resources, false));
    }
    found.extend(floors_above_all(policy));
    found.extend(shared_services(policy));
    for (name, service) in &policy.services {
        found.extend(score_of_ssh(name, service));
        found.extend(inverted_limits(&service.resources, false));
    }
    let rules = policy.logins.users.iter().chain(&policy.logins.groups).map(|(_, rule)| rule);
    for rule in rules.chain([&policy.logins.default]) {
        found.extend(inverted_limits(&rule.resources, false));
    }
    found.extend(two_weights(&policy.logins));
    found.extend(inverted_limits(&policy.logins.total, true));
    found.extend(promised_twice(policy));
    found.extend(policy.private_dirs.iter().filter_map(|(variable, dir)| age(variable, dir)));
    found.extend(policy.private_dirs.values().filter_map(inverted_numbers));
    found
}

/// A group's members weigh something each, or something together.
fn two_weights(logins: &Logins) -> Vec<Diagnostic> {
    let two = |(name, rule): &(String, LoginRule)| {
        let (own, together) = (rule.resources.cpu_weight.as_ref()?, logins.budgets.get(name)?);
        let message = format!(
            "[logins.group.{}]: cpu_weight ({}) is each member's, total_weight is of all of them together: declare one",
            key(name),
            own.origin
        );
        Some(Diagnostic::at(&together.origin, message))
    };
    logins.groups.iter().filter_map(two).collect()
}

/// The weights and limits of each table, and whether they are those of all logins together.
pub fn tables(policy: &Policy) -> impl Iterator<Item = (&Resources, bool)> {
    policy.resources().map(|resources| (resources, std::ptr::eq(resources, &raw const policy.logins.total)))
}

/// What a property is called in a table.
#[must_use]
pub fn key_of(property: Property, of_all: bool) -> &'static str {
    property.total.filter(|_| of_all).unwrap_or(property.key)
}

/// What is promised to the logins and to the slices beside them, where that is more than there is on any machine.
fn promised_twice(policy: &Policy) -> Option<Diagnostic> {
    let total = policy.logins.total.memory_min.as_ref()?;
    let part = |memory: &Sourced<Memory>| match memory.value.0 {
        Amount::Percent(part) => Some(part.permyriad()),
        _ => None,
    };
    let of_slice = |name: &SliceName| policy.slices.get(name)?.resources.memory_min.as_ref();
    let outermost = policy.slices.keys().filter(|name| {
        !std::iter::successors(name.parent(), SliceName::parent).any(|outer| of_slice(&outer).is_some())
    });
    let slices: u64 = outermost.filter_map(|name| part(of_slice(name)?)).sum();
    let sum = part(total)? + slices;
    let message = format!(
        "total_memory_min = {}: with the memory_min of the slices, {}.{:02}% of RAM are promised",
        total.value,
        sum / 100,
        sum % 100
    );
    (sum > 10_000).then(|| Diagnostic::at(&total.origin, message))
}

/// A range of users that is none.
fn inverted_numbers(dir: &PrivateDir) -> Option<Diagnostic> {
    let max_uid = dir.max_uid.as_ref()?;
    let lowest = dir.min_uid.as_ref().map_or(PrivateDir::MIN_UID, |min_uid| min_uid.value);
    let message =
        format!("max_uid = {} is below min_uid = {lowest}: nobody has the directory", max_uid.value);
    (max_uid.value < lowest).then(|| Diagnostic::at(&max_uid.origin, message))
}

/// What is right, but comes to nothing on a machine with `ram` bytes of memory (of the container's
/// limit inside one) and these groups and users. These are warnings: the files hold.
///
/// `group` and `user` say what the group or user of a name is called here, if there is one.
#[must_use]
pub fn review(
    policy: &Policy,
    ram: u64,
    group: fn(&str) -> Option<String>,
    user: fn(&str) -> Option<String>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let logins = &policy.logins;
    let named = || logins.users.iter().chain(&logins.groups).map(|(_, rule)| &rule.resources);
    for (resources, of_all) in tables(policy) {
        found.extend(beyond_ram(resources, ram, of_all));
    }
    found.extend(named().flat_map(|resources| no_room(resources, ram, false, "those whom this rule is for")));
    let rest = "all for whom no rule says more, root included,";
    found.extend(no_room(&logins.default.resources, ram, false, rest));
    found.extend(no_room(&logins.total, ram, true, "everybody, root included,"));
    for resources in named().chain([&logins.default.resources]) {
        found.extend(above_all_logins(resources, &logins.total, ram));
    }
    found.extend(about_rules("group", logins, &logins.groups, group));
    found.extend(about_rules("user", logins, &logins.users, user));
    for (variable, dir) in &policy.private_dirs {
        let groups = dir.groups.iter().map(|name| ("group", name, group(&name.value)));
        let users = dir.users.iter().map(|name| ("user", name, user(&name.value)));
        for (kind, name, called) in groups.chain(users) {
            let message = match called {
                None => format!("[private_dir.{variable}]: there is no {kind} \"{}\"", shown(&name.value)),
                Some(called) if called != name.value => format!(
                    "[private_dir.{variable}]: the {kind} \"{}\" is called \"{}\" here: write that",
                    shown(&name.value),
                    shown(&called)
                ),
                Some(_) => continue,
            };
            found.push(Diagnostic::at(&name.origin, message).warning());
        }
    }
    found
}

/// Rules of nobody, and rules by a name that is another here: they hold by number, where NSS says so in time.
fn about_rules(
    kind: &str,
    logins: &Logins,
    rules: &[(String, LoginRule)],
    called: fn(&str) -> Option<String>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let called = rules.iter().map(|(name, _)| called(name)).collect::<Vec<_>>();
    // The rule that holds is the one with the name, else the first.
    let mut holding: BTreeMap<&str, &String> = BTreeMap::new();
    for ((name, _), called) in rules.iter().zip(&called) {
        if let Some(called) = called {
            let first = holding.entry(called).or_insert(name);
            *first = if name == called { name } else { first };
        }
    }
    let of =
        |name: &str| logins.origin(if kind == "group" { RuleOf::Group(name) } else { RuleOf::User(name) });
    for ((name, _), called) in rules.iter().zip(&called) {
        let place = |name: &String| format!("[logins.{kind}.{}]", key(name));
        let Some(called) = called else {
            let remedy = match kind {
                "group" if can_be_added(name) => format!(": \"groupadd {name}\", or remove the rule"),
                "group" => ": correct the name, or remove the rule".to_owned(),
                _ => String::new(),
            };
            found.extend(about_rule(of(name), format!("{}: there is no such {kind}{remedy}", place(name))));
            continue;
        };
        let other = holding.get(called.as_str()).filter(|other| **other != name);
        let message = match other {
            Some(other) => {
                format!("{}: this {kind} has a rule already, which holds: {}", place(name), place(other))
            }
            None if name != called => {
                format!("{}: this {kind} is called \"{called}\" here: write {}", place(name), place(called))
            }
            None => continue,
        };
        found.extend(about_rule(of(name), message));
    }
    found
}

/// Whether `groupadd(8)` takes the name on every system: what a directory service has may be called otherwise.
fn can_be_added(group: &str) -> bool {
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    let goes_on = |c: char| begins(c) || c.is_ascii_digit() || c == '-';
    group.len() <= 32 && group.starts_with(begins) && group.chars().all(goes_on)
}

/// A warning at the first value of a rule; a rule without one has no effect to warn of.
fn about_rule(origin: Option<&Origin>, message: String) -> Option<Diagnostic> {
    Some(Diagnostic::at(origin?, message).warning())
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
    let launcher = slice.launcher.as_ref().map(|launcher| &launcher.origin);
    patterns
        .chain(floor)
        .chain(launcher)
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

/// What holds, and has a price that whoever reads the policy should know.
#[must_use]
pub fn note(policy: &Policy, group_exists: fn(&str) -> bool) -> Option<String> {
    let trusted = policy.private_dirs.values().flat_map(|dir| &dir.trusted_groups);
    // Once for each group.
    let mut groups: Vec<&Sourced<String>> = Vec::new();
    for group in trusted.filter(|group| group_exists(&group.value)) {
        if !groups.iter().any(|known| known.value == group.value) {
            groups.push(group);
        }
    }
    let at = &groups.first()?.origin;
    let names = groups.iter().map(|group| group.value.as_str()).collect::<Vec<_>>().join(", ");
    Some(format!(
        "note: members of {names} can put another directory in the place of a private one (trusted_groups, {at})"
    ))
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

/// Whose directories can be aged: cargo makes anew whatever is missing as a whole.
const AGED: [&str; 2] = ["CARGO_TARGET_DIR", "CARGO_BUILD_BUILD_DIR"];

fn age(variable: &VariableName, dir: &PrivateDir) -> Option<Diagnostic> {
    let max_age = dir.max_age.as_ref()?;
    if !AGED.contains(&variable.as_str()) {
        let message = format!(
            "[private_dir.{variable}]: max_age is for CARGO_TARGET_DIR and CARGO_BUILD_BUILD_DIR, of which cargo makes anew what is removed: remove it, and see Ageing in fairslice-policy(5) for others"
        );
        return Some(Diagnostic::at(&max_age.origin, message));
    }
    // What is to be aged is looked for in the file system, and homes are not all in one place.
    if !dir.path.value.in_home() {
        return None;
    }
    let message = format!(
        "[private_dir.{variable}]: max_age with a path below {{home}} is not possible: remove it, or declare a path such as \"/srv/{}/{{user}}\"",
        variable.as_str().to_lowercase()
    );
    Some(Diagnostic::at(&max_age.origin, message))
}

/// Ceilings of one user that all users together reach first.
fn above_all_logins(resources: &Resources, total: &Resources, ram: u64) -> Option<Diagnostic> {
    let all = total.memory_max.as_ref().or(total.memory_high.as_ref())?;
    let own = resources.memory_max.as_ref().or(resources.memory_high.as_ref())?;
    let message =
        format!("{} is never reached: all logins together have {} ({})", own.value, all.value, all.origin);
    let is_above = own.value.0.on(ram).is_some_and(|own| all.value.0.on(ram).is_some_and(|all| own > all));
    is_above.then(|| Diagnostic::at(&own.origin, message).warning())
}

/// A protection above a ceiling, or a lower ceiling above the upper one.
fn inverted_limits(resources: &Resources, of_all: bool) -> Vec<Diagnostic> {
    let ordered: [(&str, &Declared<Memory>); 4] = [
        (key_of(MEMORY_MIN, of_all), &resources.memory_min),
        (key_of(MEMORY_LOW, of_all), &resources.memory_low),
        (key_of(MEMORY_HIGH, of_all), &resources.memory_high),
        (key_of(MEMORY_MAX, of_all), &resources.memory_max),
    ];
    let mut found = Vec::new();
    for (index, (lower_key, lower)) in ordered.iter().enumerate() {
        for (upper_key, upper) in ordered.iter().skip(index + 1) {
            let (Some(lower), Some(upper)) = (lower, upper) else { continue };
            // min and low protect in two ways: either may be the larger.
            if *upper_key != key_of(MEMORY_LOW, of_all) && exceeds(lower.value.0, upper.value.0) {
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

/// What the user's slice took at most while one `ssh` ran a command, measured with systemd 257 on Debian: with 4M,
/// which is enough for 252, the kernel killed `systemd --user`, with 1M sshd.
const LOGIN_MEMORY: u64 = 6 << 20;
/// Likewise, with both: two of sshd's, two of `systemd --user`, a shell, and what that runs. With 5 the shell could
/// start nothing, with 4 sshd no shell.
const LOGIN_TASKS: u64 = 6;

/// Limits under which nobody can log in: the user's slice holds all of a login.
fn no_room(resources: &Resources, ram: u64, of_all: bool, for_whom: &str) -> Vec<Diagnostic> {
    let memory = resources.memory_max.as_ref();
    let memory =
        memory.filter(|max| max.value.0.on(ram).is_some_and(|bytes| bytes < LOGIN_MEMORY)).map(|max| {
            let key = key_of(MEMORY_MAX, of_all);
            (&max.origin, format!("{key} = {}: a login takes {}M", max.value, LOGIN_MEMORY >> 20))
        });
    let tasks = resources.tasks_max.as_ref();
    let tasks = tasks
        .filter(|max| matches!(max.value.0, Amount::Absolute(tasks) if tasks < LOGIN_TASKS))
        .map(|max| {
            let key = key_of(TASKS_MAX, of_all);
            (&max.origin, format!("{key} = {}: a login takes {LOGIN_TASKS} tasks", max.value))
        });
    let warning = |(origin, what)| {
        let message =
            format!("{what} (sshd, systemd --user, a shell): {for_whom} cannot log in, or not wholly");
        Diagnostic::at(origin, message).warning()
    };
    memory.into_iter().chain(tasks).map(warning).collect()
}

fn beyond_ram(resources: &Resources, ram: u64, of_all: bool) -> Vec<Diagnostic> {
    let amounts = [
        (key_of(MEMORY_MIN, of_all), &resources.memory_min, "protects no more than all of it"),
        (key_of(MEMORY_LOW, of_all), &resources.memory_low, "protects no more than all of it"),
        (key_of(MEMORY_HIGH, of_all), &resources.memory_high, "is never reached"),
        (key_of(MEMORY_MAX, of_all), &resources.memory_max, "is never reached"),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `alice` is called so by a directory service that knows her as `CORP\alice` too; `toor` is root.
    #[test]
    fn rules_by_another_name_are_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rule = |name: &str| format!("[logins.user.{}]\ncpu_weight = 1\n", key(&name));
        let said = |names: &[&str]| {
            std::fs::write(file.path(), names.iter().map(|name| rule(name)).collect::<String>()).unwrap();
            let policy = crate::policy::load_files(&[file.path().to_owned()]).policy;
            let called = |name: &str| match name {
                "nobody-here" => None,
                "toor" => Some("root".to_owned()),
                name => Some(name.trim_start_matches("CORP\\").to_owned()),
            };
            let found = review(&policy, 1 << 30, |_| None, called);
            found.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>()
        };
        assert_eq!(said(&["alice", "bob"]), [""; 0]);
        let other = r#"[logins.user."CORP\\alice"]: this user "#;
        assert_eq!(
            said(&[r"CORP\alice"]),
            [format!("{other}is called \"alice\" here: write [logins.user.alice]")]
        );
        assert_eq!(
            said(&[r"CORP\alice", "alice"]),
            [format!("{other}has a rule already, which holds: [logins.user.alice]")]
        );
        assert_eq!(said(&["toor", "nobody-here"]).len(), 2);
    }
}
