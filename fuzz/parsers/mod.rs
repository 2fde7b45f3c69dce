//! Every parser of a text that somebody else has written, by the name of its directory in `fuzz/corpus`. What
//! holds for any text at all is asserted here.

mod machine;
mod policy;
mod unit;

use std::path::Path;

use fairslice::host::cpu_set::CpuSet;
use fairslice::host::pressure::Stalls;
use fairslice::host::{cgroup, machine as memory, mount, oom, process, processes, tree, units, usage, v1};
use fairslice::text::shown;

/// What takes anything without a panic.
#[derive(Clone, Copy)]
pub enum Parser {
    /// Any text.
    Text(fn(&str)),
    /// Any bytes.
    Bytes(fn(&[u8])),
}

use Parser::{Bytes, Text};

impl Parser {
    /// Of bytes that are no text, the text at their beginning.
    pub fn parse(self, bytes: &[u8]) {
        match self {
            Text(parse) => parse(bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())),
            Bytes(parse) => parse(bytes),
        }
    }
}

/// By name.
pub const PARSERS: &[(&str, Parser)] = &[
    ("amounts", Text(policy::amounts)),
    ("compiled", Bytes(policy::compiled)),
    (
        "controllers",
        Text(|text| {
            let _ = tree::Controllers::parse(text);
        }),
    ),
    (
        "cpu_max",
        Text(|text| {
            if let Some(max) = tree::CpuMax::parse(text) {
                assert!(max.period > 0);
            }
        }),
    ),
    (
        "cpus",
        Text(|text| {
            if let Some(cpus) = CpuSet::parse(text) {
                assert_eq!(CpuSet::parse(&cpus.to_string()), Some(cpus));
            }
        }),
    ),
    ("dbus", Bytes(machine::dbus)),
    ("drill", Bytes(machine::drill)),
    ("exec_line", Text(unit::exec_line)),
    (
        "flat_keyed",
        Text(|text| assert!(usage::pairs(text).iter().all(|(key, _)| !key.contains([' ', '\n'])))),
    ),
    ("fleet", Bytes(machine::fleet)),
    (
        "meminfo",
        Text(|text| {
            let _ = memory::amount(text, "MemTotal");
        }),
    ),
    (
        "mountinfo",
        Bytes(|text| {
            let _ = mount::parse(text);
        }),
    ),
    (
        "mounts",
        Text(|text| {
            let _ = oom::recursive(text);
            let _ = v1::found(text, text);
        }),
    ),
    ("names", Text(unit::names)),
    ("pam", Bytes(machine::pam)),
    ("policy", Bytes(policy::policy)),
    (
        "pressure",
        Text(|text| {
            if let Some(stalls) = Stalls::parse(text) {
                assert!((0.0..=100.0).contains(&stalls.some.avg10));
            }
        }),
    ),
    ("proc_cgroup", Bytes(machine::proc_cgroup)),
    (
        "proc_stat",
        Bytes(|text| {
            let _ = process::Stat::parse(text);
        }),
    ),
    (
        "proc_status",
        Text(|text| {
            let _ = (processes::real_user(text), memory::amount(text, "VmRSS"));
        }),
    ),
    ("shown", Bytes(text)),
    ("sshd", Text(machine::sshd)),
    (
        "systemctl_show",
        Text(|text| {
            let parsed = units::Units::parse(text);
            for (name, unit) in parsed.iter() {
                assert!(!name.is_empty());
                let _ = (unit.number("CPUWeight"), unit.cgroup(), unit.files().count());
            }
        }),
    ),
    ("shell", Text(machine::shell)),
    ("template", Text(policy::template)),
    ("unit_file", Text(unit::unit_file)),
];

/// The parser of this name.
pub fn named(name: &str) -> Option<Parser> {
    PARSERS.iter().find(|(known, _)| *known == name).map(|(_, parser)| *parser)
}

/// Whether a terminal and a viewer show this as it is.
fn assert_can_be_shown(text: &str) {
    assert_eq!(shown(text).to_string(), text);
}

/// What is shown of any bytes.
fn text(bytes: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let text = std::ffi::OsStr::from_bytes(bytes);
    let all = shown(text).to_string();
    assert!(!all.contains(char::is_control), "{all:?}");
    assert_can_be_shown(&all);
    for longest in [0, 1, 7, 40, bytes.len()] {
        let cut = shown(text).at_most(longest).to_string();
        match cut.strip_suffix('…') {
            Some(start) if !all.starts_with(&cut) => assert!(all.starts_with(start), "{cut:?}"),
            _ => assert!(all.starts_with(&cut), "{cut:?}"),
        }
        // The longest escape is "\u{e0000}".
        assert!(cut.chars().count() <= 9 * longest + 1, "{cut:?}");
        assert_can_be_shown(&cut);
    }
}

/// Where a process is, as far as its path can be told.
fn assert_is_a_place(path: &Path) {
    assert!(!path.is_absolute());
    let _ =
        (cgroup::unit(path), cgroup::service(path), cgroup::user(path), cgroup::is_in_a_users_slice(path));
}
