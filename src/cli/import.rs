//! `fairslice import`.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::out::{print, say};
use super::{FOUND, PATIENCE, complain, lock};
use crate::doctor::finding::{Code, Finding};
use crate::doctor::look::Look;
use crate::enforce::import::{self, Import, retire};
use crate::enforce::lock::Lock;
use crate::paths;
use crate::policy::{InForce, Loaded};
use crate::report;
use crate::survey;
use crate::text::shown;

/// What keeps logins from what the policy has for them.
const NO_LOGINS: [Code; 4] = [Code::PamLineMissing, Code::PamOrder, Code::ModuleMissing, Code::UsePamOff];

#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Debug, Args)]
#[command(after_help = "\
Without an option, the policy is printed: TOML, with the file and line of each value. What a policy cannot say, what \
holds until the next boot only, and what is not in force stands behind it as comments, and stays as it is.

In this order: \"fairslice import --write\", \"fairslice apply\", \"fairslice import --retire\". \"fairslice import \
--restore\" undoes the last.")]
pub(super) struct Options {
    /// Write it to /etc/fairslice/policy.d/60-imported.toml, where there is no such file; "fairslice apply" puts it in
    /// force
    #[arg(long, conflicts_with_all = ["retire", "restore"])]
    write: bool,
    /// Move files aside, to /etc/fairslice/retired, that say no more than the policy in force
    #[arg(long, conflicts_with = "restore")]
    retire: bool,
    /// Put the files back that --retire has moved
    #[arg(long)]
    restore: bool,
    /// With --retire or --restore: name the files, and move none
    #[arg(long, conflicts_with = "write")]
    dry_run: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    // What is looked at before the lock is held may be another's work.
    let changes = (options.write || options.retire || options.restore) && !options.dry_run;
    let held = if changes { Some(lock(root, PATIENCE)?) } else { None };
    if options.restore {
        return restore(root, held.as_ref());
    }
    let loaded = survey::declared(root);
    let broken = complain(&loaded);
    if options.retire {
        return Ok(broken.max(retire(root, held.as_ref(), &loaded)?));
    }
    let import = import::import(root, &loaded)?;
    let found = Look::at(root, None).map(|look| look.examine(None).findings);
    let text = report::import_text(&import, &found.map_err(|error| format!("{error:#}")));
    for line in &import.unread {
        say(format_args!("fairslice: {line}"));
    }
    let code = broken.max(u8::from(!import.unread.is_empty()) * FOUND);
    match held {
        Some(held) => write(root, &held, &loaded, &import, &text)?,
        None => print(&text)?,
    }
    Ok(code)
}

fn write(root: &Path, held: &Lock, loaded: &Loaded, import: &Import, text: &str) -> Result<()> {
    if import.tables.is_empty() {
        print("nothing is set by hand that the policy does not say already\n")?;
        return Ok(());
    }
    import::put(root, held, loaded, text)?;
    print(&format!(
        "/{} says what was set by hand; next: fairslice apply, then: fairslice import --retire\n",
        paths::IMPORTED
    ))?;
    Ok(())
}

fn retire(root: &Path, held: Option<&Lock>, loaded: &Loaded) -> Result<u8> {
    let plan = retire::plan(root, loaded, no_logins(root, loaded).as_deref())?;
    let mut text = String::new();
    let verb = if held.is_some() { "moved" } else { "would be moved" };
    for file in &plan.moved {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "/{}: {verb} to /{}", shown(file), paths::RETIRED);
    }
    for (file, why) in &plan.kept {
        let _ = writeln!(text, "/{}: stays: {}", shown(file), shown(why));
    }
    if plan.moved.is_empty() && plan.kept.is_empty() {
        text.push_str("no file sets what a policy can say\n");
    }
    if let Some(held) = held.filter(|_| !plan.moved.is_empty()) {
        plan.carry_out(root, held, loaded)?;
    }
    print(&text)?;
    Ok(0)
}

/// Why logins do not get what the policy has for them.
fn no_logins(root: &Path, loaded: &Loaded) -> Option<String> {
    // Where the policy has to be mended first, that is said instead.
    if loaded.in_force != InForce::Current {
        return None;
    }
    let is_in_the_way = |finding: &&Finding| NO_LOGINS.contains(&finding.code);
    match Look::at(root, Some(loaded)) {
        Ok(look) => {
            let findings = look.examine(Some(loaded)).findings;
            findings.iter().find(is_in_the_way).map(|found| format!("{}: {}", found.subject, found.what))
        }
        Err(error) => Some(format!("whether logins get what the policy says is not known: {error:#}")),
    }
}

fn restore(root: &Path, held: Option<&Lock>) -> Result<u8> {
    let (files, verb) = match held {
        Some(held) => (retire::restore(root, held)?, "put back"),
        None => (retire::retired(root)?, "would be put back"),
    };
    let mut text = String::new();
    for file in &files {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "/{}: {verb}", shown(file));
    }
    if files.is_empty() {
        text.push_str("no file has been moved aside\n");
    }
    print(&text)?;
    Ok(0)
}
