//! What logins need of a policy, as they read it.
#![forbid(unsafe_code)]

use std::path::Path;

use super::load::{InForce, Loaded};
use super::{ForLogins, Policy, Slice, bytes_for_logins};

/// What a login needs of the policy that was loaded, to be written to [`crate::paths::COMPILED`].
#[must_use]
pub fn compile(loaded: &Loaded) -> Vec<u8> {
    let force = match loaded.in_force {
        InForce::Current => "the rest of the policy holds",
        InForce::LastGood => "the last good policy holds",
        InForce::Nothing => "no policy holds",
    };
    // The other lines are `fairslice check`'s: a login says once that it lacks a policy.
    let wrong = loaded.diagnostics.first().map(|diagnostic| format!("{diagnostic} ({force})"));
    let Policy { slices, services: _, logins, private_dirs } = loaded.policy.clone();
    // Slices matter to a login only for the floors among them; what they say of services does not.
    let floors = slices.values().any(|slice| slice.cpu_floor.is_some());
    let without_services = |slice| Slice { matches: Vec::new(), launcher: None, ..slice };
    let slices = slices.into_iter().filter(|_| floors).map(|(n, slice)| (n, without_services(slice)));
    let policy = Policy { slices: slices.collect(), logins, private_dirs, ..Policy::default() };
    ForLogins { wrong, policy }.compiled()
}

/// Whether logins have what was loaded.
#[must_use]
pub fn is_in_force(root: &Path, loaded: &Loaded) -> bool {
    bytes_for_logins(root).is_ok_and(|bytes| bytes == compile(loaded))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::fixture::write;
    use crate::paths;
    use crate::policy::{for_logins, load};

    /// A policy with a fragment, compiled.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let main = "[logins]\ncpu_weight = 100\n[service.a]\noom_score_adj = 1\n[slice.\"a.slice\"]\ncpu_floor = \"5%\"\n";
        write(root.path(), paths::POLICY, main);
        write(root.path(), "etc/fairslice/policy.d/a.toml", "[logins.group.dev]\ncpu_weight = 300\n");
        put(root.path(), &compile(&load(root.path())));
        root
    }

    fn put(root: &Path, compiled: &[u8]) {
        let file = root.join(paths::COMPILED);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, compiled).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn weights(policy: &Policy) -> Vec<String> {
        let rules = policy.logins.groups.iter().map(|(_, rule)| rule).chain([&policy.logins.default]);
        rules.map(|rule| format!("{:?}", rule.resources.cpu_weight.as_ref().unwrap().value)).collect()
    }

    #[test]
    fn a_login_gets_what_the_text_says() {
        let root = machine();
        let compiled = for_logins(root.path()).unwrap();
        assert_eq!(compiled.wrong, None);
        assert_eq!(weights(&compiled.policy), weights(&load(root.path()).policy));
        assert!(compiled.policy.services.is_empty());
    }

    /// What a login does not need makes no difference: a comment, which services have the launcher.
    #[test]
    fn what_was_applied_is_in_force_until_something_else_is() {
        let root = machine();
        let fragment = "etc/fairslice/policy.d/a.toml";
        let text = "# weights\n[logins.group.dev]\ncpu_weight = 300\n[slice.\"a.slice\"]\nlauncher = true\n";
        write(root.path(), fragment, text);
        assert!(is_in_force(root.path(), &load(root.path())));
        write(root.path(), fragment, "[logins.group.dev]\ncpu_weight = 301\n");
        assert!(!is_in_force(root.path(), &load(root.path())));
        assert!(weights(&for_logins(root.path()).unwrap().policy)[0].contains("300"));
        put(root.path(), &compile(&load(root.path())));
        assert!(weights(&for_logins(root.path()).unwrap().policy)[0].contains("301"));
        write(root.path(), fragment, "[logins.group.dev]\ncpu_wait = 301\n");
        put(root.path(), &compile(&load(root.path())));
        let wrong = for_logins(root.path()).unwrap().wrong.unwrap();
        assert!(
            wrong.starts_with("/etc/fairslice/policy.d/a.toml:2") && wrong.ends_with("the policy holds)")
        );
    }

    #[test]
    fn what_is_broken_is_not_used() {
        let root = machine();
        let said = || for_logins(root.path()).unwrap_err().to_string();
        let bytes = fs::read(root.path().join(paths::COMPILED)).unwrap();
        for length in 0..bytes.len() {
            put(root.path(), &bytes[..length]);
            assert!(said().contains("another version"), "{length}");
        }
        put(root.path(), &bytes);
        let file = root.path().join(paths::COMPILED);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(said().contains("everybody can change /run/fairslice/policy.compiled"), "{}", said());
        fs::remove_file(file).unwrap();
        assert!(said().ends_with("is not there: run \"fairslice apply\""), "{}", said());
        let (ours, rest): (&str, &[u8]) = postcard::take_from_bytes(&bytes).unwrap();
        for (version, is_read) in [(ours, true), ("0.1.0", false), ("0123456789abcdef", false)] {
            put(root.path(), &[postcard::to_allocvec(version).unwrap().as_slice(), rest].concat());
            assert_eq!(for_logins(root.path()).is_ok(), is_read, "{version}");
        }
    }
}
