//! A kill order that is not the one that was meant.
#![forbid(unsafe_code)]

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use super::PlaceOf;
use super::remedy;
use crate::doctor::finding::{Code, Finding, Fix, Place, Subjects};
use crate::effect::kill_order::{
    Domain, KillScene, NEVER, Ranked, ScoreSource, contradicted, keeping_order, ranked, source,
};
use crate::effect::memory::size;
use crate::host::cgroup;
use crate::host::processes::Process;
use crate::host::tree::{Id, Tree};
use crate::host::units::Unit;
use crate::paths;
use crate::policy::{Policy, is_person};
use crate::text::{quoted, shown};
use crate::units::{OOM_SCORE_ADJUST, ServiceName};

/// What starts processes in the name of others: a score of its own is not meant for those.
const STARTERS: [&str; 4] = ["ssh", "sshd", "cron", "atd"];

/// What is wrong with the order. `logins` is the score that the policy declares for a user's processes.
#[must_use]
pub fn findings(
    scene: &KillScene<'_>,
    policy: &Policy,
    logins: &dyn Fn(u32) -> i16,
    set_by: PlaceOf<'_>,
) -> Vec<Finding> {
    let mut found = inherited(scene, logins, set_by);
    found.extend(reversed(scene, policy));
    found.extend(groups(scene, set_by));
    found
}

/// Processes of logins and users that are killed later than others, or never, and not by their own doing.
fn inherited(scene: &KillScene<'_>, logins: &dyn Fn(u32) -> i16, set_by: PlaceOf<'_>) -> Vec<Finding> {
    let mut by_unit: BTreeMap<Subjects, Vec<(&Process, ScoreSource<'_>)>> = BTreeMap::new();
    for process in scene.processes.iter().filter(|process| process.oom_score_adj < 0 && !process.is_kernel) {
        let user = cgroup::user(&process.cgroup);
        let unit = cgroup::unit(&process.cgroup).unwrap_or_default();
        let from = source(scene, process);
        let is_meant = match from {
            // Only root can lower a score under the one it was started with.
            ScoreSource::Written => process.uid == 0,
            ScoreSource::Unit(_) => user.is_some(),
            ScoreSource::Inherited { .. } => false,
        };
        let is_person = is_person(process.uid);
        let is_users = user.is_some() || is_person && starts_for_others(unit);
        if is_users && !is_meant && process.oom_score_adj < logins(user.unwrap_or(process.uid)) {
            let subject = match user {
                Some(uid) => format!("{unit} of uid {uid}"),
                None => format!("processes of uid {} in {unit}", process.uid),
            };
            let subject = Subjects::printed(unit, subject);
            by_unit.entry(subject).or_default().push((process, from));
        }
    }
    let found = by_unit.into_iter().filter_map(|(subject, processes)| {
        let (worst, from) = processes.iter().min_by_key(|(process, _)| process.oom_score_adj)?;
        let (cause, at) = inherited_from(worst, *from, set_by);
        let pids: Vec<String> = processes.iter().map(|(process, _)| process.pid.to_string()).collect();
        let never = if worst.oom_score_adj == NEVER { "never" } else { "after all others" };
        let score = logins(worst.uid);
        Some(Finding {
            code: Code::Unkillable,
            subject,
            what: format!(
                "{} (pid {}) has a score of {}",
                shown(&worst.name),
                worst.pid,
                worst.oom_score_adj
            ),
            cost: Some(format!(
                "{} of its processes, with {}, {never} killed when memory runs out",
                processes.len(),
                size(processes.iter().fold(0, |sum, (process, _)| sum.saturating_add(process.resident))),
            )),
            cause,
            at,
            fix: Fix::Command(format!(
                "for pid in {}; do choom --adjust {score} --pid $pid; done",
                pids.join(" ")
            )),
        })
    });
    found.collect()
}

/// `ssh.service`, `ssh@1-10.0.0.1:22.service`.
fn starts_for_others(unit: &str) -> bool {
    let stem = unit.strip_suffix(".service").unwrap_or_default();
    STARTERS.contains(&stem.split_once('@').map_or(stem, |(template, _)| template))
}

fn inherited_from(process: &Process, from: ScoreSource<'_>, set_by: PlaceOf<'_>) -> (String, Option<Place>) {
    let set = |unit: &str| set_by(unit, OOM_SCORE_ADJUST);
    match from {
        ScoreSource::Unit(unit) => {
            (format!("{unit} has {OOM_SCORE_ADJUST}={}", process.oom_score_adj), set(unit))
        }
        ScoreSource::Inherited { from, unit: Some(unit) } => (
            format!(
                "inherited from {} (pid {}): {unit} has {OOM_SCORE_ADJUST}={}",
                shown(&from.name),
                from.pid,
                from.oom_score_adj
            ),
            set(unit),
        ),
        ScoreSource::Inherited { from, unit: None } => {
            (format!("inherited from {} (pid {}), which has it by itself", shown(&from.name), from.pid), None)
        }
        ScoreSource::Written => {
            ("inherited from a process that is gone, or written by root".to_owned(), None)
        }
    }
}

/// Services that are to be killed late and use so much that they are killed early.
fn reversed(scene: &KillScene<'_>, policy: &Policy) -> Vec<Finding> {
    let order = ranked(scene, Domain::machine(scene), policy);
    let fix = reordered(&order, policy);
    let found = order.iter().enumerate().filter_map(|(place, early)| {
        let spared: Vec<&Ranked<'_>> = contradicted(&order, place).collect();
        let needed = early.badness.permille();
        if spared.is_empty() {
            return None;
        }
        let scores: Vec<String> =
            spared.iter().map(|other| format!("{} ({})", other.service, other.declared)).collect();
        Some(Finding {
            code: Code::KillOrder,
            subject: early.service.to_string().into(),
            what: format!("it is killed before {}", scores.join(", ")),
            cost: Some(format!(
                "oom_score_adj = {} declared, a score of {} effective",
                early.declared,
                early.badness.score()
            )),
            cause: format!(
                "its {} (pid {}) uses {}, which is {needed} thousandths of RAM and swap: more than its \
                 score takes off",
                shown(&early.process.name),
                early.process.pid,
                size(early.badness.memory),
            ),
            at: policy.service(&early.service).oom_score_adj.map(|score| Place::from(&score.origin)),
            fix: fix.clone(),
        })
    });
    found.collect()
}

/// All scores that have to change for the order to be the declared one: a change of one alone may turn
/// others round.
fn reordered(order: &[Ranked<'_>], policy: &Policy) -> Fix {
    let is_ours = |service: &ServiceName| policy.service(service).score_to_set().is_some();
    let Some(scores) = keeping_order(order, is_ours) else {
        return Fix::Edit(
            "no oom_score_adj from -999 to 1000 keeps the order as memory is used now: limit the memory of \
             what goes too early (memory_max), or declare another order"
                .to_owned(),
        );
    };
    let change = |(service, score): &(&ServiceName, i16)| {
        let at = policy.service(service).oom_score_adj.map(|score| Place::from(&score.origin).to_string());
        format!("oom_score_adj = {score} for {service} ({})", at.unwrap_or_default())
    };
    let changes: Vec<String> = scores.iter().map(change).collect();
    Fix::Edit(format!("{}, then: fairslice apply; the order holds as memory is used now", changes.join(", ")))
}

/// Kills that take more, or less, than the unit says.
fn groups(scene: &KillScene<'_>, set_by: PlaceOf<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let inside = LazyCell::new(|| Inside::of(scene));
    for id in scene.tree.ids().filter(|id| *id != Tree::ROOT) {
        let (Some(name), Some(memory)) = (scene.tree.unit(id), &scene.tree[id].memory) else { continue };
        if let Some(unit) = scene.units.get(name).filter(|unit| unit.is_active()) {
            let path = scene.tree.path(id);
            let finding = if scene.tree.is_slice(id) {
                memory.oom_group.then(|| whole_slice(name, &path, inside.count(id)))
            } else {
                unit_group(scene, name, unit, memory.oom_group, &path, &|| inside.survivor(id), set_by)
            };
            found.extend(finding);
        }
    }
    found
}

/// What is in each cgroup and below it.
struct Inside<'a> {
    processes: HashMap<Id, usize>,
    /// The first that is never killed.
    survivors: HashMap<Id, &'a Process>,
}

impl<'a> Inside<'a> {
    fn of(scene: &KillScene<'a>) -> Self {
        let (mut processes, mut survivors) = (HashMap::new(), HashMap::new());
        for process in scene.processes {
            for id in scene.tree.upwards(scene.tree.nearest(&process.cgroup)) {
                *processes.entry(id).or_default() += 1;
                if process.oom_score_adj == NEVER {
                    survivors.entry(id).or_insert(process);
                }
            }
        }
        Self { processes, survivors }
    }

    fn count(&self, id: Id) -> usize {
        self.processes.get(&id).copied().unwrap_or_default()
    }

    fn survivor(&self, id: Id) -> Option<&'a Process> {
        self.survivors.get(&id).copied()
    }
}

fn whole_slice(name: &str, path: &Path, inside: usize) -> Finding {
    Finding {
        code: Code::OomGroup,
        subject: name.into(),
        what: "an OOM kill of one process in it kills all of them".to_owned(),
        cost: Some(format!("{inside} processes at once")),
        cause: "memory.oom.group is 1, and systemd sets it of no slice: something else has written it"
            .to_owned(),
        at: None,
        fix: set_oom_group(path, 0),
    }
}

fn set_oom_group(cgroup: &Path, value: u8) -> Fix {
    let file = paths::absolute(paths::CGROUPFS).join(cgroup).join("memory.oom.group");
    Fix::Command(format!("echo {value} > {}", quoted(&file)))
}

fn unit_group<'a>(
    scene: &KillScene<'a>,
    name: &str,
    unit: &Unit,
    is_group: bool,
    path: &Path,
    survivor: &dyn Fn() -> Option<&'a Process>,
    set_by: PlaceOf<'_>,
) -> Option<Finding> {
    let (policy, attribute) = (unit.text("OOMPolicy")?, u8::from(is_group));
    let finding = |what: String, cost: Option<String>, cause: String, fix: Fix| Finding {
        code: Code::OomGroup,
        subject: name.into(),
        what,
        cost,
        cause,
        at: set_by(name, "OOMPolicy"),
        fix,
    };
    // A unit with Delegate= may set its own.
    if (policy == "kill") != is_group && !unit.is("Delegate") {
        return Some(finding(
            format!("OOMPolicy={policy}, and memory.oom.group is {attribute}"),
            Some(
                if is_group { "all its processes are killed at once" } else { "one process is killed alone" }
                    .to_owned(),
            ),
            "the cgroup's value was written behind PID 1's back".to_owned(),
            set_oom_group(path, 1 - attribute),
        ));
    }
    let survivor = (policy == "kill").then(survivor).flatten()?;
    Some(finding(
        "OOMPolicy=kill does not kill all of it".to_owned(),
        Some(format!("{} (pid {}) survives the others", shown(&survivor.name), survivor.pid)),
        match source(scene, survivor) {
            ScoreSource::Unit(_) => "the unit has OOMScoreAdjust=-1000".to_owned(),
            _ => "the process has a score of -1000 by itself or its parent".to_owned(),
        },
        everything_or_stop(scene, name, survivor, set_by),
    ))
}

/// Without `OOMPolicy=kill`, what is killed is what is meant.
fn everything_or_stop(scene: &KillScene<'_>, name: &str, survivor: &Process, set_by: PlaceOf<'_>) -> Fix {
    let stop = match set_by(name, "OOMPolicy") {
        Some(at) => format!("OOMPolicy=stop at {at}"),
        None => format!("OOMPolicy=stop in a drop-in of {}", quoted(name)),
    };
    let score = match source(scene, survivor) {
        ScoreSource::Unit(_) => "another OOMScoreAdjust= than -1000, and a restart".to_owned(),
        _ => format!("choom -n -999 -p {}", survivor.pid),
    };
    Fix::Edit(format!("{stop}, then: {}; or {score}", remedy::written(&BTreeSet::from([name]), false)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::effect::kill_order::tests::{MIB, add, memory, process};
    use crate::host::tree::{Cgroup, MemoryAttributes};
    use crate::host::units::Units;
    use crate::policy;

    const SESSION: &str = "user.slice/user-1000.slice/session-3.scope";

    struct Machine {
        tree: Tree,
        units: Units,
        processes: Vec<Process>,
        policy: String,
    }

    impl Machine {
        /// A Debian machine with nothing wrong with it.
        fn stock() -> Self {
            let mut tree = Tree::new(Cgroup::default());
            for path in ["system.slice/ssh.service", "system.slice/dbus.service", SESSION] {
                add(&mut tree, path, memory(0));
            }
            let user =
                |pid, parent, cgroup, adj| Process { parent, uid: 1000, ..process(pid, cgroup, adj, 1) };
            let processes = vec![
                process(1, "init.scope", 0, 1),
                process(3, "system.slice/ssh.service", -1000, 1),
                process(4, "system.slice/dbus.service", -900, 1),
                // sshd-session, the shell, a build.
                Process { parent: 3, ..process(5, SESSION, 0, 1) },
                user(6, 5, SESSION, 0),
                user(7, 6, SESSION, 0),
                user(8, 1, "user.slice/user-1000.slice/user@1000.service/init.scope", 100),
                process(9, "system.slice/local-a.service", -100, 1),
                process(10, "system.slice/local-b.service", 50, 1),
            ];
            let units = Units::parse(
                "Id=ssh.service\nActiveState=active\nOOMScoreAdjust=0\nOOMPolicy=stop\nKillMode=process\n\n\
                 Id=dbus.service\nActiveState=active\nOOMScoreAdjust=-900\nOOMPolicy=stop\n",
            );
            Self { tree, units, processes, policy: String::new() }
        }

        fn scored(mut self, pid: u32, adj: i16) -> Self {
            self.processes.iter_mut().filter(|p| p.pid == pid).for_each(|p| p.oom_score_adj = adj);
            self
        }

        fn findings(&self) -> Vec<Finding> {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("policy.toml");
            std::fs::write(&file, &self.policy).unwrap();
            let policy = policy::load_files(&[file]).policy;
            let Self { tree, units, processes, .. } = self;
            let scene = KillScene { tree, units, processes, ram: 1000 * MIB, swap: 0 };
            let set_by =
                |unit: &str, key: &str| Some(Place { file: format!("/{unit}/{key}").into(), line: None });
            findings(&scene, &policy, &|uid| if uid == 7 { -200 } else { 0 }, &set_by)
        }
    }

    #[test]
    fn a_stock_machine_has_nothing_wrong() {
        assert_eq!(Machine::stock().findings(), []);
        // A user may be killed earlier, and root may do as root likes.
        assert_eq!(Machine::stock().scored(7, 500).findings(), []);
        let mut root = Machine::stock().scored(5, -500);
        root.processes.retain(|process| process.pid < 6);
        assert_eq!(root.findings(), []);
    }

    #[test]
    fn a_login_that_inherited_its_score_is_found_with_where_from() {
        let mut machine = Machine::stock().scored(5, -1000).scored(6, -1000).scored(7, -1000);
        let [found] = machine.findings().try_into().unwrap();
        assert_eq!(
            (found.code, found.subject.to_string().as_str()),
            (Code::Unkillable, "session-3.scope of uid 1000")
        );
        assert_eq!(found.cause, "inherited from p3 (pid 3), which has it by itself");
        assert_eq!(found.cost.unwrap(), "3 of its processes, with 3M, never killed when memory runs out");
        assert_eq!(
            found.fix,
            Fix::Command("for pid in 5 6 7; do choom --adjust 0 --pid $pid; done".to_owned())
        );
        // The unit says so.
        machine.units = Units::parse("Id=ssh.service\nOOMScoreAdjust=-1000\n");
        let [found] = machine.findings().try_into().unwrap();
        assert_eq!(found.cause, "inherited from p3 (pid 3): ssh.service has OOMScoreAdjust=-1000");
        assert_eq!(found.at.unwrap().to_string(), "/ssh.service/OOMScoreAdjust");
        // One whose parent is gone.
        let mut orphan = Machine::stock().scored(7, -900);
        orphan.processes[5].parent = 1;
        assert_eq!(orphan.findings().len(), 1);
        // As declared.
        let mut declared = Machine::stock();
        declared
            .processes
            .push(Process { uid: 7, ..process(11, "user.slice/user-7.slice/session-4.scope", -200, 1) });
        assert_eq!(declared.findings(), []);
    }

    #[test]
    fn a_user_below_a_service_that_starts_others_is_found() {
        let mut machine = Machine::stock();
        for (pid, unit) in [(11, "cron.service"), (12, "ssh@1-10.0.0.1:22.service"), (13, "own.service")] {
            machine
                .processes
                .push(Process { uid: 1001, ..process(pid, &format!("system.slice/{unit}"), -500, 1) });
        }
        let subjects: Vec<String> =
            machine.findings().into_iter().map(|found| found.subject.to_string()).collect();
        let expected =
            ["processes of uid 1001 in cron.service", "processes of uid 1001 in ssh@1-10.0.0.1:22.service"];
        assert_eq!(subjects, expected);
    }

    #[test]
    fn a_service_that_is_killed_before_its_turn_is_found() {
        let mut machine = Machine::stock();
        machine.policy =
            "[service.local-a]\noom_score_adj = -100\n[service.local-b]\noom_score_adj = 50\n".to_owned();
        assert_eq!(machine.findings(), []);
        machine.processes[7].resident = 200 * MIB;
        let [found] = machine.findings().try_into().unwrap();
        assert_eq!((found.code, found.subject.to_string().as_str()), (Code::KillOrder, "local-a.service"));
        assert_eq!(found.what, "it is killed before local-b.service (50)");
        assert_eq!(found.at.unwrap().line, Some(2));
        let Fix::Edit(fix) = found.fix else { panic!("{:?}", found.fix) };
        assert!(fix.starts_with("oom_score_adj = -150 "), "{fix}");
        // With that score it is not.
        let score = "[service.local-a]\noom_score_adj = -150\n[service.local-b]\noom_score_adj = 50\n";
        machine.policy = score.to_owned();
        assert_eq!(machine.scored(9, -150).findings(), []);
    }

    /// Where the score that one would need is none, others are changed as well, and none is turned round.
    #[test]
    fn the_fix_of_an_order_is_applied_as_it_is_printed() {
        let names = ["a", "b", "c", "d"];
        let fixed = |declared: [i16; 4], mib: [u64; 4]| {
            let mut scores = declared;
            for round in 0..2 {
                let mut machine = Machine::stock();
                machine.processes.retain(|process| process.pid < 9);
                for ((name, score), (pid, mib)) in names.iter().zip(scores).zip((9..).zip(mib)) {
                    write!(machine.policy, "[service.local-{name}]\noom_score_adj = {score}\n").unwrap();
                    let cgroup = format!("system.slice/local-{name}.service");
                    machine.processes.push(process(pid, &cgroup, score, mib));
                }
                let found = machine.findings();
                if round == 1 {
                    assert_eq!(found, [], "{scores:?}");
                    let mut order: Vec<_> = scores.iter().zip(declared).collect();
                    order.sort();
                    assert!(order.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "{scores:?} of {declared:?}");
                    break;
                }
                let Some(Fix::Edit(fix)) = found.first().map(|found| found.fix.clone()) else {
                    panic!("nothing found");
                };
                assert!(found.iter().all(|other| other.fix == Fix::Edit(fix.clone())));
                if fix.starts_with("no oom_score_adj") {
                    return None;
                }
                for change in fix.split("oom_score_adj = ").skip(1) {
                    let (score, rest) = change.split_once(" for local-").unwrap();
                    let at =
                        names.iter().position(|name| rest.starts_with(&format!("{name}.service"))).unwrap();
                    scores[at] = score.parse().unwrap();
                }
            }
            Some(scores)
        };
        // One that would have to be at -1250.
        assert_eq!(fixed([-900, -850, -800, 0], [400, 5, 1, 1]), Some([-999, -603, -598, 0]));
        // Lowering b alone would put it below a.
        assert_eq!(fixed([-500, -300, 0, 500], [150, 500, 1, 1]), Some([-501, -500, 0, 500]));
        assert_eq!(fixed([-10, 0, 10, 20], [900, 10, 1, 1]).map(|scores| scores[1]), Some(0));
        // Nor in the policy.
        assert_eq!(fixed([-500, -300, 0, 500], [1, 700, 1, 1]), Some([-701, -700, 0, 500]));
        assert_eq!(fixed([-999, 1, 2, 3], [2500, 1, 1, 1]), None);
    }

    #[test]
    fn groups_that_are_not_as_the_unit_says_are_found() {
        let cause = |oom_group: bool, unit: &str| {
            let mut machine = Machine::stock();
            add(&mut machine.tree, "x.slice", memory(0));
            add(&mut machine.tree, "x.slice/g.service", MemoryAttributes { oom_group, ..memory(0) });
            machine.processes.push(process(11, "x.slice/g.service", -1000, 1));
            machine.units = Units::parse(&format!("Id=g.service\nActiveState=active\n{unit}"));
            machine.findings().into_iter().map(|found| (found.code, found.what)).collect::<Vec<_>>()
        };
        let group = |what: &str| vec![(Code::OomGroup, what.to_owned())];
        assert_eq!(cause(true, "OOMPolicy=stop\n"), group("OOMPolicy=stop, and memory.oom.group is 1"));
        assert_eq!(cause(false, "OOMPolicy=kill\n"), group("OOMPolicy=kill, and memory.oom.group is 0"));
        assert_eq!(cause(true, "OOMPolicy=kill\n"), group("OOMPolicy=kill does not kill all of it"));
        assert_eq!(cause(true, "OOMPolicy=continue\nDelegate=yes\n"), []);
        assert_eq!(cause(false, "OOMPolicy=stop\n"), []);

        for (name, file) in [
            ("x.slice", "/sys/fs/cgroup/x.slice/memory.oom.group"),
            (r"x\x2dy.slice", r"'/sys/fs/cgroup/x\x2dy.slice/memory.oom.group'"),
        ] {
            let mut machine = Machine::stock();
            add(&mut machine.tree, name, MemoryAttributes { oom_group: true, ..memory(0) });
            machine.units = Units::parse(&format!("Id={name}\nActiveState=active\n"));
            let [found] = machine.findings().try_into().unwrap();
            assert_eq!(found.fix, Fix::Command(format!("echo 0 > {file}")));
        }
    }
}
