//! `fairslice import` over whole machines: what it prints is a policy that is right, and every unit has the values
//! that it had, with the hand-written files and without; put back, these are the very files that they were.
//!
//! `tests/import/NAME` is what it prints of the machine NAME. Set `UPDATE_IMPORT=1` to write that anew, and read the
//! difference. What a unit has is worked out here from its files and those of the generator, by the search for what
//! wins that every command uses.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{machine, write};
use fairslice::host::machine::Machine;
use fairslice::host::recorded::Recorded;
use fairslice::host::unit_file::ServiceUnits;
use fairslice::policy::{Policy, load_files};
use fairslice::survey::Files;
use fairslice::units::takes::{score, setting};
use fairslice::units::{OF_SERVICES, OOM_SCORE_ADJUST, PROPERTIES, SLICE, ServiceName, SliceName};

const UPDATE: &str = "UPDATE_IMPORT";
const MACHINES: [&str; 6] = ["debian-12", "debian-13", "fairslice", "kubernetes", "team", "ubuntu"];
const POLICY: &str = "etc/fairslice/policy.toml";
const UNITS: &str = "etc/systemd/system";

/// The exit code, and what was printed.
fn run(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    // Modes must not depend on the umask.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_fairslice")]);
    let output = command.arg("--root").arg(root).arg("import").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What it prints.
fn printed(root: &Path) -> String {
    run(root, &[]).1
}

/// What the generator makes of the policy, as at a daemon-reload.
fn reload(root: &Path) {
    let out = root.join("run/systemd/generator");
    for directory in fs::read_dir(&out).into_iter().flatten() {
        let _ = fs::remove_file(directory.unwrap().path().join("40-fairslice.conf"));
    }
    fs::create_dir_all(&out).unwrap();
    let mut generator = Command::new(env!("CARGO_BIN_EXE_fairslice-generator"));
    let output = generator.arg("--root").args([root, &out]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What every unit has of everything that a policy can set.
fn values(root: &Path) -> BTreeMap<(String, &'static str), String> {
    let units = ServiceUnits::read(root).unwrap();
    let mut names: BTreeSet<String> = units.names().map(ServiceName::to_string).collect();
    for directory in ["etc/systemd/system", "run/systemd/generator", "usr/lib/systemd/system"] {
        for entry in fs::read_dir(root.join(directory)).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let unit = name.strip_suffix(".d").unwrap_or(&name);
            let is_instance = unit.contains('@') && !unit.contains("@.") && unit.ends_with(".service");
            if SliceName::new(unit).is_ok() || is_instance {
                names.insert(unit.to_owned());
            }
        }
    }
    names.extend(
        ["user.slice", "user-4000000000.slice", "job-new.service", "render@new.service"].map(str::to_owned),
    );
    let machine = Machine::read(root).unwrap();
    let mut values = BTreeMap::new();
    for unit in names {
        let files = Files::read(root, &unit, units.files(&unit).unwrap(), Recorded::default()).unwrap();
        let text = |key| files.set(key).and_then(|winner| winner.set).map(|(_, text)| text);
        for property in PROPERTIES {
            let number = |text: &str| setting(property, text).map(|value| machine.number(&value).to_string());
            let value = text(property.unit).map(|text| number(&text).unwrap_or(text));
            values
                .insert((unit.clone(), property.unit), value.unwrap_or_else(|| property.unset().to_string()));
        }
        values.insert((unit.clone(), SLICE), text(SLICE).unwrap_or_default());
        let score = text(OOM_SCORE_ADJUST).map(|text| score(&text).unwrap().to_string());
        values.insert((unit.clone(), OOM_SCORE_ADJUST), score.unwrap_or_default());
        for setting in OF_SERVICES {
            let value = text(setting.unit).map(|text| setting.read(&text).unwrap().to_string());
            values.insert((unit.clone(), setting.unit), value.unwrap_or_default());
        }
    }
    values
}

/// What is another value, as `UNIT KEY: BEFORE -> AFTER`.
fn changes(
    before: &BTreeMap<(String, &'static str), String>,
    after: &BTreeMap<(String, &'static str), String>,
) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let unset = |key: &str| {
        let property = PROPERTIES.into_iter().find(|property| property.unit == key);
        property.map(|property| property.unset().to_string()).unwrap_or_default()
    };
    let of = |values: &BTreeMap<_, String>, key: &(String, &'static str)| {
        values.get(key).cloned().unwrap_or_else(|| unset(key.1))
    };
    let differing = keys.into_iter().filter(|key| of(before, key) != of(after, key));
    differing.map(|key| format!("{} {}: {} -> {}", key.0, key.1, of(before, key), of(after, key))).collect()
}

/// Everything below a directory: mode, owner, times and links of a file, and what is in it. Directories have their
/// mode and owner: what lies in them comes and goes.
fn tree(root: &Path, top: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.join(top)];
    while let Some(path) = left.pop() {
        let at = fs::symlink_metadata(&path).unwrap();
        let owner = format!("{:o} {}:{}", at.mode(), at.uid(), at.gid());
        let said = if at.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            owner
        } else if at.is_symlink() {
            format!("{owner} -> {}", fs::read_link(&path).unwrap().display())
        } else {
            let times = format!("{}.{} {}", at.mtime(), at.mtime_nsec(), at.ino());
            format!("{owner} {times} {:?}", fs::read(&path).unwrap())
        };
        found.insert(path.strip_prefix(root).unwrap().to_owned(), said);
    }
    found
}

fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let loaded = load_files(&[file.path().to_owned()]);
    assert!(loaded.diagnostics.is_empty(), "{:?}\n{text}", loaded.diagnostics);
    loaded.policy
}

#[test]
fn what_is_printed_is_a_policy_that_is_right() {
    let mut wrong = Vec::new();
    for name in MACHINES {
        let machine = machine(name);
        let before = tree(machine.path(), "");
        let text = printed(machine.path());
        assert_eq!(tree(machine.path(), ""), before, "{name}: nothing is written");
        policy(&text);
        let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name);
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(expected.parent().unwrap()).unwrap();
            fs::write(&expected, &text).unwrap();
        }
        if fs::read_to_string(&expected).unwrap_or_default() != text {
            wrong.push(format!("{name}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{UPDATE}=1 writes them anew", wrong.join("\n"));
}

#[test]
fn every_unit_keeps_what_it_has_with_the_files_and_without() {
    for (name, fewest) in [("debian-13", 0), ("kubernetes", 0), ("team", 12), ("ubuntu", 0)] {
        let machine = machine(name);
        let root = machine.path();
        write(root, "run/systemd/show-manager", "UnitsLoadTimestampMonotonic=5000000\n");
        let before = values(root);
        assert!(before.len() > 500, "{name}: {}", before.len());
        let text = printed(root);
        // It has to declare something.
        write(root, POLICY, &(text + "\n[service.unheard-of]\noom_score_adj = 1\n"));
        reload(root);
        let untouched = tree(root, "etc");
        // Said of a service that there is not.
        let ours = |change: &String| !change.starts_with("unheard-of");
        let changes = |after| -> Vec<String> { changes(&before, &after).into_iter().filter(ours).collect() };
        assert_eq!(changes(values(root)), [""; 0], "{name}, with them");

        let (code, would, error) = run(root, &["--retire", "--dry-run"]);
        assert_eq!((code, error.as_str()), (0, ""), "{name}");
        assert_eq!(tree(root, "etc"), untouched, "{name}");
        let (code, said, error) = run(root, &["--retire"]);
        assert_eq!((code, error.as_str()), (0, ""), "{name}");
        assert_eq!(said, would.replace("would be moved", "moved"), "{name}");
        let moved = said.lines().filter(|line| line.contains(": moved to /etc/fairslice/retired")).count();
        assert!(moved >= fewest, "{name}: {said}");
        reload(root);
        let mut left = changes(values(root));
        // What the policy says of single users, they are given at the login.
        left.retain(|change| !change.starts_with("user-0.slice"));
        assert_eq!(left, [""; 0], "{name}, without them");
        if name == "team" {
            println!("{said}");
            let root_rule = &policy(&fs::read_to_string(root.join(POLICY)).unwrap()).logins.users[0];
            assert_eq!(root_rule.1.cpu_weight().unwrap().to_string(), "500");
        }
        // What is left has nothing more to say, and nothing more to move.
        assert!(printed(root).contains("\n# Nothing is set by hand that the policy does not say"), "{name}");
        assert!(!run(root, &["--retire"]).1.contains("moved to"), "{name}");

        let (code, back, error) = run(root, &["--restore"]);
        assert_eq!((code, error.as_str()), (0, ""), "{name}");
        assert_eq!(back.matches(": put back\n").count(), moved, "{name}: {back}");
        assert_eq!(tree(root, "etc"), untouched, "{name}");
    }
}

/// The file of a unit, or a drop-in.
fn unit(root: &Path, file: &str, text: &str) {
    write(root, &format!("{UNITS}/{file}"), text);
}

/// A machine with a policy that is in force.
fn with_policy(text: &str) -> tempfile::TempDir {
    let machine = machine("debian-13");
    let root = machine.path();
    write(root, "run/systemd/show-manager", "UnitsLoadTimestampMonotonic=5000000\n");
    write(root, POLICY, text);
    reload(root);
    machine
}

const OTHER: &str = "[service.unheard-of]\noom_score_adj = 1\n";

#[test]
fn whatever_stands_in_units_the_text_is_a_policy_and_can_be_printed() {
    let machine = machine("debian-13");
    let root = machine.path();
    let service = |name: &str, lines: &str| {
        unit(root, &format!("{name}.service"), &format!("[Service]\nExecStart=/bin/true\n{lines}"));
    };
    service("odd\\x2dname", "MemoryMax=40%\nSlice=odd\\x2dslice.slice\n");
    service("a:b.c_d", "MemoryMax=infinity\nTasksMax=0x10\n");
    service(
        "refused",
        "MemoryMax=512MB\nCPUWeight=0\nOOMScoreAdjust=-2000\nSlice=w@x.slice\nMemoryHigh=1G # much\n",
    );
    service("twice", "MemoryMax=1G\nMemoryMax=lots\n");
    service("quoted", "Slice=a\"].slice\nMemoryMax=\"1G\"\n");
    service("inverted", "MemoryMin=2G\nMemoryMax=1G\n");
    service("sshd-like", "OOMScoreAdjust=-17\n");
    service("w@", "MemoryMax=1G\n");
    unit(root, "w@a\\x2db.service.d/own.conf", "[Service]\nMemoryMax=2G\n");
    unit(root, "odd\x1b[2J.service.d/x.conf", "[Service]\nMemoryMax=1G\n");
    unit(root, "twice.service.d/\x1b[2J\u{202e}.conf", "[Service]\nCPUWeight=7\n");
    unit(root, "twice.service.d/half.conf", "[Service]\nIOWeight=70\nnonsense\n");
    unit(root, "cut.service.d/x.conf", "[Service\nIOWeight=70\n");
    unit(root, "user-\u{202e}.slice.d/x.conf", "[Slice]\nMemoryMax=1G\n");
    symlink("/opt/w.conf", root.join(UNITS).join("w@.service.d.conf")).unwrap();
    write(root, "/opt/linked.conf", "[Service]\nTasksMax=77\n");
    symlink("/opt/linked.conf", root.join(UNITS).join("twice.service.d/linked.conf")).unwrap();
    symlink("loop.conf", root.join(UNITS).join("twice.service.d/loop.conf")).unwrap();
    fs::create_dir_all(root.join(UNITS).join("refused.service.d/directory.conf")).unwrap();
    write(
        root,
        "etc/profile.d/x.sh",
        "export TMPDIR=/srv/\x1b[2J/$USER\nexport CCACHE_DIR=\"/srv/\u{202e}\\\"/$USER\"\n",
    );

    let (code, text, error) = run(root, &[]);
    println!("{text}");
    assert_eq!(code, 1);
    for what in ["refused.service.d/directory.conf", "twice.service.d/loop.conf"] {
        assert!(error.contains(what) && text.contains(what), "{what}: {error}");
    }
    for text in [&text, &error] {
        assert!(text.chars().all(|c| c == '\n' || !fairslice::text::is_hidden(c)), "{text:?}");
    }
    let policy = policy(&text);
    let slice = |service: &str| policy.slice_of(&ServiceName::new(service).unwrap()).map(ToString::to_string);
    let has = |service: &str| {
        let rule = policy.service(&ServiceName::new(service).unwrap());
        let settings = rule.resources.settings().map(|set| format!("{}={}", set.property.key, set.value));
        settings.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(slice("odd\\x2dname").as_deref(), Some("odd\\x2dslice.slice"));
    for (service, settings) in [
        ("odd\\x2dname", "memory_max=40%"),
        ("a:b.c_d", "memory_max=infinity tasks_max=16"),
        ("refused", ""),
        ("twice", "cpu_weight=7 io_weight=70 memory_max=1G tasks_max=77"),
        ("quoted", ""),
        ("inverted", "memory_max=1G"),
        ("w@a\\x2db", "memory_max=2G"),
        ("w@other", "memory_max=1G"),
    ] {
        assert_eq!(has(service), settings, "{service}");
    }
    let left = "#   inverted.service: MemoryMin=2G (/etc/systemd/system/inverted.service:3): \
                memory_min = 2G is above memory_max = 1G\n";
    assert!(text.contains(left), "{text}");
}

/// What the policy says already is not said again, and what it has otherwise stays as it is.
#[test]
fn beside_a_policy_only_what_it_lacks_is_said() {
    let text = "[slice.\"a.slice\"]\nmatch = [\"app-*\", \"db\"]\n[service.app-one]\nmemory_max = \"1G\"\n\
                [logins.group.dev]\ncpu_weight = 300\n[private_dir.GOCACHE]\npath = \"{home}/.go\"\nmode = \"0750\"\n";
    let machine = with_policy(text);
    let root = machine.path();
    for (name, lines) in [
        // Before the policy's, and after it.
        ("app-one", "MemoryMax=1024M\nTasksMax=50\n"),
        ("app-two", "Slice=b.slice\n"),
        ("db", ""),
        ("more", "Slice=a.slice\n"),
    ] {
        unit(root, &format!("{name}.service"), &format!("[Service]\nExecStart=/bin/true\n{lines}"));
    }
    unit(root, "db.service.d/50-slice.conf", "[Service]\nSlice=b.slice\n");
    unit(root, "user-.slice.d/50-weight.conf", "[Slice]\nCPUWeight=100\n");
    write(root, "etc/profile.d/go.sh", "export GOCACHE=~/.go/\n");
    let said = printed(root);
    println!("{said}");
    for line in [
        "\nmatch = [\n    \"app-*\",                    # /etc/fairslice/policy.toml:2\n",
        "\n    \"more\",                     # /etc/systemd/system/more.service:3\n",
        "\ntasks_max = 50 ",
        "\n#   app-two.service: Slice=b.slice (/etc/systemd/system/app-two.service:3): counts for nothing: the policy says \
         Slice=a.slice\n",
        "\n#   db.service: Slice=b.slice (/etc/systemd/system/db.service.d/50-slice.conf:2): \"db\" is in a.slice, and ",
    ] {
        assert!(said.contains(line), "{line}");
    }
    assert!(!said.contains("\nmemory_max") && !said.contains("private_dir"));
    policy(&said);

    // It is put there once, and for good.
    let before = values(root);
    let imported = root.join("etc/fairslice/policy.d/60-imported.toml");
    let (code, out, error) = run(root, &["--write"]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert_eq!(fs::read_to_string(&imported).unwrap(), said);
    assert_eq!(fs::metadata(&imported).unwrap().permissions().mode() & 0o7777, 0o644);
    reload(root);
    assert_eq!(changes(&before, &values(root)), [""; 0]);
    assert!(
        run(root, &["--write"]).1.starts_with("nothing is set by hand that the policy does not say already")
    );
    unit(root, "more.service.d/x.conf", "[Service]\nIOWeight=7\n");
    let (code, _, error) = run(root, &["--write"]);
    assert!(code == 2 && error.contains("60-imported.toml is there already: move it away first"), "{error}");
    assert_eq!(fs::read_to_string(&imported).unwrap(), said);

    // Without the file, members of dev would have their weight.
    let stays = "/etc/systemd/system/user-.slice.d/50-weight.conf: stays: without it, cpu_weight of \
                 /etc/fairslice/policy.toml:6 would hold\n";
    let retired = run(root, &["--retire", "--dry-run"]).1;
    assert!(retired.contains(stays), "{retired}");
}

#[test]
fn nothing_is_written_where_it_would_not_be_read() {
    let machine = machine("debian-13");
    let root = machine.path();
    unit(root, "x.service", "[Service]\nExecStart=/bin/true\nIOWeight=7\n");
    let refused = |said: &str| {
        let before = tree(root, "etc");
        let (code, out, error) = run(root, &["--write"]);
        assert!(code == 2 && error.contains(said), "{out}{error}");
        assert_eq!(tree(root, "etc"), before);
    };
    refused("there is no policy in force to add to");
    write(root, POLICY, OTHER);
    let directory = root.join("etc/fairslice/policy.d");
    fs::create_dir(&directory).unwrap();
    symlink("/nowhere", directory.join("60-imported.toml")).unwrap();
    assert_eq!(run(root, &[]).0, 1, "the policy has a broken fragment");
    refused("60-imported.toml is there already");
    fs::remove_file(directory.join("60-imported.toml")).unwrap();
    // Whoever could write there decided what root does.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o757)).unwrap();
    refused("everybody can change /etc/fairslice/policy.d (mode 0757)");
    fs::remove_dir(&directory).unwrap();
    assert_eq!(run(root, &["--write"]).0, 0);
    assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn files_go_and_come_back_whole_or_not_at_all() {
    let machine = with_policy(OTHER);
    let root = machine.path();
    unit(root, "x.service", "[Service]\nExecStart=/bin/true\n");
    let files = ["x.service.d/a.conf", "x.service.d/b.conf", "y.slice", "x.service.d/open.conf"];
    for (file, text) in files.iter().zip([
        "[Service]\nIOWeight=7\n",
        "[Service]\nTasksMax=9\n",
        "[Slice]\nIOWeight=8\n",
        "[Service]\nMemoryMax=1G\n",
    ]) {
        unit(root, file, text);
    }
    fs::set_permissions(root.join(UNITS).join(files[1]), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root.join(UNITS).join(files[3]), fs::Permissions::from_mode(0o666)).unwrap();
    let retire = |options: &[&str]| run(root, &[&["--retire"], options].concat());

    let (code, out, _) = retire(&[]);
    assert!(code == 0 && !out.contains("moved") && out.contains("stays"), "{out}");
    assert_eq!(run(root, &["--write"]).0, 0);
    let (code, out, error) = retire(&[]);
    assert!(code == 2 && error.contains("run \"fairslice apply\" first"), "{out}{error}");
    reload(root);
    let before = tree(root, "etc");
    assert_eq!(retire(&["--dry-run"]).1.matches("would be moved").count(), 3);
    let (code, out, error) = retire(&[]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("open.conf: stays: everybody can change /etc/systemd/system/x.service.d/open.conf"),
        "{out}"
    );
    for file in &files[..3] {
        assert!(
            !root.join(UNITS).join(file).exists()
                && root.join("etc/fairslice/retired").join(UNITS).join(file).exists()
        );
    }

    // What was imported is the policy's, and another setting is not.
    assert!(printed(root).contains("\n# Nothing is set by hand that the policy does not say already.\n"));
    unit(root, "y.slice.d/more.conf", "[Slice]\nTasksMax=50\n");
    assert!(printed(root).contains("\n[slice.\"y.slice\"]\ntasks_max = 50 "));
    fs::remove_dir_all(root.join(UNITS).join("y.slice.d")).unwrap();

    // Somebody has made another since.
    unit(root, files[0], "[Service]\nIOWeight=9\n");
    let aside = tree(root, "etc");
    let (code, out, error) = run(root, &["--restore"]);
    assert!(
        code == 2 && error.contains("/etc/systemd/system/x.service.d/a.conf has been made since"),
        "{out}{error}"
    );
    assert_eq!(tree(root, "etc"), aside);
    fs::remove_file(root.join(UNITS).join(files[0])).unwrap();
    assert_eq!(run(root, &["--restore"]).0, 0);
    assert_eq!(tree(root, "etc"), before);
    assert_eq!(run(root, &["--restore"]), (0, "no file has been moved aside\n".to_owned(), String::new()));
}
