//! `fairslice doctor --fix`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;

use super::super::out::{print, say};
use super::super::{FAILED, FOUND};
use super::{Look, examine};
use crate::effect::finding::{Finding, Fix};
use crate::enforce::apply::{self, Left, Plan};
use crate::enforce::lock::Lock;
use crate::policy::Loaded;
use crate::report;

/// Shows what can be mended and what that changes, does it, looks again, and says what became of each.
pub(super) fn run(root: &Path, held: &Lock, loaded: &Loaded, first: &Look, found: &[Finding]) -> Result<u8> {
    let mendable: Vec<&Finding> = found.iter().filter(|finding| finding.fix == Fix::Apply).collect();
    if mendable.is_empty() {
        print(&format!("nothing to mend\n{}", report::left_text(found, &[])))?;
        return Ok(code(first, &[], found));
    }
    print(&report::mendable_text(&mendable))?;
    let plan = apply::plan(root, loaded)?;
    print(&report::changes_text(&plan))?;
    let mut touched: Vec<&Finding> =
        mendable.iter().filter(|finding| touches(&plan, finding)).copied().collect();
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
    look.say_missed();
    let left = examine(&look, Some(loaded)).findings;
    let gone: Vec<&Finding> = mendable.into_iter().filter(|finding| !is_among(finding, &left)).collect();
    let (mended, by_itself): (Vec<&Finding>, Vec<&Finding>) =
        gone.into_iter().partition(|finding| touched.contains(finding));
    let reasons: Vec<&Left> = reasons.iter().filter(|reason| reason.differs).collect();
    print(&report::mended_text(&mended, &by_itself))?;
    print(&report::left_text(&left, &reasons))?;
    Ok(code(&look, &failed, &left))
}

fn code(look: &Look, failed: &[String], left: &[Finding]) -> u8 {
    if failed.is_empty() && look.missed.is_empty() { u8::from(!left.is_empty()) * FOUND } else { FAILED }
}

/// Whether a plan changes anything of what was found. A reload brings all that has not reached PID 1.
fn touches(plan: &Plan<'_>, finding: &Finding) -> bool {
    plan.reload.is_some()
        || plan.units.iter().any(|unit| finding.subjects().any(|subject| subject == unit.unit))
}

/// Whether it was found again, of one of its units at least.
fn is_among(finding: &Finding, left: &[Finding]) -> bool {
    let mut same = left.iter().filter(|other| other.code == finding.code);
    same.any(|other| other.subjects().any(|unit| finding.subjects().any(|subject| subject == unit)))
}
