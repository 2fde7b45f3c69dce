//! PID 1's own D-Bus socket, `/run/systemd/private`: how fairslice changes a unit at runtime.
//!
//! systemd speaks D-Bus peer to peer there, to root only: no bus daemon, no `Hello`, no
//! destination. So it works early at boot, in a rescue system and while the bus restarts. The
//! protocol is the [D-Bus specification]'s (authentication, message format), the interface is
//! `org.freedesktop.systemd1(5)`.
//!
//! The caller is a guest in somebody else's process: the PAM module runs inside sshd, login, cron.
//! Hence what a connection here promises: one deadline for everything, connecting included; one
//! descriptor, close-on-exec, gone when the call returns; no thread, no signal raised or handled.
//!
//! The wire format is zbus's, the connection is our own. Read in zbus 6.2.1: its connection opens an
//! epoll, a timer and two pipe descriptors beside the socket; whatever is still alive outside
//! `block_on` runs on a thread, whose failed start is a panic; `method_timeout` covers a call, but
//! neither connecting nor authentication; and it accepts, and allocates, replies of up to 128 MiB.
//!
//! [D-Bus specification]: https://dbus.freedesktop.org/doc/dbus-specification.html
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, socket};
use nix::unistd::geteuid;
use zbus::Variant;
use zbus::names::ErrorName;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{BE, LE, NATIVE_ENDIAN, to_bytes, to_bytes_for_signature};

use crate::line::one_line;

/// Where systemd listens, below the root.
const SOCKET: &str = "run/systemd/private";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// The serial of the only call that a connection makes.
const SERIAL: u32 = 1;
/// The largest message that is read, in bytes. The replies awaited are empty, or an error's name
/// and one line of text.
const MAX_MESSAGE: u64 = 64 * 1024;
/// The longest line that is read while authenticating, in bytes. `OK` and a GUID take 37.
const MAX_LINE: usize = 1024;
/// How many unrelated messages, such as signals, are skipped before giving up on the reply.
const MAX_SKIPPED: usize = 64;
/// How long to wait before connecting again while PID 1's backlog is full.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
/// The longest error text that is passed on, in characters.
const MAX_TEXT: usize = 300;

// The message types, header fields and header of the D-Bus specification, "Message Format".
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH_FIELD: u8 = 1;
const INTERFACE_FIELD: u8 = 2;
const MEMBER_FIELD: u8 = 3;
const ERROR_NAME_FIELD: u8 = 4;
const REPLY_SERIAL_FIELD: u8 = 5;
const SIGNATURE_FIELD: u8 = 8;
const PROTOCOL_VERSION: u8 = 1;
/// The bytes from which a message's length can be told: the header up to its array of fields.
const FIXED_HEADER: usize = 16;
/// Byte order, type, flags, version, body length, serial, length of the fields.
type FixedHeader = (u8, u8, u8, u8, u32, u32, u32);
/// The same with the fields in place of their length.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// systemd's manager object, reached through its private socket. Each call connects anew.
#[derive(Debug, Clone)]
pub struct Manager {
    socket: PathBuf,
}

impl Manager {
    /// The manager whose socket is `run/systemd/private` below `root`, `/` on a live system.
    ///
    /// Nothing is opened, and the socket need not exist.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { socket: root.join(SOCKET) }
    }

    /// Sets properties of `unit` until the next boot: `SetUnitProperties` with `runtime` true.
    ///
    /// Only properties of D-Bus type `t` are covered, as `org.freedesktop.systemd1(5)` gives them:
    /// `CPUWeight` and `IOWeight` from 1 to 10,000; `MemoryMin`, `MemoryLow`, `MemoryHigh`,
    /// `MemoryMax`, `MemorySwapMax` in bytes; `TasksMax` as a count; [`u64::MAX`] is "infinity", and
    /// for a weight "not set". PID 1 sets all of them or none.
    ///
    /// Returns by `deadline`, give or take a few milliseconds, whatever the other side does.
    ///
    /// # Errors
    ///
    /// If there is no socket, it is not ours to use, PID 1 refuses the change (the error carries its
    /// name for it and its text), does not answer by `deadline`, hangs up, or what comes back is not
    /// D-Bus. Printed with `{:#}` the error is one line.
    pub fn set_unit_properties(
        &self,
        unit: &str,
        properties: &[(&str, u64)],
        deadline: Instant,
    ) -> Result<()> {
        let variants: Vec<(&str, Variant<'_>)> =
            properties.iter().map(|&(name, value)| (name, Variant::U64(value))).collect();
        let runtime = true;
        body(&(unit, runtime, variants))
            .and_then(|body| self.call("SetUnitProperties", "sba(sv)", &body, deadline))
            .with_context(|| {
                let list: Vec<String> =
                    properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let socket = self.socket.display();
                let (unit, list) = (one_line(unit, MAX_TEXT), list.join(" "));
                format!("cannot set {list} on {unit} through {socket}")
            })
    }

    /// Calls a method of the manager and waits for its reply, which is not looked into.
    fn call(&self, member: &str, signature: &str, body: &[u8], deadline: Instant) -> Result<()> {
        let message = method_call(member, signature, body)?;
        let mut peer = Peer::connect(&self.socket, deadline)?;
        peer.authenticate()?;
        peer.send(&message)?;
        peer.reply()
    }
}

/// Our end of a connection to PID 1.
struct Peer {
    socket: OwnedFd,
    deadline: Instant,
    /// What has come in and was not yet consumed.
    unread: Vec<u8>,
    /// How much has come in altogether, in bytes.
    received: usize,
}

impl Peer {
    fn connect(path: &Path, deadline: Instant) -> Result<Self> {
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
        Ok(Self { socket, deadline, unread: Vec::new(), received: 0 })
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
                one_line(&line, MAX_TEXT)
            ),
        }
    }

    /// Waits for the reply to our call.
    fn reply(&mut self) -> Result<()> {
        for _ in 0..=MAX_SKIPPED {
            let message = self.message()?;
            if let Some(outcome) =
                outcome(&message).context("what answers there is not systemd, or is out of order")?
            {
                return outcome.map_err(|refusal| anyhow!("PID 1 answered {refusal}"));
            }
        }
        bail!("PID 1 sent {MAX_SKIPPED} other messages and no reply")
    }

    /// Takes the next message, header and body.
    fn message(&mut self) -> Result<Vec<u8>> {
        while self.unread.len() < FIXED_HEADER {
            self.receive()?;
        }
        let length =
            message_length(&self.unread).context("what answers there is not systemd, or is out of order")?;
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
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.unread.len() > MAX_LINE {
                let start = String::from_utf8_lossy(&self.unread);
                let start: String = start.chars().take(20).collect();
                bail!(
                    "what answers there is not systemd: it sent \"{}\" and more without an end of line",
                    one_line(&start, MAX_TEXT)
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

/// Where to look when PID 1 keeps silent.
const HUNG: &str = "see journalctl -b _PID=1";

/// Marshals the arguments `sba(sv)`. A body begins on a multiple of 8 bytes, so it is marshalled as
/// if it began at 0.
fn body(arguments: &(&str, bool, Vec<(&str, Variant<'_>)>)) -> Result<Vec<u8>> {
    let body = to_bytes(Context::new(NATIVE_ENDIAN, 0), arguments)?;
    Ok(body.bytes().to_vec())
}

/// Marshals a call of the manager's method `member`.
fn method_call(member: &str, signature: &str, body: &[u8]) -> Result<Vec<u8>> {
    let byte_order = if NATIVE_ENDIAN == LE { b'l' } else { b'B' };
    let flags = 0_u8;
    let body_length = u32::try_from(body.len()).context("too long for D-Bus")?;
    // The variants are given as pairs of type and value: zbus would write the type of `sba(sv)` as
    // `(sba(sv))`, one structure, which PID 1 takes for something else.
    let fields = vec![
        (PATH_FIELD, ("o", OBJECT)),
        (INTERFACE_FIELD, ("s", INTERFACE)),
        (MEMBER_FIELD, ("s", member)),
        (SIGNATURE_FIELD, ("g", signature)),
    ];
    let header = (byte_order, METHOD_CALL, flags, PROTOCOL_VERSION, body_length, SERIAL, fields);
    let context = Context::new(NATIVE_ENDIAN, 0);
    let header = to_bytes_for_signature(context, "(yyyyuua(yv))", &header)?;
    let mut message = header.bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(body);
    Ok(message)
}

/// How to decode a message that starts with these bytes.
fn decoding(message: &[u8]) -> Result<Context> {
    match message.first() {
        Some(b'l') => Ok(Context::new(LE, 0)),
        Some(b'B') => Ok(Context::new(BE, 0)),
        other => bail!("not a D-Bus message: {other:?} is no byte order"),
    }
}

/// The length in bytes, header and body, of the message that starts with these bytes, of which
/// there are at least [`FIXED_HEADER`].
fn message_length(start: &[u8]) -> Result<usize> {
    let (header, _) = Data::new(start, decoding(start)?).deserialize::<FixedHeader>()?;
    let (_, _, _, version, body, _, fields) = header;
    if version != PROTOCOL_VERSION {
        bail!("not a D-Bus message: protocol version {version}");
    }
    let length = FIXED_HEADER as u64 + u64::from(fields).next_multiple_of(8) + u64::from(body);
    if length > MAX_MESSAGE {
        bail!("a message of {length} bytes, more than the {MAX_MESSAGE} that are read");
    }
    Ok(usize::try_from(length)?)
}

/// What a complete message says about our call: done, or refused with the reason; `None` if it is
/// about something else.
fn outcome(message: &[u8]) -> Result<Option<Result<(), String>>> {
    let decoding = decoding(message)?;
    let header = Data::new(message, decoding);
    let ((_, kind, _, _, _, _, fields), end) = header.deserialize::<Header<'_>>()?;
    let field = |code| fields.iter().find(|(found, _)| *found == code);
    let to_us = matches!(field(REPLY_SERIAL_FIELD), Some((_, Variant::U32(SERIAL))));
    match kind {
        METHOD_RETURN if to_us => Ok(Some(Ok(()))),
        ERROR if to_us => {
            let name = match field(ERROR_NAME_FIELD) {
                Some((_, Variant::Str(name))) => ErrorName::try_from(name.as_str())?,
                _ => bail!("an error without a name"),
            };
            // By convention the first argument of an error, if it is a string, is its text.
            let text = match field(SIGNATURE_FIELD) {
                Some((_, Variant::Signature(signature)))
                    if signature.to_string_no_parens().starts_with('s') =>
                {
                    let body = message.get(end.next_multiple_of(8)..).unwrap_or_default();
                    let body = Data::new(body, decoding);
                    let (text, _) = body.deserialize::<&str>()?;
                    one_line(text, MAX_TEXT)
                }
                _ => "without a text".to_owned(),
            };
            Ok(Some(Err(format!("{name}: {text}"))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use zbus::Signature;

    use super::*;

    fn error_reply() -> Vec<u8> {
        let text = "Unit a.slice not found.";
        let body = to_bytes(Context::new(LE, 0), text).unwrap();
        let fields = vec![
            (ERROR_NAME_FIELD, Variant::from("org.freedesktop.systemd1.NoSuchUnit")),
            (REPLY_SERIAL_FIELD, Variant::U32(SERIAL)),
            (SIGNATURE_FIELD, Variant::Signature(Signature::Str)),
        ];
        let length = u32::try_from(body.len()).unwrap();
        let header: Header<'_> = (b'l', ERROR, 1, PROTOCOL_VERSION, length, 7, fields);
        let mut message = to_bytes(Context::new(LE, 0), &header).unwrap().bytes().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(body.bytes());
        message
    }

    /// The bytes that the specification asks for, written out by hand.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_on_the_wire() {
        let arguments = ("a.slice", true, vec![("CPUWeight", Variant::U64(200))]);
        let message = method_call("SetUnitProperties", "sba(sv)", &body(&arguments).unwrap());
        let expected: &[&[u8]] = &[
            b"l\x01\x00\x01\x38\0\0\0\x01\0\0\0\x85\0\0\0",
            b"\x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0",
            b"\x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0",
            b"\x03\x01s\0\x11\0\0\0SetUnitProperties\0\0\0\0\0\0\0",
            b"\x08\x01g\0\x07sba(sv)\0\0\0\0",
            b"\x07\0\0\0a.slice\0\x01\0\0\0\x20\0\0\0\0\0\0\0",
            b"\x09\0\0\0CPUWeight\0\x01t\0\0\0\0\0\0\0\0\xc8\0\0\0\0\0\0\0",
        ];
        assert_eq!(message.unwrap().escape_ascii().to_string(), expected.concat().escape_ascii().to_string());
    }

    #[test]
    fn only_a_reply_to_our_call_counts() {
        let Some(Err(refusal)) = outcome(&error_reply()).unwrap() else {
            panic!("an error reply must be a refusal");
        };
        let expected = "org.freedesktop.systemd1.NoSuchUnit: Unit a.slice not found.";
        assert_eq!(refusal, expected);

        let fields = vec![(REPLY_SERIAL_FIELD, Variant::U32(SERIAL + 1))];
        let header: Header<'_> = (b'l', METHOD_RETURN, 1, PROTOCOL_VERSION, 0, 7, fields);
        let other = to_bytes(Context::new(LE, 0), &header).unwrap();
        assert_eq!(outcome(&other).unwrap(), None);
    }

    /// What comes in was written by somebody else: every byte of it, replaced by every value, and
    /// every length of it must be an answer or an error.
    #[test]
    fn no_message_makes_it_panic() {
        let good = error_reply();
        assert_eq!(message_length(&good).unwrap(), good.len());
        for position in 0..good.len() {
            let _ = outcome(&good[..position]);
            for value in 0..=u8::MAX {
                let mut message = good.clone();
                message[position] = value;
                let _ = message_length(&message);
                let _ = outcome(&message);
            }
        }
        // Several bytes at once, by a fixed sequence of pseudo-random numbers.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap()
        };
        for _ in 0..50_000 {
            let mut message = good.clone();
            for _ in 0..=random() % 8 {
                let position = random() % message.len();
                message[position] = u8::try_from(random() % 256).unwrap();
            }
            let _ = message_length(&message);
            let _ = outcome(&message);
        }
    }
}
