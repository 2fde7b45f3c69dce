//! The tree: the picture, and the same in figures.
#![forbid(unsafe_code)]

use super::markup::Markup;
use super::picture::{self, Form, left_out};
use super::{no_shares, note, table};
use crate::effect::UnitStatus;
use crate::effect::screen::{Picture, Row, What};
use crate::host::pressure::Stalls;
use crate::host::tree::{Id, Tree};
use crate::report::bars::{percent, short};
use crate::report::screen::{MemoryUse, name, rank, thousands, weight};

const HEAD: [&str; 11] = [
    "Unit",
    ">Weight",
    ">Due",
    ">Used",
    ">Waits for CPU",
    ">memory",
    ">I/O",
    ">Memory",
    ">of",
    "Not as declared",
    ">Killed",
];

pub(super) fn write(section: &mut Markup, picture: &Picture) {
    if !no_shares(section, &picture.tree) {
        note(
            section,
            "Among neighbours, the area of a tile is its part of the CPU time when everything is busy. The darker it \
             is (on a dark page, the lighter), the more of that it uses now. The line at its foot is how long its tasks \
             wait for a CPU, memory or I/O: all of the width is all of the last 10 seconds.",
        );
        let [wide, narrow] = [Form::Wide, Form::Narrow].map(|form| form.tiles(picture));
        section.element("figure", &[], |figure| {
            picture::write(figure, picture, Form::Wide, &wide, false);
            picture::write(figure, picture, Form::Narrow, &narrow, false);
            figure.element("figcaption", &[], |caption| {
                caption.line("span", &[("class", "of-wide")], &left_out(&wide));
                caption.line("span", &[("class", "of-narrow")], &left_out(&narrow));
            });
        });
    }
    section.literal("<h3>The same in figures</h3>");
    note(
        section,
        "What the policy names, what differs and what uses something. Due: of the machine's CPU time when everything is \
         busy. Used: of all CPUs, now. Waits: percent of the last 10 seconds. Killed: the place in the kill order.",
    );
    table::table(section, "The tree in figures", &HEAD, |table| {
        table.element("tbody", &[], |body| {
            for row in picture.rows() {
                body.element("tr", &[], |cells| write_row(cells, picture, &row));
            }
        });
    });
}

fn write_row(cells: &mut Markup, picture: &Picture, row: &Row) {
    match row.what {
        What::Folded(count) => {
            let name = format!("{} more", thousands(count as u64));
            table::name(cells, &name, row.ends.len() + 1);
            cells.element("td", &[("colspan", "10")], |_| {});
        }
        What::Cgroup(id) => write_cgroup(cells, picture, id, row.ends.len()),
    }
}

fn write_cgroup(cells: &mut Markup, picture: &Picture, id: Id, ends: usize) {
    let look = picture.seen.get(&id).copied().unwrap_or_default();
    let unit = picture.unit(id);
    // The machine, and what is directly below, have no ends.
    let depth = if id == Tree::ROOT { 0 } else { ends + 1 };
    table::name(cells, &name(picture, id, unit), depth);
    table::number(cells, &dash(weight(&picture.tree[id])));
    for part in [look.figures.share, look.cpu] {
        table::number(cells, &part.map_or("–".to_owned(), percent));
    }
    let pressure = look.usage.pressure;
    for stalls in [pressure.cpu, pressure.memory, pressure.io] {
        table::number(cells, &waits(stalls));
    }
    let memory = MemoryUse::of(picture, id, &look);
    table::number(cells, &memory.as_ref().map_or("–".to_owned(), |memory| short(memory.used)));
    let whole = memory.filter(|memory| memory.is_limited || id == Tree::ROOT);
    table::number(cells, &whole.map(|memory| short(memory.whole)).unwrap_or_default());
    let keys = unit.filter(|unit| unit.differs()).map(differing).unwrap_or_default();
    table::verdict(cells, &keys, true);
    table::number(cells, &dash(rank(look.figures.oom)));
}

fn differing(unit: &UnitStatus) -> String {
    let keys: Vec<&str> = unit.settings.iter().filter(|one| !one.holds).map(|one| one.key).collect();
    keys.join(", ")
}

/// On paper, what is not there is a longer one.
fn dash(text: String) -> String {
    if text == "-" { "–".to_owned() } else { text }
}

fn waits(stalls: Option<Stalls>) -> String {
    stalls.map_or_else(|| "–".to_owned(), |stalls| format!("{:.0} %", stalls.some.avg10))
}
