//! What `user.slice`, all logins together, comes to weigh when it is the sum of the users logged in.
//!
//! A slice of the policy's may declare a floor: the part of the machine's CPU time that is left to it
//! while everything is busy, the logins and all slices beside it. The sum ends where it would go below
//! one of them. PID 1's own `init.scope`, which stands beside the slices too, holds no load and is left
//! out.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::carry::{ancestors, sum_cpu};
use crate::policy::{CpuFloor, Logins, Policy, Sourced, TotalWeight};
use crate::units::{CpuWeight, INIT_SCOPE, SliceName, Weight};

/// Parts are counted in these.
const WHOLE: u128 = 1_000_000_000_000_000_000;

/// What `user.slice` comes to weigh.
#[derive(Debug, Clone)]
pub struct Headcount {
    /// How many users are logged in.
    pub users: usize,
    /// The sum of their weights: idle if all of them are; the kernel's default while there is nobody.
    pub sum: CpuWeight,
    /// The floor that leaves the least, if there is one.
    pub limit: Option<FloorLimit>,
}

/// What a floor leaves to the logins.
#[derive(Debug, Clone)]
pub struct FloorLimit {
    /// The slice that has the floor.
    pub slice: SliceName,
    /// The floor.
    pub floor: Sourced<CpuFloor>,
    /// The most that `user.slice` may weigh; 0 where the floor does not hold even without logins.
    pub most: u64,
}

impl Headcount {
    /// The sum, or what a floor leaves of it; at least 1, the kernel's least.
    #[must_use]
    pub fn weight(&self) -> CpuWeight {
        let CpuWeight::Weight(sum) = self.sum else { return CpuWeight::Idle };
        let most = self.limit.as_ref().map_or(u64::MAX, |limit| limit.most);
        CpuWeight::Weight(Weight::new(sum.get().min(most).max(1)).unwrap_or(Weight::MAX))
    }
}

/// The headcount of users with these weights, one for each who is logged in, below these limits. `None` is the
/// kernel's default.
#[must_use]
pub fn headcount(weights: &[Option<CpuWeight>], limits: Vec<FloorLimit>) -> Headcount {
    let users = weights.len();
    let sum =
        if users == 0 { CpuWeight::Weight(Weight::DEFAULT) } else { sum_cpu(&mut weights.iter().copied()) };
    Headcount { users, sum, limit: limits.into_iter().min_by_key(|limit| limit.most) }
}

/// What `user.slice` weighs: as declared, or as counted. `None` where neither is.
#[must_use]
pub fn total_weight(logins: &Logins, counted: Option<&Headcount>) -> Option<CpuWeight> {
    match logins.total_weight.as_ref()?.value {
        TotalWeight::Fixed(weight) => Some(CpuWeight::Weight(weight)),
        TotalWeight::Sum => counted.map(Headcount::weight),
    }
}

/// What each declared floor leaves to the logins.
///
/// `live` gives the cgroups that are in one, by name, with their weights. A slice of the policy's
/// counts with the weight that the policy gives it, whether it is there already or not.
#[must_use]
pub fn limits(policy: &Policy, live: &dyn Fn(&Path) -> Vec<(OsString, u64)>) -> Vec<FloorLimit> {
    // A slice that neither declares nor carries a weight has the kernel's.
    let mut declared: BTreeMap<SliceName, CpuWeight> =
        policy.slices.keys().map(|name| (name.clone(), CpuWeight::Weight(Weight::DEFAULT))).collect();
    // Only memory would need to know of the RAM.
    let carried = ancestors(policy, 0).into_iter();
    declared.extend(carried.filter_map(|(name, carried)| Some((name, carried.cpu_weight?))));
    let own = policy.slices.iter();
    declared.extend(
        own.filter_map(|(name, slice)| Some((name.clone(), slice.resources.cpu_weight.as_ref()?.value))),
    );
    let weights = Weights { declared, live };
    let floors = policy.slices.iter().filter_map(|(name, slice)| Some((name, slice.cpu_floor.as_ref()?)));
    floors
        .map(|(name, floor)| FloorLimit {
            slice: name.clone(),
            floor: floor.clone(),
            most: weights.left(name, floor.value),
        })
        .collect()
}

/// Floors that do not hold beside these, each with what to do. As with [`limits`], `live` gives what is in a cgroup;
/// where it gives nothing, `system.slice` alone stands beside the policy's slices and the logins.
#[must_use]
pub fn broken_floors(
    policy: &Policy,
    live: &dyn Fn(&Path) -> Vec<(OsString, u64)>,
) -> Vec<(Sourced<CpuFloor>, String)> {
    let beside = |cgroup: &Path| {
        let mut beside = live(cgroup);
        if beside.is_empty() && cgroup == Path::new("") {
            beside.push(("system.slice".into(), Weight::DEFAULT.get()));
        }
        beside
    };
    let total = match &policy.logins.total_weight {
        Some(Sourced { value: TotalWeight::Fixed(weight), .. }) => Some(weight.get()),
        Some(Sourced { value: TotalWeight::Sum, .. }) => None,
        None => Some(Weight::DEFAULT.get()),
    };
    let broken = limits(policy, &beside).into_iter().filter_map(|FloorLimit { slice, floor, most }| {
        let declared = format!("cpu_floor = \"{}\" of {slice}", floor.value);
        let message = match total {
            _ if most == 0 => format!("{declared} does not hold even without logins: raise its cpu_weight"),
            Some(total) if total > most => {
                format!("{declared} does not hold: logins weigh {total} together, and it leaves them {most} (total_weight), unless its cpu_weight is raised")
            }
            _ => return None,
        };
        Some((floor, message))
    });
    broken.collect()
}

struct Weights<'a> {
    declared: BTreeMap<SliceName, CpuWeight>,
    live: &'a dyn Fn(&Path) -> Vec<(OsString, u64)>,
}

impl Weights<'_> {
    /// What `user.slice` may weigh so that `slice` keeps its part.
    fn left(&self, slice: &SliceName, floor: CpuFloor) -> u64 {
        let mut part = WHOLE;
        let mut level = slice.clone();
        while let Some(parent) = level.parent() {
            let (own, beside) = self.weights(&level);
            part = (part * own).checked_div(own + beside).unwrap_or(0);
            level = parent;
        }
        let (own, beside) = self.weights(&level);
        // part × own / (own + beside + logins) is to be the floor.
        let all = part * own * 10_000 / (u128::from(floor.permyriad()) * WHOLE);
        u64::try_from(all.saturating_sub(own + beside)).unwrap_or(u64::MAX)
    }

    /// What a slice weighs, and what stands beside it together.
    fn weights(&self, slice: &SliceName) -> (u128, u128) {
        let number = |weight: CpuWeight| match weight {
            CpuWeight::Idle => 0,
            CpuWeight::Weight(weight) => u128::from(weight.get()),
        };
        let cgroup = slice.cgroup();
        let parent = cgroup.parent().unwrap_or(Path::new(""));
        let mut beside: BTreeMap<OsString, u128> =
            (self.live)(parent).into_iter().map(|(name, weight)| (name, u128::from(weight))).collect();
        let declared = self.declared.iter().filter(|(name, _)| name.parent() == slice.parent());
        beside.extend(declared.map(|(name, weight)| (name.as_str().into(), number(*weight))));
        let own = beside.remove(OsStr::new(slice.as_str())).unwrap_or(0);
        beside.retain(|name, _| name != SliceName::user().as_str() && name != INIT_SCOPE);
        (own, beside.values().sum())
    }
}
