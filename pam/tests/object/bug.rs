//! A PAM module, linked as `pam_fairslice.so` is, whose sessions panic under its guard.
#![allow(unsafe_code, missing_docs, reason = "the macro exports C functions")]
#![allow(clippy::panic, reason = "the bug that is to be caught")]

use std::ffi::{CStr, c_uint};

use pam::{PamHandle, PamModule, PamReturnCode, export_pam_module};

#[path = "../../src/guard.rs"]
mod guard;

struct Bug;

export_pam_module!(Bug);

impl PamModule for Bug {
    /// `PAM_SESSION_ERR` says that the panic was caught; nothing else here does.
    fn open_session(_: &PamHandle, _: Vec<&CStr>, _flags: c_uint) -> PamReturnCode {
        match guard::guarded(|| panic!("a bug")) {
            Ok(()) => PamReturnCode::Success,
            Err(_) => PamReturnCode::Session_Err,
        }
    }
}
