//! What "fairslice status --json" has printed, of one host: read back from a file that may hold anything.
#![forbid(unsafe_code)]

use std::fmt::Display;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Deserializer;

use crate::text::Foreign;

/// The version of the shape that is read: `status_json`'s.
const VERSION: u64 = crate::report::status_json::JSON_VERSION;
const NO_STATUS: &str = "is no output of \"fairslice status --json\"";

/// One host.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    /// `None` of fairslice 0.1.0, which did not say.
    pub(super) host: Option<Text>,
    pub(super) time: Option<String>,
    pub(super) policy: PolicyState,
    pub(super) missed: Vec<IgnoredAny>,
    pub(super) units: Vec<UnitState>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PolicyState {
    pub(super) in_force: InForce,
    pub(super) errors: Vec<String>,
}

/// In the order of what is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum InForce {
    Nothing,
    LastGood,
    Current,
}

#[derive(Debug, Deserialize)]
pub(super) struct UnitState {
    pub(super) unit: String,
    pub(super) user: Option<Text>,
    pub(super) active: bool,
    pub(super) settings: Vec<SettingState>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SettingState {
    pub(super) setting: String,
    pub(super) declared: String,
    pub(super) live: Option<String>,
    pub(super) holds: bool,
    pub(super) origin: String,
}

/// A string, or the bytes of one that is no UTF-8.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(in crate::report) enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl Text {
    pub(in crate::report) fn foreign(&self) -> Foreign {
        match self {
            Self::Utf8(text) => Foreign::from(text.as_str()),
            Self::Bytes(bytes) => Foreign::new(bytes.as_slice()),
        }
    }
}

/// What is wrong with a document of a version that is not read.
pub(in crate::report) fn other_version(version: impl Display, read: impl Display) -> String {
    format!("is of version {version}, and this fairslice reads version {read}")
}

/// The documents in a file, one behind the other; the error of one that is none ends them.
pub(super) fn documents(bytes: &[u8]) -> Vec<Result<Document, String>> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<u64>,
        units: Option<IgnoredAny>,
        policy: Option<IgnoredAny>,
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return vec![Err("is empty".to_owned())];
    }
    let mut stream = Deserializer::from_slice(bytes).into_iter::<Head>();
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(head) = stream.next() {
        let end = stream.byte_offset();
        let document = match head {
            Err(error) if error.is_eof() => Err("ends in the middle of its JSON: it was cut off".to_owned()),
            Err(error) if error.is_data() => Err(NO_STATUS.to_owned()),
            Err(error) => Err(format!("is no JSON: {error}")),
            Ok(Head { version: Some(version), units: Some(_), policy: Some(_) }) if version != VERSION => {
                Err(other_version(version, VERSION))
            }
            Ok(Head { version: Some(_), units: Some(_), policy: Some(_) }) => {
                let text = bytes.get(start..end).unwrap_or_default();
                serde_json::from_slice(text).map_err(|_| NO_STATUS.to_owned())
            }
            Ok(_) => Err(NO_STATUS.to_owned()),
        };
        start = end;
        found.push(document);
    }
    found
}
