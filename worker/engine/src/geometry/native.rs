//! The native geometry.

use super::angles::angles;
use super::columns::Columns;
use super::corners::{all_corners, bounds};
use super::describe::GeometryText;
use super::levels::LevelEncoder;
use super::{CODEC, FILL, GeometryFileError};
use crate::granule::content::{GranuleContent, Value, Values, Variable};
use crate::grid::{EdgePoints, GridError, ModelFiles, topology};
use crate::mds::compact::TILES;
use crate::metadata::source::Metadata;
use edp_protocol::{GridKind, Mode};
use ndarray::Array3;
use std::cell::RefCell;

/// The properties of a grid that are known before its three-dimensional arrays are read.
#[derive(Debug)]
pub struct CellGeometry {
    /// Thickness of the layers (k), metres.
    pub drf: Vec<f32>,
    /// Heights of the middles of the layers (k), metres.
    pub rc: Vec<f32>,
    /// Heights of the faces between the layers (k_p1), metres.
    pub rf: Vec<f32>,
}

impl CellGeometry {
    /// Reads the vertical grid. What one profile lacks follows from the others.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or if neither `DRF` nor `RF` is there.
    pub fn vertical(files: &ModelFiles) -> Result<CellGeometry, GridError> {
        let missing = || GridError::NoModelFile { directory: files.directory().to_owned(), name: "DRF" };
        let faces = files.profile("RF", files.levels + 1)?;
        let thickness = files.profile("DRF", files.levels)?;
        let (drf, rf) = match (thickness, faces) {
            (Some(drf), Some(rf)) => (drf, rf),
            (None, Some(rf)) => (rf.windows(2).map(|pair| pair[0] - pair[1]).collect(), rf),
            (Some(drf), None) => {
                let mut height = 0.0_f64;
                let below = drf.iter().map(|thickness| {
                    height -= f64::from(*thickness);
                    height as f32
                });
                let rf = std::iter::once(0.0).chain(below).collect();
                (drf, rf)
            }
            (None, None) => return Err(missing()),
        };
        let middles = || rf.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let rc = files.profile("RC", files.levels)?.unwrap_or_else(middles);
        Ok(CellGeometry { drf, rc, rf })
    }

    /// Distances between the middles of adjacent layers, and to the surface and the bottom (k_p1), metres.
    fn drc(&self) -> Vec<f32> {
        let ends = [self.rf.first(), self.rf.last()].map(|end| end.copied().unwrap_or_default());
        let points: Vec<f32> = std::iter::once(ends[0]).chain(self.rc.iter().copied()).chain([ends[1]]).collect();
        points.windows(2).map(|pair| pair[0] - pair[1]).collect()
    }
}

/// Makes the native geometry from the model's grid files. Returns it with notes on what was not there and had to be
/// computed.
///
/// In EDP's mode of 2024 it has the variables that are published for Release 4. Otherwise it also has the positions of U and
/// V points and of all corners, and in mode `corrected` the mask of corners (`maskZ`). The fields of ice shelves are there
/// if there are columns that are dry at the surface and wet below.
///
/// # Errors
/// Returns an error if a file that is needed is missing or cannot be read.
pub fn native(
    files: &ModelFiles,
    metadata: Option<&Metadata>,
    mode: Mode,
) -> Result<(GranuleContent, Vec<String>), GeometryFileError> {
    let (n, levels) = (files.n, files.levels);
    let mut notes = Vec::new();
    let text = GeometryText { metadata, grid: GridKind::Native };
    let vertical = CellGeometry::vertical(files)?;
    let (xg, yg) = (files.needed("XG")?, files.needed("YG")?);
    let [x_corners, y_corners] = match files.all_corners()? {
        Some(corners) => corners,
        None => {
            let (corners, count) = all_corners(n, &xg, &yg);
            notes.push(format!(
                "no mitgrid files: {count} corners at the edge of Antarctica and around the Arctic cap are extrapolated"
            ));
            corners
        }
    };
    let [cs, sn] = match (files.horizontal("AngleCS")?, files.horizontal("AngleSN")?) {
        (Some(cs), Some(sn)) => [cs, sn],
        _ => {
            notes.push("no AngleCS and AngleSN: the angles are computed from the corners".into());
            angles(&x_corners, &y_corners)
        }
    };
    let three = Levels::read(files, &vertical, mode)?;
    notes.extend(three.notes);

    let square = [TILES, n, n];
    let flat = |name: &str, dimensions: &[&str], values: &[f32]| {
        Ok::<_, GeometryFileError>(text.field::<f32>(
            name,
            dimensions,
            FILL.into(),
            CODEC.encode_whole(values, &square, FILL)?,
        ))
    };
    let profile = |name: &str, dimension: &str, values: &[f32]| {
        let chunked = CODEC.encode_whole(values, &[values.len()], FILL)?;
        Ok::<_, GeometryFileError>(text.field::<f32>(name, &[dimension], FILL.into(), chunked))
    };
    const C: [&str; 3] = ["tile", "j", "i"];
    const U: [&str; 3] = ["tile", "j", "i_g"];
    const V: [&str; 3] = ["tile", "j_g", "i"];
    const G: [&str; 3] = ["tile", "j_g", "i_g"];
    let column = match files.horizontal("Depth")? {
        Some(depth) => depth,
        None => {
            notes.push("no Depth: it is the sum of the open fractions of the layers".into());
            three.columns.thickness()
        }
    };
    let sea_floor: Vec<f32> = column.iter().zip(three.columns.draft()).map(|(column, draft)| column + draft).collect();
    let mut variables = vec![flat("CS", &C, &cs)?, flat("SN", &C, &sn)?, flat("rA", &C, &files.needed("RAC")?)?];
    for (name, model, dimensions) in [("dxG", "DXG", V), ("dyG", "DYG", U)] {
        variables.push(flat(name, &dimensions, &files.needed(model)?)?);
    }
    variables.push(flat("Depth", &C, &sea_floor)?);
    if three.columns.has_cavities() {
        variables.push(flat("ice_shelf_draft", &C, three.columns.draft())?);
        variables.push(flat("ocean_column_thickness", &C, &column)?);
    }
    for (name, model, dimensions) in
        [("rAz", "RAZ", G), ("dxC", "DXC", U), ("dyC", "DYC", V), ("rAw", "RAW", U), ("rAs", "RAS", V)]
    {
        variables.push(flat(name, &dimensions, &files.needed(model)?)?);
    }
    let drc = files.profile("DRC", levels + 1)?.unwrap_or_else(|| vertical.drc());
    variables.push(profile("drC", "k_p1", &drc)?);
    variables.push(profile("drF", "k", &vertical.drf)?);
    for (name, dimension, length) in [("PHrefC", "k", levels), ("PHrefF", "k_p1", levels + 1)] {
        match files.profile(name, length)? {
            Some(values) => variables.push(profile(name, dimension, &values)?),
            None => notes.push(format!("no {name}: it is left out")),
        }
    }
    let [c, w, s, z] =
        [["k", "tile", "j", "i"], ["k", "tile", "j", "i_g"], ["k", "tile", "j_g", "i"], ["k", "tile", "j_g", "i_g"]];
    for ((name, dimensions), encoder) in [("hFacC", c), ("hFacW", w), ("hFacS", s)].into_iter().zip(three.fractions) {
        variables.push(text.field::<f32>(name, &dimensions, FILL.into(), encoder.finish()));
    }
    let masks = [("maskC", c), ("maskW", w), ("maskS", s), ("maskZ", z)];
    for ((name, dimensions), encoder) in masks.into_iter().zip(three.masks) {
        variables.push(text.mask(name, &dimensions, None, encoder.finish()));
    }
    let xc = files.needed("XC")?;
    let positions = Positions { x: [&xc, &xg], y: [&files.needed("YC")?, &yg], corners: [&x_corners, &y_corners] };
    variables.extend(coordinates(&text, n, &vertical, &positions, mode));

    let mut dimensions = vec![("tile", TILES), ("j", n), ("i", n), ("j_g", n), ("i_g", n)];
    if mode != Mode::Edp2024 {
        dimensions.extend([("j_gg", n + 1), ("i_gg", n + 1)]);
    }
    dimensions.extend([("k", levels), ("k_u", levels), ("k_l", levels), ("k_p1", levels + 1), ("nb", 4), ("nv", 2)]);
    let dimensions = dimensions.into_iter().map(|(name, length)| (name.to_owned(), length)).collect();
    let title = format!("Geometry of a lat-lon-cap grid of 13 tiles of {n} by {n} cells with {levels} levels");
    let attributes =
        [("Conventions", "CF-1.8"), ("title", title.as_str()), ("coordinates", "XC_bnds YC_bnds Z_bnds Zl Zu")];
    let attributes = attributes.map(|(name, text)| (name.to_owned(), Value::Text(text.to_owned()))).into();
    Ok((GranuleContent { dimensions, variables, attributes }, notes))
}

/// Longitudes and latitudes of the cells' centres and of their corners at low i and j, and of all corners of each tile.
struct Positions<'a> {
    x: [&'a [f32]; 2],
    y: [&'a [f32]; 2],
    corners: [&'a Array3<f32>; 2],
}

fn coordinates(
    text: &GeometryText<'_>,
    n: usize,
    vertical: &CellGeometry,
    positions: &Positions<'_>,
    mode: Mode,
) -> Vec<Variable> {
    let (levels, Positions { x, y, corners }) = (vertical.rc.len(), positions);
    let mut variables = Vec::new();
    let index = |name: &str, length: usize| {
        text.coordinate(name, &[name], Values::I32((0..length as i32).collect::<Vec<_>>().into()))
    };
    let lengths = [("i", n), ("i_g", n), ("j", n), ("j_g", n), ("k", levels), ("k_u", levels), ("k_l", levels)];
    variables
        .extend(lengths.into_iter().chain([("k_p1", levels + 1), ("tile", TILES)]).map(|(name, l)| index(name, l)));
    let plain =
        |name: &str, dimensions: &[&str], values: &[f32]| text.coordinate(name, dimensions, Values::F32(values.into()));
    variables.push(plain("XC", &["tile", "j", "i"], x[0]));
    variables.push(plain("YC", &["tile", "j", "i"], y[0]));
    variables.push(plain("XG", &["tile", "j_g", "i_g"], x[1]));
    variables.push(plain("YG", &["tile", "j_g", "i_g"], y[1]));
    variables.push(plain("Z", &["k"], &vertical.rc));
    variables.push(plain("Zp1", &["k_p1"], &vertical.rf));
    variables.push(plain("Zu", &["k_u"], &vertical.rf[1..]));
    variables.push(plain("Zl", &["k_l"], &vertical.rf[..levels]));
    let [x_bounds, y_bounds] = corners.map(bounds);
    variables.push(plain("XC_bnds", &["tile", "j", "i", "nb"], &x_bounds));
    variables.push(plain("YC_bnds", &["tile", "j", "i", "nb"], &y_bounds));
    let z_bounds: Vec<f32> = vertical.rf.windows(2).flatten().copied().collect();
    variables.push(plain("Z_bnds", &["k", "nv"], &z_bounds));
    if mode != Mode::Edp2024 {
        let EdgePoints { xu, yu, xv, yv } = EdgePoints::from_corners(&x_bounds, &y_bounds);
        variables.push(plain("XU", &["tile", "j", "i_g"], &xu));
        variables.push(plain("YU", &["tile", "j", "i_g"], &yu));
        variables.push(plain("XV", &["tile", "j_g", "i"], &xv));
        variables.push(plain("YV", &["tile", "j_g", "i"], &yv));
        let [x_corners, y_corners] = corners.map(|corners| corners.iter().copied().collect::<Vec<_>>());
        variables.push(plain("XGG", &["tile", "j_gg", "i_gg"], &x_corners));
        variables.push(plain("YGG", &["tile", "j_gg", "i_gg"], &y_corners));
    }
    variables
}

/// The three-dimensional variables, and what follows from them.
struct Levels {
    fractions: [LevelEncoder<f32>; 3],
    masks: Vec<LevelEncoder<i8>>,
    columns: Columns,
    notes: Vec<String>,
}

impl Levels {
    /// Reads the open fractions level by level.
    fn read(files: &ModelFiles, vertical: &CellGeometry, mode: Mode) -> Result<Levels, GeometryFileError> {
        let (n, plane) = (files.n, TILES * files.n * files.n);
        let shape = [files.levels, TILES, n, n];
        let with_corners = mode == Mode::Corrected;
        let encoders = || std::array::from_fn(|_| LevelEncoder::new(&shape));
        let all = RefCell::new(Levels {
            fractions: encoders(),
            masks: (0..if with_corners { 4 } else { 3 }).map(|_| LevelEncoder::new(&shape)).collect(),
            columns: Columns::new(0),
            notes: Vec::new(),
        });
        let mut error = None;
        let add = |which: usize, values: &[f32]| {
            let mut all = all.borrow_mut();
            all.fractions[which].add(values.iter().copied())?;
            all.masks[which].add(values.iter().map(|value| i8::from(*value > 0.0)))
        };
        let there = ["hFacW", "hFacS"].map(|name| files.has(name));
        let mut columns = Columns::new(plane);
        let mut k = 0;
        files.each_level("hFacC", |values| {
            columns.add(&values, vertical.drf[k]);
            let mut added = add(0, &values);
            if with_corners {
                let wet = corners(n, &values);
                let mut all = all.borrow_mut();
                added = added.and_then(|()| all.masks[3].add(wet));
            }
            if there != [true; 2] {
                let faces = faces(n, &values);
                for (at, values) in faces.iter().enumerate().filter(|(at, _)| !there[*at]) {
                    added = added.and_then(|()| add(at + 1, values));
                }
            }
            error = error.take().or(added.err());
            k += 1;
        })?;
        for (at, name) in [(1, "hFacW"), (2, "hFacS")].into_iter().filter(|(at, _)| there[at - 1]) {
            files.each_level(name, |values| error = error.take().or(add(at, &values).err()))?;
        }
        if let Some(error) = error {
            return Err(error.into());
        }
        let mut all = all.into_inner();
        all.columns = columns;
        if there != [true; 2] {
            all.notes.push("no hFacW or hFacS: a face is as open as the less open of the two cells beside it".into());
        }
        Ok(all)
    }
}

/// Returns the open fractions of the western and southern faces of the cells: the smaller one of the cells on both sides.
fn faces(n: usize, fractions: &[f32]) -> [Vec<f32>; 2] {
    let (mut west, mut south) = (vec![0.0; fractions.len()], vec![0.0; fractions.len()]);
    for (cell, own) in fractions.iter().enumerate() {
        let (tile, j, i) = (cell / (n * n), cell / n % n, cell % n);
        // The face on the right belongs to the next cell, and so does the one at the top.
        let right = if i + 1 < n {
            Some((cell + 1, true))
        } else {
            topology::right(n, tile, j).map(|beyond| (beyond.index, beyond.join == topology::Join::Straight))
        };
        let top = if j + 1 < n {
            Some((cell + n, false))
        } else {
            topology::top(n, tile, i).map(|beyond| (beyond.index, beyond.join == topology::Join::Turned))
        };
        for (next, is_west) in [right, top].into_iter().flatten() {
            let face = if is_west { &mut west } else { &mut south };
            face[next] = own.min(fractions[next]);
        }
    }
    [west, south]
}

/// Returns the mask of the corners: a corner is wet if any of the cells around it is.
fn corners(n: usize, fractions: &[f32]) -> Vec<i8> {
    let mut wet = vec![0; fractions.len()];
    for cell in fractions.iter().enumerate().filter(|(_, open)| **open > 0.0).map(|(cell, _)| cell) {
        let (tile, j, i) = (cell / (n * n), cell / n % n, cell % n);
        for (j, i) in [(j, i), (j, i + 1), (j + 1, i), (j + 1, i + 1)] {
            if let Some(corner) = topology::corner(n, tile, j, i) {
                wet[corner] = 1;
            }
        }
    }
    wet
}
