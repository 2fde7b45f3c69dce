//! Private directories that a login refuses, or that are open to others.
#![forbid(unsafe_code)]

use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::enforce::private_dir::{Inspected, Trouble};
use crate::host::assigned::Assigned;
use crate::text::{quoted, shown};

/// Codes FS050 to FS056, each path once.
#[must_use]
pub fn findings(inspected: &[Inspected]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for directory in inspected {
        let finding = finding(directory);
        let is_known = |known: &Finding| {
            known.code == finding.code && known.subject == finding.subject && known.at == finding.at
        };
        // What is wrong above them is wrong for every user.
        if !found.iter().any(is_known) {
            found.push(finding);
        }
    }
    found
}

fn finding(inspected: &Inspected) -> Finding {
    let Inspected { variable, origin, user, trouble, path, said, in_users } = inspected;
    let (name, user) = (&quoted(path), user.shown());
    // Where the user may put a link in its place, root would change what that leads to.
    let run = if *in_users { format!("runuser -u {} -- ", quoted(&inspected.user)) } else { String::new() };
    let unset =
        format!("{variable} is not set in logins of {user}, who build in a directory that others share");
    let unset_below = format!("{variable} is not set in the logins whose directories are in it");
    let (code, what, cost, fix) = match trouble {
        Trouble::Owner => (
            Code::DirectoryOwner,
            format!("is not {user}'s"),
            Some(unset),
            Fix::Command(format!("{run}mv {name} {name}.old")),
        ),
        Trouble::Writable => (
            Code::DirectoryMode,
            "others can write to it".to_owned(),
            Some(unset),
            Fix::Command(format!("{run}chmod go-w {name}")),
        ),
        Trouble::Mode { is, declared } => (
            Code::DirectoryMode,
            format!("has mode {is:04o}, declared {declared}"),
            Some(format!("others than {user} can read what is in it")),
            Fix::Command(format!("{run}chmod {declared} {name}")),
        ),
        Trouble::Above => (
            Code::DirectoryRoot,
            "its owner, who is not root, can replace what is in it".to_owned(),
            Some(unset_below),
            Fix::Command(format!("chown root {name}")),
        ),
        Trouble::Open { shared } => (
            Code::DirectoryRoot,
            "others can replace what is in it".to_owned(),
            Some(unset_below),
            Fix::Command(format!("{run}chmod {} {name}", if *shared { "o-w" } else { "go-w" })),
        ),
        // What a team shares stays shared.
        Trouble::Group => (
            Code::DirectoryRoot,
            "members of a group can replace what is in it".to_owned(),
            Some(unset_below),
            Fix::Edit(format!(
                "{origin}: add trusted_groups to [private_dir.{variable}] if all may build what its members can change, or run \"chmod +t {name}\""
            )),
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
            Fix::Command(format!("{run}mv {name} {name}.old")),
        ),
        Trouble::KindAbove => (
            Code::DirectoryKind,
            "is a link or no directory".to_owned(),
            Some(unset_below),
            Fix::Edit(format!("{origin}: declare another path in [private_dir.{variable}]")),
        ),
        Trouble::Others(others) => (
            Code::DirectoryOthers,
            others.to_string(),
            Some(format!("builds of {user} fail where they come to it")),
            Fix::Command(format!("fairslice private-dir reclaim {}", quoted(&inspected.user))),
        ),
        Trouble::Overridden(assigned) => return overridden(inspected, assigned),
        Trouble::Refused { remedy } => (
            Code::DirectoryRefused,
            "cannot be made or reached".to_owned(),
            Some(unset),
            match remedy {
                Some(command) => Fix::Command(command.clone()),
                None => Fix::Edit(format!("{said} ({origin})")),
            },
        ),
    };
    Finding {
        code,
        subject: shown(path).to_string().into(),
        what,
        cost,
        cause: said.clone(),
        at: Some(Place::of_file(path)),
        fix,
    }
}

fn overridden(inspected: &Inspected, assigned: &Assigned) -> Finding {
    let (variable, user) = (&inspected.variable, inspected.user.shown());
    let place = Place { file: assigned.file.clone(), line: Some(assigned.line) };
    let (what, fix) = match &assigned.value {
        Some(value) if !assigned.by_shell => {
            (format!("sets {variable} to {value:?}"), format!("remove {variable} from {place}"))
        }
        Some(value) => (
            format!("sets {variable} to {value:?}"),
            format!(
                "make {place} \"export {variable}=${{{variable}:-...}}\", which keeps what is set, or remove the line"
            ),
        ),
        None => (format!("unsets {variable}"), format!("remove {variable} from {place}")),
    };
    Finding {
        code: Code::VariableOverridden,
        subject: shown(&assigned.file).to_string().into(),
        what,
        cost: Some(format!("what {user} builds there is not in the private directory")),
        cause: inspected.said.clone(),
        at: Some(place),
        fix: Fix::Edit(fix),
    }
}
