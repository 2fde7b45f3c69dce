//! `fairslice doctor --fix`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;

use super::super::out::{print, say};
use super::super::{FAILED, FOUND};
use super::{missed_parts, say_missed_of};
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::look::Look;
use crate::enforce::apply::{self, Left, Plan};
use crate::enforce::lock::Lock;
use crate::policy::Loaded;
use crate::report;

/// Shows what can be fixed and what that changes, does it, looks again, and says what became of each.
pub(super) fn run(root: &Path, held: &Lock, loaded: &Loaded, first: &Look, found: &[Finding]) -> Result<u8> {
    let fixable: Vec<&Finding> = found.iter().filter(|finding| finding.fix == Fix::Apply).collect();
    if fixable.is_empty() {
        print(&format!("nothing to fix\n{}", report::left_text(found, &[])))?;
        return Ok(code(first, &[], found));
    }
    print(&report::fixable_text(&fixable))?;
    let plan = apply::plan(root, loaded)?;
    print(&report::changes_text(&plan))?;
    let mut touched: Vec<&Finding> =
        fixable.iter().filter(|finding| touches(&plan, finding)).copied().collect();
    let (failed, reasons) = match plan.carry_out(held, false) {
        Ok(report) => (report.failed, report.after.left),
        Err(error) => {
            // PID 1 may write a cgroup meanwhile, whenever it starts a unit.
            touched.clear();
            (vec![format!("{error:#}")], Vec::new())
        }
    };
    for line in &failed {
        say(format_args!("fairslice: {line}"));
    }
    let look = Look::at(root, Some(loaded))?;
    say_missed_of(&look);
    let left = look.examine(Some(loaded)).findings;
    let gone: Vec<&Finding> = fixable.into_iter().filter(|finding| !is_among(finding, &left)).collect();
    let (fixed, by_itself): (Vec<&Finding>, Vec<&Finding>) =
        gone.into_iter().partition(|finding| touched.contains(finding));
    let reasons: Vec<&Left> = reasons.iter().filter(|reason| reason.differs).collect();
    print(&report::fixed_text(&fixed, &by_itself))?;
    print(&report::left_text(&left, &reasons))?;
    Ok(code(&look, &failed, &left))
}

fn code(look: &Look, failed: &[String], left: &[Finding]) -> u8 {
    if failed.is_empty() && missed_parts(look).is_empty() {
        u8::from(!left.is_empty()) * FOUND
    } else {
        FAILED
    }
}

/// Whether a plan changes anything of what was found. A reload brings all that has not reached PID 1.
fn touches(plan: &Plan<'_>, finding: &Finding) -> bool {
    plan.reload.is_some() || plan.units.iter().any(|unit| finding.subject.has(&unit.unit))
}

/// Whether it was found again, of one of its units at least.
fn is_among(finding: &Finding, left: &[Finding]) -> bool {
    let mut same = left.iter().filter(|other| other.code == finding.code);
    same.any(|other| other.subject.names().any(|unit| finding.subject.has(unit)))
}
