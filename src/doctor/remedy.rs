//! How units are given other values, so that these hold.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;

use super::PlaceOf;
use super::finding::{Fix, Place};
use crate::paths;
use crate::text::{Foreign, quoted, shown};
use crate::units::{Amount, Memory, PROPERTIES, SliceName};

/// One value that a unit is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewValue {
    pub(super) unit: String,
    /// The unit's setting, one of [`PROPERTIES`].
    pub(super) property: &'static str,
    /// As a unit file takes it.
    pub(super) value: String,
}

/// How a value gets to hold.
enum Way {
    /// `systemctl set-property`: nothing that sorts after its file sets the same.
    SetProperty,
    /// The line that sets it now.
    Line(Place),
    /// The line of the policy that sets it now.
    Policy(Place),
    /// A line that the policy does not have yet: the slice carries what those below it need.
    PolicysSlice,
    /// A drop-in that sorts after a vendor's.
    DropInAfter(Place),
}

impl NewValue {
    pub(super) fn bytes(unit: &str, property: &'static str, bytes: u64) -> Self {
        let value = amount(bytes);
        Self { unit: unit.to_owned(), property, value }
    }

    fn way(&self, set_by: PlaceOf<'_>) -> Way {
        let Some(at) = set_by(&self.unit, self.property) else { return Way::SetProperty };
        let file = at.file.as_path();
        let is_in = |directory: &str| file.starts_with(paths::absolute(directory));
        let name = file.file_name().unwrap_or_default();
        if is_policys(&at) {
            Way::Policy(at)
        } else if is_carried(&at) {
            Way::PolicysSlice
        } else if is_in(paths::LASTING_CONTROL) || is_in(paths::RUNTIME_CONTROL) {
            Way::SetProperty
        } else if !is_vendors(file) {
            Way::Line(at)
        } else if is_drop_in(file) && *name > *format!("50-{}.conf", self.property) {
            Way::DropInAfter(at)
        } else {
            Way::SetProperty
        }
    }

    /// What the setting is called in the policy, and whether that is a key of `[logins]`, of all logins together.
    fn key(&self) -> (&'static str, bool) {
        let known = PROPERTIES.iter().find(|known| known.unit == self.property);
        let total = known.and_then(|known| known.total).filter(|_| *self.unit == *SliceName::user().as_str());
        (total.or(known.map(|known| known.key)).unwrap_or_default(), total.is_some())
    }

    fn words(&self, way: &Way) -> String {
        let Self { unit, property, value } = self;
        let (key, is_of_all) = self.key();
        match way {
            Way::SetProperty => super::set_property(unit, property, value),
            Way::Line(at) => format!("{property}={value} at {at}"),
            Way::Policy(at) => format!("{key} = \"{value}\" at {at}"),
            Way::PolicysSlice if is_of_all => format!("{key} = \"{value}\" in [logins] of the policy"),
            Way::PolicysSlice => format!("{key} = \"{value}\" in [slice.\"{unit}\"] of the policy"),
            Way::DropInAfter(at) => {
                format!(
                    "{property}={value} in a drop-in of {unit} whose name sorts after {}",
                    shown(&at.file)
                )
            }
        }
    }
}

/// Whether a line is the policy's.
pub(super) fn is_policys(at: &Place) -> bool {
    [paths::POLICY, paths::POLICY_DIR].iter().any(|path| at.file.starts_with(paths::absolute(path)))
}

/// Whether a line is the generator's: of what a slice carries for those below it, the policy has none.
pub(super) fn is_carried(at: &Place) -> bool {
    at.file.ends_with(paths::DROP_IN) && at.file.starts_with(paths::absolute(paths::GENERATED))
}

/// One fix that makes all of these changes.
pub(super) fn fix(changes: &[NewValue], set_by: PlaceOf<'_>) -> Fix {
    let ways: Vec<Way> = changes.iter().map(|change| change.way(set_by)).collect();
    if ways.iter().all(|way| matches!(way, Way::SetProperty)) {
        return Fix::Command(commands(changes));
    }
    let words: Vec<String> = changes.iter().zip(&ways).map(|(change, way)| change.words(way)).collect();
    let of_file = |way: &&Way| matches!(way, Way::Line(_) | Way::DropInAfter(_));
    let units = changes.iter().zip(&ways).filter(|(_, way)| of_file(way)).map(|(change, _)| &*change.unit);
    let is_policys = ways.iter().any(|way| matches!(way, Way::Policy(_) | Way::PolicysSlice));
    Fix::Edit(format!("{}, then: {}", words.join("; "), written(&units.collect(), is_policys)))
}

/// A fix that takes a unit's setting away.
pub(super) fn without(unit: &str, property: &'static str, set_by: PlaceOf<'_>) -> Fix {
    let change = NewValue { unit: unit.to_owned(), property, value: String::new() };
    match change.way(set_by) {
        // The policy has no empty values.
        Way::Policy(at) => {
            let (key, _) = change.key();
            Fix::Edit(format!("remove {key} at {at}, then: {}", written(&BTreeSet::new(), true)))
        }
        _ => fix(&[change], set_by),
    }
}

/// The commands after which cgroups have what the files of these units say, and the policy where that changes too: a
/// reload, and the start of a unit in each slice, for which PID 1 writes all that is beside it and above. Without that
/// start, the cgroups of units that the policy does not know stay as they are.
pub(super) fn written(units: &BTreeSet<&str>, is_policys: bool) -> String {
    let is_inside = |unit: &str, slice: &str| {
        let slice = slice.strip_suffix(".slice");
        slice.is_some_and(|slice| unit.strip_prefix(slice).is_some_and(|rest| rest.starts_with('-')))
    };
    let innermost = units.iter().filter(|unit| !units.iter().any(|other| is_inside(other, unit)));
    let start = |unit: &&str| {
        let name = quoted(unit);
        let slice = if unit.ends_with(".slice") {
            name
        } else {
            format!("$(systemctl show --value -p Slice {name})")
        };
        format!("systemd-run --quiet --wait --slice={slice} true")
    };
    let mut all: Vec<String> = innermost.map(start).collect();
    if !all.is_empty() {
        all.insert(0, "systemctl daemon-reload".to_owned());
    }
    if is_policys {
        all.push("fairslice apply".to_owned());
    }
    all.join(" && ")
}

/// Of a cgroup that is no unit: whoever made it has the number.
pub(super) fn elsewhere(cgroup: &Foreign) -> Fix {
    Fix::Edit(format!("raise it where {} is made: it is no unit of PID 1's", shown(cgroup)))
}

/// Those of one unit that follow one another by one command.
fn commands(changes: &[NewValue]) -> String {
    let of_unit = |changes: &[NewValue]| {
        let values: Vec<String> =
            changes.iter().map(|change| format!("{}={}", change.property, change.value)).collect();
        let unit = quoted(&changes.first()?.unit);
        Some(format!("systemctl set-property {unit} {}", values.join(" ")))
    };
    let each: Vec<String> = changes.chunk_by(|a, b| a.unit == b.unit).filter_map(of_unit).collect();
    each.join(" && ")
}

/// Bytes as a unit file takes them; no limit is [`u64::MAX`].
pub(super) fn amount(bytes: u64) -> String {
    Memory(if bytes == u64::MAX { Amount::Infinity } else { Amount::Absolute(bytes) }).to_string()
}

/// A value that is less than it would have to be anyway, in round figures.
pub(super) fn rounded(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    if bytes > MIB && bytes != u64::MAX { bytes / MIB * MIB } else { bytes }
}

/// Whether a file is a package's and not the administrator's.
pub(super) fn is_vendors(file: &Path) -> bool {
    ["/usr", "/lib"].iter().any(|directory| file.starts_with(directory)) && !file.starts_with("/usr/local")
}

fn is_drop_in(file: &Path) -> bool {
    file.parent().is_some_and(|parent| parent.extension().is_some_and(|kind| kind == "d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(changes: &[(&'static str, &'static str, u64)], files: &[(&str, &str)]) -> Fix {
        let changes: Vec<NewValue> =
            changes.iter().map(|(u, p, bytes)| NewValue::bytes(u, p, *bytes)).collect();
        let set_by = |unit: &str, _: &str| {
            let (_, file) = files.iter().find(|(of, _)| *of == unit)?;
            Some(Place { file: file.into(), line: Some(3) })
        };
        fix(&changes, &set_by)
    }

    #[test]
    fn a_command_is_given_where_it_wins() {
        let changes = [
            ("a.slice", "MemoryMin", 1 << 20),
            ("a.slice", "MemoryLow", 1536),
            ("b.slice", "MemoryMax", u64::MAX),
        ];
        let command = "systemctl set-property a.slice MemoryMin=1M MemoryLow=1536 && \
                       systemctl set-property b.slice MemoryMax=infinity";
        for file in [
            "/etc/systemd/system.control/a.slice.d/50-MemoryMin.conf",
            "/run/systemd/system.control/a.slice.d/50-MemoryMin.conf",
            "/usr/lib/systemd/system/a.slice",
            "/lib/systemd/system/a.slice.d/10-defaults.conf",
        ] {
            assert_eq!(fixed(&changes, &[("a.slice", file)]), Fix::Command(command.to_owned()), "{file}");
        }
    }

    #[test]
    fn a_line_that_wins_is_named() {
        for (file, words) in [
            (
                "/etc/systemd/system/a.slice.d/memory.conf",
                "MemoryMin=1M at /etc/systemd/system/a.slice.d/memory.conf:3, then: systemctl daemon-reload && \
                 systemd-run --quiet --wait --slice=a.slice true",
            ),
            (
                "/etc/fairslice/policy.d/10.toml",
                "memory_min = \"1M\" at /etc/fairslice/policy.d/10.toml:3, then: fairslice apply",
            ),
            (
                "/run/systemd/generator/a.slice.d/40-fairslice.conf",
                "memory_min = \"1M\" in [slice.\"a.slice\"] of the policy, then: fairslice apply",
            ),
            (
                "/usr/lib/systemd/system/a.slice.d/90-x.conf",
                "MemoryMin=1M in a drop-in of a.slice whose name sorts after \
                 /usr/lib/systemd/system/a.slice.d/90-x.conf, then: systemctl daemon-reload && \
                 systemd-run --quiet --wait --slice=a.slice true",
            ),
        ] {
            let changed = fixed(&[("a.slice", "MemoryMin", 1 << 20)], &[("a.slice", file)]);
            assert_eq!(changed, Fix::Edit(words.to_owned()));
        }
        let two = fixed(
            &[("b.slice", "MemoryMin", 1), ("a.slice", "MemoryMin", 1)],
            &[("a.slice", "/etc/systemd/system/a.slice")],
        );
        let words = "systemctl set-property b.slice MemoryMin=1; MemoryMin=1 at /etc/systemd/system/a.slice:3, \
                     then: systemctl daemon-reload && systemd-run --quiet --wait --slice=a.slice true";
        assert_eq!(two, Fix::Edit(words.to_owned()));
    }
}
