//! What the launcher says: one line at a time on stderr, which under systemd is the journal.
//!
//! A service's stderr may be closed, full, or a pipe that nobody reads. None of that may cost the
//! service its start.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd;
use std::panic;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::text::shown;

/// How long to wait for a reader of stderr, in milliseconds.
const PATIENCE: u16 = 1000;

/// Says one line, if anybody can take it.
pub(super) fn complain(message: impl fmt::Display) {
    let line = format!("fairslice-launch: {}\n", shown(&message.to_string()));
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // An error, a hang-up and a closed descriptor are told by other flags.
    let writable = poll(&mut ready, PollTimeout::from(PATIENCE)).is_ok()
        && ready.iter().all(|stderr| stderr.revents() == Some(PollFlags::POLLOUT));
    if writable {
        // What cannot be said is no reason not to start the service.
        let _ = without_sigpipe(|| io::stderr().write_all(line.as_bytes()));
    }
}

/// Has a bug of ours said in one line too. What Rust does by itself depends on `RUST_BACKTRACE`, which may be
/// somebody else's.
pub(super) fn complain_of_bugs() {
    panic::set_hook(Box::new(|bug| {
        complain(format_args!("a bug, please report it: {}", bug.to_string().replacen(":\n", ": ", 1)));
    }));
}

/// Writes while a `SIGPIPE` cannot kill this process, and leaves none pending for the command.
fn without_sigpipe(write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let sigpipe = SigSet::from(Signal::SIGPIPE);
    let before = sigpipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let written = write();
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        let pending = SignalFd::with_flags(&sigpipe, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // None is pending where SIGPIPE is ignored.
        let _ = pending.read_signal();
    }
    before.thread_set_mask()?;
    written
}

/// To stdout: what was asked for.
pub(super) fn print(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    const CHILD: &str = "FAIRSLICE_LAUNCH_TEST_PANIC";

    /// In a process of its own, because of the hook, and so that its output can be looked at.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "it is this test's")]
    fn a_bug_is_one_line_whatever_the_environment_says() {
        if env::var_os(CHILD).is_some() {
            complain_of_bugs();
            panic!("a bug with {}", "a text");
        }
        let name = "enforce::launch::say::tests::a_bug_is_one_line_whatever_the_environment_says";
        let child = Command::new(env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .envs([(CHILD, "1"), ("RUST_BACKTRACE", "full")])
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        assert!(said.starts_with("fairslice-launch: a bug, please report it: panicked at src/"), "{said}");
        assert!(said.ends_with(": a bug with a text\n") && said.lines().count() == 1, "{said}");
    }
}
