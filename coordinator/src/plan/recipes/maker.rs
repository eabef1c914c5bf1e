//! The recipe of one granule, from what was found for it. Everything here only reads, so that several threads make
//! recipes at once.

use super::super::survey::StepInputs;
use super::{Context, Request};
use edp_protocol::calendar::{self, Period};
use edp_protocol::name::{self, GranuleName};
use edp_protocol::recipe::{DynamicMetadata, Plan, Recipe, RecipeError, TIME_INVARIANT, Version};
use edp_protocol::{Frequency, GridKind, Mode};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The inputs of a granule, and its time.
pub(super) struct TimedStep {
    pub(super) record: StepInputs,
    pub(super) period: Period,
    pub(super) units: String,
    /// True if the time is that of the header, and differs from that of the step.
    pub(super) by_header: bool,
}

/// Makes recipes.
#[derive(Clone, Copy)]
pub(super) struct RecipeMaker<'a> {
    pub(super) request: &'a Request<'a>,
}

impl RecipeMaker<'_> {
    /// Returns the name of a granule with this date.
    pub(super) fn name(&self, context: &Context<'_>, date: String) -> GranuleName {
        let frequency = context.job.frequency;
        // EDP has no time series, and what is published calls all of their snapshots so.
        let mode = if context.job.grid == GridKind::Series { Mode::Corrected } else { self.request.mode };
        GranuleName {
            dataset: context.dataset.grouping.filename.clone(),
            period: name::period(frequency, mode),
            frequency,
            date,
            project: self.request.configuration.project.clone(),
            version: self.request.configuration.ecco_version.clone(),
            grid: context.job.grid,
            label: context.label.to_owned(),
        }
    }

    /// Returns the recipe of a granule.
    pub(super) fn recipe(&self, context: &Context<'_>, step: &TimedStep) -> Result<Recipe, RecipeError> {
        let request = self.request;
        let TimedStep { record, period, units, by_header } = step;
        let grouping = context.dataset.grouping;
        let frequency = context.job.frequency;
        let date = calendar::name_date(request.mode, frequency, period);
        let duration = match frequency {
            Frequency::Day => "P1D",
            Frequency::Month => "P1M",
            Frequency::Snapshot => "PT0S",
            Frequency::TimeInvariant => TIME_INVARIANT,
        };
        let long_name = match frequency {
            Frequency::Snapshot => "snapshot time",
            _ => "center time of averaging period",
        };
        let (mut variables, mut missing, mut versions) = (IndexMap::new(), Vec::new(), Vec::new());
        let (mut fields, mut derived) = (BTreeMap::new(), BTreeMap::new());
        for (output, inputs) in context.dataset.outputs.iter().zip(&record.inputs) {
            let Some(inputs) = inputs else {
                missing.push(output.name.clone());
                continue;
            };
            if inputs.iter().any(|input| !input.own) {
                let sources = output.sources().into_iter().map(str::to_owned).collect();
                fields.insert(output.name.clone(), sources);
            }
            if let Some(derivation) = &output.derivation {
                derived.insert(output.name.clone(), derivation.clone());
            }
            let mut lists = Vec::new();
            for input in inputs {
                let mut paths = Vec::new();
                for pair in &input.pairs {
                    versions.push((pair.data.clone(), pair.data_version.clone()));
                    versions.push((pair.meta.clone(), pair.meta_version.clone()));
                    paths.extend([pair.data.clone(), pair.meta.clone()]);
                }
                lists.push(paths);
            }
            variables.insert(output.name.clone(), lists);
        }
        let mut options = request.options.clone();
        if request.allow_partial && request.mode == Mode::Corrected && !missing.is_empty() {
            options.insert("allow_partial".into(), true.into());
        }
        if *by_header {
            options.insert("dates".into(), "header".into());
        }
        let (digests, roots) = (context.digests.clone(), request.roots.clone());
        let planned = Plan::new(request.mode, units.clone(), digests, roots, request.production_date.clone());
        let dynamic_metadata = DynamicMetadata {
            time_coverage_start: Some(calendar::text(period.start)),
            time_coverage_end: Some(calendar::text(period.end)),
            time_coverage_center: Some(calendar::text(period.center)),
            time_long_name: Some(long_name.into()),
            time_coverage_duration: Some(duration.into()),
            time_coverage_resolution: Some(duration.into()),
            field_components: grouping.components.clone().filter(|_| context.dataset.rotates),
            field_orientations: grouping.orientations.clone().filter(|_| context.dataset.rotates),
            ..context.dynamic_metadata()
        };
        let plan = Plan { options, fields, derived, missing, ..planned };
        let recipe = Recipe { variables, dynamic_metadata, ..self.shared_part(context, date, plan) };
        self.identified(recipe, versions)
    }

    /// Returns the part of a recipe that all recipes of a job share, for a granule with this date in its name: without
    /// variables and metadata of its own.
    pub(super) fn shared_part(&self, context: &Context<'_>, date: String, plan: Plan) -> Recipe {
        let request = self.request;
        let name = self.name(context, date);
        Recipe {
            granule: format!("{}/{}", request.roots.destination.trim_end_matches('/'), name.path()),
            variables: IndexMap::new(),
            ecco_cfg_loc: Some(request.configuration_location.clone()),
            ecco_grid_loc: Some(request.grid_location.clone()),
            ecco_mapping_factors_loc: request.factors_location.clone(),
            ecco_metadata_loc: Some(request.metadata_location.clone()),
            dynamic_metadata: DynamicMetadata::default(),
            input_netcdf: None,
            strip_attributes: None,
            recipe: Some(plan),
        }
    }

    /// Adds the versions of the inputs, and the id, to a recipe that is otherwise complete.
    pub(super) fn identified(
        &self,
        mut recipe: Recipe,
        versions: Vec<(String, Version)>,
    ) -> Result<Recipe, RecipeError> {
        let mut inputs = BTreeMap::new();
        for (path, version) in versions {
            inputs.insert(recipe.input_below_root(&path)?.to_owned(), version);
        }
        if let Some(plan) = &mut recipe.recipe {
            plan.inputs = inputs;
        }
        let id = recipe.computed_id()?;
        if let Some(plan) = &mut recipe.recipe {
            plan.id = id;
        }
        Ok(recipe)
    }
}
