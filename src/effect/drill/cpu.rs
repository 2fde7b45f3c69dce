//! CPU time: a busy load for each service and login, all on one CPU.
//!
//! On one run queue what the kernel makes of weights is exact: nothing is moved elsewhere, and no load is rounded on
//! its way to another CPU.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::Of;
use super::places::{self, Place, Placed, Values, declared_slices, places, with_slice};
use super::rows::{Found, Row, normalised, rows};
use crate::effect::Carried;
use crate::effect::declared_cpu::DeclaredCpu;
use crate::effect::share::{Busy, not_computed, shares};
use crate::host::cpu_set::CpuSet;
use crate::host::tree::{Cgroup, Cpu, CpuMax, Id, Tree};
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::span::SECOND;
use crate::units::{CPU_QUOTA, CPU_WEIGHT, SliceName, Weight};

/// From so much of a CPU on, somebody else's use of it counts in a prediction.
const SOME: f64 = 0.01;

/// A load that is to be started.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where, and for whom.
    pub place: Place,
    /// Weight and limit that it has now; `None` where its slice does not hand on the controller.
    pub cpu: Option<Cpu>,
    /// Those that are declared.
    declared: DeclaredCpu,
}

/// The loads of a drill.
pub type Plan = places::Plan<Load>;

impl Placed for Load {
    fn place(&self) -> &Place {
        &self.place
    }

    fn resources(&self) -> Vec<(&'static str, u64)> {
        let weight = self.cpu.map(|cpu| cpu.weight).filter(|weight| *weight != Weight::DEFAULT.get());
        let max = self.cpu.and_then(|cpu| cpu.max);
        let quota = max.and_then(|max| max.quota.checked_mul(SECOND)?.checked_div(max.period));
        let both = [(CPU_WEIGHT.bus, weight), (CPU_QUOTA.bus, quota)];
        both.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
    }
}

/// What is started: a load for every service of which the policy says something about CPU time and for every login,
/// next to it, with its weight and limit; and one in each slice of the policy's in which nothing of that runs.
#[must_use]
pub fn plan(policy: &Policy, live: &Snapshot) -> Plan {
    let places::Plan { loads, left_out } = places(policy, live, |values| {
        let declared = of_cpu(values.clone());
        declared.weight.is_some() || declared.max.is_some()
    });
    let load = |place: Place| Load {
        cpu: place.own.and_then(|id| live.tree[id].cpu),
        declared: of_cpu(place.settings(policy)),
        place,
    };
    Plan { loads: loads.into_iter().map(load).collect(), left_out }
}

fn of_cpu(values: Values) -> DeclaredCpu {
    DeclaredCpu::of(values.into_iter().map(|(_, value)| value))
}

/// The CPUs on which all of these may run.
#[must_use]
pub fn common_cpus(tree: &Tree, loads: &[Load], own: &CpuSet) -> CpuSet {
    let own = own.without(&tree.isolated);
    loads.iter().fold(own, |common, load| {
        let nearest = tree.nearest(&load.place.slice.cgroup());
        match tree.upwards(nearest).find_map(|id| tree[id].cpus.as_ref()) {
            Some(cpus) => common.and(cpus),
            None => common,
        }
    })
}

/// The part of each load where the machine is as the policy says and nothing else runs. What the policy leaves open
/// is as it is now.
#[must_use]
pub fn declared(
    policy: &Policy,
    carried: &BTreeMap<SliceName, Carried>,
    live: &Snapshot,
    loads: &[Load],
    cpu: u32,
) -> Vec<f64> {
    let mut tree = live.tree.clone();
    let place = |load: &Load| {
        let id = add(&mut tree, load, &load.place.declared_slice, cpu);
        tree.set_cpu(id, load.declared.over(load.cpu));
        id
    };
    let ids: Vec<Id> = loads.iter().map(place).collect();
    for (slice, declared) in declared_slices(policy, carried, live) {
        if let Some(id) = tree.find(&slice.cgroup()) {
            tree.set_cpu(id, of_cpu(declared).over(tree[id].cpu));
        }
    }
    parts(&tree, &ids, &ids)
}

/// The part of each load by what is in force, where nothing else runs: what a drill would predict.
#[must_use]
pub fn effective(live: &Snapshot, loads: &[Load], cpu: u32) -> Vec<f64> {
    let mut tree = live.tree.clone();
    let place = |load: &Load| {
        let id = add(&mut tree, load, &load.place.slice, cpu);
        if let Some(of_load) = load.cpu {
            tree.set_cpu(id, of_load);
        }
        id
    };
    let ids: Vec<Id> = loads.iter().map(place).collect();
    parts(&tree, &ids, &ids)
}

/// What a load is due, or a slice with all that is in it, while no drill is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Whom it stands for, or which slice.
    pub of: Of,
    /// How many slices it is in.
    pub depth: usize,
    /// Its part of what all loads would get together, by the policy.
    pub declared: f64,
    /// The same by what is in force.
    pub effective: f64,
}

/// A row for each load that a drill would start, and for each slice that they would be in; `None` where the loads have no
/// CPU in common, or shares are not computed.
#[must_use]
pub fn due_now(policy: &Policy, carried: &BTreeMap<SliceName, Carried>, live: &Snapshot) -> Option<Vec<Due>> {
    let plan = plan(policy, live);
    let loads = &plan.loads;
    let cpu = common_cpus(&live.tree, loads, live.tree.online.as_ref()?).iter().next()?;
    if not_computed(&live.tree).is_some() {
        return None;
    }
    let (declared, effective) = (declared(policy, carried, live, loads, cpu), effective(live, loads, cpu));
    let found = Found { predicted: effective.as_slice(), measured: effective.as_slice() };
    let due = rows(&plan.places(), &declared, Some(found)).into_iter().filter_map(|row| {
        let Row { of, depth, declared, found } = row;
        Some(Due { of, depth, declared, effective: found?.predicted })
    });
    Some(due.collect())
}

/// Adds the cgroup of a load, with a thread that keeps to this CPU.
fn add(tree: &mut Tree, load: &Load, slice: &SliceName, cpu: u32) -> Id {
    let slice = with_slice(tree, slice);
    // A name that no unit has.
    let name = format!("{}/", load.place.of.unit());
    let id = tree.add(slice, name, Cgroup { tasks: Some(1), populated: true, ..Cgroup::default() });
    tree.bind_threads(id, [cpu].into_iter().collect(), 1);
    id
}

/// What the loads, which are in the tree, are due of what they get together, while these others use so many CPUs.
#[must_use]
pub fn predicted(tree: &Tree, loads: &[Id], others: &BTreeMap<Id, f64>) -> Vec<f64> {
    let mut tree = tree.clone();
    let mut busy = loads.to_vec();
    for (id, used) in others.iter().filter(|(_, used)| **used >= SOME) {
        tree.set_cpu(*id, wanting(&tree, *id, *used));
        busy.push(*id);
    }
    parts(&tree, loads, &busy)
}

/// A cgroup that uses so many CPUs, because it wants no more: as one that is not let, and that counts against the
/// others for the part of the time in which it runs.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a weight of 10,000 at most, and a few CPUs"
)]
fn wanting(tree: &Tree, id: Id, cpus: f64) -> Cpu {
    const PERIOD: u32 = 1_000_000;
    // Without the controller threads compete one by one, and of those that are asked for there is one for each CPU.
    let threads = || tree.online.as_ref().map_or(1, CpuSet::count);
    let weight = tree[id].cpu.map_or_else(|| Weight::DEFAULT.get() * u64::from(threads()), |cpu| cpu.weight);
    Cpu {
        weight: (weight as f64 * cpus.min(1.0)).ceil() as u64,
        max: Some(CpuMax { quota: (cpus * f64::from(PERIOD)) as u64, period: PERIOD.into() }),
    }
}

fn parts(tree: &Tree, loads: &[Id], busy: &[Id]) -> Vec<f64> {
    let cpus = tree.online.as_ref().map_or(1, CpuSet::count);
    let shares = shares(tree, cpus, &Busy::Only(busy.iter().copied().collect::<BTreeSet<_>>()));
    normalised(&loads.iter().map(|id| shares.of(*id)).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    use super::super::places::MOST;
    use crate::fixture::policy;
    use crate::survey::RunningService;
    use crate::survey::snapshot::{LiveCgroup, User};
    use crate::units::ServiceName;

    const RAM: u64 = 1 << 30;
    const POLICY: &str = "[slice.\"a-b.slice\"]\nmatch = [\"x-*\"]\ncpu_weight = 200\n\
                          [slice.\"c.slice\"]\ncpu_weight = 100\n[logins]\ncpu_weight = 100\ntotal_weight = 100\n";

    fn weighing(weight: u64) -> Cgroup {
        Cgroup { cpu: Some(Cpu { weight, max: None }), populated: true, ..Cgroup::default() }
    }

    /// Slices at these weights, each with what is in it; a user is logged in.
    fn live(a: u64, services: &[&str], slice: &str) -> Snapshot {
        let mut tree = Tree::new(Cgroup::default());
        tree.online = Some(CpuSet::first(2));
        for (top, weight) in [("a.slice", a), ("system.slice", 100), ("user.slice", 100)] {
            tree.add(Tree::ROOT, top, weighing(weight));
        }
        let top = |tree: &Tree, name: &str| tree.find(Path::new(name)).unwrap();
        let (held, logins) = (top(&tree, "a.slice"), top(&tree, "user.slice"));
        tree.add(held, "a-b.slice", weighing(100));
        tree.add(logins, "user-7.slice", weighing(100));
        let path = SliceName::new(slice).unwrap().cgroup();
        let parent = tree.find(&path).unwrap();
        let mut found = Vec::new();
        for name in services {
            // Their slice does not hand on the controller.
            tree.add(parent, *name, Cgroup { populated: true, ..Cgroup::default() });
            let name = ServiceName::new(name).unwrap();
            let cgroup = path.join(name.as_str());
            found.push(RunningService { name, cgroup, main: None, left: Vec::new() });
        }
        let (names, groups) = Default::default();
        let user = User { uid: 7, account: None, names, groups, members: 1, lowest_score: None };
        let cgroups: BTreeMap<PathBuf, LiveCgroup> = BTreeMap::new();
        Snapshot { tree, cgroups, services: found, users: vec![user] }
    }

    fn due(policy: &Policy, live: &Snapshot, loads: &[Load]) -> Vec<f64> {
        let carried = crate::effect::ancestors(policy, RAM);
        declared(policy, &carried, live, loads, 1)
    }

    fn texts(rows: &[Row]) -> Vec<String> {
        let text = |row: &Row| {
            let found = row.found.map(|found| format!(" {:.3} {:.3}", found.predicted, found.measured));
            let holds = if row.holds() { "" } else { " !" };
            format!("{} {} {:.3}{}{holds}", row.depth, row.of.name(), row.declared, found.unwrap_or_default())
        };
        rows.iter().map(text).collect()
    }

    #[test]
    fn every_service_and_login_has_a_load_beside_it() {
        let (policy, live) =
            (policy(POLICY), live(200, &["x-1.service", "x-2.service", "y.service"], "a-b.slice"));
        let plan = plan(&policy, &live);
        // Of y.service nothing is declared, and c.slice is not there.
        assert_eq!(
            texts(&rows(&plan.places(), &due(&policy, &live, &plan.loads), None)),
            [
                "0 a.slice 0.667",
                "1 a-b.slice 0.667",
                "2 x-1.service 0.333",
                "2 x-2.service 0.333",
                "0 user.slice 0.333",
                "1 user-7.slice (7) 0.333",
            ]
        );
        assert!(plan.loads.iter().all(|load| load.resources().is_empty()));
        // An empty slice has a load of its own.
        let empty = super::plan(&policy, &self::live(200, &["y.service"], "system.slice")).loads;
        let of: Vec<String> = empty.iter().map(|load| load.place.of.name()).collect();
        assert_eq!(of, ["user-7.slice (7)", "a-b.slice"]);
    }

    #[test]
    fn what_is_declared_is_not_what_is() {
        // The ancestor has lost its weight, and a service is where it does not belong.
        let (policy, mut live) = (policy(POLICY), live(100, &["x-1.service", "x-2.service"], "system.slice"));
        live.services[1].cgroup = Path::new("a.slice/a-b.slice").join("x-2.service");
        let held = live.tree.find(Path::new("a.slice/a-b.slice")).unwrap();
        live.tree.add(held, "x-2.service", Cgroup { populated: true, ..Cgroup::default() });
        let plan = plan(&policy, &live);
        let declared = due(&policy, &live, &plan.loads);
        let third = 1.0 / 3.0;
        let found = Found { predicted: &[third; 3][..], measured: &[0.30, 0.36, 0.34] };
        assert_eq!(
            texts(&rows(&plan.places(), &declared, Some(found))),
            [
                "0 a.slice 0.667 0.333 0.360 !",
                "1 a-b.slice 0.667 0.333 0.360 !",
                "2 x-2.service 0.333 0.333 0.360",
                "0 system.slice 0.000 0.333 0.300 !",
                "1 x-1.service 0.333 0.333 0.300 !",
                "0 user.slice 0.333 0.333 0.340",
                "1 user-7.slice (7) 0.333 0.333 0.340",
            ]
        );
    }

    /// The tree of three loads on CPU 1 with a neighbour in a.slice.
    fn with_loads(neighbour: Cgroup) -> (Tree, Vec<Id>, Id) {
        let mut tree = live(200, &[], "a-b.slice").tree;
        let on: CpuSet = [1].into_iter().collect();
        let mut ids = Vec::new();
        for slice in ["a.slice", "system.slice", "user.slice/user-7.slice"] {
            let slice = tree.find(Path::new(slice)).unwrap();
            let id = tree.add(slice, "l.scope", Cgroup { tasks: Some(1), ..weighing(100) });
            tree.bind_threads(id, on.clone(), 1);
            ids.push(id);
        }
        let held = tree.find(Path::new("a.slice")).unwrap();
        let id = tree.add(held, "n.service", neighbour);
        (tree, ids, id)
    }

    fn near(parts: &[f64], expected: [f64; 3]) -> bool {
        parts.iter().zip(expected).all(|(part, expected)| (part - expected).abs() < 0.005)
    }

    #[test]
    fn the_others_count_with_what_they_use() {
        let (tree, loads, other) = with_loads(weighing(100));
        let parts = |used: f64| predicted(&tree, &loads, &BTreeMap::from([(other, used)]));
        assert!(near(&parts(0.0), [0.5, 0.25, 0.25]), "{:?}", parts(0.0));
        assert!(near(&parts(0.009), [0.5, 0.25, 0.25]));
        // On the other CPU it takes nothing from the loads but some of the weight of its slice.
        let some = parts(0.25);
        assert!(some[0] < 0.5 && some[0] > 0.4 && near(&some, [some[0], some[1], some[1]]), "{some:?}");
        let all = parts(1.0);
        assert!(all[0] < some[0] - 0.05, "{all:?}");
    }

    #[test]
    fn a_load_has_the_weight_and_the_limit_of_whom_it_stands_for() {
        let with = |weight, max: Option<(u64, u64)>| {
            let max = max.map(|(quota, period)| CpuMax { quota, period });
            let slice = SliceName::new("a.slice").unwrap();
            let place = Place::of_slice(Of::Slice(slice.clone()), slice);
            let declared = DeclaredCpu::default();
            Load { place, cpu: Some(Cpu { weight, max }), declared }.resources()
        };
        assert_eq!(with(100, None), []);
        assert_eq!(with(0, None), [("CPUWeight", 0)]);
        assert_eq!(
            with(50, Some((150_000, 100_000))),
            [("CPUWeight", 50), ("CPUQuotaPerSecUSec", 1_500_000)]
        );
    }

    #[test]
    fn of_too_many_each_slice_keeps_its_first() {
        let names: Vec<String> = (10..40).map(|number| format!("x-{number}.service")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plan = plan(&policy(POLICY), &live(200, &names, "a-b.slice"));
        assert_eq!((plan.loads.len(), plan.left_out.len()), (MOST, 31 - MOST));
        assert!(plan.loads.iter().any(|load| matches!(load.place.of, Of::Login(7, _))));
    }
}
