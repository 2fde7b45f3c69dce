//! One look at the machine, which every command shares.
#![forbid(unsafe_code)]

mod asked;
pub mod controller;
mod declared;
mod files;
mod held;
pub mod named;
pub mod outside;
mod service;
pub mod setter;
pub mod snapshot;
pub mod unmatched;

pub use asked::ask_for_declared;
pub use declared::{declared, resolve};
pub use fairslice_base::survey::*;
pub use files::loaded_files;
pub use held::held;
pub use service::RunningService;
pub use snapshot::whole_tree;
