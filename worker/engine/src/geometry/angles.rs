//! The angles between the axes of a tile and the directions of the compass.

use super::corners::unit_vector;
use ndarray::{Array3, Zip};

/// Cosine and sine of the angle between the tile's i axis and east at each cell (tile, j, i), as MITgcm computes them:
/// from the velocity of a solid rotation, whose stream function is the sine of the latitude.
///
/// Takes the longitudes and latitudes of all corners (tile, N + 1, N + 1).
pub(super) fn angles(longitudes: &Array3<f32>, latitudes: &Array3<f32>) -> [Vec<f32>; 2] {
    let places = Zip::from(longitudes).and(latitudes).map_collect(|lon, lat| unit_vector(*lon, *lat));
    // The velocity through a side, from the corner on its left to the one on its right.
    let flow = |left: [f64; 3], right: [f64; 3]| {
        let length = left.iter().zip(right).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        if length > 0.0 { (right[2] - left[2]) / length } else { 0.0 }
    };
    let (mut cosines, mut sines) = (Vec::new(), Vec::new());
    for cell in places.windows((1, 2, 2)) {
        let [south_west, south_east] = [cell[(0, 0, 0)], cell[(0, 0, 1)]];
        let [north_west, north_east] = [cell[(0, 1, 0)], cell[(0, 1, 1)]];
        let u = flow(south_west, north_west) + flow(south_east, north_east);
        let v = flow(south_east, south_west) + flow(north_east, north_west);
        let norm = libm::hypot(u, v);
        let (cosine, sine) = if norm > 0.0 { (u / norm, -v / norm) } else { (1.0, 0.0) };
        cosines.push(cosine as f32);
        sines.push(sine as f32);
    }
    [cosines, sines]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_that_are_turned_have_turned_angles() {
        // Two cells a side: on even tiles i runs east, on odd ones from north to south.
        let n = 2;
        let shape = (13, n + 1, n + 1);
        let is_even = |tile: usize| tile.is_multiple_of(2);
        let longitudes = Array3::from_shape_fn(shape, |(tile, j, i)| if is_even(tile) { i } else { j } as f32);
        let latitudes = Array3::from_shape_fn(shape, |(tile, j, i)| if is_even(tile) { j } else { n - i } as f32 - 1.0);
        let [cosines, sines] = angles(&longitudes, &latitudes);
        for cell in 0..13 * n * n {
            let expected = if cell / (n * n) % 2 == 0 { (1.0, 0.0) } else { (0.0, -1.0) };
            assert!(
                (cosines[cell] - expected.0).abs() < 1e-6 && (sines[cell] - expected.1).abs() < 1e-6,
                "cell {cell}"
            );
        }
    }
}
