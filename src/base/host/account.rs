//! Users and groups, through NSS.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Group, Uid, User};

use crate::policy::Who;
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
    gids: OnceLock<Vec<Gid>>,
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

    /// The primary group's name; its number where it has none.
    #[must_use]
    pub fn group(&self) -> String {
        group_name(self.gid)
    }

    /// Whether the user is in a group of this number, primary or supplementary.
    ///
    /// # Errors
    /// NSS failed.
    pub fn has(&self, gid: u32) -> Result<bool> {
        Ok(gid == self.gid || self.gids()?.contains(&Gid::from_raw(gid)))
    }

    /// Whether a group is the user's own, with nobody else in it: the primary one, called as the user is (`pam_umask(8)`,
    /// `usergroups`), that lists no other member.
    ///
    /// # Errors
    /// NSS failed.
    pub fn is_alone_in(&self, gid: u32) -> Result<bool> {
        if gid != self.gid {
            return Ok(false);
        }
        let group = Group::from_gid(Gid::from_raw(gid)).with_context(|| format!("looking up group {gid}"))?;
        let is_own = |name: &String| name.as_bytes() == self.name.as_bytes();
        Ok(group.is_some_and(|group| is_own(&group.name) && group.mem.iter().all(is_own)))
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

impl Who for Account {
    type Error = anyhow::Error;

    fn uid(&self) -> u32 {
        self.uid
    }

    fn name(&self) -> Option<&str> {
        self.name.as_str()
    }

    /// NSS is asked for a name that may well be another one of this user's, and for no other: a login would wait
    /// for each rule that is about somebody else.
    fn is_called(&self, name: &str) -> Result<bool> {
        let Some(own) = self.name.as_str() else { return Ok(false) };
        if own == name || !may_be_the_same(own, name) {
            return Ok(own == name);
        }
        Ok(Self::by_name(name)?.is_some_and(|other| other.uid == self.uid))
    }

    fn is_in(&self, group: &str) -> Result<bool> {
        let Some(gid) = group_number(group)? else { return Ok(false) };
        self.has(gid)
    }
}

/// Whether two names can be one user's. A directory service knows its users by several, and not by the same part of
/// them: `alice`, `ALICE@corp.example`, `CORP\alice`, `a.smith@corp.example`.
fn may_be_the_same(one: &str, other: &str) -> bool {
    let is_qualified = |name: &str| name.contains(['@', '\\']);
    one.eq_ignore_ascii_case(other) || is_qualified(one) || is_qualified(other)
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name.into(),
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir,
            gids: OnceLock::new(),
        }
    }
}

/// What a group is called; its number where it has no name.
#[must_use]
pub fn group_name(gid: u32) -> String {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    group.map_or_else(|| gid.to_string(), |group| group.name)
}

/// The number of the group of this name, if there is one.
///
/// # Errors
/// NSS failed.
pub fn group_number(name: &str) -> Result<Option<u32>> {
    let group = Group::from_name(name).with_context(|| format!("looking up group \"{}\"", shown(name)))?;
    Ok(group.map(|group| group.gid.as_raw()))
}

/// Whether there is a group of this name, as far as NSS says.
#[must_use]
pub fn group_exists(name: &str) -> bool {
    // A directory service that is down says nothing about its groups.
    group_number(name).map_or(true, |group| group.is_some())
}

/// What the user of this name is called, as NSS gives it back for their number; `None` where there is no such user, and
/// the name itself where NSS fails.
#[must_use]
pub fn user_called(name: &str) -> Option<String> {
    let Ok(user) = User::from_name(name) else { return Some(name.to_owned()) };
    let user = user?;
    let known = User::from_uid(user.uid).ok().flatten();
    Some(known.unwrap_or(user).name)
}

/// The same of a group.
#[must_use]
pub fn group_called(name: &str) -> Option<String> {
    let Ok(group) = Group::from_name(name) else { return Some(name.to_owned()) };
    let group = group?;
    let known = Group::from_gid(group.gid).ok().flatten();
    Some(known.unwrap_or(group).name)
}
