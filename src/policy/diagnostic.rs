//! What is wrong with a policy, and where.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Origin;
use crate::text::shown;
use crate::trust::Exposed;

/// The most errors that are told of one file: what somebody would mend before looking again. A file of
/// nothing but errors must not hold up a login.
pub(super) const MOST_ERRORS: usize = 100;

/// What a diagnostic means for the file it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The file is not used.
    Error,
    /// The file is used; what it says comes to nothing on this machine.
    Warning,
}

/// One thing that is wrong with a policy; `Display` writes one line.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// What it means for the file.
    pub severity: Level,
    /// The policy file, as it was looked up.
    pub file: Arc<Path>,
    /// Line and column, counted from 1, where it is about a place in the file.
    pub position: Option<(usize, usize)>,
    /// What was found, what was expected, what to do.
    pub message: String,
    /// Who else than root can change the file, which is not used for that.
    pub exposed: Option<Exposed>,
}

impl Diagnostic {
    /// About a whole file.
    pub(super) fn file(file: &Arc<Path>, message: impl Into<String>) -> Self {
        let (severity, message) = (Level::Error, message.into());
        Self { severity, file: Arc::clone(file), position: None, message, exposed: None }
    }

    /// About a file that somebody else than root can change.
    pub(super) fn exposed(file: &Arc<Path>, exposed: Exposed) -> Self {
        let message = format!("is not used: {exposed}: {}", shown(&exposed.remedy()));
        Self { exposed: Some(exposed), ..Self::file(file, message) }
    }

    /// About a place in a file.
    pub(crate) fn at(origin: &Origin, message: impl Into<String>) -> Self {
        Self { position: Some((origin.line, origin.column)), ..Self::file(&origin.file, message) }
    }

    /// The same, but the file is used all the same.
    pub(crate) fn warning(self) -> Self {
        Self { severity: Level::Warning, ..self }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", shown(&*self.file))?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        // It repeats names of the file's, which can be anything.
        let message = shown(&self.message);
        match self.severity {
            Level::Error => write!(f, ": {message}"),
            Level::Warning => write!(f, ": warning: {message}"),
        }
    }
}
