//! A load for each service and login in a model of their cgroups, in which each fills the page cache.
//!
//! The model is below a scope with a limit, and what is reclaimed is what the loads have read: nobody else's memory is
//! touched. They read holes of a file without a name, so no disk is read or written either.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::loads::{FILES, Loads, Place, Work, scope_name};
use super::own_cpu::OwnCpu;
use super::{Before, LIMIT, LOOK, Turn, can_take, waited};
use crate::bounded::read_opened;
use crate::effect::ancestors;
use crate::effect::drill::look::is_not_short;
use crate::effect::drill::memory::{Fill, Limited, Plan, Protected, SIZE, plan};
use crate::effect::drill::rows::Row;
use crate::host::cgroup;
use crate::host::cgroup_directory::open_cgroup;
use crate::host::oom;
use crate::host::pressure::Pressure;
use crate::host::units::Units;
use crate::text::shown;
use crate::units::{
    MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, MEMORY_SWAP_MAX, OomScoreAdj, SliceName,
};

/// The root of the model, in the drill's scope: the limits of the scope itself are PID 1's.
const MODEL: &str = "model";
/// So much is reclaimed at once: what is asked for is taken from one cgroup where another could have given it.
const STEP: u64 = 256 << 10;

/// One row, and what its parts are of.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// As parts of what all loads have read.
    pub row: Row,
    /// What that was, in bytes of the machine.
    pub whole: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct MemoryDrill {
    /// What was started.
    pub plan: Plan,
    /// What was left to each load and slice once all that is not protected was reclaimed; empty where nothing is.
    pub protected: Vec<Measured>,
    /// What each cgroup got that has a ceiling.
    pub limited: Vec<Measured>,
    /// Whether a `memory.low` is in force that in need of the whole machine only delays reclaim.
    pub delays_low: bool,
    /// How long it took; `None` where nothing was started.
    pub ran: Option<Duration>,
}

impl MemoryDrill {
    /// What would be started.
    #[must_use]
    pub fn planned(before: &Before<'_>) -> Self {
        let plan = planned(before);
        let protected = plan.protected();
        let protected = protected.map_or_else(Vec::new, |tried| measured(&tried, &plan, None));
        let limited = plan.limited().iter().map(|tried| got(tried, None)).collect();
        Self { delays_low: delays_low(before, &plan), plan, protected, limited, ran: None }
    }

    /// Whether all is as it was declared and predicted.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.protected.iter().chain(&self.limited).all(|measured| measured.row.holds())
    }
}

/// Runs it.
///
/// # Errors
/// Somebody would feel it, a load cannot be started or put where it belongs, or its cache is not counted.
pub fn drill_memory(before: &Before<'_>, _turn: &Turn) -> Result<MemoryDrill> {
    let (root, plan) = (before.root, planned(before));
    let (protected, limited) = (plan.protected(), plan.limited());
    if protected.is_none() && limited.is_empty() {
        bail!("there is nothing to compare: no memory of what runs is protected or limited");
    }
    look(root)?;
    let _own = OwnCpu::here()?;
    let begun = Instant::now();
    let mut loads = Loads::start(root, plan.of_loads().iter().map(|_| (OomScoreAdj::MAX, Work::Cache)))?;
    let model = Model::make(root, &loads, &plan)?;
    model.check_that_cache_counts(&mut loads, &plan)?;
    let protected = match &protected {
        Some(tried) => measured(tried, &plan, Some(&model.left(&mut loads, &plan, tried)?)),
        None => Vec::new(),
    };
    let limited = limited.iter().map(|tried| {
        model.fill(&mut loads, &tried.fill)?;
        Ok(got(tried, Some(model.used(&tried.cgroup)?)))
    });
    let limited = limited.collect::<Result<Vec<_>>>()?;
    Ok(MemoryDrill {
        delays_low: delays_low(before, &plan),
        plan,
        protected,
        limited,
        ran: Some(begun.elapsed()),
    })
}

fn planned(before: &Before<'_>) -> Plan {
    let Before { policy, machine, live, root } = before;
    let mut tree = live.tree.clone();
    let in_slices: Vec<_> = tree.in_slices().collect();
    tree.read_memory(root, in_slices);
    plan(policy, &ancestors(policy, machine.ram), live, &tree, *machine, oom::is_recursive(root))
}

fn delays_low(before: &Before<'_>, plan: &Plan) -> bool {
    oom::has_multi_gen_lru(before.root) && plan.has_low()
}

fn measured(tried: &Protected, plan: &Plan, left: Option<&[u64]>) -> Vec<Measured> {
    let whole = tried.fill.whole;
    tried.rows(plan, left).into_iter().map(|row| Measured { row, whole }).collect()
}

fn got(tried: &Limited, got: Option<u64>) -> Measured {
    Measured { row: tried.row(got), whole: tried.fill.whole }
}

/// Whether nobody else would feel it.
fn look(root: &Path) -> Result<()> {
    can_take(oom::read(root, &Units::default(), &[])?.available)?;
    let stalled = || Pressure::read(root, Path::new("")).memory.map(|stalls| stalls.some.total);
    let (before, begun) = (stalled(), Instant::now());
    sleep(LOOK);
    is_not_short(waited(before, stalled(), begun)).map_err(anyhow::Error::msg)
}

/// The cgroups of the model, which go with the scope.
struct Model {
    scope: OwnedFd,
    path: PathBuf,
    /// All of them but the root, by their paths from it, with what they use without a load that has read anything.
    cgroups: BTreeMap<PathBuf, u64>,
}

impl Model {
    /// Makes them, and puts the loads into them.
    fn make(root: &Path, loads: &Loads, plan: &Plan) -> Result<Self> {
        let (slice, name) = (SliceName::system(), scope_name("memory"));
        let place = Place {
            slice: &slice,
            scope: &name,
            resources: &[(MEMORY_MAX.bus, LIMIT), (MEMORY_SWAP_MAX.bus, 0)],
            outlive_kills: false,
            delegate: true,
        };
        let path = loads.put(root, &loads.pids(), &place)?;
        loads.wait_until_in(root, &vec![path.clone(); plan.of_loads().len()])?;
        let scope = open_cgroup(root, &path).with_context(|| format!("opening {}", shown(&path)))?;
        let mut model = Self { scope, path, cgroups: BTreeMap::new() };
        let (all, of_loads) = (plan.cgroups(), plan.of_loads());
        model.add(Path::new(""))?;
        all.iter().try_for_each(|cgroup| model.add(cgroup))?;
        for (cgroup, pid) in of_loads.iter().zip(loads.pids()) {
            model.write(cgroup, "cgroup.procs", &pid.to_string())?;
        }
        // From the top, and where no process is left.
        let inner =
            all.iter().map(PathBuf::as_path).filter(|cgroup| !of_loads.iter().any(|load| load == cgroup));
        model.write_at(Path::new(""), "cgroup.subtree_control", "+memory")?;
        for cgroup in [Path::new("")].into_iter().chain(inner) {
            model.write(cgroup, "cgroup.subtree_control", "+memory")?;
        }
        for cgroup in [PathBuf::new()].into_iter().chain(all) {
            let used = model.current(&cgroup)?;
            model.cgroups.insert(cgroup, used);
        }
        Ok(model)
    }

    fn add(&self, cgroup: &Path) -> Result<()> {
        let path = Path::new(MODEL).join(cgroup);
        mkdirat(&self.scope, &path, Mode::from_raw_mode(0o755))
            .with_context(|| format!("making {}", shown(&self.path.join(path))))
    }

    fn write(&self, cgroup: &Path, attribute: &str, text: &str) -> Result<()> {
        self.write_at(&Path::new(MODEL).join(cgroup), attribute, text)
    }

    fn write_at(&self, cgroup: &Path, attribute: &str, text: &str) -> Result<()> {
        let path = cgroup.join(attribute);
        let open = || openat(&self.scope, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let write = || File::from(open()?).write_all(text.as_bytes());
        write().with_context(|| format!("writing {text} to {}", shown(&self.path.join(&path))))
    }

    /// What a cgroup uses, in bytes.
    fn current(&self, cgroup: &Path) -> Result<u64> {
        let path = Path::new(MODEL).join(cgroup).join("memory.current");
        let read = || -> Result<u64> {
            let file = openat(&self.scope, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            Ok(String::from_utf8(read_opened(File::from(file))?)?.trim().parse()?)
        };
        read().with_context(|| format!("reading {}", shown(&self.path.join(&path))))
    }

    /// What it uses for what loads have read.
    fn used(&self, cgroup: &Path) -> Result<u64> {
        Ok(self.current(cgroup)?.saturating_sub(self.unfilled(cgroup)))
    }

    /// What it uses where they have read nothing: the kernel's own, and more of it the more CPUs there are.
    fn unfilled(&self, cgroup: &Path) -> u64 {
        self.cgroups.get(cgroup).copied().unwrap_or(0)
    }

    /// Nothing is protected or limited, and no load has read anything.
    fn clear(&self, loads: &mut Loads, count: usize) -> Result<()> {
        for cgroup in self.cgroups.keys() {
            for property in [MEMORY_HIGH, MEMORY_MAX, MEMORY_LOW, MEMORY_MIN] {
                self.write(cgroup, property.attribute, &cgroup::text(property.unset()))?;
            }
        }
        loads.tell_each(&vec![0; count])
    }

    /// Has the loads read, under these settings. A limit is one of what they read, beside what is there without.
    fn fill(&self, loads: &mut Loads, fill: &Fill) -> Result<()> {
        self.clear(loads, fill.reads.len())?;
        for (cgroup, property, bytes) in &fill.settings {
            let is_limit = [MEMORY_HIGH, MEMORY_MAX].contains(property);
            let more = if is_limit { self.unfilled(cgroup) } else { 0 };
            self.write(cgroup, property.attribute, &cgroup::text(bytes.saturating_add(more)))?;
        }
        loads.tell_each(&fill.reads)
    }

    /// Whether the kernel puts down what a load reads to its cgroup.
    fn check_that_cache_counts(&self, loads: &mut Loads, plan: &Plan) -> Result<()> {
        let of_loads = plan.of_loads();
        let each = SIZE / of_loads.len().max(1) as u64;
        self.clear(loads, of_loads.len())?;
        loads.tell_each(&vec![each; of_loads.len()])?;
        for load in of_loads {
            let used = self.used(&load)?;
            if used < each / 10 * 9 {
                bail!(
                    "a load has read {each} bytes of a file in /{FILES}, and its cgroup uses {used} for it: that file \
                     system keeps no page cache, so nothing could be measured"
                );
            }
        }
        Ok(())
    }

    /// What is left of what each load has read, once as much has been reclaimed as nobody protects.
    fn left(&self, loads: &mut Loads, plan: &Plan, tried: &Protected) -> Result<Vec<u64>> {
        self.fill(loads, &tried.fill)?;
        let all = Path::new("");
        let (mut high, least) = (self.current(all)?, tried.kept.saturating_add(self.unfilled(all)));
        while high > least {
            high = high.saturating_sub(STEP).max(least);
            // Unlike with memory.max, nobody is killed where it cannot be had.
            self.write(all, MEMORY_HIGH.attribute, &cgroup::text(high))?;
        }
        plan.of_loads().iter().map(|load| self.used(load)).collect()
    }
}
