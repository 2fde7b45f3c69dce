//! `fairslice check` and `fairslice policy`: every error found, with its place; the merged result
//! with its sources.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fairslice::policy::Who;

/// A root with a machine of 1 GiB, and a policy in it.
struct Root(tempfile::TempDir);

impl Root {
    fn new(policy: impl AsRef<[u8]>) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path("etc/fairslice/policy.d")).unwrap();
        fs::create_dir(root.path("proc")).unwrap();
        fs::write(root.path("proc/meminfo"), "MemTotal:        1048576 kB\n").unwrap();
        fs::write(root.path("etc/fairslice/policy.toml"), policy).unwrap();
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// The exit code, and what was printed.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        // 124 for one that hangs, as on a fifo.
        let output = Command::new("timeout")
            .args(["60", env!("CARGO_BIN_EXE_fairslice"), "--root"])
            .arg(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The lines of `fairslice check`, which is to find something.
    fn errors(&self) -> Vec<String> {
        let (code, out, _) = self.run(&["check"]);
        assert_eq!(code, 1, "{out}");
        out.lines().map(str::to_owned).collect()
    }
}

fn packaged() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/policy.toml")
}

#[test]
fn the_packaged_policy_is_right() {
    let (code, out, err) = Root::new(fs::read(packaged()).unwrap()).run(&["check"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "/etc/fairslice/policy.toml: ok\n", ""));
}

/// A policy is for many machines; what is called nearly as a unit is a mistake on this one.
#[test]
fn a_misspelt_service_is_warned_of_where_the_machine_has_the_other() {
    let policy = "[slice.\"a.slice\"]\nmatch = [\"local-contnet\",\n \"locl-*\"]\n[service.nignx]\n\
                  oom_score_adj = -5\nset_by = \"service\"\n";
    let root = Root::new(policy);
    assert_eq!(root.run(&["check"]).0, 0);
    let units = root.path("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for unit in ["local-content", "nginx"] {
        fs::write(units.join(format!("{unit}.service")), "[Service]\n").unwrap();
    }
    let no_such = "no service of this machine is called so: did you mean";
    assert_eq!(
        root.errors(),
        [
            format!("/etc/fairslice/policy.toml:2:10: warning: \"local-contnet\": {no_such} local-content?"),
            format!("/etc/fairslice/policy.toml:3:2: warning: \"locl-*\": {no_such} local-*?"),
            format!("/etc/fairslice/policy.toml:5:17: warning: \"nignx\": {no_such} nginx?"),
        ]
    );
    fs::write(root.path("etc/fairslice/policy.toml"), fs::read(packaged()).unwrap()).unwrap();
    assert_eq!(root.run(&["check"]).0, 0);
}

/// The nearer rule counts: a service's own table, its template's, its slice. A later file's counts before those.
#[test]
fn what_is_to_have_the_launcher_and_stays_without_is_warned_of() {
    let policy = "[slice.\"a.slice\"]\nlauncher = true\nmatch = [\"local-*\"]\n[service.\"local-w@\"]\nlauncher = false\n\
                  [service.\"local-w@7\"]\nlauncher = true\n";
    let root = Root::new(policy);
    let units = root.path("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for unit in ["local-a", "local-w@", "other"] {
        let file = units.join(format!("{unit}.service"));
        fs::write(file, "[Service]\nRootImage=/x\nExecStart=/bin/x\n").unwrap();
    }
    let warning = |unit: &str, column: &str| {
        let source = if unit == "local-w@7" { "local-w@" } else { unit };
        format!(
            "/etc/fairslice/policy.toml:{column}: warning: launcher = true: {unit}.service stays without it: RootImage=/x \
             (/usr/lib/systemd/system/{source}.service:2): its image has no launcher: put fairslice-launch into the unit itself"
        )
    };
    assert_eq!(root.errors(), [warning("local-a", "2:12"), warning("local-w@7", "7:12")]);
    let (_, printed, _) = root.run(&["policy"]);
    assert!(printed.contains("launcher = false  # /etc/fairslice/policy.toml:5\n"), "{printed}");
    fs::create_dir_all(root.path("etc/fairslice/policy.d")).unwrap();
    let later = "[slice.\"a.slice\"]\nlauncher = false\n[service.other]\nlauncher = true\n";
    fs::write(root.path("etc/fairslice/policy.d/50.toml"), later).unwrap();
    let other = warning("other", "4:12").replace("policy.toml", "policy.d/50.toml");
    assert_eq!(root.errors(), [warning("local-w@7", "7:12"), other]);
}

#[test]
fn every_error_is_found_with_its_place() {
    let errors = Root::new(
        "[logins]\ncpu_weight = 0\n  io_weight = \"é\"; x\n[slice.\"a.slice\"]\nmach = []\nmatch = [\"local-*\"]\n\
         [slice.\"b.slice\"]\nmatch = [\"local-fs\"]\n",
    )
    .errors();
    let found =
        |start: &str, part: &str| errors.iter().any(|line| line.starts_with(start) && line.contains(part));
    assert!(found("/etc/fairslice/policy.toml:2:14: cpu_weight = 0: ", "1 to 10000"), "{errors:#?}");
    // Columns are characters.
    assert!(found("/etc/fairslice/policy.toml:3:18: ", ""), "{errors:#?}");
    assert!(found("/etc/fairslice/policy.toml:5:1: ", "did you mean \"match\"?"), "{errors:#?}");
    assert!(found("/etc/fairslice/policy.toml:8:10: ", "a service is in one slice"), "{errors:#?}");
}

#[test]
fn files_that_are_no_policy_are_named() {
    let big = "#".repeat(10 << 20);
    for (policy, part) in [
        (&b""[..], "declares nothing"),
        (b"[logins]\ncpu_weight = 1\n\0", "holds a NUL byte, in line 3"),
        (b"\xff", "not UTF-8: byte 0xff in line 1"),
        (big.as_bytes(), "larger than 1 MiB"),
        (b"[logins]\n[logins]\n", "duplicate key"),
    ] {
        let errors = Root::new(policy).errors();
        assert!(errors.iter().any(|line| line.contains(part)), "{part}: {errors:?}");
        assert_eq!(errors.last().unwrap(), "no policy is in force");
    }
}

#[test]
fn a_main_file_that_is_no_file_is_named() {
    let root = Root::new("");
    let main = root.path("etc/fairslice/policy.toml");
    fs::remove_file(&main).unwrap();
    assert!(root.errors()[0].contains("No such file"), "{:?}", root.errors());
    fs::create_dir(&main).unwrap();
    assert!(root.errors()[0].contains("not a regular file"));
    fs::remove_dir(&main).unwrap();
    nix::unistd::mkfifo(&main, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(root.errors()[0].contains("not a regular file"));
    fs::remove_file(&main).unwrap();
    fs::write(&main, "[logins]\ncpu_weight = 1\n").unwrap();
    fs::set_permissions(&main, fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads it all the same.
    if !nix::unistd::geteuid().is_root() {
        assert!(root.errors()[0].contains("Permission denied"));
    }
}

#[test]
fn a_broken_fragment_is_named_and_left_out() {
    let root = Root::new("[logins]\ncpu_weight = 100\n");
    fs::write(root.path("etc/fairslice/policy.d/50-x.toml"), "[logins]\ncpu_weight = 200\nio_weight = 0\n")
        .unwrap();
    assert!(root.errors()[0].starts_with("/etc/fairslice/policy.d/50-x.toml:3:13: io_weight = 0"));
    let (code, out, err) = root.run(&["policy"]);
    assert_eq!(out, "[logins]\ncpu_weight = 100  # /etc/fairslice/policy.toml:2\n");
    assert_eq!(code, 1);
    assert!(err.contains("50-x.toml:3:13"), "{err}");
}

#[test]
fn values_that_come_to_nothing_on_this_machine_are_named() {
    let root = Root::new(
        "[slice.\"a.slice\"]\nmemory_high = \"64G\"\n[logins.group.no-such-group-here]\ncpu_weight = 200\n\
         [logins.user.no-such-user-here]\ncpu_weight = 200\n",
    );
    let errors = root.errors();
    assert!(
        errors[0].contains(":2:15: warning: memory_high = 64G is above this machine's 1024M of RAM"),
        "{errors:?}"
    );
    assert!(errors[1].contains("there is no such group"), "{errors:?}");
    assert!(errors[2].contains("there is no such user"), "{errors:?}");
    // They hold all the same.
    assert!(root.run(&["policy"]).1.contains("memory_high = \"64G\""));
}

/// Anybody makes `/tmp/alice` before alice does.
#[test]
fn a_private_directory_whose_name_others_can_take_is_warned_of() {
    let root = Root::new("[private_dir.TMPDIR]\npath = \"/tmp/of/{user}\"\n");
    let mode = |path: &str, mode| {
        fs::set_permissions(root.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let warned = || {
        let (code, out, _) = root.run(&["check"]);
        assert_eq!((out.lines().count(), out.ends_with(": ok\n")), (1, code == 0), "{out}");
        if code == 0 { String::new() } else { out }
    };
    fs::create_dir_all(root.path("tmp")).unwrap();
    mode("tmp", 0o1777);
    let open = "[private_dir.TMPDIR]: in /tmp, a sticky directory, anybody can make the directory of another user first, for whom TMPDIR is not set then: declare a path";
    let said = warned();
    assert!(said.contains(":2:8: warning: ") && said.contains(open), "{said}");
    fs::create_dir_all(root.path("tmp/of")).unwrap();
    mode("tmp/of", 0o755);
    assert_eq!(warned(), "");
    mode("tmp/of", 0o1775);
    assert!(warned().contains("in /tmp/of, a sticky directory"));
    mode("tmp/of", 0o1755);
    assert_eq!(warned(), "");

    mode("tmp/of", 0o1777);
    let pam = |line: &str| {
        fs::create_dir_all(root.path("etc/pam.d")).unwrap();
        fs::write(root.path("etc/pam.d/sshd"), format!("# sshd\n{line}\n")).unwrap();
    };
    for line in ["session optional pam_fairslice.so strict", "session required pam_fairslice.so debug"] {
        pam(line);
        assert!(warned().contains("for whom TMPDIR is not set then"), "{line}");
    }
    pam("session required pam_fairslice.so debug strict");
    let locked = "who then cannot log in, for the module is strict (/etc/pam.d/sshd:2): declare a path";
    assert!(warned().contains(locked), "{}", warned());
}

#[test]
fn files_are_checked_as_one_policy() {
    let root = Root::new("");
    let (first, second) = (root.path("a.toml"), root.path("b.toml"));
    fs::write(&first, "[slice.\"a.slice\"]\nmatch = [\"local-*\"]\n").unwrap();
    fs::write(&second, "[slice.\"b.slice\"]\nmatch = [\"local-fs\"]\n").unwrap();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    assert_eq!(root.run(&["check", first]), (0, format!("{first}: ok\n"), String::new()));
    assert_eq!(root.run(&["check", second]).0, 0);
    let (code, out, _) = root.run(&["check", first, second]);
    assert!(code == 1 && out.contains("a service is in one slice"), "{out}");
    assert_eq!(root.run(&["check", "/nonexistent"]).0, 1);
}

#[test]
fn a_setting_that_a_policy_does_not_have_is_said_to_be_set_elsewhere() {
    let drop_in = "set it in a drop-in, \"systemctl edit";
    for (table, key, said) in [
        ("[slice.\"a.slice\"]", "startup_cpu_weight", format!("StartupCPUWeight=: {drop_in} a.slice\"")),
        ("[slice.\"a.slice\"]", "IPAddressAllow", format!("IPAddressAllow=: {drop_in} a.slice\"")),
        ("[service.a]", "device_allow", format!("DeviceAllow=: {drop_in} a.service\"")),
        ("[service.a]", "LimitNOFILE", format!("LimitNOFILE=: {drop_in} a.service\"")),
        ("[service.a]", "memory_accounting", "systemd turns it on where a limit is set".to_owned()),
        (
            "[logins]",
            "device_allow",
            "DeviceAllow=: set it in /etc/systemd/system/user-.slice.d/NAME.conf".to_owned(),
        ),
        ("[logins]", "LimitNOFILE", "limits.conf(5)".to_owned()),
        ("[logins.user.root]", "memory_min", "memory_min is for slices and services".to_owned()),
        ("[slice.\"a.slice\"]", "Nice", "nice is for services".to_owned()),
    ] {
        let errors = Root::new(format!("{table}\n{key} = 1\n")).errors();
        assert!(errors[0].contains(&format!(":2:1: unknown key \"{key}\" in {table}: ")), "{errors:#?}");
        assert!(errors[0].contains(&said) && !errors[0].contains("did you mean"), "{said}: {errors:#?}");
    }
    for (table, key, meant) in [
        ("[service.a]", "memory_swapmax", "memory_swap_max"),
        ("[service.a]", "CPUWeight", "cpu_weight"),
        ("[slice.\"a.slice\"]", "CPUQuota", "cpu_quota"),
        ("[service.a]", "OOMPolicy", "oom_policy"),
        ("[service.a]", "OOMScoreAdjust", "oom_score_adj"),
        ("[service.a]", "BlockIOWeight", "io_weight"),
        ("[logins]", "MemoryMin", "total_memory_min"),
        ("[logins]", "total_cpu_weight", "total_weight"),
        ("[logins]", "total_memory_hihg", "total_memory_high"),
    ] {
        let errors = Root::new(format!("{table}\n{key} = 1\n")).errors();
        assert!(errors[0].contains(&format!("did you mean \"{meant}\"?")), "{meant}: {errors:#?}");
    }
}

#[test]
fn quotas_bandwidths_and_what_services_take_are_checked() {
    for (table, line, said) in [
        ("[slice.\"a.slice\"]", "cpu_quota = 50", "a part of one CPU in whole percents"),
        ("[logins]", "cpu_quota = \"12.5%\"", "a part of one CPU in whole percents"),
        ("[logins]", "total_cpu_quota = \"0%\"", "a part of one CPU in whole percents"),
        ("[service.a]", "io_read_bandwidth_max = \"100M\"", "a device or a mount point"),
        ("[service.a]", "io_write_bandwidth_max = \"/srv fast\"", "a device or a mount point"),
        ("[service.a]", "allowed_cpus = \"3-1\"", "numbers and ranges of CPUs"),
        ("[service.a]", "oom_policy = \"Kill\"", "\"continue\", \"stop\", \"kill\""),
        ("[service.a]", "nice = 20", "a number from -20 to 19"),
        ("[service.a]", "nice = \"5\"", "a number from -20 to 19"),
        ("[service.a]", "io_scheduling_class = \"2\"", "\"none\", \"realtime\", \"best-effort\", \"idle\""),
        ("[logins]", "total_memory_max = 0", "more than nothing"),
        ("[logins]", "total_tasks_max = 0", "a number of tasks from 1"),
    ] {
        let errors = Root::new(format!("{table}\n{line}\n")).errors();
        let at = line.find('=').unwrap() + 3;
        assert!(errors[0].contains(&format!(":2:{at}: ")) && errors[0].contains(said), "{line}: {errors:#?}");
    }
}

#[test]
fn what_all_logins_have_together_contradicts_nothing() {
    let totals = |lines: &str| Root::new(format!("[logins]\n{lines}\n")).errors();
    let inverted = totals("total_memory_min = \"2G\"\ntotal_memory_max = \"1G\"");
    let expected =
        ":2:20: total_memory_min = 2G is above total_memory_max = 1G (/etc/fairslice/policy.toml:3)";
    assert!(inverted[0].contains(expected), "{inverted:#?}");
    let promised = Root::new(
        "[slice.\"a.slice\"]\nmemory_min = \"60%\"\n[slice.\"a-b.slice\"]\nmemory_min = \"50%\"\n\
         [logins]\ntotal_memory_min = \"41%\"\n",
    );
    let expected =
        ":6:20: total_memory_min = 41%: with the memory_min of the slices, 101.00% of RAM are promised";
    assert!(promised.errors()[0].contains(expected), "{:#?}", promised.errors());
    // On this machine of 1 GiB.
    let room = totals("total_memory_max = \"1M\"\ntotal_tasks_max = 2");
    assert!(
        room[0].contains("warning: total_memory_max = 1M: a login takes 6M") && room[0].contains("everybody")
    );
    assert!(room[1].contains("warning: total_tasks_max = 2: a login takes 6 tasks"), "{room:#?}");
    let above = totals("total_memory_high = \"2G\"");
    assert!(above[0].contains("warning: total_memory_high = 2G is above this machine's 1024M"), "{above:#?}");
    let one = totals("memory_max = \"80%\"\ntotal_memory_max = \"70%\"");
    let expected = ":2:14: warning: 80% is never reached: all logins together have 70%";
    assert!(one[0].contains(expected), "{one:#?}");
}

#[test]
fn what_this_machine_has_not_is_warned_of_and_holds() {
    let root = Root::new(
        "[slice.\"a.slice\"]\ncpu_quota = \"300%\"\nio_read_bandwidth_max = \"/no/such 1M\"\n\
         [service.a]\nallowed_cpus = \"0-2\"\n",
    );
    fs::create_dir_all(root.path("sys/devices/system/cpu")).unwrap();
    fs::write(root.path("sys/devices/system/cpu/online"), "0-1\n").unwrap();
    let errors = root.errors();
    for (error, said) in errors.iter().zip([
        ":2:13: warning: cpu_quota = 300% is above this machine's 2 CPUs and is never reached",
        ":3:25: warning: io_read_bandwidth_max = /no/such 1M limits nothing: /no/such is no device, and lies on none",
        ":5:16: warning: allowed_cpus = 0-2: this machine has 0-1, and the kernel takes no set with others",
    ]) {
        assert!(error.contains(said), "{errors:#?}");
    }
    assert_eq!(errors.len(), 3);
    let (code, out, _) = root.run(&["policy"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("io_read_bandwidth_max = \"/no/such 1M\"") && out.contains("allowed_cpus = \"0-2\""),
        "{out}"
    );
}

#[test]
fn what_the_disks_the_swap_and_the_scheduler_make_nothing_of_is_warned_of() {
    let root = Root::new(
        "[slice.\"a.slice\"]\nio_weight = 400\nmemory_swap_max = \"100M\"\ncpu_weight = 200\n[logins]\n\
         total_io_weight = 50\n",
    );
    assert_eq!(root.run(&["check"]).0, 0);
    for (path, text) in [
        ("sys/block/vda/device/vendor", ""),
        ("sys/block/vda/dev", "254:0\n"),
        ("sys/block/vda/queue/scheduler", "[mq-deadline] none\n"),
        ("sys/kernel/sched_ext/state", "enabled\n"),
        ("sys/kernel/sched_ext/root/ops", "lavd_1.0.20\n"),
        ("proc/meminfo", "MemTotal:        1048576 kB\nSwapTotal:       0 kB\n"),
    ] {
        fs::create_dir_all(root.path(path).parent().unwrap()).unwrap();
        fs::write(root.path(path), text).unwrap();
    }
    let errors = root.errors();
    let disk = "decides nothing on any disk: vda has the scheduler mq-deadline and no io.cost";
    for (error, said) in errors.iter().zip([
        format!(":2:13: warning: io_weight = 400 {disk}"),
        ":3:19: warning: memory_swap_max = 100M limits nothing: this machine has no swap".to_owned(),
        format!(":6:19: warning: total_io_weight = 50 {disk}"),
        ":4:14: warning: cpu_weight = 200: what weights come to is as the sched_ext scheduler lavd_1.0.20"
            .to_owned(),
    ]) {
        assert!(error.contains(&said), "{errors:#?}");
    }
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

#[test]
fn private_directories_are_checked() {
    let dir = |lines: &str| format!("[private_dir.GOCACHE]\npath = \"/srv/go/{{user}}\"\n{lines}\n");
    for (lines, start, part) in [
        ("user = [\"alice\"]", ":3:1: unknown key", "did you mean \"users\"?"),
        ("max_ages = \"30d\"", ":3:1: unknown key", "did you mean \"max_age\"?"),
        ("users = \"alice\"", ":3:9: users = ", "a list of names"),
        ("groups = []", ":3:10: groups = []: ", "leave the key out for everybody"),
        ("groups = [1]", ":3:11: groups = 1: ", "a name in quotes"),
        ("min_uid = 0", ":3:11: min_uid = 0: ", "from 1 to 4294967294"),
        ("mode = 0o700", ":3:8: mode = ", "a mode in quotes"),
        ("mode = \"0770\"", ":3:8: mode = ", "no writing for group and others"),
        ("max_age = \"30\"", ":3:11: max_age = ", "\"30d\""),
        ("max_age = \"30d\"", ":3:11: [private_dir.GOCACHE]: max_age is for CARGO_TARGET_DIR and", "Ageing"),
        ("[private_dir.X]\npath = \"{home}\"", ":4:8: path = ", "goes on below {home}"),
        (
            "[private_dir.CARGO_TARGET_DIR]\npath = \"{home}/x\"\nmax_age = \"1d\"",
            ":5:11: [private_dir.CARGO_TARGET_DIR]: max_age with",
            "/srv/cargo_target_dir/",
        ),
        ("groups = [\"no-such-group-here\"]", ":3:11: warning: ", "[private_dir.GOCACHE]: there is no group"),
        ("users = [\"root\", \"no-such-user\"]", ":3:18: warning: ", "there is no user \"no-such-user\""),
    ] {
        let errors = Root::new(dir(lines)).errors();
        let start = format!("/etc/fairslice/policy.toml{start}");
        assert!(errors[0].starts_with(&start) && errors[0].contains(part), "{lines}: {errors:?}");
    }
}

#[test]
fn a_private_directory_is_for_whom_it_says() {
    let root = Root::new("");
    let file = root.path("one.toml");
    let is_for = |lines: &str, user: &str, uid: u32, groups: &[&str]| {
        fs::write(&file, format!("[private_dir.GOCACHE]\npath = \"/srv/go/{{user}}\"\n{lines}\n")).unwrap();
        let policy = fairslice::policy::load_files(std::slice::from_ref(&file)).policy;
        let dir = policy.private_dirs.into_values().next().unwrap();
        dir.excludes(&Somebody { uid, name: user, groups }).unwrap().is_none()
    };
    assert!(is_for("", "alice", 1000, &[]));
    assert!(!is_for("", "alice", 999, &[]));
    assert!(!is_for("", "nobody", 65534, &[]));
    let either = "users = [\"alice\"]\ngroups = [\"dev\"]";
    assert!(is_for(either, "alice", 1000, &[]));
    assert!(is_for(either, "bob", 1001, &["users", "dev"]));
    assert!(!is_for(either, "bob", 1001, &["users"]));
    assert!(!is_for(either, "alice", 999, &["dev"]));
    assert!(is_for("min_uid = 1", "daemon", 1, &[]));
    assert!(!is_for("min_uid = 2000", "alice", 1000, &[]));
    assert!(!is_for("min_uid = 1\nusers = [\"root\"]", "root", 0, &[]));
    // A directory service's user; a greeter, a service with DynamicUser=.
    assert!(is_for("", "alice@corp.example", 1_234_400_001, &[]));
    for uid in [60578, 60705, 61184, 65519] {
        assert!(!is_for("", "gdm-greeter", uid, &[]), "{uid}");
    }
    assert!(is_for("max_uid = 65519", "old", 61184, &[]) && !is_for("max_uid = 65519", "old", 65520, &[]));
    assert!(!is_for("max_uid = 60000", "alice@corp.example", 1_234_400_001, &[]));
    // By another name of hers.
    assert!(is_for("users = [\"CORP\\\\alice\"]", "alice", 1000, &[]));
}

/// A user whom a directory service also knows as `CORP\NAME`.
struct Somebody<'a> {
    uid: u32,
    name: &'a str,
    groups: &'a [&'a str],
}

impl Who for Somebody<'_> {
    type Error = Infallible;

    fn uid(&self) -> u32 {
        self.uid
    }

    fn name(&self) -> Option<&str> {
        Some(self.name)
    }

    fn is_called(&self, name: &str) -> Result<bool, Infallible> {
        Ok(name.strip_prefix("CORP\\") == Some(self.name))
    }

    fn is_in(&self, group: &str) -> Result<bool, Infallible> {
        Ok(self.groups.contains(&group))
    }
}

#[test]
fn the_rule_of_a_user() {
    let root = Root::new("");
    let file = root.path("one.toml");
    let rules = "[logins]\ntasks_max = 9\n[logins.user.alice]\ncpu_weight = 1\n[logins.user.'CORP\\alice']\ncpu_weight = 2\n\
                 [logins.user.'CORP\\bob']\ncpu_weight = 3\n[logins.group.dev]\ncpu_weight = 4\n";
    fs::write(&file, rules).unwrap();
    let policy = fairslice::policy::load_files(std::slice::from_ref(&file)).policy;
    let rule = |name: &str, uid: u32, groups: &[&str]| {
        let (of, rule) = policy.logins.rule(&Somebody { uid, name, groups }).unwrap();
        let value = |setting: fairslice::policy::Setting<'_>| setting.value.to_string();
        (of.to_string(), rule.resources.settings().map(value).collect::<Vec<_>>().join(" "))
    };
    let expect = |of: &str, values: &str| (of.to_owned(), values.to_owned());
    assert_eq!(rule("alice", 1000, &["dev"]), expect("[logins.user.alice]", "1 9"));
    assert_eq!(rule("bob", 1001, &["dev"]), expect("[logins.user.\"CORP\\\\bob\"]", "3 9"));
    assert_eq!(rule("carol", 1002, &["dev"]), expect("[logins.group.dev]", "4 9"));
    assert_eq!(rule("carol", 1002, &[]), expect("[logins]", "9"));
    assert_eq!(rule("gdm-greeter", 60578, &["dev"]), expect("[logins.group.dev]", "4 9"));
    assert_eq!(rule("gdm-greeter", 60578, &[]), expect("[logins] without its score", "9"));
}

/// What a group weighs together is divided, and the kernel's least is 1; a later file's total holds.
#[test]
fn the_weight_of_a_group_is_divided_among_its_members() {
    let root = Root::new("");
    let file = |name: &str, text: &str| {
        let file = root.path(name);
        fs::write(&file, text).unwrap();
        file
    };
    let first =
        file("1.toml", "[logins]\ncpu_weight = 7\n[logins.group.acme]\ntasks_max = 9\ntotal_weight = 100\n");
    let later =
        file("2.toml", "[logins.group.acme]\ntotal_weight = 50\n[logins.group.\"a b\"]\ntotal_weight = 2\n");
    let policy = fairslice::policy::load_files(&[first, later]).policy;
    let weight = |uid: u32, group: &str, members: usize| {
        let who = Somebody { uid, name: "somebody", groups: &[group] };
        let (of, rule) = policy.logins.rule(&who).unwrap();
        policy.logins.among(of, uid, rule, members).cpu_weight().unwrap().to_string()
    };
    let weights = [1, 2, 3, 50, 51, 1000].map(|members| weight(1000, "acme", members));
    assert_eq!(weights, ["50", "25", "16", "1", "1", "1"]);
    assert_eq!(weight(1000, "a b", 1), "2");
    assert_eq!((weight(0, "acme", 1), weight(1000, "other", 3)), ("7".to_owned(), "7".to_owned()));
    let (code, merged, _) = Root::new("[logins.group.\"a b\"]\ntotal_weight = 2\n").run(&["policy"]);
    assert!(code == 0 && merged.starts_with("[logins.group.\"a b\"]\ntotal_weight = 2  # "), "{merged}");
}

#[test]
fn a_group_weighs_something_together_or_each_of_its_members_does() {
    let policy = "[logins.group.daemon]\ncpu_weight = 200\ntotal_weight = 100\n";
    let (code, out, _) = Root::new(policy).run(&["check"]);
    assert!(code != 0 && out.contains("policy.toml:3:") && out.contains("cpu_weight"), "{out}");
    let (code, out, _) = Root::new("[logins.group.no-such-group-here]\ntotal_weight = 100\n").run(&["check"]);
    assert!(code != 0 && out.contains("policy.toml:2:") && out.contains("there is no such group"), "{out}");
    for wrong in ["0", "10001", "\"idle\"", "\"sum\"", "1.5", "[]"] {
        let policy = format!("[logins.group.daemon]\ntotal_weight = {wrong}\n");
        let (code, out, _) = Root::new(policy).run(&["check"]);
        assert!(code != 0 && out.contains("expected a weight from 1 to 10000"), "{wrong}: {out}");
    }
}

/// What `trusted_groups` costs is said once, and is nothing wrong; who does not exist is trusted with nothing.
#[test]
fn whom_private_directories_are_trusted_with_is_a_note() {
    let dir = |name: &str, groups: &str| {
        format!("[private_dir.{name}]\npath = \"/srv/{name}/{{user}}\"\ntrusted_groups = {groups}\n")
    };
    let root = Root::new(dir("A", "[\"daemon\", \"no-such-group-here\"]") + &dir("B", "[\"daemon\"]"));
    let (code, out, _) = root.run(&["check"]);
    let note =
        "note: members of daemon can put another directory in the place of a private one (trusted_groups, ";
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert!(out.contains(": ok\n") && out.contains(note) && out.ends_with("policy.toml:3)\n"), "{out}");
    let (code, out, _) = Root::new(dir("A", "[\"no-such-group-here\"]")).run(&["check"]);
    assert_eq!((code, out.lines().count()), (0, 1), "{out}");
    let (code, out, _) = Root::new(dir("A", "[]")).run(&["check"]);
    assert!(
        code != 0 && out.contains("at least one name ([\"dev\"]); leave the key out for nobody"),
        "{out}"
    );
}

/// A later file's table stands in the place of the earlier one's, and is printed with all its keys.
#[test]
fn a_private_directory_is_replaced_as_a_whole() {
    let root = Root::new(
        "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/go/{user}\"\nmin_uid = 500\nmax_age = \"30d\"\n",
    );
    let later = "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/go/{uid}\"\nusers = [\"root\"]\ngroups = [\"root\", \"daemon\"]\n\
                 trusted_groups = [\"daemon\"]\nmode = \"750\"\nmax_age = \"1d12h\"\n[private_dir.TMPDIR]\npath = \"{home}/tmp\"\nmin_uid = 1\n";
    fs::write(root.path("etc/fairslice/policy.d/10-more.toml"), later).unwrap();
    let (code, merged, _) = root.run(&["policy"]);
    let settings: Vec<&str> =
        merged.lines().map(|line| line.split("  #").next().unwrap().trim_end()).collect();
    assert_eq!(code, 0);
    assert_eq!(
        settings,
        [
            "[private_dir.CARGO_TARGET_DIR]",
            "path = \"/srv/go/{uid}\"",
            "users = [\"root\"]",
            "groups = [\"root\", \"daemon\"]",
            "trusted_groups = [\"daemon\"]",
            "mode = \"0750\"",
            "max_age = \"36h\"",
            "",
            "[private_dir.TMPDIR]",
            "path = \"{home}/tmp\"",
            "min_uid = 1",
        ]
    );
}

/// What is printed is itself a policy, and comes to the same.
#[test]
fn the_merged_policy_reads_back_as_itself() {
    let root = Root::new(fs::read(packaged()).unwrap());
    let extra = "[logins.group.\"a b\"]\ncpu_weight = \"idle\"\n[slice.\"foundry-services.slice\"]\ncpu_weight = 300\n\
                 [service.\"worker@\"]\ntasks_max = \"10%\"\n";
    fs::write(root.path("etc/fairslice/policy.d/10-more.toml"), extra).unwrap();
    let (_, merged, _) = root.run(&["policy"]);
    assert!(merged.contains("cpu_weight = 300        # /etc/fairslice/policy.d/10-more.toml:4"), "{merged}");
    assert!(merged.contains("memory_high = \"68.75%\"  # /etc/fairslice/policy.toml:8"), "{merged}");
    let again = Root::new(&merged);
    let strip = |text: &str| {
        text.lines().map(|line| line.split("  #").next().unwrap().trim_end().to_owned()).collect()
    };
    let (before, after): (Vec<String>, Vec<String>) = (strip(&merged), strip(&again.run(&["policy"]).1));
    assert_eq!(before, after);
}

/// The policy of a large host is read in no time that anybody would notice.
#[test]
fn ten_thousand_services_are_a_policy() {
    use std::fmt::Write as _;
    let mut policy = String::new();
    for number in 0..10_000 {
        writeln!(policy, "[service.local-{number}]\noom_score_adj = {}", number % 1000).unwrap();
    }
    let (code, out, _) = Root::new(policy).run(&["check"]);
    assert_eq!((code, out.as_str()), (0, "/etc/fairslice/policy.toml: ok\n"));
}

/// A file of 1 MiB is read in a login: whatever it says, it must not take the square of that. One that did
/// would be ended here by `timeout`.
#[test]
fn large_files_are_read_to_their_end() {
    let lines = |count, line: fn(u32) -> String| (0..count).map(line).collect::<Vec<_>>().concat();
    let wrong = lines(60_000, |n| format!("key{n} = {n}\n"));
    let wrong_elements = format!("[slice.\"a.slice\"]\nmatch = [{}]\n", "7,".repeat(500_000));
    let users = lines(25_000, |n| format!("[logins.user.u{n}]\ncpu_weight=9\n"));
    let one_line: Vec<String> = (0..50_000).map(|n| format!("\"s{n}\"")).collect();
    let one_line = format!("[slice.\"a.slice\"]\nmatch = [{}]\n", one_line.join(","));
    let two_slices = format!("{one_line}{}", one_line.replace("a.slice", "b.slice").replace("\"s", "\"t"));
    for (text, last_line) in [
        (&wrong, "policy.toml: 59900 more errors"),
        (&wrong_elements, "policy.toml: 499900 more errors"),
        (&one_line, "ok"),
        (&two_slices, "ok"),
    ] {
        let (_, out, _) = Root::new(text).run(&["check"]);
        assert!(out.contains(last_line), "{}", out.lines().last().unwrap_or("ended"));
    }
    let (code, out, _) = Root::new(users).run(&["policy"]);
    assert!(code == 0 && out.contains("[logins.user.u24999]"));
}

#[test]
fn a_name_that_lacks_its_quotes_is_said_with_them() {
    for (header, meant) in [
        ("[logins.user.john.doe]", r#"[logins.user."john.doe"]"#),
        ("[logins.group.john.van.doe]", r#"[logins.group."john.van.doe"]"#),
        ("[slice.foundry.slice]", r#"[slice."foundry.slice"]"#),
        ("[service.local-fs.service]", r#"[service."local-fs.service"]"#),
        ("[logins.user.alice@corp.example]", r#"[logins.user."alice@corp.example"]"#),
        ("  [logins.group.domain users] # all", r#"[logins.group."domain users"]"#),
        (r"[logins.user.CORP\alice]", r#"[logins.user."CORP\\alice"]"#),
        (r#"[logins.user."CORP\alice"]"#, r#"[logins.user."CORP\\alice"]"#),
    ] {
        let errors = Root::new(format!("[logins]\ncpu_weight = 9\n{header}\ncpu_weight = 1\n")).errors();
        let [error, _] = errors.as_slice() else { panic!("{header}: {errors:?}") };
        assert!(error.starts_with("/etc/fairslice/policy.toml:3:"), "{error}");
        assert!(error.contains(": quote ") && error.ends_with(&format!(": {meant}")), "{error}");
        let (code, out, _) = Root::new(format!("{meant}\n{}\n", "cpu_weight = 1")).run(&["policy"]);
        assert!(code == 0 || out.contains("no such"), "{meant}: {out}");
    }
    // A name that is right has something else wrong with it.
    let errors =
        Root::new("[logins.user.'a b']\ncpu_weight = 1\n[logins.user.alice]\n[logins.user.alice]\n").errors();
    assert!(errors[0].contains(":4:") && !errors[0].contains("quote"), "{errors:?}");
    // Beside keys of its own.
    let errors =
        Root::new("[logins.user.john]\ncpu_weight = 0\n[logins.user.john.doe]\ncpu_weight = 1\n").errors();
    assert!(errors.iter().any(|error| error.contains(r#"[logins.user."john.doe"]"#)), "{errors:?}");
}

#[test]
fn who_a_rule_is_about_is_said() {
    let errors =
        Root::new("[logins.user.root]\ncpu_weight = 1\n[logins.user.no-such-user]\ncpu_weight = 2\n")
            .errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("[logins.user.no-such-user]: there is no such user"), "{errors:?}");
}

#[test]
fn limits_under_which_nobody_can_log_in() {
    let said = |text: &str| Root::new(text).errors().join("\n");
    let all = said("[logins]\nmemory_max = \"1M\"\n");
    assert!(
        all.contains(":2:14: warning: memory_max = 1M: a login takes ") && all.contains("root included"),
        "{all}"
    );
    assert!(said("[logins]\nmemory_max = \"0.5%\"\n").contains("memory_max = 0.5%: a login takes"));
    let one = said("[logins.user.root]\ntasks_max = 3\n");
    assert!(
        one.contains("tasks_max = 3: a login takes ") && one.contains("those whom this rule is for"),
        "{one}"
    );
    for right in ["memory_max = \"64M\"", "memory_max = \"50%\"", "tasks_max = 64", "tasks_max = \"1%\""] {
        let (code, out, _) = Root::new(format!("[logins]\n{right}\n")).run(&["check"]);
        assert!(code == 0 && out.ends_with(": ok\n"), "{right}: {out}");
    }
}
