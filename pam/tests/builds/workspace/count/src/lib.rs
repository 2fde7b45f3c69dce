//! Counting.

/// How many words there are.
pub fn words(text: &str) -> usize {
    text.split_whitespace().count()
}
