//! I/O weights by which nothing goes, or not as they say.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::PlaceOf;
use super::cost::percent;
use super::finding::{Code, Finding, Fix, Place};
use super::remedy::{self, NewValue};
use super::{is_admins, is_alone, is_in_common};
use crate::effect::io_share::part;
use crate::host::disk::{Disk, Disks};
use crate::host::io_weights::IoWeights;
use crate::host::tree::{Each, Id, Tree};
use crate::host::units::{Unit, Units};
use crate::text::{and_more, shown};
use crate::units::{IO_WEIGHT, Weight};

/// So many units, and disks, are named.
const MOST_NAMED: usize = 3;
/// So much less of its parent's part is worth a word.
const WORTH_A_WORD: f64 = 0.05;
/// So many weights are named one by one.
const MOST_CHANGES: usize = 8;
const DEVICE_WEIGHT: &str = "IODeviceWeight";

/// What is wrong with I/O weights, in a tree whose `weights` have been read where a disk has BFQ. Codes: FS013, FS076,
/// FS077, FS079, FS084.
#[must_use]
pub fn findings(
    tree: &Tree,
    units: &Units,
    disks: &Disks,
    weights: &Each<IoWeights>,
    set_by: PlaceOf<'_>,
) -> Vec<Finding> {
    let scene = IoScene { tree, units, disks, weights, set_by };
    let mut weighted: Vec<Weighted<'_>> =
        units.iter().filter_map(|(name, unit)| scene.weighted(name, unit)).collect();
    weighted.sort_by_key(|weighted| weighted.name);
    let mut found: Vec<Finding> = scene.ignored(&weighted).into_iter().collect();
    if disks.go_by_weight() {
        found.extend(weighted.iter().filter_map(|weighted| scene.beside_nothing(weighted)));
    }
    if let Some(disk) = disks.of_bfq().next() {
        found.extend(weighted.iter().filter_map(|weighted| {
            scene.unwritten(weighted, disk).or_else(|| scene.rounded(weighted, disk))
        }));
    }
    found
}

struct IoScene<'a> {
    tree: &'a Tree,
    units: &'a Units,
    disks: &'a Disks,
    weights: &'a Each<IoWeights>,
    set_by: PlaceOf<'a>,
}

/// A unit that runs, with a weight of its own.
struct Weighted<'a> {
    name: &'a str,
    id: Id,
    /// That for all disks; `None` where only one for a single disk is set.
    weight: Option<Weight>,
    at: Option<Place>,
}

impl Weighted<'_> {
    fn setting(&self) -> String {
        match self.weight {
            Some(weight) => format!("{}={weight}", IO_WEIGHT.unit),
            None => DEVICE_WEIGHT.to_owned(),
        }
    }
}

impl IoScene<'_> {
    fn weighted<'u>(&self, name: &'u str, unit: &Unit) -> Option<Weighted<'u>> {
        let id = self.tree.find(&unit.cgroup()?).filter(|id| *id != Tree::ROOT)?;
        let weight =
            unit.number(IO_WEIGHT.unit).and_then(Weight::new).filter(|weight| *weight != Weight::DEFAULT);
        let of_all = || weight.map(|_| (self.set_by)(name, IO_WEIGHT.unit));
        let of_one = || (self.set_by)(name, DEVICE_WEIGHT).map(Some);
        let at = self.tree[id].populated.then(|| of_all().or_else(of_one)).flatten()?;
        Some(Weighted { name, id, weight, at })
    }

    /// [`Code::IoWeightIgnored`] where no disk goes by weights, [`Code::IoWeightInPart`] where some do not. One finding
    /// for all units.
    fn ignored(&self, weighted: &[Weighted<'_>]) -> Option<Finding> {
        let ignoring = self.disks.ignoring();
        let in_part = self.disks.go_by_weight();
        // On which disk a weight for a single one is, is not known.
        let found = weighted.iter().filter(|weighted| !in_part || weighted.weight.is_some());
        let found: Vec<&Weighted<'_>> = found.collect();
        let first = found.first().filter(|_| !ignoring.is_empty())?;
        let disk = |disk: &&Disk| format!("{} {}", shown(&disk.name), disk.without_weights());
        let ignore = named(&ignoring.iter().map(disk).collect::<Vec<_>>(), ", ");
        let on = if in_part {
            let names: Vec<String> = ignoring.iter().map(|disk| shown(&disk.name).to_string()).collect();
            format!(" on {}", named(&names, ", "))
        } else {
            String::new()
        };
        Some(Finding {
            code: if in_part { Code::IoWeightInPart } else { Code::IoWeightIgnored },
            subject: found.iter().map(|weighted| weighted.name).collect(),
            what: if found.len() == 1 {
                format!("{} decides nothing{on}", first.setting())
            } else {
                format!("their I/O weights decide nothing{on}")
            },
            cost: Some("whoever reads and writes the most gets the most of the disks".to_owned()),
            cause: if in_part {
                format!("not every disk goes by weights: {ignore}")
            } else {
                format!("no disk goes by weights: {ignore}")
            },
            at: first.at.clone(),
            fix: self.fix(&ignoring, &found),
        })
    }

    /// As systemd writes `io.weight` whatever the disks have, io.cost goes by it at once; `io.bfq.weight` is there only
    /// while BFQ is loaded, and written when a unit is started after that.
    fn fix(&self, ignoring: &[&Disk], weighted: &[&Weighted<'_>]) -> Fix {
        // Each file has all of them, those of before too.
        let is_ignoring = |disk: &Disk| ignoring.iter().any(|ignoring| ignoring.number == disk.number);
        let all = |has_it: fn(&Disk) -> bool| {
            self.disks.all.iter().filter(move |disk| has_it(disk) || is_ignoring(disk))
        };
        let name = |disk: &Disk| shown(&disk.name).to_string();
        let paths: Vec<String> = ignoring.iter().map(|disk| format!("/sys/block/{}", name(disk))).collect();
        let written = remedy::written(&weighted.iter().map(|weighted| weighted.name).collect(), false);
        let bfq = format!(
            "printf 'ACTION!=\"remove\", SUBSYSTEM==\"block\", KERNEL==\"{}\", ATTR{{queue/scheduler}}=\"bfq\"\\n' > \
             /etc/udev/rules.d/60-bfq.rules && udevadm control --reload && udevadm trigger --action=change --settle {} && {written}",
            all(Disk::has_bfq).map(name).collect::<Vec<_>>().join("|"),
            paths.join(" "),
        );
        if !self.disks.offers_cost {
            return Fix::Command(bfq);
        }
        // Of several "w" of one path, systemd-tmpfiles does the first alone.
        let line =
            |disk: &Disk| format!("w+ /sys/fs/cgroup/io.cost.qos - - - - {} enable=1", shown(&disk.number));
        let lines: Vec<String> = all(|disk| disk.has_cost).map(line).collect();
        Fix::Edit(format!(
            "printf '{}\\n' > /etc/tmpfiles.d/io-cost.conf && systemd-tmpfiles --create io-cost.conf; or {bfq}",
            lines.join(r"\n")
        ))
    }

    /// [`Code::NothingBeside`]: it competes with nobody, and what it is in weighs something else.
    fn beside_nothing(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let weight = unit.weight?;
        let parent = self.tree[unit.id].parent.filter(|parent| *parent != Tree::ROOT)?;
        let name = self.tree.unit(parent)?;
        let set = |name: &str| self.units.get(name)?.number(IO_WEIGHT.unit);
        let above = set(name);
        let suspect = above != Some(weight.get())
            && unit.at.as_ref().is_some_and(is_admins)
            && (above.is_none() || (self.set_by)(name, IO_WEIGHT.unit).is_some_and(|at| is_admins(&at)))
            && !is_in_common(self.tree, unit.id)
            && is_alone(self.tree, self.units, unit.id);
        let ancestors = self.tree.upwards(parent).filter(|id| *id != Tree::ROOT);
        let ancestors: Vec<&str> = ancestors.filter_map(|id| self.tree.unit(id)).collect();
        let are_unset = ancestors.iter().all(|name| set(name).is_none());
        let raise = |name: &&str| NewValue {
            unit: (*name).to_owned(),
            property: IO_WEIGHT.unit,
            value: weight.to_string(),
        };
        suspect.then(|| Finding {
            code: Code::NothingBeside,
            subject: unit.name.into(),
            what: format!("{} decides nothing", unit.setting()),
            cost: None,
            cause: format!(
                "nothing else is in {name}, whose own weight, {}, counts against all else",
                above.unwrap_or(Weight::DEFAULT.get())
            ),
            at: unit.at.clone(),
            fix: if are_unset {
                remedy::fix(&ancestors.iter().map(raise).collect::<Vec<_>>(), self.set_by)
            } else {
                remedy::without(unit.name, IO_WEIGHT.unit, self.set_by)
            },
        })
    }

    /// [`Code::NotWritten`]: BFQ was loaded after the weight was set.
    fn unwritten(&self, unit: &Weighted<'_>, disk: &Disk) -> Option<Finding> {
        let weight = unit.weight?;
        let (set, counts) = self.on(unit.id, disk)?;
        let due = weight.of_bfq().get();
        // One for this disk alone is another setting.
        if set != weight.get() || counts == due {
            return None;
        }
        Some(Finding {
            code: Code::NotWritten,
            subject: unit.name.into(),
            what: format!("{} counts as {counts} on {}, not as {due}", unit.setting(), shown(&disk.name)),
            cost: None,
            cause: "PID 1 has written no io.bfq.weight there since BFQ was loaded".to_owned(),
            at: unit.at.clone(),
            fix: Fix::Command(remedy::written(&BTreeSet::from([unit.name]), false)),
        })
    }

    /// [`Code::BfqRounds`]: what systemd makes of a weight above 100, for BFQ, leaves the unit less than its part while
    /// all beside it are busy.
    fn rounded(&self, unit: &Weighted<'_>, disk: &Disk) -> Option<Finding> {
        let weight = unit.weight.filter(|weight| *weight > Weight::DEFAULT)?;
        let parent = self.tree[unit.id].parent?;
        let beside = self.tree[parent].children.iter().filter(|id| self.tree[**id].populated);
        let beside: Vec<(Id, u64, u64)> =
            beside.filter_map(|id| self.on(*id, disk).map(|(set, counts)| (*id, set, counts))).collect();
        let (set, counts) = self.on(unit.id, disk)?;
        let sum = |of: fn(&(Id, u64, u64)) -> u64| beside.iter().map(of).sum();
        let declared = part(set, sum(|(_, set, _)| *set));
        let effective = part(counts, sum(|(.., counts)| *counts));
        if declared - effective < WORTH_A_WORD {
            return None;
        }
        Some(Finding {
            code: Code::BfqRounds,
            subject: unit.name.into(),
            what: format!("{} counts as {counts} on {}", unit.setting(), shown(&disk.name)),
            cost: Some(format!(
                "with all beside it busy it gets {} of the disk's time, not {}",
                percent(effective),
                percent(declared)
            )),
            cause: format!(
                "its scheduler is bfq, whose weights end at 1000: systemd writes a point more for each 11 above {}",
                Weight::DEFAULT
            ),
            at: unit.at.clone(),
            fix: self.below_default(weight, parent, &beside),
        })
    }

    /// All of them so many times smaller that the largest is 100: up to that, BFQ has them as they are.
    fn below_default(&self, weight: Weight, parent: Id, beside: &[(Id, u64, u64)]) -> Fix {
        let most = beside.iter().map(|(_, set, _)| *set).max().unwrap_or(weight.get());
        let change = |(id, set, _): &(Id, u64, u64)| {
            let value = (set * Weight::DEFAULT.get() / most.max(1)).max(1).to_string();
            Some(NewValue { unit: self.tree.unit(*id)?.to_owned(), property: IO_WEIGHT.unit, value })
        };
        let changes: Vec<NewValue> = beside.iter().filter_map(change).collect();
        if changes.len() > MOST_CHANGES {
            return Fix::Edit(format!(
                "divide the {}= of all that is in {} by {:.1}",
                IO_WEIGHT.unit,
                shown(&self.tree.name(parent)),
                part(most, Weight::DEFAULT.get())
            ));
        }
        remedy::fix(&changes, self.set_by)
    }

    /// What a cgroup's `io.weight` is for a disk, and what it counts there.
    fn on(&self, id: Id, disk: &Disk) -> Option<(u64, u64)> {
        let weights = self.weights.get(id)?;
        Some((weights.set_for(disk)?, weights.on(disk)?))
    }
}

fn named(all: &[impl AsRef<str>], separator: &str) -> String {
    let named: Vec<&str> = all.iter().take(MOST_NAMED).map(AsRef::as_ref).collect();
    format!("{}{}", named.join(separator), and_more(all.len().saturating_sub(MOST_NAMED)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::fixture;
    use crate::host::tree::Cgroup;

    fn disk(name: &str, scheduler: &str, has_cost: bool) -> Disk {
        let number = if name == "vda" { "254:0" } else { "254:16" };
        Disk { is_removable: name == "sr0", ..fixture::disk(name, number, scheduler, has_cost) }
    }

    /// Of units beside one another: name, `IOWeight=` of PID 1's, and `io.bfq.weight`.
    fn found(disks: &[Disk], offers_cost: bool, units: &[(&str, &str, u64)]) -> Vec<Finding> {
        let mut tree = Tree::new(Cgroup::default());
        let mut text = String::new();
        for (name, weight, _) in units {
            let outer = tree.find("outer.slice".as_ref()).filter(|_| name.starts_with("outer-"));
            let parent = outer.unwrap_or(Tree::ROOT);
            tree.add(parent, *name, Cgroup { populated: *name != "stopped.slice", ..Cgroup::default() });
            let (path, slice) = match outer {
                Some(_) => (format!("outer.slice/{name}"), "outer.slice"),
                None => ((*name).to_owned(), "-.slice"),
            };
            write!(text, "Id={name}\nControlGroup=/{path}\nSlice={slice}\nIOWeight={weight}\n\n").unwrap();
        }
        let mut weights = Each::none(&tree);
        for (name, weight, bfq) in units {
            let cost: u64 = weight.parse().unwrap_or(100);
            let of = IoWeights::parse(Some(&format!("default {cost}")), Some(&format!("default {bfq}")));
            let id = tree.ids().find(|id| tree.unit(*id) == Some(name)).unwrap();
            weights.insert(id, of);
        }
        let set_by = |unit: &str, key: &str| {
            let of_device = unit == "device.slice" && key == "IODeviceWeight";
            let is_set = |(name, weight, _): &(&str, &str, u64)| *name == unit && *weight != "[not set]";
            let is_set = key == "IOWeight" && unit != "plain.slice" && units.iter().any(is_set);
            (of_device || is_set).then(|| Place { file: "/etc/x".into(), line: Some(3) })
        };
        let disks = Disks { all: disks.to_vec(), offers_cost, ..Disks::default() };
        findings(&tree, &Units::parse(&text), &disks, &weights, &set_by)
    }

    #[track_caller]
    fn only(found: Vec<Finding>) -> Finding {
        let [one] = found.try_into().unwrap();
        one
    }

    const HEAVY: [(&str, &str, u64); 4] = [
        ("heavy.slice", "400", 127),
        ("plain.slice", "[not set]", 100),
        ("usual.slice", "100", 100),
        ("stopped.slice", "500", 136),
    ];

    #[test]
    fn weights_that_no_disk_goes_by_are_found_once() {
        let none = [disk("sr0", "mq-deadline", false), disk("vda", "none", false)];
        let one = only(found(&none, true, &HEAVY));
        assert_eq!((one.code, one.subject.to_string().as_str()), (Code::IoWeightIgnored, "heavy.slice"));
        assert_eq!(one.what, "IOWeight=400 decides nothing");
        assert_eq!(one.cause, "no disk goes by weights: vda has the scheduler none and no io.cost");
        assert_eq!(one.at.unwrap().to_string(), "/etc/x:3");
        let cost = r"printf 'w+ /sys/fs/cgroup/io.cost.qos - - - - 254:0 enable=1\n' > /etc/tmpfiles.d/io-cost.conf && systemd-tmpfiles --create io-cost.conf";
        let rule = r#"printf 'ACTION!="remove", SUBSYSTEM=="block", KERNEL=="vda", ATTR{queue/scheduler}="bfq"\n' > /etc/udev/rules.d/60-bfq.rules"#;
        let bfq = format!(
            "{rule} && udevadm control --reload && udevadm trigger --action=change --settle /sys/block/vda && \
             systemctl daemon-reload && systemd-run --quiet --wait --slice=heavy.slice true"
        );
        assert_eq!(one.fix, Fix::Edit(format!("{cost}; or {bfq}")));
        assert_eq!(only(found(&none, false, &HEAVY)).fix, Fix::Command(bfq));
        let both = [("heavy.slice", "400", 127), ("device.slice", "[not set]", 100)];
        assert_eq!(only(found(&none, false, &both)).subject.to_string(), "device.slice, heavy.slice");
        assert_eq!(found(&none, true, &[("plain.slice", "[not set]", 100)]), []);
        // Where there is none it is not known.
        for disks in [&[disk("vda", "none", true)][..], &[]] {
            assert_eq!(found(disks, true, &HEAVY), []);
        }
    }

    #[test]
    fn disks_that_go_by_no_weights_beside_others_are_named() {
        let disks = [disk("vda", "none", false), disk("vdb", "bfq", true)];
        let one = only(found(&disks, true, &HEAVY));
        let Fix::Edit(fix) = &one.fix else { panic!("{one:?}") };
        // What was enabled before stays so.
        assert!(fix.contains("254:0 enable=1") && fix.contains("254:16 enable=1"), "{fix}");
        assert!(fix.contains("KERNEL==\"vda|vdb\"") && fix.contains("--settle /sys/block/vda &&"), "{fix}");
        assert_eq!(
            (one.code, one.what.as_str()),
            (Code::IoWeightInPart, "IOWeight=400 decides nothing on vda")
        );
        assert_eq!(one.cause, "not every disk goes by weights: vda has the scheduler none and no io.cost");
        assert_eq!(found(&disks, true, &[("device.slice", "[not set]", 100)]), []);
    }

    #[test]
    fn what_bfq_makes_of_a_weight_is_said() {
        let bfq = [disk("vda", "bfq", false)];
        let one = only(found(&bfq, true, &HEAVY));
        assert_eq!((one.code, one.what.as_str()), (Code::BfqRounds, "IOWeight=400 counts as 127 on vda"));
        let cost = "with all beside it busy it gets 38.8% of the disk's time, not 66.7%";
        assert_eq!(one.cost.as_deref(), Some(cost));
        let fix = "IOWeight=100 at /etc/x:3; systemctl set-property plain.slice IOWeight=25; IOWeight=25 at /etc/x:3, \
                   then: systemctl daemon-reload && systemd-run --quiet --wait --slice=heavy.slice true && \
                   systemd-run --quiet --wait --slice=usual.slice true";
        assert_eq!(one.fix, Fix::Edit(fix.to_owned()));
        let halved = [("heavy.slice", "100", 100), ("plain.slice", "25", 25)];
        assert_eq!(found(&bfq, true, &halved), []);
        // Beside nothing, it makes no difference, nor where io.cost decides.
        assert_eq!(found(&bfq, true, &HEAVY[..1]), []);
        assert_eq!(found(&[disk("vda", "bfq", true)], true, &HEAVY), []);
    }

    #[test]
    fn a_weight_beside_nothing_is_said() {
        let cost = [disk("vda", "none", true)];
        let inside = |outer, more: &[(&'static str, &'static str, u64)]| {
            let units = [("outer.slice", outer, 100), ("outer-heavy.slice", "300", 118)];
            found(&cost, true, &[&units, more].concat())
        };
        let one = only(inside("[not set]", &[]));
        assert_eq!((one.code, one.subject.to_string().as_str()), (Code::NothingBeside, "outer-heavy.slice"));
        let cause = "nothing else is in outer.slice, whose own weight, 100, counts against all else";
        assert_eq!(one.cause, cause);
        assert_eq!(one.fix, Fix::Command("systemctl set-property outer.slice IOWeight=300".to_owned()));
        let one = only(inside("200", &[]));
        let fix = "IOWeight= at /etc/x:3, then: systemctl daemon-reload && systemd-run --quiet --wait \
                   --slice=outer-heavy.slice true";
        assert_eq!(one.fix, Fix::Edit(fix.to_owned()));
        assert_eq!(inside("300", &[]), []);
        assert_eq!(inside("200", &[("outer-light.slice", "[not set]", 100)]), []);
    }

    #[test]
    fn a_weight_that_bfq_was_not_told_is_not_written() {
        let bfq = [disk("vda", "bfq", false)];
        let one = only(found(&bfq, true, &[("heavy.slice", "50", 100), ("plain.slice", "[not set]", 100)]));
        assert_eq!(
            (one.code, one.what.as_str()),
            (Code::NotWritten, "IOWeight=50 counts as 100 on vda, not as 50")
        );
        let command = "systemctl daemon-reload && systemd-run --quiet --wait --slice=heavy.slice true";
        assert_eq!(one.fix, Fix::Command(command.to_owned()));
    }
}
