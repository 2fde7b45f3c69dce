//! The one way out: nothing reaches a terminal that was not made fit for it.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "this is where it is allowed")]

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::text::{printable, shown};

/// To stdout: lines of our own, with colours where there is a terminal.
pub(super) fn print(text: &str) -> io::Result<()> {
    anstream::stdout().write_all(printable(text).as_bytes())
}

/// The same to stderr.
pub(super) fn print_error(text: &str) {
    anstream::eprint!("{}", printable(text));
}

/// One line to stderr, whatever is in it.
pub(super) fn say(line: impl Display) {
    anstream::eprintln!("{}", shown(&line.to_string()));
}
