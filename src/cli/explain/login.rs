//! `fairslice explain login`.
#![forbid(unsafe_code)]

use std::path::Path;

use anyhow::Result;
use clap::Args;

use crate::cli::out::{print, say};
use crate::cli::{complain, not_in_force};
use crate::enforce::login::explain::explain;
use crate::policy;
use crate::report;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The user's name
    #[arg(value_name = "USER")]
    user: String,
    /// The PAM service of the login: a file in /etc/pam.d
    #[arg(long, value_name = "SERVICE", default_value = "sshd")]
    service: String,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(root: &Path, options: &Options) -> Result<u8> {
    let Options { user, service, json } = options;
    let mut loaded = policy::load(root);
    loaded.policy.find_disks(root);
    if let Some(line) = not_in_force(root, &loaded) {
        say(format_args!("fairslice: {line}"));
    }
    let explained = explain(root, &loaded.policy, user, service)?;
    let text =
        if *json { report::login_json(&explained, service) } else { report::login_text(&explained, service) };
    print(&text)?;
    Ok(complain(&loaded))
}
