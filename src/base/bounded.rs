//! Reading a file without asking for its size: one that may be anybody's mistake, and those of the kernel's, which
//! have none.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read as _};

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

/// What one of the kernel's attributes says: a file of cgroupfs, or of a process in `/proc`, that is no list.
///
/// # Errors
/// It cannot be read, or there is no memory for it.
pub fn read_attribute(mut file: File) -> io::Result<Vec<u8>> {
    let (mut page, mut bytes) = ([0; 4096], Vec::new());
    loop {
        let read = match file.read(&mut page) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => page.get(..read?).unwrap_or_default(),
        };
        bytes.try_reserve_exact(read.len())?;
        bytes.extend_from_slice(read);
        // The kernel writes an attribute at one go: one that does not fill a page has been read.
        if read.len() < 4096 {
            return Ok(bytes);
        }
    }
}

/// `read_to_end` of a [`File`] itself asks for its size first.
fn read_up_to(most: u64, file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(MOST_OFTEN)?;
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
