//! Colours for values: equal steps of the value look like equal steps of the colour.
//!
//! Both maps are defined in the Oklab space, where lightness is perceived lightness, and then converted to sRGB.

use std::f64::consts::TAU;

/// Red, green and blue, 0 to 255 each.
pub(super) type Rgb = [u8; 3];

/// Colour of cells without a value, which are land.
pub(super) const LAND: Rgb = [150, 150, 150];
/// Colour around the map.
pub(super) const PAPER: Rgb = [255, 255, 255];
/// Colour of letters and frames.
pub(super) const INK: Rgb = [40, 40, 40];

/// The colours that stand for values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// From dark violet over green to pale yellow.
    Sequential,
    /// From blue below zero over almost white to red above it.
    Diverging,
}

impl Palette {
    /// Returns the colour at a position on the scale, 0 to 1.
    pub(super) fn at(self, place: f64) -> Rgb {
        let place = place.clamp(0.0, 1.0);
        match self {
            Palette::Sequential => {
                let swell = (place * TAU / 2.0).sin();
                oklch(0.24 + 0.71 * place, 0.085 + 0.03 * swell, 295.0 - 195.0 * place.powf(0.9))
            }
            Palette::Diverging => {
                let side = 2.0 * place - 1.0;
                let away = side.abs();
                let chroma = 0.155 * (away * 1.9).min(1.0).powf(0.8) * (1.0 - 0.25 * away.powi(3));
                oklch(0.965 - 0.56 * away.powf(1.1), chroma, if side < 0.0 { 255.0 } else { 28.0 })
            }
        }
    }
}

/// Returns the colour of a lightness, chroma and hue (in degrees). A colour that a screen cannot show is clipped.
fn oklch(lightness: f64, chroma: f64, hue: f64) -> Rgb {
    let (sin, cos) = hue.to_radians().sin_cos();
    let (a, b) = (chroma * cos, chroma * sin);
    let cones = [
        lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
        lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
        lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
    ]
    .map(|x| x.powi(3));
    [
        [4.076_741_662_1, -3.307_711_591_3, 0.230_969_929_2],
        [-1.268_438_004_6, 2.609_757_401_1, -0.341_319_396_5],
        [-0.004_196_086_3, -0.703_418_614_7, 1.707_614_701_0],
    ]
    .map(|row| {
        let linear: f64 = row.iter().zip(cones).map(|(m, c)| m * c).sum();
        let linear = linear.clamp(0.0, 1.0);
        let gamma = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
        (gamma * 255.0).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the relative luminance.
    fn light(colour: Rgb) -> f64 {
        let [r, g, b] = colour.map(|c| (f64::from(c) / 255.0).powf(2.2));
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    #[test]
    fn the_sequential_map_grows_lighter_all_the_way() {
        let lights: Vec<_> = (0..=100).map(|p| light(Palette::Sequential.at(f64::from(p) / 100.0))).collect();
        assert!(lights.is_sorted_by(|a, b| a < b));
        assert!(lights[0] < 0.05 && lights[100] > 0.75);
    }

    #[test]
    fn the_diverging_map_is_lightest_at_zero() {
        let lights: Vec<_> = (0..=100).map(|p| light(Palette::Diverging.at(f64::from(p) / 100.0))).collect();
        assert!(lights[..51].is_sorted() && lights[50..].is_sorted_by(|a, b| a >= b));
        let (low, high) = (Palette::Diverging.at(0.0), Palette::Diverging.at(1.0));
        assert!(low[2] > low[0] + 60 && high[0] > high[2] + 60);
    }

    #[test]
    fn white_is_white() {
        assert_eq!(oklch(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(oklch(0.0, 0.0, 0.0), [0, 0, 0]);
    }
}
