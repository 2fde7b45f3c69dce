//! Scores with which the declared order of kills holds.
#![forbid(unsafe_code)]

use super::{Badness, NEVER, Ranked};
use crate::units::ServiceName;

/// A service and the score that it is to have.
struct Scored<'r, 'a> {
    ranked: &'r Ranked<'a>,
    score: i16,
    /// Which ones there are to choose from.
    least: i16,
    most: i16,
}

impl Scored<'_, '_> {
    /// What the kernel compares, and what the policy does: services go in the order of both.
    fn with(&self, score: i16) -> (i64, i16) {
        (Badness { adj: score, ..self.ranked.badness }.points(), score)
    }

    /// Lowered as little as is needed to go after all that have these.
    fn lower(&mut self, (points, score): (i64, i16)) {
        let is_after = |own: &i16| self.with(*own).0 < points && *own < score;
        self.score = (self.least..=self.score).rev().find(is_after).unwrap_or(self.least);
    }

    /// Raised as little as is needed to go before all that have these; `None` where no score is high enough.
    fn raise(&mut self, (points, score): (i64, i16)) -> Option<()> {
        self.score = (self.score..=self.most).find(|own| self.with(*own).0 > points && *own > score)?;
        Some(())
    }
}

/// The scores that have to change so that the services are killed in the declared order with the memory
/// that they use now; `None` where no scores do that. `is_ours` is whether the policy sets a service's
/// score.
///
/// Scores are lowered where that is enough. Where −999 is not low enough, those of the services that are
/// to go earlier are raised.
#[must_use]
pub fn keeping_order<'r>(
    order: &'r [Ranked<'_>],
    is_ours: impl Fn(&ServiceName) -> bool,
) -> Option<Vec<(&'r ServiceName, i16)>> {
    let scored = |ranked: &'r Ranked<'_>| {
        let score = ranked.declared.get();
        let (least, most) = if is_ours(&ranked.service) { (NEVER + 1, 1000) } else { (score, score) };
        Scored { ranked, score, least, most }
    };
    let mut all: Vec<_> = order.iter().map(scored).collect();
    all.sort_by_key(|service| service.ranked.declared);
    let is_level = |a: &Scored<'_, '_>, b: &Scored<'_, '_>| a.ranked.declared == b.ranked.declared;
    let mut next = (i64::MAX, i16::MAX);
    for level in all.chunk_by_mut(is_level).rev() {
        for service in &mut *level {
            service.lower(next);
        }
        let least = |(points, score): (i64, i16), own: (i64, i16)| (points.min(own.0), score.min(own.1));
        next = level.iter().map(|service| service.with(service.score)).fold(next, least);
    }
    let mut before = (i64::MIN, i16::MIN);
    for level in all.chunk_by_mut(is_level) {
        for service in &mut *level {
            service.raise(before)?;
        }
        let most = |(points, score): (i64, i16), own: (i64, i16)| (points.max(own.0), score.max(own.1));
        before = level.iter().map(|service| service.with(service.score)).fold(before, most);
    }
    let changed = all.iter().filter(|service| service.score != service.ranked.declared.get());
    Some(changed.map(|service| (&service.ranked.service, service.score)).collect())
}
