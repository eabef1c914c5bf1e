//! The keys of a configuration that determine mapping factors.

use super::Warning;
use super::configuration::ConfigurationError;
use super::keys::{self, EXTENT, FACTOR_PLACES};
use super::reader::KeyReader;

const RESOLUTION: &str = "latlon_grid_resolution";
const RADIUS: &str = "latlon_effective_grid_radius";
const METHOD: &str = "latlon_grid_radius_method";

/// The values of `latlon_grid_radius_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RadiusMethod {
    /// The value `method_1`: a circle with the area of the cell.
    CellArea,
    /// The value `method_2`: half of the diagonal of a cell.
    HalfDiagonal,
}

/// The keys of a configuration that determine mapping factors. Other keys are ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FactorKeys {
    /// `latlon_grid_resolution`: the side of a cell in degrees.
    pub resolution: Option<f64>,
    /// `latlon_grid_area_extent`: the western, southern, eastern and northern edges in degrees.
    pub extent: Option<[f64; 4]>,
    /// `latlon_effective_grid_radius`: the radius, as the number in the file.
    pub radius: Option<f64>,
    /// `latlon_grid_radius_method`: the method for the radius.
    pub method: Option<RadiusMethod>,
    /// `ecco_grid_dir`, and the file of it that `ecco_native_grid_filename` or `ecco_grid_filename` names: the native
    /// geometry.
    pub grid: Option<String>,
    /// `mapping_factors_dir`: the directory of the factors.
    pub directory: Option<String>,
}

impl FactorKeys {
    /// Reads the keys from a configuration.
    ///
    /// # Errors
    /// Returns an error if the text is not a YAML mapping, or if one of these keys has an unusable value.
    pub fn parse(name: &str, text: &[u8]) -> Result<(FactorKeys, Vec<Warning>), ConfigurationError> {
        let reader = KeyReader::with_shapes(name, text, keys::factor_shape)?;
        let number = |key: &'static str, expected| match reader.text(key) {
            Some(text) if !text.trim().is_empty() => reader.parsed::<f64>(key, &text, expected).map(Some),
            _ => Ok(None),
        };
        let method = match reader.text(METHOD).as_deref().map(str::trim) {
            None | Some("") => None,
            Some("method_1") => Some(RadiusMethod::CellArea),
            Some("method_2") => Some(RadiusMethod::HalfDiagonal),
            Some(other) => return Err(reader.wrong(METHOD, format!("'{other}'"), "method_1 or method_2")),
        };
        let expected = "four numbers, [west, north, east, south] in degrees";
        let extent = match reader.list(EXTENT) {
            None => None,
            Some(texts) => {
                let numbers: Vec<f64> =
                    texts.iter().map(|text| reader.parsed(EXTENT, text, expected)).collect::<Result<_, _>>()?;
                // Documents give the two latitudes in either order.
                match numbers[..] {
                    [west, a, east, b] => Some([west, a.min(b), east, a.max(b)]),
                    _ => return Err(reader.wrong(EXTENT, format!("{} values", numbers.len()), expected)),
                }
            }
        };
        let [directory, native, older, factors] = FACTOR_PLACES;
        let place = |key| reader.text(key).filter(|text| !text.trim().is_empty());
        let file = place(native).or_else(|| place(older));
        let grid = match (place(directory), file) {
            (Some(directory), Some(file)) => Some(format!("{}/{file}", directory.trim_end_matches('/'))),
            (directory, file) => directory.or(file),
        };
        let keys = FactorKeys {
            grid,
            directory: place(factors),
            resolution: number(RESOLUTION, "degrees, more than 0, at most 180")?,
            radius: number(RADIUS, "a radius in kilometres, or nothing")?,
            extent,
            method,
        };
        Ok((keys, reader.warnings))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<FactorKeys, String> {
        FactorKeys::parse("c.yaml", text.as_bytes()).map(|(keys, _)| keys).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_its_keys_and_no_others() {
        let text = "history: {no: text}\nlatlon_grid_resolution: 0.25\nlatlon_effective_grid_radius:\n\
                    latlon_grid_area_extent: [-180.0, 90.0, 180.0, -90.0]\nlatlon_grid_radius_method: 'method_2'\n";
        let keys = parse(text).unwrap();
        let extent = Some([-180.0, -90.0, 180.0, 90.0]);
        let method = Some(RadiusMethod::HalfDiagonal);
        assert_eq!(keys, FactorKeys { resolution: Some(0.25), extent, method, ..FactorKeys::default() });
        assert_eq!(parse("{}").unwrap(), FactorKeys::default());
        let region = parse("latlon_grid_area_extent: [10, -5, 20, 5]\nlatlon_effective_grid_radius: 40\n").unwrap();
        assert_eq!((region.extent, region.radius), (Some([10.0, -5.0, 20.0, 5.0]), Some(40.0)));
    }

    #[test]
    fn reads_the_places_of_grid_and_factors() {
        let text = "ecco_grid_dir: ../grids/\necco_grid_filename: old.nc\nmapping_factors_dir: factors\n";
        let keys = parse(text).unwrap();
        assert_eq!((keys.grid.as_deref(), keys.directory.as_deref()), (Some("../grids/old.nc"), Some("factors")));
        let newer = parse(&format!("{text}ecco_native_grid_filename: new.nc\n")).unwrap();
        assert_eq!(newer.grid.as_deref(), Some("../grids/new.nc"));
        let only = parse("ecco_grid_dir: grids\nmapping_factors_dir: ''\n").unwrap();
        assert_eq!((only.grid.as_deref(), only.directory), (Some("grids"), None));
    }

    #[test]
    fn says_what_is_wrong_where() {
        for (text, expected) in [
            ("latlon_grid_resolution: coarse", "line 1, key latlon_grid_resolution: 'coarse'; expected degrees"),
            ("a: 1\nlatlon_grid_radius_method: method_3", "line 2, key latlon_grid_radius_method: 'method_3'"),
            ("latlon_grid_area_extent: [1, 2, 3]", "3 values; expected four numbers"),
            ("latlon_grid_area_extent: [1, 2, 3, x]", "'x'; expected four numbers"),
            ("latlon_grid_area_extent: 5", "expected a list of values"),
            ("latlon_effective_grid_radius: wide", "expected a radius"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
