//! Who is killed first, as it is computed and as a drill has seen it.
#![forbid(unsafe_code)]

use super::cpu::which;
use super::drilled::called;
use super::markup::Markup;
use super::{Page, note, table};
use crate::effect::kill_order::{contradicted, ranked};
use crate::effect::memory::size;
use crate::host::cgroup;
use crate::report::kill_order::{Order, heading, others};
use crate::text::{Foreign, shown};

const VICTIMS: [&str; 9] = [
    ">Place",
    "Process",
    ">PID",
    "Unit",
    ">Score",
    ">= memory",
    ">+ oom_score_adj",
    ">Used",
    "Takes with it",
];
const DECLARED: [&str; 4] = ["The policy's service", ">Declared", ">Score", "Order"];
const NEVER: [&str; 4] = ["Never killed", ">PID", "Unit", "Because of"];
const DRILLED: [&str; 6] = ["Unit", ">Declared", ">Due place", ">Predicted", ">Killed", ""];

pub(super) fn write(section: &mut Markup, page: &Page<'_>) {
    match page.order {
        None => note(section, "The kill order could not be looked at."),
        Some(order) => write_order(section, order),
    }
    section.literal("<h3>Measured by a drill</h3>");
    match page.drill.and_then(|drill| Some((drill, drill.kills.as_ref()?))) {
        None => note(
            section,
            "No drill of the kill order was given: run \"fairslice drill --cpu --kill-order --json > FILE\" and \"fairslice \
             report --drill FILE\".",
        ),
        Some((drill, kills)) => {
            note(section, &format!("Killed in {}.", which(drill, page)));
            table::table(section, "The kill order, measured", &DRILLED, |table| {
                table.element("tbody", &[], |body| {
                    for row in &kills.rows {
                        let (first, last) = row.due;
                        let due = if first == last { first.to_string() } else { format!("{first}–{last}") };
                        body.element("tr", &[], |cells| {
                            table::name(cells, &called(&row.unit, row.user.as_ref()), 0);
                            table::number(cells, &row.declared_score.to_string());
                            table::number(cells, &due);
                            table::number(cells, &row.predicted.to_string());
                            table::number(cells, &row.killed.to_string());
                            table::verdict(cells, if row.ok { "yes" } else { "no" }, !row.ok);
                        });
                    }
                });
            });
        }
    }
}

fn write_order(section: &mut Markup, order: &Order<'_>) {
    let lines = heading(order);
    note(section, &format!("Place 1 is the next to be killed {}.", lines.join("; ")));
    table::table(section, "Who is killed first", &VICTIMS, |table| {
        table.element("tbody", &[], |body| {
            for (rank, victim, _) in order.victims() {
                let (process, badness) = (victim.process, victim.badness);
                body.element("tr", &[], |row| {
                    table::number(row, &rank.to_string());
                    foreign(row, &process.name);
                    table::number(row, &process.pid.to_string());
                    foreign(row, &cgroup::place(&process.cgroup));
                    table::number(row, &badness.score().to_string());
                    table::number(row, &badness.permille().to_string());
                    table::number(row, &process.oom_score_adj.to_string());
                    table::number(row, &size(badness.memory));
                    table::text(row, &order.takes(victim.takes));
                });
            }
        });
    });
    write_declared(section, order);
    write_never(section, order);
    section.element("ul", &[("class", "others")], |list| {
        for (_, line) in others(order) {
            list.line("li", &[], line.trim_start());
        }
    });
}

fn write_declared(section: &mut Markup, order: &Order<'_>) {
    let ranked = ranked(&order.scene, order.domain, order.policy);
    if ranked.is_empty() {
        return;
    }
    table::table(section, "The policy's services, in the order of kills", &DECLARED, |table| {
        table.element("tbody", &[], |body| {
            for (place, service) in ranked.iter().enumerate() {
                let late: Vec<&str> =
                    contradicted(&ranked, place).map(|other| other.service.as_str()).collect();
                let verdict = match late.as_slice() {
                    [] => "as declared".to_owned(),
                    late => format!("before {}", late.join(", ")),
                };
                body.element("tr", &[], |row| {
                    table::name(row, service.service.as_str(), 0);
                    table::number(row, &service.declared.to_string());
                    table::number(row, &service.badness.score().to_string());
                    table::verdict(row, &verdict, !late.is_empty());
                });
            }
        });
    });
}

fn write_never(section: &mut Markup, order: &Order<'_>) {
    let spared = order.spared();
    if spared.is_empty() {
        return;
    }
    table::table(section, "Never killed", &NEVER, |table| {
        table.element("tbody", &[], |body| {
            for (process, why) in spared {
                body.element("tr", &[], |row| {
                    table::name(row, &shown(&process.name).to_string(), 0);
                    table::number(row, &process.pid.to_string());
                    foreign(row, &cgroup::place(&process.cgroup));
                    table::text(row, &order.why(why));
                });
            }
        });
    });
}

fn foreign(row: &mut Markup, text: &Foreign) {
    row.element("td", &[], |cell| cell.line("bdi", &[], text));
}
