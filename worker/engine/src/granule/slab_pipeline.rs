//! The pipeline of a granule: slabs, or strips of them, are made in parallel and written in file order, and the ranges
//! of the values come last.

use super::assembly::Assembly;
use super::content::{Chunk, Chunked, GranuleContent, Storage, Value, Variable};
use super::error::MakeError;
use super::fetching::Fetching;
use super::field::{Division, Field, Part, ValueSummary};
use super::field_error::FieldError;
use super::file::{FileError, Writer, Written};
use super::inputs::Output;
use super::ordered_steps;
use super::output_value::OutputValue;
use super::stages::Stage;
use super::valid_range::range_attributes;
use crate::metadata::attribute;
use crate::metadata::configuration::OutputPrecision;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

/// The outputs of a granule with their fields, and the way in which these are made.
pub(super) struct SlabPipeline<'a> {
    pub(super) outputs: &'a [Output<'a>],
    pub(super) fields: &'a [Field<'a>],
    pub(super) division: Division,
}

/// A summary of a variable's values.
struct VariableSummary {
    /// Smallest and largest value, as an attribute with two values; `None` if all values are fill.
    range: Option<Value>,
    /// Number of wet target cells that no source covers, over all levels.
    uncovered: usize,
    /// Number of wet cells for which the inputs have only their missing value, over all levels.
    missing: usize,
}

/// The unit of work that is handed to the writer at once.
enum Step<'a> {
    /// The chunks of a variable that many granules have.
    Shared(&'a Arc<Vec<Chunk>>),
    /// A slab or a strip of the output with this number.
    Part(usize, Part),
}

/// Chunks for the writer.
enum ChunkBatch {
    Own(Vec<Chunk>),
    Shared(Arc<Vec<Chunk>>),
}

impl AsRef<[Chunk]> for ChunkBatch {
    fn as_ref(&self) -> &[Chunk] {
        match self {
            ChunkBatch::Own(chunks) => chunks,
            ChunkBatch::Shared(chunks) => chunks,
        }
    }
}

impl Assembly<'_> {
    /// Writes the file. Chunks are written while the next ones are made; the ranges of the values come last. Sends to
    /// `spare_cores` when not all cores are needed for this any more, and drops it when none is.
    pub(super) fn write(
        &self,
        plan: &SlabPipeline<'_>,
        dataset: &mut GranuleContent,
        path: &Path,
        spare_cores: mpsc::Sender<()>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, MakeError> {
        let (stages, outputs) = (self.stages, plan.outputs);
        let (to_writer, chunks) = mpsc::sync_channel::<(&str, ChunkBatch)>(0);
        let variables: Vec<(String, Storage)> =
            dataset.variables.iter().map(|variable| (variable.name.clone(), variable.storage.clone())).collect();
        let (written, seen) = std::thread::scope(|scope| {
            let (described, skeletons) = (&*dataset, &self.resources.grid.skeletons);
            let writing = scope.spawn(move || {
                let mut writer = stages.time(Stage::Write, 0, || Writer::create_like(path, described, skeletons))?;
                for (name, chunks) in chunks {
                    let chunks = chunks.as_ref();
                    let bytes: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
                    stages.time(Stage::Write, bytes as u64, || writer.write(name, chunks))?;
                }
                Ok::<_, FileError>(writer)
            });
            let fetching = Fetching::begin(scope, outputs, self.stores, stages);
            let seen = match self.resources.texts.configuration.precision {
                OutputPrecision::Float32 => self.encode::<f32>(plan, &variables, fetching, spare_cores, to_writer),
                OutputPrecision::Float64 => self.encode::<f64>(plan, &variables, fetching, spare_cores, to_writer),
            };
            // The computation has ended and its end of the channel is closed, so the writer ends too. It never panics
            // by itself, and a panic that it passes on goes to the caller.
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (written, seen)
        });
        // When the writer fails, the computation gives up, so the writer's error is the one that counts.
        let (mut writer, seen) = (written?, seen?);
        for (output, seen) in outputs.iter().zip(&seen) {
            self.settle(output, seen, dataset, &mut writer, warnings)?;
        }
        Ok(stages.time(Stage::Write, 0, || writer.close())?)
    }

    /// Hands the chunks of all variables to the writer, in file order. Returns the summary of the values of each
    /// output.
    fn encode<'s, O: OutputValue>(
        &self,
        plan: &SlabPipeline<'_>,
        variables: &'s [(String, Storage)],
        fetching: Fetching,
        spare_cores: mpsc::Sender<()>,
        to_writer: mpsc::SyncSender<(&'s str, ChunkBatch)>,
    ) -> Result<Vec<VariableSummary>, MakeError> {
        let strips = plan.division.strips;
        let parts: Vec<Vec<Part>> = plan.fields.iter().map(|field| field.parts::<O>(strips)).collect();
        let mut steps = Vec::new();
        for (name, storage) in variables {
            match storage {
                Storage::Chunked(_, Chunked { chunks: Some(chunks), .. }) => {
                    steps.push((name.as_str(), Step::Shared(chunks)));
                }
                Storage::Chunked(..) => {
                    let Some(at) = plan.outputs.iter().position(|output| output.name == name) else { continue };
                    steps.extend(parts[at].iter().map(|part| (name.as_str(), Step::Part(at, part.clone()))));
                }
                Storage::Contiguous(_) => {}
            }
        }
        let left: Vec<AtomicUsize> = parts.iter().map(|parts| AtomicUsize::new(parts.len())).collect();
        let mut seen = vec![ValueSummary::<O>::nothing(); plan.fields.len()];
        let steps = &steps[..];
        let begin = move |step: usize| match &steps[step].1 {
            Step::Part(_, part) if part.is_first() => fetching.next(),
            _ => Ok(()),
        };
        let last = steps.iter().rposition(|(_, step)| matches!(step, Step::Part(..)));
        // One part is filled at a time. Otherwise all of them would fill first, then all compress and end at the same
        // time, where cores run out of work. This way one is still being compressed when another begins.
        let filling = Mutex::new(());
        let work = |step: usize, values: &mut Vec<O>| match &steps[step].1 {
            Step::Shared(chunks) => Ok((ChunkBatch::Shared(Arc::clone(chunks)), ValueSummary::nothing())),
            Step::Part(at, part) => {
                let field = &plan.fields[*at];
                let seen = {
                    let _alone = filling.lock().unwrap_or_else(PoisonError::into_inner);
                    field.fill(part, plan.division.levels, self.cancel, values)?
                };
                if left[*at].fetch_sub(1, Ordering::AcqRel) == 1 {
                    plan.outputs[*at].release();
                }
                let spare_cores = || {
                    if last == Some(step) {
                        let _ = spare_cores.send(()); // the receiver may have given up
                    }
                };
                Ok((ChunkBatch::Own(field.compress(part, values, spare_cores)?), seen))
            }
        };
        let give = |step: usize, (chunks, found): (ChunkBatch, ValueSummary<O>)| {
            let (name, step) = &steps[step];
            if let Step::Part(at, _) = step {
                seen[*at] = seen[*at].and(found);
            }
            to_writer.send((name, chunks)).map_err(|mpsc::SendError(_)| FieldError::Cancelled.into())
        };
        ordered_steps::in_order(steps.len(), plan.division.in_flight, begin, work, give)?;
        let attribute = |seen: ValueSummary<O>| VariableSummary {
            range: seen.range.map(|range| O::attribute(&range)),
            uncovered: seen.uncovered,
            missing: seen.missing,
        };
        Ok(seen.into_iter().map(attribute).collect())
    }

    /// Writes what was found out about the values of a variable into the file and its content.
    fn settle(
        &self,
        output: &Output<'_>,
        seen: &VariableSummary,
        dataset: &mut GranuleContent,
        writer: &mut Writer,
        warnings: &mut Vec<String>,
    ) -> Result<(), MakeError> {
        if seen.uncovered > 0 {
            let (granule, name, count) = (&self.recipe.granule, output.name, seen.uncovered);
            warnings.push(format!("{granule}: {name}: {count} wet target cells have no source in the mapping factors"));
        }
        if seen.missing > 0 {
            let (granule, name, count) = (&self.recipe.granule, output.name, seen.missing);
            let inputs = output.opened.maker.names();
            warnings
                .push(format!("{granule}: {name}: {count} wet cells have the missingValue of {inputs}: they are fill"));
        }
        if let Some(valid) = self.valid_range(output)? {
            valid.check(seen.range.as_ref()).map_err(|why| self.fail(output.name, why))?;
        }
        let found = dataset.variables.iter_mut().find(|variable| variable.name == output.name);
        let Some(variable) = found else { return Ok(()) };
        let range = range_attributes(self.plan.mode, variable.data_type(), seen.range.as_ref());
        Ok(replace_range(variable, &range, writer)?)
    }
}

/// Puts the range of a variable, known when all its values have been seen, in the place of the one that it was defined
/// with; attributes without a value are removed.
pub(super) fn replace_range(
    variable: &mut Variable,
    range: &[(&'static str, Option<Value>)],
    writer: &mut Writer,
) -> Result<(), FileError> {
    for (name, value) in range {
        match value {
            Some(value) => {
                writer.set(&variable.name, name, value)?;
                attribute::set(&mut variable.attributes, name, value.clone());
            }
            None => {
                writer.remove(&variable.name, name)?;
                attribute::remove(&mut variable.attributes, name);
            }
        }
    }
    Ok(())
}
