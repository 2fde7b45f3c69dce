//! `fairslice drill`.
#![forbid(unsafe_code)]

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::out::{print, print_error};
use super::{FOUND, complain, lock, stamp};
use crate::effect::drill::{cpu, kills};
use crate::enforce::drill::{self, Before, CpuDrill, Work, drill_cpu, drill_kills};
use crate::report::{self, DrillView};
use crate::survey;
use crate::units::OomScoreAdj;

#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Busy loads on one CPU: does each service and login get its part of it? The default
    #[arg(long)]
    cpu: bool,
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
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let loaded = survey::declared(root);
    let broken = complain(&loaded);
    let before = Before::read(root, &loaded.policy)?;
    if options.dry_run {
        let plan = cpu::plan(before.policy, &before.live);
        let cpu = Some(CpuDrill::planned(&before, plan)?);
        say_view(root, &DrillView { cpu, kills: None }, options.json)?;
        return Ok(broken);
    }
    before.check()?;
    if !options.yes {
        ask(options)?;
    }
    let lock = lock(root, Duration::ZERO)?;
    // Somebody may have taken their time to answer.
    let before = if options.yes { before } else { Before::read(root, &loaded.policy)? };
    let mut view = DrillView::default();
    if options.cpu || !options.kill_order {
        let plan = cpu::plan(before.policy, &before.live);
        view.cpu = Some(drill_cpu(&before, plan, &lock)?);
    }
    let kills = options.kill_order.then(|| {
        let plan = kills::plan(before.policy, &before.live);
        drill_kills(&before, plan, &lock)
    });
    // What has been measured is said whatever becomes of the rest.
    let failed = match kills {
        Some(Ok(kills)) => {
            view.kills = Some(kills);
            None
        }
        Some(Err(error)) if view.cpu.is_none() => return Err(error),
        Some(Err(error)) => Some(error),
        None => None,
    };
    say_view(root, &view, options.json)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let holds = view.cpu.is_none_or(|drill| drill.holds()) && view.kills.is_none_or(|drill| drill.holds());
    Ok(broken.max(u8::from(!holds) * FOUND))
}

/// What [`drill::COMMAND`] does.
pub(super) fn load(root: &Path, load: &Load) -> Result<u8> {
    drill::be(root, load.parent, load.score, load.hold.map_or(Work::Spin, Work::Hold))?;
    Ok(0)
}

fn say_view(root: &Path, view: &DrillView, json: bool) -> Result<()> {
    let text = if json { report::drill_json(&stamp(root), view) } else { report::drill_text(view) };
    Ok(print(&text)?)
}

fn ask(options: &Options) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("a drill starts loads, and there is no terminal to ask on: run it with --yes");
    }
    let mut what = Vec::new();
    if options.cpu || !options.kill_order {
        what.push("one CPU is kept busy for 5 s");
    }
    if options.kill_order {
        what.push("64 MiB are used, and a few processes of the drill's own are killed for want of memory");
    }
    print_error(&format!("A drill: {}. Go on? [y/N] ", what.join("; ")));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was started");
    }
    Ok(())
}
