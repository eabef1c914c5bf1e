//! The search for nearest points on a sphere.
//!
//! This is a k-d tree of the project itself and not that of a library, because the order of points at equal distances
//! determines which cells a target gets: regular targets lie exactly in the middle between two source cells. Here the
//! point with the smaller number comes first, whatever the shape of the tree, so that the same grid gives the same
//! factors with every version of every library. A library that promises no order of points at equal distances would need
//! a second search for that.

use rayon::prelude::*;

/// Radius in metres of the sphere on which distances are measured.
pub(super) const RADIUS: f64 = 6_370_997.0;
/// Number of points that are compared one after the other and not divided further.
const LEAF: usize = 8;
/// Number of points from which both halves of a part are divided in parallel.
const PARALLEL: usize = 1 << 14;

/// A position in space, in metres or any other unit of length.
pub type PointInSpace = [f64; 3];

/// Returns the position of a longitude and a latitude in degrees on the sphere.
pub(super) fn point(longitude: f64, latitude: f64) -> PointInSpace {
    let (lon, lat) = (longitude.to_radians(), latitude.to_radians());
    let equatorial = RADIUS * libm::cos(lat);
    [equatorial * libm::cos(lon), equatorial * libm::sin(lon), RADIUS * libm::sin(lat)]
}

fn squared_distance(a: &PointInSpace, b: &PointInSpace) -> f64 {
    let [x, y, z] = [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    x * x + y * y + z * z
}

/// A point with its number.
#[derive(Debug, Clone, Copy)]
struct NumberedPoint {
    at: PointInSpace,
    number: u32,
    /// The axis along which the points before and after this one are divided, if it is the middle of a part.
    axis: u8,
}

/// Points in an order in which the middle of each part divides it along one axis.
#[derive(Debug)]
pub struct PointTree(Vec<NumberedPoint>);

impl PointTree {
    /// Builds a tree of points and their numbers.
    pub fn new(points: impl Iterator<Item = (u32, PointInSpace)>) -> PointTree {
        let mut points: Vec<_> = points.map(|(number, at)| NumberedPoint { at, number, axis: 0 }).collect();
        divide(&mut points);
        PointTree(points)
    }

    /// Returns the number of the nearest point at a distance of less than `below`, the smallest one of several at the same
    /// distance; `None` if no point is that near.
    pub fn nearest(&self, from: &PointInSpace, below: f64) -> Option<u32> {
        // A point exactly at the bound would need a number below 0 to precede this.
        let mut best = (below * below, 0);
        let mut found = false;
        nearest_of(&self.0, from, &mut best, &mut found);
        found.then_some(best.1)
    }

    /// Finds the points at a distance of at most `radius` and less than `below`, nearest first, with their squared
    /// distances.
    pub(super) fn within(&self, from: &PointInSpace, radius: f64, below: f64, found: &mut Vec<(f64, u32)>) {
        found.clear();
        within_of(&self.0, from, radius * radius, found);
        found.retain(|(distance, _)| *distance < below * below);
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    }
}

/// Orders a part of the points, and then the halves before and after its middle.
fn divide(points: &mut [NumberedPoint]) {
    if points.len() <= LEAF {
        return;
    }
    let extent = |axis: usize| {
        let values = points.iter().map(|point| point.at[axis]);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        high - low
    };
    let mut axis = 0;
    for other in 1..3 {
        if extent(other) > extent(axis) {
            axis = other;
        }
    }
    let middle = points.len() / 2;
    points.select_nth_unstable_by(middle, |a, b| a.at[axis].total_cmp(&b.at[axis]));
    points[middle].axis = axis as u8;
    let (before, rest) = points.split_at_mut(middle);
    let after = &mut rest[1..];
    if before.len() >= PARALLEL {
        rayon::join(|| divide(before), || divide(after));
    } else {
        divide(before);
        divide(after);
    }
}

fn nearest_of(points: &[NumberedPoint], from: &PointInSpace, best: &mut (f64, u32), found: &mut bool) {
    let mut look = |point: &NumberedPoint, best: &mut (f64, u32)| {
        let distance = squared_distance(&point.at, from);
        if distance < best.0 || (distance == best.0 && point.number < best.1) {
            *best = (distance, point.number);
            *found = true;
        }
    };
    if points.len() <= LEAF {
        points.iter().for_each(|point| look(point, best));
        return;
    }
    let middle = &points[points.len() / 2];
    look(middle, best);
    let (before, after) = (&points[..points.len() / 2], &points[points.len() / 2 + 1..]);
    let beyond = from[usize::from(middle.axis)] - middle.at[usize::from(middle.axis)];
    let (near, far) = if beyond < 0.0 { (before, after) } else { (after, before) };
    nearest_of(near, from, best, found);
    if beyond * beyond <= best.0 {
        nearest_of(far, from, best, found);
    }
}

fn within_of(points: &[NumberedPoint], from: &PointInSpace, squared_radius: f64, found: &mut Vec<(f64, u32)>) {
    let look = |point: &NumberedPoint, found: &mut Vec<(f64, u32)>| {
        let distance = squared_distance(&point.at, from);
        if distance <= squared_radius {
            found.push((distance, point.number));
        }
    };
    if points.len() <= LEAF {
        points.iter().for_each(|point| look(point, found));
        return;
    }
    let middle = &points[points.len() / 2];
    look(middle, found);
    let (before, after) = (&points[..points.len() / 2], &points[points.len() / 2 + 1..]);
    let beyond = from[usize::from(middle.axis)] - middle.at[usize::from(middle.axis)];
    let (near, far) = if beyond < 0.0 { (before, after) } else { (after, before) };
    within_of(near, from, squared_radius, found);
    if beyond * beyond <= squared_radius {
        within_of(far, from, squared_radius, found);
    }
}

/// Returns the positions of source cells from their longitudes and latitudes in degrees.
pub(super) fn points(longitudes: &[f32], latitudes: &[f32], single: bool) -> Vec<PointInSpace> {
    let place = if single { point_in_single_precision } else { |lon, lat| point(f64::from(lon), f64::from(lat)) };
    longitudes.par_iter().zip(latitudes).map(|(lon, lat)| place(*lon, *lat)).collect()
}

/// Returns the position of a source cell as computed by EDP of 2026, whose angles have single precision: it differs
/// from that of [`point`] by at most half a metre.
fn point_in_single_precision(longitude: f32, latitude: f32) -> PointInSpace {
    const RADIANS: f32 = (std::f64::consts::PI / 180.0) as f32;
    let (lon, lat, radius) = (longitude * RADIANS, latitude * RADIANS, RADIUS as f32);
    let equatorial = radius * libm::cosf(lat);
    [equatorial * libm::cosf(lon), equatorial * libm::sinf(lon), radius * libm::sinf(lat)].map(f64::from)
}

/// Rounds a position to single precision: EDP's search converts targets to the precision of the source cells.
pub(super) fn rounded(at: PointInSpace) -> PointInSpace {
    at.map(|coordinate| f64::from(coordinate as f32))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positions_on_the_sphere() {
        let near = |a: PointInSpace, b: PointInSpace| assert!(squared_distance(&a, &b) < 1e-12, "{a:?} {b:?}");
        near(point(0.0, 0.0), [RADIUS, 0.0, 0.0]);
        near(point(90.0, 0.0), [0.0, RADIUS, 0.0]);
        near(point(-180.0, 0.0), [-RADIUS, 0.0, 0.0]);
        near(point(123.0, 90.0), [0.0, 0.0, RADIUS]);
    }

    #[test]
    fn of_points_at_equal_distances_the_smaller_number_comes_first() {
        // All corners of a cube, twice, which is more than a leaf holds.
        let corners = (0..16_u32).map(|n| [n & 1, n >> 1 & 1, n >> 2 & 1].map(|bit| f64::from(bit) * 2.0 - 1.0));
        let numbers: Vec<u32> = (0..16).map(|n| 100 - 3 * n).collect();
        let tree = PointTree::new(numbers.iter().copied().zip(corners));
        assert_eq!(tree.nearest(&[0.0; 3], 9.0), Some(55));
        let mut found = Vec::new();
        tree.within(&[0.0; 3], 2.0, 9.0, &mut found);
        assert!(found.len() == 16 && found.is_sorted_by(|a, b| a.1 < b.1));
        // A point at the bound is not below it, and a point at the radius is within it.
        let tree = PointTree::new([(7, [3.0, 4.0, 0.0])].into_iter());
        assert_eq!((tree.nearest(&[0.0; 3], 5.0), tree.nearest(&[0.0; 3], 5.1)), (None, Some(7)));
        tree.within(&[0.0; 3], 5.0, 5.1, &mut found);
        assert_eq!(found, [(25.0, 7)]);
        tree.within(&[0.0; 3], 5.0, 5.0, &mut found);
        assert_eq!(found, []);
        assert_eq!(PointTree::new(std::iter::empty()).nearest(&[0.0; 3], 1.0), None);
    }

    proptest! {
        // Whole numbers are used, so that many distances are equal.
        #[test]
        fn finds_what_looking_at_all_points_finds(
            points in proptest::collection::vec([-4_i8..4, -4..4, -4..4], 0..200),
            from in [-5_i8..5, -5..5, -5..5],
            radius in 0.0_f64..8.0,
        ) {
            let place = |at: &[i8; 3]| at.map(f64::from);
            let from = place(&from);
            let tree = PointTree::new((0..).zip(points.iter().map(place)));
            let mut all: Vec<(f64, u32)> =
                (0..).zip(&points).map(|(n, at)| (squared_distance(&place(at), &from), n)).collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let nearest = all.first().filter(|(distance, _)| *distance < radius * radius).map(|(_, number)| *number);
            prop_assert_eq!(tree.nearest(&from, radius), nearest);
            all.retain(|(distance, _)| *distance <= radius * radius);
            let mut found = Vec::new();
            tree.within(&from, radius, 99.0, &mut found);
            prop_assert_eq!(found, all);
        }
    }
}
