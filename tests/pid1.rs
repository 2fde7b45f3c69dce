//! The client for PID 1's private socket against peers that behave, and against every way not to.
//!
//! Each peer is a thread of the test on a real socket in a directory of its own.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and most of this file is helpers of tests"
)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fairslice::host::pid1::{Asking, Listed, Manager, Question, ServiceProperties};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use tempfile::TempDir;
use zvariant::serialized::{Context, Data};
use zvariant::{BE, Endian, LE, NATIVE_ENDIAN, to_bytes, to_bytes_for_signature};
use zvariant::{Signature, Value as Variant};

/// The time limit of calls that are expected to run into it.
const LIMIT: Duration = Duration::from_millis(300);
/// How much later than the limit a call may return on a loaded machine.
const GRACE: Duration = Duration::from_secs(2);
/// The time limit of calls that are expected to end by themselves.
const AMPLE: Duration = Duration::from_secs(20);

const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
const OK: &[u8] = b"OK 00000000000000000000000000000000\r\n";

type Arguments<'a> = (&'a str, bool, Vec<(&'a str, Variant<'a>)>);
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A root directory with `run/systemd` in it, and the path of the socket.
fn root() -> (TempDir, PathBuf) {
    let root = TempDir::new().unwrap();
    std::fs::create_dir_all(root.path().join("run/systemd")).unwrap();
    let path = root.path().join("run/systemd/private");
    (root, path)
}

/// A root with a socket whose first connection is served by `script`, on a thread that ends by itself.
fn served_by(script: impl FnOnce(UnixStream) + Send + 'static) -> TempDir {
    let (root, path) = root();
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || script(listener.accept().unwrap().0));
    root
}

/// A root with a PID 1 that answers the first call with `answer`.
fn answering(answer: Vec<u8>) -> TempDir {
    served_by(move |mut peer| {
        authenticate(&mut peer);
        read_call(&mut peer);
        peer.write_all(&answer).unwrap();
        linger(&mut peer);
    })
}

/// Reads until the client has hung up, so that it is never us who does.
fn linger(peer: &mut UnixStream) {
    let _ = peer.read_to_end(&mut Vec::new());
}

fn authenticate(peer: &mut UnixStream) {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"BEGIN\r\n") {
        peer.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let mut identity = String::new();
    for digit in nix::unistd::geteuid().to_string().bytes() {
        write!(identity, "{digit:02x}").unwrap();
    }
    assert_eq!(String::from_utf8(line).unwrap(), format!("\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n"));
    peer.write_all(OK).unwrap();
}

fn read_call(peer: &mut UnixStream) -> Vec<u8> {
    let mut message = vec![0; 16];
    peer.read_exact(&mut message).unwrap();
    let number = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
    let rest = number(12).next_multiple_of(8) + number(4);
    message.resize(16 + usize::try_from(rest).unwrap(), 0);
    peer.read_exact(&mut message[16..]).unwrap();
    message
}

/// A message as PID 1 writes it; `text` becomes its only argument.
fn message(endian: Endian, kind: u8, mut fields: Vec<(u8, Variant<'_>)>, text: Option<&str>) -> Vec<u8> {
    let context = Context::new_dbus(endian, 0);
    let body = text.map_or_else(Vec::new, |text| {
        fields.push((8, Variant::Signature(Signature::Str)));
        to_bytes(context, text).unwrap().bytes().to_vec()
    });
    let order = if endian == LE { b'l' } else { b'B' };
    let length = u32::try_from(body.len()).unwrap();
    let header: Header<'_> = (order, kind, 1, 1, length, 42, fields);
    let mut message = to_bytes(context, &header).unwrap().bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(&body);
    message
}

fn done(endian: Endian) -> Vec<u8> {
    message(endian, RETURN, vec![(5, Variant::U32(1))], None)
}

fn refused(endian: Endian, name: &str, text: Option<&str>) -> Vec<u8> {
    let fields = vec![(5, Variant::U32(1)), (4, Variant::from(name.to_owned()))];
    message(endian, ERROR, fields, text)
}

fn signal() -> Vec<u8> {
    let fields = vec![
        (1, Variant::ObjectPath("/org/freedesktop/systemd1".try_into().unwrap())),
        (2, Variant::from("org.freedesktop.systemd1.Manager")),
        (3, Variant::from("Reloading")),
    ];
    message(LE, SIGNAL, fields, Some("now"))
}

/// Makes the call; an error comes back as it is logged. In every case the limit is kept.
fn call(root: &TempDir, limit: Duration) -> Result<(), String> {
    let start = Instant::now();
    let outcome = Manager::below(root.path()).set_unit_properties(
        "user-1001.slice",
        &[("CPUWeight", 200), ("MemoryMax", u64::MAX)],
        start + limit,
    );
    let taken = start.elapsed();
    assert!(taken < limit + GRACE, "took {taken:?} of {limit:?}");
    outcome.map_err(|error| {
        let error = format!("{error:#}");
        let what = "cannot set CPUWeight=200 MemoryMax=18446744073709551615 on user-1001.slice";
        let socket = root.path().join("run/systemd/private");
        let prefix = format!("{what} through {}: ", socket.display());
        let reason = error.strip_prefix(&prefix);
        let reason = reason.unwrap_or_else(|| panic!("{error:?} lacks {prefix:?}"));
        assert!(!reason.contains(char::is_control), "{reason:?}");
        reason.to_owned()
    })
}

/// Checks that the call fails for this reason, and not because time ran out.
fn fails(root: &TempDir, reason: &str) {
    let error = call(root, AMPLE).unwrap_err();
    assert!(error.contains(reason), "{error:?} is not {reason:?}");
}

/// Checks that the call fails when the limit is reached, and not before.
fn runs_out_of_time(root: &TempDir, reason: &str) {
    let start = Instant::now();
    let error = call(root, LIMIT).unwrap_err();
    assert!(start.elapsed() >= LIMIT, "gave up early: {error}");
    assert!(error.contains("within the time limit"), "{error:?}");
    assert!(error.contains(reason), "{error:?} is not {reason:?}");
}

#[test]
fn the_call_says_what_was_asked_for() {
    let root = served_by(|mut peer| {
        authenticate(&mut peer);
        let call = read_call(&mut peer);
        let data = Data::new(&call, Context::new_dbus(NATIVE_ENDIAN, 0));
        let (header, end): (Header<'_>, usize) = data.deserialize().unwrap();
        assert_eq!(header.1, 1, "a method call");
        let text = |code| {
            let field = header.6.iter().find(|field| field.0 == code).unwrap();
            match &field.1 {
                Variant::Str(text) => text.to_string(),
                Variant::ObjectPath(path) => path.to_string(),
                Variant::Signature(signature) => signature.to_string_no_parens(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(text(1), "/org/freedesktop/systemd1");
        assert_eq!(text(2), "org.freedesktop.systemd1.Manager");
        assert_eq!(text(3), "SetUnitProperties");
        assert_eq!(text(8), "sba(sv)");
        let body = &call[end.next_multiple_of(8)..];
        let body = Data::new(body, Context::new_dbus(NATIVE_ENDIAN, 0));
        let (arguments, _): (Arguments<'_>, usize) = body.deserialize().unwrap();
        let (unit, runtime, properties) = arguments;
        assert_eq!((unit, runtime), ("user-1001.slice", true));
        let expected = vec![("CPUWeight", Variant::U64(200)), ("MemoryMax", Variant::U64(u64::MAX))];
        assert_eq!(properties, expected);
        peer.write_all(&done(LE)).unwrap();
        linger(&mut peer);
    });
    call(&root, AMPLE).unwrap();
}

/// A reload has no arguments; a cgroup is written by a property that is no change.
#[test]
fn a_reload_and_a_cgroup_are_asked_for() {
    let root = served_by(|mut peer| {
        authenticate(&mut peer);
        let call = read_call(&mut peer);
        let data = Data::new(&call, Context::new_dbus(NATIVE_ENDIAN, 0));
        let (header, end): (Header<'_>, usize) = data.deserialize().unwrap();
        assert_eq!((header.1, header.4, call.len()), (1, 0, end.next_multiple_of(8)), "no body");
        assert!(call.escape_ascii().to_string().contains("Reload"));
        peer.write_all(&done(LE)).unwrap();
        linger(&mut peer);
    });
    Manager::below(root.path()).reload(Instant::now() + AMPLE).unwrap();

    let root = served_by(|mut peer| {
        authenticate(&mut peer);
        let call = read_call(&mut peer);
        let data = Data::new(&call, Context::new_dbus(NATIVE_ENDIAN, 0));
        let (_, end): (Header<'_>, usize) = data.deserialize().unwrap();
        let body = Data::new(&call[end.next_multiple_of(8)..], Context::new_dbus(NATIVE_ENDIAN, 0));
        let (arguments, _): (Arguments<'_>, usize) = body.deserialize().unwrap();
        assert_eq!(arguments, ("a.slice", true, vec![("Markers", Variant::from(Vec::<&str>::new()))]));
        peer.write_all(&done(LE)).unwrap();
        linger(&mut peer);
    });
    Manager::below(root.path()).write_cgroup("a.slice", Instant::now() + AMPLE).unwrap();
    let error = Manager::below(Path::new("/nowhere")).reload(Instant::now() + AMPLE).unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot reload units through /nowhere/run/systemd/private: "));
}

#[test]
fn a_reply_in_either_byte_order_counts() {
    for endian in [LE, BE] {
        call(&answering(done(endian)), AMPLE).unwrap();
        let refusal = refused(endian, "org.freedesktop.DBus.Error.AccessDenied", Some("No."));
        let reason = "PID 1 answered org.freedesktop.DBus.Error.AccessDenied: No.";
        fails(&answering(refusal), reason);
    }
}

#[test]
fn a_refusal_is_told_in_one_line() {
    let name = "org.freedesktop.systemd1.NoSuchUnit";
    let fake_line = refused(LE, name, Some("no\nsshd[1]: Accepted password for root"));
    fails(&answering(fake_line), r"NoSuchUnit: no\nsshd[1]: Accepted password for root");
    fails(&answering(refused(LE, name, None)), "without a text");
    let long = refused(LE, name, Some(&"x".repeat(60_000)));
    let error = call(&answering(long), AMPLE).unwrap_err();
    assert!(error.len() < 500, "{} bytes", error.len());
    fails(&answering(refused(LE, "no name", None)), "not systemd");
}

#[test]
fn messages_about_something_else_are_skipped() {
    let other = message(LE, RETURN, vec![(5, Variant::U32(99))], None);
    call(&answering([signal(), other, done(LE)].concat()), AMPLE).unwrap();
    let many = [signal().repeat(10_000), done(LE)].concat();
    call(&answering(many), AMPLE).unwrap();
    let too_many = [signal().repeat(10_001), done(LE)].concat();
    fails(&answering(too_many), "10000 other messages and no reply");
}

/// The reply to `Get` with this serial.
fn property(serial: u32, value: &Variant<'_>) -> Vec<u8> {
    let fields = vec![(5, Variant::U32(serial)), (8, Variant::Signature(Signature::Variant))];
    let body = to_bytes(Context::new_dbus(LE, 0), value).unwrap();
    let header: Header<'_> = (b'l', RETURN, 1, 1, u32::try_from(body.len()).unwrap(), 42, fields);
    let mut message = to_bytes(Context::new_dbus(LE, 0), &header).unwrap().bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(body.bytes());
    message
}

#[test]
fn a_services_settings_are_asked_for_one_after_the_other() {
    let ask = |last: Variant<'static>| {
        let root = served_by(move |mut peer| {
            authenticate(&mut peer);
            let answers = [
                Variant::from("forking"),
                Variant::U32(7),
                Variant::from("mixed"),
                Variant::I32(2),
                Variant::U64(9),
                last,
            ];
            for (serial, answer) in (1..).zip(&answers) {
                let call = read_call(&mut peer).escape_ascii().to_string();
                assert!(call.contains("/org/freedesktop/systemd1/unit/local_2dfs_2eservice"), "{call}");
                peer.write_all(&property(serial, answer)).unwrap();
            }
            linger(&mut peer);
        });
        Manager::below(root.path()).service_properties("local-fs.service", Instant::now() + AMPLE)
    };
    let settings = ask(Variant::Bool(true)).unwrap();
    let expected = ServiceProperties {
        kind: "forking".to_owned(),
        main_pid: 7,
        kill_mode: "mixed".to_owned(),
        kill_signal: 2,
        stop_timeout: 9,
        delegate: true,
    };
    assert_eq!(settings, expected);
    let error = format!("{:#}", ask(Variant::U32(1)).unwrap_err());
    assert!(error.contains("local-fs.service") && error.contains("another type"), "{error}");
}

/// A root with a bus, which answers `Hello`; the next call is the second one.
fn bus(script: impl FnOnce(UnixStream) + Send + 'static) -> TempDir {
    let root = TempDir::new().unwrap();
    std::fs::create_dir_all(root.path().join("run/dbus")).unwrap();
    let listener = UnixListener::bind(root.path().join("run/dbus/system_bus_socket")).unwrap();
    thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        authenticate(&mut peer);
        let hello = read_call(&mut peer).escape_ascii().to_string();
        assert!(hello.contains("Hello") && hello.contains("org.freedesktop.DBus"), "{hello}");
        let name = message(LE, RETURN, vec![(5, Variant::U32(1))], Some(":1.7"));
        peer.write_all(&[name, signal()].concat()).unwrap();
        script(peer);
    });
    root
}

#[test]
fn many_questions_are_answered_in_their_order() {
    const MANY: u32 = 1000;
    let answers = |first: u32| {
        move |mut peer: UnixStream| {
            for serial in first..first + MANY {
                let call = read_call(&mut peer).escape_ascii().to_string();
                assert!(call.contains("unit/a_2eslice") && call.contains("CPUWeight"), "{call}");
                // One that is gone meanwhile.
                let answer = if serial == first + 70 {
                    message(LE, ERROR, vec![(5, Variant::U32(serial)), (4, Variant::from("a.b"))], None)
                } else {
                    property(serial, &Variant::U64(u64::from(serial - first)))
                };
                peer.write_all(&[answer, signal()].concat()).unwrap();
            }
            linger(&mut peer);
        }
    };
    let ask = |mut pid1: Asking| {
        let question = Question { unit: "a.slice", interface: "x.y.Slice", property: "CPUWeight" };
        let number = |_: &Question<'_>, value: &Variant<'_>| u64::try_from(value).ok();
        pid1.answers(&vec![question; MANY as usize], number).unwrap()
    };
    let expected: Vec<_> = (0..u64::from(MANY)).map(|number| (number != 70).then_some(number)).collect();
    let deadline = Instant::now() + AMPLE;
    let root = served_by(move |mut peer| {
        authenticate(&mut peer);
        answers(1)(peer);
    });
    assert_eq!(ask(Asking::as_root(root.path(), deadline).unwrap()), expected);
    assert_eq!(ask(Asking::as_anybody(bus(answers(2)).path(), deadline).unwrap()), expected);
}

#[test]
fn units_are_listed_over_a_bus() {
    let root = bus(|mut peer| {
        let call = read_call(&mut peer).escape_ascii().to_string();
        assert!(call.contains("ListUnitsByPatterns") && call.contains("*.slice"), "{call}");
        assert!(call.contains("org.freedesktop.systemd1\\x00"), "to whom: {call}");
        let none = "/";
        let entry = ("a.slice", "A", "loaded", "active", "running", "", none, 0_u32, "", none);
        let body = to_bytes_for_signature(Context::new_dbus(LE, 0), "a(ssssssouso)", &vec![entry]).unwrap();
        let fields = vec![(5, Variant::U32(2))];
        let header: Header<'_> = (b'l', RETURN, 1, 1, u32::try_from(body.bytes().len()).unwrap(), 42, fields);
        let mut message = to_bytes(Context::new_dbus(LE, 0), &header).unwrap().bytes().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        peer.write_all(&[&message, body.bytes()].concat()).unwrap();
        linger(&mut peer);
    });
    let listed = Asking::as_anybody(root.path(), Instant::now() + AMPLE).unwrap().units_like(&["*.slice"]);
    let [name, load, active, sub] = ["a.slice", "loaded", "active", "running"].map(str::to_owned);
    assert_eq!(listed.unwrap(), [Listed { name, load, active, sub }]);
}

#[test]
fn no_peer_is_told_at_once() {
    let (empty, path) = root();
    fails(&empty, "no such socket: is systemd running as PID 1?");
    drop(UnixListener::bind(&path).unwrap());
    fails(&empty, "nobody listens on the socket");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file").unwrap();
    fails(&empty, "nobody listens on the socket");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    fails(&empty, "nobody listens on the socket");

    let long = PathBuf::from("/").join("x".repeat(200));
    let error =
        Manager::below(&long).set_unit_properties("a.slice", &[], Instant::now() + AMPLE).unwrap_err();
    assert!(format!("{error:#}").contains("not a path for a socket"));
}

#[test]
fn a_peer_that_refuses_or_is_somebody_else() {
    let rejecting = served_by(|mut peer| {
        peer.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        linger(&mut peer);
    });
    fails(&rejecting, "refused the connection of user id");
    let web_server = served_by(|mut peer| {
        peer.write_all(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n").unwrap();
        linger(&mut peer);
    });
    fails(&web_server, "it said \"HTTP/1.1 400 Bad Request\" where OK belongs");
    let endless = served_by(|mut peer| while peer.write_all(&[0xff; 4096]).is_ok() {});
    fails(&endless, "without an end of line");
}

#[test]
fn a_peer_that_hangs_up() {
    fails(&served_by(drop), "hung up");
    let after_ok = served_by(|mut peer| authenticate(&mut peer));
    fails(&after_ok, "hung up");
    let after_call = served_by(|mut peer| {
        authenticate(&mut peer);
        read_call(&mut peer);
    });
    fails(&after_call, "hung up");
    for length in [1, 15, 16, 20] {
        let half_way = served_by(move |mut peer| {
            authenticate(&mut peer);
            read_call(&mut peer);
            peer.write_all(&done(LE)[..length]).unwrap();
        });
        let reason = format!("hung up before its answer was complete ({} bytes", 37 + length);
        fails(&half_way, &reason);
    }
}

#[test]
fn garbage_is_not_believed() {
    fails(&answering(vec![0xff; 100]), "not a D-Bus message");
    fails(&answering(vec![b'l'; 100]), "protocol version 108");
    let mut no_name = message(LE, ERROR, vec![(5, Variant::U32(1))], None);
    fails(&answering(no_name.clone()), "an error without a name");
    // The same with its last field's type made an unknown one.
    let kind = no_name.len() - 6;
    no_name[kind] = b'?';
    fails(&answering(no_name), "not systemd, or is out of order");
}

#[test]
fn a_claim_of_more_than_we_read_is_refused_before_it_is_sent() {
    let gibibyte = 1_u32 << 30;
    for (fields, body) in [(0, gibibyte), (gibibyte, 0), (u32::MAX, u32::MAX), (0, 65_521)] {
        let mut claim = b"l\x02\x01\x01".to_vec();
        claim.extend(body.to_le_bytes());
        claim.extend(42_u32.to_le_bytes());
        claim.extend(fields.to_le_bytes());
        fails(&answering(claim), "more than the 65536 that are read");
    }
}

#[test]
fn a_peer_that_is_slow_but_sure_is_waited_for() {
    let root = served_by(|mut peer| {
        authenticate(&mut peer);
        read_call(&mut peer);
        for byte in [signal(), done(LE)].concat() {
            peer.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        linger(&mut peer);
    });
    call(&root, AMPLE).unwrap();
}

#[test]
fn a_peer_that_trickles_or_never_stops_does_not_outlast_the_limit() {
    let trickling = served_by(|mut peer| {
        authenticate(&mut peer);
        for byte in refused(LE, "a.b", Some(&"x".repeat(1000))) {
            if peer.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(30));
        }
    });
    runs_out_of_time(&trickling, "bytes came in");
    let trickling_from_the_start = served_by(|mut peer| {
        while peer.write_all(b"O").is_ok() {
            thread::sleep(Duration::from_millis(30));
        }
    });
    runs_out_of_time(&trickling_from_the_start, "bytes came in");
}

#[test]
fn a_peer_that_never_answers() {
    let silent = served_by(|mut peer| linger(&mut peer));
    runs_out_of_time(&silent, "(0 bytes came in)");
    let silent_after_ok = served_by(|mut peer| {
        authenticate(&mut peer);
        linger(&mut peer);
    });
    runs_out_of_time(&silent_after_ok, "(37 bytes came in)");
    let (root, path) = root();
    let _never_accepting = UnixListener::bind(path).unwrap();
    runs_out_of_time(&root, "(0 bytes came in)");
    // A limit that has passed already: nothing is waited for.
    assert!(call(&root, Duration::ZERO).is_err());
}

/// A call longer than the socket's buffers, to a peer that never reads.
#[test]
fn a_peer_that_never_reads() {
    let root = served_by(|mut peer| {
        peer.write_all(OK).unwrap();
        thread::sleep(LIMIT + GRACE);
    });
    let start = Instant::now();
    let unit = "x".repeat(4 << 20);
    let error = Manager::below(root.path()).set_unit_properties(&unit, &[], start + LIMIT).unwrap_err();
    assert!(start.elapsed() < LIMIT + GRACE);
    let error = format!("{error:#}");
    assert!(error.len() < 1000, "{} bytes", error.len());
    assert!(error.contains("within the time limit"), "{error}");
}

#[test]
fn a_full_backlog_is_waited_for_until_the_limit() {
    let (root, path) = root();
    let flags = SockFlag::SOCK_CLOEXEC;
    let full = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    bind(full.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&full, Backlog::new(0).unwrap()).unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    runs_out_of_time(&root, "accepted no connection");

    // Room is made, and PID 1 comes back to life.
    let listener = UnixListener::from(full);
    let server = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        drop(listener.accept().unwrap());
        let mut peer = listener.accept().unwrap().0;
        authenticate(&mut peer);
        read_call(&mut peer);
        peer.write_all(&done(LE)).unwrap();
        linger(&mut peer);
    });
    call(&root, AMPLE).unwrap();
    server.join().unwrap();
    drop(waiting);
}
