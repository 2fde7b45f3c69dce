//! Somebody replaces what stands at the path while sessions open, again and again.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::built;
use crate::machine::{ALICE, BUILDERS, MALLORY, Machine, as_root};
use crate::traps::{decoys, listing};

/// How long all the races take together.
const RACE: Duration = Duration::from_secs(60);
const RACES: u32 = 5;
/// Sessions that one host opens in between two looks at the clock.
const SESSIONS: u32 = 200;

/// Ends with the test, however that ends.
struct Racer(Child);

impl Drop for Racer {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A directory of root's that the attackers would like to have, whatever its name is by then.
struct Trap(File);

impl Trap {
    fn set(machine: &Machine, path: &str) -> Self {
        Self(File::open(machine.directory(path, 0, 0o755)).unwrap())
    }

    fn assert_untouched(&self) {
        let stat = self.0.metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (0, 0, 0o755), "given away");
    }
}

#[test]
fn a_directory_that_is_replaced_meanwhile() {
    if !as_root("a_directory_that_is_replaced_meanwhile") {
        return;
    }
    // Where everybody may make something: root may not be led astray, and the user may get it.
    let machine = arena("/arena/{user}");
    machine.directory("arena", 0, 0o1777);
    race(&machine, &[(MALLORY, "arena", "alice"), (ALICE, "arena", "alice")], Outcome::Either);

    // Where a group may replace everything: nothing is made there.
    let machine = arena("/arena/{user}");
    chown(machine.directory("arena", 0, 0o775), None, Some(BUILDERS)).unwrap();
    race(&machine, &[(MALLORY, "arena", "alice"), (ALICE, "arena", "alice")], Outcome::Refused);

    // Where that group is trusted: it is made with the user's rights, who cannot be given what others have put there.
    let machine = arena("/arena/{user}\"\ntrusted_groups = [\"builders\"]\n#\"");
    chown(machine.directory("arena", 0, 0o2775), None, Some(BUILDERS)).unwrap();
    fs::set_permissions(machine.root.join("arena"), fs::Permissions::from_mode(0o2775)).unwrap();
    race(&machine, &[(MALLORY, "arena", "alice"), (ALICE, "arena", "alice")], Outcome::Either);

    // In the user's own directories: what is on the way, and what is at the end.
    for (directory, name) in [("arena/alice", ".cache"), ("arena/alice/.cache", "alice")] {
        let machine = arena("/arena/{user}/.cache/{user}");
        machine.directory("arena", 0, 0o755);
        machine.directory("arena/alice", ALICE, 0o755);
        machine.directory(directory, ALICE, 0o755);
        race(&machine, &[(ALICE, directory, name), (MALLORY, directory, name)], Outcome::Either);
    }
}

fn arena(path: &str) -> Machine {
    let machine = Machine::new("");
    machine.policy(&format!("[private_dir.CARGO_TARGET_DIR]\npath = \"{path}\"\n"));
    decoys(&machine);
    machine
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    /// Some sessions got their directory, and some did not, as the racers had it.
    Either,
    Refused,
}

/// Each racer: who, in which directory, after which name.
fn race(machine: &Machine, racers: &[(u32, &str, &str)], outcome: Outcome) {
    let program = built::program("pam_racer", "racer.c", &[]);
    let mut traps = Vec::new();
    for (_, directory, _) in racers {
        traps.push(Trap::set(machine, &format!("{directory}/trap")));
        traps.push(Trap::set(machine, &format!("{directory}/full-trap")));
        machine.write(&format!("{directory}/full-trap/file"), "root's");
    }
    let decoy = machine.root.join("decoy");
    let before = listing(&decoy);
    let running: Vec<_> = racers
        .iter()
        .map(|&(uid, directory, name)| {
            let mut racer = Command::new(&program);
            racer.args([uid, BUILDERS].map(|number| number.to_string())).arg(machine.root.join(directory));
            Racer(racer.arg(name).arg(decoy.join("open")).spawn().unwrap())
        })
        .collect();

    let (mut sessions, mut refused) = (0, 0);
    let end = Instant::now() + RACE / RACES;
    while Instant::now() < end {
        let told = machine.session("alice").number(SESSIONS).open();
        assert_eq!(told.failed, 0, "a login failed");
        sessions += SESSIONS as usize;
        refused += told.log.len();
    }
    for mut racer in running {
        assert!(racer.0.try_wait().unwrap().is_none(), "a racer gave up");
    }
    assert_eq!(listing(&decoy), before, "something outside was touched");
    traps.iter().for_each(Trap::assert_untouched);
    assert_nothing_half_made(&machine.root.join("arena"), &traps);
    println!("{racers:?}: {refused} of {sessions} sessions were refused their directory");
    match outcome {
        Outcome::Either => assert!(0 < refused && refused < sessions, "no race: {refused} of {sessions}"),
        Outcome::Refused => assert_eq!(refused, sessions),
    }
}

/// What is root's below a directory are the traps: everything else that root made was given away.
fn assert_nothing_half_made(directory: &Path, traps: &[Trap]) {
    let traps_inodes: Vec<u64> = traps.iter().map(|trap| trap.0.metadata().unwrap().ino()).collect();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let stat = entry.metadata().unwrap();
        if stat.is_dir() {
            let expected = stat.uid() != 0 || traps_inodes.contains(&stat.ino());
            assert!(expected, "{} is root's", entry.path().display());
            assert_nothing_half_made(&entry.path(), traps);
        }
    }
}
