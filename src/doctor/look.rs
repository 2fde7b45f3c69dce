//! One look at the machine for everything that is looked for.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use super::chain::{Once, Scene};
use super::finding::{Finding, sorted};
use super::unwritten;
use crate::doctor;
use crate::effect::kill_order;
use crate::effect::{self, Carried};
use crate::enforce::adopt::{self, Copy};
use crate::enforce::generator;
use crate::enforce::private_dir::{self, Inspected};
use crate::host::Unread;
use crate::host::disk::Disks;
use crate::host::facts::{self, Facts};
use crate::host::io_weights::{self, IoWeights};
use crate::host::machine::Machine;
use crate::host::met::{self, Met, TasksLimit};
use crate::host::oom::{self, Oom};
use crate::host::parallel::both;
use crate::host::pid1::is_booted;
use crate::host::processes::{self, Process, Processes};
use crate::host::settings::Settings;
use crate::host::tree::{self, Each, Id};
use crate::host::units::Units;
use crate::host::v1;
use crate::policy::{Loaded, Policy};
use crate::survey;
use crate::survey::outside::{Outside, outside};
use crate::survey::snapshot::{self, AlreadyRead, Extent, Snapshot};
use crate::survey::unmatched::unmatched;
use crate::units::file::Assignment;
use crate::units::{ServiceName, SliceName};

/// One look at the machine, and what the policy comes to on it.
pub struct Look {
    /// What is declared; nothing where the policy is left out.
    pub policy: Policy,
    /// What the ancestors of its slices carry.
    pub carried: BTreeMap<SliceName, Carried>,
    expected: BTreeMap<String, Vec<Assignment>>,
    /// Its RAM.
    pub machine: Machine,
    /// What PID 1 says of its units.
    pub units: Units,
    /// Every process, by number.
    pub processes: Vec<Process>,
    /// The cgroup tree, and who is logged in.
    pub live: Snapshot,
    facts: Facts,
    /// Every one that there is.
    services: BTreeSet<ServiceName>,
    /// Who kills when memory runs out.
    pub oom: Oom,
    multi_gen_lru: bool,
    disks: Disks,
    /// Read where a disk has BFQ.
    io_weights: Each<IoWeights>,
    met: Each<Met>,
    tasks_limits: BTreeMap<Id, TasksLimit>,
    cpus: u32,
    private_dirs: Vec<Inspected>,
    copies: Vec<Copy>,
    launchers: doctor::launchers::Launchers,
    outside: Vec<Outside>,
    /// Parts of the machine that could not be looked at, in which there may be more to find.
    pub missed: Vec<String>,
    /// Whether there is a PID 1 through which what is declared takes effect.
    has_systemd: bool,
    /// Processes that could not be looked at.
    pub unread: Vec<Unread>,
    once: Once,
}

/// What was found, and in how many settings.
pub struct Findings {
    /// The worst first.
    pub findings: Vec<Finding>,
    /// How many were followed to where they take effect.
    pub settings: usize,
}

/// Where there is no cgroup2, nothing else needs to be looked at.
#[must_use]
pub fn on_v1(root: &Path) -> Option<Findings> {
    let v1 = v1::read(root)?;
    let units = Units::read(root).unwrap_or_default();
    let findings =
        doctor::stock::findings(&Policy::default(), Some(&v1), &units, &Settings::read(root, &units), None);
    Some(Findings { findings: sorted(findings), settings: 0 })
}

/// The disks, and what PID 1 says of limits of theirs.
fn look_at_disks(root: &Path, units: &mut Units, live: &Snapshot, settings: &Settings) -> Result<Disks> {
    let limited = unwritten::with_limits_of_devices(units, live, settings);
    let properties = unwritten::OF_DEVICES.map(|(property, _)| property);
    units.ask_also(root, &limited, &properties)?;
    let mut disks = Disks::read(root);
    let limits = limited.iter().filter_map(|name| units.get(name));
    let paths = limits.flat_map(|unit| properties.into_iter().flat_map(|property| unit.of_devices(property)));
    disks.look_up(root, paths.map(|(path, _)| path));
    Ok(disks)
}

impl Look {
    /// Looks at the machine below `root`.
    ///
    /// # Errors
    /// cgroupfs or `/proc` cannot be read, NSS failed, or this machine runs cgroup v1.
    pub fn at(root: &Path, loaded: Option<&Loaded>) -> Result<Self> {
        let policy = loaded.map(|loaded| loaded.policy.clone()).unwrap_or_default();
        let machine = Machine::read(root)?;
        let (units, tree) = both(&|| Units::read(root), || survey::whole_tree(root));
        let mut tree = tree?;
        let mut missed = Vec::new();
        let has_systemd = units.is_ok() || is_booted(root);
        let mut units = units.unwrap_or_else(|error| {
            missed.push(if has_systemd {
                format!("what PID 1 says of its units: {error:#}")
            } else {
                "what is declared for slices and services: without systemd each service sets it as it starts, and \
                 \"fairslice status\" compares it"
                    .to_owned()
            });
            Units::default()
        });
        let Processes { all: processes, unread } = processes::read(root)?;
        tree.read_affinity_of(root, &processes);
        let known = Some(AlreadyRead { units: &units, processes: &processes });
        let live = snapshot::read(root, tree, &policy, Extent::Everything, known)
            .context("looking at the machine")?;
        let users = live.users.iter().map(|user| SliceName::of_user(user.uid));
        let slices = policy.slices.keys().cloned().chain([SliceName::user()]).chain(users);
        let services = live.services_of(&policy).into_iter().map(ToString::to_string);
        let names: Vec<String> = slices.map(|slice| slice.to_string()).chain(services).collect();
        survey::ask_for_declared(root, &mut units, &policy, names.iter().map(String::as_str))
            .unwrap_or_else(|error| missed.push(format!("what PID 1 says of what is declared: {error:#}")));
        let mut facts = Facts::read(root, &units);
        if loaded.is_none() {
            // What the generator made of the policy is then no more than what other files set.
            facts.generated.clear();
        }
        let disks = look_at_disks(root, &mut units, &live, &facts.settings).unwrap_or_else(|error| {
            missed.push(format!("limits of devices: {error:#}"));
            Disks::read(root)
        });
        let io_weights = match disks.of_bfq().next() {
            Some(_) => io_weights::read(root, &live.tree),
            None => Each::none(&live.tree),
        };
        let carried = effect::ancestors(&policy, machine.ram);
        let expected = facts::assignments(generator::texts(&policy, machine));
        let oom = oom::read(root, &units, &processes)?;
        let uids: Vec<u32> = live.users.iter().map(|user| user.uid).collect();
        let (private_dirs, passed_over) = private_dir::inspect(root, &policy, &uids)
            .unwrap_or_else(|error| (Vec::new(), vec![format!("{error:#}")]));
        missed.extend(passed_over.iter().map(|line| format!("private directories: {line}")));
        let copies = adopt::copies(root).unwrap_or_else(|error| {
            missed.push(format!("adopted units: {error:#}"));
            Vec::new()
        });
        let launchers = doctor::launchers::look(root, &policy).unwrap_or_else(|error| {
            missed.push(format!("units with the launcher: {error:#}"));
            doctor::launchers::Launchers::default()
        });
        let outside = outside(root, &policy, &live.tree, &processes, &units, &facts.settings);
        let outside = outside.unwrap_or_else(|error| {
            missed.push(format!("processes outside of their users' slices: {error:#}"));
            Vec::new()
        });
        let services = survey::unmatched::services(root, Some(&live.tree));
        let met = met::read(root, &live.tree);
        let refused = live.tree.ids().filter(|id| met.get(*id).is_some_and(|met| met.tasks.is_some()));
        let limit = |id| Some((id, met::tasks_limit(root, &live.tree, id)?));
        let tasks_limits = refused.flat_map(|id| live.tree.upwards(id)).filter_map(limit).collect();
        let (cpus, multi_gen_lru) = (tree::online_cpus(root)?, oom::has_multi_gen_lru(root));
        Ok(Self {
            policy,
            carried,
            expected,
            machine,
            units,
            processes,
            live,
            facts,
            services,
            oom,
            multi_gen_lru,
            disks,
            io_weights,
            met,
            tasks_limits,
            cpus,
            private_dirs,
            copies,
            launchers,
            outside,
            missed,
            has_systemd,
            unread,
            once: Once::default(),
        })
    }

    /// Finds what is wrong.
    #[must_use]
    pub fn examine(&self, loaded: Option<&Loaded>) -> Findings {
        let scene = self.scene();
        let chains = || if self.has_systemd { doctor::chains(&scene) } else { Vec::new() };
        let (of_tree, chains) = both(&|| self.cpu_and_memory(), chains);
        let mut findings = loaded.map(doctor::settings::findings).unwrap_or_default();
        findings.extend(doctor::findings(&chains));
        findings.extend(doctor::placement::findings(&scene));
        findings.extend(of_tree);
        if loaded.is_some() {
            findings.extend(doctor::settings::unmatched(&unmatched(&self.policy, &self.services)));
            findings.extend(self.logins());
        }
        findings.extend(doctor::stock::findings(
            &self.policy,
            None,
            &self.units,
            &self.facts.settings,
            self.facts.version(),
        ));
        Findings { findings: sorted(findings), settings: chains.len() }
    }

    /// What the settings of the whole tree come to.
    fn cpu_and_memory(&self) -> Vec<Finding> {
        let Self { policy, carried, units, processes, oom, .. } = self;
        let tree = &self.live.tree;
        let scene = self.scene();
        let set_by = |unit: &str, key: &str| scene.place_of(unit, key);
        let cpus = self.cpus;
        let mut found = doctor::cpu::findings(policy, carried, tree, units, cpus, &set_by);
        found.extend(doctor::rounding::findings(tree, units, cpus, &set_by));
        let lru = self.multi_gen_lru;
        let origin = |unit: &str, key: &str| {
            let winner = scene.files(unit).set(key)?;
            Some(doctor::origin(policy, unit, &winner))
        };
        found.extend(doctor::memory::findings(tree, scene.protections(), oom.ram, lru, carried, &origin));
        let tasks_limit = |id| self.tasks_limits.get(&id).copied();
        found.extend(doctor::limits::findings(tree, units, &self.met, &tasks_limit, oom.ram, &origin));
        found.extend(doctor::payload::findings(tree, units, processes, &origin));
        found.extend(doctor::outside::findings(&scene, &self.outside));
        found.extend(doctor::io::findings(tree, units, &self.disks, &self.io_weights, &origin));
        found.extend(doctor::cpu::sched_ext(tree, units, &origin));
        found.extend(doctor::memory::without_swap(tree, units, oom.swap, &origin));
        let look = kill_order::KillScene { tree, units, processes, ram: oom.ram, swap: oom.swap };
        let declared = |uid| self.declared_score(uid);
        found.extend(doctor::kill_order::findings(&look, policy, &declared, &set_by));
        found
    }

    /// The OOM score that the policy declares for a user's processes.
    fn declared_score(&self, uid: u32) -> i16 {
        let user = self.live.users.iter().find(|user| user.uid == uid);
        user.and_then(|user| user.rule(&self.policy).oom_score_adj).map_or(0, |score| score.value.get())
    }

    /// What keeps logins from what is declared for them, and private directories from being private.
    fn logins(&self) -> Vec<Finding> {
        let seen = doctor::logins::Seen {
            machine: self.machine,
            logins: &self.facts.logins,
            live: &self.live,
            units: &self.units,
            settings: &self.facts.settings,
            processes: &self.processes,
            cpus: self.cpus,
        };
        let mut found = doctor::logins::findings(&self.policy, &seen);
        found.extend(doctor::directories::findings(&self.private_dirs));
        found.extend(doctor::launchers::findings(&self.launchers, &self.copies));
        found
    }

    /// The same, as the pure functions take it.
    #[must_use]
    pub fn scene(&self) -> Scene<'_> {
        Scene {
            policy: &self.policy,
            carried: &self.carried,
            expected: &self.expected,
            machine: self.machine,
            units: &self.units,
            processes: &self.processes,
            live: &self.live,
            facts: &self.facts,
            disks: &self.disks,
            cpus: self.cpus,
            recursive: self.oom.recursive,
            once: &self.once,
        }
    }
}
