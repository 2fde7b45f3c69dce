//! Where services run: the slice that they were started in, what earlier starts have left, and processes
//! that were moved.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::cost;
use crate::doctor::chain::{Chain, Link, Override, Scene, Stage};
use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::effect::restart::{Kept, is_by_hand};
use crate::host::cgroup;
use crate::host::processes::Process;
use crate::host::units::Unit;
use crate::paths;
use crate::survey::RunningService;
use crate::text::{and_more, quoted, shown};
use crate::units::{SLICE, ServiceName, SliceName, cgroup_name};

/// So many processes are named.
const MOST_NAMED: usize = 3;

/// The slice of each service that one of the policy's holds.
#[must_use]
pub fn declared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for name in scene.live.services_of(scene.policy) {
        let Some((slice, origin)) = scene.policy.holding(name) else { continue };
        let mut chain = Chain::new(name.as_str(), "slice");
        chain.declare(slice.to_string(), Some(origin));
        scene.add_drop_in(&mut chain, SLICE, slice.as_str());
        if let Some(unit) = scene.loaded(name.as_str()) {
            add_property(scene, &mut chain, unit, slice);
            add_live(scene, &mut chain, unit, name, Some(slice));
        }
        chains.push(chain);
    }
    chains
}

/// Every other service: whether it is in the slice that PID 1 has for it.
#[must_use]
pub fn undeclared(scene: &Scene<'_>) -> Vec<Chain> {
    let mut chains = Vec::new();
    for (name, unit) in scene.units.iter().filter(|(_, unit)| unit.is_active()) {
        let Some(service) = ServiceName::new(name).ok().filter(|service| service.as_str() == name) else {
            continue;
        };
        let Some(slice) = unit.text(SLICE) else { continue };
        // The launcher had it put into the policy's slice, whatever PID 1's is.
        let main = scene.main_process(&service);
        if main.and_then(|main| cgroup::unit(&main.cgroup)).is_some_and(|scope| service.has_scope(scope)) {
            continue;
        }
        let mut chain = Chain::new(name, "slice");
        let at = scene.place_of(name, SLICE);
        chain.links.push(Link { stage: Stage::Property, value: Some(slice.to_owned()), at, holds: true });
        add_live(scene, &mut chain, unit, &service, SliceName::new(slice).ok().as_ref());
        chains.push(chain);
    }
    chains
}

fn add_property(scene: &Scene<'_>, chain: &mut Chain, unit: &Unit, slice: &SliceName) {
    let value = unit.text(SLICE).map(str::to_owned);
    let holds = value.as_deref() == Some(slice.as_str());
    let at = scene.place_of(&chain.unit, SLICE);
    chain.add(Link { stage: Stage::Property, value: value.clone(), at, holds }, |chain| {
        let Override { code, cause, at, fix } = scene.overridden(&chain.unit, SLICE);
        let value = value.unwrap_or_default();
        let what = match code {
            Code::DropInMissing => format!("slice {slice} has not reached PID 1"),
            _ => format!("slice {slice} is overridden by {value}"),
        };
        let cost = ServiceName::new(&chain.unit).ok().and_then(|service| {
            let is = scene.cgroup_of(&service)?;
            Some(cost_of(scene, &value, is, &slice.cgroup_of(&chain.unit)))
        });
        Finding { code, subject: chain.unit.clone().into(), what, cost, cause, at, fix }
    });
}

/// The slice that PID 1 has a service in, if it does not run there, and what brings it there: until then PID 1 enables
/// controllers for it in that slice alone.
#[must_use]
pub(super) fn home(scene: &Scene<'_>, name: &str) -> Option<(SliceName, Fix)> {
    let service = ServiceName::new(name).ok()?;
    let unit = scene.units.get(name)?;
    let slice = SliceName::new(unit.text(SLICE)?).ok()?;
    let cgroup = scene.cgroup_of(&service)?;
    let is_away = !is_in(cgroup, &slice);
    is_away.then(|| (slice, why_elsewhere(scene, &service, unit, cgroup).2))
}

/// Whether a service's cgroup is in this slice. In a container, PID 1 is below a cgroup of the host's.
fn is_in(cgroup: &Path, slice: &SliceName) -> bool {
    cgroup.parent().unwrap_or(Path::new("")).ends_with(slice.cgroup())
}

/// The cgroup that the unit has, and where its main process is. The root slice is `None`.
fn add_live(
    scene: &Scene<'_>,
    chain: &mut Chain,
    unit: &Unit,
    service: &ServiceName,
    slice: Option<&SliceName>,
) {
    let Some(cgroup) = scene.cgroup_of(service).filter(|_| unit.is_active()) else { return };
    let parent = cgroup.parent().unwrap_or(Path::new(""));
    let root = "-.slice";
    let value = shown(&cgroup::place(parent)).to_string();
    let holds = slice.is_none_or(|slice| is_in(cgroup, slice));
    let is_now = value.clone();
    chain.add(
        Link { stage: Stage::Cgroup, value: Some(value), at: Some(in_cgroupfs(cgroup)), holds },
        |chain| {
            let declared = slice.map_or_else(
                || PathBuf::from(&*cgroup_name(&chain.unit)),
                |slice| slice.cgroup_of(&chain.unit),
            );
            let slice = slice.map_or(root, SliceName::as_str);
            let (cause, at, fix) = why_elsewhere(scene, service, unit, cgroup);
            Finding {
                code: Code::WrongSlice,
                subject: chain.unit.clone().into(),
                what: format!("runs in {is_now}, not in {slice}"),
                cost: Some(cost_of(scene, &is_now, cgroup, &declared)),
                cause,
                at,
                fix,
            }
        },
    );
    let Some(main) = scene.main_process(service) else { return };
    // A kiosk's session, for instance: logind puts what opens one where that belongs.
    let is_a_session =
        || cgroup::user(&main.cgroup).is_some() && scene.files(&chain.unit).set("PAMName").is_some();
    let holds = main.cgroup.starts_with(cgroup) || is_a_session();
    let link = Link {
        stage: Stage::Process,
        value: Some(format!("{} in {}", main.pid, shown(&paths::absolute(&main.cgroup)))),
        at: Some(Place::of_file(Path::new("proc").join(main.pid.to_string()).join("cgroup"))),
        holds,
    };
    chain.add(link, |chain| moved(scene, chain, main, cgroup));
}

/// A restart moves a service, but not as long as it leaves a process in its cgroup.
fn why_elsewhere(
    scene: &Scene<'_>,
    service: &ServiceName,
    unit: &Unit,
    cgroup: &Path,
) -> (String, Option<Place>, Fix) {
    let (name, main) = (service.as_str(), scene.main_process(service));
    let kill_mode = unit.text("KillMode").unwrap_or_default();
    let Some(kept) = Kept::by(kill_mode, main.map(|main| main.pid), scene.within(cgroup)) else {
        let cause = "it was started before its Slice= was what it is: systemd moves no running unit";
        let at = scene.place_of(name, SLICE);
        let is_applied = scene.policy.slice_of(service).is_some() && !is_by_hand(name);
        let fix = if is_applied {
            Fix::Restart(vec![name.to_owned()])
        } else {
            Fix::Command(format!("systemctl restart {}", quoted(name)))
        };
        return (cause.to_owned(), at, fix);
    };
    let oldest = kept.oldest;
    let cause = if main.is_some_and(|main| oldest.started < main.started) {
        format!(
            "process {} ({}) of an earlier start, which KillMode={kill_mode} let live, keeps it there",
            oldest.pid,
            shown(&oldest.name)
        )
    } else {
        format!("it was started before its Slice= was what it is, and a restart does not move it: {kept}")
    };
    let at = scene.place_of(name, "KillMode");
    (cause, at, Fix::Command(kept.remedy(name, unit.is("Transient"))))
}

fn moved(scene: &Scene<'_>, chain: &Chain, main: &Process, cgroup: &Path) -> Finding {
    let (pid, name) = (main.pid, shown(&main.name));
    Finding {
        code: Code::MovedByHand,
        subject: chain.unit.clone().into(),
        what: format!("its main process {pid} ({name}) is in {}", shown(&paths::absolute(&main.cgroup))),
        cost: Some(with_share(
            scene,
            "it has the weight and the limits of that place; what it starts outlives a stop",
            &main.cgroup,
            cgroup,
        )),
        cause: format!("it was moved out of {}: not by systemd", shown(&paths::absolute(cgroup))),
        at: Some(in_cgroupfs(&main.cgroup)),
        fix: Fix::Command(format!("systemctl restart {}", quoted(&chain.unit))),
    }
}

/// Processes in a cgroup that a running service has left for another slice.
#[must_use]
pub fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let left = |service: &RunningService| {
        let of = |cgroup: &PathBuf| {
            let mut processes = scene.within(cgroup);
            processes.retain(|process| Some(process.pid) != service.main);
            (!processes.is_empty()).then(|| leftover(scene, service, cgroup, &processes))
        };
        service.left.iter().filter_map(of).collect::<Vec<_>>()
    };
    scene.live.services.iter().flat_map(left).collect()
}

fn leftover(scene: &Scene<'_>, service: &RunningService, cgroup: &Path, processes: &[&Process]) -> Finding {
    let named: Vec<String> = processes
        .iter()
        .take(MOST_NAMED)
        .map(|process| format!("{} ({})", process.pid, shown(&process.name)))
        .collect();
    let more = and_more(processes.len() - named.len());
    let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
    let known = &service.cgroup;
    Finding {
        code: Code::LeftOver,
        subject: service.name.to_string().into(),
        what: format!("{}{more} is left in {}", named.join(", "), shown(&paths::absolute(cgroup))),
        cost: Some(with_share(
            scene,
            "it has the weight and the limits of that place, and no stop of the unit ends it",
            cgroup,
            known,
        )),
        cause: format!(
            "it was moved there before a restart: PID 1 has the unit in {}",
            shown(&paths::absolute(known))
        ),
        at: Some(in_cgroupfs(cgroup)),
        fix: Fix::Command(format!("kill {}", pids.join(" "))),
    }
}

fn cost_of(scene: &Scene<'_>, slice: &str, is: &Path, declared: &Path) -> String {
    with_share(scene, &format!("it has its share and its limits from {slice}"), is, declared)
}

/// The share that it comes to first, where that differs.
fn with_share(scene: &Scene<'_>, words: &str, is: &Path, declared: &Path) -> String {
    cost::place(scene, is, declared).map_or(words.to_owned(), |share| format!("{share}; {words}"))
}

fn in_cgroupfs(cgroup: &Path) -> Place {
    Place::of_file(Path::new(paths::CGROUPFS).join(cgroup))
}
