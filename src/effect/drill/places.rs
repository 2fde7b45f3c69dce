//! For whom a load is started, and where.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Of;
use crate::effect::declared_cpu::DeclaredCpu;
use crate::effect::{Carried, given, slices, total_weight_now};
use crate::host::tree::{Cgroup, Id, Tree};
use crate::policy::{Policy, Resources};
use crate::survey::RunningService;
use crate::survey::snapshot::Snapshot;
use crate::units::{CPU_WEIGHT, Property, SettingValue, SliceName};

/// So many loads at most. Each has some 2 MiB of its own.
pub const MOST: usize = 16;

/// What the policy says of a service or slice.
pub(super) type Values = Vec<(Property, SettingValue)>;

/// Where the load runs that stands for somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whom it stands for.
    pub of: Of,
    /// The slice of that one: where the load runs.
    pub slice: SliceName,
    /// The slice where the policy has it.
    pub declared_slice: SliceName,
    /// The cgroup of a service; who has a slice for itself has none.
    pub(super) own: Option<Id>,
}

/// A load that has a place.
pub trait Placed {
    /// Where it runs, and for whom.
    fn place(&self) -> &Place;

    /// Weights and limits of its scope, as PID 1 takes them. The kernel's own weight is not set: with a weight PID 1 would
    /// hand the controller on to all that is in the slice.
    fn resources(&self) -> Vec<(&'static str, u64)>;
}

/// The loads of a drill.
#[derive(Debug, Clone)]
pub struct Plan<L> {
    /// In the order in which they are started.
    pub loads: Vec<L>,
    /// Who is not stood for, and why.
    pub left_out: Vec<(Of, &'static str)>,
}

impl<L> Default for Plan<L> {
    fn default() -> Self {
        Self { loads: Vec::new(), left_out: Vec::new() }
    }
}

impl<L: Placed> Plan<L> {
    /// Where the loads go.
    #[must_use]
    pub fn places(&self) -> Vec<&Place> {
        self.loads.iter().map(Placed::place).collect()
    }
}

impl Place {
    pub(super) fn of_slice(of: Of, slice: SliceName) -> Self {
        Self { of, slice: slice.clone(), declared_slice: slice, own: None }
    }

    /// What the policy says of a service; of who has a slice for itself, the slice says it all.
    pub(super) fn settings(&self, policy: &Policy) -> Values {
        match &self.of {
            Of::Service(name) => values(&policy.service(name).resources),
            Of::Login(..) | Of::Slice(_) => Vec::new(),
        }
    }
}

/// A place beside every service that a slice of the policy's holds, or of which it `says` something, and every login;
/// and one in each slice of the policy's in which nothing of that runs.
pub(super) fn places(policy: &Policy, live: &Snapshot, says: impl Fn(&Values) -> bool) -> Plan<Place> {
    let mut all: Vec<Place> =
        live.services.iter().filter_map(|service| of_service(policy, live, service, &says)).collect();
    let logins = live.users.iter().map(|user| Place::of_slice(Of::login(user), SliceName::of_user(user.uid)));
    all.extend(logins);
    let empty = |slice: &&SliceName| {
        let path = slice.cgroup();
        live.tree.find(&path).is_some() && !all.iter().any(|place| place.slice.cgroup().starts_with(&path))
    };
    let empty: Vec<SliceName> = policy.slices.keys().filter(empty).cloned().collect();
    all.extend(empty.into_iter().map(|slice| Place::of_slice(Of::Slice(slice.clone()), slice)));
    most(all)
}

fn of_service(
    policy: &Policy,
    live: &Snapshot,
    service: &RunningService,
    says: &impl Fn(&Values) -> bool,
) -> Option<Place> {
    let held = policy.slice_of(&service.name);
    if held.is_none() && !says(&values(&policy.service(&service.name).resources)) {
        return None;
    }
    let id = live.tree.find(&service.cgroup)?;
    let slice = slice_of(&live.tree, live.tree[id].parent?)?;
    Some(Place {
        of: Of::Service(service.name.clone()),
        declared_slice: held.unwrap_or(&slice).clone(),
        slice,
        own: Some(id),
    })
}

fn slice_of(tree: &Tree, id: Id) -> Option<SliceName> {
    SliceName::new(tree.unit(id).filter(|_| tree.is_slice(id))?).ok()
}

/// As many as may be, every slice's first one before its second.
fn most(all: Vec<Place>) -> Plan<Place> {
    let mut before: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, Place)> = Vec::with_capacity(all.len());
    for place in all {
        // All logins count as in one slice: a machine may have hundreds.
        let at = match place.of {
            Of::Login(..) => SliceName::user().cgroup(),
            Of::Service(_) | Of::Slice(_) => place.slice.cgroup(),
        };
        let rank = before.entry(at).or_default();
        ranked.push((*rank, place));
        *rank += 1;
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let left_out = ranked.split_off(MOST.min(ranked.len()));
    Plan {
        loads: ranked.into_iter().map(|(_, place)| place).collect(),
        left_out: left_out.into_iter().map(|(_, place)| (place.of, "too many")).collect(),
    }
}

/// What the policy says of each slice: its own, those of logins, and those that carry something.
pub(super) fn declared_slices(
    policy: &Policy,
    carried: &BTreeMap<SliceName, Carried>,
    live: &Snapshot,
) -> Vec<(SliceName, Values)> {
    let own = slices(policy, carried).into_iter().map(|slice| {
        let given = given(policy, slice, carried.get(slice));
        (slice.clone(), given.into_iter().map(|given| (given.property, given.value)).collect())
    });
    let total =
        total_weight_now(policy, live).map(|weight| (CPU_WEIGHT, SettingValue::Cpu(weight))).into_iter();
    let logins = (SliceName::user(), total.chain(values(&policy.logins.total)).collect());
    let users =
        live.users.iter().map(|user| (SliceName::of_user(user.uid), values(&user.rule(policy).resources)));
    own.chain([logins]).chain(users).collect()
}

/// The cgroup of a slice, which is added where there is none.
pub(super) fn with_slice(tree: &mut Tree, slice: &SliceName) -> Id {
    if let Some(id) = tree.find(&slice.cgroup()) {
        return id;
    }
    let parent = slice.parent().map_or(Tree::ROOT, |parent| with_slice(tree, &parent));
    let name = slice.cgroup().file_name().unwrap_or_default().to_owned();
    let id = tree.add(parent, name, Cgroup::default());
    tree.set_cpu(id, DeclaredCpu::default().over(None));
    id
}

fn values(resources: &Resources) -> Values {
    resources.settings().map(|setting| (setting.property, setting.value)).collect()
}
