//! CPU weights that do not come to what they say.
//!
//! Only weights that somebody has set are looked at, on units in which something runs; and only those
//! of which it is certain that they cannot do what they say. A weight beside others in `system.slice`
//! is no mistake, nor one of several in a slice that an administrator has made for them.
#![forbid(unsafe_code)]

mod no_effect;
mod siblings;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::PlaceOf;
use super::cost::{DEFAULT, ratio, real, with_logins};
use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::effect::Carried;
use crate::effect::share::{Busy, Shares, not_computed, shares};
use crate::host::tree::{Id, Tree};
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::{Policy, Sourced};
use crate::text::shown;
use crate::units::{CPU_WEIGHT, CpuWeight, SliceName};

/// A share that is this much of what was declared is what was declared: idle siblings take a little.
const NEARLY: f64 = 0.95;

/// Weights that have no effect or less than declared. Codes: FS021, FS022, FS027, FS084. None where it cannot be computed
/// what weights come to.
///
/// `carried` is what [`crate::effect::ancestors`] makes of the policy. A unit whose cgroup does not have
/// the weight that PID 1 knows is left to others.
#[must_use]
pub fn findings(
    policy: &Policy,
    carried: &BTreeMap<SliceName, Carried>,
    tree: &Tree,
    units: &Units,
    cpus: u32,
    set_by: PlaceOf<'_>,
) -> Vec<Finding> {
    if not_computed(tree).is_some() {
        return Vec::new();
    }
    let doctor = Doctor { policy, carried, tree, units, cpus, set_by, with_siblings: RefCell::default() };
    let weighted: Vec<Weighted<'_>> =
        units.iter().filter_map(|(name, unit)| doctor.weighted(name, unit)).collect();
    let each = weighted.iter().filter_map(|weighted| {
        doctor
            .below_default(weighted)
            .or_else(|| doctor.beside_nothing(weighted))
            .or_else(|| doctor.limited(weighted))
            .or_else(|| doctor.beside_siblings(weighted))
    });
    each.chain(doctor.instances(&weighted)).chain(doctor.logins()).collect()
}

/// What loads a scheduler at the boot, where it was installed from packages.
const LOADERS: [&str; 2] = ["scx.service", "scx_loader.service"];

/// [`Code::SchedExt`]: units that run have weights, and a `sched_ext` scheduler decides what these come to. One finding
/// for all of them.
#[must_use]
pub fn sched_ext(tree: &Tree, units: &Units, set_by: PlaceOf<'_>) -> Option<Finding> {
    let scheduler = tree.sched_ext.as_ref()?;
    let runs =
        |unit: &Unit| unit.cgroup().and_then(|path| tree.find(&path)).is_some_and(|id| tree[id].populated);
    let weighted = units.iter().filter(|(_, unit)| weight(unit).is_some() && runs(unit));
    let names: Vec<&str> = weighted.map(|(name, _)| name).collect();
    let first = names.first()?;
    let loader = LOADERS.into_iter().find(|loader| units.get(loader).is_some_and(runs));
    Some(Finding {
        code: Code::SchedExt,
        subject: names.iter().copied().collect(),
        what: format!("their CPU weights come to what the scheduler {} makes of them", shown(scheduler)),
        cost: Some("some go by cpu.weight and others do not: what comes of it is not computed".to_owned()),
        cause: format!("it is loaded in place of the kernel's own: /{}/root/ops", paths::SCHED_EXT),
        at: set_by(first, CPU_WEIGHT.unit),
        fix: match loader {
            Some(loader) => Fix::Command(format!("systemctl disable --now {loader}")),
            None => Fix::Edit(format!(
                "end the program that has loaded {}: with it goes the scheduler, and the kernel's own goes by weights",
                shown(scheduler)
            )),
        },
    })
}

struct Doctor<'a> {
    policy: &'a Policy,
    carried: &'a BTreeMap<SliceName, Carried>,
    tree: &'a Tree,
    units: &'a Units,
    cpus: u32,
    set_by: PlaceOf<'a>,
    /// By the cgroup that the siblings are in.
    with_siblings: RefCell<BTreeMap<Id, Rc<Shares>>>,
}

/// A unit with a weight that somebody has set, in which something runs.
struct Weighted<'a> {
    name: &'a str,
    id: Id,
    /// As PID 1 has it; 0 for an idle one.
    weight: u64,
    /// Where the policy says so.
    declared: Option<&'a Sourced<CpuWeight>>,
}

impl<'a> Doctor<'a> {
    fn weighted(&self, name: &'a str, unit: &'a Unit) -> Option<Weighted<'a>> {
        let weight = weight(unit)?;
        let id = self.tree.find(&unit.cgroup()?)?;
        if id == Tree::ROOT || !self.tree[id].populated {
            return None;
        }
        Some(Weighted { name, id, weight, declared: self.declared(name) })
    }

    fn declared(&self, name: &str) -> Option<&'a Sourced<CpuWeight>> {
        let slice = self.policy.slices.get(&SliceName::new(name).ok()?)?;
        slice.resources.cpu_weight.as_ref()
    }

    /// A unit's part against that of a login, beside these others.
    fn against_a_login(&self, unit: &Weighted<'_>, beside: &[Id]) -> Option<Compared> {
        // A login alone has all of what user.slice has.
        let tree = with_logins(self.tree);
        let login = tree.find(&SliceName::user().cgroup())?;
        let busy = beside.iter().copied().chain([unit.id, login]).collect();
        let all = shares(&tree, self.cpus, &Busy::Only(busy));
        let logins = tree[login].cpu.map_or(DEFAULT, |cpu| cpu.weight);
        let (own, its) = (all.of(unit.id), all.of(login));
        if logins == 0 || its <= 0.0 {
            return None;
        }
        let declared = match unit.weight {
            0 => "idle".to_owned(),
            weight => ratio(real(weight), real(logins)),
        };
        Some(Compared {
            declared: real(unit.weight) / real(logins),
            effective: own / its,
            text: format!("declared {declared} against a login, effective {}", ratio(own, its)),
        })
    }

    /// From the parent up to the one below the root.
    fn ancestors(&self, id: Id) -> Vec<Id> {
        self.tree.upwards(id).skip(1).filter(|id| *id != Tree::ROOT).collect()
    }

    fn siblings(&self, id: Id) -> impl Iterator<Item = Id> {
        let siblings = self.tree[id].parent.map(|parent| &self.tree[parent].children);
        siblings
            .into_iter()
            .flatten()
            .copied()
            .filter(move |other| *other != id && self.tree[*other].populated)
    }

    /// Whether the cgroup has what PID 1 knows.
    fn is_written(&self, unit: &Weighted<'_>) -> bool {
        self.live(unit.id) == Some(unit.weight)
    }

    /// Where the weight is set.
    fn place(&self, unit: &Weighted<'_>) -> Option<Place> {
        let declared = unit.declared.map(|declared| Place::from(&declared.origin));
        declared.or_else(|| (self.set_by)(unit.name, CPU_WEIGHT.unit))
    }

    fn live(&self, id: Id) -> Option<u64> {
        self.tree[id].cpu.map(|cpu| cpu.weight)
    }

    fn name(&self, id: Id) -> String {
        shown(&self.tree.name(id)).to_string()
    }
}

struct Compared {
    declared: f64,
    effective: f64,
    text: String,
}

impl Weighted<'_> {
    fn setting_value(&self) -> String {
        if self.weight == 0 { "idle".to_owned() } else { self.weight.to_string() }
    }

    fn setting(&self) -> String {
        let key = if self.declared.is_some() { "cpu_weight =" } else { "CPUWeight =" };
        format!("{key} {}", self.setting_value())
    }
}

/// The weight that somebody has set, as PID 1 has it.
fn weight(unit: &Unit) -> Option<u64> {
    unit.number(CPU_WEIGHT.unit)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fixture::policy;
    use crate::host::tree::{Cgroup, Controllers, Cpu, CpuMax};

    pub(super) const CPU: Controllers =
        Controllers { cpu: true, cpuset: false, io: false, memory: false, pids: true };
    pub(super) const SERVICES: &str = "foundry.slice/foundry-services.slice";

    /// A machine with two CPUs.
    pub(super) struct Host {
        pub(super) tree: Tree,
        pub(super) units: String,
        pub(super) policy: Policy,
    }

    impl Host {
        /// Debian as it is, with two users.
        pub(super) fn stock() -> Self {
            let root = Cgroup { controllers: CPU, subtree_control: CPU, ..Cgroup::default() };
            let mut host = Self { tree: Tree::new(root), units: String::new(), policy: Policy::default() };
            for path in [
                "init.scope",
                "system.slice",
                "system.slice/ssh.service",
                "system.slice/system-getty.slice",
                "system.slice/system-getty.slice/getty@tty1.service",
                "user.slice",
                "user.slice/user-0.slice",
                "user.slice/user-0.slice/session-1.scope",
                "user.slice/user-1000.slice",
                "user.slice/user-1000.slice/user@1000.service",
            ] {
                host.unit(path, 100, "CPUWeight=[not set]");
            }
            host
        }

        /// A unit that runs, as the kernel and as PID 1 have it.
        pub(super) fn unit(&mut self, path: &str, live: u64, properties: &str) -> Id {
            let cpu = Some(Cpu { weight: live, max: None });
            self.cgroup(path, Cgroup { cpu, subtree_control: CPU, ..Cgroup::default() }, properties)
        }

        pub(super) fn cgroup(&mut self, path: &str, cgroup: Cgroup, properties: &str) -> Id {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let slice = parent.rsplit('/').next().filter(|parent| !parent.is_empty()).unwrap_or("-.slice");
            let text = format!("Id={name}\nControlGroup=/{path}\nSlice={slice}\n{properties}\n\n");
            self.units.push_str(&text);
            let parent = self.tree.find(Path::new(parent)).unwrap();
            self.tree.add(parent, name, Cgroup { controllers: CPU, populated: true, ..cgroup })
        }

        pub(super) fn foundry(policy_text: &str, outer: (u64, &str), inner: u64) -> Self {
            let mut host = Self { policy: policy(policy_text), ..Self::stock() };
            host.unit("foundry.slice", outer.0, outer.1);
            host.unit(SERVICES, inner, &format!("CPUWeight={inner}"));
            host
        }

        pub(super) fn findings(&self) -> Vec<Finding> {
            let carried = crate::effect::ancestors(&self.policy, 1 << 30);
            let set_by =
                |unit: &str, key: &str| Some(Place { file: format!("/{unit}/{key}").into(), line: None });
            findings(&self.policy, &carried, &self.tree, &Units::parse(&self.units), 2, &set_by)
        }

        #[track_caller]
        pub(super) fn only(&self) -> Finding {
            let found = self.findings();
            let [finding] = found.as_slice() else { panic!("{found:#?}") };
            finding.clone()
        }
    }

    pub(super) const POLICY: &str = "[slice.\"foundry-services.slice\"]\ncpu_weight = 200\n";
    pub(super) const UNSET: (u64, &str) = (100, "CPUWeight=[not set]");
    pub(super) const CARRIED: (u64, &str) = (200, "CPUWeight=200");

    #[test]
    fn where_all_is_well_nothing_is_found() {
        assert_eq!(Host::stock().findings(), []);
        assert_eq!(Host::foundry(POLICY, CARRIED, 200).findings(), []);
        let mut host = Host::stock();
        // Among the services of the system, among users, and in a slice that was made for several.
        host.unit("system.slice/nginx.service", 500, "CPUWeight=500");
        host.unit("user.slice/user-1001.slice", 300, "CPUWeight=300");
        // What is in a slice that somebody has chosen for it.
        host.unit("system.slice/system-pg.slice", 100, "CPUWeight=[not set]");
        host.unit("system.slice/system-pg.slice/exporter.service", 500, "CPUWeight=500");
        host.unit("batch.slice", 100, "CPUWeight=[not set]");
        host.unit("batch.slice/batch-high.slice", 500, "CPUWeight=500");
        host.unit("batch.slice/batch-low.slice", 20, "CPUWeight=20");
        // Set on the ancestor, as kubelet does.
        host.unit("kubepods.slice", 157, "CPUWeight=157");
        host.unit("kubepods.slice/kubepods-burstable.slice", 8, "CPUWeight=8");
        // Limited on purpose, and its weight is nobody's.
        let max = Some(CpuMax { quota: 10_000, period: 100_000 });
        let cpu = Some(Cpu { weight: 100, max });
        host.cgroup("system.slice/backup.service", Cgroup { cpu, ..Cgroup::default() }, "CPUWeight=100");
        assert_eq!(host.findings(), []);
        // One that does not run yet, and one whose value is still to be written.
        let mut host = Host::foundry(POLICY, UNSET, 200);
        host.units = host.units.replace("CPUWeight=200", "CPUWeight=300");
        assert_eq!(host.findings(), []);
    }
}
