//! Who is killed when memory runs out: by the kernel, and by systemd after it; by daemons: [`daemons`].
//!
//! The kernel's choice is that of `oom_badness`, `oom_evaluate_task` and `mem_cgroup_get_oom_group` in
//! its `mm/oom_kill.c` and `mm/memcontrol.c`; what goes with it, that of `OOMPolicy=` in
//! `systemd.service(5)`.
#![forbid(unsafe_code)]

pub mod daemons;
mod scores;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::restart::outlives_stop;
use crate::host::cgroup;
use crate::host::machine::page;
use crate::host::processes::Process;
use crate::host::tree::{Id, MemoryAttributes, Tree};
use crate::host::units::Units;
use crate::policy::Policy;
use crate::units::{OOM_SCORE_ADJUST, OomScoreAdj, ServiceName};

pub use scores::keeping_order;

/// `OOM_SCORE_ADJ_MIN`: never killed.
pub const NEVER: i16 = -1000;

/// What the order of kills is computed from.
#[derive(Debug, Clone, Copy)]
pub struct KillScene<'a> {
    /// With the memory of every cgroup read.
    pub tree: &'a Tree,
    /// PID 1's.
    pub units: &'a Units,
    /// All, in the order of their numbers.
    pub processes: &'a [Process],
    /// Bytes.
    pub ram: u64,
    /// Bytes.
    pub swap: u64,
}

/// Where memory runs out: who is in there can be killed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Domain {
    /// The cgroup whose limit it is; [`Tree::ROOT`] for the machine.
    pub of: Id,
    /// What there is, RAM and swap: what scores are in thousandths of.
    pub total: u64,
}

/// What can still be used, in bytes.
pub struct Free<'a> {
    /// RAM, with what reclaim gives back: `MemAvailable`.
    pub ram: u64,
    /// Swap: `SwapFree`.
    pub swap: u64,
    /// How much of what a cgroup uses reclaim gives back without swap: its page cache.
    pub cache: &'a dyn Fn(Id) -> u64,
}

/// What the kernel makes of a process; who has the most is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Badness {
    /// Resident and swapped out memory and page tables, in bytes.
    pub memory: u64,
    /// `oom_score_adj`
    pub adj: i16,
    /// [`Domain::total`]
    pub total: u64,
}

/// One of the next to be killed.
#[derive(Debug, Clone, Copy)]
pub struct Victim<'a> {
    /// Who.
    pub process: &'a Process,
    /// Why.
    pub badness: Badness,
    /// What ends with it.
    pub takes: KilledWith<'a>,
}

/// What ends when a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KilledWith<'a> {
    /// The process alone.
    Itself,
    /// Every process in this cgroup: `memory.oom.group`.
    Cgroup {
        /// The outermost one that has it set.
        id: Id,
        /// How many there are, the victim included.
        processes: usize,
    },
    /// The unit, which systemd stops: `OOMPolicy=stop`.
    Unit {
        /// The unit.
        name: &'a str,
        /// How many processes it has, the victim included.
        processes: usize,
    },
}

/// Why a process is never killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spared<'a> {
    /// It is PID 1.
    Init,
    /// By its score of -1000.
    Score(ScoreSource<'a>),
}

/// How a process got its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreSource<'a> {
    /// The unit says so: `OOMScoreAdjust=`.
    Unit(&'a str),
    /// From the processes that it was started by.
    Inherited {
        /// The first of them that had it.
        from: &'a Process,
        /// The unit of that one, if it says so.
        unit: Option<&'a str>,
    },
    /// It, or another process for it, wrote the score; or who started it is gone.
    Written,
}

/// A service whose score the policy declares, with its process that the kernel would kill first.
#[derive(Debug, Clone)]
pub struct Ranked<'a> {
    /// The service.
    pub service: ServiceName,
    /// As declared, and as the process has it.
    pub declared: OomScoreAdj,
    /// Of those that have the declared score, the first to be killed.
    pub process: &'a Process,
    /// Why.
    pub badness: Badness,
}

impl Domain {
    /// The whole machine.
    #[must_use]
    pub fn machine(scene: &KillScene<'_>) -> Self {
        Self { of: Tree::ROOT, total: scene.ram.saturating_add(scene.swap) }
    }

    /// Where memory runs out first if this cgroup uses more and more: at its own `memory.max`, at an
    /// ancestor's, which may be the larger and nearly used up, or at what the machine has. The amount is that of
    /// `mem_cgroup_get_max`.
    #[must_use]
    pub fn of(scene: &KillScene<'_>, id: Id, free: &Free<'_>) -> Self {
        let limits = scene.tree.upwards(id).filter_map(|of| {
            let memory = scene.tree[of].memory.as_ref().filter(|memory| memory.max != u64::MAX)?;
            Some((free.below(scene.tree, of, memory), of, memory))
        });
        // Of equals the kernel comes to the innermost first.
        let first = limits.min_by_key(|(left, ..)| *left);
        match first.filter(|(left, ..)| *left <= free.ram.saturating_add(free.swap)) {
            None => Self::machine(scene),
            Some((_, of, memory)) => {
                Self { of, total: memory.max.saturating_add(memory.swap_limit().min(scene.swap)) }
            }
        }
    }

    /// Those of all processes that are in it.
    fn holds<'p>(&self, scene: &KillScene<'p>) -> impl Iterator<Item = &'p Process> + use<'p> {
        let path = scene.tree.path(self.of);
        scene.processes.iter().filter(move |process| process.cgroup.starts_with(&path))
    }
}

impl Free<'_> {
    /// How much more all in a cgroup can use until its `memory.max` is met and nothing can be reclaimed.
    fn below(&self, tree: &Tree, id: Id, memory: &MemoryAttributes) -> u64 {
        let used = memory.current.saturating_sub((self.cache)(id));
        let swap = tree.upwards(id).filter_map(|above| tree[above].memory.as_ref());
        let swap = swap.map(|memory| memory.swap_limit().saturating_sub(memory.swap_current));
        memory.max.saturating_sub(used).saturating_add(swap.fold(self.swap, u64::min))
    }
}

impl Badness {
    fn of(process: &Process, total: u64) -> Self {
        let memory = process.resident.saturating_add(process.swapped).saturating_add(process.page_tables);
        Self { memory, adj: process.oom_score_adj, total }
    }

    /// The memory, in thousandths of what there is.
    #[must_use]
    pub fn permille(self) -> u64 {
        u64::try_from(u128::from(self.memory) * 1000 / u128::from(self.total.max(1))).unwrap_or(u64::MAX)
    }

    /// What is compared: pages, with a thousandth of all pages for each point of the score.
    #[must_use]
    pub fn points(self) -> i64 {
        let pages = |bytes: u64| i64::try_from(bytes / page()).unwrap_or(i64::MAX);
        pages(self.memory).saturating_add((pages(self.total) / 1000).saturating_mul(self.adj.into()))
    }

    /// The same in thousandths of what there is, -999 to 2000.
    #[must_use]
    pub fn score(self) -> i64 {
        let pages = i64::try_from((self.total / page()).max(1)).unwrap_or(i64::MAX);
        self.points().saturating_mul(1000) / pages
    }
}

/// The processes that can be killed, in the order in which they would be, without those that an earlier
/// one takes with it.
#[must_use]
pub fn victims<'a>(scene: &KillScene<'a>, domain: Domain) -> Vec<Victim<'a>> {
    let mut order: Vec<&Process> = domain.holds(scene).filter(|process| can_be_killed(process)).collect();
    // Of equals the kernel takes the one that it comes to last: the youngest.
    order.sort_by_key(|p| Reverse((Badness::of(p, domain.total).points(), p.started, p.pid)));
    let members =
        Members { by_unit: by_unit(scene.processes), by_group: by_group(scene.tree, domain, &order) };
    let (mut found, mut gone) = (Vec::new(), HashSet::new());
    for process in order {
        if gone.contains(&process.pid) {
            continue;
        }
        let (takes, ended) = takes(scene, domain, process, &members);
        gone.extend(ended);
        found.push(Victim { process, badness: Badness::of(process, domain.total), takes });
    }
    found
}

fn can_be_killed(process: &Process) -> bool {
    process.pid != 1 && !process.is_kernel && process.oom_score_adj != NEVER && process.resident > 0
}

fn by_unit(processes: &[Process]) -> HashMap<&str, Vec<&Process>> {
    let mut all: HashMap<&str, Vec<&Process>> = HashMap::new();
    for process in processes {
        if let Some(unit) = cgroup::unit(&process.cgroup) {
            all.entry(unit).or_default().push(process);
        }
    }
    all
}

/// Whose processes are killed together with one of them.
struct Members<'a> {
    by_unit: HashMap<&'a str, Vec<&'a Process>>,
    by_group: HashMap<Id, Vec<u32>>,
}

/// What can be killed, by the outermost cgroup with `memory.oom.group`.
fn by_group(tree: &Tree, domain: Domain, processes: &[&Process]) -> HashMap<Id, Vec<u32>> {
    let mut all: HashMap<Id, Vec<u32>> = HashMap::new();
    for process in processes {
        if let Some(id) = oom_group(tree, domain, process) {
            all.entry(id).or_default().push(process.pid);
        }
    }
    all
}

/// What ends with a process, and the numbers of those processes.
fn takes<'a>(
    scene: &KillScene<'a>,
    domain: Domain,
    victim: &'a Process,
    members: &Members<'_>,
) -> (KilledWith<'a>, Vec<u32>) {
    let name = cgroup::unit(&victim.cgroup).unwrap_or_default();
    let unit = scene.units.get(name);
    let main = unit.and_then(|unit| unit.number("MainPID")?.try_into().ok());
    let kill_mode = unit.and_then(|unit| unit.text("KillMode")).unwrap_or_default();
    let stopped: Vec<u32> = match unit.and_then(|unit| unit.text("OOMPolicy")) {
        Some("stop" | "kill") => {
            let members = members.by_unit.get(name).into_iter().flatten().map(|process| process.pid);
            members.filter(|pid| *pid == victim.pid || !outlives_stop(kill_mode, main, *pid)).collect()
        }
        _ => Vec::new(),
    };
    let Some(id) = oom_group(scene.tree, domain, victim) else {
        return if stopped.len() > 1 {
            (KilledWith::Unit { name, processes: stopped.len() }, stopped)
        } else {
            (KilledWith::Itself, stopped)
        };
    };
    let mut ended = members.by_group.get(&id).cloned().unwrap_or_default();
    let takes = KilledWith::Cgroup { id, processes: ended.len() };
    ended.extend(stopped);
    (takes, ended)
}

/// The outermost cgroup with `memory.oom.group`, up to where memory has run out.
fn oom_group(tree: &Tree, domain: Domain, victim: &Process) -> Option<Id> {
    let own = tree.nearest(&victim.cgroup);
    let outside = tree[domain.of].parent;
    let inside = tree.upwards(own).take_while(|id| Some(*id) != outside);
    inside.filter(|id| tree[*id].memory.is_some_and(|memory| memory.oom_group)).last()
}

/// The processes that are never killed, and why. The kernel's own threads are not among them.
#[must_use]
pub fn spared<'a>(scene: &KillScene<'a>, domain: Domain) -> Vec<(&'a Process, Spared<'a>)> {
    let inside = domain.holds(scene).filter(|process| !process.is_kernel);
    let spared = inside.filter_map(|process| match process {
        Process { pid: 1, .. } => Some((process, Spared::Init)),
        Process { oom_score_adj: NEVER, .. } => Some((process, Spared::Score(source(scene, process)))),
        _ => None,
    });
    spared.collect()
}

/// How a process got its score.
#[must_use]
pub fn source<'a>(scene: &KillScene<'a>, process: &'a Process) -> ScoreSource<'a> {
    if let Some(unit) = said_by_unit(scene, process) {
        return ScoreSource::Unit(unit);
    }
    let parent = |process: &&'a Process| {
        let at = scene.processes.binary_search_by_key(&process.parent, |other| other.pid).ok()?;
        scene
            .processes
            .get(at)
            .filter(|parent| parent.pid != 1 && parent.oom_score_adj == process.oom_score_adj)
    };
    // A tree read while it changes may have a loop in it.
    let first = std::iter::successors(Some(process), parent).take(scene.processes.len()).last();
    match first.filter(|from| from.pid != process.pid) {
        Some(from) => ScoreSource::Inherited { from, unit: said_by_unit(scene, from) },
        None => ScoreSource::Written,
    }
}

fn said_by_unit<'a>(scene: &KillScene<'_>, process: &'a Process) -> Option<&'a str> {
    let name = cgroup::unit(&process.cgroup)?;
    let said: i16 = scene.units.get(name)?.text(OOM_SCORE_ADJUST)?.parse().ok()?;
    (said == process.oom_score_adj).then_some(name)
}

/// The running services whose score the policy declares, in the order in which the kernel would kill
/// them. A service none of whose processes has the declared score is left out.
#[must_use]
pub fn ranked<'a>(scene: &KillScene<'a>, domain: Domain, policy: &Policy) -> Vec<Ranked<'a>> {
    let mut found: BTreeMap<ServiceName, Ranked<'a>> = BTreeMap::new();
    let inside = domain.holds(scene).filter(|process| can_be_killed(process));
    for process in inside {
        let Some(service) = service(policy, process) else { continue };
        let Some(declared) = policy.service(&service).oom_score_adj else { continue };
        let badness = Badness::of(process, domain.total);
        let worst = found.get(&service).is_none_or(|known| known.badness.points() < badness.points());
        if worst && declared.value.get() == process.oom_score_adj {
            let ranked = Ranked { service: service.clone(), declared: declared.value, process, badness };
            found.insert(service, ranked);
        }
    }
    let mut order: Vec<Ranked<'a>> = found.into_values().collect();
    order.sort_by_key(|ranked| Reverse(ranked.badness.points()));
    order
}

/// The services that are declared to be killed before the one at this place, and come after it.
pub fn contradicted<'r, 'a>(order: &'r [Ranked<'a>], place: usize) -> impl Iterator<Item = &'r Ranked<'a>> {
    let declared = order.get(place).map(|ranked| ranked.declared);
    order.iter().skip(place + 1).filter(move |other| Some(other.declared) > declared)
}

/// The service that a process belongs to, also in a scope that the launcher asked for.
fn service(policy: &Policy, process: &Process) -> Option<ServiceName> {
    let scope = || {
        let unit = cgroup::unit(&process.cgroup)?;
        policy.services.keys().find(|service| service.has_scope(unit)).cloned()
    };
    cgroup::service(&process.cgroup).or_else(scope)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::tree::{Cgroup, Controllers};
    use crate::policy;
    use crate::text::shown;

    pub(crate) const MIB: u64 = 1 << 20;

    pub(crate) fn memory(current: u64) -> MemoryAttributes {
        MemoryAttributes { current, ..MemoryAttributes::default() }
    }

    /// Adds a cgroup, and those above it.
    pub(crate) fn add(tree: &mut Tree, path: &str, memory: MemoryAttributes) -> Id {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = match above {
            "" => Tree::ROOT,
            above => tree.find(above.as_ref()).unwrap_or_else(|| add(tree, above, self::memory(0))),
        };
        let controllers = Controllers { memory: true, ..Controllers::default() };
        tree.add(
            parent,
            name,
            Cgroup { memory: Some(memory), controllers, populated: true, ..Cgroup::default() },
        )
    }

    /// A process of PID 1's, with so many MiB.
    pub(crate) fn process(pid: u32, cgroup: &str, adj: i16, mib: u64) -> Process {
        Process {
            pid,
            parent: 1,
            uid: 0,
            name: format!("p{pid}").into(),
            cgroup: PathBuf::from(cgroup),
            is_kernel: false,
            threads: 1,
            cpus: None,
            started: pid.into(),
            oom_score_adj: adj,
            oom_score: 0,
            resident: mib * MIB,
            swapped: 0,
            page_tables: 0,
        }
    }

    pub(super) const A: &str = "x.slice/a.service";
    pub(super) const B: &str = "x.slice/b.service";

    fn order(scene: &KillScene<'_>, domain: Domain) -> Vec<(u32, i64)> {
        victims(scene, domain).iter().map(|victim| (victim.process.pid, victim.badness.score())).collect()
    }

    #[test]
    fn memory_and_score_add_up_in_thousandths_of_what_there_is() {
        let mut tree = Tree::new(Cgroup::default());
        add(&mut tree, A, memory(0));
        let limited = MemoryAttributes { max: 200 * MIB, swap_max: Some(50 * MIB), ..memory(0) };
        let limited = add(&mut tree, "y.slice", limited);
        let inside = add(&mut tree, "y.slice/c.service", memory(0));
        let mut zombie = process(9, A, 900, 0);
        zombie.oom_score = 0;
        let processes = [
            process(1, "init.scope", 0, 300),
            Process { is_kernel: true, ..process(2, "", 0, 300) },
            process(3, A, 0, 200),
            process(4, A, -1000, 500),
            process(5, "y.slice/c.service", 300, 50),
            process(6, "y.slice/c.service", -100, 100),
            // As many points as 3, and younger.
            process(7, A, 0, 200),
            zombie,
        ];
        let units = Units::default();
        let scene = KillScene { tree: &tree, units: &units, processes: &processes, ram: 1000 * MIB, swap: 0 };
        let machine = Domain::machine(&scene);
        assert_eq!(order(&scene, machine), [(5, 350), (7, 200), (3, 200), (6, 0)]);
        let free = Free { ram: 1000 * MIB, swap: 0, cache: &|_| 0 };
        assert_eq!(Domain::of(&scene, inside, &free), Domain { of: limited, total: 200 * MIB });
        // A thousandth of 51,200 pages is 51 to the kernel.
        assert_eq!(order(&scene, Domain::of(&scene, inside, &free)), [(5, 548), (6, 400)]);
        let swapping = KillScene { swap: 100 * MIB, ..scene };
        assert_eq!(Domain::of(&swapping, limited, &free).total, 250 * MIB);
        let never: Vec<u32> = spared(&scene, machine).iter().map(|(process, _)| process.pid).collect();
        assert_eq!(never, [1, 4]);
    }

    #[test]
    fn memory_runs_out_where_least_is_left() {
        let units = Units::default();
        let limited = |current: u64, max: u64| MemoryAttributes { max: max * MIB, ..memory(current * MIB) };
        let domain = |outer: MemoryAttributes, inner: MemoryAttributes, ram: u64, swap: u64, cache: u64| {
            let mut tree = Tree::new(Cgroup::default());
            let above = add(&mut tree, "y.slice", outer);
            let own = add(&mut tree, "y.slice/c.service", inner);
            let scene =
                KillScene { tree: &tree, units: &units, processes: &[], ram: 2048 * MIB, swap: swap * MIB };
            let cached = |id| if id == above { cache * MIB } else { 0 };
            let free = Free { ram: ram * MIB, swap: swap * MIB, cache: &cached };
            let found = Domain::of(&scene, own, &free);
            (shown(&tree.name(found.of)).to_string(), found.total / MIB)
        };
        let none = memory(0);
        let is = |name: &str, total| (name.to_owned(), total);
        // A limit that the machine cannot reach.
        assert_eq!(domain(none, limited(100, 64 << 10), 1500, 0, 0), is("-.slice", 2048));
        assert_eq!(domain(none, limited(0, 1600), 1500, 200, 0), is("-.slice", 2248));
        assert_eq!(domain(none, limited(0, 1600), 1700, 0, 0), is("c.service", 1600));
        // The tighter one has more left.
        assert_eq!(domain(limited(900, 1000), limited(10, 200), 1500, 0, 0), is("y.slice", 1000));
        assert_eq!(domain(limited(900, 1000), limited(150, 200), 1500, 0, 0), is("c.service", 200));
        // Page cache is no use to hold on to.
        assert_eq!(domain(limited(900, 1000), limited(10, 200), 1500, 0, 500), is("c.service", 200));
        // Swap that only one of them may use.
        let swapless = MemoryAttributes { swap_max: Some(0), ..limited(0, 300) };
        assert_eq!(domain(limited(0, 250), swapless, 1500, 100, 0), is("c.service", 300));
        // Of equals the innermost.
        assert_eq!(domain(limited(0, 200), limited(0, 200), 1500, 0, 0), is("c.service", 200));
    }

    #[test]
    fn a_group_goes_with_its_first() {
        let mut tree = Tree::new(Cgroup::default());
        let group = MemoryAttributes { oom_group: true, ..memory(0) };
        let outer = add(&mut tree, A, group);
        add(&mut tree, "x.slice/a.service/inner", group);
        add(&mut tree, B, memory(0));
        let processes = [
            process(3, A, 0, 10),
            process(4, "x.slice/a.service/inner", 0, 100),
            process(5, A, -1000, 10),
            process(6, B, 0, 50),
            process(7, B, 0, 20),
            process(8, "x.slice/c.service", 0, 15),
            process(9, "x.slice/c.service", 0, 14),
        ];
        let units = Units::parse(
            "Id=b.service\nOOMPolicy=stop\nKillMode=control-group\n\nId=c.service\nOOMPolicy=continue\n",
        );
        let scene = KillScene { tree: &tree, units: &units, processes: &processes, ram: 1000 * MIB, swap: 0 };
        let taken: Vec<_> =
            victims(&scene, Domain::machine(&scene)).iter().map(|v| (v.process.pid, v.takes)).collect();
        let expected = [
            (4, KilledWith::Cgroup { id: outer, processes: 2 }),
            (6, KilledWith::Unit { name: "b.service", processes: 2 }),
            (8, KilledWith::Itself),
            (9, KilledWith::Itself),
        ];
        assert_eq!(taken, expected);
        // The group reaches up to where memory runs out, and no further.
        let inner = tree.find("x.slice/a.service/inner".as_ref()).unwrap();
        let domain = Domain { of: inner, total: 200 * MIB };
        let victim = victims(&scene, domain);
        assert_eq!(victim.first().unwrap().takes, KilledWith::Cgroup { id: inner, processes: 1 });
    }

    #[test]
    fn a_score_is_the_units_or_the_parents_or_its_own() {
        let tree = Tree::new(Cgroup::default());
        let units = Units::parse("Id=a.service\nOOMScoreAdjust=-1000\n\nId=b.service\nOOMScoreAdjust=0\n");
        let session = "user.slice/user-7.slice/session-1.scope";
        let processes = [
            process(3, A, -1000, 1),
            process(4, B, -1000, 1),
            Process { parent: 4, ..process(5, session, -1000, 1) },
            Process { parent: 5, ..process(6, session, -1000, 1) },
            Process { parent: 3, ..process(7, session, -1000, 1) },
        ];
        let scene = KillScene { tree: &tree, units: &units, processes: &processes, ram: MIB, swap: 0 };
        let [unit, written, child, grandchild, of_unit] = &processes;
        assert_eq!(source(&scene, unit), ScoreSource::Unit("a.service"));
        assert_eq!(source(&scene, written), ScoreSource::Written);
        assert_eq!(source(&scene, child), ScoreSource::Inherited { from: written, unit: None });
        assert_eq!(source(&scene, grandchild), ScoreSource::Inherited { from: written, unit: None });
        assert_eq!(source(&scene, of_unit), ScoreSource::Inherited { from: unit, unit: Some("a.service") });
    }

    #[test]
    fn the_declared_order_is_held_against_the_kernels() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.toml");
        std::fs::write(&file, "[service.a]\noom_score_adj = -100\n[service.b]\noom_score_adj = 50\n")
            .unwrap();
        let policy = policy::load_files(&[file]).policy;
        let tree = Tree::new(Cgroup::default());
        let units = Units::default();
        let scene = |processes: &[Process]| {
            let scene = KillScene { tree: &tree, units: &units, processes, ram: 1000 * MIB, swap: 0 };
            let order = ranked(&scene, Domain::machine(&scene), &policy);
            let names: Vec<String> = order.iter().map(|ranked| ranked.service.to_string()).collect();
            (names, contradicted(&order, 0).count())
        };
        let scope = "x.slice/a-4.scope";
        assert_eq!(scene(&[process(3, B, 50, 10), process(4, scope, -100, 100)]).1, 0);
        let (names, late) = scene(&[process(3, B, 50, 10), process(4, scope, -100, 200)]);
        assert_eq!((names, late), (vec!["a.service".to_owned(), "b.service".to_owned()], 1));
        // A score that is not the declared one is another matter.
        assert_eq!(scene(&[process(3, B, 50, 10), process(4, scope, 900, 200)]).0, ["b.service"]);
    }
}
