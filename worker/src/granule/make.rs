//! One recipe in, one file out: reads, assembles, writes, and passes the gate.

use super::codec::CodecError;
use super::coordinates::{self, Coordinates, Depths, Wanted};
use super::dataset::{Attributes, Dataset, Storage, Type, Variable};
use super::field::{Encoded, FILL, Field, FieldError, Input, Record, Route, Source, Vector};
use super::file::{self, FileError};
use super::gate::{self, GateError};
use super::rotation::{Orientation, Staggering};
use super::time::{self, TimeError};
use super::valid_range::ValidRange;
use crate::grid::{HorizontalPoint, Mask, Placement, VerticalPoint};
use crate::mapping::MappingError;
use crate::mds::{Header, MdsError, MdsFile};
use crate::metadata::attribute;
use crate::metadata::configuration::Precision;
use crate::metadata::global::{self, Sources};
use crate::metadata::podaac::TableError;
use crate::metadata::variable::{self, Description};
use crate::resources::{self, Cache, ResourceError, Resources};
use edp_protocol::location::LocationError;
use edp_protocol::name::{GranuleName, NameError, base_name, split_period};
use edp_protocol::recipe::{Plan, Recipe, RecipeError};
use edp_protocol::store::ReadAt;
use edp_protocol::{GridKind, Location, Mode};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Why a granule could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The recipe is not usable.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The granule's name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Something the recipe asks for is not possible.
    #[error("{granule}: {variable}: {why}")]
    Variable {
        /// The granule.
        granule: String,
        /// The output variable.
        variable: String,
        /// What is wrong.
        why: String,
    },
    /// Outputs of the dataset have no input.
    #[error("{granule}: held: no input for {}; plan with --allow-partial to make it without", .missing.join(", "))]
    Held {
        /// The granule.
        granule: String,
        /// The outputs.
        missing: Vec<String>,
    },
    /// A shared resource.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// An input file cannot be opened.
    #[error("{path}: cannot be opened: {source}")]
    Input {
        /// The file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// An input is not the one that was planned with.
    #[error("{path}: has {found} bytes, but had {planned} when the recipe was planned: plan again")]
    InputChanged {
        /// The file.
        path: String,
        /// Size now.
        found: u64,
        /// Size when planning.
        planned: u64,
    },
    /// A location of the recipe.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// An MDS file.
    #[error(transparent)]
    Mds(#[from] MdsError),
    /// Mapping factors.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// A field.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The times of the recipe.
    #[error("{granule}: {source}")]
    Time {
        /// The granule.
        granule: String,
        /// What is wrong.
        source: TimeError,
    },
    /// The PO.DAAC table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Compression.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file did not pass the gate.
    #[error(transparent)]
    Gate(#[from] GateError),
}

impl MakeError {
    /// What the system refused, if that is the cause.
    pub fn system(&self) -> Option<&io::Error> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return Some(error);
            }
            cause = error.source();
        }
        None
    }

    /// Whether it happened to the file that was being made, not to what it is made of.
    pub fn is_of_output(&self) -> bool {
        matches!(self, MakeError::File(_) | MakeError::Gate(_))
    }
}

/// What was made.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// What is odd but did not stop it.
    pub warnings: Vec<String>,
}

/// Makes the granule of a recipe at a local path where nothing is yet, and checks it there.
///
/// # Errors
/// Anything that keeps the granule from being right; whatever stands at `path` then is to be removed.
pub fn make(recipe: &Recipe, cache: &Cache, path: &Path, cancel: &AtomicBool) -> Result<Made, MakeError> {
    recipe.check_identity()?;
    let plan = recipe.plan()?;
    if plan.is_held() {
        return Err(MakeError::Held { granule: recipe.granule.clone(), missing: plan.missing.clone() });
    }
    let assembly = tracing::info_span!("resources").in_scope(|| Assembly::new(recipe, cache, cancel))?;
    let (dataset, warnings) = tracing::info_span!("assemble").in_scope(|| assembly.dataset())?;
    tracing::info_span!("write").in_scope(|| file::write(path, &dataset))?;
    tracing::info_span!("gate").in_scope(|| gate::check(path, &dataset))?;
    let bytes = std::fs::metadata(path).map_err(|source| FileError::Io { path: path.into(), source })?.len();
    Ok(Made { bytes, warnings })
}

/// A recipe together with all that it is made with.
pub(super) struct Assembly<'a> {
    pub(super) recipe: &'a Recipe,
    plan: &'a Plan,
    name: GranuleName,
    pub(super) resources: Resources,
    pub(super) cancel: &'a AtomicBool,
}

/// An output variable before its values are read.
pub(super) struct Output<'a> {
    name: &'a str,
    source: Source,
    placement: Placement,
    levels: Option<usize>,
    description: Description,
}

impl<'a> Assembly<'a> {
    /// Loads what the recipe shares with others.
    pub(super) fn new(recipe: &'a Recipe, cache: &Cache, cancel: &'a AtomicBool) -> Result<Assembly<'a>, MakeError> {
        let plan = recipe.plan()?;
        let name = GranuleName::parse(base_name(&recipe.granule))?;
        let resources = cache.resources(recipe, name.grid)?;
        Ok(Assembly { recipe, plan, name, resources, cancel })
    }
}

impl Assembly<'_> {
    fn dataset(&self) -> Result<(Dataset, Vec<String>), MakeError> {
        let texts = &self.resources.texts;
        let mut warnings = Vec::new();
        let mut outputs = Vec::new();
        for (name, inputs) in &self.recipe.variables {
            outputs.push(self.output(name, inputs, &mut warnings)?);
        }
        if outputs.is_empty() {
            return Err(self.fail("-", "the recipe has no variables"));
        }
        let time = time::encode(&self.recipe.dynamic_metadata, &self.plan.time_units)
            .map_err(|source| MakeError::Time { granule: self.recipe.granule.clone(), source })?;
        let has = |point| outputs.iter().any(|output| output.placement.horizontal == point);
        let wanted = Wanted {
            mode: self.plan.mode,
            three_d: outputs.iter().any(|output| output.levels.is_some()),
            depths: Depths {
                centres: outputs.iter().any(|output| output.levels.is_some() && !self.keeps_faces(output)),
                upper_faces: outputs.iter().any(|output| self.keeps_faces(output)),
            },
            edges: [has(HorizontalPoint::U), has(HorizontalPoint::V)],
            codec: resources::codec(&texts.configuration),
            time,
            time_units: &self.plan.time_units,
            dynamic: &self.recipe.dynamic_metadata,
        };
        let coordinates = match &self.resources.target {
            None => coordinates::native(&self.resources, &wanted)?,
            Some(target) => coordinates::latlon(&self.resources, target, &wanted),
        };
        let mut data = Vec::new();
        for output in &outputs {
            data.push(self.variable(output, &coordinates, &mut warnings)?);
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
            extent: coordinates.extent,
        })?;
        let all = coordinates.first.iter().chain([&coordinates.time_bounds]).chain(&coordinates.last);
        if let Some(names) = coordinates::named_by_none(all, &data) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        let variables =
            in_file_order(self.name.grid, coordinates.first, data, coordinates.time_bounds, coordinates.last);
        Ok((Dataset { dimensions: coordinates.dimensions, variables, attributes }, warnings))
    }

    fn fail(&self, variable: &str, why: impl Into<String>) -> MakeError {
        MakeError::Variable { granule: self.recipe.granule.clone(), variable: variable.into(), why: why.into() }
    }

    /// Opens the inputs of a variable and finds out where on the grid it lives.
    pub(super) fn output<'s>(
        &'s self,
        name: &'s str,
        inputs: &[Vec<String>],
        warnings: &mut Vec<String>,
    ) -> Result<Output<'s>, MakeError> {
        let description = variable::describe(&self.resources.texts.metadata, self.name.grid, name);
        if !description.known {
            warnings.push(format!("{}: {name}: no entry in the variable metadata", self.recipe.granule));
        }
        let (source, placement, levels) = match inputs {
            [pair] => {
                let (record, field) = self.open(name, pair)?;
                let levels = self.levels(name, &record)?;
                let placement = self.placement(name, &field, &description, levels.is_some(), warnings)?;
                (Source::Direct(record), placement, levels)
            }
            [first, second] => self.rotated(name, first, second, warnings)?,
            _ => return Err(self.fail(name, format!("{} inputs: one, or two for a rotated vector", inputs.len()))),
        };
        Ok(Output { name, source, placement, levels, description })
    }

    /// A component of a vector at cell centres, from the two components of the model.
    fn rotated(
        &self,
        name: &str,
        first: &[String],
        second: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<(Source, Placement, Option<usize>), MakeError> {
        let dynamic = &self.recipe.dynamic_metadata;
        let components = dynamic.field_components.as_ref().and_then(|of| of.get(name));
        let orientation = dynamic.field_orientations.as_ref().and_then(|of| of.get(name));
        let (Some(components), Some(orientation)) = (components, orientation) else {
            return Err(self.fail(name, "two inputs, but no entry in field_components and field_orientations"));
        };
        let orientation = orientation.parse::<Orientation>().map_err(|why| self.fail(name, why))?;
        let (first, second) = (self.open(name, first)?, self.open(name, second)?);
        let (x, y) = match (first.1 == components.x, second.1 == components.y) {
            (true, true) => (first, second),
            (false, false) if first.1 == components.y && second.1 == components.x => (second, first),
            _ => {
                let why = format!(
                    "its inputs are {} and {}, its components {} and {}",
                    first.1, second.1, components.x, components.y
                );
                return Err(self.fail(name, why));
            }
        };
        let levels = self.levels(name, &x.0)?;
        if self.levels(name, &y.0)? != levels {
            return Err(
                self.fail(name, format!("{} and {} differ in their levels", x.0.input.name(), y.0.input.name()))
            );
        }
        let mut place = |field: &str| {
            let description = variable::describe(&self.resources.texts.metadata, GridKind::Native, field);
            self.placement(name, field, &description, levels.is_some(), warnings)
        };
        let (of_x, of_y) = (place(&x.1)?, place(&y.1)?);
        let staggering = match (of_x.horizontal, of_y.horizontal) {
            (HorizontalPoint::C, HorizontalPoint::C) => Staggering::Centres,
            (HorizontalPoint::U, HorizontalPoint::V) => Staggering::Faces,
            (a, b) => {
                return Err(self.fail(name, format!("{} and {} are at {a:?} and {b:?} points: no vector", x.1, y.1)));
            }
        };
        let placement = Placement { horizontal: HorizontalPoint::C, vertical: of_x.vertical };
        let vector = Vector { x: x.0, y: y.0, staggering, orientation };
        Ok((Source::Rotated(Box::new(vector)), placement, levels))
    }

    /// Levels of an input that fits the grid; none if it is 2-D.
    fn levels(&self, name: &str, record: &Record) -> Result<Option<usize>, MakeError> {
        let (input, grid) = (&record.input, &self.resources.grid.native);
        let size = input.header().llc_size()?;
        if size != grid.n {
            return Err(self.fail(name, format!("{} is on LLC{size}, the grid is LLC{}", input.name(), grid.n)));
        }
        let wanted = self.resources.target.as_ref().map_or(grid.levels, |target| target.latlon.z.len());
        match input.header().levels() {
            Some(levels) if levels != wanted => {
                Err(self.fail(name, format!("{} has {levels} levels, the grid {wanted}", input.name())))
            }
            levels => Ok(levels),
        }
    }

    /// Opens a pair of input files; also says which model variable its name speaks of.
    fn open(&self, name: &str, pair: &[String]) -> Result<(Record, String), MakeError> {
        let file = |end: &str| {
            let found = pair.iter().find(|path| path.ends_with(end));
            found.ok_or_else(|| self.fail(name, format!("its input has no {end} file: {pair:?}")))
        };
        let (data_path, meta_path) = (file(".data")?, file(".meta")?);
        let meta = self.open_file(meta_path)?;
        let length = meta.length().map_err(|source| MakeError::Input { path: meta_path.clone(), source })?;
        let limit = crate::mds::MAX_HEADER as u64;
        let mut text = vec![0; length.min(limit + 1) as usize];
        meta.read_exact_at(&mut text, 0).map_err(|source| MakeError::Input { path: meta_path.clone(), source })?;
        let header = Header::parse(meta_path, &text)?;
        let data = self.open_file(data_path)?;
        let input: Input = MdsFile::open(data_path, header, data)?;
        let stem = base_name(data_path).split('.').next().unwrap_or_default();
        let field = split_period(stem).map_or(stem, |(variable, _)| variable);
        self.check_header(name, data_path, field, &input)?;
        let number = input.record_of(field)?;
        Ok((Record { input, number }, field.to_owned()))
    }

    fn open_file(&self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        let fail = |source| MakeError::Input { path: path.into(), source };
        let location = path.parse::<Location>()?;
        // Opening a pipe would wait for somebody to write into it.
        if !std::fs::metadata(location.local()?).map_err(fail)?.is_file() {
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let file = File::open(location.local()?).map_err(fail)?;
        let found = file.length().map_err(fail)?;
        if let Some(version) = self.plan.inputs.get(self.recipe.input_below_root(path)?)
            && version.size != found
        {
            return Err(MakeError::InputChanged { path: path.into(), found, planned: version.size });
        }
        Ok(Box::new(file))
    }

    /// Refuses an input whose own header says that it holds another variable or another time than its name does.
    fn check_header(&self, name: &str, path: &str, field: &str, input: &Input) -> Result<(), MakeError> {
        let header = input.header();
        // The model's names have at most eight characters; longer file names are cut to that in headers.
        let short = |text: &str| text.chars().take(8).collect::<String>();
        if let [found] = &header.fields[..]
            && short(found) != short(field)
        {
            let why =
                format!("{path}: its header says that it holds {found}, its name says {field}: one of them is wrong");
            return Err(self.fail(name, why));
        }
        let step = base_name(path).rsplit('.').nth(1).and_then(|digits| digits.parse::<u64>().ok());
        match (step, header.step) {
            (Some(named), Some(found)) if named != found => {
                let why = format!("{path}: its header says step {found}, its name says {named}: one of them is wrong");
                Err(self.fail(name, why))
            }
            _ => Ok(()),
        }
    }

    /// The point of a variable: from the model's list, else from the metadata.
    fn placement(
        &self,
        name: &str,
        field: &str,
        description: &Description,
        three_d: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Placement, MakeError> {
        if let Some(placement) = self.resources.grid.diagnostics.placement(field) {
            let vertical = match (placement.vertical, three_d) {
                (_, false) => None,
                (Some(point), true) => Some(point),
                (None, true) => {
                    return Err(
                        self.fail(name, format!("{field} has no levels in the diagnostics list, but its file has"))
                    );
                }
            };
            return Ok(Placement { vertical, ..placement });
        }
        let location = description.grid_location.as_deref();
        let horizontal = match location {
            Some("c" | "w") => HorizontalPoint::C,
            Some("u") => HorizontalPoint::U,
            Some("v") => HorizontalPoint::V,
            Some("z") => HorizontalPoint::Z,
            _ => {
                let why = format!(
                    "{field} is neither in {} of the grid nor has it a grid_location in the metadata: add it to one of them",
                    crate::grid::DIAGNOSTICS_FILE
                );
                return Err(self.fail(name, why));
            }
        };
        let level = if location == Some("w") { VerticalPoint::Lower } else { VerticalPoint::Center };
        warnings.push(format!(
            "{}: {name}: {field} is not in the diagnostics list, its point is taken from the metadata",
            self.recipe.granule
        ));
        Ok(Placement { horizontal, vertical: three_d.then_some(level) })
    }

    /// The mask of a native variable: the one that its metadata name, else that of its point.
    fn mask(&self, output: &Output<'_>) -> Result<Masked<'_>, MakeError> {
        let model = &self.resources.grid;
        if let Some(name) = &output.description.land_mask_override {
            let mask = model.named_mask(name).map_err(ResourceError::from)?;
            return Ok(Masked::Named(mask));
        }
        Ok(Masked::OfPoint(match output.placement.horizontal {
            HorizontalPoint::C => &model.native.mask_c,
            HorizontalPoint::U => &model.native.mask_w,
            HorizontalPoint::V => &model.native.mask_s,
            HorizontalPoint::Z => model.mask_z(),
        }))
    }

    fn route<'m>(&self, output: &Output<'_>, mask: &'m Masked<'_>) -> Result<Route<'m>, MakeError> {
        let Some(target) = &self.resources.target else {
            return Ok(Route::Native(match mask {
                Masked::Named(mask) => mask,
                Masked::OfPoint(mask) => mask,
            }));
        };
        let count = output.levels.unwrap_or(1);
        let levels = (0..count).map(|k| self.resources.level(target, k)).collect::<Result<_, _>>()?;
        let uncovered_zero = self.plan.mode == Mode::Edp2024;
        Ok(Route::Latlon { levels, shape: target.factors.shape().into(), uncovered_zero })
    }

    /// Whether a variable of a latlon granule has the depths of upper cell faces.
    fn keeps_faces(&self, output: &Output<'_>) -> bool {
        self.plan.keeps_faces()
            && self.plan.mode == Mode::Corrected
            && self.name.grid == GridKind::Latlon
            && output.placement.vertical == Some(VerticalPoint::Lower)
    }

    /// Hands out the field of a variable, ready to be read.
    pub(super) fn field<T>(
        &self,
        output: &Output<'_>,
        read: impl FnOnce(&Field<'_>) -> Result<T, FieldError>,
    ) -> Result<T, MakeError> {
        let mask = self.mask(output)?;
        let (grid, levels, route) = (&self.resources.grid.native, output.levels, self.route(output, &mask)?);
        Ok(read(&Field { name: output.name, source: &output.source, grid, levels, route })?)
    }

    /// Reads and compresses a variable, and describes it.
    fn variable(
        &self,
        output: &Output<'_>,
        coordinates: &Coordinates,
        warnings: &mut Vec<String>,
    ) -> Result<Variable, MakeError> {
        let configuration = &self.resources.texts.configuration;
        let codec = resources::codec(configuration);
        let (data_type, encoded) = match configuration.precision {
            Precision::Float32 => (Type::F32, self.field(output, |field| field.encode::<f32>(&codec, self.cancel))?),
            Precision::Float64 => (Type::F64, self.field(output, |field| field.encode::<f64>(&codec, self.cancel))?),
        };
        if encoded.uncovered > 0 {
            let (granule, name, count) = (&self.recipe.granule, output.name, encoded.uncovered);
            warnings.push(format!("{granule}: {name}: {count} wet target cells have no source in the mapping factors"));
        }
        let dimensions = self.dimensions(output);
        let mut attributes = range_attributes(self.plan.mode, data_type, &encoded);
        if let Some(valid) = ValidRange::of(self.plan, output.name).map_err(|why| self.fail(output.name, why))? {
            valid.check(encoded.range.as_ref()).map_err(|why| self.fail(output.name, why))?;
            attributes.extend(valid.attributes(data_type));
        }
        attributes.extend(output.description.attributes.iter().cloned());
        if self.plan.mode == Mode::Corrected
            && self.name.grid == GridKind::Latlon
            && output.placement.vertical == Some(VerticalPoint::Lower)
            && !self.keeps_faces(output)
        {
            note_upper_faces(&mut attributes);
        }
        if let Some(names) = coordinates::named_by(self.plan.mode, &dimensions, &coordinates.first) {
            attribute::set(&mut attributes, "coordinates", names);
        }
        let storage = Storage::Chunked(data_type, encoded.chunked);
        Ok(Variable { name: output.name.into(), dimensions, fill: Some(FILL), attributes, storage })
    }

    fn dimensions(&self, output: &Output<'_>) -> Vec<String> {
        let [y, x] = output.placement.horizontal.dims();
        let vertical = output.placement.vertical;
        let names: Vec<&str> = match self.name.grid {
            GridKind::Native => {
                ["time"].into_iter().chain(vertical.map(VerticalPoint::dim)).chain(["tile", y, x]).collect()
            }
            GridKind::Latlon => {
                let depth = if self.keeps_faces(output) { "Zl" } else { "Z" };
                ["time"].into_iter().chain(vertical.map(|_| depth)).chain(["latitude", "longitude"]).collect()
            }
        };
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The mask of a native variable.
enum Masked<'a> {
    OfPoint(&'a Mask),
    Named(Arc<Mask>),
}

/// `valid_min` and `valid_max` as EDP writes them, or CF's `actual_range`.
fn range_attributes(mode: Mode, data_type: Type, encoded: &Encoded) -> Attributes {
    use attribute::Value;
    let pair = match (&encoded.range, data_type) {
        (Some(Value::F32(range)), _) => [Value::F32(vec![range[0]]), Value::F32(vec![range[1]])],
        (Some(Value::F64(range)), _) => [Value::F64(vec![range[0]]), Value::F64(vec![range[1]])],
        (_, Type::F64) => [Value::F64(vec![f64::NAN]), Value::F64(vec![f64::NAN])],
        _ => [Value::F32(vec![f32::NAN]), Value::F32(vec![f32::NAN])],
    };
    match mode {
        Mode::Corrected => encoded.range.iter().map(|range| ("actual_range".to_owned(), range.clone())).collect(),
        Mode::Edp2024 => ["valid_min".to_owned(), "valid_max".to_owned()].into_iter().zip(pair).collect(),
    }
}

/// Says that values on cell faces are stored under the depths of cell centres.
fn note_upper_faces(attributes: &mut Attributes) {
    const NOTE: &str = "Values lie at the upper faces of the cells whose centre depths Z gives.";
    let comment = match attribute::get(attributes, "comment").and_then(attribute::Value::text) {
        Some(comment) if comment.trim_end().ends_with('.') => format!("{} {NOTE}", comment.trim_end()),
        Some(comment) => format!("{}. {NOTE}", comment.trim_end()),
        None => NOTE.to_owned(),
    };
    attribute::set(attributes, "comment", comment);
}

/// The order in which EDP writes variables: it puts `time_bnds` after the first data variable of native granules.
fn in_file_order(
    grid: GridKind,
    first: Vec<Variable>,
    data: Vec<Variable>,
    time_bounds: Variable,
    last: Vec<Variable>,
) -> Vec<Variable> {
    let mut variables = first;
    let mut data = data.into_iter();
    match grid {
        GridKind::Native => {
            variables.extend(data.next());
            variables.push(time_bounds);
            variables.extend(data);
        }
        GridKind::Latlon => {
            variables.extend(data);
            variables.push(time_bounds);
        }
    }
    variables.extend(last);
    variables
}
