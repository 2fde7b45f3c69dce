//! Whom a policy's rules are about.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use super::PrivateDir;

/// A user, as rules ask about them. They name users and groups, and are compared by number: a directory service has
/// several names for one user, and so may `/etc/passwd`.
pub trait Who {
    /// Why a question cannot be answered: NSS failed.
    type Error;

    /// The user's number.
    fn uid(&self) -> u32;

    /// The name, as NSS gives it back; `None` where it is no UTF-8, or nobody has the number.
    fn name(&self) -> Option<&str>;

    /// Whether a name is another one of this user's.
    ///
    /// # Errors
    /// That cannot be told.
    fn is_called(&self, name: &str) -> Result<bool, Self::Error>;

    /// Whether the user is in a group. Nobody is in one that does not exist.
    ///
    /// # Errors
    /// That cannot be told.
    fn is_in(&self, group: &str) -> Result<bool, Self::Error>;
}

/// The numbers that are taken for a while and given back: by display managers for their greeters (60578 to 60705), by
/// PID 1 for `DynamicUser=` (61184 to 65519); between and above them nobody's, `nobody`'s, and the 16-bit -1. See
/// <https://systemd.io/UIDS-GIDS/>.
///
/// What is below are system users, persons (1000 to 60000, `UID_MAX` of `login.defs(5)`), those of systemd-homed (to
/// 60513), and those bound into containers (to 60577). What is above are a directory service's users, wherever it
/// begins, and the users inside of containers, who do not log in.
const TRANSIENT: RangeInclusive<u32> = 60578..=65535;

/// Whether a number is one of those that greeters and services have for a while.
#[must_use]
pub fn is_transient(uid: u32) -> bool {
    TRANSIENT.contains(&uid)
}

/// Whether a number is a person's, and not root's, a system service's, or one that is taken for a while.
#[must_use]
pub fn is_person(uid: u32) -> bool {
    uid >= PrivateDir::MIN_UID && !is_transient(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persons_are_ranges() {
        // Of adduser, homed, directory services.
        for uid in [1000, 60000, 60001, 60513, 60577, 65536, 200_000, 1_234_400_000, u32::MAX - 1] {
            assert!(is_person(uid), "{uid}");
        }
        for uid in [0, 999, 60578, 60705, 61184, 65519, 65534, 65535] {
            assert!(!is_person(uid), "{uid}");
        }
        assert!(!is_transient(999) && is_transient(60578) && is_transient(65535));
    }
}
