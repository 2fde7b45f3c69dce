//! The policy as systemd drop-ins: pure, from a policy to texts.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};

use crate::effect::{Carried, Given, ancestors, given, slices};
use crate::paths;
use crate::policy::{Origin, Policy, Resources, ServicePattern, Setting, TotalWeight};
use crate::units::{OOM_SCORE_ADJUST, SLICE, ServiceName, SliceName};

/// How each drop-in of the generator begins.
pub(super) const HEADER: &str = "# Made by fairslice-generator at boot and at each daemon-reload";
/// The service that ages what `tmpfiles.d(5)` says, once a day.
const TMPFILES_CLEAN: &str = "systemd-tmpfiles-clean";
/// How long ageing private directories may take, in seconds: where accounts come from the network, looking them up may
/// hang. What is left goes the next day.
const PATIENCE: u32 = 3600;

/// systemd's own name for the drop-ins of every user's slice.
const EVERY_USER: &str = "user-.slice";

/// The drop-ins that a policy comes to, by unit. `ram` is the machine's, in bytes.
pub(super) fn drop_ins(policy: &Policy, ram: u64) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut add =
        |unit: &str, text: Text| drop(text.finish().map(|text| texts.insert(unit.to_owned(), text)));

    let carried = ancestors(policy, ram);
    for name in slices(policy, &carried) {
        add(name.as_str(), slice(policy, name, carried.get(name)));
    }
    let aged = policy.private_dirs.values().any(|dir| dir.max_age.is_some());
    let tmpfiles_clean = ServiceName::new(TMPFILES_CLEAN).ok().filter(|_| aged);
    let mut exact: BTreeSet<&ServiceName> = policy.services.keys().collect();
    exact.extend(tmpfiles_clean.as_ref());
    for (slice, pattern) in policy.slices.iter().flat_map(|(n, s)| s.matches.iter().map(move |p| (n, p))) {
        match &pattern.value {
            ServicePattern::Exact(name) => {
                exact.insert(name);
            }
            ServicePattern::Prefix(_) => {
                let mut text = Text::new("Service");
                text.declared(SLICE, slice, &pattern.origin);
                add(&pattern.value.unit(), text);
            }
        }
    }
    for name in exact {
        add(name.as_str(), service(policy, name));
    }
    add(SliceName::user().as_str(), all_logins(policy));
    add(EVERY_USER, every_user(policy));
    texts
}

/// What a slice declares itself, then what it has to carry for the policy's slices below it.
fn slice(policy: &Policy, name: &SliceName, carried: Option<&Carried>) -> Text {
    let mut text = Text::new("Slice");
    for Given { property, value, origin } in given(policy, name, carried) {
        if let Some(origin) = origin {
            text.declared(property.unit, value, origin);
        } else {
            text.comment("the sum over the policy's slices below, which count for nothing without it");
            text.set(property.unit, value);
        }
    }
    text
}

/// One service. It repeats its slice, because systemd reads only the most specific of the drop-ins
/// of one name.
fn service(policy: &Policy, name: &ServiceName) -> Text {
    let mut text = Text::new("Service");
    let rule = policy.service(name);
    if let Some((slice, origin)) = policy.holding(name) {
        text.declared(SLICE, slice, origin);
    }
    if let (Some(score), Some(declared)) = (rule.score_to_set(), &rule.oom_score_adj) {
        text.declared(OOM_SCORE_ADJUST, score, &declared.origin);
    }
    text.resources(&rule.resources);
    for own in &rule.own {
        text.declared(own.value.setting().unit, &own.value, &own.origin);
    }
    if name.stem() == TMPFILES_CLEAN {
        ageing(&mut text, policy);
    }
    text
}

/// After the service's own work, which does not wait for it, nor fail with it.
fn ageing(text: &mut Text, policy: &Policy) {
    let Some(max_age) = policy.private_dirs.values().find_map(|dir| dir.max_age.as_ref()) else { return };
    let age = format!("-/usr/bin/timeout {PATIENCE} /{} private-dir age", paths::COMMAND);
    text.declared("ExecStartPost", age, &max_age.origin);
}

fn all_logins(policy: &Policy) -> Text {
    let mut text = Text::new("Slice");
    if let Some(total) = &policy.logins.total_weight {
        match total.value {
            TotalWeight::Fixed(weight) => text.declared("CPUWeight", weight, &total.origin),
            // Set at each login, and when a user is gone.
            TotalWeight::Sum => {}
        }
    }
    text.resources(&policy.logins.total);
    text
}

fn every_user(policy: &Policy) -> Text {
    let mut text = Text::new("Slice");
    text.resources(&policy.logins.default.resources);
    let logins = &policy.logins;
    let sum = logins.total_weight.as_ref().filter(|_| logins.is_counted());
    let sum = sum.map(|total| ("= \"sum\"".to_owned(), &total.origin));
    let of_group = || logins.budgets.iter().next().map(|(name, total)| (format!("of {name}"), &total.origin));
    if let Some((what, origin)) = sum.or_else(of_group) {
        text.section("Unit");
        text.comment(format!("total_weight {what} ({origin}): counted again when a user is gone"));
        // %j is the user's number, see systemd.unit(5).
        text.set("OnSuccess", paths::HEADCOUNT_UNIT);
        text.comment("and when PID 1 has kept a login waiting");
        text.set("Wants", paths::HEADCOUNT_PATH);
    }
    text
}

/// A drop-in being written.
struct Text {
    section: &'static str,
    body: String,
}

impl Text {
    fn new(section: &'static str) -> Self {
        Self { section, body: String::new() }
    }

    /// What follows is of another section.
    fn section(&mut self, section: &str) {
        let _ = writeln!(self.body, "[{section}]");
    }

    fn comment(&mut self, comment: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "# {comment}");
    }

    fn set(&mut self, setting: &str, value: impl Display) {
        let _ = writeln!(self.body, "{setting}={value}");
    }

    fn declared(&mut self, setting: &str, value: impl Display, origin: &Origin) {
        self.comment(origin);
        self.set(setting, value);
    }

    fn resources(&mut self, resources: &Resources) {
        for Setting { property, value, origin } in resources.settings() {
            self.declared(property.unit, value, origin);
        }
    }

    /// `None` where there is nothing to say.
    fn finish(self) -> Option<String> {
        let Self { section, body } = self;
        (!body.is_empty()).then(|| format!("{HEADER}: edit the policy instead.\n[{section}]\n{body}"))
    }
}
