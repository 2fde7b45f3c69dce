//! Whether memory can be had, for code that runs in somebody else's process: where an allocation fails,
//! Rust ends that.
#![forbid(unsafe_code)]

use std::hint::black_box;

/// Whether this many bytes can be allocated at once. They are given back.
#[must_use]
pub fn is_there_for(bytes: usize) -> bool {
    let mut block: Vec<u8> = Vec::new();
    let reserved = block.try_reserve_exact(bytes).is_ok();
    // A block that nobody looks at is one that the compiler may leave out.
    black_box(&block);
    reserved
}
