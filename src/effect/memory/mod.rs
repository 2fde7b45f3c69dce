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

    pub(super) fn cgroup(memory: MemoryAttributes) -> Cgroup {
        let controllers = Controllers { memory: true, ..Controllers::default() };
        Cgroup { memory: Some(memory), controllers, ..Cgroup::default() }
    }
}
