//! Private directories that a login refuses, or that are open to others.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use crate::effect::finding::{Code, Finding, Fix, Place};
use crate::policy::{DirMode, Origin};
use crate::text::{Foreign, quoted, shown};

/// A private directory of one user, as far as something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The variable of `[private_dir.VARIABLE]`.
    pub variable: String,
    /// Where the policy declares it.
    pub origin: Origin,
    /// The user's name.
    pub user: Foreign,
    /// What is wrong.
    pub trouble: Trouble,
    /// The path that is wrong: the directory, or one above it. Absolute.
    pub path: PathBuf,
    /// What a login says of it: what is wrong, and what to do.
    pub said: String,
}

/// What can be wrong with a private directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It belongs to somebody else.
    Owner,
    /// Others may write to it.
    Writable,
    /// Others may do with it what the declared mode does not let them; a login takes it all the same.
    Mode {
        /// The bits of its mode.
        is: u32,
        /// The mode that one gets that is made.
        declared: DirMode,
    },
    /// A directory above it belongs to somebody else than root and the user.
    Above,
    /// Others can write to a directory above it.
    Open,
    /// Somebody else than root and the user has mounted it, or a directory above it.
    Mounted,
    /// It, or a directory above it, is a link or no directory.
    Kind,
    /// It cannot be made or reached.
    Refused,
}

/// Codes FS050 to FS054, each path once.
#[must_use]
pub fn findings(inspected: &[Inspected]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for directory in inspected {
        let finding = finding(directory);
        let is_known = |known: &Finding| known.code == finding.code && known.subject == finding.subject;
        // What is wrong above them is wrong for every user.
        if !found.iter().any(is_known) {
            found.push(finding);
        }
    }
    found
}

fn finding(inspected: &Inspected) -> Finding {
    let Inspected { variable, origin, user, trouble, path, said } = inspected;
    let (name, user) = (&quoted(path), user.shown());
    let unset =
        format!("{variable} is not set in logins of {user}, who build in a directory that others share");
    let unset_below = format!("{variable} is not set in the logins whose directories are in it");
    let (code, what, cost, fix) = match trouble {
        Trouble::Owner => (
            Code::DirectoryOwner,
            format!("is not {user}'s"),
            Some(unset),
            Fix::Command(format!("mv {name} {name}.old")),
        ),
        Trouble::Writable => (
            Code::DirectoryMode,
            "others can write to it".to_owned(),
            Some(unset),
            Fix::Command(format!("chmod go-w {name}")),
        ),
        Trouble::Mode { is, declared } => (
            Code::DirectoryMode,
            format!("has mode {is:04o}, declared {declared}"),
            Some(format!("others than {user} can read what is in it")),
            Fix::Command(format!("chmod {declared} {name}")),
        ),
        Trouble::Above => (
            Code::DirectoryRoot,
            "its owner, who is not root, can replace what is in it".to_owned(),
            Some(unset_below),
            Fix::Command(format!("chown root {name}")),
        ),
        Trouble::Open => (
            Code::DirectoryRoot,
            "others can replace what is in it".to_owned(),
            Some(unset_below),
            Fix::Command(format!("chmod go-w {name}")),
        ),
        Trouble::Mounted => (
            Code::DirectoryRoot,
            "was mounted by somebody else than root".to_owned(),
            Some(unset_below),
            // Without -l, umount asks a server that need not answer.
            Fix::Command(format!("umount -l {name}")),
        ),
        Trouble::Kind => (
            Code::DirectoryKind,
            "is a link or no directory".to_owned(),
            Some(unset),
            Fix::Command(format!("mv {name} {name}.old")),
        ),
        Trouble::Refused => (
            Code::DirectoryRefused,
            "cannot be made or reached".to_owned(),
            Some(unset),
            Fix::Edit(format!("see {origin}, and \"fairslice explain login {}\"", quoted(&inspected.user))),
        ),
    };
    Finding {
        code,
        subject: shown(path).to_string(),
        what,
        cost,
        cause: said.clone(),
        at: Some(Place::of_file(path)),
        fix,
    }
}
