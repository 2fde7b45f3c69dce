//! Rectangles whose areas are in proportion, as near to squares as they get: "Squarified Treemaps", Bruls, Huizing and van
//! Wijk 2000.
#![forbid(unsafe_code)]

/// A part of a picture; `y` grows downwards.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rectangle {
    /// Of its left side.
    pub x: f64,
    /// Of its upper side.
    pub y: f64,
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

impl Rectangle {
    /// Width by height.
    #[must_use]
    pub fn area(&self) -> f64 {
        self.width * self.height
    }

    /// The longer side in shorter ones.
    fn aspect(&self) -> f64 {
        let (long, short) = (self.width.max(self.height), self.width.min(self.height));
        if short > 0.0 { long / short } else { f64::INFINITY }
    }

    /// Cuts a row of this area off, along the shorter side: the row, and what is left.
    fn cut(self, area: f64) -> (Self, Self) {
        let part = if self.area() > 0.0 { (area / self.area()).min(1.0) } else { 0.0 };
        if self.width >= self.height {
            let width = self.width * part;
            (Self { width, ..self }, Self { x: self.x + width, width: self.width - width, ..self })
        } else {
            let height = self.height * part;
            (Self { height, ..self }, Self { y: self.y + height, height: self.height - height, ..self })
        }
    }

    /// Divides a row, which was cut off along its longer or its shorter side, among areas that fill it.
    fn divide(self, areas: &[f64], downwards: bool) -> Vec<Self> {
        let sum: f64 = areas.iter().sum();
        let mut before = 0.0;
        let each = areas.iter().map(|area| {
            let (from, part) = if sum > 0.0 { (before / sum, area / sum) } else { (0.0, 0.0) };
            before += area;
            if downwards {
                Self { y: self.y + self.height * from, height: self.height * part, ..self }
            } else {
                Self { x: self.x + self.width * from, width: self.width * part, ..self }
            }
        });
        each.collect()
    }
}

/// Divides a rectangle among these sizes, in their order: the largest first makes the squarest. What is not above 0 gets
/// a rectangle without an area.
#[must_use]
pub fn squarified(sizes: &[f64], inside: Rectangle) -> Vec<Rectangle> {
    let sizes: Vec<f64> =
        sizes.iter().map(|size| if size.is_finite() { size.max(0.0) } else { 0.0 }).collect();
    let sum: f64 = sizes.iter().sum();
    let scale = if sum > 0.0 { inside.area() / sum } else { 0.0 };
    let areas: Vec<f64> = sizes.iter().map(|size| size * scale).collect();
    let (mut left, mut rest) = (inside, areas.as_slice());
    let mut all = Vec::with_capacity(areas.len());
    while !rest.is_empty() {
        let (row, others) = rest.split_at(squarest(rest, left));
        // What is left is the last row, whatever was lost in rounding.
        let area = if others.is_empty() { left.area() } else { row.iter().sum() };
        let downwards = left.width >= left.height;
        let (cut, remaining) = left.cut(area);
        all.extend(cut.divide(row, downwards));
        (left, rest) = (remaining, others);
    }
    all
}

/// How many of the first areas make the squarest row; 1 at least.
fn squarest(areas: &[f64], inside: Rectangle) -> usize {
    let side = inside.width.min(inside.height);
    let mut row = Row::default();
    let (mut count, mut best) = (0, f64::INFINITY);
    for area in areas {
        row.add(*area);
        let worst = row.worst_aspect(side);
        if count > 0 && worst > best {
            break;
        }
        (count, best) = (count + 1, worst);
    }
    count.max(1)
}

/// What a row's aspects are computed from.
#[derive(Default)]
struct Row {
    sum: f64,
    largest: f64,
    smallest: Option<f64>,
}

impl Row {
    fn add(&mut self, area: f64) {
        self.sum += area;
        self.largest = self.largest.max(area);
        self.smallest = Some(self.smallest.map_or(area, |smallest| smallest.min(area)));
    }

    /// Of what lies in it along a side of this length, the one that is the least square.
    fn worst_aspect(&self, side: f64) -> f64 {
        let thickness = self.sum / side;
        let aspect = |area: f64| {
            Rectangle { width: area / thickness, height: thickness, ..Rectangle::default() }.aspect()
        };
        aspect(self.largest).max(self.smallest.map_or(0.0, aspect))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: Rectangle = Rectangle { x: 10.0, y: 20.0, width: 600.0, height: 400.0 };

    #[test]
    fn the_papers_own_example() {
        // Figure 3: 6, 6, 4, 3, 2, 2, 1 in 6 by 4.
        let inside = Rectangle { width: 6.0, height: 4.0, ..Rectangle::default() };
        let placed = squarified(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], inside);
        let tenths: Vec<[i64; 4]> = placed
            .iter()
            .map(|r| [r.x, r.y, r.width, r.height].map(|of| format!("{:.0}", of * 10.0).parse().unwrap()))
            .collect();
        assert_eq!(
            tenths,
            [
                [0, 0, 30, 20],
                [0, 20, 30, 20],
                [30, 0, 17, 23],
                [47, 0, 13, 23],
                [30, 23, 12, 17],
                [42, 23, 12, 17],
                [54, 23, 6, 17],
            ]
        );
    }

    #[test]
    fn what_has_no_size_has_no_area() {
        assert_eq!(squarified(&[], PAGE), []);
        for sizes in [[0.0, 0.0], [-1.0, f64::NAN]] {
            assert!(squarified(&sizes, PAGE).iter().all(|place| place.area() == 0.0), "{sizes:?}");
        }
        let placed = squarified(&[1.0, 0.0], PAGE);
        assert!((placed[0].area() - PAGE.area()).abs() < 1e-6 && placed[1].area() == 0.0, "{placed:?}");
        let nowhere = Rectangle { width: 0.0, ..PAGE };
        assert!(squarified(&[2.0, 1.0], nowhere).iter().all(|place| place.area() == 0.0));
    }

    fn overlap(one: Rectangle, other: Rectangle) -> f64 {
        let along =
            |a: f64, a_size: f64, b: f64, b_size: f64| ((a + a_size).min(b + b_size) - a.max(b)).max(0.0);
        along(one.x, one.width, other.x, other.width) * along(one.y, one.height, other.y, other.height)
    }

    proptest! {
        #[test]
        fn areas_are_in_proportion_and_within_bounds_and_do_not_overlap(
            mut sizes in prop::collection::vec(0.001..1000.0_f64, 1..60),
            width in 1.0..2000.0_f64,
            height in 1.0..2000.0_f64,
        ) {
            sizes.sort_by(|a, b| b.total_cmp(a));
            let inside = Rectangle { width, height, ..PAGE };
            let placed = squarified(&sizes, inside);
            prop_assert_eq!(placed.len(), sizes.len());
            let sum: f64 = sizes.iter().sum();
            let small = inside.area() * 1e-9;
            for (size, place) in sizes.iter().zip(&placed) {
                prop_assert!((place.area() - size / sum * inside.area()).abs() <= small, "{:?}", place);
                prop_assert!(place.x >= inside.x - 1e-6 && place.y >= inside.y - 1e-6);
                prop_assert!(place.x + place.width <= inside.x + width + 1e-6);
                prop_assert!(place.y + place.height <= inside.y + height + 1e-6);
            }
            for (at, one) in placed.iter().enumerate() {
                for other in &placed[at + 1..] {
                    prop_assert!(overlap(*one, *other) <= small, "{:?} {:?}", one, other);
                }
            }
        }
    }
}
