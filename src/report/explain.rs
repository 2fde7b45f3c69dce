//! What a login comes to, for people and as JSON.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::json::json_text;
use crate::effect::{Headcount, said};
use crate::enforce::decision::SessionPlace;
use crate::enforce::due::Shared;
use crate::enforce::login::explain::{Explained, ExplainedDirectory, Live, Session};
use crate::host::pam::Module;
use crate::host::pam_service::{Opens, opens};
use crate::policy::Origin;
use crate::text::{Foreign, shown};
use crate::units::SliceName;

/// What holds of the weight of a group whose members have slices of their own: what one of them does not use goes to
/// everybody in `user.slice`.
pub(super) const EXACT_WHILE_BUSY: &str = "exact while all of them are busy";
/// The version of the JSON's shape: raised when something is renamed or goes away.
const JSON_VERSION: u32 = 1;

/// A few lines: which rule holds and why, and what comes of it.
#[must_use]
pub fn login_text(explained: &Explained<'_>, service: &str) -> String {
    let account = &explained.account;
    let slice = SliceName::of_user(account.uid);
    let session = session(&explained.session, service, &slice);
    let heading = format!("{} (uid {}), {session}", account.name.shown(), account.uid);
    let mut text = format!("{}\n", shown(&heading));
    let mut rules = Table::default();
    for (of, origin, holds) in &explained.candidates {
        let verdict = if *holds { "holds" } else { "not a member" };
        rules.row([
            of.to_string(),
            verdict.to_owned(),
            origin.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    rules.write_to(&mut text, "rules");
    let Session { ours, place, .. } = &explained.session;
    if ours.is_some() && place.is_in_own_slice() {
        slices(&mut text, explained, &slice);
    }
    if ours.is_some() {
        private_dirs(&mut text, explained);
    }
    text
}

fn slices(text: &mut String, explained: &Explained<'_>, slice: &SliceName) {
    let mut own = Table::default();
    explained.settings.iter().for_each(|setting| own.row(cells(setting)));
    let score = explained.rule.oom_score_adj.as_ref();
    if let Some(score) = score.filter(|_| explained.session.place.is_in_a_session()) {
        own.row([
            "oom_score_adj".to_owned(),
            score.value.to_string(),
            String::new(),
            score.origin.to_string(),
        ]);
    }
    own.write_to(text, slice.as_str());
    if let Some(shared) = &explained.shared {
        let _ = writeln!(text, "  {}", shown(&share(shared, &explained.account.name)));
    }
    let mut all = Table::default();
    explained.total.iter().chain(&explained.totals).for_each(|total| all.row(cells(total)));
    all.write_to(text, SliceName::user().as_str());
    if let Some(counted) = &explained.headcount {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", shown(&sum(counted, &explained.account.name)));
    }
}

fn private_dirs(text: &mut String, explained: &Explained<'_>) {
    let mut table = Table::default();
    for (variable, origin, directory) in &explained.directories {
        let (value, note) = match directory {
            ExplainedDirectory::Set { value, exists: true, .. } => (value.as_str(), "exists"),
            ExplainedDirectory::Set { value, exists: false, .. } => (value.as_str(), "made at the login"),
            ExplainedDirectory::Nothing(reason) => ("not set", reason.as_str()),
            ExplainedDirectory::Refused(reason) => ("refused", reason.as_str()),
        };
        table.row([variable.clone(), value.to_owned(), note.to_owned(), origin.to_string()]);
    }
    table.write_to(text, "private directories");
    for (variable, _, directory) in &explained.directories {
        if let ExplainedDirectory::Set { notes, .. } = directory {
            for note in notes {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "  {}", shown(&format!("{variable}: {note}")));
            }
        }
    }
}

/// The same for programs: `docs/json`.
#[must_use]
pub fn login_json(explained: &Explained<'_>, service: &str) -> String {
    let account = &explained.account;
    let slice = SliceName::of_user(account.uid);
    let candidates = explained.candidates.iter().map(|(of, origin, holds)| {
        json!({ "rule": of.to_string(), "origin": origin.as_ref().map(Origin::to_string), "holds": holds })
    });
    let directories = explained.directories.iter().map(|(variable, origin, directory)| {
        let none = Vec::new();
        let (value, exists, reason, notes) = match directory {
            ExplainedDirectory::Set { value, exists, notes } => (Some(value), *exists, None, notes),
            ExplainedDirectory::Nothing(reason) | ExplainedDirectory::Refused(reason) => {
                (None, false, Some(reason), &none)
            }
        };
        json!({
            "variable": variable, "origin": origin.to_string(), "value": value, "exists": exists,
            "refused": matches!(directory, ExplainedDirectory::Refused(_)), "reason": reason,
            "notes": notes,
        })
    });
    let value = json!({
        "version": JSON_VERSION,
        "user": account.name,
        "uid": account.uid,
        "service": service,
        "slice": slice.as_str(),
        "session": match &explained.session {
            Session { ours: None, .. } => "without_us",
            Session { is_too_early: true, .. } => "too_early",
            Session { place: SessionPlace::Session | SessionPlace::Manager, .. } => "placed",
            Session { place: SessionPlace::ThroughPid1 | SessionPlace::Directly, .. } => "placed_here",
            Session { place: SessionPlace::Stays(_), .. } => "stays",
        },
        "reason": match &explained.session {
            Session { ours: Some(_), place: SessionPlace::Stays(why), .. } => Some(why.to_string()),
            _ => None,
        },
        "rules": candidates.collect::<Vec<_>>(),
        "oom_score_adj": explained.rule.oom_score_adj.as_ref().map(|score| score.value.get()),
        "settings": explained.settings.iter().map(live_json).collect::<Vec<_>>(),
        "total": explained.total.as_ref().map(live_json),
        "shared": explained.shared.as_ref().map(shared_json),
        "totals": explained.totals.iter().map(live_json).collect::<Vec<_>>(),
        "headcount": explained.headcount.as_ref().map(headcount_json),
        "private_dirs": directories.collect::<Vec<_>>(),
    });
    json_text(&value)
}

fn session(session: &Session, service: &str, slice: &SliceName) -> String {
    let Session { ours: Some(ours), logind, is_too_early, place, taken } = session else {
        return format!(
            "{service}: no line of pam_fairslice.so: nothing of this is done (\"fairslice doctor\" says where it belongs)"
        );
    };
    let by = logind.as_ref().map(line).unwrap_or_default();
    if *is_too_early {
        return format!(
            "{service}: pam_fairslice.so ({}) runs before pam_systemd.so ({by}), when the session is in no slice yet: put it below",
            line(ours)
        );
    }
    match (place, taken) {
        (SessionPlace::Session, _) => format!(
            "{service}: logind puts the session into {slice} ({by}), unless it is opened inside another"
        ),
        (SessionPlace::Manager, _) => format!("{service}: PID 1 starts it in {slice} ({})", line(ours)),
        (SessionPlace::ThroughPid1 | SessionPlace::Directly, Some(taken)) => format!(
            "{service}: pam_fairslice.so puts the session into {slice}, as sessions of [logins] says ({taken}), unless it \
             is in there already ({})",
            line(ours)
        ),
        (SessionPlace::ThroughPid1 | SessionPlace::Directly, None) => {
            let unless = if opens(service) == Some(Opens::Switch) {
                "a session or a service calls it"
            } else {
                "another module puts it into a cgroup"
            };
            format!(
                "{service}: pam_fairslice.so puts the session into {slice}, for logind does not, unless {unless} ({})",
                line(ours)
            )
        }
        (SessionPlace::Stays(why), _) => format!(
            "{service}: the session stays where {service} runs, {why} ({}): private directories only",
            line(ours)
        ),
    }
}

fn line(module: &Module) -> String {
    format!("/{}:{}", shown(&module.file), module.line)
}

fn sum(counted: &Headcount, user: &Foreign) -> String {
    let others = match counted.users.saturating_sub(1) {
        0 => "alone".to_owned(),
        1 => "and the other user logged in now".to_owned(),
        others => format!("and the {others} other users logged in now"),
    };
    let sum = format!("{} {others}: {}", user.shown(), counted.sum);
    match &counted.limit {
        Some(limit) => format!(
            "{sum}; cpu_floor = \"{}\" of {} ({}) leaves {} at most",
            limit.floor.value, limit.slice, limit.floor.origin, limit.most
        ),
        None => sum,
    }
}

/// How the weight of a member comes about.
fn share(shared: &Shared, user: &Foreign) -> String {
    let with = match shared.members.saturating_sub(1) {
        0 => "no other member".to_owned(),
        1 => "another member".to_owned(),
        others => format!("{others} other members"),
    };
    let Shared { group, total, members } = shared;
    format!(
        "{} with {with} of {group} logged in: {} / {members} ({EXACT_WHILE_BUSY})",
        user.shown(),
        total.value
    )
}

fn cells(setting: &Live) -> [String; 4] {
    let live = match &setting.live {
        _ if setting.holds => "in force".to_owned(),
        Some(live) => format!("now {}", said(setting.property, &setting.value, live)),
        None => "set at the login".to_owned(),
    };
    [setting.property.key.to_owned(), setting.value.to_string(), live, setting.origin.to_string()]
}

fn live_json(setting: &Live) -> Value {
    json!({
        "setting": setting.property.key, "declared": setting.value.to_string(), "live": setting.live,
        "holds": setting.holds, "origin": setting.origin.to_string(),
    })
}

/// For `explain share` too.
pub(super) fn shared_json(Shared { group, total, members }: &Shared) -> Value {
    let (total_weight, origin) = (total.value.get(), total.origin.to_string());
    json!({ "group": group, "total_weight": total_weight, "members": members, "origin": origin })
}

fn headcount_json(counted: &Headcount) -> Value {
    let limit = counted.limit.as_ref().map(|limit| {
        json!({
            "slice": limit.slice.as_str(), "cpu_floor": limit.floor.value.to_string(),
            "origin": limit.floor.origin.to_string(), "most": limit.most,
        })
    });
    json!({
        "users": counted.users, "sum": counted.sum.to_string(), "weight": counted.weight().to_string(),
        "limit": limit,
    })
}

/// Aligned lines below a heading.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| shown(&cell).to_string()).into());
    }

    fn write_to(self, text: &mut String, heading: &str) {
        if self.rows.is_empty() {
            return;
        }
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(row.len().max(widths.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", shown(heading));
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("  {cell:width$}"));
            let _ = writeln!(text, "{}", cells.collect::<String>().trim_end());
        }
    }
}
