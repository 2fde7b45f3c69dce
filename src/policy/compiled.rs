//! The policy as a login reads it: compiled, because reading the text would take half of its time.
//!
//! The generator writes it where nothing is wrong with the policy. A login uses it only while the
//! policy files are the very ones that it was made from; whatever else it finds, it reads the text.
#![forbid(unsafe_code)]

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::load::{InForce, Loaded, open, read_bounded};
use super::{Policy, Slice};
use crate::paths;

/// Only what these very sources have written is read, see `build.rs`: nothing else says what the bytes mean.
/// Module and generator are built apart, and so no feature changes what is serialized.
const VERSION: &str = env!("FAIRSLICE_SOURCES");
/// The kernel's clock for files advances in steps of up to 10 ms: what was changed within the last
/// step can be changed again without a trace.
const CLOCK_STEP: Duration = Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
struct Compiled<'a> {
    version: &'a str,
    sources: Vec<Source>,
    policy: Policy,
}

/// A policy file, or the directory of fragments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Source {
    /// Relative to the root.
    pub(super) path: PathBuf,
    /// `None` where there is none.
    pub(super) state: Option<State>,
}

/// What changes with each change of a file, `inode(7)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, i64),
}

impl State {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether another change would show.
    fn is_settled(&self) -> bool {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since_1970 = since_1970.saturating_sub(CLOCK_STEP);
        let (seconds, nanoseconds) = self.changed;
        let settled = (since_1970.as_secs().cast_signed(), i64::from(since_1970.subsec_nanos()));
        (seconds, nanoseconds) < settled
    }
}

impl Source {
    fn is_unchanged(&self, root: &Path) -> bool {
        root.join(&self.path).metadata().ok().as_ref().map(State::of) == self.state
    }
}

/// What a login needs of the policy that was loaded below `root`, to be written to [`paths::COMPILED`].
/// `None` where logins are to read the text: something is wrong with it, which each of them says, or it is
/// being changed.
#[must_use]
pub fn compile(root: &Path, loaded: &Loaded) -> Option<Vec<u8>> {
    if loaded.in_force != InForce::Current || !loaded.diagnostics.is_empty() {
        return None;
    }
    let is_settled =
        || loaded.sources.iter().filter_map(|source| source.state.as_ref()).all(State::is_settled);
    if !is_settled() {
        thread::sleep(CLOCK_STEP);
        if !is_settled() || !loaded.sources.iter().all(|source| source.is_unchanged(root)) {
            return None;
        }
    }
    let Policy { slices, services: _, logins, private_dirs } = loaded.policy.clone();
    // Slices matter to a login only for the floors among them, and which services they hold does not.
    let floors = slices.values().any(|slice| slice.cpu_floor.is_some());
    let without_services = |slice| Slice { matches: Vec::new(), ..slice };
    let slices = slices.into_iter().filter(|_| floors).map(|(n, slice)| (n, without_services(slice)));
    let policy = Policy { slices: slices.collect(), logins, private_dirs, ..Policy::default() };
    postcard::to_allocvec(&Compiled { version: VERSION, sources: loaded.sources.clone(), policy }).ok()
}

/// Whether the generator may have made it: it says what root does. In a login this is root.
fn is_made_by_us(metadata: &Metadata) -> bool {
    [0, geteuid().as_raw()].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
}

/// The compiled policy below `root`, if it is there and still that of the files.
pub(super) fn read(root: &Path) -> Option<Policy> {
    let file = open(&root.join(paths::COMPILED)).ok()?;
    if !is_made_by_us(&file.metadata().ok()?) {
        return None;
    }
    let bytes = read_bounded(file).ok()?;
    let (version, rest): (&str, _) = postcard::take_from_bytes(&bytes).ok()?;
    if version != VERSION {
        return None;
    }
    let (sources, rest): (Vec<Source>, _) = postcard::take_from_bytes(rest).ok()?;
    if !sources.iter().all(|source| source.is_unchanged(root)) {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::fixture::write;
    use crate::policy::{load, load_for_login};

    /// A policy with a fragment, long settled, and compiled.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), paths::POLICY, "[logins]\ncpu_weight = 100\n[service.a]\noom_score_adj = 1\n");
        write(root.path(), "etc/fairslice/policy.d/a.toml", "[logins.group.dev]\ncpu_weight = 300\n");
        let compiled = compile(root.path(), &load(root.path())).unwrap();
        fs::create_dir_all(root.path().join(paths::COMPILED).parent().unwrap()).unwrap();
        fs::write(root.path().join(paths::COMPILED), compiled).unwrap();
        fs::set_permissions(root.path().join(paths::COMPILED), fs::Permissions::from_mode(0o644)).unwrap();
        root
    }

    #[test]
    fn a_login_gets_what_the_text_says() {
        let root = machine();
        let compiled = read(root.path()).unwrap();
        let text = load(root.path()).policy;
        assert_eq!(format!("{:?}", compiled.logins), format!("{:?}", text.logins));
        assert!(compiled.services.is_empty() && !text.services.is_empty());
    }

    #[test]
    fn what_was_changed_is_read_anew() {
        let changes: [fn(&Path); 6] = [
            |root| {
                let file = root.join("etc/fairslice/policy.d/a.toml");
                fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
            },
            |root| write(root, paths::POLICY, "[logins]\ncpu_weight = 101\n[service.a]\noom_score_adj = 1\n"),
            |root| write(root, "etc/fairslice/policy.d/a.toml", "[logins.group.dev]\ncpu_weight = 301\n"),
            |root| write(root, "etc/fairslice/policy.d/b.toml", "[logins]\ncpu_weight = 102\n"),
            |root| fs::remove_file(root.join("etc/fairslice/policy.d/a.toml")).unwrap(),
            |root| fs::remove_file(root.join(paths::POLICY)).unwrap(),
        ];
        for change in changes {
            let root = machine();
            let before = format!("{:?}", load_for_login(root.path()).policy.logins);
            change(root.path());
            assert!(read(root.path()).is_none());
            assert_ne!(format!("{:?}", load_for_login(root.path()).policy.logins), before);
        }
    }

    #[test]
    fn what_is_broken_is_not_used() {
        let root = machine();
        let bytes = fs::read(root.path().join(paths::COMPILED)).unwrap();
        for length in 0..bytes.len() {
            fs::write(root.path().join(paths::COMPILED), &bytes[..length]).unwrap();
            assert!(read(root.path()).is_none(), "{length}");
        }
        let open = |mode| fs::Permissions::from_mode(mode);
        fs::write(root.path().join(paths::COMPILED), &bytes).unwrap();
        fs::set_permissions(root.path().join(paths::COMPILED), open(0o666)).unwrap();
        assert!(read(root.path()).is_none(), "anybody may have written it");
        fs::set_permissions(root.path().join(paths::COMPILED), open(0o644)).unwrap();
        assert!(read(root.path()).is_some());
        let rest = &bytes[1 + VERSION.len()..];
        for (version, is_read) in [(VERSION, true), ("0.1.0", false), ("0123456789abcdef", false)] {
            let other = [postcard::to_allocvec(version).unwrap().as_slice(), rest].concat();
            fs::write(root.path().join(paths::COMPILED), other).unwrap();
            assert_eq!(read(root.path()).is_some(), is_read, "{version}");
        }
    }

    #[test]
    fn what_is_wrong_or_being_changed_is_not_compiled() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), paths::POLICY, "[logins]\ncpu_weight = 100\n");
        let loaded = load(root.path());
        write(root.path(), paths::POLICY, "[logins]\ncpu_weight = 101\n");
        assert!(compile(root.path(), &loaded).is_none(), "changed after it was read");
        assert!(compile(root.path(), &load(root.path())).is_some());
        write(root.path(), "etc/fairslice/policy.d/a.toml", "[logins]\ncpu_wait = 300\n");
        assert!(compile(root.path(), &load(root.path())).is_none(), "with an error");
    }
}
