//! `--watch`: the screen again and again.
//!
//! On a terminal, each one replaces the one before, on the alternate screen: what was there before comes
//! back at the end. A TUI framework would draw and read keys; here there is nothing to read.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::out::print;
use super::{Before, Extent, cpu_times, display, look};
use crate::policy::Loaded;
use crate::report;
use crate::text::printable;

/// So long the first screen is waited for: use of the CPU is a difference.
const FIRST: Duration = Duration::from_millis(200);

/// Alternate screen, no cursor, lines that do not wrap: `console_codes(4)`, xterm's control sequences.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// Goes on until a signal ends it.
pub(super) fn watch(root: &Path, loaded: &Loaded, interval: Duration) -> Result<u8> {
    let mut before = (cpu_times(&look(root, loaded, Extent::Screen, None)?.picture), Instant::now());
    if !io::stdout().is_terminal() {
        thread::sleep(FIRST);
        loop {
            let text = screen(root, &mut before)?;
            print(&format!("{text}\n"))?;
            thread::sleep(interval);
        }
    }
    let signals: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGWINCH]
            .into_iter()
            .collect();
    signals.thread_block().context("blocking signals")?;
    let pending = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let terminal = Terminal::enter()?;
    let mut next = Instant::now() + FIRST;
    loop {
        let signal = wait(&pending, next)?;
        match signal {
            None => next = Instant::now() + interval,
            Some(Signal::SIGWINCH) => {}
            Some(Signal::SIGTSTP) => {
                terminal.write(LEAVE)?;
                raise(Signal::SIGSTOP)?;
                terminal.write(ENTER)?;
            }
            Some(signal) => {
                drop(terminal);
                // As if it had not been caught: a shell is to see what ended this.
                signals.thread_unblock()?;
                raise(signal)?;
                return Ok(0);
            }
        }
        terminal.draw(&screen(root, &mut before)?)?;
    }
}

/// The next screen; the policy of now, for it may be edited meanwhile.
fn screen(root: &Path, before: &mut (Before, Instant)) -> Result<String> {
    let loaded = crate::survey::declared(root);
    let picture = look(root, &loaded, Extent::Screen, Some(&before.0))?.picture;
    // Between two screens that follow quickly, as when a window is resized, there is nothing to measure.
    if before.1.elapsed() >= FIRST {
        *before = (cpu_times(&picture), Instant::now());
    }
    let mut text = report::screen(&picture, display());
    for missed in report::missed(&picture.tree, &picture.unread) {
        text.extend(["not looked at: ", &missed, "\n"]);
    }
    if !loaded.diagnostics.is_empty() {
        text.push_str("the policy has errors: fairslice check\n");
    }
    Ok(text)
}

/// The next signal; `None` where there was none until then.
fn wait(pending: &SignalFd, until: Instant) -> Result<Option<Signal>> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    poll(&mut [PollFd::new(pending.as_fd(), PollFlags::POLLIN)], timeout).context("waiting")?;
    let Some(read) = pending.read_signal()? else { return Ok(None) };
    Ok(Some(
        i32::try_from(read.ssi_signo)
            .ok()
            .and_then(|signal| Signal::try_from(signal).ok())
            .context("an unknown signal")?,
    ))
}

/// A terminal that is as it was when this is dropped.
struct Terminal;

impl Terminal {
    fn enter() -> Result<Self> {
        let terminal = Self;
        terminal.write(ENTER)?;
        Ok(terminal)
    }

    #[allow(clippy::unused_self, reason = "only one that was entered can be written to")]
    fn write(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// As many lines as there is space for.
    fn draw(&self, text: &str) -> io::Result<()> {
        let text = printable(text);
        let without_colour = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
        let text = if without_colour { strip_str(&text).to_string() } else { text };
        let lines: Vec<&str> = text.lines().take(display().height.unwrap_or(usize::MAX)).collect();
        let lines = lines.join(&format!("{CLEAR_LINE}\r\n"));
        self.write(&format!("{HOME}{lines}{CLEAR_LINE}{CLEAR_BELOW}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.write(LEAVE);
    }
}
