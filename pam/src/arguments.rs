//! The module's arguments, as `pam.conf(5)` passes them.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fairslice_base::text::shown;

/// What stands behind `pam_fairslice.so` in the PAM configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// `strict`: the session is refused when something of it was skipped.
    pub(crate) strict: bool,
    /// `debug`: what was done is logged too.
    pub(crate) debug: bool,
    /// `noplace`: the session stays in the cgroup that it is in.
    pub(crate) noplace: bool,
    /// `root=DIR`: everything is looked up below this directory, for tests; else `/`.
    pub(crate) root: PathBuf,
    /// One line for each argument that was ignored.
    pub(crate) ignored: Vec<String>,
}

impl Arguments {
    /// Understands what it can; the last of several `root=` wins.
    pub(crate) fn parse(arguments: &[&CStr]) -> Self {
        let mut parsed = Self {
            strict: false,
            debug: false,
            noplace: false,
            root: PathBuf::from("/"),
            ignored: Vec::new(),
        };
        for argument in arguments {
            let bytes = argument.to_bytes();
            let root = bytes.strip_prefix(b"root=").map(|path| Path::new(OsStr::from_bytes(path)));
            match (bytes, root) {
                (b"strict", _) => parsed.strict = true,
                (b"debug", _) => parsed.debug = true,
                (b"noplace", _) => parsed.noplace = true,
                (_, Some(root)) if root.is_absolute() => parsed.root = PathBuf::from(root),
                (_, Some(root)) => {
                    parsed.ignored.push(format!("root={} is ignored: not an absolute path", shown(root)));
                }
                _ => parsed.ignored.push(format!(
                    "argument {} is ignored: none of strict, debug, noplace, root=DIR",
                    shown(OsStr::from_bytes(bytes))
                )),
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood_or_named() {
        let none = Arguments::parse(&[]);
        assert_eq!(none.root, Path::new("/"));
        assert!(!none.strict && !none.debug && !none.noplace && none.ignored.is_empty());

        let all = Arguments::parse(&[c"strict", c"root=/a b", c"debug", c"noplace"]);
        assert_eq!(all.root, Path::new("/a b"));
        assert!(all.strict && all.debug && all.noplace && all.ignored.is_empty());

        let wrong = Arguments::parse(&[c"Strict", c"root=x", c"root=", c"", c"\xff"]);
        assert!(!wrong.strict);
        assert_eq!(wrong.root, Path::new("/"));
        assert_eq!(wrong.ignored.len(), 5);
        assert!(wrong.ignored[0].starts_with("argument Strict is ignored"));
        assert!(wrong.ignored[1].starts_with("root=x is ignored"));
    }
}
