//! A bounded proof on the machine as it is: loads of our own beside what the policy is about, and what the kernel
//! makes of them.
//!
//! Nothing but processes is started, and scopes that go with them; so nothing is left to clean up. Only one drill is
//! going on at a time, and nothing else of fairslice's changes the machine meanwhile: it holds the lock.
#![forbid(unsafe_code)]

mod cpu;
mod io;
mod kills;
mod loads;
mod memory;
mod own_cpu;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::effect::share::not_computed;
use crate::enforce::lock::Lock;
use crate::host::machine::Machine;
use crate::host::pid1::is_booted;
use crate::host::process::set_own_oom_score_adj;
use crate::host::tree::Tree;
use crate::host::units;
use crate::paths;
use crate::policy::Policy;
use crate::survey::snapshot::{self, Extent, Snapshot};
use crate::units::OomScoreAdj;
use loads::end_with_parent;

pub use cpu::{CpuDrill, drill_cpu};
pub use io::{IoDrill, disk, drill_io};
pub use kills::{KillDrill, drill_kills};
pub use loads::{COMMAND, Work, be};
pub use memory::{Measured, MemoryDrill, drill_memory};

/// In how long a while the loads begin. They are measured from before that on: one that has run longer than the others
/// waits until these have caught up, so nobody is to begin to count in between.
const START: Duration = Duration::from_millis(500);
/// How long they are measured, in which sixteen of them have 80 turns each of 3 ms; and how often as long at most. Where
/// something differs it may be but a moment in which an emulated CPU stood still.
const WINDOW: Duration = Duration::from_secs(4);
const WINDOWS: usize = 2;
/// How long is looked whether somebody would feel it.
const LOOK: Duration = Duration::from_secs(1);
/// So much of the machine's memory a drill uses at most, of what has a limit, in bytes.
const LIMIT: u64 = 64 << 20;
/// So much has to be available: the drill's own is to be none that somebody misses.
const AVAILABLE: u64 = 4 * LIMIT;

/// The right to drill, which a process has that ends with its parent, and that is killed before all others where memory
/// runs out.
#[derive(Debug)]
pub struct Turn {
    _lock: Lock,
}

impl Turn {
    /// Makes this process such a one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin(root: &Path, lock: Lock) -> Result<Self> {
        end_with_parent()?;
        set_own_oom_score_adj(root, OomScoreAdj::MAX)?;
        Ok(Self { _lock: lock })
    }
}

fn can_compare(loads: usize) -> Result<()> {
    if loads < 2 {
        bail!("there is nothing to compare: at least two of the policy's services and logins have to run");
    }
    Ok(())
}

/// Whether so much memory is available that nobody misses a drill's.
fn can_take(available: u64) -> Result<()> {
    if available < AVAILABLE {
        bail!(
            "{} MiB of memory are available, and a drill takes {} MiB only where {} MiB are",
            available >> 20,
            LIMIT >> 20,
            AVAILABLE >> 20
        );
    }
    Ok(())
}

/// The part of the time since `begun` in which tasks waited, by the kernel's counters in µs; `None` where it does not
/// count.
fn waited(before: Option<u64>, after: Option<u64>, begun: Instant) -> Option<f64> {
    let waited = Duration::from_micros(after?.saturating_sub(before?));
    Some(waited.as_secs_f64() / begun.elapsed().as_secs_f64())
}

/// The machine before a drill.
#[derive(Debug)]
pub struct Before<'a> {
    root: &'a Path,
    /// What is declared.
    pub policy: &'a Policy,
    /// What percentages are of.
    pub machine: Machine,
    /// What runs.
    pub live: Snapshot,
}

impl<'a> Before<'a> {
    /// Looks at it.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn read(root: &'a Path, policy: &'a Policy) -> Result<Self> {
        let machine = Machine::read(root)?;
        let mut tree = Tree::read(root).context("looking at the machine")?;
        tree.read_affinity(root);
        let live = snapshot::read(root, tree, policy, Extent::Declared, None)?;
        Ok(Self { root, policy, machine, live })
    }

    /// Whether a drill can be tried here.
    ///
    /// # Errors
    /// It cannot: this is not root, there is no systemd, or what would be predicted would be wrong.
    pub fn check(&self) -> Result<()> {
        if self.root == Path::new(paths::ROOT) && !geteuid().is_root() {
            bail!(
                "only root can have PID 1 start loads in slices: run this as root, or with --dry-run to look"
            );
        }
        if !is_booted(self.root) {
            bail!(
                "PID 1 is not systemd here, and nobody else is to put loads into slices: run this on the host"
            );
        }
        if let Some(why) = not_computed(&self.live.tree) {
            bail!("there is nothing to compare with: shares of the CPUs are not computed: {why}");
        }
        units::manager(self.root).context("asking PID 1 whether it can start loads").map(drop)
    }
}
