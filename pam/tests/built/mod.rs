//! What the tests of the module run, built from this tree.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The module, built as it is shipped: alone, so that no other package's features are in it. `FAIRSLICE_MODULE`
/// names another build of it, such as that of tests/sanitized.
pub(crate) fn module() -> PathBuf {
    if let Some(module) = std::env::var_os("FAIRSLICE_MODULE") {
        return PathBuf::from(module);
    }
    build(&["--package", "pam_fairslice"]).join("libpam_fairslice.so")
}

/// Has cargo build something, and says into which directory.
pub(crate) fn build(what: &[&str]) -> PathBuf {
    // Cargo's directory for tests lies in the target directory of this build.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet"]).args(what).arg("--target-dir").arg(target);
    if profile == "release" {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{what:?} does not build");
    target.join(profile)
}

/// The program `name`, from a C file of this directory of tests; `libraries` are flags for the linker.
pub(crate) fn program(name: &str, source: &str, libraries: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut compiler = Command::new(compiler);
    compiler.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-o"]).arg(&program).arg(source);
    let status = compiler.args(libraries).status();
    let status = status.unwrap_or_else(|error| panic!("cc: {error}: apt-get install gcc libpam0g-dev"));
    assert!(status.success(), "{name} does not build: apt-get install libpam0g-dev");
    program
}
