//! Messages on the wire: calls of ours, replies of PID 1's.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use zvariant::Type;
use zvariant::Value as Variant;
use zvariant::serialized::{Context, Data};
use zvariant::{BE, LE, NATIVE_ENDIAN, to_bytes_for_signature};

use super::MAX_TEXT;
use crate::text::shown;

// The message types, header fields and header of the D-Bus specification, "Message Format".
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH_FIELD: u8 = 1;
const INTERFACE_FIELD: u8 = 2;
const MEMBER_FIELD: u8 = 3;
const ERROR_NAME_FIELD: u8 = 4;
const REPLY_SERIAL_FIELD: u8 = 5;
const DESTINATION_FIELD: u8 = 6;
const SIGNATURE_FIELD: u8 = 8;
const PROTOCOL_VERSION: u8 = 1;
/// The bytes from which a message's length can be told: the header up to its array of fields.
pub(super) const FIXED_HEADER: usize = 16;
/// Byte order, type, flags, version, body length, serial, length of the fields.
type FixedHeader = (u8, u8, u8, u8, u32, u32, u32);
/// The same with the fields in place of their length.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A method call: of which object, which method, with which arguments.
pub(super) struct Call<'a> {
    pub(super) object: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// The arguments' types.
    pub(super) signature: &'a str,
    /// The arguments, marshalled.
    pub(super) body: Vec<u8>,
}

impl Call<'_> {
    /// Marshals the call. On a bus, it goes to this name.
    pub(super) fn message(&self, serial: u32, to: Option<&str>) -> Result<Vec<u8>> {
        let byte_order = if NATIVE_ENDIAN == LE { b'l' } else { b'B' };
        let flags = 0_u8;
        let body_length = u32::try_from(self.body.len()).context("too long for D-Bus")?;
        // The variants are given as pairs of type and value: zvariant would write the type of `sba(sv)`
        // as `(sba(sv))`, one structure, which PID 1 takes for something else.
        let mut fields = vec![
            (PATH_FIELD, ("o", self.object)),
            (INTERFACE_FIELD, ("s", self.interface)),
            (MEMBER_FIELD, ("s", self.member)),
            (SIGNATURE_FIELD, ("g", self.signature)),
        ];
        fields.extend(to.map(|name| (DESTINATION_FIELD, ("s", name))));
        let header = (byte_order, METHOD_CALL, flags, PROTOCOL_VERSION, body_length, serial, fields);
        let context = Context::new_dbus(NATIVE_ENDIAN, 0);
        let header = to_bytes_for_signature(context, "(yyyyuua(yv))", &header)?;
        let mut message = header.bytes().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(&self.body);
        Ok(message)
    }
}

/// The arguments of a successful reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    decoding: Context,
    body: Vec<u8>,
}

impl Reply {
    /// The arguments, all of them.
    pub(super) fn arguments<T: DeserializeOwned + Type>(&self) -> Result<T> {
        let data = Data::new(self.body.as_slice(), self.decoding);
        let (arguments, _) = data.deserialize::<T>().map_err(|error| one_line(&error.into()))?;
        Ok(arguments)
    }

    /// What `org.freedesktop.DBus.Properties.GetAll` gives, as `to` makes it of each.
    pub(super) fn properties<T>(
        &self,
        to: impl Fn(&str, &Variant<'_>) -> Option<T>,
    ) -> Result<Vec<(String, T)>> {
        let data = Data::new(self.body.as_slice(), self.decoding);
        let all = data.deserialize::<BTreeMap<String, Variant<'_>>>();
        let (all, _) = all.map_err(|error| one_line(&error.into()))?;
        let made = all.into_iter().filter_map(|(name, value)| {
            let made = to(&name, &value)?;
            Some((name, made))
        });
        Ok(made.collect())
    }

    // What `org.freedesktop.DBus.Properties.Get` gives is one value of any type.

    pub(super) fn text(&self) -> Result<String> {
        self.value(|value| if let Variant::Str(text) = value { Some(text.to_string()) } else { None })
    }

    pub(super) fn boolean(&self) -> Result<bool> {
        self.value(|value| if let Variant::Bool(value) = value { Some(*value) } else { None })
    }

    pub(super) fn signed_number(&self) -> Result<i32> {
        self.value(|value| if let Variant::I32(value) = value { Some(*value) } else { None })
    }

    pub(super) fn number(&self) -> Result<u32> {
        self.value(|value| if let Variant::U32(value) = value { Some(*value) } else { None })
    }

    pub(super) fn wide_number(&self) -> Result<u64> {
        self.value(|value| if let Variant::U64(value) = value { Some(*value) } else { None })
    }

    pub(super) fn value<T>(&self, of_type: impl FnOnce(&Variant<'_>) -> Option<T>) -> Result<T> {
        let data = Data::new(self.body.as_slice(), self.decoding);
        let value = data.deserialize::<Variant<'_>>().map_err(|error| one_line(&error.into()));
        let (value, _) = value.context("the reply holds no value")?;
        of_type(&value).context("the reply holds a value of another type")
    }
}

/// What is wrong with a message, of which zvariant may repeat a part.
pub(super) fn one_line(error: &anyhow::Error) -> anyhow::Error {
    anyhow!("{}", shown(&format!("{error:#}")).at_most(MAX_TEXT))
}

/// How to decode a message that starts with these bytes.
fn decoding(message: &[u8]) -> Result<Context> {
    match message.first() {
        Some(b'l') => Ok(Context::new_dbus(LE, 0)),
        Some(b'B') => Ok(Context::new_dbus(BE, 0)),
        other => bail!("not a D-Bus message: {other:?} is no byte order"),
    }
}

/// The length in bytes, header and body, of the message that starts with these bytes, of which
/// there are at least [`FIXED_HEADER`]; no more than `largest`.
pub(super) fn message_length(start: &[u8], largest: u64) -> Result<usize> {
    let (header, _) = Data::new(start, decoding(start)?).deserialize::<FixedHeader>()?;
    let (_, _, _, version, body, _, fields) = header;
    if version != PROTOCOL_VERSION {
        bail!("not a D-Bus message: protocol version {version}");
    }
    let length = FIXED_HEADER as u64 + u64::from(fields).next_multiple_of(8) + u64::from(body);
    if length > largest {
        bail!("a message of {length} bytes, more than the {largest} that are read");
    }
    Ok(usize::try_from(length)?)
}

/// What a complete message says about the call of this serial: done, or refused with the reason;
/// `None` if it is about something else.
pub(super) fn outcome(mut message: Vec<u8>, serial: u32) -> Result<Option<Result<Reply, String>>> {
    let decoding = decoding(&message)?;
    let data = Data::new(message.as_slice(), decoding);
    let ((_, kind, _, _, _, _, fields), end) = data.deserialize::<Header<'_>>()?;
    let field = |code| fields.iter().find(|(found, _)| *found == code);
    if !matches!(field(REPLY_SERIAL_FIELD), Some((_, Variant::U32(to))) if *to == serial) {
        return Ok(None);
    }
    let body = end.next_multiple_of(8).min(message.len());
    match kind {
        METHOD_RETURN => {
            let body = message.split_off(body);
            Ok(Some(Ok(Reply { decoding, body })))
        }
        ERROR => {
            let name = match field(ERROR_NAME_FIELD) {
                Some((_, Variant::Str(name))) if is_error_name(name) => name.as_str(),
                Some((_, Variant::Str(name))) => {
                    bail!("\"{}\" is no name of an error", shown(name.as_str()).at_most(MAX_TEXT))
                }
                _ => bail!("an error without a name"),
            };
            // By convention the first argument of an error, if it is a string, is its text.
            let text = match field(SIGNATURE_FIELD) {
                Some((_, Variant::Signature(signature)))
                    if signature.to_string_no_parens().starts_with('s') =>
                {
                    let body = Data::new(message.get(body..).unwrap_or_default(), decoding);
                    let (text, _) = body.deserialize::<&str>()?;
                    shown(text).at_most(MAX_TEXT).to_string()
                }
                _ => "without a text".to_owned(),
            };
            Ok(Some(Err(format!("{name}: {text}"))))
        }
        _ => Ok(None),
    }
}

/// The D-Bus specification's "Error Names": at least two parts, in ASCII.
fn is_error_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    name.len() <= 255 && name.contains('.') && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use zvariant::Signature;
    use zvariant::to_bytes;

    use super::super::LARGEST;
    use super::*;

    fn error_reply() -> Vec<u8> {
        let text = "Unit a.slice not found.";
        let body = to_bytes(Context::new_dbus(LE, 0), text).unwrap();
        let fields = vec![
            (ERROR_NAME_FIELD, Variant::from("org.freedesktop.systemd1.NoSuchUnit")),
            (REPLY_SERIAL_FIELD, Variant::U32(1)),
            (SIGNATURE_FIELD, Variant::Signature(Signature::Str)),
        ];
        let length = u32::try_from(body.len()).unwrap();
        let header: Header<'_> = (b'l', ERROR, 1, PROTOCOL_VERSION, length, 7, fields);
        let mut message = to_bytes(Context::new_dbus(LE, 0), &header).unwrap().bytes().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(body.bytes());
        message
    }

    /// The bytes that the specification asks for, written out by hand.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_on_the_wire() {
        let call = super::super::set_unit_properties("a.slice", &[("CPUWeight", 200)], &[]).unwrap();
        let expected: &[&[u8]] = &[
            b"l\x01\x00\x01\x38\0\0\0\x01\0\0\0\x85\0\0\0",
            b"\x01\x01o\0\x19\0\0\0/org/freedesktop/systemd1\0\0\0\0\0\0\0",
            b"\x02\x01s\0\x20\0\0\0org.freedesktop.systemd1.Manager\0\0\0\0\0\0\0\0",
            b"\x03\x01s\0\x11\0\0\0SetUnitProperties\0\0\0\0\0\0\0",
            b"\x08\x01g\0\x07sba(sv)\0\0\0\0",
            b"\x07\0\0\0a.slice\0\x01\0\0\0\x20\0\0\0\0\0\0\0",
            b"\x09\0\0\0CPUWeight\0\x01t\0\0\0\0\0\0\0\0\xc8\0\0\0\0\0\0\0",
        ];
        assert_eq!(
            call.message(1, None).unwrap().escape_ascii().to_string(),
            expected.concat().escape_ascii().to_string()
        );
    }

    #[test]
    fn only_a_reply_to_our_call_counts() {
        let Some(Err(refusal)) = outcome(error_reply(), 1).unwrap() else {
            panic!("an error reply must be a refusal");
        };
        let expected = "org.freedesktop.systemd1.NoSuchUnit: Unit a.slice not found.";
        assert_eq!(refusal, expected);

        let fields = vec![(REPLY_SERIAL_FIELD, Variant::U32(2))];
        let header: Header<'_> = (b'l', METHOD_RETURN, 1, PROTOCOL_VERSION, 0, 7, fields);
        let other = to_bytes(Context::new_dbus(LE, 0), &header).unwrap();
        assert_eq!(outcome(other.bytes().to_vec(), 1).unwrap(), None);
    }

    /// What comes in was written by somebody else: every byte of it, replaced by every value, and
    /// every length of it must be an answer or an error.
    #[test]
    fn no_message_makes_it_panic() {
        let good = error_reply();
        assert_eq!(message_length(&good, LARGEST).unwrap(), good.len());
        for position in 0..good.len() {
            let _ = outcome(good[..position].to_vec(), 1);
            for value in 0..=u8::MAX {
                let mut message = good.clone();
                message[position] = value;
                let _ = message_length(&message, LARGEST);
                let _ = outcome(message, 1);
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
            let _ = message_length(&message, LARGEST);
            let _ = outcome(message, 1);
        }
    }
}
