//! `fairslice explain oom`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::cli::doctor::look_at_tree;
use crate::cli::out::print;
use crate::cli::{complain, named, say_missed};
use crate::effect::finding::Place;
use crate::effect::kill_order::{Domain, Look};
use crate::host::oom;
use crate::host::processes::{self, Processes};
use crate::host::settings::Settings;
use crate::host::units::Units;
use crate::policy;
use crate::report::{self, Order};

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
    let loaded = policy::load(root);
    let tree = look_at_tree(root)?;
    let find = |name: &String| named::find(&tree, &named::users(&tree), name);
    let of = options.of.as_ref().map(find).transpose()?;
    let units = Units::read(root).context("asking PID 1 for its units")?;
    let settings = Settings::read(root, &units);
    let Processes { all: processes, unread } = processes::read(root)?;
    let missed = report::missed(&tree, &unread);
    let oom = oom::read(root, &units, &processes)?;
    let look = Look { tree: &tree, units: &units, processes: &processes, ram: oom.ram, swap: oom.swap };
    let order = Order {
        look,
        of,
        domain: of.map_or_else(|| Domain::machine(&look), |of| Domain::of(&look, of)),
        policy: &loaded.policy,
        oom: &oom,
        reclaim: &|id| oom::reclaim(root, &tree.path(id)),
        set_by: &|unit, key| settings.setting(units.get(unit)?, key).map(Place::from),
    };
    let text = if options.json { report::oom_json(&order, &missed) } else { report::oom_text(&order) };
    print(&text)?;
    say_missed(&missed);
    Ok(complain(&loaded))
}
