//! Whether a drill may start: nobody else is to feel it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;

use crate::host::cpu_set::CpuSet;

/// The part of the time in which somebody already waits for a CPU, or for memory, from which on a drill makes it worse:
/// a machine whose work fits shows a few percent of the one and nothing of the other.
const MOST_WAITING: f64 = 0.10;
const MOST_SHORT: f64 = 0.05;
/// The part of a CPU's time that is idle where the loads may run. What is missing is taken from them by others, and
/// more than this would show in what is measured.
const LEAST_IDLE: f64 = 0.90;
/// What the other CPUs leave idle together, in CPUs: where those go who would have run on the drill's.
const LEAST_ELSEWHERE: f64 = 0.50;

/// What the machine does, over a second.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The part of its time in which each CPU was idle.
    pub idle: BTreeMap<u32, f64>,
    /// The part of the time in which a task waited for a CPU; `None` where the kernel does not count.
    pub waiting: Option<f64>,
    /// The same of memory.
    pub short: Option<f64>,
}

/// Why a drill does not start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Refusal {
    /// There is but one CPU: the loads would be in everybody's way.
    OneCpu,
    /// The loads may not run on one and the same CPU.
    NoCommonCpu,
    /// Something is bound to each CPU on which they may.
    AllBound,
    /// Tasks wait for a CPU already.
    Waiting(f64),
    /// Tasks wait for memory.
    Short(f64),
    /// The idlest CPU on which they may run.
    Busy(u32, f64),
    /// What is idle elsewhere, in CPUs.
    NoRoom(f64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: &f64| part * 100.0;
        match self {
            Self::OneCpu => f.write_str("there is one CPU only, and everybody would feel a drill on it"),
            Self::NoCommonCpu => f.write_str("the slices have no CPU in common (AllowedCPUs=)"),
            Self::AllBound => {
                f.write_str("something is bound to each CPU that the slices may use, and could not move away")
            }
            Self::Waiting(part) => write!(
                f,
                "tasks wait for a CPU {:.0} % of the time, and with more than {:.0} % a drill would be felt",
                percent(part),
                percent(&MOST_WAITING)
            ),
            Self::Short(part) => write!(
                f,
                "tasks wait for memory {:.0} % of the time, and with more than {:.0} % a drill would be felt",
                percent(part),
                percent(&MOST_SHORT)
            ),
            Self::Busy(cpu, idle) => write!(
                f,
                "CPU {cpu} is the least busy, and idle {:.0} % of the time; {:.0} % are needed",
                percent(idle),
                percent(&LEAST_IDLE)
            ),
            Self::NoRoom(idle) => write!(
                f,
                "the other CPUs are too busy to take over what runs on the drill's: {idle:.2} CPUs are idle there, and \
                 {LEAST_ELSEWHERE:.2} are needed"
            ),
        }
    }
}

/// The CPU on which the loads run: the idlest of those that are `allowed` and that nobody is `bound` to.
///
/// # Errors
/// Somebody would feel it.
pub fn choose(look: &Look, allowed: &CpuSet, bound: &[CpuSet]) -> Result<u32, Refusal> {
    if look.idle.len() < 2 {
        return Err(Refusal::OneCpu);
    }
    is_not_short(look.short)?;
    if let Some(part) = look.waiting.filter(|part| *part > MOST_WAITING) {
        return Err(Refusal::Waiting(part));
    }
    let common: Vec<(u32, f64)> =
        allowed.iter().filter_map(|cpu| Some((cpu, *look.idle.get(&cpu)?))).collect();
    if common.is_empty() {
        return Err(Refusal::NoCommonCpu);
    }
    let is_free = |cpu: u32| !bound.iter().any(|set| set.is_within(&[cpu].into_iter().collect()));
    let free = common.into_iter().filter(|(cpu, _)| is_free(*cpu));
    let Some((cpu, idle)) = free.max_by(|a, b| a.1.total_cmp(&b.1)) else { return Err(Refusal::AllBound) };
    if idle < LEAST_IDLE {
        return Err(Refusal::Busy(cpu, idle));
    }
    let elsewhere = look.idle.values().sum::<f64>() - idle;
    if elsewhere < LEAST_ELSEWHERE {
        return Err(Refusal::NoRoom(elsewhere));
    }
    Ok(cpu)
}

/// Whether tasks do not wait for memory already; `None` where the kernel does not count.
///
/// # Errors
/// They do.
pub fn is_not_short(short: Option<f64>) -> Result<(), Refusal> {
    match short.filter(|part| *part > MOST_SHORT) {
        Some(part) => Err(Refusal::Short(part)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(idle: &[f64]) -> Look {
        Look { idle: (0..).zip(idle.iter().copied()).collect(), waiting: Some(0.02), short: Some(0.0) }
    }

    fn set(list: &str) -> CpuSet {
        CpuSet::parse(list).unwrap()
    }

    #[test]
    fn the_idlest_cpu_that_all_may_use_is_taken() {
        let look = look(&[0.95, 0.99, 0.97]);
        assert_eq!(choose(&look, &set("0-2"), &[]), Ok(1));
        assert_eq!(choose(&look, &set("0,2"), &[]), Ok(2));
        // Who is bound to it alone could not move away; who may use another one, can.
        assert_eq!(choose(&look, &set("0-2"), &[set("1"), set("0,2")]), Ok(2));
    }

    #[test]
    fn a_drill_that_would_be_felt_is_refused() {
        let all = set("0-1");
        assert_eq!(choose(&look(&[1.0]), &set("0"), &[]), Err(Refusal::OneCpu));
        assert_eq!(choose(&look(&[1.0, 1.0]), &set("2"), &[]), Err(Refusal::NoCommonCpu));
        assert_eq!(choose(&look(&[1.0, 1.0]), &all, &[set("0"), set("1")]), Err(Refusal::AllBound));
        assert_eq!(choose(&look(&[0.8, 0.89]), &all, &[]), Err(Refusal::Busy(1, 0.89)));
        assert_eq!(choose(&look(&[0.25, 1.0]), &all, &[]), Err(Refusal::NoRoom(0.25)));
        let waiting = Look { waiting: Some(0.11), ..look(&[1.0, 1.0]) };
        assert_eq!(choose(&waiting, &all, &[]), Err(Refusal::Waiting(0.11)));
        let short = Look { short: Some(0.06), ..look(&[1.0, 1.0]) };
        assert_eq!(choose(&short, &all, &[]), Err(Refusal::Short(0.06)));
        // A kernel that does not count says nothing of it.
        let silent = Look { waiting: None, short: None, ..look(&[1.0, 1.0]) };
        assert_eq!(choose(&silent, &all, &[]), Ok(1));
    }
}
