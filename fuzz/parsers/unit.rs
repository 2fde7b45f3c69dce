//! What stands in unit files, and what is written into them.

use std::path::{Component, Path};

use fairslice::policy::ServicePattern;
use fairslice::units::exec_line::{Command, words, wrap};
use fairslice::units::{ServiceName, SliceName, cgroup_name, file};

use super::assert_can_be_shown;

const LAUNCHER: &str = "/usr/bin/fairslice-launch";

/// A unit file.
pub(super) fn unit_file(text: &str) {
    let lines = text.lines().count();
    let assignments = file::parse(text, Path::new("a.service"));
    assert!(assignments.iter().all(|a| (1..=lines).contains(&a.line) && !a.key.contains('\n')));
}

/// `ExecStart=`: with the launcher in front, the command is the same, and has the launcher.
pub(super) fn exec_line(line: &str) {
    let line = line.trim_matches(file::WHITESPACE);
    let nowhere = |_: &str| None;
    let Ok(commands) = wrap(line, nowhere) else { return };
    for command in &commands {
        let again = wrap(command.text(), nowhere).unwrap();
        assert_eq!(again, [Command::Launched(command.text().to_owned())]);
    }
    // Where a command ends depends on how its ";" is written.
    let [Command::Wrapped { text, .. }] = commands.as_slice() else { return };
    if line.contains(';') {
        return;
    }
    let (before, after) = (words(line).unwrap(), words(text).unwrap());
    let prefixes: String = before[0].chars().take_while(|c| "-@:+!|".contains(*c)).collect();
    // An argv[0] may be "--", too.
    let at = if after[1] == "--argv0" { 3 } else { 1 };
    assert_eq!(after[at], "--");
    let shell = prefixes.contains('|');
    let named = prefixes.contains('@') && !shell;
    assert_eq!(
        after[0],
        format!("{}{LAUNCHER}", if shell { prefixes.clone() } else { prefixes.replace('@', "") })
    );
    // The path, in which a "$" was a "$", and the arguments.
    let path = before[0].strip_prefix(&prefixes).unwrap();
    let expands = !prefixes.contains(':') && !shell;
    let given = if expands { after[at + 1].replace("$$", "$") } else { after[at + 1].clone() };
    assert_eq!(given.replace("$$", "$"), path.replace("$$", "$"));
    assert_eq!(after[at + 2..], before[if named { 2 } else { 1 }..]);
    match &after[1..at] {
        [] => {}
        [option, name] => {
            assert_eq!(option, "--argv0");
            assert_eq!(name, if named { &before[1] } else { path });
        }
        other => panic!("{other:?}"),
    }
}

/// Names of services and slices: a name is one, whoever spelled it, and never a path.
pub(super) fn names(name: &str) {
    let is_a_name = |name: &str| {
        assert!(!name.is_empty() && name.len() + ".d".len() <= 255, "{name:?}");
        assert!(Path::new(name).components().eq([Component::Normal(name.as_ref())]), "{name:?}");
        assert_can_be_shown(name);
    };
    if let Ok(slice) = SliceName::new(name) {
        is_a_name(slice.as_str());
        slice.drop_in_units().iter().for_each(|unit| is_a_name(unit));
        assert_eq!(slice.cgroup().file_name().unwrap(), &*cgroup_name(slice.as_str()));
        let parents = std::iter::successors(slice.parent(), SliceName::parent).count();
        assert_eq!(slice.cgroup().components().count(), parents + 1);
    }
    if let Ok(service) = ServiceName::new(name) {
        is_a_name(service.as_str());
        assert_eq!(ServiceName::new(service.as_str()).as_ref(), Ok(&service));
        assert_eq!(ServiceName::new(service.stem()).as_ref(), Ok(&service));
        service.drop_in_units().iter().for_each(|unit| is_a_name(unit));
        let scope = service.scope(u32::MAX);
        is_a_name(&scope);
        assert!(service.has_scope(&scope) && !scope.contains('@'));
    }
    if let Ok(pattern) = ServicePattern::new(name) {
        is_a_name(&pattern.unit());
        assert!(pattern.overlaps(&pattern));
        assert_eq!(ServicePattern::new(&pattern.to_string()).as_ref(), Ok(&pattern));
    }
}
