//! Weights that decide nothing: without the controller, inside of an ancestor that has no weight of its own,
//! or above a limit.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{Doctor, NEARLY, Weighted, weight};
use crate::effect::doctor::cost::DEFAULT;
use crate::effect::doctor::set_property;
use crate::effect::finding::{Code, Finding, Fix};
use crate::effect::share::{Busy, Limit, shares};
use crate::host::tree::{Cgroup, Id, Tree};
use crate::host::units::Unit;
use crate::policy::{CPU_WEIGHT, SLICE};
use crate::text::quoted;

/// In these, siblings of every origin compete, and come and go.
const COMMON: [&str; 3] = ["machine.slice", "system.slice", "user.slice"];

impl Doctor<'_> {
    /// [`Code::ControllerOff`]: the unit's cgroup has no cpu controller.
    pub(super) fn without_controller(&self, unit: &Weighted<'_>) -> Option<Finding> {
        if self.tree[unit.id].cpu.is_some() {
            return None;
        }
        let mut ancestors: Vec<Id> = self.ancestors(unit.id);
        ancestors.push(Tree::ROOT);
        let off = ancestors.into_iter().rev().find(|id| !self.tree[*id].subtree_control.cpu)?;
        let name = self.name(off);
        let (cause, fix) = if self.tree[Tree::ROOT].controllers.cpu {
            let parent = self.name(self.tree[unit.id].parent.unwrap_or(Tree::ROOT));
            let fix = match unit.declared {
                Some(_) => Fix::Apply,
                None => Fix::Command(format!("systemd-run --quiet --wait --slice={} true", quoted(&parent))),
            };
            (format!("{name} does not hand on the cpu controller (cgroup.subtree_control)"), fix)
        } else {
            let cause = "the kernel offers no cpu controller: cgroup_disable=cpu, or cgroup v1 holds it";
            let fix = "take cgroup_disable=cpu and systemd.unified_cgroup_hierarchy=0 from the kernel's command line";
            (cause.to_owned(), Fix::Edit(fix.to_owned()))
        };
        Some(Finding {
            code: Code::ControllerOff,
            subject: unit.name.to_owned(),
            what: format!("{} has no effect", unit.setting()),
            cost: Some(format!("its threads compete one by one with the others in {name}")),
            cause,
            at: self.place(unit),
            fix,
        })
    }

    /// [`Code::AncestorWeight`]: all its ancestors have the default weight and none of them is one of
    /// [`COMMON`]; and the policy declares the weight, or it has no sibling to compete with.
    pub(super) fn below_default(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let ancestors = self.ancestors(unit.id);
        let (&parent, &top) = (ancestors.first()?, ancestors.last()?);
        let suspect = unit.weight != DEFAULT
            && self.is_written(unit)
            && !self.tree.unit(top).is_some_and(|top| COMMON.contains(&top))
            && ancestors.iter().all(|id| self.has_default(*id))
            && (unit.declared.is_some() || self.is_alone(unit.id, parent));
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
            subject: unit.name.to_owned(),
            what: format!("{} counts inside of {name} only", unit.setting()),
            cost: Some(self.against_a_login(unit, &[])?.text),
            cause: format!("nobody has set the weight of {}, which is {DEFAULT}", self.name(top)),
            at: self.place(unit),
            fix,
        })
    }

    /// [`Code::CpuLimited`]: a weight above the default, or the policy's, with a limit that is reached even
    /// when all siblings are busy: then it is the limit that decides, always.
    pub(super) fn limited(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let path = || self.tree.upwards(unit.id).filter(|id| *id != Tree::ROOT);
        let is_limited = |cgroup: &Cgroup| {
            cgroup.cpu.is_some_and(|cpu| cpu.max.is_some())
                || cgroup.cpus.is_some_and(|cpus| cpus < self.cpus)
        };
        let suspect = (unit.weight > DEFAULT || unit.declared.is_some())
            && self.is_written(unit)
            && path().any(|id| is_limited(&self.tree[id]));
        if !suspect {
            return None;
        }
        let mut busy: BTreeSet<Id> = path().flat_map(|id| self.siblings(id)).collect();
        busy.insert(unit.id);
        let all = shares(self.tree, self.cpus, &Busy::Only(busy));
        let chain = all.chain(self.tree, unit.id);
        let by_weight: f64 = chain.iter().map(|(_, level)| level.weight / level.sum).product();
        let share = all.of(unit.id);
        if share > by_weight * NEARLY {
            return None;
        }
        let caps = chain.iter().filter_map(|(id, level)| Some((*id, level.cap?)));
        let (id, cap) = caps.min_by(|a, b| a.1.most.total_cmp(&b.1.most))?;
        let (limit, setting) = match cap.limit {
            Limit::Quota(_) => ("cpu.max", "CPUQuota"),
            Limit::Cpuset(_) => ("the cpuset", "AllowedCPUs"),
            Limit::Threads(_) => return None,
        };
        let name = self.name(id);
        let has_weight = |name: &str| self.units.get(name).is_some_and(|unit| weight(unit).is_some());
        if id == Tree::ROOT || (id != unit.id && has_weight(&name)) {
            return None;
        }
        Some(Finding {
            code: Code::CpuLimited,
            subject: unit.name.to_owned(),
            what: format!("{} never decides: a limit is reached first", unit.setting()),
            cost: Some(format!(
                "{:.1} % of the machine by its weight when all are busy, effective {:.1} %",
                by_weight * 100.0,
                share * 100.0
            )),
            cause: format!(
                "{limit} of {name} allows {:.2} of {} CPUs",
                cap.most * f64::from(self.cpus),
                self.cpus
            ),
            at: (self.set_by)(&name, setting),
            fix: Fix::Command(set_property(&name, setting, "")),
        })
    }

    /// Whether nothing that is there, or that PID 1 has loaded, can compete with it.
    fn is_alone(&self, id: Id, parent: Id) -> bool {
        let (name, parent_name) = (self.name(id), self.name(parent));
        let is_other = |(other, unit): (&str, &Unit)| other != name && unit.text(SLICE) == Some(&parent_name);
        self.tree[parent].children.len() == 1 && !self.units.iter().any(is_other)
    }

    /// Whether this is a unit of PID 1's whose weight nobody has set.
    fn has_default(&self, id: Id) -> bool {
        let unit = self.tree.unit(id).and_then(|name| self.units.get(name));
        unit.is_some_and(|unit| weight(unit).is_none()) && self.live(id) == Some(DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::doctor::cpu::tests::{CPU, Host, POLICY, SERVICES, UNSET};
    use crate::host::tree::{Bandwidth, Controllers, Cpu};
    use crate::policy::Policy;

    #[test]
    fn an_ancestor_of_the_default_weight_is_found() {
        let alone = Host::foundry("", UNSET, 200).only();
        assert_eq!((alone.code, alone.subject.as_str()), (Code::AncestorWeight, "foundry-services.slice"));
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
    fn a_weight_without_the_controller_is_found() {
        let mut host = Host::stock();
        let pids = Controllers { cpu: false, ..CPU };
        let off =
            Cgroup { subtree_control: pids, cpu: Some(Cpu { weight: 100, max: None }), ..Cgroup::default() };
        host.cgroup("a.slice", off, "CPUWeight=[not set]");
        host.cgroup("a.slice/b.service", Cgroup::default(), "CPUWeight=300");
        let found = host.only();
        assert_eq!((found.code, found.subject.as_str()), (Code::ControllerOff, "b.service"));
        assert!(found.cause.starts_with("a.slice does not hand on"), "{}", found.cause);
        assert!(matches!(found.fix, Fix::Command(command) if command.contains("--slice=a.slice")));
    }

    #[test]
    fn a_kernel_without_the_controller_is_found() {
        let none = Controllers { cpu: false, ..CPU };
        let root = Cgroup { controllers: none, subtree_control: none, ..Cgroup::default() };
        let mut host = Host { tree: Tree::new(root), units: String::new(), policy: Policy::default() };
        host.cgroup("a.slice", Cgroup::default(), "CPUWeight=300");
        let found = host.only();
        assert_eq!(found.code, Code::ControllerOff);
        assert!(found.cause.contains("cgroup_disable=cpu"), "{}", found.cause);
    }

    #[test]
    fn a_limit_below_the_weights_share_is_found() {
        let with = |quota: u64, on: &str| {
            let mut host = Host::stock();
            let limited = |path: &str, weight: u64| {
                let max = (path == on).then_some(Bandwidth { quota, period: 100_000 });
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
        assert_eq!((found.code, found.subject.as_str()), (Code::CpuLimited, "b.service"));
        let cost = "20.0 % of the machine by its weight when all are busy, effective 10.0 %";
        assert_eq!(found.cost.as_deref(), Some(cost));
        assert_eq!(found.cause, "cpu.max of b.service allows 0.20 of 2 CPUs");
        assert_eq!(found.at.unwrap().to_string(), "/b.service/CPUQuota");
        let found = with(20_000, "a.slice").only();
        assert_eq!(found.fix, Fix::Command("systemctl set-property a.slice CPUQuota=".to_owned()));
        assert_eq!(with(50_000, "b.service").findings(), []);
        assert_eq!(with(60_000, "a.slice").findings(), []);
    }

    #[test]
    fn a_name_with_a_backslash_is_quoted_in_the_fix() {
        // Of a.slice's, to show that it is the name alone.
        let fix = |slice: &str, on: Controllers, max: Option<Bandwidth>| {
            let mut host = Host::stock();
            let above =
                Cgroup { subtree_control: on, cpu: Some(Cpu { weight: 100, max }), ..Cgroup::default() };
            host.cgroup(slice, above, "CPUWeight=[not set]");
            let cpu = on.cpu.then_some(Cpu { weight: 300, max: None });
            let below = Cgroup { cpu, ..Cgroup::default() };
            host.cgroup(&format!("{slice}/b.service"), below, "CPUWeight=300");
            if max.is_some() {
                host.unit(&format!("{slice}/c.service"), 100, "CPUWeight=[not set]");
            }
            match host.only().fix {
                Fix::Command(command) => command,
                other => panic!("{other:?}"),
            }
        };
        let off = Controllers { cpu: false, ..CPU };
        let limit = Some(Bandwidth { quota: 20_000, period: 100_000 });
        for (on, max, command) in [
            (off, None, "systemd-run --quiet --wait --slice=NAME true"),
            (CPU, None, "systemctl set-property NAME CPUWeight=300"),
            (CPU, limit, "systemctl set-property NAME CPUQuota="),
        ] {
            assert_eq!(fix("a.slice", on, max), command.replace("NAME", "a.slice"));
            assert_eq!(fix(r"a\x2db.slice", on, max), command.replace("NAME", r"'a\x2db.slice'"));
        }
    }
}
