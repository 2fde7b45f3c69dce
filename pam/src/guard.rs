//! A bug of ours must not become the host's: a panic ends here.
//!
//! A panic that reached the `extern "C"` hooks would abort the host, sshd or login, with a message on
//! its stderr. So the work runs under [`catch_unwind`], and a panic hook of our own keeps quiet.
//!
//! That hook is no trace in the host, and nothing has to be put back: a panic hook belongs to a copy
//! of the Rust runtime, and this shared object links its own, of which it exports nothing. A host, or
//! another module, written in Rust has another copy with another hook.
#![forbid(unsafe_code)]

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};

/// Where and why the latest panic happened.
static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// Does the work; a panic in it becomes an error that says where it was and what it said.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        panic::set_hook(Box::new(|information| {
            if let Ok(mut latest) = LATEST.lock() {
                // "panicked at FILE:LINE:COLUMN:", a line end, and the text.
                *latest = Some(information.to_string().replacen(":\n", ": ", 1));
            }
        }));
    });
    // Whatever state the work leaves behind half-way is dropped with it: nothing outlives a call.
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        let latest = LATEST.lock().ok().and_then(|mut latest| latest.take());
        latest.unwrap_or_else(|| "panicked".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "PAM_FAIRSLICE_TEST_PANIC";

    /// In a process of its own, because of the hook, and so that its output can be looked at.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "it is this test's")]
    fn a_panic_is_an_error_and_prints_nothing() {
        if env::var_os(CHILD).is_some() {
            assert_eq!(guarded(|| 1), Ok(1));
            for _ in 0..2 {
                let error = guarded(|| panic!("a bug with {}", "a text")).unwrap_err();
                assert!(error.contains("guard.rs") && error.contains("a bug with a text"), "{error}");
            }
            return;
        }
        let name = "guard::tests::a_panic_is_an_error_and_prints_nothing";
        let child = Command::new(env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .envs([(CHILD, "1"), ("RUST_BACKTRACE", "full")])
            .output()
            .unwrap();
        let [out, err] = [child.stdout, child.stderr].map(|said| String::from_utf8(said).unwrap());
        assert!(child.status.success(), "{out}{err}");
        assert!(out.contains("1 passed"), "{out}");
        assert_eq!(err, "");
        assert!(!out.contains("a bug"), "{out}");
    }
}
