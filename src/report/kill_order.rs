//! Who is killed next, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::json::json_text;
use super::table::{DIM, PLAIN, Table};
use crate::doctor::PlaceOf;
use crate::effect::kill_order::daemons::{Rule, SWAPPED_LEAST, Watched, earlyoom_takes, oomd_takes, watched};
use crate::effect::kill_order::{
    Domain, KillScene, KilledWith, ScoreSource, Spared, Victim, contradicted, ranked, spared, victims,
};
use crate::effect::memory::{ceiling, size};
use crate::host::cgroup;
use crate::host::oom::{Oom, Oomd, Reclaim};
use crate::host::processes::Process;
use crate::host::tree::{Id, Tree};
use crate::policy::Policy;
use crate::text::{counted, shown};
use crate::units::OOM_SCORE_ADJUST;

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;
/// How many victims are shown.
const SHOWN: usize = 10;
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What is known of the order.
pub struct Order<'a> {
    /// The machine.
    pub scene: KillScene<'a>,
    /// Whose processes are asked for; `None` for all.
    pub of: Option<Id>,
    /// Where memory runs out for those.
    pub domain: Domain,
    /// What is declared.
    pub policy: &'a Policy,
    /// What else kills.
    pub oom: &'a Oom,
    /// What systemd-oomd goes by in a cgroup.
    pub reclaim: &'a dyn Fn(Id) -> Reclaim,
    /// Where a unit's setting stands.
    pub set_by: PlaceOf<'a>,
}

impl<'a> Order<'a> {
    fn name(&self, id: Id) -> String {
        shown(&self.scene.tree.name(id)).to_string()
    }

    fn asks_for(&self) -> impl Fn(&Process) -> bool + use<> {
        let of = self.of.map(|of| self.scene.tree.path(of));
        move |process| of.as_ref().is_none_or(|of| process.cgroup.starts_with(of))
    }

    /// The next ones where memory runs out, with their ranks, from 1; after those, the next ones that are asked
    /// for. With each, whether it is asked for.
    pub(super) fn victims(&self) -> Vec<(usize, Victim<'a>, bool)> {
        let asks_for = self.asks_for();
        let all = victims(&self.scene, self.domain).into_iter().enumerate();
        let mut all = all.map(|(place, victim)| (place + 1, victim, asks_for(victim.process)));
        let mut next: Vec<_> = all.by_ref().take(SHOWN).collect();
        let left = SHOWN.saturating_sub(next.iter().filter(|(.., asked)| *asked).count());
        next.extend(all.filter(|(.., asked)| *asked).take(left));
        next
    }

    pub(super) fn spared(&self) -> Vec<(&'a Process, Spared<'a>)> {
        let mut all = spared(&self.scene, self.domain);
        let asks_for = self.asks_for();
        all.retain(|(process, _)| asks_for(process));
        all
    }

    /// What systemd-oomd watches, and what it would take first there.
    fn watched(&self) -> Vec<(Watched<'a>, Option<Id>)> {
        let first = |watched: &Watched<'_>| oomd_takes(&self.scene, watched, self.reclaim);
        watched(&self.scene).into_iter().map(|watched| (watched.clone(), first(&watched))).collect()
    }

    pub(super) fn takes(&self, takes: KilledWith<'_>) -> String {
        match takes {
            KilledWith::Itself => String::new(),
            KilledWith::Cgroup { id, processes } => {
                format!("{}: {}, memory.oom.group", self.name(id), counted(processes, "process", "processes"))
            }
            KilledWith::Unit { name, processes } => {
                format!("{name}: {}, OOMPolicy=stop", counted(processes, "process", "processes"))
            }
        }
    }

    pub(super) fn why(&self, why: Spared<'_>) -> String {
        let said = |unit: &str| match (self.set_by)(unit, OOM_SCORE_ADJUST) {
            Some(place) => format!("{OOM_SCORE_ADJUST}= of {unit} ({place})"),
            None => format!("{OOM_SCORE_ADJUST}= of {unit}"),
        };
        match why {
            Spared::Init => "PID 1".to_owned(),
            Spared::Score(ScoreSource::Unit(unit)) => said(unit),
            Spared::Score(ScoreSource::Inherited { from, unit: Some(unit) }) => {
                format!("inherited from {} (pid {}): {}", shown(&from.name), from.pid, said(unit))
            }
            Spared::Score(ScoreSource::Inherited { from, unit: None }) => {
                format!("inherited from {} (pid {})", shown(&from.name), from.pid)
            }
            Spared::Score(ScoreSource::Written) => "set by itself".to_owned(),
        }
    }
}

/// The next ten to be killed, who never is, the policy's services in this order, and who else kills.
#[must_use]
pub fn oom_text(order: &Order<'_>) -> String {
    let mut text = heading(order).join("\n") + "\n\n";
    let mut table = Table::new([
        ">#",
        "PROCESS",
        ">PID",
        "UNIT",
        ">SCORE",
        ">= MEMORY",
        ">+ ADJ",
        ">USED",
        ">oom_score",
        "TAKES WITH IT",
    ]);
    for (rank, victim, asked) in order.victims() {
        let (process, badness) = (victim.process, victim.badness);
        table.row(
            if asked { PLAIN } else { DIM },
            [
                rank.to_string(),
                shown(&process.name).to_string(),
                process.pid.to_string(),
                shown(&cgroup::place(&process.cgroup)).to_string(),
                badness.score().to_string(),
                badness.permille().to_string(),
                process.oom_score_adj.to_string(),
                size(badness.memory),
                process.oom_score.to_string(),
                order.takes(victim.takes),
            ],
        );
    }
    table.write_to(&mut text);
    never(order, &mut text);
    declared(order, &mut text);
    text.push('\n');
    for (style, line) in others(order) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{style}{}{style:#}", shown(&line));
    }
    text
}

/// Where memory runs out, and what the kernel is told to do else than kill, a line each.
pub(super) fn heading(order: &Order<'_>) -> Vec<String> {
    let (tree, domain) = (order.scene.tree, order.domain);
    let name = |id| shown(&order.name(id)).to_string();
    let holder = name(domain.of);
    let limit = tree[domain.of].memory.map_or(0, |memory| memory.max);
    let swap = size(domain.total.saturating_sub(limit));
    let mut lines = vec![match order.of {
        Some(of) if of == domain.of => {
            format!("when memory runs out in {holder}: {} and {swap} of swap", size(limit))
        }
        Some(of) if domain.of == Tree::ROOT && ceiling(tree, of).max.is_some() => format!(
            "memory for {} runs out in the machine, before any memory.max is met: {} of RAM and {} of swap",
            name(of),
            size(order.scene.ram),
            size(order.scene.swap)
        ),
        Some(of) if domain.of == Tree::ROOT => format!(
            "neither {} nor a slice above it has a memory.max: when the machine's memory runs out",
            name(of)
        ),
        Some(of) => format!(
            "memory for {} runs out in {holder}, which has {} and {swap} of swap",
            name(of),
            size(limit)
        ),
        None => format!(
            "when the machine's memory runs out: {} of RAM and {} of swap",
            size(order.scene.ram),
            size(order.scene.swap)
        ),
    }];
    if order.oom.panics {
        lines.push("vm.panic_on_oom is set: the kernel stops the machine instead of killing".to_owned());
    }
    if order.oom.kills_allocating {
        lines.push(
            "vm.oom_kill_allocating_task is set: the kernel kills whoever asks for memory last".to_owned(),
        );
    }
    lines
}

fn never(order: &Order<'_>, text: &mut String) {
    let spared = order.spared();
    if spared.is_empty() {
        return;
    }
    text.push('\n');
    let mut table = Table::new(["NEVER KILLED", ">PID", "UNIT", "BECAUSE OF"]);
    for (process, why) in spared {
        let (name, place) = (&process.name, cgroup::place(&process.cgroup));
        let [name, place] = [name, &place].map(|text| shown(text).to_string());
        table.row(PLAIN, [name, process.pid.to_string(), place, order.why(why)]);
    }
    table.write_to(text);
}

fn declared(order: &Order<'_>, text: &mut String) {
    let ranked = ranked(&order.scene, order.domain, order.policy);
    if ranked.is_empty() {
        return;
    }
    text.push('\n');
    let mut table = Table::new(["POLICY'S SERVICES", ">DECLARED", ">SCORE", "ORDER"]);
    for (place, service) in ranked.iter().enumerate() {
        let late: Vec<&str> = contradicted(&ranked, place).map(|other| other.service.as_str()).collect();
        let (style, verdict) = match late.as_slice() {
            [] => (PLAIN, "as declared".to_owned()),
            late => (BAD, format!("before {}", late.join(", "))),
        };
        let score = service.badness.score().to_string();
        table.row(style, [service.service.to_string(), service.declared.to_string(), score, verdict]);
    }
    table.write_to(text);
}

/// systemd-oomd and earlyoom, a line each; what does not run is of less interest.
pub(super) fn others(order: &Order<'_>) -> Vec<(Style, String)> {
    let mut lines = Vec::new();
    let watched = order.watched();
    match &order.oom.oomd {
        None if watched.is_empty() => lines.push((DIM, "systemd-oomd does not run".to_owned())),
        None => lines.extend(watched.into_iter().map(|(watched, _)| {
            let property = property(watched.rule);
            (PLAIN, format!("systemd-oomd does not run, and {} has {property}=kill", watched.unit))
        })),
        Some(oomd) => {
            let Oomd { swap_used_limit, pressure_limit, pressure_duration } = oomd;
            let line = format!(
                "systemd-oomd runs: SwapUsedLimit={swap_used_limit}, \
                 DefaultMemoryPressureLimit={pressure_limit} for {pressure_duration}"
            );
            lines.push((PLAIN, line));
            lines.extend(
                watched.into_iter().map(|(watched, first)| (PLAIN, oomds(order, oomd, &watched, first))),
            );
        }
    }
    let of_earlyoom = order.oom.earlyoom.as_ref();
    lines.push(
        match of_earlyoom.map(|earlyoom| (earlyoom.pid, earlyoom_takes(earlyoom, order.scene.processes))) {
            None => (DIM, "earlyoom.service does not run".to_owned()),
            Some((pid, Ok(Some(first)))) => {
                let (name, place) = (shown(&first.name), cgroup::place(&first.cgroup));
                let Process { pid: of, oom_score, .. } = first;
                let of = format!("{name} (pid {of}) of {}, oom_score {oom_score}", shown(&place));
                (PLAIN, format!("earlyoom runs (pid {pid}): takes {of}"))
            }
            Some((pid, Ok(None))) => (PLAIN, format!("earlyoom runs (pid {pid}): takes nothing")),
            Some((pid, Err(error))) => {
                (PLAIN, format!("earlyoom runs (pid {pid}), with a pattern that is not understood: {error}"))
            }
        },
    );
    lines
}

/// What systemd-oomd would take first of what it watches.
fn oomds(order: &Order<'_>, oomd: &Oomd, watched: &Watched<'_>, first: Option<Id>) -> String {
    let (unit, property) = (watched.unit, property(watched.rule));
    let takes = match (first, watched.rule) {
        (Some(id), rule) => oomd_choice(order, rule, id),
        (None, Rule::Swap) => format!("nothing: no cgroup has more than {SWAPPED_LEAST} % of the swap"),
        (None, Rule::Pressure) => "nothing".to_owned(),
    };
    let when = match watched.rule {
        Rule::Swap => String::new(),
        Rule::Pressure => pressure_limit(watched, oomd),
    };
    format!("  {unit}, {property}=kill{when}: takes {takes}")
}

/// The unit's own, and the default of what it does not say.
fn pressure_limit(watched: &Watched<'_>, oomd: &Oomd) -> String {
    let limit = watched.limit.map_or_else(|| oomd.pressure_limit.clone(), |limit| limit.to_string());
    let duration = watched.duration.unwrap_or(&oomd.pressure_duration);
    let own = if watched.limit.is_some() || watched.duration.is_some() { ", its own" } else { "" };
    format!(" at {} for {}{own}", shown(&limit), shown(duration))
}

fn oomd_choice(order: &Order<'_>, rule: Rule, id: Id) -> String {
    let name = order.name(id);
    match rule {
        Rule::Swap => {
            let swapped = order.scene.tree[id].memory.map_or(0, |memory| memory.swap_current);
            format!("{name}, with the most swapped out: {}", size(swapped))
        }
        Rule::Pressure => {
            let scanned = (order.reclaim)(id).scanned;
            format!("{name}, with the most reclaim so far: pgscan {scanned} (oomd goes by its growth)")
        }
    }
}

fn property(rule: Rule) -> &'static str {
    match rule {
        Rule::Swap => "ManagedOOMSwap",
        Rule::Pressure => "ManagedOOMMemoryPressure",
    }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn oom_json(order: &Order<'_>, missed: &[String]) -> String {
    let victims = order.victims().into_iter().map(|(rank, victim, asked)| {
        let (process, badness) = (victim.process, victim.badness);
        json!({
            "rank": rank, "asked": asked, "process": process.name, "pid": process.pid, "unit": cgroup::place(&process.cgroup),
            "score": badness.score(), "memory_permille": badness.permille(), "oom_score_adj": badness.adj,
            "used": badness.memory, "resident": process.resident, "swapped": process.swapped,
            "page_tables": process.page_tables, "oom_score": process.oom_score,
            "takes": match victim.takes {
                KilledWith::Itself => Value::Null,
                KilledWith::Cgroup { id, processes } => {
                    json!({ "by": "memory.oom.group", "unit": order.scene.tree.name(id), "processes": processes })
                }
                KilledWith::Unit { name, processes } => {
                    json!({ "by": "OOMPolicy", "unit": name, "processes": processes })
                }
            },
        })
    });
    let spared = order.spared().into_iter().map(|(process, why)| {
        json!({
            "process": process.name, "pid": process.pid, "unit": cgroup::place(&process.cgroup), "because": order.why(why),
        })
    });
    let ranked = ranked(&order.scene, order.domain, order.policy);
    let declared = ranked.iter().enumerate().map(|(place, service)| {
        let late: Vec<&str> = contradicted(&ranked, place).map(|other| other.service.as_str()).collect();
        json!({
            "unit": service.service.as_str(), "declared": service.declared.get(),
            "score": service.badness.score(), "before": late,
        })
    });
    let watched = order.watched().into_iter().map(|(watched, first)| {
        json!({
            "unit": watched.unit, "property": property(watched.rule),
            "limit": watched.limit.map(|limit| limit.to_string()), "duration": watched.duration,
            "takes": first.map(|id| order.scene.tree.name(id)),
        })
    });
    let earlyoom = order.oom.earlyoom.as_ref().map(|earlyoom| {
        let first = earlyoom_takes(earlyoom, order.scene.processes).ok().flatten();
        json!({ "pid": earlyoom.pid, "takes": first.map(|first| first.pid) })
    });
    let value = json!({
        "version": JSON_VERSION,
        "missed": missed,
        "of": order.of.map(|of| order.scene.tree.name(of)),
        "domain": order.scene.tree.name(order.domain.of),
        "total": order.domain.total,
        "panics": order.oom.panics,
        "kills_allocating": order.oom.kills_allocating,
        "victims": victims.collect::<Vec<_>>(),
        "never": spared.collect::<Vec<_>>(),
        "services": declared.collect::<Vec<_>>(),
        "oomd": {
            "runs": order.oom.oomd.is_some(),
            "watched": watched.collect::<Vec<_>>(),
        },
        "earlyoom": earlyoom,
    });
    json_text(&value)
}
