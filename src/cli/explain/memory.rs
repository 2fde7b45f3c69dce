//! `fairslice explain memory`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::out::print;
use crate::cli::say_missed;
use crate::effect::memory::protection;
use crate::host::oom;
use crate::report;
use crate::survey::{self, named};
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A unit with or without ".service" or ".slice", a user, or a cgroup's path
    #[arg(value_name = "NAME")]
    of: Option<String>,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let tree = survey::whole_tree(root)?;
    let find = |name: &String| named::running(root, &tree, &named::users(&tree), name);
    let of = options.of.as_ref().map(find).transpose()?;
    if let Some(of) = of.filter(|of| tree[*of].memory.is_none()) {
        bail!("{} has no memory controller", shown(&tree.absolute(of)));
    }
    let (recursive, multi_gen_lru) = (oom::is_recursive(root), oom::has_multi_gen_lru(root));
    let protections = protection(&tree, recursive);
    let missed = report::missed(&tree, &[]);
    let text = match of {
        _ if options.json => report::memory_json(&tree, &protections, recursive, multi_gen_lru, of, &missed),
        Some(of) => report::memory_of_text(&tree, &protections, multi_gen_lru, of),
        None => report::memory_text(&tree, &protections, multi_gen_lru),
    };
    print(&text)?;
    say_missed(&missed);
    Ok(0)
}
