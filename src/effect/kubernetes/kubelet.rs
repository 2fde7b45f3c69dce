//! What the kubelet makes of resources: its own arithmetic.
//!
//! Sources: `MilliCPUToShares` of Kubernetes' `pkg/kubelet/cm/helpers_linux.go`, `cpuSharesToCPUWeight` of
//! `pkg/kubelet/cm/cgroup_v2_manager_linux.go`, `GetContainerOOMScoreAdjust` of `pkg/kubelet/qos/policy.go`.
#![forbid(unsafe_code)]

/// The scores of containers whose requests are their limits, and of those that ask for nothing.
const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;

/// The `cpu.weight` of `kubepods.slice` and of pods for so many thousandths of a CPU. Container runtimes convert
/// otherwise, in a pod's own cgroup.
#[must_use]
pub fn weight(milli_cpus: u64) -> u64 {
    let shares = (milli_cpus * 1024 / 1000).clamp(2, 262_144);
    1 + (shares - 2) * 9999 / 262_142
}

/// The score of a container that asks for so much of a node's memory, and for some CPU time.
#[must_use]
pub(super) fn oom_score_adj(requested: u64, node: u64, is_guaranteed: bool) -> i64 {
    if is_guaranteed {
        return GUARANTEED;
    }
    let part = u128::from(requested) * 1000 / u128::from(node.max(1));
    let score = 1000 - i64::try_from(part).unwrap_or(1000);
    score.clamp(1000 + GUARANTEED, BEST_EFFORT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_the_kubelets() {
        let weights = [0, 2, 100, 1000, 4000, 16_000, 64_000, 1_000_000].map(weight);
        assert_eq!(weights, [1, 1, 4, 39, 157, 625, 2500, 10_000]);
    }

    #[test]
    fn scores_are_the_kubelets() {
        assert_eq!(oom_score_adj(0, 16 << 30, false), 999);
        assert_eq!(oom_score_adj(4 << 30, 16 << 30, false), 750);
        assert_eq!(oom_score_adj(16 << 30, 16 << 30, false), 3);
        assert_eq!(oom_score_adj(u64::MAX, 1, false), 3);
        assert_eq!(oom_score_adj(4 << 30, 16 << 30, true), -997);
    }
}
