//! The whole cgroup tree, read once into plain values.
//!
//! Attributes and their formats are those of the kernel's `Documentation/admin-guide/cgroup-v2.rst`.
#![forbid(unsafe_code)]

mod read;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::ops::Index;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::paths;
use crate::text::shown;

/// Every cgroup of the machine.
#[derive(Debug, Clone)]
pub struct Tree {
    /// A parent before its children; the first is the root.
    cgroups: Vec<Cgroup>,
    /// As bytes: a path is hashed component by component.
    by_path: HashMap<OsString, Id>,
}

/// A cgroup of one [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(usize);

/// One cgroup and what it says of itself.
#[derive(Debug, Clone, Default)]
pub struct Cgroup {
    /// From the root of the tree, which has the empty path.
    pub path: PathBuf,
    /// `None` for the root.
    pub parent: Option<Id>,
    /// In no order that means anything.
    pub children: Vec<Id>,
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
    /// `cpuset.cpus.effective`: how many CPUs. `None` without the controller.
    pub cpus: Option<u32>,
    /// `None` without the controller, in the root, and as long as [`Tree::read_memory`] has not read it.
    pub memory: Option<Memory>,
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
    pub max: Option<Bandwidth>,
}

/// `cpu.max`: so much CPU time in each period, both in µs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Of all CPUs together.
    pub quota: u64,
    /// Never 0.
    pub period: u64,
}

/// The memory controller's attributes, in bytes; [`u64::MAX`] is `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
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
    /// `memory.swap.max`
    pub swap_max: u64,
    /// `memory.oom.group`: its processes are killed all together.
    pub oom_group: bool,
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
        (root.path, root.parent, root.children) = (PathBuf::new(), None, Vec::new());
        Self { by_path: HashMap::from([(OsString::new(), Self::ROOT)]), cgroups: vec![root] }
    }

    /// Adds a cgroup of this name; its path, parent and children are the tree's to set.
    pub fn add(&mut self, parent: Id, name: &str, mut cgroup: Cgroup) -> Id {
        let id = Id(self.cgroups.len());
        let path = self[parent].path.join(name);
        self.by_path.insert(path.clone().into_os_string(), id);
        (cgroup.path, cgroup.parent, cgroup.children) = (path, Some(parent), Vec::new());
        self.cgroups.push(cgroup);
        if let Some(parent) = self.cgroups.get_mut(parent.0) {
            parent.children.push(id);
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
        self.by_path.get(path.as_os_str()).copied()
    }

    /// A cgroup, its parent, and so on up to the root.
    pub fn upwards(&self, from: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(from), |id| self[*id].parent)
    }

    /// The cgroups that stand for units: slices, and what is directly in one. What a service has below
    /// its own is no unit of PID 1's. The root is not among them; a parent comes before its children.
    pub fn units(&self) -> impl Iterator<Item = Id> {
        let in_slices =
            |id: &Id| self.upwards(*id).skip(1).all(|above| above == Self::ROOT || self[above].is_slice());
        self.ids().skip(1).filter(in_slices)
    }
}

impl Cgroup {
    /// The last component of its path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether it is a slice by its name, as systemd has it.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.name().ends_with(".slice")
    }
}

impl Controllers {
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

impl Bandwidth {
    /// From the text of `cpu.max`, `QUOTA PERIOD`; `None` for no limit, and for what is no such text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (quota, period) = text.trim().split_once(' ')?;
        let (quota, period) = (quota.parse().ok()?, period.parse().ok()?);
        (period > 0).then_some(Self { quota, period })
    }
}

/// How many CPUs a list such as `0-3,8` names: `cpuset.cpus.effective`, `/sys/devices/system/cpu/online`.
#[must_use]
pub fn count_cpus(list: &str) -> Option<u32> {
    let range = |range: &str| -> Option<u32> {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        to.parse::<u32>().ok()?.checked_sub(from.parse().ok()?)?.checked_add(1)
    };
    list.trim().split(',').try_fold(0_u32, |sum, part| sum.checked_add(range(part)?))
}

/// How many CPUs are online.
///
/// # Errors
/// sysfs does not say.
pub fn online_cpus(root: &Path) -> Result<u32> {
    let file = root.join(paths::ONLINE_CPUS);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
    count_cpus(&text)
        .with_context(|| format!("{}: not a list of CPUs: {}", shown(&file), shown(&text).at_most(100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        for (list, count) in [("0\n", Some(1)), ("0-3,8", Some(5)), ("0-1,4-5,7", Some(5)), ("", None)] {
            assert_eq!(count_cpus(list), count, "{list:?}");
        }
        for wrong in ["3-0", "a", "0-", "0-4294967295", "0,,1"] {
            assert_eq!(count_cpus(wrong), None, "{wrong}");
        }
    }
}
