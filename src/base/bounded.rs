//! Reading a file without asking for its size: one that may be anybody's mistake, and those of the kernel's, which
//! have none.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A larger file is no policy: 10,000 services take about half of this.
const LARGEST: u64 = 1 << 20;
/// What most files have room in, in bytes: they are read at once.
const MOST_OFTEN: usize = 1 << 10;

/// What is in a file.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or there is no memory for it.
pub fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    let bytes = read_up_to(LARGEST + 1, file)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// What is in a file of `/proc` or of cgroupfs.
///
/// # Errors
/// It cannot be read, or there is no memory for it.
pub fn read_attribute(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(u64::MAX, File::open(path)?)
}

/// `read_to_end` of a [`File`] itself asks for its size first.
fn read_up_to(most: u64, file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(MOST_OFTEN)?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
