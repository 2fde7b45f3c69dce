//! I/O weights by which nothing goes.
#![forbid(unsafe_code)]

use super::SetBy;
use super::finding::{Code, Finding, Fix};
use crate::host::disk::{Disk, Disks};
use crate::host::tree::Tree;
use crate::host::units::{Unit, Units};
use crate::text::{and_more, shown};
use crate::units::{IO_WEIGHT, Weight};

/// So many units, and disks, are named.
const MOST_NAMED: usize = 3;

/// [`Code::IoWeightIgnored`]: units that run have an I/O weight, and no disk goes by weights. One finding for all
/// of them.
#[must_use]
pub fn findings(tree: &Tree, units: &Units, disks: &Disks, set_by: SetBy<'_>) -> Option<Finding> {
    if disks.all.is_empty() || disks.all.iter().any(Disk::goes_by_weight) {
        return None;
    }
    let runs = |unit: &Unit| {
        let cgroup = unit.cgroup().and_then(|path| tree.find(&path));
        cgroup.is_some_and(|id| id != Tree::ROOT && tree[id].populated)
    };
    let setting = |(name, unit): (&str, &Unit)| {
        let weight = unit.number(IO_WEIGHT.unit).filter(|weight| *weight != Weight::DEFAULT.get());
        let of_device = || set_by(name, DEVICE_WEIGHT).map(|at| (DEVICE_WEIGHT.to_owned(), Some(at)));
        let one = weight.map(|weight| (format!("{}={weight}", IO_WEIGHT.unit), set_by(name, IO_WEIGHT.unit)));
        one.or_else(of_device).filter(|_| runs(unit)).map(|(what, at)| (name.to_owned(), what, at))
    };
    let mut found: Vec<_> = units.iter().filter_map(setting).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let (_, what, at) = found.first()?.clone();
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    Some(Finding {
        code: Code::IoWeightIgnored,
        subject: names.iter().copied().collect(),
        what: if names.len() == 1 {
            format!("{what} decides nothing")
        } else {
            "their I/O weights decide nothing".to_owned()
        },
        cost: Some("whoever reads and writes the most gets the most of the disks".to_owned()),
        cause: format!(
            "no disk goes by weights: {}",
            named(&disks.all.iter().map(has).collect::<Vec<_>>(), ", ")
        ),
        at,
        fix: fix(disks),
    })
}

const DEVICE_WEIGHT: &str = "IODeviceWeight";

/// What there is for a disk instead.
fn has(disk: &Disk) -> String {
    let scheduler = disk.scheduler.as_deref().unwrap_or("none");
    format!("{} has the scheduler {} and no io.cost", shown(&disk.name), shown(scheduler))
}

/// As systemd writes `io.weight` whatever the disks have, io.cost goes by it at once; `io.bfq.weight` is there only
/// while a disk has BFQ, and written when a unit is started after that.
fn fix(disks: &Disks) -> Fix {
    if !disks.offers_cost {
        let what = "give the disks the scheduler bfq (/sys/block/NAME/queue/scheduler) and start the units anew, or take the weights out";
        return Fix::Edit(what.to_owned());
    }
    let lines = disks
        .all
        .iter()
        .map(|disk| format!("w /sys/fs/cgroup/io.cost.qos - - - - {} enable=1", shown(&disk.number)));
    let lines = lines.collect::<Vec<_>>().join(r"\n");
    Fix::Command(format!(
        "printf '{lines}\\n' > /etc/tmpfiles.d/io-cost.conf && systemd-tmpfiles --create io-cost.conf"
    ))
}

fn named(all: &[impl AsRef<str>], separator: &str) -> String {
    let named: Vec<&str> = all.iter().take(MOST_NAMED).map(AsRef::as_ref).collect();
    format!("{}{}", named.join(separator), and_more(all.len().saturating_sub(MOST_NAMED)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Place;
    use crate::host::tree::Cgroup;

    fn disk(name: &str, scheduler: &str, has_cost: bool) -> Disk {
        Disk {
            name: name.into(),
            number: "254:0".to_owned(),
            scheduler: Some(scheduler.to_owned()),
            has_cost,
        }
    }

    fn found(disks: &[Disk], offers_cost: bool, units: &[(&str, &str)]) -> Option<Finding> {
        let mut tree = Tree::new(Cgroup::default());
        let mut text = Vec::new();
        for (name, weight) in units {
            tree.add(Tree::ROOT, *name, Cgroup { populated: *name != "stopped.slice", ..Cgroup::default() });
            text.push(format!("Id={name}\nControlGroup=/{name}\nIOWeight={weight}\n\n"));
        }
        let set_by = |unit: &str, key: &str| {
            let of_device = unit == "device.slice" && key == "IODeviceWeight";
            (of_device || unit == "heavy.slice" && key == "IOWeight")
                .then(|| Place { file: "/x".into(), line: Some(3) })
        };
        findings(
            &tree,
            &Units::parse(&text.concat()),
            &Disks { all: disks.to_vec(), offers_cost, ..Disks::default() },
            &set_by,
        )
    }

    #[test]
    fn weights_that_no_disk_goes_by_are_found_once() {
        let none = [disk("vda", "none", false)];
        let heavy = [
            ("heavy.slice", "400"),
            ("plain.slice", "[not set]"),
            ("usual.slice", "100"),
            ("stopped.slice", "500"),
        ];
        let one = found(&none, true, &heavy).unwrap();
        assert_eq!(
            (one.subject.to_string().as_str(), one.what.as_str()),
            ("heavy.slice", "IOWeight=400 decides nothing")
        );
        assert_eq!(one.cause, "no disk goes by weights: vda has the scheduler none and no io.cost");
        assert_eq!(one.at.unwrap().to_string(), "/x:3");
        let command = r"printf 'w /sys/fs/cgroup/io.cost.qos - - - - 254:0 enable=1\n' > /etc/tmpfiles.d/io-cost.conf && systemd-tmpfiles --create io-cost.conf";
        assert_eq!(one.fix, Fix::Command(command.to_owned()));
        let both = found(&none, false, &[("heavy.slice", "400"), ("device.slice", "[not set]")]).unwrap();
        assert_eq!(both.subject.to_string(), "device.slice, heavy.slice");
        assert!(matches!(both.fix, Fix::Edit(fix) if fix.contains("bfq")));
        assert_eq!(found(&none, true, &[("plain.slice", "[not set]")]), None);
        // One of the disks does, and where there is none it is not known.
        for disks in
            [&[disk("vda", "none", false), disk("vdb", "bfq", false)][..], &[disk("vda", "none", true)], &[]]
        {
            assert_eq!(found(disks, true, &heavy), None);
        }
    }
}
