//! What is wrong on a machine without any policy: settings that systemd ignores or refuses, limits that
//! contradict one another, cgroup v1, a score on the ssh service.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::doctor::origin;
use crate::doctor::remedy::{self, NewValue, rounded};
use crate::host::recorded::Recorded;
use crate::host::settings::{File, Settings};
use crate::host::units::{Unit, Units};
use crate::host::v1::V1;
use crate::policy::Policy;
use crate::spelling::{misspelt, nearest};
use crate::survey::{Winner, loaded_files};
use crate::text::{quoted, shown};
use crate::units::file::{Assignment, Bare};
use crate::units::known::{Known, is_kind, is_resource, known, section_of, sounds_like_one, successor};
use crate::units::takes::{Takes, refused};
use crate::units::{OOM_SCORE_ADJUST, SliceName};

/// The services that logins come from, by their names in Debian and elsewhere.
const SSH: [&str; 2] = ["ssh", "sshd"];
/// The last version of systemd that reads settings of cgroup v1.
const LAST_WITH_V1: u16 = 257;

/// What is wrong whatever the policy says; a value that is the policy's is named with its line.
///
/// Codes: FS033, FS061, FS070 to FS075. `v1` is what the machine has of cgroup v1, `version` systemd's.
#[must_use]
pub fn findings(
    policy: &Policy,
    v1: Option<&V1>,
    units: &Units,
    settings: &Settings,
    version: Option<u16>,
) -> Vec<Finding> {
    let mut found: Vec<Finding> = v1.map(cgroup_v1).into_iter().collect();
    for (name, unit) in units.iter() {
        found.extend(ssh(name, unit, settings));
        found.extend(contradiction(policy, name, unit, settings));
    }
    let loaded: Vec<&str> = units
        .iter()
        .filter(|(_, unit)| unit.text("LoadState") == Some("loaded"))
        .map(|(name, _)| name)
        .collect();
    for (path, file) in settings.iter() {
        found.extend(read_in_part(path, file));
        if file.applies {
            found.extend(ignored_sections(path, file));
            found.extend(file.bare.iter().filter_map(|line| bare(path, file, line)));
            found.extend(file.assignments.iter().filter_map(|line| assigned(file, line, version)));
        } else {
            found.extend(unused(path, file, &loaded));
        }
    }
    found
}

fn cgroup_v1(v1: &V1) -> Finding {
    let V1 { controllers, mounted, argument } = v1;
    let held = controllers.join(", ");
    Finding {
        code: Code::CgroupV1,
        subject: "cgroup".into(),
        what: format!("cgroup v1 holds {held}: cgroup2 has none of that"),
        cost: Some("weights, protections and slices of systemd come to little or nothing".to_owned()),
        cause: match argument {
            Some(argument) => format!("the kernel was started with {argument}"),
            None => format!("something has mounted cgroup v1 on {}", shown(&mounted)),
        },
        at: Some(match argument {
            Some(_) => Place { file: "/proc/cmdline".into(), line: Some(1) },
            None => Place::of_file("/proc/mounts"),
        }),
        fix: Fix::Edit(match argument {
            Some(argument) => format!(
                "take {argument} out of GRUB_CMDLINE_LINUX in /etc/default/grub, then \"update-grub\" and reboot"
            ),
            None => format!("unmount {} and find out what mounts it", shown(&mounted)),
        }),
    }
}

/// A negative score on the ssh service. sshd sets −1000 on its listener by itself, and gives each login
/// the score that it was started with.
fn ssh(name: &str, unit: &Unit, settings: &Settings) -> Option<Finding> {
    let stem = name.strip_suffix(".service")?;
    let score: i64 = unit.text(OOM_SCORE_ADJUST)?.parse().ok()?;
    if score >= 0 || !SSH.contains(&stem.split('@').next().unwrap_or_default()) {
        return None;
    }
    let at = set(name, unit, settings, OOM_SCORE_ADJUST).as_ref().map(Place::from);
    let restart = format!("systemctl restart {}", quoted(name));
    let lot = if score <= -1000 { "can never be killed for memory" } else { "are killed late" };
    Some(Finding {
        code: Code::ScoreOnSshd,
        subject: name.into(),
        what: format!("{OOM_SCORE_ADJUST}={score}: every login inherits it"),
        cost: Some(format!("all processes of logins over ssh {lot}; services are killed instead")),
        cause: "sshd protects its listener by itself, and gives logins the score it was started with"
            .to_owned(),
        fix: Fix::Edit(match &at {
            Some(at) => {
                format!("remove the line {at}, then \"systemctl daemon-reload; {restart}\"")
            }
            None => format!("see \"systemctl cat {}\", then \"{restart}\"", quoted(name)),
        }),
        at,
    })
}

/// The line that sets what PID 1 has.
fn set(name: &str, unit: &Unit, settings: &Settings, key: &str) -> Option<Winner> {
    loaded_files(name, Some(unit), settings, Recorded::default()).set(key)
}

/// Limits of one unit of which one leaves the other without effect.
fn contradiction(policy: &Policy, name: &str, unit: &Unit, settings: &Settings) -> Option<Finding> {
    let amount = |key| unit.number(key).filter(|amount| !matches!(amount, 0 | &u64::MAX));
    let limits = ["MemoryMax", "MemoryHigh"].map(|key| Some((key, amount(key)?)));
    let (max, high) = (limits[0], limits[1]);
    let protections = ["MemoryMin", "MemoryLow"].map(|key| Some((key, amount(key)?)));
    let above = |(_, protected): &(&str, u64), (_, limit): &(&str, u64)| protected > limit;
    let (first, second, cost) = match (high, max) {
        (Some(high), Some(max)) if high.1 >= max.1 => {
            (high, max, "nothing is slowed down and reclaimed before it is killed")
        }
        _ => {
            let pairs = protections.into_iter().flatten();
            let mut pairs = pairs.flat_map(|p| limits.into_iter().flatten().map(move |limit| (p, limit)));
            let (protection, limit) = pairs.find(|(protection, limit)| above(protection, limit))?;
            (protection, limit, "what is above the limit is not protected")
        }
    };
    let set = |key: &str| set(name, unit, settings, key);
    let set_by = |of: &str, key: &str| set(key).map(|winner| origin(policy, of, &winner));
    let [at, other] = [first, second].map(|(key, _)| set_by(name, key));
    let relation = if first.1 == second.1 { "is no less than" } else { "is above" };
    let [one, two] = [first, second].map(|(key, bytes)| format!("{key}={}", remedy::amount(bytes)));
    // As it is written: a percentage, another unit.
    let written = |key: &str, at: &Option<Place>| match (set(key).and_then(|winner| winner.set), at) {
        (Some((_, value)), Some(at)) => format!("{key}={value} is set at {at}"),
        _ => format!("{key}= is set as well: \"systemctl show {}\"", quoted(name)),
    };
    let new = if first.0 == "MemoryHigh" { second.1 / 5 * 4 } else { second.1 / 4 * 3 };
    Some(Finding {
        code: Code::MemoryContradiction,
        subject: name.into(),
        what: format!("{one} {relation} {two}"),
        cost: Some(cost.to_owned()),
        cause: format!("{}, {}", written(first.0, &at), written(second.0, &other)),
        fix: remedy::fix(&[NewValue::bytes(name, first.0, rounded(new))], &set_by),
        at: at.or(other),
    })
}

/// Settings that would matter, in sections in which this kind of unit has none of them: `[Slice]` in a
/// service, `[service]`, any in a timer. One finding for each section.
fn ignored_sections(path: &Path, file: &File) -> Vec<Finding> {
    let kind = file.kind();
    if !is_kind(kind) {
        return Vec::new();
    }
    let section = section_of(kind);
    let mut by_section: BTreeMap<&str, Vec<&Assignment>> = BTreeMap::new();
    let is_wrong = |assignment: &&Assignment| {
        let is_foreign = section.is_some() && known(&assignment.key).is_some_and(|key| key.is_foreign(kind));
        Some(assignment.section.as_str()) != section
            && !assignment.section.starts_with("X-")
            && (is_resource(&assignment.key) || misspelt(&assignment.key).is_some())
            && !is_foreign
    };
    for assignment in file.assignments.iter().filter(is_wrong) {
        by_section.entry(&assignment.section).or_default().push(assignment);
    }
    let finding = |(wrong, assignments): (&str, Vec<&Assignment>)| {
        let mut keys: Vec<String> = assignments.iter().map(|a| format!("{}=", a.key)).collect();
        keys.dedup();
        let at = Place { file: path.to_owned(), line: assignments.first().map(|first| first.line) };
        let place =
            if wrong.is_empty() { "outside of a section".to_owned() } else { format!("in [{wrong}]") };
        let (cause, remedy) = match section {
            Some(section) => {
                (format!("a {kind} takes it in [{section}]"), format!("put it into a section [{section}]"))
            }
            None => (
                format!("a {kind} has no cgroup and no such setting"),
                "take it out and set it in the unit that is started".to_owned(),
            ),
        };
        Finding {
            code: Code::SettingIgnored,
            subject: file.unit.clone().into(),
            what: format!("{} {place} counts for nothing", keys.join(", ")),
            cost: None,
            cause,
            fix: corrected(&at, &remedy),
            at: Some(at),
        }
    };
    by_section.into_iter().map(finding).collect()
}

/// A line that would be one of ours, had it a `=`.
fn bare(path: &Path, file: &File, line: &Bare) -> Option<Finding> {
    let Bare { section, text, line } = line;
    if !is_kind(file.kind()) || section.starts_with("X-") {
        return None;
    }
    let mut words = text.split(|c: char| !c.is_ascii_alphabetic()).peekable();
    let misspelt = words.peek().and_then(|first| Some((*first, misspelt(first)?)));
    let (key, meant) = words.find(|word| is_resource(word)).map(|word| (word, word)).or(misspelt)?;
    let (_, rest) = text.split_once(key)?;
    let at = Place { file: path.to_owned(), line: Some(*line) };
    let value = rest.trim_start_matches(|c: char| c == ':' || c.is_whitespace());
    let written = format!("write {meant}={}", shown(value));
    let remedy = match section_of(file.kind()) {
        Some(right) if right == section => written,
        Some(right) => format!("{written} in a section [{right}]"),
        None => "take it out and set it in the unit that is started".to_owned(),
    };
    Some(Finding {
        code: Code::SettingIgnored,
        subject: file.unit.clone().into(),
        what: format!("the line \"{}\" {NOTHING}", shown(text)),
        cost: None,
        cause: "there is no \"=\" in it".to_owned(),
        fix: corrected(&at, &remedy),
        at: Some(at),
    })
}

/// A line at which systemd gives the file up.
fn read_in_part(path: &Path, file: &File) -> Option<Finding> {
    let at = Place { file: path.to_owned(), line: Some(file.stops?) };
    let is_drop_in = path.extension().is_some_and(|kind| kind == "conf");
    Some(Finding {
        code: Code::ReadInPart,
        subject: file.unit.clone().into(),
        what: "the file is not read to its end".to_owned(),
        cost: Some(if is_drop_in {
            "nothing after this line counts".to_owned()
        } else {
            "the unit is not loaded, and cannot be started again".to_owned()
        }),
        cause: "the line is not UTF-8, or begins a section without its \"]\"".to_owned(),
        fix: corrected(&at, "write the line in UTF-8, with the \"]\" of a section"),
        at: Some(at),
    })
}

fn corrected(at: &Place, what: &str) -> Fix {
    let vendors = ["/usr", "/lib"].iter().any(|directory| at.file.starts_with(directory));
    Fix::Edit(if vendors {
        format!("report it to the package of {}, and {what} in a drop-in of your own", shown(&at.file))
    } else {
        format!("{at}: {what}, then \"systemctl daemon-reload\"")
    })
}

/// One line: in the right section, or of a setting that is right in none.
fn assigned(file: &File, assignment: &Assignment, version: Option<u16>) -> Option<Finding> {
    let Assignment { section, key, value, .. } = assignment;
    let known = known(key);
    let is_foreign = known.is_some_and(|known| known.is_foreign(file.kind()));
    let is_extension = section.starts_with("X-") || key.starts_with("X-");
    if is_extension || (section_of(file.kind())? != section && !is_foreign) {
        return None;
    }
    let wrong = match (known, successor(key)) {
        (_, Some(after)) => Some(of_v1(after, version)),
        (Some(known), None) if is_foreign => Some(foreign(file, known)),
        (Some(known), None) => not_taken(file, known, value, version),
        (None, None) => unknown(key, version),
    };
    let Wrong { code, effect, cause, remedy } = wrong?;
    let at = Place::from(assignment);
    Some(Finding {
        code,
        subject: file.unit.clone().into(),
        what: format!("{key}={value} {effect}"),
        cost: None,
        cause,
        fix: corrected(&at, &remedy),
        at: Some(at),
    })
}

/// What is wrong with a line.
struct Wrong {
    code: Code,
    effect: &'static str,
    cause: String,
    remedy: String,
}

const NOTHING: &str = "counts for nothing";

fn of_v1(after: &str, version: Option<u16>) -> Wrong {
    let effect = if version.is_some_and(|version| version > LAST_WITH_V1) {
        NOTHING
    } else {
        "will count for nothing"
    };
    let cause = format!(
        "of cgroup v1: systemd converts it to {after}= up to version {LAST_WITH_V1} and ignores it after"
    );
    Wrong { code: Code::SettingOfV1, effect, cause, remedy: format!("write {after}=") }
}

/// A setting that only other kinds of units have.
fn foreign(file: &File, known: &Known) -> Wrong {
    let (kind, key) = (file.kind(), known.key);
    let remedy = match for_a_group(key).filter(|_| kind == "slice") {
        Some(other) => format!(
            "take it out and set {other}=, which holds for all that run in it together, or {key}= in each service"
        ),
        None => format!("take it out and set {key}= in each service"),
    };
    let cause = format!("a {kind} has no such setting");
    Wrong { code: Code::SettingIgnored, effect: NOTHING, cause, remedy }
}

/// What does to all processes of a cgroup together what this setting does to each.
fn for_a_group(key: &str) -> Option<&'static str> {
    Some(match key {
        "CPUAffinity" => "AllowedCPUs",
        "NUMAPolicy" | "NUMAMask" => "AllowedMemoryNodes",
        "Nice" | "CPUSchedulingPolicy" | "CPUSchedulingPriority" => "CPUWeight",
        "IOSchedulingClass" | "IOSchedulingPriority" => "IOWeight",
        "LimitNPROC" => "TasksMax",
        "LimitAS" | "LimitRSS" | "LimitDATA" => "MemoryMax",
        _ => return None,
    })
}

/// A setting that there is, of a value that it does not take or of a systemd that does not have it.
fn not_taken(file: &File, known: &Known, value: &str, version: Option<u16>) -> Option<Wrong> {
    if known.is_gone(version) {
        // Accounting is always on where this does nothing.
        let is_lost = known.takes != Takes::Boolean;
        let cause = "this systemd reads it no more".to_owned();
        let remedy = "take it out, and set in each unit what it is to have".to_owned();
        return is_lost.then_some(Wrong { code: Code::SettingIgnored, effect: NOTHING, cause, remedy });
    }
    if let (Some(since), Some(version)) = (known.comes_with(version), version) {
        let cause = format!("systemd {version} does not have it: it came with a later version");
        let remedy = format!("take it out, or upgrade systemd to {since} at least");
        return Some(Wrong { code: Code::SettingIgnored, effect: NOTHING, cause, remedy });
    }
    if known.takes == Takes::Slice
        && file.kind() == "slice"
        && parent_of(&file.unit).as_deref() != Some(value)
    {
        let cause = "a slice is where its name says: \"a-b.slice\" is in \"a.slice\"".to_owned();
        let remedy = "take it out, or give the slice another name".to_owned();
        return Some(Wrong { code: Code::ValueRefused, effect: NOTHING, cause, remedy });
    }
    let expected = refused(known.takes, value, &file.unit, version)?;
    let is_list = matches!(known.takes, Takes::Controllers | Takes::Cpus { .. });
    let effect = if is_list { "is not taken as it stands" } else { NOTHING };
    let has_comment = value.contains(" #") || value.contains(" ;");
    let cause = if has_comment {
        "systemd takes the comment for a part of the value: one stands on a line of its own".to_owned()
    } else {
        format!("systemd refuses the value: it takes {expected}")
    };
    let remedy = if has_comment {
        "put the comment on a line of its own".to_owned()
    } else {
        format!("give it {expected}")
    };
    Some(Wrong { code: Code::ValueRefused, effect, cause, remedy })
}

fn parent_of(slice: &str) -> Option<String> {
    let parent = SliceName::new(slice).ok()?.parent();
    Some(parent.map_or_else(|| "-.slice".to_owned(), |parent| parent.to_string()))
}

/// A name that no setting has.
fn unknown(key: &str, version: Option<u16>) -> Option<Wrong> {
    let remedy = match misspelt(key) {
        Some(meant) => format!("write {meant}="),
        None if sounds_like_one(key, version) => {
            "take it out: systemd.resource-control(5) and systemd.exec(5) have those that there are"
                .to_owned()
        }
        None => return None,
    };
    let cause = format!("there is no {key}=");
    Some(Wrong { code: Code::SettingIgnored, effect: NOTHING, cause, remedy })
}

/// A drop-in that limits or protects something of a unit that there is not.
fn unused(path: &Path, file: &File, loaded: &[&str]) -> Option<Finding> {
    let first = file.assignments.iter().find(|assignment| is_resource(&assignment.key))?;
    let nearest = nearest(&file.unit, loaded.iter().copied(), 1 + file.unit.len() / 8);
    let at = Place::from(first);
    let is_users = file.unit.starts_with("user-") && file.kind() == "slice";
    Some(Finding {
        code: Code::DropInUnused,
        subject: file.unit.clone().into(),
        what: format!("{}={} is for a unit that there is not", first.key, first.value),
        cost: None,
        cause: if is_users {
            "the slice of a user is named after the number, not the name".to_owned()
        } else {
            format!("systemd knows no {}", file.unit)
        },
        fix: match nearest {
            _ if is_users => Fix::Edit(format!(
                "rename {} to user-UID.slice.d, then: systemctl daemon-reload",
                directory(path)
            )),
            // Not into one that is there.
            Some(nearest) => Fix::Command(renamed(path, nearest)),
            None => Fix::Edit(format!("remove {}, or install what it is for", shown(&path))),
        },
        at: Some(at),
    })
}

/// The drop-ins are another unit's.
fn renamed(path: &Path, unit: &str) -> String {
    let directory = path.parent().unwrap_or(path);
    let right = directory.with_file_name(format!("{unit}.d"));
    format!("mv -T {} {} && systemctl daemon-reload", quoted(&directory), quoted(&right))
}

fn directory(path: &Path) -> String {
    shown(&path.parent().unwrap_or(path)).to_string()
}
