//! Users and groups, through NSS.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::ffi::CString;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group, Uid, User};

use crate::policy::PrivateDir;
use crate::text::{Foreign, shown};

/// A user. Groups are looked up when they are asked for: a directory service may be slow.
#[derive(Debug, Clone)]
pub struct Account {
    /// The login name, as far as nix hands it on: what is no UTF-8 in it is replaced.
    pub name: Foreign,
    /// The user's number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// The home directory, as NSS gives it.
    pub home: PathBuf,
    /// Every group's number.
    gids: OnceCell<Vec<Gid>>,
}

impl Account {
    /// # Errors
    /// NSS failed. A user that does not exist is `None`.
    pub fn by_name(name: &str) -> Result<Option<Self>> {
        let user = User::from_name(name).with_context(|| format!("looking up user \"{}\"", shown(name)))?;
        Ok(user.map(Self::from))
    }

    /// # Errors
    /// NSS failed. A user that does not exist is `None`.
    pub fn by_uid(uid: u32) -> Result<Option<Self>> {
        let user = User::from_uid(Uid::from_raw(uid)).with_context(|| format!("looking up uid {uid}"))?;
        Ok(user.map(Self::from))
    }

    /// Whether this is a person's account, not root's or a system service's.
    #[must_use]
    pub fn is_person(&self) -> bool {
        self.uid >= PrivateDir::MIN_UID && self.uid != PrivateDir::NOBODY
    }

    /// The primary group's name; its number where it has none.
    #[must_use]
    pub fn group(&self) -> String {
        let group = Group::from_gid(Gid::from_raw(self.gid)).ok().flatten();
        group.map_or_else(|| self.gid.to_string(), |group| group.name)
    }

    /// Whether the user is in a group, primary or supplementary. Nobody is in one that does not exist.
    ///
    /// # Errors
    /// NSS failed.
    pub fn is_in(&self, group: &str) -> Result<bool> {
        let Some(group) =
            Group::from_name(group).with_context(|| format!("looking up group \"{}\"", shown(group)))?
        else {
            return Ok(false);
        };
        Ok(group.gid.as_raw() == self.gid || self.gids()?.contains(&group.gid))
    }

    fn gids(&self) -> Result<&[Gid]> {
        if let Some(gids) = self.gids.get() {
            return Ok(gids);
        }
        let name = CString::new(self.name.as_bytes()).context("user name with a NUL byte")?;
        let gids = nix::unistd::getgrouplist(&name, Gid::from_raw(self.gid))
            .with_context(|| format!("listing the groups of \"{}\"", shown(&self.name)))?;
        Ok(self.gids.get_or_init(|| gids))
    }
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name.into(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            gids: OnceCell::new(),
        }
    }
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
