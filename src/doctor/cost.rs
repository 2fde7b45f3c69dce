//! What it costs that a value or a place is not the declared one: the share of the CPUs under contention
//! and the protected memory, as the live tree has them beside the same tree with what was declared.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use crate::doctor::chain::{Chain, Scene, Stage};
use crate::effect::given;
use crate::effect::memory::{Guard, size};
use crate::effect::share::{Busy, by_weight, not_computed, shares_if};
use crate::host::tree::{Cgroup, Cpu, Id, Tree};
use crate::text::shown;
use crate::units::{CPU_WEIGHT, INIT_SCOPE, MEMORY_LOW, MEMORY_MIN, Property, SettingValue, SliceName};

/// What a cgroup weighs when nobody said otherwise.
pub(super) const DEFAULT: u64 = 100;
/// What a weight comes to against more siblings than that is no ratio that anybody thinks in.
const MOST_SIBLINGS: usize = 100;

/// What it costs that a setting of a cgroup is `is` for PID 1 or the kernel, and not what was declared.
/// `None` where that is no question of shares or of protected memory, or nothing differs.
#[must_use]
pub fn setting(
    scene: &Scene<'_>,
    cgroup: &Path,
    property: Property,
    declared: &SettingValue,
    is: u64,
) -> Option<String> {
    let (tree, declared) = (&scene.live.tree, scene.machine.number(declared));
    let id = tree.find(cgroup)?;
    match property {
        CPU_WEIGHT => weight(tree, scene.cpus, id, declared, is),
        MEMORY_MIN => Some(memory(scene, id, Guard::Min, declared, is)),
        MEMORY_LOW => Some(memory(scene, id, Guard::Low, declared, is)),
        _ => None,
    }
}

/// Says of a weight that the generator's drop-in does not have what is in force instead.
pub fn add_until_reload(scene: &Scene<'_>, chain: &mut Chain, cgroup: &Path, declared: &SettingValue) {
    let first = chain.links.iter().find(|link| !link.holds);
    let Some(broken) =
        chain.broken.as_mut().filter(|_| first.is_some_and(|link| link.stage == Stage::DropIn))
    else {
        return;
    };
    let tree = &scene.live.tree;
    let Some((id, cpu)) = tree.find(cgroup).and_then(|id| Some((id, tree[id].cpu?))) else { return };
    let compared = Weights::of(tree, scene.cpus, id, scene.machine.number(declared), cpu.weight);
    let ratios = compared.and_then(|compared| compared.ratios());
    if let (Some(ratios), Some(cost)) = (ratios, broken.cost.as_mut()) {
        *cost = format!("{cost}; {}: {ratios}", chain.unit);
    }
}

/// What the weight `is` comes to instead of the declared one, both 0 for idle:
/// `declared 2 : 1 against all logins, effective 1 : 1`.
///
/// Of a slice outside of `user.slice` that is its part against that of all logins. Where the weight
/// changes nothing there, and of all else, it is the part against what runs beside it.
#[must_use]
pub fn weight(tree: &Tree, cpus: u32, id: Id, declared: u64, is: u64) -> Option<String> {
    let compared = Weights::of(tree, cpus, id, declared, is)?;
    compared.ratios().or_else(|| compared.alone())
}

/// What a service comes to where it is, instead of where it was declared to be.
#[must_use]
pub fn place(scene: &Scene<'_>, is: &Path, declared: &Path) -> Option<String> {
    let logins = SliceName::user().cgroup();
    let is_about_logins = is.starts_with(&logins) || declared.starts_with(&logins);
    if is_about_logins || not_computed(&scene.live.tree).is_some() {
        return None;
    }
    let now = scene.live.tree.find(is).filter(|id| *id != Tree::ROOT)?;
    let all = &scene.live.tree;
    let involved = [now, all.nearest(declared), all.nearest(&logins)];
    let (part, now) = (all.only(&involved), all[now].cpu);
    let tree = &with_logins(&part);
    let moved = with_place(scene, tree, declared, now);
    let ratio = |tree: &Tree, path: &Path| {
        let (own, logins) = (tree.find(path)?, tree.find(&logins)?);
        let (a, b) = against(tree, scene.cpus, (own, None), &[logins]);
        Some(ratio(a, b))
    };
    differing("all logins", &ratio(&moved, declared)?, &ratio(tree, is)?)
}

/// A weight that was declared and one that is.
struct Weights<'t> {
    tree: &'t Tree,
    cpus: u32,
    id: Id,
    declared: u64,
    is: u64,
}

impl<'t> Weights<'t> {
    /// `None` where it cannot be computed what weights come to.
    fn of(tree: &'t Tree, cpus: u32, id: Id, declared: u64, is: u64) -> Option<Self> {
        not_computed(tree).is_none().then_some(Self { tree, cpus, id, declared, is })
    }

    fn ratios(&self) -> Option<String> {
        let tree = self.tree;
        let logins = |id| tree.unit(id) == Some(SliceName::user().as_str());
        let is_of_services = tree.is_slice(self.id) && !tree.upwards(self.id).any(logins);
        let logins = || {
            let tree = with_logins(self.tree);
            self.compare("all logins", &tree, &[tree.find(&SliceName::user().cgroup())?])
        };
        let beside = || {
            let siblings = self.siblings();
            let few = siblings.len() <= MOST_SIBLINGS;
            few.then(|| self.compare(&self.names(&siblings), tree, &siblings)).flatten()
        };
        is_of_services.then(logins).flatten().or_else(beside)
    }

    fn compare(&self, whom: &str, tree: &Tree, rivals: &[Id]) -> Option<String> {
        let of = |weight: u64| {
            let (a, b) = against(tree, self.cpus, (self.id, Some(weight)), rivals);
            (a > 0.0 && b > 0.0).then(|| ratio(a, b))
        };
        differing(whom, &of(self.declared)?, &of(self.is)?)
    }

    /// A weight beside which there is nothing counts for nothing, for now.
    fn alone(&self) -> Option<String> {
        let parent = self.tree[self.id].parent.filter(|parent| *parent != Tree::ROOT)?;
        self.tree[self.id].cpu?;
        let of = |weight| ratio(real(weight), real(DEFAULT));
        let (declared, is) = (of(self.declared), of(self.is));
        let parent = shown(&self.tree.name(parent)).to_string();
        (self.siblings().is_empty() && declared != is).then(|| {
            format!(
                "no share as long as it is alone in {parent} \
                 (against one of weight {DEFAULT}: declared {declared}, effective {is})"
            )
        })
    }

    /// What runs beside it and competes by a weight; one more than are compared where there are more.
    fn siblings(&self) -> Vec<Id> {
        let children = self.tree[self.id].parent.map_or(&[][..], |parent| &self.tree[parent].children);
        let competes = |id: &&Id| {
            let other = &self.tree[**id];
            // PID 1 competes with nobody for long.
            **id != self.id && other.populated && other.cpu.is_some() && other.name.as_os_str() != INIT_SCOPE
        };
        children.iter().filter(competes).copied().take(MOST_SIBLINGS + 1).collect()
    }

    fn names(&self, siblings: &[Id]) -> String {
        if siblings.len() > 2 {
            return format!("its {} siblings together", siblings.len());
        }
        let mut names: Vec<String> =
            siblings.iter().map(|id| shown(&self.tree.name(*id)).to_string()).collect();
        names.sort_unstable();
        names.join(" and ")
    }
}

/// What of the CPU time a cgroup gets, with this weight or its own, and what these others get together, when all of
/// them are busy and nothing else is. Both are parts of the same.
fn against(tree: &Tree, cpus: u32, (own, weight): (Id, Option<u64>), rivals: &[Id]) -> (f64, f64) {
    let are_siblings = rivals.iter().all(|id| tree[*id].parent == tree[own].parent);
    let weighing = weight.or_else(|| Some(tree[own].cpu?.weight)).map(|weight| (own, weight));
    let of_siblings = weighing.filter(|_| are_siblings);
    if let Some(parts) = of_siblings.and_then(|weighing| by_weight(tree, cpus, weighing, rivals)) {
        return parts;
    }
    let busy: BTreeSet<Id> = rivals.iter().copied().chain([own]).collect();
    let all = shares_if(tree, cpus, &Busy::Only(busy), weighing);
    (all.of(own), rivals.iter().map(|id| all.of(*id)).sum())
}

/// The smaller one is 1: `2 : 1`, `1 : 3.5`, `1 : 341`.
pub(super) fn ratio(a: f64, b: f64) -> String {
    let short = |number: f64| {
        let text = if number < 10.0 { format!("{number:.1}") } else { format!("{number:.0}") };
        text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
    };
    if a >= b { format!("{} : 1", short(a / b)) } else { format!("1 : {}", short(b / a)) }
}

/// A part of a whole: `38.8%`.
pub(super) fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// The tree with the cgroup of all logins, also where nobody has logged in yet.
pub(super) fn with_logins(tree: &Tree) -> Cow<'_, Tree> {
    let logins = SliceName::user();
    let mut tree = Cow::Borrowed(tree);
    if tree.find(&logins.cgroup()).is_none() {
        tree.to_mut().add(Tree::ROOT, logins.as_str(), weighing(DEFAULT));
    }
    tree
}

/// The tree with this cgroup, and the slices that it is in as they are declared where there are none yet.
fn with_place(scene: &Scene<'_>, tree: &Tree, path: &Path, cpu: Option<Cpu>) -> Tree {
    let (mut tree, mut id) = (tree.clone(), Tree::ROOT);
    for name in path {
        id = tree.child(id, name).unwrap_or_else(|| {
            let cgroup = match name.to_str().map(SliceName::new) {
                Some(Ok(slice)) => weighing(declared_weight(scene, &slice)),
                _ => Cgroup { cpu, ..weighing(DEFAULT) },
            };
            tree.add(id, name, cgroup)
        });
    }
    tree
}

fn declared_weight(scene: &Scene<'_>, slice: &SliceName) -> u64 {
    let given = given(scene.policy, slice, scene.carried.get(slice));
    let weight = given.into_iter().find(|given| given.property == CPU_WEIGHT);
    weight.map_or(DEFAULT, |weight| scene.machine.number(&weight.value))
}

fn weighing(weight: u64) -> Cgroup {
    Cgroup { cpu: Some(Cpu { weight, max: None }), populated: true, ..Cgroup::default() }
}

fn differing(whom: &str, declared: &str, effective: &str) -> Option<String> {
    (declared != effective).then(|| format!("declared {declared} against {whom}, effective {effective}"))
}

/// What PID 1 has and the cgroup has not yet protects from the next start on.
fn memory(scene: &Scene<'_>, id: Id, guard: Guard, declared: u64, is: u64) -> String {
    let tree = &scene.live.tree;
    let outcome = scene.protections().outcome(tree, id, guard);
    let effective = outcome.map_or(is, |outcome| outcome.effective.min(is));
    format!("declared {} protected, effective {}", size(declared), size(effective))
}

/// A weight, to divide it.
#[allow(clippy::cast_precision_loss, reason = "weights are at most 10000")]
pub(super) fn real(weight: u64) -> f64 {
    weight as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::CpuMax;

    const SERVICES: &str = "foundry.slice/foundry-services.slice";

    fn add(tree: &mut Tree, path: &str, weight: u64) -> Id {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.find(Path::new(parent)).unwrap();
        tree.add(parent, name, weighing(weight))
    }

    /// The default policy's tree, with two services and two users, two CPUs.
    fn tree(foundry: u64, services: u64) -> Tree {
        let mut tree = Tree::new(Cgroup::default());
        for (path, weight) in [
            ("init.scope", 100),
            ("foundry.slice", foundry),
            (SERVICES, services),
            ("foundry.slice/foundry-services.slice/local-fs.service", 100),
            ("foundry.slice/foundry-services.slice/local-slm.service", 100),
            ("system.slice", 100),
            ("user.slice", 100),
            ("user.slice/user-0.slice", 100),
            ("user.slice/user-1000.slice", 100),
        ] {
            add(&mut tree, path, weight);
        }
        tree
    }

    fn cost(tree: &Tree, path: &str, declared: u64, is: u64) -> Option<String> {
        weight(tree, 2, tree.find(Path::new(path)).unwrap(), declared, is)
    }

    #[test]
    fn a_slice_of_services_is_compared_with_all_logins() {
        let told = "declared 2 : 1 against all logins, effective 1 : 1";
        assert_eq!(cost(&tree(100, 200), "foundry.slice", 200, 100).as_deref(), Some(told));
        // Whatever it is now: what PID 1 has holds from the next start on.
        assert_eq!(cost(&tree(200, 200), "foundry.slice", 200, 100).as_deref(), Some(told));
        let told = "declared 2 : 1 against all logins, effective 1 : 256";
        assert_eq!(cost(&tree(0, 200), "foundry.slice", 200, 0).as_deref(), Some(told));
        // Where nobody has logged in yet.
        let mut nobody = Tree::new(Cgroup::default());
        add(&mut nobody, "batch.slice", 50);
        let told = "declared 1 : 2 against all logins, effective 5 : 1";
        assert_eq!(cost(&nobody, "batch.slice", 50, 500).as_deref(), Some(told));
    }

    #[test]
    fn a_nested_slice_is_compared_with_what_it_competes_with() {
        let mut tree = tree(200, 50);
        let alone = "no share as long as it is alone in foundry.slice \
                     (against one of weight 100: declared 2 : 1, effective 1 : 2)";
        assert_eq!(cost(&tree, SERVICES, 200, 50).as_deref(), Some(alone));
        add(&mut tree, "foundry.slice/foundry-jobs.slice", 100);
        let told = "declared 2 : 1 against foundry-jobs.slice, effective 1 : 2";
        assert_eq!(cost(&tree, SERVICES, 200, 50).as_deref(), Some(told));
    }

    #[test]
    fn all_else_is_compared_with_its_siblings() {
        let mut tree = tree(200, 200);
        let told = "declared 5 : 1 against local-slm.service, effective 1 : 1";
        let fs = &format!("{SERVICES}/local-fs.service");
        assert_eq!(cost(&tree, fs, 500, 100).as_deref(), Some(told));
        let told = "declared 1 : 3 against foundry.slice and system.slice, effective 1 : 1";
        assert_eq!(cost(&tree, "user.slice", 100, 300).as_deref(), Some(told));
        add(&mut tree, "user.slice/user-1001.slice", 100);
        add(&mut tree, "user.slice/user-1002.slice", 100);
        let told = "declared 1 : 1 against its 3 siblings together, effective 1 : 3";
        assert_eq!(cost(&tree, "user.slice/user-0.slice", 300, 100).as_deref(), Some(told));
    }

    #[test]
    fn against_very_many_no_ratio_is_told() {
        let mut tree = Tree::new(Cgroup::default());
        add(&mut tree, "system.slice", 100);
        let paths = (0..=MOST_SIBLINGS).map(|number| format!("system.slice/{number}.service"));
        paths.for_each(|path| _ = add(&mut tree, &path, 100));
        let told = "declared 1 : 50 against its 100 siblings together, effective 1 : 100";
        assert_eq!(cost(&tree, "system.slice/7.service", 200, 100).as_deref(), Some(told));
        add(&mut tree, "system.slice/more.service", 100);
        assert_eq!(cost(&tree, "system.slice/7.service", 200, 100), None);
    }

    #[test]
    fn what_makes_no_difference_costs_nothing() {
        let mut tree = tree(200, 200);
        assert_eq!(cost(&tree, "foundry.slice", 200, 200), None);
        // A limit decides, whatever the weight is.
        let max = Some(CpuMax { quota: 20_000, period: 100_000 });
        let limited = Cgroup { cpu: Some(Cpu { weight: 300, max }), ..weighing(100) };
        tree.add(Tree::ROOT, "limited.slice", limited);
        assert_eq!(cost(&tree, "limited.slice", 300, 200), None);
        // Nothing to tell of one without the controller.
        tree.add(Tree::ROOT, "off.slice", Cgroup { cpu: None, ..weighing(100) });
        assert_eq!(cost(&tree, "off.slice", 300, 200), None);
    }
}
