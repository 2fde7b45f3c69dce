//! What unit files say, read as systemd does.
//!
//! `systemd.syntax(7)`; where it leaves something open, systemd's own `conf-parser.c`. The crate
//! `systemd-unit-edit` (0.1.4) would not do: an indented assignment, and a comment inside a continued line, which
//! both stand in real units, are errors to it.
#![forbid(unsafe_code)]

use std::path::Path;
use std::str;
use std::sync::Arc;

/// What systemd takes for white space.
pub const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];
/// That of UTF-8, which systemd skips.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One line `KEY=VALUE` of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Without its brackets.
    pub section: String,
    /// What is set.
    pub key: String,
    /// To what; a line that goes on after a backslash is one line.
    pub value: String,
    /// The file, relative to the root.
    pub file: Arc<Path>,
    /// The line that it begins on, counted from 1.
    pub line: usize,
}

/// The assignments of `keys` that hold, of a setting that collects: an empty one undoes those before
/// it. Of a setting with one value, the last one holds.
#[must_use]
pub fn in_force<'a>(assignments: &'a [Assignment], section: &str, keys: &[&str]) -> Vec<&'a Assignment> {
    let of_key = assignments.iter().filter(|a| a.section == section && keys.contains(&a.key.as_str()));
    of_key.fold(Vec::new(), |mut held, assignment| {
        if assignment.value.is_empty() {
            held.clear();
        } else {
            held.push(assignment);
        }
        held
    })
}

/// A line that is no assignment, no section and no comment: systemd leaves it out (`Missing '='`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    /// Without its brackets; empty outside of all.
    pub section: String,
    /// The whole line.
    pub text: String,
    /// Where it begins, counted from 1.
    pub line: usize,
}

/// What systemd reads of a file.
#[derive(Debug, Default)]
pub struct Text {
    /// In the order of their lines.
    pub assignments: Vec<Assignment>,
    /// The lines without a `=`.
    pub bare: Vec<Bare>,
    /// The line at which systemd stops, since it is not UTF-8 or the beginning of a section without its end:
    /// `parse_line` of `conf-parser.c`. With such a unit file the unit is not loaded; of a drop-in, what
    /// stands before holds.
    pub stops: Option<usize>,
}

/// The assignments of `file` with this text. One that stands in no section has an empty one.
#[must_use]
pub fn parse(text: impl AsRef<[u8]>, file: &Path) -> Vec<Assignment> {
    parse_whole(text.as_ref(), file).assignments
}

/// The same, and how far systemd reads it.
#[must_use]
pub fn parse_whole(text: &[u8], file: &Path) -> Text {
    let file: Arc<Path> = Arc::from(file);
    let mut read = Text::default();
    let mut section = String::new();
    for (line, text) in logical_lines(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)) {
        let Ok(text) = str::from_utf8(&text) else { return Text { stops: Some(line), ..read } };
        let text = text.trim_matches(WHITESPACE);
        if let Some(name) = text.strip_prefix('[') {
            let Some(name) = name.strip_suffix(']') else { return Text { stops: Some(line), ..read } };
            name.clone_into(&mut section);
        } else if let Some((key, value)) = text.split_once('=') {
            read.assignments.push(Assignment {
                section: section.clone(),
                key: key.trim_matches(WHITESPACE).to_owned(),
                value: value.trim_matches(WHITESPACE).to_owned(),
                file: Arc::clone(&file),
                line,
            });
        } else if !text.is_empty() {
            read.bare.push(Bare { section: section.clone(), text: text.to_owned(), line });
        }
    }
    read
}

/// Lines that end in a backslash go on in the next; comments are left out, also between those, and before it is
/// asked whether a line is UTF-8.
fn logical_lines(text: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, text) in text.split(|byte| *byte == b'\n').enumerate() {
        if text.trim_ascii_start().starts_with(b"#") || text.trim_ascii_start().starts_with(b";") {
            continue;
        }
        let (number, mut line) = open.take().unwrap_or_else(|| (index + 1, Vec::new()));
        line.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        let backslashes = line.iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 1 {
            line.pop();
            line.push(b' ');
            open = Some((number, line));
        } else {
            lines.push((number, line));
        }
    }
    lines.extend(open);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_systemds() {
        let text = "\u{feff}# c\nA=outside\n[Service] \n  Key = v w \nEmpty=\nno assignment\n\
                    Long=a \\\n# c\n ; c\n  b\\\\\\\n\tc\\\\\nNext=1\n[Unit]\nLast=x \\\n";
        let found: Vec<_> =
            parse(text, Path::new("f")).into_iter().map(|a| (a.section, a.key, a.value, a.line)).collect();
        let expected = [
            ("", "A", "outside", 2),
            ("Service", "Key", "v w", 4),
            ("Service", "Empty", "", 5),
            ("Service", "Long", "a    b\\\\ \tc\\\\", 7),
            ("Service", "Next", "1", 12),
            ("Unit", "Last", "x", 14),
        ];
        let expected = expected.map(|(s, k, v, line)| (s.to_owned(), k.to_owned(), v.to_owned(), line));
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_without_an_equals_sign_are_no_assignments() {
        let read = parse_whole(b"Out 1\n[Service]\n Memory \\\n  512M \n\n# c\nA=1\n", Path::new("f"));
        let bare =
            |section: &str, text: &str, line| Bare { section: section.into(), text: text.into(), line };
        assert_eq!(read.bare, [bare("", "Out 1", 1), bare("Service", "Memory    512M", 3)]);
        assert_eq!(read.assignments.len(), 1);
    }

    #[test]
    fn a_comment_may_be_of_any_bytes_and_another_line_that_is_not_utf_8_is_the_last() {
        let keys = |text: &[u8]| {
            let read = parse_whole(text, Path::new("f"));
            (read.assignments.into_iter().map(|a| a.key).collect::<Vec<_>>(), read.stops)
        };
        let expected =
            |keys: &[&str], stops| (keys.iter().map(ToString::to_string).collect::<Vec<_>>(), stops);
        let comments = b"# caf\xe9\n[Unit]\n ;\xff\nA=1 \\\n# \xe9\n2\nB=1\n";
        assert_eq!(keys(comments), expected(&["A", "B"], None));
        let value = b"[Unit]\nA=1\nB=caf\xe9\nC=1\n[Service]\nD=1\n";
        assert_eq!(keys(value), expected(&["A"], Some(3)));
        assert_eq!(keys(b"[Unit]\nA=1\n[Caf\xe9]\nB=1\n"), expected(&["A"], Some(3)));
        assert_eq!(keys(b"[Unit]\nA=1\n[Service\nB=1\n[Unit]\nC=1\n"), expected(&["A"], Some(3)));
    }

    #[test]
    fn an_empty_assignment_undoes_those_before_it() {
        let found = parse("[Service]\nA=1\nB=2\nA=\nA=3\nB=4\n[Unit]\nA=5\n", Path::new("f"));
        let values = |keys: &[&str]| -> Vec<_> {
            in_force(&found, "Service", keys).into_iter().map(|a| a.value.as_str()).collect()
        };
        assert_eq!(values(&["A"]), ["3"]);
        assert_eq!(values(&["B"]), ["2", "4"]);
        assert_eq!(values(&["A", "B"]), ["3", "4"]);
    }
}
