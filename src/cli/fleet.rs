//! `fairslice fleet`: what `status --json` has said of many hosts. How it got here is no business of ours.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::out::{print, say};
use super::{FAILED, FOUND};
use crate::report::{self, Fleet};
use crate::text::Foreign;

/// A machine with 10,000 cgroups has some 15 MB.
const LARGEST: u64 = 1 << 28;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What "fairslice status --json" has printed, one or more in a FILE; "-" is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<u8> {
    let mut fleet = Fleet::default();
    for file in &options.files {
        let name = if is_stdin(file) { Foreign::from("stdin") } else { Foreign::from(file.as_path()) };
        match read(file) {
            Ok(bytes) => fleet.add(&name, &bytes),
            Err(error) => fleet.fail(name, format!("cannot be read: {error}")),
        }
    }
    print(&if options.json { report::fleet_json(&fleet) } else { report::fleet_text(&fleet) })?;
    let unread = fleet.unread();
    for line in &unread {
        say(format_args!("fairslice: {line}"));
    }
    Ok(match (unread.is_empty(), fleet.is_well()) {
        (false, _) => FAILED,
        (true, false) => FOUND,
        (true, true) => 0,
    })
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == OsStr::new("-")
}

pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    let source: Box<dyn Read> =
        if is_stdin(file) { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    let mut bytes = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 256 MiB"));
    }
    Ok(bytes)
}
