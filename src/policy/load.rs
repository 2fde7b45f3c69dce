//! Finding, reading and merging the policy files.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;

use super::diagnostic::Diagnostic;
use super::{Policy, check, read};
use crate::bounded::read_bounded;
use crate::trust::{self, Refusal};
use crate::{memory, paths};

/// How often its size reading a file takes of memory. Measured: 55 times with a file that is right, up to
/// 125 times with one that is nothing but errors.
const PER_BYTE: usize = 256;

/// The remedy where there is no policy.
const DEFAULT_POLICY: &str = "(the package's own policy is /usr/share/fairslice/policy.toml)";

/// One policy file as it was read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it was found, as messages show it.
    pub path: Arc<Path>,
    /// Its text.
    pub text: String,
}

/// Which policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InForce {
    /// The files in `/etc`.
    Current,
    /// The last one that was right: the main file in `/etc` is missing or broken.
    LastGood,
    /// None: the main file is missing or broken, and there was none before it.
    Nothing,
}

impl InForce {
    /// Says which policy is in force, where it is not the one in `/etc`.
    #[must_use]
    pub fn note(self) -> Option<String> {
        match self {
            Self::Current => None,
            Self::LastGood => Some(format!("the last good policy stays in force (/{})", paths::LAST_GOOD)),
            Self::Nothing => Some("no policy is in force".to_owned()),
        }
    }
}

/// What loading came to. It never fails: an empty policy is what a machine without one has.
#[derive(Debug)]
pub struct Loaded {
    /// The policy in force.
    pub policy: Policy,
    /// Where it is from.
    pub in_force: InForce,
    /// Everything that is wrong with the files in `/etc`.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the policy was read from.
    pub files: Vec<SourceFile>,
}

impl Loaded {
    /// A policy that declares nothing, and that is right.
    #[must_use]
    pub fn nothing() -> Self {
        let (policy, in_force) = (Policy::default(), InForce::Current);
        Self { policy, in_force, diagnostics: Vec::new(), files: Vec::new() }
    }
}

/// Loads the policy below `root`: the main file, then `policy.d/*.toml` in file-name order.
///
/// A broken file in `policy.d/` is left out, and so is one that contradicts those before it. With
/// a broken main file, the last policy that was right stays in force. A file that somebody else than root
/// can change is a broken one: root acts on it.
#[must_use]
pub fn load(root: &Path) -> Loaded {
    let mut current = load_below(root, Path::new(""));
    if current.in_force == InForce::Current {
        return current;
    }
    if !root.join(paths::LAST_GOOD).join(paths::POLICY).exists() {
        return current;
    }
    match load_below(root, Path::new(paths::LAST_GOOD)) {
        Loaded { in_force: InForce::Current, policy, files, .. } => {
            Loaded { policy, files, in_force: InForce::LastGood, ..current }
        }
        Loaded { mut diagnostics, .. } => {
            current.diagnostics.append(&mut diagnostics);
            current
        }
    }
}

/// Loads these files as one policy, in this order, to validate them.
#[must_use]
pub fn load_files(files: &[PathBuf]) -> Loaded {
    let mut merge = Merge::default();
    for file in files {
        merge.add(open(file).map_err(Refusal::Unreadable), file);
    }
    merge.finish()
}

/// The same policy where this file holds another text, or is not there. Files of `policy.d` come in the order of their
/// names.
#[must_use]
pub fn with(loaded: &Loaded, file: &Path, text: Option<&str>) -> Loaded {
    let mut files: Vec<SourceFile> =
        loaded.files.iter().filter(|known| *known.path != *file).cloned().collect();
    files.extend(text.map(|text| SourceFile { path: Arc::from(file), text: text.to_owned() }));
    let is_main = |file: &SourceFile| *file.path == *paths::absolute(paths::POLICY);
    files.sort_by(|a, b| (!is_main(a), &a.path).cmp(&(!is_main(b), &b.path)));
    let mut merge = Merge::default();
    for file in files {
        merge.add_source(file);
    }
    merge.finish()
}

/// Loads the policy whose files lie in `below`, a directory relative to `root`.
fn load_below(root: &Path, below: &Path) -> Loaded {
    let mut merge = Merge::default();
    let main = below.join(paths::POLICY);
    let main_holds = merge.add_below(root, &main);
    let directory = below.join(paths::POLICY_DIR);
    match fragments(root, &directory) {
        Ok(names) => {
            for name in names {
                merge.add_below(root, &directory.join(name));
            }
        }
        Err(refusal) => merge.diagnostics.push(refused(&Arc::from(paths::absolute(&directory)), refusal)),
    }
    let mut loaded = merge.finish();
    if main_holds && loaded.policy.is_empty() {
        let message =
            format!("declares nothing: no slice, service, login or private directory {DEFAULT_POLICY}");
        loaded.diagnostics.push(Diagnostic::file(&Arc::from(paths::absolute(&main)), message));
    }
    if !main_holds || loaded.policy.is_empty() {
        return Loaded { policy: Policy::default(), in_force: InForce::Nothing, files: Vec::new(), ..loaded };
    }
    loaded
}

/// The names of a directory's `*.toml`, sorted; none where there is no directory.
fn fragments(root: &Path, directory: &Path) -> Result<Vec<OsString>, Refusal> {
    let opened = match trust::open_directory(root, directory) {
        Err(Refusal::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let failed = |errno| Refusal::Unreadable(io::Error::from(errno));
    let mut fragments = Vec::new();
    for entry in Dir::from_fd(opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") && !hidden {
            fragments.push(name.to_owned());
        }
    }
    fragments.sort();
    Ok(fragments)
}

#[derive(Default)]
struct Merge {
    policy: Policy,
    diagnostics: Vec<Diagnostic>,
    files: Vec<SourceFile>,
}

impl Merge {
    /// Adds a file below `root`, if nobody but root can change it, as well.
    fn add_below(&mut self, root: &Path, path: &Path) -> bool {
        self.add(trust::open(root, path), &paths::absolute(path))
    }

    /// Adds a file, if it is right and contradicts none before it.
    fn add(&mut self, opened: Result<File, Refusal>, shown: &Path) -> bool {
        match read_source(opened, shown) {
            Ok(source) => self.add_source(source),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                false
            }
        }
    }

    fn add_source(&mut self, source: SourceFile) -> bool {
        let (policy, mut diagnostics) = read::read(&source);
        let mut merged = self.policy.clone();
        merged.overlay(policy);
        diagnostics.append(&mut check::contradictions(&merged));
        let holds = diagnostics.is_empty();
        self.diagnostics.append(&mut diagnostics);
        if holds {
            self.policy = merged;
            self.files.push(source);
        }
        holds
    }

    fn finish(self) -> Loaded {
        Loaded {
            policy: self.policy,
            in_force: InForce::Current,
            diagnostics: self.diagnostics,
            files: self.files,
        }
    }
}

/// Why a file or directory is not used.
fn refused(path: &Arc<Path>, refusal: Refusal) -> Diagnostic {
    match refusal {
        Refusal::Exposed(exposed) => Diagnostic::exposed(path, exposed),
        Refusal::Unreadable(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let remedy = if missing { format!(" {DEFAULT_POLICY}") } else { String::new() };
            Diagnostic::file(path, format!("cannot be read: {error}{remedy}"))
        }
    }
}

fn read_source(opened: Result<File, Refusal>, shown: &Path) -> Result<SourceFile, Diagnostic> {
    let shared: Arc<Path> = Arc::from(shown);
    let bytes = opened.and_then(|file| {
        let bytes = read_bounded(file).map_err(Refusal::Unreadable)?;
        let room = memory::is_there_for(PER_BYTE * bytes.len());
        if room { Ok(bytes) } else { Err(Refusal::Unreadable(io::ErrorKind::OutOfMemory.into())) }
    });
    let bytes = bytes.map_err(|refusal| refused(&shared, refusal))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count() + 1;
        let byte = error.as_bytes().get(valid).copied().unwrap_or_default();
        Diagnostic::file(&shared, format!("is not UTF-8: byte 0x{byte:02x} in line {line}"))
    })?;
    // What a machine that lost its power leaves of a file; TOML has worse words for it.
    if let Some((before, _)) = text.split_once('\0') {
        let line = before.matches('\n').count() + 1;
        return Err(Diagnostic::file(&shared, format!("holds a NUL byte, in line {line}: it is damaged")));
    }
    Ok(SourceFile { path: shared, text })
}

/// Opens a regular file. `O_NONBLOCK`, because a fifo must not hold up a boot or a login.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}
