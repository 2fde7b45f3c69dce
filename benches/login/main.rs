//! What `pam_fairslice.so` costs: the time, system calls and page faults that it adds to a PAM session,
//! beside modules that do parts of the same, or that every login has. `make bench-login`; exit 0 whatever
//! the figures are.
//!
//! A session is `pam_permit`, which does nothing, and the contender. Each is opened and closed in a fresh
//! child of a small C program, as in a login: the module is loaded, does its work and is unloaded. Time
//! runs from before `pam_start` to after `pam_end`. A round has one session of each contender, in random
//! order, so that a machine that gets slower or faster meanwhile does so for all; what a contender adds is
//! the median of its differences from `pam_permit` alone in the same round. Everything runs on one CPU.
//!
//! On a host, the user is one that only this process's mount namespace knows of, and what `pam_fairslice`
//! reads is a tree of files (`root=`) but for `/proc/meminfo`: a benchmark may not move processes between
//! cgroups, nor touch the machine's accounts. With `--vm`, it is the machine itself: this process runs as
//! root in a scope of the user's slice, where `pam_fairslice` has a weight to look after. "weight to set"
//! means that another one was written to the cgroup just before, which PID 1 is then told to put right.
//! `pam_systemd` registers no session in there, so it is measured in a process of a service; another
//! session of the user is open all the time, so it has no `systemd --user` to start.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "nothing depends on a benchmark: it may fail by panicking"
)]

mod machine;
#[path = "../shared/mod.rs"]
mod shared;
mod table;
mod trace;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};

use crate::machine::{Contender, Machine};
use crate::shared::{Random, stay_on_one_cpu};
use crate::table::Measured;

/// What registers a session takes a hundred times as long as the others: one in this many rounds.
const SLOW: u32 = 5;
const WARM_UP: u32 = 2 * SLOW;

struct Options {
    /// session.c, built.
    program: PathBuf,
    module: PathBuf,
    generator: PathBuf,
    /// Where `libpam-tmpdir` is unpacked.
    peers: PathBuf,
    rounds: u32,
    seed: u64,
    vm: bool,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let mut options = Self {
            program: PathBuf::new(),
            module: "pam_fairslice.so".into(),
            generator: env!("CARGO_BIN_EXE_fairslice-generator").into(),
            peers: "/".into(),
            rounds: 1000,
            seed: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
            vm: false,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("session") => options.program = PathBuf::from(parser.value()?).canonicalize()?,
                Long("module") => options.module = PathBuf::from(parser.value()?).canonicalize()?,
                Long("generator") => options.generator = PathBuf::from(parser.value()?).canonicalize()?,
                Long("peers") => options.peers = PathBuf::from(parser.value()?).canonicalize()?,
                Long("rounds") => options.rounds = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("vm") => options.vm = true,
                // What "cargo bench" adds.
                Long("bench") => {}
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

/// The C program, which opens sessions when it is told to.
struct Server {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

struct Session {
    taken: Duration,
    faults: u32,
    descriptors: i32,
}

impl Server {
    fn start(machine: &Machine, before: &[&str]) -> Result<Self> {
        let mut words = before.iter().map(Into::into).chain([machine.program.clone()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg(&machine.configuration).arg(&machine.user.name);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, orders, answers })
    }

    fn session(&mut self, service: &str) -> Result<Session> {
        writeln!(self.orders, "{service}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let numbers: Result<Vec<i64>, _> = answer.split_whitespace().map(str::parse).collect();
        let Ok(&[nanoseconds, faults, descriptors, opened, closed]) = numbers.as_deref() else {
            anyhow::bail!("{service}: {answer:?}");
        };
        ensure!((opened, closed) == (0, 0), "{service}: opening came to {opened}, closing to {closed}");
        Ok(Session {
            taken: Duration::from_nanos(nanoseconds.try_into()?),
            faults: faults.try_into()?,
            descriptors: descriptors.try_into()?,
        })
    }

    fn stop(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let status = child.wait()?;
        ensure!(status.success(), "session.c: {status}");
        Ok(())
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-login: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The servers: this process's child, and in a test machine one in a service.
struct Servers {
    here: Server,
    in_service: Option<Server>,
}

impl Servers {
    fn start(machine: &Machine, options: &Options) -> Result<Self> {
        let cpu = format!("CPUAffinity={}", stay_on_one_cpu()?);
        let service = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--property", &cpu];
        let in_service = options.vm.then(|| Server::start(machine, &service)).transpose()?;
        Ok(Self { here: Server::start(machine, &[])?, in_service })
    }

    /// A session of `service`, where this contender does its work.
    fn session(&mut self, contender: &Contender, service: &str) -> Result<Session> {
        let there = self.in_service.as_mut().filter(|_| contender.registers);
        there.unwrap_or(&mut self.here).session(service)
    }

    fn stop(self) -> Result<()> {
        self.here.stop()?;
        self.in_service.map_or(Ok(()), Server::stop)
    }
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    let machine = if options.vm { Machine::of_vm(&options)? } else { Machine::of_files(&options)? };
    let contenders = machine.contenders(&options)?;
    let mut servers = Servers::start(&machine, &options)?;
    for contender in &contenders {
        let checked = machine.check(contender, |service| servers.session(contender, service).map(drop));
        checked.context(contender.name)?;
    }
    println!("{} rounds in random order, seed {}", options.rounds, options.seed);
    if options.vm {
        println!("one session in {SLOW} rounds for what registers it with logind");
    }
    let mut measured = measure(&machine, &contenders, &mut servers, &options)?;
    servers.stop()?;
    for (measured, contender) in measured.iter_mut().zip(&contenders).filter(|(_, one)| !one.registers) {
        machine.prepare(contender)?;
        measured.calls = Some(trace::system_calls(&machine, &contender.service())?);
    }
    println!("\n{}", table::table(&measured));
    println!("{}", table::goals(&measured, options.vm));
    Ok(())
}

fn measure(
    machine: &Machine,
    contenders: &[Contender],
    servers: &mut Servers,
    options: &Options,
) -> Result<Vec<Measured>> {
    let mut random = Random(options.seed);
    let mut measured: Vec<Measured> = contenders.iter().map(|one| Measured::new(one.name)).collect();
    for round in 0..WARM_UP + options.rounds {
        let turn = |contender: &Contender| !contender.registers || round % SLOW == 0;
        let mut order: Vec<usize> = (0..contenders.len()).filter(|index| turn(&contenders[*index])).collect();
        random.shuffle(&mut order);
        for index in order {
            let contender = &contenders[index];
            machine.prepare(contender)?;
            let session = servers.session(contender, &contender.service())?;
            machine.check_weight(contender)?;
            if round >= WARM_UP {
                let measured = &mut measured[index];
                measured.times.insert(round, session.taken);
                measured.faults.push(session.faults);
                measured.descriptors = measured.descriptors.max(session.descriptors);
            }
        }
    }
    Ok(measured)
}
