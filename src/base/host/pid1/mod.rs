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
//! The wire format is zvariant's, the connection is our own. Read in zbus 6.2.1: its connection opens an
//! epoll, a timer and two pipe descriptors beside the socket; whatever is still alive outside
//! `block_on` runs on a thread, whose failed start is a panic; `method_timeout` covers a call, but
//! neither connecting nor authentication; and it accepts, and allocates, replies of up to 128 MiB.
//!
//! [D-Bus specification]: https://dbus.freedesktop.org/doc/dbus-specification.html
#![forbid(unsafe_code)]

mod asking;
mod message;
mod peer;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use zvariant::Value as Variant;
use zvariant::serialized::Context;
use zvariant::{NATIVE_ENDIAN, to_bytes};

use crate::paths;
use crate::text::shown;
use crate::units::SliceName;
pub use asking::{Asking, Listed, Question};
use message::{Call, Reply};
use peer::Peer;

/// Where systemd listens, below the root.
const SOCKET: &str = "run/systemd/private";
/// Where the system's bus listens.
const BUS: &str = "run/dbus/system_bus_socket";
const OBJECT: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const SERVICE_INTERFACE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";
/// The largest reply to a single call, in bytes: a value, a path, or an error's name and one line of text.
const LARGEST: u64 = 64 << 10;
/// The sender of the message, in whichever PID namespace it is.
pub const ASKING: u32 = 0;
/// The longest error text that is passed on, in characters.
const MAX_TEXT: usize = 300;

/// Whether PID 1 is systemd: `sd_booted(3)`.
#[must_use]
pub fn is_booted(root: &Path) -> bool {
    root.join(paths::SYSTEMD_BOOTED).exists()
}

/// systemd's manager object, reached through its private socket. Each method connects anew.
#[derive(Debug, Clone)]
pub struct Manager {
    socket: PathBuf,
}

/// A transient scope that takes in processes which run already.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The unit's name, with `.scope`.
    pub name: &'a str,
    /// The slice it is started in.
    pub slice: &'a SliceName,
    /// `Description=`
    pub description: &'a str,
    /// `Documentation=`
    pub documentation: &'a str,
    /// The processes it takes in, [`ASKING`] for the one that asks.
    pub processes: &'a [u32],
    /// Whose they are.
    pub holds: Holds<'a>,
    /// Weights and limits, as [`Manager::set_unit_properties`] takes them.
    pub resources: &'a [(&'static str, u64)],
}

/// After this PID 1 ends a scope of loads, `RuntimeMaxSec=` in µs: where none of them was alive any more when it came to move
/// them, it has nothing else to go by.
const LONGEST_OF_LOADS: u64 = 30_000_000;

/// Whose processes a scope takes in, which decides how they are stopped.
#[derive(Debug)]
pub enum Holds<'a> {
    /// A service's, or a command's that systemd knows nothing of.
    Service {
        /// The service with which it is stopped: after it, and whenever it ends by itself.
        stopped_with: Option<&'a str>,
        /// What PID 1 says of the service.
        properties: Option<&'a ServiceProperties>,
    },
    /// A session's: stopped as logind's own scopes are (`manager_start_scope` of systemd).
    Login {
        /// The unit with which it is stopped, too.
        stopped_with: Option<&'a str>,
    },
    /// A drill's own loads.
    Loads {
        /// Those that the kernel does not kill go on when it has killed one: `OOMPolicy=continue`. A systemd whose scopes have
        /// none refuses it; they go on then.
        outlive_kills: bool,
        /// They are put into cgroups below the scope, which goes with those: `Delegate=`.
        delegate: bool,
    },
}

/// What PID 1 says of a service that decides how its processes may be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceProperties {
    /// `Type=`
    pub kind: String,
    /// The main process, 0 if there is none.
    pub main_pid: u32,
    /// `KillMode=`
    pub kill_mode: String,
    /// `KillSignal=`
    pub kill_signal: i32,
    /// `TimeoutStopSec=` in µs; [`u64::MAX`] is "infinity".
    pub stop_timeout: u64,
    /// `Delegate=`
    pub delegate: bool,
}

impl ServiceProperties {
    /// Whether stopping the service stops what it has started. With `KillMode=process` and `none`, that is meant to
    /// outlive it.
    #[must_use]
    pub fn ends_what_it_started(&self) -> bool {
        matches!(&*self.kill_mode, "control-group" | "mixed")
    }
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
    /// `CPUWeight` and `IOWeight` from 1 to 10,000; `CPUQuotaPerSecUSec` in µs; `MemoryMin`, `MemoryLow`, `MemoryHigh`,
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
        self.set_limits(unit, properties, &[], deadline)
    }

    /// The same, and properties of type `a(st)`, which have a disk beside the number: `IOReadBandwidthMax`.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn set_limits(
        &self,
        unit: &str,
        properties: &[(&str, u64)],
        of_disks: &[(&str, &str, u64)],
        deadline: Instant,
    ) -> Result<()> {
        let done =
            set_unit_properties(unit, properties, of_disks).and_then(|call| self.call(&call, deadline));
        done.map(drop).with_context(|| {
            let numbers = properties.iter().map(|(name, value)| format!("{name}={value}"));
            let disks = of_disks.iter().map(|(name, disk, value)| format!("{name}=\"{disk} {value}\""));
            let list: Vec<String> = numbers.chain(disks).collect();
            let socket = shown(&self.socket);
            let (unit, list) = (shown(unit).at_most(MAX_TEXT), list.join(" "));
            format!("cannot set {list} on {unit} through {socket}")
        })
    }

    /// Has PID 1 load every unit anew, and returns when it has: `Reload`, as `systemctl daemon-reload`.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn reload(&self, deadline: Instant) -> Result<()> {
        let done = self.call(&manager_call("Reload", "", &[]), deadline);
        done.map(drop).with_context(|| format!("cannot reload units through {}", shown(&self.socket)))
    }

    /// Has PID 1 write the weights and limits of `unit`, which is active, to its cgroup, where they have
    /// changed with a reload. Otherwise it does so when a unit is next started.
    ///
    /// A property has to be set for that (`bus_unit_set_properties` of systemd). `Markers`, with no
    /// marker to add or take away, is one that changes nothing and is written to no file.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn write_cgroup(&self, unit: &str, deadline: Instant) -> Result<()> {
        let done = write_cgroup(unit).and_then(|call| self.call(&call, deadline));
        done.map(drop).with_context(|| {
            format!("cannot have the cgroup of {unit} written through {}", shown(&self.socket))
        })
    }

    /// Asks for a transient scope around processes: `StartTransientUnit`.
    ///
    /// PID 1 moves them some milliseconds after it has answered. That is for the caller to
    /// wait for.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn start_scope(&self, scope: &Scope<'_>, deadline: Instant) -> Result<()> {
        let done = start_transient_unit(scope).and_then(|call| self.call(&call, deadline));
        done.map(drop).with_context(|| format!("cannot start {} through {}", scope.name, shown(&self.socket)))
    }

    /// Asks for `unit` to be stopped, and does not wait for it: `StopUnit`.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn stop_unit(&self, unit: &str, deadline: Instant) -> Result<()> {
        let done = stop_unit(unit).and_then(|call| self.call(&call, deadline));
        done.map(drop).with_context(|| format!("cannot stop {unit} through {}", shown(&self.socket)))
    }

    /// What PID 1 says of a service.
    ///
    /// # Errors
    ///
    /// As [`Manager::set_unit_properties`].
    pub fn service_properties(&self, service: &str, deadline: Instant) -> Result<ServiceProperties> {
        let ask = || -> Result<ServiceProperties> {
            let object = unit_object(service);
            let mut peer = Peer::connect(&self.socket, LARGEST, deadline)?;
            let mut get = |property| peer.call(&get_property(&object, SERVICE_INTERFACE, property)?);
            Ok(ServiceProperties {
                kind: get("Type")?.text()?,
                main_pid: get("MainPID")?.number()?,
                kill_mode: get("KillMode")?.text()?,
                kill_signal: get("KillSignal")?.signed_number()?,
                stop_timeout: get("TimeoutStopUSec")?.wide_number()?,
                delegate: get("Delegate")?.boolean()?,
            })
        };
        ask().with_context(|| format!("cannot ask for {service} through {}", shown(&self.socket)))
    }

    fn call(&self, call: &Call<'_>, deadline: Instant) -> Result<Reply> {
        Peer::connect(&self.socket, LARGEST, deadline)?.call(call)
    }
}

fn set_unit_properties(
    unit: &str,
    properties: &[(&str, u64)],
    of_disks: &[(&str, &str, u64)],
) -> Result<Call<'static>> {
    let numbers = properties.iter().map(|&(name, value)| (name, Variant::U64(value)));
    let disks = of_disks.iter().map(|&(name, disk, value)| (name, Variant::from(vec![(disk, value)])));
    let properties: Vec<_> = numbers.chain(disks).collect();
    let runtime = true;
    let body = to_bytes(context(), &(unit, runtime, properties))?;
    Ok(manager_call("SetUnitProperties", "sba(sv)", body.bytes()))
}

fn write_cgroup(unit: &str) -> Result<Call<'static>> {
    let no_markers: Vec<&str> = Vec::new();
    let runtime = true;
    let body = to_bytes(context(), &(unit, runtime, vec![("Markers", Variant::from(no_markers))]))?;
    Ok(manager_call("SetUnitProperties", "sba(sv)", body.bytes()))
}

fn start_transient_unit(scope: &Scope<'_>) -> Result<Call<'static>> {
    let mut properties = vec![
        ("Description", Variant::from(scope.description)),
        ("Documentation", Variant::from(vec![scope.documentation])),
        ("Slice", Variant::from(scope.slice.as_str())),
        ("PIDs", Variant::from(scope.processes)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    match &scope.holds {
        Holds::Service { properties: service, .. } => {
            if let Some(service) = service {
                properties.push(("KillSignal", Variant::I32(service.kill_signal)));
                properties.push(("TimeoutStopUSec", Variant::U64(service.stop_timeout)));
                properties.push(("Delegate", Variant::Bool(service.delegate)));
            }
        }
        Holds::Login { .. } => {
            // A shell at a prompt ignores SIGTERM.
            properties.push(("SendSIGHUP", Variant::Bool(true)));
            // At shutdown it ends before the network does, or ssh clients hang.
            properties.push(("After", Variant::from(vec!["systemd-user-sessions.service"])));
        }
        Holds::Loads { outlive_kills, delegate } => {
            properties.push(("RuntimeMaxUSec", Variant::U64(LONGEST_OF_LOADS)));
            if *outlive_kills {
                properties.push(("OOMPolicy", Variant::from("continue")));
            }
            if *delegate {
                properties.push(("Delegate", Variant::Bool(true)));
            }
        }
    }
    if let Holds::Service { stopped_with: Some(unit), .. } | Holds::Login { stopped_with: Some(unit) } =
        scope.holds
    {
        properties.push(("StopPropagatedFrom", Variant::from(vec![unit])));
        // So the unit is stopped first, in its own way, and then what is left of it.
        properties.push(("Before", Variant::from(vec![unit])));
    }
    properties.extend(scope.resources.iter().map(|&(name, value)| (name, Variant::U64(value))));
    let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    let body = to_bytes(context(), &(scope.name, "fail", properties, others))?;
    Ok(manager_call("StartTransientUnit", "ssa(sv)a(sa(sv))", body.bytes()))
}

fn stop_unit(unit: &str) -> Result<Call<'static>> {
    let body = to_bytes(context(), &(unit, "replace"))?;
    Ok(manager_call("StopUnit", "ss", body.bytes()))
}

fn manager_call(member: &'static str, signature: &'static str, body: &[u8]) -> Call<'static> {
    Call { object: OBJECT, interface: INTERFACE, member, signature, body: body.to_vec() }
}

fn get_property<'a>(object: &'a str, interface: &str, property: &str) -> Result<Call<'a>> {
    let body = to_bytes(context(), &(interface, property))?.bytes().to_vec();
    Ok(Call { object, interface: PROPERTIES_INTERFACE, member: "Get", signature: "ss", body })
}

/// A body begins on a multiple of 8 bytes: it is marshalled as if it began at 0.
fn context() -> Context {
    Context::new_dbus(NATIVE_ENDIAN, 0)
}

/// The object of a unit: `unit_dbus_path_from_name` of systemd, letters and digits as they are, any
/// other byte, and a digit at the start, as `_` and two hexadecimal digits.
fn unit_object(unit: &str) -> String {
    let mut path = format!("{OBJECT}/unit/");
    for (index, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0) {
            path.push(byte.into());
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_object_is_systemds() {
        assert_eq!(
            unit_object("7-local@a.service"),
            "/org/freedesktop/systemd1/unit/_37_2dlocal_40a_2eservice"
        );
    }
}
