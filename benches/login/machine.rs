//! The machine that the sessions are opened on, and what each contender has in its PAM configuration.

use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::User;
use tempfile::TempDir;

use crate::Options;

/// The names that the goals are about.
pub(crate) mod name {
    pub(crate) const BASE: &str = "pam_permit";
    pub(crate) const LIMITS: &str = "pam_limits";
    pub(crate) const UNIX: &str = "pam_unix";
    pub(crate) const TMPDIR: &str = "pam_tmpdir";
    pub(crate) const SYSTEMD: &str = "pam_systemd";
    pub(crate) const NOTHING: &str = "pam_fairslice, nothing to change";
    pub(crate) const DIRECTORY: &str = "pam_fairslice, directory to check";
    pub(crate) const WEIGHT: &str = "pam_fairslice, weight to set";
}

/// In a test machine, this user has a session that stays open.
const USER_OF_VM: &str = "alice";
/// Elsewhere, a user that this process alone knows of.
const USER: &str = "bench-login";
const UID: u32 = 59_999;
const POLICY: &str = include_str!("../../packaging/policy.toml");
/// Where that policy has its private directories, which it makes where the workspace is there.
const WORKSPACE: &str = "srv/foundry";
const PRIVATE_DIRS: &str = "srv/foundry/cargo-target";
/// What that policy declares, and something else.
const WEIGHT: u32 = 100;
const WRONG_WEIGHT: u32 = 150;

/// What a session of `pam_fairslice` finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// All is right, and the policy's private directory does not apply.
    Right,
    /// The private directory is there, to be checked.
    Directory,
    /// And the weight of the user's slice is another than declared.
    WrongWeight,
}

/// A module, in a session that else is `pam_permit` alone.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// The module with its arguments; `None` of the base.
    module: Option<String>,
    found: Option<Found>,
    /// A variable that the session then has.
    variable: Option<&'static str>,
    /// It takes so long that it does not have its turn in each round, and does its work only in a process
    /// outside the slices of users.
    pub(crate) registers: bool,
}

impl Contender {
    /// Its PAM service.
    pub(crate) fn service(&self) -> String {
        self.name.replace([' ', ',', '/'], "-")
    }
}

pub(crate) struct Machine {
    pub(crate) user: User,
    /// Where `pam_fairslice` looks everything up.
    root: PathBuf,
    pub(crate) configuration: PathBuf,
    /// benches/login/session.c, built.
    pub(crate) program: PathBuf,
    /// The log below the root, where that is not the machine's own.
    log: Option<UnixDatagram>,
    work: TempDir,
}

impl Machine {
    /// The test machine that this process runs in, as root, in a scope of the user's slice.
    pub(crate) fn of_vm(options: &Options) -> Result<Self> {
        let user = User::from_name(USER_OF_VM)?.with_context(|| format!("no user {USER_OF_VM}"))?;
        let work = tempfile::tempdir()?;
        let configuration = work.path().join("pam.d");
        let program = options.program.clone();
        Ok(Self { user, root: "/".into(), configuration, program, log: None, work })
    }

    /// A mount namespace of this process with one user more, and a tree of files that stands for what
    /// `pam_fairslice` reads.
    pub(crate) fn of_files(options: &Options) -> Result<Self> {
        let work = tempfile::tempdir()?;
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755))?;
        enter_namespace(work.path(), &options.peers)?;
        let user = User::from_name(USER)?.with_context(|| format!("{USER} is in passwd and not found"))?;
        chown(&user.dir, Some(UID), Some(UID))?;
        let root = work.path().join("root");
        let slice = root.join(format!("sys/fs/cgroup/user.slice/user-{UID}.slice"));
        let directories =
            ["dev", "etc/fairslice", "proc/self", "run/systemd/system", "run/systemd/generator"];
        for directory in
            directories.map(|name| root.join(name)).iter().chain([&slice, &root.join(PRIVATE_DIRS)])
        {
            fs::create_dir_all(directory)?;
        }
        fs::write(root.join("etc/fairslice/policy.toml"), POLICY)?;
        fs::write(
            root.join("proc/self/cgroup"),
            format!("0::/user.slice/user-{UID}.slice/session-1.scope\n"),
        )?;
        fs::write(root.join("proc/self/oom_score_adj"), "0\n")?;
        symlink("/proc/meminfo", root.join("proc/meminfo"))?;
        for group in [&slice, &root.join("sys/fs/cgroup/user.slice")] {
            fs::write(group.join("cpu.weight"), format!("{WEIGHT}\n"))?;
        }
        let generated = root.join("run/systemd/generator");
        let output = Command::new(&options.generator).arg("--root").args([&root, &generated]).output()?;
        ensure!(output.status.success(), "generator: {}", String::from_utf8_lossy(&output.stderr));
        let log = UnixDatagram::bind(root.join("dev/log"))?;
        log.set_nonblocking(true)?;
        let configuration = work.path().join("pam.d");
        let program = options.program.clone();
        Ok(Self { user, root, configuration, program, log: Some(log), work })
    }

    /// The contenders, the base first, each with its configuration.
    pub(crate) fn contenders(&self, options: &Options) -> Result<Vec<Contender>> {
        let peer = |name, module: &str| Contender {
            name,
            module: Some(module.to_owned()),
            found: None,
            variable: None,
            registers: false,
        };
        let ours = |name, found, variable| {
            let at = self.root.display();
            let argument = if self.log.is_some() { format!(" root={at}") } else { String::new() };
            let module = Some(format!("{}{argument}", options.module.display()));
            Contender { name, module, found: Some(found), variable, registers: false }
        };
        let target_dir = Some("CARGO_TARGET_DIR");
        let mut contenders = vec![
            Contender { module: None, ..peer(name::BASE, "") },
            peer("pam_env", "pam_env.so"),
            peer(name::LIMITS, "pam_limits.so"),
            peer(name::UNIX, "pam_unix.so"),
            Contender { variable: Some("TMPDIR"), ..peer(name::TMPDIR, &tmpdir(&options.peers)?) },
            peer("pam_mkhomedir, home exists", "pam_mkhomedir.so"),
            peer("pam_exec /bin/true", "pam_exec.so /bin/true"),
            ours(name::NOTHING, Found::Right, None),
            ours(name::DIRECTORY, Found::Directory, target_dir),
        ];
        if options.vm {
            contenders.push(ours(name::WEIGHT, Found::WrongWeight, target_dir));
            let systemd = peer(name::SYSTEMD, "pam_systemd.so");
            contenders.push(Contender { variable: Some("XDG_SESSION_ID"), registers: true, ..systemd });
        }
        fs::create_dir_all(&self.configuration)?;
        fs::write(self.configuration.join("other"), "")?;
        for contender in &contenders {
            self.configure(&contender.service(), contender.module.iter().map(String::as_str))?;
        }
        Ok(contenders)
    }

    fn configure<'a>(&self, service: &str, modules: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut lines = String::new();
        for module in ["pam_permit.so"].into_iter().chain(modules) {
            writeln!(lines, "session required {module}")?;
        }
        Ok(fs::write(self.configuration.join(service), lines)?)
    }

    /// Makes it what the contender's session is to find.
    pub(crate) fn prepare(&self, contender: &Contender) -> Result<()> {
        let Some(found) = contender.found else { return Ok(()) };
        let there = self.root.join(WORKSPACE);
        let away = there.with_extension("away");
        match found {
            Found::Right if there.exists() => fs::rename(&there, &away)?,
            Found::Directory | Found::WrongWeight if away.exists() => fs::rename(&away, &there)?,
            _ => {}
        }
        let wanted = if found == Found::WrongWeight { WRONG_WEIGHT } else { WEIGHT };
        if self.weight()? != wanted {
            fs::write(self.weight_file(), wanted.to_string())?;
        }
        Ok(())
    }

    /// That a session set the weight, if it had to. PID 1 writes it a moment after it has answered.
    pub(crate) fn check_weight(&self, contender: &Contender) -> Result<()> {
        let started = Instant::now();
        while contender.found == Some(Found::WrongWeight) && self.weight()? != WEIGHT {
            ensure!(started.elapsed() < Duration::from_secs(5), "{}: it was not set", contender.name);
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn weight_file(&self) -> PathBuf {
        self.root.join(format!("sys/fs/cgroup/user.slice/user-{}.slice/cpu.weight", self.user.uid))
    }

    fn weight(&self) -> Result<u32> {
        let file = self.weight_file();
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        text.trim().parse().with_context(|| format!("{}: {text}", file.display()))
    }

    /// A figure is worth nothing if the work was not done: opens a session that tells its environment.
    pub(crate) fn check(&self, contender: &Contender, open: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        let told = self.work.path().join("environment");
        let tell = format!("pam_exec.so log={} /usr/bin/env", told.display());
        self.configure("check", contender.module.iter().map(String::as_str).chain([&*tell]))?;
        self.prepare(contender)?;
        let _ = fs::remove_file(&told);
        open("check")?;
        let environment = fs::read_to_string(&told)?;
        ensure!(environment.contains("PAM_TYPE=open_session"), "{}: {environment}", contender.name);
        for variable in ["CARGO_TARGET_DIR", "TMPDIR", "XDG_SESSION_ID"] {
            let has = environment.lines().any(|line| line.starts_with(&format!("{variable}=")));
            ensure!(
                has == (contender.variable == Some(variable)),
                "{}: {variable}: {has}: {environment}",
                contender.name
            );
        }
        self.check_weight(contender)?;
        let mut line = [0; 1024];
        match self.log.as_ref().map(|log| log.recv(&mut line)) {
            Some(Ok(length)) => bail!("{}: {}", contender.name, String::from_utf8_lossy(&line[..length])),
            Some(Err(error)) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Gives this process mounts of its own: one user more, and what `pam_tmpdir` needs.
fn enter_namespace(work: &Path, peers: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own: this needs root")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    let bind = |from: &Path, over: &str| -> Result<()> {
        mount(Some(from), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).with_context(|| over.to_owned())
    };
    let home = work.join("home");
    fs::create_dir(&home)?;
    let home = home.display();
    for (file, line) in [
        ("passwd", format!("{USER}:x:{UID}:{UID}::{home}:/bin/sh\n")),
        ("group", format!("{USER}:x:{UID}:\n")),
    ] {
        let (copy, original) = (work.join(file), format!("/etc/{file}"));
        fs::write(&copy, fs::read_to_string(&original)? + &line)?;
        bind(&copy, &original)?;
    }
    let security = work.join("security");
    let copied = Command::new("cp").args(["-a", "/etc/security"]).arg(&security).status()?;
    ensure!(copied.success(), "cp: {copied}");
    fs::write(security.join("tmpdir.conf"), format!("tmpdir={}\n", work.join("tmp").display()))?;
    bind(&security, "/etc/security")?;
    // The module knows its helper by an absolute path; it is set-user-ID.
    let sbin = work.join("sbin");
    let helper = sbin.join("pam-tmpdir-helper");
    fs::create_dir(&sbin)?;
    fs::copy(find(peers, "pam-tmpdir-helper", &["usr/sbin", "sbin"])?, &helper)?;
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o4755))?;
    let layers = format!("lowerdir={}:/usr/sbin", sbin.display());
    mount(Some("overlay"), "/usr/sbin", Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .context("an overlay on /usr/sbin")
}

/// The module of `libpam-tmpdir`, which is unpacked below `peers`, `/` where it is installed.
fn tmpdir(peers: &Path) -> Result<String> {
    let security = ["usr/lib", "lib"].map(|lib| format!("{lib}/{ARCH}-linux-gnu/security"));
    Ok(find(peers, "pam_tmpdir.so", &security.each_ref().map(String::as_str))?.display().to_string())
}

/// Debian 12 has its files outside `/usr` in the package, Debian 13 has not.
fn find(below: &Path, file: &str, directories: &[&str]) -> Result<PathBuf> {
    let mut places = directories.iter().map(|directory| below.join(directory).join(file));
    places.find(|place| place.exists()).with_context(|| format!("no {file} below {}", below.display()))
}
