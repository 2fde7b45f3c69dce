//! What changes the machine at a login, and what the commands and the launcher change in the same way.
#![forbid(unsafe_code)]

pub mod budget;
pub mod ceiling;
pub mod cgroup2;
pub mod decision;
pub mod login;
pub mod own;
pub mod placement;
pub mod private_dir;
pub mod scope;
pub mod user_slice;
