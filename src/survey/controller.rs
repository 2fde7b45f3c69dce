//! Why a cgroup lacks what a setting of its unit is written to.
#![forbid(unsafe_code)]

use super::{Files, Winner};
use crate::host::tree::{Id, Tree};
use crate::text::shown;
use crate::units::Property;

/// The setting with which a unit keeps controllers from itself and all in it.
const DISABLE: &str = "DisableControllers";

/// Why an attribute is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The setting is of a disk that is not there.
    NoDisk,
    /// The lines that disable the controller, of the unit or of what it is in.
    Disabled(Vec<Disabling>),
    /// `cgroup_disable=` on the kernel's command line.
    CommandLine,
    /// This is a container, into which the controller is not delegated.
    NotDelegated,
    /// The kernel was built without the controller, or cgroup v1 holds it.
    NoController,
    /// This cgroup is threaded, and the controller is not for threads.
    Threaded(Id),
    /// PID 1 has not enabled it, or somebody has disabled it past PID 1: here and below.
    NotEnabled(Id),
    /// The controller is there: the kernel has no such attribute.
    NoAttribute,
}

/// `DisableControllers=` of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabling {
    /// The unit.
    pub unit: String,
    /// The line.
    pub line: Winner,
}

/// The lines with `DisableControllers=` that hold for a unit.
#[must_use]
pub fn disabling(unit: &str, files: &Files<'_>) -> Vec<Disabling> {
    files.collected(DISABLE).into_iter().map(|line| Disabling { unit: unit.to_owned(), line }).collect()
}

/// The controller that has an attribute: `memory` for `memory.max`.
#[must_use]
pub fn controller(property: Property) -> &'static str {
    of_attribute(property.attribute)
}

/// The controller to which an attribute belongs.
pub(super) fn of_attribute(attribute: &str) -> &str {
    attribute.split('.').next().unwrap_or_default()
}

/// Why a unit's cgroup, which is not the root, lacks the attribute of a property. `disabling` is what [`disabling`]
/// says of all units from this one up to the root: `unit_get_ancestor_disable_mask` in systemd's `src/core/cgroup.c`.
#[must_use]
pub fn why(tree: &Tree, cgroup: Id, property: Property, disabling: &[Disabling]) -> Absent {
    let name = controller(property);
    if tree[cgroup].controllers.has(name) {
        return Absent::NoAttribute;
    }
    if !tree[Tree::ROOT].controllers.has(name) {
        return if is_disabled(&tree.command_line, name) {
            Absent::CommandLine
        } else if tree.is_contained {
            Absent::NotDelegated
        } else {
            Absent::NoController
        };
    }
    let names_it = |line: &Winner| {
        line.set.as_ref().is_some_and(|(_, value)| value.split_whitespace().any(|word| word == name))
    };
    let lines: Vec<Disabling> = disabling.iter().filter(|by| names_it(&by.line)).cloned().collect();
    if !lines.is_empty() {
        return Absent::Disabled(lines);
    }
    let threaded = tree.upwards(cgroup).filter(|id| tree[*id].is_threaded).last();
    match threaded {
        Some(id) if ["memory", "io"].contains(&name) => Absent::Threaded(id),
        _ => Absent::NotEnabled(not_handing_on(tree, cgroup, name)),
    }
}

/// The uppermost cgroup above this one that does not hand a controller on.
#[must_use]
pub fn not_handing_on(tree: &Tree, cgroup: Id, controller: &str) -> Id {
    let above = tree.upwards(cgroup).skip(1);
    above.filter(|id| !tree[*id].subtree_control.has(controller)).last().unwrap_or(Tree::ROOT)
}

/// Whether the kernel was told to leave a controller out, by its name of today or of cgroup v1: `cgroup_disable` in
/// the kernel's `kernel/cgroup/cgroup.c`.
fn is_disabled(command_line: &str, controller: &str) -> bool {
    let of_v1 = if controller == "io" { "blkio" } else { controller };
    let mut named = command_line
        .split_whitespace()
        .filter_map(|argument| argument.strip_prefix("cgroup_disable="))
        .flat_map(|names| names.split(','));
    named.any(|name| name == controller || name == of_v1)
}

impl Absent {
    /// Why, in one line.
    #[must_use]
    pub fn said(&self, tree: &Tree, property: Property) -> String {
        let controller = controller(property);
        match self {
            Self::Disabled(lines) => {
                let lines: Vec<String> = lines.iter().map(|by| by.line.said()).collect();
                lines.join(", ")
            }
            Self::CommandLine => format!("cgroup_disable={controller} is on the kernel's command line"),
            Self::NotDelegated => {
                format!("this is a container, into which the {controller} controller is not delegated")
            }
            Self::NoController => {
                format!("this kernel has no {controller} controller, or cgroup v1 holds it")
            }
            Self::Threaded(id) => {
                let name = tree.name(*id);
                format!(
                    "{} is a threaded cgroup, which cannot have the {controller} controller",
                    shown(&name)
                )
            }
            Self::NotEnabled(id) => {
                let name = tree.name(*id);
                format!(
                    "{} does not hand on the {controller} controller (cgroup.subtree_control)",
                    shown(&name)
                )
            }
            Self::NoDisk => "there is no such device, or nothing that lies on one".to_owned(),
            Self::NoAttribute => format!("this kernel has no {}", property.attribute),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::{Cgroup, Controllers};
    use crate::survey::Owner;
    use crate::units::{CPU_WEIGHT, IO_WEIGHT, MEMORY_MAX};

    /// What an `a.slice/b.service` lacks where these controllers are enabled in the root, handed on by it and by
    /// `a.slice`.
    fn tree(root: &str, by_root: &str, by_slice: &str) -> (Tree, Id) {
        let cgroup = |controllers, subtree| Cgroup {
            controllers: Controllers::parse(controllers),
            subtree_control: Controllers::parse(subtree),
            ..Cgroup::default()
        };
        let mut tree = Tree::new(cgroup(root, by_root));
        let slice = tree.add(Tree::ROOT, "a.slice", cgroup(by_root, by_slice));
        let service = tree.add(slice, "b.service", cgroup(by_slice, ""));
        (tree, service)
    }

    fn line(unit: &str, value: &str) -> Disabling {
        let (setting, file) = (DISABLE.to_owned(), format!("/etc/systemd/system/{unit}").into());
        let line = Winner { setting, owner: Owner::UnitFile, file, set: Some((2, value.to_owned())) };
        Disabling { unit: unit.to_owned(), line }
    }

    #[test]
    fn each_cause_is_told_from_the_others() {
        let (tree_of_slice, service) = tree("cpu memory", "cpu memory", "cpu");
        let slice = tree_of_slice[service].parent.unwrap();
        let of = |lines: &[Disabling]| why(&tree_of_slice, service, MEMORY_MAX, lines);
        assert_eq!(of(&[]), Absent::NotEnabled(slice));
        assert_eq!(of(&[line("a.slice", "cpu")]), Absent::NotEnabled(slice));
        let both = [line("a.slice", "memory"), line("b.service", "cpu memory")];
        assert_eq!(of(&both), Absent::Disabled(both.to_vec()));
        assert_eq!(why(&tree_of_slice, service, CPU_WEIGHT, &both), Absent::NoAttribute);
        let (by_root, service) = tree("cpu memory", "memory", "memory");
        assert_eq!(why(&by_root, service, CPU_WEIGHT, &[]), Absent::NotEnabled(Tree::ROOT));
        let (mut none, service) = tree("cpu", "cpu", "cpu");
        assert_eq!(why(&none, service, IO_WEIGHT, &[line("a.slice", "io")]), Absent::NoController);
        none.is_contained = true;
        assert_eq!(why(&none, service, IO_WEIGHT, &[]), Absent::NotDelegated);
        none.command_line = "quiet cgroup_disable=memory,blkio ro".to_owned();
        assert_eq!(why(&none, service, IO_WEIGHT, &[]), Absent::CommandLine);
        assert_eq!(why(&none, service, MEMORY_MAX, &[]), Absent::CommandLine);
    }

    #[test]
    fn a_threaded_cgroup_lacks_what_is_not_for_threads() {
        let cgroup = |controllers: &str| Cgroup {
            controllers: Controllers::parse(controllers),
            subtree_control: Controllers::parse("memory"),
            ..Cgroup::default()
        };
        let mut tree = Tree::new(cgroup("cpu memory"));
        let id = tree.add(Tree::ROOT, "a.service", Cgroup { is_threaded: true, ..cgroup("") });
        assert_eq!(why(&tree, id, MEMORY_MAX, &[]), Absent::Threaded(id));
        assert_eq!(why(&tree, id, CPU_WEIGHT, &[]), Absent::NotEnabled(Tree::ROOT));
    }
}
