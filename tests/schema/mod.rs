//! What `--json` prints, held to `docs/json/*.schema.json`; and what of a schema was never printed.
//!
//! The crates `jsonschema` and `boon` bring 60 others for what the keywords below take 60 lines; a
//! keyword that is not among them fails the test.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex_lite::Regex;
use serde_json::Value;

/// A schema, and the types, values and absences that were seen at its places.
pub(crate) struct Schema {
    whole: Value,
    seen: RefCell<BTreeSet<String>>,
}

impl Schema {
    pub(crate) fn of(name: &str) -> Self {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json").join(format!("{name}.schema.json"));
        let whole = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        Self { whole, seen: RefCell::default() }
    }

    /// What stands at a place in it.
    pub(crate) fn part(&self, place: &str) -> &Value {
        self.whole.pointer(place).unwrap()
    }

    /// Holds what a command has printed to the schema.
    pub(crate) fn check(&self, printed: &str) -> Value {
        let value = serde_json::from_str(printed).unwrap();
        assert_eq!(self.errors(&value), [""; 0], "{printed}");
        value
    }

    /// What is wrong with `value`. What the schema does not name is wrong too: a field may be added at
    /// any time, but not without a word here.
    pub(crate) fn errors(&self, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.compare("", value, "", &mut found);
        found
    }

    /// What the schema allows and nothing that was checked has had; each is a place in the schema, and
    /// a type, a value, or that a field is absent.
    pub(crate) fn unseen(&self) -> Vec<String> {
        let mut allowed = BTreeSet::new();
        list("", &self.whole, &mut allowed);
        allowed.difference(&self.seen.borrow()).cloned().collect()
    }

    /// Compares `value`, at `at` in what was printed, with what stands at `place` in the schema.
    fn compare(&self, place: &str, value: &Value, at: &str, found: &mut Vec<String>) {
        let see = |what: &dyn std::fmt::Display| self.seen.borrow_mut().insert(format!("{place}: {what}"));
        for (keyword, expected) in self.part(place).as_object().unwrap() {
            let alternatives = || {
                let count = expected.as_array().unwrap().len();
                let holds = |number: &usize| {
                    let mut wrong = Vec::new();
                    self.compare(&format!("{place}/{keyword}/{number}"), value, at, &mut wrong);
                    wrong.is_empty()
                };
                (0..count).filter(holds).count()
            };
            let holds = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" => true,
                "$ref" => {
                    self.compare(text(expected).strip_prefix('#').unwrap(), value, at, found);
                    true
                }
                "const" => value == expected,
                "enum" => {
                    see(value);
                    expected.as_array().unwrap().contains(value)
                }
                "anyOf" => alternatives() > 0,
                "oneOf" => alternatives() == 1,
                "minimum" => value.as_f64().is_none_or(|number| number >= expected.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= expected.as_f64().unwrap()),
                "pattern" => value.as_str().is_none_or(|t| Regex::new(text(expected)).unwrap().is_match(t)),
                "type" => {
                    let kind = types(expected).into_iter().find(|kind| is(value, kind));
                    match (kind, value) {
                        (Some("boolean"), value) => see(value),
                        (Some(kind), _) => see(&kind),
                        (None, _) => false,
                    };
                    kind.is_some()
                }
                "required" => value
                    .as_object()
                    .is_none_or(|object| names(expected).all(|name| object.contains_key(name))),
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.compare(&format!("{place}/items"), item, &format!("{at}/{index}"), found);
                    }
                    true
                }
                "properties" => {
                    for (key, field) in value.as_object().into_iter().flatten() {
                        let (place, at) = (format!("{place}/properties/{key}"), format!("{at}/{key}"));
                        if expected.get(key).is_some() {
                            self.compare(&place, field, &at, found);
                        } else {
                            found.push(format!("{at} is not in the schema"));
                        }
                    }
                    for key in expected.as_object().unwrap().keys().filter(|_| value.is_object()) {
                        if value.get(key).is_none() {
                            see(&format!("no {key}"));
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (key, field) in value.as_object().into_iter().flatten() {
                        self.compare(&format!("{place}/{keyword}"), field, &format!("{at}/{key}"), found);
                    }
                    true
                }
                unknown => panic!("{unknown} is not checked"),
            };
            if !holds {
                found.push(format!("{at}: {keyword} {expected}, found {value}"));
            }
        }
    }
}

/// Lists what is allowed below `place`.
fn list(place: &str, schema: &Value, allowed: &mut BTreeSet<String>) {
    let mut add = |what: &str| allowed.insert(format!("{place}: {what}"));
    for kind in schema.get("type").map(types).unwrap_or_default() {
        if kind == "boolean" {
            add("true");
            add("false");
        } else {
            add(kind);
        }
    }
    for value in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
        add(&value.to_string());
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    let required: Vec<&str> = schema.get("required").into_iter().flat_map(names).collect();
    for (name, _) in fields.into_iter().flatten().filter(|(name, _)| !required.contains(&name.as_str())) {
        add(&format!("no {name}"));
    }
    for keyword in ["properties", "$defs"] {
        for (name, field) in schema.get(keyword).and_then(Value::as_object).into_iter().flatten() {
            list(&format!("{place}/{keyword}/{name}"), field, allowed);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        schema.get(keyword).into_iter().for_each(|s| list(&format!("{place}/{keyword}"), s, allowed));
    }
    for (number, one) in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten().enumerate() {
        list(&format!("{place}/anyOf/{number}"), one, allowed);
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn names(array: &Value) -> impl Iterator<Item = &str> {
    array.as_array().unwrap().iter().map(text)
}

/// One, or an array of them.
fn types(expected: &Value) -> Vec<&str> {
    if expected.is_array() { names(expected).collect() } else { vec![text(expected)] }
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
