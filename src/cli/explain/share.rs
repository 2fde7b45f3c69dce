//! `fairslice explain share`.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::cli::out::print;
use crate::cli::say_missed;
use crate::effect::share::{Busy, not_computed, shares};
use crate::enforce::due::{Due, Shared};
use crate::host::tree::{self, Id, Tree};
use crate::policy::Policy;
use crate::report::{self, ShareView};
use crate::survey::{self, named};

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A unit with or without ".service" or ".slice", a user, or a cgroup's path [default: all of them]
    #[arg(value_name = "UNIT|USER|SLICE")]
    of: Option<String>,
    /// Only these are busy, each with a thread for every CPU; and the one that is asked about
    #[arg(long, value_name = "UNIT|USER|SLICE,…", value_delimiter = ',')]
    busy: Vec<String>,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, arguments: &Options) -> Result<u8> {
    let mut tree = Tree::read(root)?;
    tree.read_affinity(root);
    let cpus = tree::online_cpus(root)?;
    let users = named::users(&tree);
    let resolve = |name: &String| named::running(root, &tree, &users, name);
    let of = arguments.of.as_ref().map(resolve).transpose()?;
    let mut named: BTreeSet<Id> = arguments.busy.iter().map(resolve).collect::<Result<_>>()?;
    let busy = if named.is_empty() {
        Busy::Everything
    } else {
        named.extend(of);
        Busy::Only(named)
    };
    let shares = match not_computed(&tree) {
        None => Ok(shares(&tree, cpus, &busy)),
        Some(why) => Err(why),
    };
    let of_groups = of_groups(&survey::declared(root).policy, &tree)?;
    let view = ShareView {
        tree: &tree,
        cpus,
        busy: &busy,
        shares: shares.as_ref(),
        users: &users,
        shared: &of_groups,
    };
    let mut missed = report::missed(&tree, &[]);
    missed.extend(report::missed_shares(&tree));
    let text =
        if arguments.json { report::share_json(&view, of, &missed) } else { report::share_text(&view, of) };
    print(&text)?;
    say_missed(&missed);
    Ok(0)
}

/// The slices of users who share the weight of a group, by the policy.
fn of_groups(policy: &Policy, tree: &Tree) -> Result<BTreeMap<Id, Shared>> {
    let slices: Vec<(Id, u32)> = tree.ids().filter_map(|id| Some((id, tree.user(id)?))).collect();
    if policy.logins.budgets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: Vec<u32> = slices.iter().filter(|(id, _)| tree[*id].populated).map(|(_, uid)| *uid).collect();
    let due = Due::of(policy, &users)?;
    Ok(slices.into_iter().filter_map(|(id, uid)| Some((id, due.shared(policy, uid)?))).collect())
}
