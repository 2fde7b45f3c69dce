//! What the doctor has found: one thing that is not as it was meant, with its cost, cause and remedy.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

use crate::host::pam::Module;
use crate::host::unit_file::Assignment;
use crate::paths;
use crate::policy::Origin;
use crate::text::shown;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of finding it is.
    pub code: Code,
    /// Which unit, user, process or file it is about.
    pub subject: String,
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

impl Finding {
    /// What [`Finding::subject`] names, without what is said of it: `user-1000.slice (alice)`.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.subject.split(", ").filter_map(|subject| subject.split(' ').next())
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
    /// `fairslice apply --restart` does it, by a restart of this unit.
    Restart(String),
    /// The administrator's to run or to decide: a command line.
    Command(String),
    /// The administrator's to write: what, in words that name the file.
    Edit(String),
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
    PamLineMissing 40 Severe "a PAM service has no line of pam_fairslice.so";
    PamOrder 41 Severe "pam_fairslice.so stands before pam_systemd.so";
    PamEdited 42 Moderate "the line of pam_fairslice.so is not the packaged one";
    ModuleMissing 43 Severe "a PAM line names pam_fairslice.so, and the file is missing";
    UsePamOff 44 Severe "sshd opens no PAM session";
    LoginOlder 45 Severe "a login is older than the policy and does not have its values";
    TotalWeight 46 Severe "user.slice does not weigh what the policy says";
    DirectoryOwner 50 Severe "a private directory belongs to somebody else";
    DirectoryMode 51 Moderate "a private directory is open to others";
    DirectoryRoot 52 Severe "others can write to the root of private directories";
    DirectoryKind 53 Severe "what lies at a private directory's path is no directory";
    DirectoryRefused 54 Severe "a private directory cannot be made or reached";
    AdoptedChanged 60 Moderate "the command of an adopted unit has changed since";
    CgroupV1 61 Severe "this machine runs cgroup v1: weights and slices need cgroup2 alone";
    SettingIgnored 70 Severe "systemd ignores a setting: a wrong name, or a wrong section";
    SettingOfV1 71 Moderate "a setting of cgroup v1, which systemd is about to ignore";
    ValueRefused 72 Severe "systemd refuses the value of a setting";
    DropInUnused 73 Moderate "a drop-in is for a unit that does not exist";
    MemoryContradiction 74 Moderate "memory limits of one unit contradict one another";
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

/// What follows the ones that are named: ` and 2 more`.
#[must_use]
pub(crate) fn and_more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" and {others} more") }
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
