//! `fairslice` without arguments: ten lines at most, and the command that helps.
#![allow(missing_docs, clippy::unwrap_used)]

mod fixture;

use std::fs;

use fixture::common;
use fixture::{fairslice, write};

const SERVICES: &str = "sys/fs/cgroup/foundry.slice/foundry-services.slice";

#[test]
fn where_all_is_well_it_says_so() {
    let machine = common::machine("fairslice");
    let expected = "\
policy    /etc/fairslice/policy.toml
in force  18 settings: 2 slices, 5 services, logins of 2 users
found     nothing
next      fairslice status  who uses what, and is due what
";
    assert_eq!(fairslice(machine.path(), &[]), (0, expected.to_owned(), String::new()));
}

#[test]
fn an_installation_ends_with_two_lines_at_most() {
    let machine = common::machine("fairslice");
    let root = machine.path();
    let (code, out, err) = fairslice(root, &["installed"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "fairslice: in force: 18 settings: 2 slices, 5 services, logins of 2 users\n");
    // Started before the policy held it, and nothing else is wrong.
    let service = format!("{SERVICES}/local-fs.service");
    fs::rename(root.join(&service), root.join("sys/fs/cgroup/system.slice/local-fs.service")).unwrap();
    let (code, out, _) = fairslice(root, &["installed"]);
    let expected = "\
fairslice: in force: 17 of 18 settings: 2 slices, 5 services, logins of 2 users; fairslice apply --restart restarts local-fs.service
fairslice: found: 1 severe; the worst is FS015, a service runs outside of its slice and needs a restart: fairslice doctor
";
    assert_eq!((code, out.as_str()), (0, expected));
    write(root, "etc/fairslice/policy.d/50-broken.toml", "[slice\n");
    let (_, out, _) = fairslice(root, &["installed"]);
    assert!(out.ends_with("\nfairslice: the policy has errors: fairslice check\n"), "{out}");
}

#[test]
fn what_is_not_in_force_is_named_with_what_helps() {
    let machine = common::machine("fairslice");
    let root = machine.path();
    write(root, &format!("{SERVICES}/cpu.weight"), "7\n");
    write(
        root,
        "etc/fairslice/policy.d/50-more.toml",
        "[slice.\"other.slice\"]\nmatch = [\"ssh\"]\n[service.local-fs]\noom_score_adj = -400\n",
    );
    let (code, out, _) = fairslice(root, &[]);
    let expected = "\
policy    /etc/fairslice/policy.toml + /etc/fairslice/policy.d/50-more.toml
in force  16 of 19 settings: 2 slices, 5 services, logins of 2 users
not       foundry-services.slice cpu_weight; local-fs.service oom_score_adj; ssh.service slice
found     2 severe; the worst is FS010, what the policy says has not reached PID 1: no daemon-reload since, or no generator
next      fairslice apply   puts in force what needs no restart
          fairslice doctor  says of each finding what causes it, and what helps
";
    assert_eq!((code, out.as_str()), (1, expected));
}

#[test]
fn a_broken_policy_is_said_first() {
    let machine = common::machine("fairslice");
    let root = machine.path();
    write(root, "etc/fairslice/policy.d/50-broken.toml", "[slice\n");
    let (code, out, err) = fairslice(root, &[]);
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(
        out.contains("FS002")
            && out.ends_with("next      fairslice check  each error of the policy, with file and line\n"),
        "{out}"
    );
    fs::remove_dir_all(root.join("etc/fairslice")).unwrap();
    let (code, out, _) = fairslice(root, &[]);
    assert!(code == 1 && out.starts_with("policy    no policy is in force\nin force  nothing\n"), "{out}");
}
