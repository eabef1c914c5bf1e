//! Smallest and largest values of a recipe's outputs, computed without making its granule.

use super::assembly::{Assembly, MakeContext};
use super::error::MakeError;
use crate::metadata::configuration::OutputPrecision;
use edp_protocol::GridKind;
use edp_protocol::recipe::Recipe;

/// The result of [`ranges`].
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    /// Type of the values.
    pub precision: OutputPrecision,
    /// Each output in file order, with its smallest and largest value; `None` if it has no valid value.
    pub outputs: Vec<(String, Option<[f64; 2]>)>,
    /// Warnings about the inputs.
    pub warnings: Vec<String>,
}

/// Computes the ranges of a recipe's outputs as its granule would have them: masked or regridded, rotated, in the
/// configured precision, checked by the same rules. Outputs without input are left out. A valid range in the recipe is
/// ignored.
///
/// # Errors
/// Returns an error for anything that keeps the values from being right.
pub fn ranges(recipe: &Recipe, context: MakeContext<'_>) -> Result<Ranges, MakeError> {
    recipe.check_identity()?;
    let assembly = Assembly::new(recipe, context)?;
    if assembly.name.grid == GridKind::Series {
        return Err(assembly.fail("-", "a time series has all times, so that its own range is that of the collection"));
    }
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
