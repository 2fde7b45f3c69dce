//! The module's lines in the system log, in the form that `pam_syslog(3)` gives them.
//!
//! libc's `syslog(3)` would leave its connection open in the host, and wait without end for a log
//! daemon that hangs; so each line goes through a socket of its own, with a time limit.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use fairslice_base::text::{Foreign, shown};
use syslog::{Facility, LogFormat, Severity};

/// Where the log daemon listens, below the root.
const SOCKET: &str = "dev/log";
/// How long a log daemon that reads nothing is waited for, once in a session.
const PATIENCE: Duration = Duration::from_millis(100);
/// The longest line, in characters before escaping: RFC 3164 has room for 1024 bytes in all.
const MAX_LINE: usize = 800;

/// A line as `syslog(3)` writes it, but for the time behind its number: journald and rsyslog take that at which the
/// line has come in either way, as RFC 3164 has it, section 4.3.2.
struct Untimed<'a> {
    process: &'a str,
}

impl<T: Display> LogFormat<T> for Untimed<'_> {
    fn format<W: io::Write>(&self, to: &mut W, severity: Severity, line: T) -> syslog::Result<()> {
        let number = Facility::LOG_AUTHPRIV as u8 | severity as u8;
        write!(to, "<{number}>{}[{}]: {line}", shown(self.process).at_most(MAX_LINE), process::id())
            .map_err(syslog::Error::Write)
    }
}

/// The way to the log.
pub(crate) struct Log {
    socket: PathBuf,
    service: Foreign,
    /// No line after one that could not be sent: a hanging daemon is waited for once.
    broken: Cell<bool>,
}

impl Log {
    /// The log daemon below `root`, which need not be there; `service` is the `PAM_SERVICE`.
    pub(crate) fn new(root: &Path, service: &Foreign) -> Self {
        Self { socket: root.join(SOCKET), service: service.clone(), broken: Cell::new(false) }
    }

    /// Something that was not done.
    pub(crate) fn warning(&self, line: &str) {
        self.line(Severity::LOG_WARNING, line);
    }

    /// Something that was done.
    pub(crate) fn debug(&self, line: &str) {
        self.line(Severity::LOG_DEBUG, line);
    }

    fn line(&self, severity: Severity, line: &str) {
        if !self.broken.get() && self.send(severity, line).is_err() {
            self.broken.set(true);
        }
    }

    fn send(&self, severity: Severity, line: &str) -> io::Result<()> {
        // The host's name as the other lines of this session carry it, such as sshd-session. Its
        // argv would not do: sshd writes its title over it.
        let host = fs::read_to_string("/proc/self/comm").unwrap_or_default();
        let line = format!("pam_fairslice({}:session): {line}", self.service.shown());
        let mut datagram = Vec::new();
        Untimed { process: host.trim_end() }
            .format(&mut datagram, severity, shown(&line).at_most(MAX_LINE))
            .map_err(io::Error::other)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(&datagram, &self.socket).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::str;
    use std::time::Instant;

    use super::*;

    #[allow(clippy::disallowed_methods, reason = "it is this test's")]
    fn root() -> PathBuf {
        let root = std::env::temp_dir().join(format!(
            "pam_fairslice-log-{}-{:?}",
            process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(root.join("dev")).unwrap();
        root
    }

    #[test]
    fn a_log_that_nobody_reads_is_waited_for_once() {
        let root = root();
        let log = Log::new(&root, &"test".into());
        let daemon = UnixDatagram::bind(root.join(SOCKET)).unwrap();
        let start = Instant::now();
        // More than any queue holds.
        for number in 0..10_000 {
            log.warning(&format!("line {number}"));
        }
        assert!(log.broken.get(), "the queue never filled up");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(daemon);
        Log::new(&root, &"test".into()).warning("nobody listens");
        fs::remove_dir_all(&root).unwrap();
        Log::new(&root, &"test".into()).warning("nothing is there");
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let root = root();
        let daemon = UnixDatagram::bind(root.join(SOCKET)).unwrap();
        let log = Log::new(&root, &Foreign::new(*b"ss\x1bhd\xff"));
        log.warning("user \u{202e}eve\n<86>sshd[1]: Accepted for root\x07\u{9b}2J \u{200b}");
        let mut datagram = [0; 2048];
        let length = daemon.recv(&mut datagram).unwrap();
        let text = str::from_utf8(&datagram[..length]).unwrap();
        let (frame, line) = text.split_once("]: ").unwrap();
        let host = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(frame, format!("<84>{}[{}", host.trim_end(), process::id()));
        assert_eq!(
            line.trim_end_matches('\n'),
            r"pam_fairslice(ss\x1bhd\xff:session): user \u{202e}eve\n<86>sshd[1]: Accepted for root\x07\u{9b}2J \u{200b}"
        );
        assert!(!text.trim_end_matches('\n').contains(char::is_control), "{text:?}");
        fs::remove_dir_all(&root).unwrap();
    }
}
