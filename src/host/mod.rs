//! What is: the only code that reads `/sys` and `/proc` and talks to PID 1.
//!
//! Every function takes the root that it looks below, `/` on a live system, so that a test can
//! point it at a directory.

pub mod account;
pub mod cgroup;
pub(crate) mod cgroup_directory;
#[cfg(feature = "launcher")]
pub mod directory;
#[cfg(feature = "launcher")]
pub mod entry;
#[cfg(feature = "cli")]
pub mod facts;
#[cfg(feature = "cli")]
pub mod load;
#[cfg(feature = "cli")]
pub mod logins;
pub mod machine;
pub mod mount;
#[cfg(feature = "cli")]
pub mod oom;
#[cfg(feature = "cli")]
pub mod pam;
#[cfg(feature = "cli")]
mod parallel;
pub mod pid1;
#[cfg(feature = "cli")]
pub mod pressure;
pub mod process;
#[cfg(feature = "cli")]
pub mod processes;
#[cfg(feature = "cli")]
pub mod program;
pub mod recorded;
#[cfg(feature = "cli")]
pub mod settings;
#[cfg(feature = "cli")]
pub mod snapshot;
#[cfg(feature = "cli")]
pub mod sshd;
mod standing;
#[cfg(feature = "cli")]
pub mod tree;
#[cfg(feature = "launcher")]
pub mod unit_file;
#[cfg(feature = "cli")]
pub mod units;
#[cfg(feature = "cli")]
mod unread;
#[cfg(feature = "cli")]
pub mod usage;
#[cfg(feature = "cli")]
pub mod v1;

#[cfg(feature = "cli")]
pub use unread::Unread;
