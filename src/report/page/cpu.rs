//! What each is due of the CPUs by the policy and by what is in force, and what a drill has measured.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::drilled::{Drilled, OfCpu, PartsRow, called};
use super::markup::Markup;
use super::plot::{BAR, plot};
use super::{Page, no_shares, note, table};
use crate::effect::drill::cpu::Due;
use crate::effect::drill::rows::{Found, Row, TOLERANCE};
use crate::report::drill::verdict;
use crate::report::share::percent;
use crate::text::shown;

const HEAD: [&str; 6] = ["Unit", "0 to 100 %", ">Declared", ">Effective", ">Measured", "As declared"];
const OF_DRILL: [&str; 6] =
    ["Unit", "0 to 100 %", ">Declared then", ">Predicted", ">Measured", "As declared"];

pub(super) fn write(section: &mut Markup, page: &Page<'_>) {
    if no_shares(section, &page.picture.tree) {
        return;
    }
    let Some(due) = page.due else {
        note(section, "What is due to whom could not be looked at.");
        return;
    };
    if due.is_empty() {
        note(section, "The policy names nothing that competes for the CPUs here.");
        return;
    }
    note(
        section,
        "If each of the policy's services and each login had one busy thread, all on one CPU, they would divide its time like \
         this: by what is declared, and by what is in force. Measured is what a drill saw them get.",
    );
    let of_cpu = page.drill.and_then(|drill| drill.cpu.as_ref());
    write_drill(section, page);
    let measured = of_cpu.filter(|drill| has_same(drill, due));
    table::table(section, "CPU time", &HEAD, |table| {
        table.element("tbody", &[], |body| {
            for one in due {
                let measured = measured.and_then(|drill| measured_of(drill, &one.of.unit()));
                write_due(body, one, measured);
            }
        });
    });
    section.element("p", &[("class", "key")], |key| {
        key.literal(
            "<span class=\"key-effective\"></span>effective <span class=\"key-declared\"></span>declared \
             <span class=\"key-measured\"></span>measured. ",
        );
        key.text(&format!("What differs by {:.0} points of 100 or less is the same.", TOLERANCE * 100.0));
    });
    if let Some(drill) = of_cpu.filter(|drill| !has_same(drill, due)) {
        note(
            section,
            "The drill had loads for other units than there are now. What it measured are parts of another whole, and stand by \
             themselves:",
        );
        write_other(section, drill);
    }
}

/// Which drill it is.
fn write_drill(section: &mut Markup, page: &Page<'_>) {
    match page.drill {
        None => note(
            section,
            "No drill was given, so nothing here is measured: run \"fairslice drill --json > FILE\" and \"fairslice \
             report --drill FILE\".",
        ),
        Some(Drilled { cpu: None, .. }) => {
            note(section, "The drill that was given did not measure CPU time.");
        }
        Some(drill) => note(section, &format!("Measured by {}.", which(drill, page))),
    }
}

/// A drill, by when and where it was.
pub(super) fn which(drill: &Drilled, page: &Page<'_>) -> String {
    let time = shown(&drill.time);
    match &drill.host {
        host if *host == page.stamp.host => format!("a drill that ended at {time}"),
        Some(host) => format!("a drill that ended at {time} on another host, {}", shown(host)),
        None => format!("a drill that ended at {time} on a host that does not say its name"),
    }
}

/// Whether a drill's parts are of the same whole.
fn has_same(drill: &OfCpu, due: &[Due]) -> bool {
    let then: BTreeSet<&str> = drill.rows.iter().map(|row| row.unit.as_str()).collect();
    let now: Vec<String> = due.iter().map(|due| due.of.unit()).collect();
    then == now.iter().map(String::as_str).collect()
}

fn measured_of(drill: &OfCpu, unit: &str) -> Option<f64> {
    drill.rows.iter().find(|row| row.unit == unit)?.measured
}

fn write_due(body: &mut Markup, due: &Due, measured: Option<f64>) {
    let Due { of, depth, declared, effective } = due;
    let found = measured.map(|measured| Found { predicted: *effective, measured });
    let row = Row { of: of.clone(), depth: *depth, declared: *declared, found };
    let figures = Figures { declared: *declared, effective: Some(*effective), measured };
    let verdict = if measured.is_some() { verdict(&row) } else { "not measured" };
    figures.write(body, &of.name(), *depth, verdict, !row.holds());
}

/// The drill's own rows.
fn write_other(section: &mut Markup, drill: &OfCpu) {
    table::table(section, "CPU time, as the drill saw it", &OF_DRILL, |table| {
        table.element("tbody", &[], |body| {
            for row in &drill.rows {
                let PartsRow { unit, user, depth, declared, predicted, measured } = row;
                let name = called(unit, user.as_ref());
                let is_near = measured.is_some_and(|measured| (measured - declared).abs() <= drill.tolerance);
                let figures = Figures { declared: *declared, effective: *predicted, measured: *measured };
                figures.write(
                    body,
                    &name,
                    (*depth).min(8),
                    if is_near { "yes" } else { "not as declared" },
                    !is_near,
                );
            }
        });
    });
}

/// Parts from 0 to 1.
struct Figures {
    declared: f64,
    effective: Option<f64>,
    measured: Option<f64>,
}

impl Figures {
    fn write(&self, body: &mut Markup, name: &str, depth: usize, verdict: &str, is_bad: bool) {
        body.element("tr", &[], |row| {
            table::name(row, name, depth);
            row.element("td", &[], |cell| self.bar(cell));
            for part in [Some(self.declared), self.effective, self.measured] {
                table::number(row, &part.map_or_else(|| "–".to_owned(), percent));
            }
            table::verdict(row, verdict, is_bad);
        });
    }

    /// The same, drawn.
    fn bar(&self, cell: &mut Markup) {
        let said = |part: Option<f64>| part.map_or_else(|| "not known".to_owned(), percent);
        let title = format!(
            "declared {}, effective {}, measured {}",
            percent(self.declared),
            said(self.effective),
            said(self.measured)
        );
        plot(cell, BAR + 2.0, &title, |svg| {
            let mut bar = |class: &str, x: f64, y: &str, width: f64, height: &str| {
                let [x, width] = [x, width].map(|length| format!("{length:.1}"));
                svg.empty(
                    "rect",
                    &[("class", class), ("x", &x), ("y", y), ("width", &width), ("height", height)],
                );
            };
            let at = |part: f64| part.clamp(0.0, 1.0) * BAR;
            bar("whole", 0.0, "7", BAR, "2");
            bar("effective", 0.0, "4", at(self.effective.unwrap_or(0.0)), "8");
            bar("declared", at(self.declared), "1", 2.0, "14");
            if let Some(measured) = self.measured {
                bar("measured", at(measured) - 2.0, "5", 6.0, "6");
            }
        });
    }
}
