//! Shares of each disk's time, as tables, as the chain of one cgroup, and as JSON.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::json::json_text;
use super::share::{busy_json, name, percent, scenario, table, units};
use crate::effect::io_share::{IoLevel, part};
use crate::effect::share::Busy;
use crate::host::disk::{Disk, Divider};
use crate::host::io_weights::IoWeights;
use crate::host::tree::{Each, Id, Tree};
use crate::text::{Foreign, shown};

/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

/// Shares of disks, and what they were computed from.
#[derive(Debug)]
pub struct IoShareView<'a> {
    /// Of which tree.
    pub tree: &'a Tree,
    /// Who is busy.
    pub busy: &'a Busy,
    /// What cgroups weigh.
    pub weights: &'a Each<IoWeights>,
    /// Each disk, and what comes of it there.
    pub disks: &'a [(Disk, Each<IoLevel>)],
    /// The slices of users, with the users' names.
    pub users: &'a BTreeMap<Id, Foreign>,
}

/// For each disk the chain of one cgroup, or a table of all units, each below its parent, the largest share first.
#[must_use]
pub fn io_share_text(view: &IoShareView<'_>, of: Option<Id>) -> String {
    let head = of.map(|id| format!("{}; ", view.name(id))).unwrap_or_default();
    let head = format!("{head}{}\n", scenario(view.tree, view.users, view.busy));
    if view.disks.is_empty() {
        return format!("{head}\nno disk is to be seen from here\n");
    }
    let each =
        view.disks.iter().map(|(disk, levels)| format!("\n{}", OnDisk { view, disk, levels }.text(of)));
    format!("{head}{}", each.collect::<String>())
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn io_share_json(view: &IoShareView<'_>, of: Option<Id>, missed: &[String]) -> String {
    let disks = view.disks.iter().map(|(disk, levels)| OnDisk { view, disk, levels }.json(of));
    json_text(&json!({
        "version": JSON_VERSION,
        "busy": busy_json(view.tree, view.busy),
        "missed": missed,
        "disks": disks.collect::<Vec<_>>(),
    }))
}

impl IoShareView<'_> {
    fn name(&self, id: Id) -> String {
        name(self.tree, self.users, id)
    }
}

/// One disk of the view.
struct OnDisk<'a> {
    view: &'a IoShareView<'a>,
    disk: &'a Disk,
    levels: &'a Each<IoLevel>,
}

impl OnDisk<'_> {
    fn text(&self, of: Option<Id>) -> String {
        let name = shown(&self.disk.name);
        let Some(divider) = self.disk.divider() else {
            return format!("{name}: no weight counts: it {}\n", self.disk.without_weights());
        };
        let what = match divider {
            Divider::Bfq if self.disk.low_latency => {
                "bfq, whose low_latency puts those first for a while who have just begun"
            }
            Divider::Bfq => "bfq",
            Divider::Cost => "io.cost",
        };
        let rows = match of {
            Some(id) => self.chain_table(id),
            None => self.units_table(),
        };
        format!("{name}: by weight, {what}\n{rows}")
    }

    fn units_table(&self) -> String {
        let mut rows = vec![["UNIT", "SHARE", "WEIGHT", "OF", ""].map(str::to_owned)];
        for (id, depth) in self.units() {
            let Some(level) = self.levels.get(id) else { continue };
            let name = format!("{:indent$}{}", "", self.view.name(id), indent = 2 * depth);
            let (weight, of) = weights(level);
            rows.push([name, percent(level.share), weight, of, self.notes(id, level)]);
        }
        table(&rows)
    }

    fn chain_table(&self, id: Id) -> String {
        let mut rows = vec![["CGROUP", "WEIGHT", "OF", "FACTOR", "SHARE", ""].map(str::to_owned)];
        for (id, level) in self.chain(id) {
            let (weight, of) = weights(&level);
            let factor = level.weight.map(|weight| format!("{:.3}", part(weight, level.sum)));
            let name = self.view.name(id);
            let note = self.notes(id, &level);
            rows.push([name, weight, of, factor.unwrap_or_default(), percent(level.share), note]);
        }
        let unweighed = if self.levels.get(id).is_some() {
            String::new()
        } else if self.view.tree[id].populated {
            format!(
                "{}: with all else in the last line, process by process: no io controller here\n",
                self.view.name(id)
            )
        } else {
            format!("{}: nothing runs in it\n", self.view.name(id))
        };
        format!("{}{unweighed}", table(&rows))
    }

    fn units(&self) -> Vec<(Id, usize)> {
        units(self.view.tree, |id| Some(self.levels.get(id)?.share))
    }

    /// A cgroup's `io.weight` for the disk, whatever that counts.
    fn set(&self, id: Id) -> Option<u64> {
        self.view.weights.get(id)?.set_for(self.disk)
    }

    /// From the root down to a cgroup, as far as weights decide.
    fn chain(&self, id: Id) -> Vec<(Id, IoLevel)> {
        let levels = self.view.tree.upwards(id).filter_map(|id| Some((id, *self.levels.get(id)?)));
        let mut chain: Vec<(Id, IoLevel)> = levels.collect();
        chain.reverse();
        chain
    }

    /// What a weight counts that is another in `io.weight`.
    fn notes(&self, id: Id, level: &IoLevel) -> String {
        match (self.set(id), level.weight) {
            (Some(set), Some(counts)) if set != counts => format!("io.weight {set} counts as {counts}"),
            _ => String::new(),
        }
    }

    fn json(&self, of: Option<Id>) -> Value {
        let Disk { name, number, scheduler, low_latency, .. } = self.disk;
        let by = self.disk.divider().map(|divider| match divider {
            Divider::Bfq => "bfq",
            Divider::Cost => "io.cost",
        });
        let cgroups: Vec<Id> = match of {
            Some(id) => self.chain(id).into_iter().map(|(id, _)| id).collect(),
            None => self.units().into_iter().map(|(id, _)| id).collect(),
        };
        let cgroup = |id: Id| {
            let IoLevel { share, weight, sum } = self.levels.get(id)?;
            Some(json!({
                "cgroup": self.view.tree.absolute(id), "user": self.view.users.get(&id), "share": share,
                "weight": self.set(id), "counted": weight, "sum": sum,
            }))
        };
        let key = if of.is_some() { "chain" } else { "cgroups" };
        json!({
            "disk": name, "number": number, "scheduler": scheduler, "by": by, "low_latency": low_latency,
            key: cgroups.into_iter().filter_map(cgroup).collect::<Vec<_>>(),
        })
    }
}

/// `WEIGHT` and `OF`; the root has none.
fn weights(level: &IoLevel) -> (String, String) {
    match level.weight {
        Some(weight) => (weight.to_string(), level.sum.to_string()),
        None => Default::default(),
    }
}
