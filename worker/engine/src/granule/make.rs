//! Making a granule: from one recipe to one file, which is assembled, written, and checked by the gate.

use super::assembly::Assembly;
use super::content::{Attributes, GranuleContent, Storage, Type, Value, Variable};
use super::coordinates::{self, CoordinateSelection, Coordinates, VerticalAxis};
use super::error::MakeError;
use super::fetching::held_at_once;
use super::field::{Division, Field, FieldMemory};
use super::file::{FileError, Written};
use super::gate::{self, GateError};
use super::inputs::Output;
use super::ordered_steps::SLABS_IN_FLIGHT;
use super::output_value::{FILL, OutputValue};
use super::projection::Directions;
use super::route::{Route, WeightsOfLevels};
use super::slab_pipeline::SlabPipeline;
use super::stages::{Stage, Stages};
use super::time;
use super::valid_range::{ValidRange, range_attributes};
use crate::grid::{HorizontalPoint, LevelSet, Mask, VerticalPoint};
use crate::metadata::attribute;
use crate::metadata::configuration::OutputPrecision;
use crate::metadata::global::{self, Sources};
use crate::resources::ResourceError;
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::Recipe;
use edp_protocol::vocabulary::UnknownWord;
use edp_protocol::{Digest, Frequency, GridKind, Mode, calendar, wire};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

pub use super::assembly::MakeContext;

/// The file that was made.
#[derive(Debug, Clone)]
pub struct MadeFile {
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file's bytes.
    pub digest: Digest,
    /// The inputs that were read, by path.
    pub inputs: Vec<wire::InputRead>,
    /// Places of its chunks, variable by variable in file order.
    pub chunks: Vec<wire::ChunkPlaces>,
    /// Warnings about the granule.
    pub warnings: Vec<String>,
}

impl MadeFile {
    /// Returns the report for the outcome, once the granule is at its destination.
    pub fn done(self, recipe: &Recipe, stages: &Stages) -> wire::Done {
        wire::Done {
            already: false,
            older: 0,
            location: recipe.granule.clone(),
            size: self.size,
            sha256: self.digest.as_str().to_owned(),
            stages: stages.report(self.size),
            inputs: self.inputs,
            chunks: self.chunks,
            warnings: self.warnings,
        }
    }
}

/// Makes the granule of a recipe in an empty local file, and checks it there.
///
/// # Errors
/// Returns an error for anything that keeps the granule from being right. The caller then has to remove the file at
/// `path`.
pub fn make(recipe: &Recipe, context: MakeContext<'_>, path: &Path) -> Result<MadeFile, MakeError> {
    recipe.check_identity()?;
    let plan = recipe.plan()?;
    if plan.is_held() {
        return Err(MakeError::Held { granule: recipe.granule.clone(), missing: plan.missing.clone() });
    }
    let stages = context.stages;
    let assembly = stages.time(Stage::Resources, 0, || Assembly::new(recipe, context))?;
    if assembly.name.grid == GridKind::Series {
        return assembly.make_series(context.memory, path);
    }
    if recipe.input_netcdf.is_some() {
        return assembly.make_invariant(context.memory, path);
    }
    let mut warnings = Vec::new();
    let outputs = assembly.outputs(&mut warnings)?;
    let masks = outputs.iter().map(|output| assembly.mask(output)).collect::<Result<Vec<_>, _>>()?;
    let pairs = outputs.iter().zip(&masks);
    let fields = stages.time(Stage::Resources, 0, || {
        pairs.map(|(output, mask)| assembly.field(output, mask)).collect::<Result<Vec<_>, _>>()
    })?;
    let mut dataset = assembly.dataset(&outputs, &fields)?;
    let division = assembly.division(&outputs, &fields, context.memory)?;
    stages.end_spans();
    let plan = SlabPipeline { outputs: &outputs, fields: &fields, division };
    let (spare_cores, spare) = mpsc::channel();
    let failed = AtomicBool::new(false);
    let (made, inputs) = std::thread::scope(|scope| {
        let hashing = scope.spawn(|| assembly.hash(&outputs, spare, &failed));
        let written = assembly.write(&plan, &mut dataset, path, spare_cores, &mut warnings);
        let made = written.and_then(|written| finish(path, &dataset, &written, stages));
        if let Err(MakeError::Gate(_)) = &made {
            assembly.resources.grid.skeletons.clear();
        }
        failed.store(made.is_err(), Ordering::Relaxed);
        (made, hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    stages.end_spans();
    let ((size, digest, chunks), mut inputs) = (made?, inputs?);
    assembly.add_fetched(&outputs, &mut inputs)?;
    assembly.check_content(&inputs)?;
    Ok(MadeFile { size, digest, inputs, chunks, warnings })
}

/// Syncs a closed file, hashes it and compares it with its content, all at once, since none of these needs a result of
/// the others. Returns its size in bytes, its digest, and the places of its chunks.
pub(super) fn finish(
    path: &Path,
    dataset: &GranuleContent,
    written: &Written,
    stages: &Stages,
) -> Result<(u64, Digest, Vec<wire::ChunkPlaces>), MakeError> {
    let fail = |source| FileError::Io { path: path.into(), source };
    let size = std::fs::metadata(path).map_err(fail)?.len();
    let (checked, hashed, synced) = stages.time(Stage::Gate, size, || {
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| stages.time(Stage::Write, 0, || File::open(path)?.sync_all()));
            let hashing = scope.spawn(|| digest(path, size, stages));
            let checked = gate::check(path, dataset, written).or_else(|error| match error {
                // A chunk that could not be read for a moment looks as if it were missing; a real violation is found
                // twice.
                GateError::Violations { .. } => gate::check(path, dataset, written),
                error => Err(error),
            });
            let hashed = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (checked, hashed, syncing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    });
    synced.map_err(fail)?;
    let chunks = checked?;
    Ok((size, hashed.map_err(fail)?, chunks))
}

/// Returns the digest of a granule of `size` bytes, as a stage.
///
/// The file is read once more, from the page cache: HDF5 rewrites its beginning at the very end, so that nothing can be
/// hashed before it is closed.
///
/// # Errors
/// Returns an error if it cannot be read.
pub fn digest(path: &Path, size: u64, stages: &Stages) -> std::io::Result<Digest> {
    let read = stages.time(Stage::Hash, size, || File::open(path).and_then(Digest::of_reader));
    read.map(|(digest, _)| digest)
}

impl Assembly<'_> {
    /// Describes the whole file: everything except the values of the data variables, and what depends on them.
    fn dataset(&self, outputs: &[Output<'_>], fields: &[Field<'_>]) -> Result<GranuleContent, MakeError> {
        let texts = &self.resources.texts;
        if outputs.is_empty() {
            return Err(self.fail("-", "the recipe has no variables"));
        }
        if self.plan.mode.is_edp() && !texts.configuration.horizontal_coordinates {
            let why = "the configuration leaves horizontal coordinates out (static_coordinates), and EDP never does";
            return Err(self.fail("-", why));
        }
        let (dynamic, units) = (&self.recipe.dynamic_metadata, &self.plan.time_units);
        let long_time = self.plan.mode == Mode::Corrected && calendar::is_long(units, texts.configuration.model_end);
        let encode = || if long_time { time::encode_long(dynamic, units) } else { time::encode(dynamic, units) };
        let time = self.has_time().then(encode).transpose();
        let time = time.map_err(|source| MakeError::Time { granule: self.recipe.granule.clone(), source })?;
        let has = |point| outputs.iter().any(|output| output.opened.placement.horizontal == point);
        let wanted = CoordinateSelection {
            mode: self.plan.mode,
            levels: self.common_levels(outputs)?,
            depths: VerticalAxis {
                centres: outputs.iter().any(|output| output.opened.levels.is_some() && !self.keeps_faces(output)),
                upper_faces: outputs.iter().any(|output| self.keeps_faces(output)),
            },
            edges: [has(HorizontalPoint::U), has(HorizontalPoint::V)],
            horizontal: texts.configuration.horizontal_coordinates,
            codec: texts.configuration.codec,
            time,
            long_time,
            time_units: &self.plan.time_units,
            dynamic: &self.recipe.dynamic_metadata,
        };
        let mut coordinates = match &self.resources.target {
            None => coordinates::native(&self.resources, &wanted)?,
            Some(target) => coordinates::latlon(&self.resources, target, &wanted),
        };
        if self.plan.mode == Mode::Corrected {
            coordinates.correct();
        }
        let mut data = Vec::new();
        for (output, field) in outputs.iter().zip(fields) {
            data.push(self.variable(output, field, &coordinates)?);
        }
        let keywords: BTreeSet<String> =
            outputs.iter().flat_map(|output| output.description.keywords.iter().cloned()).collect();
        let mut attributes = global::describe(&Sources {
            configuration: &texts.configuration,
            metadata: &texts.metadata,
            podaac: &texts.podaac,
            name: &self.name,
            mode: self.plan.mode,
            dynamic: &self.recipe.dynamic_metadata,
            id: &self.plan.id,
            production_date: &self.plan.production_date,
            keywords,
            extent: Some(coordinates.extent),
        })?;
        let all = coordinates.first.iter().chain(&coordinates.time_bounds).chain(&coordinates.last);
        if let Some(names) = coordinates::named_by_none(all, &data) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        let variables = in_file_order(
            &self.name,
            self.plan.mode,
            coordinates.first,
            data,
            coordinates.time_bounds,
            coordinates.last,
        );
        Ok(GranuleContent { dimensions: coordinates.dimensions, variables, attributes })
    }

    /// Returns the way in which the fields are made: the one that keeps most cores busy of those for which the memory
    /// of a slot is enough. Fields with large slabs are made in strips in any case.
    fn division(&self, outputs: &[Output<'_>], fields: &[Field<'_>], limit: u64) -> Result<Division, MakeError> {
        match self.resources.texts.configuration.precision {
            OutputPrecision::Float32 => self.division_of::<f32>(outputs, fields, limit),
            OutputPrecision::Float64 => self.division_of::<f64>(outputs, fields, limit),
        }
    }

    fn division_of<O: OutputValue>(
        &self,
        outputs: &[Output<'_>],
        fields: &[Field<'_>],
        limit: u64,
    ) -> Result<Division, MakeError> {
        let threads = rayon::current_num_threads();
        let needs = |strips: bool| {
            let all = fields.iter().map(|field| field.needs::<O>(strips));
            all.fold(FieldMemory::default(), FieldMemory::or)
        };
        let needs = [needs(false), needs(true)];
        let resident = outputs.iter().map(|output| output.opened.maker.resident()).fold(0, u64::saturating_add);
        let bytes = |division: &Division| {
            let own = needs[usize::from(division.strips)].bytes(division, threads);
            own.saturating_add(held_at_once(outputs, division.in_flight)).saturating_add(resident)
        };
        let first = usize::from(fields.iter().any(Field::is_large::<O>));
        let with_all_threads = [false, true].into_iter().skip(first).flat_map(|strips| {
            (1..=SLABS_IN_FLIGHT).rev().map(move |in_flight| Division { strips, in_flight, levels: usize::MAX })
        });
        let with_fewer = (1..threads).rev().map(|levels| Division { strips: true, in_flight: 1, levels });
        if let Some(division) = with_all_threads.chain(with_fewer).find(|division| bytes(division) <= limit) {
            return Ok(division);
        }
        let least = Division { strips: true, in_flight: 1, levels: 1 };
        let of = |field: &Field<'_>| field.needs::<O>(true).bytes(&least, threads);
        let largest = outputs.iter().zip(fields).max_by_key(|(_, field)| of(field));
        let variable = largest.map_or_else(String::new, |(output, _)| output.name.to_owned());
        Err(MakeError::Memory { granule: self.recipe.granule.clone(), variable, needed: bytes(&least), limit })
    }

    pub(super) fn valid_range(&self, output: &Output<'_>) -> Result<Option<ValidRange>, MakeError> {
        ValidRange::of(self.plan, output.name).map_err(|why| self.fail(output.name, why))
    }

    /// Returns the mask of a native variable: the one that its metadata name, else that of its point.
    pub(super) fn mask(&self, output: &Output<'_>) -> Result<Masked<'_>, MakeError> {
        let model = &self.resources.grid;
        if let Some(name) = &output.description.land_mask_override {
            let mask = model.named_mask(name, self.cancel)?;
            return Ok(Masked::Named(mask));
        }
        Ok(Masked::OfPoint(self.mask_of(output.opened.placement.horizontal)))
    }

    fn route<'m>(&'m self, output: &'m Output<'_>, mask: &'m Masked<'_>) -> Result<Route<'m>, MakeError> {
        let Some(target) = &self.resources.target else {
            return Ok(Route::Native(match mask {
                Masked::Named(mask) => mask,
                Masked::OfPoint(mask) => mask,
            }));
        };
        let numbers = output.opened.levels.as_ref().map_or(&[0][..], LevelSet::levels);
        let resources = &self.resources;
        let levels: WeightsOfLevels<'m> = if resources.grid.is_large() || target.is_large() {
            // Only those of the levels that are being made are in memory, as far as the factors do not keep them.
            Box::new(move |at| resources.level(target, numbers.get(at).copied().unwrap_or(at)))
        } else {
            // Side by side: they may have to be loaded.
            let level = |k: &usize| match self.cancel.load(Ordering::Relaxed) {
                true => Err(ResourceError::Cancelled),
                false => Ok(resources.level(target, *k)?),
            };
            let levels: Vec<_> = numbers.par_iter().map(level).collect();
            let levels = levels.into_iter().collect::<Result<Vec<_>, _>>()?;
            Box::new(move |at| match levels.get(at) {
                Some(level) => Ok(Arc::clone(level)),
                None => resources.level(target, at),
            })
        };
        let uncovered_zero = self.plan.mode.is_edp();
        let vector = output.opened.maker.vector().filter(|_| self.plan.projects_at_target());
        let directions = vector.map(|vector| Directions::new(&target.latlon, vector.orientation));
        Ok(Route::Latlon { levels, shape: target.factors.shape().into(), uncovered_zero, directions })
    }

    /// Returns true if a variable of a latlon granule has the depths of upper cell faces.
    fn keeps_faces(&self, output: &Output<'_>) -> bool {
        self.plan.keeps_faces()
            && self.plan.mode == Mode::Corrected
            && self.name.grid == GridKind::Latlon
            && output.opened.placement.vertical == Some(VerticalPoint::Lower)
    }

    /// Returns the field of a variable, ready to be read.
    pub(super) fn field<'f>(&'f self, output: &'f Output<'_>, mask: &'f Masked<'_>) -> Result<Field<'f>, MakeError> {
        let (grid, levels) = (&self.resources.grid.native, output.opened.levels.clone());
        let route = self.route(output, mask)?;
        let (name, maker, timed) = (output.name, &*output.opened.maker, self.has_time());
        let unknown = |error: UnknownWord| self.fail(output.name, error.to_string());
        let codec = self.resources.texts.configuration.codec.of_fields(self.plan.encoder().map_err(unknown)?);
        let chunks = self.plan.chunks().map_err(unknown)?;
        Ok(Field {
            name,
            maker,
            grid,
            levels,
            route,
            timed,
            codec,
            chunks,
            paranoid: self.paranoid,
            stages: self.stages,
        })
    }

    /// Describes a variable. Its range is known only after its values were made; until then it has placeholder values.
    fn variable(
        &self,
        output: &Output<'_>,
        field: &Field<'_>,
        coordinates: &Coordinates,
    ) -> Result<Variable, MakeError> {
        let configuration = &self.resources.texts.configuration;
        let (data_type, chunked) = match configuration.precision {
            OutputPrecision::Float32 => (Type::F32, field.chunked::<f32>()),
            OutputPrecision::Float64 => (Type::F64, field.chunked::<f64>()),
        };
        let dimensions = self.dimensions(output);
        let any = match data_type {
            Type::F64 => Value::F64(vec![f64::NAN; 2]),
            _ => Value::F32(vec![f32::NAN; 2]),
        };
        let ranges = range_attributes(self.plan.mode, data_type, Some(&any));
        let mut attributes = output.opened.of_reader.clone();
        attributes.extend(ranges.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        if let Some(valid) = self.valid_range(output)? {
            attributes.extend(valid.attributes(data_type));
        }
        for (name, value) in &output.description.attributes {
            attribute::set(&mut attributes, name, value.clone());
        }
        if self.plan.mode == Mode::Corrected
            && self.name.grid == GridKind::Latlon
            && output.opened.placement.vertical == Some(VerticalPoint::Lower)
            && !self.keeps_faces(output)
        {
            note_upper_faces(&mut attributes);
        }
        if self.plan.mode == Mode::Corrected {
            if output.opened.maker.vector().is_some() {
                note_directions(&mut attributes, self.plan.projects_at_target());
            }
            if let Some(sentence) = output.opened.maker.sentence() {
                attribute::append_sentence(&mut attributes, "comment", &sentence);
            }
            attribute::remove_empty_texts(&mut attributes);
            let method = match self.name.frequency {
                Frequency::Snapshot => Some("time: point"),
                Frequency::Day | Frequency::Month => Some("time: mean"),
                Frequency::TimeInvariant => None,
            };
            if let Some(method) = method {
                attribute::set(&mut attributes, "cell_methods", method);
            }
        }
        let named = coordinates.first.iter().chain(&coordinates.last);
        if let Some(names) = coordinates::named_by(self.plan.mode, &dimensions, named) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        let storage = Storage::Chunked(data_type, chunked);
        Ok(Variable { name: output.name.into(), dimensions, fill: Some(FILL), attributes, storage })
    }

    fn dimensions(&self, output: &Output<'_>) -> Vec<String> {
        let [y, x] = output.opened.placement.horizontal.dims();
        let vertical = output.opened.placement.vertical;
        let time = self.has_time().then_some("time").into_iter();
        let names: Vec<&str> = match self.name.grid {
            GridKind::Native | GridKind::Series => {
                time.chain(vertical.map(VerticalPoint::dim)).chain(["tile", y, x]).collect()
            }
            GridKind::Latlon => {
                let depth = if self.keeps_faces(output) { "Zl" } else { "Z" };
                time.chain(vertical.map(|_| depth)).chain(["latitude", "longitude"]).collect()
            }
        };
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The mask of a native variable.
pub(super) enum Masked<'a> {
    OfPoint(&'a Mask),
    Named(Arc<Mask>),
}

/// Notes that values on cell faces are stored under the depths of cell centres.
fn note_upper_faces(attributes: &mut Attributes) {
    const NOTE: &str = "Values lie at the upper faces of the cells whose centre depths Z gives.";
    attribute::append_sentence(attributes, "comment", NOTE);
}

/// Notes the grid at whose cells the directions of a rotated vector are defined.
fn note_directions(attributes: &mut Attributes, at_target: bool) {
    let note = match at_target {
        false => {
            "East and north are those at the cell of the native grid from which the value comes; close to the poles they \
             differ from those at the cell of this grid."
        }
        true => "The vector was mapped in Cartesian components; east and north are those at the cell of this grid.",
    };
    attribute::append_sentence(attributes, "comment", note);
}

/// Returns the variables in the order in which EDP writes them: `time_bnds` follows the first data variable of native
/// granules, in EDP of 2026 for means only.
fn in_file_order(
    granule: &GranuleName,
    mode: Mode,
    first: Vec<Variable>,
    data: Vec<Variable>,
    time_bounds: Option<Variable>,
    last: Vec<Variable>,
) -> Vec<Variable> {
    let mut variables = first;
    let mut data = data.into_iter();
    let late = mode == Mode::Edp2026 && granule.frequency == Frequency::Snapshot;
    match granule.grid {
        GridKind::Native if !late => {
            variables.extend(data.next());
            variables.extend(time_bounds);
            variables.extend(data);
        }
        GridKind::Native | GridKind::Latlon | GridKind::Series => {
            variables.extend(data);
            variables.extend(time_bounds);
        }
    }
    variables.extend(last);
    variables
}
