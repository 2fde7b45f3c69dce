//! Unit files: which files a service is made of, and what they set, found and read as systemd does.
//!
//! `systemd.unit(5)` and `systemd.syntax(7)`; where they leave something open, systemd's own
//! `unit-file.c`, `dropin.c`, `conf-files.c` and `conf-parser.c`. The crate `systemd-unit-edit`
//! (0.1.4) would not do: an indented assignment, and a comment inside a continued line, which both
//! stand in real units, are errors to it.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::directory::entries;
use crate::paths;
use crate::policy::{ServiceName, SliceName};
use crate::text::shown;

/// What systemd takes for white space.
pub const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];
/// More links than this, one after the other, are a loop.
const MOST_LINKS: usize = 16;

/// Every service unit below a root, by name.
#[derive(Debug)]
pub struct Units {
    root: PathBuf,
    directories: Vec<&'static str>,
    names: BTreeMap<ServiceName, Entry>,
}

/// What a name on the search path stands for.
#[derive(Debug)]
enum Entry {
    /// A unit file, or a link to one outside the search path.
    File(PathBuf),
    /// Another unit.
    Alias(ServiceName),
}

/// The files of one service. Paths are relative to the root.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The unit's own name, where it was looked up by an alias.
    pub name: ServiceName,
    /// The unit file; for an instance, usually its template's.
    pub fragment: PathBuf,
    /// Whether the unit file is empty or a link to `/dev/null`: the unit cannot be started.
    pub masked: bool,
    /// Drop-ins, in the order in which they are applied.
    pub drop_ins: Vec<PathBuf>,
}

/// One line `KEY=VALUE` of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Without its brackets.
    pub section: String,
    /// What is set.
    pub key: String,
    /// To what; a line that goes on after a backslash is one line.
    pub value: String,
    /// The file, relative to the root.
    pub file: Arc<Path>,
    /// The line that it begins on, counted from 1.
    pub line: usize,
}

impl Units {
    /// Reads the names below `root`.
    ///
    /// # Errors
    /// A directory of the search path cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut units =
            Self { root: root.to_owned(), directories: search_path(root), names: BTreeMap::new() };
        for directory in units.directories.clone() {
            for name in entries(&root.join(directory))? {
                units.add(directory, &name);
            }
        }
        Ok(units)
    }

    /// The first directory that has a name decides what it stands for.
    fn add(&mut self, directory: &str, file_name: &OsString) {
        let Some(name) = file_name.to_str().and_then(service) else { return };
        if self.names.contains_key(&name) {
            return;
        }
        let path = Path::new(directory).join(file_name);
        let Ok(metadata) = fs::symlink_metadata(self.root.join(&path)) else { return };
        if metadata.is_file() {
            self.names.insert(name, Entry::File(path));
        } else if metadata.is_symlink() {
            let alias = self.alias(&path).filter(|alias| *alias != name);
            self.names.insert(name, alias.map_or(Entry::File(path), Entry::Alias));
        }
    }

    /// The unit that a link stands for, if it leads to a place on the search path.
    fn alias(&self, link: &Path) -> Option<ServiceName> {
        let target = link_target(&self.root, link)?;
        let directory = target.parent()?.to_str()?;
        let name = service(target.file_name()?.to_str()?)?;
        paths::UNIT_SEARCH_PATH.contains(&directory).then_some(name)
    }

    /// The names of all units that are no aliases.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.names.iter().filter(|(_, entry)| matches!(entry, Entry::File(_))).map(|(name, _)| name)
    }

    /// The instances of `template` that have a file or a drop-in of their own.
    ///
    /// # Errors
    /// A directory of the search path cannot be read.
    pub fn instances(&self, template: &ServiceName) -> Result<BTreeSet<ServiceName>> {
        let mut found: BTreeSet<_> = self.names().cloned().collect();
        for directory in &self.directories {
            for entry in entries(&self.root.join(directory))? {
                found.extend(entry.to_str().and_then(|name| name.strip_suffix(".d")).and_then(service));
            }
        }
        found.retain(|name| name.template().as_ref() == Some(template));
        Ok(found)
    }

    /// The files of `name`; `None` where there is no such unit.
    ///
    /// # Errors
    /// A directory of drop-ins cannot be read.
    pub fn find(&self, name: &ServiceName) -> Result<Option<Unit>> {
        let Some((name, fragment)) = self.resolve(name) else { return Ok(None) };
        let fragment = fragment.to_owned();
        let masked = is_masked(&self.root, &fragment);
        let drop_ins = self.drop_ins(&name)?;
        Ok(Some(Unit { name, fragment, masked, drop_ins }))
    }

    /// The unit that `name` stands for, and its file.
    fn resolve(&self, name: &ServiceName) -> Option<(ServiceName, &Path)> {
        let mut name = name.clone();
        for _ in 0..MOST_LINKS {
            let entry = self.names.get(&name).or_else(|| self.names.get(&name.template()?))?;
            match entry {
                Entry::File(path) => return Some((name, path)),
                Entry::Alias(target) => name = instance_of(target, &name),
            }
        }
        None
    }

    /// Other names of the unit `name`.
    fn aliases(&self, name: &ServiceName) -> Vec<ServiceName> {
        let aliases = self.names.iter().filter(|(_, entry)| matches!(entry, Entry::Alias(_)));
        aliases
            .map(|(alias, _)| instance_of(alias, name))
            .filter(|alias| alias != name && self.resolve(alias).is_some_and(|(found, _)| found == *name))
            .collect()
    }

    fn drop_ins(&self, name: &ServiceName) -> Result<Vec<PathBuf>> {
        let names: Vec<_> = [name.clone()].into_iter().chain(self.aliases(name)).collect();
        drop_ins(&self.root, drop_in_directories(&self.directories, &names))
    }
}

/// The drop-ins of a slice, in the order in which systemd applies them.
///
/// # Errors
/// A directory of drop-ins cannot be read.
pub fn slice_drop_ins(root: &Path, slice: &SliceName) -> Result<Vec<PathBuf>> {
    let mut units = slice.drop_in_units();
    let every_slice = units.pop();
    let search_path = search_path(root);
    let place = |units: &[String]| -> Vec<PathBuf> {
        let of_path =
            |path: &&str| units.iter().map(|unit| Path::new(path).join(format!("{unit}.d"))).collect();
        search_path.iter().flat_map::<Vec<PathBuf>, _>(of_path).collect()
    };
    drop_ins(root, place(&units).into_iter().chain(place(every_slice.as_slice())))
}

/// The drop-ins in these directories, the strongest of which comes first, in the order in which systemd
/// applies them.
fn drop_ins(root: &Path, directories: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    // Of two files of one name, the one found first counts.
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        for file_name in entries(&root.join(follow(root, &directory)))? {
            let name = file_name.as_encoded_bytes();
            if name.ends_with(b".conf") && !name.starts_with(b".") {
                let file = directory.join(&file_name);
                found.entry(file_name).or_insert(file);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// The directories of drop-ins for a service of these names, the strongest first. Those for every
/// service come after all others, wherever they lie.
pub fn drop_in_directories(
    search_path: &[&'static str],
    names: &[ServiceName],
) -> impl Iterator<Item = PathBuf> {
    let mut every_service = None;
    let mut own = Vec::new();
    for name in names {
        let mut units = name.drop_in_units();
        every_service = units.pop();
        own.push(units);
    }
    own.push(every_service.into_iter().collect());
    own.into_iter().flat_map(move |units| {
        let pairs = search_path.iter().flat_map(|path| units.iter().map(move |unit| (path, unit)));
        pairs.map(|(path, unit)| Path::new(path).join(format!("{unit}.d"))).collect::<Vec<_>>()
    })
}

impl Unit {
    /// What the unit's files set, in the order in which systemd applies it.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn assignments(&self, root: &Path) -> Result<Vec<Assignment>> {
        let mut all = Vec::new();
        for file in [&self.fragment].into_iter().chain(&self.drop_ins) {
            all.extend(read(root, file)?);
        }
        Ok(all)
    }
}

/// The assignments of `keys` that hold, of a setting that collects: an empty one undoes those before
/// it. Of a setting with one value, the last one holds.
#[must_use]
pub fn in_force<'a>(assignments: &'a [Assignment], section: &str, keys: &[&str]) -> Vec<&'a Assignment> {
    let of_key = assignments.iter().filter(|a| a.section == section && keys.contains(&a.key.as_str()));
    of_key.fold(Vec::new(), |mut held, assignment| {
        if assignment.value.is_empty() {
            held.clear();
        } else {
            held.push(assignment);
        }
        held
    })
}

/// The assignments of one file; none where it is a link to `/dev/null`.
///
/// # Errors
/// The file cannot be read.
pub fn read(root: &Path, file: &Path) -> Result<Vec<Assignment>> {
    let followed = follow(root, file);
    if is_null(&followed) {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(root.join(followed));
    let text = text.with_context(|| format!("reading /{}", shown(&file)))?;
    Ok(parse(&text, file))
}

/// The assignments of `file` with this text.
#[must_use]
pub fn parse(text: &str, file: &Path) -> Vec<Assignment> {
    let file: Arc<Path> = Arc::from(file);
    let mut found = Vec::new();
    let mut section = None;
    for (line, text) in logical_lines(text.trim_start_matches('\u{feff}')) {
        let text = text.trim_matches(WHITESPACE);
        if let Some(name) = text.strip_prefix('[') {
            section = name.strip_suffix(']').map(str::to_owned);
        } else if let (Some(section), Some((key, value))) = (&section, text.split_once('=')) {
            found.push(Assignment {
                section: section.clone(),
                key: key.trim_matches(WHITESPACE).to_owned(),
                value: value.trim_matches(WHITESPACE).to_owned(),
                file: Arc::clone(&file),
                line,
            });
        }
    }
    found
}

/// Lines that end in a backslash go on in the next; comments are left out, also between those.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, text) in text.lines().enumerate() {
        if text.trim_start_matches(WHITESPACE).starts_with(['#', ';']) {
            continue;
        }
        let (number, mut line) = open.take().unwrap_or_else(|| (index + 1, String::new()));
        line.push_str(text);
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        if backslashes % 2 == 1 {
            line.pop();
            line.push(' ');
            open = Some((number, line));
        } else {
            lines.push((number, line));
        }
    }
    lines.extend(open);
    lines
}

/// The unit's name that a file name is.
fn service(file_name: &str) -> Option<ServiceName> {
    ServiceName::new(file_name).ok().filter(|name| name.as_str() == file_name)
}

/// The instance of `template` that `like` is of its own template; `template` itself where one of
/// them is none.
fn instance_of(template: &ServiceName, like: &ServiceName) -> ServiceName {
    let instance = like.stem().split_once('@').map(|(_, instance)| instance);
    match (template.stem().strip_suffix('@'), instance) {
        (Some(prefix), Some(instance)) => ServiceName::new(&format!("{prefix}@{instance}")).ok(),
        _ => None,
    }
    .unwrap_or_else(|| template.clone())
}

/// The directories to look in: `lib` is usually `usr/lib`.
fn search_path(root: &Path) -> Vec<&'static str> {
    let all = paths::UNIT_SEARCH_PATH.into_iter();
    let lib_is_linked = fs::symlink_metadata(root.join("lib")).is_ok_and(|lib| lib.is_symlink());
    all.filter(|directory| !(lib_is_linked && directory.starts_with("lib/"))).collect()
}

/// Where a link leads, one step, relative to the root.
fn link_target(root: &Path, link: &Path) -> Option<PathBuf> {
    let target = fs::read_link(root.join(link)).ok()?;
    let mut path = PathBuf::new();
    for component in link.parent()?.join(target).components() {
        match component {
            Component::RootDir => path.clear(),
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

/// Where a link finally leads, below the root even where it is absolute.
fn follow(root: &Path, path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(target) = link_target(root, &path) else { break };
        path = target;
    }
    path
}

fn is_null(path: &Path) -> bool {
    path == Path::new("dev/null")
}

fn is_masked(root: &Path, fragment: &Path) -> bool {
    let followed = follow(root, fragment);
    is_null(&followed)
        || fs::metadata(root.join(followed)).is_ok_and(|file| file.is_file() && file.len() == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    /// Files by path, and links: `-> TARGET`.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            match text.strip_prefix("-> ") {
                Some(target) => symlink(target, file).unwrap(),
                None => fs::write(file, text).unwrap(),
            }
        }
        root
    }

    #[test]
    fn lines_are_systemds() {
        let text = "\u{feff}# c\nA=outside\n[Service] \n  Key = v w \nEmpty=\nno assignment\n\
                    Long=a \\\n# c\n ; c\n  b\\\\\\\n\tc\\\\\nNext=1\n[Broken\nLost=1\n[Unit]\nLast=x \\\n";
        let found: Vec<_> =
            parse(text, Path::new("f")).into_iter().map(|a| (a.section, a.key, a.value, a.line)).collect();
        let expected = [
            ("Service", "Key", "v w", 4),
            ("Service", "Empty", "", 5),
            ("Service", "Long", "a    b\\\\ \tc\\\\", 7),
            ("Service", "Next", "1", 12),
            ("Unit", "Last", "x", 16),
        ];
        let expected = expected.map(|(s, k, v, line)| (s.to_owned(), k.to_owned(), v.to_owned(), line));
        assert_eq!(found, expected);
    }

    #[test]
    fn an_empty_assignment_undoes_those_before_it() {
        let found = parse("[Service]\nA=1\nB=2\nA=\nA=3\nB=4\n[Unit]\nA=5\n", Path::new("f"));
        let values = |keys: &[&str]| -> Vec<_> {
            in_force(&found, "Service", keys).into_iter().map(|a| a.value.as_str()).collect()
        };
        assert_eq!(values(&["A"]), ["3"]);
        assert_eq!(values(&["B"]), ["2", "4"]);
        assert_eq!(values(&["A", "B"]), ["3", "4"]);
    }

    #[test]
    fn the_strongest_file_of_a_name_counts() {
        let root = root(&[
            ("usr/lib/systemd/system/local-a.service", "x"),
            ("run/systemd/system/local-a.service", "x"),
            ("usr/lib/systemd/system/local-a.service.d/20-b.conf", "x"),
            ("usr/lib/systemd/system/local-.service.d/10-a.conf", "x"),
            ("usr/lib/systemd/system/local-a.service.d/10-a.conf", "x"),
            ("etc/systemd/system/service.d/20-b.conf", "x"),
            ("etc/systemd/system/service.d/05-all.conf", "x"),
            ("etc/systemd/system/local-.service.d/30-c.conf", "-> /dev/null"),
            ("usr/lib/systemd/system/local-a.service.d/30-c.conf", "x"),
            ("etc/systemd/system/local-a.service.d/README", "x"),
            ("etc/systemd/system/local-a.service.d/.hidden.conf", "x"),
        ]);
        let unit = Units::read(root.path()).unwrap().find(&name("local-a")).unwrap().unwrap();
        assert_eq!(unit.fragment, Path::new("run/systemd/system/local-a.service"));
        let expected = [
            "etc/systemd/system/service.d/05-all.conf",
            "usr/lib/systemd/system/local-a.service.d/10-a.conf",
            // What is for all services is weaker than what is for this one, wherever it lies.
            "usr/lib/systemd/system/local-a.service.d/20-b.conf",
            "etc/systemd/system/local-.service.d/30-c.conf",
        ];
        assert_eq!(unit.drop_ins, expected.map(PathBuf::from));
        assert!(unit.assignments(root.path()).unwrap().is_empty());
    }

    #[test]
    fn links_are_aliases_masks_or_files_elsewhere() {
        let root = root(&[
            ("usr/lib/systemd/system/a.service", "x"),
            ("usr/lib/systemd/system/w@.service", "x"),
            ("etc/systemd/system/b.service", "-> /usr/lib/systemd/system/a.service"),
            ("etc/systemd/system/c.service", "-> b.service"),
            ("etc/systemd/system/c.service.d/c.conf", "x"),
            ("etc/systemd/system/v@.service", "-> ../../../usr/lib/systemd/system/w@.service"),
            ("etc/systemd/system/main.service", "-> /usr/lib/systemd/system/w@.service"),
            ("etc/systemd/system/loop.service", "-> pool.service"),
            ("etc/systemd/system/pool.service", "-> loop.service"),
            ("etc/systemd/system/masked.service", "-> /dev/null"),
            ("etc/systemd/system/empty.service", ""),
            ("etc/systemd/system/linked.service", "-> /opt/linked.service"),
            ("opt/linked.service", "[Service]\nA=1\n"),
        ]);
        let units = Units::read(root.path()).unwrap();
        let find = |asked: &str| units.find(&name(asked)).unwrap();
        for alias in ["a", "b", "c"] {
            let unit = find(alias).unwrap();
            assert_eq!(unit.name, name("a"), "{alias}");
            assert_eq!(unit.drop_ins, [Path::new("etc/systemd/system/c.service.d/c.conf")]);
        }
        assert_eq!(find("v@7").unwrap().name, name("w@7"));
        assert_eq!(find("w@7").unwrap().fragment, Path::new("usr/lib/systemd/system/w@.service"));
        assert!(find("loop").is_none() && find("nothing").is_none());
        assert!(find("masked").unwrap().masked && find("empty").unwrap().masked);
        let linked = find("linked").unwrap();
        assert!(!linked.masked);
        assert_eq!(linked.assignments(root.path()).unwrap()[0].value, "1");
        let names: Vec<_> = units.names().map(ServiceName::stem).collect();
        assert_eq!(names, ["a", "empty", "linked", "masked", "w@"]);
    }
}
