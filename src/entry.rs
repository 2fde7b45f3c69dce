//! How `fairslice-launch` starts: at C's `main`, without Rust's own start-up.
//!
//! That start-up ignores `SIGPIPE` and opens `/dev/null` on closed standard descriptors, and a
//! plain `execve` would hand both on to the service. Of what else it does only the arguments are
//! needed here, and `std::env::args_os` knows them without it under glibc, but not under musl.
//!
//! This is the one file outside the PAM module's FFI where `unsafe` stands.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// Makes `$run`, a `fn(Vec<OsString>) -> u8` of the program's arguments without its name, the
/// program's C `main`.
#[macro_export]
macro_rules! c_main {
    ($run:path) => {
        // SAFETY: the symbol is the C runtime's `main`, defined once, in a binary that is
        // `#![no_main]`; only the C runtime calls it, with the arguments that C promises.
        #[unsafe(no_mangle)]
        extern "C" fn main(
            count: core::ffi::c_int,
            words: *const *const core::ffi::c_char,
        ) -> core::ffi::c_int {
            // SAFETY: as above.
            let words = unsafe { $crate::entry::arguments(count, words) };
            core::ffi::c_int::from($run(words))
        }
    };
}

/// The arguments of a C `main`, without the program's name.
///
/// # Safety
/// `words` must be an array of at least `count` pointers to strings, as C promises them to `main`.
#[must_use]
pub unsafe fn arguments(count: c_int, words: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller's.
    let word = |index| unsafe { CStr::from_ptr(*words.add(index)) };
    (1..count).map(|index| OsString::from_vec(word(index).to_bytes().to_vec())).collect()
}
