//! `fairslice doctor`.
#![forbid(unsafe_code)]

mod fix;

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::{FOUND, PATIENCE, lock, out, say_missed};
use crate::doctor::look::{Findings, Look, on_v1};
use crate::report::{self, Examined};
use crate::survey;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Do what needs no restart and changes nothing of the administrator's, after showing it
    #[arg(long, conflicts_with_all = ["json", "no_policy"])]
    fix: bool,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
    /// Leave the policy out: what is wrong on any machine
    #[arg(long)]
    no_policy: bool,
}

pub(super) fn run(root: &Path, arguments: &Arguments) -> Result<u8> {
    let Arguments { fix, json, no_policy } = *arguments;
    // What is looked at before the lock is held may be another's work.
    let held = if fix { Some(lock(root, PATIENCE)?) } else { None };
    let loaded = (!no_policy).then(|| survey::declared(root));
    if let Some(found) = on_v1(root) {
        return print(&[], &found, json);
    }
    let look = Look::at(root, loaded.as_ref())?;
    say_missed_of(&look);
    let found = look.examine(loaded.as_ref());
    if let (Some(held), Some(loaded)) = (&held, &loaded) {
        return fix::run(root, held, loaded, &look, &found.findings);
    }
    let printed = print(&all_missed(&look), &found, json);
    // The process ends: giving back what is known of 10,000 cgroups would take a fiftieth of its time.
    std::mem::forget(look);
    printed
}

fn print(missed: &[String], found: &Findings, json: bool) -> Result<u8> {
    let looked = Examined { settings: found.settings, missed };
    let text = if json {
        report::doctor_json(&found.findings, looked)
    } else {
        report::doctor_text(&found.findings, looked)
    };
    out::print(&text)?;
    Ok(if found.findings.is_empty() { 0 } else { FOUND })
}

/// Parts of the machine that could not be looked at, a line each: there may be more to find in them.
pub(super) fn missed_parts(look: &Look) -> Vec<String> {
    look.missed.iter().cloned().chain(report::missed_shares(&look.live.tree)).collect()
}

/// Those, and single processes and cgroups.
fn all_missed(look: &Look) -> Vec<String> {
    [missed_parts(look), report::missed(&look.live.tree, &look.unread)].concat()
}

pub(super) fn say_missed_of(look: &Look) {
    say_missed(&all_missed(look));
}
