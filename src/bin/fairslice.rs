//! The command: see [`fairslice::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    fairslice::cli::main()
}
