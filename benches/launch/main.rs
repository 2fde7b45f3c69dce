//! What `fairslice-launch` costs: the time, system calls, page faults, memory and instructions that it
//! adds to an exec, beside programs that do parts of the same. `make bench-launch`; exit 0 whatever the
//! figures are.
//!
//! Each contender executes a static no-op, which is also started bare. A round starts each of them once,
//! in random order, so that a machine that gets slower or faster meanwhile does so for all; what a
//! contender adds is the median of its differences from the bare exec of the same round. Time runs from
//! `posix_spawn` to the child being reaped, with all descriptors on `/dev/null` and two variables.
//! Everything runs on one CPU, which halves the spread.
//!
//! On a host, the machine that the launcher sees is a tree of files with the real `oom_score_adj`, because
//! a benchmark may not move processes; with `--vm`, it is the machine itself. All of it runs in a user
//! namespace, where a process can have an ambient `CAP_SYS_RESOURCE` to lose.
//!
//! hyperfine measures its commands one after the other (its issue 21); zenbench shuffles, but gives means
//! of many calls in one process; neither counts what is counted here.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "nothing depends on a benchmark: it may fail by panicking"
)]

mod host;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod trace;

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};

use crate::host::Setting;
use crate::shared::{Random, stay_on_one_cpu};
use crate::table::Measured;

/// Of a contender that takes a hundred times as long as the others, one start in this many rounds.
const SLOW: u32 = 10;
const WARM_UP: u32 = 2 * SLOW;

struct Options {
    launcher: PathBuf,
    generator: PathBuf,
    /// Where the C programs are; built first if there is no such option.
    tools: Option<PathBuf>,
    rounds: u32,
    seed: u64,
    vm: bool,
    inside: bool,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let mut options = Self {
            launcher: env!("CARGO_BIN_EXE_fairslice-launch").into(),
            generator: env!("CARGO_BIN_EXE_fairslice-generator").into(),
            tools: None,
            rounds: 2000,
            seed: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
            vm: false,
            inside: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("launcher") => options.launcher = PathBuf::from(parser.value()?).canonicalize()?,
                Long("generator") => options.generator = PathBuf::from(parser.value()?).canonicalize()?,
                Long("tools") => options.tools = Some(PathBuf::from(parser.value()?).canonicalize()?),
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("vm") => options.vm = true,
                // "This process is in the user namespace".
                Long("inside") => options.inside = true,
                // What "cargo bench" adds.
                Long("bench") => {}
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

/// What is started: a command line that ends in the no-op.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) words: Vec<String>,
    /// What the command is to have in the end: this OOM score, and the capability no more.
    pub(crate) score: Option<i32>,
    pub(crate) drops: bool,
    pub(crate) slow: bool,
}

impl Contender {
    /// Says which score it is to leave.
    fn leaves(&mut self, score: i32) -> &mut Self {
        self.score = Some(score);
        self
    }

    fn start(&self, null: &File) -> Result<Duration> {
        let mut command = command(&self.words);
        command.stdin(null.try_clone()?).stdout(null.try_clone()?).stderr(null.try_clone()?);
        let started = Instant::now();
        let status = command.spawn().with_context(|| self.words.join(" "))?.wait()?;
        let taken = started.elapsed();
        ensure!(status.success(), "{}: {status}: {}", self.name, self.words.join(" "));
        Ok(taken)
    }

    /// A figure is worth nothing if the work was not done: looks at a command that was executed.
    fn check(&self, capability: bool) -> Result<()> {
        let mut words = self.words.clone();
        words.pop();
        let ask = "cat /proc/self/oom_score_adj; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status";
        words.extend(["/bin/sh", "-c", ask].map(str::to_owned));
        let output = command(&words).output().with_context(|| words.join(" "))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "{}: {}: {said}", self.name, output.status);
        let answer = String::from_utf8(output.stdout)?;
        let mut lines = answer.lines();
        let score: i32 = lines.next().context("no score")?.parse()?;
        ensure!(self.score.is_none_or(|wanted| wanted == score), "{}: OOM score {score}", self.name);
        for line in lines.filter(|_| capability) {
            let (set, bits) = line.split_once(":\t").context("no capability set")?;
            let has = u64::from_str_radix(bits, 16)? & 1 << host::CAP_SYS_RESOURCE != 0;
            ensure!(has != self.drops, "{}: CAP_SYS_RESOURCE in {set}: {has}", self.name);
        }
        Ok(())
    }
}

/// In an environment of two variables.
pub(crate) fn command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C");
    command
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-launch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    if !options.inside && !options.vm {
        enter_namespace(&options)?;
    }
    let setting = Setting::new(&options)?;
    stay_on_one_cpu()?;
    for contender in &setting.contenders {
        contender.check(setting.capability)?;
    }
    println!(
        "{} rounds in random order, seed {}; one in {SLOW} for what is slow",
        options.rounds, options.seed
    );
    let mut measured = measure(&setting.contenders, &options)?;
    for (measured, contender) in measured.iter_mut().zip(&setting.contenders).skip(1) {
        measured.counts = Some(trace::counts(contender, &setting, !options.vm)?);
    }
    println!("\n{}", table::table(&measured));
    println!("{}", table::goals(&measured, options.vm));
    Ok(())
}

/// Starts this program again where it has the capability; returns where that cannot be.
fn enter_namespace(options: &Options) -> Result<()> {
    let enter = ["unshare", "--user", "--map-root-user", "setpriv", "--inh-caps", "+sys_resource"];
    let mut probe = Command::new(enter[0]);
    probe.args(&enter[1..]).args(["--ambient-caps", "+sys_resource", "true"]).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("no user namespaces here: the contenders that drop a capability are left out");
        return Ok(());
    }
    let mut again = Command::new(enter[0]);
    again.args(&enter[1..]).args(["--ambient-caps", "+sys_resource"]).arg(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).args(["--inside", "--seed", &options.seed.to_string()]);
    Err(again.exec()).context("unshare")
}

/// Every contender's times, in the order of the rounds.
fn measure(contenders: &[Contender], options: &Options) -> Result<Vec<Measured>> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let mut random = Random(options.seed);
    let mut measured: Vec<Measured> =
        contenders.iter().map(|contender| Measured::new(contender.name)).collect();
    for round in 0..WARM_UP + options.rounds {
        let turn = |contender: &Contender| !contender.slow || round % SLOW == 0;
        let mut order: Vec<usize> = (0..contenders.len()).filter(|index| turn(&contenders[*index])).collect();
        random.shuffle(&mut order);
        for index in order {
            let taken = contenders[index].start(&null)?;
            if round >= WARM_UP {
                measured[index].times.insert(round, taken);
            }
        }
    }
    Ok(measured)
}
