//! The one printer of JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde_json::Value;

use crate::text::is_hidden;

/// Indented, on lines of its own. Whatever a terminal acts on, or shows nothing of, is `\uXXXX`: the value is
/// the same.
pub(super) fn json_text(value: &Value) -> String {
    let raw = format!("{value:#}\n");
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.as_str();
    // What is left of that stands in strings; the controls below a space are escaped already.
    while let Some((seen, hidden)) =
        rest.find(|c| c != '\n' && is_hidden(c)).and_then(|at| rest.split_at_checked(at))
    {
        text.push_str(seen);
        let mut after = hidden.chars();
        text.extend(after.by_ref().take(1).map(escaped));
        rest = after.as_str();
    }
    text + rest
}

fn escaped(character: char) -> String {
    let mut text = String::new();
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped_and_the_value_is_the_same() {
        let value = json!({ "a\u{9b}": ["\u{1b}\n", "\u{7f}\\\u{202e}é", "\u{e0001}"] });
        let text = json_text(&value);
        assert!(text.chars().all(|c| c == '\n' || !is_hidden(c)), "{text}");
        assert!(text.contains(r#""\u007f\\\u202eé""#) && text.contains(r#""\udb40\udc01""#), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
