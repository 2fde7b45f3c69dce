//! The alarms and the dashboard for Prometheus, held by its own promtool to what `fairslice status --format=openmetrics`
//! prints: each alarm fires and does not, and each query of the dashboard finds something.
//!
//! `make alarm-test` runs it, with the promtool that `tests/prepare test` has unpacked.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fixture::{SERVICES, common, fairslice, load, write};
use serde_json::{Value, json};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const RULES: &str = "packaging/prometheus/fairslice.rules.yml";
const TESTS: &str = "tests/prometheus/fairslice.test.yml";
const DASHBOARD: &str = "packaging/grafana/fairslice.json";
/// Looks a minute apart, and when they are asked about.
const LOOKS: usize = 30;
const AT: &str = "25m";

fn ours(path: &str) -> String {
    fs::read_to_string(Path::new(HERE).join(path)).unwrap()
}

/// What promtool says; it is to find nothing wrong.
fn promtool(arguments: &[&str], directory: &Path, input: &str) -> String {
    let mut promtool = Command::new(Path::new(HERE).join("target/tools/prometheus/usr/bin/promtool"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}: tests/prepare test unpacks it"));
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// Runs tests of promtool's, in the form that it reads, against the rules.
fn promtool_tests(tests: &str) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("fairslice.rules.yml"), ours(RULES)).unwrap();
    fs::write(directory.path().join("test.yml"), tests).unwrap();
    promtool(&["test", "rules", "test.yml"], directory.path(), "");
}

/// What is true of a machine's figures that stay as they are for [`LOOKS`] looks: expressions with all of their
/// samples, labels and value.
fn promtool_says(metrics: &str, expressions: &[(String, Vec<(&str, f64)>)]) {
    let series = metrics.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let comma = if labels == "}" { "" } else { "," };
        let series = format!("{name}{{instance=\"machine\",job=\"node\"{comma}{labels}");
        json!({ "series": series, "values": vec![value.trim_start_matches('+'); LOOKS].join(" ") })
    });
    let expressions = expressions.iter().map(|(expression, samples)| {
        let samples = samples.iter().map(|(labels, value)| json!({ "labels": labels, "value": value }));
        json!({ "expr": expression, "eval_time": AT, "exp_samples": samples.collect::<Vec<_>>() })
    });
    let tests = json!({
        "rule_files": ["fairslice.rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": expressions.collect::<Vec<_>>(),
        }],
    });
    promtool_tests(&tests.to_string());
}

/// What is printed of a machine on which all is well, and what after its settings have drifted.
fn printed(has_drifted: bool) -> String {
    let machine = common::machine("fairslice");
    let root = machine.path();
    load(root, SERVICES, 360 << 20, 12);
    if has_drifted {
        write(root, &format!("sys/fs/cgroup/{SERVICES}/cpu.weight"), "50\n");
        write(root, &format!("sys/fs/cgroup/{SERVICES}/memory.max"), "1500000000\n");
        let more = "[slice.\"foundry-services.slice\"]\nmemory_min = \"64M\"\n";
        write(root, "etc/fairslice/policy.d/50-more.toml", more);
    }
    let (code, text, err) = fairslice(root, &["status", "--format=openmetrics"]);
    assert_eq!((code, err.as_str()), (i32::from(has_drifted), ""));
    text
}

/// A series' metric and the names of its labels.
fn shape(series: &str) -> (&str, BTreeSet<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.split(['"', '{', '}']).step_by(2);
    (name, labels.map(|key| key.trim_matches([',', ' ', '='])).filter(|key| !key.is_empty()).collect())
}

#[test]
#[ignore = "promtool: make alarm-test"]
fn each_alarm_fires_and_does_not() {
    promtool(&["check", "rules", RULES], Path::new(HERE), "");
    let (rules, tests) = (ours(RULES), ours(TESTS));
    let alarms = rules.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: "));
    let tested: BTreeSet<&str> =
        tests.split("alertname: ").skip(1).filter_map(|rest| rest.split([',', '\n']).next()).collect();
    assert_eq!(alarms.collect::<BTreeSet<_>>(), tested);
    promtool_tests(&tests);
}

#[test]
#[ignore = "promtool: make alarm-test"]
fn the_alarms_are_tried_on_series_that_are_printed() {
    let (metrics, tests) = (printed(true), ours(TESTS));
    let printed: BTreeMap<&str, BTreeSet<&str>> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| shape(line.rsplit_once(' ').unwrap().0))
        .collect();
    let series: Vec<&str> = tests
        .split("{series: '")
        .skip(1)
        .filter_map(|rest| rest.split('\'').next())
        .filter(|series| !series.starts_with("up{"))
        .collect();
    assert!(series.len() > 40, "{series:?}");
    for series in series {
        let (name, mut labels) = shape(series);
        assert!(labels.remove("instance"), "{series}");
        assert_eq!(printed.get(name), Some(&labels), "{series}");
    }
}

#[test]
#[ignore = "promtool: make alarm-test"]
fn what_is_printed_passes_promtool() {
    for has_drifted in [false, true] {
        assert_eq!(promtool(&["check", "metrics"], Path::new(HERE), &printed(has_drifted)), "");
    }
}

#[test]
#[ignore = "promtool: make alarm-test"]
fn alarms_are_of_what_has_drifted_only() {
    let firing = "count by (alertname, unit, setting, code) (ALERTS{alertstate=\"firing\"})".to_owned();
    promtool_says(&printed(false), &[(firing.clone(), vec![])]);
    let alarms = [
        r#"{alertname="FairsliceSettingNotInForce", unit="foundry-services.slice", setting="cpu_weight"}"#,
        r#"{alertname="FairsliceSettingNotInForce", unit="foundry-services.slice", setting="memory_min"}"#,
        r#"{alertname="FairsliceSettingNotInForce", unit="foundry.slice", setting="memory_min"}"#,
        r#"{alertname="FairsliceProtectionLost", unit="foundry-services.slice", setting="memory_min"}"#,
        r#"{alertname="FairsliceProtectionLost", unit="foundry.slice", setting="memory_min"}"#,
    ];
    promtool_says(&printed(true), &[(firing, alarms.map(|labels| (labels, 1.0)).into())]);
}

/// A query as Grafana sends it, for all machines and units.
fn sent(query: &str) -> String {
    let sent = ["$instance", "$unit"].into_iter().fold(query.to_owned(), |q, name| q.replace(name, ".*"));
    let sent = sent.replace("$__rate_interval", "4m");
    assert!(!sent.contains('$'), "{query}");
    sent
}

/// Each with the labels that are shown of it.
fn queries(dashboard: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |text: String| {
        let labels = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
        labels.map(str::to_owned).collect()
    };
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            all.push((text(&target["expr"]), shown(text(&target["legendFormat"]))));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().unwrap() {
        all.push((text(&annotation["expr"]), shown(text(&annotation["titleFormat"]))));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(values) = variable["definition"].as_str() else { continue };
        let values = values.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (query, label) = values.and_then(|values| values.rsplit_once(", ")).unwrap();
        all.push((query.to_owned(), vec![label.to_owned()]));
    }
    all
}

#[test]
#[ignore = "promtool: make alarm-test"]
fn each_query_of_the_dashboard_finds_something() {
    let queries = queries(&serde_json::from_str(&ours(DASHBOARD)).unwrap());
    assert!(queries.len() > 20, "{queries:?}");
    let mut expressions = Vec::new();
    for (query, labels) in &queries {
        let query = sent(query);
        expressions.push((format!("count({query}) > bool 0"), vec![("{}", 1.0)]));
        // Of every sample: one that lacks the label would be a group of its own.
        for label in labels {
            let found = format!("label_replace({query}, \"found\", \"yes\", \"{label}\", \".+\")");
            expressions
                .push((format!("count by (found) ({found}) > bool 0"), vec![(r#"{found="yes"}"#, 1.0)]));
        }
    }
    promtool_says(&printed(true), &expressions);
}
