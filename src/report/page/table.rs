//! Tables: in a box of their own, which scrolls where the page is too narrow for them.
#![forbid(unsafe_code)]

use super::markup::{Attributes, Markup};

/// A table of these columns; a heading that begins with `>` is that of a column of numbers.
pub(super) fn table(section: &mut Markup, label: &str, head: &[&str], rows: impl FnOnce(&mut Markup)) {
    let attributes = [("class", "scroll"), ("role", "region"), ("aria-label", label), ("tabindex", "0")];
    section.element("div", &attributes, |scroll| {
        scroll.element("table", &[], |table| {
            table.element("thead", &[], |thead| {
                thead.element("tr", &[], |row| {
                    for text in head {
                        let number: Attributes<'_> = &[("scope", "col"), ("class", "n")];
                        match text.strip_prefix('>') {
                            Some(text) => row.line("th", number, text),
                            None => row.line("th", &[("scope", "col")], text),
                        }
                    }
                });
            });
            rows(table);
        });
    });
    section.literal("\n");
}

/// The cell that names a row, so many levels in.
pub(super) fn name(row: &mut Markup, text: &str, depth: usize) {
    let style = format!("--depth:{depth}");
    row.element("th", &[("scope", "row"), ("style", &style)], |cell| cell.line("bdi", &[], text));
}

/// The cell that names so many rows.
pub(super) fn name_of_rows(row: &mut Markup, text: &str, rows: usize) {
    let rows = rows.to_string();
    row.element("th", &[("scope", "rowgroup"), ("rowspan", &rows)], |cell| cell.line("bdi", &[], text));
}

pub(super) fn text(row: &mut Markup, text: &str) {
    row.line("td", &[], text);
}

pub(super) fn number(row: &mut Markup, text: &str) {
    row.line("td", &[("class", "n")], text);
}

/// Where something is declared.
pub(super) fn origin(row: &mut Markup, text: &str) {
    row.line("td", &[("class", "origin")], text);
}

/// A word that is marked where it is a bad one, not by its colour alone.
pub(super) fn verdict(row: &mut Markup, text: &str, is_bad: bool) {
    row.line("td", &[("class", if is_bad { "bad" } else { "ok" })], text);
}
