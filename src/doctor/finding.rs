//! What the doctor has found: one thing that is not as it was meant, with its cost, cause and remedy.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::host::pam::Module;
use crate::paths;
use crate::policy::Origin;
use crate::survey::Winner;
use crate::text::{quoted, shown};
use crate::units::file::Assignment;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of finding it is.
    pub code: Code,
    /// Which unit, user, process or file it is about.
    pub subject: Subjects,
    /// What is wrong, in one line without the subject: `memory_min = 600M protects nothing`.
    pub what: String,
    /// What that comes to, where it can be told: `declared 2 : 1 against a login, effective 1 : 1`.
    pub cost: Option<String>,
    /// Why, in one line.
    pub cause: String,
    /// Where the cause stands.
    pub at: Option<Place>,
    /// What to do.
    pub fix: Fix,
}

/// What a finding is about: one thing, or several that have one cause.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subjects(Vec<Subject>);

/// One thing that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    /// A unit, a user, a file, a PAM service: what it is told from others by.
    name: String,
    /// As it is printed: `user-1000.slice (alice)`.
    text: String,
}

impl Subjects {
    /// One thing, and what is printed of it.
    #[must_use]
    pub fn printed(name: &str, text: String) -> Self {
        Self(vec![Subject { name: name.to_owned(), text }])
    }

    /// What each is told from others by: the unit's name, for a unit.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|subject| subject.name.as_str())
    }

    /// Whether this is among them.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// All of these, each once.
    #[must_use]
    pub fn of<'s>(each: impl Iterator<Item = &'s Self>) -> Self {
        let mut known = BTreeSet::new();
        Self(each.flat_map(|subjects| &subjects.0).filter(|next| known.insert(*next)).cloned().collect())
    }
}

impl<S: Into<String>> From<S> for Subjects {
    fn from(name: S) -> Self {
        let name = name.into();
        Self(vec![Subject { text: name.clone(), name }])
    }
}

/// Each once.
impl<S: Into<String>> FromIterator<S> for Subjects {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let each: Vec<Self> = names.into_iter().map(Self::from).collect();
        Self::of(each.iter())
    }
}

impl fmt::Display for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, subject) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            f.write_str(&subject.text)?;
        }
        Ok(())
    }
}

/// A file, and a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The absolute path.
    pub file: PathBuf,
    /// Counted from 1; `None` where it is about the whole file.
    pub line: Option<usize>,
}

/// What to do about a [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// `fairslice apply` does it, now and without a restart; so does `fairslice doctor --fix`.
    Apply,
    /// `fairslice apply --restart` does it, by a restart of these units.
    Restart(Vec<String>),
    /// The administrator's to run or to decide: a command line.
    Command(String),
    /// The administrator's to write: what, in words that name the file.
    Edit(String),
}

impl Fix {
    /// The command line that does it, where one does.
    #[must_use]
    pub fn command(&self) -> Option<String> {
        match self {
            Self::Apply => Some("fairslice apply".to_owned()),
            Self::Restart(units) => Some(match units.as_slice() {
                [unit] => format!("systemctl restart {}", quoted(unit)),
                _ => "fairslice apply --restart".to_owned(),
            }),
            Self::Command(command) => Some(command.clone()),
            Self::Edit(_) => None,
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something that was declared, or that everybody relies on, is not so.
    Severe,
    /// It holds less than it seems to, or will cease to.
    Moderate,
    /// Worth knowing.
    Minor,
}

/// Declares [`Code`] from one table, the worst first: the manual page lists the same.
macro_rules! codes {
    ($($name:ident $number:literal $severity:ident $title:literal;)*) => {
        /// The kind of a finding. Its number never changes and is never used again.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(clippy::doc_markdown, reason = "the titles are printed as well")]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its number: 12 is printed as `FS012`.
            #[must_use]
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What it is about, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    PolicyBroken 1 Severe "the policy has errors and is not in force";
    FragmentBroken 2 Severe "a policy fragment has errors and is left out";
    PolicyExposed 3 Severe "a policy file that somebody else than root can change is not used";
    DropInMissing 10 Severe "what the policy says has not reached PID 1: no daemon-reload since, or no generator";
    Shadowed 11 Severe "another drop-in or unit file overrides the policy's value";
    SetProperty 12 Severe "a value of \"systemctl set-property\" overrides the policy's";
    NotWritten 13 Severe "PID 1 knows the value and has not written it to the cgroup";
    CgroupChanged 14 Severe "the cgroup's value was written behind PID 1's back";
    WrongSlice 15 Severe "a service runs outside of its slice and needs a restart";
    LeftOver 16 Moderate "a process of an earlier start is left in another slice";
    MovedByHand 17 Severe "a process is not in the cgroup of its unit";
    ControllerOff 20 Severe "a controller is not enabled for the cgroup: the setting has no effect";
    AncestorWeight 21 Severe "the weight competes inside of an ancestor whose own weight decides";
    Siblings 22 Moderate "siblings leave a smaller share than was declared";
    AncestorProtection 23 Severe "a memory protection without its ancestor's protects nothing";
    Overcommitted 24 Moderate "memory protections sum to more than there is";
    CeilingAboveRam 25 Moderate "a memory ceiling above the RAM limits nothing";
    CeilingAboveAncestors 26 Moderate "a memory ceiling above an ancestor's is not the one that holds";
    CpuLimited 27 Moderate "cpu.max or the cpuset leaves less than the weight's share";
    LowDelays 28 Moderate "memory.low only delays reclaim under the multi-gen LRU";
    WeightRounded 29 Moderate "a small weight counts more than it says on so many CPUs";
    ScoreNotSet 30 Severe "a process does not have its unit's OOM score";
    ScoreChanged 31 Moderate "a service has changed its OOM score itself";
    Unkillable 32 Severe "a login or build process that the OOM killer never takes";
    ScoreOnSshd 33 Severe "OOMScoreAdjust=-1000 on the ssh service makes every login unkillable";
    KillOrder 34 Severe "the kill order is not the declared one";
    OomGroup 35 Moderate "an OOM kill takes the whole cgroup, or less than was meant";
    MemoryStalled 36 Severe "a unit stands still at a memory limit: little of what it uses can be reclaimed";
    MemoryKilled 37 Moderate "processes are killed at a memory limit";
    ForksRefused 38 Severe "forks are refused: there are as many tasks as the limit allows";
    CpuThrottled 39 Minor "a unit is stopped by its CPU quota most of the time";
    PamLineMissing 40 Severe "a PAM service has no line of pam_fairslice.so";
    PamOrder 41 Severe "pam_fairslice.so stands before pam_systemd.so";
    PamEdited 42 Moderate "the line of pam_fairslice.so is not the packaged one";
    ModuleMissing 43 Severe "a PAM line names pam_fairslice.so, and the file is missing";
    UsePamOff 44 Severe "sshd opens no PAM session";
    LoginOlder 45 Severe "a login is older than the policy and does not have its values";
    TotalWeight 46 Severe "user.slice does not weigh what the policy says";
    OutsideSlice 47 Moderate "processes of a user run outside of the user's slice, whose limits do not hold there";
    NeedsRestart 48 Moderate "a service was started before a setting of the policy's that only its next start brings";
    CeilingWaits 49 Minor "a ceiling of the policy's waits: more is used than it allows";
    DirectoryOwner 50 Severe "a private directory belongs to somebody else";
    DirectoryMode 51 Moderate "a private directory is open to others";
    DirectoryRoot 52 Severe "others can write to the root of private directories";
    DirectoryKind 53 Severe "what lies at a private directory's path is no directory";
    DirectoryRefused 54 Severe "a private directory cannot be made or reached";
    DirectoryOthers 55 Severe "in a private directory lies what belongs to somebody else";
    VariableOverridden 56 Severe "a startup file sets a private directory's variable to something else";
    AdoptedChanged 60 Moderate "a unit runs the command that it had when it was adopted";
    CgroupV1 61 Severe "this machine runs cgroup v1: weights and slices need cgroup2 alone";
    NotLaunched 62 Moderate "a unit starts without the launcher that the policy declares for it";
    LauncherOutdated 63 Moderate "the launcher stands before other commands than those of now";
    SettingIgnored 70 Severe "systemd ignores a setting: a wrong name, or a wrong section";
    SettingOfV1 71 Moderate "a setting of cgroup v1, which systemd is about to ignore";
    ValueRefused 72 Severe "systemd refuses the value of a setting";
    DropInUnused 73 Moderate "a drop-in is for a unit that does not exist";
    MemoryContradiction 74 Moderate "memory limits of one unit contradict one another";
    ReadInPart 75 Severe "systemd does not read a unit file to its end";
    BfqRounds 76 Moderate "BFQ makes less of an I/O weight than it says";
    IoWeightInPart 77 Minor "an I/O weight decides nothing on some of the disks: these go by no weights";
    SchedExt 78 Moderate "a sched_ext scheduler is loaded: CPU weights are what it makes of them";
    IoWeightIgnored 79 Moderate "an I/O weight decides nothing: no disk goes by weights";
    VendorProtection 80 Moderate "a package's memory protection without its ancestor's protects nothing";
    PayloadElsewhere 81 Severe "limits of a daemon do not hold for the containers or machines that it starts";
    NameUnmatched 82 Moderate "the policy names a service that there is not, and another is called nearly so";
    SwapLimit 83 Minor "a limit of swap on a machine without any";
    NothingBeside 84 Minor "a weight decides nothing: nothing is beside the unit";
}

impl Place {
    /// A whole file, also by its path below the root.
    #[must_use]
    pub fn of_file(file: impl AsRef<Path>) -> Self {
        Self { file: paths::absolute(file), line: None }
    }
}

impl From<&Assignment> for Place {
    fn from(Assignment { file, line, .. }: &Assignment) -> Self {
        Self { file: paths::absolute(file), line: Some(*line) }
    }
}

impl From<&Winner> for Place {
    fn from(Winner { file, set, .. }: &Winner) -> Self {
        Self { file: file.clone(), line: set.as_ref().map(|(line, _)| *line) }
    }
}

impl From<&Module> for Place {
    fn from(Module { file, line, .. }: &Module) -> Self {
        Self { file: paths::absolute(file), line: Some(*line) }
    }
}

impl From<&Origin> for Place {
    fn from(Origin { file, line, .. }: &Origin) -> Self {
        Self { file: file.to_path_buf(), line: Some(*line) }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FS{:03}", self.number())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", shown(&self.file)),
            None => shown(&self.file).fmt(f),
        }
    }
}

/// The findings in the order in which they are shown: the worst first, each once.
#[must_use]
pub fn sorted(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| (finding.code.severity(), finding.code.number());
        key(a).cmp(&key(b)).then_with(|| a.subject.cmp(&b.subject)).then_with(|| a.what.cmp(&b.what))
    });
    findings.dedup();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_for_two_codes() {
        let mut numbers: Vec<u16> = Code::ALL.iter().map(|code| code.number()).collect();
        let all = numbers.len();
        numbers.dedup();
        assert!(numbers.is_sorted() && numbers.len() == all);
        assert_eq!(Code::SetProperty.to_string(), "FS012");
    }
}
