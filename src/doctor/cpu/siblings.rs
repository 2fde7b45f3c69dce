//! Weights that come to less beside what they compete with: [`Code::Siblings`].
#![forbid(unsafe_code)]

use super::{Doctor, NEARLY, Weighted};
use crate::doctor::cost::{ratio, real};
use crate::doctor::finding::{Code, Finding, Fix, Place};
use crate::effect::share::{Busy, shares};
use crate::host::tree::Id;
use crate::text::and_more;
use crate::units::{CpuWeight, SliceName};

/// So many siblings are named.
const MOST_NAMED: usize = 3;

impl Doctor<'_> {
    /// A slice of the policy's whose ancestors carry what they have to, and still less than declared against
    /// logins, when its siblings are busy.
    pub(super) fn beside_siblings(&self, unit: &Weighted<'_>) -> Option<Finding> {
        let declared = unit.declared.filter(|declared| declared.value != CpuWeight::Idle)?;
        let ancestors = self.ancestors(unit.id);
        if !self.is_written(unit) || !ancestors.iter().all(|id| self.carries(*id)) {
            return None;
        }
        // At the root everybody competes with everybody, and no ratio to the logins changes.
        let nested =
            std::iter::once(unit.id).chain(ancestors.iter().copied().take(ancestors.len().checked_sub(1)?));
        let siblings: Vec<Id> = nested.flat_map(|id| self.siblings(id)).collect();
        let compared = self.against_a_login(unit, &siblings)?;
        if compared.effective > compared.declared * NEARLY {
            return None;
        }
        let outsiders = siblings.iter().filter(|id| self.declared(&self.name(**id)).is_none());
        let mut names: Vec<String> = outsiders.map(|id| self.name(*id)).collect();
        names.sort_unstable();
        let parent = self.name(*ancestors.first()?);
        let (cause, fix) = if names.is_empty() {
            let cause = "the weights in an ancestor sum to more than 10000, the most that it can carry";
            (
                cause.to_owned(),
                "divide the cpu_weight of each slice by the same number, then: fairslice apply".to_owned(),
            )
        } else {
            let more = and_more(names.len().saturating_sub(MOST_NAMED));
            names.truncate(MOST_NAMED);
            let cause = format!("the policy does not know {}{more}, which compete with it", names.join(", "));
            (
                cause,
                format!(
                    "give their slices a cpu_weight in the policy, or move them out of {parent}, then: fairslice apply"
                ),
            )
        };
        Some(Finding {
            code: Code::Siblings,
            subject: unit.name.into(),
            what: format!("{} comes to less beside its siblings", unit.setting()),
            cost: Some(compared.text),
            cause,
            at: Some(Place::from(&declared.origin)),
            fix: Fix::Edit(fix),
        })
    }

    /// Two and more logins that share one weight, where the policy declares one for each.
    pub(super) fn logins(&self) -> Option<Finding> {
        let each = self.policy.logins.default.resources.cpu_weight.as_ref()?;
        let CpuWeight::Weight(own) = each.value else { return None };
        if self.policy.logins.total_weight.is_some() {
            return None;
        }
        let users = self.tree.find(&SliceName::user().cgroup())?;
        let users = self.tree[users].children.iter().copied();
        let users: Vec<Id> = users.filter(|id| self.tree[*id].populated && self.tree.is_slice(*id)).collect();
        let plain = users.iter().copied().find(|id| self.live(*id) == Some(own.get()))?;
        let slices = self.policy.slices.iter().filter_map(|(name, slice)| {
            let CpuWeight::Weight(weight) = slice.resources.cpu_weight.as_ref()?.value else { return None };
            let id = self.tree.find(&name.cgroup()).filter(|id| self.tree[*id].populated)?;
            Some((weight.get(), name, id))
        });
        let (weight, name, slice) = slices.max_by_key(|(weight, ..)| *weight)?;
        let effective = |users: &[Id]| {
            let busy = users.iter().copied().chain([slice]).collect();
            let all = shares(self.tree, self.cpus, &Busy::Only(busy));
            (all.of(slice), all.of(plain))
        };
        let ((one_a, one_b), (all_a, all_b)) = (effective(&[plain]), effective(&users));
        if users.len() < 2 || all_a / all_b <= one_a / one_b / NEARLY {
            return None;
        }
        Some(Finding {
            code: Code::Siblings,
            subject: SliceName::user().to_string().into(),
            what: format!("{} logins share what one was declared", users.len()),
            cost: Some(format!(
                "declared {} for {name} against a login, effective {} when all are busy",
                ratio(real(weight), real(own.get())),
                ratio(all_a, all_b)
            )),
            cause: "all users compete inside of user.slice, and the policy declares no total_weight"
                .to_owned(),
            at: Some(Place::from(&each.origin)),
            fix: Fix::Edit(
                "add total_weight = \"sum\" to [logins] in the policy, then: fairslice apply".to_owned(),
            ),
        })
    }

    /// Whether an ancestor weighs what it has to carry.
    fn carries(&self, id: Id) -> bool {
        let name = self.tree.unit(id).and_then(|name| SliceName::new(name).ok());
        let carried = name.and_then(|name| self.carried.get(&name)?.cpu_weight);
        carried.is_some_and(|carried| match carried {
            CpuWeight::Idle => false,
            CpuWeight::Weight(weight) => self.live(id) == Some(weight.get()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::cpu::tests::{CARRIED, Host, POLICY};

    #[test]
    fn siblings_that_the_policy_does_not_know_are_found() {
        let mut host = Host::foundry(POLICY, CARRIED, 200);
        host.unit("foundry.slice/foundry-jobs.slice", 200, "CPUWeight=[not set]");
        let found = host.only();
        assert_eq!(
            (found.code, found.subject.to_string().as_str()),
            (Code::Siblings, "foundry-services.slice")
        );
        assert_eq!(found.cost.as_deref(), Some("declared 2 : 1 against a login, effective 1 : 1"));
        assert!(found.cause.contains("foundry-jobs.slice"), "{}", found.cause);
        // One that is idle takes nothing, and one that the policy knows is carried.
        let mut host = Host::foundry(POLICY, CARRIED, 200);
        host.unit("foundry.slice/foundry-jobs.slice", 0, "CPUWeight=[not set]");
        assert_eq!(host.findings(), []);
        let both = format!("{POLICY}[slice.\"foundry-jobs.slice\"]\ncpu_weight = 100\n");
        let mut host = Host::foundry(&both, (300, "CPUWeight=300"), 200);
        host.unit("foundry.slice/foundry-jobs.slice", 100, "CPUWeight=100");
        assert_eq!(host.findings(), []);
    }

    #[test]
    fn logins_that_share_what_one_was_declared_are_found() {
        let logins = format!("{POLICY}[logins]\ncpu_weight = 100\n");
        let found = Host::foundry(&logins, CARRIED, 200).only();
        assert_eq!((found.code, found.subject.to_string().as_str()), (Code::Siblings, "user.slice"));
        let cost =
            "declared 2 : 1 for foundry-services.slice against a login, effective 4 : 1 when all are busy";
        assert_eq!(found.cost.as_deref(), Some(cost));
        for total in ["100", "\"sum\""] {
            let declared = format!("{logins}total_weight = {total}\n");
            assert_eq!(Host::foundry(&declared, CARRIED, 200).findings(), [], "{total}");
        }
    }
}
