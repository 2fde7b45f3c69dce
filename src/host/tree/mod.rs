//! The whole cgroup tree, read once into plain values.
//!
//! Attributes and their formats are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#![forbid(unsafe_code)]

mod read;

pub(crate) use self::read::CgroupDirectory;
pub use self::read::sched_ext;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Index;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cgroup::{self, Standing};
use super::cpu_set::CpuSet;
use super::standing::unit_name;
use super::unread::Unread;
use crate::paths;
use crate::text::{Foreign, shown};
use crate::units::SliceName;

/// Every cgroup of the machine.
#[derive(Debug, Clone)]
pub struct Tree {
    /// A parent before its children; the first is the root.
    cgroups: Vec<Cgroup>,
    /// What is there and could not be read; it is in the tree, without values.
    pub unread: Vec<Unread>,
    /// Where more cgroups are than were read.
    pub cut: Vec<Cut>,
    /// The CPUs that are online; `None` where that has not been read.
    pub online: Option<CpuSet>,
    /// The CPUs to and from which the kernel moves no thread: `isolcpus=`, and isolated cpuset partitions.
    pub isolated: CpuSet,
    /// The name of the `sched_ext` scheduler that is loaded.
    pub sched_ext: Option<Foreign>,
    /// Whether others' processes cannot be seen by who looks, found by [`Tree::read_affinity`].
    pub hides_processes: bool,
    /// The kernel's command line; empty where that has not been read.
    pub command_line: String,
    /// Whether the root is a container's, which is no root to the kernel.
    pub is_contained: bool,
    /// Threads that may use less than their cgroup's CPUs, by the cgroup that they are directly in.
    bound: BTreeMap<Id, Vec<(CpuSet, u64)>>,
}

/// A unit's cgroup, or another program's, in which not everything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Which one.
    pub id: Id,
    /// How many in it are not in the tree, being too far down or too many; `None` where it does not say how many
    /// there are. What they use counts in the figures of those that are.
    pub left: Option<u64>,
}

/// A cgroup of one [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(usize);

/// One cgroup and what it says of itself.
#[derive(Debug, Clone, Default)]
pub struct Cgroup {
    /// Empty for the root.
    pub name: OsString,
    /// `None` for the root.
    pub parent: Option<Id>,
    /// In the order of their names.
    pub children: Vec<Id>,
    /// What it is to PID 1.
    pub standing: Standing,
    /// The controllers that are enabled in it: `cgroup.controllers`.
    pub controllers: Controllers,
    /// `cgroup.subtree_control`: the controllers that its children compete by.
    pub subtree_control: Controllers,
    /// Whether there is a process in it or below: `cgroup.events`.
    pub populated: bool,
    /// How many threads there are in it and below: `pids.current`. `None` without the controller.
    pub tasks: Option<u64>,
    /// `None` without the controller, and in the root.
    pub cpu: Option<Cpu>,
    /// How many threads are directly in it: `cgroup.threads`. Read only where `tasks` of it and its children do not
    /// tell.
    pub own_tasks: Option<u64>,
    /// `cpuset.cpus.effective`. `None` without the controller.
    pub cpus: Option<CpuSet>,
    /// Whether those are no more its parent's: `cpuset.cpus.partition`.
    pub is_partition: bool,
    /// `None` without the controller, in the root, and as long as [`Tree::read_memory`] has not read it.
    pub memory: Option<MemoryAttributes>,
    /// Whether `cgroup.type` is one that has no controllers but those for threads, which memory's is not.
    pub is_threaded: bool,
}

/// What the kernel calls controllers, as far as fairslice has to do with them.
#[allow(clippy::struct_excessive_bools, reason = "a set")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Controllers {
    /// `cpu`
    pub cpu: bool,
    /// `cpuset`
    pub cpuset: bool,
    /// `io`
    pub io: bool,
    /// `memory`
    pub memory: bool,
    /// `pids`
    pub pids: bool,
}

/// The cpu controller's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    /// `cpu.weight`, 1 to 10000; 0 where `cpu.idle` is 1.
    pub weight: u64,
    /// `cpu.max`; `None` is no limit, or not read: [`Tree::read_limits`].
    pub max: Option<CpuMax>,
}

/// `cpu.max`: so much CPU time in each period, both in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// Of all CPUs together.
    pub quota: u64,
    /// Never 0.
    pub period: u64,
}

/// The memory controller's attributes, in bytes; [`u64::MAX`] is `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryAttributes {
    /// `memory.current`
    pub current: u64,
    /// `memory.min`
    pub min: u64,
    /// `memory.low`
    pub low: u64,
    /// `memory.high`
    pub high: u64,
    /// `memory.max`
    pub max: u64,
    /// `memory.swap.current`; 0 on a kernel without swap accounting.
    pub swap_current: u64,
    /// `memory.swap.max`; `None` on a kernel without swap accounting: [`MemoryAttributes::swap_limit`].
    pub swap_max: Option<u64>,
    /// `memory.oom.group`: its processes are killed all together.
    pub oom_group: bool,
}

/// A cgroup that uses nothing and sets nothing.
impl Default for MemoryAttributes {
    fn default() -> Self {
        Self {
            current: 0,
            min: 0,
            low: 0,
            high: u64::MAX,
            max: u64::MAX,
            swap_current: 0,
            swap_max: Some(u64::MAX),
            oom_group: false,
        }
    }
}

impl MemoryAttributes {
    /// The most swap that it may use, in bytes; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn swap_limit(&self) -> u64 {
        self.swap_max.unwrap_or(u64::MAX)
    }
}

/// Something about some cgroups of one [`Tree`].
#[derive(Debug, Clone)]
pub struct Each<T>(Vec<Option<T>>);

impl<T> Each<T> {
    /// Nothing yet.
    #[must_use]
    pub fn none(tree: &Tree) -> Self {
        Self(tree.ids().map(|_| None).collect())
    }

    /// What there is about this one.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&T> {
        self.0.get(id.0)?.as_ref()
    }

    /// Adds or replaces it.
    pub fn insert(&mut self, id: Id, about: T) {
        if let Some(place) = self.0.get_mut(id.0) {
            *place = Some(about);
        }
    }
}

impl Index<Id> for Tree {
    type Output = Cgroup;

    #[allow(clippy::indexing_slicing, reason = "an Id is made by its tree, which loses no cgroup")]
    fn index(&self, id: Id) -> &Cgroup {
        &self.cgroups[id.0]
    }
}

impl Tree {
    /// The root.
    pub const ROOT: Id = Id(0);

    /// A tree of a root alone.
    #[must_use]
    pub fn new(mut root: Cgroup) -> Self {
        (root.name, root.parent, root.children) = (OsString::new(), None, Vec::new());
        root.standing = Standing::Slice;
        Self {
            cgroups: vec![root],
            unread: Vec::new(),
            cut: Vec::new(),
            online: None,
            isolated: CpuSet::default(),
            sched_ext: None,
            hides_processes: false,
            command_line: String::new(),
            is_contained: false,
            bound: BTreeMap::new(),
        }
    }

    /// Adds a cgroup of this name; its parent, children and standing are the tree's to set.
    pub fn add(&mut self, parent: Id, name: impl Into<OsString>, mut cgroup: Cgroup) -> Id {
        let (id, name) = (Id(self.cgroups.len()), name.into());
        let above = &self[parent];
        let place = above.children.partition_point(|other| self[*other].name < name);
        cgroup.standing = Standing::of(&name, above.standing, &above.name);
        (cgroup.name, cgroup.parent, cgroup.children) = (name, Some(parent), Vec::new());
        self.cgroups.push(cgroup);
        if let Some(parent) = self.cgroups.get_mut(parent.0) {
            parent.children.insert(place, id);
        }
        id
    }

    /// Every cgroup, a parent before its children.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = Id> + use<> {
        (0..self.cgroups.len()).map(Id)
    }

    /// The cgroup at this path from the root.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Id> {
        path.iter().try_fold(Self::ROOT, |id, name| self.child(id, name))
    }

    /// The cgroup at this path, or the nearest one above it that is in the tree.
    #[must_use]
    pub fn nearest(&self, path: &Path) -> Id {
        let mut id = Self::ROOT;
        for name in path {
            let Some(child) = self.child(id, name) else { break };
            id = child;
        }
        id
    }

    /// The cgroup of this name in another.
    #[must_use]
    pub fn child(&self, id: Id, name: &OsStr) -> Option<Id> {
        let children = &self[id].children;
        let place = children.binary_search_by(|child| self[*child].name.as_os_str().cmp(name)).ok()?;
        children.get(place).copied()
    }

    /// The path of a cgroup from the root, whose own is empty.
    #[must_use]
    pub fn path(&self, id: Id) -> PathBuf {
        let mut names: Vec<&OsStr> = self.upwards(id).map(|id| self[id].name.as_os_str()).collect();
        names.pop();
        names.iter().rev().collect()
    }

    /// The tree of these and of what they are in alone: whether something is beside them makes no difference while
    /// only they are busy.
    #[must_use]
    pub fn only(&self, ids: &[Id]) -> Self {
        let kept = self.with_ancestors(ids.iter().copied());
        let mut tree = Self {
            online: self.online.clone(),
            isolated: self.isolated.clone(),
            sched_ext: self.sched_ext.clone(),
            hides_processes: self.hides_processes,
            is_contained: self.is_contained,
            ..Self::new(self[Self::ROOT].clone())
        };
        let mut new = BTreeMap::from([(Self::ROOT, Self::ROOT)]);
        for id in kept.iter().skip(1) {
            let parent = self[*id].parent.and_then(|parent| new.get(&parent)).copied().unwrap_or(Self::ROOT);
            new.insert(*id, tree.add(parent, self[*id].name.clone(), self[*id].clone()));
        }
        for (id, bound) in &self.bound {
            let nearest = self.upwards(*id).find_map(|above| new.get(&above)).copied();
            for (cpus, threads) in bound {
                tree.bind_threads(nearest.unwrap_or(Self::ROOT), cpus.clone(), *threads);
            }
        }
        tree
    }

    /// The threads directly in a cgroup that may use less than its CPUs, by the CPUs that they may use.
    #[must_use]
    pub fn bound_threads(&self, id: Id) -> &[(CpuSet, u64)] {
        self.bound.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether there is any such thread.
    #[must_use]
    pub fn has_bound_threads(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Says of some threads directly in a cgroup that they may use these of its CPUs alone.
    pub fn bind_threads(&mut self, id: Id, cpus: CpuSet, threads: u64) {
        let bound = self.bound.entry(id).or_default();
        match bound.iter_mut().find(|(same, _)| *same == cpus) {
            Some((_, known)) => *known += threads,
            None => bound.push((cpus, threads)),
        }
    }

    /// Says of a cgroup that it has this weight and this limit.
    pub fn set_cpu(&mut self, id: Id, cpu: Cpu) {
        if let Some(cgroup) = self.cgroups.get_mut(id.0) {
            cgroup.cpu = Some(cpu);
        }
    }

    /// Says of a cgroup that it has these memory attributes.
    pub fn set_memory(&mut self, id: Id, memory: MemoryAttributes) {
        if let Some(cgroup) = self.cgroups.get_mut(id.0) {
            cgroup.memory = Some(memory);
        }
    }

    /// The CPUs that the threads in a cgroup and below may use, where every one of them is bound to some.
    #[must_use]
    pub fn affinity_below(&self, id: Id) -> Option<CpuSet> {
        let (mut cpus, mut threads) = (CpuSet::default(), 0);
        for (_, bound) in
            self.bound.iter().filter(|(below, _)| self.upwards(**below).any(|above| above == id))
        {
            for (set, count) in bound {
                cpus.add(set);
                threads += count;
            }
        }
        (threads > 0 && self[id].tasks.or(self[id].own_tasks).is_some_and(|all| all <= threads))
            .then_some(cpus)
    }

    /// A cgroup, its parent, and so on up to the root.
    pub fn upwards(&self, from: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(from), |id| self[*id].parent)
    }

    /// These, and what they are in.
    #[must_use]
    pub fn with_ancestors(&self, of: impl IntoIterator<Item = Id>) -> BTreeSet<Id> {
        of.into_iter().flat_map(|id| self.upwards(id)).collect()
    }

    /// What lies directly in a slice: the units of PID 1's, and what other programs have made beside them. What is
    /// below those is not PID 1's. The root is not among them; a parent comes before its children.
    pub fn in_slices(&self) -> impl Iterator<Item = Id> {
        self.ids().skip(1).filter(|id| self[*id].standing != Standing::Inside)
    }

    /// The unit whose cgroup this is; `-.slice` for the root.
    #[must_use]
    pub fn unit(&self, id: Id) -> Option<&str> {
        match self[id].standing {
            Standing::Slice if id == Self::ROOT => Some("-.slice"),
            Standing::Slice | Standing::Unit => unit_name(&self[id].name),
            Standing::Stranger | Standing::Inside => None,
        }
    }

    /// What to call a cgroup: the unit; of one that is none, the path, which begins with a `/`.
    #[must_use]
    pub fn name(&self, id: Id) -> Foreign {
        self.unit(id).map_or_else(|| self.absolute(id), Foreign::from)
    }

    /// The path from the root, which is `/`.
    #[must_use]
    pub fn absolute(&self, id: Id) -> Foreign {
        cgroup::absolute(&self.path(id))
    }

    /// Whether it is a slice of PID 1's.
    #[must_use]
    pub fn is_slice(&self, id: Id) -> bool {
        self[id].standing == Standing::Slice
    }

    /// The user whose slice this is.
    #[must_use]
    pub fn user(&self, id: Id) -> Option<u32> {
        let slice = self.unit(id).filter(|_| self.is_slice(id))?;
        let uid = slice.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()?;
        (SliceName::of_user(uid).as_str() == slice).then_some(uid)
    }
}

impl Cgroup {
    /// What an attribute says, of those that have been read.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        let number = match name {
            "cpu.weight" => self.cpu?.weight,
            "memory.min" => self.memory?.min,
            "memory.low" => self.memory?.low,
            "memory.high" => self.memory?.high,
            "memory.max" => self.memory?.max,
            "memory.swap.max" => self.memory?.swap_max?,
            _ => return None,
        };
        Some(cgroup::text(number))
    }
}

impl Controllers {
    /// Whether this one is among them, by its name.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        match name {
            "cpu" => self.cpu,
            "cpuset" => self.cpuset,
            "io" => self.io,
            "memory" => self.memory,
            "pids" => self.pids,
            _ => false,
        }
    }

    /// From the text of `cgroup.controllers` or `cgroup.subtree_control`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let has = |name| text.split_whitespace().any(|word| word == name);
        Self {
            cpu: has("cpu"),
            cpuset: has("cpuset"),
            io: has("io"),
            memory: has("memory"),
            pids: has("pids"),
        }
    }
}

impl CpuMax {
    /// From the text of `cpu.max`, `QUOTA PERIOD`; `None` for no limit, and for what is no such text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0).then_some(Self { quota, period })
    }
}

/// How many CPUs are online.
///
/// # Errors
/// sysfs does not say.
pub fn online_cpus(root: &Path) -> Result<u32> {
    Ok(online(root)?.count())
}

/// Which CPUs there are.
///
/// # Errors
/// The kernel's list of them cannot be read.
pub fn online(root: &Path) -> Result<CpuSet> {
    let file = root.join(paths::ONLINE_CPUS);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
    CpuSet::parse(&text)
        .with_context(|| format!("{}: not a list of CPUs: {}", shown(&file), shown(&text).at_most(100)))
}
