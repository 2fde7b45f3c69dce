//! The kill order: a process for each service and login, all of them in one scope, whose limit is lowered until the
//! kernel has killed every one.
#![forbid(unsafe_code)]

use std::cmp::Reverse;

use super::Of;
use crate::effect::kill_order::NEVER;
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::OomScoreAdj;

/// So many processes at most.
pub const MOST: usize = 10;
/// The highest score: what has it is killed before all else.
const HIGHEST: i16 = 1000;

/// A process that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whom it stands for.
    pub of: Of,
    /// The score that is declared.
    pub declared: OomScoreAdj,
    /// The score of that one now.
    pub live: OomScoreAdj,
    /// That of the process: all are raised alike, so that the distances are the same and no score is below 0. Where
    /// the machine's own memory runs out meanwhile, a drill goes first.
    pub raised: OomScoreAdj,
}

/// The processes of a drill.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order in which they are started.
    pub targets: Vec<Target>,
    /// Who is not stood for, and why.
    pub left_out: Vec<(Of, &'static str)>,
}

/// One that was killed, or was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whom it stands for.
    pub of: Of,
    /// The score that is declared, and the one that it has.
    pub declared: OomScoreAdj,
    /// See there.
    pub live: OomScoreAdj,
    /// The places, from 1, that it may have by its declared score: those of one score may come in any order.
    pub due: (usize, usize),
    /// The place that `explain oom` gives it.
    pub predicted: usize,
    /// When it was killed; `None` where it was not.
    pub measured: Option<usize>,
}

impl Row {
    /// Whether it was killed when it was to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        let (first, last) = self.due;
        self.measured.is_some_and(|place| place == self.predicted && (first..=last).contains(&place))
    }
}

/// What is started: a process for every service that runs and whose score is declared, and for every login where one
/// is.
#[must_use]
pub fn plan(policy: &Policy, live: &Snapshot) -> Plan {
    let services = live.services.iter().filter_map(|service| {
        let declared = policy.service(&service.name).oom_score_adj?.value;
        let main = live.cgroups.get(&service.cgroup)?.main_score?;
        Some((Of::Service(service.name.clone()), declared, main))
    });
    let logins = live.users.iter().filter_map(|user| {
        let declared = user.rule(policy).oom_score_adj?.value;
        Some((Of::login(user), declared, user.lowest_score?))
    });
    raise(services.chain(logins).collect())
}

/// With the scores that they are given.
fn raise(all: Vec<(Of, OomScoreAdj, OomScoreAdj)>) -> Plan {
    let mut plan = Plan::default();
    let highest = all.iter().map(|(.., live)| live.get()).max().unwrap_or(HIGHEST);
    for (of, declared, live) in all {
        let raised = i64::from(live.get()) + i64::from(HIGHEST) - i64::from(highest);
        match OomScoreAdj::new(raised).filter(|raised| raised.get() >= 0) {
            _ if live.get() == NEVER => plan.left_out.push((of, "its score is -1000: it is never killed")),
            None => plan.left_out.push((of, "its score is more than 1000 below the highest")),
            Some(_) if plan.targets.len() == MOST => plan.left_out.push((of, "too many")),
            Some(raised) => plan.targets.push(Target { of, declared, live, raised }),
        }
    }
    plan
}

/// Who was killed when, the first one first, by the places of the targets.
#[must_use]
pub fn rows(targets: &[Target], predicted: &[usize], killed: &[usize]) -> Vec<Row> {
    let place = |order: &[usize], at: usize| order.iter().position(|other| *other == at).map(|at| at + 1);
    let due = |target: &Target| {
        let earlier = targets.iter().filter(|other| other.declared > target.declared).count();
        let alike = targets.iter().filter(|other| other.declared == target.declared).count();
        (earlier + 1, earlier + alike)
    };
    let mut rows: Vec<Row> = targets
        .iter()
        .enumerate()
        .map(|(at, target)| Row {
            of: target.of.clone(),
            declared: target.declared,
            live: target.live,
            due: due(target),
            predicted: place(predicted, at).unwrap_or(0),
            measured: place(killed, at),
        })
        .collect();
    rows.sort_by_key(|row| (row.measured.is_none(), row.measured, row.predicted, Reverse(row.declared)));
    rows
}
