//! What sets a private directory's variable to something else, after the login has set it.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{Gid, Uid};

use super::as_user::AsUser;
use super::existing::Parent;
use crate::host::account::Account;
use crate::host::assigned::{Assigned, OWN, for_everybody, in_shell, read};
use crate::host::pam::Stack;

/// Where `variable`, which a login of the user's has set to `value`, is set to something else: by the machine's own
/// files, and by the user's. What cannot be read is left out.
#[must_use]
pub fn overridden(
    root: &Path,
    stacks: &[Stack],
    account: &Account,
    variable: &str,
    value: &str,
) -> Vec<Assigned> {
    let mut found = for_everybody(root, stacks, variable);
    found.extend(by_the_user(root, account, variable).unwrap_or_default());
    found.retain(|assigned| {
        let same =
            |given: &String| expanded(given, account).trim_end_matches('/') == value.trim_end_matches('/');
        !assigned.value.as_ref().is_some_and(same)
    });
    found
}

/// In the startup files of shells in a home directory, read with the user's rights.
fn by_the_user(root: &Path, account: &Account, variable: &str) -> Result<Vec<Assigned>> {
    let Some((home, _)) = Parent::at(root, &account.home)? else { return Ok(Vec::new()) };
    let _rights = AsUser::take(Uid::from_raw(account.uid), Gid::from_raw(account.gid))?;
    let mut found = Vec::new();
    for name in OWN {
        // A link may lead anywhere, but not to a file system that need not answer.
        let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let Ok(file) = openat2(&home.descriptor, name, OpenHow::new().flags(flags).resolve(resolve)) else {
            continue;
        };
        let Ok(text) = read(File::from(file)) else { continue };
        let file = account.home.join(name);
        let lines = in_shell(&text, variable).into_iter();
        found.extend(lines.map(|(line, value)| Assigned { file: file.clone(), line, value, by_shell: true }));
    }
    Ok(found)
}

/// A value with what the shell puts in for the user.
fn expanded(value: &str, account: &Account) -> String {
    let (name, uid) = (account.name.shown().to_string(), account.uid.to_string());
    let home = account.home.to_str().unwrap_or_default();
    let value = value.strip_prefix("~/").map_or_else(|| value.to_owned(), |below| format!("{home}/{below}"));
    [
        ("$(id -un)", &*name),
        ("$(whoami)", &name),
        ("`id -un`", &name),
        ("`whoami`", &name),
        ("${USER}", &name),
        ("$USER", &name),
        ("${LOGNAME}", &name),
        ("$LOGNAME", &name),
        ("$(id -u)", &uid),
        ("${UID}", &uid),
        ("$UID", &uid),
        ("${HOME}", home),
        ("$HOME", home),
    ]
    .into_iter()
    .fold(value, |value, (written, stands_for)| value.replace(written, stands_for))
}
