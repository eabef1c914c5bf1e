//! Ranges of whole collections. They are computed in one pass over the inputs of a plan, by the code that makes
//! granules, but no granule is made.

pub mod table;

use self::table::{Collection, RangeBasis, RangeTable, VariableRange, type_name};
use crate::pass;
use edp_engine::granule::make::MakeContext;
use edp_engine::granule::ranges::{Ranges, ranges};
use edp_engine::resources::MEMORY;
use edp_protocol::digest::Digest;
use edp_protocol::message::chain;
use edp_protocol::recipe::{Plan, Recipe};
use edp_store::Stores;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The result of a pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RangesPass {
    /// The ranges over all granules whose values could be computed.
    pub table: RangeTable,
    /// The granules whose values could not be computed, with reasons.
    pub failures: Vec<(String, String)>,
    /// Warnings about the pass.
    pub warnings: Vec<String>,
}

/// Computes the ranges of all recipes, `slots` of them at once. `progress` is called, from any thread, after each.
pub fn compute(recipes: &[Recipe], slots: usize, stores: &Stores, progress: impl Fn() + Sync) -> RangesPass {
    let all: Vec<&Recipe> = recipes.iter().collect();
    let of_recipe = |recipe: &Recipe, context: MakeContext<'_>| ranges(recipe, context).map_err(|error| chain(&error));
    let found = pass::over(&all, (slots, MEMORY), stores, of_recipe, progress);
    let mut pass = RangesPass::default();
    let mut gathered: IndexMap<(String, &str, &str), CollectionRanges> = IndexMap::new();
    for (recipe, result) in recipes.iter().zip(found) {
        let named = recipe.name().map_err(|error| error.to_string());
        let result = named.and_then(|name| Ok((name, result?)));
        match (result, &recipe.recipe) {
            (Ok((name, ranges)), Some(plan)) => {
                pass.warnings.extend(ranges.warnings.iter().cloned());
                let key = (name.dataset, name.grid.as_str(), name.frequency.job_word());
                let fresh = || CollectionRanges::new(name.grid, plan, &ranges);
                gathered.entry(key).or_insert_with(fresh).add(recipe, plan, &ranges);
            }
            (Err(reason), _) => pass.failures.push((recipe.granule.clone(), reason)),
            (Ok(_), None) => pass.failures.push((recipe.granule.clone(), "it has not been planned".into())),
        }
    }
    pass.table.collections = gathered
        .into_iter()
        .map(|((dataset, _, frequency), gathered)| gathered.into_collection(dataset, frequency))
        .collect();
    pass
}

/// A collection to which granules are being added.
struct CollectionRanges {
    grid: edp_protocol::GridKind,
    over: RangeBasis,
    inputs: BTreeMap<String, u64>,
    variables: IndexMap<String, VariableRange>,
}

impl CollectionRanges {
    fn new(grid: edp_protocol::GridKind, plan: &Plan, ranges: &Ranges) -> CollectionRanges {
        let over = RangeBasis {
            data_type: type_name(ranges.precision).into(),
            granules: 0,
            time_coverage_start: None,
            time_coverage_end: None,
            files: 0,
            inputs: Digest::of(b""),
            digests: plan.digests.clone(),
        };
        CollectionRanges { grid, over, inputs: BTreeMap::new(), variables: IndexMap::new() }
    }

    fn add(&mut self, recipe: &Recipe, plan: &Plan, ranges: &Ranges) {
        let CollectionRanges { over, inputs, variables, .. } = self;
        let dynamic = &recipe.dynamic_metadata;
        over.granules += 1;
        // The times all have the same form, so that their texts sort like the times.
        let (start, end) = (&mut over.time_coverage_start, &mut over.time_coverage_end);
        *start = start.take().into_iter().chain(dynamic.time_coverage_start.clone()).min();
        *end = end.take().max(dynamic.time_coverage_end.clone());
        inputs.extend(plan.inputs.iter().map(|(path, version)| (path.clone(), version.size)));
        inputs.extend(recipe.means().map(|(_, mean)| (mean.path.clone(), mean.count())));
        for (output, range) in &ranges.outputs {
            let whole = variables.entry(output.clone()).or_insert(VariableRange { min: None, max: None, granules: 0 });
            whole.granules += 1;
            if let Some([min, max]) = *range {
                whole.min = Some(whole.min.map_or(min, |other| other.min(min)));
                whole.max = Some(whole.max.map_or(max, |other| other.max(max)));
            }
        }
    }

    fn into_collection(self, dataset: String, frequency: &str) -> Collection {
        let CollectionRanges { grid, mut over, inputs, variables } = self;
        let lines: String = inputs.iter().map(|(path, size)| format!("{path}\t{size}\n")).collect();
        over.files = inputs.len();
        over.inputs = Digest::of(lines.as_bytes());
        Collection { dataset, grid, frequency: frequency.into(), over: Some(over), variables }
    }
}
