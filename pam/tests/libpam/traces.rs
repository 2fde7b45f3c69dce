//! Ten thousand sessions, or a thousand under a sanitizer, leave no more in the host than none: see `snapshot` in
//! host.c for what is compared.

use crate::machine::{ALICE, DONE, Machine, PAM_SUCCESS, Told, answer, as_root, is_sanitized};

fn sessions() -> u32 {
    if is_sanitized() { 1000 } else { 10_000 }
}

fn assert_flat(told: &Told) {
    assert_eq!((told.open.as_str(), told.close.as_str(), told.failed), (PAM_SUCCESS, PAM_SUCCESS, 0));
    // A sanitizer keeps something of each module that is loaded, and says itself what was not freed.
    let is_flat = told.grown < 256 || is_sanitized();
    assert!(is_flat, "memory grew by {} KiB in {} sessions", told.grown, sessions() / 10 * 9);
}

#[test]
fn sessions_in_which_nothing_is_done() {
    let machine = Machine::new("debug");
    let told = machine.session("nobody-of-that-name").number(sessions()).open();
    assert_flat(&told);
    assert_eq!(told.log.len(), sessions() as usize);
}

/// A private directory on root's ground, another in the home, and PID 1 asked each time, as the
/// weight never changes.
#[test]
fn sessions_in_which_everything_is_done() {
    if !as_root("sessions_in_which_everything_is_done") {
        return;
    }
    let machine = Machine::new("strict");
    machine.policy(
        "[logins]\ncpu_weight = 200\n\
         [private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n\
         [private_dir.TMPDIR]\npath = \"/home/{user}/.cache/{user}\"\n",
    );
    machine.directory("srv", 0, 0o755);
    machine.directory("home", 0, 0o755);
    machine.directory("home/alice", ALICE, 0o700);
    machine.in_slice_of(ALICE, 100);
    let (asked, calls) = std::sync::mpsc::channel();
    machine.pid1(move |peer| {
        answer(peer, DONE);
        let _ = asked.send(());
    });
    let told = machine.session("alice").number(sessions()).open();
    assert_flat(&told);
    assert_eq!(told.log, [""; 0]);
    assert_eq!(told.environment, ["CARGO_TARGET_DIR=/srv/alice", "TMPDIR=/home/alice/.cache/alice"]);
    // The last one's thread may not have come to it yet.
    assert!(calls.try_iter().count() + 1 >= sessions() as usize);
}
