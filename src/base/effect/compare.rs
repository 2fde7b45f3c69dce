//! Whether a live cgroup attribute is what was declared.
#![forbid(unsafe_code)]

use crate::host::cgroup;
use crate::host::machine::Machine;
use crate::units::{Property, SettingValue};

/// The kernel counts memory limits in pages: it rounds what is written down to one.
const PAGE: u64 = 4096;

/// Whether `live`, a cgroup attribute's text, says what was declared.
#[must_use]
pub fn holds(declared: SettingValue, live: &str, machine: Machine) -> bool {
    cgroup::number(live).is_some_and(|live| equals(declared, live, machine))
}

/// Whether a number that PID 1 or the kernel has is what was declared.
#[must_use]
pub fn equals(declared: SettingValue, number: u64, machine: Machine) -> bool {
    same(matches!(declared, SettingValue::Memory(_)), number, machine.number(declared))
}

/// Whether `live`, a cgroup attribute's text, says what PID 1 has of this property.
#[must_use]
pub fn agrees(property: Property, known: u64, live: &str) -> bool {
    cgroup::number(live).is_some_and(|live| same(property.attribute.starts_with("memory."), known, live))
}

fn same(is_memory: bool, one: u64, other: u64) -> bool {
    if is_memory { in_pages(one) == in_pages(other) } else { one == other }
}

/// No limit is one still.
fn in_pages(bytes: u64) -> u64 {
    if bytes == u64::MAX { bytes } else { bytes - bytes % PAGE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Amount, CpuWeight, Memory, Percent, Tasks, Weight};

    const MACHINE: Machine = Machine { ram: 2_079_666_176, tasks: 15_000 };

    #[test]
    fn weights_compare_with_what_the_kernel_prints() {
        let weight = Weight::new(200).unwrap();
        assert!(holds(SettingValue::Cpu(CpuWeight::Weight(weight)), "200", MACHINE));
        assert!(!holds(SettingValue::Cpu(CpuWeight::Weight(weight)), "100", MACHINE));
        assert!(holds(SettingValue::Cpu(CpuWeight::Idle), "0", MACHINE));
        assert!(holds(SettingValue::Io(weight), "default 200\n8:0 50", MACHINE));
        assert!(!holds(SettingValue::Io(weight), "default 100", MACHINE));
    }

    #[test]
    fn limits_compare_in_pages() {
        let memory = |amount| SettingValue::Memory(Memory(amount));
        let percent = Amount::Percent(Percent::from_permyriad(6875).unwrap());
        let bytes = MACHINE.ram * 6875 / 10_000;
        assert!(holds(memory(percent), &(bytes - bytes % 4096).to_string(), MACHINE));
        assert!(!holds(memory(percent), "max", MACHINE));
        assert!(holds(memory(Amount::Absolute(5000)), "4096", MACHINE));
        assert!(holds(memory(Amount::Infinity), "max", MACHINE));
        assert!(holds(SettingValue::Tasks(Tasks(Amount::Absolute(512))), "512", MACHINE));
        assert!(!holds(SettingValue::Tasks(Tasks(Amount::Absolute(512))), "garbage", MACHINE));
    }
}
