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
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};

use super::directory::entries;
use crate::paths;
use crate::text::shown;
use crate::units::file::{Assignment, Text, parse_whole};
use crate::units::{Alias, ServiceName, SliceName};

/// More links than this, one after the other, are a loop.
const MOST_LINKS: usize = 16;

/// Every service unit below a root, by name.
#[derive(Debug)]
pub struct ServiceUnits {
    root: PathBuf,
    directories: Vec<&'static str>,
    names: BTreeMap<ServiceName, Entry>,
    /// Every directory of drop-ins that there is: of those that one unit could have, most are not there.
    drop_in_directories: BTreeSet<PathBuf>,
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
pub struct UnitFiles {
    /// The unit's own name, where it was looked up by an alias.
    pub name: ServiceName,
    /// The unit file; for an instance, usually its template's.
    pub fragment: PathBuf,
    /// Whether the unit file is empty or a link to `/dev/null`: the unit cannot be started.
    pub masked: bool,
    /// Drop-ins, in the order in which they are applied.
    pub drop_ins: Vec<PathBuf>,
}

impl ServiceUnits {
    /// Reads the names below `root`.
    ///
    /// # Errors
    /// A directory of the search path cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let (root, directories) = (root.to_owned(), search_path(root));
        let mut units =
            Self { root, directories, names: BTreeMap::new(), drop_in_directories: BTreeSet::new() };
        for directory in units.directories.clone() {
            for name in entries(&units.root.join(directory))? {
                if name.as_encoded_bytes().ends_with(b".d") {
                    units.drop_in_directories.insert(Path::new(directory).join(name));
                } else {
                    units.add(directory, &name);
                }
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
    #[must_use]
    pub fn instances(&self, template: &ServiceName) -> BTreeSet<ServiceName> {
        let name = |directory: &PathBuf| service(directory.file_name()?.to_str()?.strip_suffix(".d")?);
        let with_drop_ins = self.drop_in_directories.iter().filter_map(name);
        let all = self.names().cloned().chain(with_drop_ins);
        all.filter(|name| name.template().as_ref() == Some(template)).collect()
    }

    /// The files of `name`; `None` where there is no such unit.
    ///
    /// # Errors
    /// A directory of drop-ins cannot be read.
    pub fn find(&self, name: &ServiceName) -> Result<Option<UnitFiles>> {
        let Some((name, fragment)) = self.resolve(name) else { return Ok(None) };
        let fragment = fragment.to_owned();
        let masked = is_masked(&self.root, &fragment);
        let drop_ins = self.drop_ins(&name)?;
        Ok(Some(UnitFiles { name, fragment, masked, drop_ins }))
    }

    /// The files of a slice or a service, in the order in which systemd applies them; none of another unit.
    ///
    /// # Errors
    /// A directory of drop-ins cannot be read.
    pub fn files(&self, unit: &str) -> Result<Vec<PathBuf>> {
        self.files_among(unit, &|directory| listed(&self.root, directory))
    }

    /// The same, where `list` says which drop-ins lie in a directory.
    ///
    /// # Errors
    /// Those of `list`.
    pub fn files_among(&self, unit: &str, list: Listing<'_>) -> Result<Vec<PathBuf>> {
        if let Ok(slice) = SliceName::new(unit) {
            return slice_files_among(&self.root, &slice, list);
        }
        let Ok(service) = ServiceName::new(unit) else { return Ok(Vec::new()) };
        // One that was started without a file has drop-ins all the same.
        let (own, fragment) =
            self.resolve(&service).map_or((service.clone(), None), |(own, file)| (own, Some(file)));
        let drop_ins = self.drop_ins_among(&own, list)?;
        Ok(fragment.map(Path::to_owned).into_iter().chain(drop_ins).collect())
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

    /// The name that a unit has itself, by any of its names; `None` where there is no such unit.
    #[must_use]
    pub fn own_name(&self, name: &ServiceName) -> Option<ServiceName> {
        self.resolve(name).map(|(own, _)| own)
    }

    /// Every name that is another unit's.
    #[must_use]
    pub fn every_alias(&self) -> Vec<Alias> {
        let aliases = self.names.iter().filter(|(_, entry)| matches!(entry, Entry::Alias(_)));
        aliases
            .filter_map(|(name, _)| Some(Alias { name: name.clone(), unit: self.own_name(name)? }))
            .collect()
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
        self.drop_ins_among(name, &|directory| listed(&self.root, directory))
    }

    fn drop_ins_among(&self, name: &ServiceName, list: Listing<'_>) -> Result<Vec<PathBuf>> {
        let names: Vec<_> = [name.clone()].into_iter().chain(self.aliases(name)).collect();
        let directories = drop_in_directories(&self.directories, &names);
        drop_ins(directories.filter(|directory| self.drop_in_directories.contains(directory)), list)
    }
}

/// What lies in a directory of drop-ins, by its path relative to the root.
pub type Listing<'l> = &'l dyn Fn(&Path) -> Result<Vec<OsString>>;

/// What lies in a directory of drop-ins below `root`, which may be a link.
///
/// # Errors
/// It cannot be read.
pub fn listed(root: &Path, directory: &Path) -> Result<Vec<OsString>> {
    entries(&root.join(follow(root, directory)))
}

/// The files of a slice, in the order in which systemd applies them: its own, if it has one, and its drop-ins.
/// Slices have no other names.
///
/// # Errors
/// A directory of drop-ins cannot be read.
pub fn slice_files(root: &Path, slice: &SliceName) -> Result<Vec<PathBuf>> {
    slice_files_among(root, slice, &|directory| listed(root, directory))
}

/// The same of a scope, which PID 1 keeps a file of its own for.
///
/// # Errors
/// A directory of drop-ins cannot be read.
pub fn scope_files(root: &Path, scope: &str) -> Result<Vec<PathBuf>> {
    let search_path = search_path(root);
    let mut own = search_path.iter().map(|directory| Path::new(directory).join(scope));
    let own = own.find(|file| fs::symlink_metadata(root.join(file)).is_ok());
    // Those for every scope come after all others, wherever they lie.
    let mut units = vec![scope.to_owned()];
    let dashes = scope.rmatch_indices('-').filter_map(|(at, _)| scope.get(..=at));
    units.extend(dashes.map(|prefix| format!("{prefix}.scope")));
    let pairs = search_path.iter().flat_map(|path| units.iter().map(move |unit| (path, unit.as_str())));
    let every_scope = search_path.iter().map(|path| (path, "scope"));
    let directories = pairs.chain(every_scope).map(|(path, unit)| Path::new(path).join(format!("{unit}.d")));
    let drop_ins = drop_ins(directories, &|directory| listed(root, directory))?;
    Ok(own.into_iter().chain(drop_ins).collect())
}

fn slice_files_among(root: &Path, slice: &SliceName, list: Listing<'_>) -> Result<Vec<PathBuf>> {
    let candidates = search_path(root).into_iter().map(|directory| Path::new(directory).join(slice.as_str()));
    let mut own = candidates.into_iter().filter(|file| fs::symlink_metadata(root.join(file)).is_ok());
    let drop_ins = slice_drop_ins(root, slice, list)?;
    Ok(own.next().into_iter().chain(drop_ins).collect())
}

fn slice_drop_ins(root: &Path, slice: &SliceName, list: Listing<'_>) -> Result<Vec<PathBuf>> {
    let mut units = slice.drop_in_units();
    let every_slice = units.pop();
    let search_path = search_path(root);
    let place = |units: &[String]| -> Vec<PathBuf> {
        let of_path =
            |path: &&str| units.iter().map(|unit| Path::new(path).join(format!("{unit}.d"))).collect();
        search_path.iter().flat_map::<Vec<PathBuf>, _>(of_path).collect()
    };
    drop_ins(place(&units).into_iter().chain(place(every_slice.as_slice())), list)
}

/// The drop-ins in these directories, the strongest of which comes first, in the order in which systemd
/// applies them.
fn drop_ins(directories: impl Iterator<Item = PathBuf>, list: Listing<'_>) -> Result<Vec<PathBuf>> {
    // Of two files of one name, the one found first counts.
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        for file_name in list(&directory)? {
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

impl UnitFiles {
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

/// The assignments of one file; none where it is a link to `/dev/null`.
///
/// # Errors
/// The file cannot be read.
pub fn read(root: &Path, file: &Path) -> Result<Vec<Assignment>> {
    Ok(read_whole(root, file)?.assignments)
}

/// The same, and how far systemd reads the file.
///
/// # Errors
/// The file cannot be read.
pub fn read_whole(root: &Path, file: &Path) -> Result<Text> {
    // A directory of drop-ins may be a link, too.
    let in_place = file.parent().zip(file.file_name()).map(|(parent, name)| follow(root, parent).join(name));
    let followed = follow(root, in_place.as_deref().unwrap_or(file));
    if is_null(&followed) {
        return Ok(Text::default());
    }
    let path = root.join(followed);
    let text = fs::metadata(&path).and_then(|found| {
        // A fifo would have to be waited for.
        if found.is_file() { fs::read(&path) } else { Err(io::Error::other("it is not a regular file")) }
    });
    let text = text.with_context(|| format!("reading /{}", shown(&file)))?;
    Ok(parse_whole(&text, file))
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
        let unit = ServiceUnits::read(root.path()).unwrap().find(&name("local-a")).unwrap().unwrap();
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
        let units = ServiceUnits::read(root.path()).unwrap();
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
