//! `fairslice report`: it says what the other commands say, nothing in it is anybody else's but text, and a browser
//! shows it.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used
)]

mod fixture;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixture::{SERVICES, cgroup, fairslice, load, machine, process, write};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What others may call a thing. A `/` would end the name of a cgroup.
const NAMES: [&[u8]; 6] = [
    b"<script>hacked=1<script>",
    b"\"' onload=hacked=1 x=\"",
    b"&lt;b&gt;<img src=x onerror=hacked=1>",
    b"a\xff]]><!--",
    "\u{202e}evil\u{2066}".as_bytes(),
    b"\x1b[2J</title></style><svg onload=hacked=1>",
];
/// Every element that a page has.
const ELEMENTS: &str = "!DOCTYPE html head meta title style body header p h1 h2 h3 bdi time dl div dt dd nav ul li a main \
                        section figure figcaption svg desc rect text span table thead tbody tr th td article b code footer";

/// Two services, of which one weighs less than it should and has what nothing protects, and logins.
fn faulty() -> TempDir {
    let machine = machine();
    let root = machine.path();
    write(root, "proc/sys/kernel/hostname", "foundry-1.example.org\n");
    write(root, "etc/fairslice/policy.d/50-more.toml", "[service.local-fs]\ncpu_weight = 300 # <b>\n");
    for path in ["", "foundry.slice", SERVICES, "system.slice", "user.slice"] {
        load(root, path, 300 << 20, 2);
    }
    let service = format!("{SERVICES}/local-fs.service");
    cgroup(root, &service, &[("cpu.weight", "100"), ("cgroup.procs", "10")]);
    load(root, &service, 100 << 20, 37);
    write(root, &format!("sys/fs/cgroup/{service}/memory.min"), "83886080\n");
    machine
}

/// The same, to which everybody has added what they could.
fn hostile() -> TempDir {
    let machine = faulty();
    let root = machine.path();
    write(root, "proc/sys/kernel/hostname", "</title><script>hacked=1</script>\n");
    let mut pid = 900;
    for name in NAMES {
        for parent in ["system.slice", "user.slice/user-0.slice", SERVICES] {
            for ending in [&b""[..], b".service", b".slice"] {
                let path = Path::new(parent).join(OsString::from_vec([name, ending].concat()));
                let directory = root.join("sys/fs/cgroup").join(&path);
                fs::create_dir_all(&directory).unwrap();
                pid += 1;
                process(root, pid, 1, "system.slice/x.service", 500);
                let own = root.join(format!("proc/{pid}"));
                let line = [b"0::/", path.as_os_str().as_encoded_bytes(), b"\n"].concat();
                fs::write(own.join("cgroup"), line).unwrap();
                let stat = fs::read(own.join("stat")).unwrap();
                let rest = stat.iter().rposition(|byte| *byte == b')').unwrap();
                let stat = [pid.to_string().as_bytes(), b" (", name, &stat[rest..]].concat();
                fs::write(own.join("stat"), stat).unwrap();
                for (attribute, value) in [
                    ("cgroup.procs", pid.to_string().as_str()),
                    ("cgroup.subtree_control", "cpu memory"),
                    ("cpu.weight", "900"),
                    ("memory.current", "400000000"),
                    ("memory.min", "300000000"),
                    ("memory.low", "0"),
                    ("memory.high", "max"),
                    ("memory.max", "500000000"),
                    ("memory.swap.current", "0"),
                    ("memory.swap.max", "max"),
                    ("memory.oom.group", "1"),
                ] {
                    fs::write(directory.join(attribute), format!("{value}\n")).unwrap();
                }
            }
        }
    }
    let text = "<script>hacked=1</script>\\\"' &amp; \\u202e";
    let policy = format!(
        "[logins.user.\"{text}\"]\ncpu_weight = 50\n[private_dir.CARGO_TARGET_DIR]\npath = \"/srv/<b>/{{user}}\"\n\
         users = [\"{text}\"]\n"
    );
    write(root, "etc/fairslice/policy.d/60-<script>.toml", &policy);
    write(root, "etc/fairslice/policy.d/70-<i>.toml", &format!("\"{text}\" = 1\n[slice.\"{text}.slice\"]\n"));
    machine
}

/// What a command prints as JSON.
fn json(root: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = fairslice(root, arguments);
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
}

/// What a drill may have measured there.
fn drill(root: &Path, host: Value) -> Value {
    let mut drill = json(root, &["drill", "--dry-run", "--json"]);
    drill["host"] = host;
    drill["time"] = "2026-11-29T10:00:00Z".into();
    drill["cpu"]["seconds"] = 4.0.into();
    for row in drill["cpu"]["rows"].as_array_mut().unwrap() {
        row["predicted"] = row["declared"].clone();
        row["measured"] = row["declared"].clone();
    }
    let killed = json!({
        "unit": "local-fs.service", "user": null, "declared_score": -500, "score": -500, "due": [2, 2], "predicted": 2,
        "killed": 1, "ok": false,
    });
    drill["kill_order"] = json!({ "rows": [killed], "left_out": [] });
    let limited = json!({
        "unit": "user-1001.slice", "user": "alice", "depth": 2, "declared": 0.5, "predicted": 0.5, "measured": 0.25,
        "ok": false, "of_bytes": 1 << 30,
    });
    drill["memory"] = json!({ "seconds": 1.0, "bytes": 48 << 20, "protected": [], "ceilings": [limited] });
    drill
}

/// What the elements of a page have between them, on lines of their own.
fn texts(page: &str) -> String {
    let mut texts = String::new();
    let body = page.split_once("<body>").unwrap().1;
    for part in body.split('<').skip(1) {
        let (element, text) = part.split_once('>').unwrap();
        let newline = if element.starts_with("bdi") || element.starts_with("/bdi") { "" } else { "\n" };
        texts.push_str(newline);
        texts.push_str(text);
    }
    texts
        .replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// Whatever begins an element is one of ours.
fn all_is_ours(page: &str) {
    let (head, body) = page.split_once("<style>").unwrap();
    let (_, body) = body.split_once("</style>").unwrap();
    for part in [head, body].into_iter().flat_map(|part| part.split('<').skip(1)) {
        let name = part.trim_start_matches('/').split([' ', '>', '/']).next().unwrap();
        assert!(
            ELEMENTS.split(' ').any(|known| known == name),
            "an element of somebody else's: <{}",
            &part[..part.len().min(60)]
        );
        let attributes = part.split_once('>').map_or("", |(tag, _)| tag);
        let outside: String = attributes.split('"').step_by(2).collect();
        for word in outside.split([' ', '=']) {
            assert!(
                !word.starts_with("on") && !matches!(word, "src" | "action" | "srcset"),
                "<{attributes}>"
            );
        }
        assert!(!attributes.contains("href=\"") || attributes.contains("href=\"#"), "<{attributes}>");
    }
    assert!(!page.chars().any(|c| c != '\n' && (c.is_control() || c == '\u{202e}' || c == '\u{2066}')));
}

#[test]
fn where_all_is_well_it_says_so() {
    let machine = fixture::common::machine("fairslice");
    let root = machine.path();
    let (code, page, err) = fairslice(root, &["report"]);
    assert_eq!((code, err.as_str()), (0, ""));
    all_is_ours(&page);
    let texts = texts(&page);
    for text in [
        "\nEverything declared is in force\n",
        "\n18 settings: 2 slices, 5 services, logins of 2 users\n",
        "\nNothing was found.\n",
        "\n/etc/fairslice/policy.toml:7\n",
        "\nNo drill was given",
        "\n[slice.\"foundry-services.slice\"]\n",
        "\ncpu_weight = 200\n",
    ] {
        assert!(texts.contains(text), "{text}: {texts}");
    }
    assert!(!texts.contains("not in force"), "{texts}");
    let file = root.join("report.html");
    let (code, out, err) = fairslice(root, &["report", "--output", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written.lines().count(), page.lines().count());
}

#[test]
fn what_is_not_in_force_is_said_as_the_commands_say_it() {
    let machine = faulty();
    let root = machine.path();
    let (code, page, _) = fairslice(root, &["report"]);
    assert_eq!(code, 1);
    let said = texts(&page);
    assert!(said.contains("\nfoundry-1.example.org"), "{said}");
    let status = json(root, &["status", "--json"]);
    let differing = status["differing"].as_u64().unwrap();
    assert_eq!((differing, said.matches("\nnot in force\n").count()), (1, 1), "{said}");
    assert!(said.contains("settings is not in force\n"), "{said}");
    let doctor = json(root, &["doctor", "--json"]);
    let findings = doctor["findings"].as_array().unwrap();
    assert!(!findings.is_empty() && findings.len() == page.matches("<article").count(), "{doctor}");
    for finding in findings {
        let text = finding["fix"]["text"].as_str().unwrap();
        assert!(said.contains(&format!("\n{text}\n")), "{text}: {said}");
    }
    assert!(said.contains("foundry.slice has memory.min = 0\n"), "{said}");
}

#[test]
fn a_drill_stands_beside_what_is_declared() {
    let machine = faulty();
    let root = machine.path();
    let file = root.join("drill.json");
    let with = |drill: &Value| {
        fs::write(&file, drill.to_string()).unwrap();
        fairslice(root, &["report", "--drill", file.to_str().unwrap()])
    };
    let own = drill(root, json!("foundry-1.example.org"));
    let (_, page, _) = with(&own);
    let said = texts(&page);
    assert!(said.contains("Measured by a drill that ended at 2026-11-29T10:00:00Z.\n"), "{said}");
    // What is in force is something else than was measured: of the one service there.
    assert!(said.contains("\nnot as predicted\n") && said.contains("\nyes\n"), "{said}");
    assert!(said.contains("Killed in a drill"), "{said}");
    assert!(said.contains("\nMeasured in a model of 48M by a drill"), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let row = ["user-1001.slice (alice)", "512M", "512M", "256M", "no"];
    assert!(lines.windows(row.len()).any(|lines| lines == row), "{said}");
    let (_, page, _) = with(&drill(root, json!("other.example.org")));
    assert!(texts(&page).contains("on another host, other.example.org"), "{page}");
    let mut more = own.clone();
    let row = own["cpu"]["rows"][0].clone();
    more["cpu"]["rows"].as_array_mut().unwrap().push(row);
    more["cpu"]["rows"][0]["unit"] = "gone.service".into();
    let (_, page, _) = with(&more);
    let said = texts(&page);
    assert!(said.contains("\nDeclared then\n") && said.contains("gone.service"), "{said}");
    let mut planned = own;
    planned["cpu"]["seconds"] = Value::Null;
    let (code, out, err) = with(&planned);
    let why = "is of \"fairslice drill --dry-run\": nothing was measured";
    assert_eq!((code, out.as_str(), err), (2, "", format!("fairslice: {} {why}\n", file.display())));
}

#[test]
fn hostile_names_stay_text() {
    let machine = hostile();
    let root = machine.path();
    let (code, page, _) = fairslice(root, &["report"]);
    assert_eq!(code, 1);
    all_is_ours(&page);
    let said = texts(&page);
    for text in [
        "<script>hacked=1<script>",
        "\"' onload=hacked=1 x=\"",
        "&lt;b&gt;<img src=x",
        "a\\xff]]><!--",
        "\\u{202e}evil",
    ] {
        assert!(said.contains(text), "{text}");
    }
    let (_, picture, _) = fairslice(root, &["report", "--svg"]);
    all_is_ours(&picture);
}

#[test]
fn the_picture_alone_is_a_file() {
    let machine = fixture::common::machine("fairslice");
    let (code, picture, err) = fairslice(machine.path(), &["report", "--svg"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && picture.ends_with("</svg>\n")
    );
    let tiles = picture.matches("<rect class=\"tile").count();
    assert!(tiles > 20 && picture.contains("local-fs.service: due "), "{tiles}");
}

/// `make report-test`: needs Chromium. The pages and pictures of them are left in `target/report`.
#[test]
#[ignore = "needs Chromium"]
fn a_browser_shows_it_and_nothing_leaves_it() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../report");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let write_page = |name: &str, root: &Path, more: &[&str]| {
        let file = directory.join(name);
        let arguments = [&["report", "--output", file.to_str().unwrap()], more].concat();
        let (code, _, err) = fairslice(root, &arguments);
        assert!(code < 2, "{name}: {err}");
    };
    for name in ["fairslice", "kubernetes"] {
        let machine = fixture::common::machine(name);
        write_page(&format!("{name}.html"), machine.path(), &[]);
    }
    for (name, machine) in [("faulty", faulty()), ("hostile", hostile())] {
        let root = machine.path();
        let file = root.join("drill.json");
        fs::write(&file, drill(root, json!("</title><script>hacked=1</script>")).to_string()).unwrap();
        write_page(&format!("{name}.html"), root, &["--drill", file.to_str().unwrap()]);
        write_page(&format!("{name}.svg"), root, &["--svg"]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/browser.py");
    let status = Command::new("/usr/bin/python3").arg(script).arg(&directory).status().unwrap();
    assert!(status.success(), "{}", directory.display());
}
