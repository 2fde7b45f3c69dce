//! What memory settings come to.
#![forbid(unsafe_code)]

use super::cpu::which;
use super::drilled::{MemoryRow, PartsRow, called};
use super::markup::Markup;
use super::plot::{BAR, plot};
use super::{Page, note, table};
use crate::effect::memory::size;
use crate::effect::screen::Picture;
use crate::host::tree::Id;
use crate::report::drill::in_bytes;
use crate::report::memory::{DELAYED, Outcome, outcomes};
use crate::report::screen::{MemoryUse, name};

const HEAD: [&str; 8] =
    ["Unit", "Used of what it can have", ">Used", "Setting", ">Set", ">Effective", ">Kept now", "Because of"];

const OF_DRILL: [&str; 4] = [">Declared", ">Predicted", ">Measured", "As declared"];

pub(super) fn write(section: &mut Markup, page: &Page<'_>) {
    write_settings(section, page);
    write_drill(section, page);
}

fn write_settings(section: &mut Markup, page: &Page<'_>) {
    let picture = page.picture;
    let all = outcomes(&picture.tree, page.protections);
    if all.is_empty() {
        note(section, "No cgroup has a memory setting.");
        return;
    }
    note(
        section,
        "min and low keep memory from reclaim, as far as each slice above allows; high and max are ceilings, and of those \
         above each other the tightest holds. What comes to something else than it says is marked, with what makes it so.",
    );
    table::table(section, "Memory settings", &HEAD, |table| {
        for (id, outcomes) in &all {
            table.element("tbody", &[], |body| write_cgroup(body, picture, *id, outcomes));
        }
    });
    section.literal(
        "<p class=\"key\"><span class=\"key-effective\"></span>used <span class=\"key-kept\"></span>of that protected</p>",
    );
    let has_low = || all.iter().flat_map(|(_, outcomes)| outcomes).any(|outcome| outcome.setting == "low");
    if page.multi_gen_lru && has_low() {
        note(section, DELAYED.trim_end());
    }
}

fn write_drill(section: &mut Markup, page: &Page<'_>) {
    section.literal("<h3>Measured by a drill</h3>");
    let Some((drill, memory)) = page.drill.and_then(|drill| Some((drill, drill.memory.as_ref()?))) else {
        note(
            section,
            "No drill of memory was given: run \"fairslice drill --cpu --memory --json > FILE\" and \"fairslice report \
             --drill FILE\".",
        );
        return;
    };
    note(
        section,
        &format!(
            "Measured in a model of {} by {}: what was left to each where memory was short, and what each had that has a \
             ceiling. Sizes are those of the machine.",
            size(memory.bytes),
            which(drill, page)
        ),
    );
    for (what, rows) in [("Protected", &memory.protected), ("Ceiling", &memory.ceilings)] {
        if !rows.is_empty() {
            let head: Vec<&str> = [what].into_iter().chain(OF_DRILL).collect();
            let label = format!("{what}, measured");
            table::table(section, &label, &head, |table| {
                table.element("tbody", &[], |body| rows.iter().for_each(|row| write_measured(body, row)));
            });
        }
    }
}

fn write_measured(body: &mut Markup, measured: &MemoryRow) {
    let MemoryRow { parts, ok, of_bytes } = measured;
    let PartsRow { unit, user, depth, declared, predicted, measured } = parts;
    body.element("tr", &[], |row| {
        table::name(row, &called(unit, user.as_ref()), (*depth).min(8));
        for part in [Some(*declared), *predicted, *measured] {
            table::number(row, &part.map(|part| size(in_bytes(part, *of_bytes))).unwrap_or_default());
        }
        let is_bad = *ok != Some(true);
        table::verdict(row, if is_bad { "no" } else { "yes" }, is_bad);
    });
}

fn write_cgroup(body: &mut Markup, picture: &Picture, id: Id, outcomes: &[Outcome]) {
    let rows = outcomes.len().to_string();
    let look = picture.seen.get(&id).copied().unwrap_or_default();
    let memory = MemoryUse::of(picture, id, &look);
    for (at, outcome) in outcomes.iter().enumerate() {
        let Outcome { setting, set, effective, now, because } = outcome;
        body.element("tr", &[], |row| {
            if at == 0 {
                table::name_of_rows(row, &name(picture, id, picture.unit(id)), outcomes.len());
                row.element("td", &[("rowspan", &rows)], |cell| {
                    if let Some(memory) = &memory {
                        bar(cell, memory);
                    }
                });
                let used = memory.as_ref().map(|memory| size(memory.used)).unwrap_or_default();
                row.line("td", &[("rowspan", &rows), ("class", "n")], &used);
            }
            table::text(row, setting);
            for bytes in [Some(*set), Some(*effective), *now] {
                table::number(row, &bytes.map(size).unwrap_or_default());
            }
            table::verdict(row, because.as_deref().unwrap_or_default(), because.is_some());
        });
    }
}

/// What is used, and how much of that is protected, of the ceiling or the RAM.
#[allow(clippy::cast_precision_loss, reason = "a part of a bar")]
fn bar(cell: &mut Markup, memory: &MemoryUse) {
    let MemoryUse { used, protected, whole, .. } = *memory;
    let kept = protected.min(used);
    let title = format!("uses {} of {}, of which {} are protected", size(used), size(whole), size(kept));
    plot(cell, BAR, &title, |svg| {
        let mut part = |class: &str, bytes: u64, y: &str, height: &str| {
            let width = format!("{:.1}", (bytes as f64 / whole.max(1) as f64).min(1.0) * BAR);
            svg.empty("rect", &[("class", class), ("y", y), ("width", &width), ("height", height)]);
        };
        part("whole", whole, "7", "2");
        part("effective", used, "4", "8");
        part("kept", kept, "4", "8");
    });
}
