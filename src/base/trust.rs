//! Whether somebody else than root can change a file that root acts on: found out on the way to it, by open
//! descriptors, so that what is judged is what is read.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_at_once, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::paths;
use crate::text::{quoted, shown};

/// As many links as the kernel follows: `path_resolution(7)`.
const MOST_LINKS: usize = 40;
/// Whoever may search a directory may walk through it.
const ON_THE_WAY: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// A fifo must not hold up a boot or a login.
const TO_READ: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Why a file is not opened.
#[derive(Debug)]
pub enum Refusal {
    /// It cannot be.
    Unreadable(io::Error),
    /// Somebody else than root can change it.
    Exposed(Exposed),
}

/// A file, or a directory on the way to one, that somebody else than root can change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposed {
    /// Where it is, without links, as on a live system.
    pub path: PathBuf,
    is_directory: bool,
    owner: u32,
    is_roots: bool,
    group: u32,
    /// Permission bits.
    mode: u32,
    /// Whether an access control list lets others write than its group.
    has_list: bool,
}

/// Opens a regular file below `root`. Links are followed where only root can change them.
///
/// # Errors
/// It cannot be read, or somebody else than root can change it: itself, or a directory on the way to it or to
/// a link that leads there.
pub fn open(root: &Path, file: &Path) -> Result<File, Refusal> {
    walk(root, file, SFlag::S_IFREG, Way::Roots).map(File::from)
}

/// The same of a directory.
///
/// # Errors
/// Those of [`open`].
pub fn open_directory(root: &Path, directory: &Path) -> Result<OwnedFd, Refusal> {
    walk(root, directory, SFlag::S_IFDIR, Way::Roots)
}

/// The same of a directory that only root makes. Others may be able to make something beside it: a container's
/// `/run` is often mounted like `/tmp`, and with the sticky bit they cannot put another in its place.
///
/// # Errors
/// Those of [`open`].
pub fn open_own_directory(root: &Path, directory: &Path) -> Result<OwnedFd, Refusal> {
    walk(root, directory, SFlag::S_IFDIR, Way::Sticky)
}

/// The same of a file in one.
///
/// # Errors
/// Those of [`open`].
pub fn open_own(root: &Path, file: &Path) -> Result<File, Refusal> {
    walk(root, file, SFlag::S_IFREG, Way::Sticky).map(File::from)
}

/// Which directories may be walked through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Those that only root can change.
    Roots,
    /// Those too in which others can change what is theirs alone. What they lead to is no link then.
    Sticky,
}

/// Opens each component on its own, and judges it. A link is followed by its text: who can change it is who
/// can change the directory that it lies in.
fn walk(root: &Path, path: &Path, kind: SFlag, through: Way) -> Result<OwnedFd, Refusal> {
    let top = open_at_once(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&top)?;
    let ours = Ours { user: stat.st_uid, group: stat.st_gid };
    ours.judge(&top, &stat, [])?;
    // What has been walked through below the root, and what is still to be, the next at the end.
    let mut way: Vec<(OsString, OwnedFd)> = Vec::new();
    let mut left = names(path);
    let mut links = 0;
    let mut is_sticky = false;
    while let Some(name) = left.pop() {
        if name == ".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(&top, |(_, directory)| directory);
        let found = openat(here, name.as_os_str(), ON_THE_WAY, Mode::empty())?;
        let stat = fstat(&found)?;
        let found_kind = kind_of(&stat);
        if found_kind == SFlag::S_IFLNK {
            links += 1;
            if links > MOST_LINKS || is_sticky {
                return Err(Errno::ELOOP.into());
            }
            let target = PathBuf::from(readlinkat(&found, "")?);
            if target.is_absolute() {
                way.clear();
            }
            left.extend(names(&target));
            continue;
        }
        let is_last = left.is_empty();
        if is_last && found_kind != kind {
            return Err(not_a(kind));
        }
        let (opened, stat) = if is_last {
            let opened = openat(here, name.as_os_str(), TO_READ, Mode::empty())?;
            let stat = fstat(&opened)?;
            (opened, stat)
        } else {
            (found, stat)
        };
        let judged = ours.judge(&opened, &stat, way.iter().map(|(name, _)| name).chain([&name]));
        is_sticky = matches!(&judged, Err(Refusal::Exposed(exposed)) if exposed.is_sticky());
        if !(is_sticky && !is_last && through == Way::Sticky) {
            judged?;
        }
        if is_last {
            return Ok(opened);
        }
        way.push((name, opened));
    }
    // A link that ends with "..": at a directory that was only walked through.
    if kind != SFlag::S_IFDIR {
        return Err(not_a(kind));
    }
    let here = way.last().map_or(&top, |(_, directory)| directory);
    Ok(openat(here, ".", TO_READ, Mode::empty())?)
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn not_a(kind: SFlag) -> Refusal {
    let wanted = if kind == SFlag::S_IFDIR { "directory" } else { "regular file" };
    Refusal::Unreadable(io::Error::other(format!("it is not a {wanted}")))
}

/// The components of a path, the first at the end.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

/// Who may change files beside root: whoever owns the root directory, and its group, as a rule root's.
/// Whatever they want below it, they have it. In a test, it is who runs that.
#[derive(Clone, Copy)]
struct Ours {
    user: u32,
    group: u32,
}

impl Ours {
    /// These names lead to what is open, and is this.
    fn judge<'a>(
        self,
        opened: &OwnedFd,
        stat: &FileStat,
        names: impl IntoIterator<Item = &'a OsString>,
    ) -> Result<(), Refusal> {
        let is_roots = [0, self.user].contains(&stat.st_uid);
        let group_writes = stat.st_mode & GROUP_WRITES != 0;
        // With a list, the bits of the group are the most that anybody in it has: `acl(5)`.
        let has_list = group_writes && has_list(opened);
        let group_is_roots = [0, self.group].contains(&stat.st_gid) && !has_list;
        if is_roots && stat.st_mode & OTHERS_WRITE == 0 && (!group_writes || group_is_roots) {
            return Ok(());
        }
        Err(Refusal::Exposed(Exposed {
            path: paths::absolute(names.into_iter().collect::<PathBuf>()),
            is_directory: kind_of(stat) == SFlag::S_IFDIR,
            owner: stat.st_uid,
            is_roots,
            group: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            has_list,
        }))
    }
}

/// Whether an access control list holds. Where that cannot be told, one does.
pub(crate) fn has_list(opened: &OwnedFd) -> bool {
    // A descriptor that is only walked through has no attributes by itself.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    let list = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    !matches!(list, Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP))
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Unreadable(error.into())
    }
}

impl Exposed {
    /// Whether others can only add to it, and change what is theirs.
    fn is_sticky(&self) -> bool {
        self.is_directory && self.is_roots && self.mode & STICKY != 0
    }

    /// A command line that makes it root's alone.
    ///
    /// A file is put there anew: whoever had it open for writing still has the old one.
    #[must_use]
    pub fn remedy(&self) -> String {
        let path = shown(&self.path).to_string();
        if !self.is_directory {
            let mode = self.mode & !(GROUP_WRITES | OTHERS_WRITE) & 0o777;
            let (new, path) = (quoted(&format!("{path}.new")), quoted(&path));
            return format!("install --mode={mode:o} -- {path} {new} && mv -- {new} {path}");
        }
        let path = quoted(&path);
        let chown = (!self.is_roots).then(|| format!("chown root:root -- {path}"));
        let writes = self.mode & (GROUP_WRITES | OTHERS_WRITE) != 0;
        let chmod = writes.then(|| format!("chmod go-w -- {path}"));
        chown.into_iter().chain(chmod).collect::<Vec<_>>().join(" && ")
    }
}

/// Who can change it, and how that shows: `user 1001 can change /etc/fairslice (mode 0755)`.
impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match () {
            () if !self.is_roots => write!(f, "user {}", self.owner)?,
            () if self.mode & OTHERS_WRITE != 0 => f.write_str("everybody")?,
            () if self.has_list => f.write_str("whoever its access control list names")?,
            () => write!(f, "group {}", self.group)?,
        }
        write!(f, " can change {} (mode {:04o})", shown(&self.path), self.mode)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::fixture::write;

    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "etc/x/file", "text");
        for (path, mode) in [("etc", 0o755), ("etc/x", 0o755), ("etc/x/file", 0o644)] {
            chmod(root.path(), path, mode);
        }
        root
    }

    fn chmod(root: &Path, path: &str, mode: u32) {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Why a file is not opened.
    fn refused(root: &Path, path: &str) -> Option<Exposed> {
        match open(root, Path::new(path)) {
            Ok(_) => None,
            Err(Refusal::Exposed(exposed)) => Some(exposed),
            Err(Refusal::Unreadable(error)) => panic!("{path}: {error}"),
        }
    }

    /// Runs a remedy below the root.
    fn mend(root: &Path, exposed: &Exposed) {
        let command = exposed.remedy().replace(" /etc", &format!(" {}/etc", root.to_str().unwrap()));
        assert!(std::process::Command::new("sh").args(["-ec", &command]).status().unwrap().success());
    }

    #[test]
    fn beside_what_is_roots_others_may_have_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("run/fairslice/sessions")).unwrap();
        symlink("fairslice", root.join("run/link")).unwrap();
        let opens = |path: &str| open_own_directory(root, Path::new(path)).is_ok();
        assert!(opens("run/fairslice/sessions") && opens("run/link"));
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(opens("run/fairslice/sessions"));
        // Whose link that is, is not asked; and a policy is nowhere where others can add to it.
        assert!(!opens("run/link") && !opens("run"));
        assert!(open_directory(root, Path::new("run/fairslice")).is_err());
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!opens("run/fairslice/sessions"));
    }

    #[test]
    fn what_others_can_change_is_refused_and_mended() {
        for (path, mode) in [("etc", 0o777), ("etc", 0o1777), ("etc/x", 0o757), ("etc/x/file", 0o666)] {
            let root = machine();
            assert_eq!(refused(root.path(), "etc/x/file"), None);
            chmod(root.path(), path, mode);
            let exposed = refused(root.path(), "etc/x/file").unwrap();
            assert_eq!(exposed.to_string(), format!("everybody can change /{path} (mode {mode:04o})"));
            mend(root.path(), &exposed);
            assert_eq!(refused(root.path(), "etc/x/file"), None, "{path} {mode:o}");
            assert_eq!(fs::read_to_string(root.path().join("etc/x/file")).unwrap(), "text");
        }
    }

    /// The group of the root directory is that of whoever owns all of it. A list can name anybody.
    #[test]
    fn the_groups_right_is_roots_unless_a_list_says_otherwise() {
        // Version 2; user:rw-, user 65534:rw-, group:r--, mask:rw-, other:r--.
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 6, 65534), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 4, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
            list.extend(id.to_le_bytes());
        }
        let root = machine();
        chmod(root.path(), "etc/x", 0o775);
        chmod(root.path(), "etc/x/file", 0o664);
        assert_eq!(refused(root.path(), "etc/x/file"), None);
        let file = root.path().join("etc/x/file");
        rustix::fs::setxattr(&file, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty())
            .unwrap();
        let exposed = refused(root.path(), "etc/x/file").unwrap();
        assert!(exposed.to_string().starts_with("whoever its access control list names"), "{exposed}");
        mend(root.path(), &exposed);
        assert_eq!(refused(root.path(), "etc/x/file"), None);
    }

    #[test]
    fn a_link_is_followed_where_all_of_the_way_is_roots() {
        let root = machine();
        let root = root.path();
        for (link, target) in [
            ("etc/relative", "x/../x/file"),
            ("etc/absolute", "/etc/relative"),
            ("etc/up", "../../../../etc/x/file"),
            ("etc/directory", "x"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let ways = ["etc/relative", "etc/absolute", "etc/up", "etc/directory/file"];
        for way in ways {
            assert_eq!(refused(root, way), None, "{way}");
        }
        chmod(root, "etc/x", 0o777);
        for way in ways {
            assert_eq!(refused(root, way).unwrap().path, Path::new("/etc/x"), "{way}");
        }
        symlink("loop", root.join("etc/loop")).unwrap();
        assert!(matches!(open(root, Path::new("etc/loop")), Err(Refusal::Unreadable(_))));
        chmod(root, "etc/x", 0o755);
        symlink("..", root.join("etc/x/above")).unwrap();
        for directory in ["etc", "etc/x/above"] {
            assert!(
                nix::dir::Dir::from_fd(open_directory(root, Path::new(directory)).unwrap())
                    .unwrap()
                    .iter()
                    .count()
                    > 2
            );
        }
        assert!(matches!(open(root, Path::new("etc/x/above")), Err(Refusal::Unreadable(_))));
        assert!(matches!(open(root, Path::new("etc")), Err(Refusal::Unreadable(_))));
    }
}
