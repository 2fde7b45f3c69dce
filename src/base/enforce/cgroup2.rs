//! Slices without systemd, in a container or under another init: made, set and entered in cgroupfs.
//!
//! Under systemd none of this is used: the tree is systemd's. The rules are the kernel's,
//! `Documentation/admin-guide/cgroup-v2.rst`. Everything here may be done by two services at once,
//! and again: what is as it should be is left alone.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::effect;
use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::paths;
use crate::policy::Resources;
use crate::text::shown;
use crate::units::{CPU_QUOTA, CPU_WEIGHT, CpuWeight, Property, SettingValue};

/// Where the processes go that are in the root of a container's cgroup namespace; systemd's own
/// name for it.
const REST: &str = "init.scope";
/// How often processes are moved out of the way: they may be starting others meanwhile.
const ROUNDS: u32 = 10;
/// What is waited after the second round, and twice as long after each that follows: a second in all.
const PAUSE: Duration = Duration::from_millis(2);

/// What a cgroup is given.
pub type SettingValues = Vec<(Property, SettingValue)>;

/// What is declared, as a cgroup is given it.
#[must_use]
pub fn settings(resources: &Resources) -> SettingValues {
    resources.settings().map(|setting| (setting.property, setting.value)).collect()
}

/// The cgroups of a machine without systemd.
pub struct Hierarchy<'a> {
    root: &'a Path,
    top: PathBuf,
    /// What percentages are of.
    pub machine: Machine,
}

impl<'a> Hierarchy<'a> {
    /// # Errors
    /// There is no cgroup2, or `/proc/meminfo` cannot be read.
    pub fn below(root: &'a Path) -> Result<Self> {
        let top = root.join(paths::CGROUPFS);
        if !top.join("cgroup.controllers").exists() {
            bail!("no cgroup2 is mounted on /{}", paths::CGROUPFS);
        }
        Ok(Self { root, top, machine: Machine::read(root)? })
    }

    /// Makes each cgroup of the chain, which goes from the top down, with what it is given, and moves
    /// this process into the last. Gives what could not be set: a container seldom has every controller.
    ///
    /// The root must have been vacated.
    ///
    /// # Errors
    /// The tree is not ours to write to.
    pub fn enter(&self, chain: &[(PathBuf, SettingValues)]) -> Result<Vec<anyhow::Error>> {
        let mut unset = Vec::new();
        for (cgroup, settings) in chain {
            self.make(cgroup)?;
            let errors = settings.iter().map(|(property, value)| self.set(cgroup, *property, value));
            unset.extend(errors.filter_map(Result::err));
        }
        chain.last().map_or(Ok(()), |(leaf, _)| self.move_self(leaf))?;
        Ok(unset)
    }

    /// Moves this process back to where it was; to the rest of the processes where that is gone.
    ///
    /// # Errors
    /// The tree is not ours to write to.
    pub(super) fn return_to(&self, cgroup: &Path) -> Result<()> {
        if self.move_self(cgroup).is_ok() {
            return Ok(());
        }
        if self.is_the_machines() {
            return self.move_self(Path::new(""));
        }
        self.make(Path::new(REST))?;
        self.move_self(Path::new(REST))
    }

    /// Removes a cgroup if nothing is in it, and says whether it is gone.
    pub(super) fn remove(&self, cgroup: &Path) -> bool {
        match fs::remove_dir(self.top.join(cgroup)) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    fn move_self(&self, cgroup: &Path) -> Result<()> {
        // 0 is the writing process.
        self.write(cgroup, "cgroup.procs", "0")
    }

    /// Makes a cgroup, if it is not there.
    fn make(&self, cgroup: &Path) -> Result<()> {
        let path = self.top.join(cgroup);
        // The mode for a host whose umask lets everybody write.
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("making {}", shown(&path)))
            }
            _ => Ok(()),
        }
    }

    /// Gives a cgroup a value, unless it has it. Its controller is enabled from the top, where it is not.
    ///
    /// # Errors
    /// The tree is not ours to write to, or the controller cannot be had.
    pub fn set(&self, cgroup: &Path, property: Property, value: &SettingValue) -> Result<()> {
        let live = self.read(cgroup, property.attribute);
        let is_there = live.is_ok();
        if live.is_ok_and(|live| effect::holds(property, value, &live, self.machine)) {
            return Ok(());
        }
        if let Some((controller, _)) = property.attribute.split_once('.') {
            let above: Vec<&Path> = cgroup.ancestors().skip(1).collect();
            above.into_iter().rev().try_for_each(|parent| self.enable(parent, controller, is_there))?;
        }
        if let (SettingValue::Bandwidth(bandwidth), Some(word)) = (value, property.of_device()) {
            let device =
                bandwidth.device.as_deref().with_context(|| format!("there is no {}", bandwidth.path))?;
            let rate = cgroup::text(bandwidth.rate);
            return self.write(cgroup, property.attribute, &format!("{device} {word}={rate}"));
        }
        if property == CPU_WEIGHT {
            // An idle cgroup takes no weight.
            let idle = *value == SettingValue::Cpu(CpuWeight::Idle);
            if self.read(cgroup, "cpu.idle").is_ok_and(|live| (live == "1") != idle) {
                self.write(cgroup, "cpu.idle", if idle { "1" } else { "0" })?;
            }
            if idle {
                return Ok(());
            }
        }
        let number = self.machine.number(value);
        // The kernel takes the time for a period, of 100 ms as it is where nobody says otherwise.
        let number = if property == CPU_QUOTA && number != u64::MAX { number / 10 } else { number };
        self.write(cgroup, property.attribute, &cgroup::text(number))
    }

    /// Enables a controller for the cgroups in `cgroup`; `is_there` says whether what it brings is below already.
    fn enable(&self, cgroup: &Path, controller: &str, is_there: bool) -> Result<()> {
        let has = |attribute| -> Result<bool> {
            Ok(self.read(cgroup, attribute)?.split_whitespace().any(|known| known == controller))
        };
        let order = || self.write(cgroup, "cgroup.subtree_control", &format!("+{controller}"));
        if has("cgroup.subtree_control")? {
            // Another service's order is shown before it is carried out (`cgroup_subtree_control_write` in
            // kernel/cgroup/cgroup.c); ours waits for that one.
            return if is_there { Ok(()) } else { order().or(Ok(())) };
        }
        if !has("cgroup.controllers")? {
            bail!(
                "the {controller} controller cannot be had in /{}: it is not enabled above it",
                shown(&cgroup)
            );
        }
        order()
    }

    /// Moves the processes of a container's root into a cgroup of their own.
    ///
    /// Where processes are, no controller can be enabled for the cgroups below, but in the machine's
    /// own root. In a container's, where its first processes are, making room is up to us.
    ///
    /// # Errors
    /// The tree is not ours to write to, or the processes cannot be moved.
    pub fn vacate_root(&self) -> Result<()> {
        let namespace = Path::new("");
        if self.is_the_machines() {
            if self.top.join(REST).exists() {
                bail!(
                    "/{} is the whole machine's, whose systemd owns it: give the container a cgroup namespace of its own",
                    paths::CGROUPFS
                );
            }
            return Ok(());
        }
        for round in 0..ROUNDS {
            let processes = self.read(namespace, "cgroup.procs")?;
            if processes.is_empty() {
                return Ok(());
            }
            self.make(Path::new(REST))?;
            for process in processes.lines() {
                self.move_to_rest(process)?;
            }
            // One that is ending stays where it is until it is gone, though the kernel takes the order
            // (`cgroup_migrate_add_task` in kernel/cgroup/cgroup.c); on a busy machine that takes a while.
            if round > 0 {
                thread::sleep(PAUSE * 2_u32.pow(round - 1));
            }
        }
        bail!("the processes in / start others faster than they can be moved to /{REST}, or do not end")
    }

    /// Whether the root is the machine's own: that has no type.
    fn is_the_machines(&self) -> bool {
        self.read(Path::new(""), "cgroup.type").is_err()
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
            .with_context(|| format!("{} cannot be read", shown(&path)))
    }

    fn write(&self, cgroup: &Path, attribute: &str, text: &str) -> Result<()> {
        let path = self.top.join(cgroup).join(attribute);
        // Opened without creating: a fixture aside, cgroupfs has it or has it not.
        let file = fs::OpenOptions::new().write(true).open(&path);
        file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
            .with_context(|| format!("writing {text} to {}", shown(&path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn a_process_that_is_ending_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/meminfo", "MemTotal: 1000 kB\n");
        for (file, text) in [
            ("cgroup.controllers", "cpu\n"),
            ("cgroup.type", "domain\n"),
            ("cgroup.procs", "4711\n"),
            ("init.scope/cgroup.procs", ""),
        ] {
            write(root, &format!("sys/fs/cgroup/{file}"), text);
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                write(root, "sys/fs/cgroup/cgroup.procs", "");
            });
            Hierarchy::below(root).unwrap().vacate_root().unwrap();
        });
    }
}
