//! What `--json` prints is what `docs/json/*.schema.json` say.
//!
//! The crates `jsonschema` and `boon` bring 60 others for what the keywords below take 40 lines; a
//! keyword that is not among them fails the test.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod fixture;

use std::fs;
use std::path::Path;

use fixture::{SERVICES, cgroup, fairslice, load, machine, write};
use serde_json::{Value, json};

/// What is wrong with `value`, if anything is; what the schema does not name is wrong too.
fn errors(schema: &Value, value: &Value, whole: &Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (keyword, expected) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let target = whole.pointer(expected.as_str().unwrap().strip_prefix('#').unwrap()).unwrap();
                found.extend(errors(target, value, whole, at));
                true
            }
            "const" => value == expected,
            "enum" => expected.as_array().unwrap().contains(value),
            "anyOf" => expected.as_array().unwrap().iter().any(|s| errors(s, value, whole, at).is_empty()),
            "minimum" => value.as_f64().is_none_or(|number| number >= expected.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= expected.as_f64().unwrap()),
            "type" => match expected {
                Value::Array(types) => types.iter().any(|t| is(value, t.as_str().unwrap())),
                one => is(value, one.as_str().unwrap()),
            },
            "required" => value.as_object().is_none_or(|object| {
                expected.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(errors(expected, item, whole, &format!("{at}/{index}")));
                }
                true
            }
            "properties" => {
                for (key, field) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}/{key}");
                    match expected.get(key) {
                        Some(schema) => found.extend(errors(schema, field, whole, &at)),
                        None => found.push(format!("{at} is not in the schema")),
                    }
                }
                true
            }
            "additionalProperties" => {
                for (key, field) in value.as_object().into_iter().flatten() {
                    found.extend(errors(expected, field, whole, &format!("{at}/{key}")));
                }
                true
            }
            unknown => panic!("{unknown} is not checked"),
        };
        if !holds {
            found.push(format!("{at}: {keyword} {expected}, found {value}"));
        }
    }
    found
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("{unknown}"),
    }
}

fn schema(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json").join(format!("{name}.schema.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Runs the command, and holds what it prints to the schema.
fn checked(name: &str, root: &Path, arguments: &[&str]) -> Value {
    let (_, out, err) = fairslice(root, arguments);
    assert_eq!(err, "");
    let (schema, value) = (schema(name), serde_json::from_str(&out).unwrap());
    assert_eq!(errors(&schema, &value, &schema, ""), [""; 0], "{out}");
    value
}

#[test]
fn status() {
    let machine = machine();
    let root = machine.path();
    // Null in every place where there may be one, and not null in every place.
    assert_eq!(checked("status", root, &["status", "--json"])["cgroups"][0]["memory"], Value::Null);
    load(root, &format!("{SERVICES}/local-fs.service"), 1 << 20, 3);
    cgroup(root, &format!("{SERVICES}/local-fs.service"), &[("pids.current", "1"), ("cpu.weight", "0")]);
    write(root, "etc/fairslice/policy.d/50.toml", "[logins]\ncpu_weight = 0\n");
    checked("status", root, &["status", "--json"]);
    let named = checked("status", root, &["status", "--json", "local-fs", "root", "local-idle"]);
    assert_eq!(named["cgroups"][0]["memory_events"]["oom_kill"], 1);
    fs::remove_file(root.join("etc/fairslice/policy.toml")).unwrap();
    assert_eq!(checked("status", root, &["status", "--json"])["policy"]["in_force"], "nothing");
}

#[test]
fn explain_login() {
    let machine = machine();
    let root = machine.path();
    for file in ["sshd", "cron"] {
        write(root, &format!("etc/pam.d/{file}"), "session optional pam_fairslice.so\n");
    }
    let policy = "[slice.\"a.slice\"]\ncpu_weight = 200\ncpu_floor = \"50%\"\n[logins]\ncpu_weight = 300\n\
                  total_weight = \"sum\"\noom_score_adj = 0\n[private_dir.TMPDIR]\npath = \"/srv/{user}\"\n";
    for policy in [policy, "[logins]\ntotal_weight = 100\n", "[service.a]\noom_score_adj = 0\n"] {
        write(root, "etc/fairslice/policy.toml", policy);
        for arguments in [&["explain", "login", "root", "--json"][..], &["--service", "cron"]] {
            let all = [&["explain", "login", "daemon", "--json"], arguments].concat();
            let arguments = if arguments.len() == 2 { all.as_slice() } else { arguments };
            checked("explain-login", root, arguments);
        }
    }
}

/// The check itself.
#[test]
fn what_is_not_so_is_found() {
    let machine = machine();
    let good = checked("status", machine.path(), &["status", "--json"]);
    let schema = schema("status");
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/differing", json!(-1)),
        ("/policy/in_force", json!("maybe")),
        ("/units/0/active", json!(null)),
        ("/units/0/settings", json!([{}])),
        ("/cgroups/0/cpu_share", json!(1.5)),
        ("/cgroups/0/pressure", json!({ "cpu": null, "memory": null, "io": null, "gpu": null })),
        ("/cgroups/1/unit", json!(7)),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(!errors(&schema, &value, &schema, "").is_empty(), "{pointer}");
    }
}
