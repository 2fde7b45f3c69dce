//! Where a setting of systemd's belongs that stands in a policy where none is taken.
#![forbid(unsafe_code)]

use crate::units::known::{KNOWN, Known, successor};
use crate::units::{OOM_SCORE_ADJUST, OfService, PROPERTIES, SLICE};

/// What the settings begin with that a policy does not set, and where else than in a drop-in they are set. The first
/// that fits counts.
const ELSEWHERE: [(&str, &str); 7] = [
    ("CPUAccounting", BY_ITSELF),
    ("IOAccounting", BY_ITSELF),
    ("MemoryAccounting", BY_ITSELF),
    ("TasksAccounting", BY_ITSELF),
    (
        "CPUAffinity",
        "allowed_cpus of a service holds for all that it starts; of PID 1, see systemd-system.conf(5)",
    ),
    ("ManagedOOM", "systemd-oomd goes by it: oomd.conf(5) has its defaults"),
    ("Limit", "of the sessions of logins, see limits.conf(5)"),
];
const BY_ITSELF: &str = "systemd turns it on where a limit is set; for all units, see systemd-system.conf(5)";

/// What to do about a key that is a setting of systemd's, however it is spelled (`MemoryZSwapMax`, `memory_zswap_max`),
/// or of the policy's in another table; `None` for any other. `known` are the keys of `place`.
pub(super) fn elsewhere(given: &str, place: &str, known: &[&str]) -> Option<String> {
    let of_all = given.strip_prefix("total_").unwrap_or(given);
    let setting = setting(given).or_else(|| setting(of_all))?;
    let keys: Vec<&'static str> = keys(setting.key).collect();
    let fits = |key: &&&str| known.contains(*key) && (given == of_all || key.starts_with("total_"));
    if let Some(key) = keys.iter().find(fits) {
        return Some(format!("did you mean \"{key}\"?"));
    }
    if let Some(key) = keys.first() {
        return Some(format!("{key} is for {}", takers(setting.key)));
    }
    let key = setting.key;
    let also = ELSEWHERE.iter().find(|(begins, _)| key.starts_with(begins));
    let also = also.map(|(_, also)| format!(" ({also})")).unwrap_or_default();
    Some(format!("a policy does not set {key}=: {}{also}", drop_in(setting, place)))
}

/// The setting of this name, in any spelling, or what has come after it.
fn setting(given: &str) -> Option<&'static Known> {
    let letters = given.replace(['_', '-'], "");
    let named = |name: &str| KNOWN.iter().find(|known| known.key.eq_ignore_ascii_case(name));
    named(&letters).or_else(|| named(successor(&letters)?))
}

/// The policy's keys of a setting.
fn keys(setting: &str) -> impl Iterator<Item = &'static str> {
    let of_resources = PROPERTIES.iter().filter(move |property| property.unit == setting);
    let others = match setting {
        OOM_SCORE_ADJUST => Some("oom_score_adj"),
        SLICE => Some("match"),
        "CPUWeight" => Some("total_weight"),
        _ => OfService::by_unit(setting).map(|of_service| of_service.key),
    };
    of_resources.flat_map(|property| [Some(property.key), property.total]).chain([others]).flatten()
}

/// The tables that take a policy's key of a setting.
fn takers(setting: &str) -> String {
    let property = PROPERTIES.iter().find(|property| property.unit == setting);
    match (setting, property) {
        (SLICE, _) => "the slice that holds the service".to_owned(),
        (OOM_SCORE_ADJUST, _) => "services and logins".to_owned(),
        (_, Some(property)) if property.of_logins => "slices, services and logins".to_owned(),
        (_, Some(property)) => match property.total {
            Some(total) => format!("slices and services; for all logins together, there is {total}"),
            None => "slices and services".to_owned(),
        },
        _ => "services".to_owned(),
    }
}

/// Where the unit that a table is about has a setting of its own.
fn drop_in(setting: &Known, place: &str) -> String {
    let edit = |unit: &str| format!("set it in a drop-in, \"systemctl edit {unit}\"");
    let name =
        |begins: &str| Some(place.strip_prefix(begins)?.trim_end_matches(']').trim_matches('"').to_owned());
    if let Some(service) = name("[service.") {
        let service = service.trim_end_matches(".service");
        return edit(&format!("{service}.service"));
    }
    let is_foreign = setting.is_foreign("slice");
    match name("[slice.") {
        Some(_) if is_foreign => {
            "no slice has it: set it for each service, \"systemctl edit SERVICE\"".to_owned()
        }
        Some(slice) => edit(&slice),
        None if place.starts_with("[logins") && is_foreign => "no slice of a user's has it".to_owned(),
        None if place.starts_with("[logins") => {
            "set it in /etc/systemd/system/user-.slice.d/NAME.conf, or user.slice.d for all together"
                .to_owned()
        }
        None => edit("UNIT"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICES: [&str; 3] = ["cpu_weight", "cpu_quota", "memory_min"];
    const LOGINS: [&str; 3] = ["total_weight", "cpu_weight", "total_memory_min"];

    #[test]
    fn every_setting_has_a_place() {
        for (given, place, known, said) in [
            ("CPUWeight", "[slice.\"a.slice\"]", &SLICES, "did you mean \"cpu_weight\"?"),
            ("MemoryLimit", "[service.a]", &SLICES, "memory_max is for slices, services and logins"),
            ("total_cpu_weight", "[logins]", &LOGINS, "did you mean \"total_weight\"?"),
            ("MemoryMin", "[logins]", &LOGINS, "did you mean \"total_memory_min\"?"),
            ("nice", "[slice.\"a.slice\"]", &SLICES, "nice is for services"),
            ("Slice", "[service.a]", &SLICES, "match is for the slice that holds the service"),
            (
                "device_allow",
                "[slice.\"a.slice\"]",
                &SLICES,
                "a policy does not set DeviceAllow=: set it in a drop-in, \"systemctl edit a.slice\"",
            ),
            (
                "LimitNOFILE",
                "[logins]",
                &LOGINS,
                "a policy does not set LimitNOFILE=: no slice of a user's has it (of the sessions of logins, see limits.conf(5))",
            ),
        ] {
            assert_eq!(elsewhere(given, place, known).as_deref(), Some(said), "{given}");
        }
        assert_eq!(elsewhere("colour", "[logins]", &LOGINS), None);
        for known in KNOWN {
            assert!(elsewhere(known.key, "[service.a]", &SLICES).is_some(), "{}", known.key);
        }
    }
}
