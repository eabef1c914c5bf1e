//! Smallest and largest values of a recipe's outputs, without making its granule.

use super::error::MakeError;
use super::make::Assembly;
use super::stages::Stages;
use crate::metadata::configuration::OutputPrecision;
use crate::resources::Cache;
use edp_protocol::recipe::Recipe;
use std::sync::atomic::AtomicBool;

/// What [`ranges`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// Type of the values.
    pub precision: OutputPrecision,
    /// Each output in file order, with its smallest and largest value; none if it has no valid value.
    pub outputs: Vec<(String, Option<[f64; 2]>)>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// The ranges of a recipe's outputs as its granule would hold them: masked or regridded, rotated, in the configured
/// precision, checked by the same rules. Outputs without input are left out; a valid range in the recipe is not looked at.
///
/// # Errors
/// Anything that keeps the values from being right.
pub fn ranges(recipe: &Recipe, cache: &Cache, cancel: &AtomicBool) -> Result<Ranges, MakeError> {
    recipe.check_identity()?;
    let stages = Stages::begin();
    let assembly = Assembly::new(recipe, cache, cancel, &stages)?;
    let precision = assembly.resources.texts.configuration.precision;
    let (mut outputs, mut warnings) = (Vec::new(), Vec::new());
    for (name, inputs) in &assembly.recipe.variables {
        let output = assembly.output(name, inputs, &mut warnings)?;
        output.fetch(assembly.stores, assembly.stages)?;
        let mask = assembly.mask(&output)?;
        let field = assembly.field(&output, &mask)?;
        let range = match precision {
            OutputPrecision::Float32 => field.range::<f32>(assembly.cancel)?.map(|range| range.map(f64::from)),
            OutputPrecision::Float64 => field.range::<f64>(assembly.cancel)?,
        };
        output.release();
        outputs.push((name.clone(), range));
    }
    Ok(Ranges { precision, outputs, warnings })
}
