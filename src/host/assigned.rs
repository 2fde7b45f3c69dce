//! Who sets a variable after PAM has: `pam_env(8)` further down the stack, and the startup files of shells.
//!
//! A script is not run, only read: what is found is an assignment that stands there, as in `bash(1)` and `zsh(1)`.
//! Cargo's own configuration is not looked at: of `CARGO_TARGET_DIR` and `CARGO_BUILD_BUILD_DIR`, cargo takes the
//! variable before `build.target-dir`, `build.build-dir` and `[env]`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::directory;
use super::pam::{Module, Stack};

/// What every login shell, or every interactive one, reads.
const SHELLS: [&str; 6] = [
    "etc/profile",
    "etc/bash.bashrc",
    "etc/zsh/zshenv",
    "etc/zsh/zprofile",
    "etc/zsh/zshrc",
    "etc/zsh/zlogin",
];
/// Those of its files that Debian's `/etc/profile` reads end in `.sh`.
const PROFILES: &str = "etc/profile.d";
/// The same in a home directory.
pub const OWN: [&str; 8] =
    [".profile", ".bash_profile", ".bash_login", ".bashrc", ".zshenv", ".zprofile", ".zshrc", ".zlogin"];
/// How much of a file is read, in bytes.
const MOST: u64 = 256 << 10;
const OURS: &str = "pam_fairslice.so";
const PAM_ENV: &str = "pam_env.so";

/// A place where a variable is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Absolute, as on a live system.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// What it is set to, as it stands there without quotes; `None` where it is unset.
    pub value: Option<String>,
    /// Whether a shell reads it, and not `pam_env(8)`.
    pub by_shell: bool,
}

/// Where the machine's own files set a variable for everybody after our line of PAM's. What cannot be read is left
/// out.
#[must_use]
pub fn for_everybody(root: &Path, stacks: &[Stack], variable: &str) -> Vec<Assigned> {
    let mut found: Vec<Assigned> = Vec::new();
    let mut add = |file: &str, by_shell, lines: Vec<(usize, Option<String>)>| {
        for (line, value) in lines {
            let assigned = Assigned { file: Path::new("/").join(file), line, value, by_shell };
            if !found.contains(&assigned) {
                found.push(assigned);
            }
        }
    };
    for module in stacks.iter().flat_map(after_ours).filter(|module| module.name == PAM_ENV) {
        let argument = |key: &str| module.arguments.iter().rev().find_map(|given| given.strip_prefix(key));
        let below = |path: &str| path.trim_start_matches('/').to_owned();
        let conf = below(argument("conffile=").unwrap_or("/etc/security/pam_env.conf"));
        add(&conf, false, in_pam_env_conf(&text(root, &conf), variable));
        if argument("readenv=") != Some("0") {
            let file = below(argument("envfile=").unwrap_or("/etc/environment"));
            add(&file, false, in_environment(&text(root, &file), variable));
        }
    }
    let profiles = directory::names(&root.join(PROFILES)).unwrap_or_default();
    let profiles =
        profiles.iter().filter(|name| name.ends_with(".sh")).map(|name| format!("{PROFILES}/{name}"));
    for file in SHELLS.map(str::to_owned).into_iter().chain(profiles) {
        add(&file, true, in_shell(&text(root, &file), variable));
    }
    found
}

/// The session modules that run after ours.
fn after_ours(stack: &Stack) -> &[Module] {
    let ours = stack.modules.iter().position(|module| module.name == OURS);
    ours.and_then(|ours| stack.modules.get(ours + 1..)).unwrap_or_default()
}

fn text(root: &Path, file: &str) -> String {
    File::open(root.join(file)).and_then(read).unwrap_or_default()
}

/// The beginning of a file. What is not UTF-8 in it is replaced.
///
/// # Errors
/// It is no regular file, or cannot be read.
pub fn read(file: File) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let chunks = bytes.utf8_chunks();
    Ok(chunks
        .flat_map(|chunk| [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "\u{fffd}" }])
        .collect())
}

/// `NAME=VALUE`, with or without `export`: `environment(5)` as `pam_env(8)` reads it.
fn in_environment(text: &str, variable: &str) -> Vec<(usize, Option<String>)> {
    let value = |line: &str| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let value = line.strip_prefix(variable)?.strip_prefix('=')?;
        let value = value.split('#').next().unwrap_or_default().trim();
        // An empty one is taken out of the environment.
        Some(Some(unquoted(value)).filter(|value| !value.is_empty()))
    };
    text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, value(line)?))).collect()
}

/// `NAME DEFAULT=VALUE OVERRIDE=VALUE`: `pam_env.conf(5)`.
fn in_pam_env_conf(text: &str, variable: &str) -> Vec<(usize, Option<String>)> {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|name| *name == variable)?;
        let words: Vec<&str> = words.take_while(|word| !word.starts_with('#')).collect();
        let of = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
        let value = of("OVERRIDE=").or(of("DEFAULT=")).map(unquoted);
        Some(value.filter(|value| !value.is_empty()))
    };
    let found = text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, value(line)?)));
    found.filter(|(_, value)| value.as_ref().is_none_or(|value| !keeps(value, variable))).collect()
}

/// Assignments in a script that do not keep what the variable has.
///
/// Left out is what stands in front of a command, and so is for that alone, and what is done only where the variable
/// has no value.
#[must_use]
pub fn in_shell(text: &str, variable: &str) -> Vec<(usize, Option<String>)> {
    let mut found = Vec::new();
    let mut unless_set = false;
    for (index, line) in text.lines().enumerate() {
        let statements = statements(line);
        let begins_with =
            |word: &str| statements.iter().any(|words| words.first().is_some_and(|first| first == word));
        if unless_set {
            unless_set = !begins_with("fi") && !begins_with("else");
        } else if asks(line, variable) {
            unless_set = begins_with("if") && !begins_with("fi");
        } else {
            let values = statements.iter().filter_map(|words| assigned(words, variable));
            found.extend(values.map(|value| (index + 1, value)));
        }
    }
    found
}

/// Whether a line asks if the variable has a value.
fn asks(line: &str, variable: &str) -> bool {
    let names = line.contains(&format!("${variable}")) || line.contains(&format!("${{{variable}"));
    names && (line.contains("-z ") || line.contains("-n "))
}

/// What a statement sets the variable to, or `None` in it where it is unset.
#[allow(clippy::option_option, reason = "no assignment, one, and none any more")]
fn assigned(words: &[String], variable: &str) -> Option<Option<String>> {
    const BEFORE: [&str; 8] = ["then", "do", "else", "{", "if", "elif", "while", "!"];
    const DECLARES: [&str; 4] = ["export", "declare", "typeset", "readonly"];
    let words = words.iter().map(String::as_str).skip_while(|word| BEFORE.contains(word));
    let mut words = words.peekable();
    if words.next_if_eq(&"unset").is_some() {
        return words.any(|word| word == variable).then_some(None);
    }
    let declares = words.next_if(|word| DECLARES.contains(word)).is_some();
    let mut value = None;
    for word in words {
        match word.split_once('=') {
            Some((name, given)) if name == variable => value = Some(given),
            Some((name, _)) if is_name(name) => {}
            _ if declares => {}
            // A command, and what is set is for it alone.
            _ => return None,
        }
    }
    let value = value.map(unquoted).filter(|value| !keeps(value, variable))?;
    Some(Some(value))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a value begins with what the variable has, as `${NAME:-/elsewhere}` does.
fn keeps(value: &str, variable: &str) -> bool {
    if let Some(rest) = value.strip_prefix("${").and_then(|rest| rest.strip_prefix(variable)) {
        return !rest.trim_start_matches(':').starts_with('+')
            && !rest.starts_with(|c: char| is_name(&c.to_string()));
    }
    let rest = value.strip_prefix('$').and_then(|rest| rest.strip_prefix(variable));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| is_name(&c.to_string())))
}

fn unquoted(value: &str) -> String {
    value.replace(['"', '\''], "")
}

/// The simple commands of a line, each as its words, quotes and all.
fn statements(line: &str) -> Vec<Vec<String>> {
    let mut statements = vec![Vec::new()];
    let mut word = String::new();
    let (mut quote, mut depth) = (None, 0_usize);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let ends_statement = matches!(c, ';' | '&' | '|' | '(' | ')');
        match (quote, c) {
            (_, '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            // ${…} and $(…)
            (None, '{' | '(') if depth > 0 || word.ends_with('$') => depth += 1,
            (None, '}' | ')') if depth > 0 => depth -= 1,
            (None, _) if depth > 0 => {}
            (None, '#') if word.is_empty() => break,
            (None, c) if c.is_whitespace() || ends_statement => {
                if !word.is_empty() {
                    statements.last_mut().into_iter().for_each(|words| words.push(std::mem::take(&mut word)));
                }
                if ends_statement {
                    statements.push(Vec::new());
                }
                continue;
            }
            (Some(_) | None, _) => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        statements.last_mut().into_iter().for_each(|words| words.push(std::mem::take(&mut word)));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;
    use crate::host::pam;
    use crate::text::shown;

    fn set(script: &str) -> Vec<String> {
        let found = in_shell(script, "CARGO_TARGET_DIR");
        found.into_iter().map(|(line, value)| format!("{line} {}", value.as_deref().unwrap_or("-"))).collect()
    }

    #[test]
    fn what_a_script_sets() {
        for (script, value) in [
            ("export CARGO_TARGET_DIR=/x", "1 /x"),
            ("# ours\nCARGO_TARGET_DIR=\"/srv/$USER\" # here\nexport CARGO_TARGET_DIR", "2 /srv/$USER"),
            ("  declare -x A=1 CARGO_TARGET_DIR='/x y'", "1 /x y"),
            ("cd /tmp; export CARGO_TARGET_DIR=/x && true", "1 /x"),
            ("if [ -d /srv ]; then CARGO_TARGET_DIR=/x; fi", "1 /x"),
            ("[ -d /srv ] && export CARGO_TARGET_DIR=$(id -un)/x", "1 $(id -un)/x"),
            ("A=b CARGO_TARGET_DIR=/x", "1 /x"),
            ("export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:+/x}", "1 ${CARGO_TARGET_DIR:+/x}"),
            ("export CARGO_TARGET_DIR=${OTHER:-/x}", "1 ${OTHER:-/x}"),
            ("export CARGO_TARGET_DIR=", "1 "),
            ("unset -v FOO CARGO_TARGET_DIR", "1 -"),
            ("if [ -z \"$CARGO_TARGET_DIR\" ]; then\n:\nelse\nCARGO_TARGET_DIR=/x\nfi", "4 /x"),
        ] {
            assert_eq!(set(script), [value], "{script}");
        }
    }

    #[test]
    fn what_keeps_ours_sets_nothing() {
        for script in [
            "export CARGO_TARGET_DIR",
            "export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-/x}",
            "export CARGO_TARGET_DIR=\"${CARGO_TARGET_DIR-/x}\"",
            "CARGO_TARGET_DIR=$CARGO_TARGET_DIR/sub",
            ": \"${CARGO_TARGET_DIR:=/x}\"",
            "#export CARGO_TARGET_DIR=/x",
            "true # CARGO_TARGET_DIR=/x",
            "CARGO_TARGET_DIR=/x cargo build",
            "env CARGO_TARGET_DIR=/x cargo build",
            "alias b='CARGO_TARGET_DIR=/x cargo build'",
            "alias b='cd /y; CARGO_TARGET_DIR=/x cargo build'",
            "export MY_CARGO_TARGET_DIR=/x",
            "export CARGO_TARGET_DIR_OLD=/x",
            "echo \"CARGO_TARGET_DIR=/x\"",
            "[ -z \"$CARGO_TARGET_DIR\" ] && export CARGO_TARGET_DIR=/x",
            "[ -n \"${CARGO_TARGET_DIR-}\" ] || export CARGO_TARGET_DIR=/x",
            "if [ -z \"${CARGO_TARGET_DIR:-}\" ]; then\n  export CARGO_TARGET_DIR=/x\nfi",
            "if [ -z \"$CARGO_TARGET_DIR\" ]; then export CARGO_TARGET_DIR=/x; fi",
            "",
            "'",
            "$(",
        ] {
            assert_eq!(set(script), [""; 0], "{script}");
        }
    }

    #[test]
    fn pam_env_counts_below_our_line() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "etc/pam.d/sshd", "session optional pam_fairslice.so\nsession required pam_env.so\n");
        write(root, "etc/environment", "PATH=/bin\nexport X=\"/env\"\nXX=/no\n");
        write(root, "etc/security/pam_env.conf", "# X DEFAULT=/no\nX DEFAULT=/conf\nX DEFAULT=${X}\n");
        write(root, "etc/default/locale", "X=/locale\n");
        write(root, "etc/profile.d/a.sh", "X=/a\n");
        write(root, "etc/profile.d/b", "X=/no\n");
        let found = || -> Vec<String> {
            let found = for_everybody(root, &pam::stacks(root), "X");
            let shown =
                found.iter().map(|a| format!("{}:{} {:?}", shown(&a.file), a.line, a.value.as_deref()));
            shown.collect()
        };
        let (conf, environment) =
            ("/etc/security/pam_env.conf:2 Some(\"/conf\")", "/etc/environment:2 Some(\"/env\")");
        let profile = "/etc/profile.d/a.sh:1 Some(\"/a\")";
        assert_eq!(found(), [conf, environment, profile]);
        let line = "session optional pam_fairslice.so\nsession required pam_env.so readenv=0\n";
        write(root, "etc/pam.d/sshd", line);
        assert_eq!(found(), [conf, profile]);
        let line = "session optional pam_fairslice.so\nsession required pam_env.so envfile=/etc/default/locale conffile=/none\n";
        write(root, "etc/pam.d/sshd", line);
        assert_eq!(found(), ["/etc/default/locale:1 Some(\"/locale\")", profile]);
        write(root, "etc/pam.d/sshd", "session required pam_env.so\nsession optional pam_fairslice.so\n");
        assert_eq!(found(), [profile]);
    }
}
