//! What a session gets, and what it is told.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fairslice_base::paths::UNCOUNTED;

use crate::machine::{
    ALICE, DONE, MALLORY, Machine, PAM_SESSION_ERR, PAM_SUCCESS, answer, as_root, is_sanitized,
};

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
        format!("{prefix}argument Debug is ignored: none of strict, debug, noplace, root=DIR"),
        format!("{prefix}root=relative is ignored: not an absolute path"),
        format!("{prefix}argument no_warn is ignored: none of strict, debug, noplace, root=DIR"),
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
    assert!(!machine.root.join(UNCOUNTED).exists(), "nobody else's weight depends on it");
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open("alice");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 0), "{:?}", told.log);
    // Recorded once, for the day when the package is removed.
    let record = machine.root.join(format!("run/fairslice/properties/user-{ALICE}.slice"));
    assert_eq!(fs::read_to_string(&record).unwrap(), "CPUWeight=200\n");
    assert_eq!(fs::metadata(&record).unwrap().mode() & 0o022, 0);
}

/// A directory service may be slow, and there may be many who are logged in.
#[test]
fn nss_is_asked_of_nobody_but_the_one_who_logs_in() {
    let test = "nss_is_asked_of_nobody_but_the_one_who_logs_in";
    if !as_root(test) || is_sanitized() {
        eprintln!("{test}: skipped under a sanitizer, which takes the calls");
        return;
    }
    let machine = Machine::new("strict");
    machine.policy(
        "[logins]\ncpu_weight = 100\ntotal_weight = \"sum\"\n[logins.group.builders]\ncpu_weight = 300\n\
         [private_dir.CARGO_TARGET_DIR]\npath = \"/srv/{user}\"\n",
    );
    machine.directory("srv", 0, 0o755);
    machine.in_slice_of(ALICE, 100);
    for uid in [0, MALLORY, 60_000] {
        let slice = format!("sys/fs/cgroup/user.slice/user-{uid}.slice");
        machine.write(&format!("{slice}/cpu.weight"), "300\n");
        machine.write(&format!("{slice}/cgroup.events"), "populated 1\nfrozen 0\n");
    }
    machine.write("sys/fs/cgroup/user.slice/cpu.weight", "100\n");
    machine.pid1(|peer| answer(peer, DONE));
    let told = machine.open("alice");
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 0), "{:?}", told.log);
    // Their weights were counted all the same.
    let sum = fs::read_to_string(machine.root.join("run/fairslice/properties/user.slice")).unwrap();
    assert_eq!(sum, "CPUWeight=1200\n");
    assert_eq!(told.asked, ["alice"]);
}

/// Who logs in has PID 1 told what the others of the group weigh then, whom NSS is not asked about.
#[test]
fn members_of_a_group_share_its_weight() {
    let test = "members_of_a_group_share_its_weight";
    if !as_root(test) || is_sanitized() {
        eprintln!("{test}: skipped under a sanitizer, which takes the calls");
        return;
    }
    let machine = Machine::new("strict");
    machine.policy("[logins]\ncpu_weight = 100\n[logins.group.builders]\ntotal_weight = 90\n");
    let live = |uid: u32, weight: u32| {
        let slice = format!("sys/fs/cgroup/user.slice/user-{uid}.slice");
        machine.write(&format!("{slice}/cpu.weight"), &format!("{weight}\n"));
        machine.write(&format!("{slice}/cgroup.events"), "populated 1\nfrozen 0\n");
    };
    let told = |uid: u32| {
        let record = format!("run/fairslice/properties/user-{uid}.slice");
        fs::read_to_string(machine.root.join(record)).unwrap_or_default()
    };
    let login = |user: &str| {
        let opened = machine.open(user);
        assert_eq!((opened.open.as_str(), opened.log.len()), (PAM_SUCCESS, 0), "{:?}", opened.log);
        assert_eq!(opened.asked, [user]);
    };
    // What PID 1 could not be told is left to be told later.
    machine.in_slice_of(MALLORY, 100);
    let opened = machine.open("mallory");
    assert_eq!((opened.open.as_str(), opened.log.len()), (PAM_SESSION_ERR, 1), "{:?}", opened.log);
    assert!(machine.root.join(UNCOUNTED).exists());
    fs::remove_dir_all(machine.root.join("run/fairslice")).unwrap();
    machine.pid1(|peer| answer(peer, DONE));
    // Somebody who is in no group of the policy's is there all the time.
    live(60_000, 100);
    machine.in_slice_of(MALLORY, 90);
    live(MALLORY, 90);
    login("mallory");
    assert_eq!(told(MALLORY), "", "alone");
    machine.in_slice_of(ALICE, 100);
    live(ALICE, 100);
    login("alice");
    assert_eq!(
        (told(ALICE).as_str(), told(MALLORY).as_str(), told(60_000).as_str()),
        ("CPUWeight=45\n", "CPUWeight=45\n", "")
    );
    // Who is in the group no more shares nothing; the weight is that of all.
    machine.write("etc/group", "builders:x:4100:mallory\n");
    login("alice");
    let members = machine.root.join("run/fairslice/budgets/builders");
    let names = fs::read_dir(members).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), [MALLORY.to_string().as_str()]);
}

/// The score of the process that opens a session: in it, and after it. Before, it is `before`.
fn scores(machine: &Machine, user: &str, before: &str) -> (String, String) {
    machine.write("proc/self/oom_score_adj", before);
    let file = machine.root.join("proc/self/oom_score_adj");
    let look = format!("look={}", file.display());
    let told = machine.session(user).options(&[&look]).open();
    assert_eq!((told.open.as_str(), told.log.len()), (PAM_SUCCESS, 0), "{:?}", told.log);
    (told.looked, fs::read_to_string(file).unwrap().trim_end().to_owned())
}

#[test]
fn a_negative_score_that_was_inherited() {
    if !as_root("a_negative_score_that_was_inherited") {
        return;
    }
    let score = |machine: &Machine, user: &str, before: &str| scores(machine, user, before).0;
    let machine = Machine::new("strict");
    for (inherited, left) in [("-1000\n", "0"), ("0\n", "0"), ("300\n", "300")] {
        assert_eq!(score(&machine, "alice", inherited), left, "was {inherited}");
    }
    // What is declared is for logins, not for a session that cron opens.
    machine.policy("[logins]\noom_score_adj = 200\n");
    assert_eq!(score(&machine, "alice", "300\n"), "300");
    machine.in_slice_of(ALICE, 100);
    assert_eq!(score(&machine, "alice", "300\n"), "200");
    // Root's jobs keep what their service was given.
    let machine = Machine::new("strict");
    assert_eq!(score(&machine, "root", "-500\n"), "-500");
}

#[test]
fn a_score_is_the_sessions_and_ends_with_it() {
    if !as_root("a_score_is_the_sessions_and_ends_with_it") {
        return;
    }
    let both = |inside: &str, after: &str| (inside.to_owned(), after.to_owned());
    let machine = Machine::new("strict");
    assert_eq!(scores(&machine, "alice", "-700\n"), both("0", "-700"));
    machine.policy("[logins]\noom_score_adj = 300\n");
    machine.in_slice_of(ALICE, 100);
    assert_eq!(scores(&machine, "alice", "-200\n"), both("300", "-200"));
    assert_eq!(scores(&machine, "alice", "300\n"), both("300", "300"));
    // Somebody else has set it meanwhile.
    let file = machine.root.join("proc/self/oom_score_adj");
    let changed = format!("write={}", file.display());
    machine.write("proc/self/oom_score_adj", "0\n");
    machine.session("alice").options(&[&changed]).open();
    assert_eq!(fs::read_to_string(&file).unwrap(), "77\n");
}

/// A hub opens sessions of others in its own process, which is a service's: logind moves it, and we leave it alone.
#[test]
fn a_service_that_opens_sessions_in_itself_keeps_its_score() {
    if !as_root("a_service_that_opens_sessions_in_itself_keeps_its_score") {
        return;
    }
    for (service, parent, own) in
        [("login", 1, "-200"), ("login", 1234, "-200"), ("hub", 1, "-200"), ("sshd", 1, "300")]
    {
        let machine = Machine::with_service(service, "strict");
        machine.policy("[logins]\noom_score_adj = 300\n");
        machine.in_slice_of(ALICE, 100);
        machine.started_by(parent, "system.slice/hub.service");
        assert_eq!(
            scores(&machine, "alice", "-200\n"),
            (own.to_owned(), "-200".to_owned()),
            "{service} {parent}"
        );
    }
}

/// Within the first login of a user, systemd --user opens a session of its own.
#[test]
fn what_is_wrong_is_said_once_a_login() {
    if !as_root("what_is_wrong_is_said_once_a_login") {
        return;
    }
    let said = |service: &'static str, arguments: &str, lingers: bool| {
        let machine = Machine::with_service(service, arguments);
        machine.write("etc/fairslice/policy.d/a.toml", "[logins.user.john.doe]\ncpu_weight = 1\n");
        machine.policy("[private_dir.A]\npath = \"/srv/{user}\"\n");
        machine.write("srv/alice", "a file\n");
        machine.in_slice_of(ALICE, 100);
        if lingers {
            machine.write("var/lib/systemd/linger/alice", "");
        }
        let told = machine.open("alice");
        (told.open, told.log.len())
    };
    assert_eq!(said("sshd", "", false), (PAM_SUCCESS.to_owned(), 2));
    assert_eq!(said("systemd-user", "", false), (PAM_SUCCESS.to_owned(), 0));
    // Who lingers logs in by that alone, and who is refused is told why.
    assert_eq!(said("systemd-user", "", true), (PAM_SUCCESS.to_owned(), 2));
    assert_eq!(said("systemd-user", "strict", false), (PAM_SESSION_ERR.to_owned(), 2));
}

/// `alice@corp.example` and `CORP\alice` are one user to a directory service; here, to `passwd`.
#[test]
fn a_user_by_another_name() {
    let test = "a_user_by_another_name";
    if !as_root(test) || is_sanitized() {
        eprintln!("{test}: skipped under a sanitizer, which takes the calls");
        return;
    }
    let machine = Machine::new("strict");
    let passwd = fs::read_to_string(machine.root.join("etc/passwd")).unwrap();
    machine.write(
        "etc/passwd",
        &format!("{passwd}CORP\\alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\nx@y:x:9:9::/:/bin/sh\n"),
    );
    machine.policy(
        "[logins]\noom_score_adj = 1\n[logins.user.mallory]\noom_score_adj = 2\n[logins.user.\"x@y\"]\noom_score_adj = 3\n\
         [logins.user.'CORP\\alice']\noom_score_adj = 4\n\
         [private_dir.A]\npath = \"/srv/{user}\"\nusers = ['CORP\\alice']\n",
    );
    machine.directory("srv", 0, 0o755);
    machine.in_slice_of(ALICE, 100);
    assert_eq!(scores(&machine, "alice", "0\n").0, "4");
    let told = machine.open("alice");
    assert_eq!(told.environment, ["A=/srv/alice"]);
    // Not of mallory, whose name cannot be hers.
    assert_eq!(told.asked, ["alice", "CORP\\alice", "x@y"]);
    machine.in_slice_of(MALLORY, 100);
    assert_eq!(scores(&machine, "mallory", "0\n").0, "2");
}
