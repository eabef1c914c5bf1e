//! The ways in which a variable of a granule is made from variables of the model.

use super::{Components, Recipe, Rule};
use std::str::FromStr;

/// The component of a rotated vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// The eastward component of the vector.
    Zonal,
    /// The northward component of the vector.
    Meridional,
}

impl FromStr for Orientation {
    type Err = KindError;

    /// Parses a word of `field_orientations`.
    fn from_str(word: &str) -> Result<Orientation, KindError> {
        match word {
            "zonal" => Ok(Orientation::Zonal),
            "meridional" => Ok(Orientation::Meridional),
            _ => Err(KindError::Orientation(word.to_owned())),
        }
    }
}

/// The way in which a variable is made. A new kind gets a variant here, a maker in the engine (`granule/kinds`), and a
/// key in groupings.
///
/// EDP's keys of a recipe state which of the first two kinds a variable is (see [`Recipe::kind`]). So recipes need no
/// key of ours for them, and keep the ids that they have always had. A derived variable, which EDP's keys cannot
/// express, has its rule in [`Plan::derived`](super::Plan::derived), which other recipes do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableKind {
    /// One model variable as it is.
    Direct,
    /// A component of a vector at cell centres, from the two components of the model.
    Rotated {
        /// Model variables that are the components.
        components: Components,
        /// Component of the result.
        orientation: Orientation,
    },
    /// A variable that is computed from variables of the model by a rule.
    Derived(Rule),
}

/// The reason why the kind of a variable is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// No kind has this number of inputs.
    #[error("{0} inputs: one, or two for a rotated vector")]
    InputCount(usize),
    /// The number of inputs is not that of the variables in the rule.
    #[error("{0} inputs, but {1} variables in its rule")]
    RuleInputs(usize, usize),
    /// The variable has two inputs, but no components and orientation.
    #[error("two inputs, but no entry in field_components and field_orientations")]
    NoComponents,
    /// The word for the direction is unknown.
    #[error("field_orientations: '{0}' is neither zonal nor meridional")]
    Orientation(String),
}

impl VariableKind {
    /// Returns the model variables of which it is made, in the order of the inputs of a recipe. `field` is the name that the
    /// variable has in its grouping.
    pub fn sources<'a>(&'a self, field: &'a str) -> Vec<&'a str> {
        match self {
            VariableKind::Direct => vec![field],
            VariableKind::Rotated { components, .. } => vec![&components.x, &components.y],
            VariableKind::Derived(rule) => rule.sources(),
        }
    }
}

impl Recipe {
    /// Returns the kind of a variable of this recipe: derived if it has a rule, else by EDP's keys, where a variable with
    /// two inputs is rotated.
    ///
    /// # Errors
    /// Returns an error if the keys do not say it, or contradict each other.
    pub fn kind(&self, variable: &str) -> Result<VariableKind, KindError> {
        let inputs = self.variables.get(variable).map_or(0, Vec::len);
        if let Some(derivation) = self.recipe.as_ref().and_then(|plan| plan.derived.get(variable)) {
            let wanted = derivation.rule.sources().len();
            return match inputs == wanted {
                true => Ok(VariableKind::Derived(derivation.rule.clone())),
                false => Err(KindError::RuleInputs(inputs, wanted)),
            };
        }
        match inputs {
            1 => Ok(VariableKind::Direct),
            2 => {
                let dynamic = &self.dynamic_metadata;
                let components = dynamic.field_components.as_ref().and_then(|of| of.get(variable));
                let orientation = dynamic.field_orientations.as_ref().and_then(|of| of.get(variable));
                let (Some(components), Some(orientation)) = (components, orientation) else {
                    return Err(KindError::NoComponents);
                };
                Ok(VariableKind::Rotated { components: components.clone(), orientation: orientation.parse()? })
            }
            count => Err(KindError::InputCount(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orientations_have_two_names() {
        assert_eq!("zonal".parse(), Ok(Orientation::Zonal));
        assert_eq!("meridional".parse(), Ok(Orientation::Meridional));
        let error = "upward".parse::<Orientation>().unwrap_err().to_string();
        assert!(error.contains("'upward' is neither zonal nor meridional"), "{error}");
    }
}
