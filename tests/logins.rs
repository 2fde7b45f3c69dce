//! `fairslice explain login` and `fairslice apply --logins`, on a tree of its own with this machine's users.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod fixture;

use std::fs;

use fairslice::policy;
use fixture::{fairslice, write};
use serde_json::Value;

const POLICY: &str = r#"
[slice."foundry-services.slice"]
match = ["local-*"]
cpu_weight = 200
cpu_floor = "50%"
[logins]
cpu_weight = 100
total_weight = "sum"
oom_score_adj = 0
[logins.group.daemon]
cpu_weight = 150
[logins.group.root]
cpu_weight = 300
tasks_max = 512
[logins.user.nobody]
oom_score_adj = 10
[private_dir.CARGO_TARGET_DIR]
path = "/srv/{user}"
"#;

/// A machine with root logged in, who is in group root.
fn machine() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "etc/fairslice/policy.toml", POLICY);
    write(root, "proc/meminfo", "MemTotal:        2097152 kB\n");
    for cgroup in ["system.slice", "init.scope", "user.slice", "user.slice/user-0.slice"] {
        write(root, &format!("sys/fs/cgroup/{cgroup}/cpu.weight"), "100\n");
    }
    for directory in ["system", "seats"] {
        fs::create_dir_all(root.join("run/systemd").join(directory)).unwrap();
    }
    // A user who has gone, whose slice is not taken away yet.
    write(root, "sys/fs/cgroup/user.slice/user-1.slice/cgroup.events", "populated 0\nfrozen 0\n");
    let common =
        "session required pam_unix.so\nsession optional pam_systemd.so\nsession optional pam_fairslice.so\n";
    write(root, "etc/pam.d/common-session", common);
    write(root, "etc/pam.d/sshd", "@include common-session\n");
    write(root, "etc/pam.d/cron", "session optional pam_fairslice.so\n");
    write(root, "etc/pam.d/early", "session optional pam_fairslice.so\nsession include common-session\n");
    write(root, "etc/pam.d/runuser", "session required pam_unix.so\n");
    // In force, as the generator leaves it.
    let compiled = policy::compile(&policy::load(root));
    fs::create_dir_all(root.join("run/fairslice")).unwrap();
    fs::write(root.join("run/fairslice/policy.compiled"), compiled).unwrap();
    directory
}

#[test]
fn a_login_is_explained() {
    let root = machine();
    let (status, out, err) = fairslice(root.path(), &["explain", "login", "root"]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(
        out,
        r#"root (uid 0), sshd: logind puts the session into user-0.slice (/etc/pam.d/common-session:2), unless it is opened inside another
rules
  [logins.group.daemon]  not a member  /etc/fairslice/policy.toml:11
  [logins.group.root]    holds         /etc/fairslice/policy.toml:13
user-0.slice
  cpu_weight     300  now 100           /etc/fairslice/policy.toml:13
  tasks_max      512  set at the login  /etc/fairslice/policy.toml:14
  oom_score_adj  0                      /etc/fairslice/policy.toml:9
user.slice
  cpu_weight  100  in force  /etc/fairslice/policy.toml:8
  root alone: 300; cpu_floor = "50%" of foundry-services.slice (/etc/fairslice/policy.toml:5) leaves 100 at most
private directories
  CARGO_TARGET_DIR  not set  root and nobody have none  /etc/fairslice/policy.toml:18
"#
    );
}

#[test]
fn a_users_own_rule_comes_first_and_the_user_is_counted() {
    let root = machine();
    // As root was given it at a login: others are not looked up.
    write(root.path(), "sys/fs/cgroup/user.slice/user-0.slice/cpu.weight", "300\n");
    let (status, out, _) = fairslice(root.path(), &["explain", "login", "nobody", "--json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status, 0);
    assert_eq!(value["version"], 1);
    assert_eq!(value["session"], "placed");
    assert_eq!(value["rules"][0]["rule"], "[logins.user.nobody]");
    assert_eq!(value["rules"][0]["holds"], true);
    assert_eq!(value["oom_score_adj"], 10);
    // The rule leaves the weight to [logins].
    assert_eq!(value["settings"][0]["declared"], "100");
    assert_eq!(value["headcount"]["users"], 2);
    assert_eq!(value["headcount"]["sum"], "400");
    assert_eq!(value["headcount"]["weight"], "100");
    assert_eq!(value["headcount"]["limit"]["slice"], "foundry-services.slice");
}

/// `daemon` is the one user of this machine that is in a group and is not root.
#[test]
fn members_of_a_group_share_its_weight_and_root_shares_with_nobody() {
    let root = machine();
    let policy = "[logins]\ncpu_weight = 100\n[logins.group.daemon]\ntotal_weight = 90\n\
                  [logins.group.root]\ntotal_weight = 40\n";
    write(root.path(), "etc/fairslice/policy.toml", policy);
    let explain = |user: &str| fairslice(root.path(), &["explain", "login", user]).1;
    let said = explain("daemon");
    assert!(said.contains("[logins.group.daemon]  holds  /etc/fairslice/policy.toml:4"), "{said}");
    assert!(said.contains("cpu_weight  90  set at the login  /etc/fairslice/policy.toml:4"), "{said}");
    let how = "daemon with no other member of daemon logged in: 90 / 1 (exact while all of them are busy)";
    assert!(said.contains(how), "{said}");
    let said = explain("root");
    assert!(said.contains("cpu_weight  100  in force") && !said.contains("member of root"), "{said}");
    // Live, and in the sum.
    write(root.path(), "sys/fs/cgroup/user.slice/user-1.slice/cgroup.events", "populated 1\n");
    write(root.path(), "sys/fs/cgroup/user.slice/user-1.slice/cpu.weight", "100\n");
    write(root.path(), "sys/fs/cgroup/user.slice/user-1.slice/cpu.stat", "usage_usec 1\n");
    let (_, out, _) = fairslice(root.path(), &["apply", "--logins", "--dry-run"]);
    assert_eq!(out, "user-1.slice: cpu_weight 100 -> 90\n");
    write(
        root.path(),
        "etc/fairslice/policy.toml",
        &format!("{policy}[logins.user.nobody]\ntotal_weight = 3\n"),
    );
    let (code, out, _) = fairslice(root.path(), &["check"]);
    assert!(code != 0 && out.contains("in [logins.user.nobody]: a user's weight is cpu_weight"), "{out}");
}

#[test]
fn the_pam_stack_decides_what_a_session_gets() {
    let root = machine();
    let explain = |service: &str| fairslice(root.path(), &["explain", "login", "root", "--service", service]);
    let (_, cron, _) = explain("cron");
    assert!(
        cron.contains("cron: the session stays where cron runs") && !cron.contains("user-0.slice"),
        "{cron}"
    );
    assert!(cron.contains("private directories"), "{cron}");
    let (_, early, _) = explain("early");
    assert!(early.contains("(/etc/pam.d/early:1) runs before pam_systemd.so"), "{early}");
    let (_, runuser, _) = explain("runuser");
    assert!(runuser.contains("no line of pam_fairslice.so") && !runuser.contains("CARGO"), "{runuser}");
    fs::remove_dir(root.path().join("run/systemd/seats")).unwrap();
    let (_, sshd, _) = explain("sshd");
    assert!(
        sshd.contains(
            "pam_fairslice.so puts the session into user-0.slice, for logind does not, unless another"
        ),
        "{sshd}"
    );
    let (_, cron, _) = explain("cron");
    assert!(cron.contains("cron: the session stays where cron runs"), "{cron}");
}

#[test]
fn a_policy_that_logins_do_not_have_yet_is_said() {
    let root = machine();
    let login = || fairslice(root.path(), &["explain", "login", "root"]).2;
    let check = || fairslice(root.path(), &["check"]).1;
    let waits = "logins get what was applied before: run \"fairslice apply\"\n";
    assert!(login().is_empty() && !check().contains(waits));
    write(root.path(), "etc/fairslice/policy.toml", &POLICY.replace("tasks_max = 512", "tasks_max = 513"));
    assert_eq!(login(), format!("fairslice: {waits}"));
    assert!(check().ends_with(&format!("ok\n{waits}")), "{}", check());
    fs::remove_file(root.path().join("run/fairslice/policy.compiled")).unwrap();
    assert!(login().contains("no policy is in force for logins"), "{}", login());
}

#[test]
fn who_and_what_do_not_exist_are_said() {
    let root = machine();
    let (status, _, err) = fairslice(root.path(), &["explain", "login", "no such user"]);
    assert_eq!((status, err.as_str()), (2, "fairslice: there is no user \"no such user\"\n"));
    let (status, _, err) = fairslice(root.path(), &["explain", "login", "root", "--service", "a/b"]);
    assert_eq!((status, err.as_str()), (2, "fairslice: no PAM service \"a/b\"\n"));
}

#[test]
fn apply_shows_what_it_would_change_and_says_what_it_cannot() {
    let root = machine();
    let expected = "user-0.slice: cpu_weight 100 -> 300\nuser-0.slice: tasks_max - -> 512\n";
    let (status, out, err) = fairslice(root.path(), &["apply", "--logins", "--dry-run"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, expected, ""));
    let (status, out, err) = fairslice(root.path(), &["apply", "--logins"]);
    assert_eq!((status, out.as_str()), (2, expected));
    assert!(err.contains("cannot set CPUWeight=300 TasksMax=512 on user-0.slice"), "{err}");
    write(root.path(), "sys/fs/cgroup/user.slice/user-0.slice/cpu.weight", "300\n");
    write(root.path(), "sys/fs/cgroup/user.slice/user-0.slice/pids.max", "512\n");
    let (status, out, _) = fairslice(root.path(), &["apply", "--logins"]);
    assert_eq!((status, out.as_str()), (0, "users' slices are as declared\n"));
}

#[test]
fn a_floor_that_cannot_hold_is_an_error_of_check() {
    let root = machine();
    let check = |policy: &str| {
        write(root.path(), "etc/fairslice/policy.toml", policy);
        fairslice(root.path(), &["check"])
    };
    let floor = |floor: &str| format!("[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = {floor}\n");
    assert_eq!(check(&floor("\"50%\"")).0, 0);
    let (status, out, _) = check(&floor("\"70%\""));
    assert!(status == 1 && out.contains("policy.toml:3") && out.contains("even without logins"), "{out}");
    let (status, out, _) = check(&(floor("\"50%\"") + "[logins]\ntotal_weight = 300\n"));
    assert!(status == 1 && out.contains("leaves them 100"), "{out}");
    for wrong in ["50", "\"0%\"", "\"100%\"", "\"half\""] {
        let (status, out, _) = check(&floor(wrong));
        assert!(status == 1 && out.contains("expected a part of the CPU time above 0%"), "{out}");
    }
    let two = floor("\"60%\"")
        + "[slice.\"b.slice\"]\ncpu_floor = \"40.5%\"\n[slice.\"b-c.slice\"]\ncpu_floor = \"40%\"\n";
    let (status, out, _) = check(&two);
    assert!(status == 1 && out.contains("the floors add up to 100.50%"), "{out}");
}

/// What is no login is placed where the policy says so, for persons.
#[test]
fn sessions_that_the_policy_takes_are_explained_and_reviewed() {
    let root = machine();
    let policy = "[logins]\ncpu_weight = 100\nsessions = [\"cron\", \"runuser\", \"sshd\", \"nothing\"]\n";
    write(root.path(), "etc/fairslice/policy.toml", policy);
    let (_, cron, _) = fairslice(root.path(), &["explain", "login", "root", "--service", "cron"]);
    assert!(cron.contains("cron: the session stays where cron runs"), "{cron}");
    let (code, said, _) = fairslice(root.path(), &["check"]);
    for line in [
        "policy.toml:3:21: warning: sessions: /etc/pam.d/runuser has no line of pam_fairslice.so for sessions",
        "warning: sessions of sshd are in their user's slice anyway: leave it out",
        "warning: sessions: there is no PAM service \"nothing\" here (/etc/pam.d/nothing)",
    ] {
        assert!(code != 0 && said.contains(line), "{line}: {said}");
    }
    assert!(!said.contains("cron"), "{said}");
    let (_, merged, _) = fairslice(root.path(), &["policy"]);
    assert!(merged.contains("sessions = [\"cron\", \"runuser\", \"sshd\", \"nothing\"]"), "{merged}");
}
