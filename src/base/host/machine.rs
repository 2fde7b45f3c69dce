//! What the machine has to give, as systemd counts it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

use super::cgroup;
use crate::text::shown;
use crate::units::{Amount, CpuWeight, SettingValue};

/// `TASKS_MAX` of systemd: the kernel's own limit on 64-bit machines.
const TASKS_MAX: u64 = 4_194_303;

/// What percentages are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Bytes of RAM; of the container's limit inside one.
    pub ram: u64,
    /// The most tasks there can be.
    pub tasks: u64,
}

impl Machine {
    /// # Errors
    /// `/proc/meminfo` cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let file = root.join("proc/meminfo");
        let meminfo = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
        let total = amount(&meminfo, "MemTotal");
        let ram = total.with_context(|| format!("{} has no MemTotal", shown(&file)))?;
        let limit = |name| cgroup::attribute(root, Path::new(""), name).and_then(|text| text.parse().ok());
        let number =
            |path| fs::read_to_string(root.join(path)).ok().and_then(|text| text.trim().parse().ok());
        let tasks = [
            number("proc/sys/kernel/pid_max").map(|max: u64| max.saturating_sub(1)),
            number("proc/sys/kernel/threads-max"),
            limit("pids.max"),
        ];
        Ok(Self {
            ram: limit("memory.max").into_iter().chain([ram]).min().unwrap_or(ram),
            tasks: tasks.into_iter().flatten().chain([TASKS_MAX]).min().unwrap_or(TASKS_MAX),
        })
    }

    /// A setting as PID 1 takes it over D-Bus: weights as they are (idle is 0), µs for each second, bytes (in a
    /// second), tasks;
    /// `u64::MAX` is no limit.
    #[must_use]
    pub fn number(self, value: &SettingValue) -> u64 {
        let amount = |amount: Amount, whole| amount.on(whole).unwrap_or(u64::MAX);
        match value {
            SettingValue::Bandwidth(bandwidth) => bandwidth.rate,
            SettingValue::Cpu(CpuWeight::Idle) => 0,
            SettingValue::Cpu(CpuWeight::Weight(weight)) | SettingValue::Io(weight) => weight.get(),
            SettingValue::Quota(quota) => quota.microseconds(),
            SettingValue::Memory(memory) => amount(memory.0, self.ram),
            SettingValue::Tasks(tasks) => amount(tasks.0, self.tasks),
        }
    }
}

/// Bytes of a page of memory: arm64 has kernels with 16 and 64 KiB.
#[must_use]
pub fn page() -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

/// A line of `/proc/meminfo`, in bytes: `proc_meminfo(5)`.
#[must_use]
pub fn amount(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1 << 10)
}
