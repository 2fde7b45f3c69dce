//! A user's private directory: made and checked so that nobody else can have a hand in it.
//!
//! The path is walked from `/` by open descriptors, following no link. At first it leads through
//! directories that only root can change (or sticky ones, where nobody can take away what is root's);
//! a private directory right there is made as root, empty, and given to the user through its descriptor.
//!
//! From the first directory on that belongs to the user, everything is the user's own: whatever stands
//! there may be replaced by the user at any moment. So the rest is done with the user's own rights. Root's
//! would be a way to be given any directory: between mkdir and chown, another could be put in place.
//!
//! What a file system says of owners and modes is as good as who mounted it. Anybody may mount one of FUSE on
//! a directory they can write to, also one in a directory of root's. So a mount point is walked through only if
//! it is root's mount, or the user's own.
//!
//! What is there already is accepted or refused, never repaired.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

use super::as_user::AsUser;
use super::refused::{Refused, Why};
use super::tree::{DIRECTORY, ON_THE_WAY, WRITABLE_BY_OTHERS, mode, open_directory};
use crate::host::mount::On;
use crate::policy::DirMode;
use crate::text::shown;

const TO_CHANGE: OFlag = DIRECTORY.union(OFlag::O_RDONLY).union(OFlag::O_NONBLOCK);
const PRIVATE: Mode = Mode::S_IRWXU;
/// How long another session that has just made the directory is given to hand it to the user.
const HANDOVER: Duration = Duration::from_millis(200);
const HANDOVER_PAUSE: Duration = Duration::from_millis(2);

/// Makes `directory`, an absolute path below `root`, for the user, unless it is there and the
/// user's own. One that is made gets `mode`.
///
/// Missing directories on the way are made too (0700) where they are the user's own business: below
/// a directory that belongs to the user.
///
/// # Errors
/// A component is a link, is no directory, is missing in a directory of root's, or could be changed
/// by someone other than root and the user; what stands at the path is not a directory that is the
/// user's, and that only the user can change; or it cannot be made. Nothing is left half-made.
pub(in crate::enforce) fn ensure(
    root: &Path,
    directory: &Path,
    uid: u32,
    gid: u32,
    mode: DirMode,
) -> Result<()> {
    let mode = Mode::from_bits_truncate(mode.bits());
    walk(root, directory, User::new(uid, gid), Some(mode)).map(drop)
}

/// What [`ensure`] would do.
///
/// # Errors
/// As [`ensure`], as far as can be told without making anything.
#[cfg(feature = "cli")]
pub(in crate::enforce) fn look(root: &Path, directory: &Path, uid: u32, gid: u32) -> Result<Looked> {
    walk(root, directory, User::new(uid, gid), None)
}

/// What there is of a private directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::enforce) enum Looked {
    /// It is there and right, with these bits of its mode.
    There(Mode),
    /// It would be made.
    Missing,
    /// It lies in a file system that the user has mounted, and which need not answer: only a login asks it.
    OnUsersMount,
}

#[derive(Clone, Copy)]
struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    fn new(uid: u32, gid: u32) -> Self {
        Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) }
    }
}

/// What is there in the end. With `make`, the mode of a directory that is made, it is there.
fn walk(root: &Path, directory: &Path, user: User, make: Option<Mode>) -> Result<Looked> {
    let mut way: Vec<&OsStr> = Vec::new();
    for component in directory.components() {
        match component {
            Component::Normal(name) => way.push(name),
            Component::RootDir => {}
            _ => bail!("{} is no plain absolute path", shown(directory)),
        }
    }
    let last = way.pop().context("the path has no last component")?;

    let mut place = Place::at(root, user)?;
    for name in way {
        let next = match (place.child(name)?, &place.ground, make) {
            (Some(next), ..) => next,
            (None, Ground::Roots, _) => {
                let missing = place.path.join(name);
                let said = format!("{} does not exist: make it, owned by root", shown(&missing));
                return Err(Refused::error(Why::Missing, missing, said));
            }
            (None, Ground::Users { .. }, None) => return Ok(Looked::Missing),
            (None, Ground::Users { .. }, Some(_)) => place.make(name, PRIVATE)?,
        };
        if next.is_users_mount && make.is_none() {
            return Ok(Looked::OnUsersMount);
        }
        place = place.enter(next)?;
    }
    let mut target = match (place.child(last)?, make) {
        (Some(there), _) => there,
        (None, None) => return Ok(Looked::Missing),
        (None, Some(mode)) => place.make(last, mode)?,
    };
    if target.is_users_mount && make.is_none() {
        return Ok(Looked::OnUsersMount);
    }
    let mut stat = place.look_at(&target)?;
    // Another session of the user may have made it, and be about to give it away.
    let may_be_given = make.is_some() && matches!(place.ground, Ground::Roots) && !user.uid.is_root();
    let mut waited = Duration::ZERO;
    while may_be_given && stat.st_uid == 0 && waited < HANDOVER {
        thread::sleep(HANDOVER_PAUSE);
        waited += HANDOVER_PAUSE;
        target = place.child(last)?.ok_or_else(|| vanished(&target.path))?;
        stat = place.look_at(&target)?;
    }
    check_private(&target.path, &stat, user)?;
    Ok(Looked::There(mode(&stat)))
}

/// Whose business what is in a directory is.
enum Ground {
    /// Root's: nobody else can change it.
    Roots,
    /// The user's, and done with the user's rights.
    Users { _rights: AsUser },
}

/// A directory, open, and not yet checked.
struct Found {
    path: PathBuf,
    descriptor: OwnedFd,
    on: On,
    /// Whether it is the root of a file system that the user has mounted.
    is_users_mount: bool,
}

/// A directory on the way that may be walked through.
struct Place<'r> {
    root: &'r Path,
    path: PathBuf,
    descriptor: OwnedFd,
    on: On,
    mode: Mode,
    user: User,
    ground: Ground,
}

impl<'r> Place<'r> {
    fn at(root: &'r Path, user: User) -> Result<Self> {
        let descriptor = open(root, ON_THE_WAY, Mode::empty()).context("opening the root directory")?;
        let stat = fstat(&descriptor).context("looking at the root directory")?;
        let on = On::of(&descriptor).context("looking at the root directory")?;
        let found = Found { path: PathBuf::from("/"), descriptor, on, is_users_mount: false };
        found.trusted(root, &stat, user, Ground::Roots)
    }

    /// What stands at `name`, if anything does.
    fn child(&self, name: &OsStr) -> Result<Option<Found>> {
        let path = self.path.join(name);
        let (descriptor, on) = match open_directory(&self.descriptor, name) {
            Ok(opened) => opened,
            Err(Errno::ENOENT) => return Ok(None),
            // With O_NOFOLLOW, O_DIRECTORY says this of a link too.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let said = format!("{} is a symbolic link or no directory", shown(&path));
                return Err(Refused::error(Why::Kind, path, said));
            }
            Err(errno) => return Err(self.failed("opening", &path, errno)),
        };
        let is_users_mount = on != self.on && self.mounted_by_user(&path, on)?;
        Ok(Some(Found { path, descriptor, on, is_users_mount }))
    }

    /// Whether it is the user who has mounted what is at `path`, and not root. Anybody else is refused.
    fn mounted_by_user(&self, path: &Path, on: On) -> Result<bool> {
        if self.mode.intersects(WRITABLE_BY_OTHERS) {
            let said = format!(
                "{} is a mount point where others can write: unmount it, or chmod go-w {}",
                shown(path),
                shown(&self.path)
            );
            return Err(Refused::error(Why::Open, self.path.clone(), said));
        }
        let by = on.mounted_by(self.root).with_context(|| format!("finding who mounted {}", shown(path)))?;
        if by != 0 && by != self.user.uid.as_raw() {
            let said = format!("{0} was mounted by uid {by}, not by root: umount -l {0}", shown(path));
            return Err(Refused::error(Why::Mounted, path, said));
        }
        Ok(by != 0)
    }

    fn look_at(&self, found: &Found) -> Result<FileStat> {
        fstat(&found.descriptor).map_err(|errno| self.failed("looking at", &found.path, errno))
    }

    /// Goes on to a directory in this one.
    fn enter(self, next: Found) -> Result<Self> {
        let stat = self.look_at(&next)?;
        next.trusted(self.root, &stat, self.user, self.ground)
    }

    /// Makes a directory and gives it to the user. What is there in the end may be another's, who was
    /// quicker, and is for the caller to check.
    fn make(&self, name: &OsStr, mode: Mode) -> Result<Found> {
        let path = self.path.join(name);
        match mkdirat(&self.descriptor, name, PRIVATE) {
            Ok(()) => {
                let given = self.give(name, &path, mode);
                if given.is_err() {
                    // What stayed would be root's, and be refused at every login from now on.
                    let _ = unlinkat(&self.descriptor, name, UnlinkatFlags::RemoveDir);
                }
                given?;
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.failed("making", &path, errno)),
        }
        self.child(name)?.ok_or_else(|| vanished(&path))
    }

    /// On root's ground a directory that was just made cannot have been replaced: it is root's, in a
    /// directory that only root can change or that is sticky. On the user's it can, and the user's
    /// rights are all that this has.
    fn give(&self, name: &OsStr, path: &Path, mode: Mode) -> Result<()> {
        let directory = openat(&self.descriptor, name, TO_CHANGE, Mode::empty());
        let directory = directory.map_err(|errno| self.failed("opening", path, errno))?;
        // mkdir(2) takes the umask and a set-group-ID parent into account; this does not.
        fchmod(directory.as_fd(), mode).map_err(|errno| self.failed("setting the mode of", path, errno))?;
        match self.ground {
            Ground::Roots => fchown(directory.as_fd(), Some(self.user.uid), Some(self.user.gid))
                .map_err(|errno| self.failed("giving the user", path, errno)),
            Ground::Users { .. } => Ok(()),
        }
    }

    /// What was tried, what came back, and what to do about it.
    fn failed(&self, tried: &str, path: &Path, errno: Errno) -> Error {
        let remedy = match (errno, &self.ground) {
            (Errno::ENOSPC, _) => ": its file system has no space or no inodes left (df, df -i)".to_owned(),
            (Errno::EDQUOT, _) => format!(": raise the quota of uid {} there", self.user.uid),
            (Errno::EROFS, _) => ": mount its file system writable, or declare another path".to_owned(),
            (Errno::EACCES | Errno::EPERM, Ground::Roots) if !geteuid().is_root() => {
                ": this program does not run as root".to_owned()
            }
            (Errno::EACCES | Errno::EPERM, Ground::Roots) => {
                " even for root: is it NFS with root_squash? Declare a path on another file system".to_owned()
            }
            (Errno::EACCES | Errno::EPERM, Ground::Users { .. }) => {
                format!(" for uid {}: see who may enter and change {}", self.user.uid, shown(&self.path))
            }
            _ => String::new(),
        };
        anyhow!("{tried} {}: {}{remedy}", shown(path), errno.desc())
    }
}

impl Found {
    /// Nobody but root and the user may be able to put another directory in the place of what is in
    /// this one.
    fn trusted<'r>(self, root: &'r Path, stat: &FileStat, user: User, ground: Ground) -> Result<Place<'r>> {
        let Self { path, descriptor, on, is_users_mount } = self;
        let owner = Uid::from_raw(stat.st_uid);
        let is_users = owner == user.uid;
        if !owner.is_root() && !is_users {
            let (why, said) = match ground {
                Ground::Roots => {
                    let said =
                        format!("{0} belongs to uid {owner}, not to root: chown root {0}", shown(&path));
                    (Why::Above, said)
                }
                Ground::Users { .. } => (Why::Owner, not_the_users(&path, owner)),
            };
            return Err(Refused::error(why, path, said));
        }
        let mode = mode(stat);
        if mode.intersects(WRITABLE_BY_OTHERS) && !mode.contains(Mode::S_ISVTX) {
            let entitled = if is_users { "the user" } else { "root" };
            let said =
                format!("{0} can be changed by others than {entitled}: chmod go-w or +t {0}", shown(&path));
            return Err(Refused::error(Why::Open, path, said));
        }
        let ground = match ground {
            Ground::Roots if is_users_mount || is_users && !owner.is_root() => {
                Ground::Users { _rights: AsUser::take(user.uid, user.gid)? }
            }
            ground => ground,
        };
        Ok(Place { root, path, descriptor, on, mode, user, ground })
    }
}

/// What stands at the private path in the end.
fn check_private(path: &Path, stat: &FileStat, user: User) -> Result<()> {
    let owner = Uid::from_raw(stat.st_uid);
    if owner != user.uid {
        return Err(Refused::error(Why::Owner, path, not_the_users(path, owner)));
    }
    if mode(stat).intersects(WRITABLE_BY_OTHERS) {
        let said = format!("{0} can be changed by others than the user: chmod go-w {0}", shown(path));
        return Err(Refused::error(Why::Writable, path, said));
    }
    Ok(())
}

fn not_the_users(path: &Path, owner: Uid) -> String {
    format!("{} belongs to uid {owner}, not to the user: move it away", shown(path))
}

fn vanished(path: &Path) -> Error {
    anyhow!("{} was taken away while it was being made", shown(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use nix::unistd::getegid;
    use tempfile::TempDir;

    use super::*;

    /// A root that is the user's own: the one who runs the tests, and for root somebody without a name.
    fn home() -> (TempDir, User) {
        let home = TempDir::new().unwrap();
        let mut user = User { uid: geteuid(), gid: getegid() };
        if user.uid.is_root() {
            user = User::new(4242, 4242);
            chown(home.path(), Some(4242), Some(4242)).unwrap();
        }
        (home, user)
    }

    fn made(home: &TempDir, user: User, path: &str, mode: Mode) -> Result<(), String> {
        walk(home.path(), Path::new(path), user, Some(mode)).map(drop).map_err(|error| error.to_string())
    }

    /// Whether it is there.
    fn looked(home: &TempDir, user: User, path: &str) -> Result<bool, String> {
        let looked = walk(home.path(), Path::new(path), user, None);
        looked.map(|looked| looked != Looked::Missing).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_missing_below_the_users_own_directory_is_made() {
        let (home, user) = home();
        assert_eq!(looked(&home, user, "/.cache/a/target"), Ok(false));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "made by looking");
        for _ in ["made", "found"] {
            assert_eq!(made(&home, user, "/.cache/a/target", Mode::from_bits_truncate(0o750)), Ok(()));
        }
        assert_eq!(looked(&home, user, "/.cache/a/target"), Ok(true));
        for (path, mode) in [(".cache", 0o700), (".cache/a", 0o700), (".cache/a/target", 0o750)] {
            let stat = fs::metadata(home.path().join(path)).unwrap();
            assert_eq!((stat.uid(), stat.mode() & 0o7777), (user.uid.as_raw(), mode), "{path}");
        }
    }

    #[test]
    fn looking_says_what_would_be_refused() {
        let (home, user) = home();
        assert_eq!(made(&home, user, "/way/target", PRIVATE), Ok(()));
        symlink("way", home.path().join("link")).unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        for (path, why) in [
            ("/link/target", "/link is a symbolic link or no directory"),
            ("/file", "/file is a symbolic link or no directory"),
            ("/way/../way/target", "/way/../way/target is no plain absolute path"),
            ("/", "the path has no last component"),
        ] {
            assert_eq!(looked(&home, user, path), Err(why.to_owned()));
            assert_eq!(made(&home, user, path, PRIVATE), Err(why.to_owned()));
        }
        let mode = |path: &str, mode| {
            fs::set_permissions(home.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("way/target", 0o770);
        let why = "/way/target can be changed by others than the user: chmod go-w /way/target";
        assert_eq!(looked(&home, user, "/way/target"), Err(why.to_owned()));
        mode("way/target", 0o700);
        mode("way", 0o770);
        let why = "/way can be changed by others than the user: chmod go-w or +t /way";
        assert_eq!(looked(&home, user, "/way/target"), Err(why.to_owned()));
        mode("way", 0o1777);
        assert_eq!(looked(&home, user, "/way/target"), Ok(true));
    }
}
