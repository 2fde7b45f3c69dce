//! The cgroup tree as a picture: which cgroup has which part of it.
#![forbid(unsafe_code)]

use super::screen::Picture;
use super::treemap::{Rectangle, squarified};
use crate::host::tree::{Id, Tree};

/// A smaller area than this, in the picture's own units, is not seen: 17 by 17.
const LEAST_AREA: f64 = 300.0;
/// From so much of its parent's time on, what no cgroup can have has an area of its own.
const SOME: f64 = 0.005;
/// Where the name of a slice stands, above what is in it.
pub const HEADING: f64 = 20.0;
/// Around what is in a slice.
const MARGIN: f64 = 3.0;

/// The picture.
#[derive(Debug, Default)]
pub struct Tiles {
    /// What is seen, a slice before what is in it.
    pub tiles: Vec<Tile>,
    /// So many cgroups have no tile of their own.
    pub folded: usize,
    /// Of so many.
    pub all: usize,
}

/// A part of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tile {
    /// What it stands for.
    pub what: Part,
    /// Where it is.
    pub place: Rectangle,
    /// The part of the machine's CPU time that it is due.
    pub share: f64,
    /// Whether what is in it lies over it.
    pub is_open: bool,
}

/// What a [`Tile`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One cgroup.
    Cgroup(Id),
    /// So many that are too small to be seen, of one slice.
    Folded(usize),
    /// What limits keep from all of a slice.
    Nobody,
}

/// Divides a rectangle among the cgroups that were looked at: among neighbours, by what each is due.
#[must_use]
pub fn tiles(picture: &Picture, inside: Rectangle) -> Tiles {
    let mut all = Tiles::default();
    all.fill(picture, Tree::ROOT, inside);
    all.all = picture.seen.len().saturating_sub(1);
    let is_cgroup = |tile: &&Tile| matches!(tile.what, Part::Cgroup(_));
    all.folded = all.all.saturating_sub(all.tiles.iter().filter(is_cgroup).count());
    all
}

impl Tiles {
    fn fill(&mut self, picture: &Picture, parent: Id, inside: Rectangle) {
        let share = |id: Id| picture.seen.get(&id).and_then(|look| look.figures.share);
        let children = picture.tree[parent].children.iter();
        let mut due: Vec<(Part, f64)> = children
            .filter_map(|id| Some((Part::Cgroup(*id), share(*id)?)))
            .filter(|of| of.1 > 0.0)
            .collect();
        let sum: f64 = due.iter().map(|(_, share)| share).sum();
        let whole = share(parent).unwrap_or(sum).max(sum);
        if due.is_empty() {
            return;
        }
        let is_seen = |of: &(Part, f64)| of.1 / whole * inside.area() >= LEAST_AREA;
        let (mut seen, unseen): (Vec<_>, Vec<_>) = due.drain(..).partition(is_seen);
        if !unseen.is_empty() {
            let together = unseen.iter().map(|(_, share)| share).sum();
            seen.push((Part::Folded(unseen.len()), together));
        }
        if whole - sum >= SOME * whole {
            seen.push((Part::Nobody, whole - sum));
        }
        // Of equals, that of the first name comes first.
        seen.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        let sizes: Vec<f64> = seen.iter().map(|(_, share)| *share).collect();
        for ((what, share), place) in seen.into_iter().zip(squarified(&sizes, inside)) {
            let at = self.tiles.len();
            self.tiles.push(Tile { what, place, share, is_open: false });
            if let (Part::Cgroup(id), Some(within)) = (what, within(place)) {
                self.fill(picture, id, within);
            }
            let is_open = self.tiles.len() > at + 1;
            if let Some(tile) = self.tiles.get_mut(at) {
                tile.is_open = is_open;
            }
        }
    }
}

/// Where there is space for what is in a slice.
fn within(place: Rectangle) -> Option<Rectangle> {
    let (width, height) = (place.width - 2.0 * MARGIN, place.height - HEADING - MARGIN);
    let inner = Rectangle { x: place.x + MARGIN, y: place.y + HEADING, width, height };
    (width > 0.0 && height > 0.0 && inner.area() >= LEAST_AREA).then_some(inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::effect::Status;
    use crate::effect::screen::{Figures, Sample};
    use crate::host::machine::Machine;
    use crate::host::tree::Cgroup;

    const PAGE: Rectangle = Rectangle { x: 0.0, y: 0.0, width: 600.0, height: 400.0 };

    fn picture(of: &[(&str, f64)]) -> Picture {
        let mut tree = Tree::new(Cgroup::default());
        let sample = |share| Sample {
            figures: Figures { share: Some(share), ..Figures::default() },
            ..Sample::default()
        };
        let mut seen = BTreeMap::from([(Tree::ROOT, sample(1.0))]);
        for (path, share) in of {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = tree.find(parent.as_ref()).unwrap();
            let id = tree.add(parent, name, Cgroup { populated: true, ..Cgroup::default() });
            seen.insert(id, sample(*share));
        }
        let machine = Machine { ram: 1 << 30, tasks: 100 };
        Picture::new(machine, 2, None, tree, Status { units: Vec::new() }, seen)
    }

    fn texts(picture: &Picture, tiles: &Tiles) -> Vec<String> {
        let text = |tile: &Tile| {
            let what = match tile.what {
                Part::Cgroup(id) => picture.tree.name(id).shown().to_string(),
                Part::Folded(count) => format!("{count} more"),
                Part::Nobody => "nobody".to_owned(),
            };
            format!("{what} {:.2}{}", tile.share, if tile.is_open { " open" } else { "" })
        };
        tiles.tiles.iter().map(text).collect()
    }

    #[test]
    fn a_slice_comes_before_what_is_in_it_and_limits_leave_something_to_nobody() {
        let picture = picture(&[
            ("a.slice", 0.3),
            ("a.slice/x.service", 0.2),
            ("a.slice/y.service", 0.1),
            ("b.slice", 0.6),
            ("idle.slice", 0.0),
        ]);
        let all = tiles(&picture, PAGE);
        assert_eq!(
            texts(&picture, &all),
            ["b.slice 0.60", "a.slice 0.30 open", "x.service 0.20", "y.service 0.10", "nobody 0.10"]
        );
        assert_eq!((all.folded, all.all), (1, 5));
        let area = |at: usize| all.tiles[at].place.area();
        assert!((area(0) / PAGE.area() - 0.6).abs() < 1e-9 && (area(2) / area(3) - 2.0).abs() < 1e-9);
        let (outer, inner) = (all.tiles[1].place, all.tiles[2].place);
        assert!(inner.x >= outer.x + MARGIN && inner.y >= outer.y + HEADING);
    }

    #[test]
    fn what_is_too_small_is_counted() {
        let many: Vec<(String, f64)> =
            (0..5000).map(|at| (format!("a.slice/{at}.service"), 0.0001)).collect();
        let mut of = vec![("a.slice", 0.5), ("b.slice", 0.5)];
        of.extend(many.iter().map(|(name, share)| (name.as_str(), *share)));
        let picture = picture(&of);
        let all = tiles(&picture, PAGE);
        assert_eq!(texts(&picture, &all), ["a.slice 0.50 open", "5000 more 0.50", "b.slice 0.50"]);
        assert_eq!((all.folded, all.all), (5000, 5002));
    }
}
