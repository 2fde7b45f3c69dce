//! `fairslice report`.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::doctor::missed_parts;
use super::out::print;
use super::{FOUND, complain, fleet, output, say_missed, stamp, status};
use crate::doctor::finding::Place;
use crate::doctor::look::Look;
use crate::effect::drill::cpu::due_now;
use crate::effect::kill_order::{Domain, KillScene};
use crate::effect::memory::protection;
use crate::host::oom::{self, reclaim};
use crate::report::{self, Drilled, Order, Page};
use crate::survey;
use crate::text::shown;

/// The least time over which the use of the CPUs is looked at.
const WINDOW: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Write it to FILE, whole or not at all, instead of printing it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The picture of the tree alone, as SVG
    #[arg(long, conflicts_with = "drill")]
    svg: bool,
    /// What "fairslice drill --json" has printed, to be put beside what is declared
    #[arg(long, value_name = "FILE")]
    drill: Option<PathBuf>,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let drill = options.drill.as_deref().map(drilled).transpose()?;
    let loaded = survey::declared(root);
    let (look, found) = status::examine(root, &loaded);
    let looked = Instant::now();
    let before = look.as_ref().map(|look| status::before(root, &look.live.tree));
    if before.is_some() {
        sleep(WINDOW.saturating_sub(looked.elapsed()));
    }
    let known = look.as_ref().map(|look| (look.machine, look.live.clone()));
    let picture = status::everything(root, &loaded, known, before.as_ref())?;
    let mut missed = look.as_ref().map(missed_parts).unwrap_or_default();
    missed.extend(report::missed(&picture.tree, &picture.unread));
    if look.is_none() {
        missed.push("what \"fairslice doctor\" finds, and who is killed first".to_owned());
    }
    let text = if options.svg {
        report::tree_svg(&picture).map_err(|why| anyhow!("there is no picture: {why}"))?
    } else {
        let protections = protection(&picture.tree, oom::is_recursive(root));
        let due = look.as_ref().and_then(|look| due_now(&look.policy, &look.carried, &look.live));
        let page = |order: Option<&Order<'_>>| {
            report::page(&Page {
                stamp: &stamp(root),
                loaded: &loaded,
                picture: &picture,
                found: &found,
                protections: &protections,
                multi_gen_lru: oom::has_multi_gen_lru(root),
                order,
                due: due.as_deref(),
                drill: drill.as_ref(),
                missed: &missed,
            })
        };
        match &look {
            Some(look) => with_order(root, look, |order| page(Some(order))),
            None => page(None),
        }
    };
    match &options.output {
        Some(file) => output::write(file, text.as_bytes())?,
        None => print(&text)?,
    }
    if look.is_none() {
        say_missed(&missed);
    }
    let is_well = found.findings.is_empty() && picture.status.differing() == 0;
    Ok(complain(&loaded).max(if is_well { 0 } else { FOUND }))
}

/// A drill that was run.
fn drilled(file: &Path) -> Result<Drilled> {
    let bytes = fleet::read(file).map_err(|error| anyhow!("reading {}: {error}", shown(file)))?;
    match Drilled::read(&bytes) {
        Ok(drill) => Ok(drill),
        Err(why) => bail!("{} {why}", shown(file)),
    }
}

/// Who is killed first when the machine's memory runs out.
fn with_order(root: &Path, look: &Look, page: impl Fn(&Order<'_>) -> String) -> String {
    let Look { units, processes, oom, policy, .. } = look;
    let tree = &look.live.tree;
    let scene = KillScene { tree, units, processes, ram: oom.ram, swap: oom.swap };
    let doctors = look.scene();
    page(&Order {
        scene,
        of: None,
        domain: Domain::machine(&scene),
        policy,
        oom,
        reclaim: &|id| reclaim(root, &tree.path(id)),
        set_by: &|unit, key| doctors.files(unit).set(key).as_ref().map(Place::from),
    })
}
