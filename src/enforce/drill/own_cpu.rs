//! The CPU that a drill keeps to, so that others have the rest of them.
//!
//! Who wakes up on a CPU where somebody runs is moved to one that is idle (`select_idle_sibling` of the kernel's
//! `kernel/sched/fair.c`). Who runs where several begin that may run nowhere else waits its turn among them until the kernel
//! balances, which can take a tenth of a second. So a drill prepares on the CPU that it will keep busy, its loads one
//! after the other, and has that to itself for a while before they begin together.
#![forbid(unsafe_code)]

use std::hint::spin_loop;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Whoever turns up this often has left the CPU when it is over.
const CLEARED: Duration = Duration::from_millis(100);
/// As the kernel has it.
const THIS: Pid = Pid::from_raw(0);

/// This process, and what it starts, on one CPU until this is dropped.
#[derive(Debug)]
pub(super) struct OwnCpu {
    before: CpuSet,
}

impl OwnCpu {
    /// Goes to one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn take(cpu: u32) -> Result<Self> {
        let before = sched_getaffinity(THIS).context("asking which CPUs this process may use")?;
        let mut set = CpuSet::new();
        set.set(usize::try_from(cpu)?).context("no such CPU")?;
        sched_setaffinity(THIS, &set).with_context(|| format!("staying on CPU {cpu}"))?;
        Ok(Self { before })
    }

    /// Stays where it is: on an idle one, which the kernel has taken for a program that begins.
    ///
    /// # Errors
    /// The kernel does not say where that is, or refuses.
    pub(super) fn here() -> Result<Self> {
        Self::take(u32::try_from(sched_getcpu().context("asking on which CPU this process is")?)?)
    }

    /// Waits so long, and leaves the CPU to those who begin then and to nobody else.
    pub(super) fn hand_over(self, after: Duration) {
        let end = Instant::now() + after;
        sleep(after.saturating_sub(CLEARED));
        while Instant::now() < end {
            spin_loop();
        }
        drop(self);
    }
}

impl Drop for OwnCpu {
    fn drop(&mut self) {
        // Where that fails, what is left to do is done on this one.
        let _ = sched_setaffinity(THIS, &self.before);
    }
}
