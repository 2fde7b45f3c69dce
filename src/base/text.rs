//! Text that others control: kept as the bytes that it is, made fit for people's eyes in one place.
//!
//! The kernel takes any bytes for the name of a process, a cgroup or a file but NUL (and `/`), and whoever
//! owns the thing chooses them: an escape sequence that clears the screen, a newline that makes a row of its
//! own, a character that turns the direction of writing round. So such text has a type without `Display`: what
//! is printed of it is [`Shown`].
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::str;

use serde::{Serialize, Serializer};

/// Text that others control.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign(OsString);

impl Foreign {
    /// These bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(OsString::from_vec(bytes.into()))
    }

    /// As they are, to be compared and to be handed to the kernel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The text, where it is UTF-8; as foreign as before.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.to_str()
    }

    /// What can be printed of it.
    #[must_use]
    pub fn shown(&self) -> Shown<'_> {
        shown(self)
    }
}

impl AsRef<OsStr> for Foreign {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl AsRef<Path> for Foreign {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&str> for Foreign {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Foreign {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<OsString> for Foreign {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<&Path> for Foreign {
    fn from(path: &Path) -> Self {
        Self(path.into())
    }
}

impl From<PathBuf> for Foreign {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string())
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// JSON loses nothing: a string, or where the text is no UTF-8 an array of its bytes, as
/// `journalctl --output=json` has it.
impl Serialize for Foreign {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.as_bytes().serialize(serializer),
        }
    }
}

/// What can be printed of somebody else's text, on one line: see [`shown`].
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    bytes: &'a [u8],
    longest: usize,
}

/// `text` on one line, with everything escaped that a terminal or a viewer acts on, or that is not seen:
/// control characters as `systemctl` and `ls -b` do (`\n`, `\x1b`), bytes that are no UTF-8 (`\xff`), and
/// characters without a width or that turn the direction of writing round (`\u{202e}`).
///
/// A backslash stays one, as with `systemctl`: `dev-disk\x2dby.device` is a name.
#[must_use]
pub fn shown<T: AsRef<OsStr> + ?Sized>(text: &T) -> Shown<'_> {
    Shown { bytes: text.as_ref().as_bytes(), longest: usize::MAX }
}

impl Shown<'_> {
    /// At most so many characters of it, and `…` for the rest.
    #[must_use]
    pub fn at_most(self, longest: usize) -> Self {
        Self { longest, ..self }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        let mut left = self.longest;
        'text: for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let Some(fewer) = left.checked_sub(1) else { break 'text };
                left = fewer;
                push(&mut line, character);
            }
            for byte in chunk.invalid() {
                let Some(fewer) = left.checked_sub(1) else { break 'text };
                left = fewer;
                // Writing to a string cannot fail.
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
        if left == 0 && self.is_longer() {
            line.push('…');
        }
        f.pad(&line)
    }
}

impl Shown<'_> {
    fn is_longer(&self) -> bool {
        let characters =
            self.bytes.utf8_chunks().map(|chunk| chunk.valid().chars().count() + chunk.invalid().len());
        characters.sum::<usize>() > self.longest
    }
}

/// Lines of our own, at the last place that they pass before they are read: nothing but ends of lines and
/// colours does anything to a terminal, whatever [`shown`] was forgotten for.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((seen, hidden)) =
        rest.find(|c| c != '\n' && is_hidden(c)).and_then(|at| rest.split_at_checked(at))
    {
        lines.push_str(seen);
        let length = colour(hidden);
        let (kept, after) = hidden.split_at_checked(length).unwrap_or_default();
        lines.push_str(kept);
        let mut after = after.chars();
        if length == 0 {
            after.by_ref().take(1).for_each(|character| push(&mut lines, character));
        }
        rest = after.as_str();
    }
    lines + rest
}

/// The length of the sequence that `text` begins with, if that sets nothing but colours and the like: SGR of
/// ECMA-48.
fn colour(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\x1b[") else { return 0 };
    let length = parameters.find(|c: char| !c.is_ascii_digit() && c != ';');
    length
        .filter(|length| parameters.get(*length..).is_some_and(|end| end.starts_with('m')))
        .map_or(0, |length| length + 3)
}

fn push(line: &mut String, character: char) {
    match character {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        // Writing to a string cannot fail.
        control if control.is_ascii_control() => drop(write!(line, "\\x{:02x}", u32::from(control))),
        hidden if is_hidden(hidden) => line.extend(hidden.escape_unicode()),
        seen => line.push(seen),
    }
}

/// Whether a terminal acts on it, or shows nothing of it.
#[must_use]
pub fn is_hidden(character: char) -> bool {
    character.is_control() || !character.is_ascii() && is_unseen(character)
}

/// Separators of lines and paragraphs, what turns the direction of writing round, and what takes no space:
/// Unicode's `Default_Ignorable_Code_Point` with `Bidi_Control`, U+2028, U+2029 and U+FFF9 to U+FFFB.
fn is_unseen(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The part of a text that is UTF-8, of a file or an output whose words are ASCII but for the names in it.
#[must_use]
pub fn utf8_of(text: &[u8]) -> String {
    text.utf8_chunks().map(|chunk| chunk.valid()).collect()
}

/// A word as a shell takes it: names of units can hold a backslash, and names of files anything.
///
/// What [`shown`] would escape is a byte's number, as `ls --quoting-style=shell-escape` has it: `$'a\033b'`,
/// which bash and zsh know, and POSIX since 2024.
#[must_use]
pub fn quoted<T: AsRef<OsStr> + ?Sized>(word: &T) -> String {
    let bytes = word.as_ref().as_bytes();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-@:,+=%".contains(character);
    match str::from_utf8(bytes) {
        Ok(word) if word.chars().all(is_plain) && !word.is_empty() => word.to_owned(),
        Ok(word) if !word.chars().any(is_hidden) => format!("'{}'", word.replace('\'', "'\\''")),
        _ => format!("$'{}'", bytes.iter().map(|byte| in_dollar_quotes(*byte)).collect::<String>()),
    }
}

fn in_dollar_quotes(byte: u8) -> String {
    match byte {
        b'\\' | b'\'' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    }
}

/// So many of a thing: `1 host`, `2 hosts`.
#[must_use]
pub fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What follows the ones that are named: ` and 2 more`.
#[must_use]
pub fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} more") }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        for (word, taken) in [
            ("user@1000.service", "user@1000.service"),
            (r"dev-disk\x2dby.service", r"'dev-disk\x2dby.service'"),
            ("/etc/it's here", r"'/etc/it'\''s here'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
            ("é b", "'é b'"),
            ("a\n'\\\u{1b}7\u{202e}", r"$'a\012\'\\\0337\342\200\256'"),
        ] {
            assert_eq!(quoted(word), taken);
            let bash = Command::new("bash").args(["-c", &format!("printf %s {taken}")]).output().unwrap();
            assert_eq!(bash.stdout, word.as_bytes());
        }
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff")), r"$'a\377'");
    }

    #[test]
    fn what_is_shown_is_one_line() {
        let all = |text: &str| shown(text).to_string();
        assert_eq!(all("a \"b\"\n\u{1b}[2J\u{85}"), "a \"b\"\\n\\x1b[2J\\u{85}");
        assert_eq!(all("a\u{202e}b\u{2028}c\u{200b}d\u{feff}"), "a\\u{202e}b\\u{2028}c\\u{200b}d\\u{feff}");
        assert_eq!(all(r"dev-disk\x2dby é"), r"dev-disk\x2dby é");
        assert_eq!(shown(&Foreign::new(*b"a\xff\x00b\xc3")).to_string(), r"a\xff\x00b\xc3");
    }

    #[test]
    fn of_what_is_printed_only_colours_and_ends_of_lines_do_anything() {
        let red = "\x1b[1m\x1b[38;5;9mFS001\x1b[0m\n";
        assert_eq!(printable(red), red);
        assert_eq!(printable("a\x1b[2Jb\rc\x1b]0;x\x07\x1b[31"), r"a\x1b[2Jb\rc\x1b]0;x\x07\x1b[31");
        assert_eq!(printable("é\u{202e}\u{9b}31m\x1b[?1m"), r"é\u{202e}\u{9b}31m\x1b[?1m");
        assert_eq!(printable(""), "");
    }

    #[test]
    fn what_is_cut_says_so() {
        let cut = |text: &str| shown(text).at_most(3).to_string();
        assert_eq!((cut("éé").as_str(), cut("ééé").as_str(), cut("éééé").as_str()), ("éé", "ééé", "ééé…"));
        assert_eq!(shown(&Foreign::new([0xff; 4])).at_most(3).to_string(), r"\xff\xff\xff…");
        assert_eq!(format!("{:>6}|{:<4}|", shown("abc"), shown("\n")), "   abc|\\n  |");
    }

    #[test]
    fn json_loses_nothing() {
        let json = |bytes: &[u8]| serde_json::to_string(&Foreign::new(bytes)).unwrap();
        assert_eq!(json(b"a\n\x1b"), r#""a\n\u001b""#);
        assert_eq!(json(b"a\xff"), "[97,255]");
    }
}
