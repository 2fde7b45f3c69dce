//! A user's credentials for access to files, and nothing else of the user.
//!
//! `setfsuid(2)` changes what the kernel checks file access against, for the calling thread alone: no
//! signal, no other thread and no resource limit is touched, as with `seteuid(2)`.
#![forbid(unsafe_code)]

use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use rustix::process::{
    DumpableBehavior, Signal, dumpable_behavior, parent_process_death_signal, set_dumpable_behavior,
    set_parent_process_death_signal,
};

/// While it lives, the calling thread has the user's rights to files. What was before it comes back when
/// it is dropped.
pub struct AsUser {
    before: Option<Before>,
}

struct Before {
    uid: Uid,
    gid: Gid,
    dumpable: DumpableBehavior,
    death_signal: Option<Signal>,
}

impl AsUser {
    /// A process that is not root has no other rights than its own, and keeps them.
    ///
    /// Supplementary groups stay the process's: changing them would reach its other threads.
    ///
    /// # Errors
    /// The kernel does not let go of root's rights, as in a user namespace that does not know the user.
    pub fn take(uid: Uid, gid: Gid) -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { before: None });
        }
        let dumpable = dumpable_behavior().context("asking for PR_GET_DUMPABLE")?;
        let death_signal = parent_process_death_signal().context("asking for PR_GET_PDEATHSIG")?;
        let before = Before { gid: setfsgid(gid), uid: setfsuid(uid), dumpable, death_signal };
        let taken = Self { before: Some(before) };
        // Neither call says whether it worked: a number that is none changes nothing and gives the present.
        let none = u32::MAX;
        if setfsuid(Uid::from_raw(none)) != uid || setfsgid(Gid::from_raw(none)) != gid {
            bail!("setfsuid: the kernel refuses uid {uid}, gid {gid} (a user namespace without them?)");
        }
        Ok(taken)
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        setfsuid(before.uid);
        setfsgid(before.gid);
        // Any change of credentials clears both (commit_creds in the kernel's kernel/cred.c). The
        // sysctl fs.suid_dumpable says to what the first one is cleared; 2 cannot be set from here.
        if dumpable_behavior() != Ok(before.dumpable) {
            let _ = set_dumpable_behavior(before.dumpable);
        }
        let _ = set_parent_process_death_signal(before.death_signal);
    }
}
