//! What stands between a unit and the launcher: settings with which a command would not run, or not
//! as it does without, when the launcher is executed first. `systemd.exec(5)`.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::paths;
use crate::text::shown;
use crate::units::exec_line::words;
use crate::units::file::{Assignment, in_force};

/// Each is for the one program that systemd executes, which would be the launcher.
const LABELS: [&str; 3] = ["AppArmorProfile", "SELinuxContext", "SmackProcessLabel"];
/// Each brings a file system of its own.
const IMAGES: [&str; 2] = ["RootImage", "RootMStack"];
/// The two bind alike, and an empty one of either undoes both.
const BINDS: [&str; 2] = ["BindPaths", "BindReadOnlyPaths"];
/// Each hides what is below its paths; the last two names are one setting.
const HIDES: [&[&str]; 3] =
    [&["TemporaryFileSystem"], &["MountImages"], &["InaccessiblePaths", "InaccessibleDirectories"]];
/// `DEFAULT_PATH_COMPAT` of systemd's `path-util.h`: where it looks for a command without a path.
const COMMAND_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// # Errors
/// Says which setting is in the way of the launcher, and what to do.
pub(super) fn none(root: &Path, assignments: &[Assignment]) -> Result<()> {
    for key in IMAGES {
        if let Some(image) = last(assignments, key) {
            bail!("{}: its image has no launcher: put fairslice-launch into the unit itself", line_of(image));
        }
    }
    for key in LABELS {
        if let Some(label) = last(assignments, key) {
            bail!(
                "{}: would be for the launcher instead of the command: leave this unit out",
                line_of(label)
            );
        }
    }
    is_seen(root, assignments)?;
    is_executable(assignments)
}

/// The root directory that the commands have, as the unit gives it.
fn root_directory(assignments: &[Assignment]) -> Option<&Assignment> {
    last(assignments, "RootDirectory").filter(|directory| directory.value != "/")
}

/// Where the command `name` lies, as systemd would look for it.
pub(super) fn find_command(root: &Path, assignments: &[Assignment], name: &str) -> Option<String> {
    let below = root_directory(assignments).map_or_else(|| root.to_owned(), |d| at(root, &d.value));
    let own: Vec<&str> = in_force(assignments, "Service", &["ExecSearchPath"])
        .into_iter()
        .flat_map(|path| path.value.split(':'))
        .collect();
    let directories = if own.is_empty() { COMMAND_PATH.split(':').collect() } else { own };
    let executable = |path: &String| {
        let file = fs::metadata(at(&below, path));
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let absolute = directories.into_iter().filter(|directory| directory.starts_with('/'));
    absolute.map(|directory| format!("{}/{name}", directory.trim_end_matches('/'))).find(executable)
}

/// Whether the launcher is where the commands are executed.
fn is_seen(root: &Path, assignments: &[Assignment]) -> Result<()> {
    let hides = HIDES.iter().flat_map(|keys| in_force(assignments, "Service", keys));
    let hides = hides.filter_map(|hide| Some((deepest(hide, destination)?, hide, None)));
    let binds = in_force(assignments, "Service", &BINDS).into_iter();
    let binds = binds.filter_map(|bind| Some((deepest(bind, destination)?, bind, source(bind))));
    // What is mounted further down is mounted over the rest.
    match binds.chain(hides).max_by_key(|(depth, ..)| *depth) {
        Some((_, _, Some(bound))) if at(root, &bound).exists() => return Ok(()),
        Some((_, mount, _)) => bail!(
            "{}: hides /{launcher}: add BindReadOnlyPaths=/{launcher} to the unit",
            line_of(mount),
            launcher = paths::LAUNCHER
        ),
        None => {}
    }
    match root_directory(assignments) {
        Some(directory) if directory.value.contains('%') => {
            bail!(
                "{}: which directory that is cannot be told here: put fairslice-launch into the unit itself",
                line_of(directory)
            )
        }
        Some(directory) if !at(root, &directory.value).join(paths::LAUNCHER).exists() => bail!(
            "{}: there is no /{launcher} in it: add BindReadOnlyPaths=/{launcher} /run/systemd to the unit",
            line_of(directory),
            launcher = paths::LAUNCHER
        ),
        None if !root.join(paths::LAUNCHER).exists() => {
            bail!("/{} is not there: install the whole package", paths::LAUNCHER)
        }
        _ => Ok(()),
    }
}

/// Whether the launcher may be executed.
fn is_executable(assignments: &[Assignment]) -> Result<()> {
    let covering = |key| {
        let paths = in_force(assignments, "Service", &[key]).into_iter();
        paths.filter_map(|paths| Some((deepest(paths, plain)?, paths))).max_by_key(|(depth, _)| *depth)
    };
    let Some((forbidden, paths)) = covering("NoExecPaths") else { return Ok(()) };
    if covering("ExecPaths").is_some_and(|(allowed, _)| allowed > forbidden) {
        return Ok(());
    }
    bail!(
        "{}: the launcher could not be executed: add ExecPaths=/{} to the unit",
        line_of(paths),
        paths::LAUNCHER
    )
}

/// The value that holds, of a setting with one value.
fn last<'a>(assignments: &'a [Assignment], key: &str) -> Option<&'a Assignment> {
    in_force(assignments, "Service", &[key]).pop()
}

/// How deep down the nearest of a list's paths is that the launcher lies at or below.
fn deepest(list: &Assignment, path: impl Fn(&str) -> &str) -> Option<usize> {
    let words = words(&list.value).unwrap_or_default();
    let launcher = paths::absolute(paths::LAUNCHER);
    let depths = words.iter().filter_map(|word| {
        let path = Path::new(path(word));
        launcher.starts_with(path).then(|| path.components().count())
    });
    depths.max()
}

/// A path without its prefixes: `-` where it need not exist, `+` below `RootDirectory=`.
fn plain(word: &str) -> &str {
    let word = word.strip_prefix('-').unwrap_or(word);
    word.strip_prefix('+').unwrap_or(word)
}

/// Of `PATH[:OPTIONS]` and `SOURCE:DESTINATION[:OPTIONS]`, where it is mounted.
fn destination(word: &str) -> &str {
    let mut fields = plain(word).split(':');
    let first = fields.next().unwrap_or_default();
    fields.next().filter(|second| second.starts_with('/')).unwrap_or(first)
}

/// The launcher as a bind mount over it shows it.
fn source(bind: &Assignment) -> Option<String> {
    let depth = deepest(bind, destination)?;
    let words = words(&bind.value).ok()?;
    let word = words.iter().find(|word| Path::new(destination(word)).components().count() == depth)?;
    let launcher = paths::absolute(paths::LAUNCHER);
    let below = launcher.strip_prefix(destination(word)).ok()?;
    let source = plain(word).split(':').next()?;
    Some(Path::new(source).join(below).to_str()?.trim_end_matches('/').to_owned())
}

/// An absolute path below the root.
fn at(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn line_of(assignment: &Assignment) -> String {
    let Assignment { key, value, file, line, .. } = assignment;
    format!("{key}={value} (/{}:{line})", shown(&**file))
}
