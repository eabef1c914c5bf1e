//! Fields: one output variable, from its inputs to compressed chunks.
//!
//! A field is made in slabs of as many levels as a chunk has: planes are read, masked or regridded in parallel on all
//! cores, checked, and compressed.

use super::blocks::{Block, chunk_shape};
use super::content::{Chunk, Chunked};
use super::kinds::Maker;
use super::projection::Directions;
use super::stages::{Stage, Stages};
use super::sums::{Sums, plain_range};
use crate::codec::Codec;
use crate::grid::{LevelSet, Native};
use crate::mapping::{Level, Real};
use crate::mds::Plane;
use crate::mds::compact::{self, TILES};
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

/// The memory in bytes that making a field takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldMemory {
    /// Size of a slab of the output.
    pub slab: u64,
    /// Size of the chunks of a slab.
    pub chunks: u64,
    /// Memory of each thread: levels of the inputs, or a chunk that is being compressed.
    pub thread: u64,
}

impl FieldMemory {
    /// Returns memory that is enough for either of two fields.
    #[must_use]
    pub fn or(self, other: FieldMemory) -> FieldMemory {
        FieldMemory {
            slab: self.slab.max(other.slab),
            chunks: self.chunks.max(other.chunks),
            thread: self.thread.max(other.thread),
        }
    }

    /// Returns the largest number of bytes at one time, with this many slabs in flight and the chunks of one more being
    /// written.
    pub fn bytes(&self, in_flight: usize, threads: usize) -> u64 {
        let (in_flight, threads) = (in_flight as u64, threads as u64);
        let slabs = in_flight.saturating_mul(self.slab).saturating_add((in_flight + 1).saturating_mul(self.chunks));
        slabs.saturating_add(threads.saturating_mul(self.thread))
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
        let horizontal = self.horizontal();
        let plane: usize = horizontal.iter().product();
        let seen = (0..self.depth().unwrap_or(1))
            .into_par_iter()
            .map_init(
                || vec![O::FILL; plane],
                |out, level| {
                    if cancel.load(Ordering::Relaxed) {
                        return Err(FieldError::Cancelled);
                    }
                    self.plane(level, &horizontal, out)
                },
            )
            .try_reduce(ValueSummary::nothing, |a, b| Ok(a.and(b)))?;
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
    pub(crate) fn chunked<O: OutputValue>(&self, codec: &Codec) -> Chunked {
        codec.chunked(chunk_shape(&self.shape(), O::SIZE))
    }

    /// Returns the largest number of bytes that [`Field::fill`] and [`Field::compress`] take, whatever the values are.
    pub fn needs<O: OutputValue>(&self) -> FieldMemory {
        let product = |lengths: &[usize]| lengths.iter().map(|length| *length as u64).product::<u64>();
        let shape = self.shape();
        let chunk = chunk_shape(&shape, O::SIZE);
        let depth = if self.levels.is_some() { chunk[self.after_time()] } else { 1 };
        let size = O::SIZE as u64;
        let slab = depth as u64 * product(&self.horizontal()) * size;
        // Chunks at the edges are padded.
        let cover: Vec<usize> =
            shape.iter().zip(&chunk).skip(self.after_time()).map(|(l, c)| l.div_ceil(*c) * c).collect();
        let padded = match self.levels {
            Some(_) => depth as u64 * product(&cover[1..]),
            None => product(&cover),
        } * size;
        let encoding = 3 * product(&chunk) * size + Codec::ENCODER_MEMORY;
        FieldMemory {
            slab,
            chunks: Codec::most_bytes(padded),
            thread: self.maker.memory(self.grid, &self.route).max(encoding),
        }
    }

    /// Returns the levels of each slab, from the surface down: as many as a chunk has. A field without levels is one
    /// slab.
    pub(crate) fn slabs<O: OutputValue>(&self) -> impl Iterator<Item = Range<usize>> + use<O> {
        let levels = self.depth().unwrap_or(1);
        let depth = self.depth().map_or(1, |_| chunk_shape(&self.shape(), O::SIZE)[self.after_time()]);
        (0..levels).step_by(depth).map(move |first| first..levels.min(first + depth))
    }

    /// Reads, masks or regrids and checks a slab in the precision `O`.
    ///
    /// # Errors
    /// Returns an error if the input or the weights cannot be read, if a wet cell is not a finite number, or if
    /// `cancel` was set.
    pub fn fill<O: OutputValue>(
        &self,
        levels: Range<usize>,
        cancel: &AtomicBool,
        slab: &mut Vec<O>,
    ) -> Result<ValueSummary<O>, FieldError> {
        let horizontal = self.horizontal();
        let plane: usize = horizontal.iter().product();
        slab.resize(levels.len() * plane, O::FILL);
        slab.par_chunks_mut(plane)
            .enumerate()
            .map(|(k, out)| {
                if cancel.load(Ordering::Relaxed) {
                    return Err(FieldError::Cancelled);
                }
                self.plane(levels.start + k, &horizontal, out)
            })
            .try_reduce(ValueSummary::nothing, |a, b| Ok(a.and(b)))
    }

    /// Compresses the chunks of a slab, in row-major order; `spare_cores` has the same meaning as for
    /// [`Codec::encode`].
    ///
    /// # Errors
    /// Returns an error if the codec cannot be used.
    pub fn compress<O: OutputValue>(
        &self,
        codec: &Codec,
        levels: Range<usize>,
        slab: &[O],
        spare_cores: impl Fn() + Sync,
    ) -> Result<Vec<Chunk>, FieldError> {
        let shape = self.shape();
        let chunk = chunk_shape(&shape, O::SIZE);
        let (mut slab_shape, mut origin) = (shape.clone(), vec![0; shape.len()]);
        if self.levels.is_some() {
            slab_shape[self.after_time()] = levels.len();
            origin[self.after_time()] = levels.start as u64;
        }
        let block = Block { values: slab, shape: &slab_shape, origin: &origin, chunk: &chunk, pad: O::FILL };
        Ok(codec.encode(&block, spare_cores, self.stages)?)
    }

    /// Makes the level `at` of the output.
    fn plane<O: OutputValue>(&self, at: usize, shape: &[usize], out: &mut [O]) -> Result<ValueSummary<O>, FieldError> {
        if let (Route::Latlon { levels, directions: Some(directions), .. }, Some(vector)) =
            (&self.route, self.maker.vector())
        {
            let (vectors, holes) = vector.cartesian(self.grid, self.level(at), self.stages)?;
            let weights = &levels[at];
            return self.stages.time(Stage::Regrid, size_of_val(out) as u64, || {
                self.project(at, shape, (weights, directions), &vectors, holes.as_deref(), out)
            });
        }
        let (plane, holes) = self.maker.level(self.grid, self.level(at), self.stages)?;
        match plane {
            Plane::F32(values) => self.route_plane(at, shape, &values, holes.as_deref(), out),
            Plane::F64(values) => self.route_plane(at, shape, &values, holes.as_deref(), out),
        }
    }

    /// Maps vectors and takes their component in the direction of each target cell.
    fn project<O: OutputValue>(
        &self,
        at: usize,
        shape: &[usize],
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
        let seen = self.check(at, shape, out, weights.dry(), |cell| !land[cell], weights.uncovered() + missing)?;
        Ok(ValueSummary { uncovered: weights.uncovered(), missing, ..seen })
    }

    fn route_plane<I: Real, O: OutputValue>(
        &self,
        at: usize,
        shape: &[usize],
        values: &[I],
        holes: Option<&[bool]>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        let stage = match &self.route {
            Route::Native(_) => Stage::Mask,
            Route::Latlon { .. } => Stage::Regrid,
        };
        let bytes = size_of_val(out) as u64;
        self.stages.time(stage, bytes, || self.put(at, shape, values, holes, out))
    }

    /// Writes a plane of the model to its grid: masked or regridded.
    fn put<I: Real, O: OutputValue>(
        &self,
        at: usize,
        shape: &[usize],
        values: &[I],
        holes: Option<&[bool]>,
        out: &mut [O],
    ) -> Result<ValueSummary<O>, FieldError> {
        match &self.route {
            Route::Native(mask) => {
                let level = self.level(at).min(mask.levels() - 1);
                let n = self.grid.n;
                let mut missing = 0;
                for (line, out) in out.chunks_exact_mut(n).enumerate() {
                    let start = compact::row(n, line / n, line % n) * n;
                    let values = &values[start..start + n];
                    for (columns, wet) in mask.runs(level, line) {
                        let out = &mut out[columns.clone()];
                        match wet {
                            true => out.iter_mut().zip(&values[columns]).for_each(|(out, value)| {
                                *out = O::from_f64(value.to_f64());
                            }),
                            false => out.fill(O::FILL),
                        }
                    }
                    let Some(holes) = holes else { continue };
                    for column in mask.wet_columns(level, line).flatten().filter(|column| holes[start + column]) {
                        out[column] = O::FILL;
                        missing += 1;
                    }
                }
                let wet = |cell: usize| mask.is_wet(level, cell / n, cell % n);
                let seen = self.check(at, shape, out, mask.dry(level), wet, missing)?;
                Ok(ValueSummary { missing, ..seen })
            }
            Route::Latlon { levels, uncovered_zero, .. } => {
                let weights = &levels[at];
                let land = weights.land();
                let uncovered = if *uncovered_zero { O::from_f64(0.0) } else { O::FILL };
                weights.apply(values, out, O::FILL, uncovered)?;
                let missing = holes.map_or(0, |holes| weights.apply_around(values, holes, out, O::FILL));
                let fills = if *uncovered_zero { 0 } else { weights.uncovered() };
                let seen = self.check(at, shape, out, weights.dry(), |cell| !land[cell], fills + missing)?;
                Ok(ValueSummary { uncovered: weights.uncovered(), missing, ..seen })
            }
        }
    }

    /// Checks values: every wet cell is finite and not fill, except the `uncovered` ones, which are fill. The `dry`
    /// cells, which are those that are not `wet`, are fill.
    fn check<O: OutputValue>(
        &self,
        at: usize,
        shape: &[usize],
        out: &[O],
        dry: usize,
        wet: impl Fn(usize) -> bool,
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
                if wet(cell) {
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
            position: position(first, shape),
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
