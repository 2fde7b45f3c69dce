//! How the I/O of a process is scheduled.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Stdio;
use std::str;

use super::program::program;

/// `ionice(1)`, of util-linux: the kernel shows it in no file.
const IONICE: &str = "usr/bin/ionice";

/// The class of a process, as `IOSchedulingClass=` has it: what `ioprio_get(2)` says. `None` where it is gone or
/// nobody can tell, and below a root of its own, where there are no processes.
#[must_use]
pub fn of(root: &Path, pid: u32) -> Option<String> {
    if root != Path::new("/") {
        return None;
    }
    let mut command = program(IONICE);
    command.args(["-p", &pid.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    parse(str::from_utf8(&command.output().ok()?.stdout).ok()?)
}

/// `best-effort: prio 4`, `idle`.
fn parse(said: &str) -> Option<String> {
    let class = said.trim().split(':').next()?;
    (!class.is_empty()).then(|| class.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_ionice_says_begins_with_the_class() {
        for (said, class) in
            [("best-effort: prio 4\n", Some("best-effort")), ("idle\n", Some("idle")), ("", None)]
        {
            assert_eq!(super::parse(said).as_deref(), class, "{said}");
        }
    }
}
