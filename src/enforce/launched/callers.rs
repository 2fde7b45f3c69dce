//! Files of units that call the launcher themselves: without the package they would not start (203/EXEC).
#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::commands::is_generated;
use crate::enforce::adopt;
use crate::host::directory::entries;
use crate::host::unit_file::{self, UnitFiles};
use crate::paths;
use crate::text::shown;
use crate::units::Assignment;

/// A line that calls the launcher, as it is written.
#[derive(Debug, PartialEq, Eq)]
pub struct LauncherCall(Assignment);

impl fmt::Display for LauncherCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Assignment { key, value, file, line, .. } = &self.0;
        write!(f, "/{}:{line} ({key}={})", shown(&**file), shown(value).at_most(100))
    }
}

/// Those among the files of one unit, but for fairslice's own.
///
/// # Errors
/// A file cannot be read.
pub fn callers_of(root: &Path, unit: &UnitFiles) -> Result<Vec<LauncherCall>> {
    of_files(root, [&unit.fragment].into_iter().chain(&unit.drop_ins))
}

/// Those among all files of services, also of such as do not exist any more.
///
/// # Errors
/// A directory or a file cannot be read.
pub fn callers(root: &Path) -> Result<Vec<LauncherCall>> {
    let mut files = Vec::new();
    let searched = paths::UNIT_SEARCH_PATH.iter().filter(|name| !paths::GENERATOR_DIRECTORIES.contains(name));
    for directory in searched.map(Path::new) {
        // Where "lib" leads to "usr/lib", the same files are there.
        if directory.starts_with("lib") && root.join("lib").is_symlink() {
            continue;
        }
        for name in entries(&root.join(directory))? {
            let path = directory.join(&name);
            let is = |ending: &str| name.as_encoded_bytes().ends_with(ending.as_bytes());
            if is(".service") && root.join(&path).is_file() {
                files.push(path);
            } else if is("service.d") {
                let drop_ins = entries(&root.join(&path))?;
                let conf = drop_ins.iter().filter(|name| name.as_encoded_bytes().ends_with(b".conf"));
                files.extend(conf.map(|name| path.join(name)).filter(|file| root.join(file).is_file()));
            }
        }
    }
    of_files(root, files.iter())
}

fn of_files<'a>(root: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<LauncherCall>> {
    let mut found = Vec::new();
    for file in files.filter(|file| !is_generated(root, file) && !adopt::is_copy(root, file)) {
        let lines = unit_file::read(root, file)?.into_iter();
        found.extend(lines.filter(|set| set.key.starts_with("Exec") && calls(&set.value)).map(LauncherCall));
    }
    Ok(found)
}

/// Whether the launcher's name stands in a line as a word, or as the end of a path. The package's `prerm` looks in the
/// same way.
fn calls(value: &str) -> bool {
    let name = Path::new(paths::LAUNCHER).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    value.match_indices(name).any(|(at, _)| {
        let before = value.get(..at).and_then(|before| before.chars().next_back());
        let after = value.get(at + name.len()..).and_then(|after| after.chars().next());
        before.is_none_or(|c| "=@:+!|/-\"' \t".contains(c)) && after.is_none_or(|c| "\\\"'; \t".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_calls_the_launcher_by_its_name() {
        for line in [
            "/usr/bin/fairslice-launch -- /bin/a",
            "-@fairslice-launch a",
            "|\"/usr/bin/fairslice-launch\" -- /bin/a",
            "{ path=/usr/bin/fairslice-launch ; argv[]=/usr/bin/fairslice-launch -- /bin/a }",
            "/bin/sh -c 'exec fairslice-launch -- /bin/a'",
            "/usr/bin/env fairslice-launch",
        ] {
            assert!(calls(line), "{line}");
        }
        for line in [
            "/bin/a",
            "/opt/fairslice-launcher x",
            "/bin/cat /etc/zz-fairslice-launch.conf",
            "/opt/my_fairslice-launch",
        ] {
            assert!(!calls(line), "{line}");
        }
    }
}
