//! The machine's disks, and what divides their time.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use super::block_device::number_of;
use super::cgroup::attribute;
use crate::text::{Foreign, shown};

/// A block device of its own: no loop, RAM disk, partition, or one that is made of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// As in `/sys/block`.
    pub name: Foreign,
    /// Its numbers, `254:0`.
    pub number: String,
    /// The I/O scheduler that it has; `None` where it has no such file.
    pub scheduler: Option<String>,
    /// Whether the io.cost controller is enabled for it: `io.cost.qos` of the root cgroup.
    pub has_cost: bool,
    /// Whether BFQ puts those first for a while who have just begun to read: its `low_latency`.
    pub low_latency: bool,
    /// Whether it comes and goes, as a memory stick and what lies in a drive do.
    pub is_removable: bool,
}

/// What goes by weights where it decides about a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Divider {
    /// The I/O scheduler BFQ, by `io.bfq.weight`.
    Bfq,
    /// The io.cost controller, by `io.weight`: before the scheduler has anything to decide.
    Cost,
}

/// Every disk, and whether the kernel offers io.cost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    /// By name.
    pub all: Vec<Disk>,
    /// Whether there is an `io.cost.qos`.
    pub offers_cost: bool,
    /// The numbers of the disks that paths in unit files mean, as far as there are any: [`Disks::look_up`].
    pub by_path: BTreeMap<String, String>,
}

impl Disk {
    /// What divides its time by weights: BFQ and io.cost do, no other scheduler does (the kernel's
    /// `Documentation/admin-guide/cgroup-v2.rst`, "IO"). `None` where weights decide nothing.
    #[must_use]
    pub fn divider(&self) -> Option<Divider> {
        match () {
            () if self.has_cost => Some(Divider::Cost),
            () if self.has_bfq() => Some(Divider::Bfq),
            () => None,
        }
    }

    /// Whether its scheduler is BFQ, whatever goes before that.
    #[must_use]
    pub fn has_bfq(&self) -> bool {
        self.scheduler.as_deref() == Some("bfq")
    }

    /// What a disk has that goes by no weights: `has the scheduler none and no io.cost`.
    #[must_use]
    pub fn without_weights(&self) -> String {
        let scheduler = self.scheduler.as_deref().unwrap_or("none");
        format!("has the scheduler {} and no io.cost", shown(scheduler))
    }
}

impl Disks {
    /// Those below `root`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let qos = attribute(root, Path::new(""), "io.cost.qos");
        let has_cost = |number: &str| {
            let mut lines = qos.as_deref().unwrap_or_default().lines().map(str::split_whitespace);
            lines.any(|mut words| words.next() == Some(number) && words.any(|word| word == "enable=1"))
        };
        let entries = fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten();
        let disk = |entry: fs::DirEntry| {
            let path = entry.path();
            // What is made of others, or of memory, has none.
            path.join("device").symlink_metadata().ok()?;
            let number = fs::read_to_string(path.join("dev")).ok()?.trim().to_owned();
            let schedulers = fs::read_to_string(path.join("queue/scheduler")).ok();
            let scheduler = schedulers.as_deref().and_then(chosen).map(str::to_owned);
            let is_one = |file| fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == "1");
            Some(Disk {
                name: entry.file_name().into(),
                has_cost: has_cost(&number),
                low_latency: is_one("queue/iosched/low_latency"),
                is_removable: is_one("removable"),
                number,
                scheduler,
            })
        };
        let mut all: Vec<Disk> = entries.filter_map(disk).collect();
        all.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Self { all, offers_cost: qos.is_some(), by_path: BTreeMap::new() }
    }

    /// Those that stay, and go by no weights.
    #[must_use]
    pub fn ignoring(&self) -> Vec<&Disk> {
        self.all.iter().filter(|disk| !disk.is_removable && disk.divider().is_none()).collect()
    }

    /// Whether weights decide about anything on any of them.
    #[must_use]
    pub fn go_by_weight(&self) -> bool {
        self.all.iter().any(|disk| disk.divider().is_some())
    }

    /// Those on which BFQ decides.
    pub fn of_bfq(&self) -> impl Iterator<Item = &Disk> {
        self.all.iter().filter(|disk| disk.divider() == Some(Divider::Bfq))
    }

    /// Looks up these paths.
    pub fn look_up<'p>(&mut self, root: &Path, paths: impl Iterator<Item = &'p str>) {
        let found = paths.filter_map(|path| Some((path.to_owned(), number_of(root, Path::new(path))?)));
        self.by_path.extend(found);
    }
}

/// How long a disk has had something to do, in all: the tenth figure of its `stat`, `Documentation/block/stat.rst`.
#[must_use]
pub fn busy_time(root: &Path, disk: &Disk) -> Option<Duration> {
    let name = OsStr::from_bytes(disk.name.as_bytes());
    let stat = fs::read_to_string(root.join("sys/block").join(name).join("stat")).ok()?;
    stat.split_whitespace().nth(9)?.parse().ok().map(Duration::from_millis)
}

/// The one in brackets: `none [mq-deadline] bfq`.
fn chosen(schedulers: &str) -> Option<&str> {
    schedulers.split_once('[')?.1.split_once(']').map(|(chosen, _)| chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn disks_and_what_divides_their_time() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(Disks::read(root), Disks::default());
        for (name, number, scheduler) in [
            ("vdb", "254:16", "none mq-deadline [bfq]"),
            ("vda", "254:0", "[none] mq-deadline bfq"),
            ("sda", "8:0", "[mq-deadline] none"),
        ] {
            write(root, &format!("sys/block/{name}/device/vendor"), "");
            write(root, &format!("sys/block/{name}/dev"), &format!("{number}\n"));
            write(root, &format!("sys/block/{name}/queue/scheduler"), &format!("{scheduler}\n"));
        }
        write(root, "sys/block/loop0/dev", "7:0\n");
        write(root, "sys/block/vdb/queue/iosched/low_latency", "1\n");
        write(root, "sys/block/sr0/device/vendor", "");
        write(root, "sys/block/sr0/dev", "11:0\n");
        write(root, "sys/block/sr0/removable", "1\n");
        write(
            root,
            "sys/fs/cgroup/io.cost.qos",
            "254:0 enable=0 ctrl=auto\n8:0 enable=1 ctrl=auto rpct=0.00\n",
        );
        let disks = Disks::read(root);
        let dividers: Vec<_> =
            disks.all.iter().map(|disk| (disk.number.as_str(), disk.divider(), disk.low_latency)).collect();
        let expected = [
            ("8:0", Some(Divider::Cost), false),
            ("11:0", None, false),
            ("254:0", None, false),
            ("254:16", Some(Divider::Bfq), true),
        ];
        assert_eq!(dividers, expected);
        let ignoring: Vec<_> = disks.ignoring().into_iter().map(Disk::without_weights).collect();
        assert_eq!(ignoring, ["has the scheduler none and no io.cost"]);
        assert_eq!(disks.of_bfq().count(), 1);
        write(root, "sys/block/vdb/stat", "  62 0 992 5 0 0 0 0 0 1234 5 0 0 0 0 0 0\n");
        let busy =
            |name: &str| busy_time(root, disks.all.iter().find(|disk| disk.name.as_str() == Some(name))?);
        assert_eq!((busy("vdb"), busy("vda")), (Some(Duration::from_millis(1234)), None));
        assert!(disks.offers_cost && disks.go_by_weight());
    }
}
