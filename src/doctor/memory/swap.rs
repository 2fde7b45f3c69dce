//! Limits of what there is none of.
#![forbid(unsafe_code)]

use crate::doctor::PlaceOf;
use crate::doctor::finding::{Code, Finding};
use crate::doctor::remedy;
use crate::effect::memory::size;
use crate::host::tree::Tree;
use crate::host::units::{Unit, Units};
use crate::units::MEMORY_SWAP_MAX;

/// [`Code::SwapLimit`]: units that run may use some of the swap, of which a machine with so many bytes has none. To
/// allow none is to say what is so.
#[must_use]
pub fn without_swap(tree: &Tree, units: &Units, swap: u64, set_by: PlaceOf<'_>) -> Vec<Finding> {
    let finding = |(name, unit): (&str, &Unit)| {
        let limit = unit.number(MEMORY_SWAP_MAX.unit).filter(|limit| !matches!(*limit, 0 | u64::MAX))?;
        tree.find(&unit.cgroup()?).filter(|id| tree[*id].populated)?;
        Some(Finding {
            code: Code::SwapLimit,
            subject: name.into(),
            what: format!("{}={} limits nothing", MEMORY_SWAP_MAX.unit, size(limit)),
            cost: None,
            cause: "this machine has no swap: /proc/swaps".to_owned(),
            at: set_by(name, MEMORY_SWAP_MAX.unit),
            fix: remedy::without(name, MEMORY_SWAP_MAX.unit, set_by),
        })
    };
    if swap > 0 { Vec::new() } else { units.iter().filter_map(finding).collect() }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::doctor::finding::{Fix, Place};
    use crate::host::tree::Cgroup;

    #[test]
    fn swap_that_there_is_none_of_is_limited_by_nothing() {
        let mut tree = Tree::new(Cgroup::default());
        let mut text = String::new();
        for (name, limit) in [("a.slice", "2147483648"), ("none.slice", "0"), ("all.slice", "infinity")] {
            tree.add(Tree::ROOT, name, Cgroup { populated: true, ..Cgroup::default() });
            write!(text, "Id={name}\nControlGroup=/{name}\nMemorySwapMax={limit}\n\n").unwrap();
        }
        let units = Units::parse(&text);
        let found = |swap, file: &'static str| {
            let set_by = |_: &str, _: &str| Some(Place { file: file.into(), line: Some(3) });
            without_swap(&tree, &units, swap, &set_by)
        };
        let [one] = found(0, "/etc/fairslice/policy.toml").try_into().unwrap();
        assert_eq!(
            (one.subject.to_string().as_str(), one.what.as_str()),
            ("a.slice", "MemorySwapMax=2G limits nothing")
        );
        let fix = "remove memory_swap_max at /etc/fairslice/policy.toml:3, then: fairslice apply";
        assert_eq!(one.fix, Fix::Edit(fix.to_owned()));
        let [one] =
            found(0, "/etc/systemd/system.control/a.slice.d/50-MemorySwapMax.conf").try_into().unwrap();
        assert_eq!(one.fix, Fix::Command("systemctl set-property a.slice MemorySwapMax=".to_owned()));
        assert_eq!(found(1 << 30, "/x"), []);
    }
}
