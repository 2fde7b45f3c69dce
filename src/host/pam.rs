//! The session stack of a PAM service: which modules run when a session opens, in order.
//!
//! Formats are those of `pam.conf(5)`, and Debian's `@include` in front of them.
#![forbid(unsafe_code)]

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::pam_service::SERVICES;
use crate::text::shown;

/// Where services have their files, the strongest first.
const DIRECTORIES: [&str; 2] = ["etc/pam.d", "usr/lib/pam.d"];
/// What a service without a file gets.
const OTHER: &str = "other";
/// libpam's own limit on files that include one another.
const MOST_LEVELS: usize = 32;

/// What runs when a session of one service opens.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The name of the service.
    pub service: String,
    /// Its file and those that it includes, in the order in which they are read, relative to the root.
    pub files: Vec<PathBuf>,
    /// The modules, in order.
    pub modules: Vec<Module>,
    /// Whether a line of any type names a module that puts a session into the cgroup of its user's job.
    pub adopts: bool,
}

/// What [`Stack::adopts`] says of a stack is by these.
const ADOPTERS: [&str; 1] = ["pam_slurm_adopt.so"];

/// One module of a session stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file, without directories: `pam_systemd.so`.
    pub name: String,
    /// Its file as the line has it: without directories, libpam looks where modules lie.
    pub path: String,
    /// What its answer means for the session: `optional`, `required`, `[success=1 default=ignore]`, …
    pub control: String,
    /// What follows the module's name.
    pub arguments: Vec<String>,
    /// The PAM file that names it, relative to the root.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

/// The stacks of those of [`SERVICES`] that have a file of their own. One that libpam could not read
/// either is left out.
#[must_use]
pub fn stacks(root: &Path) -> Vec<Stack> {
    SERVICES.into_iter().filter_map(|(service, _)| own_stack(root, service)).collect()
}

/// Whether libpam finds the file of a module, which a line names with its directories or without.
#[must_use]
pub fn is_there(root: &Path, module: &str) -> bool {
    let directories = if module.starts_with('/') {
        vec![String::new()]
    } else {
        // Debian's own directory, then that of before multiarch, which Debian's libpam tries too; lib64
        // is other distributions'.
        let multiarch = format!("lib/{ARCH}-linux-gnu");
        let below = [multiarch.as_str(), "lib", "lib64"];
        below.iter().flat_map(|lib| [format!("{lib}/security"), format!("usr/{lib}/security")]).collect()
    };
    let module = module.trim_start_matches('/');
    directories.iter().any(|directory| root.join(directory).join(module).exists())
}

/// The modules that open a session of `service`, in order.
///
/// # Errors
/// The service's file, or one that it includes, is missing or cannot be read.
pub fn session_stack(root: &Path, service: &str) -> Result<Vec<Module>> {
    Ok(stack(root, service)?.modules)
}

/// The same, with all that its files say.
///
/// # Errors
/// The service's file, or one that it includes, is missing or cannot be read.
pub fn stack(root: &Path, service: &str) -> Result<Stack> {
    let (files, modules) = (Vec::new(), Vec::new());
    let mut stack = Stack { service: service.to_owned(), files, modules, adopts: false };
    // The name of a service is the name of a file.
    let file = if service.contains('/') { None } else { find(root, service) };
    let file = file
        .or_else(|| find(root, OTHER))
        .with_context(|| format!("no PAM service \"{}\"", shown(service)))?;
    read(root, &file, 0, &mut stack)?;
    Ok(stack)
}

/// The same of a service that has a file of its own; `None` where it has none, or it cannot be read.
#[must_use]
pub fn own_stack(root: &Path, service: &str) -> Option<Stack> {
    find(root, service)?;
    stack(root, service).ok()
}

fn find(root: &Path, service: &str) -> Option<PathBuf> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(service))
        .find(|file| root.join(file).exists())
}

fn read(root: &Path, file: &Path, level: usize, stack: &mut Stack) -> Result<()> {
    if level > MOST_LEVELS {
        bail!("/{} includes itself", shown(&file));
    }
    let text = fs::read_to_string(root.join(file)).with_context(|| format!("reading /{}", shown(&file)))?;
    stack.files.push(file.to_owned());
    let include = |name: &str, stack: &mut Stack| {
        let included = if name.starts_with('/') {
            PathBuf::from(name.trim_start_matches('/'))
        } else {
            find(root, name)
                .with_context(|| format!("/{} includes {}, which is not there", shown(&file), shown(name)))?
        };
        read(root, &included, level + 1, stack)
    };
    for (line, text) in logical_lines(&text) {
        let mut words = words(&text).into_iter();
        let kind = words.next().unwrap_or_default();
        // A dash in front: the module may be missing.
        let is_session = kind.trim_start_matches('-').eq_ignore_ascii_case("session");
        match (kind.as_str(), words.next(), words.next()) {
            ("@include", Some(name), _) => include(&name, stack)?,
            (_, _, Some(path)) if ADOPTERS.contains(&file_name(&path)) => stack.adopts = true,
            (_, Some(control), Some(path)) if is_session => match control.as_str() {
                "include" | "substack" => include(&path, stack)?,
                _ => stack.modules.push(Module {
                    name: file_name(&path).to_owned(),
                    path,
                    control,
                    arguments: words.collect(),
                    file: file.to_owned(),
                    line,
                }),
            },
            _ => {}
        }
    }
    Ok(())
}

fn file_name(module: &str) -> &str {
    module.rsplit('/').next().unwrap_or_default()
}

/// Lines without comments, each with the number of its first; one that ends in a backslash goes on.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(line, _)| line);
        let (line, next) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, begun)) => begun.push_str(line),
            None => lines.push((index + 1, line.to_owned())),
        }
        goes_on = next;
    }
    lines
}

/// Words of a line; what stands in brackets is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut bracket = false;
    for c in line.chars() {
        bracket = (bracket || c == '[') && c != ']';
        if c.is_whitespace() && !bracket {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    fn modules(files: &[(&str, &str)], service: &str) -> Result<Vec<String>> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(root.path(), name, text);
        }
        let stack = session_stack(root.path(), service)?;
        Ok(stack.into_iter().map(|m| format!("{} {}:{}", m.name, shown(&m.file), m.line)).collect())
    }

    #[test]
    fn a_stack_is_read_as_libpam_reads_it() {
        let files = [
            (
                "etc/pam.d/sshd",
                "# sshd\n@include common-auth\nSESSION [success=ok ignore=ignore \\\n default=bad] /lib/security/pam_a.so # x\n@include common-session\nsession substack tail\n",
            ),
            ("etc/pam.d/common-auth", "auth required pam_unix.so\n"),
            (
                "etc/pam.d/common-session",
                "-session optional pam_systemd.so kill=1\n\tsession\toptional pam_fairslice.so\n",
            ),
            ("usr/lib/pam.d/tail", "session required pam_tail.so\naccount required pam_b.so\n"),
            ("etc/pam.d/other", "session required pam_deny.so\n"),
        ];
        assert_eq!(
            modules(&files, "sshd").unwrap(),
            [
                "pam_a.so etc/pam.d/sshd:3",
                "pam_systemd.so etc/pam.d/common-session:1",
                "pam_fairslice.so etc/pam.d/common-session:2",
                "pam_tail.so usr/lib/pam.d/tail:1",
            ]
        );
        assert_eq!(modules(&files, "unheard-of").unwrap(), ["pam_deny.so etc/pam.d/other:1"]);
        assert_eq!(modules(&files, "../pam.d/sshd").unwrap(), ["pam_deny.so etc/pam.d/other:1"]);
    }

    #[test]
    fn a_broken_stack_is_said() {
        let loops = [("etc/pam.d/a", "@include a\n")];
        assert!(modules(&loops, "a").unwrap_err().to_string().contains("includes itself"));
        let missing = [("etc/pam.d/a", "session include b\n")];
        assert!(modules(&missing, "a").unwrap_err().to_string().contains("includes b, which is not there"));
        assert!(modules(&[], "a").unwrap_err().to_string().contains("no PAM service"));
    }
}
