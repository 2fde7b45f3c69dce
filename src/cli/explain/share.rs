//! `fairslice explain share`.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::cli::out::print;
use crate::cli::say_missed;
use crate::effect::io_share::io_shares;
use crate::effect::share::{Busy, not_computed, shares};
use crate::enforce::due::{Due, Shared};
use crate::host::disk::Disks;
use crate::host::io_weights;
use crate::host::tree::{self, Id, Tree};
use crate::policy::Policy;
use crate::report::{self, IoShareView, ShareView};
use crate::survey::{self, named};
use crate::text::Foreign;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// A unit with or without ".service" or ".slice", a user, or a cgroup's path [default: all of them]
    #[arg(value_name = "UNIT|USER|SLICE")]
    of: Option<String>,
    /// Only these are busy, each with a thread for every CPU; and the one that is asked about
    #[arg(long, value_name = "UNIT|USER|SLICE,…", value_delimiter = ',')]
    busy: Vec<String>,
    /// The time of each disk instead of the CPUs'
    #[arg(long)]
    io: bool,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, arguments: &Options) -> Result<u8> {
    let tree = if arguments.io { Tree::read_weights(root)? } else { with_limits(root)? };
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
    let asked = Asked { root, tree: &tree, users: &users, busy: &busy, of };
    let mut missed = report::missed(&tree, &[]);
    let text = if arguments.io {
        asked.of_disks(arguments.json.then_some(&missed))
    } else {
        missed.extend(report::missed_shares(&tree));
        asked.of_cpus(arguments.json.then_some(&missed))?
    };
    print(&text)?;
    say_missed(&missed);
    Ok(0)
}

/// With all that shares of the CPUs are computed from.
fn with_limits(root: &Path) -> Result<Tree> {
    let mut tree = Tree::read(root)?;
    tree.read_affinity(root);
    Ok(tree)
}

/// What is to be said, of whom.
struct Asked<'a> {
    root: &'a Path,
    tree: &'a Tree,
    users: &'a BTreeMap<Id, Foreign>,
    busy: &'a Busy,
    of: Option<Id>,
}

impl Asked<'_> {
    /// As text; as JSON with what was missed.
    fn of_cpus(&self, json: Option<&Vec<String>>) -> Result<String> {
        let cpus = tree::online_cpus(self.root)?;
        let shares = match not_computed(self.tree) {
            None => Ok(shares(self.tree, cpus, self.busy)),
            Some(why) => Err(why),
        };
        let of_groups = of_groups(&survey::declared(self.root).policy, self.tree)?;
        let view = ShareView {
            tree: self.tree,
            cpus,
            busy: self.busy,
            shares: shares.as_ref(),
            users: self.users,
            shared: &of_groups,
        };
        Ok(match json {
            Some(missed) => report::share_json(&view, self.of, missed),
            None => report::share_text(&view, self.of),
        })
    }

    /// The same of each disk.
    fn of_disks(&self, json: Option<&Vec<String>>) -> String {
        let weights = io_weights::read(self.root, self.tree);
        let disks = Disks::read(self.root).all.into_iter();
        let disks = disks.map(|disk| {
            let levels = io_shares(self.tree, &weights, &disk, self.busy);
            (disk, levels)
        });
        let disks: Vec<_> = disks.collect();
        let view = IoShareView {
            tree: self.tree,
            busy: self.busy,
            weights: &weights,
            disks: &disks,
            users: self.users,
        };
        match json {
            Some(missed) => report::io_share_json(&view, self.of, missed),
            None => report::io_share_text(&view, self.of),
        }
    }
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
