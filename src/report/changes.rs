//! What `fairslice apply` changes.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::enforce::user_slice::Change;

/// A line for each property: what it is and what it should be.
#[must_use]
pub fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "users' slices are as declared\n".to_owned();
    }
    let mut text = String::new();
    for change in changes {
        for changed in &change.properties {
            let live = changed.live.as_deref().unwrap_or("-");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {} {live} -> {}", change.slice, changed.property.key, changed.value);
        }
    }
    text
}
