//! A connection to PID 1: connecting, authentication, one call after the other, one deadline.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, socket,
};
use nix::unistd::{Uid, geteuid};

use super::MAX_TEXT;
use super::message::{Call, FIXED_HEADER, Reply, message_length, one_line, outcome};
use crate::text::shown;

/// The longest line that is read while authenticating, in bytes. `OK` and a GUID take 37.
const MAX_LINE: usize = 1024;
/// How many unrelated messages are skipped before giving up on the reply. systemd sends its signals
/// to every private connection, at boot some hundreds at a time.
const MAX_SKIPPED: usize = 10_000;
/// How many calls are sent at once.
const BATCH: usize = 64;
/// How long to wait before connecting again while PID 1's backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
/// Where to look when PID 1 keeps silent.
const HUNG: &str = "see journalctl -b _PID=1";

/// Our end of a connection to PID 1.
pub(super) struct Peer {
    socket: OwnedFd,
    deadline: Instant,
    /// The largest message that is read, in bytes.
    largest: u64,
    /// To whom calls go, where it is a bus that passes them on.
    destination: Option<&'static str>,
    /// The last call's serial.
    serial: u32,
    /// What has come in and was not yet consumed.
    unread: Vec<u8>,
    /// How much has come in altogether, in bytes.
    received: usize,
}

impl Peer {
    pub(super) fn connect(path: &Path, largest: u64, deadline: Instant) -> Result<Self> {
        let address =
            UnixAddr::new(path).map_err(|errno| anyhow!("not a path for a socket: {}", errno.desc()))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)
            .map_err(|errno| anyhow!("cannot make a socket: {}", errno.desc()))?;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                // The backlog is full. poll(2) cannot wait for room in it, so come back later.
                Err(Errno::EAGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        bail!("PID 1 accepted no connection within the time limit: {HUNG}");
                    }
                    std::thread::sleep(left.min(BACKLOG_PAUSE));
                }
                Err(Errno::ENOENT) => bail!("no such socket: is systemd running as PID 1?"),
                Err(Errno::ECONNREFUSED) => {
                    bail!("nobody listens on the socket: is systemd running as PID 1?")
                }
                Err(errno @ (Errno::EACCES | Errno::EPERM)) => {
                    bail!("cannot connect: {}: only root may", errno.desc())
                }
                Err(errno) => bail!("cannot connect: {}", errno.desc()),
            }
        }
        let uid = Uid::from_raw(getsockopt(&socket, PeerCredentials)?.uid());
        if !uid.is_root() && uid != geteuid() {
            bail!("uid {uid} listens on the socket, and not root");
        }
        let mut peer =
            Self { socket, deadline, largest, destination: None, serial: 0, unread: Vec::new(), received: 0 };
        peer.authenticate()?;
        Ok(peer)
    }

    /// Connects to PID 1 by way of a bus: `Hello` is the first thing that one is told.
    pub(super) fn connect_to_bus(path: &Path, largest: u64, deadline: Instant) -> Result<Self> {
        let mut peer = Self::connect(path, largest, deadline)?;
        peer.destination = Some("org.freedesktop.DBus");
        peer.call(&Call {
            object: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            signature: "",
            body: Vec::new(),
        })?;
        peer.destination = Some("org.freedesktop.systemd1");
        Ok(peer)
    }

    /// SASL EXTERNAL ("Authentication Protocol" in the specification): the kernel vouches for us.
    fn authenticate(&mut self) -> Result<()> {
        // The user id as decimal digits, each in hexadecimal: 0 is "30".
        let mut identity = String::new();
        for digit in geteuid().to_string().bytes() {
            write!(identity, "{digit:02x}")?;
        }
        // BEGIN need not wait for the answer to AUTH: if it is not OK, nothing else is sent.
        self.send(format!("\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n").as_bytes())?;
        let line = self.line()?;
        match line.split(' ').next() {
            Some("OK") => Ok(()),
            Some("REJECTED") => bail!("PID 1 refused the connection of user id {}: only root may", geteuid()),
            _ => bail!(
                "what answers there is not systemd: it said \"{}\" where OK belongs",
                shown(&line).at_most(MAX_TEXT)
            ),
        }
    }

    /// Makes a call and waits for its reply.
    pub(super) fn call(&mut self, call: &Call<'_>) -> Result<Reply> {
        self.send_calls(slice::from_ref(call))?;
        self.reply(self.serial)?.map_err(|refusal| anyhow!("PID 1 answered {refusal}"))
    }

    /// Makes calls without waiting for the reply to one before the next. Gives their replies, in their order, and
    /// refusals as PID 1 words them.
    pub(super) fn calls(&mut self, calls: &[Call<'_>]) -> Result<Vec<Result<Reply, String>>> {
        let mut replies = Vec::with_capacity(calls.len());
        let mut serial = self.serial;
        let mut batches = calls.chunks(BATCH);
        // One batch is answered while the next one is on its way.
        self.send_calls(batches.next().unwrap_or_default())?;
        while serial < self.serial {
            let sent = self.serial;
            self.send_calls(batches.next().unwrap_or_default())?;
            while serial < sent {
                serial += 1;
                replies.push(self.reply(serial)?);
            }
        }
        Ok(replies)
    }

    /// Sends calls, each with the next serial.
    fn send_calls(&mut self, calls: &[Call<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        for call in calls {
            self.serial += 1;
            bytes.append(&mut call.message(self.serial, self.destination)?);
        }
        self.send(&bytes)
    }

    /// Waits for the reply to the call of this serial.
    fn reply(&mut self, serial: u32) -> Result<Result<Reply, String>> {
        for _ in 0..=MAX_SKIPPED {
            let message = self.message()?;
            if let Some(outcome) = outcome(message, serial).map_err(|error| out_of_order(&error))? {
                return Ok(outcome);
            }
        }
        bail!("PID 1 sent {MAX_SKIPPED} other messages and no reply")
    }

    /// Takes the next message, header and body.
    fn message(&mut self) -> Result<Vec<u8>> {
        while self.unread.len() < FIXED_HEADER {
            self.receive()?;
        }
        let length = message_length(&self.unread, self.largest).map_err(|error| out_of_order(&error))?;
        while self.unread.len() < length {
            self.receive()?;
        }
        let rest = self.unread.split_off(length);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// Takes the next line of the authentication, without its end.
    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.unread.split_off(end + 2);
                let mut line = std::mem::replace(&mut self.unread, rest);
                line.truncate(end);
                return Ok(shown(OsStr::from_bytes(&line)).to_string());
            }
            if self.unread.len() > MAX_LINE {
                bail!(
                    "what answers there is not systemd: it sent \"{}\" and more without an end of line",
                    shown(OsStr::from_bytes(&self.unread)).at_most(20)
                );
            }
            self.receive()?;
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // Without MSG_NOSIGNAL a peer that hung up would kill the host process by SIGPIPE.
            match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(self.hung_up()),
                Err(errno) => bail!("cannot send: {}", errno.desc()),
            }
        }
        Ok(())
    }

    /// Waits for bytes and adds them to `unread`. Descriptors sent along are closed by the kernel: recv(2)
    /// has no place for them.
    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(self.hung_up()),
                Ok(count) => {
                    self.received += count;
                    self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    // A peer that always has more to say must not outrun the deadline either.
                    return self.left().map(drop);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN)?,
                Err(errno) => bail!("cannot receive: {}", errno.desc()),
            }
        }
    }

    /// Waits until the socket is ready, or fails at the deadline.
    fn wait(&self, events: PollFlags) -> Result<()> {
        // One more than the whole milliseconds, so that the last wait does not end just before the
        // deadline again and again.
        let milliseconds = self.left()?.as_millis() + 1;
        let timeout = PollTimeout::from(u16::try_from(milliseconds).unwrap_or(u16::MAX));
        match poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout) {
            // Whether the time is up is for the next call to find out.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => bail!("cannot wait for PID 1: {}", errno.desc()),
        }
    }

    /// The time left until the deadline, more than zero.
    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("PID 1 did not answer within the time limit ({} bytes came in): {HUNG}", self.received);
        }
        Ok(left)
    }

    fn hung_up(&self) -> anyhow::Error {
        anyhow!("PID 1 hung up before its answer was complete ({} bytes came in): {HUNG}", self.received)
    }
}

fn out_of_order(error: &anyhow::Error) -> anyhow::Error {
    one_line(error).context("what answers there is not systemd, or is out of order")
}
