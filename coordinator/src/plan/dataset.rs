//! The dataset of one job: its outputs, and the model variables of which they are made.

use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::groupings::Grouping;
use edp_protocol::recipe::{Derivation, KindError, Rule, VariableKind};
use edp_protocol::{Frequency, GridKind};

/// The reason why a grouping does not describe a dataset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatasetError {
    /// The grouping has no variables.
    #[error("the grouping '{grouping}' has no fields")]
    NoFields {
        /// Name of the grouping.
        grouping: String,
    },
    /// The filename cannot be the first part of granule names.
    #[error("the grouping '{grouping}' has the filename '{filename}'; it must be a name without '/'")]
    Filename {
        /// Name of the grouping.
        grouping: String,
        /// The filename of the grouping.
        filename: String,
    },
    /// A variable that is to be renamed does not exist, or its new name exists already.
    #[error("the grouping '{grouping}' renames {from} to {to}, but {why}; check variable_rename and fields")]
    Rename {
        /// Name of the grouping.
        grouping: String,
        /// Old name of the variable.
        from: String,
        /// New name of the variable.
        to: String,
        /// Description of the problem.
        why: &'static str,
    },
    /// The grouping does not state how an output is made; a vector may have no direction, for example.
    #[error("the grouping '{grouping}' does not say how {output} is made: {source}")]
    Kind {
        /// Name of the grouping.
        grouping: String,
        /// Name of the output.
        output: String,
        /// The reason why the kind of the variable is not known.
        source: KindError,
    },
}

/// One variable of a granule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedVariable {
    /// Name of the variable in the granule.
    pub(super) name: String,
    /// Name of the variable in the grouping.
    field: String,
    /// The way in which it is made.
    kind: VariableKind,
    /// What the recipe says about it if it is derived.
    pub(super) derivation: Option<Derivation>,
}

impl PlannedVariable {
    /// Returns the model variables of which it is made, in the order of its inputs.
    pub(super) fn sources(&self) -> Vec<&str> {
        self.kind.sources(&self.field)
    }

    /// Returns the names of its model variables for a recipe, if they are not just its own name.
    pub(super) fn other_fields(&self) -> Option<Vec<String>> {
        let sources = self.sources();
        (sources != [self.name.as_str()]).then(|| sources.into_iter().map(str::to_owned).collect())
    }
}

/// A variable with a rule, which counts if the model does not write the variable.
pub(super) struct DerivableVariable {
    /// Position among the outputs of the dataset.
    pub(super) at: usize,
    /// Name of the variable in the grouping.
    pub(super) field: String,
    pub(super) rule: Rule,
}

/// The outputs of a grouping on a grid.
#[derive(Debug)]
pub(super) struct Dataset<'a> {
    /// The grouping in the metadata.
    pub(super) grouping: &'a Grouping,
    /// True if vectors are rotated to east and north.
    pub(super) rotates: bool,
    /// Variables of the granule in file order, with a renamed one last.
    pub(super) outputs: Vec<PlannedVariable>,
}

impl<'a> Dataset<'a> {
    pub(super) fn new(grouping: &'a Grouping, grid: GridKind) -> Result<Dataset<'a>, DatasetError> {
        let name = || grouping.name.clone();
        if grouping.fields.is_empty() {
            return Err(DatasetError::NoFields { grouping: name() });
        }
        if grouping.filename.is_empty() || grouping.filename.contains('/') {
            return Err(DatasetError::Filename { grouping: name(), filename: grouping.filename.clone() });
        }
        let mut outputs: Vec<PlannedVariable> = Vec::new();
        for field in &grouping.fields {
            if outputs.iter().any(|output| output.name == *field) {
                continue;
            }
            let fail = |source| DatasetError::Kind { grouping: name(), output: field.clone(), source };
            let kind = grouping.kind(field, grid).map_err(fail)?;
            outputs.push(PlannedVariable { name: field.clone(), field: field.clone(), kind, derivation: None });
        }
        if let Some((from, to)) = &grouping.rename {
            let fail = |why| DatasetError::Rename { grouping: name(), from: from.clone(), to: to.clone(), why };
            let at = outputs.iter().position(|output| output.name == *from);
            let mut renamed = outputs.remove(at.ok_or_else(|| fail("the old name is not a field"))?);
            if outputs.iter().any(|output| output.name == *to) {
                return Err(fail("the new name is a field already"));
            }
            renamed.name.clone_from(to);
            outputs.push(renamed);
        }
        Ok(Dataset { grouping, rotates: grouping.rotates(grid), outputs })
    }

    /// Returns all model variables, each once.
    pub(super) fn sources(&self) -> Vec<&str> {
        let mut sources: Vec<&str> = Vec::new();
        for source in self.outputs.iter().flat_map(PlannedVariable::sources) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    /// Returns the variables that could be derived from others.
    pub(super) fn derivable(&self) -> Vec<DerivableVariable> {
        let outputs = self.outputs.iter().enumerate().filter(|(_, output)| output.kind == VariableKind::Direct);
        let rules = outputs.filter_map(|(at, output)| {
            let rule = self.grouping.rule(&output.field)?;
            Some(DerivableVariable { at, field: output.field.clone(), rule })
        });
        rules.collect()
    }

    /// Has an output derived from other variables.
    pub(super) fn derive(&mut self, at: usize, derivation: Derivation) {
        if let Some(output) = self.outputs.get_mut(at) {
            output.kind = VariableKind::Derived(derivation.rule.clone());
            output.derivation = Some(derivation);
        }
    }

    /// Returns all model variables whose files may be needed, each once: also those of which others could be derived.
    pub(super) fn possible_sources(&self) -> Vec<String> {
        let mut sources: Vec<String> = self.sources().into_iter().map(str::to_owned).collect();
        for derivable in self.derivable() {
            for source in derivable.rule.sources() {
                if !sources.iter().any(|known| known == source) {
                    sources.push(source.to_owned());
                }
            }
        }
        sources
    }

    /// Returns the first half of the `summary` attribute, with single blanks for any white space.
    pub(super) fn summary(&self, configuration: &Configuration, grid: GridKind, frequency: Frequency) -> String {
        let kind = match frequency {
            Frequency::Day => "daily-averaged",
            Frequency::Month => "monthly-averaged",
            Frequency::Snapshot => "instantaneous",
            Frequency::TimeInvariant => "time-invariant",
        };
        let tail = configuration.description_tails.get(&grid).map_or("", String::as_str);
        let text = format!("This dataset contains {kind} {} {tail}", self.grouping.name);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::fixture;
    use super::*;

    fn names(dataset: &Dataset<'_>) -> Vec<String> {
        dataset.outputs.iter().map(|output| format!("{}={}", output.name, output.sources().join("+"))).collect()
    }

    #[test]
    fn vectors_are_rotated_on_latlon_only_and_the_renamed_variable_is_last() {
        let mut velocity = fixture::velocity();
        velocity.fields = ["WVELMASS", "EVEL", "NVEL", "EVEL"].map(String::from).into();
        let dataset = Dataset::new(&velocity, GridKind::Latlon).unwrap();
        assert_eq!(names(&dataset), ["EVEL=UVEL+VVEL", "NVEL=UVEL+VVEL", "WVEL=WVELMASS"]);
        assert!(dataset.rotates);
        assert_eq!(dataset.sources(), ["UVEL", "VVEL", "WVELMASS"]);
        let dataset = Dataset::new(&velocity, GridKind::Native).unwrap();
        assert_eq!(names(&dataset), ["EVEL=EVEL", "NVEL=NVEL", "WVEL=WVELMASS"]);
        assert!(!dataset.rotates);
    }

    #[test]
    fn what_describes_no_dataset_says_why() {
        type Change = fn(&mut Grouping);
        let changes: [(Change, &str); 7] = [
            (|g| g.fields.clear(), "no fields"),
            (|g| g.filename.clear(), "filename"),
            (|g| g.filename = "../x".into(), "without '/'"),
            (|g| g.rename = Some(("NONE".into(), "X".into())), "the old name is not a field"),
            (|g| g.rename = Some(("WVELMASS".into(), "EVEL".into())), "the new name is a field"),
            (|g| g.orientations = None, "EVEL"),
            (|g| g.orientations.as_mut().unwrap()["NVEL"] = "up".into(), "NVEL"),
        ];
        for (change, why) in changes {
            let mut velocity = fixture::velocity();
            change(&mut velocity);
            let error = Dataset::new(&velocity, GridKind::Latlon).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn white_space_of_a_summary_is_single() {
        let mut height = fixture::height();
        height.name = " sea  surface\nheight".into();
        let mut configuration = fixture::configuration();
        let dataset = Dataset::new(&height, GridKind::Latlon).unwrap();
        let summary = |c: &Configuration, frequency| dataset.summary(c, GridKind::Latlon, frequency);
        let want = "This dataset contains daily-averaged sea surface height interpolated to a grid.";
        assert_eq!(summary(&configuration, Frequency::Day), want);
        configuration.description_tails.clear();
        let want = "This dataset contains instantaneous sea surface height";
        assert_eq!(summary(&configuration, Frequency::Snapshot), want);
    }
}
