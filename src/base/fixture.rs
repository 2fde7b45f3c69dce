//! What the tests of several modules need, here and in the `fairslice` crate.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

/// Writes a file below `root`, and the directories that it is in.
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
