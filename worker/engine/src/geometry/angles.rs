//! The angles between the axes of a tile and the directions of the compass.

use super::corners::unit_vector;
use crate::mds::compact::TILES;

/// Cosine and sine of the angle between the tile's i axis and east at each cell (tile, j, i), as MITgcm computes them: from
/// the velocity of a solid rotation, whose stream function is the sine of the latitude.
///
/// Takes the longitudes and latitudes of all corners (tile, N + 1, N + 1).
pub(super) fn angles(n: usize, longitudes: &[f32], latitudes: &[f32]) -> [Vec<f32>; 2] {
    let side = n + 1;
    let places: Vec<[f64; 3]> = longitudes.iter().zip(latitudes).map(|(lon, lat)| unit_vector(*lon, *lat)).collect();
    // The velocity through a side, from the corner on its left to the one on its right.
    let flow = |left: usize, right: usize| {
        let length = places[left].iter().zip(places[right]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
        if length > 0.0 { (places[right][2] - places[left][2]) / length } else { 0.0 }
    };
    let (mut cosines, mut sines) = (Vec::new(), Vec::new());
    for cell in 0..TILES * n * n {
        let (tile, j, i) = (cell / (n * n), cell / n % n, cell % n);
        let corner = |j: usize, i: usize| (tile * side + j) * side + i;
        let [south_west, south_east] = [corner(j, i), corner(j, i + 1)];
        let [north_west, north_east] = [corner(j + 1, i), corner(j + 1, i + 1)];
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
        let (mut longitudes, mut latitudes) = (Vec::new(), Vec::new());
        for tile in 0..13 {
            for j in 0..=n {
                for i in 0..=n {
                    let [east, north] = if tile % 2 == 0 { [i, j] } else { [j, n - i] };
                    longitudes.push(east as f32);
                    latitudes.push(north as f32 - 1.0);
                }
            }
        }
        let [cosines, sines] = angles(n, &longitudes, &latitudes);
        for cell in 0..13 * n * n {
            let expected = if cell / (n * n) % 2 == 0 { (1.0, 0.0) } else { (0.0, -1.0) };
            assert!(
                (cosines[cell] - expected.0).abs() < 1e-6 && (sines[cell] - expected.1).abs() < 1e-6,
                "cell {cell}"
            );
        }
    }
}
