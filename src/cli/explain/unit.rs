//! `fairslice explain unit`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::{Result, bail};
use clap::Args;

use crate::cli::doctor::Look;
use crate::cli::named::did_you_mean;
use crate::cli::out::print;
use crate::cli::{FOUND, complain};
use crate::effect::chain::Chain;
use crate::effect::doctor;
use crate::policy::{self, ServiceName};
use crate::report;
use crate::text::shown;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A slice, or a service with or without ".service"
    #[arg(value_name = "UNIT")]
    unit: String,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let loaded = policy::load(root);
    let look = Look::at(root, Some(&loaded))?;
    let scene = look.scene();
    let name = full_name(&options.unit)?;
    let chains: Vec<Chain> = doctor::chains(&scene).into_iter().filter(|chain| chain.unit == name).collect();
    if chains.is_empty() && look.units.get(&name).is_none() {
        let hint = did_you_mean(&name, look.units.iter().map(|(other, _)| other));
        bail!("{}: neither the policy nor PID 1 knows it{hint}", shown(&name));
    }
    let text =
        if options.json { report::unit_json(&name, &chains) } else { report::unit_text(&name, &chains) };
    print(&text)?;
    let broken = chains.iter().any(|chain| chain.broken.is_some());
    Ok(complain(&loaded).max(if broken { FOUND } else { 0 }))
}

/// `local-fs` is a service.
fn full_name(unit: &str) -> Result<String> {
    if unit.ends_with(".slice") {
        return Ok(unit.to_owned());
    }
    match ServiceName::new(unit) {
        Ok(service) => Ok(service.to_string()),
        Err(expected) => bail!("{}: neither a slice nor a service: {expected}", shown(unit)),
    }
}
