//! How the tree is read: each file once, from the open directory of the cgroup's parent, on all CPUs.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, open, openat, statat};
use rustix::io::read;

use super::{Bandwidth, Cgroup, Controllers, Cpu, Id, Memory, Tree, count_cpus};
use crate::host::cgroup::{self, attribute};
use crate::host::parallel;
use crate::paths;
use crate::text::shown;

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
        // A process's own line tells v1 from v2, and cgroupfs then lies where it is looked for.
        cgroup::of_process(root, "self")?;
        let base = root.join(paths::CGROUPFS);
        fs::read_dir(&base).with_context(|| format!("reading {}", shown(&base)))?;
        let (name, controllers) = (OPENED.to_owned(), available(root));
        let found = Found { parent: Self::ROOT, name, is_leaf: false, controllers };
        let first = Reader::open(&base).and_then(|reader| reader.cgroup(&found));
        let (first, children) = first.unwrap_or_default();
        let mut tree = Self::new(first);
        let mut level = below(&tree, Self::ROOT, children);
        while !level.is_empty() {
            let mut next = Vec::new();
            tree.cgroups.reserve(level.len());
            tree.by_path.reserve(level.len());
            let read = by_parent(&base, &tree, &level, |found| found.parent, Reader::cgroup);
            for (found, cgroup) in level.iter().zip(read) {
                let Some((cgroup, children)) = cgroup else { continue };
                let id = tree.add(found.parent, &found.name, cgroup);
                next.extend(below(&tree, id, children));
            }
            level = next;
        }
        Ok(tree)
    }

    /// Reads `cpu.max` of these cgroups; siblings are best next to each other.
    pub fn read_limits(&mut self, root: &Path, of: impl IntoIterator<Item = Id>) {
        let of: Vec<Id> = of.into_iter().filter(|id| self[*id].cpu.is_some()).collect();
        let base = root.join(paths::CGROUPFS);
        let parent = |id: &Id| self[*id].parent.unwrap_or(Self::ROOT);
        let name = |id: &Id| if *id == Self::ROOT { OPENED } else { self[*id].name() };
        let read = by_parent(&base, self, &of, parent, |reader, id| reader.cpu_max(name(id)));
        for (id, max) in of.into_iter().zip(read) {
            if let Some(cpu) = self.cgroups.get_mut(id.0).and_then(|cgroup| cgroup.cpu.as_mut()) {
                cpu.max = max;
            }
        }
    }

    /// Reads the memory attributes of these cgroups.
    pub fn read_memory(&mut self, root: &Path, of: impl IntoIterator<Item = Id>) {
        let of: Vec<Id> = of.into_iter().filter(|id| self[*id].controllers.memory).collect();
        let read = parallel::map(&of, |part| part.iter().map(|id| memory(root, &self[*id].path)).collect());
        for (id, memory) in of.into_iter().zip(read) {
            if let Some(cgroup) = self.cgroups.get_mut(id.0) {
                cgroup.memory = memory;
            }
        }
    }
}

/// The controllers of the root: those that the kernel has and no v1 hierarchy holds.
fn available(root: &Path) -> Controllers {
    Controllers::parse(&attribute(root, Path::new(""), "cgroup.controllers").unwrap_or_default())
}

/// A cgroup that has been found and is still to be read.
struct Found {
    parent: Id,
    name: String,
    is_leaf: bool,
    controllers: Controllers,
}

/// The cgroups in one.
#[derive(Default)]
struct Children {
    names: Vec<String>,
    /// Whether it is known that there are none in any of them.
    are_leaves: bool,
}

fn below(tree: &Tree, parent: Id, children: Children) -> Vec<Found> {
    let (is_leaf, controllers) = (children.are_leaves, tree[parent].subtree_control);
    children.names.into_iter().map(|name| Found { parent, name, is_leaf, controllers }).collect()
}

/// What `each` reads of all these, siblings by the open directory that they are in; `None` where that is gone.
fn by_parent<T: Sync, R: Send>(
    base: &Path,
    tree: &Tree,
    items: &[T],
    parent: impl Fn(&T) -> Id + Sync,
    each: impl Fn(&Reader, &T) -> Option<R> + Sync,
) -> Vec<Option<R>> {
    parallel::map(items, |part| {
        let mut read = Vec::with_capacity(part.len());
        for siblings in part.chunk_by(|one, other| parent(one) == parent(other)) {
            let parent = siblings.first().map_or(Tree::ROOT, &parent);
            let reader = Reader::open(&base.join(&tree[parent].path));
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
    fn open(parent: &Path) -> Option<Self> {
        open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok().map(Self)
    }

    /// A cgroup and those in it; `None` where it is gone.
    fn cgroup(&self, found: &Found) -> Option<(Cgroup, Children)> {
        let controllers = found.controllers;
        let directory = Directory { parent: &self.0, name: &found.name };
        let children = if found.is_leaf { Children::default() } else { directory.children()? };
        let tasks = controllers.pids.then(|| directory.number("pids.current")).flatten();
        let events = if tasks.is_none() { directory.text("cgroup.events") } else { None };
        if found.is_leaf && tasks.is_none() && events.is_none() {
            return None;
        }
        let weight = controllers.cpu.then(|| directory.weight()).flatten();
        let cpus = || count_cpus(&directory.text("cpuset.cpus.effective")?);
        let is_leaf = children.names.is_empty();
        let handed_on = if is_leaf { None } else { directory.text("cgroup.subtree_control") };
        let cgroup = Cgroup {
            controllers,
            subtree_control: Controllers::parse(&handed_on.unwrap_or_default()),
            populated: tasks != Some(0) && !events.is_some_and(|text| text.contains("populated 0")),
            tasks,
            cpu: weight.map(|weight| Cpu { weight, max: None }),
            cpus: controllers.cpuset.then(cpus).flatten(),
            ..Cgroup::default()
        };
        Some((cgroup, children))
    }

    fn cpu_max(&self, name: &str) -> Option<Bandwidth> {
        Bandwidth::parse(&Directory { parent: &self.0, name }.text("cpu.max")?)
    }
}

/// A cgroup's directory.
struct Directory<'a> {
    parent: &'a OwnedFd,
    name: &'a str,
}

impl Directory<'_> {
    /// The cgroups in it; `None` where it is gone.
    ///
    /// It has 2 links, and 1 for each cgroup in it. Reading the directory, which lists every attribute,
    /// takes ten times as long. A file system that does not count says 1.
    fn children(&self) -> Option<Children> {
        if statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW).ok()?.st_nlink == 2 {
            return Some(Children::default());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(self.parent, self.name, flags, Mode::empty()).ok()?;
        let entries = Dir::new(directory).ok()?.flatten();
        let cgroups = entries.filter(|entry| entry.file_type() == FileType::Directory);
        let names = cgroups.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let names: Vec<String> = names.filter(|name| name != "." && name != "..").collect();
        // All that are below are directly below.
        let are_leaves = self.descendants() == u64::try_from(names.len()).ok();
        Some(Children { names, are_leaves })
    }

    /// `nr_descendants` of `cgroup.stat`: how many cgroups are below.
    fn descendants(&self) -> Option<u64> {
        let text = self.text("cgroup.stat")?;
        text.lines().find_map(|line| line.strip_prefix("nr_descendants "))?.parse().ok()
    }

    /// An attribute of at most a page, as those that are read here are.
    fn text(&self, attribute: &str) -> Option<String> {
        let path = format!("{}/{attribute}", self.name);
        let file = openat(self.parent, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut page = [0; 4096];
        let length = read(&file, &mut page).ok()?;
        Some(str::from_utf8(page.get(..length)?).ok()?.trim_end().to_owned())
    }

    fn number(&self, attribute: &str) -> Option<u64> {
        self.text(attribute)?.parse().ok()
    }

    /// `cpu.weight`. Of an idle cgroup it reads 0, and 1 since Linux 6.12, like a weight of 1.
    fn weight(&self) -> Option<u64> {
        let weight = self.number("cpu.weight")?;
        let is_idle = weight <= 1 && self.number("cpu.idle") == Some(1);
        Some(if is_idle { 0 } else { weight })
    }
}

fn memory(root: &Path, path: &Path) -> Option<Memory> {
    let amount = |name| match attribute(root, path, name)?.as_str() {
        "max" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    };
    Some(Memory {
        current: amount("memory.current")?,
        min: amount("memory.min")?,
        low: amount("memory.low")?,
        high: amount("memory.high")?,
        max: amount("memory.max")?,
        swap_current: amount("memory.swap.current").unwrap_or(0),
        swap_max: amount("memory.swap.max").unwrap_or(u64::MAX),
        oom_group: attribute(root, path, "memory.oom.group").is_some_and(|text| text == "1"),
    })
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
        let max = Some(Bandwidth { quota: 150_000, period: 100_000 });
        assert_eq!(tree[slice].cpu, Some(Cpu { weight: 200, max }));
        assert_eq!((tree[slice].tasks, tree[slice].populated), (Some(3), true));
        // No weight, no count: the slice hands on neither controller.
        assert_eq!((tree[service].cpu, tree[service].tasks, tree[service].populated), (None, None, true));
        assert_eq!((tree[service].name(), tree[service].memory), ("b.service", None));
        tree.read_memory(root, [service, slice]);
        let memory = tree[service].memory.unwrap();
        assert_eq!((memory.current, memory.low, memory.max, memory.oom_group), (4096, u64::MAX, 8192, false));
        assert_eq!(tree[slice].memory, None);
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
            let mut paths: Vec<_> = tree.ids().map(|id| shown(&tree[id].path).to_string()).collect();
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
        let max = Some(Bandwidth { quota: 150_000, period: 100_000 });
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
