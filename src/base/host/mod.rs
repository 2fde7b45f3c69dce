//! What is: the only code that reads `/sys` and `/proc` and talks to PID 1.
//!
//! Every function takes the root that it looks below, `/` on a live system, so that a test can
//! point it at a directory.

pub mod account;
pub mod block_device;
pub mod cgroup;
pub mod cgroup_directory;
pub mod directory;
pub mod machine;
pub mod mount;
pub mod pam_service;
pub mod pid1;
pub mod process;
pub mod recorded;
pub mod standing;
pub mod unit_file;
