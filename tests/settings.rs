//! What systemd 252, 257 and 262 say about the lines of `tests/settings.tsv`, and what we say: nothing that they
//! refuse or ignore is missed, and nothing is invented.
//!
//! `tests/vm/settings.py` has asked them with `systemd-analyze verify`; `tests/vm/test_4_settings.py` asks those
//! of the machines again.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::write;
use fairslice::doctor::finding::Finding;
use fairslice::doctor::stock;
use fairslice::host::settings::Settings;
use fairslice::host::units::Units;
use fairslice::policy::Policy;

const VERSIONS: [u16; 3] = [252, 257, 262];

const OF_V1: [&str; 3] = ["CPUShares=", "MemoryLimit=", "BlockIO"];

/// The kind of unit; what each version says; the lines.
fn corpus() -> Vec<(&'static str, &'static str, String)> {
    let text = include_str!("settings.tsv");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.splitn(3, '\t').collect();
            (fields[0], fields[1], fields[2].replace("\\n", "\n"))
        })
        .collect()
}

fn code(finding: &Finding) -> String {
    finding.code.to_string()
}

#[test]
fn what_systemd_refuses_is_found_and_what_it_takes_is_not() {
    let corpus = corpus();
    let machine = tempfile::tempdir().unwrap();
    let mut show = String::new();
    for (number, (kind, _, text)) in corpus.iter().enumerate() {
        let (kind, at) = kind.strip_suffix('@').map_or((*kind, ""), |kind| (kind, "@"));
        let (file, unit) = (format!("c{number}{at}.{kind}"), format!("c{number}{at}7.{kind}"));
        let unit = if at.is_empty() { &file } else { &unit };
        let path = format!("/etc/systemd/system/{file}");
        write(machine.path(), &path, text);
        writeln!(show, "Id={unit}\nLoadState=loaded\nFragmentPath={path}\n").unwrap();
    }
    write(machine.path(), "/run/systemd/show", &show);
    let units = Units::read(machine.path()).unwrap();
    let settings = Settings::read(machine.path(), &units);
    let mut wrong = Vec::new();
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let mut ours: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
        for finding in stock::findings(&Policy::default(), None, &units, &settings, Some(version)) {
            ours.entry(finding.subject.to_string()).or_default().push(finding);
        }
        for (number, (kind, verdicts, text)) in corpus.iter().enumerate() {
            let verdict = verdicts.chars().nth(index).unwrap();
            let (kind, at) = kind.strip_suffix('@').map_or((*kind, ""), |kind| (kind, "@"));
            let found = ours.remove(&format!("c{number}{at}.{kind}")).unwrap_or_default();
            let ours: Vec<String> = found.iter().map(code).collect();
            let expected = match verdict {
                // systemd says nothing of one or the other of these, and reads none since 258.
                _ if OF_V1.iter().any(|key| text.contains(key)) => vec!["FS071"],
                // What it did is always on since.
                _ if version >= 258 && text.contains("CPUAccounting=") => vec![],
                '-' => vec![],
                'K' => vec!["FS070"],
                'V' => vec!["FS072"],
                other => panic!("{other}"),
            };
            if ours != expected {
                wrong.push(format!("{version} {kind} {text:?}: {expected:?}, not {ours:?}"));
            }
        }
    }
    assert!(corpus.len() >= 200);
    assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n"));
}
