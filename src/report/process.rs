//! What a process is due and what it gets: which limits hold it, what they did, and who set each.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bars::percent;
use super::json::json_text;
use super::table::DIM;
use crate::effect::held::{Competition, CpuDue, Holding, Killed, LimitKind};
use crate::effect::memory::size;
use crate::host::counts::Counts;
use crate::host::cpu_set::CpuSet;
use crate::host::machine::Machine;
use crate::host::tree::{Each, Id, Tree};
use crate::survey::setter::{SetLine, Setter};
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;
/// As wide as the longest heading, and two spaces.
const HEAD: usize = 9;

/// Which process it is.
#[derive(Debug)]
pub struct Whose {
    /// `None` for that which asks for itself.
    pub process: Option<(u32, Foreign)>,
    /// Its real user.
    pub uid: u32,
    /// The user's name; `None` where nobody is called so.
    pub user: Option<Foreign>,
}

/// All that there is to say.
#[derive(Debug)]
pub struct ProcessView<'a> {
    /// Of whom.
    pub whose: &'a Whose,
    /// The way to its cgroup.
    pub tree: &'a Tree,
    /// That cgroup.
    pub cgroup: Id,
    /// What the figures of use are of: the user's slice, or the cgroup.
    pub of: Id,
    /// The machine's.
    pub machine: Machine,
    /// How many CPUs are online.
    pub cpus: u32,
    /// What `of` is due.
    pub due: CpuDue,
    /// The limits, each with who has set it.
    pub limits: Vec<(Holding, Setter)>,
    /// What the cgroups on the way count.
    pub counts: &'a Each<Counts>,
    /// Who was killed in `of`.
    pub killed: Option<Killed>,
    /// The CPUs that the process may use, where its cgroup may use more.
    pub affinity: Option<CpuSet>,
    /// The limits of `io.max`: whose, the line, and who has set it.
    pub io: Vec<(Id, String, Setter)>,
    /// What it weighs on the disks on which that counts, and which these are.
    pub io_weights: Vec<(Vec<Competition>, Vec<Foreign>)>,
    /// What cannot be said.
    pub unknown: Vec<String>,
}

/// About ten lines.
#[must_use]
pub fn process_text(view: &ProcessView<'_>) -> String {
    let mut text = format!("{}\n", shown(&view.heading()));
    for (head, lines) in [
        ("cpu", view.cpu()),
        ("memory", view.memory()),
        ("tasks", view.tasks()),
        ("io", view.io()),
        ("unknown", view.unknown.clone()),
    ] {
        for (at, line) in lines.iter().enumerate() {
            let head = if at == 0 { head } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{DIM}{head:<HEAD$}{DIM:#}{}", shown(line));
        }
    }
    text
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn process_json(view: &ProcessView<'_>, missed: &[String]) -> String {
    let tree = view.tree;
    let level = |level: &Competition| json!({ "cgroup": tree.absolute(level.id), "weight": level.weight, "sum": level.sum });
    let levels = |all: &[Competition]| all.iter().map(level).collect::<Vec<_>>();
    let own = view.counts.get(view.of);
    let killed = view.killed.as_ref().map(|killed| {
        json!({
            "count": killed.count,
            "at": killed.at.iter().map(|id| tree.absolute(*id)).collect::<Vec<_>>(),
            "inside": killed.inside,
            "together": killed.together.map(|id| tree.absolute(id)),
        })
    });
    let io = view.io.iter().map(|(id, line, setter)| {
        json!({ "cgroup": tree.absolute(*id), "limit": line, "set_by": setter_json(setter) })
    });
    let weights =
        view.io_weights.iter().map(|(all, disks)| json!({ "disks": disks, "weights": levels(all) }));
    let (share, not_computed) = match &view.due.share {
        Ok(share) => (Some(*share), None),
        Err(why) => (None, Some(why.to_string())),
    };
    json_text(&json!({
        "version": JSON_VERSION,
        "pid": view.whose.process.as_ref().map(|(pid, _)| pid),
        "name": view.whose.process.as_ref().map(|(_, name)| name),
        "uid": view.whose.uid,
        "user": view.whose.user,
        "cgroup": tree.absolute(view.cgroup),
        "of": tree.absolute(view.of),
        "cpus": view.cpus,
        "share": share,
        "not_computed": not_computed,
        "weights": levels(&view.due.levels),
        "cpu_used_us": own.and_then(|own| own.cpu).map(|cpu| cpu.used),
        "affinity": view.affinity.as_ref().map(ToString::to_string),
        "memory_used": tree[view.of].memory.map(|memory| memory.current),
        "tasks": tree[view.of].tasks,
        "limits": view.limits.iter().map(|(limit, setter)| view.limit_json(limit, setter)).collect::<Vec<_>>(),
        "killed": killed,
        "io_limits": io.collect::<Vec<_>>(),
        "io_weights": weights.collect::<Vec<_>>(),
        "unknown": view.unknown,
        "missed": missed,
    }))
}

impl ProcessView<'_> {
    fn heading(&self) -> String {
        let Whose { process, uid, user } = self.whose;
        let user = user.as_ref().map_or_else(|| "no user's".to_owned(), |user| shown(user).to_string());
        let mut parts = vec![format!("{user} (uid {uid})")];
        if self.of != self.cgroup {
            parts.push(self.name(self.of));
        }
        let process = process.as_ref().map(|(pid, name)| format!("pid {pid} ({}) ", shown(name)));
        parts.push(format!("{}in {}", process.unwrap_or_default(), self.place()));
        parts.join(", ")
    }

    /// The unit that the process is in, the innermost that PID 1 knows; else the cgroup.
    fn place(&self) -> String {
        let unit =
            self.tree.upwards(self.cgroup).find(|id| *id != Tree::ROOT && self.tree.unit(*id).is_some());
        self.name(unit.unwrap_or(self.cgroup))
    }

    fn name(&self, id: Id) -> String {
        shown(&self.tree.name(id)).to_string()
    }

    fn cpu(&self) -> Vec<String> {
        let mut lines = vec![self.share()];
        for (limit, setter) in &self.limits {
            match limit.kind {
                LimitKind::Cpu(max) => {
                    let most = hundredths(u128::from(max.quota) * 10_000 / u128::from(max.period));
                    let times = limit.periods.map(|periods| {
                        let stopped = seconds(limit.waited.unwrap_or(0));
                        format!("; throttled {stopped}, in {} of {periods} periods", limit.times)
                    });
                    let whose = self.whose_limit(limit, setter);
                    lines.push(format!("at most {most}% of a CPU: {whose}{}", times.unwrap_or_default()));
                }
                LimitKind::Cpuset => {
                    let cpus = self.tree.upwards(self.cgroup).find_map(|id| self.tree[id].cpus.as_ref());
                    let alone = cpus.map(alone).unwrap_or_default();
                    let whose = self.whose_limit(limit, setter);
                    lines.push(format!("{alone}: {whose}"));
                }
                _ => {}
            }
        }
        if let Some(cpus) = &self.affinity {
            lines.push(format!("{}: the process itself is bound so (sched_setaffinity(2))", alone(cpus)));
        }
        if let Some(cpu) = self.counts.get(self.of).and_then(|counts| counts.cpu) {
            lines.push(format!("{} used since {} was made", seconds(cpu.used), self.name(self.of)));
        }
        lines
    }

    fn share(&self) -> String {
        let weights = self.weights(&self.due.levels);
        match &self.due.share {
            Ok(share) => {
                let due = share * f64::from(self.cpus);
                let of = if self.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", self.cpus) };
                format!("{weights}: {} if all are busy, {due:.2} of {of}", percent(*share))
            }
            Err(why) => format!("{weights}; what that comes to is not computed: {why}"),
        }
    }

    /// Of each level at which there are others.
    fn weights(&self, levels: &[Competition]) -> String {
        let contested: Vec<&Competition> = levels.iter().filter(|level| level.sum > level.weight).collect();
        let level = |(at, level): (usize, &&Competition)| {
            let head = if at == 0 { "weight " } else { "" };
            let own = if level.weight == 0 { "idle".to_owned() } else { level.weight.to_string() };
            let place = if level.parent == Tree::ROOT {
                "at the top".to_owned()
            } else {
                format!("in {}", self.name(level.parent))
            };
            format!("{head}{own} of {} {place}", level.sum)
        };
        if contested.is_empty() {
            return "nothing beside it".to_owned();
        }
        contested.iter().enumerate().map(level).collect::<Vec<_>>().join(", ")
    }

    fn memory(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (limit, setter) in &self.limits {
            let met = match limit.kind {
                LimitKind::High => "slowed down",
                LimitKind::Max => "out of memory",
                LimitKind::Swap => "",
                _ => continue,
            };
            let used = size(limit.used.unwrap_or(0));
            let what = if limit.kind == LimitKind::Swap { " of swap" } else { "" };
            let mut line =
                format!("{used} of {}{what}: {}", size(limit.limit), self.whose_limit(limit, setter));
            if limit.kind != LimitKind::Swap {
                let _ = write!(line, "; {met} {}", times(limit.times));
            }
            if let Some(waited) = limit.waited.filter(|_| limit.kind == LimitKind::High) {
                let _ = write!(line, ", waited {}", seconds(waited));
            }
            lines.push(line);
        }
        if let Some(memory) = self.tree[self.of].memory.filter(|_| lines.is_empty()) {
            lines.push(format!(
                "{} of {}: no limit but what the machine has",
                size(memory.current),
                size(self.machine.ram)
            ));
        }
        lines
            .extend(self.killed.as_ref().filter(|killed| killed.count > 0).map(|killed| self.killed(killed)));
        lines
    }

    fn killed(&self, killed: &Killed) -> String {
        let mut why: Vec<String> =
            killed.at.iter().map(|id| format!("at memory.max of {}", self.name(*id))).collect();
        if killed.inside {
            why.push(format!("at memory.max of a cgroup in {}", self.name(self.of)));
        }
        if why.is_empty() {
            why.push("when the machine or what is above had no memory left".to_owned());
        }
        let together =
            killed.together.map(|id| format!("; {} is killed whole (memory.oom.group)", self.name(id)));
        let processes = if killed.count == 1 { "process" } else { "processes" };
        format!("{} {processes} killed {}{}", killed.count, why.join(" and "), together.unwrap_or_default())
    }

    fn tasks(&self) -> Vec<String> {
        let limits = self.limits.iter().filter(|(limit, _)| limit.kind == LimitKind::Tasks);
        let line = |(limit, setter): &(Holding, Setter)| {
            let whose = self.whose_limit(limit, setter);
            let forks = if limit.times == 1 { "1 fork".to_owned() } else { format!("{} forks", limit.times) };
            format!("{} of {}: {whose}; {forks} refused", limit.used.unwrap_or(0), limit.limit)
        };
        let mut lines: Vec<String> = limits.map(line).collect();
        if let Some(tasks) = self.tree[self.of].tasks.filter(|_| lines.is_empty()) {
            lines.push(format!("{tasks}: no limit of a cgroup"));
        }
        lines
    }

    fn io(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (levels, disks) in self.io_weights.iter().filter(|(levels, _)| !levels.is_empty()) {
            let disks: Vec<String> = disks.iter().map(|disk| shown(disk).to_string()).collect();
            lines.push(format!("{}, on {}", self.weights(levels), disks.join(", ")));
        }
        for (id, limit, setter) in &self.io {
            lines.push(format!("{}: io.max of {} ({})", shown(limit), self.name(*id), set_by(setter)));
        }
        lines
    }

    /// `memory.high of user-1000.slice (MemoryHigh=2G, /etc/fairslice/policy.toml:24)`
    fn whose_limit(&self, limit: &Holding, setter: &Setter) -> String {
        let by = match setter {
            Setter::Line(line) if !limit.is_by(&line.value, self.machine) => {
                format!("{}, is not in force", said(line))
            }
            setter => set_by(setter),
        };
        format!("{} of {} ({by})", limit.kind.attribute(), self.name(limit.of))
    }

    fn limit_json(&self, limit: &Holding, setter: &Setter) -> Value {
        let period = if let LimitKind::Cpu(max) = limit.kind { Some(max.period) } else { None };
        let is_by = match setter {
            Setter::Line(line) => Some(limit.is_by(&line.value, self.machine)),
            _ => None,
        };
        json!({
            "attribute": limit.kind.attribute(), "cgroup": self.tree.absolute(limit.of), "limit": limit.limit, "period_us": period,
            "used": limit.used, "tightest": limit.is_tightest, "times": limit.times, "periods": limit.periods,
            "waited_us": limit.waited, "in_force": is_by, "set_by": setter_json(setter),
        })
    }
}

fn set_by(setter: &Setter) -> String {
    match setter {
        Setter::Line(line) => said(line),
        Setter::Default(setting) => format!("by default: {setting}= of systemd-system.conf(5)"),
        Setter::Inside(unit) => format!("set within {}", shown(unit)),
        Setter::Unknown => "in no file of PID 1's".to_owned(),
    }
}

fn said(SetLine { setting, value, file, line, .. }: &SetLine) -> String {
    format!("{setting}={}, {}:{line}", shown(value), shown(file))
}

fn setter_json(setter: &Setter) -> Value {
    match setter {
        Setter::Line(SetLine { setting, value, file, line, is_the_policys }) => json!({
            "kind": if *is_the_policys { "policy" } else { "file" }, "setting": setting, "value": value, "file": file,
            "line": line,
        }),
        Setter::Default(setting) => json!({ "kind": "default", "setting": setting }),
        Setter::Inside(unit) => json!({ "kind": "inside", "unit": unit }),
        Setter::Unknown => json!({ "kind": "unknown" }),
    }
}

/// `on CPU 0 alone`
fn alone(cpus: &CpuSet) -> String {
    format!("on CPU{} {cpus} alone", if cpus.count() == 1 { "" } else { "s" })
}

fn times(times: u64) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times") }
}

/// Tenths of a second.
fn seconds(us: u64) -> String {
    format!("{}.{} s", us / 1_000_000, us / 100_000 % 10)
}

fn hundredths(number: u128) -> String {
    let text = format!("{}.{:02}", number / 100, number % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
