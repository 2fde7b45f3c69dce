//! The policy in the words of Kubernetes, and what those cannot say.
//!
//! A service that a slice holds becomes a pod: it asks for the CPU time that it is due while everything is busy, and
//! for its own protected memory. Whatever else is on the machine stays on the host, and the kubelet reserves what the
//! pods leave. Weights are never converted: one means nothing without those beside it.
#![forbid(unsafe_code)]

mod contention;
mod kubelet;
mod loss;
mod name;

use std::collections::{BTreeMap, BTreeSet};

use self::contention::Contention;
pub use self::kubelet::weight;
use super::ancestors;
use crate::policy::{Declared, Origin, Policy, Resources};
use crate::units::{Memory, OomScoreAdj, ServiceName, SliceName};

/// Where the host's own services are.
const SYSTEM: &str = "system.slice";

/// What the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// CPUs.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
}

/// A policy for Kubernetes.
#[derive(Debug, Clone)]
pub struct Export {
    /// For which node.
    pub node: Node,
    /// The tiers of the kill order, the last to be killed first.
    pub tiers: BTreeSet<Tier>,
    /// The services that become pods, in the order of their names.
    pub pods: Vec<Pod>,
    /// What the kubelet keeps for the host; `None` where there are no pods.
    pub reserved: Option<Reserved>,
    /// What Kubernetes cannot say.
    pub losses: Vec<Loss>,
}

/// Services that are killed neither before nor after one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tier(pub OomScoreAdj);

/// A service that becomes a pod of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// The service.
    pub service: ServiceName,
    /// What holds it.
    pub slice: SliceName,
    /// What its workload and its container are called.
    pub name: String,
    /// When it is killed.
    pub tier: Tier,
    /// The part of the machine's CPU time that it is due while everything is busy, 0 to 1.
    pub share: f64,
    /// What that is of the node's CPUs, in thousandths of one.
    pub cpu_request: u64,
    /// The same of its quota.
    pub cpu_limit: Option<u64>,
    /// `None` where the policy says nothing of its memory.
    pub memory: Option<PodMemory>,
}

/// The memory of a pod, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodMemory {
    /// What is protected.
    pub request: u64,
    /// What it can have at most.
    pub limit: Option<u64>,
}

/// What the kubelet keeps for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Thousandths of a CPU.
    pub cpu: u64,
    /// Bytes; `None` where the policy has no ceiling for all services that leave it something.
    pub memory: Option<u64>,
}

/// What Kubernetes cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// A unit or a table of the policy's.
    pub of: String,
    /// What is declared.
    pub declared: String,
    /// What becomes of it.
    pub becomes: String,
    /// Where it is declared.
    pub origin: Option<Origin>,
}

impl Tier {
    /// What its PriorityClass is called.
    #[must_use]
    pub fn name(self) -> String {
        match self.0.get() {
            score if score < 0 => format!("fairslice-oom-minus-{}", score.unsigned_abs()),
            score => format!("fairslice-oom-{score}"),
        }
    }

    /// The priority: who is killed last has the highest. It depends on no other tier, so that a new one leaves the
    /// others as they are.
    #[must_use]
    pub fn value(self) -> i32 {
        i32::from(self.0.get()) * -1000
    }
}

/// The policy for this node, with these services of those that its slices hold.
#[must_use]
pub fn export(policy: &Policy, services: &BTreeSet<ServiceName>, node: Node) -> Export {
    let carried = ancestors(policy, node.memory);
    let moving: BTreeMap<ServiceName, SliceName> = services
        .iter()
        .filter_map(|service| Some((service.clone(), policy.slice_of(service)?.clone())))
        .filter(|(_, slice)| !stays(slice))
        .collect();
    let contention = Contention::of(policy, &carried, &moving, node.cpus);
    let names = name::names(moving.keys());
    let pods: Vec<Pod> = moving
        .iter()
        .map(|(service, slice)| {
            let (rule, share) = (policy.service(service), contention.service(service));
            let score = rule.oom_score_adj.as_ref().map_or(OomScoreAdj::ZERO, |score| score.value);
            let quota = rule.resources.cpu_quota.as_ref().map(|quota| quota.value.microseconds());
            Pod {
                service: service.clone(),
                slice: slice.clone(),
                name: names.get(service).cloned().unwrap_or_default(),
                tier: Tier(score),
                share,
                cpu_request: thousandths(share, node.cpus),
                cpu_limit: quota.filter(|quota| *quota != u64::MAX).map(|quota| quota / 1000),
                memory: memory(&rule.resources, node),
            }
        })
        .collect();
    let reserved = (!pods.is_empty()).then(|| reserved(policy, &pods, node));
    let losses = loss::Losses { policy, node, pods: &pods, reserved, logins: contention.logins() }.all();
    Export { node, tiers: pods.iter().map(|pod| pod.tier).collect(), pods, reserved, losses }
}

/// Whether what a slice holds is the host's own.
fn stays(slice: &SliceName) -> bool {
    let top = top(slice);
    top == SliceName::user() || top.as_str() == SYSTEM
}

/// The outermost slice that this one is in.
fn top(slice: &SliceName) -> SliceName {
    let mut top = slice.clone();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top
}

/// A part of the node's CPU time, rounded down, so that the requests of all fit in it; at least the least that can be
/// asked for.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to some millions")]
fn thousandths(share: f64, cpus: u32) -> u64 {
    // 0.4 of 4 CPUs is not 1599.
    const ROUNDED: f64 = 1e-6;
    ((share * f64::from(cpus) * 1000.0 + ROUNDED) as u64).max(1)
}

/// What the service's own settings say of its memory.
fn memory(resources: &Resources, node: Node) -> Option<PodMemory> {
    let bytes = |setting: &Declared<Memory>| {
        setting.as_ref().map(|memory| memory.value.0.on(node.memory).unwrap_or(u64::MAX))
    };
    let protected = [bytes(&resources.memory_min), bytes(&resources.memory_low)].into_iter().flatten().max();
    let limit = bytes(&resources.memory_max);
    if protected.is_none() && limit.is_none() {
        return None;
    }
    let limit = limit.filter(|limit| *limit != u64::MAX);
    let most = limit.unwrap_or(node.memory).min(node.memory);
    Some(PodMemory { request: protected.unwrap_or(0).min(most), limit })
}

/// What the pods leave, of CPU time and of memory.
fn reserved(policy: &Policy, pods: &[Pod], node: Node) -> Reserved {
    let asked: u64 = pods.iter().map(|pod| pod.cpu_request).sum();
    let tops: BTreeSet<SliceName> = pods.iter().map(|pod| top(&pod.slice)).collect();
    let ceilings: Option<u64> = tops.iter().map(|slice| ceiling(policy, pods, slice, node)).sum();
    Reserved {
        cpu: (u64::from(node.cpus) * 1000).saturating_sub(asked),
        memory: ceilings.and_then(|most| node.memory.checked_sub(most)).filter(|left| *left > 0),
    }
}

/// What all in a slice can have of the node's memory: by its own ceilings, or by those of all the slices with pods in
/// it.
fn ceiling(policy: &Policy, pods: &[Pod], slice: &SliceName, node: Node) -> Option<u64> {
    let own = policy.slices.get(slice).and_then(|slice| lowest_ceiling(&slice.resources, node));
    if own.is_some() {
        return own;
    }
    let is_in = |name: &SliceName| name.parent().as_ref() == Some(slice);
    let mut inside = BTreeSet::new();
    for pod in pods {
        let way = std::iter::successors(Some(pod.slice.clone()), SliceName::parent);
        match way.clone().find(is_in) {
            Some(child) => inside.extend([child]),
            // Directly in it.
            None if pod.slice == *slice => return None,
            None => {}
        }
    }
    inside.iter().map(|child| ceiling(policy, pods, child, node)).sum()
}

/// The lower of the two ceilings, on this node.
fn lowest_ceiling(resources: &Resources, node: Node) -> Option<u64> {
    let ceilings = [&resources.memory_high, &resources.memory_max];
    ceilings.into_iter().flatten().filter_map(|ceiling| ceiling.value.0.on(node.memory)).min()
}
