//! The launcher on a root of its own: which service, what is in force, what is said, what is run.
//!
//! What needs a real PID 1 is in `tests/vm`.
#![allow(missing_docs, clippy::disallowed_methods, clippy::indexing_slicing, clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::write;

const SLICE: &str = "foundry.slice/foundry-services.slice";

/// A root whose process `self` is in `cgroup` with `score`, under systemd.
fn root(cgroup: &str, score: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/self/cgroup", &format!("0::/{cgroup}\n"));
    write(root.path(), "proc/self/oom_score_adj", score);
    fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
    root
}

fn drop_in(root: &Path, directory: &str, unit: &str, text: &str) {
    write(root, &format!("{directory}/{unit}.d/40-fairslice.conf"), &format!("# made\n[Service]\n{text}"));
}

fn in_force(root: &Path, unit: &str, text: &str) {
    drop_in(root, "run/systemd/generator", unit, text);
}

/// `FAIRSLICE_LAUNCH` names another build of it, such as the package's.
fn launcher() -> PathBuf {
    std::env::var_os("FAIRSLICE_LAUNCH")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_fairslice-launch")), PathBuf::from)
}

/// The launcher on this root, and as if by hand: the tests may themselves run in a service.
fn on(root: &Path) -> Command {
    let mut command = Command::new(launcher());
    command.arg("--root").arg(root).env_remove("INVOCATION_ID");
    command
}

fn launch(root: &Path, arguments: &[&str]) -> Output {
    on(root).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn score(root: &Path) -> String {
    fs::read_to_string(root.join("proc/self/oom_score_adj")).unwrap()
}

/// Asserts that the command ran and that nothing, or one line with `part`, was said.
fn assert_ran(output: &Output, part: &str) {
    let said = said(output);
    assert_eq!(output.stdout, b"ran\n", "{said}");
    assert_eq!(said.lines().count(), usize::from(!part.is_empty()), "{said}");
    assert!(said.contains(part), "{said}");
}

#[test]
fn nothing_is_said_or_written_where_all_is_right() {
    let root = root(&format!("{SLICE}/local-fs.service"), "-500\n");
    in_force(root.path(), "local-fs.service", "Slice=foundry-services.slice\nOOMScoreAdjust=-500\n");
    // Where it must not be written, it cannot be.
    fs::set_permissions(root.path().join("proc/self/oom_score_adj"), fs::Permissions::from_mode(0o444))
        .unwrap();
    assert_ran(&launch(root.path(), &["--strict", "--", "echo", "ran"]), "");
    assert_eq!(score(root.path()), "-500\n");
}

#[test]
fn the_score_is_set_where_it_differs() {
    let root = root(&format!("{SLICE}/local-slm.service"), "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\nOOMScoreAdjust=500\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "");
    assert_eq!(score(root.path()), "500");
}

#[test]
fn a_wrong_slice_is_reported_or_refused() {
    let root = root("system.slice/local-fs.service", "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\n");
    let told = "local-fs.service: runs in /system.slice/local-fs.service, declared foundry-services.slice";
    assert_ran(&launch(root.path(), &["echo", "ran"]), told);
    let refused = launch(root.path(), &["--strict", "echo", "ran"]);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(219), &b""[..]));
    assert!(said(&refused).contains(told) && said(&refused).contains("not started"));
}

#[test]
fn the_administrators_own_settings_win() {
    let root = root("special.slice/local-fs.service", "-900\n");
    let root = root.path();
    in_force(root, "local-.service", "Slice=foundry-services.slice\n");
    in_force(root, "local-fs.service", "Slice=foundry-services.slice\nOOMScoreAdjust=-500\n");
    let mine = "etc/systemd/system/local-fs.service.d/50-mine.conf";
    write(root, mine, "[Service]\nSlice=special.slice\nOOMScoreAdjust=-900\n");
    let output = launch(root, &["--strict", "echo", "ran"]);
    let said = said(&output);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            format!(
                "fairslice-launch: local-fs.service: left in /special.slice/local-fs.service, declared foundry-services.slice: /{mine}:2 sets Slice=special.slice"
            ),
            format!(
                "fairslice-launch: local-fs.service: OOM score left as -900, declared -500: /{mine}:3 sets OOMScoreAdjust=-900"
            )
        ]
    );
    assert_eq!((output.stdout.as_slice(), score(root).as_str()), (&b"ran\n"[..], "-900\n"));
    // What sorts before ours does not.
    fs::rename(root.join(mine), root.join("etc/systemd/system/local-fs.service.d/30-mine.conf")).unwrap();
    launch(root, &["true"]);
    assert_eq!(score(root), "-500");
}

#[test]
fn a_policy_may_call_a_service_by_another_name() {
    let root = root("system.slice/mariadb.service", "0\n");
    let root = root.path();
    in_force(root, "mariadb.service", "OOMScoreAdjust=-500\n");
    write(root, "usr/lib/systemd/system/mariadb.service", "[Service]\n");
    fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
    std::os::unix::fs::symlink(
        "/usr/lib/systemd/system/mariadb.service",
        root.join("etc/systemd/system/mysql.service"),
    )
    .unwrap();
    assert_ran(&launch(root, &["--unit", "mysql", "echo", "ran"]), "");
    assert_eq!(score(root), "-500");
    write(root, "proc/self/oom_score_adj", "0\n");
    // A drop-in for the other name is one for this.
    write(root, "etc/systemd/system/mysql.service.d/50-mine.conf", "[Service]\nOOMScoreAdjust=0\n");
    let left = "mariadb.service: OOM score left as 0, declared -500: /etc/systemd/system/mysql.service.d/50-mine.conf:2";
    assert_ran(&launch(root, &["echo", "ran"]), left);
}

#[test]
fn a_slice_below_is_another_slice() {
    let root = root("foundry.slice/foundry-services.slice/local-fs.service/payload", "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry.slice\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "declared foundry.slice");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\n");
    assert_ran(&launch(root.path(), &["--strict", "echo", "ran"]), "");
}

#[test]
fn a_score_that_cannot_be_set_is_reported_or_refused() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "OOMScoreAdjust=-500\n");
    // A directory in its place: not to be written, not even by root.
    fs::remove_file(root.path().join("proc/self/oom_score_adj")).unwrap();
    fs::create_dir(root.path().join("proc/self/oom_score_adj")).unwrap();
    assert_ran(&launch(root.path(), &["echo", "ran"]), "OOM score -500 not set");
    assert_eq!(launch(root.path(), &["--strict", "echo", "ran"]).status.code(), Some(206));
}

#[test]
fn the_most_specific_drop_in_counts() {
    let root = root(&format!("{SLICE}/local-db@7.service"), "0\n");
    in_force(root.path(), "local-.service", "OOMScoreAdjust=1\n");
    // What is for every service comes last, wherever it is.
    drop_in(root.path(), "etc/systemd/system", "service", "OOMScoreAdjust=9\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "");
    assert_eq!(score(root.path()), "1");
    in_force(root.path(), "local-db@.service", "OOMScoreAdjust=2\n");
    launch(root.path(), &["true"]);
    assert_eq!(score(root.path()), "2");
    in_force(root.path(), "local-db@7.service", "OOMScoreAdjust=3\n");
    launch(root.path(), &["true"]);
    assert_eq!(score(root.path()), "3");
}

#[test]
fn the_administrators_file_of_our_name_hides_ours() {
    let root = root("system.slice/local-fs.service", "4\n");
    let root = root.path();
    in_force(root, "local-fs.service", "Slice=foundry-services.slice\nOOMScoreAdjust=3\n");
    drop_in(root, "etc/systemd/system", "local-.service", "OOMScoreAdjust=4\n");
    let file = "/etc/systemd/system/local-.service.d/40-fairslice.conf";
    let said = |output: &Output| said(output).replace("fairslice-launch: local-fs.service: ", "");
    let output = launch(root, &["--strict", "echo", "ran"]);
    let hides = format!("{file} hides the generator's file of that name");
    let place = format!("left in /system.slice/local-fs.service, declared foundry-services.slice: {hides}\n");
    let sets = format!("OOM score left as 4, declared 3: {file}:3 sets OOMScoreAdjust=4\n");
    assert_eq!(said(&output), format!("{place}{sets}"));
    // One that says nothing of a score, and one that masks all.
    for text in ["[Service]\nNice=1\n", ""] {
        write(root, file.trim_start_matches('/'), text);
        let output = launch(root, &["--strict", "echo", "ran"]);
        assert_eq!(said(&output), format!("{place}OOM score left as 4, declared 3: {hides}\n"));
        assert_eq!((output.stdout.as_slice(), score(root).as_str()), (&b"ran\n"[..], "4\n"));
    }
}

#[test]
fn the_service_is_named_by_option_cgroup_or_command() {
    let root = root("user.slice/user-0.slice/session-1.scope", "0\n");
    in_force(root.path(), "echo.service", "OOMScoreAdjust=7\n");
    in_force(root.path(), "local-a.service", "OOMScoreAdjust=8\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "");
    assert_eq!(score(root.path()), "7");
    assert_ran(&launch(root.path(), &["--unit", "local-a", "echo", "ran"]), "");
    assert_eq!(score(root.path()), "8");
    write(root.path(), "proc/self/cgroup", "0::/system.slice/local-a.service/child\n");
    write(root.path(), "proc/self/oom_score_adj", "0\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "");
    assert_eq!(score(root.path()), "8");
    assert_ran(&launch(root.path(), &["--unit", "a/b", "echo", "ran"]), "--unit \"a/b\"");
}

#[test]
fn what_no_policy_names_runs_and_is_said() {
    let root = root("system.slice/cron.service", "0\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "cron.service: no policy names it");
    assert_eq!(launch(root.path(), &["--strict", "echo", "ran"]).status.code(), Some(219));
}

#[test]
fn without_systemd_the_policy_itself_counts() {
    let root = root("system.slice/local-fs.service", "0\n");
    fs::remove_dir(root.path().join("run/systemd/system")).unwrap();
    assert_ran(&launch(root.path(), &["echo", "ran"]), "policy.toml: cannot be read");
    write(root.path(), "etc/fairslice/policy.toml", "[service.local-fs]\noom_score_adj = 9\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "");
    assert_eq!(score(root.path()), "9");
    write(root.path(), "etc/fairslice/policy.toml", "[service.local-fs]\noom_score_adj = 9999\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "oom_score_adj = 9999: expected");
}

#[test]
fn a_root_directory_without_systemd_in_it_is_told() {
    let root = root("system.slice/local-fs.service", "0\n");
    fs::remove_dir(root.path().join("run/systemd/system")).unwrap();
    write(root.path(), "etc/fairslice/policy.toml", "[service.local-fs]\noom_score_adj = 9\n");
    let output = on(root.path()).args(["echo", "ran"]).env("INVOCATION_ID", "0").output().unwrap();
    assert_ran(&output, "BindReadOnlyPaths=/run/systemd");
    assert_eq!(score(root.path()), "0\n", "the policy of another machine's files is not this one's");
}

#[test]
fn a_cgroup_namespace_of_its_own_is_told() {
    let root = root("", "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\n");
    let output = launch(root.path(), &["--unit", "local-fs", "echo", "ran"]);
    assert_ran(&output, "ProtectControlGroups=private");
}

/// What started it may have its environment from somebody else.
#[test]
fn no_variable_sends_it_to_another_root() {
    let root = root("system.slice/local-fs.service", "0\n");
    in_force(root.path(), "local-fs.service", "OOMScoreAdjust=7\n");
    let mut command = Command::new(launcher());
    command.args(["--unit", "local-fs", "echo", "ran"]).env("FAIRSLICE_ROOT", root.path());
    assert_eq!(command.output().unwrap().stdout, b"ran\n");
    assert_eq!(score(root.path()), "0\n");
}

/// A root without systemd whose cgroup2 has the service's cgroups already, each with these attributes.
fn without_systemd(attributes: &[(&str, &str)]) -> tempfile::TempDir {
    let root = root("", "0\n");
    fs::remove_dir(root.path().join("run/systemd/system")).unwrap();
    write(root.path(), "proc/meminfo", "MemTotal: 1000000 kB\n");
    for cgroup in ["", "foundry.slice", SLICE, &format!("{SLICE}/local-fs.service")] {
        for (attribute, text) in attributes {
            write(root.path(), &format!("sys/fs/cgroup/{cgroup}/{attribute}"), text);
        }
    }
    root
}

fn cgroup_attribute(root: &Path, cgroup: &str, attribute: &str) -> String {
    fs::read_to_string(root.join("sys/fs/cgroup").join(cgroup).join(attribute)).unwrap()
}

const CONTAINER_POLICY: &str = "\
[slice.\"foundry-services.slice\"]
match = [\"local-*\"]
cpu_weight = 300
memory_high = \"50%\"
[service.local-fs]
cpu_weight = \"idle\"
";

#[test]
fn without_systemd_the_slice_is_set_and_entered() {
    let root = without_systemd(&[
        ("cgroup.controllers", "cpu memory\n"),
        // With room for what is written over it.
        ("cgroup.subtree_control", "        cpu\n"),
        ("cgroup.procs", ""),
        ("cpu.weight", "100"),
        ("cpu.idle", "0"),
        ("memory.high", "max"),
    ]);
    write(root.path(), "etc/fairslice/policy.toml", CONTAINER_POLICY);
    assert_ran(&launch(root.path(), &["--unit", "local-fs", "echo", "ran"]), "");
    let attribute = |cgroup: &str, name: &str| cgroup_attribute(root.path(), cgroup, name);
    let leaf = format!("{SLICE}/local-fs.service");
    assert_eq!(attribute("foundry.slice", "cpu.weight"), "300");
    assert_eq!(attribute(SLICE, "cpu.weight"), "300");
    assert_eq!(attribute(SLICE, "memory.high"), "512000000");
    assert_eq!((attribute(&leaf, "cpu.idle"), attribute(&leaf, "cpu.weight")), ("1".into(), "100".into()));
    assert_eq!(attribute(&leaf, "cgroup.procs"), "0");
    // memory is needed in the slice, and so enabled above it, from the top; below it is not.
    assert_eq!(attribute("", "cgroup.subtree_control"), "+memory cpu\n");
    assert_eq!(attribute("foundry.slice", "cgroup.subtree_control"), "+memory cpu\n");
    assert_eq!(attribute(SLICE, "cgroup.subtree_control"), "        cpu\n");
}

#[test]
fn without_systemd_and_cgroup2_the_command_runs_and_is_told() {
    let root = without_systemd(&[]);
    write(root.path(), "etc/fairslice/policy.toml", CONTAINER_POLICY);
    let told = "no cgroup2 is mounted on /sys/fs/cgroup";
    assert_ran(&launch(root.path(), &["--unit", "local-fs", "echo", "ran"]), told);
    let strict = launch(root.path(), &["--strict", "--unit", "local-fs", "echo", "ran"]);
    assert_eq!(strict.status.code(), Some(219));
}

/// It is placed, with what can be set.
#[test]
fn without_systemd_and_a_controller_the_rest_is_set_and_the_command_is_told() {
    let attributes = [
        ("cgroup.controllers", "cpu\n"),
        ("cgroup.subtree_control", "cpu\n"),
        ("cgroup.procs", ""),
        ("cpu.weight", "100"),
        ("cpu.idle", "0"),
    ];
    let root = without_systemd(&attributes);
    write(root.path(), "etc/fairslice/policy.toml", CONTAINER_POLICY);
    let told = "is in foundry-services.slice, where not everything could be set: the memory controller cannot be had in /";
    assert_ran(&launch(root.path(), &["--unit", "local-fs", "echo", "ran"]), told);
    let leaf = format!("{SLICE}/local-fs.service");
    assert_eq!(cgroup_attribute(root.path(), SLICE, "cpu.weight"), "300");
    assert_eq!(cgroup_attribute(root.path(), &leaf, "cgroup.procs"), "0");
    let strict = launch(root.path(), &["--strict", "--unit", "local-fs", "echo", "ran"]);
    assert_eq!(strict.status.code(), Some(219));
}

/// A service whose stderr nobody reads must not die of what the launcher has to say.
#[test]
fn a_broken_stderr_costs_nothing() {
    let root = root("system.slice/local-fs.service", "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\n");
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    drop(reader);
    let output = on(root.path())
        .args(["grep", "-E", "SigPnd|ShdPnd|SigBlk", "/proc/self/status"])
        .stderr(writer)
        .output()
        .unwrap();
    let sets = String::from_utf8(output.stdout).unwrap();
    assert_eq!(sets.split_whitespace().filter(|word| *word == "0000000000000000").count(), 3, "{sets}");
    assert!(output.status.success());
}

#[test]
fn cgroup_v1_and_no_proc_are_said_and_the_command_runs() {
    let root = root("", "0\n");
    in_force(root.path(), "echo.service", "Slice=foundry-services.slice\nOOMScoreAdjust=7\n");
    write(root.path(), "proc/self/cgroup", "4:memory:/\n1:name=systemd:/\n");
    assert_ran(&launch(root.path(), &["echo", "ran"]), "cgroup v1");
    assert_eq!(score(root.path()), "7", "the score is set all the same");
    fs::remove_dir_all(root.path().join("proc")).unwrap();
    let output = launch(root.path(), &["echo", "ran"]);
    assert_eq!(output.stdout, b"ran\n");
    assert_eq!(said(&output).lines().count(), 2, "{}", said(&output));
}

#[test]
fn a_command_that_cannot_be_executed_is_named() {
    let root = root("echo.service", "0\n");
    write(root.path(), "plain", "text");
    write(root.path(), "script", "#!/no/such/interpreter\n");
    fs::set_permissions(root.path().join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| root.path().join(name).display().to_string();
    for (command, cause) in [
        ("/no/such/command".to_owned(), "No such file or directory"),
        ("no-such-command".to_owned(), "not found in PATH"),
        (root.path().display().to_string(), "it is a directory"),
        (path("plain"), "Permission denied"),
        (path("script"), "its interpreter"),
    ] {
        let output = launch(root.path(), &["--", &command]);
        assert_eq!(output.status.code(), Some(203), "{command}");
        let said = said(&output);
        let line = said.lines().last().unwrap();
        assert!(line.contains(&command) && line.contains(cause), "{line}");
    }
}

#[test]
fn a_file_that_is_no_program_is_handed_to_no_shell() {
    let root = root("echo.service", "0\n");
    write(root.path(), "bin/plain", "echo a shell ran this\n");
    fs::set_permissions(root.path().join("bin/plain"), fs::Permissions::from_mode(0o755)).unwrap();
    let bin = root.path().join("bin").display().to_string();
    for command in ["plain", &format!("{bin}/plain")] {
        let output = on(root.path()).args(["--", command]).env("PATH", &bin).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(203), &b""[..]));
        assert!(said(&output).contains(&format!("{bin}/plain")) && said(&output).contains("no program"));
    }
}

#[test]
fn path_is_searched_as_execvp_does() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "OOMScoreAdjust=3\n");
    for (path, mode) in [("denied/tool", 0o644), ("file", 0o644), ("right/tool", 0o755)] {
        write(root.path(), path, "#!/bin/sh\necho ran\n");
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let directory = |name: &str| root.path().join(name).display().to_string();
    let run = |directories: &[&str]| {
        let path: Vec<String> = directories.iter().map(|name| directory(name)).collect();
        on(root.path()).args(["--", "tool"]).env("PATH", path.join(":")).output().unwrap()
    };
    assert_ran(&run(&["none", "file", "denied", "right"]), "");
    let denied = run(&["none", "denied"]);
    assert_eq!(denied.status.code(), Some(203));
    assert!(said(&denied).contains(&directory("denied/tool")) && said(&denied).contains("Permission denied"));
}

#[test]
fn the_command_can_be_told_another_name() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "OOMScoreAdjust=3\n");
    for name in ["-bash", "", "a b"] {
        let output = launch(root.path(), &["--argv0", name, "--", "/bin/sh", "-c", "cat /proc/$$/cmdline"]);
        assert_eq!(output.stdout, format!("{name}\0-c\0cat /proc/$$/cmdline\0").as_bytes());
    }
}

/// The launcher's own arguments fit; the command's, with its long path twice, do not.
#[test]
fn too_many_arguments_are_told() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "OOMScoreAdjust=3\n");
    let command = format!("{}/bin/true", "/.".repeat(1900));
    let run = |words: usize| {
        on(root.path())
            .env_clear()
            .args(["--", &command])
            .args(std::iter::repeat_n("x".repeat(500), words))
            .output()
    };
    let (mut fits, mut too_many) = (0, 1 << 16);
    while too_many - fits > 1 {
        let middle = usize::midpoint(fits, too_many);
        *(if run(middle).is_ok() { &mut fits } else { &mut too_many }) = middle;
    }
    let output = run(fits).unwrap();
    assert_eq!(output.status.code(), Some(203));
    assert!(said(&output).contains("cannot execute") && said(&output).contains("Argument list too long"));
}

#[test]
fn usage_is_two() {
    for arguments in [&[][..], &["--"], &["--nonsense", "true"], &["--unit"]] {
        let output = launch(Path::new("/nonexistent"), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains("usage: "), "{arguments:?}");
    }
}

/// Rust's own start-up ignores SIGPIPE, and an exec would hand that on.
#[test]
fn sigpipe_is_as_it_was() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\n");
    let (launcher, root) = (launcher(), root.path());
    let launch = format!("exec {} --root {}", launcher.display(), root.display());
    for (trap, ignored) in [("", false), ("trap '' PIPE;", true)] {
        let script = format!("{trap} {launch} sh -c 'grep SigIgn /proc/self/status'");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mask = u64::from_str_radix(text.split_whitespace().last().unwrap(), 16).unwrap();
        // SIGPIPE is 13, bit 12. The test's own runtime ignores it too, but resets it before exec.
        assert_eq!(mask & 1 << 12 != 0, ignored, "{text}");
    }
}

#[test]
fn closed_descriptors_stay_closed_and_none_is_added() {
    let root = root(&format!("{SLICE}/local-fs.service"), "0\n");
    in_force(root.path(), "local-.service", "Slice=foundry-services.slice\nOOMScoreAdjust=3\n");
    let descriptors = |launcher: &str| {
        let script = format!("exec {launcher} ls /proc/self/fd 0<&- 2>&-");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.status.signal().is_none());
        String::from_utf8(output.stdout).unwrap()
    };
    let launcher = format!("{} --root {}", launcher().display(), root.path().display());
    assert_eq!(descriptors(&launcher), descriptors(""));
}

/// What it reads was written by somebody else. Whatever that is, the command runs, with nothing else
/// changed, and of what is written there is at most one line each.
#[test]
fn whatever_it_reads_the_command_runs() {
    const PIECES: [&str; 24] = [
        "0::/",
        "1:name=systemd:/",
        "foundry.slice",
        "/",
        "..",
        ".service",
        ".slice",
        "-",
        "@",
        ":",
        "\n",
        "\0",
        "Slice=",
        "OOMScoreAdjust=",
        "[Service]",
        "-999999999999999999999",
        "500",
        "-",
        "é",
        " ",
        "=",
        "#",
        "foundry-services.slice",
        "\u{1b}[2J",
    ];
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..300 {
        let root = root("", "0\n");
        let unit = "run/systemd/generator/local-fs.service.d/40-fairslice.conf";
        let files = ["proc/self/cgroup", "proc/self/oom_score_adj", unit];
        for file in files {
            let text: String = (0..random(12)).map(|_| PIECES[random(PIECES.len())]).collect();
            write(root.path(), file, &text);
        }
        let before = files.map(|file| fs::read(root.path().join(file)).unwrap());
        let output = launch(root.path(), &["--unit", "local-fs", "--", "echo", "ran"]);
        let said = said(&output);
        assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"ran\n"[..]), "{before:?} {said}");
        assert!(said.lines().all(|line| line.starts_with("fairslice-launch: ")), "{before:?} {said}");
        let after = files.map(|file| fs::read(root.path().join(file)).unwrap());
        assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
        let strict = launch(root.path(), &["--strict", "--unit", "local-fs", "--", "echo", "ran"]);
        assert!(matches!(strict.status.code(), Some(0 | 206 | 219)), "{before:?}");
        assert_eq!(strict.status.code() == Some(0), strict.stdout == b"ran\n");
    }
}
