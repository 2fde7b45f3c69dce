//! The module as a shared object: what it brings into a host, and that a panic still ends in it, although
//! its unwinder is linked in (`build.rs`).
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and this file has helpers of tests"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAM_SESSION_ERR: &str = "open: 14";

/// Builds what is named, and returns the directory it is in.
fn build(what: &[&str]) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "pam_fairslice", "--target-dir"]).arg(target).args(what);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{what:?} does not build");
    target.join(if cfg!(debug_assertions) { "debug" } else { "release" })
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_libpam_and_libc_come_with_it_and_only_the_hooks_are_seen() {
    let module = build(&["--lib"]).join("libpam_fairslice.so");
    let module = module.to_str().unwrap();
    let dynamic = output("readelf", &["--dynamic", "--wide", module]);
    let needed = dynamic.lines().filter_map(|line| line.split_once("Shared library: [")?.1.strip_suffix(']'));
    // The loader's name is the architecture's.
    let needed: Vec<_> = needed.filter(|name| !name.starts_with("ld-linux-")).collect();
    assert_eq!(needed, ["libpam.so.0", "libc.so.6"]);
    let symbols = output("nm", &["--dynamic", "--defined-only", "--format=just-symbols", module]);
    let hooks = ["acct_mgmt", "authenticate", "chauthtok", "close_session", "open_session", "setcred"];
    assert_eq!(symbols.lines().collect::<Vec<_>>(), hooks.map(|hook| format!("pam_sm_{hook}")));
}

#[test]
fn a_panic_ends_in_the_module_whatever_unwinder_its_host_has() {
    let module = build(&["--example", "bug"]).join("examples/libbug.so");
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("object");
    let host = work.join("host");
    fs::create_dir_all(work.join("pam.d")).unwrap();
    fs::write(work.join("pam.d/test"), format!("session required {}\n", module.display())).unwrap();
    fs::write(work.join("pam.d/other"), "").unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/host.c");
    output("cc", &["-std=gnu11", "-o", host.to_str().unwrap(), source.to_str().unwrap(), "-lpam"]);
    for preloaded in ["", "libgcc_s.so.1"] {
        let mut host = Command::new(&host);
        host.arg(work.join("pam.d")).args(["test", "root", "2"]).env("LD_PRELOAD", preloaded);
        let host = host.output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&host.stdout), String::from_utf8_lossy(&host.stderr));
        assert!(host.status.success(), "{preloaded}: {}: {errors}", host.status);
        assert!(said.lines().any(|line| line == PAM_SESSION_ERR), "{preloaded}: {said}");
        assert_eq!(errors, "", "{preloaded}");
    }
}
