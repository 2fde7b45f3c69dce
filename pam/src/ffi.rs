//! Where libpam calls us and we call libpam: the only unsafe code of the module.
#![allow(unsafe_code, reason = "libpam is a C library")]

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::ptr;

use pam::{PamHandle, PamModule, PamReturnCode, export_pam_module};

use crate::session;

/// The module as libpam sees it. What is not implemented here returns `PAM_IGNORE`.
struct Fairslice;

export_pam_module!(Fairslice);

impl PamModule for Fairslice {
    // PAM_SILENT is the only flag there is: nothing is ever said to the user anyway.
    fn open_session(handle: &PamHandle, arguments: Vec<&CStr>, _flags: c_uint) -> PamReturnCode {
        session::open(&Handle(handle), &arguments)
    }

    /// The directories stay, and what PID 1 was told holds until the next boot. What was placed without
    /// it is put back.
    fn close_session(handle: &PamHandle, arguments: Vec<&CStr>, _flags: c_uint) -> PamReturnCode {
        session::close(&Handle(handle), &arguments)
    }
}

/// A PAM transaction, `pam(3)`.
///
/// The `pam` crate's own accessors take an unset item for a pointer to a string.
pub(crate) struct Handle<'a>(&'a PamHandle);

impl Handle<'_> {
    /// `PAM_USER`, the name of the user who logs in; `None` if it is not set.
    pub(crate) fn user(&self) -> Option<CString> {
        self.text(pam::ffi::PAM_USER)
    }

    /// `PAM_SERVICE`, the name of the host program's PAM configuration; `None` if it is not set.
    pub(crate) fn service(&self) -> Option<CString> {
        self.text(pam::ffi::PAM_SERVICE)
    }

    /// A copy of an item that is a string, `pam_get_item(3)`.
    fn text(&self, item: c_int) -> Option<CString> {
        let mut value: *const c_void = ptr::null();
        // SAFETY: the handle is the one that libpam called us with, valid until we return, and
        // `value` outlives the call.
        let code = unsafe { pam::ffi::pam_get_item(self.0, item, &raw mut value) };
        if code != pam::ffi::PAM_SUCCESS || value.is_null() {
            return None;
        }
        // SAFETY: the items asked for above are C strings, and libpam keeps them until the next
        // `pam_set_item`, which nobody calls before the copy is made.
        Some(unsafe { CStr::from_ptr(value.cast()) }.to_owned())
    }

    /// Sets a variable in the environment that the session will get, `pam_putenv(3)`.
    ///
    /// # Errors
    /// The pair holds a zero byte, or libpam refuses: the error says which.
    pub(crate) fn set_variable(&self, name: &str, value: &str) -> Result<(), String> {
        let pair = CString::new(format!("{name}={value}")).map_err(|error| error.to_string())?;
        // SAFETY: as above for the handle, which is behind a shared reference only because the
        // macro passes it so: libpam gave it to us to change. libpam copies the pair.
        let code = unsafe { pam::ffi::pam_putenv(ptr::from_ref(self.0).cast_mut(), pair.as_ptr()) };
        match code {
            pam::ffi::PAM_SUCCESS => Ok(()),
            code => Err(format!("pam_putenv: {:?}", PamReturnCode::from(code))),
        }
    }
}
