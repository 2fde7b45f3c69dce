//! What a session gets, and what it is told.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::machine::{ALICE, DONE, Machine, PAM_SESSION_ERR, PAM_SUCCESS, answer, as_root};

#[test]
fn a_session_of_nobody_in_particular() {
    let told = Machine::new("").open("root");
    assert_eq!((told.open.as_str(), told.close.as_str()), (PAM_SUCCESS, PAM_SUCCESS));
    assert_eq!(told.environment, [""; 0]);
}

#[test]
fn arguments_that_are_none() {
    let told = Machine::new("Debug root=relative no_warn").open("root");
    assert_eq!(told.open, PAM_SUCCESS);
    let prefix = "pam_fairslice(test:session): ";
    let expected = [
        format!("{prefix}argument Debug is ignored: none of strict, debug, root=DIR"),
        format!("{prefix}root=relative is ignored: not an absolute path"),
        format!("{prefix}argument no_warn is ignored: none of strict, debug, root=DIR"),
    ];
    assert_eq!(told.log, expected);
}

#[test]
fn a_private_directory_and_its_variable() {
    if !as_root("a_private_directory_and_its_variable") {
        return;
    }
    let machine = Machine::new("debug strict");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\nonly_if = \"/srv\"\n");
    let none = machine.open("alice");
    assert_eq!((none.open.as_str(), none.environment.len()), (PAM_SUCCESS, 0), "{:?}", none.log);

    fs::create_dir(machine.root.join("srv")).unwrap();
    for _ in ["made", "found"] {
        let told = machine.open("alice");
        assert_eq!(told.open, PAM_SUCCESS, "{:?}", told.log);
        assert_eq!(told.environment, ["CARGO_TARGET_DIR=/srv/alice"]);
        assert_eq!(told.log, ["pam_fairslice(test:session): user alice: set CARGO_TARGET_DIR=/srv/alice"]);
        let directory = fs::metadata(machine.root.join("srv/alice")).unwrap();
        // Whatever the host's umask is: 0137 would take away the right to enter.
        assert_eq!((directory.uid(), directory.gid(), directory.mode() & 0o7777), (ALICE, ALICE, 0o700));
    }
}

#[test]
fn a_private_directory_in_a_home() {
    if !as_root("a_private_directory_in_a_home") {
        return;
    }
    let machine = Machine::new("strict");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/home/{user}/.cache/{user}\"\n");
    machine.directory("home", 0, 0o755);
    let home = machine.directory("home/alice", ALICE, 0o700);
    for _ in ["made", "found"] {
        let told = machine.open("alice");
        assert_eq!(told.open, PAM_SUCCESS, "{:?}", told.log);
        assert_eq!(told.environment, ["CARGO_TARGET_DIR=/home/alice/.cache/alice"]);
        for made in [".cache", ".cache/alice"] {
            let made = fs::metadata(home.join(made)).unwrap();
            assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (ALICE, ALICE, 0o700));
        }
    }
}

#[test]
fn two_sessions_of_a_user_at_once() {
    if !as_root("two_sessions_of_a_user_at_once") {
        return;
    }
    let machine = Machine::new("");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n");
    let target = machine.directory("srv", 0, 0o755).join("alice");
    // It is taken away again and again, so that one session makes it while the other looks.
    let ended = AtomicBool::new(false);
    let log = thread::scope(|scope| {
        let sessions = [1, 2].map(|_| scope.spawn(|| machine.session("alice").number(1000).open().log));
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                let _ = fs::remove_dir(&target);
            }
        });
        let log = sessions.map(thread::ScopedJoinHandle::join);
        ended.store(true, Ordering::Release);
        log.map(Result::unwrap).concat()
    });
    let refused: Vec<_> = log.iter().filter(|line| line.contains("belongs to")).collect();
    assert_eq!(refused, [""; 0]);
}

#[test]
fn the_weight_of_the_users_slice() {
    if !as_root("the_weight_of_the_users_slice") {
        return;
    }
    let machine = Machine::new("strict");
    machine.policy("[logins]\ncpu_weight = 200\n");
    // PID 1 is asked for what differs, and for nothing else.
    machine.in_slice_of(ALICE, 200);
    assert_eq!(machine.open("alice").open, PAM_SUCCESS);
    machine.in_slice_of(ALICE, 100);
    let told = machine.open("alice");
    assert_eq!(told.open, PAM_SESSION_ERR);
    assert!(told.log.concat().contains("no such socket"), "{:?}", told.log);
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open("alice");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 0), "{:?}", told.log);
    // Recorded once, for the day when the package is removed.
    let record = machine.root.join(format!("run/fairslice/properties/user-{ALICE}.slice"));
    assert_eq!(fs::read_to_string(&record).unwrap(), "CPUWeight\n");
    assert_eq!(fs::metadata(&record).unwrap().mode() & 0o022, 0);
}

#[test]
fn a_negative_score_that_was_inherited() {
    if !as_root("a_negative_score_that_was_inherited") {
        return;
    }
    let score = |machine: &Machine| fs::read_to_string(machine.root.join("proc/self/oom_score_adj")).unwrap();
    let machine = Machine::new("strict");
    for (inherited, left) in [("-1000\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")] {
        machine.write("proc/self/oom_score_adj", inherited);
        assert_eq!(machine.open("alice").open, PAM_SUCCESS);
        assert_eq!(score(&machine), left, "was {inherited}");
    }
    // What is declared is for logins, not for a session that cron opens.
    machine.policy("[logins]\noom_score_adj = 200\n");
    machine.open("alice");
    assert_eq!(score(&machine), "300\n");
    machine.in_slice_of(ALICE, 100);
    machine.open("alice");
    assert_eq!(score(&machine), "200");
    // Root's jobs keep what their service was given.
    let machine = Machine::new("strict");
    machine.write("proc/self/oom_score_adj", "-500\n");
    assert_eq!(machine.open("root").open, PAM_SUCCESS);
    assert_eq!(score(&machine), "-500\n");
}
