//! The path of a private directory, with the places that differ from user to user.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::shown;

/// What stands in a template for something of the user's.
const PLACEHOLDERS: [&str; 4] = ["user", "uid", "group", "home"];
/// A path that begins with this lies below the user's home directory.
const HOME: &str = "{home}";
/// Left as it is, for cargo to fill in (`build.build-dir`).
const PASSED_THROUGH: [&str; 1] = ["workspace-path-hash"];

/// Who a template is filled in for.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryOwner<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The user's number.
    pub uid: u32,
    /// The name of the user's primary group.
    pub group: &'a str,
    /// The user's home directory.
    pub home: &'a Path,
}

/// An absolute path such as `/srv/foundry/cargo-target/{user}`, or one below the user's home
/// directory such as `{home}/.cache/target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathTemplate {
    /// Whether `path` is below the user's home directory.
    in_home: bool,
    /// Begins with a slash.
    path: String,
    /// How many components of `path` are ours to make: those before the first that cargo fills in.
    made: usize,
}

/// A template filled in for one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// The directory to make.
    pub directory: PathBuf,
    /// What the variable says: the directory, and what cargo fills in below it.
    pub value: String,
}

impl PathTemplate {
    /// # Errors
    /// Says what is wrong with the path.
    pub fn new(text: &str) -> Result<Self, String> {
        let (in_home, path) = match text.strip_prefix(HOME) {
            Some(below) if !below.starts_with('/') => {
                return Err("a path that goes on below {home}: \"{home}/.cache/target\"".to_owned());
            }
            Some(below) => (true, below),
            None => (false, text),
        };
        absolute(path)?;
        let mut made = None;
        for (index, component) in components(path).enumerate() {
            let names = placeholders(component)?;
            if names.contains(&"home") {
                return Err("{home} only at the start of the path".to_owned());
            }
            if names.iter().any(|name| PASSED_THROUGH.contains(name)) {
                made.get_or_insert(index);
            }
        }
        let made = made.unwrap_or_else(|| components(path).count());
        let last = components(path).take(made).last().unwrap_or_default();
        if in_home && last.is_empty() {
            return Err("a directory of its own below {home}: \"{home}/.cache/target\"".to_owned());
        }
        if !in_home && !last.contains("{user}") && !last.contains("{uid}") {
            return Err("the directory that is made for a user has {user} or {uid} in its name, else users would share it".to_owned());
        }
        Ok(Self { in_home, path: path.to_owned(), made })
    }

    /// Whether the directory lies below the user's home directory.
    #[must_use]
    pub fn in_home(&self) -> bool {
        self.in_home
    }

    /// The components of the directory that is made, placeholders and all; below the home directory
    /// where the template is.
    pub fn made(&self) -> impl Iterator<Item = &str> {
        components(&self.path).take(self.made)
    }

    /// Whether the path differs from group to group.
    #[must_use]
    pub fn names_group(&self) -> bool {
        self.path.contains("{group}")
    }

    /// The directory and the value for one user.
    ///
    /// # Errors
    /// The user's name, group or home directory does not belong in such a path.
    pub fn fill(&self, owner: DirectoryOwner<'_>) -> Result<Filled, String> {
        let mut value = self.path.clone();
        for (placeholder, name) in [("{user}", owner.user), ("{group}", owner.group)] {
            if value.contains(placeholder) {
                value = value.replace(placeholder, safe(name)?);
            }
        }
        let value = value.replace("{uid}", &owner.uid.to_string());
        let home = if self.in_home { home(owner.home)? } else { "" };
        let below: PathBuf = components(&value).take(self.made).collect();
        let directory = Path::new("/").join(home).join(below);
        Ok(Filled { directory, value: format!("{home}{value}") })
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.in_home { HOME } else { "" }, self.path)
    }
}

/// Checks that a path is absolute and names one place: no `..`, no control characters.
///
/// # Errors
/// Says what is wrong with the path.
pub fn absolute(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("an absolute path".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err("a path without control characters".to_owned());
    }
    if components(path).any(|component| component == "." || component == "..") {
        return Err("a path without \".\" and \"..\"".to_owned());
    }
    Ok(())
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// The names in braces of one component.
fn placeholders(component: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    let mut rest = component;
    while let Some((_, opened)) = rest.split_once('{') {
        let (name, after) = opened.split_once('}').ok_or("a \"}\" for each \"{\"")?;
        if !PLACEHOLDERS.contains(&name) && !PASSED_THROUGH.contains(&name) {
            return Err(format!(
                "{{user}}, {{uid}}, {{group}}, {{home}} or cargo's {{workspace-path-hash}}, not {{{name}}}"
            ));
        }
        names.push(name);
        rest = after;
    }
    Ok(names)
}

/// A user's or group's name that is one harmless path component.
fn safe(name: &str) -> Result<&str, String> {
    let harmless = |c: char| c.is_alphanumeric() || "._-+@\\$".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || !name.chars().all(harmless) {
        return Err(format!(
            "the name \"{}\" does not belong in a path (use {{uid}} in the policy)",
            shown(name)
        ));
    }
    Ok(name)
}

/// A home directory that is a place of the user's own, without a slash at its end.
fn home(home: &Path) -> Result<&str, String> {
    let text = home.to_str().filter(|text| absolute(text).is_ok() && components(text).next().is_some());
    let refused = || {
        format!(
            "the home directory \"{}\" is no place for a private directory (use another path than {{home}} in the policy)",
            shown(home)
        )
    };
    text.map(|text| text.trim_end_matches('/')).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> DirectoryOwner<'static> {
        DirectoryOwner { user: "alice", uid: 1000, group: "staff", home: Path::new("/home/alice") }
    }

    #[test]
    fn a_template_is_filled_in() {
        let template = PathTemplate::new("/srv/{group}/target/{user}-{uid}").unwrap();
        let filled = template.fill(alice()).unwrap();
        assert_eq!(filled.directory, Path::new("/srv/staff/target/alice-1000"));
        assert_eq!(filled.value, "/srv/staff/target/alice-1000");
    }

    #[test]
    fn cargos_own_placeholder_is_passed_through() {
        let template = PathTemplate::new("/srv/build/{user}/{workspace-path-hash}").unwrap();
        let filled = template.fill(alice()).unwrap();
        assert_eq!(filled.directory, Path::new("/srv/build/alice"));
        assert_eq!(filled.value, "/srv/build/alice/{workspace-path-hash}");
    }

    #[test]
    fn a_directory_that_users_would_share_is_refused() {
        for wrong in
            ["/srv/target", "/srv/{group}", "/srv/{user}/target", "/{workspace-path-hash}/{user}", "/", "//"]
        {
            assert!(PathTemplate::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_below_the_home_directory_is_the_users_own() {
        let template = PathTemplate::new("{home}/.cache/{group}/target").unwrap();
        let filled = template.fill(alice()).unwrap();
        assert_eq!(filled.directory, Path::new("/home/alice/.cache/staff/target"));
        assert_eq!(filled.value, "/home/alice/.cache/staff/target");
        assert_eq!(template.to_string(), "{home}/.cache/{group}/target");
        let cut = PathTemplate::new("{home}/build/{workspace-path-hash}").unwrap();
        let filled = cut.fill(DirectoryOwner { home: Path::new("/home/alice/"), ..alice() }).unwrap();
        assert_eq!(filled.directory, Path::new("/home/alice/build"));
        assert_eq!(filled.value, "/home/alice/build/{workspace-path-hash}");
        for wrong in
            ["{home}", "{home}/", "{home}x/y", "{home}/{workspace-path-hash}", "/srv{home}", "{home}/a/../b"]
        {
            assert!(PathTemplate::new(wrong).is_err(), "{wrong}");
        }
        assert!(PathTemplate::new("/srv/{home}/{user}").is_err());
    }

    #[test]
    fn a_home_that_is_no_place_of_the_users_own_is_refused() {
        let template = PathTemplate::new("{home}/target").unwrap();
        for home in ["", "/", "//", "home/alice", "/home/../etc", "/home/al\nice"] {
            assert!(template.fill(DirectoryOwner { home: Path::new(home), ..alice() }).is_err(), "{home:?}");
        }
        // Where the path is elsewhere, nobody asks for it.
        let elsewhere = PathTemplate::new("/srv/{user}").unwrap();
        assert!(elsewhere.fill(DirectoryOwner { home: Path::new(""), ..alice() }).is_ok());
    }

    #[test]
    fn paths_name_one_place() {
        for wrong in [
            "srv/{user}",
            "/srv/../{user}",
            "/srv/./{user}",
            "/srv/{user",
            "/srv/{usr}",
            "/srv/\n/{user}",
            "",
        ] {
            assert!(PathTemplate::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_do_not_belong_in_a_path_are_refused() {
        let template = PathTemplate::new("/srv/{user}").unwrap();
        for user in ["", "..", ".", "a/b", "a\nb", "a b", "{uid}", "-rf", ".ssh", &"a".repeat(10_000)] {
            assert!(template.fill(DirectoryOwner { user, ..alice() }).is_err(), "{user}");
        }
        for user in ["al.ice", "alice$", "EXAMPLE\\alice", "alice@example.org", "élise"] {
            assert!(template.fill(DirectoryOwner { user, ..alice() }).is_ok(), "{user}");
        }
        assert!(
            PathTemplate::new("/srv/{uid}").unwrap().fill(DirectoryOwner { user: "a/b", ..alice() }).is_ok()
        );
    }
}
