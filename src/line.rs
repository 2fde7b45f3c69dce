//! Somebody else's text, made fit for one line of a log.
#![forbid(unsafe_code)]

/// `text` without control characters, which are escaped, and at most `longest` characters of it.
#[must_use]
pub fn one_line(text: &str, longest: usize) -> String {
    let mut line = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == longest {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(one_line("a \"b\"\n\u{1b}[2J\u{85}", 100), "a \"b\"\\n\\u{1b}[2J\\u{85}");
        assert_eq!(one_line(&"é".repeat(100), 3), "ééé…");
    }
}
