//! The one place where HTML and SVG are written: whatever is text in them is escaped here.
//!
//! Names of elements and attributes are those of this program (`&'static str`); what comes from anywhere else can only be
//! text or the value of an attribute, and goes through [`shown`] as on a terminal, and through [`escaped`].
#![forbid(unsafe_code)]

use std::ffi::OsStr;

use crate::text::shown;

/// Names and values of attributes.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

/// Markup in which nothing is anybody else's but text.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Markup of this program's own.
    pub(super) fn literal(&mut self, ours: &'static str) {
        self.0.push_str(ours);
    }

    /// Text on one line, with what cannot be seen made visible.
    pub(super) fn text<T: AsRef<OsStr> + ?Sized>(&mut self, text: &T) {
        self.0.push_str(&escaped(text));
    }

    /// An element, and what is in it.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        content: impl FnOnce(&mut Self),
    ) {
        self.begin(name, attributes);
        self.0.push('>');
        content(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with nothing but text in it.
    pub(super) fn line<T: AsRef<OsStr> + ?Sized>(
        &mut self,
        name: &'static str,
        attributes: Attributes<'_>,
        text: &T,
    ) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// An element of SVG's without anything in it.
    pub(super) fn empty(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.begin(name, attributes);
        self.0.push_str("/>");
    }

    fn begin(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            self.0.push_str(&escaped(*value));
            self.0.push('"');
        }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// What is neither markup nor the end of an attribute's value, in HTML and in XML.
fn escaped<T: AsRef<OsStr> + ?Sized>(text: &T) -> String {
    let text = shown(text).to_string();
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Foreign;

    #[test]
    fn what_is_text_stays_text() {
        let mut page = Markup::default();
        let name = Foreign::new(*b"</td><script>\"&'\xff\x1b\n");
        page.element("td", &[("title", "\"><script>'"), ("class", "a")], |cell| cell.text(&name));
        page.empty("rect", &[("x", "1")]);
        page.line("b", &[], "\u{202e}é");
        assert_eq!(
            page.into_string(),
            "<td title=\"&quot;&gt;&lt;script&gt;&#39;\" class=\"a\">&lt;/td&gt;&lt;script&gt;&quot;&amp;&#39;\\xff\\x1b\\n\
             </td><rect x=\"1\"/><b>\\u{202e}é</b>"
        );
    }
}
