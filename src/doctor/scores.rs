//! The OOM scores of services.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::doctor::chain::{Chain, Link, Override, Scene, Stage};
use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::effect::score::has_set_itself;
use crate::host::process::is_being_started;
use crate::host::processes::Process;
use crate::host::units::Unit;
use crate::text::shown;
use crate::units::{OOM_SCORE_ADJUST, OomScoreAdj, ServiceName};

const KEY: &str = "oom_score_adj";

/// The score of each service that the policy gives one.
#[must_use]
pub fn declared(scene: &Scene<'_>) -> Vec<Chain> {
    let names = scene.live.services_of(scene.policy);
    names.into_iter().filter_map(|name| follow(scene, name)).collect()
}

fn follow(scene: &Scene<'_>, name: &ServiceName) -> Option<Chain> {
    let rule = scene.policy.service(name);
    let declared = rule.oom_score_adj.as_ref()?;
    let score = declared.value;
    let mut chain = Chain::new(name.as_str(), KEY);
    chain.declare(score.to_string(), Some(&declared.origin));
    let is_ours = rule.score_to_set().is_some();
    let unit = scene.loaded(name.as_str());
    if is_ours {
        scene.add_drop_in(&mut chain, OOM_SCORE_ADJUST, &score.to_string());
        if let Some(unit) = unit {
            add_property(scene, &mut chain, unit, score);
        }
    }
    let main = scene.main_process(name).filter(|main| !is_being_started(&main.name, || Some(main.uid)));
    if let Some((unit, main)) = unit.filter(|unit| unit.is_active()).zip(main) {
        let link = Link {
            stage: Stage::Process,
            value: Some(main.oom_score_adj.to_string()),
            at: Some(score_file(main)),
            holds: main.oom_score_adj == score.get(),
        };
        chain.add(link, |chain| {
            let finding =
                if is_ours { differs(scene, unit, main, score) } else { by_itself(chain, main, score) };
            Finding { subject: chain.unit.clone().into(), ..finding }
        });
    }
    Some(chain)
}

fn add_property(scene: &Scene<'_>, chain: &mut Chain, unit: &Unit, score: OomScoreAdj) {
    let value = unit.text(OOM_SCORE_ADJUST).map(str::to_owned);
    let holds = value.as_ref().is_some_and(|value| *value == score.to_string());
    let at = scene.place_of(&chain.unit, OOM_SCORE_ADJUST);
    chain.add(Link { stage: Stage::Property, value: value.clone(), at, holds }, |chain| {
        let Override { code, cause, at, fix } = scene.overridden(&chain.unit, OOM_SCORE_ADJUST);
        let value = value.unwrap_or_default();
        let what = match code {
            Code::DropInMissing => format!("{KEY} {score} has not reached PID 1"),
            _ => format!("{KEY} {score} is overridden by {value}"),
        };
        let live = value.parse().ok().map(|live: i16| cost(live, score));
        Finding { code, subject: chain.unit.clone().into(), what, cost: live, cause, at, fix }
    });
}

/// PID 1 has the score, and the main process another.
fn differs(scene: &Scene<'_>, unit: &Unit, main: &Process, score: OomScoreAdj) -> Finding {
    let live = main.oom_score_adj;
    let (pid, name) = (main.pid, shown(&main.name));
    let found = |code, cause: &str, at, fix| Finding {
        code,
        subject: String::new().into(),
        what: format!("its main process {pid} ({name}) has {KEY} {live}, not {score}"),
        cost: Some(cost(live, score)),
        cause: cause.to_owned(),
        at,
        fix,
    };
    if has_set_itself(main, unit, scene.facts.reloaded()) {
        let cause = "PID 1 gave it the score at its start: somebody has changed it with choom, or it has itself; \
                     one that does so at each start needs set_by = \"service\" in the policy, with its own score";
        return found(Code::ScoreChanged, cause, Some(score_file(main)), Fix::Apply);
    }
    let cause =
        "it was started before the last daemon-reload, when it had no such score (or has changed it since)";
    found(Code::ScoreNotSet, cause, Some(score_file(main)), Fix::Apply)
}

/// With `set_by = "service"`, nobody sets it but the service.
fn by_itself(chain: &Chain, main: &Process, score: OomScoreAdj) -> Finding {
    let live = main.oom_score_adj;
    let at = chain.origin().map(ToString::to_string).unwrap_or_default();
    Finding {
        code: Code::ScoreNotSet,
        subject: String::new().into(),
        what: format!("its main process {} ({}) has {KEY} {live}, not {score}", main.pid, shown(&main.name)),
        cost: Some(cost(live, score)),
        cause: "with set_by = \"service\" the service sets it, and has not".to_owned(),
        at: chain.origin().cloned(),
        fix: Fix::Edit(format!(
            "remove set_by beside {at}, or have the service set it, then: fairslice apply"
        )),
    }
}

fn cost(live: i16, declared: OomScoreAdj) -> String {
    let when = if live > declared.get() { "earlier" } else { "later" };
    format!("the OOM killer takes it {when} than declared")
}

fn score_file(main: &Process) -> Place {
    Place::of_file(Path::new("proc").join(main.pid.to_string()).join(KEY))
}
