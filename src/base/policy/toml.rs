//! Keys and strings as TOML has them, to be pasted into a policy.
#![forbid(unsafe_code)]

use std::fmt::Display;

use crate::text::is_hidden;

/// A key: bare where it can be.
#[must_use]
pub fn key(name: &(impl Display + ?Sized)) -> String {
    let text = name.to_string();
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !text.is_empty() && text.bytes().all(bare) { text } else { quoted(&text) }
}

/// A basic string, `toml.io/en/v1.0.0#string`.
#[must_use]
pub fn quoted(value: &(impl Display + ?Sized)) -> String {
    let escaped = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        hidden if is_hidden(hidden) => format!("\\U{:08x}", u32::from(hidden)),
        seen => seen.to_string(),
    };
    format!("\"{}\"", value.to_string().chars().map(escaped).collect::<String>())
}
