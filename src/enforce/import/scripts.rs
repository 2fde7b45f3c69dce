//! Build directories that a script sets for every login: `/etc/profile`, `/etc/profile.d`, `/etc/environment`.
//!
//! A shell can say anything; read is what is written as one assignment, with a test for a directory before it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str;

use anyhow::Result;

use super::entry::{Entry, Line, PolicyTable, Source, Unsayable, Value};
use super::held::called;
use crate::host::account;
use crate::host::directory::entries;
use crate::policy::{PathTemplate, VariableName};
use crate::text::shown;

/// What build tools take for the place of what they make.
const BUILD_DIRECTORIES: [&str; 12] = [
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CCACHE_DIR",
    "GOCACHE",
    "GOMODCACHE",
    "GOTMPDIR",
    "PIP_CACHE_DIR",
    "SCCACHE_DIR",
    "TMPDIR",
    "YARN_CACHE_FOLDER",
    "npm_config_cache",
];
/// What a shell puts in, and what a path of a policy calls it.
const PUT_IN: [(&str, &str); 14] = [
    ("$(id -un)", "{user}"),
    ("$(whoami)", "{user}"),
    ("$(logname)", "{user}"),
    ("`id -un`", "{user}"),
    ("${LOGNAME}", "{user}"),
    ("${USER}", "{user}"),
    ("$LOGNAME", "{user}"),
    ("$USER", "{user}"),
    ("$(id -u)", "{uid}"),
    ("${UID}", "{uid}"),
    ("$UID", "{uid}"),
    ("$(id -gn)", "{group}"),
    ("${HOME}", "{home}"),
    ("$HOME", "{home}"),
];
/// The user's home directory at the start of a word.
const TILDE: &str = "~/";
/// Where such scripts lie.
const ENVIRONMENT: &str = "etc/environment";
const PROFILE: &str = "etc/profile";
const PROFILES: &str = "etc/profile.d";

/// What they set.
#[derive(Default)]
pub(super) struct Scripts {
    pub(super) entries: Vec<Entry>,
    pub(super) left: Vec<Unsayable>,
    /// Those that do nothing else, relative to the root, and which directories they set.
    pub(super) whole: BTreeMap<PathBuf, Vec<VariableName>>,
    pub(super) unread: Vec<String>,
}

/// One assignment.
struct Assigned<'t> {
    variable: VariableName,
    value: &'t str,
    only_if: Option<&'t str>,
}

/// Reads them below `root`.
///
/// # Errors
/// The directory of profile scripts cannot be read.
pub(super) fn read(root: &Path) -> Result<Scripts> {
    let names = entries(&root.join(PROFILES))?.into_iter();
    let scripts = names.filter(|name| name.as_encoded_bytes().ends_with(b".sh"));
    let files = [ENVIRONMENT, PROFILE].into_iter().map(PathBuf::from);
    let mut found = Scripts::default();
    // The last one holds.
    let mut by_variable = BTreeMap::new();
    for file in files.chain(scripts.map(|name| Path::new(PROFILES).join(name))) {
        match fs::read(root.join(&file)) {
            Ok(text) => found.script(root, &file, &text, &mut by_variable),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => found.unread.push(format!("reading {}: {error}", called(&file))),
        }
    }
    found.entries = by_variable.into_values().flatten().collect();
    Ok(found)
}

impl Scripts {
    fn script(
        &mut self,
        root: &Path,
        file: &Path,
        text: &[u8],
        by_variable: &mut BTreeMap<VariableName, Vec<Entry>>,
    ) {
        let mut is_whole = true;
        let mut variables = Vec::new();
        let mut depth = 0_usize;
        for (index, bytes) in text.split(|byte| *byte == b'\n').enumerate() {
            let Ok(text) = str::from_utf8(bytes) else {
                is_whole = false;
                continue;
            };
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let first = text.split_whitespace().next().unwrap_or_default();
            let closes = ["fi", "done", "esac", "}"].contains(&first.trim_end_matches(';'));
            let opens = ["if", "for", "while", "until", "case"].contains(&first) || text.ends_with('{');
            if !BUILD_DIRECTORIES.iter().any(|variable| sets(text, variable)) {
                depth = (depth + usize::from(opens)).saturating_sub(usize::from(closes));
                is_whole &= exports(text).is_some_and(|variable| variables.contains(&variable));
                continue;
            }
            let line = Line { file: file.to_owned(), line: index + 1, says: text.to_owned() };
            match assigned(text).filter(|_| depth == 0 && !opens && !closes) {
                Some(assigned) => match directory(root, &assigned, &line, file == Path::new(ENVIRONMENT)) {
                    Ok(entries) => {
                        variables.push(assigned.variable.clone());
                        by_variable.insert(assigned.variable, entries);
                    }
                    Err(why) => self.leave(&mut is_whole, line, &why),
                },
                None => {
                    self.leave(
                        &mut is_whole,
                        line,
                        "more than one assignment: what it comes to is not known",
                    );
                }
            }
        }
        if is_whole && !variables.is_empty() {
            self.whole.insert(file.to_owned(), variables);
        }
    }

    fn leave(&mut self, is_whole: &mut bool, line: Line, why: &str) {
        *is_whole = false;
        self.left.push(Unsayable { unit: "logins".to_owned(), line, why: why.to_owned() });
    }
}

/// Whether a line sets a variable somewhere.
fn sets(text: &str, variable: &str) -> bool {
    let set = format!("{variable}=");
    text.match_indices(&set).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_')
    })
}

/// `export VAR`
fn exports(text: &str) -> Option<VariableName> {
    VariableName::new(text.trim_end_matches(';').strip_prefix("export ")?.trim()).ok()
}

/// `[ -d DIR ] && export VAR=VALUE; export VAR`, with or without each part but `VAR=VALUE`.
fn assigned(text: &str) -> Option<Assigned<'_>> {
    let (only_if, text) = match text.split_once("&&") {
        Some((condition, then)) => (Some(tested(condition.trim())?), then.trim()),
        None => (None, text),
    };
    let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
    let (text, exported) = match text.split_once(';') {
        Some((text, rest)) => (text.trim_end(), Some(rest.trim()).filter(|rest| !rest.is_empty())),
        None => (text, None),
    };
    let (name, value) = text.split_once('=')?;
    let variable = VariableName::new(name).ok()?;
    if exported.is_some_and(|rest| exports(rest).as_ref() != Some(&variable)) {
        return None;
    }
    Some(Assigned { variable, value, only_if })
}

/// The directory that a test is for.
fn tested(test: &str) -> Option<&str> {
    let brackets = [("[ ", " ]"), ("[[ ", " ]]"), ("test ", "")];
    let inside = brackets.iter().find_map(|(open, close)| test.strip_prefix(open)?.strip_suffix(close))?;
    let directory = plain(inside.trim().strip_prefix("-d ")?.trim())?;
    (!directory.contains('$')).then_some(directory)
}

/// A word without its quotes; `None` for several, and for one that is quoted in part.
fn plain(word: &str) -> Option<&str> {
    let inside = word.strip_prefix('"').and_then(|word| word.strip_suffix('"')).unwrap_or(word);
    let is_odd = |c: char| c.is_whitespace() || "\"'\\;&|<>*?".contains(c);
    (!inside.replace("$(id -", "$(id-").contains(is_odd)).then_some(inside)
}

/// What the policy says of it.
fn directory(
    root: &Path,
    assigned: &Assigned<'_>,
    line: &Line,
    is_literal: bool,
) -> Result<Vec<Entry>, String> {
    let Some(value) = plain(assigned.value) else {
        return Err("more than a plain path: what it comes to is not known".to_owned());
    };
    if value.contains(['{', '}']) && !value.contains("${") {
        return Err("a path with braces, which are places in a policy".to_owned());
    }
    let value = value.trim_end_matches('/');
    let path = if is_literal { Some(value.to_owned()) } else { put_in(value) };
    let path = path.filter(|path| !path.contains(['$', '`'])).ok_or_else(|| {
        "more than the user's name, number and home: what it comes to is not known".to_owned()
    })?;
    let template = PathTemplate::new(&path).map_err(|expected| format!("a policy expects {expected}"))?;
    let entry = |value, source| {
        let table = PolicyTable::PrivateDir(assigned.variable.clone());
        Entry { table, value, spelled: None, source }
    };
    let by_line = || Source::Line(line.clone());
    let mut entries = vec![entry(Value::Text("path", path), by_line())];
    entries
        .extend(assigned.only_if.map(|only_if| entry(Value::Text("only_if", only_if.to_owned()), by_line())));
    let (groups, shared) = groups(root, &template);
    if !groups.is_empty() {
        let why = format!("its members can write to {shared}; without this line logins refuse it");
        entries.push(entry(Value::Names("trusted_groups", groups), Source::Today(why)));
    }
    Ok(entries)
}

/// A value with a policy's names for what differs from user to user; `None` where a shell would put in anything else.
fn put_in(value: &str) -> Option<String> {
    let (mut path, mut rest) = match value.strip_prefix(TILDE) {
        Some(below) => ("{home}/".to_owned(), below),
        None => (String::new(), value),
    };
    while let Some(at) = rest.find(['$', '`']) {
        let (before, shell) = rest.split_at_checked(at)?;
        let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let (place, after) = PUT_IN.iter().find_map(|(known, place)| {
            let after = shell.strip_prefix(known)?;
            let is_other = goes_on(after) && known.ends_with(|c: char| c.is_ascii_alphanumeric());
            (!is_other).then_some((place, after))
        })?;
        path.push_str(before);
        path.push_str(place);
        rest = after;
    }
    Some(path + rest)
}

/// The groups that can write to a directory above the users' own ones, and one of those directories.
fn groups(root: &Path, template: &PathTemplate) -> (Vec<String>, String) {
    const GROUP_WRITES: u32 = 0o020;
    const STICKY: u32 = 0o1000;
    let mut found = (Vec::new(), String::new());
    if template.in_home() {
        return found;
    }
    let mut path = PathBuf::new();
    for name in template.made().take_while(|name| !name.contains('{')) {
        path.push(name);
        let Ok(directory) = fs::metadata(root.join(&path)) else { break };
        let mode = directory.mode();
        if mode & GROUP_WRITES != 0 && mode & STICKY == 0 && directory.gid() != 0 {
            let group = account::group_name(directory.gid());
            if !found.0.contains(&group) {
                found.0.push(group);
            }
            found.1 = format!("/{}", shown(&path));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::import::entry::tables;
    use crate::fixture::write;

    fn read(files: &[(&str, &str)]) -> (String, Vec<String>, Vec<PathBuf>) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            write(root.path(), file, text);
        }
        let found = super::read(root.path()).unwrap();
        let text: String = tables(&found.entries).0.lines().fold(String::new(), |text, line| {
            let said = line.split("  #").next().unwrap_or_default().trim_end();
            if said.is_empty() { text } else { text + said + "\n" }
        });
        (text, found.left.iter().map(|left| left.line.place()).collect(), found.whole.into_keys().collect())
    }

    #[test]
    fn a_directory_for_each_user_is_found_however_it_is_written() {
        let path = |text: &str| format!("[private_dir.CARGO_TARGET_DIR]\npath = \"{text}\"\n");
        for (line, expected) in [
            ("export CARGO_TARGET_DIR=/srv/t/$USER/", path("/srv/t/{user}")),
            ("CARGO_TARGET_DIR=\"/srv/t/${USER}\"; export CARGO_TARGET_DIR", path("/srv/t/{user}")),
            ("CARGO_TARGET_DIR=/srv/t/$(id -un)\nexport CARGO_TARGET_DIR", path("/srv/t/{user}")),
            ("export CARGO_TARGET_DIR=~/.target", path("{home}/.target")),
            ("export CARGO_TARGET_DIR=/srv/t/$(id -u)-x", path("/srv/t/{uid}-x")),
            (
                "[ -d /srv/t ] && export CARGO_TARGET_DIR=/srv/t/$USER/",
                path("/srv/t/{user}") + "only_if = \"/srv/t\"\n",
            ),
        ] {
            let script = ("etc/profile.d/build.sh", line);
            assert_eq!(read(&[script]), (expected, vec![], vec![PathBuf::from(script.0)]), "{line}");
        }
    }

    #[test]
    fn what_a_shell_makes_of_it_is_not_guessed() {
        for line in [
            "if true; then export CARGO_TARGET_DIR=/srv/t/$USER; fi",
            "if true; then\nexport CARGO_TARGET_DIR=/srv/t/$USER\nfi",
            "test -d /a || export CARGO_TARGET_DIR=/srv/t/$USER",
            "export CARGO_TARGET_DIR=/srv/t/$TEAM/$USER",
            "export CARGO_TARGET_DIR=/srv/t/$USERS/$USER",
            "export CARGO_TARGET_DIR='/srv/t/$USER'",
            "export CARGO_TARGET_DIR=/srv/t",
            "export CARGO_TARGET_DIR=/srv/$USER CC=gcc",
            "export CARGO_TARGET_DIR=/srv/{user}/x",
        ] {
            let (text, left, whole) = read(&[("etc/profile.d/build.sh", line)]);
            assert_eq!((text.as_str(), left.len(), whole.len()), ("", 1, 0), "{line}: {text}{left:?}");
        }
        // Nothing of it is a build directory, or that alone.
        let histfile =
            read(&[("etc/profile.d/a.sh", "export HISTFILE=$HOME/.h\n"), ("etc/profile.d/b.csh", "x")]);
        assert_eq!(histfile, (String::new(), vec![], vec![]));
        let both = read(&[("etc/profile.d/a.sh", "umask 027\nexport GOCACHE=$HOME/.go\n")]);
        assert!(both.0.contains("GOCACHE") && both.2.is_empty(), "{both:?}");
    }

    #[test]
    fn the_last_script_holds() {
        let set = |at: &str| format!("export CCACHE_DIR=/srv/{at}/$USER\n");
        let files = [
            ("etc/environment", "CCACHE_DIR=/srv/e/$USER\n".to_owned()),
            ("etc/profile.d/a.sh", set("a")),
            ("etc/profile.d/b.sh", set("b")),
        ];
        let (text, left, whole) = read(&files.each_ref().map(|(file, text)| (*file, text.as_str())));
        assert_eq!(text, "[private_dir.CCACHE_DIR]\npath = \"/srv/b/{user}\"\n");
        assert_eq!(left, ["/etc/environment:1"], "no shell reads that");
        assert_eq!(whole.len(), 2);
    }
}
