//! What a contender does between its own exec and that of the no-op, counted with ptrace(2).

use std::ffi::{CStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::host::Setting;
use crate::{Contender, command};

#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// System calls, the last exec with them.
    pub(crate) calls: u64,
    pub(crate) faults: u64,
    /// Peak of resident memory, in KiB, when the last exec begins.
    pub(crate) memory: u64,
    /// Instructions in user space; a repeated one (`rep movsb`) counts once. One step at a time,
    /// because virtual machines often have no counters.
    pub(crate) instructions: Option<u64>,
    /// Those of them that leave a virtual machine, which takes microseconds.
    pub(crate) cpuids: Option<u64>,
    /// What was opened for writing.
    pub(crate) written: Vec<PathBuf>,
}

/// Runs a contender to its end twice, stopping at system calls and, if wanted, at each instruction.
pub(crate) fn counts(contender: &Contender, setting: &Setting, instructions: bool) -> Result<Counts> {
    let mut counts = system_calls(contender, setting)?;
    if instructions {
        let (instructions, cpuids) = steps(contender, setting)?;
        (counts.instructions, counts.cpuids) = (Some(instructions), Some(cpuids));
    }
    Ok(counts)
}

/// Starts a contender that waits to be told to go on, just before its exec.
fn start(contender: &Contender, setting: &Setting) -> Result<Pid> {
    let words = [&[setting.stop.display().to_string()], &contender.words[..]].concat();
    let mut command = command(&words);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let process = Pid::from_raw(child.id().try_into()?);
    match waitpid(process, None)? {
        WaitStatus::Stopped(..) => {}
        other => bail!("{}: {other:?}", setting.stop.display()),
    }
    let calls_apart = ptrace::Options::PTRACE_O_TRACESYSGOOD;
    let not_to_outlive_us = ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(process, calls_apart | not_to_outlive_us | ptrace::Options::PTRACE_O_TRACEEXEC)?;
    Ok(process)
}

fn system_calls(contender: &Contender, setting: &Setting) -> Result<Counts> {
    let process = start(contender, setting)?;
    let mut counts = Counts::default();
    let mut faults_before = None;
    let mut signal = None;
    loop {
        ptrace::syscall(process, signal.take())?;
        match waitpid(process, None)? {
            WaitStatus::PtraceEvent(..) if is(process, &setting.noop) => break,
            WaitStatus::PtraceEvent(..) if faults_before.is_none() => faults_before = Some(faults(process)?),
            WaitStatus::PtraceSyscall(_) if faults_before.is_some() && entering(process)? => {
                counts.calls += 1;
                look_at_call(process, &mut counts, faults_before.unwrap_or(0))?;
            }
            WaitStatus::PtraceSyscall(_) | WaitStatus::PtraceEvent(..) => {}
            WaitStatus::Stopped(_, other) => signal = Some(other),
            ended => bail!("{}: {ended:?} before the no-op", contender.name),
        }
    }
    finish(process)?;
    Ok(counts)
}

fn entering(process: Pid) -> Result<bool> {
    Ok(ptrace::syscall_info(process)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// Notes what can be known only now: later the memory is another program's.
fn look_at_call(process: Pid, counts: &mut Counts, faults_before: u64) -> Result<()> {
    let registers = ptrace::getregs(process)?;
    let (path, flags) = match libc::c_long::try_from(registers.orig_rax)? {
        libc::SYS_execve | libc::SYS_execveat => {
            counts.faults = faults(process)? - faults_before;
            counts.memory = counts.memory.max(memory(process)?);
            return Ok(());
        }
        libc::SYS_open => (registers.rdi, registers.rsi),
        libc::SYS_openat => (registers.rsi, registers.rdx),
        libc::SYS_creat => (registers.rdi, 1),
        _ => return Ok(()),
    };
    if flags & 3 != 0 {
        counts.written.push(path_at(process, path)?);
    }
    Ok(())
}

fn path_at(process: Pid, address: u64) -> Result<PathBuf> {
    let mut bytes = vec![0; 4096];
    let length = fs::File::open(format!("/proc/{process}/mem"))?.read_at(&mut bytes, address)?;
    bytes.truncate(length);
    let path = CStr::from_bytes_until_nul(&bytes).context("a path without an end")?;
    Ok(OsString::from_vec(path.to_bytes().to_vec()).into())
}

/// The instructions, and how many of them are `cpuid`.
fn steps(contender: &Contender, setting: &Setting) -> Result<(u64, u64)> {
    let process = start(contender, setting)?;
    let (mut steps, mut cpuids, mut started, mut last) = (0, 0, false, 0);
    let mut signal = None;
    loop {
        if started {
            ptrace::step(process, signal.take())?;
        } else {
            ptrace::cont(process, signal.take())?;
        }
        match waitpid(process, None)? {
            WaitStatus::PtraceEvent(..) if is(process, &setting.noop) => break,
            WaitStatus::PtraceEvent(..) => started = true,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                let at = ptrace::getregs(process)?.rip;
                let next = ptrace::read(process, at as ptrace::AddressType)?;
                steps += u64::from(at != last);
                cpuids += u64::from(next & 0xffff == 0xa20f);
                last = at;
            }
            WaitStatus::Stopped(_, other) => signal = Some(other),
            ended => bail!("{}: {ended:?} before the no-op", contender.name),
        }
    }
    finish(process)?;
    Ok((steps, cpuids))
}

fn finish(process: Pid) -> Result<()> {
    ptrace::detach(process, None)?;
    ensure!(matches!(waitpid(process, None)?, WaitStatus::Exited(_, 0)), "the no-op failed");
    Ok(())
}

fn is(process: Pid, program: &Path) -> bool {
    fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|running| running == program)
}

/// Faults that needed no disk, `proc_pid_stat(5)`.
fn faults(process: Pid) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("no name in stat")?.1;
    Ok(after_name.split(' ').nth(7).context("stat is short")?.parse()?)
}

/// The larger of what is resident, exactly, and its peak, which some kernels count in batches.
fn memory(process: Pid) -> Result<u64> {
    let of = |file: &str, key: &str| -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{process}/{file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| key.to_owned())?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok(of("status", "VmHWM:")?.max(of("smaps_rollup", "Rss:")?))
}
