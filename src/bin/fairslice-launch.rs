//! The ExecStart wrapper: see [`fairslice::enforce::launch`].
#![no_main]
#![forbid(unsafe_code)]

fairslice::c_main!(fairslice::enforce::launch::main);
