//! What somebody with write access may have put in the way beforehand: refused, and left as it is.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::built;
use crate::machine::{ALICE, BUILDERS, LIMIT, MALLORY, Machine, PAM_SUCCESS, as_root};

/// Targets worth an attack: directories and files of root's and of others.
pub(crate) fn decoys(machine: &Machine) {
    machine.directory("decoy", 0, 0o755);
    machine.directory("decoy/open", 0, 0o777);
    machine.directory("decoy/closed", 0, 0o700);
    machine.directory("decoy/mallorys", MALLORY, 0o755);
    machine.directory("decoy/alices", ALICE, 0o755);
    machine.write("decoy/closed/shadow", "root's");
    machine.write("decoy/open/file", "");
}

/// Everything below a directory, with all that changes when somebody touches it.
pub(crate) fn listing(directory: &Path) -> String {
    let mut text = String::new();
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.push(directory.to_owned());
    entries.sort();
    for path in entries {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() && path != directory {
            text += &listing(&path);
            continue;
        }
        let (modified, changed) = (stat.mtime_nsec() + stat.mtime(), stat.ctime_nsec() + stat.ctime());
        let (owner, mode) = (format!("{}:{}", stat.uid(), stat.gid()), stat.mode());
        writeln!(
            text,
            "{} {} {owner} {mode:o} {modified} {changed} {}",
            path.display(),
            stat.ino(),
            stat.len()
        )
        .unwrap();
    }
    text
}

type Trap = fn(&Machine);

/// Each case: what is said, the mode of `srv`, and what stands in it.
#[test]
fn what_stands_at_the_path_already() {
    if !as_root("what_stands_at_the_path_already") {
        return;
    }
    let cases: [(&str, Trap); 13] = [
        ("is a symbolic link or no directory", |m| link(m, "../decoy/open")),
        ("is a symbolic link or no directory", |m| link(m, "../decoy/closed")),
        ("is a symbolic link or no directory", |m| link(m, "../decoy/alices")),
        ("is a symbolic link or no directory", |m| link(m, "/nowhere")),
        ("is a symbolic link or no directory", |m| link(m, "alice")),
        ("is a symbolic link or no directory", |m| {
            fs::hard_link(m.root.join("decoy/closed/shadow"), m.root.join("srv/alice")).unwrap();
        }),
        ("is a symbolic link or no directory", |m| {
            assert!(Command::new("mkfifo").arg(m.root.join("srv/alice")).status().unwrap().success());
        }),
        ("is a symbolic link or no directory", |m| {
            UnixListener::bind(m.root.join("srv/alice")).unwrap();
        }),
        ("belongs to uid 4002, not to the user: move it away", |m| {
            m.directory("srv/alice", MALLORY, 0o700);
        }),
        ("belongs to uid 4002, not to the user: move it away", |m| {
            chown(m.directory("srv/alice", MALLORY, 0o777), None, Some(ALICE)).unwrap();
        }),
        ("belongs to uid 0, not to the user: move it away", |m| {
            m.directory("srv/alice", 0, 0o700);
        }),
        ("can be changed by others than the user: chmod go-w", |m| {
            chown(m.directory("srv/alice", ALICE, 0o770), None, Some(BUILDERS)).unwrap();
        }),
        ("can be changed by others than the user: chmod go-w", |m| {
            m.directory("srv/alice", ALICE, 0o1777);
        }),
    ];
    for mode in [0o755, 0o1777] {
        for (why, trap) in cases {
            let machine = Machine::new("");
            machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n");
            decoys(&machine);
            machine.directory("srv", 0, mode);
            trap(&machine);
            assert_refused(&machine, &format!("/srv/alice {why}"));
        }
    }
}

fn link(machine: &Machine, to: &str) {
    symlink(to, machine.root.join("srv/alice")).unwrap();
}

/// The session opens without the variable, one line says `why`, and nothing was touched.
fn assert_refused(machine: &Machine, why: &str) {
    let before = listing(&machine.root);
    let told = machine.open("alice");
    assert_eq!((told.open.as_str(), told.environment.len()), (PAM_SUCCESS, 0), "{why}");
    assert_eq!(told.log.len(), 1, "{why}: {:?}", told.log);
    assert!(told.log[0].contains(why), "{:?} is not {why:?}", told.log);
    assert_eq!(listing(&machine.root), before, "{why}");
}

/// Each case: what is said, and the way to `srv/on/the/alice`.
#[test]
fn what_stands_on_the_way() {
    if !as_root("what_stands_on_the_way") {
        return;
    }
    let cases: [(&str, Trap); 9] = [
        // Only root can change a link there: it is followed.
        ("/decoy/the does not exist: make it, owned by root", |m| {
            symlink("../decoy", m.root.join("srv/on")).unwrap();
        }),
        ("/srv/on is a symbolic link or no directory", |m| m.write("srv/on", "")),
        ("/srv/on/the does not exist: make it, owned by root", |m| {
            m.directory("srv/on", 0, 0o755);
        }),
        ("/srv/on belongs to uid 4002, not to root: chown root /srv/on", |m| {
            m.directory("srv/on", MALLORY, 0o755);
        }),
        ("/srv/on can be changed by others than root: chmod go-w or +t /srv/on", |m| {
            m.directory("srv/on/the", 0, 0o755);
            m.directory("srv/on", 0, 0o757);
        }),
        (
            "/srv/on can be changed by the group builders: trusted_groups = [\"builders\"] in the policy, chmod +t",
            |m| {
                m.directory("srv/on/the", 0, 0o755);
                chown(m.directory("srv/on", 0, 0o775), None, Some(BUILDERS)).unwrap();
            },
        ),
        // From here on, on the user's own ground.
        ("/srv/on can be changed by others than the user: chmod go-w or +t /srv/on", |m| {
            chown(m.directory("srv/on", ALICE, 0o770), None, Some(BUILDERS)).unwrap();
        }),
        ("/srv/on/the belongs to uid 4002, not to the user: move it away", |m| {
            m.directory("srv/on/the", MALLORY, 0o755);
            m.directory("srv/on", ALICE, 0o700);
        }),
        ("/srv/on/the is a symbolic link or no directory", |m| {
            m.directory("srv/on", ALICE, 0o700);
            symlink("../../decoy/alices", m.root.join("srv/on/the")).unwrap();
        }),
    ];
    for (why, trap) in cases {
        let machine = Machine::new("");
        machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/on/the/{user}\"\n");
        decoys(&machine);
        machine.directory("srv", 0, 0o755);
        trap(&machine);
        assert_refused(&machine, why);
    }
}

/// A file system that somebody mounted may say that its root is whoever's.
#[test]
fn mount_points() {
    if !as_root("mount_points") {
        return;
    }
    let own = "mkdir srv/alice; mount -t tmpfs -o mode=700,uid=4001,gid=4001 none srv/alice";
    let way = "mkdir srv/alice; mount -t tmpfs -o mode=755,uid=4001,gid=4001 none srv/alice; mkdir srv/alice/alice; chown 4001 srv/alice/alice";
    for (mode, path, before, why) in [
        (0o1777, "/srv/{user}", own, Some("/srv/alice is a mount point where others can write")),
        (0o1777, "/srv/{user}/{user}", way, Some("/srv/alice is a mount point where others can write")),
        // Where only root can write, it was root who mounted it.
        (0o755, "/srv/{user}", own, None),
        (0o755, "/srv/{user}/{user}", way, None),
    ] {
        let machine = Machine::new("");
        machine.policy(&format!("[private_dir.CARGO_TARGET_DIR]\npath = \"{path}\"\n"));
        machine.directory("srv", 0, mode);
        let told = machine.session("alice").before(before).open();
        assert_eq!((told.open.as_str(), told.environment.is_empty()), (PAM_SUCCESS, why.is_some()));
        assert!(told.log.concat().contains(why.unwrap_or_default()), "{:?}", told.log);
        assert_eq!(told.log.len(), usize::from(why.is_some()), "{:?}", told.log);
    }
    // A bind mount shows another directory in the place of one, which is as good as its owner.
    let machine = Machine::new("");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n");
    decoys(&machine);
    machine.directory("srv", 0, 0o755);
    let before = "mkdir srv/alice; mount --bind decoy/closed srv/alice";
    let told = machine.session("alice").before(before).after("stat -c 'found: %u %a' decoy/closed").open();
    assert_eq!((told.open.as_str(), told.environment.len()), (PAM_SUCCESS, 0));
    assert!(told.log.concat().contains("belongs to uid 0, not to the user"), "{:?}", told.log);
    assert_eq!(told.found, ["0 700"]);
}

/// `fusermount3` lets anybody mount on a directory that they may write to: it lies in one of root's, and says of
/// itself that it is root's, of what is in it that it is the user's, or nothing at all.
#[test]
fn what_somebody_has_mounted() {
    if !as_root("what_somebody_has_mounted") {
        return;
    }
    let fuse = built::program("pam_fuse", "../../tests/fuse.c", &[]);
    let mounts = |point: &str, by: u32, how: &str| {
        format!(
            "{} {point} {by} {ALICE} {how} & until grep -q \"$PWD/{point}\" /proc/self/mountinfo; do sleep 0.01; done",
            fuse.display()
        )
    };
    let mallorys = "/srv was mounted by uid 4002, not by root: umount -l /srv";
    let alices = "/srv/alice was mounted by uid 4002, not by root: umount -l /srv/alice";
    for (point, by, how, why) in [
        ("srv", MALLORY, "", Some(mallorys)),
        ("srv", MALLORY, "silent", Some(mallorys)),
        ("srv/alice", MALLORY, "", Some(alices)),
        ("srv/alice", MALLORY, "silent", Some(alices)),
        // As good as who has mounted it.
        ("srv", 0, "", None),
        ("srv", ALICE, "", None),
    ] {
        let machine = Machine::new("");
        machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\nonly_if = \"/srv/alice\"\n");
        machine.directory("srv", 0, 0o755);
        machine.directory("srv/alice", 0, 0o755);
        if point == "srv" {
            // A login would refuse it.
            chown(machine.directory("srv", 0, 0o775), None, Some(BUILDERS)).unwrap();
        }
        let before = mounts(point, by, how);
        let told = machine.session("alice").before(&before).open();
        assert!(told.milliseconds < LIMIT, "{point} {by} {how}: {} ms", told.milliseconds);
        assert_eq!(
            (told.open.as_str(), told.environment.is_empty()),
            (PAM_SUCCESS, why.is_some()),
            "{point} {by}: {:?}",
            told.log
        );
        assert!(told.log.concat().contains(why.unwrap_or_default()), "{point} {by}: {:?}", told.log);
        assert_eq!(told.log.len(), usize::from(why.is_some()), "{:?}", told.log);
    }
}

#[test]
fn a_template_that_leads_upwards() {
    let machine = Machine::new("");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/../decoy/{user}\"\n");
    fs::create_dir(machine.root.join("decoy")).unwrap();
    let told = machine.open("root");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 1), "{:?}", told.log);
    assert!(told.log[0].contains("expected a path without \".\" and \"..\""), "{:?}", told.log);
}

/// Sticky, and the user's own below: nobody can take away what is root's or the user's.
#[test]
fn a_sticky_directory_will_do() {
    if !as_root("a_sticky_directory_will_do") {
        return;
    }
    let machine = Machine::new("strict");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}/{user}\"\n");
    machine.directory("srv", 0, 0o1777);
    machine.directory("srv/alice", ALICE, 0o1777);
    assert_eq!(machine.open("alice").environment, ["CARGO_TARGET_DIR=/srv/alice/alice"]);
    let made = File::open(machine.root.join("srv/alice/alice")).unwrap().metadata().unwrap();
    assert_eq!((made.uid(), made.permissions().mode() & 0o7777), (ALICE, 0o700));
}

/// Root would make directories wherever the policy says. The last good one says so instead.
#[test]
fn a_policy_that_others_can_change() {
    if !as_root("a_policy_that_others_can_change") {
        return;
    }
    let policy = |value: &str| format!("[private_dir.{value}]\npath = \"/srv/{{user}}\"\n");
    let exposures: [(&str, &str, Trap); 4] = [
        ("etc/fairslice/policy.toml", "user 4002", |m| {
            chown(at(m, "policy.toml"), Some(MALLORY), None).unwrap();
        }),
        ("etc/fairslice/policy.toml", "everybody", |m| mode(&at(m, "policy.toml"), 0o646)),
        ("etc/fairslice", "user 4002", |m| chown(at(m, ""), Some(MALLORY), None).unwrap()),
        ("etc/fairslice", "group 4100", |m| {
            chown(at(m, ""), None, Some(BUILDERS)).unwrap();
            mode(&at(m, ""), 0o775);
        }),
    ];
    for (path, who, expose) in exposures {
        let machine = Machine::new("");
        machine.directory("srv", 0, 0o755);
        machine.policy(&policy("THEIRS"));
        let variable = |name: &str| format!("{name}=/srv/alice");
        assert!(machine.open("alice").environment.contains(&variable("THEIRS")));
        machine.write("run/fairslice/last-good/etc/fairslice/policy.toml", &policy("GOOD"));
        expose(&machine);
        let told = machine.open("alice");
        assert_eq!(told.open, PAM_SUCCESS);
        assert!(told.environment.contains(&variable("GOOD")), "{path}: {:?}", told.environment);
        assert!(!told.environment.contains(&variable("THEIRS")), "{path}: {:?}", told.environment);
        let said = told.log.concat();
        assert!(said.contains(&format!("{who} can change /{path} (mode ")), "{said}");
        assert!(said.contains("(the last good policy holds)"), "{said}");
    }
}

/// In the directory of the policy.
fn at(machine: &Machine, name: &str) -> std::path::PathBuf {
    machine.root.join("etc/fairslice").join(name)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
