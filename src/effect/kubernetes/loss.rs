//! What Kubernetes cannot say of a policy, and what becomes of it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{Loss, Node, Pod, Reserved, SYSTEM, kubelet, stays};
use crate::effect::share::{Busy, shares};
use crate::host::tree::{Cgroup, Cpu, Tree};
use crate::policy::toml::key;
use crate::policy::{LoginRule, Origin, Policy, Resources, Service, Slice, TotalWeight};
use crate::units::{
    CPU_QUOTA, CPU_WEIGHT, MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, SliceName, Weight,
};

const NOTHING: &str = "nothing: Kubernetes has no such setting";
const STAYS: &str = "stays on the host, as before";
const NO_LOGINS: &str = "stays on the host, as before: Kubernetes has no logins";
/// Shares that are no different to a person differ by less.
const FELT: f64 = 0.005;

/// What it is found from.
pub(super) struct Losses<'a> {
    pub(super) policy: &'a Policy,
    pub(super) node: Node,
    pub(super) pods: &'a [Pod],
    pub(super) reserved: Option<Reserved>,
    /// The part of the machine's CPU time that all logins are due while everything is busy.
    pub(super) logins: f64,
}

impl Losses<'_> {
    /// Of services, slices, logins and private directories, in this order.
    pub(super) fn all(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for pod in self.pods {
            losses.extend(self.of_pod(pod));
        }
        for (name, service) in &self.policy.services {
            let is_a_pod = self.pods.iter().any(|pod| pod.service.is_or_instantiates(name));
            let origin = service.origin().filter(|_| !is_a_pod);
            let said = |origin: &Origin| loss(name.as_str(), said_of(service), STAYS, Some(origin));
            losses.extend(origin.map(said));
        }
        for (name, slice) in &self.policy.slices {
            losses.extend(self.of_slice(name, slice));
        }
        losses.extend(self.of_kubepods());
        losses.extend(self.of_logins());
        for (variable, directory) in &self.policy.private_dirs {
            let of = format!("[private_dir.{}]", variable.as_str());
            let becomes = "stays on the host, as before: pods have volumes";
            losses.push(loss(&of, format!("path = {:?}", directory.path.value.to_string()), becomes, Some(&directory.path.origin)));
        }
        losses
    }

    fn of_pod(&self, pod: &Pod) -> Vec<Loss> {
        let rule = self.policy.service(&pod.service);
        let name = pod.service.as_str();
        let mut losses = Vec::new();
        if let Some(score) = &rule.oom_score_adj {
            let becomes = format!("{}: the order of eviction; {}", pod.tier.name(), self.score_of(pod));
            losses.push(loss(name, format!("oom_score_adj = {}", score.value), becomes, Some(&score.origin)));
        }
        for setting in rule.resources.settings() {
            let property = setting.property;
            let becomes = if [CPU_WEIGHT, CPU_QUOTA, MEMORY_MAX].contains(&property) {
                continue;
            } else if [MEMORY_MIN, MEMORY_LOW].contains(&property) {
                "requests.memory: it is scheduled by, and protects nothing without MemoryQoS".to_owned()
            } else if property == MEMORY_HIGH {
                "nothing: MemoryQoS computes memory.high from requests and limits".to_owned()
            } else {
                NOTHING.to_owned()
            };
            losses.push(loss(name, format!("{} = {}", property.key, setting.value), becomes, Some(setting.origin)));
        }
        for own in &rule.own {
            let declared = format!("{} = {}", own.value.setting().key, own.value);
            losses.push(loss(name, declared, NOTHING, Some(&own.origin)));
        }
        losses
    }

    /// What the kernel's order of kills goes by in its stead.
    fn score_of(&self, pod: &Pod) -> String {
        let Some(memory) = pod.memory else {
            return "the kernel's is by requests.memory, 999 without".to_owned();
        };
        let is_guaranteed =
            memory.request > 0 && memory.limit == Some(memory.request) && pod.cpu_limit == Some(pod.cpu_request);
        let score = kubelet::oom_score_adj(memory.request, self.node.memory, is_guaranteed);
        format!("the kernel's is by requests.memory, {score}")
    }

    fn of_slice(&self, name: &SliceName, slice: &Slice) -> Vec<Loss> {
        let of = name.as_str();
        if stays(name) {
            let first = slice.resources.settings().map(|setting| setting.origin).next();
            return first.map(|origin| loss(of, said(&slice.resources), STAYS, Some(origin))).into_iter().collect();
        }
        let mut losses = Vec::new();
        let has_pods = self.pods.iter().any(|pod| pod.slice == *name);
        if let Some(first) = slice.matches.first().filter(|_| !has_pods) {
            let declared: Vec<String> = slice.matches.iter().map(|pattern| pattern.value.to_string()).collect();
            let becomes = "nothing: no service that is known here; name it, as [service.NAME] or in match";
            losses.push(loss(of, format!("match = {}", declared.join(", ")), becomes, Some(&first.origin)));
        }
        if let Some(floor) = &slice.cpu_floor {
            let becomes = "nothing: the kubelet sets what all pods weigh";
            losses.push(loss(of, format!("cpu_floor = {}", floor.value), becomes, Some(&floor.origin)));
        }
        let reserves = self.reserved.is_some_and(|reserved| reserved.memory.is_some());
        for setting in slice.resources.settings() {
            let property = setting.property;
            let becomes = if property == CPU_WEIGHT {
                // It is in the requests of what it holds.
                continue;
            } else if [MEMORY_HIGH, MEMORY_MAX].contains(&property) && reserves {
                "systemReserved.memory: all pods together have the rest, at which the kernel kills"
            } else if [MEMORY_HIGH, MEMORY_MAX, MEMORY_MIN, MEMORY_LOW, CPU_QUOTA].contains(&property) {
                "nothing: pods have no common limit or protection; set it for each service"
            } else {
                NOTHING
            };
            losses.push(loss(of, format!("{} = {}", property.key, setting.value), becomes, Some(setting.origin)));
        }
        losses
    }

    /// What stands beside `kubepods.slice`, whose weight is the kubelet's.
    fn of_kubepods(&self) -> Option<Loss> {
        let reserved = self.reserved?;
        let all = u64::from(self.node.cpus) * 1000;
        let pods = kubelet::weight(all.saturating_sub(reserved.cpu));
        let system = kubelet::weight(reserved.cpu);
        let total = self.policy.logins.total_weight.as_ref();
        let (declared, own) = match total.map(|total| total.value) {
            Some(TotalWeight::Fixed(weight)) => (weight.to_string(), weight),
            Some(TotalWeight::Sum) => ("\"sum\"".to_owned(), Weight::DEFAULT),
            None => (format!("{}, undeclared", Weight::DEFAULT), Weight::DEFAULT),
        };
        let gets = share_of_logins(own.get(), pods, system, self.node.cpus);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let beside = format!("beside kubepods.slice of {pods} and {SYSTEM} of {system}");
        let becomes = if (gets - self.logins).abs() < FELT {
            format!("{} of the CPUs, as before, {beside}", percent(gets))
        } else {
            let keeps = keeping(self.logins, pods + system);
            let keeps = keeps.map(|weight| format!("; total_weight = {weight} keeps it")).unwrap_or_default();
            format!("{} of the CPUs and not {}, {beside}{keeps}", percent(gets), percent(self.logins))
        };
        let origin = total.map(|total| &total.origin);
        Some(loss(SliceName::user().as_str(), format!("total_weight = {declared}"), becomes, origin))
    }

    fn of_logins(&self) -> Vec<Loss> {
        let logins = &self.policy.logins;
        let mut losses = Vec::new();
        let mut add = |of: String, rule: &LoginRule, budget: Option<(String, &Origin)>| {
            let mut declared = said(&rule.resources);
            let score = rule.oom_score_adj.as_ref().map(|score| format!("oom_score_adj = {}", score.value));
            let origin = rule.origin().or(budget.as_ref().map(|(_, origin)| *origin));
            let more = score.into_iter().chain(budget.map(|(text, _)| text));
            declared = [declared].into_iter().filter(|text| !text.is_empty()).chain(more).collect::<Vec<_>>().join(", ");
            losses.extend(origin.map(|origin| loss(&of, declared, NO_LOGINS, Some(origin))));
        };
        add("[logins]".to_owned(), &logins.default, None);
        for (name, rule) in &logins.users {
            add(format!("[logins.user.{}]", key(name)), rule, None);
        }
        for (name, rule) in &logins.groups {
            let budget = logins.budgets.get(name);
            let budget = budget.map(|total| (format!("total_weight = {}", total.value), &total.origin));
            add(format!("[logins.group.{}]", key(name)), rule, budget);
        }
        for setting in logins.total.settings() {
            let name = setting.property.total.unwrap_or(setting.property.key);
            losses.push(loss("[logins]", format!("{name} = {}", setting.value), NO_LOGINS, Some(setting.origin)));
        }
        if let Some(first) = logins.sessions.first() {
            let all: Vec<&str> = logins.sessions.iter().map(|session| session.value.as_str()).collect();
            losses.push(loss("[logins]", format!("sessions = {}", all.join(", ")), NO_LOGINS, Some(&first.origin)));
        }
        losses
    }
}

fn loss(of: &str, declared: impl Into<String>, becomes: impl Into<String>, origin: Option<&Origin>) -> Loss {
    Loss { of: of.to_owned(), declared: declared.into(), becomes: becomes.into(), origin: origin.cloned() }
}

/// The settings on one line.
fn said(resources: &Resources) -> String {
    let all: Vec<String> =
        resources.settings().map(|setting| format!("{} = {}", setting.property.key, setting.value)).collect();
    all.join(", ")
}

/// The same of a service, with what services alone take.
fn said_of(service: &Service) -> String {
    let score = service.oom_score_adj.as_ref().map(|score| format!("oom_score_adj = {}", score.value));
    let resources = Some(said(&service.resources)).filter(|text| !text.is_empty());
    let own = service.own.iter().map(|own| format!("{} = {}", own.value.setting().key, own.value));
    let launcher = service.launcher.as_ref().map(|launcher| format!("launcher = {}", launcher.value));
    score.into_iter().chain(resources).chain(own).chain(launcher).collect::<Vec<_>>().join(", ")
}

/// What logins of this weight get while everything beside them is busy.
fn share_of_logins(weight: u64, pods: u64, system: u64, cpus: u32) -> f64 {
    let mut tree = Tree::new(Cgroup::default());
    let mut add = |name: &str, weight| {
        let cpu = Some(Cpu { weight, max: None });
        tree.add(Tree::ROOT, name, Cgroup { cpu, populated: true, ..Cgroup::default() })
    };
    let logins = add(SliceName::user().as_str(), weight);
    let busy = BTreeSet::from([logins, add("kubepods.slice", pods), add(SYSTEM, system)]);
    shares(&tree, cpus, &Busy::Only(busy)).of(logins)
}

/// The weight of which logins get this part beside what weighs so much; `None` where there is none.
#[allow(clippy::cast_precision_loss, reason = "weights are far below 2^52")]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part from 0 to 1 of weights")]
fn keeping(share: f64, beside: u64) -> Option<Weight> {
    Weight::new((share / (1.0 - share) * beside as f64).round() as u64)
}
