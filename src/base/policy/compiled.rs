//! The policy as logins read it: compiled, because reading the text would take half of a login's time, and with it
//! the module would carry a parser.
//!
//! The generator writes it, and so does `fairslice apply`. Logins read nothing else: what is in force for them is
//! what was applied, whatever has become of the files since.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Policy;
use crate::bounded::read_bounded;
use crate::trust::{self, Refusal};
use crate::{memory, paths};

/// Only what these very sources have written is read, see `build.rs`: nothing else says what the bytes mean.
/// Module and generator are built apart, and so no feature changes what is serialized.
const VERSION: &str = env!("FAIRSLICE_SOURCES");

/// How often its size the policy takes of memory: 15 bytes of a rule become 400.
const PER_BYTE: usize = 64;

/// What logins are given.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ForLogins {
    /// What is wrong with the policy files, in one line for the log of each login.
    pub wrong: Option<String>,
    /// What a login needs of the policy. No value knows where it was declared.
    pub policy: Policy,
}

impl ForLogins {
    /// The bytes that [`for_logins`] reads from [`paths::COMPILED`].
    #[must_use]
    pub fn compiled(&self) -> Vec<u8> {
        // Only memory could be missing, and then it is no policy of this version.
        postcard::to_allocvec(&(VERSION, self)).unwrap_or_default()
    }
}

/// Why there is no policy for logins.
#[derive(Debug)]
pub enum Unusable {
    /// Nobody has written one since the boot.
    Missing,
    /// It cannot be read, or others than root can change it.
    Refused(Refusal),
    /// Another build of fairslice has written it, or it is damaged.
    Foreign,
}

/// The policy that is in force for logins below `root`.
///
/// # Errors
/// There is none that can be used.
pub fn for_logins(root: &Path) -> Result<ForLogins, Unusable> {
    let bytes = bytes_for_logins(root).map_err(|refusal| match refusal {
        Refusal::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => Unusable::Missing,
        refusal => Unusable::Refused(refusal),
    })?;
    let (version, rest): (&str, _) = postcard::take_from_bytes(&bytes).map_err(|_| Unusable::Foreign)?;
    if version != VERSION {
        return Err(Unusable::Foreign);
    }
    postcard::from_bytes(rest).map_err(|_| Unusable::Foreign)
}

/// The same, as it lies there.
///
/// # Errors
/// It cannot be read, or others than root can change it.
pub fn bytes_for_logins(root: &Path) -> Result<Vec<u8>, Refusal> {
    let file = trust::open_own(root, Path::new(paths::COMPILED))?;
    let bytes = read_bounded(file).map_err(Refusal::Unreadable)?;
    if memory::is_there_for(PER_BYTE * bytes.len()) {
        Ok(bytes)
    } else {
        Err(Refusal::Unreadable(io::ErrorKind::OutOfMemory.into()))
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no policy is in force for logins: /{} ", paths::COMPILED)?;
        match self {
            Self::Missing => f.write_str("is not there")?,
            Self::Refused(Refusal::Unreadable(error)) => write!(f, "cannot be read: {error}")?,
            Self::Refused(Refusal::Exposed(exposed)) => write!(f, "is not used: {exposed}")?,
            Self::Foreign => f.write_str("is of another version")?,
        }
        f.write_str(": run \"fairslice apply\"")
    }
}
