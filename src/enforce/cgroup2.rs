//! Slices without systemd, in a container or under another init: made, set and entered in cgroupfs.
//!
//! Under systemd none of this is used: the tree is systemd's. The rules are the kernel's,
//! `Documentation/admin-guide/cgroup-v2.rst`. Everything here may be done by two services at once,
//! and again: what is as it should be is left alone.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::effect;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::paths;
use crate::policy::{CPU_WEIGHT, CpuWeight, Policy, Property, Resources, SettingValue, SliceName};

/// Where the processes go that are in the root of a container's cgroup namespace; systemd's own
/// name for it.
const REST: &str = "init.scope";
/// How often processes are moved out of the way: they may be starting others meanwhile.
const ROUNDS: usize = 10;

/// Makes the cgroups of `slice` and, in it, of `leaf`, with what the policy gives each of them, and
/// moves this process into the leaf.
///
/// # Errors
/// There is no cgroup2, it is not ours to write to, or a controller that the policy needs cannot be
/// had.
pub(super) fn enter(
    root: &Path,
    policy: &Policy,
    slice: &SliceName,
    leaf: &str,
    leaf_resources: &Resources,
) -> Result<()> {
    let top = root.join(paths::CGROUPFS);
    if !top.join("cgroup.controllers").exists() {
        bail!("no cgroup2 is mounted on /{}", paths::CGROUPFS);
    }
    let machine = Machine::read(root)?;
    let mut chain = slices(policy, slice, machine);
    let leaf = slice.cgroup().join(leaf);
    chain.push((leaf.clone(), settings(leaf_resources)));
    let tree = Tree { root, top: &top, machine };
    tree.vacate_root()?;
    let mut rest = chain.as_slice();
    while let Some(((cgroup, settings), below)) = rest.split_first() {
        // What is needed further down is enabled from the top.
        let needed: BTreeSet<&str> = rest.iter().flat_map(|(_, settings)| controllers(settings)).collect();
        let parent = cgroup.parent().unwrap_or_else(|| Path::new(""));
        needed.into_iter().try_for_each(|controller| tree.enable(parent, controller))?;
        tree.make(cgroup)?;
        settings.iter().try_for_each(|(property, value)| tree.set(cgroup, *property, *value))?;
        rest = below;
    }
    // 0 is the writing process.
    tree.write(&leaf, "cgroup.procs", "0")
}

type Settings = Vec<(Property, SettingValue)>;

/// The cgroups of a slice's ancestors and its own, from the top, with what each is given: what it
/// declares, and else what it has to carry.
fn slices(policy: &Policy, slice: &SliceName, machine: Machine) -> Vec<(PathBuf, Settings)> {
    let carried = effect::ancestors(policy, machine.ram);
    let given = |slice: SliceName| {
        let mut given = policy.slices.get(&slice).map_or_else(Vec::new, |slice| settings(&slice.resources));
        for (property, value) in carried.get(&slice).into_iter().flat_map(|carried| carried.settings()) {
            if given.iter().all(|(declared, _)| *declared != property) {
                given.push((property, value));
            }
        }
        (slice.cgroup(), given)
    };
    let mut slices: Vec<_> =
        std::iter::successors(Some(slice.clone()), SliceName::parent).map(given).collect();
    slices.reverse();
    slices
}

fn settings(resources: &Resources) -> Settings {
    resources.settings().map(|setting| (setting.property, setting.value)).collect()
}

/// The controllers that these settings are of: what stands before the dot.
fn controllers(settings: &Settings) -> impl Iterator<Item = &'static str> {
    settings.iter().filter_map(|(property, _)| property.attribute.split('.').next())
}

struct Tree<'a> {
    root: &'a Path,
    top: &'a Path,
    machine: Machine,
}

impl Tree<'_> {
    /// Makes a cgroup, if it is not there.
    fn make(&self, cgroup: &Path) -> Result<()> {
        let path = self.top.join(cgroup);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("making {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn set(&self, cgroup: &Path, property: Property, value: SettingValue) -> Result<()> {
        if self.read(cgroup, property.attribute).is_ok_and(|live| effect::holds(value, &live, self.machine)) {
            return Ok(());
        }
        if property == CPU_WEIGHT {
            // An idle cgroup takes no weight.
            let idle = value == SettingValue::Cpu(CpuWeight::Idle);
            if self.read(cgroup, "cpu.idle").is_ok_and(|live| (live == "1") != idle) {
                self.write(cgroup, "cpu.idle", if idle { "1" } else { "0" })?;
            }
            if idle {
                return Ok(());
            }
        }
        let number = self.machine.number(value);
        let text = if number == u64::MAX { "max".to_owned() } else { number.to_string() };
        self.write(cgroup, property.attribute, &text)
    }

    /// Enables a controller for the cgroups in `cgroup`.
    fn enable(&self, cgroup: &Path, controller: &str) -> Result<()> {
        let has = |attribute| -> Result<bool> {
            Ok(self.read(cgroup, attribute)?.split_whitespace().any(|known| known == controller))
        };
        if has("cgroup.subtree_control")? {
            return Ok(());
        }
        if !has("cgroup.controllers")? {
            bail!(
                "the {controller} controller cannot be had in /{}: it is not enabled above it",
                cgroup.display()
            );
        }
        self.write(cgroup, "cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Moves the processes of a container's root into a cgroup of their own.
    ///
    /// Where processes are, no controller can be enabled for the cgroups below, but in the machine's
    /// own root. In a container's, where its first processes are, making room is up to us.
    fn vacate_root(&self) -> Result<()> {
        let namespace = Path::new("");
        // The machine's own root has no type.
        if self.read(namespace, "cgroup.type").is_err() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            let processes = self.read(namespace, "cgroup.procs")?;
            if processes.is_empty() {
                return Ok(());
            }
            self.make(Path::new(REST))?;
            for process in processes.lines() {
                self.move_to_rest(process)?;
            }
        }
        bail!("the processes in / start others faster than they can be moved to /{REST}")
    }

    fn move_to_rest(&self, process: &str) -> Result<()> {
        if process == "0" {
            bail!("/ holds processes of another PID namespace, which cannot be moved to /{REST}");
        }
        match self.write(Path::new(REST), "cgroup.procs", process) {
            // One that ended meanwhile is out of the way, too.
            Err(_) if !self.root.join("proc").join(process).exists() => Ok(()),
            moved => moved,
        }
    }

    fn read(&self, cgroup: &Path, attribute: &str) -> Result<String> {
        let path = self.top.join(cgroup).join(attribute);
        cgroup::attribute(self.root, cgroup, attribute)
            .with_context(|| format!("{} cannot be read", path.display()))
    }

    fn write(&self, cgroup: &Path, attribute: &str, text: &str) -> Result<()> {
        let path = self.top.join(cgroup).join(attribute);
        // Opened without creating: a fixture aside, cgroupfs has it or has it not.
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .with_context(|| format!("writing {text} to {}", path.display()))
    }
}
