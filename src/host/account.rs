//! Users and groups, through NSS.
#![forbid(unsafe_code)]

use std::ffi::CString;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group, Uid, User};

/// A user and the groups it is in.
#[derive(Debug, Clone)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// The names of all its groups, the primary one first. A group without a name is left out.
    pub groups: Vec<String>,
    /// The primary group's name; its number where it has none.
    pub group: String,
}

/// The first number of a person's account, `UID_MIN` of `login.defs(5)` on Debian.
const UID_MIN: u32 = 1000;
/// `nobody`, for whom no one logs in.
const NOBODY: u32 = 65534;

impl Account {
    /// # Errors
    /// NSS failed. A user that does not exist is `None`.
    pub fn by_name(name: &str) -> Result<Option<Self>> {
        User::from_name(name)
            .with_context(|| format!("looking up user {name:?}"))?
            .map(Self::with_groups)
            .transpose()
    }

    /// # Errors
    /// NSS failed. A user that does not exist is `None`.
    pub fn by_uid(uid: u32) -> Result<Option<Self>> {
        User::from_uid(Uid::from_raw(uid))
            .with_context(|| format!("looking up uid {uid}"))?
            .map(Self::with_groups)
            .transpose()
    }

    fn with_groups(user: User) -> Result<Self> {
        let c_name = CString::new(user.name.as_str()).context("user name with a NUL byte")?;
        let primary = group_name(user.gid);
        let mut gids = nix::unistd::getgrouplist(&c_name, user.gid)
            .with_context(|| format!("listing the groups of {:?}", user.name))?;
        gids.retain(|gid| *gid != user.gid);
        let groups = primary.iter().cloned().chain(gids.into_iter().filter_map(group_name)).collect();
        let group = primary.unwrap_or_else(|| user.gid.to_string());
        Ok(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups, group })
    }

    /// Whether this is a person's account, not root's or a system service's.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.uid >= UID_MIN && self.uid != NOBODY
    }
}

fn group_name(gid: Gid) -> Option<String> {
    Group::from_gid(gid).ok().flatten().map(|group| group.name)
}

/// Whether there is a group of this name, as far as NSS says.
#[must_use]
pub fn group_exists(name: &str) -> bool {
    // A directory service that is down says nothing about its groups.
    Group::from_name(name).map_or(true, |group| group.is_some())
}

/// Whether there is a user of this name, as far as NSS says.
#[must_use]
pub fn user_exists(name: &str) -> bool {
    User::from_name(name).map_or(true, |user| user.is_some())
}
