//! A made-up ocean: smooth fields with the large-scale features of the real one. No physics is solved.

use super::bathymetry::{GRAVITY, smooth};
use super::sphere::{SpaceVector, dot, point};
use std::f64::consts::TAU;

/// The state of one month, as functions of position. Units are degrees and metres, and degrees Celsius for temperature.
pub(super) struct Ocean {
    /// Cosine and sine of the season: 1 and 0 in the middle of January.
    season: (f64, f64),
    eddies: Waves,
    drift: Waves,
    weather: Waves,
}

impl Ocean {
    /// Makes the ocean of a month, counted from 0 for January.
    pub(super) fn new(month: usize) -> Self {
        let (sin, cos) = libm::sincos(TAU * month as f64 / 12.0);
        Ocean {
            season: (cos, sin),
            eddies: Waves::new(1, 9.0, 26.0),
            drift: Waves::new(20 + month as u64, 9.0, 26.0),
            weather: Waves::new(40 + month as u64, 2.0, 9.0),
        }
    }

    /// Returns the height of the sea surface in metres, without the response to air pressure.
    pub(super) fn height(&self, longitude: f64, latitude: f64) -> f64 {
        let p = point(longitude, latitude);
        let gyres: f64 = GYRES.iter().map(|gyre| gyre.height * gyre.at(longitude, latitude)).sum();
        let current = 0.85 * (libm::tanh((latitude + 48.0) / 7.0) - 1.0) + 0.35;
        let steric = 0.06 * libm::sin(latitude.to_radians()) * -self.season.0;
        let quiet = 0.35 + 0.65 * libm::exp(-libm::pow((latitude.abs() - 40.0) / 16.0, 2.0));
        current + gyres + steric + quiet * (0.055 * self.eddies.at(p) + 0.035 * self.drift.at(p))
    }

    /// Returns the effect of air pressure on the sea surface in metres: about a centimetre for a hectopascal.
    pub(super) fn barometer(&self, longitude: f64, latitude: f64) -> f64 {
        let lows = smooth((-latitude - 40.0) / 22.0) * 0.24 + smooth((latitude - 45.0) / 15.0) * 0.06;
        let highs = -0.07 * libm::exp(-libm::pow((latitude.abs() - 30.0) / 11.0, 2.0));
        lows + highs + 0.05 * libm::sin(latitude.to_radians()).abs() * self.weather.at(point(longitude, latitude))
    }

    /// Returns the surface temperature in degrees Celsius before it is limited by freezing.
    fn warmth(&self, longitude: f64, latitude: f64) -> f64 {
        let p = point(longitude, latitude);
        let zonal = -3.2 + 31.0 * libm::exp(-libm::pow((latitude - 2.0).abs() / 42.0, 3.0));
        let places: f64 = WARMTH.iter().map(|place| place.height * place.at(longitude, latitude)).sum();
        let season = -2.6 * self.season.0 * libm::sin(latitude.to_radians()) * libm::cos(latitude.to_radians()).sqrt();
        let quiet = libm::cos(latitude.to_radians());
        zonal + places + season + quiet * (0.8 * self.eddies.at(p) + 0.5 * self.drift.at(p))
    }

    /// Returns the potential temperature of a column, as a function of height below the surface (negative).
    pub(super) fn temperature(&self, longitude: f64, latitude: f64) -> impl Fn(f64) -> f64 {
        let surface = soft_floor(self.warmth(longitude, latitude), -1.85);
        let deep = 1.6 - 2.2 * smooth((latitude.abs() - 55.0) / 20.0);
        // Warm water reaches deepest below the subtropical gyres.
        let bowl = libm::exp(-libm::pow((latitude.abs() - 30.0) / 14.0, 2.0));
        move |z| {
            let mixed = (-z - 35.0).max(0.0);
            deep + (surface - deep)
                * (0.75 * libm::exp(-mixed / (120.0 + 330.0 * bowl)) + 0.25 * libm::exp(-mixed / 1100.0))
        }
    }

    /// Returns the salinity of a column, as a function of height below the surface (negative).
    pub(super) fn salinity(&self, longitude: f64, latitude: f64) -> impl Fn(f64) -> f64 {
        let dry = 1.5 * libm::exp(-libm::pow((latitude.abs() - 25.0) / 13.0, 2.0));
        let rain = -0.6 * libm::exp(-libm::pow((latitude - 6.0) / 6.0, 2.0));
        let melt = -2.6 * smooth((latitude - 66.0) / 14.0) - 0.6 * smooth((-latitude - 50.0) / 15.0);
        let places: f64 = SALT.iter().map(|place| place.height * place.at(longitude, latitude)).sum();
        let surface = 34.6 + dry + rain + melt + places + 0.08 * self.eddies.at(point(longitude, latitude));
        move |z| 34.75 + (surface - 34.75) * libm::exp(z / 420.0)
    }

    /// Returns the fraction of a cell that sea ice covers, 0 to 1.
    pub(super) fn ice_cover(&self, longitude: f64, latitude: f64) -> f64 {
        0.98 * smooth((-0.9 - self.warmth(longitude, latitude)) / 2.2)
    }

    /// Returns the mean thickness of sea ice over a whole cell, in metres.
    pub(super) fn ice_thickness(&self, longitude: f64, latitude: f64) -> f64 {
        let level = if latitude > 0.0 { 1.2 + 1.4 * smooth((latitude - 72.0) / 14.0) } else { 0.7 };
        self.ice_cover(longitude, latitude) * level
    }

    /// Returns the mean thickness of the snow on it, in metres.
    pub(super) fn snow_thickness(&self, longitude: f64, latitude: f64) -> f64 {
        self.ice_cover(longitude, latitude) * 0.18
    }

    /// Returns the speed of the surface flow for a unit slope of the surface, in m/s, positive to the left of the
    /// ascent: geostrophic away from the equator, zero on it.
    pub(super) fn geostrophy(latitude: f64) -> f64 {
        let turn = |latitude: f64| 2.0 * 7.292e-5 * libm::sin(latitude.to_radians());
        let f = turn(latitude);
        GRAVITY * f / (f * f + libm::pow(turn(4.0), 2.0))
    }

    /// Returns the fraction of the surface flow that remains at a height below the surface.
    pub(super) fn flow_at(z: f64) -> f64 {
        0.85 * libm::exp(z / 650.0) + 0.15
    }

    /// Returns the upward velocity of a column in m/s, as a function of height below the surface, for a sea floor at
    /// `depth`.
    pub(super) fn upward(&self, longitude: f64, latitude: f64, depth: f64) -> impl Fn(f64) -> f64 {
        let p = point(longitude, latitude);
        let equator = 4e-6 * libm::exp(-libm::pow((latitude + 1.0) / 3.5, 2.0));
        // A shallow sea leaves little room for vertical motion.
        let waves = 1.5e-6 * (self.eddies.at(p) + self.drift.at(p)) * smooth(depth / 3000.0);
        move |z| match -z / depth {
            inside if inside < 1.0 => (equator * libm::exp(z / 120.0) + waves) * libm::sin(inside * TAU / 2.0),
            _ => 0.0,
        }
    }
}

/// Limits a value from below, with a smooth transition over about a degree.
fn soft_floor(value: f64, floor: f64) -> f64 {
    let above = value - floor;
    floor + if above > 10.0 { above } else { 0.5 * libm::log1p(libm::exp(2.0 * above)) }
}

/// A hill in longitude and latitude.
struct Hill {
    longitude: f64,
    latitude: f64,
    wide: f64,
    tall: f64,
    height: f64,
}

const fn place(longitude: f64, latitude: f64, wide: f64, tall: f64, height: f64) -> Hill {
    Hill { longitude, latitude, wide, tall, height }
}

impl Hill {
    /// Returns 1 in the middle, and nearly 0 far away.
    fn at(&self, longitude: f64, latitude: f64) -> f64 {
        let east = super::sphere::wrap(longitude - self.longitude) / self.wide;
        let north = (latitude - self.latitude) / self.tall;
        libm::exp(-(east * east + north * north))
    }
}

/// Subtropical highs, subpolar lows and the Beaufort high; their western edges are the steep ones.
const GYRES: &[Hill] = &[
    place(145.0, 29.0, 22.0, 9.0, 0.55),
    place(175.0, 25.0, 45.0, 13.0, 0.35),
    place(-70.0, 31.0, 14.0, 8.0, 0.35),
    place(-50.0, 28.0, 26.0, 12.0, 0.2),
    place(-170.0, -22.0, 60.0, 14.0, 0.45),
    place(60.0, -30.0, 30.0, 11.0, 0.4),
    place(-30.0, -30.0, 28.0, 11.0, 0.15),
    place(130.0, 2.0, 35.0, 12.0, 0.25),
    place(170.0, 52.0, 30.0, 8.0, -0.45),
    place(-38.0, 58.0, 22.0, 8.0, -0.75),
    place(0.0, 70.0, 20.0, 7.0, -0.55),
    place(-30.0, -66.0, 30.0, 7.0, -0.25),
    place(-150.0, 76.0, 40.0, 6.0, 0.2),
    place(-95.0, -5.0, 30.0, 15.0, -0.15),
];

/// Warm and cold places of the surface: the North Atlantic drift, boundary currents, the cold tongue, the warm pool.
const WARMTH: &[Hill] = &[
    place(-15.0, 60.0, 25.0, 9.0, 6.0),
    place(15.0, 71.0, 25.0, 5.0, 5.5),
    place(-60.0, 38.0, 14.0, 6.0, 4.0),
    place(-55.0, 52.0, 9.0, 8.0, -4.5),
    place(150.0, 36.0, 16.0, 6.0, 2.5),
    place(150.0, 50.0, 14.0, 8.0, -3.5),
    place(-105.0, -2.0, 35.0, 5.0, -3.0),
    place(-82.0, -15.0, 12.0, 14.0, -4.0),
    place(10.0, -18.0, 9.0, 12.0, -4.0),
    place(-122.0, 32.0, 10.0, 10.0, -2.5),
    place(145.0, 2.0, 35.0, 10.0, 1.2),
];

/// Salty and fresh places of the surface.
const SALT: &[Hill] = &[
    place(-40.0, 25.0, 32.0, 18.0, 1.0),
    place(-15.0, -18.0, 22.0, 12.0, 0.6),
    place(18.0, 37.0, 20.0, 5.0, 2.2),
    place(-5.0, 62.0, 25.0, 12.0, 0.8),
    place(62.0, 20.0, 10.0, 8.0, 1.0),
    place(90.0, 17.0, 9.0, 7.0, -2.6),
    place(-160.0, 50.0, 45.0, 12.0, -1.6),
    place(-90.0, 8.0, 22.0, 7.0, -0.9),
    place(115.0, 2.0, 16.0, 12.0, -1.0),
    place(-48.0, 3.0, 8.0, 5.0, -1.2),
];

/// A sum of plane waves through the sphere, of about unit variance.
struct Waves(Vec<(SpaceVector, f64)>);

impl Waves {
    /// Makes waves in random directions, with wave numbers between two limits (cycles around the Earth).
    fn new(seed: u64, from: f64, to: f64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SplitMix64, which gives the same numbers on every machine.
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        };
        let waves = (0..28).map(|_| {
            let (z, turn) = (2.0 * random() - 1.0, TAU * random());
            let number = from * libm::pow(to / from, random());
            let across = (1.0 - z * z).sqrt() * number;
            ([across * libm::cos(turn), across * libm::sin(turn), z * number], TAU * random())
        });
        Waves(waves.collect())
    }

    fn at(&self, p: SpaceVector) -> f64 {
        let sum: f64 = self.0.iter().map(|(k, phase)| libm::cos(dot(*k, p) + phase)).sum();
        sum / (self.0.len() as f64 / 2.0).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stay_within_what_oceans_have() {
        for month in 0..3 {
            let ocean = Ocean::new(month);
            for lat in (-79..=89).step_by(4) {
                for lon in (-180..180).step_by(5) {
                    let (lon, lat) = (f64::from(lon), f64::from(lat));
                    assert!(ocean.height(lon, lat).abs() < 2.2);
                    assert!(ocean.barometer(lon, lat).abs() < 0.5);
                    for z in [-5.0, -100.0, -1000.0, -4000.0] {
                        let (t, s) = (ocean.temperature(lon, lat)(z), ocean.salinity(lon, lat)(z));
                        assert!((-2.0..32.5).contains(&t), "{lon} {lat} {z} {t}");
                        assert!((29.0..39.0).contains(&s), "{lon} {lat} {z} {s}");
                    }
                    assert!((0.0..=1.0).contains(&ocean.ice_cover(lon, lat)));
                    assert!(ocean.upward(lon, lat, 4000.0)(-500.0).abs() < 2e-5);
                }
            }
            assert!(ocean.ice_cover(180.0, 85.0) > 0.9);
            assert_eq!(ocean.ice_cover(-150.0, 0.0), 0.0);
        }
    }

    #[test]
    fn the_deep_is_cold_and_the_tropics_are_warm() {
        let ocean = Ocean::new(0);
        assert!(ocean.temperature(-150.0, 10.0)(-7.0) > 24.0);
        assert!(ocean.temperature(-150.0, 10.0)(-4000.0) < 3.0);
        assert!(ocean.salinity(-35.0, 25.0)(-7.0) > ocean.salinity(-160.0, 50.0)(-7.0) + 1.5);
    }

    #[test]
    fn the_date_line_is_no_seam() {
        let ocean = Ocean::new(1);
        for lat in [-60.0, -20.0, 0.0, 35.0, 60.0, 80.0] {
            assert!((ocean.height(-180.0, lat) - ocean.height(179.999_999, lat)).abs() < 1e-4);
        }
    }
}
