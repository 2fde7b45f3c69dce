//! `fairslice drill`.
#![forbid(unsafe_code)]

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::out::{print, print_error};
use super::{FOUND, complain, lock, stamp};
use crate::effect::drill::{cpu, kills};
use crate::enforce::drill::{
    self, Before, CpuDrill, IoDrill, MemoryDrill, Turn, Work, drill_cpu, drill_io, drill_kills, drill_memory,
};
use crate::host::block_device::numbers;
use crate::host::disk::Disk;
use crate::report::{self, DrillView};
use crate::survey;
use crate::text::shown;
use crate::units::OomScoreAdj;

#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Busy loads on one CPU: does each service and login get its part of it? The default
    #[arg(long)]
    cpu: bool,
    /// Loads that read from a disk that goes by weights: does each service and login get its part of it?
    #[arg(long)]
    io: bool,
    /// A model of the slices, 48 MiB large, in which memory is short: what is protected of each service and login, and
    /// what do ceilings let it have?
    #[arg(long)]
    memory: bool,
    /// A cgroup of its own that runs out of memory: who is killed first in there?
    #[arg(long, conflicts_with = "dry_run")]
    kill_order: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print which loads would be started and what they are due, and start none
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Load {
    /// The number of the process that has started this
    parent: i32,
    /// The OOM score adjustment to have
    #[arg(long, allow_negative_numbers = true)]
    score: OomScoreAdj,
    /// Hold so many bytes, instead of keeping a CPU busy
    #[arg(long)]
    hold: Option<usize>,
    /// Read the disk with this number, MAJOR:MINOR, instead
    #[arg(long, value_parser = number, conflicts_with = "hold", requires = "part")]
    read: Option<(u32, u32)>,
    /// Fill the page cache, as much as is said on standard input, instead
    #[arg(long, conflicts_with_all = ["hold", "read"])]
    cache: bool,
    /// From which part of it on
    #[arg(long, requires = "read")]
    part: Option<u64>,
}

fn number(text: &str) -> Result<(u32, u32)> {
    numbers(text).context("expected MAJOR:MINOR")
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let loaded = survey::declared(root);
    let broken = complain(&loaded);
    let before = Before::read(root, &loaded.policy)?;
    if options.dry_run {
        let mut view = DrillView::default();
        if options.cpu() {
            let plan = cpu::plan(before.policy, &before.live);
            view.cpu = Some(CpuDrill::planned(&before, plan)?);
        }
        if options.io {
            view.io = Some(IoDrill::planned(&before, drill::disk(root)?));
        }
        if options.memory {
            view.memory = Some(MemoryDrill::planned(&before));
        }
        say_view(root, &view, options.json)?;
        return Ok(broken);
    }
    before.check()?;
    let disk = options.io.then(|| drill::disk(root)).transpose()?;
    if !options.yes {
        ask(options, disk.as_ref())?;
    }
    let turn = Turn::begin(root, lock(root, Duration::ZERO)?)?;
    // Somebody may have taken their time to answer.
    let before = if options.yes { before } else { Before::read(root, &loaded.policy)? };
    let mut view = DrillView::default();
    // What has been measured is said whatever becomes of the rest.
    let done = measure(&before, options, disk, &turn, &mut view);
    if !view.is_empty() {
        say_view(root, &view, options.json)?;
    }
    done?;
    Ok(broken.max(u8::from(!view.holds()) * FOUND))
}

fn measure(
    before: &Before<'_>,
    options: &Options,
    disk: Option<Disk>,
    turn: &Turn,
    view: &mut DrillView,
) -> Result<()> {
    if options.cpu() {
        view.cpu = Some(drill_cpu(before, cpu::plan(before.policy, &before.live), turn)?);
    }
    if let Some(disk) = disk {
        view.io = Some(drill_io(before, disk, turn)?);
    }
    if options.memory {
        view.memory = Some(drill_memory(before, turn)?);
    }
    if options.kill_order {
        view.kills = Some(drill_kills(before, kills::plan(before.policy, &before.live), turn)?);
    }
    Ok(())
}

impl Options {
    /// It is the default.
    fn cpu(&self) -> bool {
        self.cpu || !(self.io || self.memory || self.kill_order)
    }
}

/// What [`drill::COMMAND`] does.
pub(super) fn load(root: &Path, load: &Load) -> Result<u8> {
    let work = match (load.hold, load.read) {
        (Some(bytes), _) => Work::Hold(bytes),
        (None, Some((major, minor))) => Work::Read { major, minor, part: load.part.unwrap_or(0) },
        (None, None) if load.cache => Work::Cache,
        (None, None) => Work::Spin,
    };
    drill::be(root, load.parent, load.score, work)?;
    Ok(0)
}

fn say_view(root: &Path, view: &DrillView, json: bool) -> Result<()> {
    let text = if json { report::drill_json(&stamp(root), view) } else { report::drill_text(view) };
    Ok(print(&text)?)
}

fn ask(options: &Options, disk: Option<&Disk>) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("a drill starts loads, and there is no terminal to ask on: run it with --yes");
    }
    let mut what = Vec::new();
    if options.cpu() {
        what.push("one CPU is kept busy for 5 s".to_owned());
    }
    if let Some(disk) = disk {
        what.push(format!("{} is read all the time for 5 s", shown(&disk.name)));
    }
    if options.memory {
        what.push("64 MiB are used, and reclaimed again".to_owned());
    }
    if options.kill_order {
        what.push(
            "64 MiB are used, and a few processes of the drill's own are killed for want of memory"
                .to_owned(),
        );
    }
    print_error(&format!("A drill: {}. Go on? [y/N] ", what.join("; ")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was started");
    }
    Ok(())
}
