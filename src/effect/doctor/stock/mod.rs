//! What is wrong on a machine without any policy: settings that systemd ignores or refuses, limits that
//! contradict one another, cgroup v1, a score on the ssh service.
#![forbid(unsafe_code)]

mod known;

use std::collections::BTreeMap;
use std::path::Path;

use strsim::damerau_levenshtein;

use crate::effect::finding::{Code, Finding, Fix, Place};
use crate::host::settings::{File, Settings};
use crate::host::unit_file::Assignment;
use crate::host::units::{Unit, Units};
use crate::host::v1::V1;
use crate::policy::OOM_SCORE_ADJUST;
use crate::text::{quoted, shown};
use known::{is_foreign, is_resource, kind_of, misspelt, refused, section_of, successor};

/// The services that logins come from, by their names in Debian and elsewhere.
const SSH: [&str; 2] = ["ssh", "sshd"];

/// What is wrong whatever the policy says.
///
/// Codes: FS033, FS061, FS070 to FS074. `v1` is what the machine has of cgroup v1.
#[must_use]
pub fn findings(v1: Option<&V1>, units: &Units, settings: &Settings) -> Vec<Finding> {
    let mut found: Vec<Finding> = v1.map(cgroup_v1).into_iter().collect();
    for (name, unit) in units.iter() {
        found.extend(ssh(name, unit, settings));
        found.extend(contradiction(name, unit, settings));
    }
    for (path, file) in settings.iter() {
        if file.applies {
            found.extend(ignored_sections(path, file));
            found.extend(file.assignments.iter().filter_map(|assignment| assigned(file, assignment)));
        } else {
            found.extend(unused(path, file, units));
        }
    }
    found
}

fn cgroup_v1(v1: &V1) -> Finding {
    let V1 { controllers, mounted, argument } = v1;
    let held = controllers.join(", ");
    Finding {
        code: Code::CgroupV1,
        subject: "cgroup".to_owned(),
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
    let at = settings.setting(unit, OOM_SCORE_ADJUST).map(Place::from);
    let restart = format!("systemctl restart {}", quoted(name));
    let lot = if score <= -1000 { "can never be killed for memory" } else { "are killed late" };
    Some(Finding {
        code: Code::ScoreOnSshd,
        subject: name.to_owned(),
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

/// Limits of one unit of which one leaves the other without effect.
fn contradiction(name: &str, unit: &Unit, settings: &Settings) -> Option<Finding> {
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
    let [at, other] = [first, second].map(|(key, _)| settings.setting(unit, key).map(Place::from));
    let relation = if first.1 == second.1 { "is no less than" } else { "is above" };
    Some(Finding {
        code: Code::MemoryContradiction,
        subject: name.to_owned(),
        what: format!(
            "{}={} {relation} {}={}",
            first.0,
            in_largest_unit(first.1),
            second.0,
            in_largest_unit(second.1)
        ),
        cost: Some(cost.to_owned()),
        cause: match &other {
            Some(other) => format!("{}= is set in {other}", second.0),
            None => format!("{}= is set as well: \"systemctl show {}\"", second.0, quoted(name)),
        },
        fix: Fix::Edit(format!("set {} below {}: \"systemctl edit {}\"", first.0, second.0, quoted(name))),
        at: at.or(other),
    })
}

/// Bytes in the largest unit that they are a whole number of.
fn in_largest_unit(bytes: u64) -> String {
    let unit =
        [(30, "G"), (20, "M"), (10, "K")].into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, suffix)| format!("{}{suffix}", bytes >> shift))
}

/// Sections that this kind of unit does not have, with settings that would matter: `[Slice]` in a
/// service, `[service]`. One finding for each.
fn ignored_sections(path: &Path, file: &File) -> Vec<Finding> {
    let Some(section) = section_of(file.kind()) else { return Vec::new() };
    let mut by_section: BTreeMap<&str, Vec<&Assignment>> = BTreeMap::new();
    let is_wrong = |assignment: &&Assignment| {
        let (other, key) = (assignment.section.as_str(), assignment.key.as_str());
        other != section && !other.starts_with("X-") && is_resource(key) && !is_foreign(file.kind(), key)
    };
    for assignment in file.assignments.iter().filter(is_wrong) {
        by_section.entry(&assignment.section).or_default().push(assignment);
    }
    let finding = |(wrong, assignments): (&str, Vec<&Assignment>)| {
        let mut keys: Vec<String> = assignments.iter().map(|a| format!("{}=", a.key)).collect();
        keys.dedup();
        let at = Place { file: path.to_owned(), line: assignments.first().map(|first| first.line) };
        Finding {
            code: Code::SettingIgnored,
            subject: file.unit.clone(),
            what: format!("{} in [{wrong}] counts for nothing", keys.join(", ")),
            cost: None,
            cause: format!("a {} takes it in [{section}]", file.kind()),
            fix: corrected(&at, &format!("put it into a section [{section}]")),
            at: Some(at),
        }
    };
    by_section.into_iter().map(finding).collect()
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
fn assigned(file: &File, assignment: &Assignment) -> Option<Finding> {
    let Assignment { key, value, .. } = assignment;
    let section = section_of(file.kind())?;
    let is_foreign = is_foreign(file.kind(), key) && !assignment.section.starts_with("X-");
    if section != assignment.section && !is_foreign {
        return None;
    }
    let at = Place::from(assignment);
    let (code, what, cause, remedy) = if let Some(after) = successor(key) {
        let cause =
            format!("of cgroup v1: systemd converts it to {after}= up to version 257 and ignores it after");
        (Code::SettingOfV1, format!("{key}={value} will count for nothing"), cause, format!("write {after}="))
    } else if is_foreign {
        let cause = format!("a {} has no such setting", file.kind());
        let remedy = format!("take it out and set {key}= in each service");
        (Code::SettingIgnored, format!("{key}={value} counts for nothing"), cause, remedy)
    } else if let Some(kind) = kind_of(key) {
        let expected = refused(kind, value)?;
        let cause = format!("systemd refuses the value: it takes {expected}");
        (
            Code::ValueRefused,
            format!("{key}={value} counts for nothing"),
            cause,
            format!("give it {expected}"),
        )
    } else {
        let meant = misspelt(key)?;
        let cause = format!("there is no {key}=");
        (Code::SettingIgnored, format!("{key}={value} counts for nothing"), cause, format!("write {meant}="))
    };
    let fix = corrected(&at, &remedy);
    Some(Finding { code, subject: file.unit.clone(), what, cost: None, cause, at: Some(at), fix })
}

/// A drop-in that limits or protects something of a unit that there is not.
fn unused(path: &Path, file: &File, units: &Units) -> Option<Finding> {
    let first = file.assignments.iter().find(|assignment| is_resource(&assignment.key))?;
    let distance = |name: &str| damerau_levenshtein(name, &file.unit);
    let like = units.iter().filter(|(_, unit)| unit.text("LoadState") == Some("loaded"));
    let nearest = like.map(|(name, _)| name).min_by_key(|name| distance(name));
    let nearest = nearest.filter(|name| distance(name) <= 1 + file.unit.len() / 8);
    let at = Place::from(first);
    let is_users = file.unit.starts_with("user-") && file.kind() == "slice";
    Some(Finding {
        code: Code::DropInUnused,
        subject: file.unit.clone(),
        what: format!("{}={} is for a unit that there is not", first.key, first.value),
        cost: None,
        cause: if is_users {
            "the slice of a user is named after the number, not the name".to_owned()
        } else {
            format!("systemd knows no {}", file.unit)
        },
        fix: match nearest {
            _ if is_users => Fix::Edit(format!("rename {} to user-UID.slice.d", directory(path))),
            Some(nearest) => Fix::Edit(format!("rename {} to {nearest}.d", directory(path))),
            None => Fix::Edit(format!("remove {}, or install what it is for", shown(&path))),
        },
        at: Some(at),
    })
}

fn directory(path: &Path) -> String {
    shown(&path.parent().unwrap_or(path)).to_string()
}
