//! Which services a slice of the policy holds.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::ServiceName;

/// Which services a slice holds: one by name, or all whose names begin with a prefix.
///
/// A prefix ends in a dash because systemd reads drop-ins of `local-.service.d/` for every
/// `local-*.service`, and of no other prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServicePattern {
    /// `nginx`
    Exact(ServiceName),
    /// `local-*`, held as `local-`
    Prefix(String),
}

impl ServicePattern {
    /// # Errors
    /// Says how a pattern is spelled.
    pub fn new(pattern: &str) -> Result<Self, &'static str> {
        let Some(prefix) = pattern.strip_suffix('*') else {
            return ServiceName::new(pattern).map(Self::Exact);
        };
        let valid = prefix.ends_with('-')
            && prefix.len() > 1
            && ServiceName::new(prefix).is_ok_and(|name| name.template().is_none() && !prefix.contains('@'));
        if !valid {
            return Err("an exact name, or a prefix ending in \"-*\"");
        }
        Ok(Self::Prefix(prefix.to_owned()))
    }

    /// Whether the pattern holds `service`.
    #[must_use]
    pub fn matches(&self, service: &ServiceName) -> bool {
        match self {
            Self::Exact(name) => service.is_or_instantiates(name),
            Self::Prefix(prefix) => service.drop_in_units().contains(&format!("{prefix}.service")),
        }
    }

    /// Whether there can be a service that both patterns hold.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(b.as_str()) || b.starts_with(a.as_str()),
            (Self::Exact(name), Self::Exact(other)) => {
                name.is_or_instantiates(other) || other.is_or_instantiates(name)
            }
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.matches(name),
        }
    }

    /// What the names of all these services begin with.
    #[must_use]
    pub fn stem(&self) -> &str {
        match self {
            Self::Exact(name) => name.stem(),
            Self::Prefix(prefix) => prefix,
        }
    }

    /// The unit whose drop-in directory reaches all these services: `local-.service`.
    #[must_use]
    pub fn unit(&self) -> String {
        match self {
            Self::Exact(name) => name.to_string(),
            Self::Prefix(prefix) => format!("{prefix}.service"),
        }
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name.stem()),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn pattern(name: &str) -> ServicePattern {
        ServicePattern::new(name).unwrap()
    }

    #[test]
    fn a_prefix_holds_services_and_instances() {
        for name in ["local-fs", "local-a-b", "local-worker@7"] {
            assert!(pattern("local-*").matches(&service(name)), "{name}");
        }
        for name in ["local", "locale-gen", "x-local-fs", "local@a-b"] {
            assert!(!pattern("local-*").matches(&service(name)), "{name}");
        }
        assert!(pattern("worker@").matches(&service("worker@7")));
        assert!(!pattern("worker@7").matches(&service("worker@8")));
    }

    #[test]
    fn patterns_overlap_when_a_service_can_match_both() {
        for (a, b) in
            [("local-*", "local-db-*"), ("local-*", "local-fs"), ("nginx", "nginx.service"), ("w@", "w@7")]
        {
            assert!(pattern(a).overlaps(&pattern(b)) && pattern(b).overlaps(&pattern(a)), "{a} {b}");
        }
        for (a, b) in [("local-*", "locale-*"), ("local-*", "nginx"), ("w@7", "w@8")] {
            assert!(!pattern(a).overlaps(&pattern(b)), "{a} {b}");
        }
    }

    #[test]
    fn patterns_end_in_a_dash_and_a_star() {
        for wrong in ["*", "-*", "local*", "lo*al-*", "local-?", "", "a.socket"] {
            assert!(ServicePattern::new(wrong).is_err(), "{wrong}");
        }
    }
}
