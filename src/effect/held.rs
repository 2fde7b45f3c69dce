//! What a process is due, and which limits hold it, from the way to its cgroup alone.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::equals;
use super::share::{Busy, NotComputed, not_computed, shares};
use crate::host::counts::{Counts, CpuCount, MemoryCount};
use crate::host::machine::Machine;
use crate::host::tree::{CpuMax, Each, Id, Tree};
use crate::units::of_service::ALLOWED_CPUS;
use crate::units::{
    CPU_QUOTA, MEMORY_HIGH, MEMORY_MAX, MEMORY_SWAP_MAX, Memory, SettingValue, TASKS_MAX, Tasks,
};

/// What a cgroup is due of the CPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuDue {
    /// The cgroup, or the nearest one above that has a weight.
    pub of: Id,
    /// The weights from there upwards.
    pub levels: Vec<Competition>,
    /// The part of the machine's CPU time while all beside these are busy on every CPU, 0 to 1, or why it is not known.
    pub share: Result<f64, NotComputed>,
}

/// A weight among those of its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Competition {
    /// Whose.
    pub id: Id,
    /// In which cgroup.
    pub parent: Id,
    /// 0 for an idle one.
    pub weight: u64,
    /// Of it and all siblings in which something runs.
    pub sum: u64,
}

/// Which attribute limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitKind {
    /// `cpu.max`
    Cpu(CpuMax),
    /// `cpuset.cpus`
    Cpuset,
    /// `memory.high`
    High,
    /// `memory.max`
    Max,
    /// `memory.swap.max`
    Swap,
    /// `pids.max`
    Tasks,
}

impl LimitKind {
    /// The cgroup's attribute, and the setting of a unit.
    fn names(self) -> (&'static str, &'static str) {
        let property = match self {
            Self::Cpuset => return (ALLOWED_CPUS.attribute, ALLOWED_CPUS.unit),
            Self::Cpu(_) => CPU_QUOTA,
            Self::High => MEMORY_HIGH,
            Self::Max => MEMORY_MAX,
            Self::Swap => MEMORY_SWAP_MAX,
            Self::Tasks => TASKS_MAX,
        };
        (property.attribute, property.unit)
    }

    /// The cgroup's attribute.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        self.names().0
    }

    /// The setting of a unit.
    #[must_use]
    pub fn setting(self) -> &'static str {
        self.names().1
    }
}

impl Holding {
    /// Whether that is what a unit's setting of this value comes to: PID 1 may not have read the file yet, or somebody
    /// may have written another value to the cgroup. What is not compared is.
    #[must_use]
    pub fn is_by(&self, value: &str, machine: Machine) -> bool {
        let declared = match self.kind {
            LimitKind::Cpu(max) => {
                let percent = value.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok());
                // Of either there are no more than fit.
                #[allow(clippy::cast_precision_loss, reason = "compared to a tenth")]
                let is = max.quota as f64 * 100.0 / max.period as f64;
                return percent.is_none_or(|percent| (is - percent).abs() < 0.1);
            }
            LimitKind::Cpuset => return true,
            LimitKind::High | LimitKind::Max | LimitKind::Swap => {
                Memory::parse(value).map(SettingValue::Memory)
            }
            LimitKind::Tasks => Tasks::parse(value).map(SettingValue::Tasks),
        };
        declared.is_none_or(|declared| equals(&declared, self.limit, machine))
    }
}

/// A limit that holds: the tightest of its kind on the way, or one that has been met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Of which kind.
    pub kind: LimitKind,
    /// Whose limit it is.
    pub of: Id,
    /// Bytes, tasks or CPUs; of `cpu.max`, µs in a period.
    pub limit: u64,
    /// What that cgroup uses of it now; `None` where that says nothing.
    pub used: Option<u64>,
    /// Whether no other of its kind on the way is tighter.
    pub is_tightest: bool,
    /// How often it was met: periods in which all stood still, slow-downs, times out of memory, refused forks.
    pub times: u64,
    /// How many periods there were, of `cpu.max`.
    pub periods: Option<u64>,
    /// For how long in µs: that all stood still for it, or that tasks waited for memory.
    pub waited: Option<u64>,
}

/// Processes that were killed for want of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killed {
    /// How many.
    pub count: u64,
    /// Whose `memory.max` was met, on the way.
    pub at: Vec<Id>,
    /// Whether it also was that of a cgroup that is inside.
    pub inside: bool,
    /// Whose processes are killed all together: `memory.oom.group`.
    pub together: Option<Id>,
}

/// What a cgroup is due on a machine with so many CPUs, in a tree that has the way to it.
#[must_use]
pub fn due(tree: &Tree, cpus: u32, id: Id) -> CpuDue {
    let has_weight = |id: &Id| tree[*id].cpu.is_some() && *id != Tree::ROOT;
    let of = tree.upwards(id).find(has_weight).unwrap_or(Tree::ROOT);
    let levels = levels(tree, of, |id| Some(tree[id].cpu?.weight));
    let parents = tree.upwards(of).filter_map(|id| tree[id].parent.map(|parent| (id, parent)));
    let busy: BTreeSet<Id> = parents.flat_map(|(id, parent)| beside(tree, id, parent)).chain([of]).collect();
    let share = match not_computed(tree) {
        None => Ok(shares(tree, cpus, &Busy::Only(busy)).of(of)),
        Some(why) => Err(why),
    };
    CpuDue { of, levels, share }
}

/// The weights from a cgroup upwards, of whatever resource.
#[must_use]
pub fn levels(tree: &Tree, id: Id, weight: impl Fn(Id) -> Option<u64>) -> Vec<Competition> {
    let level = |id: Id| {
        let (parent, own) = tree[id].parent.zip(weight(id))?;
        let others: u64 = beside(tree, id, parent).filter_map(&weight).sum();
        Some(Competition { id, parent, weight: own, sum: own.saturating_add(others) })
    };
    tree.upwards(id).filter_map(level).collect()
}

/// The others in its parent in which something runs.
fn beside(tree: &Tree, id: Id, parent: Id) -> impl Iterator<Item = Id> {
    tree[parent].children.iter().copied().filter(move |other| *other != id && tree[*other].populated)
}

/// The limits that hold what is in a cgroup, in the order of their kinds, the innermost first.
#[must_use]
pub fn holding(tree: &Tree, counts: &Each<Counts>, id: Id) -> Vec<Holding> {
    let of = |kind: &dyn Fn(Id, &Counts) -> Option<Holding>| -> Vec<Holding> {
        tree.upwards(id).filter_map(|id| kind(id, counts.get(id)?)).collect()
    };
    let room = |holding: &Holding| holding.limit.saturating_sub(holding.used.unwrap_or(0));
    let mut all = by_tightness(of(&|id, counts| quota(tree, id, counts)), |one| match one.kind {
        LimitKind::Cpu(max) => u128::from(max.quota) * 1_000_000 / u128::from(max.period),
        _ => u128::MAX,
    });
    all.extend(cpuset(tree, counts, id));
    all.extend(by_tightness(of(&|id, counts| memory(tree, id, counts, LimitKind::High)), |one| {
        one.limit.into()
    }));
    all.extend(by_tightness(of(&|id, counts| memory(tree, id, counts, LimitKind::Max)), |one| {
        one.limit.into()
    }));
    all.extend(by_tightness(of(&|id, counts| memory(tree, id, counts, LimitKind::Swap)), |one| {
        one.limit.into()
    }));
    let mut tasks = by_tightness(of(&tasks), |one| room(one).into());
    if let Some(tightest) = tasks.iter_mut().find(|one| one.is_tightest) {
        tightest.times += refused_for_others(tree, counts, id, tightest.of);
    }
    all.extend(tasks);
    all
}

/// How many processes of a cgroup were killed for want of memory, and why; `None` where it does not count.
#[must_use]
pub fn killed(tree: &Tree, counts: &Each<Counts>, id: Id) -> Option<Killed> {
    let own = counts.get(id)?.memory?;
    let is_met = |id: &Id| counts.get(*id).and_then(|counts| counts.memory).is_some_and(|met| met.oom > 0);
    let goes_together = |id: &Id| tree[*id].memory.is_some_and(|memory| memory.oom_group);
    Some(Killed {
        count: own.killed,
        at: tree.upwards(id).filter(is_met).collect(),
        inside: own.oom_below > own.oom,
        together: tree.upwards(id).filter(goes_together).last(),
    })
}

/// The tightest, of several the innermost, and those that have been met.
fn by_tightness(mut all: Vec<Holding>, tightness: impl Fn(&Holding) -> u128) -> Vec<Holding> {
    let least = all.iter().map(&tightness).min();
    if let Some(first) = all.iter_mut().find(|one| Some(tightness(one)) == least) {
        first.is_tightest = true;
    }
    all.retain(|one| one.is_tightest || one.times > 0);
    all.sort_by_key(|one| Reverse(one.is_tightest));
    all
}

fn quota(tree: &Tree, id: Id, counts: &Counts) -> Option<Holding> {
    let max = tree[id].cpu?.max?;
    let CpuCount { periods, throttled, throttled_time, .. } = counts.cpu.unwrap_or_default();
    Some(Holding {
        kind: LimitKind::Cpu(max),
        of: id,
        limit: max.quota,
        used: None,
        is_tightest: false,
        times: throttled,
        periods: Some(periods),
        waited: Some(throttled_time),
    })
}

/// The CPUs that all on the way leave; whose setting that is, is the innermost that asks for some.
fn cpuset(tree: &Tree, counts: &Each<Counts>, id: Id) -> Option<Holding> {
    let (nearest, cpus) = tree.upwards(id).find_map(|id| Some((id, tree[id].cpus.as_ref()?)))?;
    if tree.online.as_ref()?.is_within(cpus) {
        return None;
    }
    let asks = |id: &Id| {
        counts.get(*id).and_then(|counts| counts.cpuset.as_ref()).is_some_and(|set| !set.is_empty())
    };
    let of = tree.upwards(nearest).find(asks).unwrap_or(nearest);
    let limit = cpus.count().into();
    Some(Holding {
        kind: LimitKind::Cpuset,
        of,
        limit,
        used: None,
        is_tightest: true,
        times: 0,
        periods: None,
        waited: None,
    })
}

fn memory(tree: &Tree, id: Id, counts: &Counts, kind: LimitKind) -> Option<Holding> {
    let memory = tree[id].memory?;
    let MemoryCount { high, oom, waited, .. } = counts.memory.unwrap_or_default();
    let (limit, used, times, waited) = match kind {
        LimitKind::High => (memory.high, memory.current, high, waited),
        LimitKind::Max => (memory.max, memory.current, oom, waited),
        _ => (memory.swap_limit(), memory.swap_current, 0, None),
    };
    (limit != u64::MAX).then_some(Holding {
        kind,
        of: id,
        limit,
        used: Some(used),
        is_tightest: false,
        times,
        periods: None,
        waited,
    })
}

fn tasks(id: Id, counts: &Counts) -> Option<Holding> {
    let tasks = counts.tasks.filter(|tasks| tasks.max != u64::MAX)?;
    Some(Holding {
        kind: LimitKind::Tasks,
        of: id,
        limit: tasks.max,
        used: Some(tasks.current),
        is_tightest: false,
        times: tasks.refused,
        periods: None,
        waited: None,
    })
}

/// Where a kernel counts refused forks where they were tried, those below the limit that was in the way.
fn refused_for_others(tree: &Tree, counts: &Each<Counts>, id: Id, holder: Id) -> u64 {
    let below = tree.upwards(id).take_while(|id| *id != holder);
    let tasks =
        below.filter_map(|id| counts.get(id)?.tasks).filter(|tasks| !tasks.own && tasks.max == u64::MAX);
    tasks.map(|tasks| tasks.refused).sum()
}
