//! Limits of a daemon that has what it starts put elsewhere: a container engine's, a hypervisor's.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::PlaceOf;
use super::finding::{Code, Finding, Fix, Place};
use super::remedy::{amount, is_vendors};
use crate::effect::memory::size;
use crate::host::processes::Process;
use crate::host::tree::{Id, MemoryAttributes, Tree};
use crate::host::units::Units;
use crate::text::and_more;
use crate::text::{quoted, shown, utf8_of};
use crate::units::TASKS_MAX;

/// How many of what is not limited are named.
const NAMED: usize = 2;

/// What starts others, and where those run.
struct Engine {
    /// Services, without the instance.
    daemons: &'static [&'static str],
    /// How the names of its cgroups begin, in its systemd driver (scopes) and without.
    payload: &'static [&'static str],
    /// A slice that can be given the limits, and how the payload gets there.
    slice: Option<&'static str>,
    how: &'static str,
}

const ENGINES: [Engine; 6] = [
    Engine {
        daemons: &["docker", "snap.docker.dockerd"],
        payload: &["docker-", "docker"],
        slice: Some("containers.slice"),
        how: "start containers with --cgroup-parent=containers.slice, or have \
              \"cgroup-parent\": \"containers.slice\" in /etc/docker/daemon.json",
    },
    Engine {
        daemons: &["containerd", "k3s", "k3s-agent"],
        payload: &["cri-containerd-", "nerdctl-", "docker-"],
        slice: Some("containers.slice"),
        how: "start containers with --cgroup-parent=containers.slice; the limits of pods are those of their \
              specification",
    },
    Engine {
        daemons: &["crio", "cri-o"],
        payload: &["crio-"],
        slice: None,
        how: "set the limits in the specification of the pods",
    },
    Engine {
        daemons: &["libvirtd", "virtqemud", "virtlxcd"],
        payload: &["machine-qemu", "machine-lxc"],
        slice: Some("machine.slice"),
        how: "all virtual machines are in machine.slice already, and one with <memtune> and <cputune> has limits of \
              its own",
    },
    Engine {
        daemons: &["lxc", "lxd", "snap.lxd.daemon", "incus"],
        payload: &["lxc.payload"],
        slice: None,
        how: "set lxc.cgroup2.memory.max and its kin in the configuration of the containers (\"lxc config set NAME \
              limits.memory\" of LXD and Incus)",
    },
    Engine {
        daemons: &["kubelet"],
        payload: &["kubepods"],
        slice: None,
        how: "reserve what pods are to leave with kubeReserved and systemReserved of the kubelet's configuration",
    },
];

/// Containers of podman's have no daemon: a service that started one has its conmon, which waits for it.
const PODMAN: Engine = Engine {
    daemons: &[],
    payload: &["libpod-"],
    slice: Some("machine.slice"),
    how: "start the container with --cgroups=split, which keeps it in the service, or with \
          --cgroup-parent=machine.slice",
};
const CONMON: &str = "conmon";

/// What can be limited.
pub(super) const LIMITS: [&str; 5] = ["MemoryMax", "MemoryHigh", "MemorySwapMax", "CPUQuota", TASKS_MAX.unit];

/// Daemons with limits that the administrator has set and that do not hold for what they start.
#[must_use]
pub fn findings(tree: &Tree, units: &Units, processes: &[Process], set_by: PlaceOf<'_>) -> Vec<Finding> {
    let scene = PayloadScene { tree, units, set_by };
    let starting = starting(tree, processes);
    let active = units.iter().filter(|(name, unit)| unit.is_active() && name.ends_with(".service"));
    let found = active.filter_map(|(name, unit)| {
        let own = tree.find(&unit.cgroup()?)?;
        let engine = ENGINES.iter().find(|engine| engine.daemons.contains(&stem(name)));
        let engine = engine.or_else(|| starting.contains(&own).then_some(&PODMAN))?;
        scene.unlimited(name, own, engine)
    });
    found.collect()
}

fn stem(service: &str) -> &str {
    let stem = service.strip_suffix(".service").unwrap_or(service);
    stem.split_once('@').map_or(stem, |(template, _)| template)
}

/// Every cgroup in which podman has started a container and put it elsewhere.
fn starting(tree: &Tree, processes: &[Process]) -> BTreeSet<Id> {
    let conmons = processes.iter().filter(|process| utf8_of(process.name.as_bytes()) == CONMON);
    let with_conmon = tree.with_ancestors(conmons.map(|process| tree.nearest(&process.cgroup)));
    let is_payload = |id: &Id| utf8_of(tree[*id].name.as_encoded_bytes()).starts_with("libpod-payload");
    let payload = tree.ids().filter(is_payload);
    let with_payload = payload.flat_map(|id| tree.upwards(id).skip(1)).collect();
    &with_conmon - &with_payload
}

struct PayloadScene<'a> {
    tree: &'a Tree,
    units: &'a Units,
    set_by: PlaceOf<'a>,
}

impl PayloadScene<'_> {
    fn is_in(&self, id: Id, of: Id) -> bool {
        self.tree.upwards(id).any(|above| above == of)
    }

    fn unlimited(&self, name: &str, own: Id, engine: &Engine) -> Option<Finding> {
        let mut limits = LIMITS.to_vec();
        limits.retain(|setting| {
            let place = (self.set_by)(name, setting);
            place.is_some_and(|at| !is_vendors(&at.file)) && self.limit(own, setting).is_some()
        });
        limits.first()?;
        let mut payload: Vec<Id> =
            self.tree.in_slices().filter(|id| self.is_payload(*id, own, engine)).collect();
        payload.retain(|id| limits.iter().any(|limit| !self.has(*id, limit)));
        limits.retain(|limit| payload.iter().any(|id| !self.has(*id, limit)));
        let setting = limits.first()?;
        let at: Option<Place> = (self.set_by)(name, setting);
        let value = |setting: &&str| Some(format!("{setting}={}", self.limit(own, setting)?));
        let values: Vec<String> = limits.iter().filter_map(value).collect();
        let (count, mut first) = (payload.len(), payload);
        let used = first.iter().filter_map(|id| self.tree[*id].memory);
        let used = used.fold(0, |sum: u64, memory| sum.saturating_add(memory.current));
        first.truncate(NAMED);
        let names: Vec<String> = first.iter().map(|id| shown(&self.tree.name(*id)).to_string()).collect();
        let place = at.as_ref().map(|at| format!("; what {at} sets holds for {} alone", quoted(name)));
        let give = engine.slice.map(|slice| format!("systemctl set-property {slice} {}; ", values.join(" ")));
        Some(Finding {
            code: Code::PayloadElsewhere,
            subject: name.into(),
            what: format!(
                "{} does not hold for {}{}",
                values.join(", "),
                names.join(", "),
                and_more(count.saturating_sub(NAMED))
            ),
            cost: Some(format!("{} in use, without that limit", size(used))),
            cause: "what it starts is put into cgroups of its own, beside the daemon's".to_owned(),
            at,
            fix: Fix::Edit(format!(
                "{}{}{}",
                give.unwrap_or_default(),
                engine.how,
                place.unwrap_or_default()
            )),
        })
    }

    /// A scope of the engine's, or a cgroup that it has made itself, outside of the daemon's own.
    fn is_payload(&self, id: Id, own: Id, engine: &Engine) -> bool {
        let name = utf8_of(self.tree[id].name.as_encoded_bytes());
        let is_named = engine.payload.iter().any(|prefix| match self.tree.unit(id) {
            Some(unit) if unit.ends_with(".scope") => prefix.contains('-') && name.starts_with(prefix),
            Some(unit) => unit.strip_suffix(".slice") == Some(*prefix),
            None => named(&name, prefix),
        });
        is_named && !name.starts_with("libpod-conmon-") && !self.is_in(id, own)
    }

    /// Whether it has such a limit of its own, or from a slice that it is in. Of tasks, every unit has one by
    /// default.
    fn has(&self, id: Id, setting: &str) -> bool {
        let is_set = |of: Id| {
            setting != TASKS_MAX.unit
                || self.tree.unit(of).is_some_and(|name| (self.set_by)(name, setting).is_some())
        };
        let mut on_the_way = self.tree.upwards(id).filter(|of| *of != Tree::ROOT);
        on_the_way.any(|of| self.limit(of, setting).is_some() && is_set(of))
    }

    /// What a cgroup is limited to, as a unit file takes it.
    fn limit(&self, id: Id, setting: &str) -> Option<String> {
        let cgroup = &self.tree[id];
        let memory = |limit: fn(&MemoryAttributes) -> u64| {
            cgroup.memory.as_ref().map(limit).filter(|limit| *limit != u64::MAX).map(amount)
        };
        match setting {
            "MemoryMax" => memory(|memory| memory.max),
            "MemoryHigh" => memory(|memory| memory.high),
            "MemorySwapMax" => memory(MemoryAttributes::swap_limit),
            "CPUQuota" => {
                let max = cgroup.cpu?.max?;
                Some(format!("{}%", max.quota.saturating_mul(100) / max.period))
            }
            _ => {
                let tasks = self.units.get(self.tree.unit(id)?)?.number(setting)?;
                (tasks != u64::MAX).then(|| tasks.to_string())
            }
        }
    }
}

/// A prefix with a dash is followed by a container's number, another is the name or followed by a dot.
fn named(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || prefix.ends_with('-') || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::kill_order::tests::{MIB, add, memory, process};
    use crate::host::tree::Cgroup;

    /// What is found of a service with `MemoryMax=300M`, beside these cgroups of 500 MiB each.
    fn found(service: &str, file: &str, others: &[&str], limited: Option<&str>) -> Vec<Finding> {
        let mut tree = Tree::new(Cgroup::default());
        let own = format!("system.slice/{service}");
        add(&mut tree, &own, MemoryAttributes { max: 300 * MIB, ..memory(10 * MIB) });
        if let Some(slice) = limited {
            add(&mut tree, slice, MemoryAttributes { max: 300 * MIB, ..memory(0) });
        }
        for path in others {
            add(&mut tree, path, memory(500 * MIB));
        }
        let units =
            Units::parse(&format!("Id={service}\nActiveState=active\nControlGroup=/{own}\nTasksMax=4915\n"));
        let processes = [process(7, &own, 0, 1), Process { name: "conmon".into(), ..process(8, &own, 0, 1) }];
        let set_by = |unit: &str, key: &str| {
            (unit == service && key == "MemoryMax").then(|| Place { file: file.into(), line: Some(4) })
        };
        let has_conmon = !ENGINES.iter().any(|engine| engine.daemons.contains(&stem(service)));
        findings(&tree, &units, if has_conmon { &processes } else { &[] }, &set_by)
    }

    const FILE: &str = "/etc/systemd/system/daemon.service.d/limits.conf";

    #[test]
    fn limits_that_do_not_hold_for_what_a_daemon_starts_are_found() {
        for (service, payload) in [
            ("docker.service", "system.slice/docker-4f1c2a9be07d.scope"),
            ("docker.service", "docker"),
            ("containerd.service", "system.slice/docker-4f1c2a9be07d.scope"),
            ("containerd.service", "kubepods.slice/cri-containerd-1f.scope"),
            ("crio.service", "kubepods.slice/kubepods-burstable.slice/crio-7.scope"),
            ("libvirtd.service", r"machine.slice/machine-qemu\x2d1\x2dvm.scope"),
            ("virtqemud.service", r"machine.slice/machine-qemu\x2d1\x2dvm.scope"),
            ("lxc@web.service", "lxc.payload.web"),
            ("snap.lxd.daemon.service", "lxc.payload.web"),
            ("kubelet.service", "kubepods.slice"),
            ("kubelet.service", "kubepods"),
            ("container-web.service", "machine.slice/libpod-77.scope"),
        ] {
            let [found] = found(service, FILE, &[payload], None).try_into().unwrap();
            let name = payload.rsplit('/').next().unwrap();
            assert_eq!((found.code, found.subject.to_string().as_str()), (Code::PayloadElsewhere, service));
            assert!(found.what.starts_with("MemoryMax=300M does not hold for "), "{}", found.what);
            assert!(found.what.ends_with(name), "{}", found.what);
            assert_eq!(found.cost.as_deref(), Some("500M in use, without that limit"));
            assert_eq!(found.at.unwrap().to_string(), format!("{FILE}:4"));
            let Fix::Edit(fix) = found.fix else { panic!("{:?}", found.fix) };
            assert!(fix.ends_with(&format!("; what {FILE}:4 sets holds for {service} alone")), "{fix}");
        }
        let three =
            ["docker-1.scope", "docker-2.scope", "docker-3.scope"].map(|name| format!("system.slice/{name}"));
        let three: Vec<&str> = three.iter().map(String::as_str).collect();
        let [found] = found("docker.service", FILE, &three, None).try_into().unwrap();
        assert_eq!(found.what, "MemoryMax=300M does not hold for docker-1.scope, docker-2.scope and 1 more");
        let Fix::Edit(fix) = found.fix else { panic!("{:?}", found.fix) };
        assert!(fix.starts_with("systemctl set-property containers.slice MemoryMax=300M; start"), "{fix}");
    }

    #[test]
    fn what_is_limited_or_in_the_service_is_not() {
        let scope = "system.slice/docker-1.scope";
        // As the fix has it.
        let moved = "containers.slice/docker-1.scope";
        assert_eq!(found("docker.service", FILE, &[moved], Some("containers.slice")), []);
        // The package's own, nothing started, another's.
        assert_eq!(found("docker.service", "/usr/lib/systemd/system/docker.service", &[scope], None), []);
        assert_eq!(found("docker.service", FILE, &[], None), []);
        assert_eq!(found("docker.service", FILE, &["system.slice/docker-proxy.service"], None), []);
        assert_eq!(found("docker.service", FILE, &["system.slice/dockerish.scope"], None), []);
        assert_eq!(found("docker.service", FILE, &["machine.slice/libpod-1.scope"], None), []);
        assert_eq!(found("docker.service", FILE, &["system.slice/docker.service/docker-1.scope"], None), []);
        // A container that is kept in its service.
        let split = ["system.slice/web.service/libpod-payload-1", "machine.slice/libpod-2.scope"];
        assert_eq!(found("web.service", FILE, &split, None), []);
        assert_eq!(found("web.service", FILE, &["machine.slice/libpod-conmon-1.scope"], None), []);
    }
}
