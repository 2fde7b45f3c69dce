//! What a cgroup is to PID 1, by its name and by where it lies.
//!
//! PID 1 makes cgroups for its units alone: a slice where its name says (`a-b.slice` in `a.slice`), every other
//! unit directly in a slice. A slice cannot be handed over; any other unit can (`Delegate=` of
//! `systemd.resource-control(5)`, and `user@UID.service` always is). Whoever has been given one makes in it what
//! they like, and calls it what they like, `system.slice` for instance: nothing in there is a unit of PID 1's.
//! The attribute `user.delegate` would say less: its cgroup's owner may remove it.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::text::Foreign;
use crate::units::{ServiceName, SliceName, is_unit_name, unescaped};

/// The root slice.
const ROOT: &str = "-.slice";

/// What a cgroup is to PID 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// A slice; the root of the tree is one.
    #[default]
    Slice,
    /// Another unit: a service, a scope.
    Unit,
    /// Directly in a slice, and no unit: another program of root's has made it.
    Stranger,
    /// In a unit or a stranger, at any depth.
    Inside,
}

impl Standing {
    /// Of a cgroup of this name in one of that standing and name; the root's is empty.
    #[must_use]
    pub fn of(name: &OsStr, parent: Self, parent_name: &OsStr) -> Self {
        if parent != Self::Slice {
            return Self::Inside;
        }
        match unit_name(name) {
            Some(slice) if slice.ends_with(".slice") => match SliceName::new(slice) {
                Ok(slice) if slice.parent().as_ref().map(SliceName::as_str) == unit_name(parent_name) => {
                    Self::Slice
                }
                _ => Self::Stranger,
            },
            Some(_) => Self::Unit,
            None => Self::Stranger,
        }
    }
}

/// The unit whose cgroup has this name.
#[must_use]
pub fn unit_name(name: &OsStr) -> Option<&str> {
    Some(unescaped(name.to_str()?)).filter(|name| is_unit_name(name))
}

/// The unit that a cgroup belongs to, as systemd's `cg_path_get_unit` has it: a service, a scope, never a slice.
/// `None` for what is directly in a slice, and where another program than PID 1 has made the cgroup.
#[must_use]
pub fn unit(cgroup: &Path) -> Option<&str> {
    let (mut above, mut standing) = (OsStr::new(""), Standing::Slice);
    for name in cgroup {
        standing = Standing::of(name, standing, above);
        match standing {
            Standing::Slice => above = name,
            Standing::Unit => return unit_name(name),
            Standing::Stranger | Standing::Inside => return None,
        }
    }
    None
}

/// The unit whose cgroup this is itself: a slice too, and `-.slice` for the root. `None` for all else, which is
/// called by its path.
#[must_use]
pub fn own_unit(cgroup: &Path) -> Option<&str> {
    let (mut above, mut standing) = (OsStr::new(""), Standing::Slice);
    for name in cgroup {
        standing = Standing::of(name, standing, above);
        above = name;
    }
    match standing {
        Standing::Slice if above.is_empty() => Some(ROOT),
        Standing::Slice | Standing::Unit => unit_name(above),
        Standing::Stranger | Standing::Inside => None,
    }
}

/// The service that a cgroup belongs to.
#[must_use]
pub fn service(cgroup: &Path) -> Option<ServiceName> {
    unit(cgroup).filter(|name| name.ends_with(".service")).and_then(|name| ServiceName::new(name).ok())
}

/// What to call the place of a process: the unit that it belongs to, the slice that it is directly in; else its
/// cgroup's path, which begins with a `/`.
#[must_use]
pub fn place(cgroup: &Path) -> Foreign {
    let unit = unit(cgroup).or_else(|| own_unit(cgroup));
    unit.map_or_else(|| absolute(cgroup), Foreign::from)
}

/// The path from the root of the tree, which is `/`.
#[must_use]
pub fn absolute(cgroup: &Path) -> Foreign {
    Foreign::new([b"/", cgroup.as_os_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_names_its_unit() {
        let nested = Path::new("foundry.slice/foundry-services.slice/local-fs.service/payload");
        assert_eq!((unit(nested), own_unit(nested)), (Some("local-fs.service"), None));
        assert_eq!(service(nested), ServiceName::new("local-fs").ok());
        let slice = Path::new("foundry.slice/foundry-services.slice");
        assert_eq!((unit(slice), own_unit(slice)), (None, Some("foundry-services.slice")));
        assert_eq!((unit(Path::new("")), own_unit(Path::new(""))), (None, Some("-.slice")));
        assert_eq!(unit(Path::new("user.slice/user-1000.slice/session-3.scope")), Some("session-3.scope"));
        assert_eq!(unit(Path::new("init.scope")), Some("init.scope"));
        // As PID 1 escapes it.
        assert_eq!(unit(Path::new("system.slice/_cpu.service")), Some("cpu.service"));
    }

    #[test]
    fn what_a_user_makes_is_no_unit() {
        let manager = Path::new("user.slice/user-1001.slice/user@1001.service");
        for made in ["system.slice", "local-fs.service", "system.slice/ssh.service", "user-0.slice"] {
            let made = manager.join(made);
            assert_eq!((unit(&made), own_unit(&made)), (Some("user@1001.service"), None));
            assert_eq!(place(&made), Foreign::from("user@1001.service"));
        }
    }

    #[test]
    fn a_unit_lies_where_its_name_says() {
        for strange in [
            "system.slice/foo.slice",
            "foo-bar.slice",
            "foo.slice/bar-baz.slice",
            "foo.slice/foo-bar-baz.slice",
            "docker",
            "a b.service",
            ".service",
            "-.slice",
            "a--b.slice",
            "system.slice/a.target",
        ] {
            let strange = Path::new(strange);
            assert_eq!((unit(strange), own_unit(strange)), (None, None), "{strange:?}");
            assert_eq!(place(strange), absolute(strange));
            let inside = strange.join("ssh.service");
            assert_eq!((unit(&inside), own_unit(&inside)), (None, None), "{inside:?}");
        }
        let bytes = Path::new(OsStr::from_bytes(b"system.slice/\xff.service"));
        assert_eq!((unit(bytes), place(bytes)), (None, Foreign::new(*b"/system.slice/\xff.service")));
    }
}
