//! Who is killed by a daemon before the kernel comes to it: systemd-oomd, earlyoom.
#![forbid(unsafe_code)]

use regex_lite::Regex;

use super::{KillScene, can_be_killed};
use crate::host::oom::{Earlyoom, Preference, Reclaim};
use crate::host::processes::Process;
use crate::host::tree::{Id, Tree};
use crate::text::utf8_of;
use crate::units::Percent;

/// Percent of the swap: `THRESHOLD_SWAP_USED_PERCENT` of systemd's `oomd-manager.h`.
pub const SWAPPED_LEAST: u64 = 5;

const PRESSURE_LIMIT: &str = "ManagedOOMMemoryPressureLimit";
/// Since systemd 257.
const PRESSURE_DURATION: &str = "ManagedOOMMemoryPressureDurationUSec";

/// A unit below which systemd-oomd kills.
#[derive(Debug, Clone)]
pub struct Watched<'a> {
    /// The unit with `ManagedOOM…=kill`.
    pub unit: &'a str,
    /// Its cgroup.
    pub of: Id,
    /// When.
    pub rule: Rule,
    /// From what pressure on, where the unit says so: `ManagedOOMMemoryPressureLimit=`.
    pub limit: Option<Percent>,
    /// For how long, where the unit says so, as systemctl prints it: `ManagedOOMMemoryPressureDurationSec=`.
    pub duration: Option<&'a str>,
    /// The cgroups that it chooses from: those without children or with `memory.oom.group`.
    pub candidates: Vec<Id>,
}

/// When systemd-oomd kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `ManagedOOMSwap=kill`: RAM and swap are nearly full. The candidate that swapped out most goes.
    Swap,
    /// `ManagedOOMMemoryPressure=kill`: the unit waits for memory too much. The candidate that is
    /// reclaimed from most goes.
    Pressure,
}

/// What systemd-oomd watches.
#[must_use]
pub fn watched<'a>(scene: &KillScene<'a>) -> Vec<Watched<'a>> {
    let mut found = Vec::new();
    for (name, unit) in scene.units.iter().filter(|(_, unit)| unit.is_active()) {
        // The root slice's cgroup is printed as an empty text.
        let path = unit.cgroup().or_else(|| (name == "-.slice").then(Default::default));
        let Some(id) = path.and_then(|path| scene.tree.find(&path)) else { continue };
        for (property, rule) in [("ManagedOOMSwap", Rule::Swap), ("ManagedOOMMemoryPressure", Rule::Pressure)]
        {
            if unit.text(property) == Some("kill") {
                let candidates = candidates(scene.tree, id);
                let own = (rule == Rule::Pressure).then_some(unit);
                let limit = own.and_then(|unit| pressure_limit(unit.number(PRESSURE_LIMIT)?));
                let duration = own.and_then(|unit| unit.text(PRESSURE_DURATION));
                let duration = duration.filter(|duration| *duration != "infinity");
                found.push(Watched { unit: name, of: id, rule, limit, duration, candidates });
            }
        }
    }
    found
}

/// PID 1 says it in parts of 2³² − 1 (`UINT32_SCALE_TO_PERMYRIAD` of systemd's `percent-util.h`); 0 is the
/// default of `oomd.conf(5)`.
fn pressure_limit(scaled: u64) -> Option<Percent> {
    let whole = u64::from(u32::MAX);
    let permyriad = scaled.checked_mul(10_000)?.checked_add(whole / 2)? / whole;
    Percent::from_permyriad(permyriad).filter(|_| scaled > 0)
}

/// `recursively_get_cgroup_context` of systemd's `oomd-manager.c`.
fn candidates(tree: &Tree, from: Id) -> Vec<Id> {
    let (mut found, mut left) = (Vec::new(), vec![from]);
    while let Some(id) = left.pop() {
        let whole = id != from && tree[id].memory.is_some_and(|memory| memory.oom_group);
        if whole || tree[id].children.is_empty() {
            found.extend((tree[id].memory.is_some() && tree[id].populated).then_some(id));
        } else {
            left.extend(&tree[id].children);
        }
    }
    found
}

/// Which of the candidates systemd-oomd takes first: `compare_swap_usage` and
/// `compare_pgscan_rate_and_memory_usage` of its `oomd-util.h`, for which it looks how fast `pgscan`
/// grows, and this at how far it has come. By swap it takes none that has not more than
/// [`SWAPPED_LEAST`] of all.
///
/// Who has a cgroup can write its preference: it counts where that is root, or whose the watched unit is
/// (`oomd_fetch_cgroup_oom_preference`).
#[must_use]
pub fn oomd_takes(
    scene: &KillScene<'_>,
    watched: &Watched<'_>,
    reclaim: &dyn Fn(Id) -> Reclaim,
) -> Option<Id> {
    let believed = [Tree::ROOT, watched.of].map(|id| reclaim(id).owner);
    let preference = |id: Id| {
        let Reclaim { preference, owner, .. } = reclaim(id);
        if believed.contains(&owner) { preference } else { Preference::None }
    };
    let least = scene.swap / 100 * SWAPPED_LEAST;
    let amount = |id: Id| {
        let memory = scene.tree[id].memory?;
        match watched.rule {
            Rule::Swap => (memory.swap_current > least).then_some((memory.swap_current, 0)),
            Rule::Pressure => Some((reclaim(id).scanned, memory.current)),
        }
    };
    let all = watched.candidates.iter().filter(|id| preference(**id) != Preference::Omit);
    let ranked = all.filter_map(|id| Some((*id, preference(*id) != Preference::Avoid, amount(*id)?)));
    ranked.max_by_key(|(_, wanted, amount)| (*wanted, *amount)).map(|(id, ..)| id)
}

/// Whom earlyoom takes first: the highest `oom_score`, 300 more or less for a name that it prefers or
/// avoids, and of equals the one with the most memory (`is_larger` of its `kill.c`).
///
/// # Errors
/// A pattern of its command line that this program does not understand.
pub fn earlyoom_takes<'a>(
    earlyoom: &Earlyoom,
    processes: &'a [Process],
) -> Result<Option<&'a Process>, regex_lite::Error> {
    let pattern = |text: &Option<String>| text.as_deref().map(Regex::new).transpose();
    let (prefer, avoid, ignore) =
        (pattern(&earlyoom.prefer)?, pattern(&earlyoom.avoid)?, pattern(&earlyoom.ignore)?);
    let named = |pattern: &Option<Regex>, process: &Process| {
        let name = utf8_of(process.name.as_bytes());
        pattern.as_ref().is_some_and(|pattern| pattern.is_match(&name))
    };
    let badness = |process: &&Process| {
        let score = i32::from(process.oom_score);
        score + 300 * i32::from(named(&prefer, process)) - 300 * i32::from(named(&avoid, process))
    };
    let all = processes.iter().filter(|process| {
        can_be_killed(process)
            && !named(&ignore, process)
            && !(earlyoom.ignores_root && process.uid == 0)
            && process.pid != earlyoom.pid
    });
    Ok(all.max_by_key(|process| {
        if earlyoom.by_resident { (0, process.resident) } else { (badness(process), process.resident) }
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::effect::kill_order::tests::{A, B, MIB, add, memory, process};
    use crate::host::tree::{Cgroup, MemoryAttributes};
    use crate::host::units::Units;

    #[test]
    fn oomd_takes_the_most_swapped_out_or_reclaimed() {
        let mut tree = Tree::new(Cgroup::default());
        let swapped = |swap_current, oom_group| MemoryAttributes { swap_current, oom_group, ..memory(10) };
        let a = add(&mut tree, A, swapped(100, false));
        let b = add(&mut tree, B, swapped(300, true));
        add(&mut tree, "x.slice/b.service/inner", swapped(300, false));
        let c = add(&mut tree, "x.slice/c.service", swapped(0, false));
        let units = Units::parse(
            "Id=x.slice\nActiveState=active\nControlGroup=/x.slice\nManagedOOMSwap=kill\nManagedOOMMemoryPressure=kill",
        );
        let scene = KillScene { tree: &tree, units: &units, processes: &[], ram: MIB, swap: 1900 };
        let watched = watched(&scene);
        assert_eq!(
            watched.iter().map(|watched| watched.rule).collect::<Vec<_>>(),
            [Rule::Swap, Rule::Pressure]
        );
        let of = tree.find(Path::new("x.slice")).unwrap();
        let mut candidates = watched.first().unwrap().candidates.clone();
        candidates.sort();
        assert_eq!(candidates, [a, b, c]);
        let watched = |rule, candidates: &[Id]| Watched {
            unit: "x.slice",
            of,
            rule,
            limit: None,
            duration: None,
            candidates: candidates.into(),
        };
        let owned = |owner, rule, avoided: Option<Id>, omitted: Option<Id>| {
            oomd_takes(&scene, &watched(rule, &candidates), &|id| Reclaim {
                scanned: if id == c { 5 } else { 1 },
                owner: if candidates.contains(&id) { owner } else { 0 },
                preference: match Some(id) {
                    id if id == omitted => Preference::Omit,
                    id if id == avoided => Preference::Avoid,
                    _ => Preference::None,
                },
            })
        };
        let takes = |rule, avoided, omitted| owned(0, rule, avoided, omitted);
        assert_eq!(takes(Rule::Swap, None, None), Some(b));
        assert_eq!(takes(Rule::Swap, Some(b), None), Some(a));
        assert_eq!(takes(Rule::Swap, Some(a), Some(b)), Some(a));
        assert_eq!(takes(Rule::Pressure, None, None), Some(c));
        // What a user has written to a cgroup of their own.
        assert_eq!(owned(1000, Rule::Swap, Some(a), Some(b)), Some(b));
        // Not more than a twentieth of the swap.
        let large = KillScene { swap: 2000, ..scene };
        let none = |_| Reclaim::default();
        assert_eq!(oomd_takes(&large, &watched(Rule::Swap, &[a, c]), &none), None);
    }

    #[test]
    fn a_unit_may_have_a_limit_of_its_own() {
        let mut tree = Tree::new(Cgroup::default());
        add(&mut tree, A, memory(0));
        let limits = |own: &str| {
            let units = Units::parse(&format!(
                "Id=x.slice\nActiveState=active\nControlGroup=/x.slice\nManagedOOMSwap=kill\n\
                 ManagedOOMMemoryPressure=kill\n{own}"
            ));
            let scene = KillScene { tree: &tree, units: &units, processes: &[], ram: MIB, swap: 0 };
            let text = |limit: Option<Percent>| limit.map_or("-".to_owned(), |limit| limit.to_string());
            let all = watched(&scene).into_iter();
            all.map(|w| format!("{} {}", text(w.limit), w.duration.unwrap_or("-"))).collect::<Vec<_>>()
        };
        assert_eq!(limits(""), ["- -", "- -"]);
        assert_eq!(limits("ManagedOOMMemoryPressureLimit=0\n"), ["- -", "- -"]);
        // What systemd 257 prints of 50 % and of 0.5 %.
        let own = "ManagedOOMMemoryPressureLimit=2147483648\nManagedOOMMemoryPressureDurationUSec=2s\n";
        assert_eq!(limits(own), ["- -", "50% 2s"]);
        let own = "ManagedOOMMemoryPressureLimit=21474836\nManagedOOMMemoryPressureDurationUSec=infinity\n";
        assert_eq!(limits(own), ["- -", "0.5% -"]);
    }

    #[test]
    fn earlyoom_takes_the_highest_score_but_for_names() {
        let scored = |pid, oom_score, mib| Process { oom_score, ..process(pid, A, 0, mib) };
        let processes = [scored(3, 700, 5), scored(4, 800, 1), scored(5, 700, 9), scored(6, 900, 9)];
        let takes = |earlyoom: Earlyoom| earlyoom_takes(&earlyoom, &processes).map(|p| p.map(|p| p.pid));
        let named = |text: &str| Some(text.to_owned());
        let plain = Earlyoom { pid: 6, ..Earlyoom::default() };
        assert_eq!(takes(plain.clone()), Ok(Some(4)));
        assert_eq!(takes(Earlyoom { prefer: named("^p(3|5)$"), ..plain.clone() }), Ok(Some(5)));
        assert_eq!(takes(Earlyoom { avoid: named("4"), ..plain.clone() }), Ok(Some(5)));
        assert_eq!(takes(Earlyoom { ignore: named("[45]"), ..plain.clone() }), Ok(Some(3)));
        assert_eq!(takes(Earlyoom { by_resident: true, ..plain.clone() }), Ok(Some(5)));
        assert_eq!(takes(Earlyoom { ignores_root: true, ..plain.clone() }), Ok(None));
        assert!(takes(Earlyoom { avoid: named("("), ..plain }).is_err());
    }
}
