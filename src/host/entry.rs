//! How `fairslice-launch` starts: at C's `main`, without Rust's own start-up.
//!
//! That start-up ignores `SIGPIPE` and opens `/dev/null` on closed standard descriptors, and a
//! plain `execve` would hand both on to the service. Nothing of it is needed here: on Linux,
//! `std::env::args_os` knows the arguments from the program's `.init_array`.
//!
//! This is the one file outside the PAM module's FFI where `unsafe` stands.

/// Makes `$run`, an `fn() -> ExitCode`-like `fn() -> u8`, the program's C `main`.
#[macro_export]
macro_rules! c_main {
    ($run:path) => {
        // SAFETY: the symbol is the C runtime's `main`, defined once, in a binary that is
        // `#![no_main]`; the arguments are not used.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> core::ffi::c_int {
            core::ffi::c_int::from($run())
        }
    };
}
