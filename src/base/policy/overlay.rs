//! What a later file declares lies over what those before it do.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{LoginRule, Logins, Policy, Slice};

impl Policy {
    /// Puts a later file's declarations over these, value by value.
    pub fn overlay(&mut self, later: Self) {
        for (name, slice) in later.slices {
            self.slices.entry(name).or_default().overlay(slice);
        }
        for (name, service) in later.services {
            let known = self.services.entry(name).or_default();
            *known = service.or(known);
        }
        self.logins.overlay(later.logins);
        self.private_dirs.extend(later.private_dirs);
    }
}

impl Slice {
    fn overlay(&mut self, later: Self) {
        if !later.matches.is_empty() {
            self.matches = later.matches;
        }
        self.cpu_floor = later.cpu_floor.or_else(|| self.cpu_floor.take());
        self.launcher = later.launcher.or_else(|| self.launcher.take());
        self.resources = later.resources.or(&self.resources);
    }
}

impl Logins {
    fn overlay(&mut self, later: Self) {
        self.default = later.default.or(&self.default);
        self.total_weight = later.total_weight.or_else(|| self.total_weight.take());
        if !later.sessions.is_empty() {
            self.sessions = later.sessions;
        }
        self.budgets.extend(later.budgets);
        self.total = later.total.or(&self.total);
        overlay_rules(&mut self.users, later.users);
        overlay_rules(&mut self.groups, later.groups);
    }
}

/// A rule that a later file repeats keeps its place.
fn overlay_rules(rules: &mut Vec<(String, LoginRule)>, later: Vec<(String, LoginRule)>) {
    let known = rules.iter().enumerate().map(|(place, (name, _))| (name.clone(), place));
    let places: BTreeMap<String, usize> = known.collect();
    for (name, rule) in later {
        match places.get(&name).and_then(|place| rules.get_mut(*place)) {
            Some((_, known)) => *known = rule.or(known),
            None => rules.push((name, rule)),
        }
    }
}
