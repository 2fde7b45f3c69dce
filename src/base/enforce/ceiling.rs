//! Ceilings that would be lowered below what is used.
//!
//! Under a `memory.max` that is lowered below `memory.current` the kernel kills until what is left fits; under a
//! `pids.max` below `pids.current` nothing can be started any more, a shell to look into it included. So such a ceiling
//! waits, until no more is used.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::units::{MEMORY_MAX, Property, SettingValue, TASKS_MAX};

/// The attribute with what is used of a ceiling; `None` where a lower one takes nothing away.
#[must_use]
pub fn usage(property: Property) -> Option<&'static str> {
    if property == MEMORY_MAX {
        Some("memory.current")
    } else if property == TASKS_MAX {
        Some("pids.current")
    } else {
        None
    }
}

/// Whether a declared ceiling waits, where so much is used and the kernel has `live`, the attribute's text.
#[must_use]
pub fn waits(declared: &SettingValue, live: &str, used: u64, machine: Machine) -> bool {
    let declared = machine.number(declared);
    used > declared && cgroup::number(live).is_some_and(|live| live > declared)
}

/// How much is used in a cgroup below `root`, where that makes a declared ceiling wait.
#[must_use]
pub fn used_above(
    root: &Path,
    cgroup: &Path,
    property: Property,
    declared: &SettingValue,
    live: Option<&str>,
    machine: Machine,
) -> Option<u64> {
    let used = cgroup::number(&cgroup::attribute(root, cgroup, usage(property)?)?)?;
    waits(declared, live?, used, machine).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Amount, Memory};

    #[test]
    fn only_what_is_lowered_below_what_is_used_waits() {
        let machine = Machine { ram: 1 << 30, tasks: 100 };
        let declared = SettingValue::Memory(Memory(Amount::Absolute(4096 * 100)));
        for (live, used, expected) in [
            ("max", 4096 * 101, true),
            ("max", 4096 * 100, false),
            ("819200", 4096 * 101, true),
            // It is raised, or as declared.
            ("4096", 4096 * 101, false),
            ("409600", 4096 * 101, false),
            ("garbage", 4096 * 101, false),
        ] {
            assert_eq!(waits(&declared, live, used, machine), expected, "{live} {used}");
        }
        assert_eq!((usage(MEMORY_MAX), usage(TASKS_MAX)), (Some("memory.current"), Some("pids.current")));
        assert_eq!(usage(crate::units::MEMORY_HIGH), None);
    }
}
