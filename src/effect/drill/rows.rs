//! What came of a drill, a row for each load and for each slice that loads are in.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::iter;
use std::path::{Path, PathBuf};

use super::Of;
use super::places::Place;
use crate::units::SliceName;

/// What is measured, predicted and declared is the same where it differs by less.
pub const TOLERANCE: f64 = 0.03;

/// A load, or a slice with all that is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whom it stands for, or which slice.
    pub of: Of,
    /// How many slices it is in.
    pub depth: usize,
    /// Its part of what all loads get together, 0 to 1, by the policy.
    pub declared: f64,
    /// The same as it is; `None` where nothing was started.
    pub found: Option<Found<f64>>,
}

/// What came of a drill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<T> {
    /// By what is in force, and what others use: what `explain share` says.
    pub predicted: T,
    /// By the kernel's counters.
    pub measured: T,
}

impl Row {
    /// Whether it got what is declared.
    #[must_use]
    pub fn is_as_declared(&self) -> bool {
        self.found.is_none_or(|found| is_near(found.measured, self.declared))
    }

    /// Whether it got what was predicted.
    #[must_use]
    pub fn is_as_predicted(&self) -> bool {
        self.found.is_none_or(|found| is_near(found.measured, found.predicted))
    }

    /// Both.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.is_as_declared() && self.is_as_predicted()
    }
}

fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= TOLERANCE
}

/// Each as a part of the sum.
#[must_use]
pub fn normalised(values: &[f64]) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    values.iter().map(|value| if sum > 0.0 { value / sum } else { 0.0 }).collect()
}

/// A row for each load, by its place, below the slices that they are in.
#[must_use]
pub fn rows(places: &[&Place], declared: &[f64], found: Option<Found<&[f64]>>) -> Vec<Row> {
    // The load of a login or an empty slice is all that is in there: one line says it.
    let is_own = |place: &Place| matches!(place.of, Of::Login(..) | Of::Slice(_));
    let owned: BTreeSet<&SliceName> =
        places.iter().filter(|place| is_own(place)).map(|place| &place.slice).collect();
    let mut slices: BTreeSet<SliceName> = BTreeSet::new();
    for slice in places.iter().flat_map(|place| [&place.slice, &place.declared_slice]) {
        slices.extend(iter::successors(Some(slice.clone()), SliceName::parent));
    }
    let slices = slices.iter().filter(|slice| !owned.contains(slice)).map(|slice| {
        let path = slice.cgroup();
        let now = |place: &Place| place.slice.cgroup().starts_with(&path);
        let row = Row {
            of: Of::Slice(slice.clone()),
            depth: depth(&path) - 1,
            declared: sum(places, declared, |place| place.declared_slice.cgroup().starts_with(&path)),
            found: found.map(|found| found.map(|values| sum(places, values, now))),
        };
        (path, row)
    });
    let each = places.iter().enumerate().map(|(at, place)| {
        let path = place.slice.cgroup();
        let value = |values: &[f64]| values.get(at).copied().unwrap_or(0.0);
        let row = Row {
            of: place.of.clone(),
            depth: depth(&path) - usize::from(is_own(place)),
            declared: value(declared),
            found: found.map(|found| found.map(value)),
        };
        (path.join(place.of.unit()), row)
    });
    let mut rows: Vec<(PathBuf, Row)> = slices.chain(each).collect();
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn sum(places: &[&Place], values: &[f64], is_in: impl Fn(&Place) -> bool) -> f64 {
    let inside = values.iter().zip(places).filter(|(_, place)| is_in(place));
    // sum() of nothing is -0.0.
    inside.fold(0.0, |sum, (value, _)| sum + value)
}

impl<T> Found<T> {
    fn map<R>(self, each: impl Fn(T) -> R) -> Found<R> {
        Found { predicted: each(self.predicted), measured: each(self.measured) }
    }
}

fn depth(path: &Path) -> usize {
    path.components().count()
}
