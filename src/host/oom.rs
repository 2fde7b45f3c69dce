//! Who kills when memory runs out, as it is set up: the kernel, systemd-oomd, earlyoom.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{fgetxattr, fstat};

use super::cgroup_directory::open_cgroup;
use super::directory::entries;
use super::machine::amount;
use super::processes::Process;
use super::unit_file;
use super::units::{Unit, Units};
use super::usage::numbers;
use crate::text::shown;

/// What runs, and how it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oom {
    /// Bytes of RAM: `MemTotal`.
    pub ram: u64,
    /// Bytes of swap: `SwapTotal`.
    pub swap: u64,
    /// Bytes of RAM that can still be used: `MemAvailable`.
    pub available: u64,
    /// Bytes of swap that can still be used: `SwapFree`.
    pub swap_free: u64,
    /// `memory_recursiveprot` of the cgroup2 mount; systemd mounts it so.
    pub recursive: bool,
    /// `vm.oom_kill_allocating_task`: the kernel kills whoever asked for memory last.
    pub kills_allocating: bool,
    /// `vm.panic_on_oom`: the kernel stops the machine instead.
    pub panics: bool,
    /// `None` where it does not run.
    pub oomd: Option<Oomd>,
    /// `None` where its unit does not run.
    pub earlyoom: Option<Earlyoom>,
}

/// The settings of systemd-oomd, `oomd.conf(5)`, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oomd {
    /// `SwapUsedLimit=`
    pub swap_used_limit: String,
    /// `DefaultMemoryPressureLimit=`
    pub pressure_limit: String,
    /// `DefaultMemoryPressureDurationSec=`
    pub pressure_duration: String,
}

/// The command line of earlyoom, `earlyoom(1)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlyoom {
    /// Its process.
    pub pid: u32,
    /// `--prefer`, a regular expression of process names.
    pub prefer: Option<String>,
    /// `--avoid`
    pub avoid: Option<String>,
    /// `--ignore`
    pub ignore: Option<String>,
    /// `--ignore-root-user`
    pub ignores_root: bool,
    /// `--sort-by-rss`
    pub by_resident: bool,
}

/// What systemd-oomd goes by in a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reclaim {
    /// `pgscan` of `memory.stat`: pages that reclaim has looked at.
    pub scanned: u64,
    /// `ManagedOOMPreference=`
    pub preference: Preference,
    /// Whose the cgroup's directory is, who can write the preference too.
    pub owner: u32,
}

/// `ManagedOOMPreference=` of `systemd.resource-control(5)`, which PID 1 writes to the cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// As any other.
    #[default]
    None,
    /// After all others: the attribute `user.oomd_avoid`.
    Avoid,
    /// Never: the attribute `user.oomd_omit`.
    Omit,
}

/// Looks at the machine below `root`.
///
/// # Errors
/// `/proc/meminfo` or a file of oomd's cannot be read.
pub fn read(root: &Path, units: &Units, processes: &[Process]) -> Result<Oom> {
    let file = root.join("proc/meminfo");
    let meminfo = fs::read_to_string(&file).with_context(|| format!("reading {}", shown(&file)))?;
    let is_set = |name| {
        let text = fs::read_to_string(root.join("proc/sys/vm").join(name));
        text.is_ok_and(|text| !matches!(text.trim(), "" | "0"))
    };
    let oomd_runs = units.get("systemd-oomd.service").is_some_and(Unit::is_active);
    let ram = amount(&meminfo, "MemTotal").with_context(|| format!("{} has no MemTotal", shown(&file)))?;
    let swap = amount(&meminfo, "SwapTotal").unwrap_or(0);
    Ok(Oom {
        ram,
        swap,
        available: amount(&meminfo, "MemAvailable").unwrap_or(ram),
        swap_free: amount(&meminfo, "SwapFree").unwrap_or(swap),
        recursive: is_recursive(root),
        kills_allocating: is_set("oom_kill_allocating_task"),
        panics: is_set("panic_on_oom"),
        oomd: if oomd_runs { Some(oomd(root)?) } else { None },
        earlyoom: earlyooms_process(units, processes).map(|pid| earlyoom(root, pid)),
    })
}

/// Bytes of swap that the machine has; `None` where it does not say so.
#[must_use]
pub fn swap(root: &Path) -> Option<u64> {
    amount(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "SwapTotal")
}

/// What PID 1 has started as earlyoom: anybody can give a process that name. It is no process of root's, where
/// its unit says `DynamicUser=`, as Debian's does.
fn earlyooms_process(units: &Units, processes: &[Process]) -> Option<u32> {
    let unit = units.get("earlyoom.service").filter(|unit| unit.is_active())?;
    let main = unit.number("MainPID").and_then(|pid| u32::try_from(pid).ok())?;
    processes.iter().map(|process| process.pid).find(|pid| *pid == main)
}

/// Whether cgroup2 is mounted with `memory_recursiveprot`. Where that cannot be told it is, as systemd
/// mounts it.
#[must_use]
pub fn is_recursive(root: &Path) -> bool {
    fs::read_to_string(root.join("proc/mounts")).map_or(true, |mounts| recursive(&mounts))
}

/// Whether the multi-gen LRU decides what is reclaimed: bit 0 of `/sys/kernel/mm/lru_gen/enabled`
/// (`Documentation/admin-guide/mm/multigen_lru.rst`).
#[must_use]
pub fn has_multi_gen_lru(root: &Path) -> bool {
    let text = fs::read_to_string(root.join("sys/kernel/mm/lru_gen/enabled")).unwrap_or_default();
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).is_ok_and(|bits| bits & 1 != 0)
}

/// Reads what systemd-oomd goes by in a cgroup.
#[must_use]
pub fn reclaim(root: &Path, cgroup: &Path) -> Reclaim {
    let directory = open_cgroup(root, cgroup).ok();
    let has = |name| {
        let mut value = [0_u8; 8];
        let read = directory.as_ref().map(|directory| fgetxattr(directory, name, &mut value[..]));
        read.is_some_and(|read| read.is_ok()) && value.starts_with(b"1")
    };
    let preference = match () {
        () if has("user.oomd_omit") => Preference::Omit,
        () if has("user.oomd_avoid") => Preference::Avoid,
        () => Preference::None,
    };
    let owner = directory.as_ref().and_then(|directory| fstat(directory).ok()).map_or(0, |stat| stat.st_uid);
    let stat = numbers(root, cgroup, "memory.stat");
    let scanned = stat.into_iter().find(|(key, _)| key == "pgscan");
    Reclaim { scanned: scanned.map_or(0, |(_, scanned)| scanned), preference, owner }
}

/// How much of what a cgroup uses is page cache, which reclaim gives back without swap: `inactive_file` and
/// `active_file` of `memory.stat`, in bytes.
#[must_use]
pub fn cache(root: &Path, cgroup: &Path) -> u64 {
    let stat = numbers(root, cgroup, "memory.stat").into_iter();
    let cached = stat.filter(|(key, _)| matches!(key.as_str(), "inactive_file" | "active_file"));
    cached.fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
}

/// Whether cgroup2 is mounted with `memory_recursiveprot`: from `/proc/mounts`.
#[must_use]
pub fn recursive(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind, options) = (fields.next(), fields.next(), fields.next().unwrap_or_default());
        (point, kind) == (Some("/sys/fs/cgroup"), Some("cgroup2"))
            && options.split(',').any(|option| option == "memory_recursiveprot")
    })
}

/// The defaults are those of `oomd.conf(5)`.
fn oomd(root: &Path) -> Result<Oomd> {
    let mut oomd = Oomd {
        swap_used_limit: "90%".to_owned(),
        pressure_limit: "60%".to_owned(),
        pressure_duration: "30s".to_owned(),
    };
    for file in oomd_files(root) {
        for assignment in unit_file::read(root, &file)? {
            match assignment.key.as_str() {
                "SwapUsedLimit" => oomd.swap_used_limit = assignment.value,
                "DefaultMemoryPressureLimit" => oomd.pressure_limit = assignment.value,
                "DefaultMemoryPressureDurationSec" => oomd.pressure_duration = assignment.value,
                _ => {}
            }
        }
    }
    Ok(oomd)
}

/// The main file, then the drop-ins by name; of one name, the first directory's counts.
fn oomd_files(root: &Path) -> Vec<PathBuf> {
    const DIRECTORIES: [&str; 4] = ["etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd"];
    let main = DIRECTORIES.iter().map(|directory| Path::new(directory).join("oomd.conf"));
    let main = main.into_iter().find(|file| root.join(file).exists());
    let mut drop_ins = BTreeMap::new();
    for directory in DIRECTORIES {
        let directory = Path::new(directory).join("oomd.conf.d");
        for name in entries(&root.join(&directory)).unwrap_or_default() {
            if name.as_encoded_bytes().ends_with(b".conf") {
                drop_ins.entry(name.clone()).or_insert_with(|| directory.join(name));
            }
        }
    }
    main.into_iter().chain(drop_ins.into_values()).collect()
}

fn earlyoom(root: &Path, pid: u32) -> Earlyoom {
    let line = fs::read(root.join("proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| shown(OsStr::from_bytes(word)).to_string()).collect();
    let value = |option: &str| {
        let mut following = words.iter().zip(words.iter().skip(1));
        let next = following.find(|(word, _)| *word == option).map(|(_, next)| next.as_str());
        let joined = || words.iter().find_map(|word| word.strip_prefix(option)?.strip_prefix('='));
        next.or_else(joined).map(str::to_owned)
    };
    Earlyoom {
        pid,
        prefer: value("--prefer"),
        avoid: value("--avoid"),
        ignore: value("--ignore"),
        ignores_root: words.iter().any(|word| word == "--ignore-root-user"),
        by_resident: words.iter().any(|word| word == "--sort-by-rss"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::write;

    #[test]
    fn what_kills_is_read_with_its_settings() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/meminfo", "MemTotal:  2000 kB\nMemFree: 1 kB\nSwapTotal: 1000 kB\n");
        let nothing = read(root, &Units::default(), &[]).unwrap();
        let (ram, swap) = (2000 << 10, 1000 << 10);
        let expected = Oom { ram, swap, available: ram, swap_free: swap, recursive: true, ..Oom::default() };
        assert_eq!(nothing, expected);

        write(root, "proc/mounts", "none /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n");
        write(root, "proc/sys/vm/panic_on_oom", "1\n");
        write(root, "proc/sys/vm/oom_kill_allocating_task", "0\n");
        write(root, "etc/systemd/oomd.conf", "[OOM]\n#SwapUsedLimit=1%\nDefaultMemoryPressureLimit=50%\n");
        write(root, "usr/lib/systemd/oomd.conf", "[OOM]\nSwapUsedLimit=2%\n");
        write(root, "usr/lib/systemd/oomd.conf.d/10-a.conf", "[OOM]\nSwapUsedLimit=80%\n");
        write(root, "etc/systemd/oomd.conf.d/10-a.conf", "[OOM]\nDefaultMemoryPressureDurationSec=20s\n");
        let units = Units::parse("Id=systemd-oomd.service\nActiveState=active\n");
        let all = read(root, &units, &[]).unwrap();
        assert!(!all.recursive && all.panics && !all.kills_allocating);
        let oomd = Oomd {
            swap_used_limit: "90%".to_owned(),
            pressure_limit: "50%".to_owned(),
            pressure_duration: "20s".to_owned(),
        };
        assert_eq!(all.oomd, Some(oomd));
    }

    /// Mallory's, in a session, a unit of her own manager's, and a service that runs as her.
    #[test]
    fn what_only_has_earlyooms_name_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "proc/meminfo", "MemTotal:  2000 kB\n");
        let session = "user.slice/user-1001.slice";
        for (pid, cgroup) in [
            (2, format!("{session}/session-1.scope")),
            (3, format!("{session}/user@1001.service/app.slice/earlyoom.service")),
            (4, "system.slice/mallorys.service".to_owned()),
            (5, "system.slice/earlyoom.service".to_owned()),
        ] {
            let stat = format!("{pid} (earlyoom) S 1{}", " 0".repeat(48));
            write(root, &format!("proc/{pid}/stat"), &stat);
            write(root, &format!("proc/{pid}/status"), "Uid:\t61184\t61184\t61184\t61184\n");
            write(root, &format!("proc/{pid}/cgroup"), &format!("0::/{cgroup}\n"));
            write(root, &format!("proc/{pid}/cmdline"), &format!("earlyoom\0--prefer\0{pid}\0"));
            write(root, &format!("proc/{pid}/oom_score"), "0\n");
            write(root, &format!("proc/{pid}/oom_score_adj"), "0\n");
        }
        let processes = super::super::processes::read(root).unwrap();
        assert_eq!(processes.all.len(), 4);
        let believed = |units: &str| {
            let earlyoom = read(root, &Units::parse(units), &processes.all).unwrap().earlyoom;
            earlyoom.map(|earlyoom| (earlyoom.pid, earlyoom.prefer.unwrap()))
        };
        let theirs = "Id=mallorys.service\nActiveState=active\nMainPID=4\n";
        assert_eq!(believed(theirs), None);
        let stopped = "Id=earlyoom.service\nActiveState=inactive\nMainPID=0\n";
        assert_eq!(believed(&format!("{theirs}\n{stopped}")), None);
        let runs = "Id=earlyoom.service\nActiveState=active\nMainPID=5\n";
        assert_eq!(believed(&format!("{theirs}\n{runs}")), Some((5, "5".to_owned())));
    }

    #[test]
    fn recursiveprot_is_an_option_of_that_mount() {
        assert!(recursive("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate,memory_recursiveprot 0 0\n"));
        for other in [
            "cgroup2 /mnt cgroup2 rw,memory_recursiveprot 0 0\n",
            "x /sys/fs/cgroup tmpfs memory_recursiveprot 0 0\n",
        ] {
            assert!(!recursive(other), "{other}");
        }
    }

    #[test]
    fn earlyooms_options_are_those_of_its_command_line() {
        let directory = tempfile::tempdir().unwrap();
        let words = "earlyoom\0-r\x003600\0--prefer\0^(cc1|rustc)$\0--avoid=^(sshd|init)$\0--sort-by-rss\0";
        write(directory.path(), "proc/7/cmdline", words);
        let expected = Earlyoom {
            pid: 7,
            prefer: Some("^(cc1|rustc)$".to_owned()),
            avoid: Some("^(sshd|init)$".to_owned()),
            by_resident: true,
            ..Earlyoom::default()
        };
        assert_eq!(earlyoom(directory.path(), 7), expected);
    }

    #[test]
    fn oomd_goes_by_what_a_cgroup_says() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, "sys/fs/cgroup/a.service/memory.stat", "anon 1\npgscan 42\npgscan_kswapd 40\n");
        let path = root.join("sys/fs/cgroup/a.service");
        let read = || reclaim(root, Path::new("a.service"));
        let owner = nix::unistd::geteuid().as_raw();
        assert_eq!(read(), Reclaim { scanned: 42, preference: Preference::None, owner });
        rustix::fs::setxattr(&path, "user.oomd_avoid", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(read().preference, Preference::Avoid);
        rustix::fs::setxattr(&path, "user.oomd_omit", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(read().preference, Preference::Omit);
    }
}
