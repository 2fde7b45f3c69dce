//! The PAM services whose sessions fairslice has something to do with, by the names of their PAM configurations in
//! Debian.
#![forbid(unsafe_code)]

use Opens::{Job, Login, Switch};

/// What the programs of a PAM service open a session for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// They log somebody in.
    Login,
    /// They change the user: a login where neither a login nor a service called them.
    Switch,
    /// No login: a job, a change of user within a login, a user's manager. The session belongs to what called them.
    Job,
}

/// The PAM service of `systemd --user`.
pub const MANAGER: &str = "systemd-user";

/// Every one. A session of any other is a daemon's own business.
pub const SERVICES: [(&str, Opens); 24] = [
    ("sshd", Login),
    ("login", Login),
    ("remote", Login),
    ("su", Switch),
    ("su-l", Switch),
    ("cockpit", Login),
    ("gdm-autologin", Login),
    ("gdm-fingerprint", Login),
    ("gdm-password", Login),
    ("gdm-smartcard", Login),
    ("greetd", Login),
    ("lightdm", Login),
    ("lightdm-autologin", Login),
    ("lxdm", Login),
    ("sddm", Login),
    ("sddm-autologin", Login),
    ("wdm", Login),
    ("xdm", Login),
    ("xrdp-sesman", Login),
    (MANAGER, Job),
    ("cron", Job),
    ("atd", Job),
    ("sudo", Job),
    ("sudo-i", Job),
];

/// What the programs of this PAM service open a session for; `None` for one that is not known.
#[must_use]
pub fn opens(service: &str) -> Option<Opens> {
    SERVICES.iter().find(|(known, _)| *known == service).map(|(_, opens)| *opens)
}
