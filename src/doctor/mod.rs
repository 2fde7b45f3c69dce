//! What is not as it was meant: each file finds what is wrong in its part of the machine.
#![forbid(unsafe_code)]

pub mod chain;
pub mod cost;
pub mod cpu;
pub mod directories;
pub mod finding;
pub mod io;
pub mod kill_order;
pub mod launchers;
pub mod limits;
pub mod logins;
pub mod look;
pub mod memory;
pub mod of_service;
pub mod outside;
pub mod payload;
pub mod placement;
mod remedy;
pub mod rounding;
pub mod scores;
pub mod settings;
pub mod stock;
pub mod unwritten;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use self::chain::{Chain, Scene};
use self::finding::{Code, Finding, Fix, Place, Subjects};
use crate::host::parallel::both;
use crate::host::tree::{Id, Tree};
use crate::host::units::{Unit, Units};
use crate::paths;
use crate::policy::Policy;
use crate::survey::{Owner, Winner};
use crate::text::quoted;
use crate::units::{Property, SLICE, ServiceName, SliceName};

/// Where a setting of a unit stands: by the unit's name and the key, `("ssh.service", "OOMScoreAdjust")`.
pub type PlaceOf<'a> = &'a dyn Fn(&str, &str) -> Option<Place>;

/// The way of each value that the policy declares, then of each that PID 1 has without its asking.
#[must_use]
pub fn chains(scene: &Scene<'_>) -> Vec<Chain> {
    // Those that the policy does not ask for are most of them.
    let (misplaced, (mut chains, undeclared)) =
        both(&|| placement::undeclared(scene), || (declared(scene), settings::undeclared(scene)));
    let declared: BTreeSet<(String, &str)> =
        chains.iter().map(|chain| (chain.unit.clone(), property_of(chain.key))).collect();
    let undeclared = undeclared.into_iter().chain(misplaced);
    let mut unwritten = unwritten::undeclared(scene);
    unwritten.retain(|chain| {
        !chains.iter().any(|declared| declared.unit == chain.unit && declared.setting() == chain.key)
    });
    chains.extend(unwritten);
    chains.extend(undeclared.filter(|chain| !declared.contains(&(chain.unit.clone(), chain.key))));
    chains
}

/// The way of each value that the policy declares, and of those that it has declared.
fn declared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = settings::declared(scene);
    chains.extend(placement::declared(scene));
    chains.extend(scores::declared(scene));
    chains.extend(of_service::declared(scene));
    chains.sort_by(|a, b| a.unit.cmp(&b.unit));
    chains.extend(settings::outdated(scene, &chains));
    chains
}

/// Where a value of a unit's was set: the generator's drop-in passes on what the policy says.
#[must_use]
pub fn origin(policy: &Policy, unit: &str, winner: &Winner) -> Place {
    let declared = || {
        let resources = match SliceName::new(unit) {
            Ok(slice) if slice == SliceName::user() => policy.logins.total.clone(),
            Ok(slice) => policy.slices.get(&slice)?.resources.clone(),
            Err(_) => {
                let rule = policy.service(&ServiceName::new(unit).ok()?);
                let own = rule.own.iter().find(|own| own.value.setting().unit == winner.setting);
                if let Some(own) = own.filter(|_| winner.owner == Owner::Policy) {
                    return Some(Place::from(&own.origin));
                }
                rule.resources
            }
        };
        let mut settings = resources.settings().filter(|setting| setting.property.unit == winner.setting);
        settings.next().filter(|_| winner.owner == Owner::Policy).map(|setting| Place::from(setting.origin))
    };
    declared().unwrap_or_else(|| Place::from(winner))
}

/// The command that gives a unit a property for good.
fn set_property(unit: &str, property: &str, value: &str) -> String {
    format!("systemctl set-property {} {property}={value}", quoted(unit))
}

/// In these, siblings of every origin compete, and come and go.
const COMMON: [&str; 3] = ["machine.slice", "system.slice", "user.slice"];

/// Whether nothing that is there, or that PID 1 has loaded, can compete with what is in a cgroup of its own in a slice.
fn is_alone(tree: &Tree, units: &Units, id: Id) -> bool {
    let Some(parent) = tree[id].parent else { return false };
    let (own, slice) = (tree.unit(id), tree.unit(parent));
    let is_other = |(other, unit): (&str, &Unit)| Some(other) != own && unit.text(SLICE) == slice;
    slice.is_some() && tree[parent].children.len() == 1 && !units.iter().any(is_other)
}

/// Whether a cgroup is in one of [`COMMON`].
fn is_in_common(tree: &Tree, id: Id) -> bool {
    tree.upwards(id).skip(1).any(|above| tree.unit(above).is_some_and(|name| COMMON.contains(&name)))
}

/// Whether the administrator has set it: a package or another program knows what for.
fn is_admins(at: &Place) -> bool {
    let files = ["/etc".to_owned(), format!("/{}", paths::RUNTIME_CONTROL)];
    files.iter().any(|directory| at.file.starts_with(directory))
}

fn property_of(key: &'static str) -> &'static str {
    Property::by_key(key).map_or(key, |property| property.key)
}

/// One finding for each cause: what breaks several values of a unit is told once, and so is what keeps
/// the policy from PID 1.
#[must_use]
pub fn findings(chains: &[Chain]) -> Vec<Finding> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let mut alike: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for next in chains.iter().filter_map(|chain| chain.broken.as_ref()) {
        let subject = Some(&next.subject).filter(|_| !is_everywhere(next));
        let places = alike.entry((next.code, &next.cause, subject)).or_default();
        let is_known = |group: &[&Finding]| group.first().is_some_and(|known| is_same(known, next));
        let known = places.iter().copied().find(|at| groups.get(*at).is_some_and(|group| is_known(group)));
        if let Some(group) = known.and_then(|at| groups.get_mut(at)) {
            group.push(next);
        } else {
            places.push(groups.len());
            groups.push(vec![next]);
        }
    }
    groups.iter().filter_map(|group| joined(group)).collect()
}

/// What keeps values of many units from taking effect, and what one command mends for many.
fn is_everywhere(finding: &Finding) -> bool {
    matches!(finding.code, Code::DropInMissing | Code::ControllerOff) || is_restarted(&finding.fix)
}

fn is_restarted(fix: &Fix) -> bool {
    matches!(fix, Fix::Restart(_))
}

fn is_same(a: &Finding, b: &Finding) -> bool {
    // What is to be done at several lines of one file is said of each, and what in several slices.
    let fix = matches!((&a.fix, &b.fix), (Fix::Edit(_), Fix::Edit(_)))
        || a.fix == b.fix
        || is_restarted(&a.fix) && is_restarted(&b.fix)
        || a.code == Code::ControllerOff && is_run(&a.fix) && is_run(&b.fix);
    a.code == b.code
        && a.cause == b.cause
        && fix
        && (is_everywhere(a) || (a.subject == b.subject && (file_of(a) == file_of(b) || is_command(a))))
}

/// Whether a command line does it that may be one of several.
fn is_run(fix: &Fix) -> bool {
    matches!(fix, Fix::Apply | Fix::Command(_))
}

/// Whether one command is all that is to be done, whatever file says so.
fn is_command(finding: &Finding) -> bool {
    matches!(finding.fix, Fix::Command(_))
}

fn file_of(finding: &Finding) -> Option<&PathBuf> {
    finding.at.as_ref().map(|at| &at.file)
}

fn joined(all: &[&Finding]) -> Option<Finding> {
    let mut found = (*all.first()?).clone();
    if let [_] = all {
        return Some(found);
    }
    found.subject = Subjects::of(all.iter().map(|next| &next.subject));
    found.what = each_once(all.iter().map(|next| next.what.as_str()), "; ");
    // Of one file, a line says more.
    for next in all {
        if found.at.as_ref().is_none_or(|at| at.line.is_none() && file_of(next) == Some(&at.file)) {
            found.at.clone_from(&next.at);
        }
    }
    if found.cost.is_some() {
        found.cost = Some(each_once(all.iter().filter_map(|next| next.cost.as_deref()), "; "));
    }
    if is_restarted(&found.fix) {
        found.fix = Fix::Restart(found.subject.names().map(str::to_owned).collect());
    }
    let edits: Option<Vec<&str>> = all.iter().map(|next| edit(&next.fix)).collect();
    if let Some(edits) = edits {
        found.fix = Fix::Edit(each_once(edits.into_iter(), "; "));
    } else if all.iter().all(|next| is_run(&next.fix)) && all.iter().any(|next| next.fix != found.fix) {
        let commands: Vec<String> = all.iter().filter_map(|next| next.fix.command()).collect();
        found.fix = Fix::Command(each_once(commands.iter().map(String::as_str), " && "));
    }
    Some(found)
}

fn edit(fix: &Fix) -> Option<&str> {
    if let Fix::Edit(edit) = fix { Some(edit) } else { None }
}

/// The parts of some texts, each once.
fn each_once<'t>(texts: impl Iterator<Item = &'t str>, separator: &str) -> String {
    let mut known = HashSet::new();
    let mut parts: Vec<&str> = texts.flat_map(|text| text.split(separator)).collect();
    parts.retain(|part| known.insert(*part));
    parts.join(separator)
}
