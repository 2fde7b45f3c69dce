//! How the module is linked: with what a session runs side by side, see `session.ld`, and with GCC's unwinder in it
//! instead of loading `libgcc_s.so.1`.
//!
//! Hosts such as `sshd` and `cron` have no use for that library, and finding, mapping and relocating it adds
//! 130 to 160 µs to a session. The standard library asks the linker for `-lgcc_s`, which finds ours first: a
//! script that names the static archives of the same code. Their licence has an exception for that.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::{env, fs, io};

#[allow(clippy::disallowed_methods, reason = "cargo reads it")]
fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=session.ld");
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or(io::ErrorKind::NotFound)?);
    println!("cargo::rustc-link-arg-cdylib=-Wl,-T,{}", package.join("session.ld").display());
    let directory = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    // Relocations in a tenth of the space (glibc 2.36): the loader has fewer pages to read. And what is written to begins
    // with a page, which is two pages less to copy: lld does that if told to, GNU ld ignores it.
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,pack-relative-relocs");
    println!("cargo::rustc-link-arg-cdylib=-Wl,-z,separate-loadable-segments");
    fs::write(directory.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
    println!("cargo::rustc-link-search=native={}", directory.display());
    Ok(())
}
