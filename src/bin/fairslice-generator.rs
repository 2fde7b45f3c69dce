//! The systemd generator: see [`fairslice::enforce::generator`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    fairslice::enforce::generator::main()
}
