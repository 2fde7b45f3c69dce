//! Weights that decide nothing: inside of an ancestor that has no weight of its own, or above a limit.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Doctor, NEARLY, Weighted, weight};
use crate::doctor::cost::{DEFAULT, ratio, real};
use crate::doctor::finding::{Code, Finding, Fix};
use crate::doctor::remedy::{self, NewValue};
use crate::doctor::{is_admins, is_alone, is_in_common, set_property};
use crate::effect::share::{Busy, Limit, Shares, shares};
use crate::host::tree::{Cgroup, CpuMax, Id, Tree};
use crate::units::{CPU_WEIGHT, Weight};

impl Doctor<'_> {
    /// [`Code::AncestorWeight`]: all its ancestors have the default weight and none of them is one of
    /// [`COMMON`]; and the policy declares the weight, or it has no sibling to compete with.
    pub(super) fn below_default(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let ancestors = self.ancestors(unit.id);
        let (&parent, &top) = (ancestors.first()?, ancestors.last()?);
        let suspect = unit.weight != DEFAULT
            && self.is_written(unit)
            && !is_in_common(self.tree, unit.id)
            && ancestors.iter().all(|id| self.has_default(*id))
            && (unit.declared.is_some() || is_alone(self.tree, self.units, unit.id));
        if !suspect {
            return None;
        }
        let (weight, name) = (unit.setting_value(), self.name(parent));
        let raise = |id: &Id| set_property(&self.name(*id), CPU_WEIGHT.unit, &weight);
        let fix = match unit.declared {
            Some(_) => Fix::Apply,
            None => Fix::Command(ancestors.iter().map(raise).collect::<Vec<_>>().join(" && ")),
        };
        Some(Finding {
            code: Code::AncestorWeight,
            subject: unit.name.into(),
            what: format!("{} counts inside of {name} only", unit.setting()),
            cost: Some(self.against_a_login(unit, &[])?.text),
            cause: format!("nobody has set the weight of {}, which is {DEFAULT}", self.name(top)),
            at: self.place(unit),
            fix,
        })
    }

    /// [`Code::NothingBeside`]: it competes with nobody, and what it is in has another weight that somebody has set.
    /// With the same one, as [`Code::AncestorWeight`] has it, it says what is so.
    pub(super) fn beside_nothing(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let parent = self.tree[unit.id].parent.filter(|parent| *parent != Tree::ROOT)?;
        let name = self.name(parent);
        let above = self.units.get(&name).and_then(weight).filter(|above| *above != unit.weight)?;
        let suspect = unit.declared.is_none()
            && unit.weight != DEFAULT
            && self.is_written(unit)
            && !is_in_common(self.tree, unit.id)
            && self.place(unit).is_some_and(|at| is_admins(&at))
            && (self.set_by)(&name, CPU_WEIGHT.unit).is_some_and(|at| is_admins(&at))
            && is_alone(self.tree, self.units, unit.id);
        suspect.then(|| Finding {
            code: Code::NothingBeside,
            subject: unit.name.into(),
            what: format!("{} decides nothing", unit.setting()),
            cost: None,
            cause: format!("nothing else is in {name}, whose own weight, {above}, counts against all else"),
            at: self.place(unit),
            fix: remedy::without(unit.name, CPU_WEIGHT.unit, self.set_by),
        })
    }

    /// [`Code::CpuLimited`]: a weight above the default, or the policy's, with a limit that is reached even
    /// when all siblings are busy: then it is the limit that decides, always.
    pub(super) fn limited(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let path = || self.tree.upwards(unit.id).filter(|id| *id != Tree::ROOT);
        let is_limited = |cgroup: &Cgroup| {
            cgroup.cpu.is_some_and(|cpu| cpu.max.is_some())
                || cgroup.cpus.as_ref().is_some_and(|cpus| cpus.count() < self.cpus)
        };
        let suspect = (unit.weight > DEFAULT || unit.declared.is_some())
            && self.is_written(unit)
            && path().any(|id| is_limited(&self.tree[id]));
        if !suspect {
            return None;
        }
        let all = self.with_siblings(unit.id);
        let chain = all.chain(self.tree, unit.id);
        let by_weight: f64 = chain.iter().map(|(_, level)| level.weight / level.sum).product();
        let share = all.of(unit.id);
        if share > by_weight * NEARLY {
            return None;
        }
        let caps = chain.iter().filter_map(|(id, level)| Some((*id, level.cap?)));
        let lowest = caps.min_by(|a, b| a.1.most.total_cmp(&b.1.most));
        let (id, limit) = match lowest {
            Some((id, cap)) => (id, cap.limit),
            // Nobody reaches the limit where others want the same CPUs.
            None => chain.iter().find_map(|(id, _)| Some((*id, all.bound(*id)?.by?)))?,
        };
        let id = match limit {
            Limit::Cpuset(_) => self.giver_of_cpuset(id),
            _ => id,
        };
        let (what, setting) = match limit {
            Limit::Quota(max) => {
                (format!("cpu.max of {} allows {:.2}", self.name(id), in_cpus(max)), "CPUQuota")
            }
            Limit::Cpuset(cpus) => (format!("the cpuset of {} allows {cpus}", self.name(id)), "AllowedCPUs"),
            Limit::Affinity(_) | Limit::Isolated(_) | Limit::Threads(_) => return None,
        };
        let name = self.name(id);
        let own = self.units.get(&name);
        let is_pin = setting == "AllowedCPUs"
            && own.is_some_and(|unit| unit.text(setting).is_some_and(|set| !set.is_empty()));
        let has_its_own =
            || own.and_then(weight).is_some_and(|weight| weight > DEFAULT) || self.declared(&name).is_some();
        // Who is bound on purpose knows it, and an ancestor with a weight is told of by itself.
        if id == Tree::ROOT || if id == unit.id { is_pin } else { has_its_own() } {
            return None;
        }
        Some(Finding {
            code: Code::CpuLimited,
            subject: unit.name.into(),
            what: format!("{} never decides: a limit is reached first", unit.setting()),
            cost: Some(format!(
                "{:.1} % of the machine by its weight when all are busy, effective {:.1} %",
                by_weight * 100.0,
                share * 100.0
            )),
            cause: format!("{what} of {} CPUs", self.cpus),
            at: (self.set_by)(&name, setting),
            fix: remedy::fix(
                &[NewValue { unit: name, property: setting, value: String::new() }],
                self.set_by,
            ),
        })
    }

    /// From which ancestor, or by itself, a cgroup has its CPUs: what is below has no more of them.
    fn giver_of_cpuset(&self, id: Id) -> Id {
        let cpus = |id: Id| self.tree[id].cpus.as_ref();
        let own = self.tree.upwards(id).find_map(cpus);
        let path = self.tree.upwards(id).filter(|id| *id != Tree::ROOT);
        path.take_while(|id| cpus(*id).is_none() || cpus(*id) == own)
            .filter(|id| cpus(*id).is_some())
            .last()
            .unwrap_or(id)
    }

    /// What each gets while a unit and all siblings of its and of its ancestors are busy: the same for all units that
    /// are in one cgroup.
    fn with_siblings(&self, id: Id) -> Rc<Shares> {
        let parent = self.tree[id].parent.unwrap_or(Tree::ROOT);
        let mut known = self.with_siblings.borrow_mut();
        let all = known.entry(parent).or_insert_with(|| {
            let path = self.tree.upwards(id).filter(|id| *id != Tree::ROOT);
            let busy = path.flat_map(|id| self.siblings(id)).chain([id]).collect();
            Rc::new(shares(self.tree, self.cpus, &Busy::Only(busy)))
        });
        Rc::clone(all)
    }

    /// [`Code::AncestorWeight`] of the instances of a template, which PID 1 puts into a slice of their own where nobody
    /// says another: all of them together weigh what one unit does.
    pub(super) fn instances(&self, weighted: &[Weighted<'_>]) -> Vec<Finding> {
        let mut by_slice: BTreeMap<Id, Vec<&Weighted<'_>>> = BTreeMap::new();
        for unit in weighted.iter().filter(|unit| self.is_written(unit)) {
            if let Some(slice) = self.slice_of_instances(unit) {
                by_slice.entry(slice).or_default().push(unit);
            }
        }
        by_slice.into_iter().filter_map(|(slice, units)| self.of_instances(slice, &units)).collect()
    }

    /// The slice that PID 1 has made for the instances of a unit's template, where its weight is nobody's.
    fn slice_of_instances(&self, unit: &Weighted<'_>) -> Option<Id> {
        let parent = self.tree[unit.id].parent?;
        let made = slice_of_template(unit.name)?;
        (self.tree.unit(parent) == Some(&made) && self.has_default(parent)).then_some(parent)
    }

    fn of_instances(&self, slice: Id, units: &[&Weighted<'_>]) -> Option<Finding> {
        let first = *units.iter().find(|unit| unit.weight != DEFAULT)?;
        let all: u64 = self.siblings(first.id).chain([first.id]).filter_map(|id| self.live(id)).sum();
        let (name, beside) = (self.name(slice), self.name(self.tree[slice].parent?));
        let mut subjects: Vec<&str> =
            units.iter().filter(|unit| unit.weight == first.weight).map(|unit| unit.name).collect();
        subjects.sort_unstable();
        let weight = if all == 0 { "idle".to_owned() } else { all.min(Weight::MAX.get()).to_string() };
        let cost = (first.weight > 0 && all > 0).then(|| {
            let effective = real(DEFAULT) * real(first.weight) / real(all);
            format!(
                "declared {} against one of weight {DEFAULT} in {beside}, effective {}",
                ratio(real(first.weight), real(DEFAULT)),
                ratio(effective, real(DEFAULT))
            )
        });
        Some(Finding {
            code: Code::AncestorWeight,
            subject: subjects.into_iter().collect(),
            what: format!("{} counts inside of {name} only", first.setting()),
            cost,
            cause: format!(
                "PID 1 has put the instances into {name}, whose weight nobody has set and which is {DEFAULT}"
            ),
            at: self.place(first),
            fix: Fix::Command(set_property(&name, CPU_WEIGHT.unit, &weight)),
        })
    }

    /// Whether this is a unit of PID 1's whose weight nobody has set.
    fn has_default(&self, id: Id) -> bool {
        let unit = self.tree.unit(id).and_then(|name| self.units.get(name));
        unit.is_some_and(|unit| weight(unit).is_none()) && self.live(id) == Some(DEFAULT)
    }
}

/// The slice in which PID 1 puts the instances of a template whose unit files name none: `unit_set_default_slice` in
/// systemd's `src/core/unit.c`.
fn slice_of_template(unit: &str) -> Option<String> {
    let (template, _) = unit.strip_suffix(".service")?.split_once('@')?;
    Some(format!("system-{}.slice", template.replace('\\', r"\x5c").replace('-', r"\x2d")))
}

fn in_cpus(max: CpuMax) -> f64 {
    real(max.quota) / real(max.period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::cpu::tests::{CPU, Host, POLICY, SERVICES, UNSET};
    use crate::host::cpu_set::CpuSet;
    use crate::host::tree::{Cpu, CpuMax};
    use crate::policy::Policy;

    #[test]
    fn an_ancestor_of_the_default_weight_is_found() {
        let alone = Host::foundry("", UNSET, 200).only();
        assert_eq!(
            (alone.code, alone.subject.to_string().as_str()),
            (Code::AncestorWeight, "foundry-services.slice")
        );
        assert_eq!(alone.cost.as_deref(), Some("declared 2 : 1 against a login, effective 1 : 1"));
        assert_eq!(alone.at.unwrap().to_string(), "/foundry-services.slice/CPUWeight");
        assert_eq!(alone.fix, Fix::Command("systemctl set-property foundry.slice CPUWeight=200".to_owned()));
        let mut declared = Host::foundry(POLICY, UNSET, 200);
        declared.unit("foundry.slice/foundry-jobs.slice", 100, "CPUWeight=[not set]");
        let declared = declared.only();
        assert_eq!((declared.code, declared.fix), (Code::AncestorWeight, Fix::Apply));
        assert_eq!(declared.at.unwrap().line, Some(2));
        // Where nobody is logged in, and was never.
        let root = Cgroup { controllers: CPU, subtree_control: CPU, ..Cgroup::default() };
        let mut nobody = Host { tree: Tree::new(root), units: String::new(), policy: Policy::default() };
        nobody.unit("foundry.slice", UNSET.0, UNSET.1);
        nobody.unit(SERVICES, 200, "CPUWeight=200");
        assert_eq!(nobody.only().cost.as_deref(), Some("declared 2 : 1 against a login, effective 1 : 1"));
        let idle = Host::foundry("", UNSET, 0);
        let idle = Host { units: idle.units.replace("CPUWeight=0", "CPUWeight=idle"), ..idle }.only();
        assert_eq!(idle.cost.as_deref(), Some("declared idle against a login, effective 1 : 1"));
        assert_eq!(idle.fix, Fix::Command("systemctl set-property foundry.slice CPUWeight=idle".to_owned()));
    }

    #[test]
    fn a_limit_below_the_weights_share_is_found() {
        let with = |quota: u64, on: &str| {
            let mut host = Host::stock();
            let limited = |path: &str, weight: u64| {
                let max = (path == on).then_some(CpuMax { quota, period: 100_000 });
                Cgroup { cpu: Some(Cpu { weight, max }), subtree_control: CPU, ..Cgroup::default() }
            };
            host.cgroup("a.slice", limited("a.slice", 100), "CPUWeight=[not set]");
            let b = limited("b.service", 400);
            host.cgroup("a.slice/b.service", b, "CPUWeight=400");
            host.unit("a.slice/c.service", 100, "CPUWeight=[not set]");
            host
        };
        // A quarter of the machine is a.slice's by weight, four fifths of that b.service's: 0.4 CPUs.
        let found = with(20_000, "b.service").only();
        assert_eq!((found.code, found.subject.to_string().as_str()), (Code::CpuLimited, "b.service"));
        let cost = "20.0 % of the machine by its weight when all are busy, effective 10.0 %";
        assert_eq!(found.cost.as_deref(), Some(cost));
        assert_eq!(found.cause, "cpu.max of b.service allows 0.20 of 2 CPUs");
        assert_eq!(found.at.unwrap().to_string(), "/b.service/CPUQuota");
        let found = with(20_000, "a.slice").only();
        let fix = "CPUQuota= at /a.slice/CPUQuota, then: systemctl daemon-reload && \
                   systemd-run --quiet --wait --slice=a.slice true";
        assert_eq!(
            (found.fix, found.at.unwrap().to_string().as_str()),
            (Fix::Edit(fix.to_owned()), "/a.slice/CPUQuota")
        );
        assert_eq!(with(50_000, "b.service").findings(), []);
        assert_eq!(with(60_000, "a.slice").findings(), []);
    }

    #[test]
    fn who_limits_is_named_and_not_who_is_limited() {
        let with = |slice: &str, own: Option<&str>, properties: &str| {
            let mut host = Host::stock();
            let limited = |cpus: &str, weight: u64| {
                let cpu = Some(Cpu { weight, max: None });
                Cgroup { cpu, cpus: CpuSet::parse(cpus), subtree_control: CPU, ..Cgroup::default() }
            };
            host.cgroup("a.slice", limited(slice, 900), "CPUWeight=[not set]\nAllowedCPUs=0");
            let properties = format!("CPUWeight=900\n{properties}");
            host.cgroup("a.slice/b.service", limited(own.unwrap_or(slice), 900), &properties);
            host
        };
        // Nine tenths of the machine by weight, and both are on one CPU.
        let found = with("0", None, "AllowedCPUs=").only();
        assert_eq!((found.code, found.subject.to_string().as_str()), (Code::CpuLimited, "b.service"));
        assert_eq!(found.cause, "the cpuset of a.slice allows 1 of 2 CPUs");
        assert_eq!(found.at.unwrap().to_string(), "/a.slice/AllowedCPUs");
        assert!(
            matches!(found.fix, Fix::Edit(fix) if fix.starts_with("AllowedCPUs= at /a.slice/AllowedCPUs"))
        );
        // It has what it asked for.
        assert_eq!(with("0-1", Some("0"), "AllowedCPUs=0").findings(), []);
        // Others on the same CPU keep it from all of that.
        let mut host = with("0", None, "AllowedCPUs=");
        let user = host.tree.find(std::path::Path::new("user.slice")).unwrap();
        let on_one = Cgroup { cpus: CpuSet::parse("0"), ..host.tree[user].clone() };
        let mut tree = Tree::new(host.tree[Tree::ROOT].clone());
        for id in host.tree.ids().skip(1) {
            let cgroup = if id == user { on_one.clone() } else { host.tree[id].clone() };
            tree.add(host.tree[id].parent.unwrap(), host.tree[id].name.clone(), cgroup);
        }
        host.tree = tree;
        assert_eq!(host.only().cause, "the cpuset of a.slice allows 1 of 2 CPUs");
    }

    #[test]
    fn the_slice_that_instances_share_is_found() {
        let mut host = Host::stock();
        host.unit("system.slice/system-my\\x2dworker.slice", 100, "CPUWeight=[not set]");
        for name in ["1", "2"] {
            let path = format!("system.slice/system-my\\x2dworker.slice/my-worker@{name}.service");
            host.unit(&path, 500, "CPUWeight=500");
        }
        let found = host.only();
        assert_eq!(found.code, Code::AncestorWeight);
        assert_eq!(found.subject.to_string(), "my-worker@1.service, my-worker@2.service");
        let cost = "declared 5 : 1 against one of weight 100 in system.slice, effective 1 : 2";
        assert_eq!(found.cost.as_deref(), Some(cost));
        let fix = r"systemctl set-property 'system-my\x2dworker.slice' CPUWeight=1000";
        assert_eq!(found.fix, Fix::Command(fix.to_owned()));
        // Applied, each has its own against what is beside the slice.
        let mut host = Host::stock();
        host.unit("system.slice/system-my\\x2dworker.slice", 1000, "CPUWeight=1000");
        for name in ["1", "2"] {
            let path = format!("system.slice/system-my\\x2dworker.slice/my-worker@{name}.service");
            host.unit(&path, 500, "CPUWeight=500");
        }
        assert_eq!(host.findings(), []);
        let other = host.unit("system.slice/api.service", 100, "CPUWeight=[not set]");
        let first = host
            .tree
            .find(std::path::Path::new("system.slice/system-my\\x2dworker.slice/my-worker@1.service"));
        let second = host
            .tree
            .find(std::path::Path::new("system.slice/system-my\\x2dworker.slice/my-worker@2.service"));
        let all = shares(&host.tree, 2, &Busy::Only([other, first.unwrap(), second.unwrap()].into()));
        assert!((all.of(first.unwrap()) / all.of(other) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_name_with_a_backslash_is_quoted_in_the_fix() {
        // Of a.slice's, to show that it is the name alone.
        let fix = |slice: &str| {
            let mut host = Host::stock();
            let cpu = Some(Cpu { weight: 100, max: None });
            let above = Cgroup { subtree_control: CPU, cpu, ..Cgroup::default() };
            host.cgroup(slice, above, "CPUWeight=[not set]");
            let cpu = Some(Cpu { weight: 300, max: None });
            let below = Cgroup { cpu, ..Cgroup::default() };
            host.cgroup(&format!("{slice}/b.service"), below, "CPUWeight=300");
            match host.only().fix {
                Fix::Command(command) | Fix::Edit(command) => command,
                other => panic!("{other:?}"),
            }
        };
        let command = "systemctl set-property NAME CPUWeight=300";
        assert_eq!(fix("a.slice"), command.replace("NAME", "a.slice"));
        assert_eq!(fix(r"a\x2db.slice"), command.replace("NAME", r"'a\x2db.slice'"));
    }
}
