//! What `user.slice`, all logins together, comes to weigh with those who are logged in.
#![forbid(unsafe_code)]

use super::{headcount, limits, total_weight};
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::CpuWeight;

/// What `user.slice` weighs: as declared, or with those who are logged in. `None` where nothing is declared.
#[must_use]
pub fn total_weight_now(policy: &Policy, live: &Snapshot) -> Option<CpuWeight> {
    let counted = policy.logins.is_counted().then(|| {
        let limits = limits(policy, &|cgroup| live.weights_in(cgroup));
        let weights: Vec<_> = live.users.iter().map(|user| user.rule(policy).cpu_weight()).collect();
        headcount(&weights, limits)
    });
    total_weight(&policy.logins, counted.as_ref())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::Path;

    use super::super::broken_floors;
    use super::*;
    use crate::fixture::policy;

    /// `system.slice`, `init.scope` and `user.slice` at the kernel's weight, on top.
    fn live(parent: &Path) -> Vec<(OsString, u64)> {
        let top = ["system.slice", "init.scope", "user.slice"];
        if parent == Path::new("") { top.map(|name| (name.into(), 100)).into() } else { Vec::new() }
    }

    fn most(text: &str) -> u64 {
        limits(&policy(text), &live).iter().map(|limit| limit.most).min().unwrap()
    }

    #[test]
    fn the_logins_get_what_the_floor_leaves() {
        // 200 / (200 + 100 of system.slice + 100) is a half.
        assert_eq!(most("[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n"), 100);
        // Nested, and alone in there: the ancestor carries the same weight.
        assert_eq!(most("[slice.\"a-b.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n"), 100);
        // 900 / (900 + 100 + 200) is three quarters.
        assert_eq!(most("[slice.\"a.slice\"]\ncpu_weight = 900\ncpu_floor = \"75%\"\n"), 200);
        // Half of what the ancestor's 400 get: 200 / (400 + 100 + 300) is a quarter.
        let nested = "[slice.\"a-b.slice\"]\ncpu_weight = 200\ncpu_floor = \"25%\"\n[slice.\"a-c.slice\"]\ncpu_weight = 200\n";
        assert_eq!(most(nested), 300);
        // Other slices of the policy's stand beside it.
        let beside = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"25%\"\n[slice.\"b.slice\"]\n";
        assert_eq!(most(beside), 400);
        // The lowest counts.
        let two = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"25%\"\n[slice.\"b.slice\"]\ncpu_floor = \"20%\"\n";
        assert_eq!(most(two), 100);
        // Idle, or too much asked for: nothing is left.
        assert_eq!(most("[slice.\"a.slice\"]\ncpu_weight = \"idle\"\ncpu_floor = \"50%\"\n"), 0);
        assert_eq!(most("[slice.\"a.slice\"]\ncpu_weight = 100\ncpu_floor = \"50%\"\n"), 0);
    }

    #[test]
    fn what_is_left_keeps_the_floor_and_one_more_would_not() {
        for (own, floor) in
            [(200, "33.33%"), (777, "12.5%"), (10_000, "98.99%"), (150, "0.01%"), (101, "50%")]
        {
            let text = format!("[slice.\"a.slice\"]\ncpu_weight = {own}\ncpu_floor = \"{floor}\"\n");
            let floor: f64 = floor.trim_end_matches('%').parse::<f64>().unwrap() / 100.0;
            let most = most(&text);
            let share = |logins: u64| {
                f64::from(own) / (f64::from(own) + 100.0 + f64::from(u32::try_from(logins).unwrap()))
            };
            assert!(share(most) >= floor && share(most + 1) < floor, "{text}: {most}");
        }
    }

    #[test]
    fn the_sum_ends_at_the_limit_and_at_the_kernels_least() {
        let rules = |users: usize| vec![None; users];
        assert_eq!(headcount(&rules(3), Vec::new()).weight().to_string(), "300");
        assert_eq!(headcount(&rules(0), Vec::new()).weight().to_string(), "100");
        let idle = Some(CpuWeight::Idle);
        assert_eq!(headcount(&[idle, idle], Vec::new()).weight(), CpuWeight::Idle);
        assert_eq!(headcount(&[idle, None], Vec::new()).weight().to_string(), "100");
        let limits = |text| limits(&policy(text), &live);
        let half = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n";
        assert_eq!(headcount(&rules(3), limits(half)).weight().to_string(), "100");
        let impossible = "[slice.\"a.slice\"]\ncpu_weight = 1\ncpu_floor = \"50%\"\n";
        assert_eq!(headcount(&rules(3), limits(impossible)).weight().to_string(), "1");
    }

    #[test]
    fn a_floor_that_cannot_hold_is_said() {
        let said = |text: &str| {
            broken_floors(&policy(text), &|_| Vec::new())
                .into_iter()
                .map(|(_, message)| message)
                .collect::<Vec<_>>()
        };
        let floor = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n";
        assert!(said(&format!("{floor}[logins]\ntotal_weight = 100\n")).is_empty());
        assert!(said(&format!("{floor}[logins]\ntotal_weight = \"sum\"\n")).is_empty());
        let fixed = said(&format!("{floor}[logins]\ntotal_weight = 101\n"));
        assert!(fixed[0].contains("logins weigh 101 together, and it leaves them 100"), "{fixed:?}");
        let impossible = said("[slice.\"a.slice\"]\ncpu_weight = 100\ncpu_floor = \"50%\"\n");
        assert!(impossible[0].contains("even without logins"), "{impossible:?}");
    }
}
