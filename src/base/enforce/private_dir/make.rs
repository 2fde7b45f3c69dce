//! A user's private directory: made and checked so that nobody else can have a hand in it.
//!
//! The path is walked from `/` by open descriptors, following no link but such as only root can change. At first it
//! leads through directories that only root can change (or sticky ones, where nobody can take away what is root's);
//! a private directory right there is made as root, empty, and given to the user through its descriptor.
//!
//! The policy may trust groups: then their members may be able to change directories on the way. What is made right in
//! one of those is made with the user's own rights too, who has to be in the group.
//!
//! From the first directory on that belongs to the user, everything is the user's own: whatever stands
//! there may be replaced by the user at any moment. So the rest is done with the user's own rights. Root's
//! would be a way to be given any directory: between mkdir and chown, another could be put in place.
//!
//! What a file system says of owners and modes is as good as who mounted it. Anybody may mount one of FUSE on
//! a directory they can write to, also one in a directory of root's. So a mount point is walked through only if
//! it is root's mount, or the user's own.
//!
//! Directories of root's on the way are made where the policy says from where on (`only_if`): as root, 0755, or in one
//! that a trusted group can change, with the user's own rights, as that one is.
//!
//! What is there already is accepted or refused, never repaired.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, unlinkat};

use super::as_user::AsUser;
use super::refused::{Fault, Refused};
use super::tree::{DIRECTORY, ON_THE_WAY, WRITABLE_BY_OTHERS, mode, only_roots, open_directory};
use crate::host::account::{Account, group_name, group_number};
use crate::host::mount::{self, On};
use crate::policy::{PrivateDir, Sourced, Who as _};
use crate::text::{quoted, shown};
use crate::trust::has_list;

const TO_CHANGE: OFlag = DIRECTORY.union(OFlag::O_RDONLY).union(OFlag::O_NONBLOCK);
const PRIVATE: Mode = Mode::S_IRWXU;
/// 0755
const SEARCHABLE: Mode =
    Mode::S_IRWXU.union(Mode::S_IRGRP).union(Mode::S_IXGRP).union(Mode::S_IROTH).union(Mode::S_IXOTH);
/// How long another session that has just made the directory is given to hand it to the user.
const HANDOVER: Duration = Duration::from_millis(200);
const HANDOVER_PAUSE: Duration = Duration::from_millis(2);
/// As many links as the kernel follows: `path_resolution(7)`.
const MOST_LINKS: usize = 40;

/// Makes `directory`, an absolute path below `root`, for the user, unless it is there and the
/// user's own. One that is made gets the mode that is declared.
///
/// Missing directories on the way are made too: 0700 where they are the user's own business, below a directory that
/// belongs to the user; and where they lie below `only_if`.
///
/// # Errors
/// A component is a link that others than root can change, is no directory, is missing in a directory of root's, or
/// could be changed by someone other than root, the user and members of the groups that are `trusted`; what stands at
/// the path is not a directory that is the user's, and that only the user can change; or it cannot be made. Nothing is
/// left half-made.
pub fn ensure(root: &Path, directory: &Path, account: &Account, declared: &PrivateDir) -> Result<()> {
    let mode = Mode::from_bits_truncate(declared.mode().bits());
    walk(root, directory, User::of(account, declared, directory), Some(mode)).map(drop)
}

/// What [`ensure`] would do.
///
/// # Errors
/// As [`ensure`], as far as can be told without making anything.
pub fn look(root: &Path, directory: &Path, account: &Account, declared: &PrivateDir) -> Result<Looked> {
    walk(root, directory, User::of(account, declared, directory), None)
}

/// What there is of a private directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It is there and right, with these bits of its mode.
    There(Mode),
    /// It would be made.
    Missing,
    /// It lies in a file system that the user has mounted, and which need not answer: only a login asks it.
    OnUsersMount,
}

/// Whose directory it is, and who else is trusted with the way to it.
#[derive(Clone, Copy)]
struct User<'a> {
    account: &'a Account,
    trusted: &'a [Sourced<String>],
    /// How many components at the end of the path are ours to make, the directory itself included.
    ours: usize,
}

impl<'a> User<'a> {
    fn of(account: &'a Account, declared: &'a PrivateDir, directory: &Path) -> Self {
        // In a home everything is the user's own business.
        let only_if = declared.only_if.as_ref().filter(|_| !declared.path.value.in_home());
        let only_if = only_if.map(|only_if| Path::new(&only_if.value));
        let below = only_if.and_then(|only_if| directory.strip_prefix(only_if).ok());
        let ours = below.map_or(1, |below| below.components().count());
        Self { account, trusted: &declared.trusted_groups, ours }
    }

    fn uid(self) -> Uid {
        Uid::from_raw(self.account.uid)
    }

    fn gid(self) -> Gid {
        Gid::from_raw(self.account.gid)
    }

    /// Whether the policy trusts the members of a group. A group that does not exist has none.
    fn trusts(self, gid: u32) -> Result<bool> {
        for group in self.trusted {
            if group_number(&group.value)? == Some(gid) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether somebody is in a group that the policy trusts.
    fn trusts_user(self, uid: Uid) -> Result<bool> {
        if self.trusted.is_empty() {
            return Ok(false);
        }
        let Some(account) = Account::by_uid(uid.as_raw())? else { return Ok(false) };
        for group in self.trusted {
            if account.is_in(&group.value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a walk has come to.
enum Walked {
    To(Looked),
    /// A link of root's, and the path that it leads to.
    Over(PathBuf),
}

/// What is there in the end. With `make`, the mode of a directory that is made, it is there.
fn walk(root: &Path, directory: &Path, user: User<'_>, make: Option<Mode>) -> Result<Looked> {
    let mut path = directory.to_owned();
    for _ in 0..MOST_LINKS {
        match walk_plain(root, &path, user, make)? {
            Walked::To(looked) => return Ok(looked),
            Walked::Over(led) => path = led,
        }
    }
    bail!("{} leads over more than {MOST_LINKS} links", shown(directory))
}

/// The same of a path up to the first link.
fn walk_plain(root: &Path, directory: &Path, user: User<'_>, make: Option<Mode>) -> Result<Walked> {
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
    for (at, name) in way.iter().copied().enumerate() {
        let next = match (place.child(name)?, &place.ground, make) {
            (Child::There(next), ..) => next,
            (Child::Link(target), ..) => {
                let rest = way.iter().skip(at + 1).chain([&last]);
                return Ok(Walked::Over(rest.fold(target, |path, name| path.join(name))));
            }
            // Links have been followed: what is counted is what comes behind.
            (Child::Missing, ground, make)
                if way.len() - at < user.ours && (place.is_shared || matches!(ground, Ground::Roots)) =>
            {
                if make.is_none() {
                    place.group_to_make_with()?;
                    return Ok(Walked::To(Looked::Missing));
                }
                place.make_shared(name)?
            }
            (Child::Missing, Ground::Roots, _) => {
                let missing = place.path.join(name);
                let said = format!("{} does not exist: make it, owned by root", shown(&missing));
                let remedy = format!("install -d -m 755 {}", quoted(&missing));
                return Err(Refused::with_remedy(Fault::Missing, missing, said, remedy));
            }
            (Child::Missing, Ground::Users { .. }, None) => return Ok(Walked::To(Looked::Missing)),
            (Child::Missing, Ground::Users { .. }, Some(_)) => place.make(name, PRIVATE)?,
        };
        if next.is_users_mount && make.is_none() {
            return Ok(Walked::To(Looked::OnUsersMount));
        }
        place = place.enter(next)?;
    }
    let mut target = match (place.child(last)?, make) {
        (Child::There(there), _) => there,
        (Child::Link(_), _) => return Err(no_directory(place.path.join(last))),
        (Child::Missing, None) => {
            place.group_to_make_with()?;
            return Ok(Walked::To(Looked::Missing));
        }
        (Child::Missing, Some(mode)) => place.make(last, mode)?,
    };
    if target.is_users_mount && make.is_none() {
        return Ok(Walked::To(Looked::OnUsersMount));
    }
    let mut stat = place.look_at(&target)?;
    // Another session of the user may have made it, and be about to give it away.
    let may_be_given = make.is_some() && matches!(place.ground, Ground::Roots) && !user.uid().is_root();
    let mut waited = Duration::ZERO;
    while may_be_given && stat.st_uid == 0 && waited < HANDOVER {
        thread::sleep(HANDOVER_PAUSE);
        waited += HANDOVER_PAUSE;
        let Child::There(there) = place.child(last)? else { return Err(vanished(&target.path)) };
        target = there;
        stat = place.look_at(&target)?;
    }
    check_private(&target.path, &stat, user)?;
    Ok(Walked::To(Looked::There(mode(&stat))))
}

/// What stands at a name.
enum Child {
    There(Found),
    /// A link that only root can change, and the path that it leads to.
    Link(PathBuf),
    Missing,
}

/// Whose business what is in a directory is.
enum Ground {
    /// Root's: nobody else can change it, but for members of trusted groups.
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
    stat: FileStat,
    user: User<'r>,
    ground: Ground,
    /// Whether members of a trusted group, or the user, can change what is in it: as its group, or as its owner.
    is_shared: bool,
}

impl<'r> Place<'r> {
    fn at(root: &'r Path, user: User<'r>) -> Result<Self> {
        let descriptor = open(root, ON_THE_WAY, Mode::empty()).context("opening the root directory")?;
        let stat = fstat(&descriptor).context("looking at the root directory")?;
        let on = On::of(&descriptor).context("looking at the root directory")?;
        let found = Found { path: PathBuf::from("/"), descriptor, on, is_users_mount: false };
        found.trusted(root, stat, user, Ground::Roots)
    }

    /// What stands at `name`, if anything does.
    fn child(&self, name: &OsStr) -> Result<Child> {
        let path = self.path.join(name);
        let (descriptor, on) = match open_directory(&self.descriptor, self.on, name) {
            Ok(opened) => opened,
            Err(Errno::ENOENT) => return Ok(Child::Missing),
            // With O_NOFOLLOW, O_DIRECTORY says this of a link too.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                if let Some(target) = self.link(name) {
                    return Ok(Child::Link(target));
                }
                return Err(no_directory(path));
            }
            Err(errno) => return Err(self.failed("opening", &path, errno)),
        };
        let is_users_mount = on != self.on && self.mounted_by_user(&path, on)?;
        Ok(Child::There(Found { path, descriptor, on, is_users_mount }))
    }

    /// Where a link leads that only root can change. Of its `..`, those at the beginning are understood.
    fn link(&self, name: &OsStr) -> Option<PathBuf> {
        if !matches!(self.ground, Ground::Roots) || !only_roots(&self.stat) {
            return None;
        }
        let target = PathBuf::from(readlinkat(&self.descriptor, name).ok()?);
        let mut led = self.path.clone();
        let mut has_gone_down = false;
        for component in target.components() {
            match component {
                Component::RootDir => led = PathBuf::from("/"),
                Component::Normal(name) => {
                    has_gone_down = true;
                    led.push(name);
                }
                Component::ParentDir if has_gone_down => return None,
                Component::ParentDir => {
                    led.pop();
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(led)
    }

    /// Whether it is the user who has mounted what is at `path`, and not root. Anybody else is refused.
    fn mounted_by_user(&self, path: &Path, on: On) -> Result<bool> {
        if mode(&self.stat).intersects(WRITABLE_BY_OTHERS) && !self.is_shared {
            let said = format!(
                "{} is a mount point where others can write: unmount it, or chmod go-w {}",
                shown(path),
                shown(&self.path)
            );
            return Err(Refused::error(Fault::Open, self.path.clone(), said));
        }
        let by = on.mounted_by(self.root).with_context(|| format!("finding who mounted {}", shown(path)))?;
        if by != 0 && by != self.user.account.uid {
            let said = format!("{0} was mounted by uid {by}, not by root: umount -l {0}", shown(path));
            return Err(Refused::error(Fault::Mounted, path, said));
        }
        Ok(by != 0)
    }

    fn look_at(&self, found: &Found) -> Result<FileStat> {
        fstat(&found.descriptor).map_err(|errno| self.failed("looking at", &found.path, errno))
    }

    /// Whether there is a file system of FUSE that the user has mounted. It lets in processes with the whole identity
    /// of the user's, and of others only those that the user and `/etc/fuse.conf` allow.
    fn is_closed_by_user(&self, path: &Path) -> bool {
        let point = fs::canonicalize(self.root).map(|root| root.join(path.strip_prefix("/").unwrap_or(path)));
        let mounts = fs::read(self.root.join("proc/self/mountinfo")).map(|text| mount::parse(&text));
        let (Ok(point), Ok(mounts)) = (point, mounts) else { return false };
        let uid = self.user.account.uid;
        uid != 0 && mounts.iter().any(|mount| mount.by == uid && mount.point == point)
    }

    /// Goes on to a directory in this one.
    fn enter(self, next: Found) -> Result<Self> {
        let stat = self.look_at(&next)?;
        next.trusted(self.root, stat, self.user, self.ground)
    }

    /// Makes a directory and gives it to the user. What is there in the end may be another's, who was
    /// quicker, and is for the caller to check.
    fn make(&self, name: &OsStr, mode: Mode) -> Result<Found> {
        let path = self.path.join(name);
        let group = self.group_to_make_with()?;
        // As the user, who may write there as a member of that group.
        let as_member = || group.map(|group| AsUser::take(self.user.uid(), group)).transpose();
        let rights = as_member()?;
        match mkdirat(&self.descriptor, name, PRIVATE) {
            Ok(()) => {
                let given = self.give(name, &path, mode, rights);
                if given.is_err() {
                    let _rights = as_member()?;
                    // What stayed would be root's, and be refused at every login from now on.
                    let _ = unlinkat(&self.descriptor, name, UnlinkatFlags::RemoveDir);
                }
                given?;
            }
            Err(Errno::EEXIST) => drop(rights),
            Err(errno) => return Err(self.failed("making", &path, errno)),
        }
        match self.child(name)? {
            Child::There(found) => Ok(found),
            Child::Link(_) | Child::Missing => Err(vanished(&path)),
        }
    }

    /// Makes a directory on the way for everybody: root's, in one that only root can change; in one that a trusted group
    /// shares, like that one, with the user's rights.
    fn make_shared(&self, name: &OsStr) -> Result<Found> {
        let path = self.path.join(name);
        let group = match self.ground {
            Ground::Roots => self.group_to_make_with()?,
            Ground::Users { .. } => {
                let group = self.stat.st_gid;
                self.user.account.has(group)?.then_some(Gid::from_raw(group))
            }
        };
        let rights = group.map(|group| AsUser::take(self.user.uid(), group)).transpose()?;
        let like = if self.is_shared { mode(&self.stat) } else { SEARCHABLE };
        let is_new = match mkdirat(&self.descriptor, name, like) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(self.failed("making", &path, errno)),
        };
        let Child::There(made) = self.child(name)? else { return Err(vanished(&path)) };
        if is_new && mode(&self.look_at(&made)?) != like {
            let directory = openat(&self.descriptor, name, TO_CHANGE, Mode::empty());
            let directory = directory.map_err(|errno| self.failed("opening", &path, errno))?;
            // mkdir(2) takes the umask into account; this does not.
            fchmod(directory.as_fd(), like)
                .map_err(|errno| self.failed("setting the mode of", &path, errno))?;
        }
        drop(rights);
        Ok(made)
    }

    /// The group with whose rights the user makes something here, where its members can change what is here: what root
    /// makes, they could replace before it is given away.
    ///
    /// # Errors
    /// The user is in no such group.
    fn group_to_make_with(&self) -> Result<Option<Gid>> {
        if !self.is_shared || !matches!(self.ground, Ground::Roots) {
            return Ok(None);
        }
        let group = self.stat.st_gid;
        let may_write = mode(&self.stat).contains(Mode::S_IWGRP) && self.user.account.has(group)?;
        // With root's rights, what was put in its place would be changed.
        if may_write && !self.user.uid().is_root() {
            return Ok(Some(Gid::from_raw(group)));
        }
        let (here, user) = (shown(&self.path), shown(&self.user.account.name).to_string());
        let (named, group) = (quoted(&user), group_name(group));
        let remedy = format!("usermod -aG {} {named}", quoted(&group));
        let said = format!(
            "{user} cannot make a directory in {here}, which others can change: {remedy}, or make it by hand, mode 700 and {user}'s"
        );
        Err(Refused::with_remedy(Fault::Missing, self.path.clone(), said, remedy))
    }

    /// On root's ground a directory that was just made cannot have been replaced: it is root's, in a
    /// directory that only root can change or that is sticky. On the user's, and where a group is trusted, it can, and
    /// the user's rights are all that this has.
    fn give(&self, name: &OsStr, path: &Path, mode: Mode, rights: Option<AsUser>) -> Result<()> {
        let directory = openat(&self.descriptor, name, TO_CHANGE, Mode::empty());
        let directory = directory.map_err(|errno| self.failed("opening", path, errno))?;
        let is_users = rights.is_some();
        drop(rights);
        // The group becomes the user's own, which takes the right to it.
        let _rights = is_users.then(|| AsUser::take(self.user.uid(), self.user.gid())).transpose()?;
        // mkdir(2) takes the umask and a set-group-ID parent into account; this does not.
        fchmod(directory.as_fd(), mode).map_err(|errno| self.failed("setting the mode of", path, errno))?;
        let owner = (!is_users).then(|| self.user.uid());
        match self.ground {
            Ground::Roots => fchown(directory.as_fd(), owner, Some(self.user.gid()))
                .map_err(|errno| self.failed("giving the user", path, errno)),
            Ground::Users { .. } => Ok(()),
        }
    }

    /// What was tried, what came back, and what to do about it.
    fn failed(&self, tried: &str, path: &Path, errno: Errno) -> Error {
        let remedy = match (errno, &self.ground) {
            (Errno::ENOSPC, _) => ": its file system has no space or no inodes left (df, df -i)".to_owned(),
            (Errno::EDQUOT, _) => format!(": raise the quota of uid {} there", self.user.account.uid),
            (Errno::EROFS, _) => ": mount its file system writable, or declare another path".to_owned(),
            (Errno::EACCES, _) if self.is_closed_by_user(path) => {
                return anyhow!(
                    "{} is a file system of FUSE that uid {} has mounted, which lets nobody else in, not even root to make a directory: mount it with -o allow_root (user_allow_other in /etc/fuse.conf), or declare another path",
                    shown(path),
                    self.user.account.uid
                );
            }
            (Errno::EACCES | Errno::EPERM, Ground::Roots) if !geteuid().is_root() => {
                ": this program does not run as root".to_owned()
            }
            (Errno::EACCES | Errno::EPERM, Ground::Roots) => {
                " even for root: is it NFS with root_squash? Declare a path on another file system".to_owned()
            }
            (Errno::EACCES | Errno::EPERM, Ground::Users { .. }) => {
                format!(
                    " for uid {}: see who may enter and change {}",
                    self.user.account.uid,
                    shown(&self.path)
                )
            }
            _ => String::new(),
        };
        anyhow!("{tried} {}: {}{remedy}", shown(path), errno.desc())
    }
}

impl Found {
    /// Nobody but root and the user may be able to put another directory in the place of what is in
    /// this one.
    fn trusted<'r>(
        self,
        root: &'r Path,
        stat: FileStat,
        user: User<'r>,
        ground: Ground,
    ) -> Result<Place<'r>> {
        let Self { path, descriptor, on, is_users_mount } = self;
        let owner = Uid::from_raw(stat.st_uid);
        let is_users = owner == user.uid();
        let is_roots_ground = matches!(ground, Ground::Roots);
        let mut is_shared = false;
        if !owner.is_root() && !is_users {
            if !is_roots_ground {
                let said = not_the_users(&path, owner);
                return Err(Refused::error(Fault::Owner, path, said));
            }
            is_shared = user.trusts_user(owner)?;
            if !is_shared {
                let said = format!("{0} belongs to uid {owner}, not to root: chown root {0}", shown(&path));
                return Err(Refused::error(Fault::Above, path, said));
            }
        }
        match open_to(&stat, &descriptor, user)? {
            OpenTo::Nobody => {}
            OpenTo::Trusted => is_shared = true,
            OpenTo::Group if !is_users => {
                let group = group_name(stat.st_gid);
                let said = format!(
                    "{0} can be changed by the group {1}: trusted_groups = [\"{1}\"] in the policy, chmod +t {0}, or another path",
                    shown(&path),
                    shown(&group)
                );
                return Err(Refused::error(Fault::Group, path, said));
            }
            OpenTo::Group | OpenTo::Others => {
                let entitled = if is_users { "the user" } else { "root" };
                let said = format!(
                    "{0} can be changed by others than {entitled}: chmod go-w or +t {0}",
                    shown(&path)
                );
                return Err(Refused::error(Fault::Open, path, said));
            }
        }
        let ground = match ground {
            Ground::Roots if is_users_mount || is_users && !owner.is_root() => {
                Ground::Users { _rights: AsUser::take(user.uid(), user.gid())? }
            }
            ground => ground,
        };
        Ok(Place { root, path, descriptor, on, stat, user, ground, is_shared })
    }
}

/// Who else than its owner and root can put something else in the place of what is in a directory.
enum OpenTo {
    Nobody,
    /// Members of a group that the policy trusts, or the user as the only one in a group.
    Trusted,
    /// Those of another group.
    Group,
    Others,
}

fn open_to(stat: &FileStat, directory: &OwnedFd, user: User<'_>) -> Result<OpenTo> {
    let mode = mode(stat);
    if mode.contains(Mode::S_ISVTX) || !mode.intersects(WRITABLE_BY_OTHERS) {
        return Ok(OpenTo::Nobody);
    }
    // With a list, the group's bits are the most that anybody in it has: acl(5).
    if mode.contains(Mode::S_IWOTH) || has_list(directory) {
        return Ok(OpenTo::Others);
    }
    let is_trusted = user.account.is_alone_in(stat.st_gid)? || user.trusts(stat.st_gid)?;
    Ok(if is_trusted { OpenTo::Trusted } else { OpenTo::Group })
}

/// What stands at the private path in the end.
fn check_private(path: &Path, stat: &FileStat, user: User<'_>) -> Result<()> {
    let owner = Uid::from_raw(stat.st_uid);
    if owner != user.uid() {
        return Err(Refused::error(Fault::Owner, path, not_the_users(path, owner)));
    }
    let open = mode(stat) & WRITABLE_BY_OTHERS;
    let is_groups = open == Mode::S_IWGRP && user.account.is_alone_in(stat.st_gid)?;
    if !open.is_empty() && !is_groups {
        let said = format!("{0} can be changed by others than the user: chmod go-w {0}", shown(path));
        return Err(Refused::error(Fault::Writable, path, said));
    }
    Ok(())
}

fn not_the_users(path: &Path, owner: Uid) -> String {
    format!("{} belongs to uid {owner}, not to the user: move it away", shown(path))
}

fn no_directory(path: PathBuf) -> Error {
    let said = format!("{} is a symbolic link or no directory", shown(&path));
    Refused::error(Fault::Kind, path, said)
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
    fn home() -> (TempDir, Account) {
        let home = TempDir::new().unwrap();
        let (mut uid, mut gid) = (geteuid(), getegid());
        if uid.is_root() {
            (uid, gid) = (Uid::from_raw(4242), Gid::from_raw(4242));
            chown(home.path(), Some(4242), Some(4242)).unwrap();
        }
        let user = nix::unistd::User {
            name: "user".to_owned(),
            passwd: c"".to_owned(),
            uid,
            gid,
            gecos: c"".to_owned(),
            dir: "/".into(),
            shell: "/".into(),
        };
        (home, user.into())
    }

    fn user(account: &Account) -> User<'_> {
        User { account, trusted: &[], ours: 1 }
    }

    fn made(home: &TempDir, account: &Account, path: &str, mode: Mode) -> Result<(), String> {
        walk(home.path(), Path::new(path), user(account), Some(mode))
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Whether it is there.
    fn looked(home: &TempDir, account: &Account, path: &str) -> Result<bool, String> {
        let looked = walk(home.path(), Path::new(path), user(account), None);
        looked.map(|looked| looked != Looked::Missing).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_missing_below_the_users_own_directory_is_made() {
        let (home, account) = home();
        assert_eq!(looked(&home, &account, "/.cache/a/target"), Ok(false));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "made by looking");
        for _ in ["made", "found"] {
            assert_eq!(made(&home, &account, "/.cache/a/target", Mode::from_bits_truncate(0o750)), Ok(()));
        }
        assert_eq!(looked(&home, &account, "/.cache/a/target"), Ok(true));
        for (path, mode) in [(".cache", 0o700), (".cache/a", 0o700), (".cache/a/target", 0o750)] {
            let stat = fs::metadata(home.path().join(path)).unwrap();
            assert_eq!((stat.uid(), stat.mode() & 0o7777), (account.uid, mode), "{path}");
        }
    }

    #[test]
    fn looking_says_what_would_be_refused() {
        let (home, account) = home();
        assert_eq!(made(&home, &account, "/way/target", PRIVATE), Ok(()));
        symlink("way", home.path().join("link")).unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        for (path, why) in [
            ("/link/target", "/link is a symbolic link or no directory"),
            ("/file", "/file is a symbolic link or no directory"),
            ("/way/../way/target", "/way/../way/target is no plain absolute path"),
            ("/", "the path has no last component"),
        ] {
            assert_eq!(looked(&home, &account, path), Err(why.to_owned()));
            assert_eq!(made(&home, &account, path, PRIVATE), Err(why.to_owned()));
        }
        let mode = |path: &str, mode| {
            fs::set_permissions(home.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        mode("way/target", 0o770);
        let why = "/way/target can be changed by others than the user: chmod go-w /way/target";
        assert_eq!(looked(&home, &account, "/way/target"), Err(why.to_owned()));
        mode("way/target", 0o700);
        mode("way", 0o770);
        let why = "/way can be changed by others than the user: chmod go-w or +t /way";
        assert_eq!(looked(&home, &account, "/way/target"), Err(why.to_owned()));
        mode("way", 0o1777);
        assert_eq!(looked(&home, &account, "/way/target"), Ok(true));
    }
}
