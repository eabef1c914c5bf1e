//! Writes mapping factors as NetCDF: all levels in one file of our own format, or one file for each level in the format
//! of ESMF's tools.
//!
//! In both, a weight is a triple of ESMF: `row` is the number of the target cell, `col` that of the source cell, both
//! from 1, and `S` the weight. Source cells are all cells of the native grid in the order (tile, j, i), wet and dry.

use super::create::{FactorRules, FactorSearch, LevelFactors, NeighbourLimit, RegularTarget};
use super::write_set::{FactorsSummary, MakeFactorsError};
use super::{NETCDF_FORM, NETCDF_NAME, esmf_file};
use crate::codec::{Codec, CodecError, Compressor};
use crate::granule::blocks::{Block, Element};
use crate::granule::content::{Attributes, Chunk, Chunked, GranuleContent, Storage, Value, Values, Variable};
use crate::granule::file::{FileError, write_whole};
use crate::granule::stages::Stages;
use crate::grid::NativeCells;
use crate::mds::compact::TILES;
use edp_protocol::{Digest, Mode};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Number of weights in a chunk.
const CHUNK: usize = 1 << 18;
/// The compression of variables: index lists and masks gain little from higher levels.
const CODEC: Codec = Codec { compressor: Compressor::Deflate(4), shuffle: true };

/// The origin of factors, which is written into them.
#[derive(Debug, Clone, Copy)]
pub struct FactorOrigin<'a> {
    /// The cells of the source grid.
    pub cells: &'a NativeCells,
    /// The grid to which fields are regridded.
    pub target: &'a RegularTarget,
    /// The rules by which the factors are made.
    pub rules: FactorRules,
    /// The mode to which these rules belong.
    pub mode: Mode,
}

/// Writes all levels into one NetCDF file.
///
/// # Errors
/// Returns an error if a level has too many weights, or if the file cannot be written.
pub fn write_netcdf(
    dir: &Path,
    origin: &FactorOrigin<'_>,
    search: &FactorSearch<'_>,
) -> Result<FactorsSummary, MakeFactorsError> {
    let FactorOrigin { cells, target, .. } = *origin;
    let mut triples = Triples::default();
    let (mut counts, mut summary) = (Vec::new(), FactorsSummary::default());
    let (mut source_mask, mut target_mask) = (Vec::new(), Vec::new());
    let (rows, columns) = target.shape();
    let all: Vec<usize> = (0..cells.levels).collect();
    // A few levels are made at a time, in their order.
    for some in all.chunks(2 * rayon::current_num_threads()) {
        let made: Vec<_> = some
            .par_iter()
            .map(|k| {
                let level = search.level(*k, false)?;
                let masks = [mask(&cells.wet.level(*k)), mask(&level.wet_targets)];
                let (n, at) = (cells.n, *k as u64);
                let sources = encoded(&masks[0], &[1, TILES, n, n], &[at, 0, 0, 0])?;
                let targets = encoded(&masks[1], &[1, rows, columns], &[at, 0, 0])?;
                Ok((level, sources, targets))
            })
            .collect::<Result<_, MakeFactorsError>>()?;
        for (level, sources, targets) in made {
            counts.push(level.rows.len() as i32);
            triples.add(&level)?;
            source_mask.extend(sources);
            target_mask.extend(targets);
            summary += FactorsSummary::of(&level);
        }
    }
    let n = cells.n;
    let (entries, triples) = triples.finish()?;
    let mut variables = axes(target);
    let bounds: Vec<f64> = cells.depth_bounds().into_iter().flatten().collect();
    variables.push(plain(
        "Z_bnds",
        &["k", "nv"],
        &[
            ("long_name", "heights of the upper and lower faces of the model's layers"),
            ("units", "m"),
            ("positive", "up"),
        ],
        Values::F64(bounds.into()),
    ));
    for (name, what, values) in [("XC", "longitude", &cells.xc), ("YC", "latitude", &cells.yc)] {
        let about = [
            ("long_name", format!("{what} of the source cell")),
            ("units", format!("degrees_{}", if name == "XC" { "east" } else { "north" })),
        ];
        let chunked = CODEC.encode_whole(values, &[TILES, n, n], 0.0)?;
        variables.push(compressed::<f32>(name, &["tile", "j", "i"], &about, chunked));
    }
    let wet = |what: &str| [("long_name", format!("whether the {what} cell is wet")), ("dtype", "bool".to_owned())];
    let chunked = made(vec![1, TILES, n, n], source_mask);
    variables.push(compressed::<i8>("source_mask", &["k", "tile", "j", "i"], &wet("source"), chunked));
    let chunked = made(vec![1, rows, columns], target_mask);
    variables.push(compressed::<i8>("target_mask", &["k", "latitude", "longitude"], &wet("target"), chunked));
    let about = [("long_name", "number of the weights of each level, which follow one another")];
    variables.push(plain("count", &["k"], &about, Values::I32(counts.into())));
    variables.extend(triples);
    let mut dimensions: Vec<(String, usize)> = [("k", cells.levels), ("tile", TILES), ("j", n), ("i", n), ("nv", 2)]
        .into_iter()
        .map(|(name, length)| (name.to_owned(), length))
        .collect();
    dimensions.extend([("latitude", rows), ("longitude", columns), ("n_s", entries)].map(|(n, l)| (n.to_owned(), l)));
    let mut attributes = texts(&[
        ("Conventions", "CF-1.8".into()),
        ("title", "Mapping factors from a lat-lon-cap grid onto a regular grid".into()),
        ("factors_form", NETCDF_FORM.into()),
    ]);
    attributes.extend(provenance(origin));
    let content = GranuleContent { dimensions, variables, attributes };
    make_directory(dir)?;
    write_whole(&dir.join(NETCDF_NAME), &content)?;
    Ok(summary)
}

/// Writes one file of weights for each level, as ESMF's tools write and read them.
///
/// # Errors
/// Returns an error if a level has too many weights, or if a file cannot be written.
pub fn write_esmf(
    dir: &Path,
    origin: &FactorOrigin<'_>,
    search: &FactorSearch<'_>,
) -> Result<FactorsSummary, MakeFactorsError> {
    let FactorOrigin { cells, target, .. } = *origin;
    make_directory(dir)?;
    let (rows, columns) = target.shape();
    let depths = cells.depth_bounds();
    let [sources, targets] = [TILES * cells.n * cells.n, rows * columns];
    // A value for each target cell, row by row.
    let each = |value: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..targets).map(|m| value(m / columns, m % columns)).collect()
    };
    let double = |name: &str, dimension: &str, units: &str, values: &[f64]| {
        let about = [("units", units)];
        Ok::<_, CodecError>(compressed::<f64>(
            name,
            &[dimension],
            &about,
            CODEC.encode_whole(values, &[values.len()], 0.0)?,
        ))
    };
    let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
    let shared = [
        double("xc_a", "n_a", "degrees", &wide(&cells.xc))?,
        double("yc_a", "n_a", "degrees", &wide(&cells.yc))?,
        double("xc_b", "n_b", "degrees", &each(&|_, column| target.longitudes[column]))?,
        double("yc_b", "n_b", "degrees", &each(&|row, _| target.latitudes[row]))?,
        corners("xv_b", target, &|_, [west, east]| [west, east, east, west])?,
        corners("yv_b", target, &|[south, north], _| [south, south, north, north])?,
    ];
    let provenance = provenance(origin);
    let one = |k: usize| -> Result<FactorsSummary, MakeFactorsError> {
        let level = search.level(k, false)?;
        let mut triples = Triples::default();
        triples.add(&level)?;
        let (entries, triples) = triples.finish()?;
        let dims = |name: &str, dimension: &str, sizes: &[i32]| {
            plain(name, &[dimension], &[("long_name", "sizes, the fastest first")], Values::I32(sizes.into()))
        };
        let mut variables = vec![
            dims("src_grid_dims", "src_grid_rank", &[cells.n as i32, cells.n as i32, TILES as i32]),
            dims("dst_grid_dims", "dst_grid_rank", &[columns as i32, rows as i32]),
        ];
        variables.extend(shared.iter().cloned());
        let whole = |wet: &[bool]| wet.iter().map(|wet| i32::from(*wet)).collect::<Vec<_>>();
        for (name, dimension, wet) in [("mask_a", "n_a", &cells.wet.level(k)), ("mask_b", "n_b", &level.wet_targets)] {
            let values = whole(wet);
            let chunked = CODEC.encode_whole(&values, &[values.len()], 0)?;
            variables.push(compressed::<i32>(name, &[dimension], &[("units", "unitless")], chunked));
        }
        let covered = level.starts.windows(2).map(|ends| f64::from(u8::from(ends[1] > ends[0]))).collect::<Vec<_>>();
        variables.push(double("frac_b", "n_b", "unitless", &covered)?);
        let about =
            [("long_name", "heights of the upper and lower face of the layer"), ("units", "m"), ("positive", "up")];
        variables.push(plain("Z_bnds", &["nv"], &about, Values::F64(depths[k].into())));
        variables.extend(triples);
        let dimensions = [
            ("n_a", sources),
            ("n_b", targets),
            ("n_s", entries),
            ("nv_b", 4),
            ("src_grid_rank", 3),
            ("dst_grid_rank", 2),
            ("nv", 2),
        ];
        let mut attributes = texts(&[
            ("title", "Mapping factors from a lat-lon-cap grid onto a regular grid, one level".into()),
            ("normalization", "fracarea".into()),
            ("map_method", "nearest neighbour and average of neighbours".into()),
            ("conventions", "NCAR-CSM".into()),
            ("level", k.to_string()),
        ]);
        attributes.extend(provenance.clone());
        let dimensions = dimensions.map(|(name, length)| (name.to_owned(), length)).into();
        write_whole(&esmf_file(dir, k), &GranuleContent { dimensions, variables, attributes })?;
        Ok(FactorsSummary::of(&level))
    };
    let levels = (0..cells.levels).into_par_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    Ok(levels.into_iter().sum())
}

fn make_directory(dir: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(dir).map_err(|source| FileError::Io { path: dir.to_owned(), source })
}

/// Returns the corners of the target cells, counter-clockwise from the south-west.
fn corners(
    name: &str,
    target: &RegularTarget,
    of: &dyn Fn([f64; 2], [f64; 2]) -> [f64; 4],
) -> Result<Variable, CodecError> {
    let rows = target.latitude_bounds.iter();
    let cells = rows.flat_map(|row| target.longitude_bounds.iter().map(move |column| (*row, *column)));
    let values: Vec<f64> = cells.flat_map(|(row, column)| of(row, column)).collect();
    let chunked = CODEC.encode_whole(&values, &[target.cells(), 4], 0.0)?;
    Ok(compressed::<f64>(name, &["n_b", "nv_b"], &[("units", "degrees")], chunked))
}

/// Returns the axes of the target grid with their bounds.
fn axes(target: &RegularTarget) -> Vec<Variable> {
    let mut variables = Vec::new();
    for (name, units, centres, bounds) in [
        ("latitude", "degrees_north", &target.latitudes, &target.latitude_bounds),
        ("longitude", "degrees_east", &target.longitudes, &target.longitude_bounds),
    ] {
        let edges = format!("{name}_bnds");
        let about = [("standard_name", name), ("units", units), ("bounds", &edges)];
        variables.push(plain(name, &[name], &about, Values::F64(centres[..].into())));
        let values: Vec<f64> = bounds.iter().flatten().copied().collect();
        variables.push(plain(&edges, &[name, "nv"], &[("units", units)], Values::F64(values.into())));
    }
    variables
}

/// Returns attributes that state the rules and the grid of the factors.
fn provenance(origin: &FactorOrigin<'_>) -> Attributes {
    let FactorOrigin { cells, target, rules, mode } = origin;
    let name = cells.origin.file_name().unwrap_or_default().to_string_lossy();
    let neighbours = match rules.neighbours {
        NeighbourLimit::None => "all within the radius".to_owned(),
        NeighbourLimit::Nearest(count) => format!("the nearest {count} within the radius"),
        NeighbourLimit::Edp => "those that EDP looks at, 100 at most".to_owned(),
    };
    let mut bytes: Vec<u8> = Vec::new();
    for values in [&cells.xc, &cells.yc, &cells.dxg, &cells.dyg, &cells.drf] {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    for wet in (0..cells.levels).flat_map(|k| [cells.wet.level(k), cells.mask_c.level(k)]) {
        bytes.extend(wet.iter().map(|wet| u8::from(*wet)));
    }
    let mut attributes = texts(&[
        ("source", format!("edp-worker factors, edp-engine {}", env!("CARGO_PKG_VERSION"))),
        ("compatibility", mode.to_string()),
        ("radius", rules.radius.to_string()),
        ("neighbours", neighbours),
        ("source_grid", format!("{name}: 13 tiles of {n} by {n} cells, {} levels", cells.levels, n = cells.n)),
        ("source_grid_sha256", Digest::of(&bytes).to_string()),
    ]);
    attributes.push(("resolution".into(), Value::F64(vec![target.resolution])));
    attributes
}

/// Weights, which are compressed as they are added.
#[derive(Default)]
struct Triples {
    length: usize,
    row: Vec<i32>,
    col: Vec<i32>,
    weight: Vec<f64>,
    /// Chunks of the three variables.
    chunks: [Vec<Chunk>; 3],
}

impl Triples {
    /// Adds the weights of a level.
    fn add(&mut self, level: &LevelFactors) -> Result<(), CodecError> {
        for (target, ends) in (1..).zip(level.starts.windows(2)) {
            for position in ends[0]..ends[1] {
                self.row.push(target);
                self.col.push(level.wet[level.rows[position] as usize] as i32 + 1);
                self.weight.push(level.weights.at(position));
            }
        }
        let whole = self.row.len() / CHUNK * CHUNK;
        self.encode(whole)
    }

    /// Compresses this number of the weights that were added.
    fn encode(&mut self, count: usize) -> Result<(), CodecError> {
        if count == 0 {
            return Ok(());
        }
        let origin = [self.length as u64];
        // A chunk may not be longer than the dimension.
        let (shape, chunk) = ([count], [if self.length == 0 { CHUNK.min(count) } else { CHUNK }]);
        let integers = |values: &[i32]| {
            CODEC.encode(
                &Block { values, shape: &shape, origin: &origin, chunk: &chunk, pad: 0 },
                || (),
                &Stages::begin(),
            )
        };
        self.chunks[0].extend(integers(&self.row[..count])?);
        self.chunks[1].extend(integers(&self.col[..count])?);
        let values = &self.weight[..count];
        let block = Block { values, shape: &shape, origin: &origin, chunk: &chunk, pad: 0.0 };
        self.chunks[2].extend(CODEC.encode(&block, || (), &Stages::begin())?);
        self.row.drain(..count);
        self.col.drain(..count);
        self.weight.drain(..count);
        self.length += count;
        Ok(())
    }

    /// Returns the number of weights in the file, and the variables.
    fn finish(mut self) -> Result<(usize, Vec<Variable>), CodecError> {
        if self.length == 0 && self.row.is_empty() {
            // A dimension of length 0 would be an unlimited one. A weight of 0 has no effect.
            (self.row, self.col, self.weight) = (vec![1], vec![1], vec![0.0]);
        }
        self.encode(self.row.len())?;
        let [row, col, weight] = self.chunks.map(|chunks| made(vec![CHUNK.min(self.length)], chunks));
        Ok((
            self.length,
            vec![
                compressed::<i32>("row", &["n_s"], &[("long_name", "number of the target cell, from 1")], row),
                compressed::<i32>(
                    "col",
                    &["n_s"],
                    &[("long_name", "number of the source cell (tile, j, i), from 1")],
                    col,
                ),
                compressed::<f64>("S", &["n_s"], &[("long_name", "weight of the source cell")], weight),
            ],
        ))
    }
}

fn mask(wet: &[bool]) -> Vec<i8> {
    wet.iter().map(|wet| i8::from(*wet)).collect()
}

/// Compresses one chunk of a mask.
fn encoded(values: &[i8], shape: &[usize], origin: &[u64]) -> Result<Vec<Chunk>, CodecError> {
    CODEC.encode(&Block { values, shape, origin, chunk: shape, pad: 0 }, || (), &Stages::begin())
}

fn made(shape: Vec<usize>, chunks: Vec<Chunk>) -> Chunked {
    Chunked { chunks: Some(Arc::new(chunks)), ..CODEC.chunked(shape) }
}

fn texts(pairs: &[(&str, String)]) -> Attributes {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), Value::Text(text.clone()))).collect()
}

fn variable<T: AsRef<str>>(name: &str, dimensions: &[&str], about: &[(&str, T)], storage: Storage) -> Variable {
    let attributes = about.iter().map(|(name, text)| ((*name).to_owned(), Value::Text(text.as_ref().into()))).collect();
    let dimensions = dimensions.iter().map(|name| (*name).to_owned()).collect();
    Variable { name: name.to_owned(), dimensions, fill: None, attributes, storage }
}

fn plain<T: AsRef<str>>(name: &str, dimensions: &[&str], about: &[(&str, T)], values: Values) -> Variable {
    variable(name, dimensions, about, Storage::Contiguous(values))
}

fn compressed<E: Element>(
    name: &str,
    dimensions: &[&str],
    about: &[(&str, impl AsRef<str>)],
    chunked: Chunked,
) -> Variable {
    variable(name, dimensions, about, Storage::Chunked(E::TYPE, chunked))
}
