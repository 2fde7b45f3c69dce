//! A policy that was imported, with what is to be known of it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::doctor::finding::Finding;
use crate::enforce::import::Import;
use crate::text::shown;

const HEADER: &str = "\
# What was set up by hand on this machine, as a policy: printed by \"fairslice import\".
# Behind each value is the file and line that it comes from. Units get what they have now.
";
const NOTHING: &str = "# Nothing is set by hand that the policy does not say already.\n";

/// The whole text: TOML, with comments. `found` is what the doctor finds on the machine, or why it could not look.
#[must_use]
pub fn import_text(import: &Import, found: &Result<Vec<Finding>, String>) -> String {
    let mut text = HEADER.to_owned();
    text.push_str(if import.tables.is_empty() { NOTHING } else { &import.tables });
    if !import.until_boot.is_empty() {
        text.push_str("\n# Set until the next boot. To keep it, add it to the policy:\n");
        text.push_str(&import.until_boot);
    }
    let left = import.left.iter().map(|left| {
        let unit = if left.line.says.is_empty() { String::new() } else { format!("{}: ", left.unit) };
        format!("{unit}{} ({}): {}", left.line.says, left.line.place(), left.why)
    });
    block(&mut text, "Not said by the policy. It stays where it is, and holds as it does now:", left);
    match found {
        Ok(found) => {
            let found = found.iter().filter(|finding| is_about(import, finding)).map(|finding| {
                let at = finding.at.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
                format!("{} {}: {}{at}", finding.code, finding.subject, finding.what)
            });
            let heading = "Not in force as it was meant, with the policy or without (\"fairslice doctor\" has the fixes):";
            block(&mut text, heading, found);
        }
        Err(error) => {
            let line = [format!("not looked at: {error}")].into_iter();
            block(&mut text, "What of it is not in force today:", line);
        }
    }
    block(&mut text, "Could not be read, and may set more:", import.unread.iter().cloned());
    text
}

/// Whether a finding is about something that was set by hand.
fn is_about(import: &Import, finding: &Finding) -> bool {
    finding.at.as_ref().is_some_and(|at| import.files.contains(&at.file))
}

fn block(text: &mut String, heading: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n# {heading}");
    for line in lines {
        let _ = writeln!(text, "#   {}", shown(&line));
    }
}
