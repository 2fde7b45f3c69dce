//! Users' processes for which the limits of their users' slices do not hold.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::chain::Scene;
use super::finding::{Code, Finding, Fix, Place, Subjects};
use super::payload::LIMITS;
use super::remedy::is_vendors;
use crate::host::pam::Stack;
use crate::host::tree::Id;
use crate::paths;
use crate::survey::outside::{Outside, session_of};
use crate::survey::snapshot::User;
use crate::survey::{Files, Owner, Winner};
use crate::text::{and_more, quoted, shown};
use crate::units::SliceName;

/// So many users are named.
const MOST_NAMED: usize = 3;
const LOGINDS: &str = "pam_systemd.so";
/// Services that open a session for each job, by the names of their PAM services.
const JOBS: [(&str, &str); 2] = [("cron.service", "cron"), ("atd.service", "atd")];

/// [`Code::OutsideSlice`]: of each unit, the users with processes in it and a limit that the administrator or the
/// policy has set for their slices, and that nothing sets where they are.
#[must_use]
pub fn findings(scene: &Scene<'_>, outside: &[Outside]) -> Vec<Finding> {
    let mut by_unit: BTreeMap<Id, Vec<(&Outside, Vec<Winner>)>> = BTreeMap::new();
    for outside in outside {
        let limits = missing(scene, outside);
        if !limits.is_empty() {
            by_unit.entry(outside.unit).or_default().push((outside, limits));
        }
    }
    by_unit.into_iter().filter_map(|(unit, users)| finding(scene, unit, &users)).collect()
}

/// The limits that would hold for them in their slice.
fn missing(scene: &Scene<'_>, outside: &Outside) -> Vec<Winner> {
    let (tree, user) = (&scene.live.tree, SliceName::user());
    let rule = outside.user.rule(scene.policy);
    let declared = rule.resources.settings().map(|setting| Winner {
        setting: setting.property.unit.to_owned(),
        owner: Owner::Policy,
        file: setting.origin.file.to_path_buf(),
        set: Some((setting.origin.line, setting.value.to_string())),
    });
    let mut limits: Vec<Winner> = declared
        .filter(|limit| LIMITS.contains(&limit.setting.as_str()))
        .chain(limits(&outside.slice))
        .collect();
    // In another's session, what limits all users holds.
    if session_of(tree, outside.unit).is_none() {
        limits.extend(self::limits(&scene.files(user.as_str())));
    }
    // What is set above both their slice and this place holds beside the limit that they lack here.
    let slice = SliceName::of_user(outside.user.uid).cgroup();
    let there: Vec<Winner> = tree
        .upwards(outside.unit)
        .filter(|id| !slice.starts_with(tree.path(*id)))
        .filter_map(|id| tree.unit(id))
        .flat_map(|unit| self::limits(&scene.files(unit)))
        .collect();
    let mut known: Vec<String> = there.into_iter().map(|limit| limit.setting).collect();
    limits.retain(|limit| {
        let is_news = !known.contains(&limit.setting);
        known.push(limit.setting.clone());
        is_news
    });
    limits
}

/// Those that the administrator has set, and with which there is a limit.
fn limits(files: &Files<'_>) -> Vec<Winner> {
    let set = LIMITS.iter().filter_map(|setting| files.set(setting));
    set.filter(|limit| !is_vendors(&limit.file) && !limit.sets("infinity")).collect()
}

fn finding(scene: &Scene<'_>, unit: Id, users: &[(&Outside, Vec<Winner>)]) -> Option<Finding> {
    let tree = &scene.live.tree;
    let (first, limits) = users.first()?;
    let at = limits.first()?;
    let name = tree.unit(unit)?;
    let each = users.iter().take(MOST_NAMED).enumerate().map(|(place, (outside, _))| {
        let (count, of) = (outside.pids.len(), called(&outside.user));
        match (place, count) {
            (0, 1) => format!("1 process of {of}"),
            (0, _) => format!("{count} processes of {of}"),
            _ => format!("{count} of {of}"),
        }
    });
    let each = each.collect::<Vec<_>>().join(", ");
    let all: usize = users.iter().map(|(outside, _)| outside.pids.len()).sum();
    let more = and_more(users.len().saturating_sub(MOST_NAMED));
    let mut set: Vec<String> = Vec::new();
    for limit in users.iter().flat_map(|(_, limits)| limits) {
        let line = format!(
            "{}={}",
            limit.setting,
            limit.set.as_ref().map(|(_, value)| value.as_str()).unwrap_or_default()
        );
        if !set.contains(&line) {
            set.push(line);
        }
    }
    let (cause, fix) = match (session_of(tree, unit), job(scene, name)) {
        (Some(other), _) => in_session(scene, other, first),
        (None, Some(stack)) => of_job(name, stack, users),
        (None, None) => (
            format!("{name} starts them, changes to their users and opens no session in their slices"),
            Fix::Command(format!(
                "systemctl set-property {} {}",
                quoted(name),
                set.iter().map(quoted).collect::<Vec<_>>().join(" ")
            )),
        ),
    };
    let hold = if set.len() == 1 { "does not hold" } else { "do not hold" };
    Some(Finding {
        code: Code::OutsideSlice,
        subject: subjects(users),
        what: format!("{each}{more} {} in {} instead", if all == 1 { "runs" } else { "run" }, shown(name)),
        cost: Some(format!("{} {hold} for them", set.join(", "))),
        cause,
        at: Some(Place::from(at)),
        fix,
    })
}

/// In the session of another user.
fn in_session(scene: &Scene<'_>, other: u32, first: &Outside) -> (String, Fix) {
    let other =
        scene.live.users.iter().find(|user| user.uid == other).map_or_else(|| other.to_string(), called);
    let (uid, slice) = (first.user.uid, SliceName::of_user(first.user.uid));
    (
        format!("sudo and su open no session inside of another: what they start stays in that of {other}"),
        Fix::Edit(format!(
            "start such by: systemd-run --uid={uid} --slice={slice} COMMAND (with --pty, in the terminal)"
        )),
    )
}

/// The PAM stack of the sessions that a service opens for jobs.
fn job<'a>(scene: &Scene<'a>, service: &str) -> Option<&'a Stack> {
    let (_, name) = JOBS.iter().find(|(known, _)| *known == service)?;
    scene.facts.logins.stacks.iter().find(|stack| stack.service == *name)
}

fn of_job(service: &str, stack: &Stack, users: &[(&Outside, Vec<Winner>)]) -> (String, Fix) {
    let file = stack.files.first().map(paths::absolute).unwrap_or_default();
    if stack.modules.iter().any(|module| module.name == LOGINDS) {
        let pids: Vec<String> =
            users.iter().flat_map(|(outside, _)| &outside.pids).map(ToString::to_string).collect();
        return (
            format!("{LOGINDS} in {} puts jobs into the slices; these are older, or it failed", shown(&file)),
            Fix::Edit(format!("wait until they end, or: kill {}", pids.join(" "))),
        );
    }
    (
        format!("{service} opens no session in the slices: there is no {LOGINDS} in {}", shown(&file)),
        Fix::Command(format!("echo 'session optional {LOGINDS}' >> {}", quoted(&file))),
    )
}

fn called(user: &User) -> String {
    user.account.as_ref().map_or_else(|| user.uid.to_string(), |account| account.name.shown().to_string())
}

fn subjects(users: &[(&Outside, Vec<Winner>)]) -> Subjects {
    let one = |Outside { user, .. }: &Outside| {
        let slice = SliceName::of_user(user.uid);
        Subjects::printed(slice.as_str(), format!("{slice} ({})", called(user)))
    };
    let each: Vec<Subjects> = users.iter().map(|(outside, _)| one(outside)).collect();
    Subjects::of(each.iter())
}
