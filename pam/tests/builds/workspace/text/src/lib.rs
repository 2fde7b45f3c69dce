//! What there is to count.

/// Some words.
pub const TEXT: &str = "one policy file for services and logins";
