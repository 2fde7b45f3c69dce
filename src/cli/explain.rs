//! `fairslice explain`: what something comes to, and why.
#![forbid(unsafe_code)]

mod login;
mod memory;
mod oom;
pub(super) mod process;
mod share;
mod unit;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Explain {
    /// Which rule holds for USER, and what the login gets: slice, weights, limits, directories
    Login(login::Options),
    /// The way of each value of UNIT: policy, drop-in, PID 1, cgroupfs, process
    Unit(unit::Options),
    /// Which part of the machine's CPU time, or of its disks', each unit, slice and login gets when all are busy
    Share(share::Options),
    /// What is protected of each unit's memory and which ceiling holds; of NAME, how that comes about
    Memory(memory::Options),
    /// Who is killed next when memory runs out, what goes with it, and who never is
    Oom(oom::Options),
    /// What process PID is due of the machine and gets, which limits hold it, and who set each
    Process(process::Options),
}

pub(super) fn run(root: &Path, what: Explain) -> Result<u8> {
    match what {
        Explain::Login(options) => login::run(root, &options),
        Explain::Unit(options) => unit::run(root, &options),
        Explain::Share(options) => share::run(root, &options),
        Explain::Memory(options) => memory::run(root, &options),
        Explain::Oom(options) => oom::run(root, &options),
        Explain::Process(options) => process::run(root, &options),
    }
}
