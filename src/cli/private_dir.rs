//! `fairslice private-dir`.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Subcommand};

use super::out::{print, say};
use super::{Arguments, FAILED, complain};
use crate::enforce::private_dir::age;
use crate::enforce::private_dir::reclaim::{Reclaimed, reclaim};
use crate::policy::{self, InForce};
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Remove what nobody has used for as long as the policy says
    #[command(hide = true)]
    Age,
    /// Make a user's own what others have left in the user's private directories
    Reclaim {
        /// The user's name
        #[arg(value_name = "USER")]
        user: String,
    },
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

pub(super) fn run(root: &Path, action: Action) -> Result<u8> {
    let action = match action {
        Action::Other(words) => return no_such(&words.into_iter().next().unwrap_or_default()),
        action => action,
    };
    let loaded = policy::load(root);
    let broken = complain(&loaded);
    if loaded.in_force == InForce::Nothing {
        bail!("no policy says where private directories are: run \"fairslice check\"");
    }
    let Action::Reclaim { user } = action else {
        say_all(&age::age(root, &loaded.policy, SystemTime::now())?);
        return Ok(broken);
    };
    let Reclaimed { directories, files, left } = reclaim(root, &loaded.policy, &user)?;
    print(&format!("made {}'s own: {directories} directories, {files} files\n", shown(&user)))?;
    say_all(&left);
    Ok(if left.is_empty() { broken } else { FAILED })
}

fn say_all(lines: &[String]) {
    for line in lines {
        say(format_args!("fairslice: {line}"));
    }
}

fn no_such(name: &OsStr) -> Result<u8> {
    if name == "adopt" {
        bail!(
            "\"private-dir adopt\" was removed: what others have written is copied by the user, see \"A cache that was there before\" in fairslice-policy(5)"
        );
    }
    let message = format!("unrecognized subcommand '{}'", shown(name));
    Arguments::command().error(ErrorKind::InvalidSubcommand, message).exit();
}
