//! Every parser of a text that the kernel, systemd or an administrator has written, by the name of its
//! directory in `fuzz/corpus`. What holds for any text at all is asserted here.

use std::path::Path;

use fairslice::host::pressure::Stalls;
use fairslice::host::{cgroup, load, machine, oom, process, processes, tree, unit_file, units, usage, v1};

/// Takes any text without a panic.
pub type Parser = fn(&str);

/// By name.
pub const PARSERS: &[(&str, Parser)] = &[
    ("controllers", |text| {
        let _ = tree::Controllers::parse(text);
    }),
    ("cpu_max", |text| {
        if let Some(bandwidth) = tree::Bandwidth::parse(text) {
            assert!(bandwidth.period > 0);
        }
    }),
    ("cpus", |text| {
        let _ = tree::count_cpus(text);
    }),
    ("flat_keyed", |text| {
        assert!(load::pairs(text).iter().all(|(key, _)| !key.contains([' ', '\n'])));
    }),
    ("meminfo", |text| {
        let _ = machine::amount(text, "MemTotal");
    }),
    ("mountinfo", |text| {
        let _ = usage::parse_mounts(text.as_bytes());
    }),
    ("mounts", |text| {
        let _ = oom::recursive(text);
        let _ = v1::found(text, text);
    }),
    ("pressure", |text| {
        if let Some(stalls) = Stalls::parse(text) {
            assert!((0.0..=100.0).contains(&stalls.some.avg10));
        }
    }),
    ("proc_cgroup", |text| {
        if let Ok(path) = cgroup::on_cgroup2(text) {
            assert!(!path.is_absolute());
            let _ = (cgroup::unit(&path), cgroup::service(&path), cgroup::user(&path));
        }
    }),
    ("proc_stat", |text| {
        let _ = process::Stat::parse(text);
    }),
    ("proc_status", |text| {
        let _ = (processes::real_user(text), machine::amount(text, "VmRSS"));
    }),
    ("systemctl_show", |text| {
        let parsed = units::Units::parse(text);
        for (name, unit) in parsed.iter() {
            assert!(!name.is_empty());
            let _ = (unit.number("CPUWeight"), unit.cgroup(), unit.files().count());
        }
    }),
    ("unit_file", |text| {
        let lines = text.lines().count();
        let assignments = unit_file::parse(text, Path::new("a.service"));
        assert!(assignments.iter().all(|a| (1..=lines).contains(&a.line) && !a.key.contains('\n')));
    }),
];

/// The parser of this name.
pub fn named(name: &str) -> Option<Parser> {
    PARSERS.iter().find(|(known, _)| *known == name).map(|(_, parser)| *parser)
}
