//! `fairslice private-dir`.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Subcommand;
use nix::unistd::geteuid;

use super::out::{print, say};
use super::{FOUND, complain};
use crate::enforce::private_dir::adopt::{Adoption, Outcome};
use crate::enforce::private_dir::age;
use crate::policy::{self, InForce};
use crate::text::shown;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Move what is in DIR, an existing cache, into USER's private directory, without copying
    Adopt {
        /// The cache, on the same file system; private directories in it are left alone
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Who owns all of it afterwards
        #[arg(long = "to", value_name = "USER")]
        user: String,
        /// Which private directory, where the policy has several for USER
        #[arg(long, value_name = "NAME")]
        variable: Option<String>,
        /// Say what would be moved and what not, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the private directories that systemd-tmpfiles is to age now
    #[command(hide = true)]
    Tmpfiles,
}

pub(super) fn run(root: &Path, action: Action) -> Result<u8> {
    let loaded = policy::load(root);
    let broken = complain(&loaded);
    if loaded.in_force == InForce::Nothing {
        bail!("no policy says where private directories are: run \"fairslice check\"");
    }
    match action {
        Action::Adopt { directory, user, variable, dry_run } => {
            if !geteuid().is_root() {
                bail!("only root can see who uses a cache, and give it away: run this as root");
            }
            let adoption = Adoption::new(root, &loaded.policy, &directory, &user, variable.as_deref())?;
            let outcome = if dry_run { adoption.preview(root) } else { adoption.run(root, &mut *progress()) };
            let Outcome { target, files, left } = outcome?;
            for line in &left {
                say(format_args!("fairslice: left: {line}"));
            }
            let would = if dry_run { "would be " } else { "" };
            print(&format!(
                "{}: {files} files {would}moved to {}, {} left\n",
                shown(&directory),
                shown(&target),
                left.len()
            ))?;
            Ok(broken.max(if left.is_empty() { 0 } else { FOUND }))
        }
        Action::Tmpfiles => {
            for line in age::list(root, &loaded.policy)? {
                say(format_args!("fairslice: {line}"));
            }
            Ok(broken)
        }
    }
}

/// Counts on a terminal, ten times a second at most.
fn progress() -> Box<dyn FnMut(u64, u64)> {
    const PAUSE: Duration = Duration::from_millis(100);
    if !io::stderr().is_terminal() {
        return Box::new(|_, _| {});
    }
    let mut shown = Instant::now();
    Box::new(move |done, all| {
        if shown.elapsed() >= PAUSE || done == all {
            shown = Instant::now();
            let end = if done == all { "\n" } else { "" };
            // A terminal that is gone is no reason to stop.
            let _ = write!(io::stderr(), "\r{done} of {all} files{end}");
        }
    })
}
