//! `fairslice explain process`, and `fairslice me`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::unistd::getuid;

use crate::cli::out::print;
use crate::cli::say_missed;
use crate::doctor::unwritten::OF_DEVICES;
use crate::effect::held::{Competition, due, holding, killed, levels};
use crate::host::account::Account;
use crate::host::cgroup;
use crate::host::counts::{self, Counts};
use crate::host::cpu_set::CpuSet;
use crate::host::disk::Disks;
use crate::host::io_weights;
use crate::host::machine::Machine;
use crate::host::process::Stat;
use crate::host::processes;
use crate::host::tree::{self, Each, Id, Tree};
use crate::report::{self, ProcessView, Whose};
use crate::survey::setter::{Setter, Setters};
use crate::text::{Foreign, shown};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The process's number
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: u32,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Form {
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let pid = options.pid;
    let name = Stat::read(root, pid)
        .with_context(|| format!("there is no process {pid}, or it is hidden (hidepid)"))?
        .name;
    let uid =
        processes::user_of(root, pid).with_context(|| format!("process {pid}: its user cannot be read"))?;
    say(root, &pid.to_string(), &whose(Some((pid, name)), uid), options.form.json)
}

/// Of who asks: the figures are those of the user's slice, where they are in one.
pub(in crate::cli) fn me(root: &Path, form: &Form) -> Result<u8> {
    say(root, "self", &whose(None, getuid().as_raw()), form.json)
}

fn whose(process: Option<(u32, Foreign)>, uid: u32) -> Whose {
    let user = Account::by_uid(uid).ok().flatten().map(|account| account.name);
    Whose { process, uid, user }
}

fn say(root: &Path, process: &str, whose: &Whose, json: bool) -> Result<u8> {
    let placed = cgroup::of_process(root, process)?;
    let mut unknown = Vec::new();
    // Of one that is outside of what is seen, nothing is told but what the root has.
    let path = if placed.starts_with("..") { PathBuf::new() } else { placed.clone() };
    let tree = Tree::read_way(root, &path)?;
    let id = tree.nearest(&path);
    if placed != tree.path(id) {
        unknown.push(format!(
            "what holds in {}, which cannot be seen from here",
            shown(&cgroup::absolute(&placed))
        ));
    }
    if tree.is_contained {
        unknown.push("what is set above this container, whose root is all that is seen".to_owned());
    }
    if id == Tree::ROOT && !tree.is_contained {
        unknown.push(
            "what it is due: it is in the root cgroup, which has neither weights nor limits".to_owned(),
        );
    }
    let own_slice = tree.upwards(id).find(|id| tree.user(*id).is_some());
    let of = own_slice.filter(|_| whose.process.is_none()).unwrap_or(id);
    let way: Vec<Id> = tree.upwards(id).collect();
    let counts = counts::read(root, &tree, &way);
    let setters = Setters::new(root);
    let limits = holding(&tree, &counts, id).into_iter();
    let limits = limits.map(|limit| (limit, setters.of(&tree, limit.of, limit.kind.setting()))).collect();
    let cpus = tree::online_cpus(root)?;
    let view = ProcessView {
        whose,
        tree: &tree,
        cgroup: id,
        of,
        machine: Machine::read(root)?,
        cpus,
        due: due(&tree, cpus, of),
        limits,
        killed: killed(&tree, &counts, of),
        affinity: affinity(root, &tree, id, process),
        io: io_limits(&tree, &counts, &way, &setters),
        io_weights: io_weights(root, &tree, of),
        counts: &counts,
        unknown,
    };
    let missed = report::missed(&tree, &[]);
    print(&if json { report::process_json(&view, &missed) } else { report::process_text(&view) })?;
    say_missed(&missed);
    Ok(0)
}

/// The CPUs that the process is bound to itself, where its cgroup may use more.
fn affinity(root: &Path, tree: &Tree, id: Id, process: &str) -> Option<CpuSet> {
    let own = processes::cpus_of(root, process)?;
    let cgroups = tree.upwards(id).find_map(|id| tree[id].cpus.as_ref()).or(tree.online.as_ref())?;
    (!cgroups.is_within(&own)).then_some(own)
}

/// The lines of `io.max`, the innermost first.
fn io_limits(
    tree: &Tree,
    counts: &Each<Counts>,
    way: &[Id],
    setters: &Setters<'_>,
) -> Vec<(Id, String, Setter)> {
    let set_by = |id: Id| {
        let each = OF_DEVICES.iter().map(|(setting, _)| setters.of(tree, id, setting));
        each.reduce(|found, other| if matches!(found, Setter::Line(_)) { found } else { other })
    };
    let of = |id: &Id| Some((*id, &counts.get(*id)?.io_max, set_by(*id)?));
    let limited = way.iter().filter(|id| counts.get(**id).is_some_and(|counts| !counts.io_max.is_empty()));
    let all = limited.filter_map(of);
    all.flat_map(|(id, lines, setter)| lines.iter().map(move |line| (id, line.clone(), setter.clone())))
        .collect()
}

/// What a cgroup and those that it is in weigh on each disk on which that counts; disks on which it is the same
/// together.
fn io_weights(root: &Path, tree: &Tree, of: Id) -> Vec<(Vec<Competition>, Vec<Foreign>)> {
    let disks = Disks::read(root);
    let mut each: Vec<(Vec<Competition>, Vec<Foreign>)> = Vec::new();
    if !disks.go_by_weight() {
        return each;
    }
    let weights = io_weights::read(root, tree);
    for disk in disks.all.into_iter().filter(|disk| disk.divider().is_some()) {
        let levels = levels(tree, of, |id| weights.get(id)?.on(&disk));
        match each.iter_mut().find(|(same, _)| *same == levels) {
            Some((_, disks)) => disks.push(disk.name),
            None => each.push((levels, vec![disk.name])),
        }
    }
    each
}
