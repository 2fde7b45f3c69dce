//! Numbers the sources: the compiled policy of one number is not read by a build of another.
//!
//! A list of what has to do with the layout would miss something one day; all sources of this crate, which has
//! every type that is serialized, and the versions of all dependencies are in the number, and no path of the
//! machine or time, so that every build of them has the same.
#![forbid(unsafe_code)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let mut number = DefaultHasher::new();
    for path in ["../../Cargo.lock", "../../Cargo.toml", "."] {
        println!("cargo::rerun-if-changed={path}");
        add(Path::new(path), &mut number)?;
    }
    println!("cargo::rustc-env=FAIRSLICE_SOURCES={:016x}", number.finish());
    Ok(())
}

fn add(path: &Path, number: &mut DefaultHasher) -> io::Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
        let mut entries = entries.collect::<io::Result<Vec<PathBuf>>>()?;
        entries.sort();
        return entries.iter().try_for_each(|entry| add(entry, number));
    }
    path.hash(number);
    fs::read(path)?.hash(number);
    Ok(())
}
