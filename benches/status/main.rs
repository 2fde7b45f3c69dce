//! What `fairslice status` takes with 10,000 cgroups, beside programs that walk the same tree, and what `fairslice
//! doctor` takes where it finds something of a thousand of them:
//! `make bench-status`; exit 0 whatever the figures are.
//!
//! The machine that all of them see is a tree of files in /dev/shm: one slice of a policy's with a hundred
//! services, 20 logins, and thousands of other services, each with a process. cgroupfs itself makes its
//! text at each read, which takes a little longer. The controllers are those that systemd hands on: the
//! cpuset one only where `AllowedCPUs=` asks for it. A round starts each contender once, in random order.
//! The peers know of no policy and compute nothing; `systemd-cgls` refuses a tree that is no cgroupfs.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "nothing depends on a benchmark: it may fail by panicking"
)]

#[allow(dead_code, reason = "what is measured here may use all CPUs")]
#[path = "../shared/mod.rs"]
mod shared;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};

use crate::shared::{Random, Times, aligned, verdicts};

const CGROUPS: usize = 10_000;
const DECLARED: usize = 100;
const LOGINS: usize = 20;
const FINDINGS: usize = 1_000;
const WARM_UP: u32 = 2;
const POLICY: &str = "[slice.\"foundry-services.slice\"]\nmatch = [\"local-*\"]\ncpu_weight = 200\n\
                      [logins]\ncpu_weight = 100\n";

struct Options {
    fairslice: PathBuf,
    rounds: u32,
    seed: u64,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let mut options = Self {
            fairslice: env!("CARGO_BIN_EXE_fairslice").into(),
            rounds: 30,
            seed: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("fairslice") => options.fairslice = PathBuf::from(parser.value()?).canonicalize()?,
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                // What "cargo bench" adds.
                Long("bench") => {}
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

struct Contender {
    name: &'static str,
    words: Vec<String>,
    /// What its output has to hold, to show that it did its work.
    says: &'static str,
}

fn contenders(fairslice: &Path, root: &Path) -> Vec<Contender> {
    let (fairslice, below) = (fairslice.display().to_string(), root.display().to_string());
    let tree = root.join("sys/fs/cgroup").display().to_string();
    let contender = |name, words: &[&str], says| Contender {
        name,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        says,
    };
    vec![
        contender("fairslice status", &[&fairslice, "--root", &below, "status"], "9,880 more"),
        contender(
            "fairslice status NAME",
            &[&fairslice, "--root", &below, "status", "local-7"],
            "all siblings",
        ),
        contender(
            "fairslice status --json",
            &[&fairslice, "--root", &below, "status", "--json"],
            "other-9000.service",
        ),
        contender("fairslice doctor", &[&fairslice, "--root", &below, "doctor"], "FS013"),
        contender("fairslice report", &[&fairslice, "--root", &below, "report"], "9,880 more"),
        contender("find, directories", &["find", &tree, "-type", "d"], "other-9000.service"),
        contender(
            "find, and a read of cpu.weight",
            &["grep", "-r", "--include=cpu.weight", "", &tree],
            "other-9000.service",
        ),
    ]
}

impl Contender {
    fn run(&self) -> Result<Duration> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("LC_ALL", "C.UTF-8");
        let started = Instant::now();
        let output = command.output().with_context(|| self.words.join(" "))?;
        let taken = started.elapsed();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(text.contains(self.says), "{}: it does not do its work: {said}", self.name);
        Ok(taken)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-status: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let root = directory.path();
    machine(root)?;
    let contenders = contenders(&options.fairslice, root);
    println!("{} rounds in random order, seed {}", options.rounds, options.seed);
    let mut random = Random(options.seed);
    let mut times: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    for round in 0..WARM_UP + options.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        random.shuffle(&mut order);
        for index in order {
            let taken = contenders[index].run()?;
            if round >= WARM_UP {
                times[index].insert(round, taken);
            }
        }
    }
    let mut rows = vec![["milliseconds", "starts", "median", "10th", "99th"].map(str::to_owned)];
    for (contender, times) in contenders.iter().zip(&times) {
        let figure = |percent| format!("{:.0}", times.percentile(percent) / 1000.0);
        rows.push([contender.name.to_owned(), times.count().to_string(), figure(50), figure(10), figure(99)]);
    }
    println!("\n{}", aligned(&rows));
    println!(
        "{}",
        verdicts(&[
            ("ms, fairslice status, 10,000 cgroups", times[0].percentile(50) / 1000.0, 150.0),
            (
                "times fairslice status --json, fairslice doctor",
                times[3].percentile(50) / times[2].percentile(50),
                2.0
            ),
            ("ms, fairslice report, 10,000 cgroups", times[4].percentile(50) / 1000.0, 3000.0),
        ])
    );
    Ok(())
}

/// The tree of files.
fn machine(root: &Path) -> Result<()> {
    write(root, "etc/fairslice/policy.toml", POLICY)?;
    write(root, "proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 9000000 kB\nSwapTotal: 0 kB\n")?;
    write(root, "proc/self/cgroup", "0::/\n")?;
    write(root, "sys/devices/system/cpu/online", "0-1\n")?;
    let mut slices: Vec<String> =
        ["", "foundry.slice", "foundry.slice/foundry-services.slice", "system.slice", "user.slice"]
            .map(str::to_owned)
            .into();
    let mut services: Vec<String> =
        (0..DECLARED).map(|n| format!("foundry.slice/foundry-services.slice/local-{n}.service")).collect();
    for uid in 4_000_000_000..4_000_000_000 + LOGINS {
        slices.push(format!("user.slice/user-{uid}.slice"));
        services.push(format!("user.slice/user-{uid}.slice/session-{uid}.scope"));
    }
    let others = CGROUPS - services.len();
    services.extend((0..others).map(|n| format!("system.slice/other-{n}.service")));
    for slice in &slices {
        cgroup(root, slice, None)?;
        let is_below = |path: &&String| *path != slice && Path::new(path).starts_with(slice);
        let below = slices.iter().chain(&services).filter(is_below).count();
        let stat = format!("nr_descendants {below}\nnr_dying_descendants 0\n");
        write(root, &format!("sys/fs/cgroup/{slice}/cgroup.stat"), &stat)?;
    }
    for (index, service) in services.iter().enumerate() {
        cgroup(root, service, Some(index + 2))?;
    }
    // Of the last, PID 1 has another weight than the kernel.
    let unit = |(index, service): (usize, &String)| {
        let weight = if services.len() - index <= FINDINGS { "200" } else { "[not set]" };
        let (slice, name) = service.rsplit_once('/').unwrap_or(("-.slice", service));
        let slice = slice.rsplit('/').next().unwrap_or(slice);
        let main =
            if name.ends_with(".service") { format!("MainPID={}\n", index + 2) } else { String::new() };
        format!(
            "Id={name}\nLoadState=loaded\nActiveState=active\nSlice={slice}\nControlGroup=/{service}\nCPUWeight={weight}\n{main}"
        )
    };
    let units: Vec<String> = services.iter().enumerate().map(unit).collect();
    write(root, "run/systemd/show", &units.join("\n"))?;
    Ok(())
}

fn cgroup(root: &Path, path: &str, pid: Option<usize>) -> Result<()> {
    let controllers = "cpuset cpu io memory pids\n";
    let handed_on = "cpu memory pids\n";
    let pressure =
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    let procs = pid.map(|pid| format!("{pid}\n")).unwrap_or_default();
    let weight = if path.starts_with("foundry.slice") && pid.is_none() { "200\n" } else { "100\n" };
    for (name, text) in [
        ("cgroup.controllers", if path.is_empty() { controllers } else { handed_on }),
        ("cgroup.subtree_control", if pid.is_none() { handed_on } else { "" }),
        ("cgroup.events", "populated 1\nfrozen 0\n"),
        ("cgroup.procs", &procs),
        ("pids.current", "1\n"),
        ("pids.max", "max\n"),
        ("pids.events", "max 0\n"),
        ("pids.events.local", "max 0\n"),
        ("cpu.weight", weight),
        ("cpu.max", "max 100000\n"),
        ("cpu.stat", "usage_usec 1000\nuser_usec 600\nsystem_usec 400\n"),
        ("memory.current", "1048576\n"),
        ("memory.min", "0\n"),
        ("memory.low", "0\n"),
        ("memory.high", "max\n"),
        ("memory.max", "max\n"),
        ("memory.swap.current", "0\n"),
        ("memory.swap.max", "max\n"),
        ("memory.oom.group", "0\n"),
        ("cpu.pressure", pressure),
        ("memory.pressure", pressure),
        ("io.pressure", pressure),
    ] {
        write(root, &format!("sys/fs/cgroup/{path}/{name}"), text)?;
    }
    let Some(pid) = pid else { return Ok(()) };
    for (name, text) in [
        ("cgroup", format!("0::/{path}\n")),
        ("oom_score", "666\n".to_owned()),
        ("oom_score_adj", "0\n".to_owned()),
    ] {
        write(root, &format!("proc/{pid}/{name}"), &text)?;
    }
    for name in ["stat", "status"] {
        fs::copy(format!("/proc/self/{name}"), root.join(format!("proc/{pid}/{name}")))?;
    }
    Ok(())
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    fs::create_dir_all(path.parent().context("no parent")?)?;
    fs::write(&path, text).with_context(|| path.display().to_string())
}
