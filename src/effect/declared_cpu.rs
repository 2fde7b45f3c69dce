//! What settings say of CPU time, as the tree has it.
#![forbid(unsafe_code)]

use crate::host::tree::{Cpu, CpuMax};
use crate::units::span::SECOND;
use crate::units::{CpuWeight, SettingValue, Weight};

/// A weight and a limit, of which either may be left open.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeclaredCpu {
    pub(super) weight: Option<u64>,
    pub(super) max: Option<CpuMax>,
}

impl DeclaredCpu {
    /// Those among these settings.
    pub(super) fn of(settings: impl IntoIterator<Item = SettingValue>) -> Self {
        let mut declared = Self::default();
        for value in settings {
            match value {
                SettingValue::Cpu(CpuWeight::Idle) => declared.weight = Some(0),
                SettingValue::Cpu(CpuWeight::Weight(weight)) => declared.weight = Some(weight.get()),
                SettingValue::Quota(quota) => {
                    declared.max = Some(CpuMax { quota: quota.microseconds(), period: SECOND });
                }
                _ => {}
            }
        }
        declared
    }

    /// With what is left open as it is, or at its default.
    pub(super) fn over(self, live: Option<Cpu>) -> Cpu {
        let live = live.unwrap_or(Cpu { weight: Weight::DEFAULT.get(), max: None });
        Cpu { weight: self.weight.unwrap_or(live.weight), max: self.max.or(live.max) }
    }
}
