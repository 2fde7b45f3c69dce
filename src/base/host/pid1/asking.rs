//! Many questions to PID 1 over one connection.
//!
//! A question costs PID 1 about ten times what one more property costs it in the answer to `GetAll`. But `GetAll`
//! gives 250 properties of a service, among them those that read its cgroup, and `NeedDaemonReload` looks
//! through the file system for drop-ins: so what is needed is asked for, by name.
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use zvariant::to_bytes;
use zvariant::{OwnedObjectPath, Value as Variant};

use super::message::{Call, Reply};
use super::peer::Peer;
use super::{
    BUS, INTERFACE, OBJECT, PROPERTIES_INTERFACE, SOCKET, context, get_property, manager_call, unit_object,
};

/// The largest reply, in bytes: a list of 100,000 units.
const LARGEST: u64 = 32 << 20;

/// `ListUnitsByPatterns` of `org.freedesktop.systemd1(5)`: name, description, states of loading, being active
/// and below that, the unit that it follows, its object, and its job by number, type and object.
type Entry = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A connection for questions.
pub struct Asking {
    peer: Peer,
}

/// A unit that PID 1 knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its own name, whatever alias it was asked for by.
    pub name: String,
    /// `LoadState`, such as `not-found`.
    pub load: String,
    /// `ActiveState`
    pub active: String,
    /// `SubState`
    pub sub: String,
}

/// Which property of which unit is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The unit.
    pub unit: &'a str,
    /// Which of its interfaces has the property.
    pub interface: &'a str,
    /// The property.
    pub property: &'a str,
}

impl Asking {
    /// Over PID 1's own socket below `root`, which answers root alone, and without a bus.
    ///
    /// # Errors
    /// There is no socket, or it is not ours to use; nobody answers by `deadline`.
    pub fn as_root(root: &Path, deadline: Instant) -> Result<Self> {
        Ok(Self { peer: Peer::connect(&root.join(SOCKET), LARGEST, deadline)? })
    }

    /// Over the system's bus, which anybody may use.
    ///
    /// # Errors
    /// Those of [`Asking::as_root`].
    pub fn as_anybody(root: &Path, deadline: Instant) -> Result<Self> {
        Ok(Self { peer: Peer::connect_to_bus(&root.join(BUS), LARGEST, deadline)? })
    }

    /// The units that PID 1 has loaded whose names match one of these patterns, `fnmatch(3)`.
    ///
    /// # Errors
    /// PID 1 refuses, does not answer by the deadline, hangs up, or what comes back is not D-Bus.
    pub fn units_like(&mut self, patterns: &[&str]) -> Result<Vec<Listed>> {
        let any_state: [&str; 0] = [];
        let body = to_bytes(context(), &(any_state.as_slice(), patterns))?;
        self.list(&manager_call("ListUnitsByPatterns", "asas", body.bytes()))
    }

    /// The units of these names, loaded or not.
    ///
    /// # Errors
    /// Those of [`Asking::units_like`].
    pub fn units_of(&mut self, names: &[String]) -> Result<Vec<Listed>> {
        let body = to_bytes(context(), names)?;
        self.list(&manager_call("ListUnitsByNames", "as", body.bytes()))
    }

    fn list(&mut self, call: &Call<'_>) -> Result<Vec<Listed>> {
        let entries: Vec<Entry> = self.peer.call(call)?.arguments()?;
        let listed = |(name, _, load, active, sub, ..): Entry| Listed { name, load, active, sub };
        Ok(entries.into_iter().map(listed).collect())
    }

    /// A property of PID 1 itself that is a number of 64 bits.
    ///
    /// # Errors
    /// Those of [`Asking::units_like`].
    pub fn number(&mut self, property: &str) -> Result<u64> {
        self.peer.call(&get_property(OBJECT, INTERFACE, property)?)?.wide_number()
    }

    /// One that is a text.
    ///
    /// # Errors
    /// Those of [`Asking::units_like`].
    pub fn text(&mut self, property: &str) -> Result<String> {
        self.peer.call(&get_property(OBJECT, INTERFACE, property)?)?.text()
    }

    /// The answer to each question, in their order, as `to` makes it of the value: `None` where the unit or this
    /// systemd has no such property, or the unit is gone.
    ///
    /// # Errors
    /// Those of [`Asking::units_like`].
    pub fn answers<T>(
        &mut self,
        questions: &[Question<'_>],
        to: impl Fn(&Question<'_>, &Variant<'_>) -> Option<T>,
    ) -> Result<Vec<Option<T>>> {
        let objects: Vec<String> = questions.iter().map(|question| unit_object(question.unit)).collect();
        let calls = questions.iter().zip(&objects);
        let calls = calls.map(|(asked, object)| get_property(object, asked.interface, asked.property));
        let replies = self.peer.calls(&calls.collect::<Result<Vec<_>>>()?)?;
        let answer = |(question, reply): (&Question<'_>, Result<Reply, String>)| {
            reply.ok()?.value(|value| to(question, value)).ok()
        };
        Ok(questions.iter().zip(replies).map(answer).collect())
    }

    /// Every property that a unit has in any interface, as `to` makes it of the value; none where the unit cannot
    /// be loaded.
    ///
    /// # Errors
    /// Those of [`Asking::units_like`].
    pub fn everything<T>(
        &mut self,
        unit: &str,
        to: impl Fn(&str, &Variant<'_>) -> Option<T>,
    ) -> Result<Vec<(String, T)>> {
        let any_interface = "";
        let object = unit_object(unit);
        let body = to_bytes(context(), any_interface)?.bytes().to_vec();
        let call =
            Call { object: &object, interface: PROPERTIES_INTERFACE, member: "GetAll", signature: "s", body };
        match self.peer.calls(&[call])?.pop() {
            Some(Ok(reply)) => reply.properties(to),
            _ => Ok(Vec::new()),
        }
    }
}
