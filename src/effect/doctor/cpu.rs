//! CPU weights that do not come to what they say.
//!
//! Only weights that somebody has set are looked at, on units in which something runs; and only those
//! of which it is certain that they cannot do what they say. A weight beside others in `system.slice`
//! is no mistake, nor one of several in a slice that an administrator has made for them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::cost::{DEFAULT, ratio, real, with_logins};
use crate::effect::Carried;
use crate::effect::finding::{Code, Finding, Fix, Place};
use crate::effect::share::{Busy, Limit, shares};
use crate::host::tree::{Cgroup, Id, Tree};
use crate::host::units::{Unit, Units};
use crate::policy::{CPU_WEIGHT, CpuWeight, Policy, SliceName, Sourced};

/// In these, siblings of every origin compete, and come and go.
const COMMON: [&str; 3] = ["machine.slice", "system.slice", "user.slice"];
/// A share that is this much of what was declared is what was declared: idle siblings take a little.
const NEARLY: f64 = 0.95;

/// Weights that have no effect or less than declared.
///
/// - [`Code::ControllerOff`]: the unit's cgroup has no cpu controller.
/// - [`Code::AncestorWeight`]: all its ancestors have the default weight and none of them is one of
///   `system.slice`, `user.slice` and `machine.slice`; and the policy declares the weight, or it has no
///   sibling to compete with.
/// - [`Code::Siblings`]: a slice of the policy's whose ancestors carry what they have to, and still
///   less than declared against logins, when its siblings are busy; or two and more logins that share
///   a `user.slice` of which the policy says nothing.
/// - [`Code::CpuLimited`]: a weight above the default, or the policy's, with a limit that is reached
///   even when all siblings are busy: then it is the limit that decides, always.
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
) -> Vec<Finding> {
    let doctor = Doctor { policy, carried, tree, units, cpus };
    let weighted: Vec<Weighted<'_>> =
        units.iter().filter_map(|(name, unit)| doctor.weighted(name, unit)).collect();
    let each = weighted.iter().filter_map(|weighted| {
        doctor
            .without_controller(weighted)
            .or_else(|| doctor.below_default(weighted))
            .or_else(|| doctor.limited(weighted))
            .or_else(|| doctor.beside_siblings(weighted))
    });
    each.chain(doctor.logins()).collect()
}

struct Doctor<'a> {
    policy: &'a Policy,
    carried: &'a BTreeMap<SliceName, Carried>,
    tree: &'a Tree,
    units: &'a Units,
    cpus: u32,
}

/// A unit with a weight that somebody has set, in which something runs.
struct Weighted<'a> {
    name: &'a str,
    unit: &'a Unit,
    id: Id,
    /// As PID 1 has it; 0 for an idle one.
    weight: u64,
    /// Where the policy says so.
    declared: Option<&'a Sourced<CpuWeight>>,
}

impl<'a> Doctor<'a> {
    fn weighted(&self, name: &'a str, unit: &'a Unit) -> Option<Weighted<'a>> {
        let weight = unit.number(CPU_WEIGHT.unit)?;
        let id = self.tree.find(&unit.cgroup()?)?;
        if id == Tree::ROOT || !self.tree[id].populated {
            return None;
        }
        Some(Weighted { name, unit, id, weight, declared: self.declared(name) })
    }

    fn declared(&self, name: &str) -> Option<&'a Sourced<CpuWeight>> {
        let slice = self.policy.slices.get(&SliceName::new(name).ok()?)?;
        slice.resources.cpu_weight.as_ref()
    }

    fn without_controller(&self, unit: &Weighted<'_>) -> Option<Finding> {
        if self.tree[unit.id].cpu.is_some() {
            return None;
        }
        let mut ancestors: Vec<Id> = self.ancestors(unit.id);
        ancestors.push(Tree::ROOT);
        let off = ancestors.into_iter().rev().find(|id| !self.tree[*id].subtree_control.cpu)?;
        let name = self.name(off);
        let (cause, fix) = if self.tree[Tree::ROOT].controllers.cpu {
            let parent = self.tree[unit.id].parent.map_or("-.slice", |parent| self.name(parent));
            let fix = match unit.declared {
                Some(_) => Fix::Apply,
                None => Fix::Command(format!("systemd-run --quiet --wait --slice={parent} true")),
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
            at: unit.place(),
            fix,
        })
    }

    fn below_default(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let ancestors = self.ancestors(unit.id);
        let (&parent, &top) = (ancestors.first()?, ancestors.last()?);
        let suspect = unit.weight != DEFAULT
            && self.is_written(unit)
            && !COMMON.contains(&self.name(top))
            && ancestors.iter().all(|id| self.has_default(*id))
            && (unit.declared.is_some() || self.is_alone(unit.id, parent));
        if !suspect {
            return None;
        }
        let (weight, name) = (unit.setting_value(), self.name(parent));
        let raise = |id: &Id| format!("systemctl set-property {} CPUWeight={weight}", self.name(*id));
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
            at: unit.place(),
            fix,
        })
    }

    fn limited(&self, unit: &Weighted<'_>) -> Option<Finding> {
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
        let limited = self.units.get(name);
        if id == Tree::ROOT || (id != unit.id && limited.is_some_and(|unit| weight(unit).is_some())) {
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
            at: limited.and_then(|unit| file_with(unit, setting)),
            fix: Fix::Command(format!("systemctl set-property {name} {setting}=")),
        })
    }

    fn beside_siblings(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let declared = unit.declared.filter(|declared| declared.value != CpuWeight::Idle)?;
        let ancestors = self.ancestors(unit.id);
        if !self.is_written(unit) || !ancestors.iter().all(|id| self.carries(*id)) {
            return None;
        }
        // At the root everybody competes with everybody, and no ratio to the logins changes.
        let nested =
            std::iter::once(unit.id).chain(ancestors.iter().copied().take(ancestors.len().checked_sub(1)?));
        let siblings: Vec<Id> = nested.flat_map(|id| self.siblings(id)).collect();
        let compared = self.against_a_login(unit, &siblings)?;
        if compared.effective > compared.declared * NEARLY {
            return None;
        }
        let outsiders = siblings.iter().filter(|id| self.declared(self.name(**id)).is_none());
        let mut names: Vec<&str> = outsiders.map(|id| self.name(*id)).collect();
        names.sort_unstable();
        let parent = self.name(*ancestors.first()?);
        let (cause, fix) = if names.is_empty() {
            let cause = "the weights in an ancestor sum to more than 10000, the most that it can carry";
            (cause.to_owned(), "divide the cpu_weight of each slice by the same number".to_owned())
        } else {
            let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
            names.truncate(3);
            let cause = format!("the policy does not know {}{more}, which compete with it", names.join(", "));
            (cause, format!("move them out of {parent}, or give their slices a cpu_weight in the policy"))
        };
        Some(Finding {
            code: Code::Siblings,
            subject: unit.name.to_owned(),
            what: format!("{} comes to less beside its siblings", unit.setting()),
            cost: Some(compared.text),
            cause,
            at: Some(Place::from(&declared.origin)),
            fix: Fix::Edit(fix),
        })
    }

    /// Logins that share one weight, where the policy declares one for each.
    fn logins(&self) -> Option<Finding> {
        let each = self.policy.logins.default.resources.cpu_weight.as_ref()?;
        let CpuWeight::Weight(own) = each.value else { return None };
        if self.policy.logins.total_weight.is_some() {
            return None;
        }
        let users = self.tree.find(&SliceName::user().cgroup())?;
        let users = self.tree[users].children.iter().copied();
        let users: Vec<Id> =
            users.filter(|id| self.tree[*id].populated && self.name(*id).ends_with(".slice")).collect();
        let plain = users.iter().copied().find(|id| self.live(*id) == Some(own.get()))?;
        let slices = self.policy.slices.iter().filter_map(|(name, slice)| {
            let CpuWeight::Weight(weight) = slice.resources.cpu_weight.as_ref()?.value else { return None };
            let id = self.tree.find(&name.cgroup()).filter(|id| self.tree[*id].populated)?;
            Some((weight.get(), name, id))
        });
        let (weight, name, slice) = slices.max_by_key(|(weight, ..)| *weight)?;
        let effective = |users: &[Id]| {
            let busy = users.iter().copied().chain([slice]).collect();
            let all = shares(self.tree, self.cpus, &Busy::Only(busy));
            (all.of(slice), all.of(plain))
        };
        let ((one_a, one_b), (all_a, all_b)) = (effective(&[plain]), effective(&users));
        if users.len() < 2 || all_a / all_b <= one_a / one_b / NEARLY {
            return None;
        }
        Some(Finding {
            code: Code::Siblings,
            subject: SliceName::user().to_string(),
            what: format!("{} logins share what one was declared", users.len()),
            cost: Some(format!(
                "declared {} for {name} against a login, effective {} when all are busy",
                ratio(real(weight), real(own.get())),
                ratio(all_a, all_b)
            )),
            cause: "all users compete inside of user.slice, and the policy declares no total_weight"
                .to_owned(),
            at: Some(Place::from(&each.origin)),
            fix: Fix::Edit("add total_weight = \"sum\" to [logins] in the policy".to_owned()),
        })
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

    /// Whether nothing that is there, or that PID 1 has loaded, can compete with it.
    fn is_alone(&self, id: Id, parent: Id) -> bool {
        let (name, parent_name) = (self.name(id), self.name(parent));
        let is_other =
            |(other, unit): (&str, &Unit)| other != name && unit.text("Slice") == Some(parent_name);
        self.tree[parent].children.len() == 1 && !self.units.iter().any(is_other)
    }

    /// Whether this is a unit of PID 1's whose weight nobody has set.
    fn has_default(&self, id: Id) -> bool {
        let unit = self.units.get(self.name(id));
        unit.is_some_and(|unit| weight(unit).is_none()) && self.live(id) == Some(DEFAULT)
    }

    /// Whether the cgroup has what PID 1 knows.
    fn is_written(&self, unit: &Weighted<'_>) -> bool {
        self.live(unit.id) == Some(unit.weight)
    }

    /// Whether an ancestor weighs what it has to carry.
    fn carries(&self, id: Id) -> bool {
        let name = SliceName::new(self.name(id)).ok();
        let carried = name.and_then(|name| self.carried.get(&name)?.cpu_weight);
        carried.is_some_and(|carried| match carried {
            CpuWeight::Idle => false,
            CpuWeight::Weight(weight) => self.live(id) == Some(weight.get()),
        })
    }

    fn live(&self, id: Id) -> Option<u64> {
        self.tree[id].cpu.map(|cpu| cpu.weight)
    }

    fn name(&self, id: Id) -> &'a str {
        if id == Tree::ROOT { "-.slice" } else { self.tree[id].name() }
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

    fn place(&self) -> Option<Place> {
        let declared = self.declared.map(|declared| Place::from(&declared.origin));
        declared.or_else(|| file_with(self.unit, CPU_WEIGHT.unit))
    }
}

/// The weight that somebody has set, as PID 1 has it.
fn weight(unit: &Unit) -> Option<u64> {
    unit.number(CPU_WEIGHT.unit)
}

/// The file that sets a property, where its name says so or there is only one.
fn file_with(unit: &Unit, property: &str) -> Option<Place> {
    let files: Vec<&Path> = unit.files().collect();
    let is_named = |file: &&&Path| file.ends_with(format!("50-{property}.conf"));
    let file = match files.as_slice() {
        [only] => Some(only),
        several => several.iter().find(is_named),
    };
    file.map(Place::of_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::{Bandwidth, Controllers, Cpu};
    use crate::policy::load_files;

    const CPU: Controllers = Controllers { cpu: true, cpuset: false, io: false, memory: false, pids: true };
    const SERVICES: &str = "foundry.slice/foundry-services.slice";

    fn policy(text: &str) -> Policy {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let loaded = load_files(&[file.path().to_owned()]);
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        loaded.policy
    }

    /// A machine with two CPUs.
    struct Host {
        tree: Tree,
        units: String,
        policy: Policy,
    }

    impl Host {
        /// Debian as it is, with two users.
        fn stock() -> Self {
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
        fn unit(&mut self, path: &str, live: u64, properties: &str) -> Id {
            let cpu = Some(Cpu { weight: live, max: None });
            self.cgroup(path, Cgroup { cpu, subtree_control: CPU, ..Cgroup::default() }, properties)
        }

        fn cgroup(&mut self, path: &str, cgroup: Cgroup, properties: &str) -> Id {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let slice = parent.rsplit('/').next().filter(|parent| !parent.is_empty()).unwrap_or("-.slice");
            let text = format!("Id={name}\nControlGroup=/{path}\nSlice={slice}\n{properties}\n\n");
            self.units.push_str(&text);
            let parent = self.tree.find(Path::new(parent)).unwrap();
            self.tree.add(parent, name, Cgroup { controllers: CPU, populated: true, ..cgroup })
        }

        fn foundry(policy_text: &str, outer: (u64, &str), inner: u64) -> Self {
            let mut host = Self { policy: policy(policy_text), ..Self::stock() };
            host.unit("foundry.slice", outer.0, outer.1);
            host.unit(
                SERVICES,
                inner,
                &format!("CPUWeight={inner}\nFragmentPath=/etc/systemd/system/f.slice"),
            );
            host
        }

        fn findings(&self) -> Vec<Finding> {
            let carried = crate::effect::ancestors(&self.policy, 1 << 30);
            findings(&self.policy, &carried, &self.tree, &Units::parse(&self.units), 2)
        }

        #[track_caller]
        fn only(&self) -> Finding {
            let found = self.findings();
            let [finding] = found.as_slice() else { panic!("{found:#?}") };
            finding.clone()
        }
    }

    const POLICY: &str = "[slice.\"foundry-services.slice\"]\ncpu_weight = 200\n";
    const UNSET: (u64, &str) = (100, "CPUWeight=[not set]");
    const CARRIED: (u64, &str) = (200, "CPUWeight=200");

    #[test]
    fn where_all_is_well_nothing_is_found() {
        assert_eq!(Host::stock().findings(), []);
        assert_eq!(Host::foundry(POLICY, CARRIED, 200).findings(), []);
        let mut host = Host::stock();
        // Among the services of the system, among users, and in a slice that was made for several.
        host.unit("system.slice/nginx.service", 500, "CPUWeight=500");
        host.unit("user.slice/user-1001.slice", 300, "CPUWeight=300");
        // Alone today; its template has other instances.
        host.unit("system.slice/system-pg.slice", 100, "CPUWeight=[not set]");
        host.unit("system.slice/system-pg.slice/pg@15.service", 500, "CPUWeight=500");
        host.unit("batch.slice", 100, "CPUWeight=[not set]\nFragmentPath=/etc/systemd/system/batch.slice");
        host.unit("batch.slice/batch-high.slice", 500, "CPUWeight=500");
        host.unit("batch.slice/batch-low.slice", 20, "CPUWeight=20");
        // Set on the ancestor, as kubelet does.
        host.unit("kubepods.slice", 157, "CPUWeight=157");
        host.unit("kubepods.slice/kubepods-burstable.slice", 8, "CPUWeight=8");
        // Limited on purpose, and its weight is nobody's.
        let max = Some(Bandwidth { quota: 10_000, period: 100_000 });
        let cpu = Some(Cpu { weight: 100, max });
        host.cgroup("system.slice/backup.service", Cgroup { cpu, ..Cgroup::default() }, "CPUWeight=100");
        assert_eq!(host.findings(), []);
        // One that does not run yet, and one whose value is still to be written.
        let mut host = Host::foundry(POLICY, UNSET, 200);
        host.units = host.units.replace("CPUWeight=200", "CPUWeight=300");
        assert_eq!(host.findings(), []);
    }

    #[test]
    fn an_ancestor_of_the_default_weight_is_found() {
        let alone = Host::foundry("", UNSET, 200).only();
        assert_eq!((alone.code, alone.subject.as_str()), (Code::AncestorWeight, "foundry-services.slice"));
        assert_eq!(alone.cost.as_deref(), Some("declared 2 : 1 against a login, effective 1 : 1"));
        assert_eq!(alone.at.unwrap().to_string(), "/etc/systemd/system/f.slice");
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
    fn siblings_that_the_policy_does_not_know_are_found() {
        let mut host = Host::foundry(POLICY, CARRIED, 200);
        host.unit("foundry.slice/foundry-jobs.slice", 200, "CPUWeight=[not set]");
        let found = host.only();
        assert_eq!((found.code, found.subject.as_str()), (Code::Siblings, "foundry-services.slice"));
        assert_eq!(found.cost.as_deref(), Some("declared 2 : 1 against a login, effective 1 : 1"));
        assert!(found.cause.contains("foundry-jobs.slice"), "{}", found.cause);
        // One that is idle takes nothing, and one that the policy knows is carried.
        let mut host = Host::foundry(POLICY, CARRIED, 200);
        host.unit("foundry.slice/foundry-jobs.slice", 0, "CPUWeight=[not set]");
        assert_eq!(host.findings(), []);
        let both = format!("{POLICY}[slice.\"foundry-jobs.slice\"]\ncpu_weight = 100\n");
        let mut host = Host::foundry(&both, (300, "CPUWeight=300"), 200);
        host.unit("foundry.slice/foundry-jobs.slice", 100, "CPUWeight=100");
        assert_eq!(host.findings(), []);
    }

    #[test]
    fn logins_that_share_what_one_was_declared_are_found() {
        let logins = format!("{POLICY}[logins]\ncpu_weight = 100\n");
        let found = Host::foundry(&logins, CARRIED, 200).only();
        assert_eq!((found.code, found.subject.as_str()), (Code::Siblings, "user.slice"));
        let cost =
            "declared 2 : 1 for foundry-services.slice against a login, effective 4 : 1 when all are busy";
        assert_eq!(found.cost.as_deref(), Some(cost));
        for total in ["100", "\"sum\""] {
            let declared = format!("{logins}total_weight = {total}\n");
            assert_eq!(Host::foundry(&declared, CARRIED, 200).findings(), [], "{total}");
        }
    }

    #[test]
    fn a_limit_below_the_weights_share_is_found() {
        let with = |quota: u64, on: &str| {
            let mut host = Host::stock();
            let limited = |path: &str, weight: u64| {
                let max = (path == on).then_some(Bandwidth { quota, period: 100_000 });
                Cgroup { cpu: Some(Cpu { weight, max }), subtree_control: CPU, ..Cgroup::default() }
            };
            host.cgroup("a.slice", limited("a.slice", 100), "CPUWeight=[not set]\nFragmentPath=/etc/a.slice");
            let b = limited("b.service", 400);
            let set = "CPUWeight=400\nFragmentPath=/etc/b.service\nDropInPaths=/etc/b.d/50-CPUQuota.conf";
            host.cgroup("a.slice/b.service", b, set);
            host.unit("a.slice/c.service", 100, "CPUWeight=[not set]");
            host
        };
        // A quarter of the machine is a.slice's by weight, four fifths of that b.service's: 0.4 CPUs.
        let found = with(20_000, "b.service").only();
        assert_eq!((found.code, found.subject.as_str()), (Code::CpuLimited, "b.service"));
        let cost = "20.0 % of the machine by its weight when all are busy, effective 10.0 %";
        assert_eq!(found.cost.as_deref(), Some(cost));
        assert_eq!(found.cause, "cpu.max of b.service allows 0.20 of 2 CPUs");
        assert_eq!(found.at.unwrap().to_string(), "/etc/b.d/50-CPUQuota.conf");
        let found = with(20_000, "a.slice").only();
        assert_eq!(found.fix, Fix::Command("systemctl set-property a.slice CPUQuota=".to_owned()));
        assert_eq!(with(50_000, "b.service").findings(), []);
        assert_eq!(with(60_000, "a.slice").findings(), []);
    }
}
