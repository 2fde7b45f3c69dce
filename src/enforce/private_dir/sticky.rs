//! Private directories whose name somebody else can take first.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::existing::Parent;
use crate::host::pam::{self, Module};
use crate::policy::{Diagnostic, PathTemplate, Policy};
use crate::text::shown;

const OURS: &str = "pam_fairslice.so";

/// A warning for each private directory that lies in a sticky directory such as `/tmp`, where anybody makes the
/// one of another user, who then has none, with one mkdir. Where PAM is strict, that user cannot log in.
///
/// # Errors
/// The root directory cannot be looked at.
pub fn review(root: &Path, policy: &Policy) -> Result<Vec<Diagnostic>> {
    let mut found = Vec::new();
    for (variable, dir) in &policy.private_dirs {
        let Some(sticky) = sticky(root, &dir.path.value)? else { continue };
        let comes_of_it = match strict(root) {
            Some(Module { file, line, .. }) => {
                format!("who then cannot log in, for the module is strict (/{}:{line})", shown(&file))
            }
            None => format!("for whom {variable} is not set then"),
        };
        let message = format!(
            "[private_dir.{variable}]: in {0}, a sticky directory, anybody can make the directory of another user first, {comes_of_it}: declare a path in a directory that only root can change, or chmod 755 {0}",
            shown(&sticky)
        );
        found.push(Diagnostic::at(&dir.path.origin, message).warning());
    }
    Ok(found)
}

/// The sticky directory in which something is made, or may be, that leads to a private directory.
fn sticky(root: &Path, template: &PathTemplate) -> Result<Option<PathBuf>> {
    if template.in_home() {
        return Ok(None);
    }
    let mut place = Parent::root(root)?;
    for component in template.made() {
        let named = !component.contains('{');
        // What is refused on the way, a login and doctor say.
        let next = if named { place.child(OsStr::new(component)).unwrap_or(None) } else { None };
        match next {
            Some((next, _)) => place = next,
            None => return Ok(place.sticky.then_some(place.path)),
        }
    }
    Ok(None)
}

/// A line of PAM's with which a session fails where a private directory is refused.
fn strict(root: &Path) -> Option<Module> {
    let is_strict = |module: &Module| {
        module.name == OURS
            && module.control != "optional"
            && module.arguments.iter().any(|argument| argument == "strict")
    };
    pam::stacks(root).into_iter().flat_map(|stack| stack.modules).find(is_strict)
}
