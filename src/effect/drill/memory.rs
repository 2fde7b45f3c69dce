//! Memory: a small model of the cgroups that the policy is about, with what protects and limits memory in them.
//!
//! On the machine itself a protection shows where memory is short, and a ceiling where it is reached, and nobody is to feel
//! either. So there are cgroups as the machine has them, with settings that are so much smaller that all of it fits into
//! [`SIZE`], and in the place of each service and login a load that fills the page cache.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Of;
use super::places::{self, Place, Values, declared_slices, places, with_slice};
use super::rows::{Found, Row, rows};
use crate::effect::Carried;
use crate::effect::memory::{Guard, protection};
use crate::host::machine::Machine;
use crate::host::tree::{Cgroup, Id, MemoryAttributes, Tree};
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::{MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, Property, SliceName};

/// What all loads hold together at most, in bytes.
pub const SIZE: u64 = 48 << 20;
/// A limit in the model is at least this: what a process needs of the kernel to read at all has to fit.
const LEAST: u64 = 256 << 10;
/// So many fourths of what a cgroup sets are asked of it: it is to have something to lose.
const BEYOND: u64 = 5;
/// So small a part of what is protected all loads have beyond that.
const MORE: u64 = 25;
/// How often what is left is computed anew from what is left: it has become stable long before.
const ROUNDS: usize = 50;
/// The cgroup of one more load, which stands for nobody and has nothing that is protected: were protections not honoured,
/// the others would lose as much as it does.
const REST: &str = "rest";

/// What is started, and the cgroups that it is started in.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where loads go, in the order in which they are started.
    pub places: Vec<Place>,
    /// Who is not stood for, and why.
    pub left_out: Vec<(Of, &'static str)>,
    now: Model,
    declared: Model,
    ram: u64,
    recursive: bool,
}

/// Slices and loads, with what they set as the machine has it; the root sets nothing.
#[derive(Debug, Clone)]
struct Model {
    tree: Tree,
    loads: Vec<Id>,
}

/// What the loads read, and how large the model's settings are then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// What that is all together, in bytes of the machine: as many as [`SIZE`] in the model.
    pub whole: u64,
    /// How much each of them reads, in bytes of the model, and last the one that stands for nobody.
    pub reads: Vec<u64>,
    /// What the model's cgroups set, by their paths from its root, in bytes; [`u64::MAX`] is no limit.
    pub settings: Vec<(PathBuf, Property, u64)>,
}

/// How much of what the loads have read is left to each, once the rest has been reclaimed.
#[derive(Debug, Clone)]
pub struct Protected {
    /// What they read.
    pub fill: Fill,
    /// How much is left to all of them together, in bytes of the model.
    pub kept: u64,
    declared: Vec<f64>,
    predicted: Vec<f64>,
}

/// How much the loads in a cgroup get that has a ceiling.
#[derive(Debug, Clone)]
pub struct Limited {
    /// What they read.
    pub fill: Fill,
    /// The cgroup, by its path from the model's root.
    pub cgroup: PathBuf,
    of: Of,
    depth: usize,
    declared: u64,
    predicted: u64,
}

/// A place beside every service of whose memory the policy says something, or that a slice of its holds, and every login;
/// and in each slice of the policy's in which nothing of that runs. The memory of `tree`, which is the machine's, has been
/// read; `recursive` is whether it is mounted with `memory_recursiveprot`.
#[must_use]
pub fn plan(
    policy: &Policy,
    carried: &BTreeMap<SliceName, Carried>,
    live: &Snapshot,
    tree: &Tree,
    machine: Machine,
    recursive: bool,
) -> Plan {
    let says = |values: &Values| {
        values
            .iter()
            .any(|(property, _)| [MEMORY_MIN, MEMORY_LOW, MEMORY_HIGH, MEMORY_MAX].contains(property))
    };
    let places::Plan { loads: places, left_out } = places(policy, live, says);
    let now = Model::of(&places, |place| &place.slice, tree);
    let mut declared = Model::of(&places, |place| &place.declared_slice, tree);
    for (slice, values) in declared_slices(policy, carried, live) {
        if let Some(id) = declared.tree.find(&slice.cgroup()) {
            declared.give(id, &values, machine);
        }
    }
    for (at, place) in places.iter().enumerate() {
        if let Some(id) = declared.loads.get(at) {
            declared.give(*id, &place.settings(policy), machine);
        }
    }
    Plan { places, left_out, now, declared, ram: machine.ram, recursive }
}

impl Model {
    /// The slices that these places are in, each with a load in it, as the machine has them.
    fn of(places: &[Place], slice: impl Fn(&Place) -> &SliceName, machine: &Tree) -> Self {
        let mut tree = Tree::new(Cgroup::default());
        let add = |place: &Place| {
            let slice = with_slice(&mut tree, slice(place));
            let id = tree.add(slice, place.of.unit(), Cgroup::default());
            (id, place.own)
        };
        let loads: Vec<(Id, Option<Id>)> = places.iter().map(add).collect();
        for id in tree.ids().skip(1) {
            let as_load = loads.iter().find(|(load, _)| *load == id);
            let same = as_load.map_or_else(|| machine.find(&tree.path(id)), |(_, own)| *own);
            let memory = same.and_then(|same| machine[same].memory).unwrap_or_default();
            tree.set_memory(id, MemoryAttributes { current: 0, ..memory });
        }
        Self { tree, loads: loads.into_iter().map(|(load, _)| load).collect() }
    }

    fn memory(&self, id: Id) -> MemoryAttributes {
        self.tree[id].memory.unwrap_or_default()
    }

    fn give(&mut self, id: Id, values: &Values, machine: Machine) {
        let mut memory = self.memory(id);
        for (property, value) in values {
            let amount = machine.number(value);
            match *property {
                MEMORY_MIN => memory.min = amount,
                MEMORY_LOW => memory.low = amount,
                MEMORY_HIGH => memory.high = amount,
                MEMORY_MAX => memory.max = amount,
                _ => {}
            }
        }
        self.tree.set_memory(id, memory);
    }

    /// The places of the loads in a cgroup.
    fn loads_in(&self, id: Id) -> Vec<usize> {
        let loads = self.loads.iter().enumerate();
        loads
            .filter(|(_, load)| self.tree.upwards(**load).any(|above| above == id))
            .map(|(at, _)| at)
            .collect()
    }

    /// What reclaim leaves to each load where all of them want far more: with no more than that, nothing is reclaimed.
    fn due(&self, plan: &Plan) -> Vec<u64> {
        let wanted = self.loads.iter().map(|load| {
            let memory = self.memory(*load);
            memory.min.max(memory.low).min(plan.ram).saturating_add(plan.ram)
        });
        let mut due = self.kept(&wanted.collect::<Vec<_>>(), plan.recursive);
        // Where both protections are set, what one leaves to somebody depends on what the other lets others keep.
        for _ in 0..ROUNDS {
            let next = self.kept(&due, plan.recursive);
            if next == due {
                break;
            }
            due = next;
        }
        due
    }

    /// What reclaim leaves to each load, where they have read so much and all that is not protected is reclaimed.
    fn kept(&self, wanted: &[u64], recursive: bool) -> Vec<u64> {
        let mut tree = self.tree.clone();
        for (load, wanted) in self.loads.iter().zip(wanted) {
            let way: Vec<Id> = self.tree.upwards(*load).filter(|id| *id != Tree::ROOT).collect();
            for id in way {
                let memory = tree[id].memory.unwrap_or_default();
                tree.set_memory(
                    id,
                    MemoryAttributes { current: memory.current.saturating_add(*wanted), ..memory },
                );
            }
        }
        let protections = protection(&tree, recursive);
        let kept = |(load, wanted): (&Id, &u64)| {
            let of = protections.of(*load);
            of.by(Guard::Min).max(of.by(Guard::Low)).min(*wanted)
        };
        self.loads.iter().zip(wanted).map(kept).collect()
    }

    /// The ceiling that a cgroup itself has.
    fn ceiling(&self, id: Id) -> u64 {
        let memory = self.memory(id);
        memory.high.min(memory.max)
    }

    /// How much of what its loads want a cgroup gets, by the ceilings in it.
    fn reach(&self, id: Id, wanted: &[u64]) -> u64 {
        let own = self.loads.iter().position(|load| *load == id).and_then(|at| wanted.get(at));
        let children = self.tree[id].children.iter().map(|child| self.reach(*child, wanted));
        children.fold(own.copied().unwrap_or(0), u64::saturating_add).min(self.ceiling(id))
    }

    /// The same by those above it as well, where nobody else has anything.
    fn got(&self, id: Id, wanted: &[u64]) -> u64 {
        self.tree.upwards(id).map(|above| self.ceiling(above)).fold(self.reach(id, wanted), u64::min)
    }
}

impl Plan {
    /// The cgroups of the model by their paths from its root, a parent before what is in it.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        self.now.tree.ids().skip(1).map(|id| self.now.tree.path(id)).chain([REST.into()]).collect()
    }

    /// Those that loads are in; the last one stands for nobody.
    #[must_use]
    pub fn of_loads(&self) -> Vec<PathBuf> {
        self.now.loads.iter().map(|load| self.now.tree.path(*load)).chain([REST.into()]).collect()
    }

    /// Whether a `memory.low` is in force.
    #[must_use]
    pub fn has_low(&self) -> bool {
        self.now.tree.ids().any(|id| self.now.memory(id).low > 0)
    }

    /// What is tried of protections: `None` where nothing is protected.
    ///
    /// Each load reads a little more than is protected of it, and all of them as much more: what a slice's protection leaves
    /// open, or cannot cover, is divided by what is used, anew while it is reclaimed. Where somebody has less than is
    /// declared, all read that as well.
    #[must_use]
    pub fn protected(&self) -> Option<Protected> {
        let (now, declared) = (self.now.due(self), self.declared.due(self));
        let sum = |due: &[u64]| due.iter().fold(0, |sum: u64, due| sum.saturating_add(*due));
        let most = Some(sum(&now).max(sum(&declared))).filter(|most| *most > 0)?;
        let missing = declared.iter().zip(&now).map(|(declared, now)| declared.saturating_sub(*now)).max();
        let more = missing.unwrap_or(0).saturating_add(most.div_ceil(MORE * now.len().max(1) as u64));
        let wanted: Vec<u64> = now.iter().map(|due| due.saturating_add(more)).collect();
        let settings = |memory: &MemoryAttributes| [(MEMORY_MIN, memory.min), (MEMORY_LOW, memory.low)];
        let fill = self.fill(&wanted, sum(&wanted) / 2, 0, settings);
        let whole = fill.whole;
        let parts = |due: &[u64]| due.iter().map(|due| part(*due, whole)).collect();
        Some(Protected {
            fill,
            kept: now.iter().map(|due| scaled(*due, whole)).sum(),
            declared: parts(&declared),
            predicted: parts(&now),
        })
    }

    /// What is tried of ceilings: each by itself, a slice before what is in it.
    #[must_use]
    pub fn limited(&self) -> Vec<Limited> {
        let mut all: Vec<Limited> =
            self.now.tree.ids().skip(1).filter_map(|id| self.limited_at(id)).collect();
        all.sort_by(|one, other| one.cgroup.cmp(&other.cgroup));
        all
    }

    fn limited_at(&self, id: Id) -> Option<Limited> {
        let path = self.now.tree.path(id);
        let load = self.now.loads.iter().position(|load| *load == id);
        // A login has its slice for itself.
        let has_it = |place: &&Place| !matches!(place.of, Of::Service(_)) && place.slice.cgroup() == path;
        let place = load.and_then(|at| self.places.get(at)).or_else(|| self.places.iter().find(has_it));
        let declared = match load {
            Some(at) => self.declared.loads.get(at).copied(),
            None => self.declared.tree.find(&path),
        };
        let ceilings = [Some(self.now.ceiling(id)), declared.map(|id| self.declared.ceiling(id))];
        // What is more than the machine has is never reached.
        let largest = ceilings.into_iter().flatten().filter(|bytes| *bytes < self.ram).max()?;
        let wanted = self.wanted_beyond_ceiling(id, largest);
        let of = match place {
            Some(place) => place.of.clone(),
            None => Of::Slice(SliceName::new(self.now.tree.unit(id)?).ok()?),
        };
        let settings = |memory: &MemoryAttributes| [(MEMORY_HIGH, memory.high), (MEMORY_MAX, memory.max)];
        Some(Limited {
            depth: path.components().count() - 1,
            of,
            declared: declared.map_or(0, |id| self.declared.got(id, &wanted)),
            predicted: self.now.got(id, &wanted),
            fill: self.fill(&wanted, 0, LEAST, settings),
            cgroup: path,
        })
    }

    /// What the loads read, with the one that stands for nobody, under these settings of the machine, each `least` bytes in
    /// the model.
    fn fill(
        &self,
        wanted: &[u64],
        rest: u64,
        least: u64,
        settings: impl Fn(&MemoryAttributes) -> [(Property, u64); 2],
    ) -> Fill {
        let whole = wanted.iter().fold(rest, |sum, wanted| sum.saturating_add(*wanted)).max(1);
        let of = |id: Id| {
            let path = self.now.tree.path(id);
            let each = settings(&self.now.memory(id)).into_iter();
            each.map(move |(property, bytes)| (path.clone(), property, scaled(bytes, whole).max(least)))
        };
        Fill {
            whole,
            reads: wanted.iter().chain([&rest]).map(|bytes| scaled(*bytes, whole)).collect(),
            settings: self.now.tree.ids().skip(1).flat_map(of).collect(),
        }
    }

    /// So much by the loads in a cgroup that its ceiling is reached, where those in it let them.
    fn wanted_beyond_ceiling(&self, id: Id, ceiling: u64) -> Vec<u64> {
        let (loads, needed) = (self.now.loads_in(id), beyond(ceiling));
        let all =
            |each: u64| (0..self.places.len()).map(|at| if loads.contains(&at) { each } else { 0 }).collect();
        let mut each = needed.div_ceil(loads.len().max(1) as u64);
        loop {
            let wanted: Vec<u64> = all(each);
            let mut inside = self.now.tree[id].children.iter().map(|child| self.now.reach(*child, &wanted));
            let is_reached = loads.len() < 2 || inside.by_ref().fold(0, u64::saturating_add) >= ceiling;
            if is_reached || each >= needed {
                return wanted;
            }
            each = each.saturating_mul(2).min(needed);
        }
    }
}

impl Protected {
    /// A row for each load and slice, with what is left to each load in bytes of the model; `None` where nothing was
    /// started.
    #[must_use]
    pub fn rows(&self, plan: &Plan, left: Option<&[u64]>) -> Vec<Row> {
        let measured: Option<Vec<f64>> = left.map(|left| left.iter().map(|left| part(*left, SIZE)).collect());
        let found =
            measured.as_ref().map(|measured| Found { predicted: self.predicted.as_slice(), measured });
        rows(&plan.places.iter().collect::<Vec<_>>(), &self.declared, found)
    }
}

impl Limited {
    /// A row of what the cgroup got, in bytes of the model; `None` where nothing was started.
    #[must_use]
    pub fn row(&self, got: Option<u64>) -> Row {
        let of = |bytes| part(bytes, self.fill.whole);
        let found = got.map(|got| Found { predicted: of(self.predicted), measured: part(got, SIZE) });
        Row { of: self.of.clone(), depth: self.depth, declared: of(self.declared), found }
    }
}

fn beyond(bytes: u64) -> u64 {
    bytes / 4 * BEYOND
}

#[allow(clippy::cast_precision_loss, reason = "no machine has 2^52 bytes of memory")]
fn part(bytes: u64, whole: u64) -> f64 {
    bytes as f64 / whole as f64
}

/// What so many bytes of the machine are in the model, in which `whole` are [`SIZE`].
fn scaled(bytes: u64, whole: u64) -> u64 {
    match bytes {
        u64::MAX => u64::MAX,
        _ => {
            u64::try_from(u128::from(bytes) * u128::from(SIZE) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::effect::ancestors;
    use crate::effect::kill_order::tests::{MIB, add, memory};
    use crate::fixture::policy;
    use crate::survey::RunningService;
    use crate::survey::snapshot::User;
    use crate::units::ServiceName;

    const MACHINE: Machine = Machine { ram: 4096 * MIB, tasks: 1000 };
    const POLICY: &str = "[slice.\"a.slice\"]\nmatch = [\"x-*\"]\nmemory_low = \"600M\"\nmemory_high = \"1G\"\n\
                          [service.x-1]\nmemory_low = \"400M\"\n[logins]\nmemory_max = \"25%\"\ntotal_memory_max = \"1536M\"\n";

    /// Two services and two users, with these settings.
    fn planned(text: &str, settings: &[(&str, MemoryAttributes)]) -> Plan {
        let mut tree = Tree::new(Cgroup::default());
        let names = [
            "a.slice/x-1.service",
            "a.slice/x-2.service",
            "user.slice/user-7.slice",
            "user.slice/user-8.slice",
        ];
        for path in names {
            add(&mut tree, path, memory(0));
        }
        for (path, memory) in settings {
            let id = tree.find(path.as_ref()).unwrap();
            tree.set_memory(id, *memory);
        }
        let service = |path: &str| {
            let name = ServiceName::new(path.rsplit_once('/').unwrap().1).unwrap();
            RunningService { name, cgroup: path.into(), main: None, left: Vec::new() }
        };
        let user = |uid| {
            let (names, groups) = Default::default();
            User { uid, account: None, names, groups, members: 1, lowest_score: None }
        };
        let services = names[..2].iter().map(|path| service(path)).collect();
        let live = Snapshot {
            tree: tree.clone(),
            cgroups: BTreeMap::new(),
            services,
            users: vec![user(7), user(8)],
        };
        let policy = policy(text);
        plan(&policy, &ancestors(&policy, MACHINE.ram), &live, &tree, MACHINE, true)
    }

    fn low(mib: u64) -> MemoryAttributes {
        MemoryAttributes { low: mib * MIB, ..memory(0) }
    }

    /// What a row says, in MiB of the machine: declared and predicted.
    fn said(row: &Row, whole: u64) -> (String, f64, f64) {
        #[allow(clippy::cast_precision_loss)]
        let mib = |part: f64| (part * whole as f64 / MIB as f64).round();
        (row.of.unit(), mib(row.declared), mib(row.found.unwrap().predicted))
    }

    fn protected(plan: &Plan) -> Vec<(String, f64, f64)> {
        let tried = plan.protected().unwrap();
        let nothing = vec![0; plan.places.len() + 1];
        tried.rows(plan, Some(&nothing)).iter().map(|row| said(row, tried.fill.whole)).collect()
    }

    fn rows(rows: &[(&str, f64, f64)]) -> Vec<(String, f64, f64)> {
        rows.iter().map(|(unit, declared, predicted)| ((*unit).to_owned(), *declared, *predicted)).collect()
    }

    #[test]
    fn a_slice_keeps_what_is_protected_and_its_services_divide_it() {
        // In the slice 200 are nobody's: a half for each of the two.
        let in_force = planned(POLICY, &[("a.slice", low(600)), ("a.slice/x-1.service", low(400))]);
        assert_eq!(
            protected(&in_force),
            rows(&[
                ("a.slice", 600.0, 600.0),
                ("x-1.service", 500.0, 500.0),
                ("x-2.service", 100.0, 100.0),
                ("user.slice", 0.0, 0.0),
                ("user-7.slice", 0.0, 0.0),
                ("user-8.slice", 0.0, 0.0),
            ])
        );
        let tried = in_force.protected().unwrap();
        assert!(tried.kept.abs_diff(scaled(600 * MIB, tried.fill.whole)) < 10, "{tried:?}");
        // Without the slice's own, the service's is none.
        let masked = planned(POLICY, &[("a.slice/x-1.service", low(400))]);
        assert_eq!(
            protected(&masked)[..3],
            rows(&[("a.slice", 600.0, 0.0), ("x-1.service", 500.0, 0.0), ("x-2.service", 100.0, 0.0)])
        );
        assert!(planned("[logins]\nmemory_max = \"25%\"\n", &[]).protected().is_none());
        // x-1 keeps 60 by its memory.low, so of the 90 that memory.min keeps of both, 30 are left.
        let both = MemoryAttributes { min: 90 * MIB, ..low(60) };
        let mixed = planned(POLICY, &[("a.slice", both), ("a.slice/x-1.service", low(60))]);
        let found: Vec<f64> = protected(&mixed).iter().take(3).map(|(.., predicted)| *predicted).collect();
        assert_eq!(found, [90.0, 60.0, 30.0]);
    }

    #[test]
    fn a_ceiling_is_tried_by_all_that_is_below_it() {
        let max = |mib: u64| MemoryAttributes { max: mib * MIB, ..memory(0) };
        let limited = |settings: &[(&str, MemoryAttributes)]| -> Vec<(String, f64, f64)> {
            let all = planned(POLICY, settings).limited();
            all.iter().map(|tried| said(&tried.row(Some(0)), tried.fill.whole)).collect()
        };
        let users = [("user.slice/user-7.slice", max(1024)), ("user.slice/user-8.slice", max(1024))];
        let [seven, eight] = users;
        assert_eq!(
            limited(&[("user.slice", max(1536)), seven, eight]),
            // a.slice has no memory.high, and more is asked of it.
            rows(&[
                ("a.slice", 1024.0, 1280.0),
                ("user.slice", 1536.0, 1536.0),
                ("user-7.slice", 1024.0, 1024.0),
                ("user-8.slice", 1024.0, 1024.0),
            ])
        );
        // What is above holds as well, and what is below may let it never be reached.
        assert_eq!(
            limited(&[("user.slice", max(800)), ("user.slice/user-7.slice", max(300)), eight])[1..],
            rows(&[
                ("user.slice", 1536.0, 800.0),
                ("user-7.slice", 1024.0, 300.0),
                ("user-8.slice", 1024.0, 800.0),
            ])
        );
        let small = [("user.slice/user-7.slice", max(100)), ("user.slice/user-8.slice", max(100))];
        assert_eq!(
            limited(&[("user.slice", max(1536)), small[0], small[1]])[1],
            rows(&[("user.slice", 1536.0, 200.0)])[0]
        );
    }

    proptest! {
        #[test]
        fn it_fits_into_the_model(
            settings in prop::collection::vec((0..6_usize, 0..5000_u64, 0..5000_u64, 1..5000_u64, 1..9000_u64), 0..8)
        ) {
            let paths = ["a.slice", "a.slice/x-1.service", "a.slice/x-2.service", "user.slice",
                         "user.slice/user-7.slice", "user.slice/user-8.slice"];
            let settings: Vec<(&str, MemoryAttributes)> = settings.into_iter().map(|(at, min, low, high, max)| {
                let [min, low, high, max] = [min, low, high, max].map(|mib| mib * MIB);
                (paths[at], MemoryAttributes { min, low, high, max, ..memory(0) })
            }).collect();
            let plan = planned(POLICY, &settings);
            let all = plan.limited();
            let protected = plan.protected();
            let fills = all.iter().map(|tried| &tried.fill).chain(protected.as_ref().map(|tried| &tried.fill));
            for fill in fills {
                let read: u64 = fill.reads.iter().sum();
                prop_assert!(read <= SIZE && read > SIZE - 4096, "{fill:?}");
            }
            for tried in &all {
                prop_assert!(tried.declared.max(tried.predicted) <= tried.fill.whole, "{tried:?}");
            }
            if let Some(tried) = protected {
                prop_assert!(tried.kept <= SIZE);
            }
        }
    }
}
