//! What keeps a login from what the policy declares for it: PAM, sshd, and logins of before.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use super::cost;
use super::settings::ceiling_waits;
use crate::doctor::chain::Override;
use crate::doctor::finding::{Code, Finding, Fix, Place, Subjects};
use crate::effect::{holds, said};
use crate::host::cgroup;
use crate::host::logins::LoginSetup;
use crate::host::machine::Machine;
use crate::host::pam::{Module, Stack};
use crate::host::pam_service::{Opens, opens};
use crate::host::processes::Process;
use crate::host::settings::Settings;
use crate::host::sshd::UsePam;
use crate::host::units::Units;
use crate::paths;
use crate::policy::{LoginRule, Policy, Setting};
use crate::survey::controller::controller;
use crate::survey::snapshot::{Snapshot, User};
use crate::survey::{Means, loaded_files};
use crate::text::{and_more, shown};
use crate::units::{
    CPU_QUOTA, CPU_WEIGHT, INIT_SCOPE, IO_READ_BANDWIDTH_MAX, IO_WRITE_BANDWIDTH_MAX, OomScoreAdj, SliceName,
};

const OURS: &str = "pam_fairslice.so";
const LOGINDS: &str = "pam_systemd.so";
/// What every other file of Debian's includes, and `pam-auth-update(8)` writes.
const COMMON: [&str; 2] = ["etc/pam.d/common-session", "etc/pam.d/common-session-noninteractive"];
const LINE: &str = "session optional pam_fairslice.so";

/// What of the machine decides what a login gets.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What percentages are of.
    pub machine: Machine,
    /// PAM, sshd, and what fairslice has set.
    pub logins: &'a LoginSetup,
    /// Who is logged in, and what their slices have.
    pub live: &'a Snapshot,
    /// What PID 1 says of the users' slices.
    pub units: &'a Units,
    /// And from which files.
    pub settings: &'a Settings,
    /// Every process.
    pub processes: &'a [Process],
    /// How many CPUs are online.
    pub cpus: u32,
}

/// What is wrong with logins: nothing where the policy declares nothing for them.
///
/// Codes: FS011, FS012 and FS013 for users' slices; FS040 to FS045.
#[must_use]
pub fn findings(policy: &Policy, seen: &Seen<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if is_for_logins(policy) || !policy.private_dirs.is_empty() {
        found.extend(pam(policy, seen.logins));
        found.extend(seen.logins.sshd.as_ref().and_then(sshd));
    }
    for user in &seen.live.users {
        let rule = user.rule(policy);
        found.extend(rule.resources.settings().filter_map(|setting| slice(seen, user, &setting)));
        found.extend(score(seen.processes, user, &rule));
    }
    found
}

fn is_for_logins(policy: &Policy) -> bool {
    let logins = &policy.logins;
    logins.total_weight.is_some()
        || logins.total.settings().next().is_some()
        || logins.default.origin().is_some()
        || !(logins.users.is_empty() && logins.groups.is_empty())
}

fn pam(policy: &Policy, seen: &LoginSetup) -> Vec<Finding> {
    // A job gets private directories, and nothing of what is declared for logins.
    let concerns = |stack: &&Stack| !is_job(stack) || !policy.private_dirs.is_empty();
    let stacks: Vec<&Stack> = seen.stacks.iter().filter(concerns).collect();
    let mut found = without_us(&stacks, seen);
    let mut by_line: BTreeMap<(&Path, usize), Vec<(&Stack, usize)>> = BTreeMap::new();
    for stack in stacks {
        if let Some((at, ours)) = stack.modules.iter().enumerate().find(|(_, module)| module.name == OURS) {
            by_line.entry((&ours.file, ours.line)).or_default().push((stack, at));
        }
    }
    for path in &seen.missing {
        let lines =
            by_line.values().flatten().filter_map(|(stack, at)| Some((*stack, stack.modules.get(*at)?)));
        let named: Vec<(&Stack, &Module)> = lines.filter(|(_, module)| module.path == *path).collect();
        if let Some((_, ours)) = named.first() {
            found.push(missing(&names(named.iter().map(|(stack, _)| *stack)), ours));
        }
    }
    for stacks in by_line.values() {
        let Some(ours) = stacks.first().and_then(|(stack, at)| stack.modules.get(*at)) else { continue };
        let services = names(stacks.iter().map(|(stack, _)| *stack));
        found.extend(edited(&services, ours));
        let logins = stacks.iter().filter(|(stack, _)| !is_job(stack));
        let too_early = logins.filter_map(|(stack, at)| Some((*stack, logind_after(stack, *at)?)));
        let too_early: Vec<(&Stack, &Module)> = too_early.collect();
        if let Some((_, logind)) = too_early.first() {
            found.push(order(&names(too_early.iter().map(|(stack, _)| *stack)), ours, logind));
        }
    }
    found
}

fn is_job(stack: &Stack) -> bool {
    opens(&stack.service) == Some(Opens::Job)
}

fn names<'a>(stacks: impl Iterator<Item = &'a Stack>) -> Subjects {
    stacks.map(|stack| stack.service.as_str()).collect()
}

fn logind_after(stack: &Stack, ours: usize) -> Option<&Module> {
    stack.modules.iter().skip(ours).find(|module| module.name == LOGINDS)
}

/// The services whose sessions never come to us: together where it is one thing to do.
fn without_us(stacks: &[&Stack], seen: &LoginSetup) -> Vec<Finding> {
    let mut by_file: BTreeMap<&Path, Vec<&Stack>> = BTreeMap::new();
    for stack in stacks.iter().filter(|stack| stack.modules.iter().all(|module| module.name != OURS)) {
        let common = stack.files.iter().find(|file| COMMON.iter().any(|common| *file == Path::new(common)));
        let Some(file) = common.or(stack.files.first()) else { continue };
        by_file.entry(file).or_default().push(stack);
    }
    let is_common = |file: &Path| COMMON.iter().any(|common| file == Path::new(common));
    let (common, own): (Vec<_>, Vec<_>) =
        by_file.into_iter().partition(|(file, _)| is_common(file) && seen.has_profile);
    let groups = own.into_iter().map(|group| vec![group]).chain([common]);
    groups.filter(|group| !group.is_empty()).map(|group| without_line(&group, seen.is_updated)).collect()
}

fn without_line(group: &[(&Path, Vec<&Stack>)], is_updated: bool) -> Finding {
    let files: Vec<String> = group.iter().map(|(file, _)| format!("/{}", shown(&file))).collect();
    let is_common = group.iter().any(|(file, _)| COMMON.iter().any(|common| *file == Path::new(common)));
    let (file, stacks) = (files.join(" and "), group.iter().flat_map(|(_, stacks)| stacks.iter().copied()));
    Finding {
        code: Code::PamLineMissing,
        subject: names(stacks),
        what: format!("sessions open without {OURS}"),
        cost: Some("they get no weight, limit, OOM score or private directory of the policy's".to_owned()),
        cause: format!("no line of {OURS} in {file}"),
        at: group.first().map(|(file, _)| Place::of_file(file)),
        fix: if is_common && is_updated {
            Fix::Command("pam-auth-update --enable fairslice".to_owned())
        } else if is_common {
            // It changes nothing of files with a line that it did not write. Behind its blocks it minds none.
            Fix::Edit(format!(
                "add \"{LINE}\" at the end of {file}, which pam-auth-update does not change any more"
            ))
        } else {
            let mut modules = group.iter().flat_map(|(_, stacks)| stacks).flat_map(|stack| &stack.modules);
            let place = match modules.find(|module| module.name == LOGINDS) {
                Some(logind) => format!("below {}", Place::from(logind)),
                None => format!("at the end of {file}"),
            };
            Fix::Edit(format!("add \"{LINE}\" {place}"))
        },
    }
}

fn order(services: &Subjects, ours: &Module, logind: &Module) -> Finding {
    let place = Place::from(ours);
    Finding {
        code: Code::PamOrder,
        subject: services.clone(),
        what: format!("{OURS} runs before {LOGINDS}, which makes the session"),
        cost: Some(
            "a user's first login is not in a slice yet and gets no weight, limit or OOM score; \
             a second one at a time gets no session of logind's"
                .to_owned(),
        ),
        cause: format!("{LOGINDS} comes later, in /{}:{}", shown(&logind.file), logind.line),
        fix: Fix::Edit(format!("move line {place} below /{}:{}", shown(&logind.file), logind.line)),
        at: Some(place),
    }
}

/// What an administrator's line does that the packaged one does not. `required` and `strict` are a
/// choice, and so is `debug`.
fn edited(services: &Subjects, ours: &Module) -> Option<Finding> {
    let has = |argument: &str| ours.arguments.iter().any(|given| given == argument);
    let unknown = |argument: &&String| !matches!(argument.as_str(), "strict" | "debug");
    let refuses = matches!(ours.control.as_str(), "required" | "requisite") || ours.control.starts_with('[');
    let other = ours.arguments.iter().find(unknown);
    let root = other.and_then(|argument| argument.strip_prefix("root="));
    let (what, cost) = if let Some(root) = root {
        (format!("{OURS} looks for everything below {root}"), "the policy of / does not hold for logins")
    } else if ours.control == "sufficient" || ours.control.contains("=done") {
        ("the rest of the session stack is skipped".to_owned(), "modules below it do not run")
    } else if has("strict") && !refuses {
        ("\"strict\" refuses nothing".to_owned(), "a session opens although something of it was skipped")
    } else if let Some(other) = other {
        (format!("the argument {other:?} is ignored"), "it does nothing but fill the log")
    } else {
        return None;
    };
    let given = [&ours.control, &ours.path].into_iter().chain(&ours.arguments);
    let given = given.map(String::as_str).collect::<Vec<_>>().join(" ");
    let place = Place::from(ours);
    Some(Finding {
        code: Code::PamEdited,
        subject: services.clone(),
        what,
        cost: Some(cost.to_owned()),
        cause: format!("the line says \"session {given}\""),
        fix: Fix::Edit(format!("make {place} \"{LINE}\", or see OPTIONS of pam_fairslice(8)")),
        at: Some(place),
    })
}

fn missing(services: &Subjects, ours: &Module) -> Finding {
    let where_from = if ours.path.starts_with('/') { "there" } else { "where libpam looks for modules" };
    Finding {
        code: Code::ModuleMissing,
        subject: services.clone(),
        what: format!("sessions open without {OURS}"),
        cost: Some("they get no weight, limit, OOM score or private directory of the policy's".to_owned()),
        cause: format!("there is no {} {where_from}", ours.path),
        at: Some(Place::from(ours)),
        fix: if ours.path.starts_with('/') {
            Fix::Edit(format!("make {} \"{LINE}\"", Place::from(ours)))
        } else {
            Fix::Command("apt-get install --reinstall fairslice".to_owned())
        },
    }
}

fn sshd(sshd: &UsePam) -> Option<Finding> {
    if sshd.is_on {
        return None;
    }
    let config = || paths::absolute(paths::SSHD_CONFIG);
    let (file, line) = sshd.at.clone().map_or_else(|| (config(), None), |(file, line)| (file, Some(line)));
    let at = Place { file, line };
    Some(Finding {
        code: Code::UsePamOff,
        subject: "sshd".into(),
        what: "sshd opens no PAM session".to_owned(),
        cost: Some(
            "a login over ssh stays in the cgroup of sshd, with its weight, and gets nothing of the policy's"
                .to_owned(),
        ),
        cause: match at.line {
            Some(_) => "UsePAM no".to_owned(),
            None => "no line UsePAM: sshd's own default is no".to_owned(),
        },
        fix: Fix::Edit(format!("write \"UsePAM yes\" in {at}, then \"systemctl reload ssh\"")),
        at: Some(at),
    })
}

/// `user-1000.slice (alice)`
fn subject(user: &User) -> Subjects {
    let slice = SliceName::of_user(user.uid);
    match &user.account {
        Some(account) => Subjects::printed(slice.as_str(), format!("{slice} ({})", account.name.shown())),
        None => slice.as_str().into(),
    }
}

/// A value of a user's slice: rule, PID 1's property, cgroupfs, and the first that differs.
fn slice(seen: &Seen<'_>, user: &User, declared: &Setting<'_>) -> Option<Finding> {
    let slice = SliceName::of_user(user.uid);
    let (property, value, origin) = (declared.property, &declared.value, declared.origin);
    let live = seen.live.cgroups.get(&slice.cgroup())?.attributes.get(property.attribute);
    let waiting = (property.key, property, value, origin);
    if let Some(waits) = ceiling_waits(seen.live, seen.machine, subject(user), waiting, &slice.cgroup()) {
        return Some(waits);
    }
    let is_live = live.is_some_and(|live| holds(property, value, live, seen.machine));
    let unit = seen.units.get(slice.as_str());
    let known = unit.and_then(|unit| unit.set(property, value));
    let is_known = known == Some(seen.machine.number(value));
    let over = || {
        let recorded = seen.logins.recorded.get(slice.as_str()).cloned().unwrap_or_default();
        loaded_files(slice.as_str(), unit, seen.settings, recorded).over(Means::Told, property.unit)
    };
    if is_live {
        // What PID 1 has instead it writes when it next starts a unit there.
        let instead =
            unit.filter(|_| !is_known).and_then(|unit| value.at(property, unit.known(property, value)))?;
        let Override { code, cause, at, fix } = Override::by(&over()?);
        let what = format!("{} {value} is overridden by {instead}", property.key);
        return Some(Finding { code, subject: subject(user), what, cost: None, cause, at, fix });
    }
    let lacks = |id| !seen.live.tree[id].controllers.has(controller(property));
    if is_known && seen.live.tree.find(&slice.cgroup()).is_some_and(lacks) {
        // That is found of every unit with a setting: FS020.
        return None;
    }
    let (code, cause, at, fix) = if is_known {
        let cause = format!("PID 1 has {}={value} and has not written it to the cgroup", property.unit);
        (Code::NotWritten, cause, Place::from(origin), Fix::Apply)
    } else {
        over().map_or_else(
            || {
                let cause = format!("the login is older than {origin}, or got nothing of it");
                (Code::LoginOlder, cause, Place::from(origin), Fix::Apply)
            },
            |over| {
                let Override { code, cause, at, fix } = Override::by(&over);
                (code, cause, at.unwrap_or_else(|| Place::from(origin)), fix)
            },
        )
    };
    let has = live.map_or_else(
        || "without a value".to_owned(),
        |live| match property {
            CPU_QUOTA | IO_READ_BANDWIDTH_MAX | IO_WRITE_BANDWIDTH_MAX => said(property, value, live),
            _ => live.clone(),
        },
    );
    let weight = live.filter(|_| property == CPU_WEIGHT).and_then(|live| live.parse().ok());
    let cost = weight.and_then(|live| {
        let id = seen.live.tree.find(&slice.cgroup())?;
        cost::weight(&seen.live.tree, seen.cpus, id, seen.machine.number(value), live)
    });
    Some(Finding {
        code,
        subject: subject(user),
        what: format!("{} is {has}, declared {value}", property.key),
        cost,
        cause,
        at: Some(at),
        fix,
    })
}

/// Processes of a user's sessions that would be killed later than is declared. One with a negative
/// score, which it inherited, is the kill order's to report.
fn score(processes: &[Process], user: &User, rule: &LoginRule) -> Option<Finding> {
    let declared = rule.oom_score_adj.as_ref()?;
    let is_spared = |process: &&Process| {
        let unit = cgroup::unit(&process.cgroup);
        cgroup::user(&process.cgroup) == Some(user.uid)
            && unit.is_some_and(|unit| unit.ends_with(".scope") && unit != INIT_SCOPE)
            && (0..declared.value.get()).contains(&process.oom_score_adj)
    };
    let spared: Vec<&Process> = processes.iter().filter(is_spared).collect();
    let first = spared.first()?;
    let others = and_more(spared.len() - 1);
    Some(Finding {
        code: Code::LoginOlder,
        subject: subject(user),
        what: format!(
            "{} (pid {}){others} with the OOM score {}, declared {}",
            shown(&first.name),
            first.pid,
            first.oom_score_adj,
            declared.value
        ),
        cost: Some("the OOM killer takes others first".to_owned()),
        cause: format!("the login is older than {}, or root lowered the score", declared.origin),
        at: Some(Place::from(&declared.origin)),
        fix: raised(&spared, declared.value),
    })
}

/// Applying a policy changes no process of a login.
fn raised(spared: &[&Process], score: OomScoreAdj) -> Fix {
    const MOST_NAMED: usize = 20;
    if spared.len() > MOST_NAMED {
        return Fix::Edit("log in anew: a login gets its score when it begins".to_owned());
    }
    let pids: Vec<String> = spared.iter().map(|process| process.pid.to_string()).collect();
    Fix::Command(format!("for pid in {}; do choom -n {score} -p $pid; done", pids.join(" ")))
}
