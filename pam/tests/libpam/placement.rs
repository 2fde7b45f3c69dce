//! Logins that are in no user's slice: nobody else has placed them.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use crate::built;
use crate::machine::{DAEMON, DONE, LIMIT, Machine, PAM_SUCCESS, answer, as_root};

/// A machine on which a service opens a session that is in no user's slice.
fn misplaced(service: &'static str, arguments: &str) -> Machine {
    let machine = Machine::with_service(service, arguments);
    machine.in_slice_of(0, 100);
    machine.write("proc/self/cgroup", "0::/system.slice/ssh.service\n");
    machine.started_by(DAEMON, "system.slice/ssh.service");
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

/// PID 1 is not asked, which is not there, and would be missed.
#[test]
fn what_is_in_nobodys_slice_is_not_free_to_take() {
    if !as_root("what_is_in_nobodys_slice_is_not_free_to_take") {
        return;
    }
    let opens = |machine: &Machine| machine.open("root").open == PAM_SUCCESS;
    assert!(!opens(&misplaced("sshd", "strict")));
    assert!(opens(&misplaced("sshd", "strict noplace")));
    // A batch system has taken it into the job of its user.
    let machine = misplaced("sshd", "strict");
    machine.write("proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_7/step_extern/user\n");
    assert!(opens(&machine));
    // A hub.
    let machine = misplaced("login", "strict");
    machine.started_by(1, "init.scope");
    assert!(opens(&machine));
}

/// What `explain login` says is what the module does, on the same machine.
#[test]
fn what_is_explained_is_done() {
    if !as_root("what_is_explained_is_done") {
        return;
    }
    // As it was built for the tests of the workspace, with their features: that one is there.
    let command = built::build(&["--workspace", "--bin", "fairslice", "--test", "command_line"]);
    let command = command.join("fairslice");
    let (pam_systemd, adopt) = ("session optional pam_systemd.so\n", "account required pam_slurm_adopt.so\n");
    let (ssh, job, own) = (
        "system.slice/ssh.service",
        "system.slice/slurmd.service/job_7",
        "user.slice/user-0.slice/session-1.scope",
    );
    for (service, arguments, above, logind, cgroup, explained) in [
        ("sshd", "", "", "runs", ssh, "placed_here"),
        ("sshd", "", "", "never ran", ssh, "placed_here"),
        ("sshd", "", pam_systemd, "never ran", ssh, "placed_here"),
        ("sshd", "", pam_systemd, "is masked", ssh, "placed_here"),
        ("sshd", "", pam_systemd, "runs", own, "placed"),
        ("sshd", "noplace", "", "runs", ssh, "stays"),
        ("sshd", "", adopt, "runs", job, "stays"),
        ("login", "", "", "runs", ssh, "placed_here"),
        ("cron", "", "", "runs", ssh, "stays"),
        ("su", "", "", "runs", "init.scope", "placed_here"),
    ] {
        let machine = Machine::with_service(service, &format!("strict {arguments}"));
        machine.in_slice_of(0, 100);
        machine.started_by(DAEMON, if cgroup == job { ssh } else { cgroup });
        machine.write("proc/self/cgroup", &format!("0::/{cgroup}\n"));
        if service == "login" {
            machine.on_a_terminal();
        }
        let ours = format!("session optional pam_fairslice.so {arguments}\n");
        machine.write(&format!("etc/pam.d/{service}"), &format!("{above}{ours}"));
        if logind != "never ran" {
            fs::create_dir_all(machine.root.join("run/systemd/seats")).unwrap();
        }
        if logind == "is masked" {
            symlink("/dev/null", machine.root.join("run/systemd/system/systemd-logind.service")).unwrap();
        }
        let mut asked = Command::new(&command);
        asked.arg("--root").arg(&machine.root).args([
            "explain",
            "login",
            "root",
            "--json",
            "--service",
            service,
        ]);
        let output = asked.output().unwrap();
        let state = format!("{service} {arguments} {above} logind {logind}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout).replace(' ', "");
        assert!(said.contains(&format!("\"session\":\"{explained}\"")), "{state}");
        // PID 1 is not there: who asks for a scope is refused.
        let told = machine.open("root");
        let is_placed =
            told.log.concat().contains("not placed in user-0.slice: cannot start fairslice-login-");
        assert_eq!(is_placed, explained == "placed_here", "{state}: {:?}", told.log);
        assert_eq!(told.open == PAM_SUCCESS, explained != "placed_here", "{state}: {:?}", told.log);
    }
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
