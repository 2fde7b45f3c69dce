//! What the administrator declares: the model of a policy, and how it is looked up.
//!
//! Pure but for reading the policy files, which [`load`] does. Every value knows the file and the
//! line that set it.
#![forbid(unsafe_code)]

mod amount;
mod check;
mod compiled;
mod diagnostic;
mod load;
mod name;
mod read;
mod template;
mod value;
mod variable;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::shown;

pub use amount::{Amount, CpuFloor, Memory, Percent, Tasks};
pub use check::review;
pub use compiled::compile;
pub use diagnostic::{Diagnostic, Severity};
pub use load::{InForce, Loaded, SourceFile, load, load_files, load_for_login};
pub use name::{ServiceName, ServicePattern, SliceName, is_unit_name};
pub use template::{Filled, Owner, PathTemplate};
pub use value::{CpuWeight, DirMode, MaxAge, OomScoreAdj, SetBy, TotalWeight, Weight};
pub use variable::VariableName;

/// Where a value was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The policy file.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", shown(&*self.file), self.line)
    }
}

/// A value and where it was declared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Its file and line.
    pub origin: Origin,
}

/// A value that may be declared.
pub type Declared<T> = Option<Sourced<T>>;

/// The whole policy, merged from its files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Policy {
    /// `[slice."NAME"]`
    pub slices: BTreeMap<SliceName, Slice>,
    /// `[service.NAME]`
    pub services: BTreeMap<ServiceName, Service>,
    /// `[logins]` and the tables below it
    pub logins: Logins,
    /// `[private_dir.VARIABLE]`
    pub private_dirs: BTreeMap<VariableName, PrivateDir>,
}

/// `[slice."NAME"]`: a slice, what it gets, and which services it holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Slice {
    /// `match`
    pub matches: Vec<Sourced<ServicePattern>>,
    /// `cpu_floor`: the part of the machine's CPU time that logins always leave to this slice.
    pub cpu_floor: Declared<CpuFloor>,
    /// Weights and limits.
    pub resources: Resources,
}

/// `[service.NAME]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Service {
    /// `oom_score_adj`
    pub oom_score_adj: Declared<OomScoreAdj>,
    /// `set_by`, who sets the score; [`SetBy::Fairslice`] where it is not declared.
    pub set_by: Declared<SetBy>,
    /// Weights and limits.
    pub resources: Resources,
}

/// `[logins]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Logins {
    /// For users whom no rule names, and for keys that a rule leaves out.
    pub default: LoginRule,
    /// `total_weight`: what `user.slice` weighs.
    pub total_weight: Declared<TotalWeight>,
    /// `[logins.user.NAME]`
    pub users: Vec<(String, LoginRule)>,
    /// `[logins.group.NAME]`, in file order: the first that a user is in wins.
    pub groups: Vec<(String, LoginRule)>,
}

/// What a login gets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LoginRule {
    /// For the user's slice.
    pub resources: Resources,
    /// For the session's processes.
    pub oom_score_adj: Declared<OomScoreAdj>,
}

/// `[private_dir.VARIABLE]`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PrivateDir {
    /// `path`: where each user's directory is.
    pub path: Sourced<PathTemplate>,
    /// `only_if`: where this is missing, the variable is not set, and nothing is said.
    pub only_if: Declared<String>,
    /// `users`: only these, and the members of `groups`.
    pub users: Vec<Sourced<String>>,
    /// `groups`: only their members, and `users`.
    pub groups: Vec<Sourced<String>>,
    /// `min_uid`: the lowest user number, 1 to 4294967294; [`PrivateDir::MIN_UID`] where it is not
    /// declared.
    pub min_uid: Declared<u32>,
    /// `mode` of a directory that is made; [`DirMode::PRIVATE`] where it is not declared.
    pub mode: Declared<DirMode>,
    /// `max_age` of what lies in the directories.
    pub max_age: Declared<MaxAge>,
}

/// Weights and limits of a slice, a service or a login: `systemd.resource-control(5)`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Resources {
    /// `CPUWeight=`
    pub cpu_weight: Declared<CpuWeight>,
    /// `IOWeight=`
    pub io_weight: Declared<Weight>,
    /// `MemoryMin=`
    pub memory_min: Declared<Memory>,
    /// `MemoryLow=`
    pub memory_low: Declared<Memory>,
    /// `MemoryHigh=`
    pub memory_high: Declared<Memory>,
    /// `MemoryMax=`
    pub memory_max: Declared<Memory>,
    /// `MemorySwapMax=`
    pub memory_swap_max: Declared<Memory>,
    /// `TasksMax=`
    pub tasks_max: Declared<Tasks>,
}

/// The names of one resource setting: in the policy, in a unit file, in cgroupfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// The policy's key.
    pub key: &'static str,
    /// systemd's setting and D-Bus property.
    pub unit: &'static str,
    /// The cgroup's attribute.
    pub attribute: &'static str,
}

/// One declared setting of [`Resources`].
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What is set.
    pub property: Property,
    /// To what.
    pub value: SettingValue,
    /// Who says so.
    pub origin: &'a Origin,
}

/// The value of a [`Setting`]; `Display` writes what a unit file takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingValue {
    /// A CPU weight.
    Cpu(CpuWeight),
    /// An I/O weight.
    Io(Weight),
    /// An amount of memory.
    Memory(Memory),
    /// A number of tasks.
    Tasks(Tasks),
}

impl fmt::Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(value) => value.fmt(f),
            Self::Io(value) => value.fmt(f),
            Self::Memory(value) => value.fmt(f),
            Self::Tasks(value) => value.fmt(f),
        }
    }
}

/// `CPUWeight=`
pub const CPU_WEIGHT: Property = Property { key: "cpu_weight", unit: "CPUWeight", attribute: "cpu.weight" };
/// `IOWeight=`
pub const IO_WEIGHT: Property = Property { key: "io_weight", unit: "IOWeight", attribute: "io.weight" };
/// `MemoryMin=`
pub const MEMORY_MIN: Property = Property { key: "memory_min", unit: "MemoryMin", attribute: "memory.min" };
/// `MemoryLow=`
pub const MEMORY_LOW: Property = Property { key: "memory_low", unit: "MemoryLow", attribute: "memory.low" };
const MEMORY_HIGH: Property = Property { key: "memory_high", unit: "MemoryHigh", attribute: "memory.high" };
const MEMORY_MAX: Property = Property { key: "memory_max", unit: "MemoryMax", attribute: "memory.max" };
const MEMORY_SWAP_MAX: Property =
    Property { key: "memory_swap_max", unit: "MemorySwapMax", attribute: "memory.swap.max" };
const TASKS_MAX: Property = Property { key: "tasks_max", unit: "TasksMax", attribute: "pids.max" };

/// Everything that [`Resources`] can set.
pub const PROPERTIES: [Property; 8] =
    [CPU_WEIGHT, IO_WEIGHT, MEMORY_MIN, MEMORY_LOW, MEMORY_HIGH, MEMORY_MAX, MEMORY_SWAP_MAX, TASKS_MAX];

/// The setting of a unit file, and PID 1's property, that says which slice a service is in: `Slice=`
pub const SLICE: &str = "Slice";
/// The same of the OOM score that a service's processes are started with: `OOMScoreAdjust=`
pub const OOM_SCORE_ADJUST: &str = "OOMScoreAdjust";

impl Property {
    /// What the kernel has where nothing is set; [`u64::MAX`] is no limit.
    #[must_use]
    pub fn unset(self) -> u64 {
        match self {
            CPU_WEIGHT | IO_WEIGHT => Weight::DEFAULT.get(),
            MEMORY_MIN | MEMORY_LOW => 0,
            _ => u64::MAX,
        }
    }

    /// A number that PID 1 or the kernel has of it: an idle weight is 0, [`u64::MAX`] no limit. `None` for a
    /// number that is no weight.
    #[must_use]
    pub fn value(self, number: u64) -> Option<SettingValue> {
        let amount = if number == u64::MAX { Amount::Infinity } else { Amount::Absolute(number) };
        Some(match self {
            CPU_WEIGHT if number == 0 => SettingValue::Cpu(CpuWeight::Idle),
            CPU_WEIGHT => SettingValue::Cpu(CpuWeight::Weight(Weight::new(number)?)),
            IO_WEIGHT => SettingValue::Io(Weight::new(number)?),
            TASKS_MAX => SettingValue::Tasks(Tasks(amount)),
            _ => SettingValue::Memory(Memory(amount)),
        })
    }
}

impl Resources {
    /// What is declared, in the order of the manual page.
    pub fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        fn setting<T: Copy>(
            property: Property,
            declared: &Declared<T>,
            value: fn(T) -> SettingValue,
        ) -> Option<Setting<'_>> {
            declared.as_ref().map(|d| Setting { property, value: value(d.value), origin: &d.origin })
        }
        [
            setting(CPU_WEIGHT, &self.cpu_weight, SettingValue::Cpu),
            setting(IO_WEIGHT, &self.io_weight, SettingValue::Io),
            setting(MEMORY_MIN, &self.memory_min, SettingValue::Memory),
            setting(MEMORY_LOW, &self.memory_low, SettingValue::Memory),
            setting(MEMORY_HIGH, &self.memory_high, SettingValue::Memory),
            setting(MEMORY_MAX, &self.memory_max, SettingValue::Memory),
            setting(MEMORY_SWAP_MAX, &self.memory_swap_max, SettingValue::Memory),
            setting(TASKS_MAX, &self.tasks_max, SettingValue::Tasks),
        ]
        .into_iter()
        .flatten()
    }

    /// These settings, and `fallback`'s where these say nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        fn or<T: Clone>(first: &Declared<T>, second: &Declared<T>) -> Declared<T> {
            first.as_ref().or(second.as_ref()).cloned()
        }
        Self {
            cpu_weight: or(&self.cpu_weight, &fallback.cpu_weight),
            io_weight: or(&self.io_weight, &fallback.io_weight),
            memory_min: or(&self.memory_min, &fallback.memory_min),
            memory_low: or(&self.memory_low, &fallback.memory_low),
            memory_high: or(&self.memory_high, &fallback.memory_high),
            memory_max: or(&self.memory_max, &fallback.memory_max),
            memory_swap_max: or(&self.memory_swap_max, &fallback.memory_swap_max),
            tasks_max: or(&self.tasks_max, &fallback.tasks_max),
        }
    }
}

impl Slice {
    fn overlay(&mut self, later: Self) {
        if !later.matches.is_empty() {
            self.matches = later.matches;
        }
        self.cpu_floor = later.cpu_floor.or_else(|| self.cpu_floor.take());
        self.resources = later.resources.or(&self.resources);
    }
}

impl Service {
    /// This rule, and `fallback`'s values where it says nothing.
    #[must_use]
    fn or(&self, fallback: &Self) -> Self {
        Self {
            oom_score_adj: self.oom_score_adj.clone().or_else(|| fallback.oom_score_adj.clone()),
            set_by: self.set_by.clone().or_else(|| fallback.set_by.clone()),
            resources: self.resources.or(&fallback.resources),
        }
    }

    /// The score that fairslice sets; `None` also where the service does it itself.
    #[must_use]
    pub fn score_to_set(&self) -> Option<OomScoreAdj> {
        let ours = self.set_by.as_ref().is_none_or(|set_by| set_by.value == SetBy::Fairslice);
        self.oom_score_adj.as_ref().filter(|_| ours).map(|score| score.value)
    }
}

impl LoginRule {
    /// Where the first of its values is declared; `None` for a rule without any.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        let score = self.oom_score_adj.as_ref().map(|score| &score.origin);
        self.resources.settings().map(|setting| setting.origin).chain(score).min_by_key(|o| o.line)
    }

    /// This rule, and `fallback`'s values where it says nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            resources: self.resources.or(&fallback.resources),
            oom_score_adj: self.oom_score_adj.clone().or_else(|| fallback.oom_score_adj.clone()),
        }
    }
}

impl PrivateDir {
    /// The first number of a person's account, `UID_MIN` of `login.defs(5)` on Debian.
    pub const MIN_UID: u32 = 1000;
    /// `nobody`, for whom no one logs in.
    pub const NOBODY: u32 = 65534;

    /// Why a user gets no directory; `None` for one who does. Root and `nobody` never do.
    ///
    /// # Errors
    /// Whether the user is in a group cannot be told.
    pub fn excludes<E>(
        &self,
        user: Option<&str>,
        uid: u32,
        mut is_in: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<Option<String>, E> {
        let lowest = self.min_uid.as_ref().map_or(Self::MIN_UID, |min_uid| min_uid.value);
        if uid == 0 || uid == Self::NOBODY {
            return Ok(Some("root and nobody have none".to_owned()));
        }
        if uid < lowest {
            return Ok(Some(format!("uid {uid} is below min_uid = {lowest}")));
        }
        if (self.users.is_empty() && self.groups.is_empty())
            || self.users.iter().any(|u| Some(u.value.as_str()) == user)
        {
            return Ok(None);
        }
        for group in &self.groups {
            if is_in(&group.value)? {
                return Ok(None);
            }
        }
        Ok(Some("neither among users nor in one of groups".to_owned()))
    }

    /// The mode of a directory that is made.
    #[must_use]
    pub fn mode(&self) -> DirMode {
        self.mode.as_ref().map_or(DirMode::PRIVATE, |mode| mode.value)
    }
}

/// Which rule a user gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOf<'a> {
    /// `[logins.user.NAME]`
    User(&'a str),
    /// `[logins.group.NAME]`
    Group(&'a str),
    /// `[logins]`
    Everybody,
}

impl fmt::Display for RuleOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "[logins.user.{name}]"),
            Self::Group(name) => write!(f, "[logins.group.{name}]"),
            Self::Everybody => f.write_str("[logins]"),
        }
    }
}

impl Logins {
    /// Whether `user.slice` weighs what the users who are logged in weigh together.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.total_weight.as_ref().is_some_and(|total| total.value == TotalWeight::Sum)
    }

    /// Which rule a user gets, and what it comes to: the user's own, else the first group's in file
    /// order, and the defaults for what that leaves out. A number that no user has gets the defaults.
    ///
    /// # Errors
    /// Whether the user is in a group cannot be told.
    pub fn rule<E>(
        &self,
        user: Option<&str>,
        mut is_in: impl FnMut(&str) -> Result<bool, E>,
    ) -> Result<(RuleOf<'_>, LoginRule), E> {
        let Some(user) = user else { return Ok((RuleOf::Everybody, self.default.clone())) };
        if let Some((name, rule)) = self.users.iter().find(|(name, _)| name == user) {
            return Ok((RuleOf::User(name), rule.or(&self.default)));
        }
        for (name, rule) in &self.groups {
            if is_in(name)? {
                return Ok((RuleOf::Group(name), rule.or(&self.default)));
            }
        }
        Ok((RuleOf::Everybody, self.default.clone()))
    }

    fn overlay(&mut self, later: Self) {
        self.default = later.default.or(&self.default);
        self.total_weight = later.total_weight.or_else(|| self.total_weight.take());
        overlay_rules(&mut self.users, later.users);
        overlay_rules(&mut self.groups, later.groups);
    }
}

/// A rule that a later file repeats keeps its place.
fn overlay_rules(rules: &mut Vec<(String, LoginRule)>, later: Vec<(String, LoginRule)>) {
    let known = rules.iter().enumerate().map(|(place, (name, _))| (name.clone(), place));
    let places: BTreeMap<String, usize> = known.collect();
    for (name, rule) in later {
        match places.get(&name).and_then(|place| rules.get_mut(*place)) {
            Some((_, known)) => *known = rule.or(known),
            None => rules.push((name, rule)),
        }
    }
}

impl Policy {
    /// Whether nothing is declared at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { slices, services, logins, private_dirs } = self;
        slices.is_empty()
            && services.is_empty()
            && private_dirs.is_empty()
            && logins.users.is_empty()
            && logins.groups.is_empty()
            && logins.total_weight.is_none()
            && logins.default.oom_score_adj.is_none()
            && logins.default.resources.settings().next().is_none()
    }

    /// The slice that holds `service`.
    #[must_use]
    pub fn slice_of(&self, service: &ServiceName) -> Option<&SliceName> {
        self.holding(service).map(|(slice, _)| slice)
    }

    /// The slice that holds `service`, and where the pattern stands by which it does.
    #[must_use]
    pub fn holding(&self, service: &ServiceName) -> Option<(&SliceName, &Origin)> {
        self.slices.iter().find_map(|(name, slice)| {
            let pattern = slice.matches.iter().find(|pattern| pattern.value.matches(service))?;
            Some((name, &pattern.origin))
        })
    }

    /// Whether anything is declared for `service`: by its name or its template's, or by a slice that holds it.
    #[must_use]
    pub fn concerns(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
            || service.template().is_some_and(|template| self.services.contains_key(&template))
            || self.slice_of(service).is_some()
    }

    /// The rule for `service`: its own, and for an instance its template's where that says nothing.
    #[must_use]
    pub fn service(&self, service: &ServiceName) -> Service {
        let own = self.services.get(service);
        let template = service.template().and_then(|template| self.services.get(&template));
        match (own, template) {
            (Some(own), Some(template)) => own.or(template),
            (rule, other) => rule.or(other).cloned().unwrap_or_default(),
        }
    }

    /// Puts a later file's declarations over these, value by value.
    fn overlay(&mut self, later: Self) {
        for (name, slice) in later.slices {
            self.slices.entry(name).or_default().overlay(slice);
        }
        for (name, service) in later.services {
            let known = self.services.entry(name).or_default();
            *known = service.or(known);
        }
        self.logins.overlay(later.logins);
        self.private_dirs.extend(later.private_dirs);
    }
}
