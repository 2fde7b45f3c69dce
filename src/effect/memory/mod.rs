//! What memory settings come to: how much is protected from reclaim, and which ceiling holds.
#![forbid(unsafe_code)]

mod ceiling;
mod protection;
mod size;

pub use ceiling::{Ceiling, MemoryLimit, bytes_of, ceiling};
pub use protection::{Because, Guard, Outcome, Protection, ProtectionLink, Protections, is_less, protection};
pub use size::{amount, in_unit, size};

#[cfg(test)]
mod fixture {
    use crate::host::tree::{Cgroup, Controllers, MemoryAttributes};

    pub(super) const NONE: MemoryAttributes = MemoryAttributes {
        current: 0,
        min: 0,
        low: 0,
        high: u64::MAX,
        max: u64::MAX,
        swap_current: 0,
        swap_max: Some(u64::MAX),
        oom_group: false,
    };

    pub(super) fn cgroup(memory: MemoryAttributes) -> Cgroup {
        let controllers = Controllers { memory: true, ..Controllers::default() };
        Cgroup { memory: Some(memory), controllers, ..Cgroup::default() }
    }
}
