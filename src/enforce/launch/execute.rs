//! The command takes this process's place.
#![forbid(unsafe_code)]

use std::ffi::{CString, NulError, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::execv;

use super::arguments::Arguments;
use crate::text::shown;

/// What `execvp(3)` searches where there is no `PATH`, `confstr(_CS_PATH)` of glibc.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Executes the command; returns only with what went wrong.
pub(super) fn execute(arguments: Arguments) -> String {
    let Arguments { argv0, program, rest, .. } = arguments;
    let name = argv0.unwrap_or_else(|| program.clone());
    let strings: Result<Vec<CString>, NulError> =
        std::iter::once(name).chain(rest).map(|word| CString::new(word.into_vec())).collect();
    let Ok(strings) = strings else { return "an argument holds a NUL byte".to_owned() };
    let cause = if program.as_bytes().contains(&b'/') {
        cause(&program, try_execute(&program, &strings))
    } else {
        search(&program, &strings)
    };
    format!("cannot execute {}: {cause}", shown(&program))
}

/// Tries the directories of `PATH` in their order, as `execvp(3)`; but a file that the kernel takes
/// for no program is not handed to a shell. systemd hands it to none either.
fn search(program: &OsStr, strings: &[CString]) -> String {
    #[expect(clippy::disallowed_methods, reason = "the command's own, to find the command")]
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let mut denied = None;
    for directory in std::env::split_paths(&path) {
        let candidate = directory.join(program);
        match try_execute(candidate.as_os_str(), strings) {
            Errno::ENOENT if !candidate.exists() => {}
            Errno::ENOTDIR => {}
            Errno::EACCES => {
                denied.get_or_insert(candidate);
            }
            errno => return format!("{}: {}", shown(&candidate), cause(candidate.as_os_str(), errno)),
        }
    }
    match denied {
        Some(candidate) => {
            format!("{}: {}", shown(&candidate), cause(candidate.as_os_str(), Errno::EACCES))
        }
        None => "not found in PATH".to_owned(),
    }
}

fn try_execute(program: &OsStr, strings: &[CString]) -> Errno {
    let Ok(program) = CString::new(program.as_bytes()) else { return Errno::EINVAL };
    let Err(errno) = execv(&program, strings);
    errno
}

fn cause(program: &OsStr, errno: Errno) -> String {
    let program = Path::new(program);
    match errno {
        Errno::ENOENT if program.exists() => {
            "its interpreter (\"#!\" line or ELF loader) is missing".to_owned()
        }
        Errno::EACCES if program.is_dir() => "it is a directory".to_owned(),
        Errno::ENOEXEC => format!("{}: it is no program and has no \"#!\" line", errno.desc()),
        errno => errno.desc().to_owned(),
    }
}
