//! Which private directories a user gets.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::host::account::Account;
use crate::policy::{Filled, Owner, PrivateDir};

/// What a user gets of one private directory of the policy's.
#[derive(Debug)]
pub enum Wanted {
    /// This directory, and the variable.
    Directory(Filled),
    /// Nothing, and why.
    Nothing(String),
}

/// What a user gets of a declared private directory.
///
/// # Errors
/// The user's name does not belong in a path.
pub fn wanted(root: &Path, declared: &PrivateDir, account: &Account) -> Result<Wanted> {
    if !account.is_person() {
        return Ok(Wanted::Nothing(format!("uid {} is no person's", account.uid)));
    }
    if let Some(only_if) = &declared.only_if {
        let path = root.join(only_if.value.trim_start_matches('/'));
        if fs::symlink_metadata(path).is_err() {
            return Ok(Wanted::Nothing(format!(
                "{} does not exist (only_if, {})",
                only_if.value, only_if.origin
            )));
        }
    }
    let group = if declared.path.value.names_group() { account.group() } else { String::new() };
    let owner = Owner { user: &account.name, uid: account.uid, group: &group };
    declared.path.value.fill(owner).map(Wanted::Directory).map_err(anyhow::Error::msg)
}
