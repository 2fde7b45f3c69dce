//! Memory protections that an ancestor does not have.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{MemoryScene, NO_LIMIT};
use crate::doctor::finding::{Code, Finding, Fix};
use crate::doctor::remedy::{self, NewValue, is_vendors, rounded};
use crate::effect::memory::{Because, Guard, Outcome, ProtectionLink, size};
use crate::host::cgroup::Standing;
use crate::host::tree::{Each, Id, Tree};
use crate::units::SliceName;

/// How much of the RAM is protected at most where more is claimed than there is, and how much of a limit.
const MOST: (u128, u128) = (3, 4);

/// A unit's protection that comes to less than it says because an ancestor has less.
struct Lack<'t> {
    id: Id,
    unit: &'t str,
    guard: Guard,
    wanted: u64,
    effective: u64,
    /// The ancestor and its unit.
    ancestor: ProtectionLink,
    above: &'t str,
}

/// What a cgroup is to set instead of what it sets.
#[derive(Clone, Copy)]
struct Share {
    id: Id,
    guard: Guard,
    set: u64,
    bytes: u64,
}

/// What each cgroup needs so that all protections in it hold: what it sets, or what those in it need
/// together.
struct Needs {
    guard: Guard,
    of: Each<u64>,
    /// Directly in the root, with something in it that is not protected as it says.
    lacking: BTreeSet<Id>,
    /// To what each is limited, once no limit is above the RAM.
    limits: Each<u64>,
}

impl Needs {
    fn of(tree: &Tree, guard: Guard, lacking: BTreeSet<Id>, limits: Each<u64>) -> Self {
        let mut needs = Self { guard, of: Each::none(tree), lacking, limits };
        // What a unit's own cgroups set is its own affair.
        for id in tree.ids().rev().filter(|id| tree[*id].standing != Standing::Inside) {
            let below = needs.below(tree, id);
            needs.of.insert(id, set(tree, id, guard).max(u64::try_from(below).unwrap_or(u64::MAX)));
        }
        needs
    }

    fn get(&self, id: Id) -> u64 {
        self.of.get(id).copied().unwrap_or(0)
    }

    fn limit(&self, id: Id) -> u64 {
        self.limits.get(id).copied().unwrap_or(u64::MAX)
    }

    fn share(&self, tree: &Tree, id: Id, bytes: u64) -> Share {
        Share { id, guard: self.guard, set: set(tree, id, self.guard), bytes }
    }

    /// What those in it need together.
    fn below(&self, tree: &Tree, id: Id) -> u128 {
        tree[id].children.iter().map(|child| u128::from(self.get(*child))).sum()
    }
}

/// What a cgroup sets; of one that sets no limit, what it uses.
fn set(tree: &Tree, id: Id, guard: Guard) -> u64 {
    tree[id].memory.as_ref().map_or(0, |memory| {
        let setting = guard.setting(memory);
        if setting < NO_LIMIT { setting } else { memory.current }
    })
}

impl<'a> MemoryScene<'a> {
    /// One finding for all in one slice of the root's, since one fix is for all of them; what only packages
    /// claim is another.
    pub(super) fn unprotected(&self) -> Vec<Finding> {
        let mut groups: BTreeMap<(Id, bool), Vec<Lack<'a>>> = BTreeMap::new();
        for id in self.tree.in_slices() {
            for lack in Guard::BOTH.into_iter().filter_map(|guard| self.lack(id, guard)) {
                let place = (self.set_by)(lack.unit, lack.guard.property());
                let is_vendors = place.is_some_and(|place| is_vendors(&place.file));
                groups.entry((self.outermost(id), is_vendors)).or_default().push(lack);
            }
        }
        let limits = self.planned_limits();
        let needs = Guard::BOTH.map(|guard| {
            let lacks = groups.values().flatten().filter(|lack| lack.guard == guard);
            Needs::of(self.tree, guard, lacks.map(|lack| self.outermost(lack.id)).collect(), limits.clone())
        });
        let mut found = Vec::new();
        for ((top, is_vendors), lacks) in &groups {
            let all = [false, true].into_iter().filter_map(|kind| groups.get(&(*top, kind))).flatten();
            let fix = self.protecting(*top, &all.collect::<Vec<_>>(), &needs);
            let code = if *is_vendors { Code::VendorProtection } else { Code::AncestorProtection };
            found.extend(self.finding(code, lacks, fix));
        }
        found
    }

    /// Whether an ancestor has less than this one sets.
    pub(super) fn lacks(&self, id: Id, guard: Guard) -> bool {
        self.lack(id, guard).is_some()
    }

    fn lack(&self, id: Id, guard: Guard) -> Option<Lack<'a>> {
        let outcome = self.protections.outcome(self.tree, id, guard)?;
        let Outcome { wanted, effective, because: Some(Because::Ancestor(ancestor)) } = outcome else {
            return None;
        };
        let (unit, above) = (self.tree.unit(id)?, self.tree.unit(ancestor.id)?);
        Some(Lack { id, unit, guard, wanted, effective, ancestor, above })
    }

    fn finding(&self, code: Code, lacks: &[Lack<'a>], fix: Fix) -> Option<Finding> {
        let first = lacks.first()?;
        let is_one = lacks.iter().all(|lack| lack.id == first.id);
        let what = |lack: &Lack<'_>| {
            let unit = if is_one { String::new() } else { format!("{}: ", lack.unit) };
            let holds = if lack.effective == 0 {
                "nothing".to_owned()
            } else {
                format!("{} only", size(lack.effective))
            };
            format!("{unit}{} = {} protects {holds}", lack.guard.attribute(), size(lack.wanted))
        };
        let cost =
            |lack: &Lack<'_>| format!("{} declared, {} effective", size(lack.wanted), size(lack.effective));
        let cause = |lack: &Lack<'_>| {
            let (setting, attribute) = (size(lack.ancestor.setting), lack.guard.attribute());
            format!("{}, which it is in, has {attribute} = {setting}", lack.above)
        };
        let at = |lack: &Lack<'_>| {
            let property = lack.guard.property();
            (self.set_by)(lack.above, property).or_else(|| (self.set_by)(lack.unit, property))
        };
        Some(Finding {
            code,
            subject: lacks.iter().map(|lack| lack.unit).collect(),
            what: joined(lacks, what),
            cost: Some(joined(lacks, cost)),
            cause: joined(lacks, cause),
            at: lacks.iter().find_map(at),
            fix,
        })
    }

    /// One fix for all protections in this slice of the root's.
    fn protecting(&self, top: Id, lacks: &[&Lack<'a>], needs: &[Needs]) -> Fix {
        let needs = || needs.iter().filter(|needs| lacks.iter().any(|lack| lack.guard == needs.guard));
        let lower = || self.fix(needs().flat_map(|needs| self.lowered(top, needs)).collect());
        if needs().any(|needs| !self.can_be_kept(top, needs)) {
            return lower();
        }
        let (mut own, mut is_carried) = (Vec::new(), false);
        for needs in needs() {
            let raised = self.raised(top, needs);
            let left = raised.iter().filter(|share| !self.is_carried(share, &raised));
            let before = own.len();
            own.extend(left.copied());
            is_carried |= own.len() - before < raised.len();
        }
        if own.is_empty() {
            return Fix::Apply;
        }
        match self.fix(own) {
            Fix::Command(command) if is_carried => Fix::Command(format!("{command} && fairslice apply")),
            // Somebody has set the lesser number, and it may be the one that is meant.
            Fix::Edit(raise) => match lower() {
                Fix::Edit(lower) | Fix::Command(lower) => Fix::Edit(format!("{raise}; or {lower}")),
                _ => Fix::Edit(raise),
            },
            fix => fix,
        }
    }

    fn fix(&self, mut shares: Vec<Share>) -> Fix {
        shares.sort_by_key(|share| share.id);
        let change = |share: &Share| {
            Some(NewValue::bytes(self.tree.unit(share.id)?, share.guard.property(), share.bytes))
        };
        remedy::fix(&shares.iter().filter_map(change).collect::<Vec<_>>(), self.set_by)
    }

    /// Whether the machine has as much, and no limit on the way leaves less.
    fn can_be_kept(&self, top: Id, needs: &Needs) -> bool {
        let mut inside = self.tree.in_slices().filter(|id| self.outermost(*id) == top);
        needs.below(self.tree, Tree::ROOT) <= u128::from(self.ram)
            && inside.all(|id| needs.get(id) <= needs.limit(id))
    }

    /// Everything in it that others are in has what those need, also where what is above handed it down so
    /// far: that is less once others claim more.
    fn raised(&self, top: Id, needs: &Needs) -> Vec<Share> {
        let inside = self.tree.in_slices().filter(|id| self.outermost(*id) == top);
        let shares = inside.map(|id| needs.share(self.tree, id, needs.get(id)));
        shares.filter(|share| share.set < share.bytes).collect()
    }

    /// Whether `fairslice apply` gives an ancestor as much, once the others are given theirs: the policy has
    /// it carry what the slices below it declare.
    fn is_carried(&self, share: &Share, all: &[Share]) -> bool {
        let slice = self.tree.unit(share.id).and_then(|unit| SliceName::new(unit).ok());
        let Some(carried) = slice.and_then(|slice| self.carried.get(&slice)) else { return false };
        let amount = match share.guard {
            Guard::Min => carried.memory_min,
            Guard::Low => carried.memory_low,
        };
        let Some(amount) = amount else { return false };
        let is_below = |id: Id| id != share.id && self.tree.upwards(id).any(|above| above == share.id);
        let below = all.iter().filter(|other| is_below(other.id));
        let more = below.fold(0, |sum: u64, other| sum.saturating_add(other.bytes.saturating_sub(other.set)));
        amount.0.on(self.ram).unwrap_or(u64::MAX).saturating_add(more) >= share.bytes
    }

    /// Nobody claims more than what is above it sets already, or the machine can keep. What sets nothing and has
    /// something in it is given what that needs.
    fn lowered(&self, top: Id, needs: &Needs) -> Vec<Share> {
        let mut bytes = needs.get(top);
        let all = needs.below(self.tree, Tree::ROOT);
        if all > self.ram.into() {
            // What is elsewhere keeps what it has.
            let lacking = needs.lacking.iter().map(|id| u128::from(needs.get(*id))).sum();
            let left =
                [part(self.ram, MOST), self.ram].map(|ram| u128::from(ram).saturating_sub(all - lacking));
            let left = left.into_iter().find(|left| *left > 0).unwrap_or(0);
            bytes = rounded(part(bytes, (left, lacking)));
        }
        let mut shares = Vec::new();
        self.allot(top, bytes, needs, &mut shares);
        shares.retain(|share| share.bytes != share.set);
        shares
    }

    /// Divides so many bytes among what is in a cgroup, and returns what it needs for that.
    fn allot(&self, id: Id, bytes: u64, needs: &Needs, shares: &mut Vec<Share>) -> u64 {
        let share = needs.share(self.tree, id, 0);
        let limit = needs.limit(id);
        let limit = if needs.get(id) > limit { part(limit, MOST) } else { limit };
        // What sets nothing itself is only there for what is in it.
        let most = bytes.min(limit).min(if share.set == 0 { u64::MAX } else { share.set });
        let below = needs.below(self.tree, id);
        let mut sum = 0_u64;
        for child in self.tree[id].children.iter().filter(|child| needs.get(**child) > 0) {
            let claim = needs.get(*child);
            let bytes = if below <= most.into() { claim } else { part(claim, (most.into(), below)) };
            sum = sum.saturating_add(self.allot(*child, bytes, needs, shares));
        }
        let bytes = match share.set {
            0 => sum,
            set if set == most => set,
            _ => rounded(most).max(sum),
        };
        shares.push(Share { bytes, ..share });
        bytes
    }

    /// The slice of the root's, or what else is directly in it, that a cgroup is or is in.
    fn outermost(&self, id: Id) -> Id {
        self.tree.upwards(id).take_while(|above| *above != Tree::ROOT).last().unwrap_or(id)
    }
}

/// So many parts of so many.
fn part(bytes: u64, (parts, of): (u128, u128)) -> u64 {
    u64::try_from(u128::from(bytes).saturating_mul(parts) / of.max(1)).unwrap_or(u64::MAX)
}

/// What is said of each, once.
fn joined<'t>(lacks: &[Lack<'t>], said: impl Fn(&Lack<'t>) -> String) -> String {
    let mut all: Vec<String> = Vec::new();
    for text in lacks.iter().map(said) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all.join("; ")
}
