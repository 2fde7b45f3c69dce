//! What the administrator declares, as text and compiled.

use std::convert::Infallible;
use std::fs;
use std::path::{Component, Path};

use fairslice::enforce::generator;
use fairslice::host::machine::Machine;
use fairslice::policy::{self, DirectoryOwner, ForLogins, Loaded, PathTemplate, Policy, Setting, Who};
use fairslice::{paths, text};
use tempfile::tempdir;

use super::assert_can_be_shown;

const MACHINE: Machine = Machine { ram: 16 << 30, tasks: 10_000 };

/// A policy file: what is wrong with it is said with its place, and what is right can be used.
pub(super) fn policy(bytes: &[u8]) {
    let loaded = load(bytes);
    let lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    for diagnostic in &loaded.diagnostics {
        assert_can_be_shown(&diagnostic.to_string());
        if let Some((line, column)) = diagnostic.position {
            let length =
                lines[line - 1].utf8_chunks().map(|chunk| chunk.valid().chars().count()).sum::<usize>();
            assert!((1..=length + 1).contains(&column), "{diagnostic}");
        }
    }
    for diagnostic in policy::review(&loaded.policy, MACHINE.ram, |name| Some(format!("{name}.")), |_| None) {
        assert_can_be_shown(&diagnostic.to_string());
    }
    for (unit, text) in generator::texts(&loaded.policy, MACHINE) {
        assert_can_be_shown(&unit);
        assert!(!unit.contains('/'));
        text.lines().for_each(assert_can_be_shown);
    }
    used(&loaded.policy);
}

/// A policy as the generator leaves it to logins, behind a header that says it is of these sources.
pub(super) fn compiled(bytes: &[u8]) {
    let nothing = policy::load_files(&[]);
    let whole = policy::compile(&nothing);
    let header = whole.len() - postcard::to_allocvec(&ForLogins::default()).unwrap().len();
    for file in [bytes, &[&whole[..header], bytes].concat()] {
        let root = tempdir().unwrap();
        let compiled = root.path().join(paths::COMPILED);
        fs::create_dir_all(compiled.parent().unwrap()).unwrap();
        fs::write(compiled, file).unwrap();
        if let Ok(compiled) = policy::for_logins(root.path()) {
            used(&compiled.policy);
        }
    }
}

/// Is in every group.
struct Alice;

impl Who for Alice {
    type Error = Infallible;

    fn uid(&self) -> u32 {
        1000
    }

    fn name(&self) -> Option<&str> {
        Some("alice")
    }

    fn is_called(&self, _: &str) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_in(&self, _: &str) -> Result<bool, Infallible> {
        Ok(true)
    }
}

/// What a login does with a policy.
fn used(policy: &Policy) {
    let (_, rule) = policy.logins.rule(&Alice).unwrap();
    let settings = |settings: &mut dyn Iterator<Item = Setting<'_>>| {
        for setting in settings {
            let _ = (MACHINE.number(&setting.value), setting.value.to_string());
        }
    };
    settings(&mut rule.resources.settings());
    for slice in policy.slices.values() {
        settings(&mut slice.resources.settings());
    }
    for directory in policy.private_dirs.values() {
        let _ = (directory.mode(), directory.excludes(&Alice));
        let alice =
            DirectoryOwner { user: "alice", uid: 1000, group: "staff", home: Path::new("/home/alice") };
        let _ = directory.path.value.fill(alice);
    }
}

/// A setting's value, in each that there is: what is written into a unit means the same when it is read.
pub(super) fn amounts(value: &str) {
    for key in [
        "cpu_weight",
        "cpu_quota",
        "io_weight",
        "io_read_bandwidth_max",
        "memory_min",
        "memory_high",
        "memory_swap_max",
        "tasks_max",
    ] {
        let declared = |value: &str| {
            let loaded = load(format!("[slice.\"a.slice\"]\n{key} = {value}\n").as_bytes());
            let slice = loaded.policy.slices.values().next().filter(|_| loaded.diagnostics.is_empty())?;
            let setting = slice.resources.settings().next()?;
            let number = MACHINE.number(&setting.value);
            Some((setting.value, number))
        };
        if let Some((value, number)) = declared(value) {
            let written = value.to_string();
            let again = declared(&written).or_else(|| declared(&format!("\"{written}\"")));
            assert_eq!(again, Some((value, number)), "{key}");
        }
    }
}

/// `TEMPLATE|USER|GROUP|HOME`: a directory lies where the template has it, whatever the names are.
pub(super) fn template(text: &str) {
    let mut fields = text.splitn(4, '|').map(|field| field.trim_end_matches('\n'));
    let mut field = || fields.next().unwrap_or_default();
    let (template, user, group, home) = (field(), field(), field(), field());
    let Ok(template) = PathTemplate::new(template) else { return };
    let owner = DirectoryOwner { user, uid: 1000, group, home: Path::new(home) };
    let filled = match template.fill(owner) {
        Ok(filled) => filled,
        Err(error) => return assert_is_harmless(&error),
    };
    let directory = &filled.directory;
    let is_plain = |component: Component<'_>| matches!(component, Component::RootDir | Component::Normal(_));
    assert!(directory.is_absolute() && directory.components().all(is_plain), "{directory:?}");
    let home = if template.in_home() { Path::new(home) } else { Path::new("/") };
    let below: Vec<_> = directory.strip_prefix(home).unwrap().components().collect();
    assert_eq!(below.len(), template.made().count(), "{directory:?}");
    for (made, declared) in below.iter().zip(template.made()) {
        let declared_start = declared.split('{').next().unwrap();
        assert!(made.as_os_str().to_str().unwrap().starts_with(declared_start), "{directory:?}");
    }
    assert!(Path::new(&filled.value).starts_with(directory), "{}", filled.value);
    assert!(!filled.value.contains(char::is_control), "{:?}", filled.value);
}

/// What is said of a name quotes it.
fn assert_is_harmless(said: &str) {
    assert!(!said.contains(char::is_control), "{said:?}");
    assert_eq!(text::shown(said).to_string(), said);
}

fn load(bytes: &[u8]) -> Loaded {
    let directory = tempdir().unwrap();
    let file = directory.path().join("policy.toml");
    fs::write(&file, bytes).unwrap();
    policy::load_files(&[file])
}
