//! Fields: one output variable from its inputs to compressed chunks.
//!
//! A field streams through in slabs of as many levels as a chunk has: planes are read, masked or regridded
//! side by side on all cores, checked, and compressed before the next slab is touched.

use super::codec::{Codec, CodecError, Element, chunk_shape};
use super::dataset::{Chunked, Value};
use super::rotation::{Orientation, Staggering, rotate};
use crate::grid::{Mask, Native};
use crate::mapping::{Level, MappingError, Real};
use crate::mds::compact::{self, TILES};
use crate::mds::{MdsError, MdsFile, Plane};
use edp_protocol::store::ReadAt;
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The fill value, exactly as netCDF defines it for double precision; rounded for single precision.
pub const FILL: f64 = 9.969_209_968_386_869e36;

/// Input of a field: an MDS file, wherever it is kept.
pub type Input = MdsFile<Box<dyn ReadAt>>;

/// Why a field could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    /// The input cannot be read.
    #[error(transparent)]
    Mds(#[from] MdsError),
    /// The mapping factors cannot be used.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The values cannot be compressed.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Values that must not get into a granule.
    #[error(
        "{variable}: {count} wet cells {what} at level {level}, the first at {position:?}: the input {input} is damaged or on another grid"
    )]
    Values {
        /// The output variable.
        variable: String,
        /// How many.
        count: usize,
        /// What is wrong with them.
        what: &'static str,
        /// Level, from 0.
        level: usize,
        /// Position of the first in the plane, slowest dimension first.
        position: Vec<usize>,
        /// The input.
        input: String,
    },
    /// Somebody asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// A value of the output: single or double precision.
pub trait Output: Element + Real + PartialOrd {
    /// The fill value.
    const FILL: Self;
    /// Whether it is a number and not infinite.
    fn finite(self) -> bool;
    /// As an attribute with one or two values.
    fn attribute(values: &[Self]) -> Value;
}

impl Output for f32 {
    const FILL: f32 = FILL as f32;
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn attribute(values: &[f32]) -> Value {
        Value::F32(values.to_vec())
    }
}

impl Output for f64 {
    const FILL: f64 = FILL;
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn attribute(values: &[f64]) -> Value {
        Value::F64(values.to_vec())
    }
}

/// Where a field goes, and what happens to it on the way.
pub enum Route<'a> {
    /// Onto the tiles: masked level by level; a mask of one level serves all levels.
    Native(&'a Mask),
    /// Onto the regular grid, with the weights of each level.
    Latlon {
        /// Weights and land of each level that the field has.
        levels: Vec<Arc<Level>>,
        /// Rows and columns of the target grid.
        shape: [usize; 2],
        /// Whether wet target cells that no source covers become zero, as EDP has them, instead of fill.
        uncovered_zero: bool,
    },
}

/// A compressed field.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Its chunks.
    pub chunked: Chunked,
    /// Smallest and largest value that is not fill, as an attribute with two values; none if all is fill.
    pub range: Option<Value>,
    /// Shape with the leading time dimension.
    pub shape: Vec<usize>,
    /// Wet target cells that no source covers, over all levels.
    pub uncovered: usize,
}

/// A record of an input.
pub struct Record {
    /// The file.
    pub input: Input,
    /// Its record, from 0.
    pub number: usize,
}

impl Record {
    fn plane(&self, level: usize) -> Result<Plane, MdsError> {
        self.input.read_plane(self.number, level)
    }
}

/// What the values of a field are made of.
pub enum Source {
    /// One model variable as it is.
    Direct(Record),
    /// One component of a vector.
    Rotated(Box<Vector>),
}

/// A vector of the model, and what is wanted of it.
pub struct Vector {
    /// The component along the model's i axis.
    pub x: Record,
    /// The component along the model's j axis.
    pub y: Record,
    /// Where the model has them.
    pub staggering: Staggering,
    /// Which component of the result.
    pub orientation: Orientation,
}

impl Source {
    /// Names of the input files, for messages.
    pub fn names(&self) -> String {
        match self {
            Source::Direct(record) => record.input.name().to_owned(),
            Source::Rotated(vector) => format!("{} or {}", vector.x.input.name(), vector.y.input.name()),
        }
    }
}

/// A field on its way: its name, what it is made of, and its route.
pub struct Field<'a> {
    /// Name of the output variable.
    pub name: &'a str,
    /// Its inputs.
    pub source: &'a Source,
    /// The model grid.
    pub grid: &'a Native,
    /// Its levels; none if it is 2-D.
    pub levels: Option<usize>,
    /// Where it goes.
    pub route: Route<'a>,
}

/// What was seen in some planes.
#[derive(Debug, Clone, Copy)]
struct Seen<O> {
    range: Option<[O; 2]>,
    uncovered: usize,
}

impl<O: Output> Seen<O> {
    fn and(self, other: Seen<O>) -> Seen<O> {
        let range = match (self.range, other.range) {
            (Some([a, b]), Some([c, d])) => Some([if c < a { c } else { a }, if d > b { d } else { b }]),
            (a, b) => a.or(b),
        };
        Seen { range, uncovered: self.uncovered + other.uncovered }
    }
}

impl Field<'_> {
    /// Lengths of the horizontal dimensions of the output.
    fn horizontal(&self) -> Vec<usize> {
        match &self.route {
            Route::Native(_) => vec![TILES, self.grid.n, self.grid.n],
            Route::Latlon { shape, .. } => shape.to_vec(),
        }
    }

    /// Reads, masks or regrids and checks the field as [`Field::encode`] does, and keeps only its smallest and largest
    /// value; none if all is fill.
    ///
    /// # Errors
    /// As [`Field::encode`].
    pub fn range<O: Output>(&self, cancel: &AtomicBool) -> Result<Option<[O; 2]>, FieldError> {
        let horizontal = self.horizontal();
        let plane: usize = horizontal.iter().product();
        let seen = (0..self.levels.unwrap_or(1))
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
            .try_reduce(|| Seen { range: None, uncovered: 0 }, |a, b| Ok(a.and(b)))?;
        Ok(seen.range)
    }

    /// Reads, masks or regrids, checks and compresses the field in the precision `O`.
    ///
    /// # Errors
    /// The input or the weights cannot be read, a wet cell is not a finite number, or `cancel` was set.
    pub fn encode<O: Output>(&self, codec: &Codec, cancel: &AtomicBool) -> Result<Encoded, FieldError> {
        let horizontal = self.horizontal();
        let plane: usize = horizontal.iter().product();
        let shape: Vec<usize> = [1].into_iter().chain(self.levels).chain(horizontal.iter().copied()).collect();
        let chunk = chunk_shape(&shape, O::SIZE);
        let (levels, depth) = self.levels.map_or((1, 1), |levels| (levels, chunk[1]));
        let mut chunks = Vec::new();
        let mut seen = Seen { range: None, uncovered: 0 };
        let mut slab = Vec::new();
        for first in (0..levels).step_by(depth) {
            let count = depth.min(levels - first);
            slab.resize(count * plane, O::FILL);
            let in_slab = slab
                .par_chunks_mut(plane)
                .enumerate()
                .map(|(k, out)| {
                    if cancel.load(Ordering::Relaxed) {
                        return Err(FieldError::Cancelled);
                    }
                    let _span = tracing::info_span!("plane").entered();
                    self.plane(first + k, &horizontal, out)
                })
                .try_reduce(|| Seen { range: None, uncovered: 0 }, |a, b| Ok(a.and(b)))?;
            seen = seen.and(in_slab);
            let mut slab_shape = shape.clone();
            let mut origin = vec![0; shape.len()];
            if self.levels.is_some() {
                slab_shape[1] = count;
                origin[1] = first as u64;
            }
            let _span = tracing::info_span!("compress").entered();
            chunks.extend(codec.encode(&slab, &slab_shape, &origin, &chunk, O::FILL)?);
        }
        let range = seen.range.map(|range| O::attribute(&range));
        Ok(Encoded { chunked: codec.chunked(chunk, chunks), range, shape, uncovered: seen.uncovered })
    }

    /// Makes one level of the output.
    fn plane<O: Output>(&self, level: usize, shape: &[usize], out: &mut [O]) -> Result<Seen<O>, FieldError> {
        match self.source {
            Source::Direct(record) => match record.plane(level)? {
                Plane::F32(values) => self.route_plane(level, shape, &values, out),
                Plane::F64(values) => self.route_plane(level, shape, &values, out),
            },
            Source::Rotated(vector) => {
                let (mut x, mut y) = (vector.x.plane(level)?.into_f32(), vector.y.plane(level)?.into_f32());
                if vector.staggering == Staggering::Faces {
                    still(self.grid.n, &self.grid.mask_w, level, &mut x);
                    still(self.grid.n, &self.grid.mask_s, level, &mut y);
                }
                let mut rotated = vec![0.0; x.len()];
                rotate(self.grid, vector.staggering, vector.orientation, &x, &y, &mut rotated);
                self.route_plane(level, shape, &rotated, out)
            }
        }
    }

    fn route_plane<I: Real, O: Output>(
        &self,
        level: usize,
        shape: &[usize],
        values: &[I],
        out: &mut [O],
    ) -> Result<Seen<O>, FieldError> {
        match &self.route {
            Route::Native(mask) => {
                let wet = mask.level(level.min(mask.levels() - 1));
                let n = self.grid.n;
                for (line, (out, wet)) in out.chunks_exact_mut(n).zip(wet.chunks_exact(n)).enumerate() {
                    let start = compact::row(n, line / n, line % n) * n;
                    for ((out, wet), value) in out.iter_mut().zip(wet).zip(&values[start..start + n]) {
                        *out = if *wet { O::from_f64(value.to_f64()) } else { O::FILL };
                    }
                }
                self.check(level, shape, out, |at| wet[at], 0)
            }
            Route::Latlon { levels, uncovered_zero, .. } => {
                let weights = &levels[level];
                let land = weights.land();
                let uncovered = if *uncovered_zero { O::from_f64(0.0) } else { O::FILL };
                weights.apply(values, out, O::FILL, uncovered)?;
                let fills = if *uncovered_zero { 0 } else { weights.uncovered() };
                let seen = self.check(level, shape, out, |at| !land[at], fills)?;
                Ok(Seen { uncovered: weights.uncovered(), ..seen })
            }
        }
    }

    /// The gate for values: every wet cell finite and not fill, but for the `uncovered` ones.
    fn check<O: Output>(
        &self,
        level: usize,
        shape: &[usize],
        out: &[O],
        wet: impl Fn(usize) -> bool,
        uncovered: usize,
    ) -> Result<Seen<O>, FieldError> {
        let mut range: Option<[O; 2]> = None;
        let (mut bad, mut first_bad, mut fills, mut first_fill) = (0, 0, 0, 0);
        for (at, &value) in out.iter().enumerate() {
            if value == O::FILL {
                if wet(at) {
                    fills += 1;
                    if fills > uncovered && first_fill == 0 {
                        first_fill = at;
                    }
                }
            } else if value.finite() {
                range = Some(match range {
                    None => [value, value],
                    Some([low, high]) => {
                        [if value < low { value } else { low }, if value > high { value } else { high }]
                    }
                });
            } else {
                if bad == 0 {
                    first_bad = at;
                }
                bad += 1;
            }
        }
        let fail = |count, what, first| FieldError::Values {
            variable: self.name.into(),
            count,
            what,
            level,
            position: position(first, shape),
            input: self.source.names(),
        };
        if bad > 0 {
            return Err(fail(bad, "are not finite numbers", first_bad));
        }
        if fills != uncovered {
            return Err(fail(fills.abs_diff(uncovered), "hold the fill value", first_fill));
        }
        Ok(Seen { range, uncovered: 0 })
    }
}

/// Puts 0 on closed faces that hold no number: they take part in the averages onto their neighbours, and no water
/// passes through them, whatever a model run has there. Numbers stay as they are.
fn still(n: usize, mask: &Mask, level: usize, plane: &mut [f32]) {
    let open = mask.level(level.min(mask.levels() - 1));
    for (line, open) in open.chunks_exact(n).enumerate() {
        let start = compact::row(n, line / n, line % n) * n;
        for (value, open) in plane[start..start + n].iter_mut().zip(open) {
            if !open && !value.is_finite() {
                *value = 0.0;
            }
        }
    }
}

/// Index in each dimension of the element at a row-major position.
fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (index, length) in index.iter_mut().zip(shape).rev() {
        *index = at % length;
        at /= length;
    }
    index
}
