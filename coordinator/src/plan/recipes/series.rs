//! Recipes of time series: one granule for all times, of the NetCDF file that holds them.

use super::super::Note;
use super::super::files::OtherFile;
use super::super::statics::{self, FileSearch};
use super::{Context, Planner, Problem};
use edp_protocol::recipe::{DynamicMetadata, Plan, Recipe, RecipeError};
use edp_protocol::{Frequency, name::base_name};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The files that ECCO has of its series, by dataset and frequency.
const FILES: [(&str, Frequency, &str); 4] = [
    ("GLOBAL_MEAN_ATM_SURFACE_PRES", Frequency::Snapshot, "Pa_global.nc"),
    ("GLOBAL_MEAN_SEA_LEVEL", Frequency::Day, "GMSL_day.nc"),
    ("GLOBAL_MEAN_SEA_LEVEL", Frequency::Month, "GMSL.nc"),
    ("SBO_CORE_PRODUCTS", Frequency::Snapshot, "SBO_global.nc"),
];

impl Planner<'_> {
    /// Plans a time series. Returns true if there is any input for it.
    pub(super) fn series(&mut self, context: &Context<'_>) -> bool {
        let granule = self.maker.name(context, String::new());
        let (dataset, frequency) = (granule.dataset.as_str(), granule.frequency);
        let of_ecco = FILES.into_iter().find(|(of, at, _)| *of == dataset && *at == frequency).map(|(.., file)| file);
        let own = [granule.to_string(), format!("{dataset}_{}.nc", granule.period)];
        let names: Vec<&str> = own.iter().map(String::as_str).chain(of_ecco).collect();
        let (others, destination) = (self.request.inventory.others(), self.request.roots.destination.as_str());
        let found = names.iter().map(|name| statics::named(others, name, destination));
        let file = match found.into_iter().find(|found| *found != FileSearch::Nothing) {
            Some(FileSearch::One(file, _)) => file,
            Some(FileSearch::Several(paths)) => {
                self.leave_out(Problem::Several { place: context.place.clone(), what: dataset.to_owned(), paths });
                return true;
            }
            Some(FileSearch::Nothing) | None => {
                let root = &self.request.roots.source;
                let text = format!("there is no file {} below {root}", names.join(" or "));
                let place = context.place.clone();
                match context.job.line {
                    // Groupings do not say, or not rightly, at which frequencies a series exists.
                    0 if !self.request.strict => {
                        self.notes.push(Note::info(format!("{place}: {text}; nothing is made")))
                    }
                    _ => self.complain(Problem::NoFile { place, text }, "nothing is made"),
                }
                return false;
            }
        };
        if base_name(&file.path) != own[0] {
            self.notes.push(Note::info(format!("{}: {dataset} is taken from {}", context.place, file.path)));
        }
        match self.series_recipe(context, file) {
            Ok(recipe) => self.add(recipe, 0),
            Err(source) => self.problems.push(Problem::Recipe { place: context.place.clone(), source }),
        }
        true
    }

    fn series_recipe(&self, context: &Context<'_>, file: OtherFile) -> Result<Recipe, RecipeError> {
        let request = self.request;
        let (grouping, frequency) = (context.dataset.grouping, context.job.frequency);
        let (duration, long_name) = match frequency {
            Frequency::Day => ("P1D", "center time of averaging period"),
            Frequency::Month => ("P1M", "center time of averaging period"),
            Frequency::Snapshot | Frequency::TimeInvariant => ("P0S", "snapshot time"),
        };
        let (mut variables, mut fields) = (IndexMap::new(), BTreeMap::new());
        for output in &context.dataset.outputs {
            fields.extend(output.other_fields().map(|sources| (output.name.clone(), sources)));
            variables.insert(output.name.clone(), vec![vec![file.path.clone()]]);
        }
        let mut options = request.options.clone();
        let rules: serde_json::Map<String, Value> = variables
            .keys()
            .filter_map(|variable| Some((variable.clone(), rule(&grouping.filename, frequency, variable)?)))
            .collect();
        if !rules.is_empty() {
            options.insert("series".into(), Value::Object(rules));
        }
        let (digests, roots, date) = (context.digests.clone(), request.roots.clone(), request.production_date.clone());
        let planned = Plan::new(request.mode, context.time_units.clone(), digests, roots, date);
        let dynamic_metadata = DynamicMetadata {
            time_long_name: Some(long_name.into()),
            time_coverage_duration: Some(duration.into()),
            time_coverage_resolution: Some(duration.into()),
            ..context.dynamic_metadata()
        };
        let plan = Plan { options, fields, ..planned };
        let recipe = Recipe { variables, dynamic_metadata, ..self.maker.shared_part(context, String::new(), plan) };
        self.maker.identified(recipe, vec![(file.path, file.version)])
    }
}

/// Returns the change by which ECCO has made its published series of its files: the first values, which the model writes
/// before its first step, are missing, and sea level is given as anomaly.
fn rule(dataset: &str, frequency: Frequency, variable: &str) -> Option<Value> {
    let spun_up = ["mass", "amp", "com"].iter().any(|part| variable.contains(part));
    match (dataset, frequency) {
        ("GLOBAL_MEAN_ATM_SURFACE_PRES", Frequency::Snapshot) => Some(json!({"unset_first": 2})),
        ("GLOBAL_MEAN_SEA_LEVEL", Frequency::Day) => Some(json!({"unset_first": 1, "remove_mean": true})),
        ("GLOBAL_MEAN_SEA_LEVEL", Frequency::Month) => Some(json!({"remove_mean": true})),
        ("SBO_CORE_PRODUCTS", Frequency::Snapshot) if spun_up => Some(json!({"unset_first": 1})),
        _ => None,
    }
}
