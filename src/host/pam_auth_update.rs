//! Whether `pam-auth-update(8)` still writes `/etc/pam.d/common-*`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

/// What it has written last, without what the administrator added.
const SAVED: &str = "var/lib/pam";
const KINDS: [&str; 5] = ["auth", "account", "password", "session", "session-noninteractive"];

/// Whether it would: it leaves all of its files alone, and says so, once a block of its in one of them has a line that
/// it did not write (`diff_profiles` of `pam-auth-update`).
#[must_use]
pub(super) fn writes(root: &Path) -> bool {
    KINDS.iter().all(|kind| {
        let saved = fs::read_to_string(root.join(SAVED).join(kind));
        let current = fs::read_to_string(root.join(format!("etc/pam.d/common-{kind}")));
        let stack = kind.trim_end_matches("-noninteractive");
        matches!((saved, current), (Ok(saved), Ok(current)) if is_as_saved(&saved, &current, stack))
    })
}

fn is_as_saved(saved: &str, current: &str, kind: &str) -> bool {
    let mut saved = saved.lines().filter(|line| !line.starts_with("Module: ")).map(module);
    let mut blocks = [
        (
            "# here are the per-package modules (the \"Primary\" block)",
            "# here's the fallback if no module succeeds",
        ),
        (
            "# and here are more per-package modules (the \"Additional\" block)",
            "# end of pam-auth-update config",
        ),
    ]
    .into_iter();
    let mut end = None;
    let mut next = blocks.next();
    for line in current.lines() {
        match (end, next) {
            (None, Some((begin, until))) if line.starts_with(begin) => end = Some(until),
            (None, _) => {}
            (Some(until), _) if line.starts_with(until) => {
                end = None;
                next = blocks.next();
            }
            (Some(_), _) => {
                let line = line.strip_prefix(kind).unwrap_or(line).trim_start();
                // One that is missing was taken out, and stays out.
                if !saved.by_ref().any(|saved| saved == module(line)) {
                    return false;
                }
            }
        }
    }
    end.is_none() && next.is_none()
}

/// Control and module of a line without the options, and without how far a jump goes.
fn module(line: &str) -> String {
    let (control, rest) = match line.find(']').filter(|_| line.starts_with('[')) {
        Some(end) => line.split_at(end),
        None => line.split_at(line.find(char::is_whitespace).unwrap_or(line.len())),
    };
    let control = control.replace("end", "").replace(|c: char| c.is_ascii_digit(), "");
    let name = rest.trim_start_matches(']').split_whitespace().next().unwrap_or_default();
    format!("{control} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    const SESSION: &str = "# here are the per-package modules (the \"Primary\" block)\nsession\t[default=1]\t\t\tpam_permit.so\n\
        # here's the fallback if no module succeeds\nsession\trequisite\tpam_deny.so\n\
        # and here are more per-package modules (the \"Additional\" block)\nsession\trequired\tpam_unix.so \n\
        session\toptional\tpam_systemd.so \n# end of pam-auth-update config\n";

    #[test]
    fn a_line_in_its_block_keeps_it_from_writing() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert!(!writes(root));
        let saved = "Module: null\n[default=end]\t\t\tpam_permit.so\nModule: unix\nrequired\tpam_unix.so\n\
                     Module: systemd\noptional\tpam_systemd.so\n";
        for kind in KINDS {
            let stack = kind.trim_end_matches("-noninteractive");
            write(root, &format!("var/lib/pam/{kind}"), saved);
            write(root, &format!("etc/pam.d/common-{kind}"), &SESSION.replace("session", stack));
        }
        assert!(writes(root));
        let limits = "session required pam_limits.so\n";
        for (edit, still) in [
            (format!("{SESSION}{limits}"), true),
            (format!("{limits}{SESSION}"), true),
            (SESSION.replace("session\toptional\tpam_systemd.so \n", ""), true),
            (SESSION.replace("pam_unix.so ", "pam_unix.so debug"), true),
            (SESSION.replace("session\toptional", &format!("{limits}session\toptional")), false),
            (SESSION.replace("session\toptional", "\nsession\toptional"), false),
            (SESSION.replace("# end of pam-auth-update config\n", ""), false),
            (limits.to_owned(), false),
        ] {
            write(root, "etc/pam.d/common-session", &edit);
            assert_eq!(writes(root), still, "{edit}");
        }
    }
}
