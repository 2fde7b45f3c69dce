//! A drill: which loads stand for what the policy declares, and what they are due. Pure functions.
#![forbid(unsafe_code)]

pub mod cpu;
pub mod io;
pub mod kills;
pub mod look;
pub mod memory;
pub mod places;
pub mod rows;

use crate::survey::snapshot::User;
use crate::text::{Foreign, shown};
use crate::units::{ServiceName, SliceName};

/// Whom a load stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// A running service.
    Service(ServiceName),
    /// A user who is logged in, or lingers.
    Login(u32, Foreign),
    /// A slice of the policy's that holds nothing else that runs.
    Slice(SliceName),
}

impl Of {
    /// A user's.
    fn login(user: &User) -> Self {
        let name = user.account.as_ref().map(|account| account.name.clone());
        Self::Login(user.uid, name.unwrap_or_else(|| user.uid.to_string().into()))
    }

    /// The unit; of a login, the user's slice.
    #[must_use]
    pub fn unit(&self) -> String {
        match self {
            Self::Service(service) => service.to_string(),
            Self::Login(uid, _) => SliceName::of_user(*uid).to_string(),
            Self::Slice(slice) => slice.to_string(),
        }
    }

    /// The user's name, of a login; the number where nobody has it.
    #[must_use]
    pub fn user(&self) -> Option<&Foreign> {
        match self {
            Self::Login(_, user) => Some(user),
            Self::Service(_) | Self::Slice(_) => None,
        }
    }

    /// What to call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self.user() {
            Some(user) => format!("{} ({})", self.unit(), shown(user)),
            None => self.unit(),
        }
    }
}
