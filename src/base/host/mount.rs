//! What is mounted where, and by whom: `proc_pid_mountinfo(5)`.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};

use crate::text::shown;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The file system's device, `major:minor`.
    pub device: OsString,
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// Who has mounted it, see [`On::mounted_by`].
    pub by: u32,
}

/// The mount that an open file or directory lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct On {
    id: u64,
    is_device: bool,
}

impl On {
    /// Of this one. Its file system is not asked: it need not answer.
    ///
    /// # Errors
    /// The kernel cannot tell: it is older than 5.8.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = statx(file, c"", flags, StatxFlags::MNT_ID)
            .map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
        if stat.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(Errno::ENOSYS);
        }
        Ok(Self { id: stat.stx_mnt_id, is_device: stat.stx_dev_major != 0 })
    }

    /// Whether what was looked at, its mount included, lies on this one.
    #[must_use]
    pub fn holds(self, stat: &Statx) -> bool {
        stat.stx_mnt_id == self.id
    }

    /// The user who has mounted it, root but for FUSE: `fusermount3(1)` mounts for anybody, wherever they may
    /// write, a file system that says what it likes of owners and modes.
    ///
    /// # Errors
    /// `/proc` cannot be read, or the mount has been taken away.
    pub fn mounted_by(self, root: &Path) -> Result<u32> {
        // Of a block device, fusermount mounts nothing but for root.
        if self.is_device {
            return Ok(0);
        }
        let file = root.join("proc/self/mountinfo");
        let text = fs::read(&file).with_context(|| format!("reading {}", shown(&file)))?;
        let id = format!("{} ", self.id);
        let line = lines(&text).find(|line| line.starts_with(id.as_bytes()));
        let mount = line.and_then(Mount::parse).context("it was unmounted meanwhile")?;
        Ok(mount.by)
    }
}

impl Mount {
    /// One line: number, parent, device, root, point, options, optional fields, a dash, type, source, and the
    /// file system's own options.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = OsStr::from_bytes(fields.next()?).to_owned();
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
        let is_fuse = fields.next().is_some_and(|kind| kind.starts_with(b"fuse"));
        let options = fields.nth(1).unwrap_or_default().split(|byte| *byte == b',');
        let user = options.filter_map(|option| option.strip_prefix(b"user_id=")).find(|_| is_fuse);
        // What is no number is nobody's whom one would trust.
        let number = |digits| std::str::from_utf8(digits).ok()?.parse().ok();
        let by = user.map_or(0, |digits| number(digits).unwrap_or(u32::MAX));
        Some(Self { device, root, point, by })
    }
}

/// From the text of `/proc/PID/mountinfo`.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    lines(text).filter_map(Mount::parse).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// `\040` is a space: three octal digits for what would end a field.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *byte == b'\\');
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_mounted_it() {
        let by = |rest: &str| Mount::parse(format!("40 22 0:5 / /srv rw {rest}").as_bytes()).unwrap().by;
        assert_eq!(by("- fuse.sshfs a@b:/user_id=0 rw,user_id=1001,group_id=1001,allow_other"), 1001);
        assert_eq!(by("shared:1 master:2 - fuse x user_id=7"), 7);
        assert_eq!(by("- fuse.glusterfs h:/v rw,user_id=0,group_id=0"), 0);
        assert_eq!(by("- fuseblk /dev/sdb1 rw,user_id=x"), u32::MAX);
        // Others have no such option, and may call their source anything.
        assert_eq!(by("- tmpfs user_id=7 rw,user_id=7"), 0);
        assert_eq!(by(""), 0);
    }

    #[test]
    fn fields_are_unescaped() {
        let [mount] =
            parse(b"30 22 8:2 /a\\040b /mnt\\134x\\012 rw - ext4 /dev/sda2 rw\n").try_into().unwrap();
        assert_eq!((mount.root, mount.point), ("/a b".into(), "/mnt\\x\n".into()));
    }
}
