//! `pam_fairslice.so`: gives each login its slice of the machine. See `pam_fairslice(8)`.
//!
//! Only the hooks are here; the work is [`fairslice_base::enforce::login`].
//!
//! Whatever goes wrong, the login succeeds, and one line in the log (facility authpriv) says why;
//! only the argument `strict` turns that into `PAM_SESSION_ERR`. The module is a guest in sshd,
//! login, su, sudo and cron: it writes nothing to their terminal and leaves nothing in their
//! process.

#![warn(clippy::disallowed_methods)]

mod arguments;
mod ffi;
mod guard;
mod log;
mod session;
