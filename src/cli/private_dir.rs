//! `fairslice private-dir`: what systemd's service calls.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Subcommand};

use super::out::say;
use super::{Arguments, complain};
use crate::enforce::private_dir::age;
use crate::policy::{self, InForce};
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// List the private directories that systemd-tmpfiles is to age now
    #[command(hide = true)]
    Tmpfiles,
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

pub(super) fn run(root: &Path, action: Action) -> Result<u8> {
    if let Action::Other(words) = action {
        let name = words.into_iter().next().unwrap_or_default();
        if name == "adopt" {
            bail!(
                "\"private-dir adopt\" was removed: what others have written is copied by the user, see \"A cache that was there before\" in fairslice-policy(5)"
            );
        }
        let message = format!("unrecognized subcommand '{}'", shown(&name));
        Arguments::command().error(ErrorKind::InvalidSubcommand, message).exit();
    }
    let loaded = policy::load(root);
    let broken = complain(&loaded);
    if loaded.in_force == InForce::Nothing {
        bail!("no policy says where private directories are: run \"fairslice check\"");
    }
    for line in age::list(root, &loaded.policy)? {
        say(format_args!("fairslice: {line}"));
    }
    Ok(broken)
}
