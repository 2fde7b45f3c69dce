//! What the policy's `sessions` comes to here.
#![forbid(unsafe_code)]

use std::path::Path;

use super::explain::OURS;
use crate::host::pam;
use crate::host::pam_service::{MANAGER, Opens, opens};
use crate::policy::{Diagnostic, Policy};
use crate::text::shown;

/// PAM services that are named in vain: a warning for each, since the files hold.
#[must_use]
pub fn review(root: &Path, policy: &Policy) -> Vec<Diagnostic> {
    let in_vain = |service: &str| {
        let name = shown(&service);
        if opens(service) == Some(Opens::Login) || service == MANAGER {
            return Some(format!("sessions of {name} are in their user's slice anyway: leave it out"));
        }
        let Some(stack) = pam::own_stack(root, service) else {
            return Some(format!("sessions: there is no PAM service \"{name}\" here (/etc/pam.d/{name})"));
        };
        let is_ours = stack.modules.iter().any(|module| module.name == OURS);
        (!is_ours).then(|| format!("sessions: /etc/pam.d/{name} has no line of {OURS} for sessions"))
    };
    let diagnostic = |(origin, message): (_, String)| Diagnostic::at(origin, message).warning();
    let services = policy.logins.sessions.iter();
    services.filter_map(|service| Some((&service.origin, in_vain(&service.value)?))).map(diagnostic).collect()
}
