//! `fairslice apply`.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::out::{print, say};
use super::{FAILED, FOUND, PATIENCE, complain, lock};
use crate::enforce::apply::{self, Ceilings};
use crate::policy;
use crate::report;
use crate::survey;

/// How long `--logins` waits for whoever changes the machine: at a logout nobody else counts again, and many
/// may go at once while somebody waits for a reload.
const LONG_PATIENCE: Duration = Duration::from_secs(100);

#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Restart the services that need it too, but those that people are logged in through
    #[arg(long, conflicts_with = "dry_run")]
    restart: bool,
    /// Set limits below what is used too: the kernel kills what does not fit
    #[arg(long)]
    force: bool,
    /// Only what logins are given: users' slices, and the weight of all of them
    #[arg(long, conflicts_with_all = ["restart", "json", "force"])]
    logins: bool,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    if options.logins {
        return logins(root, options.dry_run);
    }
    // What is looked at before the lock is held may be another's work.
    let lock = if options.dry_run { None } else { Some(lock(root, PATIENCE)?) };
    let loaded = survey::declared(root);
    let broken = complain(&loaded);
    let ceilings = if options.force { Ceilings::Force } else { Ceilings::Wait };
    let mut plan = apply::plan_with(root, &loaded, ceilings)?;
    let Some(lock) = lock else {
        let text = if options.json { report::plan_json(&plan) } else { report::plan_text(&plan) };
        print(&text)?;
        return Ok(broken.max(u8::from(plan.leaves())));
    };
    if plan.make_room() {
        plan = apply::plan_with(root, &loaded, ceilings)?;
    }
    // A reader that goes away stops nothing halfway: whether it has read all is asked last.
    let before = report::plan_value(&plan);
    let shown = if options.json { Ok(()) } else { print(&report::changes_text(&plan)) };
    let report = plan.carry_out(&lock, options.restart)?;
    let after =
        if options.json { report::report_json(&before, &report) } else { report::report_text(&report) };
    let shown = shown.and(print(&after));
    for line in &report.failed {
        say(format_args!("fairslice: {line}"));
    }
    shown?;
    let code = if report.failed.is_empty() { u8::from(!report.after.holds()) * FOUND } else { FAILED };
    Ok(broken.max(code))
}

fn logins(root: &Path, dry_run: bool) -> Result<u8> {
    let lock = if dry_run { None } else { Some(lock(root, LONG_PATIENCE)?) };
    let mut loaded = policy::load(root);
    loaded.policy.find_disks(root);
    let changes = apply::logins(root, &loaded.policy, Ceilings::Wait).context("looking at the machine")?;
    print(&report::changes(&changes))?;
    if let Some(lock) = lock {
        apply::set_logins(root, &lock, &loaded.policy)?;
    }
    Ok(complain(&loaded))
}

/// Nothing is said: "fairslice" and "fairslice apply" name what waits.
pub(super) fn hold(root: &Path) -> Result<u8> {
    let lock = lock(root, PATIENCE)?;
    apply::plan(root, &survey::declared(root))?.hold(&lock)?;
    Ok(0)
}

/// Says on stderr what could not be taken back.
pub(super) fn withdraw(root: &Path) -> Result<u8> {
    let failed = apply::withdraw(root, &lock(root, LONG_PATIENCE)?)?;
    for line in &failed {
        say(format_args!("fairslice: {line}"));
    }
    Ok(if failed.is_empty() { 0 } else { FAILED })
}
