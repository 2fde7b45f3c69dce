//! The processes of a drill: started, put into scopes by PID 1, set off, and ended, whatever becomes of who started
//! them.
//!
//! Each is this very program. It waits for a word on a pipe that has its other end nowhere else, then has the kernel kill
//! it when the drill ends, in whichever way, and ends by itself in the end. A scope goes with the last process in it.
//!
//! That is, with one that was in it: the kernel moves no process that is about to end and says that it has (`cgroup_migrate`
//! of its `kernel/cgroup/cgroup.c`), and PID 1 keeps a scope that it takes to have one. So nobody ends at once who may be on
//! the way into a scope, and where that was too early PID 1 ends the scope.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio, id};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, ftruncate, open, seek};
use rustix::time::{ClockId, clock_gettime};

use crate::effect::drill::places::{MOST, Placed};
use crate::host::cgroup;
use crate::host::pid1::{Holds, Manager, Scope};
use crate::host::process::set_own_oom_score_adj;
use crate::text::shown;
use crate::units::{OomScoreAdj, SliceName};

/// The command that a load is, which no help shows.
pub const COMMAND: &str = "drill-load";
/// What a load writes once it is ready.
const WORD: [u8; 1] = [b'.'];
/// How long one that was not set off stays when the drill has ended: PID 1 may be about to move it.
const GRACE: Duration = Duration::from_millis(500);
/// After this a load ends by itself.
const LONGEST: Duration = Duration::from_secs(25);
/// How long PID 1 and the loads may take until all are where they belong: a second for ten of them on emulated CPUs,
/// and many where others use those as well.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a load is called, in the kernel's log too.
const NAME: &CStr = c"fairslice-drill";
/// How often is looked whether PID 1 has moved a process.
const PAUSE: Duration = Duration::from_millis(2);
/// A busy load looks at the clock so seldom: what an emulator makes of reading it is not what is measured.
const TURNS: u32 = 200_000;

/// What a load does once it is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Keeps a CPU busy.
    Spin,
    /// Holds so many bytes.
    Hold(usize),
    /// Reads the disk with this number all the time, past the page cache, from one of sixteen parts of it on.
    Read {
        /// The upper half of its number.
        major: u32,
        /// The lower half.
        minor: u32,
        /// Which part.
        part: u64,
    },
    /// Reads as much as it is told, again and again, into the page cache.
    Cache,
}

/// In so many parts a disk is cut, one for each load to begin with.
const PARTS: u64 = MOST as u64;
/// So much is read at once, at places that are multiples of [`ALIGNED`], as a read past the page cache has to be.
const CHUNK: usize = 256 << 10;
const ALIGNED: usize = 4096;

/// Where a load has a file that is all hole, has no name and is gone with it: what it reads of that is page cache and
/// nothing else.
pub(super) const FILES: &str = "var/tmp";
/// So large it is, which no load reads all of; and so much is read at once.
const HOLE: u64 = 64 << 20;
const PIECE: usize = 64 << 10;

/// A process that does it.
#[derive(Debug)]
struct Running {
    child: Child,
    go: ChildStdin,
    answers: ChildStdout,
}

/// Processes that wait, or work. They end with this.
#[derive(Debug)]
pub(super) struct Loads {
    running: Vec<Running>,
    deadline: Instant,
    set_off: bool,
}

/// Where loads are put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The slice of their scope.
    pub(super) slice: &'a SliceName,
    /// The scope's name.
    pub(super) scope: &'a str,
    /// Weights and limits.
    pub(super) resources: &'a [(&'static str, u64)],
    /// Whether those go on that the kernel does not kill: [`Holds::Loads`].
    pub(super) outlive_kills: bool,
    /// Whether they are put into cgroups below the scope: there as well.
    pub(super) delegate: bool,
}

/// The name of a scope of this process's.
#[must_use]
pub(super) fn scope_name(what: impl std::fmt::Display) -> String {
    format!("fairslice-drill-{}-{what}.scope", id())
}

/// Has the kernel end this process with its parent.
///
/// # Errors
/// The kernel refuses.
pub(super) fn end_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("having this process end with its parent")
}

impl Loads {
    /// Starts one for each of these scores and kinds of work; they wait.
    ///
    /// # Errors
    /// One cannot be started, or is not ready in time.
    pub(super) fn start(root: &Path, all: impl Iterator<Item = (OomScoreAdj, Work)>) -> Result<Self> {
        let mut loads = Self { running: Vec::new(), deadline: Instant::now() + PATIENCE, set_off: false };
        for (score, work) in all {
            let mut load = start(root, score, work).context("starting a load")?;
            load.hear(loads.deadline)?;
            loads.running.push(load);
        }
        Ok(loads)
    }

    /// Their numbers.
    #[must_use]
    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(|load| load.child.id()).collect()
    }

    /// Asks for a scope around some of them, by their numbers; gives its cgroup. PID 1 moves them some time after.
    ///
    /// # Errors
    /// PID 1 refuses.
    pub(super) fn put(&self, root: &Path, pids: &[u32], place: &Place<'_>) -> Result<PathBuf> {
        let scope = Scope {
            name: place.scope,
            slice: place.slice,
            description: "A load of fairslice drill",
            documentation: "man:fairslice(1)",
            processes: pids,
            holds: Holds::Loads { outlive_kills: place.outlive_kills, delegate: place.delegate },
            resources: place.resources,
        };
        Manager::below(root).start_scope(&scope, self.deadline)?;
        Ok(place.slice.cgroup_of(place.scope))
    }

    /// Puts each into a scope beside whom it stands for, as soon as PID 1 has done so; gives the scopes' cgroups.
    ///
    /// # Errors
    /// PID 1 refuses, or has not done it in time.
    pub(super) fn put_each(&self, root: &Path, all: &[impl Placed], prefix: &str) -> Result<Vec<PathBuf>> {
        let each = all.iter().zip(self.pids()).enumerate();
        let put = |(at, (load, pid))| {
            let scope = scope_name(format_args!("{prefix}{}", at + 1));
            let (slice, resources) = (&Placed::place(load).slice, Placed::resources(load));
            self.put(
                root,
                &[pid],
                &Place { slice, scope: &scope, resources: &resources, outlive_kills: false, delegate: false },
            )
        };
        let cgroups = each.map(put).collect::<Result<Vec<_>>>()?;
        self.wait_until_in(root, &cgroups)?;
        Ok(cgroups)
    }

    /// Waits until each of all of them is in the cgroup at its place.
    ///
    /// # Errors
    /// PID 1 has not done it in time.
    pub(super) fn wait_until_in(&self, root: &Path, cgroups: &[PathBuf]) -> Result<()> {
        for (pid, cgroup) in self.pids().into_iter().zip(cgroups) {
            while cgroup::of_process(root, &pid.to_string())? != *cgroup {
                if Instant::now() >= self.deadline {
                    bail!(
                        "PID 1 agreed to start {}, but had not done so within {} s: see journalctl -b _PID=1",
                        cgroup::place(cgroup).shown(),
                        PATIENCE.as_secs()
                    );
                }
                sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Sets all of them off in so long a while, at the same moment.
    ///
    /// # Errors
    /// One of them is gone.
    pub(super) fn go(&mut self, after: Duration) -> Result<()> {
        self.set_off = true;
        let at = u64::try_from((uptime() + after).as_nanos())?.to_ne_bytes();
        for load in &mut self.running {
            load.go.write_all(&at).context("setting a load off")?;
        }
        Ok(())
    }

    /// Tells one after the other how many bytes of its file to have in the page cache, and one that holds memory to do so;
    /// waits until each has.
    ///
    /// # Errors
    /// One of them is gone, or has not done it in time.
    pub(super) fn tell_each(&mut self, each: &[u64]) -> Result<()> {
        self.set_off = true;
        let deadline = Instant::now() + PATIENCE;
        for (load, number) in self.running.iter_mut().zip(each) {
            load.go.write_all(&number.to_ne_bytes()).context("telling a load what to do")?;
            load.hear(deadline)?;
        }
        Ok(())
    }

    /// Whether all of them work.
    ///
    /// # Errors
    /// One does not any more.
    pub(super) fn all_run(&mut self) -> Result<()> {
        if !self.ended()?.is_empty() {
            bail!("a load has ended early: see journalctl -b -k for who killed it");
        }
        Ok(())
    }

    /// The places of those that have ended.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(super) fn ended(&mut self) -> Result<Vec<usize>> {
        let mut ended = Vec::new();
        for (at, load) in self.running.iter_mut().enumerate() {
            if load.child.try_wait().context("asking whether a load has ended")?.is_some() {
                ended.push(at);
            }
        }
        Ok(ended)
    }
}

impl Drop for Loads {
    /// Nothing is left to do where one has ended by itself.
    fn drop(&mut self) {
        if !self.set_off {
            sleep(GRACE);
        }
        for load in &mut self.running {
            let _ = load.child.kill();
        }
        for load in &mut self.running {
            let _ = load.child.wait();
        }
    }
}

impl Running {
    /// Waits for a word of it.
    fn hear(&mut self, deadline: Instant) -> Result<()> {
        if !is_readable(&self.answers, deadline)? {
            bail!("a load was not ready within {} s", PATIENCE.as_secs());
        }
        self.answers.read_exact(&mut [0]).context("a load has ended")
    }
}

/// Whether there is something to read, or nobody who could write any more.
fn is_readable(pipe: &impl std::os::fd::AsFd, deadline: Instant) -> Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now()).as_millis();
    let timeout = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
    Ok(poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout)? > 0)
}

fn start(root: &Path, score: OomScoreAdj, work: Work) -> Result<Running> {
    // Also where the package was upgraded meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(env!("CARGO_PKG_NAME")).env_clear();
    if root != Path::new(crate::paths::ROOT) {
        command.arg("--root").arg(root);
    }
    command.args([COMMAND, &id().to_string(), &format!("--score={score}")]);
    match work {
        Work::Spin => {}
        Work::Cache => _ = command.arg("--cache"),
        Work::Hold(bytes) => _ = command.arg(format!("--hold={bytes}")),
        Work::Read { major, minor, part } => {
            command.args([format!("--read={major}:{minor}"), format!("--part={part}")]);
        }
    }
    // In a group of its own, so that Ctrl-C on a terminal ends the drill alone.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn()?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(go), Some(answers)) => Ok(Running { child, go, answers }),
        _ => bail!("no pipe to it"),
    }
}

/// What a load does: for the process that `parent` has started with [`COMMAND`].
///
/// # Errors
/// The parent is another, or the kernel refuses something.
pub fn be(root: &Path, parent: i32, score: OomScoreAdj, work: Work) -> Result<()> {
    let end = Instant::now() + LONGEST;
    if getppid().as_raw() != parent {
        bail!("it is fairslice drill that starts this, and {parent} is not the parent");
    }
    set_name(NAME).context("setting a load's name")?;
    set_own_oom_score_adj(root, score)?;
    let file = match work {
        Work::Read { major, minor, .. } => Some(open_disk(root, major, minor)?),
        Work::Cache => Some(hole(root)?),
        Work::Spin | Work::Hold(_) => None,
    };
    // It is there before the first word: in its own cgroup such a load has nothing but what it reads of its file.
    let piece = vec![1_u8; if work == Work::Cache { PIECE } else { 0 }];
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    let mut say = || stdout.write_all(&WORD).and_then(|()| stdout.flush());
    say().context("answering")?;
    let mut told = [0; 8];
    if stdin.read_exact(&mut told).is_err() {
        sleep(GRACE);
        return Ok(());
    }
    end_with(parent)?;
    if let (Work::Cache, Some(file)) = (work, &file) {
        return cache_until(end, file, piece, told, &mut say);
    }
    sleep(Duration::from_nanos(u64::from_ne_bytes(told)).saturating_sub(uptime()));
    match work {
        Work::Spin => spin_until(end),
        Work::Hold(bytes) => {
            let held = vec![1_u8; bytes];
            say().context("answering")?;
            is_readable(&stdin, end)?;
            drop(black_box(held));
        }
        Work::Read { part, .. } => {
            if let Some(disk) = file {
                read_until(end, &disk, part).context("reading the disk")?;
            }
        }
        Work::Cache => {}
    }
    Ok(())
}

/// Has the kernel end this process with its parent, which may have died before.
fn end_with(parent: i32) -> Result<()> {
    end_with_parent()?;
    if getppid().as_raw() != parent {
        bail!("fairslice drill, process {parent}, has ended");
    }
    Ok(())
}

/// By its number, whatever it is called.
fn open_disk(root: &Path, major: u32, minor: u32) -> Result<File> {
    let path = root.join(format!("dev/block/{major}:{minor}"));
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let disk = open(&path, flags, Mode::empty()).with_context(|| format!("opening {}", shown(&path)))?;
    Ok(File::from(disk))
}

fn hole(root: &Path) -> Result<File> {
    let directory = root.join(FILES);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let make = || -> io::Result<File> {
        let file = open(&directory, flags, Mode::RUSR | Mode::WUSR)?;
        ftruncate(&file, HOLE)?;
        // The kernel reads what it is asked for, and nothing ahead.
        fadvise(&file, 0, None, Advice::Random)?;
        Ok(File::from(file))
    };
    make().with_context(|| format!("making a file without a name in {}", shown(&directory)))
}

/// Reads as much of the file as it is told, each time a piece, and drops all of it where that is nothing.
fn cache_until(
    end: Instant,
    file: &File,
    mut piece: Vec<u8>,
    mut told: [u8; 8],
    say: &mut impl FnMut() -> io::Result<()>,
) -> Result<()> {
    let mut stdin = io::stdin();
    loop {
        let bytes = u64::from_ne_bytes(told).min(HOLE);
        if bytes == 0 {
            fadvise(file, 0, None, Advice::DontNeed)?;
        }
        for at in (0..bytes).step_by(PIECE) {
            let most = usize::try_from(bytes - at).unwrap_or(PIECE).min(PIECE);
            file.read_at(piece.get_mut(..most).unwrap_or_default(), at)?;
        }
        say().context("answering")?;
        if !is_readable(&stdin, end)? || stdin.read_exact(&mut told).is_err() {
            return Ok(());
        }
    }
}

fn read_until(end: Instant, disk: &File, part: u64) -> io::Result<()> {
    let size = seek(disk, SeekFrom::End(0))?;
    let mut buffer = vec![0_u8; CHUNK + ALIGNED];
    let start = buffer.as_ptr().align_offset(ALIGNED);
    let chunk = buffer.get_mut(start..start.saturating_add(CHUNK)).unwrap_or_default();
    let aligned = ALIGNED as u64;
    let mut at = size / PARTS * (part % PARTS) / aligned * aligned;
    while Instant::now() < end {
        match disk.read_at(chunk, at)? {
            // Its end, or all of it.
            0 if at == 0 => return Ok(()),
            0 => at = 0,
            read => at += read as u64 / aligned * aligned,
        }
    }
    Ok(())
}

/// By a clock that is everybody's.
fn uptime() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

fn spin_until(end: Instant) {
    while Instant::now() < end {
        for turn in 0..TURNS {
            black_box(turn);
        }
    }
}
