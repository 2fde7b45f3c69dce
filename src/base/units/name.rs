//! Names of slices and services, and which drop-ins are for them.
//!
//! The rules are systemd's: `systemd.unit(5)`, `systemd.slice(5)`.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::escape::cgroup_name;
use super::known::section_of;

const SLICE: &str = ".slice";
const SERVICE: &str = ".service";
const SCOPE: &str = ".scope";
/// The unit that PID 1 itself is in: `systemd.special(7)`.
pub const INIT_SCOPE: &str = "init.scope";
/// The kinds of units that have a cgroup: `systemd.resource-control(5)`.
const KINDS: [&str; 6] = [SLICE, SERVICE, SCOPE, ".socket", ".mount", ".swap"];
/// What leaves room for the `.d` of a directory of drop-ins; `UNIT_NAME_MAX` of systemd is 255, as the longest
/// name of a directory.
const LONGEST: usize = 253;
/// What leaves room for a dash, a number and the suffix.
const LONGEST_SCOPE_STEM: usize = LONGEST - 1 - 10 - SCOPE.len();

/// A slice below the root slice, such as `foundry-services.slice`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SliceName(String);

impl SliceName {
    /// # Errors
    /// Says which of systemd's rules for slice names `name` breaks.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let Some(stem) = name.strip_suffix(SLICE) else { return Err("a slice's name ends in \".slice\"") };
        if stem == "-" {
            return Err("the root slice takes no settings");
        }
        if stem.is_empty() || name.len() > LONGEST || !stem.chars().all(is_unit_char) {
            return Err("a slice's name holds letters, digits and \":-_.\\\", 253 bytes at most");
        }
        if stem.split('-').any(str::is_empty) {
            return Err(
                "each dash in a slice's name stands between two names (\"a-b.slice\" is inside \"a.slice\")",
            );
        }
        Ok(Self(name.to_owned()))
    }

    /// `user.slice`, which holds every login.
    #[must_use]
    pub fn user() -> Self {
        Self("user.slice".to_owned())
    }

    /// `system.slice`, which holds every service that nobody has put elsewhere.
    #[must_use]
    pub fn system() -> Self {
        Self("system.slice".to_owned())
    }

    /// `user-1000.slice`, which holds the logins of one user.
    #[must_use]
    pub fn of_user(uid: u32) -> Self {
        Self(format!("user-{uid}.slice"))
    }

    /// The unit's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn stem(&self) -> &str {
        self.0.strip_suffix(SLICE).unwrap_or(&self.0)
    }

    /// The slice this one is in: a dash nests. `None` directly below the root slice.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.stem().rsplit_once('-').map(|(parent, _)| Self(format!("{parent}{SLICE}")))
    }

    /// This slice's cgroup, relative to the root: `foundry.slice/foundry-services.slice`.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        let mut path = self.parent().map_or_else(PathBuf::new, |parent| parent.cgroup());
        path.push(&*cgroup_name(&self.0));
        path
    }

    /// The cgroup of a unit that is directly in this slice.
    #[must_use]
    pub fn cgroup_of(&self, unit: &str) -> PathBuf {
        self.cgroup().join(&*cgroup_name(unit))
    }

    /// The units whose drop-in directories apply to this one, the most specific first:
    /// `user-1000.slice`, `user-.slice`, `slice`.
    #[must_use]
    pub fn drop_in_units(&self) -> Vec<String> {
        let mut units = vec![self.0.clone()];
        let mut prefix = self.stem();
        while let Some((shorter, _)) = prefix.rsplit_once('-') {
            units.push(format!("{shorter}-{SLICE}"));
            prefix = shorter;
        }
        units.push("slice".to_owned());
        units
    }
}

impl fmt::Display for SliceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service unit, such as `local-fs.service`, or a template (`local-worker@.service`), which
/// stands for all its instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceName(String);

impl ServiceName {
    /// Takes `local-fs` and `local-fs.service` alike.
    ///
    /// # Errors
    /// Says what a service's name is made of.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let stem = name.strip_suffix(SERVICE).unwrap_or(name);
        let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
        let instance_char = |c: char| is_unit_char(c) || c == '@';
        if prefix.is_empty()
            || stem.len() + SERVICE.len() > LONGEST
            || !prefix.chars().all(is_unit_char)
            || !instance.chars().all(instance_char)
        {
            return Err("a service's name holds letters, digits and \":-_.\\@\", 253 bytes at most");
        }
        if [".slice", ".scope", ".socket", ".timer", ".target", ".mount", ".path"]
            .iter()
            .any(|s| stem.ends_with(s))
        {
            return Err("only services are held by name");
        }
        Ok(Self(format!("{stem}{SERVICE}")))
    }

    /// The unit's name, with its suffix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit's name without `.service`, as a policy spells it.
    #[must_use]
    pub fn stem(&self) -> &str {
        // "a.service" spells another service than "a.service.service".
        self.0.strip_suffix(SERVICE).filter(|stem| !stem.ends_with(SERVICE)).unwrap_or(&self.0)
    }

    /// For an instance of a template, the template.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        let (prefix, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then(|| Self(format!("{prefix}@{SERVICE}")))
    }

    /// Whether this unit is `other`, or an instance of it.
    #[must_use]
    pub fn is_or_instantiates(&self, other: &Self) -> bool {
        self == other || self.template().as_ref() == Some(other)
    }

    /// The scope into which `fairslice-launch` has this service's process put that has the number
    /// `pid`: `local-fs-1234.scope`. A scope is no instance of anything, and its name holds no `@`.
    #[must_use]
    pub fn scope(&self, pid: u32) -> String {
        format!("{}{pid}{SCOPE}", self.scope_prefix())
    }

    /// Whether a unit of this name is a [`ServiceName::scope`] of this service.
    #[must_use]
    pub fn has_scope(&self, name: &str) -> bool {
        let pid = name.strip_prefix(&self.scope_prefix()).and_then(|rest| rest.strip_suffix(SCOPE));
        pid.is_some_and(|pid| pid.parse().is_ok_and(|number: u32| number.to_string() == pid))
    }

    fn scope_prefix(&self) -> String {
        let stem = self.stem().replace('@', "-");
        format!("{}-", stem.get(..LONGEST_SCOPE_STEM).unwrap_or(&stem))
    }

    /// The units whose drop-in directories apply to this one, the most specific first: where two
    /// hold a file of the same name, the first one's is used. `local-db@7.service`,
    /// `local-db@.service`, `local-.service`, `service`.
    #[must_use]
    pub fn drop_in_units(&self) -> Vec<String> {
        let mut units = vec![self.0.clone()];
        units.extend(self.template().map(|template| template.0));
        let mut prefix = self.stem().split('@').next().unwrap_or_default();
        while let Some((shorter, _)) = prefix.rsplit_once('-') {
            units.push(format!("{shorter}-{SERVICE}"));
            prefix = shorter;
        }
        units.push("service".to_owned());
        units
    }
}

/// A name of a unit that is not its own: `Alias=` of `systemd.unit(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// What it is called as well: `sshd.service`.
    pub name: ServiceName,
    /// What it is called: `ssh.service`.
    pub unit: ServiceName,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The section of a unit's files in which its resources are set: `Slice`, `Service`. `None` for a unit that has none.
#[must_use]
pub fn section(unit: &str) -> Option<&'static str> {
    section_of(unit.rsplit_once('.')?.1)
}

/// Whether a unit that has a cgroup can have this name: `systemd.unit(5)`.
#[must_use]
pub fn is_unit_name(name: &str) -> bool {
    let stem = KINDS.iter().find_map(|kind| name.strip_suffix(kind));
    name.len() <= LONGEST
        && stem.is_some_and(|stem| {
            !stem.is_empty() && !stem.starts_with('@') && stem.chars().all(|c| is_unit_char(c) || c == '@')
        })
}

/// `VALID_CHARS` of systemd's `unit-name.c`, without `@`.
fn is_unit_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || ":-_.\\".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str) -> SliceName {
        SliceName::new(name).unwrap()
    }

    fn service(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    #[test]
    fn a_dash_nests_a_slice() {
        let nested = slice("a-b-c.slice");
        assert_eq!(nested.parent(), Some(slice("a-b.slice")));
        assert_eq!(nested.cgroup(), PathBuf::from("a.slice/a-b.slice/a-b-c.slice"));
        assert_eq!(slice("foundry.slice").parent(), None);
        assert_eq!(
            slice("io-memory.slice").cgroup_of("cpu.service"),
            PathBuf::from("_io.slice/io-memory.slice/_cpu.service")
        );
    }

    #[test]
    fn slice_names_are_systemds() {
        for wrong in [
            "",
            ".slice",
            "-.slice",
            "a",
            "a.service",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "a/b.slice",
            "é.slice",
        ] {
            assert!(SliceName::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn drop_ins_are_looked_up_as_systemd_does() {
        assert_eq!(
            service("local-db-main@7").drop_in_units(),
            [
                "local-db-main@7.service",
                "local-db-main@.service",
                "local-db-.service",
                "local-.service",
                "service"
            ]
        );
        assert_eq!(service("nginx").drop_in_units(), ["nginx.service", "service"]);
        // A dash in the instance is no prefix.
        assert_eq!(service("a@b-c").drop_in_units(), ["a@b-c.service", "a@.service", "service"]);
    }

    #[test]
    fn a_scope_is_named_after_its_service() {
        assert_eq!(service("local-worker@7").scope(1234), "local-worker-7-1234.scope");
        assert_eq!(service(&"a".repeat(245)).scope(u32::MAX).len(), 253);
        assert!(service("local-a").has_scope("local-a-7.scope"));
        for other in
            ["local-a-b-7.scope", "local-a-7.service", "b-7.scope", "local-a-.scope", "local-a.scope"]
        {
            assert!(!service("local-a").has_scope(other), "{other}");
        }
    }
}
