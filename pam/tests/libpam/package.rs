//! The shipped module with the shipped generator, which are built apart: `make package-test`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::machine::{COMPILED, Machine, PAM_SUCCESS, as_root};

/// root, but not for files that it may not read.
const LIKE_ANYBODY: &str = "set -- setpriv --bounding-set -dac_override,-dac_read_search \"$@\"";

/// The policy file cannot be read in these sessions: what holds of it can only be from its compiled form.
#[test]
#[ignore = "needs FAIRSLICE_MODULE and FAIRSLICE_GENERATOR of a package"]
fn what_the_generator_compiled_is_read_and_of_another_build_is_not() {
    assert!(as_root("what_the_generator_compiled_is_read_and_of_another_build_is_not"), "needs root");
    let machine = Machine::new("strict");
    machine.policy("[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n");
    machine.directory("srv", 0, 0o755);
    machine.write("proc/meminfo", "MemTotal:       16000000 kB\n");
    let policy = machine.root.join("etc/fairslice/policy.toml");
    fs::set_permissions(policy, fs::Permissions::from_mode(0o000)).unwrap();
    let mut generator = Command::new(std::env::var_os("FAIRSLICE_GENERATOR").unwrap());
    let out = machine.root.join("run/systemd/generator");
    fs::create_dir_all(&out).unwrap();
    assert!(generator.arg("--root").args([&machine.root, &out]).status().unwrap().success());

    let session = || machine.session("alice").before(LIKE_ANYBODY).open_with_what_is_applied();
    let told = session();
    assert_eq!((told.open.as_str(), told.log), (PAM_SUCCESS, vec![]));
    assert_eq!(told.environment, ["CARGO_TARGET_DIR=/srv/alice"]);

    // A digit of what stands for the sources, behind its length.
    let file = machine.root.join(COMPILED);
    let mut compiled = fs::read(&file).unwrap();
    compiled[1] = if compiled[1] == b'0' { b'1' } else { b'0' };
    fs::write(&file, compiled).unwrap();
    let log = session().log;
    assert!(log.concat().contains("policy.compiled is of another version: run"), "{log:?}");
}
