//! `fairslice explain oom`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::out::print;
use crate::cli::{complain, say_missed};
use crate::doctor::finding::Place;
use crate::effect::kill_order::{Domain, Free, KillScene};
use crate::host::oom;
use crate::host::processes::{self, Processes};
use crate::host::recorded::Recorded;
use crate::host::settings::Settings;
use crate::host::units::Units;
use crate::report::{self, Order};
use crate::survey::named;
use crate::survey::{self, loaded_files};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The memory of this unit or user runs out, not the machine's
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let loaded = survey::declared(root);
    let tree = survey::whole_tree(root)?;
    let find = |name: &String| named::running(root, &tree, &named::users(&tree), name);
    let of = options.of.as_ref().map(find).transpose()?;
    let units = Units::read(root).context("asking PID 1 for its units")?;
    let settings = Settings::read(root, &units);
    let Processes { all: processes, unread } = processes::read(root)?;
    let missed = report::missed(&tree, &unread);
    let oom = oom::read(root, &units, &processes)?;
    let scene = KillScene { tree: &tree, units: &units, processes: &processes, ram: oom.ram, swap: oom.swap };
    let cache = |id| oom::cache(root, &tree.path(id));
    let free = Free { ram: oom.available, swap: oom.swap_free, cache: &cache };
    let order = Order {
        scene,
        of,
        domain: of.map_or_else(|| Domain::machine(&scene), |of| Domain::of(&scene, of, &free)),
        policy: &loaded.policy,
        oom: &oom,
        reclaim: &|id| oom::reclaim(root, &tree.path(id)),
        set_by: &|unit, key| {
            let files = loaded_files(unit, units.get(unit), &settings, Recorded::default());
            files.set(key).as_ref().map(Place::from)
        },
    };
    let text = if options.json { report::oom_json(&order, &missed) } else { report::oom_text(&order) };
    print(&text)?;
    say_missed(&missed);
    Ok(complain(&loaded))
}
