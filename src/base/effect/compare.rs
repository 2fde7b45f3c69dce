//! Whether a live cgroup attribute is what was declared.
#![forbid(unsafe_code)]

use crate::host::cgroup;
use crate::host::machine::{Machine, page};
use crate::units::{Property, SettingValue};

/// Whether `live`, a cgroup attribute's text, says what was declared.
#[must_use]
pub fn holds(property: Property, declared: &SettingValue, live: &str, machine: Machine) -> bool {
    number(property, declared, live).is_some_and(|live| equals(declared, live, machine))
}

/// The number in `live`, a cgroup attribute's text: for a bandwidth, what it says of that disk.
#[must_use]
pub fn number(property: Property, declared: &SettingValue, live: &str) -> Option<u64> {
    match (declared, property.of_device()) {
        (SettingValue::Bandwidth(bandwidth), Some(word)) => bandwidth.live(live, word),
        _ => cgroup::number(live),
    }
}

/// What `live` says, for people: a quota in percent of one CPU, of a bandwidth what that disk has.
#[must_use]
pub fn said(property: Property, declared: &SettingValue, live: &str) -> String {
    match (declared, number(property, declared, live)) {
        (SettingValue::Bandwidth(_), Some(rate)) => cgroup::text(rate),
        (SettingValue::Bandwidth(_), None) => "no such disk".to_owned(),
        _ => cgroup::said(property, live),
    }
}

/// Whether a number that PID 1 or the kernel has is what was declared.
#[must_use]
pub fn equals(declared: &SettingValue, number: u64, machine: Machine) -> bool {
    same(matches!(declared, SettingValue::Memory(_)), number, machine.number(declared))
}

/// Whether `live`, a cgroup attribute's text, says what PID 1 has of this property.
#[must_use]
pub fn agrees(property: Property, known: u64, live: &str) -> bool {
    cgroup::number(live).is_some_and(|live| same(property.attribute.starts_with("memory."), known, live))
}

fn same(is_memory: bool, one: u64, other: u64) -> bool {
    if is_memory { same_in_pages(one, other, page()) } else { one == other }
}

/// The kernel counts memory limits in pages: it rounds what is written down to one, whose size is a power of two. No
/// limit is one still.
fn same_in_pages(one: u64, other: u64, page: u64) -> bool {
    let rounded = |bytes: u64| if bytes == u64::MAX { bytes } else { bytes & !page.wrapping_sub(1) };
    rounded(one) == rounded(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{
        Amount, CPU_QUOTA, CPU_WEIGHT, CpuQuota, CpuWeight, IO_WEIGHT, MEMORY_MAX, Memory, Percent,
        TASKS_MAX, Tasks, Weight,
    };

    const MACHINE: Machine = Machine { ram: 2_079_666_176, tasks: 15_000 };

    #[test]
    fn weights_compare_with_what_the_kernel_prints() {
        let weight = Weight::new(200).unwrap();
        assert!(holds(CPU_WEIGHT, &SettingValue::Cpu(CpuWeight::Weight(weight)), "200", MACHINE));
        assert!(!holds(CPU_WEIGHT, &SettingValue::Cpu(CpuWeight::Weight(weight)), "100", MACHINE));
        assert!(holds(CPU_WEIGHT, &SettingValue::Cpu(CpuWeight::Idle), "0", MACHINE));
        assert!(holds(IO_WEIGHT, &SettingValue::Io(weight), "default 200\n8:0 50", MACHINE));
        assert!(!holds(IO_WEIGHT, &SettingValue::Io(weight), "default 100", MACHINE));
    }

    #[test]
    fn a_quota_is_of_a_second_and_the_kernels_of_a_period() {
        let quota = SettingValue::Quota(CpuQuota::parse("250%").unwrap());
        for (live, is) in
            [("250000 100000", true), ("25000 10000", true), ("max 100000", false), ("100000 100000", false)]
        {
            assert_eq!(holds(CPU_QUOTA, &quota, live, MACHINE), is, "{live}");
        }
        assert_eq!(said(CPU_QUOTA, &quota, "150000 100000"), "150%");
    }

    #[test]
    fn limits_compare_in_pages() {
        let memory = |amount| SettingValue::Memory(Memory(amount));
        let percent = Amount::Percent(Percent::from_permyriad(6875).unwrap());
        let bytes = MACHINE.ram * 6875 / 10_000;
        assert!(holds(MEMORY_MAX, &memory(percent), &(bytes - bytes % page()).to_string(), MACHINE));
        assert!(!holds(MEMORY_MAX, &memory(percent), "max", MACHINE));
        for (one, other, page, is) in [
            (5000, 4096, 4096, true),
            (5000, 8192, 4096, false),
            (100_000, 65_536, 65_536, true),
            (100_000, 65_536, 4096, false),
            (u64::MAX, u64::MAX - 1, 4096, false),
        ] {
            assert_eq!(same_in_pages(one, other, page), is, "{one} {other} {page}");
        }
        assert!(holds(MEMORY_MAX, &memory(Amount::Infinity), "max", MACHINE));
        assert!(holds(TASKS_MAX, &SettingValue::Tasks(Tasks(Amount::Absolute(512))), "512", MACHINE));
        assert!(!holds(TASKS_MAX, &SettingValue::Tasks(Tasks(Amount::Absolute(512))), "garbage", MACHINE));
    }
}
