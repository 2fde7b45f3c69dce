//! `fairslice doctor`.
#![forbid(unsafe_code)]

mod mend;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use super::out;
use super::{FOUND, PATIENCE, lock};
use crate::effect::chain::Scene;
use crate::effect::doctor::directories::Inspected;
use crate::effect::doctor::logins::Outdated;
use crate::effect::finding::{Finding, Place, sorted};
use crate::effect::kill_order;
use crate::effect::memory::protection;
use crate::effect::{self, Carried, doctor};
use crate::enforce::{adopt, generator, private_dir};
use crate::host::facts::{self, Facts};
use crate::host::machine::Machine;
use crate::host::oom::{self, Oom};
use crate::host::processes::{self, Process, Processes};
use crate::host::settings::Settings;
use crate::host::snapshot::{self, Extent, Snapshot};
use crate::host::tree::{self, Tree};
use crate::host::unit_file::Assignment;
use crate::host::units::Units;
use crate::host::v1;
use crate::policy::{self, Loaded, Policy, SliceName};
use crate::report::{self, Looked};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Do what needs no restart and changes nothing of the administrator's, after showing it
    #[arg(long, conflicts_with_all = ["json", "no_policy"])]
    fix: bool,
    /// Print one object, as /usr/share/doc/fairslice/json describes it
    #[arg(long)]
    json: bool,
    /// Leave the policy out: what is wrong on any machine
    #[arg(long)]
    no_policy: bool,
}

/// One look at the machine, and what the policy comes to on it.
pub(super) struct Look {
    pub(super) policy: Policy,
    carried: BTreeMap<SliceName, Carried>,
    expected: BTreeMap<String, Vec<Assignment>>,
    pub(super) machine: Machine,
    pub(super) units: Units,
    processes: Vec<Process>,
    pub(super) live: Snapshot,
    facts: Facts,
    oom: Oom,
    multi_gen_lru: bool,
    cpus: u32,
    private_dirs: Vec<Inspected>,
    adopted: Vec<Outdated>,
    /// Parts of the machine that could not be looked at, in which there may be more to find.
    pub(super) missed: Vec<String>,
    /// Single processes and cgroups.
    unread: Vec<String>,
}

/// What was found, and in how many settings.
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    settings: usize,
}

pub(super) fn run(root: &Path, arguments: &Arguments) -> Result<u8> {
    let Arguments { fix, json, no_policy } = *arguments;
    // What is looked at before the lock is held may be another's work.
    let held = if fix { Some(lock(root, PATIENCE)?) } else { None };
    let loaded = (!no_policy).then(|| policy::load(root));
    if let Some(found) = on_v1(root) {
        return print(&[], &found, json);
    }
    let look = Look::at(root, loaded.as_ref())?;
    look.say_missed();
    let found = examine(&look, loaded.as_ref());
    if let (Some(held), Some(loaded)) = (&held, &loaded) {
        return mend::run(root, held, loaded, &look, &found.findings);
    }
    print(&look.all_missed(), &found, json)
}

/// Where there is no cgroup2, nothing else needs to be looked at.
pub(super) fn on_v1(root: &Path) -> Option<Found> {
    let v1 = v1::read(root)?;
    let units = Units::read(root).unwrap_or_default();
    let findings = doctor::stock::findings(Some(&v1), &units, &Settings::read(root, &units));
    Some(Found { findings: sorted(findings), settings: 0 })
}

/// The whole tree, with its memory.
pub(super) fn look_at_tree(root: &Path) -> Result<Tree> {
    let mut tree = Tree::read(root).context("looking at the machine")?;
    tree.read_memory(root, tree.ids());
    Ok(tree)
}

fn print(missed: &[String], found: &Found, json: bool) -> Result<u8> {
    let looked = Looked { settings: found.settings, missed };
    let text = if json {
        report::doctor_json(&found.findings, looked)
    } else {
        report::doctor_text(&found.findings, looked)
    };
    out::print(&text)?;
    Ok(if found.findings.is_empty() { 0 } else { FOUND })
}

pub(super) fn examine(look: &Look, loaded: Option<&Loaded>) -> Found {
    let scene = look.scene();
    let chains = doctor::chains(&scene);
    let mut findings = loaded.map(doctor::settings::findings).unwrap_or_default();
    findings.extend(doctor::findings(&chains));
    findings.extend(doctor::placement::findings(&scene));
    findings.extend(look.cpu_and_memory());
    if loaded.is_some() {
        findings.extend(look.logins());
    }
    findings.extend(doctor::stock::findings(None, &look.units, &look.facts.settings));
    Found { findings: sorted(findings), settings: chains.len() }
}

impl Look {
    /// Looks at the machine below `root`.
    ///
    /// # Errors
    /// cgroupfs or `/proc` cannot be read, NSS failed, or this machine runs cgroup v1.
    pub(super) fn at(root: &Path, loaded: Option<&Loaded>) -> Result<Self> {
        let policy = loaded.map(|loaded| loaded.policy.clone()).unwrap_or_default();
        let machine = Machine::read(root)?;
        let live = snapshot::read(root, look_at_tree(root)?, &policy, Extent::Everything)
            .context("looking at the machine")?;
        let Processes { all: processes, unread } = processes::read(root)?;
        let unread = report::missed(&live.tree, &unread);
        let mut missed = Vec::new();
        let units = Units::read(root).unwrap_or_else(|error| {
            missed.push(format!("what PID 1 says of its units: {error:#}"));
            Units::default()
        });
        let mut facts = Facts::read(root, &units);
        if loaded.is_none() {
            // What the generator made of the policy is then no more than what other files set.
            facts.generated.clear();
        }
        let carried = effect::ancestors(&policy, machine.ram);
        let expected = facts::assignments(generator::texts(&policy, machine));
        let oom = oom::read(root, &units, &processes)?;
        let uids: Vec<u32> = live.users.iter().map(|user| user.uid).collect();
        let (private_dirs, passed_over) = private_dir::inspect(root, &policy, &uids)
            .unwrap_or_else(|error| (Vec::new(), vec![format!("{error:#}")]));
        missed.extend(passed_over.iter().map(|line| format!("private directories: {line}")));
        let adopted = adopt::outdated(root).unwrap_or_else(|error| {
            missed.push(format!("adopted units: {error:#}"));
            Vec::new()
        });
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
            oom,
            multi_gen_lru,
            cpus,
            private_dirs,
            adopted,
            missed,
            unread,
        })
    }

    pub(super) fn say_missed(&self) {
        super::say_missed(&self.all_missed());
    }

    fn all_missed(&self) -> Vec<String> {
        [self.missed.as_slice(), &self.unread].concat()
    }

    /// What the settings of the whole tree come to.
    fn cpu_and_memory(&self) -> Vec<Finding> {
        let Self { policy, carried, units, processes, oom, .. } = self;
        let tree = &self.live.tree;
        let set_by =
            |unit: &str, key: &str| self.facts.settings.setting(units.get(unit)?, key).map(Place::from);
        let cpus = self.cpus;
        let mut found = doctor::cpu::findings(policy, carried, tree, units, cpus, &set_by);
        found.extend(doctor::rounding::findings(tree, units, cpus, &set_by));
        let protections = protection(tree, oom.recursive);
        let lru = self.multi_gen_lru;
        found.extend(doctor::memory::findings(tree, &protections, oom.ram, lru, carried, &set_by));
        let look = kill_order::Look { tree, units, processes, ram: oom.ram, swap: oom.swap };
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
        found.extend(doctor::logins::adopted(&self.adopted));
        found
    }

    /// The same, as the pure functions take it.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            policy: &self.policy,
            carried: &self.carried,
            expected: &self.expected,
            machine: self.machine,
            units: &self.units,
            processes: &self.processes,
            live: &self.live,
            facts: &self.facts,
            cpus: self.cpus,
            recursive: self.oom.recursive,
        }
    }
}
