//! Opening and closing a session: from what PAM knows to what it is told.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};

use fairslice_base::enforce::login::{self, Asked};
use fairslice_base::memory;
use fairslice_base::text::{Foreign, shown};
use pam::PamReturnCode;

use crate::arguments::Arguments;
use crate::ffi::Handle;
use crate::guard::guarded;
use crate::log::Log;

/// What a session can need of memory, beside what the policy's text takes. Measured: 15 KiB.
const SESSION: usize = 256 << 10;
/// The longest part of a user name that a line of the log repeats, in characters.
const MAX_NAME: usize = 64;

/// Opens the session; what happens on the way is for the log.
pub(crate) fn open(handle: &Handle<'_>, arguments: &[&CStr]) -> PamReturnCode {
    let opened = guarded(|| {
        let arguments = Arguments::parse(arguments);
        let log = log(handle, &arguments);
        let complete = match guarded(|| do_open(handle, &arguments, &log)) {
            Ok(complete) => complete,
            Err(panic) => {
                log.warning(&format!("a bug, please report it: {panic}"));
                false
            }
        };
        complete || !arguments.strict
    });
    // A panic outside the inner guard left nothing to log through. `strict` was asked for in vain
    // only if reading the arguments itself panicked, so the answer is the fail-open one.
    if opened.unwrap_or(true) { PamReturnCode::Success } else { PamReturnCode::Session_Err }
}

/// Closes the session. That succeeds: nobody is kept in it because of us.
pub(crate) fn close(handle: &Handle<'_>, arguments: &[&CStr]) -> PamReturnCode {
    // As above: what panics outside the inner guard can be said nowhere.
    let _ = guarded(|| {
        let arguments = Arguments::parse(arguments);
        let log = log(handle, &arguments);
        match guarded(|| login::close_session(&arguments.root, handle.score())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log.warning(&format!("closing: {error:#}")),
            Err(panic) => log.warning(&format!("a bug, please report it: {panic}")),
        }
    });
    PamReturnCode::Success
}

fn log(handle: &Handle<'_>, arguments: &Arguments) -> Log {
    let service = handle.service();
    let service = service.map_or_else(|| "<unknown>".into(), |name| Foreign::new(name.into_bytes()));
    Log::new(&arguments.root, &service)
}

/// Whether nothing was skipped.
fn do_open(handle: &Handle<'_>, arguments: &Arguments, log: &Log) -> bool {
    for line in &arguments.ignored {
        log.warning(line);
    }
    if !memory::is_there_for(SESSION) {
        log.warning("not enough memory: nothing done");
        return false;
    }
    let user = match handle.user().map(CString::into_string) {
        Some(Ok(user)) => user,
        Some(Err(error)) => {
            let name = Foreign::new(error.into_cstring().into_bytes());
            let name = name.shown().at_most(MAX_NAME);
            log.warning(&format!("user {name}: the name is not UTF-8: nothing done"));
            return false;
        }
        None => {
            log.warning("PAM_USER is not set: nothing done");
            return false;
        }
    };
    let name = shown(&user).at_most(MAX_NAME);
    let service = handle.service().map(CString::into_string).and_then(Result::ok).unwrap_or_default();
    let asked = Asked { user: &user, service: &service, noplace: arguments.noplace };
    let mut opened = login::open_session(&arguments.root, asked);
    if let Some(score) = opened.score {
        handle.keep_score(score);
    }
    for (variable, value) in &opened.variables {
        match handle.set_variable(variable, value) {
            Ok(()) if arguments.debug => log.debug(&format!("user {name}: set {variable}={value}")),
            Ok(()) => {}
            Err(error) => opened.skipped.push(format!("{variable} not set: {error}")),
        }
    }
    let is_said = !opened.is_said_by_another || arguments.strict;
    for line in opened.skipped.iter().map(|line| format!("user {name}: {line}")) {
        if is_said {
            log.warning(&line);
        } else if arguments.debug {
            log.debug(&line);
        }
    }
    opened.skipped.is_empty()
}
