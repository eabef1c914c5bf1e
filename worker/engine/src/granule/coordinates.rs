//! Coordinates and bounds of a granule.

use super::blocks::Block;
use super::chunk_shapes::chunk_shape;
use super::content::{Chunked, Storage, Type, Values, Variable};
use super::error::MakeError;
use super::output_value::FILL;
use super::stages::Stages;
use super::time::EncodedTime;
use crate::codec::Codec;
use crate::grid::{LevelSet, Native};
use crate::mds::compact::TILES;
use crate::metadata::attribute::{self, Attributes};
use crate::metadata::coordinate;
use crate::metadata::global::Extent;
use crate::resources::{ModelGrid, ResourceError, Resources, Target};
use edp_protocol::recipe::DynamicMetadata;
use edp_protocol::{GridKind, Mode};
use std::sync::{Arc, PoisonError};

/// Coordinates of one granule, for the three places of the file where they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinates {
    /// Dimensions of the file, in order.
    pub dimensions: Vec<(String, usize)>,
    /// Coordinates that precede the data variables.
    pub first: Vec<Variable>,
    /// `time_bnds`, which precedes the second data variable of native granules, and follows the last one of latlon
    /// granules; none without time.
    pub time_bounds: Option<Variable>,
    /// Other bounds, at the end of the file.
    pub last: Vec<Variable>,
    /// Ranges of latitude, longitude and depth that the granule covers.
    pub extent: Extent,
}

impl Coordinates {
    /// Changes their attributes from those of EDP to those that the CF conventions require.
    pub fn correct(&mut self) {
        correct(&mut self.first.iter_mut().collect::<Vec<_>>(), self.last.iter_mut().chain(&mut self.time_bounds));
    }
}

/// Describes coordinates and their bounds as the CF conventions want it.
pub(super) fn correct<'a>(coordinates: &mut [&mut Variable], bounds: impl Iterator<Item = &'a mut Variable>) {
    for bounds in bounds {
        let corners = bounds.dimensions.last().is_some_and(|dimension| dimension == "nb");
        let parent = bounds.name.strip_suffix("_bnds").filter(|_| corners);
        let parent = coordinates.iter_mut().find(|variable| Some(variable.name.as_str()) == parent);
        coordinate::correct_bounds(&mut bounds.attributes, parent.map(|parent| &mut parent.attributes));
    }
    for variable in coordinates {
        coordinate::correct(&variable.name, is_axis(variable), &mut variable.attributes);
    }
}

/// The end of the names of bounds.
pub(super) const BOUNDS: &str = "_bnds";

/// The selection of a granule's coordinates.
#[derive(Debug, Clone, Copy)]
pub struct CoordinateSelection<'a> {
    /// Mode whose rules apply.
    pub mode: Mode,
    /// The levels of the variables that have levels; `None` if all variables are 2-D.
    pub levels: Option<&'a LevelSet>,
    /// Depths that the variables of a latlon granule have. Native granules have all of them.
    pub depths: VerticalAxis,
    /// True for native coordinates of U points, and of V points, if these are included.
    pub edges: [bool; 2],
    /// True if native granules have horizontal coordinates.
    pub horizontal: bool,
    /// Codec for static coordinates.
    pub codec: Codec,
    /// Times of the granule, if it has any.
    pub time: Option<EncodedTime>,
    /// True if times are written as floating-point numbers, since the run is too long for 32 bits.
    pub long_time: bool,
    /// Units of the times.
    pub time_units: &'a str,
    /// Attributes of this granule in its recipe.
    pub dynamic: &'a DynamicMetadata,
}

/// Depths on the vertical axis of latlon granules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerticalAxis {
    /// True for those of the cell centres: `Z`, with bounds.
    pub centres: bool,
    /// True for those of the upper cell faces: `Zl`.
    pub upper_faces: bool,
}

fn variable(name: &str, dimensions: &[&str], attributes: Attributes, storage: Storage) -> Variable {
    let dimensions = dimensions.iter().map(|d| (*d).to_owned()).collect();
    Variable { name: name.into(), dimensions, fill: None, attributes, storage }
}

fn floats(values: impl Into<Arc<[f32]>>) -> Storage {
    Storage::Contiguous(Values::F32(values.into()))
}

fn integers(values: impl Into<Arc<[i32]>>) -> Storage {
    Storage::Contiguous(Values::I32(values.into()))
}

/// Returns `time` and `time_bnds` of a granule with time.
fn times(resources: &Resources, grid: GridKind, wanted: &CoordinateSelection<'_>) -> [Option<Variable>; 2] {
    let Some(EncodedTime { start, center, end }) = wanted.time else { return [None, None] };
    let metadata = &resources.texts.metadata;
    let long_name = wanted.dynamic.time_long_name.as_deref();
    let attributes = coordinate::describe_time(metadata, grid, long_name, wanted.time_units);
    let bounds = coordinate::describe_bounds(metadata, grid, "time_bnds", &attributes);
    let numbers = |times: &[i64]| match wanted.long_time {
        true => Storage::Contiguous(Values::F64(times.iter().map(|time| *time as f64).collect())),
        false => integers(times.iter().map(|time| *time as i32).collect::<Vec<_>>()),
    };
    [
        Some(variable("time", &["time"], attributes, numbers(&[center]))),
        Some(variable("time_bnds", &["time", "nv"], bounds, numbers(&[start, end]))),
    ]
}

/// Returns the coordinates of a native granule.
///
/// # Errors
/// Returns an error if the configured compression does not exist, or if the grid cannot be read or is too large for
/// horizontal coordinates.
pub fn native(resources: &Resources, wanted: &CoordinateSelection<'_>) -> Result<Coordinates, MakeError> {
    let (model, metadata) = (&*resources.grid, &resources.texts.metadata);
    let grid = &model.native;
    let [time, time_bounds] = times(resources, GridKind::Native, wanted);
    let describe = |name| coordinate::describe(metadata, GridKind::Native, name);
    let n = grid.n;
    let faces = wanted.levels.and_then(LevelSet::faces);
    let on_levels = ["k", "k_u", "k_l"].into_iter().filter_map(|name| Some((name, wanted.levels?.clone())));
    let on_faces = faces.iter().map(|faces| ("k_p1", faces.clone()));
    let indices: Vec<(&str, LevelSet)> = ["i", "i_g", "j", "j_g"]
        .map(|name| (name, LevelSet::uppermost(n)))
        .into_iter()
        .chain(on_levels)
        .chain(on_faces)
        .chain([("tile", LevelSet::uppermost(TILES))])
        .collect();
    let mut first: Vec<Variable> = Vec::new();
    for (name, numbers) in &indices {
        let values: Vec<i32> = numbers.levels().iter().map(|number| *number as i32).collect();
        first.push(variable(name, &[*name], describe(*name), integers(values)));
    }
    first.extend(time);
    let style = StaticStyle { mode: wanted.mode, codec: wanted.codec };
    let horizontal = |name, dimensions: &[&'static str], attributes| {
        Ok::<_, MakeError>(variable(name, dimensions, attributes, model.horizontal(name, style)?))
    };
    let (center, corner) = (["tile", "j", "i"], ["tile", "j_g", "i_g"]);
    let horizontals = [("XC", center), ("YC", center), ("XG", corner), ("YG", corner)];
    for (name, dimensions) in horizontals.into_iter().filter(|_| wanted.horizontal) {
        first.push(horizontal(name, &dimensions, describe(name))?);
    }
    let edges = native_edges(resources, style, wanted.edges.map(|edges| edges && wanted.horizontal))?;
    let (edges, late_edges) = if wanted.mode == Mode::Corrected { (edges, Vec::new()) } else { (Vec::new(), edges) };
    first.extend(edges);
    for (name, dimension, values, numbers) in [
        ("Z", "k", &grid.rc[..], wanted.levels),
        ("Zp1", "k_p1", &grid.rf, faces.as_ref()),
        ("Zu", "k_u", grid.zu(), wanted.levels),
        ("Zl", "k_l", grid.zl(), wanted.levels),
    ] {
        if let Some(numbers) = numbers {
            first.push(variable(name, &[dimension], describe(name), floats(numbers.select(values))));
        }
    }
    let mut last = match wanted.horizontal {
        true => horizontal_bounds(resources, style, &first)?.into(),
        false => Vec::new(),
    };
    last.extend(level_bounds(resources, wanted.levels, &first));
    last.extend(late_edges);
    let time = time_bounds.as_ref().map(|_| ("time", 1));
    let lengths = indices.iter().map(|(name, numbers)| (*name, numbers.len()));
    let lengths = lengths.chain(time).chain([("nv", 2)]).chain(wanted.horizontal.then_some(("nb", 4)));
    let extent = native_extent(resources, wanted.levels)?;
    let dimensions = lengths.map(|(name, length)| (name.to_owned(), length)).collect();
    Ok(Coordinates { dimensions, first, time_bounds, last, extent })
}

/// The mode and the codec by which static coordinates are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct StaticStyle {
    /// The mode whose rules apply.
    pub(super) mode: Mode,
    /// The codec of coordinates that are compressed.
    pub(super) codec: Codec,
}

/// Returns the coordinates of the U points of a native grid, and of its V points, as far as they are wanted. EDP of
/// 2024 has none; EDP of 2026 has them where the geometry has, and its metadata say nothing of them.
pub(super) fn native_edges(
    resources: &Resources,
    style: StaticStyle,
    wanted: [bool; 2],
) -> Result<Vec<Variable>, MakeError> {
    let model = &*resources.grid;
    let (u, v) = (["tile", "j", "i_g"], ["tile", "j_g", "i"]);
    let edges = [("XU", u, 0), ("YU", u, 0), ("XV", v, 1), ("YV", v, 1)];
    let has = |kind: usize| match style.mode {
        Mode::Corrected => true,
        Mode::Edp2024 => false,
        Mode::Edp2026 => model.native.edges[kind].is_some(),
    };
    let edges = edges.into_iter().filter(|(_, _, kind)| wanted[*kind] && has(*kind));
    let described = |name| match style.mode {
        Mode::Corrected => coordinate::describe_edge(&resources.texts.metadata, name),
        Mode::Edp2024 | Mode::Edp2026 => Vec::new(),
    };
    edges.map(|(name, at, _)| Ok(variable(name, &at, described(name), model.horizontal(name, style)?))).collect()
}

/// Returns the bounds of the cells of a native grid, and of the `levels` of a 3-D granule. Attributes that the parents
/// in `others` have with the same value are left out.
pub(super) fn native_bounds(
    resources: &Resources,
    style: StaticStyle,
    levels: Option<&LevelSet>,
    others: &[Variable],
) -> Result<Vec<Variable>, MakeError> {
    let mut all: Vec<Variable> = horizontal_bounds(resources, style, others)?.into();
    all.extend(level_bounds(resources, levels, others));
    Ok(all)
}

fn horizontal_bounds(
    resources: &Resources,
    style: StaticStyle,
    others: &[Variable],
) -> Result<[Variable; 2], MakeError> {
    let corners = ["tile", "j", "i", "nb"];
    let horizontal = |name, parent| {
        let attributes = bounds_attributes(resources, GridKind::Native, name, parent, others);
        Ok::<_, MakeError>(variable(name, &corners, attributes, resources.grid.horizontal(name, style)?))
    };
    Ok([horizontal("XC_bnds", "XC")?, horizontal("YC_bnds", "YC")?])
}

fn level_bounds(resources: &Resources, levels: Option<&LevelSet>, others: &[Variable]) -> Option<Variable> {
    let values = floats(levels?.select(resources.grid.native.z_bounds.as_chunks::<2>().0).concat());
    let attributes = bounds_attributes(resources, GridKind::Native, "Z_bnds", "Z", others);
    Some(variable("Z_bnds", &["k", "nv"], attributes, values))
}

/// Returns the attributes of bounds that the parent, if it is among `others`, does not have with the same value.
fn bounds_attributes(
    resources: &Resources,
    grid: GridKind,
    name: &str,
    parent: &str,
    others: &[Variable],
) -> Attributes {
    let parent = others.iter().find(|variable| variable.name == parent);
    let parent = parent.map_or(Vec::new(), |parent| parent.attributes.clone());
    coordinate::describe_bounds(&resources.texts.metadata, grid, name, &parent)
}

/// Returns the extent of a native granule.
pub(super) fn native_extent(resources: &Resources, levels: Option<&LevelSet>) -> Result<Extent, ResourceError> {
    let model = &*resources.grid;
    let [latitude, longitude] = model.extent()?;
    let bounds = model.native.z_bounds.as_chunks::<2>().0;
    let vertical = levels.map(|levels| limits(levels.select(bounds).as_flattened().iter().map(|v| f64::from(*v))));
    Ok(Extent { latitude, longitude, vertical, resolution: None })
}

impl ModelGrid {
    /// Returns the ranges of latitude and longitude that the cells cover, from their corners; they are computed at the
    /// first call. If a cell crosses the date line, the range of longitudes is the whole circle, since two limits
    /// cannot say more. If a cell contains a pole, the pole is the limit of latitude.
    fn extent(&self) -> Result<[[f64; 2]; 2], ResourceError> {
        if let Some(extent) = self.statics.extent.get() {
            return Ok(*extent);
        }
        let extent = self.confirmed(|native| {
            let mut limits = CellLimits::default();
            native.each_corners(|x, y| limits.add(x, y))?;
            Ok(limits.limits())
        })?;
        Ok(*self.statics.extent.get_or_init(|| extent))
    }

    /// A static horizontal coordinate: plain in EDP's files, compressed in ours, in one chunk unless that would be
    /// larger than chunks of data; made at the first call.
    fn horizontal(&self, name: &'static str, style: StaticStyle) -> Result<Storage, MakeError> {
        self.native.check_whole().map_err(ResourceError::Grid)?;
        let codec = match style.mode {
            Mode::Edp2024 | Mode::Edp2026 => Codec::PLAIN,
            Mode::Corrected => style.codec,
        };
        let mut prepared = self.statics.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(storage) = prepared.get(&(name, codec)) {
            return Ok(storage.clone());
        }
        let (values, corners) = horizontal_values(&self.native, name);
        let storage = if codec.is_plain() {
            floats(values)
        } else {
            let n = self.native.n;
            let shape: Vec<usize> = [TILES, n, n].into_iter().chain(corners.then_some(4)).collect();
            let (chunk, origin) = (chunk_shape(&shape, size_of::<f32>()), vec![0; shape.len()]);
            let block = Block { values: &values, shape: &shape, origin: &origin, chunk: &chunk, pad: FILL as f32 };
            // Made once for all granules of the grid, so that a check costs nothing.
            let chunks = codec.encode_checked(true, &block, || (), &Stages::begin())?;
            Storage::Chunked(Type::F32, Chunked { chunks: Some(Arc::new(chunks)), ..codec.chunked(chunk) })
        };
        prepared.insert((name, codec), storage.clone());
        Ok(storage)
    }
}

/// The ranges of latitude and longitude of cells, from the longitudes and latitudes of their four corners. If a cell
/// crosses the date line, the range of longitudes is the whole circle. If a cell contains a pole, the pole is the limit
/// of latitude.
pub(crate) struct CellLimits {
    latitude: [f64; 2],
    longitude: [f64; 2],
    crosses: bool,
}

impl Default for CellLimits {
    fn default() -> CellLimits {
        let none = [f64::INFINITY, f64::NEG_INFINITY];
        CellLimits { latitude: none, longitude: none, crosses: false }
    }
}

impl CellLimits {
    /// Adds cells by their corners.
    pub(crate) fn add(&mut self, x_bounds: &[f32], y_bounds: &[f32]) {
        let widen = |[low, high]: [f64; 2], bounds: &[f32]| {
            let [least, most] = limits(bounds.iter().map(|value| f64::from(*value)));
            [low.min(least), high.max(most)]
        };
        self.latitude = widen(self.latitude, y_bounds);
        self.longitude = widen(self.longitude, x_bounds);
        let (xs, ys) = (x_bounds.as_chunks::<4>().0, y_bounds.as_chunks::<4>().0);
        for (x, y) in xs.iter().zip(ys) {
            let steps = [0, 1, 2, 3].map(|corner| f64::from(x[(corner + 1) % 4]) - f64::from(x[corner]));
            if steps.iter().all(|step| step.abs() <= 180.0) {
                continue;
            }
            self.crosses = true;
            // The steps, taken the shorter way round, add up to a full turn if the pole is inside.
            let turn: f64 = steps.iter().map(|step| step - 360.0 * (step / 360.0).round()).sum();
            if turn.abs() > 180.0 {
                let north = y.iter().sum::<f32>() > 0.0;
                self.latitude[usize::from(north)] = if north { 90.0 } else { -90.0 };
            }
        }
    }

    /// Returns the ranges of latitude and longitude.
    pub(crate) fn limits(&self) -> [[f64; 2]; 2] {
        [self.latitude, if self.crosses { [-180.0, 180.0] } else { self.longitude }]
    }
}

/// Returns the values in tile order, and true if they have a last dimension for the four corners.
fn horizontal_values(grid: &Native, name: &str) -> (Arc<[f32]>, bool) {
    match name {
        "XC" => (grid.xc.clone(), false),
        "YC" => (grid.yc.clone(), false),
        "XG" => (grid.xg.clone(), false),
        "YG" => (grid.yg.clone(), false),
        "XC_bnds" => (grid.xc_bounds.clone(), true),
        "YC_bnds" => (grid.yc_bounds.clone(), true),
        edge => {
            let points = grid.edge_points();
            let values = match edge {
                "XU" => points.xu,
                "YU" => points.yu,
                "XV" => points.xv,
                _ => points.yv,
            };
            (values, false)
        }
    }
}

/// Returns the coordinates of a latlon granule.
pub fn latlon(resources: &Resources, target: &Target, wanted: &CoordinateSelection<'_>) -> Coordinates {
    let metadata = &resources.texts.metadata;
    let [time, time_bounds] = times(resources, GridKind::Latlon, wanted);
    let describe = |name: &str| coordinate::describe(metadata, GridKind::Latlon, name);
    let axes = &target.latlon;
    let mut dimensions: Vec<(String, usize)> = time.iter().map(|time| (time.name.clone(), 1)).collect();
    let mut first: Vec<Variable> = time.into_iter().collect();
    let mut add = |name: &str, values: &[f32], attributes| {
        dimensions.push((name.to_owned(), values.len()));
        first.push(variable(name, &[name], attributes, floats(values)));
    };
    if let Some(levels) = wanted.levels.filter(|_| wanted.depths.centres) {
        add("Z", &levels.select(&axes.z), describe("Z"));
    }
    if let Some(levels) = wanted.levels.filter(|_| wanted.depths.upper_faces) {
        // Adding zero makes a plain zero of a negative one.
        let bounds = levels.select(target.factors.depth_bounds());
        let upper: Vec<f32> = bounds.iter().map(|[upper, _]| *upper as f32 + 0.0).collect();
        add("Zl", &upper, coordinate::describe_upper_faces(metadata));
    }
    add("latitude", &axes.latitude, describe("latitude"));
    add("longitude", &axes.longitude, describe("longitude"));
    let last = latlon_bounds(resources, target, wanted.levels.filter(|_| wanted.depths.centres), &first);
    dimensions.push(("nv".to_owned(), 2));
    let extent = latlon_extent(target, wanted.levels);
    Coordinates { dimensions, first, time_bounds, last, extent }
}

/// Returns the bounds of the cells of a longitude-latitude grid, and of its levels for 3-D granules, as
/// [`native_bounds`].
pub(super) fn latlon_bounds(
    resources: &Resources,
    target: &Target,
    levels: Option<&LevelSet>,
    others: &[Variable],
) -> Vec<Variable> {
    let factors = &target.factors;
    let bounds = [
        ("latitude", "latitude_bnds", factors.latitude_bounds().to_vec()),
        ("longitude", "longitude_bnds", factors.longitude_bounds().to_vec()),
    ];
    let depths = levels.map(|levels| ("Z", "Z_bnds", levels.select(factors.depth_bounds())));
    let described = |(of, name, bounds): (&str, &str, Vec<[f64; 2]>)| {
        let attributes = bounds_attributes(resources, GridKind::Latlon, name, of, others);
        variable(name, &[of, "nv"], attributes, edges(&bounds))
    };
    bounds.into_iter().chain(depths).map(described).collect()
}

/// Returns the limits of cells as they are written.
fn edges(bounds: &[[f64; 2]]) -> Storage {
    floats(bounds.iter().flatten().map(|v| *v as f32).collect::<Vec<f32>>())
}

/// Returns the extent of a granule on a longitude-latitude grid.
pub(super) fn latlon_extent(target: &Target, levels: Option<&LevelSet>) -> Extent {
    let factors = &target.factors;
    let all = |bounds: &[[f64; 2]]| limits(bounds.iter().flatten().copied());
    let spacing = |bounds: &[[f64; 2]]| {
        let [low, high] = all(bounds);
        // The bounds have rounding errors, which would appear as 0.49999999999999994.
        ((high - low) / bounds.len().max(1) as f64 * 1e9).round() / 1e9
    };
    Extent {
        latitude: all(factors.latitude_bounds()),
        longitude: all(factors.longitude_bounds()),
        vertical: levels.map(|levels| all(&levels.select(factors.depth_bounds()))),
        resolution: Some([spacing(factors.latitude_bounds()), spacing(factors.longitude_bounds())]),
    }
}

/// Returns the smallest and the largest value, rounded to millionths: computed bounds have rounding errors, and a
/// catalogue does not accept -180.00000000000003 as a longitude.
fn limits(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let limits =
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)]);
    limits.map(|limit| (limit * 1e6).round() / 1e6)
}

/// Returns the `coordinates` attribute of a data variable, or `None` if it has no coordinates to name.
///
/// It names the auxiliary coordinates, except bounds, all of whose dimensions the variable has; in edp-2024 those of
/// EDP's fixed set. Latlon granules of `corrected` have no auxiliary coordinates and name their axes: without the
/// attribute, readers take the global attribute of the same name for the variable's, and that one lists bounds.
pub(crate) fn named_by<'a>(
    mode: Mode,
    dimensions: &[String],
    coordinates: impl Iterator<Item = &'a Variable>,
) -> Option<String> {
    const OF_EDP: [&str; 9] = ["XC", "YC", "XG", "YG", "Z", "Zp1", "Zu", "Zl", "time"];
    let within = |coordinate: &&Variable| coordinate.dimensions.iter().all(|d| dimensions.contains(d));
    let mut names: Vec<&str> = coordinates
        .filter(|coordinate| !coordinate.name.ends_with(BOUNDS))
        .filter(within)
        .filter(|coordinate| match mode {
            Mode::Corrected | Mode::Edp2026 => !is_axis(coordinate),
            Mode::Edp2024 => OF_EDP.contains(&coordinate.name.as_str()),
        })
        .map(|coordinate| coordinate.name.as_str())
        .collect();
    names.sort_unstable();
    if mode == Mode::Corrected && dimensions.iter().any(|dimension| dimension == "latitude") {
        names = dimensions.iter().map(String::as_str).collect();
    }
    (!names.is_empty()).then(|| names.join(" "))
}

/// Returns the global `coordinates` attribute: every coordinate that is not an axis and that no data variable names.
pub(crate) fn named_by_none<'a>(coordinates: impl Iterator<Item = &'a Variable>, data: &[Variable]) -> Option<String> {
    let named: Vec<&str> = data
        .iter()
        .filter_map(|variable| attribute::get(&variable.attributes, "coordinates")?.text())
        .flat_map(str::split_whitespace)
        .collect();
    let mut names: Vec<&str> = coordinates
        .filter(|coordinate| !is_axis(coordinate) && !named.contains(&coordinate.name.as_str()))
        .map(|coordinate| coordinate.name.as_str())
        .collect();
    names.sort_unstable();
    (!names.is_empty()).then(|| names.join(" "))
}

/// Returns true if a coordinate is the axis of the dimension of the same name.
pub(super) fn is_axis(coordinate: &Variable) -> bool {
    coordinate.dimensions.len() == 1 && coordinate.dimensions[0] == coordinate.name
}
