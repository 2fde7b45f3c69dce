//! A workspace that a group shares, and links of root's on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use crate::machine::{ALICE, BUILDERS, MALLORY, Machine, PAM_SUCCESS, as_root};

const TARGET: &str = "srv/team/target";

/// `/srv/team` and what is below it are the builders', 2775; whoever made the last of them owns it.
fn workspace(owner: u32, trusted: &str) -> Machine {
    let machine = Machine::new("");
    machine.policy(&format!(
        "[private_dir.CARGO_TARGET_DIR]\npath = \"/{TARGET}/{{user}}\"\nonly_if = \"/{TARGET}\"\n{trusted}"
    ));
    machine.directory("srv", 0, 0o755);
    for (path, owner) in [("srv/team", 0), (TARGET, owner)] {
        let path = machine.directory(path, owner, 0o755);
        chown(&path, None, Some(BUILDERS)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2775)).unwrap();
    }
    machine
}

fn is(machine: &Machine, path: &str) -> (u32, u32, u32) {
    let stat = fs::metadata(machine.root.join(path)).unwrap();
    (stat.uid(), stat.gid(), stat.mode() & 0o7777)
}

#[test]
fn members_of_a_trusted_group_get_their_directories() {
    if !as_root("members_of_a_trusted_group_get_their_directories") {
        return;
    }
    // A group that does not exist trusts nobody, and is no error.
    for (owner, trusted) in [(0, "[\"builders\"]"), (MALLORY, "[\"nobodys\", \"builders\"]")] {
        let machine = workspace(owner, &format!("trusted_groups = {trusted}\n"));
        for user in ["alice", "alice", "mallory"] {
            let told = machine.open(user);
            assert_eq!((told.open.as_str(), &told.log[..]), (PAM_SUCCESS, &[][..]), "{user}");
            assert_eq!(told.environment, [format!("CARGO_TARGET_DIR=/{TARGET}/{user}")]);
        }
        assert_eq!(is(&machine, &format!("{TARGET}/alice")), (ALICE, ALICE, 0o700));
        let (made_for, _, mode) = is(&machine, &format!("{TARGET}/mallory"));
        assert_eq!((made_for, mode), (MALLORY, 0o700));
    }
}

#[test]
fn without_the_key_and_for_others_it_is_refused() {
    if !as_root("without_the_key_and_for_others_it_is_refused") {
        return;
    }
    let refused = |machine: &Machine, why: &str| {
        let told = machine.open("alice");
        assert!(told.environment.is_empty(), "{:?}", told.environment);
        assert!(told.log.len() == 1 && told.log[0].contains(why), "{:?} is not {why}", told.log);
        assert!(!machine.root.join(TARGET).join("alice").exists());
    };
    let why = "/srv/team can be changed by the group builders: trusted_groups = [\"builders\"] in the policy";
    refused(&workspace(0, ""), why);
    refused(&workspace(0, "trusted_groups = [\"mallory\"]\n"), why);
    let trusted = "trusted_groups = [\"builders\"]\n";
    // What everybody can change is not the group's.
    let machine = workspace(0, trusted);
    fs::set_permissions(machine.root.join(TARGET), fs::Permissions::from_mode(0o2777)).unwrap();
    refused(&machine, "can be changed by others than root: chmod go-w or +t");
    // A member that has left owns it still.
    let machine = workspace(MALLORY, trusted);
    machine.write("etc/group", "alice:x:4001:\nmallory:x:4002:\nbuilders:x:4100:alice\n");
    refused(&machine, "/srv/team/target belongs to uid 4002, not to root");
    // Who is in no such group has no right to make something there, and root's would be a way to be given anything.
    let machine = workspace(0, trusted);
    machine.write("etc/group", "alice:x:4001:\nmallory:x:4002:\nbuilders:x:4100:mallory\n");
    refused(
        &machine,
        "alice cannot make a directory in /srv/team/target, which others can change: usermod -aG builders alice",
    );
    machine.directory(&format!("{TARGET}/alice"), ALICE, 0o700);
    assert_eq!(machine.open("alice").environment, [format!("CARGO_TARGET_DIR=/{TARGET}/alice")]);
    // A link is root's alone where only root can change it.
    let machine = workspace(0, trusted);
    machine.directory("srv/elsewhere", 0, 0o755);
    fs::remove_dir(machine.root.join(TARGET)).unwrap();
    symlink("../elsewhere", machine.root.join(TARGET)).unwrap();
    refused(&machine, "/srv/team/target is a symbolic link or no directory");
}

#[test]
fn a_group_of_the_users_own_is_nobody_elses() {
    if !as_root("a_group_of_the_users_own_is_nobody_elses") {
        return;
    }
    let machine = Machine::new("");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}/{user}\"\n");
    machine.directory("srv", 0, 0o755);
    // With a umask of 002.
    machine.directory("srv/alice", ALICE, 0o775);
    machine.directory("srv/alice/alice", ALICE, 0o775);
    let told = machine.open("alice");
    assert_eq!(told.environment, ["CARGO_TARGET_DIR=/srv/alice/alice"], "{:?}", told.log);
    machine.write("etc/group", "alice:x:4001:mallory\nmallory:x:4002:\n");
    let told = machine.open("alice");
    assert!(
        told.log.concat().contains("/srv/alice can be changed by others than the user"),
        "{:?}",
        told.log
    );
}

#[test]
fn links_that_only_root_can_change_are_followed() {
    if !as_root("links_that_only_root_can_change_are_followed") {
        return;
    }
    let machine = Machine::new("");
    machine.policy("[private_dir.CCACHE_DIR]\npath = \"{home}/.cache/ccache\"\n");
    machine.directory("data", 0, 0o755);
    machine.directory("data/disk", 0, 0o755);
    machine.directory("data/disk/alice", ALICE, 0o700);
    symlink("/data/home", machine.root.join("home")).unwrap();
    symlink("./disk/../disk", machine.root.join("data/over")).unwrap();
    symlink("disk", machine.root.join("data/home")).unwrap();
    let told = machine.open("alice");
    assert_eq!(told.environment, ["CCACHE_DIR=/home/alice/.cache/ccache"], "{:?}", told.log);
    assert_eq!(is(&machine, "data/disk/alice/.cache/ccache"), (ALICE, ALICE, 0o700));
    // One that leads down and up again, in a circle, or that somebody else may have put there.
    let link = |target: &str| {
        fs::remove_file(machine.root.join("home")).unwrap();
        symlink(target, machine.root.join("home")).unwrap();
        machine.open("alice").log.concat()
    };
    assert!(link("data/over").contains("/data/over is a symbolic link or no directory"));
    assert!(link("home").contains("leads over more than 40 links"));
    fs::set_permissions(machine.root.join("data"), fs::Permissions::from_mode(0o1777)).unwrap();
    assert!(link("data/home").contains("/data/home is a symbolic link or no directory"));
}
