//! What memory settings come to, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::json::json_text;
use super::status_json::limit;
use super::table::{DIM, PLAIN, Table};
use crate::effect::memory::{Because, Guard, MemoryLimit, Protections, bytes_of, ceiling, size};
use crate::host::tree::{Id, MemoryAttributes, Tree};
use crate::text::shown;

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;
const BAD: Style = AnsiColor::Red.on_default().bold();

/// What the multi-gen LRU makes of `memory.low`.
pub(super) const DELAYED: &str =
    "memory.low only delays reclaim: the multi-gen LRU is on (/sys/kernel/mm/lru_gen/enabled)\n";

type Setting = fn(&MemoryAttributes) -> u64;

/// The limits of a cgroup: their names, what it sets, and which one holds.
fn limits(tree: &Tree, id: Id) -> [(&'static str, Setting, Option<MemoryLimit>); 3] {
    let holds = ceiling(tree, id);
    [
        ("high", |memory| memory.high, holds.high),
        ("max", |memory| memory.max, holds.max),
        ("swap.max", |memory| memory.swap_limit(), holds.swap),
    ]
}

/// What one memory setting of a cgroup says, and what it comes to.
pub(super) struct Outcome {
    /// `min`, `swap.max`
    pub(super) setting: &'static str,
    pub(super) set: u64,
    pub(super) effective: u64,
    /// Of a protection, how much of what is used it keeps.
    pub(super) now: Option<u64>,
    /// What makes it come to something else.
    pub(super) because: Option<String>,
}

/// Every cgroup that sets something, each after its parent, with what it sets.
pub(super) fn outcomes(tree: &Tree, protections: &Protections) -> Vec<(Id, Vec<Outcome>)> {
    let each = cgroups(tree).into_iter().map(|(id, memory)| (id, outcomes_of(tree, protections, id, memory)));
    each.filter(|(_, outcomes)| !outcomes.is_empty()).collect()
}

fn outcomes_of(tree: &Tree, protections: &Protections, id: Id, memory: &MemoryAttributes) -> Vec<Outcome> {
    let guards = Guard::BOTH.into_iter().filter_map(|guard| {
        let outcome = protections.outcome(tree, id, guard)?;
        Some(Outcome {
            setting: short(guard),
            set: guard.setting(memory),
            effective: outcome.effective,
            now: Some(protections.of(id).by(guard).min(memory.current)),
            because: outcome.because.map(|because| reason(tree, guard, because)),
        })
    });
    let ceilings = limits(tree, id).into_iter().filter_map(|(name, setting, holds)| {
        let (set, limit) = (setting(memory), holds?);
        let because = (limit.of != id).then(|| name_of(tree, limit.of));
        (set != u64::MAX).then_some(Outcome {
            setting: name,
            set,
            effective: limit.bytes,
            now: None,
            because,
        })
    });
    guards.chain(ceilings).collect()
}

/// A line for each setting of every cgroup that sets one: what it says and what it comes to.
#[must_use]
pub fn memory_text(tree: &Tree, protections: &Protections, multi_gen_lru: bool) -> String {
    let mut table = Table::new(["UNIT", ">USED", "SETTING", ">SET", ">EFFECTIVE", ">NOW", "BECAUSE OF"]);
    let mut empty = true;
    for (id, outcomes) in outcomes(tree, protections) {
        let mut name = name_of(tree, id);
        let mut used = tree[id].memory.map(|memory| size(memory.current)).unwrap_or_default();
        for Outcome { setting, set, effective, now, because } in outcomes {
            let style = if because.is_some() { BAD } else { PLAIN };
            let now = now.map(size).unwrap_or_default();
            let (name, used) = (std::mem::take(&mut name), std::mem::take(&mut used));
            let cells = [name, used, setting.to_owned(), size(set), size(effective), now];
            let [name, used, setting, set, effective, now] = cells;
            table.row(style, [name, used, setting, set, effective, now, because.unwrap_or_default()]);
            empty = false;
        }
    }
    let mut text = String::new();
    if empty {
        text.push_str("no cgroup has a memory setting\n");
    } else {
        table.write_to(&mut text);
    }
    if multi_gen_lru && cgroups(tree).iter().any(|(_, memory)| memory.low > 0) {
        text.push_str(DELAYED);
    }
    text
}

/// One cgroup: how each of its ancestors, the outermost first, makes its protection and its limits.
#[must_use]
pub fn memory_of_text(tree: &Tree, protections: &Protections, multi_gen_lru: bool, of: Id) -> String {
    let mut text = format!("{}\n", shown(&tree.absolute(of)));
    let mut table = Table::new([
        "CGROUP",
        ">USED",
        ">MIN",
        ">CLAIMED",
        ">EFFECTIVE",
        ">LOW",
        ">CLAIMED",
        ">EFFECTIVE",
        ">HIGH",
        ">MAX",
        ">SWAP.MAX",
    ]);
    let chains = Guard::BOTH.map(|guard| protections.chain(tree, of, guard));
    let [min, low] = &chains;
    for (min, low) in min.iter().zip(low) {
        let none = String::new;
        let Some(memory) = &tree[min.id].memory else { continue };
        let style = if min.id == of { PLAIN } else { DIM };
        let claimed = |set: u64, claimed: u64| if claimed == 0 && set == 0 { none() } else { size(claimed) };
        table.row(
            style,
            [
                format!("{}{}", indent(tree, min.id), name_of(tree, min.id)),
                size(memory.current),
                size(min.setting),
                claimed(min.setting, min.claimed),
                size(min.effective),
                size(low.setting),
                claimed(low.setting, low.claimed),
                size(low.effective),
                size(memory.high),
                size(memory.max),
                size(memory.swap_limit()),
            ],
        );
    }
    table.write_to(&mut text);
    text.push('\n');
    // Writing to a string cannot fail.
    for guard in Guard::BOTH {
        let _ = writeln!(text, "{}", protection_line(tree, protections, of, guard));
    }
    if multi_gen_lru && low.iter().any(|link| link.effective > 0) {
        text.push_str(DELAYED);
    }
    for (name, _, holds) in limits(tree, of) {
        let _ = match holds {
            None => writeln!(text, "memory.{name}: no limit"),
            Some(limit) if limit.of == of => writeln!(text, "memory.{name}: {}, its own", size(limit.bytes)),
            Some(limit) => {
                let holder = name_of(tree, limit.of);
                writeln!(text, "memory.{name}: {} of {holder}, with all that is in it", size(limit.bytes))
            }
        };
    }
    text
}

fn protection_line(tree: &Tree, protections: &Protections, of: Id, guard: Guard) -> String {
    let used = tree[of].memory.map_or(0, |memory| memory.current);
    let now = protections.of(of).by(guard).min(used);
    let head = format!("{}: {} of {} in use protected", guard.attribute(), size(now), size(used));
    match protections.outcome(tree, of, guard) {
        None => format!("{head}; it sets none"),
        Some(outcome) => {
            let full = format!(
                "{head}; {} if it uses the {} it sets",
                size(outcome.effective),
                size(outcome.wanted)
            );
            match outcome.because {
                None => full,
                Some(because) => format!("{full}: {BAD}{}{BAD:#}", shown(&reason(tree, guard, because))),
            }
        }
    }
}

fn reason(tree: &Tree, guard: Guard, because: Because) -> String {
    match because {
        Because::Ancestor(link) => {
            format!("{} has {} = {}", name_of(tree, link.id), guard.attribute(), size(link.setting))
        }
        Because::Siblings { parent, claimed, available } => {
            let name = name_of(tree, parent);
            format!("{} are claimed in {name}, which has {}", size(claimed), size(available))
        }
    }
}

/// The same for programs: `docs/json`. With `of`, the cgroup and its ancestors,
/// the outermost first; else every cgroup that has a setting.
#[must_use]
pub fn memory_json(
    tree: &Tree,
    protections: &Protections,
    recursive: bool,
    multi_gen_lru: bool,
    of: Option<Id>,
    missed: &[String],
) -> String {
    let cgroups: Vec<Value> = match of {
        Some(of) => {
            let chain = protections.chain(tree, of, Guard::Min);
            chain.iter().map(|link| one_json(tree, protections, link.id)).collect()
        }
        None => cgroups(tree)
            .into_iter()
            .filter(|(_, memory)| {
                memory.min > 0
                    || memory.low > 0
                    || [memory.high, memory.max, memory.swap_limit()].iter().any(|limit| *limit != u64::MAX)
            })
            .map(|(id, _)| one_json(tree, protections, id))
            .collect(),
    };
    let value = json!({
        "version": JSON_VERSION, "recursive": recursive, "multi_gen_lru": multi_gen_lru, "missed": missed,
        "cgroups": cgroups,
    });
    json_text(&value)
}

fn one_json(tree: &Tree, protections: &Protections, id: Id) -> Value {
    let memory = tree[id].memory;
    let guard = |guard: Guard| {
        let link = protections.chain(tree, id, guard).last().copied();
        let outcome = protections.outcome(tree, id, guard);
        json!({
            "set": link.map(|link| limit(link.setting)),
            "claimed": link.map(|link| link.claimed),
            "now": protections.of(id).by(guard).min(memory.map_or(0, |memory| memory.current)),
            "effective": outcome.map(|outcome| outcome.effective),
            "because": outcome.and_then(|outcome| outcome.because).map(|because| reason(tree, guard, because)),
        })
    };
    let mut value = json!({
        "cgroup": tree.absolute(id),
        "unit": tree.name(id),
        "used": memory.map(|memory| memory.current),
        "min": guard(Guard::Min),
        "low": guard(Guard::Low),
    });
    for (name, setting, holds) in limits(tree, id) {
        let told = json!({
            "set": memory.as_ref().map(|memory| limit(setting(memory))),
            "effective": limit(bytes_of(holds)),
            "of": holds.map(|limit| tree.name(limit.of)),
        });
        if let Some(object) = value.as_object_mut() {
            object.insert(name.replace('.', "_"), told);
        }
    }
    value
}

/// Every cgroup with a memory controller, each after its parent and before the next of the same parent.
fn cgroups(tree: &Tree) -> Vec<(Id, &MemoryAttributes)> {
    let (mut all, mut left) = (Vec::new(), vec![Tree::ROOT]);
    while let Some(id) = left.pop() {
        all.push(id);
        left.extend(tree[id].children.iter().rev());
    }
    all.into_iter().filter_map(|id| Some((id, tree[id].memory.as_ref()?))).collect()
}

fn indent(tree: &Tree, id: Id) -> String {
    "  ".repeat(tree.upwards(id).count().saturating_sub(2))
}

fn name_of(tree: &Tree, id: Id) -> String {
    shown(&tree.name(id)).to_string()
}

fn short(guard: Guard) -> &'static str {
    match guard {
        Guard::Min => "min",
        Guard::Low => "low",
    }
}
