//! What Kubernetes cannot say of a policy, and what becomes of it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{Loss, Node, Pod, Reserved, SYSTEM, kubelet, stays};
use crate::effect::share::{Busy, shares};
use crate::host::tree::{Cgroup, Cpu, Tree};
use crate::policy::toml::key;
use crate::policy::{LoginRule, Origin, Policy, Service, Setting, Slice, Sourced, TotalWeight};
use crate::units::{
    CPU_QUOTA, CPU_WEIGHT, MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, ServiceValue, SliceName, Weight,
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
            if !self.pods.iter().any(|pod| pod.service.is_or_instantiates(name)) {
                losses.extend(of_service(service).into_iter().map(|said| said.of(name.as_str(), STAYS)));
            }
        }
        for (name, slice) in &self.policy.slices {
            losses.extend(self.of_slice(name, slice));
        }
        losses.extend(self.of_kubepods());
        losses.extend(self.of_logins());
        for (variable, directory) in &self.policy.private_dirs {
            let path = &directory.path;
            let of = format!("[private_dir.{}]", variable.as_str());
            losses.push(
                Said::new("path", &path.value, &path.origin)
                    .of(&of, "stays on the host, as before: pods have volumes"),
            );
        }
        losses
    }

    fn of_pod(&self, pod: &Pod) -> Vec<Loss> {
        let rule = self.policy.service(&pod.service);
        let name = pod.service.as_str();
        let mut losses = Vec::new();
        if let Some(score) = &rule.oom_score_adj {
            let becomes = format!("{}: the order of eviction; {}", pod.tier.name(), self.score_of(pod));
            losses.push(Said::new("oom_score_adj", score.value, &score.origin).of(name, &becomes));
        }
        for setting in rule.resources.settings() {
            let property = setting.property;
            let becomes = if [CPU_WEIGHT, CPU_QUOTA, MEMORY_MAX].contains(&property) {
                // They are in requests and limits.
                continue;
            } else if [MEMORY_MIN, MEMORY_LOW].contains(&property) {
                "requests.memory: it is scheduled by, and protects nothing without MemoryQoS"
            } else if property == MEMORY_HIGH {
                "nothing: MemoryQoS computes memory.high from requests and limits"
            } else {
                NOTHING
            };
            losses.push(Said::from(setting).of(name, becomes));
        }
        let own = |own: &Sourced<ServiceValue>| {
            Said::new(own.value.setting().key, &own.value, &own.origin).of(name, NOTHING)
        };
        losses.extend(rule.own.iter().map(own));
        losses
    }

    /// What the kernel's order of kills goes by in its stead.
    fn score_of(&self, pod: &Pod) -> String {
        let Some(memory) = pod.memory else {
            return "the kernel goes by the kubelet's, 999 less requests.memory".to_owned();
        };
        let is_guaranteed = memory.request > 0
            && memory.limit == Some(memory.request)
            && pod.cpu_limit == Some(pod.cpu_request);
        let score = kubelet::oom_score_adj(memory.request, self.node.memory, is_guaranteed);
        format!("the kernel goes by the kubelet's, {score}")
    }

    fn of_slice(&self, name: &SliceName, slice: &Slice) -> Vec<Loss> {
        let of = name.as_str();
        if stays(name) {
            return slice.resources.settings().map(|setting| Said::from(setting).of(of, STAYS)).collect();
        }
        let mut losses = Vec::new();
        let has_pods = self.pods.iter().any(|pod| pod.slice == *name);
        for pattern in slice.matches.iter().filter(|_| !has_pods) {
            let becomes =
                "nothing: no service is known that it holds; name one, as [service.NAME] or in match";
            losses.push(Said::new("match", &pattern.value, &pattern.origin).of(of, becomes));
        }
        if let Some(floor) = &slice.cpu_floor {
            let becomes = "nothing: the kubelet sets what all pods weigh";
            losses.push(Said::new("cpu_floor", floor.value, &floor.origin).of(of, becomes));
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
            losses.push(Said::from(setting).of(of, becomes));
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
        Some(Loss {
            of: SliceName::user().as_str().to_owned(),
            declared: format!("total_weight = {declared}"),
            becomes,
            origin: total.map(|total| total.origin.clone()),
        })
    }

    fn of_logins(&self) -> Vec<Loss> {
        let logins = &self.policy.logins;
        let mut losses = of_rule("[logins]", &logins.default);
        for setting in logins.total.settings() {
            let name = setting.property.total.unwrap_or(setting.property.key);
            losses.push(Said::new(name, &setting.value, setting.origin).of("[logins]", NO_LOGINS));
        }
        for session in &logins.sessions {
            losses.push(Said::new("sessions", &session.value, &session.origin).of("[logins]", NO_LOGINS));
        }
        for (name, rule) in &logins.users {
            losses.extend(of_rule(&format!("[logins.user.{}]", key(name)), rule));
        }
        for (name, rule) in &logins.groups {
            let of = format!("[logins.group.{}]", key(name));
            losses.extend(of_rule(&of, rule));
            let budget = logins.budgets.get(name);
            losses.extend(
                budget.map(|total| Said::new("total_weight", total.value, &total.origin).of(&of, NO_LOGINS)),
            );
        }
        losses
    }
}

/// What is declared, and where.
struct Said<'a> {
    text: String,
    origin: &'a Origin,
}

impl<'a> Said<'a> {
    fn new(key: &str, value: impl Display, origin: &'a Origin) -> Self {
        Self { text: format!("{key} = {value}"), origin }
    }

    fn of(self, of: &str, becomes: &str) -> Loss {
        let origin = Some(self.origin.clone());
        Loss { of: of.to_owned(), declared: self.text, becomes: becomes.to_owned(), origin }
    }
}

impl<'a> From<Setting<'a>> for Said<'a> {
    fn from(setting: Setting<'a>) -> Self {
        Self::new(setting.property.key, &setting.value, setting.origin)
    }
}

/// All that a service's table says.
fn of_service(service: &Service) -> Vec<Said<'_>> {
    let score = service.oom_score_adj.as_ref();
    let score = score.map(|score| Said::new("oom_score_adj", score.value, &score.origin));
    let launcher = service.launcher.as_ref();
    let launcher = launcher.map(|launcher| Said::new("launcher", launcher.value, &launcher.origin));
    let resources = service.resources.settings().map(Said::from);
    let own = service.own.iter().map(|own| Said::new(own.value.setting().key, &own.value, &own.origin));
    score.into_iter().chain(launcher).chain(resources).chain(own).collect()
}

fn of_rule(of: &str, rule: &LoginRule) -> Vec<Loss> {
    let score = rule.oom_score_adj.as_ref();
    let score = score.map(|score| Said::new("oom_score_adj", score.value, &score.origin));
    rule.resources.settings().map(Said::from).chain(score).map(|said| said.of(of, NO_LOGINS)).collect()
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
