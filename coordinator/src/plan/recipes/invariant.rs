//! Recipes of data that do not change with time: of a prepared NetCDF file, or of the binary field of each variable.

use super::super::Note;
use super::super::files::OtherFile;
use super::super::statics::{self, FileSearch, InputVersions};
use super::report::describe;
use super::{Context, Planner, Problem};
use edp_protocol::name::GEOMETRY;
use edp_protocol::recipe::Version;
use edp_protocol::recipe::{DynamicMetadata, FlagOrText, Plan, Recipe, RecipeError, Roots, TIME_INVARIANT};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The inputs of a granule without time.
enum InvariantFiles {
    /// A NetCDF file below a root, which is the second.
    Netcdf(OtherFile, String),
    /// The files of each output; `None` if it has none.
    Fields(Vec<Option<Vec<InputVersions>>>),
}

impl Planner<'_> {
    /// Plans a job without time. Returns true if there is any input for it.
    pub(super) fn invariant(&mut self, context: &Context<'_>) -> bool {
        let Some(inputs) = self.invariant_inputs(context) else { return false };
        match self.invariant_recipe(context, inputs) {
            Ok(recipe) => self.add(recipe, 0),
            Err(source) => self.problems.push(Problem::Recipe { place: context.place.clone(), source }),
        }
        true
    }

    /// Finds the inputs of a dataset, and reports what is missing and what is used although it has another name.
    fn invariant_inputs(&mut self, context: &Context<'_>) -> Option<InvariantFiles> {
        let request = self.request;
        let (granule, destination) = (self.maker.name(context, String::new()), request.roots.destination.as_str());
        let mut roots = vec![(&request.roots.source, request.inventory, granule.version.as_str())];
        if granule.dataset.contains(GEOMETRY) {
            // Whatever its version is, this is the grid with which all granules are made.
            roots.extend(request.grid_files.map(|files| (&request.grid_location, files, "")));
        }
        for (root, inventory, version) in roots {
            match statics::netcdf(inventory.others(), &granule, version, destination) {
                FileSearch::Nothing => {}
                FileSearch::One(file, exact) => {
                    if !exact {
                        self.tell(context, &granule.dataset, &file);
                    }
                    return Some(InvariantFiles::Netcdf(file, root.clone()));
                }
                FileSearch::Several(paths) => {
                    self.leave_out(Problem::Several { place: context.place.clone(), what: granule.dataset, paths });
                    return None;
                }
            }
        }
        let mut found: BTreeMap<&str, InputVersions> = BTreeMap::new();
        let mut missing = Vec::new();
        for source in context.dataset.sources() {
            match statics::field(request.inventory, source, destination) {
                FileSearch::Nothing => missing.push(source),
                FileSearch::One(files, exact) => {
                    if let Some(file) = files.first().filter(|_| !exact) {
                        self.tell(context, source, file);
                    }
                    found.insert(source, files);
                }
                FileSearch::Several(paths) => {
                    self.leave_out(Problem::Several { place: context.place.clone(), what: source.to_owned(), paths });
                    return None;
                }
            }
        }
        let consequence = if found.is_empty() { "nothing is made" } else { self.without_it() };
        for source in missing {
            let (variable, dataset, grid) = (describe(context.dataset, source), granule.dataset.as_str(), granule.grid);
            let root = &request.roots.source;
            let text = match dataset.contains(GEOMETRY) {
                true => format!(
                    "{variable}: there is no file {dataset}_*{grid}*.nc below {root} or in {}; `edp-worker geometry` makes it",
                    request.grid_location
                ),
                false => format!(
                    "{variable} has no file below {root}: neither {source}.data, {source}.bin or total_{}_*.bin, nor a \
                     NetCDF file {dataset}_*{grid}*.nc for the whole dataset",
                    source.to_lowercase()
                ),
            };
            self.complain(Problem::NoFile { place: context.place.clone(), text }, consequence);
        }
        if found.is_empty() {
            return None;
        }
        let of = |source: &str| found.get(source).cloned();
        let of_output =
            |output: &super::super::dataset::PlannedVariable| output.sources().into_iter().map(of).collect();
        Some(InvariantFiles::Fields(context.dataset.outputs.iter().map(of_output).collect()))
    }

    /// Reports a file that is used although its name only begins as expected.
    fn tell(&mut self, context: &Context<'_>, what: &str, file: &OtherFile) {
        self.notes.push(Note::info(format!("{}: {what} is taken from {}", context.place, file.path)));
    }

    fn invariant_recipe(&self, context: &Context<'_>, inputs: InvariantFiles) -> Result<Recipe, RecipeError> {
        let request = self.request;
        let grouping = context.dataset.grouping;
        let (mut variables, mut missing, mut fields) = (IndexMap::new(), Vec::new(), BTreeMap::new());
        let (mut netcdf, mut versions, mut roots) = (None, Vec::new(), request.roots.clone());
        match inputs {
            InvariantFiles::Netcdf(file, root) => {
                roots = Roots { source: root, ..roots };
                netcdf = Some(file.path.clone());
                versions.push(file);
            }
            InvariantFiles::Fields(all) => {
                for (output, inputs) in context.dataset.outputs.iter().zip(all) {
                    let Some(inputs) = inputs else {
                        missing.push(output.name.clone());
                        continue;
                    };
                    fields.extend(output.other_fields().map(|sources| (output.name.clone(), sources)));
                    let paths = |files: &InputVersions| files.iter().map(|file| file.path.clone()).collect();
                    variables.insert(output.name.clone(), inputs.iter().map(paths).collect());
                    versions.extend(inputs.into_iter().flatten());
                }
            }
        }
        let mut options = request.options.clone();
        if request.allow_partial && !request.mode.is_edp() && !missing.is_empty() {
            options.insert("allow_partial".into(), true.into());
        }
        let (digests, date) = (context.digests.clone(), request.production_date.clone());
        let planned = Plan::new(request.mode, String::new(), digests, roots, date);
        let dynamic_metadata = DynamicMetadata {
            time_coverage_duration: Some(TIME_INVARIANT.into()),
            time_coverage_resolution: Some(TIME_INVARIANT.into()),
            field_components: grouping.components.clone().filter(|_| context.dataset.rotates && netcdf.is_none()),
            field_orientations: grouping.orientations.clone().filter(|_| context.dataset.rotates && netcdf.is_none()),
            ..context.dynamic_metadata()
        };
        let recipe = Recipe {
            // What a prepared file says of itself gives way to the metadata, as in ECCO's own tasks.
            strip_attributes: netcdf.as_ref().map(|_| FlagOrText::Flag(true)),
            input_netcdf: netcdf,
            variables,
            dynamic_metadata,
            ..self.maker.shared_part(context, String::new(), Plan { options, fields, missing, ..planned })
        };
        let versions: Vec<(String, Version)> = versions.into_iter().map(|file| (file.path, file.version)).collect();
        self.maker.identified(recipe, versions)
    }
}
