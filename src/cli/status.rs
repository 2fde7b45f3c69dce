//! `fairslice status`: the tree once or again and again, one unit in detail, figures for programs.
#![forbid(unsafe_code)]

mod watch;

use std::collections::HashMap;
use std::env;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::doctor::{missed_parts, say_missed_of};
use super::out::{print, say};
use super::{complain, output, say_missed, stamp};
use crate::doctor::look;
use crate::effect::memory::{ceiling, protection};
use crate::effect::screen::{self, Figures, Picture, Sample, What};
use crate::effect::share::{Busy, LEAST_LIMIT, not_computed, shares};
use crate::effect::{self, Status};
use crate::enforce::launched;
use crate::host::machine::Machine;
use crate::host::processes::{self, Processes};
use crate::host::tree::{self, Id, Tree};
use crate::host::usage::{self, CpuTime, OomScores, Usage};
use crate::host::{cgroup, oom};
use crate::policy::Loaded;
use crate::report::{self, Detail, Diagnosis, Display};
use crate::survey;
use crate::survey::named::{self, Named};
use crate::survey::snapshot::{self, Snapshot};
use crate::text::shown;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Units, slices or users to show in detail, with or without ".service"
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Refresh in place, every SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
    #[arg(value_parser = seconds, conflicts_with_all = ["names", "format", "json"])]
    watch: Option<Duration>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Short for --format=json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Write that to FILE, whole or not at all, instead of printing it
    #[arg(long, value_name = "FILE", conflicts_with = "watch")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One object, as /usr/share/doc/fairslice/json describes it
    Json,
    /// For Prometheus, and the textfile collector of its node exporter
    Openmetrics,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, 0.1 to 3600".to_owned())
}

/// How much of the machine is looked at.
#[derive(Debug, Clone, Copy)]
enum Extent<'n> {
    /// What is worth a line of a screen.
    Screen,
    Everything,
    Named(&'n [String]),
}

pub(super) fn status(root: &Path, options: &Options) -> Result<u8> {
    let loaded = survey::declared(root);
    if let Some(interval) = options.watch {
        return watch::watch(root, &loaded, interval);
    }
    if options.format == Format::Openmetrics {
        return openmetrics(root, &loaded, options);
    }
    let json = options.json || options.format == Format::Json;
    if options.output.is_some() && !json {
        bail!("--output is for --json and --format=openmetrics");
    }
    let extent = match options.names.as_slice() {
        [] if json => Extent::Everything,
        [] => Extent::Screen,
        names => Extent::Named(names),
    };
    let View { picture, scores, named } = look(root, &loaded, extent, None)?;
    let details: Vec<Detail<'_>> = named.into_iter().map(|named| detail(root, &picture, named)).collect();
    let mut unread = picture.unread.clone();
    unread.extend(details.iter().flat_map(|detail| detail.unread.iter().cloned()));
    let mut missed = report::missed(&picture.tree, &unread);
    missed.extend(report::missed_shares(&picture.tree));
    let text = if json {
        report::status_json(&stamp(root), &picture, &loaded, &details, &missed)
    } else if details.is_empty() {
        report::screen(&picture, display())
    } else {
        let each = details.iter().map(|detail| report::detail(&picture, detail, &scores, display()));
        each.collect::<Vec<_>>().join("\n")
    };
    deliver(&text, options.output.as_deref())?;
    say_missed(&missed);
    if !json && options.names.is_empty() {
        say_left_out(root, &loaded);
    }
    let broken = if json { u8::from(!loaded.diagnostics.is_empty()) } else { complain(&loaded) };
    let differs = if details.is_empty() {
        picture.status.differing() > 0
    } else {
        details.iter().filter_map(|detail| detail.unit).any(effect::UnitStatus::differs)
    };
    Ok(broken.max(u8::from(differs)))
}

/// Says on stderr which units stay without the launcher that the policy declares for them.
fn say_left_out(root: &Path, loaded: &Loaded) {
    let left = launched::declared(root, &loaded.policy).map(|launched| launched::left_out(&launched));
    if let Some(line) = left.unwrap_or_else(|error| Some(format!("units with the launcher: {error:#}"))) {
        say(format_args!("fairslice: {}", shown(&line)));
    }
}

fn deliver(text: &str, output: Option<&Path>) -> Result<()> {
    match output {
        Some(file) => output::write(file, text.as_bytes()),
        None => Ok(print(text)?),
    }
}

/// The exit status is that of the text.
fn openmetrics(root: &Path, loaded: &Loaded, options: &Options) -> Result<u8> {
    if !options.names.is_empty() {
        bail!("--format=openmetrics is about the whole machine: no NAME");
    }
    let time = SystemTime::now();
    let (picture, found) = look_with_doctor(root, loaded)?;
    deliver(&report::openmetrics(time, &picture, loaded, &found), options.output.as_deref())?;
    Ok(u8::from(!loaded.diagnostics.is_empty() || picture.status.differing() > 0))
}

/// Everything, and what the doctor finds, out of one look. Where the doctor cannot look, stderr says so,
/// and the rest is read without it.
pub(super) fn look_with_doctor(root: &Path, loaded: &Loaded) -> Result<(Picture, Diagnosis)> {
    let (look, found) = examine(root, loaded);
    Ok((everything(root, loaded, look.map(|look| (look.machine, look.live)), None)?, found))
}

/// What the doctor finds, and what it has looked at; `None` where it cannot look, of which stderr says why.
pub(super) fn examine(root: &Path, loaded: &Loaded) -> (Option<look::Look>, Diagnosis) {
    if let Some(found) = look::on_v1(root) {
        return (None, Diagnosis { findings: found.findings, is_whole: true });
    }
    match look::Look::at(root, Some(loaded)) {
        Ok(look) => {
            say_missed_of(&look);
            let findings = look.examine(Some(loaded)).findings;
            let is_whole = missed_parts(&look).is_empty();
            (Some(look), Diagnosis { findings, is_whole })
        }
        Err(error) => {
            say(format_args!("fairslice: not looked at: what \"fairslice doctor\" finds: {error:#}"));
            (None, Diagnosis::default())
        }
    }
}

/// Everything, out of what is there if that was read before; with `before`, also what of the CPUs is used.
pub(super) fn everything(
    root: &Path,
    loaded: &Loaded,
    known: Option<(Machine, Snapshot)>,
    before: Option<&Before>,
) -> Result<Picture> {
    let view = match known {
        Some((machine, live)) => {
            picture(root, loaded, machine, live, OomScores::begin(root), Extent::Everything, before)
        }
        None => look(root, loaded, Extent::Everything, before),
    };
    Ok(view?.picture)
}

/// The CPU time of each cgroup at an earlier moment.
pub(super) type Before = HashMap<PathBuf, CpuTime>;

/// That of now.
pub(super) fn before(root: &Path, tree: &Tree) -> Before {
    let ids = screen::everything(tree);
    let times = usage::cpu_times(root, tree, &ids);
    ids.into_iter().filter_map(|id| Some((tree.path(id), *times.get(id)?))).collect()
}

fn cpu_times(picture: &Picture) -> Before {
    let time = |(id, look): (&Id, &Sample)| Some((picture.tree.path(*id), look.usage.cpu?));
    picture.seen.iter().filter_map(time).collect()
}

/// What was looked at.
struct View {
    picture: Picture,
    /// The OOM scores of all processes, the lowest first.
    scores: Vec<u16>,
    /// What the names stand for, in their order.
    named: Vec<Named>,
}

/// Reads the machine.
///
/// Of thousands of cgroups only what decides about CPU time is read; all else, of those that are shown.
fn look(root: &Path, loaded: &Loaded, extent: Extent<'_>, before: Option<&Before>) -> Result<View> {
    let scores = OomScores::begin(root);
    let machine = Machine::read(root)?;
    let tree = match extent {
        Extent::Everything => Tree::read(root),
        Extent::Screen | Extent::Named(_) => competing(root),
    };
    let mut tree = tree.context("looking at the machine")?;
    tree.read_affinity(root);
    let live = snapshot::read(root, tree, &loaded.policy, snapshot::Extent::Declared, None)
        .context("looking at the machine")?;
    picture(root, loaded, machine, live, scores, extent, before)
}

/// The same, where the tree has been read, and maybe the memory of some of it.
fn picture(
    root: &Path,
    loaded: &Loaded,
    machine: Machine,
    live: Snapshot,
    scores: OomScores,
    extent: Extent<'_>,
    before: Option<&Before>,
) -> Result<View> {
    let carried = effect::ancestors(&loaded.policy, machine.ram);
    let status = Status::new(&loaded.policy, &carried, machine, &live);
    let mut tree = live.tree;
    let mut found = Vec::new();
    let ids = match extent {
        Extent::Screen => screen::worth_a_look(&tree, &status),
        Extent::Everything => screen::everything(&tree),
        Extent::Named(names) => {
            found = find(root, &tree, &status, names)?;
            found.iter().filter_map(|named| named.cgroup).flat_map(|id| tree.upwards(id)).collect()
        }
    };
    let unread: Vec<Id> = ids.iter().copied().filter(|id| tree[*id].memory.is_none()).collect();
    tree.read_memory(root, unread);
    if !matches!(extent, Extent::Everything) {
        tree.read_limits(root, ids.iter().copied());
    }
    read_claims(root, &mut tree);
    let cpus = tree::online_cpus(root)?;
    let cgroups: Vec<PathBuf> = ids.iter().map(|id| tree.path(*id)).collect();
    let usages = Usage::read(root, &cgroups);
    let seen = ids.iter().copied().zip(cgroups.iter().zip(usages)).map(|(id, (cgroup, usage))| {
        let before = before.and_then(|before| before.get(cgroup));
        let cpu = before.and_then(|before| Some(usage.cpu?.share_since(*before, cpus)));
        (id, Sample { usage, cpu, figures: Figures::default() })
    });
    let seen = seen.collect();
    let mut picture = Picture::new(machine, cpus, usage::memory_used(root), tree, status, seen);
    let scores = fill_figures(root, &mut picture, scores, extent, cpus);
    Ok(View { picture, scores, named: found })
}

/// The tree with every `cpu.max` that makes a difference while everything is busy: of thousands of cgroups,
/// most get less than any limit allows. Each limit that is reached gives others more, who may then reach theirs.
fn competing(root: &Path) -> Result<Tree> {
    let cpus = tree::online_cpus(root)?;
    let mut tree = Tree::read_weights(root)?;
    let mut unread: Vec<Id> = tree.ids().collect();
    loop {
        let shares = shares(&tree, cpus, &Busy::Everything);
        let is_near = |id: &Id| shares.of(*id) * f64::from(cpus) >= LEAST_LIMIT;
        let (near, far): (Vec<Id>, Vec<Id>) = unread.into_iter().partition(is_near);
        if near.is_empty() {
            return Ok(tree);
        }
        tree.read_limits(root, near);
        unread = far;
    }
}

/// Computes what is shown; the OOM scores of all processes, sorted.
fn fill_figures(
    root: &Path,
    picture: &mut Picture,
    scores: OomScores,
    extent: Extent<'_>,
    cpus: u32,
) -> Vec<u16> {
    let cgroup = |row: screen::Row| match row.what {
        What::Cgroup(id) => Some(id),
        What::Folded(_) => None,
    };
    let shown: Vec<Id> = match extent {
        Extent::Screen => picture.rows().into_iter().filter_map(cgroup).collect(),
        Extent::Everything | Extent::Named(_) => picture.seen.keys().copied().collect(),
    };
    let (scores, unread) = scores.get();
    picture.unread = unread;
    let mut sorted: Vec<u16> = scores.values().copied().collect();
    sorted.sort_unstable();
    let of = figures(root, &picture.tree, cpus, &scores, &sorted);
    for id in shown {
        if let Some(look) = picture.seen.get_mut(&id) {
            look.figures = of(id);
        }
    }
    drop(of);
    sorted
}

/// What the settings of a cgroup come to in the whole tree.
fn figures<'a>(
    root: &'a Path,
    tree: &'a Tree,
    cpus: u32,
    scores: &'a HashMap<u32, u16>,
    sorted: &'a [u16],
) -> impl Fn(Id) -> Figures + 'a {
    let shares = not_computed(tree).is_none().then(|| shares(tree, cpus, &Busy::Everything));
    let protections = protection(tree, oom::is_recursive(root));
    move |id| {
        let cgroup = &tree[id];
        // Of a slice, that would be the score of one of its units; of a login, it is the login's.
        let is_one = !tree.is_slice(id) || tree.user(id).is_some();
        let pids = if is_one { cgroup::processes(root, &tree.path(id)) } else { Vec::new() };
        let has_memory = cgroup.memory.is_some();
        Figures {
            share: shares.as_ref().map(|shares| shares.of(id)),
            protection: has_memory.then(|| protections.of(id)),
            kept: has_memory.then(|| protections.kept(tree, id)),
            ceiling: has_memory.then(|| ceiling(tree, id)),
            oom: screen::oom(pids.iter().filter_map(|pid| scores.get(pid).copied()), sorted),
        }
    }
}

/// What is in a cgroup with a protection divides it: all of them have to be known.
fn read_claims(root: &Path, tree: &mut Tree) {
    for id in tree.ids() {
        if tree[id].memory.is_some_and(|memory| memory.min > 0 || memory.low > 0) {
            let claiming: Vec<Id> =
                tree[id].children.iter().copied().filter(|child| tree[*child].memory.is_none()).collect();
            tree.read_memory(root, claiming);
        }
    }
}

fn find(root: &Path, tree: &Tree, status: &Status, names: &[String]) -> Result<Vec<Named>> {
    let known: Vec<&str> = status.units.iter().map(|unit| unit.name.as_str()).collect();
    let users = named::users(tree);
    names.iter().map(|name| named::find(root, tree, &users, &known, name)).collect()
}

fn detail<'p>(root: &Path, picture: &'p Picture, named: Named) -> Detail<'p> {
    let Named { unit, cgroup, main } = named;
    let unit = unit.and_then(|name| picture.status.units.iter().find(|unit| unit.name == name));
    let path = cgroup.map(|id| picture.tree.path(id));
    let pids = path.as_deref().map(|path| cgroup::processes(root, path)).unwrap_or_default();
    let Processes { all: processes, unread } = processes::of(root, &pids);
    Detail {
        cgroup,
        unit,
        events: path.map(|path| usage::numbers(root, &path, "memory.events")).unwrap_or_default(),
        processes,
        unread,
        main,
    }
}

/// A terminal's own size, of one that does not say, that of the oldest; elsewhere, lines are as long as
/// they get.
#[expect(clippy::disallowed_methods, reason = "what the terminal can show")]
fn display() -> Display {
    let size = terminal_size::terminal_size_of(io::stdout()).map(|(width, height)| (width.0, height.0));
    let size = io::stdout().is_terminal().then_some(size.unwrap_or((80, 24)));
    // locale(7): the first of these that is set decides.
    let mut locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os);
    let locale = locale.find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.as_encoded_bytes().to_ascii_lowercase();
    Display {
        width: size.map(|(width, _)| width.into()),
        height: size.map(|(_, height)| height.into()),
        unicode: locale.ends_with(b"utf-8") || locale.ends_with(b"utf8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn no_limit_that_is_reached_is_left_unread() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/self/cgroup", "0::/\n");
        write(root, "sys/devices/system/cpu/online", "0-1\n");
        write(root, "sys/fs/cgroup/cgroup.controllers", "cpu pids\n");
        write(root, "sys/fs/cgroup/cgroup.subtree_control", "cpu pids\n");
        let add = |path: &str, weight: u32, max: &str| {
            let file = |name: &str, text: &str| write(root, &format!("sys/fs/cgroup/{path}/{name}"), text);
            file("cpu.weight", &weight.to_string());
            file("cpu.max", max);
            file("pids.current", "9");
            file("cgroup.subtree_control", "cpu pids");
        };
        // Only the limit of the heavy one lets the light ones have what makes them reach theirs.
        add("a.slice", 100, "max 100000");
        add("a.slice/heavy.service", 10_000, "20000 100000");
        add("a.slice/light.service", 1, "10000 100000");
        add("a.slice/free.service", 1, "max 100000");
        // Light ones that stay far from it.
        add("b.slice", 100, "max 100000");
        add("b.slice/heavy.service", 10_000, "max 100000");
        add("b.slice/light.service", 1, "10000 100000");
        let (whole, tree) = (Tree::read(root).unwrap(), competing(root).unwrap());
        let max = |tree: &Tree, path| tree[tree.find(Path::new(path)).unwrap()].cpu.unwrap().max;
        assert!(max(&tree, "a.slice/light.service").is_some());
        assert!(max(&whole, "b.slice/light.service").is_some());
        assert_eq!(max(&tree, "b.slice/light.service"), None);
        let [expected, found] = [&whole, &tree].map(|tree| shares(tree, 2, &Busy::Everything));
        for id in whole.ids() {
            assert!((expected.of(id) - found.of(id)).abs() < 1e-12, "{:?}", whole.path(id));
        }
        let free = tree.find(Path::new("a.slice/free.service")).unwrap();
        assert!((found.of(free) - 0.35).abs() < 1e-12, "{}", found.of(free));
    }
}
