//! `fairslice explain unit`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::out::print;
use crate::cli::{FOUND, complain};
use crate::doctor;
use crate::doctor::chain::Chain;
use crate::doctor::finding::Finding;
use crate::doctor::look::Look;
use crate::report::{self, UnitView};
use crate::survey;
use crate::survey::named::{self, Named};
use crate::text::shown;
use crate::units::known::is_resource;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A unit with or without its ending, by any of its names
    #[arg(value_name = "UNIT")]
    unit: String,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let loaded = survey::declared(root);
    let look = Look::at(root, Some(&loaded))?;
    let scene = look.scene();
    let tree = &look.live.tree;
    let known: Vec<&str> = scene.known().collect();
    let Named { unit, cgroup, .. } = named::find(root, tree, &named::users(tree), &known, &options.unit)?;
    let Some(name) = unit else {
        let place = cgroup.map_or_else(Default::default, |id| tree.absolute(id));
        bail!("{}: a cgroup that is no unit of PID 1's has no settings to explain", shown(&place));
    };
    let chains: Vec<Chain> = doctor::chains(&scene).into_iter().filter(|chain| chain.unit == name).collect();
    let is_chained = |key: &str| chains.iter().any(|chain| chain.setting() == key);
    let others = scene.files(&name).all(|key| is_resource(key) && !is_chained(key));
    let is_broken = |finding: &Finding| {
        chains.iter().any(|chain| chain.broken.as_ref().is_some_and(|known| known.code == finding.code))
    };
    let mut findings = look.examine(Some(&loaded)).findings;
    findings.retain(|finding| finding.subject.has(&name) && !is_broken(finding));
    let explained = UnitView { name: &name, chains: &chains, others: &others, findings: &findings };
    let text = if options.json { report::unit_json(&explained) } else { report::unit_text(&explained) };
    print(&text)?;
    let is_well = chains.iter().all(|chain| chain.broken.is_none()) && findings.is_empty();
    Ok(complain(&loaded).max(if is_well { 0 } else { FOUND }))
}
