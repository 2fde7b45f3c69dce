//! What services alone take of a policy: from there to the cgroup or the main process.
#![forbid(unsafe_code)]

use std::path::Path;

use super::chain::{Chain, Link, Override, Scene, Stage};
use super::finding::{Code, Finding, Fix, Place};
use super::settings::Unwritten;
use crate::effect::restart::is_by_hand;
use crate::host::units::Unit;
use crate::paths;
use crate::policy::Sourced;
use crate::text::quoted;
use crate::units::{ServiceName, ServiceValue};

/// The way of each such value.
#[must_use]
pub fn declared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for name in scene.live.services_of(scene.policy) {
        chains.extend(scene.policy.service(name).own.iter().map(|own| follow(scene, name, own)));
    }
    chains
}

fn follow(scene: &Scene<'_>, name: &ServiceName, own: &Sourced<ServiceValue>) -> Chain {
    let (value, setting) = (&own.value, own.value.setting());
    let mut chain = Chain::new(name.as_str(), setting.key);
    chain.declare(value.to_string(), Some(&own.origin));
    scene.add_drop_in(&mut chain, setting.unit, &value.to_string());
    // Of one that is not active, PID 1 is not asked.
    let Some(unit) = scene.loaded(name.as_str()).filter(|unit| unit.is_active()) else { return chain };
    if unit.has(setting.unit) {
        add_property(scene, &mut chain, unit, value);
    }
    add_live(scene, &mut chain, name, value);
    chain
}

fn add_property(scene: &Scene<'_>, chain: &mut Chain, unit: &Unit, value: &ServiceValue) {
    let setting = value.setting();
    let known = unit.of_service(setting);
    let holds = known.as_ref() == Some(value);
    let text = known.map(|known| known.to_string());
    let at = scene.place_of(&chain.unit, setting.unit);
    chain.add(Link { stage: Stage::Property, value: text.clone(), at, holds }, |chain| {
        let Override { code, cause, at, fix } = scene.overridden(&chain.unit, setting.unit);
        let key = setting.key;
        let what = match code {
            Code::DropInMissing => format!("{key} {value} has not reached PID 1"),
            _ => format!("{key} {value} is overridden by {}", text.unwrap_or_else(|| "none".to_owned())),
        };
        Finding { code, subject: chain.unit.clone().into(), what, cost: None, cause, at, fix }
    });
}

fn add_live(scene: &Scene<'_>, chain: &mut Chain, name: &ServiceName, value: &ServiceValue) {
    let setting = value.setting();
    let Some(cgroup) = scene.cgroup_of(name) else { return };
    let live = scene.live.cgroups.get(cgroup).and_then(|live| live.attributes.get(setting.attribute));
    if live.is_none() && setting.of_process {
        return;
    }
    let holds = live.is_some_and(|live| value.holds(live));
    let at = match scene.main_process(name) {
        Some(main) if setting.of_process => {
            Place::of_file(Path::new("proc").join(main.pid.to_string()).join("stat"))
        }
        _ => Place::of_file(Path::new(paths::CGROUPFS).join(cgroup).join(setting.attribute)),
    };
    let stage = if setting.of_process { Stage::Process } else { Stage::Cgroup };
    let is = live.cloned().unwrap_or_else(|| "without a value".to_owned());
    chain.add(Link { stage, value: live.cloned(), at: Some(at.clone()), holds }, |_| {
        let (key, subject) = (setting.key, name.as_str().into());
        if setting.of_process {
            let cause =
                "a process gets it when it is started, and this one was before (or has changed it since)";
            let fix = if is_by_hand(name.as_str()) {
                Fix::Command(format!("systemctl restart {}", quoted(name.as_str())))
            } else {
                Fix::Restart(vec![name.to_string()])
            };
            return Finding {
                code: Code::NeedsRestart,
                subject,
                what: format!("its main process has {key} {is}, not {value}"),
                cost: None,
                cause: cause.to_owned(),
                at: Some(at),
                fix,
            };
        }
        let Unwritten { code, verb, cause } = Unwritten::new(scene, name.as_str(), cgroup);
        let what = format!("{key} {value}: {} {verb} {is}", setting.attribute);
        Finding { code, subject, what, cost: None, cause, at: Some(at), fix: Fix::Apply }
    });
}
