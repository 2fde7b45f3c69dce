//! What the administrator declares: the model of a policy, and how it is looked up.
//!
//! Pure but for reading the compiled policy, which [`for_logins`] does. Every value knows the file and the
//! line that set it.
#![forbid(unsafe_code)]

mod compiled;
mod overlay;
mod pattern;
mod template;
pub mod toml;
mod value;
mod variable;
mod who;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::toml::key;
use crate::host::block_device::number_of;
use crate::text::shown;
use crate::units::{
    Bandwidth, CPU_QUOTA, CPU_WEIGHT, CpuQuota, CpuWeight, IO_READ_BANDWIDTH_MAX, IO_WEIGHT,
    IO_WRITE_BANDWIDTH_MAX, MEMORY_HIGH, MEMORY_LOW, MEMORY_MAX, MEMORY_MIN, MEMORY_SWAP_MAX,
    MEMORY_ZSWAP_MAX, Memory, OomScoreAdj, Property, ServiceName, ServiceValue, SettingValue, SliceName,
    TASKS_MAX, Tasks, Weight,
};

pub use compiled::{ForLogins, Unusable, bytes_for_logins, for_logins};
pub use pattern::ServicePattern;
pub use template::{DirectoryOwner, Filled, PathTemplate, absolute};
pub use value::{CpuFloor, DirMode, MaxAge, SetBy, TotalWeight};
pub use variable::VariableName;
pub use who::{Who, is_person, is_transient};

/// Where a value was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The policy file.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Origin {
    /// Of a policy that logins read: they have nobody to tell.
    fn unknown() -> Self {
        Self { file: Arc::from(Path::new("")), line: 0, column: 0 }
    }
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
    #[serde(skip, default = "Origin::unknown")]
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
    /// `launcher`: whether the services that it holds have the launcher before their commands.
    pub launcher: Declared<bool>,
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
    /// `launcher`; where it is not declared, what the slice says that holds the service.
    pub launcher: Declared<bool>,
    /// Weights and limits.
    pub resources: Resources,
    /// What services alone take, one of each setting at most.
    pub own: Vec<Sourced<ServiceValue>>,
}

/// `[logins]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Logins {
    /// For users whom no rule names, and for keys that a rule leaves out.
    pub default: LoginRule,
    /// `total_weight`: what `user.slice` weighs.
    pub total_weight: Declared<TotalWeight>,
    /// `sessions`: the PAM services whose sessions are put into the slices of those whom they are for, logins or not.
    pub sessions: Vec<Sourced<String>>,
    /// `total_memory_high` and the like: what else `user.slice` gets, never a CPU weight.
    pub total: Resources,
    /// `[logins.user.NAME]`
    pub users: Vec<(String, LoginRule)>,
    /// `[logins.group.NAME]`, in file order: the first that a user is in wins.
    pub groups: Vec<(String, LoginRule)>,
    /// `total_weight` of `[logins.group.NAME]`: what its members who are logged in weigh together.
    pub budgets: BTreeMap<String, Sourced<Weight>>,
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
    /// `trusted_groups`: whose members may be able to change the way to the directory.
    pub trusted_groups: Vec<Sourced<String>>,
    /// `min_uid`: the lowest user number, 1 to 4294967294; [`PrivateDir::MIN_UID`] where it is not
    /// declared.
    pub min_uid: Declared<u32>,
    /// `max_uid`: the highest user number, likewise; where it is not declared, there is none, but numbers of
    /// [`is_transient`] are left out.
    pub max_uid: Declared<u32>,
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
    /// `CPUQuota=`
    pub cpu_quota: Declared<CpuQuota>,
    /// `IOWeight=`
    pub io_weight: Declared<Weight>,
    /// `IOReadBandwidthMax=`
    pub io_read_bandwidth_max: Declared<Bandwidth>,
    /// `IOWriteBandwidthMax=`
    pub io_write_bandwidth_max: Declared<Bandwidth>,
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
    /// `MemoryZSwapMax=`
    pub memory_zswap_max: Declared<Memory>,
    /// `TasksMax=`
    pub tasks_max: Declared<Tasks>,
}

/// One declared setting of [`Resources`].
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    /// What is set.
    pub property: Property,
    /// To what.
    pub value: SettingValue,
    /// Who says so.
    pub origin: &'a Origin,
}

impl Resources {
    /// What is declared, in the order of the manual page.
    pub fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        fn setting<T: Clone>(
            property: Property,
            declared: &Declared<T>,
            value: fn(T) -> SettingValue,
        ) -> Option<Setting<'_>> {
            declared.as_ref().map(|d| Setting { property, value: value(d.value.clone()), origin: &d.origin })
        }
        [
            setting(CPU_WEIGHT, &self.cpu_weight, SettingValue::Cpu),
            setting(CPU_QUOTA, &self.cpu_quota, SettingValue::Quota),
            setting(IO_WEIGHT, &self.io_weight, SettingValue::Io),
            setting(IO_READ_BANDWIDTH_MAX, &self.io_read_bandwidth_max, SettingValue::Bandwidth),
            setting(IO_WRITE_BANDWIDTH_MAX, &self.io_write_bandwidth_max, SettingValue::Bandwidth),
            setting(MEMORY_MIN, &self.memory_min, SettingValue::Memory),
            setting(MEMORY_LOW, &self.memory_low, SettingValue::Memory),
            setting(MEMORY_HIGH, &self.memory_high, SettingValue::Memory),
            setting(MEMORY_MAX, &self.memory_max, SettingValue::Memory),
            setting(MEMORY_SWAP_MAX, &self.memory_swap_max, SettingValue::Memory),
            setting(MEMORY_ZSWAP_MAX, &self.memory_zswap_max, SettingValue::Memory),
            setting(TASKS_MAX, &self.tasks_max, SettingValue::Tasks),
        ]
        .into_iter()
        .flatten()
    }

    /// Looks up the disks that are named.
    pub fn find_disks(&mut self, root: &Path) {
        for declared in
            [&mut self.io_read_bandwidth_max, &mut self.io_write_bandwidth_max].into_iter().flatten()
        {
            let path = Path::new(&*declared.value.path);
            declared.value.device = number_of(root, path).map(Arc::from);
        }
    }

    /// These settings, and `fallback`'s where these say nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        fn or<T: Clone>(first: &Declared<T>, second: &Declared<T>) -> Declared<T> {
            first.as_ref().or(second.as_ref()).cloned()
        }
        Self {
            cpu_weight: or(&self.cpu_weight, &fallback.cpu_weight),
            cpu_quota: or(&self.cpu_quota, &fallback.cpu_quota),
            io_weight: or(&self.io_weight, &fallback.io_weight),
            io_read_bandwidth_max: or(&self.io_read_bandwidth_max, &fallback.io_read_bandwidth_max),
            io_write_bandwidth_max: or(&self.io_write_bandwidth_max, &fallback.io_write_bandwidth_max),
            memory_min: or(&self.memory_min, &fallback.memory_min),
            memory_low: or(&self.memory_low, &fallback.memory_low),
            memory_high: or(&self.memory_high, &fallback.memory_high),
            memory_max: or(&self.memory_max, &fallback.memory_max),
            memory_swap_max: or(&self.memory_swap_max, &fallback.memory_swap_max),
            memory_zswap_max: or(&self.memory_zswap_max, &fallback.memory_zswap_max),
            tasks_max: or(&self.tasks_max, &fallback.tasks_max),
        }
    }
}

impl Service {
    /// This rule, and `fallback`'s values where it says nothing.
    #[must_use]
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            oom_score_adj: self.oom_score_adj.clone().or_else(|| fallback.oom_score_adj.clone()),
            set_by: self.set_by.clone().or_else(|| fallback.set_by.clone()),
            launcher: self.launcher.clone().or_else(|| fallback.launcher.clone()),
            resources: self.resources.or(&fallback.resources),
            own: self
                .own
                .iter()
                .chain(fallback.own.iter().filter(|other| !self.has(&other.value)))
                .cloned()
                .collect(),
        }
    }

    fn has(&self, other: &ServiceValue) -> bool {
        self.own.iter().any(|own| own.value.setting() == other.setting())
    }

    /// Where the first of its values is declared; `None` for a rule without any.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        let score = self.oom_score_adj.as_ref().map(|score| &score.origin);
        let launcher = self.launcher.as_ref().map(|launcher| &launcher.origin);
        let own = self.own.iter().map(|own| &own.origin);
        let others = score.into_iter().chain(launcher).chain(own);
        self.resources.settings().map(|setting| setting.origin).chain(others).min_by_key(|o| o.line)
    }

    /// The score that fairslice sets; `None` also where the service does it itself.
    #[must_use]
    pub fn score_to_set(&self) -> Option<OomScoreAdj> {
        let ours = self.set_by.as_ref().is_none_or(|set_by| set_by.value == SetBy::Fairslice);
        self.oom_score_adj.as_ref().filter(|_| ours).map(|score| score.value)
    }
}

impl LoginRule {
    /// What a user's slice weighs; `None` where the kernel's default holds.
    #[must_use]
    pub fn cpu_weight(&self) -> Option<CpuWeight> {
        self.resources.cpu_weight.as_ref().map(|weight| weight.value)
    }

    /// Where the first of its values is declared; `None` for a rule without any.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        let score = self.oom_score_adj.as_ref().map(|score| &score.origin);
        self.resources.settings().map(|setting| setting.origin).chain(score).min_by_key(|o| o.line)
    }

    /// This rule with the part of a group's weight that each of its members gets, of so many who are logged in. At
    /// least 1, the kernel's least: more members than a group weighs outweigh it.
    #[must_use]
    fn sharing(mut self, budget: &Sourced<Weight>, members: usize) -> Self {
        let members = u64::try_from(members).unwrap_or(u64::MAX).max(1);
        let part = Weight::new((budget.value.get() / members).max(1)).unwrap_or(budget.value);
        let origin = budget.origin.clone();
        self.resources.cpu_weight = Some(Sourced { value: CpuWeight::Weight(part), origin });
        self
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
    /// Whether the user is one of those named cannot be told.
    pub fn excludes<W: Who>(&self, who: &W) -> Result<Option<String>, W::Error> {
        let uid = who.uid();
        let lowest = self.min_uid.as_ref().map_or(Self::MIN_UID, |min_uid| min_uid.value);
        if uid == 0 || uid == Self::NOBODY {
            return Ok(Some("root and nobody have none".to_owned()));
        }
        if uid < lowest {
            return Ok(Some(format!("uid {uid} is below min_uid = {lowest}")));
        }
        match &self.max_uid {
            Some(max_uid) if uid > max_uid.value => {
                return Ok(Some(format!("uid {uid} is above max_uid = {}", max_uid.value)));
            }
            None if is_transient(uid) => {
                return Ok(Some(format!("uid {uid} is a greeter's or a service's for a while (max_uid)")));
            }
            _ => {}
        }
        if self.users.is_empty() && self.groups.is_empty() {
            return Ok(None);
        }
        if self.users.iter().any(|user| Some(user.value.as_str()) == who.name()) {
            return Ok(None);
        }
        for user in &self.users {
            if who.is_called(&user.value)? {
                return Ok(None);
            }
        }
        for group in &self.groups {
            if who.is_in(&group.value)? {
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
    /// `[logins]` without its score, for a number of [`is_transient`] that no rule names: the generator gives the rest
    /// to the slices of all users.
    Transient,
}

impl fmt::Display for RuleOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "[logins.user.{}]", key(&name)),
            Self::Group(name) => write!(f, "[logins.group.{}]", key(&name)),
            Self::Everybody => f.write_str("[logins]"),
            Self::Transient => f.write_str("[logins] without its score"),
        }
    }
}

impl Logins {
    /// Whether `user.slice` weighs what the users who are logged in weigh together.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.total_weight.as_ref().is_some_and(|total| total.value == TotalWeight::Sum)
    }

    /// Whether a session that a PAM service opens for a user goes into that user's slice, login or not: it is a person's.
    #[must_use]
    pub fn takes(&self, service: &str, uid: u32) -> bool {
        is_person(uid) && self.sessions.iter().any(|taken| taken.value == service)
    }

    /// Where the first value of a rule is declared, a group's own weight among them.
    #[must_use]
    pub fn origin(&self, of: RuleOf<'_>) -> Option<&Origin> {
        fn origin<'r>(rules: &'r [(String, LoginRule)], name: &str) -> Option<&'r Origin> {
            rules.iter().find(|(known, _)| known == name)?.1.origin()
        }
        match of {
            RuleOf::User(name) => origin(&self.users, name),
            RuleOf::Group(name) => {
                let budget = self.budgets.get(name).map(|budget| &budget.origin);
                origin(&self.groups, name).into_iter().chain(budget).min_by_key(|origin| origin.line)
            }
            RuleOf::Everybody | RuleOf::Transient => self.default.origin(),
        }
    }

    /// The group whose weight a user shares, and that weight. Root shares with nobody.
    #[must_use]
    pub fn budget(&self, of: RuleOf<'_>, uid: u32) -> Option<(&str, &Sourced<Weight>)> {
        let RuleOf::Group(name) = of else { return None };
        let (name, budget) = self.budgets.get_key_value(name)?;
        (uid != 0).then_some((name, budget))
    }

    /// What a rule comes to with so many members of its group logged in, this one among them, where they share a
    /// weight.
    #[must_use]
    pub fn among(&self, of: RuleOf<'_>, uid: u32, rule: LoginRule, members: usize) -> LoginRule {
        match self.budget(of, uid) {
            Some((_, budget)) => rule.sharing(budget, members),
            None => rule,
        }
    }

    /// By number, how many of these users share a weight with one, that one among them; who shares none is left out.
    #[must_use]
    pub fn members(&self, users: &[(u32, RuleOf<'_>)]) -> BTreeMap<u32, usize> {
        let group = |(uid, of): &(u32, RuleOf<'_>)| Some((*uid, self.budget(*of, *uid)?.0));
        let shared: Vec<(u32, &str)> = users.iter().filter_map(group).collect();
        let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, group) in &shared {
            *counted.entry(group).or_default() += 1;
        }
        shared.into_iter().filter_map(|(uid, group)| Some((uid, *counted.get(group)?))).collect()
    }

    /// Which rule a user gets, and what it comes to: the user's own, else the first group's in file
    /// order, and the defaults for what that leaves out. A number that is taken for a while gets no score by them.
    ///
    /// # Errors
    /// Whether a rule is about the user cannot be told.
    pub fn rule<W: Who>(&self, who: &W) -> Result<(RuleOf<'_>, LoginRule), W::Error> {
        let (of, rule) = match self.named(who)? {
            Some(named) => named,
            None if is_transient(who.uid()) => {
                let resources = self.default.resources.clone();
                return Ok((RuleOf::Transient, LoginRule { resources, oom_score_adj: None }));
            }
            None => return Ok((RuleOf::Everybody, self.default.clone())),
        };
        Ok((of, rule.or(&self.default)))
    }

    /// The rule that names a user: by the name that NSS gives back, else by another one of theirs, else by a group.
    fn named<W: Who>(&self, who: &W) -> Result<Option<(RuleOf<'_>, &LoginRule)>, W::Error> {
        let so_called = self.users.iter().find(|(name, _)| Some(name.as_str()) == who.name());
        if let Some((name, rule)) = so_called {
            return Ok(Some((RuleOf::User(name), rule)));
        }
        for (name, rule) in &self.users {
            if who.is_called(name)? {
                return Ok(Some((RuleOf::User(name), rule)));
            }
        }
        for (name, rule) in &self.groups {
            if who.is_in(name)? {
                return Ok(Some((RuleOf::Group(name), rule)));
            }
        }
        Ok(None)
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
            && logins.budgets.is_empty()
            && logins.total_weight.is_none()
            && logins.sessions.is_empty()
            && logins.total.settings().next().is_none()
            && logins.default.oom_score_adj.is_none()
            && logins.default.resources.settings().next().is_none()
    }

    /// The weights and limits of all its tables.
    pub fn resources(&self) -> impl Iterator<Item = &Resources> {
        let Logins { default, total, users, groups, .. } = &self.logins;
        let rules = users.iter().chain(groups).map(|(_, rule)| rule).chain([default]);
        let slices = self.slices.values().map(|slice| &slice.resources);
        let services = self.services.values().map(|service| &service.resources);
        slices.chain(services).chain(rules.map(|rule| &rule.resources)).chain([total])
    }

    /// Looks up the disks that are named, below `root`.
    pub fn find_disks(&mut self, root: &Path) {
        let Logins { default, total, users, groups, .. } = &mut self.logins;
        let rules = users.iter_mut().chain(groups).map(|(_, rule)| rule).chain([default]);
        let slices = self.slices.values_mut().map(|slice| &mut slice.resources);
        let services = self.services.values_mut().map(|service| &mut service.resources);
        let all = slices.chain(services).chain(rules.map(|rule| &mut rule.resources)).chain([total]);
        all.for_each(|resources| resources.find_disks(root));
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

    /// Whether `service` has the launcher before its commands, and where that is declared: its own table says so, or
    /// its template's, or the slice that holds it. `None` where nobody does.
    #[must_use]
    pub fn launcher(&self, service: &ServiceName) -> Declared<bool> {
        let of_slice = || self.slices.get(self.slice_of(service)?)?.launcher.clone();
        self.service(service).launcher.or_else(of_slice)
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
}
