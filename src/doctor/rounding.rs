//! Weights that the kernel cannot tell apart on a machine of many CPUs.
//!
//! Why: [`crate::effect::share`].
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::PlaceOf;
use super::cost::percent;
use crate::doctor::finding::{Code, Finding, Fix};
use crate::effect::share::{Busy, counted, not_computed, shares};
use crate::host::tree::{Id, Tree};
use crate::host::units::{Unit, Units};
use crate::units::CPU_WEIGHT;

/// So much more of its parent's time is worth a word.
const WORTH_A_WORD: f64 = 0.05;

/// [`Code::WeightRounded`]: a weight that somebody has set, and with which a unit gets more than is its
/// while all its siblings are busy on every CPU.
#[must_use]
pub fn findings(tree: &Tree, units: &Units, cpus: u32, set_by: PlaceOf<'_>) -> Vec<Finding> {
    let one = |(name, unit): (&str, &Unit)| {
        let weight = unit.number(CPU_WEIGHT.unit)?;
        let id = tree.find(&unit.cgroup()?).filter(|id| *id != Tree::ROOT && tree[*id].populated)?;
        if tree[id].cpu?.weight != weight || counted(weight, cpus) <= counted(weight, 1) {
            return None;
        }
        let (declared, effective) = parts(tree, id, cpus)?;
        let shown = CPU_WEIGHT.value(weight)?;
        (effective - declared >= WORTH_A_WORD).then(|| Finding {
            code: Code::WeightRounded,
            subject: name.into(),
            what: format!("a weight of {shown} counts as {:.1} on {cpus} CPUs", counted(weight, cpus)),
            cost: Some(format!(
                "with all beside it busy it gets {} of the time, not {}",
                percent(effective),
                percent(declared)
            )),
            cause: "the kernel divides a weight among the CPUs, and leaves 2 of 1024 on each".to_owned(),
            at: set_by(name, CPU_WEIGHT.unit),
            fix: Fix::Edit(format!("give each of those beside it {} times its weight", times(effective))),
        })
    };
    if not_computed(tree).is_some() { Vec::new() } else { units.iter().filter_map(one).collect() }
}

/// How many times what the others weigh makes a part of this size one that is not worth a word.
fn times(effective: f64) -> f64 {
    (effective / (1.0 - effective) / WORTH_A_WORD).ceil()
}

/// The part of its parent's time that a cgroup has by the weights as they are set, and as they count.
fn parts(tree: &Tree, id: Id, cpus: u32) -> Option<(f64, f64)> {
    let beside = &tree[tree[id].parent?].children;
    let busy: BTreeSet<Id> = beside.iter().copied().filter(|id| tree[*id].populated).collect();
    let set = |id: Id| tree[id].cpu.map(|cpu| counted(cpu.weight, 1));
    let declared = set(id)? / busy.iter().filter_map(|id| set(*id)).sum::<f64>();
    let level = shares(tree, cpus, &Busy::Only(busy)).level(id)?;
    Some((declared, level.weight / level.sum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::{Cgroup, Cpu};

    #[test]
    fn a_small_weight_counts_more_on_many_cpus() {
        let weighing =
            |weight| Cgroup { cpu: Some(Cpu { weight, max: None }), populated: true, ..Cgroup::default() };
        let mut tree = Tree::new(Cgroup::default());
        for (name, weight) in [("idle.slice", 0), ("twenty.slice", 20), ("user.slice", 100)] {
            tree.add(Tree::ROOT, name, weighing(weight));
        }
        let unit = |name: &str, weight| format!("Id={name}\nControlGroup=/{name}\nCPUWeight={weight}\n\n");
        let units = [unit("idle.slice", "idle"), unit("twenty.slice", "20"), unit("user.slice", "[not set]")];
        let units = Units::parse(&units.concat());
        let found = |cpus| -> Vec<String> {
            let all = findings(&tree, &units, cpus, &|_, _| None);
            all.into_iter().map(|f| format!("{} {}: {}", f.subject, f.what, f.cost.unwrap())).collect()
        };
        assert_eq!(found(2), Vec::<String>::new());
        assert_eq!(
            found(64),
            [
                "idle.slice a weight of idle counts as 12.5 on 64 CPUs: with all beside it busy it gets 9.5% of \
              the time, not 0.2%"
            ]
        );
        // As the fix says.
        let [one] = findings(&tree, &units, 64, &|_, _| None).try_into().unwrap();
        assert_eq!(one.fix, Fix::Edit("give each of those beside it 3 times its weight".to_owned()));
        let mut heavier = Tree::new(Cgroup::default());
        for (name, weight) in [("idle.slice", 0), ("twenty.slice", 60), ("user.slice", 300)] {
            heavier.add(Tree::ROOT, name, weighing(weight));
        }
        assert_eq!(findings(&heavier, &units, 64, &|_, _| None), []);
        // Two of them, and nobody beside.
        assert_eq!(found(512).len(), 2);
        let units = Units::parse(&unit("idle.slice", "idle"));
        let mut alone = Tree::new(Cgroup::default());
        alone.add(Tree::ROOT, "idle.slice", weighing(0));
        assert_eq!(findings(&alone, &units, 512, &|_, _| None), []);
    }
}
