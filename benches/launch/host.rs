//! What is started, and the machine that it sees.

use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{Contender, Options};

pub(crate) const CAP_SYS_RESOURCE: u32 = 24;
const SLICE: &str = "foundry.slice/foundry-services.slice";
const UNIT: &str = "local-bench.service";
/// What is added to this process's own score where one is to be set: every process may raise its own.
const RAISE: i32 = 100;

pub(crate) struct Setting {
    pub(crate) contenders: Vec<Contender>,
    /// Whether this process has the capability that some of them drop.
    pub(crate) capability: bool,
    pub(crate) noop: PathBuf,
    pub(crate) stop: PathBuf,
    /// Trees of files that stand for machines, until this is dropped.
    trees: Option<tempfile::TempDir>,
}

/// A chain-loader, its name where all is right, and its name where there is something to do.
type Chain = (String, &'static str, &'static str);

/// The names that the goals are about.
pub(crate) mod name {
    pub(crate) const BARE: &str = "bare exec";
    pub(crate) const CHAIN: &str = "C chain-loader, all is right";
    pub(crate) const CHAIN_SET: &str = "C chain-loader, sets and drops";
    pub(crate) const CHAIN_MUSL: &str = "C chain-loader (musl), all is right";
    pub(crate) const CHAIN_MUSL_SET: &str = "C chain-loader (musl), sets and drops";
    pub(crate) const ENV: &str = "env";
    pub(crate) const CHAINED: &str = "choom -n N -- setpriv, drops";
    pub(crate) const LAUNCH: &str = "fairslice-launch, all is right";
    pub(crate) const LAUNCH_SET: &str = "fairslice-launch, sets and drops";
    pub(crate) const LAUNCH_MANY: &str = "fairslice-launch, 10,000 services";
    pub(crate) const SCOPE: &str = "systemd-run --scope --quiet";
}

impl Setting {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let tools = match &options.tools {
            Some(tools) => tools.clone(),
            None => build_tools()?,
        };
        let tool = |name: &str| tools.join(name);
        let live: i32 = fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse()?;
        let status = fs::read_to_string("/proc/self/status")?;
        let ambient = status.lines().find_map(|line| line.strip_prefix("CapAmb:\t")).unwrap_or("0");
        let capability = u64::from_str_radix(ambient, 16)? & 1 << CAP_SYS_RESOURCE != 0;
        let mut setting =
            Self { contenders: Vec::new(), capability, noop: tool("noop"), stop: tool("stop"), trees: None };
        setting.add(name::BARE, &[]);
        let launcher = options.launcher.display().to_string();
        let mut chains = vec![(tool("chain").display().to_string(), name::CHAIN, name::CHAIN_SET)];
        if tool("chain-musl").exists() {
            let chain = tool("chain-musl").display().to_string();
            chains.push((chain, name::CHAIN_MUSL, name::CHAIN_MUSL_SET));
        } else {
            println!("no chain-loader with musl: apt-get install musl-tools");
        }
        if options.vm {
            setting.on_this_machine(&launcher, &chains, live);
        } else {
            setting.on_trees(options, &launcher, &chains, live)?;
        }
        setting.others(live)?;
        Ok(setting)
    }

    fn add(&mut self, name: &'static str, words: &[&str]) -> &mut Contender {
        let words = words.iter().map(|word| (*word).to_owned()).chain([self.noop.display().to_string()]);
        let contender = Contender { name, words: words.collect(), score: None, drops: false, slow: false };
        self.contenders.push(contender);
        self.contenders.last_mut().expect("it was pushed")
    }

    /// On a host: a machine of files for each of the launcher's cases.
    fn on_trees(&mut self, options: &Options, launcher: &str, chains: &[Chain], live: i32) -> Result<()> {
        let trees = tempfile::tempdir()?;
        let tree = |name: &str, score: i32, services: u32| -> Result<String> {
            let tree = trees.path().join(name);
            make_tree(&tree, &options.generator, score, services)?;
            Ok(tree.display().to_string())
        };
        let right = tree("right", live, 1)?;
        let wrong = tree("wrong", live + RAISE, 1)?;
        let many = tree("many", live, 10_000)?;
        self.add(name::LAUNCH, &[launcher, "--root", &right, "--"]).leaves(live);
        self.add(name::LAUNCH_MANY, &[launcher, "--root", &many, "--"]).leaves(live);
        for (chain, is_right, _) in chains {
            self.add(is_right, &[chain, &right, UNIT]).leaves(live);
        }
        if self.capability {
            self.add(name::LAUNCH_SET, &[launcher, "--root", &wrong, "--"]).leaves(live + RAISE).drops = true;
            for (chain, _, sets) in chains {
                self.add(sets, &[chain, &wrong, UNIT]).leaves(live + RAISE).drops = true;
            }
        }
        self.trees = Some(trees);
        Ok(())
    }

    /// In a test machine, where this process is the main one of [`UNIT`], which is as declared; the
    /// score of another service is to be set.
    fn on_this_machine(&mut self, launcher: &str, chains: &[Chain], live: i32) {
        const OTHER: &str = "local-raise.service";
        self.add(name::LAUNCH, &[launcher, "--"]).leaves(live);
        self.add(name::LAUNCH_SET, &[launcher, "--unit", OTHER, "--"]).leaves(live + RAISE).drops = true;
        for (chain, is_right, sets) in chains {
            self.add(is_right, &[chain, "", UNIT]).leaves(live);
            self.add(sets, &[chain, "", OTHER]).leaves(live + RAISE).drops = true;
        }
        self.add(name::SCOPE, &["systemd-run", "--scope", "--quiet"]).slow = true;
        if found("cgexec").is_ok() {
            // Where it is already, by a controller that systemd turns on for every service.
            self.add("cgexec", &["cgexec", "-g", &format!("pids:/{SLICE}/{UNIT}")]);
        }
    }

    fn others(&mut self, live: i32) -> Result<()> {
        const SETPRIV: [&str; 7] = [
            "setpriv",
            "--inh-caps",
            "-sys_resource",
            "--ambient-caps",
            "-sys_resource",
            "--bounding-set",
            "-sys_resource",
        ];
        self.add(name::ENV, &["env"]);
        self.add("nice -n 0", &["nice", "-n", "0"]);
        self.add("choom -n 0 --", &["choom", "-n", "0", "--"]);
        if self.capability {
            self.add("setpriv, drops", &SETPRIV).drops = true;
            let score = (live + RAISE).to_string();
            let chained = self.add(name::CHAINED, &[&["choom", "-n", &score, "--"], &SETPRIV[..]].concat());
            (chained.score, chained.drops) = (Some(live + RAISE), true);
        }
        // Searching PATH would be a cost of the search, and not the same for all.
        for contender in &mut self.contenders {
            for word in
                contender.words.iter_mut().filter(|word| ["choom", "setpriv"].contains(&word.as_str()))
            {
                *word = found(word)?;
            }
            contender.words[0] = found(&contender.words[0])?;
        }
        Ok(())
    }
}

fn found(program: &str) -> Result<String> {
    let mut places =
        ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().map(|place| Path::new(place).join(program));
    let path = places.find(|path| path.exists()).with_context(|| format!("{program}: not installed"))?;
    Ok(path.display().to_string())
}

/// A machine where [`UNIT`] is in its slice, which the generator itself has made ready for systemd.
fn make_tree(tree: &Path, generator: &Path, score: i32, services: u32) -> Result<()> {
    let generated = tree.join("run/systemd/generator");
    for directory in ["etc/fairslice", "proc/self", "run/systemd/system", "run/systemd/generator"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::write(tree.join("proc/self/cgroup"), format!("0::/{SLICE}/{UNIT}\n"))?;
    symlink("/proc/self/oom_score_adj", tree.join("proc/self/oom_score_adj"))?;
    symlink("/proc/meminfo", tree.join("proc/meminfo"))?;
    let mut policy =
        "[slice.\"foundry-services.slice\"]\nmatch = [\"local-*\"]\ncpu_weight = 200\n".to_owned();
    writeln!(policy, "[service.local-bench]\noom_score_adj = {score}")?;
    for other in 1..services {
        writeln!(policy, "[service.local-other{other}]\noom_score_adj = 1")?;
    }
    fs::write(tree.join("etc/fairslice/policy.toml"), policy)?;
    let output = Command::new(generator).arg("--root").args([tree, &generated]).output()?;
    ensure!(output.status.success(), "generator: {}", String::from_utf8_lossy(&output.stderr));
    let made = fs::read_dir(&generated)?.count();
    ensure!(made >= services as usize, "the generator made {made} directories for {services} services");
    Ok(())
}

/// Compiles the C programs, as static as the launcher.
fn build_tools() -> Result<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-launch");
    fs::create_dir_all(&tools)?;
    let compile = |compiler: &str, options: &[&str], source: &str, tool: &str| {
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/launch").join(source);
        let mut compiler = Command::new(compiler);
        compiler.args(["-std=gnu11", "-static", "-O2", "-Wall", "-Wextra", "-o"]).arg(tools.join(tool));
        compiler.args(options).arg(text).status().is_ok_and(|status| status.success())
    };
    let built = compile("cc", &["-nostdlib"], "noop.c", "noop")
        && compile("cc", &[], "stop.c", "stop")
        && compile("cc", &[], "chain.c", "chain");
    ensure!(built, "the C programs do not build: apt-get install gcc libc6-dev");
    // Debian's musl comes without the kernel's headers; those of the C library's package do.
    let own = format!("/usr/include/{ARCH}-linux-gnu");
    let kernel = ["-idirafter", "/usr/include", "-idirafter", own.as_str()];
    compile("musl-gcc", &kernel, "chain.c", "chain-musl");
    Ok(tools)
}
