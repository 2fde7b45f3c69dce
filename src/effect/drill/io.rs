//! Time of a disk: a load for each service and login that reads all the time.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::places::{self, Place, Placed, Values, declared_slices, places, with_slice};
use super::rows::normalised;
use crate::effect::Carried;
use crate::effect::io_share::{divided, io_shares};
use crate::effect::share::Busy;
use crate::host::disk::Disk;
use crate::host::io_weights::IoWeights;
use crate::host::tree::{Cgroup, Each, Id, Tree};
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::{IO_WEIGHT, SettingValue, SliceName, Weight};

/// A load that is to be started.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where, and for whom.
    pub place: Place,
    /// The `io.weight` for the disk of whom it stands for; `None` where its slice does not hand on the controller.
    weight: Option<u64>,
    /// The one that is declared.
    declared: Option<u64>,
}

/// The loads of a drill.
pub type Plan = places::Plan<Load>;

/// Why somebody has no load.
const NOT_DIVIDED: &str =
    "no weight decides between it and another one that has a load: their slice does not hand on io";

impl Placed for Load {
    fn place(&self) -> &Place {
        &self.place
    }

    fn resources(&self) -> Vec<(&'static str, u64)> {
        let weight = self.weight.filter(|weight| *weight != Weight::DEFAULT.get());
        weight.map(|weight| (IO_WEIGHT.bus, weight)).into_iter().collect()
    }
}

/// What is started on a disk: a load for every service of which the policy says an I/O weight, or that a slice of its
/// holds, and for every login, next to it, with its weight; and one in each slice of the policy's in which nothing of that
/// runs. Of those between whom no weight decides, because their slice does not hand on the controller, the first stands for
/// all, and those of whom the policy says a weight all the same: processes do not share alike within seconds.
#[must_use]
pub fn plan(policy: &Policy, live: &Snapshot, weights: &Each<IoWeights>, disk: &Disk) -> Plan {
    let places::Plan { loads, left_out } = places(policy, live, |values| declared_weight(values).is_some());
    let mut plan = Plan { left_out, ..Plan::default() };
    let mut stood_for = BTreeSet::new();
    for place in loads {
        let declared = declared_weight(&place.settings(policy));
        if stood_for.insert(competes_in(&live.tree, &place)) || declared.is_some() {
            let weight = place.own.and_then(|id| weights.get(id)?.set_for(disk));
            plan.loads.push(Load { place, weight, declared });
        } else {
            plan.left_out.push((place.of, NOT_DIVIDED));
        }
    }
    plan
}

/// The cgroup that competes by a weight of its own, with whom the load stands for in it.
fn competes_in(tree: &Tree, place: &Place) -> Id {
    let nearest = place.own.unwrap_or_else(|| tree.nearest(&place.slice.cgroup()));
    tree.upwards(nearest).find(|id| tree[*id].controllers.io).unwrap_or(Tree::ROOT)
}

/// The part of each load where the machine is as the policy says and nothing else reads: by the weights themselves, not
/// by what BFQ makes of them. What the policy leaves open is as it is now.
#[must_use]
pub fn declared(
    policy: &Policy,
    carried: &BTreeMap<SliceName, Carried>,
    live: &Snapshot,
    weights: &Each<IoWeights>,
    disk: &Disk,
    loads: &[Load],
) -> Vec<f64> {
    let mut tree = live.tree.clone();
    let mut of: BTreeMap<Id, u64> = BTreeMap::new();
    let mut ids = Vec::with_capacity(loads.len());
    for load in loads {
        let slice = with_slice(&mut tree, &load.place.declared_slice);
        // A name that no unit has.
        let name = format!("{}/", load.place.of.unit());
        let id = tree.add(slice, name, Cgroup { populated: true, ..Cgroup::default() });
        of.extend(load.declared.or(load.weight).map(|weight| (id, weight)));
        ids.push(id);
    }
    for (slice, values) in declared_slices(policy, carried, live) {
        let id = tree.find(&slice.cgroup());
        of.extend(id.and_then(|id| Some((id, declared_weight(&values)?))));
    }
    let now = |id: Id| weights.get(id).and_then(|weights| weights.set_for(disk));
    let weight = |id: Id| of.get(&id).copied().or_else(|| now(id)).unwrap_or(Weight::DEFAULT.get());
    let levels = divided(&tree, &tree.with_ancestors(ids.iter().copied()), |id| Some(weight(id)));
    normalised(&ids.iter().map(|id| levels.get(*id).map_or(0.0, |level| level.share)).collect::<Vec<_>>())
}

/// The part of each load, which is in the tree, by what is in force: where its slice does not hand on the controller, it
/// shares with the others in there as process with process.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "a few loads")]
pub fn predicted(tree: &Tree, weights: &Each<IoWeights>, disk: &Disk, loads: &[Id]) -> Vec<f64> {
    let busy = Busy::Only(loads.iter().copied().collect::<BTreeSet<_>>());
    let levels = io_shares(tree, weights, disk, &busy);
    let competes_in =
        |id: Id| tree.upwards(id).find(|above| levels.get(*above).is_some()).unwrap_or(Tree::ROOT);
    let among: Vec<Id> = loads.iter().map(|id| competes_in(*id)).collect();
    let each = among.iter().map(|id| {
        let same = among.iter().filter(|other| *other == id).count();
        levels.get(*id).map_or(0.0, |level| level.share) / same as f64
    });
    normalised(&each.collect::<Vec<_>>())
}

fn declared_weight(values: &Values) -> Option<u64> {
    values.iter().find_map(|(_, value)| match value {
        SettingValue::Io(weight) => Some(weight.get()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::effect::ancestors;
    use crate::fixture::{self, policy};
    use crate::host::tree::Controllers;
    use crate::survey::RunningService;
    use crate::survey::snapshot::User;
    use crate::units::ServiceName;

    const POLICY: &str = "[slice.\"a.slice\"]\nmatch = [\"x-*\"]\nio_weight = 300\n\
                          [service.x-1]\nio_weight = 200\n[service.y]\nio_weight = 50\n";

    /// a.slice hands on the controller, system.slice does not; a user is logged in.
    fn live() -> (Snapshot, Each<IoWeights>) {
        let mut tree = Tree::new(Cgroup::default());
        let without = Cgroup { populated: true, ..Cgroup::default() };
        let busy =
            Cgroup { controllers: Controllers { io: true, ..Controllers::default() }, ..without.clone() };
        let mut services = Vec::new();
        for (slice, names) in [("a.slice", &["x-1", "x-2"][..]), ("system.slice", &["y", "z"])] {
            let id = tree.add(Tree::ROOT, slice, busy.clone());
            for name in names {
                let name = ServiceName::new(&format!("{name}.service")).unwrap();
                tree.add(id, name.as_str(), if slice == "a.slice" { busy.clone() } else { without.clone() });
                let cgroup = Path::new(slice).join(name.as_str());
                services.push(RunningService { name, cgroup, main: None, left: Vec::new() });
            }
        }
        let logins = tree.add(Tree::ROOT, "user.slice", busy.clone());
        tree.add(logins, "user-7.slice", without);
        let mut weights = Each::none(&tree);
        for (path, weight) in [
            ("a.slice", 300),
            ("a.slice/x-1.service", 100),
            ("a.slice/x-2.service", 100),
            ("system.slice", 100),
            ("user.slice", 100),
        ] {
            let text = format!("default {weight}\n");
            weights.insert(tree.find(Path::new(path)).unwrap(), IoWeights::parse(Some(&text), None));
        }
        let (names, groups) = Default::default();
        let user = User { uid: 7, account: None, names, groups, members: 1, lowest_score: None };
        (Snapshot { tree, cgroups: BTreeMap::new(), services, users: vec![user] }, weights)
    }

    fn rounded(parts: &[f64]) -> Vec<f64> {
        parts.iter().map(|part| (part * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn a_disk_is_divided_by_what_is_declared_and_by_what_is_in_force() {
        let (policy, (live, weights)) = (policy(POLICY), live());
        let disk = fixture::disk("vdb", "254:16", "none", true);
        let plan = plan(&policy, &live, &weights, &disk);
        let of: Vec<String> = plan.loads.iter().map(|load| load.place.of.name()).collect();
        // Of z.service nothing is declared.
        assert_eq!(of, ["x-1.service", "y.service", "user-7.slice (7)", "x-2.service"]);
        // x-1 has not the weight that is declared; in system.slice none counts.
        assert!(plan.loads.iter().all(|load| load.resources().is_empty()));
        let due = declared(&policy, &ancestors(&policy, 1 << 30), &live, &weights, &disk, &plan.loads);
        assert_eq!(rounded(&due), [0.4, 0.2, 0.2, 0.2]);

        let mut tree = live.tree.clone();
        let scope = |tree: &mut Tree, slice: &str| {
            let slice = tree.find(Path::new(slice)).unwrap();
            tree.add(slice, "l.scope", Cgroup { populated: true, ..Cgroup::default() })
        };
        let ids = ["a.slice", "system.slice", "user.slice/user-7.slice", "a.slice"]
            .map(|slice| scope(&mut tree, slice));
        let mut now = Each::none(&tree);
        for (id, weight) in live.tree.ids().filter_map(|id| Some((id, weights.get(id)?.clone()))) {
            now.insert(id, weight);
        }
        for id in [ids[0], ids[3]] {
            now.insert(id, IoWeights::parse(Some("default 100\n"), None));
        }
        assert_eq!(rounded(&predicted(&tree, &now, &disk, &ids)), [0.3, 0.2, 0.2, 0.3]);
        // Two in a slice that does not hand it on share what that has.
        let other = scope(&mut tree, "system.slice");
        let parts = predicted(&tree, &now, &disk, &[ids[0], ids[1], other]);
        assert_eq!(rounded(&parts), [0.75, 0.125, 0.125]);
    }

    #[test]
    fn a_load_has_the_weight_of_whom_it_stands_for() {
        let (policy, (live, mut weights)) = (policy(POLICY), live());
        let id = live.tree.find(Path::new("a.slice/x-1.service")).unwrap();
        weights.insert(id, IoWeights::parse(Some("default 100\n254:16 70\n"), None));
        let disk = fixture::disk("vdb", "254:16", "bfq", false);
        let plan = plan(&policy, &live, &weights, &disk);
        assert_eq!(plan.loads.first().map(Load::resources), Some(vec![("IOWeight", 70)]));
    }
}
