//! What a drill has measured: `fairslice drill --json`, read back from a file that may hold anything.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::report::drill::JSON_VERSION;
use crate::report::fleet::document::{Text, other_version};
use crate::text::{Foreign, shown};

const NO_DRILL: &str = "is no output of \"fairslice drill --json\"";

/// A drill that was run.
#[derive(Debug)]
pub struct Drilled {
    /// On which host; `None` where its kernel did not say.
    pub host: Option<Foreign>,
    /// When, as it says.
    pub time: String,
    pub(super) cpu: Option<OfCpu>,
    pub(super) memory: Option<OfMemory>,
    pub(super) kills: Option<OfKills>,
}

/// Busy loads on one CPU.
#[derive(Debug, Deserialize)]
pub(super) struct OfCpu {
    /// What differs by no more is the same.
    pub(super) tolerance: f64,
    /// `None` where nothing was started.
    pub(super) seconds: Option<f64>,
    pub(super) rows: Vec<PartsRow>,
}

/// Parts of what all got.
#[derive(Debug, Deserialize)]
pub(super) struct PartsRow {
    pub(super) unit: String,
    pub(super) user: Option<Text>,
    pub(super) depth: usize,
    pub(super) declared: f64,
    pub(super) predicted: Option<f64>,
    pub(super) measured: Option<f64>,
}

/// Loads in a model in which memory was short.
#[derive(Debug, Deserialize)]
pub(super) struct OfMemory {
    /// `None` where nothing was started.
    seconds: Option<f64>,
    pub(super) bytes: u64,
    pub(super) protected: Vec<MemoryRow>,
    pub(super) ceilings: Vec<MemoryRow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct MemoryRow {
    #[serde(flatten)]
    pub(super) parts: PartsRow,
    pub(super) ok: Option<bool>,
    pub(super) of_bytes: u64,
}

/// Processes that were killed for want of memory.
#[derive(Debug, Deserialize)]
pub(super) struct OfKills {
    pub(super) rows: Vec<KillRow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct KillRow {
    pub(super) unit: String,
    pub(super) user: Option<Text>,
    pub(super) declared_score: i32,
    pub(super) due: (usize, usize),
    pub(super) predicted: usize,
    pub(super) killed: usize,
    pub(super) ok: bool,
}

/// What to call whom a row is about, as `Of::name` of a drill that is run.
pub(super) fn called(unit: &str, user: Option<&Text>) -> String {
    let user = user.map(|user| format!(" ({})", shown(&user.foreign())));
    format!("{}{}", shown(unit), user.unwrap_or_default())
}

impl Drilled {
    /// Reads the text of such a file.
    ///
    /// # Errors
    /// It is something else, of another version, or of a drill that started nothing.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            cpu: IgnoredAny,
            kill_order: IgnoredAny,
        }
        #[derive(Deserialize)]
        struct Document {
            host: Option<Text>,
            time: String,
            cpu: Option<OfCpu>,
            memory: Option<OfMemory>,
            kill_order: Option<OfKills>,
        }
        let Head { version, cpu: IgnoredAny, kill_order: IgnoredAny } =
            serde_json::from_slice(bytes).map_err(|_| NO_DRILL.to_owned())?;
        if version != JSON_VERSION {
            return Err(other_version(version, JSON_VERSION));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|_| NO_DRILL.to_owned())?;
        let Document { host, time, cpu, memory, kill_order: kills } = document;
        let seconds = [cpu.as_ref().map(|cpu| cpu.seconds), memory.as_ref().map(|memory| memory.seconds)];
        if seconds.contains(&Some(None)) {
            return Err("is of \"fairslice drill --dry-run\": nothing was measured".to_owned());
        }
        Ok(Self { host: host.map(|host| host.foreign()), time, cpu, memory, kills })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::{DrillView, Stamp, drill_json};

    #[test]
    fn a_drill_is_read_back() {
        let stamp = Stamp { host: Some(Foreign::new(*b"a\xff")), time: "2026-11-30T08:15:00Z".to_owned() };
        let text = drill_json(&stamp, &DrillView::default());
        let read = Drilled::read(text.as_bytes()).unwrap();
        assert_eq!((read.host, read.time), (stamp.host, stamp.time));
        assert!(read.cpu.is_none() && read.memory.is_none() && read.kills.is_none());
    }

    #[test]
    fn anything_else_is_refused() {
        let cpu = json!({ "tolerance": 0.03, "seconds": null, "rows": [] });
        let planned = json!({ "version": 1, "host": null, "time": "", "cpu": cpu, "kill_order": null });
        let later = json!({ "version": 2, "cpu": null, "kill_order": null });
        let model = json!({ "seconds": null, "bytes": 1, "protected": [], "ceilings": [] });
        let of_memory = json!({ "version": 1, "host": null, "time": "", "cpu": null, "memory": model, "kill_order": null });
        for (text, why) in [
            (planned.to_string(), "--dry-run"),
            (of_memory.to_string(), "--dry-run"),
            (later.to_string(), "version 2"),
            (String::new(), NO_DRILL),
            ("[1]".to_owned(), NO_DRILL),
            (later.to_string().replace("\"kill_order\":null,", ""), NO_DRILL),
        ] {
            let error = Drilled::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
