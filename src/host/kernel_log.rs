//! What the kernel says from now on: `/dev/kmsg`, the kernel's `Documentation/ABI/testing/dev-kmsg`.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::OFlags;

use crate::text::utf8_of;

/// No record is longer: `PRINTK_MESSAGE_MAX`.
const LONGEST: usize = 8192;

/// The log, from a point on.
#[derive(Debug)]
pub struct KernelLog(File);

impl KernelLog {
    /// From now on.
    ///
    /// # Errors
    /// This is not root, or a container without it.
    pub fn from_now(root: &Path) -> Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        let open = || {
            let mut file = OpenOptions::new().read(true).custom_flags(flags).open(root.join("dev/kmsg"))?;
            file.seek(SeekFrom::End(0))?;
            Ok::<_, std::io::Error>(Self(file))
        };
        open().context("reading the kernel's log, /dev/kmsg")
    }

    /// Whom the kernel has killed since, for want of memory, in its order.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn killed(&mut self) -> Result<Vec<u32>> {
        let (mut record, mut killed) = (vec![0; LONGEST], Vec::new());
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(killed),
                Ok(length) => killed.extend(victim(&utf8_of(record.get(..length).unwrap_or_default()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(killed),
                // What came before has been overwritten.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("reading the kernel's log, /dev/kmsg"),
            }
        }
    }
}

/// The victim in a record of `__oom_kill_process` in the kernel's `mm/oom_kill.c`. Of what processes write there
/// themselves, the first number says so: their facility is not 0.
fn victim(record: &str) -> Option<u32> {
    let (prefix, text) = record.split_once(';')?;
    let level: u32 = prefix.split(',').next()?.parse().ok()?;
    let (_, rest) = text.split_once(": Killed process ").filter(|_| level < 8)?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_victim_is_the_kernels_word() {
        let said =
            "Memory cgroup out of memory: Killed process 812 (fairslice) total-vm:9000kB, anon-rss:4200kB";
        assert_eq!(victim(&format!("3,1012,78345678,-;{said}\n")), Some(812));
        // A process has written it.
        assert_eq!(victim(&format!("11,1012,78345678,-;{said}\n")), None);
        for other in ["", "3,1,2,-", "3,1,2,-;oom_reaper: reaped process 812 (fairslice)", " SUBSYSTEM=pci"] {
            assert_eq!(victim(other), None, "{other}");
        }
    }
}
