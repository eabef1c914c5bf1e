//! Tests with small granules that are drawn and read back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use std::fs::File;
use std::io::BufReader;

/// A decoded picture, with its size in pixels.
struct Decoded {
    width: usize,
    bytes: Vec<u8>,
}

impl Decoded {
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        self.bytes[at..at + 3].try_into().unwrap()
    }
}

fn decode(path: &Path) -> Decoded {
    let mut reader = png::Decoder::new(BufReader::new(File::open(path).unwrap())).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    Decoded { width: info.width as usize, bytes }
}

/// Writes a variable with a value of its own in each cell; the last cell is a fill value.
fn write(path: &Path, name: &str, dimensions: &[(&str, usize)], value: impl Fn(usize) -> f32) {
    let mut file = netcdf::create(path).unwrap();
    for (name, length) in dimensions {
        file.add_dimension(name, *length).unwrap();
    }
    let names: Vec<_> = dimensions.iter().map(|d| d.0).collect();
    let mut variable = file.add_variable::<f32>(name, &names).unwrap();
    variable.set_fill_value(9.96921e36f32).unwrap();
    variable.put_attribute("units", "m").unwrap();
    let length = dimensions.iter().map(|d| d.1).product::<usize>();
    let mut values: Vec<f32> = (0..length).map(value).collect();
    values[length - 1] = 9.96921e36;
    variable.put_values(&values, ..).unwrap();
}

#[test]
fn a_map_has_north_up_and_land_grey() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    write(&granule, "SSH", &[("time", 1), ("latitude", 2), ("longitude", 4)], |at| at as f32);
    let picture = render(&granule, None, 0, &out).unwrap();
    assert_eq!((picture.variable.as_str(), picture.units.as_str()), ("SSH", "m"));
    assert_eq!(picture.range, Some((0.0, 6.0)));
    assert_eq!(picture.scale, (0.0, 6.0));
    let decoded = decode(&out);
    assert_eq!(decoded.width, picture.width);
    assert_eq!(picture.width, 1080 + 2 * MARGIN);
    let zoom = 270;
    let at = |row: usize, column: usize| {
        decoded.at(MARGIN + column * zoom + zoom / 2, MARGIN + 2 * LINE + row * zoom + zoom / 2)
    };
    // The upper row of the picture is the second one of the file.
    for column in 0..4 {
        assert_eq!(at(1, column), Palette::Sequential.at(column as f64 / 6.0));
    }
    assert_eq!(at(0, 0), Palette::Sequential.at(4.0 / 6.0));
    assert_eq!(at(0, 3), LAND);
}

#[test]
fn maps_that_start_in_the_north_are_not_turned() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    write(&granule, "SSH", &[("latitude", 2), ("longitude", 4)], |at| at as f32);
    {
        let mut file = netcdf::append(&granule).unwrap();
        file.add_variable::<f32>("latitude", &["latitude"]).unwrap().put_values(&[45.0f32, -45.0], ..).unwrap();
    }
    render(&granule, Some("SSH"), 0, &out).unwrap();
    let decoded = decode(&out);
    assert_eq!(decoded.at(MARGIN + 10, MARGIN + 2 * LINE + 10), Palette::Sequential.at(0.0));
}

#[test]
fn tiles_are_laid_out_with_north_up() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    // Levels, tiles, rows, columns; each value is 100 k + 4 tile + 2 j + i.
    write(&granule, "THETA", &[("time", 1), ("k", 2), ("tile", 13), ("j", 2), ("i", 2)], |at| {
        (at / 52 * 100 + at % 52) as f32
    });
    let picture = render(&granule, None, 1, &out).unwrap();
    assert_eq!(picture.range, Some((100.0, 150.0)));
    let decoded = decode(&out);
    let zoom = WIDEST / 8;
    let at = |x: usize, y: usize| decoded.at(MARGIN + x * zoom + zoom / 2, MARGIN + 2 * LINE + y * zoom + zoom / 2);
    let (low, high) = picture.scale;
    let colour = |tile: usize, j: usize, i: usize| {
        Palette::Sequential.at((100.0 + (4 * tile + 2 * j + i) as f64 - low) / (high - low))
    };
    // Tile 0 is at the bottom left, with its j upwards.
    assert_eq!(at(0, 7), colour(0, 0, 0));
    assert_eq!(at(1, 7), colour(0, 0, 1));
    assert_eq!(at(0, 6), colour(0, 1, 0));
    assert_eq!(at(2, 3), colour(5, 0, 0));
    assert_eq!(at(2, 2), colour(5, 1, 0));
    // The Arctic is above tile 5.
    assert_eq!(at(2, 1), colour(6, 0, 0));
    assert_eq!(at(2, 0), colour(6, 1, 0));
    // Tile 7 begins in its north-western corner: i downwards, j to the right.
    assert_eq!(at(4, 2), colour(7, 0, 0));
    assert_eq!(at(4, 3), colour(7, 0, 1));
    assert_eq!(at(5, 2), colour(7, 1, 0));
    assert_eq!(at(6, 6), colour(12, 0, 0));
    assert_eq!(at(7, 7), LAND);
    // There is nothing beside the Arctic.
    for x in [0, 1, 4, 7] {
        assert_eq!(at(x, 0), colour::PAPER);
    }
}

#[test]
fn large_maps_are_averaged() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    write(&granule, "SSH", &[("latitude", 30), ("longitude", 2160)], |at| if at % 2 == 0 { 1.0 } else { 3.0 });
    let picture = render(&granule, None, 0, &out).unwrap();
    assert_eq!(picture.range, Some((1.0, 3.0)));
    assert_eq!(picture.scale, (1.0, 3.0));
    let decoded = decode(&out);
    assert_eq!(decoded.at(MARGIN + 500, MARGIN + 2 * LINE + 7), Palette::Sequential.at(0.5));
}

#[test]
fn values_on_both_sides_of_zero_diverge() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    write(&granule, "SSH", &[("latitude", 2), ("longitude", 4)], |at| at as f32 - 3.0);
    let picture = render(&granule, None, 0, &out).unwrap();
    assert_eq!((picture.palette, picture.scale), (Palette::Diverging, (-3.0, 3.0)));
}

#[test]
fn nothing_but_land_is_a_picture_too() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    write(&granule, "SSH", &[("latitude", 2), ("longitude", 4)], |_| f32::NAN);
    assert_eq!(render(&granule, None, 0, &out).unwrap().range, None);
    assert_eq!(decode(&out).at(MARGIN + 5, MARGIN + 2 * LINE + 5), LAND);
    write(&granule, "SSH", &[("latitude", 2), ("longitude", 4)], |_| 0.0);
    assert_eq!(render(&granule, None, 0, &out).unwrap().scale, (-1.0, 1.0));
}

#[test]
fn errors_say_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (granule, out) = (dir.path().join("g.nc"), dir.path().join("g.png"));
    let message = |variable, level| render(&granule, variable, level, &out).unwrap_err().to_string();
    assert!(message(None, 0).contains("g.nc: cannot be read"));
    write(&granule, "THETA", &[("Z", 3), ("latitude", 2), ("longitude", 4)], |at| at as f32);
    assert!(message(Some("SALT"), 0).ends_with("has no field 'SALT'; it has: THETA"));
    assert!(message(None, 3).ends_with("THETA has no level 3; give one from 0 to 2"));
    write(&granule, "THETA", &[("tile", 12), ("j", 2), ("i", 2)], |at| at as f32);
    assert!(message(None, 0).contains("[12, 2, 2]"));
    write(&granule, "depth", &[("x", 3)], |at| at as f32);
    assert!(message(None, 0).contains("has no variable on"));
    assert!(!out.exists());
}
