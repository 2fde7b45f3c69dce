//! `fairslice status --format=openmetrics`, held to what `OpenMetrics` 1.0 and Prometheus's text format
//! 0.0.4, which `node_exporter`'s textfile collector reads, both allow.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use fixture::{SERVICES, cgroup, common, fairslice, load, write};
use serde_json::Value;
use tempfile::TempDir;

type Labels = BTreeMap<String, String>;
type Sample = (String, Labels, f64);

/// One with a PID 1 that has nothing to say.
fn machine() -> TempDir {
    let machine = fixture::machine();
    write(machine.path(), "run/systemd/show", "");
    machine
}

/// Every sample by its metric's name; panics at what is not in both formats.
fn parse(text: &str) -> Vec<Sample> {
    let (body, end) = text.split_at(text.len() - "# EOF\n".len());
    assert_eq!(end, "# EOF\n");
    let (mut samples, mut seen, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            // A metric's lines stand together.
            let (name, help) = help.split_once(' ').unwrap();
            assert!(done.insert(name.to_owned()), "{name} twice");
            assert!(is_name(name) && name.starts_with("fairslice_") && !help.is_empty(), "{line}");
            // In OpenMetrics these end the names of samples of other types.
            for reserved in ["_total", "_created", "_count", "_sum", "_bucket", "_info"] {
                assert!(!name.ends_with(reserved), "{name}");
            }
            assert!(!help.contains(['\\', '"']), "{line}");
            name.clone_into(&mut family);
            assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
            if let Some(unit) = lines.next_if(|line| line.starts_with("# UNIT")) {
                let unit = unit.strip_prefix(&format!("# UNIT {name} ")).unwrap();
                assert!(name.ends_with(&format!("_{unit}")), "{name} {unit}");
            }
            assert!(lines.peek().is_some_and(|line| !line.starts_with('#')), "{name} has no sample");
            continue;
        }
        let (name, labels, value) = sample(line);
        assert_eq!(name, family);
        assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
        samples.push((name, labels, value));
    }
    samples
}

fn is_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// `name{key="value",…} number`, without a time stamp.
fn sample(line: &str) -> Sample {
    let (before, value) = line.rsplit_once(' ').unwrap();
    let value = match value {
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap(),
    };
    assert!(!value.is_nan());
    let Some((name, rest)) = before.split_once('{') else {
        assert!(is_name(before), "{line}");
        return (before.to_owned(), Labels::new(), value);
    };
    let mut labels = Labels::new();
    let mut chars = rest.chars();
    loop {
        let key: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&key) && chars.next() == Some('"'), "{line}");
        let mut text = String::new();
        loop {
            match chars.next().unwrap() {
                '"' => break,
                '\\' => text.push(match chars.next().unwrap() {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other}: {line}"),
                }),
                c => text.push(c),
            }
        }
        assert!(labels.insert(key, text).is_none(), "{line}");
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{other:?}: {line}"),
        }
    }
    assert!(chars.next().is_none(), "{line}");
    (name.to_owned(), labels, value)
}

fn metrics(root: &Path) -> (i32, Vec<Sample>) {
    let (code, samples, err) = metrics_and_errors(root);
    assert_eq!(err, "");
    (code, samples)
}

fn metrics_and_errors(root: &Path) -> (i32, Vec<Sample>, String) {
    let (code, text, err) = fairslice(root, &["status", "--format=openmetrics"]);
    (code, parse(&text), err)
}

/// Those about findings, and all others that are the same in the next look.
fn parted(mut samples: Vec<Sample>) -> (Vec<Sample>, Vec<Sample>) {
    samples.retain(|(name, ..)| name != "fairslice_look_timestamp_seconds");
    samples.into_iter().partition(|(name, ..)| name.starts_with("fairslice_findings"))
}

/// What the doctor says: how many findings there are of each code and severity.
fn diagnosed(root: &Path) -> BTreeMap<(String, String), u32> {
    let (_, out, _) = fairslice(root, &["doctor", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let mut counts = BTreeMap::new();
    for finding in told["findings"].as_array().unwrap() {
        let text = |field: &str| finding[field].as_str().unwrap().to_owned();
        *counts.entry((text("code"), text("severity"))).or_default() += 1;
    }
    counts
}

/// The one sample of this metric with these labels.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let found: Vec<f64> = samples
        .iter()
        .filter(|(other, have, _)| {
            other.strip_prefix("fairslice_") == Some(name)
                && labels.iter().all(|(key, value)| have.get(*key).is_some_and(|have| have == value))
        })
        .map(|(_, _, value)| *value)
        .collect();
    let [value] = found.as_slice() else { panic!("{name} {labels:?}: {found:?}") };
    *value
}

#[test]
fn every_figure_is_a_sample() {
    let machine = machine();
    let root = machine.path();
    load(root, SERVICES, 600 << 20, 12);
    write(root, "sys/fs/cgroup/foundry.slice/cpu.weight", "100\n");
    let (code, samples) = metrics(root);
    assert_eq!(code, 1);
    let slice = [("unit", "foundry-services.slice")];
    for (name, labels, expected) in [
        ("policy_in_force", &[("policy", "current")][..], 1.0),
        ("policy_in_force", &[("policy", "nothing")], 0.0),
        ("policy_errors", &[], 0.0),
        ("settings_differing", &[], 1.0),
        ("setting_holds", &[("unit", "foundry.slice"), ("setting", "cpu_weight")], 0.0),
        ("setting_holds", &[("unit", "user-0.slice"), ("user", "root"), ("setting", "oom_score_adj")], 1.0),
        ("cpu_weight_declared", &[("unit", "foundry.slice")], 200.0),
        ("cpu_weight", &[("cgroup", "/foundry.slice"), ("unit", "foundry.slice")], 100.0),
        ("cpu_usage_seconds", &slice, 0.001),
        ("cpus_online", &[], 2.0),
        ("memory_current_bytes", &slice, f64::from(600 << 20)),
        ("oom_score", &[("unit", "local-fs.service")], 333.0),
        ("oom_rank", &[("unit", "local-fs.service")], 4.0),
        ("pressure_ratio", &[slice[0], ("resource", "io"), ("kind", "some")], 0.125),
        ("pressure_ratio", &[slice[0], ("resource", "cpu"), ("kind", "full")], 0.0),
    ] {
        assert!((value(&samples, name, labels) - expected).abs() < 1e-9, "{name} {labels:?}");
    }
    // A service that is never killed has a score and no rank.
    let ranked =
        |unit: &str| samples.iter().any(|(name, l, _)| name == "fairslice_oom_rank" && l["unit"] == unit);
    assert!(!ranked("ssh.service") && ranked("user-0.slice"));
}

#[test]
fn the_time_of_the_look_is_told() {
    let machine = machine();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let before = now();
    let (_, samples) = metrics(machine.path());
    let told = value(&samples, "look_timestamp_seconds", &[]);
    assert!((before - 0.001..=now()).contains(&told), "{told}");
}

/// What is kept does not depend on what is used now.
#[test]
fn a_protection_is_declared_and_kept_or_not() {
    let machine = machine();
    let root = machine.path();
    write(
        root,
        "etc/fairslice/policy.d/50-min.toml",
        "[slice.\"foundry-services.slice\"]\nmemory_min = \"25%\"\n",
    );
    let foundry = "foundry.slice";
    for (cgroup, min) in [(foundry, "268435456\n"), (SERVICES, "536870912\n")] {
        load(root, cgroup, 100 << 20, 0);
        write(root, &format!("sys/fs/cgroup/{cgroup}/memory.min"), min);
    }
    for (of_foundry, kept) in [("268435456\n", 256), ("0\n", 0), ("536870912\n", 512)] {
        write(root, &format!("sys/fs/cgroup/{foundry}/memory.min"), of_foundry);
        let (_, samples) = metrics(root);
        for unit in [foundry, "foundry-services.slice"] {
            let labels = [("unit", unit), ("user", ""), ("setting", "memory_min")];
            for (name, mib) in [("declared", 512), ("kept", kept)] {
                let name = format!("memory_protection_{name}_bytes");
                let told = value(&samples, &name, &labels);
                assert!((told - f64::from(mib << 20)).abs() < 1e-9, "{unit} {name} {told}");
            }
        }
    }
}

#[test]
fn what_comes_and_goes_with_sessions_is_left_out() {
    let machine = machine();
    let root = machine.path();
    let (_, samples) = metrics(root);
    let cgroups: BTreeSet<&str> =
        samples.iter().filter_map(|(_, labels, _)| Some(labels.get("cgroup")?.as_str())).collect();
    assert!(cgroups.contains("/user.slice/user-0.slice"));
    assert!(!cgroups.iter().any(|path| path.contains("session") || path.contains("user@")), "{cgroups:?}");
}

#[test]
fn odd_names_are_escaped() {
    let machine = machine();
    let root = machine.path();
    cgroup(root, "system.slice/dev-disk\\x2d1.mount", &[("cpu.weight", "6")]);
    cgroup(root, "system.slice/dev-disk\\x2d\"1\"\t.service", &[("cpu.weight", "7")]);
    let (_, samples) = metrics(root);
    assert!((value(&samples, "cpu_weight", &[("unit", "dev-disk\\x2d1.mount")]) - 6.0).abs() < 1e-9);
    // No unit has such a name.
    let odd = "/system.slice/dev-disk\\x2d\"1\"\\t.service";
    assert!((value(&samples, "cpu_weight", &[("unit", odd)]) - 7.0).abs() < 1e-9);
}

#[test]
fn findings_are_counted_by_code() {
    let machine = common::machine("fairslice");
    let root = machine.path();
    let (code, samples) = metrics(root);
    assert_eq!(
        (code, parted(samples).0),
        (0, vec![("fairslice_findings_all".to_owned(), Labels::new(), 0.0)])
    );
    // Two settings that systemd ignores, and a unit that there is not: no setting of the policy's.
    for unit in ["cron", "ssh", "gone"] {
        write(
            root,
            &format!("etc/systemd/system/{unit}.service.d/a.conf"),
            "[Service]\nCPUWeigth=1\nMemoryMax=1G\n",
        );
    }
    common::replace(
        root,
        "run/systemd/show",
        "Id=cron.service\n",
        "Id=cron.service\nDropInPaths=/etc/systemd/system/cron.service.d/a.conf\n",
    );
    common::replace(
        root,
        "run/systemd/show",
        "Id=ssh.service\n",
        "Id=ssh.service\nDropInPaths=/etc/systemd/system/ssh.service.d/a.conf\n",
    );
    let (code, samples) = metrics(root);
    assert_eq!(code, 0);
    for (code, severity, count) in [("FS070", "severe", 2.0), ("FS073", "moderate", 1.0)] {
        let labels = [("code", code), ("severity", severity)];
        assert!((value(&samples, "findings", &labels) - count).abs() < 1e-9, "{code}");
    }
    let diagnosed = diagnosed(root);
    let all: u32 = diagnosed.values().sum();
    assert!(
        (value(&samples, "findings_all", &[]) - f64::from(all)).abs() < 1e-9 && all == 3,
        "{diagnosed:?}"
    );
    for ((code, severity), count) in diagnosed {
        let labels = [("code", code.as_str()), ("severity", severity.as_str())];
        assert!((value(&samples, "findings", &labels) - f64::from(count)).abs() < 1e-9, "{code}");
    }
}

#[test]
fn where_the_doctor_cannot_look_the_rest_is_the_same() {
    for name in ["ubuntu", "kubernetes"] {
        let machine = common::machine(name);
        let root = machine.path();
        write(
            root,
            "etc/fairslice/policy.toml",
            "[slice.\"a.slice\"]\ncpu_weight = 200\nmatch = [\"nginx\", \"kubelet\"]\n",
        );
        let (code, with) = metrics(root);
        let (found, with) = parted(with);
        assert!(code == 1 && found.len() > 2 && with.len() > 100, "{found:?}");
        // Without what PID 1 says, it finds some things, and may miss others.
        let shown = fs::read_to_string(root.join("run/systemd/show")).unwrap();
        fs::remove_file(root.join("run/systemd/show")).unwrap();
        let (code, without, err) = metrics_and_errors(root);
        assert!(
            code == 1 && err.contains("not looked at: what PID 1 says") && err.lines().count() == 1,
            "{err}"
        );
        let (found, without) = parted(without);
        assert!(found.iter().all(|(name, ..)| name == "fairslice_findings"), "{found:?}");
        assert_eq!(without, with);
        if name == "ubuntu" {
            // A file of systemd-oomd's that cannot be read.
            write(root, "run/systemd/show", &shown);
            fs::create_dir_all(root.join("etc/systemd/oomd.conf")).unwrap();
            let (code, without, err) = metrics_and_errors(root);
            assert!(code == 1 && err.contains("oomd.conf") && err.lines().count() == 1, "{err}");
            assert_eq!(parted(without), (Vec::new(), with));
        }
    }
}

#[test]
fn a_broken_policy_and_a_broken_machine_are_said() {
    let machine = machine();
    let root = machine.path();
    write(root, "etc/fairslice/policy.toml", "nonsense\n");
    let (code, samples) = metrics(root);
    assert_eq!(code, 1);
    assert!(value(&samples, "policy_errors", &[]) >= 1.0);
    assert!((value(&samples, "policy_in_force", &[("policy", "nothing")]) - 1.0).abs() < 1e-9);
    write(root, "proc/self/cgroup", "4:memory:/\n");
    let (code, text, err) = fairslice(root, &["status", "--format=openmetrics"]);
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(err.contains("cgroup v1"), "{err}");
}
