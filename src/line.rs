//! Somebody else's text, made fit for one line of a log, or for a command line.
#![forbid(unsafe_code)]

/// `text` without characters that a terminal or a viewer acts on, which are escaped, and at most `longest`
/// characters of it.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == longest {
            line.push('…');
            break;
        }
        if character.is_control() || is_layout(character) {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// A word as a shell takes it: names of units can hold a backslash.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-@:,+=%".contains(character);
    if word.chars().all(is_plain) && !word.is_empty() {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Separators of lines and paragraphs, and what reverses the direction of writing: a name must not make
/// the rest of its line look like another.
fn is_layout(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        for (word, taken) in [
            ("user@1000.service", "user@1000.service"),
            (r"dev-disk\x2dby.service", r"'dev-disk\x2dby.service'"),
            ("/etc/it's here", r"'/etc/it'\''s here'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), taken);
        }
    }

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(one_line("a \"b\"\n\u{1b}[2J\u{85}", 100), "a \"b\"\\n\\u{1b}[2J\\u{85}");
        assert_eq!(one_line("a\u{202e}b\u{2028}c", 100), "a\\u{202e}b\\u{2028}c");
        assert_eq!(one_line(&"é".repeat(100), 3), "ééé…");
    }
}
