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
/// What an attribute is read by.
const PAGE: usize = 4096;

/// What is in a file.
///
/// # Errors
/// It cannot be read, is larger than 1 MiB, or there is no memory for it.
pub fn read_bounded(file: File) -> io::Result<Vec<u8>> {
    // read_to_end() of a File itself asks for its size first.
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(MOST_OFTEN)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// What one of the kernel's attributes says: a file of cgroupfs, or of a process in `/proc`, that is no list.
///
/// # Errors
/// It cannot be opened or read, or there is no memory for it.
pub fn read_attribute(path: &Path) -> io::Result<Vec<u8>> {
    read_opened(File::open(path)?)
}

/// The same of one that is open.
///
/// # Errors
/// It cannot be read, or there is no memory for it.
pub fn read_opened(mut attribute: File) -> io::Result<Vec<u8>> {
    let (mut page, mut bytes) = ([0; PAGE], Vec::new());
    loop {
        let read = match attribute.read(&mut page) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => page.get(..read?).unwrap_or_default(),
        };
        bytes.try_reserve_exact(read.len())?;
        bytes.extend_from_slice(read);
        // The kernel writes an attribute at one go: one that does not fill a page has been read.
        if read.len() < PAGE {
            return Ok(bytes);
        }
    }
}
