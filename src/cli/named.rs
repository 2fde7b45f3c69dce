//! Which cgroup a name stands for: a unit's, a user's, a path.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};

use crate::host::account::Account;
use crate::host::tree::{Id, Tree};
use crate::policy::ServiceName;
use crate::text::{Foreign, shown};

/// The endings that a unit's name may be given without.
const ENDINGS: [&str; 3] = ["service", "slice", "scope"];
/// So many names are offered for one that nothing has.
const MOST_LIKE: usize = 3;

/// The slices of users, with the users' names; the number where nobody has it.
pub(super) fn users(tree: &Tree) -> BTreeMap<Id, Foreign> {
    let name = |uid: u32| match Account::by_uid(uid) {
        Ok(Some(account)) => account.name,
        _ => uid.to_string().into(),
    };
    tree.ids().filter_map(|id| Some((id, name(tree.user(id)?)))).collect()
}

/// The cgroup that is meant by a name.
pub(super) fn find(tree: &Tree, users: &BTreeMap<Id, Foreign>, name: &str) -> Result<Id> {
    if matches!(name, "-.slice" | "/") {
        return Ok(Tree::ROOT);
    }
    if name.contains('/')
        && let Some(id) = tree.find(Path::new(name.trim_matches('/')))
    {
        return Ok(id);
    }
    let is_called = |wanted: &str| tree.in_slices().find(|id| tree.unit(*id) == Some(wanted));
    if let Some(id) = service_in_a_scope(tree, name).or_else(|| is_called(name)) {
        return Ok(id);
    }
    let with_ending = ENDINGS.iter().find_map(|ending| is_called(&format!("{name}.{ending}")));
    let user = users.iter().find(|(_, user)| user.as_str() == Some(name)).map(|(id, _)| *id);
    if let Some(id) = with_ending.or(user) {
        return Ok(id);
    }
    // In a user's own manager, or a container.
    if let Some(id) = tree.ids().find(|id| tree[*id].name == *name) {
        bail!(
            "no unit, and nobody who is logged in, is called {name:?}; of that name there is {}",
            shown(&tree.name(id))
        );
    }
    let units = tree.in_slices().filter_map(|id| tree.unit(id));
    let hint = did_you_mean(name, units.chain(users.values().filter_map(Foreign::as_str)));
    bail!("nothing that runs, and nobody who is logged in, is called \"{}\"{hint}", shown(name))
}

/// The launcher has PID 1 put a service that is in a wrong slice into a scope in the right one; its own
/// cgroup then holds nothing.
fn service_in_a_scope(tree: &Tree, name: &str) -> Option<Id> {
    let service = ServiceName::new(name).ok()?;
    let mut running = tree.in_slices().filter(|id| tree[*id].populated);
    let mut again = tree.in_slices().filter(|id| tree[*id].populated);
    let own = again.find(|id| tree.unit(*id) == Some(service.as_str()));
    own.or_else(|| running.find(|id| tree.unit(*id).is_some_and(|unit| service.has_scope(unit))))
}

/// `: did you mean NAME, NAME?`, of the names that are spelled most like this one, with its ending or without;
/// empty where none is.
pub(super) fn did_you_mean<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let distance = |known: &str| strsim::damerau_levenshtein(stem(name), stem(known));
    let mut known: Vec<(usize, &str)> = known.map(|known| (distance(known), known)).collect();
    known.retain(|(distance, _)| *distance <= 1 + stem(name).chars().count() / 3);
    known.sort_unstable();
    known.dedup();
    let nearest: Vec<&str> = known.into_iter().take(MOST_LIKE).map(|(_, known)| known).collect();
    if nearest.is_empty() { String::new() } else { format!(": did you mean {}?", shown(&nearest.join(", "))) }
}

/// A unit's name without its ending.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, ending)) if ENDINGS.contains(&ending) => stem,
        _ => name,
    }
}
