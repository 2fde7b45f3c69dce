//! Which private directories a user gets.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::host::account::Account;
use crate::policy::{Filled, Owner, PathTemplate, PrivateDir, Sourced};

/// What a user gets of one private directory of the policy's.
#[derive(Debug)]
pub(in crate::enforce) enum Wanted {
    /// This directory, and the variable.
    Directory(Filled),
    /// Nothing, and why: `fairslice explain` says it, a login does not.
    Nothing(#[cfg_attr(not(feature = "cli"), expect(dead_code))] String),
}

/// What a user gets of a declared private directory.
///
/// # Errors
/// The user's name does not belong in a path.
pub(in crate::enforce) fn wanted(root: &Path, declared: &PrivateDir, account: &Account) -> Result<Wanted> {
    if let Some(reason) =
        declared.excludes(account.name.as_str(), account.uid, |group| account.is_in(group))?
    {
        return Ok(Wanted::Nothing(reason));
    }
    if let Some(missing) = missing(root, declared) {
        let reason = format!("{} does not exist (only_if, {})", missing.value, missing.origin);
        return Ok(Wanted::Nothing(reason));
    }
    filled(&declared.path.value, account).map(Wanted::Directory).map_err(anyhow::Error::msg)
}

/// The path of `only_if`, if there is none.
pub(super) fn missing<'d>(root: &Path, declared: &'d PrivateDir) -> Option<&'d Sourced<String>> {
    let is_missing = |path: &str| fs::symlink_metadata(root.join(path.trim_start_matches('/'))).is_err();
    declared.only_if.as_ref().filter(|only_if| is_missing(&only_if.value))
}

/// The template for one user.
///
/// # Errors
/// The user's name, group or home does not belong in a path.
pub(super) fn filled(template: &PathTemplate, account: &Account) -> Result<Filled, String> {
    let group = if template.names_group() { account.group() } else { String::new() };
    let user = account.name.as_str().ok_or("the user's name is not UTF-8")?;
    template.fill(Owner { user, uid: account.uid, group: &group, home: &account.home })
}
