//! Time series of single numbers, such as global means: one granule for all times, made of NetCDF files that hold them.
//!
//! The files come from programs of their own, so that their variables and times are taken as they are: times may count
//! in other units, and a file may have more variables than are asked for.

use super::assembly::Assembly;
use super::content::{Attributes, GranuleContent, Storage, Type, Value, Values, Variable};
use super::coordinates;
use super::error::MakeError;
use super::file::Writer;
use super::invariant_input::InvariantInput;
use super::make::{MadeFile, finish};
use super::output_value::FILL;
use super::series_times::{SeriesTimes, TimeAxis};
use super::stages::Stage;
use super::valid_range::range_attributes;
use crate::metadata::global::{self, Sources};
use crate::metadata::{attribute, coordinate, variable};
use crate::reader::ValueKind;
use edp_protocol::recipe::{DynamicMetadata, Plan};
use edp_protocol::{Frequency, GridKind, Mode, calendar};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Seconds within which a series must begin after the start of the model for its first values to be taken as unset.
const BEGINNING: i64 = 24 * 3600;

/// The change of a variable before it is written, by the option `series` of its recipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SeriesRule {
    /// Number of values at the start of the model that become fill.
    unset_first: usize,
    /// True if the mean of the other values is subtracted.
    remove_mean: bool,
}

impl SeriesRule {
    /// Returns the rules of all variables that have one.
    fn of(plan: &Plan) -> Result<BTreeMap<String, SeriesRule>, String> {
        let option = plan.options.get("series").cloned().unwrap_or_else(|| serde_json::json!({}));
        serde_json::from_value(option).map_err(|error| format!("the option 'series' of its recipe: {error}"))
    }

    /// Changes the values of a series, in which NaN stands for no value. `at_start` is true if it begins with the
    /// model.
    fn apply(self, values: &mut [f64], at_start: bool) {
        if at_start {
            values.iter_mut().take(self.unset_first).for_each(|value| *value = f64::NAN);
        }
        if self.remove_mean {
            let there = || values.iter().copied().filter(|value| !value.is_nan());
            let count = there().count();
            let mean = there().sum::<f64>() / count.max(1) as f64;
            values.iter_mut().for_each(|value| *value -= mean);
        }
    }
}

/// A variable of a series with its values, NaN where it has none.
struct SeriesVariable<'a> {
    name: &'a str,
    values: Vec<f64>,
}

impl Assembly<'_> {
    /// Makes the granule of a time series in an empty file, with at most `memory` bytes for its inputs and values.
    pub(super) fn make_series(&self, memory: u64, path: &Path) -> Result<MadeFile, MakeError> {
        let mut warnings = Vec::new();
        let (read, times, data) = self.read_series(memory, &mut warnings)?;
        self.check_content(&read)?;
        let content = self.describe_series(&times, data, &mut warnings)?;
        let mut writer = self.stages.time(Stage::Write, 0, || Writer::create(path, &content))?;
        for variable in &content.variables {
            if let Storage::Chunked(_, chunked) = &variable.storage
                && let Some(chunks) = &chunked.chunks
            {
                self.stages.time(Stage::Write, 0, || writer.write(&variable.name, chunks))?;
            }
        }
        let written = self.stages.time(Stage::Write, 0, || writer.close())?;
        let (size, digest, chunks) = finish(path, &content, &written, self.stages)?;
        self.stages.end_spans();
        Ok(MadeFile { size, digest, inputs: read, chunks, warnings })
    }

    /// Reads the values of all variables and their times, which must be the same in all files.
    fn read_series(
        &self,
        memory: u64,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<edp_protocol::wire::InputRead>, SeriesTimes, Vec<SeriesVariable<'_>>), MakeError> {
        let rules = SeriesRule::of(self.plan).map_err(|why| self.fail("-", why))?;
        let configuration = &self.resources.texts.configuration;
        let axis = TimeAxis {
            units: &self.plan.time_units,
            frequency: self.name.frequency,
            start: configuration.model_start,
            end: configuration.model_end,
        };
        let (mut opened, mut left) = (Vec::<(&str, InvariantInput, SeriesTimes)>::new(), memory);
        let mut data = Vec::new();
        for (name, inputs) in &self.recipe.variables {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(super::field_error::FieldError::Cancelled.into());
            }
            let [paths] = &inputs[..] else { return Err(self.fail(name, "a time series has one input")) };
            let [file] = &paths[..] else {
                return Err(self.fail(name, "the input of a time series is one NetCDF file"));
            };
            if !opened.iter().any(|(known, ..)| known == file) {
                let mut input = self.open_netcdf(file, left)?;
                left -= input.read.size;
                let times = SeriesTimes::read(&mut input, &axis, left, self.stages);
                let times = times.map_err(|error| error.of(&self.recipe.granule, file))?;
                if let Some((other, _, first)) = opened.first().filter(|(.., first)| *first != times) {
                    let (many, few) = (first.len(), times.len());
                    let why = format!("{other} and {file} have other times than each other ({many} and {few} of them)");
                    return Err(self.fail(name, why));
                }
                left = left.saturating_sub(times.bytes());
                opened.push((file, input, times));
            }
            let Some((_, input, times)) = opened.iter_mut().find(|(known, ..)| known == file) else { continue };
            let field = self.plan.fields.get(name).and_then(|fields| fields.first()).unwrap_or(name);
            let mut values = self.series_values(name, field, input, times.len(), &mut left)?;
            let rule = rules.get(name).copied().unwrap_or_default();
            let at_start = times.seconds_after(configuration.model_start).is_some_and(|after| after <= BEGINNING);
            if rule.unset_first > 0 && !at_start {
                warnings.push(format!(
                    "{}: {name}: its first {} values are kept, since {file} begins after the model does",
                    self.recipe.granule, rule.unset_first
                ));
            }
            rule.apply(&mut values, at_start);
            data.push(SeriesVariable { name, values });
        }
        let Some((file, _, times)) = opened.first() else {
            return Err(self.fail("-", "the recipe has no variables"));
        };
        if times.gaps > 0 {
            let (granule, gaps) = (&self.recipe.granule, times.gaps);
            warnings.push(format!("{granule}: {file}: {gaps} periods have a gap before them"));
        }
        let times = times.clone();
        Ok((opened.into_iter().map(|(_, input, _)| input.read).collect(), times, data))
    }

    /// Reads the values of one variable of a file.
    fn series_values(
        &self,
        name: &str,
        field: &str,
        input: &mut InvariantInput,
        count: usize,
        left: &mut u64,
    ) -> Result<Vec<f64>, MakeError> {
        let fail = |why: String| self.fail(name, format!("{}: {why}", input.read.path));
        let Some(found) = input.outline.variables.iter().find(|variable| variable.described.name == *field) else {
            let there = input.outline.variables.iter().map(|variable| variable.described.name.as_str());
            return Err(fail(format!("it has no variable {field}, but {}", there.collect::<Vec<_>>().join(", "))));
        };
        let (described, kind) = (found.described.clone(), found.kind);
        if kind == ValueKind::Other || kind == ValueKind::Flag {
            return Err(fail(format!("the values of {field} are no numbers")));
        }
        if let Some(key) =
            ["scale_factor", "add_offset"].into_iter().find(|key| attribute::get(&found.attributes(), key).is_some())
        {
            return Err(fail(format!("{field} is packed (attribute {key}): write its values as they are meant")));
        }
        if described.shape() != [count] {
            return Err(fail(format!("{field} has the shape {:?}, the time has {count} values", described.shape())));
        }
        let needed = (count as u64).saturating_mul(2 * 8);
        if needed > *left {
            let (granule, variable) = (self.recipe.granule.clone(), name.to_owned());
            return Err(MakeError::Memory { granule, variable, needed, limit: *left });
        }
        *left -= needed;
        let read = || input.session.values::<f64>(&described, &[0], &[count]);
        let mut values = self.stages.time(Stage::Read, (count * 8) as u64, read)?;
        let missing = described.missing();
        for value in values.iter_mut().filter(|value| missing.contains(value)) {
            *value = f64::NAN;
        }
        match values.iter().position(|value| value.is_infinite()) {
            Some(at) => Err(self.fail(name, format!("{}: value {at} of {field} is infinite", input.read.path))),
            None => Ok(values),
        }
    }

    /// Describes the whole file.
    fn describe_series(
        &self,
        times: &SeriesTimes,
        data: Vec<SeriesVariable<'_>>,
        warnings: &mut Vec<String>,
    ) -> Result<GranuleContent, MakeError> {
        let (texts, mode) = (&self.resources.texts, self.plan.mode);
        let metadata = &texts.metadata;
        let [first, last] = times.coverage();
        let dynamic = DynamicMetadata {
            time_coverage_start: Some(calendar::text(first)),
            time_coverage_end: Some(calendar::text(last)),
            ..self.recipe.dynamic_metadata.clone()
        };
        let long_name = dynamic.time_long_name.as_deref();
        let grid = GridKind::Series;
        let mut of_time = coordinate::describe_time(metadata, grid, long_name, &self.plan.time_units);
        let of_bounds = coordinate::describe_bounds(metadata, grid, "time_bnds", &of_time);
        if times.bounds.is_none() {
            attribute::remove(&mut of_time, "bounds");
        }
        let is_long =
            mode == Mode::Corrected && calendar::is_long(&self.plan.time_units, texts.configuration.model_end);
        let plain =
            |numbers: &[i64]| numbers_of(numbers, is_long).ok_or_else(|| self.fail("time", "it is beyond 32 bits"));
        let new = |name: &str, dimensions: &[&str], attributes: Attributes, storage: Storage| Variable {
            name: name.to_owned(),
            dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
            fill: None,
            attributes,
            storage,
        };
        let mut time = new("time", &["time"], of_time, plain(&times.centres)?);
        let bounds = times.bounds.as_ref().map(|bounds| plain(bounds.as_flattened())).transpose()?;
        let mut bounds = bounds.map(|bounds| new("time_bnds", &["time", "nv"], of_bounds, bounds));
        if mode == Mode::Corrected {
            coordinates::correct(&mut [&mut time], bounds.iter_mut());
        }
        let mut dimensions = vec![("time".to_owned(), times.len())];
        dimensions.extend(bounds.as_ref().map(|_| ("nv".to_owned(), 2)));
        let (mut variables, mut keywords) = (vec![time], BTreeSet::new());
        for SeriesVariable { name, mut values } in data {
            let described = variable::describe(metadata, grid, name);
            if !described.known {
                warnings.push(format!("{}: {name}: no entry in the variable metadata", self.recipe.granule));
            }
            let range =
                values.iter().copied().filter(|value| !value.is_nan()).fold(None, |range: Option<[f64; 2]>, value| {
                    match range {
                        None => Some([value, value]),
                        Some([low, high]) => Some([value.min(low), value.max(high)]),
                    }
                });
            if range.is_none() {
                warnings.push(format!("{}: {name}: all of its values are missing", self.recipe.granule));
            }
            let range = range.map(|range| Value::F64(range.to_vec()));
            let ranges = range_attributes(mode, Type::F64, range.as_ref()).into_iter();
            let mut attributes: Attributes =
                ranges.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
            described.attributes.into_iter().for_each(|(name, value)| attribute::set(&mut attributes, &name, value));
            keywords.extend(described.keywords);
            if mode == Mode::Corrected {
                attribute::remove_empty_texts(&mut attributes);
                let method = if self.name.frequency == Frequency::Snapshot { "time: point" } else { "time: mean" };
                attribute::set(&mut attributes, "cell_methods", method);
            }
            values.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = FILL);
            let chunks = texts.configuration.codec.encode_whole(&values, &[values.len()], FILL)?;
            let variable = new(name, &["time"], attributes, Storage::Chunked(Type::F64, chunks));
            variables.push(Variable { fill: Some(FILL), ..variable });
        }
        variables.extend(bounds);
        let mut attributes = global::describe(&Sources {
            configuration: &texts.configuration,
            metadata,
            podaac: &texts.podaac,
            name: &self.name,
            mode,
            dynamic: &dynamic,
            id: &self.plan.id,
            production_date: &self.plan.production_date,
            keywords,
            extent: None,
        })?;
        let is_data = |variable: &&Variable| variable.fill.is_some();
        let (data, others): (Vec<&Variable>, Vec<&Variable>) = variables.iter().partition(is_data);
        let data: Vec<Variable> = data.into_iter().cloned().collect();
        if let Some(names) = coordinates::named_by_none(others.into_iter(), &data) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        Ok(GranuleContent { dimensions, variables, attributes })
    }
}

/// Returns times as integers of 32 bits, or as floating-point numbers if the run is too long for these; `None` if they
/// do not fit.
fn numbers_of(numbers: &[i64], is_long: bool) -> Option<Storage> {
    Some(Storage::Contiguous(match is_long {
        true => Values::F64(numbers.iter().map(|number| *number as f64).collect()),
        false => {
            Values::I32(numbers.iter().map(|number| i32::try_from(*number).ok()).collect::<Option<Vec<_>>>()?.into())
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unset_and_means_removed() {
        let changed = |unset_first, remove_mean, at_start| {
            let mut values = [9.0, 1.0, f64::NAN, 3.0];
            SeriesRule { unset_first, remove_mean }.apply(&mut values, at_start);
            values.map(|value| if value.is_nan() { -99.0 } else { value })
        };
        assert_eq!(changed(0, false, true), [9.0, 1.0, -99.0, 3.0]);
        assert_eq!(changed(1, false, true), [-99.0, 1.0, -99.0, 3.0]);
        assert_eq!(changed(1, true, true), [-99.0, -1.0, -99.0, 1.0]);
        assert_eq!(changed(1, true, false)[1..], [1.0 - 13.0 / 3.0, -99.0, 3.0 - 13.0 / 3.0]);
        assert_eq!(changed(9, true, true), [-99.0; 4]);
    }
}
