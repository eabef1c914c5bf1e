//! Fields: one output variable, from its inputs to compressed chunks.
//!
//! A field is made in slabs of as many levels as a chunk has: planes are read, masked or regridded in parallel on all
//! cores, checked, and compressed. Where a slab is too large, it is divided into strips with the rows of one row of
//! chunks, and only these rows are read.

use super::blocks::Block;
use super::chunk_shapes::field_chunk;
use super::content::{Chunk, Chunked};
use super::kinds::Maker;
use super::projection::Directions;
use super::stages::{Stage, Stages};
use super::sums::{Sums, plain_range};
use crate::codec::Codec;
use crate::grid::{LevelSet, Native};
use crate::mapping::{Level, Real};
use crate::mds::Plane;
use crate::mds::compact::{self, TILES, TileRows};
use edp_protocol::ChunkShapes;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

pub use super::field_error::FieldError;
pub use super::output_value::{FILL, OutputValue};
pub use super::route::Route;

/// A field that is being made: its name, its maker, and its route.
pub struct Field<'a> {
    /// Name of the output variable.
    pub name: &'a str,
    /// Maker of its values.
    pub maker: &'a dyn Maker,
    /// The native grid of the model.
    pub grid: &'a Native,
    /// Levels of the grid that the field has; `None` if it is 2-D.
    pub levels: Option<LevelSet>,
    /// Grid on which it is written.
    pub route: Route<'a>,
    /// True if the output has a dimension of time, of one value, before all others.
    pub timed: bool,
    /// Codec of its chunks.
    pub codec: Codec,
    /// Shapes of its chunks.
    pub chunks: ChunkShapes,
    /// True if each chunk is decompressed again, to see that it was compressed without an error.
    pub paranoid: bool,
    /// The clock of its granule.
    pub stages: &'a Stages,
}

/// A summary of the values of some planes.
#[derive(Debug, Clone, Copy)]
pub struct ValueSummary<O> {
    /// Smallest and largest value that is not fill; `None` if all values are fill.
    pub range: Option<[O; 2]>,
    /// Number of wet target cells that no source covers, over all levels.
    pub uncovered: usize,
    /// Number of wet cells for which the inputs have only their missing value, over all levels.
    pub missing: usize,
}

impl<O: OutputValue> ValueSummary<O> {
    /// Returns the summary of no values.
    pub fn nothing() -> ValueSummary<O> {
        ValueSummary { range: None, uncovered: 0, missing: 0 }
    }

    /// Returns the summary of the values of both.
    #[must_use]
    pub fn and(self, other: ValueSummary<O>) -> ValueSummary<O> {
        let range = match (self.range, other.range) {
            (Some([a, b]), Some([c, d])) => Some([if c < a { c } else { a }, if d > b { d } else { b }]),
            (a, b) => a.or(b),
        };
        ValueSummary { range, uncovered: self.uncovered + other.uncovered, missing: self.missing + other.missing }
    }
}

/// A part of a field that is made at once: whole chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Levels of the field.
    pub levels: Range<usize>,
    /// Rows of the tiles, for a strip; `None` for a slab, which has all cells of its levels.
    pub rows: Option<TileRows>,
}

impl Part {
    /// Returns true if the field begins with this part.
    pub(crate) fn is_first(&self) -> bool {
        let begins = |rows: &TileRows| rows.tiles().start == 0 && rows.rows().start == 0;
        self.levels.start == 0 && self.rows.as_ref().is_none_or(begins)
    }
}

/// The way in which the fields of a granule are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Division {
    /// True if fields are made in strips, as far as they can be, and not in slabs.
    pub strips: bool,
    /// Number of parts in flight at once.
    pub in_flight: usize,
    /// Number of levels of a part that are made at once.
    pub levels: usize,
}

/// Size in bytes of a slab from which on fields are made in strips, even if there were memory for slabs.
const LARGE_SLAB: u64 = 256 << 20;

/// The memory in bytes that making a field takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldMemory {
    /// Size of a part of the output.
    pub part: u64,
    /// Size of the chunks of a part.
    pub chunks: u64,
    /// Memory of a thread that makes a level, of the inputs.
    pub level: u64,
    /// Memory of a thread that compresses a chunk.
    pub chunk: u64,
}

impl FieldMemory {
    /// Returns memory that is enough for either of two fields.
    #[must_use]
    pub fn or(self, other: FieldMemory) -> FieldMemory {
        FieldMemory {
            part: self.part.max(other.part),
            chunks: self.chunks.max(other.chunks),
            level: self.level.max(other.level),
            chunk: self.chunk.max(other.chunk),
        }
    }

    /// Returns the largest number of bytes at one time, with this many parts in flight and the chunks of one more being
    /// written; some of the threads make levels, and the others compress chunks.
    pub fn bytes(&self, division: &Division, threads: usize) -> u64 {
        let making = division.levels.min(threads) as u64;
        let (in_flight, threads) = (division.in_flight as u64, threads as u64);
        let parts = in_flight.saturating_mul(self.part).saturating_add((in_flight + 1).saturating_mul(self.chunks));
        let levels = making.saturating_mul(self.level.max(self.chunk));
        parts.saturating_add(levels).saturating_add((threads - making).saturating_mul(self.chunk))
    }
}

impl Field<'_> {
    /// Returns the number of levels; `None` if the field is 2-D.
    fn depth(&self) -> Option<usize> {
        self.levels.as_ref().map(LevelSet::len)
    }

    /// Returns the level of the grid that is the level `at` of the field, both counted from 0.
    fn level(&self, at: usize) -> usize {
        self.levels.as_ref().and_then(|levels| levels.levels().get(at).copied()).unwrap_or(at)
    }

    /// Returns the lengths of the horizontal dimensions of the output.
    fn horizontal(&self) -> Vec<usize> {
        match &self.route {
            Route::Native(_) => vec![TILES, self.grid.n, self.grid.n],
            Route::Latlon { shape, .. } => shape.to_vec(),
        }
    }

    /// Reads, masks or regrids and checks the field as [`Field::fill`] does, and keeps only its smallest and largest
    /// value; returns `None` if all values are fill.
    ///
    /// # Errors
    /// Returns the errors of [`Field::fill`].
    pub fn range<O: OutputValue>(&self, cancel: &AtomicBool) -> Result<Option<[O; 2]>, FieldError> {
        let (mut seen, mut values) = (ValueSummary::nothing(), Vec::new());
        for part in self.parts::<O>(self.is_large::<O>()) {
            seen = seen.and(self.fill(&part, usize::MAX, cancel, &mut values)?);
        }
        Ok(seen.range)
    }

    /// Returns the shape, with the time, if there is one, as its first dimension.
    fn shape(&self) -> Vec<usize> {
        self.timed.then_some(1).into_iter().chain(self.depth()).chain(self.horizontal()).collect()
    }

    /// Returns the position of the levels, or else of the horizontal dimensions, in the shape.
    fn after_time(&self) -> usize {
        usize::from(self.timed)
    }

    /// Returns the layout of the field in a file.
    pub(crate) fn chunked<O: OutputValue>(&self) -> Chunked {
        self.codec.chunked(self.chunk::<O>(&self.shape()))
    }

    /// Returns the shape of the chunks.
    fn chunk<O: OutputValue>(&self, shape: &[usize]) -> Vec<usize> {
        field_chunk(self.chunks, shape, self.levels.is_some().then(|| self.after_time()), O::SIZE)
    }

    /// Returns true if a slab of the field is so large that strips are better.
    pub(crate) fn is_large<O: OutputValue>(&self) -> bool {
        self.needs::<O>(false).part > LARGE_SLAB
    }

    /// Returns true if the field can be made in strips.
    fn has_strips(&self) -> bool {
        matches!(self.route, Route::Native(_)) && self.maker.is_by_rows()
    }

    /// Returns the largest number of bytes that [`Field::fill`] and [`Field::compress`] take, whatever the values are.
    pub fn needs<O: OutputValue>(&self, strips: bool) -> FieldMemory {
        let product = |lengths: &[usize]| lengths.iter().map(|length| *length as u64).product::<u64>();
        let shape = self.shape();
        let chunk = self.chunk::<O>(&shape);
        let depth = if self.levels.is_some() { chunk[self.after_time()] } else { 1 };
        let first = self.after_time() + usize::from(self.levels.is_some());
        let mut part = shape[first..].to_vec();
        if strips && self.has_strips() {
            part[..2].copy_from_slice(&chunk[first..first + 2]);
        }
        // Chunks at the edges are padded.
        let padded: Vec<usize> = part.iter().zip(&chunk[first..]).map(|(l, c)| l.div_ceil(*c) * c).collect();
        let (depth, size) = (depth as u64, O::SIZE as u64);
        let cells = match &self.route {
            Route::Native(_) => part.iter().product(),
            Route::Latlon { .. } => self.grid.plane(),
        };
        FieldMemory {
            part: depth * product(&part) * size,
            chunks: Codec::most_bytes(depth * product(&padded) * size),
            level: self.maker.memory(self.grid, &self.route, cells) + self.route.memory(self.grid.plane()),
            chunk: (self.codec.copies() + u64::from(self.paranoid)) * product(&chunk) * size + Codec::ENCODER_MEMORY,
        }
    }

    /// Returns the parts of the field in the order of its chunks: slabs from the surface down, with as many levels as a
    /// chunk has, or their strips, if these are wanted and possible. A field without levels has one slab.
    pub(crate) fn parts<O: OutputValue>(&self, strips: bool) -> Vec<Part> {
        let levels = self.depth().unwrap_or(1);
        let chunk = self.chunk::<O>(&self.shape());
        let depth = self.depth().map_or(1, |_| chunk[self.after_time()]);
        let slabs = (0..levels).step_by(depth).map(|first| first..levels.min(first + depth));
        if !strips || !self.has_strips() {
            return slabs.map(|levels| Part { levels, rows: None }).collect();
        }
        let first = self.after_time() + usize::from(self.levels.is_some());
        let (n, tiles, rows) = (self.grid.n, chunk[first], chunk[first + 1]);
        let strip = move |tile: usize, j: usize| TileRows::new(n, tile..tile + tiles, j..j + rows);
        let strips =
            move || (0..TILES).step_by(tiles).flat_map(move |tile| (0..n).step_by(rows).map(move |j| (tile, j)));
        let of_slab = |levels: Range<usize>| {
            strips().map(move |(tile, j)| Part { levels: levels.clone(), rows: Some(strip(tile, j)) })
        };
        slabs.flat_map(of_slab).collect()
    }

    /// Reads, masks or regrids and checks a part in the precision `O`; so many of its levels at once.
    ///
    /// # Errors
    /// Returns an error if the input or the weights cannot be read, if a wet cell is not a finite number, or if
    /// `cancel` was set.
    pub fn fill<O: OutputValue>(
        &self,
        part: &Part,
        at_once: usize,
        cancel: &AtomicBool,
        values: &mut Vec<O>,
    ) -> Result<ValueSummary<O>, FieldError> {
        let plane = part.rows.as_ref().map_or_else(|| self.horizontal().iter().product(), TileRows::cells);
        values.resize(part.levels.len() * plane, O::FILL);
        let mut seen = ValueSummary::nothing();
        let mut level = part.levels.start;
        for some in values.chunks_mut(at_once.min(part.levels.len()).max(1) * plane) {
            let make = |(k, out): (usize, &mut [O])| match cancel.load(Ordering::Relaxed) {
                true => Err(FieldError::Cancelled),
                false => self.plane(level + k, part.rows.as_ref(), out),
            };
            let made = some.par_chunks_mut(plane).enumerate().map(make);
            seen = seen.and(made.try_reduce(ValueSummary::nothing, |a, b| Ok(a.and(b)))?);
            level += some.len() / plane;
        }
        Ok(seen)
    }

    /// Compresses the chunks of a part, in row-major order; `spare_cores` has the same meaning as for
    /// [`Codec::encode`].
    ///
    /// # Errors
    /// Returns an error if the codec cannot be used.
    pub fn compress<O: OutputValue>(
        &self,
        part: &Part,
        values: &[O],
        spare_cores: impl Fn() + Sync,
    ) -> Result<Vec<Chunk>, FieldError> {
        let shape = self.shape();
        let chunk = self.chunk::<O>(&shape);
        let (mut own, mut origin) = (shape.clone(), vec![0; shape.len()]);
        let mut restrict = |dimension: usize, range: Range<usize>| {
            (own[dimension], origin[dimension]) = (range.len(), range.start as u64);
        };
        let mut dimension = self.after_time();
        if self.levels.is_some() {
            restrict(dimension, part.levels.clone());
            dimension += 1;
        }
        if let Some(rows) = &part.rows {
            restrict(dimension, rows.tiles());
            restrict(dimension + 1, rows.rows());
        }
        let block = Block { values, shape: &own, origin: &origin, chunk: &chunk, pad: O::FILL };
        Ok(self.codec.encode_checked(self.paranoid, &block, spare_cores, self.stages)?)
    }

    /// Makes the level `at` of the output, or some rows of it.
    fn plane<O: OutputValue>(
        &self,
        at: usize,
        rows: Option<&TileRows>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        if let (Route::Latlon { levels, directions: Some(directions), .. }, Some(vector)) =
            (&self.route, self.maker.vector())
        {
            let (vectors, holes) = vector.cartesian(self.grid, self.level(at), self.stages)?;
            let weights = &levels(at)?;
            return self.stages.time(Stage::Regrid, size_of_val(out) as u64, || {
                self.project(at, (weights, directions), &vectors, holes.as_deref(), out)
            });
        }
        let (plane, holes) = self.maker.level(self.grid, self.level(at), rows, self.stages)?;
        match plane {
            Plane::F32(values) => self.route_plane(at, rows, &values, holes.as_deref(), out),
            Plane::F64(values) => self.route_plane(at, rows, &values, holes.as_deref(), out),
        }
    }

    /// Maps vectors and takes their component in the direction of each target cell.
    fn project<O: OutputValue>(
        &self,
        at: usize,
        (weights, directions): (&Level, &Directions),
        vectors: &[Vec<f64>; 3],
        holes: Option<&[bool]>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        let mut mapped = [const { Vec::new() }; 3];
        let mut missing = 0;
        for (mapped, plane) in mapped.iter_mut().zip(vectors) {
            mapped.resize(out.len(), 0.0);
            weights.apply(plane, mapped, FILL, FILL)?;
            missing = holes.map_or(0, |holes| weights.apply_around(plane, holes, mapped, FILL));
        }
        let [x, y, z] = &mapped;
        for (cell, out) in out.iter_mut().enumerate() {
            *out = match [x[cell], y[cell], z[cell]] {
                [x, ..] if x == FILL => O::FILL,
                vector => O::from_f64(directions.component(cell, vector)),
            };
        }
        let land = weights.land();
        let cell_of = |cell: usize| (cell, !land[cell]);
        let seen = self.check(at, out, weights.dry(), cell_of, weights.uncovered() + missing)?;
        Ok(ValueSummary { uncovered: weights.uncovered(), missing, ..seen })
    }

    fn route_plane<I: Real, O: OutputValue>(
        &self,
        at: usize,
        rows: Option<&TileRows>,
        values: &[I],
        holes: Option<&[bool]>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        let stage = match &self.route {
            Route::Native(_) => Stage::Mask,
            Route::Latlon { .. } => Stage::Regrid,
        };
        let bytes = size_of_val(out) as u64;
        self.stages.time(stage, bytes, || self.put(at, rows, values, holes, out))
    }

    /// Writes a plane of the model, or some rows of it, to its grid: masked or regridded.
    fn put<I: Real, O: OutputValue>(
        &self,
        at: usize,
        rows: Option<&TileRows>,
        values: &[I],
        holes: Option<&[bool]>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        match &self.route {
            Route::Native(mask) => {
                let level = self.level(at).min(mask.levels() - 1);
                let n = self.grid.n;
                let all = TileRows::all(n);
                let lines = rows.unwrap_or(&all);
                let (mut dry, mut missing) = (0, 0);
                for (number, (line, out)) in lines.lines().zip(out.chunks_exact_mut(n)).enumerate() {
                    let row = if rows.is_some() { number } else { compact::row(n, line / n, line % n) };
                    let start = row * n;
                    let values = &values[start..start + n];
                    for (columns, wet) in mask.runs(level, line) {
                        let out = &mut out[columns.clone()];
                        if wet {
                            let values = values[columns].iter();
                            out.iter_mut().zip(values).for_each(|(out, value)| *out = O::from_f64(value.to_f64()));
                        } else {
                            dry += out.len();
                            out.fill(O::FILL);
                        }
                    }
                    let Some(holes) = holes else { continue };
                    for column in mask.wet_columns(level, line).flatten().filter(|column| holes[start + column]) {
                        out[column] = O::FILL;
                        missing += 1;
                    }
                }
                let cell_of = |cell: usize| {
                    let line = lines.line(cell / n);
                    (line * n + cell % n, mask.is_wet(level, line, cell % n))
                };
                let seen = self.check(at, out, dry, cell_of, missing)?;
                Ok(ValueSummary { missing, ..seen })
            }
            Route::Latlon { levels, uncovered_zero, .. } => {
                let weights = &levels(at)?;
                let land = weights.land();
                let uncovered = if *uncovered_zero { O::from_f64(0.0) } else { O::FILL };
                weights.apply(values, out, O::FILL, uncovered)?;
                let missing = holes.map_or(0, |holes| weights.apply_around(values, holes, out, O::FILL));
                let fills = if *uncovered_zero { 0 } else { weights.uncovered() };
                let seen = self.check(at, out, weights.dry(), |cell| (cell, !land[cell]), fills + missing)?;
                Ok(ValueSummary { uncovered: weights.uncovered(), missing, ..seen })
            }
        }
    }

    /// Checks values: every wet cell is finite and not fill, except the `uncovered` ones, which are fill. The `dry`
    /// cells, which are those that are not wet, are fill. `cell_of` returns the number of a value's cell in the plane,
    /// and true if it is wet.
    fn check<O: OutputValue>(
        &self,
        at: usize,
        out: &[O],
        dry: usize,
        cell_of: impl Fn(usize) -> (usize, bool),
        uncovered: usize,
    ) -> Result<ValueSummary<O>, FieldError> {
        let good = out.len().saturating_sub(dry + uncovered);
        if let Some(range) = plain_range(out, good) {
            return Ok(ValueSummary { range: Some(range), ..ValueSummary::nothing() });
        }
        let sums = Sums::of(out);
        if sums.bad == 0 && sums.fills == dry + uncovered {
            return Ok(ValueSummary { range: sums.range, ..ValueSummary::nothing() });
        }
        // Something is wrong; now look for it.
        let (mut fills, mut first_bad, mut first_fill) = (0, None, None);
        for (cell, &value) in out.iter().enumerate() {
            if value == O::FILL {
                if cell_of(cell).1 {
                    fills += 1;
                    if fills > uncovered {
                        first_fill = first_fill.or(Some(cell));
                    }
                }
            } else if !value.finite() {
                first_bad = first_bad.or(Some(cell));
            }
        }
        let fail = |count, what, first| FieldError::Values {
            variable: self.name.into(),
            count,
            what,
            level: self.level(at),
            position: position(cell_of(first).0, &self.horizontal()),
            input: self.maker.names(),
        };
        if let Some(first) = first_bad {
            return Err(fail(sums.bad, "are not finite numbers", first));
        }
        Err(fail(fills.abs_diff(uncovered), "hold the fill value", first_fill.unwrap_or(0)))
    }
}

/// Returns the index in each dimension of the element at a row-major position.
pub(super) fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, length) in index.iter_mut().zip(shape).rev() {
        *index = at % length;
        at /= length;
    }
    index
}

#[cfg(test)]
mod tests;
