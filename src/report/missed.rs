//! What could not be looked at, said and counted.
#![forbid(unsafe_code)]

use super::screen::thousands;
use crate::effect::share::not_computed;
use crate::host::Unread;
use crate::host::cgroup_directory::{DEEPEST, MOST};
use crate::host::tree::Tree;
use crate::text::{and_more, counted, shown};

/// So many of a kind are named.
const NAMED: usize = 3;

/// A line for the processes, one for the cgroups, and one for each cgroup in which not everything was read.
#[must_use]
pub fn missed(tree: &Tree, processes: &[Unread]) -> Vec<String> {
    let kinds = [("process", "processes", processes), ("cgroup", "cgroups", &tree.unread)];
    let mut lines: Vec<String> =
        kinds.into_iter().filter_map(|(one, many, unread)| named(one, many, unread)).collect();
    lines.extend(tree.cut.iter().map(|cut| {
        let more = cut.left.map_or("more".to_owned(), |left| format!("{} more", thousands(left)));
        let place = tree.absolute(cut.id);
        format!(
            "{more} cgroups in {} ({DEEPEST} levels and {} of them are read; what the others use counts above them)",
            shown(&place),
            thousands(MOST as u64),
        )
    }));
    lines
}

/// A line for shares of the CPUs, where they are not computed.
#[must_use]
pub fn missed_shares(tree: &Tree) -> Option<String> {
    Some(format!("shares of the CPUs: {}", not_computed(tree)?))
}

/// `3 processes: 12 (reading /proc/12/stat: Permission denied (os error 13)), …`
fn named(one: &str, many: &str, unread: &[Unread]) -> Option<String> {
    let each = unread.iter().take(NAMED).map(|unread| format!("{} ({})", unread.what.shown(), unread.why));
    let named = each.collect::<Vec<_>>().join(", ");
    let more = and_more(unread.len().saturating_sub(NAMED));
    (!unread.is_empty()).then(|| format!("{}: {named}{more}", counted(unread.len(), one, many)))
}
