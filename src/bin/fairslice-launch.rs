//! The ExecStart wrapper: see [`fairslice::enforce::launch`].
#![no_main]
#![forbid(unsafe_code)]

use dlmalloc::GlobalDlmalloc;

fairslice::c_main!(fairslice::enforce::launch::main);

#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;
