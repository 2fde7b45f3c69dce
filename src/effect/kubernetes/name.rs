//! What services are called in Kubernetes: labels of RFC 1123.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::units::ServiceName;

/// The longest label.
const LONGEST: usize = 63;
/// What leaves room for a dash and a number.
const LONGEST_STEM: usize = LONGEST - 8;

/// A name for each service, no two the same: its own, as far as a label can be it.
pub(super) fn names<'a>(
    services: impl IntoIterator<Item = &'a ServiceName>,
) -> BTreeMap<&'a ServiceName, String> {
    let (exact, others): (Vec<_>, Vec<_>) =
        services.into_iter().partition(|service| label(service) == service.stem());
    let mut taken = BTreeSet::new();
    let mut names = BTreeMap::new();
    // Who can keep its name does, whatever another one's comes to.
    for service in exact.into_iter().chain(others) {
        let label = label(service);
        let numbered = (2..).map(|number: u32| format!("{label}-{number}"));
        let free = [label.clone()].into_iter().chain(numbered).find(|name| !taken.contains(name));
        let name = free.unwrap_or(label);
        taken.insert(name.clone());
        names.insert(service, name);
    }
    names
}

/// Small letters, digits and dashes, with a letter or a digit at both ends.
fn label(service: &ServiceName) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = service.stem().chars().map(plain).collect();
    let text = text.trim_matches('-');
    let longest = if text.len() > LONGEST { LONGEST_STEM } else { LONGEST };
    let label = text.get(..longest).unwrap_or(text).trim_end_matches('-');
    if label.is_empty() { "service".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_no_two_are_the_same() {
        let long = "a".repeat(200);
        let other = format!("{}b", "a".repeat(150));
        let services =
            ["local-fs", "Local_FS", "local-worker@", "local-fs-2", "--", "_", "w@a.b", &long, &other];
        let services: Vec<ServiceName> =
            services.iter().map(|name| ServiceName::new(name).unwrap()).collect();
        let names = names(&services);
        let of = |at: usize| names[&services[at]].as_str();
        assert_eq!(of(0), "local-fs");
        assert_eq!(of(1), "local-fs-3", "another service is called local-fs-2");
        assert_eq!(of(2), "local-worker");
        assert_eq!(of(3), "local-fs-2");
        assert_eq!(
            [of(4), of(5)].into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from(["service", "service-2"])
        );
        assert_eq!(of(6), "w-a-b");
        assert_eq!(names.values().collect::<BTreeSet<_>>().len(), services.len());
        for name in names.values() {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.len() <= 63 && name.bytes().all(is_plain), "{name}");
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
    }
}
