//! A bar in a cell of a table.
#![forbid(unsafe_code)]

use super::markup::Markup;

/// The width of a bar for all of it, in CSS's pixels.
pub(super) const BAR: f64 = 160.0;

/// A drawing so wide, with what it says in words; `content` draws in a height of 16.
pub(super) fn plot(cell: &mut Markup, width: f64, title: &str, content: impl FnOnce(&mut Markup)) {
    let width = width.to_string();
    let view = format!("0 0 {width} 16");
    let attributes =
        [("class", "plot"), ("viewBox", view.as_str()), ("width", &width), ("height", "16"), ("role", "img")];
    cell.element("svg", &attributes, |svg| {
        svg.line("title", &[], title);
        content(svg);
    });
}
