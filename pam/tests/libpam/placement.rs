//! Logins that are in no user's slice: nobody else has placed them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::machine::{DONE, LIMIT, Machine, PAM_SUCCESS, answer, as_root};

/// A machine on which a service opens a session that is in no user's slice.
fn misplaced(service: &'static str, arguments: &str) -> Machine {
    let machine = Machine::with_service(service, arguments);
    machine.in_slice_of(0, 100);
    machine.write("proc/self/cgroup", "0::/system.slice/ssh.service\n");
    machine
}

#[test]
fn a_login_that_logind_did_not_place() {
    if !as_root("a_login_that_logind_did_not_place") {
        return;
    }
    // PID 1 agrees, and moves it some time later.
    let machine = misplaced("sshd", "strict");
    let cgroup = machine.root.join("proc/self/cgroup");
    machine.pid1(move |peer| {
        answer(peer, DONE);
        // At once, as the kernel does it.
        let next = cgroup.with_extension("next");
        fs::write(&next, "0::/user.slice/user-0.slice/fairslice-login-1.scope\n").unwrap();
        fs::rename(next, &cgroup).unwrap();
    });
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS), "{:?}", told.log);
    assert!(fs::read_to_string(machine.root.join("proc/self/cgroup")).unwrap().contains("user-0.slice"));

    // It agrees, and does nothing.
    let machine = misplaced("sshd", "");
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 1), "{:?}", told.log);
    let said = "not placed in user-0.slice: waiting for fairslice-login-";
    assert!(told.log.concat().contains(said), "{:?}", told.log);
    assert!(told.milliseconds < LIMIT, "took {} ms", told.milliseconds);

    // What is no login is none of PID 1's business.
    assert_eq!(misplaced("cron", "strict").open("root").open, PAM_SUCCESS);
}

#[test]
fn a_login_that_cannot_be_placed_without_systemd() {
    if !as_root("a_login_that_cannot_be_placed_without_systemd") {
        return;
    }
    let machine = misplaced("sshd", "");
    fs::remove_dir(machine.root.join("run/systemd/system")).unwrap();
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS));
    assert!(told.log.concat().contains("not placed in user-0.slice: no cgroup2"), "{:?}", told.log);

    // Here the slices can be made, and the scope cannot be entered: what was begun is undone.
    for attribute in ["cgroup.controllers", "cgroup.subtree_control", "user.slice/cgroup.subtree_control"] {
        machine.write(&format!("sys/fs/cgroup/{attribute}"), "cpu\n");
    }
    let told = machine.session("root").number(20).open();
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 20), "{:?}", told.log);
    assert!(told.log.concat().contains("not placed in user-0.slice: writing 0 to "), "{:?}", told.log);
    let left = |directory: &str| fs::read_dir(machine.root.join(directory)).unwrap().count();
    assert_eq!(left("run/fairslice/sessions"), 0);
    assert_eq!(left("sys/fs/cgroup/user.slice/user-0.slice"), 1, "only cpu.weight");
    assert_eq!(fs::metadata(machine.root.join("run/fairslice/sessions")).unwrap().mode() & 0o077, 0);

    fs::create_dir(machine.root.join("run/systemd/seats")).unwrap();
    assert!(machine.open("root").log.concat().contains("elogind runs"));
}
