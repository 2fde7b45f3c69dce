//! What keeps logins from what is declared for them: each cause by one change of a machine on which all
//! is well.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

use common::{machine, replace, write};
use fairslice::doctor::finding::{Finding, Fix, sorted};
use fairslice::doctor::{directories, launchers, logins};
use fairslice::enforce::{adopt, private_dir};
use fairslice::host::account::Account;
use fairslice::host::logins::LoginSetup;
use fairslice::host::machine::Machine;
use fairslice::host::processes;
use fairslice::host::settings::Settings;
use fairslice::host::tree::Tree;
use fairslice::host::units::Units;
use fairslice::policy;
use fairslice::survey::snapshot::{self, Extent};

use nix::unistd::geteuid;
use tempfile::TempDir;

const COMMON: &str = "/etc/pam.d/common-session";
const POLICY: &str = "/etc/fairslice/policy.toml";
const OURS: &str = "session\toptional\tpam_fairslice.so ";
const MODULE: &str = "usr/lib/x86_64-linux-gnu/security/pam_fairslice.so";

fn found(root: &Path) -> Vec<Finding> {
    let units = Units::read(root).unwrap();
    let settings = Settings::read(root, &units);
    let declared = policy::load(root).policy;
    let live = snapshot::read(root, Tree::read(root).unwrap(), &declared, Extent::Everything, None).unwrap();
    let processes = processes::read(root).unwrap();
    let (machine, logins) = (Machine::read(root).unwrap(), LoginSetup::read(root));
    let (units, settings, live, processes) = (&units, &settings, &live, &processes.all[..]);
    let seen = logins::Seen { machine, logins: &logins, live, units, settings, processes, cpus: 2 };
    sorted(logins::findings(&declared, &seen))
}

/// The one finding, as `CODE SUBJECT: WHAT (PLACE)`, without the name that a number has here.
fn only(root: &Path) -> String {
    let found = found(root);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    let at = finding.at.as_ref().unwrap().to_string().replace(root.to_str().unwrap(), "");
    let subject = finding.subject.to_string();
    let subject = subject.split(" (").next().unwrap();
    format!("{} {subject}: {} ({at})", finding.code, finding.what)
}

fn well() -> TempDir {
    machine("fairslice")
}

#[test]
fn a_machine_on_which_all_is_well_has_nothing() {
    assert_eq!(found(well().path()), []);
}

#[test]
fn with_nothing_declared_for_logins_there_is_nothing_to_find() {
    let machine = machine("debian-13");
    assert_eq!(found(machine.path()), []);
    write(machine.path(), POLICY, "[service.cron]\noom_score_adj = 1\n");
    assert_eq!(found(machine.path()), []);
}

#[test]
fn a_profile_that_is_off_is_one_finding() {
    let machine = well();
    let root = machine.path();
    replace(root, COMMON, OURS, "");
    replace(root, &format!("{COMMON}-noninteractive"), OURS, "");
    assert_eq!(
        only(root),
        "FS040 sshd, login, su, su-l, sudo-i, systemd-user, cron, atd, sudo: \
         sessions open without pam_fairslice.so (/etc/pam.d/common-session)"
    );
    let finding = found(root).remove(0);
    assert_eq!(
        finding.cause,
        "no line of pam_fairslice.so in /etc/pam.d/common-session and /etc/pam.d/common-session-noninteractive"
    );
    // For weights alone, jobs do not matter.
    write(root, POLICY, "[logins]\ncpu_weight = 100\n");
    assert!(only(root).starts_with("FS040 sshd, login, su, su-l: "), "{}", only(root));
}

/// The real `pam-auth-update`, below a root, with a debconf of its own.
fn pam_auth_update(root: &Path, arguments: &[&str]) {
    let shown = root.to_str().unwrap();
    let database =
        |name: &str| format!("Name: {name}\nDriver: File\nMode: 644\nFilename: {shown}/{name}.dat\n");
    let config =
        format!("Config: config\nTemplates: templates\n\n{}\n{}", database("config"), database("templates"));
    write(root, "/debconf.conf", &config);
    let mut command = Command::new("/usr/sbin/pam-auth-update");
    command.args(["--root", shown]).args(arguments).env("DEBCONF_SYSTEMRC", root.join("debconf.conf"));
    let output = command.env("DEBIAN_FRONTEND", "noninteractive").env("HOME", shown).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// What is printed is done, in both states, and the finding is gone.
#[test]
fn the_fix_of_a_missing_line_works() {
    if !Path::new("/usr/sbin/pam-auth-update").exists() || !Path::new("/var/lib/pam/session").exists() {
        eprintln!("the_fix_of_a_missing_line_works: skipped: needs libpam-runtime");
        return;
    }
    let machine = well();
    let root = machine.path();
    for directory in ["/etc/pam.d", "/var/lib/pam", "/usr/share/pam-configs"] {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if directory != "/etc/pam.d" || name.starts_with("common-") {
                write(root, &format!("{directory}/{name}"), &fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    write(root, "/usr/share/pam-configs/fairslice", include_str!("../packaging/pam-configs/fairslice"));
    pam_auth_update(root, &["--package"]);
    pam_auth_update(root, &["--enable", "fairslice"]);
    assert_eq!(found(root), []);

    pam_auth_update(root, &["--disable", "fairslice"]);
    assert_eq!(found(root)[0].fix, Fix::Command("pam-auth-update --enable fairslice".to_owned()));
    pam_auth_update(root, &["--enable", "fairslice"]);
    assert_eq!(found(root), []);

    pam_auth_update(root, &["--disable", "fairslice"]);
    let unix = "pam_unix.so";
    replace(root, COMMON, unix, &format!("{unix}\nsession required pam_limits.so"));
    let Fix::Edit(words) = &found(root)[0].fix else { panic!("{:?}", found(root)) };
    let line = "session optional pam_fairslice.so";
    assert_eq!(
        *words,
        format!(
            "add \"{line}\" at the end of {COMMON} and {COMMON}-noninteractive, which pam-auth-update does not change any more"
        )
    );
    let before = fs::read_to_string(root.join("etc/pam.d/common-session")).unwrap();
    pam_auth_update(root, &["--enable", "fairslice"]);
    assert_eq!(fs::read_to_string(root.join("etc/pam.d/common-session")).unwrap(), before);
    for file in [COMMON, &format!("{COMMON}-noninteractive")] {
        let text = fs::read_to_string(root.join(file.trim_start_matches('/'))).unwrap();
        write(root, file, &format!("{text}{line}\n"));
    }
    assert_eq!(found(root), []);
}

/// Does what the words of the one finding say, letter for letter; then nothing is found.
fn mend(root: &Path) {
    let found = found(root);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    let Fix::Edit(words) = &finding.fix else { panic!("{finding:?}") };
    let words = words.replace(root.to_str().unwrap(), "");
    let place = |text: &str| {
        let (file, line) = text.rsplit_once(':').unwrap();
        (file.to_owned(), line.parse::<usize>().unwrap() - 1)
    };
    let lines = |file: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(file.trim_start_matches('/'))).unwrap();
        text.lines().map(str::to_owned).collect()
    };
    let put = |file: &str, lines: &[String]| write(root, file, &(lines.join("\n") + "\n"));
    let quoted = || words.split('"').nth(1).unwrap().to_owned();
    if let Some(moved) = words.strip_prefix("move line ") {
        let (from, below) = moved.split_once(" below ").unwrap();
        let ((file, from), (other, below)) = (place(from), place(below));
        assert_eq!(file, other);
        let mut all = lines(&file);
        let line = all[from].clone();
        all.insert(below + 1, line);
        all.remove(from);
        put(&file, &all);
    } else if let Some((_, below)) = words.split_once("\" below ") {
        let (file, below) = place(below);
        let mut all = lines(&file);
        all.insert(below + 1, quoted());
        put(&file, &all);
    } else if let Some((_, file)) = words.split_once("\" at the end of ") {
        let mut all = lines(file);
        all.push(quoted());
        put(file, &all);
    } else if let Some(made) = words.strip_prefix("make ") {
        let (file, line) = place(made.split(' ').next().unwrap());
        let mut all = lines(&file);
        all[line] = quoted();
        put(&file, &all);
    } else if words.starts_with("write ") {
        let (_, at) = words.split_once(" in ").unwrap();
        let at = at.strip_suffix(", then \"systemctl reload ssh\"").unwrap();
        if at.contains(':') {
            let (file, line) = place(at);
            let mut all = lines(&file);
            all[line] = quoted();
            put(&file, &all);
        } else {
            let mut all = lines(at);
            all.push(quoted());
            put(at, &all);
        }
    } else {
        panic!("{words}");
    }
    assert_eq!(self::found(root), [], "{words}");
}

#[test]
fn a_service_that_includes_nothing_is_named_with_its_file() {
    let machine = well();
    let root = machine.path();
    for own in ["", "session optional pam_systemd.so\nsession optional pam_echo.so\n"] {
        let sshd = fs::read_to_string(well().path().join("etc/pam.d/sshd")).unwrap();
        write(root, "/etc/pam.d/sshd", &sshd.replace("@include common-session\n", own));
        assert_eq!(only(root), "FS040 sshd: sessions open without pam_fairslice.so (/etc/pam.d/sshd)");
        mend(root);
    }
}

#[test]
fn a_line_before_logind_s_is_found() {
    let machine = well();
    let root = machine.path();
    replace(root, COMMON, OURS, "");
    replace(
        root,
        COMMON,
        "session\toptional\tpam_systemd.so",
        &format!("{OURS}\nsession\toptional\tpam_systemd.so"),
    );
    let text = fs::read_to_string(root.join("etc/pam.d/common-session")).unwrap();
    let line = text.lines().position(|line| line == OURS).unwrap() + 1;
    assert_eq!(
        only(root),
        format!(
            "FS041 sshd, login, su, su-l: pam_fairslice.so runs before pam_systemd.so, \
             which makes the session (/etc/pam.d/common-session:{line})"
        )
    );
    mend(root);
}

#[test]
fn an_edited_line_is_found_where_it_changes_something() {
    let machine = well();
    let mut before = OURS.to_owned();
    for (line, what) in [
        ("session optional pam_fairslice.so debug", None),
        ("session required pam_fairslice.so strict", None),
        ("-session required pam_fairslice.so", None),
        ("session [success=ok default=bad] pam_fairslice.so strict debug", None),
        (
            "session optional pam_fairslice.so root=/tmp/x",
            Some("pam_fairslice.so looks for everything below /tmp/x"),
        ),
        ("session sufficient pam_fairslice.so", Some("the rest of the session stack is skipped")),
        (
            "session [success=done default=ignore] pam_fairslice.so",
            Some("the rest of the session stack is skipped"),
        ),
        ("session optional pam_fairslice.so strict", Some("\"strict\" refuses nothing")),
        ("session optional pam_fairslice.so stric", Some("the argument \"stric\" is ignored")),
    ] {
        replace(machine.path(), COMMON, &before, line);
        before = line.to_owned();
        match what {
            Some(what) => assert_eq!(
                only(machine.path()),
                format!("FS042 sshd, login, su, su-l, sudo-i: {what} (/etc/pam.d/common-session:27)")
            ),
            None => assert_eq!(found(machine.path()), [], "{line}"),
        }
    }
    mend(machine.path());
}

#[test]
fn a_missing_module_is_found_wherever_libpam_looks() {
    let machine = well();
    let root = machine.path();
    fs::remove_file(root.join(MODULE)).unwrap();
    // One, although two files have the line.
    assert_eq!(
        only(root),
        "FS043 sshd, login, su, su-l, sudo-i, systemd-user, cron, atd, sudo: sessions open without \
         pam_fairslice.so (/etc/pam.d/common-session:27)"
    );
    write(root, "/usr/lib/security/pam_fairslice.so", "");
    assert_eq!(found(root), []);
    let absolute = OURS.replace("pam_fairslice.so ", "/opt/pam_fairslice.so");
    replace(root, COMMON, OURS, &absolute);
    assert_eq!(
        only(root),
        "FS043 sshd, login, su, su-l, sudo-i: sessions open without pam_fairslice.so \
         (/etc/pam.d/common-session:27)"
    );
    write(root, "/opt/pam_fairslice.so", "");
    assert_eq!(found(root), []);
    fs::remove_file(root.join("opt/pam_fairslice.so")).unwrap();
    write(root, &format!("/{MODULE}"), "");
    mend(root);
}

#[test]
fn an_sshd_without_pam_is_found() {
    let machine = well();
    let root = machine.path();
    write(root, "/etc/ssh/sshd_config.d/05-x.conf", "# mine\nUsePAM no\n");
    assert_eq!(only(root), "FS044 sshd: sshd opens no PAM session (/etc/ssh/sshd_config.d/05-x.conf:2)");
    mend(root);
    write(root, "/etc/ssh/sshd_config", "Port 22\n");
    assert_eq!(only(root), "FS044 sshd: sshd opens no PAM session (/etc/ssh/sshd_config)");
    mend(root);
    fs::remove_file(root.join("etc/ssh/sshd_config")).unwrap();
    assert_eq!(found(root), []);
}

#[test]
fn a_login_older_than_the_policy_is_found() {
    let machine = well();
    let root = machine.path();
    replace(root, POLICY, "[logins]\ncpu_weight    = 100", "[logins]\ntasks_max = 77\ncpu_weight    = 100");
    let all = found(root);
    assert_eq!(all.len(), 3, "each of root, alice and bob: {all:#?}");
    for (finding, uid) in all.iter().zip(["0", "1000", "1001"]) {
        assert_eq!(finding.code.to_string(), "FS045");
        assert!(finding.subject.to_string().starts_with(&format!("user-{uid}.slice")), "{finding:?}");
        assert!(finding.at.as_ref().unwrap().to_string().ends_with("policy.toml:21"), "{finding:?}");
    }
}

/// The value of alice's slice, as cgroupfs and PID 1 have it.
fn weight(root: &Path, live: &str, known: &str) {
    write(root, "/sys/fs/cgroup/user.slice/user-1000.slice/cpu.weight", &format!("{live}\n"));
    let show = fs::read_to_string(root.join("run/systemd/show")).unwrap();
    let units = show.split("\n\n").map(|unit| {
        let is_hers = unit.contains("Id=user-1000.slice\n");
        if is_hers {
            unit.replace("\nCPUWeight=100\n", &format!("\nCPUWeight={known}\n"))
        } else {
            unit.to_owned()
        }
    });
    let units: Vec<String> = units.collect();
    fs::write(root.join("run/systemd/show"), units.join("\n\n")).unwrap();
}

/// A drop-in of alice's slice that PID 1 has read last.
fn drop_in(root: &Path, file: &str) {
    write(root, file, "[Slice]\nCPUWeight=50\n");
    replace(
        root,
        "/run/systemd/show",
        "Id=user-1000.slice\n",
        &format!("Id=user-1000.slice\nDropInPaths={file}\n"),
    );
    let show = fs::read_to_string(root.join("run/systemd/show")).unwrap();
    // The block's own line came first.
    let mut kept = String::new();
    for unit in show.split("\n\n") {
        let lines = unit
            .lines()
            .filter(|line| !unit.contains(file) || !line.starts_with("DropInPaths=") || line.ends_with(file));
        kept += &lines.collect::<Vec<_>>().join("\n");
        kept += "\n\n";
    }
    fs::write(root.join("run/systemd/show"), kept).unwrap();
}

/// PID 1 writes it when it next starts a unit there.
#[test]
fn a_drop_in_that_is_not_written_yet_is_named() {
    let machine = well();
    weight(machine.path(), "100", "50");
    drop_in(machine.path(), "/etc/systemd/system/user-1000.slice.d/60-x.conf");
    let said = "FS011 user-1000.slice: cpu_weight 100 is overridden by 50";
    assert_eq!(only(machine.path()), format!("{said} (/etc/systemd/system/user-1000.slice.d/60-x.conf:2)"));
}

#[test]
fn the_first_link_that_breaks_is_named() {
    let what = "user-1000.slice: cpu_weight is 50, declared 100";
    let machine = well();
    weight(machine.path(), "50", "100");
    assert_eq!(only(machine.path()), format!("FS013 {what} ({POLICY}:21)"));
    for (file, code) in [
        ("/etc/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf", "FS012"),
        ("/etc/systemd/system/user-1000.slice.d/60-x.conf", "FS011"),
        ("/run/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf", "FS012"),
    ] {
        let machine = well();
        weight(machine.path(), "50", "50");
        drop_in(machine.path(), file);
        assert_eq!(only(machine.path()), format!("{code} {what} ({file}:2)"));
    }
    // Set by fairslice itself, at a login of before.
    let machine = well();
    weight(machine.path(), "50", "50");
    drop_in(machine.path(), "/run/systemd/system.control/user-1000.slice.d/50-CPUWeight.conf");
    write(machine.path(), "/run/fairslice/properties/user-1000.slice", "CPUWeight\n");
    assert_eq!(only(machine.path()), format!("FS045 {what} ({POLICY}:21)"));
}

#[test]
fn a_session_of_before_a_score_is_found() {
    let machine = well();
    let root = machine.path();
    replace(root, POLICY, "oom_score_adj = 0", "oom_score_adj = 200");
    let all = found(root);
    let codes: Vec<String> = all.iter().map(|finding| finding.code.to_string()).collect();
    assert_eq!(codes, ["FS045", "FS045", "FS045"]);
    assert!(all[1].what.ends_with("more with the OOM score 0, declared 200"), "{:?}", all[1]);
    // Earlier than declared is the user's own business, and a negative score the kill order's.
    for (score, findings) in [("199", 3), ("200", 0), ("300", 0), ("-500", 0)] {
        for entry in fs::read_dir(root.join("proc")).unwrap() {
            let file = entry.unwrap().path().join("oom_score_adj");
            if file.exists() {
                fs::write(file, format!("{score}\n")).unwrap();
            }
        }
        assert_eq!(found(root).len(), findings, "{score}");
    }
}

/// Who owns a private directory in a test: whoever runs it, and for root somebody of every Debian's.
fn owner() -> Account {
    let account =
        if geteuid().is_root() { Account::by_name("daemon") } else { Account::by_uid(geteuid().as_raw()) };
    account.unwrap().unwrap()
}

fn inspected(root: &Path) -> Vec<Finding> {
    let policy = policy::load(root).policy;
    directories::findings(&private_dir::inspect(root, &policy, &[]).unwrap().0)
}

/// The one finding of directories, as `CODE SUBJECT: WHAT`.
fn trouble(root: &Path) -> String {
    let found = inspected(root);
    let [finding] = found.as_slice() else { panic!("{found:#?}") };
    format!("{} {}: {}", finding.code, finding.subject, finding.what)
}

#[test]
fn a_private_directory_is_found_for_what_is_wrong_with_it() {
    let owner = owner();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, POLICY, "[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/target/{user}\"\nmin_uid = 1\n");
    fs::create_dir_all(root.join("srv/target")).unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["", "srv", "srv/target"] {
        mode(path, 0o755);
    }
    let own = root.join("srv/target").join(&owner.name);
    let own_below = format!("srv/target/{}", owner.name.shown());
    assert_eq!(inspected(root), []);

    symlink("/tmp", &own).unwrap();
    assert_eq!(trouble(root), format!("FS053 /{own_below}: is a link or no directory"));
    fs::remove_file(&own).unwrap();
    fs::write(&own, "").unwrap();
    assert_eq!(trouble(root), format!("FS053 /{own_below}: is a link or no directory"));
    fs::remove_file(&own).unwrap();

    fs::create_dir(&own).unwrap();
    mode(&own_below, 0o700);
    if geteuid().is_root() {
        assert_eq!(trouble(root), format!("FS050 /{own_below}: is not daemon's"));
        chown(&own, Some(owner.uid), Some(owner.gid)).unwrap();
    }
    assert_eq!(inspected(root), []);
    mode(&own_below, 0o702);
    assert_eq!(trouble(root), format!("FS051 /{own_below}: others can write to it"));
    mode(&own_below, 0o750);
    assert_eq!(trouble(root), format!("FS051 /{own_below}: has mode 0750, declared 0700"));
    mode(&own_below, 0o700);

    mode("srv", 0o777);
    assert_eq!(trouble(root), "FS052 /srv: others can replace what is in it");
    mode("srv", 0o1777);
    assert_eq!(inspected(root), []);
    if geteuid().is_root() {
        // A team's: it stays theirs.
        chown(root.join("srv"), None, Some(4711)).unwrap();
        mode("srv", 0o2775);
        assert_eq!(trouble(root), "FS052 /srv: members of a group can replace what is in it");
        mode("srv", 0o3775);
        assert_eq!(inspected(root), []);
        chown(root.join("srv"), None, Some(0)).unwrap();
        mode("srv", 0o755);
    }
    // Somebody who is gone.
    fs::create_dir(root.join("srv/target/no-such-user-here")).unwrap();
    assert_eq!(inspected(root), []);
}

/// What a shell would set instead; a line that keeps what is set is the remedy.
#[test]
fn what_sets_the_variable_afterwards_is_found_with_file_and_line() {
    let owner = owner();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let path = "path = \"/srv/target/{user}\"";
    write(root, POLICY, &format!("[private_dir.CARGO_TARGET_DIR]\n{path}\nmin_uid = 1\n"));
    let own = root.join("srv/target").join(&owner.name);
    fs::create_dir_all(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    for path in ["", "srv", "srv/target"] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    if geteuid().is_root() {
        chown(&own, Some(owner.uid), Some(owner.gid)).unwrap();
    }
    let profile = "/etc/profile.d/build.sh";
    for same in ["/srv/target/$USER", "\"/srv/target/$(id -un)/\""] {
        write(root, profile, &format!("export CARGO_TARGET_DIR={same}\n"));
        assert_eq!(inspected(root), [], "{same}");
    }
    write(root, profile, "umask 002\nexport CARGO_TARGET_DIR=/srv/target\n");
    let own_profile = format!("{}/.profile", owner.home.display());
    write(root, &own_profile, "CARGO_TARGET_DIR=~/target\n. ~/.bashrc\nunset CARGO_TARGET_DIR\n");
    let all = inspected(root);
    let texts: Vec<String> = all
        .iter()
        .map(|found| format!("{} {}: {}", found.code, found.at.as_ref().unwrap(), found.what))
        .collect();
    assert_eq!(
        texts,
        [
            format!("FS056 {profile}:2: sets CARGO_TARGET_DIR to \"/srv/target\""),
            format!("FS056 {own_profile}:1: sets CARGO_TARGET_DIR to \"~/target\""),
            format!("FS056 {own_profile}:3: unsets CARGO_TARGET_DIR"),
        ]
    );
    // What has no such syntax is taken out.
    write(root, "/etc/pam.d/sshd", "session optional pam_fairslice.so\nsession required pam_env.so\n");
    write(root, "/etc/environment", "CARGO_TARGET_DIR=/tmp\n");
    let of_env = inspected(root).remove(0);
    assert_eq!(of_env.fix, Fix::Edit("remove CARGO_TARGET_DIR from /etc/environment:1".to_owned()));
    write(root, "/etc/environment", "");
    let keeps = "export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-...}";
    let fix = format!("make {profile}:2 \"{keeps}\", which keeps what is set, or remove the line");
    assert_eq!(all[0].fix, Fix::Edit(fix));
    fs::remove_file(root.join(own_profile.trim_start_matches('/'))).unwrap();
    write(root, profile, &format!("umask 002\n{}\n", keeps.replace("...", "/srv/target")));
    assert_eq!(inspected(root), []);
}

#[test]
fn units_without_the_launcher_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    write(root, "/usr/bin/fairslice-launch", "");
    write(root, "/proc/meminfo", "MemTotal: 16777216 kB\n");
    write(root, "/run/systemd/system/local-a.service", "[Service]\nExecStart=/bin/sleep 1\n");
    write(
        root,
        "/etc/fairslice/policy.toml",
        "[slice.\"a.slice\"]\nmatch = [\"local-*\"]\nlauncher = true\n",
    );
    let found = || {
        let policy = fairslice::survey::declared(root).policy;
        let found =
            launchers::findings(&launchers::look(root, &policy).unwrap(), &adopt::copies(root).unwrap());
        let line = |finding: Finding| {
            let at = finding.at.map_or_else(String::new, |at| format!(" {at}"));
            (format!("{} {}{at}: {}", finding.code, finding.subject, finding.cause), finding.fix)
        };
        found.into_iter().map(line).collect::<Vec<_>>()
    };
    let generate = || {
        let out = root.join("run/systemd/generator");
        let _ = fs::remove_dir_all(&out);
        let generator = env!("CARGO_BIN_EXE_fairslice-generator");
        assert!(Command::new(generator).arg("--root").args([root, &out]).status().unwrap().success());
    };
    let changed =
        |units: &str| (format!("FS063 {units}: they have changed since the last daemon-reload"), Fix::Apply);
    assert_eq!(found(), [changed("local-a.service")]);
    generate();
    assert_eq!(found(), []);
    // A unit that changes, and one that comes and cannot have the launcher.
    write(root, "/run/systemd/system/local-a.service", "[Service]\nExecStart=/bin/sleep 2\n");
    write(root, "/run/systemd/system/local-b.service", "[Service]\nRootImage=/b\nExecStart=/bin/b\n");
    let without = "FS062 local-b.service /etc/fairslice/policy.toml:3: RootImage=/b (/run/systemd/system/local-b.service:2): \
                   its image has no launcher: put fairslice-launch into the unit itself";
    let both = found();
    assert_eq!(
        both.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(),
        [without, &changed("local-a.service").0]
    );
    assert!(
        matches!(&both[0].1, Fix::Edit(fix) if fix.contains("launcher = false in [service.\"local-b\"]"))
    );
    // What the fixes say helps.
    write(root, "/etc/fairslice/policy.d/b.toml", "[service.\"local-b\"]\nlauncher = false\n");
    generate();
    assert_eq!(found(), []);
    // What earlier versions wrote: the units that are there, and those that are gone.
    for unit in [r"local-a\x2db", "local-gone", "local-a"] {
        let file = format!("/etc/systemd/system/{unit}.service.d/zz-fairslice-launch.conf");
        write(root, &file, "# Made by \"fairslice adopt\"; x\n[Service]\nExecStart=\nExecStart=/bin/old\n");
    }
    write(root, r"/run/systemd/system/local-a\x2db.service", "[Service]\nExecStart=/bin/sleep 1\n");
    generate();
    let copies = found();
    let fixes: Vec<&Fix> = copies.iter().map(|(_, fix)| fix).collect();
    let command = |command: &str| Fix::Command(command.to_owned());
    let adopt = command(r"fairslice adopt local-a.service 'local-a\x2db.service'");
    assert_eq!(fixes, [&adopt, &command("fairslice release local-gone.service")]);
    let at = "FS060 local-a.service, local-a\\x2db.service /etc/systemd/system/local-a.service.d/zz-fairslice-launch.conf: ";
    assert!(copies[0].0.starts_with(at), "{}", copies[0].0);
}
