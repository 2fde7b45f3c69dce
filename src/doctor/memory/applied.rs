//! The fixes, done as they are printed: what they are for is then gone, all at once.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::findings;
use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::effect::Carried;
use crate::effect::kill_order::tests::{MIB, add, memory};
use crate::effect::memory::protection;
use crate::host::tree::{Cgroup, MemoryAttributes, Tree};
use crate::units::{Amount, Memory, SliceName};

const RAM: u64 = 1000 * MIB;

/// Cgroups by their paths, and where the settings of some units stand.
#[derive(Debug, Clone, Default)]
struct Machine {
    cgroups: BTreeMap<String, MemoryAttributes>,
    files: BTreeMap<String, String>,
    carried: BTreeMap<SliceName, Carried>,
}

impl Machine {
    fn of(cgroups: &[(&str, MemoryAttributes)]) -> Self {
        let cgroups = cgroups.iter().map(|(path, memory)| ((*path).to_owned(), *memory)).collect();
        Self { cgroups, ..Self::default() }
    }

    fn written(mut self, unit: &str, file: &str) -> Self {
        self.files.insert(unit.to_owned(), file.to_owned());
        self
    }

    fn carrying(mut self, slice: &str, min: u64) -> Self {
        let memory_min = Some(Memory(Amount::Absolute(min * MIB)));
        self.carried.insert(SliceName::new(slice).unwrap(), Carried { memory_min, ..Carried::default() });
        self
    }

    fn findings(&self) -> Vec<Finding> {
        let mut tree = Tree::new(Cgroup::default());
        for (path, memory) in &self.cgroups {
            add(&mut tree, path, *memory);
        }
        let set_by = |unit: &str, _: &str| {
            Some(Place { file: self.files.get(unit)?.into(), line: Some(self.line(unit)) })
        };
        findings(&tree, &protection(&tree, true), RAM, false, &self.carried, &set_by)
    }

    fn codes(&self) -> Vec<(Code, String)> {
        self.findings().into_iter().map(|found| (found.code, found.subject.to_string())).collect()
    }

    /// A line of its own, by which a printed place is told.
    fn line(&self, unit: &str) -> usize {
        self.cgroups.keys().position(|path| path.ends_with(unit)).unwrap()
    }

    /// Does what a fix says, one of its alternatives.
    fn apply(&mut self, fix: &Fix, alternative: usize) {
        let (Fix::Edit(text) | Fix::Command(text)) = fix else { return };
        let text = text.split("; or ").nth(alternative).unwrap();
        for step in text.split(", then: ").next().unwrap().split(" && ").flat_map(|step| step.split("; ")) {
            if let Some(command) = step.strip_prefix("systemctl set-property ") {
                let mut words = command.split(' ');
                let unit = words.next().unwrap().to_owned();
                for (property, value) in words.map(|word| word.split_once('=').unwrap()) {
                    self.set(&unit, property, value);
                }
            } else if let Some((set, place)) = step.split_once(" at ") {
                let line: usize = place.rsplit_once(':').unwrap().1.parse().unwrap();
                let path = self.cgroups.keys().nth(line).unwrap();
                let unit = path.rsplit('/').next().unwrap().to_owned();
                let (property, value) = set.split_once('=').unwrap();
                let (property, value) = (property.trim(), value.trim().trim_matches('"'));
                self.set(&unit, property, value);
            } else {
                panic!("{text}");
            }
        }
    }

    fn set(&mut self, unit: &str, property: &str, value: &str) {
        let bytes = Memory::parse(value).unwrap().0.on(RAM).unwrap_or(u64::MAX);
        let mut named = self.cgroups.iter_mut().filter(|(path, _)| path.rsplit('/').next() == Some(unit));
        let (_, memory) = named.next().unwrap();
        match property {
            "MemoryMin" | "memory_min" => memory.min = bytes,
            "MemoryLow" | "memory_low" => memory.low = bytes,
            "MemoryHigh" | "memory_high" => memory.high = bytes,
            "MemoryMax" | "memory_max" => memory.max = bytes,
            unknown => panic!("{unknown}"),
        }
    }

    /// The fix of the only finding, and what is found after it was done.
    fn fixed(&self, alternative: usize) -> (Fix, Vec<(Code, String)>) {
        let [found] = self.findings().try_into().unwrap();
        let mut after = self.clone();
        after.apply(&found.fix, alternative);
        (found.fix, after.codes())
    }
}

fn min(mib: u64) -> MemoryAttributes {
    MemoryAttributes { min: mib * MIB, ..memory(0) }
}

fn limits(high: u64, max: u64) -> MemoryAttributes {
    let bytes = |mib: u64| if mib == 0 { u64::MAX } else { mib * MIB };
    MemoryAttributes { high: bytes(high), max: bytes(max), ..memory(0) }
}

#[test]
fn one_fix_is_for_the_whole_way_and_all_siblings() {
    let machine = Machine::of(&[
        ("system.slice", min(0)),
        ("system.slice/api.service", min(50)),
        ("system.slice/system-worker.slice", min(0)),
        ("system.slice/system-worker.slice/worker@1.service", min(100)),
        ("system.slice/system-worker.slice/worker@2.service", min(100)),
    ]);
    let command = "systemctl set-property system.slice MemoryMin=250M && \
                   systemctl set-property system-worker.slice MemoryMin=200M";
    assert_eq!(machine.fixed(0), (Fix::Command(command.to_owned()), vec![]));
    let [found] = machine.findings().try_into().unwrap();
    assert_eq!(found.subject.to_string(), "api.service, worker@1.service, worker@2.service");
    assert!(found.what.contains("worker@2.service: memory.min = 100M protects nothing"), "{}", found.what);
}

#[test]
fn a_sum_does_not_wrap() {
    let most = u64::from(u32::MAX) << 27;
    let large = |bytes: u64| MemoryAttributes { min: bytes, ..memory(0) };
    let inside: Vec<String> = (0..40).map(|number| format!("a.slice/{number}.service")).collect();
    let mut cgroups = vec![("a.slice", min(0))];
    cgroups.extend(inside.iter().map(|path| (path.as_str(), large(most))));
    let machine = Machine::of(&cgroups);
    // More than the machine has: less is claimed.
    let (fix, left) = machine.fixed(0);
    assert_eq!(left, []);
    let Fix::Command(command) = fix else { panic!("{fix:?}") };
    assert!(command.starts_with("systemctl set-property a.slice MemoryMin=720M && "), "{command}");
    assert!(command.ends_with("systemctl set-property 9.service MemoryMin=18M"), "{command}");
}

/// After an edit of a file of c.service's.
const WRITTEN: &str = "systemctl daemon-reload && \
                       systemd-run --quiet --wait --slice=$(systemctl show --value -p Slice c.service) true";

/// `MemoryMin=12G` on a machine with less, of a slice whose own limit is lower still.
#[test]
fn no_more_is_proposed_than_the_machine_keeps() {
    let slice = MemoryAttributes { min: 12 << 30, ..limits(680, 0) };
    let machine = Machine::of(&[
        ("a.slice", min(0)),
        ("a.slice/a-b.slice", slice),
        ("a.slice/a-b.slice/c.service", MemoryAttributes { min: 2 << 30, ..memory(0) }),
    ])
    .written("a-b.slice", "/etc/systemd/system/a-b.slice")
    .written("c.service", "/etc/systemd/system/c.service.d/memory.conf");
    let edit = "systemctl set-property a.slice MemoryMin=510M; MemoryMin=510M at /etc/systemd/system/a-b.slice:1; \
                MemoryMin=510M at /etc/systemd/system/c.service.d/memory.conf:2, \
                then: systemctl daemon-reload && systemd-run --quiet --wait --slice=a-b.slice true && \
                systemd-run --quiet --wait --slice=$(systemctl show --value -p Slice c.service) true";
    assert_eq!(machine.fixed(0), (Fix::Edit(edit.to_owned()), vec![]));
}

#[test]
fn where_two_numbers_differ_both_are_named() {
    let (policy, file) = ("/etc/fairslice/policy.toml", "/etc/systemd/system/c.service.d/memory.conf");
    let with = |policys: u64, units: u64| {
        Machine::of(&[
            ("a.slice", min(policys)),
            ("a.slice/a-b.slice", min(policys)),
            ("a.slice/a-b.slice/c.service", min(units)),
        ])
        .written("a.slice", "/run/systemd/generator/a.slice.d/40-fairslice.conf")
        .written("a-b.slice", policy)
        .written("c.service", file)
        .carrying("a.slice", policys)
    };
    let edit = format!(
        "memory_min = \"500M\" at {policy}:1, then: fairslice apply; or MemoryMin=380M at {file}:2, \
         then: {WRITTEN}"
    );
    let machine = with(380, 500);
    // What the ancestor carries follows the policy's number.
    let (fix, left) = machine.fixed(1);
    assert_eq!((fix.clone(), left), (Fix::Edit(edit), vec![]));
    let mut raised = with(380, 500);
    raised.apply(&fix, 0);
    raised.set("a.slice", "MemoryMin", "500M");
    assert_eq!(raised.codes(), []);
    // More than there is can only be the one.
    let edit = format!("MemoryMin=380M at {file}:2, then: {WRITTEN}");
    assert_eq!(with(380, 2000).fixed(0), (Fix::Edit(edit), vec![]));
}

#[test]
fn what_a_package_claims_is_one_finding_and_moderate() {
    let both = MemoryAttributes { min: 64 * MIB, low: 64 * MIB, ..memory(0) };
    let oomd = "/usr/lib/systemd/system/systemd-oomd.service";
    let cgroups = [("system.slice", min(0)), ("system.slice/systemd-oomd.service", both)];
    let machine = Machine::of(&cgroups).written("systemd-oomd.service", oomd);
    let [found] = machine.findings().try_into().unwrap();
    assert_eq!(found.code, Code::VendorProtection);
    assert_eq!(found.what, "memory.min = 64M protects nothing; memory.low = 64M protects nothing");
    let command = "systemctl set-property system.slice MemoryMin=64M MemoryLow=64M";
    assert_eq!(machine.fixed(0), (Fix::Command(command.to_owned()), vec![]));
    let own = machine.written("systemd-oomd.service", "/etc/systemd/system/systemd-oomd.service.d/a.conf");
    assert_eq!(own.codes(), [(Code::AncestorProtection, "systemd-oomd.service".to_owned())]);
}

#[test]
fn who_limits_is_named_and_raised() {
    let machine = Machine::of(&[("a.slice", limits(100, 150)), ("a.slice/b.service", limits(200, 0))]);
    let command = "systemctl set-property a.slice MemoryHigh=200M MemoryMax=250M";
    assert_eq!(machine.fixed(0), (Fix::Command(command.to_owned()), vec![]));
    let (slice, unit) = ("/etc/systemd/system/a.slice", "/etc/systemd/system/b.service");
    let machine = machine.written("a.slice", slice).written("b.service", unit);
    let [found] = machine.findings().try_into().unwrap();
    assert_eq!(found.at.as_ref().unwrap().to_string(), format!("{slice}:0"));
    assert_eq!(found.cause, "a.slice, which it is in, is limited to 100M with all below it by MemoryHigh=");
    for alternative in [0, 1] {
        assert_eq!(machine.fixed(alternative).1, [], "{:?}", found.fix);
    }
}

#[test]
fn a_limit_above_the_ram_is_set_to_one_that_holds() {
    let file = "/etc/systemd/system/c.service.d/memory.conf";
    let machine = Machine::of(&[("a.slice", limits(680, 0)), ("a.slice/c.service", limits(5500, 6000))])
        .written("c.service", file);
    let edit = format!("MemoryHigh=680M at {file}:1; MemoryMax=75% at {file}:1, then: {WRITTEN}");
    assert_eq!(machine.fixed(0), (Fix::Edit(edit), vec![]));
    let [found] = machine.findings().try_into().unwrap();
    assert_eq!(found.what, "memory.high = 5.37G and memory.max = 5.85G never hold");
    assert!(found.cause.ends_with("a.slice, which it is in, is limited to 680M with all below it"));
    // The one stays below the other.
    let alone = Machine::of(&[("c.service", limits(5500, 6000))]);
    let command = "systemctl set-property c.service MemoryHigh=600M MemoryMax=75%";
    assert_eq!(alone.fixed(0), (Fix::Command(command.to_owned()), vec![]));
}

/// What is protected is no more than what the other fix limits it to.
#[test]
fn the_fixes_of_one_unit_do_not_contradict_one_another() {
    let limited = MemoryAttributes { min: 2000 * MIB, ..limits(5500, 6000) };
    let mut machine = Machine::of(&[("a.slice", min(0)), ("a.slice/c.service", limited)]);
    for found in machine.findings() {
        machine.apply(&found.fix, 0);
    }
    assert_eq!(machine.codes(), []);
    let memory = machine.cgroups.get("a.slice/c.service").unwrap();
    assert_eq!((memory.min, memory.high, memory.max), (450 * MIB, 600 * MIB, 750 * MIB));
}

/// For each cgroup: in which of the slices before it, what it uses and sets, and where that stands.
type Plan = Vec<(prop::sample::Index, MemoryAttributes, u8)>;

fn plans() -> impl Strategy<Value = Plan> {
    let amount = || prop_oneof![3 => Just(0_u64), 2 => 1..300_u64, 1 => 300..3000_u64];
    let limit = || prop_oneof![3 => Just(u64::MAX), 2 => 1..900_u64, 1 => 900..3000_u64];
    let attributes =
        (0..100_u64, amount(), amount(), limit(), limit()).prop_map(|(used, min, low, high, max)| {
            let bytes = |mib: u64| mib.saturating_mul(MIB);
            // What one unit sets of its own against itself is another finding.
            let (high, max) = if high < max { (high, max) } else { (u64::MAX, max) };
            let (high, max) = (bytes(high), bytes(max));
            MemoryAttributes { min: bytes(min), low: bytes(low), high, max, ..memory(used * MIB) }
        });
    prop::collection::vec((any::<prop::sample::Index>(), attributes, 0..5_u8), 1..10)
}

fn planned(plan: &Plan) -> Machine {
    let mut machine = Machine::default();
    let mut slices = vec![(String::new(), String::new())];
    for (number, (parent, memory, file)) in plan.iter().enumerate() {
        let (above, stem) = parent.get(&slices).clone();
        let unit = if number % 3 == 2 {
            format!("u{number}.service")
        } else if stem.is_empty() {
            format!("s{number}.slice")
        } else {
            format!("{stem}-s{number}.slice")
        };
        let path = format!("{above}{unit}");
        if let Some(stem) = unit.strip_suffix(".slice") {
            slices.push((format!("{path}/"), stem.to_owned()));
        }
        machine.cgroups.insert(path, *memory);
        let file = match file {
            0 | 1 => continue,
            2 => format!("/etc/systemd/system/{unit}.d/memory.conf"),
            3 => "/etc/fairslice/policy.toml".to_owned(),
            _ => format!("/usr/lib/systemd/system/{unit}"),
        };
        machine.files.insert(unit, file);
    }
    machine
}

const CEILINGS: [Code; 2] = [Code::CeilingAboveRam, Code::CeilingAboveAncestors];
const PROTECTIONS: [Code; 2] = [Code::AncestorProtection, Code::VendorProtection];

proptest! {
    #[test]
    fn all_that_is_printed_is_done_and_nothing_is_left(plan in plans(), ceilings: bool, second: bool) {
        let codes = if ceilings { CEILINGS } else { PROTECTIONS };
        let machine = planned(&plan);
        let before = machine.codes();
        let mut after = machine.clone();
        for found in machine.findings().iter().filter(|found| codes.contains(&found.code)) {
            let has_two = matches!(&found.fix, Fix::Edit(text) if text.contains("; or "));
            after.apply(&found.fix, usize::from(second && has_two && !ceilings));
        }
        let left = after.codes();
        prop_assert!(!left.iter().any(|(code, _)| codes.contains(code)), "{before:#?} {left:#?} {after:#?}");
        let too_much = |found: &&(Code, String)| found.0 == Code::Overcommitted && !before.contains(found);
        prop_assert_eq!(left.iter().find(too_much), None);
    }
}
