//! Aligned columns.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use anstyle::Style;

use crate::text::shown;

/// What a line looks like.
pub(super) const PLAIN: Style = Style::new();
/// A heading, or what is of less interest.
pub(super) const DIM: Style = Style::new().dimmed();

/// Rows of as many cells, and where a column is aligned.
pub(super) struct Table<const COLUMNS: usize> {
    indent: &'static str,
    right: [bool; COLUMNS],
    rows: Vec<(Style, [String; COLUMNS])>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table of these columns; a heading that begins with `>` is that of a column of numbers.
    pub(super) fn new(head: [&str; COLUMNS]) -> Self {
        let cells = head.map(|text| text.trim_start_matches('>').to_owned());
        Self { indent: "", right: head.map(|text| text.starts_with('>')), rows: vec![(DIM, cells)] }
    }

    /// Two spaces before each line.
    pub(super) fn indented(self) -> Self {
        Self { indent: "  ", ..self }
    }

    /// A cell is shown on one line, whatever is in it.
    pub(super) fn row(&mut self, style: Style, cells: [String; COLUMNS]) {
        self.rows.push((style, cells.map(|cell| shown(&cell).to_string())));
    }

    /// Nothing where there are no rows.
    pub(super) fn write_to(&self, text: &mut String) {
        if self.rows.len() < 2 {
            return;
        }
        let mut widths = [0; COLUMNS];
        for (_, cells) in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for (style, cells) in &self.rows {
            let mut line = self.indent.to_owned();
            for ((cell, width), right) in cells.iter().zip(widths).zip(self.right) {
                // Writing to a string cannot fail.
                let _ =
                    if right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:width$}  ") };
            }
            let _ = writeln!(text, "{style}{}{style:#}", line.trim_end());
        }
    }
}
