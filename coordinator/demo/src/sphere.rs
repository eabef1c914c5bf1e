//! Points, distances and areas on the unit sphere.

/// A vector in space, of unit length if it stands for a point of the sphere.
pub(super) type SpaceVector = [f64; 3];

/// Returns the unit vector of a point given in degrees.
pub(super) fn point(longitude: f64, latitude: f64) -> SpaceVector {
    let (sin_lat, cos_lat) = libm::sincos(latitude.to_radians());
    let (sin_lon, cos_lon) = libm::sincos(longitude.to_radians());
    [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat]
}

/// Returns longitude in [-180, 180) and latitude, in degrees. The longitude of a pole is 0.
pub(super) fn degrees(p: SpaceVector) -> (f64, f64) {
    let across = libm::hypot(p[0], p[1]);
    if across < 1e-12 {
        return (0.0, 90f64.copysign(p[2]));
    }
    (wrap(libm::atan2(p[1], p[0]).to_degrees()), libm::atan2(p[2], across).to_degrees())
}

/// Returns the same meridian in [-180, 180).
pub(super) fn wrap(longitude: f64) -> f64 {
    if (-180.0..180.0).contains(&longitude) {
        return longitude;
    }
    (longitude + 180.0).rem_euclid(360.0) - 180.0
}

pub(super) fn dot(a: SpaceVector, b: SpaceVector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn cross(a: SpaceVector, b: SpaceVector) -> SpaceVector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(super) fn minus(a: SpaceVector, b: SpaceVector) -> SpaceVector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// Returns the unit vector in the middle of some points.
pub(super) fn middle(points: &[SpaceVector]) -> SpaceVector {
    let mut sum = [0.0; 3];
    for p in points {
        for (s, x) in sum.iter_mut().zip(p) {
            *s += x;
        }
    }
    unit(sum)
}

/// Returns the vector scaled to unit length. A null vector is returned as it is.
pub(super) fn unit(v: SpaceVector) -> SpaceVector {
    let length = dot(v, v).sqrt();
    if length > 0.0 { v.map(|x| x / length) } else { v }
}

/// Returns the length of the great-circle arc between two points, in radians.
pub(super) fn arc(a: SpaceVector, b: SpaceVector) -> f64 {
    let c = cross(a, b);
    libm::atan2(dot(c, c).sqrt(), dot(a, b))
}

/// Returns the area of a triangle with great-circle sides, in steradians, positive if its corners run
/// counter-clockwise.
pub(super) fn triangle(a: SpaceVector, b: SpaceVector, c: SpaceVector) -> f64 {
    2.0 * libm::atan2(dot(a, cross(b, c)), 1.0 + dot(a, b) + dot(b, c) + dot(c, a))
}

/// Returns unit vectors to the east and to the north at a point given in degrees.
pub(super) fn east_north(longitude: f64, latitude: f64) -> (SpaceVector, SpaceVector) {
    let (sin_lat, cos_lat) = libm::sincos(latitude.to_radians());
    let (sin_lon, cos_lon) = libm::sincos(longitude.to_radians());
    ([-sin_lon, cos_lon, 0.0], [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn an_octant_is_an_eighth_of_the_sphere() {
        let (x, y, z) = ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]);
        assert!((triangle(x, y, z) - PI / 2.0).abs() < 1e-15);
        assert!((triangle(y, x, z) + PI / 2.0).abs() < 1e-15);
        assert!((arc(x, y) - PI / 2.0).abs() < 1e-15);
    }

    #[test]
    fn degrees_undo_point() {
        for (lon, lat) in [(0.0, 0.0), (-180.0, 10.0), (179.5, -89.0), (-37.5, 67.0)] {
            let (back_lon, back_lat) = degrees(point(lon, lat));
            assert!((wrap(back_lon - lon)).abs() < 1e-12 && (back_lat - lat).abs() < 1e-12);
        }
        assert_eq!(degrees([0.0, 0.0, 1.0]), (0.0, 90.0));
        assert_eq!(wrap(232.0), -128.0);
        assert_eq!(wrap(180.0), -180.0);
    }

    #[test]
    fn east_and_north_are_at_right_angles() {
        let p = point(33.0, 44.0);
        let (east, north) = east_north(33.0, 44.0);
        assert!(dot(east, north).abs() < 1e-15 && dot(p, north).abs() < 1e-15);
        let up = cross(east, north);
        assert!((dot(up, p) - 1.0).abs() < 1e-15);
    }
}
