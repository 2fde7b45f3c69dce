//! Where libpam calls us and we call libpam: the only unsafe code of the module.
#![allow(unsafe_code, reason = "libpam is a C library")]

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::ptr;

use fairslice_base::enforce::login::Rescored;
use fairslice_base::units::OomScoreAdj;
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

/// What the score is kept under: the data of all modules share their names.
const SCORE: &CStr = c"pam_fairslice_score";

/// Two scores as one number.
fn packed(score: Rescored) -> usize {
    let [before, set] =
        [score.before, score.set].map(|score| usize::from(u16::from_ne_bytes(score.get().to_ne_bytes())));
    before << u16::BITS | set
}

fn unpacked(number: usize) -> Option<Rescored> {
    let score = |number: usize| {
        OomScoreAdj::new(i64::from(i16::from_ne_bytes(u16::try_from(number).ok()?.to_ne_bytes())))
    };
    let set = number & usize::from(u16::MAX);
    Some(Rescored { before: score(number >> u16::BITS)?, set: score(set)? })
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

    /// Keeps the score that this process was given until the session closes, `pam_set_data(3)`. Where libpam has no
    /// memory for that, it stays when the session is over.
    pub(crate) fn keep_score(&self, score: Rescored) {
        let kept = ptr::without_provenance_mut(packed(score));
        // SAFETY: as below for the handle. What is kept is a number, which is never followed and needs no cleanup;
        // libpam copies the name.
        unsafe { pam::ffi::pam_set_data(ptr::from_ref(self.0).cast_mut(), SCORE.as_ptr(), kept, None) };
    }

    /// The score that was kept, if one was.
    pub(crate) fn score(&self) -> Option<Rescored> {
        let mut kept: *const c_void = ptr::null();
        // SAFETY: as above for the handle, and `kept` outlives the call.
        let code = unsafe { pam::ffi::pam_get_data(self.0, SCORE.as_ptr(), &raw mut kept) };
        if code == pam::ffi::PAM_SUCCESS { unpacked(kept.addr()) } else { None }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scores_are_one_number() {
        let score = |number| OomScoreAdj::new(number).unwrap();
        for (before, set) in [(-1000, 0), (0, 300), (1000, -1000), (-1, -1)] {
            let both = Rescored { before: score(before), set: score(set) };
            assert_eq!(unpacked(packed(both)), Some(both));
        }
        assert_eq!(unpacked(1001), None);
        assert_eq!(unpacked(usize::MAX), None);
    }
}
