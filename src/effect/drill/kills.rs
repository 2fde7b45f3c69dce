//! The kill order: a process for each service and login, all of them in one scope, whose limit is lowered until the
//! kernel has killed every one.
#![forbid(unsafe_code)]

use super::Of;
use crate::effect::kill_order::NEVER;
use crate::policy::Policy;
use crate::survey::snapshot::Snapshot;
use crate::units::OomScoreAdj;

/// So many processes at most.
pub const MOST: usize = 10;

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

/// One that was killed.
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
    /// Whether it was killed in that place, or in that of another one with its score: all hold as much, and the kernel counts
    /// what that is only roughly.
    pub is_as_predicted: bool,
    /// In which place it was killed.
    pub killed: usize,
}

impl Row {
    /// Whether it was killed when it was to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        let (first, last) = self.due;
        self.is_as_predicted && (first..=last).contains(&self.killed)
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
    let highest = all.iter().map(|(.., live)| *live).max().unwrap_or(OomScoreAdj::MAX);
    for (of, declared, live) in all {
        let raised = i64::from(live.get()) + i64::from(OomScoreAdj::MAX.get()) - i64::from(highest.get());
        match OomScoreAdj::new(raised).filter(|raised| raised.get() >= 0) {
            _ if live.get() == NEVER => plan.left_out.push((of, "its score is -1000: it is never killed")),
            None => plan.left_out.push((of, "its score is more than 1000 below the highest")),
            Some(_) if plan.targets.len() == MOST => plan.left_out.push((of, "too many")),
            Some(raised) => plan.targets.push(Target { of, declared, live, raised }),
        }
    }
    plan
}

/// A row for each that was killed, in that order: both orders are by the places of the targets, and have all of them.
#[must_use]
pub fn rows(targets: &[Target], predicted: &[usize], killed: &[usize]) -> Vec<Row> {
    let due = |target: &Target| {
        let earlier = targets.iter().filter(|other| other.declared > target.declared).count();
        let alike = targets.iter().filter(|other| other.declared == target.declared).count();
        (earlier + 1, earlier + alike)
    };
    let row = |(place, at): (usize, &usize)| {
        let target = targets.get(*at)?;
        let expected = predicted.get(place).and_then(|expected| targets.get(*expected))?;
        Some(Row {
            of: target.of.clone(),
            declared: target.declared,
            live: target.live,
            due: due(target),
            predicted: predicted.iter().position(|other| other == at)? + 1,
            is_as_predicted: expected.live == target.live,
            killed: place + 1,
        })
    };
    killed.iter().enumerate().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ServiceName;

    fn service(name: &str, declared: i64, live: i64) -> (Of, OomScoreAdj, OomScoreAdj) {
        let score = |score| OomScoreAdj::new(score).unwrap();
        (Of::Service(ServiceName::new(name).unwrap()), score(declared), score(live))
    }

    #[test]
    fn scores_are_raised_alike_and_none_is_below_0() {
        let all = [("fs", -500), ("ssh", -1000), ("low", -900), ("slm", 500), ("doorman", -300)];
        let plan = raise(all.map(|(name, score)| service(name, score, score)).into());
        let raised: Vec<(String, i16)> =
            plan.targets.iter().map(|target| (target.of.name(), target.raised.get())).collect();
        let expected = [("fs.service", 0), ("slm.service", 1000), ("doorman.service", 200)];
        assert_eq!(raised, expected.map(|(name, score)| (name.to_owned(), score)));
        let left: Vec<String> = plan.left_out.iter().map(|(of, _)| of.name()).collect();
        assert_eq!(left, ["ssh.service", "low.service"]);
    }

    #[test]
    fn of_one_score_any_may_be_the_first() {
        let all = [("a", 0, 0), ("b", 500, 500), ("c", 0, 0), ("d", -100, 400)];
        let targets = raise(all.map(|(name, declared, live)| service(name, declared, live)).into()).targets;
        // d has another score than is declared, and goes earlier: as predicted, and not as declared.
        let rows = rows(&targets, &[1, 3, 2, 0], &[1, 3, 0, 2]);
        let row = |row: &Row| {
            format!("{} {:?} {} {} {}", row.of.name(), row.due, row.predicted, row.killed, row.holds())
        };
        assert_eq!(
            rows.iter().map(row).collect::<Vec<_>>(),
            [
                "b.service (1, 1) 1 1 true",
                "d.service (4, 4) 2 2 false",
                "a.service (2, 3) 4 3 true",
                "c.service (2, 3) 3 4 false",
            ]
        );
        let rows = super::rows(&targets, &[1, 3, 2, 0], &[3, 1, 0, 2]);
        assert!(rows.iter().take(2).all(|row| !row.is_as_predicted), "{rows:?}");
    }
}
