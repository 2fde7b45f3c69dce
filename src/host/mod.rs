//! What is: the only code that reads `/sys` and `/proc` and talks to PID 1.
//!
//! Every function takes the root that it looks below, `/` on a live system, so that a test can
//! point it at a directory.

mod affinity;
pub mod assigned;
pub mod clock;
pub mod counts;
pub mod disk;
pub mod facts;
pub mod idle;
pub mod in_use;
pub mod io_class;
pub mod io_weights;
pub mod kernel_log;
pub mod logins;
pub mod met;
pub mod oom;
pub mod pam;
mod pam_auth_update;
pub mod parallel;
pub mod pressure;
pub mod processes;
pub mod program;
pub mod settings;
pub mod sshd;
pub mod tree;
pub mod units;
mod unread;
pub mod usage;
pub mod v1;

pub use fairslice_base::host::*;
pub use fairslice_base::units::cpu_set;
pub use unread::Unread;
