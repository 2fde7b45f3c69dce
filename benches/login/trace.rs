//! How many system calls a session makes, counted with ptrace(2). The helpers that a module starts are
//! not counted.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::machine::Machine;

/// Opens and closes a session of this service, stopping at each system call between the two stops that
/// the program makes by itself.
pub(crate) fn system_calls(machine: &Machine, service: &str) -> Result<u32> {
    let mut command = Command::new(&machine.program);
    command.arg(&machine.configuration).arg(&machine.user.name).arg(service);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let process = Pid::from_raw(child.id().try_into()?);
    let mut calls = 0;
    let mut started = false;
    loop {
        match waitpid(process, None)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) if started => break,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {
                let calls_apart = ptrace::Options::PTRACE_O_TRACESYSGOOD;
                ptrace::setoptions(process, calls_apart | ptrace::Options::PTRACE_O_EXITKILL)?;
                started = true;
                ptrace::syscall(process, None)?;
            }
            WaitStatus::PtraceSyscall(_) => {
                let call = ptrace::syscall_info(process)?;
                calls += u32::from(call.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
                ptrace::syscall(process, None)?;
            }
            WaitStatus::Stopped(_, signal) => ptrace::syscall(process, signal)?,
            ended => bail!("{service}: {ended:?} within the session"),
        }
    }
    ptrace::detach(process, None)?;
    match waitpid(process, None)? {
        WaitStatus::Exited(_, 0) => Ok(calls),
        ended => bail!("{service}: {ended:?}"),
    }
}
