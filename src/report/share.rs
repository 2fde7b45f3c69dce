//! Shares of the CPUs, as a table, as the chain of one cgroup, and as JSON.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use serde_json::{Value, json};

use super::explain::{EXACT_WHILE_BUSY, shared_json};
use super::json::json_text;
use crate::effect::share::{Busy, Cap, Competing, Level, Limit, NotComputed, Shares, not_computed};
use crate::enforce::due::Shared;
use crate::host::cgroup::Standing;
use crate::host::tree::{Id, Tree};
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;
/// From here on what the kernel makes of a weight is worth a word.
const FAR: f64 = 1.2;
/// Factors that are shown as different differ by this.
const FELT: f64 = 0.0005;
const DIM: Style = Style::new().dimmed();

/// Shares, or why there are none, and what they were computed from.
#[derive(Debug)]
pub struct ShareView<'a> {
    /// Of which tree.
    pub tree: &'a Tree,
    /// Of how many CPUs.
    pub cpus: u32,
    /// Who is busy.
    pub busy: &'a Busy,
    /// What comes of it.
    pub shares: Result<&'a Shares, &'a NotComputed>,
    /// The slices of users, with the users' names.
    pub users: &'a BTreeMap<Id, Foreign>,
    /// Those whose users share the weight of a group.
    pub shared: &'a BTreeMap<Id, Shared>,
}

/// The chain of one cgroup, or a table of all units, each below its parent, the largest share first.
#[must_use]
pub fn share_text(view: &ShareView<'_>, of: Option<Id>) -> String {
    match (view.shares, of) {
        (Ok(shares), Some(id)) => Computed { view, shares }.chain_text(id),
        (Ok(shares), None) => Computed { view, shares }.table_text(),
        (Err(why), Some(id)) => format!("{}: not computed: {why}\n", view.name(id)),
        (Err(why), None) => format!("{}, {}\n\nnot computed: {why}\n", view.machine(), view.scenario()),
    }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn share_json(view: &ShareView<'_>, of: Option<Id>, missed: &[String]) -> String {
    let busy = busy_json(view.tree, view.busy);
    let key = if of.is_some() { "chain" } else { "cgroups" };
    let (version, cpus) = (JSON_VERSION, view.cpus);
    let value = match view.shares {
        Ok(shares) => {
            let cgroups = Computed { view, shares }.cgroups_json(of);
            json!({ "version": version, "cpus": cpus, "busy": busy, "missed": missed, key: cgroups })
        }
        Err(why) => {
            let why = why.to_string();
            json!({
                "version": version, "cpus": cpus, "busy": busy, "missed": missed, key: [], "not_computed": why,
            })
        }
    };
    json_text(&value)
}

/// A line of its own where shares are not computed, in a report of other things.
#[must_use]
pub(super) fn no_shares(tree: &Tree) -> String {
    not_computed(tree).map(|why| format!("\nshares of the CPUs: not computed: {why}\n")).unwrap_or_default()
}

/// What to call a cgroup: with the user's name, the slice of a user.
pub(super) fn name(tree: &Tree, users: &BTreeMap<Id, Foreign>, id: Id) -> String {
    let name = tree.name(id);
    match users.get(&id) {
        Some(user) => format!("{} ({})", shown(&name), shown(user)),
        None => shown(&name).to_string(),
    }
}

/// Who is busy, in words.
pub(super) fn scenario(tree: &Tree, users: &BTreeMap<Id, Foreign>, busy: &Busy) -> String {
    match busy {
        Busy::Everything => "everything busy".to_owned(),
        Busy::Only(ids) => {
            let names: Vec<String> = ids.iter().map(|id| name(tree, users, *id)).collect();
            format!("only these busy: {}", names.join(", "))
        }
    }
}

/// The paths of who is busy; `null` where everything is.
pub(super) fn busy_json(tree: &Tree, busy: &Busy) -> Value {
    match busy {
        Busy::Everything => Value::Null,
        Busy::Only(named) => json!(named.iter().map(|id| tree.absolute(*id)).collect::<Vec<_>>()),
    }
}

impl ShareView<'_> {
    fn name(&self, id: Id) -> String {
        name(self.tree, self.users, id)
    }

    fn machine(&self) -> String {
        count(f64::from(self.cpus))
    }

    fn scenario(&self) -> String {
        scenario(self.tree, self.users, self.busy)
    }
}

/// Shares that there are.
struct Computed<'a> {
    view: &'a ShareView<'a>,
    shares: &'a Shares,
}

impl Computed<'_> {
    fn table_text(&self) -> String {
        let mut rows = vec![["UNIT", "SHARE", "CPUS", "WEIGHT", "OF", ""].map(str::to_owned)];
        for (id, depth) in self.units() {
            let Some(level) = self.shares.level(id) else { continue };
            let name = format!("{:indent$}{}", "", self.view.name(id), indent = 2 * depth);
            let (weight, of) = (weight(level.with), short(level.sum));
            let note = self.kept_back(id, level).unwrap_or_default();
            rows.push([name, percent(level.share), self.in_cpus(level.share), weight, of, note]);
        }
        format!("{}, {}\n\n{}", self.view.machine(), self.view.scenario(), table(&rows))
    }

    fn chain_text(&self, id: Id) -> String {
        let name = self.view.name(id);
        let Some(own) = self.shares.level(id) else {
            return format!("{name}: nothing runs in it\n");
        };
        let mut rows = vec![["CGROUP", "WEIGHT", "OF", "FACTOR", "SHARE", ""].map(str::to_owned)];
        for (id, level) in self.shares.chain(self.view.tree, id) {
            let (weight, of, factor) = match level.with {
                Competing::Root => Default::default(),
                with => (weight(with), short(level.sum), format!("{:.3}", self.factor(id, level))),
            };
            rows.push([self.view.name(id), weight, of, factor, percent(level.share), self.notes(id, level)]);
        }
        let (share, cpus) = (percent(own.share), self.in_cpus(own.share));
        let what =
            format!("{name}: {share} of {}, which is {cpus}; {}", self.view.machine(), self.view.scenario());
        format!("{what}\n\n{}", table(&rows))
    }

    /// What else there is to say of a line of the chain.
    fn notes(&self, id: Id, level: Level) -> String {
        let mut notes = Vec::new();
        match level.with {
            Competing::Threads(_) => notes.push("threads one by one: no cpu controller here".to_owned()),
            Competing::Weight(0) => notes.push(format!("idle counts as {}", short(level.weight))),
            Competing::Weight(weight)
                if level.weight > FAR * f64::from(u32::try_from(weight).unwrap_or(0)) =>
            {
                notes.push(format!("counts as {} on so many CPUs", short(level.weight)));
            }
            Competing::Weight(_) | Competing::Root => {}
        }
        if let Some(Shared { group, total, members }) = self.view.shared.get(&id) {
            let group = shown(group);
            notes.push(format!("{} of {group} / {members} logged in, {EXACT_WHILE_BUSY}", total.value));
        }
        if let Some(why) = self.kept_back(id, level) {
            notes.push(why);
        } else if self.factor(id, level) > level.weight / level.sum + FELT {
            notes.push(format!("{:.3} by weight, and what others cannot use", level.weight / level.sum));
        }
        notes.join("; ")
    }

    /// What keeps a cgroup from more: a limit that it has reached, or CPUs on which there are others too.
    fn kept_back(&self, id: Id, level: Level) -> Option<String> {
        if let Some(cap) = level.cap {
            return Some(self.limit(cap));
        }
        let bound =
            self.shares.bound(id).filter(|_| self.factor(id, level) < level.weight / level.sum - FELT)?;
        let by = match bound.by {
            Some(Limit::Cpuset(_)) => "cpuset",
            Some(Limit::Affinity(_)) => "affinity",
            Some(Limit::Isolated(_)) => "not isolated:",
            _ => "CPU",
        };
        let most = count(bound.cpus.count().into());
        Some(format!("at most {most}, shared with others: {by} {}", bound.cpus))
    }

    fn units(&self) -> Vec<(Id, usize)> {
        units(self.view.tree, |id| Some(self.shares.level(id)?.share))
    }

    fn cgroups_json(&self, of: Option<Id>) -> Value {
        let cgroups: Vec<Id> = match of {
            Some(id) => self.shares.chain(self.view.tree, id).into_iter().map(|(id, _)| id).collect(),
            None => self.units().into_iter().map(|(id, _)| id).collect(),
        };
        cgroups.into_iter().filter_map(|id| self.json(id)).collect()
    }

    fn json(&self, id: Id) -> Option<Value> {
        let level = self.shares.level(id)?;
        let (weight, threads) = match level.with {
            Competing::Root => (None, None),
            Competing::Weight(weight) => (Some(weight), None),
            Competing::Threads(threads) => (None, Some(threads)),
        };
        let cap = level.cap.map(|cap| {
            let limit = match cap.limit {
                Limit::Quota(_) => "cpu.max",
                Limit::Cpuset(_) => "cpuset",
                Limit::Affinity(_) => "affinity",
                Limit::Isolated(_) => "isolated",
                Limit::Threads(_) => "threads",
            };
            json!({ "limit": limit, "most": cap.most })
        });
        let bound = self.shares.bound(id).map(|bound| bound.cpus.to_string());
        Some(json!({
            "cgroup": self.view.tree.absolute(id), "user": self.view.users.get(&id), "share": level.share, "weight": weight,
            "threads": threads, "counted": level.weight, "sum": level.sum,
            "factor": self.factor(id, level), "cap": cap, "bound": bound, "shared": self.view.shared.get(&id).map(shared_json),
        }))
    }

    /// The part of its parent's time.
    fn factor(&self, id: Id, level: Level) -> f64 {
        let parent = self.view.tree[id].parent.map_or(1.0, |parent| self.shares.of(parent));
        if parent > 0.0 { level.share / parent } else { 0.0 }
    }

    fn in_cpus(&self, share: f64) -> String {
        format!("{:.2}", share * f64::from(self.view.cpus))
    }

    fn limit(&self, cap: Cap) -> String {
        let most = count(cap.most * f64::from(self.view.cpus));
        match cap.limit {
            Limit::Quota(_) => format!("at most {most}: cpu.max"),
            Limit::Cpuset(_) => format!("at most {most}: cpuset"),
            Limit::Affinity(_) => format!("at most {most}: affinity"),
            Limit::Isolated(_) => format!("at most {most}: the others are isolated"),
            Limit::Threads(1) => format!("at most {most}: 1 thread"),
            Limit::Threads(threads) => format!("at most {most}: {threads} threads"),
        }
    }
}

/// Slices and the units in them that have a share, each below its parent, the largest share first, and how deep they
/// are. Cgroups that are no units are shown as well where no unit is above them.
pub(super) fn units(tree: &Tree, share: impl Fn(Id) -> Option<f64>) -> Vec<(Id, usize)> {
    let mut units = Vec::new();
    let mut waiting = vec![(Tree::ROOT, 0)];
    while let Some((id, depth)) = waiting.pop() {
        let cgroup = &tree[id];
        if id != Tree::ROOT {
            units.push((id, depth - 1));
        }
        if cgroup.standing == Standing::Unit {
            continue;
        }
        let sharing = cgroup.children.iter().filter_map(|child| Some((*child, share(*child)?)));
        let mut sharing: Vec<(Id, f64)> = sharing.collect();
        // The last is taken first.
        sharing.sort_by(|(a, its), (b, others)| {
            its.total_cmp(others).then_with(|| tree[*b].name.cmp(&tree[*a].name))
        });
        waiting.extend(sharing.into_iter().map(|(child, _)| (child, depth + 1)));
    }
    units
}

fn weight(with: Competing) -> String {
    match with {
        Competing::Root => String::new(),
        Competing::Weight(0) => "idle".to_owned(),
        Competing::Weight(weight) => weight.to_string(),
        Competing::Threads(threads) => format!("{threads}x100"),
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn count(cpus: f64) -> String {
    let number = short(cpus);
    if number == "1" { "1 CPU".to_owned() } else { format!("{number} CPUs") }
}

/// With two decimals where there is need of them.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Aligned, numbers to the right, a dimmed heading.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ if column == COLUMNS - 1 => format!("  {cell}"),
            _ => format!("  {cell:>width$}"),
        });
        let line: String = cells.collect();
        let style = if index == 0 { DIM } else { Style::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{style}{}{style:#}", line.trim_end());
    }
    text
}
