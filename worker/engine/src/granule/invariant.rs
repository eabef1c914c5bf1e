//! Time-invariant granules: the variables, coordinates and dimensions of a NetCDF file in their order, in the form and
//! with the description that all granules have.

use super::assembly::Assembly;
use super::blocks::{Block, Element};
use super::chunk_shapes::chunk_shape;
use super::content::{Attributes, GranuleContent, Storage, Type, Value, Values, Variable};
use super::coordinates::{self, StaticStyle};
use super::error::MakeError;
use super::field::ValueSummary;
use super::file::Writer;
use super::invariant_input::{InvariantInput, VariableRole, kept_attributes, roles, type_of};
use super::make::{MadeFile, finish};
use super::output_value::{FILL, OutputValue};
use super::slab_pipeline::replace_range;
use super::stages::{Stage, Stages};
use super::sums::Sums;
use super::valid_range::range_attributes;
use crate::grid::LevelSet;
use crate::mds::compact::TILES;
use crate::metadata::configuration::OutputPrecision;
use crate::metadata::global::{self, Extent, Sources};
use crate::metadata::{attribute, coordinate, variable};
use crate::reader::{Described, OutlinedVariable, ValueKind};
use crate::resources::{Resources, Target, Texts};
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::DynamicMetadata;
use edp_protocol::{GridKind, Mode};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The rules, texts and limits by which a file without time is made.
pub(super) struct InvariantMaker<'a> {
    /// Location of the granule, for messages.
    pub(super) granule: &'a str,
    /// Its name.
    pub(super) name: &'a GranuleName,
    /// The mode whose rules apply.
    pub(super) mode: Mode,
    /// Configuration and metadata.
    pub(super) texts: &'a Texts,
    /// True if the attributes of the input are dropped.
    pub(super) strip: bool,
    /// The description of the dataset in the task.
    pub(super) dynamic: &'a DynamicMetadata,
    /// Id of the recipe.
    pub(super) id: &'a str,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`.
    pub(super) production_date: &'a str,
    /// The grid that bounds are taken from. Without one the variables of the input are described, and nothing is added.
    pub(super) grid: Option<&'a Resources>,
    /// Bytes that the values and the input may take.
    pub(super) memory: u64,
    pub(super) cancel: &'a AtomicBool,
    pub(super) stages: &'a Stages,
}

impl Assembly<'_> {
    /// Makes the granule of a time-invariant recipe in an empty file, with at most `memory` bytes beside the resources.
    pub(super) fn make_invariant(&self, memory: u64, path: &Path) -> Result<MadeFile, MakeError> {
        let location = self.recipe.input_netcdf.as_deref();
        let location = location.ok_or_else(|| self.fail("-", "the recipe has no key 'input_netcdf'"))?;
        let input = self.open_netcdf(location, memory)?;
        self.check_content(std::slice::from_ref(&input.read))?;
        let maker = InvariantMaker {
            granule: &self.recipe.granule,
            name: &self.name,
            mode: self.plan.mode,
            texts: &self.resources.texts,
            strip: self.recipe.strips_attributes(self.plan.mode)?,
            dynamic: &self.recipe.dynamic_metadata,
            id: &self.plan.id,
            production_date: &self.plan.production_date,
            grid: Some(&self.resources),
            memory: memory - input.read.size,
            cancel: self.cancel,
            stages: self.stages,
        };
        maker.make(input, path)
    }
}

impl InvariantMaker<'_> {
    /// Writes everything into an empty file, and checks it there.
    ///
    /// # Errors
    /// Returns an error if the input cannot be used, needs more memory, or the file cannot be written.
    pub(super) fn make(&self, mut input: InvariantInput, path: &Path) -> Result<MadeFile, MakeError> {
        let mut content = self.describe(&mut input)?;
        // Those of the input come first, in its order.
        let sources = input.outline.variables.clone();
        let mut sources = sources.iter();
        let mut writer = self.stages.time(Stage::Write, 0, || Writer::create(path, &content))?;
        for variable in &mut content.variables {
            let source = sources.next();
            let Storage::Chunked(data_type, chunked) = &variable.storage else { continue };
            if let Some(chunks) = &chunked.chunks {
                self.stages.time(Stage::Write, 0, || writer.write(&variable.name, chunks))?;
                continue;
            }
            let Some(source) = source else { continue };
            let found = match data_type {
                Type::F32 => self.write_numbers::<f32>(&mut input, source, variable, &mut writer)?,
                Type::F64 => self.write_numbers::<f64>(&mut input, source, variable, &mut writer)?,
                Type::I32 => self.write_integers(&mut input, source, variable, &mut writer)?,
                Type::I8 => {
                    let truth = |value: f64| Some(i8::from(value != 0.0));
                    self.write_blocks(&mut input, source, variable, &mut writer, (truth, 0), |_| Ok(()))?;
                    None
                }
            };
            let ranges = self.ranges(variable.data_type(), found.as_ref());
            replace_range(variable, &ranges, &mut writer)?;
        }
        let written = self.stages.time(Stage::Write, 0, || writer.close())?;
        let (size, digest, chunks) = finish(path, &content, &written, self.stages)?;
        self.stages.end_spans();
        Ok(MadeFile { size, digest, inputs: vec![input.read], chunks, warnings: Vec::new() })
    }

    /// Returns the attributes for a range of values, without values where there is no range. Truth values have none,
    /// nor have integers but for what is annotated by the rules of EDP.
    fn ranges(&self, data_type: Type, range: Option<&Value>) -> Vec<(&'static str, Option<Value>)> {
        let of_integers = self.grid.is_none() && self.mode.is_edp();
        match data_type {
            Type::I8 => Vec::new(),
            Type::I32 if !of_integers => Vec::new(),
            Type::I32 => {
                let single = |at: usize| match range {
                    Some(Value::I32(range)) => Some(Value::I32(vec![range[at]])),
                    _ => None,
                };
                vec![("valid_min", single(0)), ("valid_max", single(1))]
            }
            Type::F32 | Type::F64 => {
                let all = range_attributes(self.mode, data_type, range);
                all.into_iter().map(|(name, value)| (name, value.filter(|_| range.is_some()))).collect()
            }
        }
    }

    fn fail(&self, variable: &str, why: impl Into<String>) -> MakeError {
        MakeError::Variable { granule: self.granule.to_owned(), variable: variable.into(), why: why.into() }
    }

    fn target(&self) -> Option<&Target> {
        self.grid.and_then(|resources| resources.target.as_deref())
    }

    /// Describes the whole file, and reads the coordinates; data are read when they are written.
    fn describe(&self, input: &mut InvariantInput) -> Result<GranuleContent, MakeError> {
        let (texts, mode, strip) = (self.texts, self.mode, self.strip);
        let three_d = self.dynamic.dimension.eq_ignore_ascii_case("3D");
        let levels = self.grid.filter(|_| three_d).map(Resources::levels);
        let known = |name: &str| coordinate::is_known(&texts.metadata, self.name.grid, name);
        let roles = roles(&input.outline, mode, known);
        self.check_lengths(&input.outline.dimensions)?;
        let outlined = input.outline.variables.clone();
        let mut variables = Vec::new();
        for (of_input, role) in outlined.iter().zip(&roles) {
            let base = if strip { Attributes::new() } else { kept_attributes(of_input) };
            variables.push(self.describe_variable(input, of_input, *role, base)?);
        }
        let mut roles = roles;
        let added = self.added_coordinates(&variables, levels.as_ref())?;
        for coordinate in added {
            let is_bounds = coordinate.name.ends_with(coordinates::BOUNDS);
            roles.push(if is_bounds { VariableRole::Bounds } else { VariableRole::Coordinate });
            variables.push(coordinate);
        }
        let mut dimensions = input.outline.dimensions.clone();
        for name in variables.iter().flat_map(|variable| &variable.dimensions) {
            if !dimensions.iter().any(|(known, _)| known == name) {
                let length = self.length_of(name).ok_or_else(|| self.fail(name, "its length is not known"))?;
                dimensions.push((name.clone(), length));
            }
        }
        self.describe_coordinates(&mut variables, &roles);
        let named: Vec<Variable> = of_role(&variables, &roles, |role| role != VariableRole::Data).cloned().collect();
        let of_data = |(_, role): &(_, &VariableRole)| **role == VariableRole::Data;
        for ((variable, of_input), _) in variables.iter_mut().zip(&outlined).zip(&roles).filter(of_data) {
            // EDP keeps what the input says, even where coordinates were added to the input later.
            let given = if mode.is_edp() { of_input.attributes() } else { Attributes::new() };
            let given = attribute::get(&given, "coordinates").and_then(Value::text).map(str::to_owned);
            let names = given.or_else(|| coordinates::named_by(mode, &variable.dimensions, named.iter()));
            if let Some(names) = names {
                attribute::set(&mut variable.attributes, "coordinates", names);
            }
            if variable.data_type() == Type::I8 {
                attribute::set(&mut variable.attributes, "dtype", "bool");
            }
        }
        let data: Vec<Variable> = of_role(&variables, &roles, |role| role == VariableRole::Data).cloned().collect();
        let keywords = data.iter().flat_map(|variable| self.description(&variable.name).keywords);
        let mut attributes = if strip { Attributes::new() } else { input.outline.attributes() };
        attribute::remove(&mut attributes, "coordinates");
        let extent = match (self.grid, self.target()) {
            (None, _) => self.extent_of(input, three_d)?,
            (Some(resources), None) => coordinates::native_extent(resources, levels.as_ref())?,
            (Some(_), Some(target)) => coordinates::latlon_extent(target, levels.as_ref()),
        };
        let described = global::describe(&Sources {
            configuration: &texts.configuration,
            metadata: &texts.metadata,
            podaac: &texts.podaac,
            name: self.name,
            mode,
            dynamic: self.dynamic,
            id: self.id,
            production_date: self.production_date,
            keywords: keywords.collect::<BTreeSet<_>>(),
            extent: Some(extent),
        })?;
        for (name, value) in described {
            attribute::set(&mut attributes, &name, value);
        }
        // EDP appends a blank and the comment of a task, which what is annotated has not.
        let comment = attribute::get(&attributes, "comment").and_then(Value::text).map(|text| format!("{text} "));
        if let Some(comment) = comment.filter(|_| self.grid.is_none() && mode.is_edp()) {
            attribute::set(&mut attributes, "comment", comment);
        }
        if mode == Mode::Corrected {
            attribute::remove_empty_texts(&mut attributes);
        }
        attributes.sort_by_key(|(name, _)| name.to_lowercase());
        if let Some(names) = coordinates::named_by_none(named.iter(), &data) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        Ok(GranuleContent { dimensions, variables, attributes })
    }

    /// Returns a variable of the granule with the attributes of `base` and, if it holds data, all others but
    /// `coordinates`.
    fn describe_variable(
        &self,
        input: &mut InvariantInput,
        of_input: &OutlinedVariable,
        role: VariableRole,
        base: Attributes,
    ) -> Result<Variable, MakeError> {
        let described = &of_input.described;
        let precision = match self.texts.configuration.precision {
            OutputPrecision::Float32 => Type::F32,
            OutputPrecision::Float64 => Type::F64,
        };
        let keeps_types = self.mode == Mode::Corrected || self.grid.is_none();
        let data_type = type_of(of_input, role, precision, keeps_types);
        let data_type = data_type.map_err(|why| self.fail(&described.name, why))?;
        let dimensions = described.dimensions.iter().map(|(name, _)| name.clone()).collect();
        let (name, shape) = (described.name.clone(), described.shape());
        if role != VariableRole::Data {
            let storage = self.coordinate(input, described, data_type)?;
            return Ok(Variable { name, dimensions, fill: None, attributes: base, storage });
        }
        let codec = self.texts.configuration.codec;
        let (size, placeholder) = match data_type {
            Type::I8 => (1, None),
            Type::I32 => (4, None),
            Type::F32 => (4, Some(Value::F32(vec![f32::NAN; 2]))),
            Type::F64 => (8, Some(Value::F64(vec![f64::NAN; 2]))),
        };
        let mut attributes = base;
        for (key, value) in self.ranges(data_type, placeholder.as_ref()) {
            attribute::set(&mut attributes, key, value.unwrap_or_else(|| Value::I32(vec![0])));
        }
        for (key, value) in self.description(&name).attributes {
            attribute::set(&mut attributes, &key, value);
        }
        if self.mode == Mode::Corrected {
            attribute::remove_empty_texts(&mut attributes);
        }
        if shape.is_empty() {
            return Err(self.fail(&name, "it has no dimension: what is one number belongs into an attribute"));
        }
        let storage = Storage::Chunked(data_type, codec.chunked(chunk_shape(&shape, size)));
        Ok(Variable { name, dimensions, fill: placeholder.map(|_| FILL), attributes, storage })
    }

    /// Returns the description of a data variable in the metadata, including those of the grid's geometry.
    fn description(&self, name: &str) -> variable::Description {
        variable::describe_invariant(&self.texts.metadata, self.name.grid, name)
    }

    /// Returns the values of a coordinate: plain, but for horizontal ones of `corrected`, which are compressed like
    /// data.
    fn coordinate(
        &self,
        input: &mut InvariantInput,
        described: &Described,
        data_type: Type,
    ) -> Result<Storage, MakeError> {
        let shape = described.shape();
        let name = &described.name;
        self.check_memory(name, shape.iter().product::<usize>(), 8 + 4 + 4)?;
        let values: Vec<f64> =
            self.stages.time(Stage::Read, 0, || input.session.values(described, &vec![0; shape.len()], &shape))?;
        if data_type == Type::I32 {
            let values: Option<Vec<i32>> = values.into_iter().map(integer).collect();
            let values = values.ok_or_else(|| self.fail(name, "it has integers of more than 32 bits"))?;
            return Ok(Storage::Contiguous(Values::I32(values.into())));
        }
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        let codec = self.texts.configuration.codec;
        if self.mode == Mode::Corrected && shape.len() > 2 && !codec.is_plain() {
            return Ok(Storage::Chunked(Type::F32, codec.encode_whole(&values, &shape, FILL as f32)?));
        }
        Ok(Storage::Contiguous(Values::F32(values.into())))
    }

    /// Returns the bounds, and the coordinates of U and V points, that granules have and the input lacks.
    fn added_coordinates(&self, there: &[Variable], levels: Option<&LevelSet>) -> Result<Vec<Variable>, MakeError> {
        let Some(resources) = self.grid else { return Ok(Vec::new()) };
        let style = StaticStyle { mode: self.mode, codec: self.texts.configuration.codec };
        let mut all = match &resources.target {
            None => coordinates::native_bounds(resources, style, levels, there)?,
            Some(target) => coordinates::latlon_bounds(resources, target, levels, there),
        };
        if self.name.grid == GridKind::Native {
            let lies_at = |y: &str, x: &str| {
                let has = |variable: &Variable, name: &str| variable.dimensions.iter().any(|known| known == name);
                there.iter().any(|variable| has(variable, y) && has(variable, x))
            };
            all.extend(coordinates::native_edges(resources, style, [lies_at("j", "i_g"), lies_at("j_g", "i")])?);
        }
        all.retain(|added| !there.iter().any(|variable| variable.name == added.name));
        Ok(all)
    }

    /// Puts the descriptions of the metadata over the attributes of coordinates, then of bounds, which inherit from
    /// them.
    fn describe_coordinates(&self, variables: &mut [Variable], roles: &[VariableRole]) {
        let (metadata, grid) = (&self.texts.metadata, self.name.grid);
        for (variable, _) in variables.iter_mut().zip(roles).filter(|(_, role)| **role == VariableRole::Coordinate) {
            coordinate::overlay_description(metadata, grid, &variable.name, None, &mut variable.attributes);
            if self.mode == Mode::Corrected && ["XU", "YU", "XV", "YV"].contains(&variable.name.as_str()) {
                for (name, value) in coordinate::describe_edge(metadata, &variable.name) {
                    attribute::set(&mut variable.attributes, &name, value);
                }
            }
        }
        let parents: HashMap<String, Attributes> = of_role(variables, roles, |role| role == VariableRole::Coordinate)
            .map(|variable| (variable.name.clone(), variable.attributes.clone()))
            .collect();
        for (variable, _) in variables.iter_mut().zip(roles).filter(|(_, role)| **role == VariableRole::Bounds) {
            let parent = variable.name.strip_suffix(coordinates::BOUNDS).and_then(|parent| parents.get(parent));
            coordinate::overlay_description(metadata, grid, &variable.name, parent, &mut variable.attributes);
        }
        if self.mode == Mode::Corrected {
            let (mut coordinates, mut bounds) = (Vec::new(), Vec::new());
            for (variable, role) in variables.iter_mut().zip(roles) {
                match role {
                    VariableRole::Coordinate => coordinates.push(variable),
                    VariableRole::Bounds => bounds.push(variable),
                    VariableRole::Data => {}
                }
            }
            coordinates::correct(&mut coordinates, bounds.into_iter());
        }
    }

    /// Returns the extent of a file that has no grid beside it, from the bounds of its cells, or else from their
    /// centres.
    fn extent_of(&self, input: &mut InvariantInput, three_d: bool) -> Result<Extent, MakeError> {
        let mut limits = |names: [&str; 3]| {
            let described = |name: &&str| input.outline.variables.iter().find(|one| one.described.name == *name);
            let Some(described) = names.iter().find_map(described).map(|one| one.described.clone()) else {
                return Ok::<_, MakeError>(None);
            };
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            let shape = described.shape();
            let take = |values: &[f64]| {
                for value in values.iter().filter(|value| value.abs() < FILL) {
                    (low, high) = (low.min(*value), high.max(*value));
                }
            };
            input.session.each(&described, &vec![0; shape.len()], &shape, take)?;
            Ok((low <= high).then_some([low, high]))
        };
        let (latitudes, longitudes) = match self.name.grid {
            GridKind::Native | GridKind::Series => (["YC_bnds", "YG", "YC"], ["XC_bnds", "XG", "XC"]),
            GridKind::Latlon => (["latitude_bnds", "latitude", "lat"], ["longitude_bnds", "longitude", "lon"]),
        };
        let whole = (limits(latitudes)?.unwrap_or([-90.0, 90.0]), limits(longitudes)?.unwrap_or([-180.0, 180.0]));
        let vertical = if three_d { limits(["Z_bnds", "Zp1", "Z"])? } else { None };
        Ok(Extent { latitude: whole.0, longitude: whole.1, vertical, resolution: None })
    }

    /// Returns the length of a dimension of the grid; `None` for other dimensions.
    fn length_of(&self, dimension: &str) -> Option<usize> {
        let grid = &self.grid?.grid.native;
        let target = self.target().map(|target| &target.latlon);
        match (dimension, target) {
            ("nv", _) => Some(2),
            ("nb", None) => Some(4),
            ("tile", None) => Some(TILES),
            ("i" | "j" | "i_g" | "j_g", None) => Some(grid.n),
            ("k_p1", None) => Some(grid.levels + 1),
            ("k" | "k_l" | "k_u", None) => Some(grid.levels),
            ("latitude", Some(target)) => Some(target.latitude.len()),
            ("longitude", Some(target)) => Some(target.longitude.len()),
            ("Z", Some(target)) => Some(target.z.len()),
            _ => None,
        }
    }

    /// Refuses an input on another grid than the recipe's, and one with a time.
    fn check_lengths(&self, dimensions: &[(String, usize)]) -> Result<(), MakeError> {
        for (name, found) in dimensions {
            if name == "time" {
                return Err(self.fail(name, "time-invariant data have no dimension 'time'"));
            }
            match self.length_of(name) {
                _ if *found == 0 => return Err(self.fail(name, "the input has no values along this dimension")),
                Some(wanted) if wanted != *found => {
                    let why = format!("the input has {found} values along this dimension, the grid {wanted}");
                    return Err(self.fail(name, why));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_memory(&self, variable: &str, values: usize, bytes: usize) -> Result<(), MakeError> {
        let limit = self.memory;
        let needed = (values as u64).saturating_mul(bytes as u64);
        if needed <= limit {
            return Ok(());
        }
        Err(MakeError::Memory { granule: self.granule.to_owned(), variable: variable.into(), needed, limit })
    }

    /// Writes the values of a data variable as floating-point numbers; returns their range, as an attribute.
    fn write_numbers<O: OutputValue>(
        &self,
        input: &mut InvariantInput,
        source: &OutlinedVariable,
        variable: &Variable,
        writer: &mut Writer,
    ) -> Result<Option<Value>, MakeError> {
        let missing = source.described.missing();
        let is_flag = source.kind == ValueKind::Flag;
        let mut seen = ValueSummary::<O>::nothing();
        let convert = |value: f64| {
            Some(match value {
                value if value.is_nan() || missing.contains(&value) => O::FILL,
                value if is_flag => O::from_f64(f64::from(u8::from(value != 0.0))),
                value => O::from_f64(value),
            })
        };
        let look = |values: &[O]| {
            let sums = Sums::of(values);
            if sums.bad > 0 {
                return Err(format!("{} of its values are infinite", sums.bad));
            }
            seen = seen.and(ValueSummary { range: sums.range, ..ValueSummary::nothing() });
            Ok(())
        };
        self.write_blocks(input, source, variable, writer, (convert, O::FILL), look)?;
        Ok(seen.range.map(|range| O::attribute(&range)))
    }

    /// Writes the values of a data variable as integers; returns their range, as an attribute.
    fn write_integers(
        &self,
        input: &mut InvariantInput,
        source: &OutlinedVariable,
        variable: &Variable,
        writer: &mut Writer,
    ) -> Result<Option<Value>, MakeError> {
        let mut range: Option<[i32; 2]> = None;
        let look = |values: &[i32]| {
            let all = values.iter().copied().chain(range.into_iter().flatten());
            range = all.clone().min().zip(all.max()).map(|(low, high)| [low, high]);
            Ok(())
        };
        self.write_blocks(input, source, variable, writer, (integer, 0), look)?;
        Ok(range.map(|range| Value::I32(range.to_vec())))
    }

    /// Writes the values of a data variable, some chunks at a time: converted, and padded at the edges.
    fn write_blocks<E: Element>(
        &self,
        input: &mut InvariantInput,
        source: &OutlinedVariable,
        variable: &Variable,
        writer: &mut Writer,
        (convert, pad): (impl Fn(f64) -> Option<E>, E),
        mut look: impl FnMut(&[E]) -> Result<(), String>,
    ) -> Result<(), MakeError> {
        let Storage::Chunked(_, chunked) = &variable.storage else { return Ok(()) };
        let codec = chunked.codec;
        let (name, shape) = (&variable.name, source.described.shape());
        let step = chunked.shape[0];
        for first in (0..shape[0]).step_by(step) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(super::field_error::FieldError::Cancelled.into());
            }
            let (mut start, mut count) = (vec![0; shape.len()], shape.clone());
            (start[0], count[0]) = (first, step.min(shape[0] - first));
            self.check_memory(name, count.iter().product(), 8 + 2 * E::SIZE)?;
            let read = || input.session.values::<f64>(&source.described, &start, &count);
            let values = self.stages.time(Stage::Read, 0, read)?;
            let values: Option<Vec<E>> = values.into_iter().map(&convert).collect();
            let values = values.ok_or_else(|| self.fail(name, "it has integers of more than 32 bits"))?;
            look(&values).map_err(|why| self.fail(name, why))?;
            let origin: Vec<u64> = start.iter().map(|at| *at as u64).collect();
            let block = Block { values: &values, shape: &count, origin: &origin, chunk: &chunked.shape, pad };
            let chunks = codec.encode_checked(true, &block, || (), self.stages)?;
            self.stages.time(Stage::Write, 0, || writer.write(name, &chunks))?;
        }
        Ok(())
    }
}

/// Returns a number as an integer of 32 bits, if it is one.
fn integer(value: f64) -> Option<i32> {
    let rounded = value as i32;
    (f64::from(rounded) == value).then_some(rounded)
}

/// Returns the variables of some roles.
fn of_role<'a>(
    variables: &'a [Variable],
    roles: &'a [VariableRole],
    wanted: impl Fn(VariableRole) -> bool + 'a,
) -> impl Iterator<Item = &'a Variable> {
    variables.iter().zip(roles).filter(move |(_, role)| wanted(**role)).map(|(variable, _)| variable)
}
