//! How the tree is read: each file once, from the open directory of the cgroup's parent, on all CPUs.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::str;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::{Errno, read};

use super::{Cgroup, Controllers, Cpu, CpuMax, Cut, Each, Id, MemoryAttributes, Standing, Tree, online};
use crate::bounded::read_opened;
use crate::host::cgroup::{self, attribute};
use crate::host::cgroup_directory::{DEEPEST, MOST, cgroups_in, is_gone, open_cgroup};
use crate::host::cpu_set::CpuSet;
use crate::host::oom;
use crate::host::parallel;
use crate::host::unread::Unread;
use crate::paths;
use crate::text::{Foreign, shown};

impl Tree {
    /// Reads the tree below `root`, without what [`Tree::read_memory`] adds.
    ///
    /// A cgroup that goes away meanwhile is left out.
    ///
    /// # Errors
    /// cgroupfs cannot be read, or this machine runs cgroup v1.
    pub fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::read_weights(root)?;
        tree.read_limits(root, tree.ids());
        Ok(tree)
    }

    /// The same without what [`Tree::read_limits`] adds.
    ///
    /// # Errors
    /// Those of [`Tree::read`].
    pub fn read_weights(root: &Path) -> Result<Self> {
        Self::read_below(root, |_| true)
    }

    /// The way from the root to a cgroup, and what is directly beside each on it: whatever else there is, its weight
    /// and its limits come from these. The memory is that of the way alone.
    ///
    /// # Errors
    /// Those of [`Tree::read`].
    pub fn read_way(root: &Path, cgroup: &Path) -> Result<Self> {
        let mut tree = Self::read_below(root, |above| above != cgroup && cgroup.starts_with(above))?;
        tree.read_limits(root, tree.ids());
        let way: Vec<Id> = tree.upwards(tree.nearest(cgroup)).collect();
        tree.read_memory(root, way);
        Ok(tree)
    }

    /// Reads what is in those cgroups that `is_wanted`, by their paths.
    fn read_below(root: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<Self> {
        // A process's own line tells v1 from v2, and cgroupfs then lies where it is looked for.
        cgroup::of_process(root, "self")?;
        let base = root.join(paths::CGROUPFS);
        fs::read_dir(&base).with_context(|| format!("reading {}", shown(&base)))?;
        let (name, controllers) = (OPENED.into(), available(root));
        let found = Found { parent: Self::ROOT, name, is_leaf: false, controllers, inside: None };
        let first = Reader::open(root, Path::new("")).and_then(|reader| reader.cgroup(&found));
        let (first, children) = first.unwrap_or_default();
        let mut tree = Self::new(first);
        tree.online = online(root).ok();
        tree.command_line = fs::read_to_string(root.join("proc/cmdline")).unwrap_or_default();
        // Every cgroup but the kernel's own root has this file.
        tree.is_contained = attribute(root, Path::new(""), "cgroup.type").is_some();
        let mut bounds = Bounds::default();
        let children = if is_wanted(Path::new("")) { children } else { Children::default() };
        let mut level = bounds.below(&tree, Self::ROOT, None, children);
        while !level.is_empty() {
            let mut next = Vec::new();
            tree.cgroups.reserve(level.len());
            let read = by_parent(root, &tree, &level, |found| found.parent, Reader::cgroup);
            for (found, cgroup) in level.into_iter().zip(read) {
                let Some((cgroup, children)) = cgroup else { continue };
                let id = tree.add(found.parent, found.name, cgroup);
                if let Some(why) = children.unread {
                    tree.unread
                        .push(Unread { what: tree.absolute(id), why: std::io::Error::from(why).to_string() });
                }
                if is_wanted(&tree.path(id)) {
                    next.extend(bounds.below(&tree, id, found.inside, children));
                }
            }
            level = next;
        }
        tree.cut = bounds.cut(root, &tree);
        tree.sched_ext = sched_ext(root);
        tree.read_partitions(root);
        Ok(tree)
    }

    /// The CPUs of a partition are no more its parent's, and only where that is so there is one.
    fn read_partitions(&mut self, root: &Path) {
        let list = fs::read_to_string(root.join(paths::ISOLATED_CPUS)).unwrap_or_default();
        self.isolated = CpuSet::parse(&list).unwrap_or_default();
        let partitions = self.ids().skip(1).filter(|id| {
            let mut above = self.upwards(*id).filter_map(|id| self[id].cpus.as_ref());
            self[*id].cpus.is_some()
                && above.next().zip(above.next()).is_some_and(|(own, parents)| own.and(parents).is_empty())
        });
        let partitions: Vec<Id> = partitions.collect();
        let kinds = self.read_each(root, &partitions, |_, directory| directory.text("cpuset.cpus.partition"));
        for (id, kind) in partitions.into_iter().zip(kinds) {
            let Some(cgroup) = self.cgroups.get_mut(id.0) else { continue };
            cgroup.is_partition = matches!(kind.as_deref(), Some("root" | "isolated"));
            if let (Some("isolated"), Some(cpus)) = (kind.as_deref(), &cgroup.cpus) {
                self.isolated.add(cpus);
            }
        }
    }

    /// Reads `cpu.max` of these cgroups; siblings are best next to each other.
    pub fn read_limits(&mut self, root: &Path, of: impl IntoIterator<Item = Id>) {
        let of: Vec<Id> = of.into_iter().filter(|id| self[*id].cpu.is_some()).collect();
        let read = self.read_each(root, &of, |_, directory| CpuMax::parse(&directory.text("cpu.max")?));
        for (id, max) in of.into_iter().zip(read) {
            if let Some(cpu) = self.cgroups.get_mut(id.0).and_then(|cgroup| cgroup.cpu.as_mut()) {
                cpu.max = max;
            }
        }
    }

    /// Reads the memory attributes of these cgroups; siblings are best next to each other.
    pub fn read_memory(&mut self, root: &Path, of: impl IntoIterator<Item = Id>) {
        let of: Vec<Id> = of.into_iter().filter(|id| self[*id].controllers.memory).collect();
        // Where a machine has no swap, as those of clouds do, nothing is in it.
        let has_swap = oom::swap(root) != Some(0);
        let read = self.read_each(root, &of, |_, directory| directory.memory(has_swap));
        for (id, memory) in of.into_iter().zip(read) {
            if let Some(cgroup) = self.cgroups.get_mut(id.0) {
                cgroup.memory = memory;
            }
        }
    }

    /// What `each` reads of each of these; `None` for one that is gone. Siblings are best next to each other.
    pub(crate) fn read_each<R: Send>(
        &self,
        root: &Path,
        of: &[Id],
        each: impl Fn(Id, CgroupDirectory<'_>) -> Option<R> + Sync,
    ) -> Vec<Option<R>> {
        let parent = |id: &Id| self[*id].parent.unwrap_or(Self::ROOT);
        let name = |id: &Id| if *id == Self::ROOT { OsStr::new(OPENED) } else { &self[*id].name };
        by_parent(root, self, of, parent, |reader, id| {
            each(*id, CgroupDirectory { parent: &reader.0, name: name(id) })
        })
    }

    /// The same, to be looked up by the cgroup.
    pub(crate) fn read_about<R: Send>(
        &self,
        root: &Path,
        of: &[Id],
        each: impl Fn(Id, CgroupDirectory<'_>) -> Option<R> + Sync,
    ) -> Each<R> {
        let mut about = Each::none(self);
        for (id, one) in of.iter().zip(self.read_each(root, of, each)) {
            if let Some(one) = one {
                about.insert(*id, one);
            }
        }
        about
    }
}

/// The controllers of the root: those that the kernel has and no v1 hierarchy holds.
fn available(root: &Path) -> Controllers {
    Controllers::parse(&attribute(root, Path::new(""), "cgroup.controllers").unwrap_or_default())
}

/// The name of the `sched_ext` scheduler that is loaded: `scx_attr_ops_show` of the kernel's `kernel/sched/ext.c`.
#[must_use]
pub fn sched_ext(root: &Path) -> Option<Foreign> {
    let text = |name: &str| fs::read(root.join(paths::SCHED_EXT).join(name)).ok();
    let state = text("state")?;
    (state.trim_ascii() == b"enabled")
        .then(|| Foreign::new(text("root/ops").unwrap_or_default().trim_ascii()))
}

/// A cgroup that has been found and is still to be read.
struct Found {
    parent: Id,
    name: OsString,
    is_leaf: bool,
    controllers: Controllers,
    /// In which cgroup that is no slice it is, and how many levels down.
    inside: Option<(Id, usize)>,
}

/// The cgroups in one.
#[derive(Default)]
struct Children {
    names: Vec<OsString>,
    /// Whether it is known that there are none in any of them.
    are_leaves: bool,
    /// What came back where something of the cgroup cannot be read.
    unread: Option<Errno>,
}

/// How much is read of what lies in no slice: [`DEEPEST`] and [`MOST`].
#[derive(Default)]
struct Bounds {
    /// How many were found below each, and whether there are more.
    tops: BTreeMap<Id, (usize, bool)>,
}

impl Bounds {
    /// The cgroups in one of the tree, as far as they are to be read.
    fn below(
        &mut self,
        tree: &Tree,
        parent: Id,
        inside: Option<(Id, usize)>,
        children: Children,
    ) -> Vec<Found> {
        let cgroup = &tree[parent];
        let (is_leaf, controllers) = (children.are_leaves, cgroup.subtree_control);
        let inside = match cgroup.standing {
            Standing::Slice => None,
            Standing::Unit | Standing::Stranger => Some((parent, 1)),
            Standing::Inside => inside.map(|(top, levels)| (top, levels + 1)),
        };
        let mut names = children.names;
        if let Some((top, levels)) = inside.filter(|_| !names.is_empty()) {
            let (count, is_cut) = self.tops.entry(top).or_default();
            let most = if levels > DEEPEST { 0 } else { MOST - *count };
            *is_cut |= names.len() > most;
            names.truncate(most);
            *count += names.len();
        }
        names.into_iter().map(|name| Found { parent, name, is_leaf, controllers, inside }).collect()
    }

    fn cut(self, root: &Path, tree: &Tree) -> Vec<Cut> {
        let cut = self.tops.into_iter().filter(|(_, (_, is_cut))| *is_cut);
        cut.map(|(id, (count, _))| {
            let name = OsStr::new(OPENED);
            let directory = open_cgroup(root, &tree.path(id)).ok();
            let all = directory.and_then(|parent| CgroupDirectory { parent: &parent, name }.descendants());
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            Cut { id, left: all.map(|all| all.saturating_sub(count)) }
        })
        .collect()
    }
}

/// What `each` reads of all these, siblings by the open directory that they are in; `None` where that is gone.
fn by_parent<T: Sync, R: Send>(
    root: &Path,
    tree: &Tree,
    items: &[T],
    parent: impl Fn(&T) -> Id + Sync,
    each: impl Fn(&Reader, &T) -> Option<R> + Sync,
) -> Vec<Option<R>> {
    parallel::map(items, |part| {
        let mut read = Vec::with_capacity(part.len());
        for siblings in part.chunk_by(|one, other| parent(one) == parent(other)) {
            let parent = siblings.first().map_or(Tree::ROOT, &parent);
            let reader = Reader::open(root, &tree.path(parent));
            read.extend(siblings.iter().map(|item| each(reader.as_ref()?, item)));
        }
        read
    })
}

/// Reads the cgroups in one: from its open directory, they are found without walking down the path for
/// each file.
struct Reader(OwnedFd);

/// The one that a [`Reader`] has open itself: the root, which in a cgroup namespace has weight and limit.
const OPENED: &str = ".";

impl Reader {
    fn open(root: &Path, parent: &Path) -> Option<Self> {
        open_cgroup(root, parent).ok().map(Self)
    }

    /// A cgroup and those in it; `None` where it is gone.
    fn cgroup(&self, found: &Found) -> Option<(Cgroup, Children)> {
        let controllers = found.controllers;
        let directory = CgroupDirectory { parent: &self.0, name: &found.name };
        let children = if found.is_leaf { Ok(Children::default()) } else { directory.children() };
        let mut children = match children {
            Err(error) if is_gone(error) => return None,
            Err(error) => Children { unread: Some(error), ..Children::default() },
            Ok(children) => children,
        };
        let tasks = controllers.pids.then(|| directory.number("pids.current")).flatten();
        let events = if tasks.is_none() { directory.text("cgroup.events") } else { None };
        if tasks.is_none() && events.is_none() {
            // Every cgroup but the root has this one.
            match directory.open("cgroup.events") {
                Err(error) if is_gone(error) && found.is_leaf => return None,
                Err(error) if !is_gone(error) => children.unread = Some(error),
                _ => {}
            }
        }
        let weight = controllers.cpu.then(|| directory.weight()).flatten();
        let cpus = || CpuSet::parse(&directory.text("cpuset.cpus.effective")?);
        let is_leaf = children.names.is_empty();
        let handed_on = if is_leaf { None } else { directory.text("cgroup.subtree_control") };
        let subtree_control = Controllers::parse(&handed_on.unwrap_or_default());
        let populated = tasks != Some(0) && !events.is_some_and(|text| text.contains("populated 0"));
        let are_told = tasks.is_some() && (is_leaf || subtree_control.pids);
        let own_tasks = || if are_told || found.name == OPENED { None } else { directory.threads() };
        let kind = if controllers.memory { None } else { directory.text("cgroup.type") };
        let cgroup = Cgroup {
            is_threaded: kind.is_some_and(|kind| kind == "threaded" || kind == "domain invalid"),
            controllers,
            subtree_control,
            populated,
            tasks,
            own_tasks: populated.then(own_tasks).flatten(),
            cpu: weight.map(|weight| Cpu { weight, max: None }),
            cpus: controllers.cpuset.then(cpus).flatten(),
            ..Cgroup::default()
        };
        Some((cgroup, children))
    }
}

/// A cgroup's directory.
pub(crate) struct CgroupDirectory<'a> {
    parent: &'a OwnedFd,
    name: &'a OsStr,
}

impl CgroupDirectory<'_> {
    /// The cgroups in it.
    fn children(&self) -> Result<Children, Errno> {
        let names = cgroups_in(self.parent, self.name)?;
        // All that are below are directly below.
        let are_leaves = !names.is_empty() && self.descendants() == u64::try_from(names.len()).ok();
        Ok(Children { names, are_leaves, unread: None })
    }

    /// `nr_descendants` of `cgroup.stat`: how many cgroups are below.
    fn descendants(&self) -> Option<u64> {
        let text = self.text("cgroup.stat")?;
        text.lines().find_map(|line| line.strip_prefix("nr_descendants "))?.parse().ok()
    }

    fn open(&self, attribute: &str) -> Result<OwnedFd, Errno> {
        let path = [self.name.as_bytes(), b"/", attribute.as_bytes()].concat();
        openat(self.parent, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Whether it still is there.
    pub(crate) fn exists(&self) -> bool {
        statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// What an attribute says; `None` where there is none.
    pub(crate) fn text(&self, attribute: &str) -> Option<String> {
        let bytes = read_opened(File::from(self.open(attribute).ok()?)).ok()?;
        Some(str::from_utf8(&bytes).ok()?.trim_end().to_owned())
    }

    /// How many lines `cgroup.threads` has, one for each thread directly in it.
    fn threads(&self) -> Option<u64> {
        let file = self.open("cgroup.threads").ok()?;
        let (mut page, mut lines) = ([0; 4096], 0);
        loop {
            let length = read(&file, &mut page).ok()?;
            if length == 0 {
                return Some(lines);
            }
            lines += u64::try_from(page.get(..length)?.split(|byte| *byte == b'\n').count() - 1).ok()?;
        }
    }

    /// The same, of one that says a number.
    pub(crate) fn number(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    /// `cpu.weight`. Of an idle cgroup it reads 0, and 1 since Linux 6.12, like a weight of 1.
    fn weight(&self) -> Option<u64> {
        let weight = self.number("cpu.weight")?;
        let is_idle = weight <= 1 && self.number("cpu.idle") == Some(1);
        Some(if is_idle { 0 } else { weight })
    }

    fn memory(&self, has_swap: bool) -> Option<MemoryAttributes> {
        let amount = |name| match self.text(name)?.as_str() {
            "max" => Some(u64::MAX),
            bytes => bytes.parse().ok(),
        };
        Some(MemoryAttributes {
            current: amount("memory.current")?,
            min: amount("memory.min")?,
            low: amount("memory.low")?,
            high: amount("memory.high")?,
            max: amount("memory.max")?,
            swap_current: has_swap.then(|| amount("memory.swap.current")).flatten().unwrap_or(0),
            swap_max: amount("memory.swap.max"),
            oom_group: self.text("memory.oom.group").is_some_and(|text| text == "1"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn a_tree_is_read_as_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/a.slice/b.service\n");
        for (file, text) in [
            ("cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("cgroup.subtree_control", "cpu memory pids\n"),
            ("a.slice/cpu.weight", "200\n"),
            ("a.slice/cpu.max", "150000 100000\n"),
            ("a.slice/pids.current", "3\n"),
            ("idle.slice/cpu.weight", "1\n"),
            ("idle.slice/cpu.idle", "1\n"),
            ("least.slice/cpu.weight", "1\n"),
            ("least.slice/cpu.idle", "0\n"),
            ("a.slice/cgroup.subtree_control", "memory\n"),
            ("a.slice/b.service/cgroup.events", "populated 1\nfrozen 0\n"),
            ("a.slice/b.service/memory.current", "4096\n"),
            ("a.slice/b.service/memory.min", "0\n"),
            ("a.slice/b.service/memory.low", "max\n"),
            ("a.slice/b.service/memory.high", "max\n"),
            ("a.slice/b.service/memory.max", "8192\n"),
        ] {
            write(root, &format!("sys/fs/cgroup/{file}"), text);
        }
        let mut tree = Tree::read(root).unwrap();
        let slice = tree.find(Path::new("a.slice")).unwrap();
        let service = tree.find(Path::new("a.slice/b.service")).unwrap();
        assert_eq!(
            (tree.ids().count(), tree.ids().next(), tree.ids().last()),
            (5, Some(Tree::ROOT), Some(service))
        );
        let weight = |path| tree[tree.find(Path::new(path)).unwrap()].cpu.map(|cpu| cpu.weight);
        assert_eq!((weight("idle.slice"), weight("least.slice")), (Some(0), Some(1)));
        assert_eq!(tree.upwards(service).collect::<Vec<_>>(), [service, slice, Tree::ROOT]);
        let max = Some(CpuMax { quota: 150_000, period: 100_000 });
        assert_eq!(tree[slice].cpu, Some(Cpu { weight: 200, max }));
        assert_eq!((tree[slice].tasks, tree[slice].populated), (Some(3), true));
        // No weight, no count: the slice hands on neither controller.
        assert_eq!((tree[service].cpu, tree[service].tasks, tree[service].populated), (None, None, true));
        assert_eq!((tree.unit(service), tree[service].memory), (Some("b.service"), None));
        tree.read_memory(root, [service, slice]);
        let memory = tree[service].memory.unwrap();
        assert_eq!((memory.current, memory.low, memory.max, memory.oom_group), (4096, u64::MAX, 8192, false));
        assert_eq!(tree[slice].memory, None);
    }

    #[test]
    fn an_attribute_is_read_whole() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        for length in [1, 4095, 4096, 4097, 20_000] {
            let text = "x".repeat(length);
            write(root, "sys/fs/cgroup/a.slice/io.max", &text);
            let tree = Tree::read(root).unwrap();
            let slice = tree.find(Path::new("a.slice")).unwrap();
            let read = tree.read_each(root, &[slice], |_, directory| directory.text("io.max"));
            assert_eq!(read, [Some(text)], "{length}");
        }
    }

    #[test]
    fn threads_beside_cgroups_are_counted_where_the_pids_controller_does_not_tell() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        for (file, text) in [
            ("cgroup.controllers", "cpu pids\n"),
            ("cgroup.subtree_control", "cpu pids\n"),
            ("cgroup.threads", "1\n"),
            ("a.service/pids.current", "1002\n"),
            ("a.service/cgroup.threads", &"1234567\n".repeat(1000)),
            ("a.service/cgroup.subtree_control", "\n"),
            ("a.service/payload/cgroup.events", "populated 1\nfrozen 0\n"),
            ("a.service/payload/cgroup.threads", "7\n8\n"),
            ("a.service/empty/cgroup.events", "populated 0\nfrozen 0\n"),
            ("b.service/pids.current", "1\n"),
            ("b.service/cgroup.threads", "9\n"),
        ] {
            write(root, &format!("sys/fs/cgroup/{file}"), text);
        }
        let tree = Tree::read(root).unwrap();
        let own = |path| tree[tree.find(Path::new(path)).unwrap()].own_tasks;
        assert_eq!(
            (own("a.service"), own("a.service/payload"), own("a.service/empty")),
            (Some(1000), Some(2), None)
        );
        // Its count is that of pids.current; the root's are the kernel's.
        assert_eq!((own("b.service"), own("")), (None, None));
    }

    #[test]
    fn cgroup_stat_tells_leaves() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        write(root, "sys/fs/cgroup/cgroup.subtree_control", "pids\n");
        let read = |descendants: u32| {
            let stat = format!("nr_descendants {descendants}\nnr_dying_descendants 7\n");
            write(root, "sys/fs/cgroup/cgroup.stat", &stat);
            let tree = Tree::read(root).unwrap();
            let mut paths: Vec<_> = tree.ids().map(|id| tree.path(id).to_str().unwrap().to_owned()).collect();
            paths.sort_unstable();
            paths
        };
        write(root, "sys/fs/cgroup/a.slice/cgroup.events", "populated 1\n");
        // One that is going away.
        fs::create_dir(root.join("sys/fs/cgroup/b.slice")).unwrap();
        assert_eq!(read(2), ["", "a.slice"]);
        write(root, "sys/fs/cgroup/b.slice/c.service/cgroup.events", "populated 1\n");
        assert_eq!(read(3), ["", "a.slice", "b.slice", "b.slice/c.service"]);
    }

    #[test]
    fn the_root_of_a_namespace_has_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        write(root, "sys/fs/cgroup/cgroup.controllers", "cpu\n");
        write(root, "sys/fs/cgroup/cpu.weight", "100\n");
        write(root, "sys/fs/cgroup/cpu.max", "150000 100000\n");
        let max = Some(CpuMax { quota: 150_000, period: 100_000 });
        assert_eq!(Tree::read(root).unwrap()[Tree::ROOT].cpu, Some(Cpu { weight: 100, max }));
    }

    /// What a tree of ten thousand costs: `cargo test --release --lib ten_thousand -- --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn ten_thousand_cgroups() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        let mut cgroups = vec![String::new()];
        for slice in 0..100 {
            cgroups.push(format!("a-{slice}.slice/"));
            cgroups.extend((0..99).map(|unit| format!("a-{slice}.slice/b-{unit}.service/")));
        }
        for cgroup in &cgroups {
            for (file, text) in [
                ("cgroup.controllers", "cpuset cpu io memory pids\n"),
                ("cgroup.subtree_control", "cpuset cpu io memory pids\n"),
                ("cgroup.events", "populated 1\nfrozen 0\n"),
                ("cpu.weight", "100\n"),
                ("cpu.max", "max 100000\n"),
                ("cpuset.cpus.effective", "0-1\n"),
                ("pids.current", "7\n"),
            ] {
                write(root, &format!("sys/fs/cgroup/{cgroup}{file}"), text);
            }
        }
        let mut times: Vec<_> = (0..30)
            .map(|_| {
                let start = std::time::Instant::now();
                assert_eq!(Tree::read(root).unwrap().ids().count(), cgroups.len());
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("{} cgroups: best {:?}, median {:?}", cgroups.len(), times[0], times[times.len() / 2]);
    }
}
